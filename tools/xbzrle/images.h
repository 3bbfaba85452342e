/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* The directory that a transfer is received into. */
#ifndef _XBZRLE_TOOL_IMAGES_H
#define _XBZRLE_TOOL_IMAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>
#include <xbzrle.h>

#include "digest.h"
#include "frame.h"

enum images_state {
	IMAGES_ANNOUNCED,	/* REGION came, no setup section has it yet */
	IMAGES_PRESENT,
	IMAGES_DROPPED,
};

/* A region as the receiver knows it. */
struct images_region {
	enum images_state state;
	uint32_t number;	/* in the stream */
	uint64_t address;
	uint64_t length;
	uint32_t pid;
	uint64_t rounds;
	int fd;
	bool digest_known;
	uint8_t digest[DIGEST_SIZE];
	char name[XBZRLE_NAME_MAX + 1];
	char file[XBZRLE_NAME_MAX + 1];
};

/**
 * struct images - the directory and its regions
 * @dir: directory
 * @list: file with the names of those that were made, or -1
 * @taken: no more is in it than that
 * @regions: in order of announcement
 * @count: how many
 */
struct images {
	int dir;
	int list;
	bool taken;
	struct images_region *regions;
	size_t count;
};

int images_open(struct images *images, const char *path,
		struct xbzrle_error *err);
void images_close(struct images *images);
int images_announce(struct images *images, const struct frame_region *region,
		    struct xbzrle_error *err);
struct images_region *images_find(struct images *images, const char *name);
int images_create(struct images *images, const struct xbzrle_record *block,
		  struct images_region **region, struct xbzrle_error *err);
void images_drop(struct images *images, struct images_region *region);
int images_verify(struct images *images, struct xbzrle_error *err);
json_t *images_manifest(const struct images *images, uint64_t rounds);
int images_write_manifest(struct images *images, const json_t *manifest,
			  struct xbzrle_error *err);

#endif /* _XBZRLE_TOOL_IMAGES_H */

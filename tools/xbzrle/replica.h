/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* What a stream makes of its regions, kept up to date as the stream goes by. */
#ifndef _XBZRLE_TOOL_REPLICA_H
#define _XBZRLE_TOOL_REPLICA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xbzrle.h>

#include "digest.h"
#include "frame.h"
#include "images.h"

enum replica_state {
	REPLICA_ANNOUNCED,	/* no setup section has it yet */
	REPLICA_PRESENT,
	REPLICA_DROPPED,
};

/**
 * struct replica_region - a region
 * @state: enum replica_state
 * @announced: a REGION frame told of it, or was written for it
 * @gone: the session it comes from has it no more, and no setup section said so
 * @digested: a DIGEST frame was for it
 * @number: in the stream
 * @pid: its process, 0 if that is not known
 * @address: there
 * @length: bytes
 * @memory: content, unless there are images
 * @filled: bit per page of it that is not zero
 * @received: bit per page that a record was for
 * @sum: of @memory
 * @name: name
 */
struct replica_region {
	enum replica_state state;
	bool announced;
	bool gone;
	bool digested;
	uint32_t number;
	uint32_t pid;
	uint64_t address;
	uint64_t length;
	uint8_t *memory;
	uint8_t *filled;
	uint8_t *received;
	struct digest_sum sum;
	char name[XBZRLE_NAME_MAX + 1];
};

/**
 * struct replica - regions as of the last record taken
 * @wire: parser
 * @image: what applies the records
 * @images: files to keep the regions in, or NULL for memory
 * @unannounced: regions come without being announced, as those of a session that
 *	others keep
 * @regions: also those that have ended
 * @count: how many
 * @recent: the region that the last page was of
 * @rounds: rounds taken
 * @part_rounds: of them, before the part of the stream that is being taken
 * @part_start: where that part begins in the stream
 */
struct replica {
	struct xbzrle_wire *wire;
	struct xbzrle_image *image;
	struct images *images;
	bool unannounced;
	struct replica_region *regions;
	size_t count;
	size_t recent;
	uint64_t rounds;
	uint64_t part_rounds;
	uint64_t part_start;
};

int replica_open(struct replica *replica, struct images *images,
		 uint64_t memory, struct xbzrle_error *err);
void replica_close(struct replica *replica);
struct replica_region *replica_find(const struct replica *replica,
				    const char *name);
int replica_announce(struct replica *replica,
		     const struct frame_region *region,
		     struct xbzrle_error *err);
void replica_drop(struct replica *replica, struct replica_region *region);
int replica_take(struct replica *replica, const void *data, size_t length,
		 struct xbzrle_error *err);
void replica_begin_part(struct replica *replica);
struct frame_round replica_round(const struct replica *replica);
int replica_check_round(const struct replica *replica,
			const struct frame_round *round,
			struct xbzrle_error *err);
int replica_digest(const struct replica *replica,
		   const struct replica_region *region, uint8_t *digest,
		   struct xbzrle_error *err);
int replica_sum(const struct replica *replica,
		const struct replica_region *region, struct digest_sum *sum,
		struct xbzrle_error *err);
size_t replica_present(const struct replica *replica);

#endif /* _XBZRLE_TOOL_REPLICA_H */

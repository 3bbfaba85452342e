/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * What docs/snapshots.md says of a chain: which rounds of it are good, and what
 * they have. Shares no code with the tool.
 */
#ifndef _FUZZ_ROUNDS_H
#define _FUZZ_ROUNDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "model.h"

#define ROUNDS_FILES	8
#define ROUNDS_LINES	16

struct part {
	const uint8_t *bytes;
	size_t length;
};

struct round_name {
	char text[48];
};

/**
 * struct archive - a chain
 * @manifest: its lines
 * @files: of rounds
 * @names: of these files; of two that have the same the second is not there
 * @count: how many
 */
struct archive {
	struct part manifest;
	struct part files[ROUNDS_FILES];
	struct round_name names[ROUNDS_FILES];
	unsigned int count;
};

/**
 * struct round - a line that can be used
 * @number: of the round
 * @base: the round that it builds upon, or 0
 * @applies: so does all that it builds upon, and is what the manifest says but
 *	for the sums
 * @restorable: it applies and has its sums
 * @good: so is all that it builds upon
 */
struct round {
	json_int_t number;
	json_int_t base;
	bool applies;
	bool restorable;
	bool good;
};

/**
 * struct announced - a region that a REGION frame told of
 * @name: name
 * @address: as told
 * @length: as told
 * @pid: as told
 * @came: a setup section has it
 * @region: its content then
 * @dropped: it has ended
 * @setup: the last setup section before that had it
 * @digested: a DIGEST frame was for it
 */
struct announced {
	char name[256];
	uint64_t address;
	uint64_t length;
	uint32_t pid;
	bool came;
	struct model_region *region;
	bool dropped;
	unsigned int setup;
	bool digested;
};

/**
 * struct rounds - what becomes of a chain
 * @list: its rounds
 * @count: how many
 * @damaged: there is a line that cannot be used, or one is missing
 * @cut: there is one without its end
 * @too_large: it has more than is followed here
 * @model: the stream up to the last round that was looked at
 * @announced: regions of that
 * @announced_count: how many
 */
struct rounds {
	struct round list[ROUNDS_LINES];
	unsigned int count;
	bool damaged;
	bool cut;
	bool too_large;
	struct model model;
	struct announced announced[MODEL_REGIONS];
	unsigned int announced_count;
};

void rounds_split(struct archive *archive, const uint8_t *data, size_t size);
bool rounds_has(const struct archive *archive, unsigned int file);
struct round_name rounds_name(const struct round *round);
bool rounds_next_line(struct part *manifest, struct part *line);
void rounds_judge(struct rounds *rounds, const struct archive *archive,
		  unsigned int most);
void rounds_free(struct rounds *rounds);
json_t *rounds_sum(const struct model_region *region);
char *rounds_seal(json_t *entry, char check[33]);

#endif /* _FUZZ_ROUNDS_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * What docs/stream.md says that a stream makes of its regions, and where it
 * breaks the grammar. Shares no code with the library.
 */
#ifndef _FUZZ_MODEL_H
#define _FUZZ_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_UNIT	4096
/* A stream with more is not followed any further. */
#define MODEL_REGIONS	16
#define MODEL_PAGES	32

enum model_verdict {
	MODEL_GOES_ON,
	MODEL_MALFORMED,	/* the item is none of the grammar */
	MODEL_BAD_DELTA,	/* but for the delta in it */
	MODEL_NO_BASE,		/* a delta for a page that never came */
	MODEL_NO_PLACE,		/* its region was dropped */
	MODEL_REFUSED,		/* a region that is not to be admitted */
	MODEL_TOO_LARGE,	/* for the model, and right otherwise */
};

/**
 * struct model_region - a region
 * @name: name
 * @length: bytes
 * @present: the last setup section has it
 * @dropped: there was a setup section since that lacks it, or it was said so
 * @setup: the last setup section that has it
 * @received: pages that a record was for
 * @memory: content
 */
struct model_region {
	char name[256];
	uint64_t length;
	bool present;
	bool dropped;
	unsigned int setup;
	bool received[MODEL_PAGES];
	uint8_t memory[MODEL_PAGES][MODEL_UNIT];
};

/**
 * struct model - what came so far
 * @verdict: enum model_verdict
 * @error_at: byte of the stream that is wrong, if one is
 * @rounds: complete ones
 * @regions: in order of first appearance
 * @count: how many
 * @bytes: the stream
 * @length: bytes of it
 * @item: where the item that is not complete begins
 * @admit: may this region come?
 * @admitting: for @admit
 *
 * The others are its own.
 */
struct model {
	enum model_verdict verdict;
	uint64_t error_at;
	unsigned int rounds;
	struct model_region *regions[MODEL_REGIONS];
	unsigned int count;
	uint8_t *bytes;
	size_t length;
	size_t item;
	bool (*admit)(void *admitting, const struct model_region *region);
	void *admitting;
	enum { MODEL_START, MODEL_BLOCKS, MODEL_BETWEEN, MODEL_ROUND } state;
	unsigned int setups;
	uint64_t setup_left;
	struct model_region *current;
	struct model_undo *undo;
};

void model_free(struct model *model);
void model_feed(struct model *model, const uint8_t *bytes, size_t length);
bool model_may_end(const struct model *model);
struct model_region *model_find(struct model *model, const char *name);
void model_break_off(struct model *model);

#endif /* _FUZZ_MODEL_H */

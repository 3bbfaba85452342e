/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * A receiver written from the stream's grammar alone. It shares no code with
 * the project, so what it holds after a round is what any receiver must hold.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_UNIT	4096

/**
 * struct model_region - what the receiver holds of one region
 * @name: idstr, @name_len bytes
 * @name_len: bytes in @name
 * @length: bytes in @mem
 * @mem: content, zero until something arrives
 * @round_of: the round that last brought each unit, 0 for never
 */
struct model_region {
	unsigned char name[255];
	uint8_t name_len;
	uint64_t length;
	unsigned char *mem;
	uint32_t *round_of;
};

/**
 * struct model_counts - what the stream carried
 * @zero: ZERO records
 * @page: PAGE records
 * @xbzrle: XBZRLE records
 * @xbzrle_bytes: bytes of XBZRLE records, headers included
 * @continued: records that named no region
 * @bytes: all bytes, setup and EOS included
 */
struct model_counts {
	uint64_t zero;
	uint64_t page;
	uint64_t xbzrle;
	uint64_t xbzrle_bytes;
	uint64_t continued;
	uint64_t bytes;
};

enum model_state {
	MODEL_BETWEEN,
	MODEL_SETUP,
	MODEL_ROUND_FIRST,
	MODEL_ROUND,
};

/**
 * struct model - a receiver
 * @regions: as the setup sections named them
 * @nr_regions: entries in @regions
 * @pending: bytes of an item that has not arrived whole
 * @nr_pending: bytes in @pending
 * @state: what may come next
 * @current: region of the record before, for CONTINUE
 * @setup_left: bytes the setup section has still to account for
 * @setups: setup sections seen
 * @rounds: EOS of rounds seen
 * @all: counts since the start
 * @round: counts of the running round, or of the last one when none runs
 * @error: why model_feed() failed
 */
struct model {
	struct model_region *regions;
	unsigned int nr_regions;
	unsigned char pending[MODEL_UNIT + 512];
	size_t nr_pending;
	enum model_state state;
	unsigned int current;
	uint64_t setup_left;
	unsigned int setups;
	unsigned int rounds;
	struct model_counts all;
	struct model_counts round;
	char error[160];
};

struct model *model_new(void);
void model_free(struct model *m);
int model_feed(struct model *m, const void *bytes, size_t len);
bool model_at_item(const struct model *m);
bool model_idle(const struct model *m);
struct model_region *model_find(struct model *m, const char *name);
void model_drop(struct model *m, const char *name);
int64_t model_diff(struct model *m, const char *name, const void *live,
		   uint64_t offset, uint64_t len);

#endif /* MODEL_H */

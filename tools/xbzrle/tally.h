/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* Counting what is in a stream. */
#ifndef _XBZRLE_TOOL_TALLY_H
#define _XBZRLE_TOOL_TALLY_H

#include <stddef.h>
#include <stdint.h>

#include <xbzrle.h>

/* Run lengths by power of two: 1, 2 to 3, ... 4096. */
#define TALLY_CLASSES	13
/* So many rounds are counted. */
#define TALLY_ROUNDS	(1U << 22)

struct tally_kind {
	uint64_t records;
	uint64_t bytes;
};

struct tally_round {
	struct tally_kind zero, page, delta;
	uint64_t bytes;		/* with the EOS */
};

struct tally_region {
	const char *name;
	uint64_t length;
};

/**
 * struct tally - what was counted
 * @regions: in order of appearance
 * @region_count: how many
 * @rounds: the last may be incomplete
 * @round_count: how many, complete or not
 * @in_round: the last is incomplete
 * @setup_bytes: bytes of setup sections
 * @equal: runs of bytes equal to the base, by length
 * @new: runs of new bytes, by length
 */
struct tally {
	struct tally_region *regions;
	size_t region_count;
	struct tally_round *rounds;
	size_t round_count;
	bool in_round;
	uint64_t setup_bytes;
	uint64_t equal[TALLY_CLASSES];
	uint64_t new[TALLY_CLASSES];
};

int tally_record(struct tally *tally, const struct xbzrle_record *record,
		 struct xbzrle_error *err);
void tally_release(struct tally *tally);

#endif /* _XBZRLE_TOOL_TALLY_H */

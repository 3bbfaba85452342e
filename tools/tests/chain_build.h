/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * Chains of snapshots written from docs/snapshots.md, with what every round has
 * to be restored to; shares no code with what reads them.
 */
#ifndef _TESTS_CHAIN_BUILD_H
#define _TESTS_CHAIN_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "wire_build.h"

#define MAKER_REGIONS	8
#define MAKER_PAGES	4

struct maker_region {
	char name[16];
	bool present;
	unsigned int pages;
	uint64_t address;
	bool received[MAKER_PAGES];
	uint8_t bytes[MAKER_PAGES * BUILD_UNIT];
};

/**
 * struct maker - memory that changes from round to round
 * @seed: of all that is random
 * @round: number of the last round made
 * @first: of the first, which has all
 * @regions: memory as of that round
 * @count: how many, dropped ones too
 * @announced: how many were there before this round
 * @dropped: index of the region that the round drops, or -1
 * @stream: bytes of the round
 * @ends: where the stream's rounds end in them
 * @stream_rounds: how many; all but the last are torn
 */
struct maker {
	uint64_t seed;
	unsigned int round;
	unsigned int first;
	struct maker_region regions[MAKER_REGIONS];
	unsigned int count;
	unsigned int announced;
	int dropped;
	struct build stream;
	size_t ends[2];
	unsigned int stream_rounds;
};

void maker_begin(struct maker *maker, unsigned int first);
void maker_next(struct maker *maker);
/* The same memory as of any round, made anew. */
void maker_at(struct maker *maker, unsigned int first, unsigned int round);
void maker_end(struct maker *maker);

/* The file of the last round made, and its line; @check is set to its checksum. */
void maker_file(const struct maker *maker, struct build *file);
void maker_line(const struct maker *maker, uint64_t bytes, const char *before,
		char *check, struct build *line);
/* Makes a line of an object that lacks its checksum, members sorted by name. */
void maker_seal(struct build *line, char *check);

#endif /* _TESTS_CHAIN_BUILD_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* The module's job done in userspace: find, read, encode, keep bases. */
#ifndef BENCH_PIPELINE_H
#define BENCH_PIPELINE_H

#include <stdint.h>

#include "bases.h"
#include "scan.h"
#include "writer.h"

/* Pages that are read with one call. */
#define PIPELINE_BATCH	64

/**
 * struct pipeline - a writer whose memory is sent by userspace
 * @scan: how written pages are found
 * @scanner: the writer, as it is looked at
 * @writer: the writer
 * @bases: bases
 * @staged: pages that the process's are read to
 * @found: indices of the pages that the round has to look at
 * @nr: how many
 * @round: number of the round
 * @stream: where records go
 * @end: behind the last of them
 * @bytes: of the round that are not in @stream any more
 * @hits: pages that had a base
 * @misses: pages that had none
 */
struct pipeline {
	const struct scan *scan;
	struct scanner scanner;
	struct writer writer;
	struct bases bases;
	uint8_t *staged[PIPELINE_BATCH];
	uint32_t *found;
	uint32_t nr;
	uint32_t round;
	uint8_t *stream;
	uint8_t *end;
	uint64_t bytes;
	uint64_t hits;
	uint64_t misses;
};

void pipeline_begin(struct pipeline *pipeline, const struct scan *scan,
		    uint64_t length, uint64_t budget);
void pipeline_sync(struct pipeline *pipeline);
uint64_t pipeline_read(struct pipeline *pipeline);
void pipeline_end(struct pipeline *pipeline);

#endif /* BENCH_PIPELINE_H */

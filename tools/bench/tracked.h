/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* A writer's memory as a region of a session, in each way there is. */
#ifndef BENCH_TRACKED_H
#define BENCH_TRACKED_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/xbzrle.h>

#include "writer.h"

/**
 * struct mode - how memory is tracked and captured
 * @name: for people
 * @features: XBZRLE_FEATURE_* bits that it needs
 * @tracker: enum xbzrle_tracker
 * @capture: enum xbzrle_capture
 */
struct mode {
	const char *name;
	uint64_t features;
	uint32_t tracker;
	uint32_t capture;
};

#define NR_MODES	6

extern const struct mode modes[NR_MODES];

/**
 * struct tracked - a session with one region, which a writer writes to
 * @session: session
 * @mode: how
 * @region: the region's id
 * @writer: the writer
 * @bitmap: the pages that it writes, for MARK_DIRTY
 * @units: bits in @bitmap
 */
struct tracked {
	int session;
	const struct mode *mode;
	uint32_t region;
	struct writer writer;
	uint8_t *bitmap;
	uint64_t units;
};

bool mode_works(const struct mode *mode);

void tracked_begin(struct tracked *tracked, const struct mode *mode,
		   uint64_t length, uint64_t budget);
void tracked_set_pages(struct tracked *tracked, const uint32_t *pages,
		       uint32_t nr, const struct kind *kind);
uint64_t tracked_sync(struct tracked *tracked, uint32_t flags);
void tracked_end(struct tracked *tracked);

#endif /* BENCH_TRACKED_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef _XBZRLE_TOOL_PROGRESS_H
#define _XBZRLE_TOOL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct progress - what is told of a transfer
 * @live: standard error is a terminal: one line that changes
 * @quiet: say nothing
 * @held: not now either, because who reads it may not
 * @round: number of the round
 * @final: it is the last
 * @dirty_pages: pages it looks at
 * @round_bytes: stream bytes of it so far
 * @total_bytes: stream bytes of all rounds so far
 * @round_start: when it began, of progress_now()
 * @last_shown: when the line was last written
 * @line: what was not written yet, or empty
 */
struct progress {
	bool live;
	bool quiet;
	bool held;
	uint64_t round;
	bool final;
	uint64_t dirty_pages;
	uint64_t round_bytes;
	uint64_t total_bytes;
	double round_start;
	double last_shown;
	char line[256];
};

double progress_now(void);
void progress_init(struct progress *progress, bool quiet);
void progress_round(struct progress *progress, uint64_t round, bool final,
		    uint64_t dirty_pages);
void progress_bytes(struct progress *progress, uint64_t bytes);
void progress_round_done(struct progress *progress, double downtime);
void progress_hold(struct progress *progress);
void progress_release(struct progress *progress);
void progress_end(struct progress *progress);

#endif /* _XBZRLE_TOOL_PROGRESS_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* How userspace learns, without the module, which pages a process wrote. */
#ifndef BENCH_SCAN_H
#define BENCH_SCAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * struct scanner - a process that is looked at; it is stopped meanwhile
 * @start: its memory
 * @pages: pages of it
 * @pagemap: descriptor of /proc/PID/pagemap
 * @clear_refs: descriptor of /proc/PID/clear_refs
 */
struct scanner {
	const uint8_t *start;
	uint32_t pages;
	int pagemap;
	int clear_refs;
};

/**
 * struct scan - a way to look
 * @name: for people
 * @watched: the process has to call scan_watch() for it
 * @works: does the kernel have it?
 * @find: fills in the indices of the pages that were written since the call
 *	before, and returns how many
 */
struct scan {
	const char *name;
	bool watched;
	bool (*works)(void);
	uint32_t (*find)(const struct scanner *scanner, uint32_t *found);
};

#define NR_SCANS	2

extern const struct scan scans[NR_SCANS];

void scan_watch(uint8_t *start, uint64_t length);
void scan_begin(struct scanner *scanner, pid_t pid, const uint8_t *start,
		uint32_t pages);
void scan_end(struct scanner *scanner);

#endif /* BENCH_SCAN_H */

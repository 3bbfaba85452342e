/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* Which pages each round sends, and how long their deltas are. */
#ifndef BENCH_TRACE_H
#define BENCH_TRACE_H

#include <stddef.h>
#include <stdint.h>

#define UNIT_BYTES	4096

/**
 * struct access - a page that a round sends
 * @page: its number
 * @delta: bytes of its delta against what was last sent of it; UNIT_BYTES if
 *	that is not smaller than the page
 */
struct access {
	uint32_t page;
	uint32_t delta;
};

/**
 * struct trace - rounds, each of which sends its pages in ascending order
 * @accesses: of all rounds
 * @nr: how many there are
 * @room: how many there is memory for
 * @begins: where each round begins in @accesses
 * @rounds: how many rounds there are
 * @pages: above the highest number of a page
 */
struct trace {
	struct access *accesses;
	size_t nr;
	size_t room;
	size_t *begins;
	size_t rounds;
	uint32_t pages;
};

void trace_begin_round(struct trace *trace);
void trace_add(struct trace *trace, uint32_t page, uint32_t delta);
size_t trace_end_of_round(const struct trace *trace, size_t round);
void trace_load(struct trace *trace, const char *path);
void trace_free(struct trace *trace);
char *trace_name(const char *path);

#endif /* BENCH_TRACE_H */

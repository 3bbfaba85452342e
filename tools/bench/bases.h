/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* Pages as last sent, as a program would keep them that has no module. */
#ifndef BENCH_BASES_H
#define BENCH_BASES_H

#include <stdint.h>

/**
 * struct base - a page as last sent
 * @content: the page
 * @page: its index
 * @round: the round that sent it
 */
struct base {
	uint8_t *content;
	uint32_t page;
	uint32_t round;
};

/**
 * struct bases - bases within a budget
 * @slots: bases
 * @nr: how many there are
 * @capacity: how many there may be
 * @index: slot of each page of the memory, counted from 1; 0 if it has none
 * @hand: where the next victim is looked for
 */
struct bases {
	struct base *slots;
	uint32_t nr;
	uint32_t capacity;
	uint32_t *index;
	uint32_t hand;
};

void bases_begin(struct bases *bases, uint32_t capacity, uint32_t pages);
struct base *bases_find(const struct bases *bases, uint32_t page);
uint8_t *bases_admit(struct bases *bases, uint32_t page, uint8_t *content,
		     uint32_t round);
void bases_end(struct bases *bases);

#endif /* BENCH_BASES_H */

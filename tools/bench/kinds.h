/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef BENCH_KINDS_H
#define BENCH_KINDS_H

#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES	4096
#define NR_KINDS	9

/**
 * struct kind - one way in which a page changes
 * @name: as it is named on the command line and in the output
 * @change: changes a page, given a source of random numbers
 */
struct kind {
	const char *name;
	void (*change)(uint8_t *page, uint64_t *random);
};

extern const struct kind kinds[NR_KINDS];

const struct kind *kind_find(const char *name);
uint64_t random_next(uint64_t *random);

#endif /* BENCH_KINDS_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* Which pages of a memory are written. */
#ifndef BENCH_PAGES_H
#define BENCH_PAGES_H

#include <stdint.h>

void pages_first(uint32_t *pages, uint32_t nr);
void pages_spread(uint32_t *pages, uint32_t nr, uint32_t of);

#endif /* BENCH_PAGES_H */

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include "kinds.h"
#include "pages.h"

/**
 * pages_first() - adjacent pages
 * @pages: out: their indices
 * @nr: how many
 */
void pages_first(uint32_t *pages, uint32_t nr)
{
	uint32_t i;

	for (i = 0; i < nr; i++)
		pages[i] = i;
}

/**
 * pages_spread() - pages at random, the same ones each time
 * @pages: out: their indices, in order
 * @nr: how many
 * @of: pages there are
 */
void pages_spread(uint32_t *pages, uint32_t nr, uint32_t of)
{
	uint64_t random = 20261124;
	uint32_t page;

	/* Each is as likely as any to be among those that are still wanted. */
	for (page = 0; nr; page++)
		if ((random_next(&random) >> 32) % (of - page) < nr) {
			*pages++ = page;
			nr--;
		}
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <error.h>
#include <stdlib.h>

#include "policy.h"

/* Rounds without an access until a base may be replaced. */
#define LIFETIME	2

struct place {
	uint32_t page;
	bool taken;
	size_t round;
};

/**
 * policy_direct() - one place for each page, as QEMU's cache does it
 * @trace: trace
 * @capacity: places, a power of two
 * @hits: out: whether each access found its base
 *
 * A page's place is its number modulo the places. What is there stays until it
 * was not sent for two rounds; then the next page of that place replaces it.
 */
void policy_direct(const struct trace *trace, uint32_t capacity, bool *hits)
{
	struct place *places = calloc(capacity, sizeof(*places)), *place;
	size_t round, i;
	uint32_t page;

	if (!places)
		error(1, 0, "out of memory");
	for (round = 0; round < trace->rounds; round++)
		for (i = trace->begins[round];
		     i < trace_end_of_round(trace, round); i++) {
			page = trace->accesses[i].page;
			place = &places[page & (capacity - 1)];
			hits[i] = place->taken && place->page == page;
			if (hits[i] || !place->taken ||
			    round - place->round >= LIFETIME)
				*place = (struct place){ page, true, round };
		}
	free(places);
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Traces that are made up, in units of the cache they are for. A page changes by
 * ten words, but for those of the trace "hopeless".
 */
#include <error.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <xbzrle/codec.h>

#include "kinds.h"
#include "synthetic.h"

#define CAPACITY	SYNTHETIC_CAPACITY
#define ROUNDS		64
/* Scattered pages are somewhere in so many. */
#define MEMORY		(16 * CAPACITY)
/* Rounds between two changes of phase. */
#define PHASE		8
#define SEED		20261127

/* A set of pages, some of which are the trace's next round. */
static bool dirty[MEMORY];

static double uniform(uint64_t *random)
{
	return (double)(random_next(random) >> 11) / (1ull << 53);
}

static uint32_t below(uint64_t *random, uint32_t limit)
{
	return (random_next(random) >> 32) * limit >> 32;
}

/* Bytes of a delta, by trying it on a page. */
static uint32_t delta_of(const char *kind, uint64_t *random)
{
	static uint8_t base[UNIT_BYTES], page[UNIT_BYTES], delta[UNIT_BYTES];
	ssize_t len;

	memcpy(page, base, UNIT_BYTES);
	kind_find(kind)->change(page, random);
	len = xbzrle_encode(base, page, UNIT_BYTES, delta, UNIT_BYTES - 1);
	return len < 0 ? UNIT_BYTES : len;
}

/* All that is dirty becomes a round. */
static void end_round(struct trace *trace, uint64_t *random)
{
	uint32_t page;

	trace_begin_round(trace);
	for (page = 0; page < MEMORY; page++)
		if (dirty[page])
			trace_add(trace, page, delta_of("10-words", random));
	memset(dirty, 0, sizeof(dirty));
}

static void shuffle(uint32_t *pages, uint32_t nr, uint64_t *random)
{
	uint32_t i, other, page;

	for (i = 0; i < nr; i++) {
		other = i + below(random, nr - i);
		page = pages[i];
		pages[i] = pages[other];
		pages[other] = page;
	}
}

/* All pages of the memory in random order, to be freed. */
static uint32_t *scattered(uint64_t *random)
{
	uint32_t *pages = malloc(MEMORY * sizeof(*pages)), i;

	if (!pages)
		error(1, 0, "out of memory");
	for (i = 0; i < MEMORY; i++)
		pages[i] = i;
	shuffle(pages, MEMORY, random);
	return pages;
}

/* The same pages in each round, so many times the cache. */
static void cyclic(struct trace *trace, double times, uint64_t *random)
{
	uint32_t round;

	for (round = 0; round < ROUNDS; round++) {
		memset(dirty, true, times * CAPACITY);
		end_round(trace, random);
	}
}

static void cyclic_scattered(struct trace *trace, double times,
			     uint64_t *random)
{
	uint32_t *pages = scattered(random), round, i;

	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < times * CAPACITY; i++)
			dirty[pages[i]] = true;
		end_round(trace, random);
	}
	free(pages);
}

/*
 * As many writes a round as the cache has room for, twice. How often a page is
 * written falls with a power of its rank.
 */
static void zipf(struct trace *trace, double exponent, uint64_t *random)
{
	uint32_t *pages = scattered(random), round, i, low, high, middle;
	double *sums = malloc(MEMORY * sizeof(*sums)), sum = 0, at;

	if (!sums)
		error(1, 0, "out of memory");
	for (i = 0; i < MEMORY; i++)
		sums[i] = sum += pow(i + 1, -exponent);
	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < 2 * CAPACITY; i++) {
			at = uniform(random) * sum;
			for (low = 0, high = MEMORY - 1; low < high; ) {
				middle = (low + high) / 2;
				if (sums[middle] < at)
					low = middle + 1;
				else
					high = middle;
			}
			dirty[pages[low]] = true;
		}
		end_round(trace, random);
	}
	free(sums);
	free(pages);
}

/*
 * Three quarters of the cache are hot, each of them dirty with this probability.
 * Beside them a sweep over all of the memory takes a step of the cache's size.
 */
static void hot_and_sweep(struct trace *trace, double probability,
			  uint64_t *random)
{
	uint32_t *pages = scattered(random), round, at = 0, i;

	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < CAPACITY * 3 / 4; i++)
			if (uniform(random) < probability)
				dirty[pages[i]] = true;
		for (i = 0; i < CAPACITY; i++)
			dirty[at++ % MEMORY] = true;
		end_round(trace, random);
	}
	free(pages);
}

/* So much of the cache is hot, and every few rounds others are. */
static void phases(struct trace *trace, double times, uint64_t *random)
{
	uint32_t hot = times * CAPACITY, round;

	for (round = 0; round < ROUNDS; round++) {
		memset(dirty + round / PHASE * hot, true, hot);
		end_round(trace, random);
	}
}

static void phases_scattered(struct trace *trace, double times,
			     uint64_t *random)
{
	uint32_t *pages = scattered(random), hot = times * CAPACITY, round, i;

	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < hot; i++)
			dirty[pages[round / PHASE * hot + i]] = true;
		end_round(trace, random);
	}
	free(pages);
}

/* A cyclic set of which so much changes in a way that no delta is good for. */
static void hopeless(struct trace *trace, double share, uint64_t *random)
{
	uint32_t round, page;

	for (round = 0; round < ROUNDS; round++) {
		trace_begin_round(trace);
		for (page = 0; page < 2 * CAPACITY; page++)
			trace_add(trace, page,
				  delta_of(page % 64 < share * 64 ?
					   "all-changed" : "10-words", random));
	}
}

const struct synthetic synthetics[] = {
	{ "cyclic 0.5", cyclic, 0.5 },
	{ "cyclic 1", cyclic, 1 },
	{ "cyclic 1.5", cyclic, 1.5 },
	{ "cyclic 2", cyclic, 2 },
	{ "cyclic 4", cyclic, 4 },
	{ "scattered 0.5", cyclic_scattered, 0.5 },
	{ "scattered 1", cyclic_scattered, 1 },
	{ "scattered 1.5", cyclic_scattered, 1.5 },
	{ "scattered 2", cyclic_scattered, 2 },
	{ "scattered 4", cyclic_scattered, 4 },
	{ "zipf 0.8", zipf, 0.8 },
	{ "zipf 1.0", zipf, 1.0 },
	{ "zipf 1.2", zipf, 1.2 },
	{ "hot and sweep", hot_and_sweep, 1 },
	{ "half hot and sweep", hot_and_sweep, 0.5 },
	{ "phases 0.5", phases, 0.5 },
	{ "phases 1", phases, 1 },
	{ "phases 2", phases, 2 },
	{ "phases scattered 1", phases_scattered, 1 },
	{ "hopeless half", hopeless, 0.5 },
};

const size_t nr_synthetics = sizeof(synthetics) / sizeof(*synthetics);

/**
 * synthetic_make() - make a trace
 * @synthetic: which one
 * @trace: filled in
 */
void synthetic_make(const struct synthetic *synthetic, struct trace *trace)
{
	uint64_t random = SEED;

	*trace = (struct trace){ 0 };
	synthetic->make(trace, synthetic->parameter, &random);
}

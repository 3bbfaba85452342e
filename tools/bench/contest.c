// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Whole rounds of a process that writes the same pages again and again, in each
 * way that the module has and as userspace does it without. All see the same
 * writes and give the same records where they have the same bases. They take
 * turns, round by round.
 */
#include <error.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "contest.h"
#include "kinds.h"
#include "pages.h"
#include "pipeline.h"
#include "session.h"
#include "tracked.h"

#define PAGES		8192
#define DIRTY		1024
/* Rounds until the bases are those of the pages that are written. */
#define WARM_UP		8
#define ROUNDS		11
#define MAX_CONTENDERS	(NR_MODES + NR_SCANS)

/* Budgets for bases, in halves of what the dirty pages take. */
static const unsigned int budgets[] = { 1, 2, 4, 2 * PAGES / DIRTY };
#define NR_BUDGETS	4

/**
 * struct contender - one way to do the job
 * @mode: the module's, or NULL
 * @scan: userspace's, if there is no mode
 * @tracked: for the module
 * @pipeline: for userspace
 * @fault: cost of the first write to each page, by round
 * @find: cost of finding what was written
 * @encode: cost of having the records
 * @total: all three
 * @bytes: of the records of all rounds
 * @held: most bytes held as bases
 * @hits: pages that had a base when they were sent
 * @lookups: pages that were sent
 */
struct contender {
	const struct mode *mode;
	const struct scan *scan;
	struct tracked tracked;
	struct pipeline pipeline;
	double fault[ROUNDS];
	double find[ROUNDS];
	double encode[ROUNDS];
	double total[ROUNDS];
	uint64_t bytes;
	uint64_t held;
	uint64_t hits;
	uint64_t lookups;
};

static struct contender contenders[MAX_CONTENDERS];
static unsigned int nr_contenders;

/* Whoever has to be told what was written is none. */
static void choose_contenders(void)
{
	int i;

	for (i = 0; i < NR_MODES; i++)
		if (mode_works(&modes[i]) &&
		    modes[i].tracker != XBZRLE_TRACKER_EXTERNAL)
			contenders[nr_contenders++].mode = &modes[i];
	for (i = 0; i < NR_SCANS; i++)
		if (scans[i].works())
			contenders[nr_contenders++].scan = &scans[i];
}

static const char *contender_name(const struct contender *contender)
{
	return contender->mode ? contender->mode->name : contender->scan->name;
}

static void begin(struct contender *contender, uint64_t budget)
{
	const struct kind *kind = kind_find("10-words");
	static uint32_t pages[DIRTY];

	pages_spread(pages, DIRTY, PAGES);
	contender->bytes = 0;
	contender->held = 0;
	if (contender->mode) {
		tracked_begin(&contender->tracked, contender->mode,
			      (uint64_t)PAGES * PAGE_BYTES, budget);
		tracked_set_pages(&contender->tracked, pages, DIRTY, kind);
	} else {
		pipeline_begin(&contender->pipeline, contender->scan,
			       (uint64_t)PAGES * PAGE_BYTES, budget);
		writer_set_pages(&contender->pipeline.writer, pages, DIRTY,
				 kind);
	}
}

static void end(struct contender *contender)
{
	if (contender->mode)
		tracked_end(&contender->tracked);
	else
		pipeline_end(&contender->pipeline);
}

static double do_write(struct contender *contender)
{
	return writer_pass(contender->mode ? &contender->tracked.writer :
					     &contender->pipeline.writer);
}

static double do_find(struct contender *contender)
{
	double start = now();

	if (contender->mode)
		session_sync(contender->tracked.session, 0);
	else
		pipeline_sync(&contender->pipeline);
	return now() - start;
}

static double do_encode(struct contender *contender, uint64_t *bytes)
{
	double start = now();

	if (contender->mode)
		*bytes = session_read(contender->tracked.session);
	else
		*bytes = pipeline_read(&contender->pipeline);
	return now() - start;
}

/* Bases may come when pages are written, and when they are sent. */
static void note_held(struct contender *contender)
{
	uint64_t held;

	if (contender->mode)
		held = session_stats(contender->tracked.session).cache_used;
	else
		held = (uint64_t)contender->pipeline.bases.nr * PAGE_BYTES;
	if (held > contender->held)
		contender->held = held;
}

static void count_lookups(const struct contender *contender, uint64_t *hits,
			  uint64_t *lookups)
{
	struct xbzrle_stats stats;

	if (contender->mode) {
		stats = session_stats(contender->tracked.session);
		*hits = stats.pages + stats.overflow;
		*lookups = *hits + stats.cache_miss;
	} else {
		*hits = contender->pipeline.hits;
		*lookups = *hits + contender->pipeline.misses;
	}
}

/* A round below 0 is not measured. */
static void play(struct contender *contender, int round)
{
	uint64_t bytes, hits, lookups;
	double fault, find, encode;

	fault = do_write(contender);
	note_held(contender);
	if (!round)
		count_lookups(contender, &contender->hits,
			      &contender->lookups);
	find = do_find(contender);
	encode = do_encode(contender, &bytes);
	note_held(contender);
	if (round < 0)
		return;

	contender->fault[round] = fault / DIRTY;
	contender->find[round] = find / DIRTY;
	contender->encode[round] = encode / DIRTY;
	contender->total[round] = (fault + find + encode) / DIRTY;
	contender->bytes += bytes;
	if (round < ROUNDS - 1)
		return;
	count_lookups(contender, &hits, &lookups);
	contender->hits = hits - contender->hits;
	contender->lookups = lookups - contender->lookups;
}

static json_t *contender_json(struct contender *contender, unsigned int budget)
{
	double total = median(contender->total, ROUNDS);
	double least = contender->total[0];
	double most = contender->total[ROUNDS - 1];

	return json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I}",
			 "name", contender_name(contender),
			 "budget_of_dirty", budget / 2.0,
			 "fault", median(contender->fault, ROUNDS),
			 "find", median(contender->find, ROUNDS),
			 "encode", median(contender->encode, ROUNDS),
			 "total", total, "spread", (most - least) / total,
			 "stream_bytes",
			 (double)contender->bytes / DIRTY / ROUNDS,
			 "hits_per_lookup",
			 (double)contender->hits / contender->lookups,
			 "held_bytes", (json_int_t)contender->held);
}

/**
 * contest_measure() - measure whole rounds
 *
 * Return: A list, of an object for each budget and contender.
 */
json_t *contest_measure(void)
{
	json_t *list = json_array();
	unsigned int b, i;
	int round;

	choose_contenders();
	for (b = 0; b < NR_BUDGETS; b++) {
		for (i = 0; i < nr_contenders; i++)
			begin(&contenders[i], (uint64_t)budgets[b] * DIRTY *
					      PAGE_BYTES / 2);
		for (round = -WARM_UP; round < ROUNDS; round++)
			for (i = 0; i < nr_contenders; i++)
				play(&contenders[i], round);
		for (i = 0; i < nr_contenders; i++) {
			json_array_append_new(list,
					      contender_json(&contenders[i],
							     budgets[b]));
			end(&contenders[i]);
		}
	}
	return list;
}

static double number(const json_t *row, const char *name)
{
	return json_number_value(json_object_get(row, name));
}

/**
 * contest_print() - print what was measured
 * @result: what contest_measure() returned
 */
void contest_print(const json_t *result)
{
	double budget = 0;
	const json_t *row;
	size_t i;

	printf("Instructions per page that is written again, of whole rounds: %d of %d pages,\n"
	       "spread, ten words each. \"find\" is SYNC, or what tells the pages in userspace;\n"
	       "\"encode\" is read(), or process_vm_readv() and the codec. Medians of %d rounds in\n"
	       "turn; \"+-\" is how far the most and the least of \"total\" are apart.\n",
	       DIRTY, PAGES, ROUNDS);
	printf("\n%-18s %6s %6s %6s %7s %6s %6s %6s %9s\n", "", "fault",
	       "find", "encode", "total", "+-", "bytes", "hits", "held");
	json_array_foreach(result, i, row) {
		if (number(row, "budget_of_dirty") != budget) {
			budget = number(row, "budget_of_dirty");
			printf("bases for %.1f times the written pages\n",
			       budget);
		}
		printf("  %-16s %6.0f %6.0f %6.0f %7.0f %4.1f %% %6.0f %4.0f %% %5.1f MiB\n",
		       json_string_value(json_object_get(row, "name")),
		       number(row, "fault"), number(row, "find"),
		       number(row, "encode"), number(row, "total"),
		       100 * number(row, "spread"),
		       number(row, "stream_bytes"),
		       100 * number(row, "hits_per_lookup"),
		       number(row, "held_bytes") / MIB);
	}
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * How long a process that writes has to be stopped so that what is read
 * afterwards is its memory at one point in time: for a SYNC that asks for that,
 * in each way of tracking and capturing, and for fork(). And what the process
 * pays afterwards for the first write to each page that has not been read yet.
 */
#include <error.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "pages.h"
#include "pause.h"
#include "session.h"
#include "tracked.h"

#define LENGTH		(256 * MIB)
#define PAGES		(LENGTH / 4096)
/* Content of the point in time, and a base for every page. */
#define BUDGET		(2 * LENGTH)
#define REPEATS		5
#define NR_SHARES	3

/* Percent of the pages that the process writes between two rounds. */
static const unsigned int shares[NR_SHARES] = { 1, 10, 50 };

static const char *const patterns[] = { "spread", "adjacent" };
#define NR_PATTERNS	2

static uint32_t choose_pages(uint32_t *pages, unsigned int pattern,
			     unsigned int share)
{
	uint32_t nr = PAGES * share / 100;

	if (pattern)
		pages_first(pages, nr);
	else
		pages_spread(pages, nr, PAGES);
	return nr;
}

struct costs {
	double pause[REPEATS];
	double write[REPEATS];
};

static json_t *costs_json(const char *name, unsigned int pattern, uint32_t nr,
			  struct costs *costs)
{
	double pause = median(costs->pause, REPEATS);
	double least = costs->pause[0], most = costs->pause[REPEATS - 1];

	return json_pack("{s:s, s:s, s:i, s:f, s:f, s:f, s:f}",
			 "capture", name, "pattern", patterns[pattern],
			 "changed_pages", (int)nr, "pause", pause,
			 "pause_per_changed_page", pause / nr,
			 "pause_spread", (most - least) / pause,
			 "write_per_changed_page",
			 median(costs->write, REPEATS) / nr);
}

/* The process writes on while the round is read. */
static void read_round(struct tracked *tracked)
{
	writer_run(&tracked->writer);
	session_read(tracked->session);
	writer_stop(&tracked->writer);
}

static void mode_costs(struct tracked *tracked, uint32_t nr, uint32_t flags,
		       struct costs *costs)
{
	uint64_t dirty;
	double start;
	int i;

	for (i = 0; i < REPEATS; i++) {
		start = now();
		dirty = tracked_sync(tracked, flags);
		costs->pause[i] = now() - start;
		if (dirty < nr)
			error(1, 0, "%s: a round of %u pages has %u",
			      tracked->mode->name, nr, (unsigned int)dirty);
		costs->write[i] = writer_pass(&tracked->writer);
		read_round(tracked);
	}
}

static void add_mode(json_t *list, const struct mode *mode, const char *name,
		     uint32_t flags)
{
	static uint32_t pages[PAGES];
	struct tracked tracked;
	struct costs costs;
	unsigned int p, s;
	uint32_t nr;

	tracked_begin(&tracked, mode, LENGTH, BUDGET);
	for (p = 0; p < NR_PATTERNS; p++)
		for (s = 0; s < NR_SHARES; s++) {
			nr = choose_pages(pages, p, shares[s]);
			tracked_set_pages(&tracked, pages, nr, NULL);
			/* Nothing is left of the pages before. */
			tracked_sync(&tracked, 0);
			read_round(&tracked);
			tracked_sync(&tracked, 0);
			read_round(&tracked);
			mode_costs(&tracked, nr, flags, &costs);
			json_array_append_new(list, costs_json(name, p, nr,
							       &costs));
		}
	tracked_end(&tracked);
}

static void add_fork(json_t *list, const char *name, bool huge)
{
	const struct writer_memory memory = {
		.length = LENGTH, .fd = -1, .huge = huge,
	};
	static uint32_t pages[PAGES];
	struct writer writer;
	struct costs costs;
	unsigned int p, s;
	uint32_t nr;
	int i;

	writer_start(&writer, &memory);
	for (p = 0; p < NR_PATTERNS; p++)
		for (s = 0; s < NR_SHARES; s++) {
			nr = choose_pages(pages, p, shares[s]);
			writer_set_pages(&writer, pages, nr, NULL);
			writer_pass(&writer);
			for (i = 0; i < REPEATS; i++) {
				costs.pause[i] = writer_fork(&writer,
							     &costs.write[i]);
				writer_pass(&writer);
			}
			json_array_append_new(list, costs_json(name, p, nr,
							       &costs));
		}
	writer_end(&writer);
}

/**
 * pause_measure() - measure the pauses
 *
 * Return: A list, of an object for each number of pages and way.
 */
json_t *pause_measure(void)
{
	json_t *list = json_array();
	int i;

	for (i = 0; i < NR_MODES; i++)
		if (mode_works(&modes[i]))
			add_mode(list, &modes[i], modes[i].name,
				 XBZRLE_SYNC_POINT_IN_TIME);
	for (i = 0; i < NR_MODES; i++)
		if (mode_works(&modes[i]) &&
		    modes[i].tracker == XBZRLE_TRACKER_PTE &&
		    modes[i].capture == XBZRLE_CAPTURE_COPY)
			add_mode(list, &modes[i], "pte, no point in time", 0);
	add_fork(list, "fork()", false);
	add_fork(list, "fork(), huge pages", true);
	return list;
}

static double number(const json_t *row, const char *name)
{
	return json_number_value(json_object_get(row, name));
}

static const char *text(const json_t *row, const char *name)
{
	return json_string_value(json_object_get(row, name));
}

static void print_pattern(const json_t *result, const char *pattern)
{
	const json_t *row;
	unsigned int s = 0;
	size_t i;

	printf("\n%-22s", pattern);
	for (s = 0; s < NR_SHARES; s++)
		printf(" | %9u of %5u pages", (unsigned int)PAGES * shares[s] /
		       100, (unsigned int)PAGES);
	printf("\n%-22s", "");
	for (s = 0; s < NR_SHARES; s++)
		printf(" | %11s %6s %5s", "pause", "/page", "write");
	s = 0;
	json_array_foreach(result, i, row) {
		if (strcmp(text(row, "pattern"), pattern))
			continue;
		if (!(s++ % NR_SHARES))
			printf("\n%-22s", text(row, "capture"));
		printf(" | %11.0f %6.0f %5.0f", number(row, "pause"),
		       number(row, "pause_per_changed_page"),
		       number(row, "write_per_changed_page"));
	}
	putchar('\n');
}

static double largest_spread(const json_t *result)
{
	double spread = 0;
	const json_t *row;
	size_t i;

	json_array_foreach(result, i, row)
		if (number(row, "pause_spread") > spread)
			spread = number(row, "pause_spread");
	return spread;
}

/**
 * pause_print() - print what was measured
 * @result: what pause_measure() returned
 */
void pause_print(const json_t *result)
{
	unsigned int p;

	printf("Instructions for which a process with %llu MiB is stopped so that a round, or its\n"
	       "child, is of one point in time; those per page that it changed since the last;\n"
	       "and those of its next write to each of them. Medians of %d, of which the most\n"
	       "and the least differ by at most %.1f %%.\n",
	       LENGTH / MIB, REPEATS, 100 * largest_spread(result));
	for (p = 0; p < NR_PATTERNS; p++)
		print_pattern(result, patterns[p]);
}

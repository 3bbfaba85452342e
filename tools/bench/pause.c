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

#include "pages.h"
#include "pause.h"
#include "session.h"
#include "tracked.h"

#define LENGTH		(256 * MIB)
#define PAGES		((uint32_t)(LENGTH / 4096))
/* Content of the point in time, and a base for every page. */
#define BUDGET		(2 * LENGTH)
#define REPEATS		3

/* Which pages the process writes between two rounds. */
static const struct set {
	unsigned int percent;
	bool spread;
} sets[] = {
	{ 1, true },
	{ 5, true },
	{ 25, true },
	{ 5, false },
};

#define NR_SETS		4

static uint32_t set_pages(const struct set *set)
{
	return PAGES * set->percent / 100;
}

static uint32_t choose_pages(uint32_t *pages, const struct set *set)
{
	uint32_t nr = set_pages(set);

	if (set->spread)
		pages_spread(pages, nr, PAGES);
	else
		pages_first(pages, nr);
	return nr;
}

struct costs {
	double pause[REPEATS];
	double write[REPEATS];
};

static json_t *costs_json(const char *name, const struct set *set,
			  struct costs *costs)
{
	double pause = median(costs->pause, REPEATS);
	double least = costs->pause[0], most = costs->pause[REPEATS - 1];
	uint32_t nr = set_pages(set);

	return json_pack("{s:s, s:b, s:i, s:f, s:f, s:f, s:f}",
			 "capture", name, "spread", set->spread,
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
	uint32_t nr;
	int i;

	tracked_begin(&tracked, mode, LENGTH, BUDGET);
	for (i = 0; i < NR_SETS; i++) {
		nr = choose_pages(pages, &sets[i]);
		tracked_set_pages(&tracked, pages, nr, NULL);
		/* After it nothing is left of the pages before. */
		writer_pass(&tracked.writer);
		tracked_sync(&tracked, 0);
		session_read(tracked.session);
		writer_pass(&tracked.writer);
		mode_costs(&tracked, nr, flags, &costs);
		json_array_append_new(list,
				      costs_json(name, &sets[i], &costs));
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
	uint32_t nr;
	int i, j;

	writer_start(&writer, &memory);
	for (i = 0; i < NR_SETS; i++) {
		nr = choose_pages(pages, &sets[i]);
		writer_set_pages(&writer, pages, nr, NULL);
		for (j = 0; j < REPEATS; j++) {
			writer_pass(&writer);
			costs.pause[j] = writer_fork(&writer, &costs.write[j]);
		}
		json_array_append_new(list,
				      costs_json(name, &sets[i], &costs));
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
			add_mode(list, &modes[i], "pte, walk alone", 0);
	add_fork(list, "fork()", false);
	add_fork(list, "fork(), huge pages", true);
	return list;
}

static const char *name_of(const json_t *row)
{
	return json_string_value(json_object_get(row, "capture"));
}

static double number(const json_t *row, const char *name)
{
	return json_number_value(json_object_get(row, name));
}

static void print_head(void)
{
	int i;

	printf("\n%-20s", "");
	for (i = 0; i < NR_SETS; i++)
		printf(" | %4u %% = %5u %-8s", sets[i].percent,
		       set_pages(&sets[i]),
		       sets[i].spread ? "spread" : "adjacent");
	printf("\n%-20s", "");
	for (i = 0; i < NR_SETS; i++)
		printf(" | %10s %6s %5s", "pause", "/page", "write");
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
	const json_t *row;
	size_t i;

	printf("Instructions for which a process with %llu MiB is stopped so that a round, or its\n"
	       "child, is of one point in time; those per page that it changed since the last;\n"
	       "and those of its next write to each of them. Medians of %d, of which the most\n"
	       "and the least differ by at most %.1f %%.\n",
	       LENGTH / MIB, REPEATS, 100 * largest_spread(result));
	print_head();
	json_array_foreach(result, i, row) {
		if (!(i % NR_SETS))
			printf("%-20s", name_of(row));
		printf(" | %10.0f %6.0f %5.0f", number(row, "pause"),
		       number(row, "pause_per_changed_page"),
		       number(row, "write_per_changed_page"));
		if (i % NR_SETS == NR_SETS - 1)
			putchar('\n');
	}
}

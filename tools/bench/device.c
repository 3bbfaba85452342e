// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * What the device costs. Run where guest time is instructions executed (QEMU
 * -icount shift=0), by device.sh.
 */
#include <argp.h>
#include <errno.h>
#include <error.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "contest.h"
#include "pause.h"
#include "round.h"

/* What is measured, one after the other. */
static const struct part {
	const char *name;
	json_t *(*measure)(void);
	void (*print)(const json_t *result);
} parts[] = {
	{ "kinds", round_kinds_measure, round_kinds_print },
	{ "harvest", round_harvest_measure, round_harvest_print },
	{ "pause", pause_measure, pause_print },
	{ "contest", contest_measure, contest_print },
};

#define NR_PARTS	(sizeof(parts) / sizeof(parts[0]))

struct options {
	bool json;
	bool chosen[NR_PARTS];
	bool any_chosen;
};

static error_t choose_part(struct options *options, const char *name)
{
	size_t i;

	for (i = 0; i < NR_PARTS; i++)
		if (!strcmp(parts[i].name, name)) {
			options->chosen[i] = true;
			options->any_chosen = true;
			return 0;
		}
	return ARGP_ERR_UNKNOWN;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case 'j':
		options->json = true;
		return 0;
	case ARGP_KEY_ARG:
		return choose_part(options, arg);
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void add_part(json_t *results, const struct part *part, bool json)
{
	json_t *result = part->measure();

	if (!result)
		error(1, 0, "out of memory");
	if (!json) {
		part->print(result);
		putchar('\n');
		fflush(stdout);
	}
	json_object_set_new(results, part->name, result);
}

int main(int argc, char **argv)
{
	static const struct argp_option argp_options[] = {
		{ "json", 'j', NULL, 0, "Print JSON", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		argp_options, parse, "[kinds] [harvest] [pause] [contest]",
		"Measure /dev/xbzrle, in nanoseconds of this machine",
		NULL, NULL, NULL,
	};
	json_t *results = json_object();
	struct options options = { 0 };
	size_t i;

	argp_parse(&argp, argc, argv, 0, NULL, &options);
	for (i = 0; i < NR_PARTS; i++)
		if (options.chosen[i] || !options.any_chosen)
			add_part(results, &parts[i], options.json);
	if (options.json) {
		json_dumpf(results, stdout,
			   JSON_INDENT(2) | JSON_REAL_PRECISION(6));
		putchar('\n');
	}
	json_decref(results);
	return 0;
}

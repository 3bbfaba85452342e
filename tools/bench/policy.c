// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Measures what the policy of the page cache is worth: hits, and bytes that
 * need not be sent, on traces that are made up and that were recorded, beside
 * other policies and the best that is possible.
 */
#include <argp.h>
#include <error.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "policy.h"
#include "synthetic.h"

static const struct {
	const char *name;
	void (*run)(const struct trace *trace, uint32_t capacity, bool *hits);
} policies[] = {
	{ "module", policy_module },
	{ "direct", policy_direct },
	{ "lru", policy_lru },
	{ "optimum", policy_optimum },
};

#define NR_POLICIES	(sizeof(policies) / sizeof(*policies))

/* In percent of the accesses, and of the bytes of their pages. */
struct outcome {
	double hits;
	double saved;
};

struct row {
	char name[64];
	uint32_t capacity;
	double accesses;
	struct outcome outcomes[NR_POLICIES];
};

struct rows {
	struct row *row;
	size_t nr;
};

/* What found its base and overflowed all the same was no use. */
static struct outcome outcome_of(const struct trace *trace, const bool *hits)
{
	double nr = 0, bytes = 0;
	size_t i;

	for (i = 0; i < trace->nr; i++)
		if (hits[i] && trace->accesses[i].delta < UNIT_BYTES) {
			nr++;
			bytes += UNIT_BYTES - trace->accesses[i].delta;
		}
	return (struct outcome){
		.hits = 100 * nr / trace->nr,
		.saved = 100 * bytes / UNIT_BYTES / trace->nr,
	};
}

static struct row *add_row(struct rows *rows, const char *name)
{
	struct row *row;

	rows->row = realloc(rows->row, (rows->nr + 1) * sizeof(*rows->row));
	if (!rows->row)
		error(1, 0, "out of memory");
	row = &rows->row[rows->nr++];
	*row = (struct row){ 0 };
	snprintf(row->name, sizeof(row->name), "%s", name);
	return row;
}

static void run(struct rows *rows, const char *name, const struct trace *trace,
		uint32_t capacity)
{
	struct row *row = add_row(rows, name);
	bool *hits = calloc(trace->nr, sizeof(*hits));
	size_t p;

	if (!hits)
		error(1, 0, "out of memory");
	row->capacity = capacity;
	row->accesses = trace->nr;
	for (p = 0; p < NR_POLICIES; p++) {
		policies[p].run(trace, capacity, hits);
		row->outcomes[p] = outcome_of(trace, hits);
	}
	free(hits);
}

/*
 * The first round of a recorded trace sends everything. What follows sends so
 * many pages a round; caches of powers of two around that are run.
 */
static uint32_t usual_round(const struct trace *trace)
{
	size_t later = trace->nr - trace_end_of_round(trace, 0);
	uint32_t mean = later / (trace->rounds - 1), power = 1;

	while (2 * power <= mean)
		power *= 2;
	return power;
}

static void run_recorded(struct rows *rows, const char *path)
{
	struct trace trace;
	char *name = trace_name(path);
	uint32_t usual;

	trace_load(&trace, path);
	if (trace.rounds < 2)
		error(1, 0, "%s: one round only", path);
	usual = usual_round(&trace);
	if (usual > 1)
		run(rows, name, &trace, usual / 2);
	run(rows, name, &trace, usual);
	run(rows, name, &trace, 2 * usual);
	free(name);
	trace_free(&trace);
}

static void run_synthetic(struct rows *rows)
{
	struct trace trace;
	size_t i;

	for (i = 0; i < nr_synthetics; i++) {
		synthetic_make(&synthetics[i], &trace);
		run(rows, synthetics[i].name, &trace, SYNTHETIC_CAPACITY);
		trace_free(&trace);
	}
}

static void print_table(const struct rows *rows)
{
	const struct row *row;
	size_t p;

	puts("Accesses that had a base, and bytes of pages that need not be sent, in percent.");
	puts("");
	printf("%-20s %8s %9s  %28s  %28s\n", "", "", "",
	       "---------- hits -----------", "--------- saved -----------");
	printf("%-20s %8s %9s ", "trace", "bases", "accesses");
	for (p = 0; p < NR_POLICIES; p++)
		printf(" %7s", policies[p].name);
	for (p = 0; p < NR_POLICIES; p++)
		printf(" %7s", policies[p].name);
	puts("");
	for (row = rows->row; row < rows->row + rows->nr; row++) {
		printf("%-20s %8u %9.0f ", row->name, row->capacity,
		       row->accesses);
		for (p = 0; p < NR_POLICIES; p++)
			printf(" %7.2f", row->outcomes[p].hits);
		for (p = 0; p < NR_POLICIES; p++)
			printf(" %7.2f", row->outcomes[p].saved);
		puts("");
	}
}

static json_t *json_row(const struct row *row)
{
	json_t *hits = json_object(), *saved = json_object();
	size_t p;

	for (p = 0; p < NR_POLICIES; p++) {
		json_object_set_new(hits, policies[p].name,
				    json_real(row->outcomes[p].hits));
		json_object_set_new(saved, policies[p].name,
				    json_real(row->outcomes[p].saved));
	}
	return json_pack("{s:s, s:I, s:f, s:o, s:o}", "trace", row->name,
			 "bases", (json_int_t)row->capacity,
			 "accesses", row->accesses,
			 "hits_percent", hits, "saved_percent", saved);
}

static int print_json(const struct rows *rows)
{
	json_t *root = json_array();
	size_t i;
	int ret;

	for (i = 0; i < rows->nr; i++)
		json_array_append_new(root, json_row(&rows->row[i]));
	ret = json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	json_decref(root);
	puts("");
	return ret;
}

struct options {
	bool json;
	struct rows rows;
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case 'j':
		options->json = true;
		return 0;
	case ARGP_KEY_ARG:
		run_recorded(&options->rows, arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option argp_options[] = {
	{ "json", 'j', NULL, 0, "print JSON instead of a table", 0 },
	{ 0 }
};

static const struct argp argp = {
	.options = argp_options,
	.parser = parse_option,
	.args_doc = "[RECORDED...]",
	.doc = "Measure the policy of the page cache.",
};

int main(int argc, char **argv)
{
	struct options options = { 0 };
	int ret = 0;

	run_synthetic(&options.rows);
	if (argp_parse(&argp, argc, argv, 0, NULL, &options))
		return EXIT_FAILURE;
	if (options.json)
		ret = print_json(&options.rows);
	else
		print_table(&options.rows);
	free(options.rows.row);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Measures the codec on pages of programs, as tools/bench/record wrote them:
 * pairs of a page as it was and as it is. As in the bench of made-up pages, the
 * functions take turns on a few pages at a time, which are in the CPU's caches
 * then, and medians count. A group of pages has its next turn after all others had
 * theirs, so that the CPU does not learn the branches of its pages by heart.
 */
#include <argp.h>
#include <errno.h>
#include <error.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#include <jansson.h>

#include <xbzrle/codec.h>

#include "naive.h"
#include "trace.h"

#define PAGE_BYTES	4096
#define DELTA_MAX	(PAGE_BYTES - 1)
/* Pages that fit the CPU's caches. */
#define GROUP		32
#define TURNS		101

struct pair {
	uint8_t base[PAGE_BYTES];
	uint8_t page[PAGE_BYTES];
};

static uint8_t delta[DELTA_MAX];
static uint8_t same[GROUP][PAGE_BYTES];

static void call_encode(const struct pair *pair, size_t i)
{
	(void)i;
	xbzrle_encode(pair->base, pair->page, PAGE_BYTES, delta, sizeof(delta));
}

static void call_naive(const struct pair *pair, size_t i)
{
	(void)i;
	naive_encode(pair->base, pair->page, PAGE_BYTES, delta, sizeof(delta));
}

/* All of both pages, which those that differ would not make it read. */
static void call_memcmp(const struct pair *pair, size_t i)
{
	int order = memcmp(pair->base, same[i], PAGE_BYTES);

	/* The compiler must not see that nobody wants to know. */
	__asm__ volatile("" : : "r" (order));
}

static const struct {
	const char *name;
	void (*call)(const struct pair *pair, size_t i);
} functions[] = {
	{ "encode", call_encode },
	{ "naive", call_naive },
	{ "memcmp", call_memcmp },
};

#define NR_FUNCTIONS	(sizeof(functions) / sizeof(*functions))

/* What is known of one program's pages, per page. */
struct result {
	size_t pages;
	double bytes;
	double whole;
	double ns[NR_FUNCTIONS];
};

/* The pages of a file, to be freed. */
static struct pair *load(const char *path, size_t *nr)
{
	FILE *file = fopen(path, "r");
	struct pair *pairs = NULL;
	size_t room = 0;

	*nr = 0;
	if (!file)
		error(1, errno, "%s", path);
	do {
		if (*nr == room) {
			room += GROUP;
			pairs = realloc(pairs, room * sizeof(*pairs));
			if (!pairs)
				error(1, 0, "out of memory");
		}
	} while (fread(&pairs[*nr], sizeof(*pairs), 1, file) && ++*nr);
	if (ferror(file) || !*nr)
		error(1, 0, "%s: no pages", path);
	fclose(file);
	return pairs;
}

static void call_group(const struct pair *pairs, size_t nr, size_t function)
{
	size_t i;

	for (i = 0; i < nr; i++)
		functions[function].call(&pairs[i], i);
}

static double ns_of(const struct pair *pairs, size_t nr, size_t function)
{
	struct timespec from, to;

	clock_gettime(CLOCK_MONOTONIC, &from);
	call_group(pairs, nr, function);
	clock_gettime(CLOCK_MONOTONIC, &to);
	return (to.tv_sec - from.tv_sec) * 1e9 + to.tv_nsec - from.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static size_t group_at(size_t i, size_t nr)
{
	return nr - i < GROUP ? nr - i : GROUP;
}

/* Has a page in the CPU's caches. */
static void touch(const uint8_t *page)
{
	size_t i;

	for (i = 0; i < PAGE_BYTES; i += 64)
		(void)*(volatile const uint8_t *)&page[i];
}

/* One turn of all functions; the time of each is added to @ns. */
static void measure_group(const struct pair *pairs, size_t nr,
			  double ns[NR_FUNCTIONS])
{
	size_t f, i;

	for (f = 0; f < NR_FUNCTIONS; f++) {
		for (i = 0; i < nr; i++) {
			memcpy(same[i], pairs[i].base, PAGE_BYTES);
			touch(pairs[i].page);
		}
		ns[f] += ns_of(pairs, nr, f);
	}
}

static void measure(const struct pair *pairs, size_t nr, struct result *result)
{
	static double ns[TURNS][NR_FUNCTIONS];
	double values[TURNS];
	size_t i, f, turn;
	ssize_t len;

	*result = (struct result){ .pages = nr };
	for (i = 0; i < nr; i++) {
		len = xbzrle_encode(pairs[i].base, pairs[i].page, PAGE_BYTES,
				    delta, sizeof(delta));
		result->bytes += len < 0 ? PAGE_BYTES : len;
		result->whole += len < 0;
	}
	memset(ns, 0, sizeof(ns));
	for (turn = 0; turn < TURNS; turn++)
		for (i = 0; i < nr; i += GROUP)
			measure_group(&pairs[i], group_at(i, nr), ns[turn]);
	result->bytes /= nr;
	result->whole *= 100.0 / nr;
	for (f = 0; f < NR_FUNCTIONS; f++) {
		for (turn = 0; turn < TURNS; turn++)
			values[turn] = ns[turn][f];
		qsort(values, TURNS, sizeof(*values), compare_doubles);
		result->ns[f] = values[TURNS / 2] / nr;
	}
}

/* Every page once, for a program that counts what this executes. */
static int call_only(const char *function, const char *path)
{
	struct pair *pairs;
	size_t nr, f, i, j;

	for (f = 0; f < NR_FUNCTIONS; f++)
		if (!strcmp(functions[f].name, function))
			break;
	if (f == NR_FUNCTIONS)
		error(1, 0, "unknown function: %s", function);
	pairs = load(path, &nr);
	for (i = 0; i < nr; i += GROUP) {
		for (j = 0; j < group_at(i, nr); j++)
			memcpy(same[j], pairs[i + j].base, PAGE_BYTES);
		call_group(&pairs[i], group_at(i, nr), f);
	}
	free(pairs);
	return 0;
}

/* Lines of "name function instructions", the last one for all pages. */
static double instructions_of(const char *path, const char *name, size_t f,
			      size_t pages)
{
	char line_name[64], function[32];
	FILE *file = path ? fopen(path, "r") : NULL;
	double instructions, found = -1;

	if (path && !file)
		error(1, errno, "%s", path);
	while (file && fscanf(file, "%63s %31s %lf", line_name, function,
			      &instructions) == 3)
		if (!strcmp(line_name, name) &&
		    !strcmp(function, functions[f].name))
			found = instructions / pages;
	if (file)
		fclose(file);
	return found;
}

static json_t *json_result(const char *name, const struct result *result,
			   const char *path)
{
	json_t *ns = json_object(), *instructions = json_object();
	double count;
	size_t f;

	for (f = 0; f < NR_FUNCTIONS; f++) {
		json_object_set_new(ns, functions[f].name,
				    json_real(result->ns[f]));
		count = instructions_of(path, name, f, result->pages);
		json_object_set_new(instructions, functions[f].name,
				    count < 0 ? json_null() : json_real(count));
	}
	return json_pack("{s:s, s:I, s:f, s:f, s:o, s:o}", "program", name,
			 "pages", (json_int_t)result->pages,
			 "bytes", result->bytes,
			 "whole_percent", result->whole,
			 "ns", ns, "instructions", instructions);
}

static void print_head(void)
{
	size_t f;

	puts("Per page of 4096 bytes that a program changed. A page that goes whole has 4096.");
	puts("");
	printf("%-8s %5s %6s %7s  %-23s  %s\n", "", "", "", "",
	       "------ nanoseconds ----", "------ instructions ---");
	printf("%-8s %5s %6s %7s ", "program", "pages", "bytes", "whole %");
	for (f = 0; f < 2 * NR_FUNCTIONS; f++)
		printf(" %7s", functions[f % NR_FUNCTIONS].name);
	puts("");
}

static void print_row(const char *name, const struct result *result,
		      const char *path)
{
	double count;
	size_t f;

	printf("%-8s %5zu %6.0f %7.1f ", name, result->pages, result->bytes,
	       result->whole);
	for (f = 0; f < NR_FUNCTIONS; f++)
		printf(" %7.0f", result->ns[f]);
	for (f = 0; f < NR_FUNCTIONS; f++) {
		count = instructions_of(path, name, f, result->pages);
		if (count < 0)
			printf(" %7s", "-");
		else
			printf(" %7.0f", count);
	}
	puts("");
}

struct options {
	const char *instructions;
	const char *function;
	json_t *json;
	size_t files;
};

static void measure_file(const struct options *options, const char *path)
{
	struct result result;
	struct pair *pairs;
	char *name = trace_name(path);
	size_t nr;

	pairs = load(path, &nr);
	measure(pairs, nr, &result);
	if (options->json)
		json_array_append_new(options->json,
				      json_result(name, &result,
						  options->instructions));
	else
		print_row(name, &result, options->instructions);
	free(pairs);
	free(name);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case 'j':
		options->json = json_array();
		return 0;
	case 'i':
		options->instructions = arg;
		return 0;
	case 'f':
		options->function = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (options->function)
			return call_only(options->function, arg);
		if (!options->files++ && !options->json)
			print_head();
		measure_file(options, arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option argp_options[] = {
	{ "json", 'j', NULL, 0, "print JSON instead of a table", 0 },
	{ "instructions", 'i', "FILE", 0,
	  "add counted instructions from lines of \"program function count\"", 0 },
	{ "function", 'f', "NAME", 0,
	  "measure nothing, only call encode, naive or memcmp", 0 },
	{ 0 }
};

static const struct argp argp = {
	.options = argp_options,
	.parser = parse_option,
	.args_doc = "FILE...",
	.doc = "Measure the xbzrle codec on recorded pages.",
};

int main(int argc, char **argv)
{
	struct options options = { 0 };

	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &options))
		return EXIT_FAILURE;
	if (!options.json)
		return EXIT_SUCCESS;
	if (json_dumpf(options.json, stdout,
		       JSON_INDENT(2) | JSON_REAL_PRECISION(6)))
		return EXIT_FAILURE;
	puts("");
	json_decref(options.json);
	return EXIT_SUCCESS;
}

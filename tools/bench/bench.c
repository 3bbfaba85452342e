// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Measures the codec on pages that change in different ways, in each way of
 * comparing that this machine has, against plain encoders and decoders, memcmp()
 * and a loop that does no more than read both pages.
 *
 * Every kind is measured on many pages, as many as fit the second level of cache,
 * if not told otherwise: with --pages=16384, 128 MiB are read, which come from
 * memory. The functions take turns, so that whatever disturbs the machine
 * disturbs all of them, and the median over all turns counts. Pages change anew
 * for each: a CPU learns the branches of many pages by heart if it sees them
 * again and again, which no program's pages have it do, and is then up to two
 * times as fast. Instructions are counted by another program, which runs
 * this one with --kind and --function.
 */
#include <argp.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include <xbzrle/codec.h>

#include "kinds.h"
#include "naive.h"

/* Pages of a kind, unless told otherwise. */
#define NR_PAGES	32
/* Too many for their branches to be learnt. */
#define MANY_PAGES	4096
#define SEED		20240229
/* A delta that is not smaller than its page is of no use. */
#define DELTA_MAX	(PAGE_BYTES - 1)

enum function {
	AVX512BW,
	AVX2,
	SSE2,
	NEON,
	SCALAR,
	NAIVE,
	MEMCMP,
	READ,
	DECODE,
	NAIVE_DECODE,
	NR_FUNCTIONS
};

struct page {
	uint8_t base[PAGE_BYTES];
	uint8_t page[PAGE_BYTES];
	uint8_t same[PAGE_BYTES];	/* equals base, for memcmp() */
	uint8_t target[PAGE_BYTES];	/* what the delta is applied to */
	uint8_t delta[PAGE_BYTES];
	ssize_t delta_len;
};

/* What is known of one kind. A value below 0 does not apply. */
struct result {
	double delta_bytes;
	double ns[NR_FUNCTIONS];
	double instructions[NR_FUNCTIONS];
};

struct options {
	bool json;
	unsigned int turns;
	size_t pages;
	const char *instructions;
	const struct kind *kind;
	int function;
};

/* How many there are of what is measured now. */
static size_t nr_pages;

static struct page *make_pages(uint64_t *random)
{
	struct page *pages;
	size_t i, at;

	pages = calloc(nr_pages, sizeof(*pages));
	if (!pages)
		return NULL;
	for (i = 0; i < nr_pages; i++)
		for (at = 0; at < PAGE_BYTES; at++)
			pages[i].base[at] = random_next(random) >> 56;
	return pages;
}

/* Has all of them in the CPU's caches, too. */
static void change_pages(struct page *pages, const struct kind *kind,
			 uint64_t *random)
{
	struct page *page;

	for (page = pages; page < pages + nr_pages; page++) {
		memcpy(page->same, page->base, PAGE_BYTES);
		memcpy(page->target, page->base, PAGE_BYTES);
		memcpy(page->page, page->base, PAGE_BYTES);
		kind->change(page->page, random);
	}
}

/* Apart from change_pages(), because these calls must not count as measured. */
static void make_deltas(struct page *pages)
{
	struct page *page;

	for (page = pages; page < pages + nr_pages; page++)
		page->delta_len = xbzrle_encode(page->base, page->page,
						PAGE_BYTES, page->delta,
						DELTA_MAX);
}

static uint8_t delta[DELTA_MAX];

static void call_codec(const struct xbzrle_codec *codec, struct page *page)
{
	xbzrle_encode_by(codec, page->base, page->page, PAGE_BYTES, delta,
			 sizeof(delta));
}

#if defined(__x86_64__)
static void call_avx512bw(struct page *page)
{
	call_codec(&xbzrle_codec_avx512bw, page);
}

static void call_avx2(struct page *page)
{
	call_codec(&xbzrle_codec_avx2, page);
}

static void call_sse2(struct page *page)
{
	call_codec(&xbzrle_codec_sse2, page);
}
#else
#define call_avx512bw	NULL
#define call_avx2	NULL
#define call_sse2	NULL
#endif

#if defined(__aarch64__)
static void call_neon(struct page *page)
{
	call_codec(&xbzrle_codec_neon, page);
}
#else
#define call_neon	NULL
#endif

static void call_scalar(struct page *page)
{
	call_codec(&xbzrle_codec_scalar, page);
}

static void call_naive(struct page *page)
{
	naive_encode(page->base, page->page, PAGE_BYTES, delta, sizeof(delta));
}

/* The instruction counter is pointed at this one, not into the C library. */
static void call_memcmp(struct page *page)
{
	int order = memcmp(page->base, page->same, PAGE_BYTES);

	/* The compiler must not see that nobody wants to know. */
	__asm__ volatile("" : : "r" (order));
}

/* What reading both costs. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__)
__attribute__((target_clones("avx2", "default")))
#endif
static void call_read(struct page *page)
{
	typedef uint64_t vector __attribute__((vector_size(32), aligned(8),
					       may_alias));
	const vector *base = (void *)page->base, *same = (void *)page->same;
	vector a = {}, b = {}, c = {}, d = {};
	size_t i;

	for (i = 0; i < PAGE_BYTES / sizeof(vector); i += 4) {
		a |= base[i] ^ same[i];
		b |= base[i + 1] ^ same[i + 1];
		c |= base[i + 2] ^ same[i + 2];
		d |= base[i + 3] ^ same[i + 3];
	}
	a |= b | c | d;
	__asm__ volatile("" : : "r" (a[0] | a[1]));
}

static void call_naive_decode(struct page *page)
{
	naive_decode(page->delta, page->delta_len, page->target, PAGE_BYTES);
}

static void call_decode(struct page *page)
{
	xbzrle_decode(page->delta, page->delta_len, page->target, PAGE_BYTES);
}

static const struct {
	const char *name;
	void (*call)(struct page *page);
} functions[NR_FUNCTIONS] = {
	[AVX512BW] = { "avx512bw", call_avx512bw },
	[AVX2] = { "avx2", call_avx2 },
	[SSE2] = { "sse2", call_sse2 },
	[NEON] = { "neon", call_neon },
	[SCALAR] = { "scalar", call_scalar },
	[NAIVE] = { "naive", call_naive },
	[MEMCMP] = { "memcmp", call_memcmp },
	[READ] = { "read", call_read },
	[DECODE] = { "decode", call_decode },
	[NAIVE_DECODE] = { "ndecode", call_naive_decode },
};

/* Those of other machines stay away. */
static bool usable(int function)
{
	const struct xbzrle_codec *codec;
	size_t i;

	if (!functions[function].call)
		return false;
	for (i = 0; (codec = xbzrle_codecs[i]); i++)
		if (!strcmp(codec->name, functions[function].name))
			return !codec->usable || codec->usable();
	return true;
}

static bool decodes(int function)
{
	return function == DECODE || function == NAIVE_DECODE;
}

/* Pages that went whole or did not change have no delta. */
static bool applies(const struct page *pages, int function)
{
	return usable(function) &&
	       (!decodes(function) || pages[0].delta_len > 0);
}

static void call_all(struct page *pages, int function)
{
	size_t i;

	for (i = 0; i < nr_pages; i++)
		functions[function].call(&pages[i]);
}

static double ns_per_page(struct page *pages, int function)
{
	struct timespec from, to;

	clock_gettime(CLOCK_MONOTONIC, &from);
	call_all(pages, function);
	clock_gettime(CLOCK_MONOTONIC, &to);
	return ((to.tv_sec - from.tv_sec) * 1e9 + to.tv_nsec - from.tv_nsec) /
	       nr_pages;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), compare_doubles);
	return values[count / 2];
}

static double mean_delta(const struct page *pages)
{
	double sum = 0;
	size_t i;

	for (i = 0; i < nr_pages; i++) {
		if (pages[i].delta_len < 0)
			return -1;
		sum += pages[i].delta_len;
	}
	return sum / nr_pages;
}

/* Returns 0, or -1 without memory. */
static int measure(const struct kind *kind, unsigned int turns,
		   struct result *result)
{
	double *ns[NR_FUNCTIONS];
	uint64_t random = SEED;
	struct page *pages;
	unsigned int turn;
	double *all;
	int f;

	pages = make_pages(&random);
	if (!pages)
		return -1;
	all = calloc((size_t)turns * NR_FUNCTIONS, sizeof(*all));
	if (!all) {
		free(pages);
		return -1;
	}
	for (f = 0; f < NR_FUNCTIONS; f++)
		ns[f] = all + (size_t)f * turns;

	change_pages(pages, kind, &random);
	make_deltas(pages);
	for (turn = 0; turn < turns; turn++)
		for (f = 0; f < NR_FUNCTIONS; f++) {
			if (nr_pages < MANY_PAGES) {
				change_pages(pages, kind, &random);
				if (decodes(f))
					make_deltas(pages);
			}
			if (applies(pages, f))
				ns[f][turn] = ns_per_page(pages, f);
		}

	result->delta_bytes = mean_delta(pages);
	for (f = 0; f < NR_FUNCTIONS; f++) {
		result->ns[f] = applies(pages, f) ? median(ns[f], turns) : -1;
		result->instructions[f] = -1;
	}
	free(all);
	free(pages);
	return 0;
}

static int find_function(const char *name)
{
	int f;

	for (f = 0; f < NR_FUNCTIONS; f++)
		if (!strcmp(functions[f].name, name))
			return f;
	return -1;
}

/* Lines of "kind function instructions", the last one for all pages. */
static int read_instructions(const char *path, struct result *results)
{
	char kind_name[32], function_name[32];
	const struct kind *kind;
	double instructions;
	FILE *file;
	int fields, f;

	file = fopen(path, "r");
	if (!file) {
		fprintf(stderr, "bench: %s: %s\n", path, strerror(errno));
		return -1;
	}
	while ((fields = fscanf(file, "%31s %31s %lf", kind_name,
				function_name, &instructions)) == 3) {
		kind = kind_find(kind_name);
		f = find_function(function_name);
		if (!kind || f < 0)
			break;
		results[kind - kinds].instructions[f] = instructions / nr_pages;
	}
	fclose(file);
	if (fields != EOF) {
		fprintf(stderr, "bench: %s: malformed\n", path);
		return -1;
	}
	return 0;
}

static void print_cell(int width, int digits, double value)
{
	if (value < 0)
		printf(" %*s", width, "-");
	else
		printf(" %*.*f", width, digits, value);
}

/* What takes twice as long as the codec is 2. */
static double ratio(const double *values, int function, int to)
{
	if (values[function] <= 0 || values[to] <= 0)
		return -1;
	return values[to] / values[function];
}

static double get_ns(const struct result *result, int f)
{
	return result->ns[f];
}

/* Against the plain encoder, or the plain decoder. */
static double get_ratio(const struct result *result, int f)
{
	return ratio(result->ns, f,
		     decodes(f) ? NAIVE_DECODE : NAIVE);
}

static double get_instructions(const struct result *result, int f)
{
	return result->instructions[f];
}

static void print_part(const char *title, const struct result *results,
		       int digits,
		       double (*get)(const struct result *result, int f))
{
	size_t i;
	int f;

	printf("\n%-18s %7s", title, "delta");
	for (f = 0; f < NR_FUNCTIONS; f++)
		if (usable(f))
			printf(" %8s", functions[f].name);
	puts("");
	for (i = 0; i < NR_KINDS; i++) {
		printf("%-18s", kinds[i].name);
		print_cell(7, 0, results[i].delta_bytes);
		for (f = 0; f < NR_FUNCTIONS; f++)
			if (usable(f))
				print_cell(8, digits, get(&results[i], f));
		puts("");
	}
}

static void print_table(const struct result *results, bool counted)
{
	printf("Per page of 4096 bytes, %zu pages of each kind.\n", nr_pages);
	puts("A delta of - is a page that goes whole.");
	print_part("nanoseconds", results, 0, get_ns);
	print_part("times naive", results, 2, get_ratio);
	if (counted)
		print_part("instructions", results, 0, get_instructions);
}

static json_t *json_number(double value)
{
	return value < 0 ? json_null() : json_real(value);
}

static json_t *json_functions(const double *values)
{
	json_t *object = json_object();
	int f;

	for (f = 0; f < NR_FUNCTIONS; f++)
		if (usable(f))
			json_object_set_new(object, functions[f].name,
					    json_number(values[f]));
	return object;
}

static json_t *json_result(const char *kind, const struct result *result)
{
	double naive[NR_FUNCTIONS], compared[NR_FUNCTIONS], floor[NR_FUNCTIONS];
	int f;

	for (f = 0; f < NR_FUNCTIONS; f++) {
		naive[f] = get_ratio(result, f);
		compared[f] = ratio(result->ns, f, MEMCMP);
		floor[f] = ratio(result->ns, f, READ);
	}
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}",
			 "kind", kind,
			 "delta_bytes", json_number(result->delta_bytes),
			 "ns", json_functions(result->ns),
			 "naive_to", json_functions(naive),
			 "memcmp_to", json_functions(compared),
			 "read_to", json_functions(floor),
			 "instructions", json_functions(result->instructions));
}

static int print_json(const struct result *results)
{
	json_t *pages = json_array();
	json_t *root;
	size_t i;
	int ret;

	for (i = 0; i < NR_KINDS; i++)
		json_array_append_new(pages,
				      json_result(kinds[i].name, &results[i]));
	root = json_pack("{s:i, s:I, s:o}", "page_bytes", PAGE_BYTES,
			 "nr_pages", (json_int_t)nr_pages, "pages", pages);
	ret = json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	json_decref(root);
	puts("");
	return ret;
}

static void print_kinds(void)
{
	size_t i;

	for (i = 0; i < NR_KINDS; i++)
		puts(kinds[i].name);
}

enum {
	OPT_LIST = 256,
	OPT_KIND,
	OPT_FUNCTION,
	OPT_INSTRUCTIONS,
};

static const struct argp_option argp_options[] = {
	{ "json", 'j', NULL, 0, "print JSON instead of a table", 0 },
	{ "turns", 't', "N", 0, "turns to take the median of (default 201)", 0 },
	{ "pages", 'p', "N", 0, "pages of each kind (default 32)", 0 },
	{ "instructions", OPT_INSTRUCTIONS, "FILE", 0,
	  "add counted instructions from lines of \"kind function count\"", 0 },
	{ "list", OPT_LIST, NULL, 0, "print the kinds of pages", 0 },
	{ "kind", OPT_KIND, "KIND", 0,
	  "measure nothing, only call --function on pages of this kind", 0 },
	{ "function", OPT_FUNCTION, "NAME", 0,
	  "avx512bw, avx2, sse2, neon, scalar, naive, memcmp, read, decode or ndecode",
	  0 },
	{ 0 }
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;
	char *end;
	unsigned long turns;

	switch (key) {
	case 'j':
		options->json = true;
		return 0;
	case 't':
		turns = strtoul(arg, &end, 10);
		if (*end || !turns || turns > 1000000)
			argp_error(state, "bad number of turns: %s", arg);
		options->turns = turns;
		return 0;
	case 'p':
		turns = strtoul(arg, &end, 10);
		if (*end || !turns || turns > 1000000)
			argp_error(state, "bad number of pages: %s", arg);
		options->pages = turns;
		return 0;
	case OPT_INSTRUCTIONS:
		options->instructions = arg;
		return 0;
	case OPT_LIST:
		print_kinds();
		exit(0);
	case OPT_KIND:
		options->kind = kind_find(arg);
		if (!options->kind)
			argp_error(state, "unknown kind: %s", arg);
		return 0;
	case OPT_FUNCTION:
		options->function = find_function(arg);
		if (options->function < 0)
			argp_error(state, "unknown function: %s", arg);
		return 0;
	case ARGP_KEY_END:
		if (options->kind ? options->function < 0 :
				    options->function >= 0)
			argp_error(state, "--kind and --function go together");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = argp_options,
	.parser = parse_option,
	.doc = "Measure the xbzrle codec.",
};

static int call_only(const struct options *options)
{
	uint64_t random = SEED;
	struct page *pages;

	pages = make_pages(&random);
	if (!pages)
		return -1;
	change_pages(pages, options->kind, &random);
	if (decodes(options->function))
		make_deltas(pages);
	if (applies(pages, options->function))
		call_all(pages, options->function);
	free(pages);
	return 0;
}

static int measure_all(const struct options *options)
{
	static struct result results[NR_KINDS];
	size_t i;

	for (i = 0; i < NR_KINDS; i++)
		if (measure(&kinds[i], options->turns, &results[i])) {
			fputs("bench: out of memory\n", stderr);
			return -1;
		}
	if (options->instructions &&
	    read_instructions(options->instructions, results))
		return -1;
	if (options->json)
		return print_json(results);
	print_table(results, options->instructions);
	return 0;
}

int main(int argc, char **argv)
{
	struct options options = {
		.turns = 201, .pages = NR_PAGES, .function = -1
	};
	int ret;

	if (argp_parse(&argp, argc, argv, 0, NULL, &options))
		return EXIT_FAILURE;
	nr_pages = options.pages;
	ret = options.kind ? call_only(&options) : measure_all(&options);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * What a round costs in the kernel, per dirty page. Run where guest time is
 * instructions executed (QEMU -icount shift=0), by round.sh.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <error.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/xbzrle.h>

#include "kinds.h"

#define PAGES		512
#define ROUNDS		7
#define HARVEST_PAGES	100
#define MIB		(1ULL << 20)

struct cost {
	double write;
	double sync;
	double read;
	double bytes;
};

static uint8_t stream[8 * MIB];

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static int open_session(void)
{
	struct xbzrle_set_cache cache = {
		.size = sizeof(cache), .bytes = 64 * MIB,
	};
	int session = open("/dev/xbzrle", O_RDWR | O_CLOEXEC);

	if (session < 0)
		error(1, errno, "/dev/xbzrle");
	if (ioctl(session, XBZRLE_IOC_SET_CACHE, &cache))
		error(1, errno, "SET_CACHE");
	return session;
}

static uint8_t *map(size_t length, int flags, int fd)
{
	uint8_t *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd,
			       0);

	if (memory == MAP_FAILED)
		error(1, errno, "mmap");
	return memory;
}

static uint8_t *make_owned(int session, size_t length)
{
	struct xbzrle_create create = {
		.size = sizeof(create), .length = length,
		.name = (uintptr_t)"owned", .name_len = 5,
	};

	if (ioctl(session, XBZRLE_IOC_CREATE, &create))
		error(1, errno, "CREATE");
	return map(length, MAP_SHARED, create.fd);
}

static uint8_t *make_registered(int session, size_t length)
{
	uint8_t *memory = map(length, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct xbzrle_register reg = {
		.size = sizeof(reg), .addr = (uintptr_t)memory,
		.length = length, .name = (uintptr_t)"private",
		.name_len = 7,
	};

	if (ioctl(session, XBZRLE_IOC_REGISTER, &reg))
		error(1, errno, "REGISTER");
	return memory;
}

static double sync_cost(int session)
{
	struct xbzrle_sync sync = { .size = sizeof(sync) };
	double start = now();

	if (ioctl(session, XBZRLE_IOC_SYNC, &sync))
		error(1, errno, "SYNC");
	return now() - start;
}

static double read_cost(int session, double *bytes)
{
	double start = now();
	ssize_t len;

	*bytes = 0;
	while ((len = read(session, stream, sizeof(stream))) > 0)
		*bytes += len;
	if (len < 0)
		error(1, errno, "read");
	return now() - start;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof(*values), compare);
	return values[ROUNDS / 2];
}

/* Rounds in which every page changes in one way: cost of each, per page. */
static struct cost kind_cost(const struct kind *kind,
			     uint8_t *(*make)(int, size_t))
{
	double write[ROUNDS], sync[ROUNDS], read[ROUNDS], bytes = 0, start;
	int session = open_session(), i, round;
	uint64_t random = 20261123;
	uint8_t *memory;

	memory = make(session, PAGES * PAGE_BYTES);
	for (i = 0; i < PAGES * PAGE_BYTES; i++)
		memory[i] = random_next(&random);
	sync_cost(session);
	read_cost(session, &bytes);

	for (round = 0; round < ROUNDS; round++) {
		/* A byte written with its old value makes a page dirty too. */
		start = now();
		for (i = 0; i < PAGES; i++)
			*(volatile uint8_t *)&memory[i * PAGE_BYTES] += 0;
		write[round] = (now() - start) / PAGES;
		for (i = 0; i < PAGES; i++)
			kind->change(memory + i * PAGE_BYTES, &random);
		sync[round] = sync_cost(session) / PAGES;
		read[round] = read_cost(session, &bytes) / PAGES;
	}
	munmap(memory, PAGES * PAGE_BYTES);
	close(session);
	return (struct cost){
		.write = median(write), .sync = median(sync),
		.read = median(read), .bytes = bytes / PAGES,
	};
}

/* A SYNC with 100 dirty pages, @stride apart, in a region of @length. */
static double harvest_cost(uint64_t length, uint64_t stride)
{
	int session = open_session(), i, round;
	double sync[ROUNDS], bytes;
	uint8_t *memory = make_owned(session, length);

	for (round = -1; round < ROUNDS; round++) {
		for (i = 0; i < HARVEST_PAGES; i++)
			memory[i * stride] = round;
		if (round < 0)
			sync_cost(session);
		else
			sync[round] = sync_cost(session);
		read_cost(session, &bytes);
	}
	munmap(memory, length);
	close(session);
	return median(sync);
}

static json_t *cost_json(const struct cost *cost)
{
	return json_pack("{s:f, s:f, s:f, s:f}", "fault", cost->write,
			 "sync", cost->sync, "read", cost->read,
			 "stream_bytes", cost->bytes);
}

static json_t *kinds_json(void)
{
	json_t *list = json_array(), *row;
	struct cost owned, pte;
	int i;

	for (i = 0; i < NR_KINDS; i++) {
		owned = kind_cost(&kinds[i], make_owned);
		pte = kind_cost(&kinds[i], make_registered);
		row = json_pack("{s:s, s:o, s:o}", "kind", kinds[i].name,
				"owned", cost_json(&owned),
				"pte", cost_json(&pte));
		json_array_append_new(list, row);
	}
	return list;
}

static json_t *harvest_json(void)
{
	static const uint64_t lengths[] = { 64 * MIB, 16384 * MIB };
	json_t *list = json_array(), *row;
	double adjacent, spread;
	int i;

	for (i = 0; i < 2; i++) {
		adjacent = harvest_cost(lengths[i], PAGE_BYTES);
		spread = harvest_cost(lengths[i], lengths[i] / HARVEST_PAGES /
				      PAGE_BYTES * PAGE_BYTES);
		row = json_pack("{s:I, s:f, s:f}", "region_bytes",
				(json_int_t)lengths[i], "adjacent", adjacent,
				"spread", spread);
		json_array_append_new(list, row);
	}
	return list;
}

static double number(const json_t *object, const char *tracker,
		     const char *name)
{
	return json_real_value(json_object_get(json_object_get(object, tracker),
					       name));
}

static void print_table(const json_t *result)
{
	static const char *const trackers[] = { "owned", "pte" };
	const json_t *row;
	size_t i, t;

	printf("Instructions per dirty page, %d pages, and stream bytes:\n",
	       PAGES);
	printf("%-18s %-6s %7s %7s %7s %10s %7s\n", "page", "", "fault",
	       "SYNC", "read", "SYNC+read", "bytes");
	json_array_foreach(json_object_get(result, "kinds"), i, row)
		for (t = 0; t < 2; t++)
			printf("%-18s %-6s %7.0f %7.0f %7.0f %10.0f %7.0f\n",
			       json_string_value(json_object_get(row, "kind")),
			       trackers[t], number(row, trackers[t], "fault"),
			       number(row, trackers[t], "sync"),
			       number(row, trackers[t], "read"),
			       number(row, trackers[t], "sync") +
			       number(row, trackers[t], "read"),
			       number(row, trackers[t], "stream_bytes"));
	printf("\nInstructions of SYNC, %d dirty pages of an owned region:\n",
	       HARVEST_PAGES);
	printf("%-18s %10s %10s\n", "region", "adjacent", "spread");
	json_array_foreach(json_object_get(result, "harvest"), i, row)
		printf("%11.0f MiB    %10.0f %10.0f\n",
		       (double)json_integer_value(json_object_get(row,
							"region_bytes")) / MIB,
		       json_real_value(json_object_get(row, "adjacent")),
		       json_real_value(json_object_get(row, "spread")));
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	bool *json = state->input;

	(void)arg;
	if (key != 'j')
		return ARGP_ERR_UNKNOWN;
	*json = true;
	return 0;
}

int main(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "json", 'j', NULL, 0, "Print JSON", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		options, parse, NULL,
		"Measure rounds of /dev/xbzrle, in nanoseconds of this machine",
		NULL, NULL, NULL,
	};
	bool json = false;
	json_t *result;

	argp_parse(&argp, argc, argv, 0, NULL, &json);
	result = json_pack("{s:o, s:o}", "kinds", kinds_json(), "harvest",
			   harvest_json());
	if (!result)
		error(1, 0, "out of memory");
	if (json)
		json_dumpf(result, stdout, JSON_INDENT(2) |
			   JSON_REAL_PRECISION(6));
	else
		print_table(result);
	putchar('\n');
	json_decref(result);
	return 0;
}

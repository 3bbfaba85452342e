// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * What a round costs per dirty page, by how pages change, and what a harvest
 * costs in small and large regions. The bench itself is the process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <error.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kinds.h"
#include "round.h"
#include "session.h"

#define PAGES		512
#define ROUNDS		7
#define HARVEST_PAGES	100
#define BUDGET		(64 * MIB)

struct cost {
	double write;
	double sync;
	double read;
	double bytes;
};

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
	double start = now();

	session_sync(session, 0);
	return now() - start;
}

static double read_cost(int session, double *bytes)
{
	double start = now();

	*bytes = session_read(session);
	return now() - start;
}

/* Rounds in which every page changes in one way: cost of each, per page. */
static struct cost kind_cost(const struct kind *kind,
			     uint8_t *(*make)(int, size_t))
{
	double write[ROUNDS], sync[ROUNDS], read[ROUNDS], bytes = 0, start;
	int session = session_open(BUDGET), i, round;
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
		.write = median(write, ROUNDS), .sync = median(sync, ROUNDS),
		.read = median(read, ROUNDS), .bytes = bytes / PAGES,
	};
}

/* A SYNC with 100 dirty pages, @stride apart, in a region of @length. */
static double harvest_cost(uint64_t length, uint64_t stride)
{
	int session = session_open(BUDGET), i, round;
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
	return median(sync, ROUNDS);
}

static json_t *cost_json(const struct cost *cost)
{
	return json_pack("{s:f, s:f, s:f, s:f}", "fault", cost->write,
			 "sync", cost->sync, "read", cost->read,
			 "stream_bytes", cost->bytes);
}

/**
 * round_kinds_measure() - measure rounds of pages that change in each way
 *
 * Return: A list, of an object for each kind.
 */
json_t *round_kinds_measure(void)
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

/**
 * round_harvest_measure() - measure SYNC in regions of different sizes
 *
 * Return: A list, of an object for each size.
 */
json_t *round_harvest_measure(void)
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

/**
 * round_kinds_print() - print what was measured
 * @result: what round_kinds_measure() returned
 */
void round_kinds_print(const json_t *result)
{
	static const char *const trackers[] = { "owned", "pte" };
	const json_t *row;
	size_t i, t;

	printf("Instructions per dirty page, %d pages, and stream bytes:\n",
	       PAGES);
	printf("%-18s %-6s %7s %7s %7s %10s %7s\n", "page", "", "fault",
	       "SYNC", "read", "SYNC+read", "bytes");
	json_array_foreach(result, i, row)
		for (t = 0; t < 2; t++)
			printf("%-18s %-6s %7.0f %7.0f %7.0f %10.0f %7.0f\n",
			       json_string_value(json_object_get(row, "kind")),
			       trackers[t], number(row, trackers[t], "fault"),
			       number(row, trackers[t], "sync"),
			       number(row, trackers[t], "read"),
			       number(row, trackers[t], "sync") +
			       number(row, trackers[t], "read"),
			       number(row, trackers[t], "stream_bytes"));
}

/**
 * round_harvest_print() - print what was measured
 * @result: what round_harvest_measure() returned
 */
void round_harvest_print(const json_t *result)
{
	const json_t *row;
	size_t i;

	printf("Instructions of SYNC, %d dirty pages of an owned region:\n",
	       HARVEST_PAGES);
	printf("%-18s %10s %10s\n", "region", "adjacent", "spread");
	json_array_foreach(result, i, row)
		printf("%11.0f MiB    %10.0f %10.0f\n",
		       (double)json_integer_value(json_object_get(row,
							"region_bytes")) / MIB,
		       json_real_value(json_object_get(row, "adjacent")),
		       json_real_value(json_object_get(row, "spread")));
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * A target for the tool's tests in the VM: it writes all over its heap and a
 * mapping, and on the way its memory map changes in the ways that a real
 * program's does. Says so when there is something to send. usage: tool_writer
 * steady|grow|unmap|drop|guard|threads|shared
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Newer than the C library. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

#define PAGE		4096
#define HEAP_STEP	(1 << 20)
#define HEAP_MAX	(24 << 20)
#define MAP_SIZE	(8 << 20)
/* After so many most pages have been written. */
#define READY_TURNS	150

static uint64_t seed = 1;

static uint64_t draw(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void scribble(char *memory, size_t size, int writes)
{
	uint64_t value;

	while (writes--) {
		value = draw();
		memcpy(memory + draw() % (size / 8) * 8, &value, 8);
	}
}

/* Gives pages back, and reads some of them again: what was there is zero. */
static void drop(char *memory, size_t size)
{
	size_t page = draw() % (size / PAGE), pages = 1 + draw() % 4, i;
	static volatile char sum;

	if (page + pages > size / PAGE)
		return;
	madvise(memory + page * PAGE, pages * PAGE, MADV_DONTNEED);
	for (i = 0; i < pages; i += 2)
		sum += memory[(page + i) * PAGE];
}

/*
 * Guards over what has content, as those of a thread's stack may come and go.
 * Kernels that have none get a hole there.
 */
static void guard(char *memory, unsigned int turn)
{
	char *at = memory + turn * 8 * PAGE;

	memset(at, turn, 2 * PAGE);
	if (madvise(at, PAGE, MADV_GUARD_INSTALL))
		madvise(at, PAGE, MADV_DONTNEED);
	if (turn % 3 == 0 && madvise(at, PAGE, MADV_GUARD_REMOVE) == 0)
		at[turn] = 1;
}

/* Writes without a pause, a word in each page. */
static void *write_on(void *memory)
{
	volatile uint32_t *words = memory;
	uint32_t turn;
	size_t i;

	for (turn = 0;; turn++) {
		for (i = 0; i < MAP_SIZE / 2; i += PAGE)
			words[i / sizeof(*words) + turn % 1000] = turn;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	const struct timespec pause = { .tv_nsec = 2000000 };
	const char *how = argc > 1 ? argv[1] : "steady";
	size_t heap_size = 4 * HEAP_STEP;
	char *heap = sbrk(heap_size);
	unsigned int turn;
	char *map;

	if (!strcmp(how, "shared")) {
		int file = memfd_create("writer", 0);

		/* A part that it never touches where it is mapped. */
		for (turn = 0; turn < 100; turn++) {
			uint64_t value = draw();

			if (pwrite(file, &value, sizeof(value), MAP_SIZE / 2 +
				   draw() % (MAP_SIZE / 16) * 8) < 0)
				return 1;
		}
		if (ftruncate(file, MAP_SIZE))
			return 1;
		map = mmap(NULL, MAP_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			   file, 0);
	} else {
		map = mmap(NULL, MAP_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
	if (heap == (void *)-1 || map == MAP_FAILED)
		return 1;

	if (!strcmp(how, "threads")) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, write_on, map) ||
		    pthread_create(&thread, NULL, write_on, map))
			return 1;
	}

	for (turn = 0;; turn++) {
		/* Without stdio, whose buffer would be in the way of the heap. */
		if (turn == READY_TURNS && write(STDOUT_FILENO, "ready\n", 6) != 6)
			return 1;
		scribble(heap, heap_size, 20);
		scribble(map, MAP_SIZE / 2, 20);
		if (!strcmp(how, "drop")) {
			drop(heap + PAGE, heap_size - 2 * PAGE);
			drop(map, MAP_SIZE / 2);
		}
		if (!strcmp(how, "guard") && turn < MAP_SIZE / 2 / PAGE / 8)
			guard(map + MAP_SIZE / 2, turn);
		if (!strcmp(how, "grow") && turn % 50 == 49 &&
		    heap_size < HEAP_MAX) {
			if (sbrk(HEAP_STEP) == (void *)-1)
				return 1;
			heap_size += HEAP_STEP;
		}
		if (!strcmp(how, "unmap") && turn % 100 == 99) {
			/* A hole, and something new in its place. */
			munmap(map + MAP_SIZE / 4, MAP_SIZE / 4);
			if (mmap(map + MAP_SIZE / 4, MAP_SIZE / 4,
				 PROT_READ | PROT_WRITE, MAP_FIXED |
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
			    MAP_FAILED)
				return 1;
		}
		nanosleep(&pause, NULL);
	}
}

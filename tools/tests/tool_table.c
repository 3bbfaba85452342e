// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * A target that makes memory all the time, by mmap() and brk(), writes to it, and
 * only then puts its address into a table. So a copy of its memory of any one
 * instant has all that the table points to. What is unmapped has left the table
 * before.
 * usage: tool_table run			runs until it is killed; prints where the
 *					table is
 *	  tool_table check TABLE [IMAGE START]...
 *					0 if all that it points to is in the images,
 *					of which START is the first address
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE		4096
#define SLOTS		4096
/* Unmapped at once, so that there is time for a round in between. */
#define BLOCK		1024
/* Every so many pages are the heap's, which only grows. */
#define HEAP_EVERY	32
/* Where it maps: no other mapping comes here. */
#define MAPS_AT		0x200000000000
#define STAMP		0x7461626c65000000

static bool is_heap(uint64_t number)
{
	return number % HEAP_EVERY == 0;
}

static void *page_at(uint64_t number)
{
	return (void *)(uintptr_t)(MAPS_AT + number * PAGE);
}

static void *make_page(uint64_t number)
{
	void *page;

	if (is_heap(number)) {
		page = sbrk(PAGE);
		return page == (void *)-1 ? NULL : page;
	}
	page = mmap(page_at(number), PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	return page == MAP_FAILED ? NULL : page;
}

static void forget(volatile uint64_t *table, uint64_t number)
{
	uint64_t i;

	for (i = number; i < number + BLOCK; i++)
		table[i % SLOTS] = 0;
	munmap(page_at(number), BLOCK * PAGE);
}

static int run(void)
{
	const struct timespec pause = { .tv_nsec = 20000 };
	volatile uint64_t *table, *page;
	uint64_t number;

	table = mmap(NULL, SLOTS * sizeof(*table), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (table == MAP_FAILED)
		return 1;
	printf("%lx\n", (unsigned long)table);
	fflush(stdout);
	for (number = 0;; number++) {
		if (number >= SLOTS && number % BLOCK == 0)
			forget(table, number - SLOTS);
		page = make_page(number);
		if (!page)
			return 1;
		*page = STAMP + number;
		table[number % SLOTS] = (uintptr_t)page;
		nanosleep(&pause, NULL);
	}
}

struct image {
	const char *name;
	uint64_t start, length;
	int fd;
};

static bool get(const struct image *images, int count, uint64_t at,
		uint64_t *word)
{
	int i;

	for (i = 0; i < count; i++) {
		if (at < images[i].start ||
		    at >= images[i].start + images[i].length)
			continue;
		return pread(images[i].fd, word, sizeof(*word),
			     at - images[i].start) == sizeof(*word);
	}
	return false;
}

static int check_table(uint64_t table, const struct image *images, int count)
{
	uint64_t at, word, slot, filled = 0, lost = 0, bad = 0;

	for (slot = 0; slot < SLOTS; slot++) {
		if (!get(images, count, table + slot * sizeof(at), &at)) {
			printf("# the table is not there\n");
			return 1;
		}
		if (!at)
			continue;
		filled++;
		if (!get(images, count, at, &word))
			lost++;
		else if (word < STAMP || (word - STAMP) % SLOTS != slot)
			bad++;
	}
	if (lost || bad || !filled)
		printf("# %llu pointers: %llu to what is not there, %llu to what is old\n",
		       (unsigned long long)filled, (unsigned long long)lost,
		       (unsigned long long)bad);
	return lost || bad || !filled;
}

static int check(const char *table, char **words, int count)
{
	struct image *images = calloc(count + 1, sizeof(*images));
	struct stat stat;
	int i;

	if (!images)
		return 1;
	for (i = 0; i < count; i++) {
		images[i].name = words[2 * i];
		images[i].start = strtoull(words[2 * i + 1], NULL, 16);
		images[i].fd = open(images[i].name, O_RDONLY | O_CLOEXEC);
		if (images[i].fd < 0 || fstat(images[i].fd, &stat)) {
			printf("# %s cannot be read\n", images[i].name);
			return 1;
		}
		images[i].length = stat.st_size;
	}
	return check_table(strtoull(table, NULL, 16), images, count);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "run"))
		return run();
	if (argc >= 3 && argc % 2 && !strcmp(argv[1], "check"))
		return check(argv[2], argv + 3, (argc - 3) / 2);
	return 2;
}

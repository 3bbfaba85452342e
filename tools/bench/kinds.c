// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* The ways in which the pages of the bench change. */
#include <string.h>

#include "kinds.h"

/**
 * random_next() - a step of Marsaglia's xorshift64*
 * @random: the state, never 0
 *
 * Return: The next number.
 */
uint64_t random_next(uint64_t *random)
{
	*random ^= *random >> 12;
	*random ^= *random << 25;
	*random ^= *random >> 27;
	return *random * 0x2545f4914f6cdd1dull;
}

static size_t random_below(uint64_t *random, size_t limit)
{
	return (random_next(random) >> 32) % limit;
}

/* A byte that differs from the one it is XORed to. */
static uint8_t random_flip(uint64_t *random)
{
	return 1 + random_below(random, 255);
}

static void change_nothing(uint8_t *page, uint64_t *random)
{
	(void)page;
	(void)random;
}

static void change_one_byte(uint8_t *page, uint64_t *random)
{
	page[random_below(random, PAGE_BYTES)] ^= random_flip(random);
}

static void change_words(uint8_t *page, uint64_t *random, size_t count)
{
	while (count--) {
		uint64_t word = random_next(random);

		memcpy(page + random_below(random, PAGE_BYTES / 8) * 8, &word,
		       sizeof(word));
	}
}

static void change_10_words(uint8_t *page, uint64_t *random)
{
	change_words(page, random, 10);
}

static void change_64_words(uint8_t *page, uint64_t *random)
{
	change_words(page, random, 64);
}

static void change_run(uint8_t *page, uint64_t *random)
{
	uint8_t *run = page + random_below(random, PAGE_BYTES - 256 + 1);
	size_t i;

	for (i = 0; i < 256; i++)
		run[i] ^= random_flip(random);
}

static void change_tenth(uint8_t *page, uint64_t *random)
{
	size_t i;

	for (i = 0; i < PAGE_BYTES; i++)
		if (!random_below(random, 10))
			page[i] ^= random_flip(random);
}

static void change_every_second(uint8_t *page, uint64_t *random)
{
	size_t i;

	for (i = 1; i < PAGE_BYTES; i += 2)
		page[i] ^= random_flip(random);
}

static void change_all(uint8_t *page, uint64_t *random)
{
	size_t i;

	for (i = 0; i < PAGE_BYTES; i++)
		page[i] ^= random_flip(random);
}

static void change_counters(uint8_t *page, uint64_t *random)
{
	uint32_t counter;
	size_t i;

	for (i = 0; i < PAGE_BYTES; i += 64) {
		memcpy(&counter, page + i, sizeof(counter));
		counter += 1 + random_below(random, 1000);
		memcpy(page + i, &counter, sizeof(counter));
	}
}

const struct kind kinds[NR_KINDS] = {
	{ "identical", change_nothing },
	{ "1-byte", change_one_byte },
	{ "10-words", change_10_words },
	{ "64-words", change_64_words },
	{ "256-byte-run", change_run },
	{ "10%-random", change_tenth },
	{ "every-second-byte", change_every_second },
	{ "all-changed", change_all },
	{ "counters", change_counters },
};

/**
 * kind_find() - have a kind by its name
 * @name: name
 *
 * Return: The kind, or NULL if there is none of that name.
 */
const struct kind *kind_find(const char *name)
{
	size_t i;

	for (i = 0; i < NR_KINDS; i++)
		if (!strcmp(kinds[i].name, name))
			return &kinds[i];
	return NULL;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <errno.h>
#include <error.h>
#include <stddef.h>
#include <stdlib.h>

#include "bases.h"
#include "kinds.h"

/* Candidates for eviction that are looked at for a page. */
#define CANDIDATES	8

/**
 * bases_begin() - begin with no bases
 * @bases: filled in
 * @capacity: how many bases the budget has room for
 * @pages: pages of the memory
 */
void bases_begin(struct bases *bases, uint32_t capacity, uint32_t pages)
{
	*bases = (struct bases){
		.slots = calloc(capacity, sizeof(*bases->slots)),
		.capacity = capacity,
		.index = calloc(pages, sizeof(*bases->index)),
	};
	if (!bases->slots || !bases->index)
		error(1, 0, "out of memory");
}

/**
 * bases_find() - look a base up
 * @bases: bases
 * @page: index of the page
 *
 * Return: The base or NULL.
 */
struct base *bases_find(const struct bases *bases, uint32_t page)
{
	uint32_t slot = bases->index[page];

	return slot ? &bases->slots[slot - 1] : NULL;
}

/* One that the round before did not send. */
static struct base *choose_victim(struct bases *bases, uint32_t round)
{
	struct base *base;
	int i;

	for (i = 0; i < CANDIDATES; i++) {
		base = &bases->slots[bases->hand++ % bases->capacity];
		if (base->round + 1 < round)
			return base;
	}
	return NULL;
}

static uint8_t *new_page(void)
{
	uint8_t *page = malloc(PAGE_BYTES);

	if (!page)
		error(1, 0, "out of memory");
	return page;
}

/**
 * bases_admit() - offer the content of a page that has no base
 * @bases: bases
 * @page: index of the page
 * @content: what was sent; not the caller's any more
 * @round: number of the round
 *
 * Return: A page that is the caller's from now on.
 */
uint8_t *bases_admit(struct bases *bases, uint32_t page, uint8_t *content,
		     uint32_t round)
{
	struct base *base;
	uint8_t *spare;

	if (bases->nr < bases->capacity) {
		base = &bases->slots[bases->nr++];
		spare = new_page();
	} else {
		base = choose_victim(bases, round);
		if (!base)
			return content;
		bases->index[base->page] = 0;
		spare = base->content;
	}
	*base = (struct base){ content, page, round };
	bases->index[page] = base - bases->slots + 1;
	return spare;
}

/**
 * bases_end() - free all bases
 * @bases: bases
 */
void bases_end(struct bases *bases)
{
	uint32_t i;

	for (i = 0; i < bases->nr; i++)
		free(bases->slots[i].content);
	free(bases->slots);
	free(bases->index);
}

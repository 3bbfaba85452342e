// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <errno.h>
#include <stdlib.h>

#include "account.h"

/* Pages of which the first that comes has memory taken for all. */
#define CHUNK	4096
/* Pages that have a page table of their own, where they have content in memory. */
#define TABLE	512

struct account_chunk {
	struct account_chunk *next_fresh;
	uint64_t first;
	bool is_fresh;		/* it is in the list */
	uint8_t pages[CHUNK];
};

/**
 * xbzrle_account_take() - take some of the budget
 * @account: whose memory it is
 * @bytes: how much
 * @budget: budget
 * @err: set on failure
 *
 * Return: 0, or -ENOBUFS if there is not so much.
 */
int xbzrle_account_take(struct account *account, uint64_t bytes,
			struct account_budget *budget, struct xbzrle_error *err)
{
	if (bytes > budget->limit - budget->taken)
		return xbzrle_fail(err, ENOBUFS, 0,
				   "the pages that came take more than the %llu bytes of memory that they may",
				   (unsigned long long)budget->limit);
	budget->taken += bytes;
	account->bytes += bytes;
	return 0;
}

/**
 * xbzrle_account_begin() - begin with a region of which nothing came
 * @account: filled in
 * @pages: how many it has
 * @budget: what it takes its memory of
 * @err: set on failure
 *
 * Return: 0, -ENOBUFS or -ENOMEM.
 */
int xbzrle_account_begin(struct account *account, uint64_t pages,
			 struct account_budget *budget,
			 struct xbzrle_error *err)
{
	uint64_t chunks = (pages + CHUNK - 1) / CHUNK;
	int ret;

	*account = (struct account){ .pages = pages };
	ret = xbzrle_account_take(account, chunks * sizeof(*account->chunks),
				  budget, err);
	if (ret)
		return ret;
	account->chunks = calloc(chunks, sizeof(*account->chunks));
	if (account->chunks)
		return 0;
	xbzrle_account_end(account, budget);
	return xbzrle_fail(err, ENOMEM, 0,
			   "no memory to keep account of %llu pages",
			   (unsigned long long)pages);
}

/**
 * xbzrle_account_end() - forget a region
 * @account: account
 * @budget: gets back what it took
 */
void xbzrle_account_end(struct account *account, struct account_budget *budget)
{
	uint64_t i;

	for (i = 0; account->chunks && i < (account->pages + CHUNK - 1) / CHUNK;
	     i++)
		free(account->chunks[i]);
	free(account->chunks);
	budget->taken -= account->bytes;
	*account = (struct account){};
}

/**
 * xbzrle_account_receive() - a page came for the first time
 * @account: account
 * @page: its number
 * @budget: budget
 * @err: set on failure
 *
 * It is received and fresh then.
 *
 * Return: 0, -ENOBUFS or -ENOMEM.
 */
int xbzrle_account_receive(struct account *account, uint64_t page,
			   struct account_budget *budget,
			   struct xbzrle_error *err)
{
	struct account_chunk **chunk = &account->chunks[page / CHUNK];
	int ret;

	if (!*chunk) {
		ret = xbzrle_account_take(account, sizeof(**chunk), budget,
					  err);
		if (ret)
			return ret;
		*chunk = calloc(1, sizeof(**chunk));
		if (!*chunk)
			return xbzrle_fail(err, ENOMEM, 0,
					   "no memory to keep account of pages");
		(*chunk)->first = page - page % CHUNK;
	}
	if (!(*chunk)->is_fresh) {
		(*chunk)->is_fresh = true;
		(*chunk)->next_fresh = account->fresh;
		account->fresh = *chunk;
	}
	(*chunk)->pages[page % CHUNK] = ACCOUNT_RECEIVED | ACCOUNT_FRESH;
	return 0;
}

/**
 * xbzrle_account_get() - what is known of a page
 * @account: account
 * @page: its number
 *
 * Return: ACCOUNT_* bits.
 */
uint8_t xbzrle_account_get(const struct account *account, uint64_t page)
{
	const struct account_chunk *chunk = account->chunks[page / CHUNK];

	return chunk ? chunk->pages[page % CHUNK] : 0;
}

/**
 * xbzrle_account_needs_table() - is it the first with content in its page table?
 * @account: account
 * @page: number of a page that was received
 *
 * Return: true if so.
 */
bool xbzrle_account_needs_table(const struct account *account, uint64_t page)
{
	const uint8_t *pages = account->chunks[page / CHUNK]->pages +
			       page % CHUNK / TABLE * TABLE;
	unsigned int i;

	for (i = 0; i < TABLE; i++) {
		if (pages[i] & ACCOUNT_STORED)
			return false;
	}
	return true;
}

/**
 * xbzrle_account_store() - a page has content, or is a hole
 * @account: account
 * @page: number of a page that was received
 * @stored: which of the two
 */
void xbzrle_account_store(struct account *account, uint64_t page, bool stored)
{
	uint8_t *state = &account->chunks[page / CHUNK]->pages[page % CHUNK];

	*state = (*state & ~ACCOUNT_STORED) | (stored ? ACCOUNT_STORED : 0);
}

static void leave_list(struct account *account)
{
	struct account_chunk *chunk = account->fresh;

	account->fresh = chunk->next_fresh;
	chunk->is_fresh = false;
}

/**
 * xbzrle_account_settle() - the round is complete: no page is fresh any more
 * @account: account
 */
void xbzrle_account_settle(struct account *account)
{
	unsigned int i;

	while (account->fresh) {
		for (i = 0; i < CHUNK; i++)
			account->fresh->pages[i] &= ~ACCOUNT_FRESH;
		leave_list(account);
	}
}

/**
 * xbzrle_account_undo() - forget fresh pages
 * @account: account
 * @first: set to the first of some that follow each other
 * @count: set to how many
 *
 * Return: false if there are none any more.
 */
bool xbzrle_account_undo(struct account *account, uint64_t *first,
			 uint64_t *count)
{
	struct account_chunk *chunk;
	unsigned int i;

	while ((chunk = account->fresh)) {
		for (i = 0; i < CHUNK && !(chunk->pages[i] & ACCOUNT_FRESH);)
			i++;
		*first = chunk->first + i;
		for (*count = 0; i < CHUNK && chunk->pages[i] & ACCOUNT_FRESH;
		     ++*count)
			chunk->pages[i++] = 0;
		if (*count)
			return true;
		leave_list(account);
	}
	return false;
}

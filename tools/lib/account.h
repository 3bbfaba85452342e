/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * What is known of the pages of a region, and how much memory that may take. A
 * sender chooses how long regions are and which pages come, so what is kept grows
 * with the pages that came and not with the length.
 */
#ifndef _XBZRLE_ACCOUNT_H
#define _XBZRLE_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "xbzrle.h"

/* Of a page. */
#define ACCOUNT_RECEIVED	0x01	/* a record of it was taken */
#define ACCOUNT_STORED		0x02	/* it is not a hole */
#define ACCOUNT_FRESH		0x04	/* received in this round, and not before */

/**
 * struct account_budget - memory of all regions of an image
 * @limit: bytes that may be taken
 * @taken: bytes that are
 */
struct account_budget {
	uint64_t limit;
	uint64_t taken;
};

struct account_chunk;

/**
 * struct account - of the pages of one region
 * @pages: how many it has
 * @bytes: what is taken of the budget for it
 * @chunks: of so many pages each, NULL where none was received
 * @fresh: list of those that have fresh pages
 */
struct account {
	uint64_t pages;
	uint64_t bytes;
	struct account_chunk **chunks;
	struct account_chunk *fresh;
};

int xbzrle_account_begin(struct account *account, uint64_t pages,
			 struct account_budget *budget,
			 struct xbzrle_error *err);
void xbzrle_account_end(struct account *account,
			struct account_budget *budget);
int xbzrle_account_take(struct account *account, uint64_t bytes,
			struct account_budget *budget,
			struct xbzrle_error *err);
int xbzrle_account_receive(struct account *account, uint64_t page,
			   struct account_budget *budget,
			   struct xbzrle_error *err);
uint8_t xbzrle_account_get(const struct account *account, uint64_t page);
bool xbzrle_account_needs_table(const struct account *account, uint64_t page);
void xbzrle_account_store(struct account *account, uint64_t page, bool stored);
void xbzrle_account_settle(struct account *account);
bool xbzrle_account_undo(struct account *account, uint64_t *first,
			 uint64_t *count);

#endif /* _XBZRLE_ACCOUNT_H */

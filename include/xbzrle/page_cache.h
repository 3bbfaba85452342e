/* SPDX-License-Identifier: GPL-2.0-only */
/* The bases: for a unit, a page with the content that was last sent of it. */
#ifndef _XBZRLE_PAGE_CACHE_H
#define _XBZRLE_PAGE_CACHE_H

#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/xarray.h>

struct page;

/**
 * struct xbzrle_use - in which of the latest rounds a unit was sent
 * @rounds: a bit for each, the highest for @last
 * @last: the latest, modulo 2 ^ 32
 */
struct xbzrle_use {
	u32 rounds;
	u32 last;
};

/**
 * struct xbzrle_base - what the cache holds for one unit
 * @page: the content last sent; the entry owns one reference
 * @key: where the entry stands in the cache
 * @use: when its unit was sent
 * @slot: its place in the cache's slots
 * @overflows: deltas in a row that overflowed
 * @busy: a reader encodes against it, so it is not to be evicted
 */
struct xbzrle_base {
	struct page *page;
	unsigned long key;
	struct xbzrle_use *use;
	u32 slot;
	u8 overflows;
	bool busy;
};

/**
 * struct xbzrle_cache - bases and moments within a budget
 * @lock: all that follows, but @next_key; innermost
 * @entries: key to struct xbzrle_base, or to a value: a unit whose deltas kept
 *	overflowing, with its overflow count and the accesses to sit out
 * @slots: all bases, densely, to draw candidates for eviction from
 * @moments: key to the page that a round is to have of the unit, or to a value
 *	for a hole
 * @capacity: pages that fit the budget
 * @used: bases held
 * @held: pages in @moments
 * @sitting_out: values in @entries, bounded so that they stay small beside
 *	the bases
 * @dropping: no base is admitted, as @uses are being freed
 * @uses: arrays of struct xbzrle_use, by key / XBZRLE_CACHE_USE_LEAF; made
 *	where a unit was sent; freed under the session's lock
 * @round: number of the round
 * @crowded: the latest in which a unit wanted a base and there was no room
 * @next_key: the first key that was never given to anybody; session's lock
 * @hand: where the next victim is looked for
 * @evicted: bases dropped to make room or to shrink
 * @reclaimed: bases dropped because the system needed memory
 * @refused: bases not admitted because none of those looked at was worth less
 */
struct xbzrle_cache {
	spinlock_t lock; /* innermost */
	struct xarray entries;
	struct xarray slots;
	struct xarray moments;
	u32 capacity;
	u32 used;
	u32 held;
	u32 sitting_out;
	bool dropping;
	struct xarray uses;
	u32 round;
	u32 crowded;
	unsigned long next_key;
	u32 hand;
	u64 evicted;
	u64 reclaimed;
	u64 refused;
};

#define XBZRLE_CACHE_USE_LEAF	512

void xbzrle_cache_init(struct xbzrle_cache *cache);
void xbzrle_cache_destroy(struct xbzrle_cache *cache);
unsigned long xbzrle_cache_reserve(struct xbzrle_cache *cache,
				   unsigned long nr);
void xbzrle_cache_resize(struct xbzrle_cache *cache, u64 bytes);
struct page *xbzrle_cache_take(struct xbzrle_cache *cache);
unsigned long xbzrle_cache_shrink(struct xbzrle_cache *cache, unsigned long nr);
void xbzrle_cache_begin_round(struct xbzrle_cache *cache);

struct xbzrle_base *xbzrle_cache_find(struct xbzrle_cache *cache,
				      unsigned long key, bool *sits_out);
struct page *xbzrle_cache_settle(struct xbzrle_cache *cache,
				 struct xbzrle_base *base, struct page *page,
				 bool overflow);
void xbzrle_cache_count(struct xbzrle_cache *cache, unsigned long key);
bool xbzrle_cache_wants(struct xbzrle_cache *cache, unsigned long key,
			struct page **spare);
struct page *xbzrle_cache_admit(struct xbzrle_cache *cache, unsigned long key,
				struct page *page, bool sent);
int xbzrle_cache_hold(struct xbzrle_cache *cache, unsigned long key,
		      struct page *page, bool may_evict);
bool xbzrle_cache_holds(struct xbzrle_cache *cache, unsigned long key);
bool xbzrle_cache_release(struct xbzrle_cache *cache, unsigned long key,
			  struct page **page);
void xbzrle_cache_release_all(struct xbzrle_cache *cache);
void xbzrle_cache_drop_base(struct xbzrle_cache *cache, unsigned long key);
void xbzrle_cache_drop_bases(struct xbzrle_cache *cache);
void xbzrle_cache_drop(struct xbzrle_cache *cache, unsigned long first,
		       unsigned long nr);

#endif /* _XBZRLE_PAGE_CACHE_H */

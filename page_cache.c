// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which bases are worth their memory? A round visits its dirty pages in
 * address order, so when they outnumber the cache, recency says nothing: the
 * page used longest ago is the one needed next. What tells is in how many
 * rounds a page was sent of late. A byte per unit counts them and is halved
 * every few rounds, and a page takes the place of another only if it was sent
 * in more of them. A sweep over cold pages then passes by the hot set, and of
 * a cyclic set larger than the cache a fixed part stays.
 */
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include <xbzrle/page_cache.h>
#include "xbzrle_trace.h"

/* Bases drawn at random for one eviction, of which the least used goes. */
#define VICTIM_CANDIDATES	8
/* Without memory a base is not kept, and nobody need be killed for it. */
#define CACHE_GFP	(GFP_KERNEL_ACCOUNT | __GFP_NORETRY | __GFP_NOWARN)
/* Rounds between two halvings of the counters. */
#define FREQ_ROUNDS		4
#define SLOTS_MIN		64
/* Overflows in a row until a unit loses its base and sits out. */
#define OVERFLOWS_TOLERATED	2
#define SIT_OUT_MAX		64U

/*
 * A value in the array: overflows so far and accesses still to sit out, which
 * double with every further overflow.
 */
static void *sit_out_entry(unsigned int overflows, unsigned int wait)
{
	return xa_mk_value((unsigned long)overflows << 8 | wait);
}

static unsigned int sit_out_overflows(void *entry)
{
	return xa_to_value(entry) >> 8;
}

static unsigned int sit_out_wait(void *entry)
{
	return xa_to_value(entry) & 0xff;
}

/* The unit's counter; made if there is none. NULL without memory. */
static u8 *freq_counter(struct xbzrle_cache *cache, unsigned long key)
{
	unsigned long index = key / XBZRLE_CACHE_FREQ_LEAF;
	u8 *leaf = xa_load(&cache->freq, index);

	if (!leaf) {
		leaf = kzalloc(XBZRLE_CACHE_FREQ_LEAF, CACHE_GFP);
		if (!leaf)
			return NULL;
		if (xa_is_err(xa_store(&cache->freq, index, leaf,
				       CACHE_GFP))) {
			kfree(leaf);
			return NULL;
		}
	}
	return leaf + key % XBZRLE_CACHE_FREQ_LEAF;
}

static void freq_halve(struct xbzrle_cache *cache)
{
	unsigned long index, i;
	u64 *leaf;

	xa_for_each(&cache->freq, index, leaf) {
		for (i = 0; i < XBZRLE_CACHE_FREQ_LEAF / sizeof(*leaf); i++)
			leaf[i] = leaf[i] >> 1 & 0x7f7f7f7f7f7f7f7fULL;
		cond_resched();
	}
}

/* A step of a linear congruential generator; its high bits are the better. */
static u32 draw(struct xbzrle_cache *cache, u32 below)
{
	cache->rnd = cache->rnd * 6364136223846793005ULL + 1442695040888963407ULL;
	return (cache->rnd >> 32) * below >> 32;
}

static struct xbzrle_base *draw_victim(struct xbzrle_cache *cache)
{
	struct xbzrle_base *victim = NULL, *base;
	int i;

	for (i = 0; i < VICTIM_CANDIDATES; i++) {
		base = cache->slots[draw(cache, cache->used)];
		if (!victim || *base->freq < *victim->freq)
			victim = base;
	}
	return victim;
}

/* Room for one more base in the slots. */
static int slots_reserve(struct xbzrle_cache *cache)
{
	u32 nr_slots = max_t(u32, SLOTS_MIN, cache->nr_slots * 2);
	struct xbzrle_base **slots;

	if (cache->used < cache->nr_slots)
		return 0;
	slots = kvmalloc_array(nr_slots, sizeof(*slots), CACHE_GFP);
	if (!slots)
		return -ENOMEM;
	if (cache->used)
		memcpy(slots, cache->slots, cache->used * sizeof(*slots));
	kvfree(cache->slots);
	cache->slots = slots;
	cache->nr_slots = nr_slots;
	return 0;
}

/* Free the base itself, after its entry was erased or replaced. */
static void base_free(struct xbzrle_cache *cache, struct xbzrle_base *base)
{
	struct xbzrle_base *last = cache->slots[--cache->used];

	cache->slots[base->slot] = last;
	last->slot = base->slot;
	kfree(base);
}

/* Returns the base's page, whose reference is the caller's. */
static struct page *evict(struct xbzrle_cache *cache, struct xbzrle_base *base)
{
	struct page *page = base->page;

	trace_xbzrle_evict(base->key, *base->freq);
	xa_erase(&cache->entries, base->key);
	base_free(cache, base);
	return page;
}

/**
 * xbzrle_cache_init() - make a cache without a budget
 * @cache: the cache
 *
 * Context: any.
 */
void xbzrle_cache_init(struct xbzrle_cache *cache)
{
	memset(cache, 0, sizeof(*cache));
	xa_init_flags(&cache->entries, XA_FLAGS_ACCOUNT);
	xa_init_flags(&cache->freq, XA_FLAGS_ACCOUNT);
}

/**
 * xbzrle_cache_destroy() - free everything the cache holds
 * @cache: the cache
 *
 * Context: may sleep; the owner's lock need not be held any more.
 */
void xbzrle_cache_destroy(struct xbzrle_cache *cache)
{
	xbzrle_cache_drop(cache, 0, ULONG_MAX);
	xa_destroy(&cache->entries);
	xa_destroy(&cache->freq);
	kvfree(cache->slots);
}

/**
 * xbzrle_cache_resize() - set the budget
 * @cache: the cache
 * @bytes: budget for pages with bases, below 2 ^ 32 pages; entries come on top
 *
 * Growing keeps all bases, shrinking evicts the least used.
 *
 * Context: may sleep; owner's lock.
 */
void xbzrle_cache_resize(struct xbzrle_cache *cache, u64 bytes)
{
	cache->capacity = bytes >> PAGE_SHIFT;
	while (cache->used > cache->capacity) {
		put_page(evict(cache, draw_victim(cache)));
		cache->evicted++;
		cond_resched();
	}
	if (!cache->capacity)
		xbzrle_cache_drop(cache, 0, ULONG_MAX);
}

/**
 * xbzrle_cache_take() - have a base's page for something else
 * @cache: the cache, whose budget stays
 *
 * Context: owner's lock; also in reclaim.
 * Return: the page of one of the least used, whose reference is now the
 * caller's; NULL if there is none.
 */
struct page *xbzrle_cache_take(struct xbzrle_cache *cache)
{
	if (!cache->used)
		return NULL;
	cache->reclaimed++;
	return evict(cache, draw_victim(cache));
}

/**
 * xbzrle_cache_shrink() - give memory back
 * @cache: the cache, whose budget stays
 * @nr: bases to free
 *
 * Context: owner's lock; also in reclaim.
 * Return: how many were freed.
 */
unsigned long xbzrle_cache_shrink(struct xbzrle_cache *cache, unsigned long nr)
{
	unsigned long freed = 0;
	struct page *page;

	for (; freed < nr && (page = xbzrle_cache_take(cache)); freed++)
		put_page(page);
	return freed;
}

/**
 * xbzrle_cache_begin_round() - let old accesses count for less
 * @cache: the cache
 *
 * Context: may sleep; owner's lock.
 */
void xbzrle_cache_begin_round(struct xbzrle_cache *cache)
{
	if (++cache->round < FREQ_ROUNDS)
		return;
	cache->round = 0;
	freq_halve(cache);
}

/* Counters stay far below 256: one access a round, halved every few. */
static void freq_count(u8 *freq)
{
	if (*freq < U8_MAX)
		++*freq;
}

/**
 * xbzrle_cache_find() - look a base up and count the access
 * @cache: the cache
 * @key: the unit's key
 * @sits_out: out: the unit's deltas kept overflowing, and the caller should
 *	neither encode nor offer it this time
 *
 * Context: owner's lock; the base is valid until the next call that drops,
 * admits or resizes.
 * Return: the base or NULL.
 */
struct xbzrle_base *xbzrle_cache_find(struct xbzrle_cache *cache,
				      unsigned long key, bool *sits_out)
{
	void *entry = xa_load(&cache->entries, key);
	unsigned int wait;

	*sits_out = false;
	if (!entry)
		return NULL;
	if (!xa_is_value(entry)) {
		struct xbzrle_base *base = entry;

		freq_count(base->freq);
		return base;
	}

	wait = sit_out_wait(entry);
	if (wait) {
		/* The node is there, so this store allocates nothing. */
		xa_store(&cache->entries, key,
			 sit_out_entry(sit_out_overflows(entry), wait - 1),
			 CACHE_GFP);
		*sits_out = true;
	}
	return NULL;
}

/**
 * xbzrle_cache_replace() - a delta against the base was sent
 * @base: the base it was encoded against
 * @page: the content that was sent; the cache takes this reference
 *
 * Context: owner's lock.
 * Return: the page that was the base, whose reference is now the caller's.
 */
struct page *xbzrle_cache_replace(struct xbzrle_base *base, struct page *page)
{
	base->overflows = 0;
	swap(base->page, page);
	return page;
}

/**
 * xbzrle_cache_overflow() - a delta overflowed and the page went whole
 * @cache: the cache
 * @base: the base it overflowed against
 * @page: the content that was sent; the cache takes this reference
 *
 * Context: owner's lock. @base may be gone after it.
 * Return: a page whose reference is now the caller's.
 */
struct page *xbzrle_cache_overflow(struct xbzrle_cache *cache,
				   struct xbzrle_base *base, struct page *page)
{
	unsigned int overflows = min(base->overflows + 1, 8);
	unsigned int wait;

	if (overflows < OVERFLOWS_TOLERATED) {
		page = xbzrle_cache_replace(base, page);
		base->overflows = overflows;
		return page;
	}

	wait = min(1U << (overflows - OVERFLOWS_TOLERATED), SIT_OUT_MAX);
	if (cache->sitting_out < cache->capacity / 4) {
		xa_store(&cache->entries, base->key,
			 sit_out_entry(overflows, wait), CACHE_GFP);
		cache->sitting_out++;
	} else {
		xa_erase(&cache->entries, base->key);
	}
	put_page(base->page);
	base_free(cache, base);
	return page;
}

/**
 * xbzrle_cache_admit() - offer the content of a unit that has no base
 * @cache: the cache
 * @key: the unit's key
 * @page: the content that was sent; the cache takes this reference
 *
 * Context: may sleep; owner's lock.
 * Return: a page whose reference is now the caller's: @page if it was not
 * admitted, or the victim's; NULL when there was room.
 */
struct page *xbzrle_cache_admit(struct xbzrle_cache *cache, unsigned long key,
				struct page *page)
{
	struct xbzrle_base *victim = NULL, *base;
	struct page *spare = NULL;
	void *old;
	u8 *freq;

	if (!cache->capacity)
		return page;
	freq = freq_counter(cache, key);
	if (!freq)
		return page;

	/*
	 * Compared before this access counts: the victim's turn in this round
	 * may be still to come.
	 */
	if (cache->used >= cache->capacity) {
		victim = draw_victim(cache);
		if (*victim->freq >= *freq) {
			freq_count(freq);
			cache->refused++;
			return page;
		}
	}
	freq_count(freq);

	if (slots_reserve(cache))
		return page;
	base = kmalloc(sizeof(*base), CACHE_GFP);
	if (!base)
		return page;
	old = xa_store(&cache->entries, key, base, CACHE_GFP);
	if (xa_is_err(old)) {
		kfree(base);
		return page;
	}

	if (victim) {
		spare = evict(cache, victim);
		cache->evicted++;
	}
	*base = (struct xbzrle_base){
		.page = page,
		.key = key,
		.freq = freq,
		.slot = cache->used,
	};
	if (old) {
		base->overflows = sit_out_overflows(old);
		cache->sitting_out--;
	}
	cache->slots[cache->used++] = base;
	return spare;
}

/**
 * xbzrle_cache_drop() - forget units, for instance of a region that is gone
 * @cache: the cache
 * @first: lowest key
 * @last: highest key
 *
 * Context: may sleep; owner's lock.
 */
void xbzrle_cache_drop(struct xbzrle_cache *cache, unsigned long first,
		       unsigned long last)
{
	struct xbzrle_base *base;
	unsigned long key;
	u8 *leaf;

	xa_for_each_range(&cache->entries, key, base, first, last) {
		xa_erase(&cache->entries, key);
		if (xa_is_value(base)) {
			cache->sitting_out--;
			continue;
		}
		put_page(base->page);
		base_free(cache, base);
		cond_resched();
	}

	/* Arrays of which every unit is dropped. */
	if (last - first < XBZRLE_CACHE_FREQ_LEAF - 1)
		return;
	xa_for_each_range(&cache->freq, key, leaf,
			  DIV_ROUND_UP(first, XBZRLE_CACHE_FREQ_LEAF),
			  (last - XBZRLE_CACHE_FREQ_LEAF + 1) /
			  XBZRLE_CACHE_FREQ_LEAF) {
		xa_erase(&cache->freq, key);
		kfree(leaf);
	}
}

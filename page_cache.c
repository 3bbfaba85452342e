// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which bases are worth their memory? A round visits its dirty pages in
 * address order, so when they outnumber the cache, recency says nothing: the
 * page used longest ago is the one needed next. What tells is how often a page
 * was dirty of late. Each access counts in a small table that is halved at
 * intervals (a count-min sketch), and a page takes the place of another only
 * if it was sent more often before. A sweep over cold pages then passes by
 * the hot set, and of a cyclic set larger than the cache a fixed part stays.
 */
#include <linux/align.h>
#include <linux/hash.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include <xbzrle/page_cache.h>
#include "xbzrle_trace.h"

/* Candidates looked at for one eviction. */
#define VICTIM_CANDIDATES	8
/* Entries passed over in search of them; values are no candidates. */
#define VICTIM_PROBES		32
/* Counters per base, and accesses per base between two halvings. */
#define FREQ_PER_BASE		8
#define FREQ_MAX_COUNTERS	(1UL << 26)
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

static u8 *freq_counter(struct xbzrle_cache *cache, unsigned long key, int row)
{
	u64 hash = (u64)key * GOLDEN_RATIO_64;

	return &cache->freq[(hash >> (row ? 8 : 32)) & cache->freq_mask];
}

static u8 freq_get(struct xbzrle_cache *cache, unsigned long key)
{
	return min(*freq_counter(cache, key, 0), *freq_counter(cache, key, 1));
}

static void freq_halve(struct xbzrle_cache *cache)
{
	u64 *word = (u64 *)cache->freq;
	u64 *end = (u64 *)(cache->freq + cache->freq_mask + 1);

	for (; word < end; word++)
		*word = *word >> 1 & 0x7f7f7f7f7f7f7f7fULL;
	cache->accesses = 0;
}

/* Only the lower counter grows: the other one is shared with another key. */
static void freq_count(struct xbzrle_cache *cache, unsigned long key)
{
	u8 *a = freq_counter(cache, key, 0), *b = freq_counter(cache, key, 1);
	u8 low = min(*a, *b);

	if (low < U8_MAX) {
		if (*a == low)
			*a = low + 1;
		if (*b == low)
			*b = low + 1;
	}
	if (++cache->accesses >= cache->capacity * FREQ_PER_BASE)
		freq_halve(cache);
}

/* The least used of some bases behind the hand, which moves past them. */
static struct xbzrle_base *find_victim(struct xbzrle_cache *cache)
{
	struct xbzrle_base *victim = NULL, *base;
	unsigned int candidates = 0, probes;
	unsigned long key = cache->hand;
	u8 victim_freq = U8_MAX;

	for (probes = 0; candidates < VICTIM_CANDIDATES; probes++) {
		if (victim && probes >= VICTIM_PROBES)
			break;
		base = probes ?
		       xa_find_after(&cache->entries, &key, ULONG_MAX,
				     XA_PRESENT) :
		       xa_find(&cache->entries, &key, ULONG_MAX, XA_PRESENT);
		if (!base) {
			key = 0;
			base = xa_find(&cache->entries, &key, ULONG_MAX,
				       XA_PRESENT);
		}
		if (xa_is_value(base))
			continue;
		candidates++;
		if (!victim || freq_get(cache, key) < victim_freq) {
			victim = base;
			victim_freq = freq_get(cache, key);
		}
	}
	cache->hand = key + 1;
	return victim;
}

static void evict(struct xbzrle_cache *cache, struct xbzrle_base *base)
{
	trace_xbzrle_evict(base->key, freq_get(cache, base->key));
	xa_erase(&cache->entries, base->key);
	cache->used--;
	cache->evicted++;
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
	kvfree(cache->freq);
}

/**
 * xbzrle_cache_resize() - set the budget
 * @cache: the cache
 * @bytes: budget for pages with bases; entries and counters come on top, at
 *	most about 3 % of it
 *
 * Growing keeps all bases, shrinking evicts the least used. What was counted
 * of accesses is forgotten.
 *
 * Context: may sleep; owner's lock.
 * Return: 0, or -ENOMEM and nothing is changed.
 */
int xbzrle_cache_resize(struct xbzrle_cache *cache, u64 bytes)
{
	unsigned long capacity = bytes >> PAGE_SHIFT, counters = 0;
	u8 *freq = NULL;

	if (capacity) {
		counters = min(roundup_pow_of_two(capacity * FREQ_PER_BASE),
			       FREQ_MAX_COUNTERS);
		freq = kvzalloc(counters, GFP_KERNEL_ACCOUNT);
		if (!freq)
			return -ENOMEM;
	}

	while (cache->used > capacity) {
		struct xbzrle_base *victim = find_victim(cache);

		evict(cache, victim);
		put_page(victim->page);
		kfree(victim);
		cond_resched();
	}
	if (!capacity)
		xbzrle_cache_drop(cache, 0, ULONG_MAX);
	kvfree(cache->freq);
	cache->freq = freq;
	cache->freq_mask = counters ? counters - 1 : 0;
	cache->accesses = 0;
	cache->capacity = capacity;
	return 0;
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
		freq_count(cache, key);
		return entry;
	}

	wait = sit_out_wait(entry);
	if (wait) {
		/* The node is there, so this store allocates nothing. */
		xa_store(&cache->entries, key,
			 sit_out_entry(sit_out_overflows(entry), wait - 1),
			 GFP_KERNEL_ACCOUNT);
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
			 sit_out_entry(overflows, wait), GFP_KERNEL_ACCOUNT);
		cache->sitting_out++;
	} else {
		xa_erase(&cache->entries, base->key);
	}
	cache->used--;
	put_page(base->page);
	kfree(base);
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

	if (!cache->capacity)
		return page;

	/*
	 * Compared before this access counts: the victim's turn in this round
	 * may be still to come.
	 */
	if (cache->used >= cache->capacity) {
		victim = find_victim(cache);
		if (freq_get(cache, victim->key) >= freq_get(cache, key)) {
			freq_count(cache, key);
			goto refuse;
		}
	}
	freq_count(cache, key);

	base = kmalloc(sizeof(*base), GFP_KERNEL_ACCOUNT);
	if (!base)
		goto refuse;
	*base = (struct xbzrle_base){ .page = page, .key = key };
	old = xa_store(&cache->entries, key, base, GFP_KERNEL_ACCOUNT);
	if (xa_is_err(old)) {
		kfree(base);
		goto refuse;
	}
	if (old) {
		base->overflows = sit_out_overflows(old);
		cache->sitting_out--;
	}
	cache->used++;

	if (victim) {
		evict(cache, victim);
		spare = victim->page;
		kfree(victim);
	}
	return spare;

refuse:
	cache->refused++;
	return page;
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

	xa_for_each_range(&cache->entries, key, base, first, last) {
		xa_erase(&cache->entries, key);
		if (xa_is_value(base)) {
			cache->sitting_out--;
			continue;
		}
		cache->used--;
		put_page(base->page);
		kfree(base);
		cond_resched();
	}
}

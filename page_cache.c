// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which bases are worth their memory? A round visits its dirty pages in
 * address order, so when they outnumber the cache, recency says nothing: the
 * page used longest ago is the one needed next. What tells is in which of the
 * latest rounds a page was sent: a bit per round and unit, of which later ones
 * count for more. A page takes the place of another only if it is worth more. A
 * sweep over cold pages then passes by the hot set, and of a cyclic set larger
 * than the cache a fixed part stays. A page that was sent again and again and no
 * longer is gives way at once, so that a new hot set takes over as soon as it
 * has come twice.
 *
 * Bases come from two sides: a reader offers what it sent, and page faults
 * offer what is about to change. Both work at the same time, so the cache has a
 * lock of its own. A base that a reader encodes against stays where it is until
 * then.
 *
 * Beside the bases stand the moments: contents that a round is to have although
 * their pages change. They share the budget and come before any base.
 */
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include <xbzrle/page_cache.h>
#include "xbzrle_trace.h"

/* Bases looked at for one eviction, of which the one worth least goes. */
#define VICTIM_CANDIDATES	8
/* Without memory a base is not kept, and nobody need be killed for it. */
#define CACHE_GFP	(GFP_KERNEL_ACCOUNT | __GFP_NORETRY | __GFP_NOWARN)
/* The same under the lock. */
#define LOCKED_GFP	(GFP_NOWAIT | __GFP_ACCOUNT | __GFP_NOWARN)
/* The bit of this round in a unit's history, and those of the latest rounds. */
#define THIS_ROUND		0x80000000U
#define LATEST_4		0xf0000000U
#define LATEST_8		0xff000000U
/* A unit is given up when it is missed for so many of its usual intervals, ... */
#define GIVEN_UP		6
/* ... or at once if it was sent in so many rounds, one after the other. */
#define STEADY			4
/* Overflows in a row until a unit of a crowded cache loses its base and sits out. */
#define OVERFLOWS_TOLERATED	2
#define OVERFLOWS_MAX		8
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

/* When the unit was sent; made if there is none. NULL without memory. */
static struct xbzrle_use *find_use(struct xbzrle_cache *cache,
				   unsigned long key)
{
	unsigned long index = key / XBZRLE_CACHE_USE_LEAF;
	struct xbzrle_use *leaf = xa_load(&cache->uses, index);

	lockdep_assert_held(&cache->lock);
	if (!leaf) {
		leaf = kcalloc(XBZRLE_CACHE_USE_LEAF, sizeof(*leaf),
			       LOCKED_GFP);
		if (!leaf)
			return NULL;
		if (xa_is_err(xa_store(&cache->uses, index, leaf,
				       LOCKED_GFP))) {
			kfree(leaf);
			return NULL;
		}
	}
	return leaf + key % XBZRLE_CACHE_USE_LEAF;
}

/* The rounds in which it was sent, as seen from this one. */
static unsigned int history(const struct xbzrle_cache *cache,
			    const struct xbzrle_use *use)
{
	u32 age = cache->round - use->last;

	return age < BITS_PER_TYPE(use->rounds) ? use->rounds >> age : 0;
}

static void count_use(const struct xbzrle_cache *cache, struct xbzrle_use *use)
{
	lockdep_assert_held(&cache->lock);
	use->rounds = history(cache, use) | THIS_ROUND;
	use->last = cache->round;
}

/*
 * What a base for the unit is worth. Its turn in this round may be still to
 * come, so that this one cannot be missed.
 */
static unsigned int worth(const struct xbzrle_cache *cache,
			  const struct xbzrle_use *use)
{
	unsigned int rounds = history(cache, use), sent, span, missed;

	lockdep_assert_held(&cache->lock);
	/* Never sent: it is about to be, or it is new. */
	if (!use->rounds)
		return 1;
	if (!rounds)
		return 0;
	sent = hweight32(rounds);
	span = fls(rounds) - ffs(rounds) + 1;
	missed = rounds & THIS_ROUND ? 0 : fls(THIS_ROUND) - 1 - fls(rounds);
	if (missed * sent >= GIVEN_UP * span)
		return 0;
	if (missed && sent == span && sent >= STEADY)
		return 1;
	return 1 + sent + 2 * hweight32(rounds & LATEST_8) +
	       4 * hweight32(rounds & LATEST_4);
}

/*
 * Looks at a few that are equally far from each other, and the next time at
 * their neighbours, so that all have their turn. NULL only if there is none but
 * those in use.
 */
static struct xbzrle_base *draw_victim(struct xbzrle_cache *cache)
{
	u32 stride = DIV_ROUND_UP(cache->used, VICTIM_CANDIDATES), slot, turn;
	struct xbzrle_base *victim = NULL, *base;
	unsigned int least = UINT_MAX, value;

	lockdep_assert_held(&cache->lock);
	for (turn = 0; !victim && turn < stride; turn++) {
		if (++cache->hand >= stride)
			cache->hand = 0;
		for (slot = cache->hand; least && slot < cache->used;
		     slot += stride) {
			base = xa_load(&cache->slots, slot);
			value = worth(cache, base->use);
			if (!base->busy && value < least) {
				victim = base;
				least = value;
			}
		}
	}
	return victim;
}

/* Free the base itself, after its entry was erased or replaced. */
static void base_free(struct xbzrle_cache *cache, struct xbzrle_base *base)
{
	struct xbzrle_base *last = xa_erase(&cache->slots, --cache->used);

	lockdep_assert_held(&cache->lock);
	if (last != base) {
		/* The place is there, so this store allocates nothing. */
		xa_store(&cache->slots, base->slot, last, LOCKED_GFP);
		last->slot = base->slot;
	}
	kfree(base);
}

/* Returns the base's page, whose reference is the caller's. */
static struct page *evict(struct xbzrle_cache *cache, struct xbzrle_base *base)
{
	struct page *page = base->page;

	lockdep_assert_held(&cache->lock);
	trace_xbzrle_evict(base->key, worth(cache, base->use));
	xa_erase(&cache->entries, base->key);
	base_free(cache, base);
	return page;
}

static bool cache_full(const struct xbzrle_cache *cache)
{
	lockdep_assert_held(&cache->lock);
	return (u64)cache->used + cache->held >= cache->capacity;
}

/* Was somebody without room, in this round or the last? */
static bool crowded(const struct xbzrle_cache *cache)
{
	lockdep_assert_held(&cache->lock);
	return cache->round - cache->crowded <= 1;
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
	spin_lock_init(&cache->lock);
	cache->crowded = -2U;
	xa_init_flags(&cache->entries, XA_FLAGS_ACCOUNT);
	xa_init_flags(&cache->slots, XA_FLAGS_ACCOUNT);
	xa_init_flags(&cache->moments, XA_FLAGS_ACCOUNT);
	xa_init_flags(&cache->uses, XA_FLAGS_ACCOUNT);
}

/**
 * xbzrle_cache_reserve() - have keys for units
 * @cache: the cache
 * @nr: how many, at least 1
 *
 * Keys are not used again, so that nothing old is found under them. They begin
 * at 0 and leave no room between them, as arrays are deeper for longer keys.
 *
 * Context: session's lock.
 * Return: the first key. The array of uses of the last is nobody else's.
 */
unsigned long xbzrle_cache_reserve(struct xbzrle_cache *cache,
				   unsigned long nr)
{
	unsigned long first = cache->next_key;

	cache->next_key += round_up(nr, XBZRLE_CACHE_USE_LEAF);
	return first;
}

/**
 * xbzrle_cache_resize() - set the budget
 * @cache: the cache
 * @bytes: budget for pages with bases and moments, below 2 ^ 32 pages; entries
 *	come on top
 *
 * Growing keeps all bases, shrinking evicts those worth least. Moments stay.
 *
 * Context: may sleep; session's lock.
 */
void xbzrle_cache_resize(struct xbzrle_cache *cache, u64 bytes)
{
	struct page *page;

	spin_lock(&cache->lock);
	cache->capacity = bytes >> PAGE_SHIFT;
	while (cache->used && (u64)cache->used + cache->held > cache->capacity) {
		page = evict(cache, draw_victim(cache));
		cache->evicted++;
		spin_unlock(&cache->lock);
		put_page(page);
		cond_resched();
		spin_lock(&cache->lock);
	}
	spin_unlock(&cache->lock);
	if (!cache->capacity)
		xbzrle_cache_drop_bases(cache);
}

/**
 * xbzrle_cache_take() - have a base's page for something else
 * @cache: the cache, whose budget stays
 *
 * Context: any but interrupts; also in reclaim.
 * Return: the page of one that is worth least, whose reference is now the
 * caller's; NULL if there is none.
 */
struct page *xbzrle_cache_take(struct xbzrle_cache *cache)
{
	struct xbzrle_base *victim;
	struct page *page = NULL;

	spin_lock(&cache->lock);
	victim = draw_victim(cache);
	if (victim) {
		page = evict(cache, victim);
		cache->reclaimed++;
	}
	spin_unlock(&cache->lock);
	return page;
}

/**
 * xbzrle_cache_shrink() - give memory back
 * @cache: the cache, whose budget stays
 * @nr: bases to free
 *
 * Context: any but interrupts; also in reclaim.
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
 * xbzrle_cache_begin_round() - let what was sent before count for less
 * @cache: the cache
 *
 * Context: any but interrupts; session's lock.
 */
void xbzrle_cache_begin_round(struct xbzrle_cache *cache)
{
	spin_lock(&cache->lock);
	cache->round++;
	spin_unlock(&cache->lock);
}

/**
 * xbzrle_cache_find() - look a base up and count the access
 * @cache: the cache
 * @key: the unit's key
 * @sits_out: out: the unit's deltas kept overflowing, and the caller should
 *	neither encode nor offer it this time
 *
 * Context: any but interrupts; session's lock.
 * Return: NULL, or the base, which stays until xbzrle_cache_settle().
 */
struct xbzrle_base *xbzrle_cache_find(struct xbzrle_cache *cache,
				      unsigned long key, bool *sits_out)
{
	struct xbzrle_base *base = NULL;
	unsigned int wait;
	void *entry;

	*sits_out = false;
	spin_lock(&cache->lock);
	entry = xa_load(&cache->entries, key);
	if (xa_is_value(entry)) {
		wait = sit_out_wait(entry);
		if (wait) {
			/* The node is there, so this allocates nothing. */
			xa_store(&cache->entries, key,
				 sit_out_entry(sit_out_overflows(entry),
					       wait - 1), LOCKED_GFP);
			*sits_out = true;
		}
	} else if (entry) {
		base = entry;
		count_use(cache, base->use);
		base->busy = true;
	}
	spin_unlock(&cache->lock);
	return base;
}

/* Remember a unit's overflows without a base, if there is room for that. */
static void sit_out(struct xbzrle_cache *cache, unsigned long key,
		    unsigned int overflows, unsigned int wait)
{
	lockdep_assert_held(&cache->lock);
	if (overflows && cache->sitting_out < cache->capacity / 4) {
		xa_store(&cache->entries, key, sit_out_entry(overflows, wait),
			 LOCKED_GFP);
		cache->sitting_out++;
	} else {
		xa_erase(&cache->entries, key);
	}
}

/**
 * xbzrle_cache_settle() - a delta against a base was tried
 * @cache: the cache
 * @base: the base, from xbzrle_cache_find()
 * @page: the content that was sent, to be the base from now on; the cache takes
 *	this reference. NULL if the unit needs none until it changes.
 * @overflow: the delta overflowed, and the page went whole
 *
 * Context: any but interrupts; session's lock. @base may be gone after it.
 * Return: a page whose reference is now the caller's.
 */
struct page *xbzrle_cache_settle(struct xbzrle_cache *cache,
				 struct xbzrle_base *base, struct page *page,
				 bool overflow)
{
	unsigned int overflows, wait = 0;
	struct page *old = base->page;

	spin_lock(&cache->lock);
	base->busy = false;
	overflows = overflow ? min(base->overflows + 1, OVERFLOWS_MAX) : 0;
	/* Where nobody wants the place of its base, that may stay. */
	if (overflows >= OVERFLOWS_TOLERATED && crowded(cache))
		wait = min(1U << (overflows - OVERFLOWS_TOLERATED),
			   SIT_OUT_MAX);
	if (page && !wait) {
		base->page = page;
		base->overflows = overflows;
	} else {
		sit_out(cache, base->key, overflows, wait);
		base_free(cache, base);
		if (page)
			put_page(page);
	}
	spin_unlock(&cache->lock);
	return old;
}

/**
 * xbzrle_cache_count() - a unit without a base was sent
 * @cache: the cache
 * @key: its key
 *
 * For one that is not offered, as its base is to be what it is before it
 * changes.
 *
 * Context: any but interrupts.
 */
void xbzrle_cache_count(struct xbzrle_cache *cache, unsigned long key)
{
	struct xbzrle_use *use;

	spin_lock(&cache->lock);
	if (cache->capacity) {
		use = find_use(cache, key);
		if (use)
			count_use(cache, use);
	}
	spin_unlock(&cache->lock);
}

/*
 * Whom to evict for a unit; NULL if its turn has not come. Whatever is sent may
 * have the place of what was given up.
 */
static struct xbzrle_base *choose_victim(struct xbzrle_cache *cache,
					 const struct xbzrle_use *use)
{
	struct xbzrle_base *victim = draw_victim(cache);

	lockdep_assert_held(&cache->lock);
	cache->crowded = cache->round;
	if (victim && worth(cache, victim->use) < max(worth(cache, use), 1U))
		return victim;
	cache->refused++;
	return NULL;
}

/**
 * xbzrle_cache_wants() - would the content of a unit be kept as a base?
 * @cache: the cache
 * @key: the unit's key
 * @spare: out: with true a page that made room, whose reference is now the
 *	caller's, or NULL
 *
 * For whoever has to copy the content first.
 *
 * Context: any but interrupts.
 * Return: whether to come with a copy to xbzrle_cache_admit().
 */
bool xbzrle_cache_wants(struct xbzrle_cache *cache, unsigned long key,
			struct page **spare)
{
	struct xbzrle_base *victim;
	struct xbzrle_use *use;
	bool wants = false;
	void *entry;

	*spare = NULL;
	spin_lock(&cache->lock);
	entry = xa_load(&cache->entries, key);
	if (!cache->capacity || cache->dropping)
		goto unlock;
	/* What is there already is what was sent last. */
	if (entry && (!xa_is_value(entry) || sit_out_wait(entry)))
		goto unlock;
	wants = true;
	if (cache_full(cache)) {
		use = find_use(cache, key);
		victim = use ? choose_victim(cache, use) : NULL;
		wants = victim;
		if (victim) {
			*spare = evict(cache, victim);
			cache->evicted++;
		}
	}
unlock:
	spin_unlock(&cache->lock);
	return wants;
}

/* With room for it. Returns 0 or -ENOMEM. */
static int base_add(struct xbzrle_cache *cache, struct xbzrle_base *base,
		    void *old)
{
	lockdep_assert_held(&cache->lock);
	if (xa_is_err(xa_store(&cache->slots, cache->used, base, LOCKED_GFP)))
		return -ENOMEM;
	if (xa_is_err(xa_store(&cache->entries, base->key, base,
			       LOCKED_GFP))) {
		xa_erase(&cache->slots, cache->used);
		return -ENOMEM;
	}
	base->slot = cache->used++;
	if (old) {
		base->overflows = sit_out_overflows(old);
		cache->sitting_out--;
	}
	return 0;
}

/**
 * xbzrle_cache_admit() - offer the content of a unit that has no base
 * @cache: the cache
 * @key: the unit's key
 * @page: the content that was sent; the cache takes this reference
 * @sent: it was sent just now, which counts; otherwise it is about to change
 *
 * Context: may sleep.
 * Return: a page whose reference is now the caller's: @page if it was not
 * admitted, or the victim's; NULL when there was room.
 */
struct page *xbzrle_cache_admit(struct xbzrle_cache *cache, unsigned long key,
				struct page *page, bool sent)
{
	struct xbzrle_base *base, *victim = NULL;
	struct page *spare = page;
	void *old;

	base = kmalloc(sizeof(*base), CACHE_GFP);
	if (!base)
		return page;
	*base = (struct xbzrle_base){ .page = page, .key = key };

	spin_lock(&cache->lock);
	old = xa_load(&cache->entries, key);
	if (!cache->capacity || cache->dropping || (old && !xa_is_value(old)))
		goto unlock;
	base->use = find_use(cache, key);
	if (!base->use)
		goto unlock;

	/*
	 * Compared before this access counts: the victim's turn in this round
	 * may be still to come.
	 */
	if (cache_full(cache)) {
		victim = choose_victim(cache, base->use);
		if (!victim) {
			if (sent)
				count_use(cache, base->use);
			goto unlock;
		}
	}
	if (sent)
		count_use(cache, base->use);
	/* The victim's place in the slots is there, if that is the last. */
	if (base_add(cache, base, old))
		goto unlock;
	base = NULL;
	spare = NULL;
	if (victim) {
		spare = evict(cache, victim);
		cache->evicted++;
	}
unlock:
	spin_unlock(&cache->lock);
	kfree(base);
	return spare;
}

/**
 * xbzrle_cache_holds() - is something held of a unit?
 * @cache: the cache
 * @key: the unit's key
 *
 * Context: any but interrupts.
 * Return: whether it is, at that moment.
 */
bool xbzrle_cache_holds(struct xbzrle_cache *cache, unsigned long key)
{
	return xa_load(&cache->moments, key);
}

/**
 * xbzrle_cache_hold() - keep what a round is to have of a unit
 * @cache: the cache
 * @key: the unit's key
 * @page: the content; the cache takes this reference. NULL for a hole.
 * @may_evict: a base goes if there is no room
 *
 * Context: may sleep.
 * Return: 0, or -EBUSY if something is held of it already, -ENOSPC over the
 * budget, -ENOMEM; then the reference is the caller's still.
 */
int xbzrle_cache_hold(struct xbzrle_cache *cache, unsigned long key,
		      struct page *page, bool may_evict)
{
	/* A fault with its folio locked may be no reason to kill a process. */
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL |
			  __GFP_NOWARN;
	struct xbzrle_base *victim;
	struct page *spare = NULL;
	int ret = 0;

	/* Not later, when the budget may have no room for a second one. */
	if (xbzrle_cache_holds(cache, key))
		return -EBUSY;
	if (!page)
		return xa_insert(&cache->moments, key, xa_mk_value(0), gfp);

	spin_lock(&cache->lock);
	if (cache_full(cache)) {
		victim = may_evict ? draw_victim(cache) : NULL;
		if (victim) {
			spare = evict(cache, victim);
			cache->evicted++;
		} else {
			ret = -ENOSPC;
		}
	}
	if (!ret)
		cache->held++;
	spin_unlock(&cache->lock);
	if (spare)
		put_page(spare);
	if (ret)
		return ret;

	ret = xa_insert(&cache->moments, key, page, gfp);
	if (ret) {
		spin_lock(&cache->lock);
		cache->held--;
		spin_unlock(&cache->lock);
	}
	return ret;
}

/**
 * xbzrle_cache_release() - have what was held of a unit
 * @cache: the cache
 * @key: the unit's key
 * @page: out: the content, whose reference is now the caller's; NULL for a hole
 *
 * Context: any but interrupts.
 * Return: whether something was held.
 */
bool xbzrle_cache_release(struct xbzrle_cache *cache, unsigned long key,
			  struct page **page)
{
	void *entry = xa_erase(&cache->moments, key);

	*page = NULL;
	if (!entry)
		return false;
	if (!xa_is_value(entry)) {
		*page = entry;
		spin_lock(&cache->lock);
		cache->held--;
		spin_unlock(&cache->lock);
	}
	return true;
}

static void release_range(struct xbzrle_cache *cache, unsigned long first,
			  unsigned long last)
{
	unsigned long key;
	struct page *page;
	void *entry;

	xa_for_each_range(&cache->moments, key, entry, first, last) {
		if (xbzrle_cache_release(cache, key, &page) && page)
			put_page(page);
		cond_resched();
	}
}

/**
 * xbzrle_cache_release_all() - forget everything that is held
 * @cache: the cache
 *
 * Context: may sleep.
 */
void xbzrle_cache_release_all(struct xbzrle_cache *cache)
{
	release_range(cache, 0, ULONG_MAX);
}

/* Whatever of a unit is in the entries. */
static void drop_entry(struct xbzrle_cache *cache, unsigned long key)
{
	struct page *page = NULL;
	void *entry;

	spin_lock(&cache->lock);
	entry = xa_load(&cache->entries, key);
	if (xa_is_value(entry)) {
		xa_erase(&cache->entries, key);
		cache->sitting_out--;
	} else if (entry) {
		page = ((struct xbzrle_base *)entry)->page;
		xa_erase(&cache->entries, key);
		base_free(cache, entry);
	}
	spin_unlock(&cache->lock);
	if (page)
		put_page(page);
}

/* Arrays of which every unit is dropped already; of the last one all are. */
static void drop_uses(struct xbzrle_cache *cache, unsigned long first,
		      unsigned long last)
{
	unsigned long index;
	void *leaf;

	xa_for_each_range(&cache->uses, index, leaf,
			  first / XBZRLE_CACHE_USE_LEAF,
			  last / XBZRLE_CACHE_USE_LEAF) {
		xa_erase(&cache->uses, index);
		kfree(leaf);
		cond_resched();
	}
}

static void drop_entries(struct xbzrle_cache *cache, unsigned long first,
			 unsigned long last)
{
	unsigned long key;
	void *entry;

	xa_for_each_range(&cache->entries, key, entry, first, last) {
		drop_entry(cache, key);
		cond_resched();
	}
}

/* A base that comes meanwhile would point to a use that goes. */
static void set_dropping(struct xbzrle_cache *cache, bool dropping)
{
	spin_lock(&cache->lock);
	cache->dropping = dropping;
	spin_unlock(&cache->lock);
}

/**
 * xbzrle_cache_drop_base() - forget the base of a unit
 * @cache: the cache
 * @key: the unit's key
 *
 * Context: any but interrupts; session's lock.
 */
void xbzrle_cache_drop_base(struct xbzrle_cache *cache, unsigned long key)
{
	if (xa_load(&cache->entries, key))
		drop_entry(cache, key);
}

/**
 * xbzrle_cache_drop_bases() - forget all bases
 * @cache: the cache
 *
 * Context: may sleep; session's lock.
 */
void xbzrle_cache_drop_bases(struct xbzrle_cache *cache)
{
	set_dropping(cache, true);
	drop_entries(cache, 0, ULONG_MAX);
	drop_uses(cache, 0, ULONG_MAX);
	set_dropping(cache, false);
}

static void drop_range(struct xbzrle_cache *cache, unsigned long first,
		       unsigned long last)
{
	drop_entries(cache, first, last);
	release_range(cache, first, last);
	drop_uses(cache, first, last);
}

/**
 * xbzrle_cache_drop() - undo xbzrle_cache_reserve()
 * @cache: the cache
 * @first: the first key
 * @nr: how many were reserved
 *
 * Context: may sleep; session's lock. Nobody offers these units any more.
 */
void xbzrle_cache_drop(struct xbzrle_cache *cache, unsigned long first,
		       unsigned long nr)
{
	drop_range(cache, first,
		   first + round_up(nr, XBZRLE_CACHE_USE_LEAF) - 1);
}

/**
 * xbzrle_cache_destroy() - free everything the cache holds
 * @cache: the cache, which nobody offers anything any more
 *
 * Context: may sleep.
 */
void xbzrle_cache_destroy(struct xbzrle_cache *cache)
{
	drop_range(cache, 0, ULONG_MAX);
	xa_destroy(&cache->entries);
	xa_destroy(&cache->slots);
	xa_destroy(&cache->moments);
	xa_destroy(&cache->uses);
}

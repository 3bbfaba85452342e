// SPDX-License-Identifier: GPL-2.0-only
#include <linux/highmem.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/string.h>

#include <xbzrle/capture.h>
#include <xbzrle/page_cache.h>
#include <xbzrle/race.h>
#include <xbzrle/region.h>

/* Without memory a page has no base. A round of a moment tries harder. */
#define BASE_GFP	(GFP_KERNEL_ACCOUNT | __GFP_NORETRY | __GFP_NOWARN)
#define MOMENT_GFP	(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

/*
 * Is it a page of the process, frozen? Ours are nobody's, and the only ones that
 * may be written.
 */
static bool page_is_frozen(struct page *page)
{
	return PageAnon(page);
}

/* Who has zeros at a moment needs no copy: a hole stands for them. */
static bool page_is_zero(struct page *page)
{
	return !memchr_inv(page_address(page), 0, PAGE_SIZE);
}

/*
 * Not copy_highpage(), which copies the tags of arm64's MTE, too: nobody wants
 * them, and some kernels warn where a page that is used again has some.
 */
static void copy_content(struct page *to, struct page *from)
{
	copy_page(page_address(to), page_address(from));
}

/* Returns 0, also if somebody was faster, -ENOSPC over the budget, -ENOMEM. */
static int keep_moment(struct xbzrle_capturer *capture, unsigned long key,
		       struct page *page)
{
	struct page *copy = NULL;
	int ret;

	if (page && !page_is_zero(page)) {
		copy = alloc_page(MOMENT_GFP);
		if (!copy)
			return -ENOMEM;
		copy_content(copy, page);
	}
	xbzrle_race_window();
	ret = xbzrle_cache_hold(capture->cache, key, copy, true);
	if (ret && copy)
		put_page(copy);
	return ret == -EBUSY ? 0 : ret;
}

static void keep_base(struct xbzrle_capturer *capture, unsigned long key,
		      struct page *page)
{
	struct page *copy;

	if (!READ_ONCE(capture->bases) ||
	    !xbzrle_cache_wants(capture->cache, key, &copy))
		return;
	if (copy && page_is_frozen(copy)) {
		put_page(copy);
		copy = NULL;
	}
	if (!copy)
		copy = alloc_page(BASE_GFP);
	if (!copy)
		return;
	copy_content(copy, page);
	xbzrle_race_window();
	page = xbzrle_cache_admit(capture->cache, key, copy, false);
	if (page != copy)
		atomic_long_inc(&capture->nr_preimages);
	if (page)
		put_page(page);
}

static void capture_keep(struct xbzrle_keeper *keeper,
			 struct xbzrle_region *region, unsigned long unit,
			 struct page *page, bool moment)
{
	struct xbzrle_capturer *capture =
		container_of(keeper, struct xbzrle_capturer, keeper);
	unsigned long key = region->key + unit;

	if (moment && (!page || keep_moment(capture, key, page)))
		WRITE_ONCE(capture->torn, true);
	else if (!moment && page)
		keep_base(capture, key, page);
}

/* One that finds no room is not kept, and the unit copied when its turn comes. */
static void capture_frozen(struct xbzrle_keeper *keeper,
			   struct xbzrle_region *region, unsigned long unit,
			   struct page *page)
{
	struct xbzrle_capturer *capture =
		container_of(keeper, struct xbzrle_capturer, keeper);

	/* In an ordinary round a base is worth more than one copy less. */
	if (xbzrle_cache_hold(capture->cache, region->key + unit, page,
			      region->moment))
		put_page(page);
}

/**
 * xbzrle_capture_init() - begin with nothing captured
 * @capture: the state, zeroed
 * @cache: where pre-images are kept; outlives the regions' use of the keeper
 *
 * Context: any.
 */
void xbzrle_capture_init(struct xbzrle_capturer *capture,
			 struct xbzrle_cache *cache)
{
	capture->cache = cache;
	capture->keeper.keep = capture_keep;
	capture->keeper.frozen = capture_frozen;
}

/* The live page behind a unit, with a reference, or NULL for a hole. */
static int get_live(struct xbzrle_capturer *capture,
		    struct xbzrle_region *region, unsigned long unit,
		    unsigned long nr, struct page **page)
{
	long got;

	if (capture->region != region || unit < capture->unit ||
	    unit - capture->unit >= capture->nr) {
		xbzrle_capture_reset(capture);
		got = region->ops->get(region, unit,
				       min_t(unsigned long, nr,
					     XBZRLE_CAPTURE_BATCH),
				       capture->live);
		if (got < 0)
			return got;
		capture->region = region;
		capture->unit = unit;
		capture->nr = got;
	}
	*page = capture->live[unit - capture->unit];
	capture->live[unit - capture->unit] = NULL;
	return 0;
}

/* Whatever is needed of a unit that may sleep, or wait for memory. */
static int get_unit(struct xbzrle_capturer *capture,
		    struct xbzrle_region *region, unsigned long nr,
		    struct xbzrle_captured *captured)
{
	unsigned long key = region->key + captured->unit;

	*captured = (struct xbzrle_captured){ .unit = captured->unit };
	captured->held = (region->moment ||
			  region->capture == XBZRLE_CAPTURE_FREEZE) &&
			 xbzrle_cache_holds(capture->cache, key);
	if (captured->held)
		return 0;
	xbzrle_race_window();
	return get_live(capture, region, captured->unit, nr, &captured->page);
}

/*
 * Keep writers out of a live page. @last is the last of the lot of which they are
 * kept out already, or NULL; both may be of one folio.
 */
static bool take_still(struct xbzrle_region *region,
		       struct xbzrle_captured *captured,
		       struct xbzrle_captured *last)
{
	bool locked = last &&
		      page_folio(last->page) == page_folio(captured->page);

	if (!region->ops->still(region, captured->unit, captured->page, locked))
		return false;
	captured->still = true;
	if (locked)
		last->goes_on = true;
	return true;
}

/*
 * Put stable content in the place of the live page, which @captured gives up.
 * With an error it has it still. -EAGAIN: not while @last is locked. -ESTALE: the
 * live page is not that of the unit any more.
 */
static int take_unit(struct xbzrle_capturer *capture,
		     struct xbzrle_region *region,
		     struct xbzrle_captured *captured,
		     struct xbzrle_captured *last)
{
	unsigned long key = region->key + captured->unit;
	const struct xbzrle_tracker_ops *ops = region->ops;
	struct page *live = captured->page, *kept;

	if (live && ops->still && take_still(region, captured, last)) {
		capture->nr_still++;
		return 0;
	}
	if (!live && !captured->held && !region->moment)
		return 0;
	/* To wait for faults, or to admit a copy, may be to wait for memory. */
	if (last)
		return -EAGAIN;
	if (captured->held) {
		xbzrle_cache_release(capture->cache, key, &captured->page);
		if (captured->page && page_is_frozen(captured->page))
			capture->nr_frozen++;
		else
			capture->nr_moments++;
		return 0;
	}
	if (region->moment) {
		/* Who was faster, a punch too, has kept it or is about to. */
		xbzrle_region_settle_writes(region);
		if (xbzrle_cache_release(capture->cache, key, &kept)) {
			capture->nr_moments++;
		} else if (READ_ONCE(capture->torn)) {
			return -ENOSPC;
		} else if (live && region->capture == XBZRLE_CAPTURE_PREIMAGE &&
			   !xbzrle_dirty_test(&region->dirty, captured->unit)) {
			/* It was swapped out. */
			return -ESTALE;
		} else if (live || !ops->still) {
			WRITE_ONCE(capture->torn, true);
			return -ENOSPC;
		}
		captured->page = kept;
	} else {
		if (!capture->nr_spares)
			return -ENOMEM;
		captured->page = capture->spares[--capture->nr_spares];
		copy_content(captured->page, live);
		capture->nr_copied++;
	}
	if (live)
		put_page(live);
	return 0;
}

/* Of a unit whose turn comes with the next lot the live page stays. */
static void give_back(struct xbzrle_capturer *capture,
		      const struct xbzrle_captured *captured)
{
	if (!captured->page)
		return;
	if (captured->unit >= capture->unit &&
	    captured->unit - capture->unit < capture->nr)
		capture->live[captured->unit - capture->unit] = captured->page;
	else
		put_page(captured->page);
}

/**
 * xbzrle_capture_lot() - get stable content of pending units
 * @capture: the state
 * @region: the region
 * @unit: where the first is looked for; one is there
 * @max: at most so many, from 1 to XBZRLE_CAPTURE_LOT
 * @captured: out: their contents in order, each for xbzrle_capture_done() when it
 *	was used and the unit is pending no more
 *
 * Each content is that of some moment after the harvest that reported the unit.
 * It is the page itself if its writers can be kept out; otherwise it is copied
 * to a spare page, of which one has to be there. In a round of a moment it is
 * the content of that moment.
 *
 * Pages whose writers are kept out are locked, in the order of their units, and
 * until they are given back nothing may wait for memory. So all live pages are
 * there before the first is locked, and such pages and others are not in one lot.
 *
 * Context: may sleep; session's lock.
 * Return: how many, 0 if the first has to be captured anew, -ENOMEM, -EINTR, -EIO
 * for a page that cannot be read, -ENOSPC if the content of the moment is lost, or
 * the reason the region ended.
 */
int xbzrle_capture_lot(struct xbzrle_capturer *capture,
		       struct xbzrle_region *region, unsigned long unit,
		       unsigned int max, struct xbzrle_captured *captured)
{
	struct xbzrle_captured *last = NULL;
	unsigned int got = 0, nr, i;
	unsigned long run = 0;
	bool copied = false;
	int ret = 0;

	for (; got < max; got++, run--, unit++) {
		if (!run)
			run = xbzrle_dirty_next(&region->pending, &unit,
						XBZRLE_CAPTURE_BATCH);
		if (!run)
			break;
		captured[got].unit = unit;
		ret = get_unit(capture, region, run, &captured[got]);
		if (ret)
			break;
	}
	xbzrle_race_window();
	for (nr = 0; nr < got; nr++) {
		ret = take_unit(capture, region, &captured[nr], last);
		if (ret)
			break;
		if (captured[nr].still && copied) {
			region->ops->loose(captured[nr].page);
			capture->nr_still--;
			break;
		}
		if (captured[nr].still)
			last = &captured[nr];
		else if (captured[nr].page)
			copied = true;
	}
	for (i = nr; i < got; i++)
		give_back(capture, &captured[i]);
	if (ret == -ESTALE)
		xbzrle_capture_reset(capture);
	return nr || ret == -ESTALE ? nr : ret;
}

/**
 * xbzrle_capture_done() - a captured content was used
 * @capture: the state
 * @region: whose
 * @captured: what xbzrle_capture_lot() gave; its page may be another by now,
 *	or NULL
 *
 * Context: session's lock.
 */
void xbzrle_capture_done(struct xbzrle_capturer *capture,
			 struct xbzrle_region *region,
			 struct xbzrle_captured *captured)
{
	if (captured->still) {
		if (!captured->goes_on)
			region->ops->loose(captured->page);
		put_page(captured->page);
	} else {
		xbzrle_capture_spare(capture, captured->page);
	}
}

static int copy_unit(struct xbzrle_capturer *capture,
		     struct xbzrle_region *region, unsigned long unit,
		     unsigned long nr)
{
	unsigned long key = region->key + unit;
	struct page *live;
	int ret;

	/* Frozen, or kept by a fault that was faster. */
	if (xbzrle_cache_holds(capture->cache, key))
		return 0;
	ret = get_live(capture, region, unit, nr, &live);
	if (ret)
		return ret;
	xbzrle_race_window();
	ret = keep_moment(capture, key, live);
	if (live)
		put_page(live);
	return ret;
}

/**
 * xbzrle_capture_moment() - copy what will not be kept when it changes
 * @capture: the state
 * @region: the region, harvested for a round of a moment
 *
 * Where the tracker sees a write begin, that is what is dirty again, as somebody
 * holds it or wrote since the harvest; otherwise all pending units that were not frozen.
 *
 * Context: may sleep; session's lock.
 * Return: 0, -ENOSPC over the budget, -ENOMEM, -EINTR, -EIO for a page that cannot
 * be read, or the reason the region ended.
 */
int xbzrle_capture_moment(struct xbzrle_capturer *capture,
			  struct xbzrle_region *region)
{
	unsigned long unit = 0, nr;
	int ret = 0;

	while (!ret && (nr = xbzrle_dirty_next(&region->pending, &unit,
					       XBZRLE_CAPTURE_BATCH))) {
		if (region->capture != XBZRLE_CAPTURE_PREIMAGE ||
		    xbzrle_dirty_test(&region->dirty, unit))
			ret = copy_unit(capture, region, unit, nr);
		unit++;
		if (fatal_signal_pending(current))
			ret = -EINTR;
		cond_resched();
	}
	xbzrle_capture_reset(capture);
	return ret;
}

/**
 * xbzrle_capture_spare() - give a page for captures to come
 * @capture: the state
 * @page: a page that nobody else has, or one that was frozen, which is let go
 *	of, or NULL
 *
 * Context: session's lock.
 */
void xbzrle_capture_spare(struct xbzrle_capturer *capture, struct page *page)
{
	if (!page)
		return;
	if (capture->nr_spares == ARRAY_SIZE(capture->spares) ||
	    page_is_frozen(page))
		put_page(page);
	else
		capture->spares[capture->nr_spares++] = page;
}

/**
 * xbzrle_capture_reset() - let go of live pages that were taken ahead
 * @capture: the state
 *
 * Context: may sleep; session's lock.
 */
void xbzrle_capture_reset(struct xbzrle_capturer *capture)
{
	unsigned int i;

	for (i = 0; i < capture->nr; i++)
		if (capture->live[i])
			put_page(capture->live[i]);
	capture->nr = 0;
	capture->region = NULL;
}

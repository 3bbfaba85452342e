// SPDX-License-Identifier: GPL-2.0-only
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/byteorder.h>

#include "compat/compat.h"
#include <xbzrle/race.h>
#include <xbzrle/region.h>
#include "xbzrle_trace.h"

/* A unit is a page: trackers see pages, records name units. */
static_assert(PAGE_SIZE == XBZRLE_UNIT_SIZE);

/**
 * xbzrle_region_init() - make the part of a region that all trackers share
 * @region: the region, zeroed
 * @ops: its tracker
 * @name: its name in the stream
 * @name_len: bytes in @name, at most XBZRLE_NAME_MAX
 * @length: bytes, a multiple of PAGE_SIZE from 1 to XBZRLE_MAX_LENGTH
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM.
 */
int xbzrle_region_init(struct xbzrle_region *region,
		       const struct xbzrle_tracker_ops *ops,
		       const char *name, u32 name_len, u64 length)
{
	int ret;

	region->ops = ops;
	region->capture = XBZRLE_CAPTURE_COPY;
	init_rwsem(&region->keeper_lock);
	init_rwsem(&region->punch_lock);
	region->nr_units = length / XBZRLE_UNIT_SIZE;
	region->name_len = name_len;
	memcpy(region->name, name, name_len);

	ret = xbzrle_dirty_init(&region->dirty, region->nr_units);
	if (ret)
		return ret;
	ret = xbzrle_dirty_init(&region->pending, region->nr_units);
	if (ret)
		goto destroy_dirty;
	region->sent = kvcalloc(BITS_TO_LONGS(region->nr_units), sizeof(long),
				GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!region->sent) {
		ret = -ENOMEM;
		goto destroy_pending;
	}
	return 0;

destroy_pending:
	xbzrle_dirty_destroy(&region->pending);
destroy_dirty:
	xbzrle_dirty_destroy(&region->dirty);
	return ret;
}

/**
 * xbzrle_region_destroy() - free what xbzrle_region_init() allocated
 * @region: the region
 *
 * Context: may sleep.
 */
void xbzrle_region_destroy(struct xbzrle_region *region)
{
	kvfree(region->sent);
	xbzrle_dirty_destroy(&region->pending);
	xbzrle_dirty_destroy(&region->dirty);
}

/**
 * xbzrle_region_attach() - say where pre-images go
 * @region: the region
 * @keeper: where; NULL for nowhere, and then no longer used afterwards
 *
 * Context: may sleep; session's lock, or nobody knows the region yet.
 */
void xbzrle_region_attach(struct xbzrle_region *region,
			  struct xbzrle_keeper *keeper)
{
	down_write(&region->keeper_lock);
	WRITE_ONCE(region->keeper, keeper);
	/* Nobody is to have what a punch would keep. */
	if (!keeper)
		WRITE_ONCE(region->moment_begun, false);
	up_write(&region->keeper_lock);
}

/**
 * xbzrle_region_settle_writes() - wait for faults that keep pre-images
 * @region: the region
 *
 * Whatever the caller changed before, the dirty set or that a moment has begun,
 * those that have not seen it are over.
 *
 * Context: may sleep.
 */
void xbzrle_region_settle_writes(struct xbzrle_region *region)
{
	down_write(&region->keeper_lock);
	up_write(&region->keeper_lock);
}

/**
 * xbzrle_region_write() - a unit is about to be written
 * @region: the region, of a tracker that sees every write begin
 * @unit: the unit
 * @page: its page, which nobody can write and no harvest can pass before the
 *	call has returned; NULL for a broken one that is punched out
 *
 * Puts the unit in the dirty set, and has its content kept if this is the first
 * write since a harvest. The content is then what was sent last, or, if the
 * unit is pending, what the round is to have of it. In a round that is not of a
 * moment a later content does as well, so nothing is kept then.
 *
 * Adding the unit comes first. A harvest adds to the pending set before it
 * removes from the dirty one: whoever finds a unit dirty before it is pending,
 * and still in neither set, is seen by that harvest.
 *
 * Context: may sleep; the page's lock.
 */
void xbzrle_region_write(struct xbzrle_region *region, unsigned long unit,
			 struct page *page)
{
	bool moment = false, punching;

	if (!READ_ONCE(region->keeper)) {
		xbzrle_dirty_add(&region->dirty, unit);
		return;
	}

	xbzrle_race_window();
	down_read(&region->keeper_lock);
	/* Before the dirty set, to which a punch adds before it is over. */
	punching = atomic_read(&region->punching);
	if (xbzrle_dirty_test_and_add(&region->dirty, unit) || !region->keeper)
		goto unlock;
	xbzrle_race_window();
	if (xbzrle_dirty_test(&region->pending, unit)) {
		moment = READ_ONCE(region->moment_begun);
		if (!moment)
			goto unlock;
	} else if (!test_bit(unit, region->sent) || punching) {
		goto unlock;
	}
	region->keeper->keep(region->keeper, region, unit, page, moment);
unlock:
	up_read(&region->keeper_lock);
}

/**
 * xbzrle_region_frozen() - a harvest has frozen the page of a pending unit
 * @region: the region
 * @unit: the unit
 * @page: the page, whose reference is taken over
 *
 * Context: may sleep; session's lock.
 */
void xbzrle_region_frozen(struct xbzrle_region *region, unsigned long unit,
			  struct page *page)
{
	region->keeper->frozen(region->keeper, region, unit, page);
}

/**
 * xbzrle_region_found() - a tracker found units to send
 * @region: the region
 * @first: index of the first
 * @nr: how many, at least 1
 *
 * Context: any; session's lock is held by whoever called the tracker.
 */
void xbzrle_region_found(struct xbzrle_region *region, unsigned long first,
			 unsigned long nr)
{
	xbzrle_dirty_add_range(&region->pending, first, nr);
}

/**
 * xbzrle_region_found_sent() - units may have become holes
 * @region: the region
 * @first: index of the first
 * @nr: how many
 *
 * Like xbzrle_region_found() for those that are not zero at the receiver.
 *
 * Context: may sleep; session's lock.
 */
void xbzrle_region_found_sent(struct xbzrle_region *region,
			      unsigned long first, unsigned long nr)
{
	unsigned long end = first + nr, run_end;

	for (;; first = run_end) {
		first = find_next_bit(region->sent, end, first);
		if (first >= end)
			return;
		run_end = find_next_zero_bit(region->sent, end, first);
		xbzrle_region_found(region, first, run_end - first);
		cond_resched();
	}
}

/**
 * xbzrle_region_mark() - add the units of a caller's bitmap to the dirty set
 * @region: the region
 * @first: index of the unit that bit 0 stands for
 * @nr: bits in @bitmap, up to XBZRLE_MARK_CHUNK; all of their units are in the
 *	region
 * @bitmap: bit n is bit n % 8 of byte n / 8, whatever the byte order, as in a
 *	dirty log of KVM. No more bytes are read than it takes, and bits behind
 *	the last are ignored.
 * @bits: out: the same, with the kernel's bitmap functions
 *
 * Context: may sleep; session's lock.
 * Return: 0, or -EFAULT, and nothing is added.
 */
int xbzrle_region_mark(struct xbzrle_region *region, unsigned long first,
		       unsigned long nr, const void __user *bitmap,
		       unsigned long *bits)
{
	unsigned long words = BITS_TO_LONGS(nr), i;

	/* Bytes of the last word that are not copied. */
	bits[words - 1] = 0;
	if (copy_from_user(bits, bitmap, DIV_ROUND_UP(nr, BITS_PER_BYTE)))
		return -EFAULT;
	for (i = 0; i < words; i++)
		bits[i] = le64_to_cpu((__force __le64)bits[i]);
	xbzrle_dirty_add_bitmap(&region->dirty, first, bits, nr);
	return 0;
}

/**
 * xbzrle_region_harvest() - collect what was written since the last harvest
 * @region: the region
 *
 * Every write that was complete when the function started is covered by a
 * unit in the pending set afterwards; one that comes later is covered by it,
 * by the next harvest, or by both.
 *
 * Context: may sleep; session's lock.
 * Return: 0, -EINTR when a fatal signal is pending, or the reason the region
 * ended. What was found is kept in every case.
 */
int xbzrle_region_harvest(struct xbzrle_region *region)
{
	int ret;

	region->nr_held = 0;
	ret = region->ops->harvest(region);
	region->nr_pending = xbzrle_dirty_count(&region->pending);
	trace_xbzrle_harvest(region->id, region->ops->tracker,
			     region->nr_pending, region->nr_held);
	return ret;
}

/**
 * xbzrle_region_begin_moment() - have kept what the round is to have
 * @region: the region, harvested for a round of a moment
 * @full: for a FULL one
 *
 * Not before the harvest. A fault that adds its unit first and then sees the
 * harvest's pending bit would keep the content from before its write, which
 * is one of those the harvest collects: that content would be sent, and the
 * unit not be dirty. Now, what the harvest collected is complete.
 *
 * Whatever changes and has not seen the moment begin is dirty when this is over.
 *
 * Context: may sleep; session's lock.
 * Return: 0, or -EINTR when a fatal signal is pending.
 */
int xbzrle_region_begin_moment(struct xbzrle_region *region, bool full)
{
	if (full)
		xbzrle_region_find_full(region);
	WRITE_ONCE(region->moment_begun, true);
	if (down_write_killable(&region->punch_lock))
		return -EINTR;
	up_write(&region->punch_lock);
	xbzrle_region_settle_writes(region);
	return 0;
}

/**
 * xbzrle_region_count_full() - what a FULL round that starts now looks at
 * @region: the region
 *
 * Context: may sleep; session's lock.
 * Return: how many units are pending or were ever sent.
 */
unsigned long xbzrle_region_count_full(const struct xbzrle_region *region)
{
	unsigned long nr = region->nr_pending, unit;

	for_each_set_bit(unit, region->sent, region->nr_units) {
		nr += !xbzrle_dirty_test(&region->pending, unit);
		cond_resched();
	}
	return nr;
}

/**
 * xbzrle_region_find_full() - have everything that was ever sent looked at
 * @region: the region
 *
 * Context: may sleep; session's lock.
 */
void xbzrle_region_find_full(struct xbzrle_region *region)
{
	xbzrle_region_found_sent(region, 0, region->nr_units);
	region->nr_pending = xbzrle_dirty_count(&region->pending);
}

/**
 * xbzrle_region_page_held() - could somebody write to a page unnoticed?
 * @page: a page mapped by the region, or in its page cache
 * @own_refs: references the caller holds
 *
 * A page that was pinned, or taken with get_user_pages(), can be written by a
 * device or through the kernel's own mapping long after the fault that allowed
 * it. Whoever does that holds a reference which neither page tables nor caches
 * explain. Before 6.5 direct I/O does not pin, so the pin count is not enough.
 *
 * Context: any. The page was write-protected before the call, so that later
 * takers have to fault.
 * Return: true if so; now and then true although nobody does.
 */
bool xbzrle_region_page_held(struct page *page, int own_refs)
{
	struct folio *folio = page_folio(page);
	int refs, maps, count;
	bool listed;

	if (folio_maybe_dma_pinned(folio))
		return true;

	/*
	 * Where fork() copies PTEs, or munmap() takes them away, references and
	 * mappings come and go without the folio's lock. A mapping that is not
	 * there for both looks would explain somebody's reference.
	 */
	maps = folio_mapcount(folio);
	/* Each look in its turn, here and below. */
	smp_rmb();

	listed = folio_test_lru(folio);
	/*
	 * A fresh page is not on a list yet, and the per-CPU list of such has a
	 * reference; who isolates a page has one too. That reference is only
	 * explained if the flag is off before and after the references are
	 * looked at. Reclaim takes it before the flag goes; folio_isolate_lru()
	 * an instant later, in which another's would be taken for it.
	 */
	smp_rmb();
	count = folio_ref_count(folio);
	refs = count - own_refs;
	/* Pairs with the order in which reclaim changes flag and count. */
	smp_rmb();
	/*
	 * Reclaim unmaps what it has isolated, and flushes the TLB some time later.
	 * For one that is mapped again by then, trackers look at the flag themselves.
	 */
	if (!listed && !folio_test_lru(folio) && maps)
		refs--;
	if (!folio_test_anon(folio) || folio_test_swapcache(folio))
		refs -= folio_nr_pages(folio);
	if (folio_has_private(folio))
		refs--;
	if (refs > maps)
		return true;
	if (maps != folio_mapcount(folio))
		return true;
	/* As above. */
	smp_rmb();
	return count != folio_ref_count(folio);
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared memory of a shmem file that somebody else made, and any process may
 * map, write and unmap between two harvests. What a page table knew of a page
 * goes with its mapping; only the page's own dirty flag stays, which everybody
 * who writes sets sooner or later: a write fault, write(), direct I/O, whoever
 * takes away a dirty PTE, and KVM.
 *
 * So a harvest clears that flag of each page, and holds the page: a clean page
 * of shmem with content would be thrown away by reclaim, unless somebody has a
 * reference. A page that is not held, because it is new or came from swap, is
 * reported and held; one that is held, and whose flag is still clear the next
 * time, was not written.
 *
 * Whoever could write without setting the flag again is stopped in between: all
 * PTEs of the page are write-protected, which also tells the secondary MMUs. One
 * that was writable counts as a write, dirty or not: after a read alone it is
 * writable too, and whoever pins the page by it, writes and lets go of it leaves
 * no other trace. The lock of each page keeps it where it is meanwhile, and others
 * from mapping it anew.
 */
#include <linux/bitmap.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/pgtable.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/xarray.h>

#include "compat/compat.h"
#include <xbzrle/existing.h>
#include <xbzrle/file_page.h>
#include <xbzrle/file_ptes.h>
#include <xbzrle/memlock.h>
#include <xbzrle/race.h>
#include <xbzrle/region.h>
#include <xbzrle/tracker_mapping.h>

#if XBZRLE_HAVE_TRACKER_MAPPING

/*
 * Pages locked together: what a PMD may map. While one small page of these is
 * locked, nobody can put a huge one in their place.
 */
#define MAPPING_RUN_MAX		BIT(PMD_SHIFT - PAGE_SHIFT)
/* Units of the dirty set moved in one go. */
#define MAPPING_TAKE_MAX	BIT(16)
/* Not mapped by shmem itself. */
#define MAPPING_VM_REFUSED	(VM_HUGETLB | VM_IO | VM_PFNMAP | VM_MIXEDMAP)

/**
 * struct xbzrle_mapping - a region of a shmem file that existed before
 * @region: the part all trackers share
 * @span: where it is mapped, and whether it still is
 * @file: the file
 * @first: the index in @file of the region's first page
 * @link: in mapping_regions; its lock
 * @held: unit to the folio of which it is a page, with a reference for each
 *	unit; session's lock
 * @memlock: what may be held, as charged to who registered it; likewise
 * @run: the locked folios of the run being harvested; likewise
 */
struct xbzrle_mapping {
	struct xbzrle_region region;
	struct xbzrle_span span;
	struct file *file;
	pgoff_t first;
	struct list_head link;
	struct xarray held;
	struct xbzrle_memlock memlock;
	struct folio *run[MAPPING_RUN_MAX];
};

/* Two regions of one page would take its flags from each other. */
static LIST_HEAD(mapping_regions);
static DEFINE_SPINLOCK(mapping_regions_lock);

static struct xbzrle_mapping *to_mapping(struct xbzrle_region *region)
{
	return container_of(region, struct xbzrle_mapping, region);
}

static struct address_space *mapping_of(struct xbzrle_mapping *mapping)
{
	return mapping->file->f_mapping;
}

static int mapping_check(struct xbzrle_region *region, u64 *addr)
{
	return xbzrle_ending_check(&to_mapping(region)->span.ending, addr);
}

/* What is held of a run; one walk for all. */
static void mapping_load_run(struct xbzrle_mapping *mapping,
			     unsigned long first, unsigned long nr)
{
	XA_STATE(xas, &mapping->held, first);
	struct folio *folio;

	memset(mapping->run, 0, nr * sizeof(*mapping->run));
	rcu_read_lock();
	xas_for_each(&xas, folio, first + nr - 1)
		mapping->run[xas.xa_index - first] = folio;
	rcu_read_unlock();
}

/*
 * Keep a reference for a unit that is a page of @folio, which is taken over.
 *
 * Who punches a hole makes the folios at its edges dirty first, as one that is
 * clean and cannot be split would go as a whole. It must not be in between when
 * a larger folio is held, which keeps that from being split, and its flag cleared.
 * Later it finds the reference before it has done anything.
 */
static bool mapping_hold(struct xbzrle_mapping *mapping, unsigned long unit,
			 struct folio *folio)
{
	struct inode *inode = mapping_of(mapping)->host;
	bool large = folio_test_large(folio), held = false;

	if (!folio_test_pmd_mappable(folio) &&
	    (!large || inode_trylock_shared(inode))) {
		held = !xa_err(xa_store(&mapping->held, unit, folio,
					GFP_KERNEL_ACCOUNT | __GFP_NOWARN));
		if (large)
			inode_unlock_shared(inode);
	}
	if (!held)
		folio_put(folio);
	return held;
}

/*
 * Hold what has come into the page cache. A page in swap may have been written
 * before it went there; a hole matters if the receiver has something else. A
 * page that a PMD may map is found each time: some kernels (6.12) do not move a
 * PMD's dirty bit to it, and the helpers below warn of a writable PMD.
 */
static void mapping_hold_run(struct xbzrle_mapping *mapping,
			     unsigned long first, unsigned long nr)
{
	struct address_space *pages = mapping_of(mapping);
	struct xbzrle_region *region = &mapping->region;
	unsigned long i, unit;
	struct folio *folio;

	for (i = 0; i < nr; i++) {
		if (mapping->run[i])
			continue;
		unit = first + i;
		folio = filemap_get_folio(pages, mapping->first + unit);
		xbzrle_race_window();
		if (!IS_ERR(folio)) {
			xbzrle_region_found(region, unit, 1);
			/* Else it is new the next time, too. */
			if (mapping_hold(mapping, unit, folio))
				mapping->run[i] = folio;
		} else if (test_bit(unit, region->sent) ||
			   xa_load(&pages->i_pages, mapping->first + unit)) {
			xbzrle_region_found(region, unit, 1);
		}
	}
}

/* A page goes back as it came, with a flag that has reclaim write it out. */
static void mapping_let_go(struct xbzrle_mapping *mapping, struct folio *folio,
			   unsigned long first, unsigned long nr)
{
	if (folio->mapping)
		folio_mark_dirty(folio);
	folio_unlock(folio);
	while (nr--)
		folio_put(xa_erase(&mapping->held, first++));
}

/* How many units from run[i] on are pages of one folio, or of none. */
static unsigned long mapping_count_same(struct xbzrle_mapping *mapping,
					unsigned long i, unsigned long nr)
{
	unsigned long end = i + 1;

	while (end < nr && mapping->run[end] == mapping->run[i])
		end++;
	return end - i;
}

/*
 * Are these units all of the locked folio's that the region has? Some may still
 * hold what was there before it.
 */
static bool mapping_is_whole(struct xbzrle_mapping *mapping,
			     struct folio *folio, unsigned long first,
			     unsigned long nr)
{
	pgoff_t end = mapping->first + mapping->region.nr_units;

	return folio->mapping == mapping_of(mapping) &&
	       max(folio->index, mapping->first) == mapping->first + first &&
	       min(folio->index + folio_nr_pages(folio), end) ==
	       mapping->first + first + nr;
}

/* Lock what is held and still in the file. False if that is nothing. */
static bool mapping_lock_run(struct xbzrle_mapping *mapping,
			     unsigned long first, unsigned long nr)
{
	unsigned long i, same;
	struct folio *folio;
	bool locked = false;

	for (i = 0; i < nr; i += same) {
		same = mapping_count_same(mapping, i, nr);
		folio = mapping->run[i];
		if (!folio)
			continue;
		folio_lock(folio);
		if (mapping_is_whole(mapping, folio, first + i, same)) {
			locked = true;
			continue;
		}
		/*
		 * Punched out or truncated, and another may be in its place,
		 * or is not held by all units yet: it is new the next time.
		 */
		memset(&mapping->run[i], 0, same * sizeof(folio));
		mapping_let_go(mapping, folio, first + i, same);
		xbzrle_region_found(&mapping->region, first + i, same);
	}
	return locked;
}

static void mapping_unlock_run(struct xbzrle_mapping *mapping, unsigned long nr)
{
	unsigned long i;

	for (i = 0; i < nr; i += mapping_count_same(mapping, i, nr))
		if (mapping->run[i])
			folio_unlock(mapping->run[i]);
}

/* Is the folio's flag also somebody else's, another region's say? */
static bool mapping_shares(struct xbzrle_mapping *mapping, struct folio *folio)
{
	return folio->index < mapping->first ||
	       folio->index + folio_nr_pages(folio) >
	       mapping->first + mapping->region.nr_units;
}

/*
 * Report the folios that are dirty, all units of each, and @clear the flag.
 * True if one was cleared.
 */
static bool mapping_collect(struct xbzrle_mapping *mapping, unsigned long first,
			    unsigned long nr, bool clear)
{
	bool cleared = false, dirty;
	unsigned long i, same;
	struct folio *folio;

	for (i = 0; i < nr; i += same) {
		same = mapping_count_same(mapping, i, nr);
		folio = mapping->run[i];
		if (!folio)
			continue;
		if (mapping_shares(mapping, folio)) {
			dirty = true;
		} else if (clear) {
			dirty = folio_test_clear_dirty(folio);
			cleared |= dirty;
		} else {
			dirty = folio_test_dirty(folio);
		}
		if (dirty)
			xbzrle_region_found(&mapping->region, first + i, same);
	}
	return cleared;
}

/*
 * Stop all writers of the run's locked pages, and report those that had any. Not
 * all at once by wp_shared_mapping_range(), which ends at the first mapping that
 * is private or read-only. Such can be made by anybody at any time. True if some
 * may go on until a TLB is flushed.
 */
static bool mapping_protect(struct xbzrle_mapping *mapping, unsigned long first,
			    unsigned long nr)
{
	DECLARE_BITMAP(writable, MAPPING_RUN_MAX) = {};
	struct xbzrle_region *region = &mapping->region;
	unsigned long i, same;
	struct folio *folio;
	bool late;

	late = xbzrle_file_writable(mapping_of(mapping), mapping->first + first,
				    nr, writable);
	xbzrle_race_window();
	for (i = 0; i < nr; i += same) {
		same = mapping_count_same(mapping, i, nr);
		folio = mapping->run[i];
		if (!folio)
			continue;
		if (find_next_bit(writable, i + same, i) < i + same) {
			/* Also if the PTE has gone since. */
			folio_mkclean(folio);
			xbzrle_region_found(region, first + i, same);
		} else if (!folio_mapped(folio) &&
			   xbzrle_dirty_test(&region->pending, first + i)) {
			/*
			 * khugepaged unmaps pages, puts those back that it cannot
			 * have, and flushes TLBs after that. To unmap them again
			 * does it before.
			 */
			unmap_mapping_pages(mapping_of(mapping), mapping->first +
					    first + i, same, false);
		}
	}
	return late;
}

/* Whoever isolates a page has no reference yet when the flag goes. */
static bool mapping_is_held(struct folio *folio, unsigned long same)
{
	return !folio_test_lru(folio) ||
	       xbzrle_region_page_held(folio_page(folio, 0), same) ||
	       !folio_test_lru(folio);
}

/*
 * Who holds a page may write it at any time, and set its flag afterwards. So may
 * threads whose PTEs reclaim has taken away, until the TLB is flushed; then the
 * page goes back to the list from which it was isolated. And with @late those of
 * any page that has had its flag set.
 */
static void mapping_find_held(struct xbzrle_mapping *mapping,
			      unsigned long first, unsigned long nr, bool late)
{
	struct xbzrle_region *region = &mapping->region;
	unsigned long i, same;
	struct folio *folio;

	for (i = 0; i < nr; i += same) {
		same = mapping_count_same(mapping, i, nr);
		folio = mapping->run[i];
		if (!folio ||
		    (!mapping_is_held(folio, same) &&
		     !(late && xbzrle_dirty_test(&region->pending, first + i))))
			continue;
		xbzrle_region_found(region, first + i, same);
		xbzrle_dirty_add_range(&region->dirty, first + i, same);
		region->nr_held += same;
	}
}

static void mapping_harvest_run(struct xbzrle_mapping *mapping,
				unsigned long first, unsigned long nr)
{
	bool late;

	mapping_load_run(mapping, first, nr);
	mapping_hold_run(mapping, first, nr);
	xbzrle_race_window();
	/*
	 * While one page of a run is locked, no PMD can map a huge page in their
	 * place, which xbzrle_file_writable() relies on.
	 */
	if (!mapping_lock_run(mapping, first, nr))
		return;

	mapping_collect(mapping, first, nr, true);
	xbzrle_race_window();
	late = mapping_protect(mapping, first, nr);
	xbzrle_race_window();
	/*
	 * Whoever unmaps sets the flag, and so does KVM: either when it gives up
	 * a page, or when it takes one. For the latter no flag is cleared without
	 * having it give up the page afterwards.
	 */
	if (mapping_collect(mapping, first, nr, true)) {
		late |= mapping_protect(mapping, first, nr);
		mapping_collect(mapping, first, nr, false);
	}
	xbzrle_race_window();
	mapping_find_held(mapping, first, nr, late);

	mapping_unlock_run(mapping, nr);
}

/* The next unit that has, or had, a page; the region's end if there is none. */
static unsigned long mapping_next(struct xbzrle_mapping *mapping,
				  unsigned long unit)
{
	unsigned long next = mapping->region.nr_units, index = unit;

	if (xa_find(&mapping->held, &index, next - 1, XA_PRESENT))
		next = max(index, unit);
	index = mapping->first + unit;
	if (next > unit && xa_find(&mapping_of(mapping)->i_pages, &index,
				   mapping->first + next - 1, XA_PRESENT))
		next = max(index - mapping->first, unit);
	/* Last, as this goes through all that is in between. */
	return find_next_bit(mapping->region.sent, next, unit);
}

static int mapping_harvest(struct xbzrle_region *region)
{
	struct xbzrle_mapping *mapping = to_mapping(region);
	unsigned long first = 0, nr;
	u64 addr;
	int ret;

	ret = mapping_check(region, &addr);
	if (ret)
		return ret;
	while ((nr = xbzrle_dirty_next(&region->dirty, &first,
				       MAPPING_TAKE_MAX))) {
		xbzrle_dirty_remove(&region->dirty, first, nr);
		xbzrle_region_found(region, first, nr);
		first += nr;
		cond_resched();
	}

	for (first = mapping_next(mapping, 0); first < region->nr_units;
	     first = mapping_next(mapping, first + nr)) {
		nr = MAPPING_RUN_MAX -
		     (mapping->first + first) % MAPPING_RUN_MAX;
		nr = min(nr, region->nr_units - first);
		mapping_harvest_run(mapping, first, nr);
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return mapping_check(region, &addr);
}

static long mapping_get(struct xbzrle_region *region, unsigned long unit,
			unsigned int nr, struct page **pages)
{
	struct xbzrle_mapping *mapping = to_mapping(region);
	struct page *page;
	unsigned int i;
	u64 addr;
	int ret;

	ret = mapping_check(region, &addr);
	if (ret)
		return ret;
	for (i = 0; i < nr; i++) {
		page = xbzrle_file_page_get(mapping_of(mapping),
					    mapping->first + unit + i);
		if (IS_ERR(page))
			return i ?: PTR_ERR(page);
		pages[i] = page;
	}
	return nr;
}

static void mapping_let_all_go(struct xbzrle_mapping *mapping)
{
	struct folio *folio;
	unsigned long unit;

	xa_for_each(&mapping->held, unit, folio) {
		folio_lock(folio);
		mapping_let_go(mapping, folio, unit, 1);
		cond_resched();
	}
	xa_destroy(&mapping->held);
}

static void mapping_detach(struct xbzrle_mapping *mapping)
{
	spin_lock(&mapping_regions_lock);
	list_del(&mapping->link);
	spin_unlock(&mapping_regions_lock);
	xbzrle_span_drop(&mapping->span);
	fput(mapping->file);
}

static void mapping_release(struct xbzrle_region *region)
{
	struct xbzrle_mapping *mapping = to_mapping(region);

	mapping_let_all_go(mapping);
	xbzrle_memlock_set(&mapping->memlock, NULL, 0);
	mapping_detach(mapping);
	xbzrle_region_destroy(region);
	kfree(mapping);
}

static const struct xbzrle_tracker_ops mapping_ops = {
	.tracker	= XBZRLE_TRACKER_MAPPING,
	.harvest	= mapping_harvest,
	.get		= mapping_get,
	.check		= mapping_check,
	.release	= mapping_release,
};

/*
 * Is all of it one piece of one shmem file, mapped shared? *error_addr is the
 * first address where it is not. Sets the file, without a reference.
 */
static int mapping_check_range(struct xbzrle_mapping *mapping,
			       struct xbzrle_range *range)
{
	u64 *addr = &range->error_addr;
	struct vm_area_struct *vma;
	pgoff_t index;

	for (*addr = range->addr; *addr < range->addr + range->length;
	     *addr = vma->vm_end) {
		vma = find_vma(range->mm, *addr);
		if (!vma || vma->vm_start > *addr)
			return -EFAULT;
		if (!(vma->vm_flags & VM_MAYSHARE) || !vma->vm_file ||
		    vma->vm_flags & MAPPING_VM_REFUSED ||
		    !shmem_mapping(vma->vm_file->f_mapping))
			return -EOPNOTSUPP;
		index = linear_page_index(vma, *addr) -
			((*addr - range->addr) >> PAGE_SHIFT);
		if (*addr == range->addr) {
			mapping->file = vma->vm_file;
			mapping->first = index;
		} else if (vma->vm_file->f_mapping != mapping_of(mapping) ||
			   index != mapping->first) {
			return -EOPNOTSUPP;
		}
	}
	*addr = range->addr;
	return 0;
}

/* Put the region among the others, unless one has some of its pages. */
static int mapping_enlist(struct xbzrle_mapping *mapping)
{
	struct xbzrle_mapping *other;
	int ret = -EBUSY;

	spin_lock(&mapping_regions_lock);
	list_for_each_entry(other, &mapping_regions, link)
		if (mapping_of(other) == mapping_of(mapping) &&
		    mapping->first < other->first + other->region.nr_units &&
		    other->first < mapping->first + mapping->region.nr_units)
			goto unlock;
	list_add(&mapping->link, &mapping_regions);
	ret = 0;
unlock:
	spin_unlock(&mapping_regions_lock);
	return ret;
}

/* Everything of a registration that needs mmap_lock for write. */
static int mapping_attach(struct xbzrle_mapping *mapping,
			  struct xbzrle_range *range)
{
	int ret;

	ret = mapping_check_range(mapping, range);
	if (ret)
		return ret;
	ret = mapping_enlist(mapping);
	if (ret)
		return ret;
	ret = xbzrle_span_watch(&mapping->span, range);
	if (ret) {
		spin_lock(&mapping_regions_lock);
		list_del(&mapping->link);
		spin_unlock(&mapping_regions_lock);
		return ret;
	}
	get_file(mapping->file);
	return 0;
}

/**
 * xbzrle_mapping_register() - make a region of a shmem file that exists
 * @range: where it is mapped
 * @name: its name in the stream
 * @name_len: bytes in @name
 *
 * Context: may sleep; session's lock. Takes mmap_lock of the target for write,
 * then that of the caller.
 * Return: the region, or an ERR_PTR: -EFAULT if part of it is not mapped,
 * -EOPNOTSUPP if it is other memory, or not one piece of one file, -EBUSY if
 * part of that is registered already by whatever session, -ENOMEM, also over
 * the limit of locked memory, -EINTR.
 */
struct xbzrle_region *xbzrle_mapping_register(struct xbzrle_range *range,
					      const char *name, u32 name_len)
{
	struct xbzrle_mapping *mapping;
	int ret;

	mapping = kzalloc(sizeof(*mapping), GFP_KERNEL_ACCOUNT);
	if (!mapping)
		return ERR_PTR(-ENOMEM);
	ret = xbzrle_region_init(&mapping->region, &mapping_ops, name, name_len,
				 range->length);
	if (ret)
		goto free_mapping;
	xa_init_flags(&mapping->held, XA_FLAGS_ACCOUNT);

	ret = -EINTR;
	if (mmap_write_lock_killable(range->mm))
		goto destroy_region;
	ret = mapping_attach(mapping, range);
	mmap_write_unlock(range->mm);
	if (ret)
		goto destroy_region;
	ret = xbzrle_memlock_set(&mapping->memlock, current->mm,
				 mapping->region.nr_units);
	if (ret)
		goto detach;
	return &mapping->region;

detach:
	mapping_detach(mapping);
destroy_region:
	xbzrle_region_destroy(&mapping->region);
free_mapping:
	kfree(mapping);
	return ERR_PTR(ret);
}

#endif /* XBZRLE_HAVE_TRACKER_MAPPING */

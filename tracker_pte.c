// SPDX-License-Identifier: GPL-2.0-only
/*
 * A writable PTE was written, or may have been, since it was last seen here: a
 * harvest takes the write permission from each PTE that has it, flushes the
 * TLB, and only then are contents read. The next write faults, and the kernel
 * makes the PTE writable again.
 *
 * What else changes a page, or hides that its PTE was writable (unmapping,
 * migration, swap-out, fork, mprotect, KSM, NUMA hinting), goes through the
 * mmu notifiers. An interval notifier puts each such range in the dirty set;
 * the comparison with the base drops what did not really change.
 *
 * A unit is dirty if its PTE was writable, or a notifier event named it, or it
 * was not armed: it was not populated when a harvest last looked at it.
 *
 * Who writes a page through a page table other than the CPUs' would be missed,
 * since a module cannot raise mmu notifier events: an mm with a foreign
 * notifier is refused. So are two trackers on one page, which would take each
 * other's write permission away unseen.
 *
 * Private memory can be captured by freezing: the harvest takes a reference on
 * the page itself and marks it as possibly shared, as fork() does, so that the
 * kernel gives the next writer a copy, and the page never changes again. Until
 * the flush a CPU may still write to it through its TLB, and must not find a
 * copy that lacks this write: page faults are kept out meanwhile, by mmap_lock
 * for write and the locks of the VMAs.
 */
#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/highmem.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mmu_notifier.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include "compat/compat.h"
#include <xbzrle/existing.h>
#include <xbzrle/file_page.h>
#include <xbzrle/race.h>
#include <xbzrle/region.h>
#include <xbzrle/tracker_pte.h>

#if XBZRLE_HAVE_TRACKER_PTE

/* Address space walked under one hold of mmap_lock, with one TLB flush. */
#define PTE_CHUNK	(256UL << 20)
/*
 * The same where page faults wait for it, to freeze pages. It also ends with
 * the first page table that has some.
 */
#define PTE_CHUNK_FREEZE	(16UL << 20)
/* Units of the dirty set looked at in one go. */
#define PTE_TAKE_MAX	BIT(16)
/* Memory whose faults are not ours to judge. */
#define PTE_VM_REFUSED	(VM_HUGETLB | VM_IO | VM_PFNMAP | VM_MIXEDMAP)

/**
 * struct xbzrle_mm - an mm with pte regions, of whatever session
 * @notifier: makes the object unique to its mm, and shows who else is there
 * @head: what @notifier.hlist.pprev is when nobody came after us
 * @regions: its pte regions; mmap_lock for write
 */
struct xbzrle_mm {
	struct mmu_notifier notifier;
	struct hlist_node **head;
	struct list_head regions;
};

/**
 * struct pte_nohuge - VMAs that were marked VM_NOHUGEPAGE for a region
 * @link: in xbzrle_pte.nohuge
 * @start: its first address
 * @end: the address behind it
 */
struct pte_nohuge {
	struct list_head link;
	unsigned long start;
	unsigned long end;
};

/**
 * struct pte_frozen - a page that cannot change any more
 * @unit: whose content it is
 * @page: the page, with a reference
 */
struct pte_frozen {
	unsigned long unit;
	struct page *page;
};

/**
 * struct xbzrle_pte - a region of memory that existed before
 * @region: the part all trackers share
 * @mm: whose memory; pinned, its user count is taken for each use
 * @xmm: what all regions of @mm share
 * @link: in @xmm->regions; mmap_lock for write
 * @start: first address
 * @end: the address behind it
 * @shared: shmem-backed shared memory rather than private anonymous
 * @frozen: room for what one page table can give, if pages are frozen, or NULL
 * @nohuge: VMAs to give their huge pages back to, in address order and apart;
 *	session's lock
 * @armed: bit per unit that was looked at since it was populated; session's
 *	lock
 * @notifier: tells of changes by others than the target's own writes
 * @ending: whether it ended; its lock is also that of @notifier's sequence and
 *	of removal from the dirty set
 */
struct xbzrle_pte {
	struct xbzrle_region region;
	struct mm_struct *mm;
	struct xbzrle_mm *xmm;
	struct list_head link;
	unsigned long start;
	unsigned long end;
	bool shared;
	struct pte_frozen *frozen;
	struct list_head nohuge;
	unsigned long *armed;
	struct mmu_interval_notifier notifier;
	struct xbzrle_ending ending;
};

static struct xbzrle_pte *to_pte(struct xbzrle_region *region)
{
	return container_of(region, struct xbzrle_pte, region);
}

static unsigned long pte_unit(struct xbzrle_pte *pte, unsigned long addr)
{
	return (addr - pte->start) >> PAGE_SHIFT;
}

/* Objects that are not freed yet; unloading waits for the last. */
static atomic_t xmm_count = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(xmm_wait);

static struct mmu_notifier *xmm_alloc(struct mm_struct *mm)
{
	struct xbzrle_mm *xmm = kzalloc(sizeof(*xmm), GFP_KERNEL_ACCOUNT);

	if (!xmm)
		return ERR_PTR(-ENOMEM);
	INIT_LIST_HEAD(&xmm->regions);
	atomic_inc(&xmm_count);
	return &xmm->notifier;
}

/* Some time after mmu_notifier_put(), with softirqs off. */
static void xmm_free(struct mmu_notifier *notifier)
{
	kfree(container_of(notifier, struct xbzrle_mm, notifier));
	if (atomic_dec_and_test(&xmm_count))
		wake_up(&xmm_wait);
}

static const struct mmu_notifier_ops xmm_ops = {
	.alloc_notifier	= xmm_alloc,
	.free_notifier	= xmm_free,
};

static struct xbzrle_mm *xmm_get(struct mm_struct *mm)
{
	struct mmu_notifier *notifier;
	struct xbzrle_mm *xmm;

	lockdep_assert_held_write(&mm->mmap_lock);
	notifier = mmu_notifier_get_locked(&xmm_ops, mm);
	if (IS_ERR(notifier))
		return ERR_CAST(notifier);
	xmm = container_of(notifier, struct xbzrle_mm, notifier);
	/* New notifiers become the list's head, under mmap_lock for write. */
	if (!xmm->head)
		xmm->head = notifier->hlist.pprev;
	return xmm;
}

/* Is there a secondary MMU, which writes without our PTEs? */
static bool xmm_has_foreign(struct xbzrle_mm *xmm)
{
	return READ_ONCE(xmm->notifier.hlist.next) ||
	       READ_ONCE(xmm->notifier.hlist.pprev) != xmm->head;
}

static int pte_end(struct xbzrle_pte *pte, int ret, unsigned long addr)
{
	return xbzrle_ending_set(&pte->ending, ret, addr);
}

static int pte_check(struct xbzrle_region *region, u64 *addr)
{
	return xbzrle_ending_check(&to_pte(region)->ending, addr);
}

/* Runs before the change is made; may not sleep when not @range's to. */
static bool pte_invalidate(struct mmu_interval_notifier *notifier,
			   const struct mmu_notifier_range *range,
			   unsigned long seq)
{
	struct xbzrle_pte *pte =
		container_of(notifier, struct xbzrle_pte, notifier);
	unsigned long start = max(range->start, pte->start);
	unsigned long end = min(range->end, pte->end);
	bool gone;

	spin_lock(&pte->ending.lock);
	mmu_interval_set_seq(notifier, seq);
	gone = xbzrle_ending_note(&pte->ending, range, start);
	spin_unlock(&pte->ending.lock);

	xbzrle_race_window_atomic();
	/* After the sequence, which keeps pte_take_dirty() from removing it. */
	if (gone)
		xbzrle_ending_wake(&pte->ending);
	else
		xbzrle_dirty_add_range(&pte->region.dirty,
				       pte_unit(pte, start),
				       (end - start) >> PAGE_SHIFT);
	return true;
}

static const struct mmu_interval_notifier_ops pte_notifier_ops = {
	.invalidate = pte_invalidate,
};

/*
 * An event named these units. What is populated now, the walk finds, because
 * it is not armed any more; what is a hole now matters only if the receiver
 * has something else there. The holes of a large range cost nothing so. Of
 * shared memory the PTEs do not tell what is populated.
 */
static void pte_take_run(struct xbzrle_pte *pte, unsigned long first,
			 unsigned long nr)
{
	bitmap_clear(pte->armed, first, nr);
	if (pte->shared)
		xbzrle_region_found(&pte->region, first, nr);
	else
		xbzrle_region_found_sent(&pte->region, first, nr);
}

/*
 * Take the dirty set. Units whose change was announced after @seq began may
 * change after this round has read them, so they stay for the next round too.
 */
static void pte_take_dirty(struct xbzrle_pte *pte, unsigned long seq)
{
	struct xbzrle_region *region = &pte->region;
	unsigned long first, nr;

	for (first = 0; (nr = xbzrle_dirty_next(&region->dirty, &first,
						PTE_TAKE_MAX));
	     first += nr) {
		pte_take_run(pte, first, nr);
		xbzrle_race_window();

		spin_lock(&pte->ending.lock);
		if (!mmu_interval_read_retry(&pte->notifier, seq))
			xbzrle_dirty_remove(&region->dirty, first, nr);
		spin_unlock(&pte->ending.lock);
		cond_resched();
	}
}

/* A change to shared memory during the walk may have left no PTE to see it. */
static void pte_note_dirty(struct xbzrle_pte *pte)
{
	unsigned long first, nr;

	for (first = 0; (nr = xbzrle_dirty_next(&pte->region.dirty, &first,
						PTE_TAKE_MAX));
	     first += nr) {
		xbzrle_region_found(&pte->region, first, nr);
		cond_resched();
	}
}

/* 0 if the VMA is of the region's kind. */
static int pte_check_vma(struct xbzrle_pte *pte, struct vm_area_struct *vma)
{
	if (vma->vm_flags & PTE_VM_REFUSED)
		return -EOPNOTSUPP;
	if (!pte->shared)
		return vma_is_anonymous(vma) ? 0 : -EOPNOTSUPP;
	if (!(vma->vm_flags & VM_SHARED) || !vma->vm_file ||
	    !shmem_mapping(vma->vm_file->f_mapping))
		return -EOPNOTSUPP;
	return 0;
}

/*
 * Is all of [start, end) mapped by VMAs of the region's kind? 1 if one of them
 * may get huge pages. *addr is the first address that failed.
 */
static int pte_check_range(struct xbzrle_pte *pte, unsigned long start,
			   unsigned long end, unsigned long *addr)
{
	struct vm_area_struct *vma;
	int huge = 0, ret;

	lockdep_assert_held(&pte->mm->mmap_lock);
	for (*addr = start; *addr < end; *addr = vma->vm_end) {
		vma = find_vma(pte->mm, *addr);
		if (!vma || vma->vm_start > *addr)
			return -EFAULT;
		ret = pte_check_vma(pte, vma);
		if (ret)
			return ret;
		huge |= !(vma->vm_flags & VM_NOHUGEPAGE);
	}
	return huge;
}

/*
 * Remember that [start, end) may have huge pages. Entries are in address order,
 * as calls are: *at is that of the call before, to begin from. What touches
 * becomes one entry, so that a target that asks for huge pages over and over
 * costs no memory.
 */
static int pte_note_huge(struct xbzrle_pte *pte, struct pte_nohuge **at,
			 unsigned long start, unsigned long end)
{
	struct pte_nohuge *nohuge, *other = *at, *next;

	nohuge = kmalloc(sizeof(*nohuge), GFP_KERNEL_ACCOUNT);
	if (!nohuge)
		return -ENOMEM;
	list_for_each_entry_safe_from(other, next, &pte->nohuge, link) {
		if (other->start > end)
			break;
		if (other->end < start)
			continue;
		start = min(start, other->start);
		end = max(end, other->end);
		list_del(&other->link);
		kfree(other);
	}
	nohuge->start = start;
	nohuge->end = end;
	list_add_tail(&nohuge->link, &other->link);
	*at = nohuge;
	return 0;
}

/* Keep huge pages away from the region's VMAs, and remember from which. */
static int pte_forbid_huge(struct xbzrle_pte *pte)
{
	struct pte_nohuge *at = list_first_entry(&pte->nohuge,
						 struct pte_nohuge, link);
	struct vm_area_struct *vma;
	unsigned long addr;
	int ret;

	lockdep_assert_held_write(&pte->mm->mmap_lock);
	for (addr = pte->start; addr < pte->end; addr = vma->vm_end) {
		vma = find_vma(pte->mm, addr);
		if (!vma || vma->vm_start >= pte->end)
			break;
		if (vma->vm_flags & VM_NOHUGEPAGE)
			continue;
		ret = pte_note_huge(pte, &at, vma->vm_start, vma->vm_end);
		if (ret)
			return ret;
		vm_flags_set(vma, VM_NOHUGEPAGE);
	}
	return 0;
}

static void pte_allow_huge(struct xbzrle_pte *pte, bool alive)
{
	struct pte_nohuge *nohuge, *next;
	struct vm_area_struct *vma;
	unsigned long addr;

	list_for_each_entry_safe(nohuge, next, &pte->nohuge, link) {
		for (addr = nohuge->start; alive && addr < nohuge->end;
		     addr = vma->vm_end) {
			vma = find_vma(pte->mm, addr);
			if (!vma || vma->vm_start >= nohuge->end)
				break;
			vm_flags_clear(vma, VM_NOHUGEPAGE);
		}
		kfree(nohuge);
	}
}

/**
 * struct pte_walk - state of one walk
 * @pte: the region
 * @end: where it ends
 * @flush: some CPU may still write through its TLB what a PTE forbids
 * @nr_frozen: pages in @pte->frozen
 * @folio: the folio of the last of them
 * @folio_refs: references that this walk took on @folio
 * @read_only: the VMA is private and not writable. ptrace() and /proc/PID/mem
 *	write to it all the same, leaving no trace in the PTE.
 */
struct pte_walk {
	struct xbzrle_pte *pte;
	unsigned long end;
	bool flush;
	unsigned int nr_frozen;
	struct folio *folio;
	int folio_refs;
	bool read_only;
};

#if XBZRLE_HAVE_CAPTURE_FREEZE
/*
 * Take a page as it is, and away from its writers; under the page-table lock.
 * False if somebody could write to it all the same. The PTE is not writable
 * afterwards.
 */
static bool pte_freeze(struct pte_walk *walk, pte_t *ptep, unsigned long addr,
		       struct page *page)
{
	struct folio *folio = page_folio(page);
	struct xbzrle_pte *pte = walk->pte;
	pte_t entry = ptep_get_and_clear(pte->mm, addr, ptep);
	bool frozen;

	xbzrle_race_window_atomic();
	if (walk->folio != folio) {
		walk->folio = folio;
		walk->folio_refs = 0;
	}
	/* Whoever takes the page without a lock looks at the PTE again. */
	smp_mb();
	frozen = !xbzrle_region_page_held(page, walk->folio_refs) &&
		 (!PageAnonExclusive(page) ||
		  !folio_try_share_anon_rmap_pte(folio, page));
	walk->flush |= pte_write(entry);
	xbzrle_put_pte_back(pte->mm, addr, ptep, pte_wrprotect(entry));
	if (frozen) {
		get_page(page);
		walk->folio_refs++;
		pte->frozen[walk->nr_frozen++] = (struct pte_frozen){
			.unit = pte_unit(pte, addr),
			.page = page,
		};
	}
	return frozen;
}
#else
static bool pte_freeze(struct pte_walk *walk, pte_t *ptep, unsigned long addr,
		       struct page *page)
{
	return false;
}
#endif

/* For each PTE of a populated page table, under the page-table lock. */
static int pte_harvest_one(pte_t *ptep, unsigned long addr, void *data)
{
	struct pte_walk *walk = data;
	struct xbzrle_pte *pte = walk->pte;
	struct xbzrle_region *region = &pte->region;
	unsigned long unit = pte_unit(pte, addr);
	pte_t entry = ptep_get(ptep);
	bool found;

	if (pte_none(entry)) {
		/*
		 * Punching a hole into a file raises its event when the page is
		 * unmapped, and takes the page out of the file some time after
		 * that. A shared page that is not mapped is looked at in each
		 * round, lest that be missed.
		 */
		if (pte->shared && test_bit(unit, region->sent))
			xbzrle_region_found(region, unit, 1);
		return 0;
	}

	/* An event since the set was taken may have hidden that it was writable. */
	found = walk->read_only || !test_bit(unit, pte->armed) ||
		xbzrle_dirty_test(&region->dirty, unit);
	if (pte_present(entry) && pte_write(entry)) {
		xbzrle_race_window_atomic();
		if (!pte->frozen)
			ptep_set_wrprotect(pte->mm, addr, ptep);
		found = true;
	}
	if (found) {
		/* Who made it read-only before may not have flushed yet. */
		walk->flush = true;
		__set_bit(unit, pte->armed);
		/*
		 * A full barrier before the look at who holds the page: GUP has
		 * its reference first, and then looks at the PTE again.
		 */
		xbzrle_region_found(region, unit, 1);
	} else if (!xbzrle_dirty_test(&region->pending, unit)) {
		return 0;
	}

	/*
	 * Only what is being sent can have been written by a holder. Who holds
	 * a page that is on its way to swap or to another place cannot be told
	 * here: it is looked at again when it is mapped.
	 */
	if (!pte_present(entry)) {
		xbzrle_dirty_add(&region->dirty, unit);
	} else if (!is_zero_pfn(pte_pfn(entry)) &&
		   (pte->frozen ?
		    !pte_freeze(walk, ptep, addr, pte_page(entry)) :
		    xbzrle_region_page_held(pte_page(entry), 0))) {
		xbzrle_dirty_add(&region->dirty, unit);
		region->nr_held++;
	}
	return 0;
}

static int pte_walk_range(struct pte_walk *walk, unsigned long start,
			  unsigned long end)
{
	struct xbzrle_pte *pte = walk->pte;
	unsigned long addr, next;
	pmd_t *pmd;
	int ret;

	for (addr = start; addr < end; addr = next) {
		if (walk->nr_frozen) {
			/* The next page table may have more than there is room. */
			walk->end = addr;
			return 0;
		}
		pmd = xbzrle_existing_pmd(pte->mm, addr, end, &next);
		/* Of shared memory no PTE is left, but the event tells. */
		while (pmd && xbzrle_existing_pmd_huge(READ_ONCE(*pmd))) {
			ret = xbzrle_existing_split(pte->mm, addr);
			if (ret)
				return ret;
			if (fatal_signal_pending(current))
				return -EINTR;
			pmd = xbzrle_existing_pmd(pte->mm, addr, end, &next);
		}
		if (!pmd) {
			/* As pte_harvest_one() does with a PTE that is none. */
			if (pte->shared)
				xbzrle_region_found_sent(&pte->region,
							 pte_unit(pte, addr),
							 (next - addr) >>
							 PAGE_SHIFT);
			continue;
		}
		/*
		 * The page table is there. With its VMA, or to khugepaged, it
		 * goes under mmap_lock for write; if it has become empty, since
		 * 6.14, under that for read, and a new one is made.
		 */
		ret = apply_to_page_range(pte->mm, addr, next - addr,
					  pte_harvest_one, walk);
		if (ret)
			return ret;
	}
	return 0;
}

static int pte_walk_vmas(struct pte_walk *walk, unsigned long start)
{
	struct vm_area_struct *vma;
	unsigned long addr;
	int ret = 0;

	for (addr = start; !ret && addr < walk->end; addr = vma->vm_end) {
		vma = find_vma(walk->pte->mm, addr);
		walk->read_only = !(vma->vm_flags & (VM_WRITE | VM_SHARED));
		if (walk->pte->frozen)
			vma_start_write(vma);
		ret = pte_walk_range(walk, addr, min(walk->end, vma->vm_end));
	}
	return ret;
}

/* With mmap_lock held for write on success. */
static int pte_write_lock_range(struct xbzrle_pte *pte, unsigned long start,
				unsigned long end)
{
	unsigned long addr;
	int ret;

	if (mmap_write_lock_killable(pte->mm))
		return -EINTR;
	ret = pte_check_range(pte, start, end, &addr);
	if (ret > 0)
		ret = pte_forbid_huge(pte);
	else if (ret < 0)
		ret = pte_end(pte, ret, addr);
	if (ret)
		mmap_write_unlock(pte->mm);
	return ret;
}

/* With mmap_lock held for read on success. */
static int pte_lock_range(struct xbzrle_pte *pte, unsigned long start,
			  unsigned long end)
{
	unsigned long addr;
	int ret;

	if (mmap_read_lock_killable(pte->mm))
		return -EINTR;
	ret = pte_check_range(pte, start, end, &addr);
	if (!ret)
		return 0;
	mmap_read_unlock(pte->mm);
	if (ret < 0)
		return pte_end(pte, ret, addr);

	/* Somebody asked for huge pages again. */
	ret = pte_write_lock_range(pte, start, end);
	if (!ret)
		mmap_write_downgrade(pte->mm);
	return ret;
}

/* Where it got to is in *@next, which says first how far to go. */
static int pte_harvest_chunk(struct xbzrle_pte *pte, unsigned long start,
			     unsigned long *next)
{
	struct pte_walk walk = { .pte = pte, .end = *next };
	unsigned int i;
	int ret;

	ret = pte->frozen ? pte_write_lock_range(pte, start, walk.end) :
			    pte_lock_range(pte, start, walk.end);
	if (ret)
		return ret;
	/*
	 * A secondary MMU would not be told of what is frozen. None comes while
	 * mmap_lock is held for write.
	 */
	if (pte->frozen && xmm_has_foreign(pte->xmm)) {
		mmap_write_unlock(pte->mm);
		return pte_end(pte, -EOPNOTSUPP, pte->start);
	}
	/*
	 * Until the flush, another CPU may write through its TLB what a PTE
	 * forbids. Who else changes these PTEs meanwhile sees that it has to
	 * flush as well, and so do we for units that turn up read-only.
	 */
	inc_tlb_flush_pending(pte->mm);
	ret = pte_walk_vmas(&walk, start);
	xbzrle_race_window();
	if (walk.flush)
		xbzrle_flush_tlb_mm(pte->mm);
	dec_tlb_flush_pending(pte->mm);
	if (pte->frozen)
		mmap_write_unlock(pte->mm);
	else
		mmap_read_unlock(pte->mm);
	xbzrle_race_window();
	for (i = 0; i < walk.nr_frozen; i++)
		xbzrle_region_frozen(&pte->region, pte->frozen[i].unit,
				     pte->frozen[i].page);
	*next = walk.end;
	return ret;
}

static int pte_harvest(struct xbzrle_region *region)
{
	struct xbzrle_pte *pte = to_pte(region);
	unsigned long chunk = pte->frozen ? PTE_CHUNK_FREEZE : PTE_CHUNK;
	unsigned long addr, next;
	u64 ended_addr;
	int ret;

	ret = pte_check(region, &ended_addr);
	if (ret)
		return ret;
	if (!mmget_not_zero(pte->mm))
		return pte_end(pte, -ESRCH, pte->start);

	/* Waits for changes that are under way. */
	pte_take_dirty(pte, mmu_interval_read_begin(&pte->notifier));
	for (addr = pte->start; !ret && addr < pte->end; addr = next) {
		next = min(pte->end, addr + chunk);
		ret = pte_harvest_chunk(pte, addr, &next);
		if (!ret && fatal_signal_pending(current))
			ret = -EINTR;
		cond_resched();
	}
	if (pte->shared)
		pte_note_dirty(pte);
	if (!ret && xmm_has_foreign(pte->xmm))
		ret = pte_end(pte, -EOPNOTSUPP, pte->start);
	mmput(pte->mm);
	return ret ?: pte_check(region, &ended_addr);
}

static long pte_get_private(struct xbzrle_pte *pte, unsigned long addr,
			    unsigned int nr, struct page **pages)
{
	int tries;
	long got;

	/*
	 * FOLL_DUMP: a page that was never populated stays so. One that was a
	 * hole to GUP may have been populated before the second look; one that
	 * cannot be read, from a broken swap device say, fails every time.
	 */
	for (tries = 0; tries < XBZRLE_EXISTING_TRIES; tries++) {
		got = get_user_pages_remote(pte->mm, addr, nr,
					    FOLL_FORCE | FOLL_DUMP, pages,
					    NULL);
		if (got != -EFAULT)
			return got;
		if (xbzrle_existing_hole(pte->mm, addr)) {
			pages[0] = NULL;
			return 1;
		}
		cond_resched();
	}
	return pte_end(pte, -EFAULT, addr);
}

static long pte_get_shared(struct xbzrle_pte *pte, unsigned long addr,
			   struct page **pages)
{
	struct vm_area_struct *vma = find_vma(pte->mm, addr);
	pgoff_t index = vma->vm_pgoff + ((addr - vma->vm_start) >> PAGE_SHIFT);
	struct page *page;

	page = xbzrle_file_page_get(vma->vm_file->f_mapping, index);
	if (IS_ERR(page))
		return PTR_ERR(page);
	pages[0] = page;
	return 1;
}

static long pte_get(struct xbzrle_region *region, unsigned long unit,
		    unsigned int nr, struct page **pages)
{
	struct xbzrle_pte *pte = to_pte(region);
	unsigned long addr = pte->start + (unit << PAGE_SHIFT);
	unsigned long bad;
	u64 ended_addr;
	long ret;

	if (!mmget_not_zero(pte->mm))
		return pte_end(pte, -ESRCH, addr);
	if (mmap_read_lock_killable(pte->mm)) {
		mmput(pte->mm);
		return -EINTR;
	}
	/* What has been unmapped has told so by now, and nothing else can be. */
	ret = pte_check(region, &ended_addr);
	if (ret)
		goto unlock;
	ret = pte_check_range(pte, addr, addr + ((unsigned long)nr <<
						 PAGE_SHIFT), &bad);
	xbzrle_race_window();
	if (ret < 0)
		ret = pte_end(pte, ret, bad);
	else if (pte->shared)
		ret = pte_get_shared(pte, addr, pages);
	else
		ret = pte_get_private(pte, addr, nr, pages);
unlock:
	mmap_read_unlock(pte->mm);
	mmput(pte->mm);
	return ret;
}

static void pte_release(struct xbzrle_region *region)
{
	struct xbzrle_pte *pte = to_pte(region);
	bool alive;

	mmu_interval_notifier_remove(&pte->notifier);
	xbzrle_ending_destroy(&pte->ending);

	alive = mmget_not_zero(pte->mm);
	mmap_write_lock(pte->mm);
	list_del(&pte->link);
	pte_allow_huge(pte, alive);
	mmap_write_unlock(pte->mm);
	if (alive)
		mmput(pte->mm);

	mmu_notifier_put(&pte->xmm->notifier);
	mmdrop(pte->mm);
	kvfree(pte->frozen);
	kvfree(pte->armed);
	xbzrle_region_destroy(region);
	kfree(pte);
}

static const struct xbzrle_tracker_ops pte_ops = {
	.tracker	= XBZRLE_TRACKER_PTE,
	.harvest	= pte_harvest,
	.get		= pte_get,
	.check		= pte_check,
	.release	= pte_release,
};

/*
 * Split what is huge before the first harvest: splitting raises a notifier
 * event for the whole of it, and would make all of it dirty for the second.
 */
static int pte_split_range(struct xbzrle_pte *pte)
{
	unsigned long addr, next;
	int ret = 0;
	pmd_t *pmd;

	lockdep_assert_held(&pte->mm->mmap_lock);
	for (addr = pte->start; !ret && addr < pte->end; addr = next) {
		pmd = xbzrle_existing_pmd(pte->mm, addr, pte->end, &next);
		if (pmd && xbzrle_existing_pmd_huge(READ_ONCE(*pmd)))
			ret = xbzrle_existing_split(pte->mm, addr);
	}
	return ret;
}

static bool pte_overlaps(struct xbzrle_pte *pte)
{
	struct xbzrle_pte *other;

	list_for_each_entry(other, &pte->xmm->regions, link)
		if (pte->start < other->end && other->start < pte->end)
			return true;
	return false;
}

/* Everything of a registration that needs mmap_lock for write. */
static int pte_attach(struct xbzrle_pte *pte, struct xbzrle_range *range,
		      bool shared)
{
	struct vm_area_struct *vma;
	unsigned long addr = pte->start;
	int ret;

	vma = find_vma(pte->mm, addr);
	pte->shared = shared && !pte->frozen && vma &&
		      vma->vm_flags & VM_SHARED;
	ret = pte_check_range(pte, pte->start, pte->end, &addr);
	range->error_addr = addr;
	if (ret < 0)
		return ret;

	pte->xmm = xmm_get(pte->mm);
	if (IS_ERR(pte->xmm))
		return PTR_ERR(pte->xmm);
	range->error_addr = pte->start;
	ret = -EOPNOTSUPP;
	if (xmm_has_foreign(pte->xmm))
		goto put_xmm;
	ret = -EBUSY;
	if (pte_overlaps(pte))
		goto put_xmm;

	ret = pte_forbid_huge(pte);
	if (ret)
		goto allow_huge;
	ret = pte_split_range(pte);
	if (ret)
		goto allow_huge;
	ret = mmu_interval_notifier_insert_locked(&pte->notifier, pte->mm,
						  pte->start,
						  pte->end - pte->start,
						  &pte_notifier_ops);
	if (ret)
		goto allow_huge;
	/* Its content may be in the file without a PTE here. */
	if (pte->shared)
		xbzrle_dirty_add_range(&pte->region.dirty, 0,
				       pte->region.nr_units);
	list_add(&pte->link, &pte->xmm->regions);
	return 0;

allow_huge:
	pte_allow_huge(pte, true);
put_xmm:
	mmu_notifier_put(&pte->xmm->notifier);
	return ret;
}

/**
 * xbzrle_pte_register() - make a region of memory that exists
 * @range: what to track
 * @shared: the caller asked for this tracker by name, which allows shmem-backed
 *	shared memory: only writes through the range's mm are seen
 * @freeze: freeze pages where that can be done, of private memory only
 * @name: its name in the stream
 * @name_len: bytes in @name
 *
 * Context: may sleep; session's lock. Takes mmap_lock of the target for write.
 * Return: the region, or an ERR_PTR: -EFAULT if part of it is not mapped,
 * -EOPNOTSUPP if it is memory of a kind, or of an mm, whose writes this
 * tracker cannot see, -EBUSY if part of it is registered already by whatever
 * session, -ENOMEM, -EINTR.
 */
struct xbzrle_region *xbzrle_pte_register(struct xbzrle_range *range,
					  bool shared, bool freeze,
					  const char *name, u32 name_len)
{
	struct xbzrle_pte *pte;
	int ret;

	pte = kzalloc(sizeof(*pte), GFP_KERNEL_ACCOUNT);
	if (!pte)
		return ERR_PTR(-ENOMEM);
	ret = xbzrle_region_init(&pte->region, &pte_ops, name, name_len,
				 range->length);
	if (ret)
		goto free_pte;
	pte->armed = kvcalloc(BITS_TO_LONGS(pte->region.nr_units), sizeof(long),
			      GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!pte->armed) {
		ret = -ENOMEM;
		goto destroy_region;
	}
	if (freeze) {
		pte->region.capture = XBZRLE_CAPTURE_FREEZE;
		pte->frozen = kvmalloc_array(PTRS_PER_PTE, sizeof(*pte->frozen),
					     GFP_KERNEL_ACCOUNT);
		ret = -ENOMEM;
		if (!pte->frozen)
			goto free_armed;
	}
	pte->mm = range->mm;
	pte->start = range->addr;
	pte->end = range->addr + range->length;
	xbzrle_ending_init(&pte->ending, range->watch);
	INIT_LIST_HEAD(&pte->nohuge);

	ret = -EINTR;
	if (mmap_write_lock_killable(pte->mm))
		goto free_frozen;
	ret = pte_attach(pte, range, shared);
	mmap_write_unlock(pte->mm);
	if (ret)
		goto free_frozen;
	mmgrab(pte->mm);
	return &pte->region;

free_frozen:
	kvfree(pte->frozen);
free_armed:
	kvfree(pte->armed);
destroy_region:
	xbzrle_region_destroy(&pte->region);
free_pte:
	kfree(pte);
	return ERR_PTR(ret);
}

/**
 * xbzrle_pte_exit() - wait for what regions left behind, at module unload
 *
 * mmu_notifier_synchronize() is meant for this, but it only waits for a grace
 * period: where SRCU keeps its callbacks by CPU, those of another CPU may run
 * later, when the module is gone.
 *
 * Context: may sleep.
 */
void xbzrle_pte_exit(void)
{
	wait_event(xmm_wait, !atomic_read(&xmm_count));
	/* The last xmm_free() may not have returned. */
	synchronize_rcu();
}

#endif /* XBZRLE_HAVE_TRACKER_PTE */

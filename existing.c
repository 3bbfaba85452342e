// SPDX-License-Identifier: GPL-2.0-only
#include <linux/atomic.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/pgtable.h>
#include <linux/rcupdate.h>
#include <linux/sched/coredump.h>
#include <linux/wait.h>

#include "compat/compat.h"
#include <xbzrle/existing.h>
#include <xbzrle/region.h>

#if IS_ENABLED(CONFIG_MMU_NOTIFIER)

/**
 * xbzrle_ending_init() - begin with a region that has not ended
 * @ending: what is to be set up
 * @watch: told when the target is gone; outlives @ending
 *
 * Context: any.
 */
void xbzrle_ending_init(struct xbzrle_ending *ending,
			struct xbzrle_watch *watch)
{
	*ending = (struct xbzrle_ending){ .watch = watch };
	spin_lock_init(&ending->lock);
}

/**
 * xbzrle_ending_destroy() - the session lets go of the region
 * @ending: of the region, whose notifier is gone
 *
 * Context: any.
 */
void xbzrle_ending_destroy(struct xbzrle_ending *ending)
{
	if (ending->gone)
		atomic_dec(&ending->watch->gone);
}

/* From now on poll() tells of it; who waits there is to be woken, too. */
static void ending_is_gone(struct xbzrle_ending *ending)
{
	if (ending->gone)
		return;
	ending->gone = true;
	atomic_inc(&ending->watch->gone);
}

/**
 * xbzrle_ending_set() - the region has ended; the first reason stays
 * @ending: of the region
 * @ret: the errno; -ESRCH if the target is gone
 * @addr: the address that showed it
 *
 * Context: any; takes @ending->lock.
 * Return: the first reason.
 */
int xbzrle_ending_set(struct xbzrle_ending *ending, int ret, unsigned long addr)
{
	bool gone = ret == -ESRCH;

	spin_lock(&ending->lock);
	if (!ending->ended) {
		ending->ended = ret;
		ending->addr = addr;
	}
	/* Its memory may be torn down only after that was seen. */
	if (gone)
		ending_is_gone(ending);
	ret = ending->ended;
	spin_unlock(&ending->lock);
	if (gone)
		xbzrle_ending_wake(ending);
	return ret;
}

/**
 * xbzrle_ending_check() - has the region ended?
 * @ending: of the region
 * @addr: out: the address that showed it
 *
 * Context: any; takes @ending->lock.
 * Return: 0, or the errno.
 */
int xbzrle_ending_check(struct xbzrle_ending *ending, u64 *addr)
{
	int ret;

	spin_lock(&ending->lock);
	ret = ending->ended;
	*addr = ending->addr;
	spin_unlock(&ending->lock);
	return ret;
}

/**
 * xbzrle_ending_note() - does a notifier event end the region?
 * @ending: of the region
 * @range: what is about to happen
 * @addr: the region's first address that it happens to
 *
 * The first reason stays. Memory that is torn down is unmapped as well, after
 * that event; or it was taken long before, as unmapped or not, by the OOM reaper
 * or process_mrelease().
 *
 * Context: any, also the mmu notifier's; the caller holds @ending->lock.
 * Return: whether the target is gone, which xbzrle_ending_wake() is to tell
 * when the lock is free.
 */
bool xbzrle_ending_note(struct xbzrle_ending *ending,
			const struct mmu_notifier_range *range,
			unsigned long addr)
{
	bool gone = range->event == MMU_NOTIFY_RELEASE;
	bool dies = gone || mm_flags_test(MMF_UNSTABLE, range->mm);

	lockdep_assert_held(&ending->lock);
	if ((dies || range->event == MMU_NOTIFY_UNMAP) && !ending->ended) {
		ending->ended = dies ? -ESRCH : -EFAULT;
		ending->addr = addr;
	}
	if (gone)
		ending_is_gone(ending);
	return gone;
}

/**
 * xbzrle_ending_wake() - tell poll() that the target is gone
 * @ending: of the region
 *
 * Context: any.
 */
void xbzrle_ending_wake(struct xbzrle_ending *ending)
{
	wake_up_all(&ending->watch->wait);
}

/*
 * Runs before the change is made; may not sleep when not @range's to. Nobody
 * compares sequence counts, so none is set.
 */
static bool span_invalidate(struct mmu_interval_notifier *notifier,
			    const struct mmu_notifier_range *range,
			    unsigned long seq)
{
	struct xbzrle_span *span =
		container_of(notifier, struct xbzrle_span, notifier);
	bool gone;

	spin_lock(&span->ending.lock);
	gone = xbzrle_ending_note(&span->ending, range,
				  max(range->start, span->start));
	spin_unlock(&span->ending.lock);
	if (gone)
		xbzrle_ending_wake(&span->ending);
	return true;
}

static const struct mmu_interval_notifier_ops span_notifier_ops = {
	.invalidate = span_invalidate,
};

/**
 * xbzrle_span_watch() - have a region end with its memory
 * @span: what is to be set up
 * @range: the memory, which is mapped
 *
 * Context: may sleep; mmap_lock of @range->mm for write.
 * Return: 0, -ENOMEM, -EINTR.
 */
int xbzrle_span_watch(struct xbzrle_span *span,
		      const struct xbzrle_range *range)
{
	int ret;

	span->start = range->addr;
	span->end = range->addr + range->length;
	xbzrle_ending_init(&span->ending, range->watch);
	ret = mmu_interval_notifier_insert_locked(&span->notifier, range->mm,
						  range->addr, range->length,
						  &span_notifier_ops);
	/* It hears of nothing before the changes under way are over. */
	if (!ret)
		mmu_interval_read_begin(&span->notifier);
	return ret;
}

/**
 * xbzrle_span_drop() - the session lets go of the region
 * @span: of the region
 *
 * Context: may sleep.
 */
void xbzrle_span_drop(struct xbzrle_span *span)
{
	mmu_interval_notifier_remove(&span->notifier);
	xbzrle_ending_destroy(&span->ending);
}

/**
 * xbzrle_existing_pmd() - find the PMD that maps an address
 * @mm: whose
 * @addr: the address, not of hugetlbfs
 * @end: where the caller's range ends
 * @next: out: the address to go on at, with or without a PMD
 *
 * Context: mmap_lock of @mm, or i_mmap_rwsem of the file that is mapped there; each
 * keeps the tables above PTEs where they are.
 * Return: the PMD, or NULL if nothing is populated up to @next.
 */
pmd_t *xbzrle_existing_pmd(struct mm_struct *mm, unsigned long addr,
			   unsigned long end, unsigned long *next)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;

	*next = pgd_addr_end(addr, end);
	if (pgd_none(*pgd))
		return NULL;
	p4d = p4d_offset(pgd, addr);
	*next = p4d_addr_end(addr, end);
	if (p4d_none(*p4d))
		return NULL;
	pud = pud_offset(p4d, addr);
	*next = pud_addr_end(addr, end);
	if (pud_none(*pud))
		return NULL;
	pmd = pmd_offset(pud, addr);
	*next = pmd_addr_end(addr, end);
	return pmd_none(READ_ONCE(*pmd)) ? NULL : pmd;
}

/**
 * xbzrle_existing_pmd_huge() - does it map, or has mapped, a huge page?
 * @pmd: a PMD
 *
 * Context: any.
 * Return: true if it is not none and there is no page table below it: it is mapped
 * or migrating as a whole.
 */
bool xbzrle_existing_pmd_huge(pmd_t pmd)
{
	return pmd_trans_huge(pmd) || (!pmd_none(pmd) && !pmd_present(pmd));
}

/**
 * xbzrle_existing_split() - have a huge page mapped by PTEs
 * @mm: whose
 * @addr: an address in it
 *
 * An anonymous one comes back unless VM_NOHUGEPAGE is set.
 *
 * Context: may sleep; mmap_lock of @mm.
 * Return: 0, also if there is none, or why it cannot be.
 */
int xbzrle_existing_split(struct mm_struct *mm, unsigned long addr)
{
	struct page *page = NULL;
	long nr;

	/* Not FOLL_DUMP, which gives up on one that is migrating. */
	nr = get_user_pages_remote(mm, addr, 1, FOLL_SPLIT_PMD | FOLL_FORCE,
				   &page, NULL);
	if (nr == 1)
		put_page(page);
	return nr == 1 || nr == -EFAULT ? 0 : nr;
}

/**
 * xbzrle_existing_read() - have PTEs as they are
 * @mm: whose
 * @pmdp: the PMD above them
 * @addr: address of the first
 * @nr: how many, all below @pmdp
 * @ptes: gets them
 *
 * With their lock: whoever changes a PTE may have it none until its new value is
 * there, with mmap_lock perhaps for read. So do what moves a page or takes it
 * away, protects it, or looks at its age.
 *
 * A page table may be freed under mmap_lock for read, by khugepaged or when it
 * is empty, but after a grace period then.
 *
 * Context: mmap_lock of @mm.
 * Return: false if there is no page table: @pmdp is none, or maps a huge page.
 */
bool xbzrle_existing_read(struct mm_struct *mm, pmd_t *pmdp,
			  unsigned long addr, unsigned int nr, pte_t *ptes)
{
	bool same = false;
	unsigned int i;
	spinlock_t *ptl; /* the PTEs' */
	pte_t *ptep;
	pmd_t pmd;

	rcu_read_lock();
	do {
		pmd = READ_ONCE(*pmdp);
		if (pmd_none(pmd) || xbzrle_existing_pmd_huge(pmd))
			break;
		ptl = pte_lockptr(mm, &pmd);
		spin_lock(ptl);
		same = pmd_same(pmd, READ_ONCE(*pmdp));
		for (i = 0, ptep = pte_offset_kernel(&pmd, addr); i < nr; i++)
			ptes[i] = ptep_get(ptep + i);
		spin_unlock(ptl);
	} while (!same);
	rcu_read_unlock();
	return same;
}

/* Have a PTE; false if there is none, or no table of them. */
static bool existing_peek(struct mm_struct *mm, pmd_t *pmd, unsigned long addr,
			  pte_t *entry)
{
	return xbzrle_existing_read(mm, pmd, addr, 1, entry) &&
	       !pte_none(*entry);
}

/**
 * xbzrle_existing_populated() - do page tables have something at an address?
 * @mm: whose
 * @addr: the address, not of hugetlbfs
 *
 * Context: mmap_lock of @mm.
 * Return: false if whoever reads there next would fault, and find what the
 * mapping's file has, or zeros without a file.
 */
bool xbzrle_existing_populated(struct mm_struct *mm, unsigned long addr)
{
	unsigned long next;
	pmd_t *pmd, value;
	pte_t entry;

	pmd = xbzrle_existing_pmd(mm, addr, addr + PAGE_SIZE, &next);
	if (!pmd)
		return false;
	value = READ_ONCE(*pmd);
	if (xbzrle_existing_pmd_huge(value))
		return true;
	return existing_peek(mm, pmd, addr, &entry);
}

/**
 * xbzrle_existing_hole() - is there no page but, at most, the zero page, a
 * guard, or the mark of a hole that a userfaultfd protects?
 * @mm: whose
 * @addr: an address of anonymous memory
 *
 * GUP with FOLL_DUMP says EFAULT of a hole, and also of a page that cannot be
 * read.
 *
 * Context: may sleep; mmap_lock of @mm.
 * Return: whether it is a hole.
 */
bool xbzrle_existing_hole(struct mm_struct *mm, unsigned long addr)
{
	unsigned long next;
	pmd_t *pmd, value;
	pte_t entry;

	pmd = xbzrle_existing_pmd(mm, addr, addr + PAGE_SIZE, &next);
	if (!pmd)
		return true;
	value = READ_ONCE(*pmd);
	if (xbzrle_existing_pmd_huge(value)) {
		/* Perhaps the huge zero page. */
		if (xbzrle_existing_split(mm, addr))
			return false;
		value = READ_ONCE(*pmd);
		if (xbzrle_existing_pmd_huge(value))
			return false;
	}
	if (!existing_peek(mm, pmd, addr, &entry))
		return true;
	if (!pte_present(entry))
		return softleaf_is_guard_marker(softleaf_from_pte(entry)) ||
		       softleaf_is_uffd_wp_marker(softleaf_from_pte(entry));
	return is_zero_pfn(pte_pfn(entry));
}

#endif /* CONFIG_MMU_NOTIFIER */

/**
 * xbzrle_existing_shared() - is it other processes' memory, too?
 * @range: the memory
 *
 * Context: may sleep; takes mmap_lock of @range->mm.
 * Return: 1 if its first page is mapped shared, 0, or -EINTR.
 */
int xbzrle_existing_shared(const struct xbzrle_range *range)
{
	struct vm_area_struct *vma;
	int ret;

	if (mmap_read_lock_killable(range->mm))
		return -EINTR;
	vma = find_vma(range->mm, range->addr);
	ret = vma && vma->vm_start <= range->addr &&
	      vma->vm_flags & VM_MAYSHARE;
	mmap_read_unlock(range->mm);
	return ret;
}

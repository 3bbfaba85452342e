// SPDX-License-Identifier: GPL-2.0-only
#include <linux/bitmap.h>
#include <linux/fs.h>
#include <linux/interval_tree_generic.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>

#include "compat/compat.h"
#include <xbzrle/existing.h>
#include <xbzrle/file_ptes.h>

static inline unsigned long file_vma_first(struct vm_area_struct *vma)
{
	return vma->vm_pgoff;
}

static inline unsigned long file_vma_last(struct vm_area_struct *vma)
{
	return vma->vm_pgoff + vma_pages(vma) - 1;
}

/* The kernel's own functions for its tree of a file's mappings are not exported. */
INTERVAL_TREE_DEFINE(struct vm_area_struct, shared.rb, unsigned long,
		     shared.rb_subtree_last, file_vma_first, file_vma_last,
		     static __maybe_unused, file_vma)

/*
 * May threads write to what has gone from a mapping? Whoever takes a page table away
 * has said before that it will flush. There may be another one in its place, so
 * what a look at the PTEs has found tells nothing.
 */
static bool file_may_be_late(struct vm_area_struct *vma)
{
	/* After that look. */
	smp_rmb();
	return xbzrle_tables_go_unflushed(vma->vm_mm);
}

/**
 * xbzrle_file_late() - may threads write to pages that nothing maps any more?
 * @mapping: the file's
 * @index: of the first page
 * @nr: pages
 *
 * It is what xbzrle_file_writable() returns, without a look at page tables.
 *
 * Context: may sleep; holds i_mmap_rwsem. Tells of pages that the caller has locked.
 * Return: true if so.
 */
bool xbzrle_file_late(struct address_space *mapping, pgoff_t index,
		      unsigned long nr)
{
	struct vm_area_struct *vma;
	bool late = false;

	if (!IS_ENABLED(CONFIG_PT_RECLAIM))
		return false;
	i_mmap_lock_read(mapping);
	for (vma = file_vma_iter_first(&mapping->i_mmap, index, index + nr - 1);
	     vma && !late; vma = file_vma_iter_next(vma, index, index + nr - 1))
		late = file_may_be_late(vma);
	i_mmap_unlock_read(mapping);
	return late;
}

#if XBZRLE_HAVE_TRACKER_MAPPING

/**
 * struct file_scan - a look at the PTEs of one mapping
 * @writable: gets a bit for each that can be written, or was
 * @base: the address that bit 0 has in this mapping, or would have
 */
struct file_scan {
	unsigned long *writable;
	unsigned long base;
};

static int file_scan_one(pte_t *ptep, unsigned long addr, void *data)
{
	struct file_scan *scan = data;
	pte_t entry = ptep_get(ptep);

	if (pte_present(entry) && (pte_write(entry) || pte_dirty(entry)))
		__set_bit((addr - scan->base) >> PAGE_SHIFT, scan->writable);
	return 0;
}

static void file_scan_vma(struct vm_area_struct *vma, pgoff_t index,
			  unsigned long nr, unsigned long *writable)
{
	pgoff_t first = max(file_vma_first(vma), index);
	pgoff_t last = min(file_vma_last(vma), index + nr - 1);
	struct file_scan scan = {
		.writable = writable,
		.base = vma->vm_start - ((vma->vm_pgoff - index) << PAGE_SHIFT),
	};
	unsigned long addr = scan.base + ((first - index) << PAGE_SHIFT);
	unsigned long end = scan.base + ((last + 1 - index) << PAGE_SHIFT);
	unsigned long next;
	pmd_t *pmd;

	for (; addr < end; addr = next) {
		pmd = xbzrle_existing_pmd(vma->vm_mm, addr, end, &next);
		/*
		 * A huge page is none of those that the caller has locked, and
		 * none can come while it has.
		 */
		if (!pmd || xbzrle_existing_pmd_huge(READ_ONCE(*pmd)))
			continue;
		/* If the page table has gone by now, there is no telling. */
		if (apply_to_page_range(vma->vm_mm, addr, next - addr,
					file_scan_one, &scan))
			bitmap_set(writable, (addr - scan.base) >> PAGE_SHIFT,
				   (next - addr) >> PAGE_SHIFT);
	}
}

/**
 * xbzrle_file_writable() - which pages could be written without a fault?
 * @mapping: the file's
 * @index: of the first page
 * @nr: pages
 * @writable: gets the bits of those that a PTE of whatever mapping lets be
 *	written, or knows to be dirty; others are left alone
 *
 * Context: may sleep; holds i_mmap_rwsem, which keeps page tables of the file's
 * mappings where they are, but for those of khugepaged since 6.6. Tells of pages
 * that the caller has locked, one at least of each that a PMD may map, and which
 * nobody maps anew meanwhile; but a PTE that is there may become writable.
 * Return: true if some may have been unmapped an instant ago, and threads may write
 * to them until their TLB is flushed. Their dirty flags are set.
 */
bool xbzrle_file_writable(struct address_space *mapping, pgoff_t index,
			  unsigned long nr, unsigned long *writable)
{
	struct vm_area_struct *vma;
	unsigned int flags;
	bool late = false;

	/* Reclaim takes that lock; nothing should be allocated, but for a race. */
	flags = memalloc_noreclaim_save();
	i_mmap_lock_read(mapping);
	for (vma = file_vma_iter_first(&mapping->i_mmap, index, index + nr - 1);
	     vma; vma = file_vma_iter_next(vma, index, index + nr - 1)) {
		/* Through others nobody can write to the file. */
		if (vma->vm_flags & VM_SHARED) {
			file_scan_vma(vma, index, nr, writable);
			late |= file_may_be_late(vma);
		}
		cond_resched();
	}
	i_mmap_unlock_read(mapping);
	memalloc_noreclaim_restore(flags);
	return late;
}

#endif /* XBZRLE_HAVE_TRACKER_MAPPING */

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The code is written for the newest kernel. What older ones lack is filled in
 * here, under the newer name, and nothing else checks a kernel version.
 */
#ifndef _XBZRLE_COMPAT_H
#define _XBZRLE_COMPAT_H

#include <linux/err.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/shmem_fs.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
/* "mm: introduce vma->vm_flags wrapper functions" */
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	lockdep_assert_held_write(&vma->vm_mm->mmap_lock);
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	lockdep_assert_held_write(&vma->vm_mm->mmap_lock);
	vma->vm_flags &= ~flags;
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
/* "mm: return an ERR_PTR from __filemap_get_folio" */
static inline struct folio *
xbzrle_filemap_get_folio(struct address_space *mapping, pgoff_t index)
{
	struct folio *folio = filemap_get_folio(mapping, index);

	return folio ?: ERR_PTR(-ENOENT);
}

#define filemap_get_folio xbzrle_filemap_get_folio

static inline struct folio *
xbzrle_filemap_lock_folio(struct address_space *mapping, pgoff_t index)
{
	struct folio *folio = filemap_lock_folio(mapping, index);

	return folio ?: ERR_PTR(-ENOENT);
}

#define filemap_lock_folio xbzrle_filemap_lock_folio

/* "shmem: add shmem_read_folio() and shmem_read_folio_gfp()" */
static inline struct folio *shmem_read_folio(struct address_space *mapping,
					     pgoff_t index)
{
	struct page *page = shmem_read_mapping_page(mapping, index);

	return IS_ERR(page) ? ERR_CAST(page) : page_folio(page);
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
/* "mm/gup: remove vmas parameter from get_user_pages_remote()" */
static inline long
xbzrle_get_user_pages_remote(struct mm_struct *mm, unsigned long start,
			     unsigned long nr, unsigned int flags,
			     struct page **pages, int *locked)
{
	return get_user_pages_remote(mm, start, nr, flags, pages, NULL, locked);
}

#define get_user_pages_remote xbzrle_get_user_pages_remote

/* "splice: Rename direct_splice_read() to copy_splice_read()" */
#define copy_splice_read generic_file_splice_read
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
/* "mm: shrinker: add infrastructure for dynamically allocating shrinker" */
static inline struct shrinker *shrinker_alloc(unsigned int flags,
					      const char *name)
{
	struct shrinker *shrinker = kzalloc(sizeof(*shrinker), GFP_KERNEL);

	if (shrinker) {
		shrinker->flags = flags;
		shrinker->seeks = DEFAULT_SEEKS;
	}
	return shrinker;
}

/* Without memory it stays unregistered, and is never asked. */
#define shrinker_register(shrinker) \
	((void)register_shrinker(shrinker, KBUILD_MODNAME))

static inline void shrinker_free(struct shrinker *shrinker)
{
	unregister_shrinker(shrinker);
	kfree(shrinker);
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
/* "mm: add per-VMA lock and helper functions to control it" */
static inline void vma_start_write(struct vm_area_struct *vma)
{
	lockdep_assert_held_write(&vma->vm_mm->mmap_lock);
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
/* "mm/rmap: convert page_try_share_anon_rmap() to folio_..." */
#include <linux/rmap.h>

static inline int folio_try_share_anon_rmap_pte(struct folio *folio,
						struct page *page)
{
	return page_try_share_anon_rmap(page);
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
/* "mm: track mapcount of large folios in single value", inline since then */
static inline int xbzrle_folio_mapcount(struct folio *folio)
{
	long i, nr = folio_nr_pages(folio);
	int count = 0;

	for (i = 0; i < nr; i++)
		count += page_mapcount(folio_page(folio, i));
	/* A mapping of the whole counts for each page, but is one reference. */
	if (nr > 1)
		count -= folio_entire_mapcount(folio) * (nr - 1);
	return count;
}

#define folio_mapcount xbzrle_folio_mapcount
#endif

/* "move asm/unaligned.h to linux/unaligned.h" */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#include <asm/unaligned.h>
#else
#include <linux/unaligned.h>
#endif

/* "mm: update shmem_[kernel]_file_*() functions to use vma_flags_t" */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
#define XBZRLE_VMA_NORESERVE	VM_NORESERVE
#else
#define XBZRLE_VMA_NORESERVE	mk_vma_flags(VMA_NORESERVE_BIT)
#endif

/*
 * The user namespace whose capabilities reach the mm of a task, with a
 * reference; NULL if the task has another mm by now.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 2, 0)
static inline struct user_namespace *
xbzrle_get_mm_user_ns(struct task_struct *task, struct mm_struct *mm)
{
	return get_user_ns(mm->user_ns);
}
#else
/* "exec: introduce struct task_exec_state", changed together with the mm */
#include <linux/sched/exec_state.h>

static inline struct user_namespace *
xbzrle_get_mm_user_ns(struct task_struct *task, struct mm_struct *mm)
{
	struct user_namespace *user_ns = NULL;
	struct task_exec_state *state;

	task_lock(task);
	state = rcu_dereference_protected(task->exec_state,
					  lockdep_is_held(&task->alloc_lock));
	if (task->mm == mm)
		user_ns = get_user_ns(state->user_ns);
	task_unlock(task);
	return user_ns;
}
#endif

/*
 * A TLB flush for a module. On x86 the one that every module could call was
 * taken away by "x86: Restrict KVM-induced symbol exports to KVM modules".
 */
#if defined(CONFIG_X86_64) && !defined(CONFIG_UML) && \
	LINUX_VERSION_CODE < KERNEL_VERSION(6, 19, 0)
#include <asm/tlbflush.h>

static inline void xbzrle_flush_tlb_local(void *unused)
{
	__flush_tlb_all();
}

/*
 * On every CPU and for every address space: a CPU that ran @mm earlier may
 * keep its entries under a PCID of theirs, and trusts them when it comes back
 * because nothing told it otherwise.
 */
static inline void xbzrle_flush_tlb_mm(struct mm_struct *mm)
{
	on_each_cpu(xbzrle_flush_tlb_local, NULL, 1);
}

#define XBZRLE_HAVE_FLUSH_TLB	1
#elif defined(CONFIG_ARM64) || defined(CONFIG_S390)
#include <asm/tlbflush.h>

static inline void xbzrle_flush_tlb_mm(struct mm_struct *mm)
{
#if defined(CONFIG_ARM64) && LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	/*
	 * "mmu_notifiers: call invalidate_range() when invalidating TLBs" has
	 * flush_tlb_mm() call what no module may. An mm with notifiers besides
	 * ours is refused, so there is nobody else to tell.
	 */
	flush_tlb_all();
#else
	flush_tlb_mm(mm);
#endif
}

#define XBZRLE_HAVE_FLUSH_TLB	1
#endif

/* What the pte tracker cannot do without. */
#if defined(XBZRLE_HAVE_FLUSH_TLB) && defined(CONFIG_MMU_NOTIFIER)
#define XBZRLE_HAVE_TRACKER_PTE	1
#else
#define XBZRLE_HAVE_TRACKER_PTE	0
#endif

/*
 * Freezing a page has to take its PTE away and put it back, which modules cannot
 * do on s390x.
 */
#if XBZRLE_HAVE_TRACKER_PTE && !defined(CONFIG_S390)
#define XBZRLE_HAVE_CAPTURE_FREEZE	1
#else
#define XBZRLE_HAVE_CAPTURE_FREEZE	0
#endif

/*
 * Since "mm: pgtable: reclaim empty PTE page in madvise(MADV_DONTNEED)" a page
 * table may go before TLBs are flushed of what it mapped, so that nobody who looks
 * for its lock waits for that.
 */
#ifdef CONFIG_PT_RECLAIM
#include <linux/mm_inline.h>

#define xbzrle_tables_go_unflushed	mm_tlb_flush_pending
#else
#define xbzrle_tables_go_unflushed(mm)	false
#endif

/*
 * On arm64 set_pte_at() has the page's tags made, by what is not exported. The
 * page was mapped a moment ago and has them. Who counts mappings got a name for
 * many with "mm: convert page_table_check_pte_set() to
 * page_table_check_ptes_set()", when it lost the address, too, and that again with
 * "mm/page_table_check: Provide addr parameter to page_table_check_ptes_set()".
 */
#ifdef CONFIG_ARM64
#include <linux/page_table_check.h>

static inline void xbzrle_put_pte_back(struct mm_struct *mm,
				       unsigned long addr, pte_t *ptep,
				       pte_t entry)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
	page_table_check_pte_set(mm, addr, ptep, entry);
#elif LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
	page_table_check_ptes_set(mm, ptep, entry, 1);
#else
	page_table_check_ptes_set(mm, addr, ptep, entry, 1);
#endif
	set_pte(ptep, entry);
}
#else
#define xbzrle_put_pte_back	set_pte_at
#endif

/* And the others, which have to notice that memory is unmapped. */
#ifdef CONFIG_MMU_NOTIFIER
#define XBZRLE_HAVE_TRACKER_EXTERNAL	1
#define XBZRLE_HAVE_TRACKER_MAPPING	1
#else
#define XBZRLE_HAVE_TRACKER_EXTERNAL	0
#define XBZRLE_HAVE_TRACKER_MAPPING	0
#endif

/*
 * Vector registers for a while. On arm64 the calls got an argument, a place to
 * keep the registers, with "arm64/fpsimd: Allocate kernel mode FP/SIMD buffers
 * on the stack"; there it is done by words.
 */
#if defined(CONFIG_X86_64) && !defined(CONFIG_UML)
#include <asm/fpu/api.h>

#define XBZRLE_HAVE_SIMD	1
#define xbzrle_may_use_simd	irq_fpu_usable
#define xbzrle_fpu_begin	kernel_fpu_begin
#define xbzrle_fpu_end		kernel_fpu_end
#elif defined(CONFIG_ARM64) && defined(CONFIG_KERNEL_MODE_NEON) && \
	LINUX_VERSION_CODE < KERNEL_VERSION(6, 19, 0)
#include <asm/neon.h>
#include <asm/simd.h>

#define XBZRLE_HAVE_SIMD	1
#define xbzrle_may_use_simd	may_use_simd
#define xbzrle_fpu_begin	kernel_neon_begin
#define xbzrle_fpu_end		kernel_neon_end
#else
#define XBZRLE_HAVE_SIMD	0
#define xbzrle_may_use_simd()	false
#define xbzrle_fpu_begin()	do { } while (0)
#define xbzrle_fpu_end()	do { } while (0)
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
#include <linux/leafops.h>
#else
/* "mm: introduce leaf entry type and use to simplify leaf entry logic" */
#include <linux/swapops.h>
#include <linux/userfaultfd_k.h>

static inline swp_entry_t softleaf_from_pte(pte_t entry)
{
	return pte_to_swp_entry(entry);
}

static inline bool softleaf_is_guard_marker(swp_entry_t entry)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
	/* "mm: add PTE_MARKER_GUARD PTE marker" */
	return false;
#else
	return is_guard_swp_entry(entry);
#endif
}

static inline bool softleaf_is_uffd_wp_marker(swp_entry_t entry)
{
	return pte_marker_entry_uffd_wp(entry);
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
/* "mm: add bitmap mm->flags field" */
static inline bool mm_flags_test(int flag, const struct mm_struct *mm)
{
	return test_bit(flag, &mm->flags);
}
#endif

#endif /* _XBZRLE_COMPAT_H */

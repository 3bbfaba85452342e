// SPDX-License-Identifier: GPL-2.0-only
/*
 * Somebody else learns of the writes, from KVM's dirty log, soft-dirty bits or
 * a device, and puts their units into the dirty set with MARK_DIRTY. A harvest
 * takes the set, and nothing else: it never looks whether a page was written.
 *
 * Nothing is taken from anybody, no write permission and no huge page. So it is
 * no matter who else tracks the memory, or writes it past the page tables, and
 * any memory will do that get_user_pages() can read.
 *
 * What is populated is looked at by the first harvest, and by that of a FULL
 * round. Later ones rely on the marks, also for what has become a hole.
 */
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/pgtable.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>

#include "compat/compat.h"
#include <xbzrle/existing.h>
#include <xbzrle/file_page.h>
#include <xbzrle/race.h>
#include <xbzrle/region.h>
#include <xbzrle/tracker_external.h>

#if XBZRLE_HAVE_TRACKER_EXTERNAL

/* Address space looked at under one hold of mmap_lock. */
#define EXTERNAL_CHUNK		(256UL << 20)
/* PTEs looked at under one hold of their lock. */
#define EXTERNAL_PTES		32
/* Units of the dirty set moved in one go. */
#define EXTERNAL_TAKE_MAX	BIT(16)
/* There may be no struct page behind it. */
#define EXTERNAL_VM_REFUSED	(VM_IO | VM_PFNMAP)

/**
 * struct xbzrle_external - a region of memory whose writes we are told of
 * @region: the part all trackers share
 * @mm: whose memory; pinned, its user count is taken for each use
 * @span: where in @mm, and whether it is still there
 */
struct xbzrle_external {
	struct xbzrle_region region;
	struct mm_struct *mm;
	struct xbzrle_span span;
};

static struct xbzrle_external *to_external(struct xbzrle_region *region)
{
	return container_of(region, struct xbzrle_external, region);
}

static void external_found(struct xbzrle_external *external,
			   unsigned long start, unsigned long end)
{
	xbzrle_region_found(&external->region,
			    (start - external->span.start) >> PAGE_SHIFT,
			    (end - start) >> PAGE_SHIFT);
}

static int external_check(struct xbzrle_region *region, u64 *addr)
{
	return xbzrle_ending_check(&to_external(region)->span.ending, addr);
}

/* The VMA at an address, or an ERR_PTR if it is none to read from. */
static struct vm_area_struct *external_vma(struct xbzrle_external *external,
					   unsigned long addr)
{
	struct vm_area_struct *vma;

	lockdep_assert_held(&external->mm->mmap_lock);
	vma = find_vma(external->mm, addr);
	if (!vma || vma->vm_start > addr)
		return ERR_PTR(-EFAULT);
	if (vma->vm_flags & EXTERNAL_VM_REFUSED)
		return ERR_PTR(-EOPNOTSUPP);
	return vma;
}

static bool vma_is_shmem_file(struct vm_area_struct *vma)
{
	return vma->vm_file && shmem_mapping(vma->vm_file->f_mapping);
}

/* The units of one PMD that have a PTE. */
static void external_find_ptes(struct xbzrle_external *external, pmd_t *pmd,
			       unsigned long addr, unsigned long end)
{
	pte_t ptes[EXTERNAL_PTES];
	unsigned int i, nr;

	for (; addr < end; addr += nr * PAGE_SIZE) {
		nr = min_t(unsigned long, EXTERNAL_PTES,
			   (end - addr) >> PAGE_SHIFT);
		if (!xbzrle_existing_read(external->mm, pmd, addr, nr, ptes)) {
			/* A huge page is looked at when it is read. */
			if (!pmd_none(READ_ONCE(*pmd)))
				external_found(external, addr, end);
			return;
		}
		for (i = 0; i < nr; i++)
			if (!pte_none(ptes[i]))
				external_found(external, addr + i * PAGE_SIZE,
					       addr + (i + 1) * PAGE_SIZE);
	}
}

/*
 * What is populated of [start, end) of a VMA. Only of anonymous memory do page
 * tables tell; elsewhere each unit is looked at when it is read.
 */
static void external_find_vma(struct xbzrle_external *external,
			      struct vm_area_struct *vma, unsigned long start,
			      unsigned long end)
{
	unsigned long addr, next;
	pmd_t *pmd;

	if (!vma_is_anonymous(vma)) {
		external_found(external, start, end);
		return;
	}
	for (addr = start; addr < end; addr = next) {
		pmd = xbzrle_existing_pmd(external->mm, addr, end, &next);
		if (pmd)
			external_find_ptes(external, pmd, addr, next);
		cond_resched();
	}
}

static int external_find_chunk(struct xbzrle_external *external,
			       unsigned long start, unsigned long end)
{
	struct vm_area_struct *vma;
	unsigned long addr, next;
	int ret = 0;

	if (mmap_read_lock_killable(external->mm))
		return -EINTR;
	for (addr = start; addr < end; addr = next) {
		vma = external_vma(external, addr);
		if (IS_ERR(vma)) {
			ret = xbzrle_ending_set(&external->span.ending,
						PTR_ERR(vma), addr);
			break;
		}
		next = min(end, vma->vm_end);
		external_find_vma(external, vma, addr, next);
	}
	mmap_read_unlock(external->mm);
	return ret;
}

static int external_find_all(struct xbzrle_external *external)
{
	unsigned long addr, next;
	int ret = 0;

	if (!mmget_not_zero(external->mm))
		return xbzrle_ending_set(&external->span.ending, -ESRCH,
					 external->span.start);
	for (addr = external->span.start; !ret && addr < external->span.end;
	     addr = next) {
		next = min(external->span.end, addr + EXTERNAL_CHUNK);
		ret = external_find_chunk(external, addr, next);
		if (!ret && fatal_signal_pending(current))
			ret = -EINTR;
		cond_resched();
	}
	mmput(external->mm);
	return ret;
}

static int external_harvest(struct xbzrle_region *region)
{
	struct xbzrle_external *external = to_external(region);
	unsigned long first = 0, nr;
	u64 addr;
	int ret;

	ret = external_check(region, &addr);
	if (!ret && region->all_due)
		ret = external_find_all(external);
	if (ret)
		return ret;

	while ((nr = xbzrle_dirty_next(&region->dirty, &first,
				       EXTERNAL_TAKE_MAX))) {
		xbzrle_dirty_remove(&region->dirty, first, nr);
		xbzrle_region_found(region, first, nr);
		first += nr;
		cond_resched();
	}
	return external_check(region, &addr);
}

/*
 * Shmem without a fault, which would fill a hole of the file. What a private
 * mapping has of its own goes first.
 */
static long external_get_shmem(struct xbzrle_external *external,
			       struct vm_area_struct *vma, unsigned long addr,
			       unsigned int nr, struct page **pages)
{
	struct page *page;
	unsigned int i;

	for (i = 0; i < nr; i++, addr += PAGE_SIZE) {
		if (!(vma->vm_flags & VM_SHARED) &&
		    xbzrle_existing_populated(external->mm, addr))
			break;
		page = xbzrle_file_page_get(vma->vm_file->f_mapping,
					    linear_page_index(vma, addr));
		if (IS_ERR(page))
			return i ?: PTR_ERR(page);
		pages[i] = page;
	}
	return i;
}

/* GUP with FOLL_DUMP said EFAULT: for how many units does that mean a hole? */
static unsigned int external_count_hole(struct xbzrle_external *external,
					struct vm_area_struct *vma,
					unsigned long addr, unsigned int nr)
{
	struct inode *inode;

	/* With FOLL_HWPOISON it says that of a hole of hugetlbfs only. */
	if (is_vm_hugetlb_page(vma))
		return min_t(unsigned long, nr,
			     (ALIGN(addr + 1, huge_page_size(hstate_vma(vma))) -
			      addr) >> PAGE_SHIFT);
	if (vma_is_anonymous(vma))
		return xbzrle_existing_hole(external->mm, addr);
	/* Mapped behind the file's end. */
	if (!vma->vm_file)
		return 0;
	inode = file_inode(vma->vm_file);
	return S_ISREG(inode->i_mode) &&
	       linear_page_index(vma, addr) >=
	       DIV_ROUND_UP(i_size_read(inode), PAGE_SIZE);
}

/* Once; -EAGAIN if it is to be looked at again. */
static long external_try_get(struct xbzrle_external *external,
			     unsigned long addr, unsigned int nr,
			     struct page **pages)
{
	struct mm_struct *mm = external->mm;
	struct vm_area_struct *vma;
	int locked = 1;
	long got = 0;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	vma = external_vma(external, addr);
	if (IS_ERR(vma)) {
		got = PTR_ERR(vma);
		goto unlock;
	}
	nr = min_t(unsigned long, nr, (vma->vm_end - addr) >> PAGE_SHIFT);
	if (vma_is_shmem_file(vma)) {
		got = external_get_shmem(external, vma, addr, nr, pages);
		if (got)
			goto unlock;
		nr = 1;
	}

	/*
	 * FOLL_DUMP: what was never populated stays so. A page that somebody
	 * has to bring, a file system or a userfaultfd, may take forever: with
	 * @locked that holds up no one else, and ends with a fatal signal.
	 */
	got = get_user_pages_remote(mm, addr, nr, FOLL_FORCE | FOLL_DUMP |
				    FOLL_HWPOISON, pages, &locked);
	if (!got || (got == -EFAULT && !locked)) {
		got = -EAGAIN;
	} else if (got == -EFAULT) {
		got = external_count_hole(external, vma, addr, nr);
		memset(pages, 0, got * sizeof(*pages));
		if (!got)
			got = -EAGAIN;
	}
unlock:
	if (locked)
		mmap_read_unlock(mm);
	return got;
}

static long external_get(struct xbzrle_region *region, unsigned long unit,
			 unsigned int nr, struct page **pages)
{
	struct xbzrle_external *external = to_external(region);
	unsigned long addr = external->span.start + (unit << PAGE_SHIFT);
	long got = -EAGAIN, i;
	u64 ended_addr;
	int ret, tries;

	ret = external_check(region, &ended_addr);
	if (ret)
		return ret;
	xbzrle_race_window();
	if (!mmget_not_zero(external->mm))
		return xbzrle_ending_set(&external->span.ending, -ESRCH, addr);
	for (tries = 0; got == -EAGAIN && tries < XBZRLE_EXISTING_TRIES;
	     tries++) {
		got = external_try_get(external, addr, nr, pages);
		cond_resched();
	}
	mmput(external->mm);

	if (got == -ENOMEM || got == -EINTR)
		return got;
	if (got < 0)
		return xbzrle_ending_set(&external->span.ending,
					 got == -EOPNOTSUPP ? got : -EFAULT,
					 addr);
	/*
	 * mmap_lock may have been dropped, and other memory be mapped there by
	 * now. The event of its unmapping came before.
	 */
	ret = external_check(region, &ended_addr);
	if (!ret)
		return got;
	for (i = 0; i < got; i++)
		if (pages[i])
			put_page(pages[i]);
	return ret;
}

static void external_release(struct xbzrle_region *region)
{
	struct xbzrle_external *external = to_external(region);

	xbzrle_span_drop(&external->span);
	mmdrop(external->mm);
	xbzrle_region_destroy(region);
	kfree(external);
}

static const struct xbzrle_tracker_ops external_ops = {
	.tracker	= XBZRLE_TRACKER_EXTERNAL,
	.harvest	= external_harvest,
	.get		= external_get,
	.check		= external_check,
	.release	= external_release,
};

/* Is all of it mapped, and there to be read? error_addr is the first not so. */
static int external_check_range(struct xbzrle_external *external,
				struct xbzrle_range *range)
{
	struct vm_area_struct *vma;
	unsigned long addr;

	for (addr = range->addr; addr < range->addr + range->length;
	     addr = vma->vm_end) {
		vma = external_vma(external, addr);
		if (IS_ERR(vma)) {
			range->error_addr = addr;
			return PTR_ERR(vma);
		}
	}
	return 0;
}

static int external_attach(struct xbzrle_external *external,
			   struct xbzrle_range *range)
{
	int ret;

	if (mmap_write_lock_killable(range->mm))
		return -EINTR;
	ret = external_check_range(external, range);
	if (!ret)
		ret = xbzrle_span_watch(&external->span, range);
	mmap_write_unlock(range->mm);
	return ret;
}

/**
 * xbzrle_external_register() - make a region whose writes we are told of
 * @range: what to read
 * @name: its name in the stream
 * @name_len: bytes in @name
 *
 * Context: may sleep; session's lock. Takes mmap_lock of the target for write.
 * Return: the region, or an ERR_PTR: -EFAULT if part of it is not mapped,
 * -EOPNOTSUPP if part of it is device memory, -ENOMEM, -EINTR.
 */
struct xbzrle_region *xbzrle_external_register(struct xbzrle_range *range,
					       const char *name, u32 name_len)
{
	struct xbzrle_external *external;
	int ret;

	external = kzalloc(sizeof(*external), GFP_KERNEL_ACCOUNT);
	if (!external)
		return ERR_PTR(-ENOMEM);
	ret = xbzrle_region_init(&external->region, &external_ops, name,
				 name_len, range->length);
	if (ret)
		goto free_external;
	external->mm = range->mm;

	ret = external_attach(external, range);
	if (ret)
		goto destroy_region;
	mmgrab(external->mm);
	return &external->region;

destroy_region:
	xbzrle_region_destroy(&external->region);
free_external:
	kfree(external);
	return ERR_PTR(ret);
}

#endif /* XBZRLE_HAVE_TRACKER_EXTERNAL */

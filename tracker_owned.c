// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owned memory is a shmem file of its own behind each region, mapped with our
 * vm_ops. A page is mapped read-only until ->page_mkwrite has put its unit in
 * the dirty set; a harvest takes the units out and write-protects their pages
 * in every process that maps them, and through the mmu notifiers in every
 * secondary MMU. It visits what is in the set and nothing else.
 *
 * Nothing is lost between a fault and a harvest, because ->page_mkwrite adds
 * the unit with the folio locked and the fault unlocks it only when the PTE is
 * writable, while the harvest first removes the unit, then takes the lock, then
 * write-protects. A fault that was on its way when the unit was removed has its
 * PTE in place by then; one that comes later adds the unit again. The lock also
 * keeps migration away, which hides a writable PTE and puts it back as it was,
 * and it keeps writers from making PTEs dirty faster than they are cleaned.
 *
 * Kernels treat the PTEs of a large folio as one where they can: since 6.8 fork()
 * may give a child more that are writable, since 6.17 mprotect() anybody. So the
 * memory is of a mount that has none. Where they are forced on all mounts, a
 * write adds all units of its folio, which then stay in the dirty set.
 *
 * For the same reason a page whose unit is not in the dirty set cannot change
 * while its folio is locked: ->page_mkwrite has its content kept before the
 * first write, and a round can be encoded from the page itself.
 */
#include <linux/anon_inodes.h>
#include <linux/bitmap.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/falloc.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>

#include "compat/compat.h"
#include <xbzrle/file_page.h>
#include <xbzrle/file_ptes.h>
#include <xbzrle/race.h>
#include <xbzrle/region.h>
#include <xbzrle/tracker_owned.h>

/* Units write-protected together; one walk and one flush serve them all. */
#define OWNED_STRETCH_MAX	256
/* Units that it costs less to walk over than to begin another walk. */
#define OWNED_GAP_MAX		32

/**
 * struct xbzrle_owned - an owned region
 * @region: the part all trackers share
 * @shmem: the memory; its address_space is the region's own
 * @taken: units of the stretch being harvested that have a page; session's lock
 * @folio: their folios, locked; likewise
 * @cleaned: units of it of which a PTE was dirty; likewise
 */
struct xbzrle_owned {
	struct xbzrle_region region;
	struct file *shmem;
	DECLARE_BITMAP(taken, OWNED_STRETCH_MAX);
	struct folio *folio[OWNED_STRETCH_MAX];
	DECLARE_BITMAP(cleaned, OWNED_STRETCH_MAX);
};

static struct xbzrle_owned *to_owned(struct xbzrle_region *region)
{
	return container_of(region, struct xbzrle_owned, region);
}

/* The region's file is the shmem file, so each VMA pins region and module. */
static struct xbzrle_owned *vma_owned(struct vm_area_struct *vma)
{
	return vma->vm_file->private_data;
}

static vm_fault_t owned_vm_fault(struct vm_fault *vmf)
{
	struct xbzrle_owned *owned = vma_owned(vmf->vma);
	struct address_space *mapping = owned->shmem->f_mapping;
	struct folio *folio;
	struct page *page;
	int ret;

	if (vmf->pgoff >= owned->region.nr_units)
		return VM_FAULT_SIGBUS;

	folio = shmem_read_folio(mapping, vmf->pgoff);
	if (IS_ERR(folio))
		return vmf_error(PTR_ERR(folio));
	xbzrle_race_window();
	folio_lock(folio);
	if (folio->mapping != mapping) {
		/* Punched out or replaced meanwhile: fault again. */
		folio_unlock(folio);
		folio_put(folio);
		return VM_FAULT_NOPAGE;
	}

	page = folio_file_page(folio, vmf->pgoff);
	if (!folio_test_large(folio)) {
		vmf->page = page;
		return VM_FAULT_LOCKED;
	}

	/*
	 * Left to itself, the fault would map all of a large folio with one
	 * PMD, writable at once. vm_insert_page() makes one read-only PTE; a
	 * write comes back through ->page_mkwrite.
	 */
	ret = vm_insert_page(vmf->vma, vmf->address & PAGE_MASK, page);
	folio_unlock(folio);
	folio_put(folio);
	if (ret && ret != -EBUSY)
		return vmf_error(ret);
	return VM_FAULT_NOPAGE;
}

/* All of a large folio may be written now, and no more fault tell of it. */
static void owned_write_all(struct xbzrle_owned *owned, struct folio *folio)
{
	unsigned long i;

	for (i = 0; i < folio_nr_pages(folio); i++)
		if (folio->index + i < owned->region.nr_units)
			xbzrle_region_write(&owned->region, folio->index + i,
					    folio_page(folio, i));
}

static vm_fault_t owned_vm_page_mkwrite(struct vm_fault *vmf)
{
	struct xbzrle_owned *owned = vma_owned(vmf->vma);
	struct folio *folio = page_folio(vmf->page);

	xbzrle_race_window();
	folio_lock(folio);
	if (folio->mapping != owned->shmem->f_mapping) {
		folio_unlock(folio);
		return VM_FAULT_NOPAGE;
	}
	if (folio_test_large(folio))
		owned_write_all(owned, folio);
	else
		xbzrle_region_write(&owned->region, vmf->pgoff, vmf->page);
	xbzrle_race_window();
	return VM_FAULT_LOCKED;
}

static const struct vm_operations_struct owned_vm_ops = {
	.fault		= owned_vm_fault,
	.page_mkwrite	= owned_vm_page_mkwrite,
};

static int owned_file_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct xbzrle_owned *owned = file->private_data;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_pgoff > owned->region.nr_units ||
	    vma_pages(vma) > owned->region.nr_units - vma->vm_pgoff)
		return -EINVAL;

	/*
	 * MIXEDMAP is what vm_insert_page() asks for in a fault. It would have
	 * fork() copy PTEs, between two steps of a harvest writable and clean.
	 * With WIPEONFORK the child faults, and finds what the file has.
	 */
	vm_flags_set(vma, VM_DONTEXPAND | VM_MIXEDMAP | VM_NOHUGEPAGE |
			  VM_WIPEONFORK);
	vma->vm_ops = &owned_vm_ops;
	return 0;
}

/*
 * What a round of a moment has still to send is kept before it goes. Units may
 * leave the pending set while it is looked through. A hole is filled first, as
 * it has no lock that keeps others from doing so and writing there meanwhile. A
 * broken page goes, which is what a hole is punched for, and the moment with it.
 */
static int owned_keep_range(struct xbzrle_owned *owned, unsigned long first,
			    unsigned long nr)
{
	struct address_space *mapping = owned->shmem->f_mapping;
	unsigned long end = first + nr;
	struct folio *folio;
	struct page *page;

	while (READ_ONCE(owned->region.moment_begun) &&
	       READ_ONCE(owned->region.keeper) &&
	       xbzrle_dirty_next(&owned->region.pending, &first, 1) &&
	       first < end) {
		if (fatal_signal_pending(current))
			return -EINTR;
		folio = shmem_read_folio(mapping, first);
		if (IS_ERR(folio)) {
			/* Older kernels say so of a broken page, too. */
			if (PTR_ERR(folio) != -EIO)
				return PTR_ERR(folio);
			xbzrle_region_write(&owned->region, first++, NULL);
			continue;
		}
		folio_lock(folio);
		page = folio_file_page(folio, first);
		/* To keep a broken one would be to read it, a machine check. */
		if (folio->mapping == mapping)
			xbzrle_region_write(&owned->region, first,
					    PageHWPoison(page) ? NULL : page);
		folio_unlock(folio);
		folio_put(folio);
		first++;
		cond_resched();
	}
	return 0;
}

/*
 * Punch a hole, as a balloon or MADV_REMOVE does. The dirty set learns of it
 * afterwards: a harvest in between sees the old content, and the next one sees
 * the hole.
 */
static long owned_file_fallocate(struct file *file, int mode, loff_t offset,
				 loff_t len)
{
	struct xbzrle_owned *owned = file->private_data;
	loff_t size = (loff_t)owned->region.nr_units << PAGE_SHIFT;
	int ret;

	if (mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	if (!PAGE_ALIGNED(offset) || !PAGE_ALIGNED(len))
		return -EINVAL;
	if (offset >= size)
		return 0;
	len = min(len, size - offset);

	down_read(&owned->region.punch_lock);
	atomic_inc(&owned->region.punching);
	/* Who finds a new page, through whatever lock, sees that. */
	smp_mb__after_atomic();
	ret = owned_keep_range(owned, offset >> PAGE_SHIFT, len >> PAGE_SHIFT);
	xbzrle_race_window();
	if (!ret) {
		unmap_mapping_range(owned->shmem->f_mapping, offset, len, 0);
		shmem_truncate_range(file_inode(owned->shmem), offset,
				     offset + len - 1);
		xbzrle_race_window();
		xbzrle_dirty_add_range(&owned->region.dirty,
				       offset >> PAGE_SHIFT, len >> PAGE_SHIFT);
	}
	/* Who does not see it any more finds the units dirty. */
	smp_mb__before_atomic();
	atomic_dec(&owned->region.punching);
	up_read(&owned->region.punch_lock);
	return ret;
}

static int owned_file_release(struct inode *inode, struct file *file)
{
	struct xbzrle_owned *owned = file->private_data;

	xbzrle_region_destroy(&owned->region);
	kfree(owned);
	return 0;
}

/* Where all owned memory is from. */
static struct vfsmount *owned_mount;

static struct file *owned_shmem(loff_t size)
{
	struct file *file = shmem_file_setup_with_mnt(owned_mount, "xbzrle",
						      size,
						      XBZRLE_VMA_NORESERVE);

	/* Without memory for an inode it says that there is no space. */
	return file == ERR_PTR(-ENOSPC) ? ERR_PTR(-ENOMEM) : file;
}

/* shmem's for reading, seeking and syncing, and ours. */
static struct file_operations owned_fops = {
	.owner		= THIS_MODULE,
	.release	= owned_file_release,
	.mmap		= owned_file_mmap,
	.fallocate	= owned_file_fallocate,
};

/* The kernel's own for an inode that cannot be opened, and how it is had. */
static const struct file_operations *no_open_fops;

static int owned_learn_fops(void)
{
	struct file *shmem, *anon;

	shmem = owned_shmem(PAGE_SIZE);
	if (IS_ERR(shmem))
		return PTR_ERR(shmem);
	owned_fops.llseek = shmem->f_op->llseek;
	owned_fops.read_iter = shmem->f_op->read_iter;
	owned_fops.splice_read = shmem->f_op->splice_read;
	owned_fops.fsync = shmem->f_op->fsync;
	/* fput() may act when a module that failed to load is gone already. */
	anon = anon_inode_getfile("[xbzrle]", shmem->f_op, NULL, 0);
	fput(shmem);
	if (IS_ERR(anon))
		return PTR_ERR(anon);
	no_open_fops = file_inode(anon)->i_fop;
	fput(anon);
	return 0;
}

/**
 * xbzrle_owned_init() - prepare for xbzrle_owned_create(), at module load
 *
 * Context: may sleep.
 * Return: 0, or why there is no mount, or no file could be made to learn from.
 */
int xbzrle_owned_init(void)
{
	struct file_system_type *tmpfs = get_fs_type("tmpfs");
	/* It is cut up where it stands. */
	char options[] = "huge=never";
	int ret;

	if (!tmpfs)
		return -ENODEV;
	/* The kernel's own, so that there is no limit but that of memory. */
	owned_mount = vfs_kern_mount(tmpfs, SB_KERNMOUNT, "xbzrle", options);
	if (IS_ERR(owned_mount))
		return PTR_ERR(owned_mount);
	ret = owned_learn_fops();
	if (ret)
		kern_unmount(owned_mount);
	return ret;
}

/**
 * xbzrle_owned_exit() - undo xbzrle_owned_init(), when no region is left
 *
 * Context: may sleep.
 */
void xbzrle_owned_exit(void)
{
	kern_unmount(owned_mount);
}

/*
 * Write-protect what maps a stretch, of which the folios of the units taken are
 * locked. True if threads may write to them all the same until others have flushed
 * TLBs. The dirty bits of the PTEs have to go as well: mprotect() makes a PTE
 * that is dirty writable again without asking ->page_mkwrite. The kernel's walks
 * end at the first mapping that can never be written; this file has none.
 */
#if IS_ENABLED(CONFIG_MAPPING_DIRTY_HELPERS)
static void owned_clean(struct xbzrle_owned *owned, unsigned long first,
			unsigned long nr)
{
	pgoff_t start = 0, end = 0;

	bitmap_zero(owned->cleaned, nr);
	clean_record_shared_mapping_range(owned->shmem->f_mapping, first, nr,
					  first, owned->cleaned, &start, &end);
}

/*
 * A PTE that was not writable in the one call and not dirty in the next cannot
 * become either before its folio is unlocked. What is dirty again was written
 * in between, and there is not always something. Other units of the stretch are
 * in the dirty set if they are written now, and need no second look.
 */
static bool owned_protect(struct xbzrle_owned *owned, unsigned long first,
			  unsigned long nr)
{
	owned_clean(owned, first, nr);
	do {
		xbzrle_race_window();
		wp_shared_mapping_range(owned->shmem->f_mapping, first, nr);
		xbzrle_race_window();
		owned_clean(owned, first, nr);
	} while (bitmap_intersects(owned->cleaned, owned->taken, nr));
	/* The walks flush where a flush of others is pending. */
	return false;
}
#else
/*
 * Both bits in one step, but a flush for each page. Of a large folio more than
 * the units taken may lose them: what was written of it is still in the dirty
 * set.
 */
static bool owned_protect(struct xbzrle_owned *owned, unsigned long first,
			  unsigned long nr)
{
	struct folio *folio, *last = NULL;
	unsigned long i;

	for_each_set_bit(i, owned->taken, nr) {
		folio = owned->folio[i];
		if (folio == last)
			continue;
		/* The PTEs' dirty bits were what kept it from being dropped. */
		if (folio_mkclean(folio))
			folio_mark_dirty(folio);
		last = folio;
	}
	return xbzrle_file_late(owned->shmem->f_mapping, first, nr);
}
#endif

/*
 * Take a run of units out of the dirty set, for a stretch that begins at @first,
 * and lock its folios. One reference and one lock for all pages of a large
 * folio, of which @last may be the one that was locked before.
 */
static struct folio *owned_take_run(struct xbzrle_owned *owned,
				    unsigned long first, unsigned long unit,
				    unsigned long nr, struct folio *last)
{
	struct xbzrle_region *region = &owned->region;

	/* In this order, for xbzrle_region_write(). */
	xbzrle_region_found(region, unit, nr);
	xbzrle_race_window();
	xbzrle_dirty_remove(&region->dirty, unit, nr);
	xbzrle_race_window();
	for (; nr--; unit++) {
		if (!last || unit - last->index >= folio_nr_pages(last))
			last = filemap_lock_folio(owned->shmem->f_mapping,
						  unit);
		/* What has none is not mapped, or was faulted in by now. */
		if (IS_ERR(last)) {
			last = NULL;
			continue;
		}
		owned->folio[unit - first] = last;
		__set_bit(unit - first, owned->taken);
	}
	return last;
}

/* Does anybody but us hold a locked folio? A large one may have writable units. */
static bool owned_is_held(struct folio *folio)
{
	return folio_test_large(folio) ||
	       xbzrle_region_page_held(folio_page(folio, 0), 1);
}

/*
 * Reclaim may have unmapped a folio that nobody holds, and flushes TLBs before it
 * puts it back on its list; if somebody has mapped it since, nothing else tells. To
 * unmap a page flushes what reclaim owes. Those too new to be on a list are few.
 */
static void owned_flush_late(struct xbzrle_owned *owned, struct folio *folio)
{
	if (!folio_test_lru(folio))
		unmap_mapping_pages(owned->shmem->f_mapping, folio->index, 1,
				    false);
}

/*
 * The units of a stretch that are held, with @late all, are dirty again. Lets go of
 * it.
 */
static void owned_put_stretch(struct xbzrle_owned *owned, unsigned long first,
			      unsigned long nr, bool late)
{
	struct xbzrle_region *region = &owned->region;
	struct folio *folio, *last = NULL;
	bool held = false;
	unsigned long i;

	for_each_set_bit(i, owned->taken, nr) {
		folio = owned->folio[i];
		if (folio != last) {
			if (last) {
				folio_unlock(last);
				folio_put(last);
			}
			last = folio;
			held = late || owned_is_held(folio);
			if (!held)
				owned_flush_late(owned, folio);
		}
		if (held) {
			xbzrle_dirty_add(&region->dirty, first + i);
			region->nr_held++;
		}
	}
	if (last) {
		folio_unlock(last);
		folio_put(last);
	}
}

/* The unit behind the stretch that begins with the dirty unit @first. */
static unsigned long owned_harvest_stretch(struct xbzrle_owned *owned,
					   unsigned long first)
{
	const unsigned long limit = first + OWNED_STRETCH_MAX;
	unsigned long unit = first, end = first, nr;
	struct folio *last = NULL;
	bool late;

	bitmap_zero(owned->taken, OWNED_STRETCH_MAX);
	while (end < limit &&
	       (nr = xbzrle_dirty_next(&owned->region.dirty, &unit,
				       limit - end)) &&
	       unit < limit && unit - end <= OWNED_GAP_MAX) {
		nr = min(nr, limit - unit);
		last = owned_take_run(owned, first, unit, nr, last);
		unit += nr;
		end = unit;
	}
	late = owned_protect(owned, first, end - first);
	xbzrle_race_window();
	owned_put_stretch(owned, first, end - first, late);
	return end;
}

static int owned_harvest(struct xbzrle_region *region)
{
	unsigned long first = 0;

	while (xbzrle_dirty_next(&region->dirty, &first, 1)) {
		first = owned_harvest_stretch(to_owned(region), first);
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static long owned_get(struct xbzrle_region *region, unsigned long unit,
		      unsigned int nr, struct page **pages)
{
	struct xbzrle_owned *owned = to_owned(region);
	struct page *page;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		page = xbzrle_file_page_get(owned->shmem->f_mapping, unit + i);
		if (IS_ERR(page))
			return i ?: PTR_ERR(page);
		pages[i] = page;
	}
	return nr;
}

static bool owned_still(struct xbzrle_region *region, unsigned long unit,
			struct page *page, bool locked)
{
	struct folio *folio = page_folio(page);

	if (region->capture != XBZRLE_CAPTURE_PREIMAGE)
		return false;
	if (!locked)
		folio_lock(folio);
	if (folio->mapping == to_owned(region)->shmem->f_mapping &&
	    !xbzrle_dirty_test(&region->dirty, unit))
		return true;
	if (!locked)
		folio_unlock(folio);
	return false;
}

static void owned_loose(struct page *page)
{
	folio_unlock(page_folio(page));
}

static int owned_check(struct xbzrle_region *region, u64 *addr)
{
	return 0;
}

/* What is mapped stays mapped; the last user of the file frees the region. */
static void owned_release(struct xbzrle_region *region)
{
	fput(to_owned(region)->shmem);
}

static const struct xbzrle_tracker_ops owned_ops = {
	.tracker	= XBZRLE_TRACKER_OWNED,
	.harvest	= owned_harvest,
	.get		= owned_get,
	.still		= owned_still,
	.loose		= owned_loose,
	.check		= owned_check,
	.release	= owned_release,
};

/**
 * xbzrle_owned_create() - make an owned region
 * @name: its name in the stream
 * @name_len: bytes in @name
 * @length: bytes, a multiple of PAGE_SIZE
 * @capture: PREIMAGE or COPY
 * @region: out: the region, which lives as long as its file; its release
 *	operation gives up one reference on that
 *
 * Context: may sleep.
 * Return: the region's file with one reference, or an ERR_PTR: -ENOMEM,
 * -ENFILE.
 */
struct file *xbzrle_owned_create(const char *name, u32 name_len, u64 length,
				 u32 capture, struct xbzrle_region **region)
{
	struct xbzrle_owned *owned;
	struct inode *inode;
	struct file *file;
	int ret;

	owned = kzalloc(sizeof(*owned), GFP_KERNEL_ACCOUNT);
	if (!owned)
		return ERR_PTR(-ENOMEM);
	ret = xbzrle_region_init(&owned->region, &owned_ops, name, name_len,
				 length);
	if (ret)
		goto free_owned;
	owned->region.capture = capture;
	file = owned_shmem(length);
	if (IS_ERR(file)) {
		ret = PTR_ERR(file);
		goto destroy_region;
	}

	/*
	 * Opened a second time, through /proc/PID/map_files or fd, it would be
	 * a plain shmem file that can be written past our faults. The inode
	 * may outlive this module, so what refuses that is the kernel's own.
	 */
	inode = file_inode(file);
	inode->i_fop = no_open_fops;
	SHMEM_I(inode)->seals |= F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;

	/* shmem's had no owner to put. */
	__module_get(THIS_MODULE);
	file->f_op = &owned_fops;
	file->f_mode &= ~FMODE_CAN_WRITE;
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD;
	file->private_data = owned;
	owned->shmem = file;
	*region = &owned->region;
	return file;

destroy_region:
	xbzrle_region_destroy(&owned->region);
free_owned:
	kfree(owned);
	return ERR_PTR(ret);
}

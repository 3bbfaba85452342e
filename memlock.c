// SPDX-License-Identifier: GPL-2.0-only
#include <linux/mm.h>
#include <linux/sched/mm.h>

#include <xbzrle/memlock.h>

/* More or less of what is charged to the same process. */
static int memlock_change(struct xbzrle_memlock *memlock, unsigned long pages)
{
	bool more = pages > memlock->pages;
	unsigned long by = more ? pages - memlock->pages :
				  memlock->pages - pages;
	int ret = account_locked_vm(memlock->mm, by, more);

	if (!ret)
		memlock->pages = pages;
	return ret;
}

/**
 * xbzrle_memlock_set() - charge so many pages instead of those before
 * @memlock: what is charged
 * @mm: whom to charge from now on; the caller's, or NULL to charge nobody
 * @pages: how many; 0 for nobody
 *
 * The limit is the caller's RLIMIT_MEMLOCK, unless it has CAP_IPC_LOCK.
 *
 * Context: may sleep; session's lock. Takes mmap_lock of those concerned for
 * write.
 * Return: 0, or -ENOMEM over the limit, and what was charged before stays.
 */
int xbzrle_memlock_set(struct xbzrle_memlock *memlock, struct mm_struct *mm,
		       unsigned long pages)
{
	struct xbzrle_memlock charged = { .mm = mm };
	int ret;

	if (mm && mm == memlock->mm)
		return memlock_change(memlock, pages);
	if (mm) {
		ret = memlock_change(&charged, pages);
		if (ret)
			return ret;
		mmgrab(mm);
	}
	if (memlock->mm) {
		memlock_change(memlock, 0);
		mmdrop(memlock->mm);
	}
	*memlock = charged;
	return 0;
}

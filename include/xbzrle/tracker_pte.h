/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory that exists already, tracked through the page tables of its mm. */
#ifndef _XBZRLE_TRACKER_PTE_H
#define _XBZRLE_TRACKER_PTE_H

#include <linux/err.h>
#include <linux/types.h>

#include "compat/compat.h"

struct mm_struct;
struct xbzrle_region;
struct xbzrle_watch;

/**
 * struct xbzrle_pte_range - what xbzrle_pte_register() is to track
 * @mm: whose memory; the caller holds a user reference during the call
 * @addr: first address, page-aligned
 * @length: bytes, a multiple of PAGE_SIZE
 * @shared: the caller asked for this tracker by name, which allows shmem-backed
 *	shared memory: only writes through @mm are seen
 * @watch: told when @mm is gone; outlives the region
 * @error_addr: out: the first address that was refused
 */
struct xbzrle_pte_range {
	struct mm_struct *mm;
	u64 addr;
	u64 length;
	bool shared;
	struct xbzrle_watch *watch;
	u64 error_addr;
};

#if XBZRLE_HAVE_TRACKER_PTE
struct xbzrle_region *xbzrle_pte_register(struct xbzrle_pte_range *range,
					  const char *name, u32 name_len);
void xbzrle_pte_exit(void);
#else
static inline struct xbzrle_region *
xbzrle_pte_register(struct xbzrle_pte_range *range, const char *name,
		    u32 name_len)
{
	range->error_addr = range->addr;
	return ERR_PTR(-EOPNOTSUPP);
}

static inline void xbzrle_pte_exit(void)
{
}
#endif

#endif /* _XBZRLE_TRACKER_PTE_H */

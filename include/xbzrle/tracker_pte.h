/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory that exists already, tracked through the page tables of its mm. */
#ifndef _XBZRLE_TRACKER_PTE_H
#define _XBZRLE_TRACKER_PTE_H

#include <linux/err.h>
#include <linux/types.h>

#include "compat/compat.h"
#include "existing.h"

struct xbzrle_region;

#if XBZRLE_HAVE_TRACKER_PTE
struct xbzrle_region *xbzrle_pte_register(struct xbzrle_range *range,
					  bool shared, bool freeze,
					  const char *name, u32 name_len);
void xbzrle_pte_exit(void);
#else
static inline struct xbzrle_region *
xbzrle_pte_register(struct xbzrle_range *range, bool shared, bool freeze,
		    const char *name, u32 name_len)
{
	range->error_addr = range->addr;
	return ERR_PTR(-EOPNOTSUPP);
}

static inline void xbzrle_pte_exit(void)
{
}
#endif

#endif /* _XBZRLE_TRACKER_PTE_H */

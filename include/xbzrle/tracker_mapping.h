/* SPDX-License-Identifier: GPL-2.0-only */
/* A shmem file that exists already, tracked in whatever maps or writes it. */
#ifndef _XBZRLE_TRACKER_MAPPING_H
#define _XBZRLE_TRACKER_MAPPING_H

#include <linux/err.h>
#include <linux/types.h>

#include "compat/compat.h"
#include "existing.h"

struct xbzrle_region;

#if XBZRLE_HAVE_TRACKER_MAPPING
struct xbzrle_region *xbzrle_mapping_register(struct xbzrle_range *range,
					      const char *name, u32 name_len);
#else
static inline struct xbzrle_region *
xbzrle_mapping_register(struct xbzrle_range *range, const char *name,
			u32 name_len)
{
	range->error_addr = range->addr;
	return ERR_PTR(-EOPNOTSUPP);
}
#endif

#endif /* _XBZRLE_TRACKER_MAPPING_H */

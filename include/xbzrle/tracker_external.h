/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory that exists already, whose writes somebody else learns of. */
#ifndef _XBZRLE_TRACKER_EXTERNAL_H
#define _XBZRLE_TRACKER_EXTERNAL_H

#include <linux/err.h>
#include <linux/types.h>

#include "compat/compat.h"
#include "existing.h"

struct xbzrle_region;

#if XBZRLE_HAVE_TRACKER_EXTERNAL
struct xbzrle_region *xbzrle_external_register(struct xbzrle_range *range,
					       const char *name, u32 name_len);
#else
static inline struct xbzrle_region *
xbzrle_external_register(struct xbzrle_range *range, const char *name,
			 u32 name_len)
{
	range->error_addr = range->addr;
	return ERR_PTR(-EOPNOTSUPP);
}
#endif

#endif /* _XBZRLE_TRACKER_EXTERNAL_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory that userspace maps from us, so that its faults come to us. */
#ifndef _XBZRLE_TRACKER_OWNED_H
#define _XBZRLE_TRACKER_OWNED_H

#include <linux/types.h>

struct file;
struct xbzrle_region;

int xbzrle_owned_init(void);
void xbzrle_owned_exit(void);
struct file *xbzrle_owned_create(const char *name, u32 name_len, u64 length,
				 u32 capture, struct xbzrle_region **region);

#endif /* _XBZRLE_TRACKER_OWNED_H */

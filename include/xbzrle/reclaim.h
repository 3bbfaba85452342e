/* SPDX-License-Identifier: GPL-2.0-only */
/* Bases go back to a system that is short of memory. */
#ifndef _XBZRLE_RECLAIM_H
#define _XBZRLE_RECLAIM_H

#include <linux/list.h>

struct xbzrle_cache;

/**
 * struct xbzrle_reclaim - a cache that the system may take bases from
 * @link: in the list of all of them
 * @cache: the cache
 */
struct xbzrle_reclaim {
	struct list_head link;
	struct xbzrle_cache *cache;
};

int xbzrle_reclaim_init(void);
void xbzrle_reclaim_exit(void);
void xbzrle_reclaim_add(struct xbzrle_reclaim *reclaim,
			struct xbzrle_cache *cache);
void xbzrle_reclaim_remove(struct xbzrle_reclaim *reclaim);

#endif /* _XBZRLE_RECLAIM_H */

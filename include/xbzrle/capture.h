/* SPDX-License-Identifier: GPL-2.0-only */
/* From a dirty unit to a page whose content no longer changes. */
#ifndef _XBZRLE_CAPTURE_H
#define _XBZRLE_CAPTURE_H

#include <linux/types.h>

struct page;
struct xbzrle_region;

/* Live pages taken with one call to the tracker. */
#define XBZRLE_CAPTURE_BATCH	32

/**
 * struct xbzrle_capture_batch - live pages on their way to being captured
 * @region: whose units
 * @unit: the first of @live
 * @nr: units in @live
 * @live: references on the pages, NULL for a hole or when already captured
 * @spare: a page nobody else holds, or NULL
 *
 * Everything is protected by the session's lock.
 */
struct xbzrle_capture_batch {
	struct xbzrle_region *region;
	unsigned long unit;
	unsigned int nr;
	struct page *live[XBZRLE_CAPTURE_BATCH];
	struct page *spare;
};

int xbzrle_capture_unit(struct xbzrle_capture_batch *capture,
			struct xbzrle_region *region, unsigned long unit,
			unsigned long nr, struct page **page);
void xbzrle_capture_spare(struct xbzrle_capture_batch *capture, struct page *page);
void xbzrle_capture_reset(struct xbzrle_capture_batch *capture);

#endif /* _XBZRLE_CAPTURE_H */

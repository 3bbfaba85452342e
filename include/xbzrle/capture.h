/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a dirty unit to a page whose content no longer changes. A round of a
 * moment is one of POINT_IN_TIME: what it is to have of a unit that changes is
 * kept as it was.
 */
#ifndef _XBZRLE_CAPTURE_H
#define _XBZRLE_CAPTURE_H

#include <linux/atomic.h>
#include <linux/types.h>

#include "region.h"

struct page;
struct xbzrle_cache;

/* Live pages taken by one call to the tracker: many, as it locks its target. */
#define XBZRLE_CAPTURE_BATCH	32

/* Units captured and compared together: few, as their pages may stay locked. */
#define XBZRLE_CAPTURE_LOT	8

/**
 * struct xbzrle_capturer - how a session gets contents
 * @cache: keeps pre-images
 * @keeper: what regions give them to
 * @bases: pre-images are wanted as bases
 * @torn: what the round of a moment was to have of a unit is lost
 * @nr_preimages: bases kept by page faults
 * @nr_moments: units encoded from what was kept for a round of a moment
 * @nr_still: units encoded from the page itself
 * @nr_copied: units copied to be encoded
 * @nr_frozen: units encoded from a frozen page
 * @region: whose units are in @live
 * @unit: the first of @live
 * @nr: units in @live
 * @live: references on the pages, NULL for a hole or when already captured
 * @spares: pages nobody else holds
 * @nr_spares: how many
 *
 * @bases, @torn and the atomic counter are also for page faults; what else
 * changes is protected by the session's lock.
 */
struct xbzrle_capturer {
	struct xbzrle_cache *cache;
	struct xbzrle_keeper keeper;
	bool bases;
	bool torn;
	atomic_long_t nr_preimages;
	u64 nr_moments;
	u64 nr_still;
	u64 nr_copied;
	u64 nr_frozen;
	struct xbzrle_region *region;
	unsigned long unit;
	unsigned int nr;
	struct page *live[XBZRLE_CAPTURE_BATCH];
	struct page *spares[XBZRLE_CAPTURE_LOT];
	unsigned int nr_spares;
};

/**
 * struct xbzrle_captured - the content of a unit
 * @unit: the unit
 * @page: the content, NULL for a hole
 * @still: @page is the live one, whose writers wait; otherwise nobody else has
 *	it
 * @goes_on: and the next one is of the same folio, which is locked for both
 * @held: it was held for the round; while it is being captured
 */
struct xbzrle_captured {
	unsigned long unit;
	struct page *page;
	bool still;
	bool goes_on;
	bool held;
};

void xbzrle_capture_init(struct xbzrle_capturer *capture,
			 struct xbzrle_cache *cache);
int xbzrle_capture_lot(struct xbzrle_capturer *capture,
		       struct xbzrle_region *region, unsigned long unit,
		       unsigned int max, struct xbzrle_captured *captured);
void xbzrle_capture_done(struct xbzrle_capturer *capture,
			 struct xbzrle_region *region,
			 struct xbzrle_captured *captured);
int xbzrle_capture_moment(struct xbzrle_capturer *capture,
			  struct xbzrle_region *region);
void xbzrle_capture_spare(struct xbzrle_capturer *capture, struct page *page);
void xbzrle_capture_reset(struct xbzrle_capturer *capture);

#endif /* _XBZRLE_CAPTURE_H */

// SPDX-License-Identifier: GPL-2.0-only
#include <linux/highmem.h>
#include <linux/minmax.h>
#include <linux/mm.h>

#include <xbzrle/capture.h>
#include <xbzrle/region.h>

/**
 * xbzrle_capture_unit() - get stable content of a unit
 * @capture: the state
 * @region: the region
 * @unit: the unit
 * @nr: units from @unit on that are wanted next, at least 1
 * @page: out: a page with the content, or NULL if the unit is a hole
 *
 * The content is that of some moment after the harvest that reported the unit.
 * It is copied to the spare page, which has to be there, as the live page can
 * change at any time. The page belongs to the caller until it, or one that
 * takes its place, comes back through xbzrle_capture_spare().
 *
 * Context: may sleep; session's lock.
 * Return: 0, -ENOMEM, -EINTR, or the reason the region ended.
 */
int xbzrle_capture_unit(struct xbzrle_capture_batch *capture,
			struct xbzrle_region *region, unsigned long unit,
			unsigned long nr, struct page **page)
{
	struct page *live;
	long got;

	if (capture->region != region || unit < capture->unit ||
	    unit - capture->unit >= capture->nr) {
		xbzrle_capture_reset(capture);
		got = region->ops->get(region, unit,
				       min_t(unsigned long, nr,
					     XBZRLE_CAPTURE_BATCH),
				       capture->live);
		if (got < 0)
			return got;
		capture->region = region;
		capture->unit = unit;
		capture->nr = got;
	}

	live = capture->live[unit - capture->unit];
	if (!live) {
		*page = NULL;
		return 0;
	}
	copy_highpage(capture->spare, live);
	put_page(live);
	capture->live[unit - capture->unit] = NULL;
	*page = capture->spare;
	capture->spare = NULL;
	return 0;
}

/**
 * xbzrle_capture_spare() - give a page for the next capture
 * @capture: the state
 * @page: a page whose only reference is the caller's, or NULL
 *
 * Context: session's lock.
 */
void xbzrle_capture_spare(struct xbzrle_capture_batch *capture, struct page *page)
{
	if (!page)
		return;
	if (capture->spare)
		put_page(page);
	else
		capture->spare = page;
}

/**
 * xbzrle_capture_reset() - let go of live pages that were taken ahead
 * @capture: the state
 *
 * Context: may sleep; session's lock.
 */
void xbzrle_capture_reset(struct xbzrle_capture_batch *capture)
{
	unsigned int i;

	for (i = 0; i < capture->nr; i++)
		if (capture->live[i])
			put_page(capture->live[i]);
	capture->nr = 0;
	capture->region = NULL;
}

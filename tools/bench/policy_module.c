// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <error.h>

#include <xbzrle/page_cache.h>

#include "policy.h"

static struct page *new_page(void)
{
	struct page *page = alloc_page(GFP_KERNEL);

	if (!page)
		error(1, 0, "out of memory");
	return page;
}

/* As the stream does it with a copy of a page. Returns a page that is free. */
static struct page *visit(struct xbzrle_cache *cache,
			  const struct access *access, struct page *page,
			  bool *hit)
{
	struct xbzrle_base *base;
	bool sits_out;

	base = xbzrle_cache_find(cache, access->page, &sits_out);
	*hit = base;
	if (base)
		return xbzrle_cache_settle(cache, base, page,
					   access->delta == UNIT_BYTES);
	return sits_out ? page :
	       xbzrle_cache_admit(cache, access->page, page, true);
}

/**
 * policy_module() - the module's own cache, page_cache.c
 * @trace: trace
 * @capacity: bases there is room for
 * @hits: out: whether each access found its base
 */
void policy_module(const struct trace *trace, uint32_t capacity, bool *hits)
{
	struct xbzrle_cache cache;
	struct page *page = NULL;
	size_t round, i;

	xbzrle_cache_init(&cache);
	xbzrle_cache_resize(&cache, (u64)capacity << PAGE_SHIFT);
	for (round = 0; round < trace->rounds; round++) {
		xbzrle_cache_begin_round(&cache);
		for (i = trace->begins[round];
		     i < trace_end_of_round(trace, round); i++)
			page = visit(&cache, &trace->accesses[i],
				     page ?: new_page(), &hits[i]);
	}
	if (page)
		put_page(page);
	xbzrle_cache_destroy(&cache);
}

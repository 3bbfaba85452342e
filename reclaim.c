// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page without a base goes whole the next time it is sent, and that is all
 * that a base is good for. So they are a cache as any other: the kernel may
 * have them when it needs memory for something else.
 *
 * Whoever allocates may come here, also somebody who adds a cache. So who comes
 * here only tries for the list's lock. Nobody allocates under a cache's in a way
 * that leads here.
 */
#include <linux/mm.h>
#include <linux/shrinker.h>

#include "compat/compat.h"
#include <xbzrle/page_cache.h>
#include <xbzrle/reclaim.h>

/* Nothing is allocated under it. */
static DEFINE_MUTEX(caches_lock);
static LIST_HEAD(caches);
static struct shrinker *shrinker;

static unsigned long reclaim_count(struct shrinker *unused,
				   struct shrink_control *sc)
{
	struct xbzrle_reclaim *reclaim;
	unsigned long count = 0;

	if (!mutex_trylock(&caches_lock))
		return 0;
	list_for_each_entry(reclaim, &caches, link)
		count += READ_ONCE(reclaim->cache->used);
	mutex_unlock(&caches_lock);
	return count ?: SHRINK_EMPTY;
}

static unsigned long reclaim_scan(struct shrinker *unused,
				  struct shrink_control *sc)
{
	struct xbzrle_reclaim *reclaim;
	unsigned long freed = 0;

	if (!mutex_trylock(&caches_lock))
		return SHRINK_STOP;
	list_for_each_entry(reclaim, &caches, link) {
		freed += xbzrle_cache_shrink(reclaim->cache,
					     sc->nr_to_scan - freed);
		if (freed == sc->nr_to_scan)
			break;
	}
	/* Somebody else is the first to give next time. */
	list_rotate_left(&caches);
	mutex_unlock(&caches_lock);
	return freed ?: SHRINK_STOP;
}

/**
 * xbzrle_reclaim_init() - let the kernel ask
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM.
 */
int xbzrle_reclaim_init(void)
{
	shrinker = shrinker_alloc(0, "xbzrle");
	if (!shrinker)
		return -ENOMEM;
	shrinker->count_objects = reclaim_count;
	shrinker->scan_objects = reclaim_scan;
	shrinker_register(shrinker);
	return 0;
}

/**
 * xbzrle_reclaim_exit() - undo xbzrle_reclaim_init()
 *
 * Context: may sleep.
 */
void xbzrle_reclaim_exit(void)
{
	shrinker_free(shrinker);
}

/**
 * xbzrle_reclaim_add() - let the kernel take bases from a cache
 * @reclaim: what is to be set up; stays where it is
 * @cache: the cache
 *
 * Context: may sleep.
 */
void xbzrle_reclaim_add(struct xbzrle_reclaim *reclaim,
			struct xbzrle_cache *cache)
{
	reclaim->cache = cache;
	mutex_lock(&caches_lock);
	list_add_tail(&reclaim->link, &caches);
	mutex_unlock(&caches_lock);
}

/**
 * xbzrle_reclaim_remove() - undo xbzrle_reclaim_add()
 * @reclaim: what was added; its cache is nobody's but the caller's afterwards
 *
 * Context: may sleep.
 */
void xbzrle_reclaim_remove(struct xbzrle_reclaim *reclaim)
{
	mutex_lock(&caches_lock);
	list_del(&reclaim->link);
	mutex_unlock(&caches_lock);
}

/* SPDX-License-Identifier: GPL-2.0-only */
/* A set of unit indices whose scan costs what is in it, not what could be. */
#ifndef _XBZRLE_DIRTY_SET_H
#define _XBZRLE_DIRTY_SET_H

#include <linux/types.h>

#define XBZRLE_DIRTY_LEVELS	3

/**
 * struct xbzrle_dirty_set - a bitmap under two summaries
 * @nbits: bits of each level; level 0 has one per unit
 * @level: the bitmaps. A bit of level n + 1 stands for a word of level n and
 *	is set whenever that word has a bit; it may be set without.
 *
 * Any number of contexts may add at any time. Finding and removing is for one
 * context at a time.
 */
struct xbzrle_dirty_set {
	unsigned long nbits[XBZRLE_DIRTY_LEVELS];
	unsigned long *level[XBZRLE_DIRTY_LEVELS];
};

int xbzrle_dirty_init(struct xbzrle_dirty_set *set, unsigned long nr_units);
void xbzrle_dirty_destroy(struct xbzrle_dirty_set *set);

void xbzrle_dirty_add(struct xbzrle_dirty_set *set, unsigned long unit);
bool xbzrle_dirty_test_and_add(struct xbzrle_dirty_set *set,
			       unsigned long unit);
void xbzrle_dirty_add_range(struct xbzrle_dirty_set *set, unsigned long first,
			    unsigned long nr);
void xbzrle_dirty_add_bitmap(struct xbzrle_dirty_set *set, unsigned long first,
			     const unsigned long *bits, unsigned long nr);
unsigned long xbzrle_dirty_remove(struct xbzrle_dirty_set *set,
				  unsigned long first, unsigned long nr);
bool xbzrle_dirty_test(const struct xbzrle_dirty_set *set, unsigned long unit);
unsigned long xbzrle_dirty_next(const struct xbzrle_dirty_set *set,
				unsigned long *first, unsigned long max);
unsigned long xbzrle_dirty_count(const struct xbzrle_dirty_set *set);

#endif /* _XBZRLE_DIRTY_SET_H */

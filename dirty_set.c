// SPDX-License-Identifier: GPL-2.0-only
#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/bitops.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/sched.h>

#include <xbzrle/dirty_set.h>
#include <xbzrle/race.h>

/**
 * xbzrle_dirty_init() - make an empty set
 * @set: the set
 * @nr_units: units it can hold, at least 1
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM.
 */
int xbzrle_dirty_init(struct xbzrle_dirty_set *set, unsigned long nr_units)
{
	unsigned long nbits = nr_units;
	int i;

	for (i = 0; i < XBZRLE_DIRTY_LEVELS; i++) {
		set->nbits[i] = nbits;
		set->level[i] = kvcalloc(BITS_TO_LONGS(nbits), sizeof(long),
					 GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
		if (!set->level[i])
			goto free_levels;
		nbits = BITS_TO_LONGS(nbits);
	}
	return 0;

free_levels:
	while (i--)
		kvfree(set->level[i]);
	return -ENOMEM;
}

/**
 * xbzrle_dirty_destroy() - free what xbzrle_dirty_init() allocated
 * @set: the set, no longer in use
 *
 * Context: may sleep.
 */
void xbzrle_dirty_destroy(struct xbzrle_dirty_set *set)
{
	int i;

	for (i = 0; i < XBZRLE_DIRTY_LEVELS; i++)
		kvfree(set->level[i]);
}

/*
 * Make the summaries show that @word of level 0 has a bit. A bit that is set
 * already says nothing of the level above: who set it may not have come that
 * far yet.
 */
static void summary_raise(struct xbzrle_dirty_set *set, unsigned long word)
{
	int i;

	for (i = 1; i < XBZRLE_DIRTY_LEVELS; i++) {
		/*
		 * The bit below is set before its summary is looked at, and
		 * summary_fold() clears the summary before it looks at the
		 * bits below: one of the two sees the other's.
		 */
		smp_mb__after_atomic();
		if (!test_bit(word, set->level[i]))
			set_bit(word, set->level[i]);
		word /= BITS_PER_LONG;
	}
}

/* Clear the summary bits above @word of level 0 if nothing is under them. */
static void summary_fold(struct xbzrle_dirty_set *set, unsigned long word)
{
	int i;

	for (i = 1; i < XBZRLE_DIRTY_LEVELS; i++) {
		if (READ_ONCE(set->level[i - 1][word]))
			return;
		clear_bit(word, set->level[i]);
		xbzrle_race_window_atomic();
		/* Pairs with the one in summary_raise(). */
		smp_mb__after_atomic();
		if (READ_ONCE(set->level[i - 1][word])) {
			set_bit(word, set->level[i]);
			if (i + 1 < XBZRLE_DIRTY_LEVELS)
				set_bit(word / BITS_PER_LONG,
					set->level[i + 1]);
			return;
		}
		word /= BITS_PER_LONG;
	}
}

/**
 * xbzrle_dirty_add() - add one unit
 * @set: the set
 * @unit: its index
 *
 * Context: any. Whatever the caller did before is visible to who removes the
 * unit, and fully ordered against it.
 */
void xbzrle_dirty_add(struct xbzrle_dirty_set *set, unsigned long unit)
{
	/* Whoever removes the unit sees what was done before, a lock say. */
	smp_mb__before_atomic();
	set_bit(unit, set->level[0]);
	xbzrle_race_window_atomic();
	summary_raise(set, unit / BITS_PER_LONG);
}

/**
 * xbzrle_dirty_test_and_add() - add one unit, and tell if it was there
 * @set: the set
 * @unit: its index
 *
 * Context: any; ordered as xbzrle_dirty_add() if it was not there.
 * Return: whether it was.
 */
bool xbzrle_dirty_test_and_add(struct xbzrle_dirty_set *set,
			       unsigned long unit)
{
	bool there = test_and_set_bit(unit, set->level[0]);

	summary_raise(set, unit / BITS_PER_LONG);
	return there;
}

/* The bits of word @word that lie in [first, end). */
static unsigned long range_mask(unsigned long word, unsigned long first,
				unsigned long end)
{
	unsigned long base = word * BITS_PER_LONG;
	unsigned long mask = ~0UL;

	if (first > base)
		mask &= BITMAP_FIRST_WORD_MASK(first);
	if (end < base + BITS_PER_LONG)
		mask &= BITMAP_LAST_WORD_MASK(end);
	return mask;
}

/**
 * xbzrle_dirty_add_range() - add units
 * @set: the set
 * @first: index of the first
 * @nr: how many, at least 1
 *
 * Context: any; ordered as xbzrle_dirty_add().
 */
void xbzrle_dirty_add_range(struct xbzrle_dirty_set *set, unsigned long first,
			    unsigned long nr)
{
	unsigned long end = first + nr, word;

	/* As in xbzrle_dirty_add(). */
	smp_mb__before_atomic();
	for (word = first / BITS_PER_LONG; word * BITS_PER_LONG < end; word++) {
		atomic_long_or(range_mask(word, first, end),
			       (atomic_long_t *)&set->level[0][word]);
		summary_raise(set, word);
	}
}

/**
 * xbzrle_dirty_add_bitmap() - add the units whose bits are set
 * @set: the set
 * @first: index of the unit that bit 0 stands for
 * @bits: the bitmap
 * @nr: bits in it
 *
 * Context: any; each unit is ordered as xbzrle_dirty_add().
 */
void xbzrle_dirty_add_bitmap(struct xbzrle_dirty_set *set, unsigned long first,
			     const unsigned long *bits, unsigned long nr)
{
	unsigned long start, end;

	for_each_set_bitrange(start, end, bits, nr)
		xbzrle_dirty_add_range(set, first + start, end - start);
}

/**
 * xbzrle_dirty_remove() - remove units
 * @set: the set
 * @first: index of the first
 * @nr: how many, at least 1
 *
 * Context: any, one at a time. A full barrier for each word that is changed.
 * Return: how many were in the set.
 */
unsigned long xbzrle_dirty_remove(struct xbzrle_dirty_set *set,
				  unsigned long first, unsigned long nr)
{
	unsigned long end = first + nr, removed = 0, word;

	for (word = first / BITS_PER_LONG; word * BITS_PER_LONG < end; word++) {
		unsigned long mask = range_mask(word, first, end);

		if (!(READ_ONCE(set->level[0][word]) & mask))
			continue;
		removed += hweight_long(mask &
			atomic_long_fetch_andnot(mask, (atomic_long_t *)
						 &set->level[0][word]));
		summary_fold(set, word);
	}
	return removed;
}

/**
 * xbzrle_dirty_test() - is a unit in the set?
 * @set: the set
 * @unit: its index
 *
 * Context: any.
 * Return: whether it was there at that moment.
 */
bool xbzrle_dirty_test(const struct xbzrle_dirty_set *set, unsigned long unit)
{
	return test_bit(unit, set->level[0]);
}

/**
 * xbzrle_dirty_next() - find the next run of units
 * @set: the set
 * @first: in: where to begin; out: index of the run's first unit
 * @max: longest run wanted, at least 1
 *
 * Visits a word of each level for a unit that is found and a word of the top
 * level for every 64 ^ 3 that are not.
 *
 * Beside a removal the run may have units that are just going.
 *
 * Context: any.
 * Return: units in the run, 0 when there is none.
 */
unsigned long xbzrle_dirty_next(const struct xbzrle_dirty_set *set,
				unsigned long *first, unsigned long max)
{
	unsigned long pos = *first;
	int i = 0;

	/* Up while the rest of a word is empty, down to where a bit is. */
	while (pos < set->nbits[i]) {
		unsigned long word = READ_ONCE(set->level[i][BIT_WORD(pos)]);

		word &= BITMAP_FIRST_WORD_MASK(pos);
		if (word) {
			pos = round_down(pos, BITS_PER_LONG) + __ffs(word);
			if (!i) {
				*first = pos;
				max = min(max, set->nbits[0] - pos);
				xbzrle_race_window_atomic();
				/* Also if that one is gone by now. */
				return find_next_zero_bit(set->level[0],
							  pos + max, pos + 1) -
				       pos;
			}
			pos *= BITS_PER_LONG;
			i--;
		} else if (i < XBZRLE_DIRTY_LEVELS - 1) {
			pos = BIT_WORD(pos) + 1;
			i++;
		} else {
			pos = round_up(pos + 1, BITS_PER_LONG);
		}
	}
	return 0;
}

/**
 * xbzrle_dirty_count() - how many units are in the set
 * @set: the set
 *
 * Context: may sleep; one at a time.
 * Return: the number; units that are added meanwhile may count or not.
 */
unsigned long xbzrle_dirty_count(const struct xbzrle_dirty_set *set)
{
	unsigned long first = 0, count = 0, nr;

	while ((nr = xbzrle_dirty_next(set, &first, ULONG_MAX))) {
		count += nr;
		first += nr;
		cond_resched();
	}
	return count;
}

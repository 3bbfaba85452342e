// SPDX-License-Identifier: GPL-2.0-only
#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/prandom.h>
#include <linux/sched.h>

#include <xbzrle/dirty_set.h>

static struct xbzrle_dirty_set *make_set(struct kunit *test, unsigned long nr)
{
	struct xbzrle_dirty_set *set = kunit_kzalloc(test, sizeof(*set),
						     GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, set);
	KUNIT_ASSERT_EQ(test, xbzrle_dirty_init(set, nr), 0);
	test->priv = set;
	return set;
}

static void dirty_exit(struct kunit *test)
{
	if (test->priv)
		xbzrle_dirty_destroy(test->priv);
}

static void empty_set_has_no_run(struct kunit *test)
{
	struct xbzrle_dirty_set *set = make_set(test, 1UL << 20);
	unsigned long first = 0;

	KUNIT_EXPECT_EQ(test, xbzrle_dirty_next(set, &first, 100), 0UL);
	KUNIT_EXPECT_EQ(test, xbzrle_dirty_count(set), 0UL);
}

struct size_param {
	unsigned long nr;
	const char *name;
};

/* One unit, around a word, around a summary word, around the top one. */
static const struct size_param sizes[] = {
	{ 1, "1" },		{ 63, "63" },		{ 64, "64" },
	{ 65, "65" },		{ 4095, "4095" },	{ 4096, "4096" },
	{ 4097, "4097" },	{ 262143, "262143" },	{ 262144, "262144" },
	{ 262145, "262145" },	{ 5000000, "5000000" },
};

static void size_desc(const struct size_param *p, char *desc)
{
	strscpy(desc, p->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(size, sizes, size_desc);

static void last_unit_is_found_and_removed(struct kunit *test)
{
	const struct size_param *p = test->param_value;
	struct xbzrle_dirty_set *set = make_set(test, p->nr);
	unsigned long first = 0;

	xbzrle_dirty_add(set, p->nr - 1);
	KUNIT_EXPECT_EQ(test, xbzrle_dirty_next(set, &first, 8), 1UL);
	KUNIT_EXPECT_EQ(test, first, p->nr - 1);
	KUNIT_EXPECT_EQ(test, xbzrle_dirty_remove(set, first, 1), 1UL);
	KUNIT_EXPECT_FALSE(test, xbzrle_dirty_test(set, p->nr - 1));
	first = 0;
	KUNIT_EXPECT_EQ(test, xbzrle_dirty_next(set, &first, 8), 0UL);
}

static void whole_set_is_one_run(struct kunit *test)
{
	const struct size_param *p = test->param_value;
	struct xbzrle_dirty_set *set = make_set(test, p->nr);
	unsigned long first = 0;

	xbzrle_dirty_add_range(set, 0, p->nr);
	KUNIT_EXPECT_EQ(test, xbzrle_dirty_next(set, &first, ULONG_MAX), p->nr);
	KUNIT_EXPECT_EQ(test, first, 0UL);
	KUNIT_EXPECT_EQ(test, xbzrle_dirty_count(set), p->nr);
	KUNIT_EXPECT_EQ(test, xbzrle_dirty_remove(set, 0, p->nr), p->nr);
	KUNIT_EXPECT_EQ(test, xbzrle_dirty_count(set), 0UL);
}

static void summaries_empty_when_the_set_is(struct kunit *test)
{
	const struct size_param *p = test->param_value;
	struct xbzrle_dirty_set *set = make_set(test, p->nr);
	int i;

	xbzrle_dirty_add_range(set, 0, p->nr);
	xbzrle_dirty_remove(set, 0, p->nr);
	for (i = 0; i < XBZRLE_DIRTY_LEVELS; i++)
		KUNIT_EXPECT_TRUE(test, bitmap_empty(set->level[i],
						     set->nbits[i]));
}

static void run_is_cut_at_max(struct kunit *test)
{
	struct xbzrle_dirty_set *set = make_set(test, 1000);
	unsigned long first = 0;

	xbzrle_dirty_add_range(set, 100, 200);
	KUNIT_EXPECT_EQ(test, xbzrle_dirty_next(set, &first, 32), 32UL);
	KUNIT_EXPECT_EQ(test, first, 100UL);
	first = 290;
	KUNIT_EXPECT_EQ(test, xbzrle_dirty_next(set, &first, 32), 10UL);
	KUNIT_EXPECT_EQ(test, first, 290UL);
}

/* Whatever bit of a word the first unit is, and whatever is the last bit. */
static void bitmap_is_added_where_it_belongs(struct kunit *test)
{
	enum { NR = 300, BITS = 150 };
	struct xbzrle_dirty_set *set = make_set(test, NR);
	unsigned long bits[BITS_TO_LONGS(BITS)];
	unsigned int first, nr, unit;

	for (unit = 0; unit < ARRAY_SIZE(bits); unit++)
		bits[unit] = 0x81f00fff96000081UL >> unit;
	for (first = 0; first < NR - BITS; first += 7) {
		nr = BITS - first % 70;
		xbzrle_dirty_add_bitmap(set, first, bits, nr);
		KUNIT_EXPECT_EQ(test, xbzrle_dirty_count(set),
				(unsigned long)bitmap_weight(bits, nr));
		for (unit = 0; unit < NR; unit++)
			KUNIT_ASSERT_EQ(test, xbzrle_dirty_test(set, unit),
					unit >= first && unit - first < nr &&
					test_bit(unit - first, bits));
		xbzrle_dirty_remove(set, 0, NR);
	}
}

static void removing_what_is_not_there_changes_nothing(struct kunit *test)
{
	struct xbzrle_dirty_set *set = make_set(test, 1000);

	xbzrle_dirty_add(set, 500);
	KUNIT_EXPECT_EQ(test, xbzrle_dirty_remove(set, 0, 500), 0UL);
	KUNIT_EXPECT_EQ(test, xbzrle_dirty_remove(set, 501, 499), 0UL);
	KUNIT_EXPECT_EQ(test, xbzrle_dirty_count(set), 1UL);
}

/* Random calls beside a plain array of bytes, one per unit. */
static void agrees_with_a_plain_array(struct kunit *test)
{
	const unsigned long nr = 300000;
	struct xbzrle_dirty_set *set = make_set(test, nr);
	unsigned long first, run, i, pos, step;
	struct rnd_state rnd;
	u8 *plain;

	prandom_seed_state(&rnd, 20261123);
	plain = kvzalloc(nr, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, plain);
	for (step = 0; step < 2000; step++) {
		u32 what = prandom_u32_state(&rnd) % 4;

		first = prandom_u32_state(&rnd) % nr;
		run = 1 + prandom_u32_state(&rnd) % (what & 1 ? 5000 : 3);
		run = min(run, nr - first);
		if (what < 2) {
			xbzrle_dirty_add_range(set, first, run);
			memset(plain + first, 1, run);
		} else {
			unsigned long there = 0;

			for (i = 0; i < run; i++)
				there += plain[first + i];
			KUNIT_ASSERT_EQ(test, xbzrle_dirty_remove(set, first,
								  run), there);
			memset(plain + first, 0, run);
		}
	}

	for (i = 0, pos = 0; (run = xbzrle_dirty_next(set, &pos, 7));
	     pos += run) {
		KUNIT_ASSERT_LE(test, run, 7UL);
		for (; i < pos; i++)
			KUNIT_ASSERT_EQ(test, plain[i], 0);
		for (; i < pos + run; i++)
			KUNIT_ASSERT_EQ(test, plain[i], 1);
	}
	for (; i < nr; i++)
		KUNIT_ASSERT_EQ(test, plain[i], 0);
	kvfree(plain);
}

/*
 * Two add the same unit, and the first is held up on its way through the
 * levels: what the second has added is there all the same.
 */
static void who_comes_second_does_not_wait(struct kunit *test)
{
	const unsigned long unit = 4242;
	struct xbzrle_dirty_set *set = make_set(test, 1UL << 20);
	unsigned long first, bit;
	int turn, i;

	/* Each way to add, at each level. */
	for (turn = 0; turn < 3 * XBZRLE_DIRTY_LEVELS; turn++) {
		for (i = 0, bit = unit; i <= turn / 3; i++) {
			set_bit(bit, set->level[i]);
			bit /= BITS_PER_LONG;
		}
		if (turn % 3 == 0)
			xbzrle_dirty_add(set, unit);
		else if (turn % 3 == 1)
			xbzrle_dirty_add_range(set, unit, 1);
		else
			KUNIT_EXPECT_TRUE(test,
					  xbzrle_dirty_test_and_add(set, unit));
		first = 0;
		KUNIT_EXPECT_EQ(test, xbzrle_dirty_next(set, &first, 2), 1UL);
		KUNIT_EXPECT_EQ(test, first, unit);
		KUNIT_EXPECT_EQ(test, xbzrle_dirty_remove(set, unit, 1), 1UL);
	}
}

#define RACE_UNITS	200000UL

static int add_one_by_one(void *data)
{
	struct xbzrle_dirty_set *set = data;
	unsigned long unit;

	for (unit = 0; unit < RACE_UNITS; unit++) {
		xbzrle_dirty_add(set, unit);
		if (!(unit % 1024))
			cond_resched();
	}
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

/* Who removes is on the heels of who adds, mostly in the same word. */
static void removing_loses_nothing_that_is_added(struct kunit *test)
{
	struct xbzrle_dirty_set *set = make_set(test, RACE_UNITS);
	unsigned long first, nr, removed = 0, deadline = jiffies + 20 * HZ;
	struct task_struct *adder;

	adder = kthread_run(add_one_by_one, set, "xbzrle_adder");
	KUNIT_ASSERT_FALSE(test, IS_ERR(adder));
	while (removed < RACE_UNITS && time_before(jiffies, deadline)) {
		first = 0;
		nr = xbzrle_dirty_next(set, &first, 64);
		if (nr)
			removed += xbzrle_dirty_remove(set, first, nr);
		else
			cond_resched();
	}
	kthread_stop(adder);
	KUNIT_EXPECT_EQ(test, removed, RACE_UNITS);
}

static int add_and_remove(void *data)
{
	struct xbzrle_dirty_set *set = data;

	while (!kthread_should_stop()) {
		xbzrle_dirty_add(set, 7);
		xbzrle_dirty_remove(set, 7, 1);
		cond_resched();
	}
	return 0;
}

/* A unit that goes while it is found hides none of those behind it. */
static void searching_goes_on_behind_what_goes(struct kunit *test)
{
	struct xbzrle_dirty_set *set = make_set(test, RACE_UNITS);
	unsigned long first, found = 0, turn;
	struct task_struct *other;

	xbzrle_dirty_add(set, RACE_UNITS - 1);
	other = kthread_run(add_and_remove, set, "xbzrle_other");
	KUNIT_ASSERT_FALSE(test, IS_ERR(other));
	for (turn = 0; turn < RACE_UNITS; turn++) {
		first = 0;
		found += xbzrle_dirty_next(set, &first, 1);
		if (!(turn % 1024))
			cond_resched();
	}
	kthread_stop(other);
	KUNIT_EXPECT_EQ(test, found, RACE_UNITS);
}

static struct kunit_case dirty_cases[] = {
	KUNIT_CASE(empty_set_has_no_run),
	KUNIT_CASE_PARAM(last_unit_is_found_and_removed, size_gen_params),
	KUNIT_CASE_PARAM(whole_set_is_one_run, size_gen_params),
	KUNIT_CASE_PARAM(summaries_empty_when_the_set_is, size_gen_params),
	KUNIT_CASE(run_is_cut_at_max),
	KUNIT_CASE(bitmap_is_added_where_it_belongs),
	KUNIT_CASE(removing_what_is_not_there_changes_nothing),
	KUNIT_CASE(agrees_with_a_plain_array),
	KUNIT_CASE(who_comes_second_does_not_wait),
	KUNIT_CASE(removing_loses_nothing_that_is_added),
	KUNIT_CASE(searching_goes_on_behind_what_goes),
	{}
};

static struct kunit_suite dirty_suite = {
	.name = "xbzrle_dirty",
	.exit = dirty_exit,
	.test_cases = dirty_cases,
};

kunit_test_suite(dirty_suite);

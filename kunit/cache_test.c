// SPDX-License-Identifier: GPL-2.0-only
#include <kunit/test.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/prandom.h>
#include <linux/sched.h>

#include <xbzrle/page_cache.h>

static int cache_init(struct kunit *test)
{
	struct xbzrle_cache *cache = kunit_kzalloc(test, sizeof(*cache),
						   GFP_KERNEL);

	if (!cache)
		return -ENOMEM;
	xbzrle_cache_init(cache);
	test->priv = cache;
	return 0;
}

static void cache_exit(struct kunit *test)
{
	xbzrle_cache_destroy(test->priv);
}

static void set_pages(struct kunit *test, u32 pages)
{
	xbzrle_cache_resize(test->priv, (u64)pages << PAGE_SHIFT);
}

static struct page *new_page(struct kunit *test)
{
	struct page *page = alloc_page(GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, page);
	return page;
}

/* Of which the test keeps a reference. */
static struct page *shared_page(struct kunit *test)
{
	struct page *page = new_page(test);

	get_page(page);
	return page;
}

static void expect_given_back(struct kunit *test, struct page *page)
{
	KUNIT_EXPECT_EQ(test, page_count(page), 1);
	put_page(page);
}

static struct page *replace(struct xbzrle_cache *cache,
			    struct xbzrle_base *base, struct page *page)
{
	return xbzrle_cache_settle(cache, base, page, false);
}

static struct page *overflow(struct xbzrle_cache *cache,
			     struct xbzrle_base *base, struct page *page)
{
	return xbzrle_cache_settle(cache, base, page, true);
}

static struct page *admit(struct xbzrle_cache *cache, unsigned long key,
			  struct page *page)
{
	return xbzrle_cache_admit(cache, key, page, true);
}

/* One round's visit of a unit that is always sent: was there a base? */
static bool visit(struct kunit *test, unsigned long key)
{
	struct xbzrle_cache *cache = test->priv;
	struct xbzrle_base *base;
	struct page *page;
	bool sits_out;

	base = xbzrle_cache_find(cache, key, &sits_out);
	page = new_page(test);
	if (base)
		page = replace(cache, base, page);
	else if (!sits_out)
		page = admit(cache, key, page);
	if (page)
		put_page(page);
	return base;
}

static unsigned long sweep(struct kunit *test, unsigned long first,
			   unsigned long nr)
{
	unsigned long i, hits = 0;

	for (i = 0; i < nr; i++)
		hits += visit(test, first + i);
	return hits;
}

static void without_budget_nothing_is_admitted(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *page = new_page(test);

	KUNIT_EXPECT_PTR_EQ(test, admit(cache, 1, page), page);
	KUNIT_EXPECT_EQ(test, cache->used, 0U);
	put_page(page);
}

static void base_is_the_page_that_was_admitted(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *page = new_page(test);
	struct xbzrle_base *base;
	bool sits_out;

	set_pages(test, 4);
	KUNIT_EXPECT_NULL(test, admit(cache, 7, page));
	base = xbzrle_cache_find(cache, 7, &sits_out);
	KUNIT_ASSERT_NOT_NULL(test, base);
	KUNIT_EXPECT_FALSE(test, sits_out);
	KUNIT_EXPECT_PTR_EQ(test, base->page, page);
	KUNIT_EXPECT_NULL(test, xbzrle_cache_find(cache, 8, &sits_out));
}

static void replaced_base_comes_back(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *old = new_page(test), *new = new_page(test);
	bool sits_out;

	set_pages(test, 4);
	admit(cache, 7, old);
	KUNIT_EXPECT_PTR_EQ(test, old,
			    replace(cache,
				    xbzrle_cache_find(cache, 7, &sits_out),
				    new));
	KUNIT_EXPECT_EQ(test, page_count(old), 1);
	KUNIT_EXPECT_PTR_EQ(test, new,
			    xbzrle_cache_find(cache, 7, &sits_out)->page);
	put_page(old);
}

static void admitting_to_a_full_cache_gives_a_page_back(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *a = new_page(test), *b = new_page(test), *spare;

	set_pages(test, 1);
	KUNIT_EXPECT_NULL(test, admit(cache, 1, a));
	/* As often seen as the victim: refused. Then more often. */
	spare = admit(cache, 2, b);
	KUNIT_ASSERT_PTR_EQ(test, spare, b);
	xbzrle_cache_begin_round(cache);
	spare = admit(cache, 2, b);
	if (spare == b)
		spare = admit(cache, 2, b);
	KUNIT_EXPECT_PTR_EQ(test, spare, a);
	KUNIT_EXPECT_EQ(test, cache->used, 1U);
	KUNIT_EXPECT_EQ(test, cache->evicted, 1ULL);
	put_page(spare);
}

static void cache_references_are_given_back(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *page[32];
	int i;

	set_pages(test, ARRAY_SIZE(page));
	for (i = 0; i < ARRAY_SIZE(page); i++) {
		page[i] = shared_page(test);
		KUNIT_EXPECT_NULL(test, admit(cache, i, page[i]));
	}
	set_pages(test, 10);
	KUNIT_EXPECT_EQ(test, cache->used, 10U);
	xbzrle_cache_drop(cache, 0, ARRAY_SIZE(page));
	KUNIT_EXPECT_EQ(test, cache->used, 0U);
	for (i = 0; i < ARRAY_SIZE(page); i++)
		expect_given_back(test, page[i]);
}

static void growing_keeps_every_base(struct kunit *test)
{
	set_pages(test, 64);
	sweep(test, 0, 64);
	set_pages(test, 1000);
	KUNIT_EXPECT_EQ(test, sweep(test, 0, 64), 64UL);
}

static void shrinking_keeps_the_hot(struct kunit *test)
{
	int i;

	set_pages(test, 256);
	sweep(test, 0, 256);
	for (i = 0; i < 4; i++) {
		xbzrle_cache_begin_round(test->priv);
		sweep(test, 100, 20);
	}
	/* Evicts by sampling, so that nearly all of the hot stay. */
	set_pages(test, 64);
	KUNIT_EXPECT_GE(test, sweep(test, 100, 20), 18UL);
}

static void what_reclaim_takes_is_counted_and_given(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *page;

	set_pages(test, 8);
	sweep(test, 0, 8);
	page = xbzrle_cache_take(cache);
	KUNIT_ASSERT_NOT_NULL(test, page);
	KUNIT_EXPECT_EQ(test, page_count(page), 1);
	put_page(page);
	KUNIT_EXPECT_EQ(test, xbzrle_cache_shrink(cache, 3), 3UL);
	KUNIT_EXPECT_EQ(test, cache->used, 4U);
	KUNIT_EXPECT_EQ(test, xbzrle_cache_shrink(cache, ULONG_MAX), 4UL);
	KUNIT_EXPECT_NULL(test, xbzrle_cache_take(cache));
	KUNIT_EXPECT_EQ(test, cache->reclaimed, 8ULL);
	KUNIT_EXPECT_EQ(test, cache->evicted, 0ULL);

	/* The budget is what it was. */
	KUNIT_EXPECT_EQ(test, sweep(test, 0, 8), 0UL);
	KUNIT_EXPECT_EQ(test, cache->used, 8U);
	KUNIT_EXPECT_EQ(test, sweep(test, 0, 8), 8UL);
}

static void what_reclaim_frees_is_given_back(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *page = shared_page(test);

	set_pages(test, 1);
	KUNIT_EXPECT_NULL(test, admit(cache, 1, page));
	KUNIT_EXPECT_EQ(test, xbzrle_cache_shrink(cache, 1), 1UL);
	expect_given_back(test, page);
}

static void reclaim_takes_the_cold(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	unsigned int i;

	set_pages(test, 256);
	sweep(test, 0, 256);
	for (i = 0; i < 3; i++) {
		xbzrle_cache_begin_round(cache);
		sweep(test, 0, 64);
	}
	xbzrle_cache_shrink(cache, 128);
	/* Of eight that are drawn one is cold, as good as always. */
	KUNIT_EXPECT_GE(test, sweep(test, 0, 64), 60UL);
}

static void dropping_a_range_leaves_the_rest(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	unsigned long a = xbzrle_cache_reserve(cache, 20);
	unsigned long b = xbzrle_cache_reserve(cache, 20);

	set_pages(test, 64);
	sweep(test, a, 20);
	sweep(test, b, 20);
	xbzrle_cache_drop(cache, a, 20);
	KUNIT_EXPECT_EQ(test, cache->used, 20U);
	KUNIT_EXPECT_EQ(test, sweep(test, b, 20), 20UL);
}

/* Recency would hit nothing here. */
static void cyclic_set_larger_than_the_cache_hits(struct kunit *test)
{
	unsigned long hits = 0;
	int round;

	set_pages(test, 256);
	for (round = 0; round < 20; round++) {
		xbzrle_cache_begin_round(test->priv);
		hits = sweep(test, 0, 512);
	}
	KUNIT_EXPECT_EQ(test, hits, 256UL);
}

static void hot_set_survives_a_sweep(struct kunit *test)
{
	unsigned long hits = 0, cold = 1000;
	int round;

	set_pages(test, 128);
	for (round = 0; round < 20; round++) {
		xbzrle_cache_begin_round(test->priv);
		hits = sweep(test, 0, 100);
		sweep(test, cold, 500);
		cold += 500;
	}
	KUNIT_EXPECT_GE(test, hits, 95UL);
}

/* As soon as it has come twice, as the old one was sent in every round. */
static void new_hot_set_takes_over(struct kunit *test)
{
	int round;

	set_pages(test, 128);
	for (round = 0; round < 10; round++) {
		xbzrle_cache_begin_round(test->priv);
		sweep(test, 0, 128);
	}
	for (round = 0; round < 2; round++) {
		xbzrle_cache_begin_round(test->priv);
		KUNIT_EXPECT_EQ(test, sweep(test, 5000, 128), 0UL);
	}
	xbzrle_cache_begin_round(test->priv);
	KUNIT_EXPECT_EQ(test, sweep(test, 5000, 128), 128UL);
}

/* But not for having missed a round, if that is its way. */
static void hot_set_of_every_second_round_stays(struct kunit *test)
{
	unsigned long hits = 0, cold = 1000;
	int round;

	set_pages(test, 128);
	for (round = 0; round < 20; round++) {
		xbzrle_cache_begin_round(test->priv);
		if (round & 1)
			hits = sweep(test, 0, 100);
		sweep(test, cold, 500);
		cold += 500;
	}
	KUNIT_EXPECT_GE(test, hits, 95UL);
}

/* Of two that are alike in the latest 16 rounds. */
static void what_was_sent_long_ago_counts(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	int round;

	set_pages(test, 1);
	for (round = 1; round <= 21; round++) {
		xbzrle_cache_begin_round(cache);
		if (round == 12 || round == 21)
			visit(test, 1);
		if (round == 1 || round == 11 || round == 21)
			xbzrle_cache_count(cache, 0);
	}
	KUNIT_EXPECT_FALSE(test, visit(test, 0));
	KUNIT_EXPECT_TRUE(test, visit(test, 0));
}

/* Then what is new need not come twice. */
static void what_was_given_up_makes_room(struct kunit *test)
{
	int round;

	set_pages(test, 128);
	sweep(test, 0, 128);
	for (round = 0; round < 10; round++)
		xbzrle_cache_begin_round(test->priv);
	KUNIT_EXPECT_EQ(test, sweep(test, 5000, 128), 0UL);
	xbzrle_cache_begin_round(test->priv);
	KUNIT_EXPECT_EQ(test, sweep(test, 5000, 128), 128UL);
}

/* Others want bases, too, until one does not get any. */
static void crowd(struct kunit *test)
{
	unsigned long key = 1000;
	struct page *page;

	do
		page = admit(test->priv, key++, new_page(test));
	while (!page);
	put_page(page);
}

static void overflowing_unit_loses_its_base_and_comes_back(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *page = new_page(test);
	struct xbzrle_base *base;
	int tries, waits = 0;
	bool sits_out;

	set_pages(test, 4);
	admit(cache, 3, page);
	crowd(test);
	for (tries = 0; tries < 4; tries++) {
		base = xbzrle_cache_find(cache, 3, &sits_out);
		if (!base)
			break;
		put_page(overflow(cache, base, new_page(test)));
	}
	KUNIT_EXPECT_EQ(test, tries, 2);
	KUNIT_EXPECT_TRUE(test, sits_out);
	KUNIT_EXPECT_EQ(test, cache->used, 3U);

	/* In the end it may try again, and starts where it was. */
	while (sits_out && waits++ < 100)
		xbzrle_cache_find(cache, 3, &sits_out);
	KUNIT_EXPECT_FALSE(test, sits_out);
	KUNIT_EXPECT_NULL(test, admit(cache, 3, new_page(test)));
	base = xbzrle_cache_find(cache, 3, &sits_out);
	KUNIT_ASSERT_NOT_NULL(test, base);
	put_page(overflow(cache, base, new_page(test)));
	KUNIT_EXPECT_NULL(test, xbzrle_cache_find(cache, 3, &sits_out));
	KUNIT_EXPECT_TRUE(test, sits_out);
}

/* Twice as long for every further overflow, and in the end no longer. */
static void sitting_out_doubles(struct kunit *test)
{
	static const unsigned int rounds[] = { 1, 2, 4, 8, 16, 32, 64, 64 };
	struct xbzrle_cache *cache = test->priv;
	struct xbzrle_base *base;
	unsigned int waits, i;
	bool sits_out;

	set_pages(test, 4);
	KUNIT_EXPECT_NULL(test, admit(cache, 3, new_page(test)));
	crowd(test);
	base = xbzrle_cache_find(cache, 3, &sits_out);
	put_page(overflow(cache, base, new_page(test)));
	for (i = 0; i < ARRAY_SIZE(rounds); i++) {
		base = xbzrle_cache_find(cache, 3, &sits_out);
		KUNIT_ASSERT_NOT_NULL(test, base);
		put_page(overflow(cache, base, new_page(test)));
		for (waits = 0; waits < 100; waits++) {
			xbzrle_cache_find(cache, 3, &sits_out);
			if (!sits_out)
				break;
		}
		KUNIT_EXPECT_EQ(test, waits, rounds[i]);
		KUNIT_ASSERT_NULL(test, admit(cache, 3, new_page(test)));
	}
}

static void page_of_a_unit_that_sits_out_is_given_back(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *page = shared_page(test);
	struct xbzrle_base *base;
	bool sits_out;

	set_pages(test, 4);
	KUNIT_EXPECT_NULL(test, admit(cache, 3, new_page(test)));
	crowd(test);
	base = xbzrle_cache_find(cache, 3, &sits_out);
	put_page(overflow(cache, base, new_page(test)));
	base = xbzrle_cache_find(cache, 3, &sits_out);
	put_page(overflow(cache, base, page));
	KUNIT_EXPECT_EQ(test, cache->sitting_out, 1U);
	expect_given_back(test, page);
}

static void where_there_is_room_nobody_sits_out(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct xbzrle_base *base;
	bool sits_out;
	int i;

	set_pages(test, 4);
	admit(cache, 3, new_page(test));
	for (i = 0; i < 20; i++) {
		base = xbzrle_cache_find(cache, 3, &sits_out);
		KUNIT_ASSERT_NOT_NULL(test, base);
		put_page(overflow(cache, base, new_page(test)));
	}
	/* What it did counts when others come. */
	crowd(test);
	base = xbzrle_cache_find(cache, 3, &sits_out);
	KUNIT_ASSERT_NOT_NULL(test, base);
	put_page(overflow(cache, base, new_page(test)));
	KUNIT_EXPECT_NULL(test, xbzrle_cache_find(cache, 3, &sits_out));
	KUNIT_EXPECT_TRUE(test, sits_out);
}

static void success_forgives_an_overflow(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct xbzrle_base *base;
	bool sits_out;
	int i;

	set_pages(test, 4);
	admit(cache, 3, new_page(test));
	crowd(test);
	for (i = 0; i < 10; i++) {
		base = xbzrle_cache_find(cache, 3, &sits_out);
		KUNIT_ASSERT_NOT_NULL(test, base);
		put_page(i & 1 ? replace(cache, base, new_page(test)) :
			 overflow(cache, base, new_page(test)));
	}
}

/* A unit whose page is still has no base, but its overflows are not forgotten. */
static void without_a_page_the_base_goes(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *page = new_page(test);
	struct xbzrle_base *base;
	bool sits_out;
	int i;

	set_pages(test, 4);
	admit(cache, 3, page);
	crowd(test);
	base = xbzrle_cache_find(cache, 3, &sits_out);
	KUNIT_EXPECT_PTR_EQ(test, page, replace(cache, base, NULL));
	KUNIT_EXPECT_EQ(test, cache->used, 3U);
	KUNIT_EXPECT_EQ(test, cache->sitting_out, 0U);

	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_NULL(test, xbzrle_cache_admit(cache, 3, page,
							   false));
		base = xbzrle_cache_find(cache, 3, &sits_out);
		KUNIT_ASSERT_NOT_NULL(test, base);
		KUNIT_EXPECT_PTR_EQ(test, page, overflow(cache, base, NULL));
		KUNIT_EXPECT_EQ(test, cache->sitting_out, 1U);
	}
	KUNIT_EXPECT_NULL(test, xbzrle_cache_find(cache, 3, &sits_out));
	KUNIT_EXPECT_TRUE(test, sits_out);
	put_page(page);
}

static void what_is_about_to_change_is_wanted_as_what_was_sent(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *spare, *a = new_page(test), *b = new_page(test);

	KUNIT_EXPECT_FALSE(test, xbzrle_cache_wants(cache, 1, &spare));
	set_pages(test, 1);
	KUNIT_EXPECT_TRUE(test, xbzrle_cache_wants(cache, 1, &spare));
	KUNIT_EXPECT_NULL(test, spare);
	KUNIT_EXPECT_NULL(test, xbzrle_cache_admit(cache, 1, a, false));
	/* It is there. */
	KUNIT_EXPECT_FALSE(test, xbzrle_cache_wants(cache, 1, &spare));
	KUNIT_EXPECT_EQ(test, cache->refused, 0ULL);

	/* Neither was sent yet; then one was. */
	KUNIT_EXPECT_FALSE(test, xbzrle_cache_wants(cache, 2, &spare));
	KUNIT_EXPECT_EQ(test, cache->refused, 1ULL);
	xbzrle_cache_count(cache, 2);
	KUNIT_EXPECT_TRUE(test, xbzrle_cache_wants(cache, 2, &spare));
	KUNIT_EXPECT_PTR_EQ(test, spare, a);
	KUNIT_EXPECT_EQ(test, cache->used, 0U);
	KUNIT_EXPECT_EQ(test, cache->evicted, 1ULL);
	KUNIT_EXPECT_NULL(test, xbzrle_cache_admit(cache, 2, b, false));
	put_page(a);
}

/* As xbzrle_cache_drop_bases() has it until the counters are gone. */
static void nothing_comes_in_while_bases_are_dropped(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *spare, *page = new_page(test);

	set_pages(test, 4);
	cache->dropping = true;
	KUNIT_EXPECT_FALSE(test, xbzrle_cache_wants(cache, 1, &spare));
	KUNIT_EXPECT_NULL(test, spare);
	KUNIT_ASSERT_PTR_EQ(test, admit(cache, 1, page), page);
	KUNIT_EXPECT_TRUE(test, xa_empty(&cache->uses));
	cache->dropping = false;
	KUNIT_EXPECT_TRUE(test, xbzrle_cache_wants(cache, 1, &spare));
	KUNIT_EXPECT_NULL(test, admit(cache, 1, page));
}

#define OFFERED	1000UL

static int offer_again_and_again(void *data)
{
	struct page *page;
	unsigned long key;

	while (!kthread_should_stop()) {
		for (key = 0; key < OFFERED; key++) {
			page = alloc_page(GFP_KERNEL);
			if (page)
				page = xbzrle_cache_admit(data, key, page,
							  false);
			if (page)
				put_page(page);
		}
		cond_resched();
	}
	return 0;
}

static unsigned int bases_without_counter(struct xbzrle_cache *cache)
{
	unsigned int lost = 0;
	struct xbzrle_use *leaf;
	unsigned long key;
	void *entry;

	spin_lock(&cache->lock);
	xa_for_each(&cache->entries, key, entry) {
		leaf = xa_load(&cache->uses, key / XBZRLE_CACHE_USE_LEAF);
		lost += !leaf || ((struct xbzrle_base *)entry)->use !=
				 leaf + key % XBZRLE_CACHE_USE_LEAF;
	}
	spin_unlock(&cache->lock);
	return lost;
}

static void no_base_outlives_its_counter(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct task_struct *offerer;
	unsigned int lost = 0, i;

	set_pages(test, OFFERED);
	offerer = kthread_run(offer_again_and_again, cache, "xbzrle_offerer");
	KUNIT_ASSERT_FALSE(test, IS_ERR(offerer));
	for (i = 0; i < 100 && !lost; i++) {
		/* Until it has offered some. */
		schedule_timeout_uninterruptible(1);
		xbzrle_cache_drop_bases(cache);
		lost = bases_without_counter(cache);
	}
	kthread_stop(offerer);
	KUNIT_EXPECT_EQ(test, lost, 0U);
}

static void base_in_use_is_not_evicted(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct xbzrle_base *base;
	struct page *page;
	bool sits_out;

	set_pages(test, 2);
	sweep(test, 0, 2);
	base = xbzrle_cache_find(cache, 1, &sits_out);
	page = base->page;
	KUNIT_EXPECT_EQ(test, xbzrle_cache_shrink(cache, 2), 1UL);
	KUNIT_EXPECT_NULL(test, xbzrle_cache_take(cache));
	KUNIT_EXPECT_PTR_EQ(test, page, replace(cache, base, new_page(test)));
	put_page(page);
	KUNIT_EXPECT_EQ(test, xbzrle_cache_shrink(cache, 2), 1UL);
}

/* Wherever they are, and however few are looked at in one go. */
static void victim_is_found_among_bases_in_use(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct xbzrle_base *busy[16];
	struct page *page, *got;
	unsigned int turn, i;
	bool sits_out;

	set_pages(test, 17);
	sweep(test, 0, 17);
	for (i = 0; i < 16; i++)
		busy[i] = xbzrle_cache_find(cache, i + (i >= 5), &sits_out);
	for (turn = 0; turn < 17; turn++) {
		page = new_page(test);
		KUNIT_ASSERT_EQ(test, xbzrle_cache_hold(cache, 100, page, true), 0);
		KUNIT_ASSERT_EQ(test, cache->used, 16U);
		KUNIT_EXPECT_TRUE(test, xbzrle_cache_release(cache, 100, &got));
		KUNIT_EXPECT_PTR_EQ(test, got, page);
		KUNIT_EXPECT_NULL(test, admit(cache, 5, page));
	}
	page = xbzrle_cache_take(cache);
	KUNIT_ASSERT_NOT_NULL(test, page);
	put_page(page);
	KUNIT_EXPECT_NULL(test, xbzrle_cache_take(cache));
	for (i = 0; i < 16; i++)
		put_page(replace(cache, busy[i], new_page(test)));
	KUNIT_EXPECT_EQ(test, cache->used, 16U);
}

static void moments_come_before_bases(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *page[4], *got;
	int i;

	set_pages(test, 3);
	sweep(test, 0, 3);
	for (i = 0; i < 3; i++) {
		page[i] = new_page(test);
		KUNIT_EXPECT_EQ(test, xbzrle_cache_hold(cache, i, page[i], true), 0);
		KUNIT_EXPECT_EQ(test, cache->used + cache->held, 3U);
	}
	/* No base is left to make room, and none comes in. */
	page[3] = new_page(test);
	KUNIT_ASSERT_EQ(test, xbzrle_cache_hold(cache, 3, page[3], true), -ENOSPC);
	KUNIT_EXPECT_FALSE(test, xbzrle_cache_wants(cache, 3, &got));
	KUNIT_EXPECT_PTR_EQ(test, admit(cache, 3, page[3]), page[3]);
	/* A hole needs no room. */
	KUNIT_EXPECT_EQ(test, xbzrle_cache_hold(cache, 3, NULL, true), 0);
	KUNIT_EXPECT_EQ(test, cache->evicted, 3ULL);

	for (i = 0; i < 3; i++) {
		KUNIT_EXPECT_TRUE(test, xbzrle_cache_release(cache, i, &got));
		KUNIT_EXPECT_PTR_EQ(test, got, page[i]);
		put_page(got);
	}
	KUNIT_EXPECT_TRUE(test, xbzrle_cache_release(cache, 3, &got));
	KUNIT_EXPECT_NULL(test, got);
	KUNIT_EXPECT_FALSE(test, xbzrle_cache_release(cache, 3, &got));
	KUNIT_EXPECT_EQ(test, cache->held, 0U);
	put_page(page[3]);
}

static void base_that_gives_way_to_a_moment_is_given_back(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *base = shared_page(test), *moment = new_page(test);

	set_pages(test, 1);
	KUNIT_EXPECT_NULL(test, admit(cache, 1, base));
	KUNIT_EXPECT_EQ(test, xbzrle_cache_hold(cache, 2, moment, true), 0);
	KUNIT_EXPECT_EQ(test, cache->used, 0U);
	expect_given_back(test, base);
}

static void smaller_budget_has_moments_stay(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	int i;

	set_pages(test, 4);
	sweep(test, 0, 2);
	for (i = 2; i < 4; i++)
		KUNIT_EXPECT_EQ(test, xbzrle_cache_hold(cache, i, new_page(test),
							false), 0);
	set_pages(test, 3);
	KUNIT_EXPECT_EQ(test, cache->used, 1U);
	KUNIT_EXPECT_EQ(test, cache->held, 2U);
	set_pages(test, 1);
	KUNIT_EXPECT_EQ(test, cache->used, 0U);
	KUNIT_EXPECT_EQ(test, cache->held, 2U);
}

static void first_moment_stays(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	struct page *first = new_page(test), *second = new_page(test), *got;

	set_pages(test, 1);
	KUNIT_EXPECT_EQ(test, xbzrle_cache_hold(cache, 5, first, true), 0);
	/* Also where there is no room for it. */
	KUNIT_EXPECT_EQ(test, xbzrle_cache_hold(cache, 5, second, true), -EBUSY);
	KUNIT_EXPECT_EQ(test, xbzrle_cache_hold(cache, 5, NULL, true), -EBUSY);
	KUNIT_EXPECT_EQ(test, cache->held, 1U);
	KUNIT_EXPECT_TRUE(test, xbzrle_cache_release(cache, 5, &got));
	KUNIT_EXPECT_PTR_EQ(test, got, first);
	put_page(first);
	put_page(second);
}

static void moments_of_a_region_go_with_it(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	unsigned long a = xbzrle_cache_reserve(cache, 8);
	unsigned long b = xbzrle_cache_reserve(cache, 8);
	struct page *page = shared_page(test), *got;

	set_pages(test, 8);
	KUNIT_EXPECT_EQ(test, xbzrle_cache_hold(cache, a + 1, page, true), 0);
	KUNIT_EXPECT_EQ(test, xbzrle_cache_hold(cache, b + 1, new_page(test), true),
			0);
	/* Not with bases. */
	xbzrle_cache_drop_bases(cache);
	KUNIT_EXPECT_EQ(test, cache->held, 2U);
	xbzrle_cache_drop(cache, a, 8);
	KUNIT_EXPECT_EQ(test, cache->held, 1U);
	KUNIT_EXPECT_FALSE(test, xbzrle_cache_release(cache, a + 1, &got));
	expect_given_back(test, page);
}

/* Random calls; what the cache says it holds must be what it holds. */
static void counts_stay_right(struct kunit *test)
{
	struct xbzrle_cache *cache = test->priv;
	unsigned long regions[25], region, step, key;
	u32 bases, values;
	struct xbzrle_base *base;
	struct rnd_state rnd;
	struct page *page;
	bool sits_out;
	void *entry;

	prandom_seed_state(&rnd, 20261123);
	for (step = 0; step < ARRAY_SIZE(regions); step++)
		regions[step] = xbzrle_cache_reserve(cache, 8);
	set_pages(test, 50);
	for (step = 0; step < 20000; step++) {
		region = regions[prandom_u32_state(&rnd) % ARRAY_SIZE(regions)];
		key = region + prandom_u32_state(&rnd) % 8;
		base = xbzrle_cache_find(cache, key, &sits_out);
		page = new_page(test);
		if (base && key % 5 == 0)
			page = overflow(cache, base, page);
		else if (base)
			page = replace(cache, base, page);
		else if (!sits_out)
			page = xbzrle_cache_admit(cache, key, page, key & 1);
		if (page) {
			KUNIT_ASSERT_EQ(test, page_count(page), 1);
			put_page(page);
		}
		if (step % 1000 == 0)
			set_pages(test, prandom_u32_state(&rnd) % 80);
		if (step % 97 == 0)
			xbzrle_cache_drop(cache, region, 8);
		KUNIT_ASSERT_LE(test, cache->used, cache->capacity);
	}

	bases = 0;
	values = 0;
	xa_for_each(&cache->entries, key, entry) {
		bases += !xa_is_value(entry);
		values += xa_is_value(entry);
	}
	KUNIT_EXPECT_EQ(test, bases, cache->used);
	KUNIT_EXPECT_EQ(test, values, cache->sitting_out);
}

static struct kunit_case cache_cases[] = {
	KUNIT_CASE(without_budget_nothing_is_admitted),
	KUNIT_CASE(base_is_the_page_that_was_admitted),
	KUNIT_CASE(replaced_base_comes_back),
	KUNIT_CASE(admitting_to_a_full_cache_gives_a_page_back),
	KUNIT_CASE(cache_references_are_given_back),
	KUNIT_CASE(growing_keeps_every_base),
	KUNIT_CASE(shrinking_keeps_the_hot),
	KUNIT_CASE(what_reclaim_takes_is_counted_and_given),
	KUNIT_CASE(what_reclaim_frees_is_given_back),
	KUNIT_CASE(reclaim_takes_the_cold),
	KUNIT_CASE(dropping_a_range_leaves_the_rest),
	KUNIT_CASE(cyclic_set_larger_than_the_cache_hits),
	KUNIT_CASE(hot_set_survives_a_sweep),
	KUNIT_CASE(new_hot_set_takes_over),
	KUNIT_CASE(hot_set_of_every_second_round_stays),
	KUNIT_CASE(what_was_sent_long_ago_counts),
	KUNIT_CASE(what_was_given_up_makes_room),
	KUNIT_CASE(overflowing_unit_loses_its_base_and_comes_back),
	KUNIT_CASE(sitting_out_doubles),
	KUNIT_CASE(page_of_a_unit_that_sits_out_is_given_back),
	KUNIT_CASE(where_there_is_room_nobody_sits_out),
	KUNIT_CASE(success_forgives_an_overflow),
	KUNIT_CASE(without_a_page_the_base_goes),
	KUNIT_CASE(what_is_about_to_change_is_wanted_as_what_was_sent),
	KUNIT_CASE(nothing_comes_in_while_bases_are_dropped),
	KUNIT_CASE(no_base_outlives_its_counter),
	KUNIT_CASE(base_in_use_is_not_evicted),
	KUNIT_CASE(victim_is_found_among_bases_in_use),
	KUNIT_CASE(moments_come_before_bases),
	KUNIT_CASE(base_that_gives_way_to_a_moment_is_given_back),
	KUNIT_CASE(smaller_budget_has_moments_stay),
	KUNIT_CASE(first_moment_stays),
	KUNIT_CASE(moments_of_a_region_go_with_it),
	KUNIT_CASE(counts_stay_right),
	{}
};

static struct kunit_suite cache_suite = {
	.name = "xbzrle_cache",
	.init = cache_init,
	.exit = cache_exit,
	.test_cases = cache_cases,
};

kunit_test_suite(cache_suite);

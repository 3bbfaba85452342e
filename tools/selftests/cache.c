// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Bases: what the budget does, and what SYNC and GET_STATS say of it. */
#include "device.h"
#include "mm.h"

#include "harness.h"

#define PAGES		256U
#define LENGTH		(PAGES * UNIT)

FIXTURE(cache)
{
	int fd;
	int rfd;
	uint32_t id;
	unsigned char *mem;
	struct model *model;
};

FIXTURE_VARIANT(cache)
{
	uint32_t capture;
	/* Bases between rounds: of what was sent, or of what has changed. */
	bool after_sending;
};

FIXTURE_VARIANT_ADD(cache, copy)
{
	.capture = XBZRLE_CAPTURE_COPY,
	.after_sending = true,
};

FIXTURE_VARIANT_ADD(cache, preimage)
{
	.capture = XBZRLE_CAPTURE_PREIMAGE,
};

FIXTURE_SETUP(cache)
{
	self->fd = dev_open();
	ASSERT_LE(0, self->fd);
	self->rfd = dev_create_as(self->fd, "ram", LENGTH, variant->capture,
				  &self->id);
	ASSERT_LE(0, self->rfd);
	self->mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED,
			 self->rfd, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	self->model = model_new();
	ASSERT_NE(NULL, self->model);
}

FIXTURE_TEARDOWN(cache)
{
	model_free(self->model);
	munmap(self->mem, LENGTH);
	close(self->rfd);
	close(self->fd);
}

/* A small change to each of the first @pages pages. */
static void touch(unsigned char *mem, unsigned int pages)
{
	unsigned int i;

	for (i = 0; i < pages; i++)
		mem[i * UNIT + 17]++;
}

/* A round, with what SYNC said of it in @s; the receiver must agree. */
#define ROUND(s) do { \
	ASSERT_EQ(0, dev_sync(self->fd, 0, s)); \
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536)); \
	EXPECT_TRUE(model_idle(self->model)); \
	EXPECT_EQ(-1, model_diff(self->model, "ram", self->mem, 0, LENGTH)); \
} while (0)

TEST_F(cache, no_budget_no_bases)
{
	struct xbzrle_stats stats;
	struct xbzrle_sync s;
	unsigned int i;

	ASSERT_EQ(0, dev_set_cache(self->fd, 0));
	for (i = 0; i < 3; i++) {
		touch(self->mem, PAGES);
		ROUND(&s);
		EXPECT_EQ(PAGES, s.dirty_pages);
		EXPECT_EQ(0, s.based_pages);
		EXPECT_EQ(PAGES, self->model->round.page);
	}
	ASSERT_EQ(0, dev_stats(self->fd, &stats));
	EXPECT_EQ(0, stats.cache_used);
	EXPECT_EQ(2 * PAGES, stats.cache_miss);
	EXPECT_EQ(0, stats.encoding_rate);
}

TEST_F(cache, hits_are_deltas)
{
	struct xbzrle_stats stats;
	struct xbzrle_sync s;
	unsigned int i;

	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	touch(self->mem, PAGES);
	ROUND(&s);
	EXPECT_EQ(0, s.based_pages);
	for (i = 0; i < 3; i++) {
		touch(self->mem, 100);
		ROUND(&s);
		EXPECT_EQ(100, s.based_pages);
		EXPECT_EQ(100, self->model->round.xbzrle);
		EXPECT_EQ(0, self->model->round.page);
	}
	ASSERT_EQ(0, dev_stats(self->fd, &stats));
	EXPECT_EQ(variant->after_sending ? LENGTH : 0, stats.cache_used);
	EXPECT_EQ(variant->after_sending ? 0 : 300, stats.preimages);
	EXPECT_EQ(variant->after_sending ? 0 : PAGES + 300, stats.still_pages);
	EXPECT_EQ(variant->after_sending ? PAGES + 300 : 0,
		  stats.copied_pages);
	EXPECT_EQ(0, stats.cache_miss);
	EXPECT_EQ(0, stats.cache_evicted);
	EXPECT_LT(100 * 1000, stats.encoding_rate);
}

/* What changes back is a change from what was sent last, not from what was. */
TEST_F(cache, base_is_what_was_sent_last)
{
	struct xbzrle_sync s;
	unsigned int i;

	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	touch(self->mem, 1);
	ROUND(&s);
	for (i = 0; i < 4; i++) {
		self->mem[100 + i / 2] ^= 1;
		ROUND(&s);
		EXPECT_EQ(1, self->model->round.xbzrle);
	}
}

/* A receiver that has nothing cannot make use of a base. */
TEST_F(cache, full_round_has_no_deltas)
{
	struct model *fresh = model_new();
	struct xbzrle_sync s;

	ASSERT_NE(NULL, fresh);
	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	touch(self->mem, PAGES);
	ROUND(&s);
	touch(self->mem, 100);
	ASSERT_EQ(0, dev_round(self->fd, fresh, XBZRLE_SYNC_FULL));
	EXPECT_EQ(PAGES, fresh->round.page);
	EXPECT_EQ(-1, model_diff(fresh, "ram", self->mem, 0, LENGTH));
	model_free(fresh);
}

/* As many hits as the budget has room for, round after round. */
TEST_F(cache, small_budget_keeps_a_part)
{
	const unsigned int room = PAGES / 4;
	struct xbzrle_stats stats;
	struct xbzrle_sync s;
	unsigned int i;

	ASSERT_EQ(0, dev_set_cache(self->fd, room * UNIT));
	touch(self->mem, PAGES);
	ROUND(&s);
	for (i = 0; i < 6; i++) {
		touch(self->mem, PAGES);
		ROUND(&s);
		EXPECT_EQ(room, s.based_pages);
		ASSERT_EQ(0, dev_stats(self->fd, &stats));
		EXPECT_EQ(variant->after_sending ? room * UNIT : 0,
			  stats.cache_used);
		EXPECT_LE(room / 2, self->model->round.xbzrle);
		EXPECT_EQ(PAGES, self->model->round.xbzrle +
			  self->model->round.page);
	}
	EXPECT_LT(0, stats.cache_refused);
	EXPECT_LT(0, stats.cache_miss);
}

TEST_F(cache, shrink_and_grow)
{
	struct xbzrle_stats stats;
	struct xbzrle_sync s;

	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	touch(self->mem, PAGES);
	ROUND(&s);
	touch(self->mem, PAGES);
	ASSERT_EQ(0, dev_set_cache(self->fd, 10 * UNIT));
	ASSERT_EQ(0, dev_stats(self->fd, &stats));
	EXPECT_EQ(10 * UNIT, stats.cache_bytes);
	EXPECT_EQ(10 * UNIT, stats.cache_used);
	EXPECT_EQ(PAGES - 10, stats.cache_evicted);
	ROUND(&s);
	EXPECT_EQ(10, s.based_pages);

	touch(self->mem, PAGES);
	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	ASSERT_EQ(0, dev_stats(self->fd, &stats));
	EXPECT_EQ(10 * UNIT, stats.cache_used);
	ROUND(&s);
	EXPECT_EQ(10, s.based_pages);
	touch(self->mem, PAGES);
	ROUND(&s);
	EXPECT_EQ(PAGES, s.based_pages);
	EXPECT_EQ(PAGES, self->model->round.xbzrle);

	ASSERT_EQ(0, dev_set_cache(self->fd, 0));
	ASSERT_EQ(0, dev_stats(self->fd, &stats));
	EXPECT_EQ(0, stats.cache_used);
	touch(self->mem, PAGES);
	ROUND(&s);
	EXPECT_EQ(PAGES, self->model->round.page);
}

TEST_F(cache, resized_in_a_round)
{
	unsigned char buf[3000];
	unsigned int i, round;
	ssize_t n;

	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	for (round = 0; round < 3; round++) {
		touch(self->mem, PAGES);
		if (round)
			mm_scramble(self->mem + 9 * UNIT, round);
		ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
		for (i = 0; (n = read(self->fd, buf, sizeof(buf))) > 0; i++) {
			ASSERT_EQ(0, model_feed(self->model, buf, n));
			ASSERT_EQ(0, dev_set_cache(self->fd, i % 5 * 40 *
						   UNIT));
		}
		ASSERT_EQ(0, n);
		EXPECT_EQ(-1, model_diff(self->model, "ram", self->mem, 0,
					 LENGTH));
	}
}

/* What SYNC expects is near what comes once there is experience. */
TEST_F(cache, expected_bytes)
{
	struct xbzrle_sync s;
	unsigned int i;

	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	for (i = 0; i < PAGES; i++)
		mm_scramble(self->mem + i * UNIT, i);
	ROUND(&s);
	EXPECT_LE(LENGTH, s.expected_bytes);
	EXPECT_GE(LENGTH + LENGTH / 16, s.expected_bytes);
	for (i = 0; i < 4; i++) {
		touch(self->mem, PAGES);
		ROUND(&s);
	}
	EXPECT_LE(self->model->round.bytes / 2, s.expected_bytes);
	EXPECT_GE(self->model->round.bytes * 2, s.expected_bytes);
	/* An idle round is its EOS. */
	ROUND(&s);
	EXPECT_EQ(8, s.expected_bytes);
	EXPECT_EQ(8, self->model->round.bytes);
}

TEST_F(cache, stats_are_what_the_stream_had)
{
	const struct model_counts *all = &self->model->all;
	struct xbzrle_stats stats;
	unsigned int i, round;
	struct xbzrle_sync s;
	__u64 dirty = 0;

	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH / 2));
	for (round = 0; round < 6; round++) {
		touch(self->mem, PAGES / 2 + round * 8);
		mm_scramble(self->mem + round % 2 * UNIT, round + 1);
		memset(self->mem + (20 + round) * UNIT, 0, UNIT);
		for (i = 200; i < 210; i++)
			__atomic_store_n(self->mem + i * UNIT, 0,
					 __ATOMIC_RELAXED);
		ROUND(&s);
		dirty += s.dirty_pages;
	}
	ASSERT_EQ(0, dev_stats(self->fd, &stats));
	EXPECT_EQ(6, stats.rounds);
	EXPECT_EQ(all->xbzrle, stats.pages);
	EXPECT_EQ(all->xbzrle_bytes, stats.bytes);
	EXPECT_EQ(all->zero, stats.zero_pages);
	EXPECT_EQ(all->page, stats.normal_pages);
	EXPECT_EQ(all->bytes, stats.stream_bytes);
	EXPECT_EQ(dirty, stats.dirty_pages);
	EXPECT_EQ(dirty, all->xbzrle + all->zero + all->page +
		  stats.unchanged_pages);
	EXPECT_EQ(all->xbzrle * UNIT * 1000 / all->xbzrle_bytes,
		  stats.encoding_rate);
	EXPECT_LT(0, stats.unchanged_pages);
	EXPECT_LT(0, stats.overflow);
}

TEST_F(cache, counters_survive_their_region)
{
	struct xbzrle_stats before, after;
	struct xbzrle_sync s;

	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	touch(self->mem, PAGES);
	ROUND(&s);
	ASSERT_EQ(0, dev_stats(self->fd, &before));
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_EQ(0, dev_stats(self->fd, &after));
	EXPECT_EQ(before.dirty_pages, after.dirty_pages);
	EXPECT_EQ(before.normal_pages, after.normal_pages);
	EXPECT_EQ(before.stream_bytes, after.stream_bytes);
	EXPECT_EQ(0, after.cache_used);
}

/* Pages that never compress stop being tried, and may come back. */
TEST_F(cache, overflowing_pages_sit_out)
{
	struct xbzrle_stats stats;
	struct xbzrle_sync s;
	unsigned int round;

	/* Others want its place. */
	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH / 2));
	touch(self->mem, PAGES);
	ROUND(&s);
	for (round = 0; round < 12; round++) {
		touch(self->mem, PAGES);
		mm_scramble(self->mem, round + 1);
		ROUND(&s);
		/* Who sits out has no base. */
		EXPECT_GE(PAGES / 2, s.based_pages);
		EXPECT_LE(PAGES / 2, self->model->round.page);
	}
	ASSERT_EQ(0, dev_stats(self->fd, &stats));
	EXPECT_LT(1, stats.overflow);
	EXPECT_LT(0, stats.skipped_pages);
	EXPECT_LT(stats.overflow, 12);

	/* Calm again: sooner or later it has a base and goes as a delta. */
	for (round = 0; round < 100; round++) {
		touch(self->mem, 1);
		ROUND(&s);
		EXPECT_EQ(self->model->round.xbzrle, s.based_pages);
		if (self->model->round.xbzrle)
			break;
	}
	EXPECT_EQ(1, self->model->round.xbzrle);
}

TEST_F(cache, larger_than_memory_is_no_promise)
{
	struct xbzrle_info info;
	struct xbzrle_sync s;

	/* The budget is a limit, not an allocation. */
	ASSERT_EQ(0, dev_info(self->fd, &info));
	ASSERT_EQ(0, dev_set_cache(self->fd, info.max_cache < 64ULL << 30 ?
				   info.max_cache : 64ULL << 30));
	touch(self->mem, PAGES);
	ROUND(&s);
	touch(self->mem, PAGES);
	ROUND(&s);
	EXPECT_EQ(PAGES, s.based_pages);
}

TEST_HARNESS_MAIN

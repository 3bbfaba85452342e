// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Capture by freezing: SYNC takes the pages of private memory themselves. The
 * round is what was there, and the process notices nothing.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "device.h"
#include "mm.h"
#include "rnd.h"

#include "harness.h"

#define PAGES		256U
#define LENGTH		(PAGES * UNIT)
#define MOMENT		XBZRLE_SYNC_POINT_IN_TIME

FIXTURE(freeze)
{
	int fd;
	uint32_t id;
	unsigned char *mem;
	unsigned char *then;
	struct model *model;
};

static int register_frozen(int fd, const char *name, const void *mem,
			   size_t length, uint32_t tracker,
			   struct xbzrle_register *out)
{
	return dev_register_as(fd, name, mem, length, 0, tracker,
			       XBZRLE_CAPTURE_FREEZE, out);
}

FIXTURE_SETUP(freeze)
{
	struct xbzrle_register out;
	unsigned int i;

	self->fd = dev_open();
	ASSERT_LE(0, self->fd);
	/* Of a page that is written in each round there are two. */
	ASSERT_EQ(0, dev_set_cache(self->fd, 2 * LENGTH));
	self->mem = mm_anon(LENGTH);
	ASSERT_NE(NULL, self->mem);
	self->then = mm_anon(LENGTH);
	ASSERT_NE(NULL, self->then);
	for (i = 0; i < PAGES; i++)
		memset(self->mem + i * UNIT, i % 200 + 1, UNIT);
	ASSERT_EQ(0, register_frozen(self->fd, "heap", self->mem, LENGTH,
				     XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(XBZRLE_TRACKER_PTE, out.tracker);
	ASSERT_EQ(XBZRLE_CAPTURE_FREEZE, out.capture);
	self->id = out.region_id;
	self->model = model_new();
	ASSERT_NE(NULL, self->model);
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(PAGES, self->model->all.page);
}

FIXTURE_TEARDOWN(freeze)
{
	model_free(self->model);
	munmap(self->then, LENGTH);
	munmap(self->mem, LENGTH);
	close(self->fd);
}

static void touch(unsigned char *mem, unsigned int first, unsigned int nr)
{
	for (; nr; first++, nr--)
		mem[first * UNIT + 17]++;
}

#define STAT(member) ({ \
	struct xbzrle_stats _stats; \
	ASSERT_EQ(0, dev_stats(self->fd, &_stats)); \
	_stats.member; \
})

#define EXPECT_SAME(memory) \
	EXPECT_EQ(-1, model_diff(self->model, "heap", memory, 0, LENGTH))

#define EXPECT_ROUND(flags) do { \
	ASSERT_EQ(0, dev_round(self->fd, self->model, flags)); \
	EXPECT_SAME(self->mem); \
} while (0)

TEST_F(freeze, pages_are_not_copied)
{
	unsigned int round;

	/* A page that was made a moment ago may still be held by the kernel. */
	EXPECT_LE(PAGES * 3 / 4, STAT(frozen_pages));
	EXPECT_EQ(PAGES, STAT(frozen_pages) + STAT(copied_pages));
	for (round = 0; round < 5; round++) {
		touch(self->mem, 0, PAGES / 2);
		EXPECT_ROUND(0);
		EXPECT_EQ(0, self->model->round.page);
	}
	EXPECT_LE(PAGES / 2 * 5, STAT(frozen_pages));
	EXPECT_EQ(0, STAT(cache_miss));
}

/* Each round takes the pages again, and lets go of those of the one before. */
TEST_F(freeze, pages_are_given_back)
{
	const long rounds = 40, before = mm_meminfo("MemFree:");
	long round;

	ASSERT_LT(0, before);
	for (round = 0; round < rounds; round++) {
		touch(self->mem, 0, PAGES);
		EXPECT_ROUND(0);
	}
	EXPECT_LE(PAGES * rounds / 2, STAT(frozen_pages));
	EXPECT_GT(rounds * (long)LENGTH / 4, before - mm_meminfo("MemFree:"));
}

TEST_F(freeze, round_is_the_moment_of_its_sync)
{
	unsigned char buf[100];
	unsigned int round;
	uint64_t state = 1;
	ssize_t n;

	for (round = 0; round < 20; round++) {
		touch(self->mem, 0, PAGES / 2 + round);
		memcpy(self->then, self->mem, LENGTH);
		ASSERT_EQ(0, dev_sync(self->fd, MOMENT, NULL));
		while ((n = read(self->fd, buf, sizeof(buf))) > 0) {
			ASSERT_EQ(0, model_feed(self->model, buf, n));
			touch(self->mem, rnd_below(&state, PAGES - 16), 16);
		}
		ASSERT_EQ(0, n);
		EXPECT_SAME(self->then);
	}
	EXPECT_EQ(0, STAT(torn_rounds));
	EXPECT_ROUND(0);
}

/* The round has all of it, and the next one says that the region ended. */
TEST_F(freeze, unmapped_after_the_moment)
{
	touch(self->mem, 0, PAGES);
	memcpy(self->then, self->mem, LENGTH);
	ASSERT_EQ(0, dev_sync(self->fd, MOMENT, NULL));
	ASSERT_EQ(0, munmap(self->mem, LENGTH));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_SAME(self->then);
	EXPECT_EQ(-EFAULT, dev_sync(self->fd, 0, NULL));
}

/* Whatever happens to the memory afterwards. */
TEST_F(freeze, memory_goes_after_the_moment)
{
	touch(self->mem, 0, PAGES);
	memcpy(self->then, self->mem, LENGTH);
	ASSERT_EQ(0, dev_sync(self->fd, MOMENT, NULL));
	ASSERT_EQ(0, madvise(self->mem, 32 * UNIT, MADV_DONTNEED));
	touch(self->mem, 16, 32);
	ASSERT_EQ(0, madvise(self->mem + 64 * UNIT, 32 * UNIT, MADV_FREE));
	if (mm_swap_on())
		madvise(self->mem, LENGTH, MADV_PAGEOUT);
	touch(self->mem, 100, 10);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_SAME(self->then);
	EXPECT_ROUND(0);
}

TEST_F(freeze, child_and_parent_write_after_the_moment)
{
	pid_t child;

	touch(self->mem, 0, PAGES);
	child = fork();
	if (!child) {
		usleep(1000);
		memset(self->mem, 0x77, LENGTH);
		_exit(0);
	}
	ASSERT_LT(0, child);
	memcpy(self->then, self->mem, LENGTH);
	ASSERT_EQ(0, dev_sync(self->fd, MOMENT, NULL));
	touch(self->mem, 0, PAGES / 2);
	ASSERT_EQ(child, waitpid(child, NULL, 0));
	touch(self->mem, PAGES / 2, PAGES / 2);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_SAME(self->then);
	EXPECT_ROUND(0);
}

/* A base that is a page of the process must not be written when it is free. */
TEST_F(freeze, small_budget_leaves_the_memory_alone)
{
	unsigned int round, i;
	uint64_t state = 5;

	ASSERT_EQ(0, dev_set_cache(self->fd, 40 * UNIT));
	for (round = 0; round < 60; round++) {
		for (i = 0; i < 50; i++)
			touch(self->mem, rnd_below(&state, PAGES), 1);
		memcpy(self->then, self->mem, LENGTH);
		ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		ASSERT_EQ(0, memcmp(self->then, self->mem, LENGTH));
		EXPECT_SAME(self->mem);
	}
	EXPECT_LT(0, STAT(copied_pages));
}

TEST_F(freeze, moment_over_the_budget_is_refused)
{
	ASSERT_EQ(0, dev_set_cache(self->fd, 40 * UNIT));
	touch(self->mem, 0, PAGES);
	EXPECT_EQ(-ENOSPC, dev_sync(self->fd, MOMENT, NULL));
	EXPECT_EQ(0, STAT(round_left));
	EXPECT_ROUND(0);
	touch(self->mem, 0, 40);
	EXPECT_ROUND(MOMENT);
}

/* What was huge is one folio still, of which each page is taken. */
TEST_F(freeze, huge_pages_are_frozen_by_page)
{
	unsigned char *huge = mm_anon(2 * HUGE_SIZE), *mem, *then;
	uint64_t before = STAT(frozen_pages);
	struct xbzrle_register out;
	unsigned int i;

	ASSERT_NE(NULL, huge);
	then = mm_anon(HUGE_SIZE);
	ASSERT_NE(NULL, then);
	mem = (void *)(((uintptr_t)huge + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));
	if (madvise(mem, HUGE_SIZE, MADV_HUGEPAGE))
		SKIP(return, "no huge pages");
	for (i = 0; i < HUGE_SIZE / UNIT; i++)
		mem[i * UNIT] = i + 1;
	ASSERT_EQ(0, register_frozen(self->fd, "huge", mem, HUGE_SIZE,
				     XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(0, dev_set_cache(self->fd, 2 * HUGE_SIZE + 2 * LENGTH));
	memcpy(then, mem, HUGE_SIZE);
	ASSERT_EQ(0, dev_sync(self->fd, MOMENT, NULL));
	for (i = 0; i < HUGE_SIZE / UNIT; i++)
		mem[i * UNIT + 9]++;
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(-1, model_diff(self->model, "huge", then, 0, HUGE_SIZE));
	EXPECT_LE(before + HUGE_SIZE / UNIT / 2, STAT(frozen_pages));
	EXPECT_ROUND(0);
	EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, HUGE_SIZE));
	munmap(huge, 2 * HUGE_SIZE);
	munmap(then, HUGE_SIZE);
}

struct counter {
	unsigned char *mem;
	unsigned int lane;
	int stop;
	unsigned int passes;
	unsigned int lost;
};

/* Counts in a byte of its own of each page, and knows what each must be. */
static void *count(void *arg)
{
	struct counter *c = arg;
	unsigned char expected[PAGES];
	unsigned int i;

	for (i = 0; i < PAGES; i++)
		expected[i] = c->mem[i * UNIT + c->lane];
	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		for (i = 0; i < PAGES; i++) {
			volatile unsigned char *p =
				c->mem + i * UNIT + c->lane;

			c->lost += *p != expected[i];
			*p = ++expected[i];
		}
		__atomic_fetch_add(&c->passes, 1, __ATOMIC_RELAXED);
	}
	for (i = 0; i < PAGES; i++)
		c->lost += c->mem[i * UNIT + c->lane] != expected[i];
	return NULL;
}

/* A busy machine may give a writer no time for as long as all rounds take. */
static bool all_have_written(const struct counter *counters, unsigned int n)
{
	while (n--)
		if (__atomic_load_n(&counters[n].passes, __ATOMIC_RELAXED) < 2)
			return false;
	return true;
}

/*
 * A page that is copied for its next writer, while another CPU writes to it
 * through a stale translation, would lose that write.
 */
TEST_F(freeze, process_loses_no_write)
{
	struct mm_turns rounds = { .least = 12, .most = 100 };
	struct counter counters[4];
	pthread_t threads[4];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		counters[i] = (struct counter){
			.mem = self->mem, .lane = 100 + i,
		};
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, count,
					    &counters[i]));
	}
	while (mm_another_turn(&rounds) || !all_have_written(counters, 4))
		ASSERT_EQ(0, dev_round(self->fd, self->model,
				       rounds.done % 2 ? MOMENT : 0));
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		__atomic_store_n(&counters[i].stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
		EXPECT_EQ(0, counters[i].lost);
	}
	EXPECT_ROUND(0);
}

/* More than a page table, and more than is done in one go, dense and sparse. */
TEST_F(freeze, large_memory)
{
	const size_t pages = 1280, sparse = 40 << 20;
	const size_t length = pages * UNIT;
	unsigned char *dense = mm_anon(length), *thin = mm_anon(sparse);
	unsigned char *then = mm_anon(length);
	struct xbzrle_register out;
	size_t i, at;

	ASSERT_NE(NULL, dense);
	ASSERT_NE(NULL, thin);
	ASSERT_NE(NULL, then);
	ASSERT_EQ(0, dev_set_cache(self->fd, 4 * length));
	ASSERT_EQ(0, register_frozen(self->fd, "dense", dense, length,
				     XBZRLE_TRACKER_PTE, &out));
	ASSERT_EQ(0, register_frozen(self->fd, "thin", thin, sparse,
				     XBZRLE_TRACKER_PTE, &out));
	for (i = 0; i < pages; i++)
		memset(dense + i * UNIT, i % 255 + 1, UNIT);
	for (at = 0; at < sparse; at += 1 << 20) {
		thin[at] = 1;
		thin[at + (1 << 20) - UNIT] = at >> 20 | 1;
	}
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, model_diff(self->model, "dense", dense, 0, length));
	EXPECT_EQ(-1, model_diff(self->model, "thin", thin, 0, sparse));

	touch(dense, 0, pages);
	for (at = 0; at < sparse; at += 1 << 20)
		thin[at + (1 << 20) - UNIT]++;
	memcpy(then, dense, length);
	ASSERT_EQ(0, dev_sync(self->fd, MOMENT, NULL));
	touch(dense, 0, pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(-1, model_diff(self->model, "dense", then, 0, length));
	EXPECT_EQ(-1, model_diff(self->model, "thin", thin, 0, sparse));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, model_diff(self->model, "dense", dense, 0, length));
	munmap(dense, length);
	munmap(thin, sparse);
	munmap(then, length);
}

/* A device that writes has the page already: it is copied, again and again. */
TEST_F(freeze, held_page_is_copied)
{
	struct iovec iov = { .iov_base = self->mem + 8 * UNIT, .iov_len = UNIT };
	uint64_t copied;
	ssize_t n;
	int p[2];

	ASSERT_EQ(0, pipe(p));
	touch(self->mem, 8, 1);
	/* The pipe has a reference on the page until it is read. */
	n = vmsplice(p[1], &iov, 1, SPLICE_F_GIFT);
	ASSERT_EQ((ssize_t)UNIT, n);
	copied = STAT(copied_pages);
	EXPECT_ROUND(0);
	EXPECT_LT(copied, STAT(copied_pages));
	touch(self->mem, 8, 1);
	EXPECT_ROUND(MOMENT);
	ASSERT_EQ((ssize_t)UNIT, read(p[0], self->then, UNIT));
	EXPECT_ROUND(0);
	close(p[0]);
	close(p[1]);
}

TEST_F(freeze, memory_that_cannot_be_frozen_is_refused)
{
	struct xbzrle_register out;
	int file = mm_shared_file(LENGTH);
	unsigned char *mem;

	ASSERT_LE(0, file);
	mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_EQ(-EOPNOTSUPP, register_frozen(self->fd, "s", mem, LENGTH,
					       XBZRLE_TRACKER_PTE, &out));
	EXPECT_EQ((uintptr_t)mem, out.error_addr);
	EXPECT_EQ(-EOPNOTSUPP, register_frozen(self->fd, "s", mem, LENGTH,
					       XBZRLE_TRACKER_AUTO, &out));
	EXPECT_EQ(-EOPNOTSUPP, register_frozen(self->fd, "s", self->then,
					       LENGTH, XBZRLE_TRACKER_EXTERNAL,
					       &out));
	munmap(mem, LENGTH);
	close(file);
}

TEST_HARNESS_MAIN

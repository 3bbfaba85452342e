// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Pre-images of owned memory: what is kept when a page is about to change, as
 * the base of its next delta and for rounds that are a point in time.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

#include "device.h"
#include "mm.h"
#include "rnd.h"

#include "harness.h"

#define PAGES		128U
#define LENGTH		(PAGES * UNIT)
#define PUNCH		(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define MOMENT		XBZRLE_SYNC_POINT_IN_TIME
#define SHMEM_HUGE	"/sys/kernel/mm/transparent_hugepage/shmem_enabled"

FIXTURE(preimage)
{
	int fd;
	int rfd;
	uint32_t id;
	unsigned char *mem;
	unsigned char *then;
	struct model *model;
};

/* All pages are sent, and nothing has changed since. */
FIXTURE_SETUP(preimage)
{
	unsigned int i;

	self->fd = dev_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	self->rfd = dev_create(self->fd, "ram", LENGTH, &self->id);
	ASSERT_LE(0, self->rfd);
	self->mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED,
			 self->rfd, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	self->then = mm_anon(LENGTH);
	ASSERT_NE(NULL, self->then);
	self->model = model_new();
	ASSERT_NE(NULL, self->model);
	for (i = 0; i < PAGES; i++)
		memset(self->mem + i * UNIT, i + 1, UNIT);
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(PAGES, self->model->all.page);
}

FIXTURE_TEARDOWN(preimage)
{
	model_free(self->model);
	munmap(self->then, LENGTH);
	munmap(self->mem, LENGTH);
	close(self->rfd);
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

/* The receiver has what @memory has. */
#define EXPECT_SAME(memory) \
	EXPECT_EQ(-1, model_diff(self->model, "ram", memory, 0, LENGTH))

#define EXPECT_ROUND() do { \
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0)); \
	EXPECT_SAME(self->mem); \
} while (0)

TEST_F(preimage, what_does_not_change_is_not_held)
{
	EXPECT_EQ(0, STAT(cache_used));
	EXPECT_EQ(0, STAT(preimages));
	EXPECT_EQ(PAGES, STAT(still_pages));
	EXPECT_EQ(0, STAT(copied_pages));

	touch(self->mem, 10, 5);
	EXPECT_EQ(5 * UNIT, STAT(cache_used));
	EXPECT_ROUND();
	EXPECT_EQ(5, self->model->round.xbzrle);
	EXPECT_EQ(0, STAT(cache_used));
}

/* The page amid others is copied, and each of them is counted once. */
TEST_F(preimage, written_again_before_it_is_read)
{
	uint64_t still = STAT(still_pages);

	touch(self->mem, 10, 5);
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	touch(self->mem, 12, 1);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(1, STAT(copied_pages));
	EXPECT_EQ(still + 4, STAT(still_pages));
	EXPECT_ROUND();
}

TEST_F(preimage, only_the_first_write_is_kept)
{
	unsigned int i;

	for (i = 0; i < 5; i++) {
		touch(self->mem, 10, 5);
		ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ));
		ASSERT_EQ(0, mprotect(self->mem, LENGTH,
				      PROT_READ | PROT_WRITE));
	}
	EXPECT_EQ(5, STAT(preimages));
	EXPECT_ROUND();
	touch(self->mem, 10, 5);
	EXPECT_EQ(10, STAT(preimages));
	EXPECT_ROUND();
	EXPECT_EQ(5, self->model->round.xbzrle);
}

/* The receiver has zeros there, which are no base. */
TEST_F(preimage, what_was_never_sent_is_not_kept)
{
	uint32_t id;
	int rfd = dev_create(self->fd, "new", LENGTH, &id);
	unsigned char *mem;

	ASSERT_LE(0, rfd);
	mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_ROUND();
	touch(mem, 0, PAGES);
	EXPECT_EQ(0, STAT(preimages));
	EXPECT_ROUND();
	EXPECT_EQ(PAGES, self->model->round.page);
	EXPECT_EQ(-1, model_diff(self->model, "new", mem, 0, LENGTH));
	munmap(mem, LENGTH);
	close(rfd);
}

/* Pages of one round that change before and after they are read. */
TEST_F(preimage, changed_while_the_round_is_read)
{
	unsigned char buf[100];
	uint64_t state = 20261124;
	unsigned int round;
	ssize_t n;

	for (round = 0; round < 50; round++) {
		touch(self->mem, 0, PAGES);
		ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
		while ((n = read(self->fd, buf, sizeof(buf))) > 0) {
			ASSERT_EQ(0, model_feed(self->model, buf, n));
			touch(self->mem, rnd_below(&state, PAGES - 8), 8);
		}
		ASSERT_EQ(0, n);
	}
	EXPECT_ROUND();
	EXPECT_LT(0, STAT(copied_pages));
	EXPECT_LT(PAGES, STAT(still_pages));
}

/* As many bases as the budget, wherever the writes come in a round. */
TEST_F(preimage, budget_of_the_dirty_set_hits_always)
{
	unsigned char buf[64];
	unsigned int round, next;
	ssize_t n;

	ASSERT_EQ(0, dev_set_cache(self->fd, 32 * UNIT));
	touch(self->mem, 0, 32);
	EXPECT_ROUND();
	for (round = 0; round < 20; round++) {
		ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
		next = 0;
		/* With writes ahead and behind. */
		while ((n = read(self->fd, buf, sizeof(buf))) > 0) {
			ASSERT_EQ(0, model_feed(self->model, buf, n));
			if (next < 32)
				touch(self->mem, (next++ + round) % 32, 1);
		}
		ASSERT_EQ(0, n);
		touch(self->mem, 0, 32);
	}
	EXPECT_ROUND();
	EXPECT_EQ(32, self->model->round.xbzrle);
	EXPECT_EQ(0, STAT(cache_miss));
}

TEST_F(preimage, punched_and_filled_again)
{
	/* The page before the write is a new one, and not what was sent. */
	ASSERT_EQ(0, fallocate(self->rfd, PUNCH, 4 * UNIT, 4 * UNIT));
	touch(self->mem, 4, 2);
	EXPECT_ROUND();
	touch(self->mem, 4, 2);
	EXPECT_ROUND();
	/* A hole, then not; what was kept before is of no use. */
	touch(self->mem, 20, 2);
	ASSERT_EQ(0, fallocate(self->rfd, PUNCH, 20 * UNIT, UNIT));
	EXPECT_ROUND();
	touch(self->mem, 20, 2);
	EXPECT_ROUND();
}

/* Read until the round says that it is torn; what came is fed to the model. */
static int read_torn(int fd, struct model *model, unsigned int *errors)
{
	unsigned char buf[8192];
	ssize_t n;

	*errors = 0;
	for (;;) {
		n = read(fd, buf, sizeof(buf));
		if (n < 0 && errno == ENOSPC)
			++*errors;
		else if (n <= 0)
			return n ? -errno : 0;
		else if (model_feed(model, buf, n))
			return -EBADMSG;
	}
}

struct puncher {
	unsigned char *mem;
	int rfd;
	int stop;
	unsigned int punches;
};

static void *punch_and_fill(void *arg)
{
	struct puncher *p = arg;
	uint64_t state = 7;
	unsigned int page, i;

	while (!__atomic_load_n(&p->stop, __ATOMIC_RELAXED)) {
		page = rnd_below(&state, PAGES - 4);
		if (fallocate(p->rfd, PUNCH, page * UNIT, 4 * UNIT))
			break;
		__atomic_add_fetch(&p->punches, 1, __ATOMIC_RELAXED);
		for (i = 0; i < 6; i++)
			touch(p->mem, rnd_below(&state, PAGES), 1);
	}
	return NULL;
}

static void *write_on(void *arg)
{
	struct puncher *p = arg;
	uint64_t state = 8;

	while (!__atomic_load_n(&p->stop, __ATOMIC_RELAXED))
		p->mem[rnd_below(&state, LENGTH)]++;
	return NULL;
}

/*
 * Writers and punchers run on, during SYNC too, which can tear its round; when
 * they stop, the receiver has it all. That is looked at often: what a round
 * loses, a later one may bring by chance.
 */
TEST_F(preimage, punched_and_written_while_rounds_run)
{
	struct puncher p = { .mem = self->mem, .rfd = self->rfd };
	struct mm_turns stops = { .least = 20, .most = 1000 };
	unsigned int i, errors;
	pthread_t threads[4];

	while (mm_another_turn(&stops)) {
		__atomic_store_n(&p.stop, 0, __ATOMIC_RELAXED);
		for (i = 0; i < ARRAY_SIZE(threads); i++)
			ASSERT_EQ(0, pthread_create(&threads[i], NULL, i < 2 ?
						    punch_and_fill : write_on,
						    &p));
		/* The last is of a moment. */
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(0, dev_sync(self->fd, i ? MOMENT : 0, NULL));
			ASSERT_EQ(0, read_torn(self->fd, self->model,
					       &errors));
			EXPECT_GE(i, errors);
		}
		__atomic_store_n(&p.stop, 1, __ATOMIC_RELAXED);
		for (i = 0; i < ARRAY_SIZE(threads); i++)
			ASSERT_EQ(0, pthread_join(threads[i], NULL));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		ASSERT_EQ(-1, model_diff(self->model, "ram", self->mem, 0,
					 LENGTH));
	}
	EXPECT_LT(0, p.punches);
}

/*
 * A fault keeps what the last receiver has, and a FULL round is for one that has
 * nothing. The model knows which pages were never sent.
 */
TEST_F(preimage, full_rounds_while_pages_are_kept)
{
	struct puncher p = { .mem = self->mem };
	struct mm_turns rounds = { .least = 10, .most = 200 };
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, write_on, &p));
	while (mm_another_turn(&rounds)) {
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		model_free(self->model);
		self->model = model_new();
		ASSERT_NE(NULL, self->model);
		ASSERT_EQ(0, dev_round(self->fd, self->model,
				       XBZRLE_SYNC_FULL));
		ASSERT_EQ(0, self->model->round.xbzrle);
	}
	__atomic_store_n(&p.stop, 1, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_ROUND();
}

struct hole {
	int rfd;
	size_t length;
	int ret;
};

static void *punch_all(void *arg)
{
	struct hole *h = arg;

	h->ret = fallocate(h->rfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			   0, h->length);
	return NULL;
}

/*
 * One punch of a large range looks for what is pending while a reader takes it
 * away, unit by unit.
 */
TEST_F(preimage, punched_in_one_go_while_it_is_read)
{
	struct mm_turns tries = { .least = 4, .most = 60, .seconds = 20 };
	struct hole h = { .length = 8 << 20 };
	unsigned char *mem, *then = mm_anon(h.length);
	unsigned int i, try, errors;
	pthread_t thread;

	ASSERT_NE(NULL, then);
	ASSERT_EQ(0, dev_set_cache(self->fd, 2 * h.length));
	h.rfd = dev_create(self->fd, "large", h.length, NULL);
	ASSERT_LE(0, h.rfd);
	mem = mmap(NULL, h.length, PROT_READ | PROT_WRITE, MAP_SHARED, h.rfd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	while (mm_another_turn(&tries)) {
		try = tries.done;
		for (i = 0; i < h.length; i += UNIT)
			mem[i + try] = (i / UNIT + try) | 1;
		memcpy(then, mem, h.length);
		ASSERT_EQ(0, dev_sync(self->fd, MOMENT, NULL));
		ASSERT_EQ(0, pthread_create(&thread, NULL, punch_all, &h));
		ASSERT_EQ(0, read_torn(self->fd, self->model, &errors));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		ASSERT_EQ(0, h.ret);
		EXPECT_EQ(0, errors);
		ASSERT_EQ(-1, model_diff(self->model, "large", then, 0,
					 h.length));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		ASSERT_EQ(-1, model_diff(self->model, "large", mem, 0,
					 h.length));
	}
	munmap(mem, h.length);
	munmap(then, h.length);
	close(h.rfd);
}

#if MM_HAVE_HUGE_PAGES
/*
 * Some pages of a large folio are written again before their turn. One that was
 * never written is locked once for all of its pages.
 */
TEST_F(preimage, written_in_a_large_folio_before_it_is_read)
{
	const size_t length = 2 * HUGE_SIZE;
	unsigned int flags, i, n, sum = 0;
	unsigned char *mem;
	int rfd;

	if (mm_write_file(SHMEM_HUGE, "force"))
		SKIP(return, "no huge pages");
	ASSERT_EQ(0, dev_set_cache(self->fd, 2 * length));
	rfd = dev_create(self->fd, "huge", length, NULL);
	ASSERT_LE(0, rfd);
	mem = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	for (i = 0; i < HUGE_SIZE / UNIT; i++)
		memset(mem + i * UNIT, i | 1, UNIT);
	for (; i < length / UNIT; i++)
		sum += *(volatile unsigned char *)(mem + i * UNIT);
	ASSERT_EQ(0, sum);
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	for (flags = 0;; flags = MOMENT) {
		touch(mem, 0, length / UNIT);
		ASSERT_EQ(0, dev_sync(self->fd, flags, NULL));
		for (i = 0; i < 512; i += n) {
			n = 1 + i / 16 % 9;
			touch(mem, i, 1);
		}
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_EQ(0, STAT(torn_rounds));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));
		if (flags)
			break;
	}
	munmap(mem, length);
	close(rfd);
	mm_write_file(SHMEM_HUGE, "never");
}
#endif

/* Whoever marks wrote unseen: what was kept since may be too late a base. */
TEST_F(preimage, marked_pages_go_whole)
{
	touch(self->mem, 3, 2);
	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 3, 1));
	EXPECT_ROUND();
	EXPECT_EQ(1, self->model->round.page);
	EXPECT_EQ(1, self->model->round.xbzrle);
	/* Marked before it is written. */
	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 3, 1));
	touch(self->mem, 3, 2);
	EXPECT_ROUND();
	EXPECT_EQ(1, self->model->round.page);
	EXPECT_EQ(1, self->model->round.xbzrle);
}

TEST_F(preimage, full_round_uses_no_base)
{
	struct model *fresh = model_new();
	unsigned char buf[8192];
	ssize_t n;

	ASSERT_NE(NULL, fresh);
	touch(self->mem, 0, 40);
	ASSERT_EQ(0, dev_sync(self->fd, XBZRLE_SYNC_FULL, NULL));
	touch(self->mem, 20, 60);
	while ((n = read(self->fd, buf, sizeof(buf))) > 0) {
		ASSERT_EQ(0, model_feed(fresh, buf, n));
		touch(self->mem, 70, 10);
	}
	ASSERT_EQ(0, n);
	EXPECT_EQ(0, fresh->round.xbzrle);
	ASSERT_EQ(0, dev_round(self->fd, fresh, 0));
	EXPECT_EQ(-1, model_diff(fresh, "ram", self->mem, 0, LENGTH));
	model_free(fresh);
}

TEST_F(preimage, after_the_last_round_nothing_is_kept)
{
	struct model *fresh = model_new();

	ASSERT_NE(NULL, fresh);
	touch(self->mem, 0, 10);
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FINAL));
	EXPECT_SAME(self->mem);
	touch(self->mem, 0, 50);
	EXPECT_EQ(10, STAT(preimages));
	EXPECT_EQ(0, STAT(cache_used));
	ASSERT_EQ(0, dev_round(self->fd, fresh, XBZRLE_SYNC_FULL));
	touch(self->mem, 0, 50);
	EXPECT_EQ(60, STAT(preimages));
	ASSERT_EQ(0, dev_round(self->fd, fresh, 0));
	EXPECT_EQ(50, fresh->round.xbzrle);
	EXPECT_EQ(-1, model_diff(fresh, "ram", self->mem, 0, LENGTH));
	model_free(fresh);
}

/* The memory outlives region and session, and its writers do not notice. */
TEST_F(preimage, region_goes_while_writers_run)
{
	struct puncher p = { .mem = self->mem, .rfd = self->rfd };
	unsigned char before;
	pthread_t threads[2];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL,
					    i ? write_on : punch_and_fill, &p));
	for (i = 0; i < 20; i++)
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, dev_sync(self->fd, MOMENT, NULL));
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	EXPECT_EQ(0, STAT(cache_used));
	usleep(50000);
	EXPECT_EQ(0, STAT(cache_used));
	close(self->fd);
	usleep(50000);
	__atomic_store_n(&p.stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	before = self->mem[17];
	touch(self->mem, 0, PAGES);
	EXPECT_EQ((unsigned char)(before + 1), self->mem[17]);
	self->fd = dev_open();
	ASSERT_LE(0, self->fd);
}

/* A round of the moment of its SYNC, into @then; then read in small pieces. */
#define SYNC_MOMENT(flags) do { \
	memcpy(self->then, self->mem, LENGTH); \
	ASSERT_EQ(0, dev_sync(self->fd, MOMENT | (flags), NULL)); \
} while (0)

TEST_F(preimage, round_is_the_moment_of_its_sync)
{
	unsigned char buf[100];
	unsigned int round;
	uint64_t state = 1;
	ssize_t n;

	/* Of each page that is written twice there are two. */
	ASSERT_EQ(0, dev_set_cache(self->fd, 2 * LENGTH));
	for (round = 0; round < 20; round++) {
		touch(self->mem, 0, PAGES / 2 + round);
		SYNC_MOMENT(0);
		while ((n = read(self->fd, buf, sizeof(buf))) > 0) {
			ASSERT_EQ(0, model_feed(self->model, buf, n));
			touch(self->mem, rnd_below(&state, PAGES - 16), 16);
		}
		ASSERT_EQ(0, n);
		EXPECT_TRUE(model_idle(self->model));
		EXPECT_SAME(self->then);
		if (round)
			EXPECT_EQ(0, self->model->round.page);
	}
	EXPECT_LT(0, STAT(moments));
	EXPECT_EQ(0, STAT(torn_rounds));
	EXPECT_ROUND();
}

static void *change_once(void *arg)
{
	struct puncher *p = arg;
	unsigned int i;

	for (;;) {
		while (!__atomic_load_n(&p->punches, __ATOMIC_ACQUIRE))
			if (__atomic_load_n(&p->stop, __ATOMIC_RELAXED))
				return NULL;
		for (i = 0; i < PAGES; i += 2) {
			if (fallocate(p->rfd, PUNCH, i * UNIT, UNIT))
				return p;
			touch(p->mem, i + 1, 1);
		}
		__atomic_store_n(&p->punches, 0, __ATOMIC_RELEASE);
	}
}

/*
 * Each page changes once while SYNC runs or later. What has not changed when
 * SYNC returns must come as it is, also if its change is under way.
 */
TEST_F(preimage, what_is_there_after_sync_was_there_at_its_moment)
{
	struct puncher p = { .mem = self->mem, .rfd = self->rfd };
	struct mm_turns rounds = { .least = 12, .most = 100 };
	unsigned char *before = mm_anon(LENGTH);
	unsigned int round, page, errors;
	pthread_t thread;
	uint64_t at;
	void *ret;

	ASSERT_NE(NULL, before);
	ASSERT_EQ(0, dev_set_cache(self->fd, 2 * LENGTH));
	ASSERT_EQ(0, pthread_create(&thread, NULL, change_once, &p));
	while (mm_another_turn(&rounds)) {
		round = rounds.done;
		for (page = 0; page < PAGES; page++)
			memset(self->mem + page * UNIT, 1 + round % 255, UNIT);
		memcpy(before, self->mem, LENGTH);
		__atomic_store_n(&p.punches, 1, __ATOMIC_RELEASE);
		ASSERT_EQ(0, dev_sync(self->fd, MOMENT | (round % 3 ? 0 :
				      XBZRLE_SYNC_FULL), NULL));
		/* For a receiver that has nothing. */
		if (!(round % 3)) {
			model_free(self->model);
			self->model = model_new();
			ASSERT_NE(NULL, self->model);
		}
		memcpy(self->then, self->mem, LENGTH);
		ASSERT_EQ(0, read_torn(self->fd, self->model, &errors));
		ASSERT_EQ(0, errors);
		for (page = 0; page < PAGES; page++) {
			at = (uint64_t)page * UNIT;
			if (!memcmp(self->then + at, before + at, UNIT))
				ASSERT_EQ(-1, model_diff(self->model, "ram",
							 before, at, UNIT));
		}
		while (__atomic_load_n(&p.punches, __ATOMIC_ACQUIRE))
			sched_yield();
	}
	__atomic_store_n(&p.stop, 1, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, &ret));
	ASSERT_EQ(NULL, ret);
	EXPECT_ROUND();
	munmap(before, LENGTH);
}

/* All at once, before anything is read: as much again as changed. */
TEST_F(preimage, everything_changes_before_it_is_read)
{
	touch(self->mem, 0, PAGES);
	SYNC_MOMENT(0);
	touch(self->mem, 0, PAGES);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(PAGES, STAT(moments));
	EXPECT_SAME(self->then);
	EXPECT_EQ(0, STAT(torn_rounds));
	/* What was kept for the round is the base of the next. */
	EXPECT_EQ(LENGTH, STAT(cache_used));
	EXPECT_ROUND();
	EXPECT_EQ(PAGES, self->model->round.xbzrle);
}

TEST_F(preimage, full_round_is_a_moment_too)
{
	struct model *fresh = model_new();

	ASSERT_NE(NULL, fresh);
	touch(self->mem, 0, 20);
	SYNC_MOMENT(XBZRLE_SYNC_FULL);
	touch(self->mem, 10, 60);
	ASSERT_EQ(0, dev_read_round(self->fd, fresh, 65536));
	EXPECT_EQ(-1, model_diff(fresh, "ram", self->then, 0, LENGTH));
	SYNC_MOMENT(XBZRLE_SYNC_FINAL);
	touch(self->mem, 0, PAGES);
	ASSERT_EQ(0, dev_read_round(self->fd, fresh, 65536));
	EXPECT_EQ(-1, model_diff(fresh, "ram", self->then, 0, LENGTH));
	EXPECT_EQ(0, STAT(torn_rounds));
	EXPECT_EQ(0, STAT(cache_used));
	model_free(fresh);
}

/* A hole of the moment stays one in the round, and what was there stays. */
TEST_F(preimage, holes_change_after_the_moment)
{
	touch(self->mem, 0, PAGES);
	ASSERT_EQ(0, fallocate(self->rfd, PUNCH, 30 * UNIT, 10 * UNIT));
	SYNC_MOMENT(0);
	/* The comparison's copy has read the holes, but not written them. */
	touch(self->mem, 32, 4);
	ASSERT_EQ(0, fallocate(self->rfd, PUNCH, 60 * UNIT, 10 * UNIT));
	touch(self->mem, 64, 2);
	ASSERT_EQ(0, madvise(self->mem + 80 * UNIT, 4 * UNIT, MADV_REMOVE));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_SAME(self->then);
	EXPECT_EQ(0, STAT(torn_rounds));
	EXPECT_ROUND();
}

TEST_F(preimage, swapped_out_after_the_moment)
{
	if (!mm_swap_on())
		SKIP(return, "no zram to swap to");
	touch(self->mem, 0, PAGES);
	SYNC_MOMENT(0);
	ASSERT_EQ(0, madvise(self->mem, LENGTH, MADV_PAGEOUT));
	touch(self->mem, 10, 40);
	ASSERT_EQ(0, madvise(self->mem, LENGTH, MADV_PAGEOUT));
	ASSERT_EQ(0, fallocate(self->rfd, PUNCH, 60 * UNIT, 10 * UNIT));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_SAME(self->then);
	EXPECT_ROUND();
}

/* Nobody reads it, not even to keep it; who wants to be rid of it can. */
TEST_F(preimage, broken_page_is_punched)
{
	pid_t child;
	int status;
	char byte;

	touch(self->mem, 0, 8);
	ASSERT_EQ(0, dev_sync(self->fd, MOMENT, NULL));
	child = fork();
	if (!child)
		_exit(madvise(self->mem + 4 * UNIT, UNIT, MADV_HWPOISON) &&
		      errno == EINVAL);
	/* Some kernels (6.12) end who does that with SIGBUS. */
	ASSERT_EQ(child, waitpid(child, &status, 0));
	if (WIFEXITED(status) && WEXITSTATUS(status))
		return;
	ASSERT_EQ(-1, pread(self->rfd, &byte, 1, 4 * UNIT));
	ASSERT_EQ(EIO, errno);
	EXPECT_EQ(-EIO, dev_read_round(self->fd, self->model, 65536));
	ASSERT_EQ(0, fallocate(self->rfd, PUNCH, 3 * UNIT, 4 * UNIT));
	EXPECT_EQ(-ENOSPC, dev_read_round(self->fd, self->model, 65536));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(1, STAT(torn_rounds));
	/* What is mapped there stays what it was, until it is mapped anew. */
	ASSERT_EQ(self->mem, mmap(self->mem, LENGTH, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_FIXED, self->rfd, 0));
	EXPECT_ROUND();
}

TEST_F(preimage, child_writes_after_the_moment)
{
	pid_t child;

	touch(self->mem, 0, 64);
	SYNC_MOMENT(0);
	child = fork();
	if (!child) {
		touch(self->mem, 0, PAGES);
		_exit(0);
	}
	ASSERT_LT(0, child);
	touch(self->mem, 32, 64);
	ASSERT_EQ(child, waitpid(child, NULL, 0));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_SAME(self->then);
	EXPECT_ROUND();
}

TEST_F(preimage, round_over_the_budget_is_told)
{
	unsigned int errors;

	ASSERT_EQ(0, dev_set_cache(self->fd, 20 * UNIT));
	touch(self->mem, 0, PAGES);
	SYNC_MOMENT(0);
	touch(self->mem, 0, 20);
	EXPECT_EQ(0, STAT(torn_rounds));
	touch(self->mem, 20, 1);
	ASSERT_EQ(0, read_torn(self->fd, self->model, &errors));
	EXPECT_EQ(1, errors);
	EXPECT_EQ(1, STAT(torn_rounds));
	EXPECT_EQ(0, STAT(round_left));
	/* It was an ordinary round, with nothing lost. */
	EXPECT_SAME(self->mem);
	EXPECT_ROUND();
	SYNC_MOMENT(0);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(1, STAT(torn_rounds));
}

/* Told also to who has read a part already, before anything that is later. */
TEST_F(preimage, torn_while_it_is_read)
{
	unsigned char buf[8192];
	unsigned int errors;
	ssize_t n;

	ASSERT_EQ(0, dev_set_cache(self->fd, 0));
	touch(self->mem, 0, PAGES);
	for (n = 0; n < (ssize_t)LENGTH; n++)
		self->mem[n] ^= n * 7;
	SYNC_MOMENT(0);
	n = read(self->fd, buf, sizeof(buf));
	ASSERT_LT(0, n);
	ASSERT_EQ(0, model_feed(self->model, buf, n));
	self->mem[100 * UNIT]++;
	/* What was encoded already is still of the moment. */
	n = read(self->fd, buf, sizeof(buf));
	if (n > 0) {
		ASSERT_EQ(0, model_feed(self->model, buf, n));
		n = read(self->fd, buf, sizeof(buf));
	}
	ASSERT_EQ(-1, n);
	ASSERT_EQ(ENOSPC, errno);
	ASSERT_EQ(0, read_torn(self->fd, self->model, &errors));
	EXPECT_EQ(0, errors);
	EXPECT_SAME(self->mem);
}

/* A device's log has a bit for each page, and few are set. */
TEST_F(preimage, marks_leave_other_bases_alone)
{
	unsigned char bitmap[PAGES / 8] = {};
	unsigned int errors;
	struct xbzrle_sync s;

	touch(self->mem, 0, 20);
	ASSERT_EQ(0, dev_mark(self->fd, self->id, 0, PAGES, bitmap));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(20, s.dirty_pages);
	EXPECT_EQ(20, s.based_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));

	touch(self->mem, 0, 20);
	bitmap[0] = 0x18;
	ASSERT_EQ(0, dev_mark(self->fd, self->id, 0, PAGES, bitmap));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(20, s.dirty_pages);
	EXPECT_EQ(18, s.based_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(2, self->model->round.page);
	EXPECT_SAME(self->mem);

	touch(self->mem, 0, 20);
	SYNC_MOMENT(0);
	bitmap[0] = 0;
	ASSERT_EQ(0, dev_mark(self->fd, self->id, 0, PAGES, bitmap));
	ASSERT_EQ(0, read_torn(self->fd, self->model, &errors));
	EXPECT_EQ(0, errors);
	EXPECT_SAME(self->then);
}

/* A part of the bitmap was read, and what it says holds. */
TEST_F(preimage, marks_up_to_a_fault)
{
	const unsigned int chunk = 4096, pages = chunk + 8;
	unsigned char *bitmap = mm_anon(2 * UNIT), *mem;
	struct xbzrle_sync s;
	uint32_t id;
	int rfd;

	ASSERT_NE(NULL, bitmap);
	ASSERT_EQ(0, munmap(bitmap + UNIT, UNIT));
	rfd = dev_create(self->fd, "large", pages * UNIT, &id);
	ASSERT_LE(0, rfd);
	mem = mmap(NULL, pages * UNIT, PROT_READ | PROT_WRITE, MAP_SHARED, rfd,
		   0);
	ASSERT_NE(MAP_FAILED, mem);
	touch(mem, 0, 2);
	EXPECT_ROUND();
	touch(mem, 0, 2);
	bitmap[UNIT - chunk / 8] = 1;
	EXPECT_EQ(-EFAULT, dev_mark(self->fd, id, 0, pages,
				    bitmap + UNIT - chunk / 8));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(2, s.dirty_pages);
	EXPECT_EQ(1, s.based_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(-1, model_diff(self->model, "large", mem, 0, 2 * UNIT));
	munmap(mem, pages * UNIT);
	munmap(bitmap, UNIT);
	close(rfd);
}

TEST_F(preimage, marked_in_a_round_of_a_moment)
{
	unsigned int errors;

	touch(self->mem, 0, 10);
	SYNC_MOMENT(0);
	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 5, 1));
	ASSERT_EQ(0, read_torn(self->fd, self->model, &errors));
	EXPECT_EQ(1, errors);
	EXPECT_ROUND();
}

/* What is lost while the last record is on its way is told before the end. */
TEST_F(preimage, marked_when_only_the_end_is_left)
{
	unsigned int errors, begun;
	unsigned char byte;

	for (begun = 0; begun < 2; begun++) {
		touch(self->mem, 3, 1);
		SYNC_MOMENT(0);
		do {
			ASSERT_EQ(1, read(self->fd, &byte, 1));
			ASSERT_EQ(0, model_feed(self->model, &byte, 1));
		} while (!self->model->round.xbzrle ||
			 !model_at_item(self->model));
		ASSERT_FALSE(model_idle(self->model));
		/* The end itself may be encoded by then. */
		if (begun) {
			ASSERT_EQ(1, read(self->fd, &byte, 1));
			ASSERT_EQ(0, model_feed(self->model, &byte, 1));
		}
		ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 5, 1));
		ASSERT_EQ(0, read_torn(self->fd, self->model, &errors));
		EXPECT_EQ(1, errors);
		EXPECT_EQ(1 + begun, STAT(torn_rounds));
		EXPECT_TRUE(model_idle(self->model));
		EXPECT_ROUND();
	}
}

/* Memory whose tracker does not see a write begin is copied in the call. */
TEST_F(preimage, other_memory_is_copied_during_sync)
{
	unsigned char *mem = mm_anon(LENGTH), *then = mm_anon(LENGTH);
	struct xbzrle_register out;
	unsigned int round;

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, then);
	ASSERT_EQ(0, dev_register(self->fd, "anon", mem, LENGTH, 0,
				  XBZRLE_TRACKER_EXTERNAL, &out));
	ASSERT_EQ(0, dev_set_cache(self->fd, 2 * LENGTH));
	for (round = 0; round < 5; round++) {
		touch(mem, 0, 64);
		ASSERT_EQ(0, dev_mark_units(self->fd, out.region_id, 0, PAGES));
		touch(self->mem, 0, 64);
		memcpy(then, mem, LENGTH);
		SYNC_MOMENT(0);
		touch(self->mem, 32, 64);
		touch(mem, 0, PAGES);
		ASSERT_EQ(0, madvise(mem + 10 * UNIT, UNIT, MADV_DONTNEED));
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_SAME(self->then);
		EXPECT_EQ(-1, model_diff(self->model, "anon", then, 0,
					 LENGTH));
	}
	EXPECT_EQ(0, STAT(torn_rounds));
	munmap(then, LENGTH);
	munmap(mem, LENGTH);
}

TEST_F(preimage, copies_over_the_budget_are_refused)
{
	unsigned char *mem = mm_anon(LENGTH);
	struct xbzrle_register out;
	struct xbzrle_sync s;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, dev_register(self->fd, "anon", mem, LENGTH, 0,
				  XBZRLE_TRACKER_EXTERNAL, &out));
	touch(mem, 0, PAGES);
	touch(self->mem, 0, 10);
	ASSERT_EQ(0, dev_set_cache(self->fd, 50 * UNIT));
	EXPECT_EQ(-ENOSPC, dev_sync(self->fd, MOMENT, NULL));
	EXPECT_EQ(0, STAT(round_left));
	EXPECT_EQ(1, STAT(rounds));
	/* Nothing of it is left, and nothing is missing. */
	EXPECT_GE(50 * UNIT, STAT(cache_used));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(PAGES + 10, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_SAME(self->mem);
	EXPECT_EQ(-1, model_diff(self->model, "anon", mem, 0, LENGTH));
	munmap(mem, LENGTH);
}

TEST_HARNESS_MAIN

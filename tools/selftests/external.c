// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Memory whose writes we say: what is marked is sent and nothing else, of every
 * kind of memory that can be read.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <linux/userfaultfd.h>

#include "child.h"
#include "device.h"
#include "mm.h"
#include "rnd.h"

#include "harness.h"

#define PAGES		64
#define LENGTH		(PAGES * UNIT)
#define NOBODY		65534

FIXTURE(external)
{
	int fd;
	uint32_t id;
	unsigned char *mem;
	struct model *model;
};

static int add_region(int fd, const char *name, void *mem, size_t length,
		      pid_t pid, uint32_t *id)
{
	struct xbzrle_register out;
	int ret = dev_register(fd, name, mem, length, pid,
			       XBZRLE_TRACKER_EXTERNAL, &out);

	*id = out.region_id;
	return ret;
}

/* The even pages are populated, the odd ones are holes. */
FIXTURE_SETUP(external)
{
	unsigned int i;

	self->fd = dev_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	self->mem = mm_anon(LENGTH);
	ASSERT_NE(NULL, self->mem);
	for (i = 0; i < PAGES; i += 2)
		self->mem[i * UNIT] = i + 1;
	ASSERT_EQ(0, add_region(self->fd, "heap", self->mem, LENGTH, 0,
				&self->id));
	self->model = model_new();
	ASSERT_NE(NULL, self->model);
}

FIXTURE_TEARDOWN(external)
{
	model_free(self->model);
	close(self->fd);
}

#define EXPECT_SAME() \
	EXPECT_EQ(-1, model_diff(self->model, "heap", self->mem, 0, LENGTH))

/* Records of the last round that brought content. */
static uint64_t sent(const struct model *m)
{
	return m->round.zero + m->round.page + m->round.xbzrle;
}

/* Was this unit of the region in the last round? */
static bool brought(struct model *m, const char *name, size_t unit)
{
	return model_find(m, name)->round_of[unit] == m->rounds;
}

TEST_F(external, choice_is_reported)
{
	struct xbzrle_register out;

	ASSERT_EQ(0, dev_register(self->fd, "a", self->mem, LENGTH, 0,
				  XBZRLE_TRACKER_EXTERNAL, &out));
	EXPECT_EQ(XBZRLE_TRACKER_EXTERNAL, out.tracker);
	EXPECT_EQ(XBZRLE_CAPTURE_COPY, out.capture);
}

TEST_F(external, first_round_sends_what_is_populated)
{
	struct xbzrle_sync s;
	unsigned int i;

	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(PAGES / 2, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(PAGES / 2, self->model->round.page);
	EXPECT_EQ(PAGES / 2, sent(self->model));
	for (i = 0; i < PAGES; i++)
		EXPECT_EQ(i % 2 == 0, mm_populated(self->mem + i * UNIT));
	EXPECT_SAME();
}

/* Until one was started, no round was the first. */
TEST_F(external, first_round_after_a_failed_sync)
{
	struct xbzrle_sync *arg = (void *)mm_anon(UNIT);

	ASSERT_NE(NULL, arg);
	arg->size = sizeof(*arg);
	ASSERT_EQ(0, mprotect(arg, UNIT, PROT_READ));
	EXPECT_EQ(-EFAULT, dev_ioctl(self->fd, XBZRLE_IOC_SYNC, arg));
	self->mem[UNIT] = 1;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(PAGES / 2 + 1, sent(self->model));
	EXPECT_SAME();
	munmap(arg, UNIT);
}

TEST_F(external, what_is_marked_is_sent)
{
	struct xbzrle_sync s;
	unsigned int i;

	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	for (i = 0; i < PAGES; i += 2)
		self->mem[i * UNIT + 5] = 7;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(0, sent(self->model));

	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 2, 1));
	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 10, 3));
	/* Twice is once. */
	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 2, 1));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(4, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(3, self->model->round.xbzrle);
	EXPECT_EQ(3, sent(self->model));
	for (i = 0; i < PAGES; i++)
		EXPECT_EQ(i == 2 || i == 10 || i == 12,
			  brought(self->model, "heap", i));

	/* They count for one round. */
	self->mem[2 * UNIT]++;
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(0, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 0, PAGES));
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FINAL));
	EXPECT_EQ(PAGES / 2 - 2, sent(self->model));
	EXPECT_SAME();
}

TEST_F(external, what_did_not_change_is_not_sent)
{
	struct xbzrle_sync s;

	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 0, PAGES));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(PAGES, s.dirty_pages);
	EXPECT_EQ(PAGES / 2, s.based_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(0, sent(self->model));
	EXPECT_FALSE(mm_populated(self->mem + UNIT));
}

/* As allocators and stacks have them. */
TEST_F(external, guard_regions_are_holes)
{
	unsigned char *mem = mm_anon(LENGTH);
	struct xbzrle_register out;
	unsigned int i;

	ASSERT_NE(NULL, mem);
	for (i = 0; i < PAGES; i++)
		mem[i * UNIT] = i + 1;
	if (madvise(mem + 3 * UNIT, 2 * UNIT, MADV_GUARD_INSTALL)) {
		ASSERT_EQ(EINVAL, errno);
		munmap(mem, LENGTH);
		return;
	}
	ASSERT_EQ(0, dev_register(self->fd, "guarded", mem, LENGTH, 0,
				  XBZRLE_TRACKER_EXTERNAL, &out));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, madvise(mem + 8 * UNIT, UNIT, MADV_GUARD_INSTALL));
	ASSERT_EQ(0, dev_mark_units(self->fd, out.region_id, 8, 1));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, madvise(mem, LENGTH, MADV_GUARD_REMOVE));
	EXPECT_EQ(-1, model_diff(self->model, "guarded", mem, 0, LENGTH));
	munmap(mem, LENGTH);
}

TEST_F(external, page_becomes_a_hole)
{
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, madvise(self->mem + 4 * UNIT, 5 * UNIT, MADV_DONTNEED));
	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 4, 4));
	/* What is read only has the zero page. */
	EXPECT_EQ(0, __atomic_load_n(self->mem + 6 * UNIT, __ATOMIC_RELAXED));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(2, self->model->round.zero);
	EXPECT_EQ(2, sent(self->model));
	EXPECT_FALSE(mm_populated(self->mem + 4 * UNIT));
	/* Nobody said that of the page behind. */
	EXPECT_EQ(8 * UNIT, model_diff(self->model, "heap", self->mem, 0,
				       LENGTH));
	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 8, 1));
	self->mem[4 * UNIT] = 1;
	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 4, 1));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(2, sent(self->model));
	EXPECT_SAME();
}

TEST_F(external, full_round_needs_no_marks)
{
	struct model *fresh = model_new();
	struct xbzrle_sync s;

	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	self->mem[0] = 99;
	self->mem[UNIT] = 1;
	ASSERT_EQ(0, madvise(self->mem + 2 * UNIT, UNIT, MADV_DONTNEED));
	ASSERT_EQ(0, dev_sync(self->fd, XBZRLE_SYNC_FULL, &s));
	/* With the hole that was sent. */
	EXPECT_EQ(PAGES / 2 + 1, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, fresh, 65536));
	EXPECT_EQ(PAGES / 2, fresh->round.page);
	EXPECT_EQ(-1, model_diff(fresh, "heap", self->mem, 0, LENGTH));
	/* And the round after it does again. */
	self->mem[4 * UNIT]++;
	ASSERT_EQ(0, dev_round(self->fd, fresh, 0));
	EXPECT_EQ(0, sent(fresh));
	model_free(fresh);
}

/* Bit n is bit n % 8 of byte n / 8, also where the machine is big-endian. */
TEST_F(external, bits_of_the_bitmap)
{
	static const unsigned int firsts[] = { 0, 1, 7, 8, 13, 40 };
	static const unsigned int lengths[] = { 1, 3, 8, 9, 16, 23, 24 };
	unsigned char bitmap[4] = { 0x81, 0x26, 0x5a, 0xff };
	struct xbzrle_sync s;
	unsigned int i, j, n, want;

	/* Each unit that is looked at is sent. */
	ASSERT_EQ(0, dev_set_cache(self->fd, 0));
	memset(self->mem, 1, LENGTH);
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	for (i = 0; i < ARRAY_SIZE(firsts); i++) {
		for (j = 0; j < ARRAY_SIZE(lengths); j++) {
			ASSERT_EQ(0, dev_mark(self->fd, self->id, firsts[i],
					      lengths[j], bitmap));
			ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
			ASSERT_EQ(0, dev_read_round(self->fd, self->model,
						    65536));
			for (n = 0, want = 0; n < lengths[j]; n++) {
				unsigned int set = bitmap[n / 8] >> n % 8 & 1;

				EXPECT_EQ(set, brought(self->model, "heap",
						       firsts[i] + n));
				want += set;
			}
			/* None before and behind. */
			EXPECT_EQ(want, s.dirty_pages);
			EXPECT_EQ(want, sent(self->model));
		}
	}
}

/* No byte behind the bitmap is read. */
TEST_F(external, bitmap_at_the_end_of_a_page)
{
	unsigned char *page = mmap(NULL, 2 * UNIT, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned int nr;

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, mprotect(page + UNIT, UNIT, PROT_NONE));
	for (nr = 1; nr <= PAGES; nr++) {
		EXPECT_EQ(0, dev_mark(self->fd, self->id, 0, nr,
				      page + UNIT - (nr + 7) / 8));
		if (nr > 8)
			EXPECT_EQ(-EFAULT,
				  dev_mark(self->fd, self->id, 0, nr, page +
					   UNIT - (nr + 7) / 8 + 1));
	}
	munmap(page, 2 * UNIT);
}

/* Across the kernel's chunks, of a region that is mostly a hole. */
TEST_F(external, large_bitmap)
{
	const size_t units = (1 << 20) + 77, length = units * UNIT;
	unsigned char *mem = mm_anon(length);
	unsigned char *bitmap = calloc(units / 8 + 1, 1);
	unsigned int i, want = 0;
	struct xbzrle_sync s;
	uint64_t seed = rnd_seed(1, 1);
	uint32_t id;

	if (!mem)
		SKIP(return, "no address space");
	ASSERT_NE(NULL, bitmap);
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_EQ(0, add_region(self->fd, "large", mem, length, 0, &id));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(0, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	for (i = 0; i < 300; i++) {
		/* Some of them around the borders of 4096 bits. */
		size_t unit = i % 3 ? rnd_below(&seed, units) :
			      rnd_below(&seed, 256) * 4096 + 4096 - i % 2;

		want += !(bitmap[unit / 8] >> unit % 8 & 1);
		bitmap[unit / 8] |= 1 << unit % 8;
		mem[unit * UNIT] = i % 255 + 1;
	}
	mem[length - 1] = 1;
	want += !(bitmap[(units - 1) / 8] >> (units - 1) % 8 & 1);
	/* With bits behind the last. */
	bitmap[(units - 1) / 8] |= 0xff << (units - 1) % 8;
	ASSERT_EQ(0, dev_mark(self->fd, id, 0, units, bitmap));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(want, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(want, sent(self->model));
	for (i = 0; i < units; i++)
		if (bitmap[i / 8] >> i % 8 & 1)
			ASSERT_EQ(-1, model_diff(self->model, "large", mem,
						 i * UNIT, UNIT));
	munmap(mem, length);
	free(bitmap);
}

static void no_handling(int signal)
{
	(void)signal;
}

/* Many units without a record, and somebody presses ^C. */
TEST_F(external, signal_ends_a_read_that_finds_nothing)
{
	/* Again and again: the first may come before the read() has begun. */
	const struct itimerval soon = {
		.it_value.tv_usec = 50000,
		.it_interval.tv_usec = 50000,
	};
	const struct itimerval never = { 0 };
	const struct sigaction action = { .sa_handler = no_handling };
	const size_t units = 1 << 20, length = units * UNIT;
	unsigned char *mem = mm_anon(length);
	unsigned char byte;
	uint32_t id;

	if (!mem)
		SKIP(return, "no address space");
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_EQ(0, add_region(self->fd, "large", mem, length, 0, &id));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, dev_mark_units(self->fd, id, 0, units));
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &soon, NULL));
	EXPECT_EQ(-1, read(self->fd, &byte, 1));
	EXPECT_EQ(EINTR, errno);
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &never, NULL));
	/* The harness has one of its own. */
	signal(SIGALRM, SIG_DFL);
	munmap(mem, length);
}

/* As is documented: units before the fault may be marked, no others. */
TEST_F(external, bitmap_that_ends_in_a_fault)
{
	const size_t units = 2 * UNIT * 8, length = units * UNIT;
	unsigned char *mem = mm_anon(length);
	unsigned char *bitmap = mmap(NULL, 2 * UNIT, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct xbzrle_sync s;
	uint32_t id;

	if (!mem)
		SKIP(return, "no address space");
	ASSERT_NE(MAP_FAILED, bitmap);
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_EQ(0, add_region(self->fd, "large", mem, length, 0, &id));
	mem[0] = 1;
	mem[(units - 1) * UNIT] = 1;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));

	memset(bitmap, 0x10, 2 * UNIT);
	ASSERT_EQ(0, mprotect(bitmap + UNIT, UNIT, PROT_NONE));
	EXPECT_EQ(-EFAULT, dev_mark(self->fd, id, 0, units, bitmap));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_GE(UNIT, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	/* They changed nothing, and the receiver is told nothing. */
	EXPECT_EQ(0, sent(self->model));
	mem[4 * UNIT] = 1;
	mem[(units - 4) * UNIT] = 1;
	ASSERT_EQ(0, mprotect(bitmap + UNIT, UNIT, PROT_READ));
	ASSERT_EQ(0, dev_mark(self->fd, id, 0, units, bitmap));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(2 * UNIT, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(2, sent(self->model));
	munmap(mem, length);
	munmap(bitmap, 2 * UNIT);
}

TEST_F(external, units_that_are_not_there)
{
	static const struct {
		uint64_t first;
		uint64_t nr;
	} bad[] = {
		{ 0, 0 }, { 5, 0 }, { PAGES, 0 },
		{ 0, PAGES + 1 }, { 1, PAGES }, { PAGES - 1, 2 },
		{ PAGES, 1 }, { PAGES + 1, 1 }, { UINT64_MAX, 1 },
		{ 0, UINT64_MAX }, { 1, UINT64_MAX }, { UINT64_MAX, UINT64_MAX },
		{ UINT64_MAX - 1, 4 }, { 2, UINT64_MAX - 1 },
	};
	unsigned char bitmap[PAGES] = { 0 };
	struct xbzrle_sync s;
	unsigned int i;

	memset(bitmap, 0xff, sizeof(bitmap));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		TH_LOG("units %u", i);
		EXPECT_EQ(-EINVAL, dev_mark(self->fd, self->id, bad[i].first,
					    bad[i].nr, bitmap));
	}
	EXPECT_EQ(-EINVAL, dev_mark(self->fd, self->id + 1, 0, 1, bitmap));
	EXPECT_EQ(-EINVAL, dev_mark(self->fd, 0, 0, 1, bitmap));
	EXPECT_EQ(-EINVAL, dev_mark(self->fd, UINT32_MAX, 0, 1, bitmap));
	EXPECT_EQ(-EFAULT, dev_mark(self->fd, self->id, 0, 1, NULL));
	EXPECT_EQ(-EFAULT, dev_mark(self->fd, self->id, 0, 1,
				    (void *)(1UL << 63)));
	EXPECT_EQ(-EFAULT, dev_mark(self->fd, self->id, 0, PAGES, (void *)-4));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(0, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	EXPECT_EQ(-EINVAL, dev_mark(self->fd, self->id, 0, 1, bitmap));
}

TEST_F(external, marks_in_a_round_are_of_the_next)
{
	unsigned char buf[2 * UNIT];
	struct xbzrle_sync s;
	ssize_t n;

	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	n = read(self->fd, buf, sizeof(buf));
	ASSERT_LT(0, n);
	ASSERT_EQ(0, model_feed(self->model, buf, n));
	/* One that was read, one that is to come, and a hole. */
	self->mem[0]++;
	self->mem[(PAGES - 2) * UNIT]++;
	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 0, 2));
	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, PAGES - 2, 1));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 4096));
	EXPECT_EQ(PAGES / 2, self->model->round.page);
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(3, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 4096));
	/* The last one was read with its new content. */
	EXPECT_EQ(1, sent(self->model));
	EXPECT_SAME();
}

struct marker {
	int fd;
	uint32_t id;
	unsigned char *mem;
	int stop;
	int bad;
};

static void *write_and_mark(void *arg)
{
	struct marker *m = arg;
	uint64_t seed = rnd_seed(7, 1);
	unsigned char bitmap[PAGES / 8];
	unsigned int i, unit;

	while (!__atomic_load_n(&m->stop, __ATOMIC_RELAXED)) {
		memset(bitmap, 0, sizeof(bitmap));
		for (i = 0; i < 5; i++) {
			unit = rnd_below(&seed, PAGES);
			m->mem[unit * UNIT + rnd_below(&seed, UNIT)]++;
			bitmap[unit / 8] |= 1 << unit % 8;
		}
		if (dev_mark(m->fd, m->id, 0, PAGES, bitmap))
			m->bad++;
	}
	return NULL;
}

/* From two threads while a third makes rounds: no mark is lost. */
TEST_F(external, marks_by_other_threads)
{
	struct marker m = { self->fd, self->id, self->mem, 0, 0 };
	struct mm_turns turns = { .least = 30, .most = 300 };
	pthread_t threads[2];
	unsigned int i;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, write_and_mark,
					    &m));
	while (mm_another_turn(&turns))
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	m.stop = 1;
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(0, m.bad);
	EXPECT_SAME();
}

TEST_F(external, unreadable_protection_is_read)
{
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_NONE));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(PAGES / 2, self->model->round.page);
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ | PROT_WRITE));
	EXPECT_SAME();
}

TEST_F(external, swapped_out)
{
	if (!mm_swap_on())
		SKIP(return, "no swap");
	/* A page in a batch of some CPU's is not swapped out. */
	mm_drain();
	ASSERT_EQ(0, madvise(self->mem, LENGTH, MADV_PAGEOUT));
	if (!mm_swapped(self->mem))
		SKIP(return, "nothing is swapped out");
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(PAGES / 2, self->model->round.page);
	EXPECT_SAME();
	self->mem[2 * UNIT]++;
	ASSERT_EQ(0, madvise(self->mem, LENGTH, MADV_PAGEOUT));
	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 2, 1));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(1, sent(self->model));
	EXPECT_SAME();
}

#if MM_HAVE_UFFD_WP
/* Takes each entry out and puts it back, with the page table's lock alone. */
static void change_entries(unsigned char *mem, int ready)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)mem, LENGTH },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect wp = { .range = reg.range };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		return;
	do {
		if (ready >= 0 && write(ready, "r", 1) != 1)
			return;
		ready = -1;
		wp.mode ^= UFFDIO_WRITEPROTECT_MODE_WP;
	} while (!ioctl(uffd, UFFDIO_WRITEPROTECT, &wp));
}

/*
 * A process that does so: nobody else uses its page tables, so it waits for no
 * CPU to flush them. 0 or negative if there is none.
 */
static pid_t start_changer(unsigned char *mem)
{
	cpu_set_t cpus;
	int pipefd[2];
	char ready;
	pid_t pid;

	if (pipe(pipefd))
		return -1;
	pid = fork();
	if (!pid) {
		/* Beside who looks at them. */
		CPU_ZERO(&cpus);
		CPU_SET(1, &cpus);
		sched_setaffinity(0, sizeof(cpus), &cpus);
		close(pipefd[0]);
		change_entries(mem, pipefd[1]);
		_exit(1);
	}
	close(pipefd[1]);
	if (read(pipefd[0], &ready, 1) != 1)
		pid = -1;
	close(pipefd[0]);
	return pid;
}

/* Whether it has gone on until now. */
static bool stop_changer(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
}

/* An entry that is none for a moment is no hole. */
TEST_F(external, entries_that_change_are_found)
{
	struct mm_turns turns = { .least = 50, .most = 2000 };
	unsigned int missed = 0;
	struct xbzrle_sync s;
	uint32_t id;
	pid_t pid;
	int fd;

	pid = start_changer(self->mem);
	ASSERT_LT(0, pid);
	while (mm_another_turn(&turns)) {
		fd = dev_open();
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, add_region(fd, "heap", self->mem, LENGTH, pid, &id));
		ASSERT_EQ(0, dev_sync(fd, 0, &s));
		missed += PAGES / 2 - s.dirty_pages;
		close(fd);
	}
	ASSERT_TRUE(stop_changer(pid));
	EXPECT_EQ(0, missed);
}

/* Nor is it a page of the file. */
TEST_F(external, own_pages_whose_entries_change_are_read)
{
	struct mm_turns turns = { .least = 10, .most = 500 };
	int file = memfd_create("private", MFD_CLOEXEC);
	unsigned int wrong = 0;
	unsigned char *mem;
	uint32_t id;
	pid_t pid;

	ASSERT_EQ(0, ftruncate(file, LENGTH));
	mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	ASSERT_NE(MAP_FAILED, mem);
	memset(mem, 'p', LENGTH);
	pid = start_changer(mem);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_EQ(0, add_region(self->fd, "private", mem, LENGTH, pid, &id));
	while (mm_another_turn(&turns)) {
		ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FULL));
		wrong += model_diff(self->model, "private", mem, 0, LENGTH) != -1;
	}
	ASSERT_TRUE(stop_changer(pid));
	EXPECT_EQ(0, wrong);
	munmap(mem, LENGTH);
	close(file);
}
#endif /* MM_HAVE_UFFD_WP */

#if MM_HAVE_HUGE_PAGES
TEST_F(external, huge_pages_stay)
{
	unsigned char *mem = mm_anon_huge(2 * HUGE_SIZE);
	struct xbzrle_sync s;
	uint32_t id;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mm_write_file("/sys/kernel/mm/transparent_hugepage/enabled",
				   "madvise"));
	ASSERT_EQ(0, madvise(mem, 2 * HUGE_SIZE, MADV_HUGEPAGE));
	mem[3 * UNIT] = 1;
	/* Of the second one the zero page, as that was only read. */
	EXPECT_EQ(0, __atomic_load_n(mem + HUGE_SIZE, __ATOMIC_RELAXED));
	if (mm_huge_bytes(mem) != HUGE_SIZE)
		SKIP(return, "no huge page to be had");
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_EQ(0, add_region(self->fd, "huge", mem, 2 * HUGE_SIZE, 0, &id));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(1, sent(self->model));
	mem[5 * UNIT] = 1;
	ASSERT_EQ(0, dev_mark_units(self->fd, id, 5, 1));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(1, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(HUGE_SIZE, mm_huge_bytes(mem));
	EXPECT_FALSE(mm_vm_flag(mem, "nh"));
	EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, 2 * HUGE_SIZE));
	munmap(mem, 2 * HUGE_SIZE);
}

/* Huge pages that the kernel has now, free ones, or -1. */
static long huge_pages_free(void)
{
	char text[4096];
	const char *at;

	if (mm_read_file("/proc/meminfo", text, sizeof(text)))
		return -1;
	at = strstr(text, "HugePages_Free:");
	return at ? strtol(at + strlen("HugePages_Free:"), NULL, 10) : -1;
}

static bool huge_pages_get(const char *number)
{
	return !mm_write_file("/proc/sys/vm/nr_hugepages", number) &&
	       huge_pages_free() == atol(number);
}

/* Pages of each mapping: written, hole, written, hole. */
static void check_hugetlb(struct __test_metadata *_metadata,
			  struct _test_data_external *self, unsigned char *mem,
			  const char *name)
{
	const size_t length = 4 * HUGE_SIZE, units = HUGE_SIZE / UNIT;
	struct xbzrle_sync s;
	long before;
	uint32_t id;
	int ret;

	mem[UNIT] = 1;
	mem[3 * HUGE_SIZE - 1] = 2;
	before = huge_pages_free();
	ASSERT_EQ(0, add_region(self->fd, name, mem, length, 0, &id));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	/* What is zero is not sent. */
	EXPECT_EQ(2, sent(self->model));
	EXPECT_EQ(-1, model_diff(self->model, name, mem, 0, UNIT * 2));

	mem[UNIT]++;
	mem[2 * UNIT] = 3;
	ASSERT_EQ(0, dev_mark_units(self->fd, id, 2, 1));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(1, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(1, sent(self->model));
	ASSERT_EQ(0, dev_mark_units(self->fd, id, 0, 4 * units));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(1, sent(self->model));
	/* The holes are no more populated than they were. */
	EXPECT_EQ(before, huge_pages_free());

	/*
	 * Linux before 6.3 tells of a hole as of an unmapping. Nothing else
	 * may come of that than a region that has ended.
	 */
	ASSERT_EQ(0, madvise(mem, HUGE_SIZE, MADV_REMOVE));
	ASSERT_EQ(0, dev_mark_units(self->fd, id, 0, units));
	ret = dev_sync(self->fd, 0, &s);
	if (ret) {
		EXPECT_EQ(-EFAULT, ret);
		EXPECT_EQ(id, s.error_region);
	} else {
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_EQ(2, self->model->round.zero);
		EXPECT_EQ(2, sent(self->model));
		EXPECT_EQ(-1, model_diff(self->model, name, mem, 0, length));
	}
	ASSERT_EQ(0, dev_unregister(self->fd, id));
}

TEST_F(external, hugetlb_of_a_file)
{
	int file = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
	unsigned char *mem;

	if (file < 0 || !huge_pages_get("8"))
		SKIP(return, "no hugetlb");
	ASSERT_EQ(0, ftruncate(file, 4 * HUGE_SIZE));
	mem = mmap(NULL, 4 * HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		   file, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	check_hugetlb(_metadata, self, mem, "shared");
	munmap(mem, 4 * HUGE_SIZE);
	close(file);
	EXPECT_TRUE(huge_pages_get("0"));
}

/* Private ones: the caller's own, and those of a file below. */
TEST_F(external, hugetlb_private)
{
	const size_t length = 4 * HUGE_SIZE;
	int file = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
	unsigned char *shared, *mem;
	uint32_t id;

	if (file < 0 || !huge_pages_get("8"))
		SKIP(return, "no hugetlb");
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_EQ(0, ftruncate(file, length));
	shared = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file,
		      0);
	mem = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	ASSERT_NE(MAP_FAILED, shared);
	ASSERT_NE(MAP_FAILED, mem);
	shared[UNIT] = 1;
	shared[HUGE_SIZE] = 1;
	mem[1] = 2;
	ASSERT_EQ(0, add_region(self->fd, "private", mem, length, 0, &id));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(3, sent(self->model));
	EXPECT_EQ(8 - 3, huge_pages_free());
	EXPECT_EQ(-1, model_diff(self->model, "private", mem, 0, length));
	munmap(mem, length);
	munmap(shared, length);
	EXPECT_EQ(-EFAULT, dev_sync(self->fd, 0, NULL));
	ASSERT_EQ(0, dev_unregister(self->fd, id));
	close(file);
	EXPECT_TRUE(huge_pages_get("0"));
}
#endif

static uint64_t file_bytes(int file)
{
	struct stat st;

	return fstat(file, &st) ? UINT64_MAX : 512 * (uint64_t)st.st_blocks;
}

TEST_F(external, shared_file)
{
	int file = memfd_create("shared", MFD_CLOEXEC);
	unsigned char *mem, *view;
	uint32_t id;

	ASSERT_EQ(0, ftruncate(file, LENGTH));
	mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	view = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_NE(MAP_FAILED, view);
	/* Content without a PTE in what is registered. */
	view[UNIT] = 1;
	view[9 * UNIT] = 1;
	mem[3 * UNIT] = 1;
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_EQ(0, add_region(self->fd, "shared", mem, LENGTH, 0, &id));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(3, sent(self->model));
	EXPECT_EQ(3 * UNIT, file_bytes(file));

	view[UNIT]++;
	ASSERT_EQ(1, pwrite(file, "x", 1, 20 * UNIT));
	ASSERT_EQ(0, fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       9 * UNIT, UNIT));
	ASSERT_EQ(0, dev_mark_units(self->fd, id, 0, PAGES));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(1, self->model->round.xbzrle);
	EXPECT_EQ(1, self->model->round.page);
	EXPECT_EQ(1, self->model->round.zero);
	EXPECT_EQ(3 * UNIT, file_bytes(file));
	EXPECT_EQ(-1, model_diff(self->model, "shared", mem, 0, LENGTH));

	/* Behind the end there is nothing to be sent, and nothing wrong. */
	ASSERT_EQ(0, ftruncate(file, 8 * UNIT));
	ASSERT_EQ(0, dev_mark_units(self->fd, id, 0, PAGES));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(1, self->model->round.zero);
	EXPECT_EQ(1, sent(self->model));
	close(file);
}

TEST_F(external, private_mapping_of_shmem)
{
	int file = memfd_create("private", MFD_CLOEXEC);
	unsigned char *mem;
	uint32_t id;

	ASSERT_EQ(0, ftruncate(file, LENGTH));
	ASSERT_EQ(1, pwrite(file, "a", 1, UNIT));
	ASSERT_EQ(1, pwrite(file, "b", 1, 2 * UNIT));
	mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	ASSERT_NE(MAP_FAILED, mem);
	mem[2 * UNIT] = 'c';
	/* Of its own over a hole of the file. */
	mem[5 * UNIT] = 'd';
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_EQ(0, add_region(self->fd, "private", mem, LENGTH, 0, &id));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(3, sent(self->model));
	/* Page 5 was read before it was written, or was not. */
	EXPECT_GE(3 * UNIT, file_bytes(file));
	EXPECT_FALSE(mm_populated(mem + 7 * UNIT));
	/* What is its own goes away, and the file's content shows again. */
	ASSERT_EQ(0, madvise(mem, LENGTH, MADV_DONTNEED));
	mem[6 * UNIT] = 'e';
	ASSERT_EQ(0, dev_mark_units(self->fd, id, 0, PAGES));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(3, sent(self->model));
	EXPECT_EQ(-1, model_diff(self->model, "private", mem, 0, LENGTH));
	if (mm_swap_on()) {
		mem[6 * UNIT]++;
		madvise(mem, LENGTH, MADV_PAGEOUT);
		ASSERT_EQ(0, dev_mark_units(self->fd, id, 6, 1));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(1, sent(self->model));
		EXPECT_EQ(-1, model_diff(self->model, "private", mem, 0,
					 LENGTH));
	}
	close(file);
}

/* A file system that is not shmem. */
TEST_F(external, private_and_shared_mapping_of_a_file)
{
	static const int kinds[] = { MAP_PRIVATE, MAP_SHARED };
	static const char * const names[] = { "private", "shared" };
	const size_t size = 6 * UNIT + 100;
	unsigned char *mem;
	unsigned int i;
	uint32_t id;
	int file;

	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	mkdir("/tmp", 0700);
	ASSERT_EQ(0, mount("none", "/tmp", "ramfs", 0, NULL));
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct model *model = model_new();

		file = open("/tmp/file", O_RDWR | O_CREAT | O_TRUNC, 0600);
		ASSERT_LE(0, file);
		ASSERT_EQ(0, ftruncate(file, size));
		ASSERT_EQ(1, pwrite(file, "a", 1, UNIT));
		ASSERT_EQ(1, pwrite(file, "b", 1, 2 * UNIT));
		ASSERT_EQ(1, pwrite(file, "c", 1, size - 1));
		/* Two pages more than there are. */
		mem = mmap(NULL, 9 * UNIT, PROT_READ | PROT_WRITE, kinds[i],
			   file, 0);
		ASSERT_NE(MAP_FAILED, mem);
		mem[2 * UNIT] = 'd';
		mem[3 * UNIT] = 'e';
		ASSERT_EQ(0, add_region(self->fd, names[i], mem, 9 * UNIT, 0,
					&id));
		ASSERT_EQ(0, dev_round(self->fd, model, XBZRLE_SYNC_FULL));
		EXPECT_EQ(4, sent(model));
		EXPECT_EQ(-1, model_diff(model, names[i], mem, 0, 7 * UNIT));
		mem[4 * UNIT] = 'f';
		ASSERT_EQ(0, dev_mark_units(self->fd, id, 4, 5));
		ASSERT_EQ(0, dev_round(self->fd, model, 0));
		EXPECT_EQ(1, sent(model));
		EXPECT_EQ(-1, model_diff(model, names[i], mem, 0, 7 * UNIT));
		ASSERT_EQ(0, dev_unregister(self->fd, id));
		munmap(mem, 9 * UNIT);
		close(file);
		model_free(model);
	}
	umount("/tmp");
}

/* Several mappings of several kinds are one region. */
TEST_F(external, mixed_mappings)
{
	int file = memfd_create("mixed", MFD_CLOEXEC);

	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_EQ(0, ftruncate(file, LENGTH));
	ASSERT_EQ(1, pwrite(file, "a", 1, 11 * UNIT));
	ASSERT_NE(MAP_FAILED, mmap(self->mem + 9 * UNIT, 8 * UNIT, PROT_READ,
				   MAP_SHARED | MAP_FIXED, file, 9 * UNIT));
	ASSERT_EQ(0, mprotect(self->mem + 40 * UNIT, 3 * UNIT, PROT_READ));
	ASSERT_EQ(0, add_region(self->fd, "mixed", self->mem, LENGTH, 0,
				&self->id));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	/* Units 10, 12, 14, 16 are covered, 11 is new. */
	EXPECT_EQ(PAGES / 2 - 4 + 1, sent(self->model));
	EXPECT_EQ(-1, model_diff(self->model, "mixed", self->mem, 0, LENGTH));
	close(file);
}

/* Some part of the kernel's time data is a PFN mapping in every process. */
static void *pfn_mapping(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	void *found = NULL;
	unsigned long start;
	char line[512];

	while (f && !found && fgets(line, sizeof(line), f))
		if (strstr(line, "[vvar") && sscanf(line, "%lx-", &start) == 1 &&
		    mm_vm_flag((void *)start, "pf"))
			found = (void *)start;
	if (f)
		fclose(f);
	return found;
}

TEST_F(external, memory_that_is_refused)
{
	void *pfns = pfn_mapping();
	struct xbzrle_register out;

	if (pfns) {
		EXPECT_EQ(-EOPNOTSUPP,
			  dev_register(self->fd, "a", pfns, UNIT, 0,
				       XBZRLE_TRACKER_EXTERNAL, &out));
		EXPECT_EQ((uintptr_t)pfns, out.error_addr);
	}
	ASSERT_EQ(0, munmap(self->mem + 5 * UNIT, UNIT));
	EXPECT_EQ(-EFAULT, dev_register(self->fd, "a", self->mem, LENGTH, 0,
					XBZRLE_TRACKER_EXTERNAL, &out));
	EXPECT_EQ((uintptr_t)self->mem + 5 * UNIT, out.error_addr);
	EXPECT_EQ(0, out.region_id);
}

#ifdef __x86_64__
/* It can be mapped and not be read, which shows when it is read. */
TEST_F(external, memory_that_cannot_be_read)
{
	int file = syscall(SYS_memfd_secret, 0);
	struct xbzrle_sync s;
	unsigned char *mem;
	uint32_t id;

	if (file < 0)
		SKIP(return, "no memfd_secret()");
	ASSERT_EQ(0, ftruncate(file, LENGTH));
	mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	ASSERT_NE(MAP_FAILED, mem);
	mem[0] = 1;
	ASSERT_EQ(0, add_region(self->fd, "secret", mem, LENGTH, 0, &id));
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	EXPECT_EQ(-EFAULT, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(-EFAULT, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(id, s.error_region);
	EXPECT_EQ((uintptr_t)mem, s.error_addr);
	/* The other one goes on. */
	ASSERT_EQ(0, dev_unregister(self->fd, id));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_SAME();
	munmap(mem, LENGTH);
	close(file);
}
#endif

/* It takes no permission away, so nobody minds it. */
TEST_F(external, beside_other_trackers)
{
	unsigned char *owned;
	struct xbzrle_register out;
	uint32_t owned_id, id;
	int rfd;

	rfd = dev_create(self->fd, "owned", LENGTH, &owned_id);
	ASSERT_LE(0, rfd);
	owned = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	ASSERT_NE(MAP_FAILED, owned);
	owned[0] = 1;
	ASSERT_EQ(0, add_region(self->fd, "same", owned, LENGTH, 0, &id));
	ASSERT_EQ(0, add_region(self->fd, "again", self->mem, LENGTH, 0, &id));
	if (dev_has_pte())
		ASSERT_EQ(0, dev_register(self->fd, "pte", self->mem, LENGTH,
					  0, XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, model_diff(self->model, "same", owned, 0, LENGTH));
	EXPECT_EQ(-1, model_diff(self->model, "again", self->mem, 0, LENGTH));

	/* Each region learns of writes in its own way. */
	self->mem[4 * UNIT]++;
	owned[0]++;
	ASSERT_EQ(0, dev_mark_units(self->fd, id, 4, 1));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(dev_has_pte() ? 3 : 2, sent(self->model));
	EXPECT_EQ(-1, model_diff(self->model, "again", self->mem, 0, LENGTH));
	EXPECT_EQ(-1, model_diff(self->model, "owned", owned, 0, LENGTH));
	EXPECT_EQ(0, model_diff(self->model, "same", owned, 0, LENGTH));
	if (dev_has_pte())
		EXPECT_EQ(-1, model_diff(self->model, "pte", self->mem, 0,
					 LENGTH));
	close(rfd);
}

/* A bitmap may join what another tracker has found. */
TEST_F(external, marks_of_regions_with_another_tracker)
{
	unsigned char *mem = mm_anon(LENGTH);
	struct xbzrle_register out;
	struct xbzrle_sync s;
	unsigned char *owned;
	uint32_t id;
	int rfd;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	rfd = dev_create(self->fd, "owned", LENGTH, &id);
	ASSERT_LE(0, rfd);
	owned = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	ASSERT_NE(MAP_FAILED, owned);
	owned[UNIT] = 1;
	mem[UNIT] = 1;
	if (dev_has_pte())
		ASSERT_EQ(0, dev_register(self->fd, "pte", mem, LENGTH, 0,
					  XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	/* The kernel may hold pages for a moment. */
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, dev_mark_units(self->fd, id, 0, 3));
	if (dev_has_pte())
		ASSERT_EQ(0, dev_mark_units(self->fd, out.region_id, 0, 3));
	owned[2 * UNIT] = 1;
	owned[5 * UNIT] = 1;
	mem[2 * UNIT] = 1;
	mem[5 * UNIT] = 1;
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	/* Of existing memory a mark of a hole says nothing. */
	EXPECT_LE(dev_has_pte() ? 4 + 3 : 4, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	/*
	 * The base of a marked page of owned memory is not trusted, so one that
	 * did not change goes whole.
	 */
	EXPECT_EQ(dev_has_pte() ? 5 : 3, sent(self->model));
	EXPECT_EQ(-1, model_diff(self->model, "owned", owned, 0, LENGTH));
	if (dev_has_pte())
		EXPECT_EQ(-1, model_diff(self->model, "pte", mem, 0, LENGTH));
	close(rfd);
}

/* The region has ended, for every call that asks. */
static void expect_ended(struct __test_metadata *_metadata,
			 struct _test_data_external *self, int error,
			 const void *addr)
{
	struct xbzrle_sync s;

	EXPECT_EQ(error, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(self->id, s.error_region);
	EXPECT_EQ((uintptr_t)addr, s.error_addr);
	/* A mark is neither refused nor does it bring the region back. */
	EXPECT_EQ(0, dev_mark_units(self->fd, self->id, 0, PAGES));
	EXPECT_EQ(error, dev_sync(self->fd, XBZRLE_SYNC_FULL, &s));
	EXPECT_EQ(0, dev_unregister(self->fd, self->id));
	EXPECT_EQ(-EINVAL, dev_sync(self->fd, 0, &s));
}

TEST_F(external, unmapped)
{
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, munmap(self->mem + 7 * UNIT, UNIT));
	expect_ended(_metadata, self, -EFAULT, self->mem + 7 * UNIT);
}

TEST_F(external, mapped_over)
{
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(self->mem, mmap(self->mem, UNIT, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
				  0));
	self->mem[0] = 77;
	expect_ended(_metadata, self, -EFAULT, self->mem);
}

TEST_F(external, moved_away)
{
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_NE(MAP_FAILED, mremap(self->mem, LENGTH, LENGTH, MREMAP_MAYMOVE |
				     MREMAP_FIXED, self->mem + (64UL << 20)));
	expect_ended(_metadata, self, -EFAULT, self->mem);
}

/* What takes the memory's place in a round is not sent for it. */
TEST_F(external, mapped_over_in_a_round)
{
	unsigned char buf[2 * UNIT];
	ssize_t n;

	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	n = read(self->fd, buf, sizeof(buf));
	ASSERT_LT(0, n);
	ASSERT_EQ(0, model_feed(self->model, buf, n));
	ASSERT_EQ(self->mem, mmap(self->mem, LENGTH, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
				  0));
	memset(self->mem, 0xee, LENGTH);
	EXPECT_EQ(-EFAULT, dev_read_round(self->fd, self->model, 4096));
	EXPECT_EQ(-EFAULT, dev_sync(self->fd, 0, NULL));
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	EXPECT_EQ(0, dev_read_round(self->fd, self->model, 4096));
	EXPECT_TRUE(model_idle(self->model));
}

TEST_F(external, protection_and_advice_end_nothing)
{
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ));
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, madvise(self->mem, LENGTH, MADV_DONTNEED));
	self->mem[3 * UNIT] = 1;
	ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 0, PAGES));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(PAGES / 2 + 1, sent(self->model));
	EXPECT_SAME();
}

/* A child's memory instead of its own, of which a round was made. */
static bool track_child(struct _test_data_external *self, struct child *c)
{
	return !dev_unregister(self->fd, self->id) &&
	       child_start(c, self->mem) &&
	       !add_region(self->fd, "child", self->mem, LENGTH, c->pid,
			   &self->id) &&
	       !dev_round(self->fd, self->model, 0);
}

TEST_F(external, memory_of_another_process)
{
	struct child c;
	unsigned int i;

	ASSERT_TRUE(track_child(self, &c));
	EXPECT_EQ(PAGES / 2, self->model->round.page);
	for (i = 0; i < 5; i++) {
		ASSERT_TRUE(child_writes(&c, 3 * i));
		ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 3 * i, 1));
		/* The caller's own memory of the same address is not meant. */
		self->mem[3 * i * UNIT + 1] = 0xcc;
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(1, sent(self->model));
	}
	EXPECT_EQ(-1, child_diff(&c, self->model, "child", self->mem, LENGTH));
	child_kill(&c);
	expect_ended(_metadata, self, -ESRCH, self->mem);
}

/* What is told of a region stays what it is. */
TEST_F(external, unmapped_before_its_process_exits)
{
	struct child c;

	ASSERT_TRUE(track_child(self, &c));
	ASSERT_TRUE(child_unmaps(&c, 3));
	EXPECT_EQ(-EFAULT, dev_sync(self->fd, 0, NULL));
	child_kill(&c);
	expect_ended(_metadata, self, -EFAULT, self->mem + 3 * UNIT);
}

/*
 * As the OOM reaper does, which is in a hurry: the process is dead, and its
 * memory goes before its address space does.
 */
TEST_F(external, reaped_before_its_process_exits)
{
	struct child c;
	int pidfd;

	ASSERT_TRUE(track_child(self, &c));
	pidfd = syscall(SYS_pidfd_open, c.pid, 0);
	ASSERT_LE(0, pidfd);
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, c.pid, NULL, PTRACE_O_TRACEEXIT));
	ASSERT_EQ(0, kill(c.pid, SIGKILL));
	/* It stops where it has begun to exit. */
	ASSERT_EQ(c.pid, waitpid(c.pid, NULL, 0));
	ASSERT_EQ(0, syscall(SYS_process_mrelease, pidfd, 0));
	EXPECT_EQ(-ESRCH, dev_sync(self->fd, 0, NULL));
	ASSERT_EQ(0, ptrace(PTRACE_DETACH, c.pid, NULL, NULL));
	waitpid(c.pid, NULL, 0);
	expect_ended(_metadata, self, -ESRCH, self->mem);
	close(pidfd);
}

TEST_F(external, rights)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		uint32_t id;

		if (setresgid(NOBODY, NOBODY, NOBODY) ||
		    setresuid(NOBODY, NOBODY, NOBODY))
			_exit(255);
		if (add_region(self->fd, "a", self->mem, LENGTH, getppid(),
			       &id) != -EPERM)
			_exit(1);
		/* Of its own it may. */
		_exit(add_region(self->fd, "a", self->mem, LENGTH, 0, &id) ?
		      2 : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F(external, target_exits_in_a_round)
{
	unsigned char buf[UNIT + 100];
	struct child c;

	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_TRUE(child_start(&c, self->mem));
	ASSERT_EQ(0, add_region(self->fd, "child", self->mem, LENGTH, c.pid,
				&self->id));
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	ASSERT_LT(0, read(self->fd, buf, sizeof(buf)));
	child_kill(&c);
	EXPECT_EQ(-ESRCH, dev_read_round(self->fd, NULL, 4096));
	EXPECT_EQ(POLLERR | POLLHUP,
		  dev_poll(self->fd) & (POLLERR | POLLHUP));
	EXPECT_EQ(-ESRCH, dev_sync(self->fd, 0, NULL));
	EXPECT_EQ(0, dev_unregister(self->fd, self->id));
	EXPECT_EQ(0, dev_read_round(self->fd, NULL, 4096));
	EXPECT_EQ(0, dev_poll(self->fd) & (POLLERR | POLLHUP));
}

TEST_F(external, target_execs)
{
	struct pollfd p = { .fd = self->fd, .events = POLLIN };
	struct child c;

	ASSERT_TRUE(track_child(self, &c));
	EXPECT_EQ(0, dev_poll(self->fd));
	ASSERT_TRUE(child_execs(&c));
	/* A sleeper is woken. */
	EXPECT_EQ(1, poll(&p, 1, -1));
	EXPECT_EQ(POLLERR | POLLHUP, p.revents & (POLLERR | POLLHUP));
	expect_ended(_metadata, self, -ESRCH, self->mem);
	EXPECT_EQ(0, kill(c.pid, 0));
	child_kill(&c);
}

/* A region does not keep what its process had. */
TEST_F(external, dead_target_frees_its_memory)
{
	int shared = mm_shared_file(UNIT);
	struct child c;
	void *map;

	ASSERT_LE(0, shared);
	map = mmap(NULL, UNIT, PROT_WRITE, MAP_SHARED, shared, 0);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_TRUE(child_start(&c, self->mem));
	ASSERT_EQ(0, munmap(map, UNIT));
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_EQ(0, add_region(self->fd, "child", self->mem, LENGTH, c.pid,
				&self->id));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	child_kill(&c);
	EXPECT_FALSE(mm_shared_file_mapped(shared));
	EXPECT_EQ(-ESRCH, dev_sync(self->fd, 0, NULL));
}

int main(int argc, char **argv)
{
	/* What target_execs turns its child into. */
	if (child_is_idle(argc, argv))
		return pause();
	return test_harness_run(argc, argv);
}

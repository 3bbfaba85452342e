// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Memory that exists already: nothing is missed, nothing is left behind. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <linux/kvm.h>
#include <linux/userfaultfd.h>

#include "child.h"
#include "device.h"
#include "mm.h"
#include "slow_disk.h"
#include "uring.h"

#include "harness.h"

#define PAGES		64
#define LENGTH		(PAGES * UNIT)
#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define KSM		"/sys/kernel/mm/ksm/"

FIXTURE(pte)
{
	int fd;
	uint32_t id;
	unsigned char *mem;
	struct model *model;
};

FIXTURE_VARIANT(pte)
{
	uint32_t capture;
};

FIXTURE_VARIANT_ADD(pte, copy)
{
	.capture = XBZRLE_CAPTURE_COPY,
};

FIXTURE_VARIANT_ADD(pte, freeze)
{
	.capture = XBZRLE_CAPTURE_FREEZE,
};

/* The even pages are populated, the odd ones are holes. */
FIXTURE_SETUP(pte)
{
	struct xbzrle_register out;
	uint32_t capture;
	unsigned int i;

	self->fd = dev_open();
	ASSERT_LE(0, self->fd);
	/* Bases, and as many pages that are frozen. */
	ASSERT_EQ(0, dev_set_cache(self->fd, 2 * LENGTH));
	self->mem = mm_anon(LENGTH);
	ASSERT_NE(NULL, self->mem);
	for (i = 0; i < PAGES; i += 2)
		self->mem[i * UNIT] = i + 1;
	capture = variant->capture;
	/* Where it cannot, the ioctl test sees that it says so. */
	if (!strstr(getenv("TRACKERS"), "freeze"))
		capture = XBZRLE_CAPTURE_COPY;
	ASSERT_EQ(0, dev_register_as(self->fd, "heap", self->mem, LENGTH, 0,
				     XBZRLE_TRACKER_AUTO, capture, &out));
	self->id = out.region_id;
	self->model = model_new();
	ASSERT_NE(NULL, self->model);
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(PAGES / 2, self->model->all.page);
}

FIXTURE_TEARDOWN(pte)
{
	model_free(self->model);
	close(self->fd);
}

/* The receiver has what is in memory; reading a hole maps the zero page. */
#define EXPECT_SAME() \
	EXPECT_EQ(-1, model_diff(self->model, "heap", self->mem, 0, LENGTH))

#define EXPECT_EXACT_ROUND() do { \
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0)); \
	EXPECT_SAME(); \
} while (0)

/* Records of the last round that brought content. */
static uint64_t sent(const struct model *m)
{
	return m->round.zero + m->round.page + m->round.xbzrle;
}

TEST_F(pte, writes_are_seen_by_page)
{
	struct xbzrle_sync s;

	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(0, sent(self->model));

	self->mem[4 * UNIT + 100]++;
	self->mem[5 * UNIT] = 5;
	self->mem[LENGTH - 1] = 6;
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(3, s.dirty_pages);
	EXPECT_EQ(1, s.based_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(1, self->model->round.xbzrle);
	EXPECT_EQ(2, self->model->round.page);

	/* Again and again: each harvest must arm the page anew. */
	self->mem[4 * UNIT]++;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(1, sent(self->model));
	self->mem[4 * UNIT]++;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(1, sent(self->model));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(0, sent(self->model));
	EXPECT_SAME();
}

TEST_F(pte, overlap)
{
	unsigned char *mem = mm_anon(16 * UNIT);
	struct xbzrle_register first;
	int other = dev_open();

	ASSERT_LE(0, other);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, dev_register(self->fd, "a", mem + 4 * UNIT,
				  4 * UNIT, 0, XBZRLE_TRACKER_AUTO, &first));
	EXPECT_EQ(-EBUSY, dev_register(self->fd, "b", mem, 16 * UNIT, 0,
				       XBZRLE_TRACKER_AUTO, NULL));
	EXPECT_EQ(-EBUSY, dev_register(self->fd, "b", mem + 7 * UNIT,
				       UNIT, 0, XBZRLE_TRACKER_AUTO, NULL));
	EXPECT_EQ(-EBUSY, dev_register(other, "b", mem + 4 * UNIT,
				       4 * UNIT, 0, XBZRLE_TRACKER_AUTO,
				       NULL));
	/* Side by side is no overlap. */
	EXPECT_EQ(0, dev_register(self->fd, "b", mem, 4 * UNIT, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	EXPECT_EQ(0, dev_register(other, "b", mem + 8 * UNIT, 4 * UNIT,
				  0, XBZRLE_TRACKER_AUTO, NULL));
	/* Free again. */
	ASSERT_EQ(0, dev_unregister(self->fd, first.region_id));
	EXPECT_EQ(0, dev_register(other, "c", mem + 4 * UNIT, 4 * UNIT,
				  0, XBZRLE_TRACKER_AUTO, NULL));
	close(other);
	EXPECT_EQ(0, dev_register(self->fd, "c", mem + 4 * UNIT,
				  4 * UNIT, 0, XBZRLE_TRACKER_AUTO, NULL));
}

/* The same addresses of another process are other memory. */
TEST_F(pte, no_overlap_with_another_process)
{
	pid_t pid = fork();

	if (!pid) {
		pause();
		_exit(0);
	}
	ASSERT_LT(0, pid);
	EXPECT_EQ(0, dev_register(self->fd, "b", self->mem, LENGTH, pid,
				  XBZRLE_TRACKER_AUTO, NULL));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

TEST_F(pte, holes_stay_holes)
{
	unsigned int i;

	for (i = 0; i < 3; i++) {
		self->mem[2 * UNIT]++;
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	}
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FINAL));
	for (i = 0; i < PAGES; i++)
		EXPECT_EQ(i % 2 == 0, mm_populated(self->mem + i * UNIT));
	EXPECT_EQ(0, self->model->all.zero);
	EXPECT_SAME();
}

TEST_F(pte, page_becomes_a_hole)
{
	ASSERT_EQ(0, madvise(self->mem + 4 * UNIT, 3 * UNIT, MADV_DONTNEED));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(2, self->model->round.zero);
	EXPECT_EQ(2, sent(self->model));
	EXPECT_FALSE(mm_populated(self->mem + 4 * UNIT));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(0, sent(self->model));
	EXPECT_FALSE(mm_populated(self->mem + 4 * UNIT));

	/* Back again, in part as before; and away and back between rounds. */
	self->mem[4 * UNIT] = 4 + 1;
	self->mem[4 * UNIT + 9] = 1;
	self->mem[8 * UNIT + 1] = 1;
	ASSERT_EQ(0, madvise(self->mem + 8 * UNIT, UNIT, MADV_DONTNEED));
	self->mem[8 * UNIT + 2] = 1;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(2, sent(self->model));
	EXPECT_SAME();
}

TEST_F(pte, zero_page_is_written)
{
	EXPECT_EQ(0, __atomic_load_n(self->mem + UNIT, __ATOMIC_RELAXED));
	EXPECT_EXACT_ROUND();
	self->mem[UNIT] = 1;
	EXPECT_EXACT_ROUND();
	EXPECT_EQ(1, sent(self->model));
}

TEST_F(pte, mprotect)
{
	self->mem[0]++;
	EXPECT_EXACT_ROUND();
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ));
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ | PROT_WRITE));
	self->mem[0]++;
	EXPECT_EXACT_ROUND();
	EXPECT_EQ(1, sent(self->model));

	/* Written, closed before the harvest, and opened after it. */
	self->mem[2 * UNIT]++;
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ));
	EXPECT_EXACT_ROUND();
	EXPECT_EQ(1, sent(self->model));
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ | PROT_WRITE));
	self->mem[2 * UNIT]++;
	EXPECT_EXACT_ROUND();
	EXPECT_EQ(1, sent(self->model));

	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_NONE));
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ | PROT_WRITE));
	self->mem[2 * UNIT]++;
	EXPECT_EXACT_ROUND();
}

TEST_F(pte, prot_none_is_read)
{
	unsigned char *mem = mm_anon(LENGTH);

	ASSERT_NE(NULL, mem);
	memset(mem, 0x5a, LENGTH / 2);
	ASSERT_EQ(0, mprotect(mem, LENGTH, PROT_NONE));
	ASSERT_EQ(0, dev_register(self->fd, "none", mem, LENGTH, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(PAGES / 2, self->model->round.page);
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_NONE));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, mprotect(mem, LENGTH, PROT_READ | PROT_WRITE));
	EXPECT_EQ(-1, model_diff(self->model, "none", mem, 0, LENGTH));
	EXPECT_SAME();
}

/* Several mappings make one region, of any protection. */
TEST_F(pte, split_mappings)
{
	ASSERT_EQ(0, mprotect(self->mem + 8 * UNIT, 8 * UNIT, PROT_READ));
	ASSERT_EQ(0, mprotect(self->mem + 32 * UNIT, UNIT, PROT_NONE));
	self->mem[0]++;
	self->mem[20 * UNIT]++;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(2, sent(self->model));
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ | PROT_WRITE));
	self->mem[32 * UNIT]++;
	self->mem[9 * UNIT]++;
	EXPECT_EXACT_ROUND();
	EXPECT_EQ(2, sent(self->model));
}

TEST_F(pte, fork)
{
	int ping[2], pong[2];
	unsigned int i;
	char byte = 0;
	pid_t pid;

	ASSERT_EQ(0, pipe(ping));
	ASSERT_EQ(0, pipe(pong));
	pid = fork();
	if (!pid) {
		close(ping[1]);
		for (i = 0; read(ping[0], &byte, 1) == 1; i++) {
			self->mem[i * 2 * UNIT] = 0xcc;
			self->mem[40 * UNIT] = 0xcc;
			if (write(pong[1], &byte, 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	ASSERT_LT(0, pid);
	for (i = 0; i < 5; i++) {
		self->mem[i * 2 * UNIT + 1]++;
		self->mem[40 * UNIT + 1]++;
		ASSERT_EQ(1, write(ping[1], &byte, 1));
		ASSERT_EQ(1, read(pong[0], &byte, 1));
		EXPECT_EXACT_ROUND();
		EXPECT_LE(2, sent(self->model));
		self->mem[i * 2 * UNIT + 2]++;
		EXPECT_EXACT_ROUND();
		EXPECT_EQ(1, sent(self->model));
	}
	/* Alone again: the pages may be reused without a copy. */
	close(ping[1]);
	waitpid(pid, NULL, 0);
	for (i = 0; i < PAGES; i++)
		self->mem[i * UNIT + 3]++;
	EXPECT_EXACT_ROUND();
	EXPECT_EQ(PAGES, sent(self->model));
}

#if MM_HAVE_HUGE_PAGES
/* A huge page written in one place costs one page. */
TEST_F(pte, huge_pages_are_tracked_by_page)
{
	const size_t length = 4 * HUGE_SIZE;
	unsigned char *mem = mm_anon_huge(length);
	struct xbzrle_register out;
	struct xbzrle_sync s;

	ASSERT_NE(NULL, mem);
	if (mm_write_file(THP "enabled", "madvise"))
		SKIP(return, "no huge pages");
	ASSERT_EQ(0, dev_set_cache(self->fd, length + LENGTH));
	ASSERT_EQ(0, madvise(mem, length, MADV_HUGEPAGE));
	memset(mem, 0x11, length);
	if (!mm_huge_bytes(mem))
		SKIP(return, "no huge page to be had");
	ASSERT_EQ(0, dev_register(self->fd, "huge", mem, length, 0,
				  XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));
	EXPECT_EQ(0, mm_huge_bytes(mem));
	EXPECT_TRUE(mm_vm_flag(mem, "nh"));

	mem[5]++;
	mem[HUGE_SIZE + 3 * UNIT]++;
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(2, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));

	/* The wish of the owner comes back. */
	ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));
	EXPECT_FALSE(mm_vm_flag(mem, "nh"));
	EXPECT_TRUE(mm_vm_flag(mem, "hg"));
}
#endif

TEST_F(pte, nohugepage_of_the_owner_stays)
{
	EXPECT_TRUE(mm_vm_flag(self->mem, "nh"));
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	EXPECT_TRUE(mm_vm_flag(self->mem, "nh"));
}

TEST_F(pte, nohugepage_is_given_back_on_close)
{
	unsigned char *mem = mm_anon_huge(HUGE_SIZE);
	int fd = dev_open();

	ASSERT_NE(NULL, mem);
	ASSERT_LE(0, fd);
	EXPECT_FALSE(mm_vm_flag(mem, "nh"));
	ASSERT_EQ(0, dev_register(fd, "huge", mem, HUGE_SIZE, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	close(fd);
	EXPECT_FALSE(mm_vm_flag(mem, "nh"));
	EXPECT_FALSE(mm_vm_flag(mem, "hg"));
}

#if MM_HAVE_HUGE_PAGES
/* What the owner asks for meanwhile is given back, and nothing beside it. */
TEST_F(pte, huge_pages_asked_for_in_parts)
{
	static const unsigned int parts[] = { 40, 8, 24, 16 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		ASSERT_EQ(0, madvise(self->mem + parts[i] * UNIT, 8 * UNIT,
				     MADV_HUGEPAGE));
		EXPECT_EXACT_ROUND();
		EXPECT_TRUE(mm_vm_flag(self->mem + parts[i] * UNIT, "nh"));
	}
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	for (i = 0; i < PAGES; i += 8)
		EXPECT_EQ(i == 0 || i == 32 || i >= 48,
			  mm_vm_flag(self->mem + i * UNIT, "nh"));
}

/* The owner asks for huge pages while it is being tracked. */
TEST_F(pte, huge_pages_come_back)
{
	const size_t length = 4 * HUGE_SIZE;
	unsigned char *mem = mm_anon_huge(length);
	unsigned int i, round;

	ASSERT_NE(NULL, mem);
	if (mm_write_file(THP "enabled", "madvise"))
		SKIP(return, "no huge pages");
	memset(mem, 0x11, length);
	ASSERT_EQ(0, dev_set_cache(self->fd, length + LENGTH));
	ASSERT_EQ(0, dev_register(self->fd, "huge", mem, length, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	for (round = 0; round < 4; round++) {
		ASSERT_EQ(0, madvise(mem, length, MADV_HUGEPAGE));
		mem[round]++;
		if (round & 1)
			madvise(mem, HUGE_SIZE, MADV_COLLAPSE);
		ASSERT_EQ(0, madvise(mem + HUGE_SIZE, HUGE_SIZE,
				     MADV_DONTNEED));
		for (i = 0; i < HUGE_SIZE; i += 64 * UNIT)
			mem[HUGE_SIZE + i] = round + 1;
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));
		/* Between harvest and reading. */
		ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
		ASSERT_EQ(0, madvise(mem, length, MADV_HUGEPAGE));
		madvise(mem, length, MADV_COLLAPSE);
		mem[2 * HUGE_SIZE + round]++;
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		mem[3 * HUGE_SIZE + round]++;
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));
	}
}

/*
 * The owner asks for them over and over, here and there, and again for all.
 * A note of 32 bytes for each would add up. Not where what was freed is kept
 * from being used again, as KASAN does: there the notes are put together, and
 * what remains is not asked for.
 */
/* What the kernel takes for an allocation of 32 bytes, in lines of its caches. */
#ifdef __aarch64__
#define SLAB_OBJECT	128
#else
#define SLAB_OBJECT	32
#endif

TEST_F(pte, asking_for_huge_pages_again_costs_no_memory)
{
	const unsigned int rounds = mm_debug_kernel() ? 500 : 20000;
	const long allowed = rounds * SLAB_OBJECT / 2;
	const unsigned int starts[] = { 40, 8, 24, 16, 0 };
	const unsigned int lengths[] = { 8, 8, 8, 8, PAGES };
	unsigned char *mem = mm_anon_huge(LENGTH);
	struct xbzrle_register out;
	long before = 0, more;
	unsigned int i, step;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, dev_register(self->fd, "huge", mem, LENGTH, 0,
				  XBZRLE_TRACKER_AUTO, &out));
	for (i = 0; i < 2 * rounds; i++) {
		/* Not before the kernel has what it keeps for this. */
		if (i == rounds)
			before = mm_meminfo("SUnreclaim:");
		step = i % ARRAY_SIZE(starts);
		ASSERT_EQ(0, madvise(mem + starts[step] * UNIT,
				     lengths[step] * UNIT, MADV_HUGEPAGE));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		if (i < 2 * ARRAY_SIZE(starts))
			ASSERT_TRUE(mm_vm_flag(mem + starts[step] * UNIT, "nh"));
	}
	ASSERT_LT(0, before);
	/* Some of what is free waits for a grace period. */
	for (i = 0; i < 100; i++) {
		more = mm_meminfo("SUnreclaim:") - before;
		if (more < allowed)
			break;
		usleep(100000);
	}
	if (!mm_debug_kernel())
		EXPECT_GT(allowed, more);
	ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));
	for (i = 0; i < PAGES; i += 8)
		EXPECT_FALSE(mm_vm_flag(mem + i * UNIT, "nh"));
}

TEST_F(pte, khugepaged)
{
	const size_t length = 2 * HUGE_SIZE;
	unsigned char *mem = mm_anon_huge(length);
	unsigned int i;

	ASSERT_NE(NULL, mem);
	if (mm_write_file(THP "enabled", "always") ||
	    mm_write_file(THP "khugepaged/scan_sleep_millisecs", "10") ||
	    mm_write_file(THP "khugepaged/alloc_sleep_millisecs", "10"))
		SKIP(return, "no khugepaged");
	ASSERT_EQ(0, dev_set_cache(self->fd, length + LENGTH));
	for (i = 0; i < length; i += UNIT)
		mem[i] = 1;
	ASSERT_EQ(0, dev_register(self->fd, "huge", mem, length, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, madvise(mem, length, MADV_HUGEPAGE));
		mem[i * 5 * UNIT]++;
		mem[HUGE_SIZE + i]++;
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		mem[i * 3 * UNIT + 1]++;
		usleep(50000);
	}
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));
	mm_write_file(THP "khugepaged/scan_sleep_millisecs", "10000");
	mm_write_file(THP "enabled", "madvise");
}
#endif

TEST_F(pte, swap_loses_nothing)
{
	const size_t length = 4UL << 20;
	unsigned char *mem = mm_anon(length);
	unsigned int i, swapped = 0;

	ASSERT_NE(NULL, mem);
	if (!mm_swap_on())
		SKIP(return, "no zram");
	ASSERT_EQ(0, dev_set_cache(self->fd, length + LENGTH));
	for (i = 0; i < length; i += UNIT)
		mem[i] = i / UNIT | 1;
	ASSERT_EQ(0, madvise(mem, length / 2, MADV_PAGEOUT));
	for (i = 0; i < length; i += UNIT)
		swapped += mm_swapped(mem + i);
	EXPECT_LT(length / UNIT / 4, swapped);
	ASSERT_EQ(0, dev_register(self->fd, "swap", mem, length, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(length / UNIT, sent(self->model));
	EXPECT_EQ(-1, model_diff(self->model, "swap", mem, 0, length));

	/* Written and swapped out, swapped out between harvest and reading. */
	for (i = 0; i < length; i += 16 * UNIT)
		mem[i + 9]++;
	ASSERT_EQ(0, madvise(mem, length, MADV_PAGEOUT));
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	ASSERT_EQ(0, madvise(mem, length, MADV_PAGEOUT));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(length / UNIT / 16, sent(self->model));
	EXPECT_EQ(-1, model_diff(self->model, "swap", mem, 0, length));

	/* Swapped out clean and written after. */
	ASSERT_EQ(0, madvise(mem, length, MADV_PAGEOUT));
	for (i = 0; i < length; i += 32 * UNIT)
		mem[i + 10]++;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(length / UNIT / 32, sent(self->model));
	EXPECT_EQ(-1, model_diff(self->model, "swap", mem, 0, length));
}

TEST_F(pte, ksm)
{
	char text[32] = "";
	unsigned int i, tries;

	if (mm_write_file(KSM "run", "1"))
		SKIP(return, "no KSM");
	/* It leaves pages alone that somebody has frozen. */
	if (variant->capture == XBZRLE_CAPTURE_FREEZE)
		ASSERT_EQ(0, dev_set_cache(self->fd, 0));
	mm_write_file(KSM "sleep_millisecs", "10");
	mm_write_file(KSM "pages_to_scan", "1000");
	memset(self->mem, 0x42, LENGTH);
	EXPECT_EXACT_ROUND();
	ASSERT_EQ(0, madvise(self->mem, LENGTH, MADV_MERGEABLE));
	for (tries = 0; tries < 100 && atoi(text) < PAGES / 2; tries++) {
		usleep(50000);
		mm_read_file(KSM "pages_sharing", text, sizeof(text));
	}
	EXPECT_LE(PAGES / 2, atoi(text));
	EXPECT_EXACT_ROUND();
	if (variant->capture == XBZRLE_CAPTURE_COPY)
		EXPECT_EQ(0, sent(self->model));
	for (i = 0; i < PAGES; i += 3)
		self->mem[i * UNIT + i]++;
	EXPECT_EXACT_ROUND();
	if (variant->capture == XBZRLE_CAPTURE_COPY)
		EXPECT_EQ((PAGES + 2) / 3, sent(self->model));
	mm_write_file(KSM "run", "2");
	self->mem[1]++;
	EXPECT_EXACT_ROUND();
	mm_write_file(KSM "run", "0");
}

/* The kernel writes into pinned pages without a fault. */
TEST_F(pte, pinned_pages)
{
	unsigned char *pinned = self->mem + 10 * UNIT;
	struct xbzrle_stats before, after;
	struct xbzrle_sync s;
	struct uring u;
	int pipefd[2];
	unsigned int i;

	if (uring_open(&u))
		SKIP(return, "no io_uring");
	ASSERT_EQ(0, pipe(pipefd));
	for (i = 0; i < 4; i++)
		pinned[i * UNIT] = 0x10 + i;
	ASSERT_EQ(0, uring_pin(&u, pinned, 4 * UNIT));
	EXPECT_EXACT_ROUND();
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, dev_stats(self->fd, &before));
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		EXPECT_LE(4, s.dirty_pages);
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_EQ(0, sent(self->model));
		ASSERT_EQ(0, dev_stats(self->fd, &after));
		EXPECT_LE(before.pinned_pages + 4, after.pinned_pages);

		ASSERT_EQ(8, write(pipefd[1], "no fault", 8));
		ASSERT_EQ(8, uring_read_pinned(&u, pipefd[0],
					       pinned + i * UNIT + i, 8));
		EXPECT_EXACT_ROUND();
		EXPECT_EQ(1, sent(self->model));
	}
	/* Written after the harvest, before it is read. */
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	ASSERT_EQ(8, write(pipefd[1], "too late", 8));
	ASSERT_EQ(8, uring_read_pinned(&u, pipefd[0], pinned + UNIT, 8));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EXACT_ROUND();

	/* The writing goes on until the pin is gone, then it rests. */
	ASSERT_EQ(8, write(pipefd[1], "last one", 8));
	ASSERT_EQ(8, uring_read_pinned(&u, pipefd[0], pinned, 8));
	uring_close(&u);
	EXPECT_EXACT_ROUND();
	/* io_uring lets go of it in its own time. */
	for (i = 0; i < 400; i++) {
		usleep(50000);
		mm_drain();
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		if (!s.dirty_pages)
			break;
	}
	EXPECT_EQ(0, s.dirty_pages);
	self->mem[11 * UNIT]++;
	EXPECT_EXACT_ROUND();
	EXPECT_EQ(1, sent(self->model));
}

/*
 * A disk writes into a page that its process lost to swap and got back between
 * asking for the read and its end, and in between a round took the page.
 */
TEST_F(pte, direct_read_into_a_page_that_was_swapped_out)
{
	unsigned char *page = self->mem + 10 * UNIT;
	struct slow_disk d;
	unsigned int i;

	if (!mm_swap_on())
		SKIP(return, "no zram");
	ASSERT_EQ(0, slow_disk_open(&d));
	for (i = 1; i < 4; i++) {
		ASSERT_EQ(0, slow_disk_read(&d, page));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		ASSERT_EQ(0, madvise(page, UNIT, MADV_PAGEOUT));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		ASSERT_EQ(0, slow_disk_answer(&d, i));
		EXPECT_EXACT_ROUND();
		EXPECT_EQ(i, page[UNIT - 1]);
	}
	slow_disk_close(&d);
}

#if MM_HAVE_HUGE_PAGES
/*
 * A child maps all of the huge page at once, which is one reference; that of the
 * disk is another.
 */
TEST_F(pte, direct_read_into_a_huge_page_that_a_child_has_too)
{
	unsigned char *mem = mm_anon_huge(HUGE_SIZE);
	struct slow_disk d;
	struct child c;

	ASSERT_NE(NULL, mem);
	if (mm_write_file(THP "enabled", "madvise"))
		SKIP(return, "no huge pages");
	ASSERT_EQ(0, madvise(mem, HUGE_SIZE, MADV_HUGEPAGE));
	memset(mem, 0x11, HUGE_SIZE);
	if (!mm_huge_bytes(mem))
		SKIP(return, "no huge page to be had");
	ASSERT_EQ(0, slow_disk_open(&d));
	ASSERT_EQ(0, slow_disk_read(&d, mem + 10 * UNIT));
	ASSERT_TRUE(child_start(&c, mem));
	ASSERT_EQ(0, dev_register(self->fd, "huge", mem, HUGE_SIZE, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, slow_disk_answer(&d, 0x22));
	ASSERT_EQ(0x22, mem[10 * UNIT]);
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, HUGE_SIZE));
	child_kill(&c);
	slow_disk_close(&d);
	munmap(mem, HUGE_SIZE);
}
#endif

TEST_F(pte, kernel_writes_through_the_mapping)
{
	struct iovec from = { "vmwrite", 7 };
	struct iovec to = { self->mem + 40 * UNIT, 7 };
	int pipefd[2];

	ASSERT_EQ(0, pipe(pipefd));
	ASSERT_EQ(12, write(pipefd[1], "through read", 12));
	ASSERT_EQ(12, read(pipefd[0], self->mem + 5 * UNIT - 6, 12));
	EXPECT_EXACT_ROUND();
	ASSERT_EQ(7, process_vm_writev(getpid(), &from, 1, &to, 1, 0));
	EXPECT_EXACT_ROUND();
	EXPECT_EQ(0, memcmp(self->mem + 40 * UNIT, "vmwrite", 7));
}

/* A page of a read-only mapping is written as a debugger does it. */
TEST_F(pte, forced_write)
{
	int file = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, file);
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ));
	EXPECT_EXACT_ROUND();
	EXPECT_EXACT_ROUND();
	ASSERT_EQ(5, pwrite(file, "force", 5, (uintptr_t)self->mem + UNIT * 2));
	EXPECT_EQ(0, memcmp(self->mem + UNIT * 2, "force", 5));
	EXPECT_EXACT_ROUND();
	ASSERT_EQ(5, pwrite(file, "again", 5, (uintptr_t)self->mem + UNIT * 3));
	EXPECT_EXACT_ROUND();
	close(file);
}

/* Pages that a restorer puts in place, some without write permission. */
TEST_F(pte, userfaultfd_copy)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = MM_HAVE_UFFD_WP ? UFFD_FEATURE_PAGEFAULT_FLAG_WP :
			    0,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)self->mem, LENGTH },
		.mode = UFFDIO_REGISTER_MODE_MISSING |
			(MM_HAVE_UFFD_WP ? UFFDIO_REGISTER_MODE_WP : 0),
	};
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)self->mem, LENGTH },
	};
	unsigned char *page = mm_anon(UNIT);
	unsigned int i;
	int uffd;

	ASSERT_NE(NULL, page);
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, madvise(self->mem, 8 * UNIT, MADV_DONTNEED));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(4, self->model->round.zero);
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_REGISTER, &reg));
	memset(page, 0x3c, UNIT);
	for (i = 0; i < 8; i++) {
		struct uffdio_copy copy = {
			.dst = (uintptr_t)self->mem + i * UNIT,
			.src = (uintptr_t)page,
			.len = UNIT,
			.mode = MM_HAVE_UFFD_WP && i & 2 ?
				UFFDIO_COPY_MODE_WP : 0,
		};

		ASSERT_EQ(0, ioctl(uffd, UFFDIO_COPY, &copy));
	}
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(8, sent(self->model));
	/* Its write protection and ours do not get in each other's way. */
	if (MM_HAVE_UFFD_WP)
		ASSERT_EQ(0, ioctl(uffd, UFFDIO_WRITEPROTECT, &wp));
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_UNREGISTER, &reg.range));
	close(uffd);
	for (i = 0; i < 8; i++)
		self->mem[i * UNIT + 1]++;
	EXPECT_EXACT_ROUND();
}

#if MM_HAVE_UFFD_WP
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED	(1 << 13)
#endif

/* Where a hole is protected, some kernels put a mark (since 6.4). */
TEST_F(pte, userfaultfd_protects_holes)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP |
			    UFFD_FEATURE_WP_UNPOPULATED,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)self->mem, LENGTH },
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)self->mem, LENGTH },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (ioctl(uffd, UFFDIO_API, &api)) {
		/* That it does not know the feature is an end for the fd. */
		close(uffd);
		uffd = syscall(SYS_userfaultfd,
			       O_CLOEXEC | UFFD_USER_MODE_ONLY);
		api.api = UFFD_API;
		api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP;
		ASSERT_EQ(0, ioctl(uffd, UFFDIO_API, &api));
	}
	ASSERT_EQ(0, madvise(self->mem, 8 * UNIT, MADV_DONTNEED));
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_REGISTER, &reg));
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_WRITEPROTECT, &wp));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_UNREGISTER, &reg.range));
	close(uffd);
	self->mem[2 * UNIT + 1]++;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_SAME();
}

#define STEP	(512UL << 20)

struct protector {
	int uffd;
	struct uffdio_writeprotect wp;
	int ret;
	int done;
};

static void *protect(void *arg)
{
	struct protector *p = arg;

	p->ret = ioctl(p->uffd, UFFDIO_WRITEPROTECT, &p->wp);
	__atomic_store_n(&p->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

struct counting {
	unsigned char *mem;
	int stop;
};

/* Where nobody else runs, so that nothing but a flush empties the TLB. */
static void run_on(unsigned int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

static void *count_on(void *arg)
{
	struct counting *c = arg;
	unsigned long *counter = (unsigned long *)c->mem;

	run_on(1);
	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED))
		__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
	return NULL;
}

/*
 * It flushes when it is through with the whole mapping, and lets go of the first
 * page's table long before. A round in between finds nothing left to protect.
 */
TEST_F(pte, write_protected_but_not_flushed)
{
	struct mm_turns tries = { .least = 2, .most = 10 };
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	struct uffdio_register reg = {
		.range.len = 4 * STEP,
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct protector p = { .done = 0 };
	struct counting c = { .stop = 0 };
	pthread_t writer, protector;
	cpu_set_t before;

	p.uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (p.uffd < 0 || ioctl(p.uffd, UFFDIO_API, &api))
		SKIP(return, "no userfaultfd");
	c.mem = mmap(NULL, 4 * STEP, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, c.mem);
	ASSERT_EQ(0, madvise(c.mem, 4 * STEP, MADV_NOHUGEPAGE));
	/* What there is to go through, under another page of tables. */
	ASSERT_EQ(0, madvise(c.mem + 2 * STEP, 2 * STEP, MADV_POPULATE_READ));
	*c.mem = 1;
	ASSERT_EQ(0, dev_register_as(self->fd, "counter", c.mem, UNIT, 0,
				     XBZRLE_TRACKER_PTE, variant->capture,
				     NULL));
	reg.range.start = (uintptr_t)c.mem;
	ASSERT_EQ(0, ioctl(p.uffd, UFFDIO_REGISTER, &reg));
	p.wp.range = reg.range;
	sched_getaffinity(0, sizeof(before), &before);
	run_on(0);
	ASSERT_EQ(0, pthread_create(&writer, NULL, count_on, &c));
	while (mm_another_turn(&tries)) {
		p.done = 0;
		p.wp.mode = UFFDIO_WRITEPROTECT_MODE_WP;
		ASSERT_EQ(0, pthread_create(&protector, NULL, protect, &p));
		while (!__atomic_load_n(&p.done, __ATOMIC_ACQUIRE))
			ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		ASSERT_EQ(0, pthread_join(protector, NULL));
		ASSERT_EQ(0, p.ret);
		/* Nobody can write now. */
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(-1, model_diff(self->model, "counter", c.mem, 0, UNIT));
		p.wp.mode = 0;
		ASSERT_EQ(0, ioctl(p.uffd, UFFDIO_WRITEPROTECT, &p.wp));
	}
	__atomic_store_n(&c.stop, 1, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(writer, NULL));
	sched_setaffinity(0, sizeof(before), &before);
	close(p.uffd);
	munmap(c.mem, 4 * STEP);
}
#endif

TEST_F(pte, shared_mapping_only_when_asked_for)
{
	struct xbzrle_register out;
	unsigned char *mem;
	unsigned int i;

	ASSERT_EQ(0, dev_set_cache(self->fd, 2 * LENGTH));
	mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	for (i = 0; i < PAGES; i += 2)
		mem[i * UNIT] = i + 1;
	ASSERT_EQ(0, dev_register(self->fd, "shared", mem, LENGTH, 0,
				  XBZRLE_TRACKER_AUTO, &out));
	EXPECT_NE(XBZRLE_TRACKER_PTE, out.tracker);
	ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));
	ASSERT_EQ(0, dev_register(self->fd, "shared", mem, LENGTH, 0,
				  XBZRLE_TRACKER_PTE, &out));
	EXPECT_EQ(XBZRLE_TRACKER_PTE, out.tracker);
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(PAGES / 2, self->model->round.page);
	for (i = 0; i < 4; i++) {
		mem[i * UNIT + 1]++;
		if (i == 2) {
			ASSERT_EQ(0, mprotect(mem, LENGTH, PROT_READ));
			ASSERT_EQ(0, mprotect(mem, LENGTH,
					      PROT_READ | PROT_WRITE));
			mem[i * UNIT + 2]++;
		}
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(1, sent(self->model));
	}
	/* The page leaves the page table with its write unseen. */
	mem[20 * UNIT + 1]++;
	ASSERT_EQ(0, madvise(mem, LENGTH, MADV_DONTNEED));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, model_diff(self->model, "shared", mem, 0, LENGTH));
	ASSERT_EQ(0, madvise(mem, UNIT, MADV_REMOVE));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, model_diff(self->model, "shared", mem, 0, LENGTH));
}

#if MM_HAVE_HUGE_PAGES
/* Shared memory may be huge in its file, and is mapped by page here. */
TEST_F(pte, shared_huge_pages)
{
	const size_t length = 2 * HUGE_SIZE;
	struct xbzrle_sync s;
	unsigned char *mem = mm_anon_huge(length);
	unsigned int i;

	ASSERT_NE(NULL, mem);
	if (mm_write_file(THP "shmem_enabled", "always"))
		SKIP(return, "no huge pages");
	ASSERT_EQ(mem, mmap(mem, length, PROT_READ | PROT_WRITE, MAP_FIXED |
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	memset(mem, 0x21, length);
	EXPECT_LT(0, mm_huge_bytes(mem));
	ASSERT_EQ(0, dev_set_cache(self->fd, length + LENGTH));
	ASSERT_EQ(0, dev_register(self->fd, "huge", mem, length, 0,
				  XBZRLE_TRACKER_PTE, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));
	for (i = 0; i < 4; i++) {
		/* Mapped huge again by whoever reads it first. */
		ASSERT_EQ(0, madvise(mem, length, MADV_DONTNEED));
		mem[i * UNIT]++;
		mem[HUGE_SIZE + i]++;
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));
		mem[2 * UNIT + i]++;
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_EQ(1, sent(self->model));
		EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));
	}
	mm_write_file(THP "shmem_enabled", "never");
}
#endif

TEST_F(pte, shared_memfd)
{
	int file = memfd_create("test", MFD_CLOEXEC);
	unsigned char *mem;

	ASSERT_LE(0, file);
	ASSERT_EQ(0, ftruncate(file, LENGTH));
	/* Content that this process has never looked at. */
	ASSERT_EQ(4, pwrite(file, "file", 4, 9 * UNIT));
	mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, dev_register(self->fd, "memfd", mem, LENGTH, 0,
				  XBZRLE_TRACKER_PTE, NULL));
	mem[0] = 1;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(2, sent(self->model));
	mem[0] = 2;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(1, sent(self->model));
	EXPECT_EQ(-1, model_diff(self->model, "memfd", mem, 0, LENGTH));
	close(file);
}

/* The hole comes when the page is not mapped any more, and no event tells. */
TEST_F(pte, hole_in_an_unmapped_page_of_a_memfd)
{
	int file = memfd_create("test", MFD_CLOEXEC);
	unsigned char *mem;

	ASSERT_LE(0, file);
	ASSERT_EQ(0, ftruncate(file, LENGTH));
	mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	ASSERT_NE(MAP_FAILED, mem);
	memset(mem, 0x5a, 4 * UNIT);
	ASSERT_EQ(0, dev_register(self->fd, "memfd", mem, LENGTH, 0,
				  XBZRLE_TRACKER_PTE, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, madvise(mem, LENGTH, MADV_DONTNEED));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(0, sent(self->model));
	ASSERT_EQ(0, fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       UNIT, UNIT));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(1, sent(self->model));
	EXPECT_EQ(-1, model_diff(self->model, "memfd", mem, 0, LENGTH));
	close(file);
}

#if MM_HAVE_KVM
/* A secondary MMU writes where no page table entry tells. */
TEST_F(pte, refused_beside_a_secondary_mmu)
{
	struct xbzrle_register out;
	struct xbzrle_sync s;
	unsigned char *mem = mm_anon(LENGTH);
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm;

	ASSERT_NE(NULL, mem);
	if (kvm < 0)
		SKIP(return, "no KVM");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	ASSERT_LE(0, vm);
	EXPECT_EQ(-EOPNOTSUPP, dev_register(self->fd, "guest", mem, LENGTH, 0,
					    XBZRLE_TRACKER_AUTO, &out));
	/* What was registered before it came is told too. */
	EXPECT_EQ(-EOPNOTSUPP, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(self->id, s.error_region);
	close(vm);
	close(kvm);
}
#endif

TEST_F(pte, unregister_restores_writability)
{
	unsigned int i;

	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	for (i = 0; i < LENGTH; i++)
		self->mem[i]++;
	ASSERT_EQ(0, dev_register(self->fd, "heap again", self->mem, LENGTH, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FULL));
	EXPECT_EQ(-1, model_diff(self->model, "heap again", self->mem, 0,
				 LENGTH));
}

/* The region ended: SYNC says so until it is unregistered. */
static void expect_ended(struct __test_metadata *_metadata,
			 struct _test_data_pte *self, int error)
{
	struct xbzrle_sync s;

	EXPECT_EQ(error, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(self->id, s.error_region);
	EXPECT_EQ(error, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(error, dev_sync(self->fd, XBZRLE_SYNC_FULL, &s));
}

TEST_F(pte, unmapped_between_rounds)
{
	struct xbzrle_sync s;

	ASSERT_EQ(0, munmap(self->mem + 8 * UNIT, UNIT));
	expect_ended(_metadata, self, -EFAULT);
	ASSERT_EQ(-EFAULT, dev_sync(self->fd, 0, &s));
	EXPECT_EQ((uintptr_t)self->mem + 8 * UNIT, s.error_addr);
	/* Other memory at the same place is not the region. */
	ASSERT_EQ(self->mem + 8 * UNIT,
		  mmap(self->mem + 8 * UNIT, UNIT, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	expect_ended(_metadata, self, -EFAULT);
	EXPECT_EQ(0, dev_unregister(self->fd, self->id));
	EXPECT_EQ(-EINVAL, dev_sync(self->fd, 0, NULL));
}

TEST_F(pte, mapped_over)
{
	ASSERT_EQ(self->mem + 8 * UNIT,
		  mmap(self->mem + 8 * UNIT, UNIT, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	self->mem[8 * UNIT] = 99;
	expect_ended(_metadata, self, -EFAULT);
}

TEST_F(pte, hole_is_unmapped)
{
	ASSERT_EQ(0, munmap(self->mem + 9 * UNIT, UNIT));
	expect_ended(_metadata, self, -EFAULT);
}

TEST_F(pte, moved_away)
{
	EXPECT_NE(MAP_FAILED, mremap(self->mem, LENGTH, 2 * LENGTH,
				     MREMAP_MAYMOVE | MREMAP_FIXED,
				     mm_anon(2 * LENGTH)));
	expect_ended(_metadata, self, -EFAULT);
}

TEST_F(pte, unmapped_in_a_round)
{
	unsigned char buf[UNIT + 100];
	unsigned int i;

	/* With no room for frozen pages, which would make the round complete. */
	ASSERT_EQ(0, dev_set_cache(self->fd, 0));
	for (i = 0; i < PAGES; i++)
		self->mem[i * UNIT + 1] = i + 1;
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	ASSERT_LT(0, read(self->fd, buf, sizeof(buf)));
	ASSERT_EQ(0, munmap(self->mem, LENGTH));
	EXPECT_EQ(-EFAULT, dev_read_round(self->fd, NULL, 4096));
	EXPECT_EQ(-EFAULT, dev_read_round(self->fd, NULL, 4096));
	/* Without the region the round ends in order. */
	EXPECT_EQ(0, dev_unregister(self->fd, self->id));
	EXPECT_EQ(0, dev_read_round(self->fd, NULL, 4096));
	EXPECT_EQ(-EINVAL, dev_sync(self->fd, 0, NULL));
}

/* The kernel's own code says EAGAIN for a source that says EFAULT. */
TEST_F(pte, unmapped_in_a_spliced_round)
{
	int pipefd[2], i;
	ssize_t n;

	ASSERT_EQ(0, pipe(pipefd));
	ASSERT_EQ(0, dev_set_cache(self->fd, 0));
	self->mem[8 * UNIT]++;
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	ASSERT_EQ(0, munmap(self->mem + 8 * UNIT, UNIT));
	for (i = 0; i < 2; i++) {
		while ((n = splice(self->fd, NULL, pipefd[1], NULL, 65536,
				   SPLICE_F_NONBLOCK)) > 0)
			ASSERT_EQ(n, read(pipefd[0], (char [65536]) { },
					  65536));
		EXPECT_EQ(-1, n);
		EXPECT_EQ(EFAULT, errno);
		ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_NONBLOCK));
	}
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	EXPECT_LT(0, splice(self->fd, NULL, pipefd[1], NULL, 65536, 0));
	EXPECT_EQ(0, splice(self->fd, NULL, pipefd[1], NULL, 65536, 0));
	close(pipefd[0]);
	close(pipefd[1]);
}

/* The other regions go on when the one that ended is dropped. */
TEST_F(pte, other_regions_survive)
{
	unsigned char *mem = mm_anon(LENGTH);

	ASSERT_NE(NULL, mem);
	mem[0] = 1;
	ASSERT_EQ(0, dev_register(self->fd, "other", mem, LENGTH, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	mem[0]++;
	ASSERT_EQ(0, munmap(self->mem, LENGTH));
	expect_ended(_metadata, self, -EFAULT);
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(1, self->model->round.xbzrle);
	EXPECT_EQ(-1, model_diff(self->model, "other", mem, 0, LENGTH));
}

TEST_F(pte, memory_of_another_process)
{
	struct xbzrle_register out;
	unsigned int i;
	struct child c;

	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_TRUE(child_start(&c, self->mem));
	ASSERT_EQ(0, dev_register(self->fd, "child", self->mem, LENGTH, c.pid,
				  XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(PAGES / 2, self->model->round.page);
	for (i = 0; i < 5; i++) {
		ASSERT_TRUE(child_writes(&c, 3 * i));
		/* The caller's own memory of the same address is not meant. */
		self->mem[50 * UNIT + i]++;
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(1, sent(self->model));
	}
	EXPECT_EQ(-1, child_diff(&c, self->model, "child", self->mem,
				 LENGTH));
	child_kill(&c);
	EXPECT_EQ(-ESRCH, dev_sync(self->fd, 0, NULL));
}

/* A region does not keep what its process had. */
TEST_F(pte, dead_target_frees_its_memory)
{
	struct xbzrle_register out;
	int shared = mm_shared_file(UNIT);
	struct child c;
	void *map;

	ASSERT_LE(0, shared);
	map = mmap(NULL, UNIT, PROT_WRITE, MAP_SHARED, shared, 0);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_TRUE(child_start(&c, self->mem));
	ASSERT_EQ(0, munmap(map, UNIT));
	ASSERT_EQ(0, dev_register(self->fd, "child", self->mem, LENGTH, c.pid,
				  XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_TRUE(child_writes(&c, 1));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	child_kill(&c);
	EXPECT_FALSE(mm_shared_file_mapped(shared));
	EXPECT_EQ(-ESRCH, dev_sync(self->fd, 0, NULL));
}

TEST_F(pte, target_exits_in_a_round)
{
	struct xbzrle_register out;
	unsigned char buf[UNIT + 100];
	struct xbzrle_sync s;
	struct child c;

	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_TRUE(child_start(&c, self->mem));
	ASSERT_EQ(0, dev_register(self->fd, "child", self->mem, LENGTH, c.pid,
				  XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	ASSERT_LT(0, read(self->fd, buf, sizeof(buf)));
	child_kill(&c);
	EXPECT_EQ(-ESRCH, dev_read_round(self->fd, NULL, 4096));
	EXPECT_EQ(POLLERR | POLLHUP,
		  dev_poll(self->fd) & (POLLERR | POLLHUP));
	EXPECT_NE(0, dev_sync(self->fd, 0, NULL));
	EXPECT_EQ(0, dev_unregister(self->fd, out.region_id));
	EXPECT_EQ(0, dev_read_round(self->fd, NULL, 4096));
	EXPECT_EQ(0, dev_poll(self->fd) & (POLLERR | POLLHUP));
	EXPECT_EQ(-EINVAL, dev_sync(self->fd, 0, &s));
}

TEST_F_TIMEOUT(pte, target_exits_between_rounds, 120)
{
	struct xbzrle_register out;
	struct pollfd p = { .fd = self->fd, .events = POLLIN };
	struct xbzrle_sync s;
	struct child c;
	pid_t killer;

	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_TRUE(child_start(&c, self->mem));
	ASSERT_EQ(0, dev_register(self->fd, "child", self->mem, LENGTH, c.pid,
				  XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(0, dev_poll(self->fd));
	/* A sleeper is woken; with a timeout poll() would look for itself. */
	killer = fork();
	if (!killer) {
		usleep(500000);
		_exit(kill(c.pid, SIGKILL));
	}
	ASSERT_LT(0, killer);
	EXPECT_EQ(1, poll(&p, 1, -1));
	EXPECT_EQ(POLLERR | POLLHUP, p.revents & (POLLERR | POLLHUP));
	waitpid(killer, NULL, 0);
	child_kill(&c);
	EXPECT_EQ(-ESRCH, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(out.region_id, s.error_region);
	EXPECT_EQ(0, dev_unregister(self->fd, out.region_id));
}

TEST_F_TIMEOUT(pte, target_execs, 120)
{
	struct xbzrle_register out;
	struct pollfd p = { .fd = self->fd, .events = POLLIN };
	struct child c;

	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_TRUE(child_start(&c, self->mem));
	ASSERT_EQ(0, dev_register(self->fd, "child", self->mem, LENGTH, c.pid,
				  XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_TRUE(child_execs(&c));
	EXPECT_EQ(1, poll(&p, 1, -1));
	EXPECT_EQ(POLLERR | POLLHUP, p.revents & (POLLERR | POLLHUP));
	EXPECT_EQ(-ESRCH, dev_sync(self->fd, 0, NULL));
	EXPECT_EQ(0, kill(c.pid, 0));
	child_kill(&c);
}

TEST_F(pte, owner_exits_with_the_session_open)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		unsigned char *mem = mm_anon(LENGTH);

		mem[0] = 1;
		_exit(-dev_register(self->fd, "gone", mem, LENGTH, 0,
				    XBZRLE_TRACKER_AUTO, NULL));
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(-ESRCH, dev_sync(self->fd, 0, NULL));
}

TEST_F(pte, large_sparse_region)
{
	const size_t length = 64UL << 30, step = length / 16;
	unsigned char *mem = mm_anon(length);
	struct xbzrle_sync s;
	size_t at;

	if (!mem)
		SKIP(return, "no address space for 64 GiB");
	for (at = step - UNIT; at < length; at += step)
		mem[at + 1] = (at >> 30) + 1;
	ASSERT_EQ(0, dev_register(self->fd, "sparse", mem, length, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(16, self->model->round.page);
	mem[length - 1]++;
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(1, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	for (at = step - UNIT; at < length; at += step)
		EXPECT_EQ(-1, model_diff(self->model, "sparse", mem, at,
					 UNIT));
	munmap(mem, length);
}

/*
 * A thread that changes memory while a harvest runs. @many is populated with
 * the zero page, so that to go through it takes both of them a while.
 */
struct meddler {
	unsigned char *many;
	unsigned char *page;
	useconds_t delay;
	int go;
	int done;
};

#define MANY_LENGTH	(256UL << 20)

/* A debug kernel takes a second or more for each. */
static int turns(int stock)
{
	return mm_debug_kernel() ? stock / 8 : stock;
}

static unsigned char *map_many(size_t length)
{
	unsigned char *many = mm_anon(length);

	if (!many || madvise(many, length, MADV_NOHUGEPAGE) ||
	    madvise(many, MANY_LENGTH, MADV_POPULATE_READ))
		return NULL;
	return many;
}

static bool flag(int *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static void raise_flag(int *flag)
{
	__atomic_store_n(flag, 1, __ATOMIC_RELEASE);
}

static long us_since(const struct timespec *before)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - before->tv_sec) * 1000000 +
	       (now.tv_nsec - before->tv_nsec) / 1000;
}

static void wait_to_meddle(struct meddler *m)
{
	while (!flag(&m->go))
		continue;
	usleep(m->delay);
}

static void *page_out(void *arg)
{
	struct meddler *m = arg;

	wait_to_meddle(m);
	madvise(m->page, UNIT, MADV_PAGEOUT);
	return NULL;
}

/*
 * A page was written, and its PTE goes between the moment when a harvest takes
 * the dirty set and that when it looks at the page, which is the last one that
 * it comes to.
 */
TEST_F(pte, swapped_out_during_the_harvest)
{
	const size_t length = MANY_LENGTH + UNIT;
	struct meddler m = { .many = map_many(length) };
	const int nr = turns(20);
	struct timespec before;
	pthread_t thread;
	long sync_us;
	int i;

	ASSERT_NE(NULL, m.many);
	if (!mm_swap_on())
		SKIP(return, "no zram");
	m.page = m.many + MANY_LENGTH;
	ASSERT_EQ(0, dev_register(self->fd, "many", m.many, length, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	clock_gettime(CLOCK_MONOTONIC, &before);
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	sync_us = us_since(&before);

	for (i = 0; i < nr; i++) {
		m.go = 0;
		m.delay = sync_us * i / nr;
		/* No event of the last try is left. */
		m.page[1] = i + 1;
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		m.page[2] = i + 1;
		/* A page in a batch of some CPU's is not swapped out. */
		mm_drain();
		ASSERT_EQ(0, pthread_create(&thread, NULL, page_out, &m));
		raise_flag(&m.go);
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(-1, model_diff(self->model, "many", m.many,
					 MANY_LENGTH, UNIT));
	}
	munmap(m.many, length);
}

static void *zap_all(void *arg)
{
	struct meddler *m = arg;

	usleep(m->delay);
	madvise(m->many, MANY_LENGTH + UNIT, MADV_DONTNEED);
	raise_flag(&m->done);
	return NULL;
}

/*
 * The end of a change is what counts: it is announced when it begins, and the
 * page, which is the last one that goes, may be read before it goes.
 */
TEST_F(pte, zapped_during_the_harvest)
{
	struct meddler m = { .many = map_many(MANY_LENGTH + UNIT) };
	struct mm_turns tries = { .least = 5, .most = 40 };
	pthread_t thread;
	int i;

	ASSERT_NE(NULL, m.many);
	m.page = m.many + MANY_LENGTH;
	ASSERT_EQ(0, dev_register(self->fd, "last", m.page, UNIT, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	while (mm_another_turn(&tries)) {
		i = tries.done;
		ASSERT_EQ(0, madvise(m.many, MANY_LENGTH, MADV_POPULATE_READ));
		m.page[1] = i + 1;
		m.done = 0;
		m.delay = i * 100;
		ASSERT_EQ(0, pthread_create(&thread, NULL, zap_all, &m));
		while (!flag(&m.done))
			ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(-1, model_diff(self->model, "last", m.page, 0, UNIT));
	}
	munmap(m.many, MANY_LENGTH + UNIT);
}

/* Nobody has touched it here: there are no page tables for it. */
TEST_F(pte, hole_in_a_part_of_a_memfd_that_was_never_mapped)
{
	const size_t length = 8UL << 20;
	int file = memfd_create("test", MFD_CLOEXEC);
	unsigned char *mem;

	ASSERT_LE(0, file);
	ASSERT_EQ(0, ftruncate(file, length));
	ASSERT_EQ(4, pwrite(file, "some", 4, length / 2));
	ASSERT_EQ(4, pwrite(file, "more", 4, length - UNIT));
	mem = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, dev_register(self->fd, "memfd", mem, length, 0,
				  XBZRLE_TRACKER_PTE, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(2, sent(self->model));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(0, sent(self->model));
	ASSERT_EQ(0, fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       length / 2, UNIT));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(1, self->model->round.zero);
	EXPECT_EQ(1, sent(self->model));
	EXPECT_EQ(-1, model_diff(self->model, "memfd", mem, 0, length));
	munmap(mem, length);
	close(file);
}

/**
 * struct puncher - a thread that punches a hole into all of a file
 * @file: it
 * @length: of it
 * @delay: microseconds before
 * @done: it has
 */
struct puncher {
	int file;
	size_t length;
	useconds_t delay;
	int done;
};

static void *punch_all(void *arg)
{
	struct puncher *p = arg;

	usleep(p->delay);
	fallocate(p->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		  p->length);
	raise_flag(&p->done);
	return NULL;
}

/*
 * The event comes first, for all of the file. Then its pages go one by one, and
 * for those that are not mapped again nothing tells.
 */
TEST_F(pte, memfd_is_punched_while_rounds_run)
{
	struct puncher p = {
		.file = memfd_create("test", MFD_CLOEXEC),
		.length = 16UL << 20,
	};
	unsigned char *mem, *last;
	pthread_t thread;
	size_t at;
	int i;

	ASSERT_LE(0, p.file);
	ASSERT_EQ(0, ftruncate(p.file, p.length));
	mem = mmap(NULL, p.length, PROT_READ | PROT_WRITE, MAP_SHARED, p.file,
		   0);
	ASSERT_NE(MAP_FAILED, mem);
	last = mem + p.length - UNIT;
	ASSERT_EQ(0, dev_register(self->fd, "last", last, UNIT, 0,
				  XBZRLE_TRACKER_PTE, NULL));
	for (i = 1; i <= turns(20); i++) {
		for (at = 0; at < p.length; at += UNIT)
			mem[at] = i;
		p.delay = i * 100;
		p.done = 0;
		ASSERT_EQ(0, pthread_create(&thread, NULL, punch_all, &p));
		while (!flag(&p.done))
			ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(-1, model_diff(self->model, "last", last, 0, UNIT));
	}
	munmap(mem, p.length);
	close(p.file);
}

static void *map_over(void *arg)
{
	struct meddler *m = arg;

	wait_to_meddle(m);
	mmap(m->page, UNIT, PROT_READ | PROT_WRITE,
	     MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	return NULL;
}

/*
 * That the memory went comes first, whatever is there when the harvest has got
 * to the page, which lies behind the first chunk of the walk.
 */
TEST_F(pte, mapped_over_during_the_harvest)
{
	const size_t length = MANY_LENGTH + UNIT;
	struct meddler m = { .many = map_many(length) };
	struct xbzrle_register out;
	const int nr = turns(40);
	struct timespec before;
	pthread_t thread;
	char name[16];
	long sync_us;
	int i, ret;

	ASSERT_NE(NULL, m.many);
	m.page = m.many + MANY_LENGTH;
	ASSERT_EQ(0, dev_register(self->fd, "many", m.many, length, 0,
				  XBZRLE_TRACKER_AUTO, &out));
	clock_gettime(CLOCK_MONOTONIC, &before);
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	sync_us = us_since(&before);
	ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));

	for (i = 0; i < nr; i++) {
		m.go = 0;
		m.delay = sync_us * i / nr;
		snprintf(name, sizeof(name), "many%d", i);
		ASSERT_EQ(m.page, mmap(m.page, UNIT, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				       -1, 0));
		ASSERT_EQ(0, dev_register(self->fd, name, m.many, length, 0,
					  XBZRLE_TRACKER_AUTO, &out));
		ASSERT_EQ(0, pthread_create(&thread, NULL, map_over, &m));
		raise_flag(&m.go);
		ret = dev_sync(self->fd, 0, NULL);
		ASSERT_EQ(0, pthread_join(thread, NULL));
		if (ret)
			EXPECT_EQ(-EFAULT, ret);
		EXPECT_EQ(-EFAULT, dev_sync(self->fd, 0, NULL));
		ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	}
	munmap(m.many, length);
}

/* A thread that writes to one page until it is told to go on to the next. */
struct sweeper {
	unsigned char *mem;
	unsigned int pages;
	unsigned int at;
	unsigned int order;
};

static void *sweep(void *arg)
{
	struct sweeper *w = arg;
	volatile uint32_t *word;
	unsigned int at;

	for (at = 0; at < w->pages; at++) {
		word = (volatile uint32_t *)(w->mem + at * UNIT);
		(*word)++;
		__atomic_store_n(&w->at, at, __ATOMIC_RELEASE);
		while (__atomic_load_n(&w->order, __ATOMIC_ACQUIRE) <= at)
			(*word)++;
		(*word)++;
	}
	__atomic_store_n(&w->at, at, __ATOMIC_RELEASE);
	return NULL;
}

static void wait_for_sweeper(struct sweeper *w, unsigned int at)
{
	while (__atomic_load_n(&w->at, __ATOMIC_ACQUIRE) != at)
		sched_yield();
}

/*
 * What a CPU wrote last to a page, when the round has read it, must show as a
 * write: its TLB may not have kept the permission. No later write to the page
 * hides it, and behind the pages is a mapping that nobody writes to.
 */
TEST_F(pte, last_write_to_a_page)
{
	struct sweeper w = { .mem = self->mem, .pages = PAGES - 4, .at = -1 };
	pthread_t thread;
	unsigned int i;

	ASSERT_EQ(0, madvise(self->mem + w.pages * UNIT, 4 * UNIT,
			     MADV_DONTDUMP));
	ASSERT_EQ(0, pthread_create(&thread, NULL, sweep, &w));
	for (i = 0; i < w.pages; i++) {
		wait_for_sweeper(&w, i);
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		__atomic_store_n(&w.order, i + 1, __ATOMIC_RELEASE);
		wait_for_sweeper(&w, i + 1);
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FINAL));
	EXPECT_SAME();
}

TEST_F(pte, writers_run_on)
{
	struct mm_writer w[3];
	pthread_t threads[3];
	unsigned int i;
	int stop = 0;

	for (i = 0; i < 3; i++) {
		w[i] = (struct mm_writer){ self->mem, LENGTH, i, &stop };
		ASSERT_EQ(0, pthread_create(&threads[i], NULL,
					    mm_write_at_random, &w[i]));
	}
	for (i = 0; i < 30; i++)
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FINAL));
	EXPECT_SAME();
}

int main(int argc, char **argv)
{
	/* What target_execs turns its child into. */
	if (child_is_idle(argc, argv))
		return pause();
	return test_harness_run(argc, argv);
}

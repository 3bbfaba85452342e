// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Owned memory: every way of writing it is seen, exactly and by page. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>

#include <linux/userfaultfd.h>

#include "device.h"
#include "mm.h"

#include "harness.h"

#define PAGES		64
#define LENGTH		(PAGES * UNIT)
#define SHMEM_HUGE	"/sys/kernel/mm/transparent_hugepage/shmem_enabled"

FIXTURE(owned)
{
	int fd;
	int rfd;
	uint32_t id;
	unsigned char *mem;
	struct model *model;
};

FIXTURE_SETUP(owned)
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
	self->model = model_new();
	ASSERT_NE(NULL, self->model);
	for (i = 0; i < PAGES; i++)
		self->mem[i * UNIT] = i + 1;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(PAGES, self->model->all.page);
}

FIXTURE_TEARDOWN(owned)
{
	model_free(self->model);
	close(self->rfd);
	close(self->fd);
}

/*
 * A round must find exactly @pages dirty pages and leave the receiver with
 * what is in memory.
 */
#define EXPECT_ROUND(pages) do { \
	struct xbzrle_sync _s; \
	ASSERT_EQ(0, dev_sync(self->fd, 0, &_s)); \
	EXPECT_EQ((__u64)(pages), _s.dirty_pages); \
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536)); \
	EXPECT_TRUE(model_idle(self->model)); \
	EXPECT_EQ(-1, model_diff(self->model, "ram", self->mem, 0, LENGTH)); \
} while (0)

/* The same where more pages may count as dirty, as after a pin. */
#define EXPECT_EXACT_ROUND() do { \
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0)); \
	EXPECT_EQ(-1, model_diff(self->model, "ram", self->mem, 0, LENGTH)); \
} while (0)

TEST_F(owned, writes_are_seen_by_page)
{
	unsigned int i;

	EXPECT_ROUND(0);
	self->mem[3 * UNIT + 100]++;
	EXPECT_ROUND(1);
	EXPECT_EQ(1, self->model->round.xbzrle);
	EXPECT_ROUND(0);
	for (i = 0; i < 10; i++)
		self->mem[3 * UNIT + 100]++;
	self->mem[UNIT - 1]++;
	self->mem[UNIT]++;
	self->mem[LENGTH - 1]++;
	EXPECT_ROUND(4);
	memset(self->mem, 0xee, LENGTH);
	EXPECT_ROUND(PAGES);
	EXPECT_ROUND(0);
}

TEST_F(owned, reads_are_no_writes)
{
	unsigned int i, sum = 0;

	for (i = 0; i < LENGTH; i += 64)
		sum += __atomic_load_n(self->mem + i, __ATOMIC_RELAXED);
	EXPECT_LT(0, sum);
	EXPECT_ROUND(0);
}

TEST_F(owned, unchanged_pages_send_nothing)
{
	struct xbzrle_stats s;
	unsigned int i;

	for (i = 0; i < PAGES; i++)
		__atomic_store_n(self->mem + i * UNIT, i + 1,
				 __ATOMIC_RELAXED);
	EXPECT_ROUND(PAGES);
	EXPECT_EQ(8, self->model->round.bytes);
	ASSERT_EQ(0, dev_stats(self->fd, &s));
	EXPECT_EQ(PAGES, s.unchanged_pages);
}

TEST_F(owned, holes_are_not_populated)
{
	unsigned char present[PAGES];
	unsigned char *mem;
	unsigned int i;
	int rfd;

	rfd = dev_create(self->fd, "holes", LENGTH, NULL);
	ASSERT_LE(0, rfd);
	mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	mem[7 * UNIT] = 1;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(1, self->model->round.page);
	EXPECT_EQ(0, self->model->round.zero);
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FINAL));
	ASSERT_EQ(0, mincore(mem, LENGTH, present));
	for (i = 0; i < PAGES; i++)
		EXPECT_EQ(i == 7, present[i] & 1);
	close(rfd);
}

static int in_child(void (*work)(unsigned char *mem, int rfd),
		    unsigned char *mem, int rfd)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		work(mem, rfd);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return status;
}

static void write_inherited(unsigned char *mem, int rfd)
{
	(void)rfd;
	mem[10 * UNIT]++;
	mem[11 * UNIT + 5]++;
}

static void write_own_mapping(unsigned char *mem, int rfd)
{
	munmap(mem, LENGTH);
	mem = mmap(NULL, 8 * UNIT, PROT_READ | PROT_WRITE, MAP_SHARED, rfd,
		   20 * UNIT);
	if (mem == MAP_FAILED)
		_exit(1);
	mem[2 * UNIT]++;
}

TEST_F(owned, child_writes)
{
	EXPECT_EQ(0, in_child(write_inherited, self->mem, self->rfd));
	EXPECT_ROUND(2);
	EXPECT_EQ(0, in_child(write_inherited, self->mem, self->rfd));
	EXPECT_ROUND(2);
}

TEST_F(owned, mapping_of_another_process)
{
	EXPECT_EQ(0, in_child(write_own_mapping, self->mem, self->rfd));
	EXPECT_ROUND(1);
}

/* Both hold the page writable; the harvest must take it from both. */
TEST_F(owned, two_writers_of_one_page)
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
		while (read(ping[0], &byte, 1) == 1) {
			self->mem[30 * UNIT + 8]++;
			if (write(pong[1], &byte, 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	ASSERT_LT(0, pid);
	for (i = 0; i < 5; i++) {
		self->mem[30 * UNIT]++;
		ASSERT_EQ(1, write(ping[1], &byte, 1));
		ASSERT_EQ(1, read(pong[0], &byte, 1));
		EXPECT_ROUND(1);
		/* The child alone. */
		ASSERT_EQ(1, write(ping[1], &byte, 1));
		ASSERT_EQ(1, read(pong[0], &byte, 1));
		EXPECT_ROUND(1);
	}
	close(ping[1]);
	waitpid(pid, NULL, 0);
}

TEST_F(owned, two_mappings_in_one_process)
{
	unsigned char *again = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
				    MAP_SHARED, self->rfd, 0);

	ASSERT_NE(MAP_FAILED, again);
	self->mem[0]++;
	again[0]++;
	EXPECT_ROUND(1);
	again[0]++;
	EXPECT_ROUND(1);
	self->mem[0]++;
	EXPECT_ROUND(1);
	munmap(again, LENGTH);
}

TEST_F(owned, dontneed_keeps_content)
{
	self->mem[0]++;
	ASSERT_EQ(0, madvise(self->mem, LENGTH, MADV_DONTNEED));
	EXPECT_EQ(2, self->mem[0]);
	EXPECT_ROUND(1);
	ASSERT_EQ(0, madvise(self->mem, LENGTH, MADV_DONTNEED));
	EXPECT_ROUND(0);
	self->mem[0]++;
	EXPECT_ROUND(1);
}

/* mprotect() may make a page writable again because its PTE is dirty. */
TEST_F(owned, mprotect_does_not_hide_writes)
{
	self->mem[0]++;
	EXPECT_ROUND(1);
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ));
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ | PROT_WRITE));
	self->mem[0]++;
	EXPECT_ROUND(1);

	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_NONE));
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ | PROT_WRITE));
	self->mem[0]++;
	EXPECT_ROUND(1);

	/* Dirty while it is read-only, harvested, then written. */
	self->mem[0]++;
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ));
	EXPECT_ROUND(1);
	ASSERT_EQ(0, mprotect(self->mem, LENGTH, PROT_READ | PROT_WRITE));
	self->mem[0]++;
	EXPECT_ROUND(1);
	EXPECT_ROUND(0);
}

TEST_F(owned, mremap_moves)
{
	unsigned char *to;

	self->mem[0]++;
	to = mmap(NULL, LENGTH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, to);
	ASSERT_EQ(to, mremap(self->mem, LENGTH, LENGTH,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	self->mem = to;
	EXPECT_ROUND(1);
	self->mem[0]++;
	self->mem[9 * UNIT]++;
	EXPECT_ROUND(2);
	EXPECT_ROUND(0);
}

TEST_F(owned, mremap_does_not_grow)
{
	EXPECT_EQ(MAP_FAILED, mremap(self->mem, LENGTH, LENGTH + UNIT,
				     MREMAP_MAYMOVE));
	EXPECT_ROUND(0);
}

TEST_F(owned, mmap_stays_inside)
{
	unsigned char *p;

	EXPECT_EQ(MAP_FAILED, mmap(NULL, LENGTH + UNIT, PROT_READ, MAP_SHARED,
				   self->rfd, 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, UNIT, PROT_READ, MAP_SHARED,
				   self->rfd, LENGTH));
	p = mmap(NULL, UNIT, PROT_READ, MAP_SHARED, self->rfd, LENGTH - UNIT);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(PAGES, p[0]);
}

TEST_F(owned, no_private_mapping)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE, self->rfd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LENGTH, PROT_READ, MAP_PRIVATE,
				   self->rfd, 0));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(owned, unmap_and_map_again)
{
	self->mem[0]++;
	ASSERT_EQ(0, munmap(self->mem, LENGTH));
	/* A page that was used is held by a batch of some CPU's now and then. */
	mm_drain();
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	self->mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED,
			 self->rfd, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	EXPECT_EQ(2, self->mem[0]);
	EXPECT_ROUND(0);
	self->mem[0]++;
	EXPECT_ROUND(1);
}

TEST_F(owned, read_only_mapping)
{
	unsigned char *p = mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, self->rfd,
				0);

	ASSERT_NE(MAP_FAILED, p);
	self->mem[0]++;
	EXPECT_EQ(2, p[0]);
	EXPECT_ROUND(1);
	ASSERT_EQ(0, mprotect(p, LENGTH, PROT_READ | PROT_WRITE));
	p[0]++;
	EXPECT_ROUND(1);
	EXPECT_EQ(3, self->mem[0]);
}

/* There is nowhere to write it to, which is no error. */
TEST_F(owned, syncing_does_nothing)
{
	self->mem[0]++;
	EXPECT_EQ(0, msync(self->mem, LENGTH, MS_SYNC));
	EXPECT_EQ(0, fsync(self->rfd));
	EXPECT_ROUND(1);
}

TEST_F(owned, punch_hole)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	ASSERT_EQ(0, fallocate(self->rfd, punch, 4 * UNIT, 3 * UNIT));
	EXPECT_ROUND(3);
	EXPECT_EQ(3, self->model->round.zero);
	/* The comparison has read the hole, which is no write. */
	EXPECT_ROUND(0);
	self->mem[5 * UNIT] = 9;
	EXPECT_ROUND(1);

	/* Punched and written before anybody looks. */
	ASSERT_EQ(0, fallocate(self->rfd, punch, 4 * UNIT, 3 * UNIT));
	self->mem[4 * UNIT + 1] = 1;
	EXPECT_ROUND(3);
	/* Written and punched. */
	self->mem[4 * UNIT + 1] = 1;
	ASSERT_EQ(0, fallocate(self->rfd, punch, 4 * UNIT, UNIT));
	EXPECT_ROUND(1);
	EXPECT_EQ(1, self->model->round.zero);
}

static void *punch_all(void *rfd)
{
	return fallocate(*(int *)rfd, FALLOC_FL_PUNCH_HOLE |
			 FALLOC_FL_KEEP_SIZE, 0, LENGTH) ? rfd : NULL;
}

/* Nobody is left with a page that the file has lost. */
TEST_F(owned, read_while_it_is_punched)
{
	struct mm_turns tries = { .least = 5, .most = 50 };
	unsigned int i, sum = 0;
	pthread_t thread;
	void *ret;

	while (mm_another_turn(&tries)) {
		memset(self->mem, 1 + tries.done, LENGTH);
		ASSERT_EQ(0, madvise(self->mem, LENGTH, MADV_DONTNEED));
		ASSERT_EQ(0, pthread_create(&thread, NULL, punch_all,
					    &self->rfd));
		for (i = 0; i < PAGES; i++)
			sum += __atomic_load_n(self->mem + i * UNIT,
					       __ATOMIC_RELAXED);
		ASSERT_EQ(0, pthread_join(thread, &ret));
		ASSERT_EQ(NULL, ret);
		for (i = 0; i < PAGES; i++)
			ASSERT_EQ(0, self->mem[i * UNIT]);
	}
	EXPECT_LE(0, sum);
	EXPECT_EXACT_ROUND();
}

TEST_F(owned, fallocate_modes)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	static const int others[] = {
		0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_COLLAPSE_RANGE,
		FALLOC_FL_ZERO_RANGE, FALLOC_FL_INSERT_RANGE,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(others); i++) {
		EXPECT_EQ(-1, fallocate(self->rfd, others[i], 0, UNIT));
		EXPECT_EQ(EOPNOTSUPP, errno);
	}
	EXPECT_EQ(-1, fallocate(self->rfd, punch, 1, UNIT));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, fallocate(self->rfd, punch, 0, UNIT + 1));
	EXPECT_EQ(EINVAL, errno);
	/* Behind the end there is nothing to punch. */
	fallocate(self->rfd, punch, LENGTH, UNIT);
	EXPECT_ROUND(0);
	ASSERT_EQ(0, fallocate(self->rfd, punch, LENGTH - UNIT, 1 << 30));
	EXPECT_ROUND(1);
}

/* It may be refused or seen, but it must not get past the tracker. */
TEST_F(owned, no_way_around_by_madvise_remove)
{
	bool removed = !madvise(self->mem + UNIT, 2 * UNIT, MADV_REMOVE);

	EXPECT_EQ(removed ? 0 : 2, self->mem[UNIT]);
	EXPECT_ROUND(removed ? 2 : 0);
	EXPECT_EQ(removed ? 2 : 0, self->model->round.zero);
}

/* The file behind the memory, as root may open it. */
TEST_F(owned, no_way_around_by_map_files)
{
	char path[64];
	void *p;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx",
		 (unsigned long)self->mem, (unsigned long)self->mem + LENGTH);
	fd = open(path, O_RDWR);
	if (fd >= 0) {
		EXPECT_EQ(-1, pwrite(fd, "x", 1, 0));
		EXPECT_EQ(-1, ftruncate(fd, 0));
		EXPECT_EQ(-1, ftruncate(fd, 2 * LENGTH));
		EXPECT_EQ(-1, fallocate(fd, FALLOC_FL_PUNCH_HOLE |
					FALLOC_FL_KEEP_SIZE, 0, UNIT));
		p = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			 0);
		EXPECT_EQ(MAP_FAILED, p);
		p = mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, fd, 0);
		if (p != MAP_FAILED)
			EXPECT_EQ(-1, mprotect(p, LENGTH,
					       PROT_READ | PROT_WRITE));
		close(fd);
	}
	EXPECT_EQ(1, self->mem[0]);
	EXPECT_ROUND(0);
}

TEST_F(owned, region_fd_is_not_written)
{
	char byte = 0;

	EXPECT_EQ(-1, pwrite(self->rfd, &byte, 1, 0));
	EXPECT_EQ(-1, ftruncate(self->rfd, 0));
	EXPECT_ROUND(0);
}

#if MM_HAVE_HUGE_PAGES
/* Whoever has them everywhere: one write must not cost 512 pages. */
TEST_F(owned, huge_pages_are_tracked_by_page)
{
	const long huge = mm_meminfo("ShmemHugePages:");
	const size_t length = 4 * HUGE_SIZE;
	struct xbzrle_sync s;
	unsigned char *area, *mem;
	unsigned int i;
	int rfd;

	if (mm_write_file(SHMEM_HUGE, "always"))
		SKIP(return, "no huge pages");
	ASSERT_EQ(0, dev_set_cache(self->fd, length + LENGTH));
	rfd = dev_create(self->fd, "huge", length, NULL);
	ASSERT_LE(0, rfd);
	area = mm_anon_huge(length);
	ASSERT_NE(NULL, area);
	mem = mmap(area, length, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED, rfd, 0);
	ASSERT_EQ(area, mem);
	madvise(mem, length, MADV_HUGEPAGE);
	for (i = 0; i < length; i += UNIT)
		mem[i] = i / UNIT | 1;
	madvise(mem, length, MADV_COLLAPSE);
	EXPECT_EQ(0, mm_huge_bytes(mem));
	EXPECT_LE(0, huge);
	EXPECT_EQ(huge, mm_meminfo("ShmemHugePages:"));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));

	mem[5 * UNIT]++;
	mem[HUGE_SIZE]++;
	madvise(mem, length, MADV_COLLAPSE);
	mem[6 * UNIT]++;
	EXPECT_EQ(0, mm_huge_bytes(mem));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(3, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));

	/* Mapped anew. */
	ASSERT_EQ(0, munmap(mem, length));
	mem = mmap(area, length, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED, rfd, 0);
	ASSERT_EQ(area, mem);
	for (i = 0; i < length; i += HUGE_SIZE)
		mem[i + UNIT]++;
	EXPECT_EQ(0, mm_huge_bytes(mem));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(4, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));
	mm_write_file(SHMEM_HUGE, "never");
	close(rfd);
}

/* A large folio may be larger than what the region has of it. */
TEST_F(owned, forced_huge_page_behind_the_end)
{
	static const size_t lengths[] = { 5 * UNIT, HUGE_SIZE + 5 * UNIT };
	struct xbzrle_sync s;
	unsigned char *mem;
	unsigned int i;
	int rfd;

	if (mm_write_file(SHMEM_HUGE, "force"))
		SKIP(return, "no huge pages");
	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		rfd = dev_create(self->fd, i ? "large" : "small", lengths[i],
				 NULL);
		ASSERT_LE(0, rfd);
		mem = mmap(NULL, lengths[i], PROT_READ | PROT_WRITE,
			   MAP_SHARED, rfd, 0);
		ASSERT_NE(MAP_FAILED, mem);
		mem[0] = 1;
		mem[lengths[i] - 1] = 1;
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		EXPECT_GE((LENGTH + lengths[0] + i * lengths[1]) / UNIT,
			  s.dirty_pages);
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_EQ(-1, model_diff(self->model, i ? "large" : "small",
					 mem, 0, lengths[i]));
		munmap(mem, lengths[i]);
		close(rfd);
	}
	mm_write_file(SHMEM_HUGE, "never");
}

/*
 * Nothing keeps the kernel from them then, nor from giving one page of them the
 * permissions of another.
 */
TEST_F(owned, forced_huge_pages_lose_no_write)
{
	const size_t length = 2 * HUGE_SIZE;
	unsigned int round, i;
	unsigned char *mem;
	pid_t pid;
	int rfd;

	if (mm_write_file(SHMEM_HUGE, "force"))
		SKIP(return, "no huge pages");
	ASSERT_EQ(0, dev_set_cache(self->fd, length + LENGTH));
	rfd = dev_create(self->fd, "huge", length, NULL);
	ASSERT_LE(0, rfd);
	mem = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	for (i = 0; i < length / 2; i += UNIT)
		mem[i] = i / UNIT | 1;
	EXPECT_LT(0, mm_meminfo("ShmemHugePages:"));
	for (round = 0; round < 6; round++) {
		/* All of it is protected, and there to be given more. */
		for (i = 0; i < length; i += UNIT)
			EXPECT_LE(0, *(volatile unsigned char *)(mem + i));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));

		mem[length - (8 + round) * UNIT]++;
		if (round & 1) {
			ASSERT_EQ(0, mprotect(mem, length, PROT_READ));
			ASSERT_EQ(0, mprotect(mem, length,
					      PROT_READ | PROT_WRITE));
		}
		pid = fork();
		if (!pid) {
			for (i = 0; i < length; i += 5 * UNIT)
				mem[i + 2 + round]++;
			_exit(0);
		}
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		/* Others each time: what was written once stays in the set. */
		for (i = (1 + round) * UNIT; i < length; i += 7 * UNIT)
			mem[i + 100 + round]++;
	}
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_POINT_IN_TIME));
	EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));
	mm_write_file(SHMEM_HUGE, "never");
	munmap(mem, length);
	close(rfd);
}

/*
 * Holes were found by a SYNC, and a read made one large folio in their place: no
 * unit of it is dirty, so many are encoded from it under its one lock.
 */
TEST_F(owned, forced_huge_page_is_read_in_place)
{
	const size_t length = HUGE_SIZE;
	struct xbzrle_stats before, after;
	struct xbzrle_sync s;
	unsigned char *mem;
	int rfd;

	if (mm_write_file(SHMEM_HUGE, "never"))
		SKIP(return, "no huge pages");
	ASSERT_EQ(0, dev_set_cache(self->fd, length + LENGTH));
	rfd = dev_create(self->fd, "huge", length, NULL);
	ASSERT_LE(0, rfd);
	mem = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	memset(mem, 1, length);
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));

	ASSERT_EQ(0, fallocate(rfd, FALLOC_FL_PUNCH_HOLE |
			       FALLOC_FL_KEEP_SIZE, 0, length));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(length / UNIT, s.dirty_pages);
	ASSERT_EQ(0, mm_write_file(SHMEM_HUGE, "force"));
	EXPECT_EQ(0, *(volatile unsigned char *)mem);
	EXPECT_LT(0, mm_meminfo("ShmemHugePages:"));
	ASSERT_EQ(0, dev_stats(self->fd, &before));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));
	ASSERT_EQ(0, dev_stats(self->fd, &after));
	EXPECT_EQ(before.still_pages + length / UNIT, after.still_pages);

	mem[7 * UNIT]++;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, model_diff(self->model, "huge", mem, 0, length));
	mm_write_file(SHMEM_HUGE, "never");
	munmap(mem, length);
	close(rfd);
}
#endif

TEST_F(owned, swap_loses_nothing)
{
	const size_t length = 4UL << 20;
	struct sysinfo before, after;
	unsigned char *mem;
	struct xbzrle_sync s;
	unsigned int i;
	int rfd;

	if (!mm_swap_on())
		SKIP(return, "no zram");
	rfd = dev_create(self->fd, "swap", length, NULL);
	ASSERT_LE(0, rfd);
	mem = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	for (i = 0; i < length; i += UNIT)
		memcpy(mem + i, &i, sizeof(i));
	sysinfo(&before);
	ASSERT_EQ(0, madvise(mem, length, MADV_PAGEOUT));
	sysinfo(&after);
	/* Enough of it left to call it a test of swap. */
	EXPECT_LT(length / 2, before.freeswap - after.freeswap);
	/* Dirty and swapped out before it was ever sent. */
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(length / UNIT, s.dirty_pages);
	ASSERT_EQ(0, madvise(mem, length, MADV_PAGEOUT));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(-1, model_diff(self->model, "swap", mem, 0, length));

	/* Swapped out clean, then written. */
	ASSERT_EQ(0, madvise(mem, length, MADV_PAGEOUT));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(0, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	for (i = 0; i < length; i += 16 * UNIT)
		mem[i + 9]++;
	ASSERT_EQ(0, madvise(mem, length, MADV_PAGEOUT));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(length / UNIT / 16, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(-1, model_diff(self->model, "swap", mem, 0, length));
	close(rfd);
}

TEST_F(owned, memory_outlives_the_session)
{
	unsigned int i;

	self->mem[0] = 77;
	close(self->fd);
	for (i = 1; i < PAGES; i++)
		self->mem[i * UNIT]++;
	EXPECT_EQ(77, self->mem[0]);
	EXPECT_EQ(3, self->mem[UNIT]);
	EXPECT_EQ(0, fallocate(self->rfd, FALLOC_FL_PUNCH_HOLE |
			       FALLOC_FL_KEEP_SIZE, 0, UNIT));
	EXPECT_EQ(0, self->mem[0]);
	close(self->rfd);
	self->mem[0] = 78;
	ASSERT_EQ(0, madvise(self->mem, LENGTH, MADV_DONTNEED));
	EXPECT_EQ(78, self->mem[0]);
}

TEST_F(owned, memory_outlives_the_region)
{
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	self->mem[0]++;
	EXPECT_EQ(2, self->mem[0]);
	EXPECT_EQ(-EINVAL, dev_sync(self->fd, 0, NULL));
}

TEST_F(owned, sparse_64_gib)
{
	const size_t length = 64UL << 30, step = length / 16;
	struct xbzrle_sync s;
	unsigned char *mem;
	size_t at;
	int rfd;

	rfd = dev_create(self->fd, "sparse", length, NULL);
	ASSERT_LE(0, rfd);
	mem = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	for (at = step - UNIT; at < length; at += step)
		mem[at + 1] = at >> 30;
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(16, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(16, self->model->round.page);
	mem[length - 1] = 1;
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(1, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	for (at = step - UNIT; at < length; at += step)
		EXPECT_EQ(-1, model_diff(self->model, "sparse", mem, at,
					 UNIT));
	close(rfd);
}

/* The kernel writes on behalf of a process, through its mapping. */
TEST_F(owned, kernel_writes_through_the_mapping)
{
	struct iovec from = { "vmwrite", 7 };
	struct iovec to = { self->mem + 40 * UNIT, 7 };
	int pipefd[2];

	ASSERT_EQ(0, pipe(pipefd));
	ASSERT_EQ(12, write(pipefd[1], "through read", 12));
	ASSERT_EQ(12, read(pipefd[0], self->mem + 5 * UNIT - 6, 12));
	EXPECT_ROUND(2);

	ASSERT_EQ(7, process_vm_writev(getpid(), &from, 1, &to, 1, 0));
	EXPECT_EXACT_ROUND();
	EXPECT_EQ(0, memcmp(to.iov_base, "vmwrite", 7));
	EXPECT_ROUND(0);
	close(pipefd[1]);
	close(pipefd[0]);
}

struct late_writer {
	unsigned char *from;
	unsigned char *to;
	ssize_t written;
};

static void *write_late(void *arg)
{
	struct late_writer *w = arg;
	struct iovec from = { w->from, UNIT }, to = { w->to, UNIT };

	w->written = process_vm_writev(getpid(), &from, 1, &to, 1, 0);
	return NULL;
}

/*
 * The kernel has the page pinned, waits for what to write there, and writes it
 * rounds later without another fault.
 */
TEST_F(owned, pinned_page_is_written_late)
{
	struct late_writer w = { .to = self->mem + 12 * UNIT };
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_copy copy = { .len = UNIT };
	unsigned char *content = mm_anon(UNIT);
	struct xbzrle_stats before, after;
	struct uffd_msg msg;
	struct xbzrle_sync s;
	pthread_t thread;
	unsigned int i;
	int uffd;

	w.from = mm_anon(UNIT);
	ASSERT_NE(NULL, w.from);
	ASSERT_NE(NULL, content);
	memset(content, 0xbe, UNIT);
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0)
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_API, &api));
	reg.range.start = (uintptr_t)w.from;
	reg.range.len = UNIT;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_REGISTER, &reg));

	ASSERT_EQ(0, pthread_create(&thread, NULL, write_late, &w));
	ASSERT_EQ(sizeof(msg), read(uffd, &msg, sizeof(msg)));
	ASSERT_EQ(0, dev_stats(self->fd, &before));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		EXPECT_EQ(1, s.dirty_pages);
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_EQ(8, self->model->round.bytes);
	}
	ASSERT_EQ(0, dev_stats(self->fd, &after));
	EXPECT_EQ(before.pinned_pages + 3, after.pinned_pages);
	copy.dst = (uintptr_t)w.from;
	copy.src = (uintptr_t)content;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_COPY, &copy));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(UNIT, w.written);
	EXPECT_EQ(0xbe, w.to[0]);
	EXPECT_ROUND(1);
	ASSERT_EQ(0, dev_stats(self->fd, &before));
	EXPECT_ROUND(0);
	ASSERT_EQ(0, dev_stats(self->fd, &after));
	EXPECT_EQ(before.pinned_pages, after.pinned_pages);
	close(uffd);
}

struct direct_reader {
	unsigned char *to;
	int file;
	int stop;
	unsigned int reads;
};

static void *read_directly(void *arg)
{
	struct direct_reader *d = arg;

	while (!__atomic_load_n(&d->stop, __ATOMIC_RELAXED))
		if (pread(d->file, d->to, 8 * UNIT,
			  d->reads % 8 * UNIT) == 8 * (ssize_t)UNIT)
			__atomic_add_fetch(&d->reads, 1, __ATOMIC_RELAXED);
	return NULL;
}

/*
 * Reclaim takes a page off its list, unmaps it, and flushes TLBs some time later. No
 * test can have it do so just then; a page that is too new for a list looks the same.
 */
TEST_F(owned, page_off_its_list_is_unmapped)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	unsigned char *page = self->mem + 3 * UNIT;
	struct xbzrle_sync sync;
	int turn = 0;

	/* A full batch is emptied when one more comes. */
	do {
		ASSERT_EQ(0, fallocate(self->rfd, punch, 3 * UNIT, UNIT));
		page[1] = 1;
	} while (mm_listed(page) && ++turn < 100);
	ASSERT_FALSE(mm_listed(page));
	ASSERT_TRUE(mm_mapped(page));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &sync));
	EXPECT_FALSE(mm_mapped(page));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(-1, model_diff(self->model, "ram", self->mem, 0, LENGTH));

	mm_drain();
	page[2] = 1;
	EXPECT_TRUE(mm_listed(page));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &sync));
	EXPECT_EQ(1, sync.dirty_pages);
	EXPECT_TRUE(mm_mapped(page));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(-1, model_diff(self->model, "ram", self->mem, 0, LENGTH));
}

/* O_DIRECT pins the pages, and the device writes when it likes. */
TEST_F(owned, direct_reads)
{
	struct direct_reader d = { .to = self->mem + 8 * UNIT };
	pthread_t thread;
	unsigned int i;

	if (!mm_swap_on())
		SKIP(return, "no zram to read from");
	d.file = open("/dev/zram0", O_RDONLY | O_DIRECT);
	ASSERT_LE(0, d.file);
	ASSERT_EQ(0, pthread_create(&thread, NULL, read_directly, &d));
	for (i = 0; i < 5000; i++) {
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		if (__atomic_load_n(&d.reads, __ATOMIC_RELAXED) >= 50)
			break;
	}
	__atomic_store_n(&d.stop, 1, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_LE(50, d.reads);
	/* To take a page for a read is to use it: it may wait in a batch now. */
	mm_drain();
	EXPECT_EXACT_ROUND();
	EXPECT_ROUND(0);
	close(d.file);
}

struct passer {
	unsigned char *mem;
	unsigned int passes;
	int done;
};

/* One write to each page, in each pass. */
static void *write_in_passes(void *arg)
{
	struct passer *w = arg;
	unsigned int i, page;

	for (i = 1; i <= w->passes; i++)
		for (page = 0; page < PAGES; page++)
			w->mem[page * UNIT + i % UNIT] = i;
	__atomic_store_n(&w->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

/*
 * Each write faults, and a round may come at any moment of the fault. What the
 * last pass loses then, no later write brings back.
 */
TEST_F(owned, rounds_in_the_middle_of_faults)
{
	struct passer w = { .mem = self->mem, .passes = 100 };
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, write_in_passes, &w));
	while (!__atomic_load_n(&w.done, __ATOMIC_ACQUIRE))
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EXACT_ROUND();
}

TEST_F(owned, writers_run_on)
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
	EXPECT_EQ(-1, model_diff(self->model, "ram", self->mem, 0, LENGTH));
}

TEST_HARNESS_MAIN

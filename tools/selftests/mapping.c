// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Files of shmem that exist already: whoever writes them, through which mapping
 * or none, and whatever becomes of that mapping before the harvest.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "child.h"
#include "device.h"
#include "mm.h"
#include "rnd.h"
#include "slow_disk.h"
#include "uring.h"

#include "harness.h"

#define PAGES		64
#define LENGTH		(PAGES * UNIT)
#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define PUNCH		(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
/* Anybody without capabilities. */
#define USER		4242

FIXTURE(mapping)
{
	int fd;
	uint32_t id;
	int file;
	unsigned char *mem;
	struct model *model;
};

static unsigned char *map_file(int file, size_t length)
{
	void *mem = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file,
			 0);

	return mem == MAP_FAILED ? NULL : mem;
}

/*
 * Is there no page of the file that somebody holds? The kernel waits for those
 * that it holds itself, but not forever.
 */
static bool let_go_of(int file)
{
	unsigned int tries;
	int ret = -1;

	for (tries = 0; ret && tries < 10; tries++)
		ret = fcntl(file, F_ADD_SEALS, F_SEAL_WRITE);
	return !ret;
}

/* The even pages are populated, the odd ones are holes. */
FIXTURE_SETUP(mapping)
{
	struct xbzrle_register out;
	unsigned int i;

	self->fd = dev_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	self->file = mm_shared_file(LENGTH);
	ASSERT_LE(0, self->file);
	self->mem = map_file(self->file, LENGTH);
	ASSERT_NE(NULL, self->mem);
	for (i = 0; i < PAGES; i += 2)
		self->mem[i * UNIT] = i + 1;
	ASSERT_EQ(0, dev_register(self->fd, "file", self->mem, LENGTH, 0,
				  XBZRLE_TRACKER_AUTO, &out));
	EXPECT_EQ(XBZRLE_TRACKER_MAPPING, out.tracker);
	self->id = out.region_id;
	self->model = model_new();
	ASSERT_NE(NULL, self->model);
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(PAGES / 2, self->model->all.page);
	/* What the kernel itself holds of new pages for a moment. */
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
}

FIXTURE_TEARDOWN(mapping)
{
	model_free(self->model);
	munmap(self->mem, LENGTH);
	close(self->file);
	close(self->fd);
}

/* What the file has, without a mapping. */
static int64_t diff(struct model *m, const char *name, int file, size_t length)
{
	unsigned char *copy = calloc(1, length);
	int64_t ret = -3;

	if (copy && pread(file, copy, length, 0) >= 0)
		ret = model_diff(m, name, copy, 0, length);
	free(copy);
	return ret;
}

#define EXPECT_SAME() \
	EXPECT_EQ(-1, diff(self->model, "file", self->file, LENGTH))

#define EXPECT_EXACT_ROUND() do { \
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0)); \
	EXPECT_SAME(); \
} while (0)

/* Records of the last round that brought content. */
static uint64_t sent(const struct model *m)
{
	return m->round.zero + m->round.page + m->round.xbzrle;
}

/* A round that brought just so many pages, and the receiver has all. */
#define EXPECT_ROUND_OF(pages) do { \
	EXPECT_EXACT_ROUND(); \
	EXPECT_EQ(pages, sent(self->model)); \
} while (0)

static int wait_for(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return status;
}

TEST_F(mapping, writes_are_seen_by_page)
{
	struct xbzrle_sync s;
	unsigned int i;

	EXPECT_ROUND_OF(0);
	self->mem[4 * UNIT + 100]++;
	self->mem[5 * UNIT] = 5;
	self->mem[LENGTH - 1] = 6;
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_LE(3, s.dirty_pages);
	EXPECT_GT(PAGES / 2, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(1, self->model->round.xbzrle);
	EXPECT_EQ(2, self->model->round.page);
	EXPECT_SAME();

	/* Again and again: each harvest must arm the page anew. */
	for (i = 0; i < 5; i++) {
		self->mem[4 * UNIT]++;
		EXPECT_ROUND_OF(1);
	}
	EXPECT_ROUND_OF(0);
}

/* Rounds until none has anything to look at. */
static bool settles(int fd, struct model *m)
{
	struct xbzrle_sync s = { .dirty_pages = 1 };
	unsigned int tries;

	for (tries = 0; tries < 20 && s.dirty_pages; tries++) {
		mm_drain();
		if (dev_sync(fd, 0, &s) || dev_read_round(fd, m, 65536))
			return false;
		usleep(s.dirty_pages ? 50000 : 0);
	}
	return !s.dirty_pages;
}

static void read_pages(const unsigned char *mem)
{
	unsigned int i;

	for (i = 0; i < PAGES; i += 2)
		(void)__atomic_load_n(mem + i * UNIT, __ATOMIC_RELAXED);
}

/* A page that nobody writes is not looked at for ever. */
TEST_F(mapping, rests_when_nobody_writes)
{
	struct xbzrle_sync s = { 0 };

	self->mem[0]++;
	EXPECT_TRUE(settles(self->fd, self->model));
	/* By any way of reading it. */
	read_pages(self->mem);
	EXPECT_SAME();
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(0, s.dirty_pages);
}

/* Who reads a page may write it then, unless the mapping is for reading only. */
TEST_F(mapping, read_by_a_new_mapping)
{
	unsigned char *reader, *writer = map_file(self->file, LENGTH);
	struct xbzrle_sync s = { 0 };

	ASSERT_NE(NULL, writer);
	reader = mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, self->file, 0);
	ASSERT_NE(MAP_FAILED, reader);
	EXPECT_TRUE(settles(self->fd, self->model));
	read_pages(reader);
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(0, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	read_pages(writer);
	/* Looked at, and nothing has changed. */
	EXPECT_ROUND_OF(0);
	read_pages(writer);
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(0, s.dirty_pages);
	munmap(writer, LENGTH);
	munmap(reader, LENGTH);
}

TEST_F(mapping, kinds_of_shared_memory)
{
	struct xbzrle_register out;
	unsigned char *mem;
	int file;

	mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, dev_register(self->fd, "anonymous", mem, LENGTH, 0,
				  XBZRLE_TRACKER_AUTO, &out));
	EXPECT_EQ(XBZRLE_TRACKER_MAPPING, out.tracker);
	mem[UNIT] = 1;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, model_diff(self->model, "anonymous", mem, 0, LENGTH));

	mkdir("/tmp/tmpfs", 0700);
	ASSERT_EQ(0, mount("tmpfs", "/tmp/tmpfs", "tmpfs", 0, NULL));
	file = open("/tmp/tmpfs/file", O_RDWR | O_CREAT | O_EXCL, 0600);
	ASSERT_LE(0, file);
	ASSERT_EQ(0, ftruncate(file, LENGTH));
	mem = map_file(file, LENGTH);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, dev_register(self->fd, "tmpfs", mem, LENGTH, 0,
				  XBZRLE_TRACKER_MAPPING, &out));
	mem[2 * UNIT] = 2;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, model_diff(self->model, "tmpfs", mem, 0, LENGTH));
	ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));
	close(file);
	EXPECT_EQ(0, munmap(mem, LENGTH));
	/* Nobody has a file there any more. */
	EXPECT_EQ(0, umount("/tmp/tmpfs"));
}

TEST_F(mapping, two_mappings_in_one_process)
{
	unsigned char *other = map_file(self->file, LENGTH);
	unsigned int i;

	ASSERT_NE(NULL, other);
	for (i = 0; i < 4; i++) {
		other[2 * UNIT + i]++;
		EXPECT_ROUND_OF(1);
		self->mem[2 * UNIT + i]++;
		other[4 * UNIT]++;
		EXPECT_ROUND_OF(2);
	}
	/* And is gone before the harvest. */
	other[6 * UNIT]++;
	other[7 * UNIT]++;
	ASSERT_EQ(0, munmap(other, LENGTH));
	EXPECT_ROUND_OF(2);
}

TEST_F(mapping, another_process_writes)
{
	struct child c;
	unsigned int i;

	ASSERT_TRUE(child_start(&c, self->mem));
	for (i = 0; i < 5; i++) {
		ASSERT_TRUE(child_writes(&c, 3 * i));
		EXPECT_ROUND_OF(1);
		ASSERT_TRUE(child_writes(&c, 3 * i));
		self->mem[3 * i * UNIT + 7]++;
		self->mem[50 * UNIT]++;
		EXPECT_ROUND_OF(2);
	}
	child_kill(&c);
	EXPECT_ROUND_OF(0);
}

TEST_F(mapping, memory_of_another_process)
{
	struct xbzrle_register out;
	struct pollfd p = { .fd = self->fd, .events = POLLIN };
	struct xbzrle_sync s;
	struct child c;
	unsigned int i;

	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_TRUE(child_start(&c, self->mem));
	ASSERT_EQ(0, dev_register(self->fd, "child", self->mem, LENGTH, c.pid,
				  XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	for (i = 0; i < 4; i++) {
		ASSERT_TRUE(child_writes(&c, 3 * i));
		/* It is the same memory. */
		self->mem[50 * UNIT + i]++;
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(2, sent(self->model));
		EXPECT_EQ(-1, diff(self->model, "child", self->file, LENGTH));
	}
	child_kill(&c);
	EXPECT_EQ(1, poll(&p, 1, -1));
	EXPECT_EQ(POLLERR | POLLHUP, p.revents & (POLLERR | POLLHUP));
	EXPECT_EQ(-ESRCH, dev_sync(self->fd, 0, &s));
	EXPECT_EQ(out.region_id, s.error_region);
	ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));
	EXPECT_EQ(0, dev_poll(self->fd));
}

enum leaves {
	BY_EXIT,
	BY_MUNMAP,
	BY_DONTNEED,
	BY_MREMAP,
	BY_PROT_NONE,
	BY_PROT_READ,
	LEAVES,
};

/* Write pages through a mapping of one's own, and be rid of it. */
static void visit(int file, unsigned int page, unsigned char value, bool read,
		  enum leaves how)
{
	unsigned char *mem = map_file(file, LENGTH);
	unsigned int i;

	/* Read first, a page is writable and clean, and no fault tells. */
	for (i = 0; read && i < PAGES; i++)
		__atomic_load_n(mem + i * UNIT, __ATOMIC_RELAXED);
	mem[page * UNIT + 3] = value;
	mem[(page + 1) * UNIT + 3] = value;
	switch (how) {
	case BY_MUNMAP:
		munmap(mem, LENGTH);
		break;
	case BY_DONTNEED:
		madvise(mem, LENGTH, MADV_DONTNEED);
		break;
	case BY_MREMAP:
		mremap(mem, LENGTH, UNIT, 0);
		break;
	case BY_PROT_NONE:
		mprotect(mem, LENGTH, PROT_NONE);
		break;
	case BY_PROT_READ:
		mprotect(mem, LENGTH, PROT_READ);
		break;
	default:
		break;
	}
}

/*
 * What was written goes with the page table of the writer, who is gone when the
 * harvest comes. Nobody else's page table tells.
 */
TEST_F(mapping, writers_that_have_left)
{
	unsigned int how, read, value = 1;
	pid_t pid;

	for (read = 0; read < 2; read++) {
		for (how = 0; how < LEAVES; how++, value++) {
			pid = fork();
			if (!pid) {
				/* Nothing of the parent's, either. */
				munmap(self->mem, LENGTH);
				visit(self->file, 2 * how, value, read, how);
				_exit(0);
			}
			ASSERT_EQ(0, wait_for(pid));
			EXPECT_ROUND_OF(2);

			/* And as one of ours, which stays. */
			visit(self->file, 2 * how + 20, value, read, how);
			EXPECT_ROUND_OF(2);
		}
	}
	EXPECT_ROUND_OF(0);
}

/* A mapping that is there before, and made writable again by mprotect(). */
TEST_F(mapping, mprotect_does_not_hide_writes)
{
	unsigned char *other = map_file(self->file, LENGTH);
	unsigned char *maps[2] = { self->mem, other };
	unsigned int i;

	ASSERT_NE(NULL, other);
	for (i = 0; i < 2; i++) {
		unsigned char *mem = maps[i];

		mem[2 * UNIT]++;
		EXPECT_ROUND_OF(1);
		ASSERT_EQ(0, mprotect(mem, LENGTH, PROT_READ));
		ASSERT_EQ(0, mprotect(mem, LENGTH, PROT_READ | PROT_WRITE));
		mem[2 * UNIT]++;
		EXPECT_ROUND_OF(1);
		/* Written, closed before the harvest, opened after it. */
		mem[4 * UNIT]++;
		ASSERT_EQ(0, mprotect(mem, LENGTH, PROT_READ));
		EXPECT_ROUND_OF(1);
		ASSERT_EQ(0, mprotect(mem, LENGTH, PROT_READ | PROT_WRITE));
		mem[4 * UNIT]++;
		mem[6 * UNIT]++;
		EXPECT_ROUND_OF(2);
		ASSERT_EQ(0, mprotect(mem, LENGTH, PROT_NONE));
		EXPECT_ROUND_OF(0);
		ASSERT_EQ(0, mprotect(mem, LENGTH, PROT_READ | PROT_WRITE));
		mem[8 * UNIT]++;
		EXPECT_ROUND_OF(1);
	}
	munmap(other, LENGTH);
}

/* A mapping that can be read only, of a file that others write. */
TEST_F(mapping, registered_by_a_reader)
{
	char path[64];
	unsigned char *mem;
	int file;

	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->file);
	file = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, file);
	mem = mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, file, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, dev_register(self->fd, "reader", mem, LENGTH, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	self->mem[UNIT]++;
	self->mem[2 * UNIT]++;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, diff(self->model, "reader", self->file, LENGTH));
	EXPECT_EQ(2, sent(self->model));
	close(file);
}

/*
 * Mappings that cannot be written stand before the one that can, and end what
 * the kernel's own walks of a file's mappings do.
 */
TEST_F(mapping, mapped_by_readers_before)
{
	const int flags[] = { MAP_PRIVATE, MAP_SHARED };
	struct xbzrle_register out;
	unsigned char *reader, *mem;
	unsigned int i, j;
	char path[64];
	int file, copy;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		file = mm_shared_file(LENGTH);
		ASSERT_LE(0, file);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
		copy = open(path, O_RDONLY | O_CLOEXEC);
		ASSERT_LE(0, copy);
		reader = mmap(NULL, LENGTH, PROT_READ, flags[i], copy, 0);
		ASSERT_NE(MAP_FAILED, reader);
		mem = map_file(file, LENGTH);
		ASSERT_NE(NULL, mem);
		memset(mem, 1, LENGTH);
		ASSERT_EQ(0, dev_register(self->fd, i ? "read" : "private", mem,
					  LENGTH, 0, XBZRLE_TRACKER_AUTO, &out));
		ASSERT_EQ(XBZRLE_TRACKER_MAPPING, out.tracker);
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		for (j = 0; j < 3; j++) {
			mem[(5 + j) * UNIT]++;
			mem[7 * UNIT]++;
			ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
			EXPECT_EQ(-1, diff(self->model, i ? "read" : "private",
					   file, LENGTH));
		}
		ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));
		munmap(mem, LENGTH);
		munmap(reader, LENGTH);
		close(copy);
		close(file);
	}
}

TEST_F(mapping, file_is_written)
{
	unsigned int i;

	for (i = 0; i < 3; i++) {
		/* Mapped, not mapped, a hole. */
		ASSERT_EQ(5, pwrite(self->file, "write", 5, 2 * UNIT + i));
		ASSERT_EQ(0, madvise(self->mem + 4 * UNIT, UNIT,
				     MADV_DONTNEED));
		ASSERT_EQ(5, pwrite(self->file, "write", 5, 4 * UNIT + i));
		ASSERT_EQ(5, pwrite(self->file, "write", 5,
				    (7 + 2 * i) * UNIT - 2));
		EXPECT_ROUND_OF(4);
	}
}

TEST_F(mapping, kernel_writes_through_a_mapping)
{
	unsigned char *other = map_file(self->file, LENGTH);
	struct iovec from = { "vmwrite", 7 };
	struct iovec to = { other + 40 * UNIT, 7 };
	int pipefd[2];

	ASSERT_NE(NULL, other);
	ASSERT_EQ(0, pipe(pipefd));
	ASSERT_EQ(12, write(pipefd[1], "through read", 12));
	ASSERT_EQ(12, read(pipefd[0], other + 41 * UNIT, 12));
	ASSERT_EQ(7, process_vm_writev(getpid(), &from, 1, &to, 1, 0));
	munmap(other, LENGTH);
	EXPECT_ROUND_OF(2);
}

/* The kernel writes into pinned pages without a fault. */
TEST_F(mapping, pinned_page_is_written_late)
{
	unsigned char *other = map_file(self->file, LENGTH);
	unsigned char *pinned = other + 10 * UNIT;
	struct xbzrle_stats before, after;
	struct uring u;
	int pipefd[2];
	unsigned int i;

	ASSERT_NE(NULL, other);
	if (uring_open(&u))
		SKIP(return, "no io_uring");
	ASSERT_EQ(0, pipe(pipefd));
	ASSERT_EQ(0, uring_pin(&u, pinned, 4 * UNIT));
	EXPECT_EXACT_ROUND();
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, dev_stats(self->fd, &before));
		EXPECT_ROUND_OF(0);
		ASSERT_EQ(0, dev_stats(self->fd, &after));
		EXPECT_LE(before.pinned_pages + 4, after.pinned_pages);
		ASSERT_EQ(8, write(pipefd[1], "no fault", 8));
		ASSERT_EQ(8, uring_read_pinned(&u, pipefd[0],
					       pinned + i * UNIT + i, 8));
		EXPECT_ROUND_OF(1);
	}
	/* Written after the harvest, before it is read. */
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	ASSERT_EQ(8, write(pipefd[1], "too late", 8));
	ASSERT_EQ(8, uring_read_pinned(&u, pipefd[0], pinned + UNIT, 8));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EXACT_ROUND();
	/* Written, and neither pinned nor mapped at the harvest. */
	ASSERT_EQ(8, write(pipefd[1], "last one", 8));
	ASSERT_EQ(8, uring_read_pinned(&u, pipefd[0], pinned, 8));
	munmap(other, LENGTH);
	uring_close(&u);
	EXPECT_ROUND_OF(1);
}

/*
 * Pinned, written and let go of between two rounds, of which the page's flag
 * knows nothing: who has only read a page may write it, and pin it for that,
 * without a fault.
 */
TEST_F(mapping, pinned_between_two_rounds)
{
	unsigned char *other = map_file(self->file, LENGTH), *page;
	volatile unsigned char *byte;
	struct uring u;
	int pipefd[2];
	unsigned int i;

	ASSERT_NE(NULL, other);
	ASSERT_EQ(0, pipe(pipefd));
	if (uring_open(&u))
		SKIP(return, "no io_uring");
	for (i = 1; i < 9; i++) {
		/* By the mapping that is registered, and by a new one. */
		page = (i & 1 ? other : self->mem) + (10 + i / 2 * 2) * UNIT;
		byte = page;
		if (i & 2)
			ASSERT_EQ(0, madvise(page, UNIT, MADV_DONTNEED));
		(void)*byte;
		ASSERT_EQ(0, uring_pin(&u, page, UNIT));
		ASSERT_EQ(sizeof(i), write(pipefd[1], &i, sizeof(i)));
		ASSERT_EQ(sizeof(i), uring_read_pinned(&u, pipefd[0], page,
						       sizeof(i)));
		ASSERT_EQ(0, uring_unpin(&u));
		EXPECT_EXACT_ROUND();
	}
	uring_close(&u);
	munmap(other, LENGTH);
}

/* A disk writes into a page that nobody maps any more, between two rounds. */
TEST_F(mapping, direct_read)
{
	unsigned char *page = self->mem + 10 * UNIT;
	struct slow_disk d;
	unsigned int i;

	ASSERT_EQ(0, slow_disk_open(&d));
	for (i = 1; i < 4; i++) {
		ASSERT_EQ(0, slow_disk_read(&d, page));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		ASSERT_EQ(0, madvise(page, UNIT, MADV_DONTNEED));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		ASSERT_EQ(0, slow_disk_answer(&d, i));
		EXPECT_EXACT_ROUND();
		EXPECT_EQ(i, page[UNIT - 1]);
	}
	slow_disk_close(&d);
}

TEST_F(mapping, holes_stay_holes)
{
	struct stat before, after;
	unsigned int i;

	ASSERT_EQ(0, fstat(self->file, &before));
	for (i = 0; i < 3; i++) {
		self->mem[2 * UNIT]++;
		EXPECT_ROUND_OF(1);
	}
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FULL));
	EXPECT_EQ(PAGES / 2, sent(self->model));
	ASSERT_EQ(0, fstat(self->file, &after));
	EXPECT_EQ(before.st_blocks, after.st_blocks);
	EXPECT_EQ(0, self->model->all.zero);
}

TEST_F(mapping, punched_by_whomever)
{
	struct child c;

	ASSERT_TRUE(child_start(&c, self->mem));
	ASSERT_EQ(0, fallocate(self->file, PUNCH, 4 * UNIT, 3 * UNIT));
	EXPECT_ROUND_OF(2);
	EXPECT_EQ(2, self->model->round.zero);
	EXPECT_ROUND_OF(0);
	ASSERT_EQ(0, madvise(self->mem + 8 * UNIT, UNIT, MADV_REMOVE));
	EXPECT_ROUND_OF(1);

	/* Gone and back, in part as before, by another. */
	ASSERT_EQ(0, fallocate(self->file, PUNCH, 10 * UNIT, UNIT));
	ASSERT_TRUE(child_writes(&c, 10));
	EXPECT_ROUND_OF(1);
	/* Parts of pages are zeroed in place, mapped or not. */
	ASSERT_EQ(0, madvise(self->mem + 12 * UNIT, UNIT, MADV_DONTNEED));
	ASSERT_EQ(0, fallocate(self->file, PUNCH, 12 * UNIT, 9));
	ASSERT_EQ(0, fallocate(self->file, PUNCH, 14 * UNIT, 9));
	EXPECT_ROUND_OF(2);
	child_kill(&c);
}

TEST_F(mapping, truncated_and_grown)
{
	ASSERT_EQ(0, ftruncate(self->file, LENGTH / 2));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(PAGES / 4, self->model->round.zero);
	EXPECT_SAME();
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(0, sent(self->model));
	ASSERT_EQ(0, ftruncate(self->file, LENGTH));
	self->mem[LENGTH / 2 + 1] = 1;
	EXPECT_ROUND_OF(1);
	/* In the middle of a page. */
	ASSERT_EQ(0, ftruncate(self->file, 2 * UNIT));
	ASSERT_EQ(0, ftruncate(self->file, LENGTH));
	EXPECT_EXACT_ROUND();
	self->mem[9] = 9;
	EXPECT_ROUND_OF(1);
	ASSERT_EQ(0, ftruncate(self->file, 5));
	EXPECT_ROUND_OF(1);
	ASSERT_EQ(0, ftruncate(self->file, LENGTH));
	EXPECT_ROUND_OF(0);
}

static void fill(int file, size_t length, unsigned char value)
{
	unsigned char unit[UNIT];
	size_t at;

	for (at = 0; at < length; at += UNIT) {
		memset(unit, value + at / UNIT, UNIT);
		pwrite(file, unit, UNIT, at);
	}
}

/* How many pages are not as fill() has left them. */
static unsigned int spoilt(int file, size_t length, unsigned char value)
{
	unsigned char unit[UNIT], want[UNIT];
	unsigned int bad = 0;
	size_t at;

	for (at = 0; at < length; at += UNIT) {
		memset(want, value + at / UNIT, UNIT);
		bad += pread(file, unit, UNIT, at) != (ssize_t)UNIT ||
		       memcmp(unit, want, UNIT);
	}
	return bad;
}

/*
 * Nobody maps the pages, and the tracker has made them look as if they had no
 * content. The kernel must not take them for such, now or later.
 */
TEST_F(mapping, content_outlives_reclaim)
{
	const size_t length = 4UL << 20;
	int file = mm_shared_file(length), tries;
	unsigned char *mem = map_file(file, length);
	struct xbzrle_register out;

	ASSERT_NE(NULL, mem);
	mm_swap_on();
	fill(file, length, 1);
	ASSERT_EQ(0, dev_register(self->fd, "much", mem, length, 0,
				  XBZRLE_TRACKER_AUTO, &out));
	for (tries = 0; tries < 3; tries++) {
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		ASSERT_EQ(0, madvise(mem, length, MADV_DONTNEED));
		ASSERT_EQ(0, mm_write_file("/proc/sys/vm/drop_caches", "3"));
		EXPECT_EQ(0, spoilt(file, length, 1));
		ASSERT_EQ(0, madvise(mem, length, MADV_POPULATE_READ));
		ASSERT_EQ(0, madvise(mem, length, MADV_PAGEOUT));
		ASSERT_EQ(0, mm_write_file("/proc/sys/vm/compact_memory", "1"));
		EXPECT_EQ(0, spoilt(file, length, 1));
	}
	ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));
	for (tries = 0; tries < 3; tries++) {
		ASSERT_EQ(0, madvise(mem, length, MADV_POPULATE_READ));
		ASSERT_EQ(0, madvise(mem, length, MADV_PAGEOUT));
		ASSERT_EQ(0, madvise(mem, length, MADV_DONTNEED));
		ASSERT_EQ(0, mm_write_file("/proc/sys/vm/drop_caches", "3"));
		EXPECT_EQ(0, spoilt(file, length, 1));
	}
	munmap(mem, length);
	close(file);
}

/* Have memory about that is free and was written. */
static bool free_written_memory(void)
{
	const size_t length = 16UL << 20;
	unsigned char *mem = mm_anon(length);

	if (!mem)
		return false;
	memset(mem, 0xa5, length);
	return !munmap(mem, length);
}

/*
 * Of what is allocated ahead, pages still have what was there before: they are
 * cleared when somebody touches them.
 */
TEST_F(mapping, allocated_and_never_touched)
{
	static const uint32_t trackers[] = {
		XBZRLE_TRACKER_MAPPING, XBZRLE_TRACKER_EXTERNAL,
		XBZRLE_TRACKER_PTE,
	};
	struct xbzrle_register out;
	unsigned char *mem;
	unsigned int i;
	int file;

	for (i = 0; i < ARRAY_SIZE(trackers); i++) {
		char name[2] = { 'a' + i };

		if (trackers[i] == XBZRLE_TRACKER_PTE && !dev_has_pte())
			continue;
		ASSERT_TRUE(free_written_memory());
		file = mm_shared_file(LENGTH);
		ASSERT_EQ(0, fallocate(file, 0, 0, LENGTH));
		mem = map_file(file, LENGTH);
		ASSERT_NE(NULL, mem);
		ASSERT_EQ(0, dev_register(self->fd, name, mem, LENGTH, 0,
					  trackers[i], &out));
		if (trackers[i] == XBZRLE_TRACKER_EXTERNAL)
			ASSERT_EQ(0, dev_mark_units(self->fd, out.region_id, 0,
						    PAGES));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(0, self->model->round.page);
		EXPECT_EQ(-1, model_diff(self->model, name, mem, 0, LENGTH));
		ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));
		munmap(mem, LENGTH);
		close(file);
	}
}

/* Nobody reads it, and what else there is can be had. */
TEST_F(mapping, broken_page)
{
	char byte;
	pid_t pid;
	int status;

	self->mem[4 * UNIT]++;
	self->mem[6 * UNIT]++;
	pid = fork();
	if (!pid)
		_exit(madvise(self->mem + 4 * UNIT, UNIT, MADV_HWPOISON) &&
		      errno == EINVAL);
	/* Some kernels (6.12) end who does that with SIGBUS. */
	status = wait_for(pid);
	if (WIFEXITED(status) && WEXITSTATUS(status))
		return;
	ASSERT_EQ(-1, pread(self->file, &byte, 1, 4 * UNIT));
	ASSERT_EQ(EIO, errno);
	EXPECT_EQ(-EIO, dev_sync(self->fd, XBZRLE_SYNC_POINT_IN_TIME, NULL));
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	EXPECT_EQ(-EIO, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(-EIO, dev_read_round(self->fd, self->model, 65536));
	/* A hole in its place ends that. */
	ASSERT_EQ(0, fallocate(self->file, PUNCH, 4 * UNIT, UNIT));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_SAME();
	self->mem[8 * UNIT]++;
	EXPECT_ROUND_OF(1);
}

TEST_F(mapping, sealed_when_it_is_dropped)
{
	int file = memfd_create("sealed", MFD_ALLOW_SEALING);
	struct xbzrle_register out;
	unsigned char *mem;

	ASSERT_LE(0, file);
	ASSERT_EQ(0, ftruncate(file, LENGTH));
	fill(file, LENGTH, 1);
	mem = map_file(file, LENGTH);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, dev_register(self->fd, "sealed", mem, LENGTH, 0,
				  XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	munmap(mem, LENGTH);
	EXPECT_EQ(-1, fcntl(file, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_EQ(EBUSY, errno);
	ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));
	EXPECT_EQ(0, fcntl(file, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_EQ(0, spoilt(file, LENGTH, 1));
	close(file);
}

TEST_F(mapping, swap_loses_nothing)
{
	const size_t length = 4UL << 20;
	int file = mm_shared_file(length);
	unsigned char *mem = map_file(file, length);
	size_t at;

	ASSERT_NE(NULL, mem);
	if (!mm_swap_on())
		SKIP(return, "no zram");
	for (at = 0; at < length; at += UNIT)
		mem[at] = at / UNIT | 1;
	/* Pages that are in swap when the region is made. */
	ASSERT_EQ(0, madvise(mem, length, MADV_PAGEOUT));
	ASSERT_EQ(0, dev_register(self->fd, "swap", mem, length, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	ASSERT_EQ(0, madvise(mem, length, MADV_PAGEOUT));
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(length / UNIT, sent(self->model));
	EXPECT_EQ(-1, diff(self->model, "swap", file, length));
	for (at = 0; at < length; at += 16 * UNIT)
		mem[at + 9]++;
	ASSERT_EQ(0, madvise(mem, length, MADV_PAGEOUT));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, diff(self->model, "swap", file, length));
	for (at = 0; at < length; at += 32 * UNIT)
		mem[at + 10]++;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, diff(self->model, "swap", file, length));
	munmap(mem, length);
	close(file);
}

#if MM_HAVE_HUGE_PAGES
static unsigned char *map_huge(int file, size_t length)
{
	void *mem = mm_anon_huge(length);

	return mmap(mem, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    file, 0) == mem ? mem : NULL;
}

/* Mapped huge and writable by several, which kernel helpers must not see. */
TEST_F(mapping, huge_pages)
{
	const size_t length = 4 * HUGE_SIZE;
	unsigned char *mem, *other;
	struct xbzrle_register out;
	unsigned int i, huge = 0;
	int file;
	pid_t pid;

	if (mm_write_file(THP "shmem_enabled", "always"))
		SKIP(return, "no huge pages");
	file = mm_shared_file(length);
	/* One place has small pages. */
	ASSERT_EQ(0, mm_write_file(THP "shmem_enabled", "never"));
	ASSERT_EQ(1, pwrite(file, "x", 1, HUGE_SIZE + 3 * UNIT));
	ASSERT_EQ(0, mm_write_file(THP "shmem_enabled", "always"));
	mem = map_huge(file, length);
	other = map_huge(file, length);
	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, other);
	memset(mem, 0x21, length / 2);
	memset(other, 0x22, HUGE_SIZE);
	ASSERT_EQ(0, dev_set_cache(self->fd, length + LENGTH));
	ASSERT_EQ(0, dev_register(self->fd, "huge", mem, length, 0,
				  XBZRLE_TRACKER_AUTO, &out));
	for (i = 1; i < 6; i++) {
		huge += !!mm_huge_bytes(other);
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(-1, diff(self->model, "huge", file, length));
		mem[i * UNIT]++;
		other[5 * UNIT + i]++;
		other[HUGE_SIZE + 9 * UNIT]++;
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(-1, diff(self->model, "huge", file, length));
		/* Read first, and gone before the harvest. */
		pid = fork();
		if (!pid) {
			munmap(mem, length);
			munmap(other, length);
			mem = map_huge(file, length);
			__atomic_load_n(mem + i * UNIT, __ATOMIC_RELAXED);
			mem[i * UNIT + 7]++;
			mem[HUGE_SIZE + 7 * UNIT]++;
			/* And a huge page in a hole. */
			mem[2 * HUGE_SIZE + i * UNIT]++;
			_exit(0);
		}
		ASSERT_EQ(0, wait_for(pid));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(-1, diff(self->model, "huge", file, length));
		/* A part of one goes. */
		ASSERT_EQ(0, fallocate(file, PUNCH, i * 9 * UNIT, UNIT));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(-1, diff(self->model, "huge", file, length));
	}
	EXPECT_LT(0, huge);
	mm_write_file(THP "shmem_enabled", "never");
	munmap(mem, length);
	munmap(other, length);
	ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));
	EXPECT_TRUE(let_go_of(file));
	close(file);
}

/* Regions that end in the middle of a huge page, which has one dirty flag. */
TEST_F(mapping, huge_page_of_two_regions)
{
	const size_t length = HUGE_SIZE, half = length / 2;
	unsigned char *mem;
	unsigned int i;
	int file;

	if (mm_write_file(THP "shmem_enabled", "always"))
		SKIP(return, "no huge pages");
	file = mm_shared_file(length);
	mem = map_huge(file, length);
	ASSERT_NE(NULL, mem);
	memset(mem, 0x21, length);
	ASSERT_EQ(0, dev_set_cache(self->fd, length + LENGTH));
	ASSERT_EQ(0, dev_register(self->fd, "low", mem, half, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_register(self->fd, "high", mem + half, half, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	for (i = 0; i < 4; i++) {
		mem[i * UNIT]++;
		mem[half + 3 * i * UNIT]++;
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(-1, model_diff(self->model, "low", mem, 0, half));
		EXPECT_EQ(-1, model_diff(self->model, "high", mem + half, 0,
					 half));
	}
	mm_write_file(THP "shmem_enabled", "never");
	munmap(mem, length);
	close(file);
}

/* Larger pages than small ones, which have one flag each. */
TEST_F(mapping, pages_of_64_kib)
{
	const size_t length = HUGE_SIZE, large = 16 * UNIT;
	const size_t part = 5 * large + 7 * UNIT;
	unsigned char *mem;
	unsigned int i;

	if (mm_write_file(THP "hugepages-64kB/shmem_enabled", "always"))
		return;
	mem = mmap(NULL, length, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	memset(mem, 0x31, length);
	ASSERT_EQ(0, dev_set_cache(self->fd, length + LENGTH));
	/* Each has a part of the same page. */
	ASSERT_EQ(0, dev_register(self->fd, "low", mem, part, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_register(self->fd, "high", mem + part, length - part,
				  0, XBZRLE_TRACKER_AUTO, NULL));
	for (i = 1; i < 9; i++) {
		mem[i * UNIT]++;
		mem[part - i]++;
		mem[part + i * 17 * UNIT]++;
		mem[part + i]++;
		if (i & 1)
			ASSERT_EQ(0, madvise(mem, length, MADV_DONTNEED));
		if (i == 6)
			ASSERT_EQ(0, madvise(mem + 3 * UNIT, large,
					     MADV_REMOVE));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(-1, model_diff(self->model, "low", mem, 0, part));
		EXPECT_EQ(-1, model_diff(self->model, "high", mem + part, 0,
					 length - part));
	}
	mm_write_file(THP "hugepages-64kB/shmem_enabled", "never");
	munmap(mem, length);
}

/**
 * struct collapser - a thread that makes huge pages of what it can
 * @file: of which
 * @length: of it
 * @stop: ends it
 * @huge: it had one
 */
struct collapser {
	int file;
	size_t length;
	int stop;
	int huge;
};

static void *collapse(void *arg)
{
	struct collapser *c = arg;
	unsigned char *mem = map_huge(c->file, c->length);
	size_t at;

	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		fallocate(c->file, PUNCH, 0, c->length);
		for (at = 0; at < c->length; at += 16 * UNIT)
			mem[at] = at / UNIT + 1;
		madvise(mem, c->length, MADV_COLLAPSE);
		for (at = 0; at < c->length; at += 16 * UNIT)
			mem[at]++;
		/* Whoever maps them, and how. */
		if (mm_meminfo("ShmemHugePages:") > 0)
			__atomic_store_n(&c->huge, 1, __ATOMIC_RELAXED);
	}
	munmap(mem, c->length);
	return NULL;
}

/* Huge pages come and go under the harvest. */
TEST_F(mapping, collapsed_while_rounds_run)
{
	struct collapser c = { .length = 2 * HUGE_SIZE };
	unsigned char *mem;
	pthread_t thread;
	unsigned int i;

	c.file = mm_shared_file(c.length);
	mem = map_file(c.file, c.length);
	ASSERT_NE(NULL, mem);
	mm_write_file(THP "shmem_enabled", "advise");
	ASSERT_EQ(0, dev_register(self->fd, "collapse", mem, c.length, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, pthread_create(&thread, NULL, collapse, &c));
	for (i = 0; i < 5000; i++) {
		if (i >= 60 && __atomic_load_n(&c.huge, __ATOMIC_RELAXED))
			break;
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	}
	__atomic_store_n(&c.stop, 1, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, diff(self->model, "collapse", c.file, c.length));
	if (!c.huge)
		SKIP(goto never, "no huge page to be had");
never:
	mm_write_file(THP "shmem_enabled", "never");
	munmap(mem, c.length);
	close(c.file);
}
#endif

/* One file's page has one dirty flag, whoever maps it. */
TEST_F(mapping, registered_once)
{
	unsigned char *other = map_file(self->file, LENGTH);
	struct xbzrle_register out;
	int fd = dev_open();
	struct child c;

	ASSERT_NE(NULL, other);
	ASSERT_TRUE(child_start(&c, self->mem));
	EXPECT_EQ(-EBUSY, dev_register(self->fd, "a", self->mem, LENGTH, 0,
				       XBZRLE_TRACKER_AUTO, NULL));
	EXPECT_EQ(-EBUSY, dev_register(self->fd, "a", other + LENGTH - UNIT,
				       UNIT, 0, XBZRLE_TRACKER_MAPPING, NULL));
	EXPECT_EQ(-EBUSY, dev_register(fd, "a", self->mem, LENGTH, c.pid,
				       XBZRLE_TRACKER_AUTO, NULL));
	/* Other trackers take nothing away. */
	EXPECT_EQ(0, dev_register(fd, "a", other, LENGTH, 0,
				  XBZRLE_TRACKER_EXTERNAL, NULL));
	if (dev_has_pte())
		EXPECT_EQ(0, dev_register(fd, "b", other, LENGTH, 0,
					  XBZRLE_TRACKER_PTE, NULL));
	close(fd);
	/* Free again, in parts, which do not overlap. */
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_EQ(0, dev_register(self->fd, "a", other, 4 * UNIT, 0,
				  XBZRLE_TRACKER_AUTO, &out));
	EXPECT_EQ(0, dev_register(self->fd, "b", self->mem + 4 * UNIT, UNIT, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	EXPECT_EQ(-EBUSY, dev_register(self->fd, "c", self->mem + 3 * UNIT,
				       UNIT, c.pid, XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-1, model_diff(self->model, "a", self->mem, 0, 4 * UNIT));
	child_kill(&c);
	munmap(other, LENGTH);
}

/* Beside a tracker that takes write permissions of one of the mappings. */
TEST_F(mapping, beside_the_pte_tracker)
{
	unsigned char *other = map_file(self->file, LENGTH);
	unsigned int i;

	ASSERT_NE(NULL, other);
	if (!dev_has_pte())
		return;
	ASSERT_EQ(0, dev_register(self->fd, "pte", other, LENGTH, 0,
				  XBZRLE_TRACKER_PTE, NULL));
	for (i = 0; i < 6; i++) {
		other[2 * i * UNIT]++;
		self->mem[(2 * i + 1) * UNIT]++;
		EXPECT_EXACT_ROUND();
		other[2 * i * UNIT]++;
		EXPECT_EXACT_ROUND();
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	}
	munmap(other, LENGTH);
}

TEST_F(mapping, several_mappings_of_one_file)
{
	unsigned char *mem = map_file(self->file, LENGTH);
	struct xbzrle_register out;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	ASSERT_EQ(0, mprotect(mem + 8 * UNIT, 8 * UNIT, PROT_READ));
	ASSERT_EQ(0, mprotect(mem + 32 * UNIT, UNIT, PROT_NONE));
	ASSERT_EQ(0, dev_register(self->fd, "parts", mem, LENGTH, 0,
				  XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	mem[0]++;
	self->mem[9 * UNIT]++;
	self->mem[32 * UNIT]++;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(3, sent(self->model));
	EXPECT_EQ(-1, diff(self->model, "parts", self->file, LENGTH));
	ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));

	/* Another part of the file in between is not one piece of it. */
	ASSERT_EQ(mem + 4 * UNIT, mmap(mem + 4 * UNIT, UNIT, PROT_READ,
				       MAP_SHARED | MAP_FIXED, self->file,
				       5 * UNIT));
	EXPECT_EQ(-EOPNOTSUPP, dev_register(self->fd, "a", mem, LENGTH, 0,
					    XBZRLE_TRACKER_AUTO, &out));
	EXPECT_EQ((uintptr_t)mem + 4 * UNIT, out.error_addr);
	munmap(mem, LENGTH);
}

/* Each with the address that is the reason. */
TEST_F(mapping, memory_that_is_refused)
{
	unsigned char *mem = mm_anon(LENGTH);
	struct xbzrle_register out;
	int file = mm_shared_file(LENGTH), rfd;

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(-EOPNOTSUPP, dev_register(self->fd, "a", mem, LENGTH, 0,
					    XBZRLE_TRACKER_MAPPING, &out));
	EXPECT_EQ((uintptr_t)mem, out.error_addr);
	EXPECT_EQ(0, out.region_id);
	/* Shared, then private; another file; a hole. */
	ASSERT_EQ(mem, mmap(mem, 8 * UNIT, PROT_READ, MAP_SHARED | MAP_FIXED,
			    file, 0));
	EXPECT_EQ(-EOPNOTSUPP, dev_register(self->fd, "a", mem, LENGTH, 0,
					    XBZRLE_TRACKER_AUTO, &out));
	EXPECT_EQ((uintptr_t)mem + 8 * UNIT, out.error_addr);
	ASSERT_EQ(mem + 8 * UNIT,
		  mmap(mem + 8 * UNIT, 8 * UNIT, PROT_READ,
		       MAP_SHARED | MAP_FIXED, self->file, 8 * UNIT));
	EXPECT_EQ(-EOPNOTSUPP, dev_register(self->fd, "a", mem, 16 * UNIT, 0,
					    XBZRLE_TRACKER_AUTO, &out));
	EXPECT_EQ((uintptr_t)mem + 8 * UNIT, out.error_addr);
	ASSERT_EQ(0, munmap(mem + 4 * UNIT, UNIT));
	EXPECT_EQ(-EFAULT, dev_register(self->fd, "a", mem, LENGTH, 0,
					XBZRLE_TRACKER_AUTO, &out));
	EXPECT_EQ((uintptr_t)mem + 4 * UNIT, out.error_addr);
	/* A private mapping of it; a file of another kind; owned memory. */
	ASSERT_EQ(mem, mmap(mem, UNIT, PROT_READ, MAP_PRIVATE | MAP_FIXED, file,
			    0));
	EXPECT_EQ(-EOPNOTSUPP, dev_register(self->fd, "a", mem, UNIT, 0,
					    XBZRLE_TRACKER_MAPPING, NULL));
	close(file);
	mkdir("/tmp/ramfs", 0700);
	ASSERT_EQ(0, mount("ramfs", "/tmp/ramfs", "ramfs", 0, NULL));
	file = open("/tmp/ramfs/file", O_RDWR | O_CREAT | O_EXCL, 0600);
	ASSERT_LE(0, file);
	ASSERT_EQ(0, ftruncate(file, LENGTH));
	mem = map_file(file, LENGTH);
	ASSERT_NE(NULL, mem);
	EXPECT_EQ(-EOPNOTSUPP, dev_register(self->fd, "a", mem, LENGTH, 0,
					    XBZRLE_TRACKER_AUTO, NULL));
	EXPECT_EQ(-EOPNOTSUPP, dev_register(self->fd, "a", mem, LENGTH, 0,
					    XBZRLE_TRACKER_MAPPING, NULL));
	close(file);
	munmap(mem, LENGTH);
	EXPECT_EQ(0, umount("/tmp/ramfs"));
	rfd = dev_create(self->fd, "owned", LENGTH, NULL);
	ASSERT_LE(0, rfd);
	mem = map_file(rfd, LENGTH);
	ASSERT_NE(NULL, mem);
	EXPECT_EQ(-EOPNOTSUPP, dev_register(self->fd, "a", mem, LENGTH, 0,
					    XBZRLE_TRACKER_AUTO, NULL));
	EXPECT_EQ(-EOPNOTSUPP, dev_register(self->fd, "a", mem, LENGTH, 0,
					    XBZRLE_TRACKER_MAPPING, NULL));
	close(rfd);
}

#if MM_HAVE_HUGE_PAGES
TEST_F(mapping, hugetlbfs_is_refused)
{
	void *mem;

	if (mm_write_file("/proc/sys/vm/nr_hugepages", "1"))
		SKIP(return, "no hugetlbfs");
	mem = mmap(NULL, HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED |
		   MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_EQ(-EOPNOTSUPP, dev_register(self->fd, "a", mem, HUGE_SIZE, 0,
					    XBZRLE_TRACKER_AUTO, NULL));
	EXPECT_EQ(-EOPNOTSUPP, dev_register(self->fd, "a", mem, HUGE_SIZE, 0,
					    XBZRLE_TRACKER_MAPPING, NULL));
	munmap(mem, HUGE_SIZE);
	mm_write_file("/proc/sys/vm/nr_hugepages", "0");
}
#endif

TEST_F(mapping, unmapped_mapped_over_and_moved)
{
	unsigned char *mem = map_file(self->file, LENGTH), *to = mm_anon(LENGTH);
	struct xbzrle_register out;
	struct xbzrle_sync s;
	unsigned int i;

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, to);
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	for (i = 0; i < 3; i++) {
		char name[2] = { 'a' + i };

		ASSERT_EQ(0, dev_register(self->fd, name, mem, LENGTH, 0,
					  XBZRLE_TRACKER_AUTO, &out));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		if (i == 0) {
			ASSERT_EQ(0, munmap(mem + 7 * UNIT, UNIT));
		} else if (i == 1) {
			ASSERT_EQ(mem + 7 * UNIT,
				  mmap(mem + 7 * UNIT, UNIT, PROT_READ,
				       MAP_SHARED | MAP_FIXED, self->file,
				       7 * UNIT));
		} else {
			ASSERT_EQ(to, mremap(mem, LENGTH, LENGTH,
					     MREMAP_MAYMOVE | MREMAP_FIXED,
					     to));
		}
		EXPECT_EQ(-EFAULT, dev_sync(self->fd, 0, &s));
		EXPECT_EQ((uintptr_t)mem + (i == 2 ? 0 : 7 * UNIT),
			  s.error_addr);
		EXPECT_EQ(out.region_id, s.error_region);
		ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));
		if (i < 2)
			ASSERT_EQ(mem, mmap(mem, LENGTH, PROT_READ | PROT_WRITE,
					    MAP_SHARED | MAP_FIXED, self->file,
					    0));
	}
	munmap(to, LENGTH);
}

/* Nothing of it stays behind: a file that is held anyhow cannot be sealed. */
TEST_F(mapping, pages_are_let_go_of)
{
	ASSERT_EQ(0, fallocate(self->file, PUNCH, 0, 8 * UNIT));
	EXPECT_EXACT_ROUND();
	ASSERT_EQ(0, munmap(self->mem, LENGTH));
	EXPECT_EQ(-1, fcntl(self->file, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_EQ(EBUSY, errno);
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	EXPECT_TRUE(let_go_of(self->file));
}

/* KiB that a process has locked, or -1. */
static long locked_by(pid_t pid)
{
	char path[32], text[4096], *p;
	long kib;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (mm_read_file(path, text, sizeof(text)))
		return -1;
	p = strstr(text, "VmLck:");
	return p && sscanf(p, "VmLck: %ld kB", &kib) == 1 ? kib : -1;
}

static long locked(void)
{
	return locked_by(getpid());
}

static int register_as_user(unsigned char *mem)
{
	const struct rlimit limit = { LENGTH, LENGTH };
	int fd = dev_open(), ret;

	if (fd < 0 || setrlimit(RLIMIT_MEMLOCK, &limit) ||
	    setresuid(USER, USER, USER))
		return 1;
	ret = dev_register(fd, "a", mem, LENGTH + UNIT, 0, XBZRLE_TRACKER_AUTO,
			   NULL);
	if (ret != -ENOMEM || locked())
		return 2;
	if (dev_register(fd, "a", mem, LENGTH, 0, XBZRLE_TRACKER_AUTO, NULL) ||
	    locked() != (long)LENGTH / 1024)
		return 3;
	/* What was refused is free, and the limit is of all there is. */
	if (dev_register(fd, "b", mem + LENGTH, UNIT, 0, XBZRLE_TRACKER_AUTO,
			 NULL) != -ENOMEM)
		return 4;
	close(fd);
	return locked() ? 5 : 0;
}

/* It is: its pages are held. */
TEST_F(mapping, counts_as_locked_memory)
{
	unsigned char *mem;
	long before;
	pid_t pid;

	before = locked();
	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	EXPECT_EQ(before - (long)LENGTH / 1024, locked());
	mem = mmap(NULL, 2 * LENGTH, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	pid = fork();
	if (!pid)
		_exit(register_as_user(mem));
	EXPECT_EQ(0, WEXITSTATUS(wait_for(pid)));
}

/* And not of the process whose memory it is. */
TEST_F(mapping, counts_as_locked_memory_of_who_registers)
{
	struct xbzrle_register out;
	struct child c;
	long before;

	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	before = locked();
	ASSERT_TRUE(child_start(&c, self->mem));
	ASSERT_EQ(0, dev_register(self->fd, "child", self->mem, LENGTH, c.pid,
				  XBZRLE_TRACKER_MAPPING, &out));
	EXPECT_EQ(before + (long)LENGTH / 1024, locked());
	EXPECT_EQ(0, locked_by(c.pid));
	ASSERT_EQ(0, dev_unregister(self->fd, out.region_id));
	EXPECT_EQ(before, locked());
	EXPECT_EQ(0, locked_by(c.pid));
	child_kill(&c);
}

TEST_F(mapping, large_sparse_file)
{
	const size_t length = 64UL << 30, step = length / 16;
	struct xbzrle_sync s;
	int file = mm_shared_file(length);
	unsigned char *mem;
	unsigned int i;

	mem = mmap(NULL, length, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_NORESERVE, file, 0);
	ASSERT_NE(MAP_FAILED, mem);
	for (i = 0; i < 16; i++)
		mem[i * step + i * UNIT] = i + 1;
	ASSERT_EQ(0, dev_register(self->fd, "sparse", mem, length, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
	/* And those of the other region that are new, and held for a moment. */
	EXPECT_LE(16, s.dirty_pages);
	EXPECT_GT(16 + 40, s.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, NULL, 65536));
	for (i = 0; i < 4; i++) {
		mem[3 * step + i]++;
		mem[length - 1 - i]++;
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		EXPECT_LE(2, s.dirty_pages);
		EXPECT_GT(40, s.dirty_pages);
		ASSERT_EQ(0, dev_read_round(self->fd, NULL, 65536));
	}
	munmap(mem, length);
	close(file);
}

/* What was written before the SYNC is in its round, whoever leaves during it. */
TEST_F(mapping, writer_leaves_during_the_harvest)
{
	unsigned int i;
	int pipefd[2];
	char done;
	pid_t pid;

	ASSERT_EQ(0, pipe(pipefd));
	for (i = 0; i < 100; i++) {
		pid = fork();
		if (!pid) {
			/* By a PTE that a read has made, which the page does not learn of. */
			volatile unsigned char *page =
				map_file(self->file, LENGTH) + i % PAGES * UNIT;

			(void)*page;
			(*page)++;
			_exit(write(pipefd[1], "", 1) != 1);
		}
		ASSERT_LT(0, pid);
		ASSERT_EQ(1, read(pipefd[0], &done, 1));
		EXPECT_EXACT_ROUND();
		EXPECT_EQ(0, wait_for(pid));
	}
	close(pipefd[0]);
	close(pipefd[1]);
}

/*
 * A process that comes, writes and leaves in the middle of harvests: whatever
 * its page tables were when it left is in a round by the end.
 */
TEST_F(mapping, visitors_while_rounds_run)
{
	struct mm_turns turns = { .least = 20, .most = 150 };
	unsigned int i;
	pid_t pid;

	while (mm_another_turn(&turns)) {
		i = turns.done;
		pid = fork();
		if (!pid) {
			visit(self->file, i % (PAGES - 1), i, i & 1,
			      i % LEAVES);
			_exit(0);
		}
		ASSERT_LT(0, pid);
		while (!waitpid(pid, NULL, WNOHANG))
			ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EXACT_ROUND();
	}
}

/* What the processes of writers_run_on do, each of them one of these. */
static void write_at_random(int file, size_t length, unsigned int kind,
			    uint64_t seed)
{
	unsigned char *mem = map_file(file, length);
	size_t at;

	for (;;) {
		unsigned int many = rnd_below(&seed, 200);

		while (many--) {
			at = rnd(&seed) % length;
			switch (kind) {
			case 0:
				pwrite(file, &seed, sizeof(seed),
				       at & ~(sizeof(seed) - 1));
				break;
			case 1:
				if (!rnd_below(&seed, 50))
					fallocate(file, PUNCH, at, 3 * UNIT);
				break;
			case 2:
				__atomic_load_n(mem + at, __ATOMIC_RELAXED);
				/* fall through */
			default:
				mem[at] = rnd(&seed);
			}
		}
		if (kind == 2) {
			munmap(mem, length);
			mem = map_file(file, length);
		} else if (kind == 3) {
			madvise(mem, length, rnd_below(&seed, 2) ?
				MADV_DONTNEED : MADV_PAGEOUT);
		} else if (kind == 4) {
			mprotect(mem, length, PROT_READ);
			mprotect(mem, length, PROT_READ | PROT_WRITE);
		}
	}
}

#define KINDS		6

/* Stopped for each comparison, which is thus of every write there was. */
TEST_F(mapping, writers_run_on)
{
	struct mm_turns turns = { .least = 4, .most = 40 };
	const size_t length = 600 * UNIT;
	int file = mm_shared_file(length);
	unsigned char *mem = map_file(file, length);
	pid_t pids[KINDS];
	unsigned int i, turn;
	siginfo_t info;

	ASSERT_NE(NULL, mem);
	mm_swap_on();
	ASSERT_EQ(0, dev_set_cache(self->fd, length / 2));
	ASSERT_EQ(0, dev_register(self->fd, "random", mem, length, 0,
				  XBZRLE_TRACKER_AUTO, NULL));
	for (i = 0; i < KINDS; i++) {
		pids[i] = fork();
		if (!pids[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			write_at_random(file, length, i, i + 1);
		}
		ASSERT_LT(0, pids[i]);
	}
	while (mm_another_turn(&turns)) {
		turn = turns.done;
		for (i = 0; i < 4; i++) {
			mem[turn * i * UNIT % length]++;
			ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		}
		for (i = 0; i < KINDS; i++) {
			kill(pids[i], SIGSTOP);
			waitid(P_PID, pids[i], &info, WSTOPPED);
		}
		/* One is gone for good, and another comes. */
		if (turn % 4 == 0) {
			i = turn / 4 % KINDS;
			kill(pids[i], SIGKILL);
			waitpid(pids[i], NULL, 0);
		}
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		ASSERT_EQ(-1, diff(self->model, "random", file, length));
		if (turn % 4 == 0) {
			pids[i] = fork();
			if (!pids[i]) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				write_at_random(file, length, i, turn + 100);
			}
			ASSERT_LT(0, pids[i]);
		}
		for (i = 0; i < KINDS; i++)
			kill(pids[i], SIGCONT);
	}
	for (i = 0; i < KINDS; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FINAL));
	EXPECT_EQ(-1, diff(self->model, "random", file, length));
	munmap(mem, length);
	close(file);
}

TEST_HARNESS_MAIN

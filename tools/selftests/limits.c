// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Memory that bases may take: a process's limit of locked memory, a control
 * group's limit, and what the whole system has.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "device.h"
#include "mm.h"

#include "harness.h"

#define PAGES		2048U
#define LENGTH		(PAGES * UNIT)
/* Anybody without capabilities. */
#define USER		4242
#define LOCKED_MAX	(64 * UNIT)
#define GROUP		"/sys/fs/cgroup/limits"
/* Less than the region, and enough to run in. */
#define GROUP_MAX	(4 << 20)

/*
 * What a child, in which the harness's checks cannot be, found wrong: the line
 * of the first.
 */
static int wrong;

static void check(bool good, int line)
{
	if (!good && !wrong)
		wrong = line;
}

#define CHECK(good)	check(good, __LINE__)

static int child_status(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static uint64_t budget(int fd)
{
	struct xbzrle_stats stats;

	return dev_stats(fd, &stats) ? UINT64_MAX : stats.cache_bytes;
}

/* Bytes that this process has locked, or -1. */
static long locked(void)
{
	char text[4096], *p;
	long kib;

	if (mm_read_file("/proc/self/status", text, sizeof(text)))
		return -1;
	p = strstr(text, "VmLck:");
	return p && sscanf(p, "VmLck: %ld kB", &kib) == 1 ? kib * 1024 : -1;
}

static bool limit_locked(void)
{
	const struct rlimit limit = { LOCKED_MAX, LOCKED_MAX };

	return !setrlimit(RLIMIT_MEMLOCK, &limit);
}

static void lock_as_user(void)
{
	int a = dev_open(), b = dev_open();

	CHECK(a >= 0 && b >= 0 && limit_locked());
	CHECK(!setresuid(USER, USER, USER));

	CHECK(dev_set_cache(a, LOCKED_MAX) == 0);
	CHECK(locked() == LOCKED_MAX);
	CHECK(dev_set_cache(a, LOCKED_MAX + UNIT) == -ENOMEM);
	CHECK(budget(a) == LOCKED_MAX && locked() == LOCKED_MAX);
	/* The limit is of all that a process has. */
	CHECK(dev_set_cache(b, UNIT) == -ENOMEM);
	CHECK(budget(b) == 0);
	CHECK(dev_set_cache(a, LOCKED_MAX - UNIT) == 0);
	CHECK(dev_set_cache(b, UNIT) == 0);
	CHECK(dev_set_cache(b, 2 * UNIT) == -ENOMEM);
	/* Less than a page more is no page more. */
	CHECK(dev_set_cache(b, 2 * UNIT - 1) == 0);
	/* And what goes is given back. */
	close(a);
	CHECK(locked() == UNIT);
	CHECK(dev_set_cache(b, LOCKED_MAX) == 0);
	CHECK(dev_set_cache(b, 0) == 0);
	CHECK(locked() == 0);
}

/* With a session whose budget is the limit, and its parent's. */
static void take_over(int fd)
{
	CHECK(limit_locked() && !setresuid(USER, USER, USER));
	CHECK(locked() == 0);
	CHECK(dev_set_cache(fd, LOCKED_MAX + UNIT) == -ENOMEM);
	CHECK(budget(fd) == LOCKED_MAX && locked() == 0);
	CHECK(dev_set_cache(fd, LOCKED_MAX - UNIT) == 0);
	CHECK(locked() == LOCKED_MAX - UNIT);
}

TEST(locked_memory_of_a_process)
{
	pid_t pid = fork();

	if (!pid) {
		lock_as_user();
		_exit(wrong);
	}
	/* Else the line of limits.c that is wrong, modulo 256. */
	EXPECT_EQ(0, child_status(pid));
}

TEST(locked_memory_of_who_sets_it)
{
	int fd = dev_open();
	pid_t pid;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, dev_set_cache(fd, LOCKED_MAX));
	EXPECT_EQ(LOCKED_MAX, locked());
	pid = fork();
	if (!pid) {
		take_over(fd);
		_exit(wrong);
	}
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(LOCKED_MAX - UNIT, budget(fd));
	EXPECT_EQ(0, locked());
	/* Whom it was charged to is gone. */
	EXPECT_EQ(0, dev_set_cache(fd, LOCKED_MAX));
	EXPECT_EQ(LOCKED_MAX, locked());
	close(fd);
	EXPECT_EQ(0, locked());
}

/* What is held of a round stays when the budget goes, and is charged. */
TEST(locked_memory_that_is_held)
{
	int fd = dev_open();
	unsigned int i;
	unsigned char *mem = mm_anon(LOCKED_MAX);
	struct model *model = model_new();
	struct xbzrle_stats stats;
	struct xbzrle_register out;

	ASSERT_LE(0, fd);
	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, model);
	for (i = 0; i < LOCKED_MAX; i += UNIT)
		mem[i] = 1;
	ASSERT_EQ(0, dev_set_cache(fd, LOCKED_MAX));
	ASSERT_EQ(0, dev_register(fd, "heap", mem, LOCKED_MAX, 0,
				  XBZRLE_TRACKER_EXTERNAL, &out));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, dev_mark_units(fd, out.region_id, 0,
					    LOCKED_MAX / UNIT));
		ASSERT_EQ(0, dev_sync(fd, XBZRLE_SYNC_POINT_IN_TIME, NULL));
		ASSERT_EQ(0, dev_set_cache(fd, 0));
		ASSERT_EQ(0, dev_set_cache(fd, UNIT));
		ASSERT_EQ(0, dev_stats(fd, &stats));
		EXPECT_EQ(LOCKED_MAX, stats.cache_used);
		EXPECT_EQ(LOCKED_MAX, locked());
		ASSERT_EQ(0, dev_read_round(fd, model, 65536));
		ASSERT_EQ(0, dev_stats(fd, &stats));
		EXPECT_LE(stats.cache_used, UNIT);
		EXPECT_EQ(UNIT, locked());
		ASSERT_EQ(0, dev_set_cache(fd, LOCKED_MAX));
	}
	/* It goes with its region, too. */
	ASSERT_EQ(0, dev_mark_units(fd, out.region_id, 0, LOCKED_MAX / UNIT));
	ASSERT_EQ(0, dev_sync(fd, XBZRLE_SYNC_POINT_IN_TIME, NULL));
	ASSERT_EQ(0, dev_set_cache(fd, UNIT));
	EXPECT_EQ(LOCKED_MAX, locked());
	ASSERT_EQ(0, dev_unregister(fd, out.region_id));
	EXPECT_EQ(UNIT, locked());
	munmap(mem, LOCKED_MAX);
	model_free(model);
	close(fd);
	EXPECT_EQ(0, locked());
}

/* Whoever may lock all memory is not limited. */
TEST(locked_memory_of_the_privileged)
{
	int fd = dev_open();

	ASSERT_LE(0, fd);
	ASSERT_TRUE(limit_locked());
	EXPECT_EQ(0, dev_set_cache(fd, 16 * LOCKED_MAX));
	EXPECT_EQ(16 * LOCKED_MAX, budget(fd));
	EXPECT_EQ(16 * LOCKED_MAX, locked());
	close(fd);
}

FIXTURE(limits)
{
	int fd;
	uint32_t id;
	unsigned char *mem;
	struct model *model;
};

FIXTURE_SETUP(limits)
{
	struct xbzrle_register reg;
	unsigned int i;

	self->mem = mm_anon(LENGTH);
	ASSERT_NE(NULL, self->mem);
	for (i = 0; i < PAGES; i++)
		memset(self->mem + i * UNIT, i | 1, UNIT);
	self->fd = dev_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	ASSERT_EQ(0, dev_register(self->fd, "ram", self->mem, LENGTH, 0,
				  XBZRLE_TRACKER_EXTERNAL, &reg));
	self->id = reg.region_id;
	self->model = model_new();
	ASSERT_NE(NULL, self->model);
}

FIXTURE_TEARDOWN(limits)
{
	model_free(self->model);
	close(self->fd);
	munmap(self->mem, LENGTH);
}

static void touch(unsigned char *mem)
{
	unsigned int i;

	for (i = 0; i < PAGES; i++)
		mem[i * UNIT + i % UNIT]++;
}

/*
 * A round that a process in the group reads, whose memory the bases are then.
 * It needs none for anything else: in a full group somebody might be killed.
 */
static ssize_t read_in_group(int fd, unsigned char *to, size_t room)
{
	size_t len = 0;
	ssize_t n;

	/* Its pages are its own, and where they are mapped, before. */
	if (mlockall(MCL_CURRENT) || mm_write_file(GROUP "/cgroup.procs", "0"))
		return -1;
	while ((n = read(fd, to + len, room - len)) > 0)
		len += n;
	return n ? -errno : (ssize_t)len;
}

static bool round_in_group(int fd, struct model *m)
{
	const size_t room = LENGTH + LENGTH / 8;
	unsigned char *shared = mmap(NULL, room, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE,
				     -1, 0);
	ssize_t *len = (ssize_t *)(shared + room) - 1;
	pid_t pid;
	bool good;

	if (shared == MAP_FAILED || dev_sync(fd, 0, NULL))
		return false;
	pid = fork();
	if (!pid) {
		*len = read_in_group(fd, shared, room - sizeof(*len));
		_exit(0);
	}
	good = !child_status(pid) && *len > 0 && !model_feed(m, shared, *len) &&
	       model_idle(m);
	munmap(shared, room);
	return good;
}

/* Nobody is killed, and nothing fails: bases make room for each other. */
TEST_F(limits, memory_of_a_control_group)
{
	struct xbzrle_stats stats;
	char max[16];
	int i;

	mm_write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	ASSERT_EQ(0, mkdir(GROUP, 0755));
	snprintf(max, sizeof(max), "%d", GROUP_MAX);
	ASSERT_EQ(0, mm_write_file(GROUP "/memory.max", max));
	/* Not what it would rather swap out. */
	mm_write_file(GROUP "/memory.swap.max", "0");

	for (i = 0; i < 3; i++) {
		touch(self->mem);
		ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 0, PAGES));
		EXPECT_TRUE(round_in_group(self->fd, self->model));
		EXPECT_EQ(-1, model_diff(self->model, "ram", self->mem, 0,
					 LENGTH));
	}
	ASSERT_EQ(0, dev_stats(self->fd, &stats));
	EXPECT_GE(GROUP_MAX, stats.cache_used);
	EXPECT_LT(0, stats.cache_used);
	EXPECT_EQ(LENGTH, stats.cache_bytes);
	EXPECT_LT(0, stats.pages);

	/* Gone, the bases leave an empty group behind. */
	ASSERT_EQ(0, dev_set_cache(self->fd, 0));
	EXPECT_EQ(0, rmdir(GROUP));
}

/* Bytes of kernel memory that the group has, or -1. */
static long kernel_memory(void)
{
	char text[4096], *p;
	long bytes;

	if (mm_read_file(GROUP "/memory.stat", text, sizeof(text)))
		return -1;
	p = strstr(text, "\nkernel ");
	return p && sscanf(p, "\nkernel %ld", &bytes) == 1 ? bytes : -1;
}

/* CPUs count for themselves; unless it is much, it is added up every 2 s. */
#define ADDED_UP	3

/* Has it got so much more? */
static bool kernel_memory_grows(long from, long by)
{
	unsigned int tries;

	for (tries = 0; tries < 100; tries++) {
		if (kernel_memory() - from >= by)
			return true;
		usleep(100000);
	}
	return false;
}

static bool touch_in_group(unsigned char *mem)
{
	pid_t pid = fork();

	if (!pid) {
		CHECK(!mm_write_file(GROUP "/cgroup.procs", "0"));
		touch(mem);
		_exit(wrong);
	}
	return !child_status(pid);
}

/* A page is kept for who writes it first, and is that group's. */
TEST(memory_of_the_writers_group)
{
	struct model *model = model_new();
	int fd = dev_open(), rfd;
	unsigned char *mem;
	long before, after;

	ASSERT_LE(0, fd);
	ASSERT_NE(NULL, model);
	ASSERT_EQ(0, dev_set_cache(fd, 2 * LENGTH));
	rfd = dev_create(fd, "ram", LENGTH, NULL);
	ASSERT_LE(0, rfd);
	mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	touch(mem);
	ASSERT_EQ(0, dev_round(fd, model, 0));
	mm_write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	ASSERT_EQ(0, mkdir(GROUP, 0755));

	before = kernel_memory();
	ASSERT_LE(0, before);
	ASSERT_TRUE(touch_in_group(mem));
	EXPECT_TRUE(kernel_memory_grows(before, LENGTH));
	sleep(ADDED_UP);
	after = kernel_memory();
	/* And what a moment needs, beside the bases. */
	ASSERT_EQ(0, dev_sync(fd, XBZRLE_SYNC_POINT_IN_TIME, NULL));
	ASSERT_TRUE(touch_in_group(mem));
	EXPECT_TRUE(kernel_memory_grows(after, LENGTH));
	ASSERT_EQ(0, dev_read_round(fd, model, 65536));

	ASSERT_EQ(0, dev_set_cache(fd, 0));
	EXPECT_EQ(0, rmdir(GROUP));
	model_free(model);
	munmap(mem, LENGTH);
	close(rfd);
	close(fd);
}

static int drop_slabs(void)
{
	return mm_write_file("/proc/sys/vm/drop_caches", "2");
}

TEST_F(limits, bases_are_given_back)
{
	struct xbzrle_stats stats;
	char part[4096];
	ssize_t n;
	int i;

	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, dev_stats(self->fd, &stats));
	ASSERT_EQ(LENGTH, stats.cache_used);
	EXPECT_EQ(0, stats.cache_reclaimed);

	ASSERT_EQ(0, drop_slabs());
	ASSERT_EQ(0, dev_stats(self->fd, &stats));
	EXPECT_GT(LENGTH / 2, stats.cache_used);
	EXPECT_EQ(PAGES, stats.cache_used / UNIT + stats.cache_reclaimed);
	EXPECT_EQ(0, stats.cache_evicted);
	EXPECT_EQ(LENGTH, stats.cache_bytes);

	/* Between rounds, and in the middle of one. */
	for (i = 0; i < 3; i++) {
		touch(self->mem);
		ASSERT_EQ(0, dev_mark_units(self->fd, self->id, 0, PAGES));
		ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
		n = read(self->fd, part, sizeof(part));
		ASSERT_LT(0, n);
		ASSERT_EQ(0, model_feed(self->model, part, n));
		ASSERT_EQ(0, i == 1 ? drop_slabs() : 0);
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_EQ(-1, model_diff(self->model, "ram", self->mem, 0,
					 LENGTH));
		/* With the bases that there are again after the first. */
		if (i == 2)
			EXPECT_LT(PAGES / 2, self->model->round.xbzrle);
	}
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * A kernel where private memory that exists cannot be tracked: all of it is
 * refused, nothing of it is changed, and owned memory is none the worse for it.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device.h"
#include "mm.h"

#include "harness.h"

#define PAGES		16
#define LENGTH		(PAGES * UNIT)

FIXTURE(refused)
{
	int fd;
	int rfd;
	unsigned char *mem;
	unsigned char *owned;
	struct model *model;
	struct xbzrle_stats stats;
};

FIXTURE_SETUP(refused)
{
	ASSERT_FALSE(dev_has_pte());
	self->fd = dev_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	self->rfd = dev_create(self->fd, "ram", LENGTH, NULL);
	ASSERT_LE(0, self->rfd);
	self->owned = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED,
			   self->rfd, 0);
	ASSERT_NE(MAP_FAILED, self->owned);
	self->mem = mm_anon(LENGTH);
	ASSERT_NE(NULL, self->mem);
	memset(self->mem, 1, LENGTH);
	memset(self->owned, 1, LENGTH);
	self->model = model_new();
	ASSERT_NE(NULL, self->model);
}

FIXTURE_TEARDOWN(refused)
{
	model_free(self->model);
	munmap(self->owned, LENGTH);
	close(self->rfd);
	close(self->fd);
}

/* Every tracker that may be asked for says no, and of the first address. */
static void expect_refused(struct __test_metadata *_metadata,
			   struct _test_data_refused *self, const void *addr,
			   uint64_t length, pid_t pid)
{
	static const __u32 trackers[] = {
		XBZRLE_TRACKER_AUTO, XBZRLE_TRACKER_PTE,
	};
	struct xbzrle_register out;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(trackers); i++) {
		EXPECT_EQ(-EOPNOTSUPP,
			  dev_register(self->fd, "a", addr, length, pid,
				       trackers[i], &out));
		EXPECT_EQ((uintptr_t)addr, out.error_addr);
		EXPECT_EQ(0, out.region_id);
		EXPECT_EQ(-EOPNOTSUPP,
			  dev_register_as(self->fd, "a", addr, length, pid,
					  trackers[i], XBZRLE_CAPTURE_FREEZE,
					  &out));
		EXPECT_EQ((uintptr_t)addr, out.error_addr);
	}
}

TEST_F(refused, memory_of_any_kind)
{
	void *shared = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, shared);
	expect_refused(_metadata, self, self->mem, LENGTH, 0);
	expect_refused(_metadata, self, self->mem + UNIT, UNIT, 0);
	expect_refused(_metadata, self, self->mem, LENGTH, getpid());
	EXPECT_EQ(-EOPNOTSUPP, dev_register(self->fd, "a", shared, LENGTH, 0,
					    XBZRLE_TRACKER_PTE, NULL));
	expect_refused(_metadata, self, self->owned, LENGTH, 0);

	pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	ASSERT_LT(0, pid);
	expect_refused(_metadata, self, self->mem, LENGTH, pid);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* A caller who is wrong anyway is told that. */
TEST_F(refused, other_errors_go_first)
{
	EXPECT_EQ(-EINVAL, dev_register(self->fd, "a", self->mem + 1, LENGTH, 0,
					XBZRLE_TRACKER_AUTO, NULL));
	EXPECT_EQ(-EINVAL, dev_register(self->fd, "a", self->mem, LENGTH, 0,
					XBZRLE_TRACKER_OWNED, NULL));
	EXPECT_EQ(-EBUSY, dev_register(self->fd, "ram", self->mem, LENGTH, 0,
				       XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	EXPECT_EQ(-EBUSY, dev_register(self->fd, "a", self->mem, LENGTH, 0,
				       XBZRLE_TRACKER_AUTO, NULL));
}

TEST_F(refused, the_memory_is_left_alone)
{
	unsigned char *huge = mm_anon_huge(HUGE_SIZE);

	ASSERT_NE(NULL, huge);
	ASSERT_EQ(0, mm_write_file("/sys/kernel/mm/transparent_hugepage/enabled",
				   "madvise"));
	ASSERT_EQ(0, madvise(huge, HUGE_SIZE, MADV_HUGEPAGE));
	huge[0] = 1;
	ASSERT_EQ(HUGE_SIZE, mm_huge_bytes(huge));
	expect_refused(_metadata, self, huge, HUGE_SIZE, 0);
	EXPECT_EQ(HUGE_SIZE, mm_huge_bytes(huge));
	EXPECT_FALSE(mm_vm_flag(huge, "nh"));
	EXPECT_TRUE(mm_vm_flag(huge, "hg"));
}

TEST_F(refused, owned_memory_goes_on)
{
	unsigned int i;
	int rfd;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		self->owned[i * UNIT]++;
		expect_refused(_metadata, self, self->mem, LENGTH, 0);
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(1, self->model->round.xbzrle);
		EXPECT_EQ(-1, model_diff(self->model, "ram", self->owned, 0,
					 LENGTH));
	}
	ASSERT_EQ(0, dev_stats(self->fd, &self->stats));
	EXPECT_EQ(0, self->stats.round_left);
	/* The name is free. */
	rfd = dev_create(self->fd, "a", LENGTH, NULL);
	EXPECT_LE(0, rfd);
	close(rfd);
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(2, self->model->nr_regions);
}

TEST_HARNESS_MAIN

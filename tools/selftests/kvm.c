// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * A real guest, which writes through its nested page tables while rounds run:
 * in owned memory, in a file that several processes map, and in private memory
 * with KVM's own dirty log.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "device.h"
#include "guest.h"
#include "mm.h"

#include "harness.h"

#define LENGTH		((size_t)4 << 20)
/* Where the host writes and the guest does not. */
#define HOST		0x1800

/* Milliseconds within which it has written everything, however often it begins. */
#define PATIENCE	60000

/**
 * struct runner - a guest and the thread that runs it
 * @guest: it
 * @thread: that runs
 * @stop: ends the thread when not 0
 * @passes: how often the guest has written everything
 */
struct runner {
	struct guest guest;
	pthread_t thread;
	int stop;
	unsigned int passes;
};

static void *run_guest(void *arg)
{
	struct runner *r = arg;
	int ret = 0;

	while (ret >= 0 && !__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
		ret = guest_run(&r->guest);
		if (ret > 0)
			__atomic_add_fetch(&r->passes, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static unsigned int guest_passes(struct runner *r)
{
	return __atomic_load_n(&r->passes, __ATOMIC_RELAXED);
}

/* Waits until the guest has written everything once more. */
static bool guest_goes_on(struct runner *r, unsigned int passes)
{
	unsigned int from = guest_passes(r), tries;

	for (tries = 0; tries < PATIENCE; tries++) {
		if (guest_passes(r) - from >= passes)
			return true;
		usleep(1000);
	}
	return false;
}

static bool guest_start(struct runner *r)
{
	r->stop = 0;
	return !pthread_create(&r->thread, NULL, run_guest, r);
}

static void guest_stop(struct runner *r)
{
	__atomic_store_n(&r->stop, 1, __ATOMIC_RELAXED);
	pthread_join(r->thread, NULL);
}

FIXTURE(kvm)
{
	int fd;
	int rfd;
	unsigned char *mem;
	struct model *model;
	struct runner runner;
};

FIXTURE_SETUP(kvm)
{
	self->runner.guest.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	self->fd = dev_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	self->rfd = dev_create(self->fd, "guest", LENGTH, NULL);
	ASSERT_LE(0, self->rfd);
	self->mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED,
			 self->rfd, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	self->model = model_new();
	ASSERT_NE(NULL, self->model);
	if (self->runner.guest.kvm >= 0)
		ASSERT_TRUE(guest_make(&self->runner.guest, self->mem, LENGTH,
				       0));
}

FIXTURE_TEARDOWN(kvm)
{
	model_free(self->model);
	guest_drop(&self->runner.guest);
	close(self->rfd);
	close(self->fd);
}

#define EXPECT_SAME() \
	EXPECT_EQ(-1, model_diff(self->model, "guest", self->mem, 0, LENGTH))

/* The guest alone writes, and stops before each comparison. */
TEST_F(kvm, guest_writes_are_seen)
{
	struct xbzrle_sync s;
	unsigned int i;

	if (self->runner.guest.kvm < 0)
		SKIP(return, "no KVM");
	for (i = 0; i < 5; i++) {
		ASSERT_TRUE(guest_start(&self->runner));
		EXPECT_TRUE(guest_goes_on(&self->runner, 1));
		guest_stop(&self->runner);
		ASSERT_EQ(0, self->runner.guest.bad_exit);
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		/* The stops of a pass, two pages at some of them. */
		EXPECT_LE((LENGTH - GUEST_DATA) / GUEST_STRIDE - 1, s.dirty_pages);
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_SAME();
		/*
		 * Nobody writes, so nothing is sent. A page may count as dirty:
		 * KVM marks what it maps as accessed, and the kernel holds such
		 * pages in batches for a while.
		 */
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(8, self->model->round.bytes);
	}
	EXPECT_LT(0, self->model->all.xbzrle);
}

TEST_F(kvm, guest_runs_through_the_rounds)
{
	unsigned int i;

	if (self->runner.guest.kvm < 0)
		SKIP(return, "no KVM");
	ASSERT_TRUE(guest_start(&self->runner));
	for (i = 0; i < 8; i++) {
		/* The host writes too, where the guest does not. */
		self->mem[HOST + i]++;
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_TRUE(guest_goes_on(&self->runner, 1));
	}
	guest_stop(&self->runner);
	ASSERT_EQ(0, self->runner.guest.bad_exit);
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FINAL));
	EXPECT_SAME();
	EXPECT_LT(0, self->model->all.xbzrle);
}

/* Memory is taken away under the guest and comes back. */
TEST_F(kvm, guest_memory_is_punched)
{
	const size_t hole = LENGTH / 2;
	unsigned int i;

	if (self->runner.guest.kvm < 0)
		SKIP(return, "no KVM");
	ASSERT_TRUE(guest_start(&self->runner));
	for (i = 0; i < 6; i++) {
		ASSERT_EQ(0, fallocate(self->rfd, FALLOC_FL_PUNCH_HOLE |
				       FALLOC_FL_KEEP_SIZE, hole,
				       64 * UNIT));
		if (i & 1)
			ASSERT_EQ(0, madvise(self->mem, LENGTH,
					     MADV_DONTNEED));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_TRUE(guest_goes_on(&self->runner, 1));
	}
	guest_stop(&self->runner);
	ASSERT_EQ(0, self->runner.guest.bad_exit);
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FINAL));
	EXPECT_SAME();
}

/*
 * A file of shmem that is the guest's memory, registered as this process has it
 * mapped: where the guest's is, or elsewhere.
 */
FIXTURE(kvm_file)
{
	int fd;
	int file;
	unsigned char *mem;
	unsigned char *guest_mem;
	struct model *model;
	struct runner runner;
};

FIXTURE_VARIANT(kvm_file)
{
	bool apart;
	bool huge;
};

FIXTURE_VARIANT_ADD(kvm_file, one_mapping)
{
	.apart = false,
};

FIXTURE_VARIANT_ADD(kvm_file, two_mappings)
{
	.apart = true,
};

FIXTURE_VARIANT_ADD(kvm_file, huge_pages)
{
	.apart = true,
	.huge = true,
};

#define SHMEM_HUGE	"/sys/kernel/mm/transparent_hugepage/shmem_enabled"

/* Where huge pages fit. */
static unsigned char *map_guest(int file)
{
	void *mem = mm_anon_huge(LENGTH);

	return mmap(mem, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    file, 0) == mem ? mem : NULL;
}

FIXTURE_SETUP(kvm_file)
{
	struct xbzrle_register out;

	self->runner.guest.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	self->fd = dev_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	mm_write_file(SHMEM_HUGE, variant->huge ? "always" : "never");
	self->file = mm_shared_file(LENGTH);
	ASSERT_LE(0, self->file);
	self->mem = map_guest(self->file);
	self->guest_mem = variant->apart ? map_guest(self->file) : self->mem;
	ASSERT_NE(NULL, self->mem);
	ASSERT_NE(NULL, self->guest_mem);
	self->model = model_new();
	ASSERT_NE(NULL, self->model);
	if (self->runner.guest.kvm >= 0)
		ASSERT_TRUE(guest_make(&self->runner.guest, self->guest_mem,
				       LENGTH, 0));
	ASSERT_EQ(0, dev_register(self->fd, "guest", self->mem, LENGTH, 0,
				  XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(XBZRLE_TRACKER_MAPPING, out.tracker);
}

FIXTURE_TEARDOWN(kvm_file)
{
	model_free(self->model);
	guest_drop(&self->runner.guest);
	munmap(self->guest_mem, LENGTH);
	munmap(self->mem, LENGTH);
	close(self->file);
	close(self->fd);
	mm_write_file(SHMEM_HUGE, "never");
}

/* One pass of the guest, which then stops. */
#define EXPECT_PASS() do { \
	ASSERT_TRUE(guest_start(&self->runner)); \
	EXPECT_TRUE(guest_goes_on(&self->runner, 1)); \
	guest_stop(&self->runner); \
	ASSERT_EQ(0, self->runner.guest.bad_exit); \
} while (0)

TEST_F(kvm_file, guest_writes_are_seen)
{
	struct xbzrle_sync s;
	unsigned int i;

	if (self->runner.guest.kvm < 0)
		SKIP(return, "no KVM");
	for (i = 0; i < 5; i++) {
		EXPECT_PASS();
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		EXPECT_LE((LENGTH - GUEST_DATA) / GUEST_STRIDE - 1, s.dirty_pages);
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_SAME();
		/* Nobody writes, so nothing is sent. */
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_EQ(8, self->model->round.bytes);
	}
	EXPECT_LT(0, self->model->all.xbzrle);
}

/*
 * A read fault maps a page of shmem writable and clean. The guest gets it so,
 * and no page table of the process ever tells of its writes.
 */
TEST_F(kvm_file, page_was_only_read_before)
{
	struct xbzrle_sync s;
	unsigned int i, j;

	if (self->runner.guest.kvm < 0)
		SKIP(return, "no KVM");
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, madvise(self->guest_mem, LENGTH, MADV_DONTNEED));
		for (j = 0; j < LENGTH; j += UNIT)
			__atomic_load_n(self->guest_mem + j, __ATOMIC_RELAXED);
		EXPECT_PASS();
		/* The mapping may be gone when the harvest comes. */
		if (i & 1)
			ASSERT_EQ(0, madvise(self->guest_mem, LENGTH,
					     MADV_DONTNEED));
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		EXPECT_LE((LENGTH - GUEST_DATA) / GUEST_STRIDE - 1, s.dirty_pages);
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_SAME();
	}
}

TEST_F(kvm_file, guest_runs_through_the_rounds)
{
	struct mm_turns turns = { .least = 3, .most = 12 };
	unsigned int i;

	if (self->runner.guest.kvm < 0)
		SKIP(return, "no KVM");
	while (mm_another_turn(&turns)) {
		i = turns.done;
		ASSERT_TRUE(guest_start(&self->runner));
		EXPECT_TRUE(guest_goes_on(&self->runner, 1));
		/* The host writes too, where the guest does not. */
		self->mem[HOST + i]++;
		if (i % 3 == 1)
			ASSERT_EQ(0, madvise(self->guest_mem, LENGTH,
					     MADV_DONTNEED));
		if (i % 3 == 2)
			ASSERT_EQ(0, fallocate(self->file,
					       FALLOC_FL_PUNCH_HOLE |
					       FALLOC_FL_KEEP_SIZE, LENGTH / 2,
					       64 * UNIT));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_TRUE(guest_goes_on(&self->runner, 1));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		guest_stop(&self->runner);
		ASSERT_EQ(0, self->runner.guest.bad_exit);
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_SAME();
	}
	EXPECT_LT(0, self->model->all.xbzrle);
}

/* The guest is another process', and so is all that it is mapped by. */
TEST_F(kvm_file, guest_of_another_process)
{
	struct runner other = { .guest.kvm = self->runner.guest.kvm };
	unsigned int i;
	int pipefd[2];
	pid_t pid;
	char bad;

	if (self->runner.guest.kvm < 0)
		SKIP(return, "no KVM");
	for (i = 0; i < 6; i++) {
		ASSERT_EQ(0, pipe(pipefd));
		pid = fork();
		if (!pid) {
			other.guest.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
			bad = !guest_make(&other.guest, self->guest_mem,
					  LENGTH, 0) ||
			      !guest_start(&other) || !guest_goes_on(&other, 1);
			guest_stop(&other);
			bad |= other.guest.bad_exit != 0;
			if (write(pipefd[1], &bad, 1) != 1)
				_exit(1);
			/* Gone before the harvest, or there. */
			if (i & 1)
				pause();
			_exit(0);
		}
		ASSERT_LT(0, pid);
		ASSERT_EQ(1, read(pipefd[0], &bad, 1));
		EXPECT_EQ(0, bad);
		if (!(i & 1))
			waitpid(pid, NULL, 0);
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_SAME();
		if (i & 1) {
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
		}
		close(pipefd[0]);
		close(pipefd[1]);
	}
}

/* Private memory of a guest, which nobody but KVM can track. */
FIXTURE(kvm_private)
{
	int fd;
	uint32_t id;
	unsigned char *mem;
	struct model *model;
	struct runner runner;
};

FIXTURE_VARIANT(kvm_private)
{
	bool huge;
};

FIXTURE_VARIANT_ADD(kvm_private, pages)
{
	.huge = false,
};

FIXTURE_VARIANT_ADD(kvm_private, huge_pages)
{
	.huge = true,
};

FIXTURE_SETUP(kvm_private)
{
	struct xbzrle_register out;

	self->runner.guest.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	self->fd = dev_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	if (variant->huge) {
		mm_write_file("/sys/kernel/mm/transparent_hugepage/enabled",
			      "madvise");
		self->mem = mm_anon_huge(LENGTH);
		ASSERT_NE(NULL, self->mem);
		ASSERT_EQ(0, madvise(self->mem, LENGTH, MADV_HUGEPAGE));
	} else {
		self->mem = mm_anon(LENGTH);
		ASSERT_NE(NULL, self->mem);
	}
	self->model = model_new();
	ASSERT_NE(NULL, self->model);
	if (self->runner.guest.kvm < 0)
		return;
	ASSERT_TRUE(guest_make(&self->runner.guest, self->mem, LENGTH,
			       KVM_MEM_LOG_DIRTY_PAGES));
	EXPECT_EQ(-EOPNOTSUPP, dev_register(self->fd, "guest", self->mem,
					    LENGTH, 0, XBZRLE_TRACKER_AUTO,
					    NULL));
	ASSERT_EQ(0, dev_register(self->fd, "guest", self->mem, LENGTH, 0,
				  XBZRLE_TRACKER_EXTERNAL, &out));
	self->id = out.region_id;
}

FIXTURE_TEARDOWN(kvm_private)
{
	model_free(self->model);
	guest_drop(&self->runner.guest);
	munmap(self->mem, LENGTH);
	close(self->fd);
}

/* Hands on what KVM has seen since it was last asked; how many pages, or -1. */
static int mark_dirty_log(struct guest *g, int fd, uint32_t id)
{
	unsigned long bitmap[LENGTH / UNIT / 8 / sizeof(long)] = { 0 };
	unsigned int i;
	int pages = 0;

	if (guest_dirty_log(g, bitmap) ||
	    dev_mark(fd, id, 0, LENGTH / UNIT, bitmap))
		return -1;
	for (i = 0; i < sizeof(bitmap) / sizeof(long); i++)
		pages += __builtin_popcountl(bitmap[i]);
	return pages;
}

/* The guest alone writes, and stops before each comparison. */
TEST_F(kvm_private, dirty_log_tells_of_writes)
{
	struct xbzrle_sync s;
	unsigned int i;
	int pages;

	if (self->runner.guest.kvm < 0)
		SKIP(return, "no KVM");
	for (i = 0; i < 5; i++) {
		ASSERT_TRUE(guest_start(&self->runner));
		EXPECT_TRUE(guest_goes_on(&self->runner, 1));
		guest_stop(&self->runner);
		ASSERT_EQ(0, self->runner.guest.bad_exit);
		pages = mark_dirty_log(&self->runner.guest, self->fd, self->id);
		EXPECT_LE((LENGTH - GUEST_DATA) / GUEST_STRIDE - 1, pages);
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		/* Just these; the first round looks at all that is there. */
		if (i)
			EXPECT_EQ(pages, s.dirty_pages);
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_SAME();

		/* Nobody writes, so nothing is looked at. */
		EXPECT_EQ(0, mark_dirty_log(&self->runner.guest, self->fd, self->id));
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		EXPECT_EQ(0, s.dirty_pages);
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_EQ(8, self->model->round.bytes);
	}
	EXPECT_LT(0, self->model->all.xbzrle);
}

/* As a migration does it. */
TEST_F(kvm_private, guest_runs_through_the_rounds)
{
	unsigned int i;

	if (self->runner.guest.kvm < 0)
		SKIP(return, "no KVM");
	ASSERT_TRUE(guest_start(&self->runner));
	for (i = 0; i < 8; i++) {
		ASSERT_LE(0, mark_dirty_log(&self->runner.guest, self->fd, self->id));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_TRUE(guest_goes_on(&self->runner, 1));
	}
	guest_stop(&self->runner);
	ASSERT_EQ(0, self->runner.guest.bad_exit);
	ASSERT_LT(0, mark_dirty_log(&self->runner.guest, self->fd, self->id));
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FINAL));
	EXPECT_SAME();
	EXPECT_LT(0, self->model->all.xbzrle);
}

TEST_HARNESS_MAIN

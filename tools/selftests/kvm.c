// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * A real guest, which writes through its nested page tables while rounds run:
 * in owned memory, in a file that several processes map, and in private memory
 * with KVM's own dirty log.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include <linux/kvm.h>

#include "device.h"
#include "mm.h"

#include "harness.h"

#define LENGTH		((size_t)4 << 20)
#define CODE		0x1000
#define DATA		0x10000
/* Not a multiple of the page size: each pass writes at other offsets. */
#define STRIDE		(4096 + 192)

#if defined(__x86_64__)
#define PORT		0x10

/*
 * 32-bit flat: count in eax, walk edx from ebx to ecx in steps of edi, write
 * two words at each stop, tell the host after each pass.
 */
static const unsigned char code[] = {
	0x40,			/* again: inc eax */
	0x89, 0xda,		/* mov edx, ebx */
	0x89, 0x02,		/* next: mov [edx], eax */
	0x01, 0x42, 0x40,	/* add [edx + 64], eax */
	0x01, 0xfa,		/* add edx, edi */
	0x39, 0xca,		/* cmp edx, ecx */
	0x72, 0xf5,		/* jb next */
	0xe6, PORT,		/* out PORT, al */
	0xeb, 0xee,		/* jmp again */
};
#elif defined(__aarch64__)
/* Where no memory is. */
#define PORT		((uint64_t)1 << 30)

/*
 * The same with w0, x3, x1, x2 and x5; x6 is PORT. The MMU is off, which the
 * machine must not take for a reason to go past the host's caches: an emulated
 * one has none.
 */
static const uint32_t code[] = {
	0x11000400,		/* again: add w0, w0, #1 */
	0xaa0103e3,		/* mov x3, x1 */
	0xb9000060,		/* next: str w0, [x3] */
	0xb9404064,		/* ldr w4, [x3, #64] */
	0x0b000084,		/* add w4, w4, w0 */
	0xb9004064,		/* str w4, [x3, #64] */
	0x8b050063,		/* add x3, x3, x5 */
	0xeb02007f,		/* cmp x3, x2 */
	0x54ffff43,		/* b.lo next */
	0xb90000c0,		/* str w0, [x6] */
	0x17fffff6,		/* b again */
};
#endif

struct guest {
	int kvm;
	int vm;
	int vcpu;
	struct kvm_run *run;
	size_t run_size;
	pthread_t thread;
	int stop;
	unsigned int passes;
	unsigned int bad_exit;
};

#if defined(__x86_64__)
static bool guest_set_registers(struct guest *g)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {
		.rip = CODE,
		.rflags = 2,
		.rbx = DATA,
		.rcx = LENGTH - STRIDE,
		.rdi = STRIDE,
	};
	struct kvm_segment flat = {
		.limit = 0xffffffff,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = 1,
	};

	if (ioctl(g->vcpu, KVM_GET_SREGS, &sregs))
		return false;
	flat.type = 3;
	flat.selector = 16;
	sregs.ds = flat;
	sregs.es = flat;
	sregs.ss = flat;
	flat.type = 11;
	flat.selector = 8;
	sregs.cs = flat;
	sregs.cr0 |= 1;
	return !ioctl(g->vcpu, KVM_SET_SREGS, &sregs) &&
	       !ioctl(g->vcpu, KVM_SET_REGS, &regs);
}

static bool guest_passed(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_IO && run->io.port == PORT;
}
#elif defined(__aarch64__)
static bool guest_set_registers(struct guest *g)
{
	const struct {
		size_t where;
		uint64_t value;
	} regs[] = {
		{ KVM_REG_ARM_CORE_REG(regs.pc), CODE },
		{ KVM_REG_ARM_CORE_REG(regs.regs[1]), DATA },
		{ KVM_REG_ARM_CORE_REG(regs.regs[2]), LENGTH - STRIDE },
		{ KVM_REG_ARM_CORE_REG(regs.regs[5]), STRIDE },
		{ KVM_REG_ARM_CORE_REG(regs.regs[6]), PORT },
	};
	struct kvm_vcpu_init init;
	unsigned int i;

	if (ioctl(g->vm, KVM_ARM_PREFERRED_TARGET, &init) ||
	    ioctl(g->vcpu, KVM_ARM_VCPU_INIT, &init))
		return false;
	for (i = 0; i < ARRAY_SIZE(regs); i++) {
		struct kvm_one_reg reg = {
			.id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 |
			      KVM_REG_ARM_CORE | regs[i].where,
			.addr = (uintptr_t)&regs[i].value,
		};

		if (ioctl(g->vcpu, KVM_SET_ONE_REG, &reg))
			return false;
	}
	return true;
}

static bool guest_passed(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write &&
	       run->mmio.phys_addr == PORT;
}
#endif

/* Where guest_make() puts the memory, and KVM's number of it. */
#define SLOT		0

static bool guest_make(struct guest *g, unsigned char *mem, uint32_t flags)
{
	struct kvm_userspace_memory_region slot = {
		.slot = SLOT,
		.flags = flags,
		.memory_size = LENGTH,
		.userspace_addr = (uintptr_t)mem,
	};

	g->vm = ioctl(g->kvm, KVM_CREATE_VM, 0);
	if (g->vm < 0 || ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &slot))
		return false;
	g->vcpu = ioctl(g->vm, KVM_CREATE_VCPU, 0);
	g->run_size = ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	g->run = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		      g->vcpu, 0);
	memcpy(mem + CODE, code, sizeof(code));
	return g->vcpu >= 0 && g->run != MAP_FAILED && guest_set_registers(g);
}

static void guest_drop(struct guest *g)
{
	if (g->kvm < 0)
		return;
	munmap(g->run, g->run_size);
	close(g->vcpu);
	close(g->vm);
	close(g->kvm);
}

static void *guest_run(void *arg)
{
	struct guest *g = arg;

	while (!__atomic_load_n(&g->stop, __ATOMIC_RELAXED)) {
		if (ioctl(g->vcpu, KVM_RUN, 0)) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			g->bad_exit = 1000 + errno;
			break;
		}
		if (!guest_passed(g->run)) {
			g->bad_exit = g->run->exit_reason;
			break;
		}
		__atomic_add_fetch(&g->passes, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static unsigned int guest_passes(struct guest *g)
{
	return __atomic_load_n(&g->passes, __ATOMIC_RELAXED);
}

/* Waits until the guest has written everything once more. */
static bool guest_goes_on(struct guest *g, unsigned int passes)
{
	unsigned int from = guest_passes(g), tries;

	for (tries = 0; tries < 20000; tries++) {
		if (guest_passes(g) - from >= passes)
			return true;
		usleep(1000);
	}
	return false;
}

static bool guest_start(struct guest *g)
{
	g->stop = 0;
	return !pthread_create(&g->thread, NULL, guest_run, g);
}

static void guest_stop(struct guest *g)
{
	__atomic_store_n(&g->stop, 1, __ATOMIC_RELAXED);
	pthread_join(g->thread, NULL);
}

FIXTURE(kvm)
{
	int fd;
	int rfd;
	unsigned char *mem;
	struct model *model;
	struct guest guest;
};

FIXTURE_SETUP(kvm)
{
	self->guest.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
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
	if (self->guest.kvm >= 0)
		ASSERT_TRUE(guest_make(&self->guest, self->mem, 0));
}

FIXTURE_TEARDOWN(kvm)
{
	model_free(self->model);
	guest_drop(&self->guest);
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

	if (self->guest.kvm < 0)
		SKIP(return, "no KVM");
	for (i = 0; i < 5; i++) {
		ASSERT_TRUE(guest_start(&self->guest));
		EXPECT_TRUE(guest_goes_on(&self->guest, 1));
		guest_stop(&self->guest);
		ASSERT_EQ(0, self->guest.bad_exit);
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		/* The stops of a pass, two pages at some of them. */
		EXPECT_LE((LENGTH - DATA) / STRIDE - 1, s.dirty_pages);
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

	if (self->guest.kvm < 0)
		SKIP(return, "no KVM");
	ASSERT_TRUE(guest_start(&self->guest));
	for (i = 0; i < 8; i++) {
		/* The host writes too, where the guest does not. */
		self->mem[CODE + 0x800 + i]++;
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_TRUE(guest_goes_on(&self->guest, 1));
	}
	guest_stop(&self->guest);
	ASSERT_EQ(0, self->guest.bad_exit);
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FINAL));
	EXPECT_SAME();
	EXPECT_LT(0, self->model->all.xbzrle);
}

/* Memory is taken away under the guest and comes back. */
TEST_F(kvm, guest_memory_is_punched)
{
	const size_t hole = LENGTH / 2;
	unsigned int i;

	if (self->guest.kvm < 0)
		SKIP(return, "no KVM");
	ASSERT_TRUE(guest_start(&self->guest));
	for (i = 0; i < 6; i++) {
		ASSERT_EQ(0, fallocate(self->rfd, FALLOC_FL_PUNCH_HOLE |
				       FALLOC_FL_KEEP_SIZE, hole,
				       64 * UNIT));
		if (i & 1)
			ASSERT_EQ(0, madvise(self->mem, LENGTH,
					     MADV_DONTNEED));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_TRUE(guest_goes_on(&self->guest, 1));
	}
	guest_stop(&self->guest);
	ASSERT_EQ(0, self->guest.bad_exit);
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
	struct guest guest;
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

	self->guest.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
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
	if (self->guest.kvm >= 0)
		ASSERT_TRUE(guest_make(&self->guest, self->guest_mem, 0));
	ASSERT_EQ(0, dev_register(self->fd, "guest", self->mem, LENGTH, 0,
				  XBZRLE_TRACKER_AUTO, &out));
	ASSERT_EQ(XBZRLE_TRACKER_MAPPING, out.tracker);
}

FIXTURE_TEARDOWN(kvm_file)
{
	model_free(self->model);
	guest_drop(&self->guest);
	munmap(self->guest_mem, LENGTH);
	munmap(self->mem, LENGTH);
	close(self->file);
	close(self->fd);
	mm_write_file(SHMEM_HUGE, "never");
}

/* One pass of the guest, which then stops. */
#define EXPECT_PASS() do { \
	ASSERT_TRUE(guest_start(&self->guest)); \
	EXPECT_TRUE(guest_goes_on(&self->guest, 1)); \
	guest_stop(&self->guest); \
	ASSERT_EQ(0, self->guest.bad_exit); \
} while (0)

TEST_F(kvm_file, guest_writes_are_seen)
{
	struct xbzrle_sync s;
	unsigned int i;

	if (self->guest.kvm < 0)
		SKIP(return, "no KVM");
	for (i = 0; i < 5; i++) {
		EXPECT_PASS();
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		EXPECT_LE((LENGTH - DATA) / STRIDE - 1, s.dirty_pages);
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

	if (self->guest.kvm < 0)
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
		EXPECT_LE((LENGTH - DATA) / STRIDE - 1, s.dirty_pages);
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_SAME();
	}
}

TEST_F(kvm_file, guest_runs_through_the_rounds)
{
	unsigned int i;

	if (self->guest.kvm < 0)
		SKIP(return, "no KVM");
	for (i = 0; i < 12; i++) {
		ASSERT_TRUE(guest_start(&self->guest));
		EXPECT_TRUE(guest_goes_on(&self->guest, 1));
		/* The host writes too, where the guest does not. */
		self->mem[CODE + 0x800 + i]++;
		if (i % 3 == 1)
			ASSERT_EQ(0, madvise(self->guest_mem, LENGTH,
					     MADV_DONTNEED));
		if (i % 3 == 2)
			ASSERT_EQ(0, fallocate(self->file,
					       FALLOC_FL_PUNCH_HOLE |
					       FALLOC_FL_KEEP_SIZE, LENGTH / 2,
					       64 * UNIT));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_TRUE(guest_goes_on(&self->guest, 1));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		guest_stop(&self->guest);
		ASSERT_EQ(0, self->guest.bad_exit);
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_SAME();
	}
	EXPECT_LT(0, self->model->all.xbzrle);
}

/* The guest is another process', and so is all that it is mapped by. */
TEST_F(kvm_file, guest_of_another_process)
{
	struct guest other = { .kvm = self->guest.kvm };
	unsigned int i;
	int pipefd[2];
	pid_t pid;
	char bad;

	if (self->guest.kvm < 0)
		SKIP(return, "no KVM");
	for (i = 0; i < 6; i++) {
		ASSERT_EQ(0, pipe(pipefd));
		pid = fork();
		if (!pid) {
			other.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
			bad = !guest_make(&other, self->guest_mem, 0) ||
			      !guest_start(&other) || !guest_goes_on(&other, 1);
			guest_stop(&other);
			bad |= other.bad_exit != 0;
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
	struct guest guest;
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

	self->guest.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
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
	if (self->guest.kvm < 0)
		return;
	ASSERT_TRUE(guest_make(&self->guest, self->mem,
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
	guest_drop(&self->guest);
	munmap(self->mem, LENGTH);
	close(self->fd);
}

/* Hands on what KVM has seen since it was last asked; how many pages, or -1. */
static int mark_dirty_log(const struct guest *g, int fd, uint32_t id)
{
	unsigned long bitmap[LENGTH / UNIT / 8 / sizeof(long)] = { 0 };
	struct kvm_dirty_log log = {
		.slot = SLOT,
		.dirty_bitmap = bitmap,
	};
	unsigned int i;
	int pages = 0;

	if (ioctl(g->vm, KVM_GET_DIRTY_LOG, &log) ||
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

	if (self->guest.kvm < 0)
		SKIP(return, "no KVM");
	for (i = 0; i < 5; i++) {
		ASSERT_TRUE(guest_start(&self->guest));
		EXPECT_TRUE(guest_goes_on(&self->guest, 1));
		guest_stop(&self->guest);
		ASSERT_EQ(0, self->guest.bad_exit);
		pages = mark_dirty_log(&self->guest, self->fd, self->id);
		EXPECT_LE((LENGTH - DATA) / STRIDE - 1, pages);
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		/* Just these; the first round looks at all that is there. */
		if (i)
			EXPECT_EQ(pages, s.dirty_pages);
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
		EXPECT_SAME();

		/* Nobody writes, so nothing is looked at. */
		EXPECT_EQ(0, mark_dirty_log(&self->guest, self->fd, self->id));
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

	if (self->guest.kvm < 0)
		SKIP(return, "no KVM");
	ASSERT_TRUE(guest_start(&self->guest));
	for (i = 0; i < 8; i++) {
		ASSERT_LE(0, mark_dirty_log(&self->guest, self->fd, self->id));
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
		EXPECT_TRUE(guest_goes_on(&self->guest, 1));
	}
	guest_stop(&self->guest);
	ASSERT_EQ(0, self->guest.bad_exit);
	ASSERT_LT(0, mark_dirty_log(&self->guest, self->fd, self->id));
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FINAL));
	EXPECT_SAME();
	EXPECT_LT(0, self->model->all.xbzrle);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"

#if MM_HAVE_KVM

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define CODE		0x1000

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

#if defined(__x86_64__)
static bool guest_keep_registers(struct guest *g)
{
	return !ioctl(g->vcpu, KVM_GET_SREGS, &g->sregs);
}

static bool guest_set_registers(struct guest *g)
{
	struct kvm_sregs sregs = g->sregs;
	struct kvm_regs regs = {
		.rip = CODE,
		.rflags = 2,
		.rbx = GUEST_DATA,
		.rcx = g->length - GUEST_STRIDE,
		.rdi = GUEST_STRIDE,
	};
	struct kvm_segment flat = {
		.limit = 0xffffffff,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = 1,
	};

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

static bool guest_where(const struct guest *g, uint64_t *pc, uint64_t *at)
{
	struct kvm_regs regs;

	if (ioctl(g->vcpu, KVM_GET_REGS, &regs))
		return false;
	*pc = regs.rip;
	*at = regs.rdx;
	return true;
}

static bool guest_passed(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_IO && run->io.port == PORT;
}
#elif defined(__aarch64__)
/* KVM_ARM_VCPU_INIT gives all that are not set. */
static bool guest_keep_registers(struct guest *g)
{
	(void)g;
	return true;
}

static bool guest_set_registers(struct guest *g)
{
	const struct {
		size_t where;
		uint64_t value;
	} regs[] = {
		{ KVM_REG_ARM_CORE_REG(regs.pc), CODE },
		{ KVM_REG_ARM_CORE_REG(regs.regs[1]), GUEST_DATA },
		{ KVM_REG_ARM_CORE_REG(regs.regs[2]), g->length - GUEST_STRIDE },
		{ KVM_REG_ARM_CORE_REG(regs.regs[5]), GUEST_STRIDE },
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

static bool guest_get_register(const struct guest *g, uint64_t reg,
			       uint64_t *value)
{
	struct kvm_one_reg one = {
		.id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | reg,
		.addr = (uintptr_t)value,
	};

	return !ioctl(g->vcpu, KVM_GET_ONE_REG, &one);
}

static bool guest_where(const struct guest *g, uint64_t *pc, uint64_t *at)
{
	return guest_get_register(g, KVM_REG_ARM_CORE_REG(regs.pc), pc) &&
	       guest_get_register(g, KVM_REG_ARM_CORE_REG(regs.regs[3]), at);
}

static bool guest_passed(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write &&
	       run->mmio.phys_addr == PORT;
}
#endif

/* KVM's number of the memory. */
#define SLOT		0
/* How often a guest may begin. */
#define BEGUN_MAX	4
/* Seconds for which it may seem to be stuck. */
#define PATIENCE	10

static void interrupted(int sig)
{
	(void)sig;
}

/* In seconds. */
static time_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec;
}

/* Have the calling thread interrupted every @seconds, or no more. */
static bool guest_watch(struct guest *g, time_t seconds)
{
	const struct itimerspec time = {
		.it_value.tv_sec = seconds,
		.it_interval.tv_sec = seconds,
	};
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = SIGUSR1,
	};

	if (g->runner != gettid()) {
		if (g->runner)
			timer_delete(g->watch);
		g->runner = 0;
		event._sigev_un._tid = gettid();
		if (timer_create(CLOCK_MONOTONIC, &event, &g->watch))
			return false;
		g->runner = gettid();
	}
	return !timer_settime(g->watch, 0, &time, NULL);
}

/**
 * guest_make() - make a guest that is ready to run
 * @g: with @g->kvm from opening /dev/kvm
 * @mem: its memory
 * @length: bytes there
 * @flags: KVM_MEM_*
 *
 * Return: whether there is one.
 */
bool guest_make(struct guest *g, unsigned char *mem, size_t length,
		uint32_t flags)
{
	const struct sigaction action = { .sa_handler = interrupted };
	struct kvm_userspace_memory_region slot = {
		.slot = SLOT,
		.flags = flags,
		.memory_size = length,
		.userspace_addr = (uintptr_t)mem,
	};

	g->mem = mem;
	g->length = length;
	g->runner = 0;
	g->begun = 1;
	g->bad_exit = 0;
	/* mm_take_all_locks() gives up for any signal. */
	do {
		g->vm = ioctl(g->kvm, KVM_CREATE_VM, 0);
	} while (g->vm < 0 && errno == EINTR);
	if (g->vm < 0 || ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &slot))
		return false;
	g->vcpu = ioctl(g->vm, KVM_CREATE_VCPU, 0);
	g->run_size = ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	g->run = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		      g->vcpu, 0);
	memcpy(mem + CODE, code, sizeof(code));
	return g->vcpu >= 0 && g->run != MAP_FAILED &&
	       !sigaction(SIGUSR1, &action, NULL) && guest_keep_registers(g) &&
	       guest_set_registers(g);
}

/**
 * guest_drop() - end a guest
 * @g: from guest_make(), or without KVM
 */
void guest_drop(struct guest *g)
{
	if (g->kvm < 0)
		return;
	if (g->runner)
		timer_delete(g->watch);
	munmap(g->run, g->run_size);
	close(g->vcpu);
	close(g->vm);
	close(g->kvm);
}

/*
 * An emulated machine loses its guest now and then, whoever runs it: it shuts
 * down, runs into nowhere, stands still, or has got the registers of the host
 * and exits before its first instruction. If its code is what it was, nobody
 * has spoilt its memory, and it begins anew, but not for ever.
 */
static bool guest_begins_anew(struct guest *g)
{
	uint64_t pc = 0, at = 0;

	guest_where(g, &pc, &at);
	printf("# the guest was at %#llx (code: %#x), wrote at %#llx; exit %u\n",
	       (unsigned long long)pc, CODE, (unsigned long long)at,
	       g->run->exit_reason);
	if (g->begun == BEGUN_MAX || memcmp(g->mem + CODE, code, sizeof(code)))
		return false;
	g->begun++;
	return guest_set_registers(g);
}

/**
 * guest_run() - have the guest run until it has written everything once
 * @g: from guest_make()
 *
 * Return: 1 when it has, 0 if it was interrupted, or a negative errno with
 * @g->bad_exit set.
 */
int guest_run(struct guest *g)
{
	time_t since = now();
	int error;

	if (!guest_watch(g, PATIENCE)) {
		g->bad_exit = 1000 + errno;
		return -errno;
	}
	error = ioctl(g->vcpu, KVM_RUN, 0) ? errno : 0;
	guest_watch(g, 0);
	if (!error && guest_passed(g->run))
		return 1;
	if ((error == EINTR || error == EAGAIN) && now() - since < PATIENCE)
		return 0;
	if ((!error || error == EINTR) && guest_begins_anew(g))
		return 0;
	g->bad_exit = error ? 1000U + error : g->run->exit_reason;
	return error ? -error : -EIO;
}

/**
 * guest_dirty_log() - read and clear what KVM has seen written
 * @g: from guest_make(), with KVM_MEM_LOG_DIRTY_PAGES
 * @bitmap: gets a bit for each page, in whole longs
 *
 * Return: 0 or a negative errno.
 */
int guest_dirty_log(struct guest *g, void *bitmap)
{
	struct kvm_dirty_log log = { .slot = SLOT, .dirty_bitmap = bitmap };

	return ioctl(g->vm, KVM_GET_DIRTY_LOG, &log) ? -errno : 0;
}

#endif /* MM_HAVE_KVM */

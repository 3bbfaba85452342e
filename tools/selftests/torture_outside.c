// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * What others do to the memory: another process, a guest, and the handler of a
 * userfaultfd.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <linux/userfaultfd.h>

#include "guest.h"
#include "rnd.h"
#include "torture.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

static bool do_writev(struct act *a)
{
	unsigned char bytes[3 * UNIT / 2];
	const size_t length = a->length < sizeof(bytes) ? a->length :
			      sizeof(bytes);
	struct iovec from = { bytes, length }, to = { a->mem, length };
	bool done;

	memset(bytes, rnd(&a->state), length);
	done = process_vm_writev(world->target, &from, 1, &to, 1, 0) ==
	       (ssize_t)length;
	mark(a->r, a->offset, a->length);
	return done;
}

/* Also where the process itself may not write. */
static bool do_proc_mem(struct act *a)
{
	unsigned char bytes[64];
	char path[32];
	bool done;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", world->target);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	memset(bytes, rnd(&a->state), sizeof(bytes));
	pthread_mutex_lock(&world->served);
	done = pwrite(fd, bytes, sizeof(bytes), (uintptr_t)a->mem +
		      rnd_below(&a->state, UNIT - sizeof(bytes))) ==
	       sizeof(bytes);
	pthread_mutex_unlock(&world->served);
	close(fd);
	mark(a->r, a->offset, UNIT);
	return done;
}

static bool do_ptrace(struct act *a)
{
	pid_t tid = world->tids[rnd_below(&a->state, WRITERS)];
	unsigned char *to = a->mem + rnd_below(&a->state, UNIT / 8) * 8;
	int status, sig;
	bool done;

	if (!tid || ptrace(PTRACE_SEIZE, tid, NULL, NULL))
		return false;
	if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) ||
	    waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status))
		return false;
	pthread_mutex_lock(&world->served);
	done = !ptrace(PTRACE_POKEDATA, tid, to, rnd(&a->state));
	pthread_mutex_unlock(&world->served);
	mark(a->r, a->offset, UNIT);
	/* What came instead of the stop is the writer's to get. */
	sig = status >> 16 == PTRACE_EVENT_STOP ? 0 : WSTOPSIG(status);
	ptrace(PTRACE_DETACH, tid, NULL, (void *)(long)sig);
	return done;
}

/* Through its own mapping. */
static bool do_write(struct act *a)
{
	unsigned int i;

	for (i = 0; i < 16; i++)
		write_once(a->r, a->who, &a->state);
	return true;
}

static bool do_fallocate(struct act *a)
{
	return !fallocate(a->r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  a->r->below + a->offset, a->length);
}

const struct operation outside_operations[] = {
	{ "process_vm_writev, outside", do_writev },
	{ "/proc/PID/mem", do_proc_mem },
	{ "ptrace", do_ptrace },
	{ "writes of another process", do_write, 0, SEEN },
	{ "hole of another process", do_fallocate, 0, SEEN },
};

const unsigned int nr_outside_operations = ARRAY_SIZE(outside_operations);

static void outsider(void)
{
	uint64_t state = rnd_seed(world->seed, OUTSIDER);
	unsigned int turn;

	for (turn = 0; !stopped(); turn++) {
		pthread_rwlock_rdlock(&world->gate);
		operate(outside_operations, nr_outside_operations, NULL,
			world->outside, OUTSIDER, turn, &state);
		pthread_rwlock_unlock(&world->gate);
		usleep(rnd_below(&state, 4000));
	}
}

/**
 * outsider_start() - begin another process that meddles with the memory
 *
 * Return: its pid.
 */
pid_t outsider_start(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	outsider();
	_exit(0);
}

/**
 * struct uffd - a userfaultfd and who serves it
 * @fd: it, or -1
 * @thread: that serves
 * @there: the thread is
 * @stop: ends it
 */
static struct {
	int fd;
	pthread_t thread;
	bool there;
	int stop;
} uffd = { .fd = -1 };

static void wake(uint64_t addr)
{
	struct uffdio_range range = { addr, UNIT };

	ioctl(uffd.fd, UFFDIO_WAKE, &range);
}

static struct region *region_at(uint64_t addr)
{
	unsigned int i;

	for (i = 0; i < world->config->regions; i++) {
		struct region *r = &world->regions[i];

		if (addr >= (uintptr_t)r->mem &&
		    addr < (uintptr_t)r->mem + r->length)
			return r;
	}
	return NULL;
}

/*
 * A page of something, or the permission to write to the one that is there. The
 * unit is marked when it is in place, and before anybody goes on with it.
 */
static void serve(const struct uffd_msg *msg, uint64_t *state)
{
	static unsigned char page[UNIT] __attribute__((aligned(UNIT)));
	const uint64_t addr = msg->arg.pagefault.address & ~(uint64_t)(UNIT - 1);
	struct region *r = region_at(addr);
	struct uffdio_copy copy = {
		.dst = addr,
		.src = (uintptr_t)page,
		.len = UNIT,
		.mode = UFFDIO_COPY_MODE_DONTWAKE,
	};
	struct uffdio_zeropage zero = {
		.range = { addr, UNIT },
		.mode = UFFDIO_ZEROPAGE_MODE_DONTWAKE,
	};
	struct uffdio_writeprotect allow = { .range = { addr, UNIT } };

	if (msg->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) {
		ioctl(uffd.fd, UFFDIO_WRITEPROTECT, &allow);
		return;
	}
	if (rnd_below(state, 4)) {
		memset(page, rnd(state), UNIT);
		ioctl(uffd.fd, UFFDIO_COPY, &copy);
	} else {
		ioctl(uffd.fd, UFFDIO_ZEROPAGE, &zero);
	}
	if (r) {
		const size_t offset = addr - (uintptr_t)r->mem;

		mark(r, offset, UNIT);
		note(HANDLER, "UFFDIO_COPY", r, offset, UNIT, false);
	}
	wake(addr);
}

static void *serve_all(void *arg)
{
	uint64_t state = rnd_seed(world->seed, HANDLER);
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };
	struct uffd_msg msg;

	while (!__atomic_load_n(&uffd.stop, __ATOMIC_ACQUIRE)) {
		if (poll(&p, 1, 20) > 0 &&
		    read(uffd.fd, &msg, sizeof(msg)) == sizeof(msg) &&
		    msg.event == UFFD_EVENT_PAGEFAULT)
			serve(&msg, &state);
	}
	return NULL;
}

static bool uffd_begin(void)
{
	struct uffdio_api api = { .api = UFFD_API };

	if (env_has(HAS_UFFD_WP))
		api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP;
	uffd.fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (uffd.fd < 0 || ioctl(uffd.fd, UFFDIO_API, &api))
		return false;
	uffd.stop = 0;
	uffd.there = !pthread_create(&uffd.thread, NULL, serve_all, &uffd.fd);
	return uffd.there;
}

/**
 * uffd_watch() - have faults of memory served by somebody else
 * @mem: of a region
 * @length: bytes
 * @write_protect: those of writes to what is there, from now on; otherwise those
 *	of holes
 *
 * Return: whether they are.
 */
bool uffd_watch(unsigned char *mem, size_t length, bool write_protect)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)mem, length },
		.mode = write_protect ? UFFDIO_REGISTER_MODE_WP :
					UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)mem, length },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	if (ioctl(uffd.fd, UFFDIO_REGISTER, &reg))
		return false;
	if (!write_protect || !ioctl(uffd.fd, UFFDIO_WRITEPROTECT, &wp))
		return true;
	uffd_forget(mem, length);
	return false;
}

/**
 * uffd_forget() - faults are served by the kernel again
 * @mem: as for uffd_watch()
 * @length: likewise
 *
 * Return: whether they are.
 */
bool uffd_forget(unsigned char *mem, size_t length)
{
	struct uffdio_range range = { (uintptr_t)mem, length };
	bool done = !ioctl(uffd.fd, UFFDIO_UNREGISTER, &range);

	/*
	 * Where faults take the mapping's own lock, one may begin to wait after
	 * the call has woken those that wait, and nobody would serve it.
	 */
	ioctl(uffd.fd, UFFDIO_WAKE, &range);
	return done;
}

/* In the process whose memory it is. */
static struct {
	struct guest guest;
	struct region *r;
	pthread_t thread;
	bool there;
} machine = { .guest = { .kvm = -1 } };

#if MM_HAVE_KVM
/* Where memory cannot be accessed for a while, neither can the guest. */
static void *run_machine(void *arg)
{
	struct region *r = arg;
	unsigned int windows;
	int ret;

	while (!stopped()) {
		pthread_rwlock_rdlock(&world->gate);
		windows = __atomic_load_n(&world->windows, __ATOMIC_ACQUIRE);
		ret = guest_run(&machine.guest);
		pthread_rwlock_unlock(&world->gate);
		if (ret > 0) {
			__atomic_add_fetch(&world->passes, 1,
					   __ATOMIC_RELAXED);
			note(GUEST_CPU, "a pass", r, 0, r->length, false);
		} else if (ret == -EFAULT &&
			   (__atomic_load_n(&world->window,
					    __ATOMIC_ACQUIRE) ||
			    windows != __atomic_load_n(&world->windows,
						       __ATOMIC_ACQUIRE))) {
			sched_yield();
		} else if (ret < 0) {
			give_up("the guest does not run any more: %u",
				machine.guest.bad_exit);
			break;
		}
	}
	return NULL;
}

/**
 * guest_begin() - have the guest that the configuration may want
 *
 * In the process whose memory it is, before it is registered.
 *
 * Return: false if one is wanted and there is none.
 */
bool guest_begin(void)
{
	unsigned int i;

	for (i = 0; i < world->config->regions; i++) {
		struct region *r = &world->regions[i];

		if (!(r->kind->traits & GUEST))
			continue;
		machine.r = r;
		machine.guest.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
		return machine.guest.kvm >= 0 &&
		       guest_make(&machine.guest, r->mem - r->below,
				  r->below + r->length,
				  r->kind->traits & TOLD ?
				  KVM_MEM_LOG_DIRTY_PAGES : 0);
	}
	return true;
}

/**
 * guest_end() - end it, after helpers_stop()
 */
void guest_end(void)
{
	if (machine.guest.kvm >= 0)
		guest_drop(&machine.guest);
	machine.guest.kvm = -1;
	machine.r = NULL;
}

/**
 * guest_tell() - mark what KVM says that the guest wrote
 * @r: its region
 *
 * Return: whether KVM does.
 */
bool guest_tell(struct region *r)
{
	unsigned long log[MAX_UNITS / 8 / sizeof(long)] = { 0 };
	const unsigned char *bits = (const unsigned char *)log;
	unsigned int i;

	if (guest_dirty_log(&machine.guest, log)) {
		say("KVM does not tell what is dirty");
		return false;
	}
	for (i = 0; i < sizeof(log); i++)
		__atomic_fetch_or(&r->told[i], bits[i], __ATOMIC_RELEASE);
	return true;
}

static bool machine_start(void)
{
	if (machine.r)
		machine.there = !pthread_create(&machine.thread, NULL,
						run_machine, machine.r);
	return !machine.r || machine.there;
}
#else
bool guest_begin(void)
{
	return true;
}

void guest_end(void)
{
}

bool guest_tell(struct region *r)
{
	(void)r;
	return false;
}

static bool machine_start(void)
{
	return true;
}
#endif

/**
 * helpers_start() - begin the threads that belong to the memory's process
 *
 * Return: whether there are all that are wanted.
 */
bool helpers_start(void)
{
	return (!env_has(HAS_UFFD) || uffd_begin()) && machine_start();
}

/**
 * helpers_stop() - end them, when all others have ended
 */
void helpers_stop(void)
{
	/* Whom it served have ended. */
	__atomic_store_n(&uffd.stop, 1, __ATOMIC_RELEASE);
	if (uffd.there)
		pthread_join(uffd.thread, NULL);
	uffd.there = false;
	if (uffd.fd >= 0)
		close(uffd.fd);
	uffd.fd = -1;
	if (machine.there)
		pthread_join(machine.thread, NULL);
	machine.there = false;
}

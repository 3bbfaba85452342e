// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Processes whose memory is tracked by another, and what may become of them. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lifetime.h"
#include "mm.h"

#define GONE		(POLLERR | POLLHUP)
#define EVENT_SECONDS	20

enum order {
	NOTHING,
	FORK,
	EXEC,
	EXIT,
	UNMAP,
	MOVE,
	ORDERS,
};

/**
 * struct target - a process whose memory the worker's session tracks
 * @pid: of it
 * @id: of the region
 * @mem: its address there, inherited from the worker's own memory
 * @order: shared: what it is to do next
 * @done: shared: it has done it
 */
struct target {
	pid_t pid;
	uint32_t id;
	unsigned char *mem;
	int *order;
	int *done;
};

/* A copy of the memory goes its own way. */
static void fork_and_write(unsigned char *mem, uint64_t *state)
{
	pid_t pid = fork();
	unsigned int i;

	for (i = 0; !pid && i < 4; i++)
		life_scribble(mem, LIFE_LENGTH, state);
	if (!pid)
		_exit(0);
	life_scribble(mem, LIFE_LENGTH, state);
	waitpid(pid, NULL, 0);
}

static void obey(struct target *t, enum order what, uint64_t *state)
{
	size_t first = rnd_below(state, LIFE_PAGES);
	size_t nr = 1 + rnd_below(state, LIFE_PAGES - first);
	unsigned char *part = t->mem + first * UNIT;

	switch (what) {
	case FORK:
		fork_and_write(t->mem, state);
		break;
	case EXEC:
		execl("/proc/self/exe", "lifetime", "--idle", NULL);
		_exit(1);
	case EXIT:
		_exit(0);
	case UNMAP:
		munmap(part, nr * UNIT);
		break;
	case MOVE:
		if (mremap(part, nr * UNIT, nr * UNIT, MREMAP_MAYMOVE |
			   MREMAP_FIXED, mm_anon(nr * UNIT)) == MAP_FAILED)
			_exit(1);
		break;
	default:
		break;
	}
	__atomic_store_n(t->done, 1, __ATOMIC_RELEASE);
	/* What is not there any more cannot be written. */
	while (what == UNMAP || what == MOVE)
		pause();
}

static void target_loop(struct target *t, uint64_t state)
{
	enum order what;

	for (;;) {
		what = __atomic_exchange_n(t->order, NOTHING, __ATOMIC_ACQUIRE);
		if (what)
			obey(t, what, &state);
		life_scribble(t->mem, LIFE_LENGTH, &state);
		/* Leaves the CPU to those who make the turns. */
		usleep(rnd_below(&state, 300));
	}
}

static bool target_start(struct life *l, struct target *t)
{
	int *shared = mmap(NULL, UNIT, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		return life_fail(l, "no memory");
	*t = (struct target){
		.mem = l->bench.mem,
		.order = shared,
		.done = shared + 1,
	};
	t->pid = life_fork();
	if (!t->pid)
		target_loop(t, rnd_seed(rnd(&l->rnd), 0));
	return t->pid > 0 || life_fail(l, "fork: %s", strerror(errno));
}

/* 0, or -ESRCH, which is for the caller to judge. */
static int target_register(struct life *l, struct target *t)
{
	struct xbzrle_register out;
	int ret;

	ret = dev_register(l->bench.fd, life_bench_name(&l->bench), t->mem,
			   LIFE_LENGTH, t->pid, XBZRLE_TRACKER_AUTO, &out);
	t->id = ret ? 0 : out.region_id;
	if (ret && ret != -ESRCH)
		life_fail(l, "REGISTER: %s", strerror(-ret));
	return ret;
}

static void target_forget(struct target *t)
{
	munmap(t->order, UNIT);
}

/* Holds the target still: a round has all that is in its memory. */
static bool target_same(struct life *l, struct target *t)
{
	static unsigned char copy[LIFE_LENGTH];
	struct iovec local = { copy, LIFE_LENGTH };
	struct iovec remote = { t->mem, LIFE_LENGTH };
	char name[16];
	int status, ret;

	snprintf(name, sizeof(name), "r%u", l->bench.names - 1);
	kill(t->pid, SIGSTOP);
	if (waitpid(t->pid, &status, WUNTRACED) != t->pid ||
	    !WIFSTOPPED(status))
		return life_fail(l, "a target does not stop: %#x", status);
	ret = life_bench_round(&l->bench);
	if (ret)
		return life_fail(l, "a round of a target: %s %s",
				 strerror(-ret), l->bench.m->error);
	if (process_vm_readv(t->pid, &local, 1, &remote, 1, 0) != LIFE_LENGTH)
		return life_fail(l, "a target's memory: %s", strerror(errno));
	if (model_diff(l->bench.m, name, copy, 0, LIFE_LENGTH) != -1)
		return life_fail(l, "a round of a target is not right");
	kill(t->pid, SIGCONT);
	return true;
}

/* SYNC says so, of that region, poll() as well, and the others go on. */
static bool target_ended(struct life *l, struct target *t, int reason)
{
	struct life_bench *b = &l->bench;
	int gone = reason == -ESRCH ? GONE : 0;
	struct xbzrle_sync s;
	uint64_t from = (uintptr_t)t->mem;
	int ret;

	ret = dev_sync(b->fd, 0, &s);
	if (ret != reason || s.error_region != t->id)
		return life_fail(l, "SYNC of a region that ended: %s, not %s, region %u of %u",
				 strerror(-ret), strerror(-reason),
				 s.error_region, t->id);
	if (reason == -EFAULT &&
	    (s.error_addr < from || s.error_addr >= from + LIFE_LENGTH))
		return life_fail(l, "SYNC: no address of the region");
	if ((dev_poll(b->fd) & GONE) != gone)
		return life_fail(l, "poll() of a region that ended");
	ret = dev_unregister(b->fd, t->id);
	if (ret)
		return life_fail(l, "UNREGISTER: %s", strerror(-ret));
	if (dev_poll(b->fd) & GONE)
		return life_fail(l, "poll() after UNREGISTER");
	return life_bench_check(l);
}

/* SYNC and read() until it is over, or often enough. */
static bool rounds_until(struct life *l, struct target *t, int reason)
{
	struct xbzrle_sync s;
	unsigned int i;
	int ret;

	for (i = 0; i < 8; i++) {
		ret = dev_sync(l->bench.fd, 0, &s);
		if (reason && ret == reason)
			return s.error_region == t->id ||
			       life_fail(l, "SYNC names another region");
		if (ret && ret != -EBUSY)
			return life_fail(l, "SYNC: %s", strerror(-ret));
		if (!life_read_some(l, -reason))
			return false;
	}
	return true;
}

/* Killed at any moment from before REGISTER on. */
bool life_target_dies(struct life *l)
{
	bool early = rnd_below(&l->rnd, 4);
	struct life_killer k;
	struct target t;
	bool ok = true;
	int ret = 0;

	if (!target_start(l, &t))
		return false;
	if (!early)
		ok = !target_register(l, &t) && target_same(l, &t);
	if (!life_kill_later(l, &k, t.pid))
		return false;
	if (early)
		ret = target_register(l, &t);
	if (ok && !ret)
		ok = rounds_until(l, &t, -ESRCH);
	ok = life_killed(l, &k) && ok && (!ret || ret == -ESRCH);
	target_forget(&t);
	if (!ok || ret)
		return ok ? life_bench_check(l) :
			    life_fail(l, "a target that dies: %s",
				      strerror(-ret));
	return target_ended(l, &t, -ESRCH);
}

/* When it happens. */
enum stage {
	BEFORE_SYNC,
	AFTER_SYNC,
	IN_THE_ROUND,
	AFTER_FINAL,
	STAGES,
};

static bool reach(struct life *l, enum stage stage)
{
	uint32_t flags = stage == AFTER_FINAL ? XBZRLE_SYNC_FINAL : 0;
	int ret = 0;

	if (stage != BEFORE_SYNC)
		ret = dev_sync(l->bench.fd, flags, NULL);
	if (!ret && stage == AFTER_FINAL) {
		ret = dev_read_round(l->bench.fd, l->bench.m, 65536);
		l->bench.flags = XBZRLE_SYNC_FULL;
	}
	if (ret)
		return life_fail(l, "on the way: %s", strerror(-ret));
	return stage != IN_THE_ROUND || life_read_some(l, 0);
}

/* Waits for the order to have been obeyed. */
static bool obeyed(struct life *l, struct target *t, enum order what)
{
	double until = life_now() + EVENT_SECONDS;
	bool done = false;

	while (!done && life_now() < until) {
		if (what == EXEC || what == EXIT)
			done = dev_poll(l->bench.fd) & GONE;
		else
			done = __atomic_load_n(t->done, __ATOMIC_ACQUIRE);
		if (!done)
			usleep(100);
	}
	return done || life_fail(l, "a target does not do %d", what);
}

/* In any order with SYNC and read(), or at the same time. */
bool life_target_changes(struct life *l)
{
	static const int reasons[ORDERS] = {
		[EXEC] = -ESRCH,
		[EXIT] = -ESRCH,
		[UNMAP] = -EFAULT,
		[MOVE] = -EFAULT,
	};
	enum order order = FORK + rnd_below(&l->rnd, ORDERS - FORK);
	enum stage stage = rnd_below(&l->rnd, STAGES);
	/* Only a FULL round follows a FINAL one; rounds_until() asks for none. */
	bool wait = rnd_below(&l->rnd, 2) || stage == AFTER_FINAL;
	int reason = reasons[order];
	struct target t;
	bool ok;

	if (!target_start(l, &t))
		return false;
	ok = !target_register(l, &t) &&
	     (rnd_below(&l->rnd, 2) || target_same(l, &t)) &&
	     reach(l, stage);
	__atomic_store_n(t.order, order, __ATOMIC_RELEASE);
	if (ok && !wait)
		ok = rounds_until(l, &t, reason);
	ok = ok && obeyed(l, &t, order);
	if (ok && wait)
		ok = life_read_some(l, -reason);
	if (ok && order == FORK)
		ok = target_same(l, &t);
	if (order == EXIT)
		ok = waitpid(t.pid, NULL, 0) == t.pid && ok;
	else if (order != FORK)
		ok = ok && !kill(t.pid, 0) && target_ended(l, &t, reason);
	if (order != EXIT)
		ok = life_kill(l, t.pid) && ok;
	target_forget(&t);
	if (ok && (order == FORK || order == EXIT))
		ok = target_ended(l, &t, -ESRCH);
	return ok;
}

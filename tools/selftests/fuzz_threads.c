// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The same calls from several threads, and from another process that has the
 * same files open, while they close and replace them, and map and unmap the
 * memory. A session's number always stands for a session, or for nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"
#include "mm.h"

#include "kselftest.h"

#define THREADS		4U
/* The other process makes calls as one more. */
#define WORKERS		(THREADS + 1)
/* Above what is given out by itself: sessions, and owned memory. */
#define FIRST_SESSION	100
#define FIRST_OWNED	200
#define OWNED_FDS	4U
/* Ids of regions to be dropped are those that were given out last. */
#define IDS		8U
/* How long each of the other processes lives. */
#define LIFE_US		400000

/**
 * struct shared - what all of them see
 * @stop: the end has come
 * @process: the other process
 * @ids: of regions, by session
 * @calls: made by each
 * @good: those of them that succeeded
 * @failed: one of them came out wrong
 */
struct shared {
	int stop;
	pid_t process;
	uint32_t ids[FUZZ_SESSIONS][IDS];
	uint64_t calls[WORKERS];
	uint64_t good[WORKERS];
	int failed;
};

/**
 * struct worker - one who makes calls
 * @index: which
 * @thread: that does it
 * @view: where its structs are
 * @seed: of its calls
 * @pipe: to splice into
 */
struct worker {
	unsigned int index;
	pthread_t thread;
	struct fuzz_view view;
	uint64_t seed;
	int pipe[2];
};

static struct shared *shared;
static const struct xbzrle_info *limits;

#define E(error)	(1ULL << (error))
#define E_REGION	(E(EBUSY) | E(ENOSPC) | E(EMFILE))

/* What may happen to arguments that are right, besides success. */
static const uint64_t may_return[] = {
	[OP_CREATE]	= E_REGION,
	[OP_REGISTER]	= E_REGION | E(EFAULT) | E(ESRCH) | E(EPERM),
	[OP_UNREGISTER]	= E(EINVAL),
	[OP_SYNC]	= E(EBUSY) | E(EINVAL) | E(EFAULT) | E(ESRCH) |
			  E(ENOSPC),
	[OP_MARK_DIRTY]	= E(EINVAL) | E(EFAULT),
	[OP_READ]	= E(EFAULT) | E(ESRCH) | E(EAGAIN) | E(ENOSPC),
	[OP_READV]	= E(EFAULT) | E(ESRCH) | E(EAGAIN) | E(ENOSPC),
	[OP_SPLICE]	= E(EFAULT) | E(ESRCH) | E(EAGAIN) | E(ENOSPC),
	[OP_POLL]	= 0,
};

static bool may_be(const struct fuzz_call *call, const struct fuzz_view *view)
{
	uint64_t mask = may_return[call->op] | E(EBADF);
	enum fuzz_rule rule = RULE_OK;

	if (call->op <= OP_UNKNOWN)
		rule = fuzz_predict_argument(limits, view, call);
	if (rule)
		return call->ret == fuzz_rule_error(rule) ||
		       call->ret == -EBADF;
	if (call->ret >= 0)
		return true;
	if (call->op <= OP_UNKNOWN &&
	    !fuzz_view_allows(view, call->at, fuzz_known_size(call->cmd), true))
		mask |= E(EFAULT);
	if (call->op == OP_REGISTER && call->ret == -EOPNOTSUPP)
		return true;
	if (!(limits->features & (XBZRLE_FEATURE_TRACKER_PTE |
				  XBZRLE_FEATURE_TRACKER_EXTERNAL)) &&
	    call->op >= OP_SYNC)
		mask &= ~E(ESRCH);
	return call->ret > -64 && mask & E(-call->ret);
}

static void call_failed(const struct fuzz_call *call, const struct worker *w,
			const char *why)
{
	if (__atomic_exchange_n(&shared->failed, 1, __ATOMIC_RELAXED))
		return;
	ksft_print_msg("worker %u, seed %llu: %s\n", w->index,
		       (unsigned long long)w->seed, why);
	fuzz_print_call(call);
}

static void judge(const struct fuzz_call *call, const struct worker *w)
{
	shared->good[w->index] += call->ret >= 0;
	if (!may_be(call, &w->view))
		call_failed(call, w, "not a documented result");
}

/* From now on the number stands for another file, or for the first time. */
static void put_fd(int fd, int number)
{
	if (fd < 0)
		return;
	dup3(fd, number, O_CLOEXEC);
	close(fd);
}

static void make_ioctl(struct fuzz_call *call, struct worker *w, int fd)
{
	uint32_t *id = &shared->ids[call->session][call->pick % IDS];
	__u32 *region_id = fuzz_region_id(call);
	union fuzz_arg *arg = &call->arg;
	const union fuzz_arg *out = &call->out;

	/* These two change what all threads have. */
	call->nobody = false;
	call->no_fds = false;
	if (region_id && !*region_id)
		*region_id = __atomic_load_n(id, __ATOMIC_RELAXED);
	if (call->op == OP_REGISTER && call->who == WHO_CHILD)
		arg->reg.pid = __atomic_load_n(&shared->process,
					       __ATOMIC_RELAXED);
	else if (call->op == OP_REGISTER && call->who == WHO_NEGATIVE)
		arg->reg.pid = -1;
	fuzz_ioctl(call, &w->view, fd);
	judge(call, w);
	if (fuzz_view_changed(call, &w->view, fuzz_known_size(call->cmd)))
		call_failed(call, w, "the kernel wrote where it must not");
	if (call->ret)
		return;
	if (call->op == OP_CREATE) {
		put_fd(out->create.fd, FIRST_OWNED + call->pick % OWNED_FDS);
		__atomic_store_n(id, out->create.region_id, __ATOMIC_RELAXED);
	} else if (call->op == OP_REGISTER) {
		__atomic_store_n(id, out->reg.region_id, __ATOMIC_RELAXED);
	}
}

static void make_read(struct fuzz_call *call, struct worker *w, int fd)
{
	const struct iovec vec[] = {
		{ (void *)call->at, call->len },
		{ w->view.buffer + FUZZ_BUFFER / 2, call->len2 },
	};

	if (call->op == OP_READ)
		call->ret = read(fd, vec[0].iov_base, vec[0].iov_len);
	else if (call->op == OP_READV)
		call->ret = readv(fd, vec, 2);
	else
		call->ret = splice(fd, NULL, w->pipe[1], NULL, call->len,
				   SPLICE_F_NONBLOCK);
	if (call->ret < 0)
		call->ret = -errno;
	else if (call->op == OP_SPLICE && call->ret)
		call->ret = read(w->pipe[0], w->view.buffer, FUZZ_BUFFER);
	judge(call, w);
	if (call->ret > (int64_t)(call->len + call->len2))
		call_failed(call, w, "more than was asked for");
}

static void make_poll(struct fuzz_call *call, struct worker *w, int fd)
{
	call->ret = dev_poll(fd);
	if (call->ret & ~(POLLIN | POLLERR | POLLHUP | POLLNVAL))
		call_failed(call, w, "an event that is not documented");
	judge(call, w);
}

static void replace_session(const struct fuzz_call *call, int fd)
{
	struct xbzrle_stats stats;
	char path[64], text[64];
	int copy;

	switch (call->pick % 8) {
	case 0:
		close(fd);
		put_fd(dev_open(), fd);
		break;
	case 1:
		put_fd(dev_open(), fd);
		break;
	case 2:
		fcntl(fd, F_SETFL, call->pick & 8 ? O_NONBLOCK : 0);
		break;
	case 3 ... 5:
		/* The last to be closed, if the number is replaced meanwhile. */
		copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (copy < 0)
			break;
		dev_stats(copy, &stats);
		dev_sync(copy, 0, NULL);
		close(copy);
		break;
	default:
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
		mm_read_file(path, text, sizeof(text));
	}
}

/* What becomes of it is not looked at: others do the same. */
static void change_memory(const struct fuzz_call *call)
{
	int fd = FIRST_OWNED + call->pick % OWNED_FDS;
	struct fuzz_space self = { 0 };

	switch (call->op) {
	case OP_MAP:
		fuzz_space_map(&self, call->first, call->nr, call->kind, fd);
		break;
	case OP_MOVE:
		fuzz_space_move(&self, call->first, call->pick % FUZZ_PAGES);
		break;
	case OP_WRITE:
		fuzz_space_write(&self, call->first, call->nr, call->pick);
		break;
	default:
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  call->first % 8 * UNIT, call->nr * UNIT);
	}
}

static void work(struct worker *w)
{
	struct fuzz_call call;
	uint64_t nr = 0;
	int fd;

	while (!__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
		fuzz_make_call(&call, &w->view, w->seed, ++nr);
		fd = FIRST_SESSION + call.session;
		shared->calls[w->index]++;
		if (call.op <= OP_UNKNOWN)
			make_ioctl(&call, w, fd);
		else if (call.op <= OP_SPLICE)
			make_read(&call, w, fd);
		else if (call.op == OP_POLL)
			make_poll(&call, w, fd);
		else if (call.op == OP_REOPEN)
			replace_session(&call, fd);
		else
			change_memory(&call);
	}
}

static void *work_on(void *arg)
{
	work(arg);
	return NULL;
}

/* One process after the other, each with the files that are open just then. */
static void run_processes(struct worker *w, double seconds)
{
	unsigned int i, nr = seconds * 1e6 / LIFE_US + 1;
	pid_t pid;

	for (i = 0; i < nr; i++) {
		w->seed += THREADS + 1;
		pid = fork();
		if (!pid) {
			/* The one before may have left something in its pipe. */
			close(w->pipe[0]);
			close(w->pipe[1]);
			if (!pipe2(w->pipe, O_CLOEXEC))
				work(w);
			_exit(0);
		}
		__atomic_store_n(&shared->process, pid, __ATOMIC_RELAXED);
		usleep(LIFE_US);
		if (pid > 0) {
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
		}
	}
}

static bool set_up(struct worker *workers, uint64_t seed)
{
	struct fuzz_space self = { 0 };
	unsigned int i;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return false;
	for (i = 0; i < FUZZ_SESSIONS; i++)
		put_fd(dev_open(), FIRST_SESSION + i);
	for (i = 0; i < WORKERS; i++) {
		workers[i].index = i;
		workers[i].seed = rnd_seed(seed, i);
		if (!fuzz_view_init(&workers[i].view, i) ||
		    pipe2(workers[i].pipe, O_CLOEXEC))
			return false;
	}
	return fuzz_space_map(&self, 0, FUZZ_PAGES, KIND_PRIVATE, -1);
}

static void tear_down(struct worker *workers)
{
	struct fuzz_space self = { 0 };
	unsigned int i;

	for (i = 0; i < WORKERS; i++) {
		fuzz_view_destroy(&workers[i].view);
		close(workers[i].pipe[0]);
		close(workers[i].pipe[1]);
	}
	for (i = 0; i < FUZZ_SESSIONS; i++)
		close(FIRST_SESSION + i);
	for (i = 0; i < OWNED_FDS; i++)
		close(FIRST_OWNED + i);
	fuzz_space_destroy(&self);
	munmap(shared, sizeof(*shared));
}

/**
 * fuzz_threads - make calls from several threads and processes
 * @seed: of their calls; in which order they come is another matter
 * @seconds: for how long
 * @info: limits
 *
 * Return: false if a call came out as it must not, or all of somebody's did.
 */
bool fuzz_threads(uint64_t seed, double seconds,
		  const struct xbzrle_info *info)
{
	static struct worker workers[WORKERS];
	unsigned int i;
	bool ok = true;

	limits = info;
	if (!set_up(workers, seed))
		ksft_exit_fail_msg("no memory\n");
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&workers[i].thread, NULL, work_on,
				   &workers[i]))
			ksft_exit_fail_msg("no thread\n");
	run_processes(&workers[THREADS], seconds);
	__atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	for (i = 0; i < WORKERS; i++) {
		ksft_print_msg("worker %u: %llu calls, %llu good\n", i,
			       (unsigned long long)shared->calls[i],
			       (unsigned long long)shared->good[i]);
		ok &= shared->good[i] != 0;
	}
	ok &= !shared->failed;
	tear_down(workers);
	return ok;
}

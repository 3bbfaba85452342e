// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The module comes and goes, hundreds of times, with users that went just
 * before; and it stays while there is one. Nobody else may use it meanwhile. At
 * the end it is loaded.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "device.h"
#include "mm.h"
#include "rnd.h"

#include "kselftest.h"

#define MODULE		"/vm/ko/xbzrle.ko"
#define PAGES		8
#define LENGTH		(PAGES * UNIT)
/* What a CPU is kept busy; below what the scheduler lets real time have. */
#define BUSY_SECONDS	0.6
/* Which is this, of each second. */
#define REAL_TIME	0.95
/* What the one who keeps it busy ends with if it took longer than that. */
#define TOO_LONG	2
/* How often a busy machine may be too slow for that. */
#define TRIES		10

static const char *module = MODULE;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static int load(void)
{
	int fd = open(module, O_RDONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (syscall(SYS_finit_module, fd, "", 0))
		ret = -errno;
	close(fd);
	return ret;
}

/* As rmmod does: it does not wait for users. */
static int unload(void)
{
	return syscall(SYS_delete_module, "xbzrle", O_NONBLOCK) ? -errno : 0;
}

/* It went, and works again. */
static bool goes_and_comes(void)
{
	int gone = unload(), there = gone ? 0 : load();

	if (gone || there)
		ksft_print_msg("unload: %s, load: %s\n", strerror(-gone),
			       strerror(-there));
	return !gone && !there;
}

static bool is_used(const char *by)
{
	int ret = unload();

	/* What the kernel says to O_NONBLOCK where a user has to be awaited. */
	if (ret == -EWOULDBLOCK)
		return true;
	ksft_print_msg("unload with %s: %s\n", by, strerror(-ret));
	if (!ret)
		load();
	return false;
}

/* Each kind of user by itself keeps the module; without any it goes. */
static bool users_keep_it(void)
{
	int fd, rfd, sock[2], *cmsg_fd;
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	unsigned char *mem;
	bool ok;

	fd = dev_open();
	rfd = dev_create(fd, "owned", LENGTH, NULL);
	if (rfd < 0)
		return false;
	mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	if (mem == MAP_FAILED)
		return false;
	memset(mem, 0x33, LENGTH);
	ok = is_used("all of it");
	close(rfd);
	ok &= is_used("a session and a mapping");
	close(fd);
	ok &= is_used("a mapping");
	ok &= mem[LENGTH - 1] == 0x33;
	munmap(mem, LENGTH);
	ok &= goes_and_comes();

	fd = dev_open();
	ok &= is_used("a session");
	rfd = dev_create(fd, "owned", LENGTH, NULL);
	close(fd);
	ok &= rfd >= 0 && is_used("a region's descriptor");

	/* On its way to somebody, who never takes it. */
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, sock))
		return false;
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	cmsg_fd = (int *)CMSG_DATA(cmsg);
	*cmsg_fd = rfd;
	ok &= sendmsg(sock[0], &msg, 0) == 1;
	close(rfd);
	ok &= is_used("a descriptor in a socket");
	close(sock[0]);
	close(sock[1]);
	return ok && goes_and_comes();
}

/* Bytes in a pipe are the kernel's: they need no module. */
static bool pipe_outlives_it(void)
{
	struct model *m = model_new();
	unsigned char *mem = mm_anon(LENGTH), *owned, bytes[4 * LENGTH];
	int fd, rfd, pipefd[2];
	ssize_t n = 0;
	bool ok;

	fd = dev_open();
	rfd = dev_create(fd, "spliced", LENGTH, NULL);
	owned = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	if (!m || !mem || owned == MAP_FAILED || pipe(pipefd))
		return false;
	memset(mem, 0x5a, LENGTH);
	memcpy(owned, mem, LENGTH);
	ok = !dev_sync(fd, 0, NULL);
	while (ok && splice(fd, NULL, pipefd[1], NULL, 65536, 0) > 0)
		;
	munmap(owned, LENGTH);
	close(rfd);
	close(fd);
	close(pipefd[1]);
	ok = ok && goes_and_comes();
	while (ok && (n = read(pipefd[0], bytes, sizeof(bytes))) > 0)
		ok = !model_feed(m, bytes, n);
	ok = ok && !n && model_idle(m) &&
	     model_diff(m, "spliced", mem, 0, LENGTH) == -1;
	close(pipefd[0]);
	munmap(mem, LENGTH);
	model_free(m);
	return ok;
}

static int on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

enum turn {
	PREPARING,
	READY,
	CLOSE,
	CLOSED,
	IDLE_AGAIN,
};

static void await(int *turn, enum turn wanted)
{
	while (__atomic_load_n(turn, __ATOMIC_ACQUIRE) < (int)wanted)
		;
}

static void set_turn(int *turn, enum turn to)
{
	__atomic_store_n(turn, to, __ATOMIC_RELEASE);
}

/*
 * Gives up the last region of its mm and then lets nothing else run on CPU 0,
 * not even what the kernel has still to do about that region there.
 */
static void close_and_keep_busy(int *turn)
{
	const struct sched_param first = { .sched_priority = 1 };
	unsigned char *mem = mm_anon(LENGTH);
	int fd = dev_open();
	double from, until;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (on_cpu(0) || !mem ||
	    dev_register(fd, "late", mem, LENGTH, 0, XBZRLE_TRACKER_AUTO,
			 NULL))
		_exit(1);
	from = now();
	if (sched_setscheduler(0, SCHED_FIFO, &first))
		_exit(1);
	set_turn(turn, READY);
	await(turn, CLOSE);
	close(fd);
	until = now() + BUSY_SECONDS;
	set_turn(turn, CLOSED);
	while (now() < until)
		;
	set_turn(turn, IDLE_AGAIN);
	_exit(now() - from < REAL_TIME ? 0 : TOO_LONG);
}

/*
 * What is freed after the last region of an mm is freed by a callback, which
 * may wait for its CPU much longer than any other CPU's. The module has to stay
 * until it has run. On machines with few CPUs that takes a kernel booted with
 * srcutree.convert_to_big=1. *too_slow if it may have run although the CPU was
 * kept busy.
 */
static bool waits_for_callbacks(bool *too_slow)
{
	unsigned char *mem = mm_anon(LENGTH);
	int *turn, fd, status = 1, gone;
	bool waited = false;
	cpu_set_t before;
	pid_t pid;

	*too_slow = false;
	turn = mmap(NULL, UNIT, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	sched_getaffinity(0, sizeof(before), &before);
	if (!mem || turn == MAP_FAILED || on_cpu(1))
		return false;
	pid = fork();
	if (!pid)
		close_and_keep_busy(turn);
	fd = dev_open();
	if (!dev_register(fd, "early", mem, LENGTH, 0, XBZRLE_TRACKER_AUTO,
			  NULL)) {
		await(turn, READY);
		/* This CPU shall drive the grace period. */
		close(fd);
		set_turn(turn, CLOSE);
		await(turn, CLOSED);
		gone = unload();
		waited = !gone && __atomic_load_n(turn, __ATOMIC_ACQUIRE) ==
			 IDLE_AGAIN;
	} else {
		gone = -EINVAL;
		kill(pid, SIGKILL);
	}
	waitpid(pid, &status, 0);
	*too_slow = !gone && WIFEXITED(status) &&
		    WEXITSTATUS(status) == TOO_LONG;
	if (!waited)
		ksft_print_msg("unload did not wait: %s%s\n", strerror(-gone),
			       *too_slow ? ", and the CPU was not kept busy" :
					   "");
	sched_setaffinity(0, sizeof(before), &before);
	munmap(turn, UNIT);
	munmap(mem, LENGTH);
	return !gone && !load() && waited && !status;
}

static bool waits_for_callbacks_in_time(void)
{
	bool too_slow = true, waits = false;
	unsigned int i;

	for (i = 0; i < TRIES && too_slow; i++)
		waits = waits_for_callbacks(&too_slow);
	return waits;
}

static void fill(unsigned char *mem, uint64_t *state)
{
	unsigned int i;
	uint64_t value;

	for (i = 0; i < 32; i++) {
		value = rnd(state);
		memcpy(mem + rnd_below(state, LENGTH / 8) * 8, &value, 8);
	}
}

/* A process uses the device in some way and ends in some way. */
static void use_and_end(uint64_t *state)
{
	unsigned char *mem = mm_anon(LENGTH), *owned;
	struct model *m = model_new();
	int fd = dev_open(), rfd;
	bool ok;

	rfd = dev_create(fd, "owned", LENGTH, NULL);
	owned = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	if (!mem || !m || owned == MAP_FAILED)
		_exit(2);
	ok = !dev_set_cache(fd, LENGTH);
	if (dev_has_pte())
		ok = ok && !dev_register(fd, "mine", mem, LENGTH / 2, 0,
					 XBZRLE_TRACKER_AUTO, NULL) &&
		     !dev_register(fd, "rest", mem + LENGTH / 2, LENGTH / 2, 0,
				   XBZRLE_TRACKER_AUTO, NULL);
	fill(mem, state);
	fill(owned, state);
	if (rnd_below(state, 2)) {
		ok = ok && !dev_round(fd, m, 0);
		fill(mem, state);
		fill(owned, state);
	}
	ok = ok && !dev_round(fd, m, 0) &&
	     model_diff(m, "owned", owned, 0, LENGTH) == -1;
	if (dev_has_pte())
		ok = ok &&
		     model_diff(m, "mine", mem, 0, LENGTH / 2) == -1 &&
		     model_diff(m, "rest", mem + LENGTH / 2, 0,
				LENGTH / 2) == -1;
	fill(mem, state);
	/* A round that nobody reads. */
	if (rnd_below(state, 2))
		ok = ok && !dev_sync(fd, 0, NULL);
	switch (rnd_below(state, 4)) {
	case 0:
		munmap(mem, LENGTH);
		break;
	case 1:
		close(fd);
		break;
	case 2:
		close(rfd);
		munmap(owned, LENGTH);
		break;
	}
	if (!ok)
		_exit(1);
	kill(getpid(), SIGKILL);
}

/* Users that went right before it. */
/* What the kernel asks of everybody, it asks of a module that went no more. */
static bool stays_unasked(void)
{
	int gone = unload();

	return !gone && !mm_write_file("/proc/sys/vm/drop_caches", "2") &&
	       !load();
}

static bool comes_and_goes(uint64_t seed, double seconds, unsigned int *loads)
{
	uint64_t state = rnd_seed(seed, 0);
	double end = now() + seconds;
	unsigned int i, nr;
	int status;

	while (now() < end) {
		nr = rnd_below(&state, 4);
		for (i = 0; i < nr; i++) {
			rnd(&state);
			if (fork())
				continue;
			state = rnd_seed(state, i);
			use_and_end(&state);
		}
		for (i = 0; i < nr; i++) {
			if (wait(&status) < 0 || !WIFSIGNALED(status)) {
				ksft_print_msg("load %u: a user failed: %#x\n",
					       *loads, status);
				return false;
			}
		}
		if (!goes_and_comes())
			return false;
		++*loads;
	}
	return true;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'r' },
		{ "module", required_argument, NULL, 'm' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	uint64_t seed = time(NULL);
	unsigned int loads = 0;
	double seconds = 10;
	int option;
	bool ok;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 's':
			seconds = strtod(optarg, NULL);
			break;
		case 'r':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'm':
			module = optarg;
			break;
		default:
			fprintf(stderr,
				"usage: %s [--seconds N] [--seed N] [--module FILE]\n",
				argv[0]);
			return option == 'h' ? 0 : 2;
		}
	}

	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	ksft_set_plan(dev_has_pte() ? 5 : 4);
	ksft_print_msg("seed %llu\n", (unsigned long long)seed);
	ksft_test_result(users_keep_it(), "unload: users keep the module\n");
	ksft_test_result(pipe_outlives_it(),
			 "unload: bytes in a pipe outlive the module\n");
	if (!dev_has_pte())
		ksft_print_msg("waits for callbacks: left out, there is no pte tracker\n");
	else if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		ksft_test_result(waits_for_callbacks_in_time(),
				 "unload: waits for callbacks\n");
	else
		ksft_test_result_skip("unload: waits for callbacks: one CPU\n");
	ksft_test_result(stays_unasked(), "unload: it is not asked any more\n");
	ok = comes_and_goes(seed, seconds, &loads);
	ksft_print_msg("loaded %u times\n", loads);
	ksft_test_result(ok && loads, "unload: the module comes and goes\n");
	ksft_finished();
}

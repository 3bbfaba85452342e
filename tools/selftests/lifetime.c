// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Runs each scenario of lifetime.h in several processes for a while. Who
 * survives must go on as if nothing had been; and when all is over no memory is
 * lost, no process left, and the module not in use.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lifetime.h"
#include "mm.h"

#include "kselftest.h"

#define WORKERS		3
/* A turn that takes longer hangs. */
#define PATIENCE	60
/* Turns between two sessions of a worker. */
#define BENCH_TURNS	16
#define REFCNT		"/sys/module/xbzrle/refcnt"
/*
 * All that the module allocates is charged to the control group of who caused
 * it, to the byte where it comes from the slab. So what the group still has
 * when its processes are gone, and had not after the first pass, was lost.
 */
#define GROUP		"/sys/fs/cgroup/lifetime"

/* Those that need memory which exists to be tracked say so. */
static const struct {
	const char *name;
	bool (*turn)(struct life *l);
	bool pte;
} scenarios[] = {
	{ "a target is killed", life_target_dies, true },
	{ "a target forks, execs, exits, unmaps, moves", life_target_changes,
	  true },
	{ "a reader is killed", life_reader_dies, true },
	{ "a session is passed on and its opener killed", life_session_passed,
	  true },
	{ "a session is closed in use", life_closed_in_use },
	{ "a session is closed or killed while a read hangs", life_blocked },
	{ "owned memory and its users end in any order", life_owned_outlives },
	{ "processes that track each other are killed", life_ring, true },
};

#define SCENARIOS	ARRAY_SIZE(scenarios)

/**
 * life_fail - note that something is not as it has to be
 * @l: worker
 * @fmt: what
 *
 * Return: false.
 */
bool life_fail(struct life *l, const char *fmt, ...)
{
	va_list ap;

	if (__atomic_exchange_n(&l->results->failed, 1, __ATOMIC_SEQ_CST))
		return false;
	va_start(ap, fmt);
	vsnprintf(l->results->error, sizeof(l->results->error), fmt, ap);
	va_end(ap);
	return false;
}

/**
 * life_delay - how long to wait before something is to end
 * @l: worker
 *
 * Return: microseconds; short ones are as likely as long ones.
 */
unsigned int life_delay(struct life *l)
{
	return rnd_below(&l->rnd, 1 << rnd_below(&l->rnd, 14));
}

/**
 * life_scribble - write here and there
 * @mem: memory
 * @length: bytes there
 * @state: random numbers
 */
void life_scribble(unsigned char *mem, size_t length, uint64_t *state)
{
	unsigned int i;
	uint64_t value;

	for (i = 0; i < 8; i++) {
		value = rnd(state);
		memcpy(mem + rnd_below(state, length / 8) * 8, &value, 8);
	}
}

/**
 * life_now - the time
 *
 * Return: seconds since some moment.
 */
double life_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/**
 * life_fork - fork() a child that does not outlive its parent
 *
 * Return: as fork().
 */
pid_t life_fork(void)
{
	pid_t parent = getpid(), pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
	}
	return pid;
}

static bool reap(struct life *l, pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return life_fail(l, "no child %d: %s", pid, strerror(errno));
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		return life_fail(l, "a child ended by itself: %#x", status);
	__atomic_add_fetch(&l->results->kills, 1, __ATOMIC_RELAXED);
	return true;
}

/**
 * life_kill - kill a child and wait for its end
 * @l: worker
 * @pid: child
 *
 * Return: false if it had ended by itself.
 */
bool life_kill(struct life *l, pid_t pid)
{
	kill(pid, SIGKILL);
	return reap(l, pid);
}

static void *kill_later(void *arg)
{
	struct life_killer *k = arg;

	usleep(k->delay);
	kill(k->pid, SIGKILL);
	return NULL;
}

/**
 * life_kill_later - have a child killed at some moment from now on
 * @l: worker
 * @k: filled in
 * @pid: child
 *
 * Return: false if nobody will do it.
 */
bool life_kill_later(struct life *l, struct life_killer *k, pid_t pid)
{
	k->pid = pid;
	k->delay = life_delay(l);
	if (pthread_create(&k->thread, NULL, kill_later, k))
		return life_fail(l, "no thread");
	return true;
}

/**
 * life_killed - wait for the end of a child
 * @l: worker
 * @k: from life_kill_later()
 *
 * Return: false if it ended by itself.
 */
bool life_killed(struct life *l, struct life_killer *k)
{
	pthread_join(k->thread, NULL);
	return reap(l, k->pid);
}

/**
 * life_bench_open - make the session that survives
 * @l: worker
 *
 * Return: false if it cannot be made.
 */
bool life_bench_open(struct life *l)
{
	struct life_bench *b = &l->bench;

	*b = (struct life_bench){ .fd = dev_open(), .m = model_new() };
	b->mem = mm_anon(LIFE_LENGTH);
	b->rfd = dev_create(b->fd, "own", LIFE_LENGTH, NULL);
	b->own = mmap(NULL, LIFE_LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED,
		      b->rfd, 0);
	if (!b->m || !b->mem || b->own == MAP_FAILED ||
	    dev_set_cache(b->fd, LIFE_LENGTH) ||
	    (dev_has_pte() && dev_register(b->fd, "mem", b->mem, LIFE_LENGTH, 0,
					   XBZRLE_TRACKER_AUTO, NULL)))
		return life_fail(l, "no session");
	/* Something to inherit for those who are forked. */
	memset(b->mem, 0x11, LIFE_LENGTH);
	return life_bench_check(l);
}

/**
 * life_bench_close - end it
 * @l: worker
 */
void life_bench_close(struct life *l)
{
	struct life_bench *b = &l->bench;

	munmap(b->own, LIFE_LENGTH);
	munmap(b->mem, LIFE_LENGTH);
	close(b->rfd);
	close(b->fd);
	model_free(b->m);
}

/**
 * life_bench_name - a name that no region of the session had
 * @b: session
 *
 * Return: the name, until the next call.
 */
const char *life_bench_name(struct life_bench *b)
{
	static char name[16];

	snprintf(name, sizeof(name), "r%u", b->names++);
	return name;
}

/**
 * life_bench_round - finish a round and make another
 * @b: session
 *
 * Return: 0 or a negative errno.
 */
int life_bench_round(struct life_bench *b)
{
	int ret = dev_read_round(b->fd, b->m, 4096);

	if (!ret && !model_idle(b->m))
		ret = -EBADMSG;
	if (!ret)
		ret = dev_round(b->fd, b->m, b->flags);
	if (!ret)
		b->flags = 0;
	return ret;
}

/**
 * life_bench_check - does the session give right rounds?
 * @l: worker; what is left of a round is read first
 *
 * Return: false if not.
 */
bool life_bench_check(struct life *l)
{
	struct life_bench *b = &l->bench;
	int ret;

	life_scribble(b->mem, LIFE_LENGTH, &l->rnd);
	life_scribble(b->own, LIFE_LENGTH, &l->rnd);
	ret = life_bench_round(b);
	if (ret)
		return life_fail(l, "a round: %s %s", strerror(-ret),
				 b->m->error);
	if ((dev_has_pte() &&
	     model_diff(b->m, "mem", b->mem, 0, LIFE_LENGTH) != -1) ||
	    model_diff(b->m, "own", b->own, 0, LIFE_LENGTH) != -1)
		return life_fail(l, "a round is not right");
	return true;
}

/**
 * life_read_some - read part of a round, or all
 * @l: worker
 * @may_fail: the errno that may come instead, or 0
 *
 * Return: false for another error, and for bytes that are no stream.
 */
bool life_read_some(struct life *l, int may_fail)
{
	unsigned int reads = rnd_below(&l->rnd, 12);
	unsigned char bytes[3 * UNIT];
	ssize_t n = 1;

	while (reads-- && n > 0) {
		n = read(l->bench.fd, bytes,
			 1 + rnd_below(&l->rnd, sizeof(bytes)));
		if (n < 0 && errno != may_fail)
			return life_fail(l, "read(): %s", strerror(errno));
		if (n > 0 && model_feed(l->bench.m, bytes, n))
			return life_fail(l, "read(): %s", l->bench.m->error);
	}
	return true;
}

/* What carries descriptors over a socket. */
struct fd_message {
	char control[CMSG_SPACE(2 * sizeof(int))];
	char byte;
	struct iovec iov;
	struct msghdr msg;
};

static void fd_message(struct fd_message *f, unsigned int nr)
{
	*f = (struct fd_message){ .iov = { &f->byte, 1 } };
	f->msg.msg_iov = &f->iov;
	f->msg.msg_iovlen = 1;
	f->msg.msg_control = f->control;
	f->msg.msg_controllen = CMSG_SPACE(nr * sizeof(int));
}

/**
 * life_send_fds - put descriptors into a socket
 * @sock: socket
 * @fds: descriptors
 * @nr: 1 or 2
 *
 * Return: false if the socket does not take them.
 */
bool life_send_fds(int sock, const int *fds, unsigned int nr)
{
	struct cmsghdr *cmsg;
	struct fd_message f;

	fd_message(&f, nr);
	cmsg = CMSG_FIRSTHDR(&f.msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(nr * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, nr * sizeof(int));
	return sendmsg(sock, &f.msg, 0) == 1;
}

/**
 * life_recv_fds - take descriptors out of a socket
 * @sock: socket
 * @fds: descriptors
 * @nr: as many as were sent
 *
 * Return: false if there are none.
 */
bool life_recv_fds(int sock, int *fds, unsigned int nr)
{
	struct cmsghdr *cmsg;
	struct fd_message f;

	fd_message(&f, nr);
	if (recvmsg(sock, &f.msg, MSG_CMSG_CLOEXEC) != 1)
		return false;
	cmsg = CMSG_FIRSTHDR(&f.msg);
	if (!cmsg || cmsg->cmsg_len != CMSG_LEN(nr * sizeof(int)))
		return false;
	memcpy(fds, CMSG_DATA(cmsg), nr * sizeof(int));
	return true;
}

static bool join_group(void)
{
	return !mm_write_file(GROUP "/cgroup.procs", "0");
}

static void work(unsigned int which, struct life *l, double seconds)
{
	double end = life_now() + seconds;
	bool ok = join_group() || life_fail(l, "no control group");

	while (ok && life_now() < end &&
	       !__atomic_load_n(&l->results->failed, __ATOMIC_RELAXED)) {
		if (l->turn % BENCH_TURNS == 0) {
			if (l->turn)
				life_bench_close(l);
			ok = life_bench_open(l);
		}
		ok = ok && scenarios[which].turn(l);
		l->turn++;
		__atomic_add_fetch(&l->results->turns, 1, __ATOMIC_RELAXED);
	}
	_exit(!ok);
}

/* Wait until the processes of a group are gone, all of them. */
static bool group_ended(struct life *l, const pid_t *workers, double until)
{
	pid_t pid, group = workers[0];
	int status, i;

	while (life_now() < until) {
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			for (i = 0; i < WORKERS; i++)
				if (pid == workers[i] && status)
					life_fail(l, "worker %d ended: %#x", i,
						  status);
		if (kill(-group, 0) && errno == ESRCH)
			return true;
		usleep(2000);
	}
	return false;
}

static void run(unsigned int which, uint64_t seed, double seconds,
		struct life_results *results)
{
	double until = life_now() + seconds + PATIENCE;
	struct life l = { .results = results };
	pid_t workers[WORKERS], group = 0;
	unsigned int i;

	fflush(stdout);
	for (i = 0; i < WORKERS; i++) {
		l.rnd = rnd_seed(seed, which * WORKERS + i);
		workers[i] = life_fork();
		if (!workers[i]) {
			setpgid(0, group);
			work(which, &l, seconds);
		}
		setpgid(workers[i], group);
		group = workers[0];
	}
	if (!group_ended(&l, workers, until)) {
		life_fail(&l, "a process is left after %d s", PATIENCE);
		kill(-group, SIGKILL);
		group_ended(&l, workers, life_now() + PATIENCE);
	}
}

static bool module_is_idle(void)
{
	unsigned int tries;
	char text[32];

	/* io_uring lets go of files in its own time. */
	for (tries = 0; tries < 500; tries++) {
		if (!mm_read_file(REFCNT, text, sizeof(text)) &&
		    !strcmp(text, "0\n"))
			return true;
		usleep(10000);
	}
	ksft_print_msg("the module has %s users\n", text);
	return false;
}

enum {
	GROUP_SLAB,	/* bytes */
	GROUP_KERNEL,	/* bytes, in pages: slab, vmalloc, page tables, bases */
	GROUP_PERCPU,
	GROUP_SHMEM,
	FREE,		/* kB from here on, of the machine */
	SLAB,
	PERCPU,
	VALUES,
};

/**
 * struct value - something that must be as before
 * @file: where it stands
 * @key: before its number there
 * @unit: bytes in 1
 * @tolerance: bytes that others need now and then
 * @less: what is lost makes it smaller
 */
struct value {
	const char *file;
	const char *key;
	unsigned int unit;
	long long tolerance;
	bool less;
};

/*
 * Of the group: a name of a dropped region has 32 bytes; if each turn lost one,
 * 256 turns would be enough to see it, and 16 of a page each. The kernel at
 * large shows what is charged to nobody, a page per turn after 512 turns, but
 * a debug kernel takes some megabytes for its own records.
 */
static const struct value values[VALUES] = {
	[GROUP_SLAB] = { GROUP "/memory.stat", "slab_unreclaimable ", 1,
			 8 << 10 },
	[GROUP_KERNEL] = { GROUP "/memory.stat", "kernel ", 1, 64 << 10 },
	[GROUP_PERCPU] = { GROUP "/memory.stat", "percpu ", 1, 4 << 10 },
	[GROUP_SHMEM] = { GROUP "/memory.stat", "shmem ", 1, 0 },
	[FREE] = { "/proc/meminfo", "MemFree: ", 1024, 2 << 20, true },
	[SLAB] = { "/proc/meminfo", "SUnreclaim: ", 1024, 1 << 20 },
	[PERCPU] = { "/proc/meminfo", "Percpu: ", 1024, 256 << 10 },
};

static long long value_read(const struct value *v)
{
	static char text[16384];
	char *p;

	if (mm_read_file(v->file, text, sizeof(text)))
		return -1;
	p = strstr(text, v->key);
	return p ? strtoll(p + strlen(v->key), NULL, 10) * v->unit : -1;
}

/* Free pages that the CPUs keep, which are not in MemFree. */
static long long kept_free(void)
{
	static char text[65536];
	long long pages = 0;
	char *p = text;

	if (mm_read_file("/proc/zoneinfo", text, sizeof(text)))
		return 0;
	while ((p = strstr(p, " count: "))) {
		p += strlen(" count: ");
		pages += strtoll(p, NULL, 10);
	}
	return pages * sysconf(_SC_PAGESIZE);
}

/* Empty slabs, and what KASAN keeps of freed objects. */
static void shrink_slabs(void)
{
	glob_t files;
	size_t i;

	if (glob("/sys/kernel/slab/*/shrink", 0, NULL, &files))
		return;
	for (i = 0; i < files.gl_pathc; i++)
		mm_write_file(files.gl_pathv[i], "1");
	globfree(&files);
}

/* With all caches dropped, and what is freed late freed. */
static void values_read(long long *to)
{
	unsigned int i;

	shrink_slabs();
	for (i = 0; i < 3; i++) {
		mm_write_file("/proc/sys/vm/drop_caches", "3");
		/* The group's numbers are brought up to date every 2 s. */
		sleep(1);
	}
	for (i = 0; i < VALUES; i++)
		to[i] = value_read(&values[i]);
	to[FREE] += kept_free();
}

static bool values_agree(const long long *before, const long long *after)
{
	bool ok = true, good;
	long long lost, tolerance;
	unsigned int i;

	for (i = 0; i < VALUES; i++) {
		lost = after[i] - before[i];
		if (values[i].less)
			lost = -lost;
		tolerance = values[i].tolerance;
		if (i >= FREE && mm_debug_kernel())
			tolerance *= 4;
		good = before[i] >= 0 && after[i] >= 0 && lost <= tolerance;
		ksft_print_msg("%s %s%lld bytes before, %lld after%s\n",
			       values[i].file, values[i].key, before[i],
			       after[i], good ? "" : ": too much is lost");
		ok &= good;
	}
	return ok;
}

static bool can_run(unsigned int which)
{
	return dev_has_pte() || !scenarios[which].pte;
}

static unsigned int count_scenarios(void)
{
	unsigned int i, nr = 0;

	for (i = 0; i < SCENARIOS; i++)
		nr += can_run(i);
	return nr;
}

static bool make_group(void)
{
	mm_write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	return (!mkdir(GROUP, 0755) || errno == EEXIST) &&
	       !access(GROUP "/memory.stat", R_OK);
}

static void test(uint64_t seed, double seconds)
{
	struct life_results *results, *r;
	long long before[VALUES], after[VALUES];
	uint64_t turns = 0, kills = 0;
	bool same = false;
	unsigned int i;

	results = mmap(NULL, SCENARIOS * sizeof(*results),
		       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		       0);
	if (results == MAP_FAILED || !make_group())
		ksft_exit_fail_msg("no memory, or no control group\n");

	/* So that what is made once is there when memory is looked at. */
	for (i = 0; i < SCENARIOS; i++)
		if (can_run(i))
			run(i, ~seed, seconds / SCENARIOS / 10, &results[i]);
	values_read(before);
	for (i = 0; i < SCENARIOS; i++) {
		r = &results[i];
		if (!can_run(i)) {
			ksft_print_msg("%s: left out, as this kernel has no pte tracker\n",
				       scenarios[i].name);
			continue;
		}
		if (!r->failed) {
			memset(r, 0, sizeof(*r));
			run(i, seed, seconds / SCENARIOS, r);
		}
		ksft_print_msg("%s: %llu turns, %llu kills %s\n",
			       scenarios[i].name, (unsigned long long)r->turns,
			       (unsigned long long)r->kills, r->error);
		ksft_test_result(!r->failed && r->turns, "lifetime: %s\n",
				 scenarios[i].name);
		turns += r->turns;
		kills += r->kills;
	}
	ksft_print_msg("in all %llu turns, %llu kills\n",
		       (unsigned long long)turns, (unsigned long long)kills);
	ksft_test_result(module_is_idle(), "lifetime: nobody is left\n");
	/* A busy machine is late with the group's numbers; what is lost stays so. */
	for (i = 0; !same && i < 5; i++) {
		values_read(after);
		same = values_agree(before, after);
	}
	ksft_test_result(same, "lifetime: as much memory as before\n");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'r' },
		{ "idle", no_argument, NULL, 'i' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	uint64_t seed = time(NULL);
	double seconds = mm_debug_kernel() ? 30 : 20;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 's':
			seconds = strtod(optarg, NULL);
			break;
		case 'r':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'i':
			/* What a process becomes that execs. */
			return pause();
		default:
			fprintf(stderr, "usage: %s [--seconds N] [--seed N]\n",
				argv[0]);
			return option == 'h' ? 0 : 2;
		}
	}

	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	ksft_set_plan(count_scenarios() + 2);
	ksft_print_msg("seed %llu\n", (unsigned long long)seed);
	/* Who loses a parent comes to us. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	test(seed, seconds);
	ksft_finished();
}

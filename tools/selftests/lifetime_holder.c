// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Those who hold sessions, regions and their memory, and how they end. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "lifetime.h"
#include "mm.h"
#include "uring.h"

#define HALF		(LIFE_LENGTH / 2)
/* Where a session is put that threads may still name after its close(). */
#define HIGH_FD		200
#define EVENT_SECONDS	20
#define GONE		(POLLERR | POLLHUP)

/* Memory of the worker besides its bench's: nobody tracks it yet. */
static unsigned char *plain_memory(void)
{
	unsigned char *p = mmap(NULL, LIFE_LENGTH, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/*
 * Whoever tracked this memory is gone without a trace: another session may
 * track it at once, and what it gets is right.
 */
static bool is_free(struct life *l, unsigned char *mem)
{
	struct model *m = model_new();
	int fd = dev_open(), ret;
	bool ok;

	ret = dev_track(fd, "free", mem, LIFE_LENGTH);
	if (!ret)
		ret = dev_round(fd, m, 0);
	if (!ret)
		life_scribble(mem, LIFE_LENGTH, &l->rnd);
	if (!ret)
		ret = dev_round(fd, m, 0);
	ok = !ret && model_diff(m, "free", mem, 0, LIFE_LENGTH) == -1;
	if (!ok)
		life_fail(l, "memory that was tracked: %s",
			  ret ? strerror(-ret) : "it comes out wrong");
	close(fd);
	model_free(m);
	return ok;
}

/*
 * Reads and checks what @m says of it, until it is killed. Who cannot go on
 * ends by itself, which is noticed.
 */
static void reader_loop(int fd, struct model *m, uint64_t state)
{
	unsigned char bytes[2 * UNIT];
	struct uring u = { .fd = -1 };
	ssize_t n;

	if (!rnd_below(&state, 4) && uring_open(&u))
		u.fd = -1;
	for (;;) {
		if (dev_sync(fd, rnd_below(&state, 16) ? 0 :
			     XBZRLE_SYNC_FULL, NULL))
			_exit(2);
		do {
			n = u.fd < 0 ? read(fd, bytes, sizeof(bytes)) :
			    uring_read(&u, fd, bytes, sizeof(bytes));
			if (n < 0 || model_feed(m, bytes, n))
				_exit(3);
		} while (n);
		if (!model_idle(m))
			_exit(4);
		dev_set_cache(fd, rnd_below(&state, LIFE_LENGTH));
	}
}

/* Tracks a part of its parent's memory, and some of its own. */
static void reader(unsigned char *mem, size_t length, uint64_t state)
{
	struct model *m = model_new();
	unsigned char *own;
	int fd = dev_open(), rfd;

	rfd = dev_create(fd, "own", HALF, NULL);
	own = mmap(NULL, HALF, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	if (!m || own == MAP_FAILED)
		_exit(1);
	life_scribble(own, HALF, &state);
	if (dev_register(fd, "parent", mem, length, getppid(),
			 XBZRLE_TRACKER_AUTO, NULL) ||
	    dev_register(fd, "mine", mem, length, 0, XBZRLE_TRACKER_AUTO,
			 NULL))
		_exit(1);
	reader_loop(fd, m, state);
}

/* Two of them, a half of the memory each, while it is written. */
bool life_reader_dies(struct life *l)
{
	unsigned char *mem = plain_memory();
	static unsigned char shadow[LIFE_LENGTH];
	double until = life_now() + life_delay(l) / 1e6;
	uint64_t state[2], seed;
	struct life_killer k[2];
	unsigned int i;
	bool ok = true;

	if (!mem)
		return life_fail(l, "no memory");
	memset(mem, 0x22, LIFE_LENGTH);
	memset(shadow, 0x22, LIFE_LENGTH);
	for (i = 0; i < 2; i++) {
		seed = rnd(&l->rnd);
		k[i].pid = life_fork();
		if (!k[i].pid)
			reader(mem + i * HALF, HALF, rnd_seed(seed, i));
	}
	for (i = 0; i < 2; i++)
		ok &= life_kill_later(l, &k[i], k[i].pid);
	do {
		state[0] = rnd(&l->rnd);
		state[1] = state[0];
		life_scribble(mem, LIFE_LENGTH, &state[0]);
		life_scribble(shadow, LIFE_LENGTH, &state[1]);
	} while (life_now() < until);
	for (i = 0; i < 2; i++)
		ok = life_killed(l, &k[i]) && ok;
	if (memcmp(mem, shadow, LIFE_LENGTH))
		ok = life_fail(l, "memory changed while it was tracked");
	if (!rnd_below(&l->rnd, 8) && mm_vm_flag(mem, "nh"))
		ok = life_fail(l, "huge pages do not come back");
	ok = ok && is_free(l, mem);
	munmap(mem, LIFE_LENGTH);
	return ok && life_bench_check(l);
}

/* A session with its own memory and owned memory, for somebody else. */
static void opener(int sock, unsigned char *mem, uint64_t state)
{
	unsigned char *own;
	int fds[2];

	fds[0] = dev_open();
	fds[1] = dev_create(fds[0], "own", LIFE_LENGTH, NULL);
	own = mmap(NULL, LIFE_LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED,
		   fds[1], 0);
	if (own == MAP_FAILED)
		_exit(1);
	memset(own, 0x77, LIFE_LENGTH);
	memset(mem, 0x66, LIFE_LENGTH);
	if (dev_register(fds[0], "opener", mem, LIFE_LENGTH, 0,
			 XBZRLE_TRACKER_AUTO, NULL) ||
	    !life_send_fds(sock, fds, 2))
		_exit(2);
	for (;;) {
		/* Also in a round, or without one. */
		if (rnd_below(&state, 2))
			dev_sync(fds[0], 0, NULL);
		life_scribble(mem, LIFE_LENGTH, &state);
		own[0] = 0x77;
		usleep(rnd_below(&state, 500));
	}
}

/* The session is ours now: pid 0 is us, and the opener's memory has ended. */
static bool heir(struct life *l, int fd, int rfd, unsigned char *mem)
{
	struct model *m = model_new();
	unsigned char bytes[LIFE_LENGTH];
	struct xbzrle_sync s;
	int ret;

	ret = dev_sync(fd, 0, &s);
	if (ret != -ESRCH || !(dev_poll(fd) & GONE))
		return life_fail(l, "the dead opener's memory: %s",
				 strerror(-ret));
	ret = dev_unregister(fd, s.error_region);
	/* What the opener began cannot be received, but read. */
	if (!ret)
		ret = dev_read_round(fd, NULL, 4096);
	if (!ret)
		ret = dev_register(fd, "heir", mem, LIFE_LENGTH, 0,
				   XBZRLE_TRACKER_AUTO, NULL);
	if (!ret)
		ret = dev_round(fd, m, XBZRLE_SYNC_FULL);
	if (ret)
		return life_fail(l, "an inherited session: %s",
				 strerror(-ret));
	if (pread(rfd, bytes, LIFE_LENGTH, 0) != LIFE_LENGTH ||
	    bytes[0] != 0x77 || bytes[LIFE_LENGTH - 1] != 0x77 ||
	    model_diff(m, "own", bytes, 0, LIFE_LENGTH) != -1)
		return life_fail(l, "inherited owned memory is not right");
	if (model_diff(m, "heir", mem, 0, LIFE_LENGTH) != -1)
		return life_fail(l, "pid 0 is not who calls");
	life_scribble(mem, LIFE_LENGTH, &l->rnd);
	ret = dev_round(fd, m, 0);
	if (ret || model_diff(m, "heir", mem, 0, LIFE_LENGTH) != -1)
		return life_fail(l, "pid 0 is not who calls, in round 2: %s",
				 strerror(-ret));
	model_free(m);
	return true;
}

bool life_session_passed(struct life *l)
{
	unsigned char *mem = plain_memory();
	struct life_killer k;
	uint64_t seed = rnd(&l->rnd);
	int sock[2], fds[2];
	bool ok, got;

	if (!mem || socketpair(AF_UNIX, SOCK_STREAM, 0, sock))
		return life_fail(l, "no memory or socket");
	life_scribble(mem, LIFE_LENGTH, &l->rnd);
	k.pid = life_fork();
	if (!k.pid)
		opener(sock[1], mem, rnd_seed(seed, 0));
	close(sock[1]);
	ok = life_kill_later(l, &k, k.pid);
	/* Taken before the opener dies, or after, or the session dies too. */
	got = rnd_below(&l->rnd, 2) && life_recv_fds(sock[0], fds, 2);
	ok = life_killed(l, &k) && ok;
	if (!got)
		got = life_recv_fds(sock[0], fds, 2);
	if (got) {
		ok = ok && heir(l, fds[0], fds[1], mem);
		close(fds[0]);
		close(fds[1]);
	}
	close(sock[0]);
	ok = ok && is_free(l, mem);
	munmap(mem, LIFE_LENGTH);
	return ok && life_bench_check(l);
}

/**
 * struct crowd - threads that use one session
 * @l: worker
 * @fd: session
 * @mem: memory that is registered
 * @m: receiver; only the first thread reads
 * @seed: of their random numbers
 * @next: gives each a number
 */
struct crowd {
	struct life *l;
	int fd;
	unsigned char *mem;
	struct model *m;
	uint64_t seed;
	int next;
};

#define CROWD		4

/* One use of the session; 0, a documented error, -EBADF when it is closed. */
static int use_session(struct crowd *c, uint64_t *state)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	struct xbzrle_register out;
	struct xbzrle_stats stats;
	char name[32], text[4096];
	int ret;

	switch (rnd_below(state, 6)) {
	case 0:
		ret = dev_sync(c->fd, 0, NULL);
		return ret == -EBUSY ? 0 : ret;
	case 1:
		snprintf(name, sizeof(name), "n%llx",
			 (unsigned long long)rnd(state));
		ret = dev_register(c->fd, name, c->mem + HALF, HALF, 0,
				   XBZRLE_TRACKER_AUTO, &out);
		if (!ret)
			ret = dev_unregister(c->fd, out.region_id);
		if (ret == -EOPNOTSUPP && !dev_has_pte())
			return 0;
		return ret == -EBUSY ? 0 : ret;
	case 2:
		poll(&p, 1, 1);
		return p.revents & POLLNVAL ? -EBADF :
		       p.revents & GONE ? -EIO : 0;
	case 3:
		return dev_stats(c->fd, &stats);
	case 4:
		return dev_set_cache(c->fd, rnd_below(state, LIFE_LENGTH));
	default:
		snprintf(name, sizeof(name), "/proc/self/fdinfo/%d", c->fd);
		ret = mm_read_file(name, text, sizeof(text));
		return ret == -ENOENT ? -EBADF : ret;
	}
}

static int read_session(struct crowd *c, uint64_t *state)
{
	unsigned char bytes[2 * UNIT];
	ssize_t n = read(c->fd, bytes, 1 + rnd_below(state, sizeof(bytes)));

	if (n < 0)
		return -errno;
	return model_feed(c->m, bytes, n);
}

static void *in_the_crowd(void *arg)
{
	struct crowd *c = arg;
	int number = __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED);
	uint64_t state = rnd_seed(c->seed, number);
	int ret;

	do {
		ret = number ? use_session(c, &state) :
			       read_session(c, &state);
	} while (!ret);
	if (ret != -EBADF)
		life_fail(c->l, "a session in use by many: %s %s",
			  strerror(-ret), c->m->error);
	return NULL;
}

static void to_high_fd(struct crowd *c)
{
	int fd = dev_open();

	c->fd = dup3(fd, HIGH_FD, O_CLOEXEC);
	close(fd);
}

/* close() while threads read, SYNC, REGISTER, poll and look. */
bool life_closed_in_use(struct life *l)
{
	struct crowd c = { .l = l, .m = model_new(), .seed = rnd(&l->rnd) };
	pthread_t threads[CROWD];
	unsigned int i;
	bool ok;

	c.mem = plain_memory();
	to_high_fd(&c);
	if (!c.mem || dev_track(c.fd, "crowd", c.mem, HALF))
		return life_fail(l, "no session");
	for (i = 0; i < CROWD; i++)
		if (pthread_create(&threads[i], NULL, in_the_crowd, &c))
			abort();
	for (i = rnd_below(&l->rnd, 30); i; i--) {
		life_scribble(c.mem, LIFE_LENGTH, &l->rnd);
		usleep(rnd_below(&l->rnd, 200));
	}
	close(c.fd);
	for (i = 0; i < CROWD; i++)
		pthread_join(threads[i], NULL);
	ok = !l->results->failed && is_free(l, c.mem);
	munmap(c.mem, LIFE_LENGTH);
	model_free(c.m);
	return ok && life_bench_check(l);
}

/**
 * struct stuck - a read() whose buffer's page fault waits for this process
 * @c: its session
 * @uffd: userfaultfd that has the fault
 * @buffer: of the read()
 * @got: what the read() said
 * @synced: what a SYNC said that waited for it
 */
struct stuck {
	struct crowd c;
	int uffd;
	unsigned char *buffer;
	ssize_t got;
	int synced;
};

static void *stuck_read(void *arg)
{
	struct stuck *s = arg;

	s->got = read(s->c.fd, s->buffer, UNIT);
	if (s->got < 0)
		s->got = -errno;
	return NULL;
}

static void *stuck_sync(void *arg)
{
	struct stuck *s = arg;

	s->synced = dev_sync(s->c.fd, 0, NULL);
	return NULL;
}

static bool stuck_prepare(struct stuck *s)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	s->buffer = mm_anon(UNIT);
	s->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	reg.range.start = (uintptr_t)s->buffer;
	reg.range.len = UNIT;
	to_high_fd(&s->c);
	return s->uffd >= 0 && !ioctl(s->uffd, UFFDIO_API, &api) &&
	       !ioctl(s->uffd, UFFDIO_REGISTER, &reg) &&
	       !dev_track(s->c.fd, "stuck", s->c.mem, LIFE_LENGTH) &&
	       !dev_sync(s->c.fd, 0, NULL);
}

/* The fault has come: the read() holds the session. */
static bool stuck_now(struct stuck *s)
{
	struct pollfd p = { .fd = s->uffd, .events = POLLIN };
	struct iovec iov = { s->c.mem, 1 };
	struct uffd_msg msg;

	return poll(&p, 1, EVENT_SECONDS * 1000) == 1 &&
	       read(s->uffd, &msg, sizeof(msg)) == sizeof(msg) &&
	       msg.event == UFFD_EVENT_PAGEFAULT &&
	       preadv2(s->c.fd, &iov, 1, -1, RWF_NOWAIT) == -1 &&
	       errno == EAGAIN && dev_poll(s->c.fd) == POLLIN;
}

static bool unstick(struct stuck *s, bool serve)
{
	struct uffdio_zeropage zero = {
		.range = { (uintptr_t)s->buffer, UNIT },
	};

	if (serve && ioctl(s->uffd, UFFDIO_ZEROPAGE, &zero))
		return false;
	/* Or nobody serves it any more, and it is a fault like any other. */
	close(s->uffd);
	return true;
}

static void on_signal(int sig)
{
	(void)sig;
}

static void stuck_child(struct stuck *s, int ready)
{
	pthread_t threads[2];

	if (!stuck_prepare(s) ||
	    pthread_create(&threads[0], NULL, stuck_read, s) ||
	    !stuck_now(s) ||
	    pthread_create(&threads[1], NULL, stuck_sync, s) ||
	    write(ready, "", 1) != 1)
		_exit(1);
	if (s->c.seed & 1)
		close(s->c.fd);
	pause();
}

/* A process is killed with a thread in the fault and one that waits. */
static bool stuck_killed(struct life *l, struct stuck *s)
{
	int pipefd[2];
	char byte;
	pid_t pid;
	bool ok;

	if (pipe2(pipefd, O_CLOEXEC))
		return life_fail(l, "no pipe");
	pid = life_fork();
	if (!pid)
		stuck_child(s, pipefd[1]);
	close(pipefd[1]);
	ok = read(pipefd[0], &byte, 1) == 1;
	close(pipefd[0]);
	if (ok)
		usleep(life_delay(l) / 4);
	return life_kill(l, pid) && ok;
}

/* Closed while it hangs, in the hands of two threads. */
static bool stuck_closed(struct life *l, struct stuck *s)
{
	bool signal = rnd_below(&l->rnd, 2), ok;
	pthread_t threads[2];

	if (!stuck_prepare(s) ||
	    pthread_create(&threads[0], NULL, stuck_read, s) || !stuck_now(s))
		return life_fail(l, "nothing hangs");
	if (pthread_create(&threads[1], NULL, stuck_sync, s))
		abort();
	usleep(life_delay(l) / 4);
	/* Until it has come so far that it can be interrupted. */
	while (signal && pthread_tryjoin_np(threads[1], NULL)) {
		pthread_kill(threads[1], SIGUSR1);
		usleep(500);
	}
	close(s->c.fd);
	ok = unstick(s, rnd_below(&l->rnd, 2));
	pthread_join(threads[0], NULL);
	if (!signal)
		pthread_join(threads[1], NULL);
	/* It may have come before the SYNC did, or after close(). */
	if (signal ? s->synced != -EINTR :
	    s->synced != -EBUSY && s->synced != -EBADF)
		ok = life_fail(l, "SYNC behind a read() that hangs: %s",
			       strerror(-s->synced));
	if (s->got <= 0 || model_feed(s->c.m, s->buffer, s->got))
		ok = life_fail(l, "a read() that hung: %s %s",
			       strerror(-s->got), s->c.m->error);
	munmap(s->buffer, UNIT);
	return ok || life_fail(l, "the fault is not served");
}

bool life_blocked(struct life *l)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct stuck s = { .c = { .m = model_new(), .seed = rnd(&l->rnd) } };
	bool ok;

	sigaction(SIGUSR1, &action, NULL);
	s.c.mem = plain_memory();
	if (!s.c.mem)
		return life_fail(l, "no memory");
	memset(s.c.mem, 0x44, LIFE_LENGTH);
	ok = rnd_below(&l->rnd, 2) ? stuck_killed(l, &s) :
				     stuck_closed(l, &s);
	ok = ok && is_free(l, s.c.mem);
	munmap(s.c.mem, LIFE_LENGTH);
	model_free(s.c.m);
	return ok && life_bench_check(l);
}

/* What one byte of owned memory has in each page, from whoever maps it. */
#define MAGIC(page)	(0x80 | (page))

/* Has its own page to write, and looks at all others. */
static void mapper(unsigned char *own, unsigned int number)
{
	unsigned int i, turn;

	for (turn = 0;; turn++) {
		for (i = 0; i < LIFE_PAGES; i++)
			if (own[i * UNIT] != MAGIC(i))
				_exit(1);
		own[number * UNIT + 1 + turn % (UNIT - 1)]++;
		usleep(200);
	}
}

/* The session still gives it: the part nobody writes must be right. */
static bool own_round(struct life *l, int fd, struct model *m)
{
	unsigned char page[UNIT] = { MAGIC(LIFE_PAGES - 1) };
	int ret = dev_round(fd, m, 0);

	return (!ret && !memcmp(model_find(m, "shared")->mem + LIFE_LENGTH -
				UNIT, page, UNIT)) ||
	       life_fail(l, "a round of shared memory: %s %s", strerror(-ret),
			 m->error);
}

static bool own_read(struct life *l, int rfd)
{
	unsigned char byte;
	unsigned int i;

	for (i = 0; i < LIFE_PAGES; i++)
		if (pread(rfd, &byte, 1, i * UNIT) != 1 || byte != MAGIC(i))
			return life_fail(l, "owned memory lost its content");
	return true;
}

enum end {
	SESSION_CLOSES,
	REGION_CLOSES,
	WE_UNMAP,
	FIRST_DIES,
	SECOND_DIES,
	PASSED_ON,
	ENDS,
};

/* Session, descriptor, mappings and their processes, one after the other. */
bool life_owned_outlives(struct life *l)
{
	enum end order[ENDS], swap;
	struct model *m = model_new();
	int fd = dev_open(), rfd, passed = -1, sock[2];
	unsigned char *own;
	pid_t mappers[2];
	unsigned int i, j;
	bool ok;

	rfd = dev_create(fd, "shared", LIFE_LENGTH, NULL);
	own = mmap(NULL, LIFE_LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, rfd,
		   0);
	if (own == MAP_FAILED || !m ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, sock))
		return life_fail(l, "no owned memory");
	for (i = 0; i < LIFE_PAGES; i++)
		own[i * UNIT] = MAGIC(i);
	for (i = 0; i < 2; i++) {
		mappers[i] = life_fork();
		if (!mappers[i]) {
			close(fd);
			close(rfd);
			close(sock[0]);
			close(sock[1]);
			mapper(own, i);
		}
	}
	for (i = 0; i < ENDS; i++) {
		j = rnd_below(&l->rnd, i + 1);
		order[i] = i;
		swap = order[j];
		order[j] = order[i];
		order[i] = swap;
	}

	ok = own_round(l, fd, m);
	for (i = 0; ok && i < ENDS; i++) {
		switch (order[i]) {
		case SESSION_CLOSES:
			ok = own_round(l, fd, m);
			close(fd);
			fd = -1;
			break;
		case REGION_CLOSES:
			close(rfd);
			rfd = -1;
			break;
		case WE_UNMAP:
			munmap(own, LIFE_LENGTH);
			own = MAP_FAILED;
			break;
		case FIRST_DIES:
			ok = life_kill(l, mappers[0]);
			break;
		case SECOND_DIES:
			ok = life_kill(l, mappers[1]);
			break;
		default:
			/* In a socket it lives as well. */
			if (rfd >= 0)
				ok = life_send_fds(sock[0], &rfd, 1);
			if (ok && rfd >= 0 && rnd_below(&l->rnd, 2))
				ok = life_recv_fds(sock[1], &passed, 1);
		}
		if (ok && own != MAP_FAILED)
			own[LIFE_PAGES / 2 * UNIT + 1 + i]++;
		if (ok && fd >= 0)
			ok = own_round(l, fd, m);
		if (ok && rfd >= 0)
			ok = own_read(l, rfd);
	}
	if (ok && passed >= 0) {
		ok = own_read(l, passed);
		own = mmap(NULL, LIFE_LENGTH, PROT_READ | PROT_WRITE,
			   MAP_SHARED, passed, 0);
		ok = ok && own != MAP_FAILED && own[0] == MAGIC(0);
		if (ok)
			munmap(own, LIFE_LENGTH);
	}
	close(passed);
	close(sock[0]);
	close(sock[1]);
	model_free(m);
	return ok && life_bench_check(l);
}

#define RING		3
#define RING_PART	(LIFE_LENGTH / RING)

/**
 * struct ring - processes that track each other
 * @pids: theirs
 * @ready: how many have their memory
 * @failed: what one met that is no answer to the death of another
 */
struct ring {
	pid_t pids[RING];
	int ready;
	int failed;
};

static int track(int fd, struct ring *r, unsigned char *mem,
		 unsigned int whom, unsigned int part)
{
	char name[8] = { 'p', '0' + part };
	int ret;

	ret = dev_register(fd, name, mem + part * RING_PART, RING_PART,
			   r->pids[whom], XBZRLE_TRACKER_AUTO, NULL);
	return ret == -ESRCH ? 0 : ret;
}

/* Tracks a part of each other one until they are dead, or it is. */
static void ring_member(struct ring *r, unsigned char *mem,
			unsigned int number, uint64_t state)
{
	struct model *m = model_new();
	int fd = dev_open(), ret;
	struct xbzrle_sync s;

	__atomic_add_fetch(&r->ready, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&r->ready, __ATOMIC_ACQUIRE) <= RING)
		sched_yield();
	ret = dev_set_cache(fd, LIFE_LENGTH);
	if (!ret)
		ret = track(fd, r, mem, (number + 1) % RING, 0);
	if (!ret)
		ret = track(fd, r, mem, (number + 2) % RING, 1);
	while (!ret) {
		life_scribble(mem, LIFE_LENGTH, &state);
		ret = dev_sync(fd, 0, &s);
		if (!ret || ret == -EBUSY)
			ret = dev_read_round(fd, m, 1 + rnd_below(&state,
								  2 * UNIT));
		if (ret == -ESRCH) {
			/* read() does not say of whom. */
			ret = dev_sync(fd, 0, &s);
			if (ret == -ESRCH)
				ret = dev_unregister(fd, s.error_region);
		}
		/* Nobody is left. */
		if (ret == -EINVAL)
			pause();
	}
	__atomic_store_n(&r->failed, -ret, __ATOMIC_RELAXED);
	_exit(1);
}

/*
 * Who is in the middle of a look at the memory of a dead process keeps it for
 * that moment, also for others.
 */
static bool ring_death_told(struct life *l)
{
	double until = life_now() + EVENT_SECONDS;
	int ret;

	do {
		ret = dev_sync(l->bench.fd, 0, NULL);
		if (ret == -ESRCH)
			return true;
		if (!ret || ret == -EBUSY)
			ret = dev_read_round(l->bench.fd, l->bench.m, UNIT);
	} while ((!ret || ret == -ESRCH) && life_now() < until);
	return life_fail(l, "SYNC after a death: %s %s", strerror(-ret),
			 l->bench.m->error);
}

static bool ring_ok(struct life *l, struct ring *r)
{
	int failed = __atomic_load_n(&r->failed, __ATOMIC_RELAXED);

	return !failed || life_fail(l, "in the ring: %s", strerror(failed));
}

static bool ring_kill(struct life *l, struct ring *r)
{
	bool dead[RING] = { false };
	unsigned int left, i;

	for (left = RING; left; left--) {
		do {
			i = rnd_below(&l->rnd, RING);
		} while (dead[i]);
		usleep(life_delay(l) / 2);
		if (!ring_ok(l, r) || !life_kill(l, r->pids[i]))
			return false;
		dead[i] = true;
		if (!ring_death_told(l))
			return false;
	}
	return true;
}

/* The worker tracks the part of each that is left. */
bool life_ring(struct life *l)
{
	struct life_bench *b = &l->bench;
	struct xbzrle_register out[RING];
	uint64_t seed = rnd(&l->rnd);
	struct ring *r;
	unsigned int i;
	bool ok = true;
	pid_t pid;
	int ret;

	r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (r == MAP_FAILED)
		return life_fail(l, "no memory");
	for (i = 0; i < RING; i++) {
		pid = life_fork();
		if (!pid)
			ring_member(r, b->mem, i, rnd_seed(seed, i));
		r->pids[i] = pid;
		ret = dev_register(b->fd, life_bench_name(b),
				   b->mem + 2 * RING_PART, RING_PART,
				   r->pids[i], XBZRLE_TRACKER_AUTO, &out[i]);
		if (ret)
			ok = life_fail(l, "REGISTER: %s", strerror(-ret));
	}
	/* The last to be ready: all pids are known. */
	__atomic_add_fetch(&r->ready, 1, __ATOMIC_RELEASE);
	ret = ok ? life_bench_round(b) : 0;
	if (ret)
		ok = life_fail(l, "a round of a ring: %s %s", strerror(-ret),
			       b->m->error);
	ok = ring_kill(l, r) && ring_ok(l, r) && ok;
	for (i = 0; ok && i < RING; i++) {
		ret = dev_unregister(b->fd, out[i].region_id);
		if (ret)
			ok = life_fail(l, "UNREGISTER: %s", strerror(-ret));
	}
	munmap(r, sizeof(*r));
	return ok && life_bench_check(l);
}

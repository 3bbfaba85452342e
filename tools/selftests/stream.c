// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* The bytes a round consists of, and the ways of reading them. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "child.h"
#include "device.h"
#include "mm.h"
#include "uring.h"

#include "harness.h"

#define PAGES		64
#define LENGTH		(PAGES * UNIT)

/* A session with a mapped region of owned memory and a receiver. */
struct world {
	int fd;
	int rfd;
	uint32_t id;
	unsigned char *mem;
	struct model *model;
};

static int world_open(struct world *w)
{
	w->fd = dev_open();
	if (w->fd < 0)
		return w->fd;
	w->rfd = dev_create(w->fd, "ram", LENGTH, &w->id);
	if (w->rfd < 0)
		return w->rfd;
	w->mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, w->rfd,
		      0);
	w->model = model_new();
	if (w->mem == MAP_FAILED || !w->model)
		return -ENOMEM;
	return dev_set_cache(w->fd, LENGTH);
}

static void world_close(struct world *w)
{
	model_free(w->model);
	munmap(w->mem, LENGTH);
	close(w->rfd);
	close(w->fd);
}

static int64_t world_diff(struct world *w)
{
	return model_diff(w->model, "ram", w->mem, 0, LENGTH);
}

/* A write that changes nothing. */
static void rewrite(unsigned char *byte)
{
	__atomic_store_n(byte, *byte, __ATOMIC_RELAXED);
}

/* Pages of each kind, so that the next round has each kind of record. */
static void mixed_writes(unsigned char *mem, uint32_t seed)
{
	unsigned int i;

	for (i = 0; i < PAGES; i++) {
		unsigned char *page = mem + i * UNIT;

		switch ((i + seed) % 5) {
		case 0:
			mm_scramble(page, seed + i);
			break;
		case 1:
			page[i * 37 % UNIT] ^= seed + 1;
			break;
		case 2:
			memset(page, 0, UNIT);
			break;
		case 3:
			rewrite(page);
			break;
		}
	}
}

FIXTURE(stream)
{
	struct world w;
};

FIXTURE_SETUP(stream)
{
	ASSERT_EQ(0, world_open(&self->w));
}

FIXTURE_TEARDOWN(stream)
{
	world_close(&self->w);
}

/* Reads exactly @len bytes; false if the round has fewer or others. */
static bool next_bytes_are(int fd, const void *expected, size_t len)
{
	unsigned char got[2 * UNIT];
	size_t at;
	ssize_t n;

	for (at = 0; at < len; at += n) {
		n = read(fd, got + at, len - at);
		if (n <= 0)
			return false;
	}
	return !memcmp(got, expected, len);
}

#define NEXT_BYTES(literal) \
	next_bytes_are(self->w.fd, literal, sizeof(literal) - 1)

#define EOS	"\0\0\0\0\0\0\0\x10"
#define RAM	"\3ram"

TEST_F(stream, exact_bytes)
{
	unsigned char *mem = self->w.mem, page[UNIT];
	unsigned char byte;
	int fd = self->w.fd;

	/* Nothing populated: the setup section and an empty round. */
	ASSERT_EQ(0x40000, LENGTH);
	ASSERT_EQ(0, dev_sync(fd, 0, NULL));
	EXPECT_TRUE(NEXT_BYTES("\0\0\0\0\0\4\0\4"
			       RAM "\0\0\0\0\0\4\0\0" EOS EOS));
	EXPECT_EQ(0, read(fd, &byte, 1));

	/* A whole page, then another with CONTINUE. */
	memset(page, 0x5a, UNIT);
	memcpy(mem + 2 * UNIT, page, UNIT);
	memcpy(mem + 0x11 * UNIT, page, UNIT);
	ASSERT_EQ(0, dev_sync(fd, 0, NULL));
	EXPECT_TRUE(NEXT_BYTES("\0\0\0\0\0\0\x20\x08" RAM));
	EXPECT_TRUE(next_bytes_are(fd, page, UNIT));
	EXPECT_TRUE(NEXT_BYTES("\0\0\0\0\0\x01\x10\x28"));
	EXPECT_TRUE(next_bytes_are(fd, page, UNIT));
	EXPECT_TRUE(NEXT_BYTES(EOS));
	EXPECT_EQ(0, read(fd, &byte, 1));

	/* A page of zeros. */
	memset(mem + 0x11 * UNIT, 0, UNIT);
	ASSERT_EQ(0, dev_sync(fd, 0, NULL));
	EXPECT_TRUE(NEXT_BYTES("\0\0\0\0\0\x01\x10\x02" RAM "\0" EOS));
	EXPECT_EQ(0, read(fd, &byte, 1));

	/* Two runs. The name is sent again, as rounds stand alone. */
	mem[2 * UNIT + 5] = 0xa5;
	mem[2 * UNIT + 6] = 0xa5;
	mem[2 * UNIT + 6 + 0x181] = 0xa5;
	ASSERT_EQ(0, dev_sync(fd, 0, NULL));
	EXPECT_TRUE(NEXT_BYTES("\0\0\0\0\0\0\x20\x40" RAM "\1\0\x08"
			       "\5\2\xa5\xa5" "\x80\3\1\xa5" EOS));
	EXPECT_EQ(0, read(fd, &byte, 1));

	/* Written but not changed. */
	rewrite(mem + 2 * UNIT);
	ASSERT_EQ(0, dev_sync(fd, 0, NULL));
	EXPECT_TRUE(NEXT_BYTES(EOS));
	EXPECT_EQ(0, read(fd, &byte, 1));
}

TEST_F(stream, nothing_without_a_round)
{
	unsigned char byte;

	EXPECT_EQ(0, read(self->w.fd, &byte, 1));
	ASSERT_EQ(0, dev_round(self->w.fd, self->w.model, 0));
	EXPECT_EQ(0, read(self->w.fd, &byte, 1));
}

TEST_F(stream, kinds_of_records)
{
	struct model_counts *round = &self->w.model->round;
	unsigned char *mem = self->w.mem;
	struct xbzrle_stats s;
	unsigned int i;

	for (i = 0; i < 8; i++)
		mm_scramble(mem + i * UNIT, i);
	ASSERT_EQ(0, dev_round(self->w.fd, self->w.model, 0));
	EXPECT_EQ(8, round->page);
	EXPECT_EQ(7, round->continued);
	EXPECT_EQ(0, round->zero + round->xbzrle);

	mem[0] ^= 1;
	mem[1 * UNIT + UNIT - 1] ^= 1;
	memset(mem + 2 * UNIT, 0, UNIT);
	mm_scramble(mem + 3 * UNIT, 99);
	rewrite(mem + 4 * UNIT);
	ASSERT_EQ(0, dev_round(self->w.fd, self->w.model, 0));
	EXPECT_EQ(2, round->xbzrle);
	EXPECT_EQ(1, round->zero);
	EXPECT_EQ(1, round->page);
	EXPECT_EQ(3, round->continued);
	EXPECT_EQ(-1, world_diff(&self->w));

	ASSERT_EQ(0, dev_stats(self->w.fd, &s));
	EXPECT_EQ(1, s.unchanged_pages);
	EXPECT_EQ(1, s.overflow);
}

/* A literal of n bytes has a zrun of 1 byte and its length in 2 before it. */
TEST_F(stream, longest_delta)
{
	const unsigned int most = 4092 - 3;
	unsigned int i;

	mm_scramble(self->w.mem, 1);
	ASSERT_EQ(0, dev_round(self->w.fd, self->w.model, 0));
	for (i = 0; i < most; i++)
		self->w.mem[i] ^= 0xff;
	ASSERT_EQ(0, dev_round(self->w.fd, self->w.model, 0));
	EXPECT_EQ(1, self->w.model->round.xbzrle);
	EXPECT_EQ(-1, world_diff(&self->w));

	/* One more, and it is no smaller than the page. */
	for (i = 0; i < most + 1; i++)
		self->w.mem[i] ^= 0xff;
	ASSERT_EQ(0, dev_round(self->w.fd, self->w.model, 0));
	EXPECT_EQ(1, self->w.model->round.page);
	EXPECT_EQ(-1, world_diff(&self->w));
}

/* Zeros over zeros are no news, with or without a base. */
TEST_F(stream, zero_is_sent_once)
{
	unsigned int i;

	mm_scramble(self->w.mem, 1);
	ASSERT_EQ(0, dev_round(self->w.fd, self->w.model, 0));
	for (i = 0; i < 6; i++) {
		if (i == 3)
			ASSERT_EQ(0, dev_set_cache(self->w.fd, 0));
		memset(self->w.mem, 0, UNIT);
		ASSERT_EQ(0, dev_round(self->w.fd, self->w.model, 0));
		EXPECT_EQ(!i, self->w.model->round.zero);
		EXPECT_EQ(!i, self->w.model->round.bytes > 8);
	}
	EXPECT_EQ(-1, world_diff(&self->w));
}

/* The setup section comes back with a new region, and only then. */
TEST_F(stream, setup_lists_new_regions)
{
	struct model *m = self->w.model;
	unsigned char *mem;
	int rfd;

	self->w.mem[0] = 1;
	ASSERT_EQ(0, dev_round(self->w.fd, m, 0));
	ASSERT_EQ(0, dev_round(self->w.fd, m, 0));
	EXPECT_EQ(1, m->setups);

	rfd = dev_create(self->w.fd, "more", LENGTH, NULL);
	ASSERT_LE(0, rfd);
	mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	mem[UNIT] = 7;
	self->w.mem[0] = 2;
	ASSERT_EQ(0, dev_round(self->w.fd, m, 0));
	EXPECT_EQ(2, m->setups);
	EXPECT_EQ(2, m->nr_regions);
	EXPECT_EQ(1, m->round.xbzrle);
	EXPECT_EQ(1, m->round.page);
	EXPECT_EQ(0, m->round.continued);
	EXPECT_EQ(-1, world_diff(&self->w));
	EXPECT_EQ(-1, model_diff(m, "more", mem, 0, LENGTH));

	ASSERT_EQ(0, dev_round(self->w.fd, m, 0));
	EXPECT_EQ(2, m->setups);
	munmap(mem, LENGTH);
	close(rfd);
}

/* A region that comes and goes between two rounds leaves no trace. */
TEST_F(stream, setup_without_what_is_gone)
{
	uint32_t id;
	int rfd;

	ASSERT_EQ(0, dev_round(self->w.fd, self->w.model, 0));
	rfd = dev_create(self->w.fd, "gone", LENGTH, &id);
	ASSERT_LE(0, rfd);
	ASSERT_EQ(0, dev_unregister(self->w.fd, id));
	ASSERT_EQ(0, dev_round(self->w.fd, self->w.model, 0));
	EXPECT_EQ(1, self->w.model->nr_regions);
	close(rfd);
}

/* Appends a whole round to @bytes, reading @step bytes at a time. */
static size_t collect(int fd, unsigned char *bytes, size_t room, size_t step)
{
	size_t at = 0;
	ssize_t n;

	while (at < room) {
		n = read(fd, bytes + at, step < room - at ? step : room - at);
		if (n <= 0)
			break;
		at += n;
	}
	return at;
}

TEST_F(stream, buffer_size_changes_nothing)
{
	static const size_t steps[] = { 1, 7, 9, 4095, 4097, 65536 };
	const size_t room = 2 * LENGTH;
	unsigned char *one, *other;
	size_t len, step;
	struct world w;
	uint32_t round;

	one = malloc(room);
	other = malloc(room);
	ASSERT_NE(NULL, one);
	ASSERT_NE(NULL, other);
	ASSERT_EQ(0, world_open(&w));
	for (round = 0; round < ARRAY_SIZE(steps); round++) {
		step = steps[round];
		mixed_writes(self->w.mem, round);
		mixed_writes(w.mem, round);
		ASSERT_EQ(0, dev_sync(self->w.fd, 0, NULL));
		ASSERT_EQ(0, dev_sync(w.fd, 0, NULL));
		len = collect(self->w.fd, one, room, room);
		EXPECT_EQ(len, collect(w.fd, other, room, step));
		EXPECT_EQ(0, memcmp(one, other, len));
		ASSERT_EQ(0, model_feed(self->w.model, one, len));
		EXPECT_TRUE(model_idle(self->w.model));
	}
	EXPECT_LT(0, self->w.model->all.xbzrle);
	EXPECT_LT(0, self->w.model->all.zero);
	EXPECT_EQ(-1, world_diff(&self->w));
	world_close(&w);
	free(other);
	free(one);
}

/* More whole pages than are encoded ahead, and a reader with room for all. */
TEST_F(stream, large_reads)
{
	const size_t room = 2 * LENGTH;
	unsigned char *bytes = malloc(room);
	unsigned int round, i;
	size_t len;

	ASSERT_NE(NULL, bytes);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < PAGES; i++)
			mm_scramble(self->w.mem + i * UNIT, round * PAGES + i);
		ASSERT_EQ(0, dev_sync(self->w.fd, XBZRLE_SYNC_FULL, NULL));
		len = collect(self->w.fd, bytes, room, room);
		EXPECT_LT(LENGTH, len);
		ASSERT_EQ(0, model_feed(self->w.model, bytes, len));
		EXPECT_TRUE(model_idle(self->w.model));
		EXPECT_EQ(PAGES, self->w.model->round.page);
		EXPECT_EQ(-1, world_diff(&self->w));
	}
	free(bytes);
}

TEST_F(stream, short_reads_end_with_a_record)
{
	/* Just what the longest record needs. */
	unsigned char buf[8 + sizeof(RAM) - 1 + UNIT];
	uint32_t round;
	ssize_t n;

	for (round = 0; round < 3; round++) {
		mixed_writes(self->w.mem, round);
		ASSERT_EQ(0, dev_sync(self->w.fd, 0, NULL));
		while ((n = read(self->w.fd, buf, sizeof(buf))) > 0) {
			ASSERT_EQ(0, model_feed(self->w.model, buf, n));
			ASSERT_TRUE(model_at_item(self->w.model));
		}
		ASSERT_EQ(0, n);
		ASSERT_TRUE(model_idle(self->w.model));
	}
	EXPECT_EQ(-1, world_diff(&self->w));
}

TEST_F(stream, zero_length_read)
{
	ASSERT_EQ(0, dev_sync(self->w.fd, 0, NULL));
	EXPECT_EQ(0, read(self->w.fd, NULL, 0));
	ASSERT_EQ(0, dev_read_round(self->w.fd, self->w.model, 4096));
	EXPECT_TRUE(model_idle(self->w.model));
}

/* Every buffer ends at a page that cannot be written. */
TEST_F(stream, faulting_reader_loses_nothing)
{
	unsigned char *edge, good[700];
	unsigned int faults = 0, cut, round;
	ssize_t n;

	edge = mmap(NULL, 3 * UNIT, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, edge);
	edge += 2 * UNIT;
	ASSERT_EQ(0, mprotect(edge, UNIT, PROT_NONE));
	for (round = 0; round < 2; round++) {
		mixed_writes(self->w.mem, round);
		ASSERT_EQ(0, dev_sync(self->w.fd, 0, NULL));
		for (cut = 0;; cut = (cut * 5 + 3) % 5000) {
			n = read(self->w.fd, edge - cut, 3 * UNIT);
			if (n < 0) {
				ASSERT_EQ(EFAULT, errno);
				faults++;
				n = read(self->w.fd, good, sizeof(good));
				ASSERT_LE(0, n);
				ASSERT_EQ(0, model_feed(self->w.model, good,
							n));
			} else {
				ASSERT_GE(cut, n);
				ASSERT_EQ(0, model_feed(self->w.model,
							edge - cut, n));
			}
			if (!n)
				break;
		}
		EXPECT_TRUE(model_idle(self->w.model));
		EXPECT_EQ(-1, world_diff(&self->w));
	}
	EXPECT_LT(0, faults);
}

/* The reader's buffer is the memory that is being tracked. */
TEST_F(stream, read_into_the_region)
{
	unsigned char *mem = self->w.mem;
	ssize_t n;

	mixed_writes(mem, 1);
	ASSERT_EQ(0, dev_sync(self->w.fd, 0, NULL));
	while ((n = read(self->w.fd, mem + 8 * UNIT, 3 * UNIT)) > 0)
		ASSERT_EQ(0, model_feed(self->w.model, mem + 8 * UNIT, n));
	ASSERT_EQ(0, n);
	ASSERT_EQ(0, dev_round(self->w.fd, self->w.model, 0));
	EXPECT_EQ(-1, world_diff(&self->w));
}

TEST_F(stream, readv)
{
	unsigned char a[3], b[5000], c[11];
	struct iovec iov[] = {
		{ a, sizeof(a) }, { NULL, 0 }, { b, sizeof(b) },
		{ c, sizeof(c) },
	};
	ssize_t n, left, take;
	unsigned int i;

	mixed_writes(self->w.mem, 1);
	ASSERT_EQ(0, dev_sync(self->w.fd, 0, NULL));
	while ((n = readv(self->w.fd, iov, ARRAY_SIZE(iov))) > 0) {
		for (i = 0, left = n; left; i++, left -= take) {
			take = left < (ssize_t)iov[i].iov_len ?
			       left : (ssize_t)iov[i].iov_len;
			ASSERT_EQ(0, model_feed(self->w.model, iov[i].iov_base,
						take));
		}
	}
	EXPECT_EQ(0, n);
	EXPECT_TRUE(model_idle(self->w.model));
	EXPECT_EQ(-1, world_diff(&self->w));
}

TEST_F(stream, splice)
{
	unsigned char buf[65536];
	uint32_t round;
	int pipefd[2];
	ssize_t n;

	ASSERT_EQ(0, pipe(pipefd));
	for (round = 0; round < 3; round++) {
		mixed_writes(self->w.mem, round);
		ASSERT_EQ(0, dev_sync(self->w.fd, 0, NULL));
		while ((n = splice(self->w.fd, NULL, pipefd[1], NULL,
				   round ? 65536 : 1000, 0)) > 0) {
			ASSERT_EQ(n, read(pipefd[0], buf, n));
			ASSERT_EQ(0, model_feed(self->w.model, buf, n));
		}
		ASSERT_EQ(0, n);
		EXPECT_TRUE(model_idle(self->w.model));
		EXPECT_EQ(-1, world_diff(&self->w));
	}
	close(pipefd[0]);
	close(pipefd[1]);
}

/* A pipe that has room for less than a record takes what fits. */
TEST_F(stream, splice_into_a_small_pipe)
{
	unsigned char buf[UNIT];
	int pipefd[2];
	ssize_t n;

	ASSERT_EQ(0, pipe(pipefd));
	ASSERT_LE(0, fcntl(pipefd[1], F_SETPIPE_SZ, UNIT));
	mixed_writes(self->w.mem, 1);
	ASSERT_EQ(0, dev_sync(self->w.fd, 0, NULL));
	while ((n = splice(self->w.fd, NULL, pipefd[1], NULL, 65536,
			   SPLICE_F_NONBLOCK)) > 0) {
		ASSERT_EQ(n, read(pipefd[0], buf, sizeof(buf)));
		ASSERT_EQ(0, model_feed(self->w.model, buf, n));
	}
	ASSERT_EQ(0, n);
	EXPECT_TRUE(model_idle(self->w.model));
	EXPECT_EQ(-1, world_diff(&self->w));
	close(pipefd[0]);
	close(pipefd[1]);
}

TEST_F(stream, poll)
{
	unsigned char byte;

	EXPECT_EQ(0, dev_poll(self->w.fd));
	self->w.mem[0] = 1;
	EXPECT_EQ(0, dev_poll(self->w.fd));
	ASSERT_EQ(0, dev_sync(self->w.fd, 0, NULL));
	EXPECT_EQ(POLLIN, dev_poll(self->w.fd));
	ASSERT_EQ(1, read(self->w.fd, &byte, 1));
	EXPECT_EQ(POLLIN, dev_poll(self->w.fd));
	ASSERT_EQ(0, dev_read_round(self->w.fd, NULL, 4096));
	EXPECT_EQ(0, dev_poll(self->w.fd));
}

static void *sync_later(void *fd)
{
	usleep(100000);
	return (void *)(intptr_t)dev_sync(*(int *)fd, 0, NULL);
}

TEST_F_TIMEOUT(stream, poll_wakes_up, 120)
{
	struct pollfd p = { .fd = self->w.fd, .events = POLLIN };
	pthread_t thread;
	void *ret;

	ASSERT_EQ(0, pthread_create(&thread, NULL, sync_later, &self->w.fd));
	EXPECT_EQ(1, poll(&p, 1, -1));
	EXPECT_EQ(POLLIN, p.revents);
	ASSERT_EQ(0, pthread_join(thread, &ret));
	EXPECT_EQ(NULL, ret);
}

TEST_F(stream, nonblock)
{
	ASSERT_EQ(0, fcntl(self->w.fd, F_SETFL, O_NONBLOCK));
	mixed_writes(self->w.mem, 1);
	ASSERT_EQ(0, dev_round(self->w.fd, self->w.model, 0));
	EXPECT_EQ(-1, world_diff(&self->w));
}

/* What one thread got of the round, in whole records. */
struct share {
	int fd;
	unsigned char *bytes;
	size_t len[4 * PAGES];
	unsigned int reads;
	int error;
};

static void *read_share(void *arg)
{
	struct share *s = arg;
	size_t at = 0;
	ssize_t n;

	while (s->reads < ARRAY_SIZE(s->len)) {
		n = read(s->fd, s->bytes + at, UNIT + 512);
		if (n < 0)
			s->error = errno;
		if (n <= 0)
			break;
		s->len[s->reads++] = n;
		at += n;
	}
	return NULL;
}

/* Where a share's bytes belong: setup, first record, the others, EOS. */
static unsigned int rank(const unsigned char *p, size_t len)
{
	if ((p[7] & 0x7f) == 0x04)
		return 0;
	if (!memcmp(p + len - 8, EOS, 8))
		return 3;
	return p[7] & 0x20 ? 2 : 1;
}

/*
 * Threads divide the round among them: no byte is lost or given twice. With
 * one region, records may be applied in any order.
 */
TEST_F(stream, threads_divide_the_round)
{
	struct share shares[4] = { 0 };
	pthread_t threads[4];
	unsigned int i, j, pass;
	struct xbzrle_stats s;
	size_t total = 0, at;

	for (i = 0; i < PAGES; i++)
		mm_scramble(self->w.mem + i * UNIT, i + 1);
	ASSERT_EQ(0, dev_sync(self->w.fd, 0, NULL));
	for (i = 0; i < 4; i++) {
		shares[i].fd = self->w.fd;
		shares[i].bytes = malloc(2 * LENGTH);
		ASSERT_NE(NULL, shares[i].bytes);
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, read_share,
					    &shares[i]));
	}
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));

	for (pass = 0; pass < 4; pass++) {
		for (i = 0; i < 4; i++) {
			EXPECT_EQ(0, shares[i].error);
			for (j = at = 0; j < shares[i].reads; j++) {
				const unsigned char *p = shares[i].bytes + at;
				size_t len = shares[i].len[j];

				at += len;
				if (rank(p, len) != pass)
					continue;
				total += len;
				ASSERT_EQ(0, model_feed(self->w.model, p,
							len));
			}
		}
	}
	ASSERT_EQ(0, dev_stats(self->w.fd, &s));
	EXPECT_EQ(s.stream_bytes, total);
	EXPECT_EQ(PAGES, self->w.model->all.page);
	EXPECT_TRUE(model_idle(self->w.model));
	EXPECT_EQ(-1, world_diff(&self->w));
	for (i = 0; i < 4; i++)
		free(shares[i].bytes);
}

TEST_F(stream, io_uring)
{
	unsigned char buf[5000];
	struct uring u;
	int n;

	if (uring_open(&u))
		SKIP(return, "no io_uring");
	mixed_writes(self->w.mem, 1);
	ASSERT_EQ(0, dev_sync(self->w.fd, 0, NULL));
	while ((n = uring_read(&u, self->w.fd, buf, sizeof(buf))) > 0)
		ASSERT_EQ(0, model_feed(self->w.model, buf, n));
	EXPECT_EQ(0, n);
	EXPECT_TRUE(model_idle(self->w.model));
	EXPECT_EQ(-1, world_diff(&self->w));
	uring_close(&u);
}

/*
 * @w: the session
 * @bitmap: page of userfaultfd @uffd
 * @served: nobody waits for it any more
 * @u: ring to read with
 * @ret: what the call came to
 */
struct busy {
	struct world *w;
	unsigned char *bitmap;
	int uffd;
	bool served;
	struct uring u;
	int ret;
};

/* With memory of which somebody waits for the first byte. */
static bool busy_open(struct busy *b)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };

	b->uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	b->bitmap = mm_anon(UNIT);
	reg.range.start = (uintptr_t)b->bitmap;
	reg.range.len = UNIT;
	return b->uffd >= 0 && b->bitmap && !ioctl(b->uffd, UFFDIO_API, &api) &&
	       !ioctl(b->uffd, UFFDIO_REGISTER, &reg);
}

static void busy_close(struct busy *b)
{
	close(b->uffd);
	munmap(b->bitmap, UNIT);
}

static int serve(struct busy *b)
{
	struct uffdio_zeropage zero = {
		.range = { (uintptr_t)b->bitmap, UNIT },
	};

	if (__atomic_exchange_n(&b->served, true, __ATOMIC_SEQ_CST))
		return 0;
	return ioctl(b->uffd, UFFDIO_ZEROPAGE, &zero);
}

/* Whoever waits for the session, against the rules, shall not wait for ever. */
static void *serve_late(void *arg)
{
	struct busy *b = arg;
	unsigned int i;

	for (i = 0; i < 100 && !__atomic_load_n(&b->served, __ATOMIC_SEQ_CST);
	     i++)
		usleep(100000);
	serve(b);
	return NULL;
}

static void *mark_slowly(void *arg)
{
	struct busy *b = arg;

	b->ret = dev_mark(b->w->fd, b->w->id, 0, 1, b->bitmap);
	return NULL;
}

static void *read_by_uring(void *arg)
{
	struct busy *b = arg;
	char byte;

	b->ret = uring_read(&b->u, b->w->fd, &byte, 1);
	return NULL;
}

/* MARK_DIRTY waits for its bitmap with the session's lock. */
TEST_F(stream, session_that_is_busy)
{
	struct busy marker = { .w = &self->w, .ret = 1 };
	struct busy reader = { .w = &self->w, .ret = 1 };
	struct iovec iov = { self->w.mem, 1 };
	struct timespec end;
	pthread_t threads[3];
	struct uffd_msg msg;
	int fds[2];

	if (!busy_open(&marker) || uring_open(&reader.u))
		SKIP(return, "no userfaultfd or no io_uring");
	ASSERT_EQ(0, pthread_create(&threads[0], NULL, mark_slowly, &marker));
	ASSERT_EQ(sizeof(msg), read(marker.uffd, &msg, sizeof(msg)));
	ASSERT_EQ(0, pthread_create(&threads[2], NULL, serve_late, &marker));

	EXPECT_EQ(-1, preadv2(self->w.fd, &iov, 1, -1, RWF_NOWAIT));
	EXPECT_EQ(EAGAIN, errno);
	ASSERT_EQ(0, fcntl(self->w.fd, F_SETFL, O_NONBLOCK));
	EXPECT_EQ(-1, read(self->w.fd, self->w.mem, 1));
	EXPECT_EQ(EAGAIN, errno);
	ASSERT_EQ(0, pipe(fds));
	EXPECT_EQ(-1, splice(self->w.fd, NULL, fds[1], NULL, 1, 0));
	EXPECT_EQ(EAGAIN, errno);

	/* poll() will not tell that it is free, as there is no round. */
	ASSERT_EQ(0, pthread_create(&threads[1], NULL, read_by_uring, &reader));
	usleep(200000);
	ASSERT_EQ(0, serve(&marker));
	ASSERT_EQ(0, pthread_join(threads[0], NULL));
	EXPECT_EQ(0, marker.ret);
	ASSERT_EQ(0, clock_gettime(CLOCK_REALTIME, &end));
	end.tv_sec += 10;
	ASSERT_EQ(0, pthread_timedjoin_np(threads[1], NULL, &end));
	EXPECT_EQ(0, reader.ret);
	ASSERT_EQ(0, pthread_join(threads[2], NULL));
	uring_close(&reader.u);
	close(fds[0]);
	close(fds[1]);
	busy_close(&marker);
}

struct waiter {
	int fd;
	pid_t pid;
	void *mem;
	int ret;
};

static void *register_busily(void *arg)
{
	struct waiter *w = arg;
	int ret = dev_register(w->fd, "child", w->mem, UNIT, w->pid,
			       XBZRLE_TRACKER_EXTERNAL, NULL);

	__atomic_store_n(&w->ret, ret, __ATOMIC_SEQ_CST);
	return NULL;
}

static void do_nothing(int number)
{
	(void)number;
}

/* Who gives up waiting for the session lets go of the process, too. */
TEST_F(stream, register_is_interrupted)
{
	struct sigaction action = { .sa_handler = do_nothing };
	struct busy marker = { .w = &self->w, .ret = 1 };
	struct waiter w = { .fd = self->w.fd, .ret = 1 };
	int shared = mm_shared_file(UNIT);
	pthread_t marking, waiting;
	struct uffd_msg msg;
	struct child c;

	ASSERT_LE(0, shared);
	w.mem = mmap(NULL, UNIT, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
	ASSERT_NE(MAP_FAILED, w.mem);
	ASSERT_TRUE(child_start(&c, w.mem));
	ASSERT_EQ(0, munmap(w.mem, UNIT));
	w.pid = c.pid;
	if (!busy_open(&marker))
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, pthread_create(&marking, NULL, mark_slowly, &marker));
	ASSERT_EQ(sizeof(msg), read(marker.uffd, &msg, sizeof(msg)));
	ASSERT_EQ(0, pthread_create(&waiting, NULL, register_busily, &w));
	while (__atomic_load_n(&w.ret, __ATOMIC_SEQ_CST) == 1) {
		usleep(1000);
		pthread_kill(waiting, SIGUSR1);
	}
	ASSERT_EQ(0, pthread_join(waiting, NULL));
	EXPECT_EQ(-EINTR, w.ret);
	ASSERT_EQ(0, serve(&marker));
	ASSERT_EQ(0, pthread_join(marking, NULL));
	EXPECT_EQ(0, marker.ret);
	busy_close(&marker);
	child_kill(&c);
	EXPECT_FALSE(mm_shared_file_mapped(shared));
	close(shared);
}

/* More small records than a buffer counts, from lots that are not full. */
TEST_F(stream, many_small_records)
{
	const unsigned int pages = 1200;
	const size_t length = pages * UNIT;
	unsigned char *mem;
	unsigned int i;
	int rfd;

	ASSERT_EQ(0, dev_set_cache(self->w.fd, length + LENGTH));
	rfd = dev_create(self->w.fd, "many", length, NULL);
	ASSERT_LE(0, rfd);
	mem = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	for (i = 0; i < pages; i++)
		mm_scramble(mem + i * UNIT, i);
	ASSERT_EQ(0, dev_round(self->w.fd, self->w.model, 0));
	/* The first ones make no record. */
	for (i = 0; i < 3; i++)
		rewrite(mem + i * UNIT);
	for (; i < pages; i++)
		mem[i * UNIT + 100]++;
	ASSERT_EQ(0, dev_sync(self->w.fd, 0, NULL));
	ASSERT_EQ(0, dev_read_round(self->w.fd, self->w.model, 65536));
	EXPECT_EQ(pages - 3, self->w.model->round.xbzrle);
	EXPECT_EQ(-1, model_diff(self->w.model, "many", mem, 0, length));
	munmap(mem, length);
	close(rfd);
}

/* Receives a session over @sock and copies its round to @out. */
static int read_for_another(int sock, int out)
{
	char control[CMSG_SPACE(sizeof(int))], byte, buf[5000];
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;
	int fd;

	if (recvmsg(sock, &msg, 0) != 1 || !CMSG_FIRSTHDR(&msg))
		return 1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (write(out, buf, n) != n)
			return 2;
	return n ? 3 : 0;
}

TEST_F(stream, session_passed_to_another_process)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0, buf[5000];
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int sock[2], pipefd[2], status;
	pid_t pid;
	ssize_t n;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ASSERT_EQ(0, pipe(pipefd));
	pid = fork();
	if (!pid) {
		close(self->w.fd);
		close(pipefd[0]);
		_exit(read_for_another(sock[1], pipefd[1]));
	}
	ASSERT_LT(0, pid);
	close(pipefd[1]);

	mixed_writes(self->w.mem, 1);
	ASSERT_EQ(0, dev_sync(self->w.fd, 0, NULL));
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &self->w.fd, sizeof(int));
	ASSERT_EQ(1, sendmsg(sock[0], &msg, 0));
	while ((n = read(pipefd[0], buf, sizeof(buf))) > 0)
		ASSERT_EQ(0, model_feed(self->w.model, buf, n));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_TRUE(model_idle(self->w.model));
	EXPECT_EQ(-1, world_diff(&self->w));
}

/* Closed with half a round unread: nothing may be left behind. */
TEST_F(stream, close_in_a_round)
{
	unsigned char buf[UNIT];
	struct world w;

	ASSERT_EQ(0, world_open(&w));
	mixed_writes(w.mem, 1);
	ASSERT_EQ(0, dev_sync(w.fd, 0, NULL));
	ASSERT_LT(0, read(w.fd, buf, sizeof(buf)));
	world_close(&w);
}

TEST_F(stream, cannot_be_written_or_sought)
{
	EXPECT_EQ(-1, write(self->w.fd, "x", 1));
	EXPECT_EQ(-1, lseek(self->w.fd, 0, SEEK_END));
	EXPECT_EQ(ESPIPE, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, UNIT, PROT_READ, MAP_SHARED,
				   self->w.fd, 0));
}

TEST_HARNESS_MAIN

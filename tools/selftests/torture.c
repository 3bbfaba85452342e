// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Threads write at random, another one does to the memory whatever a process
 * can do to its memory, and rounds run all the time. Now and then everybody
 * stops: after one more round the receiver must hold what is in memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "device.h"
#include "mm.h"
#include "rnd.h"

#include "kselftest.h"

#define MAX_REGIONS	4
#define WRITERS		2
/* Rounds from one comparison to the next. */
#define ROUNDS		4
/* Faults in a row that no open window explains. */
#define FAULTS_TOLERATED 100000

enum kind {
	OWNED,
	PRIVATE,
	SHARED,
};

/**
 * struct config - one run
 * @name: in the results
 * @kinds: of its regions, in turn
 * @nr_kinds: entries in @kinds
 * @regions: how many
 * @pages: of each
 * @cache: budget in pages
 * @huge: huge pages are wanted
 */
struct config {
	const char *name;
	enum kind kinds[2];
	unsigned int nr_kinds;
	unsigned int regions;
	unsigned int pages;
	unsigned int cache;
	bool huge;
};

static const struct config configs[] = {
	{ "owned", { OWNED }, 1, 1, 256, 256 },
	{ "owned, small cache", { OWNED }, 1, 3, 512, 128 },
	{ "owned, huge pages", { OWNED }, 1, 1, 1024, 1024, true },
	{ "owned, few pages", { OWNED }, 1, 1, 8, 8 },
	{ "pte", { PRIVATE }, 1, 1, 256, 256 },
	{ "pte, small cache", { PRIVATE }, 1, 3, 512, 128 },
	{ "pte, huge pages", { PRIVATE }, 1, 1, 1024, 1024, true },
	{ "pte, few pages", { PRIVATE }, 1, 1, 8, 8 },
	{ "pte, shared memory", { SHARED }, 1, 2, 256, 512 },
	{ "owned and pte, no cache", { OWNED, PRIVATE }, 2, 4, 256, 0 },
};

struct region {
	enum kind kind;
	char name[8];
	unsigned char *mem;
	size_t length;
	int rfd;
};

static struct {
	const struct config *config;
	struct region regions[MAX_REGIONS];
	struct model *model;
	pthread_rwlock_t gate;
	uint64_t seed;
	int fd;
	int random;
	int stop;
	bool swap;
} world;

static int faults, window;

/*
 * While a window is open the memory is not accessible, and a write is tried
 * until it is. Without one the program is wrong.
 */
static void on_fault(int sig)
{
	if (__atomic_load_n(&window, __ATOMIC_ACQUIRE))
		__atomic_store_n(&faults, 0, __ATOMIC_RELAXED);
	else if (__atomic_add_fetch(&faults, 1, __ATOMIC_RELAXED) >
		 FAULTS_TOLERATED)
		signal(sig, SIG_DFL);
	sched_yield();
}

static struct region *some_region(uint64_t *state)
{
	return &world.regions[rnd_below(state, world.config->regions)];
}

static void write_once(struct region *r, uint64_t *state)
{
	unsigned char *page = r->mem + rnd_below(state, r->length / UNIT) * UNIT;
	uint64_t value = rnd(state);
	unsigned int i;

	switch (rnd_below(state, 16)) {
	case 0:
		for (i = 0; i < UNIT; i += 8) {
			value = rnd(state);
			memcpy(page + i, &value, 8);
		}
		break;
	case 1:
		memset(page, 0, UNIT);
		break;
	case 2:
		for (i = value % 64; i < UNIT; i += 64)
			page[i]++;
		break;
	case 3:
		memcpy(page, r->mem, UNIT);
		break;
	case 4:
		memset(page + value % 2048, value >> 32, value >> 16 & 0x3ff);
		break;
	case 5:
		/* Hot pages. */
		r->mem[rnd_below(state, 4) * UNIT + value % UNIT]++;
		break;
	default:
		memcpy(page + value % (UNIT - 8), &value, 8);
	}
}

static void *write_on(void *arg)
{
	uint64_t state = world.seed * 0x9e3779b97f4a7c15ULL + (uintptr_t)arg;
	unsigned int i;

	while (!__atomic_load_n(&world.stop, __ATOMIC_RELAXED)) {
		pthread_rwlock_rdlock(&world.gate);
		for (i = 0; i < 32; i++)
			write_once(some_region(&state), &state);
		pthread_rwlock_unlock(&world.gate);
		if (!rnd_below(&state, 64))
			usleep(rnd_below(&state, 2000));
	}
	return NULL;
}

static void fork_and_write(struct region *r, uint64_t *state)
{
	unsigned int i, nr = rnd_below(state, 64);
	pid_t pid = fork();

	if (!pid) {
		/* Writes of others to SHARED memory are not promised. */
		for (i = 0; i < nr && r->kind != SHARED; i++)
			write_once(r, state);
		_exit(0);
	}
	for (i = 0; i < 16; i++)
		write_once(r, state);
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

/* Only where the other threads' accesses may fault for a while. */
static void open_window(void)
{
	__atomic_store_n(&window, 1, __ATOMIC_RELEASE);
}

static void close_window(void)
{
	__atomic_store_n(&window, 0, __ATOMIC_RELEASE);
}

/* Does nothing where mprotect() left more than one mapping. */
static void move_away_and_back(unsigned char *mem, size_t length)
{
	unsigned char *to;

	to = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	open_window();
	if (mremap(mem, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to) ==
	    to) {
		to[0]++;
		to[length - 1]++;
		mremap(to, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, mem);
	} else {
		munmap(to, length);
	}
	close_window();
}

static void map_again(struct region *r, size_t offset, size_t length)
{
	open_window();
	munmap(r->mem + offset, length);
	mmap(r->mem + offset, length, PROT_READ | PROT_WRITE,
	     MAP_SHARED | MAP_FIXED, r->rfd, offset);
	close_window();
}

static void protect_for_a_while(unsigned char *mem, size_t length, int prot)
{
	open_window();
	mprotect(mem, length, prot);
	sched_yield();
	mprotect(mem, length, PROT_READ | PROT_WRITE);
	close_window();
}

static void write_by_kernel(unsigned char *mem, size_t length,
			    uint64_t *state)
{
	unsigned char bytes[256];
	struct iovec from = { bytes, sizeof(bytes) };
	struct iovec to = { mem + rnd_below(state, length - 256), sizeof(bytes) };

	if (rnd_below(state, 2)) {
		if (read(world.random, to.iov_base, to.iov_len) < 0)
			abort();
	} else {
		memset(bytes, rnd(state), sizeof(bytes));
		process_vm_writev(getpid(), &from, 1, &to, 1, 0);
	}
}

static void disturb_once(struct region *r, uint64_t *state)
{
	size_t offset = rnd_below(state, r->length / UNIT) * UNIT;
	size_t length = (1 + rnd_below(state, 64)) * UNIT;
	unsigned char *mem = r->mem + offset;

	if (length > r->length - offset)
		length = r->length - offset;
	switch (rnd_below(state, 12)) {
	case 0:
		madvise(mem, length, MADV_DONTNEED);
		break;
	case 1:
		if (world.swap)
			madvise(mem, length, MADV_PAGEOUT);
		break;
	case 2:
		protect_for_a_while(mem, length, PROT_READ);
		break;
	case 3:
		protect_for_a_while(mem, length, PROT_NONE);
		break;
	case 4:
		fork_and_write(r, state);
		break;
	case 5:
		if (r->kind == OWNED)
			fallocate(r->rfd, FALLOC_FL_PUNCH_HOLE |
				  FALLOC_FL_KEEP_SIZE, offset, length);
		else if (r->kind == SHARED)
			madvise(mem, length, MADV_REMOVE);
		break;
	case 6:
		if (r->kind == OWNED)
			move_away_and_back(mem, length);
		break;
	case 7:
		if (r->kind == OWNED)
			map_again(r, offset, length);
		break;
	case 8:
		madvise(r->mem, r->length, world.config->huge ?
			MADV_HUGEPAGE : MADV_NOHUGEPAGE);
		break;
	case 9:
		if (world.config->huge)
			madvise(r->mem, r->length, MADV_COLLAPSE);
		break;
	case 10:
		write_by_kernel(r->mem, r->length, state);
		break;
	case 11:
		/* Gone at once, or when it is reclaimed, which follows. */
		if (r->kind == PRIVATE && world.swap) {
			madvise(mem, length, MADV_FREE);
			madvise(mem, length, MADV_PAGEOUT);
		}
		break;
	}
}

static void *disturb_on(void *arg)
{
	uint64_t state = world.seed * 0xd1342543de82ef95ULL + (uintptr_t)arg;

	while (!__atomic_load_n(&world.stop, __ATOMIC_RELAXED)) {
		pthread_rwlock_rdlock(&world.gate);
		disturb_once(some_region(&state), &state);
		pthread_rwlock_unlock(&world.gate);
		usleep(rnd_below(&state, 3000));
	}
	return NULL;
}

static bool add_region(struct region *r, unsigned int i)
{
	const struct config *c = world.config;
	enum kind kind = c->kinds[i % c->nr_kinds];
	int flags = MAP_SHARED, ret;

	r->kind = kind;
	r->length = c->pages * UNIT;
	r->rfd = -1;
	snprintf(r->name, sizeof(r->name), "r%u", i);

	/* Where huge pages fit, whatever comes there. */
	r->mem = mm_anon_huge((r->length + HUGE_SIZE - 1) &
			      ~(HUGE_SIZE - 1));
	if (!r->mem)
		return false;
	if (kind == OWNED) {
		r->rfd = dev_create(world.fd, r->name, r->length, NULL);
		if (r->rfd < 0)
			return false;
	} else {
		flags = MAP_ANONYMOUS;
		flags |= kind == SHARED ? MAP_SHARED : MAP_PRIVATE;
	}
	if (mmap(r->mem, r->length, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
		 r->rfd, 0) == MAP_FAILED)
		return false;
	if (c->huge)
		madvise(r->mem, r->length, MADV_HUGEPAGE);
	/* Some of it is there before it is registered. */
	memset(r->mem, 0x55, r->length / 4);
	if (kind == OWNED)
		return true;
	ret = dev_register(world.fd, r->name, r->mem, r->length, 0,
			   kind == SHARED ? XBZRLE_TRACKER_PTE :
			   XBZRLE_TRACKER_AUTO, NULL);
	if (ret)
		ksft_print_msg("REGISTER: %s\n", strerror(-ret));
	return !ret;
}

/* Reads of random sizes, some of them smaller than a record. */
static int read_round(uint64_t *state)
{
	static unsigned char bytes[128 * 1024];
	size_t size;
	ssize_t n;
	int ret;

	do {
		size = rnd_below(state, 16) ? 4096 + rnd_below(state, 120 * 1024) :
		       1 + rnd_below(state, 300);
		n = read(world.fd, bytes, size);
		if (n < 0)
			return -errno;
		ret = model_feed(world.model, bytes, n);
	} while (n && !ret);
	return ret ?: model_idle(world.model) ? 0 : -EBADMSG;
}

static int run_round(uint32_t flags, uint64_t *state)
{
	int ret = dev_sync(world.fd, flags, NULL);

	if (!ret)
		ret = read_round(state);
	if (ret)
		ksft_print_msg("round: %s %s\n", strerror(-ret),
			       world.model->error);
	return ret;
}

static bool same(void)
{
	unsigned int i, at;
	struct region *r;
	int64_t offset;

	for (i = 0; i < world.config->regions; i++) {
		const unsigned char *live, *have;

		r = &world.regions[i];
		offset = model_diff(world.model, r->name, r->mem, 0,
				    r->length);
		if (offset == -1)
			continue;
		if (offset < 0) {
			ksft_print_msg("region %s never came\n", r->name);
			return false;
		}
		live = r->mem + offset;
		have = model_find(world.model, r->name)->mem + offset;
		for (at = 0; live[at] == have[at]; at++)
			;
		ksft_print_msg("%s differs at %#llx: %02x, received %02x\n",
			       r->name, (unsigned long long)offset + at,
			       live[at], have[at]);
		return false;
	}
	return true;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static bool run_rounds(double seconds, unsigned int *compared)
{
	uint64_t state = world.seed + 1;
	double end = now() + seconds;
	bool equal = true;
	unsigned int i;

	while (equal && now() < end) {
		for (i = 0; i < ROUNDS && now() < end; i++)
			if (run_round(0, &state))
				return false;
		if (!rnd_below(&state, 4))
			dev_set_cache(world.fd, rnd_below(&state, 2) ?
				      world.config->cache * UNIT :
				      world.config->cache / 3 * UNIT);
		pthread_rwlock_wrlock(&world.gate);
		equal = !run_round(0, &state) && same();
		pthread_rwlock_unlock(&world.gate);
		++*compared;
	}
	return equal;
}

static bool run_threads(double seconds, unsigned int *compared)
{
	pthread_t threads[WRITERS + 1];
	uint64_t state = world.seed + 2;
	unsigned int i;
	bool equal;

	world.stop = 0;
	for (i = 0; i <= WRITERS; i++)
		if (pthread_create(&threads[i], NULL,
				   i == WRITERS ? disturb_on : write_on,
				   (void *)(uintptr_t)(i + 1)))
			abort();
	equal = run_rounds(seconds, compared);
	__atomic_store_n(&world.stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i <= WRITERS; i++)
		pthread_join(threads[i], NULL);
	return equal && !run_round(XBZRLE_SYNC_FINAL, &state) && same();
}

static bool set_up(const struct config *c, uint64_t seed)
{
	pthread_rwlockattr_t attr;
	unsigned int i;

	world.config = c;
	world.seed = seed;
	/* Or the writers would never let the comparison in. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr,
				      PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&world.gate, &attr);
	world.fd = dev_open();
	world.model = model_new();
	if (world.fd < 0 || !world.model ||
	    dev_set_cache(world.fd, c->cache * UNIT))
		return false;
	for (i = 0; i < c->regions; i++)
		if (!add_region(&world.regions[i], i))
			return false;
	return true;
}

static void tear_down(void)
{
	unsigned int i;

	for (i = 0; i < world.config->regions; i++) {
		munmap(world.regions[i].mem, world.regions[i].length);
		if (world.regions[i].rfd >= 0)
			close(world.regions[i].rfd);
	}
	close(world.fd);
	model_free(world.model);
}

static void run(const struct config *c, uint64_t seed, double seconds)
{
	unsigned int compared = 0;
	struct xbzrle_stats s;
	bool equal = false;

	if (set_up(c, seed)) {
		equal = run_threads(seconds, &compared);
		dev_stats(world.fd, &s);
		ksft_print_msg("%s: %llu rounds, %u compared, %llu pages, %llu deltas\n",
			       c->name, s.rounds, compared + 1, s.dirty_pages,
			       s.pages);
		tear_down();
	}
	if (!equal)
		ksft_print_msg("%s: failed with --seed %llu\n", c->name,
			       (unsigned long long)seed);
	ksft_test_result(equal, "torture: %s\n", c->name);
}

static bool can_run(const struct config *c)
{
	unsigned int i;

	for (i = 0; i < c->nr_kinds; i++)
		if (c->kinds[i] != OWNED && !dev_has_pte())
			return false;
	return true;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	struct sigaction action = { .sa_handler = on_fault };
	uint64_t seed = time(NULL);
	unsigned int i, nr = 0;
	double seconds = 20;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 's':
			seconds = strtod(optarg, NULL);
			break;
		case 'r':
			seed = strtoull(optarg, NULL, 0);
			break;
		default:
			fprintf(stderr, "usage: %s [--seconds N] [--seed N]\n",
				argv[0]);
			return option == 'h' ? 0 : 2;
		}
	}

	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	for (i = 0; i < ARRAY_SIZE(configs); i++)
		nr += can_run(&configs[i]);
	ksft_set_plan(nr);
	ksft_print_msg("seed %llu\n", (unsigned long long)seed);
	sigaction(SIGSEGV, &action, NULL);
	world.random = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	world.swap = mm_swap_on();
	mm_write_file("/sys/kernel/mm/transparent_hugepage/enabled",
		      "madvise");
	mm_write_file("/sys/kernel/mm/transparent_hugepage/shmem_enabled",
		      "advise");
	for (i = 0; i < ARRAY_SIZE(configs); i++) {
		if (can_run(&configs[i]))
			run(&configs[i], seed + i, seconds / nr);
		else
			ksft_print_msg("%s: left out, as this kernel has no pte tracker\n",
				       configs[i].name);
	}
	ksft_finished();
}

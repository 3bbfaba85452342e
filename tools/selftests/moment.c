// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Point-in-time rounds. Threads and processes transfer money between accounts
 * that lie all over the memory, and scribble between them. They stop for the
 * SYNC call alone; while its round is read, slowly, they go on, pages are
 * swapped out and punched, and devices write to what they hold. Yet what a
 * receiver has in the end is what memory was when they stood still, byte by
 * byte, and no money is missing. Where there is no room to keep that, it must be
 * told, and the round must still be good for what follows.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "device.h"
#include "guest.h"
#include "mm.h"
#include "rnd.h"
#include "slow_disk.h"
#include "uring.h"

#include "kselftest.h"

#define MAX_UNITS	1024
#define MAX_PROCESSES	4
#define THREADS		2
/* In each unit of accounts, so far apart that deltas have many runs. */
#define ACCOUNTS	16
#define BALANCE		1000000
/* The last units are for devices. */
#define DISK_UNIT	1
#define RING_UNIT	2
#define DEVICE_UNITS	4
#define GUEST_LENGTH	((size_t)64 * UNIT)
/* Rounds that a machine too slow for the time that is given makes all the same. */
#define LEAST		3
/* Seconds that it gets for what must have happened once. */
#define PATIENCE	60

enum kind {
	OWNED,
	PTE,
	FROZEN,
	MAPPING,
	EXTERNAL,
};

/**
 * struct config - one run
 * @name: in the results
 * @kind: of the memory
 * @processes: that write; one where the memory is a process' own
 * @units: of memory
 * @cache: budget in units
 * @tight: less than is needed; otherwise no round may be torn or refused
 * @held: devices hold pages when a round begins, and write to them in it
 * @guest: a guest of KVM writes to a region of its own
 */
struct config {
	const char *name;
	enum kind kind;
	unsigned int processes;
	unsigned int units;
	unsigned int cache;
	bool tight;
	bool held;
	bool guest;
};

/* Each unit may need its content then, and a base. */
static const struct config configs[] = {
	{ "owned", OWNED, 1, 256, 1024 },
	{ "owned, several processes", OWNED, 4, 512, 2048 },
	{ "owned, held pages", OWNED, 2, 128, 1024, .held = true },
	{ "owned, with a guest", OWNED, 2, 128, 1024, .guest = true },
	{ "owned, tight", OWNED, 2, 512, 16, .tight = true },
	{ "owned, hardly enough", OWNED, 2, 256, 128, .tight = true },
	{ "pte", PTE, 1, 256, 1024 },
	{ "pte, held pages", PTE, 1, 128, 1024, .held = true },
	{ "pte, tight", PTE, 1, 512, 16, .tight = true },
	{ "pte, frozen", FROZEN, 1, 256, 1024 },
	{ "pte, frozen, held pages", FROZEN, 1, 128, 1024, .held = true },
	{ "pte, frozen, tight", FROZEN, 1, 512, 16, .tight = true },
	{ "mapping", MAPPING, 4, 256, 1024 },
	{ "mapping, held pages", MAPPING, 2, 128, 1024, .held = true },
	{ "mapping, tight", MAPPING, 2, 512, 16, .tight = true },
	{ "external", EXTERNAL, 1, 256, 1024 },
	{ "external, held pages", EXTERNAL, 1, 128, 1024, .held = true },
	{ "external, tight", EXTERNAL, 1, 512, 16, .tight = true },
};

/**
 * struct bank - what all processes share
 * @gate: held for read by who writes, for write by who calls SYNC
 * @stop: all end when not 0
 * @transfers: that were made
 * @told: bit for each unit that was written since the last SYNC
 */
struct bank {
	pthread_rwlock_t gate;
	int stop;
	unsigned long transfers;
	unsigned char told[MAX_UNITS / 8];
};

/**
 * struct counts - how the rounds of a configuration went
 * @exact: the receiver had what memory was
 * @torn: read() told that it would not
 * @refused: SYNC told so
 * @changed: units that were other when the round had been read, of all rounds
 */
struct counts {
	unsigned int exact;
	unsigned int torn;
	unsigned int refused;
	unsigned long changed;
};

static struct {
	const struct config *config;
	struct bank *bank;
	struct counts counts;
	uint64_t seed;
	uint64_t state;
	unsigned char *mem;
	size_t length;
	unsigned char *guest_mem;
	/* What memory was, first ours and then the guest's. */
	unsigned char *then;
	unsigned char *guest_then;
	int rfd;
	int fd;
	uint32_t id;
	struct model *model;
	struct guest guest;
	struct slow_disk disk;
	struct uring ring;
	int random;
	bool swap;
} world;

static pthread_t threads[THREADS];
static pid_t children[MAX_PROCESSES];

static bool stopped(void)
{
	return __atomic_load_n(&world.bank->stop, __ATOMIC_RELAXED);
}

/* After the write: a mark before it may be taken before it. */
static void mark(const void *at)
{
	size_t unit = ((const unsigned char *)at - world.mem) / UNIT;

	__atomic_fetch_or(&world.bank->told[unit / 8], 1 << unit % 8,
			  __ATOMIC_RELEASE);
}

static unsigned int account_units(void)
{
	return (world.config->units - DEVICE_UNITS) / 2;
}

/* Even units have accounts, odd ones nonsense. */
static int64_t *account(unsigned char *mem, unsigned int unit,
			unsigned int number)
{
	return (int64_t *)(mem + 2 * unit * UNIT + number * (UNIT / ACCOUNTS));
}

static int64_t *some_account(uint64_t *state)
{
	return account(world.mem, rnd_below(state, account_units()),
		       rnd_below(state, ACCOUNTS));
}

static unsigned char *some_nonsense(uint64_t *state)
{
	return world.mem + (2 * rnd_below(state, account_units()) + 1) * UNIT;
}

static void transfer(uint64_t *state)
{
	int64_t *from = some_account(state), *to = some_account(state);
	int64_t amount = rnd_below(state, 1000);

	__atomic_fetch_sub(from, amount, __ATOMIC_RELAXED);
	__atomic_fetch_add(to, amount, __ATOMIC_RELAXED);
	mark(from);
	mark(to);
	__atomic_fetch_add(&world.bank->transfers, 1, __ATOMIC_RELAXED);
}

static int64_t total(unsigned char *mem)
{
	unsigned int unit, number;
	int64_t sum = 0;

	for (unit = 0; unit < account_units(); unit++)
		for (number = 0; number < ACCOUNTS; number++)
			sum += *account(mem, unit, number);
	return sum;
}

static int64_t right_total(void)
{
	return (int64_t)BALANCE * ACCOUNTS * account_units();
}

static void scribble(uint64_t *state)
{
	unsigned char *unit = some_nonsense(state);
	uint64_t value = rnd(state);
	unsigned int i;

	switch (rnd_below(state, 8)) {
	case 0:
		memset(unit, 0, UNIT);
		break;
	case 1:
		for (i = 0; i < UNIT; i += 8) {
			value = rnd(state);
			memcpy(unit + i, &value, 8);
		}
		break;
	default:
		memcpy(unit + value % (UNIT - 8), &value, 8);
	}
	mark(unit);
}

/* Of owned memory the child writes too; other memory is its own. */
static void fork_and_write(uint64_t *state)
{
	pid_t pid = fork();
	unsigned int i;

	for (i = 0; i < 16; i++)
		transfer(state);
	if (!pid)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void punch(const unsigned char *unit)
{
	if (world.rfd >= 0)
		fallocate(world.rfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  unit - world.mem, UNIT);
}

static void disturb(uint64_t *state)
{
	unsigned char *unit = some_nonsense(state);

	switch (rnd_below(state, 8)) {
	case 0:
		if (world.swap)
			madvise(world.mem, world.length, MADV_PAGEOUT);
		break;
	case 1:
		fork_and_write(state);
		break;
	case 2:
		if (read(world.random, unit, UNIT) > 0)
			mark(unit);
		break;
	case 3:
		madvise(world.mem, world.length, MADV_COLD);
		break;
	case 4:
	case 5:
		madvise(unit, UNIT, MADV_DONTNEED);
		mark(unit);
		break;
	default:
		punch(unit);
	}
}

static void *write_on(void *arg)
{
	uint64_t state = rnd_seed(world.seed, (uintptr_t)arg);
	unsigned int i;

	while (!stopped()) {
		pthread_rwlock_rdlock(&world.bank->gate);
		for (i = 0; i < 16; i++) {
			transfer(&state);
			scribble(&state);
		}
		if (!rnd_below(&state, 16))
			disturb(&state);
		pthread_rwlock_unlock(&world.bank->gate);
		usleep(rnd_below(&state, 500));
	}
	return NULL;
}

static void start_writers(uintptr_t number)
{
	unsigned int i;

	for (i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, write_on,
				   (void *)(number * THREADS + i)))
			abort();
}

static void join_writers(void)
{
	unsigned int i;

	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

static bool start_child(unsigned int number)
{
	pid_t parent = getpid(), pid = fork();

	children[number] = pid;
	if (pid)
		return pid > 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	start_writers(number);
	join_writers();
	_exit(0);
}

#if MM_HAVE_KVM
static pthread_t guest_thread;
static bool guest_there;

static void *run_guest(void *arg)
{
	int ret = 0;

	while (ret >= 0 && !stopped()) {
		pthread_rwlock_rdlock(&world.bank->gate);
		ret = guest_run(arg);
		pthread_rwlock_unlock(&world.bank->gate);
	}
	return NULL;
}

static bool start_guest(void)
{
	world.guest.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	guest_there = world.guest.kvm >= 0 &&
		      guest_make(&world.guest, world.guest_mem, GUEST_LENGTH,
				 0) &&
		      !pthread_create(&guest_thread, NULL, run_guest,
				      &world.guest);
	return guest_there;
}

static void join_guest(void)
{
	if (guest_there)
		pthread_join(guest_thread, NULL);
	guest_there = false;
	guest_drop(&world.guest);
}
#else
static bool start_guest(void)
{
	return false;
}

static void join_guest(void)
{
}
#endif

/* With everybody stopped, and with the unit that will be written then. */
static int sync_now(uint32_t flags)
{
	const unsigned int nr = world.config->units;
	unsigned char bits[MAX_UNITS / 8];
	unsigned int i;
	int ret = 0;

	for (i = 0; i < sizeof(bits); i++)
		bits[i] = __atomic_exchange_n(&world.bank->told[i], 0,
					      __ATOMIC_ACQ_REL);
	if (world.config->kind == EXTERNAL)
		ret = dev_mark(world.fd, world.id, 0, nr, bits);
	return ret ?: dev_sync(world.fd, flags, NULL);
}

static void remember(void)
{
	memcpy(world.then, world.mem, world.length);
	if (world.config->guest)
		memcpy(world.guest_then, world.guest_mem, GUEST_LENGTH);
}

/* Devices have asked for these pages, and write to them when they like. */
static bool hold_pages(void)
{
	return !world.config->held ||
	       !slow_disk_read(&world.disk, world.mem + world.length -
			       DISK_UNIT * UNIT);
}

static bool write_to_held_pages(void)
{
	unsigned char *disk = world.mem + world.length - DISK_UNIT * UNIT;
	unsigned char *ring = world.mem + world.length - RING_UNIT * UNIT;

	if (!world.config->held)
		return true;
	if (slow_disk_answer(&world.disk, rnd(&world.state)))
		return false;
	mark(disk);
	/* Owned memory cannot be pinned so before Linux 6.5. */
	if (world.ring.fd >= 0) {
		if (uring_read_pinned(&world.ring, world.random, ring, UNIT) !=
		    UNIT)
			return false;
		mark(ring);
	}
	return true;
}

/* What might otherwise not happen between each SYNC and the reading. */
static void disturb_round(void)
{
	unsigned int i;

	pthread_rwlock_rdlock(&world.bank->gate);
	for (i = 0; i < 8; i++)
		punch(some_nonsense(&world.state));
	if (world.swap && rnd_below(&world.state, 2))
		madvise(world.mem, world.length, MADV_PAGEOUT);
	fork_and_write(&world.state);
	pthread_rwlock_unlock(&world.bank->gate);
}

/* In small pieces; what is torn is told once. */
static int read_slowly(bool *torn)
{
	static unsigned char bytes[32 * 1024];
	ssize_t n;
	int ret = 0;

	*torn = false;
	do {
		n = read(world.fd, bytes, 4096 + rnd_below(&world.state,
							   28 * 1024));
		if (n < 0 && errno == ENOSPC && !*torn) {
			*torn = true;
			n = 1;
			continue;
		}
		if (n < 0)
			return -errno;
		ret = model_feed(world.model, bytes, n);
		usleep(rnd_below(&world.state, 1000));
	} while (n && !ret);
	return ret ?: model_idle(world.model) ? 0 : -EBADMSG;
}

static bool equal(const char *name, const unsigned char *then,
		  const unsigned char *live, size_t length)
{
	int64_t offset = model_diff(world.model, name, then, 0, length);
	const struct model_region *m = model_find(world.model, name);
	size_t at;

	if (offset == -1)
		return true;
	if (offset < 0) {
		ksft_print_msg("%s never came\n", name);
		return false;
	}
	for (at = offset; then[at] == m->mem[at]; at++)
		;
	ksft_print_msg("%s, %s: unit %llu, sent in round %u of %u, differs at %#zx:\n",
		       world.config->name, name,
		       (unsigned long long)offset / UNIT,
		       m->round_of[offset / UNIT], world.model->rounds, at);
	ksft_print_msg("it was %02x, received %02x, is %02x\n", then[at],
		       m->mem[at], live[at]);
	return false;
}

static bool receiver_has(const unsigned char *mem, const unsigned char *guest)
{
	if (!equal("bank", mem, world.mem, world.length))
		return false;
	return !world.config->guest ||
	       equal("guest", guest, world.guest_mem, GUEST_LENGTH);
}

static void count_changes(void)
{
	size_t at;

	for (at = 0; at < world.length; at += UNIT)
		world.counts.changed += !!memcmp(world.then + at,
						 world.mem + at, UNIT);
}

static bool judge(bool torn)
{
	int64_t sum;

	count_changes();
	if (torn) {
		world.counts.torn++;
		if (!world.config->tight)
			ksft_print_msg("torn, with room for everything\n");
		return world.config->tight;
	}
	world.counts.exact++;
	if (!receiver_has(world.then, world.guest_then))
		return false;
	sum = total(model_find(world.model, "bank")->mem);
	if (sum != right_total())
		ksft_print_msg("%lld of %lld\n", (long long)sum,
			       (long long)right_total());
	return sum == right_total();
}

static bool failed(const char *what, int error)
{
	ksft_print_msg("%s: %s %s\n", what, strerror(-error),
		       world.model->error);
	return false;
}

static bool ordinary_round(void)
{
	int ret = sync_now(0);

	if (!ret)
		ret = dev_read_round(world.fd, world.model, 65536);
	return !ret || failed("ordinary round", ret);
}

/* One round, of all that is there once in a while. */
static bool moment(void)
{
	const bool full = !rnd_below(&world.state, 8);
	bool torn;
	int ret;

	if (!hold_pages())
		return failed("slow disk", -EIO);
	pthread_rwlock_wrlock(&world.bank->gate);
	ret = sync_now(XBZRLE_SYNC_POINT_IN_TIME |
		       (full ? XBZRLE_SYNC_FULL : 0));
	if (!ret)
		remember();
	pthread_rwlock_unlock(&world.bank->gate);
	if (!write_to_held_pages())
		return failed("devices", -EIO);
	if (ret == -ENOSPC && world.config->tight) {
		world.counts.refused++;
		return ordinary_round();
	}
	if (ret)
		return failed("SYNC", ret);
	/* Such a round is for a receiver that has nothing. */
	if (full) {
		model_free(world.model);
		world.model = model_new();
		if (!world.model)
			return failed("receiver", -ENOMEM);
	}
	disturb_round();
	usleep(rnd_below(&world.state, 20000));
	ret = read_slowly(&torn);
	if (ret)
		return failed("read", ret);
	return judge(torn);
}

/* It goes on as if there had been no such rounds. */
static bool last_round(void)
{
	int ret = sync_now(0);

	if (!ret)
		ret = dev_read_round(world.fd, world.model, 65536);
	if (ret)
		return failed("last round", ret);
	if (total(world.mem) != right_total()) {
		ksft_print_msg("the test itself has lost money\n");
		return false;
	}
	return receiver_has(world.mem, world.guest_mem);
}

static bool enough(void)
{
	const struct counts *c = &world.counts;

	if (world.config->tight)
		return c->torn + c->refused;
	return c->exact && c->changed;
}

static bool tell_counts(void)
{
	const struct counts *c = &world.counts;
	struct xbzrle_stats stats;

	ksft_print_msg("%s: %u exact, %u torn, %u refused\n",
		       world.config->name, c->exact, c->torn, c->refused);
	ksft_print_msg("%s: %lu units changed meanwhile, %lu transfers\n",
		       world.config->name, c->changed, world.bank->transfers);
	if (dev_stats(world.fd, &stats) || stats.torn_rounds != c->torn) {
		ksft_print_msg("of these, GET_STATS has %llu torn\n",
			       stats.torn_rounds);
		return false;
	}
	return enough();
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void fill(void)
{
	unsigned int unit, number;

	for (unit = 0; unit < account_units(); unit++)
		for (number = 0; number < ACCOUNTS; number++)
			*account(world.mem, unit, number) = BALANCE;
	memset(world.mem + world.length - DEVICE_UNITS * UNIT, 0x77,
	       DEVICE_UNITS * UNIT);
}

static unsigned char *map_owned(const char *name, size_t length, int *fd)
{
	unsigned char *mem;

	*fd = dev_create(world.fd, name, length, NULL);
	if (*fd < 0)
		return NULL;
	mem = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	return mem == MAP_FAILED ? NULL : mem;
}

static unsigned char *map_memfd(size_t length, int *fd)
{
	unsigned char *mem;

	*fd = mm_shared_file(length);
	if (*fd < 0)
		return NULL;
	mem = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	return mem == MAP_FAILED ? NULL : mem;
}

static unsigned char *map_bank(enum kind kind)
{
	switch (kind) {
	case OWNED:
		return map_owned("bank", world.length, &world.rfd);
	case MAPPING:
		return map_memfd(world.length, &world.rfd);
	default:
		return mm_anon(world.length);
	}
}

static bool make_memory(const struct config *c)
{
	static const uint32_t trackers[] = {
		[PTE] = XBZRLE_TRACKER_PTE,
		[FROZEN] = XBZRLE_TRACKER_PTE,
		[MAPPING] = XBZRLE_TRACKER_MAPPING,
		[EXTERNAL] = XBZRLE_TRACKER_EXTERNAL,
	};
	struct xbzrle_register out;
	int fd, ret;

	if (c->guest) {
		world.guest_mem = map_owned("guest", GUEST_LENGTH, &fd);
		if (!world.guest_mem)
			return failed("the guest's memory", -errno);
		close(fd);
	}
	world.mem = map_bank(c->kind);
	if (!world.mem)
		return failed("memory", -errno);
	fill();
	if (c->kind == OWNED)
		return true;
	ret = dev_register_as(world.fd, "bank", world.mem, world.length, 0,
			      trackers[c->kind], c->kind == FROZEN ?
			      XBZRLE_CAPTURE_FREEZE : XBZRLE_CAPTURE_AUTO,
			      &out);
	if (ret)
		return failed("REGISTER", ret);
	world.id = out.region_id;
	return true;
}

static bool open_devices(const struct config *c)
{
	world.ring.fd = -1;
	if (!c->held)
		return true;
	if (slow_disk_open(&world.disk) || uring_open(&world.ring))
		return false;
	if (uring_pin(&world.ring, world.mem + world.length -
		      RING_UNIT * UNIT, UNIT)) {
		uring_close(&world.ring);
		world.ring.fd = -1;
		return c->kind == OWNED;
	}
	return true;
}

static bool make_bank(void)
{
	pthread_rwlockattr_t attr;

	world.bank = mmap(NULL, sizeof(*world.bank), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (world.bank == MAP_FAILED)
		return false;
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_rwlockattr_setkind_np(&attr,
				      PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&world.bank->gate, &attr);
	return true;
}

static bool set_up(const struct config *c, uint64_t seed)
{
	world.config = c;
	world.counts = (struct counts){ 0 };
	world.seed = seed;
	world.state = rnd_seed(seed, 1000);
	world.length = c->units * UNIT;
	world.rfd = -1;
	world.guest.kvm = -1;
	world.guest_mem = NULL;
	world.fd = dev_open();
	world.model = model_new();
	if (!make_bank() || world.fd < 0 || !world.model ||
	    dev_set_cache(world.fd, c->cache * UNIT))
		return failed("a session", -errno);
	return make_memory(c) &&
	       (open_devices(c) || failed("devices", -errno));
}

static void tear_down(void)
{
	if (world.ring.fd >= 0)
		uring_close(&world.ring);
	if (world.config->held)
		slow_disk_close(&world.disk);
	if (world.guest_mem)
		munmap(world.guest_mem, GUEST_LENGTH);
	munmap(world.mem, world.length);
	if (world.rfd >= 0)
		close(world.rfd);
	close(world.fd);
	model_free(world.model);
	munmap(world.bank, sizeof(*world.bank));
}

static bool run_moments(double seconds)
{
	const struct config *c = world.config;
	bool good = true;
	unsigned int i;
	double end;

	for (i = 1; i < c->processes; i++)
		good &= start_child(i) || failed("a child", -errno);
	start_writers(0);
	if (c->guest)
		good &= start_guest() || failed("the guest", -errno);
	end = now() + seconds;
	for (i = 0; good && (i < LEAST || now() < end ||
			     (!enough() && now() < end + PATIENCE)); i++) {
		good = moment();
		if (good && !rnd_below(&world.state, 4))
			good = ordinary_round();
	}
	__atomic_store_n(&world.bank->stop, 1, __ATOMIC_RELAXED);
	join_writers();
	join_guest();
	for (i = 1; i < c->processes; i++)
		waitpid(children[i], NULL, 0);
	return good && last_round() && tell_counts();
}

static void run(const struct config *c, uint64_t seed, double seconds)
{
	bool good = false;

	if (set_up(c, seed)) {
		good = run_moments(seconds);
		tear_down();
	}
	if (!good)
		ksft_print_msg("%s: failed with --seed %llu\n", c->name,
			       (unsigned long long)seed);
	ksft_test_result(good, "moment: %s\n", c->name);
}

static bool has(uint64_t feature)
{
	struct xbzrle_info info;
	int fd = dev_open();
	bool has = fd >= 0 && !dev_info(fd, &info) && info.features & feature;

	close(fd);
	return has;
}

static bool can_run(const struct config *c)
{
	static const uint64_t needs[] = {
		[OWNED] = XBZRLE_FEATURE_TRACKER_OWNED,
		[PTE] = XBZRLE_FEATURE_TRACKER_PTE,
		[FROZEN] = XBZRLE_FEATURE_CAPTURE_FREEZE,
		[MAPPING] = XBZRLE_FEATURE_TRACKER_MAPPING,
		[EXTERNAL] = XBZRLE_FEATURE_TRACKER_EXTERNAL,
	};

	return has(needs[c->kind]) &&
	       (!c->guest || (MM_HAVE_KVM && !access("/dev/kvm", R_OK)));
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	uint64_t seed = time(NULL);
	unsigned int i, nr = 0;
	double seconds = 40;
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
	if (!has(XBZRLE_FEATURE_POINT_IN_TIME))
		ksft_exit_fail_msg("GET_INFO has no point-in-time rounds\n");
	world.then = malloc(MAX_UNITS * UNIT);
	world.guest_then = malloc(GUEST_LENGTH);
	if (!world.then || !world.guest_then)
		ksft_exit_fail_msg("no memory\n");
	world.random = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	world.swap = mm_swap_on();
	for (i = 0; i < ARRAY_SIZE(configs); i++)
		nr += can_run(&configs[i]);
	ksft_set_plan(nr);
	ksft_print_msg("seed %llu\n", (unsigned long long)seed);
	for (i = 0; i < ARRAY_SIZE(configs); i++) {
		if (can_run(&configs[i]))
			run(&configs[i], seed + i, seconds / nr);
		else
			ksft_print_msg("%s: left out here\n", configs[i].name);
	}
	ksft_finished();
}

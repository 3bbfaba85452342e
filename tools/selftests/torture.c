// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Threads write at random, others do to the memory whatever a process can do to
 * its memory, another process and a guest meddle with it, and rounds run all
 * the time. Now and then everybody stops: after one more round the receiver
 * must hold what is in memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "device.h"
#include "rnd.h"
#include "torture.h"

#include "kselftest.h"

/* Faults in a row that no open window explains. */
#define FAULTS_TOLERATED 50000
/* A run of so many seconds must have done everything that is possible. */
#define ENOUGH		25
/* Of the main thread's stack. */
#define STACK_UNITS	260

struct world *world;

static const struct config configs[] = {
	{ "owned", { &kind_owned }, 1, 256, 256 },
	{ "owned, small cache", { &kind_owned }, 3, 512, 128 },
	{ "owned, huge pages", { &kind_owned }, 1, 1024, 1024, .huge = true },
	{ "owned, few pages", { &kind_owned }, 1, 8, 8 },
	{ "owned, of another process", { &kind_owned }, 2, 256, 256,
	  .apart = true },
	{ "owned, of a guest", { &kind_guest }, 1, 256, 256 },
	{ "pte", { &kind_private }, 1, 256, 256 },
	{ "pte, small cache", { &kind_private }, 3, 512, 128 },
	{ "pte, huge pages", { &kind_private }, 1, 1024, 1024, .huge = true },
	{ "pte, few pages", { &kind_private }, 1, 8, 8 },
	{ "pte, of another process",
	  { &kind_private, &kind_memfd, &kind_heap, &kind_stack }, 4, 128, 256,
	  .apart = true },
	{ "pte, heap and stack", { &kind_heap, &kind_stack }, 2, 256, 512 },
	{ "pte, shared memory", { &kind_shared, &kind_memfd, &kind_tmpfs }, 3,
	  256, 512 },
	{ "pte, shared huge pages", { &kind_tmpfs }, 1, 1024, 512,
	  .huge = true },
	{ "pte, frozen", { &kind_frozen }, 1, 256, 512 },
	{ "pte, frozen, small cache", { &kind_frozen }, 3, 512, 128 },
	{ "pte, frozen, of another process",
	  { &kind_frozen, &kind_frozen_stack }, 2, 256, 1024, .apart = true },
	{ "mapping", { &kind_mapping }, 1, 256, 256 },
	{ "mapping, huge pages", { &kind_mapping_tmpfs }, 1, 1024, 512,
	  .huge = true },
	{ "mapping, of another process",
	  { &kind_mapping, &kind_mapping_tmpfs }, 2, 256, 256, .apart = true },
	{ "mapping, of a guest", { &kind_mapping_guest }, 1, 256, 256 },
	{ "external", { &kind_told }, 1, 1024, 1024, .huge = true },
	{ "external, files",
	  { &kind_told_memfd, &kind_told_file, &kind_told_shared_file }, 3, 256,
	  512 },
	{ "external, of another process", { &kind_told, &kind_told_file }, 2,
	  256, 256, .apart = true },
	{ "external, of a guest", { &kind_told_guest }, 1, 256, 256 },
	{ "owned and pte, no cache", { &kind_owned, &kind_private }, 4, 256, 0 },
	{ "all trackers",
	  { &kind_owned, &kind_frozen, &kind_mapping, &kind_told }, 4, 256, 256 },
};

/**
 * say() - tell what is not a result
 * @fmt: as for printf(), without the end of the line
 */
void say(const char *fmt, ...)
{
	va_list args;

	printf("# ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
}

/**
 * give_up() - the run has failed, whoever finds that out
 * @fmt: why
 */
void give_up(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(world->broken, sizeof(world->broken), fmt, args);
	va_end(args);
}

/**
 * stopped() - are all to end?
 *
 * Return: whether they are.
 */
bool stopped(void)
{
	return __atomic_load_n(&world->stop, __ATOMIC_RELAXED);
}

/*
 * While a window is open the memory is not accessible, and a write is tried
 * until it is. Without one the program is wrong.
 */
static void on_fault(int sig)
{
	const struct timespec moment = { .tv_nsec = 100000 };

	if (__atomic_load_n(&world->window, __ATOMIC_ACQUIRE))
		__atomic_store_n(&world->faults, 0, __ATOMIC_RELAXED);
	else if (__atomic_add_fetch(&world->faults, 1, __ATOMIC_RELAXED) >
		 FAULTS_TOLERATED)
		signal(sig, SIG_DFL);
	nanosleep(&moment, NULL);
}

static void *write_on(void *arg)
{
	const enum actor who = (uintptr_t)arg;
	uint64_t state = rnd_seed(world->seed, who);
	struct region *r;
	unsigned int i;

	world->tids[who - WRITER] = syscall(SYS_gettid);
	while (!stopped()) {
		pthread_rwlock_rdlock(&world->gate);
		for (i = 0; i < 32; i++) {
			r = &world->regions[rnd_below(&state,
						      world->config->regions)];
			write_once(r, who, &state);
		}
		pthread_rwlock_unlock(&world->gate);
		if (!rnd_below(&state, 64))
			usleep(rnd_below(&state, 2000));
	}
	return NULL;
}

static void *disturb_on(void *arg)
{
	const enum actor who = (uintptr_t)arg;
	uint64_t state = rnd_seed(world->seed, who);
	unsigned int turn;

	/* They share the deck. */
	for (turn = who - DISTURBER; !stopped(); turn += DISTURBERS) {
		pthread_rwlock_rdlock(&world->gate);
		operate(inside_operations, nr_inside_operations, world->deck,
			world->inside, who, turn, &state);
		pthread_rwlock_unlock(&world->gate);
		usleep(rnd_below(&state, 3000));
	}
	return NULL;
}

static pthread_t threads[WRITERS + DISTURBERS];

/* In the process whose memory it is. */
static bool start_threads(void)
{
	uintptr_t i;

	if (!helpers_start())
		return false;
	for (i = 0; i < WRITERS + DISTURBERS; i++)
		if (pthread_create(&threads[i], NULL, i < DISTURBER ? write_on :
				   disturb_on, (void *)i))
			abort();
	return true;
}

static void join_threads(void)
{
	unsigned int i;

	for (i = 0; i < WRITERS + DISTURBERS; i++)
		pthread_join(threads[i], NULL);
	helpers_stop();
	ops_tear_down();
}

/* The process whose memory it is, when it is another one. */
static pid_t target_start(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (!start_threads()) {
		give_up("no helpers for the memory's process");
		_exit(1);
	}
	join_threads();
	/* Its memory is to be compared once more. */
	pause();
	_exit(0);
}

static void end_process(pid_t pid, bool kills)
{
	int status = 0;

	if (pid <= 0)
		return;
	if (kills)
		kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid || (!kills && status))
		give_up("a helper ended with status %#x", status);
}

/* Writers have not ended when they may: then their memory still changes. */
static void wait_for_target(pid_t target)
{
	char path[64], state[64];
	FILE *f;

	for (;;) {
		snprintf(path, sizeof(path), "/proc/%d/status", target);
		f = fopen(path, "re");
		while (f && fgets(state, sizeof(state), f))
			if (!strncmp(state, "Threads:", 8))
				break;
		if (f)
			fclose(f);
		if (!f || strtoul(state + 8, NULL, 10) <= 1)
			return;
		usleep(1000);
	}
}

static void init_locks(void)
{
	pthread_mutexattr_t mutex;
	pthread_rwlockattr_t rwlock;

	pthread_mutexattr_init(&mutex);
	pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&world->layout, &mutex);
	pthread_mutex_init(&world->hole, &mutex);
	pthread_mutex_init(&world->served, &mutex);
	/* Or the writers would never let the comparison in. */
	pthread_rwlockattr_init(&rwlock);
	pthread_rwlockattr_setpshared(&rwlock, PTHREAD_PROCESS_SHARED);
	pthread_rwlockattr_setkind_np(&rwlock,
				      PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&world->gate, &rwlock);
}

static bool can_run(const struct config *c)
{
	unsigned int i;

	for (i = 0; i < MAX_KINDS && c->kinds[i]; i++)
		if (!env_has(c->kinds[i]->needs))
			return false;
	return true;
}

static bool possible_in(const struct operation *o, const struct config *c)
{
	unsigned int i;

	for (i = 0; can_run(c) && i < MAX_KINDS && c->kinds[i]; i++)
		if (possible(o, c->kinds[i], c))
			return true;
	return false;
}

/* In how many configurations that run here. */
static unsigned int configs_for(const struct operation *o)
{
	unsigned int c, nr = 0;

	for (c = 0; c < ARRAY_SIZE(configs); c++)
		nr += possible_in(o, &configs[c]);
	return nr;
}

/* Among those that are possible as often, each configuration has others first. */
static unsigned int rank(unsigned int o, const struct config *c)
{
	unsigned int turned = (o + (c - configs) * 5) % nr_inside_operations;

	if (!possible_in(&inside_operations[o], c))
		return -1;
	return configs_for(&inside_operations[o]) * MAX_OPERATIONS + turned;
}

static void shuffle_deck(const struct config *c)
{
	unsigned char *deck = world->deck, o;
	unsigned int i, at;

	for (i = 0; i < nr_inside_operations; i++) {
		o = i;
		for (at = i; at && rank(deck[at - 1], c) > rank(o, c); at--)
			deck[at] = deck[at - 1];
		deck[at] = o;
	}
}

static void begin_world(const struct config *c, uint64_t seed)
{
	unsigned int i, kinds = 0;
	struct region *r;

	while (kinds < MAX_KINDS && c->kinds[kinds])
		kinds++;
	world->config = c;
	world->seed = seed;
	world->stop = 0;
	world->window = 0;
	world->faults = 0;
	world->passes = 0;
	world->syncs = 0;
	world->broken[0] = 0;
	world->actions = 0;
	memset(world->log, 0, sizeof(world->log));
	memset(world->regions, 0, sizeof(world->regions));
	memset(world->tids, 0, sizeof(world->tids));
	for (i = 0; i < c->regions; i++) {
		r = &world->regions[i];
		r->kind = c->kinds[i % kinds];
		r->number = i;
		r->fd = -1;
		r->length = c->pages * UNIT;
	}
	shuffle_deck(c);
	init_locks();
}

static bool map_all(void)
{
	struct region *r;
	unsigned int i;

	for (i = 0; i < world->config->regions; i++) {
		r = &world->regions[i];
		if (!kind_map(r)) {
			say("no memory: %s", r->kind->name);
			return false;
		}
		if (world->config->huge)
			madvise(r->mem, r->length, MADV_HUGEPAGE);
	}
	return true;
}

/* Forks come first, as children would keep what a guest has. */
static bool run_all(double seconds)
{
	const bool apart = world->config->apart;
	pid_t target = -1, outside;
	bool equal = false;

	world->target = getpid();
	if (apart) {
		target = target_start();
		world->target = target;
	}
	outside = outsider_start();
	if (outside > 0 && world->target > 0 && guest_begin() &&
	    (apart || start_threads())) {
		equal = oracle_rounds(seconds);
		__atomic_store_n(&world->stop, 1, __ATOMIC_RELAXED);
		if (!apart)
			join_threads();
		else
			wait_for_target(target);
	}
	__atomic_store_n(&world->stop, 1, __ATOMIC_RELAXED);
	end_process(outside, false);
	equal = equal && oracle_last();
	ops_unpin();
	end_process(target, true);
	guest_end();
	return equal;
}

/* Each configuration has a seed of its own, also when it runs alone. */
static void run(const struct config *c, uint64_t seed, double seconds)
{
	bool equal = false;
	unsigned int i;

	begin_world(c, seed + (c - configs));
	env_huge_files(c->huge);
	if (oracle_begin(c) && map_all())
		equal = run_all(seconds);
	oracle_end();
	for (i = 0; i < c->regions; i++)
		kind_unmap(&world->regions[i]);
	if (world->broken[0]) {
		say("%s", world->broken);
		equal = false;
	}
	if (world->passes)
		say("%s: the guest has written everything %u times", c->name,
		    world->passes);
	if (!equal)
		say("%s: failed with SEED=%llu CONFIG='%s'", c->name,
		    (unsigned long long)seed, c->name);
	ksft_test_result(equal, "torture: %s\n", c->name);
}

/* How often each was done; false if one never was. */
static bool tell_counts(const struct operation *table, unsigned int nr,
			const struct count *counts)
{
	bool good = true, never;
	unsigned int i;
	char text[128];

	for (i = 0; i < nr; i++) {
		if (!configs_for(&table[i])) {
			env_name(table[i].needs, text, sizeof(text));
			say("%s: not here, without %s", table[i].name,
			    *text ? text : "such memory");
			continue;
		}
		never = !counts[i].done;
		say("%s: %u of %u times, %llu ms%s", table[i].name,
		    counts[i].done, counts[i].tried,
		    (unsigned long long)counts[i].spent / 1000,
		    never ? ": never" : "");
		good &= !never;
	}
	return good;
}

static void tell_all(bool judge)
{
	bool good;

	good = tell_counts(inside_operations, nr_inside_operations,
			   world->inside);
	good &= tell_counts(outside_operations, nr_outside_operations,
			    world->outside);
	good &= env_events(judge);
	if (judge)
		ksft_test_result(good, "torture: all that is possible was done\n");
}

static bool make_world(void)
{
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return world != MAP_FAILED;
}

/* All of them, or the one of that name. */
static void run_configs(const char *only, uint64_t seed, double seconds)
{
	bool runs[ARRAY_SIZE(configs)];
	unsigned int i, nr = 0;
	bool judge;

	for (i = 0; i < ARRAY_SIZE(configs); i++) {
		runs[i] = can_run(&configs[i]) &&
			  (!only || !strcmp(only, configs[i].name));
		nr += runs[i];
		if (!can_run(&configs[i]))
			say("%s: left out here", configs[i].name);
	}
	judge = !only && seconds >= ENOUGH;
	ksft_set_plan(nr + judge);
	for (i = 0; i < ARRAY_SIZE(configs); i++)
		if (runs[i])
			run(&configs[i], seed, seconds / nr);
	tell_all(judge);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'r' },
		{ "config", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	struct sigaction action = { .sa_handler = on_fault };
	unsigned char stack[STACK_UNITS * UNIT];
	uint64_t seed = time(NULL);
	const char *only = NULL;
	double seconds = 50;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 's':
			seconds = strtod(optarg, NULL);
			break;
		case 'r':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'c':
			only = optarg;
			break;
		default:
			fprintf(stderr, "usage: %s [--seconds N] [--seed N] [--config NAME]\n",
				argv[0]);
			return option == 'h' ? 0 : 2;
		}
	}

	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	if (!make_world())
		ksft_exit_fail_msg("no memory\n");
	say("seed %llu", (unsigned long long)seed);
	sigaction(SIGSEGV, &action, NULL);
	env_set_up();
	kinds_set_up(stack, sizeof(stack));
	ops_set_up();
	run_configs(only, seed, seconds);
	kinds_tear_down();
	env_tear_down();
	ksft_finished();
}

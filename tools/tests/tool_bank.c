// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * A target with an invariant: threads move money between accounts that are all
 * over their memory, and none is ever lost. What a thread is about to do stands
 * in its slot before it does it, so that a copy of the memory as of any one
 * instant can be told from one that is of several.
 * usage: tool_bank run [grow|shared|slow|mapped|exec]
 *					runs until it is killed; prints START-END
 *					and the pid that shares its memory, or 0;
 *					exec: SIGUSR1 makes it another program
 *	  tool_bank owned COMMAND...	in owned memory; COMMAND gets its session
 *					as fd 3 and ends it
 *	  tool_bank check IMAGE...	0 if each is of one instant
 *	  tool_bank copy PID START	copies its memory while it runs to stdout
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <xbzrle.h>

#define PAGE		4096
#define THREADS		3
#define PAGES		768	/* of accounts, an account each */
#define SIZE		((PAGES + THREADS) * PAGE)
#define BALANCE		1000000
#define ACCOUNT_AT	(PAGE / sizeof(uint64_t) / 2)

/* A transfer that is under way if @step is 1: undone by the two old balances. */
struct slot {
	uint64_t step;
	uint64_t from, to;
	uint64_t old_from, old_to;
	uint64_t count;
};

static uint8_t *bank;
static bool slow;

static struct slot *slot_of(uint8_t *memory, unsigned int thread)
{
	return (struct slot *)(memory + (PAGES + thread) * PAGE);
}

static uint64_t *account(uint8_t *memory, uint64_t number)
{
	return (uint64_t *)(memory + number * PAGE) + ACCOUNT_AT;
}

static void set(uint64_t *at, uint64_t value)
{
	__atomic_store_n(at, value, __ATOMIC_SEQ_CST);
}

/* Each thread has accounts of its own, so no other touches a transfer's. */
static void transfer(unsigned int thread, uint64_t from, uint64_t to,
		     uint64_t amount)
{
	struct slot *slot = slot_of(bank, thread);

	set(&slot->from, from);
	set(&slot->to, to);
	set(&slot->old_from, *account(bank, from));
	set(&slot->old_to, *account(bank, to));
	set(&slot->step, 1);
	set(account(bank, from), slot->old_from - amount);
	set(account(bank, to), slot->old_to + amount);
	set(&slot->step, 0);
	set(&slot->count, slot->count + 1);
}

static void *move_money(void *argument)
{
	const struct timespec pause = { .tv_nsec = 200000 };
	unsigned int thread = (uintptr_t)argument;
	uint64_t seed = thread + 1, from, to;

	for (;;) {
		seed = seed * 6364136223846793005 + 1442695040888963407;
		from = (seed >> 33) % (PAGES / THREADS) * THREADS + thread;
		seed = seed * 6364136223846793005 + 1442695040888963407;
		to = (seed >> 33) % (PAGES / THREADS) * THREADS + thread;
		if (from != to)
			transfer(thread, from, to, seed % 1000);
		if (seed >> 60 == 0)
			nanosleep(&pause, NULL);
		if (slow)
			usleep(50000);
	}
	return NULL;
}

static int move_money_shared(void *argument)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	move_money(argument);
	return 0;
}

static void open_bank(void *memory)
{
	uint64_t i;

	bank = memory;
	for (i = 0; i < PAGES; i++)
		*account(bank, i) = BALANCE;
}

static bool start_threads(unsigned int count)
{
	pthread_t thread;
	unsigned int i;

	for (i = 0; i < count; i++) {
		if (pthread_create(&thread, NULL, move_money,
				   (void *)(uintptr_t)i))
			return false;
	}
	return true;
}

/* With a last mover that is a process of its own in the same memory: its pid. */
static pid_t start_shared(void)
{
	static char stack[65536] __attribute__((aligned(16)));

	return clone(move_money_shared, stack + sizeof(stack),
		     CLONE_VM | SIGCHLD, (void *)(uintptr_t)(THREADS - 1));
}

static void become_sleep(int number)
{
	(void)number;
	execlp("sleep", "sleep", "1000", NULL);
}

static int run(const char *how)
{
	int kind = strcmp(how, "mapped") ? MAP_PRIVATE : MAP_SHARED;
	void *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			    kind | MAP_ANONYMOUS, -1, 0);
	bool shared = !strcmp(how, "shared");
	pid_t other = 0;

	slow = !strcmp(how, "slow");
	if (!strcmp(how, "exec"))
		signal(SIGUSR1, become_sleep);
	if (memory == MAP_FAILED)
		return 1;
	open_bank(memory);
	if (!start_threads(shared ? THREADS - 1 : THREADS))
		return 1;
	if (shared)
		other = start_shared();
	if (other < 0)
		return 1;
	printf("%lx-%lx %d\n", (unsigned long)memory,
	       (unsigned long)memory + SIZE, other);
	fflush(stdout);
	for (;;) {
		usleep(50000);
		if (strcmp(how, "grow"))
			continue;
		/* The memory map changes from round to round. */
		memset(sbrk(3 * PAGE), 0x11, 3 * PAGE);
		memory = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED)
			return 1;
		memset(memory, 1, 3 * PAGE);
		usleep(150000);
		munmap(memory, 3 * PAGE);
	}
}

static int run_owned(char **command)
{
	struct xbzrle_session *session;
	struct xbzrle_region region;
	struct xbzrle_error error;
	char pid[16];
	int status;

	session = xbzrle_open(&error);
	if (!session || xbzrle_set_cache(session, 16 << 20, &error) ||
	    xbzrle_create(session, "bank", SIZE, XBZRLE_CREATE_MAP, &region,
			  &error)) {
		fprintf(stderr, "tool_bank: %s\n", error.message);
		return 1;
	}
	snprintf(pid, sizeof(pid), "%d", getpid());
	setenv("BANK_PID", pid, 1);
	open_bank(region.addr);
	if (!start_threads(THREADS))
		return 1;
	if (!fork()) {
		if (dup2(xbzrle_session_fd(session), 3) == 3)
			fcntl(3, F_SETFD, 0);
		execvp(command[0], command);
		_exit(127);
	}
	return wait(&status) > 0 && WIFEXITED(status) ?
		WEXITSTATUS(status) : 1;
}

static bool is_one_instant(uint8_t *memory, const char *name)
{
	uint64_t want, sum, i, pages = PAGES / THREADS;
	unsigned int thread;
	struct slot *slot;

	for (thread = 0; thread < THREADS; thread++) {
		slot = slot_of(memory, thread);
		if (slot->step == 1 && slot->from < PAGES && slot->to < PAGES) {
			*account(memory, slot->from) = slot->old_from;
			*account(memory, slot->to) = slot->old_to;
		}
		for (sum = 0, i = thread; i < PAGES; i += THREADS)
			sum += *account(memory, i);
		want = pages * BALANCE;
		if (sum == want)
			continue;
		printf("# %s: thread %u has %lld too much after %llu transfers\n",
		       name, thread, (long long)(sum - want),
		       (unsigned long long)slot->count);
		return false;
	}
	return true;
}

static int check(char **images)
{
	static uint8_t memory[SIZE];
	FILE *file;
	int failed = !*images;
	size_t got;

	for (; *images; images++) {
		file = fopen(*images, "re");
		got = file ? fread(memory, 1, SIZE, file) : 0;
		if (file)
			fclose(file);
		if (got != SIZE) {
			printf("# %s: not a bank\n", *images);
			failed = 1;
		} else if (!is_one_instant(memory, *images)) {
			failed = 1;
		}
	}
	return failed;
}

static int copy(const char *pid, const char *start)
{
	uint64_t at = strtoull(start, NULL, 16), i;
	char path[32], page[PAGE];
	int fd;

	snprintf(path, sizeof(path), "/proc/%.12s/mem", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	for (i = 0; i < SIZE; i += PAGE) {
		if (pread(fd, page, PAGE, at + i) != PAGE ||
		    write(STDOUT_FILENO, page, PAGE) != PAGE)
			return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc >= 2 && !strcmp(argv[1], "run"))
		return run(argc > 2 ? argv[2] : "");
	if (argc >= 3 && !strcmp(argv[1], "owned"))
		return run_owned(argv + 2);
	if (argc >= 2 && !strcmp(argv[1], "check"))
		return check(argv + 2);
	if (argc == 4 && !strcmp(argv[1], "copy"))
		return copy(argv[2], argv[3]);
	return 2;
}

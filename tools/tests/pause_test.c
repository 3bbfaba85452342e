// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Pausing processes: all that write to a memory, nobody else, and not for ever. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../xbzrle/command.h"
#include "../xbzrle/pause.h"
#include "wrapped.h"

#define WRITERS	4

/* What the writers count up, seen from here too. */
static volatile uint64_t *counters;

static void *count_up(void *at)
{
	volatile uint64_t *counter = at;

	for (;;)
		++*counter;
	return NULL;
}

static void execute(int number)
{
	(void)number;
	execlp("sleep", "sleep", "1000", NULL);
	_exit(1);
}

static int count_up_shared(void *at)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGUSR1, execute);
	count_up(at);
	return 0;
}

/* Two threads, and two processes that share the memory, one made by the other. */
static int make_second(void *at)
{
	static char stack[65536] __attribute__((aligned(16)));
	volatile uint64_t *counter = at;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (clone(count_up_shared, stack + sizeof(stack), CLONE_VM | SIGCHLD,
		  (void *)(counter + 1)) < 0)
		return 1;
	count_up(at);
	return 0;
}

static pid_t start_writers(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	pid_t pid = fork();
	pthread_t thread;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (clone(make_second, stack + sizeof(stack), CLONE_VM | SIGCHLD,
		  (void *)&counters[2]) < 0 ||
	    pthread_create(&thread, NULL, count_up, (void *)&counters[1]))
		_exit(1);
	count_up((void *)&counters[0]);
	_exit(0);
}

/* Whom the kernel is to call a thread of its own, and to list last. */
static pid_t kernel_thread;

/* Who is to execute another program when it was found. */
static pid_t executing, executing_for;

static void await_execution(void)
{
	kill(executing, SIGUSR1);
	while (!syscall(SYS_kcmp, executing_for, executing, KCMP_VM, 0, 0))
		usleep(1000);
	executing = 0;
}

int __wrap_openat(int dir, const char *name, int flags, ...)
{
	char stat[32], text[64];
	int fd;

	snprintf(stat, sizeof(stat), "/proc/%d/stat", kernel_thread);
	if (executing && atoi(name + strlen("/proc/")) == executing)
		await_execution();
	if (!kernel_thread || strcmp(name, stat))
		return __real_openat(dir, name, flags);
	fd = memfd_create("stat", MFD_CLOEXEC);
	snprintf(text, sizeof(text), "%d (vhost-1) S 2 0 0 0 -1 %lu 0",
		 kernel_thread, 0x00208040ul);
	if (pwrite(fd, text, strlen(text), 0) < 0)
		return -1;
	return fd;
}

struct dirent *__wrap_readdir(DIR *list)
{
	static bool was_it;
	struct dirent *entry = was_it ? NULL : __real_readdir(list);

	was_it = entry && kernel_thread && atoi(entry->d_name) == kernel_thread;
	return entry;
}

static void read_counters(uint64_t *values)
{
	int i;

	for (i = 0; i < WRITERS; i++)
		values[i] = counters[i];
}

/* How many of them go on. */
static int moving(void)
{
	uint64_t before[WRITERS], after[WRITERS];
	int i, turn, count = 0;

	read_counters(before);
	for (turn = 0; turn < 200 && count < WRITERS; turn++) {
		usleep(5000);
		read_counters(after);
		for (i = 0, count = 0; i < WRITERS; i++)
			count += before[i] != after[i];
		/* Those that do not are given half a second. */
		if (!count && turn == 100)
			break;
	}
	return count;
}

static int start(void **state)
{
	static struct target target;
	struct xbzrle_error err;
	pid_t pid;

	counters = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counters == MAP_FAILED)
		return -1;
	pid = start_writers();
	if (pid < 0 || target_open(&target, pid, &err))
		return -1;
	while (!counters[0] || !counters[1] || !counters[2] || !counters[3])
		usleep(1000);
	*state = &target;
	return 0;
}

static int end(void **state)
{
	struct target *target = *state;

	kill(target->pid, SIGKILL);
	waitpid(target->pid, NULL, 0);
	target_close(target);
	munmap((void *)counters, 4096);
	return 0;
}

static bool lacks_kcmp(void)
{
	return syscall(SYS_kcmp, getpid(), getpid(), KCMP_VM, 0, 0) &&
		errno == ENOSYS;
}

static void all_that_share_are_paused(void **state)
{
	uint64_t before[WRITERS], after[WRITERS];
	struct xbzrle_error err;
	struct pause pause;

	if (lacks_kcmp())
		skip();
	assert_int_equal(pause_open(&pause, *state, NULL, &err), 0);
	assert_int_equal(moving(), WRITERS);
	assert_int_equal(pause_begin(&pause, &err), 0);
	assert_int_equal(pause.other_count, 2);
	read_counters(before);
	usleep(50000);
	read_counters(after);
	assert_memory_equal(before, after, sizeof(before));
	assert_true(pause_held(&pause));
	pause_end(&pause);
	assert_int_equal(moving(), WRITERS);
	pause_close(&pause);
}

static void who_was_stopped_stays_so(void **state)
{
	struct target *target = *state;
	struct xbzrle_error err;
	struct pause pause;

	if (lacks_kcmp())
		skip();
	assert_int_equal(kill(target->pid, SIGSTOP), 0);
	while (!target_is_stopped(target))
		usleep(1000);
	assert_int_equal(pause_open(&pause, target, NULL, &err), 0);
	assert_int_equal(pause_begin(&pause, &err), 0);
	pause_end(&pause);
	assert_true(target_is_stopped(target));
	/* The processes beside it were not. */
	assert_int_equal(moving(), 2);
	pause_close(&pause);
}

static void who_is_put_back_to_work_is_seen(void **state)
{
	struct target *target = *state;
	struct xbzrle_error err;
	struct pause pause;
	pid_t other;

	if (lacks_kcmp())
		skip();
	assert_int_equal(pause_open(&pause, target, NULL, &err), 0);
	assert_int_equal(pause_begin(&pause, &err), 0);
	assert_true(pause_held(&pause));
	assert_int_equal(kill(target->pid, SIGCONT), 0);
	while (target_is_stopped(target))
		usleep(1000);
	assert_false(pause_held(&pause));
	pause_end(&pause);

	assert_int_equal(pause_begin(&pause, &err), 0);
	other = pause.others[0].pid;
	assert_int_equal(kill(other, SIGCONT), 0);
	while (target_is_stopped(&pause.others[0]))
		usleep(1000);
	assert_false(pause_held(&pause));
	pause_close(&pause);
	assert_int_equal(moving(), WRITERS);
}

/* To be gone may take the last of them long: it has all the memory to give up. */
static void who_is_killed_does_not_run(void **state)
{
	struct target *target = *state;
	struct xbzrle_error err;
	struct pause pause;
	pid_t other;
	int status;

	if (lacks_kcmp())
		skip();
	assert_int_equal(pause_open(&pause, target, NULL, &err), 0);
	assert_int_equal(pause_begin(&pause, &err), 0);
	other = pause.others[0].pid;
	/* Held there for us. */
	assert_int_equal(ptrace(PTRACE_SEIZE, other, NULL, PTRACE_O_TRACEEXIT),
			 0);
	assert_int_equal(kill(other, SIGKILL), 0);
	do {
		assert_int_equal(waitpid(other, &status, __WALL), other);
		assert_true(WIFSTOPPED(status));
	} while (status >> 8 != (SIGTRAP | PTRACE_EVENT_EXIT << 8));
	assert_false(target_is_stopped(&pause.others[0]));
	assert_int_equal(pause_running(&pause), 0);
	assert_true(pause_held(&pause));
	assert_int_equal(ptrace(PTRACE_DETACH, other, NULL, NULL), 0);
	while (!target_has_ended(&pause.others[0]))
		usleep(1000);
	assert_int_equal(pause_running(&pause), 0);
	pause_close(&pause);
}

/* Whoever has a session that somebody else opened can be of another user. */
static void who_may_not_be_looked_at_is_refused(void **state)
{
	struct xbzrle_error err;
	struct target target;
	struct pause pause;
	pid_t pid;
	int status;

	(void)state;
	if (lacks_kcmp())
		skip();
	pid = fork();
	if (!pid) {
		if ((!geteuid() && setuid(65534)) ||
		    prctl(PR_SET_DUMPABLE, 0))
			_exit(2);
		pid = fork();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			sleep(60);
			_exit(0);
		}
		if (target_open(&target, pid, &err))
			_exit(3);
		status = pause_open(&pause, &target, NULL, &err);
		kill(pid, SIGKILL);
		_exit(status == -EPERM && strstr(err.message, "trace") ? 0 : 4);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Such as vhost's, which has QEMU's memory and can be newer than all processes. */
static void a_kernel_thread_is_let_run(void **state)
{
	struct target *target = *state;
	struct xbzrle_error err;
	struct pause pause;
	pid_t others[2];

	if (lacks_kcmp())
		skip();
	assert_int_equal(pause_open(&pause, target, NULL, &err), 0);
	assert_int_equal(pause_begin(&pause, &err), 0);
	others[0] = pause.others[0].pid;
	others[1] = pause.others[1].pid;
	pause_end(&pause);
	kernel_thread = others[0] > others[1] ? others[0] : others[1];
	assert_int_equal(pause_begin(&pause, &err), 0);
	kernel_thread = 0;
	assert_int_equal(pause.other_count, 1);
	assert_int_equal(moving(), 1);
	pause_close(&pause);
	assert_int_equal(moving(), WRITERS);
}

/* Nobody who ends the pause, or leaves them stopped, would know of it. */
static void who_executes_is_let_run(void **state)
{
	struct target *target = *state;
	struct xbzrle_error err;
	struct target other;
	struct pause pause;
	pid_t pid;

	if (lacks_kcmp())
		skip();
	assert_int_equal(pause_open(&pause, target, NULL, &err), 0);
	assert_int_equal(pause_begin(&pause, &err), 0);
	/* The one that the other has made. */
	pid = pause.others[pause.others[1].pid > pause.others[0].pid].pid;
	pause_end(&pause);
	executing_for = target->pid;
	executing = pid;
	assert_int_equal(pause_begin(&pause, &err), 0);
	assert_int_equal(executing, 0);
	assert_int_equal(pause.other_count, 1);
	assert_true(pause.others[0].pid != pid);
	assert_int_equal(moving(), 0);
	assert_int_equal(target_open(&other, pid, &err), 0);
	assert_false(target_has_ended(&other));
	assert_false(target_is_stopped(&other));
	target_close(&other);
	pause_close(&pause);
	assert_int_equal(moving(), WRITERS - 1);
}

static void *outlive(void *at)
{
	(void)at;
	for (;;)
		pause();
	return NULL;
}

/* Of a process whose first thread has ended the others go on. */
static void who_has_threads_left_is_not_dying(void **state)
{
	struct xbzrle_error err;
	struct target target;
	pthread_t thread;
	pid_t pid = fork();

	(void)state;
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pthread_create(&thread, NULL, outlive, NULL);
		pthread_exit(NULL);
	}
	assert_int_equal(target_open(&target, pid, &err), 0);
	while (target_has_memory(&target))
		usleep(1000);
	assert_false(target_has_ended(&target));
	assert_false(target_is_dying(&target));
	assert_int_equal(kill(pid, SIGKILL), 0);
	while (!target_has_ended(&target))
		usleep(1000);
	assert_true(target_is_dying(&target));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	target_close(&target);
}

/* Its tracer could let it go on at any moment. */
static void who_is_traced_is_refused(void **state)
{
	struct target *target = *state;
	struct xbzrle_error err;
	struct pause pause;

	assert_int_equal(ptrace(PTRACE_SEIZE, target->pid, NULL, NULL), 0);
	assert_int_equal(pause_open(&pause, target, NULL, &err), 0);
	assert_int_equal(pause_begin(&pause, &err), -EBUSY);
	assert_int_equal(moving(), WRITERS);

	assert_int_equal(ptrace(PTRACE_INTERRUPT, target->pid, NULL, NULL), 0);
	assert_int_equal(waitpid(target->pid, NULL, 0), target->pid);
	assert_int_equal(pause_begin(&pause, &err), -EBUSY);
	assert_int_equal(ptrace(PTRACE_DETACH, target->pid, NULL, NULL), 0);

	/* One that comes later has been seen when the pause ends. */
	assert_int_equal(pause_begin(&pause, &err), 0);
	assert_true(pause_held(&pause));
	assert_int_equal(ptrace(PTRACE_SEIZE, target->pid, NULL, NULL), 0);
	assert_int_equal(waitpid(target->pid, NULL, 0), target->pid);
	assert_false(pause_held(&pause));
	pause_close(&pause);
}

static void a_process_that_ends(void **state)
{
	struct target *target = *state;
	struct xbzrle_error err;
	struct pause pause;

	assert_false(target_has_ended(target));
	assert_int_equal(pause_open(&pause, target, NULL, &err), 0);
	kill(target->pid, SIGKILL);
	while (!target_has_ended(target))
		usleep(1000);
	/* A zombie has no memory that others could share with it. */
	assert_int_equal(pause_begin(&pause, &err), -ESRCH);
	assert_int_equal(pause.other_count, 0);
	pause_close(&pause);
}

static void what_cannot_be_frozen(void **state)
{
	struct xbzrle_error err;
	struct pause pause;

	assert_int_equal(pause_open(&pause, *state, "/tmp", &err),
			 -COMMAND_MISUSED);
	assert_int_equal(pause_open(&pause, *state, "/nosuch", &err), -ENOENT);
}

static void not_itself(void **state)
{
	struct target target = { .pid = getpid(), .pidfd = -1 };
	struct xbzrle_error err;
	struct pause pause;

	(void)state;
	assert_int_equal(pause_open(&pause, &target, NULL, &err), -EDEADLK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(all_that_share_are_paused,
						start, end),
		cmocka_unit_test_setup_teardown(who_was_stopped_stays_so,
						start, end),
		cmocka_unit_test_setup_teardown(who_is_put_back_to_work_is_seen,
						start, end),
		cmocka_unit_test_setup_teardown(who_is_killed_does_not_run,
						start, end),
		cmocka_unit_test(who_may_not_be_looked_at_is_refused),
		cmocka_unit_test_setup_teardown(a_kernel_thread_is_let_run,
						start, end),
		cmocka_unit_test_setup_teardown(who_executes_is_let_run,
						start, end),
		cmocka_unit_test(who_has_threads_left_is_not_dying),
		cmocka_unit_test_setup_teardown(who_is_traced_is_refused,
						start, end),
		cmocka_unit_test_setup_teardown(a_process_that_ends, start,
						end),
		cmocka_unit_test_setup_teardown(what_cannot_be_frozen, start,
						end),
		cmocka_unit_test(not_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

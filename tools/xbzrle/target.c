// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Stopping a process and putting it back to work. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

#include "progress.h"
#include "signals.h"
#include "target.h"

/* A thread in uninterruptible sleep stops late; this is too late. */
#define STOP_TIMEOUT		10.0

/**
 * target_open() - get hold of a process
 * @target: filled in
 * @pid: process
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int target_open(struct target *target, pid_t pid, struct xbzrle_error *err)
{
	*target = (struct target){ .pid = pid };
	target->pidfd = pidfd_open(pid, 0);
	if (target->pidfd < 0)
		return xbzrle_fail(err, errno, 0, "process %d: %s", pid,
				   strerror(errno));
	return 0;
}

/**
 * struct thread_stat - what the kernel says of a thread
 * @state: letter, 0 if it has ended
 * @flags: PF_* of the kernel, which proc(5) has it tell
 */
struct thread_stat {
	char state;
	unsigned long flags;
};

static struct thread_stat read_stat(const char *task, const char *thread)
{
	struct thread_stat stat = {};
	char path[64], line[512], *paren;
	FILE *file;
	size_t got;

	snprintf(path, sizeof(path), "%s/%.16s/stat", task, thread);
	file = fopen(path, "re");
	if (!file)
		return stat;
	got = fread(line, 1, sizeof(line) - 1, file);
	fclose(file);
	line[got] = '\0';
	/* The command's name before may hold parentheses itself, and line feeds. */
	paren = strrchr(line, ')');
	if (paren)
		sscanf(paren + 1, " %c %*d %*d %*d %*d %*d %lu", &stat.state,
		       &stat.flags);
	return stat;
}

/* The number behind @key, in a line of its own; 0 if the thread has ended. */
static unsigned long long read_status(const char *task, const char *thread,
				      const char *key, int base)
{
	unsigned long long number = 0;
	char path[64], line[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%.16s/status", task, thread);
	file = fopen(path, "re");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, key, strlen(key)))
			continue;
		number = strtoull(line + strlen(key), NULL, base);
		break;
	}
	fclose(file);
	return number;
}

/* Calls @look for each thread until it says false, which is then the answer. */
static bool all_threads(pid_t pid, bool (*look)(const char *task,
						const char *thread))
{
	const struct dirent *entry;
	char task[32];
	bool all = true;
	DIR *threads;

	snprintf(task, sizeof(task), "/proc/%d/task", pid);
	threads = opendir(task);
	if (!threads)
		return false;
	while (all && (entry = readdir(threads)))
		all = entry->d_name[0] == '.' || look(task, entry->d_name);
	closedir(threads);
	return all;
}

/*
 * Not one that a tracer holds, who may let it go on at any moment. One that has
 * ended since writes no more.
 */
static bool thread_is_stopped(const char *task, const char *thread)
{
	char state = read_stat(task, thread).state;

	return !state || strchr("TZX", state);
}

static bool thread_is_free(const char *task, const char *thread)
{
	return !read_status(task, thread, "TracerPid:", 10);
}

/* True if no thread can run on; false also if the process is gone. */
static bool all_stopped(pid_t pid)
{
	return all_threads(pid, thread_is_stopped);
}

/* Has it been killed, or has it begun to end by itself, or ended? */
static bool thread_is_dying(const char *task, const char *thread)
{
	const unsigned long exiting = 0x4 | 0x400; /* PF_EXITING, PF_SIGNALED */
	struct thread_stat stat;

	if (read_status(task, thread, "SigPnd:", 16) >> (SIGKILL - 1) & 1)
		return true;
	stat = read_stat(task, thread);
	return !stat.state || stat.flags & exiting;
}

/**
 * target_has_ended() - is the process gone, or only its parent's to bury?
 * @target: target
 *
 * Return: true if so.
 */
bool target_has_ended(const struct target *target)
{
	struct pollfd end = { .fd = target->pidfd, .events = POLLIN };

	return poll(&end, 1, 0) > 0;
}

/**
 * target_is_dying() - has it been killed, and not ended yet?
 * @target: target
 *
 * No thread of it executes anything of its own any more. What says so is not
 * there for an instant, when the signal is taken.
 *
 * Return: true if so.
 */
bool target_is_dying(const struct target *target)
{
	return all_threads(target->pid, thread_is_dying);
}

/**
 * target_has_memory() - is it a process that has some, and has not begun to end?
 * @target: target
 *
 * Return: true if so; false also if it has ended.
 */
bool target_has_memory(const struct target *target)
{
	char path[32];
	unsigned long pages = 0;
	FILE *statm;

	snprintf(path, sizeof(path), "/proc/%d/statm", target->pid);
	statm = fopen(path, "re");
	if (!statm)
		return false;
	if (fscanf(statm, "%lu", &pages) != 1)
		pages = 0;
	fclose(statm);
	/* Not of another process that has its number now. */
	return pages && !target_has_ended(target);
}

/**
 * target_stop() - stop every thread
 * @target: target
 * @err: set on failure; the target then goes on
 *
 * A process that was stopped before stays so whatever happens. One that is traced
 * is refused.
 *
 * Return: 0 or a negative errno.
 */
int target_stop(struct target *target, struct xbzrle_error *err)
{
	const struct timespec pause = { .tv_nsec = 100000 };
	double start = progress_now();
	int ret;

	if (all_stopped(target->pid))
		return 0;
	if (!target_has_ended(target) &&
	    !all_threads(target->pid, thread_is_free))
		return xbzrle_fail(err, EBUSY, 0,
				   "process %d is traced, by a debugger or strace, which may let it go on at any moment; have it let go first",
				   target->pid);
	/* Who is stopped itself could not let it go on. */
	signals_hold_stops();
	if (pidfd_send_signal(target->pidfd, SIGSTOP, NULL, 0)) {
		ret = xbzrle_fail(err, errno, 0, "cannot stop process %d: %s",
				  target->pid, strerror(errno));
		signals_release_stops();
		return ret;
	}
	target->stopped = true;

	while (!all_stopped(target->pid)) {
		ret = signals_check(err);
		if (!ret && progress_now() - start >= STOP_TIMEOUT)
			ret = xbzrle_fail(err, ETIMEDOUT, 0,
					  "process %d does not stop",
					  target->pid);
		if (!ret && pidfd_send_signal(target->pidfd, 0, NULL, 0))
			ret = xbzrle_fail(err, errno, 0, "process %d: %s",
					  target->pid, strerror(errno));
		if (ret) {
			target_continue(target);
			return ret;
		}
		nanosleep(&pause, NULL);
	}
	return 0;
}

/**
 * target_is_stopped() - can no thread run on, whoever stopped it?
 * @target: target
 *
 * Return: true if so; false also if the process is gone.
 */
bool target_is_stopped(const struct target *target)
{
	return all_stopped(target->pid);
}

/**
 * target_continue() - undo target_stop()
 * @target: target
 */
void target_continue(struct target *target)
{
	if (target->stopped)
		pidfd_send_signal(target->pidfd, SIGCONT, NULL, 0);
	target_keep_stopped(target);
}

/**
 * target_keep_stopped() - leave a process to others as it is
 * @target: target
 */
void target_keep_stopped(struct target *target)
{
	if (target->stopped)
		signals_release_stops();
	target->stopped = false;
}

/**
 * target_kill() - end the target
 * @target: target
 * @err: set on failure
 *
 * One that has ended already, and was buried, is as good.
 *
 * Return: 0 or a negative errno.
 */
int target_kill(struct target *target, struct xbzrle_error *err)
{
	if (pidfd_send_signal(target->pidfd, SIGKILL, NULL, 0) &&
	    errno != ESRCH)
		return xbzrle_fail(err, errno, 0, "cannot kill process %d: %s",
				   target->pid, strerror(errno));
	target_keep_stopped(target);
	return 0;
}

/**
 * target_close() - let go of a process, running if it ran before
 * @target: target
 */
void target_close(struct target *target)
{
	target_continue(target);
	close(target->pidfd);
}

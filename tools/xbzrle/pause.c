// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Memory has more than one writer: each thread, and each process that was made
 * to share it (CLONE_VM without CLONE_THREAD). They are stopped one after the
 * other, and one that still runs can make another; so it is looked again for
 * more until there are none that run.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "array.h"
#include "command.h"
#include "pause.h"
#include "progress.h"
#include "signals.h"

/* A group in which somebody sleeps uninterruptibly freezes late. */
#define FREEZE_TIMEOUT		10.0
/* So often another process that shares the memory may appear meanwhile. */
#define SHARER_TURNS		100
/* PF_KTHREAD of the kernel, which proc(5) has tell it. */
#define KERNEL_THREAD		0x00200000ul

static int open_in(int dir, const char *name, int flags)
{
	return openat(dir, name, flags | O_CLOEXEC);
}

static ssize_t read_text(int dir, const char *name, char *text, size_t size)
{
	int fd = open_in(dir, name, O_RDONLY);
	ssize_t got;

	if (fd < 0)
		return -1;
	got = read(fd, text, size - 1);
	close(fd);
	text[got > 0 ? got : 0] = '\0';
	return got;
}

static bool lists(int dir, pid_t pid)
{
	int fd = open_in(dir, "cgroup.procs", O_RDONLY), listed;
	bool found = false;
	FILE *file;

	file = fd < 0 ? NULL : fdopen(fd, "r");
	if (!file)
		return false;
	while (!found && fscanf(file, "%d", &listed) == 1)
		found = listed == pid;
	fclose(file);
	return found;
}

/* Is the process in the group, or in one below it? */
static bool holds(int dir, pid_t pid)
{
	const struct dirent *entry;
	bool found = lists(dir, pid);
	int below;
	DIR *list;

	if (found)
		return true;
	below = open_in(dir, ".", O_RDONLY | O_DIRECTORY);
	list = below < 0 ? NULL : fdopendir(below);
	if (!list)
		return false;
	while (!found && (entry = readdir(list))) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		below = open_in(dir, entry->d_name,
				O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
		if (below < 0)
			continue;
		found = holds(below, pid);
		close(below);
	}
	closedir(list);
	return found;
}

/*
 * 1 if they have the same memory, 0 if not, or a negative errno; 0 with EPERM in
 * errno for a process that we may not look at. Who may look at the target may look
 * at those that share its memory.
 */
static int shares_memory(pid_t target, pid_t pid, struct xbzrle_error *err)
{
	long ret = syscall(SYS_kcmp, target, pid, KCMP_VM, 0, 0);

	if (ret < 0 && errno == ENOSYS)
		return xbzrle_fail(err, ENOSYS, 0,
				   "this kernel has no kcmp(), so it cannot be known who shares the memory of process %d; it takes one with CONFIG_KCMP",
				   target);
	return !ret;
}

/**
 * pause_open() - prepare to pause somebody
 * @pause: filled in
 * @target: process, or NULL
 * @group: directory of a control group (version 2) to be frozen, or NULL
 * @err: set on failure
 *
 * Return: 0, -COMMAND_MISUSED if @group is none, or a negative errno.
 */
int pause_open(struct pause *pause, struct target *target, const char *group,
	       struct xbzrle_error *err)
{
	char state[16];
	int ret;

	*pause = (struct pause){
		.target = target,
		.group = group,
		.group_dir = -1,
		.group_freeze = -1,
	};
	if (target && target->pid == getpid())
		return xbzrle_fail(err, EDEADLK, 0,
				   "this tool cannot pause itself");
	/* What cannot be told is to be known before anything is sent. */
	if (target) {
		ret = shares_memory(target->pid, target->pid, err);
		if (!ret && errno == EPERM)
			ret = xbzrle_fail(err, EPERM, 0,
					  "who shares the memory of process %d is told to those alone who may trace it; run as its user or as root",
					  target->pid);
		if (ret < 0)
			return ret;
	}
	if (!group)
		return 0;
	pause->group_dir = open(group, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (pause->group_dir < 0)
		return xbzrle_fail(err, errno, 0, "cannot open %s: %s", group,
				   strerror(errno));
	/* Not when it is needed: there may be no descriptor to be had then. */
	pause->group_freeze = open_in(pause->group_dir, "cgroup.freeze",
				      O_WRONLY);
	if (read_text(pause->group_dir, "cgroup.freeze", state,
		      sizeof(state)) <= 0)
		ret = xbzrle_fail(err, COMMAND_MISUSED, 0,
				  "%s is not a control group of version 2 that can be frozen",
				  group);
	else if (holds(pause->group_dir, getpid()))
		ret = xbzrle_fail(err, EDEADLK, 0,
				  "%s cannot be frozen: this tool runs in it",
				  group);
	else if (pause->group_freeze < 0)
		ret = xbzrle_fail(err, EACCES, 0,
				  "%s may not be frozen: its cgroup.freeze cannot be opened to write",
				  group);
	else
		return 0;
	pause_close(pause);
	return ret;
}

static bool is_other(const struct pause *pause, pid_t pid)
{
	size_t i;

	for (i = 0; i < pause->other_count; i++) {
		if (pause->others[i].pid == pid)
			return false;
	}
	return pid != pause->target->pid;
}

/* Its state, and what flags the kernel has for it. */
static bool read_stat(pid_t pid, char *state, unsigned long *flags)
{
	char name[32], text[512];
	const char *paren;

	snprintf(name, sizeof(name), "/proc/%d/stat", pid);
	if (read_text(AT_FDCWD, name, text, sizeof(text)) <= 0)
		return false;
	/* Its name may have one, too. */
	paren = strrchr(text, ')');
	return paren && sscanf(paren + 1, " %c %*d %*d %*d %*d %*d %lu", state,
			       flags) == 2;
}

static bool has_memory(pid_t pid)
{
	unsigned long flags;
	char state;

	return read_stat(pid, &state, &flags) && !strchr("ZX", state);
}

/* Such as vhost's up to Linux 6.3, which borrows the memory and heeds no signal. */
static bool is_kernel_thread(pid_t pid)
{
	unsigned long flags;
	char state;

	return read_stat(pid, &state, &flags) && flags & KERNEL_THREAD;
}

static int add_other(struct pause *pause, pid_t pid, struct xbzrle_error *err)
{
	struct target *others;
	int ret;

	others = array_room(pause->others, pause->other_count, sizeof(*others));
	if (!others)
		return xbzrle_fail(err, ENOMEM, 0, "no memory");
	pause->others = others;
	ret = target_open(&others[pause->other_count], pid, err);
	/* It has ended since. */
	if (ret == -ESRCH)
		return 0;
	if (!ret)
		pause->other_count++;
	return ret;
}

/* Finds processes that were not known to share the memory. */
static int find_others(struct pause *pause, struct xbzrle_error *err)
{
	const struct dirent *entry;
	DIR *proc = opendir("/proc");
	int ret = 0;
	pid_t pid;

	if (!proc)
		return xbzrle_fail(err, errno, 0, "cannot open /proc: %s",
				   strerror(errno));
	while (ret >= 0 && (entry = readdir(proc))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		pid = atoi(entry->d_name);
		if (!is_other(pause, pid))
			continue;
		ret = shares_memory(pause->target->pid, pid, err);
		if (ret > 0)
			ret = is_kernel_thread(pid) ? 0 :
				add_other(pause, pid, err);
	}
	closedir(proc);
	return ret;
}

static int check_target(const struct pause *pause, struct xbzrle_error *err)
{
	/* Processes without memory would all seem to share theirs. */
	if (has_memory(pause->target->pid))
		return 0;
	return xbzrle_fail(err, ESRCH, 0, "process %d has ended",
			   pause->target->pid);
}

/*
 * Those from @known on. Who has executed another program before it was stopped, or
 * ended, is none of them, and nobody would put it back to work with the others.
 */
static int stop_new(struct pause *pause, size_t known, struct xbzrle_error *err)
{
	struct target *other;
	int ret;

	while (known < pause->other_count) {
		other = &pause->others[known];
		ret = target_stop(other, err);
		/* It may end in this moment. */
		if (ret && !target_has_ended(other))
			return ret;
		ret = shares_memory(pause->target->pid, other->pid, err);
		if (ret < 0)
			return ret;
		if (ret && !target_has_ended(other)) {
			known++;
			continue;
		}
		target_close(other);
		*other = pause->others[--pause->other_count];
	}
	return 0;
}

static int stop_others(struct pause *pause, struct xbzrle_error *err)
{
	int ret, turn;
	size_t known;

	for (turn = 0; turn < SHARER_TURNS; turn++) {
		known = pause->other_count;
		ret = check_target(pause, err);
		if (!ret)
			ret = find_others(pause, err);
		if (ret)
			return ret;
		if (known == pause->other_count)
			return 0;
		ret = stop_new(pause, known, err);
		if (ret)
			return ret;
	}
	return xbzrle_fail(err, EAGAIN, 0,
			   "process %d makes others that share its memory too fast",
			   pause->target->pid);
}

static int write_freeze(const struct pause *pause, const char *state)
{
	return pwrite(pause->group_freeze, state, 1, 0) == 1 ? 0 : -errno;
}

static bool event_is(const struct pause *pause, const char *event)
{
	char events[256];

	return read_text(pause->group_dir, "cgroup.events", events,
			 sizeof(events)) > 0 && strstr(events, event);
}

static int check_member(const struct pause *pause, pid_t pid,
			struct xbzrle_error *err)
{
	if (holds(pause->group_dir, pid))
		return 0;
	return xbzrle_fail(err, EPERM, 0, "process %d is not in %s", pid,
			   pause->group);
}

/* What is frozen must be all that writes, as far as we can know it. */
static int check_members(struct pause *pause, struct xbzrle_error *err)
{
	size_t i;
	int ret;

	ret = check_target(pause, err);
	if (!ret)
		ret = check_member(pause, pause->target->pid, err);
	if (!ret)
		ret = find_others(pause, err);
	for (i = 0; i < pause->other_count && !ret; i++)
		ret = check_member(pause, pause->others[i].pid, err);
	return ret;
}

static int freeze_group(struct pause *pause, struct xbzrle_error *err)
{
	const struct timespec moment = { .tv_nsec = 100000 };
	double start = progress_now();
	char state[16];
	int ret = 0;

	/* Not after a wait for what will not freeze. */
	if (pause->target) {
		ret = check_target(pause, err);
		if (!ret)
			ret = check_member(pause, pause->target->pid, err);
		if (ret)
			return ret;
	}
	if (event_is(pause, "populated 0"))
		return xbzrle_fail(err, ESRCH, 0, "no process is left in %s",
				   pause->group);
	if (read_text(pause->group_dir, "cgroup.freeze", state,
		      sizeof(state)) <= 0 || state[0] != '1') {
		/* Who is stopped itself could not let them go on. */
		signals_hold_stops();
		ret = write_freeze(pause, "1");
		if (ret) {
			signals_release_stops();
			return xbzrle_fail(err, -ret, 0, "cannot freeze %s: %s",
					   pause->group, strerror(-ret));
		}
		pause->frozen = true;
	}
	while (!ret && !event_is(pause, "frozen 1")) {
		ret = signals_check(err);
		if (!ret && progress_now() - start >= FREEZE_TIMEOUT)
			ret = xbzrle_fail(err, ETIMEDOUT, 0,
					  "%s does not freeze", pause->group);
		nanosleep(&moment, NULL);
	}
	if (!ret && pause->target)
		ret = check_members(pause, err);
	return ret;
}

/**
 * pause_begin() - let nobody write
 * @pause: pause
 * @err: set on failure; all then go on
 *
 * Who was stopped before stays so whatever happens.
 *
 * Return: 0, -ESRCH if there is nobody any more, or another negative errno.
 */
int pause_begin(struct pause *pause, struct xbzrle_error *err)
{
	int ret;

	if (pause->group) {
		ret = freeze_group(pause, err);
	} else {
		ret = check_target(pause, err);
		if (!ret)
			ret = target_stop(pause->target, err);
		if (!ret)
			ret = stop_others(pause, err);
	}
	if (ret)
		pause_end(pause);
	return ret;
}

/**
 * pause_running() - who that shares the target's memory was put back to work?
 * @pause: pause that began, of no group
 *
 * Return: the process, or 0 if they are all stopped, or have ended, or are to.
 */
pid_t pause_running(const struct pause *pause)
{
	const struct target *other = pause->others;
	size_t i;

	for (i = 0; i < pause->other_count; i++, other++) {
		if (!target_is_stopped(other) && !target_is_dying(other) &&
		    !target_has_ended(other))
			return other->pid;
	}
	return 0;
}

/**
 * pause_held() - has nobody ended the pause for us?
 * @pause: pause that began
 *
 * Return: true if none of them can have run on.
 */
bool pause_held(const struct pause *pause)
{
	if (pause->group)
		return event_is(pause, "frozen 1");
	return !pause_running(pause) && target_is_stopped(pause->target);
}

/**
 * pause_keep() - leave those that are stopped to others as they are
 * @pause: pause that began, of no group
 */
void pause_keep(struct pause *pause)
{
	size_t i;

	for (i = 0; i < pause->other_count; i++)
		target_keep_stopped(&pause->others[i]);
	target_keep_stopped(pause->target);
}

/**
 * pause_end() - undo pause_begin()
 * @pause: pause
 */
void pause_end(struct pause *pause)
{
	size_t i;

	if (pause->frozen) {
		write_freeze(pause, "0");
		signals_release_stops();
	}
	pause->frozen = false;
	for (i = 0; i < pause->other_count; i++)
		target_close(&pause->others[i]);
	free(pause->others);
	pause->others = NULL;
	pause->other_count = 0;
	if (pause->target && !pause->group)
		target_continue(pause->target);
}

/**
 * pause_close() - let go of all
 * @pause: pause
 */
void pause_close(struct pause *pause)
{
	pause_end(pause);
	if (pause->group_freeze >= 0)
		close(pause->group_freeze);
	if (pause->group_dir >= 0)
		close(pause->group_dir);
}

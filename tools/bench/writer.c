// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#define _GNU_SOURCE
#include <errno.h>
#include <error.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kinds.h"
#include "scan.h"
#include "session.h"
#include "writer.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

/**
 * struct writer_control - what a writer is told and tells
 * @length: bytes of the mapping that this stands in
 * @memory: where the writer has its memory
 * @stop: stop before the next pass
 * @fork: fork before the next pass
 * @kind: how pages change beyond the byte of each that is written first
 * @touched: cost of the last pass's first writes
 * @forked: cost of the last fork()
 * @nr: pages to write
 * @pages: their indices
 */
struct writer_control {
	size_t length;
	uint8_t *memory;
	atomic_bool stop;
	atomic_bool fork;
	const struct kind *kind;
	double touched;
	double forked;
	uint32_t nr;
	uint32_t pages[];
};

static uint8_t *populate(const struct writer_memory *memory)
{
	int flags = memory->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	uint64_t length = memory->length, i;
	uint8_t *start;

	start = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, memory->fd,
		     0);
	if (start == MAP_FAILED)
		error(1, errno, "mmap");
	if (memory->fd < 0 &&
	    madvise(start, length, memory->huge ? MADV_HUGEPAGE :
						  MADV_NOHUGEPAGE))
		error(1, errno, "madvise");
	/* Pages of zeros would be sent as such. */
	for (i = 0; i < length; i += PAGE_BYTES)
		memset(start + i, 1 + i / PAGE_BYTES % 255, PAGE_BYTES);
	return start;
}

/* A child that has the memory as it is now; it waits to be killed. */
static pid_t fork_once(struct writer_control *control)
{
	double start = now();
	pid_t child = fork();

	if (child < 0)
		error(1, errno, "fork");
	if (!child) {
		pause();
		_exit(0);
	}
	control->forked = now() - start;
	return child;
}

static void touch(struct writer_control *control)
{
	double start = now();
	uint32_t i;

	for (i = 0; i < control->nr; i++)
		(*(volatile uint8_t *)(control->memory +
				       (size_t)control->pages[i] *
				       PAGE_BYTES))++;
	control->touched = now() - start;
}

static void change(struct writer_control *control, uint64_t *random)
{
	uint32_t i;

	for (i = 0; i < control->nr; i++)
		control->kind->change(control->memory +
				      (size_t)control->pages[i] * PAGE_BYTES,
				      random);
}

static void pass(struct writer_control *control, uint64_t *random)
{
	bool forks = atomic_load(&control->fork);
	pid_t child = forks ? fork_once(control) : -1;

	touch(control);
	if (control->kind)
		change(control, random);
	if (forks) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
}

/* The next fork() is to find huge pages again, where writes have split them. */
static void join(const struct writer_control *control,
		 const struct writer_memory *memory)
{
	int tries = 10;

	while (madvise(control->memory, memory->length, MADV_COLLAPSE))
		if (errno != EAGAIN || !--tries)
			error(1, errno, "MADV_COLLAPSE");
}

static _Noreturn void write_on(struct writer_control *control,
			       const struct writer_memory *memory)
{
	uint64_t random = 20261123;

	control->memory = populate(memory);
	if (memory->watched)
		scan_watch(control->memory, memory->length);
	for (;;) {
		if (memory->huge)
			join(control, memory);
		if (atomic_load(&control->stop))
			raise(SIGSTOP);
		pass(control, &random);
	}
}

static void wait_for_stop(const struct writer *writer)
{
	int status;

	if (waitpid(writer->pid, &status, WUNTRACED) != writer->pid)
		error(1, errno, "waitpid");
	if (!WIFSTOPPED(status))
		error(1, 0, "the writer ended");
}

static void go_on(const struct writer *writer)
{
	if (kill(writer->pid, SIGCONT))
		error(1, errno, "SIGCONT");
}

/**
 * writer_start() - make a process that has memory
 * @writer: filled in
 * @memory: what memory
 */
void writer_start(struct writer *writer, const struct writer_memory *memory)
{
	size_t length = sizeof(struct writer_control) +
			memory->length / PAGE_BYTES * sizeof(uint32_t);
	struct writer_control *control;

	control = mmap(NULL, length, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (control == MAP_FAILED)
		error(1, errno, "mmap");
	control->length = length;
	control->stop = true;
	writer->control = control;
	writer->pid = fork();
	if (writer->pid < 0)
		error(1, errno, "fork");
	if (!writer->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		write_on(control, memory);
	}
	wait_for_stop(writer);
	writer->memory = control->memory;
}

/**
 * writer_set_pages() - say what is written in a pass
 * @writer: writer, stopped
 * @pages: indices of the pages
 * @nr: how many
 * @kind: how they change beyond a byte of each, or NULL
 */
void writer_set_pages(struct writer *writer, const uint32_t *pages,
		      uint32_t nr, const struct kind *kind)
{
	struct writer_control *control = writer->control;

	memcpy(control->pages, pages, nr * sizeof(*pages));
	control->nr = nr;
	control->kind = kind;
}

/**
 * writer_run() - let it write, one pass after the other
 * @writer: writer, stopped
 */
void writer_run(struct writer *writer)
{
	atomic_store(&writer->control->stop, false);
	go_on(writer);
}

/**
 * writer_stop() - have it finish its pass
 * @writer: writer, running
 */
void writer_stop(struct writer *writer)
{
	atomic_store(&writer->control->stop, true);
	wait_for_stop(writer);
}

/**
 * writer_pass() - let it write every page once
 * @writer: writer, stopped
 *
 * Return: What the first write to each page took, in all.
 */
double writer_pass(struct writer *writer)
{
	go_on(writer);
	wait_for_stop(writer);
	return writer->control->touched;
}

/**
 * writer_fork() - let it fork, and write every page once while the child lives
 * @writer: writer, stopped
 * @write: out: what the first write to each page took, in all
 *
 * Return: What fork() took.
 */
double writer_fork(struct writer *writer, double *write)
{
	atomic_store(&writer->control->fork, true);
	*write = writer_pass(writer);
	atomic_store(&writer->control->fork, false);
	return writer->control->forked;
}

/**
 * writer_end() - end the process
 * @writer: writer, stopped
 */
void writer_end(struct writer *writer)
{
	kill(writer->pid, SIGKILL);
	waitpid(writer->pid, NULL, 0);
	munmap(writer->control, writer->control->length);
}

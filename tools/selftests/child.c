// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "device.h"

#define EXEC		0xff
/* And the page's number. */
#define UNMAP		0x80
#define IDLE		"--idle"

static void child_loop(unsigned char *mem, int in, int out)
{
	unsigned char order;

	while (read(in, &order, 1) == 1) {
		if (order == EXEC)
			execl("/proc/self/exe", "exec", IDLE, NULL);
		if (order & UNMAP)
			munmap(mem + (order & ~UNMAP) * UNIT, UNIT);
		else
			mem[order * UNIT + 1]++;
		if (write(out, &order, 1) != 1)
			break;
	}
	_exit(0);
}

/**
 * child_start() - fork
 * @c: filled in
 * @mem: where it is to write
 *
 * Return: whether there is one.
 */
bool child_start(struct child *c, unsigned char *mem)
{
	int in[2], out[2];

	if (pipe(in) || pipe(out))
		return false;
	c->pid = fork();
	if (!c->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(in[1]);
		close(out[0]);
		child_loop(mem, in[0], out[1]);
	}
	close(in[0]);
	close(out[1]);
	c->to = in[1];
	c->from = out[0];
	return c->pid > 0;
}

/**
 * child_writes() - have it write, and wait until it has
 * @c: child
 * @page: whose second byte is counted up, below 128
 *
 * Return: whether it did.
 */
bool child_writes(struct child *c, unsigned char page)
{
	return write(c->to, &page, 1) == 1 && read(c->from, &page, 1) == 1;
}

/**
 * child_unmaps() - have it unmap a page, and wait until it has
 * @c: child
 * @page: which, below 127
 *
 * Return: whether it did.
 */
bool child_unmaps(struct child *c, unsigned char page)
{
	return child_writes(c, page | UNMAP);
}

/**
 * child_execs() - have it execute this program again, to idle
 * @c: child
 *
 * Return: whether it was told.
 */
bool child_execs(struct child *c)
{
	const unsigned char order = EXEC;

	return write(c->to, &order, 1) == 1;
}

/**
 * child_is_idle() - does this program run as such a child?
 * @argc: main()'s
 * @argv: main()'s
 *
 * Return: whether it has nothing to do but to wait for its end.
 */
bool child_is_idle(int argc, char **argv)
{
	return argc > 1 && !strcmp(argv[1], IDLE);
}

/**
 * child_kill() - end it
 * @c: child
 */
void child_kill(struct child *c)
{
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
}

/**
 * child_diff() - compare its memory with what a receiver holds
 * @c: child
 * @m: receiver
 * @name: of the region
 * @mem: where it is in the child
 * @length: bytes
 *
 * Return: as model_diff(); -3 if the memory cannot be read.
 */
int64_t child_diff(struct child *c, struct model *m, const char *name,
		   unsigned char *mem, size_t length)
{
	unsigned char *copy = malloc(length);
	struct iovec local = { copy, length }, remote = { mem, length };
	int64_t diff = -3;

	if (copy && process_vm_readv(c->pid, &local, 1, &remote, 1, 0) ==
	    (ssize_t)length)
		diff = model_diff(m, name, copy, 0, length);
	free(copy);
	return diff;
}

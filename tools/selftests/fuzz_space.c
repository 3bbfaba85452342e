// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The memory that calls are about, of this process and of another one, which
 * does to its own what it is told, and becomes another program, or is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"
#include "mm.h"

#define SELF		"/proc/self/exe"
/* Where the other process has its two pipes; everything else is closed. */
#define CHILD_ORDERS	3
#define CHILD_ANSWERS	4

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE	0x100000
#endif

enum what {
	DO_MAP,
	DO_WRITE,
	DO_EXEC,
};

/**
 * struct order - what the other process is to do
 * @what: and the rest as in the functions for it
 * @first: index of the first page
 * @nr: how many
 * @kind: what is to be mapped
 * @how: it is written
 */
struct order {
	enum what what;
	unsigned int first;
	unsigned int nr;
	enum fuzz_kind kind;
	unsigned int how;
};

static void *page(unsigned int index)
{
	return (void *)(FUZZ_BASE + index * UNIT);
}

/* What is there already is replaced by MAP_FIXED in one go. */
static bool map_pages(unsigned int first, unsigned int nr, enum fuzz_kind kind,
		      int fd)
{
	int prot = PROT_READ | PROT_WRITE, flags = MAP_FIXED | MAP_NORESERVE;
	int file = -1;
	bool ok;

	switch (kind) {
	case KIND_HOLE:
		return !munmap(page(first), nr * UNIT);
	case KIND_PRIVATE:
		flags |= MAP_PRIVATE | MAP_ANONYMOUS;
		break;
	case KIND_SHARED:
		flags |= MAP_SHARED | MAP_ANONYMOUS;
		break;
	case KIND_OWNED:
		flags |= MAP_SHARED;
		break;
	default:
		flags |= MAP_PRIVATE;
		file = open(SELF, O_RDONLY | O_CLOEXEC);
		fd = file;
	}
	if (flags & MAP_ANONYMOUS)
		fd = -1;
	ok = mmap(page(first), nr * UNIT, prot, flags, fd, 0) == page(first);
	if (file >= 0)
		close(file);
	return ok;
}

static bool map_huge(void)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
		    MAP_FIXED_NOREPLACE;

	if (!MM_HAVE_HUGE_PAGES ||
	    mm_write_file("/proc/sys/vm/nr_hugepages", "1"))
		return false;
	return mmap((void *)FUZZ_HUGE, HUGE_SIZE, PROT_READ | PROT_WRITE, flags,
		    -1, 0) == (void *)FUZZ_HUGE &&
	       !madvise((void *)FUZZ_HUGE, HUGE_SIZE, MADV_DONTFORK);
}

/**
 * fuzz_space_init - have some memory of each kind
 * @self: filled in
 *
 * Return: false if there is none.
 */
bool fuzz_space_init(struct fuzz_space *self)
{
	memset(self, 0, sizeof(*self));
	self->has_huge = map_huge();
	return fuzz_space_map(self, 0, FUZZ_PAGES / 2, KIND_PRIVATE, -1) &&
	       fuzz_space_map(self, FUZZ_PAGES / 2, 8, KIND_SHARED, -1);
}

/**
 * fuzz_space_destroy - unmap everything
 * @self: memory of this process
 */
void fuzz_space_destroy(struct fuzz_space *self)
{
	fuzz_space_map(self, 0, FUZZ_PAGES, KIND_HOLE, -1);
	if (!self->has_huge)
		return;
	munmap((void *)FUZZ_HUGE, HUGE_SIZE);
	mm_write_file("/proc/sys/vm/nr_hugepages", "0");
}

static bool give_order(struct fuzz_space *child, const struct order *order)
{
	char answer = 0;

	if (write(child->to, order, sizeof(*order)) != sizeof(*order))
		return false;
	/* Who becomes another program closes its end by that. */
	return order->what == DO_EXEC ? !read(child->from, &answer, 1) :
	       read(child->from, &answer, 1) == 1 && answer;
}

/**
 * fuzz_space_map - map or unmap pages
 * @space: whose
 * @first: index of the first
 * @nr: how many
 * @kind: what they become; what they were before is gone
 * @fd: of owned memory that is long enough, if that is the kind
 *
 * Return: whether it could be done.
 */
bool fuzz_space_map(struct fuzz_space *space, unsigned int first,
		    unsigned int nr, enum fuzz_kind kind, int fd)
{
	struct order order = { .first = first, .nr = nr, .kind = kind };
	static unsigned int nr_files;
	unsigned int i;

	if (space->pid ? !give_order(space, &order) :
			 !map_pages(first, nr, kind, fd))
		return false;
	nr_files++;
	for (i = 0; i < nr; i++) {
		space->kinds[first + i] = kind;
		space->files[first + i] = nr_files;
		space->indices[first + i] = i;
	}
	return true;
}

/**
 * fuzz_space_move - move a page to where another one is or may be
 * @self: memory of this process
 * @from: its index, not of a hole
 * @to: another index
 *
 * Return: whether it could be done.
 */
bool fuzz_space_move(struct fuzz_space *self, unsigned int from,
		     unsigned int to)
{
	if (mremap(page(from), UNIT, UNIT, MREMAP_MAYMOVE | MREMAP_FIXED,
		   page(to)) != page(to))
		return false;
	self->kinds[to] = self->kinds[from];
	self->files[to] = self->files[from];
	self->indices[to] = self->indices[from];
	self->kinds[from] = KIND_HOLE;
	return true;
}

static void write_pages(unsigned int first, unsigned int nr, unsigned int how)
{
	static const char * const files[] = {
		"/dev/urandom", "/dev/zero", SELF,
	};
	size_t len = how % 4 ? 32 : UNIT / 2;
	int fd;

	if (how % 16 == 15) {
		madvise(page(first), nr * UNIT, MADV_DONTNEED);
		return;
	}
	/* The kernel writes like a program would, but for the signal. */
	fd = open(files[how / 16 % 3], O_RDONLY | O_CLOEXEC);
	for (; fd >= 0 && nr; first++, nr--)
		if (read(fd, (char *)page(first) + how / 64 % (UNIT / 2), len) <
		    0 && errno != EFAULT)
			break;
	close(fd);
}

/**
 * fuzz_space_write - change what pages hold, where there are any
 * @space: whose
 * @first: index of the first
 * @nr: how many
 * @how: one way or the other
 *
 * Return: whether it could be done.
 */
bool fuzz_space_write(struct fuzz_space *space, unsigned int first,
		      unsigned int nr, unsigned int how)
{
	const struct order order = {
		.what = DO_WRITE, .first = first, .nr = nr, .how = how,
	};

	if (space->pid)
		return give_order(space, &order);
	write_pages(first, nr, how);
	return true;
}

static bool obey(const struct order *order)
{
	switch (order->what) {
	case DO_MAP:
		return map_pages(order->first, order->nr, order->kind, -1);
	case DO_WRITE:
		write_pages(order->first, order->nr, order->how);
		return true;
	default:
		execl(SELF, "fuzz", "--idle", (char *)NULL);
		return false;
	}
}

static void obey_orders(void)
{
	struct order order;
	char answer = 1;

	while (write(CHILD_ANSWERS, &answer, 1) == 1 &&
	       read(CHILD_ORDERS, &order, sizeof(order)) == sizeof(order))
		answer = obey(&order);
	_exit(0);
}

/* What the parent closes must be closed then, so nothing is kept open here. */
static void be_child(int orders, int answers)
{
	int from = fcntl(orders, F_DUPFD, 16), to = fcntl(answers, F_DUPFD, 16);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup3(from, CHILD_ORDERS, O_CLOEXEC);
	dup3(to, CHILD_ANSWERS, O_CLOEXEC);
	syscall(SYS_close_range, CHILD_ANSWERS + 1, ~0U, 0);
	obey_orders();
}

/**
 * fuzz_space_fork - start the other process
 * @self: memory of this one, which it gets a copy of
 * @child: filled in
 *
 * Return: whether it is there.
 */
bool fuzz_space_fork(const struct fuzz_space *self, struct fuzz_space *child)
{
	int orders[2], answers[2];
	char ready = 0;

	if (pipe2(orders, O_CLOEXEC) || pipe2(answers, O_CLOEXEC))
		return false;
	memcpy(child, self, sizeof(*child));
	child->has_huge = false;
	child->to = orders[1];
	child->from = answers[0];
	child->pid = fork();
	if (!child->pid)
		be_child(orders[0], answers[1]);
	close(orders[0]);
	close(answers[1]);
	return child->pid > 0 && read(child->from, &ready, 1) == 1;
}

/**
 * fuzz_space_exec - have it become another program
 * @child: the other process
 *
 * Return: whether it has.
 */
bool fuzz_space_exec(struct fuzz_space *child)
{
	const struct order order = { .what = DO_EXEC };

	if (!give_order(child, &order))
		return false;
	child->idle = true;
	memset(child->kinds, KIND_HOLE, sizeof(child->kinds));
	return true;
}

/**
 * fuzz_space_kill - kill it, and leave a zombie
 * @child: the other process
 *
 * Return: whether it is dead.
 */
bool fuzz_space_kill(struct fuzz_space *child)
{
	siginfo_t info;

	child->gone = true;
	return !kill(child->pid, SIGKILL) &&
	       !waitid(P_PID, child->pid, &info, WEXITED | WNOWAIT);
}

/**
 * fuzz_space_reap - let the zombie go
 * @child: the other process
 *
 * Return: whether it has gone.
 */
bool fuzz_space_reap(struct fuzz_space *child)
{
	close(child->to);
	close(child->from);
	return waitpid(child->pid, NULL, 0) == child->pid;
}

/**
 * fuzz_space_kind - what is at an address?
 * @space: whose memory
 * @addr: any of those that calls are made for
 *
 * Return: the kind.
 */
enum fuzz_kind fuzz_space_kind(const struct fuzz_space *space, uint64_t addr)
{
	if (addr >= FUZZ_BASE && addr - FUZZ_BASE < FUZZ_PAGES * UNIT)
		return space->kinds[(addr - FUZZ_BASE) / UNIT];
	if (space->has_huge && addr >= FUZZ_HUGE &&
	    addr - FUZZ_HUGE < HUGE_SIZE)
		return KIND_HUGETLB;
	return KIND_HOLE;
}

/**
 * fuzz_space_file - which page of which file is at an address?
 * @space: whose memory
 * @addr: where its kind is KIND_SHARED
 * @index: set to the page's
 *
 * Return: the file's number.
 */
unsigned int fuzz_space_file(const struct fuzz_space *space, uint64_t addr,
			     unsigned int *index)
{
	unsigned int page = (addr - FUZZ_BASE) / UNIT;

	*index = space->indices[page];
	return space->files[page];
}

/**
 * fuzz_space_read - what does a page hold?
 * @space: whose
 * @addr: of the page
 * @unit: filled in
 *
 * Return: false if it cannot be read.
 */
bool fuzz_space_read(const struct fuzz_space *space, uint64_t addr, void *unit)
{
	const struct iovec to = { unit, UNIT };
	const struct iovec from = { (void *)(uintptr_t)addr, UNIT };

	return process_vm_readv(space->pid ?: getpid(), &to, 1, &from, 1, 0) ==
	       (ssize_t)UNIT;
}

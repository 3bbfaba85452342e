// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * What a process can do to its own memory. Everything that changes content
 * marks it afterwards, for regions whose tracker is told of writes.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mm.h"
#include "rnd.h"
#include "slow_disk.h"
#include "torture.h"
#include "uring.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define DISK		"/dev/zram0"
/* Pages of the disk that are read. */
#define DISK_PAGES	64

static int random_file = -1, disk = -1;

/* Of the process whose memory it is, made when they are first needed. */
static struct slow_disk slow_disk;
static bool slow_disk_there;
/**
 * struct buffer - memory that a disturber has pinned
 * @ring: by which
 * @there: it has
 * @act: where, and how much
 * @syncs: how many there were before
 */
static struct buffer {
	struct uring ring;
	bool there;
	struct act act;
	unsigned int syncs;
} buffers[DISTURBERS];

/* Only where the accesses of others may fault for a while. */
static void open_window(void)
{
	__atomic_add_fetch(&world->windows, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&world->window, 1, __ATOMIC_RELEASE);
}

/* Counted first: who finds no window any more sees that there was one. */
static void close_window(void)
{
	__atomic_add_fetch(&world->windows, 1, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&world->window, 1, __ATOMIC_RELEASE);
}

static bool advise(struct act *a, int advice)
{
	return !madvise(a->mem, a->length, advice);
}

static bool do_dontneed(struct act *a)
{
	bool done = advise(a, MADV_DONTNEED);

	mark(a->r, a->offset, a->length);
	return done;
}

/* Gone at once, or when it is reclaimed, which mostly follows. */
static bool do_free(struct act *a)
{
	size_t unit = (a->r->below + a->offset) / UNIT;
	const size_t end = unit + a->length / UNIT;
	bool done;

	for (; unit < end; unit++)
		__atomic_fetch_or(&a->r->freed[unit / 8], 1 << unit % 8,
				  __ATOMIC_RELEASE);
	done = advise(a, MADV_FREE);
	advise(a, MADV_PAGEOUT);
	mark(a->r, a->offset, a->length);
	return done;
}

static bool do_pageout(struct act *a)
{
	return advise(a, MADV_PAGEOUT);
}

static bool do_cold(struct act *a)
{
	return advise(a, MADV_COLD);
}

static bool do_remove(struct act *a)
{
	return advise(a, MADV_REMOVE);
}

static bool do_punch(struct act *a)
{
	bool done;

	done = a->r->fd >= 0 &&
	       !fallocate(a->r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  a->r->below + a->offset, a->length);
	mark(a->r, a->offset, a->length);
	return done;
}

static bool do_hugepage(struct act *a)
{
	return !madvise(a->r->mem, a->r->length, MADV_HUGEPAGE);
}

static bool do_nohugepage(struct act *a)
{
	return advise(a, MADV_NOHUGEPAGE);
}

static bool protect_for_a_while(struct act *a, int prot)
{
	bool done;

	open_window();
	done = !mprotect(a->mem, a->length, prot);
	sched_yield();
	done &= !mprotect(a->mem, a->length, PROT_READ | PROT_WRITE);
	close_window();
	return done;
}

static bool do_protect_read(struct act *a)
{
	return protect_for_a_while(a, PROT_READ);
}

static bool do_protect_none(struct act *a)
{
	return protect_for_a_while(a, PROT_NONE);
}

/*
 * The last page grows behind the region and shrinks again, of which the region
 * learns nothing. Owned memory must not grow.
 */
static bool do_mremap_in_place(struct act *a)
{
	struct region *r = a->r;
	unsigned char *end = r->mem + r->length, *last = end - UNIT;
	bool done;

	if (mremap(last, UNIT, UNIT, 0) != last || !r->guarded)
		return false;
	pthread_mutex_lock(&world->hole);
	munmap(end, UNIT);
	done = mremap(last, UNIT, 2 * UNIT, 0) == last;
	if (done && r->kind->traits & ANON)
		end[0] = 1;
	if (done)
		mremap(last, 2 * UNIT, UNIT, 0);
	r->guarded = mmap(end, UNIT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
			  MAP_FIXED_NOREPLACE, -1, 0) == end;
	pthread_mutex_unlock(&world->hole);
	if (r->kind->traits & OWNED && done) {
		give_up("owned memory has grown");
		return false;
	}
	return done || r->kind->traits & OWNED;
}

/* Does nothing where mprotect() left more than one mapping. */
static bool do_mremap_away(struct act *a)
{
	unsigned char *to;
	bool done;

	pthread_mutex_lock(&world->hole);
	to = mmap(NULL, a->length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		  0);
	open_window();
	region_ending(a->r, a->mem, a->length);
	done = mremap(a->mem, a->length, a->length,
		      MREMAP_MAYMOVE | MREMAP_FIXED, to) == to;
	if (done) {
		to[0]++;
		to[a->length - 1]++;
		if (mremap(to, a->length, a->length, MREMAP_MAYMOVE |
			   MREMAP_FIXED, a->mem) != a->mem)
			give_up("memory does not come back: %s",
				strerror(errno));
	} else {
		munmap(to, a->length);
	}
	region_ended(a->r, done);
	close_window();
	pthread_mutex_unlock(&world->hole);
	mark(a->r, a->offset, a->length);
	return done;
}

static bool map_anew(struct act *a, bool hole)
{
	bool done;

	pthread_mutex_lock(&world->hole);
	open_window();
	region_ending(a->r, a->mem, a->length);
	if (hole)
		munmap(a->mem, a->length);
	done = kind_map_again(a->r, a->offset, a->length);
	region_ended(a->r, true);
	close_window();
	pthread_mutex_unlock(&world->hole);
	mark(a->r, a->offset, a->length);
	if (!done)
		give_up("memory cannot be mapped again: %s", strerror(errno));
	return done;
}

/*
 * A page that somebody holds spoils it, and so does a mapping that is in pieces,
 * which map_anew() can help.
 */
static bool collapse_one(struct region *r, size_t at)
{
	struct act a = {
		.r = r,
		.offset = at,
		.length = HUGE_SIZE,
		.mem = r->mem + at,
	};
	unsigned int tries;

	for (tries = 0; tries < 3; tries++) {
		madvise(a.mem, HUGE_SIZE, MADV_HUGEPAGE);
		if (!madvise(a.mem, HUGE_SIZE, MADV_COLLAPSE))
			return true;
		if (errno == EINVAL && r->kind->traits & ANON &&
		    r->kind->traits & MOVES)
			map_anew(&a, false);
		memset(a.mem, 0x33, UNIT);
		mark(r, at, UNIT);
	}
	return false;
}

static bool do_collapse(struct act *a)
{
	struct region *r = a->r;
	size_t at = -(uintptr_t)r->mem % HUGE_SIZE;
	bool done = false;

	for (; at + HUGE_SIZE <= r->length; at += HUGE_SIZE)
		done |= collapse_one(r, at);
	return done;
}

static bool do_unmap(struct act *a)
{
	return map_anew(a, true);
}

static bool do_map_over(struct act *a)
{
	return map_anew(a, false);
}

/* malloc() does not know, and has enough elsewhere. */
static bool do_brk(struct act *a)
{
	struct region *r = a->r;
	unsigned char *end = r->mem + r->length;
	unsigned long top = syscall(SYS_brk, 0);
	bool done;

	if (top < (uintptr_t)end || top - (uintptr_t)end >= UNIT)
		return false;
	pthread_mutex_lock(&world->hole);
	open_window();
	region_ending(r, end - a->length, a->length);
	syscall(SYS_brk, end - a->length);
	done = syscall(SYS_brk, top) == (long)top;
	region_ended(r, true);
	close_window();
	pthread_mutex_unlock(&world->hole);
	mark(r, r->length - a->length, a->length);
	if (!done)
		give_up("the program break does not come back");
	return done;
}

/* Other memory, or the same, as the kind may be. */
static bool do_fork(struct act *a)
{
	unsigned int i, nr = rnd_below(&a->state, 64);
	struct region *r = a->r;
	pid_t pid = fork();

	if (!pid) {
		/* Writes of others to such memory are not promised. */
		if (r->kind->traits & SHARED && !(r->kind->traits & SEEN))
			_exit(0);
		for (i = 0; i < nr; i++)
			write_once(r, a->who, &a->state);
		_exit(0);
	}
	for (i = 0; i < 16; i++)
		write_once(r, a->who, &a->state);
	return pid > 0 && waitpid(pid, NULL, 0) == pid;
}

static int write_as_child(void *arg)
{
	struct act *a = arg;
	unsigned int i;

	for (i = 0; i < 16; i++)
		write_once(a->r, a->who, &a->state);
	return 0;
}

/* As vfork() does it: another process with the same memory. */
static bool do_vfork(struct act *a)
{
	static __thread unsigned char frames[64 * 1024]
		__attribute__((aligned(16)));
	pid_t pid;

	pid = clone(write_as_child, frames + sizeof(frames),
		    CLONE_VM | CLONE_VFORK | SIGCHLD, a);
	return pid > 0 && waitpid(pid, NULL, 0) == pid;
}

/* With something to be merged. */
static bool do_merge(struct act *a)
{
	size_t at;

	for (at = 0; at < a->length; at += 2 * UNIT)
		memset(a->mem + at, 0x42, UNIT);
	mark(a->r, a->offset, a->length);
	return advise(a, MADV_MERGEABLE);
}

static bool do_unmerge(struct act *a)
{
	return advise(a, MADV_UNMERGEABLE);
}

static bool do_pressure(struct act *a)
{
	(void)a;
	return env_pressure();
}

static bool do_compact(struct act *a)
{
	(void)a;
	return !mm_write_file("/proc/sys/vm/compact_memory", "1");
}

static bool do_move_pages(struct act *a)
{
	void *pages[MAX_LENGTH / UNIT];
	int nodes[MAX_LENGTH / UNIT], status[MAX_LENGTH / UNIT];
	const int node = rnd_below(&a->state, 2);
	unsigned int i, nr = a->length / UNIT;
	/* MPOL_MF_MOVE */
	const int flags = 1 << 1;

	for (i = 0; i < nr; i++) {
		pages[i] = a->mem + i * UNIT;
		nodes[i] = node;
		status[i] = -1;
	}
	if (syscall(SYS_move_pages, 0, nr, pages, nodes, status, flags) < 0)
		return false;
	for (i = 0; i < nr; i++)
		if (status[i] == node)
			return true;
	return false;
}

static void touch(struct act *a, bool writes)
{
	volatile unsigned char *byte;
	size_t at;

	for (at = 0; at < a->length; at += UNIT) {
		byte = a->mem + at + at / UNIT % UNIT;
		if (writes)
			(*byte)++;
		else
			(void)*byte;
	}
	if (writes)
		mark(a->r, a->offset, a->length);
}

/* Somebody else brings pages where there are holes. */
static bool uffd_missing(struct act *a)
{
	bool done;

	if (!uffd_watch(a->mem, a->length, false))
		return false;
	if (a->r->kind->traits & SHARED)
		done = advise(a, MADV_REMOVE);
	else
		done = advise(a, MADV_DONTNEED);
	mark(a->r, a->offset, a->length);
	touch(a, rnd_below(&a->state, 2));
	return uffd_forget(a->mem, a->length) && done;
}

static bool do_uffd_missing(struct act *a)
{
	bool done;

	pthread_mutex_lock(&world->served);
	done = uffd_missing(a);
	pthread_mutex_unlock(&world->served);
	return done;
}

/* Somebody else write-protects what we do, and allows it again. */
static bool do_uffd_protect(struct act *a)
{
	bool done;

	pthread_mutex_lock(&world->served);
	done = uffd_watch(a->mem, a->length, true);
	if (done) {
		touch(a, true);
		done = uffd_forget(a->mem, a->length);
	}
	pthread_mutex_unlock(&world->served);
	return done;
}

static bool do_kernel_read(struct act *a)
{
	const size_t length = 1 + rnd_below(&a->state, a->length);
	bool done = read(random_file, a->mem, length) == (ssize_t)length;

	mark(a->r, a->offset, a->length);
	return done;
}

static bool do_writev(struct act *a)
{
	unsigned char bytes[256];
	struct iovec from = { bytes, sizeof(bytes) };
	struct iovec to = { a->mem + rnd_below(&a->state, a->length - 255),
			    sizeof(bytes) };
	bool done;

	memset(bytes, rnd(&a->state), sizeof(bytes));
	done = process_vm_writev(getpid(), &from, 1, &to, 1, 0) ==
	       sizeof(bytes);
	mark(a->r, a->offset, a->length);
	return done;
}

static bool do_direct_read(struct act *a)
{
	size_t at = rnd_below(&a->state, DISK_PAGES) * UNIT;
	bool done;

	done = pread(disk, a->mem, a->length, at) == (ssize_t)a->length;
	mark(a->r, a->offset, a->length);
	return done;
}

/* The page is held for some rounds, and written at the end of that. */
static bool do_slow_read(struct act *a)
{
	bool done;

	if (!slow_disk_there) {
		slow_disk_there = !slow_disk_open(&slow_disk);
		if (!slow_disk_there) {
			give_up("the slow disk cannot be opened");
			return false;
		}
	}
	if (slow_disk_read(&slow_disk, a->mem))
		return false;
	usleep(rnd_below(&a->state, 8000));
	if (rnd_below(&a->state, 2))
		advise(a, MADV_PAGEOUT);
	done = !slow_disk_answer(&slow_disk, rnd(&a->state));
	mark(a->r, a->offset, UNIT);
	return done;
}

static bool fill_buffer(struct buffer *b)
{
	struct act *a = &b->act;
	bool done;

	done = uring_read_pinned(&b->ring, random_file, a->mem, a->length) ==
	       (int)a->length;
	mark(a->r, a->offset, a->length);
	return done;
}

/*
 * Pinned by one turn, written in it and the next, and then let go of. Where that
 * is seen by the page and its mappings, a mapping that goes as well between two
 * rounds leaves no trace, so there a SYNC comes to see it pinned.
 */
static bool do_uring(struct act *a)
{
	struct buffer *b = &buffers[a->who - DISTURBER];
	unsigned int syncs = __atomic_load_n(&world->syncs, __ATOMIC_ACQUIRE);
	bool done;

	if (b->there) {
		*a = b->act;
		if ((a->r->kind->traits & (SEEN | OWNED)) == SEEN &&
		    syncs - b->syncs < 2)
			return false;
		done = fill_buffer(b);
		uring_close(&b->ring);
		b->there = false;
		return done;
	}
	if (uring_open(&b->ring))
		return false;
	b->act = *a;
	if (b->act.length > 16 * UNIT)
		b->act.length = 16 * UNIT;
	b->syncs = syncs;
	if (uring_pin(&b->ring, b->act.mem, b->act.length)) {
		uring_close(&b->ring);
		return false;
	}
	b->there = true;
	return fill_buffer(b);
}

/* A private mapping shows it where the page is not its own yet. */
static bool do_file_write(struct act *a)
{
	unsigned char bytes[1024];
	size_t at = rnd_below(&a->state, a->length - sizeof(bytes) + 1);
	bool done;

	memset(bytes, rnd(&a->state), sizeof(bytes));
	done = pwrite(a->r->fd, bytes, sizeof(bytes),
		      a->r->below + a->offset + at) == sizeof(bytes);
	mark(a->r, a->offset, a->length);
	return done;
}

const struct operation inside_operations[] = {
	{ "MADV_DONTNEED", do_dontneed },
	{ "MADV_FREE", do_free, HAS_SWAP, ANON },
	{ "MADV_PAGEOUT", do_pageout, HAS_SWAP },
	{ "MADV_COLD", do_cold },
	{ "MADV_REMOVE", do_remove, 0, SHARED },
	{ "punched hole", do_punch, 0, SHARED | FILED },
	{ "MADV_HUGEPAGE", do_hugepage, HAS_HUGE },
	{ "MADV_NOHUGEPAGE", do_nohugepage, HAS_HUGE },
	{ "MADV_COLLAPSE", do_collapse, HAS_COLLAPSE, .huge = true,
	  .alone = true },
	{ "PROT_READ", do_protect_read, .alone = true },
	{ "PROT_NONE", do_protect_none, .alone = true },
	{ "mremap in place", do_mremap_in_place, 0, MOVES, HEAP,
	  .alone = true },
	{ "mremap away", do_mremap_away, 0, MOVES, .alone = true,
	  .rare = 8 },
	{ "munmap", do_unmap, 0, MOVES, .alone = true, .rare = 8 },
	{ "mapped over", do_map_over, 0, MOVES, .alone = true, .rare = 8 },
	{ "brk", do_brk, 0, HEAP, .alone = true, .rare = 8 },
	{ "fork", do_fork, .alone = true },
	{ "vfork", do_vfork },
	{ "MADV_MERGEABLE", do_merge, HAS_KSM, ANON },
	{ "MADV_UNMERGEABLE", do_unmerge, HAS_KSM, ANON,
	  .alone = true },
	{ "memory pressure", do_pressure, HAS_SWAP | HAS_GROUPS,
	  .rare = 32 },
	{ "compaction", do_compact, HAS_COMPACTION, .rare = 32 },
	{ "move_pages", do_move_pages, HAS_NODES },
	{ "userfaultfd, missing", do_uffd_missing, HAS_UFFD, ANON | SHARED,
	  OWNED, .alone = true },
	{ "userfaultfd, protected", do_uffd_protect, HAS_UFFD_WP,
	  ANON | SHARED, OWNED, .alone = true },
	{ "read", do_kernel_read },
	{ "process_vm_writev", do_writev },
	{ "O_DIRECT", do_direct_read, HAS_SWAP },
	{ "O_DIRECT, slow", do_slow_read, HAS_SLOW_DISK, .alone = true,
	  .rare = 4 },
	{ "io_uring, fixed buffer", do_uring, HAS_URING, .alone = true },
	{ "write to the file", do_file_write, 0, FILED },
};

const unsigned int nr_inside_operations = ARRAY_SIZE(inside_operations);

/**
 * ops_set_up() - prepare for operations
 */
void ops_set_up(void)
{
	random_file = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	disk = open(DISK, O_RDONLY | O_DIRECT | O_CLOEXEC);
}

/**
 * ops_unpin() - let go of what this process has pinned, after the last round
 */
void ops_unpin(void)
{
	unsigned int i;

	for (i = 0; i < DISTURBERS; i++) {
		if (buffers[i].there)
			uring_close(&buffers[i].ring);
		buffers[i].there = false;
	}
}

/**
 * ops_tear_down() - let go of what this process has made for operations
 */
void ops_tear_down(void)
{
	if (slow_disk_there)
		slow_disk_close(&slow_disk);
	slow_disk_there = false;
}

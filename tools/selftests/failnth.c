// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Each call is made again and again, and each time the next of its allocations
 * and user copies fails, until one more failure than there are is asked for.
 * Whatever failed, the call says so with an errno that the documents have, or
 * did without; a call that failed changed nothing and succeeds when it is made
 * again; and the receiver holds what is in memory, then and some rounds later.
 *
 * Needs a kernel with fault injection.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "device.h"
#include "mm.h"
#include "uring.h"

#include "kselftest.h"

#define DEBUGFS		"/sys/kernel/debug/"
/* Where tools/vm/run puts the module. */
#define MODULE_FILE	"/vm/ko/xbzrle.ko"
#define MODULE_SYSFS	"/sys/module/xbzrle"
#define TRACING		"/sys/kernel/tracing/"

#define PAGES		10U
#define CACHE_PAGES	16U
/* Its bitmaps are too large for a slab, and fall back to vmalloc(). */
#define BIG_PAGES	(1U << 18)
/* As much of it as anybody writes to. */
#define BIG_USED	4U
/* No call has as many points. */
#define POINTS_MAX	4000U
#define LOAD_POINTS_MAX	1000000U
/* Reads of a pipe's whole content, and of the session by io_uring. */
#define BUFFER		(1U << 20)

/**
 * struct mode - how failures are injected
 * @name: in the results
 * @cache_filter: slab allocations do not fail, so that page allocations do
 * @again: page allocations that fail on top of the nth, right after it, so that
 *	a kvmalloc() fails although it has something to fall back to. The nth
 *	counts if it is one itself. Not more, for there are places in the kernel
 *	that warn if what they fall back to fails as well.
 */
struct mode {
	const char *name;
	const char *cache_filter;
	const char *again;
};

static const struct mode modes[] = {
	/* All that most calls are tried with. */
	{ "once", "N", "0" },
	{ "and a page", "N", "1" },
	{ "two pages", "Y", "2" },
	/* One for the pages in bulk, of those that count for a control group. */
	{ "three pages", "Y", "3" },
};

/**
 * struct region - memory that both sides have
 * @name: of it in the stream
 * @mem: where it is
 * @pages: of it that are used
 * @id: names it to the session
 * @live: it is registered
 * @constant: somebody else's copy is registered, so that this one may not change
 */
struct region {
	const char *name;
	unsigned char *mem;
	unsigned int pages;
	uint32_t id;
	bool live;
	bool constant;
};

enum {
	OWNED,
	PRIVATE,
	SHARED,
	MORE,
	NR_REGIONS,
};

/**
 * struct state - what a call is made in, made anew for each
 * @fd: session
 * @rfd: file of the owned region
 * @mfd: file of the shared one
 * @regions: the three that there always are, and one that a call makes
 * @more_length: of the mapping of the latter
 * @more_fd: its file, if it is owned
 * @model: receiver
 * @view: second mapping of the owned region
 * @pipe: a pipe
 * @ring: io_uring
 * @child: a process
 * @opened: what a call opened
 * @step: number of the next change of all memory
 * @final: the last round was a FINAL one
 */
struct state {
	int fd;
	int rfd;
	int mfd;
	struct region regions[NR_REGIONS];
	size_t more_length;
	int more_fd;
	struct model *model;
	unsigned char *view;
	int pipe[2];
	struct uring ring;
	pid_t child;
	int opened;
	unsigned int step;
	bool final;
};

/**
 * struct visible - all that a session shows of itself
 * @stats: GET_STATS
 * @fdinfo: in /proc
 * @nohuge: huge pages are kept from memory that is not registered
 */
struct visible {
	struct xbzrle_stats stats;
	char fdinfo[4096];
	bool nohuge;
};

/**
 * struct target - a call
 * @name: in the results
 * @points: failures it has at least
 * @errors: what it may fail with, ended by 0
 * @fresh: there was no round before
 * @reads: it may get ahead although it fails
 * @fallback: it has a kvmalloc() of more than a page
 * @stride: of how many failures one is tried, if not each: most are in what the
 *	kernel does besides
 * @prepare: makes what it needs
 * @call: makes it; a negative errno if it failed
 * @finish: after it succeeded
 */
struct target {
	const char *name;
	unsigned int points;
	const int *errors;
	bool fresh;
	bool reads;
	bool fallback;
	unsigned int stride;
	bool (*prepare)(void);
	long (*call)(void);
	bool (*finish)(void);
};

static struct state s;
static struct visible before;
/* The model gets what was read when failures are over, for it allocates too. */
static unsigned char *buffer;
static size_t filled;
static char fdinfo_path[64], fdinfo_read[4096];
static int fail_nth_fd, make_it_fail_fd, times_fd;
static sigjmp_buf fault_jump;
static volatile bool touching;
/* What the message of a failure names. */
static struct {
	const char *target;
	const char *mode;
	unsigned int nth;
} at;

static bool complain(const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ksft_print_msg("%s, failure %u (%s): %s\n", at.target, at.nth, at.mode,
		       text);
	return false;
}

/* The kernel's settings. */

static bool set(const char *file, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), DEBUGFS "%s", file);
	return !mm_write_file(path, value);
}

/* Every kind of allocation may fail, and nothing is said of it in the log. */
static bool injection_init(void)
{
	static const char * const silent[] = {
		"failslab/verbose", "fail_page_alloc/verbose",
		"fail_usercopy/verbose",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(silent); i++)
		if (!set(silent[i], "0"))
			return false;
	fail_nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	make_it_fail_fd = open("/proc/self/make-it-fail", O_RDWR | O_CLOEXEC);
	times_fd = open(DEBUGFS "fail_page_alloc/times", O_WRONLY | O_CLOEXEC);
	return fail_nth_fd >= 0 && make_it_fail_fd >= 0 && times_fd >= 0 &&
	       set("failslab/ignore-gfp-wait", "N") &&
	       set("fail_page_alloc/ignore-gfp-wait", "N") &&
	       set("fail_page_alloc/ignore-gfp-highmem", "N") &&
	       set("fail_page_alloc/min-order", "0") &&
	       set("fail_page_alloc/task-filter", "Y") &&
	       set("fail_page_alloc/probability", "100");
}

/* It may be what the failure hits, but not twice. */
static void put(int fd, const char *value)
{
	size_t len = strlen(value);

	if (pwrite(fd, value, len, 0) < 0 && pwrite(fd, value, len, 0) < 0)
		ksft_exit_fail_msg("cannot write %s to %d: %s\n", value, fd,
				   strerror(errno));
}

/*
 * Until the nth, the kernel asks for no probability, and after it pages fail
 * with one of 100 until the times are used up.
 */
static void arm(const struct mode *mode, unsigned int nth)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", nth);
	if (write(times_fd, mode->again, 1) != 1)
		abort();
	put(make_it_fail_fd, "1");
	put(fail_nth_fd, text);
}

/* How many more points would have been needed; 0 if one failed. */
static unsigned int disarm(void)
{
	char text[16] = "";
	ssize_t n = pread(fail_nth_fd, text, sizeof(text) - 1, 0);

	put(fail_nth_fd, "0");
	put(make_it_fail_fd, "0");
	/* That the number cannot be read is the failure. */
	return n > 0 ? atoi(text) : 1;
}

static long result(long ret)
{
	return ret < 0 ? -errno : ret;
}

/* Memory. */

/* Changes of each kind, so that the round has records of each kind. */
static void change_page(unsigned char *page, unsigned int kind)
{
	unsigned int i, x = s.step * 7919 + kind;

	switch (kind % 5) {
	case 0:
		page[s.step * 97 % UNIT] ^= s.step | 1;
		break;
	case 1:
		memset(page, 0, UNIT);
		break;
	case 2:
		for (i = 0; i < UNIT; i++) {
			x = x * 1664525 + 1013904223;
			page[i] = x >> 16;
		}
		break;
	case 3:
		/* Written, and equal. */
		__atomic_fetch_add(page, 0, __ATOMIC_RELAXED);
		break;
	}
}

static void change_all(void)
{
	struct region *r;
	unsigned int i;

	s.step++;
	for (r = s.regions; r < s.regions + NR_REGIONS; r++)
		for (i = 0; r->live && !r->constant && i < r->pages; i++)
			change_page(r->mem + i * UNIT, s.step + i);
	madvise(s.regions[PRIVATE].mem + UNIT, UNIT, MADV_DONTNEED);
	fallocate(s.rfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, UNIT,
		  UNIT);
}

static void fill(unsigned char *mem, unsigned int pages)
{
	unsigned int i;

	for (i = 0; i < pages; i++)
		memset(mem + i * UNIT, i + 1, UNIT);
}

static bool same(void)
{
	struct region *r;
	int64_t diff;

	for (r = s.regions; r < s.regions + NR_REGIONS; r++) {
		if (!r->live)
			continue;
		diff = model_diff(s.model, r->name, r->mem, 0,
				  r->pages * UNIT);
		if (diff != -1)
			return complain("%s differs at %lld after round %u",
					r->name, (long long)diff,
					s.model->rounds);
	}
	return true;
}

static bool run_round(uint32_t flags)
{
	int ret = dev_round(s.fd, s.model, flags);

	if (ret)
		return complain("a round gives %s%s%s", strerror(-ret),
				ret == -EBADMSG ? ": " : "",
				ret == -EBADMSG ? s.model->error : "");
	s.final = flags & XBZRLE_SYNC_FINAL;
	return same();
}

/* What is left of a round that was begun, and more rounds, tell everything. */
static bool check_stream(void)
{
	unsigned int i;
	int ret;

	if (model_feed(s.model, buffer, filled))
		return complain("what was read: %s", s.model->error);
	ret = dev_read_round(s.fd, s.model, BUFFER);
	/* Said once of a round that is not of a point in time any more. */
	if (ret == -ENOSPC)
		ret = dev_read_round(s.fd, s.model, BUFFER);
	if (ret)
		return complain("the rest of the round gives %s: %s",
				strerror(-ret), s.model->error);
	for (i = 0; i < 2; i++) {
		if (!run_round(s.final ? XBZRLE_SYNC_FULL : 0))
			return false;
		change_all();
	}
	return run_round(0);
}

static bool look(struct visible *v)
{
	const struct region *more = &s.regions[MORE];

	memset(v, 0, sizeof(*v));
	v->nohuge = !more->live && mm_vm_flag(more->mem, "nh");
	return !dev_stats(s.fd, &v->stats) &&
	       !mm_read_file(fdinfo_path, v->fdinfo, sizeof(v->fdinfo));
}

static bool check_unchanged(void)
{
	struct visible now;

	if (!look(&now))
		return complain("statistics cannot be had");
	if (memcmp(&now.stats, &before.stats, sizeof(now.stats)))
		return complain("statistics changed: dirty %llu to %llu, bases %llu to %llu, ...",
				before.stats.dirty_pages, now.stats.dirty_pages,
				before.stats.cache_used, now.stats.cache_used);
	if (strcmp(now.fdinfo, before.fdinfo))
		return complain("fdinfo was:\n%s and is:\n%s", before.fdinfo,
				now.fdinfo);
	if (now.nohuge != before.nohuge)
		return complain("huge pages stay away");
	return true;
}

/* Making and dropping the state. */

static void *map_shared(int fd)
{
	return mmap(NULL, PAGES * UNIT, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    0);
}

static bool add_pte(struct region *r, const char *name, uint32_t tracker)
{
	struct xbzrle_register reg;
	int ret;

	if (!r->mem || r->mem == MAP_FAILED)
		return complain("no memory for %s", name);
	fill(r->mem, r->pages);
	r->name = name;
	/* What an io_uring that was closed has still to do interrupts it. */
	do {
		ret = dev_register(s.fd, name, r->mem, r->pages * UNIT, 0,
				   tracker, &reg);
	} while (ret == -EINTR);
	r->live = !ret;
	r->id = reg.region_id;
	return r->live || complain("registering %s gives %s", name,
				   strerror(-ret));
}

static bool make_regions(void)
{
	struct region *r = s.regions;

	r[OWNED].pages = PAGES;
	r[PRIVATE].pages = PAGES;
	r[SHARED].pages = PAGES;

	s.rfd = dev_create(s.fd, "owned", PAGES * UNIT, &r[OWNED].id);
	if (s.rfd < 0)
		return false;
	r[OWNED].name = "owned";
	r[OWNED].mem = map_shared(s.rfd);
	if (r[OWNED].mem == MAP_FAILED)
		return false;
	fill(r[OWNED].mem, PAGES);
	r[OWNED].live = true;

	s.mfd = memfd_create("failnth", MFD_CLOEXEC);
	if (s.mfd < 0 || ftruncate(s.mfd, PAGES * UNIT))
		return false;
	r[SHARED].mem = map_shared(s.mfd);
	r[PRIVATE].mem = mm_anon(PAGES * UNIT);
	return add_pte(&r[PRIVATE], "private", XBZRLE_TRACKER_AUTO) &&
	       add_pte(&r[SHARED], "shared", XBZRLE_TRACKER_PTE);
}

static bool set_up(const struct target *t)
{
	filled = 0;
	memset(&s, 0, sizeof(s));
	s.rfd = -1;
	s.mfd = -1;
	s.more_fd = -1;
	s.pipe[0] = -1;
	s.pipe[1] = -1;
	s.ring.fd = -1;
	s.opened = -1;
	s.regions[MORE].name = "more";
	s.model = model_new();
	s.fd = dev_open();
	snprintf(fdinfo_path, sizeof(fdinfo_path), "/proc/self/fdinfo/%d",
		 s.fd);
	if (!s.model || s.fd < 0 || !make_regions() ||
	    dev_set_cache(s.fd, CACHE_PAGES * UNIT))
		return complain("no session");
	if (!t->fresh) {
		if (!run_round(0))
			return false;
		change_all();
		if (!run_round(0))
			return false;
		change_all();
	}
	if (t->prepare && !t->prepare())
		return complain("cannot be prepared: %s", strerror(errno));
	return look(&before);
}

static void unmap(void *mem, size_t length)
{
	if (mem && mem != MAP_FAILED)
		munmap(mem, length);
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void tear_down(void)
{
	unsigned int i;

	if (s.ring.fd >= 0)
		uring_close(&s.ring);
	close_if_open(s.opened);
	close_if_open(s.pipe[0]);
	close_if_open(s.pipe[1]);
	close_if_open(s.more_fd);
	close_if_open(s.mfd);
	close_if_open(s.rfd);
	close_if_open(s.fd);
	if (s.child > 0) {
		kill(s.child, SIGKILL);
		waitpid(s.child, NULL, 0);
	}
	for (i = 0; i < MORE; i++)
		unmap(s.regions[i].mem, PAGES * UNIT);
	unmap(s.regions[MORE].mem, s.more_length);
	unmap(s.view, PAGES * UNIT);
	model_free(s.model);
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	if (!dir)
		abort();
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static int module_users(void)
{
	char text[16];

	return mm_read_file(MODULE_SYSFS "/refcnt", text, sizeof(text)) ?
	       -1 : atoi(text);
}

/* As many as there were? io_uring lets go of files in its own time. */
static bool module_users_are(int users)
{
	unsigned int tries;

	for (tries = 0; tries < 500 && module_users() != users; tries++)
		usleep(10000);
	return module_users() == users ||
	       complain("%d users of the module became %d", users,
			module_users());
}

/* The calls. */

static const int device_errors[] = { ENOMEM, EFAULT, 0 };
static const int memory_errors[] = { ENOMEM, 0 };
static const int copy_errors[] = { EFAULT, 0 };
static const int no_errors[] = { 0 };

static long call_open(void)
{
	s.opened = dev_open();
	return s.opened;
}

static long call_info(void)
{
	struct xbzrle_info info;

	return dev_info(s.fd, &info);
}

static long create(unsigned int pages)
{
	s.more_length = (size_t)pages * UNIT;
	s.more_fd = dev_create(s.fd, "more", s.more_length,
			       &s.regions[MORE].id);
	return s.more_fd;
}

static long call_create(void)
{
	return create(PAGES);
}

static long call_create_big(void)
{
	return create(BIG_PAGES);
}

static bool use_more(unsigned int pages)
{
	struct region *r = &s.regions[MORE];

	r->pages = pages;
	if (!r->mem)
		r->mem = mmap(NULL, s.more_length, PROT_READ | PROT_WRITE,
			      MAP_SHARED, s.more_fd, 0);
	if (r->mem == MAP_FAILED)
		return complain("the new region cannot be mapped");
	if (!r->constant)
		fill(r->mem, r->pages);
	r->live = true;
	return true;
}

static bool finish_create(void)
{
	return use_more(PAGES);
}

static bool finish_create_big(void)
{
	return use_more(BIG_USED);
}

static bool map_more(size_t length)
{
	s.more_length = length;
	s.regions[MORE].mem = mm_anon(length);
	return s.regions[MORE].mem;
}

static bool prepare_private(void)
{
	return map_more(PAGES * UNIT);
}

static bool prepare_private_big(void)
{
	return map_more((size_t)BIG_PAGES * UNIT);
}

static bool prepare_huge(void)
{
	struct region *r = &s.regions[MORE];

	s.more_length = HUGE_SIZE;
	r->mem = mm_anon_huge(HUGE_SIZE);
	if (!r->mem || madvise(r->mem, HUGE_SIZE, MADV_HUGEPAGE))
		return false;
	fill(r->mem, BIG_USED);
	return mm_huge_bytes(r->mem) == HUGE_SIZE;
}

/* Huge pages are allowed on both sides of what has none. */
static bool prepare_huge_parts(void)
{
	struct region *r = &s.regions[MORE];

	s.more_length = HUGE_SIZE;
	r->mem = mm_anon_huge(HUGE_SIZE);
	return r->mem && !madvise(r->mem + HUGE_SIZE / 2, UNIT,
				  MADV_NOHUGEPAGE);
}

static bool prepare_shared(void)
{
	int fd = memfd_create("failnth", MFD_CLOEXEC);

	if (fd < 0)
		return false;
	s.more_fd = fd;
	s.more_length = PAGES * UNIT;
	if (ftruncate(fd, PAGES * UNIT))
		return false;
	s.regions[MORE].mem = map_shared(fd);
	return s.regions[MORE].mem != MAP_FAILED;
}

static bool start_child(void)
{
	s.child = fork();
	if (!s.child)
		for (;;)
			pause();
	return s.child > 0;
}

static bool prepare_other(void)
{
	if (!map_more(PAGES * UNIT))
		return false;
	fill(s.regions[MORE].mem, PAGES);
	s.regions[MORE].constant = true;
	return start_child();
}

/* What the first notifier of a process needs may fail, too. */
static bool prepare_shared_other(void)
{
	return prepare_shared() && start_child();
}

static long call_register(void)
{
	struct xbzrle_register reg;
	long ret = dev_register(s.fd, "more", s.regions[MORE].mem,
				s.more_length, s.child,
				s.more_fd < 0 ? XBZRLE_TRACKER_AUTO :
						XBZRLE_TRACKER_PTE, &reg);

	s.regions[MORE].id = reg.region_id;
	return ret;
}

/* Nobody marks what is written to it later. */
static bool prepare_external(void)
{
	if (!prepare_private())
		return false;
	fill(s.regions[MORE].mem, PAGES);
	s.regions[MORE].constant = true;
	return true;
}

static long call_register_external(void)
{
	struct xbzrle_register reg;
	long ret = dev_register(s.fd, "more", s.regions[MORE].mem,
				s.more_length, 0, XBZRLE_TRACKER_EXTERNAL,
				&reg);

	s.regions[MORE].id = reg.region_id;
	return ret;
}

static long call_register_mapping(void)
{
	struct xbzrle_register reg;
	long ret = dev_register(s.fd, "more", s.regions[MORE].mem,
				s.more_length, s.child,
				XBZRLE_TRACKER_MAPPING, &reg);

	s.regions[MORE].id = reg.region_id;
	return ret;
}

static bool finish_register(void)
{
	return use_more(PAGES);
}

/* Its pages are not held yet: the harvest has to make room for that. */
static long call_register_frozen(void)
{
	struct xbzrle_register reg;
	long ret = dev_register_as(s.fd, "more", s.regions[MORE].mem,
				   s.more_length, 0, XBZRLE_TRACKER_PTE,
				   XBZRLE_CAPTURE_FREEZE, &reg);

	s.regions[MORE].id = reg.region_id;
	return ret;
}

/* For all that is kept, so that no base has to go for it. */
static bool prepare_room(void)
{
	return !dev_set_cache(s.fd, 16 * PAGES * UNIT);
}

/* With pages that are bases, and others that are to be frozen. */
static bool prepare_with_frozen(void)
{
	if (!prepare_room() || !prepare_private() || call_register_frozen() ||
	    !finish_register())
		return false;
	return run_round(0) && (change_all(), true);
}

static bool prepare_with_mapping(void)
{
	return prepare_shared() && !call_register_mapping() &&
	       finish_register();
}

static bool finish_register_big(void)
{
	return use_more(BIG_USED);
}

static bool prepare_with_external(void)
{
	return prepare_external() && !call_register_external() &&
	       finish_register();
}

static bool prepare_create_big(void)
{
	return call_create_big() >= 0 && finish_create_big();
}

static long call_mark(void)
{
	return dev_mark(s.fd, s.regions[OWNED].id, 1, PAGES - 1, buffer);
}

/* In many pieces. */
static long call_mark_big(void)
{
	return dev_mark(s.fd, s.regions[MORE].id, 0, BIG_PAGES, buffer);
}

static long unregister(unsigned int region)
{
	long ret = dev_unregister(s.fd, s.regions[region].id);

	if (!ret)
		s.regions[region].live = false;
	return ret;
}

static long call_unregister_owned(void)
{
	return unregister(OWNED);
}

static long call_unregister_private(void)
{
	return unregister(PRIVATE);
}

static long call_unregister_external(void)
{
	return unregister(MORE);
}

static long call_grow_cache(void)
{
	return dev_set_cache(s.fd, 2 * CACHE_PAGES * UNIT);
}

static long call_shrink_cache(void)
{
	return dev_set_cache(s.fd, CACHE_PAGES / 4 * UNIT);
}

static long call_sync(void)
{
	return dev_sync(s.fd, 0, NULL);
}

static long call_sync_moment(void)
{
	return dev_sync(s.fd, XBZRLE_SYNC_POINT_IN_TIME, NULL);
}

static long call_sync_full(void)
{
	return dev_sync(s.fd, XBZRLE_SYNC_FULL, NULL);
}

static long call_sync_final(void)
{
	long ret = dev_sync(s.fd, XBZRLE_SYNC_FINAL, NULL);

	s.final = !ret;
	return ret;
}

/* The harvest finds huge pages where there were none. */
static bool prepare_sync_huge(void)
{
	struct region *r = &s.regions[MORE];

	if (!prepare_huge() || call_register() || !finish_register_big() ||
	    !run_round(0))
		return false;
	/* Only where something is writable. */
	fill(r->mem, BIG_USED);
	madvise(r->mem, HUGE_SIZE, MADV_HUGEPAGE);
	if (madvise(r->mem, HUGE_SIZE, MADV_COLLAPSE))
		return false;
	return mm_huge_bytes(r->mem) == HUGE_SIZE;
}

static bool prepare_sync_name(void)
{
	return !dev_unregister(s.fd, s.regions[SHARED].id) &&
	       !(s.regions[SHARED].live = false);
}

static long call_stats(void)
{
	struct xbzrle_stats stats;

	return dev_stats(s.fd, &stats);
}

/* Reading. What was read before the failure stays in the buffer. */

static bool prepare_read(void)
{
	return !dev_sync(s.fd, 0, NULL);
}

static bool prepare_read_external(void)
{
	return prepare_with_external() && prepare_read();
}

static bool prepare_read_final(void)
{
	s.final = true;
	return !dev_sync(s.fd, XBZRLE_SYNC_FINAL, NULL);
}

/* Whatever can go to swap is there when it is read. */
static bool page_out(void)
{
	unsigned int i;

	/* But for a page in a batch of some CPU's. */
	mm_drain();
	for (i = 0; i < MORE; i++)
		if (madvise(s.regions[i].mem, PAGES * UNIT, MADV_PAGEOUT))
			return false;
	return mm_swapped(s.regions[PRIVATE].mem + 4 * UNIT);
}

static bool prepare_read_swapped(void)
{
	return !dev_sync(s.fd, 0, NULL) && page_out();
}

/* Passes on what a read gave. */
static long keep(long n)
{
	n = result(n);
	if (n > 0)
		filled += n;
	return n;
}

static long read_round(size_t size)
{
	long n;

	do {
		n = keep(read(s.fd, buffer + filled, size));
	} while (n > 0);
	return n;
}

static long call_read_large(void)
{
	return read_round(BUFFER - filled);
}

static long call_read_small(void)
{
	return read_round(1500);
}

static long call_readv(void)
{
	struct iovec iov[3] = { { .iov_len = 7 }, { .iov_len = 5000 },
				{ .iov_len = 1 } };
	long n;

	do {
		iov[0].iov_base = buffer + filled;
		iov[1].iov_base = buffer + filled + 7;
		iov[2].iov_base = buffer + filled + 5007;
		n = keep(readv(s.fd, iov, 3));
	} while (n > 0);
	return n;
}

static bool prepare_splice(void)
{
	return prepare_read() && !pipe2(s.pipe, O_CLOEXEC) &&
	       fcntl(s.pipe[0], F_SETPIPE_SZ, BUFFER) >= 0;
}

/* The round fits the pipe, so nothing is read from there meanwhile. */
static long call_splice(void)
{
	long n;

	do {
		n = result(splice(s.fd, NULL, s.pipe[1], NULL, 60000, 0));
	} while (n > 0);
	return n;
}

static bool finish_splice(void)
{
	long n;

	close(s.pipe[1]);
	s.pipe[1] = -1;
	do {
		n = keep(read(s.pipe[0], buffer + filled, BUFFER - filled));
	} while (n > 0);
	return true;
}

static bool prepare_uring(void)
{
	return prepare_read() && !uring_open(&s.ring);
}

/* A ring with a request that was not taken is of no use any more. */
static long call_uring(void)
{
	long n = 0;

	if (s.ring.fd < 0)
		n = uring_open(&s.ring);
	if (n)
		return n;
	do {
		n = uring_read(&s.ring, s.fd, buffer + filled, 9000);
		if (n > 0)
			filled += n;
	} while (n > 0);
	if (n < 0) {
		uring_close(&s.ring);
		s.ring.fd = -1;
	}
	return n;
}

/* Owned memory. */

static long call_mmap(void)
{
	s.view = map_shared(s.rfd);
	return s.view == MAP_FAILED ? -errno : 0;
}

static bool prepare_view(void)
{
	return !call_mmap();
}

static bool prepare_view_swapped(void)
{
	return prepare_view() && page_out();
}

static bool prepare_holes(void)
{
	return prepare_view() && !madvise(s.view, PAGES * UNIT, MADV_REMOVE);
}

static void on_fault(int number)
{
	if (touching)
		siglongjmp(fault_jump, number);
	signal(number, SIG_DFL);
}

/* A fault without memory is to be made again, and nobody is to notice. */
static long touch(unsigned char *mem, bool write)
{
	unsigned char sum = 0;
	unsigned int i;
	int number = sigsetjmp(fault_jump, 1);

	touching = !number;
	if (number)
		return -number;
	for (i = 0; i < PAGES; i++) {
		if (write)
			__atomic_fetch_add(mem + i * UNIT + 9, 1,
					   __ATOMIC_RELAXED);
		else
			sum += __atomic_load_n(mem + i * UNIT,
					       __ATOMIC_RELAXED);
	}
	touching = false;
	return sum;
}

static long call_read_fault(void)
{
	return touch(s.view, false);
}

static long call_write_fault(void)
{
	return touch(s.view, true);
}

static long call_protect_fault(void)
{
	return touch(s.regions[OWNED].mem, true);
}

static long call_private_fault(void)
{
	return touch(s.regions[PRIVATE].mem, true);
}

static bool prepare_protected(void)
{
	return run_round(0);
}

static bool prepare_pipe(void)
{
	memset(buffer, 0x5a, 3 * UNIT);
	return prepare_view() && !pipe2(s.pipe, O_CLOEXEC) &&
	       write(s.pipe[1], buffer, 3 * UNIT) == 3 * UNIT;
}

/* What cannot be kept for the round makes it an ordinary one. */
static bool prepare_moment(void)
{
	return prepare_view() && !call_sync_moment();
}

/* The kernel's own writes. */
static long call_read_pipe(void)
{
	return result(read(s.pipe[0], s.view + 2 * UNIT + 100, 2 * UNIT));
}

static long call_remote_write(void)
{
	struct iovec local = { buffer, 2 * UNIT };
	struct iovec remote = { s.view + 5 * UNIT + 100, 2 * UNIT };

	memset(buffer, 0xa5, 2 * UNIT);
	return result(process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
}

static long call_punch(void)
{
	return result(fallocate(s.rfd, FALLOC_FL_PUNCH_HOLE |
				FALLOC_FL_KEEP_SIZE, 2 * UNIT, 5 * UNIT));
}

static long call_remove(void)
{
	return result(madvise(s.regions[OWNED].mem + 3 * UNIT, 4 * UNIT,
			      MADV_REMOVE));
}

static long call_unmap_part(void)
{
	return result(munmap(s.view + UNIT, UNIT));
}

/* Splits the mapping that is registered. */
static long call_mprotect(void)
{
	return result(mprotect(s.regions[PRIVATE].mem + 3 * UNIT, UNIT,
			       PROT_READ));
}

static bool finish_mprotect(void)
{
	return !mprotect(s.regions[PRIVATE].mem, PAGES * UNIT,
			 PROT_READ | PROT_WRITE);
}

/*
 * A stack for a process comes from vmalloc(), and the kernel prints a trace if
 * it gets none. The one of a process that ended on the same CPU is used again.
 */
static bool prepare_fork(void)
{
	cpu_set_t cpus;
	pid_t pid;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		return false;
	pid = fork();
	if (!pid)
		_exit(0);
	if (waitpid(pid, NULL, 0) != pid)
		return false;
	/* It still has to leave its stack. */
	usleep(5000);
	return true;
}

static long call_fork(void)
{
	pid_t pid = fork();

	if (!pid) {
		s.regions[OWNED].mem[8 * UNIT] ^= 1;
		s.regions[PRIVATE].mem[8 * UNIT] ^= 1;
		_exit(0);
	}
	s.child = pid;
	return result(pid);
}

static bool finish_fork(void)
{
	waitpid(s.child, NULL, 0);
	s.child = 0;
	s.regions[PRIVATE].mem[8 * UNIT]++;
	return true;
}

static long call_poll(void)
{
	return dev_poll(s.fd);
}

static long call_fdinfo(void)
{
	return mm_read_file(fdinfo_path, fdinfo_read, sizeof(fdinfo_read));
}

static bool finish_fdinfo(void)
{
	return !strcmp(fdinfo_read, before.fdinfo) ||
	       complain("fdinfo reads:\n%s", fdinfo_read);
}

static const int splice_errors[] = { ENOMEM, EFAULT, EAGAIN, 0 };
static const int fork_errors[] = { ENOMEM, EAGAIN, 0 };

static const struct target targets[] = {
	{ "open", 3, device_errors, .fallback = true, .call = call_open },
	{ "GET_INFO", 2, copy_errors, .call = call_info },
	{ "CREATE", 12, device_errors, .call = call_create,
	  .finish = finish_create },
	{ "CREATE, large", 12, device_errors, .fallback = true,
	  .call = call_create_big, .finish = finish_create_big },
	{ "REGISTER, private", 12, device_errors, .prepare = prepare_private,
	  .call = call_register, .finish = finish_register },
	{ "REGISTER, large", 12, device_errors, .fallback = true,
	  .prepare = prepare_private_big, .call = call_register,
	  .finish = finish_register_big },
	{ "REGISTER, huge pages", 12, device_errors, .prepare = prepare_huge,
	  .call = call_register, .finish = finish_register_big },
	{ "REGISTER, parts with huge pages", 12, device_errors,
	  .prepare = prepare_huge_parts, .call = call_register,
	  .finish = finish_register_big },
	{ "REGISTER, shared", 12, device_errors, .prepare = prepare_shared,
	  .call = call_register, .finish = finish_register },
	{ "REGISTER, another process", 12, device_errors,
	  .prepare = prepare_other, .call = call_register,
	  .finish = finish_register },
	{ "REGISTER, external", 10, device_errors, .prepare = prepare_external,
	  .call = call_register_external, .finish = finish_register },
	{ "REGISTER, mapping", 10, device_errors, .prepare = prepare_shared,
	  .call = call_register_mapping, .finish = finish_register },
	{ "REGISTER, mapping of another process", 12, device_errors,
	  .prepare = prepare_shared_other, .call = call_register_mapping,
	  .finish = finish_register },
	{ "REGISTER, frozen", 12, device_errors, .prepare = prepare_private,
	  .call = call_register_frozen, .finish = finish_register },
	{ "MARK_DIRTY", 2, copy_errors, .call = call_mark },
	{ "MARK_DIRTY, large", BIG_PAGES / 4096, copy_errors,
	  .prepare = prepare_create_big, .call = call_mark_big },
	{ "UNREGISTER, external", 1, device_errors,
	  .prepare = prepare_with_external, .call = call_unregister_external },
	{ "UNREGISTER, owned", 2, device_errors,
	  .call = call_unregister_owned },
	{ "UNREGISTER, private", 2, device_errors,
	  .call = call_unregister_private },
	{ "SET_CACHE, grow", 1, copy_errors, .call = call_grow_cache },
	{ "SET_CACHE, shrink", 1, copy_errors, .call = call_shrink_cache },
	{ "SYNC, first", 3, device_errors, .fresh = true, .call = call_sync },
	{ "SYNC", 2, device_errors, .call = call_sync },
	{ "SYNC, FULL", 3, device_errors, .prepare = prepare_sync_name,
	  .call = call_sync_full },
	{ "SYNC, FINAL", 2, device_errors, .call = call_sync_final },
	{ "SYNC, external", 3, device_errors,
	  .prepare = prepare_with_external, .call = call_sync },
	{ "SYNC, mapping", 3, device_errors,
	  .prepare = prepare_with_mapping, .call = call_sync },
	{ "SYNC, frozen", 3, device_errors,
	  .prepare = prepare_with_frozen, .call = call_sync },
	{ "SYNC, point in time", PAGES, device_errors,
	  .prepare = prepare_room, .call = call_sync_moment },
	{ "SYNC, point in time, first", PAGES, device_errors, .fresh = true,
	  .prepare = prepare_room, .call = call_sync_moment },
	{ "SYNC, huge pages", 3, device_errors, .prepare = prepare_sync_huge,
	  .call = call_sync },
	{ "GET_STATS", 2, copy_errors, .call = call_stats },
	{ "read, first round", 10, device_errors, .fresh = true, .reads = true,
	  .prepare = prepare_read, .call = call_read_large },
	{ "read", 1, device_errors, .reads = true, .prepare = prepare_read,
	  .call = call_read_large },
	{ "read, external", 1, device_errors, .reads = true,
	  .prepare = prepare_read_external, .call = call_read_large },
	{ "read, last round", 1, device_errors, .reads = true,
	  .prepare = prepare_read_final, .call = call_read_large },
	{ "read, small buffer", 30, device_errors, .reads = true,
	  .prepare = prepare_read, .call = call_read_small },
	{ "read, swapped out", 10, device_errors, .reads = true,
	  .prepare = prepare_read_swapped, .call = call_read_large },
	{ "readv", 15, device_errors, .reads = true, .prepare = prepare_read,
	  .call = call_readv },
	{ "splice", 10, splice_errors, .reads = true,
	  .prepare = prepare_splice, .call = call_splice,
	  .finish = finish_splice },
	{ "io_uring", 10, splice_errors, .reads = true,
	  .prepare = prepare_uring, .call = call_uring },
	{ "mmap", 1, memory_errors, .call = call_mmap },
	{ "munmap of a part", 1, memory_errors, .prepare = prepare_view,
	  .call = call_unmap_part },
	{ "fault, read", 1, no_errors, .prepare = prepare_view,
	  .call = call_read_fault },
	{ "fault, write", 1, no_errors, .prepare = prepare_view,
	  .call = call_write_fault },
	{ "fault, holes", PAGES, no_errors, .prepare = prepare_holes,
	  .call = call_write_fault },
	/* A page that has not left the swap cache yet needs no memory. */
	{ "fault, swapped out", PAGES / 2, no_errors,
	  .prepare = prepare_view_swapped, .call = call_write_fault },
	{ "fault, write-protected", 0, no_errors, .prepare = prepare_protected,
	  .call = call_protect_fault },
	{ "fault, point in time", PAGES / 2, no_errors,
	  .prepare = prepare_moment, .call = call_write_fault },
	{ "fault, private", 0, no_errors, .prepare = prepare_protected,
	  .call = call_private_fault },
	{ "fault of a read() into it", 1, device_errors,
	  .prepare = prepare_pipe, .call = call_read_pipe },
	{ "fault of a pin", 1, device_errors, .prepare = prepare_holes,
	  .call = call_remote_write },
	{ "fallocate", 0, memory_errors, .call = call_punch },
	{ "MADV_REMOVE", 0, memory_errors, .call = call_remove },
	{ "mprotect", 2, memory_errors, .call = call_mprotect,
	  .finish = finish_mprotect },
	{ "fork", 10, fork_errors, .stride = 5, .prepare = prepare_fork,
	  .call = call_fork, .finish = finish_fork },
	{ "poll", 1, device_errors, .call = call_poll },
	{ "fdinfo", 3, device_errors, .call = call_fdinfo,
	  .finish = finish_fdinfo },
};

static bool allowed(const struct target *t, long ret)
{
	const int *error;

	for (error = t->errors; *error; error++)
		if (ret == -*error)
			return true;
	return complain("it gives %s", strerror(-ret));
}

/* One failure; *left is not 0 if there was none. */
static bool attempt(const struct target *t, const struct mode *mode,
		    unsigned int nth, unsigned int *left)
{
	long ret;

	*left = 0;
	if (!set_up(t))
		return false;
	arm(mode, nth);
	ret = t->call();
	*left = disarm();
	if (ret < 0) {
		if (*left)
			return complain("it fails by itself: %s",
					strerror(-ret));
		if (!allowed(t, ret) || (!t->reads && !check_unchanged()))
			return false;
		ret = t->call();
		if (ret < 0)
			return complain("when made again, it gives %s",
					strerror(-ret));
	}
	return (!t->finish || t->finish()) && check_stream();
}

static bool attempt_and_clean(const struct target *t, const struct mode *mode,
			      unsigned int nth, unsigned int *left)
{
	int fds = count_fds(), users = module_users();
	bool ok = attempt(t, mode, nth, left);

	tear_down();
	if (count_fds() != fds)
		ok = complain("%d descriptors became %d", fds, count_fds());
	return module_users_are(users) && ok;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* At how many points the call failed; -1 if something was wrong. */
static int run_mode(const struct target *t, const struct mode *mode)
{
	unsigned int left = 0, nth = 1, failures = 0, bad = 0;

	if (!set("failslab/cache-filter", mode->cache_filter))
		return -1;
	at.target = t->name;
	at.mode = mode->name;
	for (; !left && nth < POINTS_MAX; nth += t->stride ?: 1) {
		at.nth = nth;
		/* Some failures tell enough. */
		if (!attempt_and_clean(t, mode, nth, &left) && ++bad == 3)
			break;
		failures += !left;
	}
	return bad || !left ? -1 : (int)failures;
}

static void run(const struct target *t)
{
	unsigned int nr_modes = t->fallback ? ARRAY_SIZE(modes) : 1, i;
	double start = now();
	bool ok = true;
	int points;

	for (i = 0; i < nr_modes; i++) {
		points = run_mode(t, &modes[i]);
		ksft_print_msg("%s (%s): %d points\n", t->name, modes[i].name,
			       points);
		ok = ok && points >= (i ? 1 : (int)t->points);
	}
	ksft_test_result(ok, "%s, %.1f s\n", t->name, now() - start);
}

/*
 * Loading the module. Most of its points are the kernel's, before our init
 * function is called, and some places there warn when they get no memory: for
 * the file's content, or for the fields of a trace event. So they are tried
 * from the last one down until init is not reached, which is what a failure of
 * the allocation right before it comes to. Their number varies a little, so
 * that this one may be missed: before it come the files in sysfs, whose failures
 * are no matter.
 */

/* So many in a row that are no matter do not come within init. */
#define CALM		40U

static const struct target load_target = { "load", 10, device_errors };

static long call_load(int file)
{
	return result(syscall(SYS_finit_module, file, "", 0));
}

static bool unload(void)
{
	return !syscall(SYS_delete_module, "xbzrle", O_NONBLOCK) ||
	       complain("it stays loaded: %s", strerror(errno));
}

static bool init_was_called(void)
{
	char text[8192];

	return !mm_read_file(TRACING "trace", text, sizeof(text)) &&
	       strstr(text, "initcall_start: ");
}

/* *failed counts how often it did; *called tells whether init was reached. */
static bool attempt_load(int file, unsigned int nth, unsigned int *failed,
			 bool *called)
{
	unsigned int left;
	long ret;

	if (!unload() || mm_write_file(TRACING "trace", ""))
		return false;
	arm(&modes[0], nth);
	ret = call_load(file);
	left = disarm();
	*called = init_was_called();
	if (!ret)
		return true;
	++*failed;
	if (left)
		return complain("it fails by itself: %s", strerror(-ret));
	if (!allowed(&load_target, ret))
		return false;
	if (!access(MODULE_SYSFS, F_OK))
		return complain("it leaves %s", MODULE_SYSFS);
	ret = call_load(file);
	return !ret || complain("when made again, it gives %s", strerror(-ret));
}

static unsigned int count_load(int file)
{
	long ret;

	if (!unload())
		return 0;
	arm(&modes[0], LOAD_POINTS_MAX);
	ret = call_load(file);
	return LOAD_POINTS_MAX - disarm() - !!ret;
}

/* Ends with the module loaded. */
static void run_load(void)
{
	int file = open(MODULE_FILE, O_RDONLY | O_CLOEXEC);
	unsigned int failed = 0, last = 0, count, calm = 0;
	double start = now();
	bool called = true, ok;

	at.target = load_target.name;
	at.mode = modes[0].name;
	set("failslab/cache-filter", modes[0].cache_filter);
	ok = file >= 0 &&
	     !mm_write_file(TRACING "events/initcall/initcall_start/enable",
			    "1");
	count = ok ? count_load(file) : 0;
	for (at.nth = count; ok && called && calm < CALM && at.nth; at.nth--) {
		ok = attempt_load(file, at.nth, &failed, &called);
		calm = failed == last ? calm + 1 : 0;
		last = failed;
	}
	mm_write_file(TRACING "events/initcall/initcall_start/enable", "0");
	close_if_open(file);
	ksft_print_msg("load: %u points, of which %u were tried and %u made it fail\n",
		       count, count - at.nth, failed);
	ksft_test_result(ok && failed >= load_target.points, "load, %.1f s\n",
			 now() - start);
}

/* A stack that cannot grow is a SIGSEGV, so it does before anything fails. */
static void grow_stack(void)
{
	volatile unsigned char deep[1 << 18];
	unsigned int i;

	for (i = 0; i < sizeof(deep); i += UNIT)
		deep[sizeof(deep) - 1 - i] = 0;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_fault };
	const char *only = argc > 1 ? argv[1] : "";
	unsigned int plan = 0, i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	grow_stack();
	ksft_print_header();
	if (!injection_init())
		ksft_exit_fail_msg("this kernel injects no failures; KERNEL=debug does\n");
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	buffer = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (buffer == MAP_FAILED || !mm_swap_on())
		ksft_exit_fail_msg("no memory or no swap\n");
	mm_write_file("/sys/kernel/mm/transparent_hugepage/enabled",
		      "madvise");

	for (i = 0; i < ARRAY_SIZE(targets); i++)
		plan += !!strstr(targets[i].name, only);
	plan += !!strstr(load_target.name, only);
	ksft_set_plan(plan);
	for (i = 0; i < ARRAY_SIZE(targets); i++)
		if (strstr(targets[i].name, only))
			run(&targets[i]);
	if (strstr(load_target.name, only))
		run_load();
	ksft_finished();
}

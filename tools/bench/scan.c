// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <errno.h>
#include <error.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/fs.h>
#include <linux/userfaultfd.h>

#include "kinds.h"
#include "scan.h"

/* Of Linux 6.7; the headers may be older. */
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC	(1 << 15)
#endif
#ifndef PAGEMAP_SCAN
struct page_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

struct pm_scan_arg {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

#define PAGEMAP_SCAN		_IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_WRITTEN		(1 << 1)
#define PM_SCAN_WP_MATCHING	(1 << 0)
#define PM_SCAN_CHECK_WPASYNC	(1 << 1)
#endif

#define PAGEMAP_SOFT_DIRTY	(1ULL << 55)
/* Entries and runs of pages that are read at a time. */
#define BATCH			4096

static int open_proc(pid_t pid, const char *name, int flags)
{
	char path[48];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		error(1, errno, "%s", path);
	return fd;
}

/**
 * scan_begin() - look at a process
 * @scanner: filled in
 * @pid: process
 * @start: its memory
 * @pages: pages of it
 */
void scan_begin(struct scanner *scanner, pid_t pid, const uint8_t *start,
		uint32_t pages)
{
	scanner->start = start;
	scanner->pages = pages;
	scanner->pagemap = open_proc(pid, "pagemap", O_RDONLY);
	scanner->clear_refs = open_proc(pid, "clear_refs", O_WRONLY);
}

/**
 * scan_end() - look no more
 * @scanner: scanner
 */
void scan_end(struct scanner *scanner)
{
	close(scanner->pagemap);
	close(scanner->clear_refs);
}

static const uint64_t *read_entries(const struct scanner *scanner,
				    uint32_t first, uint32_t nr)
{
	static uint64_t entries[BATCH];
	off_t page = (uintptr_t)scanner->start / PAGE_BYTES + first;
	size_t length = nr * sizeof(*entries);

	if (pread(scanner->pagemap, entries, length,
		  page * sizeof(*entries)) != (ssize_t)length)
		error(1, errno, "pagemap");
	return entries;
}

static bool softdirty_works(void)
{
	struct scanner scanner;
	uint8_t *page;
	bool works;

	page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		error(1, errno, "mmap");
	*(volatile uint8_t *)page = 1;
	scan_begin(&scanner, getpid(), page, 1);
	works = *read_entries(&scanner, 0, 1) & PAGEMAP_SOFT_DIRTY;
	scan_end(&scanner);
	munmap(page, PAGE_BYTES);
	return works;
}

static uint32_t softdirty_find(const struct scanner *scanner, uint32_t *found)
{
	uint32_t first, some, i, nr = 0;
	const uint64_t *entries;

	for (first = 0; first < scanner->pages; first += some) {
		some = scanner->pages - first;
		if (some > BATCH)
			some = BATCH;
		entries = read_entries(scanner, first, some);
		for (i = 0; i < some; i++)
			if (entries[i] & PAGEMAP_SOFT_DIRTY)
				found[nr++] = first + i;
	}
	if (write(scanner->clear_refs, "4", 1) != 1)
		error(1, errno, "clear_refs");
	return nr;
}

/* Returns a descriptor, or -1 if the kernel has no such thing. */
static int open_watch(void)
{
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static bool pagemap_scan_works(void)
{
	int fd = open_watch();

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/**
 * scan_watch() - have writes to the caller's memory noted for PAGEMAP_SCAN
 * @start: memory
 * @length: bytes
 */
void scan_watch(uint8_t *start, uint64_t length)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)start, length },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int fd = open_watch();

	if (fd < 0 || ioctl(fd, UFFDIO_REGISTER, &reg))
		error(1, errno, "userfaultfd");
}

static uint32_t pagemap_scan_find(const struct scanner *scanner,
				  uint32_t *found)
{
	static struct page_region runs[BATCH];
	const uintptr_t start = (uintptr_t)scanner->start;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = start,
		.end = start + (uint64_t)scanner->pages * PAGE_BYTES,
		.vec = (uintptr_t)runs, .vec_len = BATCH,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
	uint32_t nr = 0;
	uint64_t at;
	int got, i;

	while (arg.start < arg.end) {
		got = ioctl(scanner->pagemap, PAGEMAP_SCAN, &arg);
		if (got < 0)
			error(1, errno, "PAGEMAP_SCAN");
		for (i = 0; i < got; i++)
			for (at = runs[i].start; at < runs[i].end;
			     at += PAGE_BYTES)
				found[nr++] = (at - start) / PAGE_BYTES;
		arg.start = arg.walk_end;
	}
	return nr;
}

const struct scan scans[NR_SCANS] = {
	{ "soft-dirty", false, softdirty_works, softdirty_find },
	{ "PAGEMAP_SCAN", true, pagemap_scan_works, pagemap_scan_find },
};

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Writes of a process, from the kernel's soft-dirty bits. They are read in
 * /proc/PID/pagemap and cleared, all at once, by /proc/PID/clear_refs. Nothing
 * does both in one step for another process: a write that comes when its bit
 * was read, but before it is cleared, is forgotten. To clear first forgets all
 * there is. So the process has to be stopped from before the first bit is read
 * until all are cleared; whoever calls sees to that.
 *
 * A bit belongs to a page table entry, and goes with it. Pages that became holes
 * have to be found otherwise; see is_written(). For that, a round may look at
 * nothing that was not marked. As the first one looks at all that is populated
 * when it is started, the process stays stopped until then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "array.h"
#include "signals.h"
#include "softdirty.h"

#define UNIT			XBZRLE_UNIT_SIZE

/* Bits of a /proc/PID/pagemap entry. */
#define PAGEMAP_SOFT_DIRTY	(1ULL << 55)
#define PAGEMAP_EXCLUSIVE	(1ULL << 56)
#define PAGEMAP_GUARD		(1ULL << 58)
#define PAGEMAP_FILE		(1ULL << 61)
#define PAGEMAP_SWAPPED		(1ULL << 62)
#define PAGEMAP_PRESENT		(1ULL << 63)

/* Units that are marked with one call; whole bytes of the bitmap. */
#define MARK_UNITS		(1U << 20)

/* What clear_refs takes for the soft-dirty bits. */
#define CLEAR_SOFT_DIRTY	"4"

static bool test_bit(const uint8_t *bits, uint64_t bit)
{
	return bits[bit / 8] >> bit % 8 & 1;
}

static void set_bit(uint8_t *bits, uint64_t bit)
{
	bits[bit / 8] |= 1 << bit % 8;
}

static int open_proc(pid_t pid, const char *name, int flags,
		     struct xbzrle_error *err)
{
	char path[48];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return xbzrle_fail(err, errno, 0, "cannot open %s: %s", path,
				   strerror(errno));
	return fd;
}

/**
 * softdirty_open() - have a process's page tables to read
 * @pid: process
 * @err: set on failure
 *
 * Return: a descriptor for softdirty_scan(), or a negative errno.
 */
int softdirty_open(pid_t pid, struct xbzrle_error *err)
{
	return open_proc(pid, "pagemap", O_RDONLY, err);
}

/**
 * softdirty_clear() - begin anew: what is written from now on will be seen
 * @pid: process, stopped since before the first softdirty_scan() of its ranges
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int softdirty_clear(pid_t pid, struct xbzrle_error *err)
{
	int fd = open_proc(pid, "clear_refs", O_WRONLY, err);
	int ret = 0;

	if (fd < 0)
		return fd;
	if (write(fd, CLEAR_SOFT_DIRTY, 1) != 1)
		ret = xbzrle_fail(err, errno, 0,
				  "cannot clear the soft-dirty bits of process %d: %s",
				  pid, strerror(errno));
	close(fd);
	return ret;
}

/* Of a page of our own: is it soft-dirty? -1 if that cannot be read. */
static int look_at(int pagemap, const volatile char *page)
{
	uint64_t entry;

	if (pread(pagemap, &entry, sizeof(entry),
		  (uintptr_t)page / UNIT * sizeof(entry)) != sizeof(entry))
		return -1;
	return !!(entry & PAGEMAP_SOFT_DIRTY);
}

/**
 * softdirty_probe() - does this kernel have soft-dirty bits?
 * @err: set on failure
 *
 * They are an option of the kernel's configuration, and without it they are
 * never set, so that nothing would ever have been written.
 *
 * Return: 0, -EOPNOTSUPP if it has not, or another negative errno.
 */
int softdirty_probe(struct xbzrle_error *err)
{
	volatile char *page;
	int pagemap, ret;
	bool works;

	page = mmap(NULL, UNIT, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return xbzrle_fail(err, errno, 0, "no memory");
	pagemap = softdirty_open(getpid(), err);
	ret = pagemap < 0 ? pagemap : 0;
	if (ret)
		goto unmap;

	*page = 1;
	works = look_at(pagemap, page) == 1;
	ret = softdirty_clear(getpid(), err);
	works = works && look_at(pagemap, page) == 0;
	*page = 2;
	works = works && look_at(pagemap, page) == 1;
	close(pagemap);
	if (!ret && !works)
		ret = xbzrle_fail(err, EOPNOTSUPP, 0,
				  "this kernel has no soft-dirty bits");
unmap:
	munmap((void *)page, UNIT);
	return ret;
}

/**
 * softdirty_begin() - begin with a range of which nothing is known
 * @range: filled in
 * @start: first address
 * @end: address after the last
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int softdirty_begin(struct softdirty *range, uint64_t start, uint64_t end,
		    struct xbzrle_error *err)
{
	const uint64_t units = (end - start) / UNIT;

	*range = (struct softdirty){
		.start = start,
		.units = units,
		.seen = calloc(units / 8 + 1, 1),
		.written = calloc(units / 8 + 1, 1),
	};
	if (range->seen && range->written)
		return 0;
	softdirty_end(range);
	return xbzrle_fail(err, ENOMEM, 0, "no memory");
}

/*
 * Is it to be marked? A hole is each time, if there ever was a page: one that
 * comes and goes between two scans leaves no trace, and may have been sent. So
 * is a guard (MADV_GUARD_INSTALL), which looks swapped.
 */
static bool is_written(const struct softdirty *range, uint64_t unit,
		       uint64_t entry)
{
	if (!(entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) ||
	    entry & PAGEMAP_GUARD)
		return test_bit(range->seen, unit);
	if (entry & PAGEMAP_SOFT_DIRTY || !test_bit(range->seen, unit))
		return true;
	/*
	 * A page that is not the process's alone may be the zero page, which
	 * comes without a bit where a page was taken away. Others that are
	 * shared, since a fork, cost no more than to be looked at.
	 */
	return entry & PAGEMAP_PRESENT &&
	       (entry & PAGEMAP_FILE || !(entry & PAGEMAP_EXCLUSIVE));
}

static void look_at_unit(struct softdirty *range, uint64_t unit,
			 uint64_t entry)
{
	if (!is_written(range, unit, entry))
		return;
	set_bit(range->written, unit);
	set_bit(range->seen, unit);
}

/**
 * softdirty_scan() - note what was written since the bits were cleared
 * @range: range
 * @pagemap: of its process, which is stopped until after softdirty_clear()
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int softdirty_scan(struct softdirty *range, int pagemap,
		   struct xbzrle_error *err)
{
	uint64_t entries[4096], unit = 0;
	size_t want, i;
	ssize_t got;
	int ret;

	while (unit < range->units) {
		ret = signals_check(err);
		if (ret)
			return ret;
		want = ARRAY_SIZE(entries);
		if (want > range->units - unit)
			want = range->units - unit;
		got = pread(pagemap, entries, want * sizeof(*entries),
			    (range->start / UNIT + unit) * sizeof(*entries));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < (ssize_t)sizeof(*entries))
			return xbzrle_fail(err, got < 0 ? errno : ESRCH, 0,
					   "cannot read the soft-dirty bits of %#" PRIx64 ": %s",
					   range->start + unit * UNIT,
					   strerror(got < 0 ? errno : ESRCH));
		for (i = 0; i < got / sizeof(*entries); i++)
			look_at_unit(range, unit + i, entries[i]);
		unit += i;
	}
	return 0;
}

static bool any(const uint8_t *bytes, size_t length)
{
	return *bytes || memcmp(bytes, bytes + 1, length - 1);
}

/**
 * softdirty_mark() - tell the module what was written
 * @range: range
 * @session: session
 * @region_id: the region of @session that is just that range
 * @err: set on failure; what was written is then told the next time
 *
 * Return: 0 or a negative errno.
 */
int softdirty_mark(struct softdirty *range, struct xbzrle_session *session,
		   uint32_t region_id, struct xbzrle_error *err)
{
	uint64_t unit, units;
	size_t length;
	uint8_t *bits;
	int ret;

	for (unit = 0; unit < range->units; unit += units) {
		units = range->units - unit;
		if (units > MARK_UNITS)
			units = MARK_UNITS;
		bits = range->written + unit / 8;
		length = (units + 7) / 8;
		if (!any(bits, length))
			continue;
		ret = xbzrle_mark_dirty(session, region_id, unit, units, bits,
					err);
		if (ret)
			return ret;
		memset(bits, 0, length);
	}
	return 0;
}

/**
 * softdirty_end() - forget a range
 * @range: range
 */
void softdirty_end(struct softdirty *range)
{
	free(range->seen);
	free(range->written);
	range->seen = NULL;
	range->written = NULL;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "digest.h"
#include "signals.h"

#define UNIT		XBZRLE_UNIT_SIZE
#define CHUNK		(1U << 20)

/* Bits of a /proc/PID/pagemap entry. */
#define PAGEMAP_GUARD	(1ULL << 58)
#define PAGEMAP_PRESENT	(1ULL << 63)
#define PAGEMAP_SWAPPED	(1ULL << 62)

static const uint8_t zeros[CHUNK];

static int add_zeros(XXH3_state_t *state, uint64_t length,
		     struct xbzrle_error *err)
{
	uint64_t some;
	int ret = 0;

	/* A hole may be far larger than memory, and a target waits stopped. */
	for (; length && !ret; length -= some) {
		some = length < CHUNK ? length : CHUNK;
		XXH3_128bits_update(state, zeros, some);
		ret = signals_check(err);
	}
	return ret;
}

static int add_bytes(XXH3_state_t *state, int fd, uint64_t from,
		     uint64_t length, uint8_t *buffer,
		     struct xbzrle_error *err)
{
	ssize_t got;
	int ret;

	while (length) {
		got = pread(fd, buffer, length < CHUNK ? length : CHUNK, from);
		ret = signals_check(err);
		if (ret)
			return ret;
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return xbzrle_fail(err, got ? errno : EIO, from,
					   "cannot read %#" PRIx64 " for its digest: %s",
					   from, got ? strerror(errno) :
					   "nothing there");
		XXH3_128bits_update(state, buffer, got);
		from += got;
		length -= got;
	}
	return 0;
}

/* The next part of a file that is not a hole, at or behind @at. */
static void find_data(int fd, uint64_t at, uint64_t length, uint64_t *data,
		      uint64_t *hole)
{
	off_t found = lseek(fd, at, SEEK_DATA);

	*data = found < 0 ? length : (uint64_t)found;
	/* A file system that knows no holes answers with all of it. */
	if (found < 0 && errno != ENXIO)
		*data = at;
	if (*data > length)
		*data = length;
	found = *data < length ? lseek(fd, *data, SEEK_HOLE) : -1;
	*hole = found < 0 || (uint64_t)found > length ? length :
							 (uint64_t)found;
}

/* A part of a file, to @end, of which holes are not read. */
static int add_file(XXH3_state_t *state, int fd, uint64_t at, uint64_t end,
		    uint8_t *buffer, struct xbzrle_error *err)
{
	uint64_t data, hole;
	int ret = 0;

	while (at < end && !ret) {
		find_data(fd, at, end, &data, &hole);
		ret = add_zeros(state, data - at, err);
		if (ret || data == end)
			break;
		ret = add_bytes(state, fd, data, hole - data, buffer, err);
		at = hole;
	}
	return ret;
}

/**
 * struct process - whose memory is digested
 * @pid: process
 * @mem: /proc/PID/mem
 * @start: of the mapping that was looked up last
 * @end: of it
 * @shared: it is shared: what is in no page table may be in its file
 * @offset: of @start in the file
 * @file: the file if it is shared and can be opened, or -1
 */
struct process {
	pid_t pid;
	int mem;
	uint64_t start, end;
	bool shared;
	uint64_t offset;
	int file;
};

/* Nothing is known of memory that is in no mapping; to read it will tell. */
static void look_up(struct process *process, uint64_t addr)
{
	unsigned long long start, end, offset;
	char path[80], access[5], *line = NULL;
	size_t room = 0;
	FILE *maps;

	if (process->file >= 0)
		close(process->file);
	process->file = -1;
	process->start = addr;
	process->end = addr + UNIT;
	process->shared = true;
	snprintf(path, sizeof(path), "/proc/%d/maps", process->pid);
	maps = fopen(path, "re");
	/* Whole lines: the rest of a long name might look like another one. */
	while (maps && getline(&line, &room, maps) > 0) {
		if (sscanf(line, "%llx-%llx %4s %llx", &start, &end, access,
			   &offset) != 4 || addr < start || addr >= end)
			continue;
		process->start = start;
		process->end = end;
		process->shared = access[3] == 's';
		process->offset = offset;
		snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx",
			 process->pid, start, end);
		if (process->shared)
			process->file = open(path, O_RDONLY | O_CLOEXEC);
		break;
	}
	free(line);
	if (maps)
		fclose(maps);
}

/*
 * Pages that are in no page table. Private ones are zero, shared ones may be so,
 * or the process has not touched them since they came to be or were swapped out.
 */
static int add_absent(XXH3_state_t *state, struct process *process,
		      uint64_t addr, uint64_t length, uint8_t *buffer,
		      struct xbzrle_error *err)
{
	uint64_t end = addr + length, some, at;
	int ret = 0;

	for (; addr < end && !ret; addr += some) {
		if (addr < process->start || addr >= process->end)
			look_up(process, addr);
		some = process->end < end ? process->end - addr : end - addr;
		at = process->offset + (addr - process->start);
		if (!process->shared)
			ret = add_zeros(state, some, err);
		else if (process->file >= 0)
			ret = add_file(state, process->file, at, at + some,
				       buffer, err);
		else
			ret = add_bytes(state, process->mem, addr, some, buffer,
					err);
	}
	return ret;
}

/* A guard (MADV_GUARD_INSTALL) looks swapped, cannot be read, and is a hole. */
static bool is_there(uint64_t entry)
{
	return entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED) &&
	       !(entry & PAGEMAP_GUARD);
}

/* One run of pages that are alike: all there, or in no page table. */
static int add_pages(XXH3_state_t *state, struct process *process,
		     const uint64_t *pagemap, uint64_t addr, size_t pages,
		     uint8_t *buffer, struct xbzrle_error *err)
{
	size_t at, run;
	int ret = 0;

	for (at = 0; at < pages && !ret; at += run) {
		run = 1;
		while (at + run < pages &&
		       is_there(pagemap[at]) == is_there(pagemap[at + run]))
			run++;
		if (is_there(pagemap[at]))
			ret = add_bytes(state, process->mem, addr + at * UNIT,
					run * UNIT, buffer, err);
		else
			ret = add_absent(state, process, addr + at * UNIT,
					 run * UNIT, buffer, err);
	}
	return ret;
}

static int open_proc(pid_t pid, const char *name, struct xbzrle_error *err)
{
	char path[48];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return xbzrle_fail(err, errno, 0, "cannot open %s: %s", path,
				   strerror(errno));
	return fd;
}

static void finish(const XXH3_state_t *state, uint8_t *digest)
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
	memcpy(digest, canonical.digest, DIGEST_SIZE);
}

static int start(XXH3_state_t **state, uint8_t **buffer,
		 struct xbzrle_error *err)
{
	*state = XXH3_createState();
	*buffer = malloc(CHUNK);
	if (*state && *buffer) {
		XXH3_128bits_reset(*state);
		return 0;
	}
	XXH3_freeState(*state);
	free(*buffer);
	return xbzrle_fail(err, ENOMEM, 0, "no memory for a digest");
}

/**
 * digest_process() - digest of a stopped process's memory
 * @pid: process
 * @addr: first address
 * @length: bytes
 * @digest: filled in with DIGEST_SIZE bytes
 * @err: set on failure
 *
 * Pages that were never touched count as zeros and stay untouched, but shared
 * ones whose file cannot be opened, which takes CAP_CHECKPOINT_RESTORE: they are
 * read where the process would read them.
 *
 * Return: 0 or a negative errno.
 */
int digest_process(pid_t pid, uint64_t addr, uint64_t length, uint8_t *digest,
		   struct xbzrle_error *err)
{
	uint64_t pagemap[512];
	XXH3_state_t *state;
	struct process process = { .pid = pid, .file = -1 };
	uint64_t end = addr + length;
	uint8_t *buffer;
	int map, ret;
	ssize_t got;

	ret = start(&state, &buffer, err);
	if (ret)
		return ret;
	process.mem = open_proc(pid, "mem", err);
	if (process.mem < 0) {
		ret = process.mem;
		goto free_state;
	}
	map = open_proc(pid, "pagemap", err);
	if (map < 0) {
		ret = map;
		goto close_mem;
	}

	for (; addr < end && !ret; addr += got / sizeof(*pagemap) * UNIT) {
		size_t want = (end - addr) / UNIT * sizeof(*pagemap);

		if (want > sizeof(pagemap))
			want = sizeof(pagemap);
		got = pread(map, pagemap, want, addr / UNIT * sizeof(*pagemap));
		if (got < (ssize_t)sizeof(*pagemap)) {
			ret = xbzrle_fail(err, EIO, addr,
					  "cannot read the page map of process %d",
					  pid);
			break;
		}
		ret = add_pages(state, &process, pagemap, addr,
				got / sizeof(*pagemap), buffer, err);
	}
	if (!ret)
		finish(state, digest);

	if (process.file >= 0)
		close(process.file);
	close(map);
close_mem:
	close(process.mem);
free_state:
	XXH3_freeState(state);
	free(buffer);
	return ret;
}

/**
 * digest_memory() - digest of memory of our own
 * @memory: memory, of whole pages
 * @filled: bit per page that may be other than zero; the others are not read
 * @length: bytes
 * @digest: filled in with DIGEST_SIZE bytes
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int digest_memory(const uint8_t *memory, const uint8_t *filled, uint64_t length,
		  uint8_t *digest, struct xbzrle_error *err)
{
	uint64_t page, pages = length / UNIT, run;
	XXH3_state_t *state;
	uint8_t *buffer;
	int ret;

	ret = start(&state, &buffer, err);
	if (ret)
		return ret;
	for (page = 0; page < pages && !ret; page += run) {
		bool some = filled[page / 8] >> page % 8 & 1;

		run = 1;
		while (page + run < pages && run < CHUNK / UNIT &&
		       (filled[(page + run) / 8] >> (page + run) % 8 & 1) == some)
			run++;
		XXH3_128bits_update(state, some ? memory + page * UNIT : zeros,
				    run * UNIT);
		ret = signals_check(err);
	}
	if (!ret)
		finish(state, digest);
	XXH3_freeState(state);
	free(buffer);
	return ret;
}

/**
 * digest_file() - digest of an image
 * @fd: file
 * @length: bytes
 * @digest: filled in with DIGEST_SIZE bytes
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int digest_file(int fd, uint64_t length, uint8_t *digest,
		struct xbzrle_error *err)
{
	XXH3_state_t *state;
	uint8_t *buffer;
	int ret;

	ret = start(&state, &buffer, err);
	if (ret)
		return ret;
	ret = add_file(state, fd, 0, length, buffer, err);
	if (!ret)
		finish(state, digest);
	XXH3_freeState(state);
	free(buffer);
	return ret;
}

/**
 * digest_hex() - write a digest
 * @digest: DIGEST_SIZE bytes
 *
 * Return: it as hexadecimal digits.
 */
struct digest_text digest_hex(const uint8_t *digest)
{
	struct digest_text out;
	int i;

	for (i = 0; i < DIGEST_SIZE; i++)
		snprintf(out.text + 2 * i, 3, "%02x", digest[i]);
	return out;
}

/**
 * digest_page_is_zero() - does the page count for nothing in a sum?
 * @page: a unit
 *
 * Return: true if all its bytes are zero.
 */
bool digest_page_is_zero(const void *page)
{
	return !memcmp(page, zeros, UNIT);
}

static XXH128_hash_t hash_page(const void *page, uint64_t number)
{
	return XXH3_128bits_withSeed(page, UNIT, number);
}

/**
 * digest_sum_add() - a page has come
 * @sum: sum
 * @page: a unit that is not zero
 * @number: its number in the region
 */
void digest_sum_add(struct digest_sum *sum, const void *page, uint64_t number)
{
	const XXH128_hash_t hash = hash_page(page, number);

	sum->low += hash.low64;
	sum->high += hash.high64 + (sum->low < hash.low64);
}

/**
 * digest_sum_remove() - a page goes
 * @sum: sum that has it
 * @page: the unit as it was added
 * @number: its number in the region
 */
void digest_sum_remove(struct digest_sum *sum, const void *page,
		       uint64_t number)
{
	const XXH128_hash_t hash = hash_page(page, number);

	sum->high -= hash.high64 + (sum->low < hash.low64);
	sum->low -= hash.low64;
}

static int sum_range(int fd, uint64_t from, uint64_t to,
		     struct digest_sum *sum, struct xbzrle_error *err)
{
	uint8_t page[UNIT];
	ssize_t got;
	int ret;

	for (; from < to; from += UNIT) {
		got = pread(fd, page, UNIT, from);
		ret = signals_check(err);
		if (ret)
			return ret;
		if (got != UNIT)
			return xbzrle_fail(err, got < 0 ? errno : EIO, from,
					   "cannot read an image for its digest: %s",
					   got < 0 ? strerror(errno) :
					   "it is too short");
		if (!digest_page_is_zero(page))
			digest_sum_add(sum, page, from / UNIT);
	}
	return 0;
}

/**
 * digest_sum_file() - the sum of an image
 * @fd: file
 * @length: bytes, of whole pages
 * @sum: filled in
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int digest_sum_file(int fd, uint64_t length, struct digest_sum *sum,
		    struct xbzrle_error *err)
{
	uint64_t at, data, hole;
	int ret = 0;

	*sum = (struct digest_sum){};
	for (at = 0; at < length && !ret; at = hole) {
		find_data(fd, at, length, &data, &hole);
		/* Holes may be smaller than pages on some file systems. */
		data -= data % UNIT;
		hole = (hole + UNIT - 1) / UNIT * UNIT;
		ret = sum_range(fd, data, hole, sum, err);
	}
	return ret;
}

/**
 * digest_sum_hex() - write a sum
 * @sum: sum
 *
 * Return: it as hexadecimal digits.
 */
struct digest_text digest_sum_hex(const struct digest_sum *sum)
{
	struct digest_text out;

	snprintf(out.text, sizeof(out.text), "%016" PRIx64 "%016" PRIx64,
		 sum->high, sum->low);
	return out;
}

/**
 * digest_bytes() - digest of a few bytes
 * @bytes: bytes
 * @length: how many
 *
 * Return: XXH3-128 of them as hexadecimal digits.
 */
struct digest_text digest_bytes(const void *bytes, size_t length)
{
	const XXH128_hash_t hash = XXH3_128bits(bytes, length);
	const struct digest_sum sum = {
		.high = hash.high64,
		.low = hash.low64,
	};

	return digest_sum_hex(&sum);
}

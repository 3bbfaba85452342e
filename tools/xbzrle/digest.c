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

/* One run of pages that are alike: all there, or all never touched. */
static int add_pages(XXH3_state_t *state, int mem, const uint64_t *pagemap,
		     uint64_t addr, size_t pages, uint8_t *buffer,
		     struct xbzrle_error *err)
{
	const uint64_t there = PAGEMAP_PRESENT | PAGEMAP_SWAPPED;
	size_t at, run;
	int ret = 0;

	for (at = 0; at < pages && !ret; at += run) {
		run = 1;
		while (at + run < pages &&
		       !(pagemap[at] & there) == !(pagemap[at + run] & there))
			run++;
		if (pagemap[at] & there)
			ret = add_bytes(state, mem, addr + at * UNIT,
					run * UNIT, buffer, err);
		else
			ret = add_zeros(state, run * UNIT, err);
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
 * digest_process() - digest of a stopped process's private memory
 * @pid: process
 * @addr: first address
 * @length: bytes
 * @digest: filled in with DIGEST_SIZE bytes
 * @err: set on failure
 *
 * Pages that were never touched count as zeros and stay untouched.
 *
 * Return: 0 or a negative errno.
 */
int digest_process(pid_t pid, uint64_t addr, uint64_t length, uint8_t *digest,
		   struct xbzrle_error *err)
{
	uint64_t pagemap[512];
	XXH3_state_t *state;
	uint64_t end = addr + length;
	int mem, map, ret;
	uint8_t *buffer;
	ssize_t got;

	ret = start(&state, &buffer, err);
	if (ret)
		return ret;
	mem = open_proc(pid, "mem", err);
	if (mem < 0) {
		ret = mem;
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
		ret = add_pages(state, mem, pagemap, addr,
				got / sizeof(*pagemap), buffer, err);
	}
	if (!ret)
		finish(state, digest);

	close(map);
close_mem:
	close(mem);
free_state:
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
	uint64_t at = 0, data, hole;
	XXH3_state_t *state;
	uint8_t *buffer;
	off_t found;
	int ret;

	ret = start(&state, &buffer, err);
	if (ret)
		return ret;
	while (at < length && !ret) {
		found = lseek(fd, at, SEEK_DATA);
		data = found < 0 ? length : (uint64_t)found;
		/* A file system that knows no holes answers with all of it. */
		if (found < 0 && errno != ENXIO)
			data = at;
		ret = add_zeros(state, data - at, err);
		if (ret || data == length)
			break;
		found = lseek(fd, data, SEEK_HOLE);
		hole = found < 0 ? length : (uint64_t)found;
		ret = add_bytes(state, fd, data, hole - data, buffer, err);
		at = hole;
	}
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

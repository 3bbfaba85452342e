// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device.h"

/**
 * dev_open - make a session
 *
 * Return: its fd or a negative errno.
 */
int dev_open(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/**
 * dev_ioctl - any ioctl
 * @fd: session
 * @cmd: command
 * @arg: its struct
 *
 * Return: what the kernel returned or a negative errno.
 */
int dev_ioctl(int fd, unsigned int cmd, void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

/**
 * dev_info - GET_INFO
 * @fd: session
 * @info: filled in
 *
 * Return: 0 or a negative errno.
 */
int dev_info(int fd, struct xbzrle_info *info)
{
	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	return dev_ioctl(fd, XBZRLE_IOC_GET_INFO, info);
}

/**
 * dev_has_pte - can memory that exists be registered on this kernel?
 *
 * Return: what GET_INFO says of the pte tracker.
 */
bool dev_has_pte(void)
{
	static int has = -1;
	struct xbzrle_info info;
	int fd;

	if (has < 0) {
		fd = dev_open();
		has = !dev_info(fd, &info) &&
		      info.features & XBZRLE_FEATURE_TRACKER_PTE;
		close(fd);
	}
	return has;
}

/**
 * dev_create - CREATE
 * @fd: session
 * @name: of the region
 * @length: of the region
 * @id: set to the region's id, may be NULL
 *
 * Return: the region fd or a negative errno.
 */
int dev_create(int fd, const char *name, uint64_t length, uint32_t *id)
{
	return dev_create_as(fd, name, length, XBZRLE_CAPTURE_AUTO, id);
}

/**
 * dev_create_as - CREATE
 * @fd: session
 * @name: of the region
 * @length: of the region
 * @capture: enum xbzrle_capture
 * @id: set to the region's id, may be NULL
 *
 * Return: the region fd or a negative errno.
 */
int dev_create_as(int fd, const char *name, uint64_t length, uint32_t capture,
		  uint32_t *id)
{
	struct xbzrle_create arg = {
		.size = sizeof(arg),
		.length = length,
		.name = (uintptr_t)name,
		.name_len = strlen(name),
		.capture = capture,
	};
	int ret = dev_ioctl(fd, XBZRLE_IOC_CREATE, &arg);

	if (ret)
		return ret;
	if (id)
		*id = arg.region_id;
	return arg.fd;
}

/**
 * dev_register - REGISTER
 * @fd: session
 * @name: of the region
 * @addr: first address
 * @length: bytes
 * @pid: owner of the memory, 0 for the caller
 * @tracker: enum xbzrle_tracker
 * @out: the struct as the kernel left it, may be NULL
 *
 * Return: 0 or a negative errno.
 */
int dev_register(int fd, const char *name, const void *addr, uint64_t length,
		 pid_t pid, uint32_t tracker, struct xbzrle_register *out)
{
	return dev_register_as(fd, name, addr, length, pid, tracker,
			       XBZRLE_CAPTURE_AUTO, out);
}

/**
 * dev_register_as - REGISTER
 * @fd: session
 * @name: of the region
 * @addr: first address
 * @length: bytes
 * @pid: owner of the memory, 0 for the caller
 * @tracker: enum xbzrle_tracker
 * @capture: enum xbzrle_capture
 * @out: the struct as the kernel left it, may be NULL
 *
 * Return: 0 or a negative errno.
 */
int dev_register_as(int fd, const char *name, const void *addr,
		    uint64_t length, pid_t pid, uint32_t tracker,
		    uint32_t capture, struct xbzrle_register *out)
{
	struct xbzrle_register arg = {
		.size = sizeof(arg),
		.addr = (uintptr_t)addr,
		.length = length,
		.name = (uintptr_t)name,
		.name_len = strlen(name),
		.pid = pid,
		.tracker = tracker,
		.capture = capture,
	};
	int ret = dev_ioctl(fd, XBZRLE_IOC_REGISTER, &arg);

	if (out)
		*out = arg;
	return ret;
}

/**
 * dev_track - make memory of the caller a region, one way or the other
 * @fd: session
 * @name: of the region
 * @mem: private memory; where such cannot be registered, owned memory takes its
 *	place
 * @length: bytes
 *
 * Return: 0 or a negative errno.
 */
int dev_track(int fd, const char *name, void *mem, uint64_t length)
{
	void *made;
	int rfd;

	if (dev_has_pte())
		return dev_register(fd, name, mem, length, 0,
				    XBZRLE_TRACKER_AUTO, NULL);
	rfd = dev_create(fd, name, length, NULL);
	if (rfd < 0)
		return rfd;
	made = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, rfd, 0);
	close(rfd);
	if (made == MAP_FAILED)
		return -ENOMEM;
	memcpy(made, mem, length);
	return mremap(made, length, length, MREMAP_MAYMOVE | MREMAP_FIXED,
		      mem) == mem ? 0 : -errno;
}

/**
 * dev_mark - MARK_DIRTY
 * @fd: session
 * @id: of the region
 * @first: unit of the first bit
 * @nr: bits
 * @bitmap: the bits
 *
 * Return: 0 or a negative errno.
 */
int dev_mark(int fd, uint32_t id, uint64_t first, uint64_t nr,
	     const void *bitmap)
{
	struct xbzrle_mark_dirty arg = {
		.size = sizeof(arg),
		.region_id = id,
		.first_unit = first,
		.nr_units = nr,
		.bitmap = (uintptr_t)bitmap,
	};

	return dev_ioctl(fd, XBZRLE_IOC_MARK_DIRTY, &arg);
}

/**
 * dev_mark_units - MARK_DIRTY of units in a row
 * @fd: session
 * @id: of the region
 * @first: unit
 * @nr: how many
 *
 * Return: 0 or a negative errno.
 */
int dev_mark_units(int fd, uint32_t id, uint64_t first, uint64_t nr)
{
	const size_t bytes = (nr + 7) / 8;
	unsigned char *bitmap = malloc(bytes);
	int ret = -ENOMEM;

	if (bitmap) {
		memset(bitmap, 0xff, bytes);
		ret = dev_mark(fd, id, first, nr, bitmap);
	}
	free(bitmap);
	return ret;
}

/**
 * dev_unregister - UNREGISTER
 * @fd: session
 * @id: of the region
 *
 * Return: 0 or a negative errno.
 */
int dev_unregister(int fd, uint32_t id)
{
	struct xbzrle_unregister arg = {
		.size = sizeof(arg),
		.region_id = id,
	};

	return dev_ioctl(fd, XBZRLE_IOC_UNREGISTER, &arg);
}

/**
 * dev_set_cache - SET_CACHE
 * @fd: session
 * @bytes: budget
 *
 * Return: 0 or a negative errno.
 */
int dev_set_cache(int fd, uint64_t bytes)
{
	struct xbzrle_set_cache arg = {
		.size = sizeof(arg),
		.bytes = bytes,
	};

	return dev_ioctl(fd, XBZRLE_IOC_SET_CACHE, &arg);
}

/**
 * dev_sync - SYNC
 * @fd: session
 * @flags: XBZRLE_SYNC_*
 * @out: the struct as the kernel left it, may be NULL
 *
 * Return: 0 or a negative errno.
 */
int dev_sync(int fd, uint32_t flags, struct xbzrle_sync *out)
{
	struct xbzrle_sync arg = {
		.size = sizeof(arg),
		.flags = flags,
	};
	int ret = dev_ioctl(fd, XBZRLE_IOC_SYNC, &arg);

	if (out)
		*out = arg;
	return ret;
}

/**
 * dev_stats - GET_STATS
 * @fd: session
 * @stats: filled in
 *
 * Return: 0 or a negative errno.
 */
int dev_stats(int fd, struct xbzrle_stats *stats)
{
	memset(stats, 0, sizeof(*stats));
	stats->size = sizeof(*stats);
	return dev_ioctl(fd, XBZRLE_IOC_GET_STATS, stats);
}

/**
 * dev_poll - what poll() says now
 * @fd: session
 *
 * Return: revents or a negative errno.
 */
int dev_poll(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) < 0 ? -errno : p.revents;
}

/**
 * dev_read_round - read what is left of the round
 * @fd: session
 * @m: receiver that gets the bytes, may be NULL
 * @buffer: bytes to ask for with each read()
 *
 * Return: 0 or a negative errno; -EBADMSG if @m refuses the bytes.
 */
int dev_read_round(int fd, struct model *m, size_t buffer)
{
	void *bytes = malloc(buffer);
	ssize_t n;
	int ret = 0;

	while (!ret) {
		n = read(fd, bytes, buffer);
		if (n <= 0) {
			ret = n ? -errno : 0;
			break;
		}
		if (m)
			ret = model_feed(m, bytes, n);
	}
	free(bytes);
	return ret;
}

/**
 * dev_round - SYNC and read the whole round
 * @fd: session
 * @m: receiver that gets the bytes
 * @flags: XBZRLE_SYNC_*
 *
 * Return: 0 or a negative errno; -EBADMSG if @m refuses the bytes or they end
 * inside a round.
 */
int dev_round(int fd, struct model *m, uint32_t flags)
{
	int ret = dev_sync(fd, flags, NULL);

	if (!ret)
		ret = dev_read_round(fd, m, 64 * 1024);
	if (!ret && !model_idle(m))
		ret = -EBADMSG;
	return ret;
}

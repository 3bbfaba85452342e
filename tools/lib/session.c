// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* A session: the device's ioctls with their errors put into words. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "xbzrle.h"

struct xbzrle_session {
	int fd;
};

/**
 * xbzrle_open_fd() - use a session that is open already
 * @fd: open /dev/xbzrle, perhaps received from another process; closed by
 *	xbzrle_close()
 * @err: set on failure; the fd is then still the caller's
 *
 * Return: the session, or NULL.
 */
struct xbzrle_session *xbzrle_open_fd(int fd, struct xbzrle_error *err)
{
	struct xbzrle_session *session = malloc(sizeof(*session));
	struct xbzrle_info info;

	if (!session) {
		xbzrle_fail(err, ENOMEM, 0, "no memory for a session");
		return NULL;
	}

	session->fd = fd;
	if (xbzrle_info(session, &info, err))
		goto free_session;
	if (info.abi_version != XBZRLE_ABI_VERSION ||
	    info.unit_size != XBZRLE_UNIT_SIZE) {
		xbzrle_fail(err, EPROTO, 0,
			    "the module speaks ABI %u with units of %u bytes, this library ABI %u with %u",
			    info.abi_version, info.unit_size,
			    XBZRLE_ABI_VERSION, XBZRLE_UNIT_SIZE);
		goto free_session;
	}
	return session;

free_session:
	free(session);
	return NULL;
}

/**
 * xbzrle_open() - begin a session
 * @err: set on failure
 *
 * Return: the session, or NULL.
 */
struct xbzrle_session *xbzrle_open(struct xbzrle_error *err)
{
	int fd = open(XBZRLE_DEVICE, O_RDWR | O_CLOEXEC);
	struct xbzrle_session *session;

	if (fd < 0) {
		xbzrle_fail(err, errno, 0, "cannot open %s: %s%s",
			    XBZRLE_DEVICE, strerror(errno),
			    errno == ENOENT || errno == ENXIO ?
			    " (is the module loaded?)" : "");
		return NULL;
	}

	session = xbzrle_open_fd(fd, err);
	if (!session)
		close(fd);
	return session;
}

/**
 * xbzrle_close() - let go of a session
 * @session: session, or NULL
 *
 * Owned memory stays mapped; it is no longer tracked once every fd of the
 * session is closed.
 */
void xbzrle_close(struct xbzrle_session *session)
{
	if (!session)
		return;
	close(session->fd);
	free(session);
}

/**
 * xbzrle_session_fd() - the session's fd, for poll() and splice()
 * @session: session
 *
 * Return: the fd, which stays the session's.
 */
int xbzrle_session_fd(const struct xbzrle_session *session)
{
	return session->fd;
}

/**
 * xbzrle_info() - ask what the kernel can do
 * @session: session
 * @info: filled in
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int xbzrle_info(struct xbzrle_session *session, struct xbzrle_info *info,
		struct xbzrle_error *err)
{
	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	if (ioctl(session->fd, XBZRLE_IOC_GET_INFO, info))
		return xbzrle_fail(err, errno, 0, "GET_INFO: %s",
				   strerror(errno));
	return 0;
}

/**
 * xbzrle_create() - make a region of owned memory
 * @session: session
 * @name: the region's name in the stream, unique in the session
 * @length: bytes, a multiple of the page size
 * @flags: XBZRLE_CREATE_MAP or 0
 * @region: filled in; close @region->fd when no process is to map it any more
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int xbzrle_create(struct xbzrle_session *session, const char *name,
		  uint64_t length, unsigned int flags,
		  struct xbzrle_region *region, struct xbzrle_error *err)
{
	struct xbzrle_create arg = {
		.size = sizeof(arg),
		.length = length,
		.name = (uintptr_t)name,
		.name_len = strlen(name),
	};
	void *addr = NULL;
	int ret;

	if (flags & ~XBZRLE_CREATE_MAP)
		return xbzrle_fail(err, EINVAL, 0, "unknown flags %#x", flags);
	if (ioctl(session->fd, XBZRLE_IOC_CREATE, &arg))
		return xbzrle_fail(err, errno, 0, "cannot create region '%.64s': %s",
				   name, strerror(errno));

	if (flags & XBZRLE_CREATE_MAP) {
		addr = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED,
			    arg.fd, 0);
		if (addr == MAP_FAILED) {
			ret = xbzrle_fail(err, errno, 0,
					  "cannot map region '%.64s': %s", name,
					  strerror(errno));
			goto unregister;
		}
	}

	region->id = arg.region_id;
	region->fd = arg.fd;
	region->addr = addr;
	region->length = length;
	return 0;

unregister:
	close(arg.fd);
	xbzrle_unregister(session, arg.region_id, NULL);
	return ret;
}

/* Nothing sees what is written to memory that exists, whatever its kind. */
static bool lacks_pte(struct xbzrle_session *session)
{
	struct xbzrle_info info;

	return !xbzrle_info(session, &info, NULL) &&
	       !(info.features & XBZRLE_FEATURE_TRACKER_PTE);
}

/**
 * xbzrle_register() - track memory that exists
 * @session: session
 * @name: the region's name in the stream, unique in the session
 * @pid: owner of the memory, 0 for the caller
 * @addr: first address
 * @length: bytes
 * @tracker: XBZRLE_TRACKER_AUTO, or the one wanted
 * @region: filled in
 * @err: set on failure; @err->position is the address that was refused
 *
 * Return: 0 or a negative errno.
 */
int xbzrle_register(struct xbzrle_session *session, const char *name,
		    pid_t pid, uint64_t addr, uint64_t length,
		    enum xbzrle_tracker tracker, struct xbzrle_region *region,
		    struct xbzrle_error *err)
{
	struct xbzrle_register arg = {
		.size = sizeof(arg),
		.addr = addr,
		.length = length,
		.name = (uintptr_t)name,
		.name_len = strlen(name),
		.pid = pid,
		.tracker = tracker,
	};

	if (ioctl(session->fd, XBZRLE_IOC_REGISTER, &arg)) {
		if (errno == EOPNOTSUPP && tracker != XBZRLE_TRACKER_EXTERNAL &&
		    lacks_pte(session))
			return xbzrle_fail(err, EOPNOTSUPP, arg.error_addr,
					   "cannot register region '%.64s': this kernel cannot track private memory that exists already; use xbzrle_create(), xbzrle_adopt() or xbzrle_mark_dirty() (see CAVEATS in xbzrle(4))",
					   name);
		if (errno == EFAULT || errno == EOPNOTSUPP)
			return xbzrle_fail(err, errno, arg.error_addr,
					   "cannot register region '%.64s': %s at address %#llx",
					   name, errno == EFAULT ?
					   "nothing is mapped" :
					   "memory of this kind cannot be tracked",
					   (unsigned long long)arg.error_addr);
		return xbzrle_fail(err, errno, 0,
				   "cannot register region '%.64s': %s", name,
				   errno == ENOMEM &&
				   tracker != XBZRLE_TRACKER_PTE &&
				   tracker != XBZRLE_TRACKER_EXTERNAL ?
				   "no memory, or more than may be locked (see ulimit -l)" :
				   strerror(errno));
	}

	region->id = arg.region_id;
	region->fd = -1;
	region->addr = (void *)(uintptr_t)addr;
	region->length = length;
	return 0;
}

/**
 * xbzrle_adopt() - turn the caller's own private memory into owned memory
 * @session: session
 * @name: the region's name in the stream, unique in the session
 * @addr: first address, page-aligned, of private anonymous memory
 * @length: bytes, a multiple of the page size
 * @region: filled in; its address is @addr
 * @err: set on failure; the memory is then as it was, unless the kernel ran
 *	out of memory while it moved the mapping
 *
 * The content moves to a new region which then takes the place of the old
 * memory. Nobody may write to the range, or hold it pinned, during the call.
 * Zero pages become holes.
 *
 * Return: 0 or a negative errno.
 */
int xbzrle_adopt(struct xbzrle_session *session, const char *name, void *addr,
		 size_t length, struct xbzrle_region *region,
		 struct xbzrle_error *err)
{
	static const char zeros[XBZRLE_UNIT_SIZE];
	struct xbzrle_region made;
	size_t at;
	int ret;

	ret = xbzrle_create(session, name, length, XBZRLE_CREATE_MAP, &made,
			    err);
	if (ret)
		return ret;

	for (at = 0; at < length; at += XBZRLE_UNIT_SIZE) {
		if (memcmp((char *)addr + at, zeros, XBZRLE_UNIT_SIZE))
			memcpy((char *)made.addr + at, (char *)addr + at,
			       XBZRLE_UNIT_SIZE);
	}

	if (mremap(made.addr, length, length, MREMAP_MAYMOVE | MREMAP_FIXED,
		   addr) == MAP_FAILED) {
		ret = xbzrle_fail(err, errno, (uintptr_t)addr,
				  "cannot move region '%.64s' to %p: %s", name,
				  addr, strerror(errno));
		goto destroy;
	}
	made.addr = addr;
	*region = made;
	return 0;

destroy:
	munmap(made.addr, length);
	close(made.fd);
	xbzrle_unregister(session, made.id, NULL);
	return ret;
}

/**
 * xbzrle_unregister() - drop a region
 * @session: session
 * @region_id: as create, register or adopt gave it
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int xbzrle_unregister(struct xbzrle_session *session, uint32_t region_id,
		      struct xbzrle_error *err)
{
	struct xbzrle_unregister arg = {
		.size = sizeof(arg),
		.region_id = region_id,
	};

	if (ioctl(session->fd, XBZRLE_IOC_UNREGISTER, &arg))
		return xbzrle_fail(err, errno, 0,
				   "cannot unregister region %u: %s",
				   region_id, strerror(errno));
	return 0;
}

/**
 * xbzrle_set_cache() - set the budget for bases
 * @session: session
 * @bytes: budget
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int xbzrle_set_cache(struct xbzrle_session *session, uint64_t bytes,
		     struct xbzrle_error *err)
{
	struct xbzrle_set_cache arg = {
		.size = sizeof(arg),
		.bytes = bytes,
	};

	if (ioctl(session->fd, XBZRLE_IOC_SET_CACHE, &arg))
		return xbzrle_fail(err, errno, 0,
				   "cannot set a cache of %llu bytes: %s",
				   (unsigned long long)bytes,
				   errno == ENOMEM ?
				   "more than may be locked (see ulimit -l)" :
				   strerror(errno));
	return 0;
}

/**
 * xbzrle_sync() - start a round
 * @session: session
 * @flags: XBZRLE_SYNC_* bits
 * @sync: filled in
 * @err: set on failure; @err->region is the region that ended, if one did,
 *	and @err->position the address
 *
 * Return: 0 or a negative errno.
 */
int xbzrle_sync(struct xbzrle_session *session, unsigned int flags,
		struct xbzrle_sync *sync, struct xbzrle_error *err)
{
	int ret;

	memset(sync, 0, sizeof(*sync));
	sync->size = sizeof(*sync);
	sync->flags = flags;
	if (!ioctl(session->fd, XBZRLE_IOC_SYNC, sync))
		return 0;

	if (errno == EFAULT || errno == EOPNOTSUPP || errno == ESRCH) {
		ret = xbzrle_fail(err, errno, sync->error_addr,
				  "region %u has ended at address %#llx: %s",
				  sync->error_region,
				  (unsigned long long)sync->error_addr,
				  errno == EFAULT ? "unmapped" :
				  errno == ESRCH ? "the process is gone" :
				  "it can no longer be tracked");
		if (err)
			err->region = sync->error_region;
		return ret;
	}
	return xbzrle_fail(err, errno, 0, "cannot start a round: %s",
			   errno == ENOSPC && flags & XBZRLE_SYNC_POINT_IN_TIME ?
			   "what has to be kept for it does not fit the cache" :
			   strerror(errno));
}

/**
 * xbzrle_mark_dirty() - say what was written, for the next round
 * @session: session
 * @region_id: as create, register or adopt gave it
 * @first_unit: the unit of the region that the first bit stands for
 * @nr_units: bits in @bitmap
 * @bitmap: bit n is bit n % 8 of byte n / 8, as KVM_GET_DIRTY_LOG gives it
 * @err: set on failure; a part of the units may then be marked
 *
 * Return: 0 or a negative errno.
 */
int xbzrle_mark_dirty(struct xbzrle_session *session, uint32_t region_id,
		      uint64_t first_unit, uint64_t nr_units,
		      const void *bitmap, struct xbzrle_error *err)
{
	struct xbzrle_mark_dirty arg = {
		.size = sizeof(arg),
		.region_id = region_id,
		.first_unit = first_unit,
		.nr_units = nr_units,
		.bitmap = (uintptr_t)bitmap,
	};

	if (ioctl(session->fd, XBZRLE_IOC_MARK_DIRTY, &arg))
		return xbzrle_fail(err, errno, 0,
				   "cannot mark pages of region %u: %s",
				   region_id, strerror(errno));
	return 0;
}

/**
 * xbzrle_stats() - read the session's counters
 * @session: session
 * @stats: filled in
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int xbzrle_stats(struct xbzrle_session *session, struct xbzrle_stats *stats,
		 struct xbzrle_error *err)
{
	memset(stats, 0, sizeof(*stats));
	stats->size = sizeof(*stats);
	if (ioctl(session->fd, XBZRLE_IOC_GET_STATS, stats))
		return xbzrle_fail(err, errno, 0, "GET_STATS: %s",
				   strerror(errno));
	return 0;
}

/**
 * xbzrle_read() - take bytes of the running round
 * @session: session
 * @buf: where to
 * @length: room there
 * @err: set on failure
 *
 * Return: bytes taken, 0 at the end of the round, or a negative errno.
 */
ssize_t xbzrle_read(struct xbzrle_session *session, void *buf, size_t length,
		    struct xbzrle_error *err)
{
	ssize_t taken = read(session->fd, buf, length);

	if (taken < 0)
		return xbzrle_fail(err, errno, 0, "cannot read the round: %s",
				   strerror(errno));
	return taken;
}

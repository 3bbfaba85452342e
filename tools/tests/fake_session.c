// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "fake_session.h"
#include "wire_build.h"

#define REGIONS	4096

struct region {
	bool present;
	bool announced;		/* a setup section had it */
	pid_t pid;
	uint64_t addr, length;
	char name[XBZRLE_NAME_MAX + 1];
};

struct xbzrle_session {
	struct region regions[REGIONS];
	uint32_t count;
	unsigned int rounds;
	bool hidden;		/* the next look at fdinfo is in vain */
	struct build stream;
	size_t taken;
};

struct escaped {
	char text[4 * XBZRLE_NAME_MAX + 1];
};

static struct escaped escape(const char *name)
{
	struct escaped escaped;
	char *at = escaped.text;

	for (; *name; name++) {
		if (*name == '\\')
			at += sprintf(at, "\\\\");
		else if (*name == '\n')
			at += sprintf(at, "\\n");
		else if (*name < ' ' || *name > '~')
			at += sprintf(at, "\\%03o", (unsigned char)*name);
		else
			*at++ = *name;
	}
	*at = '\0';
	return escaped;
}

struct fake fake;
/* What fdinfo shows. */
static struct xbzrle_session *shown;

/* The linker has the tool call these in place of what they wrap. */
FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);

/* As the module shows it, docs/uapi.md says how. */
FILE *__wrap_fopen(const char *path, const char *mode)
{
	FILE *file;
	uint32_t i;

	if (!shown || strncmp(path, "/proc/self/fdinfo/", 18))
		return __real_fopen(path, mode);
	file = tmpfile();
	if (!file)
		return NULL;
	/* At first a signal keeps it from more than what all have. */
	fprintf(file, "pos:\t0\nflags:\t02\n");
	if (shown->hidden) {
		shown->hidden = false;
		rewind(file);
		return file;
	}
	fprintf(file, "round:\t%u\nreading:\t%d\ncache:\t0 of 0 pages\n",
		shown->rounds, shown->taken < shown->stream.length);
	for (i = 0; i < shown->count; i++) {
		if (shown->regions[i].present)
			fprintf(file, "region:\t%u tracker 2 pages 1 pending 0 name %s\n",
				i + 1, escape(shown->regions[i].name).text);
	}
	rewind(file);
	return file;
}

struct xbzrle_session *xbzrle_open(struct xbzrle_error *err)
{
	(void)err;
	return calloc(1, sizeof(struct xbzrle_session));
}

struct xbzrle_session *xbzrle_open_fd(int fd, struct xbzrle_error *err)
{
	struct xbzrle_session *session = xbzrle_open(err);

	(void)fd;
	if (!session)
		return NULL;
	shown = session;
	session->hidden = true;
	if (fake.on_open)
		fake.on_open(session);
	return session;
}

int xbzrle_session_fd(const struct xbzrle_session *session)
{
	(void)session;
	return 0;
}

void xbzrle_close(struct xbzrle_session *session)
{
	shown = NULL;
	build_free(&session->stream);
	free(session);
}

int xbzrle_info(struct xbzrle_session *session, struct xbzrle_info *info,
		struct xbzrle_error *err)
{
	(void)session;
	(void)err;
	*info = (struct xbzrle_info){
		.features = XBZRLE_FEATURE_POINT_IN_TIME |
			(fake.external ? XBZRLE_FEATURE_TRACKER_EXTERNAL :
			 XBZRLE_FEATURE_TRACKER_PTE),
		.max_regions = REGIONS,
	};
	return 0;
}

int xbzrle_set_cache(struct xbzrle_session *session, uint64_t bytes,
		     struct xbzrle_error *err)
{
	(void)session;
	(void)bytes;
	(void)err;
	return 0;
}

int xbzrle_mark_dirty(struct xbzrle_session *session, uint32_t region_id,
		      uint64_t first_unit, uint64_t nr_units,
		      const void *bitmap, struct xbzrle_error *err)
{
	(void)session;
	(void)region_id;
	(void)first_unit;
	(void)nr_units;
	(void)bitmap;
	/* Each round has all. */
	if (fake.external)
		return 0;
	return xbzrle_fail(err, EOPNOTSUPP, 0, "no marks here");
}

int xbzrle_register(struct xbzrle_session *session, const char *name,
		    pid_t pid, uint64_t addr, uint64_t length,
		    enum xbzrle_tracker tracker, struct xbzrle_region *region,
		    struct xbzrle_error *err)
{
	struct region *new = &session->regions[session->count];

	(void)tracker;
	if (fake.on_interrupt) {
		fake.on_interrupt();
		fake.on_interrupt = NULL;
		return xbzrle_fail(err, EINTR, 0, "interrupted");
	}
	if (fake.register_error)
		return xbzrle_fail(err, fake.register_error, 0,
				   "cannot register region '%s': %s", name,
				   strerror(fake.register_error));
	if (session->count == REGIONS)
		return xbzrle_fail(err, ENOSPC, 0, "too many regions");
	*new = (struct region){
		.present = true,
		.pid = pid,
		.addr = addr,
		.length = length,
	};
	strncpy(new->name, name, XBZRLE_NAME_MAX);
	region->id = ++session->count;
	if (fake.on_register)
		fake.on_register(session->count - 1);
	return 0;
}

int xbzrle_unregister(struct xbzrle_session *session, uint32_t region_id,
		      struct xbzrle_error *err)
{
	(void)err;
	session->regions[region_id - 1].present = false;
	return 0;
}

static bool read_unit(const struct region *region, uint64_t at, void *page)
{
	struct iovec to = { page, BUILD_UNIT };
	struct iovec from = { (void *)(uintptr_t)(region->addr + at),
			      BUILD_UNIT };

	return process_vm_readv(region->pid, &to, 1, &from, 1, 0) ==
		BUILD_UNIT;
}

/* As the module does, it tells of one region that has ended at a time. */
static int find_ended(const struct xbzrle_session *session,
		      struct xbzrle_error *err)
{
	uint8_t page[BUILD_UNIT];
	uint64_t at;
	uint32_t i;

	for (i = 0; i < session->count; i++) {
		const struct region *region = &session->regions[i];

		for (at = 0; region->present && at < region->length;
		     at += BUILD_UNIT) {
			if (read_unit(region, at, page))
				continue;
			xbzrle_fail(err, errno == ESRCH ? ESRCH : EFAULT, 0,
				    "region %u has ended", i + 1);
			err->region = i + 1;
			return -err->code;
		}
	}
	return 0;
}

static void add_region(struct build *stream, const struct region *region)
{
	uint8_t page[BUILD_UNIT] = {};
	uint64_t at;

	for (at = 0; at < region->length; at += BUILD_UNIT) {
		read_unit(region, at, page);
		build_page(stream, region->name, at, 0);
		memcpy(stream->bytes + stream->length - BUILD_UNIT, page,
		       BUILD_UNIT);
	}
}

static uint32_t count_present(const struct xbzrle_session *session)
{
	uint32_t i, present = 0;

	for (i = 0; i < session->count; i++)
		present += session->regions[i].present;
	return present;
}

/* As in the module, not for a region that is there no more. */
static bool setup_is_due(const struct xbzrle_session *session)
{
	uint32_t i;

	for (i = 0; i < session->count; i++) {
		if (session->regions[i].present &&
		    !session->regions[i].announced)
			return true;
	}
	return false;
}

static void add_setup(struct xbzrle_session *session, struct build *stream)
{
	struct region *region = session->regions;
	uint64_t total = 0;

	for (; region < session->regions + session->count; region++)
		total += region->present ? region->length : 0;
	build_setup(stream, total);
	for (region = session->regions;
	     region < session->regions + session->count; region++) {
		if (!region->present)
			continue;
		build_block(stream, region->name, region->length);
		region->announced = true;
	}
	build_eos(stream);
}

int xbzrle_sync(struct xbzrle_session *session, unsigned int flags,
		struct xbzrle_sync *sync, struct xbzrle_error *err)
{
	struct build *stream = &session->stream;
	uint32_t i;
	int ret;

	if (fake.on_sync)
		fake.on_sync(session->rounds);
	if (fake.sync_error && session->rounds)
		return xbzrle_fail(err, fake.sync_error, 0,
				   "cannot start a round: %s",
				   strerror(fake.sync_error));
	ret = find_ended(session, err);
	if (ret)
		return ret;
	if (session->taken < stream->length)
		return xbzrle_fail(err, EBUSY, 0, "a round is not read yet");
	if (!count_present(session))
		return xbzrle_fail(err, EINVAL, 0, "there is no region");
	stream->length = 0;
	session->taken = 0;
	if (flags & XBZRLE_SYNC_FULL || setup_is_due(session))
		add_setup(session, stream);
	for (i = 0; i < session->count; i++) {
		if (session->regions[i].present)
			add_region(stream, &session->regions[i]);
	}
	build_eos(stream);
	*sync = (struct xbzrle_sync){ .round = ++session->rounds };
	return 0;
}

ssize_t xbzrle_read(struct xbzrle_session *session, void *buf, size_t length,
		    struct xbzrle_error *err)
{
	size_t left = session->stream.length - session->taken;
	int error = fake.read_error;

	if (error) {
		fake.read_error = 0;
		return xbzrle_fail(err, error, 0, "cannot read the round: %s",
				   strerror(error));
	}
	if (fake.busy) {
		fake.busy--;
		return xbzrle_fail(err, EAGAIN, 0, "the session is busy");
	}
	if (length > left)
		length = left;
	/* Before the first round there are no bytes at all. */
	if (length)
		memcpy(buf, session->stream.bytes + session->taken, length);
	session->taken += length;
	if (!length && fake.on_end)
		fake.on_end(session->rounds);
	return length;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#define _GNU_SOURCE
#include <errno.h>
#include <error.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kinds.h"
#include "session.h"
#include "tracked.h"

const struct mode modes[NR_MODES] = {
	{ "pre-image, owned",
	  XBZRLE_FEATURE_TRACKER_OWNED | XBZRLE_FEATURE_CAPTURE_PREIMAGE,
	  XBZRLE_TRACKER_OWNED, XBZRLE_CAPTURE_PREIMAGE },
	{ "freeze, pte",
	  XBZRLE_FEATURE_TRACKER_PTE | XBZRLE_FEATURE_CAPTURE_FREEZE,
	  XBZRLE_TRACKER_PTE, XBZRLE_CAPTURE_FREEZE },
	{ "copy, owned",
	  XBZRLE_FEATURE_TRACKER_OWNED | XBZRLE_FEATURE_CAPTURE_COPY,
	  XBZRLE_TRACKER_OWNED, XBZRLE_CAPTURE_COPY },
	{ "copy, pte",
	  XBZRLE_FEATURE_TRACKER_PTE | XBZRLE_FEATURE_CAPTURE_COPY,
	  XBZRLE_TRACKER_PTE, XBZRLE_CAPTURE_COPY },
	{ "copy, mapping",
	  XBZRLE_FEATURE_TRACKER_MAPPING | XBZRLE_FEATURE_CAPTURE_COPY,
	  XBZRLE_TRACKER_MAPPING, XBZRLE_CAPTURE_COPY },
	{ "copy, external",
	  XBZRLE_FEATURE_TRACKER_EXTERNAL | XBZRLE_FEATURE_CAPTURE_COPY,
	  XBZRLE_TRACKER_EXTERNAL, XBZRLE_CAPTURE_COPY },
};

/**
 * mode_works() - does the module have it?
 * @mode: mode
 *
 * Return: Whether all its features are there.
 */
bool mode_works(const struct mode *mode)
{
	return !(mode->features & ~session_features());
}

static int create(struct tracked *tracked, uint64_t length)
{
	struct xbzrle_create create = {
		.size = sizeof(create), .length = length,
		.name = (uintptr_t)"memory", .name_len = 6,
		.capture = tracked->mode->capture,
	};

	if (ioctl(tracked->session, XBZRLE_IOC_CREATE, &create))
		error(1, errno, "CREATE");
	tracked->region = create.region_id;
	return create.fd;
}

static int make_file(uint64_t length)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, length))
		error(1, errno, "memfd");
	return fd;
}

static void attach(struct tracked *tracked, uint64_t length)
{
	struct xbzrle_register reg = {
		.size = sizeof(reg), .length = length,
		.addr = (uintptr_t)tracked->writer.memory,
		.name = (uintptr_t)"memory", .name_len = 6,
		.pid = tracked->writer.pid,
		.tracker = tracked->mode->tracker,
		.capture = tracked->mode->capture,
	};

	if (ioctl(tracked->session, XBZRLE_IOC_REGISTER, &reg))
		error(1, errno, "REGISTER");
	tracked->region = reg.region_id;
}

/**
 * tracked_begin() - have a writer, and a session that tracks its memory
 * @tracked: filled in
 * @mode: how it is tracked
 * @length: bytes of memory
 * @budget: bytes for bases
 *
 * The first round is over, which had all of the memory.
 */
void tracked_begin(struct tracked *tracked, const struct mode *mode,
		   uint64_t length, uint64_t budget)
{
	struct writer_memory memory = { .length = length, .fd = -1 };

	tracked->mode = mode;
	tracked->session = session_open(budget);
	tracked->units = length / PAGE_BYTES;
	tracked->bitmap = calloc(tracked->units / 8 + 1, 1);
	if (!tracked->bitmap)
		error(1, 0, "out of memory");
	if (mode->tracker == XBZRLE_TRACKER_OWNED)
		memory.fd = create(tracked, length);
	else if (mode->tracker == XBZRLE_TRACKER_MAPPING)
		memory.fd = make_file(length);
	writer_start(&tracked->writer, &memory);
	if (mode->tracker != XBZRLE_TRACKER_OWNED)
		attach(tracked, length);
	if (memory.fd >= 0)
		close(memory.fd);
	session_sync(tracked->session, 0);
	session_read(tracked->session);
}

/**
 * tracked_set_pages() - say what is written in a pass
 * @tracked: session, whose writer is stopped
 * @pages: indices of the pages
 * @nr: how many
 * @kind: as for writer_set_pages()
 */
void tracked_set_pages(struct tracked *tracked, const uint32_t *pages,
		       uint32_t nr, const struct kind *kind)
{
	uint32_t i;

	memset(tracked->bitmap, 0, tracked->units / 8 + 1);
	for (i = 0; i < nr; i++)
		tracked->bitmap[pages[i] / 8] |= 1 << pages[i] % 8;
	writer_set_pages(&tracked->writer, pages, nr, kind);
}

static void mark(const struct tracked *tracked)
{
	struct xbzrle_mark_dirty mark = {
		.size = sizeof(mark), .region_id = tracked->region,
		.nr_units = tracked->units,
		.bitmap = (uintptr_t)tracked->bitmap,
	};

	if (ioctl(tracked->session, XBZRLE_IOC_MARK_DIRTY, &mark))
		error(1, errno, "MARK_DIRTY");
}

/**
 * tracked_sync() - begin a round
 * @tracked: session
 * @flags: XBZRLE_SYNC_* bits
 *
 * What nobody sees being written is marked first.
 *
 * Return: How many pages the round looks at.
 */
uint64_t tracked_sync(struct tracked *tracked, uint32_t flags)
{
	if (tracked->mode->tracker == XBZRLE_TRACKER_EXTERNAL)
		mark(tracked);
	return session_sync(tracked->session, flags);
}

/**
 * tracked_end() - end the session and the writer
 * @tracked: session, whose writer is stopped
 */
void tracked_end(struct tracked *tracked)
{
	close(tracked->session);
	writer_end(&tracked->writer);
	free(tracked->bitmap);
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* What an administrator sees: the node, fdinfo, the tracepoints. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "device.h"
#include "mm.h"

#include "harness.h"

#define TRACING		"/sys/kernel/tracing/"
#define PAGES		8U
#define LENGTH		(PAGES * UNIT)

FIXTURE(observe)
{
	int fd;
	int rfd;
	uint32_t id;
	unsigned char *mem;
	struct model *model;
	char text[1 << 16];
};

FIXTURE_SETUP(observe)
{
	self->fd = dev_open();
	ASSERT_LE(0, self->fd);
	self->rfd = dev_create(self->fd, "two\nlines", LENGTH, &self->id);
	ASSERT_LE(0, self->rfd);
	self->mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED,
			 self->rfd, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	self->model = model_new();
	ASSERT_NE(NULL, self->model);
}

FIXTURE_TEARDOWN(observe)
{
	mm_write_file(TRACING "events/xbzrle/enable", "0");
	model_free(self->model);
	munmap(self->mem, LENGTH);
	close(self->rfd);
	close(self->fd);
}

TEST_F(observe, node_is_for_root_alone)
{
	struct stat st;

	ASSERT_EQ(0, stat(DEVICE, &st));
	EXPECT_EQ(S_IFCHR | 0600, st.st_mode);
	EXPECT_EQ(0, st.st_uid);
}

TEST_F(observe, fdinfo_lists_the_regions)
{
	struct xbzrle_sync sync;
	char path[64];

	memset(self->mem, 1, 3 * UNIT);
	ASSERT_EQ(0, dev_sync(self->fd, 0, &sync));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", self->fd);
	ASSERT_EQ(0, mm_read_file(path, self->text, sizeof(self->text)));
	EXPECT_NE(NULL, strstr(self->text, "round:\t1\n"));
	EXPECT_NE(NULL, strstr(self->text, "reading:\t1\n"));
	/* A name is bytes; the file has lines. */
	EXPECT_NE(NULL, strstr(self->text, "pages 8 pending 3 name two\\nlines"));
}

TEST_F(observe, fdinfo_counts_what_is_held_for_a_round)
{
	struct xbzrle_sync sync;
	char path[64];

	ASSERT_EQ(0, dev_set_cache(self->fd, PAGES * UNIT));
	memset(self->mem, 1, 3 * UNIT);
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	/* Two bases, and one content that the round is to have. */
	memset(self->mem, 2, 2 * UNIT);
	ASSERT_EQ(0, dev_sync(self->fd, XBZRLE_SYNC_POINT_IN_TIME, &sync));
	memset(self->mem, 3, UNIT);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", self->fd);
	ASSERT_EQ(0, mm_read_file(path, self->text, sizeof(self->text)));
	EXPECT_NE(NULL, strstr(self->text, "cache:\t3 of 8 pages\n"));
}

TEST_F(observe, tracepoints_tell_of_a_round)
{
	unsigned int i;

	ASSERT_EQ(0, dev_set_cache(self->fd, 2 * UNIT));
	ASSERT_EQ(0, mm_write_file(TRACING "trace", ""));
	ASSERT_EQ(0, mm_write_file(TRACING "events/xbzrle/enable", "1"));
	for (i = 0; i < 2 * PAGES; i++) {
		/* The later pages are in more rounds and take over. */
		memset(self->mem + i % PAGES * UNIT, i + 1, UNIT);
		memset(self->mem + LENGTH - 2 * UNIT, i + 100, 2 * UNIT);
		ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	}
	mm_write_file(TRACING "events/xbzrle/enable", "0");
	ASSERT_EQ(0, mm_read_file(TRACING "trace", self->text,
				  sizeof(self->text)));
	EXPECT_NE(NULL, strstr(self->text, "xbzrle_harvest: region=1"));
	EXPECT_NE(NULL, strstr(self->text,
			       "unit=0 based=0 bytes=4114"));
	EXPECT_NE(NULL, strstr(self->text, "based=1"));
	EXPECT_NE(NULL, strstr(self->text, "xbzrle_evict: key="));
}

TEST_HARNESS_MAIN

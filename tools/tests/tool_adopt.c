// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * xbzrle_adopt() in the VM: memory keeps its content and its address, is
 * tracked from then on, and stays as it was when it cannot be adopted. Prints
 * TAP. usage: tool_adopt
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xbzrle.h>

#define PAGE	4096UL
#define PAGES	64
#define SIZE	(PAGES * PAGE)
#define HOLE	17	/* this page is never touched */

static struct xbzrle_error error;
static int count, failed;

static void result(bool good, const char *name)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++count, name);
	if (good)
		return;
	printf("# %s\n", error.message);
	failed = 1;
}

static uint8_t *map_private(size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void fill(uint8_t *memory)
{
	size_t i;

	for (i = 0; i < PAGES; i++) {
		if (i != HOLE)
			memset(memory + i * PAGE, i + 1, PAGE);
	}
}

/* Reads a round into @image, whose region is at @copy. */
static bool receive_round(struct xbzrle_session *session,
			  struct xbzrle_wire *wire, struct xbzrle_image *image,
			  uint8_t *copy, struct xbzrle_sync *sync)
{
	static char buffer[1 << 16];
	struct xbzrle_record record;
	ssize_t got;
	int ret = 0;

	if (xbzrle_sync(session, 0, sync, &error))
		return false;
	while ((got = xbzrle_read(session, buffer, sizeof(buffer), &error)) > 0) {
		xbzrle_wire_feed(wire, buffer, got);
		while ((ret = xbzrle_wire_next(wire, &record, &error)) > 0) {
			if (record.kind == XBZRLE_RECORD_BLOCK && record.fresh)
				ret = xbzrle_image_add_memory(image,
							      record.region,
							      copy,
							      record.length,
							      &error);
			else
				ret = xbzrle_image_apply(image, &record,
							 &error);
			if (ret)
				return false;
		}
		if (ret)
			return false;
	}
	return !got;
}

int main(void)
{
	struct xbzrle_session *session = xbzrle_open(&error);
	struct xbzrle_image *image = xbzrle_image_new(-1, &error);
	struct xbzrle_wire *wire = xbzrle_wire_new(&error);
	uint8_t *memory = map_private(SIZE), *copy = map_private(SIZE);
	uint8_t *before = malloc(SIZE);
	struct xbzrle_region region;
	struct xbzrle_sync sync;
	int ret;

	if (!session || !image || !wire || memory == MAP_FAILED ||
	    copy == MAP_FAILED || !before) {
		printf("Bail out! %s\n", error.message);
		return 1;
	}
	xbzrle_set_cache(session, SIZE, NULL);
	fill(memory);
	memcpy(before, memory, SIZE);

	/* The kernel finds out at the very end that it cannot be moved there. */
	ret = xbzrle_adopt(session, "table", memory + 8, SIZE - PAGE, &region,
			   &error);
	result(ret == -EINVAL && !memcmp(memory, before, SIZE),
	       "an address inside a page is refused, the memory as it was");
	ret = xbzrle_adopt(session, "table", memory, SIZE - 8, &region, &error);
	result(ret == -EINVAL && !memcmp(memory, before, SIZE),
	       "half a page is refused, the memory as it was");

	ret = xbzrle_adopt(session, "table", memory, SIZE, &region, &error);
	result(!ret && region.addr == memory && region.length == SIZE,
	       "memory is adopted where it is");
	if (ret)
		return 1;
	result(!memcmp(memory, before, SIZE), "its content stays");
	ret = xbzrle_adopt(session, "table", copy, SIZE, &region, &error);
	result(ret == -EBUSY, "a name that is taken is refused");

	result(receive_round(session, wire, image, copy, &sync) &&
	       !memcmp(copy, memory, SIZE), "the first round has all of it");
	memory[3 * PAGE + 5] ^= 0x55;
	memory[HOLE * PAGE] = 1;
	result(receive_round(session, wire, image, copy, &sync) &&
	       sync.dirty_pages == 2 && !memcmp(copy, memory, SIZE),
	       "the second round has what was written since");

	xbzrle_image_free(image);
	xbzrle_wire_free(wire);
	xbzrle_close(session);
	memory[0] ^= 1;
	result(memory[0] == (before[0] ^ 1) && memory[PAGE] == before[PAGE],
	       "the memory outlives the session");
	printf("1..%d\n", count);
	return failed;
}

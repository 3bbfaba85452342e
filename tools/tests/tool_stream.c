// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The device's stream as a file, for the tests between architectures:
 * usage: tool_stream record DIR	DIR/stream, and DIR/REGION.img with what
 *					the memory held in the end
 *        tool_stream apply STREAM DIR	DIR/REGION.img as the stream makes it
 * Every machine records the same writes, so the streams are equal as well.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xbzrle.h>

#define PAGE		4096UL
#define PAGES		512UL
#define SIZE		(PAGES * PAGE)
#define ROUNDS		6

enum { OWNED, PRIVATE, REGIONS };
static const char * const names[REGIONS] = { "owned", "private" };
static struct xbzrle_error error;

static void die(const char *what)
{
	fprintf(stderr, "tool_stream: %s: %s\n", what,
		error.code ? error.message : "failed");
	exit(1);
}

static void write_all(int fd, const void *data, size_t length)
{
	const char *at = data;
	ssize_t done;

	while (length) {
		done = write(fd, at, length);
		if (done <= 0)
			die("write");
		at += done;
		length -= done;
	}
}

static int create(const char *dir, const char *name)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		die(path);
	return fd;
}

static void store(const char *dir, const char *name, const void *memory)
{
	char file[32];
	int fd;

	snprintf(file, sizeof(file), "%s.img", name);
	fd = create(dir, file);
	write_all(fd, memory, SIZE);
	close(fd);
}

static void *map(void)
{
	void *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	return memory;
}

static uint32_t draw(void)
{
	static uint32_t seed = 1;

	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

/*
 * Byte by byte, the same everywhere. No page is overwritten with noise in two
 * rounds: the kernel would send it whole for a while, and then a page that it
 * takes for dirty without a reason would be sent once more.
 */
static void write_round(uint8_t *memory, unsigned int round)
{
	unsigned long page, i;
	uint8_t value;

	for (page = 0; page < PAGES - 16; page++) {
		uint8_t *at = memory + page * PAGE;

		switch ((page + round) % 8) {
		case 0:
			for (i = draw() % 40 + 1; i; i--)
				at[draw() % PAGE]++;
			break;
		case 1:
			for (i = draw() % 64; i < PAGE; i += 64 + draw() % 64)
				at[i] ^= 0x81;
			break;
		case 2:
			i = draw() % PAGE;
			value = draw();
			memset(at + i, value, draw() % (PAGE - i));
			break;
		case 3:
			if (page / 8 % 16 == round)
				memset(at, 0, PAGE);
			break;
		case 4:
			if (page / 8 % 16 != round + 8)
				break;
			for (i = 0; i < PAGE; i++)
				at[i] = draw();
			break;
		}
	}
}

static void record_round(struct xbzrle_session *session, int fd, bool final)
{
	static char buffer[1 << 16];
	struct xbzrle_sync sync;
	ssize_t got;

	if (xbzrle_sync(session, final ? XBZRLE_SYNC_FINAL : 0, &sync, &error))
		die("sync");
	while ((got = xbzrle_read(session, buffer, sizeof(buffer), &error)) > 0)
		write_all(fd, buffer, got);
	if (got < 0)
		die("read");
}

static void record(const char *dir)
{
	struct xbzrle_session *session = xbzrle_open(&error);
	struct xbzrle_region regions[REGIONS];
	unsigned int round, i;
	void *private = map();
	int stream;

	if (!session ||
	    xbzrle_set_cache(session, REGIONS * SIZE, &error) ||
	    xbzrle_create(session, names[OWNED], SIZE, XBZRLE_CREATE_MAP,
			  &regions[OWNED], &error) ||
	    xbzrle_register(session, names[PRIVATE], 0, (uintptr_t)private,
			    SIZE, XBZRLE_TRACKER_AUTO, &regions[PRIVATE],
			    &error))
		die("session");
	regions[PRIVATE].addr = private;

	stream = create(dir, "stream");
	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < REGIONS; i++)
			write_round(regions[i].addr, round);
		record_round(session, stream, round == ROUNDS - 1);
	}
	for (i = 0; i < REGIONS; i++)
		store(dir, names[i], regions[i].addr);
	close(stream);
	xbzrle_close(session);
}

static void apply(const char *stream, const char *dir)
{
	struct xbzrle_wire *wire = xbzrle_wire_new(&error);
	struct xbzrle_image *image = xbzrle_image_new(-1, &error);
	static char buffer[1 << 16];
	struct xbzrle_record record;
	void *memory[REGIONS];
	unsigned int i;
	ssize_t got = 0;
	int in, ret = 0;

	for (i = 0; i < REGIONS; i++)
		memory[i] = map();
	in = open(stream, O_RDONLY | O_CLOEXEC);
	if (!wire || !image || in < 0)
		die(stream);
	while (!ret && (got = read(in, buffer, sizeof(buffer))) > 0) {
		xbzrle_wire_feed(wire, buffer, got);
		while ((ret = xbzrle_wire_next(wire, &record, &error)) > 0) {
			unsigned int region = record.region;

			if (record.kind != XBZRLE_RECORD_BLOCK)
				ret = xbzrle_image_apply(image, &record,
							 &error);
			else if (region < REGIONS)
				ret = xbzrle_image_add_memory(image, region,
							      memory[region],
							      record.length,
							      &error);
			if (ret)
				die("apply");
		}
	}
	if (ret || got < 0 || xbzrle_wire_end(wire, &error))
		die(stream);
	for (i = 0; i < REGIONS; i++)
		store(dir, names[i], memory[i]);
	xbzrle_image_free(image);
	xbzrle_wire_free(wire);
	close(in);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "record"))
		record(argv[2]);
	else if (argc == 4 && !strcmp(argv[1], "apply"))
		apply(argv[2], argv[3]);
	else
		return 2;
	return 0;
}

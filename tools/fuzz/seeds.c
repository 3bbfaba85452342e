// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Inputs to begin with, most of them right: DIR/TARGET/NAME.
 * usage: seeds DIR
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <xxhash.h>

#include "../tests/chain_build.h"
#include "../tests/wire_build.h"

#define UNIT	BUILD_UNIT

/* As docs/transport.md numbers them. */
enum {
	HELLO = 1,
	REGION,
	DATA,
	ROUND,
	ACK,
	DROP,
	DIGEST,
	END,
	VERDICT,
	ERROR,
};

static const char *top;
static struct build out, payload, stream;

/* Writes what is in @out, and empties it. */
static void save(const char *target, const char *name)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", top, target);
	mkdir(path, 0777);
	snprintf(path, sizeof(path), "%s/%s/%s", top, target, name);
	file = fopen(path, "w");
	if (!file || fwrite(out.bytes, 1, out.length, file) != out.length ||
	    fclose(file)) {
		perror(path);
		exit(1);
	}
	out.length = 0;
}

static void save_delta(const char *name, unsigned int len, const void *delta,
		       size_t length)
{
	build_be16(&out, len - 1);
	build_bytes(&out, delta, length);
	save("decode", name);
}

static void deltas(void)
{
	uint8_t whole[4 + UNIT] = { 0x00, 0x80, 0x20 };

	save_delta("byte", UNIT, "\5\1\x99", 3);
	save_delta("runs", UNIT, "\0\1a\1\1b\2\2cd\x7f\1e\xff\1\1f", 16);
	save_delta("long-lengths", UNIT, "\x83\0\x82\0xy\x80\1\1z", 9);
	save_delta("last-byte", UNIT, "\xff\x1f\1x", 4);
	save_delta("longest", 0x3fff, "\xfe\x7f\1x", 4);
	save_delta("one", 1, "\0\1x", 3);
	save_delta("whole", UNIT, whole, 3 + UNIT);
	save_delta("trailing-zrun", UNIT, "\5\1x\7", 4);
	save_delta("empty-nzrun", UNIT, "\5\0\5\1x", 5);
	save_delta("three-bytes", UNIT, "\x80\x80\1\1x", 5);
}

/* Bytes that stay and that do not, by turns. */
static void save_pair(const char *name, unsigned int len, unsigned int look,
		      const uint16_t *runs, unsigned int count)
{
	unsigned int i;

	build_be16(&out, len - 1);
	build_u8(&out, 1);
	build_be16(&out, look);
	for (i = 0; i < count; i += 2) {
		build_be16(&out, runs[i]);
		build_be16(&out, runs[i + 1]);
		build_u8(&out, 2 + 3 * i);
	}
	save("encode", name);
}

static void pairs(void)
{
	static const uint16_t some[] = {
		3, 1, 200, 130, 1, 1, 1, 1, 57, 8, 62, 2, 63, 70, 2000, 1,
	};
	uint16_t second[64];
	unsigned int i;

	for (i = 0; i < 64; i++)
		second[i] = 1;
	save_pair("equal", UNIT, 0x0033, NULL, 0);
	save_pair("some", UNIT, 0x0122, some, 16);
	save_pair("second", 128, 0x1b01, second, 64);
	save_pair("all", UNIT, 0, (const uint16_t []){ 0, UNIT }, 2);
	save_pair("end", UNIT, 0xff07, (const uint16_t []){ UNIT - 1, 1 }, 2);
	save_pair("longest", 0x3fff, 0x0909, some, 16);
	save_pair("one", 1, 0, (const uint16_t []){ 0, 1 }, 2);
}

static void setup(const char *first, const char *second)
{
	build_setup(&stream, (second ? 3 : 1) * UNIT);
	build_block(&stream, first, UNIT);
	if (second)
		build_block(&stream, second, 2 * UNIT);
	build_eos(&stream);
}

static void delta(const char *name, uint64_t offset)
{
	build_delta(&stream, name, offset, "\5\1\x99\2\2ab", 7);
}

static void save_stream(const char *name)
{
	build_bytes(&out, stream.bytes, stream.length);
	stream.length = 0;
	save("stream", name);
}

static void streams(void)
{
	static const uint8_t longest[UNIT];
	static char name[256];

	setup("a", NULL);
	build_eos(&stream);
	save_stream("nothing");

	setup("a", NULL);
	build_zero(&stream, "a", 0);
	build_eos(&stream);
	delta("a", 0);
	build_eos(&stream);
	build_zero(&stream, "a", 0);
	build_eos(&stream);
	save_stream("zero-delta-zero");

	setup("a", "bb");
	build_page(&stream, "a", 0, 0x11);
	build_zero(&stream, "bb", 0);
	delta(NULL, 0);
	build_eos(&stream);
	delta("bb", 0);
	delta("a", 0);
	build_zero(&stream, NULL, 0);
	save_stream("cut");

	setup("a", NULL);
	build_page(&stream, "a", 0, 0x11);
	save_stream("cut-at-once");

	setup("a", NULL);
	build_zero(&stream, "a", 0);
	build_eos(&stream);
	build_zero(&stream, NULL, 0);
	build_eos(&stream);
	save_stream("continued");

	setup("a", "bb");
	build_zero(&stream, "bb", UNIT);
	build_zero(&stream, "a", 0);
	build_eos(&stream);
	setup("bb2", NULL);
	build_zero(&stream, "bb2", 0);
	build_eos(&stream);
	setup("a", "bb");
	build_eos(&stream);
	save_stream("dropped");

	setup("a", "bb");
	build_eos(&stream);
	setup("a", NULL);
	build_zero(&stream, "bb", 0);
	build_eos(&stream);
	save_stream("page-of-dropped");

	setup("a", NULL);
	build_zero(&stream, "a", UNIT);
	build_eos(&stream);
	save_stream("behind-the-end");

	setup("a", NULL);
	build_zero(&stream, "a", 0);
	build_delta(&stream, NULL, 0, "\xff\x1f\2xy", 5);
	build_eos(&stream);
	save_stream("past-the-page");

	memset(name, 'n', sizeof(name) - 1);
	setup(name, NULL);
	build_zero(&stream, name, 0);
	build_eos(&stream);
	build_delta(&stream, name, 0, longest, sizeof(longest));
	build_eos(&stream);
	save_stream("longest");
}

static uint32_t sequence;

static void frame(unsigned int type)
{
	build_frame(&out, type, sequence++, payload.bytes, payload.length);
	payload.length = 0;
}

static void text(const char *text)
{
	build_bytes(&payload, text, strlen(text));
}

static void hello(uint64_t features)
{
	sequence = 0;
	build_be64(&payload, features);
	build_be64(&payload, features & 2);
	build_be32(&payload, UNIT);
	frame(HELLO);
}

static void region(const char *name, uint64_t length)
{
	build_be64(&payload, 0x7f0000000000);
	build_be64(&payload, length);
	build_be32(&payload, 4242);
	text(name);
	frame(REGION);
}

static void data(size_t from, size_t to)
{
	build_bytes(&payload, stream.bytes + from, to - from);
	frame(DATA);
}

static void round_end(unsigned int type, uint64_t number)
{
	build_be64(&payload, number);
	build_be64(&payload, stream.length);
	build_be64(&payload, 1);
	frame(type);
}

static void digest(const char *name, const void *memory, size_t length)
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(memory, length));
	build_be64(&payload, length);
	build_bytes(&payload, canonical.digest, sizeof(canonical.digest));
	text(name);
	frame(DIGEST);
}

static void end(uint32_t digests)
{
	build_be32(&payload, digests);
	frame(END);
}

static void frames(void)
{
	int i;

	hello(3);
	region("heap", 2 * UNIT);
	text("some bytes");
	frame(DATA);
	round_end(ROUND, 1);
	round_end(ACK, 1);
	text("heap");
	frame(DROP);
	digest("heap", "", 0);
	end(1);
	save("frames", "sent");

	hello(3);
	text("\1all is well");
	frame(VERDICT);
	text("no");
	frame(ERROR);
	frame(DATA);
	frame(77);
	save("frames", "answered");

	sequence = 0;
	for (i = 0; i < 256; i++)
		text("n");
	frame(DROP);
	save("frames", "long-name");
}

/* A region of zeros and one with a delta; the first is dropped. */
static void transfer(const char *name, uint64_t features)
{
	static uint8_t memory[2 * UNIT];
	size_t first;

	stream.length = 0;
	setup("../a", "b b");
	build_zero(&stream, "../a", 0);
	build_page(&stream, "b b", UNIT, 7);
	build_zero(&stream, NULL, 0);
	build_eos(&stream);
	first = stream.length;
	hello(features);
	region("../a", UNIT);
	region("b b", 2 * UNIT);
	data(0, 30);
	data(30, first);
	round_end(ROUND, 1);
	text("../a");
	frame(DROP);
	delta("b b", UNIT);
	delta(NULL, 0);
	build_eos(&stream);
	build_zero(&stream, "b b", UNIT);
	build_eos(&stream);
	data(first, stream.length);
	round_end(ROUND, 3);
	memory[5] = 0x99;
	memcpy(memory + 8, "ab", 2);
	digest("b b", memory, sizeof(memory));
	end(1);
	save("recv", name);
}

static void small_transfer(const char *name, uint64_t features)
{
	static const uint8_t memory[UNIT];
	size_t first;

	stream.length = 0;
	setup("heap", NULL);
	build_zero(&stream, "heap", 0);
	build_eos(&stream);
	first = stream.length;
	build_zero(&stream, "heap", 0);
	build_eos(&stream);
	hello(features);
	region("heap", UNIT);
	data(0, first);
	data(first, stream.length);
	round_end(ROUND, 2);
	digest("heap", memory, UNIT);
	end(1);
	/* Of another length it comes another way. */
	if (features & 1)
		build_u8(&out, 0);
	save("recv", name);
}

/* Refused: one digest too many. */
static void wrong_transfer(const char *name, const char *of)
{
	static const uint8_t memory[2 * UNIT];

	stream.length = 0;
	setup("a", "b");
	build_eos(&stream);
	hello(2);
	region("a", UNIT);
	region("b", 2 * UNIT);
	data(0, stream.length);
	round_end(ROUND, 1);
	text("b");
	frame(DROP);
	digest("a", memory, UNIT);
	digest(of, memory, *of == 'a' ? UNIT : 2 * UNIT);
	end(2);
	save("recv", name);
}

static void transfers(void)
{
	wrong_transfer("digest-twice", "a");
	wrong_transfer("digest-of-dropped", "b");
	transfer("file", 2);
	transfer("socket", 3);
	small_transfer("small-file", 2);
	small_transfer("small-socket", 3);
}

/* Its manifest and then the files of its rounds. */
static void chain(const char *name, unsigned int first, unsigned int rounds,
		  bool cut)
{
	struct build file = {}, files = {}, line = {};
	char before[33] = "";
	struct maker maker;

	maker_begin(&maker, first);
	for (; rounds; rounds--) {
		maker_next(&maker);
		maker_file(&maker, &file);
		maker_line(&maker, file.length, before, before, &line);
		build_bytes(&out, line.bytes, line.length);
		build_bytes(&files, file.bytes, file.length);
	}
	/* A line without its end. */
	out.length -= cut;
	build_bytes(&out, files.bytes, files.length);
	save("chain", name);
	maker_end(&maker);
	build_free(&file);
	build_free(&files);
	build_free(&line);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	top = argv[1];
	mkdir(top, 0777);
	deltas();
	pairs();
	streams();
	frames();
	transfers();
	chain("full", 1, 1, false);
	chain("delta", 2, 2, false);
	chain("three", 3, 3, false);
	/* In its third a page is zero that its fourth has a delta for. */
	chain("zero-delta", 5, 4, false);
	chain("cut-line", 1, 2, true);
	build_free(&out);
	build_free(&payload);
	build_free(&stream);
	return 0;
}

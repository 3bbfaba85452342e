// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The codec against vectors written by hand, and against an encoder and a
 * decoder that follow the grammar byte by byte and share no code with it.
 *
 * Every buffer the codec gets ends, or begins, at a page that may not be
 * touched.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <xbzrle/codec.h>

#define SEED		0x5eed0c0dec0ffee5ull
#define UNIT		4096
/* Longest delta of the longest buffer: two lengths and a byte per two bytes. */
#define DELTA_MAX	(XBZRLE_CODEC_MAX * 3 / 2 + 8)
#define FILL		0xaa

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

/* Memory between two pages that fault. */
struct guarded {
	uint8_t *begin;
	uint8_t *end;
};

static struct guarded base_memory, page_memory, delta_memory;
static uint64_t random_state;

static struct guarded guarded_map(size_t size)
{
	size_t granule = sysconf(_SC_PAGESIZE);
	struct guarded memory;
	uint8_t *map;

	size = (size + granule - 1) / granule * granule;
	map = mmap(NULL, size + 2 * granule, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED ||
	    mprotect(map + granule, size, PROT_READ | PROT_WRITE)) {
		perror("guarded memory");
		exit(1);
	}
	memory.begin = map + granule;
	memory.end = memory.begin + size;
	return memory;
}

/* @len bytes that touch the guard after them, or the one before them. */
static uint8_t *place(const struct guarded *memory, size_t len, bool at_end)
{
	return at_end ? memory->end - len : memory->begin;
}

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* 0 to @limit - 1 */
static size_t random_below(size_t limit)
{
	return (random_next() >> 20) % limit;
}

static void random_fill(uint8_t *bytes, size_t len)
{
	while (len--)
		*bytes++ = random_below(256);
}

/* Change runs of bytes of up to @longest, up to @apart bytes apart. */
static void random_change(uint8_t *bytes, size_t len, size_t longest,
			  size_t apart)
{
	size_t i = random_below(apart + 1), run;

	for (; i < len; i += 1 + random_below(apart)) {
		run = 1 + random_below(longest);
		for (; run && i < len; run--, i++)
			bytes[i] ^= 1 + random_below(255);
	}
}

static size_t reference_length(uint8_t *out, size_t length)
{
	if (length < 0x80) {
		out[0] = length;
		return 1;
	}
	out[0] = 0x80 + length % 0x80;
	out[1] = length / 0x80;
	return 2;
}

/* The greedy delta by the grammar. @out must have room for any. */
static size_t reference_encode(const uint8_t *base, const uint8_t *page,
			       size_t len, uint8_t *out)
{
	size_t i = 0, used = 0;

	while (i < len) {
		size_t zrun = 0, nzrun = 0;

		while (i + zrun < len && base[i + zrun] == page[i + zrun])
			zrun++;
		i += zrun;
		while (i + nzrun < len && base[i + nzrun] != page[i + nzrun])
			nzrun++;
		if (!nzrun)
			break;
		used += reference_length(out + used, zrun);
		used += reference_length(out + used, nzrun);
		while (nzrun--)
			out[used++] = page[i++];
	}
	return used;
}

/* A length at *@at, which moves on; -1 if it is malformed. */
static int reference_get(const uint8_t *delta, size_t delta_len, size_t *at)
{
	int length;

	if (*at + 2 > delta_len)
		return -1;
	length = delta[(*at)++];
	if (length >= 0x80) {
		if (delta[*at] >= 0x80)
			return -1;
		length += delta[(*at)++] * 0x80 - 0x80;
	}
	return length;
}

/* Applies as much as it understands: only the return value tells. */
static ssize_t reference_decode(const uint8_t *delta, size_t delta_len,
				uint8_t *page, size_t len)
{
	size_t at = 0, covered = 0;
	bool first = true;
	int run;

	while (first || at != delta_len) {
		run = reference_get(delta, delta_len, &at);
		if (run < 0 || (run == 0 && !first))
			return -EBADMSG;
		covered += run;

		run = reference_get(delta, delta_len, &at);
		if (run <= 0)
			return -EBADMSG;
		while (run--) {
			if (at == delta_len || covered >= len)
				return -EBADMSG;
			page[covered++] = delta[at++];
		}
		first = false;
	}
	return covered;
}

static bool usable(const struct xbzrle_codec *codec)
{
	return !codec->usable || codec->usable();
}

/*
 * Encode into exactly @room guarded bytes, with every codec that this machine
 * has; they must agree. The delta stays in delta_memory.
 */
static ssize_t encode(const uint8_t *base, const uint8_t *page, size_t len,
		      size_t room)
{
	static uint8_t first[DELTA_MAX];
	uint8_t *dst = place(&delta_memory, room, true);
	ssize_t ret = xbzrle_encode(base, page, len, dst, room), again;
	size_t i;

	if (ret > 0)
		memcpy(first, dst, ret);
	for (i = 0; xbzrle_codecs[i]; i++) {
		if (!usable(xbzrle_codecs[i]))
			continue;
		dst[-1] = FILL;
		if (ret > 0)
			memset(dst, ~first[0], ret);
		again = xbzrle_encode_by(xbzrle_codecs[i], base, page, len, dst,
					 room);
		if (again != ret || (ret > 0 && memcmp(first, dst, ret)))
			fail_msg("%s differs", xbzrle_codecs[i]->name);
		assert_int_equal(dst[-1], FILL);
	}
	return ret;
}

/* The encoder must agree with the reference, and its delta must decode. */
static void check_pair(const uint8_t *base, const uint8_t *page, size_t len)
{
	static uint8_t expected[DELTA_MAX];
	static uint8_t target[XBZRLE_CODEC_MAX];
	size_t size = reference_encode(base, page, len, expected);
	const uint8_t *delta = place(&delta_memory, size, true);

	assert_int_equal(encode(base, page, len, size), size);
	assert_memory_equal(delta, expected, size);
	if (!size)
		return;
	assert_int_equal(encode(base, page, len, size - 1), -ENOSPC);

	assert_int_equal(encode(base, page, len, size), size);
	memcpy(target, base, len);
	assert_true(xbzrle_decode(delta, size, target, len) > 0);
	assert_memory_equal(target, page, len);
}

/* The decoder must agree with the reference, and write nothing on error. */
static bool check_delta(const void *bytes, size_t delta_len,
			const uint8_t *base, size_t len)
{
	static uint8_t expected[XBZRLE_CODEC_MAX];
	uint8_t *delta = place(&delta_memory, delta_len, true);
	uint8_t *page = place(&page_memory, len, true);
	ssize_t verdict;

	memmove(delta, bytes, delta_len);
	memcpy(expected, base, len);
	memcpy(page, base, len);

	verdict = reference_decode(delta, delta_len, expected, len);
	assert_int_equal(xbzrle_decode(delta, delta_len, page, len), verdict);
	assert_memory_equal(page, verdict < 0 ? base : expected, len);
	return verdict >= 0;
}

static void test_encode_vectors(void **state)
{
	static const struct {
		const char *base;
		const char *page;
		size_t size;
		uint8_t delta[8];
	} vectors[] = {
		{ "a", "a", 0, { 0 } },
		{ "abcdefgh", "abcdefgh", 0, { 0 } },
		{ "a", "B", 3, { 0, 1, 'B' } },
		{ "abc", "ABC", 5, { 0, 3, 'A', 'B', 'C' } },
		{ "abc", "Abc", 3, { 0, 1, 'A' } },
		{ "abc", "abC", 3, { 2, 1, 'C' } },
		{ "abc", "AbC", 6, { 0, 1, 'A', 1, 1, 'C' } },
		{ "abcdefgh", "abCDefgH", 7, { 2, 2, 'C', 'D', 3, 1, 'H' } },
		{ "abcdefghijklmnopq", "abcdefgHIjklmnopQ",
		  7, { 7, 2, 'H', 'I', 7, 1, 'Q' } },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(vectors); i++) {
		size_t len = strlen(vectors[i].base);
		uint8_t delta[32];

		assert_int_equal(xbzrle_encode(vectors[i].base, vectors[i].page,
					       len, delta, sizeof(delta)),
				 vectors[i].size);
		assert_memory_equal(delta, vectors[i].delta, vectors[i].size);
	}
}

/* One run of new bytes at an offset: where lengths become two bytes. */
static void test_encode_length_bytes(void **state)
{
	static const struct {
		size_t zrun;
		size_t nzrun;
		size_t size;
		uint8_t lengths[4];
	} vectors[] = {
		{ 0, 1, 2, { 0, 1 } },
		{ 126, 127, 2, { 0x7e, 0x7f } },
		{ 127, 128, 3, { 0x7f, 0x80, 1 } },
		{ 128, 129, 4, { 0x80, 1, 0x81, 1 } },
		{ 255, 256, 4, { 0xff, 1, 0x80, 2 } },
		{ 4095, 1, 3, { 0xff, 0x1f, 1 } },
		{ 0, 4096, 3, { 0, 0x80, 0x20 } },
		{ 0x3ffe, 1, 3, { 0xfe, 0x7f, 1 } },
		{ 0, 0x3fff, 3, { 0, 0xff, 0x7f } },
	};
	static const uint8_t zeros[XBZRLE_CODEC_MAX];
	static uint8_t page[XBZRLE_CODEC_MAX], delta[DELTA_MAX];
	size_t i, j;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(vectors); i++) {
		size_t zrun = vectors[i].zrun, nzrun = vectors[i].nzrun;
		size_t size = vectors[i].size;

		memset(page, 0, sizeof(page));
		memset(page + zrun, FILL, nzrun);
		assert_int_equal(xbzrle_encode(zeros, page, sizeof(page), delta,
					       sizeof(delta)), size + nzrun);
		assert_memory_equal(delta, vectors[i].lengths, size);
		for (j = 0; j < nzrun; j++)
			assert_int_equal(delta[size + j], FILL);
	}
}

static void test_encode_every_length(void **state)
{
	/* Longest run of new bytes, most equal bytes between two. */
	static const size_t shapes[][2] = {
		{ 1, 1 }, { 1, 20 }, { 8, 8 }, { 70, 3 }, { 200, 300 },
		{ 1, 4000 }, { 5000, 1 },
	};
	size_t len, i;

	(void)state;
	for (len = 1; len <= UNIT; len++)
		for (i = 0; i < ARRAY_SIZE(shapes); i++) {
			bool at_end = (len + i) % 2;
			uint8_t *base = place(&base_memory, len, at_end);
			uint8_t *page = place(&page_memory, len, at_end);

			random_fill(base, len);
			memcpy(page, base, len);
			random_change(page, len, shapes[i][0], shapes[i][1]);
			check_pair(base, page, len);
		}
}

/* Pieces that are compared at a time, and what is left. */
static void test_encode_long(void **state)
{
	size_t len;

	(void)state;
	for (len = UNIT; len <= XBZRLE_CODEC_MAX; len += 37) {
		uint8_t *base = place(&base_memory, len, true);
		uint8_t *page = place(&page_memory, len, true);

		random_fill(base, len);
		memcpy(page, base, len);
		/* A run across the border of two pieces, and all else. */
		random_change(page, len, 1 + random_below(300),
			      1 + random_below(100));
		memset(page + UNIT - 70, base[UNIT - 70] ^ 0x55, 70);
		if (len % 2)
			page[UNIT - 1] = base[UNIT - 1];
		check_pair(base, page, len);
	}
}

/* All of 2 to the 16th ways in which neighbouring bytes can change. */
static void test_encode_every_pattern(void **state)
{
	static const size_t offsets[] = { 0, 55, 120, 4033, UNIT - 16 };
	static const size_t len = UNIT;
	uint8_t *base = place(&base_memory, len, true);
	uint8_t *page = place(&page_memory, len, true);
	unsigned int pattern, bit;
	size_t i;

	(void)state;
	random_fill(base, len);
	for (i = 0; i < ARRAY_SIZE(offsets); i++)
		for (pattern = 0; pattern < 1 << 16; pattern++) {
			memcpy(page, base, len);
			for (bit = 0; bit < 16; bit++)
				if (pattern & 1 << bit)
					page[offsets[i] + bit] ^= 0x80 >> bit % 8;
			check_pair(base, page, len);
		}
}

static void test_encode_every_room(void **state)
{
	static const size_t shapes[][2] = {
		{ 1, 1 }, { 1, 20 }, { 60, 2 }, { 10, 10 }, { 200, 300 },
		{ 5000, 1 },
	};
	static uint8_t expected[DELTA_MAX];
	uint8_t *base = place(&base_memory, UNIT, true);
	uint8_t *page = place(&page_memory, UNIT, true);
	size_t room, i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		size_t size;

		random_fill(base, UNIT);
		memcpy(page, base, UNIT);
		random_change(page, UNIT, shapes[i][0], shapes[i][1]);
		size = reference_encode(base, page, UNIT, expected);

		for (room = 0; room < size; room++)
			assert_int_equal(encode(base, page, UNIT, room),
					 -ENOSPC);
		for (; room < size + 200; room++) {
			assert_int_equal(encode(base, page, UNIT, room), size);
			assert_memory_equal(place(&delta_memory, room, true),
					    expected, size);
		}
	}
}

static void test_encode_equal_needs_no_room(void **state)
{
	uint8_t *base = place(&base_memory, UNIT, true);

	(void)state;
	random_fill(base, UNIT);
	assert_int_equal(encode(base, base, UNIT, 0), 0);
}

static void test_encode_misuse(void **state)
{
	static uint8_t bytes[XBZRLE_CODEC_MAX + 1], dst[16];

	(void)state;
	assert_int_equal(xbzrle_encode(NULL, bytes, 8, dst, 16), -EINVAL);
	assert_int_equal(xbzrle_encode(bytes, NULL, 8, dst, 16), -EINVAL);
	assert_int_equal(xbzrle_encode(bytes, bytes, 8, NULL, 16), -EINVAL);
	assert_int_equal(xbzrle_encode(bytes, bytes, 0, dst, 16), -EINVAL);
	assert_int_equal(xbzrle_encode(bytes, bytes, XBZRLE_CODEC_MAX + 1, dst,
				       16), -EINVAL);
	assert_int_equal(xbzrle_encode(bytes, bytes, XBZRLE_CODEC_MAX, dst, 16),
			 0);
}

static void test_decode_vectors(void **state)
{
	static const struct {
		const char *base;
		const char *page;
		ssize_t covered;
		size_t size;
		uint8_t delta[8];
	} vectors[] = {
		{ "a", "B", 1, 3, { 0, 1, 'B' } },
		{ "abcdefgh", "abCDefgH", 8, 7, { 2, 2, 'C', 'D', 3, 1, 'H' } },
		{ "abcdefgh", "abCDefgh", 4, 4, { 2, 2, 'C', 'D' } },
		/* Literals that equal the base. */
		{ "abcdefgh", "abcdEfgh", 6, 5, { 3, 3, 'd', 'E', 'f' } },
		{ "abc", "abc", 3, 5, { 0, 3, 'a', 'b', 'c' } },
		/* Two bytes for a length that fits one. */
		{ "abc", "aBc", 2, 5, { 0x81, 0, 0x81, 0, 'B' } },
		{ "abc", "Abc", 1, 4, { 0x80, 0, 1, 'A' } },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(vectors); i++) {
		size_t len = strlen(vectors[i].base);
		uint8_t *page = place(&page_memory, len, true);

		memcpy(page, vectors[i].base, len);
		assert_int_equal(xbzrle_decode(vectors[i].delta,
					       vectors[i].size, page, len),
				 vectors[i].covered);
		assert_memory_equal(page, vectors[i].page, len);
	}
}

/* A page of 200 bytes: long enough for lengths of two bytes. */
static void test_decode_malformed(void **state)
{
	static const struct {
		const char *what;
		size_t size;
		uint8_t delta[8];
	} vectors[] = {
		{ "empty", 0, { 0 } },
		{ "one byte", 1, { 0 } },
		{ "half a length", 1, { 0x85 } },
		{ "zrun of two bytes alone", 2, { 0x85, 1 } },
		{ "one byte before an nzrun", 3, { 0x85, 0, 1 } },
		{ "half an nzrun length", 2, { 5, 0x81 } },
		{ "nzrun of 0", 3, { 5, 0, 'x' } },
		{ "nzrun of 0 at the end", 2, { 5, 0 } },
		{ "nzrun of 0 in the middle", 5, { 5, 0, 5, 1, 'x' } },
		{ "nzrun of 0 in two bytes", 4, { 5, 0x80, 0, 'x' } },
		{ "second nzrun of 0", 6, { 5, 1, 'x', 5, 0, 'x' } },
		{ "second zrun of 0", 6, { 5, 1, 'x', 0, 1, 'y' } },
		{ "second zrun of 0 in two bytes",
		  7, { 5, 1, 'x', 0x80, 0, 1, 'y' } },
		{ "zrun length of three bytes", 5, { 0x81, 0x80, 0, 1, 'x' } },
		{ "nzrun length of three bytes", 5, { 0, 0x81, 0x80, 0, 'x' } },
		{ "zrun past the page", 4, { 0xc9, 1, 1, 'x' } },
		{ "zrun to the end of the page", 4, { 0xc8, 1, 1, 'x' } },
		{ "longest zrun", 4, { 0xff, 0x7f, 1, 'x' } },
		{ "second zrun past the page",
		  8, { 0x80, 1, 1, 'x', 0xff, 0, 1, 'x' } },
		{ "nzrun past the page", 5, { 0xc7, 1, 2, 'x', 'y' } },
		{ "second nzrun past the page",
		  8, { 0xc5, 1, 1, 'x', 1, 2, 'x', 'y' } },
		{ "no literal", 2, { 5, 1 } },
		{ "literal past the input", 4, { 5, 3, 'x', 'y' } },
		{ "second literal past the input",
		  7, { 5, 1, 'x', 5, 3, 'x', 'y' } },
		{ "trailing zrun", 4, { 5, 1, 'x', 4 } },
		{ "trailing zrun of two bytes", 5, { 5, 1, 'x', 0x84, 0 } },
		{ "trailing zrun to the end of the page",
		  5, { 5, 1, 'x', 0xc2, 1 } },
	};
	static uint8_t base[200];
	size_t i;

	(void)state;
	random_fill(base, sizeof(base));
	for (i = 0; i < ARRAY_SIZE(vectors); i++)
		if (check_delta(vectors[i].delta, vectors[i].size, base,
				sizeof(base)))
			fail_msg("accepted: %s", vectors[i].what);
}

static void test_decode_misuse(void **state)
{
	static const uint8_t delta[] = { 0, 1, 'x' };
	static uint8_t page[XBZRLE_CODEC_MAX + 1];

	(void)state;
	assert_int_equal(xbzrle_decode(NULL, 3, page, 8), -EINVAL);
	assert_int_equal(xbzrle_decode(delta, 3, NULL, 8), -EINVAL);
	assert_int_equal(xbzrle_decode(delta, 3, page, 0), -EINVAL);
	assert_int_equal(xbzrle_decode(delta, 3, page, XBZRLE_CODEC_MAX + 1),
			 -EINVAL);
	assert_int_equal(page[0], 0);
	assert_int_equal(xbzrle_decode(delta, 3, page, XBZRLE_CODEC_MAX), 1);
}

/* A base of @len bytes and a delta to it, of runs shorter than @longest. */
static size_t random_delta(uint8_t *base, uint8_t *delta, size_t len,
			   size_t longest, size_t apart)
{
	static uint8_t page[XBZRLE_CODEC_MAX];

	random_fill(base, len);
	memcpy(page, base, len);
	random_change(page, len, longest, apart);
	return reference_encode(base, page, len, delta);
}

static void test_decode_truncated(void **state)
{
	static uint8_t base[XBZRLE_CODEC_MAX], delta[DELTA_MAX];
	size_t turn, size, cut;

	(void)state;
	for (turn = 0; turn < 40; turn++) {
		size_t len = 1 + random_below(1000);

		size = random_delta(base, delta, len, 1 + random_below(150),
				    1 + random_below(300));
		for (cut = 0; cut < size; cut++)
			check_delta(delta, cut, base, len);
	}
}

static void test_decode_flipped(void **state)
{
	static uint8_t base[XBZRLE_CODEC_MAX], delta[DELTA_MAX];
	size_t turn, size, bit;

	(void)state;
	for (turn = 0; turn < 40; turn++) {
		size_t len = 1 + random_below(1000);

		size = random_delta(base, delta, len, 1 + random_below(150),
				    1 + random_below(300));
		for (bit = 0; bit < size * 8; bit++) {
			delta[bit / 8] ^= 1 << bit % 8;
			check_delta(delta, size, base, len);
			delta[bit / 8] ^= 1 << bit % 8;
		}
	}
}

/* Bytes from a small alphabet, so that a good part is well-formed. */
static void test_decode_garbage(void **state)
{
	static const uint8_t alphabet[] = { 0, 1, 2, 3, 5, 0x7f, 0x80, 0x81 };
	static uint8_t base[300];
	size_t turn, accepted = 0;
	uint8_t delta[12];

	(void)state;
	random_fill(base, sizeof(base));
	for (turn = 0; turn < 1000000; turn++) {
		size_t size = random_below(sizeof(delta) + 1), i;

		for (i = 0; i < size; i++)
			delta[i] = alphabet[random_below(sizeof(alphabet))];
		accepted += check_delta(delta, size, base,
					1 + random_below(sizeof(base)));
	}
	/* A run that only meets one verdict proves little. */
	assert_in_range(accepted, turn / 100, turn - turn / 100);
}

static void test_random_pairs(void **state)
{
	size_t turn;

	(void)state;
	for (turn = 0; turn < 20000; turn++) {
		size_t len = random_below(4) ? UNIT :
					       1 + random_below(XBZRLE_CODEC_MAX);
		bool at_end = random_below(2);
		uint8_t *base = place(&base_memory, len, at_end);
		uint8_t *page = place(&page_memory, len, at_end);

		random_fill(base, len);
		memcpy(page, base, len);
		random_change(page, len, 1 << random_below(13),
			      1 << random_below(13));
		check_pair(base, page, len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_encode_vectors),
		cmocka_unit_test(test_encode_length_bytes),
		cmocka_unit_test(test_encode_every_length),
		cmocka_unit_test(test_encode_long),
		cmocka_unit_test(test_encode_every_pattern),
		cmocka_unit_test(test_encode_every_room),
		cmocka_unit_test(test_encode_equal_needs_no_room),
		cmocka_unit_test(test_encode_misuse),
		cmocka_unit_test(test_decode_vectors),
		cmocka_unit_test(test_decode_malformed),
		cmocka_unit_test(test_decode_misuse),
		cmocka_unit_test(test_decode_truncated),
		cmocka_unit_test(test_decode_flipped),
		cmocka_unit_test(test_decode_garbage),
		cmocka_unit_test(test_random_pairs),
	};

	size_t i;

	base_memory = guarded_map(XBZRLE_CODEC_MAX);
	page_memory = guarded_map(XBZRLE_CODEC_MAX);
	delta_memory = guarded_map(DELTA_MAX + 256);
	random_state = SEED;
	printf("# seed 0x%llx, codecs:", (unsigned long long)SEED);
	for (i = 0; xbzrle_codecs[i]; i++)
		if (usable(xbzrle_codecs[i]))
			printf(" %s", xbzrle_codecs[i]->name);
	puts("");

	return cmocka_run_group_tests_name("codec", tests, NULL, NULL);
}

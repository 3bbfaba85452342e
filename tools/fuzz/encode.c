// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Any two contents of any length, and any room for their delta: it is the
 * greedy one or does not fit, it is never written past the room, and it makes
 * the new content of the old.
 *
 * Input: be16 length of both, a byte each: how much room more (or, as a signed
 * number, less) than the delta takes, where the buffers begin, how the old
 * content looks; then runs: be16 how many bytes stay, be16 how many do not, a
 * byte that says how they differ.
 */
#include <stdlib.h>
#include <string.h>

#include <xbzrle/codec.h>

#include "fuzz.h"
#include "grammar.h"

/* Buffers begin so many bytes behind what an allocation is aligned to. */
#define SHIFT	8

struct pair {
	size_t len;
	uint8_t *base;
	uint8_t *page;
	uint8_t *delta;		/* the greedy one */
	size_t delta_len;
};

/* Bits that differ in each byte of a run: the same, or another each time. */
static uint8_t difference(unsigned int how, size_t at)
{
	uint8_t bits = how % 2 ? how : (at * 0x9e37 ^ how * 0x79b9) >> 6;

	return bits ? bits : 0x80;
}

static void make_page(struct pair *pair, struct fuzz_input *input)
{
	size_t at = 0, stop;
	unsigned int how;

	memcpy(pair->page, pair->base, pair->len);
	while (input->at < input->end && at < pair->len) {
		at += fuzz_be16(input) % (XBZRLE_CODEC_MAX + 1);
		stop = at + fuzz_be16(input) % (XBZRLE_CODEC_MAX + 1);
		how = fuzz_u8(input);
		for (; at < stop && at < pair->len; at++)
			pair->page[at] ^= difference(how, at);
	}
}

/* All of @room may be written, and nothing else. */
static void try(const struct xbzrle_codec *codec, const struct pair *pair,
		unsigned int shift, size_t room)
{
	uint8_t *memory = fuzz_alloc(shift + room), *dst = memory + shift;
	uint8_t *page = fuzz_alloc(pair->len);
	ssize_t ret;

	memset(memory, 0x5a, shift);
	ret = xbzrle_encode_by(codec, pair->base, pair->page, pair->len, dst, room);
	while (shift)
		must(memory[--shift] == 0x5a);
	if (room < pair->delta_len) {
		must(ret == -ENOSPC);
		goto done;
	}
	must(ret == (ssize_t)pair->delta_len);
	must(!memcmp(dst, pair->delta, ret));
	if (!ret)
		goto done;
	memcpy(page, pair->base, pair->len);
	must(xbzrle_decode(pair->delta, ret, page, pair->len) > 0);
	must(!memcmp(page, pair->page, pair->len));
done:
	free(memory);
	free(page);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = { data, data + size };
	size_t len = fuzz_be16(&input) % XBZRLE_CODEC_MAX + 1, i, room;
	int more = (int8_t)fuzz_u8(&input);
	const struct xbzrle_codec *const *codec;
	unsigned int shifts = fuzz_u8(&input), fill = fuzz_u8(&input);
	size_t base_shift = shifts % SHIFT, page_shift = shifts / SHIFT % SHIFT;
	uint8_t *base = fuzz_alloc(base_shift + len);
	uint8_t *page = fuzz_alloc(page_shift + len);
	struct pair pair = {
		.len = len,
		.base = base + base_shift,
		.page = page + page_shift,
		.delta = fuzz_alloc(GRAMMAR_DELTA_MAX(len)),
	};

	for (i = 0; i < len; i++)
		pair.base[i] = fill % 2 ? fill : i * fill >> 3;
	make_page(&pair, &input);
	pair.delta_len = grammar_encode(pair.base, pair.page, len, pair.delta);

	room = more < 0 && (size_t)-more > pair.delta_len ? 0 :
		pair.delta_len + more;
	for (codec = xbzrle_codecs; *codec; codec++) {
		if ((*codec)->usable && !(*codec)->usable())
			continue;
		try(*codec, &pair, shifts / SHIFT / SHIFT, room);
		try(*codec, &pair, 0, pair.delta_len);
		if (pair.delta_len)
			try(*codec, &pair, 0, pair.delta_len - 1);
	}
	free(base);
	free(page);
	free(pair.delta);
	return 0;
}

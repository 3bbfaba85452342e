// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * What the codec is measured against: the encoder that goes a word at a time
 * through what is equal and through what is new, and byte by byte only to find
 * where one ends, as QEMU's plain one does; and a decoder that looks through the
 * whole delta before it copies, with one function per length and memcpy().
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "naive.h"

static uint64_t word_diff(const uint8_t *a, const uint8_t *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x ^ y;
}

/* Is a byte of the word zero? */
static bool has_zero(uint64_t word)
{
	return (word - 0x0101010101010101ull) & ~word & 0x8080808080808080ull;
}

static size_t put_length(uint8_t *out, size_t length)
{
	if (length < 0x80) {
		out[0] = length;
		return 1;
	}
	out[0] = length | 0x80;
	out[1] = length >> 7;
	return 2;
}

/**
 * naive_encode() - encode a word at a time
 * @base: content the receiver holds
 * @page: content it shall hold
 * @len: length of both in bytes
 * @dst: where the delta goes
 * @dst_len: bytes that may be written at @dst
 *
 * Return: Length of the delta, 0 if @base and @page are equal, -ENOSPC if the
 * delta is longer than @dst_len.
 */
ssize_t naive_encode(const void *base, const void *page, size_t len,
		     void *dst, size_t dst_len)
{
	const uint8_t *old = base, *new = page;
	uint8_t *out = dst;
	size_t i = 0, used = 0;

	for (;;) {
		size_t start = i, equal, count, need;

		while (i + 8 <= len && !word_diff(old + i, new + i))
			i += 8;
		while (i < len && old[i] == new[i])
			i++;
		if (i == len)
			return used;
		equal = i - start;

		start = i;
		while (i + 8 <= len && !has_zero(word_diff(old + i, new + i)))
			i += 8;
		while (i < len && old[i] != new[i])
			i++;
		count = i - start;

		need = 2 + (equal > 127) + (count > 127) + count;
		if (need > dst_len - used)
			return -ENOSPC;
		used += put_length(out + used, equal);
		used += put_length(out + used, count);
		memcpy(out + used, new + start, count);
		used += count;
	}
}

/* The bytes that a length takes, 0 if it is malformed. */
static size_t get_length(const uint8_t *in, size_t left, size_t *length)
{
	if (left < 1)
		return 0;
	*length = in[0] & 0x7f;
	if (in[0] < 0x80)
		return 1;
	if (left < 2 || in[1] >= 0x80)
		return 0;
	*length |= (size_t)in[1] << 7;
	return 2;
}

static ssize_t walk(const uint8_t *in, size_t left, uint8_t *page, size_t len,
		    bool apply)
{
	size_t pos = 0, equal, count, used;
	bool first = true;

	while (left || first) {
		used = get_length(in, left, &equal);
		if (!used || equal > len - pos || (!equal && !first))
			return -EBADMSG;
		in += used;
		left -= used;
		pos += equal;

		used = get_length(in, left, &count);
		if (!used || !count || count > len - pos ||
		    count > left - used)
			return -EBADMSG;
		in += used;
		left -= used;
		if (apply)
			memcpy(page + pos, in, count);
		in += count;
		left -= count;
		pos += count;
		first = false;
	}
	return pos;
}

/**
 * naive_decode() - check a delta, then apply it
 * @delta: the delta
 * @delta_len: its length in bytes
 * @page: the base, which becomes the new content
 * @len: its length in bytes
 *
 * Return: Offset in @page after the last literal, or -EBADMSG.
 */
ssize_t naive_decode(const void *delta, size_t delta_len, void *page,
		     size_t len)
{
	ssize_t ret = walk(delta, delta_len, page, len, false);

	return ret < 0 ? ret : walk(delta, delta_len, page, len, true);
}

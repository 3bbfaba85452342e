// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The scalar XBZRLE codec: no allocation, no locks, no state.
 *
 * The encoder turns 64 bytes at a time into one bit per byte, set where base
 * and page differ. Runs begin and end where neighbouring bits differ, so the
 * work is per run and per block, and no branch hangs on a single byte.
 */
#include <xbzrle/codec.h>

#ifdef __KERNEL__
#include <linux/bitops.h>
#include <linux/compiler.h>
#include <linux/kernel.h>
#include <linux/string.h>
#include <asm/byteorder.h>
#else
#include <endian.h>
#include <string.h>

typedef uint8_t u8;
typedef uint64_t u64;

#define __packed	__attribute__((packed))
#define le64_to_cpu	le64toh
#define likely(x)	__builtin_expect(!!(x), 1)
#define __ffs64		__builtin_ctzll
#endif

/* Bytes whose differences fit the bits of one u64. */
#define BLOCK		64
#define WORD		sizeof(u64)

/* Longest run whose length is one byte. */
#define SHORT_RUN	0x7f

/* A u64 at any address. */
struct word {
	u64 bits;
} __packed __attribute__((may_alias));

static inline u64 load(const u8 *from)
{
	return ((const struct word *)from)->bits;
}

static inline void store(u8 *to, u64 bits)
{
	((struct word *)to)->bits = bits;
}

static inline int block_equal(const u8 *a, const u8 *b)
{
	u64 diff = 0;
	size_t i;

	for (i = 0; i < BLOCK; i += WORD)
		diff |= load(a + i) ^ load(b + i);
	return !diff;
}

/* One bit per byte of a block, bit 0 for the first; set where they differ. */
static inline u64 block_diff(const u8 *a, const u8 *b)
{
	const u64 low = 0x7f7f7f7f7f7f7f7full;
	/* Moves the top bit of byte i to bit 56 + i; no two sums collide. */
	const u64 gather = 0x0002040810204081ull;
	u64 mask = 0;
	size_t i;

	for (i = 0; i < BLOCK; i += WORD) {
		u64 diff = le64_to_cpu(load(a + i) ^ load(b + i));

		/* The top bit of each byte that is not zero. */
		diff = (((diff & low) + low) | diff) & ~low;
		mask |= (diff * gather >> 56) << i;
	}
	return mask;
}

/* The same for the bytes after the last whole block. */
static u64 tail_diff(const u8 *a, const u8 *b, size_t len)
{
	u64 mask = 0;
	size_t i;

	for (i = 0; i < len; i++)
		mask |= (u64)(a[i] != b[i]) << i;
	return mask;
}

static inline void copy(u8 *to, const u8 *from, size_t len)
{
	if (len > 4 * WORD) {
		memcpy(to, from, len);
		return;
	}
	for (; len >= WORD; len -= WORD, to += WORD, from += WORD)
		store(to, load(from));
	while (len--)
		*to++ = *from++;
}

static u8 *put_length(u8 *out, size_t length)
{
	if (length > SHORT_RUN) {
		*out++ = length | 0x80;
		length >>= 7;
	}
	*out++ = length;
	return out;
}

/* Append a zrun of @equal and the nzrun @bytes; NULL if they do not fit. */
static u8 *put_runs(u8 *out, const u8 *end, size_t equal,
		    const u8 *bytes, size_t count)
{
	size_t need = 2 + (equal > SHORT_RUN) + (count > SHORT_RUN) + count;

	if ((size_t)(end - out) < need)
		return NULL;
	out = put_length(out, equal);
	out = put_length(out, count);
	copy(out, bytes, count);
	return out + count;
}

/**
 * xbzrle_encode() - describe a page as its difference from a base
 * @base: content the receiver holds
 * @page: content it shall hold
 * @len: length of both in bytes, 1 to XBZRLE_CODEC_MAX
 * @dst: where the delta goes; must not overlap @base or @page
 * @dst_len: bytes that may be written at @dst
 *
 * The delta is the greedy one: every run is as long as it can be, and a single
 * equal byte ends an nzrun. Who wants deltas only where they save something
 * passes a @dst_len below @len. All of @dst may have been written on return,
 * whatever is returned. Neither input may change meanwhile.
 *
 * Context: Any. Does not sleep.
 * Return: Length of the delta, 0 if @base and @page are equal, -ENOSPC if the
 * delta is longer than @dst_len, -EINVAL if an argument is NULL or @len is out
 * of range.
 */
ssize_t xbzrle_encode(const void *base, const void *page, size_t len,
		      void *dst, size_t dst_len)
{
	const u8 *old = base, *new = page;
	u8 *out = dst;
	const u8 *end = out + dst_len;
	size_t pos, done = 0, start = 0;
	u64 open = 0;

	if (!base || !page || !dst || !len || len > XBZRLE_CODEC_MAX)
		return -EINVAL;

	for (pos = 0; pos < len; pos += BLOCK) {
		u64 mask, before, starts, stops;

		if (len - pos < BLOCK)
			mask = tail_diff(old + pos, new + pos, len - pos);
		else if (!open && block_equal(old + pos, new + pos))
			continue;
		else
			mask = block_diff(old + pos, new + pos);

		before = mask << 1 | open;
		starts = mask & ~before;
		stops = ~mask & before;

		if (open && stops) {
			size_t stop = pos + __ffs64(stops);

			out = put_runs(out, end, start - done, new + start,
				       stop - start);
			if (!out)
				return -ENOSPC;
			done = stop;
			stops &= stops - 1;
		}
		open = mask >> 63;

		for (; stops; stops &= stops - 1, starts &= starts - 1) {
			size_t equal, count;

			start = pos + __ffs64(starts);
			equal = start - done;
			done = pos + __ffs64(stops);
			count = done - start;

			/* Store a whole word; the next runs overwrite the rest. */
			if (likely(equal <= SHORT_RUN && count <= WORD &&
				   len - start >= WORD &&
				   (size_t)(end - out) >= 2 + WORD)) {
				out[0] = equal;
				out[1] = count;
				store(out + 2, load(new + start));
				out += 2 + count;
				continue;
			}
			out = put_runs(out, end, equal, new + start, count);
			if (!out)
				return -ENOSPC;
		}
		if (starts)
			start = pos + __ffs64(starts);
	}

	if (open) {
		out = put_runs(out, end, start - done, new + start, len - start);
		if (!out)
			return -ENOSPC;
	}
	return out - (u8 *)dst;
}

/* A length at @in; NULL if it is malformed or nothing can follow it. */
static const u8 *get_length(const u8 *in, const u8 *end, size_t *length)
{
	if (end - in < 2)
		return NULL;
	*length = *in++;
	if (*length > SHORT_RUN) {
		if (*in > SHORT_RUN)
			return NULL;
		*length = (*length & 0x7f) | (size_t)*in++ << 7;
	}
	return in;
}

/* Check a delta and, if @page is given, apply it. */
static ssize_t walk(const u8 *in, size_t delta_len, u8 *page, size_t len)
{
	const u8 *end = in + delta_len;
	size_t pos = 0;

	do {
		size_t equal, count;

		in = get_length(in, end, &equal);
		if (!in || equal > len - pos || (!equal && pos))
			return -EBADMSG;
		pos += equal;

		in = get_length(in, end, &count);
		if (!in || !count || count > len - pos ||
		    count > (size_t)(end - in))
			return -EBADMSG;
		if (page)
			copy(page + pos, in, count);
		pos += count;
		in += count;
	} while (in < end);

	return pos;
}

/**
 * xbzrle_decode() - apply a delta to the base it was made from
 * @delta: the delta, as hostile as its sender
 * @delta_len: its length in bytes
 * @page: holds the base, then the new content; must not overlap @delta
 * @len: length of @page in bytes, 1 to XBZRLE_CODEC_MAX
 *
 * The whole delta is checked before the first byte of @page is written. Runs
 * need not be greedy: literals may equal the base, and a length below 0x80 may
 * take two bytes.
 *
 * Context: Any. Does not sleep.
 * Return: Offset in @page after the last literal, -EBADMSG if @delta does not
 * follow the grammar or leaves the page, -EINVAL if an argument is NULL or
 * @len is out of range.
 */
ssize_t xbzrle_decode(const void *delta, size_t delta_len,
		      void *page, size_t len)
{
	ssize_t ret;

	if (!delta || !page || !len || len > XBZRLE_CODEC_MAX)
		return -EINVAL;

	ret = walk(delta, delta_len, NULL, len);
	return ret < 0 ? ret : walk(delta, delta_len, page, len);
}

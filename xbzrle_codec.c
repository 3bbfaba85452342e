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
#include <linux/string.h>
#include <asm/byteorder.h>
#else
#include <endian.h>
#include <stdbool.h>
#include <string.h>
#include <linux/types.h>

typedef __u8 u8;
typedef __u64 u64;

#define __force
#define le64_to_cpu	le64toh
#define likely(x)	__builtin_expect(!!(x), 1)
#define __ffs64(x)	((unsigned int)__builtin_ctzll(x))
#endif

/* Bytes whose differences fit the bits of one u64. */
#define BLOCK		64
#define WORD		sizeof(u64)

/*
 * Most that the runs which begin and end in one block can take: two lengths
 * and a literal for every two bytes, and one byte more for the first zrun.
 */
#define BLOCK_DELTA_MAX	(BLOCK / 2 * 3 + 1)

/* Longest run whose length is one byte. */
#define SHORT_RUN	0x7f

static inline u64 load(const u8 *from)
{
	u64 word;

	memcpy(&word, from, WORD);
	return word;
}

static inline void store(u8 *to, u64 word)
{
	memcpy(to, &word, WORD);
}

static inline u64 word_diff(const u8 *a, const u8 *b)
{
	return load(a) ^ load(b);
}

/* Unrolled by hand: the kernel's compiler flags do not. */
static inline bool block_equal(const u8 *a, const u8 *b)
{
	return !(word_diff(a, b) | word_diff(a + 8, b + 8) |
		 word_diff(a + 16, b + 16) | word_diff(a + 24, b + 24) |
		 word_diff(a + 32, b + 32) | word_diff(a + 40, b + 40) |
		 word_diff(a + 48, b + 48) | word_diff(a + 56, b + 56));
}

/* One bit per byte of a word, bit 0 for the first; set where they differ. */
static inline u64 word_mask(const u8 *a, const u8 *b)
{
	const u64 low = 0x7f7f7f7f7f7f7f7full;
	/* Moves the top bit of byte i to bit 56 + i; no two sums collide. */
	const u64 gather = 0x0002040810204081ull;
	u64 diff = le64_to_cpu((__force __le64)word_diff(a, b));

	/* The top bit of each byte that is not zero. */
	diff = (((diff & low) + low) | diff) & ~low;
	return diff * gather >> 56;
}

static inline u64 block_mask(const u8 *a, const u8 *b)
{
	return word_mask(a, b) |
	       word_mask(a + 8, b + 8) << 8 |
	       word_mask(a + 16, b + 16) << 16 |
	       word_mask(a + 24, b + 24) << 24 |
	       word_mask(a + 32, b + 32) << 32 |
	       word_mask(a + 40, b + 40) << 40 |
	       word_mask(a + 48, b + 48) << 48 |
	       word_mask(a + 56, b + 56) << 56;
}

/* The same for the bytes after the last whole block. */
static u64 tail_mask(const u8 *a, const u8 *b, size_t len)
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

/*
 * Append the zrun from @equal to @start and the nzrun from there to @stop.
 * NULL if they do not fit.
 */
static u8 *put_runs(u8 *out, const u8 *end, const u8 *equal,
		    const u8 *start, const u8 *stop)
{
	size_t zrun = start - equal, nzrun = stop - start;
	size_t need = 2 + nzrun;

	if (zrun > SHORT_RUN)
		need++;
	if (nzrun > SHORT_RUN)
		need++;
	if (need > (size_t)(end - out))
		return NULL;
	out = put_length(out, zrun);
	out = put_length(out, nzrun);
	copy(out, start, nzrun);
	return out + nzrun;
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
	/* Where the last zrun began, and the nzrun after it if one is open. */
	const u8 *equal = page, *start = page;
	const u8 *end;
	u8 *out = dst;
	u64 open = 0;
	size_t pos;

	if (!base || !page || !dst || !len || len > XBZRLE_CODEC_MAX)
		return -EINVAL;
	end = out + dst_len;

	for (pos = 0; pos < len; pos += BLOCK) {
		const u8 *old = (const u8 *)base + pos;
		const u8 *new = (const u8 *)page + pos;
		u64 mask, before, starts, stops;
		size_t word_runs;

		if (len - pos < BLOCK)
			mask = tail_mask(old, new, len - pos);
		else if (!open && block_equal(old, new))
			continue;
		else
			mask = block_mask(old, new);

		before = mask << 1 | open;
		starts = mask & ~before;
		stops = ~mask & before;

		if (open && stops) {
			const u8 *stop = new + __ffs64(stops);

			out = put_runs(out, end, equal, start, stop);
			if (!out)
				return -ENOSPC;
			equal = stop;
			stops &= stops - 1;
		}
		open = mask >> 63;

		/*
		 * Literals of up to a word are copied as one word where neither
		 * buffer can end within it. What is too much is overwritten by
		 * the runs that follow, or lies behind the delta.
		 */
		word_runs = 0;
		if (len - pos >= BLOCK + WORD &&
		    (size_t)(end - out) >= BLOCK_DELTA_MAX + WORD)
			word_runs = WORD;

		for (; stops; stops &= stops - 1, starts &= starts - 1) {
			size_t first = __ffs64(starts), last = __ffs64(stops);
			size_t zrun, nzrun = last - first;

			start = new + first;
			zrun = start - equal;
			if (likely(nzrun <= word_runs && zrun <= SHORT_RUN)) {
				out[0] = zrun;
				out[1] = nzrun;
				store(out + 2, load(start));
				out += 2 + nzrun;
			} else {
				out = put_runs(out, end, equal, start,
					       new + last);
				if (!out)
					return -ENOSPC;
			}
			equal = new + last;
		}
		if (starts)
			start = new + __ffs64(starts);
	}

	if (open) {
		out = put_runs(out, end, equal, start, (const u8 *)page + len);
		if (!out)
			return -ENOSPC;
	}
	return out - (u8 *)dst;
}

/* A length at @in; NULL if it is malformed or nothing can follow it. */
static inline const u8 *get_length(const u8 *in, const u8 *end, size_t *length)
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

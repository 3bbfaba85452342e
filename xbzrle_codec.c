// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The XBZRLE codec: no allocation, no locks, no state.
 *
 * Comparing gives one bit per byte. Runs begin and end where neighbouring bits
 * differ, so the work is per run and per block of 64 bytes, and no branch hangs
 * on a single byte. What compares here does it with plain words; that with
 * vectors is in a file per architecture.
 */
#include <xbzrle/codec.h>

#ifdef __KERNEL__
#include <linux/bitops.h>
#include <linux/compiler.h>
#include <linux/minmax.h>
#include <linux/string.h>
#include <asm/byteorder.h>
#else
#include <endian.h>
#include <string.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define __force
#define le64_to_cpu	le64toh
#define likely(x)	__builtin_expect(!!(x), 1)
#define min(a, b)							\
({									\
	__typeof__(a) a_ = (a), b_ = (b);				\
									\
	a_ < b_ ? a_ : b_;						\
})
#define noinline	__attribute__((noinline))
#define unlikely(x)	__builtin_expect(!!(x), 0)

#ifdef __x86_64__
/* As the kernel has it: compilers extend the int of their own. */
static inline unsigned long __ffs64(u64 word)
{
	__asm__("rep bsf	%1, %0" : "=r" (word) : "rm" (word) : "cc");
	return word;
}
#else
#define __ffs64(x)	((unsigned long)__builtin_ctzll(x))
#endif
#endif

#define BLOCK		XBZRLE_DIFF_BLOCK
#define WORD		sizeof(u64)

/* Literals of up to so many bytes are copied without looking at their number. */
#define SPAN		(2 * WORD)

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

/* Top bits, of which one is set if a byte of the word is equal in both. */
static inline u64 word_zeros(const u8 *a, const u8 *b)
{
	u64 diff = word_diff(a, b);

	return (diff - 0x0101010101010101ull) & ~diff;
}

static inline bool block_all_new(const u8 *a, const u8 *b)
{
	return !((word_zeros(a, b) | word_zeros(a + 8, b + 8) |
		  word_zeros(a + 16, b + 16) | word_zeros(a + 24, b + 24) |
		  word_zeros(a + 32, b + 32) | word_zeros(a + 40, b + 40) |
		  word_zeros(a + 48, b + 48) | word_zeros(a + 56, b + 56)) &
		 0x8080808080808080ull);
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

/* Of all words: which of them differ cannot be predicted. */
static noinline u64 block_mask(const u8 *a, const u8 *b)
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

/* Blocks that are looked at together. More cost more where all of a page is new. */
#define GROUP		8

/*
 * Which blocks differ cannot be predicted, either: those of a group are found
 * without a branch, and the masks are made afterwards.
 */
static inline void compare(const u8 *base, const u8 *page, size_t len,
			   struct xbzrle_diff *diff)
{
	size_t nr = len / BLOCK, i, next = 0;
	u64 blocks = 0, left, mask;

	while (next < nr) {
		i = next;
		next = min(next + GROUP, nr);
		for (left = 0; i < next; i++) {
			diff->equal[i] = ~0ull;
			left |= (u64)!block_equal(base + i * BLOCK,
						  page + i * BLOCK) << i;
		}
		blocks |= left;
		while (left) {
			i = __ffs64(left);
			left &= left - 1;
			mask = block_mask(base + i * BLOCK, page + i * BLOCK);
			diff->equal[i] = ~mask;
			if (!(mask >> 63))
				continue;
			/* A run that goes on tends to be long. */
			while (++i < nr && block_all_new(base + i * BLOCK,
							 page + i * BLOCK)) {
				diff->equal[i] = 0;
				blocks |= 1ull << i;
			}
			if (i >= next) {
				next = i;
				break;
			}
			left &= ~0ull << i;
		}
	}
	if (len % BLOCK) {
		mask = tail_mask(base + nr * BLOCK, page + nr * BLOCK,
				 len % BLOCK);
		diff->equal[nr] = ~mask;
		blocks |= (u64)!!mask << nr;
	}
	diff->blocks = blocks;
}

static void compare_scalar(const void *base, const void *page,
			   struct xbzrle_diff *diff)
{
	compare(base, page, XBZRLE_DIFF_MAX, diff);
}

const struct xbzrle_codec xbzrle_codec_scalar = {
	.name = "scalar",
	.compare = compare_scalar,
};

/*
 * Exact, of at least one byte; what is shorter than two words is two or three
 * loads that may overlap.
 */
static inline void copy(u8 *to, const u8 *from, size_t len)
{
	u32 first, last;

	if (len > 2 * WORD) {
		memcpy(to, from, len);
	} else if (len >= WORD) {
		u64 head = load(from);
		u64 tail = load(from + len - WORD);

		store(to, head);
		store(to + len - WORD, tail);
	} else if (len >= sizeof(first)) {
		memcpy(&first, from, sizeof(first));
		memcpy(&last, from + len - sizeof(last), sizeof(last));
		memcpy(to, &first, sizeof(first));
		memcpy(to + len - sizeof(last), &last, sizeof(last));
	} else {
		u8 middle = from[len / 2];

		/* Without a branch on which of the three it is. */
		to[0] = from[0];
		to[len / 2] = middle;
		to[len - 1] = from[len - 1];
	}
}

static inline u8 *put_length(u8 *out, size_t length)
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

static inline unsigned int count_bits(u64 mask)
{
	mask -= mask >> 1 & 0x5555555555555555ull;
	mask = (mask & 0x3333333333333333ull) +
	       (mask >> 2 & 0x3333333333333333ull);
	mask = (mask + (mask >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return mask * 0x0101010101010101ull >> 56;
}

/*
 * The least that @blocks of a diff can take: their literals, and a byte for
 * each place where a run begins or ends.
 */
static size_t least(const struct xbzrle_diff *diff, u64 blocks)
{
	size_t need = 0;
	u64 open = 0;

	for (; blocks; blocks &= blocks - 1) {
		u64 mask = ~diff->equal[__ffs64(blocks)];

		need += count_bits(mask) +
			count_bits(mask ^ (mask << 1 | open));
		open = mask >> 63;
	}
	return need;
}

/**
 * struct encoder - how far the encoder has come
 * @out: where the delta goes on
 * @end: behind its room
 * @equal: where the last zrun began
 * @start: where the nzrun after it began, if one is open
 * @open: 1 if one is
 */
struct encoder {
	u8 *out;
	u8 *end;
	const u8 *equal;
	const u8 *start;
	u64 open;
};

/*
 * Most that is written for the runs that end in one block: two lengths and a
 * literal for every two bytes, one byte more for the first zrun, and what is
 * copied with the last literal.
 */
#define BLOCK_ROOM	(BLOCK / 2 * 3 + 1 + BLOCK)

/* All blocks but the last, which nothing can be read behind. */
#define NR_INNER	(XBZRLE_DIFF_MAX / BLOCK - 1)
#define INNER		((1ull << NR_INNER) - 1)

/* Bytes of delta before the first look at whether it may fit, and between two. */
#define FIRST_LOOK	128
#define LOOK		512

/*
 * Within a block, with that much room: what is copied too much is overwritten by
 * the runs that follow, or lies behind the delta.
 */
static inline u8 *put_literal(u8 *out, const u8 *start, size_t nzrun)
{
	memcpy(out, start, SPAN);
	if (unlikely(nzrun > SPAN))
		memcpy(out + SPAN, start + SPAN, BLOCK - SPAN);
	return out + nzrun;
}

/*
 * The bytes of the block at @new that are equal, or before @equal, which is not
 * behind the block.
 */
static inline u64 get_equal(const struct xbzrle_diff *diff, size_t i,
			    const u8 *new, const u8 *equal)
{
	u64 bits = diff->equal[i];

	if (unlikely(equal > new))
		bits |= (1ull << (equal - new)) - 1;
	return bits;
}

/*
 * Append the runs of the block at @new that end in it, at least one. The end of
 * the last one goes to @equal; what is left in @starts ends in another block.
 */
static inline u8 *put_ended(u8 *out, const u8 **equal, const u8 *new,
			    u64 *starts, u64 ends)
{
	size_t first = __ffs64(*starts), past = __ffs64(ends) + 1;
	size_t zrun = new + first - *equal, nzrun = past - first;
	/* No branch: where runs are far apart it is a toss-up. */
	size_t two = zrun > SHORT_RUN;

	out[0] = zrun | two << 7;
	out[1] = zrun >> 7;
	out += two;
	out[1] = nzrun;
	out = put_literal(out + 2, new + first, nzrun);
	for (;;) {
		*starts &= *starts - 1;
		ends &= ends - 1;
		if (!ends)
			break;
		first = __ffs64(*starts);
		out[0] = first - past;
		past = __ffs64(ends) + 1;
		nzrun = past - first;
		out[1] = nzrun;
		out = put_literal(out + 2, new + first, nzrun);
	}
	*equal = new + past;
	return out;
}

/* Is a byte of four blocks equal? */
static inline bool any_equal(const u64 *equal)
{
	return equal[0] | equal[1] | equal[2] | equal[3];
}

/*
 * Append the runs of all blocks but the last, while there is room without asking
 * for each. The blocks to go on with are put in @left; an open run goes on in the
 * last one, or ended before it. False if the delta is certain not to fit.
 */
static inline bool put_inner(struct encoder *to, const struct xbzrle_diff *diff,
			     const u8 *page, u64 *left)
{
	u64 blocks = diff->blocks & INNER, last = diff->blocks & ~INNER;
	const u8 *equal = to->equal, *looked_equal = equal;
	u8 *out = to->out, *looked_out = out;
	u8 *limit = to->end - BLOCK_ROOM;
	u8 *look = min(out + FIRST_LOOK, limit);

	while (blocks) {
		size_t i = __ffs64(blocks);
		const u8 *new = page + i * BLOCK, *start, *stop;
		u64 bits = get_equal(diff, i, new, equal);
		/* The first byte of each run, and the last if it is here. */
		u64 starts = ~bits & (bits << 1 | 1);
		u64 ends = ~bits & (bits >> 1 | diff->equal[i + 1] << 63);

		if (unlikely(out > look)) {
			if (out > limit)
				break;
			/* One that grows faster than the page may be hopeless. */
			if (out - looked_out > equal - looked_equal &&
			    least(diff, (blocks & (blocks - 1)) | last) >
			    (size_t)(to->end - out))
				return false;
			looked_out = out;
			looked_equal = equal;
			look = min(out + LOOK, limit);
		}
		blocks &= blocks - 1;
		if (likely(ends))
			out = put_ended(out, &equal, new, &starts, ends);
		if (unlikely(starts)) {
			start = new + __ffs64(starts);
			for (i++; i + 4 <= NR_INNER; i += 4)
				if (any_equal(diff->equal + i))
					break;
			while (i < NR_INNER && !diff->equal[i])
				i++;
			if (i == NR_INNER) {
				to->start = start;
				to->open = 1;
				blocks = 0;
				break;
			}
			stop = page + i * BLOCK + __ffs64(diff->equal[i]);
			out = put_runs(out, to->end, equal, start, stop);
			if (!out)
				return false;
			equal = stop;
			blocks &= ~0ull << i;
		}
	}
	to->out = out;
	to->equal = equal;
	*left = blocks | last;
	return true;
}

/*
 * Append the runs that end in a diff of the @len bytes at @page. False if they do
 * not fit.
 */
static inline bool put_diff(struct encoder *to, const struct xbzrle_diff *diff,
			    const u8 *page, size_t len)
{
	const u8 *equal, *start, *end = to->end, *stop;
	u64 blocks = diff->blocks, open;
	size_t next = 0;
	u8 *out;

	if (len == XBZRLE_DIFF_MAX && !to->open &&
	    end - to->out >= BLOCK_ROOM) {
		if (!put_inner(to, diff, page, &blocks))
			return false;
		next = NR_INNER;
	}
	out = to->out;
	equal = to->equal;
	start = to->start;
	open = to->open;
	while (blocks) {
		size_t i = __ffs64(blocks);
		const u8 *new = page + i * BLOCK;
		u64 mask = ~get_equal(diff, i, new, equal), edges;

		blocks &= blocks - 1;
		if (open && i != next) {
			/* It ended with its block. */
			stop = page + next * BLOCK;
			out = put_runs(out, end, equal, start, stop);
			if (!out)
				return false;
			equal = stop;
			open = 0;
		}
		edges = mask ^ (mask << 1 | open);
		next = i + 1;
		while (edges) {
			const u8 *edge = new + __ffs64(edges);

			edges &= edges - 1;
			if (open) {
				out = put_runs(out, end, equal, start, edge);
				if (!out)
					return false;
				equal = edge;
			} else {
				start = edge;
			}
			open = !open;
		}
	}
	if (open && next * BLOCK < len) {
		stop = page + next * BLOCK;
		out = put_runs(out, end, equal, start, stop);
		if (!out)
			return false;
		equal = stop;
		open = 0;
	}
	to->out = out;
	to->equal = equal;
	to->start = start;
	to->open = open;
	return true;
}

/* Returns the length of the delta, whose last run ends at @stop. */
static inline ssize_t finish(struct encoder *to, const u8 *dst,
			     const u8 *stop)
{
	if (to->open) {
		to->out = put_runs(to->out, to->end, to->equal, to->start,
				   stop);
		if (!to->out)
			return -ENOSPC;
	}
	return to->out - dst;
}

/**
 * xbzrle_encode_diff() - encode a page whose differences are known
 * @diff: the differences of XBZRLE_DIFF_MAX bytes from a base
 * @page: content, the same that was compared
 * @dst: where the delta goes; must not overlap @page or @diff
 * @dst_len: bytes that may be written at @dst
 *
 * As xbzrle_encode() for the rest.
 *
 * Context: Any. Does not sleep.
 * Return: As xbzrle_encode().
 */
ssize_t xbzrle_encode_diff(const struct xbzrle_diff *diff, const void *page,
			   void *dst, size_t dst_len)
{
	struct encoder to = {
		.out = dst,
		.equal = page,
		.start = page,
	};
	const u8 *new = page;

	to.end = to.out + dst_len;
	if (!put_diff(&to, diff, new, XBZRLE_DIFF_MAX))
		return -ENOSPC;
	return finish(&to, dst, new + XBZRLE_DIFF_MAX);
}

/**
 * xbzrle_encode_by() - xbzrle_encode() with a certain codec
 * @codec: the codec, usable here
 * @base: as there
 * @page: as there
 * @len: as there
 * @dst: as there
 * @dst_len: as there
 *
 * What is left of @len after pieces of XBZRLE_DIFF_MAX is compared by words.
 *
 * Context: Any, but see the @compare of @codec. Does not sleep.
 * Return: As xbzrle_encode(), the same for every codec.
 */
ssize_t xbzrle_encode_by(const struct xbzrle_codec *codec, const void *base,
			 const void *page, size_t len, void *dst,
			 size_t dst_len)
{
	struct encoder to = {
		.out = dst,
		.equal = page,
		.start = page,
	};
	const u8 *old = base, *new = page;
	struct xbzrle_diff diff;
	size_t left, part;

	if (!base || !page || !dst || !len || len > XBZRLE_CODEC_MAX)
		return -EINVAL;
	to.end = to.out + dst_len;

	for (left = len; left; left -= part, old += part, new += part) {
		part = XBZRLE_DIFF_MAX;
		if (left >= part) {
			codec->compare(old, new, &diff);
		} else {
			part = left;
			compare(old, new, part, &diff);
		}
		if ((diff.blocks || to.open) &&
		    !put_diff(&to, &diff, new, part))
			return -ENOSPC;
	}
	return finish(&to, dst, new);
}

const struct xbzrle_codec *const xbzrle_codecs[] = {
#if defined(__x86_64__) && !defined(CONFIG_UML)
	&xbzrle_codec_avx512bw,
	&xbzrle_codec_avx2,
	&xbzrle_codec_sse2,
#elif defined(__aarch64__)
	&xbzrle_codec_neon,
#endif
	&xbzrle_codec_scalar,
	NULL
};

/**
 * xbzrle_codec_best() - the first codec that this machine can execute
 *
 * Context: Any.
 * Return: The codec; there always is one.
 */
const struct xbzrle_codec *xbzrle_codec_best(void)
{
	const struct xbzrle_codec *const *codec = xbzrle_codecs;

	while ((*codec)->usable && !(*codec)->usable())
		codec++;
	return *codec;
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
 * Userspace gets the best codec, the kernel the one that needs no FPU.
 *
 * Context: Any. Does not sleep.
 * Return: Length of the delta, 0 if @base and @page are equal, -ENOSPC if the
 * delta is longer than @dst_len, -EINVAL if an argument is NULL or @len is out
 * of range.
 */
ssize_t xbzrle_encode(const void *base, const void *page, size_t len,
		      void *dst, size_t dst_len)
{
#ifdef __KERNEL__
	const struct xbzrle_codec *codec = &xbzrle_codec_scalar;
#else
	/* Threads that come here at once find the same. */
	static const struct xbzrle_codec *best;
	const struct xbzrle_codec *codec = __atomic_load_n(&best,
							   __ATOMIC_RELAXED);

	if (unlikely(!codec)) {
		codec = xbzrle_codec_best();
		__atomic_store_n(&best, codec, __ATOMIC_RELAXED);
	}
#endif
	return xbzrle_encode_by(codec, base, page, len, dst, dst_len);
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

/* Runs that are remembered from the check; the stack of a kernel is small. */
#ifdef __KERNEL__
#define NR_RUNS		64
#else
#define NR_RUNS		1024
#endif

/**
 * struct runs - literals that were found to be in order
 * @nr: how many
 * @in: where the next pair of lengths is, if there are more
 * @pos: offset in the page that it goes on at
 * @run: where each lies in the delta and in the page, and its length
 */
struct runs {
	unsigned int nr;
	const u8 *in;
	size_t pos;
	struct {
		u32 in;
		u16 pos;
		u16 count;
	} run[NR_RUNS];
};

/*
 * Check a delta from @in on, or, if @page is given, apply it. Each length has to
 * be read to know where the next one is; @runs has the copying not wait for that
 * a second time.
 */
static inline ssize_t walk(const u8 *in, const u8 *end, size_t pos, u8 *page,
			   size_t len, struct runs *runs)
{
	const u8 *delta = in;

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
		if (runs && runs->nr < NR_RUNS) {
			runs->run[runs->nr].in = in - delta;
			runs->run[runs->nr].pos = pos;
			runs->run[runs->nr].count = count;
			runs->nr++;
			runs->in = in + count;
			runs->pos = pos + count;
		}
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
	const u8 *in = delta, *end = in + delta_len;
	struct runs runs;
	unsigned int i;
	ssize_t ret;
	u8 *to = page;

	if (!delta || !page || !len || len > XBZRLE_CODEC_MAX)
		return -EINVAL;

	runs.nr = 0;
	runs.in = in;
	runs.pos = 0;
	ret = walk(in, end, 0, NULL, len, &runs);
	if (ret < 0)
		return ret;
	for (i = 0; i < runs.nr; i++)
		copy(to + runs.run[i].pos, in + runs.run[i].in,
		     runs.run[i].count);
	if (runs.in < end)
		walk(runs.in, end, runs.pos, to, len, NULL);
	return ret;
}

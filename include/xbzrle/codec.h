/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * XBZRLE: the difference of two buffers as runs of equal and of new bytes.
 *
 *   delta  = zrun nzrun | zrun nzrun delta
 *   zrun   = length             bytes equal in base and new content
 *   nzrun  = length byte...     bytes of the new content
 *   length = ULEB128 of one or two bytes, at most 0x3fff
 *
 * A trailing zrun is left out, so equal buffers have no encoding. One source
 * serves the kernel module and userspace.
 *
 * Encoding has two parts. Comparing is what vector instructions are for: each
 * codec has a way of its own to do that. Making runs of what differs is the
 * same for all, in plain C, so that all give the same bytes, and the kernel
 * needs its FPU for the first part alone.
 */
#ifndef _XBZRLE_CODEC_H
#define _XBZRLE_CODEC_H

#ifdef __KERNEL__
#include <linux/errno.h>
#include <linux/types.h>
#else
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <linux/types.h>
#endif

/* Longest buffer a delta can describe: the largest two-byte length. */
#define XBZRLE_CODEC_MAX	0x3fff

/* Bytes that are compared at a time, and those that share a mask. */
#define XBZRLE_DIFF_MAX		4096
#define XBZRLE_DIFF_BLOCK	64

/**
 * struct xbzrle_diff - where up to XBZRLE_DIFF_MAX bytes differ
 * @blocks: bit i is set if a byte of block i differs
 * @equal: for each block a bit per byte, bit 0 for the first, set where base and
 *	page are equal
 */
struct xbzrle_diff {
	__u64 blocks;
	__u64 equal[XBZRLE_DIFF_MAX / XBZRLE_DIFF_BLOCK];
};

/**
 * struct xbzrle_codec - a way to compare
 * @name: what it is made for, in lower case
 * @usable: can this machine execute it? NULL if any can.
 * @compare: fill @diff with the differences of XBZRLE_DIFF_MAX bytes. In the
 *	kernel the caller has to own the FPU, unless @usable is NULL.
 */
struct xbzrle_codec {
	const char *name;
	bool (*usable)(void);
	void (*compare)(const void *base, const void *page,
			struct xbzrle_diff *diff);
};

/* Those of this architecture, best first, the scalar one last; then NULL. */
extern const struct xbzrle_codec *const xbzrle_codecs[];
extern const struct xbzrle_codec xbzrle_codec_scalar;
extern const struct xbzrle_codec xbzrle_codec_sse2;
extern const struct xbzrle_codec xbzrle_codec_avx2;
extern const struct xbzrle_codec xbzrle_codec_avx512bw;
extern const struct xbzrle_codec xbzrle_codec_neon;

const struct xbzrle_codec *xbzrle_codec_best(void);
ssize_t xbzrle_encode_diff(const struct xbzrle_diff *diff, const void *page,
			   void *dst, size_t dst_len);
ssize_t xbzrle_encode_by(const struct xbzrle_codec *codec, const void *base,
			 const void *page, size_t len, void *dst,
			 size_t dst_len);
ssize_t xbzrle_encode(const void *base, const void *page, size_t len,
		      void *dst, size_t dst_len);
ssize_t xbzrle_decode(const void *delta, size_t delta_len,
		      void *page, size_t len);

#endif /* _XBZRLE_CODEC_H */

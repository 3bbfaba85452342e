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
 */
#ifndef _XBZRLE_CODEC_H
#define _XBZRLE_CODEC_H

#ifdef __KERNEL__
#include <linux/errno.h>
#include <linux/types.h>
#else
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#endif

/* Longest buffer a delta can describe: the largest two-byte length. */
#define XBZRLE_CODEC_MAX	0x3fff

ssize_t xbzrle_encode(const void *base, const void *page, size_t len,
		      void *dst, size_t dst_len);
ssize_t xbzrle_decode(const void *delta, size_t delta_len,
		      void *page, size_t len);

#endif /* _XBZRLE_CODEC_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* The implementations of the codec that are fuzzed. */
#ifndef _FUZZ_CODECS_H
#define _FUZZ_CODECS_H

#include <xbzrle/codec.h>

static const struct codec {
	ssize_t (*encode)(const void *base, const void *page, size_t len,
			  void *dst, size_t dst_len);
	ssize_t (*decode)(const void *delta, size_t delta_len, void *page,
			  size_t len);
} codecs[] = {
	/* One line each. */
	{ xbzrle_encode, xbzrle_decode },
};

#define CODECS	(sizeof(codecs) / sizeof(codecs[0]))

#endif /* _FUZZ_CODECS_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * Deltas byte by byte, as docs/stream.md has their grammar. Shares no code with
 * the codec.
 */
#ifndef _FUZZ_GRAMMAR_H
#define _FUZZ_GRAMMAR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Longest delta of so many bytes: two lengths and a byte for every two. */
#define GRAMMAR_DELTA_MAX(len)	((len) / 2 * 3 + 8)

size_t grammar_encode(const uint8_t *base, const uint8_t *page, size_t len,
		      uint8_t *delta);
ssize_t grammar_decode(const uint8_t *delta, size_t delta_len, uint8_t *page,
		       size_t len);

#endif /* _FUZZ_GRAMMAR_H */

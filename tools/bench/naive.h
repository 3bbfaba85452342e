/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef BENCH_NAIVE_H
#define BENCH_NAIVE_H

#include <sys/types.h>

ssize_t naive_encode(const void *base, const void *page, size_t len,
		     void *dst, size_t dst_len);
ssize_t naive_decode(const void *delta, size_t delta_len, void *page,
		     size_t len);

#endif /* BENCH_NAIVE_H */

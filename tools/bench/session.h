/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* The device as the bench calls it: what fails ends the bench. */
#ifndef BENCH_SESSION_H
#define BENCH_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include <linux/xbzrle.h>

#define MIB	(1ULL << 20)

double now(void);
double median(double *values, size_t nr);

int session_open(uint64_t budget);
uint64_t session_features(void);
uint64_t session_sync(int session, uint32_t flags);
uint64_t session_read(int session);
struct xbzrle_stats session_stats(int session);

#endif /* BENCH_SESSION_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * Policies of a cache of bases. Each is given a trace and says of which accesses
 * it has the base.
 */
#ifndef BENCH_POLICY_H
#define BENCH_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "trace.h"

void policy_module(const struct trace *trace, uint32_t capacity, bool *hits);
void policy_direct(const struct trace *trace, uint32_t capacity, bool *hits);
void policy_lru(const struct trace *trace, uint32_t capacity, bool *hits);
void policy_optimum(const struct trace *trace, uint32_t capacity, bool *hits);

#endif /* BENCH_POLICY_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef BENCH_CONTEST_H
#define BENCH_CONTEST_H

#include <jansson.h>

json_t *contest_measure(void);
void contest_print(const json_t *result);

#endif /* BENCH_CONTEST_H */

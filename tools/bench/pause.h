/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef BENCH_PAUSE_H
#define BENCH_PAUSE_H

#include <jansson.h>

json_t *pause_measure(void);
void pause_print(const json_t *result);

#endif /* BENCH_PAUSE_H */

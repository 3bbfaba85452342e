/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef BENCH_ROUND_H
#define BENCH_ROUND_H

#include <jansson.h>

json_t *round_kinds_measure(void);
void round_kinds_print(const json_t *result);
json_t *round_harvest_measure(void);
void round_harvest_print(const json_t *result);

#endif /* BENCH_ROUND_H */

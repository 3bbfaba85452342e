/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef BENCH_SYNTHETIC_H
#define BENCH_SYNTHETIC_H

#include "trace.h"

/* Bases that there is room for when a synthetic trace is run. */
#define SYNTHETIC_CAPACITY	4096

/**
 * struct synthetic - a trace that is made up
 * @name: as it is named in the output
 * @make: fills in a trace, given a parameter and a source of random numbers
 * @parameter: what it is given
 */
struct synthetic {
	const char *name;
	void (*make)(struct trace *trace, double parameter, uint64_t *random);
	double parameter;
};

extern const struct synthetic synthetics[];
extern const size_t nr_synthetics;

void synthetic_make(const struct synthetic *synthetic, struct trace *trace);

#endif /* BENCH_SYNTHETIC_H */

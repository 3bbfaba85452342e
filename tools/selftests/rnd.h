/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* Random numbers that a seed gives again. */
#ifndef RND_H
#define RND_H

#include <stdint.h>

/* Never 0; neighbouring seeds have nothing in common. */
static inline uint64_t rnd_seed(uint64_t seed, uint64_t stream)
{
	return ((seed + 1) * 0x9e3779b97f4a7c15ULL ^
		(stream + 1) * 0xd1342543de82ef95ULL) | 1;
}

/* xorshift64* */
static inline uint64_t rnd(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

static inline uint64_t rnd_below(uint64_t *state, uint64_t limit)
{
	return (rnd(state) >> 16) % limit;
}

#endif /* RND_H */

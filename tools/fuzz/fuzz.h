/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* What the fuzzers have in common. */
#ifndef _FUZZ_H
#define _FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* What every input must keep to; a violation ends the fuzzer as a crash does. */
#define must(condition) \
	((condition) ? (void)0 : fuzz_broken(__FILE__, __LINE__, #condition))

/**
 * struct fuzz_input - what is left of an input
 * @at: next byte
 * @end: behind the last
 */
struct fuzz_input {
	const uint8_t *at;
	const uint8_t *end;
};

/* What libFuzzer calls, and what it offers. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room,
			       unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);

_Noreturn void fuzz_broken(const char *file, int line, const char *what);
unsigned int fuzz_u8(struct fuzz_input *input);
unsigned int fuzz_be16(struct fuzz_input *input);
void *fuzz_alloc(size_t size);
void fuzz_quiet(void);

#endif /* _FUZZ_H */

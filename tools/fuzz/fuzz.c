// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuzz.h"

/**
 * fuzz_broken() - an input has shown a bug
 * @file: of the check
 * @line: of the check
 * @what: the condition that does not hold
 *
 * libFuzzer keeps the input, and prints where.
 */
void fuzz_broken(const char *file, int line, const char *what)
{
	/* Not through stdio, which fuzz_quiet() may have turned away. */
	dprintf(STDERR_FILENO, "%s:%d: does not hold: %s\n", file, line, what);
	abort();
}

/**
 * fuzz_u8() - take a byte
 * @input: input
 *
 * Return: the byte, 0 behind the end.
 */
unsigned int fuzz_u8(struct fuzz_input *input)
{
	return input->at < input->end ? *input->at++ : 0;
}

/**
 * fuzz_be16() - take two bytes
 * @input: input
 *
 * Return: a number below 0x10000.
 */
unsigned int fuzz_be16(struct fuzz_input *input)
{
	unsigned int high = fuzz_u8(input);

	return high << 8 | fuzz_u8(input);
}

/**
 * fuzz_alloc() - allocate exactly so much, between bytes that trap
 * @size: bytes, may be 0
 *
 * Return: memory to free().
 */
void *fuzz_alloc(size_t size)
{
	void *memory = malloc(size);

	if (!memory) {
		perror("fuzz");
		exit(1);
	}
	return memory;
}

/**
 * fuzz_quiet() - what the tool prints is not of interest
 *
 * libFuzzer and the sanitizers have their own ways to standard error.
 */
void fuzz_quiet(void)
{
	FILE *nowhere = fopen("/dev/null", "w");

	if (!nowhere) {
		perror("/dev/null");
		exit(1);
	}
	stdout = nowhere;
	stderr = nowhere;
}

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* Directories that a target writes into. */
#ifndef _FUZZ_PLACE_H
#define _FUZZ_PLACE_H

#include <stdbool.h>
#include <stddef.h>

const char *place_path(void);
void place_empty(const char *dir);
unsigned int place_count(const char *dir);
bool place_holds(const char *dir, const char *name, const void *bytes,
		 size_t length);
int place_run(int (*command)(int argc, char **argv), char **argv,
	      size_t file_size);

#endif /* _FUZZ_PLACE_H */

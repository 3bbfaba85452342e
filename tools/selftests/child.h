/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* A child that does as it is told with its own copy of the memory. */
#ifndef CHILD_H
#define CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "model.h"

/**
 * struct child - a process that waits for orders
 * @pid: process
 * @to: takes an order
 * @from: tells that it was carried out
 */
struct child {
	pid_t pid;
	int to;
	int from;
};

bool child_start(struct child *c, unsigned char *mem);
bool child_writes(struct child *c, unsigned char page);
bool child_unmaps(struct child *c, unsigned char page);
bool child_execs(struct child *c);
void child_kill(struct child *c);
int64_t child_diff(struct child *c, struct model *m, const char *name,
		   unsigned char *mem, size_t length);
bool child_is_idle(int argc, char **argv);

#endif /* CHILD_H */

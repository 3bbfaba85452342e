/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* Did the kernel lose memory? Asked with everything closed. */
#ifndef LEAK_H
#define LEAK_H

#include <stdbool.h>

bool leak_watched(void);
int leak_check(void);

#endif /* LEAK_H */

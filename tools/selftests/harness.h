/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* The kernel's harness, with time for a debug kernel on a busy machine. */
#ifndef HARNESS_H
#define HARNESS_H

#include "kselftest_harness.h"

/* Seconds for one test. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	600

#endif /* HARNESS_H */

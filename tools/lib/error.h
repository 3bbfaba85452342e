/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* How the library's files fill in struct xbzrle_error. */
#ifndef _LIBXBZRLE_ERROR_H
#define _LIBXBZRLE_ERROR_H

#include "xbzrle.h"

__attribute__((format(printf, 4, 5)))
int xbzrle_fail(struct xbzrle_error *err, int code, uint64_t position,
		const char *format, ...);

#endif /* _LIBXBZRLE_ERROR_H */

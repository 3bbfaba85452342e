// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <stdarg.h>
#include <stdio.h>

#include "xbzrle.h"

/**
 * xbzrle_fail() - fill in an error
 * @err: the caller's struct, or NULL
 * @code: errno value, positive
 * @position: stream position or address
 * @format: printf format of the message
 *
 * Return: -@code, for the caller to return.
 */
int xbzrle_fail(struct xbzrle_error *err, int code, uint64_t position,
		const char *format, ...)
{
	va_list args;

	if (!err)
		return -code;

	err->code = code;
	err->region = 0;
	err->position = position;
	va_start(args, format);
	vsnprintf(err->message, sizeof(err->message), format, args);
	va_end(args);
	return -code;
}

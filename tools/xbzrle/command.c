// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <errno.h>
#include <stdio.h>

#include "command.h"

/**
 * command_at_byte() - put the position in the stream into the message
 * @ret: what the library returned with @err
 * @err: its error, if it is one of the stream's content
 *
 * Return: @ret.
 */
int command_at_byte(int ret, struct xbzrle_error *err)
{
	struct xbzrle_error plain;

	if (ret != -EBADMSG)
		return ret;
	plain = *err;
	return xbzrle_fail(err, EBADMSG, plain.position,
			   "stream byte %llu: %s",
			   (unsigned long long)plain.position, plain.message);
}

/**
 * command_failed() - tell an error
 * @err: error
 *
 * A message may quote what a peer sent, so only what prints is printed.
 *
 * Return: the exit status.
 */
int command_failed(const struct xbzrle_error *err)
{
	const unsigned char *at;

	fputs("xbzrle: ", stderr);
	for (at = (const unsigned char *)err->message; *at; at++)
		fputc(*at < ' ' || *at == 0x7f ? '?' : *at, stderr);
	fputc('\n', stderr);
	return EXIT_FAILED;
}

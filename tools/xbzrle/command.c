// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
 * command_at_limit() - say what to do about a lack of allowed memory
 * @ret: what the library returned with @err
 * @err: its error, if it is that one
 *
 * Return: @ret.
 */
int command_at_limit(int ret, struct xbzrle_error *err)
{
	struct xbzrle_error plain;

	if (ret != -ENOBUFS)
		return ret;
	plain = *err;
	return xbzrle_fail(err, ENOBUFS, plain.position,
			   "%.160s; if they are wanted, allow more with --memory",
			   plain.message);
}

/**
 * command_print() - print what may come from a peer
 * @to: where to
 * @text: one line; what does not print, and might steer a terminal, becomes ?
 */
void command_print(FILE *to, const char *text)
{
	const unsigned char *at;

	for (at = (const unsigned char *)text; *at; at++) {
		bool steers = *at < ' ' || *at == 0x7f;

		/* U+0080 to U+009F do, too. */
		if (at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0) {
			steers = true;
			at++;
		}
		fputc(steers ? '?' : *at, to);
	}
}

/**
 * command_json_text() - make a JSON string of what may come from a peer
 * @text: text; if it is not UTF-8, what is not ASCII becomes ?
 *
 * Return: the string, or NULL without memory.
 */
json_t *command_json_text(const char *text)
{
	json_t *string = json_string(text);
	char *plain, *at;

	if (string)
		return string;
	plain = strdup(text);
	if (!plain)
		return NULL;
	for (at = plain; *at; at++)
		if (*at & 0x80)
			*at = '?';
	string = json_string(plain);
	free(plain);
	return string;
}

/**
 * command_print_json() - print JSON
 * @json: what; NULL if there was no memory for it
 * @flags: of json_dumpf()
 * @err: set on failure
 *
 * What is not ASCII is escaped: names are a peer's, and some of it steers a terminal.
 *
 * Return: 0 or a negative errno.
 */
int command_print_json(const json_t *json, size_t flags,
		       struct xbzrle_error *err)
{
	if (!json_dumpf(json, stdout, flags | JSON_ENSURE_ASCII))
		return 0;
	if (ferror(stdout))
		return xbzrle_fail(err, errno, 0, "cannot write: %s",
				   strerror(errno));
	return xbzrle_fail(err, ENOMEM, 0, "no memory to print JSON");
}

/**
 * command_flush() - see that what was printed is out
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int command_flush(struct xbzrle_error *err)
{
	if (!fflush(stdout) && !ferror(stdout))
		return 0;
	return xbzrle_fail(err, errno, 0, "cannot write: %s", strerror(errno));
}

/**
 * command_failed() - tell an error
 * @err: error
 *
 * Return: the exit status.
 */
int command_failed(const struct xbzrle_error *err)
{
	fputs("xbzrle: ", stderr);
	command_print(stderr, err->message);
	fputc('\n', stderr);
	return EXIT_FAILED;
}

/**
 * command_status() - what a command ends with
 * @ret: 0, -COMMAND_MISUSED or a negative errno
 *
 * Return: the exit status.
 */
int command_status(int ret)
{
	if (!ret)
		return EXIT_DONE;
	return ret == -COMMAND_MISUSED ? EXIT_USAGE : EXIT_FAILED;
}

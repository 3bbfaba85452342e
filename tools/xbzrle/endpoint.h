/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef _XBZRLE_TOOL_ENDPOINT_H
#define _XBZRLE_TOOL_ENDPOINT_H

#include <stdbool.h>
#include <sys/types.h>

#include <xbzrle.h>

/**
 * struct endpoint - where a stream goes to or comes from
 * @in: fd to read from, -1 if none
 * @out: fd to write to, -1 if none; may be the same as @in
 * @child: the process of exec:, or 0
 * @path: the file that @out will be when all is in it, or NULL
 * @unfinished: its name until then
 */
struct endpoint {
	int in;
	int out;
	pid_t child;
	char *path;
	char *unfinished;
};

/* Text for --help. */
#define ENDPOINT_HELP \
	"tcp:HOST:PORT, unix:PATH, file:PATH, exec:COMMAND, fd:NUMBER or -"

bool endpoint_known(const char *spec);
int endpoint_open_send(struct endpoint *end, const char *spec,
		       struct xbzrle_error *err);
int endpoint_open_recv(struct endpoint *end, const char *spec,
		       struct xbzrle_error *err);
int endpoint_close(struct endpoint *end, struct xbzrle_error *err);

#endif /* _XBZRLE_TOOL_ENDPOINT_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* The directories that the tool writes into. */
#ifndef _XBZRLE_TOOL_DIRECTORY_H
#define _XBZRLE_TOOL_DIRECTORY_H

#include <xbzrle.h>

int directory_sync_of(const char *path);
int directory_open(const char *path, struct xbzrle_error *err);

#endif /* _XBZRLE_TOOL_DIRECTORY_H */

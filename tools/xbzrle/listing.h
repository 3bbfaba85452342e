/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* The regions of a session, as the kernel lists them. */
#ifndef _XBZRLE_TOOL_LISTING_H
#define _XBZRLE_TOOL_LISTING_H

#include <stdbool.h>
#include <stddef.h>

#include <xbzrle.h>

struct listing_name {
	char text[XBZRLE_NAME_MAX + 1];
};

/**
 * struct listing - regions that a session has
 * @names: their names, sorted
 * @count: how many
 */
struct listing {
	struct listing_name *names;
	size_t count;
};

int listing_read(struct listing *listing, int fd, struct xbzrle_error *err);
bool listing_has(const struct listing *listing, const char *name);
void listing_free(struct listing *listing);

#endif /* _XBZRLE_TOOL_LISTING_H */

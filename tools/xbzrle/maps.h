/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef _XBZRLE_TOOL_MAPS_H
#define _XBZRLE_TOOL_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <xbzrle.h>

enum maps_kind {
	MAPS_HEAP,		/* what brk() grows */
	MAPS_ANON,		/* private anonymous and writable, but the heap */
	MAPS_NAME,		/* a name as /proc/PID/maps shows it */
	MAPS_RANGE,		/* addresses */
};

/**
 * struct maps_wish - what the user wants of a process
 * @kind: enum maps_kind
 * @text: the user's word, a name for MAPS_NAME
 * @start: first address of MAPS_RANGE
 * @end: address after the last
 * @found: there was some of it in the map
 */
struct maps_wish {
	enum maps_kind kind;
	const char *text;
	uint64_t start, end;
	bool found;
};

/* What there is of it. */
struct maps_range {
	uint64_t start, end;
	bool heap;
	bool anon;		/* private, and of no file */
	bool shared;		/* others may map it, too */
};

int maps_parse(const char *text, struct maps_wish *wish);
int maps_add(struct maps_wish **wishes, size_t *count, const char *text);
int maps_add_default(struct maps_wish **wishes, size_t *count,
		     struct xbzrle_error *err);
int maps_select(pid_t pid, struct maps_wish *wishes, size_t wish_count,
		struct maps_range **ranges, size_t *range_count,
		struct xbzrle_error *err);

#endif /* _XBZRLE_TOOL_MAPS_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef _XBZRLE_TOOL_TRACKED_H
#define _XBZRLE_TOOL_TRACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xbzrle.h>

#include "frame.h"
#include "maps.h"
#include "softdirty.h"
#include "target.h"

/**
 * struct tracked_region - a range that is, or was, a region of the session
 * @id: names it to the session
 * @present: it has not ended
 * @region_due: the receiver was not told of it yet
 * @drop_due: nor that it has ended
 * @followed: the replica has it, if there is one
 * @start: first address
 * @end: address after the last
 * @told: we have to say what was written to it
 * @softdirty: and what that was
 * @name: its name in the stream
 */
struct tracked_region {
	uint32_t id;
	bool present;
	bool region_due;
	bool drop_due;
	bool followed;
	uint64_t start, end;
	bool told;
	struct softdirty softdirty;
	char name[XBZRLE_NAME_MAX + 1];
};

/**
 * struct tracked - the session's regions and how they follow the target
 * @session: session
 * @target: process
 * @tracker: XBZRLE_TRACKER_AUTO, or XBZRLE_TRACKER_EXTERNAL to be fed by
 *	tracked_mark_written()
 * @shared: the same for memory that others may map, too
 * @alone: refuse such memory, because nobody but the target can be paused
 * @wishes: what the user wants of it
 * @wish_count: how many
 * @heap: where the heap begins, 0 while it is not known
 * @regions: also those that have ended, because a name is used once
 * @count: how many
 * @covered: what was wanted of the map when it was last read, and is all in
 *	regions; the next look at the map need not compare it with each of them
 * @covered_count: how many
 */
struct tracked {
	struct xbzrle_session *session;
	struct target *target;
	enum xbzrle_tracker tracker;
	enum xbzrle_tracker shared;
	bool alone;
	struct maps_wish *wishes;
	size_t wish_count;
	uint64_t heap;
	struct tracked_region *regions;
	size_t count;
	struct maps_range *covered;
	size_t covered_count;
};

int tracked_parse(const char *text, enum xbzrle_tracker *tracker);
int tracked_choose(struct tracked *tracked, enum xbzrle_tracker tracker,
		   bool quiet, struct xbzrle_error *err);
int tracked_update(struct tracked *tracked, struct xbzrle_error *err);
int tracked_mark_written(struct tracked *tracked, struct xbzrle_error *err);
int tracked_end(struct tracked *tracked, uint32_t id,
		struct xbzrle_error *err);
int tracked_tell(struct tracked *tracked, struct frame_link *link,
		 struct xbzrle_error *err);
size_t tracked_present(const struct tracked *tracked);
void tracked_release(struct tracked *tracked);

#endif /* _XBZRLE_TOOL_TRACKED_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* Taking rounds from a session while its regions come and go. */
#ifndef _XBZRLE_TOOL_ROUND_H
#define _XBZRLE_TOOL_ROUND_H

#include <stdbool.h>

#include <xbzrle.h>

#include "pause.h"
#include "replica.h"
#include "target.h"
#include "tracked.h"

/* So often a point-in-time round is tried. */
#define ROUND_TRIES	20

/**
 * struct round_source - where rounds come from
 * @session: session
 * @tracked: its regions, if we make them; else @session keeps what it has
 * @target: process, or NULL if it is not known
 * @pause: who must not write while a point-in-time round is started
 * @replica: follows what is read, or NULL
 * @link: where regions are announced
 * @process_gone: a region of a session of others has ended with its process
 * @stays_stopped: the target is stopped until the round is read
 * @torn: the round that is read is not of one instant
 * @told_torn: the session has said so, which it does once
 * @scan_time: seconds that soft-dirty bits have kept the target stopped
 * @paused: seconds that the last point-in-time round has
 */
struct round_source {
	struct xbzrle_session *session;
	struct tracked *tracked;
	struct target *target;
	struct pause *pause;
	struct replica *replica;
	struct frame_link *link;
	bool process_gone;
	bool stays_stopped;
	bool torn;
	bool told_torn;
	double scan_time;
	double paused;
};

int round_check_point_in_time(struct xbzrle_session *session,
			      struct xbzrle_error *err);
int round_start(struct round_source *source, unsigned int flags,
		struct xbzrle_sync *sync, struct xbzrle_error *err);
ssize_t round_read(struct round_source *source, void *buffer, size_t length,
		   struct xbzrle_error *err);
int round_never_whole(const struct round_source *source, int tries,
		      struct xbzrle_error *err);

#endif /* _XBZRLE_TOOL_ROUND_H */

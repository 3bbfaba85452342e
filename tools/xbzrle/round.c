// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "listing.h"
#include "progress.h"
#include "round.h"
#include "signals.h"

/* A target may unmap faster than we look; of so many new regions we follow that. */
#define SYNC_TRIES	100
/* How soon to try again when another thread is in the session. */
#define BUSY_US		1000

/**
 * round_check_point_in_time() - can there be point-in-time rounds at all?
 * @session: session
 * @err: set if not
 *
 * Return: 0 or a negative errno.
 */
int round_check_point_in_time(struct xbzrle_session *session,
			      struct xbzrle_error *err)
{
	struct xbzrle_info info;
	int ret = xbzrle_info(session, &info, err);

	if (ret || info.features & XBZRLE_FEATURE_POINT_IN_TIME)
		return ret;
	return xbzrle_fail(err, EOPNOTSUPP, 0,
			   "the module has no point-in-time rounds");
}

static bool is_external(const struct round_source *source)
{
	return source->tracked &&
		source->tracked->tracker == XBZRLE_TRACKER_EXTERNAL;
}

static int mark_and_sync(struct round_source *source, unsigned int flags,
			 struct xbzrle_sync *sync, struct xbzrle_error *err)
{
	int ret = 0;

	if (is_external(source))
		ret = tracked_mark_written(source->tracked, err);
	return ret ? ret : xbzrle_sync(source->session, flags, sync, err);
}

/* What it wrote then, nobody has seen. */
static int lost_writes(const struct round_source *source,
		       struct xbzrle_error *err)
{
	return xbzrle_fail(err, EBUSY, 0,
			   "process %d was put back to work while its soft-dirty bits were read",
			   source->target->pid);
}

/*
 * Regions of a session of others are unregistered by them, or by us, who know a
 * region that ended by its id alone, and the stream, which has names, says nothing
 * of it until another region is new. Notes which are there no more.
 */
static int find_gone(struct round_source *source, bool *found,
		     struct xbzrle_error *err)
{
	struct replica *replica = source->replica;
	struct replica_region *region;
	struct listing listing;
	size_t i;
	int ret;

	*found = false;
	if (source->tracked || !replica)
		return 0;
	ret = listing_read(&listing, xbzrle_session_fd(source->session), err);
	if (ret)
		return ret;
	for (i = 0; i < replica->count; i++) {
		region = &replica->regions[i];
		if (region->state != REPLICA_PRESENT || region->gone)
			continue;
		region->gone = !listing_has(&listing, region->name);
		*found |= region->gone;
	}
	listing_free(&listing);
	return 0;
}

/* They are of no round any more; before SYNC that is, and so between rounds. */
static int drop_gone(struct round_source *source, struct xbzrle_error *err)
{
	struct replica *replica = source->replica;
	struct replica_region *region;
	size_t i;
	int ret;

	for (i = 0; replica && i < replica->count; i++) {
		region = &replica->regions[i];
		if (!region->gone)
			continue;
		region->gone = false;
		if (region->state != REPLICA_PRESENT)
			continue;
		ret = frame_send_drop(source->link, region->name, err);
		if (ret)
			return ret;
		replica_drop(replica, region);
	}
	return 0;
}

/* Makes the session's regions those of the target, or learns which there are. */
static int update(struct round_source *source, struct xbzrle_error *err)
{
	struct tracked *tracked = source->tracked;
	bool gone;
	int ret;

	if (!tracked)
		return find_gone(source, &gone, err);
	ret = tracked_update(tracked, err);
	if (!ret && !tracked_present(tracked))
		ret = xbzrle_fail(err, ENOENT, 0,
				  "process %d has no such memory",
				  source->target->pid);
	return ret;
}

/*
 * Do the others go on without the region that has ended? What is tracked of our
 * own ends with its process; a session of others may have more than one.
 */
static bool others_go_on(const struct round_source *source, int ret)
{
	return ret == -EFAULT || ret == -EOPNOTSUPP ||
		(ret == -ESRCH && !source->tracked);
}

static int end_region(struct round_source *source,
		      const struct xbzrle_error *why, struct xbzrle_error *err)
{
	uint32_t id = why->region;
	int ret;

	if (source->tracked)
		return tracked_end(source->tracked, id, err);
	source->process_gone |= why->code == ESRCH;
	ret = xbzrle_unregister(source->session, id, err);
	/* Whose session it is may have been faster. */
	return ret == -EINVAL ? 0 : ret;
}

/* Of which SYNC says EINVAL, as of other things. */
static int no_region(const struct round_source *source,
		     struct xbzrle_error *err)
{
	if (!source->process_gone)
		return xbzrle_fail(err, ENOENT, 0, "the session has no region");
	return xbzrle_fail(err, ESRCH, 0,
			   "no region is left in the session: the processes whose memory it was have ended");
}

/* How many may have ended already; a session of others may be full of them. */
static int count_regions(const struct round_source *source, size_t *count,
			 struct xbzrle_error *err)
{
	struct xbzrle_info info;
	int ret = 0;

	if (source->tracked) {
		*count = tracked_present(source->tracked);
	} else {
		ret = xbzrle_info(source->session, &info, err);
		*count = info.max_regions;
	}
	return ret;
}

/*
 * Starts a round over the regions that have not ended, and those that are new.
 * Each try ends one region, so only those of new ones can go on for ever.
 */
static int start_over_map(struct round_source *source, unsigned int flags,
			  int (*start)(struct round_source *source,
				       unsigned int flags,
				       struct xbzrle_sync *sync,
				       struct xbzrle_error *err),
			  struct xbzrle_sync *sync, struct xbzrle_error *err)
{
	size_t tries, known = 0;
	struct xbzrle_error ended;
	int ret;

	for (tries = 0; tries < known + SYNC_TRIES; tries++) {
		ret = signals_check(err);
		if (!ret)
			ret = update(source, err);
		if (!ret && !tries)
			ret = count_regions(source, &known, err);
		if (ret)
			return ret;
		ret = start(source, flags, sync, err);
		if (ret == -EINVAL && !source->tracked)
			return no_region(source, err);
		/* It is not a region that has ended, or none has. */
		if (!ret || !others_go_on(source, ret) || !err->region)
			return ret;
		ended = *err;
		ret = end_region(source, &ended, err);
		if (ret)
			return ret;
	}
	return xbzrle_fail(err, EFAULT, 0,
			   "the memory map changes too fast: %d ranges came and went while a round was to begin; name those that stay with --map",
			   SYNC_TRIES);
}

/*
 * With all that write paused, for no longer than it takes. What they have mapped
 * and unmapped until then is of that instant, too, so the map is read again. It
 * was read a moment ago: little is new. And that is before the soft-dirty bits
 * are, of which a new region needs all.
 */
static int sync_paused(struct round_source *source, unsigned int flags,
		       struct xbzrle_sync *sync, struct xbzrle_error *err)
{
	double start;
	int ret;

	ret = update(source, err);
	if (ret)
		return ret;
	start = progress_now();
	ret = pause_begin(source->pause, err);
	if (ret)
		return ret;
	ret = start_over_map(source, flags, mark_and_sync, sync, err);
	/* Somebody else has put them back to work. */
	if (!ret && !pause_held(source->pause)) {
		source->torn = true;
		if (is_external(source))
			ret = lost_writes(source, err);
	}
	pause_end(source->pause);
	source->paused = progress_now() - start;
	return ret;
}

/* With all stopped that write the memory, as tracked_mark_written() asks for. */
static int sync_external(struct round_source *source, unsigned int flags,
			 struct xbzrle_sync *sync, struct xbzrle_error *err)
{
	double start = progress_now();
	bool ours = !source->stays_stopped;
	int ret;

	if (ours) {
		ret = pause_begin(source->pause, err);
		if (ret)
			return ret;
	}
	ret = mark_and_sync(source, flags, sync, err);
	if (!ret && !pause_held(source->pause))
		ret = lost_writes(source, err);
	if (ours) {
		pause_end(source->pause);
		source->scan_time += progress_now() - start;
	}
	return ret;
}

static int sync_round(struct round_source *source, unsigned int flags,
		      struct xbzrle_sync *sync, struct xbzrle_error *err)
{
	int ret;

	source->torn = false;
	source->told_torn = !(flags & XBZRLE_SYNC_POINT_IN_TIME);
	if (flags & XBZRLE_SYNC_POINT_IN_TIME) {
		ret = sync_paused(source, flags, sync, err);
		if (ret != -ENOSPC)
			return ret;
		/* An ordinary round leaves less for the next try. */
		flags &= ~XBZRLE_SYNC_POINT_IN_TIME;
		source->torn = true;
		source->told_torn = true;
	}
	return start_over_map(source, flags, is_external(source) ?
			      sync_external : mark_and_sync, sync, err);
}

static int begin_to_follow(struct round_source *source,
			   struct tracked_region *region,
			   struct xbzrle_error *err)
{
	int ret = replica_announce(source->replica, &(struct frame_region){
		.address = region->start,
		.length = region->end - region->start,
		.pid = source->target->pid,
		.name = region->name,
	}, err);

	region->followed = !ret;
	return ret;
}

static void end_following(struct round_source *source,
			  struct tracked_region *region)
{
	struct replica_region *known = replica_find(source->replica,
						    region->name);

	if (known)
		replica_drop(source->replica, known);
	region->followed = false;
}

/*
 * A point-in-time round waits for this to be read. In time there are far more
 * regions that have ended than others, and each is to be looked up but once.
 */
static int follow(struct round_source *source, struct xbzrle_error *err)
{
	struct tracked *tracked = source->tracked;
	struct tracked_region *region;
	size_t i;
	int ret = 0;

	for (i = 0; source->replica && tracked && i < tracked->count && !ret;
	     i++) {
		region = &tracked->regions[i];
		if (region->present == region->followed)
			continue;
		if (region->present)
			ret = begin_to_follow(source, region, err);
		else
			end_following(source, region);
	}
	return ret;
}

/* Receiver and replica learn of regions between rounds, in the same order. */
static int tell(struct round_source *source, struct xbzrle_error *err)
{
	int ret;

	if (!source->tracked)
		return drop_gone(source, err);
	ret = tracked_tell(source->tracked, source->link, err);
	return ret ? ret : follow(source, err);
}

/*
 * The memory is gone, and the process is not: it has executed another program.
 * Whose process ends gives up its memory before that can be seen, and has none.
 */
static int explain(const struct round_source *source, int ret,
		   struct xbzrle_error *err)
{
	if (ret != -ESRCH || !source->target ||
	    !target_has_memory(source->target))
		return ret;
	if (!source->tracked)
		return xbzrle_fail(err, ESTALE, 0,
				   "no region is left in the session, and process %d goes on: it has executed another program, or the memory was of others",
				   source->target->pid);
	return xbzrle_fail(err, ESTALE, 0,
			   "process %d has executed another program, and the memory that was tracked is gone; it goes on, and has to be tracked anew",
			   source->target->pid);
}

/**
 * round_start() - start a round over all that there is now
 * @source: source
 * @flags: XBZRLE_SYNC_* bits; with XBZRLE_SYNC_POINT_IN_TIME who writes is
 *	paused for the call, and if such a round does not fit the cache it is
 *	an ordinary one and torn from the start
 * @sync: filled in
 * @err: set on failure
 *
 * What is mapped when such a pause ends is in the round, or was never wanted.
 *
 * Return: 0, -ESRCH if there is no process any more, -ESTALE if it has executed
 * another program, or another negative errno.
 */
int round_start(struct round_source *source, unsigned int flags,
		struct xbzrle_sync *sync, struct xbzrle_error *err)
{
	int ret = sync_round(source, flags, sync, err);

	return ret ? explain(source, ret, err) : tell(source, err);
}

/**
 * round_never_whole() - say why no round was of one instant
 * @source: source, whose last round was torn
 * @tries: how many were
 * @err: set
 *
 * Return: a negative errno.
 */
int round_never_whole(const struct round_source *source, int tries,
		      struct xbzrle_error *err)
{
	/* Who is told of the cache is not of what else may have come on top. */
	if (source->told_torn)
		return xbzrle_fail(err, ENOSPC, 0,
				   "no round was of one instant in %d tries: what is written meanwhile does not fit the cache (see --cache)",
				   tries);
	return xbzrle_fail(err, EAGAIN, 0,
			   "no round was of one instant in %d tries: regions end while it is read, or somebody else puts back to work who writes",
			   tries);
}

/* The running round cannot go on because a region has ended: which one? */
static int end_in_round(struct round_source *source, struct xbzrle_error *err)
{
	struct xbzrle_error reason;
	struct xbzrle_sync sync;
	int ret;

	ret = xbzrle_sync(source->session, 0, &sync, &reason);
	/* None has by now: whose session it is has unregistered it before us. */
	if (ret == -EBUSY && !source->tracked) {
		source->process_gone |= err->code == ESRCH;
		source->torn = true;
		return 0;
	}
	/* A signal, which is looked at before anything is read again. */
	if (ret == -EINTR)
		return 0;
	if (!ret || !others_go_on(source, ret))
		return -err->code;
	/* No round follows that could bring what is there now. */
	if (source->stays_stopped)
		return xbzrle_fail(err, -ret, 0,
				   "process %d changed its memory map while it was stopped: %s",
				   source->target->pid, reason.message);
	/* What was read of it is a part. */
	source->torn = true;
	return end_region(source, &reason, err);
}

/**
 * round_read() - take some of the round
 * @source: source
 * @buffer: where to
 * @length: room there
 * @err: set on failure
 *
 * What makes the round other than of one instant is noted in @source->torn.
 *
 * Return: bytes, 0 at the end of the round, -ESRCH and -ESTALE as round_start(),
 * or another negative errno.
 */
ssize_t round_read(struct round_source *source, void *buffer, size_t length,
		   struct xbzrle_error *err)
{
	ssize_t got;
	bool gone;
	int ret;

	for (;;) {
		ret = signals_check(err);
		if (ret)
			return ret;
		got = xbzrle_read(source->session, buffer, length, err);
		if (got >= 0)
			break;
		switch (got) {
		case -EINTR:
			break;
		case -EAGAIN:
			/* Another uses it; poll() tells nobody when they are done. */
			usleep(BUSY_US);
			break;
		case -ENOSPC:
			/* It goes on as an ordinary round. */
			if (source->told_torn)
				return got;
			source->told_torn = true;
			source->torn = true;
			break;
		default:
			if (!others_go_on(source, got))
				return explain(source, got, err);
			ret = end_in_round(source, err);
			if (ret)
				return explain(source, ret, err);
		}
	}
	if (!got) {
		/* Of a region that went meanwhile the round may lack pages. */
		ret = find_gone(source, &gone, err);
		source->torn |= gone;
		return ret;
	}
	if (source->replica) {
		ret = replica_take(source->replica, buffer, got, err);
		if (ret)
			return ret;
	}
	return got;
}

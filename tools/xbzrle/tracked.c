// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * A running process changes its memory map. Before each round what is wanted
 * of the map is compared with the regions: what no region covers becomes a
 * region. A region that ended is dropped, and what is left of it is found by
 * the next comparison.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "signals.h"
#include "tracked.h"

static bool name_used(const struct tracked *tracked, const char *name)
{
	size_t i;

	for (i = 0; i < tracked->count; i++) {
		if (!strcmp(tracked->regions[i].name, name))
			return true;
	}
	return false;
}

static void make_name(struct tracked *tracked, struct tracked_region *region,
		      const struct maps_range *range)
{
	bool heap = range->heap;
	char plain[40];
	size_t again;

	if (heap && !tracked->heap)
		tracked->heap = region->start;
	if (heap && region->start == tracked->heap)
		snprintf(plain, sizeof(plain), "heap");
	else if (heap && region->start > tracked->heap)
		snprintf(plain, sizeof(plain), "heap+%" PRIx64,
			 region->start - tracked->heap);
	else
		snprintf(plain, sizeof(plain), "%s-%" PRIx64,
			 range->shared ? "shared" : "anon", region->start);

	/* Of a place that is mapped over and over the low numbers are all used. */
	snprintf(region->name, sizeof(region->name), "%s", plain);
	for (again = tracked->count + 1; name_used(tracked, region->name);
	     again++)
		snprintf(region->name, sizeof(region->name), "%s.%zu", plain,
			 again);
}

/*
 * 1 if @range is a region now, 0 if it is there no more, or a negative errno.
 */
static int begin(struct tracked *tracked, const struct maps_range *range,
		 struct xbzrle_error *err)
{
	enum xbzrle_tracker tracker = range->shared ? tracked->shared :
						      tracked->tracker;
	const struct target *target = tracked->target;
	struct tracked_region *regions, *new;
	struct xbzrle_region region;
	int ret;

	/* Whoever receives it would refuse the next. */
	if (tracked->count == XBZRLE_STREAM_REGIONS)
		return xbzrle_fail(err, EOVERFLOW, 0,
				   "process %d has mapped more than %u ranges since its first round: start again, or name those that stay with --map",
				   target->pid, XBZRLE_STREAM_REGIONS);
	regions = array_room(tracked->regions, tracked->count, sizeof(*regions));
	if (!regions)
		return xbzrle_fail(err, ENOMEM, 0, "no memory");
	tracked->regions = regions;

	new = &regions[tracked->count];
	if (tracked->alone && range->shared)
		return xbzrle_fail(err, EOPNOTSUPP, range->start,
				   "memory at address %#llx is shared, and who else writes to it is not known; put all of them into a control group for --freezer",
				   (unsigned long long)range->start);
	if (tracker == XBZRLE_TRACKER_EXTERNAL && !range->anon)
		return xbzrle_fail(err, EOPNOTSUPP, range->start,
				   "memory of this kind cannot be tracked by soft-dirty bits, but private anonymous memory only: address %#llx",
				   (unsigned long long)range->start);
	*new = (struct tracked_region){
		.start = range->start,
		.end = range->end,
		.present = true,
		.region_due = true,
		.told = tracker == XBZRLE_TRACKER_EXTERNAL,
	};
	make_name(tracked, new, range);
	/* The kernel gives up for any signal, of which some do not concern us. */
	do {
		ret = xbzrle_register(tracked->session, new->name, target->pid,
				      new->start, new->end - new->start,
				      tracker, &region, err);
	} while (ret == -EINTR && !signals_check(err));
	/* What a running target has unmapped since is not there to be sent. */
	if (ret == -EFAULT && !(target->stopped && target_is_stopped(target)))
		return 0;
	if (ret)
		return ret;
	/* Its number may be another one's since we got hold of it. */
	if (target_has_ended(target)) {
		xbzrle_unregister(tracked->session, region.id, NULL);
		return xbzrle_fail(err, ESRCH, 0, "process %d has ended",
				   target->pid);
	}
	if (new->told) {
		ret = softdirty_begin(&new->softdirty, new->start, new->end,
				      err);
		if (ret)
			return ret;
	}
	new->id = region.id;
	tracked->count++;
	return 1;
}

/* The first part of @range that no region covers, if there is one. */
static bool next_gap(const struct tracked *tracked,
		     const struct maps_range *range, struct maps_range *gap)
{
	const struct tracked_region *region;
	bool moved;
	size_t i;

	*gap = *range;
	do {
		moved = false;
		for (i = 0; i < tracked->count; i++) {
			region = &tracked->regions[i];
			if (!region->present || region->end <= gap->start ||
			    region->start > gap->start)
				continue;
			gap->start = region->end;
			moved = true;
		}
	} while (moved);
	if (gap->start >= gap->end)
		return false;

	for (i = 0; i < tracked->count; i++) {
		region = &tracked->regions[i];
		if (region->present && region->start > gap->start &&
		    region->start < gap->end)
			gap->end = region->start;
	}
	return true;
}

/* 1 if all of @range is in regions now, 0 if not, or a negative errno. */
static int cover(struct tracked *tracked, struct maps_range range,
		 struct xbzrle_error *err)
{
	struct maps_range gap;
	int ret, all = 1;

	while (next_gap(tracked, &range, &gap)) {
		ret = begin(tracked, &gap, err);
		if (ret < 0)
			return ret;
		all &= ret;
		range.start = gap.end;
		if (range.start >= range.end)
			break;
	}
	return all;
}

static void forget_covered(struct tracked *tracked)
{
	free(tracked->covered);
	tracked->covered = NULL;
	tracked->covered_count = 0;
}

/* A region has ended: of what it was in, some is in none. */
static void uncover(struct tracked *tracked,
		    const struct tracked_region *region)
{
	struct maps_range *range = tracked->covered;
	size_t i, kept = 0;

	for (i = 0; i < tracked->covered_count; i++) {
		if (range[i].end <= region->start ||
		    range[i].start >= region->end)
			range[kept++] = range[i];
	}
	tracked->covered_count = kept;
}

/* @from goes through what was covered, which is sorted as the ranges are. */
static bool was_covered(const struct tracked *tracked,
			const struct maps_range *range, size_t *from)
{
	const struct maps_range *known = tracked->covered + *from;
	const struct maps_range *end = tracked->covered +
				       tracked->covered_count;

	while (known < end && known->start < range->start)
		known++;
	*from = known - tracked->covered;
	return known < end && known->start == range->start &&
	       known->end == range->end;
}

/* A heap or other memory may come later; what has a name or an address is due. */
static int check_found(const struct tracked *tracked, struct xbzrle_error *err)
{
	const struct maps_wish *wish;
	size_t i;

	for (i = 0; i < tracked->wish_count; i++) {
		wish = &tracked->wishes[i];
		if (!wish->found &&
		    (wish->kind == MAPS_NAME || wish->kind == MAPS_RANGE))
			return xbzrle_fail(err, ENOENT, 0,
					   "process %d has no memory '%s' (see /proc/%d/maps)",
					   tracked->target->pid, wish->text,
					   tracked->target->pid);
	}
	return 0;
}

/**
 * tracked_parse() - understand --tracker
 * @text: auto or external
 * @tracker: set
 *
 * Return: 0 or -EINVAL.
 */
int tracked_parse(const char *text, enum xbzrle_tracker *tracker)
{
	if (!strcmp(text, "auto"))
		*tracker = XBZRLE_TRACKER_AUTO;
	else if (!strcmp(text, "external"))
		*tracker = XBZRLE_TRACKER_EXTERNAL;
	else
		return -EINVAL;
	return 0;
}

/**
 * tracked_choose() - the module's own tracker, or else the kernel's soft-dirty
 * bits
 * @tracked: regions; their tracker is set
 * @tracker: XBZRLE_TRACKER_AUTO, or XBZRLE_TRACKER_EXTERNAL for the bits
 * @quiet: do not tell that the bits are used
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int tracked_choose(struct tracked *tracked, enum xbzrle_tracker tracker,
		   bool quiet, struct xbzrle_error *err)
{
	bool forced = tracker == XBZRLE_TRACKER_EXTERNAL;
	struct xbzrle_info info;
	int ret;

	ret = xbzrle_info(tracked->session, &info, err);
	if (ret)
		return ret;
	if (!forced && info.features & XBZRLE_FEATURE_TRACKER_PTE)
		return 0;
	if (!(info.features & XBZRLE_FEATURE_TRACKER_EXTERNAL))
		return forced ? xbzrle_fail(err, EOPNOTSUPP, 0,
					    "the module has no external tracker on this kernel") :
				0;
	ret = softdirty_probe(err);
	if (ret == -EOPNOTSUPP)
		return xbzrle_fail(err, EOPNOTSUPP, 0,
				   "this kernel cannot track the memory: it has %s soft-dirty bits (PAGEMAP_SCAN would do for a process's own memory only); make the memory with xbzrle_create() or xbzrle_adopt(), or see CAVEATS in xbzrle(4)",
				   forced ? "no" :
				   "neither the pte tracker nor");
	if (ret)
		return ret;
	tracked->tracker = XBZRLE_TRACKER_EXTERNAL;
	if (forced)
		tracked->shared = XBZRLE_TRACKER_EXTERNAL;
	if (!quiet)
		fprintf(stderr,
			"xbzrle: using the external tracker, fed from soft-dirty bits%s; the process is stopped for a moment before each round\n",
			forced ? "" : ", as this kernel has no pte tracker");
	return 0;
}

/**
 * tracked_update() - make regions of what is new in the target's memory map
 * @tracked: regions
 * @err: set on failure
 *
 * The receiver is not told: that may take its time, and the target may be
 * stopped.
 *
 * Return: 0 or a negative errno.
 */
int tracked_update(struct tracked *tracked, struct xbzrle_error *err)
{
	struct maps_range *ranges;
	size_t count, i, from = 0;
	bool all = true;
	int ret;

	ret = maps_select(tracked->target->pid, tracked->wishes,
			  tracked->wish_count, &ranges, &count, err);
	if (!ret)
		ret = check_found(tracked, err);
	for (i = 0; i < count && ret >= 0; i++) {
		if (was_covered(tracked, &ranges[i], &from))
			continue;
		ret = cover(tracked, ranges[i], err);
		all = all && ret;
	}
	forget_covered(tracked);
	if (ret < 0 || !all) {
		free(ranges);
		return ret < 0 ? ret : 0;
	}
	tracked->covered = ranges;
	tracked->covered_count = count;
	return 0;
}

static int scan_written(struct tracked *tracked, struct xbzrle_error *err)
{
	int pagemap = softdirty_open(tracked->target->pid, err);
	int ret = 0;
	size_t i;

	if (pagemap < 0)
		return pagemap;
	for (i = 0; i < tracked->count && !ret; i++) {
		if (tracked->regions[i].present && tracked->regions[i].told)
			ret = softdirty_scan(&tracked->regions[i].softdirty,
					     pagemap, err);
	}
	close(pagemap);
	return ret;
}

/**
 * tracked_mark_written() - have the next SYNC find what the target has written
 * @tracked: regions of the external tracker; the target is stopped, and stays
 *	so until that SYNC
 * @err: set on failure
 *
 * No write falls between the look at a page's bit and its clearing. One that
 * comes later finds the bit clear and sets it, to be told of the next time,
 * whether or not the coming round reads the page after it.
 *
 * Return: 0 or a negative errno.
 */
int tracked_mark_written(struct tracked *tracked, struct xbzrle_error *err)
{
	struct tracked_region *region;
	size_t i;
	int ret;

	ret = scan_written(tracked, err);
	if (!ret)
		ret = softdirty_clear(tracked->target->pid, err);
	for (i = 0; i < tracked->count && !ret; i++) {
		region = &tracked->regions[i];
		if (region->present && region->told)
			ret = softdirty_mark(&region->softdirty,
					     tracked->session, region->id, err);
	}
	return ret;
}

/**
 * tracked_end() - drop a region that has ended
 * @tracked: regions
 * @id: the region's id
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int tracked_end(struct tracked *tracked, uint32_t id, struct xbzrle_error *err)
{
	struct tracked_region *region;
	size_t i;

	for (i = 0; i < tracked->count; i++) {
		region = &tracked->regions[i];
		if (!region->present || region->id != id)
			continue;
		region->present = false;
		region->drop_due = !region->region_due;
		region->region_due = false;
		uncover(tracked, region);
		softdirty_end(&region->softdirty);
		return xbzrle_unregister(tracked->session, id, err);
	}
	return xbzrle_fail(err, ENOENT, 0, "region %u is not one of ours", id);
}

static int tell_drops(struct tracked *tracked, struct frame_link *link,
		      struct xbzrle_error *err)
{
	struct tracked_region *region;
	size_t i;
	int ret;

	for (i = 0; i < tracked->count; i++) {
		region = &tracked->regions[i];
		if (!region->drop_due)
			continue;
		ret = frame_send_drop(link, region->name, err);
		if (ret)
			return ret;
		region->drop_due = false;
	}
	return 0;
}

/**
 * tracked_tell() - tell the receiver what has ended and what is new
 * @tracked: regions
 * @link: link, between two rounds
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int tracked_tell(struct tracked *tracked, struct frame_link *link,
		 struct xbzrle_error *err)
{
	struct tracked_region *region;
	size_t i;
	int ret;

	ret = tell_drops(tracked, link, err);
	for (i = 0; i < tracked->count && !ret; i++) {
		region = &tracked->regions[i];
		if (!region->region_due)
			continue;
		ret = frame_send_region(link, &(struct frame_region){
			.address = region->start,
			.length = region->end - region->start,
			.pid = tracked->target->pid,
			.name = region->name,
		}, err);
		region->region_due = false;
	}
	return ret;
}

/**
 * tracked_present() - how many regions there are
 * @tracked: regions
 *
 * Return: those that have not ended.
 */
size_t tracked_present(const struct tracked *tracked)
{
	size_t i, present = 0;

	for (i = 0; i < tracked->count; i++)
		present += tracked->regions[i].present;
	return present;
}

/**
 * tracked_release() - forget all
 * @tracked: regions
 */
void tracked_release(struct tracked *tracked)
{
	size_t i;

	for (i = 0; i < tracked->count; i++)
		softdirty_end(&tracked->regions[i].softdirty);
	forget_covered(tracked);
	free(tracked->regions);
	tracked->regions = NULL;
	tracked->count = 0;
}

/* SPDX-License-Identifier: GPL-2.0-only */
/* A round as a stream of records; docs/stream.md has the bytes. */
#ifndef _XBZRLE_STREAM_H
#define _XBZRLE_STREAM_H

#include <linux/types.h>
#include <linux/xarray.h>

#include "capture.h"
#include "page_cache.h"
#include "simd.h"
#include <uapi/linux/xbzrle.h>

struct iov_iter;
struct mutex;
struct xbzrle_region;

/*
 * Encoded ahead of the reader: bytes and records. Not a power of two, behind
 * which KASAN would have no room to see what is written there.
 */
#define XBZRLE_STREAM_BUF	(124U << 10)
#define XBZRLE_STREAM_RECORDS	1024

/**
 * struct xbzrle_passing - what is known of a unit between capture and record
 * @base: its base, or NULL
 * @diff: where the content differs from it, if it is to have a delta
 * @sits_out: its deltas kept overflowing
 * @zero: the content is zero
 */
struct xbzrle_passing {
	struct xbzrle_base *base;
	const struct xbzrle_diff *diff;
	bool sits_out;
	bool zero;
};

/**
 * struct xbzrle_stream - what a session has still to hand out
 * @lock: the session's
 * @regions: id to region; the session's
 * @cache: bases of all regions
 * @capture: the units being captured
 * @stats: counters that GET_STATS reports; the rest is filled in there
 * @setup: setup section to precede the records, or NULL
 * @setup_len: bytes in @setup
 * @setup_read: bytes of it handed out
 * @captured: contents of the units being encoded
 * @passing: what else is known of each
 * @comparisons: of those that are to have a delta
 * @buf: encoded records
 * @read: offset in @buf of the first byte not handed out
 * @ends: offset behind each record in @buf
 * @nr_records: records in @buf
 * @next_record: the first of them not handed out whole
 * @active: a round has bytes to hand out
 * @eos_due: its EOS is not in @buf yet
 * @final: no bases are kept
 * @full: no bases are used: the receiver has nothing
 * @moment: the records are to be those of one moment
 * @based_bytes: average record bytes of a page that had a base, scaled
 * @whole_bytes: average record bytes of a page that had none, scaled
 * @round_region: region of the record before, for CONTINUE
 * @cursor_region: id of the region to go on with
 * @cursor_unit: its unit to go on with
 *
 * Everything is protected by @lock; @active may be looked at without.
 */
struct xbzrle_stream {
	struct mutex *lock; /* the session's */
	struct xarray *regions;
	struct xbzrle_cache cache;
	struct xbzrle_capturer capture;
	struct xbzrle_stats stats;
	u8 *setup;
	size_t setup_len;
	size_t setup_read;
	struct xbzrle_captured captured[XBZRLE_CAPTURE_LOT];
	struct xbzrle_passing passing[XBZRLE_CAPTURE_LOT];
	struct xbzrle_comparison comparisons[XBZRLE_CAPTURE_LOT];
	u8 *buf;
	u32 read;
	u32 ends[XBZRLE_STREAM_RECORDS];
	u32 nr_records;
	u32 next_record;
	bool active;
	bool eos_due;
	bool final;
	bool full;
	bool moment;
	u32 based_bytes;
	u32 whole_bytes;
	struct xbzrle_region *round_region;
	unsigned long cursor_region;
	unsigned long cursor_unit;
};

int xbzrle_stream_init(struct xbzrle_stream *stream, struct mutex *lock,
		       struct xarray *regions);
void xbzrle_stream_destroy(struct xbzrle_stream *stream);
int xbzrle_stream_prepare_setup(struct xbzrle_stream *stream);
void xbzrle_stream_drop_setup(struct xbzrle_stream *stream);
void xbzrle_stream_estimate(struct xbzrle_stream *stream, bool full,
			    struct xbzrle_sync *sync);
int xbzrle_stream_hold_moment(struct xbzrle_stream *stream);
void xbzrle_stream_end_moment(struct xbzrle_stream *stream);
void xbzrle_stream_start(struct xbzrle_stream *stream, bool full, bool final,
			 bool moment);
ssize_t xbzrle_stream_read(struct xbzrle_stream *stream, struct iov_iter *to);
void xbzrle_stream_distrust(struct xbzrle_stream *stream,
			    const struct xbzrle_region *region,
			    unsigned long first, unsigned long nr);
void xbzrle_stream_forget(struct xbzrle_stream *stream,
			  struct xbzrle_region *region);

#endif /* _XBZRLE_STREAM_H */

// SPDX-License-Identifier: GPL-2.0-only
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uio.h>

#include "compat/compat.h"
#include <xbzrle/codec.h>
#include <xbzrle/race.h>
#include <xbzrle/region.h>
#include <xbzrle/simd.h>
#include <xbzrle/stream.h>
#include <xbzrle/wire.h>
#include "xbzrle_trace.h"

/* The longest record: a whole page with its region's name. */
#define RECORD_MAX	(XBZRLE_WIRE_HEADER + 1 + XBZRLE_NAME_MAX + \
			 XBZRLE_UNIT_SIZE)
/* A longer delta makes a record that is not smaller than the page's. */
#define DELTA_MAX	(XBZRLE_UNIT_SIZE - XBZRLE_WIRE_DELTA - 1)
/* Part of a new value in a moving average, as a power of two. */
#define AVERAGE_SHIFT	6

/* What is captured together is compared together. */
static_assert(XBZRLE_CAPTURE_LOT == XBZRLE_SIMD_BATCH);

/**
 * xbzrle_stream_init() - make an idle stream without bases
 * @stream: the stream, zeroed
 * @lock: the session's lock
 * @regions: the session's regions by id
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM.
 */
int xbzrle_stream_init(struct xbzrle_stream *stream, struct mutex *lock,
		       struct xarray *regions)
{
	stream->buf = kvmalloc(XBZRLE_STREAM_BUF,
			       GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!stream->buf)
		return -ENOMEM;
	stream->lock = lock;
	stream->regions = regions;
	stream->based_bytes = XBZRLE_UNIT_SIZE / 2 << AVERAGE_SHIFT;
	stream->whole_bytes = (XBZRLE_WIRE_HEADER + XBZRLE_UNIT_SIZE) <<
			      AVERAGE_SHIFT;
	xbzrle_cache_init(&stream->cache);
	xbzrle_capture_init(&stream->capture, &stream->cache);
	return 0;
}

/**
 * xbzrle_stream_destroy() - free what the stream holds
 * @stream: the stream; its regions may be gone already
 *
 * Context: may sleep.
 */
void xbzrle_stream_destroy(struct xbzrle_stream *stream)
{
	xbzrle_capture_reset(&stream->capture);
	while (stream->capture.nr_spares)
		put_page(stream->capture.spares[--stream->capture.nr_spares]);
	xbzrle_cache_destroy(&stream->cache);
	kvfree(stream->setup);
	kvfree(stream->buf);
}

static u8 *put_be64(u8 *p, u64 value)
{
	put_unaligned_be64(value, p);
	return p + sizeof(value);
}

static u8 *put_name(u8 *p, const struct xbzrle_region *region)
{
	*p++ = region->name_len;
	memcpy(p, region->name, region->name_len);
	return p + region->name_len;
}

static u64 region_length(const struct xbzrle_region *region)
{
	return (u64)region->nr_units * XBZRLE_UNIT_SIZE;
}

/**
 * xbzrle_stream_prepare_setup() - have the next round begin with a setup section
 * @stream: the stream, not active
 *
 * Names every region there is now.
 *
 * Context: may sleep; session's lock.
 * Return: 0 or -ENOMEM.
 */
int xbzrle_stream_prepare_setup(struct xbzrle_stream *stream)
{
	size_t len = 2 * XBZRLE_WIRE_HEADER;
	struct xbzrle_region *region;
	unsigned long id;
	u64 total = 0;
	u8 *setup, *p;

	lockdep_assert_held(stream->lock);
	xa_for_each(stream->regions, id, region) {
		len += 1 + region->name_len + sizeof(u64);
		total += region_length(region);
	}
	setup = kvmalloc(len, GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!setup)
		return -ENOMEM;

	p = put_be64(setup, total | XBZRLE_WIRE_MEM_SIZE);
	xa_for_each(stream->regions, id, region) {
		p = put_name(p, region);
		p = put_be64(p, region_length(region));
	}
	put_be64(p, XBZRLE_WIRE_EOS);

	stream->setup = setup;
	stream->setup_len = len;
	stream->setup_read = 0;
	return 0;
}

/**
 * xbzrle_stream_drop_setup() - the setup section has gone, or does not go out
 * @stream: the stream
 *
 * Context: may sleep; session's lock.
 */
void xbzrle_stream_drop_setup(struct xbzrle_stream *stream)
{
	lockdep_assert_held(stream->lock);
	kvfree(stream->setup);
	stream->setup = NULL;
	stream->setup_len = 0;
}

/* Pending units that have a base; looks at whichever are fewer. */
static u64 count_based(struct xbzrle_stream *stream,
		       const struct xbzrle_region *region)
{
	struct xarray *entries = &stream->cache.entries;
	unsigned long unit, nr, index;
	u64 based = 0;
	void *entry;

	if (region->nr_pending > stream->cache.used) {
		xa_for_each_range(entries, index, entry, region->key,
				  region->key + region->nr_units - 1) {
			based += !xa_is_value(entry) &&
				 xbzrle_dirty_test(&region->pending,
						   index - region->key);
			cond_resched();
		}
		return based;
	}
	for (unit = 0; (nr = xbzrle_dirty_next(&region->pending, &unit, 1));
	     unit += nr) {
		entry = xa_load(entries, region->key + unit);
		based += entry && !xa_is_value(entry);
		cond_resched();
	}
	return based;
}

/**
 * xbzrle_stream_estimate() - what a round that starts now would come to
 * @stream: the stream
 * @full: it is to be a FULL one
 * @sync: out: dirty_pages, based_pages, expected_bytes
 *
 * Context: may sleep; session's lock.
 */
void xbzrle_stream_estimate(struct xbzrle_stream *stream, bool full,
			    struct xbzrle_sync *sync)
{
	struct xbzrle_region *region;
	u64 dirty = 0, based = 0;
	unsigned long id;

	lockdep_assert_held(stream->lock);
	xa_for_each(stream->regions, id, region) {
		dirty += full ? xbzrle_region_count_full(region) :
				region->nr_pending;
		if (!full && stream->cache.used)
			based += count_based(stream, region);
	}
	sync->dirty_pages = dirty;
	sync->based_pages = based;
	sync->expected_bytes = stream->setup_len + XBZRLE_WIRE_HEADER +
			       ((based * stream->based_bytes +
				 (dirty - based) * stream->whole_bytes) >>
				AVERAGE_SHIFT);
}

/**
 * xbzrle_stream_hold_moment() - keep what a round of a moment cannot get later
 * @stream: the stream, not active; the moment of its regions has begun
 *
 * Context: may sleep; session's lock.
 * Return: 0, -ENOSPC over the budget, -ENOMEM, -EINTR, -EIO for a page that
 * cannot be read, or the reason a region ended. With an error
 * xbzrle_stream_end_moment() is due.
 */
int xbzrle_stream_hold_moment(struct xbzrle_stream *stream)
{
	struct xbzrle_region *region;
	unsigned long id;
	int ret;

	lockdep_assert_held(stream->lock);
	xa_for_each(stream->regions, id, region) {
		ret = xbzrle_capture_moment(&stream->capture, region);
		if (ret)
			return ret;
	}
	return 0;
}

/**
 * xbzrle_stream_end_moment() - what changes from now on need not be kept
 * @stream: the stream; its round is over, or becomes an ordinary one
 *
 * Context: may sleep; session's lock.
 */
void xbzrle_stream_end_moment(struct xbzrle_stream *stream)
{
	struct xbzrle_region *region;
	unsigned long id;

	lockdep_assert_held(stream->lock);
	stream->moment = false;
	xa_for_each(stream->regions, id, region) {
		region->moment = false;
		WRITE_ONCE(region->moment_begun, false);
	}
	xa_for_each(stream->regions, id, region)
		xbzrle_region_settle_writes(region);
	xbzrle_cache_release_all(&stream->cache);
	stream->capture.torn = false;
}

/**
 * xbzrle_stream_start() - hand out the regions' pending units
 * @stream: the stream, not active
 * @full: and everything that was ever sent, to a receiver that has nothing
 * @final: the last round; bases need not be kept
 * @moment: a round of a moment, for which all was held
 *
 * Context: may sleep; session's lock.
 */
void xbzrle_stream_start(struct xbzrle_stream *stream, bool full, bool final,
			 bool moment)
{
	struct xbzrle_region *region;
	unsigned long id;

	lockdep_assert_held(stream->lock);
	if (full)
		xbzrle_cache_drop_bases(&stream->cache);
	xa_for_each(stream->regions, id, region) {
		if (full)
			xbzrle_region_find_full(region);
		if (stream->setup)
			region->announced = true;
		stream->stats.dirty_pages += region->nr_pending;
		stream->stats.pinned_pages += region->nr_held;
	}
	stream->final = final;
	stream->full = full;
	stream->moment = moment;
	WRITE_ONCE(stream->capture.bases, !final);
	stream->eos_due = true;
	stream->round_region = NULL;
	stream->cursor_region = 0;
	stream->cursor_unit = 0;
	stream->stats.rounds++;
	xbzrle_cache_begin_round(&stream->cache);
	WRITE_ONCE(stream->active, true);
}

/* The average is kept scaled, so that no remainder is lost. */
static void average(u32 *avg, u32 value)
{
	*avg += value - (*avg >> AVERAGE_SHIFT);
}

static u8 *buf_tail(struct xbzrle_stream *stream)
{
	return stream->buf + (stream->nr_records ?
			      stream->ends[stream->nr_records - 1] : 0);
}

static void buf_push(struct xbzrle_stream *stream, u8 *end)
{
	stream->stats.stream_bytes += end - buf_tail(stream);
	stream->ends[stream->nr_records++] = end - stream->buf;
}

/* The be64 of a record, and its region's name where that changes. */
static u8 *put_header(struct xbzrle_stream *stream, u8 *p,
		      struct xbzrle_region *region, unsigned long unit,
		      u64 flag)
{
	u64 offset = (u64)unit * XBZRLE_UNIT_SIZE;

	if (stream->round_region == region)
		return put_be64(p, offset | flag | XBZRLE_WIRE_CONTINUE);
	p = put_be64(p, offset | flag);
	return put_name(p, region);
}

static void push_zero(struct xbzrle_stream *stream,
		      struct xbzrle_region *region, unsigned long unit)
{
	u8 *p = put_header(stream, buf_tail(stream), region, unit,
			   XBZRLE_WIRE_ZERO);

	*p++ = 0;
	buf_push(stream, p);
	stream->round_region = region;
	stream->stats.zero_pages++;
	__clear_bit(unit, region->sent);
}

static void push_page(struct xbzrle_stream *stream,
		      struct xbzrle_region *region, unsigned long unit,
		      const void *content)
{
	u8 *p = put_header(stream, buf_tail(stream), region, unit,
			   XBZRLE_WIRE_PAGE);

	memcpy(p, content, XBZRLE_UNIT_SIZE);
	buf_push(stream, p + XBZRLE_UNIT_SIZE);
	stream->round_region = region;
	stream->stats.normal_pages++;
	__set_bit(unit, region->sent);
}

/* Bytes of the record, 0 if the page is unchanged, -ENOSPC on overflow. */
static ssize_t push_delta(struct xbzrle_stream *stream,
			  struct xbzrle_region *region, unsigned long unit,
			  const struct xbzrle_diff *diff, const void *content)
{
	u8 *start = buf_tail(stream), *p;
	ssize_t len;

	p = put_header(stream, start, region, unit, XBZRLE_WIRE_XBZRLE);
	len = xbzrle_encode_diff(diff, content, p + XBZRLE_WIRE_DELTA,
				 DELTA_MAX);
	if (len <= 0)
		return len;
	*p++ = XBZRLE_WIRE_ENCODING;
	put_unaligned_be16(len, p);
	buf_push(stream, p + sizeof(u16) + len);
	stream->round_region = region;
	stream->stats.pages++;
	len = buf_tail(stream) - start;
	stream->stats.bytes += len;
	__set_bit(unit, region->sent);
	return len;
}

/* Encode what differs from a base; whether the delta overflowed. */
static bool encode_based(struct xbzrle_stream *stream,
			 struct xbzrle_region *region, unsigned long unit,
			 const struct xbzrle_diff *diff, const void *content)
{
	ssize_t len = push_delta(stream, region, unit, diff, content);

	if (len < 0) {
		push_page(stream, region, unit, content);
		stream->stats.overflow++;
	} else if (!len) {
		stream->stats.unchanged_pages++;
	}
	average(&stream->based_bytes,
		len < 0 ? XBZRLE_WIRE_HEADER + XBZRLE_UNIT_SIZE : len);
	return len < 0;
}

/* Send a captured page whole. */
static void encode_whole(struct xbzrle_stream *stream,
			 struct xbzrle_region *region, unsigned long unit,
			 bool sits_out, const void *content)
{
	push_page(stream, region, unit, content);
	average(&stream->whole_bytes, XBZRLE_WIRE_HEADER + XBZRLE_UNIT_SIZE);
	if (sits_out)
		stream->stats.skipped_pages++;
	else if (stream->stats.rounds > 1)
		stream->stats.cache_miss++;
}

/* Whether the delta overflowed, if there is one. */
static bool encode_content(struct xbzrle_stream *stream,
			   struct xbzrle_region *region, unsigned long unit,
			   const struct xbzrle_passing *passing,
			   const void *content)
{
	if (passing->zero && !test_bit(unit, region->sent)) {
		stream->stats.unchanged_pages++;
		return false;
	}
	if (passing->zero) {
		push_zero(stream, region, unit);
		average(passing->base ? &stream->based_bytes :
					&stream->whole_bytes,
			XBZRLE_WIRE_HEADER + 1);
		return false;
	}
	if (passing->base)
		return encode_based(stream, region, unit, passing->diff,
				    content);
	encode_whole(stream, region, unit, passing->sits_out, content);
	return false;
}

/* Find the bases of captured units, and then where the contents differ. */
static void compare_lot(struct xbzrle_stream *stream,
			const struct xbzrle_region *region, unsigned int nr)
{
	struct xbzrle_comparison *comparison = stream->comparisons;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		struct xbzrle_captured *captured = &stream->captured[i];
		struct xbzrle_passing *passing = &stream->passing[i];
		unsigned long key = region->key + captured->unit;

		/*
		 * A hole needs none. For a FULL round, a fault that began
		 * before it may have kept one since.
		 */
		if (!captured->page || stream->full)
			xbzrle_cache_drop_base(&stream->cache, key);
		if (!captured->page)
			continue;
		passing->base = xbzrle_cache_find(&stream->cache, key,
						  &passing->sits_out);
		/* A 64-bit kernel has all memory mapped. */
		comparison->page = page_address(captured->page);
		passing->zero = !memchr_inv(comparison->page, 0,
					    XBZRLE_UNIT_SIZE);
		if (!passing->base || passing->zero)
			continue;
		comparison->base = page_address(passing->base->page);
		passing->diff = &comparison->diff;
		comparison++;
	}
	xbzrle_simd_compare(stream->comparisons,
			    comparison - stream->comparisons);
}

/*
 * What was sent becomes the unit's base. A page that was still has none until
 * it is about to change. @captured is left with a page that is free.
 */
static void encode_unit(struct xbzrle_stream *stream,
			struct xbzrle_region *region,
			struct xbzrle_captured *captured,
			const struct xbzrle_passing *passing)
{
	unsigned long unit = captured->unit, key = region->key + unit;
	bool keep = !captured->still && !stream->final;
	struct xbzrle_base *base = passing->base;
	u8 *start = buf_tail(stream);
	struct page *old;
	bool overflow;

	if (!captured->page) {
		/* A hole. The receiver has zeros until told otherwise. */
		if (test_bit(unit, region->sent))
			push_zero(stream, region, unit);
		else
			stream->stats.unchanged_pages++;
		return;
	}

	overflow = encode_content(stream, region, unit, passing,
				  page_address(captured->page));
	trace_xbzrle_encode(region->id, unit, base, buf_tail(stream) - start);

	if (base) {
		old = xbzrle_cache_settle(&stream->cache, base,
					  keep ? captured->page : NULL,
					  overflow);
		if (keep)
			captured->page = old;
		else
			put_page(old);
	} else if (keep && !passing->zero && !passing->sits_out) {
		captured->page = xbzrle_cache_admit(&stream->cache, key,
						    captured->page, true);
	} else if (!passing->zero && !passing->sits_out) {
		xbzrle_cache_count(&stream->cache, key);
	}
}

/* Move the cursor to the next pending unit. False if there is none. */
static bool find_pending(struct xbzrle_stream *stream,
			 struct xbzrle_region **region)
{
	unsigned long id = stream->cursor_region;

	for (; (*region = xa_find(stream->regions, &id, ULONG_MAX,
				  XA_PRESENT)); id++) {
		/* The region at the cursor may be done, or gone. */
		if (id != stream->cursor_region) {
			stream->cursor_region = id;
			stream->cursor_unit = 0;
		}
		if ((*region)->nr_pending &&
		    xbzrle_dirty_next(&(*region)->pending,
				      &stream->cursor_unit, 1))
			return true;
	}
	return false;
}

/*
 * Pages for what is captured next, at least one. A reader that the kernel, or
 * its control group, has no memory for can have that of a base, and is not
 * killed for it.
 */
static int get_spares(struct xbzrle_stream *stream, unsigned int nr)
{
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
	struct xbzrle_capturer *capture = &stream->capture;
	struct page *page;

	while (capture->nr_spares < nr) {
		page = alloc_page(gfp | __GFP_NORETRY);
		if (!page && capture->nr_spares)
			break;
		xbzrle_capture_spare(capture, page ?:
				     xbzrle_cache_take(&stream->cache));
		if (capture->nr_spares)
			continue;
		/* There was no base, or it was a frozen page. */
		xbzrle_capture_spare(capture,
				     alloc_page(gfp | __GFP_RETRY_MAYFAIL));
		if (!capture->nr_spares)
			return -ENOMEM;
	}
	return 0;
}

/* Units to capture for @want bytes, of each of which the longest record fits. */
static unsigned int lot_size(struct xbzrle_stream *stream, size_t want)
{
	size_t left = want - (buf_tail(stream) - stream->buf);

	left = min_t(size_t, left / RECORD_MAX,
		     XBZRLE_STREAM_RECORDS - stream->nr_records);
	return clamp_t(size_t, left, 1, XBZRLE_CAPTURE_LOT);
}

/* Encode some units; how many, or why none. */
static int fill_lot(struct xbzrle_stream *stream, struct xbzrle_region *region,
		    size_t want)
{
	unsigned int max = lot_size(stream, want);
	int nr, i;

	nr = get_spares(stream, max);
	if (nr)
		return nr;
	memset(stream->passing, 0, sizeof(stream->passing));
	nr = xbzrle_capture_lot(&stream->capture, region, stream->cursor_unit,
				max, stream->captured);
	if (nr < 0)
		return nr;
	xbzrle_race_window();
	compare_lot(stream, region, nr);
	for (i = 0; i < nr; i++) {
		struct xbzrle_captured *captured = &stream->captured[i];

		encode_unit(stream, region, captured, &stream->passing[i]);
		stream->cursor_unit = captured->unit + 1;
		/* Before a writer goes on, who would see it pending still. */
		xbzrle_dirty_remove(&region->pending, captured->unit, 1);
		xbzrle_race_window();
		region->nr_pending--;
		xbzrle_capture_done(&stream->capture, region, captured);
	}
	return nr;
}

/* Encode until @want bytes are there, the buffer is full, or the round ends. */
static int buf_fill(struct xbzrle_stream *stream, size_t want)
{
	struct xbzrle_region *region;
	int ret = 0;

	stream->read = 0;
	stream->next_record = 0;
	stream->nr_records = 0;
	want = min_t(size_t, want, XBZRLE_STREAM_BUF - RECORD_MAX);
	while (buf_tail(stream) - stream->buf < want &&
	       stream->nr_records < XBZRLE_STREAM_RECORDS) {
		/* Told at once, or when what is encoded was handed out. */
		if (stream->moment && stream->eos_due &&
		    READ_ONCE(stream->capture.torn)) {
			ret = -ENOSPC;
			break;
		}
		if (!find_pending(stream, &region)) {
			if (stream->eos_due)
				buf_push(stream, put_be64(buf_tail(stream),
							  XBZRLE_WIRE_EOS));
			stream->eos_due = false;
			break;
		}

		ret = fill_lot(stream, region, want);
		if (ret < 0)
			break;
		/* Units that did not change make no record, however many. */
		if (fatal_signal_pending(current) ||
		    (!stream->nr_records && signal_pending(current))) {
			ret = -ERESTARTSYS;
			break;
		}
		cond_resched();
	}
	/* Live pages are not held while nobody reads. */
	xbzrle_capture_reset(&stream->capture);
	return stream->nr_records || ret > 0 ? 0 : ret;
}

/* Whole records that fit, or else a part of one to a reader with nothing yet. */
static size_t buf_fit(struct xbzrle_stream *stream, size_t count, bool part)
{
	u32 i = stream->next_record;

	if (stream->ends[stream->nr_records - 1] - stream->read <= count)
		return stream->ends[stream->nr_records - 1] - stream->read;
	while (stream->ends[i] - stream->read <= count)
		i++;
	if (i > stream->next_record)
		return stream->ends[i - 1] - stream->read;
	return part ? count : 0;
}

static ssize_t read_setup(struct xbzrle_stream *stream, struct iov_iter *to)
{
	size_t len = min(iov_iter_count(to),
			 stream->setup_len - stream->setup_read);
	size_t copied = copy_to_iter(stream->setup + stream->setup_read, len,
				     to);

	stream->setup_read += copied;
	stream->stats.stream_bytes += copied;
	if (stream->setup_read == stream->setup_len)
		xbzrle_stream_drop_setup(stream);
	return copied < len && !copied ? -EFAULT : copied;
}

/* @part: the reader has nothing yet, so a part of a record is better. */
static ssize_t read_records(struct xbzrle_stream *stream, struct iov_iter *to,
			    bool part)
{
	size_t total = 0, len, copied;
	int ret;

	while (iov_iter_count(to)) {
		if (stream->next_record == stream->nr_records) {
			ret = buf_fill(stream, iov_iter_count(to));
			if (ret)
				return total ?: ret;
			if (!stream->nr_records)
				break;
		}
		len = buf_fit(stream, iov_iter_count(to), part && !total);
		if (!len)
			break;
		copied = copy_to_iter(stream->buf + stream->read, len, to);
		stream->read += copied;
		total += copied;
		while (stream->next_record < stream->nr_records &&
		       stream->ends[stream->next_record] <= stream->read)
			stream->next_record++;
		if (copied < len)
			return total ?: -EFAULT;
	}
	if (!stream->eos_due && stream->next_record == stream->nr_records) {
		if (stream->moment || !xa_empty(&stream->cache.moments))
			xbzrle_stream_end_moment(stream);
		WRITE_ONCE(stream->active, false);
		/* Nothing but a FULL round can follow, and it has no use for them. */
		if (stream->final)
			xbzrle_cache_drop_bases(&stream->cache);
	}
	return total;
}

/**
 * xbzrle_stream_read() - hand out bytes of the round
 * @stream: the stream
 * @to: where they go
 *
 * Whole records, unless not even the first one fits. What a fault keeps from
 * being copied comes with the next read.
 *
 * Context: may sleep; session's lock.
 * Return: bytes, 0 at the end of the round, -EFAULT when nothing could be
 * copied, -EINTR, -ERESTARTSYS, -ENOMEM, -EIO for a page that cannot be read,
 * -ENOSPC, once, when the round is not of one moment any more, or the reason a
 * region ended.
 */
ssize_t xbzrle_stream_read(struct xbzrle_stream *stream, struct iov_iter *to)
{
	ssize_t setup = 0, records;

	lockdep_assert_held(stream->lock);
	if (!stream->active)
		return 0;
	if (stream->setup) {
		setup = read_setup(stream, to);
		if (setup < 0 || stream->setup)
			return setup;
	}
	/* MARK_DIRTY may have come when all was encoded, and not handed out. */
	if (!setup && stream->moment && !stream->eos_due &&
	    READ_ONCE(stream->capture.torn))
		records = -ENOSPC;
	else
		records = read_records(stream, to, !setup);
	if (records >= 0)
		return setup + records;
	if (setup)
		return setup;
	if (stream->moment && stream->capture.torn) {
		/* Said once; it goes on as an ordinary round. */
		xbzrle_stream_end_moment(stream);
		stream->stats.torn_rounds++;
		records = -ENOSPC;
	}
	return records;
}

/**
 * xbzrle_stream_distrust() - units may have been written unseen
 * @stream: the stream
 * @region: whose
 * @first: index of the first unit
 * @nr: how many
 *
 * Their bases may be other than what was sent, and what is kept of them for a
 * round of a moment may be later than that.
 *
 * Context: may sleep; session's lock.
 */
void xbzrle_stream_distrust(struct xbzrle_stream *stream,
			    const struct xbzrle_region *region,
			    unsigned long first, unsigned long nr)
{
	unsigned long key = region->key + first, index;
	void *entry;

	lockdep_assert_held(stream->lock);
	if (stream->moment)
		WRITE_ONCE(stream->capture.torn, true);
	xa_for_each_range(&stream->cache.entries, index, entry, key,
			  key + nr - 1) {
		xbzrle_cache_drop_base(&stream->cache, index);
		cond_resched();
	}
}

/**
 * xbzrle_stream_forget() - a region is about to go
 * @stream: the stream
 * @region: the region; what is encoded of it already is still handed out
 *
 * Context: may sleep; session's lock.
 */
void xbzrle_stream_forget(struct xbzrle_stream *stream,
			  struct xbzrle_region *region)
{
	lockdep_assert_held(stream->lock);
	xbzrle_capture_reset(&stream->capture);
	if (stream->round_region == region)
		stream->round_region = NULL;
	xbzrle_cache_drop(&stream->cache, region->key, region->nr_units);
}

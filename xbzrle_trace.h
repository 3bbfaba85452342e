/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM xbzrle

#if !defined(_XBZRLE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _XBZRLE_TRACE_H

#include <linux/tracepoint.h>

/* A region's harvest is done: what it found. */
TRACE_EVENT(xbzrle_harvest,
	TP_PROTO(u32 region, u32 tracker, u64 dirty, u64 held),
	TP_ARGS(region, tracker, dirty, held),
	TP_STRUCT__entry(
		__field(u32, region)
		__field(u32, tracker)
		__field(u64, dirty)
		__field(u64, held)
	),
	TP_fast_assign(
		__entry->region = region;
		__entry->tracker = tracker;
		__entry->dirty = dirty;
		__entry->held = held;
	),
	TP_printk("region=%u tracker=%u dirty=%llu held=%llu", __entry->region,
		  __entry->tracker, __entry->dirty, __entry->held)
);

/* A unit was looked at: record bytes, 0 when it was unchanged. */
TRACE_EVENT(xbzrle_encode,
	TP_PROTO(u32 region, u64 unit, bool based, size_t bytes),
	TP_ARGS(region, unit, based, bytes),
	TP_STRUCT__entry(
		__field(u32, region)
		__field(u64, unit)
		__field(bool, based)
		__field(size_t, bytes)
	),
	TP_fast_assign(
		__entry->region = region;
		__entry->unit = unit;
		__entry->based = based;
		__entry->bytes = bytes;
	),
	TP_printk("region=%u unit=%llu based=%d bytes=%zu", __entry->region,
		  __entry->unit, __entry->based, __entry->bytes)
);

/*
 * A base went: for one worth more, for a moment, as the budget shrank, or as
 * memory was short.
 */
TRACE_EVENT(xbzrle_evict,
	TP_PROTO(unsigned long key, unsigned int worth),
	TP_ARGS(key, worth),
	TP_STRUCT__entry(
		__field(unsigned long, key)
		__field(unsigned int, worth)
	),
	TP_fast_assign(
		__entry->key = key;
		__entry->worth = worth;
	),
	TP_printk("key=%#lx worth=%u", __entry->key, __entry->worth)
);

#endif /* _XBZRLE_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE xbzrle_trace
#include <trace/define_trace.h>

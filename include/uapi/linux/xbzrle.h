/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * xbzrle: dirty-page tracking and delta streaming of userspace memory.
 *
 * open("/dev/xbzrle") makes a session. CREATE or REGISTER gives it regions,
 * SYNC starts a round, read() or splice() takes the round's records and
 * returns 0 at its end. docs/uapi.md is the reference.
 *
 * Every ioctl takes a pointer to one struct whose first member is its size as
 * the caller knows it. A shorter struct than the kernel's is an older caller:
 * what is missing counts as zero; one shorter than in ABI version 1 is EINVAL.
 * A longer one, of up to a page, is accepted if the tail the kernel does not
 * know is zero, and refused with E2BIG otherwise.
 * Unknown flags and non-zero reserved members are refused with EINVAL.
 */
#ifndef _UAPI_LINUX_XBZRLE_H
#define _UAPI_LINUX_XBZRLE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define XBZRLE_ABI_VERSION	1
/* Bytes in a unit, the granule of records; independent of the page size. */
#define XBZRLE_UNIT_SIZE	4096
/* Longest region name in bytes, without a terminating NUL. */
#define XBZRLE_NAME_MAX		255

#define XBZRLE_IOC_TYPE		0xBE

/**
 * enum xbzrle_tracker - how a region learns of writes
 * @XBZRLE_TRACKER_AUTO: the kernel picks one that misses nothing for this
 *	memory, or refuses with EOPNOTSUPP
 * @XBZRLE_TRACKER_OWNED: memory made by CREATE; never asked for in REGISTER
 * @XBZRLE_TRACKER_PTE: page-table walk and write-protection of one mm
 * @XBZRLE_TRACKER_EXTERNAL: the caller says with MARK_DIRTY what was written;
 *	never chosen by AUTO
 * @XBZRLE_TRACKER_MAPPING: a file of shmem, and all that map or write it
 */
enum xbzrle_tracker {
	XBZRLE_TRACKER_AUTO	= 0,
	XBZRLE_TRACKER_OWNED	= 1,
	XBZRLE_TRACKER_PTE	= 2,
	XBZRLE_TRACKER_EXTERNAL	= 3,
	XBZRLE_TRACKER_MAPPING	= 4,
};

/**
 * enum xbzrle_capture - how a round gets bytes that no longer change
 * @XBZRLE_CAPTURE_AUTO: PREIMAGE with CREATE, COPY with REGISTER
 * @XBZRLE_CAPTURE_COPY: each page is copied before it is encoded, and the copy
 *	is kept as its base
 * @XBZRLE_CAPTURE_PREIMAGE: a page is encoded from itself while its writers
 *	wait, and what is kept as its base is its content before the next write
 *	to it; for owned memory, where it is what AUTO picks
 * @XBZRLE_CAPTURE_FREEZE: SYNC takes the page itself, and the process' next
 *	write to it gets a copy, as after fork(); for private memory with the
 *	pte tracker. What somebody holds is copied.
 */
enum xbzrle_capture {
	XBZRLE_CAPTURE_AUTO	= 0,
	XBZRLE_CAPTURE_COPY	= 1,
	XBZRLE_CAPTURE_PREIMAGE	= 2,
	XBZRLE_CAPTURE_FREEZE	= 3,
};

/*
 * Bits of xbzrle_info.features: values of enum xbzrle_tracker and enum
 * xbzrle_capture, and flags of SYNC, that this kernel has.
 */
#define XBZRLE_FEATURE_TRACKER_OWNED	(1ULL << 0)
#define XBZRLE_FEATURE_TRACKER_PTE	(1ULL << 1)
#define XBZRLE_FEATURE_CAPTURE_COPY	(1ULL << 2)
#define XBZRLE_FEATURE_TRACKER_EXTERNAL	(1ULL << 3)
#define XBZRLE_FEATURE_CAPTURE_PREIMAGE	(1ULL << 4)
#define XBZRLE_FEATURE_CAPTURE_FREEZE	(1ULL << 5)
#define XBZRLE_FEATURE_POINT_IN_TIME	(1ULL << 6)
#define XBZRLE_FEATURE_TRACKER_MAPPING	(1ULL << 7)

/**
 * struct xbzrle_info - what this kernel's xbzrle can do (XBZRLE_IOC_GET_INFO)
 * @size: in: sizeof(struct xbzrle_info) of the caller
 * @flags: in: must be 0
 * @abi_version: out: XBZRLE_ABI_VERSION of the kernel
 * @unit_size: out: bytes in a unit
 * @features: out: XBZRLE_FEATURE_* bits
 * @max_regions: out: regions one session may hold
 * @name_max: out: longest region name in bytes
 * @max_region_length: out: longest region in bytes
 * @max_cache: out: largest cache budget in bytes
 * @codec: out: what pages are compared with: scalar, or the vector instructions
 *	sse2, avx2, avx512bw or neon; filled up with zeros, of which there is at
 *	least one. It says nothing of the stream, which is the same.
 */
struct xbzrle_info {
	__u32 size;
	__u32 flags;
	__u32 abi_version;
	__u32 unit_size;
	__aligned_u64 features;
	__u32 max_regions;
	__u32 name_max;
	__aligned_u64 max_region_length;
	__aligned_u64 max_cache;
	__u8 codec[16];
};

/**
 * struct xbzrle_create - make a region of owned memory (XBZRLE_IOC_CREATE)
 * @size: in: sizeof(struct xbzrle_create) of the caller
 * @flags: in: must be 0
 * @length: in: bytes, a non-zero multiple of the page size; more than
 *	xbzrle_info.max_region_length is ENOSPC
 * @name: in: address of the name, which is @name_len bytes without a NUL
 * @name_len: in: 1 to XBZRLE_NAME_MAX
 * @region_id: out: names the region to this session
 * @fd: out: region fd, close-on-exec, to mmap(MAP_SHARED) and fallocate()
 * @capture: in/out: enum xbzrle_capture, AUTO, COPY or PREIMAGE, never AUTO on
 *	return; others are EINVAL
 */
struct xbzrle_create {
	__u32 size;
	__u32 flags;
	__aligned_u64 length;
	__aligned_u64 name;
	__u32 name_len;
	__u32 region_id;
	__s32 fd;
	__u32 capture;
};

/**
 * struct xbzrle_register - track memory that exists (XBZRLE_IOC_REGISTER)
 * @size: in: sizeof(struct xbzrle_register) of the caller
 * @flags: in: must be 0
 * @addr: in: first address, a multiple of the page size
 * @length: in: bytes, a non-zero multiple of the page size; more than
 *	xbzrle_info.max_region_length is ENOSPC
 * @name: in: address of the name, which is @name_len bytes without a NUL
 * @name_len: in: 1 to XBZRLE_NAME_MAX
 * @pid: in: owner of the memory in the caller's pid namespace, 0 for the
 *	caller itself; a thread's id does as well. Another process needs
 *	CAP_SYS_PTRACE in the user namespace of its mm
 * @tracker: in/out: enum xbzrle_tracker, never AUTO on return; OWNED is EINVAL
 * @capture: in/out: enum xbzrle_capture, AUTO, COPY or FREEZE, never AUTO on
 *	return; EOPNOTSUPP for PREIMAGE, and for FREEZE where memory, tracker or
 *	kernel cannot
 * @region_id: out: names the region to this session
 * @reserved: in: must be 0
 * @error_addr: out: with EFAULT and EOPNOTSUPP the first address that was
 *	refused; written although the call fails
 */
struct xbzrle_register {
	__u32 size;
	__u32 flags;
	__aligned_u64 addr;
	__aligned_u64 length;
	__aligned_u64 name;
	__u32 name_len;
	__s32 pid;
	__u32 tracker;
	__u32 capture;
	__u32 region_id;
	__u32 reserved;
	__aligned_u64 error_addr;
};

/**
 * struct xbzrle_unregister - drop one region (XBZRLE_IOC_UNREGISTER)
 * @size: in: sizeof(struct xbzrle_unregister) of the caller
 * @flags: in: must be 0
 * @region_id: in: as CREATE or REGISTER gave it
 * @reserved: in: must be 0
 *
 * What a running round still had to send of the region is dropped. Owned
 * memory stays mapped where it is mapped; it is no longer tracked.
 */
struct xbzrle_unregister {
	__u32 size;
	__u32 flags;
	__u32 region_id;
	__u32 reserved;
};

/**
 * struct xbzrle_set_cache - set the budget for bases (XBZRLE_IOC_SET_CACHE)
 * @size: in: sizeof(struct xbzrle_set_cache) of the caller
 * @flags: in: must be 0
 * @bytes: in: budget, rounded down to whole pages; 0 keeps no bases. Growing
 *	keeps what is held, shrinking evicts what is worth least. More than
 *	xbzrle_info.max_cache is ENOSPC, over RLIMIT_MEMLOCK without
 *	CAP_IPC_LOCK ENOMEM.
 */
struct xbzrle_set_cache {
	__u32 size;
	__u32 flags;
	__aligned_u64 bytes;
};

/* Last round: no bases are kept. Only a FULL round may follow. */
#define XBZRLE_SYNC_FINAL	(1U << 0)
/* Everything populated goes again, whole, to a receiver that has nothing. */
#define XBZRLE_SYNC_FULL	(1U << 1)
/*
 * The round's records give each region exactly as it was at one instant between
 * the call and its return, provided that nobody wrote during the call. What
 * changes before it was read is kept within the budget of SET_CACHE, and what
 * the tracker cannot keep so is copied during the call: if that exceeds the
 * budget, the call fails with ENOSPC. If writers exceed it while the round is
 * read, read() fails with ENOSPC once; what it gives from then on is the rest of
 * an ordinary round.
 */
#define XBZRLE_SYNC_POINT_IN_TIME	(1U << 2)

/**
 * struct xbzrle_sync - start a round (XBZRLE_IOC_SYNC)
 * @size: in: sizeof(struct xbzrle_sync) of the caller
 * @flags: in: XBZRLE_SYNC_* bits
 * @round: out: number of the round, from 1
 * @dirty_pages: out: pages this round looks at
 * @based_pages: out: those of them whose base is in the cache
 * @expected_bytes: out: estimate of the round's stream bytes, from what pages
 *	with and without a base came to in the rounds before
 * @error_addr: out: with EFAULT and EOPNOTSUPP the first address that could
 *	not be tracked any more; written although the call fails
 * @error_region: out: with EFAULT, EOPNOTSUPP and ESRCH the id of the region
 *	that ended, to be given to UNREGISTER; written although the call fails.
 *	0 with ENOSPC, and of no meaning with other errors
 * @reserved: in: must be 0
 */
struct xbzrle_sync {
	__u32 size;
	__u32 flags;
	__aligned_u64 round;
	__aligned_u64 dirty_pages;
	__aligned_u64 based_pages;
	__aligned_u64 expected_bytes;
	__aligned_u64 error_addr;
	__u32 error_region;
	__u32 reserved;
};

/**
 * struct xbzrle_stats - counters since open (XBZRLE_IOC_GET_STATS)
 * @size: in: sizeof(struct xbzrle_stats) of the caller
 * @flags: in: must be 0
 * @rounds: out: rounds started
 * @pages: out: pages sent as XBZRLE records
 * @bytes: out: bytes of XBZRLE records, headers included
 * @cache_miss: out: pages that went whole as they had no base, in rounds after
 *	the first; all of a FULL one, but those that are zero
 * @overflow: out: deltas not smaller than the page, which went whole
 * @zero_pages: out: ZERO records
 * @normal_pages: out: PAGE records
 * @unchanged_pages: out: dirty pages equal to their base; nothing was sent
 * @skipped_pages: out: overflowing pages sent whole without an attempt
 * @stream_bytes: out: all bytes encoded, setup and EOS included
 * @encoding_rate: out: uncompressed bytes per encoded byte of XBZRLE records,
 *	in thousandths; 0 before the first
 * @cache_bytes: out: the budget
 * @cache_used: out: bytes held of it now, as bases and for a POINT_IN_TIME round
 * @cache_evicted: out: bases dropped to make room or to shrink
 * @cache_refused: out: bases not admitted because none of those looked at was
 *	worth less
 * @dirty_pages: out: pages found dirty by harvests
 * @pinned_pages: out: those of them kept dirty because somebody held the page
 * @pending_pages: out: pages the running round has still to look at
 * @round_left: out: 1 while a round has records or its EOS to read
 * @cache_reclaimed: out: bases given back because the system needed memory
 * @preimages: out: bases kept when their page was about to change
 * @moments: out: pages encoded from what was kept, when they changed or during
 *	SYNC, for a POINT_IN_TIME round
 * @still_pages: out: pages encoded from themselves, while their writers waited
 * @copied_pages: out: pages copied before they were encoded
 * @frozen_pages: out: pages that SYNC froze, encoded from themselves
 * @torn_rounds: out: POINT_IN_TIME rounds that became ordinary ones
 */
struct xbzrle_stats {
	__u32 size;
	__u32 flags;
	__aligned_u64 rounds;
	__aligned_u64 pages;
	__aligned_u64 bytes;
	__aligned_u64 cache_miss;
	__aligned_u64 overflow;
	__aligned_u64 zero_pages;
	__aligned_u64 normal_pages;
	__aligned_u64 unchanged_pages;
	__aligned_u64 skipped_pages;
	__aligned_u64 stream_bytes;
	__aligned_u64 encoding_rate;
	__aligned_u64 cache_bytes;
	__aligned_u64 cache_used;
	__aligned_u64 cache_evicted;
	__aligned_u64 cache_refused;
	__aligned_u64 dirty_pages;
	__aligned_u64 pinned_pages;
	__aligned_u64 pending_pages;
	__aligned_u64 round_left;
	__aligned_u64 cache_reclaimed;
	__aligned_u64 preimages;
	__aligned_u64 moments;
	__aligned_u64 still_pages;
	__aligned_u64 copied_pages;
	__aligned_u64 frozen_pages;
	__aligned_u64 torn_rounds;
};

/**
 * struct xbzrle_mark_dirty - a bitmap from another source joins a region's
 * dirty pages (XBZRLE_IOC_MARK_DIRTY)
 * @size: in: sizeof(struct xbzrle_mark_dirty) of the caller
 * @flags: in: must be 0
 * @region_id: in: as CREATE or REGISTER gave it, with whatever tracker
 * @reserved: in: must be 0
 * @first_unit: in: the unit of the region that bit 0 stands for
 * @nr_units: in: bits in the bitmap, at least 1, all of units in the region
 * @bitmap: in: address of the bitmap, of @nr_units / 8 bytes rounded up. Bit n
 *	is bit n % 8 of byte n / 8 (counted from the least significant) on every
 *	architecture, as KVM_GET_DIRTY_LOG gives it. Bits behind the last unit
 *	are ignored.
 *
 * A unit whose bit is set is looked at in the round that the next SYNC starts,
 * also if one is being read now; what is marked and did not change is not sent.
 * Whoever marks memory with pre-images wrote past its tracker: it goes whole,
 * and a POINT_IN_TIME round that is being read becomes an ordinary one.
 * With EFAULT and EINTR the units of a part of the bitmap may be marked.
 */
struct xbzrle_mark_dirty {
	__u32 size;
	__u32 flags;
	__u32 region_id;
	__u32 reserved;
	__aligned_u64 first_unit;
	__aligned_u64 nr_units;
	__aligned_u64 bitmap;
};

#define XBZRLE_IOC_GET_INFO	_IO(XBZRLE_IOC_TYPE, 0x00)
#define XBZRLE_IOC_CREATE	_IO(XBZRLE_IOC_TYPE, 0x01)
#define XBZRLE_IOC_REGISTER	_IO(XBZRLE_IOC_TYPE, 0x02)
#define XBZRLE_IOC_UNREGISTER	_IO(XBZRLE_IOC_TYPE, 0x03)
#define XBZRLE_IOC_SET_CACHE	_IO(XBZRLE_IOC_TYPE, 0x04)
#define XBZRLE_IOC_SYNC		_IO(XBZRLE_IOC_TYPE, 0x05)
#define XBZRLE_IOC_GET_STATS	_IO(XBZRLE_IOC_TYPE, 0x06)
#define XBZRLE_IOC_MARK_DIRTY	_IO(XBZRLE_IOC_TYPE, 0x07)

#endif /* _UAPI_LINUX_XBZRLE_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/* A registered range of memory, whatever learns of its writes. */
#ifndef _XBZRLE_REGION_H
#define _XBZRLE_REGION_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/compiler_types.h>
#include <linux/rwsem.h>
#include <linux/types.h>
#include <linux/wait.h>

#include "dirty_set.h"
#include <uapi/linux/xbzrle.h>

struct page;
struct xbzrle_region;

/* Longest region: its units fit a record's offset. */
#define XBZRLE_MAX_LENGTH	BIT_ULL(44)

/**
 * struct xbzrle_watch - what a session's poll() looks at
 * @wait: woken when a region's target is gone
 * @gone: regions of the session whose target is gone
 */
struct xbzrle_watch {
	wait_queue_head_t wait;
	atomic_t gone;
};

/**
 * struct xbzrle_keeper - who wants the content of pages that are about to change
 * @keep: copy a page that nobody writes during the call, or learn by NULL that it
 *	cannot be read. @moment: the round that is being read is to have this
 *	content. Otherwise it is what was last sent of the unit. May sleep; under
 *	the region's keeper_lock.
 *
 * @frozen: take over a reference on a page that never changes again, which is
 *	what the next round is to have of the unit. May sleep; session's lock.
 *
 * The seam between a region and where pre-images go.
 */
struct xbzrle_keeper {
	void (*keep)(struct xbzrle_keeper *keeper, struct xbzrle_region *region,
		     unsigned long unit, struct page *page, bool moment);
	void (*frozen)(struct xbzrle_keeper *keeper,
		       struct xbzrle_region *region, unsigned long unit,
		       struct page *page);
};

/**
 * struct xbzrle_tracker_ops - the seam between a region and its tracker
 * @tracker: enum xbzrle_tracker
 * @harvest: move every unit written since the last harvest to the region's
 *	pending set, and have the next write to each noticed again. Returns 0,
 *	-EINTR (what was moved stays moved), or the reason the region ended.
 * @get: take references on the live pages behind up to @nr units from @unit.
 *	NULL in @pages stands for a hole. Returns how many, at least 1, -ENOMEM,
 *	-EINTR, -EIO for a page that cannot be read, or the reason the region
 *	ended.
 * @still: keep writers out of a page that @get gave until @loose; NULL where
 *	that cannot be. False, without that, if the page may have been written
 *	since the harvest, or can be without a fault. @locked: another page of
 *	its folio is kept so already, and @loose is due once for both.
 * @loose: let writers in again
 * @check: 0, or the reason the region ended and the address that showed it
 * @release: the session lets go of the region
 *
 * @harvest, @get, @still and @release may sleep and run under the session's
 * lock.
 */
struct xbzrle_tracker_ops {
	u32 tracker;
	int (*harvest)(struct xbzrle_region *region);
	long (*get)(struct xbzrle_region *region, unsigned long unit,
		    unsigned int nr, struct page **pages);
	bool (*still)(struct xbzrle_region *region, unsigned long unit,
		      struct page *page, bool locked);
	void (*loose)(struct page *page);
	int (*check)(struct xbzrle_region *region, u64 *addr);
	void (*release)(struct xbzrle_region *region);
};

/* Units whose bits are copied from userspace in one go. */
#define XBZRLE_MARK_CHUNK	4096U

/**
 * struct xbzrle_region - one registered range
 * @ops: its tracker
 * @id: names it to its session
 * @key: that of its first unit in the session's cache
 * @name_len: bytes in @name
 * @nr_units: its length
 * @dirty: units to report at the next harvest; added to in fault and notifier
 *	context, and by MARK_DIRTY
 * @pending: units that the running round has still to look at; session's lock
 * @nr_pending: how many; session's lock
 * @sent: bit per unit whose content at the receiver may be other than zero;
 *	session's lock
 * @all_due: the harvest is to report all that is populated; for trackers that
 *	do not notice by themselves what comes to be; session's lock
 * @announced: its name is in a setup section of a round that was started;
 *	session's lock
 * @capture: enum xbzrle_capture, never AUTO
 * @keeper: where pre-images go, or NULL; for reading also under @keeper_lock
 * @keeper_lock: @keeper for writing; held for reading from before a page fault
 *	looks at whether a unit is dirty until its pre-image is kept
 * @moment: the round that is harvested or read is to have each pending unit as
 *	it was at its SYNC; session's lock
 * @moment_begun: and all of them are pending, so that what changes from now on
 *	is to be kept; changed under the session's lock
 * @punch_lock: held for reading while holes are punched
 * @punching: holes being punched: a page may be a new one without being dirty
 * @nr_held: units of the last harvest that somebody else held; session's lock
 * @name: the stream's name of it, not terminated
 */
struct xbzrle_region {
	const struct xbzrle_tracker_ops *ops;
	u32 id;
	u32 name_len;
	unsigned long key;
	unsigned long nr_units;
	struct xbzrle_dirty_set dirty;
	struct xbzrle_dirty_set pending;
	unsigned long nr_pending;
	unsigned long *sent;
	bool all_due;
	bool announced;
	u32 capture;
	struct xbzrle_keeper *keeper;
	struct rw_semaphore keeper_lock;
	bool moment;
	bool moment_begun;
	struct rw_semaphore punch_lock;
	atomic_t punching;
	u64 nr_held;
	char name[XBZRLE_NAME_MAX];
};

int xbzrle_region_init(struct xbzrle_region *region,
		       const struct xbzrle_tracker_ops *ops,
		       const char *name, u32 name_len, u64 length);
void xbzrle_region_destroy(struct xbzrle_region *region);
int xbzrle_region_mark(struct xbzrle_region *region, unsigned long first,
		       unsigned long nr, const void __user *bitmap,
		       unsigned long *bits);
void xbzrle_region_attach(struct xbzrle_region *region,
			  struct xbzrle_keeper *keeper);
void xbzrle_region_settle_writes(struct xbzrle_region *region);
void xbzrle_region_write(struct xbzrle_region *region, unsigned long unit,
			 struct page *page);
void xbzrle_region_frozen(struct xbzrle_region *region, unsigned long unit,
			  struct page *page);
int xbzrle_region_harvest(struct xbzrle_region *region);
int xbzrle_region_begin_moment(struct xbzrle_region *region, bool full);
unsigned long xbzrle_region_count_full(const struct xbzrle_region *region);
void xbzrle_region_find_full(struct xbzrle_region *region);
void xbzrle_region_found(struct xbzrle_region *region, unsigned long first,
			 unsigned long nr);
void xbzrle_region_found_sent(struct xbzrle_region *region,
			      unsigned long first, unsigned long nr);
bool xbzrle_region_page_held(struct page *page, int own_refs);

#endif /* _XBZRLE_REGION_H */

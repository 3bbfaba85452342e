/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A session: regions, bases and rounds behind one open file.
 *
 * Lock order, outermost first:
 *
 *   session->lock		regions, stream, statistics, what the cache is
 *				asked for by SYNC and read()
 *     mmap_lock of a target	pte tracker: walks, VMA flags, its list of
 *				regions; mapping tracker: registration;
 *				external tracker: what is populated.
 *				Of who sets the cache: what it has locked
 *       region->punch_lock	for reading: who punches a hole. For writing: to
 *				wait for these, before a moment
 *       folio locks		owned and mapping tracker: a run's, in index
 *				order; a reader: those of a lot, likewise, and
 *				then it waits for nothing
 *         i_mmap_rwsem		owned and mapping tracker: write-protection of
 *				mappings
 *         page-table lock	pte tracker: one PTE at a time
 *       mapping_regions_lock	mapping tracker: which files' pages are taken
 *       ending->lock		all but the owned tracker: taken in mmu notifier
 *				context
 *       region->keeper_lock	for reading: a fault that keeps a pre-image,
 *				from before it looks at the dirty set. For
 *				writing: to wait for these
 *         cache->lock		bases and moments. Allocations under it do not
 *				reclaim, as the shrinker takes it
 *
 * Page faults take mmap_lock, then a folio's lock, and add to a dirty set
 * without a lock; then a region's keeper_lock and the cache's lock, and never
 * session->lock. Nor does who punches a hole, with punch_lock above. read()
 * copies to its buffer and MARK_DIRTY from its bitmap under session->lock, and
 * their faults are some of these. mmap() of a region's file runs under mmap_lock
 * and takes no lock of ours.
 */
#ifndef _XBZRLE_SESSION_H
#define _XBZRLE_SESSION_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/types.h>
#include <linux/xarray.h>

#include "memlock.h"
#include "reclaim.h"
#include "region.h"
#include "stream.h"

struct iov_iter;
struct seq_file;

/* Regions one session may hold. */
#define XBZRLE_MAX_REGIONS	4096
/* Largest cache budget in bytes; pages of it are counted in 32 bits. */
#define XBZRLE_MAX_CACHE	BIT_ULL(39)

/**
 * struct xbzrle_name - a name that is not free
 * @link: in xbzrle_session.dropped
 * @len: bytes in @name
 * @name: the name
 */
struct xbzrle_name {
	struct list_head link;
	u32 len;
	char name[];
};

/**
 * struct xbzrle_session - one open of the device
 * @lock: see the lock order above
 * @regions: id to region
 * @next_id: where the search for a free id begins; ids are not reused soon
 * @nr_regions: regions in @regions
 * @dropped: struct xbzrle_name of regions that the receiver knows and that are
 *	gone; it still has their content under these names
 * @stream: the round being read, and the bases
 * @round: number of the last round
 * @finished: that was a FINAL one
 * @read_failed: the last read() that got @lock did
 * @watch: what poll() waits on
 * @memlock: the budget for bases, as charged to the process that set it; more
 *	while more than that is held
 * @reclaim: lets the system have bases
 */
struct xbzrle_session {
	struct mutex lock; /* outermost */
	struct xarray regions;
	u32 next_id;
	u32 nr_regions;
	struct list_head dropped;
	struct xbzrle_stream stream;
	u64 round;
	bool finished;
	bool read_failed;
	struct xbzrle_watch watch;
	struct xbzrle_memlock memlock;
	struct xbzrle_reclaim reclaim;
};

/**
 * struct xbzrle_cmd - one ioctl call
 * @session: on which
 * @arg: the caller's struct
 * @arg_size: its size as the caller knows it
 * @cmd: the kernel's copy, of the kernel's size
 * @cmd_size: that size
 */
struct xbzrle_cmd {
	struct xbzrle_session *session;
	void __user *arg;
	u32 arg_size;
	void *cmd;
	u32 cmd_size;
};

struct xbzrle_session *xbzrle_session_open(void);
void xbzrle_session_close(struct xbzrle_session *session);
ssize_t xbzrle_session_read(struct xbzrle_session *session,
			    struct iov_iter *to, bool nonblock);
ssize_t xbzrle_session_why_not(struct xbzrle_session *session, bool nonblock);
__poll_t xbzrle_session_poll(struct xbzrle_session *session, struct file *file,
			     poll_table *wait);
void xbzrle_session_show(struct xbzrle_session *session, struct seq_file *m);

int xbzrle_session_get_info(struct xbzrle_cmd *cmd);
int xbzrle_session_create(struct xbzrle_cmd *cmd);
int xbzrle_session_register(struct xbzrle_cmd *cmd);
int xbzrle_session_unregister(struct xbzrle_cmd *cmd);
int xbzrle_session_set_cache(struct xbzrle_cmd *cmd);
int xbzrle_session_sync(struct xbzrle_cmd *cmd);
int xbzrle_session_mark_dirty(struct xbzrle_cmd *cmd);
int xbzrle_session_get_stats(struct xbzrle_cmd *cmd);

#endif /* _XBZRLE_SESSION_H */

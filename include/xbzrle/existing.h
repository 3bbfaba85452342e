/* SPDX-License-Identifier: GPL-2.0-only */
/* What the trackers of memory that exists already have in common. */
#ifndef _XBZRLE_EXISTING_H
#define _XBZRLE_EXISTING_H

#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/spinlock.h>
#include <linux/types.h>

struct xbzrle_watch;

/* Looks at a page that is neither readable nor a hole, until it is given up. */
#define XBZRLE_EXISTING_TRIES	100

/**
 * struct xbzrle_range - memory that REGISTER is asked for
 * @mm: whose memory; the caller holds a user reference during the call
 * @addr: first address, page-aligned
 * @length: bytes, a multiple of PAGE_SIZE
 * @watch: told when @mm is gone; outlives the region
 * @error_addr: out: the first address that was refused
 */
struct xbzrle_range {
	struct mm_struct *mm;
	u64 addr;
	u64 length;
	struct xbzrle_watch *watch;
	u64 error_addr;
};

/**
 * struct xbzrle_ending - whether and how a region of somebody's memory ended
 * @lock: the other members, and what a tracker needs one notifier event to do
 *	in one step; taken in mmu notifier context
 * @watch: told when the target is gone
 * @ended: 0, or the errno with which the region ended
 * @addr: the address that showed it
 * @gone: the target's mm was torn down
 */
struct xbzrle_ending {
	spinlock_t lock; /* innermost */
	struct xbzrle_watch *watch;
	int ended;
	unsigned long addr;
	bool gone;
};

/**
 * struct xbzrle_span - memory that a region stands or falls with
 * @notifier: tells when it is unmapped, or its process gone
 * @start: first address
 * @end: the address behind it
 * @ending: whether that has happened
 */
struct xbzrle_span {
	struct mmu_interval_notifier notifier;
	unsigned long start;
	unsigned long end;
	struct xbzrle_ending ending;
};

#if IS_ENABLED(CONFIG_MMU_NOTIFIER)
void xbzrle_ending_init(struct xbzrle_ending *ending,
			struct xbzrle_watch *watch);
void xbzrle_ending_destroy(struct xbzrle_ending *ending);
int xbzrle_ending_set(struct xbzrle_ending *ending, int ret,
		      unsigned long addr);
int xbzrle_ending_check(struct xbzrle_ending *ending, u64 *addr);
bool xbzrle_ending_note(struct xbzrle_ending *ending,
			const struct mmu_notifier_range *range,
			unsigned long addr);
void xbzrle_ending_wake(struct xbzrle_ending *ending);

int xbzrle_span_watch(struct xbzrle_span *span,
		      const struct xbzrle_range *range);
void xbzrle_span_drop(struct xbzrle_span *span);

pmd_t *xbzrle_existing_pmd(struct mm_struct *mm, unsigned long addr,
			   unsigned long end, unsigned long *next);
bool xbzrle_existing_pmd_huge(pmd_t pmd);
int xbzrle_existing_split(struct mm_struct *mm, unsigned long addr);
bool xbzrle_existing_read(struct mm_struct *mm, pmd_t *pmdp,
			  unsigned long addr, unsigned int nr, pte_t *ptes);
bool xbzrle_existing_populated(struct mm_struct *mm, unsigned long addr);
bool xbzrle_existing_hole(struct mm_struct *mm, unsigned long addr);
#endif

int xbzrle_existing_shared(const struct xbzrle_range *range);

#endif /* _XBZRLE_EXISTING_H */

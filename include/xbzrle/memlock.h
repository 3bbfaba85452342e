/* SPDX-License-Identifier: GPL-2.0-only */
/* What a session may hold, as memory that a process has locked. */
#ifndef _XBZRLE_MEMLOCK_H
#define _XBZRLE_MEMLOCK_H

struct mm_struct;

/**
 * struct xbzrle_memlock - pages charged to a process
 * @mm: whose; pinned, NULL if nothing is charged
 * @pages: how many
 *
 * Zeroed at first. Protected by the session's lock.
 */
struct xbzrle_memlock {
	struct mm_struct *mm;
	unsigned long pages;
};

int xbzrle_memlock_set(struct xbzrle_memlock *memlock, struct mm_struct *mm,
		       unsigned long pages);

#endif /* _XBZRLE_MEMLOCK_H */

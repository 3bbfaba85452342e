/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef _XBZRLE_TOOL_SOFTDIRTY_H
#define _XBZRLE_TOOL_SOFTDIRTY_H

#include <stdint.h>
#include <sys/types.h>

#include <xbzrle.h>

/**
 * struct softdirty - what the kernel's soft-dirty bits tell of a range
 * @start: first address
 * @units: its length
 * @seen: bit per unit that ever had a page, so that the receiver may have
 *	something there
 * @written: bit per unit that has to be marked
 */
struct softdirty {
	uint64_t start;
	uint64_t units;
	uint8_t *seen;
	uint8_t *written;
};

int softdirty_probe(struct xbzrle_error *err);
int softdirty_open(pid_t pid, struct xbzrle_error *err);
int softdirty_clear(pid_t pid, struct xbzrle_error *err);

int softdirty_begin(struct softdirty *range, uint64_t start, uint64_t end,
		    struct xbzrle_error *err);
int softdirty_scan(struct softdirty *range, int pagemap,
		   struct xbzrle_error *err);
int softdirty_mark(struct softdirty *range, struct xbzrle_session *session,
		   uint32_t region_id, struct xbzrle_error *err);
void softdirty_end(struct softdirty *range);

#endif /* _XBZRLE_TOOL_SOFTDIRTY_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/* The codec that the kernel uses: the best one, while the FPU may be used. */
#ifndef _XBZRLE_SIMD_H
#define _XBZRLE_SIMD_H

#include <linux/types.h>

#include "codec.h"

/* Most comparisons in one FPU section: 32 KiB that are read twice at most. */
#define XBZRLE_SIMD_BATCH	8

/**
 * struct xbzrle_comparison - a page to be compared with its base
 * @base: XBZRLE_DIFF_MAX bytes
 * @page: as many; neither may change meanwhile
 * @diff: out: for xbzrle_encode_diff()
 */
struct xbzrle_comparison {
	const void *base;
	const void *page;
	struct xbzrle_diff diff;
};

void xbzrle_simd_init(void);
const char *xbzrle_simd_name(void);
bool xbzrle_simd_begin(void);
void xbzrle_simd_end(void);
void xbzrle_simd_compare(struct xbzrle_comparison *comparisons,
			 unsigned int nr);

#endif /* _XBZRLE_SIMD_H */

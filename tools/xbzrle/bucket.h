/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef _XBZRLE_TOOL_BUCKET_H
#define _XBZRLE_TOOL_BUCKET_H

#include <stddef.h>
#include <stdint.h>

/**
 * struct bucket - holds a rate by making its user wait
 * @rate: bytes per second, 0 for no limit
 * @due: when all that was taken so far has gone at this rate
 */
struct bucket {
	uint64_t rate;
	double due;
};

size_t bucket_portion(const struct bucket *bucket, size_t max);
void bucket_take(struct bucket *bucket, size_t bytes);

#endif /* _XBZRLE_TOOL_BUCKET_H */

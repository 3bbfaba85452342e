// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The encoder one would write first: a loop over bytes. It is what the codec
 * is measured against, and good of its kind: room is checked once per run, and
 * memcpy() is called only where a call pays.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "naive.h"

/**
 * naive_encode() - encode byte by byte
 * @base: content the receiver holds
 * @page: content it shall hold
 * @len: length of both in bytes
 * @dst: where the delta goes
 * @dst_len: bytes that may be written at @dst
 *
 * Return: Length of the delta, 0 if @base and @page are equal, -ENOSPC if the
 * delta is longer than @dst_len.
 */
ssize_t naive_encode(const void *base, const void *page, size_t len,
		     void *dst, size_t dst_len)
{
	const uint8_t *old = base, *new = page;
	uint8_t *out = dst;
	size_t i = 0, used = 0;

	for (;;) {
		size_t start = i, equal, count, need;

		while (i < len && old[i] == new[i])
			i++;
		if (i == len)
			return used;
		equal = i - start;

		start = i;
		while (i < len && old[i] != new[i])
			i++;
		count = i - start;

		need = 2 + count;
		if (equal > 127)
			need++;
		if (count > 127)
			need++;
		if (need > dst_len - used)
			return -ENOSPC;
		if (equal > 127) {
			out[used++] = equal | 0x80;
			out[used++] = equal >> 7;
		} else {
			out[used++] = equal;
		}
		if (count > 127) {
			out[used++] = count | 0x80;
			out[used++] = count >> 7;
		} else {
			out[used++] = count;
		}
		if (count < 16) {
			while (start < i)
				out[used++] = new[start++];
		} else {
			memcpy(out + used, new + start, count);
			used += count;
		}
	}
}

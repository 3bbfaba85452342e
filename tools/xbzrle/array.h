/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef _XBZRLE_TOOL_ARRAY_H
#define _XBZRLE_TOOL_ARRAY_H

#include <stddef.h>
#include <stdlib.h>

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

/**
 * array_room() - make room for one more at the end of an array
 * @array: made by this function alone, or NULL if @count is 0
 * @count: how many are in it
 * @size: bytes of each
 *
 * It has room for a power of two, so that no array has to keep how much it has.
 *
 * Return: the array, which may have moved; or NULL, @array as it was.
 */
static inline void *array_room(void *array, size_t count, size_t size)
{
	if (count & (count - 1))
		return array;
	return reallocarray(array, count ? 2 * count : 1, size);
}

#endif /* _XBZRLE_TOOL_ARRAY_H */

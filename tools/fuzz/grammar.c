// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <stdbool.h>

#include "grammar.h"

static size_t put_number(uint8_t *delta, size_t used, size_t number)
{
	if (number / 128)
		delta[used++] = 128 + number % 128;
	else
		delta[used++] = number;
	if (number / 128)
		delta[used++] = number / 128;
	return used;
}

/**
 * grammar_encode() - the delta whose runs are as long as they can be
 * @base: what is there
 * @page: what shall be there
 * @len: bytes of both
 * @delta: room for GRAMMAR_DELTA_MAX(@len) bytes
 *
 * Return: bytes of the delta, 0 if there is no difference.
 */
size_t grammar_encode(const uint8_t *base, const uint8_t *page, size_t len,
		      uint8_t *delta)
{
	size_t same = 0, at, first, used = 0;

	for (at = 0; at < len; at++) {
		if (base[at] == page[at])
			continue;
		first = at;
		while (at < len && base[at] != page[at])
			at++;
		used = put_number(delta, used, first - same);
		used = put_number(delta, used, at - first);
		for (same = at; first < same; first++)
			delta[used++] = page[first];
	}
	return used;
}

/* The number at @at, which moves on; -1 if there is none of one or two bytes. */
static int get_number(const uint8_t *delta, size_t delta_len, size_t *at)
{
	int number, shift = 0, byte;

	for (number = 0; shift <= 7 && *at < delta_len; shift += 7) {
		byte = delta[(*at)++];
		number += byte % 128 << shift;
		if (byte < 128)
			return number;
	}
	return -1;
}

/* What a delta says byte by byte; changes @page if there is one. */
static ssize_t follow(const uint8_t *delta, size_t delta_len, uint8_t *page,
		      size_t len)
{
	size_t at = 0, to = 0;
	bool first = true;
	int number;

	do {
		number = get_number(delta, delta_len, &at);
		if (number < 0 || (!number && !first))
			return -1;
		first = false;
		for (; number; number--) {
			if (to++ == len)
				return -1;
		}
		number = get_number(delta, delta_len, &at);
		if (number < 1)
			return -1;
		for (; number; number--) {
			if (at == delta_len || to == len)
				return -1;
			if (page)
				page[to] = delta[at];
			at++;
			to++;
		}
	} while (at < delta_len);
	return to;
}

/**
 * grammar_decode() - do what a delta says
 * @delta: the delta
 * @delta_len: its bytes
 * @page: what it is for
 * @len: bytes of @page
 *
 * Return: where the last new byte of the page ends; -1 if the delta is
 * malformed, and nothing was done.
 */
ssize_t grammar_decode(const uint8_t *delta, size_t delta_len, uint8_t *page,
		       size_t len)
{
	ssize_t end = follow(delta, delta_len, NULL, len);

	return end < 0 ? end : follow(delta, delta_len, page, len);
}

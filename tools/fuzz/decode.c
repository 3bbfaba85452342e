// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Any bytes as a delta: what the decoder says and does is what the grammar
 * says, and a page whose delta is refused stays as it is.
 *
 * Input: be16 length of the page, the delta.
 */
#include <stdlib.h>
#include <string.h>

#include <xbzrle/codec.h>

#include "fuzz.h"
#include "grammar.h"

/* Both in buffers of exactly their size. */
static void try(const uint8_t *bytes, size_t delta_len, const uint8_t *base,
		size_t len)
{
	uint8_t *delta = fuzz_alloc(delta_len), *page = fuzz_alloc(len);
	uint8_t *want = fuzz_alloc(len);
	ssize_t end, ret;

	memcpy(delta, bytes, delta_len);
	memcpy(page, base, len);
	memcpy(want, base, len);
	end = grammar_decode(bytes, delta_len, want, len);
	ret = xbzrle_decode(delta, delta_len, page, len);
	must(ret == (end < 0 ? -EBADMSG : end));
	must(!memcmp(page, want, len));
	free(delta);
	free(page);
	free(want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = { data, data + size };
	size_t len = fuzz_be16(&input) % XBZRLE_CODEC_MAX + 1, i;
	uint8_t *base = fuzz_alloc(len);

	for (i = 0; i < len; i++)
		base[i] = i * 151 >> 4;
	try(input.at, input.end - input.at, base, len);
	free(base);
	return 0;
}

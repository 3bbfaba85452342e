// SPDX-License-Identifier: GPL-2.0-only
#include <linux/minmax.h>
#include <linux/printk.h>
#include <linux/static_call.h>

#include "compat/compat.h"
#include <xbzrle/simd.h>

/* Set when the module is loaded, never again. */
static const struct xbzrle_codec *codec = &xbzrle_codec_scalar;

static void compare_scalar(const void *base, const void *page,
			   struct xbzrle_diff *diff)
{
	xbzrle_codec_scalar.compare(base, page, diff);
}

DEFINE_STATIC_CALL(compare, compare_scalar);

/**
 * xbzrle_simd_init() - pick the codec, and say which
 *
 * Context: may sleep; before anything is compared.
 */
void xbzrle_simd_init(void)
{
	if (XBZRLE_HAVE_SIMD)
		codec = xbzrle_codec_best();
	static_call_update(compare, codec->compare);
	pr_info("xbzrle: comparing with %s\n", codec->name);
}

/**
 * xbzrle_simd_name() - the codec in use
 *
 * Context: any.
 * Return: its name.
 */
const char *xbzrle_simd_name(void)
{
	return codec->name;
}

/**
 * xbzrle_simd_begin() - own the FPU, if that is possible here and now
 *
 * Context: any. Disables preemption if it succeeds.
 * Return: true if it succeeded, and xbzrle_simd_end() is due.
 */
bool xbzrle_simd_begin(void)
{
	if (!XBZRLE_HAVE_SIMD || !xbzrle_may_use_simd())
		return false;
	xbzrle_fpu_begin();
	return true;
}

/**
 * xbzrle_simd_end() - give the FPU back
 *
 * Context: after xbzrle_simd_begin().
 */
void xbzrle_simd_end(void)
{
	xbzrle_fpu_end();
}

/**
 * xbzrle_simd_compare() - find where pages differ from their bases
 * @comparisons: the pages; their differences are filled in
 * @nr: how many
 *
 * Up to XBZRLE_SIMD_BATCH of them share an FPU section, in which preemption is
 * off. Making deltas of what is found needs no FPU, and is done outside.
 *
 * Context: Any. Does not sleep. Where the FPU may not be used it compares by
 * words.
 */
void xbzrle_simd_compare(struct xbzrle_comparison *comparisons,
			 unsigned int nr)
{
	unsigned int part, i;
	bool simd;

	for (; nr; nr -= part, comparisons += part) {
		part = min_t(unsigned int, nr, XBZRLE_SIMD_BATCH);
		simd = codec->usable && xbzrle_simd_begin();
		for (i = 0; i < part; i++) {
			struct xbzrle_comparison *one = &comparisons[i];

			if (simd)
				static_call(compare)(one->base, one->page,
						     &one->diff);
			else
				compare_scalar(one->base, one->page,
					       &one->diff);
		}
		if (simd)
			xbzrle_simd_end();
	}
}

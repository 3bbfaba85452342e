// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Comparing with the vector instructions of arm64, in asm for the reasons that
 * xbzrle_codec_x86.c has.
 */
#include <xbzrle/codec.h>

#if defined(__aarch64__)

#ifdef __KERNEL__
#include <asm/neon.h>
#endif

/* A compiler that may not use a register does not let it be named, either. */
#ifdef __ARM_NEON
#define CLOBBER_VECTORS	"v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7",	\
			"v16",
#else
#define CLOBBER_VECTORS
#endif

static void compare_neon(const void *base, const void *page,
			 struct xbzrle_diff *diff)
{
	__u64 *equal = diff->equal, *end = equal + XBZRLE_DIFF_MAX /
						    XBZRLE_DIFF_BLOCK;
	__u64 blocks = 0;
	unsigned int i;

	/* Each byte that is equal leaves one bit; sums of neighbours join them. */
	asm volatile(".arch_extension simd\n\t"
		     "dup	v16.2d, %[bits]\n"
		     "1:\n\t"
		     "ld1	{v0.16b-v3.16b}, [%[base]], #64\n\t"
		     "ld1	{v4.16b-v7.16b}, [%[page]], #64\n\t"
		     "cmeq	v0.16b, v0.16b, v4.16b\n\t"
		     "cmeq	v1.16b, v1.16b, v5.16b\n\t"
		     "cmeq	v2.16b, v2.16b, v6.16b\n\t"
		     "cmeq	v3.16b, v3.16b, v7.16b\n\t"
		     "and	v0.16b, v0.16b, v16.16b\n\t"
		     "and	v1.16b, v1.16b, v16.16b\n\t"
		     "and	v2.16b, v2.16b, v16.16b\n\t"
		     "and	v3.16b, v3.16b, v16.16b\n\t"
		     "addp	v0.16b, v0.16b, v1.16b\n\t"
		     "addp	v2.16b, v2.16b, v3.16b\n\t"
		     "addp	v0.16b, v0.16b, v2.16b\n\t"
		     "addp	v0.16b, v0.16b, v0.16b\n\t"
		     "st1	{v0.d}[0], [%[equal]], #8\n\t"
		     "cmp	%[equal], %[end]\n\t"
		     "b.ne	1b"
		     : [base] "+r" (base), [page] "+r" (page),
		       [equal] "+r" (equal)
		     : [end] "r" (end), [bits] "r" (0x8040201008040201ull)
		     : CLOBBER_VECTORS "memory", "cc");

	for (i = 0; i < XBZRLE_DIFF_MAX / XBZRLE_DIFF_BLOCK; i++)
		blocks |= (__u64)!!~diff->equal[i] << i;
	diff->blocks = blocks;
}

static bool neon_usable(void)
{
#ifdef __KERNEL__
	return IS_ENABLED(CONFIG_KERNEL_MODE_NEON) && cpu_has_neon();
#else
	return true;
#endif
}

const struct xbzrle_codec xbzrle_codec_neon = {
	.name = "neon",
	.usable = neon_usable,
	.compare = compare_neon,
};

#endif /* arm64 */

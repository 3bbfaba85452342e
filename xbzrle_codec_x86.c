// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Comparing with the vector instructions of x86-64.
 *
 * Each function is one asm statement, so that the compiler needs no vector
 * registers: kernel and userspace compile the same lines with their usual
 * flags, and nothing can be spilled to where the FPU is not ours. It also
 * keeps the number of instructions per byte, which is all that there is to
 * win, the same under every compiler. Intrinsics would need headers that the
 * kernel does not have, and flags per file that differ from version to
 * version.
 *
 * All of them put down a mask of equal bytes per block, and a bit for each mask
 * that is all ones. There is no branch but the loop's, as any that depended on
 * the content would be mispredicted where pages differ in a few places, for more
 * than it saves.
 */
#include <xbzrle/codec.h>

#if defined(__x86_64__) && !defined(CONFIG_UML)

#ifdef __KERNEL__
#include <linux/cpufeature.h>
#include <asm/fpu/api.h>
#endif

/* A compiler that may not use a register does not let it be named, either. */
#ifdef __SSE2__
#define CLOBBER_VECTORS	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",	\
			"xmm6", "xmm7", "xmm15",
#else
#define CLOBBER_VECTORS
#endif
#ifdef __AVX512F__
#define CLOBBER_MASKS	"k1", "k2",
#else
#define CLOBBER_MASKS
#endif

/*
 * One block, at %[at] eights of bytes and @of bytes; its mask is as many bytes
 * long as it has eights. A block that is equal is found by a look at the masks
 * afterwards, as they come in four pieces.
 */
#define SSE2_BLOCK(of)							\
	"movdqu	" #of "(%[base],%[at],8), %%xmm0\n\t"			\
	"movdqu	16+" #of "(%[base],%[at],8), %%xmm1\n\t"		\
	"movdqu	32+" #of "(%[base],%[at],8), %%xmm2\n\t"		\
	"movdqu	48+" #of "(%[base],%[at],8), %%xmm3\n\t"		\
	"movdqu	" #of "(%[page],%[at],8), %%xmm4\n\t"			\
	"movdqu	16+" #of "(%[page],%[at],8), %%xmm5\n\t"		\
	"movdqu	32+" #of "(%[page],%[at],8), %%xmm6\n\t"		\
	"movdqu	48+" #of "(%[page],%[at],8), %%xmm7\n\t"		\
	"pcmpeqb	%%xmm4, %%xmm0\n\t"				\
	"pcmpeqb	%%xmm5, %%xmm1\n\t"				\
	"pcmpeqb	%%xmm6, %%xmm2\n\t"				\
	"pcmpeqb	%%xmm7, %%xmm3\n\t"				\
	"pmovmskb	%%xmm0, %k[a]\n\t"				\
	"pmovmskb	%%xmm1, %k[b]\n\t"				\
	"movw	%w[a], (" #of ")/8(%[equal],%[at])\n\t"			\
	"movw	%w[b], (" #of ")/8+2(%[equal],%[at])\n\t"		\
	"pmovmskb	%%xmm2, %k[a]\n\t"				\
	"pmovmskb	%%xmm3, %k[b]\n\t"				\
	"movw	%w[a], (" #of ")/8+4(%[equal],%[at])\n\t"		\
	"movw	%w[b], (" #of ")/8+6(%[equal],%[at])\n\t"

static void compare_sse2(const void *base, const void *page,
			 struct xbzrle_diff *diff)
{
	size_t at = 0, a, b;
	__u64 blocks = 0;

	asm volatile("1:\n\t"
		     SSE2_BLOCK(0)
		     SSE2_BLOCK(64)
		     SSE2_BLOCK(128)
		     SSE2_BLOCK(192)
		     "add	$32, %[at]\n\t"
		     "cmp	$512, %[at]\n\t"
		     "jne	1b\n\t"
		     "pcmpeqd	%%xmm15, %%xmm15\n"
		     /* The masks of four blocks: halves, then the whole. */
		     "2:\n\t"
		     "movdqu	-32(%[equal],%[at]), %%xmm0\n\t"
		     "movdqu	-16(%[equal],%[at]), %%xmm1\n\t"
		     "pcmpeqd	%%xmm15, %%xmm0\n\t"
		     "pcmpeqd	%%xmm15, %%xmm1\n\t"
		     "packssdw	%%xmm1, %%xmm0\n\t"
		     "pcmpeqd	%%xmm15, %%xmm0\n\t"
		     "movmskps	%%xmm0, %k[a]\n\t"
		     "shl	$4, %[blocks]\n\t"
		     "or	%[a], %[blocks]\n\t"
		     "sub	$32, %[at]\n\t"
		     "jne	2b"
		     : [at] "+r" (at), [blocks] "+r" (blocks),
		       [a] "=&r" (a), [b] "=&r" (b)
		     : [base] "r" (base), [page] "r" (page),
		       [equal] "r" (diff->equal)
		     : CLOBBER_VECTORS "memory", "cc");
	diff->blocks = ~blocks;
}

/*
 * One is added to the mask: the carry says that all are equal, and goes into the
 * blocks at the bottom. So those of each loop are taken from the last one, and
 * the bytes of all loops turned round in the end.
 */
#define AVX2_BLOCK(of)							\
	"vmovdqu	" #of "(%[base],%[at],8), %%ymm0\n\t"		\
	"vmovdqu	32+" #of "(%[base],%[at],8), %%ymm1\n\t"	\
	"vpcmpeqb	" #of "(%[page],%[at],8), %%ymm0, %%ymm0\n\t"	\
	"vpcmpeqb	32+" #of "(%[page],%[at],8), %%ymm1, %%ymm1\n\t" \
	"vpmovmskb	%%ymm0, %k[a]\n\t"				\
	"vpmovmskb	%%ymm1, %k[b]\n\t"				\
	"shl	$32, %[b]\n\t"						\
	"or	%[b], %[a]\n\t"					\
	"mov	%[a], (" #of ")/8(%[equal],%[at])\n\t"			\
	"add	$1, %[a]\n\t"						\
	"adc	%[blocks], %[blocks]\n\t"

static void compare_avx2(const void *base, const void *page,
			 struct xbzrle_diff *diff)
{
	size_t at = 0, a, b;
	__u64 blocks = 0;

	asm volatile("1:\n\t"
		     AVX2_BLOCK(448)
		     AVX2_BLOCK(384)
		     AVX2_BLOCK(320)
		     AVX2_BLOCK(256)
		     AVX2_BLOCK(192)
		     AVX2_BLOCK(128)
		     AVX2_BLOCK(64)
		     AVX2_BLOCK(0)
		     "add	$64, %[at]\n\t"
		     "cmp	$512, %[at]\n\t"
		     "jne	1b\n\t"
		     "bswap	%[blocks]\n\t"
		     "vzeroupper"
		     : [at] "+r" (at), [blocks] "+r" (blocks),
		       [a] "=&r" (a), [b] "=&r" (b)
		     : [base] "r" (base), [page] "r" (page),
		       [equal] "r" (diff->equal)
		     : CLOBBER_VECTORS "memory", "cc");
	diff->blocks = ~blocks;
}

/* The same, with the carry of a test for all ones. */
#define AVX512_BLOCK(of)						\
	"vmovdqu64	" #of "(%[base],%[at],8), %%zmm0\n\t"		\
	"vpcmpeqb	" #of "(%[page],%[at],8), %%zmm0, %%k1\n\t"	\
	"kmovq	%%k1, (" #of ")/8(%[equal],%[at])\n\t"			\
	"kortestq	%%k1, %%k1\n\t"				\
	"adc	%[blocks], %[blocks]\n\t"

static void compare_avx512bw(const void *base, const void *page,
			     struct xbzrle_diff *diff)
{
	__u64 blocks = 0;
	size_t at = 0;

	asm volatile("1:\n\t"
		     AVX512_BLOCK(448)
		     AVX512_BLOCK(384)
		     AVX512_BLOCK(320)
		     AVX512_BLOCK(256)
		     AVX512_BLOCK(192)
		     AVX512_BLOCK(128)
		     AVX512_BLOCK(64)
		     AVX512_BLOCK(0)
		     "add	$64, %[at]\n\t"
		     "cmp	$512, %[at]\n\t"
		     "jne	1b\n\t"
		     "bswap	%[blocks]\n\t"
		     "vzeroupper"
		     : [at] "+r" (at), [blocks] "+r" (blocks)
		     : [base] "r" (base), [page] "r" (page),
		       [equal] "r" (diff->equal)
		     : CLOBBER_VECTORS CLOBBER_MASKS "memory", "cc");
	diff->blocks = ~blocks;
}

/* Has the CPU the feature, and does the kernel save its registers? */
#ifdef __KERNEL__
#define USABLE(user, feature, registers)				\
	(boot_cpu_has(feature) && cpu_has_xfeatures(registers, NULL))
#else
#define USABLE(user, feature, registers)	(!!__builtin_cpu_supports(user))
#endif

static bool sse2_usable(void)
{
	return USABLE("sse2", X86_FEATURE_XMM2, XFEATURE_MASK_SSE);
}

static bool avx2_usable(void)
{
	return USABLE("avx2", X86_FEATURE_AVX2,
		      XFEATURE_MASK_SSE | XFEATURE_MASK_YMM);
}

static bool avx512bw_usable(void)
{
	return USABLE("avx512bw", X86_FEATURE_AVX512BW,
		      XFEATURE_MASK_SSE | XFEATURE_MASK_YMM |
		      XFEATURE_MASK_AVX512);
}

const struct xbzrle_codec xbzrle_codec_sse2 = {
	.name = "sse2",
	.usable = sse2_usable,
	.compare = compare_sse2,
};

const struct xbzrle_codec xbzrle_codec_avx2 = {
	.name = "avx2",
	.usable = avx2_usable,
	.compare = compare_avx2,
};

const struct xbzrle_codec xbzrle_codec_avx512bw = {
	.name = "avx512bw",
	.usable = avx512bw_usable,
	.compare = compare_avx512bw,
};

#endif /* x86-64 */

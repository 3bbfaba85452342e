// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of the codec: vectors written by hand, and an encoder that
 * follows the grammar byte by byte and shares no code with the codec.
 *
 * Buffers have exactly the size the codec is told, so that KASAN sees every
 * byte too far.
 */
#include <kunit/test.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include <xbzrle/codec.h>
#include <xbzrle/simd.h>

#define SEED		0x5eed
#define UNIT		4096
/* The longest delta of a unit: two lengths and a literal per two bytes. */
#define UNIT_DELTA_MAX	(UNIT / 2 * 3 + 1)
#define FILL		0xaa

static bool codec_bench;
module_param(codec_bench, bool, 0444);
MODULE_PARM_DESC(codec_bench, "measure the codecs when the tests run");

static size_t reference_length(u8 *out, size_t length)
{
	if (length < 0x80) {
		out[0] = length;
		return 1;
	}
	out[0] = 0x80 + length % 0x80;
	out[1] = length / 0x80;
	return 2;
}

/* The greedy delta by the grammar. @out must have room for any. */
static size_t reference_encode(const u8 *base, const u8 *page, size_t len,
			       u8 *out)
{
	size_t i = 0, used = 0;

	while (i < len) {
		size_t zrun = 0, nzrun = 0;

		while (i + zrun < len && base[i + zrun] == page[i + zrun])
			zrun++;
		i += zrun;
		while (i + nzrun < len && base[i + nzrun] != page[i + nzrun])
			nzrun++;
		if (!nzrun)
			break;
		used += reference_length(out + used, zrun);
		used += reference_length(out + used, nzrun);
		while (nzrun--)
			out[used++] = page[i++];
	}
	return used;
}

/* 0 to @limit - 1 */
static u32 random_below(struct rnd_state *random, u32 limit)
{
	return prandom_u32_state(random) % limit;
}

/* Change runs of up to @longest bytes, up to @apart bytes apart. */
static void random_change(struct rnd_state *random, u8 *bytes, size_t len,
			  u32 longest, u32 apart)
{
	size_t i = random_below(random, apart + 1), run;

	for (; i < len; i += 1 + random_below(random, apart)) {
		run = 1 + random_below(random, longest);
		for (; run && i < len; run--, i++)
			bytes[i] ^= 1 + random_below(random, 255);
	}
}

/**
 * struct pair - a base, a page and the delta they should give
 * @base: random content
 * @page: @base with changes
 * @len: length of both
 * @delta: the greedy delta
 * @size: its length
 */
struct pair {
	u8 *base;
	u8 *page;
	size_t len;
	u8 *delta;
	size_t size;
};

static void *exact(struct kunit *test, size_t size)
{
	void *bytes = kunit_kzalloc(test, size, GFP_KERNEL);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, bytes);
	return bytes;
}

static void pair_init(struct kunit *test, struct pair *pair, size_t len)
{
	pair->len = len;
	pair->base = exact(test, len);
	pair->page = exact(test, len);
	pair->delta = exact(test, UNIT_DELTA_MAX);
}

static void pair_fill(struct pair *pair, struct rnd_state *random, u32 longest,
		      u32 apart)
{
	prandom_bytes_state(random, pair->base, pair->len);
	memcpy(pair->page, pair->base, pair->len);
	random_change(random, pair->page, pair->len, longest, apart);
	pair->size = reference_encode(pair->base, pair->page, pair->len,
				      pair->delta);
}

static void pair_free(struct kunit *test, struct pair *pair)
{
	kunit_kfree(test, pair->delta);
	kunit_kfree(test, pair->page);
	kunit_kfree(test, pair->base);
}

struct vector {
	const char *name;
	const char *base;
	const char *page;
	ssize_t covered;
	size_t size;
	u8 delta[8];
};

static void vector_name(const struct vector *vector, char *name)
{
	strscpy(name, vector->name, KUNIT_PARAM_DESC_SIZE);
}

static const struct vector greedy_vectors[] = {
	{ "first byte", "abc", "Abc", 1, 3, { 0, 1, 'A' } },
	{ "middle byte", "abc", "aBc", 2, 3, { 1, 1, 'B' } },
	{ "last byte", "abc", "abC", 3, 3, { 2, 1, 'C' } },
	{ "only byte", "a", "B", 1, 3, { 0, 1, 'B' } },
	{ "all bytes", "abc", "ABC", 3, 5, { 0, 3, 'A', 'B', 'C' } },
	{ "one equal byte ends a run", "abc", "AbC", 3,
	  6, { 0, 1, 'A', 1, 1, 'C' } },
	{ "trailing zrun left out", "abcdefgh", "abCDefgh", 4,
	  4, { 2, 2, 'C', 'D' } },
	{ "two runs", "abcdefgh", "abCDefgH", 8,
	  7, { 2, 2, 'C', 'D', 3, 1, 'H' } },
	{ "runs across words", "abcdefghijklmnopq", "abcdefgHIjklmnopQ", 17,
	  7, { 7, 2, 'H', 'I', 7, 1, 'Q' } },
};

KUNIT_ARRAY_PARAM(greedy, greedy_vectors, vector_name);

static void codec_encodes_greedily(struct kunit *test)
{
	const struct vector *vector = test->param_value;
	u8 *delta = exact(test, vector->size);

	KUNIT_ASSERT_EQ(test, (ssize_t)vector->size,
			xbzrle_encode(vector->base, vector->page,
				      strlen(vector->base), delta,
				      vector->size));
	KUNIT_EXPECT_EQ(test, 0, memcmp(delta, vector->delta, vector->size));
}

static void expect_decoded(struct kunit *test, const struct vector *vector)
{
	size_t len = strlen(vector->base);
	u8 *page = exact(test, len);
	u8 *delta = exact(test, vector->size);

	memcpy(page, vector->base, len);
	memcpy(delta, vector->delta, vector->size);
	KUNIT_EXPECT_EQ(test, vector->covered,
			xbzrle_decode(delta, vector->size, page, len));
	KUNIT_EXPECT_EQ(test, 0, memcmp(page, vector->page, len));
}

static void codec_decodes_greedy(struct kunit *test)
{
	expect_decoded(test, test->param_value);
}

static const struct vector tolerated_vectors[] = {
	{ "literals equal to the base", "abcdefgh", "abcdEfgh", 6,
	  5, { 3, 3, 'd', 'E', 'f' } },
	{ "nothing but literals equal to the base", "abc", "abc", 3,
	  5, { 0, 3, 'a', 'b', 'c' } },
	{ "two-byte lengths below 0x80", "abc", "aBc", 2,
	  5, { 0x81, 0, 0x81, 0, 'B' } },
	{ "two-byte first zrun of 0", "abc", "Abc", 1,
	  4, { 0x80, 0, 1, 'A' } },
};

KUNIT_ARRAY_PARAM(tolerated, tolerated_vectors, vector_name);

static void codec_decodes_tolerated(struct kunit *test)
{
	expect_decoded(test, test->param_value);
}

/* Each is refused for a page of 200 bytes. */
static const struct vector malformed_vectors[] = {
	{ .name = "empty", .size = 0, .delta = { 0 } },
	{ .name = "one byte", .size = 1, .delta = { 0 } },
	{ .name = "half a length", .size = 1, .delta = { 0x85 } },
	{ .name = "zrun alone", .size = 2, .delta = { 0x85, 1 } },
	{ .name = "one byte before an nzrun", .size = 3,
	  .delta = { 0x85, 0, 1 } },
	{ .name = "half an nzrun length", .size = 2, .delta = { 5, 0x81 } },
	{ .name = "nzrun of 0", .size = 3, .delta = { 5, 0, 'x' } },
	{ .name = "nzrun of 0 at the end", .size = 2, .delta = { 5, 0 } },
	{ .name = "nzrun of 0 in the middle", .size = 5,
	  .delta = { 5, 0, 5, 1, 'x' } },
	{ .name = "two-byte nzrun of 0", .size = 4,
	  .delta = { 5, 0x80, 0, 'x' } },
	{ .name = "second nzrun of 0", .size = 6,
	  .delta = { 5, 1, 'x', 5, 0, 'x' } },
	{ .name = "second zrun of 0", .size = 6,
	  .delta = { 5, 1, 'x', 0, 1, 'y' } },
	{ .name = "second two-byte zrun of 0", .size = 7,
	  .delta = { 5, 1, 'x', 0x80, 0, 1, 'y' } },
	{ .name = "zrun length of three bytes", .size = 5,
	  .delta = { 0x81, 0x80, 0, 1, 'x' } },
	{ .name = "nzrun length of three bytes", .size = 5,
	  .delta = { 0, 0x81, 0x80, 0, 'x' } },
	{ .name = "zrun past the page", .size = 4,
	  .delta = { 0xc9, 1, 1, 'x' } },
	{ .name = "zrun to the end of the page", .size = 4,
	  .delta = { 0xc8, 1, 1, 'x' } },
	{ .name = "longest zrun", .size = 4, .delta = { 0xff, 0x7f, 1, 'x' } },
	{ .name = "second zrun past the page", .size = 8,
	  .delta = { 0x80, 1, 1, 'x', 0xff, 0, 1, 'x' } },
	{ .name = "nzrun past the page", .size = 5,
	  .delta = { 0xc7, 1, 2, 'x', 'y' } },
	{ .name = "second nzrun past the page", .size = 8,
	  .delta = { 0xc5, 1, 1, 'x', 1, 2, 'x', 'y' } },
	{ .name = "no literal", .size = 2, .delta = { 5, 1 } },
	{ .name = "literal past the input", .size = 4,
	  .delta = { 5, 3, 'x', 'y' } },
	{ .name = "second literal past the input", .size = 7,
	  .delta = { 5, 1, 'x', 5, 3, 'x', 'y' } },
	{ .name = "trailing zrun", .size = 4, .delta = { 5, 1, 'x', 4 } },
	{ .name = "trailing two-byte zrun", .size = 5,
	  .delta = { 5, 1, 'x', 0x84, 0 } },
	{ .name = "trailing zrun to the end of the page", .size = 5,
	  .delta = { 5, 1, 'x', 0xc2, 1 } },
};

KUNIT_ARRAY_PARAM(malformed, malformed_vectors, vector_name);

static void codec_refuses_malformed(struct kunit *test)
{
	const struct vector *vector = test->param_value;
	const size_t len = 200;
	u8 *page = exact(test, len);
	/* kmalloc(0) gives no memory: an empty delta needs an address. */
	u8 *delta = exact(test, max_t(size_t, vector->size, 1));

	memset(page, FILL, len);
	memcpy(delta, vector->delta, vector->size);
	KUNIT_EXPECT_EQ(test, (ssize_t)-EBADMSG,
			xbzrle_decode(delta, vector->size, page, len));
	KUNIT_EXPECT_PTR_EQ(test, (void *)NULL, memchr_inv(page, FILL, len));
}

struct run_vector {
	size_t zrun;
	size_t nzrun;
	size_t size;
	u8 lengths[4];
};

static void run_name(const struct run_vector *vector, char *name)
{
	snprintf(name, KUNIT_PARAM_DESC_SIZE, "zrun %zu nzrun %zu",
		 vector->zrun, vector->nzrun);
}

static const struct run_vector run_vectors[] = {
	{ 0, 1, 2, { 0, 1 } },
	{ 126, 127, 2, { 0x7e, 0x7f } },
	{ 127, 128, 3, { 0x7f, 0x80, 1 } },
	{ 128, 129, 4, { 0x80, 1, 0x81, 1 } },
	{ 255, 256, 4, { 0xff, 1, 0x80, 2 } },
	{ 4095, 1, 3, { 0xff, 0x1f, 1 } },
	{ 0, 4096, 3, { 0, 0x80, 0x20 } },
	{ 0x3ffe, 1, 3, { 0xfe, 0x7f, 1 } },
	{ 0, 0x3fff, 3, { 0, 0xff, 0x7f } },
};

KUNIT_ARRAY_PARAM(run, run_vectors, run_name);

/* One run in the longest buffer: where lengths become two bytes. */
static void codec_encodes_lengths(struct kunit *test)
{
	const struct run_vector *vector = test->param_value;
	size_t size = vector->size + vector->nzrun;
	u8 *base = exact(test, XBZRLE_CODEC_MAX);
	u8 *page = exact(test, XBZRLE_CODEC_MAX);
	u8 *delta = exact(test, size);

	memset(page + vector->zrun, FILL, vector->nzrun);
	KUNIT_ASSERT_EQ(test, (ssize_t)size,
			xbzrle_encode(base, page, XBZRLE_CODEC_MAX, delta,
				      size));
	KUNIT_EXPECT_EQ(test, 0,
			memcmp(delta, vector->lengths, vector->size));
	KUNIT_EXPECT_PTR_EQ(test, (void *)NULL,
			    memchr_inv(delta + vector->size, FILL,
				       vector->nzrun));

	KUNIT_EXPECT_EQ(test, (ssize_t)(vector->zrun + vector->nzrun),
			xbzrle_decode(delta, size, base, XBZRLE_CODEC_MAX));
	KUNIT_EXPECT_EQ(test, 0, memcmp(base, page, XBZRLE_CODEC_MAX));
}

static void codec_encodes_equal_as_nothing(struct kunit *test)
{
	u8 *page = exact(test, UNIT);

	KUNIT_EXPECT_EQ(test, (ssize_t)0,
			xbzrle_encode(page, page, UNIT, page, 0));
}

static void codec_encodes_random_pairs(struct kunit *test)
{
	struct rnd_state random;
	unsigned int turn;

	prandom_seed_state(&random, SEED);
	for (turn = 0; turn < 2000; turn++) {
		size_t len = turn % 2 ? UNIT : 1 + random_below(&random, UNIT);
		struct pair pair;
		ssize_t covered;
		u8 *delta;

		pair_init(test, &pair, len);
		pair_fill(&pair, &random, 1 << random_below(&random, 13),
			  1 << random_below(&random, 13));
		delta = exact(test, max_t(size_t, pair.size, 1));

		KUNIT_ASSERT_EQ_MSG(test, (ssize_t)pair.size,
				    xbzrle_encode(pair.base, pair.page, len,
						  delta, pair.size),
				    "turn %u", turn);
		KUNIT_ASSERT_EQ_MSG(test, 0,
				    memcmp(delta, pair.delta, pair.size),
				    "turn %u", turn);
		if (pair.size) {
			covered = xbzrle_decode(delta, pair.size, pair.base,
						len);
			KUNIT_ASSERT_GT_MSG(test, covered, (ssize_t)0,
					    "turn %u", turn);
		}
		KUNIT_ASSERT_EQ_MSG(test, 0,
				    memcmp(pair.base, pair.page, len),
				    "turn %u", turn);

		kunit_kfree(test, delta);
		pair_free(test, &pair);
	}
}

/* Each codec that this CPU has, in buffers that end where a fault begins. */
static void codec_agrees_with_scalar(struct kunit *test)
{
	struct rnd_state random;
	u8 *delta = vmalloc(UNIT), *base = vmalloc(UNIT), *page = vmalloc(UNIT);
	u8 *expected = exact(test, UNIT_DELTA_MAX);
	unsigned int turn, i;

	KUNIT_EXPECT_TRUE(test, delta && base && page);
	prandom_seed_state(&random, SEED);
	for (turn = 0; delta && base && page && turn < 500; turn++) {
		ssize_t size, got;

		prandom_bytes_state(&random, base, UNIT);
		memcpy(page, base, UNIT);
		random_change(&random, page, UNIT,
			      1 << random_below(&random, 9),
			      1 << random_below(&random, 13));
		size = reference_encode(base, page, UNIT, expected);
		for (i = 0; xbzrle_codecs[i]; i++) {
			const struct xbzrle_codec *codec = xbzrle_codecs[i];
			u8 *dst = delta + UNIT - min_t(ssize_t, size, UNIT);
			bool simd = false;

			if (codec->usable) {
				if (!codec->usable() || !xbzrle_simd_begin())
					continue;
				simd = true;
			}
			got = xbzrle_encode_by(codec, base, page, UNIT, dst,
					       delta + UNIT - dst);
			if (simd)
				xbzrle_simd_end();
			KUNIT_EXPECT_EQ_MSG(test, got,
					    size > UNIT ? -ENOSPC : size,
					    "%s, turn %u", codec->name, turn);
			if (got > 0)
				KUNIT_EXPECT_EQ_MSG(test, 0,
						    memcmp(dst, expected, got),
						    "%s, turn %u", codec->name,
						    turn);
		}
	}
	vfree(page);
	vfree(base);
	vfree(delta);
}

/* More than one FPU section's worth, as the stream would have them. */
static void codec_compares_batches(struct kunit *test)
{
	const unsigned int nr = XBZRLE_SIMD_BATCH + 3;
	struct xbzrle_comparison *comparisons;
	u8 *dst = exact(test, UNIT);
	struct rnd_state random;
	struct pair *pairs;
	unsigned int i;

	comparisons = exact(test, nr * sizeof(*comparisons));
	pairs = exact(test, nr * sizeof(*pairs));
	prandom_seed_state(&random, SEED);
	for (i = 0; i < nr; i++) {
		pair_init(test, &pairs[i], UNIT);
		pair_fill(&pairs[i], &random, 1 + i, 100 * i + 20);
		comparisons[i].base = pairs[i].base;
		comparisons[i].page = pairs[i].page;
	}
	xbzrle_simd_compare(comparisons, nr);
	for (i = 0; i < nr; i++) {
		KUNIT_ASSERT_EQ_MSG(test, (ssize_t)pairs[i].size,
				    xbzrle_encode_diff(&comparisons[i].diff,
						       pairs[i].page, dst,
						       UNIT), "pair %u", i);
		KUNIT_ASSERT_EQ(test, 0,
				memcmp(dst, pairs[i].delta, pairs[i].size));
	}
}

/* What a delta of a page takes here, with ten words changed; asked for only. */
static void codec_takes_time(struct kunit *test)
{
	const unsigned int turns = 10000;
	struct rnd_state random;
	unsigned int i, turn;
	struct pair pair;
	u8 *dst;

	if (!codec_bench)
		kunit_skip(test, "no codec_bench=1");

	prandom_seed_state(&random, SEED);
	pair_init(test, &pair, UNIT);
	pair_fill(&pair, &random, 8, 800);
	dst = exact(test, UNIT);
	for (i = 0; xbzrle_codecs[i]; i++) {
		const struct xbzrle_codec *codec = xbzrle_codecs[i];
		u64 start = ktime_get_ns();

		for (turn = 0; turn < turns; turn++) {
			bool simd = codec->usable && codec->usable() &&
				    xbzrle_simd_begin();

			if (codec->usable && !simd)
				break;
			xbzrle_encode_by(codec, pair.base, pair.page, UNIT, dst,
					 UNIT);
			if (simd)
				xbzrle_simd_end();
			cond_resched();
		}
		if (turn)
			kunit_info(test, "%s: %llu ns", codec->name,
				   (ktime_get_ns() - start) / turn);
	}
}

static void codec_stays_within_dst(struct kunit *test)
{
	static const u32 shapes[][2] = {
		{ 1, 1 }, { 1, 20 }, { 60, 2 }, { 10, 10 }, { 200, 300 },
		{ UNIT, 1 },
	};
	/* Encodings stop at @room; what lies behind must keep its fill. */
	const size_t slack = 64;
	struct rnd_state random;
	struct pair pair;
	unsigned int i;
	size_t room;
	u8 *dst;

	prandom_seed_state(&random, SEED);
	pair_init(test, &pair, UNIT);
	dst = exact(test, UNIT_DELTA_MAX + 2 * slack);

	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		pair_fill(&pair, &random, shapes[i][0], shapes[i][1]);
		for (room = 0; room <= pair.size + slack; room++) {
			ssize_t expected = room < pair.size ? -ENOSPC :
							      pair.size;

			memset(dst + room, FILL, slack);
			KUNIT_ASSERT_EQ_MSG(test, expected,
					    xbzrle_encode(pair.base, pair.page,
							  UNIT, dst, room),
					    "shape %u, room %zu", i, room);
			KUNIT_ASSERT_TRUE_MSG(test,
					      !memchr_inv(dst + room, FILL,
							  slack),
					      "shape %u, room %zu", i, room);
		}
	}
}

/*
 * Whatever a damaged delta decodes to, an error leaves the page as it was and
 * success covers no more than the page. Returns how many were refused.
 */
static unsigned int decode_damaged(struct kunit *test, const struct pair *pair,
				   const u8 *damaged, size_t size)
{
	u8 *delta = exact(test, max_t(size_t, size, 1));
	u8 *page = exact(test, pair->len);
	ssize_t covered;

	memcpy(delta, damaged, size);
	memcpy(page, pair->base, pair->len);
	covered = xbzrle_decode(delta, size, page, pair->len);
	if (covered < 0) {
		KUNIT_EXPECT_EQ(test, (ssize_t)-EBADMSG, covered);
		KUNIT_EXPECT_EQ(test, 0,
				memcmp(page, pair->base, pair->len));
	} else {
		KUNIT_EXPECT_LE(test, covered, (ssize_t)pair->len);
	}
	kunit_kfree(test, page);
	kunit_kfree(test, delta);
	return covered < 0;
}

static void codec_refuses_truncated(struct kunit *test)
{
	struct rnd_state random;
	struct pair pair;
	unsigned int refused = 0;
	size_t size;

	prandom_seed_state(&random, SEED);
	pair_init(test, &pair, 1000);
	pair_fill(&pair, &random, 20, 40);
	for (size = 0; size < pair.size; size++)
		refused += decode_damaged(test, &pair, pair.delta, size);
	/* Only a cut between two pairs of runs leaves a delta. */
	KUNIT_EXPECT_GT(test, refused, (unsigned int)pair.size / 2);
}

static void codec_survives_flipped_bits(struct kunit *test)
{
	struct rnd_state random;
	struct pair pair;
	unsigned int refused = 0;
	size_t bit;

	prandom_seed_state(&random, SEED);
	pair_init(test, &pair, 1000);
	pair_fill(&pair, &random, 3, 40);
	for (bit = 0; bit < pair.size * 8; bit++) {
		pair.delta[bit / 8] ^= 1 << bit % 8;
		refused += decode_damaged(test, &pair, pair.delta, pair.size);
		pair.delta[bit / 8] ^= 1 << bit % 8;
	}
	KUNIT_EXPECT_GT(test, refused, 0U);
}

static void codec_refuses_misuse(struct kunit *test)
{
	const size_t too_long = XBZRLE_CODEC_MAX + 1;
	u8 *page = exact(test, too_long);
	u8 delta[] = { 0, 1, 'x' };
	const ssize_t einval = -EINVAL;

	KUNIT_EXPECT_EQ(test, einval, xbzrle_encode(NULL, page, 8, delta, 3));
	KUNIT_EXPECT_EQ(test, einval, xbzrle_encode(page, NULL, 8, delta, 3));
	KUNIT_EXPECT_EQ(test, einval, xbzrle_encode(page, page, 8, NULL, 3));
	KUNIT_EXPECT_EQ(test, einval, xbzrle_encode(page, page, 0, delta, 3));
	KUNIT_EXPECT_EQ(test, einval,
			xbzrle_encode(page, page, too_long, delta, 3));

	KUNIT_EXPECT_EQ(test, einval, xbzrle_decode(NULL, 3, page, 8));
	KUNIT_EXPECT_EQ(test, einval, xbzrle_decode(delta, 3, NULL, 8));
	KUNIT_EXPECT_EQ(test, einval, xbzrle_decode(delta, 3, page, 0));
	KUNIT_EXPECT_EQ(test, einval, xbzrle_decode(delta, 3, page, too_long));
	KUNIT_EXPECT_PTR_EQ(test, (void *)NULL, memchr_inv(page, 0, too_long));
}

static struct kunit_case codec_cases[] = {
	KUNIT_CASE_PARAM(codec_encodes_greedily, greedy_gen_params),
	KUNIT_CASE_PARAM(codec_encodes_lengths, run_gen_params),
	KUNIT_CASE(codec_encodes_equal_as_nothing),
	KUNIT_CASE(codec_encodes_random_pairs),
	KUNIT_CASE(codec_agrees_with_scalar),
	KUNIT_CASE(codec_compares_batches),
	KUNIT_CASE(codec_takes_time),
	KUNIT_CASE(codec_stays_within_dst),
	KUNIT_CASE_PARAM(codec_decodes_greedy, greedy_gen_params),
	KUNIT_CASE_PARAM(codec_decodes_tolerated, tolerated_gen_params),
	KUNIT_CASE_PARAM(codec_refuses_malformed, malformed_gen_params),
	KUNIT_CASE(codec_refuses_truncated),
	KUNIT_CASE(codec_survives_flipped_bits),
	KUNIT_CASE(codec_refuses_misuse),
	{}
};

static struct kunit_suite codec_suite = {
	.name = "xbzrle_codec",
	.test_cases = codec_cases,
};

kunit_test_suite(codec_suite);

MODULE_DESCRIPTION("KUnit tests of the XBZRLE codec");
MODULE_LICENSE("GPL");

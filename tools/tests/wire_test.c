// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* The stream parser: what it takes, what it refuses, and where. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <xbzrle.h>

#include "../xbzrle/array.h"
#include "wire_build.h"

#define UNIT	BUILD_UNIT
#define FLIPS	20000

static const uint8_t delta[] = { 0x03, 0x02, 0xaa, 0xbb };

/* A setup of two regions, a round with every kind of record, a second one. */
static void build_good(struct build *build)
{
	build_setup(build, 5 * UNIT);
	build_block(build, "heap", 4 * UNIT);
	build_block(build, "x", UNIT);
	build_eos(build);
	build_page(build, "heap", 0, 0x11);
	build_zero(build, NULL, 3 * UNIT);
	build_page(build, "x", 0, 0x22);
	build_eos(build);
	build_delta(build, "heap", 0, delta, sizeof(delta));
	build_eos(build);
}

/* What build_good() must read as. */
static const struct xbzrle_record good[] = {
	{ .kind = XBZRLE_RECORD_SETUP, .length = 5 * UNIT, .size = 8 },
	{ .kind = XBZRLE_RECORD_BLOCK, .region = 0, .fresh = true,
	  .name = "heap", .length = 4 * UNIT, .size = 13 },
	{ .kind = XBZRLE_RECORD_BLOCK, .region = 1, .fresh = true,
	  .name = "x", .length = UNIT, .size = 10 },
	{ .kind = XBZRLE_RECORD_SETUP_END, .size = 8 },
	{ .kind = XBZRLE_RECORD_PAGE, .name = "heap", .length = UNIT,
	  .size = 13 + UNIT },
	{ .kind = XBZRLE_RECORD_ZERO, .name = "heap", .offset = 3 * UNIT,
	  .size = 9 },
	{ .kind = XBZRLE_RECORD_PAGE, .region = 1, .name = "x",
	  .length = UNIT, .size = 10 + UNIT },
	{ .kind = XBZRLE_RECORD_EOS, .size = 8 },
	{ .kind = XBZRLE_RECORD_DELTA, .name = "heap",
	  .length = sizeof(delta), .size = 16 + sizeof(delta) },
	{ .kind = XBZRLE_RECORD_EOS, .size = 8 },
};

#define GOOD_COUNT	ARRAY_SIZE(good)

static void assert_record(const struct xbzrle_record *got,
			  const struct xbzrle_record *want, uint64_t position)
{
	assert_int_equal(got->kind, want->kind);
	assert_int_equal(got->region, want->region);
	assert_int_equal(got->fresh, want->fresh);
	assert_int_equal(got->offset, want->offset);
	assert_int_equal(got->length, want->length);
	assert_int_equal(got->size, want->size);
	assert_int_equal(got->position, position);
	if (want->name)
		assert_string_equal(got->name, want->name);
	if (want->kind == XBZRLE_RECORD_DELTA)
		assert_memory_equal(got->data, delta, sizeof(delta));
	if (want->kind == XBZRLE_RECORD_PAGE)
		assert_int_equal(((const uint8_t *)got->data)[UNIT - 1],
				 want->region ? 0x22 : 0x11);
}

/* Feeds pieces of @step bytes, or of random sizes if it is 0. */
static void parse_good(size_t step)
{
	struct xbzrle_record record;
	struct xbzrle_error err;
	struct xbzrle_wire *wire;
	struct build build = {};
	uint64_t position = 0;
	size_t at, piece, i = 0;
	int ret;

	build_good(&build);
	wire = xbzrle_wire_new(&err);
	assert_non_null(wire);
	for (at = 0; at < build.length; at += piece) {
		piece = step ? step : (size_t)rand() % 600;
		if (piece > build.length - at)
			piece = build.length - at;
		xbzrle_wire_feed(wire, build.bytes + at, piece);
		while ((ret = xbzrle_wire_next(wire, &record, &err)) > 0) {
			assert_true(i < GOOD_COUNT);
			assert_record(&record, &good[i++], position);
			position += record.size;
		}
		assert_int_equal(ret, 0);
	}
	assert_int_equal(i, GOOD_COUNT);
	assert_int_equal(xbzrle_wire_position(wire), build.length);
	assert_int_equal(xbzrle_wire_end(wire, &err), 0);
	xbzrle_wire_free(wire);
	build_free(&build);
}

static void reads_whole(void **state)
{
	(void)state;
	parse_good(1 << 20);
}

static void reads_byte_by_byte(void **state)
{
	(void)state;
	parse_good(1);
}

static void reads_any_pieces(void **state)
{
	int i;

	(void)state;
	srand(1);
	for (i = 0; i < 200; i++)
		parse_good(0);
}

/* Parses all: 0 or the error; *err is set in both cases. */
static int parse(const struct build *build, struct xbzrle_error *err)
{
	struct xbzrle_wire *wire = xbzrle_wire_new(err);
	struct xbzrle_record record;
	int ret;

	memset(err, 0, sizeof(*err));
	assert_non_null(wire);
	xbzrle_wire_feed(wire, build->bytes, build->length);
	do {
		ret = xbzrle_wire_next(wire, &record, err);
	} while (ret > 0);
	if (!ret)
		ret = xbzrle_wire_end(wire, err);
	xbzrle_wire_free(wire);
	return ret;
}

/* The beginning that most malformed streams have in common: 29 bytes. */
#define PREFIX	29

static void prefix(struct build *build)
{
	build_setup(build, 4 * UNIT);
	build_block(build, "heap", 4 * UNIT);
	build_eos(build);
	assert_int_equal(build->length, PREFIX);
}

static void no_setup(struct build *b)
{
	build_page(b, "heap", 0, 1);
}

static void eos_first(struct build *b)
{
	build_eos(b);
}

static void block_beyond_total(struct build *b)
{
	build_setup(b, 4 * UNIT);
	build_block(b, "heap", 5 * UNIT);
}

static void block_of_nothing(struct build *b)
{
	build_setup(b, 4 * UNIT);
	build_block(b, "heap", 0);
}

static void block_of_no_pages(struct build *b)
{
	build_setup(b, 4 * UNIT);
	build_block(b, "heap", UNIT + 1);
}

static void block_without_name(struct build *b)
{
	build_setup(b, 4 * UNIT);
	build_block(b, "", UNIT);
}

static void block_with_nul(struct build *b)
{
	build_setup(b, 4 * UNIT);
	build_u8(b, 3);
	build_bytes(b, "a\0b", 3);
	build_be64(b, UNIT);
}

static void block_twice(struct build *b)
{
	build_setup(b, 4 * UNIT);
	build_block(b, "heap", UNIT);
	build_block(b, "heap", UNIT);
}

static void setup_without_eos(struct build *b)
{
	build_setup(b, 4 * UNIT);
	build_block(b, "heap", 4 * UNIT);
	build_page(b, "heap", 0, 1);
}

static void length_changes(struct build *b)
{
	prefix(b);
	build_setup(b, 3 * UNIT);
	build_block(b, "heap", 3 * UNIT);
}

static void setup_in_round(struct build *b)
{
	prefix(b);
	build_zero(b, "heap", 0);
	build_setup(b, 4 * UNIT);
}

static void unknown_region(struct build *b)
{
	prefix(b);
	build_page(b, "stack", 0, 1);
}

static void unnamed_region(struct build *b)
{
	prefix(b);
	build_page(b, "", 0, 1);
}

static void dropped_region(struct build *b)
{
	prefix(b);
	build_setup(b, UNIT);
	build_block(b, "x", UNIT);
	build_eos(b);
	build_zero(b, "heap", 0);
}

static void continues_nothing(struct build *b)
{
	prefix(b);
	build_page(b, NULL, 0, 1);
}

static void continues_last_round(struct build *b)
{
	prefix(b);
	build_zero(b, "heap", 0);
	build_eos(b);
	build_zero(b, NULL, 0);
}

static void offset_at_end(struct build *b)
{
	prefix(b);
	build_zero(b, "heap", 4 * UNIT);
}

static void offset_far_out(struct build *b)
{
	prefix(b);
	build_zero(b, "heap", -(uint64_t)UNIT);
}

static void zero_with_fill(struct build *b)
{
	prefix(b);
	build_zero(b, "heap", 0);
	b->bytes[b->length - 1] = 7;
}

static void flag_obsolete(struct build *b)
{
	prefix(b);
	build_be64(b, 0x01);
}

static void flag_unknown(struct build *b)
{
	prefix(b);
	build_be64(b, 0x80 | BUILD_ZERO);
}

static void flag_high(struct build *b)
{
	prefix(b);
	build_be64(b, 0x800);
}

static void flags_none(struct build *b)
{
	prefix(b);
	build_be64(b, 0);
}

static void flags_two(struct build *b)
{
	prefix(b);
	build_be64(b, BUILD_ZERO | BUILD_PAGE);
}

static void flags_continue_alone(struct build *b)
{
	prefix(b);
	build_be64(b, BUILD_CONTINUE);
}

static void eos_continues(struct build *b)
{
	prefix(b);
	build_be64(b, BUILD_EOS | BUILD_CONTINUE);
}

static void eos_with_offset(struct build *b)
{
	prefix(b);
	build_be64(b, BUILD_EOS | UNIT);
}

static void delta_too_long(struct build *b)
{
	prefix(b);
	build_be64(b, BUILD_XBZRLE);
	build_u8(b, 4);
	build_bytes(b, "heap", 4);
	build_u8(b, 1);
	build_be16(b, UNIT + 1);
}

static void delta_of_nothing(struct build *b)
{
	prefix(b);
	build_delta(b, "heap", 0, delta, 0);
}

static void delta_of_another_kind(struct build *b)
{
	prefix(b);
	build_delta(b, "heap", 0, delta, sizeof(delta));
	b->bytes[PREFIX + 13] = 2;
}

static const struct bad {
	const char *name;
	void (*make)(struct build *build);
	uint64_t position;
	const char *message;
} bad[] = {
	{ "no setup", no_setup, 0, "begin with a setup" },
	{ "EOS first", eos_first, 0, "begin with a setup" },
	{ "block beyond total", block_beyond_total, 8, "longer than" },
	{ "block of nothing", block_of_nothing, 8, "not a number of pages" },
	{ "block of no pages", block_of_no_pages, 8, "not a number of pages" },
	{ "block without name", block_without_name, 8, "without a name" },
	{ "block with NUL", block_with_nul, 8, "NUL" },
	{ "block twice", block_twice, 21, "twice" },
	{ "setup without EOS", setup_without_eos, 21, "does not end" },
	{ "length changes", length_changes, PREFIX + 8, "changes its length" },
	{ "setup in a round", setup_in_round, PREFIX + 14, "inside a round" },
	{ "unknown region", unknown_region, PREFIX, "not in the setup" },
	{ "unnamed region", unnamed_region, PREFIX, "without a name" },
	{ "dropped region", dropped_region, PREFIX + 26, "not in the setup" },
	{ "continues nothing", continues_nothing, PREFIX, "names no region" },
	{ "continues last round", continues_last_round, PREFIX + 22,
	  "names no region" },
	{ "offset at the end", offset_at_end, PREFIX, "outside" },
	{ "offset far out", offset_far_out, PREFIX, "outside" },
	{ "zero with fill", zero_with_fill, PREFIX, "filled with" },
	{ "obsolete flag", flag_obsolete, PREFIX, "obsolete" },
	{ "unknown flag", flag_unknown, PREFIX, "not supported" },
	{ "high flag", flag_high, PREFIX, "not supported" },
	{ "no flags", flags_none, PREFIX, "exactly one" },
	{ "two flags", flags_two, PREFIX, "exactly one" },
	{ "CONTINUE alone", flags_continue_alone, PREFIX, "exactly one" },
	{ "EOS continues", eos_continues, PREFIX, "without a page" },
	{ "EOS with offset", eos_with_offset, PREFIX, "with an offset" },
	{ "delta too long", delta_too_long, PREFIX + 14, "longer than a page" },
	{ "delta of nothing", delta_of_nothing, PREFIX, "no bytes" },
	{ "delta of another kind", delta_of_another_kind, PREFIX + 13,
	  "unknown kind" },
};

static void refuses(void **state)
{
	const struct bad *this = *state;
	struct build build = {};
	struct xbzrle_error err;

	this->make(&build);
	assert_int_equal(parse(&build, &err), -EBADMSG);
	assert_int_equal(err.code, EBADMSG);
	assert_int_equal(err.position, this->position);
	if (!strstr(err.message, this->message))
		fail_msg("'%s' does not say '%s'", err.message, this->message);
	build_free(&build);
}

/* Ends of setup sections and rounds of build_good(). */
static bool may_end(size_t length)
{
	size_t i, at = 0;

	for (i = 0; i < GOOD_COUNT; i++) {
		at += good[i].size;
		if (at == length)
			return good[i].kind == XBZRLE_RECORD_EOS ||
				good[i].kind == XBZRLE_RECORD_SETUP_END;
	}
	return false;
}

static void knows_a_cut(void **state)
{
	struct build build = {};
	struct xbzrle_error err;
	size_t full;

	(void)state;
	build_good(&build);
	full = build.length;
	for (build.length = 0; build.length <= full; build.length++) {
		if (may_end(build.length)) {
			assert_int_equal(parse(&build, &err), 0);
			continue;
		}
		assert_int_equal(parse(&build, &err), -EBADMSG);
		assert_int_equal(err.position, build.length);
	}
	build_free(&build);
}

static void keeps_an_error(void **state)
{
	struct xbzrle_error first, second;
	struct xbzrle_record record;
	struct build build = {};
	struct xbzrle_wire *wire;

	(void)state;
	flags_two(&build);
	build_good(&build);
	wire = xbzrle_wire_new(&first);
	xbzrle_wire_feed(wire, build.bytes, build.length);
	while (xbzrle_wire_next(wire, &record, &first) > 0)
		continue;
	assert_int_equal(xbzrle_wire_next(wire, &record, &second), -EBADMSG);
	assert_string_equal(first.message, second.message);
	assert_int_equal(xbzrle_wire_end(wire, &second), -EBADMSG);
	assert_int_equal(first.position, second.position);
	xbzrle_wire_free(wire);
	build_free(&build);
}

/* A sender cannot have the receiver keep account of regions without end. */
static void refuses_too_many_regions(void **state)
{
	struct xbzrle_record record;
	struct xbzrle_error err;
	struct build build = {};
	struct xbzrle_wire *wire;
	unsigned int i, blocks = 0;
	char name[16];

	(void)state;
	build_setup(&build, (XBZRLE_STREAM_REGIONS + 1) * UNIT);
	for (i = 0; i <= XBZRLE_STREAM_REGIONS; i++) {
		snprintf(name, sizeof(name), "%u", i);
		build_block(&build, name, UNIT);
	}
	wire = xbzrle_wire_new(&err);
	xbzrle_wire_feed(wire, build.bytes, build.length);
	while (xbzrle_wire_next(wire, &record, &err) > 0)
		blocks += record.kind == XBZRLE_RECORD_BLOCK;
	assert_int_equal(blocks, XBZRLE_STREAM_REGIONS);
	assert_int_equal(err.code, EBADMSG);
	xbzrle_wire_free(wire);
	build_free(&build);
}

static void takes_more_regions(void **state)
{
	struct xbzrle_record record;
	struct xbzrle_error err;
	struct build build = {};
	struct xbzrle_wire *wire;
	uint32_t last = 0;
	int fresh = 0;

	(void)state;
	prefix(&build);
	build_zero(&build, "heap", 0);
	build_eos(&build);
	build_setup(&build, 6 * UNIT);
	build_block(&build, "heap", 4 * UNIT);
	build_block(&build, "new", 2 * UNIT);
	build_eos(&build);
	build_zero(&build, "new", UNIT);
	build_eos(&build);
	/* "heap" goes, and comes again as another region. */
	build_setup(&build, 2 * UNIT);
	build_block(&build, "new", 2 * UNIT);
	build_eos(&build);
	build_eos(&build);
	build_setup(&build, 9 * UNIT);
	build_block(&build, "heap", 7 * UNIT);
	build_block(&build, "new", 2 * UNIT);
	build_eos(&build);
	build_zero(&build, "heap", 6 * UNIT);
	build_eos(&build);

	wire = xbzrle_wire_new(&err);
	xbzrle_wire_feed(wire, build.bytes, build.length);
	while (xbzrle_wire_next(wire, &record, &err) > 0) {
		fresh += record.fresh;
		if (record.kind == XBZRLE_RECORD_ZERO)
			last = record.region;
	}
	assert_int_equal(xbzrle_wire_end(wire, &err), 0);
	assert_int_equal(fresh, 3);
	assert_int_equal(last, 2);
	assert_false(xbzrle_wire_present(wire, 0));
	assert_true(xbzrle_wire_present(wire, 1));
	assert_true(xbzrle_wire_present(wire, 2));
	assert_false(xbzrle_wire_present(wire, 3));
	xbzrle_wire_free(wire);
	build_free(&build);
}

static void takes_the_longest_item(void **state)
{
	static const uint8_t longest[UNIT];
	char name[XBZRLE_NAME_MAX + 1];
	struct xbzrle_error err;
	struct build build = {};

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	build_setup(&build, UNIT);
	build_block(&build, name, UNIT);
	build_eos(&build);
	build_page(&build, name, 0, 1);
	build_delta(&build, name, 0, delta, sizeof(delta));
	/* What is in it is not this parser's to judge. */
	build_delta(&build, name, 0, longest, sizeof(longest));
	build_eos(&build);
	assert_int_equal(parse(&build, &err), 0);
	build_free(&build);
}

/* Whatever comes: records stay inside of what the setup said. */
static void stands_bit_flips(void **state)
{
	struct xbzrle_record record;
	struct xbzrle_error err;
	struct build build = {};
	struct xbzrle_wire *wire;
	int flip, i, refused = 0, ret;
	size_t bit;

	(void)state;
	srand(2);
	for (flip = 0; flip < FLIPS; flip++) {
		build.length = 0;
		build_good(&build);
		for (i = rand() % 3; i >= 0; i--) {
			/* Most of the bytes are pages' content: aim elsewhere. */
			bit = rand() % 2 ? (size_t)rand() % (60 * 8) :
				(size_t)rand() % (build.length * 8);
			build.bytes[bit / 8] ^= 1 << bit % 8;
		}
		wire = xbzrle_wire_new(&err);
		xbzrle_wire_feed(wire, build.bytes, build.length);
		while ((ret = xbzrle_wire_next(wire, &record, &err)) > 0) {
			if (record.kind != XBZRLE_RECORD_PAGE &&
			    record.kind != XBZRLE_RECORD_DELTA)
				continue;
			assert_true(record.length <= UNIT);
			assert_int_equal(record.offset % UNIT, 0);
			assert_true(xbzrle_wire_present(wire, record.region));
		}
		refused += ret < 0;
		if (ret < 0)
			assert_true(err.position <= build.length);
		xbzrle_wire_free(wire);
	}
	assert_true(refused > FLIPS / 4);
	build_free(&build);
}

int main(void)
{
	const struct CMUnitTest whole[] = {
		cmocka_unit_test(reads_whole),
		cmocka_unit_test(reads_byte_by_byte),
		cmocka_unit_test(reads_any_pieces),
		cmocka_unit_test(knows_a_cut),
		cmocka_unit_test(keeps_an_error),
		cmocka_unit_test(takes_more_regions),
		cmocka_unit_test(refuses_too_many_regions),
		cmocka_unit_test(takes_the_longest_item),
		cmocka_unit_test(stands_bit_flips),
	};
	struct CMUnitTest tests[ARRAY_SIZE(whole) +
				ARRAY_SIZE(bad)] = {};
	char names[ARRAY_SIZE(bad)][64];
	size_t i, count = 0;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(names[i], sizeof(names[i]), "refuses: %s",
			 bad[i].name);
		tests[count++] = (struct CMUnitTest){
			.name = names[i],
			.test_func = refuses,
			.initial_state = (void *)&bad[i],
		};
	}
	for (i = 0; i < ARRAY_SIZE(whole); i++)
		tests[count++] = whole[i];
	return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}

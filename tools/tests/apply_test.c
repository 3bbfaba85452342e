// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* The receiver: what arrives in memory and files, and what never does. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <xbzrle.h>

#include "../lib/spool.h"
#include "wire_build.h"

#define UNIT	BUILD_UNIT
#define PAGES	8
#define SIZE	(PAGES * UNIT)
#define FLIPS	3000
#define ROUNDS	4

static int tmp = -1;

static int open_tmp(void **state)
{
	char path[] = "/tmp/xbzrle-apply-XXXXXX";

	(void)state;
	if (!mkdtemp(path))
		return -1;
	tmp = open(path, O_RDONLY | O_DIRECTORY);
	return tmp < 0 ? -1 : 0;
}

static int close_tmp(void **state)
{
	char link[32], path[256];
	ssize_t length;

	(void)state;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", tmp);
	length = readlink(link, path, sizeof(path) - 1);
	close(tmp);
	if (length < 0)
		return -1;
	path[length] = '\0';
	return rmdir(path);
}

static int make_file(void)
{
	int fd = openat(tmp, "image", O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	unlinkat(tmp, "image", 0);
	return fd;
}

/*
 * Feeds a stream into an image of one region, in memory or in a file. Returns
 * 0 or the error; after an error the broken round is aborted. @rounds counts
 * complete rounds.
 */
static int apply(const struct build *build, void *memory, int fd, int *rounds,
		 struct xbzrle_error *err)
{
	struct xbzrle_image *image = xbzrle_image_new(fd < 0 ? -1 : tmp, err);
	struct xbzrle_wire *wire = xbzrle_wire_new(err);
	struct xbzrle_record record;
	int ret;

	assert_non_null(image);
	assert_non_null(wire);
	*rounds = 0;
	xbzrle_wire_feed(wire, build->bytes, build->length);
	while ((ret = xbzrle_wire_next(wire, &record, err)) > 0) {
		ret = 0;
		if (record.kind == XBZRLE_RECORD_BLOCK && record.fresh &&
		    record.length == SIZE)
			ret = fd < 0 ?
				xbzrle_image_add_memory(image, record.region,
							memory, SIZE, err) :
				xbzrle_image_add_file(image, record.region, fd,
						      SIZE, err);
		if (!ret)
			ret = xbzrle_image_apply(image, &record, err);
		if (ret)
			break;
		*rounds += record.kind == XBZRLE_RECORD_EOS;
	}
	if (!ret)
		ret = xbzrle_wire_end(wire, err);
	if (ret)
		assert_int_equal(xbzrle_image_abort(image, NULL), 0);
	xbzrle_wire_free(wire);
	xbzrle_image_free(image);
	return ret;
}

static const uint8_t delta[] = { 0x03, 0x02, 0xaa, 0xbb, 0x80, 0x08, 1, 0xcc };
static const uint8_t bad_delta[] = { 0x03, 0x00 };

static void setup(struct build *build)
{
	build_setup(build, SIZE);
	build_block(build, "r", SIZE);
	build_eos(build);
}

/* The first of four rounds that touch the same pages in every way. */
static void build_rounds(struct build *build, int rounds)
{
	setup(build);
	if (rounds >= 1) {
		build_page(build, "r", 0, 0x10);
		build_page(build, NULL, UNIT, 0x11);
		build_page(build, NULL, 2 * UNIT, 0x12);
		build_zero(build, NULL, 3 * UNIT);
		build_eos(build);
	}
	if (rounds >= 2) {
		build_delta(build, "r", 0, delta, sizeof(delta));
		build_zero(build, NULL, UNIT);
		build_page(build, NULL, 4 * UNIT, 0x14);
		build_eos(build);
	}
	if (rounds >= 3) {
		build_page(build, "r", 2 * UNIT, 0x22);
		build_delta(build, NULL, UNIT, delta, sizeof(delta));
		build_delta(build, NULL, 3 * UNIT, delta, sizeof(delta));
		build_eos(build);
	}
	if (rounds >= 4) {
		build_delta(build, "r", UNIT, delta, sizeof(delta));
		build_zero(build, NULL, 0);
		build_page(build, NULL, 7 * UNIT, 0x17);
		build_page(build, NULL, 5 * UNIT, 0x15);
		build_eos(build);
	}
}

static void model_delta(uint8_t *page)
{
	page[3] = 0xaa;
	page[4] = 0xbb;
	page[5 + 1024] = 0xcc;
}

/* What build_rounds() must come to after so many rounds, by hand. */
static void model(uint8_t *memory, int rounds)
{
	memset(memory, 0, SIZE);
	if (rounds >= 1) {
		memset(memory, 0x10, UNIT);
		memset(memory + UNIT, 0x11, UNIT);
		memset(memory + 2 * UNIT, 0x12, UNIT);
	}
	if (rounds >= 2) {
		model_delta(memory);
		memset(memory + UNIT, 0, UNIT);
		memset(memory + 4 * UNIT, 0x14, UNIT);
	}
	if (rounds >= 3) {
		memset(memory + 2 * UNIT, 0x22, UNIT);
		model_delta(memory + UNIT);
		model_delta(memory + 3 * UNIT);
	}
	if (rounds >= 4) {
		memset(memory, 0, UNIT);
		memset(memory + 7 * UNIT, 0x17, UNIT);
		memset(memory + 5 * UNIT, 0x15, UNIT);
	}
}

static void assert_file(int fd, const uint8_t *want)
{
	static uint8_t got[SIZE + 1];

	assert_int_equal(pread(fd, got, sizeof(got), 0), SIZE);
	assert_memory_equal(got, want, SIZE);
}

static void arrives_in_memory(void **state)
{
	static uint8_t memory[SIZE], want[SIZE];
	struct build build = {};
	struct xbzrle_error err;
	int rounds;

	(void)state;
	build_rounds(&build, ROUNDS);
	assert_int_equal(apply(&build, memory, -1, &rounds, &err), 0);
	assert_int_equal(rounds, ROUNDS);
	model(want, ROUNDS);
	assert_memory_equal(memory, want, SIZE);
	build_free(&build);
}

/* Cut anywhere: the file is what the last complete round made of it. */
static void arrives_by_rounds(void **state)
{
	static uint8_t want[SIZE];
	struct build build = {};
	struct xbzrle_error err;
	size_t full, step;
	int fd, rounds, seen = -1, ret;

	(void)state;
	build_rounds(&build, ROUNDS);
	full = build.length;
	step = 61;
	for (build.length = 64; build.length <= full; build.length += step) {
		fd = make_file();
		ret = apply(&build, NULL, fd, &rounds, &err);
		if (ret)
			assert_int_equal(ret, -EBADMSG);
		model(want, rounds);
		assert_file(fd, want);
		assert_true(rounds == seen || rounds == seen + 1);
		seen = rounds;
		close(fd);
		if (full - build.length < step && build.length != full)
			step = full - build.length;
	}
	assert_int_equal(seen, ROUNDS);
	build_free(&build);
}

/* Bits flipped behind the second round change nothing of it. */
static void refused_round_leaves_nothing(void **state)
{
	static uint8_t want[SIZE];
	struct build build = {};
	struct xbzrle_error err;
	size_t start, flip;
	int fd, i, rounds, refused = 0;

	(void)state;
	srand(3);
	build_rounds(&build, 2);
	start = build.length;
	for (i = 0; i < FLIPS; i++) {
		build.length = 0;
		build_rounds(&build, ROUNDS);
		flip = start + (size_t)rand() % (build.length - start);
		build.bytes[flip] ^= 1 << rand() % 8;
		fd = make_file();
		if (apply(&build, NULL, fd, &rounds, &err)) {
			refused++;
			assert_true(rounds >= 2 && rounds < ROUNDS);
			if (rounds == 2) {
				model(want, rounds);
				assert_file(fd, want);
			}
		}
		close(fd);
	}
	assert_true(refused > 0);
	build_free(&build);
}

static void refuse(const struct build *build, int code, const char *message)
{
	static const uint8_t zeros[SIZE];
	struct xbzrle_error err;
	int fd = make_file(), rounds;

	assert_int_equal(apply(build, NULL, fd, &rounds, &err), -code);
	if (!strstr(err.message, message))
		fail_msg("'%s' does not say '%s'", err.message, message);
	assert_int_equal(rounds, 0);
	assert_file(fd, zeros);
	close(fd);
}

/* The records of a stream into an image, whose file is @fd if it is new. */
static int apply_records(struct xbzrle_image *image, const struct build *build,
			 int fd)
{
	struct xbzrle_wire *wire = xbzrle_wire_new(NULL);
	struct xbzrle_record record;
	int ret = 0;

	assert_non_null(wire);
	xbzrle_wire_feed(wire, build->bytes, build->length);
	while (!ret && xbzrle_wire_next(wire, &record, NULL) > 0) {
		if (record.kind == XBZRLE_RECORD_BLOCK && fd >= 0)
			ret = xbzrle_image_add_file(image, record.region, fd,
						    SIZE, NULL);
		else
			ret = xbzrle_image_apply(image, &record, NULL);
	}
	xbzrle_wire_free(wire);
	return ret;
}

static void limit_files(rlim_t bytes)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/*
 * The disk is full while a round is kept, or when one is given up of which
 * stdio still holds a part. There is room again for the next one.
 */
static void round_follows_one_without_room(void **state)
{
	struct xbzrle_image *image = xbzrle_image_new(tmp, NULL);
	static uint8_t want[SIZE];
	struct build build = {};
	int fd = make_file(), try, i;

	(void)state;
	assert_non_null(image);
	signal(SIGXFSZ, SIG_IGN);
	build_rounds(&build, 1);
	assert_int_equal(apply_records(image, &build, fd), 0);
	model(want, 1);

	for (try = 0; try < 2; try++) {
		build.length = 0;
		setup(&build);
		for (i = 0; i < (try ? 2 : 4 * PAGES); i++)
			build_page(&build, i ? NULL : "r", i % 2 * UNIT, 0x77);
		if (!try)
			limit_files(SIZE + 100);
		assert_int_equal(apply_records(image, &build, -1),
				 try ? 0 : -EFBIG);
		limit_files(1);
		assert_int_equal(xbzrle_image_abort(image, NULL), 0);
		limit_files(RLIM_INFINITY);
		assert_file(fd, want);

		build.length = 0;
		setup(&build);
		build_page(&build, "r", UNIT, 0x66 + try);
		build_eos(&build);
		assert_int_equal(apply_records(image, &build, -1), 0);
		memset(want + UNIT, 0x66 + try, UNIT);
		assert_file(fd, want);
	}

	xbzrle_image_free(image);
	build_free(&build);
	close(fd);
}

static void refuses_delta_of_unknown_page(void **state)
{
	struct build build = {};

	(void)state;
	setup(&build);
	build_page(&build, "r", 0, 1);
	build_delta(&build, NULL, UNIT, delta, sizeof(delta));
	build_eos(&build);
	refuse(&build, EBADMSG, "never received");
	build_free(&build);
}

static void refuses_bad_delta_at_once(void **state)
{
	struct build build = {};

	(void)state;
	setup(&build);
	build_page(&build, "r", 0, 1);
	build_delta(&build, NULL, 0, bad_delta, sizeof(bad_delta));
	refuse(&build, EBADMSG, "malformed");
	build_free(&build);
}

static void refuses_region_not_added(void **state)
{
	struct build build = {};

	(void)state;
	build_setup(&build, SIZE + UNIT);
	build_block(&build, "r", SIZE);
	build_block(&build, "other", UNIT);
	build_eos(&build);
	build_page(&build, "other", 0, 1);
	refuse(&build, EBADMSG, "no place");
	build_free(&build);
}

static void takes_a_page_twice_in_a_round(void **state)
{
	static uint8_t want[SIZE];
	struct build build = {};
	struct xbzrle_error err;
	int fd = make_file(), rounds;

	(void)state;
	setup(&build);
	build_page(&build, "r", 0, 1);
	build_delta(&build, NULL, 0, delta, sizeof(delta));
	build_zero(&build, NULL, UNIT);
	build_page(&build, NULL, UNIT, 2);
	build_page(&build, NULL, 2 * UNIT, 3);
	build_zero(&build, NULL, 2 * UNIT);
	build_eos(&build);
	assert_int_equal(apply(&build, NULL, fd, &rounds, &err), 0);
	memset(want, 1, UNIT);
	model_delta(want);
	memset(want + UNIT, 2, UNIT);
	assert_file(fd, want);
	close(fd);
	build_free(&build);
}

static void keeps_holes(void **state)
{
	struct build build = {};
	struct xbzrle_error err;
	struct stat status;
	int fd = make_file(), rounds, i;

	(void)state;
	setup(&build);
	for (i = 0; i < PAGES; i++)
		build_zero(&build, "r", i * UNIT);
	build_eos(&build);
	assert_int_equal(apply(&build, NULL, fd, &rounds, &err), 0);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_size, SIZE);
	assert_int_equal(status.st_blocks, 0);

	/* What became zero becomes a hole again. */
	build.length = 0;
	setup(&build);
	build_page(&build, "r", 0, 1);
	build_eos(&build);
	build_zero(&build, "r", 0);
	build_eos(&build);
	assert_int_equal(apply(&build, NULL, fd, &rounds, &err), 0);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_blocks, 0);
	close(fd);
	build_free(&build);
}

/* Pages far from each other, of which a few bytes each tell. */
static int apply_far(struct xbzrle_image *image, uint64_t from, uint64_t count,
		     struct xbzrle_error *err)
{
	struct xbzrle_record record = { .kind = XBZRLE_RECORD_ZERO };
	uint64_t i;
	int ret = 0;

	for (i = from; i < from + count && !ret; i++) {
		record.offset = i << 24;
		ret = xbzrle_image_apply(image, &record, err);
	}
	return ret;
}

static void takes_no_more_memory_than_allowed(void **state)
{
	struct xbzrle_image *image = xbzrle_image_new(tmp, NULL);
	const struct xbzrle_record eos = { .kind = XBZRLE_RECORD_EOS };
	struct xbzrle_error err;
	int fd = make_file();

	(void)state;
	xbzrle_image_limit(image, 8 << 20);
	assert_int_equal(xbzrle_image_add_file(image, 0, fd, 1ULL << 42, &err),
			 0);
	assert_int_equal(apply_far(image, 0, 1000, &err), 0);
	assert_int_equal(xbzrle_image_apply(image, &eos, &err), 0);
	/* What is there takes nothing. */
	assert_int_equal(apply_far(image, 0, 1000, &err), 0);
	assert_int_equal(xbzrle_image_apply(image, &eos, &err), 0);
	assert_int_equal(apply_far(image, 1000, 1000, &err), -ENOBUFS);
	assert_non_null(strstr(err.message, "8388608 bytes"));
	assert_int_equal(xbzrle_image_abort(image, &err), 0);
	/* And what is dropped is given back. */
	xbzrle_image_drop(image, 0);
	assert_int_equal(xbzrle_image_add_file(image, 0, fd, 1ULL << 42, &err),
			 0);
	assert_int_equal(apply_far(image, 0, 1000, &err), 0);
	xbzrle_image_drop(image, 0);
	/* A length costs a little, too. */
	xbzrle_image_limit(image, 1 << 20);
	assert_int_equal(xbzrle_image_add_file(image, 0, fd, 1ULL << 42, &err),
			 -ENOBUFS);
	xbzrle_image_free(image);
	close(fd);
}

static void counts_pages_in_memory(void **state)
{
	struct xbzrle_image *image = xbzrle_image_new(-1, NULL);
	static uint8_t memory[SIZE], page[UNIT];
	struct xbzrle_record record = {
		.kind = XBZRLE_RECORD_ZERO,
		.data = page,
	};
	struct xbzrle_error err;

	(void)state;
	/* Two of them, their account, and a page table. */
	xbzrle_image_limit(image, 4 * UNIT + 64);
	assert_int_equal(xbzrle_image_add_memory(image, 0, memory, SIZE, &err),
			 0);
	for (; record.offset < SIZE; record.offset += UNIT)
		assert_int_equal(xbzrle_image_apply(image, &record, &err), 0);
	record.kind = XBZRLE_RECORD_PAGE;
	for (record.offset = 0; record.offset < 2 * UNIT;
	     record.offset += UNIT) {
		assert_int_equal(xbzrle_image_apply(image, &record, &err), 0);
		assert_int_equal(xbzrle_image_apply(image, &record, &err), 0);
	}
	assert_int_equal(xbzrle_image_apply(image, &record, &err), -ENOBUFS);
	xbzrle_image_free(image);
}

static void refuses_misuse(void **state)
{
	struct xbzrle_image *image = xbzrle_image_new(-1, NULL);
	static uint8_t memory[SIZE];
	struct xbzrle_error err;

	(void)state;
	assert_int_equal(xbzrle_image_add_file(image, 0, 0, SIZE, &err),
			 -EINVAL);
	assert_int_equal(xbzrle_image_add_memory(image, 0, memory, 0, &err),
			 -EINVAL);
	assert_int_equal(xbzrle_image_add_memory(image, 0, memory, 100, &err),
			 -EINVAL);
	assert_int_equal(xbzrle_image_add_memory(image, 0, memory, SIZE, NULL),
			 0);
	assert_int_equal(xbzrle_image_add_memory(image, 0, memory, SIZE, NULL),
			 -EINVAL);
	xbzrle_image_drop(image, 0);
	xbzrle_image_drop(image, 0);
	xbzrle_image_drop(image, 77);
	assert_int_equal(xbzrle_image_add_memory(image, 0, memory, SIZE, NULL),
			 0);
	xbzrle_image_free(image);
}

/* As another image's would be, made in the same folder just now. */
static void leaves_other_spools_alone(void **state)
{
	struct xbzrle_image *image;
	struct stat stat;
	int fd;

	(void)state;
	fd = openat(tmp, ".xbzrle-spool", O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "round", 5), 5);
	image = xbzrle_image_new(tmp, NULL);
	assert_non_null(image);
	assert_int_equal(fstat(fd, &stat), 0);
	assert_int_equal(stat.st_size, 5);
	xbzrle_image_free(image);
	assert_int_equal(unlinkat(tmp, ".xbzrle-spool", 0), 0);
	close(fd);
}

/* Somebody else has written into its file: no length of theirs is believed. */
static void spool_refuses_a_length(void **state)
{
	static const uint8_t page[UNIT];
	const uint32_t lengths[] = { UNIT + 1, 1 << 20, UINT32_MAX };
	struct xbzrle_record record = {
		.kind = XBZRLE_RECORD_PAGE,
		.data = page,
		.length = UNIT,
	};
	struct xbzrle_spool *spool;
	struct xbzrle_error err;
	size_t i;
	int fd;

	(void)state;
	for (i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		/* The spool gets the lowest number, which this one had. */
		fd = dup(tmp);
		close(fd);
		spool = xbzrle_spool_new(tmp, &err);
		assert_non_null(spool);
		assert_int_equal(xbzrle_spool_put(spool, &record, &err), 0);
		assert_int_equal(xbzrle_spool_rewind(spool, &err), 0);
		assert_int_equal(pwrite(fd, &lengths[i], 4, 24), 4);
		assert_int_equal(ftruncate(fd, 2 << 20), 0);
		assert_int_equal(xbzrle_spool_get(spool, &record, &err), -EIO);
		xbzrle_spool_free(spool);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arrives_in_memory),
		cmocka_unit_test(arrives_by_rounds),
		cmocka_unit_test(refused_round_leaves_nothing),
		cmocka_unit_test(round_follows_one_without_room),
		cmocka_unit_test(refuses_delta_of_unknown_page),
		cmocka_unit_test(refuses_bad_delta_at_once),
		cmocka_unit_test(refuses_region_not_added),
		cmocka_unit_test(takes_a_page_twice_in_a_round),
		cmocka_unit_test(keeps_holes),
		cmocka_unit_test(takes_no_more_memory_than_allowed),
		cmocka_unit_test(counts_pages_in_memory),
		cmocka_unit_test(refuses_misuse),
		cmocka_unit_test(leaves_other_spools_alone),
		cmocka_unit_test(spool_refuses_a_length),
	};

	return cmocka_run_group_tests_name("apply", tests, open_tmp,
					   close_tmp);
}

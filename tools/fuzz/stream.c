// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Any bytes as a stream: the parser takes the records that the model takes and
 * says where the first wrong one is; files have what the complete rounds make
 * of them and nothing of a broken one, memory what was taken; and xbzrle inspect
 * agrees.
 *
 * Input: the stream. How it is cut depends on its length.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xbzrle.h>

#include "../xbzrle/command.h"
#include "../xbzrle/tally.h"
#include "fuzz.h"
#include "model.h"

static const size_t pieces[] = { SIZE_MAX, 1, 2, 7, 64, 1000, 4096, SIZE_MAX };

/* Everything that takes records. */
struct taker {
	struct xbzrle_wire *wire;
	struct xbzrle_image *files;
	struct xbzrle_image *memory;
	struct tally tally;
	unsigned int count;
	uint64_t length[MODEL_REGIONS];
	int fd[MODEL_REGIONS];
	uint8_t *bytes[MODEL_REGIONS];
	bool too_large;
	bool not_applied;
	struct xbzrle_error err;
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_quiet();
	return 0;
}

static int add_region(struct taker *taker, const struct xbzrle_record *record)
{
	unsigned int i = record->region;
	uint64_t length = record->length;

	if (!record->fresh)
		return 0;
	must(i == taker->count);
	if (i == MODEL_REGIONS || length > MODEL_PAGES * MODEL_UNIT) {
		taker->too_large = true;
		return -EFBIG;
	}
	taker->count++;
	taker->length[i] = length;
	taker->bytes[i] = calloc(length, 1);
	taker->fd[i] = memfd_create("region", MFD_CLOEXEC);
	must(taker->bytes[i] && taker->fd[i] >= 0);
	must(!xbzrle_image_add_memory(taker->memory, i, taker->bytes[i],
				      length, NULL));
	must(!xbzrle_image_add_file(taker->files, i, taker->fd[i], length,
				    NULL));
	return 0;
}

static void drop_absent(struct taker *taker)
{
	unsigned int i;

	for (i = 0; i < taker->count; i++) {
		if (xbzrle_wire_present(taker->wire, i))
			continue;
		xbzrle_image_drop(taker->files, i);
		xbzrle_image_drop(taker->memory, i);
	}
}

/* What counts a delta has its own mind about whether it is one. */
static void count(struct taker *taker, const struct xbzrle_record *record,
		  int applied)
{
	struct xbzrle_error err;
	int ret = tally_record(&taker->tally, record, &err);

	/* One for a page that never came may be right or wrong. */
	if (!strstr(taker->err.message, "never received") || !applied)
		must(ret == applied);
}

static int take(struct taker *taker, const struct xbzrle_record *record)
{
	int ret;

	if (record->kind == XBZRLE_RECORD_BLOCK) {
		ret = add_region(taker, record);
		if (!ret)
			count(taker, record, 0);
		return ret;
	}
	ret = xbzrle_image_apply(taker->files, record, &taker->err);
	must(ret == xbzrle_image_apply(taker->memory, record, NULL));
	count(taker, record, ret);
	if (record->kind == XBZRLE_RECORD_SETUP_END)
		drop_absent(taker);
	return ret;
}

/* 0, or the first error. */
static int take_all(struct taker *taker, const uint8_t *data, size_t size)
{
	const size_t piece = pieces[size % (sizeof(pieces) / sizeof(*pieces))];
	struct xbzrle_record record;
	uint64_t position = 0;
	size_t at, length;
	int ret;

	for (at = 0; at < size; at += length) {
		length = size - at < piece ? size - at : piece;
		xbzrle_wire_feed(taker->wire, data + at, length);
		while ((ret = xbzrle_wire_next(taker->wire, &record,
					       &taker->err)) > 0) {
			must(record.position == position);
			position += record.size;
			ret = take(taker, &record);
			taker->not_applied = ret;
			if (ret)
				return ret;
		}
		if (ret)
			return ret;
	}
	return xbzrle_wire_end(taker->wire, &taker->err);
}

static void compare(const struct taker *taker, struct model *model)
{
	static uint8_t file[MODEL_PAGES * MODEL_UNIT];
	unsigned int i;

	must(taker->count == model->count);
	for (i = 0; i < model->count; i++) {
		must(taker->length[i] == model->regions[i]->length);
		if (!model->regions[i]->dropped)
			must(!memcmp(taker->bytes[i],
				     model->regions[i]->memory,
				     taker->length[i]));
	}
	model_break_off(model);
	for (i = 0; i < model->count; i++) {
		must(pread(taker->fd[i], file, sizeof(file), 0) ==
		     (ssize_t)taker->length[i]);
		if (!model->regions[i]->dropped)
			must(!memcmp(file, model->regions[i]->memory,
				     taker->length[i]));
	}
}

static void check_error(const struct taker *taker, int ret,
			const struct model *model)
{
	struct xbzrle_record record;
	struct xbzrle_error again;

	must(ret == -EBADMSG && taker->err.code == EBADMSG);
	must(taker->err.message[0]);
	must(taker->err.position ==
	     (model->verdict ? model->error_at : model->length));
	must(taker->not_applied == (model->verdict == MODEL_BAD_DELTA ||
				    model->verdict == MODEL_NO_BASE));
	/* What the parser has refused it goes on refusing. */
	if (model->verdict == MODEL_MALFORMED) {
		xbzrle_wire_feed(taker->wire, "", 1);
		must(xbzrle_wire_next(taker->wire, &record, &again) == ret);
		must(again.position == taker->err.position);
		must(xbzrle_wire_end(taker->wire, &again) == ret);
		must(again.position == taker->err.position);
	}
}

static void check_inspect(const uint8_t *data, size_t size,
			  const struct model *model)
{
	char path[32], *argv[] = { "inspect", path, NULL, NULL };
	int fd = memfd_create("stream", MFD_CLOEXEC), argc = 2, status;

	must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (size % 2)
		argv[argc++] = "--json";
	status = inspect_main(argc, argv);
	close(fd);
	/* It does not know what came before, and has no limit of its own. */
	if (model->verdict != MODEL_NO_BASE &&
	    model->verdict != MODEL_TOO_LARGE)
		must(status == (model_may_end(model) ? EXIT_DONE :
				EXIT_FAILED));
}

static void check_stream(const uint8_t *data, size_t size, int spool_dir)
{
	struct taker taker = {
		.wire = xbzrle_wire_new(NULL),
		.files = xbzrle_image_new(spool_dir, NULL),
		.memory = xbzrle_image_new(-1, NULL),
	};
	struct model model = {};
	unsigned int i;
	int ret;

	must(taker.wire && taker.files && taker.memory);
	model_feed(&model, data, size);
	ret = take_all(&taker, data, size);
	must(taker.too_large == (model.verdict == MODEL_TOO_LARGE));
	must(!ret == model_may_end(&model));
	if (ret && !taker.too_large)
		check_error(&taker, ret, &model);
	must(!xbzrle_image_abort(taker.files, NULL));
	compare(&taker, &model);
	/* It takes longer than all the rest. */
	if (size % 4 < 2)
		check_inspect(data, size, &model);

	for (i = 0; i < taker.count; i++) {
		close(taker.fd[i]);
		free(taker.bytes[i]);
	}
	tally_release(&taker.tally);
	xbzrle_image_free(taker.files);
	xbzrle_image_free(taker.memory);
	xbzrle_wire_free(taker.wire);
	model_free(&model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int spool_dir = -1;

	/* With its magic in front it would be taken for frames. */
	if (size >= 4 && !memcmp(data, "XBZF", 4))
		return 0;
	if (spool_dir < 0)
		spool_dir = open("/dev/shm", O_RDONLY | O_DIRECTORY);
	check_stream(data, size, spool_dir);
	return 0;
}

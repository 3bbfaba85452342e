// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Any manifest with any files of rounds: what verify calls good can be restored
 * and folded, and is the same afterwards; what is restored is what the streams
 * in the files say.
 *
 * Input: the manifest, then the files in its order; each begins with the frame
 * number 0.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <jansson.h>
#include <xxhash.h>

#include "../xbzrle/command.h"
#include "fuzz.h"
#include "model.h"
#include "place.h"
#include "transport.h"

#define FILES		8
#define FILE_SIZE	(1 << 20)

struct part {
	const uint8_t *bytes;
	size_t length;
};

/**
 * struct archive - an input
 * @manifest: its lines
 * @files: of rounds
 * @count: how many
 */
struct archive {
	struct part manifest;
	struct part files[FILES];
	unsigned int count;
};

/* What a line of the manifest says of its file. */
struct line {
	json_int_t number;
	json_int_t base;
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_quiet();
	return 0;
}

/* The next first frame at or behind @at, or @end. */
static const uint8_t *next_file(const uint8_t *at, const uint8_t *end)
{
	while ((at = memmem(at, end - at, TRANSPORT_MAGIC, 4))) {
		if (end - at >= TRANSPORT_HEADER && !transport_number(at + 12, 4))
			return at;
		at++;
	}
	return end;
}

static void split(struct archive *archive, const uint8_t *data, size_t size)
{
	const uint8_t *end = data + size, *at = next_file(data, end), *next;

	*archive = (struct archive){ .manifest = { data, at - data } };
	for (; at < end && archive->count < FILES; at = next) {
		next = next_file(at + 1, end);
		archive->files[archive->count++] =
			(struct part){ at, next - at };
	}
}

/* Takes a line from @manifest: whether there is a complete one. */
static bool next_line(struct part *manifest, struct part *line)
{
	const uint8_t *end = memchr(manifest->bytes, '\n', manifest->length);

	if (!end)
		return false;
	*line = (struct part){ manifest->bytes, end - manifest->bytes };
	manifest->length -= line->length + 1;
	manifest->bytes = end + 1;
	return true;
}

static json_t *parse_line(const struct part *text, struct line *line)
{
	json_t *entry = json_loadb((const char *)text->bytes, text->length, 0,
				   NULL);

	line->number = json_integer_value(json_object_get(entry, "round"));
	line->base = json_integer_value(json_object_get(entry, "base"));
	return entry;
}

static void put_file(const char *dir, const char *name,
		     const struct part *part)
{
	char path[160];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "w");
	must(file && fwrite(part->bytes, 1, part->length, file) ==
	     part->length && !fclose(file));
}

static void unpack(const struct archive *archive, const char *dir)
{
	struct part left = archive->manifest, text;
	struct line line;
	unsigned int i;
	char name[48];

	must(!mkdir(dir, 0700));
	put_file(dir, "chain.jsonl", &archive->manifest);
	for (i = 0; i < archive->count; i++) {
		/* One that is cut may have its file all the same. */
		if (!next_line(&left, &text))
			text = left;
		json_decref(parse_line(&text, &line));
		snprintf(name, sizeof(name), "%s-%lld.xbzrle",
			 line.base ? "delta" : "full", line.number);
		put_file(dir, name, &archive->files[i]);
	}
}

/* Follows the stream in a file. */
static void follow(struct model *model, const struct part *file)
{
	struct transport transport = {
		file->bytes, file->bytes + file->length, 0
	};
	struct model_region *region;
	struct transport_frame frame;
	char name[256];

	while (transport_next(&transport, &frame) > 0) {
		if (frame.type == DATA)
			model_feed(model, frame.payload, frame.length);
		if (frame.type != DROP || transport_name(&frame, 0, name))
			continue;
		region = model_find(model, name);
		if (region)
			region->dropped = true;
	}
}

static void begin_anew(struct model *model)
{
	model_free(model);
	*model = (struct model){};
}

/* As the last round has it. False if it is more than is followed here. */
static bool follow_all(const struct archive *archive, struct model *model)
{
	struct part left = archive->manifest, text;
	struct line line;
	bool fits = true;
	unsigned int i;

	for (i = 0; i < archive->count && next_line(&left, &text); i++) {
		json_decref(parse_line(&text, &line));
		if (!line.base)
			begin_anew(model);
		follow(model, &archive->files[i]);
		fits &= model->verdict != MODEL_TOO_LARGE;
	}
	return fits;
}

static int run(int (*command)(int argc, char **argv), const char *name,
	       const char *path, const char *output)
{
	char copy[100], *argv[] = {
		(char *)name, copy, output ? "--output" : NULL, (char *)output,
		NULL,
	};

	snprintf(copy, sizeof(copy), "%s", path);
	return place_run(command, argv, FILE_SIZE);
}

static void check_images(const struct model *model, const char *dir)
{
	const struct model_region *region;
	json_t *root, *regions, *entry;
	unsigned int i, at = 0;
	const char *file;
	char path[100];

	snprintf(path, sizeof(path), "%s/manifest.json", dir);
	root = json_load_file(path, 0, NULL);
	regions = json_object_get(root, "regions");
	for (i = 0; i < model->count; i++) {
		region = model->regions[i];
		if (region->dropped || !region->present)
			continue;
		entry = json_array_get(regions, at++);
		file = json_string_value(json_object_get(entry, "file"));
		must(file && place_holds(dir, file, region->memory,
					 region->length));
	}
	must(json_array_size(regions) == at);
	must(place_count(dir) == at + 1);
	json_decref(root);
}

static int restore(const struct model *model, const char *chain)
{
	char images[80];
	int status;

	snprintf(images, sizeof(images), "%s/images", place_path());
	status = run(restore_main, "restore", chain, images);
	if (status == EXIT_DONE)
		check_images(model, images);
	place_empty(images);
	return status;
}

/* The sum of docs/snapshots.md. */
static json_t *sum_of(const struct model_region *region)
{
	unsigned __int128 sum = 0;
	static const uint8_t zeros[MODEL_UNIT];
	XXH128_hash_t hash;
	char text[33];
	uint64_t i;

	for (i = 0; i < region->length / MODEL_UNIT; i++) {
		if (!memcmp(region->memory[i], zeros, MODEL_UNIT))
			continue;
		hash = XXH3_128bits_withSeed(region->memory[i], MODEL_UNIT, i);
		sum += (unsigned __int128)hash.high64 << 64 | hash.low64;
	}
	snprintf(text, sizeof(text), "%016llx%016llx",
		 (unsigned long long)(sum >> 64), (unsigned long long)sum);
	return json_string(text);
}

/* Ties it to the line before, whose checksum is in @check. */
static char *seal(json_t *entry, char check[33])
{
	XXH128_hash_t hash;
	char *text;

	json_object_set_new(entry, "before", json_string(check));
	json_object_del(entry, "check");
	text = json_dumps(entry, JSON_COMPACT | JSON_SORT_KEYS);
	must(text);
	hash = XXH3_128bits(text, strlen(text));
	free(text);
	snprintf(check, 33, "%016llx%016llx", (unsigned long long)hash.high64,
		 (unsigned long long)hash.low64);
	json_object_set_new(entry, "check", json_string(check));
	return json_dumps(entry, JSON_COMPACT);
}

/* From HELLO to END without a flaw. */
static bool is_whole(const struct part *file)
{
	struct transport transport = {
		file->bytes, file->bytes + file->length, 0
	};
	struct transport_frame frame = {};
	int ret;

	ret = transport_next(&transport, &frame);
	if (ret != 1 || frame.type != HELLO)
		return false;
	while (ret > 0 && frame.type != END)
		ret = transport_next(&transport, &frame);
	return ret > 0 && transport.at == transport.end;
}

static void must_be_described(const struct model *model, const json_t *regions)
{
	const struct model_region *region;
	const json_t *said;
	unsigned int i, at = 0;
	json_t *sum;

	for (i = 0; i < model->count; i++) {
		region = model->regions[i];
		if (region->dropped || !region->present)
			continue;
		said = json_array_get(regions, at++);
		must(json_integer_value(json_object_get(said, "length")) ==
		     (json_int_t)region->length);
		sum = sum_of(region);
		must(json_equal(json_object_get(said, "xxh3_sum"), sum));
		json_decref(sum);
	}
	must(json_array_size(regions) == at);
}

/* What the manifest must say if all of it is good. Returns its lines. */
static unsigned int must_be_good(const struct archive *archive)
{
	struct part left = archive->manifest, text;
	struct line line, last = {};
	struct model model = {};
	char check[33] = "";
	json_t *entry, *sealed;
	unsigned int i;

	for (i = 0; next_line(&left, &text); i++) {
		must(i < archive->count && is_whole(&archive->files[i]));
		entry = parse_line(&text, &line);
		must(line.base == (line.base ? last.number : 0));
		must(line.number == (i ? last.number + 1 : line.number));
		if (!line.base)
			begin_anew(&model);
		follow(&model, &archive->files[i]);
		must(model_may_end(&model));
		must_be_described(&model, json_object_get(entry, "regions"));
		sealed = json_copy(entry);
		free(seal(sealed, check));
		must(json_equal(entry, sealed));
		json_decref(sealed);
		json_decref(entry);
		last = line;
	}
	model_free(&model);
	return i;
}

/* A round that is good is so too when it is the first, and all behind it. */
static void check_fold(const struct archive *archive, const struct model *model,
		       const char *chain, unsigned int which)
{
	struct part left = archive->manifest, text;
	struct line line = {};
	unsigned int i;
	char fold[100];

	for (i = 0; i <= which && next_line(&left, &text); i++)
		json_decref(parse_line(&text, &line));
	must(restore(model, chain) == EXIT_DONE);
	snprintf(fold, sizeof(fold), "%s@%lld", chain, line.number);
	must(run(fold_main, "fold", fold, NULL) == EXIT_DONE);
	must(run(verify_main, "verify", chain, NULL) == EXIT_DONE);
	must(restore(model, chain) == EXIT_DONE);
	/* The manifest and a lock, too; what was rubbish may be left. */
	must(place_count(chain) <= archive->count - which + 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct archive archive;
	struct model model = {};
	unsigned int rounds;
	char chain[80];
	int status;

	snprintf(chain, sizeof(chain), "%s/chain", place_path());
	split(&archive, data, size);
	if (follow_all(&archive, &model)) {
		unpack(&archive, chain);
		status = run(verify_main, "verify", chain, NULL);
		rounds = status == EXIT_DONE ? must_be_good(&archive) : 0;
		if (rounds)
			check_fold(&archive, &model, chain,
				   rounds - 1 - size % rounds);
		else
			restore(&model, chain);
		place_empty(place_path());
	}
	model_free(&model);
	return 0;
}

static void repair_entry(json_t *entry, const struct part *file,
			 struct model *model, unsigned int rounds)
{
	json_t *regions = json_object_get(entry, "regions"), *said;
	const struct model_region *region;
	const char *name;
	size_t i;

	json_object_set_new(entry, "bytes", json_integer(file->length));
	json_object_set_new(entry, "stream_rounds", json_integer(rounds));
	json_array_foreach(regions, i, said) {
		name = json_string_value(json_object_get(said, "name"));
		region = name ? model_find(model, name) : NULL;
		if (region)
			json_object_set_new(said, "xxh3_sum",
					    sum_of(region));
	}
}

static void append(struct part *to, uint8_t *room, const void *bytes,
		   size_t length)
{
	memcpy(room + to->length, bytes, length);
	to->length += length;
}

/* Repairs files and then the lines that tell of them, into @room. */
static size_t repair(const struct archive *archive, unsigned int what,
		     uint8_t *room)
{
	struct part left = archive->manifest, text, out = {};
	struct model model = {};
	char check[33] = "", *sealed;
	unsigned int i, rounds;
	struct line line;
	json_t *entry;

	for (i = 0; next_line(&left, &text); i++) {
		entry = parse_line(&text, &line);
		if (!line.base)
			begin_anew(&model);
		rounds = model.rounds;
		if (i < archive->count)
			transport_repair((uint8_t *)archive->files[i].bytes,
					 archive->files[i].length, what,
					 &model);
		if (i < archive->count && json_is_object(entry) &&
		    what / 1024 % 8)
			repair_entry(entry, &archive->files[i], &model,
				     model.rounds - rounds);
		sealed = NULL;
		if (json_is_object(entry) && what / 8192 % 8)
			sealed = seal(entry, check);
		append(&out, room, sealed ?: (const char *)text.bytes,
		       sealed ? strlen(sealed) : text.length);
		append(&out, room, "\n", 1);
		free(sealed);
		json_decref(entry);
	}
	append(&out, room, left.bytes, left.length);
	for (i = 0; i < archive->count; i++)
		append(&out, room, archive->files[i].bytes,
		       archive->files[i].length);
	model_free(&model);
	return out.length;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room,
			       unsigned int seed)
{
	struct archive archive;
	uint8_t *repaired;
	size_t length;

	size = LLVMFuzzerMutate(data, size, room);
	if (seed % 32 == 0)
		return size;
	/* A byte may become an escape of six, a line have two sums more. */
	repaired = fuzz_alloc(6 * size + 256 * size + 1024);
	split(&archive, data, size);
	length = repair(&archive, seed, repaired);
	if (length > room)
		length = room;
	memcpy(data, repaired, length);
	free(repaired);
	return length;
}

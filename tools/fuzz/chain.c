// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Any manifest with any files of rounds: verify says of each round what
 * docs/snapshots.md says of it; just those that are good can be restored and
 * folded, a file that has all also be received, and each is what the streams in
 * the files say. A fold changes none of it, and one that fails changes nothing.
 *
 * Input: as rounds_split() takes it apart.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>
#include <xxhash.h>

#include "../xbzrle/command.h"
#include "fuzz.h"
#include "model.h"
#include "place.h"
#include "rounds.h"
#include "transport.h"

/* All that is followed here has room in a file. */
#define FILE_SIZE	(2 * MODEL_REGIONS * MODEL_PAGES * MODEL_UNIT)
/* So many frames of an input are looked at to change their order. */
#define FRAMES		64
/* The longest names of all regions, in each line that has a file. */
#define DESCRIPTIONS	(1 << 20)

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_quiet();
	return 0;
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
	unsigned int i;

	must(!mkdir(dir, 0700));
	put_file(dir, "chain.jsonl", &archive->manifest);
	for (i = 0; i < archive->count; i++) {
		if (rounds_has(archive, i))
			put_file(dir, archive->names[i].text,
				 &archive->files[i]);
	}
}

static int run(int (*command)(int argc, char **argv), const char *name,
	       const char *what, const char *option, const char *value)
{
	char copy[160], *argv[] = {
		(char *)name, copy, (char *)option, (char *)value, NULL,
	};

	snprintf(copy, sizeof(copy), "%s", what);
	return place_run(command, argv, FILE_SIZE);
}

static void check_image(const struct announced *announced, const json_t *entry,
			const char *dir)
{
	const char *file = json_string_value(json_object_get(entry, "file"));
	char digest[33];
	XXH128_hash_t hash;

	must(file && place_holds(dir, file, announced->region->memory,
				 announced->length));
	hash = XXH3_128bits(announced->region->memory, announced->length);
	snprintf(digest, sizeof(digest), "%016llx%016llx",
		 (unsigned long long)hash.high64,
		 (unsigned long long)hash.low64);
	must(!strcmp(json_string_value(json_object_get(entry, "xxh3_128")),
		     digest));
	must(!strcmp(json_string_value(json_object_get(entry, "name")),
		     announced->name));
	must(json_integer_value(json_object_get(entry, "pid")) ==
	     announced->pid);
	must(json_integer_value(json_object_get(entry, "length")) ==
	     (json_int_t)announced->length);
}

static void check_images(const struct rounds *rounds, const char *dir)
{
	const struct announced *announced;
	json_t *root, *regions;
	unsigned int i, at = 0;
	char path[100];

	snprintf(path, sizeof(path), "%s/manifest.json", dir);
	root = json_load_file(path, 0, NULL);
	regions = json_object_get(root, "regions");
	for (i = 0; i < rounds->announced_count; i++) {
		announced = &rounds->announced[i];
		if (!announced->dropped)
			check_image(announced, json_array_get(regions, at++),
				    dir);
	}
	must(json_array_size(regions) == at);
	must(place_count(dir) == at + 1);
	json_decref(root);
}

/* Images are right, or there is no manifest that says so. */
static void check_made(const struct rounds *rounds, const char *images,
		       int status, bool should)
{
	char path[100];

	must(status == (should ? EXIT_DONE : EXIT_FAILED));
	snprintf(path, sizeof(path), "%s/manifest.json", images);
	if (should)
		check_images(rounds, images);
	else
		must(access(path, F_OK));
	place_empty(images);
}

static void check_restore(const struct rounds *rounds, const char *chain,
			  json_int_t number, bool should)
{
	char images[80], which[120];

	snprintf(images, sizeof(images), "%s/images", place_path());
	snprintf(which, sizeof(which), number ? "%s@%lld" : "%s", chain,
		 (long long)number);
	check_made(rounds, images,
		   run(restore_main, "restore", which, "--output", images),
		   should);
}

static void check_recv(const struct rounds *rounds, const char *chain,
		       json_int_t number)
{
	char images[80], from[140];

	snprintf(images, sizeof(images), "%s/images", place_path());
	snprintf(from, sizeof(from), "file:%s/full-%lld.xbzrle", chain,
		 (long long)number);
	check_made(rounds, images,
		   run(recv_main, "recv", from, "--output", images), true);
}

/* What verify prints. */
static json_t *verify(const char *chain, int *status)
{
	FILE *quiet = stdout;
	char *text = NULL;
	size_t length;
	json_t *root;

	stdout = open_memstream(&text, &length);
	must(stdout);
	*status = run(verify_main, "verify", chain, "--json", NULL);
	must(!fclose(stdout));
	stdout = quiet;
	root = json_loads(text, 0, NULL);
	must(root);
	free(text);
	return root;
}

/* From the round @first on. */
static void check_verify(const struct rounds *rounds, const char *chain,
			 unsigned int first)
{
	const struct round *round;
	json_t *root, *said, *list;
	unsigned int i, good = 0;
	int status;
	bool all;

	root = verify(chain, &status);
	list = json_object_get(root, "rounds");
	must(json_array_size(list) == rounds->count - first);
	for (i = first; i < rounds->count; i++) {
		round = &rounds->list[i];
		said = json_array_get(list, i - first);
		must(json_integer_value(json_object_get(said, "round")) ==
		     round->number);
		must(json_is_true(json_object_get(said, "good")) ==
		     round->good);
		good += round->good;
	}
	all = !rounds->damaged && good == rounds->count - first;
	must(status == (all ? EXIT_DONE : EXIT_FAILED));
	must(json_is_null(json_object_get(root, "error")) == all);
	must(json_integer_value(json_object_get(root, "good")) == good);
	must(json_is_true(json_object_get(root, "cut")) == rounds->cut);
	json_decref(root);
}

/* Every round from @first on, also as the last. */
static void check_rounds(const struct rounds *rounds,
			 const struct archive *archive, const char *chain,
			 unsigned int first)
{
	static struct rounds then;
	const struct round *round;
	unsigned int i;

	for (i = first; i < rounds->count; i++) {
		round = &rounds->list[i];
		rounds_judge(&then, archive, i + 1);
		check_restore(&then, chain, round->number, round->restorable);
		if (round->good && (!round->base || i == first))
			check_recv(&then, chain, round->number);
		rounds_free(&then);
	}
	check_restore(rounds, chain, 0, rounds->count && !rounds->damaged &&
		      rounds->list[rounds->count - 1].restorable);
}

static void check_fold(struct rounds *rounds, const struct archive *archive,
		       const char *chain, unsigned int which)
{
	bool should = !rounds->damaged && rounds->list[which].good;
	unsigned int files = place_count(chain), i;
	char fold[120], path[140];

	snprintf(fold, sizeof(fold), "%s@%lld", chain,
		 (long long)rounds->list[which].number);
	must(run(fold_main, "fold", fold, NULL, NULL) ==
	     (should ? EXIT_DONE : EXIT_FAILED));
	/* There is a lock now. */
	if (!should) {
		must(place_count(chain) <= files + 1);
		check_verify(rounds, chain, 0);
		return;
	}
	rounds->cut &= !which;
	check_verify(rounds, chain, which);
	check_rounds(rounds, archive, chain, which);
	for (i = 0; i < which; i++) {
		snprintf(path, sizeof(path), "%s/%s", chain,
			 rounds_name(&rounds->list[i]).text);
		must(access(path, F_OK));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rounds rounds;
	struct archive archive;
	char chain[80];

	snprintf(chain, sizeof(chain), "%s/chain", place_path());
	rounds_split(&archive, data, size);
	rounds_judge(&rounds, &archive, ROUNDS_LINES + 1);
	if (!rounds.too_large) {
		unpack(&archive, chain);
		check_verify(&rounds, chain, 0);
		check_rounds(&rounds, &archive, chain, 0);
		if (rounds.count)
			check_fold(&rounds, &archive, chain,
				   size % rounds.count);
		place_empty(place_path());
	}
	rounds_free(&rounds);
	return 0;
}

static void put_region(json_t *found, const char *name, uint64_t address,
		       uint32_t pid)
{
	char text[24];

	snprintf(text, sizeof(text), "%#llx", (unsigned long long)address);
	json_object_set_new(found, name,
			    json_pack("{s:s, s:I}", "address", text, "pid",
				      (json_int_t)pid));
}

/* What a file announces comes to @found, and what it drops goes. */
static void follow_frames(json_t *found, const struct part *file)
{
	struct transport transport = {
		file->bytes, file->bytes + file->length, 0
	};
	struct transport_frame frame;
	char name[256];

	while (transport_next(&transport, &frame) == 1) {
		if (frame.type == DROP && !transport_name(&frame, 0, name))
			json_object_del(found, name);
		if (frame.type == REGION && !transport_name(&frame, 20, name))
			put_region(found, name,
				   transport_number(frame.payload, 8),
				   transport_number(frame.payload + 16, 4));
	}
}

/* Regions that have come; if @all also what was not announced, or dropped. */
static json_t *describe(const struct archive *archive, unsigned int first,
			unsigned int last, struct model *model, bool all)
{
	json_t *found = json_object(), *regions = json_array(), *said;
	const struct model_region *region;
	const char *key;
	unsigned int i;

	for (; first <= last; first++)
		follow_frames(found, &archive->files[first]);
	for (i = 0; all && i < model->count; i++) {
		if (!json_object_get(found, model->regions[i]->name))
			put_region(found, model->regions[i]->name, 0, 0);
	}
	json_object_foreach(found, key, said) {
		region = model_find(model, key);
		if (!region || !region->present)
			continue;
		json_object_set_new(said, "name", json_string(key));
		json_object_set_new(said, "length",
				    json_integer(region->length));
		json_object_set_new(said, "xxh3_sum", rounds_sum(region));
		json_array_append(regions, said);
	}
	json_decref(found);
	return regions;
}

static void repair_sums(json_t *regions, struct model *model)
{
	const struct model_region *region;
	const char *name;
	json_t *said;
	size_t i;

	json_array_foreach(regions, i, said) {
		name = json_string_value(json_object_get(said, "name"));
		region = name ? model_find(model, name) : NULL;
		if (region)
			json_object_set_new(said, "xxh3_sum",
					    rounds_sum(region));
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
	unsigned int i, first = 0, rounds;
	char check[33] = "", *sealed;
	struct model model = {};
	json_t *entry;

	for (i = 0; rounds_next_line(&left, &text); i++) {
		entry = json_loadb((const char *)text.bytes, text.length, 0,
				   NULL);
		if (!json_integer_value(json_object_get(entry, "base"))) {
			model_free(&model);
			model = (struct model){};
			first = i;
		}
		rounds = model.rounds;
		if (i < archive->count)
			transport_repair((uint8_t *)archive->files[i].bytes,
					 archive->files[i].length, what,
					 &model);
		if (i < archive->count && json_is_object(entry) &&
		    what / 1024 % 8) {
			json_object_set_new(entry, "bytes",
					    json_integer(archive->files[i].length));
			json_object_set_new(entry, "stream_rounds",
					    json_integer(model.rounds - rounds));
			if (what / 65536 % 4)
				json_object_set_new(entry, "regions",
						    describe(archive, first, i,
							     &model,
							     what / 65536 % 4 == 1));
			repair_sums(json_object_get(entry, "regions"), &model);
		}
		sealed = NULL;
		if (json_is_object(entry) && what / 8192 % 8)
			sealed = rounds_seal(entry, check);
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

/* Removes a frame, or puts it in front of another one, too. */
static size_t change_frames(uint8_t *data, size_t size, size_t room,
			    unsigned int what)
{
	uint8_t *starts[FRAMES + 1], *at = data, *from, *to, *copy;
	unsigned int count = 0;
	size_t length;

	while (count < FRAMES && (at = memmem(at, data + size - at,
					      TRANSPORT_MAGIC, 4)))
		starts[count++] = at++;
	if (!count)
		return size;
	starts[count] = data + size;
	from = starts[what / 2 % count];
	length = starts[what / 2 % count + 1] - from;
	if (what % 2) {
		memmove(from, from + length, data + size - from - length);
		return size - length;
	}
	if (length > room - size)
		return size;
	to = starts[what / 128 % (count + 1)];
	copy = fuzz_alloc(length);
	memcpy(copy, from, length);
	memmove(to + length, to, data + size - to);
	memcpy(to, copy, length);
	free(copy);
	return size + length;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room,
			       unsigned int seed)
{
	struct archive archive;
	uint8_t *repaired;
	size_t length;

	if (seed / 262144 % 2)
		size = change_frames(data, size, room, seed);
	else
		size = LLVMFuzzerMutate(data, size, room);
	if (seed % 32 == 0)
		return size;
	/* A byte may become an escape of six, a line have two sums more. */
	repaired = fuzz_alloc(6 * size + 256 * size + DESCRIPTIONS);
	rounds_split(&archive, data, size);
	length = repair(&archive, seed, repaired);
	if (length > room)
		length = room;
	memcpy(data, repaired, length);
	free(repaired);
	return length;
}

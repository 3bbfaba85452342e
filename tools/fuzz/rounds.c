// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "fuzz.h"
#include "rounds.h"
#include "transport.h"

#define FEATURE_DIGESTS	2

/* A file while it is read. */
struct reading {
	struct rounds *rounds;
	bool full;
	unsigned int before;		/* type of the frame before */
	unsigned int stream_rounds;	/* of those before this file */
	size_t stream_start;
	uint64_t round_frames;
	uint64_t digests;
};

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

/**
 * rounds_next_line() - take a line
 * @manifest: lines; what is taken goes from it
 * @line: set, without its end
 *
 * Return: false if there is no complete one.
 */
bool rounds_next_line(struct part *manifest, struct part *line)
{
	const uint8_t *end = memchr(manifest->bytes, '\n', manifest->length);

	if (!end)
		return false;
	*line = (struct part){ manifest->bytes, end - manifest->bytes };
	manifest->length -= line->length + 1;
	manifest->bytes = end + 1;
	return true;
}

static json_int_t member(const json_t *entry, const char *name)
{
	return json_integer_value(json_object_get(entry, name));
}

/**
 * rounds_name() - the name of a round's file
 * @round: round
 *
 * Return: name.
 */
struct round_name rounds_name(const struct round *round)
{
	struct round_name name;

	snprintf(name.text, sizeof(name.text), "%s-%lld.xbzrle",
		 round->base ? "delta" : "full", (long long)round->number);
	return name;
}

/**
 * rounds_has() - is a file there?
 * @archive: chain
 * @file: its index
 *
 * Return: false if one before it has the same name.
 */
bool rounds_has(const struct archive *archive, unsigned int file)
{
	unsigned int i;

	for (i = 0; i < file; i++) {
		if (!strcmp(archive->names[i].text, archive->names[file].text))
			return false;
	}
	return true;
}

/**
 * rounds_split() - take an input apart
 * @archive: filled in
 * @data: the manifest, then the files in its order; each begins with the frame
 *	number 0
 * @size: bytes
 */
void rounds_split(struct archive *archive, const uint8_t *data, size_t size)
{
	const uint8_t *end = data + size, *at = next_file(data, end), *next;
	struct part left = { data, at - data }, line;
	struct round round = {};
	json_t *entry;

	*archive = (struct archive){ .manifest = left };
	for (; at < end && archive->count < ROUNDS_FILES; at = next) {
		next = next_file(at + 1, end);
		/* One that is cut may have its file all the same. */
		if (!rounds_next_line(&left, &line))
			line = left;
		entry = json_loadb((const char *)line.bytes, line.length, 0,
				   NULL);
		round.number = member(entry, "round");
		round.base = member(entry, "base");
		json_decref(entry);
		archive->names[archive->count] = rounds_name(&round);
		archive->files[archive->count++] = (struct part){
			at, next - at
		};
	}
}

static struct announced *find(struct rounds *rounds, const char *name)
{
	unsigned int i;

	for (i = 0; i < rounds->announced_count; i++) {
		if (!strcmp(rounds->announced[i].name, name))
			return &rounds->announced[i];
	}
	return NULL;
}

static bool admit(void *admitting, const struct model_region *region)
{
	struct announced *announced = find(admitting, region->name);

	if (!announced || announced->came || announced->dropped ||
	    announced->length != region->length)
		return false;
	announced->came = true;
	return true;
}

/* What the stream has changed; false if it has one that was dropped. */
static bool look_up_regions(struct rounds *rounds)
{
	struct model *model = &rounds->model;
	struct announced *announced;
	unsigned int i;

	for (i = 0; i < model->count; i++) {
		announced = find(rounds, model->regions[i]->name);
		announced->region = model->regions[i];
		if (announced->dropped &&
		    announced->region->setup != announced->setup)
			return false;
		announced->dropped |= announced->region->dropped;
		announced->setup = announced->region->setup;
	}
	return true;
}

static bool is_present(const struct announced *announced)
{
	return announced->region && !announced->dropped;
}

static bool take_hello(const struct transport_frame *frame)
{
	return frame->type == HELLO && frame->length == 20 &&
		transport_number(frame->payload, 8) & FEATURE_DIGESTS &&
		!(transport_number(frame->payload + 8, 8) & ~FEATURE_DIGESTS) &&
		transport_number(frame->payload + 16, 4) == MODEL_UNIT;
}

static bool take_region(struct rounds *rounds,
			const struct transport_frame *frame)
{
	struct announced new = {};

	if (transport_name(frame, 20, new.name) || find(rounds, new.name))
		return false;
	if (rounds->announced_count == MODEL_REGIONS) {
		rounds->too_large = true;
		return false;
	}
	new.address = transport_number(frame->payload, 8);
	new.length = transport_number(frame->payload + 8, 8);
	new.pid = transport_number(frame->payload + 16, 4);
	rounds->announced[rounds->announced_count++] = new;
	return true;
}

static bool take_drop(struct rounds *rounds,
		      const struct transport_frame *frame)
{
	struct announced *announced;
	char name[256];

	if (transport_name(frame, 0, name))
		return false;
	announced = find(rounds, name);
	if (!announced || announced->dropped)
		return false;
	announced->dropped = true;
	if (announced->region)
		announced->region->dropped = true;
	return true;
}

static bool take_data(struct rounds *rounds,
		      const struct transport_frame *frame)
{
	model_feed(&rounds->model, frame->payload, frame->length);
	rounds->too_large |= rounds->model.verdict == MODEL_TOO_LARGE;
	return look_up_regions(rounds) && !rounds->model.verdict;
}

static bool take_round(struct reading *reading,
		       const struct transport_frame *frame)
{
	const struct model *model = &reading->rounds->model;

	reading->round_frames++;
	return frame->length == 24 && model_may_end(model) &&
		reading->round_frames ==
		model->rounds - reading->stream_rounds &&
		transport_number(frame->payload, 8) == reading->round_frames &&
		transport_number(frame->payload + 8, 8) ==
		model->length - reading->stream_start;
}

static bool take_digest(struct reading *reading,
			const struct transport_frame *frame)
{
	struct announced *announced;
	XXH128_canonical_t canonical;
	char name[256];

	if (transport_name(frame, 24, name))
		return false;
	announced = find(reading->rounds, name);
	if (!announced || !is_present(announced) || announced->digested ||
	    transport_number(frame->payload, 8) != announced->length)
		return false;
	announced->digested = true;
	reading->digests++;
	XXH128_canonicalFromHash(&canonical,
				 XXH3_128bits(announced->region->memory,
					      announced->length));
	return !memcmp(canonical.digest, frame->payload + 8,
		       sizeof(canonical.digest));
}

static bool take_end(const struct reading *reading,
		     const struct transport_frame *frame)
{
	const struct rounds *rounds = reading->rounds;
	uint64_t present = 0;
	unsigned int i;

	for (i = 0; i < rounds->announced_count; i++)
		present += is_present(&rounds->announced[i]);
	return frame->length == 4 &&
		reading->digests == (reading->full ? present : 0) &&
		transport_number(frame->payload, 4) == reading->digests;
}

static bool take_frame(struct reading *reading,
		       const struct transport_frame *frame)
{
	struct rounds *rounds = reading->rounds;
	const unsigned int before = reading->before;
	bool ending = before == ROUND || before == DIGEST;

	reading->before = frame->type;
	switch (frame->type) {
	case DIGEST:
		return ending && take_digest(reading, frame);
	case END:
		return ending && take_end(reading, frame);
	case REGION:
		return before != DIGEST && take_region(rounds, frame);
	case DROP:
		return before != DIGEST && take_drop(rounds, frame);
	case DATA:
		return before != DIGEST && take_data(rounds, frame);
	case ROUND:
		return before != DIGEST && take_round(reading, frame);
	default:
		return false;
	}
}

/* From HELLO to END without a flaw. */
static bool read_file(struct rounds *rounds, const struct part *file, bool full,
		      json_int_t stream_rounds)
{
	struct transport transport = {
		file->bytes, file->bytes + file->length, 0
	};
	struct reading reading = {
		.rounds = rounds,
		.full = full,
		.stream_rounds = rounds->model.rounds,
		.stream_start = rounds->model.length,
	};
	struct transport_frame frame = {};

	if (transport_next(&transport, &frame) != 1 || !take_hello(&frame))
		return false;
	while (frame.type != END) {
		if (transport_next(&transport, &frame) != 1 ||
		    !take_frame(&reading, &frame))
			return false;
	}
	return transport.at == transport.end &&
		(json_int_t)reading.round_frames == stream_rounds;
}

/**
 * rounds_sum() - the sum of a region
 * @region: region
 *
 * Return: as the manifest has it.
 */
json_t *rounds_sum(const struct model_region *region)
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
	snprintf(text, sizeof(text), "%016" PRIx64 "%016" PRIx64,
		 (uint64_t)(sum >> 64), (uint64_t)sum);
	return json_string(text);
}

/**
 * rounds_seal() - tie an entry to the line before
 * @entry: entry
 * @check: checksum of the line before, and then of this one
 *
 * Return: the line, to free().
 */
char *rounds_seal(json_t *entry, char check[33])
{
	XXH128_hash_t hash;
	char *text;

	json_object_set_new(entry, "before", json_string(check));
	json_object_del(entry, "check");
	text = json_dumps(entry, JSON_COMPACT | JSON_SORT_KEYS);
	must(text);
	hash = XXH3_128bits(text, strlen(text));
	free(text);
	snprintf(check, 33, "%016" PRIx64 "%016" PRIx64, hash.high64,
		 hash.low64);
	json_object_set_new(entry, "check", json_string(check));
	return json_dumps(entry, JSON_COMPACT);
}

/* Does the manifest say just that of a region? */
static bool is_described(const struct announced *announced, const json_t *said,
			 bool *sums)
{
	json_t *sum = rounds_sum(announced->region), *is;
	json_t *said_sum = json_object_get(said, "xxh3_sum");
	char address[24];
	bool same;

	*sums &= json_equal(said_sum, sum);
	json_decref(sum);
	if (!said_sum)
		return false;
	snprintf(address, sizeof(address), "%#" PRIx64, announced->address);
	is = json_pack("{s:s, s:I, s:s, s:I, s:O}", "name", announced->name,
		       "pid", (json_int_t)announced->pid, "address", address,
		       "length", (json_int_t)announced->length, "xxh3_sum",
		       said_sum);
	same = json_equal(is, said);
	json_decref(is);
	return same;
}

/* All that were announced have come, and are described in that order. */
static bool are_described(const struct rounds *rounds, const json_t *regions,
			  bool *sums)
{
	const struct announced *announced;
	unsigned int i, at = 0;

	*sums = true;
	for (i = 0; i < rounds->announced_count; i++) {
		announced = &rounds->announced[i];
		if (announced->dropped)
			continue;
		if (!announced->region ||
		    !is_described(announced, json_array_get(regions, at++),
				  sums))
			return false;
	}
	return json_array_size(regions) == at;
}

static void begin_anew(struct rounds *rounds)
{
	model_free(&rounds->model);
	rounds->model = (struct model){
		.admit = admit,
		.admitting = rounds,
	};
	rounds->announced_count = 0;
}

static const struct part *find_file(const struct archive *archive,
				    const struct round *round)
{
	const struct round_name name = rounds_name(round);
	unsigned int i;

	for (i = 0; i < archive->count; i++) {
		if (!strcmp(archive->names[i].text, name.text))
			return &archive->files[i];
	}
	return NULL;
}

static void judge_round(struct rounds *rounds, const struct archive *archive,
			const json_t *entry, struct round *round)
{
	static const struct round nothing = { .applies = true, .good = true };
	const struct round *before = round->base ? round - 1 : &nothing;
	const struct part *file = find_file(archive, round);
	bool sums = false;

	if (!round->base)
		begin_anew(rounds);
	round->applies = before->applies && file &&
		member(entry, "bytes") == (json_int_t)file->length &&
		read_file(rounds, file, !round->base,
			  member(entry, "stream_rounds")) &&
		are_described(rounds, json_object_get(entry, "regions"), &sums);
	round->restorable = round->applies && sums;
	round->good = before->good && round->restorable;
}

static bool is_integer(const json_t *entry, const char *name, json_int_t least)
{
	return json_is_integer(json_object_get(entry, name)) &&
		member(entry, name) >= least;
}

/* Can the line be used, behind the one whose checksum is @check? */
static bool is_line(const struct rounds *rounds, json_t *entry, char check[33])
{
	const struct round *last = rounds->list + rounds->count - 1;
	json_int_t number, base;
	json_t *sealed;
	bool same;

	if (!json_is_object(entry) || !is_integer(entry, "format", 1) ||
	    member(entry, "format") != 1 || !is_integer(entry, "round", 1) ||
	    !is_integer(entry, "base", 0) || !is_integer(entry, "bytes", 0) ||
	    !is_integer(entry, "stream_rounds", 1) ||
	    !json_is_array(json_object_get(entry, "regions")))
		return false;
	number = member(entry, "round");
	base = member(entry, "base");
	if (number == INT64_MAX || (base && base != number - 1) ||
	    (rounds->count ? number != last->number + 1 : base != 0))
		return false;
	sealed = json_copy(entry);
	free(rounds_seal(sealed, check));
	same = json_equal(sealed, entry);
	json_decref(sealed);
	return same;
}

/* A file of a round that some line should tell of. */
static bool has_lost_lines(const struct rounds *rounds,
			   const struct archive *archive)
{
	json_int_t last = 0;
	long long number;
	unsigned int i;

	if (rounds->count)
		last = rounds->list[rounds->count - 1].number;
	for (i = 0; i < archive->count; i++) {
		if (sscanf(strchr(archive->names[i].text, '-') + 1, "%lld",
			   &number) == 1 && number > last + 1)
			return true;
	}
	return false;
}

/**
 * rounds_judge() - follow a chain
 * @rounds: filled in
 * @archive: the chain
 * @most: so many lines are looked at
 */
void rounds_judge(struct rounds *rounds, const struct archive *archive,
		  unsigned int most)
{
	struct part left = archive->manifest, line;
	struct round *round;
	char check[33] = "";
	json_t *entry;

	*rounds = (struct rounds){};
	while (rounds->count < most && rounds_next_line(&left, &line)) {
		entry = json_loadb((const char *)line.bytes, line.length,
				   JSON_REJECT_DUPLICATES, NULL);
		if (!is_line(rounds, entry, check)) {
			json_decref(entry);
			rounds->damaged = true;
			return;
		}
		if (rounds->count == ROUNDS_LINES) {
			json_decref(entry);
			rounds->too_large = true;
			return;
		}
		round = &rounds->list[rounds->count];
		*round = (struct round){
			.number = member(entry, "round"),
			.base = member(entry, "base"),
		};
		judge_round(rounds, archive, entry, round);
		rounds->count++;
		json_decref(entry);
	}
	rounds->cut = left.length;
	rounds->damaged = has_lost_lines(rounds, archive);
}

/**
 * rounds_free() - forget all
 * @rounds: rounds
 */
void rounds_free(struct rounds *rounds)
{
	model_free(&rounds->model);
}

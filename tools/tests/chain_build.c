// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "chain_build.h"

#define UNIT	BUILD_UNIT

/* As docs/transport.md numbers them. */
enum { HELLO = 1, REGION, DATA, ROUND, ACK, DROP, DIGEST, END };

static unsigned int draw(struct maker *maker, unsigned int below)
{
	maker->seed ^= maker->seed << 13;
	maker->seed ^= maker->seed >> 7;
	maker->seed ^= maker->seed << 17;
	return maker->seed % below;
}

static void add_region(struct maker *maker)
{
	struct maker_region *region = &maker->regions[maker->count];

	snprintf(region->name, sizeof(region->name), "r/%u", maker->count);
	region->present = true;
	region->pages = 1 + maker->count % MAKER_PAGES;
	region->address = 0x7f0000000000 + maker->count * 0x100000ULL;
	maker->count++;
}

static void put_setup(struct maker *maker)
{
	uint64_t total = 0;
	unsigned int i;

	for (i = 0; i < maker->count; i++)
		total += maker->regions[i].present ?
			maker->regions[i].pages * UNIT : 0;
	build_setup(&maker->stream, total);
	for (i = 0; i < maker->count; i++) {
		if (maker->regions[i].present)
			build_block(&maker->stream, maker->regions[i].name,
				    maker->regions[i].pages * UNIT);
	}
	build_eos(&maker->stream);
}

static size_t put_length(uint8_t *at, unsigned int length)
{
	if (length < 128) {
		at[0] = length;
		return 1;
	}
	at[0] = length | 0x80;
	at[1] = length >> 7;
	return 2;
}

static void put_delta(struct maker *maker, const char *name, uint64_t offset,
		      uint8_t *page)
{
	unsigned int start = draw(maker, 4000), length, i;
	uint8_t delta[128];
	size_t used;

	length = 1 + draw(maker, 90);
	used = put_length(delta, start);
	used += put_length(delta + used, length);
	for (i = 0; i < length; i++) {
		page[start + i] += 1 + draw(maker, 255);
		delta[used++] = page[start + i];
	}
	build_delta(&maker->stream, name, offset, delta, used);
}

static void change(struct maker *maker, struct maker_region *region,
		   unsigned int number)
{
	uint8_t *page = region->bytes + number * UNIT;
	uint64_t offset = number * UNIT;
	uint8_t fill;

	switch (draw(maker, 8)) {
	case 0:
		memset(page, 0, UNIT);
		build_zero(&maker->stream, region->name, offset);
		break;
	case 1:
		fill = draw(maker, 256);
		memset(page, fill, UNIT);
		build_page(&maker->stream, region->name, offset, fill);
		break;
	default:
		/* Also of a page that is zero, if it was said to be. */
		if (region->received[number]) {
			put_delta(maker, region->name, offset, page);
			break;
		}
		fill = 1 + draw(maker, 255);
		memset(page, fill, UNIT);
		build_page(&maker->stream, region->name, offset, fill);
	}
	region->received[number] = true;
}

static void put_round(struct maker *maker)
{
	struct maker_region *region;
	unsigned int i;

	for (i = 0; i < maker->count; i++) {
		region = &maker->regions[i];
		if (region->present && draw(maker, 4))
			change(maker, region, draw(maker, region->pages));
	}
	build_eos(&maker->stream);
	maker->ends[maker->stream_rounds++] = maker->stream.length;
}

void maker_begin(struct maker *maker, unsigned int first)
{
	memset(maker, 0, sizeof(*maker));
	maker->seed = 0x9e3779b97f4a7c15 * (first + 1);
	maker->first = first;
	maker->round = first - 1;
}

void maker_next(struct maker *maker)
{
	unsigned int age = ++maker->round - maker->first;

	maker->stream.length = 0;
	maker->stream_rounds = 0;
	maker->announced = maker->count;
	maker->dropped = -1;
	if (age == 0) {
		add_region(maker);
		add_region(maker);
	}
	if (age % 3 == 2 && maker->count < MAKER_REGIONS)
		add_region(maker);
	if (age % 5 == 4 && age / 5 + 1 < maker->announced) {
		maker->dropped = age / 5;
		maker->regions[maker->dropped].present = false;
	}
	if (maker->count > maker->announced || maker->dropped >= 0)
		put_setup(maker);
	if (age % 4 == 3)
		put_round(maker);
	put_round(maker);
}

void maker_at(struct maker *maker, unsigned int first, unsigned int round)
{
	maker_begin(maker, first);
	while (maker->round < round)
		maker_next(maker);
}

void maker_end(struct maker *maker)
{
	build_free(&maker->stream);
}

static void put_frame(struct build *file, uint8_t type, uint32_t *sequence,
		      struct build *payload)
{
	build_frame(file, type, (*sequence)++, payload->bytes,
		    payload->length);
	payload->length = 0;
}

static void put_digest(const struct maker_region *region,
		       struct build *payload)
{
	XXH128_canonical_t canonical;
	size_t length = region->pages * UNIT;

	XXH128_canonicalFromHash(&canonical,
				 XXH3_128bits(region->bytes, length));
	build_be64(payload, length);
	build_bytes(payload, canonical.digest, sizeof(canonical.digest));
	build_bytes(payload, region->name, strlen(region->name));
}

void maker_file(const struct maker *maker, struct build *file)
{
	const struct maker_region *region;
	unsigned int i, digests = 0;
	struct build payload = {};
	uint32_t sequence = 0;
	size_t start = 0;

	file->length = 0;
	build_be64(&payload, 2);
	build_be64(&payload, 2);
	build_be32(&payload, UNIT);
	put_frame(file, HELLO, &sequence, &payload);
	if (maker->dropped >= 0) {
		region = &maker->regions[maker->dropped];
		build_bytes(&payload, region->name, strlen(region->name));
		put_frame(file, DROP, &sequence, &payload);
	}
	for (i = maker->announced; i < maker->count; i++) {
		region = &maker->regions[i];
		build_be64(&payload, region->address);
		build_be64(&payload, region->pages * UNIT);
		build_be32(&payload, 4242);
		build_bytes(&payload, region->name, strlen(region->name));
		put_frame(file, REGION, &sequence, &payload);
	}
	for (i = 0; i < maker->stream_rounds; i++) {
		build_bytes(&payload, maker->stream.bytes + start,
			    maker->ends[i] - start);
		start = maker->ends[i];
		put_frame(file, DATA, &sequence, &payload);
		build_be64(&payload, i + 1);
		build_be64(&payload, start);
		build_be64(&payload, 1);
		put_frame(file, ROUND, &sequence, &payload);
	}
	for (i = 0; maker->round == maker->first && i < maker->count; i++) {
		put_digest(&maker->regions[i], &payload);
		put_frame(file, DIGEST, &sequence, &payload);
		digests++;
	}
	build_be32(&payload, digests);
	put_frame(file, END, &sequence, &payload);
	build_free(&payload);
}

__attribute__((format(printf, 2, 3)))
static void put_text(struct build *line, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	build_bytes(line, text, strlen(text));
}

static void put_sum(const struct maker_region *region, struct build *line)
{
	unsigned __int128 sum = 0;
	XXH128_hash_t hash;
	unsigned int i, at;

	for (i = 0; i < region->pages; i++) {
		const uint8_t *page = region->bytes + i * UNIT;

		for (at = 0; at < UNIT && !page[at]; at++)
			continue;
		if (at == UNIT)
			continue;
		hash = XXH3_128bits_withSeed(page, UNIT, i);
		sum += (unsigned __int128)hash.high64 << 64 | hash.low64;
	}
	put_text(line, "%016" PRIx64 "%016" PRIx64, (uint64_t)(sum >> 64),
		 (uint64_t)sum);
}

void maker_seal(struct build *line, char *check)
{
	XXH128_hash_t hash = XXH3_128bits(line->bytes, line->length);

	snprintf(check, 33, "%016" PRIx64 "%016" PRIx64, hash.high64,
		 hash.low64);
	line->length--;
	put_text(line, ",\"check\":\"%s\"}\n", check);
}

void maker_line(const struct maker *maker, uint64_t bytes, const char *before,
		char *check, struct build *line)
{
	bool full = maker->round == maker->first, comma = false;
	const struct maker_region *region;
	unsigned int i;

	line->length = 0;
	put_text(line, "{\"base\":%u,\"before\":\"%s\",\"bytes\":%" PRIu64
		 ",\"dirty_pages\":1,\"format\":1,\"paused_us\":7,\"regions\":[",
		 full ? 0 : maker->round - 1, before, bytes);
	for (i = 0; i < maker->count; i++) {
		region = &maker->regions[i];
		if (!region->present)
			continue;
		put_text(line, "%s{\"address\":\"%#" PRIx64 "\",",
			 comma ? "," : "", region->address);
		put_text(line, "\"length\":%u,\"name\":\"%s\",",
			 region->pages * UNIT, region->name);
		put_text(line, "\"pid\":4242,\"xxh3_sum\":\"");
		put_sum(region, line);
		put_text(line, "\"}");
		comma = true;
	}
	put_text(line, "],\"round\":%u,\"stream_rounds\":%u,\"time\":\"2026-11-24T00:00:00.000Z\"",
		 maker->round, maker->stream_rounds);
	build_u8(line, '}');
	maker_seal(line, check);
}

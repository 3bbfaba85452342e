// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include <xxhash.h>

#include "transport.h"

#define PAYLOAD_MAX	(1 << 20)

/* CRC32C, a byte at a time. */
static uint32_t add_crc(uint32_t crc, const uint8_t *bytes, size_t length)
{
	static uint32_t table[256];
	unsigned int i, bit;

	for (i = 0; i < 256 && !table[255]; i++) {
		table[i] = i;
		for (bit = 0; bit < 8; bit++)
			table[i] = table[i] >> 1 ^
				(table[i] & 1 ? 0x82f63b78 : 0);
	}
	for (; length; length--)
		crc = crc >> 8 ^ table[(crc ^ *bytes++) & 0xff];
	return crc;
}

static uint32_t frame_crc(const uint8_t *frame, uint32_t length)
{
	uint32_t crc = add_crc(~0U, frame, 16);

	return ~add_crc(crc, frame + TRANSPORT_HEADER, length);
}

/**
 * transport_number() - read an integer
 * @at: its first byte
 * @length: how many bytes it has, up to 8
 *
 * Return: the integer.
 */
uint64_t transport_number(const uint8_t *at, size_t length)
{
	uint64_t value = 0;

	while (length--)
		value = value << 8 | *at++;
	return value;
}

static void put_number(uint8_t *at, size_t length, uint64_t value)
{
	for (; length--; value >>= 8)
		at[length] = value;
}

/**
 * transport_next() - take a frame
 * @transport: where frames are
 * @frame: filled in
 *
 * Return: 1 with a frame, 0 if there is none, -EPIPE if it is cut, -EBADMSG if it
 * is none.
 */
int transport_next(struct transport *transport, struct transport_frame *frame)
{
	const uint8_t *at = transport->at;
	size_t left = transport->end - at;
	uint32_t length;

	if (!left)
		return 0;
	if (left < TRANSPORT_HEADER)
		return -EPIPE;
	length = transport_number(at + 8, 4);
	if (memcmp(at, TRANSPORT_MAGIC "\1", 5) || length > PAYLOAD_MAX)
		return -EBADMSG;
	if (length > left - TRANSPORT_HEADER)
		return -EPIPE;
	if (transport_number(at + 16, 4) != frame_crc(at, length) ||
	    at[6] || at[7] ||
	    transport_number(at + 12, 4) != transport->sequence)
		return -EBADMSG;
	transport->sequence++;
	transport->at += TRANSPORT_HEADER + length;
	frame->type = at[5];
	frame->length = length;
	frame->payload = at + TRANSPORT_HEADER;
	return 1;
}

/**
 * transport_name() - take the name at the end of a payload
 * @frame: frame
 * @fixed: bytes before it
 * @name: filled in
 *
 * Return: 0, -1 if there is no proper one.
 */
int transport_name(const struct transport_frame *frame, size_t fixed,
		   char name[256])
{
	size_t length = frame->length - fixed;

	if (frame->length <= fixed || length > 255 ||
	    memchr(frame->payload + fixed, 0, length))
		return -1;
	memcpy(name, frame->payload + fixed, length);
	name[length] = '\0';
	return 0;
}

static void repair_digest(uint8_t *payload, uint32_t length,
			  struct model *model)
{
	const struct transport_frame frame = { DIGEST, length, payload };
	const struct model_region *region;
	XXH128_canonical_t canonical;
	char name[256];

	if (transport_name(&frame, 24, name))
		return;
	region = model_find(model, name);
	if (!region)
		return;
	XXH128_canonicalFromHash(&canonical,
				 XXH3_128bits(region->memory, region->length));
	put_number(payload, 8, region->length);
	memcpy(payload + 8, canonical.digest, sizeof(canonical.digest));
}

/* What a frame says of those before it; wrong by @lie. */
static void repair_payload(uint8_t *frame, uint32_t length,
			   struct model *model, unsigned int part_rounds,
			   size_t part_start, uint32_t *digests, uint32_t lie)
{
	uint8_t *payload = frame + TRANSPORT_HEADER;

	switch (frame[5]) {
	case DATA:
		model_feed(model, payload, length);
		break;
	case ROUND:
		if (length != 24)
			break;
		put_number(payload, 8, model->rounds - part_rounds);
		put_number(payload + 8, 8, model->length - part_start + lie);
		break;
	case DIGEST:
		repair_digest(payload, length, model);
		if (length > 8)
			payload[8] ^= lie;
		++*digests;
		break;
	case END:
		if (length == 4)
			put_number(payload, 4, *digests + lie);
		break;
	}
}

/**
 * transport_repair() - make frames of what was changed at random
 * @data: bytes; one frame is what stands between two magics
 * @size: how many
 * @what: random; how much is repaired
 * @model: what the stream has come to before, and then after
 */
void transport_repair(uint8_t *data, size_t size, unsigned int what,
		      struct model *model)
{
	unsigned int part_rounds = model->rounds;
	size_t part_start = model->length;
	uint8_t *at = data, *end = data + size, *next;
	uint32_t sequence = 0, digests = 0, length, lie;
	const unsigned int how = what / 32 % 8;

	if (what % 32 == 0)
		return;
	for (; end - at >= TRANSPORT_HEADER; at = next) {
		next = memmem(at + 4, end - at - 4, TRANSPORT_MAGIC, 4);
		if (!next)
			next = end;
		length = next - at - TRANSPORT_HEADER;
		if (next - at < TRANSPORT_HEADER)
			continue;
		memcpy(at, TRANSPORT_MAGIC "\1", 5);
		memset(at + 6, 0, 2);
		put_number(at + 8, 4, length);
		put_number(at + 12, 4, sequence++);
		lie = how == 1 && sequence % 4 == what / 256 % 4;
		if (how)
			repair_payload(at, length, model, part_rounds,
				       part_start, &digests, lie);
		/* Wrong, with a checksum that is right. */
		at[7] = how == 2 && sequence % 4 == what / 256 % 4;
		put_number(at + 16, 4, frame_crc(at, length));
	}
}

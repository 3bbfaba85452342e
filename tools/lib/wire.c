// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The stream's grammar as a push parser.
 *
 * An item (a record, or one block of a setup section) is gathered in a buffer
 * until it is complete and then checked as a whole, so that it makes no
 * difference how the input is cut. Nothing of the input is believed: every
 * length is bounded before it is waited for.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "xbzrle.h"

#define UNIT		XBZRLE_UNIT_SIZE
#define FLAG_OBSOLETE	0x01u
#define FLAG_ZERO	0x02u
#define FLAG_MEM_SIZE	0x04u
#define FLAG_PAGE	0x08u
#define FLAG_EOS	0x10u
#define FLAG_CONTINUE	0x20u
#define FLAG_XBZRLE	0x40u
#define FLAG_KNOWN	0x7fu
#define FLAG_MASK	((uint64_t)UNIT - 1)

#define DELTA_VERSION	0x01
/* The longest item: header, name, a delta's version and length, a whole page. */
#define ITEM_MAX	(8 + 1 + XBZRLE_NAME_MAX + 3 + UNIT)
#define NO_REGION	UINT32_MAX

enum wire_state {
	WIRE_START,		/* nothing but a setup section may come */
	WIRE_BLOCKS,		/* in a setup section */
	WIRE_SETUP_EOS,		/* its EOS is due */
	WIRE_BETWEEN,		/* a setup section or a round */
	WIRE_ROUND,		/* in a round */
	WIRE_BROKEN,		/* an error was told; there is no way on */
};

struct wire_region {
	uint64_t length;
	uint64_t setup;		/* number of the last setup that listed it */
	uint32_t index;
	bool present;
	char name[];
};

/* One with room for any name, to look for. */
union wire_key {
	struct wire_region region;
	char room[sizeof(struct wire_region) + XBZRLE_NAME_MAX + 1];
};

struct xbzrle_wire {
	enum wire_state state;
	const uint8_t *input;
	size_t input_left;
	uint64_t position;	/* of item[0] in the stream */
	size_t have;		/* bytes in item[] */
	size_t done;		/* bytes of item[] handed out already */
	uint64_t setup_left;
	uint64_t setups;
	uint32_t current;	/* what CONTINUE means, or NO_REGION */
	uint32_t region_count;
	struct wire_region **regions;
	void *by_name;
	struct xbzrle_error broken;
	uint8_t item[ITEM_MAX];
};

static uint64_t get_be64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return be64toh(value);
}

static uint16_t get_be16(const uint8_t *at)
{
	return at[0] << 8 | at[1];
}

static int compare_names(const void *a, const void *b)
{
	const struct wire_region *left = a, *right = b;

	return strcmp(left->name, right->name);
}

static void keep_node(void *node)
{
	/* The nodes' regions are freed through the array. */
	(void)node;
}

/**
 * xbzrle_wire_new() - begin to parse a stream
 * @err: set on failure
 *
 * Return: a parser that stands at the stream's first byte, or NULL.
 */
struct xbzrle_wire *xbzrle_wire_new(struct xbzrle_error *err)
{
	struct xbzrle_wire *wire = calloc(1, sizeof(*wire));

	if (!wire) {
		xbzrle_fail(err, ENOMEM, 0, "no memory for a parser");
		return NULL;
	}
	wire->current = NO_REGION;
	return wire;
}

/**
 * xbzrle_wire_free() - end parsing
 * @wire: parser, or NULL
 */
void xbzrle_wire_free(struct xbzrle_wire *wire)
{
	uint32_t i;

	if (!wire)
		return;
	tdestroy(wire->by_name, keep_node);
	for (i = 0; i < wire->region_count; i++)
		free(wire->regions[i]);
	free(wire->regions);
	free(wire);
}

/**
 * xbzrle_wire_feed() - give the parser more of the stream
 * @wire: parser; all that it was fed before has been taken, that is
 *	xbzrle_wire_next() has returned 0
 * @data: bytes, which must stay until xbzrle_wire_next() returns 0
 * @length: how many, any number
 */
void xbzrle_wire_feed(struct xbzrle_wire *wire, const void *data,
		      size_t length)
{
	wire->input = data;
	wire->input_left = length;
}

/**
 * xbzrle_wire_position() - how far the parser is
 * @wire: parser
 *
 * Return: bytes of the stream taken so far.
 */
uint64_t xbzrle_wire_position(const struct xbzrle_wire *wire)
{
	return wire->position + wire->have;
}

/**
 * xbzrle_wire_present() - was a region in the newest setup section?
 * @wire: parser
 * @region: number of the region in the stream
 *
 * Return: false as well if there is no such region.
 */
bool xbzrle_wire_present(const struct xbzrle_wire *wire, uint32_t region)
{
	return region < wire->region_count && wire->regions[region]->present;
}

/* What the eight bytes at the head of a record may be in this state. */
static int check_header(const struct xbzrle_wire *wire, uint64_t header,
			struct xbzrle_error *err)
{
	unsigned int flags = header & FLAG_MASK;
	unsigned int kind = flags & ~FLAG_CONTINUE;

	if (flags & ~FLAG_KNOWN)
		return xbzrle_fail(err, EBADMSG, wire->position,
				   "flags %#x of a feature that is not supported",
				   flags);
	if (flags & FLAG_OBSOLETE)
		return xbzrle_fail(err, EBADMSG, wire->position,
				   "obsolete flag 0x1 in flags %#x", flags);
	if (!kind || kind & (kind - 1))
		return xbzrle_fail(err, EBADMSG, wire->position,
				   "flags %#x are not exactly one kind of record",
				   flags);
	if (kind & (FLAG_EOS | FLAG_MEM_SIZE) && flags & FLAG_CONTINUE)
		return xbzrle_fail(err, EBADMSG, wire->position,
				   "flags %#x continue a region without a page",
				   flags);
	if (kind == FLAG_EOS && header != FLAG_EOS)
		return xbzrle_fail(err, EBADMSG, wire->position,
				   "an end of section with an offset");

	switch (wire->state) {
	case WIRE_START:
		if (kind != FLAG_MEM_SIZE)
			return xbzrle_fail(err, EBADMSG, wire->position,
					   "the stream does not begin with a setup section");
		break;
	case WIRE_SETUP_EOS:
		if (kind != FLAG_EOS)
			return xbzrle_fail(err, EBADMSG, wire->position,
					   "the setup section does not end where its total says");
		break;
	case WIRE_ROUND:
		if (kind == FLAG_MEM_SIZE)
			return xbzrle_fail(err, EBADMSG, wire->position,
					   "a setup section inside a round");
		break;
	default:
		break;
	}

	if (flags & FLAG_CONTINUE && wire->current == NO_REGION)
		return xbzrle_fail(err, EBADMSG, wire->position,
				   "the round's first record names no region");
	return 0;
}

/*
 * How many bytes must be there before more can be said: the item's size if
 * they are there already. Returns 0 or a negative errno.
 */
static int measure(const struct xbzrle_wire *wire, size_t *need,
		   struct xbzrle_error *err)
{
	const uint8_t *item = wire->item;
	size_t size = 8;
	uint64_t header;
	int ret;

	if (wire->state == WIRE_BLOCKS) {
		*need = 1;
		if (wire->have >= 1)
			*need = 1 + item[0] + 8;
		return 0;
	}

	if (wire->have < size)
		goto wait;
	header = get_be64(item);
	ret = check_header(wire, header, err);
	if (ret)
		return ret;
	if (header & (FLAG_EOS | FLAG_MEM_SIZE))
		goto wait;

	if (!(header & FLAG_CONTINUE)) {
		size += 1;
		if (wire->have < size)
			goto wait;
		size += item[size - 1];
	}
	if (header & FLAG_ZERO) {
		size += 1;
	} else if (header & FLAG_PAGE) {
		size += UNIT;
	} else if (header & FLAG_XBZRLE) {
		size += 3;
		if (wire->have < size)
			goto wait;
		if (item[size - 3] != DELTA_VERSION)
			return xbzrle_fail(err, EBADMSG,
					   wire->position + size - 3,
					   "a delta of unknown kind %#x",
					   item[size - 3]);
		if (get_be16(item + size - 2) > UNIT)
			return xbzrle_fail(err, EBADMSG,
					   wire->position + size - 2,
					   "a delta of %u bytes, longer than a page",
					   get_be16(item + size - 2));
		size += get_be16(item + size - 2);
	}
wait:
	*need = size;
	return 0;
}

static struct wire_region *find_region(const struct xbzrle_wire *wire,
				       struct wire_region *key,
				       const uint8_t *name, size_t length)
{
	struct wire_region **node;

	memcpy(key->name, name, length);
	key->name[length] = '\0';
	node = tfind(key, &wire->by_name, compare_names);
	return node ? *node : NULL;
}

/* Puts a new region under its name, in place of a dropped one. */
static struct wire_region *add_region(struct xbzrle_wire *wire,
				      const struct wire_region *key,
				      struct xbzrle_error *err)
{
	size_t size = sizeof(*key) + strlen(key->name) + 1;
	uint32_t count = wire->region_count;
	struct wire_region **regions, *region;

	if (count == XBZRLE_STREAM_REGIONS) {
		xbzrle_fail(err, EBADMSG, wire->position,
			    "more than %u regions", XBZRLE_STREAM_REGIONS);
		return NULL;
	}
	/* Room for a power of two. */
	if (!(count & (count - 1))) {
		regions = reallocarray(wire->regions, count ? 2 * count : 1,
				       sizeof(*regions));
		if (!regions)
			goto no_memory;
		wire->regions = regions;
	}

	region = malloc(size);
	if (!region)
		goto no_memory;
	memcpy(region, key, size);
	region->index = count;
	region->present = false;
	region->setup = 0;

	tdelete(region, &wire->by_name, compare_names);
	if (!tsearch(region, &wire->by_name, compare_names))
		goto free_region;
	wire->regions[wire->region_count++] = region;
	return region;

free_region:
	free(region);
no_memory:
	xbzrle_fail(err, ENOMEM, wire->position, "no memory for a region");
	return NULL;
}

static int check_name(const struct xbzrle_wire *wire, const uint8_t *name,
		      size_t length, struct xbzrle_error *err)
{
	if (!length)
		return xbzrle_fail(err, EBADMSG, wire->position,
				   "a region without a name");
	if (memchr(name, '\0', length))
		return xbzrle_fail(err, EBADMSG, wire->position,
				   "a region name with a NUL in it");
	return 0;
}

static int parse_block(struct xbzrle_wire *wire, struct xbzrle_record *record,
		       struct xbzrle_error *err)
{
	union wire_key key = {};
	size_t name_len = wire->item[0];
	struct wire_region *region;
	uint64_t length;
	bool fresh;
	int ret;

	ret = check_name(wire, wire->item + 1, name_len, err);
	if (ret)
		return ret;
	length = get_be64(wire->item + 1 + name_len);
	if (!length || length % UNIT)
		return xbzrle_fail(err, EBADMSG, wire->position,
				   "a region of %llu bytes, which is not a number of pages",
				   (unsigned long long)length);
	if (length > wire->setup_left)
		return xbzrle_fail(err, EBADMSG, wire->position,
				   "the regions are longer than the setup section's total");

	region = find_region(wire, &key.region, wire->item + 1, name_len);
	if (region && region->setup == wire->setups)
		return xbzrle_fail(err, EBADMSG, wire->position,
				   "region '%.64s' twice in a setup section",
				   region->name);
	if (region && region->present && region->length != length)
		return xbzrle_fail(err, EBADMSG, wire->position,
				   "region '%.64s' changes its length from %llu to %llu bytes",
				   region->name,
				   (unsigned long long)region->length,
				   (unsigned long long)length);

	fresh = !region || !region->present;
	if (fresh) {
		key.region.length = length;
		region = add_region(wire, &key.region, err);
		if (!region)
			return -(err->code);
	}
	region->setup = wire->setups;

	wire->setup_left -= length;
	if (!wire->setup_left)
		wire->state = WIRE_SETUP_EOS;

	record->kind = XBZRLE_RECORD_BLOCK;
	record->region = region->index;
	record->fresh = fresh;
	record->name = region->name;
	record->length = length;
	return 0;
}

static void end_setup(struct xbzrle_wire *wire)
{
	uint32_t i;

	for (i = 0; i < wire->region_count; i++)
		wire->regions[i]->present =
			wire->regions[i]->setup == wire->setups;
}

static int parse_page(struct xbzrle_wire *wire, struct xbzrle_record *record,
		      struct xbzrle_error *err)
{
	union wire_key key = {};
	uint64_t header = get_be64(wire->item);
	const uint8_t *body = wire->item + 8;
	struct wire_region *region;
	int ret;

	if (header & FLAG_CONTINUE) {
		region = wire->regions[wire->current];
	} else {
		ret = check_name(wire, body + 1, body[0], err);
		if (ret)
			return ret;
		region = find_region(wire, &key.region, body + 1, body[0]);
		if (!region || !region->present)
			return xbzrle_fail(err, EBADMSG, wire->position,
					   "region '%.64s' is not in the setup section",
					   key.region.name);
		wire->current = region->index;
		body += 1 + body[0];
	}

	record->region = region->index;
	record->name = region->name;
	record->offset = header & ~FLAG_MASK;
	if (record->offset >= region->length)
		return xbzrle_fail(err, EBADMSG, wire->position,
				   "offset %#llx is outside of region '%.64s' of %#llx bytes",
				   (unsigned long long)record->offset,
				   region->name,
				   (unsigned long long)region->length);

	if (header & FLAG_ZERO) {
		record->kind = XBZRLE_RECORD_ZERO;
		if (body[0])
			return xbzrle_fail(err, EBADMSG, wire->position,
					   "a zero page filled with %#x",
					   body[0]);
	} else if (header & FLAG_PAGE) {
		record->kind = XBZRLE_RECORD_PAGE;
		record->data = body;
		record->length = UNIT;
	} else if (header & FLAG_XBZRLE) {
		record->kind = XBZRLE_RECORD_DELTA;
		record->data = body + 3;
		record->length = get_be16(body + 1);
		if (!record->length)
			return xbzrle_fail(err, EBADMSG, wire->position,
					   "a delta of no bytes");
	}
	wire->state = WIRE_ROUND;
	return 0;
}

static int parse_item(struct xbzrle_wire *wire, struct xbzrle_record *record,
		      struct xbzrle_error *err)
{
	uint64_t header;

	if (wire->state == WIRE_BLOCKS)
		return parse_block(wire, record, err);

	header = get_be64(wire->item);
	if (header & FLAG_MEM_SIZE) {
		wire->setups++;
		wire->setup_left = header & ~FLAG_MASK;
		wire->state = wire->setup_left ? WIRE_BLOCKS : WIRE_SETUP_EOS;
		record->kind = XBZRLE_RECORD_SETUP;
		record->length = wire->setup_left;
		return 0;
	}
	if (header & FLAG_EOS) {
		record->kind = XBZRLE_RECORD_EOS;
		if (wire->state == WIRE_SETUP_EOS) {
			record->kind = XBZRLE_RECORD_SETUP_END;
			end_setup(wire);
		}
		wire->state = WIRE_BETWEEN;
		wire->current = NO_REGION;
		return 0;
	}
	return parse_page(wire, record, err);
}

/* Gathers one item and parses it: 1, 0 if the input ends before, or -errno. */
static int next_item(struct xbzrle_wire *wire, struct xbzrle_record *record,
		     struct xbzrle_error *err)
{
	size_t need = 0, take;
	int ret;

	wire->position += wire->done;
	wire->have -= wire->done;
	wire->done = 0;

	for (;;) {
		ret = measure(wire, &need, err);
		if (ret)
			return ret;
		if (wire->have == need)
			break;
		take = need - wire->have;
		if (take > wire->input_left)
			take = wire->input_left;
		if (!take)
			return 0;
		memcpy(wire->item + wire->have, wire->input, take);
		wire->have += take;
		wire->input += take;
		wire->input_left -= take;
	}

	memset(record, 0, sizeof(*record));
	record->position = wire->position;
	record->size = need;
	ret = parse_item(wire, record, err);
	if (ret)
		return ret;
	wire->done = need;
	return 1;
}

/**
 * xbzrle_wire_next() - take the next record of what was fed
 * @wire: parser
 * @record: filled in
 * @err: set on failure, with the position in the stream. An error stays: the
 *	parser gives no records after it.
 *
 * Return: 1 with a record, 0 when all that was fed is taken, -EBADMSG if the
 * stream breaks the grammar, -ENOMEM.
 */
int xbzrle_wire_next(struct xbzrle_wire *wire, struct xbzrle_record *record,
		     struct xbzrle_error *err)
{
	int ret = -1;

	if (wire->state != WIRE_BROKEN) {
		ret = next_item(wire, record, &wire->broken);
		if (ret >= 0)
			return ret;
		wire->state = WIRE_BROKEN;
	}
	if (err)
		*err = wire->broken;
	return -wire->broken.code;
}

/**
 * xbzrle_wire_end() - may the stream end here?
 * @wire: parser that has taken all of the stream
 * @err: set if not
 *
 * Return: 0 after a complete setup section or round, -EBADMSG elsewhere.
 */
int xbzrle_wire_end(const struct xbzrle_wire *wire, struct xbzrle_error *err)
{
	uint64_t position = xbzrle_wire_position(wire);

	if (wire->state == WIRE_BROKEN) {
		if (err)
			*err = wire->broken;
		return -wire->broken.code;
	}
	if (wire->have != wire->done)
		return xbzrle_fail(err, EBADMSG, position,
				   "the stream is cut short inside a record");
	if (wire->state == WIRE_BETWEEN)
		return 0;
	return xbzrle_fail(err, EBADMSG, position,
			   wire->state == WIRE_START ? "the stream is empty" :
			   wire->state == WIRE_ROUND ?
			   "the stream is cut short inside a round" :
			   "the stream is cut short inside its setup section");
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>

#include "array.h"
#include "tally.h"

static unsigned int length_class(unsigned int length)
{
	return 31 - __builtin_clz(length);
}

/* ULEB128 of one or two bytes: how many it has, 0 if it is malformed. */
static size_t take_length(const uint8_t *at, size_t left, unsigned int *length)
{
	if (!left)
		return 0;
	*length = at[0] & 0x7f;
	if (!(at[0] & 0x80))
		return 1;
	if (left < 2 || at[1] & 0x80)
		return 0;
	*length |= at[1] << 7;
	return 2;
}

static int tally_delta(struct tally *tally, const struct xbzrle_record *record,
		       struct xbzrle_error *err)
{
	const uint8_t *at = record->data, *end = at + record->length;
	unsigned int equal, new, covered = 0;
	size_t used;

	while (at < end) {
		used = take_length(at, end - at, &equal);
		if (!used || (!equal && covered))
			goto malformed;
		at += used;
		used = take_length(at, end - at, &new);
		if (!used || !new)
			goto malformed;
		at += used;
		covered += equal + new;
		if (new > end - at || covered > XBZRLE_UNIT_SIZE)
			goto malformed;
		at += new;
		if (equal)
			tally->equal[length_class(equal)]++;
		tally->new[length_class(new)]++;
	}
	return 0;

malformed:
	return xbzrle_fail(err, EBADMSG, record->position,
			   "the delta of the page at %#llx is malformed",
			   (unsigned long long)record->offset);
}

static int add_region(struct tally *tally, const struct xbzrle_record *record)
{
	struct tally_region *regions;

	if (!record->fresh)
		return 0;
	regions = array_room(tally->regions, tally->region_count, sizeof(*regions));
	if (!regions)
		return -ENOMEM;
	tally->regions = regions;
	regions[tally->region_count++] = (struct tally_region){
		.name = record->name,
		.length = record->length,
	};
	return 0;
}

static struct tally_round *this_round(struct tally *tally, uint64_t position,
				      struct xbzrle_error *err)
{
	struct tally_round *rounds = tally->rounds;

	if (tally->in_round)
		return &rounds[tally->round_count - 1];
	if (tally->round_count == TALLY_ROUNDS) {
		xbzrle_fail(err, EOVERFLOW, position,
			    "more than %u rounds, of which no more are counted: look at the beginning of the stream alone",
			    TALLY_ROUNDS);
		return NULL;
	}
	rounds = array_room(rounds, tally->round_count, sizeof(*rounds));
	if (!rounds) {
		xbzrle_fail(err, ENOMEM, position, "no memory");
		return NULL;
	}
	tally->rounds = rounds;
	tally->in_round = true;
	rounds[tally->round_count] = (struct tally_round){};
	return &rounds[tally->round_count++];
}

static void count(struct tally_kind *kind, const struct xbzrle_record *record)
{
	kind->records++;
	kind->bytes += record->size;
}

/**
 * tally_record() - count a record
 * @tally: all zero at first
 * @record: as xbzrle_wire_next() gave it; its name must stay
 * @err: set on failure
 *
 * Return: 0, -EBADMSG if it is a delta and malformed, -EOVERFLOW, -ENOMEM.
 */
int tally_record(struct tally *tally, const struct xbzrle_record *record,
		 struct xbzrle_error *err)
{
	struct tally_round *round;

	switch (record->kind) {
	case XBZRLE_RECORD_BLOCK:
		if (add_region(tally, record))
			return xbzrle_fail(err, ENOMEM, record->position,
					   "no memory");
		tally->setup_bytes += record->size;
		return 0;
	case XBZRLE_RECORD_SETUP:
	case XBZRLE_RECORD_SETUP_END:
		tally->setup_bytes += record->size;
		return 0;
	default:
		break;
	}

	round = this_round(tally, record->position, err);
	if (!round)
		return -err->code;
	round->bytes += record->size;
	switch (record->kind) {
	case XBZRLE_RECORD_ZERO:
		count(&round->zero, record);
		break;
	case XBZRLE_RECORD_PAGE:
		count(&round->page, record);
		break;
	case XBZRLE_RECORD_DELTA:
		count(&round->delta, record);
		return tally_delta(tally, record, err);
	default:
		tally->in_round = false;
	}
	return 0;
}

/**
 * tally_release() - forget what was counted
 * @tally: tally
 */
void tally_release(struct tally *tally)
{
	free(tally->regions);
	free(tally->rounds);
}

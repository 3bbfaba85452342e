// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "grammar.h"
#include "model.h"

enum {
	ZERO		= 0x02,
	MEM_SIZE	= 0x04,
	PAGE		= 0x08,
	SECTION_END	= 0x10,
	CONTINUE	= 0x20,
	XBZRLE		= 0x40,
};

/* A page as it was before this round. */
struct model_undo {
	struct model_undo *next;
	struct model_region *region;
	unsigned int number;
	bool received;
	uint8_t page[MODEL_UNIT];
};

/* Bytes that are taken one field after the other. */
struct fields {
	const uint8_t *at;
	size_t left;
	bool cut;
};

static const uint8_t *skip(struct fields *fields, size_t length)
{
	const uint8_t *at = fields->at;

	if (fields->cut || fields->left < length) {
		fields->cut = true;
		return NULL;
	}
	fields->at += length;
	fields->left -= length;
	return at;
}

/* 0 if it is cut. */
static uint64_t number(struct fields *fields, size_t length)
{
	const uint8_t *at = skip(fields, length);
	uint64_t value = 0;

	for (; at && length; length--)
		value = value << 8 | *at++;
	return value;
}

static void wrong(struct model *model, enum model_verdict verdict, size_t at)
{
	model->verdict = verdict;
	model->error_at = model->item + at;
}

static struct model_region *find(struct model *model, const uint8_t *name,
				 size_t length)
{
	unsigned int i = model->count;

	while (i--) {
		if (strlen(model->regions[i]->name) == length &&
		    !memcmp(model->regions[i]->name, name, length))
			return model->regions[i];
	}
	return NULL;
}

/**
 * model_find() - find a region
 * @model: model
 * @name: its name
 *
 * Return: the last of that name, or NULL.
 */
struct model_region *model_find(struct model *model, const char *name)
{
	return find(model, (const uint8_t *)name, strlen(name));
}

static void forget_undo(struct model *model)
{
	struct model_undo *undo;

	while ((undo = model->undo)) {
		model->undo = undo->next;
		free(undo);
	}
}

static uint8_t *change_page(struct model *model, struct model_region *region,
			    unsigned int page)
{
	struct model_undo *undo = fuzz_alloc(sizeof(*undo));

	undo->next = model->undo;
	undo->region = region;
	undo->number = page;
	undo->received = region->received[page];
	memcpy(undo->page, region->memory[page], MODEL_UNIT);
	model->undo = undo;
	region->received[page] = true;
	return region->memory[page];
}

/**
 * model_break_off() - the round that is not complete has never been
 * @model: model
 */
void model_break_off(struct model *model)
{
	struct model_undo *undo;

	for (undo = model->undo; undo; undo = undo->next) {
		memcpy(undo->region->memory[undo->number], undo->page,
		       MODEL_UNIT);
		undo->region->received[undo->number] = undo->received;
	}
	forget_undo(model);
}

static void take_block(struct model *model, struct fields *fields)
{
	size_t name_len = number(fields, 1);
	const uint8_t *name = skip(fields, name_len);
	uint64_t length = number(fields, 8);
	struct model_region *region;

	if (fields->cut)
		return;
	if (!name_len || memchr(name, 0, name_len) || !length ||
	    length % MODEL_UNIT || length > model->setup_left)
		return wrong(model, MODEL_MALFORMED, 0);
	region = find(model, name, name_len);
	if (region && (region->setup == model->setups ||
		       (region->present && region->length != length)))
		return wrong(model, MODEL_MALFORMED, 0);
	if (!region || !region->present) {
		region = calloc(1, sizeof(*region));
		must(region);
		memcpy(region->name, name, name_len);
		region->length = length;
		if (model->admit && !model->admit(model->admitting, region))
			wrong(model, MODEL_REFUSED, 0);
		else if (model->count == MODEL_REGIONS ||
			 length > MODEL_PAGES * MODEL_UNIT)
			wrong(model, MODEL_TOO_LARGE, 0);
		if (model->verdict) {
			free(region);
			return;
		}
		model->regions[model->count++] = region;
	}
	region->setup = model->setups;
	model->setup_left -= length;
}

static void take_page(struct model *model, uint64_t header,
		      struct fields *fields)
{
	const uint64_t offset = header & -(uint64_t)MODEL_UNIT;
	struct model_region *region = model->current;
	const uint8_t *name = NULL, *body;
	size_t name_len = 0, length = 1, at;
	unsigned int kind;
	uint8_t *page;

	if (!(header & CONTINUE)) {
		name_len = number(fields, 1);
		name = skip(fields, name_len);
	}
	if (header & PAGE)
		length = MODEL_UNIT;
	if (header & XBZRLE) {
		kind = number(fields, 1);
		length = number(fields, 2);
		at = fields->at - model->bytes - model->item;
		if (kind != 1 && !fields->cut)
			return wrong(model, MODEL_MALFORMED, at - 3);
		if (length > MODEL_UNIT)
			return wrong(model, MODEL_MALFORMED, at - 2);
	}
	body = skip(fields, length);
	if (fields->cut)
		return;
	if (!(header & CONTINUE))
		region = find(model, name, name_len);
	if (!region || !region->present || offset >= region->length ||
	    !length || (header & ZERO && body[0]))
		return wrong(model, MODEL_MALFORMED, 0);

	model->state = MODEL_ROUND;
	model->current = region;
	if (region->dropped)
		return wrong(model, MODEL_NO_PLACE, 0);
	if (header & XBZRLE && !region->received[offset / MODEL_UNIT])
		return wrong(model, MODEL_NO_BASE, 0);
	page = change_page(model, region, offset / MODEL_UNIT);
	if (header & ZERO)
		memset(page, 0, MODEL_UNIT);
	else if (header & PAGE)
		memcpy(page, body, MODEL_UNIT);
	else if (grammar_decode(body, length, page, MODEL_UNIT) < 0)
		wrong(model, MODEL_BAD_DELTA, 0);
}

static void take_eos(struct model *model)
{
	struct model_region *region;
	unsigned int i;

	if (model->state != MODEL_BLOCKS) {
		model->rounds++;
		forget_undo(model);
	}
	for (i = 0; i < model->count && model->state == MODEL_BLOCKS; i++) {
		region = model->regions[i];
		region->present = region->setup == model->setups;
		region->dropped |= !region->present;
	}
	model->current = NULL;
	model->state = MODEL_BETWEEN;
}

/* Which kinds of item may come now. */
static unsigned int may_come(const struct model *model)
{
	switch (model->state) {
	case MODEL_START:
		return MEM_SIZE;
	case MODEL_BLOCKS:
		return SECTION_END;
	case MODEL_BETWEEN:
		return MEM_SIZE | SECTION_END | ZERO | PAGE | XBZRLE;
	default:
		return SECTION_END | ZERO | PAGE | XBZRLE;
	}
}

static void take_item(struct model *model, struct fields *fields)
{
	unsigned int flags, kind;
	uint64_t header;

	if (model->state == MODEL_BLOCKS && model->setup_left)
		return take_block(model, fields);
	header = number(fields, 8);
	if (fields->cut)
		return;
	flags = header % MODEL_UNIT;
	kind = flags & ~CONTINUE;
	if (__builtin_popcount(kind) != 1 || !(kind & may_come(model)) ||
	    (kind == SECTION_END && header != SECTION_END) ||
	    (flags & CONTINUE && !model->current))
		return wrong(model, MODEL_MALFORMED, 0);
	switch (kind) {
	case MEM_SIZE:
		model->setups++;
		model->setup_left = header - flags;
		model->state = MODEL_BLOCKS;
		break;
	case SECTION_END:
		take_eos(model);
		break;
	default:
		take_page(model, header, fields);
	}
}

/**
 * model_feed() - follow the stream
 * @model: all zero at first
 * @bytes: what comes next
 * @length: how many bytes
 *
 * Stops before the first item that is wrong, or not complete.
 */
void model_feed(struct model *model, const uint8_t *bytes, size_t length)
{
	struct fields fields;

	model->bytes = realloc(model->bytes, model->length + length + 1);
	must(model->bytes);
	memcpy(model->bytes + model->length, bytes, length);
	model->length += length;
	while (!model->verdict) {
		fields.at = model->bytes + model->item;
		fields.left = model->length - model->item;
		fields.cut = false;
		take_item(model, &fields);
		if (fields.cut || model->verdict)
			break;
		model->item = fields.at - model->bytes;
	}
}

/**
 * model_may_end() - is the stream complete?
 * @model: model
 *
 * Return: true if so, as far as it can be told.
 */
bool model_may_end(const struct model *model)
{
	return !model->verdict && model->state == MODEL_BETWEEN &&
		model->item == model->length;
}

/**
 * model_free() - forget all
 * @model: model
 */
void model_free(struct model *model)
{
	unsigned int i;

	forget_undo(model);
	for (i = 0; i < model->count; i++)
		free(model->regions[i]);
	free(model->bytes);
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "array.h"
#include "command.h"
#include "replica.h"
#include "signals.h"

#define UNIT	XBZRLE_UNIT_SIZE

/**
 * replica_open() - begin with nothing
 * @replica: filled in
 * @images: files for the regions, or NULL
 * @memory: bytes that what comes may take, as for xbzrle_image_limit()
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int replica_open(struct replica *replica, struct images *images,
		 uint64_t memory, struct xbzrle_error *err)
{
	*replica = (struct replica){ .images = images };
	replica->wire = xbzrle_wire_new(err);
	if (!replica->wire)
		return -ENOMEM;
	replica->image = xbzrle_image_new(images ? images->dir : -1, err);
	if (!replica->image) {
		xbzrle_wire_free(replica->wire);
		return -err->code;
	}
	xbzrle_image_limit(replica->image, memory);
	return 0;
}

static void release(struct replica_region *region)
{
	if (region->memory)
		munmap(region->memory, region->length);
	free(region->filled);
	free(region->received);
	region->memory = NULL;
	region->filled = NULL;
	region->received = NULL;
}

/**
 * replica_close() - forget all; files stay
 * @replica: replica
 */
void replica_close(struct replica *replica)
{
	size_t i;

	for (i = 0; i < replica->count; i++)
		release(&replica->regions[i]);
	free(replica->regions);
	xbzrle_image_free(replica->image);
	xbzrle_wire_free(replica->wire);
}

/**
 * replica_find() - find a region that has not ended
 * @replica: replica
 * @name: its name
 *
 * Return: the region, or NULL.
 */
struct replica_region *replica_find(const struct replica *replica,
				    const char *name)
{
	size_t i;

	for (i = 0; i < replica->count; i++) {
		if (replica->regions[i].state != REPLICA_DROPPED &&
		    !strcmp(replica->regions[i].name, name))
			return &replica->regions[i];
	}
	return NULL;
}

static bool name_used(const struct replica *replica, const char *name)
{
	size_t i;

	for (i = 0; i < replica->count; i++) {
		if (!strcmp(replica->regions[i].name, name))
			return true;
	}
	return false;
}

/* A name is used once: who restores to files has one for each. */
static struct replica_region *add(struct replica *replica, const char *name,
				  uint64_t length, struct xbzrle_error *err)
{
	struct replica_region *regions, *new;

	if (name_used(replica, name)) {
		xbzrle_fail(err, EBADMSG, 0,
			    "region '%s' was announced twice", name);
		return NULL;
	}
	if (replica->count == XBZRLE_STREAM_REGIONS) {
		xbzrle_fail(err, EBADMSG, 0,
			    "more than %u regions: begin a new chain, or a new transfer",
			    XBZRLE_STREAM_REGIONS);
		return NULL;
	}
	regions = array_room(replica->regions, replica->count, sizeof(*regions));
	if (!regions) {
		xbzrle_fail(err, ENOMEM, 0, "no memory for a region");
		return NULL;
	}
	replica->regions = regions;
	new = &regions[replica->count++];
	*new = (struct replica_region){ .length = length };
	snprintf(new->name, sizeof(new->name), "%s", name);
	return new;
}

/**
 * replica_announce() - a region will come
 * @replica: replica
 * @region: as announced; no other of that name may have been there
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int replica_announce(struct replica *replica,
		     const struct frame_region *region,
		     struct xbzrle_error *err)
{
	struct replica_region *new;

	new = add(replica, region->name, region->length, err);
	if (!new)
		return -err->code;
	new->announced = true;
	new->address = region->address;
	new->pid = region->pid;
	return replica->images ?
		images_announce(replica->images, region, err) : 0;
}

/**
 * replica_drop() - a region has ended
 * @replica: replica
 * @region: region
 */
void replica_drop(struct replica *replica, struct replica_region *region)
{
	struct images_region *image;

	if (region->state == REPLICA_PRESENT)
		xbzrle_image_drop(replica->image, region->number);
	if (replica->images) {
		image = images_find(replica->images, region->name);
		if (image)
			images_drop(replica->images, image);
	}
	release(region);
	region->state = REPLICA_DROPPED;
}

static int add_memory(struct replica *replica, struct replica_region *region,
		      struct xbzrle_error *err)
{
	size_t bitmap = (region->length / UNIT + 7) / 8;
	void *memory;

	memory = mmap(NULL, region->length, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory != MAP_FAILED) {
		region->memory = memory;
		/* One page would take a huge one's memory; EINVAL has none. */
		madvise(memory, region->length, MADV_NOHUGEPAGE);
		region->filled = calloc(bitmap, 1);
		region->received = calloc(bitmap, 1);
	}
	if (!region->filled || !region->received)
		return xbzrle_fail(err, ENOMEM, 0,
				   "no memory for the %" PRIu64 " bytes of region '%s'",
				   region->length, region->name);
	return xbzrle_image_add_memory(replica->image, region->number, memory,
				       region->length, err);
}

static int add_file(struct replica *replica,
		    const struct xbzrle_record *block,
		    struct xbzrle_error *err)
{
	struct images_region *image;
	int ret;

	ret = images_create(replica->images, block, &image, err);
	if (ret)
		return ret;
	return xbzrle_image_add_file(replica->image, block->region, image->fd,
				     image->length, err);
}

static bool is_number(const struct replica_region *region, uint32_t number)
{
	return region->state == REPLICA_PRESENT && region->number == number;
}

static struct replica_region *by_number(struct replica *replica,
					uint32_t number)
{
	struct replica_region *regions = replica->regions;
	size_t i;

	/* Pages of a region come one after the other, and so do regions. */
	for (i = replica->recent; i < replica->recent + 2; i++) {
		if (i < replica->count && is_number(&regions[i], number))
			goto found;
	}
	for (i = 0; i < replica->count; i++) {
		if (is_number(&regions[i], number))
			goto found;
	}
	return NULL;

found:
	replica->recent = i;
	return &regions[i];
}

static struct replica_region *find_new(struct replica *replica,
				       const struct xbzrle_record *block,
				       struct xbzrle_error *err)
{
	struct replica_region *region = replica_find(replica, block->name);

	if (!region && replica->unannounced)
		return add(replica, block->name, block->length, err);
	if (!region)
		xbzrle_fail(err, EBADMSG, block->position,
			    "region '%s' was not announced", block->name);
	return region;
}

static int take_block(struct replica *replica,
		      const struct xbzrle_record *block,
		      struct xbzrle_error *err)
{
	struct replica_region *region;

	if (!block->fresh && by_number(replica, block->region))
		return 0;
	/* To a stream that begins after the DROP it would be a new one. */
	if (!block->fresh)
		return xbzrle_fail(err, EBADMSG, block->position,
				   "region '%s' was dropped, and is in a setup section",
				   block->name);
	region = find_new(replica, block, err);
	if (!region)
		return -err->code;
	if (region->state == REPLICA_PRESENT ||
	    region->length != block->length)
		return xbzrle_fail(err, EBADMSG, block->position,
				   "region '%s' of %" PRIu64 " bytes is not what was announced",
				   block->name, block->length);
	region->number = block->region;
	region->state = REPLICA_PRESENT;
	return replica->images ? add_file(replica, block, err) :
		add_memory(replica, region, err);
}

/* A setup section that leaves a region out has dropped it. */
static void drop_absent(struct replica *replica)
{
	struct replica_region *region;
	size_t i;

	for (i = 0; i < replica->count; i++) {
		region = &replica->regions[i];
		if (region->state == REPLICA_PRESENT &&
		    !xbzrle_wire_present(replica->wire, region->number))
			replica_drop(replica, region);
	}
}

static void count_round(struct replica *replica)
{
	struct images *images = replica->images;
	size_t i;

	replica->rounds++;
	for (i = 0; images && i < images->count; i++) {
		if (images->regions[i].state == IMAGES_PRESENT)
			images->regions[i].rounds++;
	}
}

/* In memory: the sum loses the page as it was, and gets it as it is now. */
static int take_page(struct replica *replica,
		     const struct xbzrle_record *record,
		     struct xbzrle_error *err)
{
	struct replica_region *region = by_number(replica, record->region);
	uint64_t number = record->offset / UNIT;
	uint8_t bit = 1 << number % 8;
	uint8_t *filled, *page;
	int ret;

	/* Dropped by a DROP, and still in the setup section. */
	if (!region)
		return xbzrle_fail(err, EBADMSG, record->position,
				   "a page of region '%s', which was dropped",
				   record->name);
	filled = &region->filled[number / 8];
	page = region->memory + record->offset;
	if (*filled & bit)
		digest_sum_remove(&region->sum, page, number);
	*filled &= ~bit;
	ret = xbzrle_image_apply(replica->image, record, err);
	if (ret)
		return ret;
	region->received[number / 8] |= bit;
	if (record->kind != XBZRLE_RECORD_ZERO && !digest_page_is_zero(page)) {
		digest_sum_add(&region->sum, page, number);
		*filled |= bit;
	}
	return 0;
}

static int take_record(struct replica *replica,
		       const struct xbzrle_record *record,
		       struct xbzrle_error *err)
{
	int ret;

	switch (record->kind) {
	case XBZRLE_RECORD_SETUP:
		return 0;
	case XBZRLE_RECORD_BLOCK:
		return take_block(replica, record, err);
	case XBZRLE_RECORD_SETUP_END:
		drop_absent(replica);
		return 0;
	case XBZRLE_RECORD_EOS:
		ret = xbzrle_image_apply(replica->image, record, err);
		if (!ret)
			count_round(replica);
		return ret;
	default:
		return replica->images ?
			xbzrle_image_apply(replica->image, record, err) :
			take_page(replica, record, err);
	}
}

/**
 * replica_take() - apply some of the stream
 * @replica: replica
 * @data: bytes, cut anywhere
 * @length: how many
 * @err: set on failure
 *
 * Return: 0 or a negative errno; nothing more can be taken then.
 */
int replica_take(struct replica *replica, const void *data, size_t length,
		 struct xbzrle_error *err)
{
	struct xbzrle_record record;
	int ret;

	xbzrle_wire_feed(replica->wire, data, length);
	while ((ret = xbzrle_wire_next(replica->wire, &record, err)) > 0) {
		/* Each may cost a look at all regions, and a frame has many. */
		ret = signals_check(err);
		if (!ret)
			ret = take_record(replica, &record, err);
		if (ret)
			break;
	}
	return command_at_limit(command_at_byte(ret, err), err);
}

/**
 * replica_begin_part() - what comes now is counted anew
 * @replica: replica, between two rounds
 */
void replica_begin_part(struct replica *replica)
{
	replica->part_rounds = replica->rounds;
	replica->part_start = xbzrle_wire_position(replica->wire);
}

/**
 * replica_round() - how far the part has come
 * @replica: replica
 *
 * Return: its rounds and bytes.
 */
struct frame_round replica_round(const struct replica *replica)
{
	return (struct frame_round){
		.round = replica->rounds - replica->part_rounds,
		.position = xbzrle_wire_position(replica->wire) -
			replica->part_start,
	};
}

/**
 * replica_check_round() - has the stream come to where a round is said to end?
 * @replica: replica
 * @round: as the ROUND frame has it, counted from the beginning of the part
 * @err: set if not
 *
 * Return: 0 or -EBADMSG.
 */
int replica_check_round(const struct replica *replica,
			const struct frame_round *round,
			struct xbzrle_error *err)
{
	const struct frame_round ours = replica_round(replica);
	int ret = command_at_byte(xbzrle_wire_end(replica->wire, err), err);

	if (ret)
		return ret;
	if (round->round == ours.round && round->position == ours.position)
		return 0;
	return xbzrle_fail(err, EBADMSG, 0,
			   "round %" PRIu64 " should end at byte %" PRIu64
			   ", round %" PRIu64 " ends at byte %" PRIu64,
			   round->round, round->position, ours.round,
			   ours.position);
}

/**
 * replica_digest() - the digest of a region
 * @replica: replica
 * @region: region that is present
 * @digest: filled in with DIGEST_SIZE bytes
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int replica_digest(const struct replica *replica,
		   const struct replica_region *region, uint8_t *digest,
		   struct xbzrle_error *err)
{
	const struct images_region *image;

	if (!replica->images)
		return digest_memory(region->memory, region->filled,
				     region->length, digest, err);
	image = images_find(replica->images, region->name);
	return digest_file(image->fd, region->length, digest, err);
}

/**
 * replica_sum() - the sum of a region
 * @replica: replica
 * @region: region that is present
 * @sum: filled in
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int replica_sum(const struct replica *replica,
		const struct replica_region *region, struct digest_sum *sum,
		struct xbzrle_error *err)
{
	const struct images_region *image;

	*sum = region->sum;
	if (!replica->images)
		return 0;
	image = images_find(replica->images, region->name);
	return digest_sum_file(image->fd, region->length, sum, err);
}

/**
 * replica_present() - how many regions there are
 * @replica: replica
 *
 * Return: those that are present.
 */
size_t replica_present(const struct replica *replica)
{
	size_t i, present = 0;

	for (i = 0; i < replica->count; i++)
		present += replica->regions[i].state == REPLICA_PRESENT;
	return present;
}

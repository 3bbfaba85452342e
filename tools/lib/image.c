// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * A receiver: regions that records are applied to.
 *
 * In memory records are applied as they come. In files a round is applied as
 * a whole or not at all: a page that was never received goes into its hole at
 * once, because a broken round can be undone there by punching the hole again;
 * everything else waits in a spool for the round's EOS. The spool is needed
 * for little, because the first round, which is by far the largest, writes to
 * holes only. Space is reserved and deltas are checked before a record is
 * taken, so that a full disk or a bad delta is found before the EOS.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xbzrle/codec.h>

#include "account.h"
#include "spool.h"

#define UNIT		XBZRLE_UNIT_SIZE

/* Lengths and offsets of 64 bits are used as sizes of memory and of files. */
_Static_assert(sizeof(size_t) == 8 && sizeof(off_t) == 8,
	       "libxbzrle is for 64-bit systems, as the module is");

struct image_region {
	uint8_t *memory;	/* NULL if in a file */
	int fd;
	uint64_t length;	/* 0: no such region */
	struct account account;
};

struct xbzrle_image {
	struct image_region *regions;
	uint32_t region_count;
	struct account_budget budget;
	struct xbzrle_spool *spool;
};

/**
 * xbzrle_image_new() - begin to receive
 * @spool_dir: directory fd for the spool file of regions in files, or -1 if
 *	all regions will be in memory; not needed after the call
 * @err: set on failure
 *
 * Return: an image without regions, or NULL.
 */
struct xbzrle_image *xbzrle_image_new(int spool_dir, struct xbzrle_error *err)
{
	struct xbzrle_image *image = calloc(1, sizeof(*image));

	if (!image) {
		xbzrle_fail(err, ENOMEM, 0, "no memory for an image");
		return NULL;
	}
	image->budget.limit = UINT64_MAX;
	if (spool_dir >= 0) {
		image->spool = xbzrle_spool_new(spool_dir, err);
		if (!image->spool)
			goto free_image;
	}
	return image;

free_image:
	free(image);
	return NULL;
}

/**
 * xbzrle_image_limit() - say how much memory an image may take
 * @image: image without regions
 * @bytes: for the account of pages, and for pages of regions in memory that are
 *	not holes, with their page tables; without this call it is as much as
 *	there is
 */
void xbzrle_image_limit(struct xbzrle_image *image, uint64_t bytes)
{
	image->budget.limit = bytes;
}

/**
 * xbzrle_image_free() - end receiving
 * @image: image, or NULL; a round that is not complete should have been given
 *	to xbzrle_image_abort() before
 */
void xbzrle_image_free(struct xbzrle_image *image)
{
	uint32_t i;

	if (!image)
		return;
	for (i = 0; i < image->region_count; i++)
		xbzrle_account_end(&image->regions[i].account, &image->budget);
	free(image->regions);
	xbzrle_spool_free(image->spool);
	free(image);
}

static struct image_region *find_region(struct xbzrle_image *image,
					uint32_t index)
{
	if (index >= image->region_count || !image->regions[index].length)
		return NULL;
	return &image->regions[index];
}

static int add_region(struct xbzrle_image *image, uint32_t index,
		      const struct image_region *region,
		      struct xbzrle_error *err)
{
	struct image_region *regions = image->regions;
	uint32_t count = image->region_count;
	struct account account;
	int ret;

	if (index >= XBZRLE_STREAM_REGIONS || find_region(image, index) ||
	    !region->length || region->length % UNIT)
		return xbzrle_fail(err, EINVAL, 0,
				   "region %u cannot be added", index);

	ret = xbzrle_account_begin(&account, region->length / UNIT,
				   &image->budget, err);
	if (ret)
		return ret;
	if (index >= count) {
		regions = reallocarray(regions, index + 1, sizeof(*regions));
		if (!regions)
			goto end_account;
		memset(regions + count, 0,
		       (index + 1 - count) * sizeof(*regions));
		image->regions = regions;
		image->region_count = index + 1;
	}
	regions[index] = *region;
	regions[index].account = account;
	return 0;

end_account:
	xbzrle_account_end(&account, &image->budget);
	return xbzrle_fail(err, ENOMEM, 0, "no memory for a region");
}

/**
 * xbzrle_image_add_memory() - receive a region into memory
 * @image: image
 * @region: number of the region, from its BLOCK record
 * @addr: memory that is zero
 * @length: its bytes, as in the BLOCK record
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int xbzrle_image_add_memory(struct xbzrle_image *image, uint32_t region,
			    void *addr, uint64_t length,
			    struct xbzrle_error *err)
{
	const struct image_region new = {
		.memory = addr,
		.fd = -1,
		.length = length,
	};

	return add_region(image, region, &new, err);
}

/**
 * xbzrle_image_add_file() - receive a region into a file
 * @image: image that has a spool
 * @region: number of the region, from its BLOCK record
 * @fd: empty file, open for reading and writing; stays the caller's and must
 *	stay open until the region is dropped
 * @length: the region's bytes; the file gets this size
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int xbzrle_image_add_file(struct xbzrle_image *image, uint32_t region, int fd,
			  uint64_t length, struct xbzrle_error *err)
{
	const struct image_region new = {
		.fd = fd,
		.length = length,
	};

	if (!image->spool)
		return xbzrle_fail(err, EINVAL, 0, "the image has no spool");
	if (length > INT64_MAX || ftruncate(fd, length))
		return xbzrle_fail(err, length > INT64_MAX ? EFBIG : errno, 0,
				   "cannot make a file of %llu bytes: %s",
				   (unsigned long long)length,
				   strerror(length > INT64_MAX ? EFBIG :
					    errno));
	return add_region(image, region, &new, err);
}

/**
 * xbzrle_image_drop() - forget a region
 * @image: image
 * @region: number of the region; no record of it is taken any more
 */
void xbzrle_image_drop(struct xbzrle_image *image, uint32_t region)
{
	struct image_region *dropped = find_region(image, region);

	if (!dropped)
		return;
	xbzrle_account_end(&dropped->account, &image->budget);
	dropped->length = 0;
}

static bool is_stored(const struct image_region *region, uint64_t offset)
{
	return xbzrle_account_get(&region->account, offset / UNIT) &
	       ACCOUNT_STORED;
}

static int write_page(struct image_region *region, uint64_t offset,
		      const void *page, struct xbzrle_error *err)
{
	const char *from = page;
	size_t done = 0;
	ssize_t ret;

	while (done < UNIT) {
		ret = pwrite(region->fd, from + done, UNIT - done,
			     offset + done);
		if (ret < 0 && errno == EINTR)
			continue;
		if (ret < 0)
			return xbzrle_fail(err, errno, 0,
					   "cannot write the image: %s",
					   strerror(errno));
		done += ret;
	}
	xbzrle_account_store(&region->account, offset / UNIT, true);
	return 0;
}

static int read_page(const struct image_region *region, uint64_t offset,
		     void *page, struct xbzrle_error *err)
{
	if (!is_stored(region, offset)) {
		memset(page, 0, UNIT);
		return 0;
	}
	if (pread(region->fd, page, UNIT, offset) != UNIT)
		return xbzrle_fail(err, EIO, 0, "cannot read the image back");
	return 0;
}

static int punch(const struct image_region *region, uint64_t offset,
		 uint64_t length)
{
	if (fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      offset, length))
		return -errno;
	return 0;
}

static int zero_page(struct image_region *region, uint64_t offset,
		     struct xbzrle_error *err)
{
	static const char zeros[UNIT];

	if (!is_stored(region, offset))
		return 0;
	if (punch(region, offset, UNIT))
		return write_page(region, offset, zeros, err);
	xbzrle_account_store(&region->account, offset / UNIT, false);
	return 0;
}

/* Decodes onto a page that is in memory. */
static int decode(const struct xbzrle_record *record, void *page,
		  struct xbzrle_error *err)
{
	if (xbzrle_decode(record->data, record->length, page, UNIT) < 0)
		return xbzrle_fail(err, EBADMSG, record->position,
				   "the delta of the page at %#llx is malformed",
				   (unsigned long long)record->offset);
	return 0;
}

/* Memory that nothing was written to stays a hole, and takes none. */
static int apply_to_memory(struct xbzrle_image *image,
			   struct image_region *region,
			   const struct xbzrle_record *record,
			   struct xbzrle_error *err)
{
	struct account *account = &region->account;
	uint64_t number = record->offset / UNIT;
	uint8_t state = xbzrle_account_get(account, number);
	uint8_t *page = region->memory + record->offset;
	int ret = 0;

	if (!(state & ACCOUNT_RECEIVED))
		ret = xbzrle_account_receive(account, number, &image->budget,
					     err);
	if (!ret && record->kind != XBZRLE_RECORD_ZERO &&
	    !(state & ACCOUNT_STORED))
		ret = xbzrle_account_take(account, UNIT +
					  (xbzrle_account_needs_table(account,
								      number) ?
					   UNIT : 0), &image->budget, err);
	if (ret)
		return ret;
	switch (record->kind) {
	case XBZRLE_RECORD_ZERO:
		if (state & ACCOUNT_STORED)
			memset(page, 0, UNIT);
		return 0;
	case XBZRLE_RECORD_PAGE:
		memcpy(page, record->data, UNIT);
		break;
	default:
		ret = decode(record, page, err);
	}
	xbzrle_account_store(account, number, true);
	return ret;
}

/* A page that was never received: what is done here can be undone. */
static int fill_hole(struct xbzrle_image *image, struct image_region *region,
		     const struct xbzrle_record *record,
		     struct xbzrle_error *err)
{
	int ret;

	ret = xbzrle_account_receive(&region->account, record->offset / UNIT,
				     &image->budget, err);
	if (ret || record->kind == XBZRLE_RECORD_ZERO)
		return ret;
	return write_page(region, record->offset, record->data, err);
}

static int put_aside(struct xbzrle_image *image,
		     const struct image_region *region,
		     const struct xbzrle_record *record,
		     struct xbzrle_error *err)
{
	char scratch[UNIT];
	int ret;

	if (record->kind == XBZRLE_RECORD_DELTA) {
		ret = decode(record, scratch, err);
		if (ret)
			return ret;
	}
	if (record->kind != XBZRLE_RECORD_ZERO &&
	    !is_stored(region, record->offset) &&
	    fallocate(region->fd, FALLOC_FL_KEEP_SIZE, record->offset, UNIT) &&
	    errno != EOPNOTSUPP)
		return xbzrle_fail(err, errno, record->position,
				   "no room for the image: %s",
				   strerror(errno));
	return xbzrle_spool_put(image->spool, record, err);
}

static int commit_record(struct image_region *region,
			 const struct xbzrle_record *record,
			 struct xbzrle_error *err)
{
	char page[UNIT];
	int ret;

	switch (record->kind) {
	case XBZRLE_RECORD_ZERO:
		return zero_page(region, record->offset, err);
	case XBZRLE_RECORD_PAGE:
		return write_page(region, record->offset, record->data, err);
	default:
		ret = read_page(region, record->offset, page, err);
		if (ret)
			return ret;
		ret = decode(record, page, err);
		if (ret)
			return ret;
		return write_page(region, record->offset, page, err);
	}
}

static int commit_round(struct xbzrle_image *image, struct xbzrle_error *err)
{
	struct image_region *region;
	struct xbzrle_record record;
	uint32_t i;
	int ret;

	if (image->spool) {
		ret = xbzrle_spool_rewind(image->spool, err);
		if (ret)
			return ret;
	}
	for (i = 0; i < image->region_count; i++)
		xbzrle_account_settle(&image->regions[i].account);
	if (!image->spool)
		return 0;
	while ((ret = xbzrle_spool_get(image->spool, &record, err)) > 0) {
		region = find_region(image, record.region);
		if (!region)
			continue;
		ret = commit_record(region, &record, err);
		if (ret)
			return ret;
	}
	if (!ret)
		xbzrle_spool_empty(image->spool);
	return ret;
}

/**
 * xbzrle_image_apply() - take a record
 * @image: image
 * @record: as xbzrle_wire_next() gave it; SETUP, BLOCK and SETUP_END do nothing
 * @err: set on failure; the round must then be given to xbzrle_image_abort()
 *
 * In files a page changes at the round's EOS and not before.
 *
 * Return: 0; -EBADMSG if the record cannot be applied: its region was not
 * added, its delta is malformed, or has no page to apply to; or another
 * negative errno.
 */
int xbzrle_image_apply(struct xbzrle_image *image,
		       const struct xbzrle_record *record,
		       struct xbzrle_error *err)
{
	struct image_region *region;
	bool received;

	switch (record->kind) {
	case XBZRLE_RECORD_SETUP:
	case XBZRLE_RECORD_BLOCK:
	case XBZRLE_RECORD_SETUP_END:
		return 0;
	case XBZRLE_RECORD_EOS:
		return commit_round(image, err);
	default:
		break;
	}

	region = find_region(image, record->region);
	if (!region || record->offset >= region->length ||
	    record->offset % UNIT)
		return xbzrle_fail(err, EBADMSG, record->position,
				   "no place for the page at %#llx of region %u",
				   (unsigned long long)record->offset,
				   record->region);

	received = xbzrle_account_get(&region->account, record->offset / UNIT) &
		ACCOUNT_RECEIVED;
	if (record->kind == XBZRLE_RECORD_DELTA && !received)
		return xbzrle_fail(err, EBADMSG, record->position,
				   "a delta for the page at %#llx, which was never received",
				   (unsigned long long)record->offset);

	if (region->memory)
		return apply_to_memory(image, region, record, err);
	if (!received)
		return fill_hole(image, region, record, err);
	return put_aside(image, region, record, err);
}

/**
 * xbzrle_image_abort() - give up the round that is not complete
 * @image: image
 * @err: set on failure
 *
 * Files are then as they were after the round before. Memory keeps what the
 * broken round has written.
 *
 * Return: 0 or a negative errno if a file could not be put back.
 */
int xbzrle_image_abort(struct xbzrle_image *image, struct xbzrle_error *err)
{
	struct image_region *region;
	uint64_t first, count;
	int failed = 0, ret;
	uint32_t i;

	for (i = 0; i < image->region_count; i++) {
		region = &image->regions[i];
		while (!region->memory &&
		       xbzrle_account_undo(&region->account, &first, &count)) {
			ret = punch(region, first * UNIT, count * UNIT);
			if (ret)
				failed = xbzrle_fail(err, -ret, 0,
						     "cannot undo the broken round: %s",
						     strerror(-ret));
		}
	}
	if (image->spool)
		xbzrle_spool_empty(image->spool);
	return failed;
}

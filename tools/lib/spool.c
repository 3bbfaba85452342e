// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "spool.h"

struct entry {
	enum xbzrle_record_kind kind;
	uint32_t region;
	uint64_t offset;
	uint64_t position;
	uint32_t length;
};

struct xbzrle_spool {
	FILE *file;
	uint64_t entries;
	uint64_t left;		/* entries still to get */
	char data[XBZRLE_UNIT_SIZE];
};

/*
 * A file without a name. Where the filesystem has no such thing it has one for
 * a moment, which no other image may use in that moment.
 */
static int open_file(int dir, const struct xbzrle_spool *spool)
{
	char name[64];
	int fd;

	fd = openat(dir, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd;
	snprintf(name, sizeof(name), ".xbzrle-spool.%d.%p", getpid(),
		 (const void *)spool);
	fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		unlinkat(dir, name, 0);
	return fd;
}

/**
 * xbzrle_spool_new() - make an empty spool
 * @dir: directory for the file, which has no name there
 * @err: set on failure
 *
 * Return: the spool, or NULL.
 */
struct xbzrle_spool *xbzrle_spool_new(int dir, struct xbzrle_error *err)
{
	struct xbzrle_spool *spool = calloc(1, sizeof(*spool));
	int fd;

	if (!spool) {
		xbzrle_fail(err, ENOMEM, 0, "no memory for a spool");
		return NULL;
	}
	fd = open_file(dir, spool);
	if (fd < 0)
		goto free_spool;
	spool->file = fdopen(fd, "w+");
	if (!spool->file)
		goto close_fd;
	return spool;

close_fd:
	close(fd);
free_spool:
	xbzrle_fail(err, errno, 0, "cannot make a spool file: %s",
		    strerror(errno));
	free(spool);
	return NULL;
}

/**
 * xbzrle_spool_free() - throw a spool away
 * @spool: spool, or NULL
 */
void xbzrle_spool_free(struct xbzrle_spool *spool)
{
	if (!spool)
		return;
	fclose(spool->file);
	free(spool);
}

/**
 * xbzrle_spool_put() - append a record
 * @spool: spool
 * @record: ZERO, PAGE or DELTA
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int xbzrle_spool_put(struct xbzrle_spool *spool,
		     const struct xbzrle_record *record,
		     struct xbzrle_error *err)
{
	const struct entry entry = {
		.kind = record->kind,
		.region = record->region,
		.offset = record->offset,
		.position = record->position,
		.length = record->data ? record->length : 0,
	};

	errno = EIO;
	if (fwrite(&entry, sizeof(entry), 1, spool->file) != 1 ||
	    (entry.length &&
	     fwrite(record->data, entry.length, 1, spool->file) != 1))
		return xbzrle_fail(err, errno, record->position,
				   "cannot keep the round: %s",
				   strerror(errno));
	spool->entries++;
	return 0;
}

/**
 * xbzrle_spool_rewind() - turn from putting to getting
 * @spool: spool
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int xbzrle_spool_rewind(struct xbzrle_spool *spool, struct xbzrle_error *err)
{
	if (fflush(spool->file) || fseeko(spool->file, 0, SEEK_SET))
		return xbzrle_fail(err, errno, 0, "cannot keep the round: %s",
				   strerror(errno));
	spool->left = spool->entries;
	return 0;
}

/**
 * xbzrle_spool_get() - take the next record
 * @spool: spool, after xbzrle_spool_rewind()
 * @record: filled in; its data is valid until the next call
 * @err: set on failure
 *
 * Return: 1 with a record, 0 after the last, or a negative errno.
 */
int xbzrle_spool_get(struct xbzrle_spool *spool, struct xbzrle_record *record,
		     struct xbzrle_error *err)
{
	struct entry entry;

	if (!spool->left)
		return 0;
	errno = EIO;
	if (fread(&entry, sizeof(entry), 1, spool->file) != 1 ||
	    entry.length > sizeof(spool->data) ||
	    (entry.length &&
	     fread(spool->data, entry.length, 1, spool->file) != 1))
		return xbzrle_fail(err, errno, 0,
				   "cannot read back the round: %s",
				   strerror(errno));
	spool->left--;

	memset(record, 0, sizeof(*record));
	record->kind = entry.kind;
	record->region = entry.region;
	record->offset = entry.offset;
	record->position = entry.position;
	record->length = entry.length;
	record->data = spool->data;
	return 1;
}

/**
 * xbzrle_spool_empty() - drop what it holds
 * @spool: spool
 */
void xbzrle_spool_empty(struct xbzrle_spool *spool)
{
	/*
	 * Bytes that stdio still holds after a failed write must not be
	 * written later, in front of another round.
	 */
	__fpurge(spool->file);
	rewind(spool->file);
	/* If it cannot shrink, what is beyond the entries does no harm. */
	(void)!ftruncate(fileno(spool->file), 0);
	spool->entries = 0;
	spool->left = 0;
}

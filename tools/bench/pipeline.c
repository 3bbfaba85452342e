// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * What a migrator does that has no module: /proc tells which pages were
 * written, process_vm_readv() reads them, the same codec encodes them against
 * bases of the program's own. The records are those of docs/stream.md, in a
 * buffer that is used anew when it is full.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <error.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include <xbzrle/codec.h>

#include "kinds.h"
#include "pipeline.h"
#include "session.h"

#define ZERO		0x02
#define PAGE		0x08
#define EOS		0x10
#define CONTINUE	0x20
#define XBZRLE		0x40

#define NAME		"memory"
#define NAME_BYTES	(sizeof(NAME) - 1)
/* Of a record of a delta: be64, encoding, be16. */
#define DELTA_HEADER	11
#define EOS_BYTES	8
#define RECORD_MAX	(8 + 1 + NAME_BYTES + PAGE_BYTES)
#define STREAM_BYTES	(8 * MIB)

static void put_be64(struct pipeline *pipeline, uint64_t value)
{
	value = htobe64(value);
	memcpy(pipeline->end, &value, sizeof(value));
	pipeline->end += sizeof(value);
}

static void put_header(struct pipeline *pipeline, uint32_t page, uint64_t flag,
		       bool first)
{
	put_be64(pipeline, (uint64_t)page * PAGE_BYTES | flag |
			   (first ? 0 : CONTINUE));
	if (!first)
		return;
	*pipeline->end++ = NAME_BYTES;
	memcpy(pipeline->end, NAME, NAME_BYTES);
	pipeline->end += NAME_BYTES;
}

/* Whether there was something to send. */
static bool put_delta(struct pipeline *pipeline, uint32_t page,
		      const uint8_t *base, const uint8_t *content, bool first)
{
	uint8_t *start = pipeline->end;
	uint16_t be_len;
	ssize_t len;

	put_header(pipeline, page, XBZRLE, first);
	len = xbzrle_encode(base, content, PAGE_BYTES, pipeline->end + 3,
			    PAGE_BYTES - DELTA_HEADER);
	if (len <= 0)
		pipeline->end = start;
	if (!len)
		return false;
	if (len < 0) {
		put_header(pipeline, page, PAGE, first);
		memcpy(pipeline->end, content, PAGE_BYTES);
		pipeline->end += PAGE_BYTES;
		return true;
	}
	*pipeline->end++ = 1;
	be_len = htobe16(len);
	memcpy(pipeline->end, &be_len, sizeof(be_len));
	pipeline->end += sizeof(be_len) + len;
	return true;
}

static bool is_zero(const uint8_t *content)
{
	return !*content && !memcmp(content, content + 1, PAGE_BYTES - 1);
}

/* Encodes a page that was read, and leaves one that is free in its place. */
static bool encode(struct pipeline *pipeline, uint32_t page, uint8_t **staged,
		   bool first)
{
	struct base *base = bases_find(&pipeline->bases, page);
	uint8_t *content = *staged;
	bool sent = true;

	if (base)
		pipeline->hits++;
	else
		pipeline->misses++;
	if (is_zero(content)) {
		put_header(pipeline, page, ZERO, first);
		*pipeline->end++ = 0;
	} else if (base) {
		sent = put_delta(pipeline, page, base->content, content, first);
	} else {
		put_header(pipeline, page, PAGE, first);
		memcpy(pipeline->end, content, PAGE_BYTES);
		pipeline->end += PAGE_BYTES;
	}

	if (base) {
		*staged = base->content;
		base->content = content;
		base->round = pipeline->round;
	} else {
		*staged = bases_admit(&pipeline->bases, page, content,
				      pipeline->round);
	}
	return sent;
}

static void read_pages(const struct pipeline *pipeline, const uint32_t *pages,
		       uint32_t nr)
{
	struct iovec local[PIPELINE_BATCH], remote[PIPELINE_BATCH];
	uint32_t i;

	for (i = 0; i < nr; i++) {
		local[i].iov_base = pipeline->staged[i];
		local[i].iov_len = PAGE_BYTES;
		remote[i].iov_base = pipeline->writer.memory +
				     (size_t)pages[i] * PAGE_BYTES;
		remote[i].iov_len = PAGE_BYTES;
	}
	if (process_vm_readv(pipeline->writer.pid, local, nr, remote, nr, 0) !=
	    (ssize_t)nr * PAGE_BYTES)
		error(1, errno, "process_vm_readv");
}

static void empty(struct pipeline *pipeline)
{
	pipeline->bytes += pipeline->end - pipeline->stream;
	pipeline->end = pipeline->stream;
}

/**
 * pipeline_begin() - have a writer, and send its memory a first time
 * @pipeline: filled in
 * @scan: how written pages are found
 * @length: bytes of memory
 * @budget: bytes for bases
 */
void pipeline_begin(struct pipeline *pipeline, const struct scan *scan,
		    uint64_t length, uint64_t budget)
{
	const struct writer_memory memory = {
		.length = length, .fd = -1, .watched = scan->watched,
	};
	uint32_t pages = length / PAGE_BYTES, i;

	*pipeline = (struct pipeline){
		.scan = scan,
		.found = calloc(pages, sizeof(*pipeline->found)),
		.stream = malloc(STREAM_BYTES),
	};
	pipeline->end = pipeline->stream;
	if (!pipeline->found || !pipeline->stream)
		error(1, 0, "out of memory");
	for (i = 0; i < PIPELINE_BATCH; i++) {
		pipeline->staged[i] = malloc(PAGE_BYTES);
		if (!pipeline->staged[i])
			error(1, 0, "out of memory");
	}
	bases_begin(&pipeline->bases, budget / PAGE_BYTES, pages);
	writer_start(&pipeline->writer, &memory);
	scan_begin(&pipeline->scanner, pipeline->writer.pid,
		   pipeline->writer.memory, pages);
	pipeline_sync(pipeline);
	pipeline_read(pipeline);
}

/**
 * pipeline_sync() - begin a round: find what was written
 * @pipeline: pipeline, whose writer is stopped
 */
void pipeline_sync(struct pipeline *pipeline)
{
	pipeline->nr = pipeline->scan->find(&pipeline->scanner,
					    pipeline->found);
	pipeline->round++;
}

/**
 * pipeline_read() - read and encode what was found
 * @pipeline: pipeline
 *
 * Return: Bytes of the round.
 */
uint64_t pipeline_read(struct pipeline *pipeline)
{
	uint32_t done, some, i;
	bool first = true;

	pipeline->bytes = 0;
	for (done = 0; done < pipeline->nr; done += some) {
		some = pipeline->nr - done;
		if (some > PIPELINE_BATCH)
			some = PIPELINE_BATCH;
		read_pages(pipeline, pipeline->found + done, some);
		if (pipeline->end + some * RECORD_MAX >
		    pipeline->stream + STREAM_BYTES - EOS_BYTES)
			empty(pipeline);
		for (i = 0; i < some; i++)
			if (encode(pipeline, pipeline->found[done + i],
				   &pipeline->staged[i], first))
				first = false;
	}
	put_be64(pipeline, EOS);
	empty(pipeline);
	return pipeline->bytes;
}

/**
 * pipeline_end() - end the writer
 * @pipeline: pipeline, whose writer is stopped
 */
void pipeline_end(struct pipeline *pipeline)
{
	uint32_t i;

	scan_end(&pipeline->scanner);
	writer_end(&pipeline->writer);
	bases_end(&pipeline->bases);
	for (i = 0; i < PIPELINE_BATCH; i++)
		free(pipeline->staged[i]);
	free(pipeline->found);
	free(pipeline->stream);
}

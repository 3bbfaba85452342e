/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* A process that writes to memory of its own, as fast as it can, until told. */
#ifndef BENCH_WRITER_H
#define BENCH_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct kind;
struct writer_control;

/**
 * struct writer_memory - what a writer has
 * @length: bytes, all of them populated
 * @fd: file to map, or -1 for private anonymous memory
 * @huge: have huge pages, which is for private memory
 * @watched: have userfaultfd note what is written, for PAGEMAP_SCAN
 */
struct writer_memory {
	uint64_t length;
	int fd;
	bool huge;
	bool watched;
};

/**
 * struct writer - a writing process, stopped but between writer_run() and
 * writer_stop()
 * @pid: process
 * @memory: where its memory is
 * @control: shared with it
 */
struct writer {
	pid_t pid;
	uint8_t *memory;
	struct writer_control *control;
};

void writer_start(struct writer *writer, const struct writer_memory *memory);
void writer_set_pages(struct writer *writer, const uint32_t *pages,
		      uint32_t nr, const struct kind *kind);
void writer_run(struct writer *writer);
void writer_stop(struct writer *writer);
double writer_pass(struct writer *writer);
double writer_fork(struct writer *writer, double *write);
void writer_end(struct writer *writer);

#endif /* BENCH_WRITER_H */

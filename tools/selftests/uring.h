/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* Just enough io_uring for one request at a time, without a library. */
#ifndef URING_H
#define URING_H

#include <stddef.h>
#include <stdint.h>

#include <linux/io_uring.h>

/**
 * struct uring - a ring of one request
 * @fd: of the ring
 * @sq: submission and completion ring, mapped together
 * @sqes: the request
 * @p: offsets into @sq
 */
struct uring {
	int fd;
	unsigned char *sq;
	struct io_uring_sqe *sqes;
	struct io_uring_params p;
};

int uring_open(struct uring *u);
void uring_close(struct uring *u);
int uring_pin(struct uring *u, void *addr, size_t length);
int uring_unpin(struct uring *u);
int uring_read(struct uring *u, int fd, void *addr, size_t length);
int uring_read_pinned(struct uring *u, int fd, void *addr, size_t length);

#endif /* URING_H */

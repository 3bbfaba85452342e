// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "uring.h"

#define RING_BYTES	4096

/**
 * uring_open - make a ring
 * @u: filled in
 *
 * Return: 0 or a negative errno; -ENOSYS where there is no io_uring.
 */
int uring_open(struct uring *u)
{
	memset(u, 0, sizeof(*u));
	u->fd = syscall(SYS_io_uring_setup, 1, &u->p);
	if (u->fd < 0)
		return -errno;
	u->sq = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		     u->fd, IORING_OFF_SQ_RING);
	u->sqes = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		       u->fd, IORING_OFF_SQES);
	if (u->sq == MAP_FAILED || u->sqes == MAP_FAILED)
		return -ENOMEM;
	return 0;
}

/**
 * uring_close - end a ring, and with it what it pins
 * @u: from uring_open()
 */
void uring_close(struct uring *u)
{
	munmap(u->sqes, RING_BYTES);
	munmap(u->sq, RING_BYTES);
	close(u->fd);
}

/**
 * uring_pin - pin memory for as long as the ring lives
 * @u: ring
 * @addr: of the memory
 * @length: of the memory
 *
 * Return: 0 or a negative errno.
 */
int uring_pin(struct uring *u, void *addr, size_t length)
{
	struct iovec iov = { addr, length };

	return syscall(SYS_io_uring_register, u->fd, IORING_REGISTER_BUFFERS,
		       &iov, 1) < 0 ? -errno : 0;
}

/**
 * uring_unpin - let go of what uring_pin() was given, before the call returns
 * @u: ring
 *
 * Return: 0 or a negative errno.
 */
int uring_unpin(struct uring *u)
{
	return syscall(SYS_io_uring_register, u->fd,
		       IORING_UNREGISTER_BUFFERS, NULL, 0) < 0 ? -errno : 0;
}

static unsigned int *field(struct uring *u, uint32_t offset)
{
	return (unsigned int *)(u->sq + offset);
}

static int request(struct uring *u, uint8_t opcode, int fd, void *addr,
		   size_t length)
{
	const struct io_uring_cqe *cqes = (void *)(u->sq + u->p.cq_off.cqes);
	unsigned int *tail = field(u, u->p.sq_off.tail);
	unsigned int *head = field(u, u->p.cq_off.head);
	unsigned int submit = 1;
	int res;
	long ret;

	memset(u->sqes, 0, sizeof(*u->sqes));
	u->sqes->opcode = opcode;
	u->sqes->fd = fd;
	u->sqes->addr = (uintptr_t)addr;
	u->sqes->len = length;
	u->sqes->off = -1;
	field(u, u->p.sq_off.array)[0] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);

	/* What interrupts the waiting is not told if the request was taken. */
	do {
		ret = syscall(SYS_io_uring_enter, u->fd, submit, 1,
			      IORING_ENTER_GETEVENTS, NULL, 0);
		if (ret < 0 && errno != EINTR)
			return -errno;
		if (ret > 0)
			submit = 0;
	} while (*head == __atomic_load_n(field(u, u->p.cq_off.tail),
					  __ATOMIC_ACQUIRE));
	res = cqes[*head & *field(u, u->p.cq_off.ring_mask)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return res;
}

/**
 * uring_read - read from an fd
 * @u: ring
 * @fd: what to read, at its own position
 * @addr: where to
 * @length: how much
 *
 * Return: bytes or a negative errno.
 */
int uring_read(struct uring *u, int fd, void *addr, size_t length)
{
	return request(u, IORING_OP_READ, fd, addr, length);
}

/**
 * uring_read_pinned - read from an fd into pinned memory, without a fault
 * @u: ring
 * @fd: what to read, at its own position
 * @addr: where to, inside what uring_pin() was given
 * @length: how much
 *
 * Return: bytes or a negative errno.
 */
int uring_read_pinned(struct uring *u, int fd, void *addr, size_t length)
{
	return request(u, IORING_OP_READ_FIXED, fd, addr, length);
}

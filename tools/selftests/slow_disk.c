// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/fs.h>
#include <linux/nbd.h>

#include "device.h"
#include "slow_disk.h"

#define NBD_NODE		"/dev/nbd0"
#define BLOCKS		256
/* A read from here on waits to be told; the kernel itself looks in front. */
#define SLOW_FROM	((BLOCKS - 1) * UNIT)

static bool transfer(ssize_t (*call)(int fd, void *buf, size_t n), int fd,
		     void *buf, size_t length)
{
	ssize_t n;

	for (; length; buf = (char *)buf + n, length -= n) {
		n = call(fd, buf, length);
		if (n <= 0)
			return false;
	}
	return true;
}

static ssize_t send_some(int fd, void *buf, size_t n)
{
	return send(fd, buf, n, MSG_NOSIGNAL);
}

static bool answer(struct slow_disk *d, const char *handle, uint32_t length,
		   uint8_t byte)
{
	struct nbd_reply reply = { .magic = htonl(NBD_REPLY_MAGIC) };
	unsigned char block[UNIT];

	memcpy(reply.handle, handle, sizeof(reply.handle));
	if (!transfer(send_some, d->server, &reply, sizeof(reply)))
		return false;
	memset(block, byte, UNIT);
	for (; length; length -= UNIT)
		if (!transfer(send_some, d->server, block, UNIT))
			return false;
	return true;
}

static void *answer_all(void *arg)
{
	struct slow_disk *d = arg;
	struct nbd_request request;

	while (transfer(read, d->server, &request, sizeof(request))) {
		if (ntohl(request.type) != NBD_CMD_READ)
			break;
		if (be64toh(request.from) < SLOW_FROM) {
			if (!answer(d, request.handle, ntohl(request.len), 0))
				break;
			continue;
		}
		pthread_mutex_lock(&d->lock);
		memcpy(d->handle, request.handle, sizeof(d->handle));
		d->held = 1;
		pthread_cond_signal(&d->arrived);
		pthread_mutex_unlock(&d->lock);
	}
	/* Whoever still waits for the disk gets an error. */
	shutdown(d->server, SHUT_RDWR);
	return NULL;
}

static void *serve(void *arg)
{
	struct slow_disk *d = arg;

	ioctl(d->device, NBD_DO_IT);
	return NULL;
}

/* The size is there some time after NBD_DO_IT began. */
static int open_reader(void)
{
	uint64_t size = 0;
	int tries, fd;

	for (tries = 0; tries < 1000; tries++) {
		fd = open(NBD_NODE, O_RDONLY | O_DIRECT | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		if (!ioctl(fd, BLKGETSIZE64, &size) && size)
			return fd;
		close(fd);
		usleep(10000);
	}
	return -ETIMEDOUT;
}

/**
 * slow_disk_open() - make the disk
 * @d: filled in
 *
 * Return: 0 or a negative errno; -ENOENT where there are no such devices.
 */
int slow_disk_open(struct slow_disk *d)
{
	int sockets[2];

	memset(d, 0, sizeof(*d));
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->arrived, NULL);
	d->device = open(NBD_NODE, O_RDWR | O_CLOEXEC);
	if (d->device < 0)
		return -errno;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		return -errno;
	d->server = sockets[1];
	if (ioctl(d->device, NBD_SET_BLKSIZE, UNIT) ||
	    ioctl(d->device, NBD_SET_SIZE_BLOCKS, BLOCKS) ||
	    ioctl(d->device, NBD_SET_FLAGS, NBD_FLAG_HAS_FLAGS |
					    NBD_FLAG_READ_ONLY) ||
	    ioctl(d->device, NBD_SET_SOCK, sockets[0]))
		return -errno;
	close(sockets[0]);
	if (pthread_create(&d->answering, NULL, answer_all, d) ||
	    pthread_create(&d->serving, NULL, serve, d))
		return -EAGAIN;
	d->reader = open_reader();
	return d->reader < 0 ? d->reader : 0;
}

static void *read_slowly(void *arg)
{
	struct slow_disk *d = arg;

	d->got = pread(d->reader, d->to, UNIT, SLOW_FROM);
	return NULL;
}

/**
 * slow_disk_read() - begin to read a block
 * @d: from slow_disk_open(); with no other read
 * @to: where to; aligned to it, UNIT bytes
 *
 * Return: 0 when the disk has been asked, or a negative errno.
 */
int slow_disk_read(struct slow_disk *d, void *to)
{
	d->to = to;
	if (pthread_create(&d->reading, NULL, read_slowly, d))
		return -EAGAIN;
	pthread_mutex_lock(&d->lock);
	while (!d->held)
		pthread_cond_wait(&d->arrived, &d->lock);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

/**
 * slow_disk_answer() - end what slow_disk_read() began
 * @d: from slow_disk_open()
 * @byte: what the whole block consists of
 *
 * Return: 0 when it is in memory, or a negative errno.
 */
int slow_disk_answer(struct slow_disk *d, uint8_t byte)
{
	d->held = 0;
	if (!answer(d, d->handle, UNIT, byte))
		return -EIO;
	pthread_join(d->reading, NULL);
	return d->got == UNIT ? 0 : -EIO;
}

/**
 * slow_disk_close() - end the disk
 * @d: from slow_disk_open(), which went well; without a read
 */
void slow_disk_close(struct slow_disk *d)
{
	close(d->reader);
	ioctl(d->device, NBD_DISCONNECT);
	pthread_join(d->serving, NULL);
	pthread_join(d->answering, NULL);
	ioctl(d->device, NBD_CLEAR_SOCK);
	close(d->device);
	close(d->server);
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* A frame's header and checksum, and moving whole frames over fds. */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <isa-l/crc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"
#include "signals.h"

/* How long an ending end waits for its peer to stop talking: in silence, */
#define DRAIN_MS	5000
/* in all, */
#define DRAIN_ALL_MS	30000
/* and if it was told to end. */
#define DRAIN_TOLD_MS	1000

struct header {
	uint32_t magic;
	uint8_t version;
	uint8_t type;
	uint16_t reserved;
	uint32_t length;
	uint32_t sequence;
	uint32_t crc;
};

_Static_assert(sizeof(struct header) == FRAME_HEADER, "no holes in a header");

static uint32_t frame_crc(const uint8_t *frame, uint32_t length)
{
	const size_t covered = offsetof(struct header, crc);
	uint32_t crc;

	/* The library's prototype lacks const; it does not write. */
	crc = crc32_iscsi((unsigned char *)frame, covered, ~0U);
	return ~crc32_iscsi((unsigned char *)frame + FRAME_HEADER, length, crc);
}

/**
 * frame_link_init() - begin to exchange frames
 * @link: filled in
 * @in: fd to read from, or -1
 * @out: fd to write to, or -1
 * @err: set on failure
 *
 * The fds stay the caller's.
 *
 * Return: 0 or a negative errno.
 */
int frame_link_init(struct frame_link *link, int in, int out,
		    struct xbzrle_error *err)
{
	static const uint8_t none[1];

	*link = (struct frame_link){ .in = in, .out = out, .ahead = none };

	link->in_buffer = malloc(FRAME_HEADER + FRAME_PAYLOAD_MAX + 1);
	link->out_buffer = malloc(FRAME_HEADER + FRAME_PAYLOAD_MAX);
	if (link->in_buffer && link->out_buffer)
		return 0;
	frame_link_release(link);
	return xbzrle_fail(err, ENOMEM, 0, "no memory for frames");
}

/**
 * frame_link_release() - end exchanging frames
 * @link: link
 */
void frame_link_release(struct frame_link *link)
{
	free(link->in_buffer);
	free(link->out_buffer);
	link->in_buffer = NULL;
	link->out_buffer = NULL;
}

/**
 * frame_room() - where the next frame's payload is to be put
 * @link: link
 *
 * Return: room for FRAME_PAYLOAD_MAX bytes.
 */
void *frame_room(struct frame_link *link)
{
	return link->out_buffer + FRAME_HEADER;
}

/* A failed write may have its reason in what the peer said before. */
static int write_failed(struct frame_link *link, int code,
			struct xbzrle_error *err)
{
	struct xbzrle_error ignored;
	struct frame frame;

	if ((code == EPIPE || code == ECONNRESET) && link->in >= 0) {
		if (frame_receive(link, &frame, &ignored) > 0 &&
		    frame.type == FRAME_ERROR)
			return xbzrle_fail(err, EREMOTEIO, 0,
					   "the receiver failed: %s",
					   (const char *)frame.payload);
	}
	if (code == EPIPE || code == ECONNRESET)
		return xbzrle_fail(err, code, 0, "the peer is gone: %s",
				   strerror(code));
	return xbzrle_fail(err, code, 0, "cannot write the stream: %s",
			   strerror(code));
}

/* After an error: to be tried again? Whoever gave us the fd may not let it block. */
static bool comes_to_it(int fd, short events)
{
	struct pollfd ready = { .fd = fd, .events = events };

	if (errno != EAGAIN)
		return errno == EINTR;
	poll(&ready, 1, -1);
	return true;
}

/**
 * frame_send() - send what was put into frame_room()
 * @link: link
 * @type: what it is
 * @length: its bytes
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int frame_send(struct frame_link *link, enum frame_type type, uint32_t length,
	       struct xbzrle_error *err)
{
	struct header header = {
		.magic = htobe32(FRAME_MAGIC),
		.version = FRAME_VERSION,
		.type = type,
		.length = htobe32(length),
		.sequence = htobe32(link->next_out),
	};
	size_t size = FRAME_HEADER + length, done = 0;
	ssize_t written;
	int ret;

	memcpy(link->out_buffer, &header, sizeof(header));
	header.crc = htobe32(frame_crc(link->out_buffer, length));
	memcpy(link->out_buffer, &header, sizeof(header));

	link->cut = true;
	while (done < size) {
		signals_wait_for_peer(link->patience);
		written = write(link->out, link->out_buffer + done,
				size - done);
		if (written < 0 && !comes_to_it(link->out, POLLOUT))
			return write_failed(link, errno, err);
		if (written > 0) {
			signals_peer_moved();
			done += written;
		}
		ret = done < size ? signals_check(err) : 0;
		if (ret)
			return ret;
	}
	link->cut = false;
	link->next_out++;
	return 0;
}

/**
 * frame_read() - read what there is, whether it is frames or not
 * @link: link
 * @to: where to
 * @size: bytes that fit there, 1 to FRAME_PAYLOAD_MAX
 * @err: set on failure
 *
 * Waits until there is something, also where @in does not block.
 *
 * Return: bytes, 0 at the end, or a negative errno.
 */
int frame_read(struct frame_link *link, void *to, size_t size,
	       struct xbzrle_error *err)
{
	ssize_t got;
	int ret;

	if (link->ahead_length) {
		got = link->ahead_length < size ? link->ahead_length : size;
		memcpy(to, link->ahead, got);
		link->ahead += got;
		link->ahead_length -= got;
		return got;
	}
	do {
		signals_wait_for_peer(link->patience);
		got = read(link->in, to, size);
		if (got < 0 && !comes_to_it(link->in, POLLIN))
			return xbzrle_fail(err, errno, 0, "%s: %s",
					   link->out < 0 ?
					   "cannot read the stream" :
					   "the peer is gone",
					   strerror(errno));
		ret = signals_check(err);
		if (ret)
			return ret;
	} while (got < 0);
	return got;
}

/* Reads exactly so much: 1, 0 if there is nothing at all, or -errno. */
static int read_all(struct frame_link *link, uint8_t *to, size_t size,
		    struct xbzrle_error *err)
{
	size_t done = 0;
	int got;

	while (done < size) {
		got = frame_read(link, to + done, size - done, err);
		if (got < 0)
			return got;
		if (!got && !done)
			return 0;
		if (!got)
			return xbzrle_fail(err, EPIPE, 0,
					   "the stream is cut short inside a frame");
		done += got;
	}
	return 1;
}

/* What is not due need not be read: an ERROR always is. */
static int check_due(const struct frame_link *link, enum frame_type due,
		     enum frame_type type, uint32_t length,
		     struct xbzrle_error *err)
{
	if (type != due && type != FRAME_ERROR)
		return xbzrle_fail(err, EBADMSG, 0,
				   "a frame of type %u came where type %u was due",
				   type, due);
	if (length <= FRAME_ANSWER_MAX)
		return 0;
	return xbzrle_fail(err, EBADMSG, 0,
			   "frame %u: %u bytes are too many for a frame of type %u",
			   link->next_in, length, type);
}

/* @due is FRAME_ANY, or what is due of a peer that must not keep us waiting. */
static int read_frame(struct frame_link *link, enum frame_type due,
		      struct frame *frame, struct xbzrle_error *err)
{
	uint8_t *buffer = link->in_buffer;
	struct header header;
	uint32_t length;
	int ret;

	ret = read_all(link, buffer, FRAME_HEADER, err);
	if (ret <= 0)
		return ret;
	memcpy(&header, buffer, sizeof(header));
	if (be32toh(header.magic) != FRAME_MAGIC)
		return xbzrle_fail(err, EBADMSG, 0,
				   "frame %u: not a frame of xbzrle (magic %#x)",
				   link->next_in, be32toh(header.magic));
	if (header.version != FRAME_VERSION)
		return xbzrle_fail(err, EBADMSG, 0,
				   "frame %u: transport version %u, this is version %u: "
				   FRAME_SAME_VERSION,
				   link->next_in, header.version,
				   FRAME_VERSION);
	length = be32toh(header.length);
	if (length > FRAME_PAYLOAD_MAX)
		return xbzrle_fail(err, EBADMSG, 0,
				   "frame %u: %u bytes are too many",
				   link->next_in, length);
	if (due != FRAME_ANY && check_due(link, due, header.type, length, err))
		return -EBADMSG;

	ret = read_all(link, buffer + FRAME_HEADER, length, err);
	if (ret < 0)
		return ret;
	if (!ret && length)
		return xbzrle_fail(err, EPIPE, 0,
				   "the stream is cut short inside a frame");
	if (be32toh(header.crc) != frame_crc(buffer, length))
		return xbzrle_fail(err, EBADMSG, 0,
				   "frame %u: damaged on the way (checksum differs)",
				   link->next_in);
	if (header.reserved)
		return xbzrle_fail(err, EBADMSG, 0,
				   "frame %u: reserved bytes are not zero",
				   link->next_in);
	if (be32toh(header.sequence) != link->next_in)
		return xbzrle_fail(err, EBADMSG, 0,
				   "frame %u came where frame %u was due",
				   be32toh(header.sequence), link->next_in);

	link->next_in++;
	buffer[FRAME_HEADER + length] = '\0';
	frame->type = header.type;
	frame->length = length;
	frame->payload = buffer + FRAME_HEADER;
	return 1;
}

static int receive(struct frame_link *link, enum frame_type due,
		   struct frame *frame, struct xbzrle_error *err)
{
	int ret = read_frame(link, due, frame, err);

	/* Not with each byte, or a frame would take any time. */
	if (ret != -ETIMEDOUT)
		signals_peer_moved();
	return ret;
}

/**
 * frame_receive() - wait for a frame
 * @link: link
 * @frame: filled in
 * @err: set on failure
 *
 * Return: 1 with a frame, 0 if the stream ends before one, -EBADMSG if it is
 * damaged or of something else, or another negative errno.
 */
int frame_receive(struct frame_link *link, struct frame *frame,
		  struct xbzrle_error *err)
{
	return receive(link, FRAME_ANY, frame, err);
}

/**
 * frame_expect() - wait for a frame of one type
 * @link: link
 * @type: the type that is due
 * @frame: filled in
 * @err: set on failure, also if the peer says that it failed
 *
 * Return: 0 or a negative errno.
 */
int frame_expect(struct frame_link *link, enum frame_type type,
		 struct frame *frame, struct xbzrle_error *err)
{
	int ret = receive(link, type, frame, err);

	if (ret < 0)
		return ret;
	if (!ret)
		return xbzrle_fail(err, EPIPE, 0,
				   "the peer is gone: it closed the connection");
	if (frame->type == FRAME_ERROR)
		return xbzrle_fail(err, EREMOTEIO, 0, "the peer failed: %s",
				   (const char *)frame->payload);
	return 0;
}

/**
 * frame_check_peer() - has the peer spoken out of turn?
 * @link: link of a sender
 * @err: set if the peer has failed or is gone
 *
 * Return: 0 if it is silent, or a negative errno.
 */
int frame_check_peer(struct frame_link *link, struct xbzrle_error *err)
{
	struct pollfd poll_in = { .fd = link->in, .events = POLLIN };
	struct frame frame;

	if (link->in < 0 || poll(&poll_in, 1, 0) <= 0)
		return 0;
	/* No frame is due: an ERROR is told as such, any other as wrong. */
	return frame_expect(link, FRAME_NONE, &frame, err);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/**
 * frame_drain() - let the peer read our last frame
 * @link: link that ends with an error
 *
 * Closing a socket with unread bytes in it resets the connection, and the
 * peer might lose the frame that says why. So no more is sent, and what
 * still comes is thrown away until the peer is done, or takes too long, or a
 * signal ends it.
 */
void frame_drain(struct frame_link *link)
{
	struct pollfd poll_in = { .fd = link->in, .events = POLLIN };
	bool told = signals_check(NULL);
	int64_t end = now_ms() + (told ? DRAIN_TOLD_MS : DRAIN_ALL_MS);

	shutdown(link->out, SHUT_WR);
	while (now_ms() < end && poll(&poll_in, 1, DRAIN_MS) > 0 &&
	       read(link->in, link->in_buffer, FRAME_PAYLOAD_MAX) > 0 &&
	       (told || !signals_check(NULL)))
		continue;
}

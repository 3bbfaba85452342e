// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Any bytes as transport frames: those come that docs/transport.md allows and no
 * other, no payload is read past its end, and what was unpacked is packed to
 * the same bytes.
 *
 * Input: the frames. How many bytes are read ahead depends on its length.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../xbzrle/frame.h"
#include "fuzz.h"
#include "transport.h"

static int file_of(const uint8_t *data, size_t size)
{
	int fd = memfd_create("frames", MFD_CLOEXEC);

	must(fd >= 0 && write(fd, data, size) == (ssize_t)size &&
	     !lseek(fd, 0, SEEK_SET));
	return fd;
}

/* Sends what @frame has again, if it can be unpacked as what it is. */
static int unpack(const struct frame *frame, struct frame_link *link)
{
	struct frame_digest digest;
	struct frame_region region;
	struct frame_hello hello;
	struct frame_round round;
	const char *text;
	uint32_t count;
	bool agree;

	switch (frame->type) {
	case FRAME_HELLO:
		return frame_get_hello(frame, &hello, NULL) ?:
			frame_send_hello(link, &hello, NULL);
	case FRAME_REGION:
		return frame_get_region(frame, &region, NULL) ?:
			frame_send_region(link, &region, NULL);
	case FRAME_ROUND:
		return frame_get_round(frame, &round, NULL) ?:
			frame_send_round(link, &round, NULL);
	case FRAME_ACK:
		return frame_get_round(frame, &round, NULL) ?:
			frame_send_ack(link, &round, NULL);
	case FRAME_DROP:
		return frame_get_drop(frame, &text, NULL) ?:
			frame_send_drop(link, text, NULL);
	case FRAME_DIGEST:
		return frame_get_digest(frame, &digest, NULL) ?:
			frame_send_digest(link, &digest, NULL);
	case FRAME_END:
		return frame_get_end(frame, &count, NULL) ?:
			frame_send_end(link, count, NULL);
	case FRAME_VERDICT:
		return frame_get_verdict(frame, &agree, &text, NULL) ?:
			frame_send_verdict(link, agree, text, NULL);
	case FRAME_ERROR:
		return frame_send_error(link, (const char *)frame->payload,
					NULL);
	default:
		memcpy(frame_room(link), frame->payload, frame->length);
		return frame_send(link, frame->type, frame->length, NULL);
	}
}

/* Can it be unpacked? */
static bool is_proper(const struct transport_frame *frame)
{
	char name[256];

	switch (frame->type) {
	case HELLO:
		return frame->length == 20 &&
			transport_number(frame->payload + 16, 4) == 4096;
	case REGION:
		return !transport_name(frame, 20, name);
	case ROUND:
	case ACK:
		return frame->length == 24;
	case DROP:
		return !transport_name(frame, 0, name);
	case DIGEST:
		return !transport_name(frame, 24, name);
	case END:
		return frame->length == 4;
	case VERDICT:
		return frame->length && frame->payload[0] < 2;
	default:
		return true;
	}
}

/* A text ends at a NUL, if it has one. */
static uint32_t text_length(const struct transport_frame *frame)
{
	const uint8_t *payload = frame->payload;
	uint32_t length = frame->length, fixed = frame->type == VERDICT;

	if (frame->type != VERDICT && frame->type != ERROR)
		return length;
	return fixed + strnlen((const char *)payload + fixed, length - fixed);
}

/* In memory of its own, which ends with the NUL that is promised. */
static void check_payload(struct frame_link *out, const struct frame *came,
			  const struct transport_frame *want)
{
	uint8_t *payload = fuzz_alloc(came->length + 1), *bytes;
	struct frame frame = *came;
	struct transport_frame sent;
	struct transport again;
	off_t size;

	must(came->type == want->type && came->length == want->length);
	must(!memcmp(came->payload, want->payload, want->length));
	memcpy(payload, came->payload, came->length + 1);
	must(!payload[came->length]);
	frame.payload = payload;

	must(!lseek(out->out, 0, SEEK_SET) && !ftruncate(out->out, 0));
	again.sequence = out->next_out;
	must(!unpack(&frame, out) == is_proper(want));
	size = lseek(out->out, 0, SEEK_END);
	must(!size == !is_proper(want));
	if (size) {
		bytes = fuzz_alloc(size);
		must(pread(out->out, bytes, size, 0) == size);
		again.at = bytes;
		again.end = bytes + size;
		must(transport_next(&again, &sent) == 1);
		must(again.at == again.end && sent.type == want->type);
		must(sent.length == text_length(want));
		must(!memcmp(sent.payload, want->payload, sent.length));
		free(bytes);
	}
	free(payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Their buffers are large, and made once. */
	static struct frame_link in, out;
	struct transport transport = { data, data + size, 0 };
	const size_t ahead = size % 8 < size ? size % 8 : size;
	struct transport_frame wanted;
	struct xbzrle_error err = {};
	struct frame frame;
	int want, ret;

	if (!out.out_buffer)
		must(!frame_link_init(&in, -1, -1, NULL) &&
		     !frame_link_init(&out, -1, file_of(NULL, 0), NULL));
	in.in = file_of(data, size);
	must(lseek(in.in, ahead, SEEK_SET) == (off_t)ahead);
	in.ahead = data;
	in.ahead_length = ahead;
	in.next_in = 0;
	do {
		want = transport_next(&transport, &wanted);
		ret = frame_receive(&in, &frame, &err);
		must(ret == want);
		if (ret > 0)
			check_payload(&out, &frame, &wanted);
	} while (ret > 0);
	must(!ret || (err.code == -ret && err.message[0]));
	close(in.in);
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room,
			       unsigned int seed)
{
	struct model model = {};

	size = LLVMFuzzerMutate(data, size, room);
	transport_repair(data, size, seed, &model);
	model_free(&model);
	return size;
}

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* Transport frames; docs/transport.md has their bytes. */
#ifndef _XBZRLE_TOOL_FRAME_H
#define _XBZRLE_TOOL_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include <xbzrle.h>

#define FRAME_MAGIC		0x58425a46	/* "XBZF" */
#define FRAME_VERSION		1
#define FRAME_HEADER		20
#define FRAME_PAYLOAD_MAX	(1U << 20)
/* Of what a peer answers, the payload has no more. */
#define FRAME_ANSWER_MAX	4096

/* Features: what both ends must agree on. */
#define FRAME_FEATURE_ANSWERS	(1ULL << 0)	/* the receiver answers */
#define FRAME_FEATURE_XXH3_128	(1ULL << 1)	/* digests are XXH3-128 */

/* What to do where the ends do not understand each other. */
#define FRAME_SAME_VERSION	"use the same version of xbzrle at both ends"

enum frame_type {
	FRAME_NONE	= 0,
	FRAME_HELLO	= 1,
	FRAME_REGION	= 2,
	FRAME_DATA	= 3,
	FRAME_ROUND	= 4,
	FRAME_ACK	= 5,
	FRAME_DROP	= 6,
	FRAME_DIGEST	= 7,
	FRAME_END	= 8,
	FRAME_VERDICT	= 9,
	FRAME_ERROR	= 10,
	FRAME_ANY	= 256,	/* no frame has it */
};

/**
 * struct frame_link - frames over a pair of fds
 * @in: fd to read from, or -1
 * @out: fd to write to, or -1
 * @patience: seconds the peer may take to read something, or to write a whole
 *	frame; 0 for any
 * @ahead: bytes that were read from @in before the first frame was asked for
 * @ahead_length: how many are left of them
 * @cut: a frame was begun and could not be finished; no other can follow
 */
struct frame_link {
	int in;
	int out;
	unsigned int patience;
	const uint8_t *ahead;
	size_t ahead_length;
	bool cut;
	uint32_t next_in;
	uint32_t next_out;
	uint8_t *in_buffer;
	uint8_t *out_buffer;
};

/**
 * struct frame - a frame that came
 * @type: enum frame_type
 * @length: bytes of @payload
 * @payload: valid until the next frame is read; a NUL follows it
 */
struct frame {
	enum frame_type type;
	uint32_t length;
	const uint8_t *payload;
};

struct frame_hello {
	uint64_t offered;
	uint64_t required;
};

struct frame_region {
	uint64_t address;
	uint64_t length;
	uint32_t pid;
	const char *name;
};

struct frame_round {
	uint64_t round;
	uint64_t position;
	uint64_t dirty_pages;
};

struct frame_digest {
	uint64_t length;
	uint8_t digest[16];
	const char *name;
};

int frame_link_init(struct frame_link *link, int in, int out,
		    struct xbzrle_error *err);
void frame_link_release(struct frame_link *link);

void *frame_room(struct frame_link *link);
int frame_send(struct frame_link *link, enum frame_type type, uint32_t length,
	       struct xbzrle_error *err);
int frame_read(struct frame_link *link, void *to, size_t size,
	       struct xbzrle_error *err);
int frame_receive(struct frame_link *link, struct frame *frame,
		  struct xbzrle_error *err);
int frame_expect(struct frame_link *link, enum frame_type type,
		 struct frame *frame, struct xbzrle_error *err);
int frame_check_peer(struct frame_link *link, struct xbzrle_error *err);
void frame_drain(struct frame_link *link);

int frame_send_hello(struct frame_link *link, const struct frame_hello *hello,
		     struct xbzrle_error *err);
int frame_send_region(struct frame_link *link,
		      const struct frame_region *region,
		      struct xbzrle_error *err);
int frame_send_round(struct frame_link *link, const struct frame_round *round,
		     struct xbzrle_error *err);
int frame_send_ack(struct frame_link *link, const struct frame_round *round,
		   struct xbzrle_error *err);
int frame_send_drop(struct frame_link *link, const char *name,
		    struct xbzrle_error *err);
int frame_send_digest(struct frame_link *link,
		      const struct frame_digest *digest,
		      struct xbzrle_error *err);
int frame_send_end(struct frame_link *link, uint32_t digests,
		   struct xbzrle_error *err);
int frame_send_verdict(struct frame_link *link, bool agree, const char *text,
		       struct xbzrle_error *err);
int frame_send_error(struct frame_link *link, const char *text,
		     struct xbzrle_error *err);

int frame_get_hello(const struct frame *frame, struct frame_hello *hello,
		    struct xbzrle_error *err);
int frame_get_region(const struct frame *frame, struct frame_region *region,
		     struct xbzrle_error *err);
int frame_get_round(const struct frame *frame, struct frame_round *round,
		    struct xbzrle_error *err);
int frame_get_drop(const struct frame *frame, const char **name,
		   struct xbzrle_error *err);
int frame_get_digest(const struct frame *frame, struct frame_digest *digest,
		     struct xbzrle_error *err);
int frame_get_end(const struct frame *frame, uint32_t *digests,
		  struct xbzrle_error *err);
int frame_get_verdict(const struct frame *frame, bool *agree,
		      const char **text, struct xbzrle_error *err);

#endif /* _XBZRLE_TOOL_FRAME_H */

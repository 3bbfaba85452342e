// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* What is in the frames: each payload packed and unpacked. */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "frame.h"

static uint8_t *put_be64(uint8_t *at, uint64_t value)
{
	value = htobe64(value);
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

static uint8_t *put_be32(uint8_t *at, uint32_t value)
{
	value = htobe32(value);
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

static uint64_t get_be64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return be64toh(value);
}

static uint32_t get_be32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return be32toh(value);
}

static int send_text(struct frame_link *link, enum frame_type type,
		     uint8_t *at, const char *text, struct xbzrle_error *err)
{
	size_t length = strlen(text);

	memcpy(at, text, length);
	return frame_send(link, type,
			  at + length - (uint8_t *)frame_room(link), err);
}

/* The fixed part's size must be exact; a text may follow where there is one. */
static int check_size(const struct frame *frame, uint32_t fixed,
		      struct xbzrle_error *err)
{
	if (frame->length == fixed)
		return 0;
	return xbzrle_fail(err, EBADMSG, 0,
			   "a frame of type %u with %u bytes instead of %u",
			   frame->type, frame->length, fixed);
}

static int get_name(const struct frame *frame, uint32_t fixed,
		    const char **name, struct xbzrle_error *err)
{
	if (frame->length <= fixed ||
	    frame->length - fixed > XBZRLE_NAME_MAX ||
	    memchr(frame->payload + fixed, '\0', frame->length - fixed))
		return xbzrle_fail(err, EBADMSG, 0,
				   "a frame of type %u without a proper region name",
				   frame->type);
	*name = (const char *)frame->payload + fixed;
	return 0;
}

/**
 * frame_send_hello() - say what we can and must have
 * @link: link
 * @hello: features
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int frame_send_hello(struct frame_link *link, const struct frame_hello *hello,
		     struct xbzrle_error *err)
{
	uint8_t *at = frame_room(link);

	at = put_be64(at, hello->offered);
	at = put_be64(at, hello->required);
	put_be32(at, XBZRLE_UNIT_SIZE);
	return frame_send(link, FRAME_HELLO, 20, err);
}

/**
 * frame_get_hello() - unpack a HELLO
 * @frame: frame
 * @hello: filled in
 * @err: set on failure
 *
 * Return: 0 or -EBADMSG.
 */
int frame_get_hello(const struct frame *frame, struct frame_hello *hello,
		    struct xbzrle_error *err)
{
	if (check_size(frame, 20, err))
		return -EBADMSG;
	hello->offered = get_be64(frame->payload);
	hello->required = get_be64(frame->payload + 8);
	if (get_be32(frame->payload + 16) != XBZRLE_UNIT_SIZE)
		return xbzrle_fail(err, EBADMSG, 0,
				   "the peer's units have %u bytes, ours %u: " FRAME_SAME_VERSION,
				   get_be32(frame->payload + 16),
				   XBZRLE_UNIT_SIZE);
	return 0;
}

/**
 * frame_send_region() - announce a region
 * @link: link
 * @region: region
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int frame_send_region(struct frame_link *link,
		      const struct frame_region *region,
		      struct xbzrle_error *err)
{
	uint8_t *at = frame_room(link);

	at = put_be64(at, region->address);
	at = put_be64(at, region->length);
	at = put_be32(at, region->pid);
	return send_text(link, FRAME_REGION, at, region->name, err);
}

/**
 * frame_get_region() - unpack a REGION
 * @frame: frame
 * @region: filled in
 * @err: set on failure
 *
 * Return: 0 or -EBADMSG.
 */
int frame_get_region(const struct frame *frame, struct frame_region *region,
		     struct xbzrle_error *err)
{
	if (get_name(frame, 20, &region->name, err))
		return -EBADMSG;
	region->address = get_be64(frame->payload);
	region->length = get_be64(frame->payload + 8);
	region->pid = get_be32(frame->payload + 16);
	return 0;
}

static int send_round(struct frame_link *link, enum frame_type type,
		      const struct frame_round *round,
		      struct xbzrle_error *err)
{
	uint8_t *at = frame_room(link);

	at = put_be64(at, round->round);
	at = put_be64(at, round->position);
	put_be64(at, round->dirty_pages);
	return frame_send(link, type, 24, err);
}

/**
 * frame_send_round() - say that a round is complete
 * @link: link
 * @round: its number and where the stream stands
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int frame_send_round(struct frame_link *link, const struct frame_round *round,
		     struct xbzrle_error *err)
{
	return send_round(link, FRAME_ROUND, round, err);
}

/**
 * frame_send_ack() - say that a round is applied
 * @link: link
 * @round: as it came
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int frame_send_ack(struct frame_link *link, const struct frame_round *round,
		   struct xbzrle_error *err)
{
	return send_round(link, FRAME_ACK, round, err);
}

/**
 * frame_get_round() - unpack a ROUND or ACK
 * @frame: frame
 * @round: filled in
 * @err: set on failure
 *
 * Return: 0 or -EBADMSG.
 */
int frame_get_round(const struct frame *frame, struct frame_round *round,
		    struct xbzrle_error *err)
{
	if (check_size(frame, 24, err))
		return -EBADMSG;
	round->round = get_be64(frame->payload);
	round->position = get_be64(frame->payload + 8);
	round->dirty_pages = get_be64(frame->payload + 16);
	return 0;
}

/**
 * frame_send_drop() - say that a region has ended
 * @link: link
 * @name: the region's name
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int frame_send_drop(struct frame_link *link, const char *name,
		    struct xbzrle_error *err)
{
	return send_text(link, FRAME_DROP, frame_room(link), name, err);
}

/**
 * frame_get_drop() - unpack a DROP
 * @frame: frame
 * @name: set
 * @err: set on failure
 *
 * Return: 0 or -EBADMSG.
 */
int frame_get_drop(const struct frame *frame, const char **name,
		   struct xbzrle_error *err)
{
	return get_name(frame, 0, name, err);
}

/**
 * frame_send_digest() - say what a region must be at the end
 * @link: link
 * @digest: region and digest
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int frame_send_digest(struct frame_link *link,
		      const struct frame_digest *digest,
		      struct xbzrle_error *err)
{
	uint8_t *at = frame_room(link);

	at = put_be64(at, digest->length);
	memcpy(at, digest->digest, sizeof(digest->digest));
	return send_text(link, FRAME_DIGEST, at + sizeof(digest->digest),
			 digest->name, err);
}

/**
 * frame_get_digest() - unpack a DIGEST
 * @frame: frame
 * @digest: filled in
 * @err: set on failure
 *
 * Return: 0 or -EBADMSG.
 */
int frame_get_digest(const struct frame *frame, struct frame_digest *digest,
		     struct xbzrle_error *err)
{
	if (get_name(frame, 8 + sizeof(digest->digest), &digest->name, err))
		return -EBADMSG;
	digest->length = get_be64(frame->payload);
	memcpy(digest->digest, frame->payload + 8, sizeof(digest->digest));
	return 0;
}

/**
 * frame_send_end() - say that all was said
 * @link: link
 * @digests: how many DIGEST frames there were
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int frame_send_end(struct frame_link *link, uint32_t digests,
		   struct xbzrle_error *err)
{
	put_be32(frame_room(link), digests);
	return frame_send(link, FRAME_END, 4, err);
}

/**
 * frame_get_end() - unpack an END
 * @frame: frame
 * @digests: set
 * @err: set on failure
 *
 * Return: 0 or -EBADMSG.
 */
int frame_get_end(const struct frame *frame, uint32_t *digests,
		  struct xbzrle_error *err)
{
	if (check_size(frame, 4, err))
		return -EBADMSG;
	*digests = get_be32(frame->payload);
	return 0;
}

/**
 * frame_send_verdict() - say whether what came is what was sent
 * @link: link
 * @agree: do all digests agree?
 * @text: one line for people
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int frame_send_verdict(struct frame_link *link, bool agree, const char *text,
		       struct xbzrle_error *err)
{
	uint8_t *at = frame_room(link);

	*at++ = agree;
	return send_text(link, FRAME_VERDICT, at, text, err);
}

/**
 * frame_get_verdict() - unpack a VERDICT
 * @frame: frame
 * @agree: set
 * @text: set
 * @err: set on failure
 *
 * Return: 0 or -EBADMSG.
 */
int frame_get_verdict(const struct frame *frame, bool *agree,
		      const char **text, struct xbzrle_error *err)
{
	if (!frame->length || frame->payload[0] > 1)
		return xbzrle_fail(err, EBADMSG, 0,
				   "a verdict that says neither yes nor no");
	*agree = frame->payload[0];
	*text = (const char *)frame->payload + 1;
	return 0;
}

/**
 * frame_send_error() - say why we end here
 * @link: link
 * @text: one line for people
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int frame_send_error(struct frame_link *link, const char *text,
		     struct xbzrle_error *err)
{
	if (link->cut)
		return xbzrle_fail(err, EPIPE, 0, "a frame was cut short");
	return send_text(link, FRAME_ERROR, frame_room(link), text, err);
}

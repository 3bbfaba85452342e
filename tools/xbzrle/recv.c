// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "endpoint.h"
#include "frame.h"
#include "images.h"
#include "signals.h"
#include "units.h"

struct options {
	const char *output;
	const char *from;
	uint64_t memory;
	bool json;
};

struct receiver {
	struct frame_link link;
	struct images images;
	struct xbzrle_wire *wire;
	struct xbzrle_image *image;
	uint64_t rounds;
	uint32_t digests;
	bool answers;		/* the sender waits for us */
	bool ended;		/* the sender has said all */
	bool done;
	bool told;		/* the error was printed */
};

static int greet(struct receiver *receiver, struct xbzrle_error *err)
{
	const uint64_t known = FRAME_FEATURE_ANSWERS | FRAME_FEATURE_XXH3_128;
	struct frame_hello hello;
	struct frame frame;
	int ret;

	ret = frame_expect(&receiver->link, FRAME_HELLO, &frame, err);
	if (!ret)
		ret = frame_get_hello(&frame, &hello, err);
	if (ret)
		return ret;
	receiver->answers = hello.offered & FRAME_FEATURE_ANSWERS &&
		receiver->link.out >= 0;
	if (hello.required & ~known)
		return xbzrle_fail(err, EPROTO, 0,
				   "the sender needs features %#" PRIx64 " that are unknown here: "
				   FRAME_SAME_VERSION,
				   hello.required & ~known);
	if (!(hello.offered & FRAME_FEATURE_XXH3_128))
		return xbzrle_fail(err, EPROTO, 0,
				   "the sender has no digests that are known here: "
				   FRAME_SAME_VERSION);
	if (!receiver->answers)
		return 0;
	hello.offered &= known;
	hello.required = 0;
	return frame_send_hello(&receiver->link, &hello, err);
}

static void drop(struct receiver *receiver, struct images_region *region)
{
	if (region->state == IMAGES_PRESENT)
		xbzrle_image_drop(receiver->image, region->number);
	images_drop(&receiver->images, region);
}

static int take_block(struct receiver *receiver,
		      const struct xbzrle_record *record,
		      struct xbzrle_error *err)
{
	struct images_region *region;
	int ret;

	if (!record->fresh)
		return 0;
	ret = images_create(&receiver->images, record, &region, err);
	if (ret)
		return ret;
	return xbzrle_image_add_file(receiver->image, record->region,
				     region->fd, region->length, err);
}

/* A setup section that leaves a region out has dropped it. */
static void drop_absent(struct receiver *receiver)
{
	struct images_region *region;
	size_t i;

	for (i = 0; i < receiver->images.count; i++) {
		region = &receiver->images.regions[i];
		if (region->state == IMAGES_PRESENT &&
		    !xbzrle_wire_present(receiver->wire, region->number))
			drop(receiver, region);
	}
}

static void count_round(struct receiver *receiver)
{
	size_t i;

	receiver->rounds++;
	for (i = 0; i < receiver->images.count; i++) {
		if (receiver->images.regions[i].state == IMAGES_PRESENT)
			receiver->images.regions[i].rounds++;
	}
}

static int take_data(struct receiver *receiver, const struct frame *frame,
		     struct xbzrle_error *err)
{
	struct xbzrle_record record;
	int ret;

	xbzrle_wire_feed(receiver->wire, frame->payload, frame->length);
	while ((ret = xbzrle_wire_next(receiver->wire, &record, err)) > 0) {
		/* Each may cost a look at all regions, and a frame has many. */
		ret = signals_check(err);
		if (ret)
			break;
		if (record.kind == XBZRLE_RECORD_BLOCK)
			ret = take_block(receiver, &record, err);
		else
			ret = xbzrle_image_apply(receiver->image, &record, err);
		if (ret)
			break;
		if (record.kind == XBZRLE_RECORD_SETUP_END)
			drop_absent(receiver);
		if (record.kind == XBZRLE_RECORD_EOS)
			count_round(receiver);
	}
	return command_at_limit(command_at_byte(ret, err), err);
}

static int take_round(struct receiver *receiver, const struct frame *frame,
		      struct xbzrle_error *err)
{
	struct frame_round round;
	int ret;

	ret = frame_get_round(frame, &round, err);
	if (!ret)
		ret = command_at_byte(xbzrle_wire_end(receiver->wire, err),
				      err);
	if (ret)
		return ret;
	if (round.round != receiver->rounds ||
	    round.position != xbzrle_wire_position(receiver->wire))
		return xbzrle_fail(err, EBADMSG, 0,
				   "the sender ended round %" PRIu64 " at byte %" PRIu64
				   ", the receiver round %" PRIu64 " at byte %" PRIu64,
				   round.round, round.position,
				   receiver->rounds,
				   xbzrle_wire_position(receiver->wire));
	if (!receiver->answers)
		return 0;
	return frame_send_ack(&receiver->link, &round, err);
}

static int take_region(struct receiver *receiver, const struct frame *frame,
		       struct xbzrle_error *err)
{
	struct frame_region region;
	int ret = frame_get_region(frame, &region, err);

	return ret ? ret : images_announce(&receiver->images, &region, err);
}

static int take_drop(struct receiver *receiver, const struct frame *frame,
		     struct xbzrle_error *err)
{
	struct images_region *region;
	const char *name;
	int ret;

	ret = frame_get_drop(frame, &name, err);
	if (ret)
		return ret;
	region = images_find(&receiver->images, name);
	if (!region)
		return xbzrle_fail(err, EBADMSG, 0,
				   "region '%s' is dropped and never was there",
				   name);
	drop(receiver, region);
	return 0;
}

static int take_digest(struct receiver *receiver, const struct frame *frame,
		       struct xbzrle_error *err)
{
	struct images_region *region;
	struct frame_digest digest;
	int ret;

	ret = frame_get_digest(frame, &digest, err);
	if (ret)
		return ret;
	region = images_find(&receiver->images, digest.name);
	if (!region || region->state != IMAGES_PRESENT ||
	    region->length != digest.length || region->digest_known)
		return xbzrle_fail(err, EBADMSG, 0,
				   "a digest of region '%s', which is not here",
				   digest.name);
	memcpy(region->digest, digest.digest, sizeof(region->digest));
	region->digest_known = true;
	receiver->digests++;
	return 0;
}

/* All is here: verify it, declare it complete, tell the sender. */
static int take_end(struct receiver *receiver, const struct frame *frame,
		    struct xbzrle_error *err)
{
	uint32_t digests;
	json_t *manifest;
	int ret;

	ret = frame_get_end(frame, &digests, err);
	if (!ret)
		ret = command_at_byte(xbzrle_wire_end(receiver->wire, err),
				      err);
	if (ret)
		return ret;
	if (digests != receiver->digests)
		return xbzrle_fail(err, EBADMSG, 0,
				   "%u digests were sent and %u came", digests,
				   receiver->digests);
	receiver->ended = true;
	ret = images_verify(&receiver->images, err);
	if (ret)
		return ret;

	manifest = images_manifest(&receiver->images, receiver->rounds);
	if (!manifest)
		return xbzrle_fail(err, ENOMEM, 0,
				   "no memory to describe the regions");
	ret = images_write_manifest(&receiver->images, manifest, err);
	json_decref(manifest);
	if (ret)
		return ret;
	receiver->done = true;
	return 0;
}

static int take_frame(struct receiver *receiver, const struct frame *frame,
		      struct xbzrle_error *err)
{
	switch (frame->type) {
	case FRAME_REGION:
		return take_region(receiver, frame, err);
	case FRAME_DATA:
		return take_data(receiver, frame, err);
	case FRAME_ROUND:
		return take_round(receiver, frame, err);
	case FRAME_DROP:
		return take_drop(receiver, frame, err);
	case FRAME_DIGEST:
		return take_digest(receiver, frame, err);
	case FRAME_END:
		return take_end(receiver, frame, err);
	case FRAME_ERROR:
		return xbzrle_fail(err, EREMOTEIO, 0, "the sender failed: %s",
				   (const char *)frame->payload);
	default:
		return xbzrle_fail(err, EBADMSG, 0,
				   "a frame of type %u, which is not known",
				   frame->type);
	}
}

static int receive(struct receiver *receiver, struct xbzrle_error *err)
{
	struct frame frame;
	int ret;

	ret = greet(receiver, err);
	while (!ret && !receiver->done) {
		ret = frame_receive(&receiver->link, &frame, err);
		if (!ret)
			return xbzrle_fail(err, EPIPE, 0,
					   "the sender is gone after %" PRIu64 " rounds",
					   receiver->rounds);
		if (ret > 0)
			ret = take_frame(receiver, &frame, err);
	}
	return ret;
}

static int print_summary(const struct receiver *receiver,
			 const struct options *options,
			 struct xbzrle_error *err)
{
	const struct images_region *region;
	uint64_t bytes = 0;
	json_t *manifest;
	size_t i, regions = 0;
	int ret = 0;

	if (options->json) {
		manifest = images_manifest(&receiver->images,
					   receiver->rounds);
		ret = command_print_json(manifest, JSON_INDENT(2), err);
		json_decref(manifest);
		putchar('\n');
	} else {
		for (i = 0; i < receiver->images.count; i++) {
			region = &receiver->images.regions[i];
			if (region->state != IMAGES_PRESENT)
				continue;
			bytes += region->length;
			regions++;
		}
		printf("received %zu regions, %s, in %" PRIu64 " rounds (%s); digests agree\n",
		       regions, units_bytes(bytes).text, receiver->rounds,
		       units_bytes(xbzrle_wire_position(receiver->wire)).text);
	}
	return ret ? ret : command_flush(err);
}

/* Lets the sender know how it went, as far as it still listens. */
static void answer(struct receiver *receiver, int ret,
		   const struct xbzrle_error *err)
{
	struct frame_link *link = &receiver->link;

	if (!receiver->answers && (!ret || link->out < 0))
		return;
	if (!ret) {
		frame_send_verdict(link, true, "all digests agree", NULL);
	} else if (ret == -EBADMSG && receiver->ended) {
		frame_send_verdict(link, false, err->message, NULL);
	} else if (!frame_send_error(link, err->message, NULL)) {
		/* To wait for the sender to end may take a while. */
		command_failed(err);
		receiver->told = true;
		frame_drain(link);
	}
}

static int run(struct receiver *receiver, const struct options *options,
	       struct xbzrle_error *err)
{
	struct endpoint end;
	int ret, closed;

	ret = images_open(&receiver->images, options->output, err);
	if (ret)
		return ret;
	ret = -ENOMEM;
	receiver->wire = xbzrle_wire_new(err);
	if (!receiver->wire)
		goto close_images;
	receiver->image = xbzrle_image_new(receiver->images.dir, err);
	if (!receiver->image) {
		ret = -err->code;
		goto free_wire;
	}
	xbzrle_image_limit(receiver->image, options->memory);
	ret = endpoint_open_recv(&end, options->from, err);
	if (ret)
		goto free_image;
	ret = frame_link_init(&receiver->link, end.in, end.out, err);
	if (ret)
		goto close_end;

	ret = receive(receiver, err);
	if (ret)
		xbzrle_image_abort(receiver->image, NULL);
	answer(receiver, ret, err);
	frame_link_release(&receiver->link);

close_end:
	closed = endpoint_close(&end, ret ? NULL : err);
	if (!ret)
		ret = closed;
	if (!ret)
		ret = print_summary(receiver, options, err);
free_image:
	xbzrle_image_free(receiver->image);
free_wire:
	xbzrle_wire_free(receiver->wire);
close_images:
	images_close(&receiver->images);
	return ret;
}

enum {
	OPT_MEMORY = 256,
};

static const struct argp_option argp_options[] = {
	{ "output", 'o', "DIR", 0, "Where the images go", 0 },
	{ "json", 'j', NULL, 0, "Print the manifest", 0 },
	{ "memory", OPT_MEMORY, "SIZE", 0, COMMAND_MEMORY_HELP, 0 },
	{}
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case 'o':
		options->output = arg;
		break;
	case 'j':
		options->json = true;
		break;
	case OPT_MEMORY:
		if (units_parse_size(arg, &options->memory))
			argp_error(state, "'%s' is not a proper value", arg);
		break;
	case ARGP_KEY_ARG:
		if (state->arg_num)
			return ARGP_ERR_UNKNOWN;
		if (!endpoint_known(arg))
			argp_error(state, "'%s' is not %s", arg,
				   ENDPOINT_HELP);
		options->from = arg;
		break;
	case ARGP_KEY_END:
		if (!options->output || !options->from)
			argp_error(state, "--output DIR and a source are needed");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp argp = {
	.options = argp_options,
	.parser = parse_option,
	.args_doc = "--output DIR SOURCE",
	.doc = "Receive the memory of a process into image files.\vSOURCE is "
		ENDPOINT_HELP
		". tcp: and unix: wait for one sender; without a HOST tcp: listens on 127.0.0.1 only.",
};

/**
 * recv_main() - xbzrle recv
 * @argc: arguments
 * @argv: arguments
 *
 * Return: exit status.
 */
int recv_main(int argc, char **argv)
{
	struct receiver receiver = {};
	struct options options = { .memory = COMMAND_MEMORY };
	struct xbzrle_error err;
	int ret;

	argp_parse(&argp, argc, argv, 0, NULL, &options);

	ret = run(&receiver, &options, &err);
	if (ret && !receiver.told)
		command_failed(&err);
	return command_status(ret);
}

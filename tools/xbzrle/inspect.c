// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#define _GNU_SOURCE
#include <argp.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "command.h"
#include "frame.h"
#include "tally.h"

struct options {
	const char *file;
	bool json;
};

struct inspector {
	struct xbzrle_wire *wire;
	struct tally tally;
	bool framed;
	uint64_t frames;
	bool ended;		/* an END frame was there */
};

static int take_bytes(struct inspector *inspector, const void *data,
		      size_t length, struct xbzrle_error *err)
{
	struct xbzrle_record record;
	int ret;

	xbzrle_wire_feed(inspector->wire, data, length);
	while ((ret = xbzrle_wire_next(inspector->wire, &record, err)) > 0) {
		ret = tally_record(&inspector->tally, &record, err);
		if (ret)
			break;
	}
	return command_at_byte(ret, err);
}

static int read_frames(struct inspector *inspector, struct frame_link *link,
		       struct xbzrle_error *err)
{
	struct frame frame;
	int ret;

	while ((ret = frame_receive(link, &frame, err)) > 0) {
		/* A sender may not like the verdict. */
		if (inspector->ended && frame.type != FRAME_ERROR)
			return xbzrle_fail(err, EBADMSG, 0,
					   "a frame follows the end frame");
		inspector->frames++;
		if (frame.type == FRAME_END) {
			inspector->ended = true;
			ret = command_at_byte(xbzrle_wire_end(inspector->wire,
							      err), err);
		} else if (frame.type == FRAME_DATA) {
			ret = take_bytes(inspector, frame.payload,
					 frame.length, err);
		} else {
			ret = 0;
		}
		if (ret)
			return ret;
	}
	if (!ret && !inspector->ended)
		return xbzrle_fail(err, EPIPE, 0,
				   "the stream ends before its end frame");
	return ret;
}

static int read_raw(struct inspector *inspector, struct frame_link *link,
		    struct xbzrle_error *err)
{
	uint8_t *buffer = link->in_buffer;
	int got, ret;

	while ((got = frame_read(link, buffer, FRAME_PAYLOAD_MAX, err)) > 0) {
		ret = take_bytes(inspector, buffer, got, err);
		if (ret)
			return ret;
	}
	return got ? got :
		command_at_byte(xbzrle_wire_end(inspector->wire, err), err);
}

/* Frames begin with their magic; a stream's first byte is of a length. */
static int read_stream(struct inspector *inspector, int fd,
		       struct xbzrle_error *err)
{
	struct frame_link link;
	uint32_t magic = 0;
	size_t ahead = 0;
	int got, ret;

	ret = frame_link_init(&link, fd, -1, err);
	if (ret)
		return ret;
	do {
		got = frame_read(&link, (char *)&magic + ahead,
				 sizeof(magic) - ahead, err);
		if (got < 0) {
			ret = got;
			goto release;
		}
		ahead += got;
	} while (got && ahead < sizeof(magic));
	link.ahead = (uint8_t *)&magic;
	link.ahead_length = ahead;

	inspector->framed = be32toh(magic) == FRAME_MAGIC;
	ret = inspector->framed ? read_frames(inspector, &link, err) :
		read_raw(inspector, &link, err);
release:
	frame_link_release(&link);
	return ret;
}

static void print_runs(const char *what, const uint64_t *classes)
{
	unsigned int i;

	printf("%s\n", what);
	for (i = 0; i < TALLY_CLASSES; i++) {
		if (classes[i])
			printf("  %5u to %5u: %" PRIu64 "\n", 1 << i,
			       (2 << i) - 1, classes[i]);
	}
}

static int print_text(const struct inspector *inspector,
		      struct xbzrle_error *err)
{
	const struct tally *tally = &inspector->tally;
	const struct tally_round *round;
	size_t i;

	if (inspector->framed)
		printf("transport: %" PRIu64 " frames\n", inspector->frames);
	else
		printf("transport: none\n");
	printf("stream: %" PRIu64 " bytes, %" PRIu64 " of them setup\n",
	       xbzrle_wire_position(inspector->wire), tally->setup_bytes);
	for (i = 0; i < tally->region_count; i++) {
		fputs("region '", stdout);
		command_print(stdout, tally->regions[i].name);
		printf("': %" PRIu64 " bytes\n", tally->regions[i].length);
	}
	for (i = 0; i < tally->round_count; i++) {
		round = &tally->rounds[i];
		printf("round %zu%s: %" PRIu64 " bytes: ", i + 1,
		       tally->in_round && i + 1 == tally->round_count ?
		       " (incomplete)" : "", round->bytes);
		printf("zero %" PRIu64 ", page %" PRIu64 " (%" PRIu64 " bytes), ",
		       round->zero.records, round->page.records,
		       round->page.bytes);
		printf("delta %" PRIu64 " (%" PRIu64 " bytes)\n",
		       round->delta.records, round->delta.bytes);
	}
	print_runs("runs of equal bytes in deltas, by length:", tally->equal);
	print_runs("runs of new bytes in deltas, by length:", tally->new);
	return command_flush(err);
}

static void print_kind(const char *name, const struct tally_kind *kind)
{
	printf(", \"%s\": {\"records\": %" PRIu64 ", \"bytes\": %" PRIu64 "}",
	       name, kind->records, kind->bytes);
}

static void print_runs_json(const char *name, const uint64_t *classes)
{
	const char *before = "";
	unsigned int i;

	printf(",\n  \"%s\": [", name);
	for (i = 0; i < TALLY_CLASSES; i++) {
		if (!classes[i])
			continue;
		printf("%s\n    {\"from\": %u, \"to\": %u, \"count\": %" PRIu64 "}",
		       before, 1 << i, (2 << i) - 1, classes[i]);
		before = ",";
	}
	printf("]");
}

static int print_name(const char *name, struct xbzrle_error *err)
{
	json_t *text = command_json_text(name);
	int ret = command_print_json(text, JSON_ENCODE_ANY, err);

	json_decref(text);
	return ret;
}

/* As it goes: objects for millions of rounds would take a lot of memory. */
static int print_json(const struct inspector *inspector,
		      struct xbzrle_error *err)
{
	const struct tally *tally = &inspector->tally;
	const struct tally_round *round;
	size_t i;
	int ret;

	printf("{\n  \"framed\": %s,\n  \"frames\": %" PRIu64,
	       inspector->framed ? "true" : "false", inspector->frames);
	printf(",\n  \"bytes\": %" PRIu64 ",\n  \"setup_bytes\": %" PRIu64,
	       xbzrle_wire_position(inspector->wire), tally->setup_bytes);
	printf(",\n  \"regions\": [");
	for (i = 0; i < tally->region_count; i++) {
		printf("%s\n    {\"name\": ", i ? "," : "");
		ret = print_name(tally->regions[i].name, err);
		if (ret)
			return ret;
		printf(", \"length\": %" PRIu64 "}", tally->regions[i].length);
	}
	printf("],\n  \"rounds\": [");
	for (i = 0; i < tally->round_count; i++) {
		round = &tally->rounds[i];
		printf("%s\n    {\"bytes\": %" PRIu64, i ? "," : "",
		       round->bytes);
		print_kind("zero", &round->zero);
		print_kind("page", &round->page);
		print_kind("delta", &round->delta);
		putchar('}');
	}
	putchar(']');
	print_runs_json("equal_runs", tally->equal);
	print_runs_json("new_runs", tally->new);
	printf("\n}\n");
	return command_flush(err);
}

static const struct argp_option argp_options[] = {
	{ "json", 'j', NULL, 0, "Print JSON", 0 },
	{}
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case 'j':
		options->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num)
			return ARGP_ERR_UNKNOWN;
		options->file = arg;
		return 0;
	case ARGP_KEY_END:
		if (!options->file)
			argp_error(state, "a FILE is needed, or -");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = argp_options,
	.parser = parse_option,
	.args_doc = "FILE",
	.doc = "Print what is in a recorded stream, with transport frames or without.",
};

/**
 * inspect_main() - xbzrle inspect
 * @argc: arguments
 * @argv: arguments
 *
 * Return: exit status.
 */
int inspect_main(int argc, char **argv)
{
	struct inspector inspector = {};
	struct options options = {};
	struct xbzrle_error err, lost;
	int fd = STDIN_FILENO, ret, printed;

	argp_parse(&argp, argc, argv, 0, NULL, &options);

	if (strcmp(options.file, "-"))
		fd = open(options.file, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		xbzrle_fail(&err, errno, 0, "cannot open %s: %s",
			    options.file, strerror(errno));
		return command_failed(&err);
	}
	inspector.wire = xbzrle_wire_new(&err);
	if (!inspector.wire) {
		close(fd);
		return command_failed(&err);
	}

	ret = read_stream(&inspector, fd, &err);
	/* What could be read is shown, also if it ends badly. */
	printed = options.json ? print_json(&inspector, &lost) :
		print_text(&inspector, &lost);
	if (!ret && printed) {
		err = lost;
		ret = printed;
	}

	tally_release(&inspector.tally);
	xbzrle_wire_free(inspector.wire);
	close(fd);
	return ret ? command_failed(&err) : EXIT_DONE;
}

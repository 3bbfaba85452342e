// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Any bytes to xbzrle recv: it ends well if docs/transport.md says that this is
 * a transfer, and not otherwise; the images are then what was sent, or else as
 * the last complete round has left them, and without a manifest; nothing else is
 * there; and the sender is told.
 *
 * Input: what the sender sends. By its length it comes from a file or a socket.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <jansson.h>
#include <xxhash.h>

#include "../xbzrle/command.h"
#include "fuzz.h"
#include "model.h"
#include "place.h"
#include "transport.h"

#define MANIFEST	"manifest.json"
#define DIGEST_SIZE	16

struct announced {
	char name[256];
	char file[256];
	uint64_t length;
	struct model_region *region;	/* once it has come */
	bool dropped;
	bool digest_known;
	uint8_t digest[DIGEST_SIZE];
};

/* A receiver by docs/transport.md. */
struct peer {
	struct model model;
	struct announced announced[MODEL_REGIONS];
	unsigned int count;
	unsigned int digests;
	bool answers;
	bool too_large;		/* more than is followed here */
	bool done;
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_quiet();
	return 0;
}

static struct announced *find(struct peer *peer, const char *name)
{
	unsigned int i;

	for (i = 0; i < peer->count; i++) {
		if (!strcmp(peer->announced[i].name, name))
			return &peer->announced[i];
	}
	return NULL;
}

static bool admit(void *admitting, const struct model_region *region)
{
	struct announced *announced = find(admitting, region->name);

	return announced && !announced->region && !announced->dropped &&
		announced->length == region->length;
}

/* What the model has got since. */
static void look_up_regions(struct peer *peer)
{
	struct announced *announced;
	unsigned int i;

	for (i = 0; i < peer->model.count; i++) {
		announced = find(peer, peer->model.regions[i]->name);
		announced->region = peer->model.regions[i];
		announced->dropped = announced->region->dropped;
	}
}

static bool file_taken(const struct peer *peer, const char *file)
{
	unsigned int i;

	for (i = 0; i < peer->count; i++) {
		if (!strcasecmp(peer->announced[i].file, file))
			return true;
	}
	return false;
}

static void name_file(const struct peer *peer, struct announced *announced)
{
	static const char plain[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-_";
	char name[256];
	size_t i;

	strcpy(name, announced->name);
	name[200] = '\0';
	for (i = 0; name[i]; i++) {
		if (!strchr(plain, name[i]) && (name[i] != '.' || !i))
			name[i] = '_';
	}
	snprintf(announced->file, sizeof(announced->file), "%s.img", name);
	if (file_taken(peer, announced->file))
		snprintf(announced->file, sizeof(announced->file),
			 "%s~%u.img", name, peer->count + 1);
}

static bool take_hello(struct peer *peer, const struct transport_frame *frame,
		       bool can_answer)
{
	uint64_t offered, required;

	if (frame->type != HELLO || frame->length != 20 ||
	    transport_number(frame->payload + 16, 4) != MODEL_UNIT)
		return false;
	offered = transport_number(frame->payload, 8);
	required = transport_number(frame->payload + 8, 8);
	peer->answers = can_answer && offered & 1;
	return required < 4 && offered & 2;
}

static bool take_region(struct peer *peer, const struct transport_frame *frame)
{
	struct announced new = {};

	if (transport_name(frame, 20, new.name) || find(peer, new.name))
		return false;
	if (peer->count == MODEL_REGIONS) {
		peer->too_large = true;
		return false;
	}
	new.length = transport_number(frame->payload + 8, 8);
	name_file(peer, &new);
	peer->announced[peer->count++] = new;
	return true;
}

static bool take_data(struct peer *peer, const struct transport_frame *frame)
{
	model_feed(&peer->model, frame->payload, frame->length);
	look_up_regions(peer);
	return !peer->model.verdict;
}

static bool take_drop(struct peer *peer, const struct transport_frame *frame)
{
	struct announced *announced;
	char name[256];

	if (transport_name(frame, 0, name))
		return false;
	announced = find(peer, name);
	if (!announced)
		return false;
	announced->dropped = true;
	if (announced->region)
		announced->region->dropped = true;
	return true;
}

static bool take_digest(struct peer *peer, const struct transport_frame *frame)
{
	struct announced *announced;
	char name[256];

	if (transport_name(frame, 8 + DIGEST_SIZE, name))
		return false;
	announced = find(peer, name);
	if (!announced || !announced->region || announced->dropped ||
	    announced->digest_known ||
	    transport_number(frame->payload, 8) != announced->length)
		return false;
	memcpy(announced->digest, frame->payload + 8, DIGEST_SIZE);
	announced->digest_known = true;
	peer->digests++;
	return true;
}

static bool is_what_was_sent(const struct announced *announced)
{
	XXH128_canonical_t canonical;

	if (announced->dropped)
		return true;
	if (!announced->region || !announced->digest_known)
		return false;
	XXH128_canonicalFromHash(&canonical,
				 XXH3_128bits(announced->region->memory,
					      announced->length));
	return !memcmp(canonical.digest, announced->digest, DIGEST_SIZE);
}

static bool take_end(struct peer *peer, const struct transport_frame *frame)
{
	unsigned int i;

	if (frame->length != 4 || !model_may_end(&peer->model) ||
	    transport_number(frame->payload, 4) != peer->digests)
		return false;
	for (i = 0; i < peer->count; i++) {
		if (!is_what_was_sent(&peer->announced[i]))
			return false;
	}
	peer->done = true;
	return true;
}

static bool take_frame(struct peer *peer, const struct transport_frame *frame)
{
	const struct model *model = &peer->model;

	switch (frame->type) {
	case REGION:
		return take_region(peer, frame);
	case DATA:
		return take_data(peer, frame);
	case ROUND:
		return frame->length == 24 && model_may_end(model) &&
			transport_number(frame->payload, 8) == model->rounds &&
			transport_number(frame->payload + 8, 8) ==
			model->length;
	case DROP:
		return take_drop(peer, frame);
	case DIGEST:
		return take_digest(peer, frame);
	case END:
		return take_end(peer, frame);
	default:
		return false;
	}
}

static void receive(struct peer *peer, struct transport *transport,
		    bool can_answer)
{
	struct transport_frame frame;

	peer->model.admit = admit;
	peer->model.admitting = peer;
	if (transport_next(transport, &frame) > 0 &&
	    take_hello(peer, &frame, can_answer)) {
		while (!peer->done && transport_next(transport, &frame) > 0 &&
		       take_frame(peer, &frame))
			continue;
	}
	if (peer->model.verdict == MODEL_TOO_LARGE)
		peer->too_large = true;
	model_break_off(&peer->model);
}

/* A manifest that says what is there, if all has come, and no file more. */
static void check_images(const struct peer *peer, const char *dir)
{
	const struct announced *announced;
	unsigned int i, files = 0;
	bool began = false;
	char path[128];
	json_t *root;

	for (i = 0; i < peer->count; i++) {
		announced = &peer->announced[i];
		if (announced->region)
			began = true;
		if (!announced->region || announced->dropped)
			continue;
		must(place_holds(dir, announced->file,
				 announced->region->memory,
				 announced->length));
		files++;
	}
	/* Besides images the manifest, or the list of those of no manifest. */
	must(place_count(dir) == files + (peer->done || began));
	/* Nothing beside the directory either. */
	must(place_count(place_path()) == 1);
	if (!peer->done)
		return;
	snprintf(path, sizeof(path), "%s/" MANIFEST, dir);
	root = json_load_file(path, 0, NULL);
	must(root);
	must(json_integer_value(json_object_get(root, "rounds")) ==
	     peer->model.rounds);
	must(json_array_size(json_object_get(root, "regions")) == files);
	json_decref(root);
}

static void check_answers(const struct peer *peer, int fd)
{
	static uint8_t answers[1 << 17];
	ssize_t got = 0, some;
	struct transport_frame frame = {};
	struct transport transport;
	bool yes;

	while ((some = read(fd, answers + got, sizeof(answers) - got)) > 0)
		got += some;
	transport = (struct transport){ answers, answers + got, 0 };
	while (transport.at < transport.end)
		must(transport_next(&transport, &frame) == 1);
	yes = frame.type == VERDICT && frame.payload[0] == 1;
	must(yes == (peer->done && peer->answers));
	if (!peer->done)
		must(frame.type == VERDICT || frame.type == ERROR);
	else if (!peer->answers)
		must(!got);
}

/* A file, or a socket whose other end is left in @answers. */
static int source(const uint8_t *data, size_t size, int *answers)
{
	int fds[2], room = 1 << 20;

	*answers = -1;
	if (size % 2) {
		fds[0] = memfd_create("transfer", MFD_CLOEXEC);
		must(write(fds[0], data, size) == (ssize_t)size);
		must(!lseek(fds[0], 0, SEEK_SET));
		return fds[0];
	}
	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	must(send(fds[1], data, size, MSG_NOSIGNAL) == (ssize_t)size);
	must(!shutdown(fds[1], SHUT_WR));
	*answers = fds[1];
	return fds[0];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct transport transport = { data, data + size, 0 };
	char dir[80], from[24], *argv[] = {
		"recv", "--output", dir, from, size % 4 < 2 ? NULL : "--json",
		NULL,
	};
	struct peer peer = {};
	int answers, status;

	snprintf(dir, sizeof(dir), "%s/images", place_path());
	snprintf(from, sizeof(from), "fd:%d", source(data, size, &answers));
	receive(&peer, &transport, answers >= 0);
	status = place_run(recv_main, argv, MODEL_PAGES * MODEL_UNIT);
	if (!peer.too_large) {
		must(status == (peer.done ? EXIT_DONE : EXIT_FAILED));
		check_images(&peer, dir);
		if (answers >= 0)
			check_answers(&peer, answers);
	}
	if (answers >= 0)
		close(answers);
	place_empty(dir);
	model_free(&peer.model);
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

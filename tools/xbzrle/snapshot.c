// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * A round of the chain is what one point-in-time round of the session brings.
 * If that is torn, what it brought stays in the round's file, because the deltas
 * that follow build upon it, and the next is taken at once; only the last in a
 * file is what can be restored.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chain.h"
#include "command.h"
#include "maps.h"
#include "pause.h"
#include "progress.h"
#include "replica.h"
#include "round.h"
#include "signals.h"
#include "target.h"
#include "tracked.h"
#include "units.h"

/* How long a process that was seen to end may take to be gone. */
#define END_MS		1000

struct options {
	pid_t pid;
	int session;
	struct maps_wish *wishes;
	size_t wish_count;
	uint64_t cache;
	uint64_t every_ms;
	uint64_t count;
	const char *output;
	const char *freezer;
	enum xbzrle_tracker tracker;
	bool json;
	bool quiet;
};

/**
 * struct snapshot - a chain that grows
 * @options: what the user wants
 * @session: session
 * @target: process, if there is one
 * @tracked: its regions, if the session is ours
 * @pause: who must not write while a round begins
 * @replica: what the chain's last round makes
 * @source: where rounds come from
 * @chain: where they go
 * @file: the file of the round that is taken
 * @buffer: room for FRAME_PAYLOAD_MAX bytes
 * @full: the next round of the session has to bring all
 * @rounds: taken so far
 * @last: number of the last of them
 * @bytes: of their files
 */
struct snapshot {
	const struct options *options;
	struct xbzrle_session *session;
	struct target target;
	struct tracked tracked;
	struct pause pause;
	struct replica replica;
	struct round_source source;
	struct chain chain;
	struct chain_file file;
	void *buffer;
	bool full;
	uint64_t rounds;
	uint64_t last;
	uint64_t bytes;
};

/* Regions of a session that others keep are known from its stream alone. */
static int announce_new(struct snapshot *snapshot, struct xbzrle_error *err)
{
	struct replica *replica = &snapshot->replica;
	struct replica_region *region;
	size_t i;
	int ret;

	for (i = 0; i < replica->count; i++) {
		region = &replica->regions[i];
		if (region->announced || region->state != REPLICA_PRESENT)
			continue;
		ret = frame_send_region(&snapshot->file.link,
					&(struct frame_region){
			.length = region->length,
			.name = region->name,
		}, err);
		if (ret)
			return ret;
		region->announced = true;
	}
	return 0;
}

static int take_bytes(struct snapshot *snapshot, struct xbzrle_error *err)
{
	struct frame_link *link = &snapshot->file.link;
	ssize_t got;
	int ret;

	while ((got = round_read(&snapshot->source, snapshot->buffer,
				 FRAME_PAYLOAD_MAX, err)) > 0) {
		ret = announce_new(snapshot, err);
		if (ret)
			return ret;
		memcpy(frame_room(link), snapshot->buffer, got);
		ret = frame_send(link, FRAME_DATA, got, err);
		if (ret)
			return ret;
	}
	return got;
}

/* One round of the session, torn or not. */
static int take_stream_round(struct snapshot *snapshot,
			     struct chain_facts *facts,
			     struct xbzrle_error *err)
{
	unsigned int flags = XBZRLE_SYNC_POINT_IN_TIME;
	struct xbzrle_sync sync;
	struct frame_round round;
	int ret;

	if (snapshot->full)
		flags |= XBZRLE_SYNC_FULL;
	ret = round_start(&snapshot->source, flags, &sync, err);
	if (ret)
		return ret;
	snapshot->full = false;
	facts->dirty_pages += sync.dirty_pages;
	facts->paused_us += snapshot->source.paused * 1e6;
	ret = take_bytes(snapshot, err);
	if (ret)
		return ret;
	round = replica_round(&snapshot->replica);
	round.dirty_pages = sync.dirty_pages;
	return frame_send_round(&snapshot->file.link, &round, err);
}

static int take_untorn(struct snapshot *snapshot, struct chain_facts *facts,
		       struct xbzrle_error *err)
{
	int tries, ret;

	for (tries = 0; tries < ROUND_TRIES; tries++) {
		ret = take_stream_round(snapshot, facts, err);
		if (ret || !snapshot->source.torn)
			return ret;
	}
	return round_never_whole(&snapshot->source, tries, err);
}

static int print_round(const struct snapshot *snapshot,
		       const struct chain_facts *facts,
		       struct xbzrle_error *err)
{
	const struct chain_round *round = snapshot->chain.rounds;
	json_t *entry;
	int ret;

	if (!snapshot->options->quiet) {
		fprintf(stderr, "round %" PRIu64 ": %" PRIu64 " dirty pages, %s",
			round->number, facts->dirty_pages,
			units_bytes(round->bytes).text);
		fprintf(stderr, ", paused for %s\n",
			units_seconds(facts->paused_us / 1e6).text);
	}
	if (!snapshot->options->json)
		return 0;
	entry = chain_entry(&snapshot->chain, 0, err);
	if (!entry)
		return -err->code;
	ret = command_print_json(entry, JSON_COMPACT, err);
	json_decref(entry);
	putchar('\n');
	return ret ? ret : command_flush(err);
}

static int take_round(struct snapshot *snapshot, struct xbzrle_error *err)
{
	struct chain *chain = &snapshot->chain;
	struct chain_facts facts = {};
	uint64_t last = 0;
	int ret;

	if (chain->count)
		last = chain->rounds[0].number;
	ret = chain_file_begin(&snapshot->file, chain, last + 1,
			       snapshot->rounds ? last : 0, err);
	if (ret)
		return ret;
	replica_begin_part(&snapshot->replica);
	ret = take_untorn(snapshot, &facts, err);
	if (ret) {
		chain_file_abandon(&snapshot->file);
		return ret;
	}
	ret = chain_file_commit(&snapshot->file, &snapshot->replica, &facts,
				err);
	if (ret)
		return ret;
	snapshot->rounds++;
	snapshot->last = chain->rounds[0].number;
	snapshot->bytes += chain->rounds[0].bytes;
	return print_round(snapshot, &facts, err);
}

/* Until it is time for the next round, or there will be none. */
static int wait_until(struct snapshot *snapshot, double when,
		      struct xbzrle_error *err)
{
	struct pollfd end = { .fd = -1, .events = POLLIN };
	double left;
	int ret;

	if (snapshot->options->pid)
		end.fd = snapshot->target.pidfd;
	while ((left = when - progress_now()) > 0) {
		ret = signals_check(err);
		if (ret)
			return ret;
		if (poll(&end, 1, left < 60 ? left * 1e3 + 1 : 60000) > 0)
			return xbzrle_fail(err, ESRCH, 0,
					   "process %d has ended",
					   snapshot->options->pid);
	}
	return 0;
}

static int take_rounds(struct snapshot *snapshot, struct xbzrle_error *err)
{
	const struct options *options = snapshot->options;
	double next = progress_now();
	int ret;

	for (;;) {
		ret = take_round(snapshot, err);
		if (ret || snapshot->rounds == options->count)
			return ret;
		/* Rounds that were missed are not made up for. */
		next += options->every_ms / 1e3;
		if (next < progress_now())
			next = progress_now();
		ret = wait_until(snapshot, next, err);
		if (ret)
			return ret;
	}
}

/*
 * Did it fail because the process ends? That may have other words for it, and come
 * a moment before: its memory goes first.
 */
static bool process_ends(const struct snapshot *snapshot, int ret)
{
	struct pollfd end = { .events = POLLIN };

	if (!snapshot->options->pid || !snapshot->rounds ||
	    !ret || ret == -EINTR || ret == -ESTALE)
		return false;
	/* Of the folder. */
	if (ret == -ENOSPC || ret == -EDQUOT || ret == -EFBIG ||
	    ret == -EROFS)
		return false;
	end.fd = snapshot->target.pidfd;
	return poll(&end, 1, END_MS) > 0;
}

static int summarize(const struct snapshot *snapshot, int ret,
		     struct xbzrle_error *err)
{
	const struct options *options = snapshot->options;
	bool ends = process_ends(snapshot, ret);

	/* A chain may end with its process, or when it is told to. */
	if (ret && (!snapshot->rounds ||
		    !(ends || ret == -EINTR || ret == -ESRCH)))
		return ret;
	if (ends)
		xbzrle_fail(err, ESRCH, 0, "process %d has ended",
			    options->pid);
	if (!options->quiet) {
		if (ret) {
			fputs("xbzrle: ", stderr);
			command_print(stderr, err->message);
			fputc('\n', stderr);
		}
		fprintf(stderr, "xbzrle: %" PRIu64 " rounds, the last is %" PRIu64 ", %s\n",
			snapshot->rounds, snapshot->last,
			units_bytes(snapshot->bytes).text);
	}
	return 0;
}

static int prepare_session(struct snapshot *snapshot,
			   struct xbzrle_error *err)
{
	const struct options *options = snapshot->options;
	uint64_t cache = options->cache;
	int ret;

	ret = round_check_point_in_time(snapshot->session, err);
	if (ret || options->session >= 0)
		return ret || !cache ? ret :
			xbzrle_set_cache(snapshot->session, cache, err);
	ret = xbzrle_set_cache(snapshot->session, cache ? cache : 64 << 20,
			       err);
	if (!ret)
		ret = tracked_choose(&snapshot->tracked, options->tracker,
				     options->quiet, err);
	return ret;
}

static struct xbzrle_session *open_session(const struct options *options,
					   struct xbzrle_error *err)
{
	struct xbzrle_session *session;
	int fd;

	if (options->session < 0)
		return xbzrle_open(err);
	fd = fcntl(options->session, F_DUPFD_CLOEXEC, 0);
	if (fd < 0) {
		xbzrle_fail(err, errno, 0, "fd %d: %s", options->session,
			    strerror(errno));
		return NULL;
	}
	session = xbzrle_open_fd(fd, err);
	if (!session)
		close(fd);
	return session;
}

/*
 * Who has read from a session of others before may have left a round half read,
 * as we do when the disk is full, and until that is read nobody can begin another.
 * A chain begins with all, so it lacks nothing of what is thrown away.
 */
static int discard_rest(struct snapshot *snapshot, struct xbzrle_error *err)
{
	uint64_t bytes = 0;
	ssize_t got;

	if (snapshot->options->session < 0)
		return 0;
	snapshot->source.replica = NULL;
	while ((got = round_read(&snapshot->source, snapshot->buffer,
				 FRAME_PAYLOAD_MAX, err)) > 0)
		bytes += got;
	snapshot->source.replica = &snapshot->replica;
	if (bytes && !snapshot->options->quiet)
		fprintf(stderr, "xbzrle: %s of a round that was left were thrown away\n",
			units_bytes(bytes).text);
	return got;
}

static int run_session(struct snapshot *snapshot, struct xbzrle_error *err)
{
	const struct options *options = snapshot->options;
	int ret;

	snapshot->session = open_session(options, err);
	if (!snapshot->session)
		return -err->code;
	snapshot->tracked.session = snapshot->session;
	snapshot->source = (struct round_source){
		.session = snapshot->session,
		.tracked = options->session < 0 ? &snapshot->tracked : NULL,
		.target = options->pid ? &snapshot->target : NULL,
		.pause = &snapshot->pause,
		.replica = &snapshot->replica,
		.link = &snapshot->file.link,
	};
	ret = replica_open(&snapshot->replica, NULL, UINT64_MAX, err);
	if (ret)
		goto close_session;
	snapshot->replica.unannounced = options->session >= 0;
	ret = prepare_session(snapshot, err);
	if (!ret)
		ret = discard_rest(snapshot, err);
	if (!ret)
		ret = take_rounds(snapshot, err);
	ret = summarize(snapshot, ret, err);
	replica_close(&snapshot->replica);
	tracked_release(&snapshot->tracked);
close_session:
	xbzrle_close(snapshot->session);
	return ret;
}

static int run(const struct options *options, struct xbzrle_error *err)
{
	struct snapshot snapshot = {
		.options = options,
		.tracked.target = &snapshot.target,
		.tracked.wishes = options->wishes,
		.tracked.wish_count = options->wish_count,
		.tracked.alone = !options->freezer,
		.full = true,
	};
	int ret;

	snapshot.buffer = malloc(FRAME_PAYLOAD_MAX);
	if (!snapshot.buffer)
		return xbzrle_fail(err, ENOMEM, 0, "no memory");
	if (options->pid) {
		ret = target_open(&snapshot.target, options->pid, err);
		if (ret)
			goto free_buffer;
	}
	ret = pause_open(&snapshot.pause,
			 options->pid ? &snapshot.target : NULL,
			 options->freezer, err);
	if (ret)
		goto close_target;
	ret = chain_open(&snapshot.chain, options->output, CHAIN_SNAPSHOT, err);
	if (ret)
		goto close_pause;
	ret = run_session(&snapshot, err);
	chain_close(&snapshot.chain);
close_pause:
	pause_close(&snapshot.pause);
close_target:
	if (options->pid)
		target_close(&snapshot.target);
free_buffer:
	free(snapshot.buffer);
	return ret;
}

enum {
	OPT_PID = 'p',
	OPT_MAP = 'm',
	OPT_CACHE = 'c',
	OPT_EVERY = 'e',
	OPT_COUNT = 'n',
	OPT_OUTPUT = 'o',
	OPT_JSON = 'j',
	OPT_QUIET = 'q',
	OPT_SESSION = 256,
	OPT_FREEZER,
	OPT_TRACKER,
};

static const struct argp_option argp_options[] = {
	{ "pid", OPT_PID, "PID", 0, "The process", 0 },
	{ "session", OPT_SESSION, "FD", 0,
	  "An open session, whose regions are taken as they are; --pid or --freezer then say who writes to them",
	  0 },
	{ "map", OPT_MAP, "WHAT", 0,
	  "heap, anon, a name as in /proc/PID/maps, or START-END in hexadecimal; may be repeated (default: heap and anon)",
	  0 },
	{ "every", OPT_EVERY, "TIME", 0,
	  "From one round to the next, in ms, s, m, h or d (default: 1s)", 0 },
	{ "count", OPT_COUNT, "N", 0, "Take so many rounds (default: go on)",
	  0 },
	{ "output", OPT_OUTPUT, "DIR", 0, "Where the chain is", 0 },
	{ "cache", OPT_CACHE, "SIZE", 0,
	  "Memory for pages as last sent and for what a round has to keep (default: 64M, or what the session has)",
	  0 },
	{ "freezer", OPT_FREEZER, "CGROUP", 0,
	  "Freeze this control group, which all that write are in, in place of stopping the process",
	  0 },
	{ "tracker", OPT_TRACKER, "auto|external", 0,
	  "How writes are learned of, as for send", 0 },
	{ "json", OPT_JSON, NULL, 0,
	  "Print what the manifest says of each round", 0 },
	{ "quiet", OPT_QUIET, NULL, 0, "Tell nothing but errors", 0 },
	{}
};

static void check_options(const struct options *options,
			  struct argp_state *state)
{
	if (!options->output)
		argp_error(state, "--output DIR is needed");
	if (options->session < 0 && !options->pid)
		argp_error(state, "--pid PID or --session FD is needed");
	if (options->session >= 0 && !options->pid && !options->freezer)
		argp_error(state,
			   "who writes to the session's memory has to be paused: --pid PID or --freezer CGROUP says who that is");
	if (options->session >= 0 &&
	    (options->wish_count || options->tracker != XBZRLE_TRACKER_AUTO))
		argp_error(state,
			   "--session takes its regions as they are: --map and --tracker are for --pid alone");
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;
	uint64_t number = 0;
	int bad = 0;

	switch (key) {
	case OPT_PID:
		bad = units_parse_number(arg, INT32_MAX, &number) || !number;
		options->pid = number;
		break;
	case OPT_SESSION:
		bad = units_parse_number(arg, INT32_MAX, &number);
		options->session = number;
		break;
	case OPT_MAP:
		bad = maps_add(&options->wishes, &options->wish_count, arg);
		break;
	case OPT_EVERY:
		bad = units_parse_duration(arg, &options->every_ms) ||
			!options->every_ms;
		break;
	case OPT_COUNT:
		bad = units_parse_number(arg, INT64_MAX, &options->count) ||
			!options->count;
		break;
	case OPT_OUTPUT:
		options->output = arg;
		break;
	case OPT_CACHE:
		bad = units_parse_size(arg, &options->cache) ||
			!options->cache;
		break;
	case OPT_FREEZER:
		options->freezer = arg;
		break;
	case OPT_TRACKER:
		bad = tracked_parse(arg, &options->tracker);
		break;
	case OPT_JSON:
		options->json = true;
		break;
	case OPT_QUIET:
		options->quiet = true;
		break;
	case ARGP_KEY_END:
		check_options(options, state);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	if (bad == -ENOMEM)
		argp_failure(state, EXIT_FAILED, ENOMEM, "'%s'", arg);
	if (bad)
		argp_error(state, "'%s' is not a proper value", arg);
	return 0;
}

static const struct argp argp = {
	.options = argp_options,
	.parser = parse_option,
	.args_doc = "--pid PID --output DIR",
	.doc = "Keep a chain of snapshots of a running process, each of them of one instant.",
};

/**
 * snapshot_main() - xbzrle snapshot
 * @argc: arguments
 * @argv: arguments
 *
 * Return: exit status.
 */
int snapshot_main(int argc, char **argv)
{
	struct options options = {
		.session = -1,
		.every_ms = 1000,
		.tracker = XBZRLE_TRACKER_AUTO,
	};
	struct xbzrle_error err;
	int ret;

	argp_parse(&argp, argc, argv, 0, NULL, &options);
	if (maps_add_default(&options.wishes, &options.wish_count, &err))
		return command_failed(&err);

	ret = run(&options, &err);
	free(options.wishes);
	if (ret)
		command_failed(&err);
	return command_status(ret);
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Rounds until what is left fits the downtime, then one with the target
 * stopped. What a round will cost is not known before its SYNC, and a SYNC
 * cannot be taken back; so a round is taken to cost as many encoded bytes as
 * the one before, at the rate at which that one went and was applied.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "array.h"
#include "bucket.h"
#include "command.h"
#include "digest.h"
#include "endpoint.h"
#include "frame.h"
#include "pause.h"
#include "progress.h"
#include "replica.h"
#include "round.h"
#include "signals.h"
#include "target.h"
#include "tracked.h"
#include "units.h"

/* What marks the round that should be the last. */
#define LAST_ROUND	(XBZRLE_SYNC_FINAL | XBZRLE_SYNC_POINT_IN_TIME)
/* Looks, a millisecond apart, at whether the target is stopped, or dead. */
#define HELD_TRIES	10

struct options {
	pid_t pid;
	struct maps_wish *wishes;
	size_t wish_count;
	uint64_t cache;
	uint64_t max_downtime_ms;
	uint64_t max_rounds;
	uint64_t bandwidth;
	uint64_t patience;
	enum xbzrle_tracker tracker;
	enum target_then then;
	const char *freezer;
	bool consistent;
	bool quiet;
	const char *to;
};

struct sender {
	const struct options *options;
	struct xbzrle_session *session;
	struct target target;
	struct tracked tracked;
	struct pause pause;
	struct replica replica;
	struct round_source source;
	struct frame_link link;
	struct progress progress;
	struct bucket bucket;
	uint64_t rounds;
	double digest_time;
	double downtime;
};

static int send_round(struct sender *sender, const struct xbzrle_sync *sync,
		      struct xbzrle_error *err)
{
	struct frame_link *link = &sender->link;
	size_t portion = bucket_portion(&sender->bucket, FRAME_PAYLOAD_MAX);
	ssize_t got;
	int ret;

	for (;;) {
		ret = frame_check_peer(link, err);
		if (ret)
			return ret;
		got = round_read(&sender->source, frame_room(link), portion,
				 err);
		if (!got)
			break;
		if (got < 0)
			return got;
		bucket_take(&sender->bucket, got);
		ret = frame_send(link, FRAME_DATA, got, err);
		if (ret)
			return ret;
		progress_bytes(&sender->progress, got);
	}
	return frame_send_round(link, &(struct frame_round){
		.round = sync->round,
		.position = sender->progress.total_bytes,
		.dirty_pages = sync->dirty_pages,
	}, err);
}

static int await_ack(struct sender *sender, const struct xbzrle_sync *sync,
		     struct xbzrle_error *err)
{
	struct frame_round ack;
	struct frame frame;
	int ret;

	if (sender->link.in < 0)
		return 0;
	ret = frame_expect(&sender->link, FRAME_ACK, &frame, err);
	if (!ret)
		ret = frame_get_round(&frame, &ack, err);
	if (ret)
		return ret;
	if (ack.round != sync->round ||
	    ack.position != sender->progress.total_bytes)
		return xbzrle_fail(err, EBADMSG, 0,
				   "an ACK of round %" PRIu64 " instead of %" PRIu64,
				   ack.round, (uint64_t)sync->round);
	return 0;
}

/* One round, from its SYNC to its ACK; @seconds is what it took. */
static int run_round(struct sender *sender, unsigned int flags,
		     double *seconds, struct xbzrle_error *err)
{
	struct progress *progress = &sender->progress;
	struct xbzrle_sync sync;
	int ret;

	progress->round_start = progress_now();
	ret = round_start(&sender->source, flags, &sync, err);
	if (ret)
		return ret;
	progress_round(progress, sync.round, flags & LAST_ROUND,
		       sync.dirty_pages);
	ret = send_round(sender, &sync, err);
	if (!ret)
		ret = await_ack(sender, &sync, err);
	if (ret)
		return ret;
	*seconds = progress_now() - progress->round_start;
	sender->rounds++;
	return 0;
}

/* Rounds while the target runs, until the rest fits the downtime. */
static int run_live(struct sender *sender, struct xbzrle_error *err)
{
	const struct options *options = sender->options;
	double seconds, allowed = options->max_downtime_ms / 1e3;
	int ret;

	/* The last round is one of them. */
	while (sender->rounds + 1 < options->max_rounds) {
		ret = run_round(sender, 0, &seconds, err);
		if (ret)
			return ret;
		/* As many bytes at the same rate take the same time. */
		progress_round_done(&sender->progress, seconds);
		if (seconds <= allowed)
			return 0;
	}
	return 0;
}

/* Of memory that goes on changing it is of what was read. */
static int digest_region(const struct sender *sender,
			 const struct tracked_region *region,
			 struct frame_digest *digest, struct xbzrle_error *err)
{
	const struct replica *replica = sender->source.replica;
	const struct replica_region *copy = NULL;

	if (replica)
		copy = replica_find(replica, region->name);
	if (copy && copy->state == REPLICA_PRESENT)
		return replica_digest(replica, copy, digest->digest, err);
	if (replica)
		return xbzrle_fail(err, EPROTO, 0,
				   "region '%s' is not in the stream",
				   region->name);
	return digest_process(sender->target.pid, region->start,
			      digest->length, digest->digest, err);
}

static int send_digests(struct sender *sender, uint32_t *digests,
			struct xbzrle_error *err)
{
	const struct tracked *tracked = &sender->tracked;
	const struct tracked_region *region;
	struct frame_digest digest;
	size_t i;
	int ret;

	*digests = 0;
	for (i = 0; i < tracked->count; i++) {
		region = &tracked->regions[i];
		if (!region->present)
			continue;
		digest.name = region->name;
		digest.length = region->end - region->start;
		ret = digest_region(sender, region, &digest, err);
		if (!ret)
			ret = frame_send_digest(&sender->link, &digest, err);
		if (ret)
			return ret;
		++*digests;
	}
	return 0;
}

/* Anybody who may send signals may have ended what must be stopped. */
static int check_held(const struct sender *sender, struct xbzrle_error *err)
{
	const struct target *target = &sender->target;
	pid_t running;
	int tries;

	/* Who is killed is not stopped any more, and does nothing. */
	for (tries = 0; tries < HELD_TRIES; tries++) {
		running = pause_running(&sender->pause);
		if (!running && !target_is_stopped(target) &&
		    !target_is_dying(target) && !target_has_ended(target))
			running = target->pid;
		if (!running)
			return 0;
		usleep(1000);
	}
	return xbzrle_fail(err, EBUSY, 0,
			   "process %d was put back to work by somebody else, so it is not what was sent any more; it goes on: keep others from sending SIGCONT, and send it again",
			   running);
}

/*
 * Everybody who can write the memory. Nobody is killed whom nobody has named, but
 * what such a process writes after the other's end would be lost.
 */
static int stop_all(struct sender *sender, struct xbzrle_error *err)
{
	const struct pause *pause = &sender->pause;
	int ret = pause_begin(&sender->pause, err);

	if (ret || !pause->other_count ||
	    sender->options->then != TARGET_KILL)
		return ret;
	return xbzrle_fail(err, EBUSY, 0,
			   "process %d shares its memory with process %d and would go on without it; use --then stop",
			   pause->others[0].pid, sender->target.pid);
}

/* The last round and the digests, while nothing can change. */
static int run_stopped(struct sender *sender, struct xbzrle_error *err)
{
	double stopped_at = progress_now(), digest_start, seconds;
	uint32_t digests;
	int ret;

	/* A terminal may take nothing for as long as its user likes (^S). */
	progress_hold(&sender->progress);
	ret = stop_all(sender, err);
	if (ret)
		return ret;
	sender->source.stays_stopped = true;
	ret = run_round(sender, XBZRLE_SYNC_FINAL, &seconds, err);
	if (ret)
		return ret;
	progress_round_done(&sender->progress, -1);

	digest_start = progress_now();
	ret = send_digests(sender, &digests, err);
	if (!ret)
		ret = check_held(sender, err);
	if (ret)
		return ret;
	if (sender->options->then == TARGET_CONT)
		pause_end(&sender->pause);
	sender->digest_time = progress_now() - digest_start;
	sender->downtime = progress_now() - stopped_at;
	if (sender->options->then == TARGET_CONT)
		progress_release(&sender->progress);
	return frame_send_end(&sender->link, digests, err);
}

/*
 * The last round of one instant, and the digests, while the target goes on. A
 * round that is torn has arrived as an ordinary one, and less is left for the
 * next.
 */
static int run_consistent(struct sender *sender, struct xbzrle_error *err)
{
	struct round_source *source = &sender->source;
	double digest_start, seconds;
	uint32_t digests;
	int ret, tries;

	for (tries = 0; tries < ROUND_TRIES; tries++) {
		ret = run_round(sender, XBZRLE_SYNC_POINT_IN_TIME, &seconds,
				err);
		sender->downtime += source->paused;
		if (ret)
			return ret;
		if (!source->torn)
			break;
		progress_round_done(&sender->progress, -1);
	}
	if (tries == ROUND_TRIES)
		return round_never_whole(source, tries, err);
	progress_round_done(&sender->progress, -1);
	digest_start = progress_now();
	ret = send_digests(sender, &digests, err);
	if (!ret)
		ret = frame_send_end(&sender->link, digests, err);
	sender->digest_time = progress_now() - digest_start;
	return ret;
}

static int await_verdict(struct sender *sender, struct xbzrle_error *err)
{
	struct frame frame;
	const char *text;
	bool agree;
	int ret;

	if (sender->link.in < 0)
		return 0;
	/* All has arrived; to digest and to sync it takes what it takes. */
	sender->link.patience = 0;
	ret = frame_expect(&sender->link, FRAME_VERDICT, &frame, err);
	if (!ret)
		ret = frame_get_verdict(&frame, &agree, &text, err);
	if (!ret && !agree)
		ret = xbzrle_fail(err, EBADMSG, 0,
				  "what arrived is not what was sent: %s",
				  text);
	return ret;
}

/* It has to know what we need, need what we know, and add nothing. */
static int check_hello(const struct frame_hello *ours,
		       const struct frame_hello *theirs,
		       struct xbzrle_error *err)
{
	if (ours->required & ~theirs->offered)
		return xbzrle_fail(err, EPROTO, 0,
				   "the receiver lacks features %#" PRIx64 ", needed here: "
				   FRAME_SAME_VERSION,
				   ours->required & ~theirs->offered);
	if (theirs->required & ~ours->offered)
		return xbzrle_fail(err, EPROTO, 0,
				   "the receiver needs features %#" PRIx64 ", not offered: "
				   FRAME_SAME_VERSION,
				   theirs->required & ~ours->offered);
	if (theirs->offered & ~ours->offered)
		return xbzrle_fail(err, EPROTO, 0,
				   "the receiver takes features %#" PRIx64 ", not offered: "
				   FRAME_SAME_VERSION,
				   theirs->offered & ~ours->offered);
	return 0;
}

static int greet(struct sender *sender, struct xbzrle_error *err)
{
	struct frame_link *link = &sender->link;
	struct frame_hello ours = { .required = FRAME_FEATURE_XXH3_128 };
	struct frame_hello theirs;
	struct frame frame;
	int ret;

	if (link->in >= 0)
		ours.required |= FRAME_FEATURE_ANSWERS;
	ours.offered = ours.required;
	ret = frame_send_hello(link, &ours, err);
	if (ret || link->in < 0)
		return ret;
	ret = frame_expect(link, FRAME_HELLO, &frame, err);
	if (!ret)
		ret = frame_get_hello(&frame, &theirs, err);
	return ret ? ret : check_hello(&ours, &theirs, err);
}

static int end_target(struct sender *sender, struct xbzrle_error *err)
{
	int ret;

	if (sender->options->then == TARGET_CONT)
		return 0;
	ret = check_held(sender, err);
	if (ret)
		return ret;
	switch (sender->options->then) {
	case TARGET_KILL:
		return target_kill(&sender->target, err);
	case TARGET_STOP:
		pause_keep(&sender->pause);
		return 0;
	default:
		return 0;
	}
}

static void summarize(const struct sender *sender)
{
	const struct progress *progress = &sender->progress;

	if (sender->options->quiet)
		return;
	fprintf(stderr, "xbzrle: %zu regions in %" PRIu64 " rounds, %s sent, ",
		tracked_present(&sender->tracked), sender->rounds,
		units_bytes(progress->total_bytes).text);
	fprintf(stderr, "stopped for %s",
		units_seconds(sender->downtime).text);
	fprintf(stderr, " (%s of it for digests), %s\n",
		units_seconds(sender->options->consistent ? 0 :
			      sender->digest_time).text,
		sender->link.in >= 0 ? "digests agree" :
		"the receiver verifies the digests");
	if (sender->tracked.tracker == XBZRLE_TRACKER_EXTERNAL)
		fprintf(stderr,
			"xbzrle: and stopped for %s before, to read its soft-dirty bits\n",
			units_seconds(sender->source.scan_time).text);
}

static int transfer(struct sender *sender, struct xbzrle_error *err)
{
	int ret;

	ret = xbzrle_set_cache(sender->session, sender->options->cache, err);
	if (!ret)
		ret = greet(sender, err);
	if (!ret)
		ret = tracked_choose(&sender->tracked,
				     sender->options->tracker,
				     sender->options->quiet, err);
	if (!ret && sender->options->consistent)
		ret = round_check_point_in_time(sender->session, err);
	if (!ret)
		ret = run_live(sender, err);
	if (!ret)
		ret = sender->options->consistent ?
			run_consistent(sender, err) : run_stopped(sender, err);
	if (!ret)
		ret = await_verdict(sender, err);
	if (ret) {
		/* Not later: the peer, or exec:'s command, may take its time. */
		pause_end(&sender->pause);
		frame_send_error(&sender->link, err->message, NULL);
	}
	return ret;
}

/* Will it be known that all has arrived, before the process is killed? */
static int check_answers(const struct options *options,
			 const struct endpoint *end, struct xbzrle_error *err)
{
	struct stat stat;

	if (options->then != TARGET_KILL || end->in >= 0 || end->child ||
	    (!fstat(end->out, &stat) && S_ISREG(stat.st_mode)))
		return 0;
	return xbzrle_fail(err, COMMAND_MISUSED, 0,
			   "nobody answers over %s that all has arrived, so --then kill could lose it; use tcp:, unix:, exec: or file:, or --then stop",
			   options->to);
}

static int run(const struct options *options, struct xbzrle_error *err)
{
	struct sender sender = {
		.options = options,
		.tracked.wishes = options->wishes,
		.tracked.wish_count = options->wish_count,
		.tracked.alone = options->consistent && !options->freezer,
		.bucket.rate = options->bandwidth,
	};
	struct endpoint end;
	int ret, closed;

	ret = target_open(&sender.target, options->pid, err);
	if (ret)
		return ret;
	ret = pause_open(&sender.pause, &sender.target, options->freezer, err);
	if (ret)
		goto close_target;
	sender.session = xbzrle_open(err);
	if (!sender.session) {
		ret = -err->code;
		goto close_pause;
	}
	sender.source = (struct round_source){
		.session = sender.session,
		.tracked = &sender.tracked,
		.target = &sender.target,
		.pause = &sender.pause,
		.link = &sender.link,
	};
	if (options->consistent) {
		ret = replica_open(&sender.replica, NULL, UINT64_MAX, err);
		if (ret)
			goto close_session;
		sender.source.replica = &sender.replica;
	}
	ret = endpoint_open_send(&end, options->to, err);
	if (ret)
		goto close_replica;
	ret = check_answers(options, &end, err);
	if (!ret)
		ret = frame_link_init(&sender.link, end.in, end.out, err);
	if (ret)
		goto close_end;
	sender.link.patience = options->patience;

	sender.tracked.session = sender.session;
	sender.tracked.target = &sender.target;
	progress_init(&sender.progress, options->quiet);
	ret = transfer(&sender, err);

	frame_link_release(&sender.link);
close_end:
	/* The first error is the one to be told. */
	closed = endpoint_close(&end, ret ? NULL : err);
	if (!ret)
		ret = closed;
	if (!ret)
		ret = end_target(&sender, err);
	/* Whatever becomes of it, that is done before anything is printed. */
	pause_end(&sender.pause);
	progress_end(&sender.progress);
	if (!ret)
		summarize(&sender);
	tracked_release(&sender.tracked);
close_replica:
	if (options->consistent)
		replica_close(&sender.replica);
close_session:
	xbzrle_close(sender.session);
close_pause:
	pause_close(&sender.pause);
close_target:
	target_close(&sender.target);
	return ret;
}

enum {
	OPT_PID = 'p',
	OPT_MAP = 'm',
	OPT_CACHE = 'c',
	OPT_BANDWIDTH = 'b',
	OPT_QUIET = 'q',
	OPT_MAX_DOWNTIME = 256,
	OPT_MAX_ROUNDS,
	OPT_PATIENCE,
	OPT_THEN,
	OPT_TRACKER,
	OPT_CONSISTENT,
	OPT_FREEZER,
};

static const struct argp_option argp_options[] = {
	{ "pid", OPT_PID, "PID", 0, "The process", 0 },
	{ "map", OPT_MAP, "WHAT", 0,
	  "heap, anon, a name as in /proc/PID/maps, or START-END in hexadecimal; may be repeated (default: heap and anon)",
	  0 },
	{ "cache", OPT_CACHE, "SIZE", 0,
	  "Memory for pages as last sent (default: 64M)", 0 },
	{ "max-downtime", OPT_MAX_DOWNTIME, "MS", 0,
	  "Stop the process when the rest is expected to take no longer (default: 300)",
	  0 },
	{ "max-rounds", OPT_MAX_ROUNDS, "N", 0,
	  "Stop the process for round N in any case (default: 30)", 0 },
	{ "bandwidth", OPT_BANDWIDTH, "RATE", 0,
	  "Send at most so many bytes a second", 0 },
	{ "patience", OPT_PATIENCE, "SECONDS", 0,
	  "Give up on a receiver that neither reads nor answers for so long (default: 60; 0 never)",
	  0 },
	{ "then", OPT_THEN, "cont|stop|kill", 0,
	  "What becomes of the process when all has arrived (default: cont)",
	  0 },
	{ "tracker", OPT_TRACKER, "auto|external", 0,
	  "How writes are learned of: external reads the kernel's soft-dirty bits, for which the process is stopped before each round (default: auto, which does so where the module cannot track the memory by itself)",
	  0 },
	{ "consistent", OPT_CONSISTENT, NULL, 0,
	  "Let the last round be of one instant, for which the process is stopped only until the round has begun",
	  0 },
	{ "freezer", OPT_FREEZER, "CGROUP", 0,
	  "With --consistent: freeze this control group, which the process is in, in place of stopping it",
	  0 },
	{ "quiet", OPT_QUIET, NULL, 0, "Tell nothing but errors", 0 },
	{}
};

static int parse_then(const char *text, enum target_then *then)
{
	static const char *const words[] = {
		[TARGET_CONT] = "cont",
		[TARGET_STOP] = "stop",
		[TARGET_KILL] = "kill",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(words); i++) {
		if (!strcmp(text, words[i])) {
			*then = i;
			return 0;
		}
	}
	return -EINVAL;
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
	case OPT_MAP:
		bad = maps_add(&options->wishes, &options->wish_count, arg);
		break;
	case OPT_CACHE:
		bad = units_parse_size(arg, &options->cache);
		break;
	case OPT_MAX_DOWNTIME:
		bad = units_parse_number(arg, UINT32_MAX,
					 &options->max_downtime_ms);
		break;
	case OPT_MAX_ROUNDS:
		bad = units_parse_number(arg, UINT32_MAX,
					 &options->max_rounds) ||
			!options->max_rounds;
		break;
	case OPT_BANDWIDTH:
		bad = units_parse_size(arg, &options->bandwidth) ||
			!options->bandwidth;
		break;
	case OPT_PATIENCE:
		bad = units_parse_number(arg, UINT32_MAX, &options->patience);
		break;
	case OPT_THEN:
		bad = parse_then(arg, &options->then);
		break;
	case OPT_TRACKER:
		bad = tracked_parse(arg, &options->tracker);
		break;
	case OPT_CONSISTENT:
		options->consistent = true;
		break;
	case OPT_FREEZER:
		options->freezer = arg;
		break;
	case OPT_QUIET:
		options->quiet = true;
		break;
	case ARGP_KEY_ARG:
		if (state->arg_num)
			return ARGP_ERR_UNKNOWN;
		if (!endpoint_known(arg))
			argp_error(state, "'%s' is not %s", arg,
				   ENDPOINT_HELP);
		options->to = arg;
		break;
	case ARGP_KEY_END:
		if (!options->pid || !options->to)
			argp_error(state, "--pid PID and a destination are needed");
		if (options->consistent && options->then != TARGET_CONT)
			argp_error(state,
				   "with --consistent the process goes on before all has arrived: --then could only lose what it writes then");
		if (options->freezer && !options->consistent)
			argp_error(state, "--freezer is for --consistent");
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
	.args_doc = "--pid PID DESTINATION",
	.doc = "Send the memory of a running process.\vDESTINATION is "
		ENDPOINT_HELP ".",
};

/**
 * send_main() - xbzrle send
 * @argc: arguments
 * @argv: arguments
 *
 * Return: exit status.
 */
int send_main(int argc, char **argv)
{
	struct options options = {
		.cache = 64 << 20,
		.max_downtime_ms = 300,
		.max_rounds = 30,
		.patience = 60,
		.tracker = XBZRLE_TRACKER_AUTO,
		.then = TARGET_CONT,
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

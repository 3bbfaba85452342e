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

#include "array.h"
#include "bucket.h"
#include "command.h"
#include "digest.h"
#include "endpoint.h"
#include "frame.h"
#include "progress.h"
#include "signals.h"
#include "softdirty.h"
#include "target.h"
#include "tracked.h"
#include "units.h"

/* A target may unmap faster than we look; so often we try to follow. */
#define SYNC_TRIES	100

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
	bool quiet;
	const char *to;
};

struct sender {
	const struct options *options;
	struct xbzrle_session *session;
	struct target target;
	struct tracked tracked;
	struct frame_link link;
	struct progress progress;
	struct bucket bucket;
	uint64_t rounds;
	double scan_time;
	double digest_time;
	double downtime;
};

/* With the target stopped, as tracked_mark_written() asks for. */
static int sync_external(struct sender *sender, unsigned int flags,
			 struct xbzrle_sync *sync, struct xbzrle_error *err)
{
	struct target *target = &sender->target;
	double start = progress_now();
	bool ours = !target->stopped;
	int ret;

	if (ours) {
		ret = target_stop(target, err);
		if (ret)
			return ret;
	}
	ret = tracked_mark_written(&sender->tracked, err);
	if (!ret)
		ret = xbzrle_sync(sender->session, flags, sync, err);
	/* What it wrote then, nobody has seen. */
	if (!ret && !target_is_stopped(target))
		ret = xbzrle_fail(err, EBUSY, 0,
				  "process %d was put back to work while its soft-dirty bits were read",
				  target->pid);
	if (ours) {
		target_continue(target);
		sender->scan_time += progress_now() - start;
	}
	return ret;
}

static int sync_round(struct sender *sender, unsigned int flags,
		      struct xbzrle_sync *sync, struct xbzrle_error *err)
{
	if (sender->tracked.tracker == XBZRLE_TRACKER_EXTERNAL)
		return sync_external(sender, flags, sync, err);
	return xbzrle_sync(sender->session, flags, sync, err);
}

/* Starts a round over all that the target has now. */
static int start_round(struct sender *sender, unsigned int flags,
		       struct xbzrle_sync *sync, struct xbzrle_error *err)
{
	int tries, ret;

	for (tries = 0; tries < SYNC_TRIES; tries++) {
		ret = signals_check(err);
		if (!ret)
			ret = tracked_tell_drops(&sender->tracked,
						 &sender->link, err);
		if (!ret)
			ret = tracked_update(&sender->tracked, &sender->link,
					     err);
		if (ret)
			return ret;
		if (!tracked_present(&sender->tracked))
			return xbzrle_fail(err, ENOENT, 0,
					   "process %d has no such memory",
					   sender->target.pid);
		ret = sync_round(sender, flags, sync, err);
		if (ret != -EFAULT && ret != -EOPNOTSUPP)
			return ret;
		ret = tracked_end(&sender->tracked, err->region, err);
		if (ret)
			return ret;
	}
	return xbzrle_fail(err, EFAULT, 0,
			   "process %d changes its memory map too fast",
			   sender->target.pid);
}

/* The running round cannot go on because a region has ended: which one? */
static int end_in_round(struct sender *sender, struct xbzrle_error *err)
{
	struct xbzrle_error reason;
	struct xbzrle_sync sync;
	int ret;

	ret = xbzrle_sync(sender->session, 0, &sync, &reason);
	if (ret != -EFAULT && ret != -EOPNOTSUPP)
		return -err->code;
	/* No round follows that could bring what is there now. */
	if (sender->progress.final)
		return xbzrle_fail(err, -ret, 0,
				   "process %d changed its memory map while it was stopped: %s",
				   sender->target.pid, reason.message);
	return tracked_end(&sender->tracked, reason.region, err);
}

static int send_round(struct sender *sender, const struct xbzrle_sync *sync,
		      struct xbzrle_error *err)
{
	struct frame_link *link = &sender->link;
	size_t portion = bucket_portion(&sender->bucket, FRAME_PAYLOAD_MAX);
	ssize_t got;
	int ret;

	for (;;) {
		ret = signals_check(err);
		if (!ret)
			ret = frame_check_peer(link, err);
		if (ret)
			return ret;
		got = xbzrle_read(sender->session, frame_room(link), portion,
				  err);
		if (!got)
			break;
		if (got == -EINTR)
			continue;
		if (got == -EFAULT || got == -EOPNOTSUPP) {
			ret = end_in_round(sender, err);
			if (ret)
				return ret;
			continue;
		}
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
	ret = start_round(sender, flags, &sync, err);
	if (ret)
		return ret;
	progress_round(progress, sync.round, flags & XBZRLE_SYNC_FINAL,
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

static int send_digests(struct sender *sender, struct xbzrle_error *err)
{
	const struct tracked *tracked = &sender->tracked;
	const struct tracked_region *region;
	struct frame_digest digest;
	uint32_t digests = 0;
	size_t i;
	int ret;

	for (i = 0; i < tracked->count; i++) {
		region = &tracked->regions[i];
		if (!region->present)
			continue;
		digest.name = region->name;
		digest.length = region->end - region->start;
		ret = digest_process(sender->target.pid, region->start,
				     digest.length, digest.digest, err);
		if (!ret)
			ret = frame_send_digest(&sender->link, &digest, err);
		if (ret)
			return ret;
		digests++;
	}
	return frame_send_end(&sender->link, digests, err);
}

/* The last round and the digests, while nothing can change. */
static int run_stopped(struct sender *sender, struct xbzrle_error *err)
{
	double stopped_at = progress_now(), digest_start, seconds;
	int ret;

	ret = target_stop(&sender->target, err);
	if (ret)
		return ret;
	ret = run_round(sender, XBZRLE_SYNC_FINAL, &seconds, err);
	if (ret)
		return ret;
	progress_round_done(&sender->progress, -1);

	digest_start = progress_now();
	ret = send_digests(sender, err);
	if (ret)
		return ret;
	if (sender->options->then == TARGET_CONT)
		target_continue(&sender->target);
	sender->digest_time = progress_now() - digest_start;
	sender->downtime = progress_now() - stopped_at;
	return 0;
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

static int greet(struct sender *sender, struct xbzrle_error *err)
{
	struct frame_link *link = &sender->link;
	struct frame_hello hello = { .required = FRAME_FEATURE_XXH3_128 };
	struct frame frame;
	int ret;

	if (link->in >= 0)
		hello.required |= FRAME_FEATURE_ANSWERS;
	hello.offered = hello.required;
	ret = frame_send_hello(link, &hello, err);
	if (ret || link->in < 0)
		return ret;
	ret = frame_expect(link, FRAME_HELLO, &frame, err);
	if (!ret)
		ret = frame_get_hello(&frame, &hello, err);
	return ret;
}

static int end_target(struct sender *sender, struct xbzrle_error *err)
{
	switch (sender->options->then) {
	case TARGET_KILL:
		return target_kill(&sender->target, err);
	case TARGET_STOP:
		sender->target.stopped = false;
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
		units_seconds(sender->digest_time).text,
		sender->link.in >= 0 ? "digests agree" :
		"the receiver verifies the digests");
	if (sender->tracked.tracker == XBZRLE_TRACKER_EXTERNAL)
		fprintf(stderr,
			"xbzrle: and stopped for %s before, to read its soft-dirty bits\n",
			units_seconds(sender->scan_time).text);
}

/* The module's own tracker, or else what the kernel has for everybody. */
static int choose_tracker(struct sender *sender, struct xbzrle_error *err)
{
	const struct options *options = sender->options;
	bool forced = options->tracker == XBZRLE_TRACKER_EXTERNAL;
	struct xbzrle_info info;
	int ret;

	ret = xbzrle_info(sender->session, &info, err);
	if (ret)
		return ret;
	if (!forced && info.features & XBZRLE_FEATURE_TRACKER_PTE)
		return 0;
	if (!(info.features & XBZRLE_FEATURE_TRACKER_EXTERNAL))
		return forced ? xbzrle_fail(err, EOPNOTSUPP, 0,
					    "the module has no external tracker on this kernel") :
				0;
	ret = softdirty_probe(err);
	if (ret == -EOPNOTSUPP)
		return xbzrle_fail(err, EOPNOTSUPP, 0,
				   "this kernel cannot track the memory: it has %s soft-dirty bits (PAGEMAP_SCAN would do for a process's own memory only); make the memory with xbzrle_create() or xbzrle_adopt(), or see Limits in README.md",
				   forced ? "no" :
				   "neither the pte tracker nor");
	if (ret)
		return ret;
	sender->tracked.tracker = XBZRLE_TRACKER_EXTERNAL;
	if (forced)
		sender->tracked.shared = XBZRLE_TRACKER_EXTERNAL;
	if (!options->quiet)
		fprintf(stderr,
			"xbzrle: using the external tracker, fed from soft-dirty bits%s; the process is stopped for a moment before each round\n",
			forced ? "" : ", as this kernel has no pte tracker");
	return 0;
}

static int transfer(struct sender *sender, struct xbzrle_error *err)
{
	int ret;

	ret = xbzrle_set_cache(sender->session, sender->options->cache, err);
	if (!ret)
		ret = greet(sender, err);
	if (!ret)
		ret = choose_tracker(sender, err);
	if (!ret)
		ret = run_live(sender, err);
	if (!ret)
		ret = run_stopped(sender, err);
	progress_end(&sender->progress);
	if (!ret)
		ret = await_verdict(sender, err);
	if (ret) {
		/* Not later: the peer, or exec:'s command, may take its time. */
		target_continue(&sender->target);
		frame_send_error(&sender->link, err->message, NULL);
	}
	return ret;
}

static int run(const struct options *options, struct xbzrle_error *err)
{
	struct sender sender = {
		.options = options,
		.tracked.wishes = options->wishes,
		.tracked.wish_count = options->wish_count,
		.bucket.rate = options->bandwidth,
	};
	struct endpoint end;
	int ret, closed;

	ret = target_open(&sender.target, options->pid, err);
	if (ret)
		return ret;
	sender.session = xbzrle_open(err);
	if (!sender.session) {
		ret = -err->code;
		goto close_target;
	}
	ret = endpoint_open_send(&end, options->to, err);
	if (ret)
		goto close_session;
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
	if (!ret)
		summarize(&sender);
	tracked_release(&sender.tracked);
close_session:
	xbzrle_close(sender.session);
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

static int parse_tracker(const char *text, enum xbzrle_tracker *tracker)
{
	if (!strcmp(text, "auto"))
		*tracker = XBZRLE_TRACKER_AUTO;
	else if (!strcmp(text, "external"))
		*tracker = XBZRLE_TRACKER_EXTERNAL;
	else
		return -EINVAL;
	return 0;
}

static int add_wish(struct options *options, const char *text)
{
	struct maps_wish *wishes;

	wishes = reallocarray(options->wishes, options->wish_count + 1,
			      sizeof(*wishes));
	if (!wishes)
		return -ENOMEM;
	options->wishes = wishes;
	return maps_parse(text, &wishes[options->wish_count++]);
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
		bad = add_wish(options, arg);
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
		bad = parse_tracker(arg, &options->tracker);
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
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
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
	if (!options.wish_count &&
	    (add_wish(&options, "heap") || add_wish(&options, "anon"))) {
		xbzrle_fail(&err, ENOMEM, 0, "no memory");
		return command_failed(&err);
	}

	ret = run(&options, &err);
	free(options.wishes);
	if (!ret)
		return EXIT_DONE;
	command_failed(&err);
	return ret == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
}

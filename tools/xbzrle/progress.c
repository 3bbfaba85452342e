// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "progress.h"
#include "units.h"
#include <xbzrle.h>

/* Seconds between two states of the live line. */
#define LIVE_INTERVAL	0.1

/**
 * progress_now() - a clock that does not jump
 *
 * Return: seconds.
 */
double progress_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/**
 * progress_init() - begin to tell
 * @progress: filled in
 * @quiet: say nothing
 */
void progress_init(struct progress *progress, bool quiet)
{
	*progress = (struct progress){
		.live = isatty(STDERR_FILENO),
		.quiet = quiet,
	};
}

static void write_line(struct progress *progress)
{
	if (!*progress->line)
		return;
	fprintf(stderr, "%s%s%s", progress->live ? "\r\033[K" : "",
		progress->line, progress->live ? "" : "\n");
	fflush(stderr);
	progress->line[0] = '\0';
}

/* @downtime is negative while it is not known. */
static void show(struct progress *progress, double downtime)
{
	double now = progress_now();
	double elapsed = now - progress->round_start;
	double raw = (double)progress->dirty_pages * XBZRLE_UNIT_SIZE;
	double bytes = progress->round_bytes;
	char round[80], expected[64] = "";

	progress->last_shown = now;
	if (downtime >= 0)
		snprintf(expected, sizeof(expected), ", downtime about %s",
			 units_seconds(downtime).text);
	snprintf(round, sizeof(round), "round %" PRIu64 "%s: %" PRIu64,
		 progress->round, progress->final ? " (last)" : "",
		 progress->dirty_pages);
	snprintf(progress->line, sizeof(progress->line),
		 "%s dirty pages, sent %s (%s in all), ratio %.1f, %s/s%s",
		 round, units_bytes(bytes).text,
		 units_bytes(progress->total_bytes).text,
		 bytes ? raw / bytes : 0,
		 units_bytes(elapsed > 0 ? bytes / elapsed : 0).text, expected);
	if (!progress->held)
		write_line(progress);
}

/**
 * progress_round() - a round begins
 * @progress: progress
 * @round: its number
 * @final: it is the last
 * @dirty_pages: pages it looks at
 */
void progress_round(struct progress *progress, uint64_t round, bool final,
		    uint64_t dirty_pages)
{
	progress->round = round;
	progress->final = final;
	progress->dirty_pages = dirty_pages;
	progress->round_bytes = 0;
}

/**
 * progress_bytes() - some of the stream is sent
 * @progress: progress
 * @bytes: how much
 */
void progress_bytes(struct progress *progress, uint64_t bytes)
{
	progress->round_bytes += bytes;
	progress->total_bytes += bytes;
	if (progress->live && !progress->quiet && !progress->held &&
	    progress_now() - progress->last_shown >= LIVE_INTERVAL)
		show(progress, -1);
}

/**
 * progress_round_done() - a round is complete
 * @progress: progress
 * @downtime: seconds that the target would have to be stopped now, as far as
 *	can be told; negative after the last round
 */
void progress_round_done(struct progress *progress, double downtime)
{
	if (!progress->quiet)
		show(progress, downtime);
}

/**
 * progress_hold() - write nothing until progress_release()
 * @progress: progress
 *
 * To write may block, and somebody waits who must not wait for that.
 */
void progress_hold(struct progress *progress)
{
	progress->held = true;
}

/**
 * progress_release() - write what there was to be told last, and what follows
 * @progress: progress
 */
void progress_release(struct progress *progress)
{
	progress->held = false;
	write_line(progress);
}

/**
 * progress_end() - leave the live line
 * @progress: progress
 */
void progress_end(struct progress *progress)
{
	progress_release(progress);
	if (progress->live && !progress->quiet && progress->last_shown)
		fputc('\n', stderr);
}

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

/* @downtime is negative while it is not known. */
static void show(struct progress *progress, double downtime)
{
	double now = progress_now();
	double elapsed = now - progress->round_start;
	double raw = (double)progress->dirty_pages * XBZRLE_UNIT_SIZE;
	double bytes = progress->round_bytes;

	progress->last_shown = now;
	fprintf(stderr, "%sround %" PRIu64 "%s: %" PRIu64 " dirty pages, sent %s",
		progress->live ? "\r\033[K" : "", progress->round,
		progress->final ? " (last)" : "", progress->dirty_pages,
		units_bytes(bytes).text);
	fprintf(stderr, " (%s in all), ratio %.1f, %s/s",
		units_bytes(progress->total_bytes).text,
		bytes ? raw / bytes : 0,
		units_bytes(elapsed > 0 ? bytes / elapsed : 0).text);
	if (downtime >= 0)
		fprintf(stderr, ", downtime about %s",
			units_seconds(downtime).text);
	if (!progress->live)
		fputc('\n', stderr);
	fflush(stderr);
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
	if (progress->live && !progress->quiet &&
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
 * progress_end() - leave the live line
 * @progress: progress
 */
void progress_end(struct progress *progress)
{
	if (progress->live && !progress->quiet && progress->last_shown)
		fputc('\n', stderr);
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <time.h>

#include <xbzrle.h>

#include "bucket.h"
#include "progress.h"

/* Portions of a limited stream go in this many seconds each. */
#define PORTION_TIME	0.05
/* What was not used for so long is lost. */
#define BURST_TIME	0.1

/**
 * bucket_portion() - how much to take at once
 * @bucket: bucket
 * @max: the most that is wanted
 *
 * Return: bytes, at least room for one record of a page.
 */
size_t bucket_portion(const struct bucket *bucket, size_t max)
{
	size_t portion = bucket->rate * PORTION_TIME;

	if (!bucket->rate || portion > max)
		return max;
	return portion < 2 * XBZRLE_UNIT_SIZE ? 2 * XBZRLE_UNIT_SIZE : portion;
}

/**
 * bucket_take() - wait until so much may go
 * @bucket: bucket
 * @bytes: how much
 *
 * A signal ends the wait early.
 */
void bucket_take(struct bucket *bucket, size_t bytes)
{
	double now = progress_now(), wait;
	struct timespec pause;

	if (!bucket->rate)
		return;
	if (bucket->due < now - BURST_TIME)
		bucket->due = now - BURST_TIME;
	bucket->due += (double)bytes / bucket->rate;
	wait = bucket->due - now;
	if (wait <= 0)
		return;
	pause.tv_sec = wait;
	pause.tv_nsec = (wait - pause.tv_sec) * 1e9;
	nanosleep(&pause, NULL);
}

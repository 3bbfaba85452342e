// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <errno.h>
#include <error.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "session.h"

static uint8_t stream[8 * MIB];

/**
 * now() - read the clock
 *
 * Return: Nanoseconds, which are instructions where the machine counts so.
 */
double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/**
 * median() - the value in the middle
 * @values: values, sorted afterwards
 * @nr: how many
 *
 * Return: The median.
 */
double median(double *values, size_t nr)
{
	qsort(values, nr, sizeof(*values), compare);
	return values[nr / 2];
}

/**
 * session_open() - open a session
 * @budget: of its bases, in bytes
 *
 * Return: Its descriptor.
 */
int session_open(uint64_t budget)
{
	struct xbzrle_set_cache cache = {
		.size = sizeof(cache), .bytes = budget,
	};
	int session = open("/dev/xbzrle", O_RDWR | O_CLOEXEC);

	if (session < 0)
		error(1, errno, "/dev/xbzrle");
	if (ioctl(session, XBZRLE_IOC_SET_CACHE, &cache))
		error(1, errno, "SET_CACHE");
	return session;
}

/**
 * session_features() - ask what the module can do
 *
 * Return: XBZRLE_FEATURE_* bits.
 */
uint64_t session_features(void)
{
	struct xbzrle_info info = { .size = sizeof(info) };
	int session = session_open(0);

	if (ioctl(session, XBZRLE_IOC_GET_INFO, &info))
		error(1, errno, "GET_INFO");
	close(session);
	return info.features;
}

/**
 * session_sync() - begin a round
 * @session: session
 * @flags: XBZRLE_SYNC_* bits
 *
 * Return: How many pages the round looks at.
 */
uint64_t session_sync(int session, uint32_t flags)
{
	struct xbzrle_sync sync = { .size = sizeof(sync), .flags = flags };

	if (ioctl(session, XBZRLE_IOC_SYNC, &sync))
		error(1, errno, "SYNC");
	return sync.dirty_pages;
}

/**
 * session_read() - read a round to its end
 * @session: session
 *
 * Return: Its bytes.
 */
uint64_t session_read(int session)
{
	uint64_t bytes = 0;
	ssize_t len;

	while ((len = read(session, stream, sizeof(stream))) > 0)
		bytes += len;
	if (len < 0)
		error(1, errno, "read");
	return bytes;
}

/**
 * session_stats() - read the counters
 * @session: session
 *
 * Return: The counters.
 */
struct xbzrle_stats session_stats(int session)
{
	struct xbzrle_stats stats = { .size = sizeof(stats) };

	if (ioctl(session, XBZRLE_IOC_GET_STATS, &stats))
		error(1, errno, "GET_STATS");
	return stats;
}

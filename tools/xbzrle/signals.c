// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * SIGINT and SIGTERM end the tool through its error paths, which put a stopped
 * target back to work. The flag is the only state that a handler can reach.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "signals.h"

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
	if (number != SIGALRM)
		caught = number;
	/* A call that begins to block just now is woken by the alarm. */
	alarm(1);
}

/**
 * signals_catch() - from now on signals are seen by signals_check()
 *
 * Blocking calls return EINTR. A peer that is gone is an EPIPE.
 */
void signals_catch(void)
{
	const struct sigaction ending = { .sa_handler = on_signal };
	const struct sigaction ignored = { .sa_handler = SIG_IGN };

	sigaction(SIGINT, &ending, NULL);
	sigaction(SIGTERM, &ending, NULL);
	sigaction(SIGHUP, &ending, NULL);
	sigaction(SIGALRM, &ending, NULL);
	sigaction(SIGPIPE, &ignored, NULL);
}

/**
 * signals_check() - was the tool told to end?
 * @err: set if so
 *
 * Return: 0, or -EINTR.
 */
int signals_check(struct xbzrle_error *err)
{
	if (!caught)
		return 0;
	return xbzrle_fail(err, EINTR, 0, "ended by %s",
			   sigdescr_np(caught));
}

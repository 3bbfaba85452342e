// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Signals that would end the tool do so through its error paths, which put a
 * stopped target back to work, and so does a peer that does not move for too
 * long. The flag is the only state that a handler can reach.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "array.h"
#include "signals.h"

/*
 * All whose default ends a process, but those of mistakes in it. Those of real time
 * come on top.
 */
static const int ending_signals[] = {
	SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGPROF,
	SIGIO, SIGPWR, SIGXCPU, SIGSTKFLT,
};

/* What a terminal stops the tool with; nobody can hold SIGSTOP. */
static const int stopping_signals[] = { SIGTSTP, SIGTTIN, SIGTTOU };

static unsigned int stop_holders;
static sigset_t mask_before;
static volatile sig_atomic_t caught;
static unsigned int patience;
static int64_t patience_ends;	/* as now_ms() */

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
 * Blocking calls return EINTR. A peer that is gone is an EPIPE, a file that may
 * not be as large an EFBIG. A hangup that nohup has ignored stays so; an interrupt
 * does not, as shells ignore it for all that they run in the background. Nor does
 * a parent's choice to be told of no child, or to have signals wait: the command of
 * exec: is waited for, and nobody could end a wait for the peer.
 */
void signals_catch(void)
{
	const struct sigaction ending = { .sa_handler = on_signal };
	const struct sigaction ignored = { .sa_handler = SIG_IGN };
	const struct sigaction usual = { .sa_handler = SIG_DFL };
	struct sigaction before;
	sigset_t seen;
	int number;
	size_t i;

	sigemptyset(&seen);
	for (i = 0; i < ARRAY_SIZE(ending_signals); i++) {
		if (ending_signals[i] == SIGHUP &&
		    !sigaction(SIGHUP, NULL, &before) &&
		    before.sa_handler == SIG_IGN)
			continue;
		sigaction(ending_signals[i], &ending, NULL);
		sigaddset(&seen, ending_signals[i]);
	}
	for (number = SIGRTMIN; number <= SIGRTMAX; number++) {
		sigaction(number, &ending, NULL);
		sigaddset(&seen, number);
	}
	sigaction(SIGALRM, &ending, NULL);
	sigaddset(&seen, SIGALRM);
	sigaction(SIGCHLD, &usual, NULL);
	sigaction(SIGPIPE, &ignored, NULL);
	sigaction(SIGXFSZ, &ignored, NULL);
	/* What waited until now finds its handler. */
	sigprocmask(SIG_UNBLOCK, &seen, NULL);
}

/* In whole seconds a patience of one could be over at once. */
static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/**
 * signals_wait_for_peer() - a call that waits for the peer follows
 * @seconds: how long it may take, 0 for ever
 *
 * Called again, after EINTR say, it goes on with the time that is left.
 * It returns EINTR when they are over, and signals_check() tells.
 */
void signals_wait_for_peer(unsigned int seconds)
{
	if (!seconds || patience)
		return;
	patience = seconds;
	patience_ends = now_ms() + seconds * 1000LL;
	alarm(seconds);
}

/**
 * signals_peer_moved() - the call has returned
 */
void signals_peer_moved(void)
{
	if (patience) {
		alarm(0);
		/* A signal may have come just before that. */
		if (caught)
			alarm(1);
	}
	patience = 0;
}

/**
 * signals_hold_stops() - do not be stopped from a terminal
 *
 * Somebody is about to be stopped whom only the tool puts back to work. May be
 * called again; each call needs a signals_release_stops().
 */
void signals_hold_stops(void)
{
	sigset_t stops;
	size_t i;

	if (stop_holders++)
		return;
	sigemptyset(&stops);
	for (i = 0; i < ARRAY_SIZE(stopping_signals); i++)
		sigaddset(&stops, stopping_signals[i]);
	sigprocmask(SIG_BLOCK, &stops, &mask_before);
}

/**
 * signals_release_stops() - undo signals_hold_stops()
 *
 * A signal that came meanwhile stops the tool now.
 */
void signals_release_stops(void)
{
	if (!--stop_holders)
		sigprocmask(SIG_SETMASK, &mask_before, NULL);
}

/**
 * signals_check() - was the tool told to end, or is the peer asleep?
 * @err: set if so
 *
 * Return: 0, -EINTR or -ETIMEDOUT.
 */
int signals_check(struct xbzrle_error *err)
{
	if (!caught && patience && now_ms() >= patience_ends)
		return xbzrle_fail(err, ETIMEDOUT, 0,
				   "the peer has not moved for %u s", patience);
	if (!caught)
		return 0;
	return xbzrle_fail(err, EINTR, 0, "ended by %s", strsignal(caught));
}

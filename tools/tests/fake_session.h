/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * libxbzrle's sessions without the module, in place of tools/lib/session.c: each
 * round has every page of every region, as it was when the round began.
 */
#ifndef _TESTS_FAKE_SESSION_H
#define _TESTS_FAKE_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <xbzrle.h>

/**
 * struct fake - what the session does besides
 * @on_open: called with a session of others, which makes its regions
 * @on_register: called when a region is there, with how many there were before
 * @on_sync: called before a round begins, with how many there were before
 * @on_end: called when a round has been read to its end, with how many there were
 *	by then
 * @register_error: errno of all registering, or 0
 * @on_interrupt: called when a first region is to be registered, which it interrupts
 * @sync_error: errno of all rounds from the second on, or 0
 * @read_error: errno of the next read, or 0
 * @busy: so many reads find another thread in the session
 * @external: there is no tracker but the external one
 */
struct fake {
	void (*on_open)(struct xbzrle_session *session);
	void (*on_register)(unsigned int before);
	void (*on_sync)(unsigned int before);
	void (*on_end)(unsigned int rounds);
	int register_error;
	void (*on_interrupt)(void);
	int sync_error;
	int read_error;
	unsigned int busy;
	bool external;
};

extern struct fake fake;

#endif /* _TESTS_FAKE_SESSION_H */

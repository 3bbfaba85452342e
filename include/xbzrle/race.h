/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Race windows: places where whoever comes in between must do no harm. They are
 * a few instructions wide, so that no test would hit one by luck. A build for
 * tests stays there for a while, now and then; in others they are nothing.
 */
#ifndef _XBZRLE_RACE_H
#define _XBZRLE_RACE_H

#ifdef XBZRLE_RACE_WINDOWS

#include <linux/delay.h>
#include <linux/kernel.h>
#include <linux/random.h>

/* One passage of so many takes its time. */
#define XBZRLE_RACE_ODDS	4

/**
 * xbzrle_race_window() - let others come in between
 *
 * Context: may sleep.
 */
static inline void xbzrle_race_window(void)
{
	u32 draw = get_random_u32();

	might_sleep();
	if (draw % XBZRLE_RACE_ODDS == 0)
		usleep_range(draw >> 24, 256);
}

/**
 * xbzrle_race_window_atomic() - let other CPUs come in between
 *
 * Context: any.
 */
static inline void xbzrle_race_window_atomic(void)
{
	u32 draw = get_random_u32();

	if (draw % XBZRLE_RACE_ODDS == 0)
		udelay(draw >> 28);
}

#else

static inline void xbzrle_race_window(void)
{
}

static inline void xbzrle_race_window_atomic(void)
{
}

#endif /* XBZRLE_RACE_WINDOWS */
#endif /* _XBZRLE_RACE_H */

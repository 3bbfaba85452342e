/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef _XBZRLE_TOOL_SIGNALS_H
#define _XBZRLE_TOOL_SIGNALS_H

#include <xbzrle.h>

void signals_catch(void);
void signals_wait_for_peer(unsigned int seconds);
void signals_peer_moved(void);
void signals_hold_stops(void);
void signals_release_stops(void);
int signals_check(struct xbzrle_error *err);

#endif /* _XBZRLE_TOOL_SIGNALS_H */

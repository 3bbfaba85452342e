/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* A moment in which nobody writes. */
#ifndef _XBZRLE_TOOL_PAUSE_H
#define _XBZRLE_TOOL_PAUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <xbzrle.h>

#include "target.h"

/**
 * struct pause - who is paused, and how
 * @target: process, or NULL if the control group alone says who writes
 * @group: name of the control group that is frozen, or NULL to stop processes
 *	with SIGSTOP
 * @group_dir: its directory, or -1
 * @group_freeze: its cgroup.freeze, or -1
 * @frozen: we have frozen it
 * @others: other processes that share the target's memory, while it is paused
 * @other_count: how many
 */
struct pause {
	struct target *target;
	const char *group;
	int group_dir;
	int group_freeze;
	bool frozen;
	struct target *others;
	size_t other_count;
};

int pause_open(struct pause *pause, struct target *target, const char *group,
	       struct xbzrle_error *err);
int pause_begin(struct pause *pause, struct xbzrle_error *err);
pid_t pause_running(const struct pause *pause);
bool pause_held(const struct pause *pause);
void pause_keep(struct pause *pause);
void pause_end(struct pause *pause);
void pause_close(struct pause *pause);

#endif /* _XBZRLE_TOOL_PAUSE_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef _XBZRLE_TOOL_TARGET_H
#define _XBZRLE_TOOL_TARGET_H

#include <stdbool.h>
#include <sys/types.h>

#include <xbzrle.h>

/* What becomes of the process when all is sent. */
enum target_then {
	TARGET_CONT,
	TARGET_STOP,
	TARGET_KILL,
};

/**
 * struct target - the process whose memory is sent
 * @pid: process
 * @pidfd: the same, safe from another process getting its number
 * @stopped: we have stopped it
 */
struct target {
	pid_t pid;
	int pidfd;
	bool stopped;
};

int target_open(struct target *target, pid_t pid, struct xbzrle_error *err);
int target_stop(struct target *target, struct xbzrle_error *err);
bool target_is_stopped(const struct target *target);
bool target_is_dying(const struct target *target);
bool target_has_memory(const struct target *target);
bool target_has_ended(const struct target *target);
void target_continue(struct target *target);
void target_keep_stopped(struct target *target);
int target_kill(struct target *target, struct xbzrle_error *err);
void target_close(struct target *target);

#endif /* _XBZRLE_TOOL_TARGET_H */

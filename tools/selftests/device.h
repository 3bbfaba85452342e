/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * The ioctls as functions. Each returns what the kernel returned, with the
 * error as a negative errno, so that a test can name the errno it expects.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/xbzrle.h>

#include "model.h"

#define DEVICE		"/dev/xbzrle"
#define UNIT		((size_t)XBZRLE_UNIT_SIZE)

int dev_open(void);
int dev_ioctl(int fd, unsigned int cmd, void *arg);
int dev_info(int fd, struct xbzrle_info *info);
bool dev_has_pte(void);
int dev_create(int fd, const char *name, uint64_t length, uint32_t *id);
int dev_create_as(int fd, const char *name, uint64_t length, uint32_t capture,
		  uint32_t *id);
int dev_register(int fd, const char *name, const void *addr, uint64_t length,
		 pid_t pid, uint32_t tracker, struct xbzrle_register *out);
int dev_register_as(int fd, const char *name, const void *addr,
		    uint64_t length, pid_t pid, uint32_t tracker,
		    uint32_t capture, struct xbzrle_register *out);
int dev_track(int fd, const char *name, void *mem, uint64_t length);
int dev_mark(int fd, uint32_t id, uint64_t first, uint64_t nr,
	     const void *bitmap);
int dev_mark_units(int fd, uint32_t id, uint64_t first, uint64_t nr);
int dev_unregister(int fd, uint32_t id);
int dev_set_cache(int fd, uint64_t bytes);
int dev_sync(int fd, uint32_t flags, struct xbzrle_sync *out);
int dev_stats(int fd, struct xbzrle_stats *stats);

int dev_poll(int fd);
int dev_read_round(int fd, struct model *m, size_t buffer);
int dev_round(int fd, struct model *m, uint32_t flags);

#endif /* DEVICE_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* The linker has the tool call these in place of what they wrap. */
#ifndef _TESTS_WRAPPED_H
#define _TESTS_WRAPPED_H

#include <dirent.h>
#include <sys/types.h>

#include <xbzrle.h>

#include "../xbzrle/replica.h"

struct replica_region *__real_replica_find(const struct replica *replica,
					   const char *name);
struct replica_region *__wrap_replica_find(const struct replica *replica,
					   const char *name);

int __real_xbzrle_image_apply(struct xbzrle_image *image,
			      const struct xbzrle_record *record,
			      struct xbzrle_error *err);
int __wrap_xbzrle_image_apply(struct xbzrle_image *image,
			      const struct xbzrle_record *record,
			      struct xbzrle_error *err);

int __real_openat(int dir, const char *name, int flags, ...);
int __wrap_openat(int dir, const char *name, int flags, ...);
struct dirent *__real_readdir(DIR *list);
struct dirent *__wrap_readdir(DIR *list);

int __wrap_softdirty_probe(struct xbzrle_error *err);
int __wrap_softdirty_clear(pid_t pid, struct xbzrle_error *err);

#endif /* _TESTS_WRAPPED_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* XXH3-128 over all of a region's bytes, holes included as zeros. */
#ifndef _XBZRLE_TOOL_DIGEST_H
#define _XBZRLE_TOOL_DIGEST_H

#include <stdint.h>
#include <sys/types.h>

#include <xbzrle.h>

#define DIGEST_SIZE	16

struct digest_text {
	char text[2 * DIGEST_SIZE + 1];
};

int digest_process(pid_t pid, uint64_t addr, uint64_t length, uint8_t *digest,
		   struct xbzrle_error *err);
int digest_file(int fd, uint64_t length, uint8_t *digest,
		struct xbzrle_error *err);
struct digest_text digest_hex(const uint8_t *digest);

#endif /* _XBZRLE_TOOL_DIGEST_H */

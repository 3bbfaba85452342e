/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * XXH3-128 over all of a region's bytes, holes included as zeros. And a sum that
 * follows changes page by page, in time that depends on the changes alone: the
 * XXH3-128 of each page that is not zero, with the page's number as the seed,
 * added up modulo 2^128.
 */
#ifndef _XBZRLE_TOOL_DIGEST_H
#define _XBZRLE_TOOL_DIGEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <xbzrle.h>

#define DIGEST_SIZE	16

struct digest_text {
	char text[2 * DIGEST_SIZE + 1];
};

struct digest_sum {
	uint64_t high, low;
};

int digest_process(pid_t pid, uint64_t addr, uint64_t length, uint8_t *digest,
		   struct xbzrle_error *err);
int digest_file(int fd, uint64_t length, uint8_t *digest,
		struct xbzrle_error *err);
int digest_memory(const uint8_t *memory, const uint8_t *filled, uint64_t length,
		  uint8_t *digest, struct xbzrle_error *err);
struct digest_text digest_hex(const uint8_t *digest);

bool digest_page_is_zero(const void *page);
void digest_sum_add(struct digest_sum *sum, const void *page, uint64_t number);
void digest_sum_remove(struct digest_sum *sum, const void *page,
		       uint64_t number);
int digest_sum_file(int fd, uint64_t length, struct digest_sum *sum,
		    struct xbzrle_error *err);
struct digest_text digest_sum_hex(const struct digest_sum *sum);
struct digest_text digest_bytes(const void *bytes, size_t length);

#endif /* _XBZRLE_TOOL_DIGEST_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * Streams and transport frames written from their grammars, right or wrong,
 * sharing no code with what reads them.
 */
#ifndef _TESTS_WIRE_BUILD_H
#define _TESTS_WIRE_BUILD_H

#include <stddef.h>
#include <stdint.h>

#define BUILD_UNIT	4096

#define BUILD_ZERO	0x02
#define BUILD_MEM_SIZE	0x04
#define BUILD_PAGE	0x08
#define BUILD_EOS	0x10
#define BUILD_CONTINUE	0x20
#define BUILD_XBZRLE	0x40

struct build {
	uint8_t *bytes;
	size_t length;
	size_t room;
};

void build_free(struct build *build);
void build_bytes(struct build *build, const void *bytes, size_t length);
void build_u8(struct build *build, uint8_t value);
void build_be16(struct build *build, uint16_t value);
void build_be32(struct build *build, uint32_t value);
void build_be64(struct build *build, uint64_t value);

void build_setup(struct build *build, uint64_t total);
void build_block(struct build *build, const char *name, uint64_t length);
void build_eos(struct build *build);
/* @name NULL continues the region of the record before. */
void build_zero(struct build *build, const char *name, uint64_t offset);
void build_page(struct build *build, const char *name, uint64_t offset,
		uint8_t fill);
void build_delta(struct build *build, const char *name, uint64_t offset,
		 const void *delta, uint16_t length);

uint32_t build_crc32c(const void *bytes, size_t length, uint32_t crc);
void build_frame(struct build *build, uint8_t type, uint32_t sequence,
		 const void *payload, uint32_t length);

#endif /* _TESTS_WIRE_BUILD_H */

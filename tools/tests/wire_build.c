// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire_build.h"

void build_free(struct build *build)
{
	free(build->bytes);
	memset(build, 0, sizeof(*build));
}

void build_bytes(struct build *build, const void *bytes, size_t length)
{
	if (build->length + length > build->room) {
		build->room = 2 * (build->length + length);
		build->bytes = realloc(build->bytes, build->room);
		if (!build->bytes) {
			perror("wire_build");
			exit(1);
		}
	}
	if (length)
		memcpy(build->bytes + build->length, bytes, length);
	build->length += length;
}

void build_u8(struct build *build, uint8_t value)
{
	build_bytes(build, &value, 1);
}

void build_be16(struct build *build, uint16_t value)
{
	build_u8(build, value >> 8);
	build_u8(build, value);
}

void build_be32(struct build *build, uint32_t value)
{
	build_be16(build, value >> 16);
	build_be16(build, value);
}

void build_be64(struct build *build, uint64_t value)
{
	build_be32(build, value >> 32);
	build_be32(build, value);
}

static void build_name(struct build *build, const char *name)
{
	build_u8(build, strlen(name));
	build_bytes(build, name, strlen(name));
}

static void build_head(struct build *build, const char *name, uint64_t offset,
		       unsigned int flag)
{
	build_be64(build, offset | flag | (name ? 0 : BUILD_CONTINUE));
	if (name)
		build_name(build, name);
}

void build_setup(struct build *build, uint64_t total)
{
	build_be64(build, total | BUILD_MEM_SIZE);
}

void build_block(struct build *build, const char *name, uint64_t length)
{
	build_name(build, name);
	build_be64(build, length);
}

void build_eos(struct build *build)
{
	build_be64(build, BUILD_EOS);
}

void build_zero(struct build *build, const char *name, uint64_t offset)
{
	build_head(build, name, offset, BUILD_ZERO);
	build_u8(build, 0);
}

void build_page(struct build *build, const char *name, uint64_t offset,
		uint8_t fill)
{
	int i;

	build_head(build, name, offset, BUILD_PAGE);
	for (i = 0; i < BUILD_UNIT; i++)
		build_u8(build, fill);
}

void build_delta(struct build *build, const char *name, uint64_t offset,
		 const void *delta, uint16_t length)
{
	build_head(build, name, offset, BUILD_XBZRLE);
	build_u8(build, 0x01);
	build_be16(build, length);
	build_bytes(build, delta, length);
}

/* Bit by bit, from the polynomial. */
uint32_t build_crc32c(const void *bytes, size_t length, uint32_t crc)
{
	const uint8_t *at = bytes;
	int bit;

	for (; length; length--) {
		crc ^= *at++;
		for (bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return crc;
}

void build_frame(struct build *build, uint8_t type, uint32_t sequence,
		 const void *payload, uint32_t length)
{
	size_t start = build->length;
	uint32_t crc;

	build_bytes(build, "XBZF", 4);
	build_u8(build, 1);
	build_u8(build, type);
	build_be16(build, 0);
	build_be32(build, length);
	build_be32(build, sequence);
	crc = build_crc32c(build->bytes + start, 16, 0xffffffff);
	build_be32(build, ~build_crc32c(payload, length, crc));
	build_bytes(build, payload, length);
}

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* Numbers as people write and read them. */
#ifndef _XBZRLE_TOOL_UNITS_H
#define _XBZRLE_TOOL_UNITS_H

#include <stdint.h>

struct units_text {
	char text[24];
};

int units_parse_size(const char *text, uint64_t *bytes);
int units_parse_number(const char *text, uint64_t max, uint64_t *number);
int units_parse_duration(const char *text, uint64_t *ms);
struct units_text units_bytes(double bytes);
struct units_text units_seconds(double seconds);

#endif /* _XBZRLE_TOOL_UNITS_H */

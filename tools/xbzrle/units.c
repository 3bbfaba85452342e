// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "units.h"

static int parse(const char *text, uint64_t *number, const char **rest)
{
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	*number = strtoull(text, &end, 10);
	*rest = end;
	return errno ? -ERANGE : 0;
}

/**
 * units_parse_number() - read a number
 * @text: decimal digits
 * @max: the largest that is wanted
 * @number: set
 *
 * Return: 0 or a negative errno.
 */
int units_parse_number(const char *text, uint64_t max, uint64_t *number)
{
	const char *rest;
	int ret = parse(text, number, &rest);

	if (ret || *rest)
		return -EINVAL;
	return *number > max ? -ERANGE : 0;
}

/**
 * units_parse_size() - read a number of bytes
 * @text: decimal digits, then perhaps K, M, G or T for a power of 1024
 * @bytes: set
 *
 * Return: 0 or a negative errno.
 */
int units_parse_size(const char *text, uint64_t *bytes)
{
	static const char suffixes[] = "KMGT";
	const char *rest, *suffix;
	unsigned int shift;
	int ret;

	ret = parse(text, bytes, &rest);
	if (ret || !*rest)
		return ret;
	suffix = strchr(suffixes, toupper((unsigned char)*rest));
	if (!suffix || rest[1])
		return -EINVAL;
	shift = 10 * (suffix - suffixes + 1);
	if (*bytes > UINT64_MAX >> shift)
		return -ERANGE;
	*bytes <<= shift;
	return 0;
}

/**
 * units_parse_duration() - read a time
 * @text: decimal digits, then perhaps ms, s, m, h or d; seconds without
 * @ms: set, in milliseconds
 *
 * Return: 0 or a negative errno.
 */
int units_parse_duration(const char *text, uint64_t *ms)
{
	static const struct {
		const char *name;
		uint32_t ms;
	} units[] = {
		{ "ms", 1 }, { "", 1000 }, { "s", 1000 }, { "m", 60000 },
		{ "h", 3600000 }, { "d", 86400000 },
	};
	const char *rest;
	size_t i;
	int ret;

	ret = parse(text, ms, &rest);
	if (ret)
		return ret;
	for (i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(rest, units[i].name))
			continue;
		if (*ms > UINT32_MAX)
			return -ERANGE;
		*ms *= units[i].ms;
		return 0;
	}
	return -EINVAL;
}

/**
 * units_bytes() - write a number of bytes
 * @bytes: number
 *
 * Return: it with the unit that keeps it short.
 */
struct units_text units_bytes(double bytes)
{
	static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	struct units_text out;
	unsigned int i = 0;

	while (bytes >= 1024 && i < 4) {
		bytes /= 1024;
		i++;
	}
	snprintf(out.text, sizeof(out.text), i ? "%.1f %s" : "%.0f %s", bytes,
		 names[i]);
	return out;
}

/**
 * units_seconds() - write a time
 * @seconds: time
 *
 * Return: it in ms, or in s from ten seconds on.
 */
struct units_text units_seconds(double seconds)
{
	struct units_text out;

	if (seconds < 10)
		snprintf(out.text, sizeof(out.text), "%.0f ms", seconds * 1e3);
	else
		snprintf(out.text, sizeof(out.text), "%.1f s", seconds);
	return out;
}

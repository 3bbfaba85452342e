// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <argp.h>
#include <inttypes.h>
#include <stdio.h>

#include "array.h"
#include "command.h"
#include "units.h"

static const struct feature {
	uint64_t bit;
	const char *name;
} features[] = {
	{ XBZRLE_FEATURE_TRACKER_OWNED, "tracker-owned" },
	{ XBZRLE_FEATURE_TRACKER_PTE, "tracker-pte" },
	{ XBZRLE_FEATURE_TRACKER_MAPPING, "tracker-mapping" },
	{ XBZRLE_FEATURE_TRACKER_EXTERNAL, "tracker-external" },
	{ XBZRLE_FEATURE_CAPTURE_COPY, "capture-copy" },
	{ XBZRLE_FEATURE_CAPTURE_PREIMAGE, "capture-preimage" },
	{ XBZRLE_FEATURE_CAPTURE_FREEZE, "capture-freeze" },
	{ XBZRLE_FEATURE_POINT_IN_TIME, "point-in-time" },
};

static const struct argp argp = {
	.doc = "Print what the loaded module can do.",
};

/**
 * info_main() - xbzrle info
 * @argc: arguments
 * @argv: arguments
 *
 * Return: exit status.
 */
int info_main(int argc, char **argv)
{
	struct xbzrle_session *session;
	struct xbzrle_error err;
	struct xbzrle_info info;
	size_t i;
	int ret;

	argp_parse(&argp, argc, argv, 0, NULL, NULL);

	session = xbzrle_open(&err);
	if (!session)
		return command_failed(&err);
	ret = xbzrle_info(session, &info, &err);
	xbzrle_close(session);
	if (ret)
		return command_failed(&err);

	printf("ABI version: %u\n", info.abi_version);
	printf("unit: %u bytes\n", info.unit_size);
	printf("features:");
	for (i = 0; i < ARRAY_SIZE(features); i++) {
		if (info.features & features[i].bit)
			printf(" %s", features[i].name);
	}
	printf("\nregions of a session: %u\n", info.max_regions);
	printf("longest name: %u bytes\n", info.name_max);
	printf("longest region: %s\n",
	       units_bytes(info.max_region_length).text);
	printf("largest cache: %s\n", units_bytes(info.max_cache).text);
	printf("codec: %.*s\n", (int)sizeof(info.codec), info.codec);
	return command_flush(&err) ? command_failed(&err) : EXIT_DONE;
}

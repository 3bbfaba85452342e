/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* What the subcommands have in common. */
#ifndef _XBZRLE_TOOL_COMMAND_H
#define _XBZRLE_TOOL_COMMAND_H

#include <stdio.h>

#include <jansson.h>

#include <xbzrle.h>

/* Exit status. */
enum {
	EXIT_DONE	= 0,
	EXIT_FAILED	= 1,
	EXIT_USAGE	= 2,
};

/* In place of an errno, which all are smaller: wrong use. EINVAL may be any call's. */
#define COMMAND_MISUSED	4096

/* Memory for what is known of pages that come and go to files. */
#define COMMAND_MEMORY	(1ULL << 30)
#define COMMAND_MEMORY_HELP \
	"Most memory for the account of pages (default: 1G)"

/* Each gets its own name as argv[0] and returns an exit status. */
int send_main(int argc, char **argv);
int recv_main(int argc, char **argv);
int inspect_main(int argc, char **argv);
int info_main(int argc, char **argv);
int snapshot_main(int argc, char **argv);
int restore_main(int argc, char **argv);
int verify_main(int argc, char **argv);
int fold_main(int argc, char **argv);

int command_at_byte(int ret, struct xbzrle_error *err);
int command_at_limit(int ret, struct xbzrle_error *err);
void command_print(FILE *to, const char *text);
json_t *command_json_text(const char *text);
int command_print_json(const json_t *json, size_t flags,
		       struct xbzrle_error *err);
int command_flush(struct xbzrle_error *err);
int command_failed(const struct xbzrle_error *err);
int command_status(int ret);

#endif /* _XBZRLE_TOOL_COMMAND_H */

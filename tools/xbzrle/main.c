// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "command.h"
#include "signals.h"
#include "version.h"

static const struct command {
	const char *name;
	int (*main)(int argc, char **argv);
	const char *help;
} commands[] = {
	{ "send", send_main, "send the memory of a running process" },
	{ "recv", recv_main, "receive memory into image files" },
	{ "snapshot", snapshot_main, "keep a chain of snapshots of a running process" },
	{ "restore", restore_main, "make image files of a snapshot" },
	{ "verify", verify_main, "check a chain of snapshots" },
	{ "fold", fold_main, "drop a chain's snapshots before one" },
	{ "inspect", inspect_main, "print what is in a recorded stream" },
	{ "info", info_main, "print what the loaded module can do" },
};

#define COMMAND_COUNT	ARRAY_SIZE(commands)

static void usage(FILE *to)
{
	size_t i;

	fputs("Usage: xbzrle COMMAND [OPTION...]\n"
	      "       xbzrle --help | --version\n\n", to);
	for (i = 0; i < COMMAND_COUNT; i++)
		fprintf(to, "  %-8s  %s\n", commands[i].name,
			commands[i].help);
	fputs("\n'xbzrle COMMAND --help' has the options; xbzrle(1) is the manual.\n",
	      to);
}

/*
 * Where one is closed a file would take its place, and get our words into it.
 * What takes its place can be neither read nor written as the other could.
 */
static bool have_standard_fds(void)
{
	int fd;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd)
			return false;
	}
	return true;
}

/* Also of the help that argp prints, which ends with 0 whatever becomes of it. */
static void check_printed(int status, void *unused)
{
	struct xbzrle_error err;

	(void)unused;
	if (status == EXIT_DONE && command_flush(&err))
		_exit(command_failed(&err));
}

int main(int argc, char **argv)
{
	char name[32];
	size_t i;

	if (!have_standard_fds())
		return EXIT_FAILED;
	argp_err_exit_status = EXIT_USAGE;
	signals_catch();
	if (on_exit(check_printed, NULL))
		return EXIT_FAILED;

	if (argc >= 2 && !strcmp(argv[1], "--version")) {
		puts("xbzrle " VERSION);
		return EXIT_DONE;
	}
	if (argc >= 2 && (!strcmp(argv[1], "--help") ||
			  !strcmp(argv[1], "help"))) {
		usage(stdout);
		return EXIT_DONE;
	}
	for (i = 0; argc >= 2 && i < COMMAND_COUNT; i++) {
		if (strcmp(argv[1], commands[i].name))
			continue;
		/* argp puts this name before its own messages. */
		snprintf(name, sizeof(name), "xbzrle %s", commands[i].name);
		program_invocation_name = name;
		program_invocation_short_name = name;
		argv[1] = name;
		return commands[i].main(argc - 1, argv + 1);
	}
	if (argc >= 2)
		fprintf(stderr, "xbzrle: no command '%s'\n", argv[1]);
	usage(stderr);
	return EXIT_USAGE;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Runs a command in the foreground of a terminal of its own, which is its standard
 * error. What comes from standard input is typed there, the first byte before the
 * command starts; what the terminal shows goes to standard output. At the end of
 * input a command that was stopped goes on. Exits as the command does.
 * usage: tool_tty COMMAND...
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * The leader of the terminal's session. The command gets a process group of its
 * own, whose parent is in another one: else nothing that is typed could stop it.
 */
static int lead(const char *name, char **command)
{
	int terminal, status;
	pid_t pid;

	setsid();
	signal(SIGTTOU, SIG_IGN);
	terminal = open(name, O_RDWR);
	if (terminal < 0)
		return 126;
	pid = fork();
	if (!pid) {
		setpgid(0, 0);
		tcsetpgrp(terminal, getpid());
		signal(SIGTTOU, SIG_DFL);
		dup2(terminal, STDERR_FILENO);
		close(terminal);
		execvp(command[0], command);
		_exit(127);
	}
	close(terminal);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 125;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}

static bool copy(int from, int to)
{
	char bytes[512];
	ssize_t got = read(from, bytes, sizeof(bytes));

	return got > 0 && write(to, bytes, got) == got;
}

/* Until nobody has the terminal open any more. */
static void serve(int master)
{
	struct pollfd ends[] = {
		{ .fd = master, .events = POLLIN },
		{ .fd = STDIN_FILENO, .events = POLLIN },
	};
	pid_t group;

	while (poll(ends, 2, -1) >= 0) {
		if (ends[0].revents && !copy(master, STDOUT_FILENO))
			break;
		if (!ends[1].revents || copy(STDIN_FILENO, master))
			continue;
		ends[1].fd = -1;
		if (!ioctl(master, TIOCGPGRP, &group))
			killpg(group, SIGCONT);
	}
}

int main(int argc, char **argv)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave, status;
	char byte;
	pid_t pid;

	if (argc < 2 || master < 0 || grantpt(master) || unlockpt(master))
		return 2;
	/* Without anybody that has it open, what is typed would be lost. */
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || read(STDIN_FILENO, &byte, 1) != 1 ||
	    write(master, &byte, 1) != 1)
		return 2;
	pid = fork();
	if (!pid) {
		close(slave);
		_exit(lead(ptsname(master), argv + 1));
	}
	/* The leader must have it open first. */
	usleep(100000);
	close(slave);
	serve(master);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 125;
	return WEXITSTATUS(status);
}

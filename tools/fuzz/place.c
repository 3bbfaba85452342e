// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "place.h"

static char place[64];

static void remove_place(void)
{
	place_empty(place);
	rmdir(place);
}

/**
 * place_path() - a directory for this process
 *
 * In FUZZ_DIR of the environment, or in memory; gone when the fuzzer has ended
 * well.
 *
 * Return: its path.
 */
const char *place_path(void)
{
	const char *dir = getenv("FUZZ_DIR");

	if (place[0])
		return place;
	snprintf(place, sizeof(place), "%.40s/xbzrle-fuzz-XXXXXX",
		 dir ? dir : "/dev/shm");
	must(mkdtemp(place));
	signal(SIGXFSZ, SIG_IGN);
	atexit(remove_place);
	return place;
}

static bool is_entry(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
}

/**
 * place_empty() - remove what is in a directory
 * @dir: directory, which may not be there
 */
void place_empty(const char *dir)
{
	DIR *list = opendir(dir);
	const struct dirent *entry;
	char path[400];

	while (list && (entry = readdir(list))) {
		if (!is_entry(entry))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		if (entry->d_type == DT_DIR)
			place_empty(path);
		must(!remove(path));
	}
	if (list)
		closedir(list);
}

/**
 * place_count() - how much is in a directory
 * @dir: directory
 *
 * Return: entries.
 */
unsigned int place_count(const char *dir)
{
	DIR *list = opendir(dir);
	const struct dirent *entry;
	unsigned int count = 0;

	must(list);
	while ((entry = readdir(list)))
		count += is_entry(entry);
	closedir(list);
	return count;
}

/**
 * place_holds() - is a file what it should be?
 * @dir: directory
 * @name: of the file
 * @bytes: what should be in it
 * @length: how many bytes
 *
 * Return: true if so.
 */
bool place_holds(const char *dir, const char *name, const void *bytes,
		 size_t length)
{
	int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = openat(at, name, O_RDONLY | O_CLOEXEC);
	char *is = fuzz_alloc(length + 1);
	bool holds;

	holds = pread(fd, is, length + 1, 0) == (ssize_t)length &&
		!memcmp(is, bytes, length);
	free(is);
	close(fd);
	close(at);
	return holds;
}

/**
 * place_run() - run a subcommand of the tool
 * @command: its function
 * @argv: its arguments, ended by NULL
 * @file_size: bytes that no file can exceed, as if the file system were full
 *
 * Return: exit status.
 */
int place_run(int (*command)(int argc, char **argv), char **argv,
	      size_t file_size)
{
	struct rlimit before, limit;
	int argc = 0, status;

	while (argv[argc])
		argc++;
	must(!getrlimit(RLIMIT_FSIZE, &before));
	limit = before;
	limit.rlim_cur = file_size;
	must(!setrlimit(RLIMIT_FSIZE, &limit));
	status = command(argc, argv);
	must(!setrlimit(RLIMIT_FSIZE, &before));
	return status;
}

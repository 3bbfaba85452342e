// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* The directories that the tool writes into. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "directory.h"

/* The entry of a new directory; not all file systems can, or let us. */
static int sync_parent(int dir)
{
	int parent = openat(dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret = 0;

	if (parent < 0)
		return errno == EACCES ? 0 : -errno;
	if (fsync(parent) && errno != EINVAL)
		ret = -errno;
	close(parent);
	return ret;
}

/**
 * directory_sync_of() - have the entry of a file on the disk
 * @path: the file
 *
 * Return: 0 or a negative errno; 0 also where that cannot be done.
 */
int directory_sync_of(const char *path)
{
	char *copy = strdup(path);
	int dir, ret = 0;

	if (!copy)
		return -ENOMEM;
	dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 && errno != EACCES)
		ret = -errno;
	if (dir >= 0 && fsync(dir) && errno != EINVAL)
		ret = -errno;
	if (dir >= 0)
		close(dir);
	free(copy);
	return ret;
}

/**
 * directory_open() - open a directory, and make it if it is not there
 * @path: where; one that is made is its owner's alone
 * @err: set on failure
 *
 * Return: a descriptor, or a negative errno.
 */
int directory_open(const char *path, struct xbzrle_error *err)
{
	bool made = !mkdir(path, 0700);
	int dir, ret;

	if (!made && errno != EEXIST)
		return xbzrle_fail(err, errno, 0, "cannot make %s: %s", path,
				   strerror(errno));
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return xbzrle_fail(err, errno, 0, "cannot open %s: %s", path,
				   strerror(errno));
	ret = made ? sync_parent(dir) : 0;
	if (ret) {
		close(dir);
		return xbzrle_fail(err, -ret, 0, "cannot make %s: %s", path,
				   strerror(-ret));
	}
	return dir;
}

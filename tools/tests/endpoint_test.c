// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Where a stream goes to: what becomes of a file that was there before. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../xbzrle/command.h"
#include "../xbzrle/endpoint.h"

static int enter_tmp(void **state)
{
	char path[] = "/tmp/xbzrle-endpoint-XXXXXX";

	(void)state;
	umask(022);
	return mkdtemp(path) && !chdir(path) ? 0 : -1;
}

static int leave_tmp(void **state)
{
	char path[128];

	(void)state;
	return getcwd(path, sizeof(path)) ? rmdir(path) : -1;
}

static void put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void assert_file(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_RDONLY);
	struct stat status;
	char got[32] = "";

	assert_true(fd >= 0);
	assert_true(read(fd, got, sizeof(got) - 1) >= 0);
	assert_string_equal(got, text);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_mode & 07777, mode);
	close(fd);
}

static void begin(struct endpoint *end, const char *spec, const char *text)
{
	assert_int_equal(endpoint_open_send(end, spec, NULL), 0);
	assert_int_equal(write(end->out, text, strlen(text)), strlen(text));
}

static void file_is_new(void **state)
{
	struct xbzrle_error err;
	struct endpoint end;

	(void)state;
	begin(&end, "file:dump", "first");
	assert_int_equal(access("dump", F_OK), -1);
	assert_int_equal(endpoint_close(&end, &err), 0);
	assert_file("dump", "first", 0600);
	assert_int_equal(unlink("dump"), 0);
}

static void file_is_replaced_when_all_is_there(void **state)
{
	struct xbzrle_error err;
	struct endpoint end;

	(void)state;
	put_file("dump", "old and long");
	assert_int_equal(link("dump", "other"), 0);
	begin(&end, "file:dump", "new");
	assert_file("dump", "old and long", 0644);
	assert_int_equal(endpoint_close(&end, &err), 0);
	assert_file("dump", "new", 0600);
	assert_file("other", "old and long", 0644);
	assert_int_equal(unlink("dump"), 0);
	assert_int_equal(unlink("other"), 0);
}

static void file_outlives_a_failure(void **state)
{
	struct endpoint end;

	(void)state;
	put_file("dump", "old");
	begin(&end, "file:dump", "new");
	assert_int_equal(endpoint_close(&end, NULL), 0);
	assert_file("dump", "old", 0644);
	assert_int_equal(access("dump.new", F_OK), -1);
	assert_int_equal(unlink("dump"), 0);
}

static void file_behind_a_link(void **state)
{
	struct xbzrle_error err;
	struct endpoint end;
	struct stat status;

	(void)state;
	assert_int_equal(mkdir("dir", 0700), 0);
	put_file("dir/dump", "old");
	assert_int_equal(symlink("dir/dump", "link"), 0);
	begin(&end, "file:link", "new");
	assert_int_equal(endpoint_close(&end, &err), 0);
	assert_int_equal(lstat("link", &status), 0);
	assert_true(S_ISLNK(status.st_mode));
	assert_file("dir/dump", "new", 0600);
	assert_int_equal(unlink("link"), 0);
	assert_int_equal(unlink("dir/dump"), 0);
	assert_int_equal(rmdir("dir"), 0);
}

static void link_to_nothing_stays(void **state)
{
	struct xbzrle_error err;
	struct endpoint end;
	struct stat status;

	(void)state;
	assert_int_equal(symlink("dir/dump", "link"), 0);
	assert_int_equal(endpoint_open_send(&end, "file:link", &err), -ENOENT);
	assert_string_equal(err.message, "link is a link to what is not there");
	assert_int_equal(lstat("link", &status), 0);
	assert_true(S_ISLNK(status.st_mode));
	assert_int_equal(access("link.new", F_OK), -1);
	assert_int_equal(unlink("link"), 0);
}

/* Before anything is sent. */
static void file_without_a_name(void **state)
{
	struct xbzrle_error err;
	struct endpoint end;

	(void)state;
	assert_int_equal(endpoint_open_send(&end, "file:", &err),
			 -COMMAND_MISUSED);
	assert_int_equal(endpoint_open_recv(&end, "file:", &err),
			 -COMMAND_MISUSED);
	assert_int_equal(access(".new", F_OK), -1);
}

/* Somebody else's, who may be at it. */
static void unfinished_file_stays(void **state)
{
	struct xbzrle_error err;
	struct endpoint end;

	(void)state;
	put_file("dump.new", "other");
	assert_int_equal(endpoint_open_send(&end, "file:dump", &err), -EEXIST);
	assert_non_null(strstr(err.message, "dump.new: "));
	assert_non_null(strstr(err.message, "remove it"));
	assert_file("dump.new", "other", 0644);
	assert_int_equal(unlink("dump.new"), 0);
}

static void device_is_written_to(void **state)
{
	struct xbzrle_error err;
	struct endpoint end;
	char got[4] = "";
	int fd;

	(void)state;
	begin(&end, "file:/dev/null", "new");
	assert_int_equal(endpoint_close(&end, &err), 0);
	assert_int_equal(mkfifo("fifo", 0600), 0);
	fd = open("fifo", O_RDWR);
	begin(&end, "file:fifo", "new");
	assert_int_equal(endpoint_close(&end, NULL), 0);
	assert_int_equal(read(fd, got, 3), 3);
	assert_string_equal(got, "new");
	close(fd);
	assert_int_equal(unlink("fifo"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(file_is_new),
		cmocka_unit_test(file_is_replaced_when_all_is_there),
		cmocka_unit_test(file_outlives_a_failure),
		cmocka_unit_test(file_behind_a_link),
		cmocka_unit_test(link_to_nothing_stays),
		cmocka_unit_test(file_without_a_name),
		cmocka_unit_test(unfinished_file_stays),
		cmocka_unit_test(device_is_written_to),
	};

	return cmocka_run_group_tests_name("endpoint", tests, enter_tmp,
					   leave_tmp);
}

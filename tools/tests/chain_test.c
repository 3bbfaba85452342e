// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Chains of snapshots: every round is restored as it was, damage is refused,
 * and whoever is killed leaves a chain.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <xxhash.h>

#include "../xbzrle/chain.h"
#include "../xbzrle/command.h"
#include "chain_build.h"

#define ROUNDS	17
#define KILLS	15
#define FLIPS	120
/* The sanitizers make it slow; without them it is every byte. */
#ifdef __SANITIZE_ADDRESS__
#define CUT_STEP	17
#else
#define CUT_STEP	1
#endif

/* In memory, where there is such a place: all is synced to it over and over. */
static char top[64] = "/dev/shm/xbzrle-chain-XXXXXX";
static char words[4096];

/*
 * What changes files goes through these, so that a process can be killed, or find
 * the disk full, before any of its steps.
 */
static unsigned int steps_left;
static bool disk_is_full;
static void (*before_lock)(void);
/* The inode that is waited for, until it is synced. */
static ino_t unsynced;

/* Is this step to be done? */
static bool step(void)
{
	if (!steps_left || --steps_left)
		return true;
	if (!disk_is_full)
		kill(getpid(), SIGKILL);
	/* And it stays so. */
	steps_left = 1;
	errno = ENOSPC;
	return false;
}

ssize_t write(int fd, const void *bytes, size_t length)
{
	return step() ? syscall(SYS_write, fd, bytes, length) : -1;
}

int fsync(int fd)
{
	struct stat status;

	if (unsynced && !fstat(fd, &status) && status.st_ino == unsynced)
		unsynced = 0;
	return step() ? syscall(SYS_fsync, fd) : -1;
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	return step() ? syscall(SYS_renameat2, from_dir, from, to_dir, to, 0) :
		-1;
}

int ftruncate(int fd, off_t length)
{
	return step() ? syscall(SYS_ftruncate, fd, length) : -1;
}

/* It needs no room. */
int unlinkat(int dir, const char *name, int flags)
{
	if (!disk_is_full)
		step();
	return syscall(SYS_unlinkat, dir, name, flags);
}

int flock(int fd, int how)
{
	if (before_lock)
		before_lock();
	return syscall(SYS_flock, fd, how);
}

static int open_top(void **state)
{
	(void)state;
	if (!mkdtemp(top)) {
		strcpy(top, "/tmp/xbzrle-chain-XXXXXX");
		if (!mkdtemp(top))
			return -1;
	}
	return chdir(top);
}

static int remove_one(const char *path, const struct stat *status, int type,
		      struct FTW *where)
{
	(void)status;
	(void)type;
	(void)where;
	return remove(path);
}

static void remove_all(const char *path)
{
	assert_true(!nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS) ||
		    errno == ENOENT);
}

static int close_top(void **state)
{
	(void)state;
	remove_all(top);
	return 0;
}

/* A command as main() would call it; what it says goes to words[]. */
static int run(int (*command)(int, char **), const char *name,
	       const char *first, const char *second, const char *third)
{
	char copy[3][256];
	char *argv[5] = { (char *)name, copy[0] };
	int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
	int fd = open("words", O_RDWR | O_CREAT | O_TRUNC, 0600);
	int argc = 2, status;
	ssize_t got;

	snprintf(copy[0], sizeof(copy[0]), "%s", first);
	if (second) {
		snprintf(copy[1], sizeof(copy[1]), "%s", second);
		argv[argc++] = copy[1];
	}
	if (third) {
		snprintf(copy[2], sizeof(copy[2]), "%s", third);
		argv[argc++] = copy[2];
	}
	fflush(stdout);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	status = command(argc, argv);
	fflush(stdout);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	close(out);
	close(err);
	got = pread(fd, words, sizeof(words) - 1, 0);
	close(fd);
	words[got > 0 ? got : 0] = '\0';
	return status;
}

static int verify(const char *chain)
{
	return run(verify_main, "verify", chain, NULL, NULL);
}

static int restore(const char *chain, unsigned int round)
{
	char which[64];

	remove_all("images");
	snprintf(which, sizeof(which), round ? "%s@%u" : "%s", chain, round);
	return run(restore_main, "restore", "--output", "images", which);
}

static int fold(const char *chain, unsigned int round)
{
	char which[64];

	snprintf(which, sizeof(which), "%s@%u", chain, round);
	return run(fold_main, "fold", which, NULL, NULL);
}

static void write_file(const char *dir, const char *name, const void *bytes,
		       size_t length, int flags)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | flags, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, length), length);
	close(fd);
}

static size_t read_file(const char *dir, const char *name, uint8_t *bytes,
			size_t room)
{
	char path[128];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	got = read(fd, bytes, room);
	assert_true(got >= 0 && (size_t)got < room);
	close(fd);
	return got;
}

static bool exists(const char *dir, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return !access(path, F_OK);
}

static const char *file_of(unsigned int round, bool full)
{
	static char name[32];

	snprintf(name, sizeof(name), "%s-%u.xbzrle", full ? "full" : "delta",
		 round);
	return name;
}

/* Adds @count rounds behind @before, the checksum of the line before. */
static void add_rounds(const char *dir, unsigned int first, unsigned int count,
		       char *before)
{
	struct build file = {}, line = {};
	struct maker maker;
	char check[33];

	for (maker_begin(&maker, first); count; count--) {
		maker_next(&maker);
		maker_file(&maker, &file);
		maker_line(&maker, file.length, before, check, &line);
		write_file(dir, file_of(maker.round, maker.round == first),
			   file.bytes, file.length, O_TRUNC);
		write_file(dir, "chain.jsonl", line.bytes, line.length,
			   O_APPEND);
		strcpy(before, check);
	}
	maker_end(&maker);
	build_free(&file);
	build_free(&line);
}

static void make_chain(const char *dir, unsigned int count)
{
	char before[33] = "";

	remove_all(dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	add_rounds(dir, 1, count, before);
}

/* The images are those of the round, and there are no others. */
static void compare(unsigned int first, unsigned int round)
{
	static uint8_t bytes[MAKER_PAGES * BUILD_UNIT + 1];
	struct maker maker;
	char name[32];
	unsigned int i;

	assert_true(exists("images", "manifest.json"));
	maker_at(&maker, first, round);
	for (i = 0; i < MAKER_REGIONS; i++) {
		const struct maker_region *region = &maker.regions[i];

		snprintf(name, sizeof(name), "r_%u.img", i);
		assert_int_equal(exists("images", name), region->present);
		if (!region->present)
			continue;
		assert_int_equal(read_file("images", name, bytes,
					   sizeof(bytes)),
				 region->pages * BUILD_UNIT);
		assert_memory_equal(bytes, region->bytes,
				    region->pages * BUILD_UNIT);
	}
	maker_end(&maker);
}

static void check_restore(const char *chain, unsigned int first,
			  unsigned int round)
{
	if (restore(chain, round))
		fail_msg("round %u: %s", round, words);
	compare(first, round);
}

static void every_round_is_restored(void **state)
{
	unsigned int round;

	(void)state;
	make_chain("chain", ROUNDS);
	if (verify("chain"))
		fail_msg("%s", words);
	assert_non_null(strstr(words, "17 of 17 rounds are good"));
	for (round = 1; round <= ROUNDS; round++)
		check_restore("chain", 1, round);
	assert_int_equal(restore("chain", 0), EXIT_DONE);
	compare(1, ROUNDS);
	assert_int_equal(restore("chain", ROUNDS + 1), EXIT_FAILED);
	assert_non_null(strstr(words, "has rounds 1 to 17, and no 18"));
}

/* Images would lie among the files of the chain. */
static void the_chain_is_no_place_for_images(void **state)
{
	(void)state;
	make_chain("chain", 3);
	assert_int_equal(run(restore_main, "restore", "--output", "./chain",
			     "chain@2"), EXIT_FAILED);
	assert_non_null(strstr(words, "is the directory of a chain"));
	assert_int_equal(run(recv_main, "recv", "--output", "./chain",
			     "file:/dev/null"), EXIT_FAILED);
	assert_non_null(strstr(words, "is the directory of a chain"));
	assert_int_equal(access("chain/manifest.json", F_OK), -1);
	check_restore("chain", 1, 3);
}

/* Each round would wait until all of them are there. */
static void nor_images_for_the_chain(void **state)
{
	struct xbzrle_error err;
	struct images images;
	struct chain chain;

	(void)state;
	remove_all("images");
	assert_int_equal(images_open(&images, "images", &err), 0);
	assert_int_equal(chain_open(&chain, "images", CHAIN_SNAPSHOT, &err),
			 -EBUSY);
	assert_non_null(strstr(err.message, "has images written to it"));
	images_close(&images);
	assert_int_equal(chain_open(&chain, "images", CHAIN_SNAPSHOT, &err), 0);
	assert_int_equal(images_open(&images, "images", &err), -EEXIST);
	chain_close(&chain);
	remove_all("images");
}

/* The names are of the snapshot's memory, and not all that is there is ours. */
static void restore_replaces_no_file(void **state)
{
	static const char mine[] = "mine";
	char got[8] = "";
	int fd;

	(void)state;
	make_chain("chain", 3);
	remove_all("images");
	assert_int_equal(mkdir("images", 0700), 0);
	write_file("images", "r_0.img", mine, sizeof(mine), O_EXCL);
	assert_int_equal(run(restore_main, "restore", "--output", "images",
			     "chain@2"), EXIT_FAILED);
	assert_non_null(strstr(words, "r_0.img is there already"));
	fd = open("images/r_0.img", O_RDONLY);
	assert_int_equal(read(fd, got, sizeof(got)), sizeof(mine));
	assert_string_equal(got, mine);
	close(fd);
	assert_int_equal(unlink("images/r_0.img"), 0);
	assert_int_equal(run(restore_main, "restore", "--output", "images",
			     "chain@2"), EXIT_DONE);
}

/* A chain that was continued, as after a restart. */
static void a_chain_has_more_than_one_beginning(void **state)
{
	char before[33] = "";
	unsigned int round;

	(void)state;
	remove_all("chain");
	assert_int_equal(mkdir("chain", 0700), 0);
	add_rounds("chain", 1, 6, before);
	add_rounds("chain", 7, 5, before);
	if (verify("chain"))
		fail_msg("%s", words);
	for (round = 1; round <= 11; round++)
		check_restore("chain", round < 7 ? 1 : 7, round);
}

static void fold_keeps_what_follows(void **state)
{
	unsigned int at, round;

	(void)state;
	for (at = 1; at <= ROUNDS; at++) {
		make_chain("chain", ROUNDS);
		if (fold("chain", at) || verify("chain"))
			fail_msg("fold at %u: %s", at, words);
		for (round = 1; round <= ROUNDS; round++) {
			assert_int_equal(exists("chain", file_of(round, false)),
					 round > at);
			assert_int_equal(exists("chain", file_of(round, true)),
					 round == at);
		}
		assert_int_equal(at > 1 ? restore("chain", at - 1) : 1,
				 EXIT_FAILED);
		for (round = at; round <= ROUNDS; round += 5)
			check_restore("chain", 1, round);
		check_restore("chain", 1, ROUNDS);
	}
}

static void fold_again_and_of_a_beginning(void **state)
{
	char before[33] = "";

	(void)state;
	remove_all("chain");
	assert_int_equal(mkdir("chain", 0700), 0);
	add_rounds("chain", 1, 6, before);
	add_rounds("chain", 7, 5, before);
	assert_int_equal(fold("chain", 3), EXIT_DONE);
	assert_int_equal(fold("chain", 5), EXIT_DONE);
	check_restore("chain", 1, 5);
	check_restore("chain", 7, 11);
	assert_int_equal(fold("chain", 7), EXIT_DONE);
	assert_int_equal(verify("chain"), EXIT_DONE);
	check_restore("chain", 7, 7);
	check_restore("chain", 7, 10);
	assert_int_equal(fold("chain", 6), EXIT_FAILED);
}

static void a_full_file_is_a_transfer(void **state)
{
	(void)state;
	make_chain("chain", 8);
	assert_int_equal(fold("chain", 7), EXIT_DONE);
	remove_all("images");
	if (run(recv_main, "recv", "--output", "images",
		"file:chain/full-7.xbzrle"))
		fail_msg("%s", words);
	compare(1, 7);
}

/* One file is cut at every byte: what does not need it can still be restored. */
static void cut_at_every_byte(unsigned int round, bool full)
{
	static uint8_t bytes[1 << 17];
	const char *name = file_of(round, full);
	char path[64], want[64];
	size_t length, at;

	snprintf(path, sizeof(path), "chain/%s", name);
	snprintf(want, sizeof(want), "%u of 4 rounds are good", round - 1);
	length = read_file("chain", name, bytes, sizeof(bytes));
	for (at = 0; at < length; at += CUT_STEP) {
		assert_int_equal(truncate(path, at), 0);
		if (verify("chain") != EXIT_FAILED || !strstr(words, want) ||
		    !strstr(words, name))
			fail_msg("%s of %zu bytes: %s", name, at, words);
		write_file("chain", name, bytes, length, 0);
	}
	assert_int_equal(truncate(path, length / 2), 0);
	assert_int_equal(restore("chain", round), EXIT_FAILED);
	assert_false(exists("images", "manifest.json"));
	if (round > 1)
		check_restore("chain", 1, round - 1);
	write_file("chain", name, bytes, length, 0);
	assert_int_equal(verify("chain"), EXIT_DONE);
}

static void files_that_are_cut(void **state)
{
	unsigned int round;

	(void)state;
	make_chain("chain", 4);
	for (round = 1; round <= 4; round++)
		cut_at_every_byte(round, round == 1);
}

static void a_manifest_that_is_cut(void **state)
{
	static uint8_t bytes[1 << 16];
	size_t length, at, lines = 0;
	char want[64];
	bool lost;

	(void)state;
	make_chain("chain", 5);
	length = read_file("chain", "chain.jsonl", bytes, sizeof(bytes));
	for (at = 0; at < length; at++) {
		assert_int_equal(truncate("chain/chain.jsonl", at), 0);
		snprintf(want, sizeof(want), "%zu of %zu rounds are good",
			 lines, lines);
		/*
		 * What is not a line is no round, and no damage; but of more
		 * rounds than one there would be lines.
		 */
		lost = lines < 4;
		if (verify("chain") != (lost ? EXIT_FAILED : EXIT_DONE) ||
		    !strstr(words, want) ||
		    !strstr(words, "the manifest does not know") == lost)
			fail_msg("manifest of %zu bytes: %s", at, words);
		write_file("chain", "chain.jsonl", bytes, length, 0);
		lines += bytes[at] == '\n';
	}
}

static void every_flip_is_found(const char *name, struct maker *random,
				bool manifest)
{
	static uint8_t bytes[1 << 17];
	size_t length, at;
	uint8_t bit;
	int i;

	length = read_file("chain", name, bytes, sizeof(bytes));
	for (i = 0; i < FLIPS; i++) {
		random->seed = random->seed * 6364136223846793005 + 1;
		at = (random->seed >> 20) % length;
		bit = 1 << (random->seed >> 60) % 8;
		/* Without its newline the last line is none. */
		if (manifest && at == length - 1)
			continue;
		bytes[at] ^= bit;
		write_file("chain", name, bytes, length, 0);
		if (verify("chain") != EXIT_FAILED)
			fail_msg("%s byte %zu bit %#x: %s", name, at, bit,
				 words);
		bytes[at] ^= bit;
	}
	write_file("chain", name, bytes, length, 0);
	assert_int_equal(verify("chain"), EXIT_DONE);
}

static void flips(void **state)
{
	struct maker random = { .seed = 7 };
	unsigned int round;

	(void)state;
	make_chain("chain", 5);
	every_flip_is_found("chain.jsonl", &random, true);
	for (round = 1; round <= 5; round++)
		every_flip_is_found(file_of(round, round == 1), &random,
				    false);
}

static void damage_takes_what_builds_upon_it(void **state)
{
	char before[33] = "";

	(void)state;
	remove_all("chain");
	assert_int_equal(mkdir("chain", 0700), 0);
	add_rounds("chain", 1, 6, before);
	add_rounds("chain", 7, 5, before);
	write_file("chain", file_of(3, false), "x", 1, O_APPEND);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words, "7 of 11 rounds are good"));
	assert_int_equal(run(verify_main, "verify", "--json", "chain", NULL),
			 EXIT_FAILED);
	check_restore("chain", 1, 2);
	check_restore("chain", 7, 11);
	assert_int_equal(restore("chain", 3), EXIT_FAILED);
	assert_int_equal(restore("chain", 6), EXIT_FAILED);
	assert_int_equal(fold("chain", 4), EXIT_FAILED);
	/* What refuses to fold has dropped nothing. */
	check_restore("chain", 1, 2);
	assert_int_equal(fold("chain", 9), EXIT_DONE);
	assert_int_equal(verify("chain"), EXIT_DONE);
}

/* Files of another chain have right checksums and the wrong content. */
static void files_of_another_chain(void **state)
{
	static uint8_t bytes[1 << 17];
	char before[33] = "";
	size_t length;

	(void)state;
	make_chain("chain", 6);
	remove_all("other");
	assert_int_equal(mkdir("other", 0700), 0);
	add_rounds("other", 2, 6, before);
	length = read_file("other", file_of(2, true), bytes, sizeof(bytes));
	write_file("chain", file_of(1, true), bytes, length, O_TRUNC);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_int_equal(restore("chain", 1), EXIT_FAILED);
	assert_false(exists("images", "manifest.json"));
}

/* Rightly sealed, and of other memory than the file makes. */
static void a_sum_that_differs(void **state)
{
	struct build file = {}, line = {};
	struct maker maker;
	char check[33];

	(void)state;
	make_chain("chain", 1);
	maker_at(&maker, 1, 1);
	maker_file(&maker, &file);
	maker.regions[1].bytes[BUILD_UNIT + 5] ^= 1;
	maker_line(&maker, file.length, "", check, &line);
	write_file("chain", "chain.jsonl", line.bytes, line.length, O_TRUNC);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words,
			       "region 'r/1' is not what the manifest says"));
	assert_int_equal(restore("chain", 1), EXIT_FAILED);
	assert_non_null(strstr(words,
			       "region 'r/1' is not what the manifest says"));
	assert_false(exists("images", "manifest.json"));
	maker_end(&maker);
	build_free(&file);
	build_free(&line);
}

/* Cut between two frames, and the manifest says just that size. */
static void a_file_without_its_end(void **state)
{
	struct build file = {}, line = {};
	struct maker maker;
	char check[33];
	size_t at, next;

	(void)state;
	make_chain("chain", 1);
	maker_at(&maker, 1, 1);
	maker_file(&maker, &file);
	for (at = 0; at < file.length; at = next) {
		maker_line(&maker, at, "", check, &line);
		write_file("chain", "chain.jsonl", line.bytes, line.length,
			   O_TRUNC);
		write_file("chain", file_of(1, true), file.bytes, at, O_TRUNC);
		if (verify("chain") != EXIT_FAILED ||
		    !strstr(words, file_of(1, true)) ||
		    !strstr(words, "it is empty") == !at)
			fail_msg("%zu bytes: %s", at, words);
		next = at + 20 + (file.bytes[at + 8] << 24 |
				  file.bytes[at + 9] << 16 |
				  file.bytes[at + 10] << 8 |
				  file.bytes[at + 11]);
	}
	/* The whole of it is right. */
	maker_line(&maker, at, "", check, &line);
	write_file("chain", "chain.jsonl", line.bytes, line.length, O_TRUNC);
	write_file("chain", file_of(1, true), file.bytes, at, O_TRUNC);
	assert_int_equal(verify("chain"), EXIT_DONE);
	maker_end(&maker);
	build_free(&file);
	build_free(&line);
}

static void lines_out_of_order(void **state)
{
	static uint8_t bytes[1 << 16];
	size_t length, first;

	(void)state;
	make_chain("chain", 3);
	length = read_file("chain", "chain.jsonl", bytes, sizeof(bytes));
	first = (uint8_t *)memchr(bytes, '\n', length) - bytes + 1;
	write_file("chain", "chain.jsonl", bytes + first, length - first,
		   O_TRUNC);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words, "without its base"));
	write_file("chain", "chain.jsonl", bytes, first, O_TRUNC);
	write_file("chain", "chain.jsonl", bytes, length, O_APPEND);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words, "not the round after"));
	/* Which is the last is not known; the first can be had. */
	assert_int_equal(restore("chain", 0), EXIT_FAILED);
	check_restore("chain", 1, 1);
}

/* Each in place of the manifest: refused at once, and without a crash. */
static void hostile_manifests(void **state)
{
	static const char *const lines[] = {
		"\n", "{}\n", "[]\n", "null\n", "7\n", "\"x\"\n", "{\n",
		"{\"format\":1}\n", "\xff\xfe\n", "{\"a\":1,\"a\":2}\n",
		"{\"format\":1,\"round\":-1,\"base\":0,\"bytes\":1,\"stream_rounds\":1,\"regions\":[],\"before\":\"\",\"check\":\"\"}\n",
		"{\"format\":1,\"round\":1,\"base\":0,\"bytes\":1,\"stream_rounds\":1,\"regions\":[],\"before\":\"\",\"check\":\"\"}\n",
		"{\"format\":1,\"round\":9223372036854775807,\"base\":0,\"bytes\":1,\"stream_rounds\":1,\"regions\":[],\"before\":\"\",\"check\":\"\"}\n",
		"{\"format\":1,\"round\":1e999,\"base\":0}\n",
		"{\"format\":2,\"round\":1,\"base\":0,\"bytes\":1,\"stream_rounds\":1,\"regions\":[],\"before\":\"\",\"check\":\"\"}\n",
		"{\"format\":1,\"round\":\"1\",\"base\":0,\"bytes\":1,\"stream_rounds\":1,\"regions\":[],\"before\":\"\",\"check\":\"\"}\n",
		"{\"format\":1,\"round\":1,\"base\":0,\"bytes\":1,\"stream_rounds\":1,\"regions\":{},\"before\":\"\",\"check\":\"\"}\n",
	};
	char deep[20001];
	size_t i;

	(void)state;
	make_chain("chain", 2);
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		write_file("chain", "chain.jsonl", lines[i], strlen(lines[i]),
			   O_TRUNC);
		if (verify("chain") != EXIT_FAILED ||
		    !strstr(words, "chain.jsonl line 1"))
			fail_msg("'%s': %s", lines[i], words);
		assert_int_equal(restore("chain", 0), EXIT_FAILED);
		assert_int_equal(fold("chain", 1), EXIT_FAILED);
	}
	memset(deep, '[', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\n';
	write_file("chain", "chain.jsonl", deep, sizeof(deep), O_TRUNC);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words, "line 1"));
}

/* A few bytes each, and hundreds once they are parsed. */
static void a_line_of_many_values(void **state)
{
	static const char head[] = "{\"format\":1,\"regions\":[";
	const size_t values = 6 * XBZRLE_STREAM_REGIONS;
	struct build line = {};
	size_t i;

	(void)state;
	make_chain("chain", 1);
	build_bytes(&line, head, strlen(head));
	/* In a string they are none. */
	build_bytes(&line, "\"", 1);
	for (i = 0; i < values; i++)
		build_bytes(&line, "\\\",[", 4);
	build_bytes(&line, "\"]}\n", 4);
	write_file("chain", "chain.jsonl", line.bytes, line.length, O_TRUNC);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words, "line 1: it does not describe a round"));
	line.length = strlen(head);
	for (i = 0; i < values; i++)
		build_bytes(&line, "{},", 3);
	build_bytes(&line, "{}]}\n", 5);
	write_file("chain", "chain.jsonl", line.bytes, line.length, O_TRUNC);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words, "line 1: more values than regions"));
	build_free(&line);
}

static void add_line_by_hand(struct build *lines, unsigned int round,
			     char *check)
{
	struct build line = {};
	char text[256];

	snprintf(text, sizeof(text),
		 "{\"base\":0,\"before\":\"%s\",\"bytes\":1,\"format\":1,\"regions\":[],\"round\":%u,\"stream_rounds\":1}",
		 check, round);
	build_bytes(&line, text, strlen(text));
	maker_seal(&line, check);
	build_bytes(lines, line.bytes, line.length);
	build_free(&line);
}

/* Of each round a little is kept, and of more than there may be none. */
static void a_long_manifest(void **state)
{
	struct xbzrle_error err;
	struct build lines = {};
	struct chain chain;
	char check[33] = "";
	size_t before;
	json_t *entry;
	unsigned int i;

	(void)state;
	remove_all("chain");
	assert_int_equal(mkdir("chain", 0700), 0);
	for (i = 1; i <= CHAIN_ROUNDS; i++)
		add_line_by_hand(&lines, i, check);
	write_file("chain", "chain.jsonl", lines.bytes, lines.length, O_TRUNC);
	before = mallinfo2().uordblks + mallinfo2().hblkhd;
	assert_int_equal(chain_open(&chain, "chain", CHAIN_READ, &err), 0);
	assert_int_equal(chain.damage.code, 0);
	assert_int_equal(chain.count, CHAIN_ROUNDS);
	assert_true(mallinfo2().uordblks + mallinfo2().hblkhd - before <
		    120 * CHAIN_ROUNDS);
	entry = chain_entry(&chain, CHAIN_ROUNDS - 1, &err);
	assert_int_equal(json_integer_value(json_object_get(entry, "round")),
			 CHAIN_ROUNDS);
	/* Somebody writes to it meanwhile. */
	write_file("chain", "chain.jsonl", "{\"base\":1,", 10, 0);
	assert_null(chain_entry(&chain, 0, &err));
	assert_int_equal(err.code, EBUSY);
	chain_close(&chain);

	write_file("chain", "chain.jsonl", lines.bytes, lines.length, O_TRUNC);
	assert_int_equal(chain_open(&chain, "chain", CHAIN_SNAPSHOT, &err), 0);
	json_object_set_new(entry, "round", json_integer(CHAIN_ROUNDS + 1));
	assert_int_equal(chain_append(&chain, entry, &err), -EOVERFLOW);
	assert_non_null(strstr(err.message, "fold it"));
	chain_close(&chain);
	json_decref(entry);

	lines.length = 0;
	add_line_by_hand(&lines, CHAIN_ROUNDS + 1, check);
	write_file("chain", "chain.jsonl", lines.bytes, lines.length, O_APPEND);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words, "full-1.xbzrle: cannot open"));
	assert_int_equal(restore("chain", 0), EXIT_FAILED);
	assert_non_null(strstr(words, "more rounds than a chain may have"));
	build_free(&lines);
}

/* What is not a file must not be waited for nor followed. */
static void hostile_files(void **state)
{
	(void)state;
	make_chain("chain", 2);
	assert_int_equal(rename("chain/full-1.xbzrle", "elsewhere"), 0);
	assert_int_equal(symlink("../elsewhere", "chain/full-1.xbzrle"), 0);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words, "full-1.xbzrle: cannot open: it is a symbolic link"));
	assert_int_equal(unlink("chain/full-1.xbzrle"), 0);
	assert_int_equal(mkfifo("chain/full-1.xbzrle", 0600), 0);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words, "not a file"));
	assert_int_equal(unlink("chain/full-1.xbzrle"), 0);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words, "No such file"));

	assert_int_equal(unlink("chain/chain.jsonl"), 0);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_int_equal(symlink("../elsewhere", "chain/chain.jsonl"), 0);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words, "chain.jsonl: it is a symbolic link"));
	assert_int_equal(unlink("chain/chain.jsonl"), 0);
	assert_int_equal(mkfifo("chain/chain.jsonl", 0600), 0);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words, "not a file"));
	assert_int_equal(verify("nosuch"), EXIT_FAILED);
}

/* Here malloc() may fail under the sanitizers, too. */
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

/* A region with a length that no memory has, rightly sealed and summed. */
/* What is too much for us is no damage. */
static void regions_that_take_too_much(void **state)
{
	(void)state;
	make_chain("chain", ROUNDS);
	assert_int_equal(run(verify_main, "verify", "--memory", "16K", "chain"),
			 EXIT_FAILED);
	assert_non_null(strstr(words, "than the 16384 bytes of memory"));
	assert_non_null(strstr(words, "allow more with --memory"));
	assert_null(strstr(words, "rounds are good"));
	assert_int_equal(run(fold_main, "fold", "--memory", "16K", "chain@3"),
			 EXIT_FAILED);
	assert_non_null(strstr(words, "allow more with --memory"));
	remove_all("images");
	assert_int_equal(run(restore_main, "restore", "--memory=7K",
			     "--output=images", "chain@3"), EXIT_FAILED);
	assert_non_null(strstr(words, "allow more with --memory"));
	assert_int_equal(run(verify_main, "verify", "--memory", "512K",
			     "chain"), EXIT_DONE);
}

/* Flags of the mapping that @at is in, or nothing. */
static void read_flags(const void *at, char *flags, size_t size)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool within = false;
	char line[512];

	*flags = '\0';
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			within = (unsigned long)at >= start &&
				(unsigned long)at < end;
		else if (within && !strncmp(line, "VmFlags:", 8))
			snprintf(flags, size, "%.*s", (int)size - 1,
				 line + 8);
	}
	fclose(smaps);
}

/* A page of each 2 MiB would take all of them: 500 times what is counted. */
static void a_page_takes_no_huge_page(void **state)
{
	struct build stream = {};
	struct xbzrle_error err;
	struct replica replica;
	char flags[256];

	(void)state;
	if (access("/sys/kernel/mm/transparent_hugepage", F_OK))
		skip();
	build_setup(&stream, 64 << 20);
	build_block(&stream, "a", 64 << 20);
	build_eos(&stream);
	build_page(&stream, "a", 2 << 20, 1);
	build_eos(&stream);
	assert_int_equal(replica_open(&replica, NULL, 1 << 20, &err), 0);
	replica.unannounced = true;
	assert_int_equal(replica_take(&replica, stream.bytes, stream.length,
				      &err), 0);
	read_flags(replica.regions[0].memory, flags, sizeof(flags));
	assert_non_null(strstr(flags, " nh"));
	replica_close(&replica);
	build_free(&stream);
}

static void a_region_too_long(void **state)
{
	struct build file = {}, payload = {}, line = {};
	const uint64_t length = 1ULL << 60;
	uint32_t sequence = 0;
	struct maker maker;
	char check[33];

	(void)state;
	make_chain("chain", 1);
	maker_at(&maker, 1, 1);
	build_be64(&payload, 2);
	build_be64(&payload, 2);
	build_be32(&payload, BUILD_UNIT);
	build_frame(&file, 1, sequence++, payload.bytes, payload.length);
	payload.length = 0;
	build_be64(&payload, 0);
	build_be64(&payload, length);
	build_be32(&payload, 1);
	build_bytes(&payload, "long", 4);
	build_frame(&file, 2, sequence++, payload.bytes, payload.length);
	payload.length = 0;
	build_setup(&payload, length);
	build_block(&payload, "long", length);
	build_eos(&payload);
	build_eos(&payload);
	build_frame(&file, 3, sequence++, payload.bytes, payload.length);
	maker_line(&maker, file.length, "", check, &line);
	write_file("chain", "full-1.xbzrle", file.bytes, file.length, O_TRUNC);
	write_file("chain", "chain.jsonl", line.bytes, line.length, O_TRUNC);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words, "no memory for the"));
	assert_int_equal(restore("chain", 0), EXIT_FAILED);
	maker_end(&maker);
	build_free(&file);
	build_free(&payload);
	build_free(&line);
}

/*
 * A chain written frame by frame, so that one rule at a time can be broken. Its
 * regions have names of one letter, and the pid and so many pages as are said at
 * that time. They are zero, but for the last page, which is filled with @last.
 */
struct hand {
	struct build file;
	struct build payload;
	struct build stream;
	struct build line;
	uint32_t sequence;
	uint32_t digests;
	uint64_t rounds;
	uint64_t position;
	unsigned int number;
	uint64_t pages;
	uint32_t pid;
	uint8_t last;
	char before[33];
};

enum { HELLO = 1, REGION, DATA, ROUND, DROP = 6, DIGEST, END };

static void hand_free(struct hand *hand)
{
	build_free(&hand->file);
	build_free(&hand->payload);
	build_free(&hand->stream);
	build_free(&hand->line);
}

static void hand_open(struct hand *hand)
{
	*hand = (struct hand){ .pages = 1 };
	remove_all("chain");
	assert_int_equal(mkdir("chain", 0700), 0);
}

static void hand_frame(struct hand *hand, uint8_t type)
{
	build_frame(&hand->file, type, hand->sequence++, hand->payload.bytes,
		    hand->payload.length);
	hand->payload.length = 0;
}

static void hand_hello(struct hand *hand, uint64_t offered)
{
	hand->number++;
	hand->file.length = 0;
	hand->sequence = 0;
	hand->digests = 0;
	hand->rounds = 0;
	hand->position = 0;
	build_be64(&hand->payload, offered);
	build_be64(&hand->payload, 0);
	build_be32(&hand->payload, BUILD_UNIT);
	hand_frame(hand, HELLO);
}

static void hand_begin(struct hand *hand)
{
	hand_hello(hand, 2);
}

static void hand_announce(struct hand *hand, const char *names)
{
	for (; *names; names++) {
		build_be64(&hand->payload, 0);
		build_be64(&hand->payload, hand->pages * BUILD_UNIT);
		build_be32(&hand->payload, hand->pid);
		build_u8(&hand->payload, *names);
		hand_frame(hand, REGION);
	}
}

static void hand_drop(struct hand *hand, char name)
{
	build_u8(&hand->payload, name);
	hand_frame(hand, DROP);
}

static void hand_setup(struct hand *hand, const char *names)
{
	const uint64_t length = hand->pages * BUILD_UNIT;
	char name[2] = "";

	build_setup(&hand->stream, strlen(names) * length);
	for (; *names; names++) {
		name[0] = *names;
		build_block(&hand->stream, name, length);
	}
	build_eos(&hand->stream);
}

/* A round that changes nothing, in a frame of its own. */
static void hand_data(struct hand *hand)
{
	build_eos(&hand->stream);
	hand->rounds++;
	hand->position += hand->stream.length;
	build_bytes(&hand->payload, hand->stream.bytes, hand->stream.length);
	hand->stream.length = 0;
	hand_frame(hand, DATA);
}

static void hand_round(struct hand *hand)
{
	build_be64(&hand->payload, hand->rounds);
	build_be64(&hand->payload, hand->position);
	build_be64(&hand->payload, 0);
	hand_frame(hand, ROUND);
}

static void hand_digests(struct hand *hand, const char *names)
{
	XXH3_state_t *state = XXH3_createState();
	uint8_t page[BUILD_UNIT] = {};
	XXH128_canonical_t canonical;
	uint64_t i;

	assert_non_null(state);
	XXH3_128bits_reset(state);
	for (i = 1; i < hand->pages; i++)
		XXH3_128bits_update(state, page, sizeof(page));
	memset(page, hand->last, sizeof(page));
	XXH3_128bits_update(state, page, sizeof(page));
	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
	for (; *names; names++) {
		build_be64(&hand->payload, hand->pages * BUILD_UNIT);
		build_bytes(&hand->payload, canonical.digest,
			    sizeof(canonical.digest));
		build_u8(&hand->payload, *names);
		hand_frame(hand, DIGEST);
		hand->digests++;
	}
	XXH3_freeState(state);
}

__attribute__((format(printf, 2, 3)))
static void hand_text(struct hand *hand, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	build_bytes(&hand->line, text, strlen(text));
}

/* Ends the file, and adds its line, with these regions. */
static void hand_end(struct hand *hand, const char *names)
{
	const bool full = hand->number == 1;
	uint8_t page[BUILD_UNIT];
	const char *comma = "";
	XXH128_hash_t sum = {};

	memset(page, hand->last, sizeof(page));
	if (hand->last)
		sum = XXH3_128bits_withSeed(page, sizeof(page),
					    hand->pages - 1);

	build_be32(&hand->payload, hand->digests);
	hand_frame(hand, END);
	write_file("chain", file_of(hand->number, full), hand->file.bytes,
		   hand->file.length, O_TRUNC);
	hand->line.length = 0;
	hand_text(hand, "{\"base\":%u,\"before\":\"%s\",\"bytes\":%zu,",
		  hand->number - 1, hand->before, hand->file.length);
	hand_text(hand, "\"format\":1,\"regions\":[");
	for (; *names; names++, comma = ",") {
		hand_text(hand, "%s{\"address\":\"0\",\"length\":%" PRIu64,
			  comma, hand->pages * BUILD_UNIT);
		hand_text(hand, ",\"name\":\"%c\",\"pid\":%u,", *names,
			  hand->pid);
		hand_text(hand, "\"xxh3_sum\":\"%016" PRIx64 "%016" PRIx64 "\"}",
			  sum.high64, sum.low64);
	}
	hand_text(hand, "],\"round\":%u,\"stream_rounds\":%u}", hand->number,
		  (unsigned int)hand->rounds);
	maker_seal(&hand->line, hand->before);
	write_file("chain", "chain.jsonl", hand->line.bytes,
		   hand->line.length, O_APPEND);
}

/* Round 1, with @names in it. */
static void hand_full(struct hand *hand, const char *names)
{
	hand_open(hand);
	hand_begin(hand);
	hand_announce(hand, names);
	hand_setup(hand, names);
	hand_data(hand);
	hand_round(hand);
	hand_digests(hand, names);
	hand_end(hand, names);
}

/* So many rounds are good, and those can be restored; the others cannot. */
static void check_good(unsigned int good, unsigned int rounds, const char *why)
{
	const int status = good == rounds ? EXIT_DONE : EXIT_FAILED;
	unsigned int round;
	char want[64];

	snprintf(want, sizeof(want), "%u of %u rounds are good", good, rounds);
	if (verify("chain") != status || !strstr(words, want) ||
	    !strstr(words, why))
		fail_msg("not '%s' and '%s': %s", want, why, words);
	for (round = 1; round <= rounds; round++) {
		if (restore("chain", round) !=
		    (round <= good ? EXIT_DONE : EXIT_FAILED))
			fail_msg("restore of round %u: %s", round, words);
		assert_int_equal(exists("images", "manifest.json"),
				 round <= good);
	}
}

/* Nothing is wrong with what the other tests break one thing of. */
static void a_chain_by_hand(void **state)
{
	struct hand hand;

	(void)state;
	hand_full(&hand, "ab");
	hand_begin(&hand);
	hand_drop(&hand, 'a');
	hand_announce(&hand, "c");
	hand_setup(&hand, "bc");
	hand_data(&hand);
	hand_round(&hand);
	hand_data(&hand);
	hand_round(&hand);
	hand_end(&hand, "bc");
	check_good(2, 2, "");
	remove_all("images");
	assert_int_equal(run(recv_main, "recv", "--output", "images",
			     "file:chain/full-1.xbzrle"), EXIT_DONE);
	assert_int_equal(fold("chain", 2), EXIT_DONE);
	assert_int_equal(verify("chain"), EXIT_DONE);
	hand_free(&hand);
}

/* Numbers that do not fit 32 bits, or a signed one of them. */
static void large_numbers(void **state)
{
	const uint64_t end = 1ULL << 32;
	uint8_t page[BUILD_UNIT];
	json_t *root, *region;
	struct hand hand;
	int fd;

	(void)state;
	hand_open(&hand);
	hand.pages = end / BUILD_UNIT + 1;
	hand.pid = UINT32_MAX;
	hand.last = 1;
	hand_begin(&hand);
	hand_announce(&hand, "a");
	hand_setup(&hand, "a");
	build_page(&hand.stream, "a", end, 1);
	hand_data(&hand);
	hand_round(&hand);
	hand_digests(&hand, "a");
	hand_end(&hand, "a");
	hand_begin(&hand);
	hand.last = 2;
	build_page(&hand.stream, "a", end, 2);
	hand_data(&hand);
	hand_round(&hand);
	hand_end(&hand, "a");
	assert_int_equal(fold("chain", 2), EXIT_DONE);
	if (verify("chain") || restore("chain", 2))
		fail_msg("%s", words);
	fd = open("images/a.img", O_RDONLY);
	assert_int_equal(pread(fd, page, sizeof(page), end), sizeof(page));
	assert_int_equal(page[0], 2);
	assert_int_equal(lseek(fd, 0, SEEK_END), end + sizeof(page));
	close(fd);
	root = json_load_file("images/manifest.json", 0, NULL);
	region = json_array_get(json_object_get(root, "regions"), 0);
	assert_int_equal(json_integer_value(json_object_get(region, "pid")),
			 UINT32_MAX);
	json_decref(root);
	hand_free(&hand);
}

static void regions_that_nobody_announced(void **state)
{
	struct hand hand;

	(void)state;
	hand_open(&hand);
	hand_begin(&hand);
	hand_setup(&hand, "a");
	hand_data(&hand);
	hand_round(&hand);
	hand_digests(&hand, "a");
	hand_end(&hand, "a");
	check_good(0, 1, "'a' was not announced");
	hand_free(&hand);
}

static void regions_that_never_come(void **state)
{
	struct hand hand;

	(void)state;
	hand_open(&hand);
	hand_begin(&hand);
	hand_announce(&hand, "ab");
	hand_setup(&hand, "a");
	hand_data(&hand);
	hand_round(&hand);
	hand_digests(&hand, "a");
	hand_end(&hand, "a");
	check_good(0, 1, "'b' was announced and never came");
	hand_free(&hand);
}

/* As long as it was, and longer. */
static void regions_that_come_back(void **state)
{
	unsigned int pages;
	struct hand hand;

	(void)state;
	for (pages = 1; pages <= 2; pages++) {
		hand_full(&hand, "ab");
		hand_begin(&hand);
		hand_drop(&hand, 'a');
		hand_drop(&hand, 'b');
		hand_announce(&hand, "c");
		hand_setup(&hand, "c");
		hand_data(&hand);
		hand_round(&hand);
		hand_end(&hand, "c");
		hand_begin(&hand);
		hand_drop(&hand, 'c');
		hand.pages = pages;
		hand_announce(&hand, "b");
		hand_setup(&hand, "b");
		hand_data(&hand);
		hand_round(&hand);
		hand_end(&hand, "b");
		check_good(2, 3, "'b' was announced twice");
		hand_free(&hand);
	}
}

/* Gone by its DROP, and still in the setup section: not so in a fold's file. */
static void regions_that_were_dropped_and_stay(void **state)
{
	struct hand hand;

	(void)state;
	hand_full(&hand, "ab");
	hand_begin(&hand);
	hand_drop(&hand, 'b');
	hand_data(&hand);
	hand_round(&hand);
	hand_end(&hand, "a");
	hand_begin(&hand);
	hand_setup(&hand, "ab");
	hand_data(&hand);
	hand_round(&hand);
	hand_end(&hand, "a");
	check_good(2, 3, "'b' was dropped");
	assert_int_equal(fold("chain", 2), EXIT_DONE);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_non_null(strstr(words, "1 of 2 rounds are good"));
	hand_free(&hand);
}

/* What can be received has a digest of each region, and says that it has. */
static void files_with_other_digests(void **state)
{
	struct hand hand;
	int which;

	(void)state;
	for (which = 0; which < 4; which++) {
		hand_open(&hand);
		hand_hello(&hand, which == 3 ? 0 : 2);
		hand_announce(&hand, "ab");
		hand_setup(&hand, "ab");
		hand_data(&hand);
		hand_round(&hand);
		hand_digests(&hand, which == 0 ? "" : which == 1 ? "b" :
			     which == 2 ? "abb" : "ab");
		hand_end(&hand, "ab");
		check_good(0, 1, which == 3 ? "digests" : "digest");
		remove_all("images");
		assert_int_equal(run(recv_main, "recv", "--output", "images",
				     "file:chain/full-1.xbzrle"), EXIT_FAILED);
		hand_free(&hand);
	}
	hand_full(&hand, "a");
	hand_begin(&hand);
	hand_data(&hand);
	hand_round(&hand);
	hand_digests(&hand, "a");
	hand_end(&hand, "a");
	check_good(1, 2, "digest");
	hand_free(&hand);

	/* Something comes behind them. */
	hand_open(&hand);
	hand_begin(&hand);
	hand_announce(&hand, "a");
	hand_setup(&hand, "a");
	hand_data(&hand);
	hand_round(&hand);
	hand_digests(&hand, "a");
	hand_data(&hand);
	hand_round(&hand);
	hand_end(&hand, "a");
	check_good(0, 1, "digest");
	hand_free(&hand);
}

/* Each round of the stream has a frame that says where it ends. */
static void files_with_other_rounds(void **state)
{
	struct hand hand;
	int which;

	(void)state;
	for (which = 0; which < 4; which++) {
		hand_full(&hand, "a");
		hand_begin(&hand);
		hand_data(&hand);
		if (which == 0)
			hand_data(&hand);
		if (which != 1)
			hand_round(&hand);
		if (which == 2)
			hand_round(&hand);
		hand.rounds += which == 3;
		hand_end(&hand, "a");
		check_good(1, 2, which == 1 ? "inside a round" : "round");
		hand_free(&hand);
	}
}

/* JSON in any case, whatever the message has of the file's content. */
static void names_that_json_has_not(void **state)
{
	json_error_t error;
	struct hand hand;
	json_t *root;

	(void)state;
	hand_open(&hand);
	hand_begin(&hand);
	hand_announce(&hand, "\xff");
	hand_setup(&hand, "\xff");
	hand_data(&hand);
	hand_round(&hand);
	hand_digests(&hand, "\xff");
	hand_end(&hand, "");
	check_good(0, 1, "is not what the manifest says");
	assert_int_equal(run(verify_main, "verify", "--json", "chain", NULL),
			 EXIT_FAILED);
	root = json_loads(words, JSON_DISABLE_EOF_CHECK, &error);
	if (!root)
		fail_msg("%s: %s", error.text, words);
	assert_true(json_is_string(json_object_get(root, "error")));
	assert_int_equal(json_array_size(json_object_get(root, "rounds")), 1);
	json_decref(root);
	hand_free(&hand);
}

/*
 * What snapshot does, with the maker in place of a session: chains that exist go
 * on with a round that has all.
 */
static int write_slowly(const char *dir, unsigned int count,
			unsigned int pause_us)
{
	const struct chain_facts facts = { .dirty_pages = 1 };
	const struct maker_region *region;
	struct replica replica;
	struct xbzrle_error err;
	struct chain_file file;
	struct frame_round round;
	struct chain chain;
	struct maker maker;
	unsigned int i, first;
	size_t start;
	int ret;

	ret = chain_open(&chain, dir, CHAIN_SNAPSHOT, &err);
	if (!ret)
		ret = replica_open(&replica, NULL, UINT64_MAX, &err);
	first = chain.count ? chain.rounds[0].number + 1 : 1;
	for (maker_begin(&maker, first); !ret && count; count--) {
		maker_next(&maker);
		ret = chain_file_begin(&file, &chain, maker.round,
				       maker.round == first ? 0 :
				       maker.round - 1, &err);
		if (ret)
			break;
		replica_begin_part(&replica);
		if (maker.dropped >= 0) {
			region = &maker.regions[maker.dropped];
			replica_drop(&replica, replica_find(&replica,
							    region->name));
			ret = frame_send_drop(&file.link, region->name, &err);
		}
		for (i = maker.announced; !ret && i < maker.count; i++) {
			const struct frame_region new = {
				.address = maker.regions[i].address,
				.length = maker.regions[i].pages * BUILD_UNIT,
				.pid = 4242,
				.name = maker.regions[i].name,
			};

			ret = replica_announce(&replica, &new, &err) ?:
				frame_send_region(&file.link, &new, &err);
		}
		for (i = 0, start = 0; !ret && i < maker.stream_rounds; i++) {
			memcpy(frame_room(&file.link),
			       maker.stream.bytes + start,
			       maker.ends[i] - start);
			ret = replica_take(&replica, maker.stream.bytes + start,
					   maker.ends[i] - start, &err) ?:
				frame_send(&file.link, FRAME_DATA,
					   maker.ends[i] - start, &err);
			start = maker.ends[i];
			round = replica_round(&replica);
			round.dirty_pages = 1;
			if (!ret)
				ret = frame_send_round(&file.link, &round,
						       &err);
		}
		if (!ret)
			ret = chain_file_commit(&file, &replica, &facts, &err);
		usleep(pause_us);
	}
	if (ret)
		fprintf(stderr, "# %s\n", err.message);
	maker_end(&maker);
	if (!ret) {
		replica_close(&replica);
		chain_close(&chain);
	}
	return ret;
}

static int write_rounds(const char *dir, unsigned int count)
{
	return write_slowly(dir, count, 0);
}

/* Until it is killed. */
static pid_t start_writer(const char *dir)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(write_slowly(dir, UINT_MAX, 1000));
	}
	return pid;
}

static void what_is_written_is_read(void **state)
{
	unsigned int round;

	(void)state;
	remove_all("chain");
	assert_int_equal(write_rounds("chain", 9), 0);
	assert_int_equal(write_rounds("chain", 6), 0);
	if (verify("chain"))
		fail_msg("%s", words);
	assert_non_null(strstr(words, "15 of 15"));
	for (round = 1; round <= 15; round++)
		check_restore("chain", round < 10 ? 1 : 10, round);
}

/* The written bytes are those of the format, not only what the reader takes. */
static void what_is_written_is_the_format(void **state)
{
	static uint8_t theirs[1 << 17];
	struct build file = {};
	struct maker maker;
	unsigned int round;
	size_t length;

	(void)state;
	remove_all("chain");
	assert_int_equal(write_rounds("chain", 6), 0);
	maker_begin(&maker, 1);
	for (round = 1; round <= 6; round++) {
		maker_next(&maker);
		length = read_file("chain", file_of(round, round == 1), theirs,
				   sizeof(theirs));
		maker_file(&maker, &file);
		assert_int_equal(length, file.length);
		assert_memory_equal(theirs, file.bytes, length);
	}
	maker_end(&maker);
	build_free(&file);
}

/* Where the chain begins anew before @round; its rounds are counted. */
static unsigned int first_before(const char *dir, unsigned int round)
{
	while (!exists(dir, file_of(round, true)))
		round--;
	return round;
}

static unsigned int last_round(const char *dir)
{
	struct xbzrle_error err;
	struct chain chain;
	unsigned int last;

	if (chain_open(&chain, dir, CHAIN_READ, &err))
		return 0;
	last = chain.count ? chain.rounds[chain.count - 1].number : 0;
	chain_close(&chain);
	return last;
}

static void kill_after(pid_t pid, unsigned int us)
{
	int status;

	usleep(us);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* It was writing until then. */
	if (!WIFSIGNALED(status))
		fail_msg("the writer ended by itself with %#x", status);
}

/* No file is left that the manifest does not know. */
static void check_tidy(void)
{
	static const char command[] =
		"test $(ls -A chain | grep -c xbzrle) = $(wc -l <chain/chain.jsonl)";

	assert_int_equal(system(command), 0);
	assert_false(exists("chain", ".chain.jsonl.new"));
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000ULL + now.tv_nsec / 1000;
}

static void writers_are_killed(void **state)
{
	unsigned int kills, last = 0, round, seen = 0;
	struct maker random = { .seed = 3 };
	uint64_t takes;
	pid_t pid;

	(void)state;
	remove_all("chain");
	/* A round is on the disk, so how long it takes is for that to say. */
	takes = now_us();
	assert_int_equal(write_rounds("chain", 1), 0);
	takes = 3 * (now_us() - takes);
	if (takes < 30000)
		takes = 30000;
	for (kills = 0; kills < KILLS; kills++) {
		/* Not longer than it takes to be checked. */
		if (kills % 5 == 0) {
			remove_all("chain");
			last = 0;
		}
		pid = start_writer("chain");
		random.seed = random.seed * 6364136223846793005 + 1;
		kill_after(pid, (random.seed >> 33) % takes);
		if (!exists("chain", "chain.jsonl"))
			continue;
		if (verify("chain"))
			fail_msg("kill %u: %s", kills, words);
		round = last_round("chain");
		assert_true(round >= last);
		seen += round > last;
		last = round;
		if (round)
			check_restore("chain", first_before("chain", round),
				      round);
		if (round > 3)
			check_restore("chain",
				      first_before("chain", round - 2),
				      round - 2);
	}
	if (!seen)
		fail_msg("no round was complete before a kill");
	/* What the killed have left is gone once somebody writes again. */
	assert_int_equal(write_rounds("chain", 1), 0);
	check_tidy();
}

static void folds_are_killed(void **state)
{
	unsigned int kills, at, done = 0, undone = 0;
	uint64_t takes;
	struct maker random = { .seed = 5 };
	int status;
	pid_t pid;

	(void)state;
	make_chain("chain", ROUNDS);
	takes = now_us();
	assert_int_equal(fold("chain", ROUNDS / 2), EXIT_DONE);
	takes = now_us() - takes;
	for (kills = 0; kills < KILLS; kills++) {
		make_chain("chain", ROUNDS);
		at = 2 + kills % (ROUNDS - 2);
		pid = fork();
		if (!pid)
			_exit(fold("chain", at));
		random.seed = random.seed * 6364136223846793005 + 1;
		usleep((random.seed >> 33) % (2 * takes));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (verify("chain"))
			fail_msg("kill %u: %s", kills, words);
		if (strstr(words, "17 of 17"))
			undone++;
		else
			done++;
		check_restore("chain", 1, at);
		check_restore("chain", 1, ROUNDS);
		assert_int_equal(fold("chain", at), EXIT_DONE);
		check_restore("chain", 1, at);
		assert_int_equal(write_rounds("chain", 1), 0);
		check_tidy();
		assert_int_equal(verify("chain"), EXIT_DONE);
	}
	print_message("# folds killed before the change %u, after %u\n",
		      undone, done);
}

/* A chain is folded while it grows. */
static void fold_beside_a_writer(void **state)
{
	unsigned int last, at, folds = 0;
	pid_t pid;

	(void)state;
	remove_all("chain");
	assert_int_equal(write_rounds("chain", 3), 0);
	pid = start_writer("chain");
	for (at = 0; folds < 20; folds++) {
		usleep(10000);
		last = last_round("chain");
		if (last <= at)
			continue;
		at = last;
		if (fold("chain", at))
			fail_msg("fold at %u: %s", at, words);
		if (verify("chain"))
			fail_msg("after a fold at %u: %s", at, words);
	}
	for (folds = 0; folds < 5000 && last_round("chain") <= at; folds++)
		usleep(1000);
	kill_after(pid, 0);
	assert_int_equal(verify("chain"), EXIT_DONE);
	last = last_round("chain");
	assert_true(last > at);
	check_restore("chain", 4, last);
}

/* Ends as its child does: with the exit status, or -1 if that was killed. */
static int stop_at(unsigned int step, bool full, int (*work)(void))
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (!freopen("said", "w", stderr))
			_exit(99);
		disk_is_full = full;
		steps_left = step;
		status = work();
		fflush(stderr);
		_exit(status ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status);
	assert_int_equal(WTERMSIG(status), SIGKILL);
	return -1;
}

/* And where. */
static void check_said_no_room(unsigned int step, const char *file)
{
	char said[512] = "";

	read_file(".", "said", (uint8_t *)said, sizeof(said) - 1);
	if (!strstr(said, "No space left") ||
	    (!strstr(said, file) && !strstr(said, "chain.jsonl")))
		fail_msg("step %u: %s", step, said);
}

static int fold_at_4(void)
{
	int status = fold("chain", 4);

	fputs(words, stderr);
	return status;
}

static int write_two_rounds(void)
{
	return write_rounds("chain", 2);
}

/* The chain is as it was, or as it should be: is it that? */
static bool was_folded(unsigned int step)
{
	bool folded;

	if (verify("chain"))
		fail_msg("step %u: %s", step, words);
	folded = strstr(words, "3 of 3");
	if (!folded && !strstr(words, "6 of 6"))
		fail_msg("step %u: %s", step, words);
	check_restore("chain", 1, 4);
	check_restore("chain", 1, 6);
	return folded;
}

static void folds_are_killed_at_each_step(void **state)
{
	unsigned int step, folded = 0;
	int ended = -1;

	(void)state;
	for (step = 1; ended; step++) {
		make_chain("chain", 6);
		ended = stop_at(step, false, fold_at_4);
		folded += was_folded(step);
		/* Whoever folds next, or goes on, is not disturbed by it. */
		if (step % 2)
			assert_int_equal(fold("chain", 4), EXIT_DONE);
		assert_int_equal(write_rounds("chain", 1), 0);
		check_tidy();
		assert_int_equal(verify("chain"), EXIT_DONE);
		check_restore("chain", 1, 4);
		check_restore("chain", 7, 7);
	}
	assert_in_range(folded, 2, step - 5);
}

static void writers_are_killed_at_each_step(void **state)
{
	unsigned int step, last;
	int ended = -1;

	(void)state;
	for (step = 1; ended; step++) {
		make_chain("chain", 3);
		ended = stop_at(step, false, write_two_rounds);
		if (verify("chain"))
			fail_msg("step %u: %s", step, words);
		last = last_round("chain");
		check_restore("chain", 1, 3);
		if (last > 3)
			check_restore("chain", 4, last);
		assert_int_equal(write_rounds("chain", 1), 0);
		check_tidy();
		assert_int_equal(verify("chain"), EXIT_DONE);
	}
	assert_in_range(step, 10, 1000);
}

/* What there was no room for takes none. */
static void no_room_to_fold(void **state)
{
	unsigned int step;
	int ended = -1;

	(void)state;
	for (step = 1; ended; step++) {
		make_chain("chain", 6);
		ended = stop_at(step, true, fold_at_4);
		if (ended)
			check_said_no_room(step, "full-4.xbzrle");
		/* If only the last sync failed, it is not known if all is well. */
		if (!was_folded(step) || !ended)
			check_tidy();
	}
	assert_in_range(step, 5, 1000);
}

static void no_room_to_write(void **state)
{
	unsigned int step;
	int ended = -1;

	(void)state;
	for (step = 1; ended; step++) {
		make_chain("chain", 3);
		ended = stop_at(step, true, write_two_rounds);
		if (ended)
			check_said_no_room(step, "");
		if (verify("chain"))
			fail_msg("step %u: %s", step, words);
		check_restore("chain", 1, 3);
		assert_int_equal(write_rounds("chain", 1), 0);
		check_tidy();
		assert_int_equal(verify("chain"), EXIT_DONE);
	}
	assert_in_range(step, 10, 1000);
}

static unsigned int locks_seen;

/* When the manifest is read, and what is rubbish not yet decided. */
static void fold_at_the_second_lock(void)
{
	if (++locks_seen < 2)
		return;
	before_lock = NULL;
	assert_int_equal(fold("chain", 4), EXIT_DONE);
}

static void a_fold_ends_as_snapshots_begin(void **state)
{
	(void)state;
	make_chain("chain", 6);
	locks_seen = 0;
	before_lock = fold_at_the_second_lock;
	assert_int_equal(write_rounds("chain", 1), 0);
	assert_null(before_lock);
	if (verify("chain") || !strstr(words, "4 of 4"))
		fail_msg("%s", words);
	check_restore("chain", 1, 4);
	check_restore("chain", 1, 6);
	check_restore("chain", 7, 7);
}

/* Not only what is in it, but its own entry, too. */
static void a_new_directory_is_on_the_disk(void **state)
{
	struct stat status;

	(void)state;
	remove_all("chain");
	assert_int_equal(stat(".", &status), 0);
	unsynced = status.st_ino;
	assert_int_equal(write_rounds("chain", 1), 0);
	assert_int_equal(unsynced, 0);
}

static void rounds_have_numbers_left(void **state)
{
	struct xbzrle_error err;
	struct chain_file file;
	struct chain chain;

	(void)state;
	make_chain("chain", 1);
	assert_int_equal(chain_open(&chain, "chain", CHAIN_SNAPSHOT, &err), 0);
	assert_int_equal(chain_file_begin(&file, &chain, INT64_MAX - 1, 0,
					  &err), 0);
	chain_file_abandon(&file);
	assert_int_equal(chain_file_begin(&file, &chain, INT64_MAX, 0, &err),
			 -EOVERFLOW);
	chain_close(&chain);
}

static void who_keeps_others_away(void **state)
{
	struct chain writer, other, reader;
	struct xbzrle_error err;

	(void)state;
	make_chain("chain", 3);
	assert_int_equal(chain_open(&writer, "chain", CHAIN_SNAPSHOT, &err), 0);
	assert_int_equal(chain_open(&other, "chain", CHAIN_SNAPSHOT, &err),
			 -EBUSY);
	assert_int_equal(chain_open(&reader, "chain", CHAIN_READ, &err), 0);
	assert_int_equal(fold("chain", 2), EXIT_FAILED);
	assert_non_null(strstr(words, "is being read or folded"));
	chain_close(&reader);
	assert_int_equal(fold("chain", 2), EXIT_DONE);
	chain_close(&writer);
}

/* A manifest that was lost takes nothing with it. */
static void a_lost_manifest(void **state)
{
	static uint8_t bytes[1 << 16];
	size_t length;

	(void)state;
	make_chain("chain", 4);
	length = read_file("chain", "chain.jsonl", bytes, sizeof(bytes));
	assert_int_equal(truncate("chain/chain.jsonl", 0), 0);
	assert_int_not_equal(write_rounds("chain", 1), 0);
	assert_int_equal(unlink("chain/chain.jsonl"), 0);
	assert_int_not_equal(write_rounds("chain", 1), 0);
	/* Nor is an earlier round taken for the last. */
	write_file("chain", "chain.jsonl", bytes,
		   (uint8_t *)memchr(bytes, '\n', length) + 1 - bytes, O_TRUNC);
	assert_int_not_equal(write_rounds("chain", 1), 0);
	assert_int_equal(verify("chain"), EXIT_FAILED);
	assert_int_equal(restore("chain", 0), EXIT_FAILED);
	assert_non_null(strstr(words, "say which of 1 to 1 is wanted"));
	check_restore("chain", 1, 1);
	assert_int_equal(fold("chain", 1), EXIT_FAILED);
	write_file("chain", "chain.jsonl", bytes, length, O_TRUNC);
	assert_int_equal(verify("chain"), EXIT_DONE);
	/* A line that was cut is given up, and its round's file with it. */
	assert_int_equal(truncate("chain/chain.jsonl", length - 5), 0);
	assert_int_equal(write_rounds("chain", 2), 0);
	assert_int_equal(verify("chain"), EXIT_DONE);
	assert_non_null(strstr(words, "5 of 5"));
	check_restore("chain", 1, 3);
	check_restore("chain", 4, 5);
	/* The manifest is made before the first file. */
	make_chain("chain", 1);
	assert_int_equal(unlink("chain/chain.jsonl"), 0);
	assert_int_not_equal(write_rounds("chain", 1), 0);
	assert_true(exists("chain", file_of(1, true)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_round_is_restored),
		cmocka_unit_test(the_chain_is_no_place_for_images),
		cmocka_unit_test(nor_images_for_the_chain),
		cmocka_unit_test(restore_replaces_no_file),
		cmocka_unit_test(a_chain_has_more_than_one_beginning),
		cmocka_unit_test(fold_keeps_what_follows),
		cmocka_unit_test(fold_again_and_of_a_beginning),
		cmocka_unit_test(a_full_file_is_a_transfer),
		cmocka_unit_test(files_that_are_cut),
		cmocka_unit_test(a_manifest_that_is_cut),
		cmocka_unit_test(flips),
		cmocka_unit_test(damage_takes_what_builds_upon_it),
		cmocka_unit_test(files_of_another_chain),
		cmocka_unit_test(a_sum_that_differs),
		cmocka_unit_test(a_file_without_its_end),
		cmocka_unit_test(lines_out_of_order),
		cmocka_unit_test(hostile_manifests),
		cmocka_unit_test(a_line_of_many_values),
		cmocka_unit_test(a_long_manifest),
		cmocka_unit_test(hostile_files),
		cmocka_unit_test(regions_that_take_too_much),
		cmocka_unit_test(a_page_takes_no_huge_page),
		cmocka_unit_test(a_region_too_long),
		cmocka_unit_test(a_chain_by_hand),
		cmocka_unit_test(large_numbers),
		cmocka_unit_test(regions_that_nobody_announced),
		cmocka_unit_test(regions_that_never_come),
		cmocka_unit_test(regions_that_come_back),
		cmocka_unit_test(regions_that_were_dropped_and_stay),
		cmocka_unit_test(files_with_other_digests),
		cmocka_unit_test(files_with_other_rounds),
		cmocka_unit_test(names_that_json_has_not),
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(what_is_written_is_the_format),
		cmocka_unit_test(writers_are_killed),
		cmocka_unit_test(folds_are_killed),
		cmocka_unit_test(fold_beside_a_writer),
		cmocka_unit_test(folds_are_killed_at_each_step),
		cmocka_unit_test(writers_are_killed_at_each_step),
		cmocka_unit_test(no_room_to_fold),
		cmocka_unit_test(no_room_to_write),
		cmocka_unit_test(a_fold_ends_as_snapshots_begin),
		cmocka_unit_test(a_new_directory_is_on_the_disk),
		cmocka_unit_test(rounds_have_numbers_left),
		cmocka_unit_test(who_keeps_others_away),
		cmocka_unit_test(a_lost_manifest),
	};

	return cmocka_run_group_tests(tests, open_top, close_top);
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The manifest has a line of JSON for each round. A line is added when the
 * round's file is on the disk; one that is not complete, because whoever wrote
 * it was killed, is none. To fold a chain its manifest is replaced as a whole.
 * So at any moment the lines stand for rounds that can be restored, and files
 * that no line stands for are rubbish.
 *
 * Each line has a checksum of what it says, and that of the line before.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "array.h"
#include "chain.h"
#include "directory.h"
#include "signals.h"

#define MANIFEST	CHAIN_MANIFEST
#define MANIFEST_NEW	".chain.jsonl.new"
#define SNAPSHOT_LOCK	".snapshot.lock"
#define FOLD_LOCK	".fold.lock"
/* No line is longer: so many regions with names of so many escapes. */
#define LINE_MAX_BYTES	(128U << 20)
/* Nor has more objects, arrays and commas: 6 of each region, and a few. */
#define LINE_MAX_VALUES	(6 * XBZRLE_STREAM_REGIONS + 64)

/**
 * chain_file_name() - the name of a round's file
 * @number: of the round
 * @base: the round that it builds upon, or 0
 *
 * Return: name.
 */
struct chain_name chain_file_name(uint64_t number, uint64_t base)
{
	struct chain_name name;

	snprintf(name.text, sizeof(name.text), "%s-%" PRIu64 ".xbzrle",
		 base ? "delta" : "full", number);
	return name;
}

/**
 * chain_new_name() - the name of a round's file while it is written
 * @number: of the round
 * @base: the round that it builds upon, or 0
 *
 * Return: name.
 */
struct chain_name chain_new_name(uint64_t number, uint64_t base)
{
	struct chain_name name;

	snprintf(name.text, sizeof(name.text), ".%.40s.new",
		 chain_file_name(number, base).text);
	return name;
}

static void forget_rounds(struct chain *chain)
{
	free(chain->rounds);
	chain->rounds = NULL;
	chain->count = 0;
}

/* Of what the entry says besides its checksum, however it is written down. */
static int make_check(json_t *entry, struct digest_text *check)
{
	json_t *plain = json_copy(entry);
	char *text = NULL;

	if (plain) {
		json_object_del(plain, "check");
		text = json_dumps(plain, JSON_COMPACT | JSON_SORT_KEYS);
	}
	json_decref(plain);
	if (!text)
		return -ENOMEM;
	*check = digest_bytes(text, strlen(text));
	free(text);
	return 0;
}

/* Ties an entry to the one before. */
static int seal(json_t *entry, const struct digest_text *before,
		struct digest_text *check)
{
	if (json_object_set_new(entry, "before",
				json_string(before ? before->text : "")) ||
	    make_check(entry, check) ||
	    json_object_set_new(entry, "check", json_string(check->text)))
		return -ENOMEM;
	return 0;
}

static int bad_line(size_t line, const char *why, struct xbzrle_error *err)
{
	return xbzrle_fail(err, EBADMSG, 0, "%s line %zu: %s", MANIFEST, line,
			   why);
}

static int check_order(const struct chain *chain,
		       const struct chain_round *round, const char *before,
		       struct xbzrle_error *err)
{
	const struct chain_round *last = NULL;

	if (chain->count)
		last = &chain->rounds[chain->count - 1];
	if (round->base && (!last || round->base != round->number - 1))
		return bad_line(chain->count + 1, "a round without its base",
				err);
	if (last && round->number != last->number + 1)
		return bad_line(chain->count + 1,
				"not the round after the one before", err);
	if (strcmp(before, last ? last->check.text : ""))
		return bad_line(chain->count + 1,
				"it does not follow the line before it", err);
	return 0;
}

static int parse_entry(const struct chain *chain, json_t *entry,
		       struct chain_round *round, struct xbzrle_error *err)
{
	json_int_t number, base, bytes, stream_rounds, format;
	const char *before, *check;
	json_t *regions;

	if (json_unpack(entry, "{s:I, s:I, s:I, s:I, s:I, s:o, s:s, s:s}",
			"format", &format, "round", &number, "base", &base,
			"bytes", &bytes, "stream_rounds", &stream_rounds,
			"regions", &regions, "before", &before,
			"check", &check) || !json_is_array(regions))
		return bad_line(chain->count + 1,
				"it does not describe a round", err);
	if (format != CHAIN_FORMAT)
		return bad_line(chain->count + 1, "an unknown format", err);
	if (number < 1 || number >= (json_int_t)CHAIN_NUMBERS || base < 0 ||
	    bytes < 0 || stream_rounds < 1)
		return bad_line(chain->count + 1, "a number that cannot be",
				err);
	*round = (struct chain_round){
		.number = number,
		.base = base,
		.bytes = bytes,
		.stream_rounds = stream_rounds,
	};
	if (make_check(entry, &round->check))
		return xbzrle_fail(err, ENOMEM, 0, "no memory");
	if (strcmp(check, round->check.text))
		return bad_line(chain->count + 1, "damaged (checksum differs)",
				err);
	return check_order(chain, round, before, err);
}

/*
 * A value of a few bytes may take hundreds in memory, so no line has more of them
 * than the regions need.
 */
static bool has_too_many_values(const char *line, size_t length)
{
	bool in_string = false;
	size_t i, values = 0;

	for (i = 0; i < length; i++) {
		if (in_string && line[i] == '\\')
			i++;
		else if (line[i] == '"')
			in_string = !in_string;
		else if (!in_string && strchr("{[,", line[i]))
			values++;
	}
	return values > LINE_MAX_VALUES;
}

static json_t *parse_line(const char *line, size_t length, size_t number,
			  struct xbzrle_error *err)
{
	json_error_t json_error;
	json_t *entry;

	if (has_too_many_values(line, length)) {
		bad_line(number, "more values than regions can have", err);
		return NULL;
	}
	entry = json_loadb(line, length, JSON_REJECT_DUPLICATES, &json_error);
	if (!entry)
		bad_line(number, json_error.text, err);
	return entry;
}

/* Of a long chain there is no memory for all that its lines say. */
static int add_line(struct chain *chain, const char *line, size_t length,
		    struct xbzrle_error *err)
{
	struct chain_round *rounds, round;
	json_t *entry;
	int ret;

	if (chain->count == CHAIN_ROUNDS)
		return bad_line(chain->count + 1,
				"more rounds than a chain may have", err);
	entry = parse_line(line, length, chain->count + 1, err);
	if (!entry)
		return -err->code;
	ret = parse_entry(chain, entry, &round, err);
	json_decref(entry);
	if (ret)
		return ret;
	rounds = array_room(chain->rounds, chain->count, sizeof(*rounds));
	if (!rounds)
		return xbzrle_fail(err, ENOMEM, 0, "no memory");
	round.line = chain->end;
	round.length = length;
	if (!chain->count)
		chain->first = round.number;
	chain->rounds = rounds;
	rounds[chain->count++] = round;
	return 0;
}

/**
 * chain_entry() - read what the manifest says of a round
 * @chain: chain
 * @index: of the round
 * @err: set on failure
 *
 * Return: it, to be let go by the caller; or NULL, also if somebody else has
 * changed it meanwhile.
 */
json_t *chain_entry(const struct chain *chain, size_t index,
		    struct xbzrle_error *err)
{
	const struct chain_round *round = &chain->rounds[index];
	struct digest_text check;
	json_t *entry = NULL;
	char *line;

	line = malloc(round->length);
	if (!line) {
		xbzrle_fail(err, ENOMEM, 0, "no memory");
		return NULL;
	}
	if (pread(chain->manifest, line, round->length, round->line) ==
	    (ssize_t)round->length)
		entry = parse_line(line, round->length, index + 1, err);
	else
		bad_line(index + 1, "it cannot be read again", err);
	free(line);
	if (!entry || (!make_check(entry, &check) &&
		       !strcmp(check.text, round->check.text)))
		return entry;
	json_decref(entry);
	xbzrle_fail(err, EBUSY, 0, "somebody else has changed %s", chain->path);
	return NULL;
}

/* Reads a line: 1, 0 if none is complete, or a negative errno. */
static int get_line(FILE *file, char **line, size_t *room, size_t *length,
		    struct xbzrle_error *err)
{
	char *grown;
	int byte;

	for (*length = 0; (byte = getc_unlocked(file)) != '\n'; ++*length) {
		if (byte == EOF)
			return ferror(file) ?
				xbzrle_fail(err, EIO, 0, "cannot read %s",
					    MANIFEST) : 0;
		if (*length == LINE_MAX_BYTES)
			return xbzrle_fail(err, EBADMSG, 0,
					   "%s has too long a line", MANIFEST);
		if (*length == *room) {
			*room = *room ? 2 * *room : 4096;
			grown = realloc(*line, *room);
			if (!grown)
				return xbzrle_fail(err, ENOMEM, 0, "no memory");
			*line = grown;
		}
		(*line)[*length] = byte;
	}
	return 1;
}

static int read_lines(struct chain *chain, FILE *file,
		      struct xbzrle_error *err)
{
	size_t room = 0, length = 0;
	char *line = NULL;
	int ret;

	while ((ret = get_line(file, &line, &room, &length, err)) > 0) {
		ret = signals_check(err);
		if (!ret)
			ret = add_line(chain, line, length, err);
		if (ret)
			break;
		chain->end += length + 1;
	}
	if (!ret)
		chain->cut = length > 0;
	free(line);
	return ret;
}

static bool is_file(int fd)
{
	struct stat status;

	return !fstat(fd, &status) && S_ISREG(status.st_mode);
}

/* Reads the manifest as it is now. */
static int load(struct chain *chain, struct xbzrle_error *err)
{
	const bool writes = chain->use == CHAIN_SNAPSHOT;
	FILE *file;
	int fd, ret;

	forget_rounds(chain);
	if (chain->manifest >= 0)
		close(chain->manifest);
	chain->end = 0;
	chain->manifest = openat(chain->dir, MANIFEST, O_NOFOLLOW |
				 O_NONBLOCK | O_CLOEXEC |
				 (writes ? O_RDWR : O_RDONLY));
	if (chain->manifest < 0)
		return xbzrle_fail(err, errno, 0, "%s/%s: %s", chain->path,
				   MANIFEST, errno == ELOOP ?
				   "it is a symbolic link, which is not followed" :
				   strerror(errno));
	if (!is_file(chain->manifest))
		return xbzrle_fail(err, EBADMSG, 0, "%s/%s is not a file",
				   chain->path, MANIFEST);
	fd = fcntl(chain->manifest, F_DUPFD_CLOEXEC, 0);
	file = fd < 0 ? NULL : fdopen(fd, "r");
	if (!file) {
		ret = xbzrle_fail(err, errno, 0, "cannot read %s: %s",
				  MANIFEST, strerror(errno));
		if (fd >= 0)
			close(fd);
		return ret;
	}
	ret = read_lines(chain, file, err);
	fclose(file);
	return ret;
}

static bool is_current(const struct chain *chain)
{
	struct stat ours, there;

	return !fstat(chain->manifest, &ours) &&
		!fstatat(chain->dir, MANIFEST, &there, AT_SYMLINK_NOFOLLOW) &&
		ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

/* Where rounds are only added, what was before the last is of no use. */
static void keep_last(struct chain *chain)
{
	if (chain->use != CHAIN_SNAPSHOT || chain->count < 2)
		return;
	chain->rounds[0] = chain->rounds[chain->count - 1];
	chain->count = 1;
}

/* Not all file systems have locks: only one that is taken counts. */
static int lock_file(struct chain *chain, const char *name, int how,
		     const char *who, struct xbzrle_error *err)
{
	int flags = how & LOCK_EX ? O_RDWR | O_CREAT : O_RDONLY;

	chain->lock = openat(chain->dir, name, flags | O_NOFOLLOW |
			     O_NONBLOCK | O_CLOEXEC, 0600);
	if (chain->lock < 0 && how & LOCK_EX)
		return xbzrle_fail(err, errno, 0, "cannot make %s/%s: %s",
				   chain->path, name, strerror(errno));
	/* Without the file nobody has it locked. */
	if (chain->lock < 0 || !flock(chain->lock, how | LOCK_NB) ||
	    errno != EWOULDBLOCK)
		return 0;
	return xbzrle_fail(err, EBUSY, 0, "%s %s", chain->path, who);
}

static int lock(struct chain *chain, struct xbzrle_error *err)
{
	switch (chain->use) {
	case CHAIN_SNAPSHOT:
		return lock_file(chain, SNAPSHOT_LOCK, LOCK_EX,
				 "has snapshots written to it", err);
	case CHAIN_FOLD:
		return lock_file(chain, FOLD_LOCK, LOCK_EX,
				 "is being read or folded", err);
	default:
		return lock_file(chain, FOLD_LOCK, LOCK_SH, "is being folded",
				 err);
	}
}

/* Taken for as long as it takes to change the manifest. */
static int lock_manifest(struct chain *chain, struct xbzrle_error *err)
{
	while (flock(chain->dir, LOCK_EX) && errno == EINTR) {
		if (signals_check(err))
			return -EINTR;
	}
	return 0;
}

static void unlock_manifest(struct chain *chain)
{
	flock(chain->dir, LOCK_UN);
}

/* Is it a file that chain_file_begin() has made? */
static bool is_round_file(const char *name, uint64_t *number)
{
	const char *digits = strchr(name, '-');
	uint64_t base;

	if (!digits || sscanf(digits, "-%" SCNu64, number) != 1)
		return false;
	for (base = 0; base < 2; base++) {
		if (!strcmp(name, chain_file_name(*number, base).text) ||
		    !strcmp(name, chain_new_name(*number, base).text))
			return true;
	}
	return false;
}

/* Rounds follow each other without gaps. */
static bool is_listed(const struct chain *chain, const char *name,
		      uint64_t number)
{
	const struct chain_round *rounds = chain->rounds;
	uint64_t index;

	if (!chain->count || number < rounds[0].number)
		return false;
	index = number - rounds[0].number;
	return index < chain->count &&
		!strcmp(name, chain_file_name(number, rounds[index].base).text);
}

static DIR *list_directory(const struct chain *chain, struct xbzrle_error *err)
{
	int fd = openat(chain->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);

	if (list)
		return list;
	xbzrle_fail(err, errno, 0, "cannot read %s: %s", chain->path,
		    strerror(errno));
	if (fd >= 0)
		close(fd);
	return NULL;
}

/* The file of a round, complete or not, that has the highest number. */
struct newest {
	uint64_t number;
	struct chain_name name;
};

static int find_newest(const struct chain *chain, struct newest *newest,
		       struct xbzrle_error *err)
{
	const struct dirent *entry;
	uint64_t number;
	DIR *list;

	*newest = (struct newest){};
	list = list_directory(chain, err);
	if (!list)
		return -err->code;
	while ((entry = readdir(list))) {
		if (!is_round_file(entry->d_name, &number) ||
		    number <= newest->number)
			continue;
		newest->number = number;
		snprintf(newest->name.text, sizeof(newest->name.text), "%.40s",
			 entry->d_name);
	}
	closedir(list);
	return 0;
}

/*
 * A file that was left is at most of the round after the last. One of a later
 * round the manifest should know, and whoever has lost that would not want to
 * lose the file too, nor take an earlier round for the last.
 */
static int check_newest(const struct chain *chain, const struct newest *newest,
			uint64_t most, struct xbzrle_error *err)
{
	if (newest->number <= most)
		return 0;
	return xbzrle_fail(err, EBADMSG, 0,
			   "%.100s has %s, which the manifest does not know: put back the whole manifest, or move that file away",
			   chain->path, newest->name.text);
}

/* Looked for before the manifest is read, which may get more lines meanwhile. */
static int load_all(struct chain *chain, struct xbzrle_error *err)
{
	struct newest newest;
	uint64_t last = 0;
	int ret;

	ret = find_newest(chain, &newest, err);
	if (!ret)
		ret = load(chain, err);
	if (ret)
		return ret;
	if (chain->count)
		last = chain->rounds[chain->count - 1].number;
	return check_newest(chain, &newest, last + 1, err);
}

/*
 * What was left by somebody who was killed: files of a round that the manifest
 * knows in another form or has forgotten, or of the one after the last.
 */
static int remove_rubbish(struct chain *chain, struct xbzrle_error *err)
{
	const struct dirent *entry;
	uint64_t number;
	DIR *list;

	list = list_directory(chain, err);
	if (!list)
		return -err->code;
	while ((entry = readdir(list))) {
		if (is_round_file(entry->d_name, &number) &&
		    !is_listed(chain, entry->d_name, number))
			unlinkat(chain->dir, entry->d_name, 0);
	}
	closedir(list);
	unlinkat(chain->dir, MANIFEST_NEW, 0);
	return 0;
}

/* Not while somebody folds, whose files would look like rubbish. */
static int tidy(struct chain *chain, struct xbzrle_error *err)
{
	int fd, ret = 0;

	fd = openat(chain->dir, FOLD_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW |
		    O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd < 0)
		return xbzrle_fail(err, errno, 0, "cannot make %s/%s: %s",
				   chain->path, FOLD_LOCK, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
		goto close_fd;
	/* Who has just ended folding may have listed other files. */
	if (!is_current(chain))
		ret = load(chain, err);
	if (!ret)
		ret = remove_rubbish(chain, err);
close_fd:
	close(fd);
	return ret;
}

/* A manifest without lines comes before the first file. */
static int make_directory(struct chain *chain, struct xbzrle_error *err)
{
	struct newest newest;
	int fd, ret;

	chain->dir = directory_open(chain->path, err);
	if (chain->dir < 0)
		return chain->dir;
	if (!faccessat(chain->dir, MANIFEST, F_OK, AT_SYMLINK_NOFOLLOW))
		return 0;
	ret = find_newest(chain, &newest, err);
	if (!ret)
		ret = check_newest(chain, &newest, 0, err);
	if (ret)
		return ret;
	/* Who receives images has it until all are there, and begins none beside it. */
	if (flock(chain->dir, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
		return xbzrle_fail(err, EBUSY, 0,
				   "%s has images written to it; the chain needs a directory of its own",
				   chain->path);
	fd = openat(chain->dir, MANIFEST,
		    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if ((fd < 0 && errno != EEXIST) || fsync(chain->dir))
		ret = xbzrle_fail(err, errno, 0, "cannot make %s/%s: %s",
				  chain->path, MANIFEST, strerror(errno));
	flock(chain->dir, LOCK_UN);
	if (fd >= 0)
		close(fd);
	return ret;
}

/**
 * chain_open() - read the manifest of a chain
 * @chain: filled in
 * @path: directory; made for CHAIN_SNAPSHOT if it is not there
 * @use: what for
 * @err: set on failure
 *
 * Return: 0, with CHAIN_READ also if the manifest is damaged; -EBUSY if another
 * uses it in a way that does not go together; or another negative errno.
 */
int chain_open(struct chain *chain, const char *path, enum chain_use use,
	       struct xbzrle_error *err)
{
	int ret = 0;

	*chain = (struct chain){
		.path = path,
		.use = use,
		.dir = -1,
		.manifest = -1,
		.lock = -1,
	};
	if (use == CHAIN_SNAPSHOT) {
		ret = make_directory(chain, err);
	} else {
		chain->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (chain->dir < 0)
			ret = xbzrle_fail(err, errno, 0, "cannot open %s: %s",
					  path, strerror(errno));
	}
	if (!ret)
		ret = lock(chain, err);
	if (!ret)
		ret = load_all(chain, err);
	/* Who reads only may want what is left. */
	if (ret == -EBADMSG && use == CHAIN_READ) {
		chain->damage = *err;
		ret = 0;
	}
	if (!ret && use == CHAIN_SNAPSHOT)
		ret = tidy(chain, err);
	if (ret) {
		chain_close(chain);
		return ret;
	}
	keep_last(chain);
	return 0;
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

/**
 * chain_close() - let go of a chain
 * @chain: chain
 */
void chain_close(struct chain *chain)
{
	forget_rounds(chain);
	close_if_open(chain->lock);
	close_if_open(chain->manifest);
	close_if_open(chain->dir);
}

/**
 * chain_find() - find a round
 * @chain: chain
 * @number: of the round, or 0 for the last
 * @index: set
 * @err: set on failure
 *
 * Return: 0; -ENOENT; or -EBADMSG if the manifest is damaged, so that the last is
 * not known.
 */
int chain_find(const struct chain *chain, uint64_t number, size_t *index,
	       struct xbzrle_error *err)
{
	uint64_t first;

	if (chain->damage.code && !chain->count) {
		*err = chain->damage;
		return -EBADMSG;
	}
	if (chain->damage.code && !number)
		return xbzrle_fail(err, EBADMSG, 0,
				   "%.160s; the last round is not known: say which of %" PRIu64
				   " to %" PRIu64 " is wanted",
				   chain->damage.message,
				   chain->rounds[0].number,
				   chain->rounds[chain->count - 1].number);
	if (!chain->rounds || !chain->count)
		return xbzrle_fail(err, ENOENT, 0, "%s has no round yet",
				   chain->path);
	first = chain->rounds[0].number;
	*index = number ? number - first : chain->count - 1;
	if (number && (number < first || *index >= chain->count))
		return xbzrle_fail(err, ENOENT, 0,
				   "%s has rounds %" PRIu64 " to %" PRIu64 ", and no %" PRIu64,
				   chain->path, first,
				   chain->rounds[chain->count - 1].number,
				   number);
	return 0;
}

/**
 * chain_full_before() - where to begin to make a round
 * @chain: chain
 * @index: of the round
 *
 * Return: the index of the last round up to it that has all.
 */
size_t chain_full_before(const struct chain *chain, size_t index)
{
	while (chain->rounds[index].base)
		index--;
	return index;
}

static int write_all(int fd, const char *text, size_t length)
{
	ssize_t done;

	while (length) {
		done = write(fd, text, length);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		text += done;
		length -= done;
	}
	return 0;
}

static int write_line(int fd, const json_t *entry, uint64_t *bytes)
{
	char *text = json_dumps(entry, JSON_COMPACT), *line;
	size_t length;
	int ret;

	if (!text)
		return -ENOMEM;
	length = strlen(text) + 1;
	line = realloc(text, length + 1);
	if (!line) {
		free(text);
		return -ENOMEM;
	}
	line[length - 1] = '\n';
	ret = write_all(fd, line, length);
	free(line);
	*bytes += length;
	return ret;
}

/* Puts a line behind the last that is complete. */
static int append(struct chain *chain, const json_t *entry)
{
	uint64_t end = chain->end;
	int ret;

	if (ftruncate(chain->manifest, end) ||
	    lseek(chain->manifest, end, SEEK_SET) < 0)
		return -errno;
	ret = write_line(chain->manifest, entry, &chain->end);
	if (!ret && fsync(chain->manifest))
		ret = -errno;
	if (ret) {
		chain->end = end;
		(void)!ftruncate(chain->manifest, end);
	}
	return ret;
}

/* The round that a manifest which was replaced meanwhile ends with. */
static int refresh(struct chain *chain, struct xbzrle_error *err)
{
	uint64_t last = chain->count ? chain->rounds[0].number : 0;
	int ret;

	if (is_current(chain))
		return 0;
	ret = load(chain, err);
	if (ret)
		return ret;
	keep_last(chain);
	if (last != (chain->count ? chain->rounds[0].number : 0))
		return xbzrle_fail(err, EBUSY, 0,
				   "somebody else has changed %s", chain->path);
	return 0;
}

/**
 * chain_append() - add a round, whose file is on the disk
 * @chain: chain that is open for CHAIN_SNAPSHOT
 * @entry: what the manifest is to say of it
 * @err: set on failure; nothing was added
 *
 * Return: 0 or a negative errno.
 */
int chain_append(struct chain *chain, json_t *entry, struct xbzrle_error *err)
{
	struct chain_round round = {
		.number = json_integer_value(json_object_get(entry, "round")),
		.base = json_integer_value(json_object_get(entry, "base")),
		.bytes = json_integer_value(json_object_get(entry, "bytes")),
	}, *rounds;
	int ret;

	ret = lock_manifest(chain, err);
	if (ret)
		return ret;
	ret = refresh(chain, err);
	if (!ret && chain->count && round.number - chain->first >= CHAIN_ROUNDS)
		ret = xbzrle_fail(err, EOVERFLOW, 0,
				  "%s has the %u rounds that a chain may have: fold it (xbzrle fold), or begin another",
				  chain->path, CHAIN_ROUNDS);
	if (ret)
		goto unlock;
	round.line = chain->end;
	rounds = chain->rounds;
	if (!rounds)
		rounds = array_room(NULL, 0, sizeof(*rounds));
	if (!rounds)
		ret = -ENOMEM;
	chain->rounds = rounds;
	if (!ret)
		ret = seal(entry, chain->count ? &rounds[0].check : NULL,
			   &round.check);
	if (!ret)
		ret = append(chain, entry);
	if (ret) {
		ret = xbzrle_fail(err, -ret, 0, "cannot write %s/%s: %s",
				  chain->path, MANIFEST, strerror(-ret));
		goto unlock;
	}
	round.length = chain->end - round.line - 1;
	if (!chain->count)
		chain->first = round.number;
	rounds[0] = round;
	chain->count = 1;
unlock:
	unlock_manifest(chain);
	return ret;
}

/* Writes the lines from @index on beside the manifest, @entry as the first. */
static int write_beside(struct chain *chain, size_t index, json_t *entry)
{
	const struct digest_text *before = NULL;
	struct digest_text check, last;
	struct xbzrle_error err;
	uint64_t bytes = 0;
	int fd, ret = 0;
	json_t *line;
	size_t i;

	unlinkat(chain->dir, MANIFEST_NEW, 0);
	fd = openat(chain->dir, MANIFEST_NEW,
		    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	for (i = index; i < chain->count && !ret; i++) {
		ret = signals_check(&err);
		if (ret)
			break;
		line = i > index ? chain_entry(chain, i, &err) :
			json_incref(entry);
		if (!line) {
			ret = -err.code;
			break;
		}
		ret = seal(line, before, &check);
		if (!ret)
			ret = write_line(fd, line, &bytes);
		json_decref(line);
		last = check;
		before = &last;
	}
	if (!ret && fsync(fd))
		ret = -errno;
	close(fd);
	return ret;
}

static int replace_manifest(struct chain *chain, size_t index, json_t *entry)
{
	int ret = write_beside(chain, index, entry);

	if (!ret && renameat(chain->dir, MANIFEST_NEW, chain->dir, MANIFEST))
		ret = -errno;
	if (ret)
		unlinkat(chain->dir, MANIFEST_NEW, 0);
	if (!ret && fsync(chain->dir))
		ret = -errno;
	return ret;
}

static void remove_file(const struct chain *chain,
			const struct chain_round *round)
{
	unlinkat(chain->dir,
		 chain_file_name(round->number, round->base).text, 0);
}

/**
 * chain_cut_before() - make a round the first of the chain
 * @chain: chain that is open for CHAIN_FOLD
 * @index: of the round, whose file with all in it is on the disk
 * @entry: what the manifest is to say of it
 * @err: set on failure; the chain is then as it was, or as it should be
 *
 * Snapshots may have been added since the chain was opened.
 *
 * Return: 0 or a negative errno.
 */
int chain_cut_before(struct chain *chain, size_t index, json_t *entry,
		     struct xbzrle_error *err)
{
	const struct digest_text known = chain->rounds[index].check;
	const uint64_t number = chain->rounds[index].number;
	size_t i;
	int ret;

	ret = lock_manifest(chain, err);
	if (ret)
		return ret;
	ret = load(chain, err);
	if (!ret)
		ret = chain_find(chain, number, &index, err);
	if (!ret && (index >= chain->count ||
		     strcmp(known.text, chain->rounds[index].check.text)))
		ret = xbzrle_fail(err, EBUSY, 0,
				  "somebody else has changed %s", chain->path);
	if (ret)
		goto unlock;
	ret = replace_manifest(chain, index, entry);
	if (ret) {
		if (ret != -EINTR || !signals_check(err))
			xbzrle_fail(err, -ret, 0, "cannot write %s/%s: %s",
				    chain->path, MANIFEST, strerror(-ret));
		/* Its file with all in it takes room, and is of no use. */
		if (chain->rounds[index].base && is_current(chain))
			unlinkat(chain->dir, chain_file_name(number, 0).text,
				 0);
		goto unlock;
	}
	for (i = 0; i < index; i++)
		remove_file(chain, &chain->rounds[i]);
	if (chain->rounds[index].base)
		remove_file(chain, &chain->rounds[index]);
unlock:
	unlock_manifest(chain);
	return ret;
}

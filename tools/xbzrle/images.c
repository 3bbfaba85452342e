// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * One sparse file per region, and a manifest that is written when all of them
 * are complete and verified. Images without a manifest are not complete.
 *
 * The peer chooses the names, so nothing is replaced that was there before, but
 * for what a transfer that was not completed has left. A list in the directory
 * has that, from the first file on until there is a manifest.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "array.h"
#include "chain.h"
#include "command.h"
#include "directory.h"
#include "images.h"

#define MANIFEST	"manifest.json"
#define MANIFEST_NEW	".manifest.json.new"
#define MANIFEST_FORMAT	1
/* The inode and name of each image, a line each; what else there is, is not ours. */
#define LIST		".xbzrle-incomplete"
/* So much of a region's name goes into its file's name. */
#define FILE_NAME_PART	200

/* Each region keeps a file open; the usual soft limit is far below theirs. */
static void allow_many_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* Was a transfer into the directory not completed? Opens the list of its files. */
static int open_list(struct images *images, const char *path,
		     struct xbzrle_error *err)
{
	struct stat status;

	images->list = openat(images->dir, LIST,
			      O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
	if (images->list < 0 && errno != ENOENT)
		return xbzrle_fail(err, errno, 0, "%s/%s: %s", path, LIST,
				   strerror(errno));
	if (images->list < 0)
		return 0;
	/* Where others may write, they could name our files. */
	if (!fstat(images->list, &status) && S_ISREG(status.st_mode) &&
	    status.st_uid == geteuid())
		return 0;
	close(images->list);
	return xbzrle_fail(err, EPERM, 0,
			   "%s has an incomplete transfer of another user; use another directory",
			   path);
}

static int check_new(const struct images *images, const char *path,
		     struct xbzrle_error *err)
{
	if (!faccessat(images->dir, MANIFEST, F_OK, AT_SYMLINK_NOFOLLOW))
		return xbzrle_fail(err, EEXIST, 0,
				   "%s holds a received image already", path);
	if (errno != ENOENT)
		return xbzrle_fail(err, errno, 0, "%s: %s", path,
				   strerror(errno));
	/* Our lock of the directory is what its manifest is changed under. */
	if (!faccessat(images->dir, CHAIN_MANIFEST, F_OK, AT_SYMLINK_NOFOLLOW))
		return xbzrle_fail(err, EEXIST, 0,
				   "%s is the directory of a chain of snapshots; the images need one of their own",
				   path);
	if (images->list < 0 && !faccessat(images->dir, MANIFEST_NEW, F_OK,
					   AT_SYMLINK_NOFOLLOW))
		return xbzrle_fail(err, EEXIST, 0,
				   "%s/%s is in the way: remove it, or use another directory",
				   path, MANIFEST_NEW);
	return 0;
}

/**
 * images_open() - use a directory
 * @images: filled in
 * @path: directory; made if it is not there
 * @err: set on failure
 *
 * Nothing in it changes yet.
 *
 * Return: 0 or a negative errno, -EEXIST if a received image is in it, -EBUSY
 * if another receiver uses it.
 */
int images_open(struct images *images, const char *path,
		struct xbzrle_error *err)
{
	int ret;

	*images = (struct images){ .list = -1 };
	allow_many_files();
	images->dir = directory_open(path, err);
	if (images->dir < 0)
		return images->dir;
	/* Not all file systems have locks: only one that is taken counts. */
	if (flock(images->dir, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
		ret = xbzrle_fail(err, EBUSY, 0,
				  "another receiver writes into %s", path);
		goto close_dir;
	}
	ret = open_list(images, path, err);
	if (ret)
		goto close_dir;
	ret = check_new(images, path, err);
	if (!ret)
		return 0;
	if (images->list >= 0)
		close(images->list);

close_dir:
	close(images->dir);
	return ret;
}

/**
 * images_close() - let go of the directory
 * @images: images
 */
void images_close(struct images *images)
{
	size_t i;

	for (i = 0; i < images->count; i++) {
		if (images->regions[i].fd >= 0)
			close(images->regions[i].fd);
	}
	free(images->regions);
	if (images->list >= 0)
		close(images->list);
	close(images->dir);
}

/* Removes the files that the list has, unless they are others by now. */
static int remove_leftovers(const struct images *images)
{
	char line[XBZRLE_NAME_MAX + 32], *name;
	int fd = dup(images->list), ret;
	struct stat status;
	uint64_t inode;
	FILE *list;

	list = fd < 0 ? NULL : fdopen(fd, "r");
	if (!list) {
		ret = -errno;
		if (fd >= 0)
			close(fd);
		return ret;
	}
	while (fgets(line, sizeof(line), list)) {
		inode = strtoull(line, &name, 10);
		name[strcspn(name, "\n")] = '\0';
		if (*name == ' ' && !strchr(++name, '/') &&
		    !fstatat(images->dir, name, &status, AT_SYMLINK_NOFOLLOW) &&
		    S_ISREG(status.st_mode) && status.st_ino == inode)
			unlinkat(images->dir, name, 0);
	}
	fclose(list);
	unlinkat(images->dir, MANIFEST_NEW, 0);
	return ftruncate(images->list, 0) ? -errno : 0;
}

/* From now on the directory is that of this transfer. */
static int take_directory(struct images *images, struct xbzrle_error *err)
{
	int ret;

	if (images->taken)
		return 0;
	if (images->list >= 0) {
		ret = remove_leftovers(images);
	} else {
		images->list = openat(images->dir, LIST, O_RDWR | O_APPEND |
				      O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		ret = images->list < 0 ? -errno : 0;
	}
	if (ret)
		return xbzrle_fail(err, -ret, 0, "cannot make %s: %s", LIST,
				   strerror(-ret));
	images->taken = true;
	return 0;
}

/* A file that was not there before, and can be told from others later. */
static int make_file(struct images *images, const char *name,
		     struct xbzrle_error *err)
{
	struct stat status;
	int fd, ret;

	ret = take_directory(images, err);
	if (ret)
		return ret;
	fd = openat(images->dir, name,
		    O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST)
		return xbzrle_fail(err, EEXIST, 0,
				   "%s is there already, and not of an incomplete transfer: move it away, or use another directory",
				   name);
	if (fd < 0)
		return xbzrle_fail(err, errno, 0, "cannot make %s: %s%s", name,
				   strerror(errno), errno == EMFILE ?
				   "; each region needs one open: allow more (see ulimit -Hn)" :
				   "");
	errno = EIO;
	if (!fstat(fd, &status) &&
	    dprintf(images->list, "%" PRIu64 " %s\n",
		    (uint64_t)status.st_ino, name) > 0)
		return fd;
	ret = xbzrle_fail(err, errno, 0, "cannot write %s: %s", LIST,
			  strerror(errno));
	close(fd);
	unlinkat(images->dir, name, 0);
	return ret;
}

/**
 * images_find() - find a region by its name
 * @images: images
 * @name: name
 *
 * Return: the region, or NULL.
 */
struct images_region *images_find(struct images *images, const char *name)
{
	size_t i;

	for (i = 0; i < images->count; i++) {
		if (!strcmp(images->regions[i].name, name))
			return &images->regions[i];
	}
	return NULL;
}

static bool file_taken(const struct images *images, const char *file)
{
	size_t i;

	for (i = 0; i < images->count; i++) {
		if (!strcasecmp(images->regions[i].file, file))
			return true;
	}
	return false;
}

/* A name from the peer must not leave the directory nor hide in it. */
static void make_file_name(const struct images *images,
			   struct images_region *region)
{
	char plain[FILE_NAME_PART + 1];
	size_t i;

	snprintf(plain, sizeof(plain), "%.*s", FILE_NAME_PART, region->name);
	for (i = 0; plain[i]; i++) {
		if (!isalnum((unsigned char)plain[i]) &&
		    !strchr("+-_", plain[i]) && (plain[i] != '.' || !i))
			plain[i] = '_';
	}
	snprintf(region->file, sizeof(region->file), "%s.img", plain);
	/* No other has this number, so no peer can make us search for one. */
	if (file_taken(images, region->file))
		snprintf(region->file, sizeof(region->file), "%s~%zu.img",
			 plain, images->count + 1);
}

/**
 * images_announce() - a region will come
 * @images: images
 * @region: as announced; its name must be new
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int images_announce(struct images *images, const struct frame_region *region,
		    struct xbzrle_error *err)
{
	struct images_region *regions, new = {
		.state = IMAGES_ANNOUNCED,
		.address = region->address,
		.length = region->length,
		.pid = region->pid,
		.fd = -1,
	};

	if (images_find(images, region->name))
		return xbzrle_fail(err, EBADMSG, 0,
				   "region '%s' was announced twice",
				   region->name);
	if (images->count == XBZRLE_STREAM_REGIONS)
		return xbzrle_fail(err, EBADMSG, 0,
				   "more than %u regions: send anew, fewer or those that stay (--map)",
				   XBZRLE_STREAM_REGIONS);
	regions = array_room(images->regions, images->count, sizeof(*regions));
	if (!regions)
		return xbzrle_fail(err, ENOMEM, 0, "no memory for a region");
	images->regions = regions;

	snprintf(new.name, sizeof(new.name), "%s", region->name);
	make_file_name(images, &new);
	regions[images->count++] = new;
	return 0;
}

/**
 * images_create() - make the file of a region that now comes
 * @images: images
 * @block: the region in the setup section
 * @region: set
 * @err: set on failure
 *
 * What an incomplete transfer has left in the directory goes before the first.
 *
 * Return: 0 or a negative errno, -EEXIST if a file of others has the name.
 */
int images_create(struct images *images, const struct xbzrle_record *block,
		  struct images_region **region, struct xbzrle_error *err)
{
	struct images_region *new = images_find(images, block->name);
	int fd;

	if (!new || new->state != IMAGES_ANNOUNCED)
		return xbzrle_fail(err, EBADMSG, block->position,
				   "region '%s' was not announced",
				   block->name);
	if (new->length != block->length)
		return xbzrle_fail(err, EBADMSG, block->position,
				   "region '%s' has %" PRIu64 " bytes, announced were %" PRIu64,
				   block->name, block->length, new->length);

	fd = make_file(images, new->file, err);
	if (fd < 0)
		return fd;
	new->fd = fd;
	new->state = IMAGES_PRESENT;
	new->number = block->region;
	*region = new;
	return 0;
}

/**
 * images_drop() - a region has ended: its file goes
 * @images: images
 * @region: region
 */
void images_drop(struct images *images, struct images_region *region)
{
	if (region->state == IMAGES_PRESENT) {
		close(region->fd);
		unlinkat(images->dir, region->file, 0);
	}
	region->fd = -1;
	region->state = IMAGES_DROPPED;
}

/**
 * images_verify() - are the images what was sent?
 * @images: images whose regions have the sender's digests
 * @err: set on failure
 *
 * Return: 0, -EBADMSG if not, or another negative errno.
 */
int images_verify(struct images *images, struct xbzrle_error *err)
{
	uint8_t digest[DIGEST_SIZE];
	struct images_region *region;
	size_t i;
	int ret;

	for (i = 0; i < images->count; i++) {
		region = &images->regions[i];
		if (region->state == IMAGES_DROPPED)
			continue;
		if (region->state != IMAGES_PRESENT || !region->digest_known)
			return xbzrle_fail(err, EBADMSG, 0,
					   "region '%s' has %s", region->name,
					   region->digest_known ?
					   "a digest and never came" :
					   "no digest");
		ret = digest_file(region->fd, region->length, digest, err);
		if (ret)
			return ret;
		if (memcmp(digest, region->digest, DIGEST_SIZE))
			return xbzrle_fail(err, EBADMSG, 0,
					   "region '%s' differs: its digest is %s here and %s there",
					   region->name,
					   digest_hex(digest).text,
					   digest_hex(region->digest).text);
	}
	return 0;
}

static json_t *describe(const struct images_region *region)
{
	char address[24];

	snprintf(address, sizeof(address), "%#" PRIx64, region->address);
	return json_pack("{s:o, s:s, s:I, s:s, s:I, s:s, s:I}",
			 "name", command_json_text(region->name),
			 "file", region->file,
			 "pid", (json_int_t)region->pid,
			 "address", address,
			 "length", (json_int_t)region->length,
			 "xxh3_128", digest_hex(region->digest).text,
			 "rounds", (json_int_t)region->rounds);
}

/**
 * images_manifest() - describe what was received
 * @images: verified images
 * @rounds: rounds received
 *
 * A name that is not UTF-8, which JSON cannot hold, has ? for what is not ASCII.
 *
 * Return: the manifest, or NULL without memory.
 */
json_t *images_manifest(const struct images *images, uint64_t rounds)
{
	json_t *regions = json_array();
	size_t i;

	for (i = 0; i < images->count; i++) {
		if (images->regions[i].state == IMAGES_PRESENT &&
		    json_array_append_new(regions,
					  describe(&images->regions[i])))
			goto free_regions;
	}
	return json_pack("{s:i, s:I, s:o}", "format", MANIFEST_FORMAT,
			 "rounds", (json_int_t)rounds, "regions", regions);

free_regions:
	json_decref(regions);
	return NULL;
}

static int sync_images(const struct images *images, struct xbzrle_error *err)
{
	size_t i;

	for (i = 0; i < images->count; i++) {
		if (images->regions[i].state == IMAGES_PRESENT &&
		    fsync(images->regions[i].fd))
			return xbzrle_fail(err, errno, 0,
					   "cannot write %s: %s",
					   images->regions[i].file,
					   strerror(errno));
	}
	return 0;
}

/* Writes the manifest, complete or not at all: 0 or a negative errno. */
static int write_beside(const struct images *images, const json_t *manifest)
{
	int fd, ret = 0;

	fd = openat(images->dir, MANIFEST_NEW,
		    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	/* A short write is no error to the library, and sets none. */
	errno = EIO;
	/* Who looks at it may do so on a terminal, which names could steer. */
	if (json_dumpfd(manifest, fd, JSON_INDENT(2) | JSON_ENSURE_ASCII) ||
	    write(fd, "\n", 1) != 1 || fsync(fd))
		ret = -errno;
	close(fd);
	if (!ret &&
	    renameat(images->dir, MANIFEST_NEW, images->dir, MANIFEST))
		ret = -errno;
	unlinkat(images->dir, ret ? MANIFEST_NEW : LIST, 0);
	return ret;
}

/**
 * images_write_manifest() - declare the images complete
 * @images: verified images
 * @manifest: from images_manifest()
 * @err: set on failure
 *
 * The images are on the disk before the manifest is there at all.
 *
 * Return: 0 or a negative errno.
 */
int images_write_manifest(struct images *images, const json_t *manifest,
			  struct xbzrle_error *err)
{
	int ret;

	ret = take_directory(images, err);
	if (!ret)
		ret = sync_images(images, err);
	if (ret)
		return ret;
	ret = write_beside(images, manifest);
	if (!ret && fsync(images->dir))
		ret = -errno;
	if (ret)
		return xbzrle_fail(err, -ret, 0, "cannot write %s: %s",
				   MANIFEST, strerror(-ret));
	return 0;
}

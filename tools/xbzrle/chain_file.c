// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The file of a round is a transfer in frames, as docs/transport.md has them,
 * without the digests where it builds upon another; its rounds are counted from
 * the beginning of the file. So xbzrle recv and inspect read one that has all.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "chain.h"
#include "command.h"

#define UNIT		XBZRLE_UNIT_SIZE

/* As docs/stream.md has them. */
#define FLAG_ZERO	0x02
#define FLAG_MEM_SIZE	0x04
#define FLAG_PAGE	0x08
#define FLAG_EOS	0x10
#define FLAG_CONTINUE	0x20

/* Puts the file's name into the message. */
static int in_file(int ret, const struct chain_name *name,
		   struct xbzrle_error *err)
{
	struct xbzrle_error plain;

	if (ret >= 0)
		return ret;
	plain = *err;
	return xbzrle_fail(err, -ret, plain.position, "%s: %.200s", name->text,
			   plain.message);
}

static int read_hello(struct frame_link *link, struct xbzrle_error *err)
{
	const uint64_t known = FRAME_FEATURE_XXH3_128;
	struct frame_hello hello;
	struct frame frame;
	int ret;

	ret = frame_receive(link, &frame, err);
	if (ret < 0)
		return ret;
	if (!ret || frame.type != FRAME_HELLO)
		return xbzrle_fail(err, EBADMSG, 0, ret ?
				   "it does not begin with a hello frame" :
				   "it is empty");
	ret = frame_get_hello(&frame, &hello, err);
	if (!ret && hello.required & ~known)
		ret = xbzrle_fail(err, EPROTO, 0,
				  "it needs features %#" PRIx64 " that are not known here",
				  hello.required & ~known);
	if (!ret && !(hello.offered & FRAME_FEATURE_XXH3_128))
		ret = xbzrle_fail(err, EPROTO, 0,
				  "it offers no digests that are known here");
	return ret;
}

static int read_region(const struct frame *frame, struct replica *replica,
		       struct xbzrle_error *err)
{
	struct frame_region region;
	int ret = frame_get_region(frame, &region, err);

	return ret ? ret : replica_announce(replica, &region, err);
}

static int read_drop(const struct frame *frame, struct replica *replica,
		     struct xbzrle_error *err)
{
	struct replica_region *region;
	const char *name;
	int ret;

	ret = frame_get_drop(frame, &name, err);
	if (ret)
		return ret;
	region = replica_find(replica, name);
	if (!region)
		return xbzrle_fail(err, EBADMSG, 0,
				   "region '%s' is dropped and is not there",
				   name);
	replica_drop(replica, region);
	return 0;
}

/* Each round of the stream has one. */
static int read_round(const struct frame *frame, const struct replica *replica,
		      uint64_t *rounds, struct xbzrle_error *err)
{
	struct frame_round round;
	int ret = frame_get_round(frame, &round, err);

	if (!ret)
		ret = replica_check_round(replica, &round, err);
	if (!ret && round.round != ++*rounds)
		ret = xbzrle_fail(err, EBADMSG, 0,
				  "round %" PRIu64 " ends in frame %" PRIu64 " of its kind",
				  round.round, *rounds);
	return ret;
}

static int read_digest(const struct frame *frame,
		       const struct replica *replica, struct xbzrle_error *err)
{
	struct replica_region *region;
	struct frame_digest digest;
	uint8_t ours[DIGEST_SIZE];
	int ret;

	ret = frame_get_digest(frame, &digest, err);
	if (ret)
		return ret;
	region = replica_find(replica, digest.name);
	if (!region || region->state != REPLICA_PRESENT ||
	    region->length != digest.length || region->digested)
		return xbzrle_fail(err, EBADMSG, 0,
				   "a digest of region '%s', which is not there or has one",
				   digest.name);
	region->digested = true;
	ret = replica_digest(replica, region, ours, err);
	if (!ret && memcmp(ours, digest.digest, DIGEST_SIZE))
		ret = xbzrle_fail(err, EBADMSG, 0,
				  "region '%s' differs: its digest is %s and should be %s",
				  digest.name, digest_hex(ours).text,
				  digest_hex(digest.digest).text);
	return ret;
}

static int read_frame(const struct frame *frame, struct replica *replica,
		      uint64_t *rounds, struct xbzrle_error *err)
{
	switch (frame->type) {
	case FRAME_REGION:
		return read_region(frame, replica, err);
	case FRAME_DROP:
		return read_drop(frame, replica, err);
	case FRAME_DATA:
		return replica_take(replica, frame->payload, frame->length,
				    err);
	case FRAME_ROUND:
		return read_round(frame, replica, rounds, err);
	case FRAME_DIGEST:
		return read_digest(frame, replica, err);
	default:
		return xbzrle_fail(err, EBADMSG, 0,
				   "a frame of type %u, which has no place here",
				   frame->type);
	}
}

static int read_end(struct frame_link *link, const struct frame *frame,
		    uint32_t digests, uint32_t due, struct xbzrle_error *err)
{
	struct frame more;
	uint32_t said;
	int ret;

	ret = frame_get_end(frame, &said, err);
	if (!ret && (said != digests || digests != due))
		ret = xbzrle_fail(err, EBADMSG, 0,
				  "%u digests are said to be there, %u are, and %u should be",
				  said, digests, due);
	if (ret)
		return ret;
	ret = frame_receive(link, &more, err);
	if (ret > 0)
		ret = xbzrle_fail(err, EBADMSG, 0, "something follows its end");
	return ret;
}

/* Digests are behind the last round, and nothing but the end behind them. */
static int check_place(enum frame_type type, enum frame_type before,
		       struct xbzrle_error *err)
{
	const bool ending = type == FRAME_DIGEST || type == FRAME_END;

	if (before == FRAME_DIGEST && !ending)
		return xbzrle_fail(err, EBADMSG, 0,
				   "it goes on behind its digests");
	if (ending && before != FRAME_ROUND && before != FRAME_DIGEST)
		return xbzrle_fail(err, EBADMSG, 0, "it ends inside a round");
	return 0;
}

static int read_frames(struct frame_link *link, struct replica *replica,
		       bool full, struct xbzrle_error *err)
{
	enum frame_type before = FRAME_NONE;
	uint32_t digests = 0;
	uint64_t rounds = 0;
	struct frame frame;
	int ret;

	ret = read_hello(link, err);
	while (!ret) {
		ret = frame_receive(link, &frame, err);
		if (!ret)
			return xbzrle_fail(err, EBADMSG, 0,
					   "it ends before its end frame");
		if (ret < 0)
			return ret;
		ret = check_place(frame.type, before, err);
		if (ret)
			return ret;
		if (frame.type == FRAME_END)
			return read_end(link, &frame, digests,
					full ? replica_present(replica) : 0,
					err);
		ret = read_frame(&frame, replica, &rounds, err);
		digests += frame.type == FRAME_DIGEST;
		before = frame.type;
	}
	return ret;
}

static int open_round(const struct chain *chain,
		      const struct chain_round *round,
		      const struct chain_name *name, struct xbzrle_error *err)
{
	struct stat status;
	int fd, ret;

	fd = openat(chain->dir, name->text,
		    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return xbzrle_fail(err, errno, 0, "cannot open: %s",
				   errno == ELOOP ?
				   "it is a symbolic link, which is not followed" :
				   strerror(errno));
	if (fstat(fd, &status))
		ret = xbzrle_fail(err, errno, 0, "%s", strerror(errno));
	else if (!S_ISREG(status.st_mode))
		ret = xbzrle_fail(err, EBADMSG, 0, "not a file");
	else if ((uint64_t)status.st_size != round->bytes)
		ret = xbzrle_fail(err, EBADMSG, 0,
				  "%lld bytes, and should have %" PRIu64,
				  (long long)status.st_size, round->bytes);
	else
		return fd;
	close(fd);
	return ret;
}

static json_t *describe(const struct replica_region *region,
			const struct digest_sum *sum)
{
	char address[24];

	snprintf(address, sizeof(address), "%#" PRIx64, region->address);
	return json_pack("{s:s, s:I, s:s, s:I, s:s}",
			 "name", region->name,
			 "pid", (json_int_t)region->pid,
			 "address", address,
			 "length", (json_int_t)region->length,
			 "xxh3_sum", digest_sum_hex(sum).text);
}

static int differs(const struct replica_region *region,
		   struct xbzrle_error *err)
{
	return xbzrle_fail(err, EBADMSG, 0,
			   "region '%s' is not what the manifest says it is",
			   region->name);
}

static int compare_region(const struct replica *replica,
			  const struct replica_region *region,
			  const json_t *said, bool sums,
			  struct xbzrle_error *err)
{
	struct digest_sum sum = {};
	json_t *is;
	int ret;

	if (sums) {
		ret = replica_sum(replica, region, &sum, err);
		if (ret)
			return ret;
	}
	is = describe(region, &sum);
	if (!sums && is)
		json_object_set(is, "xxh3_sum",
				json_object_get(said, "xxh3_sum"));
	ret = json_equal(is, said) ? 0 : differs(region, err);
	json_decref(is);
	return ret;
}

/* In the order of the stream on both sides. */
static int compare(const json_t *entry, const struct replica *replica,
		   bool sums, struct xbzrle_error *err)
{
	const json_t *said = json_object_get(entry, "regions");
	size_t i, at = 0;
	int ret;

	for (i = 0; i < replica->count; i++) {
		if (replica->regions[i].state == REPLICA_ANNOUNCED)
			return xbzrle_fail(err, EBADMSG, 0,
					   "region '%s' was announced and never came",
					   replica->regions[i].name);
		if (replica->regions[i].state == REPLICA_DROPPED)
			continue;
		ret = compare_region(replica, &replica->regions[i],
				     json_array_get(said, at++), sums, err);
		if (ret)
			return ret;
	}
	if (at != json_array_size(said))
		return xbzrle_fail(err, EBADMSG, 0,
				   "it makes %zu regions, and the manifest has %zu",
				   at, json_array_size(said));
	return 0;
}

/**
 * chain_read() - apply a round
 * @chain: chain
 * @index: of the round
 * @replica: as the round before has made it; opened anew if there is none
 * @sums: compare what is in the regions, too
 * @err: set on failure
 *
 * Return: 0, -EBADMSG or -EPIPE if the file is damaged or not what the manifest
 * says, or another negative errno.
 */
int chain_read(const struct chain *chain, size_t index,
	       struct replica *replica, bool sums, struct xbzrle_error *err)
{
	const struct chain_round *round = &chain->rounds[index];
	const struct chain_name name = chain_file_name(round->number,
						       round->base);
	struct frame_link link;
	json_t *entry;
	int fd, ret;

	fd = open_round(chain, round, &name, err);
	if (fd < 0)
		return in_file(fd, &name, err);
	ret = frame_link_init(&link, fd, -1, err);
	if (ret)
		goto close_fd;
	replica_begin_part(replica);
	ret = read_frames(&link, replica, !round->base, err);
	if (!ret)
		ret = command_at_byte(xbzrle_wire_end(replica->wire, err), err);
	if (!ret && replica_round(replica).round != round->stream_rounds)
		ret = xbzrle_fail(err, EBADMSG, 0,
				  "%" PRIu64 " rounds, and should have %" PRIu64,
				  replica_round(replica).round,
				  round->stream_rounds);
	frame_link_release(&link);
	if (ret)
		goto close_fd;
	entry = chain_entry(chain, index, err);
	ret = entry ? compare(entry, replica, sums, err) : -err->code;
	json_decref(entry);
close_fd:
	close(fd);
	return in_file(ret, &name, err);
}

/**
 * chain_file_begin() - begin to write the file of a round
 * @file: filled in
 * @chain: chain
 * @number: of the round
 * @base: the round that it builds upon, or 0
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int chain_file_begin(struct chain_file *file, struct chain *chain,
		     uint64_t number, uint64_t base, struct xbzrle_error *err)
{
	const struct frame_hello hello = {
		.offered = FRAME_FEATURE_XXH3_128,
		.required = FRAME_FEATURE_XXH3_128,
	};
	const struct chain_name name = chain_file_name(number, base);
	int ret;

	if (number >= CHAIN_NUMBERS)
		return xbzrle_fail(err, EOVERFLOW, 0,
				   "%s has no number left for a round",
				   chain->path);
	*file = (struct chain_file){
		.chain = chain,
		.number = number,
		.base = base,
	};
	unlinkat(chain->dir, chain_new_name(number, base).text, 0);
	file->fd = openat(chain->dir, chain_new_name(number, base).text,
			  O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (file->fd < 0)
		return xbzrle_fail(err, errno, 0,
				   "cannot make a file in %s: %s", chain->path,
				   strerror(errno));
	ret = frame_link_init(&file->link, -1, file->fd, err);
	if (!ret)
		ret = frame_send_hello(&file->link, &hello, err);
	if (ret)
		chain_file_abandon(file);
	return in_file(ret, &name, err);
}

static void release(struct chain_file *file)
{
	frame_link_release(&file->link);
	close(file->fd);
}

/**
 * chain_file_abandon() - give up a file that was begun
 * @file: file
 */
void chain_file_abandon(struct chain_file *file)
{
	unlinkat(file->chain->dir,
		 chain_new_name(file->number, file->base).text, 0);
	release(file);
}

/* What has all can be received by itself, and says what has to arrive. */
static int write_digests(struct chain_file *file, const struct replica *replica,
			 uint32_t *digests, struct xbzrle_error *err)
{
	const struct replica_region *region;
	struct frame_digest digest;
	size_t i;
	int ret;

	for (i = 0; i < replica->count; i++) {
		region = &replica->regions[i];
		if (region->state != REPLICA_PRESENT)
			continue;
		digest.name = region->name;
		digest.length = region->length;
		ret = replica_digest(replica, region, digest.digest, err);
		if (!ret)
			ret = frame_send_digest(&file->link, &digest, err);
		if (ret)
			return ret;
		++*digests;
	}
	return 0;
}

/* Ends the file and puts it in its place, on the disk. */
static int finish(struct chain_file *file, const struct replica *replica,
		  struct xbzrle_error *err)
{
	const struct chain_name name = chain_file_name(file->number,
						       file->base);
	int dir = file->chain->dir, ret = 0;
	uint32_t digests = 0;

	if (!file->base)
		ret = write_digests(file, replica, &digests, err);
	if (!ret)
		ret = frame_send_end(&file->link, digests, err);
	if (ret)
		return in_file(ret, &name, err);
	if (fsync(file->fd) ||
	    renameat(dir, chain_new_name(file->number, file->base).text, dir,
		     name.text))
		return xbzrle_fail(err, errno, 0, "cannot write %s: %s",
				   name.text, strerror(errno));
	if (!fsync(dir))
		return 0;
	ret = xbzrle_fail(err, errno, 0, "cannot write %s: %s", name.text,
			  strerror(errno));
	unlinkat(dir, name.text, 0);
	return ret;
}

static json_t *describe_regions(const struct replica *replica)
{
	json_t *regions = json_array();
	size_t i;

	for (i = 0; i < replica->count; i++) {
		if (replica->regions[i].state == REPLICA_PRESENT &&
		    json_array_append_new(regions,
					  describe(&replica->regions[i],
						   &replica->regions[i].sum)))
			goto free_regions;
	}
	return regions;

free_regions:
	json_decref(regions);
	return NULL;
}

static void write_time(char *text, size_t size)
{
	struct timespec now;
	struct tm tm;
	size_t length;

	clock_gettime(CLOCK_REALTIME, &now);
	length = strftime(text, size, "%Y-%m-%dT%H:%M:%S",
			  gmtime_r(&now.tv_sec, &tm));
	snprintf(text + length, size - length, ".%03ldZ",
		 now.tv_nsec / 1000000);
}

static json_t *describe_round(const struct chain_file *file,
			      const struct replica *replica,
			      const struct chain_facts *facts)
{
	json_t *regions = describe_regions(replica);
	struct stat status;
	char time[40];

	write_time(time, sizeof(time));
	if (!regions || fstat(file->fd, &status)) {
		json_decref(regions);
		return NULL;
	}
	return json_pack("{s:i, s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:o}",
			 "format", CHAIN_FORMAT,
			 "round", (json_int_t)file->number,
			 "base", (json_int_t)file->base, "time", time,
			 "bytes", (json_int_t)status.st_size,
			 "stream_rounds",
			 (json_int_t)replica_round(replica).round,
			 "dirty_pages", (json_int_t)facts->dirty_pages,
			 "paused_us", (json_int_t)facts->paused_us,
			 "regions", regions);
}

/**
 * chain_file_commit() - make the file a round of the chain
 * @file: file, complete but for its end; released in any case
 * @replica: as the round makes it, in memory
 * @facts: what else there is to tell
 * @err: set on failure; the chain is as it was before
 *
 * Return: 0 or a negative errno.
 */
int chain_file_commit(struct chain_file *file, struct replica *replica,
		      const struct chain_facts *facts,
		      struct xbzrle_error *err)
{
	json_t *entry;
	int ret;

	ret = finish(file, replica, err);
	if (ret) {
		chain_file_abandon(file);
		return ret;
	}
	entry = describe_round(file, replica, facts);
	if (entry)
		ret = chain_append(file->chain, entry, err);
	else
		ret = xbzrle_fail(err, EILSEQ, 0,
				  "cannot describe the regions in JSON: their names must be UTF-8");
	json_decref(entry);
	release(file);
	return ret;
}

/* Gathers bytes of a stream into DATA frames. */
struct packer {
	struct chain_file *file;
	struct replica_region *last;
	uint32_t used;
	uint64_t position;
};

static int flush(struct packer *packer, struct xbzrle_error *err)
{
	uint32_t used = packer->used;

	packer->used = 0;
	return used ? frame_send(&packer->file->link, FRAME_DATA, used, err) :
		0;
}

static int put(struct packer *packer, const void *bytes, size_t length,
	       struct xbzrle_error *err)
{
	int ret = 0;

	if (packer->used + length > FRAME_PAYLOAD_MAX)
		ret = flush(packer, err);
	if (ret)
		return ret;
	memcpy((uint8_t *)frame_room(&packer->file->link) + packer->used,
	       bytes, length);
	packer->used += length;
	packer->position += length;
	return 0;
}

static int put_be64(struct packer *packer, uint64_t value,
		    struct xbzrle_error *err)
{
	value = htobe64(value);
	return put(packer, &value, sizeof(value), err);
}

static int put_name(struct packer *packer, const char *name,
		    struct xbzrle_error *err)
{
	uint8_t length = strlen(name);
	int ret = put(packer, &length, 1, err);

	return ret ? ret : put(packer, name, length, err);
}

static int put_setup(struct packer *packer, const struct replica *replica,
		     struct xbzrle_error *err)
{
	const struct replica_region *region;
	uint64_t total = 0;
	size_t i;
	int ret;

	for (i = 0; i < replica->count; i++) {
		if (replica->regions[i].state == REPLICA_PRESENT)
			total += replica->regions[i].length;
	}
	ret = put_be64(packer, total | FLAG_MEM_SIZE, err);
	for (i = 0; i < replica->count && !ret; i++) {
		region = &replica->regions[i];
		if (region->state != REPLICA_PRESENT)
			continue;
		ret = put_name(packer, region->name, err);
		if (!ret)
			ret = put_be64(packer, region->length, err);
	}
	return ret ? ret : put_be64(packer, FLAG_EOS, err);
}

static int put_page(struct packer *packer, struct replica_region *region,
		    uint64_t number, struct xbzrle_error *err)
{
	const uint8_t *page = region->memory + number * UNIT;
	bool filled = region->filled[number / 8] >> number % 8 & 1;
	bool same = packer->last == region;
	uint64_t header = number * UNIT | (filled ? FLAG_PAGE : FLAG_ZERO);
	int ret;

	ret = put_be64(packer, header | (same ? FLAG_CONTINUE : 0), err);
	if (!ret && !same)
		ret = put_name(packer, region->name, err);
	packer->last = region;
	if (ret)
		return ret;
	return filled ? put(packer, page, UNIT, err) : put(packer, "", 1, err);
}

static int put_region(struct packer *packer, struct replica_region *region,
		      struct xbzrle_error *err)
{
	uint64_t number, pages = region->length / UNIT;
	int ret = 0;

	for (number = 0; number < pages && !ret; number++) {
		/* Also one that is zero may be what a delta is for. */
		if (region->received[number / 8] >> number % 8 & 1)
			ret = put_page(packer, region, number, err);
	}
	return ret;
}

static int announce(struct chain_file *file, const struct replica *replica,
		    struct xbzrle_error *err)
{
	const struct replica_region *region;
	size_t i;
	int ret;

	for (i = 0; i < replica->count; i++) {
		region = &replica->regions[i];
		if (region->state != REPLICA_PRESENT)
			continue;
		ret = frame_send_region(&file->link, &(struct frame_region){
			.address = region->address,
			.length = region->length,
			.pid = region->pid,
			.name = region->name,
		}, err);
		if (ret)
			return ret;
	}
	return 0;
}

/* All that is in the replica, as one round. */
static int write_all_regions(struct chain_file *file, struct replica *replica,
			     struct xbzrle_error *err)
{
	struct packer packer = { .file = file };
	size_t i;
	int ret;

	ret = announce(file, replica, err);
	if (!ret)
		ret = put_setup(&packer, replica, err);
	for (i = 0; i < replica->count && !ret; i++) {
		if (replica->regions[i].state == REPLICA_PRESENT)
			ret = put_region(&packer, &replica->regions[i], err);
	}
	if (!ret)
		ret = put_be64(&packer, FLAG_EOS, err);
	if (!ret)
		ret = flush(&packer, err);
	if (ret)
		return ret;
	return frame_send_round(&file->link, &(struct frame_round){
		.round = 1,
		.position = packer.position,
	}, err);
}

static int make_full(struct chain *chain, size_t index,
		     struct replica *replica, json_t *entry,
		     struct xbzrle_error *err)
{
	const uint64_t number = chain->rounds[index].number;
	const struct chain_name name = chain_file_name(number, 0);
	struct chain_file file;
	struct stat status;
	int ret;

	ret = chain_file_begin(&file, chain, number, 0, err);
	if (ret)
		return ret;
	ret = in_file(write_all_regions(&file, replica, err), &name, err);
	if (!ret)
		ret = finish(&file, replica, err);
	if (!ret && fstat(file.fd, &status))
		ret = xbzrle_fail(err, errno, 0, "%s", strerror(errno));
	if (ret) {
		chain_file_abandon(&file);
		return ret;
	}
	release(&file);
	json_object_set_new(entry, "base", json_integer(0));
	json_object_set_new(entry, "stream_rounds", json_integer(1));
	json_object_set_new(entry, "bytes", json_integer(status.st_size));
	return 0;
}

/**
 * chain_fold() - make a round the first of the chain
 * @chain: chain that is open for CHAIN_FOLD
 * @index: of the round
 * @replica: as the round makes it, in memory
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int chain_fold(struct chain *chain, size_t index, struct replica *replica,
	       struct xbzrle_error *err)
{
	const struct chain_round *round = &chain->rounds[index];
	json_t *entry = chain_entry(chain, index, err);
	int ret = 0;

	if (!entry)
		return -err->code;
	if (round->base)
		ret = make_full(chain, index, replica, entry, err);
	if (!ret)
		ret = chain_cut_before(chain, index, entry, err);
	json_decref(entry);
	return ret;
}

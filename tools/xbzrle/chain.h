/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* A directory of snapshots; docs/snapshots.md has its format. */
#ifndef _XBZRLE_TOOL_CHAIN_H
#define _XBZRLE_TOOL_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>
#include <xbzrle.h>

#include "digest.h"
#include "frame.h"
#include "replica.h"

/* What makes a directory one of a chain. */
#define CHAIN_MANIFEST	"chain.jsonl"
/* Of the lines of a manifest. */
#define CHAIN_FORMAT	1
/* Numbers of rounds are below this, so that JSON can have the next one, too. */
#define CHAIN_NUMBERS	((uint64_t)INT64_MAX)

/* So many rounds a chain may have: of each a little is kept in memory. */
#ifndef CHAIN_ROUNDS
#define CHAIN_ROUNDS	(1U << 22)
#endif

/* What a chain is opened for, which says whom it must have for itself. */
enum chain_use {
	CHAIN_READ,
	CHAIN_SNAPSHOT,
	CHAIN_FOLD,
};

/**
 * struct chain_round - a line of the manifest
 * @number: of the round
 * @base: the round that it builds upon, the one before; 0 if it has all
 * @bytes: of its file
 * @stream_rounds: rounds of the stream in it
 * @line: where its line begins in the manifest, which says all of it
 * @length: bytes of that, without its end
 * @check: its checksum
 */
struct chain_round {
	uint64_t number;
	uint64_t base;
	uint64_t bytes;
	uint64_t stream_rounds;
	uint64_t line;
	uint64_t length;
	struct digest_text check;
};

/**
 * struct chain - a directory of snapshots
 * @path: directory, as the user calls it
 * @use: enum chain_use
 * @dir: directory
 * @manifest: file, or -1
 * @end: bytes of it that are complete lines
 * @cut: a line that is not complete follows
 * @damage: why no line behind them can be used; its code is 0 if all can
 * @rounds: lines; only the last where snapshots are taken
 * @count: how many
 * @first: number of the first round, if there is one
 * @lock: file that keeps others away, or -1
 */
struct chain {
	const char *path;
	enum chain_use use;
	int dir;
	int manifest;
	uint64_t end;
	bool cut;
	struct xbzrle_error damage;
	struct chain_round *rounds;
	size_t count;
	uint64_t first;
	int lock;
};

/**
 * struct chain_file - a round's file while it is written
 * @chain: chain
 * @number: of the round
 * @base: the round that it builds upon, or 0
 * @fd: file
 * @link: its frames
 */
struct chain_file {
	struct chain *chain;
	uint64_t number;
	uint64_t base;
	int fd;
	struct frame_link link;
};

struct chain_name {
	char text[48];
};

/* What a snapshot tells of a round besides its bytes. */
struct chain_facts {
	uint64_t dirty_pages;
	uint64_t paused_us;
};

int chain_open(struct chain *chain, const char *path, enum chain_use use,
	       struct xbzrle_error *err);
void chain_close(struct chain *chain);
struct chain_name chain_file_name(uint64_t number, uint64_t base);
struct chain_name chain_new_name(uint64_t number, uint64_t base);
json_t *chain_entry(const struct chain *chain, size_t index,
		    struct xbzrle_error *err);
int chain_append(struct chain *chain, json_t *entry, struct xbzrle_error *err);
int chain_cut_before(struct chain *chain, size_t index, json_t *entry,
		     struct xbzrle_error *err);
int chain_find(const struct chain *chain, uint64_t number, size_t *index,
	       struct xbzrle_error *err);
size_t chain_full_before(const struct chain *chain, size_t index);
int chain_read(const struct chain *chain, size_t index,
	       struct replica *replica, bool sums, struct xbzrle_error *err);

int chain_file_begin(struct chain_file *file, struct chain *chain,
		     uint64_t number, uint64_t base,
		     struct xbzrle_error *err);
void chain_file_abandon(struct chain_file *file);
int chain_file_commit(struct chain_file *file, struct replica *replica,
		      const struct chain_facts *facts,
		      struct xbzrle_error *err);
int chain_fold(struct chain *chain, size_t index, struct replica *replica,
	       struct xbzrle_error *err);

#endif /* _XBZRLE_TOOL_CHAIN_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * Random calls, and a model of the device that says what each must return. It
 * is written from docs/uapi.md alone.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "device.h"
#include "rnd.h"

/*
 * Addresses that are used, all of them below what the kernel gives out by
 * itself, so that a hole stays one: the memory that is registered, a mapping of
 * hugetlbfs, and where the structs of calls are.
 */
#define FUZZ_BASE	((uintptr_t)4 << 30)
#define FUZZ_PAGES	64U
#define FUZZ_HUGE	(FUZZ_BASE + ((uintptr_t)16 << 20))
#define FUZZ_VIEWS	(FUZZ_BASE + ((uintptr_t)64 << 20))
/* Of no process, wherever the kernel has its own. */
#define FUZZ_KERNEL	((uintptr_t)1 << 63)

#define FUZZ_SESSIONS	3U
#define FUZZ_NAMES	16U
/* The longest struct that is read, in bytes. */
#define FUZZ_ROOM	4096U
#define FUZZ_BUFFER	(256U << 10)

/* What a page of memory is. */
enum fuzz_kind {
	KIND_HOLE,
	KIND_PRIVATE,
	KIND_SHARED,
	KIND_OWNED,
	KIND_FILE,
	KIND_HUGETLB,
};

/* The first eight are the numbers of the ioctls. */
enum fuzz_op {
	OP_GET_INFO,
	OP_CREATE,
	OP_REGISTER,
	OP_UNREGISTER,
	OP_SET_CACHE,
	OP_SYNC,
	OP_GET_STATS,
	OP_MARK_DIRTY,
	OP_UNKNOWN,
	OP_READ,
	OP_READV,
	OP_SPLICE,
	OP_POLL,
	OP_REOPEN,
	OP_MAP,
	OP_MOVE,
	OP_WRITE,
	OP_CHILD,
	OPS,
};

/* Whose memory REGISTER is asked for. */
enum fuzz_who {
	WHO_ZERO,
	WHO_PID,
	WHO_CHILD,
	WHO_NOBODY,
	WHO_KTHREAD,
	WHO_NEGATIVE,
};

/* Why a call returns what it returns. */
enum fuzz_rule {
	RULE_OK,
	RULE_NO_CALL,
	RULE_NO_SIZE,
	RULE_SHORT,
	RULE_LONG,
	RULE_TAIL,
	RULE_CUT,
	RULE_FLAGS,
	RULE_RESERVED,
	RULE_PID,
	RULE_TRACKER,
	RULE_CAPTURE,
	RULE_ADDR,
	RULE_LENGTH,
	RULE_LIMIT,
	RULE_RANGE,
	RULE_NAME_LEN,
	RULE_NAME_CUT,
	RULE_NAME_NUL,
	RULE_NO_PROCESS,
	RULE_RIGHTS,
	RULE_IN_ROUND,
	RULE_NAME_TAKEN,
	RULE_NAME_KEPT,
	RULE_NO_FD,
	RULE_HOLE,
	RULE_KIND,
	RULE_TAKEN,
	RULE_ANSWER,
	RULE_NO_REGION,
	RULE_NO_UNITS,
	RULE_UNITS,
	RULE_BITMAP,
	RULE_FINISHED,
	RULE_BUDGET,
	RULE_EMPTY,
	RULE_UNMAPPED,
	RULE_GONE,
	RULE_BYTES,
	RULE_END,
	RULE_NO_ROOM,
	RULE_BUFFER,
	RULE_POLL_IDLE,
	RULE_POLL_IN,
	RULE_POLL_GONE,
	/* Of a region whose writes are told; it is counted as the other, too. */
	RULE_TOLD,
	RULE_TOLD_UNMAPPED,
	RULE_TOLD_GONE,
	RULES,
};

/* Any struct, with a tail that the kernel does not know. */
union fuzz_arg {
	struct {
		__u32 size;
		__u32 flags;
	};
	struct xbzrle_info info;
	struct xbzrle_create create;
	struct xbzrle_register reg;
	struct xbzrle_unregister unregister;
	struct xbzrle_set_cache set_cache;
	struct xbzrle_sync sync;
	struct xbzrle_stats stats;
	struct xbzrle_mark_dirty mark_dirty;
	unsigned char bytes[FUZZ_ROOM];
};

/**
 * struct fuzz_view - where a caller has its structs, its names and its buffers
 * @base: as the kernel is told: pages that can be written, pages that can be
 *	read, and holes
 * @alias: the same pages, all of which can be written
 * @before: what was there before a call
 * @buffer: FUZZ_BUFFER bytes to read into
 */
struct fuzz_view {
	uintptr_t base;
	unsigned char *alias;
	unsigned char *before;
	unsigned char *buffer;
};

/**
 * struct fuzz_call - one call, as the random numbers of its seed and number
 *	have it
 * @number: of the call
 * @op: what is done
 * @session: index of the session
 * @pick: which of whatever there is
 * @cmd: number of the ioctl
 * @arg: its struct
 * @at: address of the struct, or of the buffer
 * @name: index of the name
 * @name_bytes: that name, or a wrong one
 * @bitmap: the first bits that MARK_DIRTY is given
 * @who: whose memory
 * @nobody: REGISTER without the capability
 * @no_fds: CREATE without a file descriptor left
 * @len: bytes to read; of the second buffer, @len2
 * @len2: see @len
 * @child: the memory is the other process'
 * @kind: what becomes of the memory
 * @first: index of its first page
 * @nr: how many
 * @ret: what the call returned, with the error as a negative errno
 * @out: the struct as the kernel left it
 */
struct fuzz_call {
	uint64_t number;
	enum fuzz_op op;
	unsigned int session;
	unsigned int pick;
	unsigned int cmd;
	union fuzz_arg arg;
	uintptr_t at;
	unsigned int name;
	unsigned char name_bytes[XBZRLE_NAME_MAX + 1];
	unsigned char bitmap[FUZZ_PAGES / 8];
	enum fuzz_who who;
	bool nobody;
	bool no_fds;
	size_t len;
	size_t len2;
	bool child;
	enum fuzz_kind kind;
	unsigned int first;
	unsigned int nr;
	int64_t ret;
	union fuzz_arg out;
};

/**
 * struct fuzz_space - memory of a process
 * @pid: the process, 0 for this one
 * @gone: it has been killed, and is a zombie
 * @idle: it is another program, which takes no orders
 * @kinds: of its pages
 * @files: number of the file that each KIND_SHARED page is of
 * @indices: which page of that
 * @has_huge: FUZZ_HUGE is there
 * @to: orders for it
 * @from: answers of it
 */
struct fuzz_space {
	pid_t pid;
	bool gone;
	bool idle;
	unsigned char kinds[FUZZ_PAGES];
	unsigned int files[FUZZ_PAGES];
	unsigned int indices[FUZZ_PAGES];
	bool has_huge;
	int to;
	int from;
};

/**
 * struct fuzz_units - units of a region whose writes are told, a bit for each
 * @next: marked for the next round
 * @left: a SYNC that failed may have found them
 * @due: the round has to look at them
 * @maybe: it may look at them
 * @written: they may have changed since it began
 */
struct fuzz_units {
	uint64_t next;
	uint64_t left;
	uint64_t due;
	uint64_t maybe;
	uint64_t written;
};

/**
 * struct fuzz_region - a region as the model has it
 * @id: of it
 * @name: index of its name
 * @length: bytes
 * @space: whose memory; NULL if it is owned memory, or its process is gone
 * @tracker: how the kernel learns of writes
 * @addr: first address in @space
 * @file: if the tracker is the mapping one: of which file
 * @index: and from which page of it on
 * @error: 0, or with which errno it ended
 * @gone: its process is gone, whatever ended it
 * @error_addr: the address that was the reason
 * @announced: the receiver was told of it
 * @units: if the tracker is the external one
 */
struct fuzz_region {
	uint32_t id;
	unsigned int name;
	uint64_t length;
	struct fuzz_space *space;
	uint32_t tracker;
	uint64_t addr;
	unsigned int file;
	unsigned int index;
	int error;
	bool gone;
	uint64_t error_addr;
	bool announced;
	struct fuzz_units units;
};

/**
 * struct fuzz_session - a session as the model has it
 * @fd: the session, or -1
 * @regions: its regions
 * @nr_regions: entries in @regions
 * @kept: by index, names that are not free though no region has them
 * @round: number of the last round
 * @active: it is not read to its end
 * @finished: it was a FINAL one
 * @moment: it is not read to its end, and was to be of one moment
 * @whole: so it is still
 * @torn: how many were not
 * @room: the least budget since it began
 * @distrusted: pages of owned memory were marked since
 * @cache: the budget
 * @bytes: read since open
 * @receiver: gets them
 */
struct fuzz_session {
	int fd;
	struct fuzz_region regions[FUZZ_NAMES];
	unsigned int nr_regions;
	bool kept[FUZZ_NAMES];
	uint64_t round;
	bool active;
	bool finished;
	bool moment;
	bool whole;
	uint64_t torn;
	uint64_t room;
	bool distrusted;
	uint64_t cache;
	uint64_t bytes;
	struct model *receiver;
};

/**
 * struct fuzz_expect - what the model says of a call
 * @rule: why it returns what it returns
 * @or_ended: instead the errno with which a region of the session ended
 * @or_budget: or that the budget is too small
 * @answer: bytes of the struct that the kernel may write
 */
struct fuzz_expect {
	enum fuzz_rule rule;
	bool or_ended;
	bool or_budget;
	size_t answer;
};

/**
 * struct fuzz_state - everything the model knows
 * @info: what GET_INFO says
 * @self: memory of this process
 * @child: of the other process
 * @sessions: all of them
 * @compared: units of external regions that were marked, and compared
 * @passed_over: that were not, and did not come
 */
struct fuzz_state {
	struct xbzrle_info info;
	struct fuzz_space self;
	struct fuzz_space child;
	struct fuzz_session sessions[FUZZ_SESSIONS];
	uint64_t compared;
	uint64_t passed_over;
};

/* fuzz_call.c: calls, made at random. */
extern const char * const fuzz_op_names[OPS];
bool fuzz_view_init(struct fuzz_view *view, unsigned int index);
void fuzz_view_destroy(struct fuzz_view *view);
bool fuzz_view_allows(const struct fuzz_view *view, uintptr_t at, size_t len,
		      bool write);
size_t fuzz_known_size(unsigned int cmd);
size_t fuzz_name(unsigned char *name, unsigned int index);
__u32 *fuzz_region_id(struct fuzz_call *call);
void fuzz_make_call(struct fuzz_call *call, const struct fuzz_view *view,
		    uint64_t seed, uint64_t number);
void fuzz_make_sync(struct fuzz_call *call, const struct fuzz_view *view);
void fuzz_ioctl(struct fuzz_call *call, struct fuzz_view *view, int fd);
bool fuzz_view_changed(const struct fuzz_call *call,
		       const struct fuzz_view *view, size_t answer);
void fuzz_print_call(const struct fuzz_call *call);

/* fuzz_space.c: memory, and a second process that has some. */
bool fuzz_space_init(struct fuzz_space *self);
void fuzz_space_destroy(struct fuzz_space *self);
bool fuzz_space_map(struct fuzz_space *space, unsigned int first,
		    unsigned int nr, enum fuzz_kind kind, int fd);
bool fuzz_space_move(struct fuzz_space *self, unsigned int from,
		     unsigned int to);
bool fuzz_space_write(struct fuzz_space *space, unsigned int first,
		      unsigned int nr, unsigned int how);
bool fuzz_space_fork(const struct fuzz_space *self, struct fuzz_space *child);
bool fuzz_space_exec(struct fuzz_space *child);
bool fuzz_space_kill(struct fuzz_space *child);
bool fuzz_space_reap(struct fuzz_space *child);
enum fuzz_kind fuzz_space_kind(const struct fuzz_space *space, uint64_t addr);
unsigned int fuzz_space_file(const struct fuzz_space *space, uint64_t addr,
			     unsigned int *index);
bool fuzz_space_read(const struct fuzz_space *space, uint64_t addr, void *unit);

/* fuzz_model.c: what the documentation says of them. */
int fuzz_rule_error(enum fuzz_rule rule);
const char *fuzz_rule_text(enum fuzz_rule rule);
bool fuzz_rule_required(enum fuzz_op op, enum fuzz_rule rule,
			uint64_t features);
enum fuzz_rule fuzz_rule_told(struct fuzz_session *session,
			      const struct fuzz_call *call,
			      enum fuzz_rule rule);
enum fuzz_rule fuzz_predict_argument(const struct xbzrle_info *info,
				     const struct fuzz_view *view,
				     const struct fuzz_call *call);
struct fuzz_expect fuzz_predict(struct fuzz_state *state,
				const struct fuzz_view *view,
				const struct fuzz_call *call);
const struct fuzz_region *fuzz_find_ended(const struct fuzz_session *session,
					  int error, uint32_t id);
struct fuzz_region *fuzz_find_region(struct fuzz_session *session, uint32_t id);
const char *fuzz_check_answer(const struct fuzz_state *state,
			      const struct fuzz_call *call,
			      const struct fuzz_expect *expect);
void fuzz_commit(struct fuzz_state *state, const struct fuzz_call *call);
void fuzz_unmapped(struct fuzz_state *state, struct fuzz_space *space,
		   unsigned int first, unsigned int nr);
void fuzz_process_gone(struct fuzz_state *state, struct fuzz_space *space);

/* fuzz_told.c: what a round has of regions whose writes are told. */
void fuzz_told_marked(struct fuzz_region *r,
		      const struct xbzrle_mark_dirty *mark,
		      const unsigned char *bitmap);
void fuzz_told_written(struct fuzz_state *state,
		       const struct fuzz_space *space, unsigned int first,
		       unsigned int nr);
bool fuzz_told_tell(struct fuzz_state *state, const struct fuzz_space *space,
		    unsigned int first, unsigned int nr);
void fuzz_told_begin(struct fuzz_region *r, uint32_t flags);
void fuzz_told_failed(struct fuzz_session *session, uint32_t flags);
const char *fuzz_told_check(struct fuzz_state *state,
			    const struct fuzz_session *session, bool compare);

/* fuzz_threads.c: the calls from several threads and processes. */
bool fuzz_threads(uint64_t seed, double seconds,
		  const struct xbzrle_info *info);

#endif /* FUZZ_H */

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * What each call has to return, and what it changes. The order in which reasons
 * are looked for is the one of docs/uapi.md.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "fuzz.h"

#include "kselftest.h"

static const struct {
	int error;
	const char *text;
} rules[RULES] = {
	[RULE_OK]		= { 0, "success" },
	[RULE_NO_CALL]		= { ENOTTY, "no such call" },
	[RULE_NO_SIZE]		= { EFAULT, "the size cannot be read" },
	[RULE_SHORT]		= { EINVAL, "a struct that is too short" },
	[RULE_LONG]		= { E2BIG, "a struct of more than a page" },
	[RULE_TAIL]		= { E2BIG, "a tail that is not zero" },
	[RULE_CUT]		= { EFAULT, "the struct cannot be read" },
	[RULE_FLAGS]		= { EINVAL, "unknown flags" },
	[RULE_RESERVED]		= { EINVAL, "a reserved member" },
	[RULE_PID]		= { EINVAL, "a negative pid" },
	[RULE_TRACKER]		= { EINVAL, "no such tracker" },
	[RULE_CAPTURE]		= { EINVAL, "no such capture" },
	[RULE_ADDR]		= { EINVAL, "an unaligned address" },
	[RULE_LENGTH]		= { EINVAL, "a length not of whole pages" },
	[RULE_LIMIT]		= { ENOSPC, "over a limit" },
	[RULE_RANGE]		= { EINVAL, "past the address space" },
	[RULE_NAME_LEN]		= { EINVAL, "a name of no such length" },
	[RULE_NAME_CUT]		= { EFAULT, "the name cannot be read" },
	[RULE_NAME_NUL]		= { EINVAL, "a NUL in the name" },
	[RULE_NO_PROCESS]	= { ESRCH, "no process, or one without memory" },
	[RULE_RIGHTS]		= { EPERM, "another process' memory" },
	[RULE_IN_ROUND]		= { EBUSY, "a round is not read" },
	[RULE_NAME_TAKEN]	= { EBUSY, "the name of a region" },
	[RULE_NAME_KEPT]	= { EBUSY, "the name of a dropped region" },
	[RULE_NO_FD]		= { EMFILE, "no file descriptor left" },
	[RULE_HOLE]		= { EFAULT, "a hole" },
	[RULE_KIND]		= { EOPNOTSUPP, "memory of the wrong kind" },
	[RULE_TAKEN]		= { EBUSY, "memory that is registered" },
	[RULE_ANSWER]		= { EFAULT, "the answer cannot be written" },
	[RULE_NO_REGION]	= { EINVAL, "no such region" },
	[RULE_NO_UNITS]		= { EINVAL, "no units" },
	[RULE_UNITS]		= { EINVAL, "units outside of the region" },
	[RULE_BITMAP]		= { EFAULT, "the bitmap cannot be read" },
	[RULE_FINISHED]		= { EBUSY, "after a FINAL round" },
	[RULE_BUDGET]		= { ENOSPC, "a moment over the budget" },
	[RULE_EMPTY]		= { EINVAL, "a session without regions" },
	[RULE_UNMAPPED]		= { EFAULT, "a region was unmapped" },
	[RULE_GONE]		= { ESRCH, "a region's process is gone" },
	[RULE_BYTES]		= { 0, "bytes of a round" },
	[RULE_END]		= { 0, "the end of a round" },
	[RULE_NO_ROOM]		= { 0, "no room for a byte" },
	[RULE_BUFFER]		= { EFAULT, "the buffer cannot be written" },
	[RULE_POLL_IDLE]	= { 0, "nothing" },
	[RULE_POLL_IN]		= { 0, "a round has bytes" },
	[RULE_POLL_GONE]	= { 0, "a region's process is gone" },
	[RULE_TOLD]		= { 0, "success with an external region" },
	[RULE_TOLD_UNMAPPED]	= { EFAULT, "an external one was unmapped" },
	[RULE_TOLD_GONE]	= { ESRCH, "an external one's process is gone" },
};

/* Memory that exists can be registered, one way or the other. */
#define FEATURES_EXISTING	(XBZRLE_FEATURE_TRACKER_PTE | \
				 XBZRLE_FEATURE_TRACKER_EXTERNAL)

#define R(rule)		(1ULL << RULE_##rule)
/* What the dispatcher looks at, before it knows more of a call. */
#define R_STRUCT	(R(OK) | R(NO_SIZE) | R(SHORT) | R(LONG) | R(TAIL) | \
			 R(CUT) | R(FLAGS))
#define R_NAME		(R(NAME_LEN) | R(NAME_CUT) | R(NAME_NUL))
#define R_REGION	(R_STRUCT | R_NAME | R(LENGTH) | R(LIMIT) | \
			 R(CAPTURE) | R(IN_ROUND) | R(NAME_TAKEN) | \
			 R(NAME_KEPT) | R(ANSWER))
#define R_READ		(R(BYTES) | R(END) | R(NO_ROOM))
#define R_ENDED		(R(UNMAPPED) | R(GONE))
#define R_TOLD_ENDED	(R(TOLD_UNMAPPED) | R(TOLD_GONE))

/* All that can happen to each call, and has to, for the test to be one. */
static const uint64_t required[OPS] = {
	[OP_GET_INFO]	= R_STRUCT | R(ANSWER),
	[OP_CREATE]	= R_REGION | R(NO_FD),
	[OP_REGISTER]	= R_REGION | R(RESERVED) | R(PID) | R(TRACKER) |
			  R(ADDR) | R(RANGE) | R(NO_PROCESS) | R(RIGHTS) |
			  R(HOLE) | R(KIND) | R(TAKEN) | R(TOLD),
	[OP_UNREGISTER]	= R_STRUCT | R(RESERVED) | R(NO_REGION),
	[OP_SET_CACHE]	= R_STRUCT | R(LIMIT),
	[OP_SYNC]	= R_STRUCT | R(RESERVED) | R(IN_ROUND) | R(FINISHED) |
			  R(BUDGET) | R(EMPTY) | R(ANSWER) | R_ENDED | R_TOLD_ENDED,
	[OP_GET_STATS]	= R_STRUCT | R(ANSWER),
	[OP_MARK_DIRTY]	= R_STRUCT | R(RESERVED) | R(NO_REGION) | R(NO_UNITS) |
			  R(UNITS) | R(BITMAP) | R(TOLD),
	[OP_UNKNOWN]	= R(NO_CALL),
	[OP_READ]	= R_READ | R(BUFFER) | R(BUDGET) | R_ENDED,
	[OP_READV]	= R_READ | R(BUFFER),
	[OP_SPLICE]	= R_READ,
	[OP_POLL]	= R(POLL_IDLE) | R(POLL_IN) | R(POLL_GONE),
};

/* All memory that exists is of the wrong kind where none can be registered. */
static const uint64_t only_existing[OPS] = {
	[OP_REGISTER]	= R(OK) | R(HOLE),
	[OP_SYNC]	= R_ENDED,
	[OP_READ]	= R_ENDED,
	[OP_POLL]	= R(POLL_GONE),
};

static const uint64_t only_pte[OPS] = {
	[OP_REGISTER]	= R(TAKEN),
};

static const uint64_t only_external[OPS] = {
	[OP_REGISTER]	= R(TOLD),
	[OP_SYNC]	= R_TOLD_ENDED,
	[OP_MARK_DIRTY]	= R(TOLD),
};

/**
 * fuzz_rule_error - what a call returns for that reason
 * @rule: the reason
 *
 * Return: 0 or a negative errno.
 */
int fuzz_rule_error(enum fuzz_rule rule)
{
	return -rules[rule].error;
}

/**
 * fuzz_rule_text - the reason in words
 * @rule: the reason
 *
 * Return: a text.
 */
const char *fuzz_rule_text(enum fuzz_rule rule)
{
	return rules[rule].text;
}

/**
 * fuzz_rule_required - has a run to come upon that?
 * @op: a call
 * @rule: the reason for what it returns
 * @features: as GET_INFO tells them
 *
 * Return: whether it can be the reason, and does not take long to happen.
 */
bool fuzz_rule_required(enum fuzz_op op, enum fuzz_rule rule, uint64_t features)
{
	uint64_t mask = required[op];

	if (!(features & FEATURES_EXISTING))
		mask &= ~only_existing[op];
	if (!(features & XBZRLE_FEATURE_TRACKER_PTE))
		mask &= ~only_pte[op];
	if (!(features & XBZRLE_FEATURE_TRACKER_EXTERNAL))
		mask &= ~only_external[op];
	return mask >> rule & 1;
}

static enum fuzz_rule check_struct(const struct fuzz_view *view,
				   const struct fuzz_call *call)
{
	size_t known = fuzz_known_size(call->cmd), i;
	size_t size = call->arg.size;

	if (!known)
		return RULE_NO_CALL;
	if (!fuzz_view_allows(view, call->at, sizeof(call->arg.size), false))
		return RULE_NO_SIZE;
	if (size < known)
		return RULE_SHORT;
	if (size > UNIT)
		return RULE_LONG;
	for (i = known; i < size; i++) {
		if (!fuzz_view_allows(view, call->at + i, 1, false))
			return RULE_CUT;
		if (call->arg.bytes[i])
			return RULE_TAIL;
	}
	return fuzz_view_allows(view, call->at, known, false) ? RULE_OK :
								RULE_CUT;
}

static enum fuzz_rule check_name(const struct fuzz_view *view,
				 const struct fuzz_call *call, uint64_t at,
				 uint32_t len)
{
	if (!len || len > XBZRLE_NAME_MAX)
		return RULE_NAME_LEN;
	if (!fuzz_view_allows(view, at, len, false))
		return RULE_NAME_CUT;
	return memchr(call->name_bytes, 0, len) ? RULE_NAME_NUL : RULE_OK;
}

static enum fuzz_rule check_length(const struct xbzrle_info *info,
				   uint64_t length)
{
	if (!length || length % UNIT)
		return RULE_LENGTH;
	return length > info->max_region_length ? RULE_LIMIT : RULE_OK;
}

static enum fuzz_rule check_range(const struct xbzrle_register *reg)
{
	if (reg->addr + reg->length < reg->addr)
		return RULE_RANGE;
#ifndef __s390x__
	/* There the kernel has an address space of its own, and this a hole. */
	if (reg->addr >= FUZZ_KERNEL)
		return RULE_RANGE;
#endif
	return RULE_OK;
}

static enum fuzz_rule check_register(const struct xbzrle_info *info,
				     const struct fuzz_view *view,
				     const struct fuzz_call *call)
{
	const struct xbzrle_register *reg = &call->arg.reg;
	enum fuzz_rule rule;

	if (reg->reserved)
		return RULE_RESERVED;
	if (reg->pid < 0)
		return RULE_PID;
	if (reg->tracker != XBZRLE_TRACKER_AUTO &&
	    reg->tracker != XBZRLE_TRACKER_PTE &&
	    reg->tracker != XBZRLE_TRACKER_EXTERNAL &&
	    reg->tracker != XBZRLE_TRACKER_MAPPING)
		return RULE_TRACKER;
	if (reg->capture > XBZRLE_CAPTURE_FREEZE)
		return RULE_CAPTURE;
	if (reg->addr % UNIT)
		return RULE_ADDR;
	rule = check_length(info, reg->length);
	if (!rule)
		rule = check_range(reg);
	return rule ?: check_name(view, call, reg->name, reg->name_len);
}

/**
 * fuzz_predict_argument - what is wrong with the arguments of an ioctl?
 * @info: limits
 * @view: of who makes the call
 * @call: an ioctl
 *
 * Return: what does not depend on the state of the session or of memory, or
 * RULE_OK.
 */
enum fuzz_rule fuzz_predict_argument(const struct xbzrle_info *info,
				     const struct fuzz_view *view,
				     const struct fuzz_call *call)
{
	enum fuzz_rule rule = check_struct(view, call);
	const union fuzz_arg *arg = &call->arg;
	uint32_t flags = arg->flags;

	if (rule)
		return rule;
	if (call->op == OP_SYNC)
		flags &= ~(XBZRLE_SYNC_FINAL | XBZRLE_SYNC_FULL |
			   XBZRLE_SYNC_POINT_IN_TIME);
	if (flags)
		return RULE_FLAGS;
	switch (call->op) {
	case OP_CREATE:
		if (arg->create.capture > XBZRLE_CAPTURE_PREIMAGE)
			return RULE_CAPTURE;
		rule = check_length(info, arg->create.length);
		return rule ?: check_name(view, call, arg->create.name,
					  arg->create.name_len);
	case OP_REGISTER:
		return check_register(info, view, call);
	case OP_UNREGISTER:
		return arg->unregister.reserved ? RULE_RESERVED : RULE_OK;
	case OP_SET_CACHE:
		return arg->set_cache.bytes > info->max_cache ? RULE_LIMIT :
								RULE_OK;
	case OP_SYNC:
		return arg->sync.reserved ? RULE_RESERVED : RULE_OK;
	case OP_MARK_DIRTY:
		if (arg->mark_dirty.reserved)
			return RULE_RESERVED;
		return arg->mark_dirty.nr_units ? RULE_OK : RULE_NO_UNITS;
	default:
		return RULE_OK;
	}
}

static enum fuzz_rule check_session(const struct fuzz_session *session,
				    unsigned int name)
{
	unsigned int i;

	if (session->active)
		return RULE_IN_ROUND;
	for (i = 0; i < session->nr_regions; i++)
		if (session->regions[i].name == name)
			return RULE_NAME_TAKEN;
	return session->kept[name] ? RULE_NAME_KEPT : RULE_OK;
}

static enum fuzz_rule check_process(struct fuzz_state *state,
				    const struct fuzz_call *call,
				    struct fuzz_space **space)
{
	*space = &state->self;
	switch (call->who) {
	case WHO_NOBODY:
	case WHO_KTHREAD:
		return RULE_NO_PROCESS;
	case WHO_CHILD:
		*space = &state->child;
		if (state->child.gone)
			return RULE_NO_PROCESS;
		break;
	default:
		break;
	}
	return call->nobody ? RULE_RIGHTS : RULE_OK;
}

static uint64_t tracker_feature(uint32_t tracker)
{
	switch (tracker) {
	case XBZRLE_TRACKER_EXTERNAL:
		return XBZRLE_FEATURE_TRACKER_EXTERNAL;
	case XBZRLE_TRACKER_MAPPING:
		return XBZRLE_FEATURE_TRACKER_MAPPING;
	default:
		return XBZRLE_FEATURE_TRACKER_PTE;
	}
}

/* Which tracker is meant? The first page decides for AUTO. */
static uint32_t tracker_of(const struct fuzz_space *space,
			   const struct xbzrle_register *reg)
{
	if (reg->tracker != XBZRLE_TRACKER_AUTO)
		return reg->tracker;
	switch (fuzz_space_kind(space, reg->addr)) {
	case KIND_SHARED:
	case KIND_OWNED:
		return XBZRLE_TRACKER_MAPPING;
	default:
		return XBZRLE_TRACKER_PTE;
	}
}

/* Is it the page of the same file that belongs there? */
static bool is_one_piece(const struct fuzz_space *space,
			 const struct xbzrle_register *reg, uint64_t addr)
{
	unsigned int first, index;

	return fuzz_space_file(space, reg->addr, &first) ==
	       fuzz_space_file(space, addr, &index) &&
	       index - first == (addr - reg->addr) / UNIT;
}

/* The first address of a range that cannot be registered, and why. */
static enum fuzz_rule check_memory(const struct fuzz_space *space,
				   const struct xbzrle_register *reg,
				   uint64_t features, __u64 *addr)
{
	uint32_t tracker = tracker_of(space, reg);
	bool shared = tracker == XBZRLE_TRACKER_MAPPING ||
		      (reg->tracker == XBZRLE_TRACKER_PTE &&
		       reg->capture != XBZRLE_CAPTURE_FREEZE &&
		       fuzz_space_kind(space, reg->addr) == KIND_SHARED);
	enum fuzz_kind kind;

	*addr = reg->addr;
	if (!(features & tracker_feature(tracker)))
		return RULE_KIND;
	for (; *addr < reg->addr + reg->length; *addr += UNIT) {
		kind = fuzz_space_kind(space, *addr);
		if (kind == KIND_HOLE)
			return RULE_HOLE;
		if (tracker == XBZRLE_TRACKER_EXTERNAL)
			continue;
		if (kind != (shared ? KIND_SHARED : KIND_PRIVATE) ||
		    (tracker == XBZRLE_TRACKER_MAPPING &&
		     !is_one_piece(space, reg, *addr)))
			return RULE_KIND;
	}
	return RULE_OK;
}

static bool overlaps(const struct fuzz_region *r,
		     const struct fuzz_space *space, uint32_t tracker,
		     const struct xbzrle_register *reg)
{
	unsigned int index;

	if (r->tracker != tracker)
		return false;
	if (tracker == XBZRLE_TRACKER_PTE)
		return r->space == space && reg->addr < r->addr + r->length &&
		       r->addr < reg->addr + reg->length;
	/* Whoever has it mapped, and wherever. */
	return fuzz_space_file(space, reg->addr, &index) == r->file &&
	       index < r->index + r->length / UNIT &&
	       r->index < index + reg->length / UNIT;
}

/* Only one can take write permissions away; what ended does until it is dropped. */
static bool is_registered(const struct fuzz_state *state,
			  const struct fuzz_space *space,
			  const struct xbzrle_register *reg)
{
	uint32_t tracker = tracker_of(space, reg);
	const struct fuzz_session *session;
	unsigned int i, j;

	for (i = 0; i < FUZZ_SESSIONS; i++) {
		session = &state->sessions[i];
		for (j = 0; j < session->nr_regions; j++)
			if (overlaps(&session->regions[j], space, tracker, reg))
				return true;
	}
	return false;
}

static enum fuzz_rule predict_create(const struct fuzz_session *session,
				     const struct fuzz_call *call)
{
	enum fuzz_rule rule = check_session(session, call->name);

	if (!rule && call->no_fds)
		rule = RULE_NO_FD;
	return rule;
}

static enum fuzz_rule predict_register(struct fuzz_state *state,
				       const struct fuzz_call *call)
{
	const struct fuzz_session *session = &state->sessions[call->session];
	const struct xbzrle_register *reg = &call->arg.reg;
	struct fuzz_space *space;
	enum fuzz_rule rule;
	__u64 addr;

	rule = check_process(state, call, &space);
	if (!rule)
		rule = check_session(session, call->name);
	if (!rule)
		rule = check_memory(space, reg, state->info.features, &addr);
	if (!rule && reg->tracker != XBZRLE_TRACKER_EXTERNAL &&
	    is_registered(state, space, reg))
		rule = RULE_TAKEN;
	return rule;
}

/**
 * fuzz_find_ended - find a region that has ended
 * @session: whose
 * @error: the errno with which it did, 0 for any
 * @id: of the region, 0 for any
 *
 * Return: the first, or NULL.
 */
const struct fuzz_region *fuzz_find_ended(const struct fuzz_session *session,
					  int error, uint32_t id)
{
	const struct fuzz_region *r;
	unsigned int i;

	for (i = 0; i < session->nr_regions; i++) {
		r = &session->regions[i];
		if (r->error && (!error || r->error == error) &&
		    (!id || r->id == id))
			return r;
	}
	return NULL;
}

/**
 * fuzz_find_region() - a session's region
 * @session: the session
 * @id: the region's id
 *
 * Return: the region, or NULL if the model has none of that id.
 */
struct fuzz_region *fuzz_find_region(struct fuzz_session *session, uint32_t id)
{
	unsigned int i;

	for (i = 0; i < session->nr_regions; i++)
		if (session->regions[i].id == id)
			return &session->regions[i];
	return NULL;
}

static enum fuzz_rule predict_mark(struct fuzz_session *session,
				   const struct fuzz_view *view,
				   const struct xbzrle_mark_dirty *mark)
{
	const struct fuzz_region *r = fuzz_find_region(session, mark->region_id);
	uint64_t units = r ? r->length / UNIT : 0;

	if (!r)
		return RULE_NO_REGION;
	if (mark->first_unit >= units ||
	    mark->nr_units > units - mark->first_unit)
		return RULE_UNITS;
	return fuzz_view_allows(view, mark->bitmap, (mark->nr_units + 7) / 8,
				false) ? RULE_OK : RULE_BITMAP;
}

/**
 * fuzz_rule_told - is it that of an external region?
 * @session: whose
 * @call: an ioctl that was made, and that the model followed
 * @rule: why it returned what it returned
 *
 * Return: what it is counted as, too; RULE_OK if it is not.
 */
enum fuzz_rule fuzz_rule_told(struct fuzz_session *session,
			      const struct fuzz_call *call,
			      enum fuzz_rule rule)
{
	const struct fuzz_region *r;
	uint32_t id = 0;

	if (call->op == OP_REGISTER)
		id = call->out.reg.region_id;
	else if (call->op == OP_MARK_DIRTY)
		id = call->arg.mark_dirty.region_id;
	else if (call->op == OP_SYNC)
		id = call->out.sync.error_region;
	r = fuzz_find_region(session, id);
	if (!r || r->tracker != XBZRLE_TRACKER_EXTERNAL)
		return RULE_OK;
	switch (rule) {
	case RULE_OK:
		return RULE_TOLD;
	case RULE_UNMAPPED:
		return RULE_TOLD_UNMAPPED;
	case RULE_GONE:
		return RULE_TOLD_GONE;
	default:
		return RULE_OK;
	}
}

/*
 * What is enough for a moment whatever was written, in bytes; less may be enough,
 * too.
 */
static uint64_t room_needed(const struct fuzz_session *session)
{
	uint64_t bytes = 0;
	unsigned int i;

	for (i = 0; i < session->nr_regions; i++)
		bytes += session->regions[i].length;
	return bytes;
}

static struct fuzz_expect predict_sync(const struct fuzz_session *session,
				       uint32_t flags)
{
	const struct fuzz_region *ended = fuzz_find_ended(session, 0, 0);
	struct fuzz_expect expect = { .rule = RULE_OK };

	if (ended) {
		expect.or_ended = true;
		expect.rule = ended->error == -ESRCH ? RULE_GONE :
						       RULE_UNMAPPED;
	} else if (session->active) {
		expect.rule = RULE_IN_ROUND;
	} else if (session->finished && !(flags & XBZRLE_SYNC_FULL)) {
		expect.rule = RULE_FINISHED;
	} else if (!session->nr_regions) {
		expect.rule = RULE_EMPTY;
	} else {
		expect.or_budget = flags & XBZRLE_SYNC_POINT_IN_TIME &&
				   session->cache < room_needed(session);
	}
	return expect;
}

/* Calls that write to their struct, if only when they succeed. */
static bool answers(enum fuzz_op op, enum fuzz_rule rule)
{
	switch (op) {
	case OP_GET_INFO:
	case OP_GET_STATS:
	case OP_CREATE:
		return rule == RULE_OK;
	case OP_REGISTER:
		return rule == RULE_OK || rule == RULE_HOLE ||
		       rule == RULE_KIND;
	case OP_SYNC:
		return rule == RULE_OK || rule == RULE_UNMAPPED ||
		       rule == RULE_GONE;
	default:
		return false;
	}
}

static struct fuzz_expect predict_ioctl(struct fuzz_state *state,
					const struct fuzz_view *view,
					const struct fuzz_call *call)
{
	struct fuzz_session *session = &state->sessions[call->session];
	struct fuzz_expect expect = {
		.rule = fuzz_predict_argument(&state->info, view, call),
	};

	if (!expect.rule && call->op == OP_CREATE)
		expect.rule = predict_create(session, call);
	else if (!expect.rule && call->op == OP_REGISTER)
		expect.rule = predict_register(state, call);
	else if (!expect.rule && call->op == OP_UNREGISTER)
		expect.rule = fuzz_find_region(session,
					       call->arg.unregister.region_id) ?
			      RULE_OK : RULE_NO_REGION;
	else if (!expect.rule && call->op == OP_SYNC)
		expect = predict_sync(session, call->arg.flags);
	else if (!expect.rule && call->op == OP_MARK_DIRTY)
		expect.rule = predict_mark(session, view,
					   &call->arg.mark_dirty);
	if (!answers(call->op, expect.rule))
		return expect;
	expect.answer = fuzz_known_size(call->cmd);
	if (!fuzz_view_allows(view, call->at, expect.answer, true)) {
		expect.rule = RULE_ANSWER;
		expect.or_ended = false;
	}
	return expect;
}

static struct fuzz_expect predict_read(const struct fuzz_session *session,
				       const struct fuzz_view *view,
				       const struct fuzz_call *call)
{
	struct fuzz_expect expect = { .rule = RULE_BYTES };
	size_t len = call->len;

	if (call->op == OP_READV)
		len += call->len2;
	if (!len) {
		expect.rule = RULE_NO_ROOM;
	} else if (!session->active) {
		expect.rule = RULE_END;
	} else {
		/* Whether that comes next depends on what was written where. */
		expect.or_ended = fuzz_find_ended(session, 0, 0);
		expect.or_budget = session->moment && session->whole &&
				   (session->distrusted ||
				    session->room < room_needed(session));
		if (call->op != OP_SPLICE && call->len &&
		    !fuzz_view_allows(view, call->at, 1, true))
			expect.rule = RULE_BUFFER;
	}
	return expect;
}

static enum fuzz_rule predict_poll(const struct fuzz_session *session)
{
	unsigned int i;

	for (i = 0; i < session->nr_regions; i++)
		if (session->regions[i].gone)
			return RULE_POLL_GONE;
	return session->active ? RULE_POLL_IN : RULE_POLL_IDLE;
}

/**
 * fuzz_predict - what will a call return?
 * @state: the model's
 * @view: of who makes the call
 * @call: not made yet, and not one that only changes memory
 *
 * Return: what the documentation says.
 */
struct fuzz_expect fuzz_predict(struct fuzz_state *state,
				const struct fuzz_view *view,
				const struct fuzz_call *call)
{
	const struct fuzz_session *session = &state->sessions[call->session];
	struct fuzz_expect expect = { .rule = RULE_OK };

	if (call->op <= OP_UNKNOWN)
		return predict_ioctl(state, view, call);
	if (call->op <= OP_SPLICE)
		return predict_read(session, view, call);
	if (call->op == OP_POLL)
		expect.rule = predict_poll(session);
	return expect;
}

static const char *check_info(const struct fuzz_state *state,
			      const struct xbzrle_info *out)
{
	return memcmp((const char *)out + sizeof(out->size),
		      (const char *)&state->info + sizeof(out->size),
		      sizeof(*out) - sizeof(out->size)) ?
	       "GET_INFO is not what it was" : NULL;
}

static const char *check_new_region(const struct fuzz_session *session,
				    uint32_t id)
{
	unsigned int i;

	for (i = 0; i < session->nr_regions; i++)
		if (session->regions[i].id == id)
			return "the id is that of another region";
	return id ? NULL : "no id";
}

static const char *check_registered(const struct fuzz_state *state,
				    const struct fuzz_call *call,
				    enum fuzz_rule rule)
{
	const struct fuzz_space *space = call->who == WHO_CHILD ?
					 &state->child : &state->self;
	const struct xbzrle_register *out = &call->out.reg;
	struct xbzrle_register want = call->arg.reg;
	const char *why = NULL;

	if (rule == RULE_OK) {
		why = check_new_region(&state->sessions[call->session],
				       out->region_id);
		want.tracker = tracker_of(space, &call->arg.reg);
		if (want.capture == XBZRLE_CAPTURE_AUTO)
			want.capture = XBZRLE_CAPTURE_COPY;
		want.region_id = out->region_id;
		want.error_addr = out->error_addr;
	} else {
		want.region_id = 0;
		check_memory(space, &call->arg.reg, state->info.features,
			     &want.error_addr);
	}
	if (memcmp(&want, out, sizeof(want)))
		return "REGISTER gave back something else";
	return why;
}

static const char *check_synced(const struct fuzz_session *session,
				const struct fuzz_call *call,
				enum fuzz_rule rule)
{
	const struct xbzrle_sync *out = &call->out.sync;
	struct xbzrle_sync want = call->arg.sync;
	const struct fuzz_region *ended;
	uint64_t pages = 0;
	unsigned int i;

	want.error_region = 0;
	want.error_addr = 0;
	if (rule == RULE_BUDGET)
		return memcmp(&want, out, sizeof(want)) ?
		       "SYNC names a region that is all right" : NULL;
	if (rule != RULE_OK) {
		ended = fuzz_find_ended(session, call->ret, out->error_region);
		if (!out->error_region || !ended)
			return "no such region has ended with that";
		want.error_region = out->error_region;
		want.error_addr = out->error_addr;
		if (rule == RULE_UNMAPPED &&
		    out->error_addr != ended->error_addr)
			return "it ended at another address";
		return memcmp(&want, out, sizeof(want)) ?
		       "SYNC that failed gave back something else" : NULL;
	}
	for (i = 0; i < session->nr_regions; i++)
		pages += session->regions[i].length / UNIT;
	if (out->size != want.size || out->flags != want.flags ||
	    out->error_region || out->error_addr || out->reserved ||
	    out->round != session->round + 1)
		return "SYNC gave back something else";
	return out->dirty_pages > pages || out->based_pages > out->dirty_pages ?
	       "more pages than there are" : NULL;
}

static const char *check_stats(const struct fuzz_session *session,
			       const struct xbzrle_stats *out)
{
	if (out->rounds != session->round ||
	    out->round_left != session->active)
		return "rounds are counted otherwise";
	/* What is kept for a moment stays when the budget shrinks. */
	if (out->cache_bytes != session->cache ||
	    (out->cache_used > out->cache_bytes && !session->moment))
		return "the budget is another one";
	if (out->torn_rounds != session->torn &&
	    !(session->moment && session->whole &&
	      out->torn_rounds == session->torn + 1))
		return "torn rounds are counted otherwise";
	if (session->active)
		return out->stream_bytes < session->bytes ?
		       "less was encoded than read" : NULL;
	if (out->pending_pages)
		return "something is left of a round that was read";
	return out->stream_bytes != session->bytes ?
	       "not as much was encoded as was read" : NULL;
}

/**
 * fuzz_check_answer - is the struct that came back right?
 * @state: the model's, before fuzz_commit()
 * @call: an ioctl that returned what was expected
 * @expect: that
 *
 * Return: NULL, or what is wrong.
 */
const char *fuzz_check_answer(const struct fuzz_state *state,
			      const struct fuzz_call *call,
			      const struct fuzz_expect *expect)
{
	const struct fuzz_session *session = &state->sessions[call->session];
	struct xbzrle_create want = call->arg.create;

	if (!expect->answer || expect->rule == RULE_ANSWER)
		return NULL;
	switch (call->op) {
	case OP_GET_INFO:
		return check_info(state, &call->out.info);
	case OP_CREATE:
		want.region_id = call->out.create.region_id;
		want.fd = call->out.create.fd;
		if (want.capture == XBZRLE_CAPTURE_AUTO)
			want.capture = XBZRLE_CAPTURE_PREIMAGE;
		if (memcmp(&want, &call->out.create, sizeof(want)))
			return "CREATE gave back something else";
		return check_new_region(session, want.region_id);
	case OP_REGISTER:
		return check_registered(state, call, expect->rule);
	case OP_SYNC:
		return check_synced(session, call, expect->rule);
	default:
		return check_stats(session, &call->out.stats);
	}
}

static struct fuzz_region *add_region(struct fuzz_session *session,
				      const struct fuzz_call *call)
{
	struct fuzz_region *r = &session->regions[session->nr_regions++];

	memset(r, 0, sizeof(*r));
	r->name = call->name;
	return r;
}

static void commit_create(struct fuzz_session *session,
			  const struct fuzz_call *call)
{
	struct fuzz_region *r = add_region(session, call);

	r->id = call->out.create.region_id;
	r->length = call->out.create.length;
	r->tracker = XBZRLE_TRACKER_OWNED;
}

static void commit_register(struct fuzz_state *state,
			    const struct fuzz_call *call)
{
	struct fuzz_region *r = add_region(&state->sessions[call->session],
					   call);

	r->id = call->out.reg.region_id;
	r->length = call->out.reg.length;
	r->addr = call->out.reg.addr;
	r->tracker = call->out.reg.tracker;
	r->space = call->who == WHO_CHILD ? &state->child : &state->self;
	if (r->tracker == XBZRLE_TRACKER_MAPPING)
		r->file = fuzz_space_file(r->space, r->addr, &r->index);
}

static void commit_unregister(struct fuzz_session *session, uint32_t id)
{
	struct fuzz_region *r = fuzz_find_region(session, id);

	if (r->announced)
		session->kept[r->name] = true;
	*r = session->regions[--session->nr_regions];
}

static void commit_sync(struct fuzz_session *session, uint32_t flags)
{
	unsigned int i;

	session->round++;
	session->active = true;
	session->finished = flags & XBZRLE_SYNC_FINAL;
	session->moment = flags & XBZRLE_SYNC_POINT_IN_TIME;
	session->whole = session->moment;
	session->room = session->cache;
	session->distrusted = false;
	for (i = 0; i < session->nr_regions; i++) {
		fuzz_told_begin(&session->regions[i], flags);
		session->regions[i].announced = true;
	}
	if (!(flags & XBZRLE_SYNC_FULL))
		return;
	/* The next receiver knows nothing. */
	memset(session->kept, 0, sizeof(session->kept));
	model_free(session->receiver);
	session->receiver = model_new();
}

/**
 * fuzz_commit - have the model follow
 * @state: the model's
 * @call: an ioctl that succeeded
 */
void fuzz_commit(struct fuzz_state *state, const struct fuzz_call *call)
{
	struct fuzz_session *session = &state->sessions[call->session];

	switch (call->op) {
	case OP_CREATE:
		commit_create(session, call);
		break;
	case OP_REGISTER:
		commit_register(state, call);
		break;
	case OP_UNREGISTER:
		commit_unregister(session, call->arg.unregister.region_id);
		break;
	case OP_SET_CACHE:
		session->cache = call->arg.set_cache.bytes / UNIT * UNIT;
		if (session->cache < session->room)
			session->room = session->cache;
		break;
	case OP_SYNC:
		commit_sync(session, call->arg.flags);
		break;
	case OP_MARK_DIRTY:
		if (fuzz_find_region(session, call->arg.mark_dirty.region_id)
		    ->tracker == XBZRLE_TRACKER_OWNED)
			session->distrusted = true;
		fuzz_told_marked(fuzz_find_region(session,
						  call->arg.mark_dirty.region_id),
				 &call->arg.mark_dirty, call->bitmap);
		break;
	default:
		break;
	}
}

static void end_region(struct fuzz_region *r, struct fuzz_space *space,
		       uint64_t start, uint64_t end)
{
	if (r->space != space || r->error || end <= r->addr ||
	    r->addr + r->length <= start)
		return;
	r->error = -EFAULT;
	r->error_addr = start > r->addr ? start : r->addr;
}

/**
 * fuzz_unmapped - pages are no longer what they were
 * @state: the model's
 * @space: whose
 * @first: index of the first
 * @nr: how many
 */
void fuzz_unmapped(struct fuzz_state *state, struct fuzz_space *space,
		   unsigned int first, unsigned int nr)
{
	uint64_t start = FUZZ_BASE + first * UNIT;
	struct fuzz_session *session;
	unsigned int i, j;

	for (i = 0; i < FUZZ_SESSIONS; i++) {
		session = &state->sessions[i];
		for (j = 0; j < session->nr_regions; j++)
			end_region(&session->regions[j], space, start,
				   start + nr * UNIT);
	}
}

/**
 * fuzz_process_gone - a process has ended, or is another program now
 * @state: the model's
 * @space: its memory
 */
void fuzz_process_gone(struct fuzz_state *state, struct fuzz_space *space)
{
	struct fuzz_session *session;
	struct fuzz_region *r;
	unsigned int i, j;

	for (i = 0; i < FUZZ_SESSIONS; i++) {
		session = &state->sessions[i];
		for (j = 0; j < session->nr_regions; j++) {
			r = &session->regions[j];
			if (r->space != space)
				continue;
			/* If it had ended before, that stays the reason. */
			if (!r->error)
				r->error = -ESRCH;
			r->gone = true;
			r->space = NULL;
		}
	}
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Calls made at random, most of them almost right. What a call asks for is a
 * function of the seed and its number, whatever the calls before it came to.
 */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

#include "kselftest.h"

#define NOBODY		65534
#define VIEW_STRIDE	((uintptr_t)1 << 20)

/* The pages of a view. A struct of a page fits where there are two. */
enum view_page {
	PAGE_EDGE,
	PAGE_HOLE,
	PAGE_FIRST,
	PAGE_SECOND,
	PAGE_READ_ONLY,
	PAGE_HOLE_2,
	PAGE_NAME,
	PAGE_HOLE_3,
	VIEW_PAGES,
};

#define VIEW_SIZE	(VIEW_PAGES * UNIT)

static const int view_prot[VIEW_PAGES] = {
	[PAGE_EDGE]		= PROT_READ | PROT_WRITE,
	[PAGE_FIRST]		= PROT_READ | PROT_WRITE,
	[PAGE_SECOND]		= PROT_READ | PROT_WRITE,
	[PAGE_READ_ONLY]	= PROT_READ,
	[PAGE_NAME]		= PROT_READ | PROT_WRITE,
};

const char * const fuzz_op_names[OPS] = {
	"GET_INFO", "CREATE", "REGISTER", "UNREGISTER", "SET_CACHE", "SYNC",
	"GET_STATS", "MARK_DIRTY", "unknown ioctl", "read", "readv", "splice", "poll",
	"reopen", "map", "move", "write", "child",
};

/* How often each is made, out of the sum. */
static const unsigned int weights[OPS] = {
	[OP_GET_INFO]	= 5,
	[OP_CREATE]	= 12,
	[OP_REGISTER]	= 24,
	[OP_UNREGISTER]	= 9,
	[OP_SET_CACHE]	= 5,
	[OP_SYNC]	= 14,
	[OP_GET_STATS]	= 5,
	[OP_MARK_DIRTY]	= 14,
	[OP_UNKNOWN]	= 2,
	[OP_READ]	= 14,
	[OP_READV]	= 3,
	[OP_SPLICE]	= 4,
	[OP_POLL]	= 5,
	[OP_REOPEN]	= 1,
	[OP_MAP]	= 4,
	[OP_MOVE]	= 1,
	[OP_WRITE]	= 6,
	[OP_CHILD]	= 3,
};

static const size_t known_sizes[] = {
	[OP_GET_INFO]	= sizeof(struct xbzrle_info),
	[OP_CREATE]	= sizeof(struct xbzrle_create),
	[OP_REGISTER]	= sizeof(struct xbzrle_register),
	[OP_UNREGISTER]	= sizeof(struct xbzrle_unregister),
	[OP_SET_CACHE]	= sizeof(struct xbzrle_set_cache),
	[OP_SYNC]	= sizeof(struct xbzrle_sync),
	[OP_GET_STATS]	= sizeof(struct xbzrle_stats),
	[OP_MARK_DIRTY]	= sizeof(struct xbzrle_mark_dirty),
};

/**
 * fuzz_view_init - map a view
 * @view: filled in
 * @index: another one for each view
 *
 * Return: false if it cannot be had.
 */
bool fuzz_view_init(struct fuzz_view *view, unsigned int index)
{
	int fd = memfd_create("view", MFD_CLOEXEC);
	bool ok = fd >= 0 && !ftruncate(fd, VIEW_SIZE);
	unsigned int i;

	view->base = FUZZ_VIEWS + index * VIEW_STRIDE;
	view->alias = mmap(NULL, VIEW_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			   fd, 0);
	view->before = mmap(NULL, VIEW_SIZE + FUZZ_BUFFER,
			    PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ok &= view->alias != MAP_FAILED && view->before != MAP_FAILED;
	view->buffer = view->before + VIEW_SIZE;
	for (i = 0; i < VIEW_PAGES; i++)
		if (view_prot[i])
			ok &= mmap((void *)(view->base + i * UNIT), UNIT,
				   view_prot[i],
				   MAP_SHARED | MAP_FIXED_NOREPLACE, fd,
				   i * UNIT) == (void *)(view->base + i * UNIT);
	close(fd);
	return ok;
}

/**
 * fuzz_view_destroy - unmap it
 * @view: the view
 */
void fuzz_view_destroy(struct fuzz_view *view)
{
	munmap((void *)view->base, VIEW_SIZE);
	munmap(view->alias, VIEW_SIZE);
	munmap(view->before, VIEW_SIZE + FUZZ_BUFFER);
}

static bool in_view(const struct fuzz_view *view, uintptr_t at)
{
	return at >= view->base && at - view->base < VIEW_SIZE;
}

/**
 * fuzz_view_allows - can the kernel use that memory?
 * @view: the view
 * @at: address
 * @len: bytes; in the view or outside of it, and less than a gap between both
 * @write: to be written rather than read
 *
 * Return: whether all of it can be read or written.
 */
bool fuzz_view_allows(const struct fuzz_view *view, uintptr_t at, size_t len,
		      bool write)
{
	int prot = write ? PROT_WRITE : PROT_READ;
	size_t i;

	if (at >= (uintptr_t)view->buffer &&
	    at - (uintptr_t)view->buffer < FUZZ_BUFFER)
		return len <= FUZZ_BUFFER - (at - (uintptr_t)view->buffer);
	for (i = 0; i < len; i++)
		if (!in_view(view, at + i) ||
		    !(view_prot[(at + i - view->base) / UNIT] & prot))
			return false;
	return true;
}

/**
 * fuzz_known_size - how long is the struct?
 * @cmd: number of the ioctl
 *
 * Return: bytes that the kernel knows of it, 0 for an unknown call.
 */
size_t fuzz_known_size(unsigned int cmd)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(known_sizes); i++)
		if (cmd == _IO(XBZRLE_IOC_TYPE, i))
			return known_sizes[i];
	return 0;
}

/* With these the struct itself is most of what may be wrong. */
static bool has_few_members(enum fuzz_op op)
{
	return op != OP_CREATE && op != OP_REGISTER && op != OP_SYNC &&
	       op != OP_MARK_DIRTY;
}

static bool one_in(uint64_t *state, unsigned int n)
{
	return !rnd_below(state, n);
}

/**
 * fuzz_name - names differ in content, or in length only
 * @name: filled in
 * @index: of the name
 *
 * Return: its length.
 */
size_t fuzz_name(unsigned char *name, unsigned int index)
{
	static const unsigned char lengths[FUZZ_NAMES] = {
		1, 1, 1, 1, 2, 2, 3, 4, 8, 16, 31, 64, 100, 200, 254, 255,
	};

	memset(name, index < 4 ? 'a' + index : 'x', lengths[index]);
	if (index == 5)
		name[1] = 0xff;
	return lengths[index];
}

/* Sets the name's address and length, one way or the other. */
static uint64_t make_name(struct fuzz_call *call, const struct fuzz_view *view,
			  uint64_t *state, __u32 *len)
{
	uintptr_t at = view->base + PAGE_NAME * UNIT;
	static const __u32 bad_lengths[] = {
		0, XBZRLE_NAME_MAX + 1, UNIT, 1U << 31, UINT32_MAX,
	};
	unsigned int fault;

	call->name = rnd_below(state, FUZZ_NAMES);
	*len = fuzz_name(call->name_bytes, call->name);
	fault = rnd_below(state, 40);
	switch (fault) {
	case 0:
		*len = bad_lengths[rnd_below(state, ARRAY_SIZE(bad_lengths))];
		break;
	case 1:
		call->name_bytes[rnd_below(state, *len)] = 0;
		break;
	case 2:
		at = one_in(state, 2) ? 0 : FUZZ_KERNEL;
		break;
	case 3:
		at += UNIT - rnd_below(state, *len);
		break;
	default:
		/* To the last byte of the page, and no further. */
		if (one_in(state, 2))
			at += UNIT - *len;
	}
	return at;
}

static uint64_t make_length(const struct xbzrle_info *limits, uint64_t *state)
{
	switch (rnd_below(state, 64)) {
	case 0:
		return 0;
	case 1:
		return rnd_below(state, UNIT - 1) + 1;
	case 2:
		return (rnd_below(state, 64) + 1) * UNIT +
		       (1ULL << rnd_below(state, 12));
	case 3:
		return limits->max_region_length + UNIT;
	case 4:
		return -UNIT;
	case 5:
		return -1ULL;
	case 6:
		return 1ULL << 30;
	case 7:
		return rnd(state) | limits->max_region_length;
	default:
		return (1 + rnd_below(state, one_in(state, 12) ? 64 : 3)) * UNIT;
	}
}

static void make_create(struct fuzz_call *call, const struct fuzz_view *view,
			const struct xbzrle_info *limits, uint64_t *state)
{
	struct xbzrle_create *arg = &call->arg.create;

	arg->length = make_length(limits, state);
	arg->name = make_name(call, view, state, &arg->name_len);
	arg->capture = rnd_below(state, XBZRLE_CAPTURE_PREIMAGE + 1);
	if (one_in(state, 24))
		arg->capture = XBZRLE_CAPTURE_PREIMAGE + 1 + rnd(state) % 1000;
	/* What is only given back may hold anything. */
	arg->region_id = rnd(state);
	arg->fd = rnd(state);
	call->no_fds = one_in(state, 30);
}

static void make_range(struct xbzrle_register *arg,
		       const struct xbzrle_info *limits, uint64_t *state)
{
	arg->addr = FUZZ_BASE + rnd_below(state, FUZZ_PAGES) * UNIT;
	arg->length = make_length(limits, state);
	switch (rnd_below(state, 80)) {
	case 0:
		arg->addr += 1 + rnd_below(state, UNIT - 1);
		break;
	case 1:
		arg->addr = FUZZ_KERNEL;
		break;
	case 2:
		arg->addr = -UNIT;
		break;
	case 3:
		arg->addr = 0;
		break;
	case 4:
	case 5:
		arg->addr = FUZZ_HUGE;
		break;
	case 6:
		arg->addr = FUZZ_BASE - UNIT;
		break;
	}
}

static void make_register(struct fuzz_call *call, const struct fuzz_view *view,
			  const struct xbzrle_info *limits, uint64_t *state)
{
	static const __u32 trackers[] = {
		XBZRLE_TRACKER_AUTO, XBZRLE_TRACKER_PTE,
		XBZRLE_TRACKER_EXTERNAL, XBZRLE_TRACKER_MAPPING,
	};
	struct xbzrle_register *arg = &call->arg.reg;
	unsigned int fault = rnd_below(state, 80);

	make_range(arg, limits, state);
	arg->name = make_name(call, view, state, &arg->name_len);
	arg->tracker = trackers[rnd_below(state, ARRAY_SIZE(trackers))];
	arg->capture = rnd_below(state, 2);
	/* Of the others each is for one tracker. */
	if (arg->tracker == XBZRLE_TRACKER_PTE && one_in(state, 2) &&
	    limits->features & XBZRLE_FEATURE_CAPTURE_FREEZE)
		arg->capture = XBZRLE_CAPTURE_FREEZE;
	arg->region_id = rnd(state);
	arg->error_addr = rnd(state);
	if (fault == 0)
		arg->tracker = XBZRLE_TRACKER_OWNED;
	else if (fault == 1)
		arg->tracker = XBZRLE_TRACKER_MAPPING + 1 +
			       rnd_below(state, 1000);
	else if (fault == 2)
		arg->capture = XBZRLE_CAPTURE_FREEZE + 1 + rnd(state) % 1000;
	else if (fault == 3)
		arg->reserved = 1U << rnd_below(state, 32);

	switch (rnd_below(state, 40)) {
	case 0:
		call->who = WHO_NOBODY;
		break;
	case 1:
		call->who = WHO_KTHREAD;
		break;
	case 2:
		call->who = WHO_NEGATIVE;
		break;
	case 3 ... 6:
		call->who = WHO_PID;
		break;
	case 7 ... 18:
		call->who = WHO_CHILD;
		break;
	default:
		call->who = WHO_ZERO;
	}
	call->nobody = one_in(state, 50);
	if (call->nobody && call->who == WHO_ZERO)
		call->who = WHO_PID;
}

/* Most regions have few units, so half of these are in them. */
static void make_units(struct xbzrle_mark_dirty *arg, uint64_t *state)
{
	arg->first_unit = rnd_below(state, 3);
	arg->nr_units = 1 + rnd_below(state, one_in(state, 6) ? 64 : 3);
	switch (rnd_below(state, 32)) {
	case 0:
		arg->nr_units = 0;
		break;
	case 1:
		/* The last of them would be in the region again. */
		arg->nr_units = -arg->first_unit + rnd_below(state, 2);
		break;
	case 2:
		arg->first_unit = -1 - rnd_below(state, 3);
		break;
	case 3:
		arg->first_unit = rnd(state);
		break;
	case 4:
		/* As many as a page has bits, or one more. */
		arg->nr_units = UNIT * 8 + rnd_below(state, 2);
		break;
	}
}

static void make_mark(struct fuzz_call *call, const struct fuzz_view *view,
		      uint64_t *state)
{
	struct xbzrle_mark_dirty *arg = &call->arg.mark_dirty;
	uintptr_t at = view->base + PAGE_NAME * UNIT;
	unsigned int i;
	size_t bytes;

	make_units(arg, state);
	for (i = 0; i < sizeof(call->bitmap); i++)
		call->bitmap[i] = rnd(state) >> 32;
	bytes = (arg->nr_units + 7) / 8;
	switch (rnd_below(state, 12)) {
	case 0:
		at = one_in(state, 2) ? 0 : FUZZ_KERNEL;
		break;
	case 1:
		at += UNIT - rnd_below(state, 2);
		break;
	default:
		/* To the last byte of the page, and no further. */
		if (bytes && bytes <= UNIT && one_in(state, 2))
			at += UNIT - bytes;
		else
			at += rnd_below(state, 16);
	}
	arg->bitmap = at;
	/* The one that @pick stands for is filled in. */
	if (one_in(state, 16))
		arg->region_id = rnd(state) | 1U << 20;
	if (one_in(state, 24))
		arg->reserved = 1U << rnd_below(state, 32);
}

static void make_members(struct fuzz_call *call, const struct fuzz_view *view,
			 uint64_t *state)
{
	/* Those that a kernel says itself are not to change what is asked. */
	static const struct xbzrle_info limits = {
		.max_region_length = 1ULL << 44,
		.max_cache = 1ULL << 39,
	};
	union fuzz_arg *arg = &call->arg;

	switch (call->op) {
	case OP_CREATE:
		make_create(call, view, &limits, state);
		break;
	case OP_REGISTER:
		make_register(call, view, &limits, state);
		break;
	case OP_UNREGISTER:
		/* The one that @pick stands for is filled in. */
		if (one_in(state, 6))
			arg->unregister.region_id = rnd(state) | 1U << 20;
		if (one_in(state, 24))
			arg->unregister.reserved = 1U << rnd_below(state, 32);
		break;
	case OP_SET_CACHE:
		arg->set_cache.bytes = rnd_below(state, 64 * UNIT);
		if (one_in(state, 8))
			arg->set_cache.bytes = limits.max_cache +
					       rnd_below(state, 3) * UNIT;
		else if (one_in(state, 16))
			arg->set_cache.bytes = rnd(state);
		break;
	case OP_SYNC:
		if (one_in(state, 4))
			arg->flags |= XBZRLE_SYNC_FULL;
		if (one_in(state, 10))
			arg->flags |= XBZRLE_SYNC_FINAL;
		if (one_in(state, 3))
			arg->flags |= XBZRLE_SYNC_POINT_IN_TIME;
		if (one_in(state, 24))
			arg->sync.reserved = 1U << rnd_below(state, 32);
		/* What is not looked at. */
		arg->sync.error_addr = rnd(state);
		arg->sync.error_region = rnd_below(state, 8);
		break;
	case OP_MARK_DIRTY:
		make_mark(call, view, state);
		break;
	default:
		break;
	}
}

/* The struct's own size, and what stands behind the part that is known. */
static void make_size(struct fuzz_call *call, size_t known, uint64_t *state)
{
	union fuzz_arg *arg = &call->arg;

	switch (rnd_below(state, has_few_members(call->op) ? 18 : 32)) {
	case 0:
		arg->size = rnd_below(state, known);
		break;
	case 1:
		arg->size = one_in(state, 2) ? known - 1 : 0;
		break;
	case 2:
		arg->size = known + 1 + rnd_below(state, FUZZ_ROOM - known);
		break;
	case 3:
		arg->size = known + 1 + rnd_below(state, FUZZ_ROOM - known);
		arg->bytes[known + rnd_below(state, arg->size - known)] = 1;
		break;
	case 4:
		arg->size = FUZZ_ROOM;
		break;
	case 5:
		arg->size = one_in(state, 2) ? FUZZ_ROOM + 1 : rnd(state);
		break;
	default:
		arg->size = known;
	}
}

/* Where the struct is. */
static uintptr_t make_place(const struct fuzz_call *call,
			    const struct fuzz_view *view, uint64_t *state)
{
	uintptr_t at = view->base;
	size_t size = call->arg.size;

	if (size < 8 || size > FUZZ_ROOM)
		size = 64;
	switch (rnd_below(state, has_few_members(call->op) ? 24 : 48)) {
	case 0:
		return 0;
	case 1:
		return FUZZ_KERNEL + rnd_below(state, UNIT);
	case 2:
		return at + PAGE_HOLE * UNIT + rnd_below(state, UNIT);
	case 3:
		return at + PAGE_HOLE * UNIT - 1 - rnd_below(state, size - 1);
	case 4:
		return at + PAGE_READ_ONLY * UNIT;
	case 5:
		return at + PAGE_READ_ONLY * UNIT - 1 -
		       rnd_below(state, size - 1);
	case 6:
		return at + PAGE_FIRST * UNIT + rnd_below(state, UNIT);
	case 7:
		/* To the last byte before the hole. */
		return at + PAGE_HOLE * UNIT - size;
	default:
		return at + PAGE_FIRST * UNIT +
		       (rnd_below(state, UNIT) & ~7UL);
	}
}

static void make_ioctl(struct fuzz_call *call, const struct fuzz_view *view,
		       uint64_t *state)
{
	size_t known;

	call->cmd = _IO(XBZRLE_IOC_TYPE, call->op);
	known = fuzz_known_size(call->cmd);
	make_members(call, view, state);
	if (one_in(state, has_few_members(call->op) ? 12 : 32))
		call->arg.flags |= 1U << rnd_below(state, 32);
	make_size(call, known, state);
	call->at = make_place(call, view, state);
}

/* The types are not among those that every file knows ioctls of. */
static void make_unknown(struct fuzz_call *call, const struct fuzz_view *view,
			 uint64_t *state)
{
	unsigned int nr = rnd_below(state, 256);

	switch (rnd_below(state, 4)) {
	case 0:
		call->cmd = _IO(XBZRLE_IOC_TYPE + 1, nr);
		break;
	case 1:
		call->cmd = _IOWR(XBZRLE_IOC_TYPE, nr % 8, __u64);
		break;
	case 2:
		call->cmd = _IOR(XBZRLE_IOC_TYPE, nr % 8, __u32);
		break;
	default:
		call->cmd = _IO(XBZRLE_IOC_TYPE, OP_UNKNOWN + nr % 64);
	}
	call->arg.size = sizeof(call->arg.info);
	call->at = make_place(call, view, state);
}

/* Buffers to read into: none, tiny ones, and more than a round ever is. */
static void make_buffer(struct fuzz_call *call, const struct fuzz_view *view,
			uint64_t *state)
{
	call->at = (uintptr_t)view->buffer;
	call->len = FUZZ_BUFFER / 2;
	call->len2 = FUZZ_BUFFER / 2;
	switch (rnd_below(state, 12)) {
	case 0:
		call->len = 0;
		call->len2 = 0;
		break;
	case 1 ... 3:
		call->len = 1 + rnd_below(state, 300);
		call->len2 = rnd_below(state, 300);
		break;
	case 4:
		call->len = UNIT + rnd_below(state, 4 * UNIT);
		break;
	case 5 ... 6:
		/* Never any of it can be written. */
		call->at = view->base + UNIT * (one_in(state, 2) ? PAGE_HOLE :
						PAGE_READ_ONLY);
		call->len = 1 + rnd_below(state, UNIT);
		call->len2 = 0;
		break;
	case 7:
		/* The end cannot be. */
		call->at = view->base + PAGE_HOLE * UNIT - 512;
		call->len = UNIT;
		call->len2 = 0;
		break;
	}
}

static void make_memory(struct fuzz_call *call, uint64_t *state)
{
	static const enum fuzz_kind kinds[] = {
		KIND_HOLE, KIND_HOLE, KIND_PRIVATE, KIND_PRIVATE, KIND_PRIVATE,
		KIND_PRIVATE, KIND_PRIVATE, KIND_PRIVATE, KIND_PRIVATE,
		KIND_SHARED, KIND_SHARED, KIND_OWNED, KIND_FILE,
	};

	call->child = one_in(state, 3);
	call->first = rnd_below(state, FUZZ_PAGES);
	call->nr = 1 + rnd_below(state, 8);
	if (call->nr > FUZZ_PAGES - call->first)
		call->nr = FUZZ_PAGES - call->first;
	call->kind = kinds[rnd_below(state, ARRAY_SIZE(kinds))];
}

static enum fuzz_op pick_op(uint64_t *state)
{
	unsigned int sum = 0, i;
	uint64_t at;

	for (i = 0; i < OPS; i++)
		sum += weights[i];
	at = rnd_below(state, sum);
	for (i = 0; at >= weights[i]; i++)
		at -= weights[i];
	return i;
}

/**
 * fuzz_make_call - make a call at random
 * @call: filled in
 * @view: of who is to make it
 * @seed: the same seed and number give the same call
 * @number: of the call
 */
void fuzz_make_call(struct fuzz_call *call, const struct fuzz_view *view,
		    uint64_t seed, uint64_t number)
{
	uint64_t state = rnd_seed(seed, number);

	memset(call, 0, sizeof(*call));
	call->number = number;
	call->op = pick_op(&state);
	call->session = rnd_below(&state, FUZZ_SESSIONS);
	call->pick = rnd(&state) >> 32;
	switch (call->op) {
	case OP_READ:
	case OP_READV:
	case OP_SPLICE:
		make_buffer(call, view, &state);
		break;
	case OP_UNKNOWN:
		make_unknown(call, view, &state);
		break;
	case OP_MAP:
	case OP_MOVE:
	case OP_WRITE:
	case OP_CHILD:
		make_memory(call, &state);
		break;
	case OP_POLL:
	case OP_REOPEN:
		break;
	default:
		make_ioctl(call, view, &state);
	}
}

/**
 * fuzz_make_sync - make a SYNC with which nothing is wrong
 * @call: filled in, but for the session and what is random
 * @view: of who is to make it
 */
void fuzz_make_sync(struct fuzz_call *call, const struct fuzz_view *view)
{
	call->op = OP_SYNC;
	call->cmd = XBZRLE_IOC_SYNC;
	memset(&call->arg, 0, sizeof(call->arg));
	call->arg.size = sizeof(call->arg.sync);
	call->at = view->base + PAGE_FIRST * UNIT;
}

/**
 * fuzz_region_id - the region that a call names
 * @call: any call
 *
 * Return: where its struct has the id, or NULL.
 */
__u32 *fuzz_region_id(struct fuzz_call *call)
{
	switch (call->op) {
	case OP_UNREGISTER:
		return &call->arg.unregister.region_id;
	case OP_MARK_DIRTY:
		return &call->arg.mark_dirty.region_id;
	default:
		return NULL;
	}
}

/* As much of the struct as there are pages for. */
static size_t bytes_in_view(const struct fuzz_call *call,
			    const struct fuzz_view *view)
{
	size_t len = call->arg.size;

	if (len < sizeof(call->arg.flags) * 2)
		len = sizeof(call->arg.flags) * 2;
	if (len > FUZZ_ROOM)
		len = FUZZ_ROOM;
	if (!in_view(view, call->at))
		return 0;
	if (len > view->base + VIEW_SIZE - call->at)
		len = view->base + VIEW_SIZE - call->at;
	return len;
}

/* Without the capability that another process' memory takes. */
static int ioctl_as_nobody(const struct fuzz_call *call, int fd)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		if (setresgid(NOBODY, NOBODY, NOBODY) ||
		    setresuid(NOBODY, NOBODY, NOBODY))
			_exit(UINT8_MAX);
		_exit(-dev_ioctl(fd, call->cmd, (void *)call->at));
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -UINT8_MAX;
}

static int ioctl_without_fds(const struct fuzz_call *call, int fd)
{
	struct rlimit old, none;
	int ret;

	getrlimit(RLIMIT_NOFILE, &old);
	none = old;
	none.rlim_cur = 0;
	setrlimit(RLIMIT_NOFILE, &none);
	ret = dev_ioctl(fd, call->cmd, (void *)call->at);
	setrlimit(RLIMIT_NOFILE, &old);
	return ret;
}

/* Put what the struct has the address of, where it is in the view. */
static void put_pointed_at(const struct fuzz_call *call,
			   const struct fuzz_view *view)
{
	const unsigned char *bytes = call->name_bytes;
	size_t len = sizeof(call->name_bytes), room;
	uintptr_t at = 0;

	if (call->op == OP_CREATE) {
		at = call->arg.create.name;
	} else if (call->op == OP_REGISTER) {
		at = call->arg.reg.name;
	} else if (call->op == OP_MARK_DIRTY) {
		at = call->arg.mark_dirty.bitmap;
		bytes = call->bitmap;
		len = sizeof(call->bitmap);
	}
	if (!in_view(view, at))
		return;
	room = view->base + VIEW_SIZE - at;
	memcpy(view->alias + (at - view->base), bytes, len < room ? len : room);
}

/**
 * fuzz_ioctl - make the call
 * @call: an ioctl; its result is filled in
 * @view: of who makes it
 * @fd: session
 */
void fuzz_ioctl(struct fuzz_call *call, struct fuzz_view *view, int fd)
{
	size_t len = bytes_in_view(call, view);
	size_t at = call->at - view->base;

	put_pointed_at(call, view);
	if (len)
		memcpy(view->alias + at, &call->arg, len);
	memcpy(view->before, view->alias, VIEW_SIZE);
	if (call->nobody)
		call->ret = ioctl_as_nobody(call, fd);
	else if (call->no_fds)
		call->ret = ioctl_without_fds(call, fd);
	else
		call->ret = dev_ioctl(fd, call->cmd, (void *)call->at);
	call->out = call->arg;
	if (len)
		memcpy(&call->out, view->alias + at, len);
}

/**
 * fuzz_view_changed - did the kernel write where it must not?
 * @call: an ioctl that was made
 * @view: of who made it
 * @answer: bytes of its struct that may be written
 *
 * Return: whether it did.
 */
bool fuzz_view_changed(const struct fuzz_call *call,
		       const struct fuzz_view *view, size_t answer)
{
	size_t at = call->at - view->base;

	if (!answer || !in_view(view, call->at))
		return memcmp(view->before, view->alias, VIEW_SIZE);
	if (answer > VIEW_SIZE - at)
		answer = VIEW_SIZE - at;
	return memcmp(view->before, view->alias, at) ||
	       memcmp(view->before + at + answer, view->alias + at + answer,
		      VIEW_SIZE - at - answer);
}

static void print_ioctl(const struct fuzz_call *call)
{
	const union fuzz_arg *arg = &call->arg;

	ksft_print_msg("cmd %#x at %#lx size %u flags %#x\n", call->cmd,
		       (unsigned long)call->at, arg->size, arg->flags);
	switch (call->op) {
	case OP_CREATE:
		ksft_print_msg("length %#llx name %#llx of %u capture %u, no fds %d\n",
			       arg->create.length, arg->create.name,
			       arg->create.name_len, arg->create.capture,
			       call->no_fds);
		break;
	case OP_REGISTER:
		ksft_print_msg("range %#llx + %#llx name %#llx of %u pid %d\n",
			       arg->reg.addr, arg->reg.length, arg->reg.name,
			       arg->reg.name_len, arg->reg.pid);
		ksft_print_msg("tracker %u capture %u reserved %#x, as nobody %d\n",
			       arg->reg.tracker, arg->reg.capture,
			       arg->reg.reserved, call->nobody);
		break;
	case OP_UNREGISTER:
		ksft_print_msg("region %u reserved %#x\n",
			       arg->unregister.region_id,
			       arg->unregister.reserved);
		break;
	case OP_SET_CACHE:
		ksft_print_msg("bytes %#llx\n", arg->set_cache.bytes);
		break;
	case OP_SYNC:
		ksft_print_msg("reserved %#x, out: round %llu addr %#llx region %u\n",
			       arg->sync.reserved, call->out.sync.round,
			       call->out.sync.error_addr,
			       call->out.sync.error_region);
		break;
	case OP_MARK_DIRTY:
		ksft_print_msg("region %u units %#llx + %#llx bitmap %#llx reserved %#x\n",
			       arg->mark_dirty.region_id,
			       arg->mark_dirty.first_unit,
			       arg->mark_dirty.nr_units, arg->mark_dirty.bitmap,
			       arg->mark_dirty.reserved);
		break;
	default:
		break;
	}
}

/**
 * fuzz_print_call - say what was called, and what it returned
 * @call: the call
 */
void fuzz_print_call(const struct fuzz_call *call)
{
	ksft_print_msg("call %llu: %s on session %u returned %lld\n",
		       (unsigned long long)call->number,
		       fuzz_op_names[call->op], call->session,
		       (long long)call->ret);
	if (call->op <= OP_UNKNOWN)
		print_ioctl(call);
	else if (call->op <= OP_SPLICE)
		ksft_print_msg("%zu and %zu bytes to %#lx\n", call->len,
			       call->len2, (unsigned long)call->at);
	else if (call->op >= OP_MAP)
		ksft_print_msg("pages %u + %u become %u, child %d pick %u\n",
			       call->first, call->nr, call->kind, call->child,
			       call->pick);
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Rounds run all the time. Now and then everybody stops: after one more round
 * the receiver must hold what is in memory. A region must end when its memory
 * is unmapped or moved away, by the next SYNC at the latest, and must not
 * otherwise.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"
#include "model.h"
#include "rnd.h"
#include "torture.h"

/* Rounds from one comparison to the next. */
#define ROUNDS		4
/* Of the last actions on a unit that are printed. */
#define TOLD_ACTIONS	24
/* Looks at memory that MADV_FREE may take away after the round. */
#define FREED_TRIES	20

/**
 * struct oracle - of one configuration, in the process that compares
 * @fd: session
 * @model: what a receiver has
 * @copy: room for the memory of another process
 * @state: random numbers
 * @compared: how often memory was compared
 * @stopped: nobody else is running
 * @ended: regions that ended, for which that was right
 * @moments: the round is to be a point in time, and has not been torn
 * @torn: rounds that were, and SYNCs that had no room for it
 */
static struct oracle {
	int fd;
	struct model *model;
	unsigned char *copy;
	uint64_t state;
	unsigned int compared;
	bool stopped;
	unsigned int ended;
	bool moments;
	unsigned int torn;
} oracle;

double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/**
 * note() - remember what was done
 * @who: did it
 * @what: its name
 * @r: region
 * @offset: from @r->mem on
 * @length: bytes
 * @failed: it was not done, or not all of it
 */
void note(enum actor who, const char *what, const struct region *r,
	  size_t offset, size_t length, bool failed)
{
	uint64_t number = __atomic_add_fetch(&world->actions, 1,
					     __ATOMIC_RELAXED);

	world->log[number % LOG_ENTRIES] = (struct action){
		.number = number,
		.what = what,
		.first = (r->below + offset) / UNIT,
		.nr = (length + UNIT - 1) / UNIT,
		.actor = who,
		.region = r->number,
		.failed = failed,
	};
}

/* The last that was done to a unit, the latest first. */
static void tell_actions(const struct region *r, size_t unit)
{
	static const char * const names[ACTORS] = {
		"writer 0", "writer 1", "disturber 0", "disturber 1",
		"outside", "guest", "uffd's handler",
	};
	uint64_t number = __atomic_load_n(&world->actions, __ATOMIC_RELAXED);
	unsigned int told = 0, looked;
	const struct action *a;

	for (looked = 0; looked < LOG_ENTRIES && number; looked++, number--) {
		a = &world->log[number % LOG_ENTRIES];
		if (a->number != number || a->region != r->number ||
		    unit < a->first || unit >= a->first + a->nr)
			continue;
		say("  %llu: %s: %s of units %u to %u%s",
		    (unsigned long long)number, names[a->actor], a->what,
		    a->first, a->first + a->nr - 1,
		    a->failed ? ", not done" : "");
		if (++told == TOLD_ACTIONS)
			break;
	}
}

/**
 * region_ending() - what follows ends the region, if it is of that kind
 * @r: region
 * @mem: first address
 * @length: bytes
 *
 * With @world->layout held.
 */
void region_ending(struct region *r, unsigned char *mem, size_t length)
{
	if (!(r->kind->traits & ENDS) || r->ending != LIVES)
		return;
	r->end_at = mem;
	r->end_length = length;
	__atomic_store_n(&r->ending, ENDING, __ATOMIC_RELEASE);
}

/**
 * region_ended() - what region_ending() told of is over
 * @r: region
 * @really: it has happened
 */
void region_ended(struct region *r, bool really)
{
	if (r->ending == ENDING)
		__atomic_store_n(&r->ending, really ? ENDED : LIVES,
				 __ATOMIC_RELEASE);
}

static int ending_of(struct region *r)
{
	return __atomic_load_n(&r->ending, __ATOMIC_ACQUIRE);
}

static void stop_everybody(void)
{
	pthread_rwlock_wrlock(&world->gate);
	oracle.stopped = true;
}

static void go_on(void)
{
	oracle.stopped = false;
	pthread_rwlock_unlock(&world->gate);
}

/* A round must not be under way. */
static int register_all(void)
{
	const bool stopped = oracle.stopped;
	struct region *r;
	unsigned int i;
	int ret = 0;

	for (i = 0; !ret && i < world->config->regions; i++) {
		r = &world->regions[i];
		if (r->registered || r->kind->traits & OWNED)
			continue;
		model_drop(oracle.model, r->name);
		if (!stopped)
			stop_everybody();
		ret = kind_register(r, oracle.fd);
		if (!stopped)
			go_on();
		if (ret)
			say("REGISTER of %s: %s", r->kind->name,
			    strerror(-ret));
	}
	return ret;
}

static struct region *region_of(uint32_t id)
{
	unsigned int i;

	for (i = 0; i < world->config->regions; i++)
		if (world->regions[i].registered && world->regions[i].id == id)
			return &world->regions[i];
	return NULL;
}

/* A region ended; was that right? Then it is dropped. */
static int drop_ended(int error, const struct xbzrle_sync *s)
{
	struct region *r = region_of(s->error_region);
	uint64_t from;

	if (error != -EFAULT || !r || ending_of(r) == LIVES) {
		say("region %s (%s) ended: %s at %#llx",
		    r ? r->name : "of no id", r ? r->kind->name : "?",
		    strerror(-error), (unsigned long long)s->error_addr);
		return -EBADE;
	}
	from = (uintptr_t)r->end_at;
	if (s->error_addr < from || s->error_addr >= from + r->end_length) {
		say("region %s (%s) ended at %#llx, not from %#llx on",
		    r->name, r->kind->name, (unsigned long long)s->error_addr,
		    (unsigned long long)from);
		return -EBADE;
	}
	oracle.ended++;
	r->registered = false;
	return dev_unregister(oracle.fd, r->id);
}

/* What was written by now has to be in the round that the next SYNC starts. */
static int tell(struct region *r)
{
	const size_t units = (r->below + r->length) / UNIT;
	unsigned char bits[MAX_UNITS / 8];
	unsigned int i;

	if (!(r->kind->traits & TOLD))
		return 0;
	if (r->kind->traits & GUEST && !guest_tell(r))
		return -EBADE;
	for (i = 0; i < (units + 7) / 8; i++)
		bits[i] = __atomic_exchange_n(&r->told[i], 0,
					      __ATOMIC_ACQ_REL) |
			  __atomic_load_n(&r->freed[i], __ATOMIC_ACQUIRE);
	return dev_mark(oracle.fd, r->id, 0, units, bits);
}

static int begin_round(uint32_t flags)
{
	bool ended[MAX_REGIONS];
	struct xbzrle_sync s;
	unsigned int i;
	int ret;

	for (;;) {
		ret = register_all();
		for (i = 0; !ret && i < world->config->regions; i++) {
			ended[i] = ending_of(&world->regions[i]) == ENDED;
			ret = tell(&world->regions[i]);
		}
		if (ret)
			return ret;
		ret = dev_sync(oracle.fd, flags, &s);
		if (!ret)
			break;
		if (ret == -ENOSPC && flags & XBZRLE_SYNC_POINT_IN_TIME) {
			oracle.torn++;
			flags &= ~XBZRLE_SYNC_POINT_IN_TIME;
			continue;
		}
		ret = drop_ended(ret, &s);
		if (ret)
			return ret;
	}
	for (i = 0; i < world->config->regions; i++) {
		if (!ended[i])
			continue;
		say("%s was unmapped, and its region has not ended",
		    world->regions[i].kind->name);
		return -EBADE;
	}
	__atomic_add_fetch(&world->syncs, 1, __ATOMIC_RELEASE);
	oracle.moments = flags & XBZRLE_SYNC_POINT_IN_TIME;
	return 0;
}

/* Which it was, SYNC tells also when a round is under way. */
static int drop_ended_in_round(int error)
{
	struct xbzrle_sync s;
	int ret = dev_sync(oracle.fd, 0, &s);

	if (ret != error) {
		say("read says %s, SYNC then %s", strerror(-error),
		    strerror(-ret));
		return -EBADE;
	}
	return drop_ended(error, &s);
}

/* A round is torn once. */
static int fail_read(int error)
{
	if (error != -ENOSPC || !oracle.moments)
		return drop_ended_in_round(error);
	oracle.moments = false;
	oracle.torn++;
	return 0;
}

/* What is mapped here must not come where memory is missing for a moment. */
static int feed(const void *bytes, size_t length)
{
	int ret;

	pthread_mutex_lock(&world->hole);
	ret = model_feed(oracle.model, bytes, length);
	pthread_mutex_unlock(&world->hole);
	return ret;
}

/* Reads of random sizes, some of them smaller than a record. */
static int read_round(void)
{
	static unsigned char bytes[128 * 1024];
	uint64_t *state = &oracle.state;
	size_t size;
	ssize_t n;
	int ret = 0;

	do {
		size = rnd_below(state, 16) ? 4096 + rnd_below(state, 120 * 1024) :
		       1 + rnd_below(state, 300);
		n = read(oracle.fd, bytes, size);
		if (n < 0)
			ret = fail_read(-errno);
		else if (n)
			ret = feed(bytes, n);
	} while (n && !ret);
	return ret ?: model_idle(oracle.model) ? 0 : -EBADMSG;
}

static int run_round(uint32_t flags)
{
	int ret = begin_round(flags);

	if (!ret)
		ret = read_round();
	/* Of the others it has been said. */
	if (ret && ret != -EBADE)
		say("round: %s %s", strerror(-ret), oracle.model->error);
	return ret;
}

/* What is there, of whatever process, or NULL. */
static const unsigned char *live_memory(unsigned char *from, size_t length)
{
	struct iovec local = { oracle.copy, length }, remote = { from, length };

	if (!world->config->apart)
		return from;
	if (process_vm_readv(world->target, &local, 1, &remote, 1, 0) !=
	    (ssize_t)length)
		return NULL;
	return oracle.copy;
}

static bool all_zero(const unsigned char *unit)
{
	unsigned int i;

	for (i = 0; i < UNIT; i++)
		if (unit[i])
			return false;
	return true;
}

enum verdict {
	SAME,
	OTHER,
	/* It may be so since the round: MADV_FREE. */
	TAKEN,
};

static enum verdict look_at(struct region *r)
{
	/* Whose stack it is, has gone on to use it. */
	const size_t from = r->kind->traits & STACK ? r->below : 0;
	const size_t length = r->below + r->length - from;
	const struct model_region *m = model_find(oracle.model, r->name);
	const unsigned char *live, *have;
	size_t at, unit;

	live = live_memory(r->mem - r->below + from, length);
	if (!m || !live) {
		say("region %s of %s %s", r->name, r->kind->name,
		    m ? "cannot be read" : "never came");
		return OTHER;
	}
	have = m->mem + from;
	if (!memcmp(live, have, length))
		return SAME;
	for (at = 0; live[at] == have[at]; at++)
		;
	unit = (from + at) / UNIT;
	if (r->freed[unit / 8] & 1 << unit % 8 &&
	    all_zero(live + at / UNIT * UNIT))
		return TAKEN;
	say("%s, region %s: unit %zu differs at %#zx: %02x, received %02x in round %u of %u",
	    r->kind->name, r->name, unit, from + at, live[at], have[at],
	    m->round_of[unit], oracle.model->rounds);
	tell_actions(r, unit);
	return OTHER;
}

/* With everybody stopped, and no round under way. */
static bool same(uint32_t flags)
{
	unsigned int i, tries = 0;

	for (i = 0; i < world->config->regions; i++) {
		switch (look_at(&world->regions[i])) {
		case SAME:
			break;
		case OTHER:
			return false;
		case TAKEN:
			if (flags & XBZRLE_SYNC_FINAL)
				flags |= XBZRLE_SYNC_FULL;
			if (++tries > FREED_TRIES || run_round(flags)) {
				say("what MADV_FREE took is not told");
				return false;
			}
			i = -1;
			break;
		}
	}
	oracle.compared++;
	return true;
}

static bool compare(uint32_t flags)
{
	bool equal;

	stop_everybody();
	equal = !run_round(flags) && same(flags);
	go_on();
	return equal;
}

/**
 * oracle_begin() - make a session with its owned memory
 * @c: configuration
 *
 * Return: whether there is one.
 */
bool oracle_begin(const struct config *c)
{
	struct region *r;
	unsigned int i;

	oracle = (struct oracle){
		.fd = dev_open(),
		.model = model_new(),
		.state = rnd_seed(world->seed, ACTORS),
	};
	oracle.copy = mmap(NULL, MAX_UNITS * UNIT, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (oracle.fd < 0 || !oracle.model || oracle.copy == MAP_FAILED ||
	    dev_set_cache(oracle.fd, c->cache * UNIT))
		return false;
	for (i = 0; i < c->regions; i++) {
		r = &world->regions[i];
		if (!(r->kind->traits & OWNED))
			continue;
		snprintf(r->name, sizeof(r->name), "r%u", i);
		r->fd = dev_create(oracle.fd, r->name,
				   r->length + (r->kind->traits & GUEST ?
						GUEST_DATA : 0), &r->id);
		if (r->fd < 0)
			return false;
		r->registered = true;
	}
	return true;
}

/**
 * oracle_end() - end the session
 */
void oracle_end(void)
{
	struct xbzrle_stats s;

	if (oracle.fd >= 0 && !dev_stats(oracle.fd, &s))
		say("%s: %llu rounds, %u torn, %u compared, %u regions ended, %llu deltas",
		    world->config->name, s.rounds, oracle.torn, oracle.compared,
		    oracle.ended, s.pages);
	close(oracle.fd);
	model_free(oracle.model);
	munmap(oracle.copy, MAX_UNITS * UNIT);
}

/* A moment is what it should be if nobody writes; moment.c looks at others. */
static uint32_t some_flags(void)
{
	uint32_t flags = 0;

	if (!rnd_below(&oracle.state, 4))
		flags |= XBZRLE_SYNC_POINT_IN_TIME;
	if (!rnd_below(&oracle.state, 32))
		flags |= XBZRLE_SYNC_FULL;
	return flags;
}

/**
 * oracle_rounds() - run rounds and compare
 * @seconds: for so long
 *
 * Return: whether the receiver always had what was there.
 */
bool oracle_rounds(double seconds)
{
	const size_t cache = world->config->cache * UNIT;
	double end = now() + seconds;
	bool equal = true;
	unsigned int i;

	while (equal && now() < end) {
		for (i = 0; i < ROUNDS && now() < end; i++)
			if (run_round(some_flags()))
				return false;
		if (!rnd_below(&oracle.state, 4))
			dev_set_cache(oracle.fd, rnd_below(&oracle.state, 2) ?
				      cache : cache / 3);
		equal = compare(some_flags()) && !world->broken[0];
	}
	return equal;
}

/**
 * oracle_last() - the last round, when nobody writes any more
 *
 * Return: whether the receiver has everything.
 */
bool oracle_last(void)
{
	return compare(XBZRLE_SYNC_FINAL);
}

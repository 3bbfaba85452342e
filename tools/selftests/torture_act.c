// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Writes, and which operation comes next, by random numbers alone. */
#include <string.h>

#include "rnd.h"
#include "torture.h"

/**
 * mark() - say that something was written
 * @r: region
 * @offset: from @r->mem on
 * @length: bytes
 *
 * To be called when it was: what is marked before may be looked at before.
 */
void mark(struct region *r, size_t offset, size_t length)
{
	size_t unit = (r->below + offset) / UNIT;
	const size_t end = (r->below + offset + length + UNIT - 1) / UNIT;

	if (!(r->kind->traits & TOLD))
		return;
	for (; unit < end; unit++)
		__atomic_fetch_or(&r->told[unit / 8], 1 << unit % 8,
				  __ATOMIC_RELEASE);
}

/**
 * write_once() - change something
 * @r: region
 * @who: does it
 * @state: random numbers
 */
void write_once(struct region *r, enum actor who, uint64_t *state)
{
	size_t offset = rnd_below(state, r->length / UNIT) * UNIT;
	unsigned char *page = r->mem + offset;
	uint64_t value = rnd(state);
	unsigned int i;

	switch (rnd_below(state, 16)) {
	case 0:
		for (i = 0; i < UNIT; i += 8) {
			value = rnd(state);
			memcpy(page + i, &value, 8);
		}
		break;
	case 1:
		memset(page, 0, UNIT);
		break;
	case 2:
		for (i = value % 64; i < UNIT; i += 64)
			page[i]++;
		break;
	case 3:
		memmove(page, r->mem, UNIT);
		break;
	case 4:
		memset(page + value % 2048, value >> 32, value >> 16 & 0x3ff);
		break;
	case 5:
		/* Hot pages. */
		offset = rnd_below(state, 4) * UNIT;
		r->mem[offset + value % UNIT]++;
		break;
	default:
		memcpy(page + value % (UNIT - 8), &value, 8);
	}
	mark(r, offset, UNIT);
	note(who, "write", r, offset, UNIT, false);
}

/**
 * possible() - can this be done here, to such memory?
 * @o: operation
 * @k: kind
 * @c: configuration with such memory
 *
 * Return: whether it can.
 */
bool possible(const struct operation *o, const struct kind *k,
	      const struct config *c)
{
	return env_has(o->needs) && (c->huge || !o->huge) &&
	       (!o->traits || k->traits & o->traits) &&
	       !(k->traits & o->never);
}

/* In the first turns as the deck has it, then any. */
static const struct operation *choose(const struct operation *table,
				      unsigned int nr,
				      const unsigned char *deck,
				      unsigned int turn, uint64_t *state,
				      struct region **r)
{
	const struct operation *o;
	unsigned int tries, i, first;

	for (tries = 0; tries < 32; tries++) {
		i = (rnd(state) >> 32) % nr;
		if (deck && turn < nr && !tries)
			i = deck[turn];
		o = &table[i];
		first = rnd_below(state, MAX_REGIONS);
		for (i = 0; i < world->config->regions; i++) {
			*r = &world->regions[(first + i) %
					     world->config->regions];
			if (possible(o, (*r)->kind, world->config))
				return o;
		}
	}
	return NULL;
}

/**
 * operate() - do one of the operations
 * @table: of them
 * @nr: entries in @table
 * @deck: entries for the first turns, may be NULL
 * @counts: of each
 * @who: does it
 * @turn: which it is, from 0
 * @state: random numbers; of these alone and the configuration depends which
 *	operation comes after which
 */
void operate(const struct operation *table, unsigned int nr,
	     const unsigned char *deck, struct count *counts, enum actor who,
	     unsigned int turn, uint64_t *state)
{
	struct act a = { .who = who };
	const struct operation *o;
	struct count *count;
	unsigned int skip;
	bool done;
	double start;

	o = choose(table, nr, deck, turn, state, &a.r);
	if (!o)
		return;
	a.offset = rnd_below(state, a.r->length / UNIT) * UNIT;
	a.length = (1 + rnd_below(state, MAX_LENGTH / UNIT)) * UNIT;
	if (a.length > a.r->length - a.offset)
		a.length = a.r->length - a.offset;
	a.mem = a.r->mem + a.offset;
	a.state = rnd(state);
	skip = rnd_below(state, 1 + o->rare / (deck && turn < nr ? 16 : 1));
	if (skip)
		return;

	count = &counts[o - table];
	__atomic_add_fetch(&count->tried, 1, __ATOMIC_RELAXED);
	if (o->alone)
		pthread_mutex_lock(&world->layout);
	start = now();
	done = o->func(&a);
	__atomic_add_fetch(&count->spent, (now() - start) * 1e6,
			   __ATOMIC_RELAXED);
	if (o->alone)
		pthread_mutex_unlock(&world->layout);
	if (done)
		__atomic_add_fetch(&count->done, 1, __ATOMIC_RELAXED);
	note(who, o->name, a.r, a.offset, a.length, !done);
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * What a round has of external regions: what was marked before it began, as
 * memory has it now unless it was written since, and no other unit. No such
 * region has more units than a mask has bits.
 */
#include <string.h>

#include "fuzz.h"

_Static_assert(FUZZ_PAGES <= 64, "a bit for each page");

static bool is_told(const struct fuzz_region *r)
{
	return r->tracker == XBZRLE_TRACKER_EXTERNAL && r->space && !r->error;
}

static uint64_t mask_of(unsigned int first, unsigned int nr)
{
	return (nr < 64 ? (1ULL << nr) - 1 : ~0ULL) << first;
}

static bool is_shared(enum fuzz_kind kind)
{
	return kind == KIND_SHARED || kind == KIND_OWNED;
}

static unsigned int units_of(const struct fuzz_region *r)
{
	return r->length / UNIT;
}

/* Which of a region's units are those pages? */
static uint64_t units_at(const struct fuzz_region *r, unsigned int first,
			 unsigned int nr)
{
	uint64_t start = FUZZ_BASE + first * UNIT, end = start + nr * UNIT;

	if (start < r->addr)
		start = r->addr;
	if (end > r->addr + r->length)
		end = r->addr + r->length;
	return start < end ? mask_of((start - r->addr) / UNIT,
				     (end - start) / UNIT) : 0;
}

static uint64_t shared_units(const struct fuzz_region *r)
{
	uint64_t mask = 0;
	unsigned int i;

	for (i = 0; i < units_of(r); i++)
		if (is_shared(fuzz_space_kind(r->space, r->addr + i * UNIT)))
			mask |= mask_of(i, 1);
	return mask;
}

/**
 * fuzz_told_marked - MARK_DIRTY has succeeded
 * @r: the region, of whatever tracker
 * @mark: what it was given
 * @bitmap: its bits
 */
void fuzz_told_marked(struct fuzz_region *r,
		      const struct xbzrle_mark_dirty *mark,
		      const unsigned char *bitmap)
{
	unsigned int i;

	if (r->tracker != XBZRLE_TRACKER_EXTERNAL)
		return;
	for (i = 0; i < mark->nr_units; i++)
		if (bitmap[i / 8] >> i % 8 & 1)
			r->units.next |= mask_of(mark->first_unit + i, 1);
}

/**
 * fuzz_told_written - pages are about to get another content
 * @state: the model's
 * @space: whose
 * @first: index of the first
 * @nr: how many
 *
 * Shared memory may be mapped anywhere else, too.
 */
void fuzz_told_written(struct fuzz_state *state,
		       const struct fuzz_space *space, unsigned int first,
		       unsigned int nr)
{
	struct fuzz_session *session;
	struct fuzz_region *r;
	bool shared = false;
	unsigned int i, j;

	for (i = first; i < first + nr; i++)
		shared |= is_shared(space->kinds[i]);
	for (i = 0; i < FUZZ_SESSIONS; i++) {
		session = &state->sessions[i];
		for (j = 0; j < session->nr_regions; j++) {
			r = &session->regions[j];
			if (!is_told(r))
				continue;
			if (r->space == space)
				r->units.written |= units_at(r, first, nr);
			if (shared)
				r->units.written |= shared_units(r);
		}
	}
}

static bool tell(const struct fuzz_session *session, struct fuzz_region *r,
		 uint64_t mask)
{
	unsigned char bitmap[8];
	unsigned int i;

	for (i = 0; i < 8; i++)
		bitmap[i] = mask >> 8 * i;
	r->units.next |= mask;
	return !dev_mark(session->fd, r->id, 0, units_of(r), bitmap);
}

/**
 * fuzz_told_tell - mark what was written
 * @state: the model's
 * @space: whose pages
 * @first: index of the first
 * @nr: how many
 *
 * Return: false if a region could not be marked.
 */
bool fuzz_told_tell(struct fuzz_state *state, const struct fuzz_space *space,
		    unsigned int first, unsigned int nr)
{
	struct fuzz_session *session;
	struct fuzz_region *r;
	unsigned int i, j;
	uint64_t mask;
	bool ok = true;

	for (i = 0; i < FUZZ_SESSIONS; i++) {
		session = &state->sessions[i];
		for (j = 0; j < session->nr_regions; j++) {
			r = &session->regions[j];
			mask = is_told(r) && r->space == space ?
			       units_at(r, first, nr) : 0;
			if (mask)
				ok &= tell(session, r, mask);
		}
	}
	return ok;
}

/**
 * fuzz_told_begin - a round begins
 * @r: a region that is in it, not announced yet if it is for the first time
 * @flags: of SYNC
 */
void fuzz_told_begin(struct fuzz_region *r, uint32_t flags)
{
	struct fuzz_units *u = &r->units;
	bool all = !r->announced || flags & XBZRLE_SYNC_FULL;

	*u = (struct fuzz_units) {
		.due = all ? ~0ULL : u->next,
		.maybe = all ? ~0ULL : u->next | u->left,
	};
}

/**
 * fuzz_told_failed - SYNC has failed, and nobody can tell when
 * @session: whose
 * @flags: of SYNC
 */
void fuzz_told_failed(struct fuzz_session *session, uint32_t flags)
{
	unsigned int i;

	for (i = 0; flags & XBZRLE_SYNC_FULL && i < session->nr_regions; i++)
		session->regions[i].units.left = ~0ULL;
}

static const char *check_region(struct fuzz_state *state,
				struct model *receiver,
				const struct fuzz_region *r, bool compare)
{
	unsigned char name[XBZRLE_NAME_MAX + 1] = { 0 }, unit[UNIT];
	const struct fuzz_units *u = &r->units;
	const struct model_region *got;
	unsigned int i;

	fuzz_name(name, r->name);
	got = model_find(receiver, (char *)name);
	if (!got || got->length != r->length)
		return "the round's setup has no such external region";
	for (i = 0; i < units_of(r); i++) {
		if (!(u->maybe >> i & 1)) {
			state->passed_over++;
			if (got->round_of[i] == receiver->rounds)
				return "a unit was sent that was not marked";
		}
		if (!compare || !((u->due & ~u->written) >> i & 1))
			continue;
		if (!fuzz_space_read(r->space, r->addr + i * UNIT, unit))
			return "an external region cannot be read";
		state->compared += u->maybe != ~0ULL;
		if (memcmp(got->mem + i * UNIT, unit, UNIT))
			return "the receiver lacks a write that was marked";
	}
	return NULL;
}

/**
 * fuzz_told_check - is the round that was read right?
 * @state: the model's
 * @session: who has read it to its end
 * @compare: look at memory as well, which fills its holes
 *
 * Return: NULL, or what is wrong.
 */
const char *fuzz_told_check(struct fuzz_state *state,
			    const struct fuzz_session *session, bool compare)
{
	const char *why = NULL;
	unsigned int i;

	for (i = 0; !why && i < session->nr_regions; i++)
		if (is_told(&session->regions[i]))
			why = check_region(state, session->receiver,
					   &session->regions[i], compare);
	return why;
}

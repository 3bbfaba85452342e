// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "model.h"

enum {
	WORD_ZERO	= 0x02,
	WORD_MEM_SIZE	= 0x04,
	WORD_PAGE	= 0x08,
	WORD_EOS	= 0x10,
	WORD_CONTINUE	= 0x20,
	WORD_XBZRLE	= 0x40,
	WORD_FLAGS	= MODEL_UNIT - 1,
};

/* Answers of the parsers besides the bytes they consumed. */
#define NEED_MORE	0
#define BROKEN		(-1)

static uint64_t be(const unsigned char *p, unsigned int bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | *p++;
	return v;
}

static int broken(struct model *m, const char *fmt, ...)
{
	va_list ap;
	int n;

	n = snprintf(m->error, sizeof(m->error), "round %u, byte %llu: ",
		     m->rounds + 1, (unsigned long long)m->all.bytes);
	va_start(ap, fmt);
	vsnprintf(m->error + n, sizeof(m->error) - n, fmt, ap);
	va_end(ap);
	return BROKEN;
}

static struct model_region *find(struct model *m, const void *name,
				 size_t name_len)
{
	unsigned int i;

	for (i = 0; i < m->nr_regions; i++) {
		struct model_region *r = &m->regions[i];

		if (r->name_len == name_len && !memcmp(r->name, name, name_len))
			return r;
	}
	return NULL;
}

static int add_region(struct model *m, const unsigned char *name,
		      uint8_t name_len, uint64_t length)
{
	struct model_region *r;

	if (!name_len)
		return broken(m, "region without a name");
	if (!length || length % MODEL_UNIT)
		return broken(m, "region of %llu bytes",
			      (unsigned long long)length);
	r = find(m, name, name_len);
	if (r)
		return r->length == length ? 0 :
		       broken(m, "known region changes its length");

	r = reallocarray(m->regions, m->nr_regions + 1, sizeof(*r));
	if (!r)
		return broken(m, "out of memory");
	m->regions = r;
	r += m->nr_regions;
	memcpy(r->name, name, name_len);
	r->name_len = name_len;
	r->length = length;
	/* Sparse, because a region may be larger than the machine. */
	r->mem = mmap(NULL, length, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r->mem == MAP_FAILED)
		return broken(m, "no memory for a region");
	r->round_of = calloc(length / MODEL_UNIT, sizeof(*r->round_of));
	if (!r->round_of)
		return broken(m, "no memory for a region");
	m->nr_regions++;
	return 0;
}

static void end_round(struct model *m)
{
	m->state = MODEL_BETWEEN;
	m->rounds++;
}

static int parse_setup(struct model *m, const unsigned char *p, size_t len)
{
	unsigned int name_len;
	uint64_t length;

	if (!m->setup_left) {
		if (len < 8)
			return NEED_MORE;
		if (be(p, 8) != WORD_EOS)
			return broken(m, "setup does not end with EOS");
		m->state = MODEL_ROUND_FIRST;
		return 8;
	}

	if (len < 1)
		return NEED_MORE;
	name_len = p[0];
	if (len < 1 + name_len + 8)
		return NEED_MORE;
	length = be(p + 1 + name_len, 8);
	if (length > m->setup_left)
		return broken(m, "blocks exceed the total");
	if (add_region(m, p + 1, name_len, length))
		return BROKEN;
	m->setup_left -= length;
	return 1 + name_len + 8;
}

/*
 * One run length. Returns the bytes it took, 0 if it is not one: a length of
 * three or more bytes, or one cut short.
 */
static unsigned int get_length(const unsigned char *p, size_t len,
			       unsigned int *value)
{
	if (len >= 1 && p[0] < 0x80) {
		*value = p[0];
		return 1;
	}
	if (len >= 2 && p[1] < 0x80) {
		*value = (p[0] & 0x7f) | p[1] << 7;
		return 2;
	}
	return 0;
}

/* Applies a delta, or checks it when @page is NULL. */
static const char *apply(const unsigned char *p, size_t len,
			 unsigned char *page)
{
	unsigned int at = 0, run, n;
	bool first = true;

	if (!len)
		return "empty delta";
	while (len) {
		n = get_length(p, len, &run);
		if (!n)
			return "bad zrun";
		if (!run && !first)
			return "zrun of 0 inside";
		if (run > MODEL_UNIT - at)
			return "zrun past the page";
		p += n;
		len -= n;
		at += run;
		first = false;

		n = get_length(p, len, &run);
		if (!n)
			return "bad nzrun";
		if (!run)
			return "nzrun of 0";
		p += n;
		len -= n;
		if (run > MODEL_UNIT - at)
			return "nzrun past the page";
		if (run > len)
			return "literal past the delta";
		if (page)
			memcpy(page + at, p, run);
		p += run;
		len -= run;
		at += run;
	}
	return NULL;
}

static int parse_body(struct model *m, struct model_region *r, uint64_t word,
		      const unsigned char *p, size_t len)
{
	uint64_t offset = word & ~(uint64_t)WORD_FLAGS;
	unsigned char *page = r->mem + offset;
	const char *why;
	size_t delta;

	switch (word & WORD_FLAGS & ~WORD_CONTINUE) {
	case WORD_ZERO:
		if (len < 1)
			return NEED_MORE;
		if (p[0])
			return broken(m, "ZERO of byte %#x", p[0]);
		memset(page, 0, MODEL_UNIT);
		m->round.zero++;
		return 1;
	case WORD_PAGE:
		if (len < MODEL_UNIT)
			return NEED_MORE;
		memcpy(page, p, MODEL_UNIT);
		m->round.page++;
		return MODEL_UNIT;
	default:
		if (len < 3)
			return NEED_MORE;
		if (p[0] != 1)
			return broken(m, "XBZRLE of kind %#x", p[0]);
		delta = be(p + 1, 2);
		if (delta >= MODEL_UNIT)
			return broken(m, "delta of %zu bytes", delta);
		if (len < 3 + delta)
			return NEED_MORE;
		if (!r->round_of[offset / MODEL_UNIT])
			return broken(m, "XBZRLE for a page never sent");
		why = apply(p + 3, delta, NULL);
		if (why)
			return broken(m, "%s", why);
		apply(p + 3, delta, page);
		m->round.xbzrle++;
		return 3 + delta;
	}
}

static int parse_record(struct model *m, const unsigned char *p, size_t len)
{
	struct model_region *r;
	unsigned int kind;
	uint64_t word, offset;
	size_t head = 8;
	int body;

	if (len < 8)
		return NEED_MORE;
	word = be(p, 8);
	if (word == WORD_EOS) {
		end_round(m);
		return 8;
	}
	kind = word & WORD_FLAGS & ~WORD_CONTINUE;
	if (kind != WORD_ZERO && kind != WORD_PAGE && kind != WORD_XBZRLE)
		return broken(m, "unknown flags %#x",
			      (unsigned int)(word & WORD_FLAGS));

	if (word & WORD_CONTINUE) {
		if (m->state == MODEL_ROUND_FIRST)
			return broken(m, "CONTINUE opens the round");
		r = &m->regions[m->current];
	} else {
		if (len < 9 || len < 9 + (size_t)p[8])
			return NEED_MORE;
		head += 1 + p[8];
		r = find(m, p + 9, p[8]);
		if (!r)
			return broken(m, "unknown region");
	}
	offset = word & ~(uint64_t)WORD_FLAGS;
	if (offset >= r->length)
		return broken(m, "offset %#llx past the region",
			      (unsigned long long)offset);
	if (r->round_of[offset / MODEL_UNIT] == m->rounds + 1)
		return broken(m, "offset %#llx twice in a round",
			      (unsigned long long)offset);

	body = parse_body(m, r, word, p + head, len - head);
	if (body <= 0)
		return body;
	if (kind == WORD_XBZRLE)
		m->round.xbzrle_bytes += head + body;
	if (word & WORD_CONTINUE)
		m->round.continued++;
	r->round_of[offset / MODEL_UNIT] = m->rounds + 1;
	m->current = r - m->regions;
	m->state = MODEL_ROUND;
	return head + body;
}

/* A round begins, or the setup section before one. */
static int parse_between(struct model *m, const unsigned char *p, size_t len)
{
	uint64_t word;

	if (len < 8)
		return NEED_MORE;
	memset(&m->round, 0, sizeof(m->round));
	word = be(p, 8);
	if ((word & WORD_FLAGS) == WORD_MEM_SIZE) {
		m->setup_left = word & ~(uint64_t)WORD_FLAGS;
		m->setups++;
		m->state = MODEL_SETUP;
		return 8;
	}
	if (!m->setups)
		return broken(m, "stream without a setup section");
	m->state = MODEL_ROUND_FIRST;
	return parse_record(m, p, len);
}

static int parse(struct model *m, const unsigned char *p, size_t len)
{
	switch (m->state) {
	case MODEL_BETWEEN:
		return parse_between(m, p, len);
	case MODEL_SETUP:
		return parse_setup(m, p, len);
	default:
		return parse_record(m, p, len);
	}
}

static void add_counts(struct model_counts *to, const struct model_counts *from)
{
	to->zero += from->zero;
	to->page += from->page;
	to->xbzrle += from->xbzrle;
	to->xbzrle_bytes += from->xbzrle_bytes;
	to->continued += from->continued;
}

/**
 * model_new - make a receiver that knows nothing yet
 *
 * Return: the receiver, or NULL without memory.
 */
struct model *model_new(void)
{
	return calloc(1, sizeof(struct model));
}

/**
 * model_free - drop a receiver
 * @m: from model_new(), or NULL
 */
void model_free(struct model *m)
{
	unsigned int i;

	if (!m)
		return;
	for (i = 0; i < m->nr_regions; i++) {
		munmap(m->regions[i].mem, m->regions[i].length);
		free(m->regions[i].round_of);
	}
	free(m->regions);
	free(m);
}

/**
 * model_feed - take bytes of the stream, cut anywhere
 * @m: the receiver
 * @bytes: the bytes
 * @len: how many
 *
 * Return: 0, or -EBADMSG with the reason in @m->error.
 */
int model_feed(struct model *m, const void *bytes, size_t len)
{
	const unsigned char *p = bytes;
	unsigned int rounds;
	size_t take, at;
	int n;

	while (len) {
		take = sizeof(m->pending) - m->nr_pending;
		if (take > len)
			take = len;
		memcpy(m->pending + m->nr_pending, p, take);
		m->nr_pending += take;
		p += take;
		len -= take;

		for (at = 0;; at += n) {
			rounds = m->rounds;
			n = parse(m, m->pending + at, m->nr_pending - at);
			if (n == BROKEN)
				return -EBADMSG;
			if (n == NEED_MORE)
				break;
			m->round.bytes += n;
			m->all.bytes += n;
			if (m->rounds != rounds)
				add_counts(&m->all, &m->round);
		}
		m->nr_pending -= at;
		memmove(m->pending, m->pending + at, m->nr_pending);
	}
	return 0;
}

/**
 * model_at_item - did the bytes so far end with a whole record or block?
 * @m: the receiver
 *
 * Return: true if nothing is cut.
 */
bool model_at_item(const struct model *m)
{
	return !m->nr_pending;
}

/**
 * model_idle - did the bytes so far end with the EOS of a round?
 * @m: the receiver
 *
 * Return: true if no round is open.
 */
bool model_idle(const struct model *m)
{
	return !m->nr_pending && m->state == MODEL_BETWEEN;
}

/**
 * model_find - look a region up
 * @m: the receiver
 * @name: its name
 *
 * Return: the region, or NULL if the stream never named it.
 */
struct model_region *model_find(struct model *m, const char *name)
{
	return find(m, name, strlen(name));
}

/**
 * model_drop - forget a region that is gone
 * @m: the receiver, with no round open
 * @name: its name, which may be unknown
 */
void model_drop(struct model *m, const char *name)
{
	struct model_region *r = model_find(m, name);

	if (!r)
		return;
	munmap(r->mem, r->length);
	free(r->round_of);
	*r = m->regions[--m->nr_regions];
}

/**
 * model_diff - compare part of a region with live memory
 * @m: the receiver
 * @name: of the region
 * @live: its memory in this process
 * @offset: where to start, a multiple of the unit
 * @len: how many bytes, a multiple of the unit
 *
 * Return: the offset of the first unit that differs, -1 if none does, -2 if
 * there is no such part.
 */
int64_t model_diff(struct model *m, const char *name, const void *live,
		   uint64_t offset, uint64_t len)
{
	struct model_region *r = model_find(m, name);
	uint64_t end = offset + len;

	if (!r || end > r->length)
		return -2;
	for (; offset < end; offset += MODEL_UNIT)
		if (memcmp(r->mem + offset, (const char *)live + offset,
			   MODEL_UNIT))
			return offset;
	return -1;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <error.h>
#include <stdlib.h>

#include "policy.h"

#define NEVER		SIZE_MAX

/* Bases by the access that needs them next, the furthest on top. */
struct heap {
	size_t *next;
	size_t nr;
};

static void heap_push(struct heap *heap, size_t next)
{
	size_t i = heap->nr++;

	for (; i && heap->next[(i - 1) / 2] < next; i = (i - 1) / 2)
		heap->next[i] = heap->next[(i - 1) / 2];
	heap->next[i] = next;
}

static size_t heap_pop(struct heap *heap)
{
	size_t top = heap->next[0], last = heap->next[--heap->nr];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < heap->nr) {
		if (child + 1 < heap->nr &&
		    heap->next[child + 1] > heap->next[child])
			child++;
		if (heap->next[child] <= last)
			break;
		heap->next[i] = heap->next[child];
		i = child;
	}
	heap->next[i] = last;
	return top;
}

/* Of each access the next one of its page for which a base is of use. */
static size_t *find_next(const struct trace *trace)
{
	size_t *next = calloc(trace->nr, sizeof(*next));
	size_t *seen = malloc(trace->pages * sizeof(*seen));
	size_t i;

	if (!next || !seen)
		error(1, 0, "out of memory");
	for (i = 0; i < trace->pages; i++)
		seen[i] = NEVER;
	for (i = trace->nr; i--; ) {
		const struct access *access = &trace->accesses[i];

		next[i] = seen[access->page];
		/* The content of before it serves nobody. */
		seen[access->page] = access->delta < UNIT_BYTES ? i : NEVER;
	}
	free(seen);
	return next;
}

/**
 * policy_optimum() - the most hits that are possible
 * @trace: trace
 * @capacity: bases there is room for
 * @hits: out: whether each access found its base
 *
 * Who knows the future keeps the bases that are needed soonest, and does not
 * admit one that is needed last (Belady's MIN, with bypass). A base for a delta
 * that overflows is of no use, and not kept for it.
 */
void policy_optimum(const struct trace *trace, uint32_t capacity, bool *hits)
{
	size_t *next = find_next(trace), i, used = 0;
	/* An access that was reached leaves its entry at the bottom. */
	struct heap heap = { calloc(trace->nr, sizeof(*heap.next)), 0 };

	if (!heap.next)
		error(1, 0, "out of memory");
	for (i = 0; i < trace->nr; i++)
		hits[i] = false;
	for (i = 0; i < trace->nr; i++) {
		/* Until here, a hit is a base that is kept for this access. */
		used -= hits[i];
		if (next[i] == NEVER)
			continue;
		heap_push(&heap, next[i]);
		hits[next[i]] = true;
		if (used < capacity)
			used++;
		else
			hits[heap_pop(&heap)] = false;
	}
	free(heap.next);
	free(next);
}

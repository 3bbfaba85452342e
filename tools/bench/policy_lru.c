// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <error.h>
#include <stdlib.h>

#include "policy.h"

/* Of each page, and of the head of the list: neighbours, and whether it is in. */
struct node {
	uint32_t newer;
	uint32_t older;
	bool cached;
};

static void take_out(struct node *nodes, uint32_t page)
{
	nodes[nodes[page].newer].older = nodes[page].older;
	nodes[nodes[page].older].newer = nodes[page].newer;
	nodes[page].cached = false;
}

static void put_newest(struct node *nodes, uint32_t head, uint32_t page)
{
	nodes[page] = (struct node){ head, nodes[head].older, true };
	nodes[nodes[head].older].newer = page;
	nodes[head].older = page;
}

/**
 * policy_lru() - replace the page that was not sent for longest
 * @trace: trace
 * @capacity: bases there is room for
 * @hits: out: whether each access found its base
 */
void policy_lru(const struct trace *trace, uint32_t capacity, bool *hits)
{
	struct node *nodes = calloc(trace->pages + 1, sizeof(*nodes));
	uint32_t head = trace->pages, used = 0, page;
	size_t i;

	if (!nodes)
		error(1, 0, "out of memory");
	nodes[head] = (struct node){ head, head, false };
	for (i = 0; i < trace->nr; i++) {
		page = trace->accesses[i].page;
		hits[i] = nodes[page].cached;
		if (hits[i])
			take_out(nodes, page);
		else if (used < capacity)
			used++;
		else
			take_out(nodes, nodes[head].newer);
		put_newest(nodes, head, page);
	}
	free(nodes);
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <errno.h>
#include <error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace.h"

/**
 * trace_begin_round() - begin another round
 * @trace: trace
 */
void trace_begin_round(struct trace *trace)
{
	trace->begins = realloc(trace->begins,
				(trace->rounds + 1) * sizeof(*trace->begins));
	if (!trace->begins)
		error(1, 0, "out of memory");
	trace->begins[trace->rounds++] = trace->nr;
}

/**
 * trace_add() - add a page to the round that was begun
 * @trace: trace
 * @page: number of the page, above that of the one before
 * @delta: bytes of its delta, at most UNIT_BYTES
 */
void trace_add(struct trace *trace, uint32_t page, uint32_t delta)
{
	if (trace->nr == trace->room) {
		trace->room = trace->room ? 2 * trace->room : 4096;
		trace->accesses = realloc(trace->accesses, trace->room *
					  sizeof(*trace->accesses));
		if (!trace->accesses)
			error(1, 0, "out of memory");
	}
	trace->accesses[trace->nr++] = (struct access){ page, delta };
	if (page >= trace->pages)
		trace->pages = page + 1;
}

/**
 * trace_end_of_round() - where a round ends
 * @trace: trace
 * @round: number of the round, from 0
 *
 * Return: The index behind its last access.
 */
size_t trace_end_of_round(const struct trace *trace, size_t round)
{
	return round + 1 < trace->rounds ? trace->begins[round + 1] : trace->nr;
}

/**
 * trace_load() - read a recorded trace
 * @trace: filled in
 * @path: file with lines of "round page delta", as the recorder writes them
 *
 * Exits if it cannot.
 */
void trace_load(struct trace *trace, const char *path)
{
	FILE *file = fopen(path, "r");
	unsigned int page, delta;
	size_t round;
	int fields;

	*trace = (struct trace){ 0 };
	if (!file)
		error(1, errno, "%s", path);
	while ((fields = fscanf(file, "%zu %u %u", &round, &page, &delta)) == 3) {
		while (trace->rounds <= round)
			trace_begin_round(trace);
		trace_add(trace, page, delta);
	}
	fclose(file);
	if (fields != EOF || !trace->nr)
		error(1, 0, "%s: malformed", path);
}

/**
 * trace_free() - free a trace
 * @trace: trace
 */
void trace_free(struct trace *trace)
{
	free(trace->accesses);
	free(trace->begins);
}

/**
 * trace_name() - what a recorded file is called
 * @path: where it is
 *
 * Return: the last part of the path, without what follows a dot; to be freed.
 */
char *trace_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *name = strdup(slash ? slash + 1 : path);

	if (!name)
		error(1, 0, "out of memory");
	name[strcspn(name, ".")] = '\0';
	return name;
}

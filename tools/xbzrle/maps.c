// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Which parts of a process's memory are meant. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "maps.h"

struct mapping {
	uint64_t start, end;
	char access[5];
	uint64_t inode;
	const char *name;
};

/**
 * maps_parse() - understand --map
 * @text: heap, anon, START-END in hexadecimal, or a name
 * @wish: filled in; refers to @text
 *
 * Return: 0, or -EINVAL for a range that is empty or not of whole pages.
 */
int maps_parse(const char *text, struct maps_wish *wish)
{
	int used = 0;

	*wish = (struct maps_wish){ .kind = MAPS_NAME, .text = text };
	if (!strcmp(text, "heap")) {
		wish->kind = MAPS_HEAP;
	} else if (!strcmp(text, "anon")) {
		wish->kind = MAPS_ANON;
	} else if (sscanf(text, "%" SCNx64 "-%" SCNx64 "%n", &wish->start,
			  &wish->end, &used) == 2 && !text[used]) {
		wish->kind = MAPS_RANGE;
		if (wish->start >= wish->end ||
		    (wish->start | wish->end) % XBZRLE_UNIT_SIZE)
			return -EINVAL;
	}
	return *text ? 0 : -EINVAL;
}

/**
 * maps_add() - understand one more --map
 * @wishes: array, which grows
 * @count: how many are in it
 * @text: as for maps_parse()
 *
 * Return: 0 or a negative errno.
 */
int maps_add(struct maps_wish **wishes, size_t *count, const char *text)
{
	struct maps_wish *grown;

	grown = array_room(*wishes, *count, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	*wishes = grown;
	return maps_parse(text, &grown[(*count)++]);
}

/**
 * maps_add_default() - what is meant if nothing was said
 * @wishes: array, which grows if it is empty
 * @count: how many are in it
 * @err: set on failure
 *
 * Return: 0 or -ENOMEM.
 */
int maps_add_default(struct maps_wish **wishes, size_t *count,
		     struct xbzrle_error *err)
{
	if (*count || (!maps_add(wishes, count, "heap") &&
		       !maps_add(wishes, count, "anon")))
		return 0;
	return xbzrle_fail(err, ENOMEM, 0, "no memory");
}

static bool parse_line(char *line, struct mapping *mapping)
{
	int name = 0;

	line[strcspn(line, "\n")] = '\0';
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %" SCNu64 " %n",
		   &mapping->start, &mapping->end, mapping->access,
		   &mapping->inode, &name) < 4)
		return false;
	mapping->name = line + name;
	return true;
}

static bool is_heap(const struct mapping *mapping)
{
	return !strcmp(mapping->name, "[heap]");
}

static bool is_anon(const struct mapping *mapping)
{
	return !mapping->inode && mapping->access[1] == 'w' &&
		mapping->access[3] == 'p' &&
		(!*mapping->name || !strncmp(mapping->name, "[anon:", 6));
}

/* What the kernel puts into every process has no file either. */
static bool is_private_memory(const struct mapping *mapping)
{
	return !mapping->inode && mapping->access[3] == 'p' &&
		(*mapping->name != '[' || is_heap(mapping) ||
		 !strncmp(mapping->name, "[anon:", 6) ||
		 !strncmp(mapping->name, "[stack", 6));
}

/* Cuts @range down to what the wish wants of the mapping. */
static bool wanted(const struct maps_wish *wish, const struct mapping *mapping,
		   struct maps_range *range)
{
	const char *slash = strrchr(mapping->name, '/');

	switch (wish->kind) {
	case MAPS_HEAP:
		return is_heap(mapping);
	case MAPS_ANON:
		return is_anon(mapping);
	case MAPS_NAME:
		return !strcmp(mapping->name, wish->text) ||
			(slash && !strcmp(slash + 1, wish->text));
	default:
		if (range->start < wish->start)
			range->start = wish->start;
		if (range->end > wish->end)
			range->end = wish->end;
		return range->start < range->end;
	}
}

static int add_range(struct maps_range **ranges, size_t *count,
		     const struct maps_range *range)
{
	struct maps_range *grown;

	grown = array_room(*ranges, *count, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	grown[(*count)++] = *range;
	*ranges = grown;
	return 0;
}

static int select_mapping(const struct mapping *mapping,
			  struct maps_wish *wishes, size_t wish_count,
			  struct maps_range **ranges, size_t *range_count)
{
	struct maps_range range;
	bool taken = false;
	size_t i;

	for (i = 0; i < wish_count; i++) {
		range = (struct maps_range){
			.start = mapping->start,
			.end = mapping->end,
			.heap = is_heap(mapping),
			.anon = is_private_memory(mapping),
			.shared = mapping->access[3] == 's',
		};
		if (!wanted(&wishes[i], mapping, &range))
			continue;
		wishes[i].found = true;
		if (taken)
			continue;
		if (add_range(ranges, range_count, &range))
			return -ENOMEM;
		/* Only ranges can want another part of the same mapping. */
		taken = wishes[i].kind != MAPS_RANGE;
	}
	return 0;
}

/**
 * maps_select() - find what is meant in the process as it is now
 * @pid: process
 * @wishes: what the user wants; marked as found, if they are
 * @wish_count: how many; a mapping that several want is taken once
 * @ranges: set; to be freed by the caller. Ranges of --map START-END that
 *	overlap are not merged.
 * @range_count: how many there are, perhaps none
 * @err: set on failure
 *
 * Return: 0 or a negative errno, -ESRCH if there is no such process.
 */
int maps_select(pid_t pid, struct maps_wish *wishes, size_t wish_count,
		struct maps_range **ranges, size_t *range_count,
		struct xbzrle_error *err)
{
	struct mapping mapping;
	char path[32], *line = NULL;
	size_t room = 0;
	FILE *maps;
	int ret = 0;

	*ranges = NULL;
	*range_count = 0;
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	if (!maps)
		return xbzrle_fail(err, errno == ENOENT ? ESRCH : errno, 0,
				   "cannot read the memory map of process %d: %s",
				   pid, strerror(errno == ENOENT ? ESRCH :
						 errno));

	while (!ret && getline(&line, &room, maps) > 0) {
		if (parse_line(line, &mapping))
			ret = select_mapping(&mapping, wishes, wish_count,
					     ranges, range_count);
	}
	/* A map that breaks off would pass for one with less in it. */
	if (!ret && ferror(maps))
		ret = -EIO;
	free(line);
	fclose(maps);
	if (ret) {
		free(*ranges);
		*ranges = NULL;
		return xbzrle_fail(err, -ret, 0,
				   "cannot read the memory map of process %d: %s",
				   pid, strerror(-ret));
	}
	return 0;
}

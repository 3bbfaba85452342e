// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* docs/uapi.md has what fdinfo shows of a session. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "listing.h"
#include "signals.h"

/* Of what a signal that we do not know of may keep the kernel from showing. */
#define TRIES	10

static char unescape(const char **text)
{
	static const char letters[] = "nrtvfae\\\"", stand_for[] =
		"\n\r\t\v\f\a\033\\\"";
	const char *at = *text;
	const char *letter;
	unsigned int value;

	*text = at + 1;
	if (*at != '\\' || !at[1])
		return *at;
	letter = strchr(letters, at[1]);
	if (letter) {
		*text = at + 2;
		return stand_for[letter - letters];
	}
	if (sscanf(at + 1, "%3o", &value) != 1)
		return *at;
	*text = at + 4;
	return value;
}

static int add(struct listing *listing, const char *escaped,
	       struct xbzrle_error *err)
{
	struct listing_name *names, *new;
	size_t length;

	names = array_room(listing->names, listing->count, sizeof(*names));
	if (!names)
		return xbzrle_fail(err, ENOMEM, 0, "no memory");
	listing->names = names;
	new = &names[listing->count++];
	for (length = 0; *escaped && length < XBZRLE_NAME_MAX; length++)
		new->text[length] = unescape(&escaped);
	new->text[length] = '\0';
	return 0;
}

/* 1 if the session was shown, 0 if not, or a negative errno. */
static int parse(struct listing *listing, FILE *file, struct xbzrle_error *err)
{
	static const char key[] = " name ";
	char *line = NULL, *name;
	size_t room = 0;
	ssize_t length;
	int ret = 0, shown = 0;
	bool complete;

	while (!ret && (length = getline(&line, &room, file)) > 0) {
		if (line[length - 1] == '\n')
			line[length - 1] = '\0';
		shown |= !strncmp(line, "round:", 6);
		name = strncmp(line, "region:", 7) ? NULL : strstr(line, key);
		if (name)
			ret = add(listing, name + strlen(key), err);
	}
	complete = feof(file);
	free(line);
	/* What breaks off would pass for a session with fewer regions. */
	return ret ? ret : shown && complete;
}

static int compare(const void *one, const void *other)
{
	const struct listing_name *first = one, *second = other;

	return strcmp(first->text, second->text);
}

/**
 * listing_read() - which regions has a session?
 * @listing: filled in; to be freed by listing_free() if that succeeds
 * @fd: the session
 * @err: set on failure
 *
 * Return: 0 or a negative errno.
 */
int listing_read(struct listing *listing, int fd, struct xbzrle_error *err)
{
	int tries, ret = 0;
	char path[40];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	*listing = (struct listing){};
	for (tries = 0; !ret && tries < TRIES; tries++) {
		listing_free(listing);
		ret = signals_check(err);
		if (ret)
			return ret;
		file = fopen(path, "re");
		if (!file)
			return xbzrle_fail(err, errno, 0, "cannot open %s: %s",
					   path, strerror(errno));
		ret = parse(listing, file, err);
		fclose(file);
	}
	if (ret > 0) {
		if (listing->count)
			qsort(listing->names, listing->count,
			      sizeof(*listing->names), compare);
		return 0;
	}
	listing_free(listing);
	return ret ? ret : xbzrle_fail(err, EIO, 0,
				       "%s does not show the session", path);
}

/**
 * listing_has() - has the session a region of that name?
 * @listing: listing
 * @name: name
 *
 * Return: whether it has.
 */
bool listing_has(const struct listing *listing, const char *name)
{
	struct listing_name key;

	snprintf(key.text, sizeof(key.text), "%s", name);
	return listing->count &&
		bsearch(&key, listing->names, listing->count, sizeof(key),
			compare);
}

/**
 * listing_free() - forget a listing
 * @listing: listing
 */
void listing_free(struct listing *listing)
{
	free(listing->names);
	*listing = (struct listing){};
}

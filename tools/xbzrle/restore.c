// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* What is done with a chain of snapshots afterwards: restore, verify, fold. */
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chain.h"
#include "command.h"
#include "images.h"
#include "replica.h"
#include "signals.h"
#include "units.h"

struct options {
	char *path;
	uint64_t number;	/* 0 for the last */
	const char *output;
	uint64_t memory;
	bool json;
};

/* DIR@N, where N are digits; a directory of such a name takes a slash. */
static int parse_round(char *text, struct options *options)
{
	char *at = strrchr(text, '@');

	options->path = text;
	if (!at || !at[1] || at[1 + strspn(at + 1, "0123456789")])
		return 0;
	*at = '\0';
	if (units_parse_number(at + 1, INT64_MAX, &options->number) ||
	    !options->number)
		return -EINVAL;
	return 0;
}

/* A machine that has taken the snapshots has had the process and a copy of it. */
static uint64_t half_of_memory(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 2;
}

/* From the last round that has all. */
static int replay(const struct chain *chain, size_t index,
		  struct replica *replica, struct xbzrle_error *err)
{
	size_t i = chain_full_before(chain, index);
	int ret = 0;

	/* Files are compared when they are complete, for that takes long. */
	for (; i <= index && !ret; i++)
		ret = chain_read(chain, i, replica,
				 !replica->images || i == index, err);
	return ret;
}

/* The manifest of the images, with digests of its own. */
static int declare(struct images *images, const struct replica *replica,
		   json_t **manifest, struct xbzrle_error *err)
{
	struct images_region *region;
	size_t i;
	int ret;

	for (i = 0; i < images->count; i++) {
		region = &images->regions[i];
		if (region->state == IMAGES_ANNOUNCED)
			images_drop(images, region);
		if (region->state != IMAGES_PRESENT)
			continue;
		ret = digest_file(region->fd, region->length, region->digest,
				  err);
		if (ret)
			return ret;
	}
	*manifest = images_manifest(images, replica->rounds);
	if (!*manifest)
		return xbzrle_fail(err, ENOMEM, 0,
				   "no memory to describe the regions");
	return images_write_manifest(images, *manifest, err);
}

static int print_restored(const struct options *options,
			  const struct chain *chain, size_t index,
			  const struct replica *replica,
			  const json_t *manifest, struct xbzrle_error *err)
{
	json_t *entry;
	int ret = 0;

	if (options->json) {
		ret = command_print_json(manifest, JSON_INDENT(2), err);
		putchar('\n');
	} else {
		entry = chain_entry(chain, index, err);
		if (!entry)
			return -err->code;
		printf("restored round %" PRIu64 " of ",
		       chain->rounds[index].number);
		command_print(stdout, json_string_value(json_object_get(entry,
									"time")) ?:
			      "an unknown time");
		json_decref(entry);
		printf(": %zu regions; digests agree\n",
		       replica_present(replica));
	}
	return ret ? ret : command_flush(err);
}

static int restore_images(const struct options *options,
			  const struct chain *chain, size_t index,
			  struct xbzrle_error *err)
{
	json_t *manifest = NULL;
	struct replica replica;
	struct images images;
	int ret;

	ret = images_open(&images, options->output, err);
	if (ret)
		return ret;
	ret = replica_open(&replica, &images, options->memory, err);
	if (ret)
		goto close_images;
	ret = replay(chain, index, &replica, err);
	if (!ret)
		ret = declare(&images, &replica, &manifest, err);
	if (!ret)
		ret = print_restored(options, chain, index, &replica,
				     manifest, err);
	json_decref(manifest);
	replica_close(&replica);
close_images:
	images_close(&images);
	return ret;
}

static int restore(const struct options *options, struct xbzrle_error *err)
{
	struct chain chain;
	size_t index;
	int ret;

	ret = chain_open(&chain, options->path, CHAIN_READ, err);
	if (ret)
		return ret;
	ret = chain_find(&chain, options->number, &index, err);
	if (!ret)
		ret = restore_images(options, &chain, index, err);
	chain_close(&chain);
	return ret;
}

/**
 * struct verdict - how the check of a chain goes
 * @is_good: of each round, whether it can be restored
 * @good: how many can
 * @last_good: the last of them
 * @following: the replica is as the round before has made it
 * @first: why the first that is not good is not
 */
struct verdict {
	bool *is_good;
	size_t good;
	uint64_t last_good;
	bool following;
	struct xbzrle_error first;
};

/* A round whose base is damaged is of no more use than one that is so itself. */
static int verify_round(const struct options *options,
			const struct chain *chain, size_t index,
			struct replica *replica, struct verdict *verdict,
			struct xbzrle_error *err)
{
	const struct chain_round *round = &chain->rounds[index];
	int ret = signals_check(err);

	/* Of many rounds whose base is damaged nothing is read. */
	if (ret)
		return ret;
	if (!round->base) {
		replica_close(replica);
		ret = replica_open(replica, NULL, options->memory, err);
		if (ret) {
			*replica = (struct replica){};
			return ret;
		}
		verdict->following = true;
	}
	if (verdict->following) {
		ret = chain_read(chain, index, replica, true, err);
		/* Not being able to is no damage. */
		if (ret == -EINTR || ret == -ENOMEM || ret == -ENOBUFS)
			return ret;
		verdict->following = !ret;
	}
	verdict->is_good[index] = verdict->following;
	if (verdict->following) {
		verdict->good++;
		verdict->last_good = round->number;
	} else if (ret && !verdict->first.code) {
		verdict->first = *err;
	}
	return 0;
}

static int verify_rounds(const struct options *options,
			 const struct chain *chain, struct verdict *verdict,
			 struct xbzrle_error *err)
{
	struct replica replica;
	size_t i;
	int ret;

	verdict->is_good = calloc(chain->count + 1, sizeof(bool));
	if (!verdict->is_good)
		return xbzrle_fail(err, ENOMEM, 0, "no memory");
	ret = replica_open(&replica, NULL, options->memory, err);
	if (ret)
		return ret;
	for (i = 0; i < chain->count && !ret; i++)
		ret = verify_round(options, chain, i, &replica, verdict, err);
	replica_close(&replica);
	if (chain->damage.code && !verdict->first.code)
		verdict->first = chain->damage;
	return ret;
}

/* One after the other: of a long chain they would take a lot of memory. */
static int print_rounds(const struct chain *chain,
			const struct verdict *verdict, struct xbzrle_error *err)
{
	json_t *entry;
	size_t i;
	int ret = 0;

	for (i = 0; i < chain->count && !ret; i++) {
		entry = chain_entry(chain, i, err);
		if (!entry)
			return -err->code;
		printf("%s\n    ", i ? "," : "");
		if (json_object_set_new(entry, "good",
					json_boolean(verdict->is_good[i])))
			ret = xbzrle_fail(err, ENOMEM, 0, "no memory");
		else
			ret = command_print_json(entry, JSON_COMPACT, err);
		json_decref(entry);
	}
	return ret;
}

static int print_verdict_json(const struct chain *chain,
			      const struct verdict *verdict,
			      struct xbzrle_error *err)
{
	const struct xbzrle_error *first = &verdict->first;
	json_t *error = first->code ? command_json_text(first->message) :
		json_null();
	int ret;

	printf("{\n  \"rounds\": [");
	ret = print_rounds(chain, verdict, err);
	if (ret)
		goto free_error;
	printf("],\n  \"good\": %zu,\n  \"cut\": %s,\n  \"error\": ",
	       verdict->good, chain->cut ? "true" : "false");
	ret = command_print_json(error, JSON_ENCODE_ANY, err);
	printf("\n}\n");
	if (!ret)
		ret = command_flush(err);
free_error:
	json_decref(error);
	return ret;
}

static int print_verdict(const struct options *options,
			 const struct chain *chain,
			 const struct verdict *verdict,
			 struct xbzrle_error *err)
{
	if (options->json)
		return print_verdict_json(chain, verdict, err);
	printf("%zu of %zu rounds are good", verdict->good, chain->count);
	if (verdict->good)
		printf(", the last of them is %" PRIu64, verdict->last_good);
	putchar('\n');
	if (chain->cut)
		printf("the manifest ends in a line that is not complete, which is no round\n");
	return command_flush(err);
}

static int verify(const struct options *options, struct xbzrle_error *err)
{
	struct verdict verdict = {};
	struct chain chain;
	int ret;

	ret = chain_open(&chain, options->path, CHAIN_READ, err);
	if (ret)
		return ret;
	ret = verify_rounds(options, &chain, &verdict, err);
	if (!ret)
		ret = print_verdict(options, &chain, &verdict, err);
	if (!ret && verdict.first.code) {
		*err = verdict.first;
		ret = -err->code;
	}
	free(verdict.is_good);
	chain_close(&chain);
	return ret;
}

static int fold(const struct options *options, struct xbzrle_error *err)
{
	struct replica replica;
	struct chain chain;
	size_t index;
	int ret;

	ret = chain_open(&chain, options->path, CHAIN_FOLD, err);
	if (ret)
		return ret;
	ret = chain_find(&chain, options->number, &index, err);
	if (ret)
		goto close_chain;
	ret = replica_open(&replica, NULL, options->memory, err);
	if (ret)
		goto close_chain;
	ret = replay(&chain, index, &replica, err);
	if (!ret && index)
		ret = chain_fold(&chain, index, &replica, err);
	if (!ret) {
		printf("round %" PRIu64 " is the first now; %zu before it are gone\n",
		       options->number, index);
		ret = command_flush(err);
	}
	replica_close(&replica);
close_chain:
	chain_close(&chain);
	return ret;
}

enum {
	OPT_MEMORY = 256,
};

static error_t parse_name(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case 'j':
		options->json = true;
		break;
	case 'o':
		options->output = arg;
		break;
	case OPT_MEMORY:
		if (units_parse_size(arg, &options->memory))
			argp_error(state, "'%s' is not a proper value", arg);
		break;
	case ARGP_KEY_ARG:
		if (state->arg_num)
			return ARGP_ERR_UNKNOWN;
		if (parse_round(arg, options))
			argp_error(state, "'%s' is not a number of a round",
				   arg + strlen(arg) + 1);
		break;
	case ARGP_KEY_END:
		if (!options->path)
			argp_error(state, "the directory of a chain is needed");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

#define HOLD_MEMORY_HELP \
	"Most memory that the regions may take (default: half of the machine's)"

static const struct argp_option restore_options[] = {
	{ "output", 'o', "DIR", 0, "Where the images go", 0 },
	{ "json", 'j', NULL, 0, "Print the manifest of the images", 0 },
	{ "memory", OPT_MEMORY, "SIZE", 0, COMMAND_MEMORY_HELP, 0 },
	{}
};

static const struct argp_option verify_options[] = {
	{ "json", 'j', NULL, 0, "Print JSON", 0 },
	{ "memory", OPT_MEMORY, "SIZE", 0, HOLD_MEMORY_HELP, 0 },
	{}
};

static const struct argp_option fold_options[] = {
	{ "memory", OPT_MEMORY, "SIZE", 0, HOLD_MEMORY_HELP, 0 },
	{}
};

static const struct argp restore_argp = {
	.options = restore_options,
	.parser = parse_name,
	.args_doc = "--output DIR CHAIN[@N]",
	.doc =
	"Make image files, as recv does, of round N of a chain of snapshots, or of the last.",
};

static const struct argp verify_argp = {
	.options = verify_options,
	.parser = parse_name,
	.args_doc = "CHAIN",
	.doc = "Check that each round of a chain of snapshots can be restored.",
};

static const struct argp fold_argp = {
	.options = fold_options,
	.parser = parse_name,
	.args_doc = "CHAIN@N",
	.doc =
	"Give round N of a chain of snapshots all that it builds upon, and drop those before.",
};

static int finish(int ret, const struct xbzrle_error *err)
{
	if (ret)
		command_failed(err);
	return command_status(ret);
}

/**
 * restore_main() - xbzrle restore
 * @argc: arguments
 * @argv: arguments
 *
 * Return: exit status.
 */
int restore_main(int argc, char **argv)
{
	struct options options = { .memory = COMMAND_MEMORY };
	struct xbzrle_error err;

	argp_parse(&restore_argp, argc, argv, 0, NULL, &options);
	if (!options.output) {
		return finish(xbzrle_fail(&err, COMMAND_MISUSED, 0,
					  "--output DIR is needed"), &err);
	}
	return finish(restore(&options, &err), &err);
}

/**
 * verify_main() - xbzrle verify
 * @argc: arguments
 * @argv: arguments
 *
 * Return: exit status.
 */
int verify_main(int argc, char **argv)
{
	struct options options = { .memory = half_of_memory() };
	struct xbzrle_error err;

	argp_parse(&verify_argp, argc, argv, 0, NULL, &options);
	if (options.number) {
		return finish(xbzrle_fail(&err, COMMAND_MISUSED, 0,
					  "a chain is verified as a whole"),
			      &err);
	}
	return finish(verify(&options, &err), &err);
}

/**
 * fold_main() - xbzrle fold
 * @argc: arguments
 * @argv: arguments
 *
 * Return: exit status.
 */
int fold_main(int argc, char **argv)
{
	struct options options = { .memory = half_of_memory() };
	struct xbzrle_error err;

	argp_parse(&fold_argp, argc, argv, 0, NULL, &options);
	if (!options.number) {
		return finish(xbzrle_fail(&err, COMMAND_MISUSED, 0,
					  "the number of a round is needed"),
			      &err);
	}
	return finish(fold(&options, &err), &err);
}

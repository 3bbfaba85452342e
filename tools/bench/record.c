// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Runs a program and records how its writable private memory changes: each
 * round it is stopped, and what differs from the round before is noted. Writes
 * NAME.rounds, lines of "round page delta" with pages numbered densely in the
 * order of their addresses, and NAME.pages, some of the pages that changed, each
 * as it was and as it is.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <error.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <xbzrle/codec.h>

#include "kinds.h"
#include "trace.h"

#define SEED		20261127
/* Pages of NAME.pages. */
#define SAMPLES		256
/* Bits of /proc/PID/pagemap: in memory, in swap. */
#define POPULATED	(3ull << 62)

/* A page that was seen, as it was then. */
struct known {
	uint64_t address;
	uint8_t *content;
};

/* Of the rounds; the page is an address still. */
struct change {
	uint32_t round;
	uint32_t delta;
	uint64_t address;
};

struct sample {
	uint8_t base[UNIT_BYTES];
	uint8_t page[UNIT_BYTES];
};

struct recorder {
	pid_t pid;
	int mem;
	int pagemap;
	uint32_t round;
	struct known *known;
	size_t nr_known;
	size_t nr_sorted;
	struct change *changes;
	size_t nr_changes;
	struct sample *samples;
	size_t nr_sampled;
	uint64_t random;
};

struct options {
	unsigned int rounds;
	unsigned int every;
	const char *ready;
	const char *name;
	char **program;
};

/* Room for one more in an array that doubles. */
static void *grow(void *array, size_t nr, size_t size)
{
	if (nr & (nr - 1))
		return array;
	array = realloc(array, (nr ? 2 * nr : 1) * size);
	if (!array)
		error(1, 0, "out of memory");
	return array;
}

static int compare_known(const void *a, const void *b)
{
	const struct known *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

static void add_change(struct recorder *recorder, uint64_t address,
		       uint32_t delta)
{
	recorder->changes = grow(recorder->changes, recorder->nr_changes,
				 sizeof(*recorder->changes));
	recorder->changes[recorder->nr_changes++] =
		(struct change){ recorder->round, delta, address };
}

static void add_known(struct recorder *recorder, uint64_t address,
		      const uint8_t *content)
{
	struct known *known;

	recorder->known = grow(recorder->known, recorder->nr_known,
			       sizeof(*recorder->known));
	known = &recorder->known[recorder->nr_known++];
	known->address = address;
	known->content = malloc(UNIT_BYTES);
	if (!known->content)
		error(1, 0, "out of memory");
	memcpy(known->content, content, UNIT_BYTES);
}

/* Each change has the same chance to be among the samples. */
static void sample(struct recorder *recorder, const uint8_t *base,
		   const uint8_t *page)
{
	size_t i = recorder->nr_sampled++;

	if (i >= SAMPLES)
		i = random_next(&recorder->random) % recorder->nr_sampled;
	if (i >= SAMPLES)
		return;
	memcpy(recorder->samples[i].base, base, UNIT_BYTES);
	memcpy(recorder->samples[i].page, page, UNIT_BYTES);
}

static void look_at(struct recorder *recorder, uint64_t address,
		    const uint8_t *content)
{
	static uint8_t delta[UNIT_BYTES];
	struct known key = { .address = address }, *known;
	ssize_t len;

	known = bsearch(&key, recorder->known, recorder->nr_sorted,
			sizeof(key), compare_known);
	if (!known) {
		add_known(recorder, address, content);
		add_change(recorder, address, UNIT_BYTES);
		return;
	}
	len = xbzrle_encode(known->content, content, UNIT_BYTES, delta,
			    UNIT_BYTES - 1);
	if (!len)
		return;
	sample(recorder, known->content, content);
	add_change(recorder, address, len < 0 ? UNIT_BYTES : len);
	memcpy(known->content, content, UNIT_BYTES);
}

/* What is not populated would become so by reading it. */
static bool populated(const struct recorder *recorder, uint64_t address)
{
	uint64_t entry = 0;

	return pread(recorder->pagemap, &entry, sizeof(entry),
		     address / UNIT_BYTES * sizeof(entry)) == sizeof(entry) &&
	       entry & POPULATED;
}

static void look_at_mapping(struct recorder *recorder, uint64_t begin,
			    uint64_t end)
{
	static const uint8_t zero[UNIT_BYTES];
	static uint8_t content[UNIT_BYTES];
	uint64_t address;

	for (address = begin; address < end; address += UNIT_BYTES)
		/* A page that is zero is sent as such, and is no base. */
		if (populated(recorder, address) &&
		    pread(recorder->mem, content, UNIT_BYTES, address) ==
		    UNIT_BYTES && memcmp(content, zero, UNIT_BYTES))
			look_at(recorder, address, content);
}

static FILE *open_proc(pid_t pid, const char *name)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	file = fopen(path, "r");
	if (!file)
		error(1, errno, "%s", path);
	return file;
}

/* In order of addresses. The program is stopped. */
static void look_at_all(struct recorder *recorder)
{
	FILE *maps = open_proc(recorder->pid, "maps");
	char *line = NULL, writable, private;
	uint64_t begin, end;
	size_t size = 0;

	while (getline(&line, &size, maps) > 0)
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*c%c%*c%c", &begin,
			   &end, &writable, &private) == 4 &&
		    writable == 'w' && private == 'p')
			look_at_mapping(recorder, begin, end);
	free(line);
	fclose(maps);
	qsort(recorder->known, recorder->nr_known, sizeof(*recorder->known),
	      compare_known);
	recorder->nr_sorted = recorder->nr_known;
}

/* waitpid(), which is not to say that the program ended. */
static void wait_for(const struct recorder *recorder, int options)
{
	int status;
	pid_t pid = waitpid(recorder->pid, &status, options);

	if (pid < 0)
		error(1, errno, "waitpid");
	if (pid && !WIFSTOPPED(status))
		error(1, 0, "the program ended before round %u",
		      recorder->round);
}

static uint64_t used_ms(const struct recorder *recorder)
{
	struct timespec now;
	clockid_t clock;

	if (clock_getcpuclockid(recorder->pid, &clock) ||
	    clock_gettime(clock, &now))
		error(1, 0, "no clock of the program");
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

/* Of its time, so that what else runs here makes rounds no shorter. */
static void run_until(const struct recorder *recorder, uint64_t ms)
{
	const struct timespec nap = { .tv_nsec = 1000000 };

	while (used_ms(recorder) < ms) {
		nanosleep(&nap, NULL);
		wait_for(recorder, WNOHANG);
	}
}

/* Its memory is there when its end of the pipe is closed, by exec. */
static void begin(struct recorder *recorder, const struct options *options)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC), ends[2];
	char nothing;

	if (null < 0 || pipe2(ends, O_CLOEXEC))
		error(1, errno, "cannot start the program");
	recorder->pid = fork();
	if (recorder->pid < 0)
		error(1, errno, "fork");
	if (!recorder->pid) {
		/* Whatever ends the recorder, this does not go on. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(null, STDOUT_FILENO);
		execvp(options->program[0], options->program);
		error(127, errno, "%s", options->program[0]);
	}
	close(null);
	close(ends[1]);
	if (read(ends[0], &nothing, 1))
		error(1, errno, "cannot start the program");
	close(ends[0]);
}

static void record(struct recorder *recorder, const struct options *options)
{
	uint64_t ms;

	recorder->mem = fileno(open_proc(recorder->pid, "mem"));
	recorder->pagemap = fileno(open_proc(recorder->pid, "pagemap"));
	ms = used_ms(recorder);
	for (; recorder->round < options->rounds; recorder->round++) {
		ms += options->every;
		run_until(recorder, ms);
		kill(recorder->pid, SIGSTOP);
		wait_for(recorder, WUNTRACED);
		look_at_all(recorder);
		kill(recorder->pid, SIGCONT);
	}
}

static FILE *create(const char *name, const char *suffix)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s%s", name, suffix);
	file = fopen(path, "w");
	if (!file)
		error(1, errno, "%s", path);
	return file;
}

static void finish(FILE *file)
{
	if (ferror(file) || fclose(file))
		error(1, 0, "cannot write what was recorded");
}

static void write_rounds(const struct recorder *recorder, const char *name)
{
	FILE *file = create(name, ".rounds");
	struct known key, *known;
	size_t i;

	for (i = 0; i < recorder->nr_changes; i++) {
		key.address = recorder->changes[i].address;
		known = bsearch(&key, recorder->known, recorder->nr_known,
				sizeof(key), compare_known);
		fprintf(file, "%u %zu %u\n", recorder->changes[i].round,
			(size_t)(known - recorder->known),
			recorder->changes[i].delta);
	}
	finish(file);
}

static void write_pages(const struct recorder *recorder, const char *name)
{
	size_t nr = recorder->nr_sampled;
	FILE *file = create(name, ".pages");

	fwrite(recorder->samples, sizeof(*recorder->samples),
	       nr < SAMPLES ? nr : SAMPLES, file);
	finish(file);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case 'r':
		options->rounds = atoi(arg);
		return 0;
	case 'e':
		options->every = atoi(arg);
		return 0;
	case 'c':
		options->ready = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (options->name)
			return ARGP_ERR_UNKNOWN;
		options->name = arg;
		return 0;
	case ARGP_KEY_ARGS:
		options->program = state->argv + state->next;
		return 0;
	case ARGP_KEY_END:
		if (!options->program)
			argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option argp_options[] = {
	{ "rounds", 'r', "N", 0, "rounds to record (default 32)", 0 },
	{ "every", 'e', "MS", 0,
	  "milliseconds that the program runs between two (default 20)", 0 },
	{ "ready", 'c', "COMMAND", 0, "begin when this command is done", 0 },
	{ 0 }
};

static const struct argp argp = {
	.options = argp_options,
	.parser = parse_option,
	.args_doc = "NAME PROGRAM [ARG...]",
	.doc = "Record how the memory of a program changes.",
};

int main(int argc, char **argv)
{
	struct options options = { .rounds = 32, .every = 20 };
	struct recorder recorder = { .random = SEED };

	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &options))
		return EXIT_FAILURE;
	recorder.samples = calloc(SAMPLES, sizeof(*recorder.samples));
	if (!recorder.samples)
		error(1, 0, "out of memory");
	begin(&recorder, &options);
	if (options.ready && system(options.ready)) {
		kill(recorder.pid, SIGKILL);
		error(1, 0, "failed: %s", options.ready);
	}
	record(&recorder, &options);
	kill(recorder.pid, SIGKILL);
	waitpid(recorder.pid, NULL, 0);
	write_rounds(&recorder, options.name);
	write_pages(&recorder, options.name);
	return EXIT_SUCCESS;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Random calls with random and half-valid arguments. First one thread makes
 * them, and a model says of each what it returns and gives back. Then several
 * threads and processes make them on the same sessions, where what is wrong
 * with the arguments still has to be found, and the rest may happen. A seed
 * gives the same calls again.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"
#include "mm.h"

#include "kselftest.h"

#define OWNED_FDS	4U
/* The longest range of OP_MAP, which owned memory to be mapped has to have. */
#define OWNED_LENGTH	(8 * UNIT)
/* Calls that are made twice, to see that they are the same. */
#define REPEATED	400
/* How much longer than asked for the rarest things are waited for. */
#define PATIENCE	16
#define SPLICE_MAX	(64U << 10)

/**
 * struct snapshot - what a call that fails must not change
 * @stats: GET_STATS
 * @fdinfo: all regions, and the round
 * @lowest_fd: the file descriptor that would be next
 */
struct snapshot {
	struct xbzrle_stats stats;
	char fdinfo[8192];
	int lowest_fd;
};

static struct fuzz_state state;
static struct fuzz_view view;
static int owned[OWNED_FDS];
static int pipe_fds[2];
static unsigned int seen[OPS][RULES];
static uint64_t digest;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void read_fdinfo(int fd, char *text, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	if (mm_read_file(path, text, size))
		text[0] = 0;
}

static void take_snapshot(struct snapshot *s, int fd)
{
	memset(s, 0, sizeof(*s));
	dev_stats(fd, &s->stats);
	read_fdinfo(fd, s->fdinfo, sizeof(s->fdinfo));
	s->lowest_fd = dup(STDERR_FILENO);
	close(s->lowest_fd);
}

/* Are the regions in there exactly those of the model? */
static const char *check_fdinfo(struct fuzz_session *session)
{
	unsigned int tracker, pages, nr = 0, reading = 2;
	unsigned long long round = ~0ULL;
	const struct fuzz_region *r;
	static char text[8192];
	unsigned long id;
	char *line, *rest = text;

	read_fdinfo(session->fd, text, sizeof(text));
	while ((line = strsep(&rest, "\n"))) {
		if (sscanf(line, "round:\t%llu", &round) == 1 ||
		    sscanf(line, "reading:\t%u", &reading) == 1 ||
		    sscanf(line, "region:\t%lu tracker %u pages %u", &id,
			   &tracker, &pages) != 3)
			continue;
		nr++;
		r = fuzz_find_region(session, id);
		if (!r || pages != r->length / UNIT ||
		    tracker != r->tracker)
			return "fdinfo has a region that should not be";
	}
	if (nr != session->nr_regions)
		return "fdinfo lacks a region";
	return round == session->round && reading == session->active ?
	       NULL : "fdinfo has another round";
}

static bool open_session(struct fuzz_session *session)
{
	memset(session, 0, sizeof(*session));
	session->fd = dev_open();
	session->receiver = model_new();
	return session->fd >= 0 && session->receiver;
}

static void close_session(struct fuzz_session *session)
{
	close(session->fd);
	model_free(session->receiver);
}

/* Is what is written to be marked as well? */
static bool is_told(const struct fuzz_call *call)
{
	return call->op == OP_WRITE && call->pick >> 16 & 1;
}

/* Few writes would hit a region that is told of them. */
static void aim(struct fuzz_call *call)
{
	const struct fuzz_session *session = &state.sessions[call->session];
	const struct fuzz_region *r;
	unsigned int i;

	for (i = 0; i < session->nr_regions; i++) {
		r = &session->regions[i];
		if (r->tracker != XBZRLE_TRACKER_EXTERNAL || r->error ||
		    r->addr >= FUZZ_BASE + FUZZ_PAGES * UNIT)
			continue;
		call->child = r->space == &state.child;
		call->first = (r->addr - FUZZ_BASE) / UNIT;
		call->nr = 1 + call->pick / 4 % (r->length / UNIT);
	}
}

/* Fill in what the call's number does not say. */
static void resolve(struct fuzz_call *call)
{
	const struct fuzz_session *session = &state.sessions[call->session];
	const struct fuzz_region *ended = fuzz_find_ended(session, 0, 0);
	static const pid_t pids[] = {
		[WHO_NOBODY] = INT32_MAX,
		[WHO_KTHREAD] = 2,
		[WHO_NEGATIVE] = -1,
	};
	unsigned int nr = session->nr_regions;
	__u32 *id = fuzz_region_id(call);

	if (id && !*id && nr) {
		/* Those that have ended keep all others from going on. */
		if (!ended || call->op != OP_UNREGISTER || call->pick % 4 == 0)
			ended = &session->regions[call->pick / 4 % nr];
		*id = ended->id;
	}
	if (is_told(call))
		aim(call);
	if (call->op != OP_REGISTER)
		return;
	if (call->who == WHO_PID)
		call->arg.reg.pid = getpid();
	else if (call->who == WHO_CHILD)
		call->arg.reg.pid = state.child.pid;
	else if (call->who != WHO_ZERO)
		call->arg.reg.pid = pids[call->who];
}

static const char *feed(struct fuzz_session *session,
			const struct fuzz_call *call, const void *bytes,
			size_t len)
{
	unsigned int rounds = session->receiver->rounds;

	if (model_feed(session->receiver, bytes, len))
		return session->receiver->error;
	session->bytes += len;
	if (session->receiver->rounds == rounds)
		return NULL;
	session->active = false;
	session->moment = false;
	return fuzz_told_check(&state, session, call->pick >> 18 & 1);
}

/* What was read is in the first buffer, and then in the second. */
static const char *feed_all(struct fuzz_session *session,
			    const struct fuzz_call *call)
{
	size_t len = call->ret;
	const char *why;

	if (len <= call->len)
		return feed(session, call, (void *)call->at, len);
	why = feed(session, call, (void *)call->at, call->len);
	return why ?: feed(session, call, view.buffer + FUZZ_BUFFER / 2,
			   len - call->len);
}

static int64_t splice_some(int fd, size_t len)
{
	ssize_t ret = splice(fd, NULL, pipe_fds[1], NULL, len,
			     SPLICE_F_NONBLOCK);
	ssize_t n, got = 0;

	if (ret < 0)
		return -errno;
	while (got < ret) {
		n = read(pipe_fds[0], view.buffer + got, ret - got);
		if (n <= 0)
			abort();
		got += n;
	}
	return ret;
}

static void make_read(struct fuzz_call *call, int fd)
{
	const struct iovec vec[] = {
		{ (void *)call->at, call->len },
		{ view.buffer + FUZZ_BUFFER / 2, call->len2 },
	};

	switch (call->op) {
	case OP_READ:
		call->ret = read(fd, vec[0].iov_base, vec[0].iov_len);
		break;
	case OP_READV:
		call->ret = readv(fd, vec, 2);
		break;
	default:
		call->at = (uintptr_t)view.buffer;
		if (call->len > SPLICE_MAX)
			call->len = SPLICE_MAX;
		call->ret = splice_some(fd, call->len);
		return;
	}
	if (call->ret < 0)
		call->ret = -errno;
}

/* Has a round that is not read something of the other process? */
static bool child_is_read(void)
{
	const struct fuzz_session *session;
	unsigned int i, j;

	for (i = 0; i < FUZZ_SESSIONS; i++) {
		session = &state.sessions[i];
		for (j = 0; session->active && j < session->nr_regions; j++)
			if (session->regions[j].space == &state.child)
				return true;
	}
	return false;
}

static bool change_child(unsigned int how)
{
	struct fuzz_space *child = &state.child;
	bool ok = true;

	if (child->gone)
		return fuzz_space_reap(child) &&
		       fuzz_space_fork(&state.self, child);
	/* At any moment, but more often when it is noticed at once. */
	switch (child_is_read() ? how % 2 : how % 16) {
	case 0:
		ok = fuzz_space_kill(child);
		fuzz_process_gone(&state, child);
		break;
	case 1:
		if (child->idle)
			break;
		ok = fuzz_space_exec(child);
		fuzz_process_gone(&state, child);
		break;
	}
	return ok;
}

/* Changes to memory, which have to work. */
static bool change_memory(const struct fuzz_call *call)
{
	struct fuzz_space *space = &state.self;
	enum fuzz_kind kind = call->kind;
	unsigned int to = call->pick % FUZZ_PAGES;
	int fd = owned[call->pick % OWNED_FDS];

	if (call->child && !state.child.gone && !state.child.idle)
		space = &state.child;
	if (kind == KIND_OWNED && (space->pid || fd < 0))
		kind = KIND_PRIVATE;
	switch (call->op) {
	case OP_MAP:
		fuzz_unmapped(&state, space, call->first, call->nr);
		return fuzz_space_map(space, call->first, call->nr, kind, fd);
	case OP_MOVE:
		if (to == call->first ||
		    state.self.kinds[call->first] == KIND_HOLE)
			return true;
		fuzz_unmapped(&state, &state.self, to, 1);
		fuzz_unmapped(&state, &state.self, call->first, 1);
		return fuzz_space_move(&state.self, call->first, to);
	case OP_WRITE:
		fuzz_told_written(&state, space, call->first, call->nr);
		if (!fuzz_space_write(space, call->first, call->nr, call->pick))
			return false;
		return !is_told(call) ||
		       fuzz_told_tell(&state, space, call->first, call->nr);
	default:
		return change_child(call->pick);
	}
}

static bool reopen(struct fuzz_session *session)
{
	close_session(session);
	return open_session(session);
}

static bool result_agrees(const struct fuzz_call *call,
			  struct fuzz_expect *expect)
{
	const struct fuzz_session *session = &state.sessions[call->session];
	int64_t want = fuzz_rule_error(expect->rule);

	if (expect->or_ended && call->ret < 0 &&
	    fuzz_find_ended(session, call->ret, 0)) {
		/* EFAULT may be of the buffer as well. */
		if (expect->rule != RULE_BUFFER)
			expect->rule = call->ret == -ESRCH ? RULE_GONE :
							     RULE_UNMAPPED;
		return true;
	}
	if (expect->or_budget &&
	    call->ret == fuzz_rule_error(RULE_BUDGET)) {
		expect->rule = RULE_BUDGET;
		return true;
	}
	switch (expect->rule) {
	case RULE_BYTES:
		return call->ret > 0 &&
		       (size_t)call->ret <= call->len + call->len2;
	case RULE_POLL_GONE:
		want = POLLERR | POLLHUP;
		if (session->active)
			want |= POLLIN;
		break;
	case RULE_POLL_IN:
		want = POLLIN;
		break;
	default:
		break;
	}
	return call->ret == want;
}

/* A file descriptor that came with a region is used later, or not at all. */
static void keep_owned(const struct fuzz_call *call)
{
	int *slot = &owned[call->pick % OWNED_FDS];

	if (call->out.create.length < OWNED_LENGTH) {
		close(call->out.create.fd);
		return;
	}
	if (*slot >= 0)
		close(*slot);
	*slot = call->out.create.fd;
}

static void count_told(struct fuzz_session *session,
		       const struct fuzz_call *call, enum fuzz_rule rule)
{
	enum fuzz_rule told = fuzz_rule_told(session, call, rule);

	if (told)
		seen[call->op][told]++;
}

static const char *judge(struct fuzz_call *call, struct fuzz_expect *expect,
			 const struct snapshot *before)
{
	struct fuzz_session *session = &state.sessions[call->session];
	static struct snapshot after;
	const char *why = NULL;

	if (!result_agrees(call, expect))
		return "not what was expected";
	seen[call->op][expect->rule]++;
	if (expect->rule == RULE_BUDGET && call->op > OP_UNKNOWN) {
		session->whole = false;
		session->torn++;
	}
	if (call->op > OP_UNKNOWN)
		return call->ret > 0 && call->op <= OP_SPLICE ?
		       feed_all(session, call) : NULL;
	if (fuzz_view_changed(call, &view, expect->answer))
		return "the kernel wrote where it must not";
	why = fuzz_check_answer(&state, call, expect);
	if (why)
		return why;
	if (call->ret) {
		if (call->op == OP_SYNC)
			fuzz_told_failed(session, call->arg.flags);
		/* What was read of the bitmap may have been marked. */
		if (expect->rule == RULE_BITMAP)
			session->distrusted = true;
		count_told(session, call, expect->rule);
		if (!before)
			return NULL;
		take_snapshot(&after, session->fd);
		return memcmp(before, &after, sizeof(after)) ?
		       "a call that failed has changed something" : NULL;
	}
	fuzz_commit(&state, call);
	count_told(session, call, expect->rule);
	if (call->op == OP_CREATE)
		keep_owned(call);
	return NULL;
}

static void add_to_digest(const struct fuzz_call *call)
{
	const uint64_t values[] = {
		call->op, call->session, call->cmd, call->pick, call->name,
		call->at - (call->op < OP_READ ? view.base : call->at),
		call->arg.size, call->arg.flags, call->ret < 0 ? call->ret : 0,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(values); i++)
		digest = (digest ^ values[i]) * 0x100000001b3ULL;
}

/* NULL if the call came out as predicted. */
static const char *make_call(struct fuzz_call *call,
			     struct fuzz_expect *expect)
{
	struct fuzz_session *session = &state.sessions[call->session];
	static struct snapshot before;
	bool compare = call->op <= OP_UNKNOWN && call->pick % 2;

	/* Bases may have made room before it failed. */
	if (call->op == OP_SYNC &&
	    call->arg.flags & XBZRLE_SYNC_POINT_IN_TIME)
		compare = false;
	resolve(call);
	if (call->op == OP_REOPEN)
		return reopen(session) ? NULL : "no new session";
	if (call->op > OP_REOPEN)
		return change_memory(call) ? NULL : "memory would not change";
	*expect = fuzz_predict(&state, &view, call);
	if (compare)
		take_snapshot(&before, session->fd);
	if (call->op <= OP_UNKNOWN)
		fuzz_ioctl(call, &view, session->fd);
	else if (call->op <= OP_SPLICE)
		make_read(call, session->fd);
	else
		call->ret = dev_poll(session->fd);
	return judge(call, expect, compare ? &before : NULL);
}

static bool set_up(void)
{
	unsigned int i;

	memset(seen, 0, sizeof(seen));
	state.compared = 0;
	state.passed_over = 0;
	digest = 0;
	for (i = 0; i < OWNED_FDS; i++)
		owned[i] = -1;
	if (pipe(pipe_fds) || !fuzz_space_init(&state.self) ||
	    !fuzz_space_fork(&state.self, &state.child) ||
	    !fuzz_view_init(&view, 0))
		return false;
	for (i = 0; i < FUZZ_SESSIONS; i++)
		if (!open_session(&state.sessions[i]))
			return false;
	return !dev_info(state.sessions[0].fd, &state.info);
}

static void tear_down(void)
{
	unsigned int i;

	if (!state.child.gone)
		fuzz_space_kill(&state.child);
	fuzz_space_reap(&state.child);
	for (i = 0; i < FUZZ_SESSIONS; i++)
		close_session(&state.sessions[i]);
	for (i = 0; i < OWNED_FDS; i++)
		if (owned[i] >= 0)
			close(owned[i]);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	fuzz_space_destroy(&state.self);
	fuzz_view_destroy(&view);
}

static const char *read_all(struct fuzz_call *call, struct fuzz_expect *expect)
{
	const char *why;

	call->op = OP_READ;
	call->at = (uintptr_t)view.buffer;
	call->len = FUZZ_BUFFER;
	do {
		why = make_call(call, expect);
	} while (!why && call->ret > 0);
	return why;
}

/*
 * Go on with rounds that have lost a region. If it was left to chance, most of
 * them would have been read already, or the region dropped.
 */
static const char *read_on(struct fuzz_call *call, struct fuzz_expect *expect)
{
	const char *why = NULL;
	unsigned int i;

	for (i = 0; i < FUZZ_SESSIONS && !why; i++) {
		if (!fuzz_find_ended(&state.sessions[i], 0, 0))
			continue;
		call->session = i;
		why = read_all(call, expect);
	}
	return why;
}

/* Begin a round in each session that can, and read it to its end if @read. */
static const char *sync_all(struct fuzz_call *call, struct fuzz_expect *expect,
			    bool read)
{
	const struct fuzz_session *session;
	const char *why = NULL;
	unsigned int i;

	for (i = 0; i < FUZZ_SESSIONS && !why; i++) {
		session = &state.sessions[i];
		if (session->active || fuzz_find_ended(session, 0, 0))
			continue;
		call->session = i;
		fuzz_make_sync(call, &view);
		why = make_call(call, expect);
		if (!why && read)
			why = read_all(call, expect);
	}
	return why;
}

/*
 * Make @call in the middle of rounds. By chance the other process would end
 * between them, or in one that has none of its memory.
 */
static const char *call_in_rounds(struct fuzz_call *call,
				  struct fuzz_expect *expect)
{
	const struct fuzz_call wanted = *call;
	const char *why = sync_all(call, expect, false);

	*call = wanted;
	*expect = (struct fuzz_expect){ 0 };
	return why ?: make_call(call, expect);
}

/*
 * Have what was marked sent. By chance most of it would be so in a FULL round,
 * or in the first of its region, or never, as the region ends before.
 */
static const char *go_round(struct fuzz_call *call, struct fuzz_expect *expect)
{
	return sync_all(call, expect, true);
}

/* The first round of a region has all of it, marked or not: write twice. */
static const char *tell_again(struct fuzz_call *call,
			      struct fuzz_expect *expect)
{
	const struct fuzz_call write = *call;
	const char *why = go_round(call, expect);

	if (why)
		return why;
	*call = write;
	why = make_call(call, expect);
	return why ?: go_round(call, expect);
}

/* How often the rarest was seen of what has to be the reason of some result. */
static unsigned int rarest(enum fuzz_op op, enum fuzz_rule *rule)
{
	unsigned int i, nr = UINT_MAX;

	for (i = 0; i < RULES; i++) {
		if (seen[op][i] >= nr ||
		    !fuzz_rule_required(op, i, state.info.features))
			continue;
		nr = seen[op][i];
		*rule = i;
	}
	return nr;
}

/* Rounds had marked units of external regions, and could leave out others. */
static bool told_seen(void)
{
	return !(state.info.features & XBZRLE_FEATURE_TRACKER_EXTERNAL) ||
	       (state.compared && state.passed_over);
}

static bool all_seen(void)
{
	enum fuzz_rule rule;
	unsigned int i;

	for (i = 0; i < OPS; i++)
		if (!rarest(i, &rule))
			return false;
	return told_seen();
}

/*
 * Until @calls are made or, if that is 0, @seconds are over and everything was
 * seen. Returns the number of calls, or 0 if one came out wrong.
 */
static uint64_t run_sequence(uint64_t seed, double seconds, uint64_t calls)
{
	double start = now(), spent = 0;
	uint64_t complete = 0;
	static struct fuzz_call call;
	struct fuzz_expect expect;
	const char *why = NULL;
	uint64_t nr = 0;

	while (!why && (calls ? nr < calls :
			spent < seconds || (spent < seconds * PATIENCE &&
					    !complete))) {
		expect = (struct fuzz_expect){ 0 };
		fuzz_make_call(&call, &view, seed, ++nr);
		if (call.op == OP_CHILD && call.pick % 2)
			why = call_in_rounds(&call, &expect);
		else
			why = make_call(&call, &expect);
		if (!why && is_told(&call))
			why = tell_again(&call, &expect);
		else if (!why && call.op >= OP_MAP && call.pick % 2)
			why = read_on(&call, &expect);
		add_to_digest(&call);
		if (!why && call.op < OP_REOPEN && call.pick % 16 == 0)
			why = check_fdinfo(&state.sessions[call.session]);
		if (nr % 64)
			continue;
		spent = now() - start;
		if (!complete && all_seen())
			complete = nr;
	}
	if (complete)
		ksft_print_msg("everything was seen after %llu calls\n",
			       (unsigned long long)complete);
	if (!why)
		return nr;
	ksft_print_msg("seed %llu: %s\n", (unsigned long long)seed, why);
	fuzz_print_call(&call);
	ksft_print_msg("expected %d: %s\n", fuzz_rule_error(expect.rule),
		       fuzz_rule_text(expect.rule));
	return 0;
}

static bool is_repeatable(uint64_t seed)
{
	uint64_t digests[2];
	unsigned int i;
	bool ok = true;

	for (i = 0; i < 2; i++) {
		if (!set_up())
			ksft_exit_fail_msg("no device, or no memory\n");
		ok &= run_sequence(seed, 0, REPEATED) != 0;
		tear_down();
		digests[i] = digest;
	}
	return ok && digests[0] == digests[1];
}

static void report_seen(void)
{
	enum fuzz_rule rule;
	unsigned int i, nr;

	for (i = 0; i <= OP_POLL; i++) {
		nr = rarest(i, &rule);
		ksft_print_msg("%s: rarest is %s (%d), seen %u times\n",
			       fuzz_op_names[i], fuzz_rule_text(rule),
			       fuzz_rule_error(rule), nr);
		ksft_test_result(nr, "fuzz: %s came to all it can\n",
				 fuzz_op_names[i]);
	}
}

static void test_sequence(uint64_t seed, double seconds, uint64_t calls)
{
	uint64_t nr;

	ksft_test_result(is_repeatable(seed), "fuzz: a seed gives the same calls\n");
	if (!set_up())
		ksft_exit_fail_msg("no device, or no memory\n");
	nr = run_sequence(seed, seconds, calls);
	ksft_print_msg("%llu calls, digest %#llx\n", (unsigned long long)nr,
		       (unsigned long long)digest);
	ksft_test_result(nr, "fuzz: each call comes out as documented\n");
	report_seen();
	ksft_print_msg("%llu units of external regions compared, %llu passed over\n",
		       (unsigned long long)state.compared,
		       (unsigned long long)state.passed_over);
	ksft_test_result(told_seen(), "fuzz: rounds have what was marked, and nothing else\n");
	tear_down();
}

/* Nobody has anything open, mapped or registered. */
static bool module_is_idle(void)
{
	char text[32];

	return !mm_read_file("/sys/module/xbzrle/refcnt", text, sizeof(text)) &&
	       !strcmp(text, "0\n");
}

static int lowest_fd(void)
{
	int fd = dup(STDERR_FILENO);

	close(fd);
	return fd;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'r' },
		{ "calls", required_argument, NULL, 'c' },
		{ "idle", no_argument, NULL, 'i' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	uint64_t seed = time(NULL), calls = 0;
	double seconds = mm_debug_kernel() ? 40 : 15;
	int option, fd;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 's':
			seconds = strtod(optarg, NULL);
			break;
		case 'r':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'c':
			calls = strtoull(optarg, NULL, 0);
			break;
		case 'i':
			/* What a process becomes that execs. */
			return pause();
		default:
			fprintf(stderr, "usage: %s [--seconds N] [--seed N] [--calls N]\n",
				argv[0]);
			return option == 'h' ? 0 : 2;
		}
	}

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	ksft_print_header();
	ksft_set_plan(OP_POLL + 1 + 5);
	ksft_print_msg("seed %llu\n", (unsigned long long)seed);
	fd = lowest_fd();
	test_sequence(seed, seconds * 2 / 3, calls);
	ksft_test_result(fuzz_threads(seed, seconds / 3, &state.info),
			 "fuzz: threads get what is documented\n");
	ksft_test_result(fd == lowest_fd() && module_is_idle(),
			 "fuzz: nobody is left\n");
	ksft_finished();
}

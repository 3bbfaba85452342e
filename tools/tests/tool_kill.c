// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Transfers of which somebody is killed: the sender, the receiver, or the
 * process that is sent. Prints TAP. Needs the module: run it in the VM, with
 * xbzrle in PATH. usage: tool_kill [SECONDS [SEED]]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../selftests/rnd.h"

#define PAGE		4096
#define LENGTH		(64 * PAGE)
/* A transfer that takes longer hangs. */
#define PATIENCE	60
#define REFCNT		"/sys/module/xbzrle/refcnt"

enum victim {
	NOBODY,
	SENDER,
	RECEIVER,
	TARGET,
	VICTIMS,
};

static const char *const names[VICTIMS] = {
	"nobody", "the sender", "the receiver", "the target",
};

/**
 * struct transfer - one turn
 * @sender: process, 0 when it has ended
 * @receiver: likewise
 * @target: process whose memory is sent
 * @mem: its address there
 * @victim: who is to be killed
 * @sent: wait status of @sender
 * @received: of @receiver
 */
struct transfer {
	pid_t sender;
	pid_t receiver;
	pid_t target;
	unsigned char *mem;
	enum victim victim;
	int sent;
	int received;
};

static uint64_t state;
static char error[256];

static bool fail(const char *fmt, ...)
{
	va_list ap;

	if (*error)
		return false;
	va_start(ap, fmt);
	vsnprintf(error, sizeof(error), fmt, ap);
	va_end(ap);
	return false;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Writes, and sees that what it wrote is there. */
static void target_loop(unsigned char *mem, uint64_t s)
{
	unsigned char *shadow = malloc(LENGTH);
	uint64_t value, at;
	unsigned int turn;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memcpy(shadow, mem, LENGTH);
	for (turn = 0;; turn++) {
		value = rnd(&s);
		at = rnd_below(&s, LENGTH / 8) * 8;
		memcpy(mem + at, &value, 8);
		memcpy(shadow + at, &value, 8);
		if (turn % 64)
			continue;
		if (memcmp(mem, shadow, LENGTH))
			_exit(1);
		usleep(rnd_below(&s, 2000));
	}
}

static bool start_target(struct transfer *t)
{
	uint64_t seed = rnd(&state);

	if (t->target)
		return true;
	t->target = fork();
	if (!t->target)
		target_loop(t->mem, rnd_seed(seed, 0));
	return t->target > 0 || fail("fork: %s", strerror(errno));
}

/* With standard error into a file; @fd is the one that it inherits. */
static pid_t start(int fd, const char *log, char *const *arguments)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fcntl(fd, F_SETFD, 0);
	if (dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO) < 0 ||
	    dup2(open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600),
		 STDERR_FILENO) < 0)
		_exit(127);
	execvp("xbzrle", arguments);
	_exit(127);
}

static bool start_transfer(struct transfer *t)
{
	char range[64], pid[16], in[16], out[16];
	bool quick = rnd_below(&state, 2);
	int sock[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock))
		return fail("no socket");
	snprintf(range, sizeof(range), "%lx-%lx", (unsigned long)t->mem,
		 (unsigned long)t->mem + LENGTH);
	snprintf(pid, sizeof(pid), "%d", t->target);
	snprintf(out, sizeof(out), "fd:%d", sock[0]);
	snprintf(in, sizeof(in), "fd:%d", sock[1]);
	t->receiver = start(sock[1], "recv.log", (char *[]){
		"xbzrle", "recv", "--output", "images", in, NULL });
	/* Stopped at the end, so that it can be compared. */
	t->sender = start(sock[0], "send.log", (char *[]){
		"xbzrle", "send", "-q", "--pid", pid, "--map", range,
		"--max-rounds", quick ? "1" : "4", "--max-downtime", "1",
		"--then", "stop", out, NULL });
	close(sock[0]);
	close(sock[1]);
	return (t->receiver > 0 && t->sender > 0) || fail("no process");
}

/* True when both have ended. */
static bool ended(struct transfer *t)
{
	if (t->sender && waitpid(t->sender, &t->sent, WNOHANG) == t->sender)
		t->sender = 0;
	if (t->receiver &&
	    waitpid(t->receiver, &t->received, WNOHANG) == t->receiver)
		t->receiver = 0;
	return !t->sender && !t->receiver;
}

static bool finish(struct transfer *t, double kill_at)
{
	double until = now() + PATIENCE;
	bool killed = t->victim == NOBODY;
	pid_t pid;

	while (!ended(t)) {
		if (now() > until) {
			if (t->sender)
				kill(t->sender, SIGKILL);
			if (t->receiver)
				kill(t->receiver, SIGKILL);
			while (!ended(t))
				usleep(1000);
			return fail("a transfer hangs");
		}
		if (!killed && now() >= kill_at) {
			pid = t->victim == SENDER ? t->sender :
			      t->victim == RECEIVER ? t->receiver : t->target;
			if (pid)
				kill(pid, SIGKILL);
			killed = true;
		}
		usleep(200);
	}
	return true;
}

static bool is_killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* The state of the target: R, S, T, Z and so on. */
static char target_state(const struct transfer *t)
{
	char path[32], text[256], *paren;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", t->target);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	paren = strrchr(text, ')');
	return paren ? paren[2] : 0;
}

/* The image that the manifest stands for is the memory, which is stopped. */
static bool same(const struct transfer *t)
{
	static unsigned char memory[LENGTH], image[LENGTH + 1];
	struct iovec local = { memory, LENGTH }, remote = { t->mem, LENGTH };
	char command[128];
	ssize_t n = -1;
	FILE *f;

	snprintf(command, sizeof(command), "cat images/*.img");
	f = popen(command, "re");
	if (f) {
		n = fread(image, 1, sizeof(image), f);
		pclose(f);
	}
	if (process_vm_readv(t->target, &local, 1, &remote, 1, 0) != LENGTH)
		return fail("the target's memory: %s", strerror(errno));
	return (n == LENGTH && !memcmp(memory, image, LENGTH)) ||
	       fail("the image is not the memory");
}

/* Who is left says what happened, and agrees with the others. */
static bool judge(struct transfer *t)
{
	bool manifest = !access("images/manifest.json", F_OK);
	bool stopped = target_state(t) == 'T';

	if (!is_killed(t->sent) && t->sent && t->sent != 1 << 8)
		return fail("the sender ended with %#x", t->sent);
	if (!is_killed(t->received) && t->received && t->received != 1 << 8)
		return fail("the receiver ended with %#x", t->received);
	if (is_killed(t->sent) && t->victim != SENDER)
		return fail("the sender was killed");
	if (is_killed(t->received) && t->victim != RECEIVER)
		return fail("the receiver was killed");
	if (t->victim == NOBODY && (t->sent || t->received))
		return fail("nobody was killed: sender %#x, receiver %#x",
			    t->sent, t->received);
	if (!t->sent && !manifest)
		return fail("the sender is content without a manifest");
	if (!is_killed(t->received) && manifest != !t->received)
		return fail("a manifest: %d, but the receiver ended with %#x",
			    manifest, t->received);
	if (t->victim == TARGET)
		return !t->sent == !t->received ||
		       fail("the sender ended with %#x, the receiver with %#x",
			    t->sent, t->received);
	/* What send says when it has failed, and done no harm. */
	if (t->sent == 1 << 8 && stopped)
		return fail("a sender that failed leaves the process stopped");
	if (!t->sent && !stopped)
		return fail("the process was not stopped");
	/* With the sender killed in the last round it stays stopped too. */
	return !manifest || !stopped || same(t);
}

static bool end_turn(struct transfer *t)
{
	int status;
	pid_t pid;

	if (t->victim == TARGET) {
		kill(t->target, SIGKILL);
		pid = waitpid(t->target, &status, 0);
		t->target = 0;
		return (pid > 0 && is_killed(status)) ||
		       fail("the target ended by itself: %#x", status);
	}
	kill(t->target, SIGCONT);
	return !waitpid(t->target, &status, WNOHANG) ||
	       fail("the target found its memory changed");
}

static void tell_logs(void)
{
	fflush(stdout);
	if (system("sed 's/^/# send: /' send.log; sed 's/^/# recv: /' recv.log"))
		printf("# no logs\n");
}

/* @length is what a transfer takes, more or less. */
static bool turn(struct transfer *t, double *length)
{
	double start = now(), delay;
	bool ok;

	if (system("rm -rf images"))
		return fail("images stay");
	delay = *length * rnd_below(&state, 1200) / 1000;
	ok = start_target(t) && start_transfer(t) &&
	     finish(t, start + delay) && judge(t);
	if (ok && t->victim == NOBODY)
		*length = now() - start;
	return ok && end_turn(t);
}

static bool module_is_idle(void)
{
	char text[8] = "";
	int fd = open(REFCNT, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	close(fd);
	return n > 0 && !strcmp(text, "0\n");
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 20;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) :
				   (uint64_t)time(NULL);
	unsigned int counts[VICTIMS] = { 0 }, dead[VICTIMS] = { 0 }, i;
	char dir[] = "/tmp/tool_kill.XXXXXX";
	struct transfer t = { 0 };
	double until, length = 0;
	bool ok = true;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("1..3\n# seed %llu\n", (unsigned long long)seed);
	state = rnd_seed(seed, 0);
	signal(SIGPIPE, SIG_IGN);
	t.mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (t.mem == MAP_FAILED || !mkdtemp(dir) || chdir(dir)) {
		printf("Bail out! no memory or no directory\n");
		return 1;
	}
	memset(t.mem, 0x5a, LENGTH);

	until = now() + seconds;
	for (i = 0; ok && now() < until; i++) {
		t.victim = i ? rnd_below(&state, VICTIMS) : NOBODY;
		ok = turn(&t, &length);
		counts[t.victim]++;
		if (t.victim == SENDER)
			dead[SENDER] += is_killed(t.sent);
		else if (t.victim == RECEIVER)
			dead[RECEIVER] += is_killed(t.received);
		else if (t.victim == TARGET)
			dead[TARGET] += t.sent != 0;
	}
	if (!ok)
		tell_logs();
	for (i = 0; i < VICTIMS; i++)
		printf("# %s killed: %u transfers, in time %u\n", names[i],
		       counts[i], dead[i]);
	printf("%sok 1 - transfers of which somebody is killed%s%s\n",
	       ok ? "" : "not ", *error ? ": " : "", error);
	if (t.target) {
		kill(t.target, SIGKILL);
		waitpid(t.target, NULL, 0);
	}
	i = waitpid(-1, NULL, 0) == -1 && errno == ECHILD;
	printf("%sok 2 - no process is left\n", i ? "" : "not ");
	ok = module_is_idle() && ok && i;
	printf("%sok 3 - the module is not in use\n", module_is_idle() ? "" :
	       "not ");
	if (chdir("/") || (ok && execlp("rm", "rm", "-rf", dir, NULL)))
		return 1;
	return !ok;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The sending end without the module: a session that only reads a process, and
 * all else as it is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../xbzrle/command.h"
#include "../xbzrle/frame.h"
#include "../xbzrle/replica.h"
#include "../xbzrle/signals.h"
#include "fake_session.h"
#include "wire_build.h"
#include "wrapped.h"

#define PAGE		4096
/* Where the target maps, and no other mapping comes; of every second page. */
#define AREA		0x200000000000ULL
#define AREA_PAGES	4096
#define AREA_TEXT	"200000000000-200001000000"

/* What the target is told to do, and has done. */
enum order { NOTHING, MAP, UNMAP, EXEC, SHARE };

struct orders {
	volatile enum order order;
	volatile unsigned int first, count;
	volatile bool sibling;			/* has its memory */
	volatile bool end_it;			/* when it applies a record */
	volatile unsigned int applied;		/* by then and since */
	volatile unsigned int looked_up;	/* by the tool, in its replica */
	volatile pid_t sharer;			/* whom SHARE has made */
	volatile unsigned int cleared;		/* so often its bits were, */
	volatile unsigned int unstopped;	/* while it was not stopped */
};

static struct orders *orders;
static pid_t target;
static char words[4096];

struct replica_region *__wrap_replica_find(const struct replica *replica,
					   const char *name)
{
	orders->looked_up++;
	return __real_replica_find(replica, name);
}

int __wrap_xbzrle_image_apply(struct xbzrle_image *image,
			      const struct xbzrle_record *record,
			      struct xbzrle_error *err)
{
	if (orders->end_it) {
		orders->applied++;
		raise(SIGTERM);
	}
	return __real_xbzrle_image_apply(image, record, err);
}

static void *place(unsigned int number)
{
	return (void *)(uintptr_t)(AREA + 2ULL * number * PAGE);
}

static void map(unsigned int first, unsigned int count)
{
	unsigned int i;

	for (i = first; i < first + count; i++) {
		mmap(place(i), PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		memset(place(i), 1 + i % 255, PAGE);
	}
}

static void unmap(unsigned int first, unsigned int count)
{
	unsigned int i;

	for (i = first; i < first + count; i++)
		munmap(place(i), PAGE);
}

/* Another process with the same memory, which it writes. */
static int write_on(void *arg)
{
	volatile unsigned char *byte = arg;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;; usleep(10))
		++*byte;
	return 0;
}

static void be_target(void)
{
	static char stack[65536];

	/* The sender is no parent of it. */
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;; usleep(1000)) {
		switch (orders->order) {
		case MAP:
			map(orders->first, orders->count);
			break;
		case UNMAP:
			unmap(orders->first, orders->count);
			break;
		case EXEC:
			orders->order = NOTHING;
			execlp("sleep", "sleep", "1000", NULL);
			_exit(1);
		case SHARE:
			orders->sharer = clone(write_on, stack + sizeof(stack),
					       CLONE_VM | SIGCHLD, place(0));
			break;
		default:
			continue;
		}
		orders->order = NOTHING;
	}
}

/* Returns when it is done. */
static void tell(enum order order, unsigned int first, unsigned int count)
{
	unsigned int turn;

	orders->first = first;
	orders->count = count;
	orders->order = order;
	for (turn = 0; orders->order != NOTHING && turn < 20000; turn++)
		usleep(1000);
}

static int remove_dir(const char *path)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", path);
	return system(command);
}

static int begin(void **state)
{
	char top[] = "/tmp/xbzrle-send-XXXXXX";

	*state = mkdtemp(top) ? strdup(top) : NULL;
	if (!*state || chdir(top))
		return -1;
	fake = (struct fake){};
	orders = mmap(NULL, sizeof(*orders), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fflush(stdout);
	target = fork();
	if (!target)
		be_target();
	tell(MAP, 0, 1);
	return 0;
}

static int end(void **state)
{
	int ret = remove_dir(*state);

	kill(target, SIGKILL);
	waitpid(target, NULL, 0);
	munmap(orders, sizeof(*orders));
	free(*state);
	return ret;
}

/* As main() would call it, in a process of its own; its words go to a file. */
static pid_t start(int (*command)(int, char **), const char *name, ...)
{
	char *argv[16] = { (char *)name };
	int argc = 1, fd;
	va_list args;
	pid_t pid;

	va_start(args, name);
	while ((argv[argc] = va_arg(args, char *)))
		argc++;
	va_end(args);
	fflush(stdout);
	pid = fork();
	if (pid)
		return pid;
	fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	signals_catch();
	exit(command(argc, argv));
}

/* Its exit status, and its words in words[]. */
static int finish(pid_t pid, const char *name)
{
	ssize_t got;
	int status, fd;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	fd = open(name, O_RDONLY);
	got = read(fd, words, sizeof(words) - 1);
	close(fd);
	words[got > 0 ? got : 0] = '\0';
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* What is told of a failure has to fit cmocka's line. */
static void assert_said(int status, int want, const char *text)
{
	size_t length = strlen(words);

	if (status != want || !strstr(words, text))
		fail_msg("status %d, and '%s'", status,
			 words + (length > 400 ? length - 400 : 0));
}

static pid_t start_send(const char *to, const char *option, const char *value)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", target);
	return start(send_main, "send", "--pid", pid, "--map", AREA_TEXT,
		     "--max-downtime", "0", option, value, to, NULL);
}

static int send_to(const char *to, const char *option, const char *value)
{
	return finish(start_send(to, option, value), "send");
}

static int receive(const char *from, const char *dir)
{
	return finish(start(recv_main, "recv", "--output", dir, from, NULL),
		      "recv");
}

static char state_of(pid_t pid)
{
	char path[32], line[256] = "", *paren;
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	stat = fopen(path, "r");
	if (stat) {
		paren = fgets(line, sizeof(line), stat) ?
			strrchr(line, ')') : NULL;
		fclose(stat);
		if (paren)
			return paren[2];
	}
	return 0;
}

/* Bits of a kernel that may have none. */
int __wrap_softdirty_probe(struct xbzrle_error *err)
{
	(void)err;
	return 0;
}

int __wrap_softdirty_clear(pid_t pid, struct xbzrle_error *err)
{
	(void)pid;
	(void)err;
	orders->cleared++;
	if (orders->sharer && state_of(orders->sharer) != 'T')
		orders->unstopped++;
	return 0;
}

static char target_state(void)
{
	return state_of(target);
}

/* It may wait for a page or for what it executes. */
static bool runs(void)
{
	char state = target_state();

	return state && strchr("RSD", state);
}

static void assert_goes_on(void)
{
	assert_true(runs());
	tell(MAP, 0, 1);
	assert_int_equal(orders->order, NOTHING);
}

static void a_process_arrives(void **state)
{
	(void)state;
	tell(MAP, 1, 7);
	assert_said(send_to("file:dump", "--max-rounds", "3"), 0,
		    "8 regions in 3 rounds");
	assert_said(receive("file:dump", "images"), 0,
		    "received 8 regions, 32.0 KiB, in 3 rounds");
	assert_goes_on();
}

/* What the kernel finds wrong is not what the user has. */
static void what_fails_is_no_wrong_use(void **state)
{
	(void)state;
	fake.register_error = EINVAL;
	assert_said(send_to("file:dump", "--max-rounds", "3"), EXIT_FAILED,
		    "Invalid argument");
	fake.register_error = 0;
	fake.sync_error = EINVAL;
	assert_said(send_to("file:dump", "--max-rounds", "3"), EXIT_FAILED,
		    "Invalid argument");
	assert_said(send_to("tcp:1", "--max-rounds", "3"), EXIT_USAGE,
		    "is not tcp:HOST:PORT");
	assert_goes_on();
}

static void nothing_of_ours(void)
{
}

static void be_told_to_end(void)
{
	raise(SIGTERM);
}

/* The kernel does not say by what. */
static void registering_is_interrupted(void **state)
{
	(void)state;
	fake.on_interrupt = nothing_of_ours;
	assert_said(send_to("file:dump", "--max-rounds", "3"), 0,
		    "1 regions in 3 rounds");
	fake.on_interrupt = be_told_to_end;
	assert_said(send_to("file:dump", "--max-rounds", "3"), EXIT_FAILED,
		    "xbzrle: ended by Terminated\n");
	assert_goes_on();
}

/* Before the second round, which may be begun more than once. */
static void unmap_most(unsigned int before)
{
	static bool done;

	if (before == 1 && !done)
		tell(UNMAP, 1, 300);
	done = done || before == 1;
}

static void many_regions_end_between_rounds(void **state)
{
	(void)state;
	tell(MAP, 1, 305);
	fake.on_sync = unmap_most;
	assert_said(send_to("file:dump", "--max-rounds", "3"), 0,
		    "6 regions in 3 rounds");
	assert_said(receive("file:dump", "images"), 0, "received 6 regions");
	assert_goes_on();
}

/* Each time a round is to begin, the youngest region has ended. */
static void map_another(unsigned int before)
{
	static unsigned int last = 1;

	if (!before)
		return;
	tell(MAP, last + 1, 1);
	tell(UNMAP, last, 1);
	last++;
}

static void a_map_that_never_rests(void **state)
{
	(void)state;
	tell(MAP, 1, 300);
	fake.on_sync = map_another;
	assert_said(send_to("file:dump", "--max-rounds", "3"), 1,
		    "changes too fast: 100 ranges came and went");
	assert_goes_on();
}

static bool lacks_kcmp(void)
{
	return syscall(SYS_kcmp, getpid(), getpid(), KCMP_VM, 0, 0) &&
		errno == ENOSYS;
}

/* When the map has been read, and nobody is paused yet. */
static void map_more(unsigned int before)
{
	if (!before)
		tell(MAP, 1, 3);
}

#define TURNS	20

static void map_one_unmap_one(unsigned int rounds)
{
	tell(UNMAP, rounds, 1);
	tell(MAP, rounds + 1, 1);
}

static pid_t start_snapshot(const char *option, const char *value)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", target);
	return start(snapshot_main, "snapshot", "--pid", pid, "--map",
		     AREA_TEXT, "--output", "chain", option, value, "--every",
		     "1ms", NULL);
}

/* Else a process that maps and unmaps all the time has ever slower rounds. */
static void regions_that_ended_are_not_looked_up(void **state)
{
	(void)state;
	if (lacks_kcmp())
		skip();
	tell(MAP, 1, 1);
	fake.on_end = map_one_unmap_one;
	assert_said(finish(start_snapshot("--count", "20"), "snapshot"), 0,
		    "20 rounds");
	/* When its region begins to come, and when it has ended. */
	assert_in_range(orders->looked_up, TURNS - 1, 2 * TURNS + 2);
	assert_said(finish(start(verify_main, "verify", "chain", NULL),
			   "verify"), 0, "20 of 20 rounds are good");
	assert_said(finish(start(restore_main, "restore", "--output", "images",
				 "chain", NULL), "restore"), 0, "2 regions");
	assert_goes_on();
}

static void map_the_same_again(unsigned int rounds)
{
	(void)rounds;
	tell(UNMAP, 0, 1);
	tell(MAP, 0, 1);
}

/* Of a place that is mapped over and over, too, a name is that of one region. */
static void a_place_that_is_mapped_again(void **state)
{
	(void)state;
	if (lacks_kcmp())
		skip();
	fake.on_end = map_the_same_again;
	assert_said(finish(start_snapshot("--count", "4"), "snapshot"), 0,
		    "4 rounds");
	assert_said(finish(start(verify_main, "verify", "chain", NULL),
			   "verify"), 0, "4 of 4 rounds are good");
	assert_goes_on();
}

static void what_is_mapped_until_the_pause(void **state)
{
	(void)state;
	if (lacks_kcmp())
		skip();
	fake.on_register = map_more;
	assert_said(finish(start_snapshot("--count", "1"), "snapshot"), 0,
		    "1 rounds");
	assert_said(finish(start(restore_main, "restore", "--output", "images",
				 "chain", NULL), "restore"), 0, "4 regions");
	assert_goes_on();
}

/* Of the target's pages the first ones, as another program would. */
static void register_pages(struct xbzrle_session *session)
{
	struct xbzrle_region region;
	char name[16];
	uint32_t i;

	for (i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "page-%u", i);
		xbzrle_register(session, name, target, (uintptr_t)place(i),
				PAGE, XBZRLE_TRACKER_AUTO, &region, NULL);
	}
}

/* Of an inherited session; which descriptor that is does not matter. */
static pid_t start_snapshot_of_session(const char *option, const char *value)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", target);
	return start(snapshot_main, "snapshot", "--session", "0", "--pid", pid,
		     "--output", "chain", "--every", "1ms", option, value,
		     NULL);
}

static int snapshot_session(const char *count)
{
	return finish(start_snapshot_of_session("--count", count), "snapshot");
}

static void assert_chain(const char *good, const char *regions)
{
	assert_said(finish(start(verify_main, "verify", "chain", NULL),
			   "verify"), 0, good);
	assert_said(finish(start(restore_main, "restore", "--output", "images",
				 "chain", NULL), "restore"), 0, regions);
}

/* Its descriptor may have O_NONBLOCK, and others may look at it. */
static void a_session_that_is_busy(void **state)
{
	(void)state;
	if (lacks_kcmp())
		skip();
	tell(MAP, 1, 1);
	fake.on_open = register_pages;
	fake.busy = 5;
	assert_said(snapshot_session("2"), 0, "2 rounds");
	assert_chain("2 of 2 rounds are good", "2 regions");
	assert_goes_on();
}

static void leave_a_round(struct xbzrle_session *session)
{
	struct xbzrle_sync sync;
	char some[100];

	register_pages(session);
	assert_int_equal(xbzrle_sync(session, 0, &sync, NULL), 0);
	assert_int_equal(xbzrle_read(session, some, sizeof(some), NULL),
			 sizeof(some));
}

/* By a reader who was killed, or found the disk full. */
static void a_round_that_was_left_half_read(void **state)
{
	(void)state;
	if (lacks_kcmp())
		skip();
	tell(MAP, 1, 1);
	fake.on_open = leave_a_round;
	assert_said(snapshot_session("2"), 0, "2 rounds");
	assert_said(0, 0, "of a round that was left were thrown away");
	assert_chain("2 of 2 rounds are good", "2 regions");
	assert_goes_on();
}

static pid_t sibling;

/* A page of the target's, and one of another process, which ends. */
static void register_two_processes(struct xbzrle_session *session)
{
	struct xbzrle_region region;

	xbzrle_register(session, "ours", target, (uintptr_t)place(0), PAGE,
			XBZRLE_TRACKER_AUTO, &region, NULL);
	xbzrle_register(session, "other", sibling, (uintptr_t)place(0), PAGE,
			XBZRLE_TRACKER_AUTO, &region, NULL);
}

static void end_sibling(unsigned int rounds)
{
	if (rounds != 1)
		return;
	kill(sibling, SIGKILL);
	while (state_of(sibling) != 'Z')
		usleep(1000);
}

static void start_sibling(void)
{
	unsigned int turn;

	fflush(stdout);
	sibling = fork();
	for (turn = 0; sibling && !orders->sibling && turn < 20000; turn++)
		usleep(1000);
	if (sibling)
		return;
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	map(0, 1);
	orders->sibling = true;
	for (;;)
		pause();
}

/* That another is gone says nothing of the process that goes on. */
static void one_process_of_a_session_ends(void **state)
{
	(void)state;
	if (lacks_kcmp())
		skip();
	start_sibling();
	fake.on_open = register_two_processes;
	fake.on_end = end_sibling;
	assert_said(snapshot_session("3"), 0, "3 rounds");
	waitpid(sibling, NULL, 0);
	assert_chain("3 of 3 rounds are good", "1 regions");
	assert_goes_on();
}

static void register_sibling(struct xbzrle_session *session)
{
	struct xbzrle_region region;

	xbzrle_register(session, "other", sibling, (uintptr_t)place(0), PAGE,
			XBZRLE_TRACKER_AUTO, &region, NULL);
}

static void all_memory_of_a_session_ends(void **state)
{
	(void)state;
	if (lacks_kcmp())
		skip();
	start_sibling();
	fake.on_open = register_sibling;
	fake.on_end = end_sibling;
	assert_said(snapshot_session("3"), 1, "no region is left in the session");
	waitpid(sibling, NULL, 0);
	assert_goes_on();
}

static struct xbzrle_session *others;

/* With names that fdinfo escapes. */
static void register_odd_names(struct xbzrle_session *session)
{
	static const char * const names[] = {
		"stays \\\n\303\251", "goes \\\n\303\251", "goes",
	};
	struct xbzrle_region region;
	uint32_t i;

	others = session;
	for (i = 0; i < 3; i++)
		xbzrle_register(session, names[i], target, (uintptr_t)place(i),
				PAGE, XBZRLE_TRACKER_AUTO, &region, NULL);
}

/* While the first and the third round are read, which are taken once more then. */
static void unregister_some(unsigned int rounds)
{
	if (rounds == 1)
		xbzrle_unregister(others, 2, NULL);
	if (rounds == 3)
		xbzrle_unregister(others, 3, NULL);
}

/* The stream says nothing of them, as no other region is new. */
static void regions_that_others_unregister(void **state)
{
	char first[] = "chain@1";

	(void)state;
	if (lacks_kcmp())
		skip();
	tell(MAP, 1, 2);
	fake.on_open = register_odd_names;
	fake.on_end = unregister_some;
	assert_said(snapshot_session("4"), 0, "4 rounds");
	assert_chain("4 of 4 rounds are good", "1 regions");
	assert_said(finish(start(restore_main, "restore", "--output", "second",
				 first, NULL), "restore"), 0, "2 regions");
	assert_goes_on();
}

static void unmap_one(unsigned int rounds)
{
	if (rounds == 1)
		tell(UNMAP, 1, 1);
}

static void regions_of_others_that_end(void **state)
{
	(void)state;
	if (lacks_kcmp())
		skip();
	tell(MAP, 1, 1);
	fake.on_open = register_pages;
	fake.on_end = unmap_one;
	assert_said(snapshot_session("2"), 0, "2 rounds");
	assert_chain("2 of 2 rounds are good", "1 regions");
	assert_goes_on();
}

static void register_two_of_others(struct xbzrle_session *session)
{
	others = session;
	register_two_processes(session);
}

/* Whoever has the session waits with poll(), and is in it before the tool. */
static void unregister_before_us(unsigned int before)
{
	if (before == 1)
		fake.read_error = ESRCH;
	if (before != 2)
		return;
	end_sibling(1);
	xbzrle_unregister(others, 2, NULL);
}

/* When SYNC is asked which has ended there is none any more. */
static void regions_that_end_and_others_unregister(void **state)
{
	(void)state;
	if (lacks_kcmp())
		skip();
	start_sibling();
	fake.on_open = register_two_of_others;
	fake.on_sync = unregister_before_us;
	assert_said(snapshot_session("3"), 0, "3 rounds");
	waitpid(sibling, NULL, 0);
	assert_chain("3 of 3 rounds are good", "1 regions");
	assert_goes_on();
}

/* What a peer sends can make of a frame the work of minutes. */
static void a_signal_inside_a_frame(void **state)
{
	(void)state;
	tell(MAP, 1, 7);
	assert_said(send_to("file:dump", "--max-rounds", "1"), 0, "8 regions");
	orders->end_it = true;
	assert_said(receive("file:dump", "images"), 1, "ended by Terminated");
	assert_int_equal(orders->applied, 1);
	orders->end_it = false;
	orders->applied = 0;
	if (lacks_kcmp())
		skip();
	assert_said(finish(start_snapshot("--count", "1"), "snapshot"), 0,
		    "1 rounds");
	orders->end_it = true;
	assert_said(finish(start(verify_main, "verify", "chain", NULL),
			   "verify"), 1, "ended by Terminated");
	assert_int_equal(orders->applied, 1);
}

static int verify_and_end(int argc, char **argv)
{
	raise(SIGTERM);
	return verify_main(argc, argv);
}

/* That is no word about a chain. */
static void a_signal_inside_a_manifest(void **state)
{
	(void)state;
	if (lacks_kcmp())
		skip();
	assert_said(finish(start_snapshot("--count", "3"), "snapshot"), 0,
		    "3 rounds");
	assert_int_equal(unlink("chain/full-1.xbzrle"), 0);
	assert_said(finish(start(verify_main, "verify", "chain", NULL),
			   "verify"), 1, "0 of 3 rounds are good");
	assert_said(finish(start(verify_and_end, "verify", "chain", NULL),
			   "verify"), 1, "ended by Terminated");
	assert_null(strstr(words, "rounds are good"));
}

static void who_is_put_back_to_work_is_not_killed(void **state)
{
	unsigned int turn;
	char to[64];

	(void)state;
	snprintf(to, sizeof(to), "exec:cat >dump; kill -CONT %d", target);
	assert_said(send_to(to, "--then", "kill"), 1,
		    "put back to work by somebody else");
	assert_goes_on();
	assert_said(send_to("exec:cat >dump", "--then", "kill"), 0, "stopped");
	/* Its death may take a moment. */
	for (turn = 0; target_state() != 'Z' && turn < 20000; turn++)
		usleep(1000);
	assert_int_equal(target_state(), 'Z');
	assert_said(receive("file:dump", "images"), 0, "digests agree");
}

/* All has arrived, and it is dead, as was asked for. */
static void who_was_killed_by_somebody_else(void **state)
{
	unsigned int turn;
	pid_t pid;

	(void)state;
	pid = start_send("exec:cat >dump; touch all; while [ ! -e go ]; do sleep 0.1; done",
			 "--then", "kill");
	for (turn = 0; turn < 20000 && access("all", F_OK); turn++)
		usleep(1000);
	kill(target, SIGKILL);
	waitpid(target, NULL, 0);
	close(open("go", O_WRONLY | O_CREAT, 0600));
	/* For end(). */
	target = fork();
	if (!target)
		be_target();
	assert_said(finish(pid, "send"), 0, "stopped");
	assert_said(receive("file:dump", "images"), 0, "digests agree");
}

static unsigned char byte_of_target(void)
{
	unsigned char byte = 0;
	struct iovec to = { &byte, 1 }, from = { place(0), 1 };

	assert_int_equal(process_vm_readv(target, &to, 1, &from, 1, 0), 1);
	return byte;
}

static void who_shares_the_memory_is_stopped(void **state)
{
	unsigned char byte;

	(void)state;
	if (lacks_kcmp())
		skip();
	tell(SHARE, 0, 0);
	byte = byte_of_target();
	while (byte == byte_of_target())
		usleep(1000);
	assert_said(send_to("exec:cat >dump", "--then", "kill"), 1,
		    "shares its memory with");
	assert_goes_on();
	byte = byte_of_target();
	while (byte == byte_of_target())
		usleep(1000);
	assert_said(send_to("exec:cat >dump", "--then", "cont"), 0, "stopped");
	assert_said(receive("file:dump", "images"), 0, "digests agree");
	byte = byte_of_target();
	while (byte == byte_of_target())
		usleep(1000);
	assert_said(send_to("exec:cat >dump2", "--then", "stop"), 0, "stopped");
	byte = byte_of_target();
	usleep(20000);
	assert_int_equal(byte, byte_of_target());
	assert_said(receive("file:dump2", "images2"), 0, "digests agree");
}

/* What it writes between the look at a page's bit and its clearing is lost. */
static void who_shares_the_memory_is_stopped_for_its_bits(void **state)
{
	(void)state;
	if (lacks_kcmp())
		skip();
	fake.external = true;
	tell(SHARE, 0, 0);
	assert_said(send_to("file:dump", "--max-rounds", "3"), 0,
		    "using the external tracker");
	assert_int_equal(orders->cleared, 3);
	assert_int_equal(orders->unstopped, 0);
	assert_said(receive("file:dump", "images"), 0, "digests agree");
	assert_said(send_to("file:dump2", "--max-rounds=3", "--consistent"), 0,
		    "using the external tracker");
	assert_int_equal(orders->cleared, 6);
	assert_int_equal(orders->unstopped, 0);
	assert_goes_on();
}

static void wake_target(unsigned int before)
{
	(void)before;
	kill(target, SIGCONT);
}

/* More cache would be of no use. */
static void a_pause_that_others_end(void **state)
{
	(void)state;
	fake.on_sync = wake_target;
	assert_said(send_to("file:dump", "--max-rounds=1", "--consistent"),
		    EXIT_FAILED, "puts back to work who writes");
	fake.on_sync = NULL;
	assert_goes_on();
}

static void kill_target(unsigned int before)
{
	if (before != 0)
		return;
	kill(target, SIGKILL);
	while (target_state() != 'Z')
		usleep(1000);
}

/* From then on another may have its number. */
static void a_process_that_ends_as_it_is_registered(void **state)
{
	char text[64];

	(void)state;
	fake.on_register = kill_target;
	snprintf(text, sizeof(text), "xbzrle: process %d has ended\n", target);
	assert_said(send_to("file:dump", "--max-rounds", "3"), 1, text);
	assert_int_equal(access("dump", F_OK), -1);
}

static void execute(unsigned int before)
{
	char path[32], name[16] = "";
	FILE *comm;

	if (before != 1)
		return;
	tell(EXEC, 0, 0);
	snprintf(path, sizeof(path), "/proc/%d/comm", target);
	while (strcmp(name, "sleep\n")) {
		comm = fopen(path, "r");
		if (!comm || !fgets(name, sizeof(name), comm))
			break;
		fclose(comm);
	}
}

static void end_in_second_round(unsigned int before)
{
	kill_target(before - 1);
}

/* To the module it is the same. */
static void execution_is_no_end(void **state)
{
	(void)state;
	fake.on_sync = execute;
	fake.sync_error = ESRCH;
	assert_said(send_to("file:dump", "--max-rounds", "3"), 1,
		    "has executed another program");
	assert_true(runs());
	end(state);
	assert_int_equal(begin(state), 0);
	fake.on_sync = end_in_second_round;
	fake.sync_error = ESRCH;
	assert_said(send_to("file:dump", "--max-rounds", "3"), 1,
		    "No such process");
	assert_null(strstr(words, "executed"));
}

/* A receiver that says hello in its own way. */
static void refuses_hellos(void **state)
{
	static const struct {
		uint64_t offered, required;
		uint32_t unit;
		const char *message;
	} cases[] = {
		{ 1, 0, PAGE, "lacks features 0x2" },
		{ 2, 0, PAGE, "lacks features 0x1" },
		{ 3, 4, PAGE, "needs features 0x4" },
		{ 3 | 1ULL << 40, 0, PAGE, "takes features 0x10000000000" },
		{ 3, 0, 65536, "units have 65536 bytes, ours 4096" },
	};
	struct build payload = {}, hello = {};
	struct frame_link link;
	struct frame frame;
	int fds[2], status;
	char to[16];
	size_t i;
	pid_t pid;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		fcntl(fds[1], F_SETFD, FD_CLOEXEC);
		snprintf(to, sizeof(to), "fd:%d", fds[0]);
		hello.length = 0;
		payload.length = 0;
		build_be64(&payload, cases[i].offered);
		build_be64(&payload, cases[i].required);
		build_be32(&payload, cases[i].unit);
		build_frame(&hello, FRAME_HELLO, 0, payload.bytes,
			    payload.length);
		assert_int_equal(write(fds[1], hello.bytes, hello.length),
				 hello.length);
		pid = start_send(to, "--patience", "20");
		close(fds[0]);
		frame_link_init(&link, fds[1], fds[1], NULL);
		assert_int_equal(frame_receive(&link, &frame, NULL), 1);
		assert_int_equal(frame.type, FRAME_HELLO);
		assert_int_equal(frame_receive(&link, &frame, NULL), 1);
		assert_int_equal(frame.type, FRAME_ERROR);
		assert_non_null(strstr((const char *)frame.payload,
				       cases[i].message));
		/* The sender's copy of our end keeps nobody waiting. */
		close(fds[1]);
		frame_link_release(&link);
		status = finish(pid, "send");
		assert_said(status, 1, cases[i].message);
		assert_said(status, 1, "the same version of xbzrle");
		assert_goes_on();
	}
	build_free(&payload);
	build_free(&hello);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_process_arrives, begin, end),
		cmocka_unit_test_setup_teardown(registering_is_interrupted,
						begin, end),
		cmocka_unit_test_setup_teardown(what_fails_is_no_wrong_use,
						begin, end),
		cmocka_unit_test_setup_teardown(many_regions_end_between_rounds,
						begin, end),
		cmocka_unit_test_setup_teardown(a_map_that_never_rests, begin,
						end),
		cmocka_unit_test_setup_teardown(regions_that_ended_are_not_looked_up,
						begin, end),
		cmocka_unit_test_setup_teardown(a_place_that_is_mapped_again,
						begin, end),
		cmocka_unit_test_setup_teardown(what_is_mapped_until_the_pause,
						begin, end),
		cmocka_unit_test_setup_teardown(who_shares_the_memory_is_stopped,
						begin, end),
		cmocka_unit_test_setup_teardown(who_shares_the_memory_is_stopped_for_its_bits,
						begin, end),
		cmocka_unit_test_setup_teardown(a_pause_that_others_end, begin,
						end),
		cmocka_unit_test_setup_teardown(a_session_that_is_busy, begin,
						end),
		cmocka_unit_test_setup_teardown(a_round_that_was_left_half_read,
						begin, end),
		cmocka_unit_test_setup_teardown(one_process_of_a_session_ends,
						begin, end),
		cmocka_unit_test_setup_teardown(all_memory_of_a_session_ends,
						begin, end),
		cmocka_unit_test_setup_teardown(regions_that_others_unregister,
						begin, end),
		cmocka_unit_test_setup_teardown(regions_of_others_that_end,
						begin, end),
		cmocka_unit_test_setup_teardown(regions_that_end_and_others_unregister,
						begin, end),
		cmocka_unit_test_setup_teardown(a_signal_inside_a_frame, begin,
						end),
		cmocka_unit_test_setup_teardown(a_signal_inside_a_manifest,
						begin, end),
		cmocka_unit_test_setup_teardown(who_is_put_back_to_work_is_not_killed,
						begin, end),
		cmocka_unit_test_setup_teardown(who_was_killed_by_somebody_else,
						begin, end),
		cmocka_unit_test_setup_teardown(a_process_that_ends_as_it_is_registered,
						begin, end),
		cmocka_unit_test_setup_teardown(execution_is_no_end, begin,
						end),
		cmocka_unit_test_setup_teardown(refuses_hellos, begin, end),
	};

	return cmocka_run_group_tests_name("send", tests, NULL, NULL);
}

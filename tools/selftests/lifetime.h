/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * Lifetimes: each scenario is one turn of something that begins, is used and
 * ends at a random moment, by processes that run it over and over.
 */
#ifndef LIFETIME_H
#define LIFETIME_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "device.h"
#include "rnd.h"

#define LIFE_PAGES	24
#define LIFE_LENGTH	(LIFE_PAGES * UNIT)

/**
 * struct life_results - what all workers of a scenario came to
 * @turns: turns done
 * @kills: processes killed
 * @failed: a turn failed
 * @error: how the first of them did
 */
struct life_results {
	uint64_t turns;
	uint64_t kills;
	int failed;
	char error[256];
};

/**
 * struct life_bench - a session that survives what dies beside it
 * @fd: session
 * @m: receiver of all that is read from it
 * @mem: private memory of this process, registered as "mem" where it can be
 * @own: owned memory, as "own"
 * @rfd: region fd of @own
 * @names: regions named so far, for names that were not used
 * @flags: of the next round: FULL after a FINAL one
 */
struct life_bench {
	int fd;
	struct model *m;
	unsigned char *mem;
	unsigned char *own;
	int rfd;
	unsigned int names;
	uint32_t flags;
};

/**
 * struct life - one worker
 * @rnd: state of its random numbers
 * @results: shared with the others
 * @bench: its session
 * @turn: turns done by this worker
 */
struct life {
	uint64_t rnd;
	struct life_results *results;
	struct life_bench bench;
	unsigned int turn;
};

/**
 * struct life_killer - somebody who kills a process a little later
 * @thread: does it
 * @pid: the process
 * @delay: microseconds until then
 */
struct life_killer {
	pthread_t thread;
	pid_t pid;
	unsigned int delay;
};

bool life_fail(struct life *l, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
unsigned int life_delay(struct life *l);
void life_scribble(unsigned char *mem, size_t length, uint64_t *state);
double life_now(void);

pid_t life_fork(void);
bool life_kill(struct life *l, pid_t pid);
bool life_kill_later(struct life *l, struct life_killer *k, pid_t pid);
bool life_killed(struct life *l, struct life_killer *k);

bool life_bench_open(struct life *l);
void life_bench_close(struct life *l);
const char *life_bench_name(struct life_bench *b);
int life_bench_round(struct life_bench *b);
bool life_bench_check(struct life *l);
bool life_read_some(struct life *l, int may_fail);

bool life_send_fds(int sock, const int *fds, unsigned int nr);
bool life_recv_fds(int sock, int *fds, unsigned int nr);

/* The scenarios: one turn each, false if something was not as it has to be. */
bool life_target_dies(struct life *l);
bool life_target_changes(struct life *l);
bool life_reader_dies(struct life *l);
bool life_session_passed(struct life *l);
bool life_closed_in_use(struct life *l);
bool life_blocked(struct life *l);
bool life_owned_outlives(struct life *l);
bool life_ring(struct life *l);

#endif /* LIFETIME_H */

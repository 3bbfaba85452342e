/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * What the parts of the torture have in common:
 *	torture.c		configurations, threads and processes, results
 *	torture_kinds.c		kinds of memory
 *	torture_act.c		writes, and which operation comes next
 *	torture_ops.c		what a process does to its own memory
 *	torture_outside.c	what others do to it
 *	torture_oracle.c	rounds, and whether the receiver has what is there
 *	torture_env.c		what this kernel can do
 */
#ifndef TORTURE_H
#define TORTURE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "device.h"

#define MAX_REGIONS	4
#define MAX_KINDS	4
#define MAX_OPERATIONS	48
/* Bytes that an operation is for, at most. */
#define MAX_LENGTH	((size_t)64 * UNIT)
#define WRITERS		2
#define DISTURBERS	2
/* Units of the largest region, with what lies below it. */
#define MAX_UNITS	2048
/* Writes and operations that are remembered. */
#define LOG_ENTRIES	65536

/* Bits of operation.needs: what not every kernel or machine has. */
enum feature {
	HAS_SWAP	= 1 << 0,
	HAS_HUGE	= 1 << 1,
	HAS_COLLAPSE	= 1 << 2,
	HAS_KSM		= 1 << 3,
	HAS_UFFD	= 1 << 4,
	HAS_UFFD_WP	= 1 << 5,
	HAS_URING	= 1 << 6,
	HAS_SLOW_DISK	= 1 << 7,
	HAS_KVM		= 1 << 8,
	HAS_NODES	= 1 << 9,
	HAS_COMPACTION	= 1 << 10,
	HAS_GROUPS	= 1 << 11,
	HAS_PTE		= 1 << 12,
	HAS_FREEZE	= 1 << 13,
	HAS_MAPPING	= 1 << 14,
};

/* Bits of kind.traits. */
enum trait {
	/* Created by the session. */
	OWNED		= 1 << 0,
	/* Private and anonymous. */
	ANON		= 1 << 1,
	/* Shared memory, whose holes are the file's. */
	SHARED		= 1 << 2,
	/* A file that may be written past the mapping. */
	FILED		= 1 << 3,
	/* It may be unmapped and moved. */
	MOVES		= 1 << 4,
	/* That ends its region. */
	ENDS		= 1 << 5,
	/* Its writes are told with MARK_DIRTY. */
	TOLD		= 1 << 6,
	/* No tracker but the external one takes it. */
	REFUSED		= 1 << 7,
	/* A guest writes there, and its page tables are KVM's. */
	GUEST		= 1 << 8,
	/* Of the program break. */
	HEAP		= 1 << 9,
	/* Of the main thread. */
	STACK		= 1 << 10,
	/* Whoever writes is seen, also by another mapping of the same. */
	SEEN		= 1 << 11,
};

struct region;

/**
 * struct kind - of memory
 * @name: in messages
 * @tracker: asked for
 * @traits: enum trait
 * @map: puts memory into the region
 * @needs: enum feature
 * @capture: asked for
 */
struct kind {
	const char *name;
	uint32_t tracker;
	unsigned int traits;
	bool (*map)(struct region *r);
	unsigned int needs;
	uint32_t capture;
};

enum ending {
	LIVES,
	/* Something is under way that ends it. */
	ENDING,
	ENDED,
};

/**
 * struct region - memory that is tracked
 * @kind: what it is
 * @number: of the region
 * @generation: how often it was registered
 * @name: in the stream, of this registration
 * @id: of this registration
 * @registered: there is one
 * @mem: where everybody writes
 * @length: bytes there
 * @below: bytes in front of @mem that are registered too, and left alone: live
 *	frames of a stack, a guest's code. Nobody compares the former.
 * @fd: of owned memory, or of a file; or -1
 * @flags: to map it with again
 * @guarded: there is a page behind it that keeps others away
 * @told: bit for each unit, from @mem - @below on, that was written since the
 *	last SYNC
 * @freed: units, likewise, that MADV_FREE may take at any moment
 * @ending: enum ending
 * @end_at: the first address of what ended it
 * @end_length: bytes there
 */
struct region {
	const struct kind *kind;
	unsigned int number;
	unsigned int generation;
	char name[16];
	uint32_t id;
	bool registered;
	unsigned char *mem;
	size_t length;
	size_t below;
	int fd;
	int flags;
	bool guarded;
	unsigned char told[MAX_UNITS / 8];
	unsigned char freed[MAX_UNITS / 8];
	int ending;
	unsigned char *end_at;
	size_t end_length;
};

/**
 * struct config - one run
 * @name: in the results
 * @kinds: of its regions, in turn
 * @regions: how many
 * @pages: of each
 * @cache: budget in pages
 * @huge: huge pages are wanted
 * @apart: the memory is another process'
 */
struct config {
	const char *name;
	const struct kind *kinds[MAX_KINDS];
	unsigned int regions;
	unsigned int pages;
	unsigned int cache;
	bool huge;
	bool apart;
};

/* Who does something; each has random numbers of its own. */
enum actor {
	WRITER,
	DISTURBER	= WRITER + WRITERS,
	OUTSIDER	= DISTURBER + DISTURBERS,
	GUEST_CPU,
	HANDLER,
	ACTORS,
};

/**
 * struct action - one thing that was done
 * @number: in the order of all, from 1
 * @actor: by whom
 * @what: its name
 * @region: number of it
 * @first: unit, from @mem - @below of the region on
 * @nr: units
 * @failed: it was not done, or not all of it
 */
struct action {
	uint64_t number;
	const char *what;
	uint32_t first;
	uint32_t nr;
	uint8_t actor;
	uint8_t region;
	uint8_t failed;
};

/**
 * struct act - what an operation is asked to do
 * @who: does it
 * @r: region
 * @offset: from @r->mem on, a multiple of the unit
 * @length: bytes, likewise
 * @mem: that is where it begins
 * @state: random numbers of this operation alone, so that what comes next does
 *	not depend on how it went
 */
struct act {
	enum actor who;
	struct region *r;
	size_t offset;
	size_t length;
	unsigned char *mem;
	uint64_t state;
};

/**
 * struct operation - a way to torture
 * @name: in messages
 * @func: does it; returns whether it was done
 * @needs: enum feature
 * @traits: kinds with one of these have it; 0 for all
 * @never: kinds with one of these do not
 * @huge: only where the configuration wants huge pages
 * @alone: not while another such one is under way in this process
 * @rare: one time in so many, if not 0; in the first turns 16 times as often
 */
struct operation {
	const char *name;
	bool (*func)(struct act *a);
	unsigned int needs;
	unsigned int traits;
	unsigned int never;
	bool huge;
	bool alone;
	unsigned int rare;
};

/**
 * struct count - of an operation
 * @tried: how often
 * @done: how often it was done
 * @spent: microseconds in all
 */
struct count {
	unsigned int tried;
	unsigned int done;
	uint64_t spent;
};

/**
 * struct world - what all processes share
 * @config: what runs
 * @regions: of it
 * @gate: held for read by who changes memory, for write by who compares
 * @layout: held by operations that want to be alone
 * @hole: held while an address of the memory belongs to nobody, and by who might
 *	be given it
 * @served: held while a userfaultfd is served, and by who forces writes in: those
 *	faults cannot wait, of which a debug kernel complains
 * @seed: of the configuration
 * @target: whose memory it is
 * @tids: its writers
 * @stop: everybody ends when not 0
 * @window: how many operations keep memory from being accessed
 * @windows: how many have begun to, and ended
 * @faults: in a row that no open window explains
 * @broken: why a process other than the one that compares gave up, or empty
 * @inside: counts of inside_operations
 * @outside: counts of outside_operations
 * @deck: inside_operations in the order of the first turns: what is possible
 *	in few configurations comes first
 * @passes: how often the guest has written everything
 * @syncs: calls of SYNC that began a round
 * @actions: how many there were
 * @log: the last of them
 */
struct world {
	const struct config *config;
	struct region regions[MAX_REGIONS];
	pthread_rwlock_t gate;
	pthread_mutex_t layout;
	pthread_mutex_t hole;
	pthread_mutex_t served;
	uint64_t seed;
	pid_t target;
	pid_t tids[WRITERS];
	int stop;
	int window;
	unsigned int windows;
	int faults;
	char broken[160];
	struct count inside[MAX_OPERATIONS];
	struct count outside[MAX_OPERATIONS];
	unsigned char deck[MAX_OPERATIONS];
	unsigned int passes;
	unsigned int syncs;
	uint64_t actions;
	struct action log[LOG_ENTRIES];
};

extern struct world *world;

/* torture.c */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void give_up(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool stopped(void);

/* torture_kinds.c */
extern const struct kind kind_owned, kind_private, kind_heap, kind_stack,
	kind_shared, kind_memfd, kind_tmpfs, kind_told, kind_told_memfd,
	kind_told_file, kind_told_shared_file, kind_guest, kind_told_guest,
	kind_frozen, kind_frozen_stack, kind_mapping, kind_mapping_tmpfs,
	kind_mapping_guest;

void kinds_set_up(void *stack, size_t length);
void kinds_tear_down(void);
bool kind_map(struct region *r);
bool kind_map_again(struct region *r, size_t offset, size_t length);
int kind_register(struct region *r, int fd);
void kind_unmap(struct region *r);

/* torture_act.c */
void mark(struct region *r, size_t offset, size_t length);
void write_once(struct region *r, enum actor who, uint64_t *state);
bool possible(const struct operation *o, const struct kind *k,
	      const struct config *c);
void operate(const struct operation *table, unsigned int nr,
	     const unsigned char *deck, struct count *counts, enum actor who,
	     unsigned int turn, uint64_t *state);

/* torture_ops.c */
extern const struct operation inside_operations[];
extern const unsigned int nr_inside_operations;

void ops_set_up(void);
void ops_unpin(void);
void ops_tear_down(void);

/* torture_outside.c */
extern const struct operation outside_operations[];
extern const unsigned int nr_outside_operations;

pid_t outsider_start(void);
bool helpers_start(void);
void helpers_stop(void);
bool guest_begin(void);
void guest_end(void);
bool guest_tell(struct region *r);
bool uffd_watch(unsigned char *mem, size_t length, bool write_protect);
bool uffd_forget(unsigned char *mem, size_t length);

/* torture_oracle.c */
void note(enum actor who, const char *what, const struct region *r,
	  size_t offset, size_t length, bool failed);
void region_ending(struct region *r, unsigned char *mem, size_t length);
void region_ended(struct region *r, bool really);
bool oracle_begin(const struct config *c);
void oracle_end(void);
bool oracle_rounds(double seconds);
bool oracle_last(void);
double now(void);

/* torture_env.c */
void env_set_up(void);
void env_tear_down(void);
bool env_has(unsigned int features);
void env_huge_files(bool everywhere);
void env_name(unsigned int features, char *text, size_t size);
bool env_pressure(void);
bool env_events(bool judge);

#endif /* TORTURE_H */

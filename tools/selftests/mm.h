/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* What the tests ask of, and about, the kernel's memory management. */
#ifndef MM_H
#define MM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
/* Since Linux 6.13. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

#define HUGE_SIZE	((size_t)2 << 20)

/*
 * What the lab's machines have: QEMU's s390x has no huge pages and runs no
 * guests, and Linux 6.1 has write protection by userfaultfd on x86 only. Tests
 * of what is not there are not built, so that a test that is skipped stands for
 * something that ought to be there.
 */
#ifdef __s390x__
#define MM_HAVE_HUGE_PAGES	0
#define MM_HAVE_KVM		0
#else
#define MM_HAVE_HUGE_PAGES	1
#define MM_HAVE_KVM		1
#endif
#ifdef __x86_64__
#define MM_HAVE_UFFD_WP		1
#else
#define MM_HAVE_UFFD_WP		0
#endif

/**
 * struct mm_writer - a thread of mm_write_at_random()
 * @mem: where it writes
 * @length: bytes there
 * @seed: of its random numbers
 * @stop: ends it when not 0
 */
struct mm_writer {
	unsigned char *mem;
	size_t length;
	unsigned int seed;
	int *stop;
};

void *mm_write_at_random(void *writer);
void mm_scramble(unsigned char *page, uint32_t seed);
void *mm_anon(size_t length);
void *mm_anon_huge(size_t length);
bool mm_populated(const void *addr);
bool mm_swapped(const void *addr);
bool mm_mapped(const void *addr);
bool mm_listed(const void *addr);
uint64_t mm_huge_bytes(const void *addr);
long mm_meminfo(const char *key);
bool mm_vm_flag(const void *addr, const char *flag);
int mm_write_file(const char *path, const char *text);
int mm_read_file(const char *path, char *text, size_t size);
bool mm_debug_kernel(void);

/**
 * struct mm_turns - how often a test tries what goes wrong now and then
 * @least: so often on any machine
 * @most: and no more than that, while there is time
 * @seconds: how long that is, if not MM_TURN_SECONDS
 * @done: how often it has; from 0
 * @until: for mm_another_turn() alone
 */
struct mm_turns {
	unsigned int least;
	unsigned int most;
	unsigned int seconds;
	unsigned int done;
	double until;
};

#define MM_TURN_SECONDS	8

bool mm_another_turn(struct mm_turns *turns);
void mm_drain(void);
bool mm_swap_on(void);
int mm_shared_file(size_t length);
bool mm_shared_file_mapped(int fd);

#endif /* MM_H */

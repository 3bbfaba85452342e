/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* A guest of KVM that writes to all of its memory, over and over. */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "mm.h"

#if MM_HAVE_KVM
#include <linux/kvm.h>
#endif

/* Below it is the guest's code, and from it on it writes. */
#define GUEST_DATA	0x10000
/* Not a multiple of the page size: each pass writes at other offsets. */
#define GUEST_STRIDE	(4096 + 192)

/**
 * struct guest - a virtual machine with one CPU
 * @kvm: descriptor of KVM; negative where there is none
 * @vm: of the machine
 * @vcpu: of its CPU
 * @run: what the CPU and we tell each other
 * @run_size: bytes of @run
 * @mem: its memory
 * @length: bytes there
 * @runner: the thread that has run it last, or 0
 * @watch: the timer that interrupts @runner
 * @begun: how often it has begun
 * @bad_exit: why it does not run any more: an exit reason, or 1000 and an errno
 * @sregs: what its special registers were at first
 */
struct guest {
	int kvm;
	int vm;
	int vcpu;
	struct kvm_run *run;
	size_t run_size;
	unsigned char *mem;
	size_t length;
	pid_t runner;
	timer_t watch;
	unsigned int begun;
	unsigned int bad_exit;
#if MM_HAVE_KVM && defined(__x86_64__)
	struct kvm_sregs sregs;
#endif
};

#if MM_HAVE_KVM
bool guest_make(struct guest *g, unsigned char *mem, size_t length,
		uint32_t flags);
void guest_drop(struct guest *g);
int guest_run(struct guest *g);
int guest_dirty_log(struct guest *g, void *bitmap);
#endif

#endif /* GUEST_H */

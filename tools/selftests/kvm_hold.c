// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Leave a guest behind that never runs, until somebody ends it.
 *
 * The kernel patches its scheduler, for preempt notifiers, when the first
 * guest is made and when the last one goes. QEMU 7.2 may keep its translation
 * of the int3 that is there for a moment, if another CPU runs into it, and that
 * CPU gets no further. With a guest that stays, tests that make guests patch
 * nothing.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "guest.h"

#define LENGTH		((size_t)2 * GUEST_DATA)

int main(void)
{
#if MM_HAVE_KVM
	struct guest guest = { .kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC) };
	unsigned char *mem = mm_anon(LENGTH);

	if (guest.kvm < 0 || !mem || !guest_make(&guest, mem, LENGTH, 0)) {
		printf("# no guest can be kept\n");
		return 0;
	}
	return daemon(0, 0) || pause();
#else
	return 0;
#endif
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* What this kernel and machine can do, set up for the torture. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "mm.h"
#include "torture.h"
#include "uring.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define KSM		"/sys/kernel/mm/ksm/"
#define GROUPS		"/sys/fs/cgroup/"
#define GROUP		GROUPS "torture/"
#define BALANCING	"/proc/sys/kernel/numa_balancing"
#define SCHED		"/sys/kernel/debug/sched/numa_balancing/"

static unsigned int features;

static bool has_huge(void)
{
	return MM_HAVE_HUGE_PAGES &&
	       !mm_write_file(THP "enabled", "madvise") &&
	       !mm_write_file(THP "shmem_enabled", "advise");
}

/* Of no memory there is nothing to collapse; EINVAL says that it is unknown. */
static bool has_collapse(void)
{
	void *mem = mm_anon_huge(HUGE_SIZE);
	bool has;

	if (!mem || !has_huge())
		return false;
	memset(mem, 1, HUGE_SIZE);
	has = !madvise(mem, HUGE_SIZE, MADV_COLLAPSE) || errno != EINVAL;
	munmap(mem, HUGE_SIZE);
	return has;
}

/*
 * A kernel with CONFIG_DEBUG_VM prints a trace when its KSM breaks up a page in
 * the range of a userfaultfd, which has nothing to do with who tracks it.
 */
static bool has_ksm(void)
{
	return !mm_debug_kernel() &&
	       !mm_write_file(KSM "sleep_millisecs", "20") &&
	       !mm_write_file(KSM "pages_to_scan", "100") &&
	       !mm_write_file(KSM "run", "1");
}

static bool open_uffd(uint64_t wanted)
{
	struct uffdio_api api = { .api = UFFD_API, .features = wanted };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	bool has;

	if (fd < 0)
		return false;
	has = !ioctl(fd, UFFDIO_API, &api);
	close(fd);
	return has;
}

static bool has_uffd(void)
{
	return open_uffd(0);
}

static bool has_uffd_wp(void)
{
	return MM_HAVE_UFFD_WP && open_uffd(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
}

static bool has_uring(void)
{
	struct uring u;

	if (uring_open(&u))
		return false;
	uring_close(&u);
	return true;
}

static bool has_slow_disk(void)
{
	return !access("/dev/nbd0", R_OK);
}

static bool has_kvm(void)
{
	return MM_HAVE_KVM && !access("/dev/kvm", R_OK);
}

/* Faults for the balancing come as often as they can. */
static bool has_nodes(void)
{
	if (access("/sys/devices/system/node/node1", F_OK) ||
	    mm_write_file(BALANCING, "1"))
		return false;
	mm_write_file(SCHED "scan_delay_ms", "1");
	mm_write_file(SCHED "scan_period_min_ms", "50");
	mm_write_file(SCHED "scan_period_max_ms", "100");
	return true;
}

static bool has_compaction(void)
{
	return !access("/proc/sys/vm/compact_memory", W_OK);
}

/* All that this process will start is in the group with it. */
static bool has_groups(void)
{
	mm_write_file(GROUPS "cgroup.subtree_control", "+memory");
	mkdir(GROUP, 0755);
	return !access(GROUP "memory.reclaim", W_OK) &&
	       !mm_write_file(GROUP "cgroup.procs", "0");
}

static bool has_feature(uint64_t bit)
{
	struct xbzrle_info info;
	int fd = dev_open();
	bool has = fd >= 0 && !dev_info(fd, &info) && info.features & bit;

	close(fd);
	return has;
}

static bool has_freeze(void)
{
	return has_feature(XBZRLE_FEATURE_CAPTURE_FREEZE);
}

static bool has_mapping(void)
{
	return has_feature(XBZRLE_FEATURE_TRACKER_MAPPING);
}

static const struct {
	unsigned int bit;
	const char *name;
	bool (*there)(void);
} all_features[] = {
	{ HAS_SWAP, "zram", mm_swap_on },
	{ HAS_HUGE, "huge pages", has_huge },
	{ HAS_COLLAPSE, "MADV_COLLAPSE", has_collapse },
	{ HAS_KSM, "KSM beside userfaultfd", has_ksm },
	{ HAS_UFFD, "userfaultfd", has_uffd },
	{ HAS_UFFD_WP, "write protection by userfaultfd", has_uffd_wp },
	{ HAS_URING, "io_uring", has_uring },
	{ HAS_SLOW_DISK, "network block devices", has_slow_disk },
	{ HAS_KVM, "KVM", has_kvm },
	{ HAS_NODES, "NUMA nodes with balancing", has_nodes },
	{ HAS_COMPACTION, "compaction", has_compaction },
	{ HAS_GROUPS, "control groups of memory", has_groups },
	{ HAS_PTE, "a pte tracker", dev_has_pte },
	{ HAS_FREEZE, "freezing", has_freeze },
	{ HAS_MAPPING, "a mapping tracker", has_mapping },
};

/* What the kernel does by itself: whether it did, its counters tell. */
static struct {
	const char *counter;
	unsigned int needs;
	uint64_t before;
} events[] = {
	{ "pswpout", HAS_SWAP },
	{ "pswpin", HAS_SWAP },
	{ "cow_ksm", HAS_KSM },
	{ "numa_hint_faults", HAS_NODES },
	{ "pgmigrate_success", HAS_COMPACTION },
};

/* -1 if this kernel does not count it. */
static int64_t counted(const char *counter)
{
	FILE *f = fopen("/proc/vmstat", "re");
	unsigned long long value;
	char line[128], name[64];
	int64_t found = -1;

	while (f && found < 0 && fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s %llu", name, &value) == 2 &&
		    !strcmp(name, counter))
			found = value;
	if (f)
		fclose(f);
	return found;
}

/**
 * env_set_up() - find out what is there, and say what is not
 */
void env_set_up(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(all_features); i++) {
		if (all_features[i].there())
			features |= all_features[i].bit;
		else
			say("not on this machine: %s", all_features[i].name);
	}
	for (i = 0; i < ARRAY_SIZE(events); i++)
		events[i].before = counted(events[i].counter);
}

/**
 * env_tear_down() - leave the machine as it was for the tests that follow
 */
void env_tear_down(void)
{
	mm_write_file(BALANCING, "0");
	mm_write_file(KSM "run", "2");
	mm_write_file(KSM "run", "0");
	mm_write_file(THP "shmem_enabled", "never");
	mm_write_file(GROUPS "cgroup.procs", "0");
	rmdir(GROUP);
}

/**
 * env_huge_files() - where shared memory gets huge pages
 * @everywhere: also where no mapping asks for them, and the mount wants none
 */
void env_huge_files(bool everywhere)
{
	if (features & HAS_HUGE)
		mm_write_file(THP "shmem_enabled",
			      everywhere ? "force" : "advise");
}

/**
 * env_has() - is all of this there?
 * @needs: enum feature
 *
 * Return: whether it is.
 */
bool env_has(unsigned int needs)
{
	return !(needs & ~features);
}

/**
 * env_name() - name what of this is not there
 * @needs: enum feature
 * @text: gets the names
 * @size: of @text
 */
void env_name(unsigned int needs, char *text, size_t size)
{
	unsigned int i;
	size_t used = 0;

	*text = 0;
	for (i = 0; i < ARRAY_SIZE(all_features); i++)
		if (needs & ~features & all_features[i].bit && used < size)
			used += snprintf(text + used, size - used, "%s%s",
					 used ? ", " : "",
					 all_features[i].name);
}

/**
 * env_pressure() - have the kernel take memory from this group
 *
 * Return: whether it was asked to. It may have found less.
 */
bool env_pressure(void)
{
	int ret = mm_write_file(GROUP "memory.reclaim", "1M");

	return !ret || ret == -EAGAIN;
}

/**
 * env_events() - say what the kernel did by itself, since env_set_up()
 * @judge: what it can do, it must have done
 *
 * Return: false if it has not.
 */
bool env_events(bool judge)
{
	bool good = true;
	unsigned int i;
	int64_t value;

	for (i = 0; i < ARRAY_SIZE(events); i++) {
		value = counted(events[i].counter);
		if (value < 0) {
			say("%s: not counted by this kernel",
			    events[i].counter);
			continue;
		}
		value -= events[i].before;
		say("%s: %lld", events[i].counter, (long long)value);
		if (judge && env_has(events[i].needs) && !value)
			good = false;
	}
	return good;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <time.h>
#include <unistd.h>

#include "device.h"
#include "mm.h"

#define ZRAM		"/dev/zram0"
#define ZRAM_SIZE	"/sys/block/zram0/disksize"
#define SWAP_BYTES	(256UL << 20)

/**
 * mm_anon - map private anonymous memory without huge pages
 * @length: bytes
 *
 * Return: its address, or NULL.
 */
void *mm_anon(size_t length)
{
	void *p = mmap(NULL, length, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, length, MADV_NOHUGEPAGE);
	return p;
}

/**
 * mm_anon_huge - map private anonymous memory where huge pages fit
 * @length: bytes, a multiple of HUGE_SIZE
 *
 * Nothing is advised and nothing is populated.
 *
 * Return: its address, or NULL.
 */
void *mm_anon_huge(size_t length)
{
	char *p = mmap(NULL, length + HUGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t head;

	if (p == MAP_FAILED)
		return NULL;
	head = -(uintptr_t)p % HUGE_SIZE;
	if (head)
		munmap(p, head);
	munmap(p + head + length, HUGE_SIZE - head);
	return p + head;
}

static uint64_t pagemap_entry(const void *addr)
{
	long page = sysconf(_SC_PAGESIZE);
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (pread(fd, &entry, sizeof(entry),
		  (uintptr_t)addr / page * sizeof(entry)) != sizeof(entry))
		entry = 0;
	close(fd);
	return entry;
}

/**
 * mm_populated - is there a page, in memory or in swap?
 * @addr: an address in it
 *
 * Return: false for a hole.
 */
bool mm_populated(const void *addr)
{
	return pagemap_entry(addr) & (3ULL << 62);
}

/**
 * mm_swapped - is the page in swap?
 * @addr: an address in it
 *
 * Return: true if it is.
 */
bool mm_swapped(const void *addr)
{
	return pagemap_entry(addr) & (1ULL << 62);
}

/**
 * mm_mapped - does the page table of this process have the page?
 * @addr: an address in it
 *
 * Return: true if it does.
 */
bool mm_mapped(const void *addr)
{
	return pagemap_entry(addr) >> 63;
}

/**
 * mm_listed - is the page on a list of those that may be reclaimed?
 * @addr: an address in it, which is mapped
 *
 * Return: false if it waits in a batch of a CPU, or somebody has isolated it.
 */
bool mm_listed(const void *addr)
{
	const uint64_t lru = 1 << 5, frame = (1ULL << 55) - 1;
	uint64_t flags = 0;
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (pread(fd, &flags, sizeof(flags), (pagemap_entry(addr) & frame) *
		  sizeof(flags)) != sizeof(flags))
		flags = 0;
	close(fd);
	return flags & lru;
}

/* Copies the smaps line of the mapping at @addr that begins with @key. */
static bool smaps_line(const void *addr, const char *key, char *line,
		       size_t size)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool inside = false, found = false;

	if (!f)
		return false;
	while (!found && fgets(line, size, f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = (uintptr_t)addr >= start &&
				 (uintptr_t)addr < end;
		else
			found = inside && !strncmp(line, key, strlen(key));
	}
	fclose(f);
	return found;
}

/**
 * mm_huge_bytes - how much of the mapping do huge pages back?
 * @addr: an address in it
 *
 * Return: bytes.
 */
uint64_t mm_huge_bytes(const void *addr)
{
	static const char * const keys[] = {
		"AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:",
	};
	uint64_t kib, sum = 0;
	char line[512];
	unsigned int i;

	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (smaps_line(addr, keys[i], line, sizeof(line)) &&
		    sscanf(line + strlen(keys[i]), "%lu", &kib) == 1)
			sum += kib << 10;
	return sum;
}

/**
 * mm_meminfo - a line of /proc/meminfo
 * @key: such as "ShmemHugePages:"
 *
 * Return: bytes, or -1.
 */
long mm_meminfo(const char *key)
{
	char text[4096];
	const char *at;

	if (mm_read_file("/proc/meminfo", text, sizeof(text)))
		return -1;
	at = strstr(text, key);
	return at ? strtol(at + strlen(key), NULL, 10) << 10 : -1;
}

/**
 * mm_vm_flag - has the mapping this flag?
 * @addr: an address in it
 * @flag: two letters as in the VmFlags line of smaps
 *
 * Return: true if it has.
 */
bool mm_vm_flag(const void *addr, const char *flag)
{
	char line[512], word[8];

	snprintf(word, sizeof(word), " %s ", flag);
	return smaps_line(addr, "VmFlags:", line, sizeof(line)) &&
	       strstr(line, word);
}

/**
 * mm_write_file - write a setting
 * @path: where
 * @text: what
 *
 * Return: 0 or a negative errno.
 */
int mm_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/**
 * mm_read_file - read a setting, or what else the kernel tells in a file
 * @path: where
 * @text: gets it, NUL-terminated, and what does not fit is left out
 * @size: of @text
 *
 * Return: 0 or a negative errno.
 */
int mm_read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	/* One read() of what the kernel makes up gives no more than a page or so. */
	do {
		n = read(fd, text + len, size - 1 - len);
		if (n > 0)
			len += n;
	} while (n > 0 && len < size - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	text[len] = 0;
	return n < 0 ? n : 0;
}

/**
 * mm_debug_kernel - is this kernel one that looks for errors of its own?
 *
 * Return: true if it is, and takes more time and memory for everything.
 */
bool mm_debug_kernel(void)
{
	return !access("/sys/kernel/debug/kmemleak", F_OK);
}

/**
 * mm_another_turn - is it to be tried again?
 * @turns: how often; counted up if so, but for the first time
 *
 * Return: true if it is: fast machines try more often than slow ones.
 */
bool mm_another_turn(struct mm_turns *turns)
{
	struct timespec ts;
	double now;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = ts.tv_sec + ts.tv_nsec / 1e9;
	if (!turns->until)
		turns->until = now + (turns->seconds ?: MM_TURN_SECONDS);
	else
		turns->done++;
	return turns->done < turns->least ||
	       (turns->done < turns->most && now < turns->until);
}

static bool write_swap_header(void)
{
	/* Version, last page, number of bad pages: at 1 KiB, by mkswap(8). */
	const uint32_t info[3] = { 1, SWAP_BYTES / 4096 - 1, 0 };
	unsigned char page[4096] = { 0 };
	int fd = open(ZRAM, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	memcpy(page + 1024, info, sizeof(info));
	memcpy(page + 4096 - 10, "SWAPSPACE2", 10);
	n = write(fd, page, sizeof(page));
	if (n == sizeof(page) && fsync(fd))
		n = -1;
	close(fd);
	return n == sizeof(page);
}

/**
 * mm_drain - have pages on their lists
 *
 * Those that are new, or were used again, wait in batches of each CPU, which
 * hold them. Advice that takes effect at once has the CPU's own emptied first;
 * compaction would empty all, and then isolate pages and fill batches anew.
 */
void mm_drain(void)
{
	unsigned char *page = mm_anon(4096);
	cpu_set_t all, one;
	int cpu;

	sched_getaffinity(0, sizeof(all), &all);
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
		madvise(page, 4096, MADV_COLD);
	}
	sched_setaffinity(0, sizeof(all), &all);
	munmap(page, 4096);
}

/**
 * mm_swap_on - have swap on zram
 *
 * It stays on for every later test: to take it off costs more than it is
 * worth in a machine that is thrown away.
 *
 * Return: false if there is no zram.
 */
bool mm_swap_on(void)
{
	char text[4096], bytes[32];

	if (!mm_read_file("/proc/swaps", text, sizeof(text)) &&
	    strstr(text, "zram0"))
		return true;
	snprintf(bytes, sizeof(bytes), "%lu", SWAP_BYTES);
	return !mm_write_file(ZRAM_SIZE, bytes) && write_swap_header() &&
	       !swapon(ZRAM, 0);
}

/* The function of a thread; @writer is a struct mm_writer. */
void *mm_write_at_random(void *writer)
{
	struct mm_writer *w = writer;
	unsigned int x = w->seed;

	while (!__atomic_load_n(w->stop, __ATOMIC_RELAXED)) {
		x = x * 1664525 + 1013904223;
		w->mem[(x >> 8) % w->length] = x;
	}
	return NULL;
}

/**
 * mm_scramble() - fill a page with what no delta makes smaller
 * @page: the page
 * @seed: another one for each
 */
void mm_scramble(unsigned char *page, uint32_t seed)
{
	unsigned int i;

	for (i = 0; i < UNIT; i++) {
		seed = seed * 1664525 + 1013904223;
		page[i] = seed >> 24;
	}
}

/**
 * mm_shared_file() - make a file that can tell whether it is mapped
 * @length: bytes
 *
 * Return: its descriptor, or -1.
 */
int mm_shared_file(size_t length)
{
	int fd = memfd_create("shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && ftruncate(fd, length)) {
		close(fd);
		return -1;
	}
	return fd;
}

/**
 * mm_shared_file_mapped() - can any memory be used to write to the file?
 * @fd: from mm_shared_file(); sealed if not, so this can be asked once
 *
 * Return: whether it can.
 */
bool mm_shared_file_mapped(int fd)
{
	return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE);
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Did the kernel lose memory in the tests before? Run with everything closed.
 *
 * kmemleak knows what was allocated by the slab and vmalloc() and that nothing
 * points to any more; page_owner knows who allocated each page. Both only watch
 * in a debug kernel, and only when its command line says so.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mm.h"

#include "kselftest.h"

/* What the kernel's command line has to say. */
#define OBJECTS		"kmemleak=on"
#define PAGES		"page_owner=on"
#define KMEMLEAK	"/sys/kernel/debug/kmemleak"
#define PAGE_OWNER	"/sys/kernel/debug/page_owner"
#define OUR_MODULE	"[xbzrle]"
/* kmemleak does not judge what is younger than five seconds. */
#define MIN_AGE		6
#define REPORT_MAX	(1 << 18)
/* Reports that are printed whole. */
#define SHOWN		20

/* Of a page of ours that stays: the kernel keeps it to use it again. */
static const char * const kept[] = {
	"(slab|",		/* a slab, for whoever comes next */
	"|slab|",
	"(slab)",
	"|slab)",
	"kasan_populate_vmalloc", /* shadow, until the area is purged */
	"_pte_alloc_kernel",	/* page tables of the kernel's own range */
	"_pmd_alloc",
	"stack_depot_save",	/* the debug kernel's own records */
	"|owner_priv_1|",	/* in the swap cache, until reclaim looks at it */
};

static bool asked_for(const char *word)
{
	static char text[4096];

	return !mm_read_file("/proc/cmdline", text, sizeof(text)) &&
	       strstr(text, word);
}

/* TAP takes the lines of a report as comments. */
static void show(char *report)
{
	char *line, *rest = report;

	while ((line = strsep(&rest, "\n")))
		if (*line)
			ksft_print_msg("%s\n", line);
}

/* What is referenced only from a register, or moves, looks lost to one scan. */
static int scan(void)
{
	int ret;

	sleep(MIN_AGE);
	ret = mm_write_file(KMEMLEAK, "scan");
	return ret ?: mm_write_file(KMEMLEAK, "scan");
}

static int check_objects(void)
{
	static char report[REPORT_MAX];
	int count = 0, fd, ret;
	size_t len = 0;
	ssize_t n;
	char *p;

	/* EPERM if it has given up since the boot. */
	ret = scan();
	if (ret)
		return ret;
	fd = open(KMEMLEAK, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (len < sizeof(report) - 1 &&
	       (n = read(fd, report + len, sizeof(report) - 1 - len)) > 0)
		len += n;
	close(fd);
	report[len] = 0;
	for (p = report; (p = strstr(p, "unreferenced object")); p++)
		count++;
	show(report);
	return count;
}

static bool is_lost(const char *page)
{
	unsigned int i;

	if (!strstr(page, OUR_MODULE))
		return false;
	for (i = 0; i < ARRAY_SIZE(kept); i++)
		if (strstr(page, kept[i]))
			return false;
	return true;
}

/* Pages that nobody points to, or that somebody forgot, who can tell? */
static int check_pages(void)
{
	int count = 0, fd;
	char page[4096];
	ssize_t n;

	fd = open(PAGE_OWNER, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* Each read() gives one. */
	while ((n = read(fd, page, sizeof(page) - 1)) > 0) {
		page[n] = 0;
		if (!is_lost(page))
			continue;
		if (count++ < SHOWN)
			show(page);
	}
	close(fd);
	return n ? -errno : count;
}

static void test(const char *asked, int (*check)(void), const char *name)
{
	int ret;

	if (!asked_for(asked))
		return;
	ret = check();
	if (ret)
		ksft_print_msg("%s: %d%s\n", name, ret,
			       ret < 0 ? ", cannot be asked" : "");
	ksft_test_result(!ret, "leaks: %s\n", name);
}

int main(void)
{
	unsigned int plan = asked_for(OBJECTS) + asked_for(PAGES);

	ksft_print_header();
	if (!plan)
		ksft_exit_fail_msg("this kernel does not watch; kmemleak=on does\n");
	ksft_set_plan(plan);
	test(OBJECTS, check_objects, "no object is lost");
	test(PAGES, check_pages, "no page is lost");
	ksft_finished();
}

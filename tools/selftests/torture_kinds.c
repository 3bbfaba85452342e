// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* The kinds of memory that the torture has. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"
#include "mm.h"
#include "torture.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
/* Mount points of file systems that are ours. */
#define TMPFS		"/run/torture-tmpfs"
#define RAMFS		"/run/torture-ramfs"
/* The frames of who runs the rounds, which lie below what is written. */
#define FRAMES		((size_t)32 * UNIT)

/* The main thread's, and a piece of the heap; as large as they get. */
static unsigned char *stack, *heap;
static size_t stack_length, heap_length;

/* Where huge pages fit, with a page behind it that nobody else gets. */
static bool map_somewhere(struct region *r, int flags)
{
	const size_t room = (r->below + r->length + 2 * HUGE_SIZE - 1) &
			    ~(HUGE_SIZE - 1);
	unsigned char *area = mm_anon_huge(room);
	size_t used = r->below + r->length;

	if (!area)
		return false;
	munmap(area + used, room - used);
	r->guarded = mmap(area + used, UNIT, PROT_NONE, MAP_PRIVATE |
			  MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) ==
		     area + used;
	r->mem = area + r->below;
	r->flags = flags;
	return mmap(area, used, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
		    r->fd, 0) == area;
}

static bool map_owned(struct region *r)
{
	/* The id belongs to who made it, and UNREGISTER is not asked of it. */
	return r->fd >= 0 && map_somewhere(r, MAP_SHARED);
}

static bool map_private(struct region *r)
{
	return map_somewhere(r, MAP_PRIVATE | MAP_ANONYMOUS);
}

static bool map_shared(struct region *r)
{
	return map_somewhere(r, MAP_SHARED | MAP_ANONYMOUS);
}

/* Some of a file is there before anybody maps it, with holes between. */
static bool fill_file(struct region *r)
{
	const size_t length = r->below + r->length;
	unsigned char unit[UNIT];
	size_t at;

	if (r->fd < 0 || ftruncate(r->fd, length))
		return false;
	for (at = 0; at < length; at += 3 * UNIT) {
		memset(unit, 1 + at / UNIT, UNIT);
		if (pwrite(r->fd, unit, UNIT, at) != UNIT)
			return false;
	}
	return true;
}

static bool map_memfd(struct region *r)
{
	r->fd = memfd_create("torture", MFD_CLOEXEC);
	return fill_file(r) && map_somewhere(r, MAP_SHARED);
}

static bool map_memfd_privately(struct region *r)
{
	r->fd = memfd_create("torture", MFD_CLOEXEC);
	return fill_file(r) && map_somewhere(r, MAP_PRIVATE);
}

static int unnamed_file(const char *dir)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

static bool map_tmpfs(struct region *r)
{
	r->fd = unnamed_file(TMPFS);
	return fill_file(r) && map_somewhere(r, MAP_SHARED);
}

static bool map_file(struct region *r)
{
	r->fd = unnamed_file(RAMFS);
	return fill_file(r) && map_somewhere(r, MAP_SHARED);
}

static bool map_file_privately(struct region *r)
{
	r->fd = unnamed_file(RAMFS);
	return fill_file(r) && map_somewhere(r, MAP_PRIVATE);
}

static bool map_heap(struct region *r)
{
	if (!heap || r->length > heap_length)
		return false;
	/* At the end, where the break can come down upon it. */
	r->mem = heap + heap_length - r->length;
	r->flags = MAP_PRIVATE | MAP_ANONYMOUS;
	return true;
}

static bool map_stack(struct region *r)
{
	if (r->length > stack_length)
		return false;
	r->mem = stack;
	r->below = FRAMES;
	return true;
}

#define EXISTS		(MOVES | ENDS)
#define PTE		XBZRLE_TRACKER_PTE
#define AUTO		XBZRLE_TRACKER_AUTO
#define MAPPING		XBZRLE_TRACKER_MAPPING
#define EXTERNAL	XBZRLE_TRACKER_EXTERNAL
#define FREEZE		XBZRLE_CAPTURE_FREEZE

const struct kind kind_owned = {
	"owned", XBZRLE_TRACKER_OWNED, OWNED | SHARED | SEEN | MOVES, map_owned,
};

const struct kind kind_private = {
	"private, pte", AUTO, ANON | EXISTS, map_private, HAS_PTE,
};

const struct kind kind_frozen = {
	"private, pte, frozen", AUTO, ANON | EXISTS, map_private,
	HAS_PTE | HAS_FREEZE, FREEZE,
};

const struct kind kind_heap = {
	"heap, pte", AUTO, ANON | EXISTS | HEAP, map_heap, HAS_PTE,
};

const struct kind kind_stack = {
	"stack, pte", AUTO, ANON | STACK, map_stack, HAS_PTE,
};

const struct kind kind_frozen_stack = {
	"stack, pte, frozen", AUTO, ANON | STACK, map_stack,
	HAS_PTE | HAS_FREEZE, FREEZE,
};

const struct kind kind_shared = {
	"shared, pte", PTE, SHARED | EXISTS, map_shared, HAS_PTE,
};

const struct kind kind_memfd = {
	"memfd, pte", PTE, SHARED | EXISTS, map_memfd, HAS_PTE,
};

const struct kind kind_tmpfs = {
	"tmpfs, pte", PTE, SHARED | EXISTS, map_tmpfs, HAS_PTE,
};

const struct kind kind_mapping = {
	"memfd, mapping", AUTO, SHARED | FILED | SEEN | EXISTS, map_memfd,
	HAS_MAPPING,
};

const struct kind kind_mapping_tmpfs = {
	"tmpfs, mapping", MAPPING, SHARED | FILED | SEEN | EXISTS, map_tmpfs,
	HAS_MAPPING,
};

const struct kind kind_told = {
	"private, external", EXTERNAL, ANON | EXISTS | TOLD, map_private,
};

const struct kind kind_told_memfd = {
	"memfd mapped privately, external", EXTERNAL,
	FILED | EXISTS | TOLD | REFUSED, map_memfd_privately,
};

const struct kind kind_told_file = {
	"file mapped privately, external", EXTERNAL,
	FILED | EXISTS | TOLD | REFUSED, map_file_privately,
};

const struct kind kind_told_shared_file = {
	"file, external", EXTERNAL, FILED | EXISTS | TOLD | REFUSED, map_file,
};

const struct kind kind_guest = {
	"owned, of a guest", XBZRLE_TRACKER_OWNED,
	OWNED | SHARED | SEEN | GUEST, map_owned, HAS_KVM,
};

const struct kind kind_mapping_guest = {
	"memfd, of a guest, mapping", AUTO, SHARED | FILED | SEEN | GUEST,
	map_memfd, HAS_KVM | HAS_MAPPING,
};

const struct kind kind_told_guest = {
	"private, of a guest, external", EXTERNAL, ANON | TOLD | REFUSED | GUEST,
	map_private, HAS_KVM,
};

/* The mapping of a stack grows when it is touched, and a region does not. */
static void __attribute__((noinline)) touch_frames(void)
{
	volatile unsigned char frames[FRAMES + 16 * UNIT];
	size_t at;

	for (at = 0; at < sizeof(frames); at += UNIT)
		frames[at] = 0;
}

/* malloc() is to find enough below the piece, and to leave it alone. */
static void take_heap(size_t length)
{
	const size_t enough = 16 << 20;
	void *p;

	mallopt(M_MMAP_THRESHOLD, 2 * enough);
	mallopt(M_TRIM_THRESHOLD, 4 * enough);
	p = malloc(enough);
	free(p);
	p = sbrk(length + UNIT);
	if (p == (void *)-1)
		return;
	heap = (unsigned char *)(((uintptr_t)p + UNIT - 1) &
				 ~(uintptr_t)(UNIT - 1));
	/* The break is at the end of a page, if only of the kernel's making. */
	heap_length = ((unsigned char *)sbrk(0) - heap) / UNIT * UNIT;
}

/**
 * kinds_set_up() - prepare for all kinds
 * @memory: of the main thread's stack, with the frames of whom it calls below
 * @length: of that
 */
void kinds_set_up(void *memory, size_t length)
{
	touch_frames();
	stack = (unsigned char *)(((uintptr_t)memory + UNIT - 1) &
				  ~(uintptr_t)(UNIT - 1));
	stack_length = (length - UNIT) / UNIT * UNIT;
	take_heap(512 * UNIT);
	mkdir(TMPFS, 0700);
	mkdir(RAMFS, 0700);
	mount("none", TMPFS, "tmpfs", 0, "huge=advise");
	mount("none", RAMFS, "ramfs", 0, NULL);
}

/**
 * kinds_tear_down() - leave nothing behind
 */
void kinds_tear_down(void)
{
	umount2(TMPFS, MNT_DETACH);
	umount2(RAMFS, MNT_DETACH);
}

/**
 * kind_map() - put memory into a region
 * @r: of a kind, with a length; of owned memory also with a descriptor
 *
 * Some of it is populated before it is registered.
 *
 * Return: whether there is some.
 */
bool kind_map(struct region *r)
{
	r->below = r->kind->traits & GUEST ? GUEST_DATA : 0;
	if (!r->kind->map(r))
		return false;
	memset(r->mem, 0x55, r->length / 4);
	return true;
}

/**
 * kind_map_again() - map what was mapped there
 * @r: region
 * @offset: from @r->mem on
 * @length: bytes
 *
 * Return: whether it is.
 */
bool kind_map_again(struct region *r, size_t offset, size_t length)
{
	return mmap(r->mem + offset, length, PROT_READ | PROT_WRITE,
		    r->flags | MAP_FIXED, r->fd,
		    r->fd < 0 ? 0 : r->below + offset) == r->mem + offset;
}

/**
 * kind_register() - have it tracked, under a name that is new
 * @r: mapped, and not registered
 * @fd: session
 *
 * Trackers that must refuse it are asked first.
 *
 * Return: 0 or a negative errno.
 */
int kind_register(struct region *r, int fd)
{
	const pid_t pid = world->config->apart ? world->target : 0;
	void *addr = r->mem - r->below;
	const size_t length = r->below + r->length;
	static const uint32_t others[] = { AUTO, PTE, MAPPING };
	struct xbzrle_register out;
	unsigned int i;
	int ret;

	if (r->kind->traits & OWNED)
		return 0;
	snprintf(r->name, sizeof(r->name), "r%u.%u", r->number,
		 r->generation++);
	for (i = 0; i < ARRAY_SIZE(others) && r->kind->traits & REFUSED; i++) {
		/* Not known here is not refused. */
		if (others[i] == MAPPING && !env_has(HAS_MAPPING))
			continue;
		ret = dev_register(fd, r->name, addr, length, pid, others[i],
				   NULL);
		if (ret != -EOPNOTSUPP) {
			say("%s: tracker %u does not refuse it: %d",
			    r->kind->name, others[i], ret);
			return -EBADE;
		}
	}
	ret = dev_register_as(fd, r->name, addr, length, pid, r->kind->tracker,
			      r->kind->capture, &out);
	if (!ret) {
		r->id = out.region_id;
		r->registered = true;
		r->ending = LIVES;
		memset(r->freed, 0, sizeof(r->freed));
	}
	return ret;
}

/**
 * kind_unmap() - give the memory of a region back
 * @r: region
 */
void kind_unmap(struct region *r)
{
	if (r->kind->traits & (HEAP | STACK)) {
		/* A leftover would be mapped huge where it is not wanted. */
		madvise(r->mem, r->length, MADV_UNMERGEABLE);
		madvise(r->mem, r->length, MADV_DONTNEED);
	} else if (r->mem) {
		munmap(r->mem - r->below, r->below + r->length +
		       (r->guarded ? UNIT : 0));
	}
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	r->mem = NULL;
}

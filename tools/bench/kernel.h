/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * What page_cache.c uses of the kernel, for one thread in userspace. The
 * Makefile gives this file the names of all headers that it includes. An XArray
 * is a plain array here: indices are small, and its time is not measured.
 */
#ifndef BENCH_KERNEL_H
#define BENCH_KERNEL_H

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef unsigned int gfp_t;

#define PAGE_SHIFT		12
#define min(a, b) \
	({ __auto_type _a = (a); __auto_type _b = (b); _a < _b ? _a : _b; })
#define max(a, b) \
	({ __auto_type _a = (a); __auto_type _b = (b); _a > _b ? _a : _b; })
#define BITS_PER_TYPE(type)	(8 * sizeof(type))
#define hweight32(word)		((unsigned int)__builtin_popcount((u32)(word)))
#define DIV_ROUND_UP(n, d) \
	({ __auto_type _d = (d); ((n) + _d - 1) / _d; })
#define round_up(n, d) \
	(DIV_ROUND_UP(n, d) * (d))
#define cond_resched()		((void)0)

#define GFP_KERNEL		0
#define GFP_KERNEL_ACCOUNT	0
#define GFP_NOWAIT		0
#define __GFP_ACCOUNT		0
#define __GFP_NORETRY		0
#define __GFP_NOWARN		0
#define __GFP_RETRY_MAYFAIL	0

#define kmalloc(size, gfp)	((void)(gfp), malloc(size))
#define kzalloc(size, gfp)	((void)(gfp), calloc(1, size))
#define kcalloc(nr, size, gfp)	((void)(gfp), calloc(nr, size))
#define kfree(object)		free(object)

static inline int fls(unsigned int word)
{
	return word ? 32 - __builtin_clz(word) : 0;
}

struct page {
	unsigned int references;
};

static inline struct page *alloc_page(gfp_t gfp)
{
	struct page *page = kzalloc(sizeof(*page), gfp);

	if (page)
		page->references = 1;
	return page;
}

static inline void put_page(struct page *page)
{
	if (!--page->references)
		free(page);
}

typedef struct { } spinlock_t;

#define spin_lock_init(lock)		((void)(lock))
#define spin_lock(lock)			((void)(lock))
#define spin_unlock(lock)		((void)(lock))
#define lockdep_assert_held(lock)	((void)(lock))

#define TP_PROTO(...)		__VA_ARGS__
#define TRACE_EVENT(name, proto, ...) \
	static inline void trace_##name(proto) { }

struct xarray {
	void **entries;
	unsigned long nr;
};

#define XA_FLAGS_ACCOUNT	0

static inline void xa_init_flags(struct xarray *xa, gfp_t flags)
{
	(void)flags;
	*xa = (struct xarray){ 0 };
}

static inline void xa_destroy(struct xarray *xa)
{
	free(xa->entries);
	xa_init_flags(xa, 0);
}

static inline void *xa_mk_value(unsigned long value)
{
	return (void *)(value << 1 | 1);
}

static inline unsigned long xa_to_value(const void *entry)
{
	return (uintptr_t)entry >> 1;
}

static inline bool xa_is_value(const void *entry)
{
	return (uintptr_t)entry & 1;
}

/* What xa_store() returns without memory, and nothing else. */
static inline bool xa_is_err(const void *entry)
{
	return (uintptr_t)entry == UINTPTR_MAX - 1;
}

static inline void *xa_load(struct xarray *xa, unsigned long index)
{
	return index < xa->nr ? xa->entries[index] : NULL;
}

static inline bool xa_make_room(struct xarray *xa, unsigned long index)
{
	unsigned long nr = xa->nr ?: 64;
	void **entries;

	while (nr <= index)
		nr *= 2;
	if (nr > xa->nr) {
		entries = realloc(xa->entries, nr * sizeof(*entries));
		if (!entries)
			return false;
		memset(entries + xa->nr, 0, (nr - xa->nr) * sizeof(*entries));
		xa->entries = entries;
		xa->nr = nr;
	}
	return true;
}

static inline void *xa_store(struct xarray *xa, unsigned long index,
			     void *entry, gfp_t gfp)
{
	void *old;

	(void)gfp;
	if (!xa_make_room(xa, index))
		return (void *)(UINTPTR_MAX - 1);
	old = xa->entries[index];
	xa->entries[index] = entry;
	return old;
}

static inline int xa_insert(struct xarray *xa, unsigned long index,
			    void *entry, gfp_t gfp)
{
	if (xa_load(xa, index))
		return -EBUSY;
	return xa_is_err(xa_store(xa, index, entry, gfp)) ? -ENOMEM : 0;
}

static inline void *xa_erase(struct xarray *xa, unsigned long index)
{
	void *old = xa_load(xa, index);

	if (old)
		xa->entries[index] = NULL;
	return old;
}

/* The entry at *index or behind it; *index is where that was. */
static inline void *xa_next(struct xarray *xa, unsigned long *index,
			    unsigned long last)
{
	void *entry;

	for (; *index < xa->nr && *index <= last; ++*index) {
		entry = xa_load(xa, *index);
		if (entry)
			return entry;
	}
	return NULL;
}

#define xa_for_each_range(xa, index, entry, first, last)		\
	for (index = (first);						\
	     (entry = xa_next(xa, &(index), last)); index++)

#define xa_for_each(xa, index, entry) \
	xa_for_each_range(xa, index, entry, 0, ULONG_MAX)

#endif /* BENCH_KERNEL_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/* Looking at a shmem file's pages without populating its holes. */
#ifndef _XBZRLE_FILE_PAGE_H
#define _XBZRLE_FILE_PAGE_H

#include <linux/types.h>

struct address_space;
struct page;

struct page *xbzrle_file_page_get(struct address_space *mapping, pgoff_t index);

#endif /* _XBZRLE_FILE_PAGE_H */

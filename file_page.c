// SPDX-License-Identifier: GPL-2.0-only
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "compat/compat.h"
#include <xbzrle/file_page.h>

/**
 * xbzrle_file_page_get() - take a reference on a page of a shmem file
 * @file: the file, open for reading
 * @index: page index in it
 *
 * A page in the page cache is the live one. One that is swapped out, or not
 * there at all, comes as a copy: read() tells a hole as zeros and leaves it a
 * hole, where a fault would fill it.
 *
 * Context: may sleep.
 * Return: the page, whose reference is the caller's, or an ERR_PTR.
 */
struct page *xbzrle_file_page_get(struct file *file, pgoff_t index)
{
	loff_t pos = (loff_t)index << PAGE_SHIFT;
	struct folio *folio;
	struct page *page;
	ssize_t nr;

	folio = filemap_get_folio(file->f_mapping, index);
	if (!IS_ERR(folio)) {
		if (folio_test_uptodate(folio))
			return folio_file_page(folio, index);
		folio_put(folio);
	}

	page = alloc_page(GFP_KERNEL_ACCOUNT);
	if (!page)
		return ERR_PTR(-ENOMEM);
	nr = kernel_read(file, page_address(page), PAGE_SIZE, &pos);
	if (nr < 0) {
		put_page(page);
		return ERR_PTR(nr);
	}
	/* Short where the file ends, which reads as a hole too. */
	memset(page_address(page) + nr, 0, PAGE_SIZE - nr);
	return page;
}

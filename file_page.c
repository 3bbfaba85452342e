// SPDX-License-Identifier: GPL-2.0-only
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/xarray.h>

#include "compat/compat.h"
#include <xbzrle/file_page.h>

/**
 * xbzrle_file_page_get() - take a reference on a page of a shmem file
 * @mapping: the file's
 * @index: page index in it
 *
 * A page that is swapped out is brought in. A hole stays one, where a fault
 * would fill it.
 *
 * Context: may sleep.
 * Return: the page, whose reference is the caller's, NULL for a hole, or an
 * ERR_PTR: -EIO if it is broken or cannot be had from swap, -ENOMEM.
 */
struct page *xbzrle_file_page_get(struct address_space *mapping, pgoff_t index)
{
	struct folio *folio;
	struct page *page;

	folio = filemap_get_folio(mapping, index);
	if (!IS_ERR(folio)) {
		page = folio_file_page(folio, index);
		/* To read it would be a machine check. */
		if (PageHWPoison(page)) {
			folio_put(folio);
			return ERR_PTR(-EIO);
		}
		if (folio_test_uptodate(folio))
			return page;
		folio_put(folio);
	}

	/* Anew, for it may have come in by now. */
	if (!xa_load(&mapping->i_pages, index))
		return NULL;
	folio = shmem_read_folio(mapping, index);
	/* Behind the file's end since it was truncated, which is a hole too. */
	if (folio == ERR_PTR(-EINVAL))
		return NULL;
	return IS_ERR(folio) ? ERR_CAST(folio) : folio_file_page(folio, index);
}

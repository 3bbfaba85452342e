/* SPDX-License-Identifier: GPL-2.0-only */
/* What page tables say of a file's pages, of whatever process. */
#ifndef _XBZRLE_FILE_PTES_H
#define _XBZRLE_FILE_PTES_H

#include <linux/types.h>

struct address_space;

bool xbzrle_file_writable(struct address_space *mapping, pgoff_t index,
			  unsigned long nr, unsigned long *writable);
bool xbzrle_file_late(struct address_space *mapping, pgoff_t index,
		      unsigned long nr);

#endif /* _XBZRLE_FILE_PTES_H */

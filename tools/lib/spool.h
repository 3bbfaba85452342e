/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* A file that holds a round's records until the round is complete. */
#ifndef _LIBXBZRLE_SPOOL_H
#define _LIBXBZRLE_SPOOL_H

#include "xbzrle.h"

struct xbzrle_spool;

struct xbzrle_spool *xbzrle_spool_new(int dir, struct xbzrle_error *err);
void xbzrle_spool_free(struct xbzrle_spool *spool);
int xbzrle_spool_put(struct xbzrle_spool *spool,
		     const struct xbzrle_record *record,
		     struct xbzrle_error *err);
int xbzrle_spool_rewind(struct xbzrle_spool *spool, struct xbzrle_error *err);
int xbzrle_spool_get(struct xbzrle_spool *spool, struct xbzrle_record *record,
		     struct xbzrle_error *err);
void xbzrle_spool_empty(struct xbzrle_spool *spool);

#endif /* _LIBXBZRLE_SPOOL_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* What kvserver and kvcheck say to each other, over SOCK_SEQPACKET. */
#ifndef _XBZRLE_EXAMPLE_KV_H
#define _XBZRLE_EXAMPLE_KV_H

#include <stdint.h>

#define KV_KEYS	(1 << 20)

enum kv_op {
	KV_SET,			/* answers the value */
	KV_GET,			/* answers the value, 0 at first */
	KV_PID,			/* answers who serves */
	KV_HANDOVER,		/* answers who serves still, and will not for long */
};

struct kv_request {
	uint64_t op;
	uint64_t key;		/* less than KV_KEYS */
	uint64_t value;
};

#endif /* _XBZRLE_EXAMPLE_KV_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* Frames as docs/transport.md has them. Shares no code with the tool. */
#ifndef _FUZZ_TRANSPORT_H
#define _FUZZ_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>

#include "model.h"

enum {
	HELLO = 1,
	REGION,
	DATA,
	ROUND,
	ACK,
	DROP,
	DIGEST,
	END,
	VERDICT,
	ERROR,
};

#define TRANSPORT_MAGIC		"XBZF"
#define TRANSPORT_HEADER	20

/**
 * struct transport - frames that follow each other
 * @at: next byte
 * @end: behind the last
 * @sequence: number of the next frame
 */
struct transport {
	const uint8_t *at;
	const uint8_t *end;
	uint32_t sequence;
};

/**
 * struct transport_frame - a frame
 * @type: its type
 * @length: bytes of @payload
 * @payload: payload
 */
struct transport_frame {
	unsigned int type;
	uint32_t length;
	const uint8_t *payload;
};

uint64_t transport_number(const uint8_t *at, size_t length);
int transport_next(struct transport *transport, struct transport_frame *frame);
int transport_name(const struct transport_frame *frame, size_t fixed,
		   char name[256]);
void transport_repair(uint8_t *data, size_t size, unsigned int what,
		      struct model *model);

#endif /* _FUZZ_TRANSPORT_H */

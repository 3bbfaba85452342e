/* SPDX-License-Identifier: GPL-2.0-only */
/* Numbers of the stream format; docs/stream.md. */
#ifndef _XBZRLE_WIRE_H
#define _XBZRLE_WIRE_H

/* Flags in the low bits of a record's be64, whose rest is the offset. */
#define XBZRLE_WIRE_ZERO	0x02
#define XBZRLE_WIRE_MEM_SIZE	0x04
#define XBZRLE_WIRE_PAGE	0x08
#define XBZRLE_WIRE_EOS		0x10
#define XBZRLE_WIRE_CONTINUE	0x20
#define XBZRLE_WIRE_XBZRLE	0x40

/* First byte of an XBZRLE record's body. */
#define XBZRLE_WIRE_ENCODING	0x01

/* Bytes of the parts of a record. */
#define XBZRLE_WIRE_HEADER	8
#define XBZRLE_WIRE_DELTA	3

#endif /* _XBZRLE_WIRE_H */

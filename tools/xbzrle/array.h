/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#ifndef _XBZRLE_TOOL_ARRAY_H
#define _XBZRLE_TOOL_ARRAY_H

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

#endif /* _XBZRLE_TOOL_ARRAY_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* The version of the project, as dkms.conf has it; lint compares them. */
#ifndef _XBZRLE_TOOL_VERSION_H
#define _XBZRLE_TOOL_VERSION_H

#define VERSION	"0.1.0"

#endif /* _XBZRLE_TOOL_VERSION_H */

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
# Measure the device in a VM whose time is the instructions it executes.
# usage: tools/bench/device.sh [table|--json] [PART...]
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
top=$(dirname "$(dirname "$here")")
build=${BUILD:-$top/build}

[ "${1-}" != table ] || shift

"$top/tools/deps" bench
module=$("$top/tools/vm/module")
make -sC "$here" BUILD="$build" >&2
# With that flag the kernel copies and clears memory by instructions that count
# once for each byte, which says nothing of a CPU that has it.
exec "$top/tools/vm/run" --quiet --icount --cpu-flags -erms --timeout 3600 \
	--module "$module" \
	--program "$build/bench/device" -- device "$@"

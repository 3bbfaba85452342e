#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
# Measure rounds in a VM whose time is the instructions it executes.
# usage: tools/bench/round.sh [table|--json]
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
top=$(dirname "$(dirname "$here")")
build=${BUILD:-$top/build}

arguments=()
[ "${1-table}" = table ] || arguments=("$1")

"$top/tools/deps" bench
module=$("$top/tools/vm/module")
make -sC "$here" BUILD="$build" >&2
exec "$top/tools/vm/run" --quiet --icount --timeout 900 \
	--module "$module" \
	--program "$build/bench/round" -- round "${arguments[@]}"

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
eval "$("$top/tools/vm/kernel")"
mkdir -p "$build/bench/module"
cp -ru "$top"/*.[ch] "$top/Kbuild" "$top/include" "$top/compat" \
	"$build/bench/module"
make -sC "$KDIR" M="$build/bench/module" modules >&2
make -sC "$here" BUILD="$build" >&2
exec "$top/tools/vm/run" --quiet --icount --timeout 900 \
	--module "$build/bench/module/xbzrle.ko" \
	--program "$build/bench/round" -- round "${arguments[@]}"

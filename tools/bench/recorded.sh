#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
# Measure the codec on recorded pages of programs: time by the bench itself,
# instructions by callgrind.
# usage: tools/bench/recorded.sh [table|--json]
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
build=$(realpath -m "${BUILD:-$here/../../build}")

[ "${1-}" != table ] || shift

traces=$("$here/record.sh")
make -sC "$here" BUILD="$build" all >&2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# count FILE FUNCTION SYMBOL: instructions of all calls on the file's pages.
count() {
	valgrind --tool=callgrind --toggle-collect="$3" \
		--callgrind-out-file="$work/out" --log-file="$work/log" \
		"$build/bench/recorded" --function="$2" "$1" || {
		cat "$work/log" >&2
		exit 1
	}
	sed -n 's/^totals: //p' "$work/out"
}

for file in "$traces"/*.pages; do
	name=$(basename "$file" .pages)
	while read -r function symbol; do
		echo "$name $function $(count "$file" "$function" "$symbol")"
	done <<-END
		encode xbzrle_encode
		naive naive_encode
		memcmp call_memcmp
	END
done >"$work/instructions"
exec "$build/bench/recorded" "$@" --instructions="$work/instructions" \
	"$traces"/*.pages

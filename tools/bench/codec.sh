#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
# Measure the codec, on pages that are in the CPU's caches and on pages that are not:
# time by the bench itself, instructions by callgrind.
set -eu

usage()
{
	echo "usage: codec.sh [table|--json]" >&2
	exit 2
}

case "$#:${1-}" in
0:|1:table)	set -- ;;
1:--json)	;;
*)		usage ;;
esac

here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath -m "${BUILD:-$here/../../build}")
bench=$build/bench/bench

make -s -C "$here" BUILD="$build" all >&2
command -v valgrind >/dev/null || {
	echo "codec.sh: valgrind is needed to count instructions" >&2
	exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# The symbol that stands for a function of the bench.
symbol()
{
	case $1 in
	decode)		echo xbzrle_decode ;;
	naive)		echo naive_encode ;;
	ndecode)	echo naive_decode ;;
	memcmp)		echo call_memcmp ;;
	read)		echo 'call_read*' ;;
	*)		echo xbzrle_encode_by ;;
	esac
}

# Instructions of all calls of function $2 on pages of kind $1; 0 where the
# function does not apply to the kind, or valgrind lacks its instructions.
count()
{
	valgrind --tool=callgrind --toggle-collect="$(symbol "$2")" \
		--callgrind-out-file="$work/out" --log-file="$work/log" \
		"$bench" --kind="$1" --function="$2" || {
		cat "$work/log" >&2
		exit 1
	}
	sed -n 's/^totals: //p' "$work/out"
}

"$bench" --list >"$work/kinds"
while read -r kind; do
	for function in avx512bw avx2 sse2 neon scalar naive memcmp read \
			decode ndecode; do
		instructions=$(count "$kind" "$function")
		if [ "$instructions" -gt 0 ]; then
			echo "$kind $function $instructions"
		fi
	done
done <"$work/kinds" >"$work/instructions"

"$bench" "$@" --instructions="$work/instructions" >"$work/hot"
"$bench" "$@" --pages=16384 --turns=11 >"$work/streaming"
if [ "${1-}" = --json ]; then
	printf '{ "hot": %s, "streaming": %s }\n' "$(cat "$work/hot")" \
		"$(cat "$work/streaming")"
else
	cat "$work/hot"
	echo
	cat "$work/streaming"
fi

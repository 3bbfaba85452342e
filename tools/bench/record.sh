#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
# Record how the memory of live programs changes, into build/bench/traces, unless
# that was done before. Prints the folder. "make clean" has them made anew.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
build=$(realpath -m "${BUILD:-$here/../../build}")
out=$build/bench/traces

"$here/../deps" traces
make -sC "$here" BUILD="$build" all >&2
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# record NAME OPTION... PROGRAM ARG...: into the work folder, then to its place.
record() {
	local name=$1
	shift

	"$build/bench/record" "$@"
	mv "$work/$name.pages" "$work/$name.rounds" "$out"
}

have() {
	[ -s "$out/$1.rounds" ]
}

# Debian's redis-server is a link to redis-check-rdb.
redis() {
	ln -s /usr/bin/redis-check-rdb "$work/redis-server"
	record redis --every 50 \
		--ready "'$here/traces/redis-load' '$work/socket'" \
		"$work/redis" "$work/redis-server" --port 0 \
		--unixsocket "$work/socket" --save '' --appendonly no
}

# "yes" repeats the statement until nobody reads it.
sqlite() {
	record sqlite --every 50 --ready 'sleep 2' "$work/sqlite" \
		sqlite3 -batch -init "$here/traces/sqlite.sql" :memory: \
		< <(yes "$(cat "$here/traces/transfer.sql")")
}

# The same functions many times are work for the compiler that takes some seconds.
# What it refuses would be work of another kind.
cc() {
	local i compiler=(gcc -std=gnu11 -O2)

	"${compiler[@]}" -Wall -Werror -fsyntax-only -x c "$here/traces/cc.inc"
	for ((i = 0; i < 600; i++)); do
		echo "#define N $i"
		echo "#include \"$here/traces/cc.inc\""
		echo "#undef N"
	done | "${compiler[@]}" -E -o "$work/cc.i" -x c -
	"${compiler[@]}" -fsyntax-only "$work/cc.i"
	record cc --every 50 "$work/cc" "$(gcc -print-prog-name=cc1)" \
		-fpreprocessed -quiet -std=gnu11 -O2 "$work/cc.i" -o "$work/cc.s"
}

node() {
	record node --every 50 --ready 'sleep 2' "$work/node" \
		node "$here/traces/node.js"
}

for program in redis sqlite cc node; do
	have "$program" || "$program" >&2
done
echo "$out"

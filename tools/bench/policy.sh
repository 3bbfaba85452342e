#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
# Measure the policy of the page cache, on made-up traces and on recorded ones.
# usage: tools/bench/policy.sh [table|--json]
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
build=$(realpath -m "${BUILD:-$here/../../build}")

[ "${1-}" != table ] || shift

traces=$("$here/record.sh")
make -sC "$here" BUILD="$build" all >&2
exec "$build/bench/policy" "$@" "$traces"/*.rounds

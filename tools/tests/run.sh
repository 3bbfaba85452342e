#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
# Run test programs one after the other and pass on their TAP. A program that
# dies without telling which test failed counts as one failure more.
# usage: run.sh PROGRAM...
set -u

CMOCKA_MESSAGE_OUTPUT=TAP
export CMOCKA_MESSAGE_OUTPUT

log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 1' INT TERM
failed=0

for program; do
	echo "# $(basename "$program")"
	{
		"$program" 2>&1
		echo "$?" >"$log.status"
	} | tee "$log"
	status=$(cat "$log.status")
	rm -f "$log.status"
	[ "$status" -eq 0 ] && continue
	failed=1
	grep -q '^not ok' "$log" ||
		echo "not ok - $(basename "$program"): exit status $status"
done
exit "$failed"

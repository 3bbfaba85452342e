#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
# Chains of snapshots of running processes, each of which must be of one
# instant; prints TAP. Needs the module: run it in the VM, with xbzrle,
# tool_bank and tool_table in PATH. usage: tool_snapshot.sh [PART...]
work=$(mktemp -d)
cd "$work" || exit 1
count=0
failed=0

# result STATUS NAME
result() {
	count=$((count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $count - $2"
		return
	fi
	failed=1
	echo "not ok $count - $2"
	sed 's/^/# /' log check.log 2>/dev/null
}

# bank HOW: sets bank to its pid, range to where it is, other to the process that
# shares its memory
bank() {
	: >where
	tool_bank run "$1" >where &
	bank=$!
	while [ ! -s where ]; do
		sleep 0.1
	done
	read -r range other <where
}

# snapshot OPTION...: of the bank, into chain; its words go to log
snapshot() {
	rm -rf chain
	xbzrle snapshot --pid $bank --map "$range" --output chain "$@" >log 2>&1
}

# rounds: numbers of those that the chain lists
rounds() {
	sed -n 's/.*"round": *\([0-9]*\).*/\1/p' chain/chain.jsonl
}

# wait_for_rounds COUNT: until the chain lists so many, or nobody adds any
wait_for_rounds() {
	turn=0
	while [ "$(rounds 2>/dev/null | wc -l)" -lt "$1" ] && [ $turn -lt 600 ]; do
		turn=$((turn + 1))
		sleep 0.1
	done
}

# one_instant NAME LEAST: each round can be restored and is of one instant, and
# there are so many
one_instant() {
	xbzrle verify chain >check.log 2>&1
	bad=$?
	for round in $(rounds); do
		rm -rf images
		xbzrle restore --output images "chain@$round" >>check.log 2>&1 ||
			bad=1
		tool_bank check images/"${3:-anon}"*.img >>check.log 2>&1 || bad=1
	done
	[ "$(rounds | wc -l)" -ge "$2" ] || bad=1
	result $bad "$1"
}

# in_time_or_told STATUS COUNT [REGION]: what is written may be too much for the
# cache; then it is told, and nothing that is listed is torn
in_time_or_told() {
	least=$2
	[ "$1" -eq 0 ] || {
		grep -q 'no round was of one instant' log
		result $? "that the cache is too small is told"
		least=0
	}
	one_instant "with too small a cache what is listed is of one instant" \
		"$least" "$3"
}

# goes_on NAME: the bank runs and is not stopped; it may wait for a page
goes_on() {
	grep -q '^State:.[RSD]' "/proc/$bank/status"
	result $? "the process goes on: $1"
}

end_bank() {
	kill -9 $bank
	wait $bank 2>/dev/null
}

# all_stopped: wait until no thread of the bank goes on
all_stopped() {
	turn=0
	while grep -h '^State:' /proc/$bank/task/*/status | grep -qv ':.T' &&
	      [ $turn -lt 600 ]; do
		turn=$((turn + 1))
		sleep 0.1
	done
}

# A copy that is not of one instant has to be told from one that is.
control() {
	bank steady
	torn=0
	turn=0
	while [ $torn = 0 ] && [ $turn -lt 50 ]; do
		turn=$((turn + 1))
		tool_bank copy $bank "${range%-*}" >copy.img
		tool_bank check copy.img >log 2>&1 || torn=1
	done
	[ $torn = 1 ]
	result $? "a copy that is not of one instant is found"
	kill -STOP $bank
	all_stopped
	tool_bank copy $bank "${range%-*}" >copy.img
	tool_bank check copy.img >log 2>&1
	result $? "and one of a process that is stopped is good"
	end_bank
}

chains() {
	bank steady
	snapshot --every 100ms --count 8
	result $? "snapshot of a process"
	one_instant "every snapshot is of one instant" 8
	goes_on "after snapshot"
	cp -r chain before
	xbzrle fold chain@5 >log 2>&1
	result $? "fold"
	one_instant "what is left of the chain is of one instant" 4
	xbzrle restore --output folded chain@7 >log 2>&1 &&
		xbzrle restore --output unfolded before@7 >log 2>&1 &&
		cmp folded/anon*.img unfolded/anon*.img >>log 2>&1
	result $? "a chain that was folded has the same"
	xbzrle snapshot --pid $bank --map "$range" --output chain --count 2 \
		--every 50ms >log 2>&1
	result $? "a chain goes on"
	one_instant "and is of one instant" 6
	xbzrle recv --output received "file:chain/full-9.xbzrle" >log 2>&1 &&
		tool_bank check received/anon*.img >>log
	result $? "the file of a round that has all can be received"

	snapshot --every 10ms --count 40 --cache 256K
	in_time_or_told $? 40
	goes_on "after snapshots with a small cache"
	end_bank
}

# table: a process that makes memory all the time; sets bank to its pid, table to
# where its table is
table() {
	: >where
	tool_table run >where &
	bank=$!
	while [ ! -s where ]; do
		sleep 0.1
	done
	read -r table <where
}

# points_into DIR: all that the table in the images of DIR points to is in them
points_into() {
	# shellcheck disable=SC2046 # words they are
	tool_table check "$table" $(sed -n "s|.*\"file\": \"\(.*\)\",|$1/\1|p
		s/.*\"address\": \"\(.*\)\",/\1/p" "$1/manifest.json")
}

# points_to_all NAME LEAST: as one_instant, of a table
points_to_all() {
	xbzrle verify chain >check.log 2>&1
	bad=$?
	for round in $(rounds); do
		rm -rf images
		xbzrle restore --output images "chain@$round" >>check.log 2>&1 &&
			points_into images >>check.log 2>&1 || bad=1
	done
	[ "$(rounds | wc -l)" -ge "$2" ] || bad=1
	result $bad "$1"
}

# maps_on NAME [OPTION]...: what is mapped until the process is paused belongs to
# that instant, too
maps_on() {
	name=$1
	shift
	table
	rm -rf chain
	xbzrle snapshot --pid $bank --every 50ms --count 8 --output chain \
		"$@" >log 2>&1
	result $? "$name of a process that maps and unmaps all the time"
	points_to_all "$name: what the process had mapped is in each" 8
	goes_on "after that"
	end_bank
}

tables() {
	maps_on snapshot
	table
	for turn in 1 2 3 4 5 6 7 8; do
		xbzrle send --pid $bank --consistent --max-rounds 2 \
			file:mapped.$turn >log 2>&1 || break
	done
	result $? "send --consistent of such a process"
	bad=0
	for turn in 1 2 3 4 5 6 7 8; do
		rm -rf images
		xbzrle recv --output images file:mapped.$turn >check.log 2>&1 &&
			points_into images >>check.log 2>&1 || bad=1
		[ $bad = 0 ] || break
	done
	result $bad "send --consistent: what it had mapped has arrived"
	end_bank
}

# What does not fit the cache at first does when less is left to bring.
retries() {
	bank slow
	snapshot --every 100ms --count 5 --cache 1M
	result $? "snapshot with a cache that is too small for all"
	grep -q '"stream_rounds":1[,}]' chain/chain.jsonl &&
		head -n 1 chain/chain.jsonl | grep -q '"stream_rounds":[2-9]'
	result $? "the first round was tried again"
	one_instant "each is of one instant" 5
	end_bank
}

others() {
	bank shared
	snapshot --every 100ms --count 6
	result $? "snapshot of two processes that share their memory"
	one_instant "each is of one instant" 6
	goes_on "after that"
	end_bank

	bank mapped
	snapshot --count 1
	[ $? -eq 1 ] && grep -q 'is shared, and who else writes' log
	result $? "memory that others may map is refused"
	goes_on "after that"
	end_bank

	bank grow
	rm -rf chain
	xbzrle snapshot --pid $bank --every 100ms --count 12 --output chain \
		>log 2>&1
	result $? "snapshot of a process whose memory map changes"
	xbzrle verify chain >>log 2>&1
	result $? "the chain can be restored"
	one=$(sed -n '$p' chain/chain.jsonl | grep -o '"name":' | wc -l)
	[ "$one" -gt 2 ]
	result $? "new memory gets into it"
	end_bank

	bank steady
	kill -STOP $bank
	snapshot --every 10ms --count 3
	result $? "snapshot of a process that is stopped"
	grep -q '^State:.T' /proc/$bank/status
	result $? "it stays so"
	end_bank
}

freezer() {
	if ! { mkdir -p cgroup && mount -t cgroup2 none cgroup; } 2>/dev/null; then
		count=$((count + 1))
		echo "ok $count - the freezer # SKIP no cgroup2 here"
		return
	fi
	mkdir cgroup/bank cgroup/empty
	bank shared
	xbzrle snapshot --pid $bank --map "$range" --freezer cgroup/bank \
		--output chain-f >log 2>&1
	[ $? -eq 1 ] && grep -q 'is not in cgroup/bank' log
	result $? "a process that is not in the group is told"
	goes_on "after that"
	echo $bank >cgroup/bank/cgroup.procs
	snapshot --freezer cgroup/bank
	[ $? -eq 1 ] && grep -q "process $other is not in cgroup/bank" log
	result $? "one that shares its memory and is not in the group is told"
	grep -q 'frozen 0' cgroup/bank/cgroup.events
	result $? "the group goes on after that"
	echo "$other" >cgroup/bank/cgroup.procs
	snapshot --every 100ms --count 6 --freezer cgroup/bank
	result $? "snapshot of a group that is frozen"
	one_instant "with a freezer every snapshot is of one instant" 6
	grep -q 'frozen 0' cgroup/bank/cgroup.events
	result $? "the group goes on"
	echo 1 >cgroup/bank/cgroup.freeze
	snapshot --every 10ms --count 2 --freezer cgroup/bank
	result $? "snapshot of a group that was frozen"
	grep -q 'frozen 1' cgroup/bank/cgroup.events
	result $? "it stays so"
	echo 0 >cgroup/bank/cgroup.freeze
	echo $$ >cgroup/empty/cgroup.procs
	xbzrle snapshot --pid $bank --freezer cgroup/empty --output chain-f \
		>log 2>&1
	[ $? -eq 1 ] && grep -q 'this tool runs in it' log
	result $? "a group that the tool is in is told"
	echo $$ >cgroup/cgroup.procs
	end_bank
}

# shellcheck disable=SC2016 # for the shell in the bank
owned() {
	rm -rf chain
	tool_bank owned sh -c 'exec xbzrle snapshot --session 3 --pid $BANK_PID \
		--every 100ms --count 8 --output chain' >log 2>&1
	result $? "snapshot of an inherited session"
	one_instant "each is of one instant" 8 bank

	rm -rf chain
	tool_bank owned sh -c 'exec xbzrle snapshot --session 3 --pid $BANK_PID \
		--every 10ms --count 20 --cache 256K --output chain' >log 2>&1
	in_time_or_told $? 20 bank
}

endings() {
	bank steady
	rm -rf chain
	xbzrle snapshot --pid $bank --map "$range" --every 50ms --output chain \
		>log 2>&1 &
	tool=$!
	wait_for_rounds 4
	kill -INT $tool
	wait $tool
	result $? "an interrupt ends snapshot"
	goes_on "after an interrupt"
	one_instant "the chain is complete" 2

	for least in 6 9 12; do
		xbzrle snapshot --pid $bank --map "$range" --every 1ms \
			--output chain >log 2>&1 &
		tool=$!
		wait_for_rounds $least
		kill -9 $tool
		wait $tool 2>/dev/null
		# It may have been killed while the bank was stopped.
		kill -CONT $bank
	done
	one_instant "snapshot was killed, and the chain is complete" 12

	rm -rf chain
	xbzrle snapshot --pid $bank --map "$range" --every 50ms --output chain \
		>log 2>&1 &
	tool=$!
	wait_for_rounds 2
	end_bank
	wait $tool
	result $? "a process that ends, ends snapshot"
	grep -q "process $bank has ended" log
	result $? "and that is told"
	one_instant "its chain is complete" 2

	# Its memory ends, and it does not.
	bank exec
	rm -rf chain
	xbzrle snapshot --pid $bank --map "$range" --every 50ms --output chain \
		>log 2>&1 &
	tool=$!
	wait_for_rounds 2
	kill -USR1 $bank
	wait $tool
	[ $? -eq 1 ] && grep -q "process $bank has executed another program" log
	result $? "a process that executes another program is told from one that ends"
	goes_on "after that"
	one_instant "its chain is complete" 2
	end_bank
}

sends() {
	bank steady
	xbzrle send --pid $bank --map "$range" --consistent --max-rounds 4 \
		file:sent >log 2>&1
	result $? "send --consistent"
	goes_on "after send --consistent"
	xbzrle recv --output sent.d file:sent >>log 2>&1
	result $? "it is received, digests agree"
	tool_bank check sent.d/anon*.img >check.log
	result $? "it is of one instant"
	end_bank
}

# What the module does not see comes from soft-dirty bits.
external() {
	bank steady
	snapshot --tracker external --every 100ms --count 6
	result $? "soft-dirty bits: snapshot of a process"
	one_instant "soft-dirty bits: each is of one instant" 6
	goes_on "after that"
	end_bank
	maps_on "soft-dirty bits: snapshot" --tracker external
}

# part NAME: left out where the kernel cannot track what it needs
part() {
	case $1-${TRACKERS:?} in
	control-*)	control ;;
	owned-*)	owned ;;
	chains-*pte*)	chains ;;
	tables-*pte*)	tables ;;
	retries-*pte*)	retries ;;
	others-*pte*)	others ;;
	freezer-*pte*)	freezer ;;
	endings-*pte*)	endings ;;
	sends-*pte*)	sends ;;
	external-*)	[ "$(uname -m)" = aarch64 ] || external ;;
	*)		echo "# $1: left out, as this kernel has no pte tracker" ;;
	esac
}

[ $# -gt 0 ] ||
	set -- control owned chains tables retries others freezer endings sends \
		external
for part; do
	part "$part"
done
echo "1..$count"
cd / && { umount "$work/cgroup" 2>/dev/null; rm -rf "$work"; }
exit $failed

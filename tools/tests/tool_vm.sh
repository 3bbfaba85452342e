#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
# The sender against running processes; prints TAP. Needs the module: run it in
# the VM, with xbzrle, tool_writer and tool_tty in PATH.
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
	sed 's/^/# /' send.log recv.log 2>/dev/null
}

# soon COMMAND...: wait for something, but not for ever
soon() {
	turn=0
	until "$@" || [ $turn -eq 600 ]; do
		turn=$((turn + 1))
		sleep 0.1
	done
}

# target HOW: sets target, which has written most of its memory then
target() {
	: >ready
	tool_writer "$1" >ready &
	target=$!
	soon [ -s ready ]
}

# is_stopped: is the target?
is_stopped() {
	grep -q '^State:.T' "/proc/$target/status"
}

# has_begun DIR: something is being received into it
# shellcheck disable=SC2317 # called by soon
has_begun() {
	set -- "$1"/*.img
	[ -e "$1" ]
}

# has_target: the sender has got hold of its process
# shellcheck disable=SC2317 # called by soon
has_target() {
	for fd in "/proc/$sender/fd"/*; do
		case $(readlink "$fd") in
		*pidfd*)	return 0 ;;
		esac
	done
	return 1
}

# receive DIR: sets receiver
receive() {
	rm -f socket recv.log
	xbzrle recv --output "$1" unix:socket >recv.log 2>&1 &
	receiver=$!
	while [ ! -S socket ] && kill -0 $receiver 2>/dev/null; do
		sleep 0.1
	done
}

# goes_on: the target runs and is not stopped; it may wait for a page
goes_on() {
	grep -q '^State:.[RSD]' "/proc/$target/status"
}

transfers() {
	for how in steady grow unmap guard; do
		target $how
		receive $how
		xbzrle send --pid $target --max-rounds 8 --max-downtime 1 \
			--bandwidth 4M unix:socket >send.log 2>&1
		sent=$?
		wait $receiver
		result $((sent || $?)) "a process ($how) arrives, digests agree"
		goes_on
		result $? "a process ($how) goes on"
		kill $target
	done
	set -- grow/heap*.img
	[ $# -gt 1 ]
	result $? "a heap that grows gets more regions"
}

# ends_badly NAME PATTERN: the sender failed, says so, and did no harm
ends_badly() {
	[ "$sent" -eq 1 ] && grep -q "$2" send.log
	result $? "$1 is told"
	goes_on
	result $? "the process goes on after: $1"
}

troubles() {
	target steady
	receive killed
	xbzrle send --pid $target --bandwidth 1M unix:socket >send.log 2>&1 &
	sender=$!
	soon has_begun killed
	kill -9 $receiver
	wait $sender
	sent=$?
	ends_badly "a receiver that is killed" 'the peer is gone'

	receive stalled
	kill -STOP $receiver
	xbzrle send --pid $target --patience 2 unix:socket >send.log 2>&1
	sent=$?
	kill -9 $receiver
	ends_badly "a receiver that does not move" 'not moved for 2 s'

	mkdir small
	mount -t tmpfs -o size=2M none small
	receive small/dir
	xbzrle send --pid $target unix:socket >send.log 2>&1
	sent=$?
	wait $receiver
	umount small
	ends_badly "a receiver's full disk" 'No space left'

	echo before >kept
	xbzrle send --pid $target --bandwidth 1M file:kept >send.log 2>&1 &
	sender=$!
	soon [ -s kept.new ]
	kill -INT $sender
	wait $sender
	sent=$?
	ends_badly "an interrupt" 'ended by'
	[ "$(cat kept)" = before ] && [ ! -e kept.new ]
	result $? "a file stays as it was when it could not all be sent"

	rm -f file
	xbzrle send --pid $target --bandwidth 1M - >file 2>send.log &
	sender=$!
	soon [ -s file ]
	kill -INT $sender
	wait $sender
	xbzrle recv --output broken file:file >recv.log 2>&1
	[ $? -eq 1 ] && grep -q 'the sender failed: ended by' recv.log
	result $? "the receiver is told why the sender ended"

	xbzrle send --pid $target --map heap --bandwidth 1M file:file \
		>send.log 2>&1 &
	sender=$!
	soon [ -s file.new ]
	kill -9 $target
	wait $sender
	sent=$?
	[ $sent -eq 1 ]
	result $? "a target that is killed is told"
}

ends() {
	target steady
	xbzrle send -q --pid $target --then stop file:stopped >send.log 2>&1
	result $? "send --then stop"
	grep -q '^State:.T' /proc/$target/status
	result $? "the process is stopped"
	xbzrle send -q --pid $target file:again >send.log 2>&1
	grep -q '^State:.T' /proc/$target/status
	result $? "a process that was stopped before stays so"
	kill -CONT $target
	{
		xbzrle send -q --pid $target --then kill - 2>send.log
		echo $? >status
	} | cat >/dev/null
	read -r sent <status
	[ "$sent" -eq 2 ] && grep -q 'nobody answers over -' send.log
	result $? "--then kill over a pipe is refused"
	goes_on
	result $? "the process goes on after that"
	xbzrle send -q --pid $target --then kill file:dead >send.log 2>&1
	result $? "send --then kill"
	wait $target
	[ $? -eq 137 ]
	result $? "the process is killed"
	for file in stopped again dead; do
		xbzrle recv --output $file.d file:$file >recv.log 2>&1
		result $? "a recorded transfer can be received: $file"
	done
}

# Somebody else's SIGCONT must cost nothing that is written after it.
disturbed() {
	for then in kill stop; do
		target steady
		rm -f all-there
		xbzrle send --pid $target --max-rounds 1 --then $then \
			"exec:cat >disturbed; : >all-there; sleep 4" \
			>send.log 2>&1 &
		sender=$!
		soon [ -e all-there ]
		is_stopped
		result $? "--then $then: it is stopped while the command runs"
		kill -CONT $target
		wait $sender
		sent=$?
		ends_badly "--then $then: somebody else's SIGCONT" \
			'put back to work by somebody else'
		kill $target
	done

	target steady
	xbzrle send --pid $target --max-rounds 1 --bandwidth 4M file:disturbed \
		>send.log 2>&1 &
	sender=$!
	soon is_stopped
	# So that who has stopped it sees that as well.
	sleep 0.5
	kill -CONT $target
	wait $sender
	sent=$?
	ends_badly "somebody else's SIGCONT in the last round" \
		'put back to work by somebody else'
	kill $target
}

# on_terminal FIRST COMMAND...: with a terminal, of which keys are typed to fd 4
# after FIRST; sets sender
on_terminal() {
	rm -f keys
	mkfifo keys
	first=$1
	shift
	tool_tty "$@" <keys >send.log 2>&1 &
	sender=$!
	exec 4>keys
	printf '%b' "$first" >&4
}

off_terminal() {
	exec 4>&-
	wait $sender
	sent=$?
}

# goes_on_soon: before somebody loses patience
goes_on_soon() {
	soon goes_on
	goes_on
}

# with_number PID: a process that has it; sets target
with_number() {
	turn=0
	until target=
		echo $(($1 - 1)) >/proc/sys/kernel/ns_last_pid
		: >ready
		tool_writer steady >ready &
		target=$!
		[ $target -eq "$1" ] || [ $turn -eq 50 ]
	do
		kill $target
		turn=$((turn + 1))
	done
	[ $target -eq "$1" ]
}

# The number of a process that has ended may be given to another one.
replaced() {
	if [ ! -w /proc/sys/kernel/ns_last_pid ]; then
		count=$((count + 1))
		echo "ok $count - a number that is used again # SKIP this kernel gives out none by wish"
		return
	fi
	target steady
	receive replaced
	# The sender waits for it before it looks at any memory.
	kill -STOP $receiver
	xbzrle send --pid $target unix:socket >send.log 2>&1 &
	sender=$!
	soon has_target
	old=$target
	kill -9 $old
	wait $old
	with_number $old
	result $? "a process has the number of one that has ended"
	# It has to have memory that could be sent.
	soon [ -s ready ]
	kill -CONT $receiver
	wait $sender
	sent=$?
	wait $receiver
	ends_badly "that it is not the same" "process $old has ended"
	set -- replaced/*.img
	[ ! -e "$1" ]
	result $? "nothing of it was sent"
	kill $target
}

# settles FILE: it has a MiB or more, and grows no more; size is what it had before
# shellcheck disable=SC2317 # called by soon
settles() {
	before=$size
	size=0
	[ ! -e "$1" ] || size=$(wc -c <"$1")
	[ "$size" -gt 1048576 ] && [ "$size" -eq "$before" ]
}

# Who looks at the tool, or not, must not keep the process stopped.
terminals() {
	target steady
	on_terminal '\023' xbzrle send --pid $target --max-rounds 1 file:tty
	# What is sent of its memory comes before the process goes on, the end after
	# what is to be told.
	size=0
	soon settles tty.new
	goes_on_soon
	result $? "a terminal that is held does not keep the process stopped"
	printf '\021' >&4
	off_terminal
	[ "$sent" -eq 0 ] && grep -q 'round 1 (last)' send.log &&
		grep -q 'regions in 1 rounds' send.log
	result $? "what was to be told is told when it is not held"

	on_terminal '\021' xbzrle send --pid $target --max-rounds 1 \
		--bandwidth 4M file:tty
	soon is_stopped
	is_stopped
	result $? "the process is stopped for the last round"
	printf '\032' >&4
	goes_on_soon
	result $? "the process goes on though the tool is to be stopped"
	off_terminal
	result $sent "and the tool ends when it goes on"
	kill $target
}

# range PATTERN: the first mapping of the target that has it, as START-END
range() {
	sed -n "/$1/{s/ .*//p;q;}" "/proc/$target/maps"
}

# regions DIR: the addresses and lengths that the manifest of DIR has
regions() {
	sed -n 's/.*"address": "\(.*\)",/\1/p; s/.*"length": \(.*\),/\1/p' \
		"$1/manifest.json" | xargs
}

# selects DIR MAP WANT NAME: --map MAP sends the regions WANT and no others
selects() {
	xbzrle send -q --pid $target --map "$2" file:"$1.stream" >send.log 2>&1 &&
		xbzrle recv --output "$1" file:"$1.stream" >recv.log 2>&1 &&
		[ "$(regions "$1")" = "$3" ]
	result $? "$4"
}

maps() {
	target steady
	all=$(range '\[stack\]')
	selects name '[stack]' \
		"0x${all%-*} $((0x${all#*-} - 0x${all%-*}))" "send --map NAME"
	all=$(range '\[heap\]')
	start=$((0x${all%-*}))
	part=$(printf '%x-%x' $((start + 8192)) $((start + 20480)))
	selects range "$part" "0x${part%-*} 12288" \
		"send --map START-END, a part of a mapping"
	start=$((0x${all#*-} - 4096))
	part=$(printf '%x-%x' $start $((start + 8192)))
	selects partly "$part" "0x${part%-*} 4096" \
		"send --map START-END, of which a part is mapped"

	for what in nosuch 1000-2000; do
		xbzrle send --pid $target --map heap --map $what file:refused \
			>send.log 2>&1
		sent=$?
		ends_badly "--map $what, which is not there" \
			"has no memory '$what'"
	done
	xbzrle send --pid $target --map tool_writer file:refused >send.log 2>&1
	sent=$?
	ends_badly "--map of a file's memory" 'cannot be tracked'
	kill $target
}

# A file that others may map is tracked beside private memory.
shares() {
	target shared
	receive shared
	xbzrle send --pid $target --map heap --map 'memfd:writer (deleted)' \
		--max-rounds 8 --max-downtime 1 --bandwidth 8M unix:socket \
		>send.log 2>&1
	sent=$?
	wait $receiver
	result $((sent || $?)) "shared memory arrives, digests agree"
	set -- shared/shared-*.img
	[ -s "$1" ]
	result $? "shared memory has an image of its own"
	goes_on
	result $? "a process with shared memory goes on"
	kill $target
}

# says PATTERN NAME: what the sender has printed
says() {
	grep -q "$1" send.log
	result $? "$2"
}

# falls_back WHY [OPTION]: what the module does not see comes from soft-dirty bits
falls_back() {
	why=$1
	shift

	for how in steady grow unmap drop guard threads; do
		target $how
		receive external-$how
		xbzrle send --pid $target "$@" --max-rounds 12 \
			--max-downtime 1 --bandwidth 8M unix:socket \
			>send.log 2>&1
		sent=$?
		wait $receiver
		result $((sent || $?)) \
			"soft-dirty bits: a process ($how) arrives, digests agree"
		goes_on
		result $? "soft-dirty bits: a process ($how) goes on"
		kill $target
	done
	says "using the external tracker.*$why" \
		"that they are used is told"
	says 'to read its soft-dirty bits' "how long that took is told"

	target steady
	xbzrle send --pid $target "$@" --map tool_writer file:refused \
		>send.log 2>&1
	sent=$?
	ends_badly "memory that has no such bits" 'cannot be tracked'

	kill -STOP $target
	xbzrle send -q --pid $target "$@" --max-rounds 3 file:stopped-before \
		>send.log 2>&1
	result $? "soft-dirty bits of a process that is stopped"
	grep -q '^State:.T' /proc/$target/status
	result $? "it stays so"
	[ ! -s send.log ]
	result $? "--quiet is quiet"
	kill -9 $target
}

# Neither the module nor the kernel says what was written.
lacks_bits() {
	target steady
	xbzrle send --pid $target --tracker external - >file 2>send.log
	sent=$?
	ends_badly "that this kernel has no soft-dirty bits" \
		'no soft-dirty bits.*xbzrle_create() or xbzrle_adopt()'
	xbzrle recv --output images-of-nothing file:file >recv.log 2>&1
	[ $? -eq 1 ] && grep -q 'the sender failed: .*cannot track' recv.log
	result $? "the receiver is told so"
	kill $target
}

transfers
case $TRACKERS-$(uname -m) in
# Without a pte tracker its private memory needs soft-dirty bits.
*pte* | *-x86_64)
	shares ;;
esac
maps
troubles
ends
disturbed
replaced
terminals
# Who boots the kernel says what it must be able to track. Of the architectures
# of the lab, arm64 has no soft-dirty bits.
case ${TRACKERS:?}-$(uname -m) in
*-aarch64)
	lacks_bits ;;
*pte*)
	falls_back '' --tracker external ;;
*)
	falls_back 'has no pte tracker' ;;
esac
echo "1..$count"
cd / && rm -rf "$work"
exit $failed

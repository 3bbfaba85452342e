#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
# The tool's receiving end and its command line, without the module: what a
# sample sender plays must arrive, or be refused with words that say why.
# PROGRAMS is the folder that xbzrle and tool_sample are in.
set -u

programs=${PROGRAMS:-$(dirname "$0")/../../build/tests}
xbzrle=$(readlink -f "$programs/xbzrle")
sample=$(readlink -f "$programs/tool_sample")
work=$(mktemp -d)
mounted=
count=0
status=0
failed=0
# shellcheck disable=SC2317 # called by the trap
cleanup() {
	[ -z "$mounted" ] || umount "$work/small"
	rm -rf "$work"
}
trap cleanup EXIT
cd "$work" || exit 1

ok() {
	count=$((count + 1))
	echo "ok $count - $1"
}

not_ok() {
	count=$((count + 1))
	failed=1
	echo "not ok $count - $1"
	sed 's/^/# /' err out 2>/dev/null
}

# expect STATUS TEXT NAME: of the last run, whose words are in err and out.
expect() {
	if [ "$status" -eq "$1" ] && grep -q -- "$2" err out; then
		ok "$3"
	else
		echo "# status $status instead of $1, or no '$2'"
		not_ok "$3"
	fi
}

# run COMMAND...: sets status; its words go to out and err
run() {
	"$@" >out 2>err
	status=$?
}

same_image() {
	local page i

	for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
		if [ $((i % 4)) = 3 ] || [ $i = 2 ]; then
			page=0
		else
			page=$((i + 1))
		fi
		# shellcheck disable=SC2059 # an octal escape is wanted
		printf "\\$(printf %o $page)%.0s" {1..4096}
	done >want
	printf '\x99' | dd of=want bs=1 seek=$((4096 + 5)) conv=notrunc status=none
	cmp want "$1"
}

arrived() {
	if [ "$status" -eq 0 ] && same_image "$1/heap.img" &&
	   [ "$(jq -r '.regions[0] | "\(.name) \(.length) \(.rounds) \(.address)"' \
		"$1/manifest.json")" = "heap 65536 2 0x7f0000000000" ]; then
		ok "$2"
	else
		not_ok "$2"
	fi
}

wait_for_listener() {
	until grep -q 'listening on' err || ! kill -0 "$1" 2>/dev/null; do
		sleep 0.05
	done
}

# with_listener ENDPOINT DIR KIND CONNECT...: a recv that waits, and a sample
# that calls it; the sample's words go to answer.
with_listener() {
	local from=$1 dir=$2 kind=$3 pid address
	shift 3

	# What an earlier one said must not be taken for this one's.
	: >err
	"$xbzrle" recv --output "$dir" "$from" >out 2>err &
	pid=$!
	wait_for_listener $pid
	address=$(sed -n 's/.*listening on [a-z]*:\(.*\)/\1/p' err)
	"$sample" "$kind" "$1" "${address##*:}" >answer 2>&1
	wait $pid
	status=$?
}

endpoints() {
	local pid

	"$sample" good >good.bin
	run "$xbzrle" recv --output file file:good.bin
	arrived file "recv file:"
	run "$xbzrle" recv --output exec "exec:$sample good"
	arrived exec "recv exec:"
	run "$xbzrle" recv --output fd fd:5 5<good.bin
	arrived fd "recv fd:"
	run "$xbzrle" recv --output stdin - <good.bin
	arrived stdin "recv -"
	with_listener tcp::0 tcp good tcp
	arrived tcp "recv tcp:"
	if [ "$(cat answer)" = "hello ack 1 ack 2 verdict yes: all digests agree " ]; then
		ok "recv answers each round and the end"
	else
		not_ok "recv answers each round and the end"
	fi
	: >err
	"$xbzrle" recv --output tcp6 "tcp:[::1]:0" >out 2>err &
	pid=$!
	wait_for_listener $pid
	kill -TERM $pid 2>/dev/null
	wait $pid
	status=$?
	if grep -q 'Cannot assign\|not supported' err; then
		ok "recv tcp: takes an IPv6 host # SKIP no IPv6 here"
	else
		expect 1 'listening on tcp:\[::1\]:' \
			"recv tcp: takes an IPv6 host in brackets"
		expect 1 'ended by Terminated' "a signal ends recv"
	fi
	with_listener unix:sock unix good unix
	arrived unix "recv unix:"
	if [ -e sock ]; then
		not_ok "the socket's name is gone afterwards"
	else
		ok "the socket's name is gone afterwards"
	fi
	: >stale.sock
	run "$xbzrle" recv --output stale unix:stale.sock
	expect 1 'in use; if nobody listens there any more, remove it' \
		"a name that a socket was left with is told"
	run "$xbzrle" recv --json --output json file:good.bin
	if jq -e '.regions[0].xxh3_128 | length == 32' out >/dev/null; then
		ok "recv --json prints the manifest"
	else
		not_ok "recv --json prints the manifest"
	fi
	run "$xbzrle" recv --output file file:good.bin
	expect 1 'holds a received image already' \
		"recv leaves a complete image alone"
}

# Where a standard descriptor is closed no file takes its place.
closed() {
	local pid

	"$xbzrle" recv --output closed unix:closed.sock >&- 2>&- &
	pid=$!
	until [ -S closed.sock ] || ! kill -0 $pid 2>/dev/null; do
		sleep 0.05
	done
	if [ "$(readlink /proc/$pid/fd/1 /proc/$pid/fd/2 | sort -u)" = /dev/null ]
	then
		ok "nothing of recv's own is standard output or error"
	else
		not_ok "nothing of recv's own is standard output or error"
	fi
	"$sample" good unix closed.sock >answer 2>&1
	wait $pid
	status=$?
	# Its summary is lost, and nothing else.
	if [ $status = 1 ] && same_image closed/heap.img &&
	   [ -f closed/manifest.json ] && grep -q 'verdict yes' answer; then
		ok "recv with closed standard descriptors"
	else
		not_ok "recv with closed standard descriptors"
	fi
}

# refused KIND TEXT: recv says why, and there is no manifest
refused() {
	"$sample" "$1" >stream
	run "$xbzrle" recv --output "bad-$1" file:stream
	if [ -e "bad-$1/manifest.json" ]; then
		not_ok "refused: $1"
	else
		expect 1 "$2" "refused: $1"
	fi
}

# A sender that neither says what is right nor ends.
talks_on() {
	local pid port

	: >err
	"$xbzrle" recv --output on tcp::0 >out 2>err &
	pid=$!
	wait_for_listener $pid
	port=$(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' err)
	exec 3<>"/dev/tcp/127.0.0.1/$port"
	echo "this is no frame of anything" >&3
	until grep -q 'not a frame' err || ! kill -0 $pid 2>/dev/null; do
		sleep 0.05
	done
	sleep 0.2
	if [ -n "$(ls /proc/$pid/fd 2>/dev/null)" ]; then
		ok "an error is told before the sender has ended"
	else
		not_ok "an error is told before the sender has ended"
	fi
	kill -TERM $pid
	wait $pid
	status=$?
	exec 3>&-
	expect 1 'not a frame' "and a signal ends the waiting for that"
}

bad_streams() {
	refused flipped 'checksum differs'
	refused truncated 'cut short inside a frame'
	refused reordered 'came where frame'
	refused alien 'not a frame of xbzrle'
	refused features 'features 0x10000000000'
	refused malformed 'stream byte .*: flags 0x800 .*not supported'
	refused halfround 'cut short inside a round'
	refused wronground 'sender ended round 3 at byte .* round 2 at byte'
	refused wrongbyte 'sender ended round 2 at byte .* round 2 at byte'
	refused hangup 'the sender is gone'
	refused wrongdigest "region 'heap' differs"
	refused nodigest 'no digest'
	refused unannounced 'was not announced'
	: >empty
	run "$xbzrle" recv --output empty.d file:empty
	expect 1 'the peer is gone' "refused: nothing at all"

	# All of the second round came, but for its EOS.
	if [ "$(od -An -tx1 -j$((4096 + 5)) -N1 bad-halfround/heap.img)" = " 02" ]; then
		ok "of a broken round nothing is applied"
	else
		not_ok "of a broken round nothing is applied"
	fi

	with_listener unix:sock told wrongdigest unix
	if grep -q "verdict no: region 'heap' differs" answer; then
		ok "the sender is told that digests differ"
	else
		not_ok "the sender is told that digests differ"
	fi
	with_listener tcp::0 told2 malformed tcp
	if grep -q "error .*not supported" answer; then
		ok "the sender is told why recv ends"
	else
		not_ok "the sender is told why recv ends"
	fi
	talks_on
	with_listener tcp::0 gone hangup tcp
	expect 1 'the sender is gone\|the peer is gone' \
		"a sender that is gone is told"
}

# The peer chooses the names; only what an incomplete transfer left is replaced.
leftovers() {
	local inode

	mkdir other other2
	echo mine | tee other/heap.img other2/.manifest.json.new >mine
	run "$xbzrle" recv --output other file:good.bin
	expect 1 'heap.img is there already.*move it away' \
		"a file of somebody else is told"
	run "$xbzrle" recv --output other "exec:$sample dropped"
	if [ "$status" = 1 ] && cmp other/heap.img mine; then
		ok "and neither overwritten nor dropped, also the second time"
	else
		not_ok "and neither overwritten nor dropped, also the second time"
	fi
	run "$xbzrle" recv --output other2 file:good.bin
	if [ "$status" = 1 ] && grep -q 'manifest.json.new is in the way' err &&
	   cmp other2/.manifest.json.new mine; then
		ok "nor is a beginning of a manifest"
	else
		not_ok "nor is a beginning of a manifest"
	fi

	"$sample" hangup >hangup.bin
	run "$xbzrle" recv --output left file:hangup.bin
	chmod 644 left/heap.img
	ln left/heap.img left.link
	inode=$(stat -c %i left/heap.img)
	run "$xbzrle" recv --output left file:hangup.bin
	if [ "$status" = 1 ] && [ "$(stat -c %a%h left/heap.img)" = 6001 ] &&
	   [ "$(stat -c %i left/heap.img)" != "$inode" ]; then
		ok "what an incomplete transfer left is not written to"
	else
		not_ok "what an incomplete transfer left is not written to"
	fi
	echo mine >left/other.img
	run "$xbzrle" recv --output left file:good.bin
	arrived left "and another transfer takes its place"
	if [ "$(find left -type f | sort | xargs)" = \
	     "left/heap.img left/manifest.json left/other.img" ]; then
		ok "which leaves nothing else, and what others have put there"
	else
		find left | sed 's/^/# /'
		not_ok "which leaves nothing else, and what others have put there"
	fi
	run "$xbzrle" recv --output swapped file:hangup.bin
	cp mine new
	mv new swapped/heap.img
	run "$xbzrle" recv --output swapped file:good.bin
	if [ "$status" = 1 ] && cmp swapped/heap.img mine; then
		ok "a file that was put in place of one of its images stays"
	else
		not_ok "a file that was put in place of one of its images stays"
	fi
}

files() {
	local pid

	run "$xbzrle" recv --output evil "exec:$sample evilname"
	if [ "$status" = 0 ] && [ -f evil/_._.._.etc_pass_wd.img ] &&
	   [ "$(find evil -type f | wc -l)" = 2 ]; then
		ok "a name cannot leave the folder"
	else
		find evil | sed 's/^/# /'
		not_ok "a name cannot leave the folder"
	fi
	run "$xbzrle" recv --output latin "exec:$sample latin"
	if [ "$status" = 0 ] && same_image latin/he_p.img &&
	   [ "$(jq -r '.regions[0].name' latin/manifest.json)" = 'he?p' ]; then
		ok "a name that is not UTF-8 arrives"
	else
		not_ok "a name that is not UTF-8 arrives"
	fi
	mkdir busy link
	ln -s ../victim link/heap.img
	run "$xbzrle" recv --output link file:good.bin
	if [ "$status" = 1 ] && [ ! -e victim ]; then
		ok "a link in the folder is not followed"
	else
		not_ok "a link in the folder is not followed"
	fi
	"$sample" huge >huge.bin
	"$xbzrle" recv --output huge file:huge.bin >out 2>err &
	pid=$!
	until [ -e huge/huge.img ] || ! kill -0 $pid 2>/dev/null; do
		sleep 0.05
	done
	sleep 0.5
	kill -TERM $pid
	wait $pid
	status=$?
	expect 1 'ended by Terminated' "a signal ends the digest of a hole"
	# 73 KB, for which 34 MB would be kept.
	run "$xbzrle" recv --memory 16M --output wide "exec:$sample wide"
	expect 1 'than the 16777216 bytes of memory.*allow more with --memory' \
		"pages far from each other take no more memory than allowed"
	"$sample" many >many.bin
	status=0
	(ulimit -n 64; exec "$xbzrle" recv --output many file:many.bin) \
		>out 2>err || status=$?
	expect 1 'Too many open files; .*ulimit -Hn' \
		"more regions than there may be open files are told"
	status=0
	(ulimit -Sn 64; exec "$xbzrle" recv --output many file:many.bin) \
		>out 2>err || status=$?
	expect 0 '100 regions' "more regions than the soft limit of open files"
	if [ "$(find many -name '*.img' | wc -l)" = 100 ]; then
		ok "names that are alike get a file each"
	else
		not_ok "names that are alike get a file each"
	fi
	leftovers
	run flock -n busy "$xbzrle" recv --output busy file:good.bin
	expect 1 'another receiver writes into busy' \
		"a folder that another recv uses is refused"
	run "$xbzrle" recv --output dropped "exec:$sample dropped"
	if [ "$status" = 0 ] && [ ! -e dropped/heap.img ]; then
		ok "a dropped region's file goes"
	else
		not_ok "a dropped region's file goes"
	fi
	run "$xbzrle" recv --output failed "exec:$sample good; exit 3"
	expect 1 'status 3' "a command that fails is told"
	run "$xbzrle" recv --output /dev/null/x file:good.bin
	expect 1 'cannot make' "a folder that cannot be is told"

	mkdir small
	if mount -t tmpfs -o size=32k none small 2>/dev/null; then
		mounted=yes
		with_listener tcp::0 small/full good tcp
		expect 1 'No space left' "a full disk is told"
		if grep -q 'error .*No space left' answer; then
			ok "the sender is told of a full disk"
		else
			not_ok "the sender is told of a full disk"
		fi
		umount small
		mounted=
	else
		count=$((count + 1))
		echo "ok $count - a full disk # SKIP no right to mount"
	fi
}

# 262144 rounds of 8 bytes each.
many_rounds() {
	local name="inspect --json holds no objects for millions of rounds"

	# Sanitizers take more than that for themselves.
	if ! (ulimit -v 100000; "$xbzrle" --help) >out 2>err; then
		echo "# left out here: $name"
		return
	fi
	printf '\0\0\0\0\0\0\0\x10' >rounds
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18; do
		cat rounds rounds >twice
		mv twice rounds
	done
	{ head -c 29 raw.bin; cat rounds; } >rounds.bin
	(ulimit -v 100000; exec "$xbzrle" inspect --json rounds.bin) >out 2>err
	status=$?
	if [ $status = 0 ] &&
	   [ "$(grep -o '"bytes": 8,' out | wc -l)" = 262144 ]; then
		ok "$name"
	else
		: >out
		not_ok "$name"
	fi
	(ulimit -v 100000; exec "$xbzrle" inspect --json - \
		< <(cat rounds.bin rounds rounds rounds rounds)) >out 2>err
	status=$?
	[ $status = 0 ] || : >out
	if [ $status = 1 ] || [ "$(grep -o '"bytes": 8,' out | wc -l)" = 1310720 ]; then
		ok "inspect tells that it has no memory"
	else
		not_ok "inspect tells that it has no memory"
	fi
	{
		cat rounds.bin
		for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
			cat rounds
		done
	} 2>/dev/null | "$xbzrle" inspect - >/dev/null 2>err
	status=${PIPESTATUS[1]}
	: >out
	expect 1 'more than 4194304 rounds.*look at the beginning' \
		"inspect counts no more rounds than it has memory for"
}

# is_ascii JSON NAME: has it U+009B, but not as such?
is_ascii() {
	if [ "$status" -eq 0 ] && ! LC_ALL=C grep -q '[^ -~]' "$1" &&
	   jq -e '.regions[0].name == "he\u009b"' "$1" >/dev/null; then
		ok "$2"
	else
		not_ok "$2"
	fi
}

inspects() {
	"$sample" raw >raw.bin
	run "$xbzrle" inspect --json raw.bin
	if jq -e '.framed == false and (.rounds | length) == 2 and
	    .rounds[0].page.records == 12 and .rounds[1].delta.records == 1 and
	    .rounds[1].zero.records == 1 and
	    .equal_runs == [{"from":4,"to":7,"count":1}] and
	    .new_runs == [{"from":1,"to":1,"count":1}] and
	    .bytes == ([.rounds[].bytes] | add) + .setup_bytes' out >/dev/null
	then
		ok "inspect counts a raw stream"
	else
		not_ok "inspect counts a raw stream"
	fi
	run "$xbzrle" inspect - <good.bin
	expect 0 'round 2: .* zero 1, page 0 (0 bytes), delta 1' \
		"inspect reads frames"
	{ sleep 0.3; cat good.bin; } |
		"$sample" nonblock "$xbzrle" inspect - >out 2>err
	status=${PIPESTATUS[1]}
	expect 0 'round 2: .* delta 1' "inspect reads what does not block"
	"$sample" beyond >beyond.bin
	run "$xbzrle" inspect beyond.bin
	expect 1 'a frame follows the end' "inspect tells what is behind the end"
	"$sample" disliked >disliked.bin
	run "$xbzrle" inspect disliked.bin
	expect 0 'round 2: ' "but for the reason of a sender that has failed"
	"$sample" halfround >half.bin
	run "$xbzrle" inspect half.bin
	expect 1 'cut short inside a round' "inspect tells a cut before an end"
	many_rounds
	head -c 5000 raw.bin >cut.bin
	run "$xbzrle" inspect cut.bin
	expect 1 'cut short' "inspect tells a cut"
	run "$xbzrle" inspect cut.bin
	expect 1 'round 1 (incomplete)' "inspect shows what there is of it"
	sed 's/heap/he\x1bp/g' raw.bin >steer.bin
	run "$xbzrle" inspect steer.bin
	expect 0 "region 'he?p'" "inspect prints nothing that steers a terminal"
	sed 's/heap/he\xc2\x9b/g' raw.bin >steer.bin
	run "$xbzrle" inspect steer.bin
	expect 0 "region 'he?'" "nor by what is two bytes long"
	run "$xbzrle" inspect --json steer.bin
	is_ascii out "nor as JSON"
	"$sample" steers >steer.bin
	run "$xbzrle" recv --json --output steer file:steer.bin
	is_ascii out "nor does recv --json"
	is_ascii steer/manifest.json "a manifest has nothing that steers one"
	sed 's/heap/he\xffp/g' raw.bin >latin.bin
	run "$xbzrle" inspect --json latin.bin
	if jq -e '.regions[0].name == "he?p"' out >/dev/null; then
		ok "inspect has regions whose names are not UTF-8 in its JSON"
	else
		not_ok "inspect has regions whose names are not UTF-8 in its JSON"
	fi
	status=0
	"$xbzrle" inspect raw.bin >/dev/full 2>err || status=$?
	expect 1 'cannot write: No space left' \
		"inspect tells that its words are lost"
	run "$xbzrle" inspect absent
	expect 1 'cannot open absent' "inspect tells that there is no file"
}

signals() {
	local pid

	(
		trap '' HUP
		exec "$xbzrle" recv --output hup unix:hup.sock
	) >out 2>err &
	pid=$!
	until [ -S hup.sock ] || ! kill -0 $pid 2>/dev/null; do
		sleep 0.05
	done
	kill -HUP $pid
	sleep 0.2
	kill -USR1 $pid
	wait $pid
	status=$?
	expect 1 'ended by User defined signal 1' \
		"a signal ends it by its error paths, and no hangup that was ignored"

	"$xbzrle" recv --output real unix:real.sock >out 2>err &
	pid=$!
	until [ -S real.sock ] || ! kill -0 $pid 2>/dev/null; do
		sleep 0.05
	done
	kill -RTMIN+2 $pid
	wait $pid
	status=$?
	expect 1 'ended by Real-time signal 2' "so does one of real time"
	run "$xbzrle" recv --output realcommand "exec:$sample good; kill -36 \$\$"
	expect 1 'died of Real-time signal 2' "a command that died of one is told"

	run env --ignore-signal=CHLD "$xbzrle" recv --output deaf \
		"exec:$sample good"
	arrived deaf "recv exec: of a parent that wants to be told of no child"
	env --block-signal "$xbzrle" recv --output block unix:block.sock \
		>out 2>err &
	pid=$!
	until [ -S block.sock ] || ! kill -0 $pid 2>/dev/null; do
		sleep 0.05
	done
	kill -TERM $pid
	for _ in {1..100}; do
		kill -0 $pid 2>/dev/null || break
		sleep 0.05
	done
	kill -KILL $pid 2>/dev/null
	wait $pid
	status=$?
	expect 1 'ended by Terminated' "a signal that its parent had blocked"

	(
		ulimit -f 8
		exec "$xbzrle" recv --output large file:good.bin
	) >out 2>err
	status=$?
	expect 1 'File too large' "a file that may not be as large is told"
}

usage() {
	local words

	while read -r words; do
		# shellcheck disable=SC2086 # words they are
		run "$xbzrle" $words
		expect 2 . "wrong use: xbzrle $words"
	done <<-'WORDS'

		frobnicate
		send
		send --pid 1
		send file:x
		send --pid 0 file:x
		send --pid x file:x
		send --pid 1 nowhere
		send --pid 1 --then dance file:x
		send --pid 1 --tracker pte file:x
		send --pid 1 --cache 1Q file:x
		send --pid 1 --max-rounds 0 file:x
		send --pid 1 --bandwidth 0 file:x
		send --pid 1 --map 1001-2000 file:x
		send --pid 1 file:x file:y
		recv
		recv file:good.bin
		recv --output x
		recv --output x nowhere
		recv --output x tcp:1
		recv --output x tcp:127.0.0.1:65536
		recv --output x tcp:::1:5
		recv --output x fd:x
		send --pid 1 --consistent --then stop file:x
		send --pid 1 --consistent --then kill file:x
		send --pid 1 --freezer x file:x
		snapshot
		snapshot --pid 1
		snapshot --output x
		snapshot --pid 1 --output x y
		snapshot --pid 1 --output x --every 0
		snapshot --pid 1 --output x --every 1y
		snapshot --pid 1 --output x --every -1s
		snapshot --pid 1 --output x --count 0
		snapshot --session 3 --output x
		snapshot --session x --pid 1 --output x
		snapshot --session 3 --pid 1 --map heap --output x
		restore x
		restore --output x
		restore --output x x@0
		restore --output x x@99999999999999999999
		verify
		verify x@1
		verify x y
		fold x
		fold
		inspect
		inspect a b
		info extra
	WORDS
	run "$xbzrle" --help
	expect 0 'send' "help"
	run "$xbzrle" --version
	expect 0 "^xbzrle [0-9]*\.[0-9]*\.[0-9]*\$" "the version"
	status=0
	"$xbzrle" --help >/dev/full 2>err || status=$?
	expect 1 'cannot write: No space left' "help that is lost is told"
	for words in send recv snapshot restore verify fold inspect info; do
		status=0
		"$xbzrle" $words --help >/dev/full 2>err || status=$?
		expect 1 'cannot write: No space left' \
			"help that is lost is told: $words"
	done
	# Its reads must be of whole entries, or EINVAL is what they say.
	run "$xbzrle" recv --output einval file:/proc/self/pagemap
	expect 1 'Invalid argument' "an invalid argument of a call is no wrong use"
	if [ ! -e /dev/xbzrle ]; then
		run "$xbzrle" info
		expect 1 'is the module loaded' "info tells that there is no module"
		run "$xbzrle" send --pid $$ file:x
		expect 1 'is the module loaded' "send tells that there is no module"
		run "$xbzrle" snapshot --pid $$ --output chain
		expect 1 'is the module loaded' \
			"snapshot tells that there is no module"
		run "$xbzrle" verify chain
		expect 0 '0 of 0 rounds' "a chain of no rounds"
	fi
	run "$xbzrle" snapshot --session 97 --pid $$ --output chain
	expect 1 'fd 97: Bad file' "snapshot tells that there is no such session"
	run "$xbzrle" snapshot --pid $$ --freezer . --output chain
	expect 2 'not a control group' "a freezer that is none is told"
	run "$xbzrle" verify absent
	expect 1 'cannot open absent' "verify tells that there is no chain"
	run "$xbzrle" snapshot --pid 2147483647 --output chain
	expect 1 'No such process' "snapshot tells that there is no process"
	run "$xbzrle" send --pid 2147483647 file:x
	expect 1 'No such process' "send tells that there is no process"
}

endpoints
closed
bad_streams
files
inspects
signals
usage
echo "1..$count"
exit $failed

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# strace -f shows each call under the thread id of the worker that makes it.

# shellcheck source=tap_lib.sh
. "$(dirname "$0")/tap_lib.sh"

command -v strace >/dev/null || skip "strace is not installed"
echo "TAP version 13"

workers=6
rounds=5	# as the program has it

# begun FILE NAME: how many calls of that name have begun
begun() {
	grep -cE "^[0-9]+ +$2\\(" "$1"
}

# mismatched FILE: marked calls of a thread other than the mark says
mismatched() {
	awk '/(write|read)\([0-9]+, "by [0-9]+\./ || /<\.\.\. read resumed>"by [0-9]+\./ {
		match($0, /"by [0-9]+/)
		if (substr($0, RSTART + 4, RLENGTH - 4) != $1) print
	}' "$1"
}

# --- from the beginning

timeout -k 5 400 strace -f -o "$tmp/trace" ./debuggee calls $workers >"$tmp/out" 2>&1
same "the program ends well" $? 0
same "its counts are right" "$(cat "$tmp/out")" \
	"$workers workers have made $rounds marked calls each"
# Two writes each round, one of which is read again.
same "every marked call is there" \
	"$(grep -cE '^[0-9]+ +write\([0-9]+, "by [0-9]+\.' "$tmp/trace")" $((2 * workers * rounds))
same "and what was read" \
	"$(grep -cE '^[0-9]+ +(read\([0-9]+, |<\.\.\. read resumed>)"by [0-9]+\.' "$tmp/trace")" \
	$((workers * rounds))
same "each by the worker itself" "$(mismatched "$tmp/trace")" ""
same "of so many threads" \
	"$(sed -nE 's/^([0-9]+) +write\([0-9]+, "by .*/\1/p' "$tmp/trace" | sort -u |
		wc -l)" $workers

# The calls that strace does not know, by their numbers.
same "ums_create" "$(begun "$tmp/trace" syscall_0x224)" 1
same "ums_worker_enter" "$(begun "$tmp/trace" syscall_0x225)" $workers
same "ums_scheduler_enter" "$(begun "$tmp/trace" syscall_0x227)" 2
same "ums_yield" "$(begun "$tmp/trace" syscall_0x22a)" $((workers * rounds))
# One for each worker's start, one for each yield, and those for blocks.
at_least "ums_execute" "$(begun "$tmp/trace" syscall_0x229)" $((workers * (1 + 2 * rounds)))
same "all exit with 0" "$(grep -c '+++ exited with 0 +++' "$tmp/trace")" $((workers + 3))
if [ "$tap_failed" != 0 ]; then sed 's/^/# /' "$tmp/trace" "$tmp/out"; fi

# --- with switches in user mode

timeout -k 5 400 strace -f -o "$tmp/trace3" ./debuggee switches $workers >"$tmp/out" 2>&1
same "a program that switches in user mode ends well" $? 0
same "its counts are right" "$(cat "$tmp/out")" \
	"$workers workers have made $rounds marked calls each"
same "every call is there, once" \
	"$(grep -cE '^[0-9]+ +write\([0-9]+, "by [0-9]+\.' "$tmp/trace3")" $((workers * rounds))
same "each by the worker itself" "$(mismatched "$tmp/trace3")" ""
same "of so many threads" \
	"$(sed -nE 's/^([0-9]+) +write\([0-9]+, "by .*/\1/p' "$tmp/trace3" | sort -u |
		wc -l)" $workers
same "no yield through the kernel" "$(begun "$tmp/trace3" syscall_0x22a)" 0
same "all exit with 0" "$(grep -c '+++ exited with 0 +++' "$tmp/trace3")" $((workers + 1))
if [ "$tap_failed" != 0 ]; then sed 's/^/# /' "$tmp/trace3" "$tmp/out"; fi

# --- in the midst

ok "another program starts" start_debuggee
timeout -k 5 400 strace -f -o "$tmp/trace2" -p "$pid" 2>"$tmp/err" &
strace=$!
# Until it has seen calls of both workers that make some, and of the schedulers.
enough() {
	for t in $(tids_of worker_ticks); do
		grep -qE "^$t +.*syscall_0x22a" "$tmp/trace2" || return 1
	done
	for t in $(tids_of scheduler_busy); do
		grep -qE "^$t +.*syscall_0x229" "$tmp/trace2" || return 1
	done
}
for _ in $(seq 900); do
	if [ -e "$tmp/trace2" ] && enough; then break; fi
	sleep 0.1
done
ok "attached, it sees workers and schedulers" enough
kill -INT "$strace"
wait "$strace"
same "it detaches" "$(grep -c 'detached$' "$tmp/err")" "$(wc -l <"$tmp/ready")"
same "no call of a worker's by somebody else" "$(
	for t in $(tids_of scheduler_busy); do
		grep -E "^$t +.*(syscall_0x22a|nanosleep)" "$tmp/trace2"
	done
	for t in $(tids_of worker_ticks); do
		grep -E "^$t +.*syscall_0x229" "$tmp/trace2"
	done
)" ""
end_debuggee
same "the program ends well" $? 0
ok "and its counts are right" grep -q '^ticks ' "$tmp/debuggee.out"
show "$tmp/debuggee.out"
if [ "$tap_failed" != 0 ]; then head -n 300 "$tmp/trace2" | sed 's/^/# /'; fi

finish

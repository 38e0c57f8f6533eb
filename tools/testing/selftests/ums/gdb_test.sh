#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# gdb attaches to a process with workers in every state, shows where each is, sets
# breakpoints and watchpoints, steps, calls, and detaches: the process goes on as
# if nothing had been.

# shellcheck source=tap_lib.sh
. "$(dirname "$0")/tap_lib.sh"

command -v gdb >/dev/null || skip "gdb is not installed"
echo "TAP version 13"

# All in one gdb, which takes most of its time to start. What it prints in a
# section goes to the file of that name.
args=()
section() { # NAME COMMAND...
	local name=$1

	shift
	args+=(-ex "echo \\n== $name\\n")
	for c; do args+=(-ex "$c"); done
}

# "TID FUNCTION" for each frame of each backtrace
frames() {
	awk '/^Thread [0-9]+ \(/ {
			match($0, /LWP [0-9]+/)
			t = substr($0, RSTART + 4, RLENGTH - 4)
		}
		/^#[0-9]+ / { f = ($2 ~ /^0x/) ? $4 : $2; print t, f }' "$1"
}

# current FILE: the tids that the command "thread" has named, in order
current() {
	sed -n 's/^\[Current thread is .*(LWP \([0-9]*\)).*/\1/p' "$1"
}

# all_of FILE FUNCTION: are the current threads, at least one, all the function's?
# shellcheck disable=SC2317 # called by ok
all_of() {
	local t

	[ -n "$(current "$1")" ] || return 1
	for t in $(current "$1"); do
		tids_of "$2" | grep -qx "$t" || return 1
	done
}

value_of() { # FILE NAME: what a printf "NAME %ld" has said last
	sed -n "s/^$2 //p" "$1" | tail -n 1
}

times() { # N COMMAND...: them, N times; in $repeated
	local n=$1

	shift
	repeated=()
	for ((; n > 0; n--)); do repeated+=("$@"); done
}

ok "the program starts" start_debuggee
attach=("attach $pid")

section bt "${attach[@]}" 'printf "TICKS %ld\n", ticks_done' 'thread apply all bt' \
	'printf "TICKS-AGAIN %ld\n", ticks_done'
times 6 'continue' 'thread' 'bt 3'
section break 'break tick' "${repeated[@]}" 'printf "TICKS %ld\n", ticks_done'
# One instruction at a time; nothing else is to stop meanwhile.
times 8 'stepi' 'printf "PC %lx\n", $pc' 'info symbol $pc' 'thread'
section stepi 'delete' 'printf "PC %lx\n", $pc' 'thread' "${repeated[@]}"
section step 'break tick' 'continue' 'thread' 'delete' 'step' 'frame' 'thread' \
	'finish' 'frame' 'thread' 'next' 'frame' 'thread' 'finish' 'frame' 'thread'
section call 'break tick' 'continue' 'thread' 'delete' 'print adds(40, 2)' \
	'print adds(-1, 0)' 'thread' 'watch watched' 'continue' 'thread' 'continue' 'thread' \
	'delete' 'set var set_by_debugger = 5' 'detach'
# Schedulers, between two executions.
section sched 'shell sleep 0.2' "${attach[@]}" 'break list_pop' 'continue' 'thread' \
	'continue' 'thread' 'delete' 'detach'
times 5 'shell sleep 0.05' "${attach[@]}" 'printf "TICKS %ld\n", ticks_done' 'detach'
section again "${repeated[@]}"
section run 'break worker_calls' 'run calls 4' 'continue' 'continue' 'delete' 'continue'
times 8 'printf "HIT %d\n", w->tid' 'thread' 'bt 2' 'continue'
section switches 'break worker_writes' 'run switches 3' "${repeated[@]}" 'delete' 'continue'

# A thread that is never let go on shows by the time limit.
timeout -k 5 500 gdb -nx -batch -iex 'set debug-file-directory /nonexistent' \
	-iex 'set debuginfod enabled off' -iex 'set pagination off' "${args[@]}" ./debuggee \
	>"$tmp/all" 2>&1 </dev/null
same "gdb does all that it is told to" $? 0
for name in bt break stepi step call sched again run switches; do : >"$tmp/$name"; done
awk -v dir="$tmp" '/^== / { f = dir "/" $2; next } f { print >f }' "$tmp/all"

# --- where everybody is

frames "$tmp/bt" | sort -u >"$tmp/frames"
while read -r name tid; do
	# Schedulers that execute somebody are in the middle of an assembler
	# function, from which gdb does not find its way.
	case $name in
	scheduler_busy) continue ;;
	scheduler_region) name=sched_call ;;
	esac
	ok "backtrace of $name" grep -qx "$tid $name" "$tmp/frames"
done <"$tmp/ready"
same "as many threads as there are" \
	"$(grep -c '^Thread [0-9]* (' "$tmp/bt")" "$(wc -l <"$tmp/ready")"
same "nobody runs meanwhile" "$(value_of "$tmp/bt" TICKS)" "$(value_of "$tmp/bt" TICKS-AGAIN)"
show "$tmp/bt"

# --- breakpoints in workers

same "six hits of a breakpoint" "$(grep -c 'hit Breakpoint 1, tick' "$tmp/break")" 6
ok "in workers" all_of "$tmp/break" worker_ticks
same "called by the worker's function" "$(grep -c '^#1 .* worker_ticks ' "$tmp/break")" 6
# Six have begun, and two of these have not ended.
at_least "the program has gone on since" "$(value_of "$tmp/break" TICKS)" \
	$(($(value_of "$tmp/bt" TICKS) + 4))
show "$tmp/break"

# --- steps

same "eight steps of an instruction in the one thread" \
	"$(current "$tmp/stepi" | uniq -c | awk '{ print $1 }')" 9
same "each to another one" "$(grep '^PC ' "$tmp/stepi" | uniq | wc -l)" 9
ok "into the function that is called" grep -q '^adds in section' "$tmp/stepi"
same "and nowhere else" "$(grep -c '^\(tick\|adds\)\( + [0-9]*\)\? in section' "$tmp/stepi")" 8
show "$tmp/stepi"

same "steps of a line in the one thread" \
	"$(current "$tmp/step" | uniq -c | awk '{ print $1 }')" 5
# Behind the line of "frame", "finish" and "step" say where they have come to, too.
same "into a function, back, on, and back" \
	"$(sed -n 's/^#0  \(0x[0-9a-f]* in \)\?\([a-z_]*\) .*/\2/p' "$tmp/step" |
		uniq | tr '\n' ' ')" \
	"adds tick worker_ticks "
show "$tmp/step"

# --- calls, watchpoints

ok "a call in a worker" grep -q ' = 42$' "$tmp/call"
ok "another" grep -q ' = -1$' "$tmp/call"
same "two hits of a watchpoint" "$(grep -c '^New value = ' "$tmp/call")" 2
ok "all in workers" all_of "$tmp/call" worker_ticks
show "$tmp/call"

# --- schedulers, and many times

same "two hits of a breakpoint in schedulers" \
	"$(grep -c 'hit Breakpoint [0-9.]*, list_pop' "$tmp/sched")" 2
ok "in schedulers" all_of "$tmp/sched" "scheduler_.*"
show "$tmp/sched"

same "attached and detached five times" "$(grep -c 'detached\]$' "$tmp/again")" 5
same "each time it has gone on" "$(grep '^TICKS' "$tmp/again" | sort -u | wc -l)" 5
show "$tmp/again"

end_debuggee
same "the program ends well" $? 0
ok "and its counts are right" grep -q '^ticks [0-9]*, set by the debugger: 5$' "$tmp/debuggee.out"
sed 's/^/# /' "$tmp/debuggee.out"

# --- from the beginning

same "a program started by gdb: three hits" \
	"$(grep -c 'hit Breakpoint [0-9.]*, worker_calls' "$tmp/run")" 3
ok "it ends well" grep -q 'exited normally' "$tmp/run"
ok "and its counts are right" grep -q '^4 workers have made 5 marked calls each$' "$tmp/run"
show "$tmp/run"

# --- a program that switches in user mode

same "nine hits of a breakpoint" \
	"$(grep -c 'hit Breakpoint [0-9.]*, worker_writes' "$tmp/switches")" 9
same "each in the thread of the worker" "$(current "$tmp/switches")" \
	"$(sed -n 's/^HIT //p' "$tmp/switches")"
same "of so many threads" "$(current "$tmp/switches" | sort -u | wc -l)" 3
same "called by the worker's function" "$(grep -c '^#1 .* worker_switches ' "$tmp/switches")" 8
ok "it ends well" grep -q 'exited normally' "$tmp/switches"
ok "and its counts are right" grep -q '^3 workers have made 5 marked calls each$' \
	"$tmp/switches"
show "$tmp/switches"

finish

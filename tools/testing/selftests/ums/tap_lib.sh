# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# For gdb_test.sh and strace_test.sh: results in TAP, a folder for the time of the
# test, and the program that is looked at.

cd "$(dirname "$0")" || exit 1
tap_n=0
tap_failed=0
tmp=$(mktemp -d /tmp/ums-debug-XXXXXX) || exit 1
pid=

# Ends only what this test has started.
cleanup() {
	[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null
	rm -rf "$tmp"
}
trap cleanup EXIT

# skip REASON: the whole test, unless the environment says that it must run
skip() {
	if [ -n "${UMS_REQUIRED:-}" ]; then
		echo "not ok 1 $1, and UMS_REQUIRED is set"
		exit 1
	fi
	echo "1..0 # SKIP $1"
	exit 4
}

# ok NAME COMMAND...: is the command's status 0?
ok() {
	local name=$1

	shift
	tap_n=$((tap_n + 1))
	if "$@"; then
		echo "ok $tap_n $name"
	else
		echo "not ok $tap_n $name"
		tap_failed=1
	fi
}

# same NAME GOT WANT
same() {
	ok "$1" [ "$2" = "$3" ]
	[ "$2" = "$3" ] || printf '# got:  %s\n# want: %s\n' "$2" "$3"
}

# at_least NAME GOT WANT
at_least() {
	ok "$1" [ "${2:-0}" -ge "$3" ]
	[ "${2:-0}" -ge "$3" ] || echo "# got $2, want at least $3"
}

# show FILE: for who has to find out why, if something has failed
show() {
	[ "$tap_failed" = 0 ] || sed "s|^|# ${1##*/}: |" "$1"
}

# start_debuggee: its pid in $pid, and $tmp/ready
start_debuggee() {
	rm -f "$tmp/ready" "$tmp/end"
	./debuggee rest "$tmp" >"$tmp/debuggee.out" 2>&1 &
	pid=$!
	while [ ! -e "$tmp/ready" ]; do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.05
	done
	[ -e "$tmp/ready" ]
}

# end_debuggee: returns its status
end_debuggee() {
	local status

	touch "$tmp/end"
	wait "$pid"
	status=$?
	pid=
	return $status
}

# tids_of PATTERN: of the threads that the program has named so, one a line
tids_of() {
	sed -n "s/^$1 \([0-9]*\)$/\1/p" "$tmp/ready"
}

finish() {
	echo "1..$tap_n"
	exit "$tap_failed"
}

./debuggee probe
[ $? != 4 ] || skip "no UMS in this kernel"

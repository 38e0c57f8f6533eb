# shellcheck shell=bash
# For the tests in this folder: KTAP on stdout. Source it, then: plan N; check NAME COMMAND...
# shellcheck disable=SC2034
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
test_n=0 test_failed=0 test_plan=0

plan() {
	test_plan=$1
	echo "KTAP version 1"
	echo "1..$1"
}
pass() {
	test_n=$((test_n + 1))
	echo "ok $test_n $1"
}
flunk() {
	test_n=$((test_n + 1))
	test_failed=1
	echo "not ok $test_n $1"
	printf '%s\n' "${2:-}" | sed 's/^/# /'
}
# is NAME GOT WANTED
is() {
	if [ "$2" = "$3" ]; then pass "$1"; else flunk "$1" "got '$2', wanted '$3'"; fi
}
# matches NAME TEXT REGEX
matches() {
	if [[ $2 =~ $3 ]]; then pass "$1"; else flunk "$1" "no match for '$3' in: $2"; fi
}
finish() {
	[ "$test_n" = "$test_plan" ] || {
		echo "# $test_n of $test_plan tests ran"
		exit 1
	}
	exit "$test_failed"
}

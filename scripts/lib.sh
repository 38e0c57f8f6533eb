# shellcheck shell=bash
# Shared by the scripts in this folder; source it, do not run it.
# shellcheck disable=SC2034

ums_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ums_name=${0##*/}
# Everything that is expensive and can be shared by clones lives outside of them.
ums_cache=${UMS_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ums-linux}
# Not all that is started here runs in this folder.
case $ums_cache in /*) ;; *) ums_cache=$PWD/$ums_cache ;; esac
if [ -n "${UMS_CACHE:-}" ]; then export UMS_CACHE=$ums_cache; fi

# A caller's make flags (-j, -n, variables) are not meant for the makes started here, and
# sorting, dates and messages must not depend on the caller's language.
unset MAKEFLAGS MFLAGS MAKELEVEL
export LC_ALL=C.UTF-8

say() { printf '%s\n' "$*" >&2; }
step() { printf '==> %s\n' "$*" >&2; }
die() {
	printf '%s: %s\n' "$ums_name" "$*" >&2
	exit 1
}
# Exit status 2: used wrongly, or the machine lacks what this needs.
die2() {
	printf '%s: %s\n' "$ums_name" "$*" >&2
	exit 2
}

case ${UMS_ACCEL:-} in '' | tcg | kvm) ;; *) die2 "UMS_ACCEL is tcg or kvm, not '$UMS_ACCEL'" ;; esac

# kernel_is_cached FLAVOUR: need it not be built?
kernel_is_cached() { [ -f "$ums_cache/kernels/$("$ums_root/scripts/kernel" "--$1" --key)/complete" ]; }

# as_root COMMAND...: run it as root; fails when there is no way to.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		return 1
	fi
}

# with_progress LABEL LOG COUNTER COMMAND...: run COMMAND with its output in LOG and say every
# ten seconds how far it is. COUNTER is a shell command that prints the progress, or empty.
# When COMMAND fails, the first errors in LOG and its end are shown, unless quiet_failure=1.
with_progress() {
	local label=$1 log=$2 counter=$3 pid rc=0 start=$SECONDS ticks=0
	shift 3
	mkdir -p "$(dirname "$log")"
	# In a process group of its own, so that all of it can be ended.
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	# shellcheck disable=SC2064
	trap "kill -- -$pid 2>/dev/null; exit 130" INT TERM HUP
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		ticks=$((ticks + 1))
		if [ $((ticks % 50)) = 0 ]; then
			say "    $label: $((SECONDS - start)) s${counter:+, $(eval "$counter")}"
		fi
	done
	wait "$pid" || rc=$?
	trap - INT TERM HUP
	if [ "$rc" != 0 ] && [ "${quiet_failure:-0}" = 0 ]; then
		say "$ums_name: $label failed; the first errors and the last 30 lines of $log:"
		# Of several compilers at work, the others go on for a while.
		grep -E -m 5 -A 4 'error: |undefined reference' "$log" >&2 || true
		tail -n 30 "$log" >&2
	fi
	return "$rc"
}

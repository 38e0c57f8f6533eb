# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# For the scripts here. Sets $src (userspace/), $build (a finished build of it) and $tmp (a folder that goes away).
set -eu

src=$(cd "$(dirname "$0")/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

fail() {
	echo "FAILED: $*" >&2
	exit 1
}

# Runs a command; shows what it printed only if it failed.
logged() { # MESSAGE COMMAND...
	message=$1
	shift
	"$@" >"$tmp/log" 2>&1 || { cat "$tmp/log"; fail "$message"; }
}

# UMS_BUILD_DIR says where the library was built; otherwise the repository's build folder, or a build just for this.
build=${UMS_BUILD_DIR:-$src/../build/userspace}
if ! [ -e "$build/libums.so" ]; then
	build=$tmp/build
	logged "the library cannot be configured" cmake -S "$src" -B "$build" -DUMS_BUILD_TESTS=OFF -DUMS_BUILD_EXAMPLES=OFF
	logged "the library does not build" cmake --build "$build" -j2
fi

// SPDX-License-Identifier: MIT
//
// The shortest system call. One program for the unpatched and the patched
// kernel: the row's name is its argument.

#include "bench.hpp"
#include "syscall.hpp"

int main(int argc, char **argv)
{
	bench::begin();
	double cost = bench::measure(500, 1, [] { bench::syscall(SYS_getppid); });
	bench::print(argc > 1 ? argv[1] : "getppid_plain", cost, 500);
}

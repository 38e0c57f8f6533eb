// SPDX-License-Identifier: MIT
//
// The shortest system call, from a worker on its own thread.

#include "ums_raw.hpp"

int main()
{
	bench::begin();
	double cost = 0;
	bench::ums::run([&] { cost = bench::measure(500, 1, [] { bench::syscall(SYS_getppid); }); });
	bench::print("getppid_worker", cost, 500);
}

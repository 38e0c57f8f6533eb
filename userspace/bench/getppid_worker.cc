// SPDX-License-Identifier: MIT
//
// The shortest system call, from a worker on its own thread that may be switched in user mode.

#include "ums_raw.hpp"

int main()
{
	bench::begin();
	bench::ums::user_switch = UMS_WORKER_USER_SWITCH;
	double cost = 0;
	bench::ums::run([&] { cost = bench::measure(500, 1, [] { bench::syscall(SYS_getppid); }); });
	bench::print("getppid_worker", cost, 500);
}

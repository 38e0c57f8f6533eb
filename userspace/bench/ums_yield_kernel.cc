// SPDX-License-Identifier: MIT
//
// A worker yields by system call, the scheduler picks the next from its queue
// and executes it: per yield.

#include "ums_raw.hpp"

int main()
{
	bench::ums::pair("ums_yield_kernel", 25, bench::ums::yield, bench::ums::yield);
}

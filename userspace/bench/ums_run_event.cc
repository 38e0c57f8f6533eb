// SPDX-License-Identifier: MIT
//
// Two workers yield in turn to a scheduler of one's own: yield, scheduler::run() returns, run() of the other one.

#include "ums_lib.hpp"

int main()
{
	bench::begin();
	bench::lib::two_workers("ums_run_event", 500, [](const auto &) { ums::this_worker::yield(); });
}

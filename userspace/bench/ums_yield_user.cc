// SPDX-License-Identifier: MIT
//
// Two workers of a run_loop yield in turn.

#include "ums_lib.hpp"

int main()
{
	bench::begin();
	bench::lib::loop_pair("ums_yield_user", 500, 2, [] { ums::this_worker::yield(); },
			      [] { ums::this_worker::yield(); });
}

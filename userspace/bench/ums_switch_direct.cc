// SPDX-License-Identifier: MIT
//
// Two workers switch to each other, by this_worker::switch_to().

#include "ums_lib.hpp"

int main()
{
	bench::begin();
	bench::lib::two_workers(
		"ums_switch_direct", 500, [](const ums::this_worker::switch_target &other) {
			ums::this_worker::switch_to(other);
		});
}

// SPDX-License-Identifier: MIT
//
// Two workers of a run_loop by two unbuffered channels, as go_channel does: a value there, a value back.

#include "ums_lib.hpp"

int main()
{
	bench::begin();
	ums::channel<int> there, back;
	bench::lib::loop_pair(
		"ums_channel", 100, 2,
		[&] {
			there.send(1);
			back.receive();
		},
		[&] {
			there.receive();
			back.send(1);
		});
}

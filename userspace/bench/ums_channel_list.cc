// SPDX-License-Identifier: MIT
//
// As ums_channel, under a scheduler of one's own that is the only one of its list: each wait is an event for it, and the
// worker comes back on the list.

#include "ums_lib.hpp"

int main()
{
	bench::begin();
	bench::lib::require_user_switch();
	ums::completion_list list(2);
	ums::scheduler me({.user_switch = true, .list = &list});
	const ums::worker::options may_switch{.user_switch = true};
	ums::channel<int> there, back;
	bool stop = false;
	double value = 0;

	ums::worker answers(list, may_switch, [&] {
		while (!stop) {
			there.receive();
			back.send(1);
		}
	});
	ums::worker measures(list, may_switch, [&] {
		const auto round_trip = [&] {
			there.send(1);
			back.receive();
		};
		value = bench::measure(100, 2, round_trip);
		stop = true;
		round_trip();
	});
	for (int ended = 0; ended < 2;)
		ended += me.run(list.pop()).is_last();
	bench::print("ums_channel_list", value, 200);
}

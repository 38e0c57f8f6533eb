// SPDX-License-Identifier: MIT
//
// Two workers of the library that go on with each other. A scheduler that cannot switch in user mode is no
// measurement: then it fails.
#pragma once

#include "bench.hpp"

#include <optional>

#include <ums/ums.hpp>

namespace bench::lib {

inline void require_user_switch()
{
	if (!ums::probe().has(UMS_FEATURE_USER_SWITCH)) {
		std::fprintf(stderr, "bench: this machine cannot switch in user mode\n");
		std::exit(1);
	}
}

// Under a scheduler of one's own, which runs them in turn: change(target) is one switch, for each of them. @switches in
// a window.
template <class Change> void two_workers(const char *name, unsigned switches, Change change)
{
	require_user_switch();
	ums::completion_list list(2);
	ums::scheduler me({.user_switch = true});
	bool stop = false, over = false;
	ums::worker_id ids[2];
	double value = 0;
	const ums::worker::options may_switch{.user_switch = true};

	ums::worker answers(list, may_switch, [&] {
		ums::this_worker::yield();
		const ums::this_worker::switch_target other(ids[1]);
		// As seldom as may be, to measure the switch and not this loop.
		while (!stop)
			for (int i = 0; i < 4; i++) {
				change(other);
				change(other);
				change(other);
				change(other);
			}
		over = true;
	});
	ids[0] = list.pop();
	me.run(ids[0]);

	ums::worker measures(list, may_switch, [&] {
		const ums::this_worker::switch_target other(ids[0]);
		value = measure(switches / 2, 2, [&] { change(other); });
		stop = true;
		while (!over)
			change(other);
	});
	ids[1] = list.pop();

	// In turn, as long as they yield; whoever has been stopped comes back on the list.
	ums::event event;
	do {
		event = me.run(ids[1]);
		if (event.reason == ums::reason::yielded)
			event = me.run(ids[0]);
	} while (event.reason == ums::reason::yielded);
	for (unsigned ended = event.is_last(); ended < 2; ended += event.is_last()) {
		const bool comes_back = event.reason != ums::reason::yielded && !event.is_last();
		event = me.run(comes_back ? list.pop() : ids[event.worker == ids[0]]);
	}
	print(name, value, switches);
}

// In a run_loop with one scheduler: there() and back() are halves of a round trip, which has @switches of them.
template <class There, class Back>
void loop_pair(const char *name, unsigned round_trips, unsigned switches, There there, Back back)
{
	require_user_switch();
	ums::run_loop loop({.schedulers = 1, .user_switch = true});
	double value = 0;
	bool stop = false;
	loop.spawn([&] {
		while (!stop)
			back();
	});
	loop.spawn([&] {
		value = measure(round_trips, switches, [&] { there(); });
		stop = true;
		there();
	});
	loop.run();
	print(name, value, round_trips * switches);
}

} // namespace bench::lib

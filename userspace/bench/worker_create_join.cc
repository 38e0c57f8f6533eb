// SPDX-License-Identifier: MIT
//
// The life of a worker of a run_loop that does nothing: spawned by another one, which waits for its end. In the steady
// state, in which the thread of an ended worker is there for the next.

#include "ums_lib.hpp"

int main()
{
	bench::begin();
	bench::lib::require_user_switch();
	ums::run_loop loop({.schedulers = 1, .user_switch = true});
	double value = 0;
	loop.spawn([&] {
		value = bench::measure(100, 1, [&] {
			ums::latch ended(1);
			loop.spawn([&] { ended.count_down(); });
			ended.wait();
		});
	});
	loop.run();
	bench::print("worker_create_join", value, 100);
}

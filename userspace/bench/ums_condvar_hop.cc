// SPDX-License-Identifier: MIT
//
// As condvar_hop: two workers of a run_loop take turns by a mutex and a condition variable each; and again with a
// timeout.

#include "ums_lib.hpp"

int main()
{
	bench::begin();
	ums::mutex lock;
	ums::condition_variable changed[2];
	int turn = 0;
	// Called by @me: wait until it is its turn, then make it the other's.
	const auto take_turn = [&](int me, auto wait) {
		std::unique_lock l(lock);
		while (turn != me)
			wait(changed[me], l);
		turn = 1 - me;
		changed[1 - me].notify_one();
	};
	const auto measure = [&](const char *name, auto wait) {
		bench::lib::loop_pair(name, 100, 2, [&] { take_turn(0, wait); }, [&] { take_turn(1, wait); });
	};
	measure("ums_condvar_hop", [](auto &condition, auto &l) { condition.wait(l); });
	measure("ums_condvar_hop_timed",
		[](auto &condition, auto &l) { condition.wait_for(l, std::chrono::seconds(1)); });
}

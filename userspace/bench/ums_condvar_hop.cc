// SPDX-License-Identifier: MIT
//
// As condvar_hop: two workers of a run_loop take turns by a mutex and a condition variable each.

#include "ums_lib.hpp"

int main()
{
	bench::begin();
	ums::mutex lock;
	ums::condition_variable changed[2];
	int turn = 0;
	// Called by @me: wait until it is its turn, then make it the other's.
	const auto take_turn = [&](int me) {
		std::unique_lock l(lock);
		while (turn != me)
			changed[me].wait(l);
		turn = 1 - me;
		changed[1 - me].notify_one();
	};
	bench::lib::loop_pair("ums_condvar_hop", 100, 2, [&] { take_turn(0); }, [&] { take_turn(1); });
}

// SPDX-License-Identifier: MIT
//
// Two workers of a run_loop want a mutex that the other one holds: each locks it, yields while it has it, and unlocks
// it. A round trip has four switches: to the other, which finds it locked, and waits; back; to the other, which was
// woken, and gets it; and the same once more with the parts exchanged.

#include "ums_lib.hpp"

int main()
{
	bench::begin();
	ums::mutex m;
	const auto take = [&] {
		m.lock();
		ums::this_worker::yield();
		m.unlock();
		ums::this_worker::yield();
	};
	bench::lib::loop_pair("ums_mutex_handover", 100, 4, take, take);
}

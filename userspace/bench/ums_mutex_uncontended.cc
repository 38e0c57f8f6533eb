// SPDX-License-Identifier: MIT
//
// A mutex that nobody else wants, locked and unlocked by a worker.

#include "ums_lib.hpp"

#include <mutex>

int main()
{
	bench::begin();
	bench::lib::require_user_switch();
	ums::run_loop loop({.schedulers = 1, .user_switch = true});
	double std_value = 0, ums_value = 0;
	loop.spawn([&] {
		std::mutex theirs;
		ums::mutex ours;
		std_value = bench::measure(1000, 1, [&] {
			theirs.lock();
			asm volatile("" : : : "memory");
			theirs.unlock();
		});
		ums_value = bench::measure(1000, 1, [&] {
			ours.lock();
			asm volatile("" : : : "memory");
			ours.unlock();
		});
	});
	loop.run();
	bench::print("std_mutex_uncontended", std_value, 1000);
	bench::print("ums_mutex_uncontended", ums_value, 1000);
}

// SPDX-License-Identifier: MIT
//
// A scheduler in a few lines: three threads that sleep, and a loop that runs them.
#include <cstdio>
#include <ums/ums.hpp>
#include <unistd.h>

int main()
{
	if (auto p = ums::probe(); !p) {
		std::puts(ums::to_string(p.status));
		return 1;
	}
	ums::completion_list list(16);
	auto nap = [](int n) {
		for (int i = 0; i < 3; i++) {
			std::printf("worker %d, thread %d, round %d\n", n, gettid(), i);
			usleep(1000); // blocks; the scheduler goes on with another worker
		}
	};
	ums::worker a(list, nap, 1), b(list, nap, 2), c(list, nap, 3);

	ums::scheduler me; // this thread is a scheduler from here on
	unsigned blocks = 0;
	for (int left = 3; left > 0;) {
		ums::worker_id id = list.pop(); // sleeps while no worker can run
		ums::event e = me.run(id);	// returns when it blocks, yields, ends, ...
		if (e.reason == ums::reason::blocked)
			blocks++; // not printf(): its lock may be that worker's
		else if (e.reason == ums::reason::exited)
			left--;
	}
	std::printf("three workers blocked %u times\n", blocks);
}

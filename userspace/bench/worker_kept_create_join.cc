// SPDX-License-Identifier: MIT
//
// The life of a ums::worker that does nothing: created by its scheduler, published, executed until it has ended, joined.
// In the steady state, in which the thread of an ended worker is there for the next.

#include "ums_lib.hpp"

int main()
{
	bench::begin();
	ums::completion_list list(1);
	ums::scheduler me;
	const ums::worker::options kept{.keep_thread = true};
	const double value = bench::measure(20, 1, [&] {
		ums::worker w(list, kept, [] {});
		while (!me.run(list.pop()).is_last())
			;
		w.join();
	});
	bench::print("worker_kept_create_join", value, 20);
}

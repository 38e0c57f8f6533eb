// SPDX-License-Identifier: MIT
//
// Two ordinary threads that hand over to each other on one processor: the
// caller measures round trips, its partner answers each.
#pragma once

#include "bench.hpp"

#include <thread>

namespace bench {

// there(): the caller's half of a round trip, back(): the partner's.
// Prints the cost of one hop, of which a round trip has two.
template <class There, class Back> void pair(const char *name, unsigned round_trips, There there, Back back)
{
	begin();
	std::thread partner([=] {
		for (unsigned long i = total(round_trips); i; i--)
			back();
	});
	double hop = measure(round_trips, 2, there);
	partner.join();
	print(name, hop, 2 * round_trips);
}

} // namespace bench

// SPDX-License-Identifier: MIT
//
// The life of an ordinary thread that does nothing.

#include "bench.hpp"

#include <pthread.h>

static void *nothing(void *)
{
	return nullptr;
}

int main()
{
	bench::begin();
	double cost = bench::measure(5, 1, [] {
		pthread_t t;
		if (pthread_create(&t, nullptr, nothing, nullptr) || pthread_join(t, nullptr))
			std::abort();
	});
	bench::print("pthread_create_join", cost, 5);
}

// SPDX-License-Identifier: MIT
//
// The C library's coroutines: two system calls for the signal mask and back.

#include "bench.hpp"

#include <ucontext.h>

static ucontext_t home, away;
alignas(16) static char stack[64 * 1024];

static void coroutine()
{
	for (;;)
		swapcontext(&away, &home);
}

int main()
{
	bench::begin();
	getcontext(&away);
	away.uc_stack.ss_sp = stack;
	away.uc_stack.ss_size = sizeof stack;
	away.uc_link = nullptr;
	makecontext(&away, coroutine, 0);
	double cost = bench::measure(250, 2, [] { swapcontext(&home, &away); });
	bench::print("swapcontext", cost, 500);
}

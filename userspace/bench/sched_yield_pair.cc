// SPDX-License-Identifier: MIT
//
// Two threads take turns by sched_yield(): a switch of the kernel's scheduler in
// which nobody sleeps or wakes up. One program for the unpatched and the patched
// kernel: the row's name is its argument.

#include "pair.hpp"
#include "syscall.hpp"

#include <atomic>

static std::atomic<int> turn{0};

// The scheduler may let the caller go on at once: then it yields again.
static void wait_for(int whose)
{
	while (turn.load(std::memory_order_acquire) != whose)
		bench::syscall(SYS_sched_yield);
}

static void there()
{
	turn.store(1, std::memory_order_release);
	wait_for(0);
}

static void back()
{
	wait_for(1);
	turn.store(0, std::memory_order_release);
}

int main(int argc, char **argv)
{
	bench::pair(argc > 1 ? argv[1] : "sched_yield_pair_plain", 25, there, back);
}

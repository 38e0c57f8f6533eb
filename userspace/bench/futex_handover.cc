// SPDX-License-Identifier: MIT
//
// One thread wakes the other and waits itself, by futex: what a program can do
// today when it wants to decide which of its threads runs next. The row's name may
// be given, to tell the unpatched kernel from the patched one.

#include "pair.hpp"
#include "syscall.hpp"

#include <atomic>
#include <linux/futex.h>

// Each on a cache line of its own, as a careful program would have them.
struct alignas(64) turn {
	std::atomic<std::uint32_t> mine{0};
};
static turn turns[2];

template <int me> static void hand_over()
{
	auto &own = turns[me].mine, &other = turns[1 - me].mine;
	other.store(1, std::memory_order_release);
	bench::syscall(SYS_futex, bench::arg(&other), FUTEX_WAKE_PRIVATE, 1);
	while (!own.load(std::memory_order_acquire))
		bench::syscall(SYS_futex, bench::arg(&own), FUTEX_WAIT_PRIVATE, 0, 0);
	own.store(0, std::memory_order_relaxed);
}

template <int me> static void wait_first()
{
	auto &own = turns[me].mine, &other = turns[1 - me].mine;
	while (!own.load(std::memory_order_acquire))
		bench::syscall(SYS_futex, bench::arg(&own), FUTEX_WAIT_PRIVATE, 0, 0);
	own.store(0, std::memory_order_relaxed);
	other.store(1, std::memory_order_release);
	bench::syscall(SYS_futex, bench::arg(&other), FUTEX_WAKE_PRIVATE, 1);
}

int main(int argc, char **argv)
{
	bench::pair(argc > 1 ? argv[1] : "futex_handover", 25, hand_over<0>, wait_first<1>);
}

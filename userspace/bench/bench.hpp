// SPDX-License-Identifier: MIT
//
// How every benchmark here measures: many short windows of the same operation,
// and the median of them. In the guest of `scripts/guest --icount` the time
// stamp counter counts instructions, user and kernel, so a window repeats
// exactly unless a timer tick falls into it; windows are far shorter than the
// time between two ticks, so that the median is one without.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <sched.h>
#include <vector>

namespace bench {

// The counter itself, not clock_gettime(): that scales it by a factor which
// the kernel found by trying, and costs many times more.
inline std::uint64_t now()
{
	std::uint32_t lo, hi;
	asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return std::uint64_t{hi} << 32 | lo;
}

// Instructions without effect, which scripts/insn-profile recognises: it
// counts between the two. They are outside of what now() measures.
inline void mark_begin() { asm volatile(".byte 0x0f,0x1f,0x80,0x01,0x53,0x4d,0x55" : : : "memory"); }
inline void mark_end() { asm volatile(".byte 0x0f,0x1f,0x80,0x02,0x53,0x4d,0x55" : : : "memory"); }

[[noreturn]] inline void fail(const char *what)
{
	std::perror(what);
	std::exit(1);
}

inline void check(bool ok, const char *what)
{
	if (!ok)
		fail(what);
}

inline double median(std::vector<double> v)
{
	std::sort(v.begin(), v.end());
	std::size_t n = v.size();
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

// Windows of one row, and those thrown away first: caches of the kernel's
// allocators, lazily bound functions and untouched pages belong to no operation.
constexpr unsigned windows = 601, warm_up = 20;

// One window: @ops times op().
template <class Op> std::uint64_t window(unsigned ops, Op &op)
{
	mark_begin();
	std::uint64_t start = now();
	for (unsigned i = ops; i; i--)
		op();
	std::uint64_t end = now();
	mark_end();
	return end - start;
}

// What a window costs in which nothing is done: the loop and the clock.
inline std::uint64_t empty_window(unsigned ops)
{
	std::uint64_t start = now();
	for (unsigned i = ops; i; i--)
		asm volatile("");
	return now() - start;
}

// The clock must count every instruction as one: a loop of known length says so.
// Returns counted per executed.
inline double calibrate()
{
	std::vector<double> v;
	for (unsigned i = 0; i < windows; i++) {
		std::uint64_t n = 50000, start = now();
		asm volatile("1: dec %0\n\tjnz 1b" : "+r"(n) : : "cc");
		v.push_back(double(now() - start) / 100000);
	}
	return median(v);
}

// Natively (BENCH_NATIVE=1) the same programs measure time.
inline bool native()
{
	static const bool is = std::getenv("BENCH_NATIVE") != nullptr;
	return is;
}

inline const char *unit() { return native() ? "ns/op" : "insn/op"; }

// Of the time stamp counter, which counts at its own rate.
inline double ns_per_tick()
{
	const auto clock = [] {
		timespec t;
		clock_gettime(CLOCK_MONOTONIC, &t);
		return 1e9 * static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec);
	};
	const double ns = clock();
	const std::uint64_t ticks = now();
	while (clock() < ns + 2e7)
		;
	return (clock() - ns) / static_cast<double>(now() - ticks);
}

// First thing in every main().
inline void begin()
{
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	check(!sched_setaffinity(0, sizeof one, &one), "sched_setaffinity");
	if (native())
		return;
	double ratio = calibrate();
	if (ratio < 0.99 || ratio > 1.01) {
		std::fprintf(stderr,
			     "bench: the clock counts %.3f for one instruction: run this by scripts/guest --icount\n",
			     ratio);
		std::exit(1);
	}
}

// One row of the result. @windows and @ops tell scripts/insn-profile by what to divide.
inline void print(const char *name, double value, unsigned ops)
{
	if (native())
		value *= ns_per_tick();
	std::printf("{\"name\":\"%s\",\"unit\":\"%s\",\"value\":%.2f,\"windows\":%u,\"ops\":%u}\n", name, unit(), value,
		    windows, ops);
	std::fflush(stdout);
}

// The cost of op() when it stands for @per operations, @ops times in a window.
template <class Op> double measure(unsigned ops, double per, Op op)
{
	std::vector<double> v;
	for (unsigned i = 0; i < warm_up; i++)
		window(ops, op);
	std::vector<double> none;
	for (unsigned i = 0; i < windows; i++)
		none.push_back(empty_window(ops));
	double overhead = median(none);
	v.reserve(windows);
	for (unsigned i = 0; i < windows; i++)
		v.push_back(window(ops, op));
	double whole = median(v);
	if (!native() && whole > 1e6) {
		std::fprintf(stderr, "bench: a window of %.0f instructions is too long to be exact\n", whole);
		std::exit(1);
	}
	return (whole - overhead) / (ops * per);
}

// All windows, warm-up included: how often op() runs.
constexpr unsigned long total(unsigned ops) { return static_cast<unsigned long>(windows + warm_up) * ops; }

} // namespace bench

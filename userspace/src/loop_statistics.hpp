// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include <sys/types.h>

#include <ums/scheduler.hpp>
#include <ums/statistics.hpp>

namespace ums::detail {

// Counted by one scheduler, read by anyone. Only that thread writes, so no atomic read-modify-write is
// needed.
class loop_counters
{
public:
	void began(pid_t tid, int cpu) noexcept;
	void new_worker() noexcept { add(workers_); }
	void ran(const event &e) noexcept;
	void worker_ended() noexcept { add(ended_); }

	// It went on to wait for another thread.
	void waited() noexcept { add(switches_); }

	// Workers that went on to the next one by themselves.
	void yielded(std::uint64_t n) noexcept
	{
		add(switches_, n);
		add(yields_, n);
	}
	void idled(std::chrono::nanoseconds time) noexcept
	{
		add(idle_ns_, static_cast<std::uint64_t>(time.count()));
	}

	scheduler_statistics snapshot() const;

private:
	using counter = std::atomic<std::uint64_t>;

	static void add(counter &c, std::uint64_t n = 1) noexcept
	{
		c.store(c.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
	}

	// More than there are system calls; the last place is for numbers beyond.
	static constexpr std::size_t numbers = 1024;

	std::atomic<pid_t> tid_{0};
	std::atomic<int> cpu_{-1};
	counter workers_{0}, ended_{0}, switches_{0}, faults_{0}, yields_{0}, preemptions_{0}, idle_ns_{0};
	std::array<counter, numbers> blocks_{};
};

} // namespace ums::detail

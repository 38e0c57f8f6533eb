// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include <ums/completion_list.hpp>
#include <ums/scheduler.hpp>

#include "loop_statistics.hpp"
#include "ready_queue.hpp"
#include "registry.hpp"

namespace ums::detail {

// What the schedulers of a loop tell it.
struct loop_events {
	virtual void worker_ended() noexcept = 0;
	virtual bool ended() const noexcept = 0;

protected:
	~loop_events() = default;
};

// One scheduler of a run_loop: its completion list, its queue, its counters. serve() and what it calls take
// no lock and allocate nothing: a worker of this scheduler may have been stopped while it held the lock in
// question.
class loop_scheduler
{
public:
	loop_scheduler(unsigned index, int cpu, std::uint32_t max_workers, registry &workers,
		       loop_events &loop)
	    : index_(index), cpu_(cpu), list_(max_workers), workers_(workers), loop_(loop)
	{
	}

	unsigned index() const noexcept { return index_; }
	int cpu() const noexcept { return cpu_; }
	completion_list &list() noexcept { return list_; }
	const completion_list &list() const noexcept { return list_; }
	scheduler_statistics statistics() const { return counters_.snapshot(); }

	// A place for one more worker. Any thread.
	bool reserve() noexcept;
	void release() noexcept { load_.fetch_sub(1, std::memory_order_relaxed); }
	std::uint32_t load() const noexcept { return load_.load(std::memory_order_relaxed); }

	// Runs workers until the loop has ended. @p me is the calling thread's role.
	void serve(scheduler &me, std::chrono::nanoseconds slice) noexcept;

private:
	void take_published() noexcept;
	void run(scheduler &me, loop_entry &entry, std::chrono::nanoseconds slice) noexcept;
	bool sleep() noexcept;

	const unsigned index_;
	const int cpu_; // -1: any
	completion_list list_;
	ready_queue ready_;
	registry &workers_;
	loop_events &loop_;
	loop_counters counters_;
	std::atomic<std::uint32_t> load_{0};
};

} // namespace ums::detail

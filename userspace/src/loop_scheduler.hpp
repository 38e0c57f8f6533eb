// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include <poll.h>

#include <ums/completion_list.hpp>
#include <ums/scheduler.hpp>

#include "alarm_clock.hpp"
#include "context.hpp"
#include "event_fd.hpp"
#include "inbox.hpp"
#include "loop_entry.hpp"
#include "loop_statistics.hpp"
#include "registry.hpp"
#include "this_worker_state.hpp"
#include "timer_fd.hpp"
#include "timer_queue.hpp"

namespace ums::detail {

struct waiter;

// What the schedulers of a loop tell it.
struct loop_events {
	virtual void worker_ended() noexcept = 0;
	virtual bool ended() const noexcept = 0;

protected:
	~loop_events() = default;
};

// One scheduler of a run_loop: its completion list, its ring, its counters. serve() and what it calls take
// no lock and allocate nothing: a worker of this scheduler may have been stopped while it held the lock in
// question.
class loop_scheduler final : public has_alarms
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

	// Whether there is nothing but the ring. By what runs for it.
	bool has_no_news() const noexcept
	{
		return __atomic_load_n(context_->published, __ATOMIC_ACQUIRE) == context_->seen &&
		       !__atomic_load_n(&context_->inbox, __ATOMIC_ACQUIRE);
	}

	// Whether the calling worker runs for it, in its ring, and can be switched in user mode.
	bool runs_here() const noexcept
	{
		return me.entry->owner == this && me.context->scheduler.load(std::memory_order_relaxed) ==
							  reinterpret_cast<std::uintptr_t>(context_);
	}

	// A yield that changes nothing, by a worker that runs for it.
	void count_yield() noexcept
	{
		std::atomic_ref(context_->yields).fetch_add(1, std::memory_order_relaxed);
	}

	// The calling worker, for which runs_here(), in a no_upcall region, leaves the ring and waits until wake(). False,
	// at once, if its scheduler has died.
	bool park() noexcept;

	// The same, but not longer than until then.
	bool park_until(loop_timers::time_point until) noexcept;

	// To be called for each park() once, by any thread; as soon as the waiter can be found.
	void wake(waiter &w) noexcept;

	// The first of its timers may have expired. By the alarm clock, which waits for this to be readable.
	void alarm() noexcept override;
	int timer_handle() const noexcept override { return timer_.native_handle(); }

	// It has something to look at, if it sleeps.
	void wake_up() noexcept;

	// The loop has ended: it has no worker.
	void end() noexcept;

	// Has a thread of its own, that waits for work, run a worker. False, and nothing moved: there is none. Any thread.
	bool give_work(std::unique_ptr<body> &work, std::string_view name);

	// The worker that calls has ended. Its thread waits for another one: what that is to do; null: the thread is to
	// end.
	std::unique_ptr<body> next_work(bool was_named) noexcept;

private:
	cds_lfs_stack_ptr_t inbox() noexcept;
	void post(inbox_item &item) noexcept;
	bool reserve_thread() noexcept;
	loop_entry &assign(std::unique_ptr<body> work, std::string_view name) noexcept;
	void end_threads() noexcept;
	static void unpark(loop_entry &entry) noexcept;
	bool deliver(waiter &w, loop_entry *before) noexcept;
	void arm() noexcept;
	void expire() noexcept;
	void take_published() noexcept;
	void run(scheduler &me, loop_entry &entry, std::chrono::nanoseconds slice) noexcept;
	bool sleep() noexcept;
	void take_woken() noexcept;
	bool sleep_for_news() noexcept;
	void poll_news(std::span<pollfd> fds) noexcept;
	void leave(loop_entry &entry) noexcept;
	void skip(loop_entry &entry) noexcept;
	void ended(loop_entry &entry) noexcept;

	const unsigned index_;
	const int cpu_; // -1: any
	completion_list list_;
	upcall_context *context_ = nullptr;
	bool wakes_ = false; // its workers may wait in user mode
	std::atomic<bool> asleep_{false};
	event_fd event_;

	// Whose time comes when; and what tells the alarm clock of it while workers run.
	loop_timers timers_;
	timer_fd timer_;
	loop_timers::time_point armed_ = loop_timers::time_point::max();
	inbox_item alarm_{news::alarm};
	std::atomic<bool> alarm_posted_{true}; // or there is nobody to take it
	const loop_entry *skipped_ = nullptr;

	// Threads that wait for work, last in, first out; and how many of them are not promised to anybody.
	loop_entry *idle_ = nullptr;
	std::atomic<int> free_threads_{0};
	unsigned threads_ = 0; // that have been published, and have not ended
	registry &workers_;
	loop_events &loop_;
	loop_counters counters_;
	std::atomic<std::uint32_t> load_{0};
};

} // namespace ums::detail

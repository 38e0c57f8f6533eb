// SPDX-License-Identifier: MIT
//
// Workers of a completion list that wait for another thread in user mode, and those of them that have been woken: what
// the kernel does not know of its list. First in, first out, until somebody takes them from the list; then they are run.
//
// Those that wait with a timeout are told by an alarm clock, and are then as those that have been woken, but not by anybody.
//
// Whoever waits is on its stack. It goes on when it has been taken; run unasked it takes itself off, so that nobody is in
// here twice, or is gone.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include <urcu/list.h>

#include <ums/deadline.hpp>
#include <ums/wait_queue.hpp>
#include <ums/worker_id.hpp>

#include "alarm_clock.hpp"
#include "context.hpp"
#include "event_fd.hpp"
#include "timer_fd.hpp"
#include "timer_queue.hpp"

namespace ums::detail {

class wait_timer;

class woken_workers final : has_alarms
{
public:
	// Of one worker.
	struct place {
		cds_list_head node; // first: see of_node()
		waiter *self;
		worker_id id;
		wait_timer *timer; // while that is set
		// To be run, it passes the lock, or is taken. Gone, it waits for its word alone.
		enum : std::uint8_t { nowhere, waiting, ready, gone } at;
	};

	woken_workers() noexcept
	{
		CDS_INIT_LIST_HEAD(&waiting_);
		CDS_INIT_LIST_HEAD(&ready_);
	}
	woken_workers(const woken_workers &) = delete;
	woken_workers &operator=(const woken_workers &) = delete;
	~woken_workers();

	// A scheduler for which workers of the list may wait so, one at a time. Throws std::system_error:
	// device_or_resource_busy, also when somebody sleeps for the list who would not hear of them;
	// too_many_files_open.
	void bind();
	void unbind() noexcept;

	// The calling worker, in a region, is about to wait, not longer than until then; with @timer. False: it is not to, but
	// has gone.
	bool enter(waiter &me, const deadline &until, wait_timer *timer) noexcept;

	// It goes on, and is not marked as taken: it has gone.
	void leave(waiter &me) noexcept;

	// It has been woken. By any thread, in a region.
	void add(waiter &w) noexcept;

	// The first that may be run; none: there is nobody.
	worker_id take() noexcept;

	bool empty() const noexcept { return !size_.load(std::memory_order_relaxed); }

	// Whose turn it is, if the kernel has published some, too: so that neither waits for ever.
	bool kernel_first() noexcept
	{
		const bool was = kernel_first_.load(std::memory_order_relaxed);
		kernel_first_.store(!was, std::memory_order_relaxed);
		return was;
	}

	// The list is about to be closed: all may be run, to wait on as ordinary threads.
	void close() noexcept;
	bool closed() const noexcept { return closed_.load(std::memory_order_acquire); }

	// As ums_wait() of the list, for both kinds.
	int wait(int list_fd, const deadline &until) noexcept;

private:
	static place &of_node(cds_list_head *node) noexcept { return *reinterpret_cast<place *>(node); }
	int timer_handle() const noexcept override { return timer_->native_handle(); }
	void alarm() noexcept override;
	void arm() noexcept;
	void cancel_timer(place &p) noexcept;
	void make_ready(place &p) noexcept;
	void remove(place &p) noexcept;
	int poll(int list_fd, const deadline &until) noexcept;

	const std::uint32_t forks_ = forks_so_far();
	std::atomic<bool> bound_{false};
	std::atomic<bool> has_event_{false};
	std::atomic<unsigned> kernel_sleepers_{0}; // who do not hear of the event
	std::atomic<bool> kernel_first_{false};
	std::atomic<std::uint32_t> size_{0}; // of ready_

	// All under the lock. The event is set while somebody is ready and somebody polls, or did.
	base::inner_lock lock_;
	cds_list_head waiting_, ready_;
	std::optional<event_fd> event_;
	unsigned pollers_ = 0;
	bool is_set_ = false;
	std::atomic<bool> closed_{false};
	timer_queue<place> timers_;
	timer_queue<place>::time_point armed_ = timer_queue<place>::time_point::max();

	// From the first scheduler on.
	std::optional<timer_fd> timer_;
	std::optional<alarm_clock> alarm_clock_;
};

// A worker's: see timer_queue.
class wait_timer : public timer_queue<woken_workers::place>::timer
{
};

} // namespace ums::detail

// SPDX-License-Identifier: MIT
//
// Workers of a completion list that have waited for another thread in user mode, and been woken: what the kernel does not
// know of its list. First in, first out, until somebody takes them from the list.
//
// Whoever waits is on its stack, as in any queue; it goes on only when it has been taken, so that what is in here lives.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include <ums/deadline.hpp>
#include <ums/wait_queue.hpp>
#include <ums/worker_id.hpp>

#include "event_fd.hpp"

namespace ums::detail {

class woken_workers
{
public:
	// A scheduler for which workers of the list may wait so, one at a time. Throws std::system_error:
	// device_or_resource_busy, too_many_files_open.
	void bind();
	void unbind() noexcept;

	// It has been woken. By any thread, in a region.
	void add(waiter &w) noexcept;

	// The first; none: there is nobody.
	worker_id take() noexcept;

	bool empty() const noexcept { return !size_.load(std::memory_order_relaxed); }

	// Whose turn it is, if the kernel has published some, too: so that neither waits for ever.
	bool kernel_first() noexcept
	{
		const bool was = kernel_first_.load(std::memory_order_relaxed);
		kernel_first_.store(!was, std::memory_order_relaxed);
		return was;
	}

	enum class news { woken, published, of_list, interrupted, timeout, not_here };

	// Sleeps until there is one, or poll() has something to tell of the list: that the kernel has published one, or
	// what ums_wait() explains. not_here, at once: no scheduler was ever bound.
	news wait(int list_fd, const deadline &until) noexcept;

private:
	std::atomic<bool> bound_{false};
	std::atomic<bool> has_event_{false};
	std::atomic<bool> kernel_first_{false};
	std::atomic<std::uint32_t> size_{0};

	// All under the lock of the queue; the event is set while there is one and somebody sleeps, or was asleep.
	base::wait_queue queue_;
	std::optional<event_fd> event_;
	unsigned sleepers_ = 0;
	bool is_set_ = false;

	void clear() noexcept;
};

} // namespace ums::detail

// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstdint>

#include <ums/export.hpp>

namespace ums::detail {
struct waiter;
}

/// What the synchronisation objects are made of. Not for programs.
namespace ums::base {

using detail::waiter;

// A mutex for a few instructions, by futex(2). It is held in a no_upcall region only, so that it is never waited for
// longer than the kernel takes to let its owner go on. After Drepper's "Futexes Are Tricky", mutex 3.
class inner_lock
{
public:
	void lock() noexcept
	{
		std::uint32_t is = 0;
		if (!word_.compare_exchange_strong(is, 1, std::memory_order_acquire, std::memory_order_relaxed))
			lock_slow();
	}
	void unlock() noexcept
	{
		if (word_.exchange(0, std::memory_order_release) == 2)
			wake_one();
	}

private:
	UMS_EXPORT void lock_slow() noexcept;
	UMS_EXPORT void wake_one() noexcept;

	std::atomic<std::uint32_t> word_{0};
};

// Those who wait for something, first in, first out. Everything under its lock, which whoever makes a change that
// they wait for takes as well.
class wait_queue
{
public:
	wait_queue() = default;
	wait_queue(const wait_queue &) = delete;
	wait_queue &operator=(const wait_queue &) = delete;

	void lock() noexcept { lock_.lock(); }
	void unlock() noexcept { lock_.unlock(); }

	bool empty() const noexcept { return !first_; }
	waiter *front() const noexcept { return first_; }
	void push_back(waiter &w) noexcept;
	void push_front(waiter &w) noexcept;
	waiter *pop_front() noexcept; // null: empty
	void remove(waiter &w) noexcept;
	waiter *take_all() noexcept; // by waiter::next

private:
	waiter *first_ = nullptr;
	waiter *last_ = nullptr;
	inner_lock lock_;
};

} // namespace ums::base

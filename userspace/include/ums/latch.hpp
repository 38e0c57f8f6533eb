// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstddef>
#include <limits>

#include <ums/deadline.hpp>
#include <ums/export.hpp>
#include <ums/sanitizer.hpp>
#include <ums/wait_queue.hpp>

namespace ums {

namespace base {

// Something that happens once. One who knows that it has may destroy it, though happen() has not returned: so nobody
// knows without the lock.
class UMS_EXPORT occurrence
{
public:
	constexpr explicit occurrence(bool happened = false) noexcept : happened_(happened) {}

	bool has_happened() const noexcept
	{
		const detail::tsan_order order(this);
		return is_over();
	}

	// Once.
	void happen() noexcept
	{
		detail::tsan_release(this);
		finish();
	}

	// False after @until.
	bool wait(const detail::deadline &until = {}) const noexcept
	{
		const detail::tsan_order order(this);
		return wait_until(until);
	}

private:
	bool is_over() const noexcept;
	void finish() noexcept;
	bool wait_until(const detail::deadline &until) const noexcept;

	bool happened_; // under the lock of the queue
	mutable wait_queue queue_;
};

} // namespace base

/// As std::latch; who waits, and how, as ums::mutex.
class latch
{
public:
	/// Precondition: 0 <= @p expected <= max().
	constexpr explicit latch(std::ptrdiff_t expected) noexcept : count_(expected), open_(expected == 0) {}
	latch(const latch &) = delete;
	latch &operator=(const latch &) = delete;

	static constexpr std::ptrdiff_t max() noexcept { return std::numeric_limits<std::ptrdiff_t>::max(); }

	/// Precondition: @p n is not negative, nor more than what is left.
	void count_down(std::ptrdiff_t n = 1) noexcept
	{
		if (n != 0 && count_.fetch_sub(n, std::memory_order_acq_rel) == n)
			open_.happen();
	}

	bool try_wait() const noexcept { return open_.has_happened(); }
	void wait() const noexcept { open_.wait(); }

	void arrive_and_wait(std::ptrdiff_t n = 1) noexcept
	{
		count_down(n);
		wait();
	}

private:
	std::atomic<std::ptrdiff_t> count_;
	base::occurrence open_;
};

} // namespace ums

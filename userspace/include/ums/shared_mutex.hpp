// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>

#include <ums/deadline.hpp>
#include <ums/export.hpp>
#include <ums/sanitizer.hpp>
#include <ums/wait_queue.hpp>

namespace ums {

/// As std::shared_timed_mutex, for std::unique_lock and std::shared_lock; who waits, and how, as ums::mutex. First
/// come, first served: readers that come behind a writer that waits wait for it, and neither starves.
class UMS_EXPORT shared_mutex
{
public:
	shared_mutex() = default;
	shared_mutex(const shared_mutex &) = delete;
	shared_mutex &operator=(const shared_mutex &) = delete;

	void lock() noexcept
	{
		const detail::tsan_order order(this);
		lock(true, {});
	}
	bool try_lock() noexcept
	{
		const detail::tsan_order order(this);
		return try_lock(true);
	}
	void unlock() noexcept
	{
		const detail::tsan_order order(this);
		unlock(true);
	}

	void lock_shared() noexcept
	{
		const detail::tsan_order order(this);
		lock(false, {});
	}
	bool try_lock_shared() noexcept
	{
		const detail::tsan_order order(this);
		return try_lock(false);
	}
	void unlock_shared() noexcept
	{
		const detail::tsan_order order(this);
		unlock(false);
	}

	template <class Rep, class Period>
	bool try_lock_for(const std::chrono::duration<Rep, Period> &timeout)
	{
		const detail::tsan_order order(this);
		return lock(true, detail::deadline_in(timeout));
	}

	template <class Clock, class Duration>
	bool try_lock_until(const std::chrono::time_point<Clock, Duration> &time)
	{
		const detail::tsan_order order(this);
		return detail::wait_until(time, [&](const detail::deadline &until) { return lock(true, until); });
	}

	template <class Rep, class Period>
	bool try_lock_shared_for(const std::chrono::duration<Rep, Period> &timeout)
	{
		const detail::tsan_order order(this);
		return lock(false, detail::deadline_in(timeout));
	}

	template <class Clock, class Duration>
	bool try_lock_shared_until(const std::chrono::time_point<Clock, Duration> &time)
	{
		const detail::tsan_order order(this);
		return detail::wait_until(time, [&](const detail::deadline &until) { return lock(false, until); });
	}

private:
	bool lock(bool exclusive, const detail::deadline &until) noexcept;
	bool try_lock(bool exclusive) noexcept;
	void unlock(bool exclusive) noexcept;
	bool take(bool exclusive) noexcept;
	detail::waiter *next() noexcept;

	// All under the lock of the queue.
	std::size_t readers_ = 0;
	bool written_ = false;
	base::wait_queue queue_;
};

} // namespace ums

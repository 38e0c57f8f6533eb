// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <limits>

#include <ums/deadline.hpp>
#include <ums/export.hpp>
#include <ums/sanitizer.hpp>
#include <ums/wait_queue.hpp>

namespace ums {

namespace base {

class UMS_EXPORT semaphore
{
public:
	explicit constexpr semaphore(std::ptrdiff_t count) noexcept : count_(count) {}

	bool acquire(bool may_wait, const detail::deadline &until) noexcept;
	void release(std::ptrdiff_t n) noexcept;

private:
	// Under the lock of the queue. If it is not 0, nobody waits.
	std::ptrdiff_t count_;
	wait_queue queue_;
};

} // namespace base

/// As std::counting_semaphore; who waits, and how, as ums::mutex; first come, first served. One who has acquired may
/// destroy it, though release() of another has not returned.
template <std::ptrdiff_t LeastMaxValue = std::numeric_limits<std::ptrdiff_t>::max()>
class counting_semaphore
{
	static_assert(LeastMaxValue >= 0);

public:
	/// Precondition: 0 <= @p desired <= max().
	explicit constexpr counting_semaphore(std::ptrdiff_t desired) noexcept : core_(desired) {}
	counting_semaphore(const counting_semaphore &) = delete;
	counting_semaphore &operator=(const counting_semaphore &) = delete;

	static constexpr std::ptrdiff_t max() noexcept { return LeastMaxValue; }

	/// Precondition: the count does not come to exceed max().
	void release(std::ptrdiff_t n = 1) noexcept
	{
		detail::tsan_release(this);
		core_.release(n);
	}

	void acquire() noexcept
	{
		core_.acquire(true, {});
		detail::tsan_acquire(this);
	}

	bool try_acquire() noexcept
	{
		const detail::tsan_order order(this);
		return core_.acquire(false, {});
	}

	template <class Rep, class Period>
	bool try_acquire_for(const std::chrono::duration<Rep, Period> &timeout)
	{
		const detail::tsan_order order(this);
		return core_.acquire(true, detail::deadline_in(timeout));
	}

	template <class Clock, class Duration>
	bool try_acquire_until(const std::chrono::time_point<Clock, Duration> &time)
	{
		const detail::tsan_order order(this);
		return detail::wait_until(
			time, [&](const detail::deadline &until) { return core_.acquire(true, until); });
	}

private:
	base::semaphore core_;
};

using binary_semaphore = counting_semaphore<1>;

} // namespace ums

// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include <ums/deadline.hpp>
#include <ums/export.hpp>
#include <ums/mutex.hpp>
#include <ums/sanitizer.hpp>
#include <ums/wait_queue.hpp>

namespace ums {

/// As std::condition_variable, with ums::mutex; who waits, and how, as there. Wakes those that have waited longest.
/// There are no spurious wake-ups, except by a clock that is set back; but another thread may come first, as always.
class UMS_EXPORT condition_variable
{
public:
	constexpr condition_variable() noexcept = default;
	condition_variable(const condition_variable &) = delete;
	condition_variable &operator=(const condition_variable &) = delete;

	void notify_one() noexcept;
	void notify_all() noexcept;

	void wait(std::unique_lock<mutex> &lock) noexcept
	{
		const detail::tsan_order order(lock.mutex());
		wait(lock, detail::deadline());
	}

	template <class Predicate>
	void wait(std::unique_lock<mutex> &lock, Predicate stop_waiting)
	{
		while (!stop_waiting())
			wait(lock);
	}

	template <class Clock, class Duration>
	std::cv_status wait_until(std::unique_lock<mutex> &lock,
				  const std::chrono::time_point<Clock, Duration> &time)
	{
		const detail::tsan_order order(lock.mutex());
		if (wait(lock, detail::deadline(detail::deadline_at(time))))
			return std::cv_status::no_timeout;
		// A clock that was set back meanwhile: as a spurious wake-up.
		return Clock::now() < time ? std::cv_status::no_timeout : std::cv_status::timeout;
	}

	template <class Clock, class Duration, class Predicate>
	bool wait_until(std::unique_lock<mutex> &lock, const std::chrono::time_point<Clock, Duration> &time,
			Predicate stop_waiting)
	{
		while (!stop_waiting())
			if (wait_until(lock, time) == std::cv_status::timeout)
				return stop_waiting();
		return true;
	}

	template <class Rep, class Period>
	std::cv_status wait_for(std::unique_lock<mutex> &lock, const std::chrono::duration<Rep, Period> &timeout)
	{
		return wait_until(lock, detail::deadline_in(timeout));
	}

	template <class Rep, class Period, class Predicate>
	bool wait_for(std::unique_lock<mutex> &lock, const std::chrono::duration<Rep, Period> &timeout,
		      Predicate stop_waiting)
	{
		return wait_until(lock, detail::deadline_in(timeout), std::move(stop_waiting));
	}

private:
	bool wait(std::unique_lock<mutex> &lock, const detail::deadline &until) noexcept;

	std::atomic<std::uint32_t> waiting_{0};
	base::wait_queue queue_;
};

} // namespace ums

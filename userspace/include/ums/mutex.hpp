// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include <ums/deadline.hpp>
#include <ums/export.hpp>
#include <ums/sanitizer.hpp>
#include <ums/wait_queue.hpp>

namespace ums {

/// As std::mutex, for workers and ordinary threads together: std::unique_lock, std::scoped_lock and the like work
/// with it. A worker of a run_loop with user_switch, and no slice, that has to wait switches to the next one in user mode,
/// and one of a list with a scheduler of its own (scheduler::options::list) to that;
/// any other thread sleeps in the kernel, and the scheduler of a worker hears of it as of any block. Nobody spins. A
/// signal for a worker that waits in user mode is taken when it goes on, and does not end the wait.
///
/// An unlocked mutex goes to whoever comes first, since one who was woken may have to wait for its processor. Who was
/// woken and came too late is first in the queue then, and gets it handed over the next time (as in the mutex of
/// Go, and in parking_lot). Not for schedulers, which would wait for their own workers; nor in signal handlers. A worker
/// that keeps its processor (this_worker::no_upcall_region) waits in the kernel, and its scheduler with it: not for
/// another worker of that.
class UMS_EXPORT mutex
{
public:
	constexpr mutex() noexcept = default;
	mutex(const mutex &) = delete;
	mutex &operator=(const mutex &) = delete;

	void lock() noexcept
	{
		if (!try_lock()) {
			lock_slow({});
			detail::tsan_acquire(this);
		}
	}

	bool try_lock() noexcept
	{
		std::uint32_t is = 0;
		return word_.compare_exchange_strong(is, locked, std::memory_order_acquire,
						     std::memory_order_relaxed);
	}

	/// Precondition: the calling thread has locked it.
	void unlock() noexcept
	{
		std::uint32_t is = locked;
		if (!word_.compare_exchange_strong(is, 0, std::memory_order_release, std::memory_order_relaxed)) {
			detail::tsan_release(this);
			unlock_slow();
		}
	}

protected:
	bool lock_slow(const detail::deadline &until) noexcept;

private:
	static constexpr std::uint32_t locked = 1, waiting = 2; // the latter if the queue may not be empty

	void unlock_slow() noexcept;

	std::atomic<std::uint32_t> word_{0};
	base::wait_queue queue_;
};

/// As std::timed_mutex; otherwise as mutex.
class UMS_EXPORT timed_mutex : public mutex
{
public:
	template <class Rep, class Period>
	bool try_lock_for(const std::chrono::duration<Rep, Period> &timeout)
	{
		const detail::tsan_order order(this);
		return try_lock() || lock_slow(detail::deadline_in(timeout));
	}

	template <class Clock, class Duration>
	bool try_lock_until(const std::chrono::time_point<Clock, Duration> &time)
	{
		const detail::tsan_order order(this);
		return try_lock() ||
		       detail::wait_until(time, [&](const detail::deadline &until) { return lock_slow(until); });
	}
};

} // namespace ums

// SPDX-License-Identifier: MIT
#include "parking.hpp"

#include <cerrno>
#include <climits>
#include <thread>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ums/this_worker.hpp>

#include "sanitizer.hpp"
#include "timespec.hpp"
#include "x86_64/switch.hpp"

namespace ums::detail {

bool futex_wait(std::atomic<std::uint32_t> &word, std::uint32_t value, const deadline &until) noexcept
{
	timespec ts{};
	if (until) {
		const auto since = until->time_since_epoch();
		if (since.count() < 0)
			return false;
		ts = to_timespec(since);
	}
	const int error = errno;
	// Bitset: an absolute time of CLOCK_MONOTONIC, which is the steady clock.
	const bool timed_out = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, value, until ? &ts : nullptr, nullptr,
				       FUTEX_BITSET_MATCH_ANY) < 0 &&
			       errno == ETIMEDOUT;
	errno = error;
	return !timed_out;
}

void futex_wake(std::atomic<std::uint32_t> &word, int n) noexcept
{
	const int error = errno;
	syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, n);
	errno = error;
}

bool queue_lock::leave(waiter &me) noexcept
{
	lock_.lock();
	if (me.queued) {
		lock_.mutex()->remove(me);
		return true;
	}
	lock_.unlock();
	return false;
}

bool queue_lock::wait_until(waiter &me, loop_timers::time_point until) noexcept
{
	using clock = std::chrono::steady_clock;
	auto &loop = *me.entry->owner;

	while (!me.delivered && clock::now() < until)
		if (!loop.park_until(until))
			return wait_for_a_scheduler(me, until);
	if (!me.delivered && leave(me))
		return false;
	while (!me.delivered)
		if (!loop.park())
			return wait_for_a_scheduler(me, {});
	return true;
}

bool queue_lock::wait_for_a_scheduler(waiter &me, const deadline &until) noexcept
{
	bool timed = until.has_value();
	while (!me.woken.load(std::memory_order_acquire)) {
		ums_yield(0, 0);
		if (timed && std::chrono::steady_clock::now() >= *until) {
			if (leave(me))
				return false;
			timed = false;
		}
	}
	return true;
}

bool queue_lock::wait_for_list(waiter &me, const deadline &until) noexcept
{
	if (until && std::chrono::steady_clock::now() >= *until) {
		// Who is about to wake it has to know that it is not there.
		me.list->leave(me);
		return leave(me) ? false : wait_in_kernel(me, {});
	}
	if (me.list->enter(me, until, detail::me.timer)) {
		tsan_release_if(ums_tsan_scheduler());
		// Before it leaves it may be woken, on the list, and taken from there: but it is run only behind this.
		ums_block(detail::me.context, cause_wait);
		tsan_acquire_if(ums_tsan_scheduler());
		if (me.woken.load(std::memory_order_acquire) == waiter::taken)
			return true;
		// Its time has come; or the list is closed, its scheduler gone, or somebody has run it unasked: it waits as any
		// other thread.
		me.list->leave(me);
		if (until && std::chrono::steady_clock::now() >= *until && leave(me))
			return false;
	}
	return wait_in_kernel(me, until);
}

namespace {

// The calling worker, of a list, sleeps until then. False if it is to do so in another way, or has not slept so long.
bool sleep_for_list(const deadline &until) noexcept
{
	const region keeps_its_processor;
	parking sleeper(until);
	if (!sleeper.list || !sleeper.list->enter(sleeper, until, me.timer))
		return false;
	ums_block(me.context, cause_wait);
	sleeper.list->leave(sleeper);
	return std::chrono::steady_clock::now() >= *until;
}

} // namespace

bool queue_lock::wait_in_kernel(waiter &me, const deadline &until) noexcept
{
	region_.leave();
	auto left = until;
	while (!me.woken.load(std::memory_order_acquire)) {
		if (futex_wait(me.woken, 0, left))
			continue;
		region_.enter();
		if (leave(me))
			return false;
		region_.leave();
		left.reset();
	}
	return true;
}

} // namespace ums::detail

void ums::this_worker::sleep_until(std::chrono::steady_clock::time_point time)
{
	using namespace detail;
	using clock = std::chrono::steady_clock;
	// Not in a region, nor in a handler that has interrupted one.
	if (is_in_loop() && !me.slot->no_upcall) {
		if (time <= clock::now()) {
			yield(); // as any sleep gives way, be it that short
			return;
		}
		tsan_release_if(ums_tsan_scheduler());
		bool parked;
		{
			const region keeps_its_processor;
			auto &loop = *me.entry->owner;
			parked = loop.runs_here() && loop.park_until(time);
			while (parked && clock::now() < time)
				parked = loop.park_until(time);
		}
		tsan_acquire_if(ums_tsan_scheduler());
		if (parked)
			return;
	}
	if (me.timer && !me.slot->no_upcall) {
		if (time <= clock::now()) {
			yield();
			return;
		}
		tsan_release_if(ums_tsan_scheduler());
		const bool slept = sleep_for_list(time);
		tsan_acquire_if(ums_tsan_scheduler());
		if (slept)
			return;
	}
	std::this_thread::sleep_until(time);
}

// SPDX-License-Identifier: MIT
#include "parking.hpp"

#include <cerrno>
#include <climits>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace ums::detail {

bool futex_wait(std::atomic<std::uint32_t> &word, std::uint32_t value, const deadline &until) noexcept
{
	timespec ts{};
	if (until) {
		const auto since = until->time_since_epoch();
		if (since.count() < 0)
			return false;
		const auto s = std::chrono::floor<std::chrono::seconds>(since);
		ts.tv_sec = s.count();
		ts.tv_nsec = std::chrono::nanoseconds(since - s).count();
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

bool queue_lock::wait_in_kernel(waiter &me, const deadline &until) noexcept
{
	if (me.entry) {
		// Its scheduler has died: as any worker without one it waits for one in the kernel.
		while (!me.woken.load(std::memory_order_acquire))
			ums_yield(0, 0);
		return true;
	}

	region_.leave();
	auto left = until;
	while (!me.woken.load(std::memory_order_acquire)) {
		if (futex_wait(me.woken, 0, left))
			continue;
		region_.enter();
		lock_.lock();
		if (me.queued) {
			lock_.mutex()->remove(me);
			return false;
		}
		// Somebody has it in hand, and will say so.
		lock_.unlock();
		region_.leave();
		left.reset();
	}
	return true;
}

} // namespace ums::detail

// SPDX-License-Identifier: MIT
#include <ums/mutex.hpp>

#include "parking.hpp"

namespace ums {

bool mutex::lock_slow(const detail::deadline &until) noexcept
{
	bool insists = false;
	for (;;) {
		auto is = word_.load(std::memory_order_relaxed);
		if (!(is & locked)) {
			if (word_.compare_exchange_weak(is, is | locked, std::memory_order_acquire,
							std::memory_order_relaxed)) {
				return true;
			}
			continue;
		}

		detail::queue_lock queue(queue_);
		// Locked and waiting, it changes only under the lock of the queue.
		is = word_.load(std::memory_order_relaxed);
		if (!(is & locked) ||
		    (!(is & waiting) &&
		     !word_.compare_exchange_strong(is, is | waiting, std::memory_order_relaxed)))
			continue;
		detail::parking me(until);
		me.insists = insists;
		if (insists)
			queue_.push_front(me);
		else
			queue_.push_back(me);
		if (!queue.wait(me, until)) {
			if (queue_.empty())
				word_.fetch_and(~waiting, std::memory_order_relaxed);
			return false;
		}
		if (me.granted) {
			return true;
		}
		insists = true;
	}
}

void mutex::unlock_slow() noexcept
{
	for (;;) {
		detail::queue_lock queue(queue_);
		auto *next = queue_.pop_front();
		const bool grant = next && next->insists;
		if (grant)
			next->granted = true;
		if (queue_.empty())
			word_.fetch_and(~waiting, std::memory_order_relaxed);
		queue.unlock();
		// It may be locked, unlocked and destroyed by another thread behind this.
		if (next) {
			if (!grant)
				word_.fetch_and(~locked, std::memory_order_release);
			next->wake();
			return;
		}
		// A timeout was first. If somebody else waits by now, that one has to be woken.
		std::uint32_t is = locked;
		if (word_.compare_exchange_strong(is, 0, std::memory_order_release, std::memory_order_relaxed))
			return;
	}
}

} // namespace ums

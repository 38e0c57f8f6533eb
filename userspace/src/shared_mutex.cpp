// SPDX-License-Identifier: MIT
#include <ums/shared_mutex.hpp>

#include "parking.hpp"

namespace ums {

bool shared_mutex::take(bool exclusive) noexcept
{
	if (written_ || (exclusive && readers_))
		return false;
	if (exclusive)
		written_ = true;
	else
		readers_++;
	return true;
}

// Those whose turn it is, who have it now.
detail::waiter *shared_mutex::next() noexcept
{
	detail::waiter *all = nullptr, **last = &all;
	while (!queue_.empty() && take(queue_.front()->exclusive)) {
		*last = queue_.pop_front();
		last = &(*last)->next;
		*last = nullptr;
	}
	return all;
}

bool shared_mutex::try_lock(bool exclusive) noexcept
{
	const detail::queue_lock queue(queue_);
	return queue_.empty() && take(exclusive);
}

bool shared_mutex::lock(bool exclusive, const detail::deadline &until) noexcept
{
	detail::queue_lock queue(queue_);
	if (queue_.empty() && take(exclusive))
		return true;
	detail::parking me(until);
	me.exclusive = exclusive;
	queue_.push_back(me);
	if (queue.wait(me, until))
		return true;
	// Those behind it may not have to wait any more.
	auto *others = next();
	queue.unlock();
	detail::wake_all(others);
	return false;
}

void shared_mutex::unlock(bool exclusive) noexcept
{
	detail::queue_lock queue(queue_);
	if (exclusive)
		written_ = false;
	else
		readers_--;
	auto *others = next();
	queue.unlock();
	detail::wake_all(others);
}

} // namespace ums

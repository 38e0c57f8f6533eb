// SPDX-License-Identifier: MIT
#include <ums/semaphore.hpp>

#include "parking.hpp"

namespace ums::base {

bool semaphore::acquire(bool may_wait, const detail::deadline &until) noexcept
{
	detail::queue_lock queue(queue_);
	if (count_ > 0) {
		count_--;
		return true;
	}
	if (!may_wait)
		return false;
	detail::parking me(until);
	queue_.push_back(me);
	return queue.wait(me, until);
}

void semaphore::release(std::ptrdiff_t n) noexcept
{
	detail::queue_lock queue(queue_);
	detail::waiter *served = nullptr, **last = &served;
	for (; n > 0 && !queue_.empty(); n--) {
		*last = queue_.pop_front();
		last = &(*last)->next;
		*last = nullptr;
	}
	count_ += n;
	queue.unlock();
	detail::wake_all(served);
}

} // namespace ums::base

// SPDX-License-Identifier: MIT
#include <ums/latch.hpp>

#include "parking.hpp"

namespace ums::base {

void occurrence::finish() noexcept
{
	detail::queue_lock queue(queue_);
	happened_ = true;
	auto *all = queue_.take_all();
	queue.unlock();
	detail::wake_all(all);
}

bool occurrence::is_over() const noexcept
{
	const detail::queue_lock queue(queue_);
	return happened_;
}

bool occurrence::wait_until(const detail::deadline &until) const noexcept
{
	detail::queue_lock queue(queue_);
	if (happened_)
		return true;
	detail::parking me(until);
	queue_.push_back(me);
	return queue.wait(me, until);
}

} // namespace ums::base

// SPDX-License-Identifier: MIT
#include <ums/condition_variable.hpp>

#include "parking.hpp"

namespace ums {

bool condition_variable::wait(std::unique_lock<mutex> &lock, const detail::deadline &until) noexcept
{
	bool notified;
	{
		detail::queue_lock queue(queue_);
		detail::parking me(until);
		queue_.push_back(me);
		// Under the mutex, by which who notifies sees it.
		waiting_.fetch_add(1, std::memory_order_relaxed);
		queue.unlock();
		lock.unlock();
		notified = queue.wait(me, until);
		if (!notified)
			waiting_.fetch_sub(1, std::memory_order_relaxed);
	}
	lock.lock();
	return notified;
}

void condition_variable::notify_one() noexcept
{
	if (!waiting_.load(std::memory_order_relaxed))
		return;
	detail::queue_lock queue(queue_);
	auto *first = queue_.pop_front();
	if (first)
		waiting_.fetch_sub(1, std::memory_order_relaxed);
	queue.unlock();
	if (first)
		first->wake();
}

void condition_variable::notify_all() noexcept
{
	if (!waiting_.load(std::memory_order_relaxed))
		return;
	detail::queue_lock queue(queue_);
	auto *all = queue_.take_all();
	waiting_.store(0, std::memory_order_relaxed);
	queue.unlock();
	detail::wake_all(all);
}

} // namespace ums

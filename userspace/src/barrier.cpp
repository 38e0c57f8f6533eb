// SPDX-License-Identifier: MIT
#include <ums/barrier.hpp>

#include "parking.hpp"

namespace ums::base {

std::uint64_t barrier::arrive(std::ptrdiff_t n, bool drop, bool &last) noexcept
{
	const detail::queue_lock queue(queue_);
	if (drop)
		expected_ -= n;
	left_ -= n;
	last = left_ == 0;
	return phase_;
}

void barrier::begin_next() noexcept
{
	detail::queue_lock queue(queue_);
	phase_++;
	left_ = expected_;
	auto *all = queue_.take_all();
	queue.unlock();
	detail::wake_all(all);
}

void barrier::wait(std::uint64_t phase) const noexcept
{
	detail::queue_lock queue(queue_);
	if (phase_ != phase)
		return;
	detail::parking me({});
	queue_.push_back(me);
	queue.wait(me);
}

} // namespace ums::base

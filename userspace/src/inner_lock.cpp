// SPDX-License-Identifier: MIT
#include <ums/wait_queue.hpp>

#include "parking.hpp"

namespace ums::base {

void inner_lock::lock_slow() noexcept
{
	while (word_.exchange(2, std::memory_order_acquire) != 0)
		detail::futex_wait(word_, 2);
}

void inner_lock::wake_one() noexcept
{
	detail::futex_wake(word_, 1);
}

} // namespace ums::base

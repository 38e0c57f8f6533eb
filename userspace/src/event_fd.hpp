// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include <sys/eventfd.h>
#include <unistd.h>

#include "polled_fd.hpp"

namespace ums::detail {

// eventfd(2): set by any thread, seen by poll().
class event_fd : public polled_fd
{
public:
	event_fd() : polled_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd") {}

	void set() noexcept
	{
		const std::uint64_t one = 1;
		// It cannot fail but when it is set often enough. No cancellation point, as above.
		[[maybe_unused]] const auto n = syscall(SYS_write, native_handle(), &one, sizeof one);
	}
};

} // namespace ums::detail

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
		std::uint64_t one = 1;
		// It cannot fail but when it is set often enough.
		call(SYS_write, &one);
	}
};

} // namespace ums::detail

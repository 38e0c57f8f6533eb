// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>

#include <sys/timerfd.h>

#include "polled_fd.hpp"
#include "timespec.hpp"

namespace ums::detail {

// timerfd(2): seen by poll() once its time has come.
class timer_fd : public polled_fd
{
public:
	timer_fd() : polled_fd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd") {}

	// @time: behind the start of the clock.
	void set(std::chrono::steady_clock::time_point time) noexcept
	{
		const itimerspec at{.it_interval = {}, .it_value = to_timespec(time.time_since_epoch())};
		timerfd_settime(native_handle(), TFD_TIMER_ABSTIME, &at, nullptr);
	}
};

} // namespace ums::detail

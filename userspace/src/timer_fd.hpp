// SPDX-License-Identifier: MIT
#pragma once

#include <cerrno>
#include <chrono>
#include <cstdint>

#include <sys/timerfd.h>
#include <unistd.h>

#include "throw_error.hpp"
#include "timespec.hpp"

namespace ums::detail {

// timerfd(2): seen by poll() once its time has come.
class timer_fd
{
public:
	timer_fd() : fd_(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK))
	{
		if (fd_ < 0)
			throw_error(errno, "timerfd");
	}
	timer_fd(const timer_fd &) = delete;
	timer_fd &operator=(const timer_fd &) = delete;
	~timer_fd() { close(fd_); }

	// @time: behind the start of the clock.
	void set(std::chrono::steady_clock::time_point time) noexcept
	{
		const itimerspec at{.it_interval = {}, .it_value = to_timespec(time.time_since_epoch())};
		timerfd_settime(fd_, TFD_TIMER_ABSTIME, &at, nullptr);
	}

	void clear() noexcept
	{
		std::uint64_t count;
		[[maybe_unused]] const auto n = read(fd_, &count, sizeof count);
	}

	int native_handle() const noexcept { return fd_; }

private:
	int fd_;
};

} // namespace ums::detail

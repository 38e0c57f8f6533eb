// SPDX-License-Identifier: MIT
#pragma once

#include <cerrno>
#include <cstdint>

#include <sys/eventfd.h>
#include <unistd.h>

#include "throw_error.hpp"

namespace ums::detail {

// eventfd(2): set by any thread, seen by poll().
class event_fd
{
public:
	event_fd() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))
	{
		if (fd_ < 0)
			throw_error(errno, "eventfd");
	}
	event_fd(const event_fd &) = delete;
	event_fd &operator=(const event_fd &) = delete;
	~event_fd() { close(fd_); }

	void set() noexcept
	{
		const std::uint64_t one = 1;
		// It cannot fail but when it is set often enough.
		[[maybe_unused]] const auto n = write(fd_, &one, sizeof one);
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

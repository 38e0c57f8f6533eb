// SPDX-License-Identifier: MIT
#pragma once

#include <cerrno>
#include <cstdint>

#include <sys/syscall.h>
#include <unistd.h>

#include "throw_error.hpp"

namespace ums::detail {

// A descriptor with a counter of the kernel behind it, that does not block; poll() sees when it is not 0.
class polled_fd
{
public:
	polled_fd(const polled_fd &) = delete;
	polled_fd &operator=(const polled_fd &) = delete;

	void clear() noexcept
	{
		std::uint64_t count;
		call(SYS_read, &count);
	}

	int native_handle() const noexcept { return fd_; }

protected:
	// @fd: what the system call @name has returned.
	polled_fd(int fd, const char *name) : fd_(fd)
	{
		if (fd_ < 0)
			throw_error(errno, name);
	}
	~polled_fd() { call(SYS_close, nullptr); }

	// Not by the C library's functions, which are cancellation points; errno stays.
	void call(long nr, std::uint64_t *count) noexcept
	{
		const int was = errno;
		syscall(nr, fd_, count, sizeof *count);
		errno = was;
	}

private:
	const int fd_;
};

} // namespace ums::detail

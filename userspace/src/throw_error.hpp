// SPDX-License-Identifier: MIT
#pragma once

#include <system_error>

namespace ums::detail {

// For what a system call returned as a negative error number.
[[noreturn]] inline void throw_error(long error, const char *what)
{
	throw std::system_error(static_cast<int>(error), std::system_category(), what);
}

} // namespace ums::detail

// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <ctime>

namespace ums::detail {

// @time: not negative.
inline timespec to_timespec(std::chrono::nanoseconds time) noexcept
{
	const auto s = std::chrono::floor<std::chrono::seconds>(time);
	return {.tv_sec = s.count(), .tv_nsec = (time - s).count()};
}

} // namespace ums::detail

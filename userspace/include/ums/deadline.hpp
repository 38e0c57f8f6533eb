// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <optional>

namespace ums::detail {

// A point of CLOCK_MONOTONIC; none: for ever.
using deadline = std::optional<std::chrono::steady_clock::time_point>;

// A timeout that does not fit is as good as for ever.
template <class Rep, class Period>
std::chrono::steady_clock::time_point deadline_in(std::chrono::duration<Rep, Period> timeout)
{
	using clock = std::chrono::steady_clock;
	const auto now = clock::now();
	if (std::chrono::duration<double>(timeout) > std::chrono::duration<double>(clock::time_point::max() - now))
		return clock::time_point::max();
	return now + std::chrono::ceil<clock::duration>(timeout);
}

// Calls wait(deadline) until it returns true, which is returned, or a clock, which may be set meanwhile, says that
// @time has come.
template <class Clock, class Duration, class Wait>
bool wait_until(const std::chrono::time_point<Clock, Duration> &time, Wait wait)
{
	for (;;) {
		const auto left = time - Clock::now();
		if (wait(deadline(deadline_in(left))))
			return true;
		if (Clock::now() >= time)
			return false;
	}
}

} // namespace ums::detail

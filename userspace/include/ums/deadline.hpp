// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <optional>
#include <type_traits>

namespace ums::detail {

// A point of CLOCK_MONOTONIC; none: for ever.
using deadline = std::optional<std::chrono::steady_clock::time_point>;

// A timeout that does not fit, or hardly, is as good as for ever.
template <class Rep, class Period>
std::chrono::steady_clock::time_point deadline_in(std::chrono::duration<Rep, Period> timeout)
{
	using clock = std::chrono::steady_clock;
	const auto now = clock::now();
	// Not exactly, as numbers of this size have no more digits.
	const auto longest = clock::time_point::max() - now - std::chrono::hours(1);
	if (timeout <= timeout.zero())
		return now;
	if (std::chrono::duration<double>(timeout) > std::chrono::duration<double>(longest))
		return clock::time_point::max();
	return now + std::chrono::ceil<clock::duration>(timeout);
}

// The same for a point of any clock, without a difference that does not fit.
template <class Clock, class Duration>
std::chrono::steady_clock::time_point deadline_at(const std::chrono::time_point<Clock, Duration> &time)
{
	using clock = std::chrono::steady_clock;
	if constexpr (std::is_same_v<std::chrono::time_point<Clock, Duration>, clock::time_point>) {
		return time;
	} else {
		const auto now = Clock::now();
		return time <= now ? clock::now() : deadline_in(time - now);
	}
}

// Calls wait(deadline) until it returns true, which is returned, or a clock, which may be set meanwhile, says that
// @time has come.
template <class Clock, class Duration, class Wait>
bool wait_until(const std::chrono::time_point<Clock, Duration> &time, Wait wait)
{
	do
		if (wait(deadline(deadline_at(time))))
			return true;
	while (Clock::now() < time);
	return false;
}

} // namespace ums::detail

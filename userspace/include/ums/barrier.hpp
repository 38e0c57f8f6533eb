// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include <ums/export.hpp>
#include <ums/sanitizer.hpp>
#include <ums/wait_queue.hpp>

namespace ums {

namespace base {

class UMS_EXPORT barrier
{
public:
	constexpr explicit barrier(std::ptrdiff_t expected) noexcept : expected_(expected), left_(expected) {}

	// The phase; @last: nobody else is missing, so begin_next() is to be called.
	std::uint64_t arrive(std::ptrdiff_t n, bool drop, bool &last) noexcept;
	void begin_next() noexcept;
	void wait(std::uint64_t phase) const noexcept;

private:
	// All under the lock of the queue.
	std::uint64_t phase_ = 0;
	std::ptrdiff_t expected_, left_;
	mutable wait_queue queue_;
};

struct no_completion {
	void operator()() const noexcept {}
};

} // namespace base

/// As std::barrier; who waits, and how, as ums::mutex. The completion function is called by the last who arrives.
template <class CompletionFunction = base::no_completion>
class barrier
{
	static_assert(std::is_nothrow_invocable_v<CompletionFunction &>);

public:
	class arrival_token
	{
		friend barrier;
		explicit arrival_token(std::uint64_t phase) noexcept : phase_(phase) {}
		std::uint64_t phase_;
	};

	/// Precondition: 0 <= @p expected <= max().
	constexpr explicit barrier(std::ptrdiff_t expected, CompletionFunction completion = CompletionFunction())
	    : core_(expected), completion_(std::move(completion))
	{
	}
	barrier(const barrier &) = delete;
	barrier &operator=(const barrier &) = delete;

	static constexpr std::ptrdiff_t max() noexcept { return std::numeric_limits<std::ptrdiff_t>::max(); }

	/// Precondition: 0 < @p n <= those who are missing in this phase.
	[[nodiscard]] arrival_token arrive(std::ptrdiff_t n = 1) { return arrive(n, false); }

	void wait(arrival_token &&arrival) const
	{
		const detail::tsan_order order(this);
		core_.wait(arrival.phase_);
	}
	void arrive_and_wait() { wait(arrive()); }
	void arrive_and_drop() { static_cast<void>(arrive(1, true)); }

private:
	arrival_token arrive(std::ptrdiff_t n, bool drop)
	{
		const detail::tsan_order order(this);
		bool last;
		const arrival_token token(core_.arrive(n, drop, last));
		if (last) {
			detail::tsan_acquire(this);
			completion_();
			detail::tsan_release(this);
			core_.begin_next();
		}
		return token;
	}

	base::barrier core_;
	[[no_unique_address]] CompletionFunction completion_;
};

} // namespace ums

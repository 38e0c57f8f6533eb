// SPDX-License-Identifier: MIT
//
// Threads that have run a ums::worker to its end, and wait for the next one: last in, first out.
#pragma once

#include <atomic>
#include <cstdint>

#include <pthread.h>

namespace ums::detail {

// The calling thread, on its stack.
class kept_thread
{
public:
	kept_thread() = default;
	kept_thread(const kept_thread &) = delete;
	kept_thread &operator=(const kept_thread &) = delete;

	// From now on it may be given something to do. It blocks all signals.
	void keep() noexcept;

	// Sleeps until then: what it was given.
	void *wait() noexcept;

	// Gives it to one that is kept: true, and which one. False: there is none. Any thread.
	static bool give(void *work, pthread_t &thread) noexcept;

	// In the child of fork() there is none.
	static void forget() noexcept;

private:
	const pthread_t handle_ = pthread_self();
	void *work_ = nullptr;
	std::atomic<std::uint32_t> has_work_{0};
	kept_thread *next_ = nullptr;
};

} // namespace ums::detail

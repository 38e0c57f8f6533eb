// SPDX-License-Identifier: MIT
#include "kept_threads.hpp"

#include <mutex>
#include <new>

#include <signal.h>

#include <ums/wait_queue.hpp>

#include "parking.hpp"
#include "region.hpp"
#include "sanitizer.hpp"

namespace ums::detail {

namespace {

constinit base::inner_lock lock;
constinit kept_thread *first = nullptr;

} // namespace

void kept_thread::keep() noexcept
{
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, nullptr);
	const std::lock_guard guard(lock);
	next_ = first;
	first = this;
}

void *kept_thread::wait() noexcept
{
	while (!has_work_.load(std::memory_order_acquire))
		futex_wait(has_work_, 0);
	tsan_acquire_if(work_);
	return work_;
}

bool kept_thread::give(void *work, pthread_t &thread) noexcept
{
	kept_thread *taken;
	{
		const region keeps_its_processor;
		const std::lock_guard guard(lock);
		taken = first;
		if (!taken)
			return false;
		first = taken->next_;
	}
	thread = taken->handle_;
	tsan_release_if(work);
	taken->work_ = work;
	// The address is all that is used of it then.
	auto &word = taken->has_work_;
	word.store(1, std::memory_order_release);
	futex_wake(word, 1);
	return true;
}

void kept_thread::forget() noexcept
{
	// Somebody may have had it.
	new (&lock) base::inner_lock;
	first = nullptr;
}

} // namespace ums::detail

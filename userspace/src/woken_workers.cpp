// SPDX-License-Identifier: MIT
#include "woken_workers.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <mutex>

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "parking.hpp"
#include "region.hpp"
#include "throw_error.hpp"
#include "timespec.hpp"

namespace ums::detail {

void woken_workers::bind()
{
	if (bound_.exchange(true, std::memory_order_relaxed))
		throw_error(EBUSY, "ums::scheduler: the list has one");
	if (has_event_.load(std::memory_order_acquire))
		return;
	try {
		event_.emplace();
	} catch (...) {
		unbind();
		throw;
	}
	has_event_.store(true, std::memory_order_release);
}

void woken_workers::unbind() noexcept
{
	bound_.store(false, std::memory_order_release);
}

void woken_workers::add(waiter &w) noexcept
{
	auto &word = w.woken;
	// Its scheduler was gone, so it sleeps in the kernel. The address is all that is used of it then.
	if (word.exchange(waiter::is_woken, std::memory_order_acq_rel) == waiter::sleeps) {
		futex_wake(word, 1);
		return;
	}
	const std::lock_guard lock(queue_);
	queue_.push_back(w);
	size_.fetch_add(1, std::memory_order_relaxed);
	if (sleepers_ && !is_set_) {
		event_->set();
		is_set_ = true;
	}
}

worker_id woken_workers::take() noexcept
{
	const region keeps_its_processor;
	const std::lock_guard lock(queue_);
	auto *w = queue_.pop_front();
	if (!w)
		return worker_id::none;
	size_.fetch_sub(1, std::memory_order_relaxed);
	clear();
	const auto id = w->id;
	// It may go on, and be gone.
	w->woken.store(waiter::taken, std::memory_order_release);
	return id;
}

// Nobody is there any more.
void woken_workers::clear() noexcept
{
	if (is_set_ && queue_.empty()) {
		event_->clear();
		is_set_ = false;
	}
}

woken_workers::news woken_workers::wait(int list_fd, const deadline &until) noexcept
{
	using clock = std::chrono::steady_clock;

	if (!has_event_.load(std::memory_order_acquire))
		return news::not_here;
	std::array<pollfd, 2> fds{pollfd{.fd = list_fd, .events = POLLIN, .revents = 0},
				  pollfd{.fd = event_->native_handle(), .events = POLLIN, .revents = 0}};
	const int was = errno;
	int ready = 0;
	bool error = false;
	for (bool last = false; !ready && !error && !last;) {
		{
			const region keeps_its_processor;
			const std::lock_guard lock(queue_);
			if (!queue_.empty())
				return news::woken;
			sleepers_++;
		}
		timespec left{};
		if (until) {
			const auto time = *until - clock::now();
			last = time <= time.zero();
			left = to_timespec(std::max(time, time.zero()));
		}
		// As ums_wait() it is no cancellation point.
		ready = static_cast<int>(
			syscall(SYS_ppoll, fds.data(), fds.size(), until ? &left : nullptr, nullptr, std::size_t{0}));
		error = ready < 0;
		errno = was;
		const region keeps_its_processor;
		const std::lock_guard lock(queue_);
		sleepers_--;
		clear();
		if (!queue_.empty())
			return news::woken;
		// Somebody else was faster.
		if (ready > 0 && !fds[0].revents)
			ready = 0;
	}
	if (error)
		return news::interrupted;
	if (!ready)
		return news::timeout;
	return fds[0].revents & ~POLLIN ? news::of_list : news::published;
}

} // namespace ums::detail

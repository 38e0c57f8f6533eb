// SPDX-License-Identifier: MIT
#include "woken_workers.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <exception>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "parking.hpp"
#include "region.hpp"
#include "throw_error.hpp"
#include "timespec.hpp"

namespace ums::detail {

woken_workers::~woken_workers()
{
	// In the child of fork() another thread may have been in the middle of it.
	if (forks_ != forks_so_far())
		new (&timers_) timer_queue<place>;
}

void woken_workers::bind()
{
	if (bound_.exchange(true, std::memory_order_acquire))
		throw_error(EBUSY, "ums::scheduler: the list has one");
	try {
		if (!timer_)
			timer_.emplace();
		if (!alarm_clock_)
			alarm_clock_.emplace(std::vector<has_alarms *>{this});
		alarm_clock_->outrank_caller();
	} catch (const std::exception &) {
		// Without it those with a timeout wait in the kernel.
	}
	try {
		if (!has_event_.load(std::memory_order_relaxed)) {
			event_.emplace();
			// Pairs with wait(): it sees this, or is seen.
			has_event_.store(true, std::memory_order_seq_cst);
		}
		if (kernel_sleepers_.load(std::memory_order_seq_cst))
			throw_error(EBUSY, "ums::scheduler: somebody waits for the list");
	} catch (...) {
		unbind();
		throw;
	}
}

void woken_workers::unbind() noexcept
{
	bound_.store(false, std::memory_order_release);
}

bool woken_workers::enter(waiter &me, const deadline &until, wait_timer *timer) noexcept
{
	const std::lock_guard lock(lock_);
	if (closed() || me.woken.load(std::memory_order_relaxed) != waiter::waits || (until && !alarm_clock_)) {
		me.place.at = place::gone;
		return false;
	}
	me.place.at = place::waiting;
	cds_list_add_tail(&me.place.node, &waiting_);
	if (until) {
		timer->item = &me.place;
		me.place.timer = timer;
		timers_.set(*timer, *until);
		arm();
	}
	return true;
}

// Not again for one that comes later: alarm() does it.
void woken_workers::arm() noexcept
{
	if (timers_.first() >= armed_)
		return;
	armed_ = timers_.first();
	timer_->set(armed_);
}

void woken_workers::alarm() noexcept
{
	// What is set from here on is heard of, or is set again below.
	timer_->clear();
	const std::lock_guard lock(lock_);
	armed_ = timer_queue<place>::time_point::max();
	const auto now = std::chrono::steady_clock::now();
	while (auto *p = timers_.take_due(now)) {
		p->timer = nullptr;
		if (p->at == place::waiting)
			make_ready(*p);
	}
	arm();
}

void woken_workers::cancel_timer(place &p) noexcept
{
	if (auto *timer = std::exchange(p.timer, nullptr))
		timers_.cancel(*timer);
}

void woken_workers::leave(waiter &me) noexcept
{
	const std::lock_guard lock(lock_);
	if (me.place.at != place::nowhere)
		remove(me.place);
	me.place.at = place::gone;
}

void woken_workers::make_ready(place &p) noexcept
{
	cancel_timer(p);
	cds_list_del(&p.node);
	cds_list_add_tail(&p.node, &ready_);
	p.at = place::ready;
	size_.fetch_add(1, std::memory_order_relaxed);
	if (pollers_ && !is_set_) {
		event_->set();
		is_set_ = true;
	}
}

void woken_workers::remove(place &p) noexcept
{
	cancel_timer(p);
	cds_list_del(&p.node);
	if (std::exchange(p.at, place::nowhere) != place::ready)
		return;
	size_.fetch_sub(1, std::memory_order_relaxed);
	if (is_set_ && cds_list_empty(&ready_)) {
		event_->clear();
		is_set_ = false;
	}
}

void woken_workers::add(waiter &w) noexcept
{
	// In the child of fork() there is nobody, and the event is its parent's.
	if (forks_ != forks_so_far())
		return;
	auto &word = w.woken;
	{
		const std::lock_guard lock(lock_);
		if (w.place.at != place::gone) {
			word.store(waiter::is_woken, std::memory_order_release);
			if (w.place.at == place::waiting)
				make_ready(w.place);
			return;
		}
	}
	// As any other thread. Its list may be gone, too; and the address is all that is used of it at last.
	word.store(waiter::is_woken, std::memory_order_release);
	futex_wake(word, 1);
}

worker_id woken_workers::take() noexcept
{
	const region keeps_its_processor;
	const std::lock_guard lock(lock_);
	if (cds_list_empty(&ready_))
		return worker_id::none;
	auto &first = of_node(ready_.next);
	remove(first);
	const auto id = first.id;
	// It may go on, and be gone, behind this.
	if (auto &word = first.self->woken; word.load(std::memory_order_relaxed) == waiter::is_woken)
		word.store(waiter::taken, std::memory_order_release);
	return id;
}

void woken_workers::close() noexcept
{
	if (forks_ != forks_so_far())
		return;
	const region keeps_its_processor;
	const std::lock_guard lock(lock_);
	closed_.store(true, std::memory_order_release);
	while (!cds_list_empty(&waiting_))
		make_ready(of_node(waiting_.next));
}

// 1: the kernel knows what is to be said.
int woken_workers::poll(int list_fd, const deadline &until) noexcept
{
	using clock = std::chrono::steady_clock;

	std::array<pollfd, 2> fds{pollfd{.fd = list_fd, .events = POLLIN, .revents = 0},
				  pollfd{.fd = event_->native_handle(), .events = POLLIN, .revents = 0}};
	for (bool last = false;;) {
		{
			const region keeps_its_processor;
			const std::lock_guard lock(lock_);
			if (!cds_list_empty(&ready_))
				return 0;
			pollers_++;
		}
		timespec left{};
		if (until) {
			const auto now = clock::now();
			last = *until <= now;
			if (!last)
				left = to_timespec(*until - now);
		}
		const int was = errno;
		// As ums_wait() it is no cancellation point.
		const long ready =
			syscall(SYS_ppoll, fds.data(), fds.size(), until ? &left : nullptr, nullptr, std::size_t{0});
		const int error = ready < 0 ? errno : 0;
		errno = was;
		const region keeps_its_processor;
		const std::lock_guard lock(lock_);
		pollers_--;
		if (!cds_list_empty(&ready_))
			return 0;
		if (error)
			return -error;
		// The child of fork() may have set it.
		if (fds[1].revents) {
			event_->clear();
			is_set_ = false;
		}
		if (fds[0].revents)
			return fds[0].revents == POLLIN ? 0 : 1;
		if (last)
			return -ETIMEDOUT;
	}
}

int woken_workers::wait(int list_fd, const deadline &until) noexcept
{
	const auto ask = [&](const deadline &time) {
		const auto ts = to_timespec(
			time ? std::max(time->time_since_epoch(), std::chrono::nanoseconds::zero()) : std::chrono::nanoseconds{});
		const __kernel_timespec timeout{.tv_sec = ts.tv_sec, .tv_nsec = ts.tv_nsec};
		return ums_wait(list_fd, time ? &timeout : nullptr, time ? UMS_WAIT_ABSTIME : 0);
	};

	if (!has_event_.load(std::memory_order_acquire)) {
		kernel_sleepers_.fetch_add(1, std::memory_order_seq_cst);
		const bool sleeps = !has_event_.load(std::memory_order_seq_cst);
		const int ret = sleeps ? ask(until) : 0;
		kernel_sleepers_.fetch_sub(1, std::memory_order_relaxed);
		if (sleeps)
			return ret;
	}
	for (;;) {
		if (const int ret = poll(list_fd, until); ret <= 0)
			return ret;
		// Not to sleep there: things may have changed.
		if (const int ret = ask(std::chrono::steady_clock::time_point{}); ret != -ETIMEDOUT)
			return ret;
	}
}

} // namespace ums::detail

// SPDX-License-Identifier: MIT
#include "alarm_clock.hpp"

#include <utility>

#include <unistd.h>

#include "thread.hpp"
#include "throw_error.hpp"

namespace ums::detail {

alarm_clock::alarm_clock(std::vector<has_alarms *> whom) : whom_(std::move(whom))
{
	for (const auto *w : whom_)
		fds_.push_back({.fd = w->timer_handle(), .events = POLLIN, .revents = 0});
	fds_.push_back({.fd = end_.native_handle(), .events = POLLIN, .revents = 0});
	const thread_options options{.no_signals = true, .affinity = {}};
	if (const int error = create_thread(thread_, options, main, this))
		throw_error(error, "ums: alarm clock");
	tid_.wait(0);
	outrank_caller();
}

alarm_clock::~alarm_clock()
{
	// In the child of fork() there is no such thread.
	if (forks_ != forks_so_far())
		return;
	ending_.store(true, std::memory_order_relaxed);
	end_.set();
	// No cancellation point.
	int was;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &was);
	pthread_join(thread_, nullptr);
	pthread_setcancelstate(was, nullptr);
}

void alarm_clock::outrank_caller() const noexcept
{
	outrank(tid_.load(std::memory_order_relaxed), 0);
}

void *alarm_clock::main(void *self) noexcept
{
	name_this_thread("ums-alarm");
	auto &clock = *static_cast<alarm_clock *>(self);
	clock.tid_.store(gettid());
	clock.tid_.notify_one();
	clock.run();
	return nullptr;
}

void alarm_clock::run() noexcept
{
	while (!ending_.load(std::memory_order_relaxed)) {
		const bool failed = poll(fds_.data(), fds_.size(), -1) < 0; // the limit of descriptors has become too small
		for (std::size_t i = 0; i < whom_.size(); i++)
			if (failed || fds_[i].revents)
				whom_[i]->alarm();
		if (failed)
			usleep(1000);
	}
}

} // namespace ums::detail

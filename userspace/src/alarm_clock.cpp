// SPDX-License-Identifier: MIT
#include "alarm_clock.hpp"

#include <sched.h>
#include <unistd.h>

#include "loop_scheduler.hpp"
#include "thread.hpp"
#include "throw_error.hpp"

namespace ums::detail {

alarm_clock::alarm_clock(std::span<const std::unique_ptr<loop_scheduler>> schedulers) : schedulers_(schedulers)
{
	for (const auto &s : schedulers_)
		fds_.push_back({.fd = s->timer_handle(), .events = POLLIN, .revents = 0});
	fds_.push_back({.fd = end_.native_handle(), .events = POLLIN, .revents = 0});
	const thread_options options{.no_signals = true, .affinity = {}};
	if (const int error = create_thread(thread_, options, main, this))
		throw_error(error, "ums::run_loop: alarm clock");
}

alarm_clock::~alarm_clock()
{
	ending_.store(true, std::memory_order_relaxed);
	end_.set();
	pthread_join(thread_, nullptr);
}

void *alarm_clock::main(void *self) noexcept
{
	name_this_thread("ums-alarm");
	static_cast<alarm_clock *>(self)->run();
	return nullptr;
}

void alarm_clock::run() noexcept
{
	// Schedulers in real time would keep it waiting.
	if (sched_param param; sched_getscheduler(0) == SCHED_FIFO || sched_getscheduler(0) == SCHED_RR) {
		sched_getparam(0, &param);
		param.sched_priority++;
		sched_setscheduler(0, SCHED_FIFO, &param); // it stays beside them if it must not
	}
	while (!ending_.load(std::memory_order_relaxed)) {
		const bool failed = poll(fds_.data(), fds_.size(), -1) < 0; // the limit of descriptors has become too small
		for (std::size_t i = 0; i < schedulers_.size(); i++)
			if (failed || fds_[i].revents)
				schedulers_[i]->alarm();
		if (failed)
			usleep(1000);
	}
}

} // namespace ums::detail

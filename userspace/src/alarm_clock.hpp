// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include <poll.h>
#include <pthread.h>

#include "event_fd.hpp"

namespace ums::detail {

class loop_scheduler;

// The thread that tells the schedulers of a run_loop, while they run workers, that the first of their timers has
// expired: an ordinary one, so that it is on time whatever those do. One that has nothing to run waits itself.
class alarm_clock
{
public:
	// For all of the loop, which must outlive it. Throws std::system_error.
	explicit alarm_clock(std::span<const std::unique_ptr<loop_scheduler>> schedulers);
	alarm_clock(const alarm_clock &) = delete;
	alarm_clock &operator=(const alarm_clock &) = delete;
	~alarm_clock();

private:
	static void *main(void *self) noexcept;
	void run() noexcept;

	const std::span<const std::unique_ptr<loop_scheduler>> schedulers_;
	std::vector<pollfd> fds_;
	event_fd end_;
	std::atomic<bool> ending_{false};
	pthread_t thread_;
};

} // namespace ums::detail

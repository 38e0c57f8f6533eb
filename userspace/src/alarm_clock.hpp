// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include <poll.h>
#include <pthread.h>
#include <sys/types.h>

#include "context.hpp"
#include "event_fd.hpp"

namespace ums::detail {

// Who has timers, and is told that the first of them has expired.
class has_alarms
{
public:
	virtual int timer_handle() const noexcept = 0; // readable then
	virtual void alarm() noexcept = 0;

protected:
	~has_alarms() = default;
};

// The thread that tells them, while workers run: an ordinary one, so that it is on time whatever those do.
class alarm_clock
{
public:
	// For all of these, which must outlive it. Throws std::system_error.
	explicit alarm_clock(std::vector<has_alarms *> whom);
	alarm_clock(const alarm_clock &) = delete;
	alarm_clock &operator=(const alarm_clock &) = delete;
	~alarm_clock();

	// See outrank(), of this thread and the calling one.
	void outrank_caller() const noexcept;

private:
	static void *main(void *self) noexcept;
	void run() noexcept;

	const std::vector<has_alarms *> whom_;
	std::vector<pollfd> fds_;
	event_fd end_;
	std::atomic<bool> ending_{false};
	const std::uint32_t forks_ = forks_so_far();
	pthread_t thread_;
	std::atomic<pid_t> tid_{0};
};

} // namespace ums::detail

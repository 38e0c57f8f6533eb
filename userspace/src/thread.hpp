// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include <pthread.h>
#include <sched.h>
#include <sys/types.h>

namespace ums::detail {

struct thread_options {
	std::size_t stack_size = 0; // 0: the default
	bool detached = false;
	bool no_signals = false; // it blocks them all
	std::optional<cpu_set_t> affinity; // none: as the caller's
};

// pthread_create(3). Returns 0 or an error number.
int create_thread(pthread_t &thread, const thread_options &options, void *(*main)(void *),
		  void *argument) noexcept;

// If @other is in real time (SCHED_FIFO, SCHED_RR), @thread comes before it from now on, and before others of its
// priority, if the caller may arrange that. 0: the calling thread.
void outrank(pid_t thread, pid_t other) noexcept;

// Names the calling thread; 15 bytes are kept, an empty name changes nothing.
void name_this_thread(const std::string &name) noexcept;

} // namespace ums::detail

// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "context.hpp"

extern "C" {

// From the calling worker to the scheduler that runs it, for which its run() returns reason::yielded with @p argument.
// Returns 0 when the worker has been resumed; 1, at once, when the scheduler is none that can be switched to.
int ums_switch_to_scheduler(ums::detail::worker_context *from, std::uint64_t argument, std::uint64_t id,
			    ums_slot *slot);

// From the calling scheduler to a worker that is saved. Returns 0 when an upcall has come, or a worker has
// switched back.
long ums_switch_to_worker(ums::detail::upcall_context *from, ums::detail::worker_context *to);

} // extern "C"

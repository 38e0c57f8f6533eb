// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "context.hpp"
#include "loop_entry.hpp"

extern "C" {

// All of them return when the calling context has been resumed, after ums_attend() if the kernel wants something of
// it; those of workers also at once, if the other one cannot be switched to.

// From the calling scheduler to a worker that was saved, and is claimed. @wanted: it is to call ums_attend() in any
// case. (ums_run(), in scheduler.hpp, claims it, too.)
void ums_switch_to_worker(ums::detail::upcall_context *from, ums::detail::worker_context *to, bool wanted);

// From the calling worker to the scheduler that runs it: a yield; with context_parked, which its word says already; or
// in order to have another one run.
void ums_leave(ums::detail::worker_context *from, std::uint64_t argument);
void ums_park(ums::detail::worker_context *from);
void ums_ask_scheduler(ums::detail::worker_context *from);

// To the same: for it, blocked by @cause.
void ums_block(ums::detail::worker_context *from, std::uint64_t cause);

// From the calling worker to another one, if that was saved under the same scheduler, with context_parked
// likewise.
void ums_park_to(ums::detail::worker_context *from, ums::detail::worker_context *to);

// In this_worker.hpp: ums_switch_to(), from the calling worker to another one, if that was saved under the same
// scheduler; otherwise it does ums_switch_slow(). ums_switch_away(), in a run_loop to the next one in the ring of its
// scheduler, unless that has more to do than to go on with it, or else to the scheduler; otherwise it does
// ums_yield_slow().

// In this_worker.cpp.
void ums_attend();
void ums_switch_slow(ums::detail::worker_context *to, std::uint64_t id);
void ums_yield_slow(std::uint64_t argument);
UMS_EXPORT void *ums_tsan_scheduler(void); // in sanitizer.hpp

} // extern "C"

// SPDX-License-Identifier: MIT
#pragma once

#include <system_error>

#include <ums/export.hpp>
#include <ums/worker_id.hpp>

namespace ums {

/// Stops a running worker, also one that never enters the kernel: it goes to its completion list, and its
/// scheduler gets reason::preempted. Any thread of the process. If the worker blocks, yields or ends first,
/// that happens instead; in a no_upcall_region it stops at the region's end.
/// Error: errc::no_such_worker, errc::ended, errc::blocked (no scheduler runs it),
/// errc::not_permitted.
UMS_EXPORT void preempt(worker_id id, std::error_code &ec) noexcept;

/// The same; throws std::system_error.
UMS_EXPORT void preempt(worker_id id);

} // namespace ums

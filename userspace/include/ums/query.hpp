// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <ums/export.hpp>
#include <ums/ums.h>
#include <ums/worker_id.hpp>

namespace ums {

/// All that the kernel knows of a worker of this process: state, cause of the block, who runs it, exit
/// status, counters, times in nanoseconds. Any thread. An ended worker is known until its slot is used
/// anew. Throws std::system_error with errc::no_such_worker, errc::ended or
/// errc::not_permitted.
UMS_EXPORT ums_info query(worker_id id);

/// The same of any thread of this process, 0: the calling one; member role says what it is.
/// Throws std::system_error: no_such_process; function_not_supported without UMS.
UMS_EXPORT ums_info query_thread(pid_t tid = 0);

} // namespace ums

// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace ums {

/// Names a worker in its process. The kernel gives it and never uses it again, so one that outlived its
/// worker is told from a live one; but those that follow each other on one thread of a run_loop with user_switch share it.
/// A plain value: hash, compare, copy at will, from any thread.
enum class worker_id : std::uint64_t { none = 0 };

} // namespace ums

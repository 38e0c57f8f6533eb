// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string_view>

#include <ums/export.hpp>

namespace ums {

/// The name of a system call ("read") by its number, as event::cause() gives it; "page fault" for
/// UMS_CAUSE_FAULT, "wait in user mode" for cause_wait; empty for a number unknown to the kernel headers that the
/// library was built with.
UMS_EXPORT std::string_view system_call_name(std::uint64_t number) noexcept;

} // namespace ums

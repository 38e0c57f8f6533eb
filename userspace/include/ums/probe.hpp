// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include <ums/export.hpp>
#include <ums/ums.h>

namespace ums {

enum class availability {
	available,     ///< UMS can be used
	not_in_kernel, ///< this kernel has no UMS
	disabled,      ///< it has, but refuses it to the caller (sysctl kernel.ums_disabled)
};

struct probe_result {
	availability status = availability::not_in_kernel;
	std::uint32_t version = 0;     ///< UMS_ABI_VERSION of the kernel; 0 without UMS
	std::uint64_t features = 0;    ///< UMS_FEATURE_* of the kernel
	std::uint32_t max_workers = 0; ///< of one completion list
	std::uint32_t max_lists = 0;   ///< of one process

	bool has(std::uint64_t feature) const noexcept { return (features & feature) == feature; }
	explicit operator bool() const noexcept { return status == availability::available; }
};

/// Asks the kernel what it offers. Any thread, at any time; one system call; never fails.
UMS_EXPORT probe_result probe() noexcept;

/// One sentence for a person: "user-mode scheduling is available", or what is in the way.
UMS_EXPORT const char *to_string(availability status) noexcept;

} // namespace ums

// SPDX-License-Identifier: MIT
#pragma once

#include <cerrno>
#include <system_error>
#include <type_traits>

#include <ums/export.hpp>

namespace ums {

/// Why a worker could not be executed or preempted. Windows' ExecuteUmsThread answered most of these with
/// ERROR_RETRY; here each has its own code, and none asks for a retry.
enum class errc {
	no_such_worker = ESRCH,	 ///< there was never one of this id, or its list is closed
	ended = ESTALE,		 ///< it has ended, or has become an ordinary thread
	running = EBUSY,	 ///< a scheduler runs it already, or its context is in user memory or on another thread
	blocked = EAGAIN,	 ///< run: it is blocked in the kernel; preempt: no scheduler runs it
	on_list = EEXIST,	 ///< it is still on its completion list: take it from there first
	not_a_scheduler = EPERM, ///< the calling thread is no scheduler
	not_permitted = EACCES,	 ///< it has other credentials or seccomp filters than the caller; see ums(7)
};

/// The category of ums::errc. Its codes also compare equal to the std::errc of the same error number.
UMS_EXPORT const std::error_category &category() noexcept;

inline std::error_code make_error_code(errc e) noexcept
{
	return {static_cast<int>(e), category()};
}

} // namespace ums

template <>
struct std::is_error_code_enum<ums::errc> : std::true_type {
};

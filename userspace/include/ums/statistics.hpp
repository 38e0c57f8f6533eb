// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <span>
#include <vector>

#include <sys/types.h>

#include <ums/export.hpp>

namespace ums {

/// What a scheduler has done so far.
struct scheduler_statistics {
	/// Blocks with the same cause: the number of a system call.
	struct blocks_in {
		std::uint64_t system_call = 0;
		std::uint64_t count = 0;
	};

	pid_t tid = 0;		    ///< of its thread; 0 before it began
	int cpu = -1;		    ///< to which it is pinned; -1: to none
	std::uint64_t workers = 0;  ///< that it was first to run
	std::uint64_t ended = 0;    ///< that ended, or detached, on it
	std::uint64_t switches = 0; ///< times that it ran a worker
	std::uint64_t upcalls = 0;  ///< times that the kernel came back to it from a worker
	std::uint64_t faults = 0;   ///< blocks for a page fault
	std::uint64_t yields = 0;   ///< from one to the next in user mode: counted when it runs itself again
	std::uint64_t preemptions = 0;
	std::chrono::nanoseconds idle{0}; ///< slept since it had nothing to run
	std::vector<blocks_in> blocks;	  ///< blocks in system calls, ascending by number

	/// All blocks in system calls.
	UMS_EXPORT std::uint64_t system_call_blocks() const noexcept;
};

/// Prints a table: one row for each figure and each system call in which workers blocked, one column for each
/// scheduler and one for the sum.
UMS_EXPORT void print(std::ostream &out, std::span<const scheduler_statistics> statistics);

} // namespace ums

// SPDX-License-Identifier: MIT
//
// Contexts: the registers of a worker or a scheduler, which a switch in user mode saves and loads. A worker's is in
// its slot, in the line that the kernel leaves to the application; a scheduler's is a member of ums::scheduler.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <ums/scheduler.hpp>
#include <ums/ums.h>
#include <ums/worker_id.hpp>

namespace ums::detail {

// worker_context::saved. switch.S writes the second.
enum context_state : std::uint64_t {
	live = 0,  // or in the kernel
	saved = 1, // to be resumed in user mode; the kernel does not have it
	wanted = 2 // resumed only to yield through the kernel, which is to have it
};

// In ums_slot::context. switch.S has these offsets.
//
// One writer at a time: the worker until it has switched out, then, once it is @saved, the scheduler that the
// switch has given it to.
struct worker_context {
	void *stack_pointer;	   // what must survive a call is on that stack
	std::uint64_t saved;	   // a context_state
	upcall_context *scheduler; // who runs it, and may be switched to; or null
	std::uint64_t scheduler_tid;
	void *thread_pointer; // null: it is not to be switched in user mode
	void *rseq;
};
static_assert(sizeof(worker_context) == sizeof(ums_slot::context));

inline worker_context &context_of(ums_slot &slot) noexcept
{
	// The kernel's header has no better type for what is the application's.
	auto *words = reinterpret_cast<char *>(&slot) + offsetof(ums_slot, context);
	return *reinterpret_cast<worker_context *>(words);
}

// Whether this process may switch in user mode: the kernel and the processor can (UMS_FEATURE_USER_SWITCH), and
// the C library has registered an rseq area for each thread. No lock, and no system call after the first time.
bool can_switch() noexcept;

// The thread pointer and the rseq area of the calling thread.
inline void *thread_pointer() noexcept { return __builtin_thread_pointer(); }
void *rseq_area() noexcept;

// Where slots are: the completion lists of this library, by the number in an id. Lock-free.
void add_slots(std::uint32_t list_nr, ums_slot *slots, std::uint32_t n) noexcept;
void remove_slots(std::uint32_t list_nr, ums_slot *slots) noexcept;

// In the child of fork(), which has none.
void forget_slots() noexcept;

// The slot of a worker; null if its list was not made by this library, or it has left that slot.
ums_slot *find_slot(worker_id id) noexcept;

} // namespace ums::detail

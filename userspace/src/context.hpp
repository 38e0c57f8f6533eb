// SPDX-License-Identifier: MIT
//
// Contexts: the registers of a worker or a scheduler, which a switch in user mode saves and loads. A worker's is in
// its slot, in the line that the kernel leaves to the application; a scheduler's is a member of ums::scheduler.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <ums/scheduler.hpp>
#include <ums/ums.h>
#include <ums/worker_id.hpp>

namespace ums::detail {

// worker_context::scheduler: the address of the upcall_context of a scheduler, and
constexpr std::uintptr_t context_saved = 1; // it was the last to run the worker, which is saved; or
constexpr std::uintptr_t context_wanted = 2; // without an address: it runs only to yield through the kernel; or
constexpr std::uintptr_t context_parked = 4; // besides context_saved: it waits, to be resumed when it has been woken

// In ums_slot::context. switch.S has these offsets. The kernel sets it to 0 when the worker begins and when it ends,
// or is let go by its list.
struct worker_context {
	void *stack_pointer; // what must survive a call is on that stack

	// Who runs it and may be switched to: the kernel, or another worker, has changed nothing since. 0: nobody.
	// With context_saved, to be resumed in user mode. Written by the worker until it has switched out, then by
	// the scheduler that the switch has given it to; switches within one scheduler are one after the other.
	std::atomic<std::uintptr_t> scheduler;

	void *thread_pointer;
	void *rseq;
	std::int64_t request; // of switch_to(): the id to go on with; in return 0 or a negative error number
	std::uint64_t control_words; // of SSE and x87
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

struct slots_of_list {
	std::atomic<ums_slot *> slots;
	std::atomic<std::uint64_t> n; // 0: none
};
extern std::array<slots_of_list, UMS_MAX_LISTS> slots_of_lists asm("ums_slots_of_lists");

// In the child of fork(), which has none.
void forget_slots() noexcept;

void forget_schedulers() noexcept;

// How often there was a child, from the first process with this library to this one.
std::uint32_t forks_so_far() noexcept;

// The slot of a worker; null if its list was not made by this library, or it has left that slot.
inline ums_slot *find_slot(worker_id id) noexcept
{
	const auto n = static_cast<std::uint64_t>(id);
	const auto &list = slots_of_lists[UMS_ID_LIST(n)];
	if (UMS_ID_SLOT(n) >= list.n.load(std::memory_order_acquire))
		return nullptr;
	// It may be another worker's by now.
	auto &slot = list.slots.load(std::memory_order_relaxed)[UMS_ID_SLOT(n)];
	return __atomic_load_n(&slot.id, __ATOMIC_ACQUIRE) == n ? &slot : nullptr;
}

} // namespace ums::detail

// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <ums/completion_list.hpp>
#include <ums/worker_id.hpp>

#include "context.hpp"
#include "loop_entry.hpp"

namespace ums::detail {

class wait_timer;

// What the library knows of the calling thread, if it is a worker. Plain data, initial-exec: reached without a function
// that might allocate; switch.S has the offsets.
struct this_worker_state {
	worker_id id;
	ums_slot *slot;
	worker_context *context; // or that of nobody, from which nothing can be switched to
	loop_entry *entry;	 // in a run_loop, and to be switched in user mode; or no_entry, behind which is nobody
	void *rseq;		 // its area; or one of nobody
	bool slot_outlives;	 // the slot stays mapped until the thread has ended
	unsigned inner_regions;	 // in which it must not even yield: see region.hpp
	wait_timer *timer; // with which it may wait for its list, if not for ever; or null
	void (*on_detach)(void *);
	void *on_detach_argument;
};

// A switch from there looks at a slot, and writes to an area, before it finds out that it cannot be.
struct slot_of_nobody {
	std::array<std::byte, offsetof(ums_slot, context)> slot{};
	worker_context context{};
	alignas(32) std::array<std::byte, 32> area{};
};
extern slot_of_nobody nobody;
extern loop_entry no_entry;

[[gnu::tls_model("initial-exec")]] extern thread_local constinit this_worker_state me asm("ums_this_worker");

// Whether the calling thread is a worker that can be switched in user mode, and one of a run_loop.
inline bool is_switchable() noexcept { return me.context != &nobody.context; }
inline bool is_in_loop() noexcept { return me.entry != &no_entry; }

// Enters the kernel for what that wants of the calling worker, if it does. For one that has left a region, or has not
// switched where it might have.
void heed_attention() noexcept;

// The calling thread becomes a worker of the list of these pages. Returns its id when it is executed for the
// first time, or a negative error number.
// With user_switch it may be switched in user mode, if this machine can.
// @slot_outlives: somebody else keeps the pages until the thread has ended.
long become_worker(int list_fd, const std::shared_ptr<list_pages> &pages, std::uint64_t user_data,
		   bool user_switch, bool slot_outlives) noexcept;

// The calling worker is of a run_loop.
void belongs_to(loop_entry &entry) noexcept;

// The calling worker, if it is one still, ends, but not its thread: an ordinary one then.
void end_as_worker() noexcept;

// The calling worker, of a list, may wait with a timeout in user mode; if there is the memory.
void get_timer() noexcept;

// What is to be done once when the calling worker becomes an ordinary thread: ums::worker gives its place
// back.
void on_detach(void (*function)(void *), void *argument) noexcept;

} // namespace ums::detail

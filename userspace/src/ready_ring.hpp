// SPDX-License-Identifier: MIT
//
// The ring of a run_loop's scheduler: all of its workers that are ready, and the one that runs. The one behind that is
// next, the one before it is last, so that a yield only goes on to the next.
//
// What runs for one scheduler, itself or a worker, is one after the other. A worker may change the ring in a
// no_upcall region only: nothing else runs for that scheduler meanwhile.
#pragma once

#include <ums/scheduler.hpp>

#include "loop_entry.hpp"

namespace ums::detail {

// @before: a member, the one that runs; null: the scheduler's cursor, if there is any member.
inline void ring_add(upcall_context &ring, loop_entry &entry, loop_entry *before = nullptr) noexcept
{
	if (!before)
		before = ring.cursor;
	if (!before) {
		entry.next = entry.prev = ring.cursor = &entry;
		return;
	}
	entry.next = before;
	entry.prev = before->prev;
	before->prev->next = &entry;
	before->prev = &entry;
}

// The one behind it is next.
inline void ring_remove(upcall_context &ring, loop_entry &entry) noexcept
{
	ring.cursor = entry.next == &entry ? nullptr : entry.next;
	entry.prev->next = entry.next;
	entry.next->prev = entry.prev;
	entry.next = entry.prev = nullptr;
}

} // namespace ums::detail

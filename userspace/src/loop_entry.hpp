// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

#include <urcu/lfstack.h>
#include <urcu/rculfhash.h>

#include <ums/worker.hpp>
#include <ums/worker_id.hpp>

#include "timer_queue.hpp"

namespace ums::detail {

class loop_scheduler;
struct loop_entry;
struct work_item;
struct worker_context;

using loop_timers = timer_queue<loop_entry>;

// What a run_loop knows of one of its workers. Made by spawn(); from the first time the worker comes to its
// scheduler until it ends it is in the registry; then, a grace period later, it serves another worker. Memory
// goes back when the loop does, so that a scheduler never has to call free().
struct loop_entry {
	// In the ring of its scheduler, while it is ready or runs; switch.S has these offsets.
	loop_entry *next = nullptr;
	loop_entry *prev = nullptr;
	worker_context *context = nullptr;

	loop_scheduler *owner = nullptr;
	std::unique_ptr<loop_timers::timer> timer;

	// Once its worker has ended, its thread waits for another one: see loop_scheduler::next_work().
	std::atomic<bool> idle{false};
	loop_entry *next_idle = nullptr;
	std::unique_ptr<body> work;		    // what it is to do then; null: to end
	work_item *finished_item = nullptr; // in which that came
	cds_lfht_node by_id{}; // in the registry
	cds_lfs_node free{};   // among the retired entries, then the free ones
	cds_lfs_node all{};    // among all entries

	std::atomic<std::uint64_t> id{0};
	std::atomic<unsigned> scheduler{0};
	std::array<char, 16> name{}; // written before the worker exists
};

static_assert(std::is_standard_layout_v<loop_entry>); // offsetof() is used

inline loop_entry *entry_by_id(cds_lfht_node *node) noexcept
{
	return reinterpret_cast<loop_entry *>(reinterpret_cast<char *>(node) - offsetof(loop_entry, by_id));
}

inline loop_entry *entry_of_free(cds_lfs_node *node) noexcept
{
	return reinterpret_cast<loop_entry *>(reinterpret_cast<char *>(node) - offsetof(loop_entry, free));
}

inline loop_entry *entry_of_all(cds_lfs_node *node) noexcept
{
	return reinterpret_cast<loop_entry *>(reinterpret_cast<char *>(node) - offsetof(loop_entry, all));
}

} // namespace ums::detail

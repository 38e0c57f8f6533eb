// SPDX-License-Identifier: MIT
//
// How a thread waits for another one, whatever it is:
//
//	a worker of a run_loop that may be switched in user mode leaves the ring of its scheduler, and the next one goes
//	on; woken, it is put into the ring again, at once by a worker of the same scheduler, by way of its inbox by others,
//	or when the time has come until which it waits: who was first is known to it alone;
//
//	one of a list that has a scheduler of its own switches to that; woken, or when its time has come, it is on its list
//	again;
//
//	any other thread sleeps in the kernel, on a futex; a worker's scheduler hears of that as of any block.
//
// A worker keeps its processor (no_upcall) from before it takes the lock of a queue until it waits: were it stopped
// between, its scheduler, or who runs next, might wait for that lock, and woken, it would be ready while it runs.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <utility>

#include <ums/deadline.hpp>
#include <ums/ums.h>
#include <ums/wait_queue.hpp>

#include "inbox.hpp"
#include "loop_entry.hpp"
#include "loop_scheduler.hpp"
#include "region.hpp"
#include "this_worker_state.hpp"
#include "woken_workers.hpp"

namespace ums::detail {

// One that waits, on its stack.
struct waiter : inbox_item {
	// Of the word @woken.
	enum : std::uint32_t {
		waits,
		is_woken,
		taken, // from @list, by who is to run it
	};

	waiter() noexcept : inbox_item(news::woken) {}

	waiter *next, *prev; // in a wait_queue, under its lock
	bool queued = false;
	bool granted = false;	// what it waited for has been given to it; written before it is woken
	bool exclusive = false; // of a shared_mutex
	bool insists = false;	// of a mutex: was woken, and came too late
	void *item = nullptr;	// of a channel

	loop_entry *entry = nullptr;
	woken_workers *list = nullptr;	// of both null: it sleeps in the kernel
	woken_workers::place place;	// with @list
	std::atomic<std::uint32_t> woken{waits};
	bool delivered = false; // its scheduler knows, and will not look at it again

	// Ends the wait. Once it is in no queue, by who took it from there, still in its region; it may be gone
	// afterwards.
	void wake() noexcept;
};

// Those of a take_all().
inline void wake_all(waiter *w) noexcept
{
	while (w) {
		auto *next = w->next;
		w->wake();
		w = next;
	}
}

// The lock of a queue, in a region. Unlocked, the region stays, for those who wake.
class queue_lock
{
public:
	explicit queue_lock(base::wait_queue &queue) noexcept : lock_(queue) {}
	void unlock() noexcept { lock_.unlock(); }

	// The calling thread, @me, which is in the queue or was, unlocks it if it is locked, and waits until it is woken:
	// true. False after @until: it has left the queue, which is locked again.
	bool wait(waiter &me, const deadline &until = {}) noexcept;

private:
	bool wait_until(waiter &me, loop_timers::time_point until) noexcept;
	bool wait_in_kernel(waiter &me, const deadline &until) noexcept;
	bool wait_for_list(waiter &me, const deadline &until) noexcept;

	// Its scheduler has died: as any worker without one it waits for one in the kernel.
	bool wait_for_a_scheduler(waiter &me, const deadline &until) noexcept;

	// Its time has come. False if somebody has it in hand, and will say so.
	bool leave(waiter &me) noexcept;

	region region_;
	std::unique_lock<base::wait_queue> lock_;
};

// The calling thread, about to wait. To be made in the region.
struct parking : waiter {
	explicit parking(const deadline &until) noexcept
	{
		// In the program's region, too, or in a handler that has interrupted one, it does not let others run.
		if (is_in_loop()) {
			if (me.slot->no_upcall == 1 && me.entry->owner->runs_here())
				entry = me.entry;
		} else if (is_switchable() && me.slot->no_upcall == 1 && (!until || me.timer)) {
			list = list_with_scheduler();
			place = {.node = {}, .self = this, .id = me.id, .timer = nullptr, .at = {}};
		}
	}

private:
	// The calling worker's, if it runs under the scheduler of that.
	static woken_workers *list_with_scheduler() noexcept
	{
		const auto word = me.context->scheduler.load(std::memory_order_relaxed);
		if (!word || word & (context_saved | context_wanted | context_parked))
			return nullptr;
		auto *own = reinterpret_cast<upcall_context *>(word)->own_list;
		// Not by its number, which another list may have by now.
		return own && ums_list_slot(&own->map, static_cast<std::uint64_t>(me.id)) == me.slot ? own->woken.get()
												     : nullptr;
	}
};

// Sleeps in the kernel as long as @word is @value. False after @until.
bool futex_wait(std::atomic<std::uint32_t> &word, std::uint32_t value, const deadline &until = {}) noexcept;
void futex_wake(std::atomic<std::uint32_t> &word, int n) noexcept;

inline void waiter::wake() noexcept
{
	if (entry) {
		entry->owner->wake(*this);
		return;
	}
	if (list) {
		list->add(*this);
		return;
	}
	// The address is all that is used of it then.
	auto &word = woken;
	word.store(is_woken, std::memory_order_release);
	futex_wake(word, 1);
}

inline bool queue_lock::wait(waiter &me, const deadline &until) noexcept
{
	if (lock_.owns_lock())
		unlock();
	if (!me.entry)
		return me.list ? wait_for_list(me, until) : wait_in_kernel(me, until);
	if (until)
		return wait_until(me, *until);
	return me.entry->owner->park() || wait_for_a_scheduler(me, {});
}

} // namespace ums::detail

namespace ums::base {

inline void wait_queue::push_back(waiter &w) noexcept
{
	w.next = nullptr;
	w.prev = last_;
	(last_ ? last_->next : first_) = &w;
	last_ = &w;
	w.queued = true;
}

inline void wait_queue::push_front(waiter &w) noexcept
{
	w.prev = nullptr;
	w.next = first_;
	(first_ ? first_->prev : last_) = &w;
	first_ = &w;
	w.queued = true;
}

inline void wait_queue::remove(waiter &w) noexcept
{
	(w.prev ? w.prev->next : first_) = w.next;
	(w.next ? w.next->prev : last_) = w.prev;
	w.queued = false;
}

inline waiter *wait_queue::pop_front() noexcept
{
	auto *w = first_;
	if (w)
		remove(*w);
	return w;
}

inline waiter *wait_queue::take_all() noexcept
{
	auto *all = first_;
	for (auto *w = all; w; w = w->next)
		w->queued = false;
	first_ = last_ = nullptr;
	return all;
}

} // namespace ums::base

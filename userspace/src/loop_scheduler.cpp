// SPDX-License-Identifier: MIT
#include "loop_scheduler.hpp"

#include <array>
#include <cstdint>
#include <system_error>
#include <utility>

#include <poll.h>
#include <unistd.h>

#include <ums/error.hpp>

#include "parking.hpp"
#include "ready_ring.hpp"
#include "this_worker_state.hpp"
#include "throw_error.hpp"
#include "x86_64/switch.hpp"

namespace ums::detail {

bool loop_scheduler::reserve() noexcept
{
	if (load_.fetch_add(1, std::memory_order_relaxed) < list_.max_workers())
		return true;
	release();
	return false;
}

void loop_scheduler::serve(scheduler &me, std::chrono::nanoseconds slice) noexcept
{
	counters_.began(gettid(), cpu_);
	context_ = &me.context_;
	context_->published = reinterpret_cast<const std::uint64_t *>(&list_.pages()->map.header->tail);
	wakes_ = context_->thread_pointer;
	for (;;) {
		take_woken();
		take_published();
		if (context_->cursor)
			run(me, *context_->cursor, slice);
		else if (!sleep())
			break;
	}
	// Who has woken the last one may still be about to look whether this scheduler sleeps.
	if (wakes_)
		urcu_bp_synchronize_rcu();
	context_ = nullptr;
}

cds_lfs_stack_ptr_t loop_scheduler::inbox() noexcept
{
	static_assert(sizeof(__cds_lfs_stack) == sizeof(context_->inbox));
	cds_lfs_stack_ptr_t p;
	p._s = reinterpret_cast<__cds_lfs_stack *>(&context_->inbox);
	return p;
}

// It may be resumed.
void loop_scheduler::unpark(loop_entry &entry) noexcept
{
	entry.context->scheduler.fetch_and(~context_parked, std::memory_order_relaxed);
}

// Workers that have been woken, first come first served: the newest is first here, so each goes before the one before.
void loop_scheduler::take_woken() noexcept
{
	if (!__atomic_load_n(&context_->inbox, __ATOMIC_RELAXED))
		return;
	loop_entry *before = nullptr;
	auto *node = reinterpret_cast<cds_lfs_node *>(__cds_lfs_pop_all(inbox()));
	while (node) {
		// It may be gone as soon as its worker runs.
		auto *next = node->next;
		auto &entry = *waiter_of_inbox(node)->entry;
		unpark(entry);
		ring_add(*context_, entry, before);
		before = &entry;
		node = next;
	}
}

void loop_scheduler::wake(waiter &w) noexcept
{
	auto &entry = *w.entry;
	// By a worker that runs for this scheduler, and keeps its processor.
	if (runs_here()) {
		unpark(entry);
		ring_add(*context_, entry, me.entry);
		return;
	}
	const rcu_read_section section;
	w.woken.store(1, std::memory_order_relaxed);
	cds_lfs_node_init(&w.inbox);
	cds_lfs_push(inbox(), &w.inbox);
	wake_up();
}

bool loop_scheduler::park() noexcept
{
	auto &entry = *me.entry;
	auto *next = entry.next == &entry ? nullptr : entry.next;
	ring_remove(*context_, entry);
	if (next && has_no_news()) {
		ums_park_to(me.context, next->context);
		if (entry.next)
			return true;
	}
	ums_park(me.context);
	return entry.next;
}

void loop_scheduler::wake_up() noexcept
{
	// Pairs with the store in sleep_for_news(): it sees what was pushed, or is seen asleep.
	std::atomic_thread_fence(std::memory_order_seq_cst);
	if (asleep_.load(std::memory_order_relaxed) && asleep_.exchange(false, std::memory_order_relaxed))
		event_.set();
}

// New, unblocked and preempted workers queue up behind those that wait already.
void loop_scheduler::take_published() noexcept
{
	std::array<worker_id, 32> ids;

	// The usual case, between two runs, is two loads.
	if (list_.empty())
		return;
	const auto n = list_.try_pop_many(ids);
	context_->seen = __atomic_load_n(&list_.pages()->map.header->head, __ATOMIC_RELAXED);
	for (std::size_t i = 0; i < n; i++) {
		auto *entry = workers_.find(ids[i]);
		if (!entry) {
			// The first time: its id becomes known now. Until then user_data leads to the entry.
			entry = reinterpret_cast<loop_entry *>(list_.user_data(ids[i]));
			entry->context = &context_of(list_.slot(ids[i]));
			workers_.add(*entry, ids[i]);
			counters_.new_worker();
		}
		// It is there already if somebody has executed it past the loop.
		if (!entry->next)
			ring_add(*context_, *entry);
	}
}

// One whose context is neither saved nor the kernel's: a worker that switched to it, or from it, was stopped in the
// middle of that, and comes back by the list.
void loop_scheduler::skip(loop_entry &entry) noexcept
{
	if (skipped_ && (skipped_ == &entry || !skipped_->next)) {
		// Once round.
		const auto a_moment = std::chrono::milliseconds(1);
		try {
			list_.wait_until(std::chrono::steady_clock::now() + a_moment);
		} catch (const std::system_error &) {
			// It is closed, or there are no more schedulers: sleep() says so.
		}
		skipped_ = nullptr;
	} else if (!skipped_) {
		skipped_ = &entry;
	}
	context_->cursor = entry.next;
}

void loop_scheduler::leave(loop_entry &entry) noexcept
{
	if (entry.next)
		ring_remove(*context_, entry);
}

void loop_scheduler::run(scheduler &me, loop_entry &first, std::chrono::nanoseconds slice) noexcept
{
	std::error_code ec;
	const worker_id id{first.id.load(std::memory_order_relaxed)};
	auto &slot = list_.slot(id);
	const event e = me.run(&slot, id, slice, ec);

	if (ec) {
		// Nobody here could ever run it, so the loop would not end: the exception leaves a noexcept function.
		if (ec == errc::not_permitted)
			throw_error(ec.value(), "ums::run_loop: worker");
		if (ec == errc::running && __atomic_load_n(&slot.state, __ATOMIC_RELAXED) == UMS_STATE_EMPTY) {
			skip(first);
			return;
		}
		// Its own doing: it left the loop by a system call of its own, or another scheduler took it,
		// and it will come back on its list if it comes back at all.
		leave(first);
		if (ec == errc::ended || ec == errc::no_such_worker)
			end(first);
		return;
	}

	skipped_ = nullptr;
	counters_.ran(e);
	if (context_->yields)
		counters_.yielded(std::exchange(context_->yields, 0));
	// Workers may have gone on to others by themselves. What is not found is not the loop's.
	auto *entry = e.worker == id ? &first : workers_.find(e.worker);
	if (!entry)
		return;
	if (e.reason == reason::yielded) {
		// Out of the ring, it waits, and has set the cursor.
		if (entry->next)
			context_->cursor = entry->next;
		return;
	}
	leave(*entry);
	if (e.is_last())
		end(*entry);
}

void loop_scheduler::end(loop_entry &entry) noexcept
{
	workers_.retire(entry);
	release();
	loop_.worker_ended();
}

// Sleeps until the list is not empty, or a worker has been woken. Returns false when the loop has ended.
bool loop_scheduler::sleep() noexcept
{
	using clock = std::chrono::steady_clock;

	if (loop_.ended())
		return false;
	const auto start = clock::now();
	std::error_code ec;
	if (!wakes_ || !sleep_for_news())
		list_.wait(ec);
	counters_.idled(clock::now() - start);
	// The end of the loop closes the list. A list that somebody else has closed is nothing to go on with:
	// the exception leaves a noexcept function.
	if (ec && ec != std::errc::interrupted && !loop_.ended())
		throw_error(ec.value(), "ums::run_loop: completion list");
	return true;
}

// False if there is something about the list that wait() can tell.
bool loop_scheduler::sleep_for_news() noexcept
{
	std::array<pollfd, 2> fds{pollfd{.fd = list_.native_handle(), .events = POLLIN, .revents = 0},
				  pollfd{.fd = event_.native_handle(), .events = POLLIN, .revents = 0}};

	// Pairs with the fence in wake_up().
	asleep_.store(true, std::memory_order_seq_cst);
	if (has_no_news() && !loop_.ended())
		poll(fds.data(), fds.size(), -1);
	asleep_.store(false, std::memory_order_relaxed);
	if (fds[1].revents)
		event_.clear();
	return !(fds[0].revents & ~POLLIN);
}

} // namespace ums::detail

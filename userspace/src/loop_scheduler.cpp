// SPDX-License-Identifier: MIT
#include "loop_scheduler.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <system_error>
#include <utility>

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <ums/error.hpp>

#include "parking.hpp"
#include "ready_ring.hpp"
#include "region.hpp"
#include "this_worker_state.hpp"
#include "thread.hpp"
#include "throw_error.hpp"
#include "timespec.hpp"
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
	context_->list_nr = list_.number();
	wakes_ = context_->thread_pointer;
	alarm_posted_.store(false, std::memory_order_release);
	for (;;) {
		take_woken();
		take_published();
		if (context_->cursor) {
			arm();
			run(me, *context_->cursor, slice);
		} else if (!sleep()) {
			break;
		}
	}
	// Who has woken the last one may still be about to look whether this scheduler sleeps, and so may the alarm clock.
	alarm_posted_.store(true, std::memory_order_relaxed);
	if (wakes_)
		urcu_bp_synchronize_rcu();
	list_.close();
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

// It has been woken, and may go on, if it does not already: its time may have come before. True if it has been added.
inline bool loop_scheduler::deliver(waiter &w, loop_entry *before) noexcept
{
	w.delivered = true;
	if (w.entry->next)
		return false;
	unpark(*w.entry);
	ring_add(*context_, *w.entry, before);
	return true;
}

// Workers that have been woken, first come first served: the newest is first here, so each goes before the one before.
void loop_scheduler::take_woken() noexcept
{
	if (!__atomic_load_n(&context_->inbox, __ATOMIC_RELAXED))
		return;
	const bool was_empty = !context_->cursor;
	bool rung = false;
	loop_entry *before = nullptr;
	auto *node = reinterpret_cast<cds_lfs_node *>(__cds_lfs_pop_all(inbox()));
	while (node) {
		// It may be gone as soon as its worker runs.
		auto *next = node->next;
		auto *item = item_of_inbox(node);
		if (item->kind == news::alarm) {
			rung = true;
		} else if (item->kind == news::work) {
			auto *work = static_cast<work_item *>(item);
			auto &entry = assign(std::move(work->body), work->name.data());
			entry.finished_item = work;
			unpark(entry);
			ring_add(*context_, entry, before);
			before = &entry;
		} else {
			auto &w = *static_cast<waiter *>(item);
			if (deliver(w, before))
				before = w.entry;
		}
		node = next;
	}
	if (was_empty)
		context_->cursor = before;
	if (rung) {
		armed_ = loop_timers::time_point::max();
		alarm_posted_.store(false, std::memory_order_release);
		expire();
	}
}

// Those whose time has come go on, if they do not already: they may have been woken before.
void loop_scheduler::expire() noexcept
{
	if (timers_.first() == loop_timers::time_point::max())
		return;
	const auto now = std::chrono::steady_clock::now();
	while (auto *entry = timers_.take_due(now)) {
		if (entry->next)
			continue;
		unpark(*entry);
		ring_add(*context_, *entry);
	}
}

// Workers are about to run: the alarm clock looks after the timers.
void loop_scheduler::arm() noexcept
{
	if (timers_.first() >= armed_)
		return;
	armed_ = timers_.first();
	timer_.set(armed_);
}

void loop_scheduler::alarm() noexcept
{
	timer_.clear();
	const rcu_read_section section;
	if (!alarm_posted_.exchange(true, std::memory_order_acquire))
		post(alarm_);
}

void loop_scheduler::wake(waiter &w) noexcept
{
	// By a worker that runs for this scheduler, and keeps its processor.
	if (runs_here()) {
		deliver(w, me.entry);
		return;
	}
	w.woken.store(1, std::memory_order_relaxed);
	post(w);
}

// By any thread. Its loop may be gone as soon as it is pushed, but for the section.
void loop_scheduler::post(inbox_item &item) noexcept
{
	const rcu_read_section section;
	cds_lfs_node_init(&item.node);
	cds_lfs_push(inbox(), &item.node);
	wake_up();
}

bool loop_scheduler::reserve_thread() noexcept
{
	auto n = free_threads_.load(std::memory_order_relaxed);
	while (n > 0)
		if (free_threads_.compare_exchange_weak(n, n - 1, std::memory_order_acquire,
							std::memory_order_relaxed))
			return true;
	return false;
}

// By what runs for it, which has reserved a thread.
loop_entry &loop_scheduler::assign(std::unique_ptr<body> work, std::string_view name) noexcept
{
	auto &entry = *idle_;
	idle_ = entry.next_idle;
	entry.work = std::move(work);
	entry.name.fill('\0');
	name.copy(entry.name.data(), entry.name.size() - 1);
	entry.idle.store(false, std::memory_order_release);
	counters_.new_worker();
	return entry;
}

bool loop_scheduler::give_work(std::unique_ptr<body> &work, std::string_view name)
{
	if (!reserve_thread())
		return false;
	{
		const region keeps_its_processor;
		if (runs_here()) {
			auto &entry = assign(std::move(work), name);
			unpark(entry);
			ring_add(*context_, entry, me.entry);
			return true;
		}
	}
	std::unique_ptr<work_item> item;
	try {
		item = std::make_unique<work_item>();
	} catch (...) {
		free_threads_.fetch_add(1, std::memory_order_relaxed);
		throw;
	}
	item->body = std::move(work);
	name.copy(item->name.data(), item->name.size() - 1);
	post(*item.release());
	return true;
}

std::unique_ptr<body> loop_scheduler::next_work(bool was_named) noexcept
{
	region keeps_its_processor;
	if (!runs_here())
		return nullptr;
	auto &entry = *me.entry;
	entry.idle.store(true, std::memory_order_release);
	entry.next_idle = std::exchange(idle_, &entry);
	free_threads_.fetch_add(1, std::memory_order_release);
	counters_.worker_ended();
	release();
	loop_.worker_ended();
	if (!park())
		return nullptr;
	keeps_its_processor.leave();
	// The memory that it came in, if another thread sent it.
	delete std::exchange(entry.finished_item, nullptr);
	if (entry.work && (was_named || entry.name[0]))
		name_this_thread(entry.name[0] ? entry.name.data() : program_invocation_short_name);
	return std::move(entry.work);
}

// The loop has ended: those that wait for work end.
void loop_scheduler::end_threads() noexcept
{
	while (idle_) {
		auto &entry = *std::exchange(idle_, idle_->next_idle);
		unpark(entry);
		ring_add(*context_, entry);
	}
}

void loop_scheduler::end() noexcept
{
	// Its threads that wait for work have to end before the list is closed: sleep().
	if (wakes_)
		wake_up();
	else
		list_.close();
}

bool loop_scheduler::park() noexcept
{
	auto &entry = *me.entry;
	auto *next = entry.next == &entry ? nullptr : entry.next;
	ring_remove(*context_, entry);
	// Before it leaves: it may be woken before it is marked as saved.
	me.context->scheduler.fetch_or(context_parked, std::memory_order_relaxed);
	if (next && has_no_news())
		ums_park_to(me.context, next->context);
	if (!entry.next)
		ums_park(me.context);
	if (entry.next)
		return true;
	unpark(entry);
	return false;
}

bool loop_scheduler::park_until(loop_timers::time_point until) noexcept
{
	auto &entry = *me.entry;
	timers_.set(*entry.timer, until);
	if (entry.next != &entry && has_no_news())
		arm();
	const bool resumed = park();
	timers_.cancel(*entry.timer);
	return resumed;
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
			threads_++;
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
			ended(first);
		return;
	}

	skipped_ = nullptr;
	if (context_->yields)
		counters_.yielded(std::exchange(context_->yields, 0));
	// Workers may have gone on to others by themselves. What is not found is not the loop's.
	auto *entry = e.worker == id ? &first : workers_.find(e.worker);
	if (!entry)
		return;
	if (e.reason == reason::yielded && !entry->next) {
		// It has left the ring by itself, and set the cursor.
		counters_.waited();
		return;
	}
	counters_.ran(e);
	if (e.reason == reason::yielded) {
		context_->cursor = entry->next;
		return;
	}
	leave(*entry);
	if (e.is_last())
		ended(*entry);
}

void loop_scheduler::ended(loop_entry &entry) noexcept
{
	const bool was_idle = entry.idle.load(std::memory_order_relaxed);
	threads_--;
	workers_.retire(entry);
	// The worker had ended before its thread waited for another one.
	if (was_idle)
		return;
	counters_.worker_ended();
	release();
	loop_.worker_ended();
}

namespace {

// poll() may be late by a thousandth of its timeout, or five: the alarm clock is for longer ones.
constexpr auto longest_poll = std::chrono::milliseconds(10);

} // namespace

void loop_scheduler::poll_news(std::span<pollfd> fds) noexcept
{
	timespec timeout{}, *left = nullptr;
	if (timers_.first() < loop_timers::time_point::max()) {
		const auto time = timers_.first() - std::chrono::steady_clock::now();
		if (time <= longest_poll) {
			timeout = to_timespec(std::max(time, time.zero()));
			left = &timeout;
		} else {
			arm();
		}
	}
	ppoll(fds.data(), fds.size(), left, nullptr);
}

// Sleeps until the list is not empty, a worker has been woken or the time of one has come. Returns false when the loop
// has ended.
bool loop_scheduler::sleep() noexcept
{
	using clock = std::chrono::steady_clock;

	if (loop_.ended()) {
		if (!threads_)
			return false;
		if (idle_) {
			end_threads();
			return true;
		}
	}
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
	if (has_no_news() && !(loop_.ended() && (idle_ || !threads_)))
		poll_news(fds);
	asleep_.store(false, std::memory_order_relaxed);
	if (fds[1].revents)
		event_.clear();
	expire();
	return !(fds[0].revents & ~POLLIN);
}

} // namespace ums::detail

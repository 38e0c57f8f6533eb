// SPDX-License-Identifier: MIT
#include "loop_scheduler.hpp"

#include <array>
#include <cstdint>
#include <system_error>

#include <unistd.h>

#include <ums/error.hpp>

#include "throw_error.hpp"

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
	for (;;) {
		take_published();
		if (auto *entry = ready_.pop())
			run(me, *entry, slice);
		else if (!sleep())
			return;
	}
}

// New, unblocked and preempted workers queue up behind those that wait already.
void loop_scheduler::take_published() noexcept
{
	std::array<worker_id, 32> ids;

	// The usual case, between two runs, is two loads.
	if (list_.empty())
		return;
	const auto n = list_.try_pop_many(ids);
	for (std::size_t i = 0; i < n; i++) {
		auto *entry = workers_.find(ids[i]);
		if (!entry) {
			// The first time: its id becomes known now. Until then user_data leads to the entry.
			entry = reinterpret_cast<loop_entry *>(list_.user_data(ids[i]));
			workers_.add(*entry, ids[i]);
			counters_.new_worker();
		}
		ready_.push(*entry);
	}
}

void loop_scheduler::run(scheduler &me, loop_entry &entry, std::chrono::nanoseconds slice) noexcept
{
	std::error_code ec;
	const event e = me.run(worker_id{entry.id.load(std::memory_order_relaxed)}, slice, ec);

	if (ec) {
		// Nobody here could ever run it, so the loop would not end: the exception leaves a noexcept function.
		if (ec == errc::not_permitted)
			throw_error(ec.value(), "ums::run_loop: worker");
		// Its own doing: it left the loop by a system call of its own, or another scheduler took it,
		// and it will come back on its list if it comes back at all.
		if (ec != errc::ended && ec != errc::no_such_worker)
			return;
	} else {
		counters_.ran(e);
		if (e.reason == reason::yielded)
			ready_.push(entry);
		if (!e.is_last())
			return;
	}
	workers_.retire(entry);
	release();
	loop_.worker_ended();
}

// Sleeps until the list is not empty. Returns false when the loop has ended.
bool loop_scheduler::sleep() noexcept
{
	using clock = std::chrono::steady_clock;

	if (loop_.ended())
		return false;
	std::error_code ec;
	const auto start = clock::now();
	list_.wait(ec);
	counters_.idled(clock::now() - start);
	// The end of the loop closes the list. A list that somebody else has closed is nothing to go on with:
	// the exception leaves a noexcept function.
	if (ec && ec != std::errc::interrupted && !loop_.ended())
		throw_error(ec.value(), "ums::run_loop: completion list");
	return true;
}

} // namespace ums::detail

// SPDX-License-Identifier: MIT
//
// Until when the workers of a run_loop's scheduler wait, if not for ever. As its ring, it is for what runs for that
// scheduler, in a no_upcall region: each worker brings a node of the map along, so that nothing is allocated there.
#pragma once

#include <chrono>
#include <map>
#include <utility>

namespace ums::detail {

struct loop_entry;

class timer_queue
{
public:
	using time_point = std::chrono::steady_clock::time_point;

private:
	using queue = std::multimap<time_point, loop_entry *>;

public:
	// A worker's; in one queue at most.
	class timer
	{
	public:
		explicit timer(loop_entry &entry)
		{
			queue one;
			one.emplace(time_point(), &entry);
			node_ = one.extract(one.begin());
		}

	private:
		friend class timer_queue;
		queue::node_type node_; // while it is in no queue
		queue::iterator at_;
	};

	// The next one's; time_point::max(): there is none.
	time_point first() const noexcept { return all_.empty() ? time_point::max() : all_.begin()->first; }

	void set(timer &t, time_point when) noexcept
	{
		t.node_.key() = when;
		t.at_ = all_.insert(std::move(t.node_));
	}

	// Nothing if it is not set.
	void cancel(timer &t) noexcept
	{
		if (t.node_.empty())
			t.node_ = all_.extract(t.at_);
	}

	// The next one whose time has come, which is not set any more; or null.
	inline loop_entry *take_due(time_point now) noexcept;

private:
	queue all_;
};

} // namespace ums::detail

// SPDX-License-Identifier: MIT
//
// Until when workers wait, if not for ever: of a run_loop's scheduler, for what runs for that, in a no_upcall region; or
// of a completion list, under its lock. Each worker brings a node of the map along, so that nothing is allocated there.
#pragma once

#include <chrono>
#include <map>
#include <utility>

namespace ums::detail {

template <class T>
class timer_queue
{
public:
	using time_point = std::chrono::steady_clock::time_point;

	class timer;

private:
	using queue = std::multimap<time_point, timer *>;

public:
	// A worker's; in one queue at most.
	class timer
	{
	public:
		// Throws std::bad_alloc.
		explicit timer(T *item_of = nullptr) : item(item_of)
		{
			queue one;
			one.emplace(time_point(), this);
			node_ = one.extract(one.begin());
		}
		timer(const timer &) = delete;
		timer &operator=(const timer &) = delete;

		T *item;

	private:
		friend class timer_queue;
		typename queue::node_type node_; // while it is in no queue
		typename queue::iterator at_;
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

	// The item of the next one whose time has come, which is not set any more; or null.
	T *take_due(time_point now) noexcept
	{
		if (first() > now)
			return nullptr;
		auto &t = *all_.begin()->second;
		cancel(t);
		return t.item;
	}

private:
	queue all_;
};

} // namespace ums::detail

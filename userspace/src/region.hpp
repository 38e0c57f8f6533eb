// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <utility>

#include <ums/ums.h>

#include "this_worker_state.hpp"

namespace ums::detail {

// As this_worker::no_upcall_region, but can be left and entered again; and a yield in it, of a signal handler, does
// nothing, as others might wait for what the worker has locked.
class region
{
public:
	region() noexcept { enter(); }
	region(const region &) = delete;
	region &operator=(const region &) = delete;
	~region() { leave(); }

	void enter() noexcept
	{
		if ((slot_ = me.slot)) {
			me.inner_regions++;
			ums_no_upcall_enter(slot_);
		}
	}
	void leave() noexcept
	{
		if (auto *slot = std::exchange(slot_, nullptr)) {
			me.inner_regions--;
			// As ums_no_upcall_leave(); but signals wait, too, if it has gone on in here.
			const auto depth = slot->no_upcall - 1;
			std::atomic_signal_fence(std::memory_order_seq_cst);
			__atomic_store_n(&slot->no_upcall, depth, __ATOMIC_RELAXED);
			std::atomic_signal_fence(std::memory_order_seq_cst);
			if (!depth && __atomic_load_n(&slot->attention, __ATOMIC_RELAXED)) [[unlikely]]
				heed_attention();
		}
	}

private:
	ums_slot *slot_;
};

} // namespace ums::detail

// SPDX-License-Identifier: MIT
//
// What other threads tell the scheduler of a run_loop: that a worker has been woken, that there is work for a thread
// that has none, or that a timer has expired.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include <urcu/lfstack.h>

#include <ums/worker.hpp>

namespace ums::detail {

enum class news { woken, work, alarm };

struct inbox_item {
	explicit inbox_item(news n) noexcept : kind(n) {}

	cds_lfs_node node{};
	const news kind;
};

// A worker that has been spawned, for which a thread waits.
struct work_item : inbox_item {
	work_item() noexcept : inbox_item(news::work) {}

	std::unique_ptr<detail::body> body;
	std::array<char, 16> name{};
};

inline inbox_item *item_of_inbox(cds_lfs_node *node) noexcept
{
	return reinterpret_cast<inbox_item *>(node); // the first member
}

} // namespace ums::detail

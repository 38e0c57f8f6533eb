// SPDX-License-Identifier: MIT
#pragma once

#include <urcu/wfcqueue.h>

#include "loop_entry.hpp"

namespace ums::detail {

// Workers that wait for their scheduler, first in, first out: liburcu's wait-free queue. Pushed to and popped
// from by the scheduler's own thread.
class ready_queue
{
public:
	ready_queue() noexcept { __cds_wfcq_init(&head_, &tail_); }
	ready_queue(const ready_queue &) = delete;
	ready_queue &operator=(const ready_queue &) = delete;

	void push(loop_entry &entry) noexcept
	{
		cds_wfcq_node_init(&entry.ready);
		cds_wfcq_enqueue(__cds_wfcq_head_cast(&head_), &tail_, &entry.ready);
	}

	// The first, or null when there is none. Called and pushed to by the scheduler's own thread, it never
	// meets a push that has only begun, for which it would wait.
	loop_entry *pop() noexcept
	{
		cds_wfcq_node *node = __cds_wfcq_dequeue_blocking(__cds_wfcq_head_cast(&head_), &tail_);
		return node ? entry_of_ready(node) : nullptr;
	}

private:
	__cds_wfcq_head head_;
	cds_wfcq_tail tail_;
};

} // namespace ums::detail

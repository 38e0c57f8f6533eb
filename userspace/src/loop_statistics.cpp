// SPDX-License-Identifier: MIT
#include "loop_statistics.hpp"

#include <algorithm>

namespace ums::detail {

void loop_counters::began(pid_t tid, int cpu) noexcept
{
	tid_.store(tid, std::memory_order_relaxed);
	cpu_.store(cpu, std::memory_order_relaxed);
}

void loop_counters::ran(const event &e) noexcept
{
	add(switches_);
	switch (e.reason) {
	case reason::blocked:
		if (e.is_fault())
			add(faults_);
		else
			add(blocks_[std::min<std::uint64_t>(e.cause(), numbers - 1)]);
		break;
	case reason::yielded:
		add(yields_);
		break;
	case reason::preempted:
		add(preemptions_);
		break;
	case reason::exited:
	case reason::detached:
	case reason::none:
		break;
	}
}

scheduler_statistics loop_counters::snapshot() const
{
	const auto read = [](const auto &c) { return c.load(std::memory_order_relaxed); };

	scheduler_statistics s;
	s.tid = read(tid_);
	s.cpu = read(cpu_);
	s.workers = read(workers_);
	s.ended = read(ended_);
	s.switches = read(switches_);
	s.upcalls = s.switches; // each way into a worker ends with one upcall
	s.faults = read(faults_);
	s.yields = read(yields_);
	s.preemptions = read(preemptions_);
	s.idle = std::chrono::nanoseconds(read(idle_ns_));
	for (std::size_t nr = 0; nr < numbers; nr++)
		if (const auto count = read(blocks_[nr]))
			s.blocks.push_back({.system_call = nr, .count = count});
	return s;
}

} // namespace ums::detail

// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include <urcu/urcu-bp.h>
#include <urcu/lfstack.h>
#include <urcu/rculfhash.h>

#include <ums/worker_id.hpp>

#include "loop_entry.hpp"

namespace ums::detail {

// The flavour of RCU is "bulletproof" (urcu-bp): any thread of the application may look into the registry,
// and must not be asked to register itself first; a scheduler that sleeps in the kernel delays nobody, since
// it is in no read section then. A worker that blocks inside a read section delays spawn() of others at most.
class rcu_read_section
{
public:
	rcu_read_section() noexcept { urcu_bp_read_lock(); }
	rcu_read_section(const rcu_read_section &) = delete;
	rcu_read_section &operator=(const rcu_read_section &) = delete;
	~rcu_read_section() { urcu_bp_read_unlock(); }
};

// The workers of a run_loop by id (liburcu's lock-free hash table, of fixed size: one that grows would
// allocate), and the entries that wait to be used again (its lock-free stacks). Grace periods are waited for
// by spawn(), which may block, and for many entries at once: no helper thread, which a fork would lose.
//
// Schedulers call add(), find() and retire(): these take no lock and allocate nothing.
class registry
{
public:
	explicit registry(std::uint64_t expected);
	registry(const registry &) = delete;
	registry &operator=(const registry &) = delete;

	// No worker is left, nobody else uses the registry.
	~registry();

	// To be called once by each thread that will use add(), find() and retire(), while it may still
	// allocate.
	static void register_thread() noexcept { urcu_bp_register_thread(); }

	// A free entry, or a new one. Not for schedulers. Throws std::bad_alloc.
	loop_entry &get(std::string_view name, unsigned scheduler);

	// An entry that was never add()ed is needed no more.
	void put_back(loop_entry &entry) noexcept;

	void add(loop_entry &entry, worker_id id) noexcept;

	// The worker's entry, or null. For as long as the worker has not ended, or a read section lasts.
	loop_entry *find(worker_id id) noexcept;

	// The worker has ended. Its entry serves another one once nobody can still look at it.
	void retire(loop_entry &entry) noexcept;

	// Calls f(entry) for each, inside a read section.
	template <class F>
	void for_each(F f)
	{
		const rcu_read_section section;
		cds_lfht_iter iter;
		for (cds_lfht_first(table_, &iter); auto *node = cds_lfht_iter_get_node(&iter);
		     cds_lfht_next(table_, &iter))
			f(*entry_by_id(node));
	}

private:
	cds_lfs_node *take_free() noexcept;
	void reclaim() noexcept;

	cds_lfht *table_;
	__cds_lfs_stack free_;	  // from here get() takes
	__cds_lfs_stack retired_; // a grace period away from being free
	__cds_lfs_stack all_;
	std::atomic<unsigned> retired_count_{0};
};

} // namespace ums::detail

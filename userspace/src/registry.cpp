// SPDX-License-Identifier: MIT
#include "registry.hpp"

#include <algorithm>
#include <bit>
#include <memory>
#include <new>

namespace ums::detail {

namespace {

// C++ knows no transparent union.
cds_lfs_stack_ptr_t stack(__cds_lfs_stack &s) noexcept
{
	cds_lfs_stack_ptr_t p;
	p._s = &s;
	return p;
}

unsigned long hash(worker_id id) noexcept
{
	// Ids differ in their serial numbers first: mix the halves (the multiplier is 2^64 / golden ratio).
	const auto x = static_cast<std::uint64_t>(id) * 0x9e3779b97f4a7c15U;
	return x ^ (x >> 32);
}

int matches(cds_lfht_node *node, const void *key)
{
	return entry_by_id(node)->id.load(std::memory_order_relaxed) ==
	       static_cast<std::uint64_t>(*static_cast<const worker_id *>(key));
}

} // namespace

registry::registry(std::uint64_t expected)
{
	const auto buckets = std::bit_ceil(std::clamp<std::uint64_t>(expected, 64, 65536));
	table_ = cds_lfht_new_flavor(buckets, buckets, buckets, 0, &urcu_bp_flavor, nullptr);
	if (!table_)
		throw std::bad_alloc();
	__cds_lfs_init(&free_);
	__cds_lfs_init(&retired_);
	__cds_lfs_init(&all_);
}

registry::~registry()
{
	cds_lfht_destroy(table_, nullptr);
	for (auto *node = reinterpret_cast<cds_lfs_node *>(__cds_lfs_pop_all(stack(all_))); node;) {
		auto *next = node->next;
		delete entry_of_all(node);
		node = next;
	}
}

cds_lfs_node *registry::take_free() noexcept
{
	// Popping is safe in a read section, since nothing comes back within one: reclaim() sees to that.
	const rcu_read_section section;
	return __cds_lfs_pop(stack(free_));
}

// Frees what is retired.
void registry::reclaim() noexcept
{
	auto *node = reinterpret_cast<cds_lfs_node *>(__cds_lfs_pop_all(stack(retired_)));
	if (!node)
		return;
	urcu_bp_synchronize_rcu();
	while (node) {
		auto *next = node->next;
		retired_count_.fetch_sub(1, std::memory_order_relaxed);
		cds_lfs_node_init(node);
		cds_lfs_push(stack(free_), node);
		node = next;
	}
}

loop_entry &registry::get(std::string_view name, unsigned scheduler)
{
	// A grace period for a few entries is not worth it.
	constexpr unsigned worthwhile = 64;

	auto *node = take_free();
	if (!node && retired_count_.load(std::memory_order_relaxed) >= worthwhile) {
		reclaim();
		node = take_free();
	}
	loop_entry *entry;
	if (node) {
		entry = entry_of_free(node);
	} else {
		auto made = std::make_unique<loop_entry>();
		made->timer = std::make_unique<loop_timers::timer>(made.get());
		entry = made.release();
		cds_lfs_node_init(&entry->all);
		cds_lfs_push(stack(all_), &entry->all);
	}
	entry->next = entry->prev = nullptr;
	entry->context = nullptr;
	entry->idle.store(false, std::memory_order_relaxed);
	entry->id.store(0, std::memory_order_relaxed);
	entry->scheduler.store(scheduler, std::memory_order_relaxed);
	entry->name.fill('\0');
	name.copy(entry->name.data(), entry->name.size() - 1);
	return *entry;
}

void registry::put_back(loop_entry &entry) noexcept
{
	// By way of a grace period, too: take_free() may have it in hand.
	cds_lfs_node_init(&entry.free);
	cds_lfs_push(stack(retired_), &entry.free);
	retired_count_.fetch_add(1, std::memory_order_relaxed);
}

void registry::add(loop_entry &entry, worker_id id) noexcept
{
	entry.id.store(static_cast<std::uint64_t>(id), std::memory_order_relaxed);
	cds_lfht_node_init(&entry.by_id);
	const rcu_read_section section;
	cds_lfht_add(table_, hash(id), &entry.by_id);
}

loop_entry *registry::find(worker_id id) noexcept
{
	const rcu_read_section section;
	cds_lfht_iter iter;
	cds_lfht_lookup(table_, hash(id), matches, &id, &iter);
	auto *node = cds_lfht_iter_get_node(&iter);
	return node ? entry_by_id(node) : nullptr;
}

void registry::retire(loop_entry &entry) noexcept
{
	{
		const rcu_read_section section;
		cds_lfht_del(table_, &entry.by_id);
	}
	put_back(entry);
}

} // namespace ums::detail

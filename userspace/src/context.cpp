// SPDX-License-Identifier: MIT
#include "context.hpp"

#include <sys/rseq.h>

namespace ums::detail {

namespace {

struct slots_of_list {
	std::atomic<ums_slot *> slots;
	std::atomic<std::uint32_t> n;
};

constinit slots_of_list lists[UMS_MAX_LISTS];

bool ask_for_switch() noexcept
{
	ums_abi abi{};
	// The C library tells the size of what it uses, 20, and gives 32 to the kernel, which fills in node_id and
	// mm_cid as well; a switch brings these along.
	return __rseq_size >= 20 && ums_query(UMS_QUERY_ABI, 0, &abi, sizeof abi) == 0 &&
	       (abi.features & UMS_FEATURE_USER_SWITCH);
}

} // namespace

bool can_switch() noexcept
{
	static std::atomic<int> answer{-1};
	int is = answer.load(std::memory_order_relaxed);
	if (is < 0) {
		is = ask_for_switch();
		answer.store(is, std::memory_order_relaxed);
	}
	return is;
}

void *rseq_area() noexcept
{
	return static_cast<char *>(thread_pointer()) + __rseq_offset;
}

void add_slots(std::uint32_t list_nr, ums_slot *slots, std::uint32_t n) noexcept
{
	lists[list_nr].n.store(n, std::memory_order_relaxed);
	lists[list_nr].slots.store(slots, std::memory_order_release);
}

void remove_slots(std::uint32_t list_nr, ums_slot *slots) noexcept
{
	// A list that is closed may have left its number to another one by now.
	lists[list_nr].slots.compare_exchange_strong(slots, nullptr, std::memory_order_relaxed);
}

void forget_slots() noexcept
{
	for (auto &list : lists)
		list.slots.store(nullptr, std::memory_order_relaxed);
}

ums_slot *find_slot(worker_id id) noexcept
{
	const auto n = static_cast<std::uint64_t>(id);
	const auto &list = lists[UMS_ID_LIST(n)];
	auto *slots = list.slots.load(std::memory_order_acquire);
	if (!slots || UMS_ID_SLOT(n) >= list.n.load(std::memory_order_relaxed))
		return nullptr;
	// It may be another worker's by now.
	auto &slot = slots[UMS_ID_SLOT(n)];
	return __atomic_load_n(&slot.id, __ATOMIC_ACQUIRE) == n ? &slot : nullptr;
}

} // namespace ums::detail

// SPDX-License-Identifier: MIT
#include "context.hpp"

#include <sys/rseq.h>

namespace ums::detail {

constinit std::array<slots_of_list, UMS_MAX_LISTS> slots_of_lists{};

namespace {

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
	auto &list = slots_of_lists[list_nr];
	// That of a list whose number has come again.
	list.n.store(0, std::memory_order_relaxed);
	list.slots.store(slots, std::memory_order_release);
	list.n.store(n, std::memory_order_release);
}

void remove_slots(std::uint32_t list_nr, ums_slot *slots) noexcept
{
	// A list that is closed may have left its number to another one by now.
	auto &list = slots_of_lists[list_nr];
	if (list.slots.load(std::memory_order_relaxed) == slots)
		list.n.store(0, std::memory_order_relaxed);
}

namespace {

constinit std::uint32_t forks = 0;

} // namespace

std::uint32_t forks_so_far() noexcept
{
	return forks;
}

void forget_slots() noexcept
{
	forks++;
	for (auto &list : slots_of_lists)
		list.n.store(0, std::memory_order_relaxed);
}

} // namespace ums::detail

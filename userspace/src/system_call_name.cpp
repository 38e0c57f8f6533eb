// SPDX-License-Identifier: MIT
#include <ums/system_call_name.hpp>

#include <algorithm>
#include <iterator>

#include <ums/scheduler.hpp>
#include <ums/ums.h>

namespace ums {

namespace {

struct named {
	std::uint64_t number;
	std::string_view name;
};

// Ascending by number; made by cmake/system_call_names.cmake from the kernel headers of the build machine.
constexpr named names[] = {
#include "system_call_names.inc"
};

} // namespace

std::string_view system_call_name(std::uint64_t number) noexcept
{
	if (number == UMS_CAUSE_FAULT)
		return "page fault";
	if (number == cause_wait)
		return "wait in user mode";
	const auto *const end = std::end(names);
	const auto *const it =
		std::lower_bound(std::begin(names), end, number,
				 [](const named &n, std::uint64_t nr) { return n.number < nr; });
	return it != end && it->number == number ? it->name : std::string_view{};
}

} // namespace ums

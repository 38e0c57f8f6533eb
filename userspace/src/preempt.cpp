// SPDX-License-Identifier: MIT
#include <ums/preempt.hpp>

#include <ums/error.hpp>
#include <ums/ums.h>

namespace ums {

void preempt(worker_id id, std::error_code &ec) noexcept
{
	ec.assign(-ums_preempt(static_cast<std::uint64_t>(id), 0), category());
}

void preempt(worker_id id)
{
	std::error_code ec;
	preempt(id, ec);
	if (ec)
		throw std::system_error(ec, "ums_preempt");
}

} // namespace ums

// SPDX-License-Identifier: MIT
#include <ums/query.hpp>

#include <ums/error.hpp>

#include "throw_error.hpp"

namespace ums {

ums_info query(worker_id id)
{
	ums_info info{};
	const int ret = ums_query(UMS_QUERY_WORKER, static_cast<std::uint64_t>(id), &info, sizeof info);
	if (ret < 0)
		throw std::system_error(-ret, category(), "ums_query");
	return info;
}

ums_info query_thread(pid_t tid)
{
	ums_info info{};
	const int ret = ums_query(UMS_QUERY_THREAD, static_cast<std::uint64_t>(tid), &info, sizeof info);
	if (ret < 0)
		detail::throw_error(-ret, "ums_query");
	return info;
}

} // namespace ums

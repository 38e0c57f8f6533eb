// SPDX-License-Identifier: MIT
#include <ums/probe.hpp>

namespace ums {

probe_result probe() noexcept
{
	ums_abi abi;
	const int ret = ums_probe(&abi);

	probe_result result;
	result.status = ret == 0	? availability::available
			: ret == -EPERM ? availability::disabled
					: availability::not_in_kernel;
	result.version = abi.version;
	result.features = abi.features;
	result.max_workers = abi.max_workers;
	result.max_lists = abi.max_lists;
	return result;
}

const char *to_string(availability status) noexcept
{
	switch (status) {
	case availability::available:
		return "user-mode scheduling is available";
	case availability::disabled:
		return "user-mode scheduling is disabled (sysctl kernel.ums_disabled)";
	case availability::not_in_kernel:
		break;
	}
	return "this kernel has no user-mode scheduling (CONFIG_UMS)";
}

} // namespace ums

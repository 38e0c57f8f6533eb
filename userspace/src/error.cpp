// SPDX-License-Identifier: MIT
#include <ums/error.hpp>

#include <string>

namespace ums {

namespace {

class ums_category final : public std::error_category
{
public:
	const char *name() const noexcept override { return "ums"; }

	std::string message(int value) const override
	{
		switch (static_cast<errc>(value)) {
		case errc::no_such_worker:
			return "no such worker";
		case errc::ended:
			return "the worker has ended";
		case errc::running:
			return "a scheduler runs the worker already";
		case errc::blocked:
			return "the worker is not there to be run or stopped: it is in the kernel or waits";
		case errc::on_list:
			return "the worker is still on its completion list";
		case errc::not_a_scheduler:
			return "the calling thread is not a scheduler";
		case errc::not_permitted:
			return "the worker has other credentials or seccomp filters";
		}
		return std::generic_category().message(value);
	}

	// All values are error numbers: what equals a std::errc there does so here.
	std::error_condition default_error_condition(int value) const noexcept override
	{
		return {value, std::generic_category()};
	}
};

// Not local to category(): that would be made at the first call, under a lock, perhaps by a scheduler.
constinit const ums_category instance;

} // namespace

const std::error_category &category() noexcept
{
	return instance;
}

} // namespace ums

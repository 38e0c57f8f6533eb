// SPDX-License-Identifier: MIT
#include <ums/scheduler.hpp>

#include <algorithm>
#include <atomic>

#include <sys/mman.h>
#include <unistd.h>

#include <ums/error.hpp>

#include "throw_error.hpp"
#include "x86_64/upcall.hpp"

namespace ums {

using detail::upcall_context;

// As upcall.S has them.
static_assert(offsetof(upcall_context, stack_pointer) == 0);
static_assert(offsetof(upcall_context, reason) == 8);
static_assert(offsetof(upcall_context, worker) == 16);
static_assert(offsetof(upcall_context, detail) == 24);

namespace {

// initial-exec: reached without a function that might allocate.
[[gnu::tls_model("initial-exec")]] thread_local constinit scheduler *current_scheduler = nullptr;

std::atomic<unsigned> schedulers{0};

std::size_t page_size() noexcept
{
	return static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

} // namespace

scheduler::scheduler(std::size_t upcall_stack_size)
{
	const std::size_t page = page_size();
	const std::size_t size =
		(std::max<std::size_t>(upcall_stack_size, UMS_MIN_STACK) + page - 1) / page * page;

	void *pages = mmap(nullptr, page + size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (pages == MAP_FAILED)
		detail::throw_error(errno, "upcall stack");
	stack_ = static_cast<std::byte *>(pages);
	stack_size_ = page + size;

	long ret = -ENOMEM;
	if (mprotect(stack_ + page, size, PROT_READ | PROT_WRITE) == 0) {
		ums_scheduler_args args{};
		args.entry = reinterpret_cast<std::uintptr_t>(&ums_upcall_entry);
		args.stack = reinterpret_cast<std::uintptr_t>(stack_ + page);
		args.stack_size = size;
		args.arg = reinterpret_cast<std::uintptr_t>(&context_);
		// Success shows itself as the STARTUP upcall.
		ret = enter_kernel(__NR_ums_scheduler_enter, &args, sizeof args, 0);
	}
	if (ret < 0) {
		munmap(stack_, stack_size_);
		detail::throw_error(-ret, "ums_scheduler_enter");
	}
	current_scheduler = this;
	schedulers.fetch_add(1, std::memory_order_relaxed);
}

scheduler::~scheduler()
{
	ums_scheduler_exit(0);
	current_scheduler = nullptr;
	schedulers.fetch_sub(1, std::memory_order_relaxed);
	munmap(stack_, stack_size_);
}

long scheduler::enter_kernel(long nr, const void *first, long second, long third) noexcept
{
	return ums_upcall_await(&context_, nr, first, second, third);
}

event scheduler::run(worker_id id, std::chrono::nanoseconds slice, std::error_code &ec) noexcept
{
	const auto ns = std::max<std::chrono::nanoseconds::rep>(slice.count(), 0);
	const long ret = enter_kernel(__NR_ums_execute, reinterpret_cast<const void *>(id), ns, 0);
	if (ret < 0) {
		ec.assign(static_cast<int>(-ret), category());
		return {.reason = reason::none, .worker = id, .detail = 0};
	}
	ec.clear();
	return {.reason = static_cast<reason>(context_.reason),
		.worker = worker_id{context_.worker},
		.detail = context_.detail};
}

event scheduler::run(worker_id id, std::chrono::nanoseconds slice)
{
	std::error_code ec;
	const event e = run(id, slice, ec);
	if (ec)
		throw std::system_error(ec, "ums_execute");
	return e;
}

scheduler *scheduler::current() noexcept
{
	return current_scheduler;
}

unsigned scheduler::count() noexcept
{
	return schedulers.load(std::memory_order_relaxed);
}

std::error_code raw_scheduler_enter(raw_entry *entry, std::span<std::byte> stack, std::uint64_t arg,
				    std::uint64_t startup) noexcept
{
	ums_scheduler_args args{};
	args.entry = reinterpret_cast<std::uintptr_t>(entry);
	args.stack = reinterpret_cast<std::uintptr_t>(stack.data());
	args.stack_size = stack.size();
	args.arg = arg;
	args.startup = startup;
	return {-ums_scheduler_enter(&args, sizeof args), std::system_category()};
}

} // namespace ums

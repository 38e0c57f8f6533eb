// SPDX-License-Identifier: MIT
#include <ums/scheduler.hpp>

#include <algorithm>
#include <atomic>

#include <sys/mman.h>
#include <unistd.h>

#include <ums/error.hpp>

#include "context.hpp"
#include "throw_error.hpp"
#include "x86_64/switch.hpp"
#include "x86_64/upcall.hpp"

namespace ums {

using detail::upcall_context;

// As upcall.S and switch.S have them.
static_assert(offsetof(upcall_context, stack_pointer) == 0);
static_assert(offsetof(upcall_context, reason) == 8);
static_assert(offsetof(upcall_context, worker) == 16);
static_assert(offsetof(upcall_context, detail) == 24);
static_assert(offsetof(upcall_context, thread_pointer) == 32);
static_assert(offsetof(upcall_context, rseq) == 40);
static_assert(offsetof(detail::worker_context, stack_pointer) == 0);
static_assert(offsetof(detail::worker_context, saved) == 8);
static_assert(offsetof(detail::worker_context, scheduler) == 16);
static_assert(offsetof(detail::worker_context, scheduler_tid) == 24);
static_assert(offsetof(detail::worker_context, thread_pointer) == 32);
static_assert(offsetof(detail::worker_context, rseq) == 40);
static_assert(offsetof(ums_slot, state) == 8);
static_assert(offsetof(ums_slot, scheduler) == 24);
static_assert(UMS_STATE_EMPTY == 4 && UMS_UPCALL_YIELDED == 2);

namespace {

// initial-exec: reached without a function that might allocate.
[[gnu::tls_model("initial-exec")]] thread_local constinit scheduler *current_scheduler = nullptr;

std::atomic<unsigned> schedulers{0};

std::size_t page_size() noexcept
{
	return static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

} // namespace

scheduler::scheduler(const options &opts)
{
	const std::size_t page = page_size();
	const std::size_t size =
		(std::max<std::size_t>(opts.upcall_stack_size, UMS_MIN_STACK) + page - 1) / page * page;

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
		args.flags = opts.user_switch && detail::can_switch() ? UMS_SCHEDULER_USER_SWITCH : 0;
		// Success shows itself as the STARTUP upcall.
		ret = enter_kernel(__NR_ums_scheduler_enter, &args, sizeof args, 0);
		if (ret == -EOPNOTSUPP) {
			// This thread cannot; see ums_scheduler_enter(2).
			args.flags = 0;
			ret = enter_kernel(__NR_ums_scheduler_enter, &args, sizeof args, 0);
		}
		if (ret == 0 && args.flags) {
			context_.thread_pointer = detail::thread_pointer();
			context_.rseq = detail::rseq_area();
		}
		tid_ = static_cast<std::uint32_t>(gettid());
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

// A worker that has switched out: the kernel does not have its context.
long scheduler::resume(ums_slot &slot, worker_id id, std::chrono::nanoseconds::rep slice) noexcept
{
	if (context_.thread_pointer != detail::thread_pointer())
		return context_.thread_pointer ? -EPERM : -EBUSY;
	auto &context = detail::context_of(slot);

	// Its thread may be the carrier of another worker, for another scheduler. If it is EMPTY or carries this very
	// call, it stays so.
	if (__atomic_load_n(&slot.state, __ATOMIC_ACQUIRE) != UMS_STATE_EMPTY &&
	    __atomic_load_n(&slot.scheduler, __ATOMIC_RELAXED) != tid_)
		return -EBUSY;

	// With a slice, only to have it yield through the kernel, which has the timer and measures those that it
	// executes.
	auto is = std::uint64_t{detail::saved};
	if (!std::atomic_ref(context.saved).compare_exchange_strong(is, slice ? detail::wanted : detail::live))
		return -EBUSY;
	context.scheduler_tid = tid_;
	context.scheduler = slice ? nullptr : &context_;
	ums_switch_to_worker(&context_, &context);
	if (!slice || context_.reason != UMS_UPCALL_YIELDED || context.saved != detail::wanted)
		return 0;
	context.saved = detail::live;
	return enter_kernel(__NR_ums_execute, reinterpret_cast<const void *>(id), slice, 0);
}

event scheduler::run(worker_id id, std::chrono::nanoseconds slice, std::error_code &ec) noexcept
{
	const auto ns = std::max<std::chrono::nanoseconds::rep>(slice.count(), 0);
	auto *slot = detail::find_slot(id);
	long ret;
	if (slot && detail::context_of(*slot).saved == detail::saved) {
		ret = resume(*slot, id, ns);
	} else {
		// With a slice it yields through the kernel, which has the timer. Not if the worker is not this one's to
		// execute, which the kernel will say.
		if (slot && __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) == UMS_STATE_READY) {
			auto &context = detail::context_of(*slot);
			context.scheduler = context_.thread_pointer && !ns ? &context_ : nullptr;
			context.scheduler_tid = tid_;
			context.saved = detail::live; // it has come to the kernel before it was asked to
		}
		ret = enter_kernel(__NR_ums_execute, reinterpret_cast<const void *>(id), ns, 0);
	}
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

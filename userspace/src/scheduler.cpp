// SPDX-License-Identifier: MIT
#include <ums/scheduler.hpp>

#include <algorithm>
#include <atomic>

#include <sys/mman.h>
#include <unistd.h>

#include <ums/error.hpp>

#include "context.hpp"
#include "loop_entry.hpp"
#include "this_worker_state.hpp"
#include "throw_error.hpp"
#include "woken_workers.hpp"
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
static_assert(offsetof(upcall_context, tid) == 48);
static_assert(offsetof(upcall_context, published) == 56);
static_assert(offsetof(upcall_context, seen) == 64);
static_assert(offsetof(upcall_context, inbox) == 72);
static_assert(offsetof(upcall_context, yields) == 88);
static_assert(offsetof(upcall_context, control_words) == 96);
static_assert(offsetof(detail::worker_context, stack_pointer) == 0);
static_assert(offsetof(detail::worker_context, scheduler) == 8);
static_assert(offsetof(detail::worker_context, thread_pointer) == 16);
static_assert(offsetof(detail::worker_context, rseq) == 24);
static_assert(offsetof(detail::worker_context, control_words) == 40);
static_assert(detail::context_saved == 1 && detail::context_wanted == 2 && detail::context_parked == 4);
static_assert(offsetof(detail::loop_entry, next) == 0);
static_assert(offsetof(detail::loop_entry, context) == 16);
static_assert(offsetof(detail::this_worker_state, context) == 16);
static_assert(offsetof(detail::this_worker_state, entry) == 24);
static_assert(offsetof(detail::this_worker_state, rseq) == 32);
static_assert(offsetof(ums_slot, state) == 8);
static_assert(offsetof(ums_slot, scheduler) == 24);
static_assert(offsetof(ums_slot, attention) == 32);
static_assert(offsetof(ums_slot, no_upcall) == 72);
static_assert(offsetof(ums_slot, context) == 80);
static_assert(sizeof(ums_slot) == 1 << 7 && sizeof(detail::slots_of_list) == 1 << 4);
static_assert(offsetof(detail::slots_of_list, slots) == 0 && offsetof(detail::slots_of_list, n) == 8);
static_assert(UMS_STATE_EMPTY == 4 && UMS_ID_SLOT_BITS == 20);
static_assert(detail::yielded_in_user_mode == 0x102 && detail::yielded_asking == 0x202 &&
	      detail::blocked_in_user_mode == 0x101);

namespace {

// initial-exec: reached without a function that might allocate.
[[gnu::tls_model("initial-exec")]] thread_local constinit scheduler *current_scheduler = nullptr;

std::atomic<unsigned> schedulers{0};

std::size_t page_size() noexcept
{
	return static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

} // namespace

void detail::forget_schedulers() noexcept
{
	current_scheduler = nullptr;
	schedulers.store(0, std::memory_order_relaxed);
}

scheduler::scheduler(const options &opts) : forks_(detail::forks_so_far())
{
	const bool may_switch = opts.user_switch && detail::can_switch();
	if (may_switch && opts.list) {
		const auto &pages = opts.list->pages();
		pages->woken->bind();
		own_list_ = {pages.get(), [pages](auto *list) { list->woken->unbind(); }};
	}

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
		args.flags = may_switch ? UMS_SCHEDULER_USER_SWITCH : 0;
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
			context_.own_list = own_list_.get();
		} else {
			own_list_.reset();
		}
		context_.tid = static_cast<std::uint64_t>(gettid());
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
	// In the child of fork() the thread is none.
	if (forks_ != detail::forks_so_far()) {
		munmap(stack_, stack_size_);
		return;
	}
	if (own_list_ && own_list_->woken->closed()) {
		// With a slice, so that they go to the kernel before they do anything else; not by number, which another
		// list may have by now.
		const std::chrono::milliseconds slice(1);
		std::error_code ec;
		for (worker_id id{}; (id = own_list_->woken->take()) != worker_id::none;)
			run(ums_list_slot(&own_list_->map, static_cast<std::uint64_t>(id)), id, slice, ec);
	}
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
	    __atomic_load_n(&slot.scheduler, __ATOMIC_RELAXED) != context_.tid)
		return -EBUSY;

	// With a slice, only to have it yield through the kernel, which has the timer and measures those that it
	// executes.
	auto was = context.scheduler.load(std::memory_order_relaxed);
	if (!(was & detail::context_saved) || (was & detail::context_parked) ||
	    !context.scheduler.compare_exchange_strong(
		    was, slice ? detail::context_wanted : reinterpret_cast<std::uintptr_t>(&context_),
		    std::memory_order_acquire))
		return -EBUSY;
	ums_switch_to_worker(&context_, &context, slice != 0);
	if (!slice || context_.reason != UMS_UPCALL_YIELDED ||
	    context.scheduler.load(std::memory_order_relaxed) != detail::context_wanted)
		return 0;
	context.scheduler.store(0, std::memory_order_relaxed);
	return enter_kernel(__NR_ums_execute, reinterpret_cast<const void *>(id), slice, 0);
}

// In user mode if it is saved there; otherwise the kernel does it, or says why not.
long scheduler::execute(ums_slot *slot, worker_id id, std::chrono::nanoseconds::rep slice) noexcept
{
	const auto *first = reinterpret_cast<const void *>(id);
	if (!slot)
		return enter_kernel(__NR_ums_execute, first, slice, 0);

	auto &word = detail::context_of(*slot).scheduler;
	auto was = word.load(std::memory_order_acquire);
	// READY, the kernel has it, whatever is noted here: see settle().
	if (__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) != UMS_STATE_READY)
		return was & detail::context_saved ? resume(*slot, id, slice)
						   : enter_kernel(__NR_ums_execute, first, slice, 0);

	// With a slice it yields through the kernel, which has the timer. It may be another one's by now, which the
	// kernel will say: then nothing has changed here.
	auto here = context_.thread_pointer && !slice ? reinterpret_cast<std::uintptr_t>(&context_) : 0;
	const bool noted = word.compare_exchange_strong(was, here, std::memory_order_relaxed);
	const long ret = enter_kernel(__NR_ums_execute, first, slice, 0);
	if (ret < 0 && noted)
		word.compare_exchange_strong(here, was, std::memory_order_relaxed);
	return ret;
}

// A worker that another one has switched to may have come to the kernel before it noted that it runs: it is saved
// no more. (By now it may even be another scheduler's.)
void scheduler::settle() noexcept
{
	if (!context_.thread_pointer || context_.reason > UMS_UPCALL_DETACHED)
		return;
	auto *slot = detail::find_slot(worker_id{context_.worker});
	if (!slot)
		return;
	const auto here = reinterpret_cast<std::uintptr_t>(&context_);
	auto saved = here | detail::context_saved;
	detail::context_of(*slot).scheduler.compare_exchange_strong(saved, here, std::memory_order_relaxed);
}

// A worker has yielded in order to have another one run: false if it has not. It goes on itself if that cannot be,
// and throws.
bool scheduler::serve_request(std::chrono::nanoseconds::rep slice) noexcept
{
	if (context_.reason != detail::yielded_asking && context_.reason != UMS_UPCALL_YIELDED)
		return false;
	const worker_id id{context_.worker};
	auto *slot = detail::find_slot(id);
	if (!slot)
		return false;
	auto &request = detail::context_of(*slot).request;
	if (request <= 0)
		return false;
	const worker_id target{static_cast<std::uint64_t>(request)};
	request = 0;
	// The worker of another scheduler of a run_loop is that one's.
	const bool foreign = context_.list_nr != ~std::uint32_t{} &&
			     UMS_ID_LIST(static_cast<std::uint64_t>(target)) != context_.list_nr;
	const long ret = foreign ? -EBUSY : execute(detail::find_slot(target), target, slice);
	if (ret == 0)
		return true;
	request = ret;
	return execute(slot, id, slice) == 0;
}

// Whatever the worker has done.
void scheduler::conclude(std::chrono::nanoseconds::rep slice) noexcept
{
	do
		settle();
	while (serve_request(slice));
}

event scheduler::run(ums_slot *slot, worker_id id, std::chrono::nanoseconds slice, std::error_code &ec) noexcept
{
	const auto ns = std::max<std::chrono::nanoseconds::rep>(slice.count(), 0);
	if (ns != 0 || ums_run(&context_, static_cast<std::uint64_t>(id)) != 0) {
		if (const long ret = execute(slot, id, ns); ret < 0) {
			ec.assign(static_cast<int>(-ret), category());
			return {.reason = reason::none, .worker = id, .detail = 0};
		}
	}
	if (!(context_.reason & detail::in_user_mode))
		conclude(ns);
	ec.clear();
	return last_event();
}

event scheduler::run(worker_id id, std::chrono::nanoseconds slice, std::error_code &ec) noexcept
{
	return run(detail::find_slot(id), id, slice, ec);
}

event scheduler::run_or_throw(worker_id id, std::chrono::nanoseconds slice)
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

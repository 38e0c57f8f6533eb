// SPDX-License-Identifier: MIT
#include <ums/this_worker.hpp>

#include <array>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>

#include <pthread.h>

#include <ums/error.hpp>

#include "context.hpp"
#include "kept_threads.hpp"
#include "loop_scheduler.hpp"
#include "registry.hpp"
#include "this_worker_state.hpp"
#include "throw_error.hpp"
#include "woken_workers.hpp"
#include "x86_64/switch.hpp"

namespace ums {

namespace detail {

constinit slot_of_nobody nobody;
constinit loop_entry no_entry;

namespace {

constexpr this_worker_state no_worker{.id = worker_id::none,
				      .slot = nullptr,
				      .context = &nobody.context,
				      .entry = &no_entry,
				      .rseq = &nobody.area,
				      .slot_outlives = false,
				      .inner_regions = 0,
				      .timer = nullptr,
				      .on_detach = nullptr,
				      .on_detach_argument = nullptr};

} // namespace

[[gnu::tls_model("initial-exec")]] thread_local constinit this_worker_state me = no_worker;

void heed_attention() noexcept
{
	if (!me.slot)
		return;
	const auto attention = __atomic_load_n(&me.slot->attention, __ATOMIC_RELAXED);
	if (attention & UMS_ATTN_PREEMPT)
		ums_preempt(me.slot->id, 0);
	else if (attention) [[unlikely]]
		ums_attend();
}

} // namespace detail

using detail::me;

namespace {

// The kernel makes a worker an ordinary thread when its list is closed, too, and says so in the slot, which
// may be another's by then only if somebody called ums_detach() past this library.
bool still_worker() noexcept
{
	return me.id != worker_id::none &&
	       __atomic_load_n(&me.slot->id, __ATOMIC_RELAXED) == static_cast<std::uint64_t>(me.id) &&
	       __atomic_load_n(&me.slot->state, __ATOMIC_ACQUIRE) != UMS_STATE_NONE;
}

// The pages of lists are not there in the child of fork(), whose thread is no worker and no scheduler.
void forget_in_child() noexcept
{
	me = detail::no_worker;
	detail::forget_slots();
	detail::forget_schedulers();
	detail::kept_thread::forget();
}

const int at_fork = pthread_atfork(nullptr, nullptr, forget_in_child);

// Keeps the slot mapped while the thread is a worker.
struct slot_owner {
	std::shared_ptr<detail::list_pages> pages;
	std::unique_ptr<detail::wait_timer> timer;

	// Destructors behind this one may use synchronisation objects, for which it keeps its processor.
	~slot_owner()
	{
		auto *slot = me.slot_outlives ? me.slot : nullptr;
		me = detail::no_worker;
		me.slot = slot;
	}
};

thread_local slot_owner owner;

// The calling thread is no worker any more.
void forget() noexcept
{
	const auto was = std::exchange(me, detail::no_worker);
	owner.pages.reset();
	if (was.on_detach)
		was.on_detach(was.on_detach_argument);
}

} // namespace

namespace detail {

long become_worker(int list_fd, const std::shared_ptr<list_pages> &pages, std::uint64_t user_data,
		   bool user_switch, bool slot_outlives) noexcept
{
	// Not when it wakes another one, in a region: the lock for that may be another worker's just then.
	registry::register_thread();
	owner.pages = pages;
	ums_worker_args args{.flags = user_switch && can_switch() ? UMS_WORKER_USER_SWITCH : 0, .user_data = user_data};
	long id = ums_worker_enter(list_fd, &args, sizeof args);
	if (id == -EOPNOTSUPP) {
		// This thread cannot; see ums_worker_enter(2).
		args.flags = 0;
		id = ums_worker_enter(list_fd, &args, sizeof args);
	}
	if (id < 0) {
		if (me.id == worker_id::none)
			owner.pages.reset();
		// After close() the number names something else.
		return id == -EINVAL && pages->is_closed() ? -EBADF : id;
	}
	me.id = worker_id{static_cast<std::uint64_t>(id)};
	me.slot = ums_list_slot(&pages->map, static_cast<std::uint64_t>(id));
	me.slot_outlives = slot_outlives;
	if (args.flags) {
		me.context = &context_of(*me.slot);
		me.rseq = me.context->rseq = rseq_area();
		me.context->thread_pointer = thread_pointer();
	}
	return id;
}

void get_timer() noexcept
{
	if (!is_switchable())
		return;
	try {
		if (!owner.timer)
			owner.timer = std::make_unique<wait_timer>();
		me.timer = owner.timer.get();
	} catch (const std::bad_alloc &) {
		// Without one it waits in the kernel.
	}
}

void belongs_to(loop_entry &entry) noexcept
{
	if (is_switchable())
		me.entry = &entry;
}

void end_as_worker() noexcept
{
	if (me.id == worker_id::none)
		return;
	me.context = no_worker.context;
	me.entry = no_worker.entry;
	// Its list may be closed: then it is none any more.
	ums_detach(0);
	forget();
}

void on_detach(void (*function)(void *), void *argument) noexcept
{
	me.on_detach = function;
	me.on_detach_argument = argument;
}

} // namespace detail

namespace this_worker {

worker_id get_id() noexcept
{
	return still_worker() ? me.id : worker_id::none;
}

bool is_worker() noexcept
{
	return still_worker();
}

switch_target::switch_target(worker_id id) noexcept : context_(&detail::nobody.context), id_(id)
{
	if (auto *slot = detail::find_slot(id))
		context_ = &detail::context_of(*slot);
}

void yield_to_list(std::uint64_t argument)
{
	if (const int ret = ums_yield(argument, UMS_YIELD_PUBLISH); ret < 0)
		detail::throw_error(-ret, "ums_yield");
}

worker_id enter(const completion_list &list, std::uint64_t user_data)
{
	// The kernel would say so too, but only after become_worker() has let go of the present list's pages.
	if (is_worker())
		detail::throw_error(EBUSY, "ums_worker_enter");
	if (me.id != worker_id::none)
		forget();
	if (const long ret = detail::become_worker(list.native_handle(), list.pages(), user_data, false, false);
	    ret < 0)
		detail::throw_error(-ret, "ums_worker_enter");
	return get_id();
}

void detach()
{
	// Before, since it may be in a signal handler behind the call.
	const auto was = me;
	me.context = detail::no_worker.context;
	me.entry = detail::no_worker.entry;
	if (const int ret = ums_detach(0); ret < 0) {
		me = was;
		detail::throw_error(-ret, "ums_detach");
	}
	forget();
}

no_upcall_region::no_upcall_region() noexcept : slot_(me.slot)
{
	if (slot_)
		ums_no_upcall_enter(slot_);
}

no_upcall_region::~no_upcall_region()
{
	if (slot_)
		ums_no_upcall_leave(slot_);
}

} // namespace this_worker

} // namespace ums

void ums_yield_slow(std::uint64_t argument)
{
	using namespace ums;
	// In a handler.
	if (me.inner_regions)
		return;
	// The only one of its loop that is ready goes on, unless its scheduler has something to look at.
	if (detail::is_in_loop() && me.entry->next == me.entry && me.entry->owner->runs_here()) {
		if (me.entry->owner->has_no_news()) {
			me.entry->owner->count_yield();
			detail::heed_attention();
		} else {
			ums_leave(me.context, argument);
		}
		return;
	}
	if (const int ret = ums_yield(argument, 0); ret < 0)
		detail::throw_error(-ret, "ums_yield");
}

// Its scheduler does it: see scheduler::serve_request().
void ums_switch_slow(ums::detail::worker_context *, std::uint64_t id)
{
	using namespace ums;
	if (!me.slot)
		detail::throw_error(EPERM, "ums::this_worker::switch_to");
	if (worker_id{id} == me.id)
		return;
	if (static_cast<std::int64_t>(id) <= 0)
		throw std::system_error(make_error_code(errc::no_such_worker), "ums::this_worker::switch_to");
	auto &request = detail::context_of(*me.slot).request;
	request = static_cast<std::int64_t>(id);
	ums_ask_scheduler(me.context);
	// It has taken the request, or was not there.
	if (request > 0) {
		if (const int ret = ums_yield(0, 0); ret < 0)
			detail::throw_error(-ret, "ums_yield");
	}
	if (const auto ret = std::exchange(request, 0); ret < 0)
		throw std::system_error(static_cast<int>(-ret), category(), "ums::this_worker::switch_to");
	else if (ret > 0) // a scheduler that is none of this library
		detail::throw_error(EOPNOTSUPP, "ums::this_worker::switch_to");
}

// The slot asks the worker for it, or its scheduler: it takes its signals, or is preempted, on its way out of a system
// call.
void ums_attend()
{
	using namespace ums::detail;
	if (me.context->scheduler.load(std::memory_order_relaxed) == context_wanted)
		ums_yield(0, 0);
	else
		ums_preempt(0, 0); // of nobody: any call will do
}

void *ums_tsan_scheduler()
{
	using namespace ums::detail;
	static char nobody;
	const auto word = me.context->scheduler.load(std::memory_order_relaxed);
	return word > context_wanted ? reinterpret_cast<void *>(word) : &nobody;
}

// SPDX-License-Identifier: MIT
#include <ums/this_worker.hpp>

#include <utility>

#include <pthread.h>

#include "context.hpp"
#include "this_worker_state.hpp"
#include "throw_error.hpp"
#include "x86_64/switch.hpp"

namespace ums {

namespace {

// What the library knows of the calling worker. Plain data, initial-exec: reached without a function that
// might allocate.
struct self {
	worker_id id;
	ums_slot *slot;
	void (*on_detach)(void *);
	void *on_detach_argument;
};

[[gnu::tls_model("initial-exec")]] thread_local constinit self me{};

// The kernel makes a worker an ordinary thread when its list is closed, too, and says so in the slot, which
// may be another's by then only if somebody called ums_detach() past this library.
bool still_worker() noexcept
{
	return me.id != worker_id::none &&
	       __atomic_load_n(&me.slot->id, __ATOMIC_RELAXED) == static_cast<std::uint64_t>(me.id) &&
	       __atomic_load_n(&me.slot->state, __ATOMIC_ACQUIRE) != UMS_STATE_NONE;
}

// What the kernel wants of a worker whose context was elsewhere: it takes its signals, or is preempted, on its way
// out of a system call.
[[gnu::noinline]] void attend() noexcept
{
	// Its scheduler tells this yield from another one by the state that it leaves as it is.
	if (detail::context_of(*me.slot).saved == detail::wanted)
		ums_yield(0, 0);
	else
		ums_preempt(0, 0); // of nobody: any call will do
}

// In user mode, if that can be.
bool switch_to_scheduler(std::uint64_t argument) noexcept
{
	if (!me.slot)
		return false;
	auto &context = detail::context_of(*me.slot);
	// Not this thread's: it has become an ordinary one past this library, and the slot another worker's.
	if (context.thread_pointer != detail::thread_pointer() ||
	    ums_switch_to_scheduler(&context, argument, static_cast<std::uint64_t>(me.id), me.slot))
		return false;
	if (__atomic_load_n(&me.slot->attention, __ATOMIC_RELAXED) ||
	    context.saved == detail::wanted) [[unlikely]]
		attend();
	return true;
}

// The pages of lists are not there in the child of fork(), whose thread is no worker.
void forget_in_child() noexcept
{
	me = {};
	detail::forget_slots();
}

const int at_fork = pthread_atfork(nullptr, nullptr, forget_in_child);

// Keeps the slot mapped while the thread is a worker.
struct slot_owner {
	std::shared_ptr<detail::list_pages> pages;

	~slot_owner() { me = {}; }
};

thread_local slot_owner owner;

// The calling thread is no worker any more.
void forget() noexcept
{
	const self was = std::exchange(me, {});
	owner.pages.reset();
	if (was.on_detach)
		was.on_detach(was.on_detach_argument);
}

} // namespace

namespace detail {

long become_worker(int list_fd, const std::shared_ptr<list_pages> &pages, std::uint64_t user_data,
		   bool user_switch) noexcept
{
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
	if (args.flags) {
		context_of(*me.slot).rseq = rseq_area();
		context_of(*me.slot).thread_pointer = thread_pointer();
	}
	return id;
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

void yield(std::uint64_t argument)
{
	if (switch_to_scheduler(argument))
		return;
	if (me.slot && detail::context_of(*me.slot).saved == detail::wanted)
		detail::context_of(*me.slot).saved = detail::live; // this one is not the one that was wanted
	if (const int ret = ums_yield(argument, 0); ret < 0)
		detail::throw_error(-ret, "ums_yield");
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
	if (const long ret = detail::become_worker(list.native_handle(), list.pages(), user_data, false);
	    ret < 0)
		detail::throw_error(-ret, "ums_worker_enter");
	return get_id();
}

void detach()
{
	if (const int ret = ums_detach(0); ret < 0)
		detail::throw_error(-ret, "ums_detach");
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

// SPDX-License-Identifier: MIT
#include <ums/this_worker.hpp>

#include <utility>

#include "this_worker_state.hpp"
#include "throw_error.hpp"

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

long become_worker(int list_fd, const std::shared_ptr<list_pages> &pages, std::uint64_t user_data) noexcept
{
	owner.pages = pages;
	const ums_worker_args args{.flags = 0, .user_data = user_data};
	const long id = ums_worker_enter(list_fd, &args, sizeof args);
	if (id < 0) {
		if (me.id == worker_id::none)
			owner.pages.reset();
		// After close() the number names something else.
		return id == -EINVAL && pages->is_closed() ? -EBADF : id;
	}
	me.id = worker_id{static_cast<std::uint64_t>(id)};
	me.slot = ums_list_slot(&pages->map, static_cast<std::uint64_t>(id));
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
	if (const long ret = detail::become_worker(list.native_handle(), list.pages(), user_data); ret < 0)
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

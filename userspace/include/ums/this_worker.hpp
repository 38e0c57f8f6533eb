// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>

#include <ums/completion_list.hpp>
#include <ums/deadline.hpp>
#include <ums/export.hpp>
#include <ums/sanitizer.hpp>
#include <ums/worker_id.hpp>

/// The worker that calls. A thread that became one by ums_worker_enter() of <ums/ums.h>, past this library,
/// is not known here.
namespace ums::detail {
struct worker_context;
}

// The library's own: switch_to() and yield().
extern "C" UMS_EXPORT void ums_switch_to(ums::detail::worker_context *context, std::uint64_t id);
extern "C" UMS_EXPORT void ums_switch_away(std::uint64_t argument);

namespace ums::this_worker {

/// The id of the calling worker; worker_id::none in any other thread, and in one that was a worker of a list
/// that has been closed. No system call.
UMS_EXPORT worker_id get_id() noexcept;

/// Whether the calling thread is a worker. No system call.
UMS_EXPORT bool is_worker() noexcept;

/// Gives the processor to the scheduler, whose run() returns reason::yielded with @p argument. The worker is
/// on no list then: the scheduler that got the event owns it and decides when it goes on; returns when it
/// does. (On Windows a yielded thread was lost unless the scheduler knew to queue it; run_loop does.) No system
/// call, where scheduler::run() needs none. May be called in a
/// signal handler, where it does nothing if that has interrupted one of the library's own regions.
/// Throws std::system_error: operation_not_permitted when the caller is
/// no worker.
inline void yield(std::uint64_t argument = 0)
{
	const detail::tsan_order order(detail::tsan_scheduler());
	ums_switch_away(argument);
}

/// A worker to be switched to, looked up once.
class UMS_EXPORT switch_target
{
public:
	explicit switch_target(worker_id id) noexcept;
	worker_id id() const noexcept { return id_; }

private:
	friend void switch_to(const switch_target &target);

	detail::worker_context *context_;
	worker_id id_;
};

/// Yields, and has another worker go on in its place: for the scheduler as if it had run that one, so that its
/// run() returns the next event of that one, or of whom it switches to in turn. The calling worker is on no list
/// then: whoever knows its id, a worker or the scheduler, may have it go on; returns when that happens. In a
/// run_loop it keeps its place in the queue.
///
/// No system call if the other one has yielded, or switched away, in user mode under the same scheduler; otherwise
/// the scheduler executes it. The other one must be so far that scheduler::run() could run it.
///
/// Throws std::system_error: operation_not_permitted when the caller is no worker; what run() says when the other
/// one cannot be run, to which the caller goes on at once (errc::running for a worker of another scheduler of a
/// run_loop); operation_not_supported under a scheduler that is none of this library. Preconditions: in the first form
/// the other one has not ended; the caller is in no signal handler and no no_upcall_region.
inline void switch_to(const switch_target &target)
{
	const detail::tsan_order order(detail::tsan_scheduler());
	ums_switch_to(target.context_, static_cast<std::uint64_t>(target.id_));
}
inline void switch_to(worker_id id)
{
	switch_to(switch_target(id));
}

/// As yield(), but the worker is on its completion list when run() returns, and must be taken from there.
UMS_EXPORT void yield_to_list(std::uint64_t argument = 0);

/// As std::this_thread::sleep_until() and sleep_for(), for any thread; others run meanwhile, be the time that short (but
/// not for none, for which sleep_for() does nothing). A worker of a run_loop with user_switch, and no slice, switches to
/// the next one in user mode, one of a list with a scheduler of its own to that, except in a no_upcall_region: a signal for it waits until it goes on, and it is no
/// cancellation point then.
UMS_EXPORT void sleep_until(std::chrono::steady_clock::time_point time);
template <class Clock, class Duration>
void sleep_until(const std::chrono::time_point<Clock, Duration> &time)
{
	detail::wait_until(time, [](const detail::deadline &until) {
		sleep_until(*until);
		return false;
	});
}
template <class Rep, class Period>
void sleep_for(const std::chrono::duration<Rep, Period> &time)
{
	if (time > time.zero())
		sleep_until(detail::deadline_in(time));
}

/// The calling thread, so far an ordinary one, becomes a worker of @p list. Returns its id when a scheduler
/// has executed it for the first time. Throws std::system_error: device_or_resource_busy (it is a worker or
/// scheduler already), no_space_on_device, bad_file_descriptor (the list is closed), not_enough_memory,
/// operation_not_permitted. Unless it has detached by then, no destructor of its pthread keys may use a ums::mutex
/// and the like.
UMS_EXPORT worker_id enter(const completion_list &list, std::uint64_t user_data = 0);

/// The calling worker becomes an ordinary thread; its scheduler's run() returns reason::detached, and both go
/// on. Throws std::system_error: operation_not_permitted when the caller is no worker.
UMS_EXPORT void detach();

/// While one exists, the worker that made it keeps its processor: blocking makes no upcall (its scheduler
/// sleeps until it goes on), and preemption waits. For code that holds a lock which the scheduler itself
/// takes; the idea is the critical region of Windows' Concurrency Runtime. Regions nest. No system call,
/// unless a preemption was waiting for the end of the outermost one. Does nothing in a thread that is no
/// worker. To be destroyed by the thread that made it, which must not detach meanwhile.
class UMS_EXPORT no_upcall_region
{
public:
	no_upcall_region() noexcept;
	no_upcall_region(const no_upcall_region &) = delete;
	no_upcall_region &operator=(const no_upcall_region &) = delete;
	~no_upcall_region();

private:
	ums_slot *slot_;
};

} // namespace ums::this_worker

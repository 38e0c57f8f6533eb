// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include <ums/completion_list.hpp>
#include <ums/export.hpp>
#include <ums/worker_id.hpp>

/// The worker that calls. A thread that became one by ums_worker_enter() of <ums/ums.h>, past this library,
/// is not known here.
namespace ums::this_worker {

/// The id of the calling worker; worker_id::none in any other thread, and in one that was a worker of a list
/// that has been closed. No system call.
UMS_EXPORT worker_id get_id() noexcept;

/// Whether the calling thread is a worker. No system call.
UMS_EXPORT bool is_worker() noexcept;

/// Gives the processor to the scheduler, whose run() returns reason::yielded with @p argument. The worker is
/// on no list then: the scheduler that got the event owns it and decides when it goes on; returns when it
/// does. (On Windows a yielded thread was lost unless the scheduler knew to queue it; run_loop does.) No system
/// call, where scheduler::run() needs none. Throws std::system_error: operation_not_permitted when the caller is
/// no worker.
UMS_EXPORT void yield(std::uint64_t argument = 0);

/// The same, but the worker is on its completion list when run() returns, and must be taken from there.
UMS_EXPORT void yield_to_list(std::uint64_t argument = 0);

/// The calling thread, so far an ordinary one, becomes a worker of @p list. Returns its id when a scheduler
/// has executed it for the first time. Throws std::system_error: device_or_resource_busy (it is a worker or
/// scheduler already), no_space_on_device, bad_file_descriptor (the list is closed), not_enough_memory,
/// operation_not_permitted.
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

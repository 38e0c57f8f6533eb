// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <system_error>

#include <ums/deadline.hpp>
#include <ums/export.hpp>
#include <ums/ums.h>
#include <ums/worker_id.hpp>

namespace ums {

/// What the kernel says of a worker.
enum class worker_state : std::uint32_t {
	none = UMS_STATE_NONE,	     ///< the slot was never used, or its worker is a plain thread now
	running = UMS_STATE_RUNNING, ///< a scheduler runs it
	blocked = UMS_STATE_BLOCKED, ///< sleeps, or goes on, in the kernel
	ready = UMS_STATE_READY,     ///< can be executed
	empty = UMS_STATE_EMPTY,     ///< its context is in user memory, or on the thread of another worker
	exited = UMS_STATE_EXITED,   ///< has ended
};

namespace detail {

class woken_workers;

// The mapped pages of a list. Shared by the list and its workers, so that a worker which outlives the
// list, as an ordinary thread, does not step on unmapped memory.
struct list_pages {
	ums_list map{};
	std::uint32_t number = 0;		// the pages themselves are not there after fork()
	std::uint32_t forks = 0;		// forks_so_far() in the process that has them
	std::atomic<std::uint32_t> reserved{0}; // places promised to ums::worker objects
	std::atomic<bool> closing{false};	// close() was called; the kernel's word for it comes later
	std::unique_ptr<woken_workers> woken;	// that the kernel does not know of

	list_pages();
	list_pages(const list_pages &) = delete;
	list_pages &operator=(const list_pages &) = delete;
	~list_pages();

	bool is_closed() const noexcept
	{
		return closing.load() || __atomic_load_n(&map.header->closed, __ATOMIC_ACQUIRE) != 0;
	}
};

} // namespace detail

/// Where the kernel publishes workers that may be executed: new ones, ones that were blocked, and
/// preempted ones, in that order of time, each exactly once; with scheduler::options::list also those
/// that were woken in user mode. Owns a file descriptor and the pages shared with the kernel. All const
/// members may be called by any number of threads at the same time.
///
/// A scheduler may take from any list and a list may serve any number of schedulers. (Windows' one-list
/// queue gave the first caller everything; here try_pop_many() takes as many as asked for.)
class UMS_EXPORT completion_list
{
public:
	/// For at most @p max_workers workers at a time, 1 to UMS_MAX_WORKERS; about 160 bytes of kernel
	/// memory each.
	/// Throws std::system_error: function_not_supported (no UMS in this kernel), operation_not_permitted
	/// (disabled), invalid_argument, not_enough_memory, too_many_files_open, no_space_on_device (too many
	/// lists).
	explicit completion_list(std::uint32_t max_workers);

	completion_list(completion_list &&other) noexcept;
	completion_list &operator=(completion_list &&other) noexcept;

	/// Closes the list. Workers that are left become ordinary threads.
	~completion_list();

	/// The id of the longest published worker, which leaves the list; nothing if it is empty. No system
	/// call, no lock (a short one for those that were woken in user mode, who take turns with the others; and a call
	/// if others sleep for them). The worker can be executed at once. Not in signal handlers that may have
	/// interrupted this, or wait().
	std::optional<worker_id> try_pop() const noexcept;

	/// Takes up to ids.size() workers at once. Returns how many.
	std::size_t try_pop_many(std::span<worker_id> ids) const noexcept;

	/// Whether there is nothing to take now.
	bool empty() const noexcept;

	/// Takes a worker; sleeps in the kernel while there is none. Throws as wait() does.
	worker_id pop() const;

	/// Takes a worker; nothing if there was none for @p timeout.
	template <class Rep, class Period>
	std::optional<worker_id> pop_for(std::chrono::duration<Rep, Period> timeout) const
	{
		const auto deadline = detail::deadline_in(timeout);
		for (;;) {
			if (auto id = try_pop())
				return id;
			if (!wait_until(deadline))
				return try_pop();
		}
	}

	/// Sleeps until the list is not empty (another thread may take the worker first). A signal handler
	/// does not end the wait.
	/// Throws std::system_error: bad_file_descriptor when the list is or was closed meanwhile;
	/// owner_dead when the last scheduler of the process has died (its thread has ended in that role), and
	/// the list is empty: until another thread becomes a scheduler nobody will be published.
	void wait() const;

	/// The same, without an exception: @p ec also gets interrupted, when a signal handler ran.
	void wait(std::error_code &ec) const noexcept;

	/// As wait(), but no longer than @p timeout. Returns whether the list was not empty.
	template <class Rep, class Period>
	bool wait_for(std::chrono::duration<Rep, Period> timeout) const
	{
		return wait_until(detail::deadline_in(timeout));
	}

	/// As wait(), but no longer than until @p deadline (CLOCK_MONOTONIC). Returns whether the list was
	/// not empty.
	bool wait_until(std::chrono::steady_clock::time_point deadline) const;

	/// Closes the list: those who wait() get bad_file_descriptor, now and later; workers that are left
	/// become ordinary threads. Those that wait in user mode are put on the list first, as only their scheduler can
	/// let them go: it takes and runs each once more, or does so in its destructor. Any thread may call it, also
	/// while others use the list: the descriptor's number stays taken until the destructor, so that nobody waits on
	/// an unrelated file; for poll(2) it is hung up (epoll(7) forgets a closed list as any file).
	void close() noexcept;

	/// Whether close() was called.
	bool closed() const noexcept;

	/// The file descriptor, for poll, epoll and select: readable while the list is not empty, but for workers that
	/// were woken in user mode (scheduler::options::list). Stays the property of this object.
	int native_handle() const noexcept { return fd_; }

	/// The number of this list, as in the ids of its workers.
	std::uint32_t number() const noexcept { return pages_->map.header->list_nr; }

	std::uint32_t max_workers() const noexcept { return pages_->map.header->max_workers; }

	/// Whether the id is that of a worker of this list, present or past.
	bool owns(worker_id id) const noexcept
	{
		return UMS_ID_LIST(static_cast<std::uint64_t>(id)) == number();
	}

	/// The slot of a worker of this list, as the kernel keeps it. It serves another worker once this one
	/// has ended: compare its id member. Precondition: owns(id).
	ums_slot &slot(worker_id id) const noexcept
	{
		return *ums_list_slot(&pages_->map, static_cast<std::uint64_t>(id));
	}

	/// The state of a worker at this moment; none if the slot is no longer its own. Precondition:
	/// owns(id).
	worker_state state(worker_id id) const noexcept;

	/// What the application attached to a worker: a number or a pointer. Precondition: owns(id).
	std::uint64_t user_data(worker_id id) const noexcept
	{
		return __atomic_load_n(&slot(id).user_data, __ATOMIC_RELAXED);
	}

	void set_user_data(worker_id id, std::uint64_t value) const noexcept
	{
		__atomic_store_n(&slot(id).user_data, value, __ATOMIC_RELAXED);
	}

	/// For the library itself.
	const std::shared_ptr<detail::list_pages> &pages() const noexcept { return pages_; }

private:
	void give_back() noexcept;

	int fd_ = -1;
	std::shared_ptr<detail::list_pages> pages_;
};

} // namespace ums

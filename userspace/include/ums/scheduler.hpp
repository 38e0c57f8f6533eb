// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <system_error>

#include <ums/export.hpp>
#include <ums/sanitizer.hpp>
#include <ums/ums.h>
#include <ums/worker.hpp>
#include <ums/worker_id.hpp>

namespace ums {

/// Why scheduler::run() returned.
enum class reason : std::uint32_t {
	none = 0,			  ///< the worker did not run: see the error code
	blocked = UMS_UPCALL_BLOCKED,	  ///< sleeps, or waits; comes back on its completion list
	yielded = UMS_UPCALL_YIELDED,	  ///< called this_worker::yield(); is the scheduler's, on no list
	preempted = UMS_UPCALL_PREEMPTED, ///< was stopped; is on its completion list
	exited = UMS_UPCALL_EXITED,	  ///< has ended
	detached = UMS_UPCALL_DETACHED,	  ///< has become an ordinary thread
};

/// event::cause() of a worker that waits for another thread, by a synchronisation object of this library, in user mode.
inline constexpr std::uint64_t cause_wait = std::uint64_t{2} << 32;

/// What happened to the worker that a scheduler ran. (Windows' "blocked" did not say who, and stood for
/// the end of a thread as well.)
struct event {
	ums::reason reason = ums::reason::none;
	worker_id worker = worker_id::none;
	std::uint64_t detail = 0; ///< as in <linux/ums.h>; the members below give it its meaning

	/// blocked: the number of the system call in which it sleeps, or UMS_CAUSE_FAULT, or cause_wait.
	std::uint64_t cause() const noexcept { return detail; }
	/// blocked: whether it sleeps for a page fault, not in a system call.
	bool is_fault() const noexcept { return reason == ums::reason::blocked && detail == UMS_CAUSE_FAULT; }
	/// yielded: the argument of this_worker::yield().
	std::uint64_t argument() const noexcept { return detail; }
	/// preempted: by whom.
	ums_preempt_why why() const noexcept { return static_cast<ums_preempt_why>(detail); }
	/// exited: the status as waitpid(2) gives it; 0 for a thread that returned.
	int status() const noexcept { return static_cast<int>(detail); }
	/// Whether the worker is gone: its id will never run again.
	bool is_last() const noexcept
	{
		return reason == ums::reason::exited || reason == ums::reason::detached;
	}
};

namespace detail {

class loop_scheduler;
struct loop_entry;

// Shared with the assembly, which has the offsets: the saved stack pointer of run(), and the upcall that ended it;
// and what switches in user mode need. Aligned, since addresses of it carry bits.
struct alignas(64) upcall_context {
	void *stack_pointer = nullptr;
	std::uint64_t reason = 0;
	std::uint64_t worker = 0;
	std::uint64_t detail = 0;
	void *thread_pointer = nullptr; // null: it is not to be switched to
	void *rseq = nullptr;
	std::uint64_t tid = 0;

	// Of a run_loop: a worker may go on with the next one as long as both are so: *published == seen, inbox empty.
	const std::uint64_t *published = &seen;
	std::uint64_t seen = 0;
	void *inbox = nullptr;	// workers that others have woken
	loop_entry *cursor = nullptr; // in the ring, next for the scheduler
	std::uint64_t yields = 0;     // from one to the next, which the scheduler has not seen

	std::uint64_t control_words = 0;       // of SSE and x87
	std::uint32_t list_nr = ~std::uint32_t{}; // of a run_loop: of the only list whose workers it runs
	list_pages *own_list = nullptr;		  // of scheduler::options::list
};

// upcall_context::reason, besides those of the kernel: the same in another way.
enum user_reason : std::uint64_t {
	in_user_mode = 0x100, // which is all that there is to it
	yielded_in_user_mode = in_user_mode | UMS_UPCALL_YIELDED,
	blocked_in_user_mode = in_user_mode | UMS_UPCALL_BLOCKED,
	yielded_asking = 0x200 | UMS_UPCALL_YIELDED, // for another one to run
};

} // namespace detail
} // namespace ums

// The library's own: of scheduler::run(). 0: the worker has been resumed in user mode, and this scheduler, too.
extern "C" UMS_EXPORT int ums_run(ums::detail::upcall_context *context, std::uint64_t id);

namespace ums {

/// The scheduler role of the calling thread, for as long as the object lives. All members but current() are
/// for that thread only. It needs no list of its own: it can run workers of every list of its process.
///
/// run() is an ordinary function call: the locals and destructors of the scheduler's loop live on, which
/// Windows' ExecuteUmsThread destroyed. The way from an upcall to the return of run() takes no lock,
/// allocates nothing and touches neither errno nor thread-local variables; so a worker may block anywhere,
/// inside malloc or dlopen too, and its scheduler goes on. A scheduler loop keeps that property as long as
/// it does not itself take locks that its workers take (malloc's among them).
///
/// If the thread gets a signal while it runs a worker, that one is preempted first; the handler runs on the
/// upcall stack.
class UMS_EXPORT scheduler
{
public:
	/// Bytes for upcalls, which need next to nothing, and for signal handlers on top of them.
	static constexpr std::size_t default_stack_size = 64 * 1024;

	struct options {
		std::size_t upcall_stack_size = default_stack_size;

		/// Workers that have this option, too, yield and are resumed in user mode, without a system call,
		/// where the machine allows it (UMS_FEATURE_USER_SWITCH, and the rseq area that the C library
		/// registers). Not for threads that differ in credentials or seccomp filters, or that use
		/// shadow stacks, AMX, the GS base or protection keys: see "Switching in user mode" in ums.rst.
		/// Such a worker that has yielded is with its scheduler until that resumes it: closing the list
		/// does not free it, its state is not ready, and under another scheduler it can run once its
		/// thread carries nobody (errc::running until then). To have two schedulers run it at the same
		/// time is not found out; nor that one executes it which is none of this library (raw_scheduler_enter()).
		bool user_switch = false;

		/// With user_switch: a list whose workers only this scheduler runs. Those that have the option, too, then
		/// need no system call either to wait for another thread in a ums::mutex, a channel and so on, or to
		/// sleep: run() returns reason::blocked with cause_wait, and once woken, or when its time has come, the
		/// worker is on the list again. A scheduler need not know the difference, but that the list's native_handle() does not tell
		/// of such workers; its members do. One that is run before it was woken waits on in the kernel.
		/// (run_loop does it in a quicker way.) Without a scheduler those that wait so stay where they are, also
		/// when their time comes, and when the list is closed. The list gets a thread for timeouts, if there can be
		/// one, which blocks all signals, and comes before such a scheduler that is in real time (SCHED_FIFO,
		/// SCHED_RR) when it is made.
		const completion_list *list = nullptr;
	};

	/// The calling thread becomes a scheduler. A guard page lies below the upcall stack.
	/// Throws std::system_error: device_or_resource_busy (it is a worker or a scheduler already; the list in the
	/// options has a scheduler, or the first one comes while somebody sleeps for the list), function_not_supported,
	/// operation_not_permitted, not_enough_memory, too_many_files_open.
	explicit scheduler(const options &opts);
	explicit scheduler(std::size_t upcall_stack_size) : scheduler(options{.upcall_stack_size = upcall_stack_size}) {}
	scheduler() : scheduler(options{}) {}

	scheduler(const scheduler &) = delete;
	scheduler &operator=(const scheduler &) = delete;

	/// The calling thread, which must be the one that made the object, is an ordinary one again. If it has a list of its
	/// own that is closed, workers that waited for that in user mode become ordinary threads first.
	~scheduler();

	/// Runs a worker until it blocks, yields, is preempted, ends or detaches, and tells which. The worker
	/// must have been taken from its completion list, or have yielded. With a @p slice that is not zero
	/// it is preempted after that much wall time.
	///
	/// On error ums::errc says why the worker did not run, and the event's reason is none.
	event run(worker_id id, std::chrono::nanoseconds slice, std::error_code &ec) noexcept;

	/// The same; throws std::system_error when the worker did not run.
	event run(worker_id id, std::chrono::nanoseconds slice = {})
	{
		const detail::tsan_order order(&context_);
		if (slice.count() != 0 || ums_run(&context_, static_cast<std::uint64_t>(id)) != 0)
			return run_or_throw(id, slice);
		if (!(context_.reason & detail::in_user_mode)) [[unlikely]]
			conclude(0);
		return last_event();
	}

	/// The same for a worker whose id is known, which it is once it was taken from its list.
	event run(const worker &w, std::chrono::nanoseconds slice = {}) { return run(w.get_id(), slice); }

	/// The scheduler that the calling thread is, or null.
	static scheduler *current() noexcept;

	/// How many scheduler objects the process has now.
	static unsigned count() noexcept;

private:
	friend class detail::loop_scheduler;

	long enter_kernel(long nr, const void *first, long second, long third) noexcept;
	long resume(ums_slot &slot, worker_id id, std::chrono::nanoseconds::rep slice) noexcept;
	long execute(ums_slot *slot, worker_id id, std::chrono::nanoseconds::rep slice) noexcept;
	bool serve_request(std::chrono::nanoseconds::rep slice) noexcept;
	void settle() noexcept;
	void conclude(std::chrono::nanoseconds::rep slice) noexcept;
	event run(ums_slot *slot, worker_id id, std::chrono::nanoseconds slice, std::error_code &ec) noexcept;
	event run_or_throw(worker_id id, std::chrono::nanoseconds slice);

	event last_event() const noexcept
	{
		return {.reason = static_cast<reason>(context_.reason & 0xff),
			.worker = worker_id{context_.worker},
			.detail = context_.detail};
	}

	detail::upcall_context context_;
	std::shared_ptr<detail::list_pages> own_list_; // bound as long as it is here
	std::byte *stack_ = nullptr; // with the guard page
	std::size_t stack_size_ = 0;
	const std::uint32_t forks_;
};

/// An upcall entry point for those who do without scheduler: it is called for every upcall on a fresh stack
/// and must not return, but call ums_execute() or ums_scheduler_exit(); see <linux/ums.h>.
using raw_entry = void(std::uint64_t reason, std::uint64_t worker, std::uint64_t detail,
		       std::uint64_t unspecified, std::uint64_t arg);

/// The calling thread becomes a scheduler with an entry point of its own, which starts at once with
/// UMS_UPCALL_STARTUP and @p startup as its detail, on @p stack, at least UMS_MIN_STACK bytes that stay the
/// caller's property. Returns only if that fails, with the reason. A signal handler may run on top of the
/// upcall: leave room for it.
UMS_EXPORT std::error_code raw_scheduler_enter(raw_entry *entry, std::span<std::byte> stack,
					       std::uint64_t arg, std::uint64_t startup = 0) noexcept;

} // namespace ums

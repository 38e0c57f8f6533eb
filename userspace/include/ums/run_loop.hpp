// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include <ums/completion_list.hpp>
#include <ums/export.hpp>
#include <ums/statistics.hpp>
#include <ums/worker.hpp>
#include <ums/worker_id.hpp>

namespace ums {

/// A ready-made scheduler: N threads that run workers first in, first out. Each has a completion list and a
/// queue of its own; a new worker goes to the less loaded of two schedulers picked at random (as in Photon).
/// One with nothing to run sleeps in the kernel. A worker that yields is queued again at the end, one that
/// was blocked or preempted when it comes back.
///
/// spawn(), request_stop() and all const members may be called by any thread at any time: by workers, by
/// ordinary threads, before run().
///
/// The child of fork() inherits no workers and no schedulers. It must not touch the loop, and destroys nothing but the
/// object.
///
/// A worker that its scheduler may not execute, since it has other credentials or seccomp filters, ends the program by
/// std::terminate().
class UMS_EXPORT run_loop
{
public:
	struct options {
		unsigned schedulers = 0;	   ///< 0: one for each processor that the caller may use
		bool pin = false;		   ///< each scheduler, and its workers, to one processor
		std::uint32_t max_workers = 8192;  ///< for each scheduler, at the same time
		/// Wall time before a worker is preempted; 0: never. With one, workers switch and wait through the kernel,
		/// whatever user_switch says.
		std::chrono::nanoseconds slice{0};
		/// As in scheduler::options. Makes one thread more for timeouts, which blocks all signals, and if who calls run()
		/// is in real time (SCHED_FIFO, SCHED_RR) has a priority above that.
		bool user_switch = false;
	};

	struct spawn_options {
		std::string name = {};	    ///< of the thread; 15 bytes are kept
		std::size_t stack_size = 0; ///< bytes; 0: the default of pthread_create(3)
	};

	/// One of the loop's workers at this moment.
	struct worker_info {
		worker_id id = worker_id::none;
		std::string name;
		unsigned scheduler = 0; ///< index of the one that it belongs to
		worker_state state = worker_state::none;
	};

	/// While one exists, run() does not return for lack of workers.
	class UMS_EXPORT work_guard
	{
	public:
		/// Throws std::system_error: operation_canceled when run() has ended.
		explicit work_guard(run_loop &loop);
		work_guard(const work_guard &) = delete;
		work_guard &operator=(const work_guard &) = delete;
		~work_guard();

	private:
		run_loop &loop_;
	};

	/// Makes the completion lists; no thread yet. Throws std::system_error as completion_list does.
	explicit run_loop(options opts);
	run_loop() : run_loop(options{}) {}

	/// If workers are left and run() was never called: requests a stop and runs them to their end.
	~run_loop();

	run_loop(const run_loop &) = delete;
	run_loop &operator=(const run_loop &) = delete;

	/// Makes a worker that calls @p f with @p args, with the loop's stop token first if it takes one.
	/// With user_switch, and the usual size of stack, it runs on the thread of a worker of the loop that has ended,
	/// if there is one: no system call then, but what that has left to its thread is still there (thread-local
	/// variables, signal mask, affinity, ...; not the name), and it has the same id.
	///
	/// Nobody joins it; an exception that escapes calls std::terminate(). If the kernel refuses the new
	/// thread as a worker for lack of memory, it runs as an ordinary thread. Throws std::system_error:
	/// operation_canceled (run() has ended), no_space_on_device (every scheduler has its maximum of
	/// workers), resource_unavailable_try_again (no thread); std::bad_alloc.
	template <class F, class... Args>
		requires(!std::is_same_v<std::remove_cvref_t<F>, spawn_options>)
	void spawn(F &&f, Args &&...args)
	{
		start(spawn_options{}, detail::make_body(std::forward<F>(f), std::forward<Args>(args)...));
	}

	template <class F, class... Args>
	void spawn(const spawn_options &opts, F &&f, Args &&...args)
	{
		start(opts, detail::make_body(std::forward<F>(f), std::forward<Args>(args)...));
	}

	/// Runs workers until none is left and no work_guard exists; then every scheduler stops. The calling
	/// thread, an ordinary one, is the first scheduler meanwhile. Once only. Throws std::system_error:
	/// operation_canceled (was called before); whatever a scheduler could not be made for, in which case
	/// no worker has run and it may be called again.
	void run();

	/// Asks the workers that took a stop token to stop.
	bool request_stop() noexcept;
	std::stop_token get_stop_token() const noexcept;

	/// What each scheduler has done so far; complete when run() has returned.
	std::vector<scheduler_statistics> statistics() const;

	/// A worker of the loop by its id; nothing if it has ended or has not yet run for the first time.
	std::optional<worker_info> find(worker_id id) const;

	/// All workers of the loop that have come to a scheduler and have not ended.
	std::vector<worker_info> workers() const;

	/// How many workers there are, including those that have not yet come to a scheduler.
	std::uint64_t size() const noexcept;

private:
	void start(const spawn_options &opts, std::unique_ptr<detail::body> body);

	struct impl;
	std::unique_ptr<impl> impl_;
};

} // namespace ums

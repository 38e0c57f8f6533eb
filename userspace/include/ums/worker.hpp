// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include <pthread.h>
#include <sys/types.h>

#include <ums/completion_list.hpp>
#include <ums/export.hpp>
#include <ums/latch.hpp>
#include <ums/worker_id.hpp>

namespace ums {

namespace detail {

// A callable with its arguments, whatever its type.
struct body {
	body() = default;
	body(const body &) = delete;
	body &operator=(const body &) = delete;
	virtual ~body() = default;
	virtual void run(std::stop_token token) = 0;
};

template <class F, class... Args>
struct body_of final : body {
	template <class G, class... As>
	explicit body_of(G &&g, As &&...as) : call(std::forward<G>(g), std::forward<As>(as)...)
	{
	}

	void run(std::stop_token token) override
	{
		std::apply(
			[&](F &f, Args &...args) {
				if constexpr (std::is_invocable_v<F, std::stop_token, Args...>)
					std::invoke(std::move(f), std::move(token), std::move(args)...);
				else
					std::invoke(std::move(f), std::move(args)...);
			},
			call);
	}

	std::tuple<F, Args...> call;
};

// As the constructor of std::jthread: copies of everything, a stop token first if the callable takes one.
template <class F, class... Args>
std::unique_ptr<body> make_body(F &&f, Args &&...args)
{
	static_assert(std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...> ||
			      std::is_invocable_v<std::decay_t<F>, std::stop_token, std::decay_t<Args>...>,
		      "the callable cannot be called with these arguments");
	return std::make_unique<body_of<std::decay_t<F>, std::decay_t<Args>...>>(std::forward<F>(f),
										 std::forward<Args>(args)...);
}

// What a worker object and its thread both know.
struct worker_shared {
	std::shared_ptr<list_pages> pages;
	std::atomic<pid_t> tid{0};
	std::atomic<std::uint64_t> id{0};
	std::atomic<bool> counted{true}; // holds a place in pages->reserved
	std::atomic<int> error{0};	 // of ums_worker_enter()
	bool keeps_thread = false;
	base::occurrence ended; // if it does

	// Gives the place back, once.
	void release() noexcept;
};

} // namespace detail

/// A thread that runs only when a scheduler runs it; otherwise like std::jthread: any callable with its
/// arguments, a stop token as first parameter if it takes one, an exception that escapes calls
/// std::terminate(), the destructor requests a stop and joins.
///
/// It is a real thread of its own: thread id, thread-local variables, errno, signal mask, priority,
/// processor affinity. It is published on its completion list as soon as it exists, and waits to be executed.
///
/// There is no detach(): a worker without owner is what run_loop::spawn() makes. (this_worker::detach() is
/// something else: the worker becomes an ordinary thread, still to be joined here.)
class UMS_EXPORT worker
{
public:
	using id = worker_id;
	using native_handle_type = pthread_t;

	struct options {
		std::string name = {};	     ///< of the thread; 15 bytes are kept
		std::size_t stack_size = 0;  ///< bytes; 0: the default of pthread_create(3)
		std::uint64_t user_data = 0; ///< for completion_list::user_data()
		bool user_switch = false;    ///< as in scheduler::options

		/// If its stack has the default size: the thread of a worker that had this option, and has ended, runs it,
		/// if there is one, and its own thread is kept likewise. In the steady state no thread is made then.
		/// What the worker before has left to its thread is still there (thread-local variables, affinity,
		/// scheduling policy, credentials, ...; but for the name and the signal mask), so that such
		/// workers should trust each other. It has an id of its own. For its scheduler it ends with
		/// reason::detached, and join() does not wait for the destruction of thread-local variables. Threads
		/// that are kept block all signals, and are never given back: a process whose main() ends by
		/// pthread_exit() does not end, then.
		bool keep_thread = false;
	};

	/// No worker.
	worker() noexcept = default;

	/// Makes a thread that becomes a worker of @p list, and returns when the thread exists.
	/// Throws std::system_error: bad_file_descriptor (the list is closed), no_space_on_device (the list
	/// has its maximum of workers), resource_unavailable_try_again (no thread); std::bad_alloc.
	template <class F, class... Args>
		requires(!std::is_same_v<std::remove_cvref_t<F>, options>)
	explicit worker(completion_list &list, F &&f, Args &&...args)
	    : worker(list, options{}, std::forward<F>(f), std::forward<Args>(args)...)
	{
	}

	template <class F, class... Args>
	worker(completion_list &list, const options &opts, F &&f, Args &&...args)
	{
		start(list, opts, detail::make_body(std::forward<F>(f), std::forward<Args>(args)...));
	}

	worker(worker &&other) noexcept;

	/// Requests a stop and joins first, if joinable.
	worker &operator=(worker &&other) noexcept;

	/// Requests a stop and joins, if joinable. Somebody must run the worker to its end meanwhile; where
	/// nobody can, see join(), the program ends with std::terminate().
	~worker();

	bool joinable() const noexcept { return shared_ != nullptr; }

	/// Waits until the thread has ended. An ordinary thread sleeps; so does a worker, while its scheduler
	/// runs others. A scheduler that joins runs nothing meanwhile: another one must run the worker.
	/// Throws std::system_error: invalid_argument (not joinable); resource_deadlock_would_occur (a worker
	/// joins itself, or the only scheduler of the process one that has not ended); what ums_worker_enter
	/// said if the kernel refused the thread as worker after all, which never ran the callable then
	/// (not_enough_memory; the others only if system calls are mixed with this class).
	void join();

	/// The id. It is known once the kernel has published the worker, and so to everyone who took it from
	/// its list; until then, and without worker, worker_id::none. No wait.
	id get_id() const noexcept;

	/// The thread, for pthread_setaffinity_np() and the like. Preconditions: joinable(); with keep_thread, the
	/// worker has not ended.
	native_handle_type native_handle() const noexcept { return thread_; }

	std::stop_source get_stop_source() noexcept { return stop_; }
	std::stop_token get_stop_token() const noexcept { return stop_.get_token(); }
	bool request_stop() noexcept { return stop_.request_stop(); }

	void swap(worker &other) noexcept;
	friend void swap(worker &a, worker &b) noexcept { a.swap(b); }

private:
	void start(completion_list &list, const options &opts, std::unique_ptr<detail::body> body);
	int finish();
	bool is_caller() const noexcept;

	pthread_t thread_{};
	std::shared_ptr<detail::worker_shared> shared_;
	std::stop_source stop_{std::nostopstate};
};

} // namespace ums

// SPDX-License-Identifier: MIT
#include <ums/worker.hpp>

#include <utility>

#include <errno.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <ums/scheduler.hpp>

#include "context.hpp"
#include "kept_threads.hpp"
#include "sanitizer.hpp"
#include "this_worker_state.hpp"
#include "thread.hpp"
#include "throw_error.hpp"

namespace ums {

namespace detail {

void worker_shared::release() noexcept
{
	if (counted.exchange(false, std::memory_order_relaxed))
		pages->reserved.fetch_sub(1, std::memory_order_relaxed);
}

} // namespace detail

namespace {

// What the new thread gets.
struct start_data {
	std::unique_ptr<detail::body> body;
	std::shared_ptr<detail::worker_shared> shared;
	std::stop_token token;
	worker::options options;
	int list_fd;
	sigset_t signals; // that its creator blocks; for a thread that is kept
};

void run(start_data &data)
{
	auto &shared = *data.shared;

	detail::name_this_thread(data.options.name);
	shared.tid.store(gettid(), std::memory_order_release);
	const long id = detail::become_worker(data.list_fd, shared.pages, data.options.user_data,
					      data.options.user_switch, true);
	if (id < 0) {
		shared.error.store(static_cast<int>(-id), std::memory_order_release);
		return;
	}
	shared.id.store(static_cast<std::uint64_t>(id), std::memory_order_release);
	detail::get_timer();
	detail::on_detach([](void *s) { static_cast<detail::worker_shared *>(s)->release(); }, &shared);
	data.body->run(std::move(data.token));
}

// Not noexcept: pthread_exit() unwinds through it. An exception finds no handler and so calls
// std::terminate().
void *worker_main(void *argument)
{
	const std::unique_ptr<start_data> data(static_cast<start_data *>(argument));
	run(*data);
	return nullptr;
}

// In the end it is no worker, and says so to who joins it.
class announcement
{
public:
	explicit announcement(std::shared_ptr<detail::worker_shared> shared) noexcept : shared_(std::move(shared)) {}
	announcement(const announcement &) = delete;
	announcement &operator=(const announcement &) = delete;
	~announcement()
	{
		detail::end_as_worker();
		if (is_child())
			return;
		detail::tsan_release_if(shared_.get());
		shared_->ended.happen();
	}

	// Made by fork() in between.
	bool is_child() const noexcept { return forks_ != detail::forks_so_far(); }

private:
	const std::shared_ptr<detail::worker_shared> shared_;
	const std::uint32_t forks_ = detail::forks_so_far();
};

// The same for one worker after the other.
void *kept_main(void *argument)
{
	for (bool named = false;;) {
		detail::kept_thread kept;
		{
			auto *const given = static_cast<start_data *>(argument);
			const announcement end(given->shared);
			std::unique_ptr<start_data> data(given);
			if (named && data->options.name.empty())
				detail::name_this_thread(program_invocation_short_name);
			named = !data->options.name.empty();
			// Fresh in a new thread, too.
			pthread_sigmask(SIG_SETMASK, &data->signals, nullptr);
			pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, nullptr);
			pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, nullptr);
			run(*data);
			// A cancellation that the worker has put off is not for the next one.
			pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, nullptr);
			pthread_testcancel();
			pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
			data.reset();
			detail::end_as_worker();
			if (end.is_child())
				return nullptr;
			kept.keep();
		}
		argument = kept.wait();
	}
}

} // namespace

void worker::start(completion_list &list, const options &opts, std::unique_ptr<detail::body> body)
{
	if (list.closed())
		detail::throw_error(EBADF, "ums::worker");

	// Refused here rather than in the new thread: places are counted.
	const auto &pages = list.pages();
	if (pages->reserved.fetch_add(1, std::memory_order_relaxed) >= list.max_workers()) {
		pages->reserved.fetch_sub(1, std::memory_order_relaxed);
		detail::throw_error(ENOSPC, "ums::worker");
	}
	try {
		stop_ = std::stop_source();
		auto shared = std::make_shared<detail::worker_shared>();
		shared->pages = pages;
		auto data = std::make_unique<start_data>(
			start_data{std::move(body), shared, stop_.get_token(), opts, list.native_handle(), {}});
		const bool keep = opts.keep_thread && opts.stack_size == 0;
		if (keep) {
			shared->keeps_thread = true;
			pthread_sigmask(SIG_SETMASK, nullptr, &data->signals);
		}
		if (!keep || !detail::kept_thread::give(data.get(), thread_)) {
			const int error = detail::create_thread(
				thread_, {.stack_size = opts.stack_size, .detached = keep, .affinity = {}},
				keep ? kept_main : worker_main, data.get());
			if (error)
				detail::throw_error(error, "ums::worker");
		}
		data.release(); // the thread's now
		shared_ = std::move(shared);
	} catch (...) {
		pages->reserved.fetch_sub(1, std::memory_order_relaxed);
		throw;
	}
}

worker::worker(worker &&other) noexcept
{
	swap(other);
}

worker &worker::operator=(worker &&other) noexcept
{
	worker(std::move(other)).swap(*this);
	return *this;
}

worker::~worker()
{
	if (joinable()) {
		request_stop();
		// A thread that never became a worker has nothing more to say.
		finish();
	}
}

void worker::swap(worker &other) noexcept
{
	std::swap(thread_, other.thread_);
	std::swap(shared_, other.shared_);
	std::swap(stop_, other.stop_);
}

void worker::join()
{
	if (!joinable())
		detail::throw_error(EINVAL, "ums::worker::join");
	if (const int error = finish())
		detail::throw_error(error, "ums_worker_enter");
}

// Waits for the thread and forgets it. Returns why it did not become a worker, or 0. Throws on a sure
// deadlock.
int worker::finish()
{
	if (is_caller())
		detail::throw_error(EDEADLK, "ums::worker::join: of itself");

	if (scheduler::current() && scheduler::count() == 1) {
		// Only this thread could run it. What the kernel does not know (any more) needs no running.
		ums_info info{};
		auto id = static_cast<std::uint64_t>(get_id());
		// On its way to the kernel, the new thread is soon a worker or refused, and needs nobody for that.
		// It cannot tell, since it sleeps as soon as it is one: so look, now and then.
		while (!id && !shared_->error.load(std::memory_order_acquire)) {
			usleep(100);
			id = static_cast<std::uint64_t>(get_id());
		}
		if (id && ums_query(UMS_QUERY_WORKER, id, &info, sizeof info) == 0 &&
		    info.state != UMS_STATE_EXITED)
			detail::throw_error(EDEADLK, "ums::worker::join: by its only scheduler");
	}

	if (shared_->keeps_thread) {
		shared_->ended.wait();
		detail::tsan_acquire_if(shared_.get());
	} else if (const int error = pthread_join(thread_, nullptr)) {
		detail::throw_error(error, "ums::worker::join");
	}
	shared_->release();
	const int error = shared_->error.load(std::memory_order_relaxed);
	shared_.reset();
	stop_ = std::stop_source(std::nostopstate);
	return error;
}

// The thread may run another worker by now.
bool worker::is_caller() const noexcept
{
	return pthread_equal(thread_, pthread_self()) && !(shared_->keeps_thread && shared_->ended.has_happened());
}

worker::id worker::get_id() const noexcept
{
	if (!joinable())
		return worker_id::none;
	auto id = shared_->id.load(std::memory_order_acquire);
	if (!id && !shared_->error.load(std::memory_order_acquire)) {
		// The thread learns its id when it first runs. Before that the kernel knows it.
		const auto tid = shared_->tid.load(std::memory_order_acquire);
		ums_info info{};
		if (tid &&
		    ums_query(UMS_QUERY_THREAD, static_cast<std::uint64_t>(tid), &info, sizeof info) == 0 &&
		    info.role == UMS_ROLE_WORKER) {
			// A thread that is kept may be another worker, but only after this is known.
			id = shared_->id.load(std::memory_order_acquire);
			if (!id && !shared_->error.load(std::memory_order_acquire))
				id = info.worker;
		}
	}
	return worker_id{id};
}

} // namespace ums

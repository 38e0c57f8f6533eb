// SPDX-License-Identifier: MIT
#include <ums/run_loop.hpp>

#include <atomic>
#include <cstring>
#include <latch>
#include <optional>
#include <thread>

#include <errno.h>
#include <sched.h>

#include "alarm_clock.hpp"
#include "context.hpp"
#include "loop_scheduler.hpp"
#include "registry.hpp"
#include "sanitizer.hpp"
#include "this_worker_state.hpp"
#include "thread.hpp"
#include "throw_error.hpp"
#include "x86_64/switch.hpp"

namespace ums {

namespace {

cpu_set_t usable_processors()
{
	cpu_set_t set;
	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof set, &set) < 0)
		detail::throw_error(errno, "sched_getaffinity");
	return set;
}

// The n-th processor of the set, counted round and round.
int processor(const cpu_set_t &set, unsigned n)
{
	n %= static_cast<unsigned>(CPU_COUNT(&set));
	int cpu = 0;
	while (!CPU_ISSET(cpu, &set) || n-- > 0)
		cpu++;
	return cpu;
}

cpu_set_t only(int cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return set;
}

// Pins the calling thread while it lives.
class pinned
{
public:
	explicit pinned(int cpu)
	{
		if (cpu < 0)
			return;
		before_ = usable_processors();
		set(only(cpu));
	}
	pinned(const pinned &) = delete;
	pinned &operator=(const pinned &) = delete;
	~pinned()
	{
		if (before_)
			set(*before_);
	}

private:
	static void set(const cpu_set_t &to) noexcept { sched_setaffinity(0, sizeof to, &to); }

	std::optional<cpu_set_t> before_;
};

} // namespace

struct run_loop::impl final : detail::loop_events {
	// The number of workers and guards, and two bits.
	static constexpr std::uint64_t running = std::uint64_t{1} << 62;
	static constexpr std::uint64_t over = std::uint64_t{1} << 63;

	const options opts;
	const std::uint32_t forks = detail::forks_so_far();
	detail::registry workers;
	std::vector<std::unique_ptr<detail::loop_scheduler>> schedulers;
	std::atomic<std::uint64_t> live{0};
	std::atomic<std::uint64_t> picks{0};
	std::atomic<bool> lists_closed{false};
	std::stop_source stop;

	explicit impl(const options &o) : opts(o), workers(o.max_workers)
	{
		const auto cpus = usable_processors();
		const unsigned n = o.schedulers ? o.schedulers : static_cast<unsigned>(CPU_COUNT(&cpus));
		for (unsigned i = 0; i < n; i++)
			schedulers.push_back(std::make_unique<detail::loop_scheduler>(
				i, o.pin ? processor(cpus, i) : -1, o.max_workers, workers, *this));
	}

	std::vector<detail::has_alarms *> with_alarms() const
	{
		std::vector<detail::has_alarms *> all;
		for (const auto &s : schedulers)
			all.push_back(s.get());
		return all;
	}

	bool ended() const noexcept override { return live.load(std::memory_order_acquire) & over; }

	void worker_ended() noexcept override { drop(); }

	// One more worker or guard.
	void hold()
	{
		auto n = live.load(std::memory_order_relaxed);
		do {
			if (n & over)
				detail::throw_error(ECANCELED, "ums::run_loop: has ended");
		} while (!live.compare_exchange_weak(n, n + 1, std::memory_order_acq_rel,
						     std::memory_order_relaxed));
	}

	// One less.
	void drop() noexcept
	{
		if (live.fetch_sub(1, std::memory_order_acq_rel) - 1 == running)
			end_if_idle();
	}

	// Ends the loop if it runs and nothing is left. Exactly one caller gets to do so; closing the lists
	// wakes every scheduler, which Photon's loop forgot.
	void end_if_idle() noexcept
	{
		auto idle = running;
		if (!live.compare_exchange_strong(idle, over, std::memory_order_acq_rel))
			return;
		for (auto &s : schedulers)
			s->end();
		// The last that touches the loop: run() may return now, and its owner destroy it.
		// (A notification uses the address only.)
		lists_closed.store(true, std::memory_order_release);
		lists_closed.notify_all();
	}

	// The less loaded of two schedulers picked at random, with a place reserved; another one if it is
	// full.
	detail::loop_scheduler &pick()
	{
		// splitmix64
		auto x = picks.fetch_add(0x9e3779b97f4a7c15U, std::memory_order_relaxed);
		x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
		x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
		x ^= x >> 31;

		const auto n = schedulers.size();
		auto a = static_cast<std::uint32_t>(x) % n;
		const auto b = (x >> 32) % n;
		if (schedulers[b]->load() < schedulers[a]->load())
			a = b;
		for (std::size_t i = 0; i < n; i++)
			if (auto &s = *schedulers[(a + i) % n]; s.reserve())
				return s;
		detail::throw_error(ENOSPC, "ums::run_loop: too many workers");
	}

	worker_info info(const detail::loop_entry &entry) const
	{
		worker_info i;
		i.id = worker_id{entry.id.load(std::memory_order_relaxed)};
		i.name.assign(entry.name.data(), strnlen(entry.name.data(), entry.name.size()));
		i.scheduler = entry.scheduler.load(std::memory_order_relaxed);
		i.state = schedulers[i.scheduler]->list().state(i.id);
		return i;
	}
};

namespace {

// What the thread of a worker gets.
struct spawned {
	std::unique_ptr<detail::body> body;
	std::stop_token token;
	std::string name;
	std::shared_ptr<detail::list_pages> pages;
	int list_fd;
	detail::loop_entry *entry;
	const std::stop_source &stop; // of the loop, which ends behind its threads
	bool user_switch, reusable;
	std::function<void()> not_a_worker;
};

// Not noexcept: pthread_exit() unwinds through it. An exception finds no handler and so calls
// std::terminate().
void *spawned_main(void *argument)
{
	const std::unique_ptr<spawned> data(static_cast<spawned *>(argument));

	detail::name_this_thread(data->name);
	const long id = detail::become_worker(data->list_fd, data->pages,
					      reinterpret_cast<std::uint64_t>(data->entry), data->user_switch, true);
	data->pages.reset();
	if (id >= 0)
		detail::belongs_to(*data->entry);
	detail::tsan_acquire_if(ums_tsan_scheduler()); // what ran for it before
	data->body->run(std::move(data->token));
	data->body.reset();
	detail::tsan_release_if(&data->stop); // for who has called run()
	if (id < 0) {
		data->not_a_worker();
		return nullptr;
	}

	// The thread is kept for other workers, if its context can wait for them without the kernel.
	if (!data->reusable || !detail::is_in_loop())
		return nullptr;
	auto &entry = *data->entry;
	auto &stop = data->stop;
	bool named = !data->name.empty();
	while (auto work = entry.owner->next_work(named)) {
		named = entry.name[0];
		work->run(stop.get_token());
		work.reset();
		detail::tsan_release_if(&stop);
	}
	return nullptr;
}

} // namespace

void run_loop::start(const spawn_options &opts, std::unique_ptr<detail::body> body)
{
	const bool reusable = impl_->opts.user_switch && opts.stack_size == 0;

	impl_->hold();
	detail::loop_scheduler *s = nullptr;
	detail::loop_entry *entry = nullptr;
	try {
		s = &impl_->pick();
		if (reusable && s->give_work(body, opts.name))
			return;

		entry = &impl_->workers.get(opts.name, s->index());
		entry->owner = s;
		std::unique_ptr<spawned> data(new spawned{
			.body = std::move(body),
			.token = impl_->stop.get_token(),
			.name = opts.name,
			.pages = s->list().pages(),
			.list_fd = s->list().native_handle(),
			.entry = entry,
			.stop = impl_->stop,
			.user_switch = impl_->opts.user_switch,
			.reusable = reusable,
			.not_a_worker =
				[loop = impl_.get(), s, entry] {
					loop->workers.put_back(*entry);
					s->release();
					loop->drop();
				},
		});

		detail::thread_options thread{
			.stack_size = opts.stack_size, .detached = true, .affinity = {}};
		if (s->cpu() >= 0)
			thread.affinity = only(s->cpu());
		pthread_t handle;
		if (const int error = detail::create_thread(handle, thread, spawned_main, data.get()))
			detail::throw_error(error, "ums::run_loop::spawn");
		data.release(); // the thread's now
	} catch (...) {
		if (entry)
			impl_->workers.put_back(*entry);
		if (s)
			s->release();
		impl_->drop();
		throw;
	}
}

run_loop::run_loop(options opts) : impl_(std::make_unique<impl>(opts)) {}

run_loop::~run_loop()
{
	// In the child of fork(): what is left of it there is nothing that could be ended.
	if (impl_->forks != detail::forks_so_far()) {
		impl_.release();
		return;
	}
	if (impl_->live.load(std::memory_order_acquire) & ~impl::over) {
		request_stop();
		run();
	}
}

void run_loop::run()
{
	auto before = impl_->live.load(std::memory_order_relaxed);
	do {
		if (before & (impl::over | impl::running))
			detail::throw_error(ECANCELED, "ums::run_loop::run: second call");
	} while (!impl_->live.compare_exchange_weak(before, before | impl::running,
						    std::memory_order_acq_rel));

	const auto n = impl_->schedulers.size();
	std::vector<std::exception_ptr> errors(n);
	std::latch ready(static_cast<std::ptrdiff_t>(n));
	std::atomic<bool> failed{false};

	// All become schedulers before any runs a worker, so that a failure leaves nothing half done.
	const auto serve = [&](std::size_t i, bool named) {
		auto &mine = *impl_->schedulers[i];
		try {
			const pinned here(mine.cpu());
			if (named)
				detail::name_this_thread("ums-sched-" + std::to_string(i));
			detail::registry::register_thread();
			scheduler me({.user_switch = impl_->opts.user_switch});
			ready.arrive_and_wait();
			if (failed)
				return;
			if (i == 0)
				impl_->end_if_idle();
			mine.serve(me, impl_->opts.slice);
		} catch (...) {
			errors[i] = std::current_exception();
			failed = true;
			ready.arrive_and_wait();
		}
	};

	std::optional<detail::alarm_clock> alarm_clock;
	std::vector<std::jthread> threads;
	std::size_t made = 1;
	try {
		if (impl_->opts.user_switch && detail::can_switch())
			alarm_clock.emplace(impl_->with_alarms());
		threads.reserve(n - 1);
		for (; made < n; made++)
			threads.emplace_back(serve, made, true);
	} catch (...) {
		errors[0] = std::current_exception();
		failed = true;
		ready.count_down(static_cast<std::ptrdiff_t>(n - made));
	}
	if (errors[0])
		ready.arrive_and_wait();
	else
		serve(0, false);
	threads.clear();

	for (const auto &error : errors)
		if (error) {
			impl_->live.fetch_and(~impl::running, std::memory_order_acq_rel);
			std::rethrow_exception(error);
		}

	// Whoever ended the loop, perhaps an ordinary thread with a work_guard, must have let go of it.
	impl_->lists_closed.wait(false, std::memory_order_acquire);
	detail::tsan_acquire_if(&impl_->stop);
}

bool run_loop::request_stop() noexcept
{
	return impl_->stop.request_stop();
}

std::stop_token run_loop::get_stop_token() const noexcept
{
	return impl_->stop.get_token();
}

std::vector<scheduler_statistics> run_loop::statistics() const
{
	std::vector<scheduler_statistics> all;
	for (const auto &s : impl_->schedulers)
		all.push_back(s->statistics());
	return all;
}

std::optional<run_loop::worker_info> run_loop::find(worker_id id) const
{
	const detail::rcu_read_section section;
	if (const auto *entry = impl_->workers.find(id); entry && !entry->idle.load(std::memory_order_acquire))
		return impl_->info(*entry);
	return std::nullopt;
}

std::vector<run_loop::worker_info> run_loop::workers() const
{
	std::vector<worker_info> all;
	impl_->workers.for_each([&](const detail::loop_entry &entry) {
		if (!entry.idle.load(std::memory_order_acquire))
			all.push_back(impl_->info(entry));
	});
	return all;
}

std::uint64_t run_loop::size() const noexcept
{
	return impl_->live.load(std::memory_order_relaxed) & ~(impl::over | impl::running);
}

run_loop::work_guard::work_guard(run_loop &loop) : loop_(loop)
{
	loop_.impl_->hold();
}

run_loop::work_guard::~work_guard()
{
	loop_.impl_->drop();
}

} // namespace ums

// SPDX-License-Identifier: MIT
#include <array>
#include <atomic>
#include <memory>
#include <thread>

#include <sys/mman.h>
#include <sys/wait.h>

#include "helpers.hpp"

using test::error_of;
using test::run;
using test::run_all;
using ums::reason;

TEST(ThisWorker, AnOrdinaryThreadIsNone)
{
	EXPECT_FALSE(ums::this_worker::is_worker());
	EXPECT_EQ(ums::this_worker::get_id(), ums::worker_id::none);
	EXPECT_EQ(error_of([] { ums::this_worker::yield(); }), std::errc::operation_not_permitted);
	EXPECT_EQ(error_of([] { ums::this_worker::yield_to_list(); }), std::errc::operation_not_permitted);
	EXPECT_EQ(error_of([] { ums::this_worker::detach(); }), std::errc::operation_not_permitted);
	const ums::this_worker::no_upcall_region nothing;
}

TEST(ThisWorker, ASchedulerIsNone)
{
	ums::scheduler me;
	EXPECT_FALSE(ums::this_worker::is_worker());
	EXPECT_EQ(error_of([] { ums::this_worker::yield(); }), std::errc::operation_not_permitted);
}

TEST(ThisWorker, KnowsItsId)
{
	ums::completion_list list(1);
	ums::scheduler me;
	ums::worker_id inside{};
	bool is_worker = false;
	ums::worker w(list, [&] {
		inside = ums::this_worker::get_id();
		is_worker = ums::this_worker::is_worker();
		EXPECT_EQ(error_of([] { ums::scheduler no; }), std::errc::device_or_resource_busy);
		EXPECT_EQ(error_of([&] { ums::this_worker::enter(list); }),
			  std::errc::device_or_resource_busy);
	});
	const auto id = list.pop();
	EXPECT_EQ(run(me, list, id).reason, reason::exited);
	EXPECT_EQ(inside, id);
	EXPECT_TRUE(is_worker);
}

namespace {

thread_local int private_number = 1;

} // namespace

TEST(ThisWorker, EachIsAThreadOfItsOwn)
{
	constexpr int n = 20;
	ums::completion_list list(n);
	ums::scheduler me;
	std::vector<ums::worker> workers;
	std::vector<pid_t> tids(n);
	private_number = -1;
	errno = 77;
	for (int i = 0; i < n; i++)
		workers.emplace_back(list, [&, i] {
			EXPECT_EQ(private_number, 1);
			private_number = 1000 + i;
			errno = i;
			tids[static_cast<std::size_t>(i)] = gettid();
			sigset_t mask;
			sigemptyset(&mask);
			sigaddset(&mask, SIGRTMIN + i % 10);
			pthread_sigmask(SIG_SETMASK, &mask, nullptr);
			for (int round = 0; round < 5; round++) {
				errno = i;
				round % 2 ? ums::this_worker::yield_to_list() : void(usleep(100));
				EXPECT_EQ(errno, i);
				EXPECT_EQ(private_number, 1000 + i);
				EXPECT_EQ(gettid(), tids[static_cast<std::size_t>(i)]);
				pthread_sigmask(SIG_SETMASK, nullptr, &mask);
				EXPECT_TRUE(sigismember(&mask, SIGRTMIN + i % 10));
				EXPECT_FALSE(sigismember(&mask, SIGRTMIN + (i + 1) % 10));
			}
		});
	// Not by run_all(), which would go on with a worker that is on its list.
	for (int left = n; left > 0;)
		left -= me.run(list.pop()).is_last();
	EXPECT_EQ(private_number, -1);
	EXPECT_EQ(errno, 77);
	std::sort(tids.begin(), tids.end());
	EXPECT_EQ(std::unique(tids.begin(), tids.end()), tids.end());
	EXPECT_EQ(std::find(tids.begin(), tids.end(), gettid()), tids.end());
}

TEST(ThisWorker, EnterAndDetach)
{
	ums::completion_list list(1);
	std::atomic<bool> go_on{false};
	std::thread ordinary([&] {
		EXPECT_FALSE(ums::this_worker::is_worker());
		for (int i = 0; i < 3; i++) {
			const auto id = ums::this_worker::enter(list, 5);
			EXPECT_EQ(id, ums::this_worker::get_id());
			EXPECT_EQ(list.user_data(id), 5U);
			EXPECT_EQ(ums::query_thread().role, unsigned{UMS_ROLE_WORKER});
			ums::this_worker::yield(static_cast<std::uint64_t>(i));
			ums::this_worker::detach();
			EXPECT_FALSE(ums::this_worker::is_worker());
			EXPECT_EQ(ums::query_thread().role, unsigned{UMS_ROLE_NONE});
			EXPECT_EQ(error_of([] { ums::this_worker::detach(); }),
				  std::errc::operation_not_permitted);
		}
		while (!go_on) // runs beside the scheduler
			std::this_thread::yield();
	});
	{
		ums::scheduler me;
		for (unsigned i = 0; i < 3; i++) {
			const auto id = list.pop();
			auto e = run(me, list, id);
			EXPECT_EQ(e.reason, reason::yielded);
			EXPECT_EQ(e.argument(), i);
			e = run(me, list, id);
			EXPECT_EQ(e.reason, reason::detached);
			EXPECT_EQ(e.worker, id);
			EXPECT_TRUE(e.is_last());
			EXPECT_EQ(error_of([&] { me.run(id); }), ums::errc::ended);
		}
	}
	go_on = true;
	ordinary.join();
}

TEST(ThisWorker, EnterErrors)
{
	ums::completion_list list(1);
	ums::scheduler me;
	ums::worker w(list, [] {});
	list.wait();
	std::jthread([&] {
		EXPECT_EQ(error_of([&] { ums::this_worker::enter(list); }), std::errc::no_space_on_device);
		EXPECT_FALSE(ums::this_worker::is_worker());
		ums::completion_list closed(1);
		closed.close();
		EXPECT_TRUE(error_of([&] { ums::this_worker::enter(closed); }));
	}).join();
	EXPECT_EQ(error_of([&] { ums::this_worker::enter(list); }), std::errc::device_or_resource_busy);
	run_all(me, list, 1);
}

TEST(ThisWorker, ADetachedWorkerIsStillJoined)
{
	ums::completion_list list(1);
	ums::scheduler me;
	std::atomic<bool> detached{false}, go_on{false}, ended{false};
	ums::worker w(list, [&] {
		ums::this_worker::detach();
		detached = true;
		while (!go_on)
			std::this_thread::yield();
		ended = true;
	});
	EXPECT_EQ(run(me, list, list.pop()).reason, reason::detached);
	while (!detached)
		std::this_thread::yield();
	// Its place is free already.
	EXPECT_NO_THROW({
		ums::worker next(list, [] {});
		run_all(me, list, 1);
	});
	EXPECT_FALSE(ended);
	go_on = true;
	w.join();
	EXPECT_TRUE(ended);
}

namespace {

// Does what an ordinary thread can. Returns 0, or the number of what it could not.
int is_ordinary(ums::worker_id parent)
{
	alarm(60);
	if (ums::this_worker::is_worker())
		return 1;
	if (error_of([] { ums::this_worker::yield(); }) != std::errc::operation_not_permitted)
		return 2;
	{
		ums::scheduler me;
		std::error_code ec;
		me.run(parent, {}, ec);
		if (ec != ums::errc::no_such_worker)
			return 3;
	}
	ums::mutex m;
	ums::latch locked(1);
	m.lock();
	std::thread other([&] {
		locked.count_down();
		m.lock();
		m.unlock();
	});
	locked.wait();
	m.unlock();
	other.join();
	int ran = 0;
	ums::run_loop loop({.schedulers = 1, .user_switch = true});
	loop.spawn([&] {
		ums::this_worker::yield();
		ran++;
	});
	loop.run();
	return ran == 1 ? 0 : 4;
}

// Its exit status.
int forks()
{
	const auto id = ums::this_worker::get_id();
	const pid_t child = fork();
	if (child == 0)
		_exit(is_ordinary(id));
	int status = -1;
	EXPECT_EQ(waitpid(child, &status, 0), child);
	return status;
}

} // namespace

// Lists have no pages there, so nothing may look at the slot that the parent has.
TEST(ThisWorker, TheChildOfForkIsNone)
{
	for (const bool user_switch : {false, true}) {
		int status = -1;
		{
			ums::completion_list list(1);
			ums::scheduler me({.user_switch = user_switch});
			ums::worker w(list, {.user_switch = user_switch}, [&] { status = forks(); });
			run_all(me, list, 1);
		}
		EXPECT_EQ(status, 0);
		status = -1;
		ums::run_loop loop({.schedulers = 1, .user_switch = user_switch});
		loop.spawn([&] { status = forks(); });
		loop.run();
		EXPECT_EQ(status, 0);
	}
}

// What the child finds at the address of the pages is its own; and the thread is no scheduler there.
TEST(ThisWorker, TheChildOfForkLetsGoOfItsList)
{
	auto list = std::make_unique<ums::completion_list>(100);
	ums::scheduler me;
	const pid_t child = fork();
	if (child == 0) {
		alarm(60);
		std::array<volatile char *, 50> mine;
		for (auto &page : mine) {
			page = static_cast<char *>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
							MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
			*page = 1;
		}
		list.reset();
		for (auto *page : mine)
			*page = 2;
		_exit(ums::scheduler::current() || ums::scheduler::count() ? 1 : 0);
	}
	int status = -1;
	EXPECT_EQ(waitpid(child, &status, 0), child);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(ums::scheduler::current(), &me);
}

TEST(NoUpcallRegion, BlockingMakesNoUpcall)
{
	ums::completion_list list(1);
	ums::scheduler me;
	const test::pipe pipe;
	ums::worker w(list, [&] {
		auto &slot = list.slot(ums::this_worker::get_id());
		{
			const ums::this_worker::no_upcall_region outer;
			EXPECT_EQ(slot.no_upcall, 1U);
			usleep(2000);
			{
				const ums::this_worker::no_upcall_region inner;
				EXPECT_EQ(slot.no_upcall, 2U);
				usleep(2000);
			}
			usleep(2000);
			EXPECT_EQ(slot.no_upcall, 1U);
		}
		EXPECT_EQ(slot.no_upcall, 0U);
		ums::this_worker::yield(1);
		pipe.take();
	});
	const auto id = list.pop();
	auto e = run(me, list, id);
	EXPECT_EQ(e.reason, reason::yielded);
	e = run(me, list, id);
	EXPECT_EQ(e.reason, reason::blocked);
	pipe.give();
	EXPECT_EQ(ums::query(id).blocks_syscall, 1U);
	run_all(me, list, 1);
}

TEST(NoUpcallRegion, PreemptionWaitsForItsEnd)
{
	ums::completion_list list(1);
	ums::scheduler me;
	std::atomic<bool> still_inside{false};
	ums::worker w(list, [&] {
		auto &slot = list.slot(ums::this_worker::get_id());
		{
			const ums::this_worker::no_upcall_region outer;
			{
				const ums::this_worker::no_upcall_region inner;
				ums::preempt(ums::this_worker::get_id());
				EXPECT_NE(slot.attention & UMS_ATTN_PREEMPT, 0U);
			}
			still_inside = true;
		}
		still_inside = false;
	});
	const auto id = list.pop();
	const auto e = run(me, list, id);
	EXPECT_EQ(e.reason, reason::preempted);
	EXPECT_EQ(e.why(), UMS_PREEMPT_ASKED);
	EXPECT_TRUE(still_inside); // at the end of the outer one
	EXPECT_EQ(list.slot(id).attention, 0U);
	EXPECT_EQ(list.pop(), id);
	EXPECT_EQ(run(me, list, id).reason, reason::exited);
}

// Those inside of the library, too: a slice that ends in one is over behind it.
TEST(NoUpcallRegion, SlicesEndThoughTheLibraryIsInOne)
{
	ums::completion_list list(1);
	ums::scheduler me;
	std::atomic<bool> stop{false}, over{false};
	ums::counting_semaphore<> s(0);
	ums::worker w(list, [&] {
		while (!stop) {
			s.release();
			EXPECT_TRUE(s.try_acquire());
		}
	});
	std::thread gives_up([&] {
		for (int i = 0; i < 60'000 && !over; i++)
			usleep(1000);
		stop = true;
	});
	const auto id = list.pop();
	bool ended = false;
	for (int i = 0; i < 50 && !ended; i++) {
		const auto e = run(me, list, id, std::chrono::milliseconds(1));
		EXPECT_EQ(e.reason, reason::preempted);
		ended = e.is_last();
		if (!ended) {
			EXPECT_EQ(list.pop(), id);
		}
	}
	EXPECT_FALSE(stop);
	over = true;
	gives_up.join();
	if (!ended) {
		EXPECT_EQ(run(me, list, id).reason, reason::exited);
	}
}

TEST(NoUpcallRegion, ASliceWaitsForItsEnd)
{
	ums::completion_list list(1);
	ums::scheduler me;
	bool left = false;
	ums::worker w(list, [&] {
		auto &slot = list.slot(ums::this_worker::get_id());
		const ums::this_worker::no_upcall_region region;
		ums::this_worker::yield(); // the slice begins inside
		while (!(__atomic_load_n(&slot.attention, __ATOMIC_RELAXED) & UMS_ATTN_PREEMPT))
			;
		left = true;
	});
	const auto id = list.pop();
	EXPECT_EQ(run(me, list, id).reason, reason::yielded);
	const auto e = run(me, list, id, std::chrono::milliseconds(1));
	EXPECT_EQ(e.reason, reason::preempted);
	EXPECT_EQ(e.why(), UMS_PREEMPT_SLICE);
	EXPECT_TRUE(left);
	run_all(me, list, 1);
}

// SPDX-License-Identifier: MIT
//
// Workers that wait for another thread in user mode, under a scheduler of the program's own: they are blocked, and come
// back on their list. That the synchronisation objects do what they should there, sync_test.cpp tests.
#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include <pthread.h>
#include <signal.h>
#include <sys/rseq.h>
#include <sys/wait.h>

#include "helpers.hpp"

using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;
using test::error_of;
using ums::reason;

namespace {

const ums::worker::options may_switch{.user_switch = true};

ums::scheduler::options of(const ums::completion_list &list)
{
	return {.user_switch = true, .list = &list};
}

class ListWait : public testing::Test
{
protected:
	void SetUp() override
	{
		if (!ums::probe().has(UMS_FEATURE_USER_SWITCH) || !__rseq_size)
			GTEST_SKIP() << "no switch in user mode";
	}
};

bool is_wait(const ums::event &e)
{
	return e.reason == reason::blocked && e.cause() == ums::cause_wait;
}

} // namespace

TEST_F(ListWait, TheKernelDoesNotSeeIt)
{
	constexpr int rounds = 5000;
	ums::completion_list list(2);
	ums::channel<int> there, back;
	ums::scheduler me(of(list));
	ums::worker a(list, may_switch, [&] {
		for (int i = 0; i < rounds; i++) {
			there.send(i);
			EXPECT_EQ(back.receive(), i);
		}
		there.close();
	});
	ums::worker b(list, may_switch, [&] {
		while (const auto i = there.receive())
			back.send(*i);
	});
	const auto before = ums::query_thread();
	int waits = 0, others = 0;
	for (int n = 2; n > 0;) {
		const auto e = me.run(list.pop());
		waits += is_wait(e);
		others += e.reason == reason::blocked && !is_wait(e);
		n -= e.is_last();
	}
	const auto after = ums::query_thread();
	EXPECT_GE(waits, rounds);
	EXPECT_LT(others, 100);
	EXPECT_LT(after.executes - before.executes, 200U);
	// Nor has the list slept, as there is always somebody to run.
	EXPECT_LT(after.blocks_syscall - before.blocks_syscall, 200U);
	EXPECT_EQ(ums::system_call_name(ums::cause_wait), "wait in user mode");
}

// Timeouts that do not come either.
TEST_F(ListWait, TimersNeedNoKernel)
{
	constexpr int rounds = 3000;
	ums::completion_list list(2);
	ums::channel<int> there, back;
	ums::scheduler me(of(list));
	ums::worker a(list, may_switch, [&] {
		for (int i = 0; i < rounds; i++) {
			EXPECT_TRUE(there.send_for(int{i}, 1h));
			EXPECT_EQ(back.receive_for(1h), i);
		}
		there.close();
	});
	ums::worker b(list, may_switch, [&] {
		while (auto n = there.receive_for(2h))
			EXPECT_TRUE(back.send_for(std::move(*n), 3h));
	});
	const auto before = ums::query_thread();
	int waits = 0, left = 2;
	while (left > 0) {
		const auto e = me.run(list.pop());
		waits += is_wait(e);
		left -= e.is_last();
	}
	EXPECT_LT(ums::query_thread().executes - before.executes, 300U);
	EXPECT_GE(waits, 2 * rounds - 100);
}

// The scheduler sleeps, or runs another worker, which computes, or yields.
TEST_F(ListWait, TimeoutsCome)
{
	const test::time_limit limit(100s);
	ums::completion_list list(8);
	ums::scheduler me(of(list));
	ums::counting_semaphore<> gate(0);
	std::vector<ums::worker> workers;
	constexpr int n = 3;
	for (int i = 0; i < n; i++)
		workers.emplace_back(list, may_switch, [&, i] {
			for (int k = 0; k < 4; k++) {
				const auto start = steady::now();
				const auto time = 1ms * (3 * i + 7 * k);
				if (k % 2) {
					ums::this_worker::sleep_for(time);
				} else {
					EXPECT_FALSE(gate.try_acquire_for(time));
				}
				EXPECT_GE(steady::now() - start, time);
			}
		});
	// With nobody else.
	int waits = 0;
	for (int left = n; left > 0;) {
		const auto e = me.run(list.pop());
		waits += is_wait(e);
		left -= e.is_last();
	}
	EXPECT_GE(waits, 3 * n);
	for (auto &w : workers)
		w.join();
	workers.clear();

	for (const bool computes : {false, true}) {
		std::atomic<bool> slept{false};
		ums::worker sleeps(list, may_switch, [&] {
			ums::this_worker::sleep_for(5ms);
			slept = true;
		});
		ums::worker other(list, may_switch, [&] {
			while (!slept)
				if (!computes)
					ums::this_worker::yield();
		});
		std::vector<ums::worker_id> ready;
		ready.reserve(4);
		for (int left = 2; left > 0;) {
			while (const auto id = list.try_pop())
				ready.push_back(*id);
			if (ready.empty())
				ready.push_back(list.pop());
			const auto id = ready.front();
			ready.erase(ready.begin());
			// Who computes is stopped: by a slice, through the kernel.
			const auto e = me.run(id, id == other.get_id() && computes ? 2ms : 0ms);
			left -= e.is_last();
			if (e.reason == reason::yielded)
				ready.push_back(id);
		}
		EXPECT_TRUE(slept);
	}
}

// Who is woken and whose time comes at once is told of one of both, and what it was given is not lost.
TEST_F(ListWait, WokenAtTheLastMoment)
{
	const test::time_limit limit(100s);
	constexpr unsigned n = 4, rounds = 400;
	ums::completion_list list(n);
	ums::scheduler me(of(list));
	ums::counting_semaphore<> gate(0);
	std::atomic<long> acquired{0}, released{0}, late{0};
	std::atomic<bool> over{false};
	std::vector<ums::worker> workers;
	for (unsigned k = 0; k < n; k++)
		workers.emplace_back(list, may_switch, [&, k] {
			for (unsigned i = 0; i < rounds; i++)
				acquired += gate.try_acquire_for(1us * ((i * 37 + k * 11) % 300));
			// Both happen, however slow all this is.
			while (acquired == 0)
				acquired += gate.try_acquire_for(1s);
			while (late == 0) {
				const bool got = gate.try_acquire_for(1us);
				acquired += got;
				late += !got;
			}
		});
	std::jthread releases([&] {
		for (unsigned i = 0; !over; i++) {
			usleep(i % 64 ? i * 13 % 300 : 3000);
			released++;
			gate.release();
		}
	});
	test::take_turns(me, list, n);
	over = true;
	releases.join();
	while (gate.try_acquire())
		acquired++;
	EXPECT_EQ(acquired, released);
}

TEST_F(ListWait, TimesThatArePast)
{
	const test::time_limit limit(100s);
	ums::completion_list list(1);
	ums::scheduler me(of(list));
	ums::counting_semaphore<> gate(0);
	ums::worker w(list, may_switch, [&] {
		for (const auto time : {steady::time_point::min(), steady::time_point{}, steady::now() - 1h, steady::now()}) {
			EXPECT_FALSE(gate.try_acquire_until(time));
			ums::this_worker::sleep_until(time);
			// Those behind them are on time.
			const auto start = steady::now();
			EXPECT_FALSE(gate.try_acquire_for(2ms));
			EXPECT_GE(steady::now() - start, 2ms);
		}
	});
	int waits = 0, runs = 0;
	for (auto id = list.pop();;) {
		const auto e = me.run(id);
		waits += is_wait(e);
		runs++;
		if (e.is_last())
			break;
		if (e.reason != reason::yielded)
			id = list.pop();
	}
	EXPECT_LE(waits, 4); // of the others
	EXPECT_GE(waits, 2);
}

// Nobody is there to run them: they stay until somebody is. Closed, the list lets them go, to wait as other threads.
TEST_F(ListWait, TimersWithoutAScheduler)
{
	const test::time_limit limit(100s);
	for (const bool closed : {false, true}) {
		ums::completion_list list(1);
		ums::counting_semaphore<> gate(0);
		std::optional<ums::scheduler> me(std::in_place, of(list));
		std::atomic<bool> acquired{false};
		ums::worker w(list, may_switch, [&] { acquired = closed ? gate.try_acquire_for(1h) : gate.try_acquire_for(5ms); });
		while (!is_wait(me->run(list.pop())))
			;
		if (closed) {
			list.close();
			me.reset();
			gate.release();
		} else {
			me.reset();
			usleep(20'000);
			me.emplace(of(list));
			while (!me->run(list.pop()).is_last())
				;
		}
		w.join();
		EXPECT_EQ(acquired, closed);
	}
}

// Before its time has come; and it may wait so again.
TEST_F(ListWait, RunUnaskedBeforeItsTime)
{
	const test::time_limit limit(100s);
	ums::completion_list list(1);
	ums::scheduler me(of(list));
	ums::counting_semaphore<> gate(0);
	constexpr int rounds = 5;
	ums::worker w(list, may_switch, [&] {
		for (int i = 0; i < rounds; i++) {
			const auto start = steady::now();
			EXPECT_FALSE(gate.try_acquire_for(20ms));
			EXPECT_GE(steady::now() - start, 20ms);
		}
	});
	const auto id = list.pop();
	int waits = 0;
	for (auto e = me.run(id); !e.is_last(); e = me.run(id)) {
		if (is_wait(e))
			waits++; // unasked
		else
			EXPECT_EQ(list.pop(), id);
	}
	EXPECT_GT(waits, 0);
}

TEST_F(ListWait, ItsAlarmClockTakesNoSignals)
{
	ums::completion_list list(1);
	ums::scheduler me(of(list));
	int found = 0;
	for (const auto &entry : std::filesystem::directory_iterator("/proc/self/task")) {
		std::string name;
		std::ifstream(entry.path() / "comm") >> name;
		if (name != "ums-alarm")
			continue;
		found++;
		EXPECT_TRUE(test::blocks_all_signals(entry.path().filename()));
	}
	EXPECT_EQ(found, 1);
}

// First come, first served, and nobody twice.
TEST_F(ListWait, TheyComeBackInOrder)
{
	constexpr int n = 5;
	ums::completion_list list(n);
	ums::counting_semaphore<> gate(0);
	ums::scheduler me(of(list));
	std::vector<ums::worker> workers;
	std::vector<ums::worker_id> order;
	for (int i = 0; i < n; i++) {
		workers.emplace_back(list, may_switch, [&] { gate.acquire(); });
		const auto id = list.pop();
		while (!is_wait(me.run(id)))
			EXPECT_EQ(list.pop(), id);
		order.push_back(id);
		EXPECT_NE(list.state(id), ums::worker_state::ready);
	}
	EXPECT_TRUE(list.empty());
	EXPECT_EQ(list.try_pop(), std::nullopt);
	gate.release(3);
	EXPECT_FALSE(list.empty());
	EXPECT_EQ(list.try_pop(), order[0]);
	std::array<ums::worker_id, 4> some{};
	ASSERT_EQ(list.try_pop_many(some), 2U);
	EXPECT_EQ(some[0], order[1]);
	EXPECT_EQ(some[1], order[2]);
	EXPECT_TRUE(list.empty());
	gate.release(2);
	ASSERT_EQ(list.try_pop_many(std::span(some).first(1)), 1U);
	EXPECT_EQ(some[0], order[3]);
	EXPECT_EQ(list.pop(), order[4]);
	EXPECT_TRUE(list.empty());
	for (const auto id : order)
		EXPECT_EQ(test::run(me, list, id).reason, reason::exited);
}

// Neither those that the kernel publishes nor the others wait for ever.
TEST_F(ListWait, BothKindsHaveTheirTurn)
{
	ums::completion_list list(8);
	ums::scheduler me(of(list));
	ums::counting_semaphore<> one(0), two(0);
	bool over = false;
	const auto plays = [&](ums::counting_semaphore<> &mine, ums::counting_semaphore<> &others) {
		while (!over) {
			mine.acquire();
			others.release();
		}
		others.release();
	};
	// The list is never empty of either kind.
	ums::worker a(list, may_switch, [&] { plays(one, two); }), b(list, may_switch, [&] { plays(two, one); });
	std::array<ums::worker, 2> publishers;
	std::array<int, 2> turns{};
	int there = 0;
	for (std::size_t i = 0; i < publishers.size(); i++)
		publishers[i] = ums::worker(list, may_switch, [&, i] {
			if (++there == 2)
				one.release();
			while (turns[i]++ < 50)
				ums::this_worker::yield_to_list();
			over = turns[0] >= 50 && turns[1] >= 50;
		});
	int runs = 0;
	for (int n = 4; n > 0; runs++)
		n -= me.run(list.pop()).is_last();
	EXPECT_LT(runs, 4000);
	EXPECT_GT(runs, 100);
}

// Whoever wakes them, and however the scheduler sleeps.
TEST_F(ListWait, ASleepingSchedulerHearsOfThem)
{
	constexpr int rounds = 400;
	ums::completion_list list(1), other(1);
	ums::counting_semaphore<> asks(0), answers(0);
	std::atomic<int> waits{0};
	std::jthread by_thread([&] {
		for (int i = 0; i < rounds / 2; i++) {
			asks.acquire();
			// Most often it sleeps by then.
			while (waits <= i)
				std::this_thread::yield();
			if (i % 8 == 0)
				std::this_thread::sleep_for(100us);
			answers.release();
		}
	});
	std::jthread by_worker([&] {
		ums::scheduler me(of(other));
		ums::worker w(other, may_switch, [&] {
			for (int i = 0; i < rounds / 2; i++) {
				asks.acquire();
				answers.release();
			}
		});
		test::take_turns(me, other, 1);
	});
	ums::scheduler me(of(list));
	int round = 0;
	ums::worker w(list, may_switch, [&] {
		for (; round < rounds; round++) {
			asks.release();
			answers.acquire();
		}
	});
	for (bool over = false; !over;) {
		ums::worker_id id{};
		std::error_code ec;
		switch (round % 4) {
		case 0:
			id = list.pop();
			break;
		case 1:
			id = list.pop_for(1h).value();
			break;
		case 2:
			do
				list.wait(ec);
			while (ec == std::errc::interrupted);
			ASSERT_FALSE(ec);
			id = list.try_pop().value();
			break;
		case 3:
			ASSERT_TRUE(list.wait_for(1h));
			id = list.try_pop().value();
			break;
		}
		const auto e = me.run(id);
		waits += is_wait(e);
		over = e.is_last();
	}
	// The threads may need some more to end.
	waits = rounds;
	EXPECT_EQ(round, rounds);
}

TEST_F(ListWait, SleepsEnd)
{
	ums::completion_list list(1);
	ums::binary_semaphore gate(0);
	ums::scheduler me(of(list));
	ums::worker w(list, may_switch, [&] { gate.acquire(); });
	while (!is_wait(me.run(list.pop())))
		;
	auto start = steady::now();
	EXPECT_FALSE(list.wait_until(start + 5ms));
	EXPECT_GE(steady::now() - start, 5ms);
	EXPECT_FALSE(list.wait_until(start));
	EXPECT_FALSE(list.wait_until(steady::time_point::min()));
	EXPECT_FALSE(list.wait_for(0s));
	EXPECT_EQ(list.pop_for(1ms), std::nullopt);

	// By a handler, if it is asked to.
	struct sigaction action {};
	action.sa_handler = [](int) {};
	ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
	timer_t timer;
	sigevent event{};
	event.sigev_notify = SIGEV_THREAD_ID;
	event.sigev_signo = SIGUSR1;
	event._sigev_un._tid = gettid();
	ASSERT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	const itimerspec soon{.it_interval = {0, 2'000'000}, .it_value = {0, 2'000'000}};
	ASSERT_EQ(timer_settime(timer, 0, &soon, nullptr), 0);
	std::error_code ec;
	list.wait(ec);
	EXPECT_EQ(ec, std::errc::interrupted);
	start = steady::now();
	EXPECT_FALSE(list.wait_until(start + 10ms));
	EXPECT_GE(steady::now() - start, 10ms);
	timer_delete(timer);

	// What the kernel publishes is heard as well.
	std::jthread wakes([&] {
		std::this_thread::sleep_for(2ms);
		gate.release();
	});
	EXPECT_TRUE(list.wait_for(1h));
	EXPECT_EQ(test::run(me, list, list.pop()).reason, reason::exited);
	w.join();
	std::jthread publishes([&] {
		std::this_thread::sleep_for(2ms);
		w = ums::worker(list, may_switch, [] {});
	});
	EXPECT_TRUE(list.wait_for(1h));
	publishes.join();
	EXPECT_EQ(test::run(me, list, list.pop()).reason, reason::exited);
}

TEST_F(ListWait, ClosedAndWithoutScheduler)
{
	ums::completion_list list(1), deserted(1);
	std::atomic<bool> sleeps{false}, over{false};
	std::jthread closes([&] {
		while (!sleeps)
			std::this_thread::yield();
		std::this_thread::sleep_for(2ms);
		list.close();
	});
	{
		const ums::scheduler me(of(list));
		sleeps = true;
		EXPECT_EQ(error_of([&] { list.wait(); }), std::errc::bad_file_descriptor);
		EXPECT_EQ(error_of([&] { list.wait_for(1h); }), std::errc::bad_file_descriptor);
	}

	// A scheduler dies.
	sleeps = false;
	std::jthread dies([&] {
		[[maybe_unused]] const auto *const lost = new ums::scheduler(of(deserted));
		sleeps = true;
		while (!over)
			std::this_thread::yield();
	});
	while (!sleeps)
		std::this_thread::yield();
	std::jthread ends([&] {
		std::this_thread::sleep_for(2ms);
		over = true;
	});
	EXPECT_EQ(error_of([&] { deserted.wait(); }), std::errc::owner_dead);
}

// So do those in the program's own regions and under a scheduler that is not their list's.
TEST_F(ListWait, OthersSleepInTheKernel)
{
	ums::completion_list list(1), foreign(2);
	ums::scheduler me(of(list));
	ums::counting_semaphore<> gate(0);
	const auto until = [&](const ums::completion_list &l, auto is) {
		for (;;)
			if (const auto e = me.run(l.pop()); is(e))
				return e;
	};
	const auto sleeps = [](const ums::event &e) { return e.reason == reason::blocked && e.cause() == SYS_futex; };
	const auto ends = [](const ums::event &e) {
		EXPECT_FALSE(is_wait(e));
		return e.is_last();
	};

	ums::worker w(foreign, may_switch, [&] { gate.acquire(); });
	until(foreign, sleeps);
	gate.release();
	until(foreign, ends);

	w = ums::worker(list, [&] { gate.acquire(); });
	until(list, sleeps);
	gate.release();
	until(list, ends);
	w.join();

	// There is no upcall in a region.
	std::jthread later([&] {
		std::this_thread::sleep_for(5ms);
		gate.release();
	});
	w = ums::worker(list, may_switch, [&] {
		const ums::this_worker::no_upcall_region region;
		gate.acquire();
	});
	until(list, ends);
}

// It waits all the same, if not as cheaply.
TEST_F(ListWait, RunUnasked)
{
	ums::completion_list list(1);
	ums::scheduler me(of(list));
	ums::binary_semaphore gate(0);
	bool open = false, through = false;
	const auto wait = [&] {
		const auto id = list.pop();
		while (!is_wait(me.run(id)))
			EXPECT_EQ(list.pop(), id);
		return id;
	};
	const auto make = [&] {
		through = open = false;
		return ums::worker(list, may_switch, [&] {
			gate.acquire();
			EXPECT_TRUE(open);
			through = true;
		});
	};

	auto w = make();
	auto id = wait();
	EXPECT_EQ(test::run(me, list, id).cause(), std::uint64_t{SYS_futex});
	EXPECT_FALSE(through);
	open = true;
	gate.release();
	EXPECT_EQ(list.pop(), id);
	EXPECT_EQ(test::run(me, list, id).reason, reason::exited);
	EXPECT_TRUE(through);
	EXPECT_TRUE(list.empty());
	w.join();

	// When it has been woken, but is on the list still: it leaves that.
	w = make();
	id = wait();
	open = true;
	gate.release();
	EXPECT_FALSE(list.empty());
	EXPECT_EQ(test::run(me, list, id).reason, reason::exited);
	EXPECT_TRUE(list.empty());
	EXPECT_EQ(list.try_pop(), std::nullopt);
	w.join();

	// By another worker, either way.
	for (const bool woken : {false, true}) {
		ums::completion_list others(1);
		w = make();
		id = wait();
		if (woken) {
			open = true;
			gate.release();
		}
		ums::worker other(others, may_switch, [&] { ums::this_worker::switch_to(id); });
		const auto e = test::run(me, others, others.pop());
		EXPECT_EQ(e.worker, id);
		if (!woken) {
			EXPECT_EQ(e.cause(), std::uint64_t{SYS_futex});
			open = true;
			gate.release();
			EXPECT_EQ(list.pop(), id);
			EXPECT_EQ(test::run(me, list, id).reason, reason::exited);
		} else {
			EXPECT_EQ(e.reason, reason::exited);
		}
		EXPECT_TRUE(list.empty());
		EXPECT_EQ(test::run(me, others, other.get_id()).reason, reason::exited);
		w.join();
	}

	// With a slice, the usual way.
	w = make();
	id = wait();
	open = true;
	gate.release();
	EXPECT_EQ(list.pop(), id);
	while (!me.run(id, 1h).is_last())
		EXPECT_EQ(list.pop(), id);
	EXPECT_TRUE(through);
}

TEST_F(ListWait, SchedulersComeAndGo)
{
	ums::completion_list list(2), other(1);
	ums::counting_semaphore<> gate(0);
	int through = 0;
	const auto waits = [&] {
		for (int i = 0; i < 3; i++)
			gate.acquire();
		through++;
	};
	std::optional<ums::scheduler> me(std::in_place, of(list));

	// One at a time; and what has failed leaves nothing behind.
	EXPECT_EQ(error_of([&] { const ums::scheduler second(of(other)); }), std::errc::device_or_resource_busy);
	std::jthread([&] {
		EXPECT_EQ(error_of([&] { const ums::scheduler second(of(list)); }), std::errc::device_or_resource_busy);
		const ums::scheduler second(of(other));
	}).join();

	ums::worker a(list, may_switch, waits), b(list, may_switch, waits);
	const auto all_wait = [&] {
		for (int n = 0; n < 2;)
			n += is_wait(me->run(list.pop()));
	};
	all_wait();
	me.reset();
	// Woken while there is no scheduler.
	gate.release(2);
	EXPECT_FALSE(list.empty());
	me.emplace(of(list));
	all_wait();
	me.reset();
	// By one to which the list does not belong: then they wait in the kernel.
	me.emplace(ums::scheduler::options{.user_switch = true});
	gate.release(2);
	for (int n = 0; n < 2;) {
		const auto e = me->run(list.pop());
		EXPECT_FALSE(is_wait(e));
		n += e.reason == reason::blocked && e.cause() == SYS_futex;
	}
	gate.release(2);
	test::take_turns(*me, list, 2);
	EXPECT_EQ(through, 2);
}

// As ordinary threads they wait on: the usual loop lets them go, or else the end of their scheduler.
TEST_F(ListWait, TheListIsClosed)
{
	constexpr int n = 3;
	for (const bool destroyed : {false, true}) {
		auto list = std::make_unique<ums::completion_list>(n);
		std::optional<ums::scheduler> me(std::in_place, of(*list));
		ums::counting_semaphore<> gate(0);
		std::atomic<int> through{0}, workers{0};
		std::vector<ums::worker> w;
		for (int i = 0; i < n; i++) {
			w.emplace_back(*list, may_switch, [&] {
				gate.acquire();
				workers += ums::this_worker::is_worker();
				// It would yield for ever.
				while (destroyed && ums::this_worker::is_worker())
					ums::this_worker::yield();
				through++;
			});
			const auto id = list->pop();
			while (!is_wait(me->run(id)))
				EXPECT_EQ(list->pop(), id);
		}
		// This one is woken before, and does not run in the end of its scheduler.
		gate.release();
		if (destroyed) {
			list.reset();
			me.reset();
		} else {
			list->close();
			int runs = 0;
			EXPECT_EQ(error_of([&] {
				for (;;) {
					std::error_code ec;
					const auto id = list->pop();
					me->run(id, {}, ec);
					runs++;
				}
			}), std::errc::bad_file_descriptor);
			EXPECT_EQ(runs, n);
			me.reset();
		}
		gate.release(n - 1);
		for (auto &worker : w)
			worker.join();
		EXPECT_EQ(through, n);
		EXPECT_LE(workers, destroyed ? 0 : 1);
	}
}

// A wait that begins behind that is one of an ordinary thread.
TEST_F(ListWait, TheListHasBeenClosed)
{
	const test::time_limit limit(60s);
	ums::completion_list list(1);
	ums::counting_semaphore<> gate(0);
	std::atomic<bool> runs{false}, closed{false};
	std::optional<ums::scheduler> me(std::in_place, of(list));
	ums::worker w(list, may_switch, [&] {
		runs = true;
		while (!closed)
			;
		gate.acquire();
	});
	std::thread closes([&] {
		while (!runs)
			std::this_thread::yield();
		list.close();
		closed = true;
	});
	const auto id = list.pop();
	try {
		while (!me->run(id).is_last() && !closed)
			EXPECT_EQ(list.pop(), id);
	} catch (const std::system_error &) {
		// It had been stopped for something else, and was none any more.
	}
	closes.join();
	me.reset();
	gate.release();
	w.join();
}

// By another thread, while the scheduler sleeps, and whoever is first.
TEST_F(ListWait, TheListIsClosedByOthers)
{
	for (int round = 0; round < 50; round++) {
		ums::completion_list list(2);
		ums::counting_semaphore<> gate(0), other(0);
		std::atomic<int> waiting{0};
		std::jthread closes([&] {
			while (waiting < 2)
				std::this_thread::yield();
			if (round % 3 == 0)
				gate.release();
			list.close();
			gate.release();
			other.release();
		});
		ums::worker a(list, may_switch, [&] { gate.acquire(); }), b(list, may_switch, [&] { other.acquire(); });
		{
			ums::scheduler me(of(list));
			try {
				for (;;) {
					std::error_code ec;
					waiting += is_wait(me.run(list.pop(), {}, ec));
				}
			} catch (const std::system_error &e) {
				EXPECT_EQ(e.code(), std::errc::bad_file_descriptor);
			}
		}
		// Whatever a worker was last, both end.
		a.join();
		b.join();
	}
}

// Many threads may sleep for it, and do not sleep less when there is nothing.
TEST_F(ListWait, IdleWaitersSleep)
{
	constexpr int n = 3;
	ums::completion_list list(4);
	ums::counting_semaphore<> gate(0);
	ums::scheduler me(of(list));
	ums::worker w(list, may_switch, [&] {
		for (int i = 0; i < 50; i++)
			gate.acquire();
	});
	std::atomic<bool> over{false};
	std::atomic<std::int64_t> busy_ns{0};
	std::vector<std::jthread> sleepers;
	for (int k = 0; k < n; k++)
		sleepers.emplace_back([&] {
			while (!over)
				list.wait_for(20ms);
			timespec used{};
			clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
			busy_ns += used.tv_sec * 1'000'000'000 + used.tv_nsec;
		});
	for (bool ended = false; !ended;) {
		const auto e = me.run(list.pop());
		ended = e.is_last();
		if (is_wait(e)) {
			gate.release();
		}
	}
	// Nothing is there any more.
	std::this_thread::sleep_for(300ms);
	over = true;
	sleepers.clear();
	EXPECT_LT(busy_ns, n * 100'000'000);
}

// One who sleeps in the kernel would not hear of them.
TEST_F(ListWait, NotWhileSomebodySleepsForAnother)
{
	ums::completion_list list(1);
	std::atomic<pid_t> tid{0};
	std::jthread sleeper([&] {
		tid = gettid();
		list.wait();
	});
	while (!tid || test::sleeps_in(tid) != __NR_ums_wait)
		std::this_thread::yield();
	EXPECT_EQ(error_of([&] { const ums::scheduler me(of(list)); }), std::errc::device_or_resource_busy);
	ums::worker w(list, may_switch, [] {});
	sleeper.join();
	ums::scheduler me(of(list));
	EXPECT_EQ(test::run(me, list, list.pop()).reason, reason::exited);
}

// The child of fork() has copies of those that wait, and may give to their copies what they wait for.
TEST_F(ListWait, TheChildWakesNobody)
{
	ums::completion_list list(1);
	std::optional<ums::scheduler> me(std::in_place, of(list));
	ums::mutex m;
	ums::worker w(list, may_switch, [&] {
		m.lock();
		m.unlock();
	});
	m.lock();
	while (!is_wait(me->run(list.pop())))
		;
	const pid_t child = fork();
	if (child == 0) {
		alarm(30);
		m.unlock();
		me.reset();
		_exit(0);
	}
	int status = -1;
	ASSERT_EQ(waitpid(child, &status, 0), child);
	EXPECT_EQ(status, 0);
	EXPECT_FALSE(list.wait_for(1ms));
	m.unlock();
	EXPECT_EQ(test::run(*me, list, list.pop()).reason, reason::exited);
}

// Threads that are to be cancelled are so elsewhere.
TEST_F(ListWait, NoCancellationPoint)
{
	ums::completion_list list(1);
	ums::binary_semaphore gate(0);
	std::atomic<bool> woken{false}, released{false};
	std::jthread scheduler([&] {
		ums::scheduler me(of(list));
		ums::worker w(list, may_switch, [&] { gate.acquire(); });
		test::take_turns(me, list, 1);
		woken = true;
	});
	std::thread releases([&] {
		std::this_thread::sleep_for(5ms);
		pthread_cancel(pthread_self());
		gate.release();
		released = true;
		pthread_testcancel();
	});
	releases.join();
	scheduler.join();
	EXPECT_TRUE(woken);
	EXPECT_TRUE(released);
}

// Woken by a thread just when they are run unasked.
TEST_F(ListWait, RunUnaskedWhileWoken)
{
	constexpr int rounds = 2000;
	ums::completion_list list(1);
	ums::scheduler me(of(list));
	ums::counting_semaphore<> gate(0);
	std::atomic<int> waiting{0};
	std::atomic<bool> over{false};
	ums::worker w(list, may_switch, [&] {
		for (int i = 0; i < rounds; i++)
			gate.acquire();
	});
	std::jthread wakes([&] {
		for (int i = 0; i < rounds; i++) {
			while (waiting <= i && !over)
				;
			gate.release();
		}
	});
	const auto id = list.pop();
	auto e = me.run(id);
	for (int unasked = 0; !e.is_last();) {
		if (is_wait(e)) {
			waiting++;
			if (++unasked % 2) {
				e = me.run(id);
				continue;
			}
		} else if (e.reason == reason::blocked && e.cause() == SYS_futex) {
			waiting++;
		}
		e = me.run(list.pop());
	}
	waiting = rounds;
	over = true;
	EXPECT_TRUE(list.empty());
}

namespace {

std::atomic<int> handled;

} // namespace

TEST_F(ListWait, SignalsForThoseThatWait)
{
	struct sigaction action {};
	action.sa_handler = [](int) { handled++; };
	ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
	ums::completion_list list(2);
	ums::scheduler me(of(list));
	ums::counting_semaphore<> gate(0);
	handled = 0;
	constexpr int rounds = 20;
	int seen = 0;
	ums::worker w(list, may_switch, [&] {
		for (int i = 0; i < rounds; i++) {
			gate.acquire();
			// At the latest in the next system call.
			gettid();
			seen += handled == i + 1;
		}
	});
	const auto thread = w.native_handle();
	for (bool over = false; !over;) {
		const auto e = me.run(list.pop());
		over = e.is_last();
		if (is_wait(e)) {
			pthread_kill(thread, SIGUSR1);
			gate.release();
		}
	}
	EXPECT_EQ(handled, rounds);
	EXPECT_EQ(seen, rounds);
}

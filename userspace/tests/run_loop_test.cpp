// SPDX-License-Identifier: MIT
#include <atomic>
#include <chrono>
#include <errno.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <latch>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include <sched.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "helpers.hpp"

using namespace std::chrono_literals;
using test::error_of;

namespace {

// Built twice: run_loop_switch_test is the same with it.
#ifdef USER_SWITCH
constexpr bool user_switch = true;
#else
constexpr bool user_switch = false;
#endif

std::uint64_t blocks_in(const ums::run_loop &loop, std::uint64_t call)
{
	std::uint64_t n = 0;
	for (const auto &s : loop.statistics())
		for (const auto &b : s.blocks)
			if (b.system_call == call)
				n += b.count;
	return n;
}

template <class Member>
auto total(const ums::run_loop &loop, Member member)
{
	auto sum = ums::scheduler_statistics{}.*member;
	for (const auto &s : loop.statistics())
		sum += s.*member;
	return sum;
}

std::chrono::microseconds processor_time()
{
	rusage r;
	getrusage(RUSAGE_SELF, &r);
	return std::chrono::seconds(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       std::chrono::microseconds(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

const ums::run_loop::spawn_options small_stack{.name = {}, .stack_size = 64 * 1024};

} // namespace

TEST(RunLoop, NothingToDo)
{
	for (const unsigned n : {1U, 4U}) {
		ums::run_loop loop({.schedulers = n, .user_switch = user_switch});
		EXPECT_EQ(loop.statistics().size(), n);
		loop.run();
		EXPECT_EQ(loop.size(), 0U);
	}
	ums::run_loop never_run;
	EXPECT_GE(never_run.statistics().size(), 1U);
}

TEST(RunLoop, EndsOnce)
{
	ums::run_loop loop({.schedulers = 2, .user_switch = user_switch});
	loop.spawn([] {});
	loop.run();
	EXPECT_EQ(error_of([&] { loop.run(); }), std::errc::operation_canceled);
	EXPECT_EQ(error_of([&] { loop.spawn([] {}); }), std::errc::operation_canceled);
	EXPECT_EQ(error_of([&] { ums::run_loop::work_guard guard(loop); }), std::errc::operation_canceled);
}

TEST(RunLoop, TheCallerIsAnOrdinaryThreadAgain)
{
	ums::run_loop loop({.schedulers = 1, .user_switch = user_switch});
	bool was_worker = false;
	loop.spawn([&] { was_worker = ums::this_worker::is_worker(); });
	loop.run();
	EXPECT_TRUE(was_worker);
	EXPECT_EQ(ums::query_thread().role, unsigned{UMS_ROLE_NONE});
	EXPECT_EQ(ums::scheduler::count(), 0U);
}

TEST(RunLoop, NotFromASchedulerThread)
{
	ums::run_loop loop({.schedulers = 3, .user_switch = user_switch});
	std::atomic<int> ran{0};
	loop.spawn([&] { ran++; });
	{
		ums::scheduler me;
		EXPECT_EQ(error_of([&] { loop.run(); }), std::errc::device_or_resource_busy);
		EXPECT_EQ(ran, 0);
	}
	loop.run(); // nothing was lost
	EXPECT_EQ(ran, 1);
}

TEST(RunLoop, ArgumentsAndStopToken)
{
	ums::run_loop loop({.schedulers = 2, .user_switch = user_switch});
	std::atomic<int> sum{0};
	loop.spawn([&](int a, std::unique_ptr<int> b) { sum += a + *b; }, 1, std::make_unique<int>(2));
	loop.spawn(
		[&](std::stop_token token, int c) {
			while (!token.stop_requested())
				usleep(500);
			sum += c;
		},
		10);
	loop.spawn([&] {
		usleep(5000);
		EXPECT_TRUE(loop.request_stop());
	});
	loop.run();
	EXPECT_EQ(sum, 13);
	EXPECT_TRUE(loop.get_stop_token().stop_requested());
}

TEST(RunLoop, SpawnFromEverywhere)
{
	ums::run_loop loop({.schedulers = 4, .user_switch = user_switch});
	std::atomic<int> ran{0};
	for (int i = 0; i < 20; i++)
		loop.spawn([&] { ran++; }); // before run()
	auto guard = std::make_unique<ums::run_loop::work_guard>(loop);
	std::jthread outside([&] {
		for (int i = 0; i < 50; i++) {
			loop.spawn([&] {
				ran++;
				loop.spawn([&] { ran++; }); // from a worker
			});
			usleep(200);
		}
		guard.reset();
	});
	loop.run();
	EXPECT_EQ(ran, 120);
	EXPECT_EQ(total(loop, &ums::scheduler_statistics::workers), 120U);
	EXPECT_EQ(total(loop, &ums::scheduler_statistics::ended), 120U);
}

TEST(RunLoop, ThousandsOfWorkersLoseNoYield)
{
	constexpr unsigned n = 2000, rounds = 3;
	ums::run_loop loop({.schedulers = 4, .user_switch = user_switch});
	std::atomic<unsigned> yields{0}, ended{0};
	loop.spawn([&] {
		for (unsigned i = 0; i < n; i++)
			loop.spawn(small_stack, [&] {
				for (unsigned r = 0; r < rounds; r++) {
					ums::this_worker::yield();
					yields++;
				}
				ended++;
			});
	});
	loop.run();
	EXPECT_EQ(yields, n * rounds);
	EXPECT_EQ(ended, n);
	EXPECT_EQ(total(loop, &ums::scheduler_statistics::yields), n * rounds);
	EXPECT_EQ(total(loop, &ums::scheduler_statistics::ended), n + 1);
	EXPECT_TRUE(loop.workers().empty());
}

// The thread of a worker that has ended serves the next one, where workers can wait without the kernel.
TEST(RunLoop, ThreadsAreKept)
{
	constexpr int n = 500;
	ums::run_loop loop({.schedulers = 1, .user_switch = user_switch});
	std::set<pid_t> threads;
	std::set<std::string> names;
	std::uint64_t most = 0;
	loop.spawn([&] {
		for (int i = 0; i < n; i++) {
			ums::latch ended(1);
			const auto life = [&] {
				threads.insert(gettid());
				most = std::max(most, loop.size());
				char name[16] = "";
				pthread_getname_np(pthread_self(), name, sizeof name);
				names.insert(name);
				EXPECT_TRUE(ums::this_worker::is_worker());
				EXPECT_EQ(loop.find(ums::this_worker::get_id()).value().name, i % 3 ? "" : "named");
				if (i % 7 == 0)
					usleep(1);
				if (i % 5 == 0)
					ums::this_worker::yield();
				ended.count_down();
			};
			if (i % 3 == 0)
				loop.spawn({.name = "named"}, life);
			else
				loop.spawn(life);
			ended.wait();
			ums::this_worker::yield();
			// It may block once more on its way to its end, for memory.
			for (int k = 0; k < 10'000 && loop.size() > 1; k++)
				usleep(1000);
			EXPECT_EQ(loop.workers().size(), 1U);
		}
	});
	loop.run();
	EXPECT_EQ(most, 2U);
	const auto usual = std::string(program_invocation_short_name).substr(0, 15);
	EXPECT_EQ(names, (std::set<std::string>{usual, "named"}));
	EXPECT_EQ(total(loop, &ums::scheduler_statistics::workers), n + 1U);
	EXPECT_EQ(total(loop, &ums::scheduler_statistics::ended), n + 1U);
	if (user_switch && ums::probe().has(UMS_FEATURE_USER_SWITCH)) {
		EXPECT_LT(threads.size(), 5U);
	} else {
		EXPECT_GT(threads.size(), 1U);
	}
}

// From everywhere at once: none is lost, none runs twice, and all threads end with the loop.
TEST(RunLoop, ThreadsAreKeptForAll)
{
	constexpr int spawners = 4, n = 300;
	std::atomic<int> ran{0};
	{
		ums::run_loop loop({.schedulers = 3, .user_switch = user_switch});
		std::optional<ums::run_loop::work_guard> guard(loop);
		const auto spawn_some = [&] {
			for (int i = 0; i < n; i++) {
				loop.spawn([&, i] {
					if (i % 4 == 0)
						ums::this_worker::yield();
					if (i % 16 == 0)
						usleep(1);
					if (i % 8 == 0)
						loop.spawn([&] { ran++; });
					ran++;
				});
				if (i % 32 == 0)
					usleep(100);
			}
		};
		std::vector<std::jthread> threads;
		for (int k = 0; k < spawners; k++)
			threads.emplace_back(spawn_some);
		std::jthread ends([&] {
			for (auto &t : threads)
				t.join();
			loop.spawn([&] { spawn_some(); });
			guard.reset();
		});
		loop.run();
	}
	EXPECT_EQ(ran, (spawners + 1) * (n + (n + 7) / 8));
}

TEST(RunLoop, AThousandBlockAtOnce)
{
	constexpr unsigned n = 1000;
	ums::run_loop loop({.schedulers = 4, .user_switch = user_switch});
	std::atomic<unsigned> started{0}, ended{0};
	test::pipe gate;
	loop.spawn([&] {
		for (unsigned i = 0; i < n; i++)
			loop.spawn(small_stack, [&] {
				started++;
				gate.take();
				ended++;
			});
		while (started < n)
			usleep(1000);
		EXPECT_EQ(ended, 0U);
		for (unsigned i = 0; i < n; i++)
			gate.give();
	});
	loop.run();
	EXPECT_EQ(ended, n);
	EXPECT_GE(blocks_in(loop, SYS_read), n);
}

TEST(RunLoop, NestedSpawns)
{
	ums::run_loop loop({.schedulers = 4, .user_switch = user_switch});
	std::atomic<unsigned> ran{0};
	const std::function<void(int)> tree = [&](int depth) {
		ran++;
		if (depth > 0)
			for (int i = 0; i < 2; i++)
				loop.spawn(small_stack, tree, depth - 1);
	};
	loop.spawn(tree, 9);
	loop.run();
	EXPECT_EQ(ran, 1023U);
}

TEST(RunLoop, EntriesAreReused)
{
	// One after the other, each made by the one before: places and entries come back in time.
	ums::run_loop loop({.schedulers = 2, .max_workers = 8, .user_switch = user_switch});
	unsigned ran = 0;
	const std::function<void()> next = [&] {
		if (++ran < 500)
			loop.spawn(small_stack, next);
	};
	loop.spawn(next);
	loop.run();
	EXPECT_EQ(ran, 500U);
}

TEST(RunLoop, FirstInFirstOut)
{
	constexpr unsigned n = 5, rounds = 20;
	ums::run_loop loop({.schedulers = 1, .user_switch = user_switch});
	std::vector<unsigned> order;
	std::atomic<unsigned> started{0};
	for (unsigned i = 0; i < n; i++)
		loop.spawn([&, i] {
			started++;
			while (started < n)
				ums::this_worker::yield();
			for (unsigned r = 0; r < rounds; r++) {
				order.push_back(i); // one scheduler: one at a time
				ums::this_worker::yield();
			}
		});
	loop.run();
	ASSERT_EQ(order.size(), n * rounds);
	// Once all are there, each turn is like the one before. (The first round may lack who started last.)
	for (std::size_t i = n; i + n < order.size() - n; i++)
		EXPECT_EQ(order[i], order[i + n]) << i;
}

TEST(RunLoop, WorkersOfOneSchedulerRunOneAtATime)
{
	ums::run_loop loop({.schedulers = 1, .user_switch = user_switch});
	int plain = 0; // not atomic
	for (int i = 0; i < 50; i++)
		loop.spawn([&] {
			for (int r = 0; r < 20; r++) {
				const int seen = plain;
				plain = seen + 1;
				if (r % 5 == 0)
					usleep(50);
				else
					ums::this_worker::yield();
			}
		});
	loop.run();
	EXPECT_EQ(plain, 1000);
}

TEST(RunLoop, AllSchedulersWork)
{
	ums::run_loop loop({.schedulers = 4, .user_switch = user_switch});
	for (int i = 0; i < 200; i++)
		loop.spawn(small_stack, [] { usleep(100); });
	loop.run();
	for (const auto &s : loop.statistics()) {
		EXPECT_GT(s.workers, 10U);
		EXPECT_NE(s.tid, 0);
	}
}

TEST(RunLoop, StatisticsWhileItRuns)
{
	ums::run_loop loop({.schedulers = 2, .user_switch = user_switch});
	loop.spawn({.name = "sleeper", .stack_size = 0}, [&] {
		usleep(20'000);
		const auto id = ums::this_worker::get_id();
		const auto info = loop.find(id);
		ASSERT_TRUE(info);
		EXPECT_EQ(info->id, id);
		EXPECT_EQ(info->name, "sleeper");
		EXPECT_LT(info->scheduler, 2U);
		EXPECT_EQ(info->state, ums::worker_state::running);
		EXPECT_EQ(loop.workers().size(), 1U);
		EXPECT_EQ(loop.size(), 1U);
		EXPECT_FALSE(loop.find(ums::worker_id::none));
		EXPECT_EQ(blocks_in(loop, SYS_clock_nanosleep), 1U);
	});
	loop.run();
	EXPECT_EQ(blocks_in(loop, SYS_clock_nanosleep), 1U);
	EXPECT_GT(total(loop, &ums::scheduler_statistics::idle), 0ns);
	EXPECT_EQ(total(loop, &ums::scheduler_statistics::switches),
		  total(loop, &ums::scheduler_statistics::upcalls));
	EXPECT_GE(total(loop, &ums::scheduler_statistics::switches), 2U);
}

TEST(RunLoop, IdleCostsNoProcessorTime)
{
	ums::run_loop loop({.schedulers = 4, .user_switch = user_switch});
	auto guard = std::make_unique<ums::run_loop::work_guard>(loop);
	std::jthread runner([&] { loop.run(); });
	// Whatever has told the schedulers something is over.
	ums::binary_semaphore gate(0);
	std::atomic<int> ended{0};
	std::atomic<bool> slept{false};
	loop.spawn([&] {
		gate.acquire();
		ended++;
	});
	loop.spawn([&] {
		ums::this_worker::sleep_for(5ms);
		slept = true;
		ended++;
	});
	loop.spawn([&] {
		while (!slept)
			ums::this_worker::yield();
		ended++;
	});
	usleep(50'000);
	gate.release();
	while (ended < 3)
		usleep(1000);
	usleep(300'000);
	const auto before = processor_time();
	usleep(500'000);
	const auto used = processor_time() - before;
	guard.reset();
	runner.join();
	EXPECT_LT(used, 50ms);
}

// Handlers of the program do not run in threads of the library.
TEST(RunLoop, ThreadsOfItsOwnTakeNoSignals)
{
	ums::run_loop loop({.schedulers = 1, .user_switch = user_switch});
	int found = 0;
	loop.spawn([&] {
		for (const auto &entry : std::filesystem::directory_iterator("/proc/self/task")) {
			std::string name;
			std::ifstream(entry.path() / "comm") >> name;
			if (name != "ums-alarm")
				continue;
			found++;
			EXPECT_TRUE(test::blocks_all_signals(entry.path().filename()));
		}
	});
	loop.run();
	EXPECT_EQ(found, user_switch && ums::probe().has(UMS_FEATURE_USER_SWITCH) && __rseq_size);
}

TEST(RunLoop, AGuardReleasedBeforeRunEndsNothing)
{
	ums::run_loop loop({.schedulers = 2, .user_switch = user_switch});
	{
		const ums::run_loop::work_guard guard(loop);
	}
	bool ran = false;
	loop.spawn([&] { ran = true; });
	loop.run();
	EXPECT_TRUE(ran);
}

TEST(RunLoop, AnotherThreadEndsItAndItIsGone)
{
	// Whoever releases the last guard must be done with the loop when run() returns.
	for (int i = 0; i < 50; i++) {
		auto loop = std::make_unique<ums::run_loop>(
			ums::run_loop::options{.schedulers = 4, .max_workers = 4});
		auto guard = std::make_unique<ums::run_loop::work_guard>(*loop);
		std::jthread other([&] { guard.reset(); });
		loop->run();
		loop.reset();
	}
}

TEST(RunLoop, SlicePreempts)
{
	ums::run_loop loop({.schedulers = 1, .slice = 2ms, .user_switch = user_switch});
	std::atomic<bool> running{false}, stop{false};
	loop.spawn([&] {
		running = true;
		while (!stop)
			;
	});
	// Whichever comes first: it needs the processor that the other will not give back.
	loop.spawn([&] {
		while (!running)
			ums::this_worker::yield();
		stop = true;
	});
	loop.run();
	EXPECT_GE(total(loop, &ums::scheduler_statistics::preemptions), 1U);
	EXPECT_TRUE(stop);
}

TEST(RunLoop, Pinned)
{
	cpu_set_t before, after;
	sched_getaffinity(0, sizeof before, &before);
	ums::run_loop loop({.schedulers = 2, .pin = true, .user_switch = user_switch});
	std::mutex mutex; // of workers only
	std::set<int> cpus;
	for (int i = 0; i < 20; i++)
		loop.spawn([&] {
			usleep(100);
			cpu_set_t mine;
			sched_getaffinity(0, sizeof mine, &mine);
			EXPECT_EQ(CPU_COUNT(&mine), 1);
			EXPECT_TRUE(CPU_ISSET(sched_getcpu(), &mine));
			const std::lock_guard lock(mutex);
			cpus.insert(sched_getcpu());
			// Its child belongs to a scheduler of its own.
			loop.spawn([&] {
				const std::lock_guard lock2(mutex);
				cpus.insert(sched_getcpu());
			});
		});
	loop.run();
	std::set<int> expected;
	for (const auto &s : loop.statistics())
		expected.insert(s.cpu);
	EXPECT_EQ(cpus, expected);
	EXPECT_EQ(expected.count(-1), 0U);
	sched_getaffinity(0, sizeof after, &after);
	EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST(RunLoop, Full)
{
	ums::run_loop loop({.schedulers = 2, .max_workers = 3, .user_switch = user_switch});
	std::atomic<int> ran{0};
	for (int i = 0; i < 6; i++)
		loop.spawn([&] { ran++; });
	EXPECT_EQ(error_of([&] { loop.spawn([&] { ran++; }); }), std::errc::no_space_on_device);
	loop.run();
	EXPECT_EQ(ran, 6);
}

TEST(RunLoop, DestructorRunsWhatIsLeft)
{
	std::atomic<int> ended{0};
	{
		ums::run_loop loop({.schedulers = 2, .user_switch = user_switch});
		for (int i = 0; i < 5; i++)
			loop.spawn([&](std::stop_token token) {
				while (!token.stop_requested())
					usleep(1000);
				ended++;
			});
	}
	EXPECT_EQ(ended, 5);
}

TEST(RunLoop, AWorkerMayLeave)
{
	std::atomic<bool> go_on{false}, done{false};
	{
		ums::run_loop loop({.schedulers = 1, .user_switch = user_switch});
		loop.spawn([&] {
			ums::this_worker::detach();
			while (!go_on)
				std::this_thread::yield();
			done = true;
		});
		loop.spawn([] { usleep(1000); });
		loop.run(); // ends though that thread goes on
		EXPECT_EQ(total(loop, &ums::scheduler_statistics::ended), 2U);
	}
	EXPECT_FALSE(done);
	go_on = true;
	while (!done)
		usleep(1000);
	usleep(10'000); // it is about to end
}

TEST(RunLoop, OrdinarySynchronisationAmongWorkers)
{
	ums::run_loop loop({.schedulers = 3, .user_switch = user_switch});
	constexpr int n = 100;
	std::latch all(n);
	std::mutex mutex;
	long sum = 0;
	for (int i = 0; i < n; i++)
		loop.spawn(small_stack, [&] {
			all.arrive_and_wait(); // blocks in futex until the last has come
			for (int r = 0; r < 100; r++) {
				const std::lock_guard lock(mutex);
				sum++;
			}
		});
	loop.run();
	EXPECT_EQ(sum, n * 100);
}

TEST(RunLoop, TwoAtATime)
{
	std::atomic<int> ran{0};
	std::vector<std::jthread> threads;
	for (int t = 0; t < 2; t++)
		threads.emplace_back([&] {
			ums::run_loop loop({.schedulers = 2, .user_switch = user_switch});
			for (int i = 0; i < 50; i++)
				loop.spawn(small_stack, [&] {
					usleep(200);
					ran++;
				});
			loop.run();
		});
	threads.clear();
	EXPECT_EQ(ran, 100);
}

TEST(RunLoop, ManyShortLoops)
{
	// The end, over and over, with all schedulers about to sleep or asleep.
	for (int i = 0; i < 50; i++) {
		ums::run_loop loop({.schedulers = 4, .max_workers = 16, .user_switch = user_switch});
		std::atomic<int> ran{0};
		for (int k = 0; k < 6; k++)
			loop.spawn(small_stack, [&] { ran++; });
		loop.run();
		ASSERT_EQ(ran, 6);
	}
}

// Which has none of its threads: neither before it has run, nor from one of its workers.
TEST(RunLoop, TheChildOfForkDestroysNothing)
{
	const auto destroyed_in_child = [](std::unique_ptr<ums::run_loop> &loop) {
		const pid_t child = fork();
		if (child == 0) {
			alarm(60);
			loop.reset();
			_exit(0);
		}
		int status = -1;
		EXPECT_EQ(waitpid(child, &status, 0), child);
		return status == 0;
	};
	auto loop = std::make_unique<ums::run_loop>(ums::run_loop::options{.schedulers = 1, .user_switch = user_switch});
	bool by_worker = false;
	loop->spawn([&] { by_worker = destroyed_in_child(loop); });
	EXPECT_TRUE(destroyed_in_child(loop));
	loop->run();
	EXPECT_TRUE(by_worker);
}

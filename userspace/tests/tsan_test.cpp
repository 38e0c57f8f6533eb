// SPDX-License-Identifier: MIT
//
// Built for ThreadSanitizer, with the library as it is: it follows workers that switch in user mode, says nothing of what
// they do under a lock, and finds what they do at the same time.
#include <atomic>
#include <memory>
#include <mutex>

#include "helpers.hpp"

namespace {

const ums::run_loop::options one{.schedulers = 1, .user_switch = true}, two{.schedulers = 2, .user_switch = true};

} // namespace

// Reports make the program fail at its end.
TEST(ThreadSanitizer, KnowsMutexesAndChannels)
{
	for (const auto &options : {one, two}) {
		constexpr int n = 4, rounds = 200;
		ums::run_loop loop(options);
		ums::mutex m;
		ums::condition_variable changed;
		ums::channel<std::unique_ptr<int>> c, buffered(3);
		long counter = 0, sum = 0;
		for (int k = 0; k < n; k++)
			loop.spawn([&, k] {
				for (int i = 0; i < rounds; i++) {
					{
						const std::scoped_lock lock(m);
						counter++;
						ums::this_worker::yield();
						changed.notify_one();
					}
					(k % 2 ? c : buffered).send(std::make_unique<int>(i));
				}
			});
		for (auto *channel : {&c, &buffered})
			loop.spawn([&, channel] {
				for (int i = 0; i < n / 2 * rounds; i++) {
					const auto item = channel->receive();
					const std::scoped_lock lock(m);
					sum += **item;
				}
			});
		loop.spawn([&] {
			std::unique_lock lock(m);
			changed.wait(lock, [&] { return counter == n * rounds; });
		});
		loop.run();
		EXPECT_EQ(counter, n * rounds);
		EXPECT_EQ(sum, long{n} * rounds * (rounds - 1) / 2);
	}
}

// Under a scheduler of its own list, in threads that are kept: what one leaves to the next, and to who joins it.
TEST(ThreadSanitizer, KnowsKeptThreadsAndLists)
{
	constexpr int rounds = 100;
	ums::completion_list list(3);
	ums::scheduler me({.user_switch = true, .list = &list});
	const ums::worker::options opts{.user_switch = true, .keep_thread = true};
	ums::mutex m;
	ums::condition_variable changed;
	long counter = 0, runs = 0, waits = 0;
	const auto serve = [&](int n) {
		while (n > 0) {
			const auto e = me.run(list.pop());
			waits += e.reason == ums::reason::blocked && e.cause() == ums::cause_wait;
			n -= e.is_last();
		}
	};
	for (int i = 0; i < rounds; i++) {
		auto given = std::make_unique<int>(i);
		auto taken = std::make_unique<int>(-1);
		ums::worker a(list, opts, [&, given = std::move(given)] {
			std::unique_lock lock(m);
			changed.wait(lock, [&] { return counter > i; });
			runs++;
			*taken = *given;
		});
		ums::worker b(list, opts, [&] {
			const std::scoped_lock lock(m);
			counter++;
			changed.notify_one();
		});
		serve(2);
		a.join();
		b.join();
		EXPECT_EQ(*taken, i);
	}
	EXPECT_EQ(runs, rounds);
	if (ums::probe().has(UMS_FEATURE_USER_SWITCH)) {
		EXPECT_GT(waits, 0);
	}
}

TEST(ThreadSanitizerDeathTest, FindsARace)
{
	testing::FLAGS_gtest_death_test_style = "threadsafe";
	EXPECT_EXIT(
		{
			ums::run_loop loop(two);
			std::atomic<int> there{0};
			long shared = 0;
			for (int k = 0; k < 4; k++)
				loop.spawn([&] {
					there++;
					while (there < 4)
						ums::this_worker::yield();
					for (int i = 0; i < 100; i++) {
						shared++;
						ums::this_worker::yield();
					}
				});
			loop.run();
			std::exit(0);
		},
		testing::ExitedWithCode(66), "data race");
}

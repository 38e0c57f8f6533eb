// SPDX-License-Identifier: MIT
//
// Built for AddressSanitizer, with the library as it is. That need not be told of a switch: it finds a thread by the
// thread pointer, and so the stack of whoever runs.
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "helpers.hpp"

namespace {

const ums::run_loop::options one{.schedulers = 1, .user_switch = true};

// A stack of which AddressSanitizer has to know: objects of different life times, between red zones.
[[gnu::noinline]] int descends(int depth)
{
	volatile char room[200];
	for (auto &c : room)
		c = static_cast<char>(depth);
	ums::this_worker::yield();
	const int below = depth ? descends(depth - 1) : 0;
	for (auto &c : room)
		if (c != static_cast<char>(depth))
			return -1;
	return below < 0 ? below : below + 1;
}

[[gnu::noinline]] void throws(int depth)
{
	volatile char room[100];
	room[depth] = 1;
	ums::this_worker::yield();
	if (depth == 0)
		throw std::runtime_error("thrown");
	throws(depth - 1);
	room[depth] = room[0];
}

// @index is none of its own.
[[gnu::noipa]] void writes_out_of(int index)
{
	volatile char room[64];
	room[0] = 0;
	ums::this_worker::yield();
	room[index] = room[0];
}

} // namespace

TEST(AddressSanitizer, KnowsTheStacks)
{
	constexpr int n = 8;
	ums::run_loop loop(one);
	std::vector<int> depths(n), caught(n);
	for (int i = 0; i < n; i++)
		loop.spawn([&, i] {
			depths[i] = descends(20);
			// Unwinding cleans what it leaves, up to the end of the stack that it takes for its own.
			for (int k = 0; k < 20; k++) {
				try {
					throws(10);
				} catch (const std::runtime_error &) {
					caught[i]++;
				}
			}
			depths[i] += descends(20);
		});
	loop.run();
	for (int i = 0; i < n; i++) {
		EXPECT_EQ(depths[i], 42);
		EXPECT_EQ(caught[i], 20);
	}
	// In user mode.
	EXPECT_GT(loop.statistics()[0].yields, std::uint64_t{n} * 20);
}

TEST(AddressSanitizer, KnowsTheWorkersThatAThreadIsKeptFor)
{
	ums::run_loop loop(one);
	int sum = 0;
	loop.spawn([&] {
		for (int i = 0; i < 100; i++) {
			loop.spawn([&, i] { sum += descends(i % 7); });
			ums::this_worker::yield();
		}
	});
	loop.run();
	int expected = 0;
	for (int i = 0; i < 100; i++)
		expected += i % 7 + 1;
	EXPECT_EQ(sum, expected);
}

// LeakSanitizer looks at the end of the program.
TEST(AddressSanitizer, NothingIsLeftBehind)
{
	ums::run_loop loop(one);
	ums::channel<std::unique_ptr<int>> unread(3);
	int ran = 0;
	auto guard = std::make_unique<ums::run_loop::work_guard>(loop);
	std::thread spawns([&] {
		// One after the other, on a thread that has been kept.
		for (int i = 0; i < 50; i++) {
			ums::latch done(1);
			loop.spawn([&] {
				ran++;
				done.count_down();
			});
			done.wait();
		}
		guard.reset();
	});
	loop.run();
	spawns.join();
	EXPECT_EQ(ran, 50);
	for (int i = 0; i < 3; i++)
		EXPECT_TRUE(unread.send(std::make_unique<int>(i)));
}

TEST(AddressSanitizerDeathTest, FindsAnOverflow)
{
	testing::FLAGS_gtest_death_test_style = "threadsafe";
	EXPECT_DEATH(
		{
			ums::run_loop loop(one);
			for (int i = 0; i < 4; i++)
				loop.spawn([] { descends(5); });
			loop.spawn([] { writes_out_of(64); });
			loop.run();
		},
		"stack-buffer-overflow.*(\n.*)*writes_out_of");
}

// SPDX-License-Identifier: MIT
#include <array>
#include <chrono>
#include <set>
#include <thread>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "helpers.hpp"

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;
using test::error_of;
using test::run;

namespace {

// Comes to its list for the second time only after it has touched all the memory it needs.
void yield_twice()
{
	ums::this_worker::yield();
	ums::this_worker::yield_to_list();
}

} // namespace

TEST(CompletionList, BadSizes)
{
	EXPECT_EQ(error_of([] { ums::completion_list list(0); }), std::errc::invalid_argument);
	EXPECT_EQ(error_of([] { ums::completion_list list(UMS_MAX_WORKERS + 1); }),
		  std::errc::invalid_argument);
}

TEST(CompletionList, SaysWhatItIs)
{
	const ums::completion_list list(5);
	EXPECT_EQ(list.max_workers(), 5U);
	EXPECT_GE(list.native_handle(), 0);
	EXPECT_NE(fcntl(list.native_handle(), F_GETFD) & FD_CLOEXEC, 0);
	EXPECT_TRUE(list.empty());
	EXPECT_FALSE(list.closed());
	EXPECT_FALSE(list.try_pop());

	const ums::completion_list other(5);
	EXPECT_NE(list.number(), other.number());
}

TEST(CompletionList, MovesAndOwnsTheDescriptor)
{
	ums::completion_list a(1);
	const int fd = a.native_handle();
	ums::completion_list b(std::move(a));
	EXPECT_EQ(b.native_handle(), fd);
	EXPECT_EQ(a.native_handle(), -1);
	b = ums::completion_list(2);
	EXPECT_EQ(b.max_workers(), 2U);
	const int last = b.native_handle();
	{
		const ums::completion_list gone(std::move(b));
	}
	EXPECT_EQ(fcntl(last, F_GETFD), -1);
}

TEST(CompletionList, TimeOuts)
{
	const ums::completion_list list(1);
	const auto start = clock_type::now();
	EXPECT_FALSE(list.wait_for(20ms));
	EXPECT_GE(clock_type::now() - start, 20ms);
	EXPECT_FALSE(list.wait_until(clock_type::now() + 10ms));
	EXPECT_FALSE(list.wait_for(0ms));
	EXPECT_FALSE(list.wait_until(clock_type::time_point::min()));
	EXPECT_FALSE(list.wait_until(clock_type::now() - 1h));
	EXPECT_FALSE(list.pop_for(1ms));
}

TEST(CompletionList, WorkersArrive)
{
	ums::completion_list list(8);
	ums::scheduler me;
	{
		const ums::worker w(list, ums::worker::options{.user_data = 42}, [] {});
		ASSERT_TRUE(list.wait_for(60s));
		ASSERT_TRUE(list.wait_for(std::chrono::hours::max())); // for ever
		EXPECT_FALSE(list.empty());
		const auto id = list.pop();
		EXPECT_TRUE(list.empty());
		EXPECT_NE(id, ums::worker_id::none);
		EXPECT_TRUE(list.owns(id));
		EXPECT_EQ(list.slot(id).id, static_cast<std::uint64_t>(id));
		EXPECT_EQ(list.state(id), ums::worker_state::ready);
		EXPECT_EQ(list.user_data(id), 42U);
		list.set_user_data(id, 43);
		EXPECT_EQ(list.user_data(id), 43U);
		EXPECT_EQ(ums::query(id).user_data, 43U);
		EXPECT_EQ(run(me, list, id).reason, ums::reason::exited);
		EXPECT_EQ(list.state(id), ums::worker_state::exited);
	}
}

TEST(CompletionList, ManyAtOnceInOrder)
{
	constexpr unsigned n = 100;
	ums::completion_list list(n);
	ums::scheduler me;
	std::vector<ums::worker_id> first, taken(n + 10);
	std::vector<ums::worker> workers;
	for (unsigned i = 0; i < n; i++) {
		workers.emplace_back(list, yield_twice);
		first.push_back(list.pop());
		EXPECT_EQ(run(me, list, first.back()).reason, ums::reason::yielded);
	}
	// One after the other: so they come to the list.
	for (const auto id : first)
		EXPECT_EQ(me.run(id).reason, ums::reason::yielded);
	EXPECT_EQ(list.try_pop_many({}), 0U);
	EXPECT_EQ(list.try_pop_many(std::span(taken).first(3)), 3U);
	EXPECT_EQ(list.try_pop_many(std::span(taken).subspan(3)), n - 3);
	taken.resize(n);
	EXPECT_EQ(taken, first);
	EXPECT_TRUE(list.empty());
	for (const auto id : taken)
		EXPECT_EQ(run(me, list, id).reason, ums::reason::exited);
}

TEST(CompletionList, SeveralThreadsTakeEachWorkerOnce)
{
	constexpr unsigned n = 200;
	ums::completion_list list(n);
	std::array<std::vector<ums::worker_id>, 3> taken;
	{
		ums::scheduler me;
		std::vector<ums::worker> workers;
		std::vector<ums::worker_id> ids;
		for (unsigned i = 0; i < n; i++) {
			workers.emplace_back(list, yield_twice);
			ids.push_back(list.pop());
			EXPECT_EQ(run(me, list, ids.back()).reason, ums::reason::yielded);
		}
		for (const auto id : ids)
			EXPECT_EQ(me.run(id).reason, ums::reason::yielded);
		{
			std::vector<std::jthread> takers;
			for (auto &mine : taken)
				takers.emplace_back([&] {
					std::array<ums::worker_id, 3> some;
					while (const auto got = list.try_pop_many(some))
						mine.insert(mine.end(), some.begin(),
							    some.begin() + static_cast<std::ptrdiff_t>(got));
				});
		}
		std::set<ums::worker_id> all;
		for (const auto &mine : taken)
			all.insert(mine.begin(), mine.end());
		EXPECT_EQ(all.size(), n);
		EXPECT_EQ(taken[0].size() + taken[1].size() + taken[2].size(), n);
		for (const auto id : all)
			EXPECT_EQ(run(me, list, id).reason, ums::reason::exited);
	}
}

TEST(CompletionList, PollAndEpoll)
{
	ums::completion_list list(1);
	pollfd p{.fd = list.native_handle(), .events = POLLIN, .revents = 0};
	EXPECT_EQ(poll(&p, 1, 0), 0);

	const int ep = epoll_create1(EPOLL_CLOEXEC);
	epoll_event want{.events = EPOLLIN, .data = {}}, got;
	ASSERT_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, list.native_handle(), &want), 0);
	EXPECT_EQ(epoll_wait(ep, &got, 1, 0), 0);

	ums::scheduler me;
	ums::worker w(list, [] {});
	EXPECT_EQ(poll(&p, 1, 60'000), 1);
	EXPECT_EQ(p.revents, POLLIN);
	EXPECT_EQ(epoll_wait(ep, &got, 1, 60'000), 1);
	EXPECT_EQ(epoll_wait(ep, &got, 1, 0), 1); // level-triggered
	run(me, list, list.pop());
	EXPECT_EQ(poll(&p, 1, 0), 0);
	EXPECT_EQ(epoll_wait(ep, &got, 1, 0), 0);
	close(ep);
}

TEST(CompletionList, CloseWakesWaitersForEver)
{
	ums::completion_list list(1);
	const int fd = list.native_handle();
	std::array<std::error_code, 3> errors;
	std::array<pollfd, 2> polled{};
	polled.fill({.fd = fd, .events = POLLIN, .revents = 0});
	{
		std::vector<std::jthread> waiters;
		for (auto &p : polled)
			waiters.emplace_back([&] { EXPECT_EQ(poll(&p, 1, 60'000), 1); });
		for (auto &error : errors)
			waiters.emplace_back([&] { error = error_of([&] { list.wait(); }); });
		std::this_thread::sleep_for(50ms);
		list.close();
	}
	for (const auto &error : errors)
		EXPECT_EQ(error, std::errc::bad_file_descriptor);
	for (auto &p : polled) {
		EXPECT_TRUE(p.revents & POLLHUP);
		EXPECT_EQ(poll(&p, 1, 0), 1);
		EXPECT_EQ(p.revents, POLLHUP);
	}
	EXPECT_TRUE(list.closed());
	// Later, too, and the number is not used for anything else.
	EXPECT_EQ(error_of([&] { list.wait(); }), std::errc::bad_file_descriptor);
	EXPECT_EQ(error_of([&] { list.wait_for(1ms); }), std::errc::bad_file_descriptor);
	EXPECT_EQ(list.native_handle(), fd);
	EXPECT_NE(fcntl(fd, F_GETFD), -1);
	EXPECT_EQ(error_of([&] { ums::worker w(list, [] {}); }), std::errc::bad_file_descriptor);
	list.close();
}

TEST(CompletionList, CloseReleasesWorkers)
{
	std::atomic<bool> ran{false}, worker{true};
	ums::worker w;
	{
		ums::completion_list list(1);
		w = ums::worker(list, [&] {
			worker = ums::query_thread().role == UMS_ROLE_WORKER;
			ran = true;
		});
		list.wait();
	}
	w.join();
	EXPECT_TRUE(ran);
	EXPECT_FALSE(worker);
}

TEST(CompletionList, ASignalHandlerDoesNotEndTheWait)
{
	struct sigaction action {
	};
	action.sa_handler = [](int) {};
	sigaction(SIGUSR1, &action, nullptr);

	ums::completion_list list(1);
	std::atomic<bool> done{false};
	std::error_code error;
	std::jthread waiter([&] {
		error = error_of([&] { list.wait(); });
		done = true;
	});
	for (int i = 0; i < 10; i++) {
		std::this_thread::sleep_for(5ms);
		pthread_kill(waiter.native_handle(), SIGUSR1);
	}
	EXPECT_FALSE(done);
	list.close();
	waiter.join();
	EXPECT_EQ(error, std::errc::bad_file_descriptor);
}

TEST(CompletionList, WaitingCostsNoProcessorTime)
{
	const ums::completion_list list(1);
	rusage before, after;
	getrusage(RUSAGE_THREAD, &before);
	EXPECT_FALSE(list.wait_for(300ms));
	getrusage(RUSAGE_THREAD, &after);
	const auto used = (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec -
			   before.ru_stime.tv_sec) *
				  1'000'000 +
			  after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec -
			  before.ru_stime.tv_usec;
	EXPECT_LT(used, 100'000);
}

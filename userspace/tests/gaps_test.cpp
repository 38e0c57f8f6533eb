// SPDX-License-Identifier: MIT
//
// What the headers promise beyond the usual case: errors, refusals by the kernel, lists that are closed.
#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <sstream>
#include <thread>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "helpers.hpp"

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;
using test::sleeps_in;
using test::error_of;
using test::run;
using test::run_all;
using ums::reason;

namespace {

// Runs f in a process of its own that ends after a while at the latest. Returns its result, 0 to 99; or 100
// and the number of the signal that ended it, SIGALRM if it hung.
template <class F>
int in_child(F f)
{
	const pid_t child = fork();
	if (child == 0) {
		alarm(30);
		_exit(f());
	}
	int status = -1;
	EXPECT_EQ(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

// From now on ums_worker_enter() fails in this process.
bool refuse_workers(unsigned error)
{
	sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_ums_worker_enter, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const sock_fprog program{.len = std::size(code), .filter = code};
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

template <class Condition>
bool soon(Condition condition)
{
	for (const auto end = clock_type::now() + 60s; !condition(); usleep(1000))
		if (clock_type::now() > end)
			return false;
	return true;
}

// A thread that does something that sleeps in ums_wait().
class sleeper
{
public:
	template <class F>
	explicit sleeper(F f)
	    : thread_([this, f] {
		      tid_ = gettid();
		      f();
		      done_ = true;
	      })
	{
	}

	bool asleep() const
	{
		return soon([this] { return tid_ && sleeps_in(tid_) == __NR_ums_wait; });
	}
	bool done() const { return done_; }
	void signal() { pthread_kill(thread_.native_handle(), SIGUSR1); }
	void join() { thread_.join(); }

private:
	std::atomic<pid_t> tid_{0};
	std::atomic<bool> done_{false};
	std::jthread thread_;
};

std::atomic<int> handled;

void handle_signal()
{
	handled = 0;
	struct sigaction action {
	};
	action.sa_handler = [](int) { handled++; };
	sigaction(SIGUSR1, &action, nullptr);
}

} // namespace

TEST(CompletionListGaps, WaitsThatSleepAndAreInterrupted)
{
	handle_signal();
	ums::completion_list list(2);
	std::error_code first;
	std::atomic<bool> ready{false};
	std::optional<ums::worker_id> taken;

	// Without an exception: ended by the handler, which it says.
	sleeper once([&] { list.wait(first); });
	ASSERT_TRUE(once.asleep());
	once.signal();
	once.join();
	EXPECT_EQ(first, std::errc::interrupted);

	// A time that does not fit is for ever. And the handler ends neither.
	sleeper for_ever([&] { ready = list.wait_for(std::chrono::hours::max()); });
	ASSERT_TRUE(for_ever.asleep());
	for_ever.signal();
	ASSERT_TRUE(soon([] { return handled == 2; }));
	ASSERT_TRUE(for_ever.asleep());
	sleeper takes([&] { taken = list.pop_for(std::chrono::hours(1)); });
	ASSERT_TRUE(takes.asleep());
	takes.signal();
	ASSERT_TRUE(soon([] { return handled == 3; }));
	ASSERT_TRUE(takes.asleep());
	EXPECT_FALSE(for_ever.done());

	// Each worker wakes one.
	ums::worker a(list, [] {}), b(list, [] {});
	for_ever.join();
	takes.join();
	EXPECT_TRUE(ready);
	ASSERT_TRUE(taken);
	const auto other = list.pop_for(60s);
	ASSERT_TRUE(other);
	EXPECT_NE(*taken, *other);
	ums::scheduler me;
	EXPECT_EQ(run(me, list, *taken).reason, reason::exited);
	EXPECT_EQ(run(me, list, *other).reason, reason::exited);
}

TEST(CompletionListGaps, ClosedForEveryCall)
{
	ums::completion_list list(1);
	std::error_code error;
	sleeper popper([&] { error = error_of([&] { list.pop(); }); });
	ASSERT_TRUE(popper.asleep());
	list.close();
	popper.join();
	EXPECT_EQ(error, std::errc::bad_file_descriptor);
	EXPECT_EQ(error_of([&] { list.pop(); }), std::errc::bad_file_descriptor);
	EXPECT_EQ(error_of([&] { list.pop_for(1ms); }), std::errc::bad_file_descriptor);
	EXPECT_EQ(error_of([&] { list.wait_until(clock_type::now() + 1ms); }),
		  std::errc::bad_file_descriptor);
	list.wait(error);
	EXPECT_EQ(error, std::errc::bad_file_descriptor);
	std::jthread([&] {
		EXPECT_EQ(error_of([&] { ums::this_worker::enter(list); }), std::errc::bad_file_descriptor);
		EXPECT_FALSE(ums::this_worker::is_worker());
	}).join();
}

TEST(CompletionListGaps, DescriptorsAndNumbersRunOut)
{
	rlimit before, few;
	getrlimit(RLIMIT_NOFILE, &before);
	const ums::completion_list first(1);
	few = before;
	few.rlim_cur = static_cast<rlim_t>(first.native_handle()) + 2;
	setrlimit(RLIMIT_NOFILE, &few);
	const auto error = error_of([] {
		std::vector<ums::completion_list> lists;
		for (int i = 0; i < 5; i++)
			lists.emplace_back(1U);
	});
	setrlimit(RLIMIT_NOFILE, &before);
	EXPECT_EQ(error, std::errc::too_many_files_open);

	few.rlim_cur = few.rlim_max = 10'000;
	setrlimit(RLIMIT_NOFILE, &few);
	std::vector<ums::completion_list> lists;
	EXPECT_EQ(error_of([&] {
			  for (unsigned i = 0; i <= UMS_MAX_LISTS; i++)
				  lists.emplace_back(1U);
		  }),
		  std::errc::no_space_on_device);
	EXPECT_EQ(lists.size(), UMS_MAX_LISTS - 1);
	lists.clear();
	setrlimit(RLIMIT_NOFILE, &before);

	// What is assigned to is closed.
	ums::completion_list list(1);
	const int fd = list.native_handle();
	list = ums::completion_list(1);
	EXPECT_NE(list.native_handle(), fd);
	EXPECT_EQ(fcntl(fd, F_GETFD), -1);
}

TEST(CompletionListGaps, TheSlotOfAnother)
{
	ums::completion_list list(1);
	ums::scheduler me;
	ums::worker a(list, [] {});
	const auto old = list.pop();
	EXPECT_EQ(run(me, list, old).reason, reason::exited);
	EXPECT_EQ(list.state(old), ums::worker_state::exited);
	a.join();
	ums::worker b(list, [] {});
	const auto id = list.pop();
	EXPECT_TRUE(list.owns(old));
	EXPECT_EQ(list.state(old), ums::worker_state::none);
	EXPECT_EQ(list.state(id), ums::worker_state::ready);
	EXPECT_EQ(error_of([&] { ums::query(old); }), ums::errc::ended);
	// Not from a thread that is no scheduler.
	std::error_code error;
	std::jthread([&] { EXPECT_EQ(me.run(id, {}, error).reason, reason::none); }).join();
	EXPECT_EQ(error, ums::errc::not_a_scheduler);
	EXPECT_EQ(run(me, list, id).reason, reason::exited);
}

TEST(ThisWorkerGaps, WithoutItsListItIsAnOrdinaryThread)
{
	ums::scheduler me;
	ums::completion_list second(1);
	ums::worker w;
	bool worker = true, region_worked = false;
	std::error_code error;
	ums::worker_id again{};
	{
		ums::completion_list first(1);
		w = ums::worker(first, [&] {
			worker = ums::this_worker::is_worker() ||
				 ums::this_worker::get_id() != ums::worker_id::none;
			{
				const ums::this_worker::no_upcall_region nothing;
				region_worked = true;
			}
			error = error_of([&] { again = ums::this_worker::enter(second); });
		});
		first.wait();
	}
	if (const auto id = second.pop_for(20s)) {
		EXPECT_EQ(run(me, second, *id).reason, reason::exited);
		EXPECT_EQ(again, *id);
	} else {
		ADD_FAILURE() << "it did not enter the second list: " << error.message();
	}
	w.join();
	EXPECT_FALSE(worker);
	EXPECT_TRUE(region_worked);
	EXPECT_FALSE(error) << error.message();
}

TEST(WorkerGaps, RefusedByTheKernel)
{
	EXPECT_EQ(in_child([] {
			  if (!refuse_workers(ENOMEM))
				  return 1;
			  bool ran = false;
			  ums::completion_list list(1);
			  ums::worker w(list, [&] { ran = true; });
			  const auto error = error_of([&] { w.join(); });
			  if (error != std::errc::not_enough_memory)
				  return 2;
			  if (w.joinable() || ran)
				  return 3;
			  // Its place is free, and a destructor has nothing to say.
			  {
				  ums::worker next(list, [&] { ran = true; });
			  }
			  return ran ? 4 : 0;
		  }),
		  0);
}

TEST(WorkerGaps, RefusedSinceSystemCallsAreMixed)
{
	ums::completion_list list(1);
	std::jthread other([&] {
		const ums_worker_args args{};
		EXPECT_GT(ums_worker_enter(list.native_handle(), &args, sizeof args), 0);
	});
	list.wait();
	bool ran = false;
	ums::worker w(list, [&] { ran = true; });
	EXPECT_EQ(error_of([&] { w.join(); }), std::errc::no_space_on_device);
	EXPECT_FALSE(ran);
	EXPECT_FALSE(w.joinable());
	ums::scheduler me;
	EXPECT_EQ(run(me, list, list.pop()).reason, reason::exited);
}

TEST(WorkerGaps, JoinedAtOnceByItsOnlyScheduler)
{
	// Before its thread has come to the kernel as a worker, most often.
	for (int i = 0; i < 5; i++)
		ASSERT_EQ(in_child([] {
				  ums::completion_list list(1);
				  ums::scheduler me;
				  ums::worker w(list, [] {});
				  if (error_of([&] { w.join(); }) != std::errc::resource_deadlock_would_occur)
					  return 1;
				  if (!w.joinable())
					  return 2;
				  run_all(me, list, 1);
				  w.join();
				  return 0;
			  }),
			  0)
			<< "round " << i << "; " << 100 + SIGALRM << " means that it hung";
}

TEST(SchedulerGaps, AGuardPageBelowTheStack)
{
	static std::atomic<std::uintptr_t> stack;
	struct sigaction action {
	};
	action.sa_handler = [](int) {
		char here = 0;
		stack = reinterpret_cast<std::uintptr_t>(&here);
	};
	sigaction(SIGUSR1, &action, nullptr);

	ums::completion_list list(1);
	ums::scheduler me;
	const auto my_thread = pthread_self();
	ums::worker w(list, [&] {
		pthread_kill(my_thread, SIGUSR1);
		// Without a yield, by which the scheduler would come home to its own stack.
		while (!stack)
			;
	});
	const auto id = list.pop();
	auto e = run(me, list, id);
	while (!e.is_last()) {
		if (e.reason != reason::yielded) {
			ASSERT_EQ(list.pop(), id);
		}
		e = run(me, list, id);
	}
	// The mapping with that address, and the one before it.
	std::ifstream maps("/proc/self/maps");
	std::uintptr_t end_before = 0;
	std::string rights_before;
	for (std::string line; std::getline(maps, line);) {
		std::uintptr_t from = 0, to = 0;
		char minus = 0;
		std::string rights;
		std::istringstream(line) >> std::hex >> from >> minus >> to >> rights;
		if (from <= stack && stack < to) {
			EXPECT_GE(to - from, ums::scheduler::default_stack_size);
			EXPECT_EQ(rights, "rw-p");
			EXPECT_EQ(end_before, from);
			EXPECT_EQ(rights_before, "---p");
			return;
		}
		end_before = to;
		rights_before = rights;
	}
	FAIL() << "no mapping has the address of the handler's variable";
}

TEST(RunLoopGaps, WorkersThatTheKernelRefuses)
{
	EXPECT_EQ(in_child([] {
			  if (!refuse_workers(ENOMEM))
				  return 1;
			  std::atomic<int> ran{0};
			  std::atomic<bool> worker{false};
			  ums::run_loop loop({.schedulers = 2, .max_workers = 4});
			  for (int i = 0; i < 8; i++)
				  loop.spawn([&](std::stop_token) {
					  worker = worker || ums::this_worker::is_worker();
					  usleep(2000);
					  ran++;
				  });
			  loop.run();
			  if (ran != 8 || worker || loop.size() != 0)
				  return 2;
			  for (const auto &s : loop.statistics())
				  if (s.workers || s.ended || s.switches)
					  return 3;
			  return loop.workers().empty() ? 0 : 4;
		  }),
		  0);
}

TEST(RunLoopGaps, NoThreadForAWorker)
{
	ums::run_loop loop({.schedulers = 2, .max_workers = 2});
	std::atomic<int> ran{0};
	// The first one of a thread makes the thread known to liburcu, which ends the program without memory.
	loop.spawn([&] { ran++; });
	rlimit before, none;
	getrlimit(RLIMIT_AS, &before);
	none = before;
	none.rlim_cur = 1; // no stack can be mapped
	std::vector<std::error_code> errors(6);
	setrlimit(RLIMIT_AS, &none);
	for (auto &error : errors)
		error = error_of([&] { loop.spawn({.name = {}, .stack_size = 64 << 20}, [&] { ran++; }); });
	setrlimit(RLIMIT_AS, &before);
	for (const auto &error : errors)
		EXPECT_EQ(error, std::errc::resource_unavailable_try_again);
	// They have kept no places.
	EXPECT_EQ(loop.size(), 1U);
	for (int i = 0; i < 3; i++)
		loop.spawn([&] { ran++; });
	loop.run();
	EXPECT_EQ(ran, 4);
}

TEST(RunLoopGaps, SlicesAreCounted)
{
	// Each of two that only compute gets on, which takes at least ten ends of a slice for each.
	ums::run_loop loop({.schedulers = 1, .slice = 2ms});
	std::atomic<int> turn{0};
	for (int i = 0; i < 2; i++)
		loop.spawn([&, i] {
			for (int k = 0; k < 10; k++) {
				while (turn % 2 != i)
					;
				turn++;
			}
		});
	loop.run();
	const auto s = loop.statistics().front();
	EXPECT_EQ(turn, 20);
	EXPECT_GE(s.preemptions, 18U);
	EXPECT_EQ(s.ended, 2U);
	EXPECT_EQ(s.switches, s.preemptions + s.yields + s.faults + s.system_call_blocks() + s.ended);
}

// SPDX-License-Identifier: MIT
#include <array>
#include <atomic>
#include <chrono>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "helpers.hpp"

using namespace std::chrono_literals;
using test::error_of;
using test::run;
using test::run_all;
using ums::reason;

TEST(Worker, DefaultIsNone)
{
	ums::worker w;
	EXPECT_FALSE(w.joinable());
	EXPECT_EQ(w.get_id(), ums::worker_id::none);
	EXPECT_FALSE(w.request_stop());
	EXPECT_EQ(error_of([&] { w.join(); }), std::errc::invalid_argument);
}

TEST(Worker, RunsOnlyWhenExecuted)
{
	ums::completion_list list(1);
	ums::scheduler me;
	std::atomic<bool> ran{false};
	ums::worker w(list, [&] { ran = true; });
	EXPECT_TRUE(w.joinable());
	const auto id = list.pop();
	usleep(20'000);
	EXPECT_FALSE(ran);
	EXPECT_EQ(w.get_id(), id);
	EXPECT_EQ(run(me, list, w.get_id()).reason, reason::exited);
	EXPECT_TRUE(ran);
	w.join();
	EXPECT_FALSE(w.joinable());
	EXPECT_EQ(w.get_id(), ums::worker_id::none);
}

TEST(Worker, AnyCallableWithArguments)
{
	struct object {
		int value = 0;
		void set(int v) { value = v; }
	} o;
	ums::completion_list list(8);
	ums::scheduler me;
	int sum = 0;
	auto moved = std::make_unique<int>(10);
	{
		ums::worker a(
			list, [&sum](int x, int y) { sum += x + y; }, 1, 2);
		run_all(me, list, 1);
		ums::worker b(
			list, [&sum](std::unique_ptr<int> p) { sum += *p; }, std::move(moved));
		run_all(me, list, 1);
		ums::worker c(list, &object::set, &o, 5);
		run_all(me, list, 1);
		ums::worker d(
			list, [](int &r) { r += 100; }, std::ref(sum));
		run_all(me, list, 1);
	}
	EXPECT_EQ(sum, 113);
	EXPECT_EQ(moved, nullptr);
	EXPECT_EQ(o.value, 5);
}

TEST(Worker, TheCallableIsDestroyedInTheWorker)
{
	ums::completion_list list(1);
	ums::scheduler me;
	std::atomic<pid_t> ran_in{0}, destroyed_in{0};
	struct noter {
		std::atomic<pid_t> *in;
		noter(std::atomic<pid_t> *p) : in(p) {}
		noter(noter &&o) noexcept : in(std::exchange(o.in, nullptr)) {}
		~noter()
		{
			if (in)
				*in = gettid();
		}
	};
	ums::worker w(list, [&ran_in, n = noter(&destroyed_in)] { ran_in = gettid(); });
	run_all(me, list, 1);
	EXPECT_NE(ran_in, 0);
	EXPECT_EQ(ran_in, destroyed_in);
}

TEST(Worker, StopToken)
{
	ums::completion_list list(2);
	ums::scheduler me;
	int rounds = 0;
	ums::worker w(
		list,
		[&](std::stop_token token, int step) {
			while (!token.stop_requested()) {
				rounds += step;
				ums::this_worker::yield();
			}
		},
		2);
	const auto id = list.pop();
	EXPECT_EQ(run(me, list, id).reason, reason::yielded);
	EXPECT_EQ(run(me, list, id).reason, reason::yielded);
	EXPECT_TRUE(w.get_stop_token().stop_possible());
	EXPECT_TRUE(w.request_stop());
	EXPECT_FALSE(w.request_stop());
	EXPECT_EQ(run(me, list, id).reason, reason::exited);
	EXPECT_EQ(rounds, 4);
}

TEST(Worker, DestructorRequestsStopAndJoins)
{
	ums::completion_list list(1);
	std::atomic<bool> stopped{false};
	std::jthread other([&] {
		ums::scheduler me;
		run_all(me, list, 1);
	});
	{
		ums::worker w(list, [&](std::stop_token token) {
			while (!token.stop_requested())
				usleep(1000);
			stopped = true;
		});
	}
	EXPECT_TRUE(stopped);
}

TEST(Worker, Moves)
{
	ums::completion_list list(3);
	ums::scheduler me;
	ums::worker a(list, [] {});
	const auto id = list.pop();
	ums::worker b(std::move(a));
	EXPECT_FALSE(a.joinable());
	EXPECT_EQ(b.get_id(), id);
	ums::worker c;
	c = std::move(b);
	EXPECT_EQ(c.get_id(), id);
	swap(b, c);
	EXPECT_EQ(b.get_id(), id);
	EXPECT_FALSE(c.joinable());
	EXPECT_EQ(run(me, list, b.get_id()).reason, reason::exited);
	b = ums::worker(list, [] {}); // joins the first
	run_all(me, list, 1);
}

TEST(Worker, NameAndStackSize)
{
	ums::completion_list list(1);
	ums::scheduler me;
	std::string name;
	std::size_t stack = 0;
	ums::worker w(list, ums::worker::options{.name = "a name that is too long", .stack_size = 300'000},
		      [&] {
			      std::ifstream("/proc/thread-self/comm") >> std::noskipws >> std::ws;
			      std::ifstream comm("/proc/thread-self/comm");
			      std::getline(comm, name);
			      pthread_attr_t attr;
			      pthread_getattr_np(pthread_self(), &attr);
			      pthread_attr_getstacksize(&attr, &stack);
			      pthread_attr_destroy(&attr);
		      });
	run_all(me, list, 1);
	EXPECT_EQ(name, "a name that is ");
	EXPECT_GE(stack, 300'000U);
	EXPECT_LT(stack, 400'000U);
}

TEST(Worker, FullList)
{
	ums::completion_list list(2);
	ums::scheduler me;
	ums::worker a(list, [] {}), b(list, [] {});
	EXPECT_EQ(error_of([&] { ums::worker c(list, [] {}); }), std::errc::no_space_on_device);
	run_all(me, list, 2);
	EXPECT_EQ(error_of([&] { ums::worker c(list, [] {}); }), std::errc::no_space_on_device); // not joined
	a.join();
	ums::worker c(list, [] {});
	run_all(me, list, 1);
}

TEST(Worker, SlotIsFreeAtExited)
{
	// Past ums::worker's own count: whoever was told EXITED may fill the list again.
	ums::completion_list list(1);
	ums::scheduler me;
	for (int i = 0; i < 300; i++) {
		std::atomic<long> result{0};
		pthread_t thread;
		struct data {
			ums::completion_list &list;
			std::atomic<long> &result;
		} d{list, result};
		pthread_create(
			&thread, nullptr,
			[](void *arg) -> void * {
				auto &mine = *static_cast<data *>(arg);
				const ums_worker_args args{};
				const long id =
					ums_worker_enter(mine.list.native_handle(), &args, sizeof args);
				mine.result = id;
				if (id < 0)
					mine.list.close();
				return nullptr;
			},
			&d);
		const auto error =
			error_of([&] { EXPECT_EQ(run(me, list, list.pop()).reason, reason::exited); });
		pthread_join(thread, nullptr);
		ASSERT_GT(result, 0) << "round " << i;
		ASSERT_FALSE(error) << "round " << i;
	}
}

TEST(Worker, NoThreadLeft)
{
	ums::completion_list list(1);
	rlimit before, none;
	getrlimit(RLIMIT_AS, &before);
	none = before;
	none.rlim_cur = 1; // no stack can be mapped
	setrlimit(RLIMIT_AS, &none);
	const auto error = error_of([&] {
		ums::worker w(list, ums::worker::options{.name = {}, .stack_size = 64 << 20}, [] {});
	});
	setrlimit(RLIMIT_AS, &before);
	EXPECT_EQ(error, std::errc::resource_unavailable_try_again);
	// Nothing is left behind.
	ums::scheduler me;
	ums::worker w(list, [] {});
	run_all(me, list, 1);
}

TEST(Worker, JoinsByOthers)
{
	ums::completion_list list(2);
	std::jthread other([&] {
		ums::scheduler me;
		run_all(me, list, 2);
	});
	// Another worker, then an ordinary thread.
	std::atomic<bool> done{false};
	auto first = std::make_unique<ums::worker>(list, [&] {
		usleep(20'000);
		done = true;
	});
	ums::worker second(list, [&] {
		first->join();
		EXPECT_TRUE(done);
	});
	second.join();
	EXPECT_FALSE(first->joinable());
}

TEST(Worker, SureDeadlocks)
{
	ums::completion_list list(2);
	ums::scheduler me;
	ums::worker *self = nullptr;
	ums::worker w(list, [&] {
		EXPECT_EQ(error_of([&] { self->join(); }), std::errc::resource_deadlock_would_occur);
	});
	self = &w;
	const auto id = list.pop();
	EXPECT_EQ(error_of([&] { w.join(); }), std::errc::resource_deadlock_would_occur);
	EXPECT_TRUE(w.joinable());
	EXPECT_EQ(run(me, list, id).reason, reason::exited);
	w.join();
}

TEST(Worker, PthreadExit)
{
	ums::completion_list list(1);
	ums::scheduler me;
	bool destroyed = false;
	struct cleanup {
		bool &b;
		~cleanup() { b = true; }
	};
	ums::worker w(list, [&] {
		const cleanup c{destroyed};
		pthread_exit(nullptr);
	});
	const auto events = run_all(me, list, 1);
	EXPECT_EQ(events.back().status(), 0);
	EXPECT_TRUE(destroyed);
}

namespace {

const ums::worker::options kept{.keep_thread = true};

// Runs the workers of the list until n have ended, and says how the last one did.
reason last_of(ums::scheduler &me, ums::completion_list &list, unsigned n = 1)
{
	return run_all(me, list, n).back().reason;
}

std::string name_of_this_thread()
{
	std::array<char, 16> name{};
	pthread_getname_np(pthread_self(), name.data(), name.size());
	return name.data();
}

} // namespace

TEST(Worker, ThreadsAreKept)
{
	constexpr int n = 50;
	ums::completion_list list(4);
	ums::scheduler me;
	std::set<pid_t> threads;
	std::set<ums::worker_id> ids;
	static thread_local int mine;
	int was = -1;
	for (int i = 0; i < n; i++) {
		bool destroyed = false;
		struct tells {
			bool *b;
			~tells() { *b = b != nullptr; }
		};
		ums::worker w(list, kept, [&, t = std::make_unique<tells>(&destroyed)] {
			threads.insert(gettid());
			ids.insert(ums::this_worker::get_id());
			was = std::exchange(mine, i);
		});
		EXPECT_EQ(last_of(me, list), reason::detached);
		w.join();
		EXPECT_TRUE(destroyed);
		EXPECT_EQ(was, i ? i - 1 : was);
	}
	EXPECT_EQ(threads.size(), 1U);
	EXPECT_EQ(ids.size(), unsigned{n});

	// Two at a time need two threads; and others keep to themselves.
	threads.clear();
	for (int i = 0; i < n; i++) {
		ums::worker a(list, kept, [&] { threads.insert(gettid()); });
		ums::worker b(list, kept, [&] { threads.insert(gettid()); });
		run_all(me, list, 2);
	}
	EXPECT_EQ(threads.size(), 2U);
	ums::worker other(list, [&] { EXPECT_FALSE(threads.contains(gettid())); });
	EXPECT_EQ(last_of(me, list), reason::exited);
	ums::worker large(list, {.stack_size = 1 << 20, .keep_thread = true},
			  [&] { EXPECT_FALSE(threads.contains(gettid())); });
	EXPECT_EQ(last_of(me, list), reason::exited);
}

// As a new thread would.
TEST(Worker, KeptThreadsBeginAnew)
{
	ums::completion_list list(1);
	ums::scheduler me;
	sigset_t usr1, usr2, was;
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	pid_t tid = 0, second = 0;
	{
		ums::worker w(list, {.name = "first", .keep_thread = true}, [&] {
			tid = gettid();
			EXPECT_EQ(name_of_this_thread(), "first");
			pthread_sigmask(SIG_BLOCK, &usr1, nullptr);
			pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
		});
		run_all(me, list, 1);
	}
	// Signals for the process are not its, once it waits.
	const test::time_limit limit(std::chrono::seconds(60));
	while (!test::blocks_all_signals(std::to_string(tid)))
		usleep(1000);
	pthread_sigmask(SIG_BLOCK, &usr2, &was);
	ums::worker w(list, kept, [&] {
		second = gettid();
		EXPECT_NE(name_of_this_thread(), "first");
		sigset_t now;
		pthread_sigmask(SIG_SETMASK, nullptr, &now);
		EXPECT_FALSE(sigismember(&now, SIGUSR1));
		EXPECT_TRUE(sigismember(&now, SIGUSR2));
		int state = -1;
		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
		EXPECT_EQ(state, PTHREAD_CANCEL_ENABLE);
	});
	pthread_sigmask(SIG_SETMASK, &was, nullptr);
	run_all(me, list, 1);
	EXPECT_EQ(tid, second);
}

TEST(Worker, KeptThreadsEndInAnyWay)
{
	ums::completion_list list(2);
	ums::scheduler me;
	const test::pipe pipe;

	// By pthread_exit() or a cancellation, at once or put off: then it is not kept. All is over when it has been joined.
	std::atomic<int> destroyed{0};
	struct cleanup {
		std::atomic<int> *n;
		~cleanup()
		{
			if (n) {
				usleep(1000);
				++*n;
			}
		}
		explicit cleanup(std::atomic<int> &a) : n(&a) {}
		cleanup(cleanup &&other) noexcept : n(std::exchange(other.n, nullptr)) {}
	};
	pid_t tid = 0, next = 0;
	ums::worker w;
	for (int how = 0; how < 3; how++) {
		ums::completion_list one(1);
		destroyed = 0;
		w = ums::worker(one, kept, [&, how, captured = cleanup(destroyed)] {
			const cleanup c(destroyed);
			EXPECT_NE(gettid(), tid);
			tid = gettid();
			if (how == 0)
				pthread_exit(nullptr);
			if (how == 2)
				pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
			pthread_cancel(pthread_self());
			pthread_testcancel();
			EXPECT_EQ(how, 2);
		});
		EXPECT_EQ(last_of(me, one), reason::detached);
		w.join();
		EXPECT_EQ(destroyed, 2);
		w = ums::worker(one, kept, [&] { EXPECT_NE(gettid(), tid); });
		run_all(me, one, 1);
		w.join();
	}

	// As an ordinary thread by then: it is.
	w = ums::worker(list, kept, [&] {
		EXPECT_NE(gettid(), tid);
		tid = gettid();
		ums::this_worker::detach();
	});
	EXPECT_EQ(last_of(me, list), reason::detached);
	w.join();
	{
		ums::completion_list closed(1);
		w = ums::worker(closed, kept, [&] {
			EXPECT_EQ(gettid(), tid);
			pipe.take();
			EXPECT_FALSE(ums::this_worker::is_worker());
		});
		const auto id = closed.pop();
		while (me.run(id).cause() != SYS_read)
			EXPECT_EQ(closed.pop(), id);
	}
	pipe.give();
	w.join();
	// Its place is free.
	ums::completion_list one(1);
	for (int i = 0; i < 3; i++) {
		w = ums::worker(one, kept, [&] { next = gettid(); });
		EXPECT_EQ(error_of([&] { const ums::worker second(one, kept, [] {}); }), std::errc::no_space_on_device);
		run_all(me, one, 1);
		EXPECT_EQ(next, tid);
		w.join();
	}
}

// An ended worker is another one than that which has its thread now.
TEST(Worker, JoinOnTheSameThread)
{
	ums::completion_list list(2); // one has its place until it is joined
	ums::scheduler me;
	pid_t tid = 0;
	ums::worker first(list, kept, [&] { tid = gettid(); });
	const auto id = list.pop();
	EXPECT_EQ(run(me, list, id).reason, reason::detached);
	// The last that is kept is the first to be given something.
	while (test::sleeps_in(tid) != SYS_futex)
		std::this_thread::yield();
	ums::worker second(list, kept, [&] {
		EXPECT_EQ(gettid(), tid);
		EXPECT_EQ(first.get_id(), id);
		first.join();
	});
	run_all(me, list, 1);
	second.join();
	EXPECT_FALSE(first.joinable());

	ums::worker *self = nullptr;
	ums::worker w(list, kept, [&] {
		EXPECT_EQ(error_of([&] { self->join(); }), std::errc::resource_deadlock_would_occur);
	});
	self = &w;
	EXPECT_EQ(error_of([&] { w.join(); }), std::errc::resource_deadlock_would_occur);
	run_all(me, list, 1);
}

// Whoever joins, and whoever creates; in user mode where that is possible.
TEST(Worker, KeptThreadsOfManySchedulers)
{
	constexpr int schedulers = 3, each = 100;
	std::atomic<int> ended{0};
	std::vector<std::jthread> threads;
	for (int k = 0; k < schedulers; k++)
		threads.emplace_back([&] {
			ums::completion_list list(4);
			ums::scheduler me({.user_switch = true, .list = &list});
			const ums::worker::options opts{.user_switch = true, .keep_thread = true};
			ums::worker creator(list, opts, [&] {
				for (int i = 0; i < each; i++) {
					ums::worker w(list, opts, [&] { ended++; });
					w.join();
				}
			});
			test::take_turns(me, list, each + 1);
		});
	threads.clear();
	EXPECT_EQ(ended, schedulers * each);
}

// The child of fork() has none of them.
TEST(Worker, KeptThreadsAndFork)
{
	ums::completion_list list(1);
	ums::scheduler me;
	ums::worker w(list, kept, [] {});
	run_all(me, list, 1);
	w.join();
	const pid_t child = fork();
	if (child == 0) {
		alarm(30);
		ums::completion_list own(1);
		ums::scheduler mine;
		bool ran = false;
		ums::worker other(own, kept, [&] { ran = true; });
		run_all(mine, own, 1);
		_exit(ran ? 0 : 1);
	}
	int status = -1;
	ASSERT_EQ(waitpid(child, &status, 0), child);
	EXPECT_EQ(status, 0);

	// Made by such a worker, it ends as a thread does that is the last one.
	pid_t grandchild = 0;
	w = ums::worker(list, kept, [&] {
		grandchild = fork();
		if (grandchild == 0)
			alarm(30);
	});
	run_all(me, list, 1);
	w.join();
	ASSERT_EQ(waitpid(grandchild, &status, 0), grandchild);
	EXPECT_EQ(status, 0);
}

TEST(WorkerDeathTest, AnEscapedExceptionTerminates)
{
	testing::FLAGS_gtest_death_test_style = "threadsafe";
	EXPECT_DEATH(
		{
			ums::completion_list list(1);
			ums::scheduler me;
			ums::worker w(list, [] { throw std::runtime_error("escaped"); });
			run_all(me, list, 1);
		},
		"escaped");
}

TEST(WorkerDeathTest, DestructionByItsOnlySchedulerTerminates)
{
	testing::FLAGS_gtest_death_test_style = "threadsafe";
	EXPECT_DEATH(
		{
			ums::completion_list list(1);
			ums::scheduler me;
			ums::worker w(list, [] {});
			list.pop();
		},
		"by its only scheduler");
}

TEST(Worker, ManyBlockAtOnce)
{
	constexpr unsigned n = 500;
	ums::completion_list list(n);
	ums::scheduler me;
	test::pipe p;
	unsigned ended = 0;
	std::vector<ums::worker> workers;
	for (unsigned i = 0; i < n; i++)
		workers.emplace_back(list, ums::worker::options{.name = {}, .stack_size = 64 * 1024}, [&] {
			p.take();
			ended++; // one at a time: one scheduler
		});
	for (unsigned blocked = 0; blocked < n;) {
		const auto e = me.run(list.pop());
		ASSERT_EQ(e.reason, reason::blocked);
		blocked += e.cause() == SYS_read;
	}
	EXPECT_EQ(ended, 0U);
	for (unsigned i = 0; i < n; i++)
		p.give();
	// A reader may meet an empty pipe again when another was quicker.
	run_all(me, list, n);
	EXPECT_EQ(ended, n);
}

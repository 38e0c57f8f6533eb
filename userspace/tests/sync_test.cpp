// SPDX-License-Identifier: MIT
//
// The synchronisation objects, between workers that switch in user mode, workers that do not, ordinary threads, and all
// of them.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <thread>
#include <vector>

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "helpers.hpp"

using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

namespace {

struct place {
	const char *name;
	unsigned schedulers; // of a run_loop; 0: none
	bool user_switch;
	bool threads; // ordinary ones; beside workers, every other one
	std::chrono::nanoseconds slice{0};
	unsigned lists = 0; // each with a scheduler of its own, and no loop
};

// Runs functions, each in a worker or a thread.
class team
{
public:
	explicit team(const place &p) : place_(p)
	{
		if (p.schedulers)
			loop_.emplace(ums::run_loop::options{
				.schedulers = p.schedulers, .slice = p.slice, .user_switch = p.user_switch});
		for (unsigned i = 0; i < p.lists; i++)
			lists_.emplace_back(64);
	}

	template <class F>
	void add(F f)
	{
		const bool has_workers = loop_ || !lists_.empty();
		if (!has_workers || (place_.threads && n_++ % 2))
			later_.emplace_back(std::move(f));
		else if (loop_)
			loop_->spawn(std::move(f));
		else
			workers_.emplace_back(lists_[workers_.size() % lists_.size()],
					      ums::worker::options{.user_switch = place_.user_switch}, std::move(f));
	}

	// Until all have ended.
	void run()
	{
		std::vector<std::jthread> threads;
		for (auto &f : later_)
			threads.emplace_back(std::move(f));
		for (std::size_t i = 0; i < lists_.size(); i++)
			threads.emplace_back([&, i] {
				ums::scheduler me({.user_switch = place_.user_switch, .list = &lists_[i]});
				const auto n = (workers_.size() + lists_.size() - 1 - i) / lists_.size();
				test::take_turns(me, lists_[i], static_cast<unsigned>(n));
			});
		if (loop_)
			loop_->run();
		threads.clear();
	}

private:
	place place_;
	std::optional<ums::run_loop> loop_;
	std::vector<ums::completion_list> lists_;
	std::vector<ums::worker> workers_;
	std::vector<std::function<void()>> later_;
	unsigned n_ = 0;
};

class Sync : public testing::TestWithParam<place>
{
};

constexpr place places[] = {
	{"Switching1", 1, true, false}, {"Switching3", 3, true, false}, {"Kernel2", 2, false, false},
	{"Slices", 2, true, false, 1ms}, {"Threads", 0, false, true},	{"Mixed", 2, true, true},
	{"List1", 0, true, false, 0ns, 1}, {"Lists3", 0, true, false, 0ns, 3}, {"ListsMixed", 0, true, true, 0ns, 2},
};

INSTANTIATE_TEST_SUITE_P(, Sync, testing::ValuesIn(places), [](const auto &info) { return info.param.name; });

// Now and then something else happens.
void disturb(std::minstd_rand &random)
{
	switch (random() % 64) {
	case 0:
		if (ums::this_worker::is_worker())
			ums::this_worker::yield();
		else
			std::this_thread::yield();
		break;
	case 1:
		usleep(1);
		break;
	case 2:
		gettid();
	}
}

} // namespace

TEST_P(Sync, MutexExcludes)
{
	constexpr unsigned n = 6, rounds = 500;
	team t(GetParam());
	ums::mutex m;
	long counter = 0;
	std::atomic<int> inside{0}, wrong{0};
	for (unsigned k = 0; k < n; k++)
		t.add([&, k] {
			std::minstd_rand random(k + 1);
			for (unsigned i = 0; i < rounds; i++) {
				const std::scoped_lock lock(m);
				wrong += inside++ != 0;
				const long was = counter;
				disturb(random);
				counter = was + 1;
				inside--;
			}
		});
	t.run();
	EXPECT_EQ(counter, long{n} * rounds);
	EXPECT_EQ(wrong, 0);
	EXPECT_TRUE(m.try_lock());
	EXPECT_FALSE(std::unique_lock(m, std::try_to_lock).owns_lock());
	m.unlock();
}

// Whoever waits gets it in the end, also if another one takes it again and again.
TEST_P(Sync, MutexIsNotKeptFromOthers)
{
	team t(GetParam());
	ums::mutex m;
	std::atomic<bool> stop{false};
	std::atomic<int> got{0};
	for (int k = 0; k < 2; k++)
		t.add([&] {
			while (!stop) {
				m.lock();
				if (ums::this_worker::is_worker())
					ums::this_worker::yield();
				m.unlock();
			}
		});
	t.add([&] {
		for (int i = 0; i < 100; i++) {
			const std::scoped_lock lock(m);
			got++;
		}
		stop = true;
	});
	t.run();
	EXPECT_EQ(got, 100);
}

TEST_P(Sync, TimedMutexGivesUp)
{
	team t(GetParam());
	ums::timed_mutex m;
	ums::latch locked(1), over(1);
	t.add([&] {
		m.lock();
		locked.count_down();
		over.wait();
		m.unlock();
	});
	t.add([&] {
		locked.wait();
		const auto before = steady::now();
		EXPECT_FALSE(m.try_lock_for(5ms));
		EXPECT_GE(steady::now() - before, 5ms);
		EXPECT_FALSE(m.try_lock_until(std::chrono::system_clock::now() + 1ms));
		EXPECT_FALSE(m.try_lock_for(0ms));
		EXPECT_FALSE(m.try_lock_for(-1h));
		over.count_down();
		EXPECT_TRUE(m.try_lock_for(1h));
		m.unlock();
	});
	t.run();
}

// For ever, and since ever.
TEST_P(Sync, LongAndPastTimes)
{
	team t(GetParam());
	ums::timed_mutex m;
	ums::mutex plain;
	ums::condition_variable changed;
	ums::latch locked(1);
	bool done = false;
	t.add([&] {
		m.lock();
		locked.count_down();
		EXPECT_FALSE(m.try_lock_until(std::chrono::system_clock::time_point::min()));
		EXPECT_FALSE(m.try_lock_until(steady::time_point::min()));
		EXPECT_FALSE(m.try_lock_for(std::chrono::nanoseconds::min()));
		ums::this_worker::sleep_for(5ms);
		m.unlock();
		const std::scoped_lock lock(plain);
		done = true;
		changed.notify_all();
	});
	t.add([&] {
		locked.wait();
		EXPECT_TRUE(m.try_lock_until(steady::time_point::max()));
		m.unlock();
		std::unique_lock lock(plain);
		EXPECT_TRUE(changed.wait_for(lock, std::chrono::nanoseconds::max(), [&] { return done; }));
	});
	t.add([&] {
		std::unique_lock lock(plain);
		EXPECT_TRUE(changed.wait_until(lock, std::chrono::system_clock::time_point::max(), [&] { return done; }));
	});
	t.run();
}

// Waits that end, and waits that time out, at random: nobody is lost, and nobody gets in twice.
TEST_P(Sync, TimedMutexUnderPressure)
{
	constexpr unsigned n = 6, rounds = 100;
	team t(GetParam());
	ums::timed_mutex m;
	std::atomic<int> inside{0}, wrong{0};
	std::atomic<unsigned> got{0}, not_got{0};
	for (unsigned k = 0; k < n; k++)
		t.add([&, k] {
			std::minstd_rand random(k + 1);
			for (unsigned i = 0; i < rounds; i++) {
				const bool timed = random() % 2;
				if (timed && !m.try_lock_for(std::chrono::microseconds(random() % 200))) {
					not_got++;
					continue;
				}
				if (!timed)
					m.lock();
				got++;
				wrong += inside++ != 0;
				disturb(random);
				if (random() % 16 == 0)
					usleep(50);
				inside--;
				m.unlock();
			}
		});
	t.run();
	EXPECT_EQ(got + not_got, n * rounds);
	EXPECT_EQ(wrong, 0);
	EXPECT_TRUE(m.try_lock());
	m.unlock();
}

TEST_P(Sync, ConditionVariableTakesTurns)
{
	constexpr int n = 4, rounds = 200;
	team t(GetParam());
	ums::mutex m;
	ums::condition_variable changed[n];
	int turn = 0;
	std::vector<int> order;
	for (int k = 0; k < n; k++)
		t.add([&, k] {
			for (int i = 0; i < rounds; i++) {
				std::unique_lock lock(m);
				changed[k].wait(lock, [&] { return turn == k; });
				order.push_back(k);
				turn = (k + 1) % n;
				changed[turn].notify_one();
			}
		});
	t.run();
	ASSERT_EQ(order.size(), std::size_t{n} * rounds);
	for (std::size_t i = 0; i < order.size(); i++)
		ASSERT_EQ(order[i], static_cast<int>(i % n));
}

TEST_P(Sync, ConditionVariableWakesAll)
{
	constexpr int n = 8;
	team t(GetParam());
	ums::mutex m;
	ums::condition_variable changed, counted;
	int waiting = 0, gone = 0;
	bool go = false;
	for (int k = 0; k < n; k++)
		t.add([&] {
			std::unique_lock lock(m);
			waiting++;
			counted.notify_one();
			changed.wait(lock, [&] { return go; });
			gone++;
		});
	t.add([&] {
		std::unique_lock lock(m);
		counted.wait(lock, [&] { return waiting == n; });
		go = true;
		changed.notify_all();
	});
	t.run();
	EXPECT_EQ(gone, n);
}

TEST_P(Sync, ConditionVariableTimesOut)
{
	team t(GetParam());
	ums::mutex m;
	ums::condition_variable never;
	t.add([&] {
		std::unique_lock lock(m);
		const auto before = steady::now();
		EXPECT_EQ(never.wait_for(lock, 3ms), std::cv_status::timeout);
		EXPECT_GE(steady::now() - before, 3ms);
		EXPECT_FALSE(never.wait_until(lock, std::chrono::system_clock::now() + 1ms, [] { return false; }));
		EXPECT_TRUE(lock.owns_lock());
	});
	t.run();
	never.notify_all(); // nobody
}

TEST_P(Sync, SemaphoreCounts)
{
	constexpr unsigned n = 8, rounds = 150;
	constexpr int places_in_it = 3;
	team t(GetParam());
	ums::counting_semaphore<places_in_it> s(places_in_it);
	std::atomic<int> inside{0}, most{0}, refused{0};
	for (unsigned k = 0; k < n; k++)
		t.add([&, k] {
			std::minstd_rand random(k + 1);
			for (unsigned i = 0; i < rounds; i++) {
				if (random() % 4 == 0) {
					if (!s.try_acquire_for(std::chrono::microseconds(random() % 100))) {
						refused++;
						continue;
					}
				} else {
					s.acquire();
				}
				const int now = ++inside;
				for (int was = most; was < now && !most.compare_exchange_weak(was, now);)
					;
				disturb(random);
				inside--;
				s.release();
			}
		});
	t.run();
	EXPECT_LE(most, places_in_it);
	for (int i = 0; i < places_in_it; i++)
		EXPECT_TRUE(s.try_acquire());
	EXPECT_FALSE(s.try_acquire());
	static_assert(ums::binary_semaphore::max() == 1);
}

// Several at once: for those that wait, and what is left for who comes.
TEST_P(Sync, SemaphoreReleasesSeveral)
{
	constexpr int n = 5;
	for (int i = 0; i < 5; i++) {
		team t(GetParam());
		ums::counting_semaphore<> s(0);
		ums::latch here(n);
		std::atomic<int> got{0};
		for (int k = 0; k < n; k++)
			t.add([&] {
				here.count_down();
				s.acquire();
				got++;
			});
		t.add([&] {
			here.wait();
			s.release(2);
			s.release(n);
		});
		t.run();
		EXPECT_EQ(got, n);
		EXPECT_TRUE(s.try_acquire());
		EXPECT_TRUE(s.try_acquire());
		EXPECT_FALSE(s.try_acquire());
	}
}

TEST_P(Sync, LatchOpensForAll)
{
	constexpr int n = 4;
	for (int i = 0; i < 5; i++) {
		team t(GetParam());
		ums::latch l(3 * n + 4);
		std::atomic<int> wrong{0}, arrived{0};
		for (int k = 0; k < 2 * n; k++)
			t.add([&, k] {
				arrived++;
				if (k < n)
					l.arrive_and_wait();
				else
					l.arrive_and_wait(2);
				wrong += arrived != 2 * n + 1 || !l.try_wait();
			});
		t.add([&] {
			l.count_down(3);
			wrong += l.try_wait();
			arrived++;
			l.count_down();
			l.wait();
			wrong += !l.try_wait();
		});
		t.run();
		EXPECT_EQ(arrived, 2 * n + 1);
		EXPECT_EQ(wrong, 0);
	}
}

// In turn, by objects that are destroyed as soon as they have done their work.
TEST_P(Sync, ShortLives)
{
	team t(GetParam());
	ums::channel<std::function<void()>> work;
	t.add([&] {
		while (auto f = work.receive())
			(*f)();
	});
	t.add([&] {
		for (int i = 0; i < 200; i++) {
			int result = 0;
			{
				auto done = std::make_unique<ums::latch>(1);
				work.send([&result, latch = done.get()] {
					result = 1;
					latch->count_down();
				});
				done->wait();
			}
			{
				auto done = std::make_unique<ums::binary_semaphore>(0);
				work.send([&result, semaphore = done.get()] {
					result++;
					semaphore->release();
				});
				done->acquire();
			}
			EXPECT_EQ(result, 2);
		}
		work.close();
	});
	t.run();
}

TEST_P(Sync, BarrierKeepsPhases)
{
	constexpr int n = 5, phases = 80;
	team t(GetParam());
	std::atomic<int> arrived{0}, wrong{0};
	int completed = 0;
	ums::barrier sync(n, [&]() noexcept {
		wrong += arrived.exchange(0) != n - (completed >= phases ? 1 : 0);
		completed++;
	});
	for (int k = 0; k < n; k++)
		t.add([&, k] {
			std::minstd_rand random(static_cast<unsigned>(k) + 1);
			for (int i = 0; i < phases; i++) {
				disturb(random);
				arrived++;
				sync.arrive_and_wait();
				wrong += completed != i + 1;
			}
			if (k == 0) {
				sync.arrive_and_drop();
				return;
			}
			arrived++;
			sync.arrive_and_wait();
		});
	t.run();
	EXPECT_EQ(completed, phases + 1);
	EXPECT_EQ(wrong, 0);
}

// Who has arrived does something else before it waits. One arrives for two.
TEST_P(Sync, BarrierArrivesBeforeItWaits)
{
	constexpr int n = 4, phases = 80;
	team t(GetParam());
	std::atomic<int> arrived{0}, wrong{0};
	int completed = 0;
	ums::barrier sync(n + 1, [&]() noexcept {
		wrong += arrived.exchange(0) != n + 1;
		completed++;
	});
	for (int k = 0; k < n; k++)
		t.add([&, k] {
			std::minstd_rand random(static_cast<unsigned>(k) + 1);
			const int mine = k == 0 ? 2 : 1;
			for (int i = 0; i < phases; i++) {
				arrived += mine;
				auto token = k == 0 ? sync.arrive(2) : sync.arrive();
				disturb(random);
				sync.wait(std::move(token));
				wrong += completed != i + 1;
			}
		});
	t.run();
	EXPECT_EQ(completed, phases);
	EXPECT_EQ(wrong, 0);
}

TEST_P(Sync, SharedMutexSharesAndExcludes)
{
	constexpr unsigned n = 8, rounds = 150;
	team t(GetParam());
	ums::shared_mutex m;
	std::atomic<int> readers{0}, writers{0}, wrong{0}, most{0};
	long value = 0, copy = 0;
	for (unsigned k = 0; k < n; k++)
		t.add([&, k] {
			std::minstd_rand random(k + 1);
			for (unsigned i = 0; i < rounds; i++) {
				if (random() % 4 == 0) {
					if (random() % 2) {
						if (!m.try_lock_for(1h))
							wrong++;
					} else {
						m.lock();
					}
					wrong += writers++ != 0 || readers != 0;
					value++;
					disturb(random);
					copy++;
					writers--;
					m.unlock();
				} else {
					const std::shared_lock lock(m);
					const int now = ++readers;
					if (now > most)
						most = now;
					wrong += writers != 0 || value != copy;
					disturb(random);
					readers--;
				}
			}
		});
	t.run();
	EXPECT_EQ(wrong, 0);
	if (GetParam().schedulers != 0) {
		EXPECT_GT(most, 1);
	}
	EXPECT_TRUE(m.try_lock_shared());
	EXPECT_TRUE(m.try_lock_shared());
	EXPECT_FALSE(m.try_lock());
	EXPECT_FALSE(m.try_lock_for(1ms));
	m.unlock_shared();
	m.unlock_shared();
}

// A writer that gives up does not keep the readers behind it.
TEST_P(Sync, SharedMutexGivesUp)
{
	team t(GetParam());
	ums::shared_mutex m;
	ums::latch reading(1), over(2);
	t.add([&] {
		m.lock_shared();
		reading.count_down();
		over.wait();
		m.unlock_shared();
	});
	t.add([&] {
		reading.wait();
		EXPECT_FALSE(m.try_lock_for(20ms));
		over.count_down();
	});
	t.add([&] {
		reading.wait();
		// Most often behind the writer by now.
		ums::this_worker::sleep_for(10ms);
		EXPECT_TRUE(m.try_lock_shared_for(1h));
		m.unlock_shared();
		over.count_down();
	});
	t.run();
}

TEST_P(Sync, ChannelsLoseNothing)
{
	for (const std::size_t capacity : {0U, 1U, 7U}) {
		constexpr int n = 3, items = 300;
		team t(GetParam());
		ums::channel<std::unique_ptr<int>> c(capacity);
		EXPECT_EQ(c.capacity(), capacity);
		std::atomic<long> sum{0};
		std::atomic<int> received{0}, senders{n};
		for (int k = 0; k < n; k++) {
			t.add([&, k] {
				std::minstd_rand random(static_cast<unsigned>(k) + 1);
				for (int i = 1; i <= items; i++) {
					auto item = std::make_unique<int>(i);
					if (random() % 4 || !c.try_send(item)) {
						EXPECT_TRUE(c.send(std::move(item)));
					}
					disturb(random);
				}
				if (--senders == 0)
					c.close();
			});
			t.add([&, k] {
				std::minstd_rand random(static_cast<unsigned>(k) + 100);
				for (;;) {
					std::optional<std::unique_ptr<int>> item;
					if (random() % 4 == 0)
						item = c.receive_for(std::chrono::microseconds(random() % 100));
					if (!item)
						item = c.receive();
					if (!item)
						break;
					sum += **item;
					received++;
					disturb(random);
				}
			});
		}
		t.run();
		EXPECT_EQ(received, n * items);
		EXPECT_EQ(sum, long{n} * items * (items + 1) / 2);
	}
}

// Of one sender.
TEST_P(Sync, ChannelsKeepTheOrder)
{
	constexpr int n = 300;
	for (const std::size_t capacity : {0, 1, 3, 7}) {
		team t(GetParam());
		ums::channel<int> c(capacity);
		std::vector<int> received;
		received.reserve(n);
		t.add([&] {
			std::minstd_rand random(1);
			for (int i = 0; i < n; i++) {
				EXPECT_TRUE(c.send(i));
				disturb(random);
			}
			c.close();
		});
		t.add([&] {
			std::minstd_rand random(2);
			while (auto i = c.receive()) {
				received.push_back(*i);
				disturb(random);
			}
		});
		t.run();
		ASSERT_EQ(received.size(), std::size_t{n});
		for (int i = 0; i < n; i++)
			EXPECT_EQ(received[static_cast<std::size_t>(i)], i);
	}
}

TEST_P(Sync, ChannelsCloseAndTimeOut)
{
	team t(GetParam());
	ums::channel<std::string> none, one(1), other, unread;
	ums::latch tried(1), closed(1);
	t.add([&] {
		EXPECT_FALSE(none.try_receive());
		EXPECT_FALSE(none.receive_for(1ms));
		std::string text = "text";
		EXPECT_FALSE(none.try_send(text));
		EXPECT_FALSE(none.send_for(std::move(text), 1ms));
		EXPECT_EQ(text, "text");
		EXPECT_TRUE(one.try_send(text));
		EXPECT_FALSE(one.try_send("other"));
		EXPECT_FALSE(one.is_closed());
		tried.count_down();
		closed.wait();
		EXPECT_FALSE(none.send("nobody"));
		EXPECT_FALSE(none.receive());
		EXPECT_FALSE(one.send("late"));
		EXPECT_EQ(one.receive(), "text");
		EXPECT_FALSE(one.receive());
	});
	t.add([&] { EXPECT_FALSE(other.receive()); });
	t.add([&] {
		std::string text = "to nobody";
		EXPECT_FALSE(unread.send(std::move(text)));
	});
	t.add([&] {
		tried.wait();
		usleep(10'000); // most often the other one waits by then
		none.close();
		one.close();
		other.close();
		unread.close();
		EXPECT_TRUE(one.is_closed());
		closed.count_down();
	});
	t.run();
	ums::channel<std::string> left(2);
	EXPECT_TRUE(left.send("destroyed with it"));
}

// Objects of static storage are there before anybody's code runs.
[[maybe_unused]] constinit ums::mutex constant_mutex;
[[maybe_unused]] constinit ums::condition_variable constant_condition;
[[maybe_unused]] constinit ums::counting_semaphore<> constant_semaphore(1);
constinit ums::latch open_latch(0);
[[maybe_unused]] constinit ums::barrier<> constant_barrier(2);

TEST_P(Sync, FuturesBringWhatWasPromised)
{
	team t(GetParam());
	ums::promise<std::string> value;
	ums::promise<int &> reference;
	ums::promise<void> nothing;
	ums::promise<int> failed;
	ums::future<int> broken;
	ums::latch waited(1);
	int number = 0;
	auto a = value.get_future();
	auto b = reference.get_future();
	auto c = nothing.get_future();
	auto d = failed.get_future();
	broken = ums::promise<int>().get_future();
	t.add([&] {
		EXPECT_EQ(c.wait_for(1ms), std::future_status::timeout);
		EXPECT_EQ(c.wait_until(std::chrono::system_clock::now() + 1ms), std::future_status::timeout);
		waited.count_down();
		EXPECT_EQ(a.get(), "value");
		EXPECT_FALSE(a.valid());
		EXPECT_EQ(&b.get(), &number);
		c.wait();
		EXPECT_TRUE(c.valid());
		c.get();
		EXPECT_THROW(d.get(), std::out_of_range);
		const auto code = [&] {
			try {
				broken.get();
			} catch (const std::future_error &e) {
				return e.code();
			}
			return std::error_code();
		};
		EXPECT_EQ(code(), std::future_errc::broken_promise);
		EXPECT_EQ(code(), std::future_errc::no_state);
	});
	t.add([&] {
		waited.wait();
		value.set_value("value");
		reference.set_value(number);
		nothing.set_value();
		failed.set_exception(std::make_exception_ptr(std::out_of_range("")));
	});
	t.run();
	EXPECT_THROW(value.set_value("again"), std::future_error);
	ums::promise<std::vector<int>> listed;
	listed.set_value({1, 2, 3});
	EXPECT_EQ(listed.get_future().get().size(), 3U);
	EXPECT_THROW(value.get_future(), std::future_error);
	EXPECT_TRUE(open_latch.try_wait());
}

TEST_P(Sync, FuturesAreShared)
{
	constexpr int n = 4;
	team t(GetParam());
	ums::promise<std::string> value;
	ums::promise<int &> reference;
	ums::promise<void> nothing, failed;
	auto a = value.get_future().share();
	const ums::shared_future<int &> b = reference.get_future();
	const auto c = nothing.get_future().share(), d = failed.get_future().share();
	int number = 0;
	std::atomic<int> right{0};
	std::atomic<const std::string *> seen{nullptr};
	for (int i = 0; i < n; i++)
		t.add([&, a, b, c, d] {
			right += a.get() == "value" && &b.get() == &number;
			const std::string *before = nullptr;
			// One value for all, as often as one likes.
			if (!seen.compare_exchange_strong(before, &a.get()))
				right += before == &a.get();
			else
				right++;
			c.wait();
			c.get();
			EXPECT_EQ(c.wait_for(0s), std::future_status::ready);
			EXPECT_THROW(d.get(), std::out_of_range);
			EXPECT_THROW(d.get(), std::out_of_range);
			EXPECT_TRUE(d.valid());
		});
	t.add([&] {
		usleep(1000);
		value.set_value("value");
		reference.set_value(number);
		nothing.set_value();
		failed.set_exception(std::make_exception_ptr(std::out_of_range("")));
	});
	t.run();
	EXPECT_EQ(right, 2 * n);

	ums::future<int> none;
	EXPECT_FALSE(none.share().valid());
	EXPECT_THROW(ums::shared_future<int>().get(), std::future_error);
	auto moved = std::move(a);
	EXPECT_FALSE(a.valid());
	EXPECT_EQ(moved.get(), "value");
}

TEST_P(Sync, SleepSleeps)
{
	team t(GetParam());
	std::atomic<int> awake{0};
	const auto before = steady::now();
	for (int k = 0; k < 10; k++)
		t.add([&] {
			ums::this_worker::sleep_for(20ms);
			ums::this_worker::sleep_until(steady::now() + 5ms);
			awake++;
		});
	t.run();
	EXPECT_EQ(awake, 10);
	EXPECT_GE(steady::now() - before, 25ms);
}

// If they silently went through the kernel, all other tests would pass.
TEST(SyncSwitch, TheKernelDoesNotSeeIt)
{
	if (!ums::probe().has(UMS_FEATURE_USER_SWITCH))
		GTEST_SKIP() << "no switch in user mode";
	constexpr int rounds = 5000;
	ums::run_loop loop({.schedulers = 1, .user_switch = true});
	ums::channel<int> there, back;
	ums::mutex m;
	ums::condition_variable changed;
	int turn = 0;
	std::uint64_t blocks = 0;
	const auto take_turn = [&](int k) {
		std::unique_lock lock(m);
		changed.wait(lock, [&] { return turn == k; });
		turn = 1 - k;
		changed.notify_one();
	};
	loop.spawn([&] {
		const auto id = ums::this_worker::get_id();
		const auto before = ums::query(id);
		for (int i = 0; i < rounds; i++) {
			there.send(i);
			EXPECT_EQ(back.receive(), i);
			take_turn(0);
		}
		const auto after = ums::query(id);
		blocks = after.blocks_syscall - before.blocks_syscall + after.yields - before.yields;
		there.close();
	});
	loop.spawn([&] {
		while (const auto i = there.receive()) {
			back.send(*i);
			take_turn(1);
		}
	});
	loop.run();
	EXPECT_LT(blocks, rounds / 100U);
	// Nor the scheduler: they go on to each other by themselves.
	EXPECT_LT(loop.statistics()[0].switches, rounds / 10U);
}

// Nor do timeouts, whether the time comes or what was waited for.
TEST(SyncSwitch, TimersNeedNoKernel)
{
	if (!ums::probe().has(UMS_FEATURE_USER_SWITCH))
		GTEST_SKIP() << "no switch in user mode";
	constexpr unsigned rounds = 500;
	ums::run_loop loop({.schedulers = 1, .user_switch = true});
	ums::binary_semaphore there(0), back(0), never(0);
	std::uint64_t blocks = 0;
	const auto blocks_of = [](ums::worker_id id) {
		const auto info = ums::query(id);
		return info.blocks_syscall + info.yields;
	};
	const auto plays = [&](ums::binary_semaphore &mine, ums::binary_semaphore &others) {
		const auto id = ums::this_worker::get_id();
		const auto before = blocks_of(id);
		for (unsigned i = 0; i < rounds; i++) {
			others.release();
			EXPECT_TRUE(mine.try_acquire_for(1h));
			if (i % 10 == 0) {
				EXPECT_FALSE(never.try_acquire_for(10us));
				ums::this_worker::sleep_for(10us);
			}
		}
		blocks += blocks_of(id) - before;
	};
	loop.spawn([&] { plays(there, back); });
	loop.spawn([&] { plays(back, there); });
	loop.run();
	EXPECT_LT(blocks, rounds / 10);
}

// The clock is heard by those that only go on to each other, or on their own; and the first to go off is not the first
// that was set.
TEST(SyncSwitch, TimersGoOffWhileOthersRun)
{
	for (const unsigned others : {1U, 3U}) {
		ums::run_loop loop({.schedulers = 1, .user_switch = true});
		ums::binary_semaphore free(0);
		bool acquired = false, slept = false;
		const auto end = steady::now() + 60s;
		loop.spawn([&] { acquired = free.try_acquire_for(1h); });
		loop.spawn([&] {
			ums::this_worker::sleep_for(2ms);
			slept = true;
		});
		for (unsigned k = 0; k < others; k++)
			loop.spawn([&, k] {
				while (!slept && steady::now() < end)
					ums::this_worker::yield();
				if (k == 0)
					free.release();
			});
		loop.run();
		EXPECT_TRUE(slept);
		EXPECT_TRUE(acquired);
		EXPECT_LT(steady::now(), end);
	}
}

// Nobody else runs: the scheduler sleeps until then, however long that is, and as often as it likes.
TEST(SyncSwitch, TimersOfAnIdleLoop)
{
	const test::time_limit limit(100s);
	ums::run_loop loop({.schedulers = 1, .user_switch = true});
	bool over = false;
	loop.spawn([&] {
		for (int i = 0; i < 3; i++) {
			const auto start = steady::now();
			ums::this_worker::sleep_for(50ms);
			EXPECT_GE(steady::now() - start, 50ms);
		}
		// Beside one that is always ready.
		loop.spawn([&] {
			while (!over)
				ums::this_worker::yield();
		});
		for (int i = 0; i < 3; i++) {
			const auto start = steady::now();
			ums::this_worker::sleep_for(15ms);
			EXPECT_GE(steady::now() - start, 15ms);
		}
		over = true;
	});
	loop.run();
}

// In real time they would keep the thread that tells them from its processor.
TEST(SyncSwitch, TimersOfSchedulersInRealTime)
{
	const test::time_limit limit(100s);
	std::thread([] {
		cpu_set_t one;
		CPU_ZERO(&one);
		CPU_SET(0, &one);
		ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
		const sched_param param{.sched_priority = 10};
		ASSERT_EQ(sched_setscheduler(0, SCHED_FIFO, &param), 0);
		ums::run_loop loop({.schedulers = 1, .user_switch = true});
		const auto end = steady::now() + 10s;
		std::atomic<bool> slept{false};
		loop.spawn([&] {
			ums::this_worker::sleep_for(2ms);
			slept = true;
		});
		loop.spawn([&] {
			while (!slept && steady::now() < end)
				ums::this_worker::yield();
		});
		loop.run();
		EXPECT_LT(steady::now(), end);
	}).join();
}

// First come, first served.
TEST(SyncSwitch, TheFirstToWaitIsTheFirstToBeWoken)
{
	constexpr int n = 5;
	ums::run_loop loop({.schedulers = 1, .user_switch = true});
	ums::mutex m;
	ums::condition_variable condition;
	std::vector<int> waits, goes_on;
	for (int i = 0; i < n; i++)
		loop.spawn([&, i] {
			std::unique_lock lock(m);
			waits.push_back(i);
			condition.wait(lock);
			goes_on.push_back(i);
		});
	loop.spawn([&] {
		for (int i = 0; i < n; i++) {
			const auto its_turn = [&] {
				const std::scoped_lock lock(m);
				return waits.size() == n && goes_on.size() == static_cast<std::size_t>(i);
			};
			while (!its_turn())
				ums::this_worker::yield();
			condition.notify_one();
		}
	});
	loop.run();
	EXPECT_EQ(waits, goes_on);
}

// Readers that hold it all the time, one or the other, let a writer in.
TEST(SyncSwitch, ReadersGiveWayToWriters)
{
	const test::time_limit limit(100s);
	ums::run_loop loop({.schedulers = 1, .user_switch = true});
	ums::shared_mutex m;
	bool written = false;
	int readers = 0, most = 0;
	for (int i = 0; i < 2; i++)
		loop.spawn([&] {
			while (!written) {
				const std::shared_lock lock(m);
				most = std::max(most, ++readers);
				for (int k = 0; k < 3; k++)
					ums::this_worker::yield();
				readers--;
			}
		});
	loop.spawn([&] {
		while (most < 2)
			ums::this_worker::yield();
		const std::scoped_lock lock(m);
		written = true;
	});
	loop.run();
	EXPECT_TRUE(written);
}

TEST(SyncSwitch, TheFirstTimeComesFirst)
{
	if (!ums::probe().has(UMS_FEATURE_USER_SWITCH))
		GTEST_SKIP() << "no switch in user mode";
	constexpr int n = 8;
	bool in_time = false;
	for (int attempt = 0; attempt < 20 && !in_time; attempt++) {
		ums::run_loop loop({.schedulers = 1, .user_switch = true});
		const auto start = steady::now() + 20ms * (attempt + 1);
		std::vector<int> order;
		order.reserve(n);
		in_time = true;
		for (int k = 0; k < n; k++)
			loop.spawn([&, k] {
				// Not in the order of the times.
				const int place = k * 5 % n;
				if (steady::now() >= start)
					in_time = false;
				ums::this_worker::sleep_until(start + 1us * place);
				EXPECT_GE(steady::now(), start + 1us * place);
				order.push_back(place);
			});
		loop.run();
		ASSERT_EQ(order.size(), unsigned{n});
		if (in_time) {
			EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
		}
	}
	EXPECT_TRUE(in_time);
}

// Nobody else runs meanwhile, as in any block there; and nobody has to be there to run.
TEST(SyncSwitch, RegionsWaitInTheKernel)
{
	ums::run_loop loop({.schedulers = 1, .user_switch = true});
	ums::binary_semaphore never(0);
	bool done = false;
	long turns = 0;
	loop.spawn([&] {
		for (int i = 0; i < 20; i++) {
			ums::this_worker::yield();
			const ums::this_worker::no_upcall_region region;
			const auto before = turns;
			const auto start = steady::now();
			if (i % 2)
				ums::this_worker::sleep_for(1ms);
			else
				EXPECT_FALSE(never.try_acquire_for(1ms));
			EXPECT_GE(steady::now() - start, 1ms);
			EXPECT_EQ(turns, before);
		}
		done = true;
	});
	loop.spawn([&] {
		while (!done) {
			turns++;
			ums::this_worker::yield();
		}
	});
	loop.run();
	EXPECT_GT(turns, 0);
}

namespace {

std::atomic<int> handlers, starved;
std::atomic<bool> other_has_run;

// Gives way until somebody else has run, and sleeps.
void gives_way(int)
{
	for (int i = 0; i < 1'000'000 && !other_has_run; i++)
		ums::this_worker::yield();
	starved += !other_has_run;
	ums::this_worker::sleep_for(100us);
	handlers++;
}

} // namespace

// The handler of one that waited in user mode may do what those of running workers may.
TEST(SyncSwitch, HandlersOfThoseThatWait)
{
	struct sigaction action {};
	action.sa_handler = gives_way;
	ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
	ums::run_loop loop({.schedulers = 1, .user_switch = true});
	ums::counting_semaphore<> s(0), waits(0);
	std::atomic<pthread_t> thread{};
	constexpr int rounds = 20;
	handlers = starved = 0;
	loop.spawn([&] {
		thread = pthread_self();
		for (int i = 0; i < rounds; i++) {
			waits.release();
			if (i % 3 == 0)
				s.acquire();
			else
				EXPECT_TRUE(s.try_acquire_for(1h));
		}
	});
	loop.spawn([&] {
		for (int i = 0; i < rounds; i++) {
			waits.acquire();
			ums::this_worker::yield();
			other_has_run = false;
			pthread_kill(thread, SIGUSR1);
			usleep(1000); // its thread gets it, most often, which has no context
			s.release();
			// The other one goes on, and its handler waits for this.
			ums::this_worker::yield();
			other_has_run = true;
			for (int k = 0; k < 1'000'000 && handlers <= i; k++)
				ums::this_worker::yield();
		}
	});
	loop.run();
	EXPECT_EQ(handlers, rounds);
	EXPECT_EQ(starved, 0);
}

// Workers that go on to each other without their scheduler, or for ever by themselves, keep nobody from its turn: neither
// one that a thread has woken, nor one that comes back from the kernel.
TEST(SyncSwitch, NobodyIsKeptFromItsTurn)
{
	enum { one_yields, two_yield, two_wait };
	for (const bool in_kernel : {false, true})
		for (const auto busy : {one_yields, two_yield, two_wait}) {
			const int n = busy == one_yields ? 1 : 2;
			ums::run_loop loop({.schedulers = 1, .user_switch = true});
			ums::binary_semaphore wanted(0);
			std::array<ums::binary_semaphore, 2> turns{ums::binary_semaphore(1), ums::binary_semaphore(0)};
			test::pipe pipe;
			std::atomic<bool> waits{false}, go{false}, over{false};
			int there = 0;
			loop.spawn([&] {
				waits = true;
				if (in_kernel)
					pipe.take();
				else
					wanted.acquire();
				over = true;
			});
			for (std::size_t k = 0; k < static_cast<std::size_t>(n); k++)
				loop.spawn([&, k] {
					there++;
					do {
						if (busy == two_wait)
							turns[k].acquire();
						// It does wait, as this one runs.
						if (waits && there == n)
							go = true;
						if (busy == two_wait)
							turns[1 - k].release();
						else
							ums::this_worker::yield();
					} while (!over);
				});
			std::jthread gives([&] {
				while (!go)
					std::this_thread::yield();
				if (in_kernel)
					pipe.give();
				else
					wanted.release();
			});
			alarm(100); // else for ever
			loop.run();
			alarm(0);
		}
}

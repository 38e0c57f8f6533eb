// SPDX-License-Identifier: MIT
//
// A scheduler goes on although its worker blocks while it holds a lock that everybody takes: malloc's, the
// loader's. The proof: this program's own malloc and pthread_mutex_lock, which libums.so and the standard
// library use as well, count their calls for each thread, and malloc has a lock that a worker can be made to
// hold while it blocks.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>

#include <dlfcn.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "helpers.hpp"

namespace {

// Of each thread. Trivial, in the executable: reached without a call.
struct calls {
	unsigned long allocations, frees, locks;
};
thread_local constinit calls mine{};

constexpr std::size_t blocking_size = 123'457; // malloc() of this many bytes blocks, with the lock held
std::atomic<bool> armed{false};
pthread_mutex_t heap = PTHREAD_MUTEX_INITIALIZER;
std::atomic<int> blocking_fd{-1};

using lock_function = int (*)(pthread_mutex_t *);
lock_function real_lock, real_unlock;

[[gnu::constructor]] void find_real_functions()
{
	real_lock = reinterpret_cast<lock_function>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
	real_unlock = reinterpret_cast<lock_function>(dlsym(RTLD_NEXT, "pthread_mutex_unlock"));
}

// What malloc and free do while the heap is armed: take a lock, one of them blocks under it.
void pass_heap_lock(std::size_t size)
{
	if (!armed.load(std::memory_order_relaxed))
		return;
	real_lock(&heap);
	if (size == blocking_size) {
		char c;
		while (read(blocking_fd, &c, 1) != 1)
			;
	}
	real_unlock(&heap);
}

} // namespace

extern "C" {

void *__libc_malloc(std::size_t);
void *__libc_calloc(std::size_t, std::size_t);
void *__libc_realloc(void *, std::size_t);
void *__libc_memalign(std::size_t, std::size_t);
void __libc_free(void *);

void *malloc(std::size_t size)
{
	mine.allocations++;
	pass_heap_lock(size);
	return __libc_malloc(size);
}

void *calloc(std::size_t n, std::size_t size)
{
	mine.allocations++;
	pass_heap_lock(size);
	return __libc_calloc(n, size);
}

void *realloc(void *p, std::size_t size)
{
	mine.allocations++;
	pass_heap_lock(size);
	return __libc_realloc(p, size);
}

void *aligned_alloc(std::size_t alignment, std::size_t size)
{
	mine.allocations++;
	pass_heap_lock(size);
	return __libc_memalign(alignment, size);
}

int posix_memalign(void **p, std::size_t alignment, std::size_t size)
{
	*p = aligned_alloc(alignment, size);
	return *p ? 0 : ENOMEM;
}

void free(void *p)
{
	if (p) {
		mine.frees++;
		pass_heap_lock(0);
	}
	__libc_free(p);
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
	mine.locks++;
	return real_lock ? real_lock(mutex) : 0;
}

} // extern "C"

namespace {

// The calls that the calling thread makes in f().
template <class F>
calls calls_of(F f)
{
	const calls before = mine;
	f();
	return {mine.allocations - before.allocations, mine.frees - before.frees, mine.locks - before.locks};
}

void expect_none(const calls &c)
{
	EXPECT_EQ(c.allocations, 0U);
	EXPECT_EQ(c.frees, 0U);
	EXPECT_EQ(c.locks, 0U);
}

} // namespace

TEST(UpcallPath, TheCountersCount)
{
	const auto c = calls_of([] {
		auto *p = new std::string(1000, 'x');
		asm volatile("" : "+r"(p));
		delete p;
		pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
		pthread_mutex_lock(&m);
		pthread_mutex_unlock(&m);
	});
	EXPECT_EQ(c.allocations, 2U);
	EXPECT_EQ(c.frees, 2U);
	EXPECT_EQ(c.locks, 1U);
}

TEST(UpcallPath, EveryEventOfTheScheduler)
{
	ums::completion_list list(2);
	ums::scheduler me;
	test::pipe p;
	ums::worker w(list, [&] {
		ums::this_worker::yield();
		p.take();
		ums::preempt(ums::this_worker::get_id());
	});
	const auto id = list.pop();
	ums::reason reasons[4] = {};
	bool errors_right = false;
	expect_none(calls_of([&] {
		std::error_code ec;
		reasons[0] = test::run(me, list, id).reason;
		reasons[1] = test::run(me, list, id).reason;
		me.run(id, {}, ec);
		errors_right = ec == ums::errc::blocked;
		p.give();
		list.wait(ec);
		const auto again = list.try_pop();
		reasons[2] = test::run(me, list, *again).reason;
		reasons[3] = test::run(me, list, list.pop()).reason;
	}));
	EXPECT_EQ(reasons[0], ums::reason::yielded);
	EXPECT_EQ(reasons[1], ums::reason::blocked);
	EXPECT_TRUE(errors_right);
	EXPECT_EQ(reasons[2], ums::reason::preempted);
	EXPECT_EQ(reasons[3], ums::reason::exited);
}

TEST(UpcallPath, AWorkerBlocksInsideMalloc)
{
	ums::completion_list list(3);
	ums::scheduler me;
	test::pipe p;
	std::atomic<int> progress{0};
	ums::worker holder(list, [] { free(malloc(blocking_size)); });
	const auto id = list.pop();
	// These wait in the list; they do without malloc until the lock is free.
	ums::worker other(list, [&] {
		for (int i = 0; i < 10; i++) {
			progress++;
			ums::this_worker::yield();
		}
		p.give();
	});
	const auto other_id = list.pop();
	// And this one needs malloc: it blocks on the lock.
	ums::worker needy(list, [] { free(malloc(10)); });
	const auto needy_id = list.pop();

	blocking_fd = p.in();
	armed = true;
	ums::event first, second;
	int events = 0;
	bool was_blocked = false;
	expect_none(calls_of([&] {
		std::error_code ec;
		first = test::run(me, list, id);
		second = test::run(me, list, needy_id);
		for (int i = 0; i < 10; i++)
			test::run(me, list, other_id);
		was_blocked = list.state(id) == ums::worker_state::blocked && progress == 10;
		// All three end now.
		events = me.run(other_id, {}, ec).is_last();
		while (events < 3)
			events += me.run(list.pop(), {}, ec).is_last();
	}));
	armed = false;
	EXPECT_EQ(first.reason, ums::reason::blocked);
	EXPECT_EQ(first.cause(), std::uint64_t{SYS_read});
	EXPECT_EQ(second.reason, ums::reason::blocked);
	EXPECT_EQ(second.cause(), std::uint64_t{SYS_futex});
	EXPECT_TRUE(was_blocked);
}

TEST(UpcallPath, AWorkerBlocksInsideDlopen)
{
	ums::completion_list list(3);
	ums::scheduler me;
	test::pipe p;
	dlclose(dlopen(BLOCKING_CONSTRUCTOR, RTLD_NOW | RTLD_LOCAL)); // so that the file is in memory
	setenv("BLOCKING_CONSTRUCTOR_FD", std::to_string(p.in()).c_str(), 1);
	void *loaded = nullptr;
	ums::worker loader(list, [&] { loaded = dlopen(BLOCKING_CONSTRUCTOR, RTLD_NOW | RTLD_LOCAL); });
	const auto id = list.pop();
	int progress = 0;
	ums::worker other(list, [&] {
		for (int i = 0; i < 10; i++) {
			progress++;
			ums::this_worker::yield();
		}
		p.give('c');
	});
	const auto other_id = list.pop();
	// This one needs the loader's lock, too.
	ums::worker needy(list, [] { EXPECT_EQ(dlopen("/nonexistent.so", RTLD_NOW), nullptr); });
	const auto needy_id = list.pop();

	// It may block more often, reading the file: until it comes back no more, in the constructor's read.
	auto e = me.run(id);
	while (list.wait_for(std::chrono::seconds(1)))
		e = me.run(list.pop());
	EXPECT_EQ(e.reason, ums::reason::blocked);
	EXPECT_EQ(e.cause(), std::uint64_t{SYS_read});

	ums::event second;
	int ended = 0;
	expect_none(calls_of([&] {
		std::error_code ec;
		second = test::run(me, list, needy_id);
		for (int i = 0; i < 10; i++)
			test::run(me, list, other_id);
		ended = me.run(other_id, {}, ec).is_last();
		while (ended < 3)
			ended += me.run(list.pop(), {}, ec).is_last();
	}));
	EXPECT_EQ(second.reason, ums::reason::blocked);
	EXPECT_EQ(progress, 10);
	ASSERT_NE(loaded, nullptr) << dlerror();
	EXPECT_EQ(*static_cast<int *>(dlsym(loaded, "blocking_constructor_byte")), 'c');
	dlclose(loaded);
	unsetenv("BLOCKING_CONSTRUCTOR_FD");
}

TEST(UpcallPath, RunLoopGoesOnWhileAWorkerHoldsTheHeap)
{
	ums::run_loop loop({.schedulers = 1});
	test::pipe p;
	calls *scheduler = &mine; // this thread is the loop's only scheduler
	calls at_start{}, at_end{};
	std::atomic<bool> holds{false};
	std::atomic<int> begun{0};
	int progress = 0;
	blocking_fd = p.in();

	// Made before: making a worker needs the heap.
	for (int k = 0; k < 5; k++)
		loop.spawn([&] {
			begun++;
			while (!holds)
				usleep(500);
			for (int i = 0; i < 10; i++) {
				progress++;
				usleep(100);
				ums::this_worker::yield();
			}
			// The last one lets the holder go on.
			if (progress == 50)
				p.give();
		});
	loop.spawn([&] {
		while (begun < 5)
			usleep(500);
		at_start = *scheduler;
		armed = true;
		holds = true;
		free(malloc(blocking_size));
		armed = false;
		// More workers come and go meanwhile.
		for (int k = 0; k < 20; k++)
			loop.spawn([&] { usleep(100); });
		usleep(20'000);
		at_end = *scheduler;
	});
	loop.run();
	EXPECT_EQ(progress, 50);
	expect_none({at_end.allocations - at_start.allocations, at_end.frees - at_start.frees,
		     at_end.locks - at_start.locks});
}

// SPDX-License-Identifier: MIT
//
// The least there can be above the system calls: one completion list, one
// scheduler with a queue in an array, no library. So the rows that use it
// measure the mechanism.
#pragma once

#include "bench.hpp"
#include "syscall.hpp"

#include <cerrno>
#include <linux/ums.h>
#include <pthread.h>
#include <sys/mman.h>

// For a C library that does not know the numbers yet.
#ifndef SYS_ums_create
#define SYS_ums_create 548
#define SYS_ums_worker_enter 549
#define SYS_ums_detach 550
#define SYS_ums_scheduler_enter 551
#define SYS_ums_scheduler_exit 552
#define SYS_ums_execute 553
#define SYS_ums_yield 554
#define SYS_ums_wait 555
#define SYS_ums_query 557
#endif

namespace bench::ums {

using id = __u64;

// Ends the program when a system call failed.
inline long must(long ret, const char *what)
{
	if (ret < 0) {
		errno = static_cast<int>(-ret);
		fail(what);
	}
	return ret;
}

// The completion list of the program.
struct completion_list {
	int fd;
	ums_list_header *header;
	id *ring;

	completion_list()
	{
		ums_create_args args{};
		args.max_workers = 64;
		fd = static_cast<int>(must(syscall(SYS_ums_create, arg(&args), sizeof args), "ums_create"));
		void *pages = mmap(nullptr, args.mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
		check(pages != MAP_FAILED, "mmap of the completion list");
		header = static_cast<ums_list_header *>(pages);
		ring = reinterpret_cast<id *>(static_cast<char *>(pages) + args.ring_offset);
	}

	// The next published worker, or 0. Takes no atomic operation: the
	// program has one scheduler.
	id pop()
	{
		__u64 h = header->head;
		if (h == __atomic_load_n(&header->tail, __ATOMIC_ACQUIRE))
			return 0;
		id worker = ring[h & header->ring_mask];
		__atomic_store_n(&header->head, h + 1, __ATOMIC_RELEASE);
		return worker;
	}

	// The next published worker; sleeps until there is one.
	id wait()
	{
		for (;;) {
			if (id worker = pop())
				return worker;
			long ret = syscall(SYS_ums_wait, fd, 0, 0);
			if (ret < 0 && ret != -EINTR)
				must(ret, "ums_wait");
		}
	}
};

inline completion_list &list()
{
	static completion_list the;
	return the;
}

// An upcall's first arguments; it starts at the top of the stack and does not return.
using entry = void (*)(__u64 reason, id worker, __u64 detail, __u64, __u64 arg);

[[noreturn]] inline void execute(id worker)
{
	must(syscall(SYS_ums_execute, static_cast<long>(worker), 0, 0), "ums_execute");
	std::abort();
}

inline void yield() { syscall(SYS_ums_yield, 0, 0); }

// UMS_WORKER_USER_SWITCH, for programs that switch in user mode, or could.
inline __u64 user_switch;

// First thing in a thread that is to be a worker; returns when first executed.
inline void become_worker()
{
	ums_worker_args args{};
	args.flags = user_switch;
	must(syscall(SYS_ums_worker_enter, list().fd, arg(&args), sizeof args), "ums_worker_enter");
}

// The calling thread schedules from here on, until an upcall calls stop_scheduling().
// The compiler's own setjmp: the C library's objects to changing the stack.
inline void *after_scheduling[5];

[[gnu::noinline]] inline void schedule(entry upcall)
{
	alignas(16) static char stack[64 * 1024];
	if (__builtin_setjmp(after_scheduling))
		return;
	ums_scheduler_args args{};
	static_assert(UMS_SCHEDULER_USER_SWITCH == UMS_WORKER_USER_SWITCH);
	args.flags = user_switch;
	args.entry = reinterpret_cast<__u64>(upcall);
	args.stack = reinterpret_cast<__u64>(stack);
	args.stack_size = sizeof stack;
	must(syscall(SYS_ums_scheduler_enter, arg(&args), sizeof args), "ums_scheduler_enter");
	std::abort();
}

[[noreturn]] inline void stop_scheduling()
{
	must(syscall(SYS_ums_scheduler_exit, 0), "ums_scheduler_exit");
	__builtin_longjmp(after_scheduling, 1);
}

// The ready workers, first in, first out.
struct queue {
	static constexpr unsigned places = 64; // a power of two
	id workers[places];
	unsigned head = 0, tail = 0;

	void push(id w) { workers[tail++ % places] = w; }
	id pop() { return head == tail ? 0 : workers[head++ % places]; }
};

inline queue ready;
inline unsigned alive;

// A scheduler for workers that yield, block and end: who yielded goes to the
// end of the queue. Leaves scheduling when the last worker has ended.
[[noreturn]] inline void fifo(__u64 reason, id worker, __u64, __u64, __u64)
{
	if (reason == UMS_UPCALL_YIELDED)
		ready.push(worker);
	else if (reason == UMS_UPCALL_EXITED && --alive == 0)
		stop_scheduling();
	while (id published = list().pop())
		ready.push(published);
	id next = ready.pop();
	execute(next ? next : list().wait());
}

// Runs the given functions, each as a worker, to their end.
template <class... Body> void run(Body... body)
{
	alive = sizeof...(body);
	list(); // exists before the workers ask for it
	auto start = [](auto &f) {
		pthread_t t;
		auto thread = [](void *p) -> void * {
			become_worker();
			(*static_cast<std::remove_reference_t<decltype(f)> *>(p))();
			return nullptr;
		};
		if (pthread_create(&t, nullptr, thread, &f))
			fail("pthread_create");
		return t;
	};
	pthread_t threads[] = {start(body)...};
	// None is to run alone because another is not there yet.
	while (__atomic_load_n(&list().header->tail, __ATOMIC_ACQUIRE) < alive)
		sched_yield();
	schedule(fifo);
	for (pthread_t t : threads)
		pthread_join(t, nullptr);
}

// As bench::pair(), with two workers on one scheduler.
template <class There, class Back> void pair(const char *name, unsigned round_trips, There there, Back back)
{
	begin();
	double hop = 0;
	run([&] { hop = measure(round_trips, 2, there); },
	    [&] {
		    for (unsigned long i = total(round_trips); i; i--)
			    back();
	    });
	print(name, hop, 2 * round_trips);
}

} // namespace bench::ums

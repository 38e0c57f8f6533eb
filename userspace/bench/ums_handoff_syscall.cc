// SPDX-License-Identifier: MIT
//
// A worker switches to another one in user mode, which then calls getppid: on the thread of the
// first one, as far as the kernel knows until then. Per switch with its call.

#include "ums_switch_raw.hpp"

using namespace bench;

static ums::context contexts[2];
static ums::id ids[2];
static unsigned saved, left = 2;
static bool done;
static void *scheduler_pointer;

alignas(16) static char upcall_stack[64 * 1024];

static void upcall(__u64 reason, ums::id worker, __u64, __u64, __u64)
{
	static ums::context nowhere;

	if (reason == UMS_UPCALL_YIELDED)
		ids[saved++] = worker;
	if (reason == UMS_UPCALL_EXITED && --left == 0)
		ums::stop_scheduling();
	// Both are saved: the first measures, and ends; then the second does.
	if (saved == 2 && !ums::list().pop())
		bench_switch(&nowhere, &contexts[2 - left]);
	ums::execute(ums::list().wait());
}

static void be_saved(unsigned n)
{
	ums::user_switch = UMS_WORKER_USER_SWITCH;
	ums::become_worker();
	contexts[n].thread_pointer = __builtin_thread_pointer();
	ums::bench_switch_to_upcall(&contexts[n], n, scheduler_pointer, upcall_stack + sizeof upcall_stack, upcall);
}

static void *measures(void *)
{
	be_saved(0);
	double cost = measure(50, 2, [] {
		ums::bench_switch(&contexts[0], &contexts[1]);
		bench::syscall(SYS_getppid);
	});
	print("ums_handoff_syscall", cost, 2 * 50);
	done = true;
	return nullptr;
}

static void *answers(void *)
{
	be_saved(1);
	while (!done) {
		bench::syscall(SYS_getppid);
		ums::bench_switch(&contexts[1], &contexts[0]);
	}
	return nullptr;
}

int main()
{
	begin();
	ums_abi abi{};
	ums::must(syscall(SYS_ums_query, UMS_QUERY_ABI, 0, arg(&abi), sizeof abi), "ums_query");
	check(abi.features & UMS_FEATURE_USER_SWITCH, "UMS_FEATURE_USER_SWITCH");
	ums::user_switch = UMS_SCHEDULER_USER_SWITCH;
	scheduler_pointer = __builtin_thread_pointer();
	ums::list();
	pthread_t threads[2];
	if (pthread_create(&threads[0], nullptr, measures, nullptr) ||
	    pthread_create(&threads[1], nullptr, answers, nullptr))
		fail("pthread_create");
	while (__atomic_load_n(&ums::list().header->tail, __ATOMIC_ACQUIRE) < 2)
		sched_yield();
	ums::schedule(upcall);
	for (pthread_t t : threads)
		pthread_join(t, nullptr);
}

// SPDX-License-Identifier: MIT
//
// From the system call instruction of a scheduler that executes a worker, which has
// yielded, to the first instruction of the worker.

#include "ums_raw.hpp"

using namespace bench;

extern "C" {
// When the scheduler was about to call, and when the worker went on; the low halves.
std::uint32_t before_execute, in_worker;
void yield_until_executed();
void execute_told(ums::id worker);
void nothing_between();
}

// As in ums_block_upcall.cc.
asm(R"(
	.text
	.type execute_told, @function
execute_told:
	.byte	0x0f,0x1f,0x80,0x01,0x53,0x4d,0x55
	rdtsc
	movl	%eax, before_execute(%rip)
	xorl	%esi, %esi
	xorl	%edx, %edx
	movl	$553, %eax			# SYS_ums_execute
	syscall
	ud2

	.type yield_until_executed, @function
yield_until_executed:
	xorl	%edi, %edi
	xorl	%esi, %esi
	movl	$554, %eax			# SYS_ums_yield
	syscall
	rdtsc
	movl	%eax, in_worker(%rip)
	.byte	0x0f,0x1f,0x80,0x02,0x53,0x4d,0x55
	ret

	.type nothing_between, @function
nothing_between:
	rdtsc
	movl	%eax, before_execute(%rip)
	xorl	%esi, %esi
	xorl	%edx, %edx
	movl	$553, %eax
	rdtsc
	movl	%eax, in_worker(%rip)
	ret
)");

static void upcall(__u64 reason, ums::id worker, __u64, __u64, __u64)
{
	if (reason == UMS_UPCALL_YIELDED)
		execute_told(worker);
	if (reason == UMS_UPCALL_EXITED)
		ums::stop_scheduling();
	ums::execute(ums::list().wait());
}

static std::vector<double> measured;

static void *worker(void *)
{
	ums::become_worker();
	for (unsigned i = 0; i < warm_up + windows; i++) {
		yield_until_executed();
		measured.push_back(in_worker - before_execute);
	}
	return nullptr;
}

int main()
{
	begin();
	measured.reserve(total(1));
	std::vector<double> none;
	for (unsigned i = 0; i < windows; i++) {
		nothing_between();
		none.push_back(in_worker - before_execute);
	}
	pthread_t t;
	ums::list();
	if (pthread_create(&t, nullptr, worker, nullptr))
		fail("pthread_create");
	ums::schedule(upcall);
	pthread_join(t, nullptr);
	measured.erase(measured.begin(), measured.begin() + warm_up);
	print("ums_execute_kernel", median(measured) - median(none), 1);
}

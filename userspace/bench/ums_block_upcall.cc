// SPDX-License-Identifier: MIT
//
// From the system call instruction of a worker that blocks (a read of an empty
// eventfd) to the first instruction of its scheduler.

#include "ums_raw.hpp"

#include <sys/eventfd.h>

using namespace bench;

extern "C" {
// When the worker was about to call, and when the upcall began; the low halves.
std::uint32_t before_call, in_upcall;
long read_until_told(int fd, void *to);
void upcall_entry(__u64 reason, ums::id worker, __u64 detail, __u64, __u64 arg);
[[noreturn]] void upcall(__u64 reason, ums::id worker, __u64 detail, __u64, __u64 arg);
void nothing_between();
}

// The same instructions stand between the two readings of the clock in
// nothing_between(), which tells what is to be subtracted; the markers of
// scripts/insn-profile are not among them.
asm(R"(
	.text
	.type read_until_told, @function
read_until_told:
	.byte	0x0f,0x1f,0x80,0x01,0x53,0x4d,0x55
	rdtsc
	movl	%eax, before_call(%rip)
	movl	$8, %edx
	xorl	%eax, %eax			# SYS_read
	syscall
	ret

	.type upcall_entry, @function
upcall_entry:
	movq	%rdx, %r10
	rdtsc
	movl	%eax, in_upcall(%rip)
	.byte	0x0f,0x1f,0x80,0x02,0x53,0x4d,0x55
	movq	%r10, %rdx
	jmp	upcall

	.type nothing_between, @function
nothing_between:
	rdtsc
	movl	%eax, before_call(%rip)
	movl	$8, %edx
	xorl	%eax, %eax
	movq	%rdx, %r10
	rdtsc
	movl	%eax, in_upcall(%rip)
	ret
)");

static int event;
static unsigned blocks;
static std::vector<double> measured;

void upcall(__u64 reason, ums::id, __u64, __u64, __u64)
{
	if (reason == UMS_UPCALL_BLOCKED) {
		measured.push_back(in_upcall - before_call);
		std::uint64_t one = 1;
		if (syscall(SYS_write, event, arg(&one), sizeof one) != sizeof one)
			std::abort();
	} else if (reason == UMS_UPCALL_EXITED) {
		ums::stop_scheduling();
	}
	ums::execute(ums::list().wait());
}

static void *worker(void *)
{
	ums::become_worker();
	for (unsigned i = 0; i < warm_up + windows; i++) {
		std::uint64_t n;
		blocks++;
		if (read_until_told(event, &n) != sizeof n)
			std::abort();
	}
	return nullptr;
}

int main()
{
	begin();
	check((event = eventfd(0, EFD_CLOEXEC)) >= 0, "eventfd");
	measured.reserve(2 * total(1));
	std::vector<double> none;
	for (unsigned i = 0; i < windows; i++) {
		nothing_between();
		none.push_back(in_upcall - before_call);
	}
	pthread_t t;
	ums::list();
	if (pthread_create(&t, nullptr, worker, nullptr))
		fail("pthread_create");
	ums::schedule(upcall_entry);
	pthread_join(t, nullptr);
	if (measured.size() != blocks) {
		std::fprintf(stderr, "ums_block_upcall: %zu upcalls for %u blocks\n", measured.size(), blocks);
		return 1;
	}
	measured.erase(measured.begin(), measured.begin() + warm_up);
	print("ums_block_upcall", median(measured) - median(none), 1);
}

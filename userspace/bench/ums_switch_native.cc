// SPDX-License-Identifier: MIT
//
// The part of switch_to() that is in user mode, on any kernel: the switch of the library between the contexts of two
// threads, of which one sleeps in the kernel for ever, so that its context is free to be run by the other. For
// make bench-native; thread pointer, control words and rseq area come along as always.

#include "bench.hpp"

#include <atomic>
#include <thread>

#include <sys/auxv.h>
#include <sys/rseq.h>
#include <unistd.h>

#include <ums/this_worker.hpp>

#include "this_worker_state.hpp"

using ums::detail::worker_context;

extern "C" {
// Saves the calling context as a switch does, with @word as its scheduler, and has its thread sleep. Returns when the
// context has been switched to, on another thread.
void bench_abandon(worker_context *context, std::uintptr_t word);
}

asm(R"(
	.text
	.type bench_abandon, @function
bench_abandon:
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	stmxcsr	40(%rdi)
	fnstcw	44(%rdi)
	mov	%rsp, (%rdi)
	mov	%rsi, 8(%rdi)
1:	mov	$34, %eax		# pause(), which needs no stack
	syscall
	jmp	1b
)");

namespace {

ums::detail::slot_of_nobody here, there; // what the kernel would have: no attention
ums::detail::upcall_context scheduler;

void begin_context(worker_context &context)
{
	auto &me = ums::detail::me;
	me.context = &context;
	me.rseq = context.rseq = static_cast<char *>(__builtin_thread_pointer()) + __rseq_offset;
	context.thread_pointer = __builtin_thread_pointer();
}

} // namespace

int main()
{
	constexpr unsigned switches = 5000;
	constexpr unsigned long hwcap2_fsgsbase = 2;
	bench::begin();
	if (!(getauxval(AT_HWCAP2) & hwcap2_fsgsbase) || !__rseq_size) {
		std::fprintf(stderr, "bench: this machine has no FSGSBASE, or its C library no rseq\n");
		return 1;
	}
	const auto live = reinterpret_cast<std::uintptr_t>(&scheduler);
	begin_context(here.context);
	here.context.scheduler = live;
	std::thread([live] {
		begin_context(there.context);
		bench_abandon(&there.context, live | ums::detail::context_saved);
		for (;;) {
			ums_switch_to(&here.context, 0);
			ums_switch_to(&here.context, 0);
			ums_switch_to(&here.context, 0);
			ums_switch_to(&here.context, 0);
		}
	}).detach();
	while (there.context.scheduler != (live | ums::detail::context_saved))
		usleep(1000);
	const double value = bench::measure(switches / 2, 2, [] { ums_switch_to(&there.context, 0); });
	bench::print("ums_switch_native", value, switches);
	_exit(0);
}

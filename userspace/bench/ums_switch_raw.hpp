// SPDX-License-Identifier: MIT
//
// The least there can be above the system calls of switches in user mode.
#pragma once

#include "ums_raw.hpp"

namespace bench::ums {

// A context that is saved in user memory.
struct context {
	void *sp = nullptr;
	void *thread_pointer = nullptr;
};

extern "C" {
// Saves the calling context, and goes on with the other one.
void bench_switch(context *from, const context *to);
// The same, to an upcall: entry(YIELDED, worker) on its stack.
void bench_switch_to_upcall(context *from, id worker, void *thread_pointer, void *stack, entry upcall);
}

// What the ABI has a function keep: registers, and the control words of both floating-point units.
#define BENCH_SAVE                                                                                                     \
	"push %rbp\n\tpush %rbx\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\t"                                     \
	"sub $8, %rsp\n\tstmxcsr (%rsp)\n\tfnstcw 4(%rsp)\n\tmov %rsp, (%rdi)\n"

asm("	.text\n"
    "	.type bench_switch, @function\n"
    "bench_switch:\n\t" BENCH_SAVE R"(
	mov	(%rsi), %rsp
	mov	8(%rsi), %rax
	wrfsbase %rax
	ldmxcsr	(%rsp)
	fldcw	4(%rsp)
	add	$8, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	pop	%rcx
	jmp	*%rcx

	.type bench_switch_to_upcall, @function
bench_switch_to_upcall:
	)" BENCH_SAVE R"(
	mov	%rcx, %rsp
	wrfsbase %rdx
	mov	$2, %edi			# UMS_UPCALL_YIELDED
	xor	%edx, %edx
	call	*%r8
	ud2
)");

} // namespace bench::ums

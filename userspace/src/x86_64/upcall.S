/* SPDX-License-Identifier: MIT */
/*
 * From scheduler::run() into the kernel, and from the upcall back to its return.
 *
 * struct upcall_context, see scheduler.hpp; scheduler.cpp checks these offsets.
 */
#define CTX_STACK_POINTER	0
#define CTX_REASON		8
#define CTX_WORKER		16
#define CTX_DETAIL		24
#define CTX_CONTROL		96

#include "frame.h"

	.text

/*
 * long ums_upcall_await(upcall_context *rdi, long nr rsi, rdx, rcx, r8)
 *
 * An upcall comes with fresh registers on another stack. So what a function must
 * preserve is kept: six registers on this stack, the control words of x87 and SSE in the
 * context.
 */
	.globl	ums_upcall_await
	.hidden	ums_upcall_await
	.type	ums_upcall_await, @function
	.balign	16
ums_upcall_await:
	.cfi_startproc
	save_registers
	save_control CTX_CONTROL(%rdi)
	movq	%rsp, CTX_STACK_POINTER(%rdi)

	movq	%rsi, %rax
	movq	%rdx, %rdi
	movq	%rcx, %rsi
	movq	%r8, %rdx
	syscall

	/* Refused: the system call has left the registers as they were. */
	addq	$48, %rsp
	.cfi_adjust_cfa_offset -48
	ret
	.cfi_endproc
	.size	ums_upcall_await, . - ums_upcall_await

/*
 * entry(reason rdi, worker rsi, detail rdx, -, upcall_context *r8)
 *
 * Nothing called it: the unwinder ends here, until the saved stack is back.
 */
	.globl	ums_upcall_entry
	.hidden	ums_upcall_entry
	.type	ums_upcall_entry, @function
	.balign	16
ums_upcall_entry:
	.cfi_startproc
	.cfi_undefined %rip
	movq	%rdi, CTX_REASON(%r8)
	movq	%rsi, CTX_WORKER(%r8)
	movq	%rdx, CTX_DETAIL(%r8)
	movq	CTX_STACK_POINTER(%r8), %rsp
	/* From here on it is the frame of ums_upcall_await(). */
	frame	%rsp
	xorl	%eax, %eax
	load_context CTX_CONTROL(%r8)
	.cfi_endproc
	.size	ums_upcall_entry, . - ums_upcall_entry

	.section .note.GNU-stack, "", @progbits

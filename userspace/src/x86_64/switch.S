/* SPDX-License-Identifier: MIT */
/*
 * Switches between contexts in user mode.
 *
 * A context that is saved has on its stack what ums_upcall_await() saves there, too: the
 * control words of SSE and x87, six registers, the address where it goes on. So it does not
 * matter how it was left, and who comes back to it: an upcall or a switch.
 *
 * Who the thread is, is the thread pointer. WRFSBASE is the commit of a switch: before it
 * the old context runs, after it the new one. The stack pointer changes just before or
 * after, so one of them is on the stack of the other for an instruction, where it may take a
 * signal. That has to be the scheduler on the stack of a worker, which nobody else can
 * resume meanwhile: the scheduler's own stack is used again as soon as it is back.
 *
 * The rseq area of the new context has been written for the thread and the processor on which
 * it was last; it is brought up to date from that of the old one, which is the carrier's by
 * now. That must happen on the processor on which the new one goes on. So this is a critical
 * section of rseq(2): preempted, migrated or interrupted by a signal before the commit, it
 * starts again. A worker's look at its scheduler is part of it, since another one may run
 * it afterwards.
 *
 * Offsets of struct upcall_context and struct worker_context; context.cpp checks them.
 */
#define CTX_STACK_POINTER	0
#define CTX_REASON		8	/* of schedulers */
#define CTX_WORKER		16
#define CTX_DETAIL		24
#define CTX_SAVED		8	/* of workers */
#define CTX_SCHEDULER		16
#define CTX_SCHEDULER_TID	24
#define CTX_THREAD_POINTER	32
#define CTX_RSEQ		40

/* struct rseq */
#define RSEQ_CPU_ID_START	0	/* and cpu_id */
#define RSEQ_CS			8
#define RSEQ_NODE_ID		20	/* and mm_cid */
#define RSEQ_SIG		0x53053053

/* struct ums_slot */
#define SLOT_STATE		8
#define SLOT_SCHEDULER		24
#define UMS_STATE_EMPTY		4
#define UMS_UPCALL_YIELDED	2

#include "frame.h"

	.text

/*
 * The critical section of %rdi's own area, from \start to \commit, which starts again at
 * \again, its stack pointer in \cfa.
 */
.macro critical_section name, start, commit, again, cfa
	.pushsection __rseq_cs, "aw"
	.balign	32
\name:
	.long	0, 0
	.quad	\start, \commit - \start, \name\()_abort
	.popsection
	.pushsection .text.ums_rseq_failure, "ax"
	/* An instruction that nobody executes, with the signature at its end. */
	.byte	0x0f, 0xb9, 0x3d
	.long	RSEQ_SIG
\name\()_abort:
	.cfi_startproc
	frame	\cfa
	.ifnc	\cfa, %rsp
	movq	\cfa, %rsp
	.endif
	jmp	\again
	.cfi_endproc
	.popsection
.endm

/* From the area of the old context, %r8, to that of the new one, %r10. */
.macro update_rseq
	movq	RSEQ_CPU_ID_START(%r8), %rax
	movq	%rax, RSEQ_CPU_ID_START(%r10)
	movq	RSEQ_NODE_ID(%r8), %rax
	movq	%rax, RSEQ_NODE_ID(%r10)
	/* It left none, but for its own switch. */
	movq	$0, RSEQ_CS(%r10)
.endm

/*
 * int ums_switch_to_scheduler(worker_context *rdi, argument rsi, id rdx, slot rcx)
 */
	.globl	ums_switch_to_scheduler
	.hidden	ums_switch_to_scheduler
	.type	ums_switch_to_scheduler, @function
	.balign	16
ums_switch_to_scheduler:
	.cfi_startproc
	save_context
	movq	CTX_RSEQ(%rdi), %r8
1:	leaq	.Lto_scheduler(%rip), %rax
	movq	%rax, RSEQ_CS(%r8)
.Lto_scheduler_start:
	movq	%rsp, CTX_STACK_POINTER(%rdi)
	movq	CTX_SCHEDULER(%rdi), %r9
	testq	%r9, %r9
	jz	.Lno_scheduler
	/*
	 * At home it may have lost its scheduler for another one, which does not say so
	 * here; away it was resumed by this one.
	 */
	cmpl	$UMS_STATE_EMPTY, SLOT_STATE(%rcx)
	je	2f
	movl	SLOT_SCHEDULER(%rcx), %eax
	cmpl	%eax, CTX_SCHEDULER_TID(%rdi)
	jne	.Lno_scheduler
2:	movq	$UMS_UPCALL_YIELDED, CTX_REASON(%r9)
	movq	%rdx, CTX_WORKER(%r9)
	movq	%rsi, CTX_DETAIL(%r9)
	movq	CTX_RSEQ(%r9), %r10
	movq	CTX_STACK_POINTER(%r9), %r11
	update_rseq
	movq	CTX_THREAD_POINTER(%r9), %rax
	wrfsbase %rax
.Lto_scheduler_commit:
	movq	%r11, %rsp
	/* Now, and not before, may others resume it. */
	movq	$1, CTX_SAVED(%rdi)
	load_context

	frame	%rsp
.Lno_scheduler:
	addq	$56, %rsp
	.cfi_adjust_cfa_offset -56
	movl	$1, %eax
	ret
	.cfi_endproc
	.size	ums_switch_to_scheduler, . - ums_switch_to_scheduler
	critical_section .Lto_scheduler, .Lto_scheduler_start, .Lto_scheduler_commit, 1b, %rsp

/*
 * long ums_switch_to_worker(upcall_context *rdi, worker_context *rsi)
 */
	.globl	ums_switch_to_worker
	.hidden	ums_switch_to_worker
	.type	ums_switch_to_worker, @function
	.balign	16
ums_switch_to_worker:
	.cfi_startproc
	save_context
	movq	CTX_RSEQ(%rdi), %r8
	movq	CTX_RSEQ(%rsi), %r10
	movq	%rsp, %r9
3:	leaq	.Lto_worker(%rip), %rax
	movq	%rax, RSEQ_CS(%r8)
.Lto_worker_start:
	movq	%r9, CTX_STACK_POINTER(%rdi)
	update_rseq
	movq	CTX_THREAD_POINTER(%rsi), %rax
	movq	CTX_STACK_POINTER(%rsi), %rsp
	frame	%r9
	wrfsbase %rax
.Lto_worker_commit:
	frame	%rsp
	load_context
	.cfi_endproc
	.size	ums_switch_to_worker, . - ums_switch_to_worker
	critical_section .Lto_worker, .Lto_worker_start, .Lto_worker_commit, 3b, %r9

	.section .note.GNU-stack, "", @progbits

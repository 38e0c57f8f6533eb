/* SPDX-License-Identifier: MIT */
/*
 * Switches between contexts in user mode.
 *
 * A context that is saved has on its stack what ums_upcall_await() saves there, too: six
 * registers and the address where it goes on. So it does not matter how it was left, and who
 * comes back to it: an upcall or a switch.
 *
 * Who the thread is, is the thread pointer. WRFSBASE is the commit of a switch: before it
 * the old context runs, after it the new one. The stack pointer changes just before or
 * after, so one of them is on the stack of the other for an instruction, where it may take a
 * signal. That has to be one on the stack of a worker which nobody else can resume meanwhile:
 * one that leaves is marked as saved only when its stack is free, and the scheduler's own
 * stack is used again as soon as it is back.
 *
 * The rseq area of the new context has been written for the thread and the processor on which
 * it was last; it is brought up to date from that of the old one, which is the carrier's by
 * now. That must happen on the processor on which the new one goes on. So this is a critical
 * section of rseq(2): preempted, migrated or interrupted by a signal before the commit, it
 * starts again. Who is switched to, and where, is read in it, since others may run afterwards,
 * and the kernel resets what belongs to a worker that it lets go. What an
 * area points to when its context leaves is its own switch, in which it no longer is: the
 * kernel sees that, and the next switch names another one.
 *
 * Offsets of struct upcall_context, worker_context and loop_entry; scheduler.cpp checks them.
 */
#define SCHED_STACK_POINTER	0
#define SCHED_REASON		8
#define SCHED_WORKER		16
#define SCHED_DETAIL		24
#define SCHED_THREAD_POINTER	32
#define SCHED_RSEQ		40
#define SCHED_TID		48
#define SCHED_PUBLISHED		56
#define SCHED_SEEN		64
#define SCHED_INBOX		72
#define SCHED_YIELDS		88
#define SCHED_CONTROL		96

#define CTX_STACK_POINTER	0
#define CTX_SCHEDULER		8
#define CTX_THREAD_POINTER	16
#define CTX_RSEQ		24
#define CTX_CONTROL		40
#define CONTEXT_SAVED		1
#define CONTEXT_WANTED		2
#define CONTEXT_PARKED		4

#define THIS_CONTEXT		16	/* struct this_worker_state */
#define THIS_ENTRY		24
#define THIS_RSEQ		32

#define ENTRY_NEXT		0
#define ENTRY_CONTEXT		16

/* struct rseq */
#define RSEQ_CPU_ID_START	0	/* and cpu_id */
#define RSEQ_CS			8
#define RSEQ_NODE_ID		20	/* and mm_cid */
#define RSEQ_SIG		0x53053053

/* struct ums_slot, from its context */
#define SLOT_ID			-80
#define SLOT_STATE		(SLOT_ID + 8)
#define SLOT_SCHEDULER		(SLOT_ID + 24)
#define SLOT_ATTENTION		(SLOT_ID + 32)
#define SLOT_NO_UPCALL		(SLOT_ID + 72)
#define UMS_STATE_EMPTY		4
#define UMS_ID_SLOT_BITS	20
#define SLOT_SHIFT		7	/* of its size */
#define YIELDED_IN_USER_MODE	0x102	/* enum user_reason */
#define YIELDED_ASKING		0x202
#define BLOCKED_IN_USER_MODE	0x101

#include "frame.h"

	.text

.macro exported name
	.globl	\name
	.type	\name, @function
	.balign	16
\name:
	.cfi_startproc
.endm

.macro function name
	.hidden	\name
	exported \name
.endm

.macro end_function name
	.cfi_endproc
	.size	\name, . - \name
.endm

/*
 * The critical section of the area %r8, from here to commit_section, which starts again here;
 * its stack pointer is in \cfa.
 */
.macro begin_section name, cfa
.L\name\()_again:
	leaq	.L\name(%rip), %rax
	movq	%rax, RSEQ_CS(%r8)
.L\name\()_start:
	.pushsection __rseq_cs, "aw"
	.balign	32
.L\name:
	.long	0, 0
	.quad	.L\name\()_start, .L\name\()_commit - .L\name\()_start, .L\name\()_abort
	.popsection
	.pushsection .text.ums_rseq_failure, "ax"
	/* An instruction that nobody executes, with the signature at its end. */
	.byte	0x0f, 0xb9, 0x3d
	.long	RSEQ_SIG
.L\name\()_abort:
	.cfi_startproc
	frame	\cfa
	.ifnc	\cfa, %rsp
	movq	\cfa, %rsp
	.endif
	jmp	.L\name\()_again
	.cfi_endproc
	.popsection
.endm

/* \new becomes who runs, whose thread pointer is in it at \offset. */
.macro commit_section name, new, offset
	movq	\offset(\new), %rax
	wrfsbase %rax
.L\name\()_commit:
.endm

/* From the area of the old context, %r8, to that of the new one. */
.macro update_rseq area
	movq	RSEQ_CPU_ID_START(%r8), %rax
	movq	%rax, RSEQ_CPU_ID_START(\area)
	movq	RSEQ_NODE_ID(%r8), %rax
	movq	%rax, RSEQ_NODE_ID(\area)
.endm

/*
 * The worker \ctx, whose stack this is, goes on. Behind the commit, so that it or the kernel
 * sees the other: see ums_mask_signals() in the kernel's handoff.c.
 */
.macro go_on ctx
	cmpl	$0, SLOT_ATTENTION(\ctx)
	jne	9f
8:	load_context CTX_CONTROL(\ctx)
	frame	%rsp
	/* Handlers are not for a region: it heeds them when it has left that. */
9:	cmpl	$0, SLOT_NO_UPCALL(\ctx)
	jne	8b
	attend	\ctx
.endm

.macro attend ctx
	load_registers CTX_CONTROL(\ctx)
	addq	$48, %rsp
	.cfi_def_cfa %rsp, 8
	jmp	ums_attend
.endm

/* It does not leave: the registers have their values still. */
.macro leave_frame
	frame	%rsp
	addq	$48, %rsp
	.cfi_def_cfa %rsp, 8
.endm

/* The area of the calling thread, to %r8: its context may have been reset. */
.macro own_area
	movq	ums_this_worker@gottpoff(%rip), %rax
	movq	%fs:THIS_RSEQ(%rax), %r8
.endm

/*
 * From the worker \from to the scheduler that runs it, for which it has yielded with \detail.
 * Otherwise on to \other. The word of one that is \parked says so already.
 */
.macro switch_to_scheduler name, from, detail, other, reason, parked=0
	begin_section \name, %rsp
	movq	CTX_SCHEDULER(\from), %r9
	.if	\parked
	subq	$CONTEXT_PARKED, %r9
	.endif
	testq	%r9, %r9
	jz	\other
	/* Nor with another bit: in a handler it may not run quite yet. */
	testb	$7, %r9b
	jnz	\other
	/*
	 * At home it may have lost its scheduler for another one, which does not say so
	 * here; away it was resumed by this one.
	 */
	cmpl	$UMS_STATE_EMPTY, SLOT_STATE(\from)
	je	.L\name\()_away
	movl	SLOT_SCHEDULER(\from), %eax
	cmpl	%eax, SCHED_TID(%r9)
	jne	\other
.L\name\()_away:
	movq	%rsp, CTX_STACK_POINTER(\from)
	save_control CTX_CONTROL(\from)
	movq	$\reason, SCHED_REASON(%r9)
	movq	SLOT_ID(\from), %rax
	movq	%rax, SCHED_WORKER(%r9)
	movq	\detail, SCHED_DETAIL(%r9)
	movq	SCHED_RSEQ(%r9), %r10
	update_rseq %r10
	commit_section \name, %r9, SCHED_THREAD_POINTER
	movq	SCHED_STACK_POINTER(%r9), %rsp
	/* Now, and not before, may others resume it. */
	orq	$CONTEXT_SAVED, CTX_SCHEDULER(\from)
	/* What ums_upcall_await() and ums_run() return. */
	xorl	%eax, %eax
	load_context SCHED_CONTROL(%r9)
.endm

/* void ums_ask_scheduler(worker_context *rdi) */
function ums_ask_scheduler
	save_registers
	own_area
	switch_to_scheduler ask, %rdi, $0, decline, YIELDED_ASKING
end_function ums_ask_scheduler

/* void ums_leave(worker_context *rdi, argument rsi) */
function ums_leave
	save_registers
	own_area
	switch_to_scheduler leave, %rdi, %rsi, decline, YIELDED_IN_USER_MODE
end_function ums_leave

/* void ums_block(worker_context *rdi, cause rsi) */
function ums_block
	save_registers
	own_area
	switch_to_scheduler block, %rdi, %rsi, decline, BLOCKED_IN_USER_MODE
end_function ums_block

/* void ums_park(worker_context *rdi) */
function ums_park
	save_registers
	own_area
	switch_to_scheduler park, %rdi, $0, decline, YIELDED_IN_USER_MODE, parked=1
end_function ums_park

/*
 * From the scheduler \from, which has claimed it, to the worker \to. The stack pointer is
 * kept in %r9.
 */
.macro switch_to_worker name, from, to
	movq	SCHED_RSEQ(\from), %r8
	movq	CTX_RSEQ(\to), %r10
	movq	%rsp, %r9
	begin_section \name, %r9
	movq	%r9, SCHED_STACK_POINTER(\from)
	save_control SCHED_CONTROL(\from)
	update_rseq %r10
	movq	CTX_STACK_POINTER(\to), %rsp
	frame	%r9
	commit_section \name, \to, CTX_THREAD_POINTER
	frame	%rsp
.endm

/* void ums_switch_to_worker(upcall_context *rdi, worker_context *rsi, wanted rdx) */
function ums_switch_to_worker
	save_registers
	switch_to_worker to_worker, %rdi, %rsi
	testb	%dl, %dl
	jnz	1f
	go_on	%rsi
	frame	%rsp
1:	attend	%rsi
end_function ums_switch_to_worker

/*
 * int ums_run(upcall_context *rdi, id rsi)
 *
 * The usual case: a worker that has yielded in user mode to this scheduler. Then its home is
 * still EMPTY, or carries what runs here, and nobody else may resume it: a plain store claims
 * it. As find_slot() does.
 */
exported ums_run
	movl	%esi, %eax
	shrl	$UMS_ID_SLOT_BITS, %eax
	shlq	$4, %rax
	leaq	ums_slots_of_lists(%rip), %rcx
	addq	%rax, %rcx
	movl	%esi, %edx
	andl	$(1 << UMS_ID_SLOT_BITS) - 1, %edx
	cmpq	8(%rcx), %rdx
	jae	1f
	shlq	$SLOT_SHIFT, %rdx
	addq	(%rcx), %rdx
	cmpq	%rsi, (%rdx)
	jne	1f
	leaq	CONTEXT_SAVED(%rdi), %rax
	subq	$SLOT_ID, %rdx
	cmpq	%rax, CTX_SCHEDULER(%rdx)
	jne	1f
	movq	%rdi, CTX_SCHEDULER(%rdx)
	save_registers
	switch_to_worker run, %rdi, %rdx
	go_on	%rdx
1:	movl	$1, %eax
	ret
end_function ums_run

/*
 * From the worker \from to \to, if that was saved under the same scheduler: then its home is
 * EMPTY, or carries what runs here; only under the scheduler that ran it last may it be
 * another one's carrier. Otherwise on to \other, where \check may go as well. The word of one
 * that is \parked says so already: it may have been woken before it is marked as saved.
 */
.macro switch_to_saved name, from, to, other, check, parked=0, behind
	movq	CTX_SCHEDULER(\from), %r9
	leaq	CONTEXT_SAVED-\parked(%r9), %r11
	cmpq	%r11, CTX_SCHEDULER(\to)
	jne	\other
	\check
	movq	%rsp, CTX_STACK_POINTER(\from)
	save_control CTX_CONTROL(\from)
	movq	CTX_RSEQ(\to), %r10
	update_rseq %r10
	movq	CTX_STACK_POINTER(\to), %r10
	commit_section \name, \to, CTX_THREAD_POINTER
	movq	%r10, %rsp
	/*
	 * If it comes to the kernel before this, its scheduler does it: scheduler::settle().
	 * No more than this, since it may go on under another one.
	 */
	andq	$~CONTEXT_SAVED, CTX_SCHEDULER(\to)
	/* Now, and not before, may others resume the old one. */
	orq	$CONTEXT_SAVED, CTX_SCHEDULER(\from)
	\behind
	go_on	\to
	.cfi_def_cfa %rsp, 8
.endm

/* void ums_park_to(worker_context *rdi, worker_context *rsi) */
function ums_park_to
	save_registers
	own_area
	begin_section park_to, %rsp
	switch_to_saved park_to, %rdi, %rsi, decline, parked=CONTEXT_PARKED
end_function ums_park_to

/* void ums_switch_to(worker_context *rdi, id rsi) */
exported ums_switch_to
	save_registers
	movq	ums_this_worker@gottpoff(%rip), %rax
	movq	%fs:THIS_CONTEXT(%rax), %rdx
	movq	%fs:THIS_RSEQ(%rax), %r8
	begin_section direct, %rsp
	switch_to_saved direct, %rdx, %rdi, 1f
1:	leave_frame
	jmp	ums_switch_slow
end_function ums_switch_to

/* void ums_switch_away(argument rdi) */
.macro nothing_else_to_do
	movq	SCHED_PUBLISHED(%r9), %rax
	movq	(%rax), %rax
	cmpq	%rax, SCHED_SEEN(%r9)
	jne	2f
	cmpq	$0, SCHED_INBOX(%r9)
	jne	2f
.endm

/* It counts what it does not see. */
.macro count_yield
	incq	SCHED_YIELDS(%r9)
.endm

exported ums_switch_away
	save_registers
	movq	ums_this_worker@gottpoff(%rip), %rax
	movq	%fs:THIS_CONTEXT(%rax), %rdx
	movq	%fs:THIS_ENTRY(%rax), %rsi
	movq	%fs:THIS_RSEQ(%rax), %r8
	/* Through the kernel, as in any region; or not at all, in a handler. */
	cmpl	$0, SLOT_NO_UPCALL(%rdx)
	jne	3f
	cmpq	$0, ENTRY_NEXT(%rsi)
	je	2f
	begin_section to_next, %rsp
	movq	ENTRY_NEXT(%rsi), %rcx
	testq	%rcx, %rcx
	jz	2f
	movq	ENTRY_CONTEXT(%rcx), %rcx
	switch_to_saved to_next, %rdx, %rcx, 2f, nothing_else_to_do, behind=count_yield
	frame	%rsp
	/* It may be the only one of a loop. */
2:	cmpq	%rsi, ENTRY_NEXT(%rsi)
	je	3f
	switch_to_scheduler to_scheduler, %rdx, %rdi, 3f, YIELDED_IN_USER_MODE
3:	leave_frame
	jmp	ums_yield_slow
end_function ums_switch_away

/* In the section of a worker, with its frame: it goes on at once. */
	.type	decline, @function
decline:
	.cfi_startproc
	leave_frame
	ret
	.cfi_endproc
	.size	decline, . - decline

	.section .note.GNU-stack, "", @progbits

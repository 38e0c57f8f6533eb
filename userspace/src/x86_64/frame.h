/* SPDX-License-Identifier: MIT */
/*
 * The frame of a context that is saved, on its stack: for upcall.S and switch.S, which come back
 * to each other's. The control words of SSE and x87 are in its struct.
 */
/* Keeps what a function must. */
.macro save_registers
	pushq	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbp, 0
	pushq	%rbx
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbx, 0
	pushq	%r12
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r12, 0
	pushq	%r13
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r13, 0
	pushq	%r14
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r14, 0
	pushq	%r15
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r15, 0
.endm

.macro save_control at:vararg
	stmxcsr	\at
	fnstcw	4+\at
.endm

/*
 * The other way round, of the context whose stack this is: all but the return address, which
 * is on top then.
 */
.macro load_registers control:vararg
	ldmxcsr	\control
	fldcw	4+\control
	movq	(%rsp), %r15
	.cfi_restore %r15
	movq	8(%rsp), %r14
	.cfi_restore %r14
	movq	16(%rsp), %r13
	.cfi_restore %r13
	movq	24(%rsp), %r12
	.cfi_restore %r12
	movq	32(%rsp), %rbx
	.cfi_restore %rbx
	movq	40(%rsp), %rbp
	.cfi_restore %rbp
.endm

/*
 * Goes on with it. Not by ret: the processor predicts another return than this one. The
 * address below the stack pointer is in the red zone, which signals leave alone.
 */
.macro load_context control:vararg
	load_registers \control
	addq	$56, %rsp
	.cfi_def_cfa %rsp, 0
	jmp	*-8(%rsp)
.endm

/* As it is after save_registers: with the stack pointer in \cfa. */
.macro frame cfa
	.cfi_def_cfa \cfa, 56
	.cfi_offset %rip, -8
	.cfi_offset %rbp, -16
	.cfi_offset %rbx, -24
	.cfi_offset %r12, -32
	.cfi_offset %r13, -40
	.cfi_offset %r14, -48
	.cfi_offset %r15, -56
.endm

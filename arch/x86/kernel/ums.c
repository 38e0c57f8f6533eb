// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: the registers of an upcall.
 */
#include <linux/ums.h>

#include <asm/fpu/signal.h>
#include <asm/processor-flags.h>
#include <asm/ptrace.h>
#include <asm/segment.h>

void arch_ums_upcall(struct pt_regs *regs, unsigned long entry,
		     unsigned long stack, u64 reason, u64 worker, u64 detail,
		     u64 arg)
{
	/* As a signal handler starts: default control words, default PKRU. */
	fpu__clear_user_states(&current->thread.fpu);

	regs->bx = 0;
	regs->bp = 0;
	regs->r9 = 0;
	regs->r10 = 0;
	regs->r12 = 0;
	regs->r13 = 0;
	regs->r14 = 0;
	regs->r15 = 0;

	regs->di = reason;
	regs->si = worker;
	regs->dx = detail;
	regs->r8 = arg;

	/* Aligned as the first instruction of a function finds it. */
	regs->sp = round_down(stack, 16) - 8;
	regs->ip = entry;
	regs->flags &= ~(X86_EFLAGS_DF | X86_EFLAGS_AC | X86_EFLAGS_RF);

	/* What SYSRET wants, so that the exit need not take the slow IRET. */
	regs->cx = regs->ip;
	regs->r11 = regs->flags;
}

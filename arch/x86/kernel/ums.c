// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: the registers of an upcall, and of a system call.
 */
#include <linux/ums.h>

#include <asm/fpu/signal.h>
#include <asm/processor-flags.h>
#include <asm/ptrace.h>
#include <asm/segment.h>
#include <asm/syscall.h>
#include <asm/unistd.h>

long arch_ums_syscall(struct task_struct *tsk)
{
	long nr = syscall_get_nr(tsk, task_pt_regs(tsk));

	/* By int $0x80; a number of that table would be taken for another call. */
	if (IS_ENABLED(CONFIG_IA32_EMULATION) && tsk->thread_info.status & TS_COMPAT)
		return nr == __NR_ia32_exit ? __NR_exit : -1;
	/* That of x32 has numbers of its own for few calls, none of which matters. */
	return nr == -1 ? -1 : nr & ~__X32_SYSCALL_BIT;
}

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

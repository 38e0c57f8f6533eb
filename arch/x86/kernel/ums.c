// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: the registers of an upcall, of a system call, and of a context
 * that goes from one thread to another.
 */
#include <linux/cpufeature.h>
#include <linux/init.h>
#include <linux/slab.h>
#include <linux/ums.h>

#include <asm/fpu/api.h>
#include <asm/fpu/sched.h>
#include <asm/fpu/signal.h>
#include <asm/fpu/xstate.h>
#include <asm/fsgsbase.h>
#include <asm/pkru.h>
#include <asm/prctl.h>
#include <asm/processor-flags.h>
#include <asm/ptrace.h>
#include <asm/segment.h>
#include <asm/shstk.h>
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

	regs->ax = 0;
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
	regs->flags &= ~(X86_EFLAGS_DF | X86_EFLAGS_AC | X86_EFLAGS_RF | X86_EFLAGS_NT |
			 X86_EFLAGS_TF);
	if (test_thread_flag(TIF_FORCED_TF))
		regs->flags |= X86_EFLAGS_TF;
	/* The registers may have been those of another context. */
	regs->cs = __USER_CS;
	regs->ss = __USER_DS;

	/* What SYSRET wants, so that the exit need not take the slow IRET. */
	regs->cx = regs->ip;
	regs->r11 = regs->flags;
}

static struct kmem_cache *ums_fpstates;

static int __init arch_ums_init(void)
{
	if (!arch_ums_can_switch())
		return 0;
	/* Room for what a thread has without asking for more, as in task_struct. */
	ums_fpstates = kmem_cache_create("ums_fpstate", offsetof(struct fpstate, regs) +
					 fpu_kernel_cfg.default_size,
					 __alignof__(struct fpstate),
					 SLAB_ACCOUNT | SLAB_PANIC, NULL);
	return 0;
}
core_initcall(arch_ums_init);

/* Without FSGSBASE a program cannot change its thread pointer. */
bool arch_ums_can_switch(void)
{
	return boot_cpu_has(X86_FEATURE_FSGSBASE) && boot_cpu_has(X86_FEATURE_FPU);
}

/*
 * A shadow stack is the thread's, and so is larger FPU state (AMX), for which there is
 * no room in struct arch_ums_context.
 */
bool arch_ums_may_switch(struct task_struct *tsk)
{
	/* KVM has a thread use another one for a while, too; it may be gone. */
	if (!arch_ums_can_switch() ||
	    READ_ONCE(tsk->thread.fpu.fpstate) != &tsk->thread.fpu.__fpstate)
		return false;
#ifdef CONFIG_X86_USER_SHADOW_STACK
	if (READ_ONCE(tsk->thread.features) & ARCH_SHSTK_SHSTK)
		return false;
#endif
	return true;
}

int arch_ums_context_init(struct arch_ums_context *context)
{
	struct fpstate *fpstate = kmem_cache_zalloc(ums_fpstates, GFP_KERNEL);

	if (!fpstate)
		return -ENOMEM;
	/* Its sizes and features. */
	memcpy(fpstate, current->thread.fpu.fpstate, offsetof(struct fpstate, regs));
	context->fpstate = fpstate;
	return 0;
}

void arch_ums_context_free(struct arch_ums_context *context)
{
	if (context->fpstate)
		kmem_cache_free(ums_fpstates, context->fpstate);
}

/* With interrupts off, which is more than fpregs_lock(). */
void arch_ums_context_save(struct arch_ums_context *context, struct pt_regs *regs)
{
	struct fpu *fpu = &current->thread.fpu;
	struct fpstate *own = fpu->fpstate;

	lockdep_assert_irqs_disabled();
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		switch_fpu_return();
	fpu->fpstate = context->fpstate;
	save_fpregs_to_fpstate(fpu);
	fpu->fpstate = own;
	context->pkru = read_pkru();

	context->regs = *regs;
	context->compat = in_ia32_syscall();
	/* A debugger's single step is of the thread. */
	if (test_thread_flag(TIF_FORCED_TF))
		context->regs.flags &= ~X86_EFLAGS_TF;
}

void arch_ums_context_load(struct arch_ums_context *context, struct pt_regs *regs,
			   unsigned long thread_pointer)
{
	/* Supervisor state is the thread's. */
	if (fpu_kernel_cfg.max_features & XFEATURE_MASK_SUPERVISOR_SUPPORTED)
		fpregs_lock_and_load();
	else
		fpregs_lock();
	restore_fpregs_from_fpstate(context->fpstate, XFEATURE_MASK_USER_RESTORE);
	fpregs_mark_activate();
	write_pkru(context->pkru);
	fpregs_unlock();

	*regs = context->regs;
	if (test_thread_flag(TIF_FORCED_TF))
		regs->flags |= X86_EFLAGS_TF;
	arch_ums_set_thread_pointer(thread_pointer);
}

/* What a signal frame and a core dump say of an exception. */
void arch_ums_exception_save(struct arch_ums_context *context)
{
	context->cr2 = current->thread.cr2;
	context->trap_nr = current->thread.trap_nr;
	context->error_code = current->thread.error_code;
	context->dr6 = current->thread.virtual_dr6;
}

void arch_ums_exception_load(struct arch_ums_context *context)
{
	current->thread.cr2 = context->cr2;
	current->thread.trap_nr = context->trap_nr;
	current->thread.error_code = context->error_code;
	current->thread.virtual_dr6 = context->dr6;
}

bool arch_ums_machine_check(void)
{
#ifdef CONFIG_X86_MCE
	return current->mce_count;
#else
	return false;
#endif
}

bool arch_ums_is_step(const struct kernel_siginfo *info)
{
	return info->si_signo == SIGTRAP && info->si_code == TRAP_TRACE &&
	       test_thread_flag(TIF_FORCED_TF);
}

void arch_ums_set_thread_pointer(unsigned long thread_pointer)
{
	/* Nor does it depend on a selector: save_fsgs() reads it from the register. */
	wrfsbase(thread_pointer);
}

bool arch_ums_may_call(struct arch_ums_context *context)
{
	return !context->compat && !in_ia32_syscall();
}

void arch_ums_call_again(struct pt_regs *regs)
{
	/* As for a restart: each of these instructions has two bytes. */
	regs->ax = regs->orig_ax;
	regs->ip -= 2;
	regs->orig_ax = -1;
}

void arch_ums_call_none(struct pt_regs *regs)
{
	regs->orig_ax = -1;
}

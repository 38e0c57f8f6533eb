/* SPDX-License-Identifier: GPL-2.0 */
/*
 * User-mode scheduling: what the rest of the kernel calls.
 * Documentation/scheduler/ums-design.rst explains how the parts fit together.
 */
#ifndef _LINUX_UMS_H
#define _LINUX_UMS_H

#include <linux/sched.h>
#include <linux/sched/signal.h>

struct pid;
struct pid_namespace;
struct kernel_siginfo;
struct pt_regs;
struct seq_file;

#ifdef CONFIG_UMS

#include <uapi/linux/ums.h>
#include <asm/ums.h>

struct ums_home;

/*
 * task_struct::ums: a worker or a scheduler. Set with release semantics, for
 * others who follow it inside an RCU read section.
 */
struct ums_task {
	enum ums_role	role;
	bool		vacant;		/* its registers are elsewhere; its own thread's */
	unsigned long	thread_pointer;	/* with @home, which has the same */
	struct ums_home	*home;		/* NULL: its context never leaves it */
};

/*
 * schedule() of a task with PF_UMS_WORKER that is about to sleep. True when it
 * has slept already: see sched_hand_over().
 */
bool ums_worker_sleeping(struct task_struct *tsk);

/*
 * try_to_wake_up() of a task whose saved_state matched; see ums_waking() and
 * ums_worker_woken() in kernel/ums/hold.c.
 */
bool __ums_waking(struct task_struct *tsk);
void ums_worker_woken(struct task_struct *tsk);

/* kernel/sched/core.c */
bool sched_hand_over(struct task_struct *next, unsigned int state, raw_spinlock_t *lock)
	__releases(lock);

/* kernel/seccomp.c */
bool seccomp_includes_mine(struct task_struct *tsk);

/* exit_to_user_mode_loop() of a task with TIF_UMS; may sleep */
void ums_exit_to_user_mode(void);

void __ums_exit(struct task_struct *tsk, long code);
void __ums_execve(struct task_struct *tsk);
void __ums_free_signal(struct signal_struct *sig);

/* complete_signal(), see there */
int ums_signal_rank(struct task_struct *tsk);

int proc_pid_ums(struct seq_file *m, struct pid_namespace *ns, struct pid *pid,
		 struct task_struct *task);

/*
 * Makes the upcall part of @regs, the user registers of current, which is in a
 * system call: what a struct ums_scheduler_args promises. Provided by the
 * architecture.
 */
void arch_ums_upcall(struct pt_regs *regs, unsigned long entry,
		     unsigned long stack, u64 reason, u64 worker, u64 detail,
		     u64 arg);

/* Can contexts leave their threads here? And those of this thread, which is current or EMPTY? */
bool arch_ums_can_switch(void);
bool arch_ums_may_switch(struct task_struct *tsk);

/*
 * The user registers of current, and where they are kept on their way to another thread.
 * arch_ums_context_load() sets the thread pointer, too.
 */
int arch_ums_context_init(struct arch_ums_context *context);
void arch_ums_context_free(struct arch_ums_context *context);
void arch_ums_context_save(struct arch_ums_context *context, struct pt_regs *regs);
void arch_ums_context_load(struct arch_ums_context *context, struct pt_regs *regs,
			   unsigned long thread_pointer);
void arch_ums_exception_save(struct arch_ums_context *context);
void arch_ums_exception_load(struct arch_ums_context *context);
void arch_ums_set_thread_pointer(unsigned long thread_pointer);

/*
 * Of current, in an exception: has the memory failed that it used, which is told by task
 * work? Is it a signal for a single step that a debugger has asked of the thread?
 */
bool arch_ums_machine_check(void);
bool arch_ums_is_step(const struct kernel_siginfo *info);

/*
 * Of a system call: can the one of @context be made where current enters the kernel? Go
 * to user mode and make it there; there is none to be restarted.
 */
bool arch_ums_may_call(struct arch_ums_context *context);
void arch_ums_call_again(struct pt_regs *regs);
void arch_ums_call_none(struct pt_regs *regs);

/*
 * The system call that a thread is in, which is current or sleeps; -1 in none. Those
 * by another ABI than the native one have its number if they are the same, else -1.
 */
long arch_ums_syscall(struct task_struct *tsk);

/* kernel/ums/handoff.c; of a task with TIF_UMS_SWITCH and SYSCALL_WORK_UMS */
#define UMS_NO_CALL	LONG_MIN
long ums_syscall_away(void);
bool ums_syscall_gone(void);
bool ums_syscall_other(void);
unsigned long __ums_exit_work(void);
bool __ums_fault_away(void);
bool __ums_force_sig_away(struct kernel_siginfo *info, bool fatal);

/* Are the live registers those of another thread? Or were so, and current is vacant. */
static __always_inline bool ums_away(void)
{
	return arch_ums_thread_pointer() != current->ums->thread_pointer;
}

/* Begins the work on the way to user mode; returns what there is to do. */
static __always_inline unsigned long ums_exit_work(unsigned long ti_work)
{
	if (unlikely(ums_away() || current->ums->vacant))
		return __ums_exit_work();
	return ti_work;
}

/* A page fault in user mode: true when it is another thread's to take. */
static inline bool ums_fault_away(void)
{
	return unlikely(test_thread_flag(TIF_UMS_SWITCH)) && __ums_fault_away();
}

/* A signal for an exception: true when another thread will get it. */
static inline bool ums_force_sig_away(struct task_struct *tsk, struct kernel_siginfo *info,
				      bool fatal)
{
	return unlikely(test_tsk_thread_flag(tsk, TIF_UMS_SWITCH)) && tsk == current &&
	       __ums_force_sig_away(info, fatal);
}

/* Under p->pi_lock, or for current. */
static inline bool ums_waking(struct task_struct *tsk)
{
	return unlikely(tsk->flags & PF_UMS_WORKER) && __ums_waking(tsk);
}

/* It was not to stop while it executed an instruction out of line. */
static inline void ums_uprobe_done(struct task_struct *tsk)
{
	if (unlikely(tsk->flags & PF_UMS_WORKER))
		set_tsk_thread_flag(tsk, TIF_UMS);
}

/* A new task is an ordinary thread, whatever made it. */
static inline void ums_fork(struct task_struct *tsk)
{
	tsk->ums = NULL;
	tsk->flags &= ~PF_UMS_WORKER;
	clear_tsk_thread_flag(tsk, TIF_UMS);
	clear_tsk_thread_flag(tsk, TIF_UMS_SWITCH);
	clear_task_syscall_work(tsk, UMS);
}

static inline void ums_exit(struct task_struct *tsk, long code)
{
	if (unlikely(tsk->ums))
		__ums_exit(tsk, code);
}

static inline void ums_execve(struct task_struct *tsk)
{
	if (unlikely(tsk->ums || tsk->signal->ums))
		__ums_execve(tsk);
}

static inline void ums_free_signal(struct signal_struct *sig)
{
	if (unlikely(sig->ums))
		__ums_free_signal(sig);
}

#else /* CONFIG_UMS */

static inline bool ums_worker_sleeping(struct task_struct *tsk) { return false; }
static inline bool ums_waking(struct task_struct *tsk) { return false; }
static inline void ums_worker_woken(struct task_struct *tsk) { }
static inline void ums_exit_to_user_mode(void) { }
#define UMS_NO_CALL	LONG_MIN
static inline long ums_syscall_away(void) { return UMS_NO_CALL; }
static inline bool ums_syscall_gone(void) { return false; }
static inline bool ums_syscall_other(void) { return false; }
static inline bool ums_away(void) { return false; }
static inline unsigned long ums_exit_work(unsigned long ti_work) { return ti_work; }
static inline bool ums_fault_away(void) { return false; }
static inline bool ums_force_sig_away(struct task_struct *tsk, struct kernel_siginfo *info,
				      bool fatal) { return false; }
static inline void ums_uprobe_done(struct task_struct *tsk) { }
static inline void ums_fork(struct task_struct *tsk) { }
static inline void ums_exit(struct task_struct *tsk, long code) { }
static inline void ums_execve(struct task_struct *tsk) { }
static inline void ums_free_signal(struct signal_struct *sig) { }

#endif /* CONFIG_UMS */

#endif /* _LINUX_UMS_H */

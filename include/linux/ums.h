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
struct pt_regs;
struct seq_file;

#ifdef CONFIG_UMS

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

/*
 * The system call that a thread is in, which is current or sleeps; -1 in none. Those
 * by another ABI than the native one have its number if they are the same, else -1.
 */
long arch_ums_syscall(struct task_struct *tsk);

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
static inline void ums_uprobe_done(struct task_struct *tsk) { }
static inline void ums_fork(struct task_struct *tsk) { }
static inline void ums_exit(struct task_struct *tsk, long code) { }
static inline void ums_execve(struct task_struct *tsk) { }
static inline void ums_free_signal(struct signal_struct *sig) { }

#endif /* CONFIG_UMS */

#endif /* _LINUX_UMS_H */

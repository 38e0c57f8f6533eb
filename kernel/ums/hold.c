// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: workers that need not run to be published.
 *
 * A blocked worker that is woken would go on in the kernel only to find, on its
 * way to user mode, that it has to publish itself and wait to be executed. Where
 * it sleeps with nothing held, that is two switches for nothing: whoever wakes
 * it can publish it, and it goes on in the kernel when it is executed.
 * TASK_HOLDABLE marks the places: there a task holds no lock and nothing else
 * that others wait for, and looks again at what it waits for when it wakes up.
 *
 * As the freezer does, the worker puts its state away in saved_state, in favour
 * of one that no wake-up matches. A wake-up then finds its match in saved_state,
 * and comes here:
 *
 *   worker, ums_worker_hold()		waker, try_to_wake_up()
 *
 *   lock worker
 *     BLOCKED, its scheduler's event
 *     @held
 *     lock pi_lock
 *       keeps its state in saved_state
 *       state = TASK_HELD
 *     unlock
 *     hands over its CPU		lock pi_lock
 *   unlock				  saved_state matches: RUNNING
 *   sleeps				  state = INTERRUPTIBLE	(ums_waking())
 *					unlock
 *					lock worker		(ums_worker_woken())
 *					  still @held?
 *					  no signal: READY, on the ring, @parked
 *					unlock
 *					a signal: wakes it
 *
 * From its first wake-up on the worker sleeps as one that has parked itself:
 * ums_execute() wakes it, and so do signals and further wake-ups. If it wakes up
 * before it is published, it publishes itself as any other worker; if after, it
 * goes on in the kernel and parks before user mode without being published again.
 *
 * A wake-up that only publishes does not count as one (try_to_wake_up() returns
 * 0): the worker stays on the wait queue, and an exclusive wake-up goes on to the
 * next task. So nobody depends on when, or whether, the worker is executed.
 */
#include <linux/ptrace.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <uapi/linux/futex.h>
#include <asm/syscall.h>
#include <asm/unistd.h>

#include "ums.h"

/*
 * In FUTEX_WAIT_REQUEUE_PI it may be handed a lock in its sleep, with the
 * priority of others.
 */
static bool ums_waits_for_pi(long nr)
{
	unsigned long args[6];

	if (nr != __NR_futex)
		return false;
	syscall_get_arguments(current, current_pt_regs(), args);
	/* As wide as the call's parameter, whatever else is in the register. */
	return ((int)args[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_REQUEUE_PI;
}

/**
 * ums_may_hold - may a worker that is about to sleep stay so until executed?
 * @tsk: the worker, which is current
 *
 * Return: whether it may.
 */
bool ums_may_hold(struct task_struct *tsk)
{
	unsigned int state = READ_ONCE(tsk->__state);
	long nr = arch_ums_syscall(tsk);

	if ((state & ~TASK_FREEZABLE) != (TASK_INTERRUPTIBLE | TASK_HOLDABLE))
		return false;

	/* A fault; or another ABI, whose numbers are not worth a table. */
	if (nr == -1)
		return false;

#ifdef CONFIG_LOCKDEP
	/* The same rule as in __set_task_frozen(). */
	if (WARN_ON_ONCE(debug_locks && tsk->lockdep_depth))
		return false;
#endif
	return !ums_waits_for_pi(nr);
}

/**
 * ums_worker_hold - sleep until executed, or woken for a reason of its own
 * @worker: the calling thread, BLOCKED; its lock is held, and released
 * @next: the task of its scheduler, which goes on
 *
 * Return: true, as ums_worker_sleeping().
 */
bool ums_worker_hold(struct ums_worker *worker, struct task_struct *next)
	__releases(&worker->lock)
{
	worker->in_sleep = true;

	ums_delay();
	raw_spin_lock(&current->pi_lock);
	/*
	 * A wake-up may have come already, and a signal: its sender sets the flag,
	 * and then looks at the state, which may have been set without a barrier.
	 * See __schedule(), which does not look for signals in TASK_HELD.
	 */
	smp_mb__after_spinlock();
	if (!task_is_running(current) && !signal_pending(current)) {
		current->saved_state = READ_ONCE(current->__state);
		WRITE_ONCE(current->__state, TASK_HELD);
		worker->held = true;
	}
	raw_spin_unlock(&current->pi_lock);
	ums_delay();

	if (!sched_hand_over(next, TASK_INTERRUPTIBLE | TASK_UNINTERRUPTIBLE, &worker->lock))
		schedule();

	worker->in_sleep = false;
	ums_delay();
	raw_spin_lock_irq(&worker->lock);
	worker->held = false;
	worker->parked = false;
	raw_spin_unlock_irq(&worker->lock);
	return true;
}

/*
 * A wake-up has matched the saved state of a worker. Under its pi_lock; or it
 * wakes itself, from an interrupt say, between ums_worker_hold() and schedule().
 *
 * Return: true when the caller has to call ums_worker_woken() without the lock.
 */
bool __ums_waking(struct task_struct *tsk)
{
	unsigned int held = TASK_HELD;

	/* That of the freezer, or of a lock on PREEMPT_RT, is not ours. */
	if (tsk != current)
		/*
		 * Atomically, since current need not take its pi_lock. Not freezable,
		 * since not every such place is: a frozen reader of a pipe would
		 * take wake-ups that are another's. The freezer sends it a signal.
		 */
		return try_cmpxchg(&tsk->__state, &held, TASK_INTERRUPTIBLE);

	if (READ_ONCE(tsk->__state) == TASK_HELD)
		WRITE_ONCE(tsk->__state, TASK_RUNNING);
	return false;
}

/**
 * ums_worker_woken - publish a worker that was woken, or have it go on
 * @tsk: its task, of which ums_waking() was true
 *
 * In any context, with any locks held under which a task may be woken, and with
 * preemption disabled since before ums_waking(), which keeps @tsk and its worker.
 */
void ums_worker_woken(struct task_struct *tsk)
{
	struct ums_worker *worker = ums_worker_of(tsk);
	struct task_struct *waiter = NULL;
	unsigned long flags;
	bool wake = false;

	/* Woken by something else as well, it has gone on and ended. */
	if (!worker)
		return;

	ums_delay();
	raw_spin_lock_irqsave(&worker->lock, flags);
	/*
	 * Or it has gone on and sleeps once more: then nobody has woken it from
	 * there if its state is what it was then, and somebody else will come
	 * here if it is not.
	 */
	if (worker->held && READ_ONCE(tsk->__state) != TASK_HELD) {
		worker->held = false;
		/*
		 * Who sends a signal sets the flag and then calls ums_waking(). If
		 * it was not the caller, but has made the state what was just read,
		 * it will find @held false: so the flag has to be seen. Pairs with
		 * the cmpxchg there.
		 */
		smp_rmb();
		wake = signal_pending(tsk) || READ_ONCE(worker->list->closed);
		if (!wake) {
			worker->parked = true;
			ums_worker_ready(worker, UMS_POS_PUBLISHING, local_clock());
			waiter = ums_list_publish_atomic(worker);
		}
	}
	raw_spin_unlock_irqrestore(&worker->lock, flags);

	ums_delay();
	if (wake)
		wake_up_state(tsk, TASK_INTERRUPTIBLE);
	if (waiter)
		wake_up_process(waiter);
}

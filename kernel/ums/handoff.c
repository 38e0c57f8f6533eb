// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: contexts that are not on their own thread.
 *
 * A program may switch from one of its threads to another in user mode: it saves
 * the registers of the one, loads those of the other, its thread pointer among them,
 * and goes on. The kernel is not told. It still believes that the thread runs on whose
 * kernel stack an interrupt would arrive: the carrier. That is harmless while the
 * context computes. Whatever may sleep, signal, or act under an identity has to be
 * done by the thread that the context belongs to: its home.
 *
 * The thread pointer tells. It is one of the registers, so it cannot disagree with
 * them, not even in the middle of a switch. Where a thread enters the kernel, or is
 * about to leave it with something to do, it compares the thread pointer that is live
 * with the one that it registered. If they differ, it hands off:
 *
 *   carrier				home (vacant, sleeps)
 *
 *   finds it by the thread pointer
 *   lock both
 *     home's state EMPTY? else: SIGSEGV
 *     deposits its registers there	(struct ums_home)
 *     the scheduler runs the home now
 *     EMPTY itself, vacant
 *   unlock
 *   hands over its CPU, sleeps		wakes up, takes the registers
 *					makes the system call, or goes
 *					back to user mode
 *
 * A thread whose registers are elsewhere, live on a carrier or saved in user memory, is
 * vacant, and its state EMPTY (UMS_STATE_EMPTY); a scheduler is vacant while it executes
 * a worker. It has no user mode to return to, so it waits: in the entry of the system
 * call of which it handed off the registers, where it can make the next one of its own
 * at once; or in exit_to_user_mode_loop(), where it can be stopped, frozen and killed.
 * Meanwhile it takes no signals, and its rseq area is left alone, since it may be in use
 * on a carrier.
 *
 * The carrier does not write to the user registers of the home, which may be looked at
 * by a debugger, or be on its way out of a stop. The home takes them by itself.
 *
 * Only a context whose home is EMPTY can be handed off. A program that wants to switch to
 * one must have seen that, or be on its home. Everything else is an error of the program:
 * a thread pointer of nobody, of a worker that the kernel holds, of another process's
 * thread by chance, or of a thread of more authority.
 */
#include <linux/ptrace.h>
#include <linux/rseq.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/task_work.h>
#include <linux/uprobes.h>
#include <asm/syscall.h>

#include <trace/events/ums.h>

#include "ums.h"

static const struct rhashtable_params ums_home_params = {
	.key_len		= sizeof_field(struct ums_home, thread_pointer),
	.key_offset		= offsetof(struct ums_home, thread_pointer),
	.head_offset		= offsetof(struct ums_home, node),
	.automatic_shrinking	= true,
};

int ums_homes_init(struct ums_process *proc)
{
	return rhashtable_init(&proc->homes, &ums_home_params);
}

/* Not in atomic context. */
void ums_homes_destroy(struct ums_process *proc)
{
	rhashtable_destroy(&proc->homes);
}

/**
 * ums_home_open - let the context of the calling thread leave it
 * @ums: its role, which is about to begin
 * @proc: its process
 *
 * The live thread pointer names the thread from now on.
 *
 * Return: 0; -EOPNOTSUPP where the hardware or what the thread uses does not allow it;
 * -EEXIST when another worker or scheduler has that thread pointer; -ENOMEM.
 */
int ums_home_open(struct ums_task *ums, struct ums_process *proc)
{
	struct ums_home *home;
	int err;

	if (!arch_ums_may_switch(current))
		return -EOPNOTSUPP;
#ifdef CONFIG_RSEQ
	/* Without one, nobody would restart the critical sections of others on it. */
	if (!current->rseq)
		return -EOPNOTSUPP;
#endif

	home = kzalloc(sizeof(*home), GFP_KERNEL_ACCOUNT);
	if (!home)
		return -ENOMEM;
	home->thread_pointer = arch_ums_thread_pointer();
	home->owner = ums;
	home->task = current;
	home->proc = proc;
	err = arch_ums_context_init(&home->context);
	if (err)
		goto free;

	err = rhashtable_lookup_insert_fast(&proc->homes, &home->node, ums_home_params);
	/* Or it is too full for now. */
	if (err && err != -EEXIST)
		err = -ENOMEM;
	if (err)
		goto free;

	ums->thread_pointer = home->thread_pointer;
	ums->home = home;
	return 0;

free:
	arch_ums_context_free(&home->context);
	kfree(home);
	return err;
}

/* The role has begun: current->ums is set. */
void ums_home_begin(struct ums_task *ums)
{
	if (!ums->home)
		return;
	set_thread_flag(TIF_UMS_SWITCH);
	set_syscall_work(UMS);
}

/* The role of the current thread has ended, or not begun: nobody hands off to it now. */
void ums_home_close(struct ums_task *ums)
{
	struct ums_home *home = ums->home;

	if (!home)
		return;
	clear_syscall_work(UMS);
	clear_thread_flag(TIF_UMS_SWITCH);
	rhashtable_remove_fast(&home->proc->homes, &home->node, ums_home_params);
	arch_ums_context_free(&home->context);
	kfree_rcu(home, rcu);
}

/* The registers of the current thread are with another one, or lost to an upcall. */
void ums_vacate(struct ums_home *home)
{
	current->ums->vacant = true;
#ifdef CONFIG_RSEQ
	home->rseq = current->rseq;
	current->rseq = NULL;
#endif
}

/* It has some again. */
void ums_occupy(struct ums_home *home)
{
	current->ums->vacant = false;
#ifdef CONFIG_RSEQ
	current->rseq = home->rseq;
	if (current->rseq) {
		/* They come from another thread, and maybe from another CPU. */
		preempt_disable();
		rseq_preempt(current);
		preempt_enable();
	}
#endif
	if (home->masked) {
		home->masked = false;
		set_current_blocked(&home->blocked);
	}
}

/**
 * ums_take - go on with the registers that have been deposited
 * @home: of the current thread; ums_arrived() was true
 * @in_place: it is in the entry of a system call, and can make another one instead
 *
 * Return: whether the registers are those of a system call that it is to make now.
 */
bool ums_take(struct ums_home *home, bool in_place)
{
	struct pt_regs *regs = current_pt_regs();
	bool call = home->at_call;

	arch_ums_context_load(&home->context, regs, home->thread_pointer);
	/* Only its own thread makes it vacant, so nobody fills it again before. */
	WRITE_ONCE(home->full, false);
	ums_occupy(home);

	if (home->signal.set) {
		home->signal.set = false;
		arch_ums_exception_load(&home->context);
		if (home->signal.fatal)
			force_fatal_sig(home->signal.info.si_signo);
		else
			force_sig_info(&home->signal.info);
	}
	if (call && !(in_place && arch_ums_may_call(&home->context))) {
		arch_ums_call_again(regs);
		call = false;
	}
	if (!call) {
		home->taken = true;
		/* There it is reset. */
		set_thread_flag(TIF_UMS);
	}
	return call;
}

/* Those of the current thread. Under the lock that keeps @home vacant. */
static void ums_deposit(struct ums_home *home, bool at_call)
{
	struct ums_home *mine = current->ums->home;

	arch_ums_context_save(&home->context, current_pt_regs());
	home->at_call = at_call;
	if (mine->raised.set) {
		arch_ums_exception_save(&home->context);
		home->signal = mine->raised;
		mine->raised.set = false;
	}
	ums_count(&home->handoffs, 1);
	/* Pairs with the acquire in ums_arrived(). */
	smp_store_release(&home->full, true);
	/* There is no system call to be restarted here. */
	arch_ums_call_none(current_pt_regs());
	ums_vacate(mine);
}

/* Two workers of one process, in the order of their addresses. */
static void ums_lock_two(struct ums_worker *a, struct ums_worker *b)
	__acquires(&a->lock) __acquires(&b->lock)
{
	if (a > b)
		swap(a, b);
	raw_spin_lock(&a->lock);
	raw_spin_lock_nested(&b->lock, SINGLE_DEPTH_NESTING);
}

/*
 * Sleeps while the registers of the current thread are elsewhere, and no signal wants
 * it. @next is to go on first. Called with the lock, which is released. True: they
 * have come.
 */
static bool ums_worker_wait(struct ums_worker *worker, struct task_struct *next)
	__releases(&worker->lock)
{
	bool arrived;

	ums_delay();
	do {
		ums_worker_sleep(worker, next);
		next = NULL;
	} while (worker->state == UMS_STATE_EMPTY && !signal_pending(current));
	arrived = worker->state != UMS_STATE_EMPTY;
	raw_spin_unlock_irq(&worker->lock);
	return arrived;
}

/*
 * The three ways of a hand-off, by a worker and by a scheduler. Inside an RCU read section,
 * which ends here: what keeps the other one is its lock, while it is EMPTY, or that of
 * the worker that it runs.
 */
enum ums_handed_off {
	UMS_REFUSED,		/* it may not go there */
	UMS_VACANT,		/* its own registers have not come */
	UMS_ARRIVED,		/* they have */
};

static enum ums_handed_off
ums_worker_to_worker(struct ums_worker *from, struct ums_worker *to,
		     struct ums_home *home, bool at_call)
	__releases(RCU)
{
	unsigned int preempt;
	struct ums_scheduler *sched;
	struct task_struct *next;
	u64 now = local_clock();

	local_irq_disable();
	ums_lock_two(from, to);
	rcu_read_unlock();
	if (to->state != UMS_STATE_EMPTY || from->state == UMS_STATE_READY) {
		raw_spin_unlock(&to->lock);
		raw_spin_unlock_irq(&from->lock);
		return UMS_REFUSED;
	}

	ums_deposit(home, at_call);
	trace_ums_handoff(to->id, task_pid_nr(home->task), at_call);
	/*
	 * What was asked of who runs here is asked of @to from now on; what was asked of
	 * the worker itself waits for its context. The scheduler, if it has not died, goes
	 * from one to the other without being seen with none.
	 */
	preempt = from->preempt & ~BIT(UMS_PREEMPT_ASKED);
	sched = ums_worker_leave(from, BIT(UMS_PREEMPT_ASKED));
	ums_worker_set_state(from, UMS_STATE_EMPTY, now);
	next = ums_worker_arrive(to, sched, preempt, now);
	raw_spin_unlock(&to->lock);

	return ums_worker_wait(from, next) ? UMS_ARRIVED : UMS_VACANT;
}

static enum ums_handed_off
ums_worker_to_scheduler(struct ums_worker *from, struct ums_home *home, bool at_call)
	__releases(RCU)
{
	struct ums_scheduler *sched;
	u64 now = local_clock();

	raw_spin_lock_irq(&from->lock);
	rcu_read_unlock();
	sched = from->sched;
	if (!sched || home->owner != &sched->base) {
		raw_spin_unlock_irq(&from->lock);
		return UMS_REFUSED;
	}

	ums_deposit(home, at_call);
	trace_ums_handoff(0, task_pid_nr(home->task), at_call);
	ums_worker_leave(from, BIT(UMS_PREEMPT_ASKED));
	WRITE_ONCE(sched->worker, NULL);
	ums_worker_set_state(from, UMS_STATE_EMPTY, now);
	ums_set_event(sched, UMS_RESUMED, 0, 0, now);

	return ums_worker_wait(from, sched->task) ? UMS_ARRIVED : UMS_VACANT;
}

static enum ums_handed_off
ums_scheduler_to_worker(struct ums_scheduler *sched, struct ums_worker *to,
			struct ums_home *home, bool at_call)
	__releases(RCU)
{
	raw_spin_lock_irq(&to->lock);
	rcu_read_unlock();
	if (to->state != UMS_STATE_EMPTY) {
		raw_spin_unlock_irq(&to->lock);
		return UMS_REFUSED;
	}

	ums_deposit(home, at_call);
	trace_ums_handoff(to->id, task_pid_nr(home->task), at_call);
	ums_scheduler_yield_to(sched, to, local_clock());
	return UMS_VACANT;
}

/* By @home's thread pointer; NULL: it is a scheduler's. */
static struct ums_worker *ums_home_worker(struct ums_home *home)
{
	if (home->owner->role != UMS_ROLE_WORKER)
		return NULL;
	return container_of(home->owner, struct ums_worker, base);
}

/* The program has got its thread pointers wrong. */
static void ums_condemn(struct ums_home *mine)
{
	/* Whom it has not found may have ended, together with all others. */
	if (fatal_signal_pending(current))
		return;
	mine->condemned = true;
	mine->raised.set = false;
	/* There it is reset, should a tracer let it go on. */
	set_thread_flag(TIF_UMS);
	if (show_unhandled_signals)
		pr_info_ratelimited("%s[%d]: thread pointer %lx, whose context cannot run here\n",
				    current->comm, task_pid_nr(current),
				    arch_ums_thread_pointer());
	force_fatal_sig(SIGSEGV);
}

/*
 * The current thread has the context of another one. Returns when it has its own again,
 * or with a signal to be taken: it is vacant then, or its process ends. @in_place and
 * the value returned are those of ums_take().
 */
static bool ums_hand_off(bool in_place)
{
	struct ums_home *mine = current->ums->home, *home;
	unsigned long live = arch_ums_thread_pointer();
	struct ums_worker *worker = ums_worker_of(current), *to;
	struct ums_scheduler *sched = ums_scheduler_of(current);
	enum ums_handed_off how;

	rcu_read_lock();
	home = rhashtable_lookup(&mine->proc->homes, &live, ums_home_params);
	if (!home || !ums_may_act_on(home->task) || !arch_ums_may_switch(current) ||
	    !arch_ums_may_switch(home->task) || ums_in_uprobe()) {
		rcu_read_unlock();
		ums_condemn(mine);
		return false;
	}

	ums_delay();
	to = ums_home_worker(home);
	/* At a call: then its home may make that in place as well. */
	if (worker && to) {
		how = ums_worker_to_worker(worker, to, home, in_place);
	} else if (worker) {
		how = ums_worker_to_scheduler(worker, home, in_place);
	} else if (to) {
		how = ums_scheduler_to_worker(sched, to, home, in_place);
	} else {
		rcu_read_unlock();
		how = UMS_REFUSED;
	}
	if (how == UMS_REFUSED) {
		ums_condemn(mine);
		return false;
	}

	if (sched)
		return ums_scheduler_wait(sched, in_place);
	return how == UMS_ARRIVED && ums_take(mine, in_place);
}

/**
 * ums_syscall_away - a thread is about to make the system call of another one
 *
 * At the very beginning, before anybody has seen the call.
 *
 * Return: the number of the call that the current thread makes instead, when its own
 * registers have come home, at a call; UMS_NO_CALL for none.
 */
long ums_syscall_away(void)
{
	struct ums_home *mine = current->ums->home;

	if (!fatal_signal_pending(current) && ums_hand_off(true)) {
		ums_count(&mine->in_place, 1);
		return syscall_get_nr(current, current_pt_regs());
	}

	arch_ums_call_none(current_pt_regs());
	mine->gone = true;
	/* There @gone is reset. */
	set_thread_flag(TIF_UMS);
	return UMS_NO_CALL;
}

/* Has the system call that the current thread entered been left to another one? */
bool ums_syscall_gone(void)
{
	return current->ums->home->gone;
}

/* Are the registers at its end not those that it was entered with? */
bool ums_syscall_other(void)
{
	return current->ums->home->taken;
}

/*
 * A vacant thread has to take a signal, or to stop. Its handlers have to wait, and
 * whoever has its registers is to bring them home.
 */
static void ums_mask_signals(struct ums_home *mine)
{
	struct ums_worker *worker = ums_worker_of(current);
	sigset_t all;

	if (mine->masked || fatal_signal_pending(current))
		return;
	mine->masked = true;
	mine->blocked = current->blocked;
	siginitsetinv(&all, sigmask(SIGKILL) | sigmask(SIGSTOP));
	set_current_blocked(&all);

	if (!worker)
		return;
	raw_spin_lock_irq(&worker->lock);
	if (worker->state == UMS_STATE_EMPTY)
		ums_worker_attention(worker, worker->attention | UMS_ATTN_SIGNAL);
	raw_spin_unlock_irq(&worker->lock);
	/*
	 * A switch to this worker loads its thread pointer and then looks at the
	 * slot. So it sees the flag, or the carrier sees the thread pointer.
	 */
	ums_kick_carriers(mine->proc);
}

/* The current thread has hit a probe, which is its home's affair: to be hit there. */
static void ums_hit_probe_again(void)
{
#ifdef CONFIG_UPROBES
	struct pt_regs *regs = current_pt_regs();

	if (test_and_clear_thread_flag(TIF_UPROBE))
		instruction_pointer_set(regs, uprobe_get_swbp_addr(regs));
#endif
}

/**
 * __ums_exit_work - a thread goes to user mode with something to do
 *
 * It has the registers of another thread, or none.
 *
 * Return: what is to do now.
 */
unsigned long __ums_exit_work(void)
{
	struct ums_task *ums = current->ums;
	struct ums_home *mine = ums->home;
	unsigned long ti_work;

	if (!ums->vacant && !mine->condemned && !fatal_signal_pending(current) &&
	    !ums_in_uprobe()) {
		ums_hit_probe_again();
		/*
		 * The page that it has used is bad, and it is not to go on before it knows.
		 * All other work needs no registers and may sleep: behind the hand-off.
		 */
		if (unlikely(arch_ums_machine_check()) && task_work_pending(current)) {
			clear_notify_signal();
			task_work_run();
		}
		ums_hand_off(false);
	}
	if (!ums->vacant) {
		ti_work = read_thread_flags();
		/* Behind that instruction it has a context that takes no signals here. */
		if (ums_in_uprobe())
			ti_work &= ~(_TIF_SIGPENDING | _TIF_NOTIFY_SIGNAL);
		return ti_work;
	}

	set_thread_flag(TIF_UMS);
	if (test_thread_flag(TIF_NOTIFY_SIGNAL)) {
		/* Work for the thread, which needs no registers. */
		clear_notify_signal();
		if (task_work_pending(current))
			task_work_run();
	}
	/* A signal that is not in there is taken the next time. */
	ti_work = read_thread_flags() & ~_TIF_NOTIFY_SIGNAL;
	if (ti_work & _TIF_SIGPENDING)
		ums_mask_signals(mine);
	return ti_work;
}

/*
 * A page fault in user mode. The context of another thread takes it at home, to which
 * it goes on its way back to user mode.
 */
bool __ums_fault_away(void)
{
	struct ums_task *ums = current->ums;

	if (!ums_away() || ums->home->condemned)
		return false;
	set_thread_flag(TIF_UMS);
	return true;
}

/* A signal for an exception: the same; but the exception may not happen again. */
bool __ums_force_sig_away(struct kernel_siginfo *info, bool fatal)
{
	struct ums_task *ums = current->ums;

	if (!ums_away() || ums->vacant || ums->home->condemned)
		return false;
	/* The debugger steps the thread: it has left the other's context to itself. */
	if (arch_ums_is_step(info))
		return false;
	copy_siginfo(&ums->home->raised.info, info);
	ums->home->raised.fatal = fatal;
	ums->home->raised.set = true;
	set_thread_flag(TIF_UMS);
	return true;
}

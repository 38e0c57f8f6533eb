// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: the life of a worker, on its own thread. It blocks
 * (the hook in schedule()), is published and waits to be executed (on the way
 * to user mode), yields, is preempted, ends.
 */
#include <linux/freezer.h>
#include <linux/ptrace.h>
#include <linux/rseq.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/syscalls.h>
#include <linux/task_work.h>
#include <linux/thread_info.h>
#include <linux/uaccess.h>
#include <linux/uprobes.h>
#include <asm/syscall.h>
#include <asm/unistd.h>

#include <trace/events/ums.h>

#include "ums.h"

/* Under the worker's lock. @now is of local_clock(), maybe of another CPU. */
void ums_worker_set_state(struct ums_worker *worker, enum ums_state state, u64 now)
{
	/* A new worker has been in no state before. */
	if (worker->since && (s64)(now - worker->since) > 0)
		worker->time[worker->state] += now - worker->since;
	worker->since = now;
	WRITE_ONCE(worker->state, state);
	/* Who reads it in user mode sees what was written to the slot before. */
	smp_store_release(&worker->slot->state, state);
}

/* What its context, in user mode, is to know. Under the worker's lock. */
void ums_worker_attention(struct ums_worker *worker, u32 attention)
{
	worker->attention = attention;
	WRITE_ONCE(worker->slot->attention, attention);
}

/*
 * No scheduler runs the worker any more. Those wishes that it stop which @keep has
 * remain. Under its lock; the scheduler is the caller's to look after.
 */
struct ums_scheduler *ums_worker_leave(struct ums_worker *worker, unsigned int keep)
{
	struct ums_scheduler *sched = worker->sched;

	WRITE_ONCE(worker->sched, NULL);
	WRITE_ONCE(worker->preempt, worker->preempt & keep);
	WRITE_ONCE(worker->slot->scheduler, 0);
	ums_worker_attention(worker, worker->preempt ? UMS_ATTN_PREEMPT : 0);
	return sched;
}

/*
 * Cuts the worker from the scheduler that runs it, who must get an event for
 * it; see ums.h. Under the worker's lock.
 */
struct ums_scheduler *ums_worker_cut(struct ums_worker *worker)
{
	struct ums_scheduler *sched = ums_worker_leave(worker, 0);

	if (sched)
		WRITE_ONCE(sched->worker, NULL);
	return sched;
}

static u64 ums_current_cause(void)
{
	long nr = syscall_get_nr(current, current_pt_regs());

	return nr == -1 ? UMS_CAUSE_FAULT : nr;
}

/**
 * ums_worker_block - a worker that a scheduler runs is about to sleep
 * @worker: it, maybe another thread; its lock is held
 * @cause: why
 * @now: local_clock()
 *
 * Return: the scheduler, which has yet to be woken for its event; NULL when
 * none runs it.
 */
struct ums_scheduler *ums_worker_block(struct ums_worker *worker, u64 cause, u64 now)
{
	struct ums_scheduler *sched = ums_worker_cut(worker);

	if (!sched)
		return NULL;

	worker->cause = cause;
	if (cause == UMS_CAUSE_FAULT)
		worker->blocks_fault++;
	else
		worker->blocks_syscall++;
	WRITE_ONCE(worker->slot->cause, cause);
	WRITE_ONCE(worker->slot->blocks, worker->blocks_syscall + worker->blocks_fault);
	ums_worker_set_state(worker, UMS_STATE_BLOCKED, now);
	/* It must not reach user mode before it is executed. */
	set_tsk_thread_flag(worker->task, TIF_UMS);
	trace_ums_block(worker->id, cause, task_pid_nr(sched->task));

	ums_set_event(sched, UMS_UPCALL_BLOCKED, worker->id, cause, now);
	return sched;
}

/**
 * ums_worker_is_silent - does a worker sleep without an upcall?
 * @worker: it, perhaps another thread, which sleeps and cannot end
 *
 * In a region where that makes none; and on its way into exit(), where a
 * debugger may stop it: from there it goes on without coming to user mode, where
 * it could be executed again, and its scheduler is told that it has ended.
 *
 * Return: whether it does.
 */
bool ums_worker_is_silent(struct ums_worker *worker)
{
	return READ_ONCE(worker->slot->no_upcall) ||
	       arch_ums_syscall(worker->task) == __NR_exit;
}

/*
 * A worker is about to sleep where that makes no upcall. Its scheduler may wait
 * for it to stop, in order to take a signal: let it do that now.
 */
static void ums_worker_sleeps_silently(struct ums_worker *worker)
{
	struct ums_scheduler *sched;

	/*
	 * Orders the state of the task against @preempt; pairs with the barrier in
	 * ums_stop_worker(). At least one of the two sees the other.
	 */
	smp_mb();
	if (!READ_ONCE(worker->preempt))
		return;

	rcu_read_lock();
	raw_spin_lock_irq(&worker->lock);
	sched = worker->sched;
	raw_spin_unlock_irq(&worker->lock);
	if (sched)
		wake_up_state(sched->task, TASK_NORMAL);
	rcu_read_unlock();
}

/**
 * ums_worker_sleeping - a worker is about to sleep
 * @tsk: the worker, which is current
 *
 * Called by schedule() when the state of the task is other than running; so
 * a wait that found its condition true in time never comes here, and neither
 * does preemption. The scheduler goes on in place of the worker.
 *
 * Return: true when the worker has slept and been woken, false when it has
 * yet to go to sleep.
 */
bool ums_worker_sleeping(struct task_struct *tsk)
{
	struct ums_worker *worker = ums_worker_of(tsk);
	struct ums_scheduler *sched;
	enum ums_state state;
	u64 cause, now;
	bool hold;

	/* From ums_worker_sleep() or ums_worker_hold(). */
	if (worker->in_sleep)
		return false;

	/*
	 * An exception may look at user memory before it is left to the thread whose
	 * context it is; of that, this one cannot say that it blocks.
	 */
	if (unlikely(test_thread_flag(TIF_UMS_SWITCH)) && !worker->base.vacant && ums_away())
		return false;

	state = READ_ONCE(worker->state);
	/* It gets a scheduler, and is RUNNING then: pairs with ums_worker_arrive(). */
	smp_rmb();
	if (!READ_ONCE(worker->sched)) {
		if (state != UMS_STATE_READY && state != UMS_STATE_EMPTY)
			return false;
		/*
		 * It was published while it has still to do in the kernel, and
		 * may be executed just now; or its context comes home. Orders the
		 * state of the task, which was set before, against @sched; pairs
		 * with the barrier in ums_sleeps_elsewhere(). At least one of the
		 * two sees the other.
		 */
		smp_mb();
		if (!READ_ONCE(worker->sched))
			return false;
	}

	/* It may sleep, and will say so when it does: rt_mutex_schedule(). */
	if (task_is_running(tsk))
		return false;

	/* __schedule() will not let it sleep. */
	if (signal_pending_state(READ_ONCE(tsk->__state), tsk))
		return false;

	if (ums_worker_is_silent(worker)) {
		ums_worker_sleeps_silently(worker);
		return false;
	}

	cause = ums_current_cause();
	hold = ums_may_hold(tsk);
	now = local_clock();
	ums_delay();

	raw_spin_lock_irq(&worker->lock);
	sched = ums_worker_block(worker, cause, now);
	if (!sched) {
		raw_spin_unlock_irq(&worker->lock);
		return false;
	}

	if (hold)
		return ums_worker_hold(worker, sched->task);
	return sched_hand_over(sched->task, TASK_INTERRUPTIBLE | TASK_UNINTERRUPTIBLE,
			       &worker->lock);
}

/* Becomes READY without being executable yet. Under the worker's lock. */
void ums_worker_ready(struct ums_worker *worker, u64 position, u64 now)
{
	WRITE_ONCE(worker->position, position);
	if (position == UMS_POS_PUBLISHING)
		worker->publishes++;
	ums_worker_set_state(worker, UMS_STATE_READY, now);
}

/* Makes the current thread an ordinary one again. */
static void ums_worker_release(struct ums_worker *worker)
{
	current->flags &= ~PF_UMS_WORKER;
	/* First: its home is read by way of it. */
	WRITE_ONCE(current->ums, NULL);
	ums_home_close(&worker->base);
	clear_thread_flag(TIF_UMS);
	kfree_rcu(worker, rcu);
}

/**
 * ums_worker_exit - the current thread is no worker any more
 * @worker: it
 * @exited: the thread ends; else it becomes an ordinary one
 * @status: with @exited, as of waitpid(2)
 */
void ums_worker_exit(struct ums_worker *worker, bool exited, int status)
{
	struct ums_list *list = worker->list;
	struct ums_scheduler *sched;
	u64 now = local_clock();
	u64 id = worker->id;

	trace_ums_exit(id, exited, status);

	/* @sched stays, should it be killed meanwhile. */
	rcu_read_lock();
	raw_spin_lock_irq(&worker->lock);
	sched = ums_worker_cut(worker);
	worker->exit_status = status;
	WRITE_ONCE(worker->slot->exit_status, status);
	/* Nobody is to switch to a context that was saved there, or by its word to another. */
	memset(worker->slot->context, 0, sizeof(worker->slot->context));
	ums_worker_set_state(worker, exited ? UMS_STATE_EXITED : UMS_STATE_NONE, now);
	raw_spin_unlock_irq(&worker->lock);

	ums_delay();
	/* Who is told that it has ended may count on its slot. */
	ums_list_remove(list, id, exited, status);
	if (sched)
		ums_post(sched, exited ? UMS_UPCALL_EXITED : UMS_UPCALL_DETACHED,
			 id, status, now);
	rcu_read_unlock();

	ums_worker_release(worker);
	ums_list_put(list);
}

/*
 * Publishes the current thread, and tells the scheduler that ran it, if any.
 * Called with the lock held, which is dropped meanwhile, since a wake-up of
 * pollers takes locks that can sleep on PREEMPT_RT; until the ring's tail has
 * moved, UMS_POS_PUBLISHING keeps ums_execute() away.
 *
 * Return: a waiter to be woken before the lock is dropped again, or NULL.
 */
static struct task_struct *ums_worker_publish(struct ums_worker *worker,
					      struct ums_scheduler *sched,
					      enum ums_reason reason, u64 detail, u64 now)
	__releases(&worker->lock) __acquires(&worker->lock)
{
	struct task_struct *waiter;

	/*
	 * Another scheduler may run it before it sleeps, so without a context switch;
	 * a critical section that depends on who runs it is to be restarted.
	 */
	rseq_preempt(current);

	/* Neither @sched nor @waiter can be freed here, should it be killed. */
	rcu_read_lock();
	raw_spin_unlock_irq(&worker->lock);

	ums_delay();
	waiter = ums_list_publish(worker);
	if (sched)
		ums_post(sched, reason, worker->id, detail, now);

	raw_spin_lock_irq(&worker->lock);
	/* Interrupts are off: that is a read section as well. */
	rcu_read_unlock();
	return waiter;
}

/* Called with the worker's lock held, which is dropped meanwhile. */
static struct task_struct *ums_worker_preempt(struct ums_worker *worker)
{
	enum ums_preempt_why why = __fls(worker->preempt);
	struct ums_scheduler *sched = ums_worker_cut(worker);
	u64 now = local_clock();

	worker->preemptions++;
	ums_worker_ready(worker, UMS_POS_PUBLISHING, now);
	trace_ums_preempt(worker->id, why);
	return ums_worker_publish(worker, sched, UMS_UPCALL_PREEMPTED, why, now);
}

/* Sleeps once. The lock is dropped meanwhile. */
void ums_worker_sleep(struct ums_worker *worker, struct task_struct *next)
	__releases(&worker->lock) __acquires(&worker->lock)
{
	worker->in_sleep = true;
	worker->parked = true;
	set_current_state(TASK_INTERRUPTIBLE | TASK_FREEZABLE);
	if (!next) {
		raw_spin_unlock_irq(&worker->lock);
		schedule();
	} else if (!sched_hand_over(next, TASK_INTERRUPTIBLE | TASK_UNINTERRUPTIBLE,
				    &worker->lock)) {
		schedule();
	}

	worker->in_sleep = false;
	ums_delay();
	raw_spin_lock_irq(&worker->lock);
	worker->parked = false;
}

/*
 * Sleeps until a scheduler runs the current thread, publishing it when nobody
 * knows that it can be executed. @next, not NULL: the task, a scheduler, that
 * has yet to be woken. Returns early for a signal, with TIF_UMS set, to be
 * called again when that has been taken. Called with the lock held, which is
 * dropped.
 */
static void ums_worker_park(struct ums_worker *worker, struct task_struct *next)
	__releases(&worker->lock)
{
	struct ums_home *home = worker->base.home;
	bool closed = false;

	for (;;) {
		if (home && ums_arrived(home)) {
			/* As at the end. */
			raw_spin_unlock(&worker->lock);
			if (next)
				wake_up_state_on_current_cpu(next, TASK_NORMAL);
			next = NULL;
			local_irq_enable();
			ums_take(home, false);
			raw_spin_lock_irq(&worker->lock);
			continue;
		}
		if (worker->sched)
			break;

		/* It cannot even be an ordinary thread before its registers are here. */
		if (worker->state == UMS_STATE_EMPTY) {
			if (!next && signal_pending(current)) {
				set_thread_flag(TIF_UMS);
				break;
			}
			ums_worker_sleep(worker, next);
			next = NULL;
			continue;
		}

		closed = READ_ONCE(worker->list->closed);
		if (closed)
			break;

		/* A block is over, or its scheduler has died. */
		if (worker->state != UMS_STATE_READY) {
			/*
			 * Executed meanwhile, and said to sleep: once more. Not
			 * under the lock, see ums.h; nor is @next freed.
			 */
			if (next) {
				raw_spin_unlock(&worker->lock);
				wake_up_state_on_current_cpu(next, TASK_NORMAL);
				next = NULL;
				raw_spin_lock(&worker->lock);
				continue;
			}
			ums_worker_ready(worker, UMS_POS_PUBLISHING, local_clock());
			next = ums_worker_publish(worker, NULL, 0, 0, 0);
			continue;
		}

		/* Signals are taken while it waits, their handlers run later. */
		if (!next && signal_pending(current)) {
			set_thread_flag(TIF_UMS);
			break;
		}

		ums_worker_sleep(worker, next);
		next = NULL;
	}
	/* With interrupts off it is not freed; not under the lock, see ums.h. */
	raw_spin_unlock(&worker->lock);
	if (next)
		wake_up_state_on_current_cpu(next, TASK_NORMAL);
	local_irq_enable();

	if (closed)
		ums_worker_exit(worker, false, 0);
}

/**
 * ums_exit_to_user_mode - a worker stops here unless a scheduler runs it
 *
 * Called on the way to user mode when TIF_UMS is set, with interrupts enabled
 * and nothing held. Nowhere else can a worker be stopped.
 */
void ums_exit_to_user_mode(void)
{
	struct ums_scheduler *sched = ums_scheduler_of(current);
	struct ums_worker *worker = ums_worker_of(current);
	struct task_struct *next = NULL;

	/*
	 * Files and mounts that it was the last to use, for example: nobody is to wait
	 * for those until a scheduler executes it.
	 */
	if (task_work_pending(current))
		task_work_run();

	clear_thread_flag(TIF_UMS);
	/* Pairs with ums_worker_ask(): @preempt is written before the flag. */
	smp_mb__after_atomic();
	if (current->ums && current->ums->home) {
		current->ums->home->gone = false;
		current->ums->home->condemned = false;
		current->ums->home->taken = false;
	}
	if (sched && sched->base.vacant)
		ums_scheduler_wait(sched, false);
	if (!worker)
		return;

	/*
	 * In the middle of an instruction with a probe it holds a slot that others
	 * wait for, and takes no signals. It comes here again when that is over.
	 */
	if (ums_in_uprobe())
		return;

	ums_delay();
	raw_spin_lock_irq(&worker->lock);
	if (worker->sched && worker->preempt) {
		if (READ_ONCE(worker->slot->no_upcall)) {
			/* Not now. The worker asks again when it leaves the region. */
			ums_worker_attention(worker, UMS_ATTN_PREEMPT);
		} else {
			next = ums_worker_preempt(worker);
		}
	}
	ums_worker_park(worker, next);
}

/* @preempt has been written: have it look. */
static void ums_worker_stop(struct ums_worker *worker)
{
	/*
	 * The atomic operation orders @preempt before the flag, and pairs with
	 * the barrier in ums_exit_to_user_mode().
	 */
	if (!test_and_set_tsk_thread_flag(worker->task, TIF_UMS))
		kick_process(worker->task);
}

/**
 * ums_worker_ask - ask a worker to stop on its way to user mode
 * @worker: the worker, run by a scheduler; its lock is held
 * @why: the reason that the scheduler will be told
 */
void ums_worker_ask(struct ums_worker *worker, enum ums_preempt_why why)
{
	lockdep_assert_held(&worker->lock);

	WRITE_ONCE(worker->preempt, worker->preempt | BIT(why));
	ums_worker_stop(worker);
}

/*
 * The scheduler of a worker dies: the worker is to publish itself on its way
 * to user mode. Under its lock. True, for ums_scheduler_end().
 */
bool ums_worker_orphan(struct ums_worker *worker)
{
	ums_worker_cut(worker);
	ums_worker_set_state(worker, UMS_STATE_BLOCKED, local_clock());
	set_tsk_thread_flag(worker->task, TIF_UMS);
	kick_process(worker->task);
	return true;
}

/**
 * ums_worker_arrive - the context of a worker comes home, which a scheduler runs from now on
 * @worker: it; its lock is held, and its registers have been deposited
 * @sched: the scheduler, in whose place the caller acts; NULL: it has died
 * @preempt: what the scheduler wants of who runs: BIT(enum ums_preempt_why)
 * @now: local_clock()
 *
 * Return: the thread that the caller has to wake: the worker's, most often.
 */
struct task_struct *ums_worker_arrive(struct ums_worker *worker, struct ums_scheduler *sched,
				      unsigned int preempt, u64 now)
{
	if (!sched) {
		/* It publishes itself: see ums_worker_orphan(). */
		ums_worker_leave(worker, 0);
		ums_worker_set_state(worker, UMS_STATE_BLOCKED, now);
		set_tsk_thread_flag(worker->task, TIF_UMS);
		return worker->task;
	}

	WRITE_ONCE(worker->sched, sched);
	/* In one store from the worker before: see ums_running_worker(). */
	WRITE_ONCE(sched->worker, worker);
	/* Pairs with the barrier in ums_worker_sleeping(), between state and scheduler. */
	smp_wmb();
	ums_worker_set_state(worker, UMS_STATE_RUNNING, now);
	WRITE_ONCE(worker->slot->scheduler, task_pid_vnr(sched->task));
	ums_worker_attention(worker, 0);

	/* Somebody may have asked while nobody knew where it runs. */
	WRITE_ONCE(worker->preempt, worker->preempt | preempt);
	if (worker->preempt)
		ums_worker_stop(worker);

	/*
	 * Stopped by a debugger, say: see ums_start_worker(). Silent or not, its
	 * scheduler looks: it may wait for it to stop, in order to take a signal.
	 */
	if ((!worker->parked || ums_is_frozen(worker)) && ums_sleeps_elsewhere(worker)) {
		if (!ums_worker_is_silent(worker))
			ums_worker_block(worker, worker->cause, now);
		/* The freezer lets it sleep on, unless it has been woken. */
		if (worker->parked)
			wake_up_state(worker->task, TASK_INTERRUPTIBLE);
		return sched->task;
	}
	return worker->task;
}

/**
 * sys_ums_worker_enter - make the calling thread a worker
 * @fd: the completion list on which it is to be published
 * @uargs: struct ums_worker_args
 * @size: its size in the program that calls
 *
 * The worker is published at once and waits, on its way back to user mode, to
 * be executed.
 *
 * Return:
 * * the id of the worker, when it is executed first;
 * * %-EPERM: kernel.ums_disabled refuses the caller;
 * * %-EBADF: @fd is not open, or the list is closed;
 * * %-EINVAL: @fd is no completion list, @size is smaller than
 *   UMS_WORKER_ARGS_SIZE_VER0, or a flag is unknown;
 * * %-E2BIG: @size is larger than a page, or what lies behind the fields that
 *   this kernel knows is not 0;
 * * %-EFAULT: @uargs cannot be read;
 * * %-EXDEV: the list belongs to another process;
 * * %-EBUSY: the thread is a worker or a scheduler;
 * * %-EOPNOTSUPP: UMS_WORKER_USER_SWITCH, which the hardware does not allow, or what
 *   the thread uses (a shadow stack, dynamic FPU features) or lacks (rseq);
 * * %-EEXIST: UMS_WORKER_USER_SWITCH, and another worker or scheduler has the thread
 *   pointer of the caller;
 * * %-ENOSPC: the list has its greatest number of workers;
 * * %-ENOMEM.
 */
SYSCALL_DEFINE3(ums_worker_enter, int, fd,
		const struct ums_worker_args __user *, uargs, size_t, size)
{
	struct ums_worker_args args;
	struct ums_worker *worker;
	struct ums_list *list;
	int err;

	BUILD_BUG_ON(sizeof(args) != UMS_WORKER_ARGS_SIZE_VER0);

	if (size < UMS_WORKER_ARGS_SIZE_VER0)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	err = copy_struct_from_user(&args, sizeof(args), uargs, size);
	if (err)
		return err;
	if (args.flags & ~UMS_WORKER_USER_SWITCH)
		return -EINVAL;
	if (!ums_allowed())
		return -EPERM;
	if (current->ums)
		return -EBUSY;

	list = ums_list_from_fd(fd);
	if (IS_ERR(list))
		return PTR_ERR(list);

	worker = kzalloc(sizeof(*worker), GFP_KERNEL_ACCOUNT);
	if (!worker) {
		err = -ENOMEM;
		goto put_list;
	}

	worker->base.role = UMS_ROLE_WORKER;
	worker->task = current;
	worker->position = UMS_POS_PUBLISHING;
	worker->cause = ums_current_cause();
	worker->state = UMS_STATE_BLOCKED;
	raw_spin_lock_init(&worker->lock);

	if (args.flags & UMS_WORKER_USER_SWITCH) {
		err = ums_home_open(&worker->base, list->proc);
		if (err)
			goto free_worker;
	}

	/* On success the worker has the reference to the list. */
	err = ums_list_add(list, worker, args.user_data);
	if (err)
		goto close_home;

	WRITE_ONCE(worker->slot->cause, worker->cause);
	WRITE_ONCE(worker->slot->state, worker->state);

	/* Others may follow it from here on: see struct ums_task. */
	smp_store_release(&current->ums, &worker->base);
	current->flags |= PF_UMS_WORKER;
	set_thread_flag(TIF_UMS);
	ums_home_begin(&worker->base);
	return worker->id;

close_home:
	ums_home_close(&worker->base);
free_worker:
	/* By a wrong thread pointer, somebody may have found it already. */
	kfree_rcu(worker, rcu);
put_list:
	ums_list_put(list);
	return err;
}

/**
 * sys_ums_detach - make the calling worker an ordinary thread
 * @flags: must be 0
 *
 * The scheduler that runs it gets the upcall DETACHED.
 *
 * Return:
 * * 0;
 * * %-EINVAL: a flag is unknown;
 * * %-EPERM: the caller is no worker.
 */
SYSCALL_DEFINE1(ums_detach, unsigned int, flags)
{
	struct ums_worker *worker = ums_worker_of(current);

	if (flags)
		return -EINVAL;
	if (!worker)
		return -EPERM;

	ums_worker_exit(worker, false, 0);
	return 0;
}

/**
 * sys_ums_yield - give the processor back to the scheduler
 * @arg: for the scheduler, as the detail of its upcall YIELDED
 * @flags: UMS_YIELD_PUBLISH: publish the worker on its list as well
 *
 * Who gets the upcall may execute the worker at once; with UMS_YIELD_PUBLISH,
 * whoever takes it from the list.
 *
 * Return:
 * * 0, when the worker is executed again;
 * * %-EINVAL: a flag is unknown;
 * * %-EPERM: the caller is no worker.
 */
SYSCALL_DEFINE2(ums_yield, u64, arg, unsigned int, flags)
{
	struct ums_worker *worker = ums_worker_of(current);
	bool publish = flags & UMS_YIELD_PUBLISH;
	struct task_struct *next = NULL;
	struct ums_scheduler *sched;
	u64 now;

	if (flags & ~UMS_YIELD_PUBLISH)
		return -EINVAL;
	if (!worker)
		return -EPERM;

	trace_ums_yield(worker->id, arg, flags);

	now = local_clock();
	raw_spin_lock_irq(&worker->lock);
	sched = ums_worker_cut(worker);
	if (sched) {
		worker->yields++;
		ums_worker_ready(worker, publish ? UMS_POS_PUBLISHING : UMS_POS_NONE, now);
		if (publish) {
			next = ums_worker_publish(worker, sched, UMS_UPCALL_YIELDED, arg, now);
		} else {
			ums_set_event(sched, UMS_UPCALL_YIELDED, worker->id, arg, now);
			next = sched->task;
		}
	}

	/*
	 * Here and not on the way to user mode, where the scheduler that was
	 * just woken might preempt a worker that has not yet left the CPU.
	 */
	ums_worker_park(worker, next);
	return 0;
}

/**
 * sys_ums_preempt - take a worker from its scheduler
 * @id: the worker
 * @flags: must be 0
 *
 * From any thread of the process. The worker stops on its way to user mode, to
 * which it is made to go if it does not enter the kernel by itself; there it is
 * published, and its scheduler gets the upcall PREEMPTED. If it blocks, yields
 * or ends before, that upcall comes instead. While its no_upcall is set it
 * goes on, with UMS_ATTN_PREEMPT in its slot, and is to call this itself once
 * it has reset no_upcall.
 *
 * Return:
 * * 0;
 * * %-EINVAL: a flag is unknown;
 * * %-ESRCH: there is no such worker, or its list is closed;
 * * %-ESTALE: it has ended;
 * * %-EACCES: it has other credentials or seccomp filters, see ums_execute();
 * * %-EAGAIN: no scheduler runs it.
 */
SYSCALL_DEFINE2(ums_preempt, u64, id, unsigned int, flags)
{
	struct ums_worker *worker;
	bool kick = false;
	int err = 0;

	if (flags)
		return -EINVAL;

	rcu_read_lock();
	worker = ums_worker_find(id);
	if (IS_ERR(worker)) {
		err = PTR_ERR(worker);
	} else if (!ums_may_act_on(worker->task)) {
		err = -EACCES;
	} else {
		raw_spin_lock_irq(&worker->lock);
		if (worker->sched) {
			ums_worker_ask(worker, UMS_PREEMPT_ASKED);
		} else if (worker->state == UMS_STATE_EMPTY) {
			/* It may run on any carrier, or on none. */
			WRITE_ONCE(worker->preempt, BIT(UMS_PREEMPT_ASKED));
			ums_worker_attention(worker, worker->attention | UMS_ATTN_PREEMPT);
			kick = true;
		} else if (worker->state == UMS_STATE_EXITED ||
			   worker->state == UMS_STATE_NONE) {
			err = -ESTALE;
		} else {
			err = -EAGAIN;
		}
		raw_spin_unlock_irq(&worker->lock);
		if (kick)
			ums_kick_carriers(worker->list->proc);
	}
	rcu_read_unlock();
	return err;
}

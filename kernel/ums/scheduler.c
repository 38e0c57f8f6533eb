// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: schedulers. They execute workers and get upcalls.
 */
#include <linux/freezer.h>
#include <linux/hrtimer.h>
#include <linux/ptrace.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/syscalls.h>
#include <linux/uaccess.h>

#include <trace/events/ums.h>

#include "ums.h"

/**
 * ums_set_event - what became of the worker that a scheduler ran
 * @sched: the scheduler, from whom the caller has detached the worker
 * @reason: the upcall that it will get
 * @worker: its second argument, the id
 * @detail: its third
 * @now: local_clock() when it happened
 *
 * The scheduler has yet to be woken. It, and its task, stay while the worker's
 * lock is held, or to the end of the RCU read section in which it was.
 */
void ums_set_event(struct ums_scheduler *sched, enum ums_reason reason, u64 worker,
		   u64 detail, u64 now)
{
	sched->event.reason = reason;
	sched->event.worker = worker;
	sched->event.detail = detail;
	sched->event.time = now;
	/* Pairs with the acquire in ums_wait_event(): the event is complete. */
	smp_store_release(&sched->posted, true);
}

/* Sets the event and wakes the scheduler. */
void ums_post(struct ums_scheduler *sched, enum ums_reason reason, u64 worker,
	      u64 detail, u64 now)
{
	ums_set_event(sched, reason, worker, detail, now);
	ums_delay();
	wake_up_state_on_current_cpu(sched->task, TASK_NORMAL);
}

/*
 * Calls @fn with the worker that a scheduler runs, under its lock. Another one may take
 * its place at any time, by a hand-off (see handoff.c), but not under the lock.
 *
 * Return: what @fn does; false when there is no worker.
 */
static bool ums_running_worker(struct ums_scheduler *sched, bool (*fn)(struct ums_worker *worker))
{
	struct ums_worker *worker;
	unsigned long flags;
	bool found, ret = false;

	rcu_read_lock();
	do {
		worker = READ_ONCE(sched->worker);
		if (!worker)
			break;
		raw_spin_lock_irqsave(&worker->lock, flags);
		found = worker->sched == sched;
		if (found)
			ret = fn(worker);
		raw_spin_unlock_irqrestore(&worker->lock, flags);
	} while (!found);
	rcu_read_unlock();
	return ret;
}

static bool ums_slice_over(struct ums_worker *worker)
{
	ums_worker_ask(worker, UMS_PREEMPT_SLICE);
	return true;
}

/* The slice of the worker that runs has ended. In hard interrupt context. */
static enum hrtimer_restart ums_slice_end(struct hrtimer *timer)
{
	ums_running_worker(container_of(timer, struct ums_scheduler, slice), ums_slice_over);
	return HRTIMER_NORESTART;
}

/* Is a thread asleep, by the word of somebody who has a barrier before? */
static bool ums_task_sleeps(struct task_struct *tsk)
{
	/* Neither on its way out of sleep, nor at a contended lock of PREEMPT_RT. */
	return READ_ONCE(tsk->__state) & ~(TASK_WAKING | TASK_RTLOCK_WAIT);
}

static bool ums_stop(struct ums_worker *worker)
{
	ums_worker_ask(worker, UMS_PREEMPT_SIGNAL);
	/*
	 * Orders @preempt against the state of the task; pairs with the barrier in
	 * ums_worker_sleeping().
	 */
	smp_mb();
	return ums_task_sleeps(worker->task) && ums_worker_is_silent(worker);
}

/*
 * A signal for the scheduler: it can take it only when the worker has stopped.
 *
 * Return: true when that will not be soon, since the worker sleeps where that
 * makes no upcall; it says so, too, when it goes to sleep later
 * (ums_worker_sleeping()).
 */
static bool ums_stop_worker(struct ums_scheduler *sched)
{
	return ums_running_worker(sched, ums_stop);
}

/*
 * Sleeps until the event of the worker that it runs.
 *
 * Return: 0; -EINTR when it is killed before; -ERESTARTNOINTR when it has to
 * take a signal while the worker sleeps without an upcall, and wait again.
 */
static int ums_wait_event(struct ums_scheduler *sched)
{
	unsigned int state = TASK_INTERRUPTIBLE | TASK_FREEZABLE;
	int ret = 0;

	for (;;) {
		ums_delay();
		set_current_state(state);
		/* Pairs with the release in ums_post(). */
		if (smp_load_acquire(&sched->posted))
			break;
		if (signal_pending(current)) {
			if (fatal_signal_pending(current)) {
				ret = -EINTR;
				break;
			}
			if (ums_stop_worker(sched)) {
				ret = -ERESTARTNOINTR;
				break;
			}
			if (state & TASK_INTERRUPTIBLE) {
				state = TASK_KILLABLE | TASK_NOLOAD | TASK_FREEZABLE;
				continue;
			}
		}
		/*
		 * The freezer may have found this thread running, and comes but
		 * once; its worker may be frozen by now, and not stop before that
		 * is thawed.
		 */
		if (freezing(current)) {
			__set_current_state(TASK_RUNNING);
			try_to_freeze();
			continue;
		}
		ums_delay();
		/* So look again, since what the freezer sends ends no such sleep. */
		if (state & TASK_INTERRUPTIBLE)
			schedule();
		else
			schedule_timeout(HZ / 10);
	}
	__set_current_state(TASK_RUNNING);
	return ret;
}

static void ums_upcall(struct ums_scheduler *sched, enum ums_reason reason,
		       u64 worker, u64 detail)
{
	struct ums_home *home = sched->base.home;

	ums_count(&sched->upcalls, 1);
	trace_ums_upcall(reason, worker, detail);
	arch_ums_upcall(current_pt_regs(), sched->entry, sched->stack, reason,
			worker, detail, sched->arg);
	if (sched->base.vacant) {
		arch_ums_set_thread_pointer(home->thread_pointer);
		ums_occupy(home);
	}
}

/* The current thread is no scheduler any more; or, with @died, ends as one. */
void ums_scheduler_end(struct ums_scheduler *sched, bool died)
{
	struct ums_process *proc = sched->proc;

	/* Killed, it may leave a worker that it runs. */
	ums_running_worker(sched, ums_worker_orphan);
	hrtimer_cancel(&sched->slice);
	ums_process_leave(sched, died);
	/* First: its home is read by way of it. */
	WRITE_ONCE(current->ums, NULL);
	ums_home_close(&sched->base);
	kfree_rcu(sched, rcu);
	ums_process_put(proc);
}

/**
 * sys_ums_scheduler_enter - make the calling thread a scheduler
 * @uargs: struct ums_scheduler_args
 * @size: its size in the program that calls
 *
 * Return:
 * * on success it does not return, but begins with the upcall STARTUP;
 * * %-EPERM: kernel.ums_disabled refuses the caller;
 * * %-EINVAL: @size is smaller than UMS_SCHEDULER_ARGS_SIZE_VER0, a flag is
 *   unknown, or the stack is smaller than UMS_MIN_STACK;
 * * %-E2BIG: @size is larger than a page, or what lies behind the fields that
 *   this kernel knows is not 0;
 * * %-EFAULT: @uargs cannot be read, or entry point or stack are not in the
 *   user's address space;
 * * %-EBUSY: the thread is a worker or a scheduler;
 * * %-EOPNOTSUPP, %-EEXIST: UMS_SCHEDULER_USER_SWITCH; see ums_worker_enter();
 * * %-ENOMEM.
 */
SYSCALL_DEFINE2(ums_scheduler_enter, const struct ums_scheduler_args __user *, uargs,
		size_t, size)
{
	struct ums_scheduler_args args;
	struct ums_scheduler *sched;
	int err;

	BUILD_BUG_ON(sizeof(args) != UMS_SCHEDULER_ARGS_SIZE_VER0);

	if (size < UMS_SCHEDULER_ARGS_SIZE_VER0)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	err = copy_struct_from_user(&args, sizeof(args), uargs, size);
	if (err)
		return err;
	if (args.flags & ~UMS_SCHEDULER_USER_SWITCH || args.stack_size < UMS_MIN_STACK)
		return -EINVAL;
	if (!access_ok((void __user *)args.entry, 1) ||
	    !access_ok((void __user *)args.stack, args.stack_size))
		return -EFAULT;
	if (!ums_allowed())
		return -EPERM;
	if (current->ums)
		return -EBUSY;

	sched = kzalloc(sizeof(*sched), GFP_KERNEL_ACCOUNT);
	if (!sched)
		return -ENOMEM;

	err = -ENOMEM;
	sched->proc = ums_process_get();
	if (!sched->proc)
		goto free_sched;

	sched->base.role = UMS_ROLE_SCHEDULER;
	sched->task = current;
	sched->entry = args.entry;
	sched->stack = args.stack + args.stack_size;
	sched->arg = args.arg;
	hrtimer_init(&sched->slice, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	sched->slice.function = ums_slice_end;

	if (args.flags & UMS_SCHEDULER_USER_SWITCH) {
		err = ums_home_open(&sched->base, sched->proc);
		if (err)
			goto put_proc;
	}

	ums_process_enter(sched);
	/* Others may follow it from here on: see struct ums_task. */
	smp_store_release(&current->ums, &sched->base);
	ums_home_begin(&sched->base);
	ums_upcall(sched, UMS_UPCALL_STARTUP, 0, args.startup);
	return 0;

put_proc:
	ums_process_put(sched->proc);
free_sched:
	kfree(sched);
	return err;
}

/**
 * sys_ums_scheduler_exit - make the calling scheduler an ordinary thread
 * @flags: must be 0
 *
 * Return:
 * * 0;
 * * %-EINVAL: a flag is unknown;
 * * %-EPERM: the caller is no scheduler.
 */
SYSCALL_DEFINE1(ums_scheduler_exit, unsigned int, flags)
{
	struct ums_scheduler *sched = ums_scheduler_of(current);

	if (flags)
		return -EINVAL;
	if (!sched)
		return -EPERM;

	ums_scheduler_end(sched, false);
	return 0;
}

/* May it be executed now? Under its lock. */
static int ums_may_execute(struct ums_worker *worker)
{
	u64 position;

	switch (worker->state) {
	case UMS_STATE_READY:
		break;
	case UMS_STATE_RUNNING:
	case UMS_STATE_EMPTY:
		return -EBUSY;
	case UMS_STATE_BLOCKED:
		return -EAGAIN;
	default:
		return -ESTALE;
	}

	/* Still on the ring, or on its way there: it would get there twice. */
	position = READ_ONCE(worker->position);
	if (position == UMS_POS_PUBLISHING)
		return -EEXIST;
	if (position != UMS_POS_NONE &&
	    (s64)(READ_ONCE(worker->list->header->head) - position) < 0)
		return -EEXIST;
	return 0;
}

/*
 * A worker that was published may have to do something in the kernel before it
 * comes to user mode, and sleep for that: stopped by a debugger, say. Then it
 * blocks at once, or in a region sleeps silently. It will not miss that, since it
 * has to pass ums_exit_to_user_mode(). Under its lock.
 */
bool ums_sleeps_elsewhere(struct ums_worker *worker)
{
	/*
	 * Orders ums_worker::sched against the state of the task; pairs with the
	 * barrier in ums_worker_sleeping().
	 */
	smp_mb();
	return ums_task_sleeps(worker->task);
}

/*
 * A worker that has parked was frozen there. It blocks at once, too. When it is
 * thawed it will park again, published, if it has been woken; the freezer itself
 * does not wake whom it found asleep. Under its lock.
 */
bool ums_is_frozen(struct ums_worker *worker)
{
	return READ_ONCE(worker->task->__state) & TASK_FROZEN;
}

/*
 * Links the worker to the scheduler and lets it go; the scheduler has most
 * often slept when this returns.
 */
static int ums_start_worker(struct ums_scheduler *sched, u64 id, u64 slice, u64 now)
{
	struct ums_worker *worker;
	bool frozen;
	int err;

	rcu_read_lock();
	worker = ums_worker_find(id);
	if (IS_ERR(worker)) {
		rcu_read_unlock();
		return PTR_ERR(worker);
	}
	if (!ums_may_act_on(worker->task)) {
		rcu_read_unlock();
		return -EACCES;
	}

	ums_delay();
	/* The lock keeps it: a READY worker takes it before it ends. */
	raw_spin_lock_irq(&worker->lock);
	rcu_read_unlock();
	err = ums_may_execute(worker);
	if (err) {
		raw_spin_unlock_irq(&worker->lock);
		return err;
	}

	sched->posted = false;
	WRITE_ONCE(sched->executing, id);
	sched->start = now;
	ums_count(&sched->executes, 1);
	WRITE_ONCE(sched->worker, worker);
	ums_delay();

	WRITE_ONCE(worker->sched, sched);
	/* As in ums_worker_arrive(). */
	smp_wmb();
	worker->executes++;
	ums_worker_set_state(worker, UMS_STATE_RUNNING, now);
	WRITE_ONCE(worker->slot->executes, worker->executes);
	WRITE_ONCE(worker->slot->scheduler, task_pid_vnr(sched->task));
	trace_ums_execute(id, task_pid_nr(worker->task), slice);

	sched->sliced = slice;
	if (slice)
		hrtimer_start(&sched->slice,
			      ns_to_ktime(min_t(u64, slice, KTIME_MAX)),
			      HRTIMER_MODE_REL_HARD);

	if (worker->parked && !ums_is_frozen(worker)) {
		set_current_state(TASK_INTERRUPTIBLE | TASK_FREEZABLE);
		sched_hand_over(worker->task, TASK_INTERRUPTIBLE, &worker->lock);
		return 0;
	}

	/* One that is not parked looks for a scheduler before it parks. */
	if (ums_sleeps_elsewhere(worker) && !ums_worker_is_silent(worker))
		ums_worker_block(worker, worker->cause, local_clock());
	/* With interrupts off it is not freed; not under the lock, see ums.h. */
	frozen = worker->parked;
	raw_spin_unlock(&worker->lock);
	if (frozen)
		wake_up_state(worker->task, TASK_INTERRUPTIBLE);
	local_irq_enable();
	return 0;
}

/* What the upcall says, counted. */
static void ums_count_event(struct ums_scheduler *sched)
{
	struct ums_event *event = &sched->event;

	if ((s64)(event->time - sched->start) > 0)
		ums_count(&sched->running_ns, event->time - sched->start);

	switch (event->reason) {
	case UMS_UPCALL_BLOCKED:
		if (event->detail == UMS_CAUSE_FAULT)
			ums_count(&sched->blocks_fault, 1);
		else
			ums_count(&sched->blocks_syscall, 1);
		break;
	case UMS_UPCALL_YIELDED:
		ums_count(&sched->yields, 1);
		break;
	case UMS_UPCALL_PREEMPTED:
		ums_count(&sched->preemptions, 1);
		break;
	default:
		break;
	}
}

/* The event is there: the upcall, unless its own registers have come home. */
static bool ums_go_on(struct ums_scheduler *sched)
{
	WRITE_ONCE(sched->executing, 0);
	/* A handler may have made the call again, with another slice. */
	if (sched->sliced)
		hrtimer_cancel(&sched->slice);
	ums_count_event(sched);
	if (sched->event.reason == UMS_RESUMED)
		return false;
	ums_upcall(sched, sched->event.reason, sched->event.worker,
		   sched->event.detail);
	return true;
}

/**
 * ums_scheduler_yield_to - a scheduler that is a carrier hands off to a worker
 * @sched: the current thread, vacant
 * @worker: the worker, EMPTY, whose registers have been deposited; its lock is held,
 *	and released
 * @now: local_clock()
 *
 * To be followed by ums_scheduler_wait().
 */
void ums_scheduler_yield_to(struct ums_scheduler *sched, struct ums_worker *worker, u64 now)
	__releases(&worker->lock)
{
	struct task_struct *next;

	sched->posted = false;
	WRITE_ONCE(sched->executing, worker->id);
	sched->start = now;
	sched->sliced = false;

	next = ums_worker_arrive(worker, sched, 0, now);
	if (next == current) {
		/* Stopped: there is an event already, or in a region none. */
		raw_spin_unlock_irq(&worker->lock);
		return;
	}
	set_current_state(TASK_INTERRUPTIBLE | TASK_FREEZABLE);
	sched_hand_over(next, TASK_INTERRUPTIBLE, &worker->lock);
}

/**
 * ums_scheduler_wait - wait until the registers of a scheduler come back
 * @sched: the current thread, vacant
 * @in_place: see ums_take()
 *
 * By an upcall, or from a carrier. It is vacant still, with TIF_UMS set, when it has to
 * take a signal first.
 *
 * Return: as ums_take().
 */
bool ums_scheduler_wait(struct ums_scheduler *sched, bool in_place)
{
	if (ums_wait_event(sched)) {
		set_thread_flag(TIF_UMS);
		return false;
	}
	return !ums_go_on(sched) && ums_take(sched->base.home, in_place);
}

/**
 * sys_ums_execute - run a worker in place of the calling scheduler
 * @id: the worker
 * @slice: after how many nanoseconds it is to be preempted; 0: never
 * @flags: must be 0
 *
 * Return:
 * * on success it does not return, but goes on with the upcall that
 *   tells what became of the worker;
 * * %-EINVAL: a flag is unknown;
 * * %-EPERM: the caller is no scheduler;
 * * %-ESRCH: there is no such worker, or its list is closed;
 * * %-ESTALE: it has ended;
 * * %-EBUSY: a scheduler runs it, or the caller, in a signal handler, still
 *   runs another one;
 * * %-EACCES: it has other credentials or seccomp filters than the caller, who
 *   might not trace it were it another process;
 * * %-EAGAIN: it is blocked in the kernel;
 * * %-EEXIST: it is still on its completion list.
 */
SYSCALL_DEFINE3(ums_execute, u64, id, u64, slice, unsigned int, flags)
{
	struct ums_scheduler *sched = ums_scheduler_of(current);
	int err;

	if (flags)
		return -EINVAL;
	if (!sched)
		return -EPERM;

	/* Not 0: it had to take a signal meanwhile, and calls again. */
	if (!sched->executing) {
		err = ums_start_worker(sched, id, slice, local_clock());
		if (err)
			return err;
	} else if (sched->executing != id) {
		return -EBUSY;
	}

	if (sched->base.home) {
		/* From here on its registers may be live on a carrier. */
		ums_vacate(sched->base.home);
		ums_scheduler_wait(sched, false);
		/* Those of an upcall, or its own; or it waits on its way to user mode. */
		return regs_return_value(current_pt_regs());
	}

	err = ums_wait_event(sched);
	if (!err)
		ums_go_on(sched);
	return err;
}

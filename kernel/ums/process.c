// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: the lists of a process, and what happens to them and
 * to its threads at exec and exit. Which thread takes the signals of a process.
 */
#include <linux/rculist.h>
#include <linux/slab.h>

#include "ums.h"

static void ums_process_free(struct work_struct *work)
{
	struct ums_process *proc = container_of(work, struct ums_process, free);

	/* Each list held a reference; so none is left, and nothing to destroy. */
	WARN_ON_ONCE(!xa_empty(&proc->lists));
	ums_homes_destroy(proc);
	kfree(proc);
}

/**
 * ums_process_get - the record of the current process, made when it has none
 *
 * Return: the record with a reference for the caller, or NULL without memory.
 */
struct ums_process *ums_process_get(void)
{
	struct signal_struct *sig = current->signal;
	struct ums_process *proc, *old;

	/* Pairs with the cmpxchg() below; set once, until exec. */
	proc = smp_load_acquire(&sig->ums);
	if (!proc) {
		proc = kzalloc(sizeof(*proc), GFP_KERNEL_ACCOUNT);
		if (!proc)
			return NULL;
		refcount_set(&proc->refs, 1);
		xa_init_flags(&proc->lists, XA_FLAGS_ALLOC);
		raw_spin_lock_init(&proc->lock);
		INIT_LIST_HEAD(&proc->schedulers);
		INIT_WORK(&proc->free, ums_process_free);
		if (ums_homes_init(proc)) {
			kfree(proc);
			return NULL;
		}

		old = cmpxchg(&sig->ums, NULL, proc);
		if (old) {
			ums_process_free(&proc->free);
			proc = old;
		}
	}

	refcount_inc(&proc->refs);
	return proc;
}

void ums_process_put(struct ums_process *proc)
{
	/* The last one may go in an interrupt, with the last reference to a task. */
	if (refcount_dec_and_test(&proc->refs))
		schedule_work(&proc->free);
}

/*
 * Calls @fn for each list that is not shut down, as far as there are no new ones
 * meanwhile; each is kept during the call.
 */
static void ums_process_call_lists(struct ums_process *proc,
				   void (*fn)(struct ums_list *list))
{
	struct ums_list *list;
	unsigned long nr;

	rcu_read_lock();
	xa_for_each(&proc->lists, nr, list) {
		/* One that is on its last reference shuts itself down. */
		if (!refcount_inc_not_zero(&list->refs))
			continue;
		rcu_read_unlock();
		fn(list);
		ums_list_put(list);
		rcu_read_lock();
	}
	rcu_read_unlock();
}

/* The current thread becomes a scheduler. */
void ums_process_enter(struct ums_scheduler *sched)
{
	struct ums_process *proc = sched->proc;

	raw_spin_lock(&proc->lock);
	list_add_tail_rcu(&sched->node, &proc->schedulers);
	WRITE_ONCE(proc->deserted, false);
	raw_spin_unlock(&proc->lock);
}

/**
 * ums_process_leave - the current thread is no scheduler any more
 * @sched: what it was
 * @died: because it has ended
 *
 * Whoever waits for a worker to be published waits for somebody to be executed
 * and to block. Where the last scheduler died there is nobody who would do that,
 * nor was it meant to be so.
 */
void ums_process_leave(struct ums_scheduler *sched, bool died)
{
	struct ums_process *proc = sched->proc;
	bool deserted;

	raw_spin_lock(&proc->lock);
	list_del_rcu(&sched->node);
	deserted = list_empty(&proc->schedulers) && died;
	if (deserted)
		WRITE_ONCE(proc->deserted, true);
	raw_spin_unlock(&proc->lock);
	if (!deserted)
		return;

	/*
	 * Those who come to wait from here on see it: ums_list_wait(), poll. Orders
	 * @deserted against the look at the lists; pairs with the barrier in
	 * ums_list_alloc(). Of a new list, at least one of the two sees the other.
	 */
	smp_mb();
	ums_process_call_lists(proc, ums_list_wake_all);
}

/**
 * ums_kick_carriers - have all threads that may be carriers hand off
 * @proc: their process
 *
 * Nobody knows where the context of an EMPTY worker runs, or whether it does. What
 * it is to find there has been written before.
 */
void ums_kick_carriers(struct ums_process *proc)
{
	struct ums_scheduler *sched;
	struct ums_worker *worker;
	struct task_struct *tsk;

	/* Pairs with the switch in user mode, which loads the thread pointer first. */
	smp_mb();
	rcu_read_lock();
	list_for_each_entry_rcu(sched, &proc->schedulers, node) {
		worker = READ_ONCE(sched->worker);
		tsk = worker ? worker->task : sched->task;
		if (!test_and_set_tsk_thread_flag(tsk, TIF_UMS))
			kick_process(tsk);
	}
	rcu_read_unlock();
}

/* The list that a worker's id names. Inside an RCU read section. */
struct ums_list *ums_list_find(u64 id)
{
	struct ums_process *proc = READ_ONCE(current->signal->ums);
	struct ums_list *list;

	if (!proc)
		return NULL;

	list = xa_load(&proc->lists, UMS_ID_LIST(id));
	if (!list || UMS_ID_SLOT(id) >= list->max_workers)
		return NULL;
	return list;
}

/**
 * ums_worker_find - look up a worker of the current process
 * @id: its id
 *
 * Inside an RCU read section. The worker may end at any time: take its lock
 * and look at its state.
 *
 * Return: the worker; -ESRCH when there was never one of this id or its list is
 * closed, -ESTALE when it has ended.
 */
struct ums_worker *ums_worker_find(u64 id)
{
	struct ums_list *list = ums_list_find(id);
	struct ums_worker *worker;
	struct ums_entry *entry;
	u32 serial;

	/* Bit 63 is set in no id, and no worker has the serial number 0. */
	if (!list || id >> 63 || !UMS_ID_SERIAL(id))
		return ERR_PTR(-ESRCH);

	entry = &list->entries[ums_slot_nr(list, id)];
	worker = rcu_dereference(entry->worker);
	if (worker && worker->id == id)
		return worker;

	/*
	 * Serial numbers only grow, but for their wrapping around: compare
	 * them as times are compared. Shifted, since they have 31 bits.
	 */
	serial = READ_ONCE(entry->serial);
	if (serial && (s32)((serial - UMS_ID_SERIAL(id)) << 1) >= 0)
		return ERR_PTR(-ESTALE);
	return ERR_PTR(-ESRCH);
}

static void ums_task_end(struct task_struct *tsk, bool exited, int status)
{
	struct ums_worker *worker = ums_worker_of(tsk);

	if (worker)
		ums_worker_exit(worker, exited, status);
	else
		ums_scheduler_end(ums_scheduler_of(tsk), exited);
}

/* The thread ends: its scheduler, or its worker, is told. */
void __ums_exit(struct task_struct *tsk, long code)
{
	ums_task_end(tsk, true, code);
}

/*
 * The calling thread, now the only one, has a new program. The pages of the
 * lists went with the old address space.
 */
void __ums_execve(struct task_struct *tsk)
{
	struct ums_process *proc = tsk->signal->ums;

	if (tsk->ums)
		ums_task_end(tsk, false, 0);

	if (!proc)
		return;
	/* Others look at it, in order to send a signal. */
	WRITE_ONCE(tsk->signal->ums, NULL);

	ums_process_call_lists(proc, ums_list_shutdown);
	ums_process_put(proc);
}

/**
 * ums_signal_rank - how soon would a thread take a signal for its process?
 * @tsk: the thread; its siglock is held
 *
 * Return: 2: as soon as any thread; 1: it is a scheduler whose worker has to stop
 * first; 0: it is a worker that has to be executed first.
 */
int ums_signal_rank(struct task_struct *tsk)
{
	struct ums_scheduler *sched;
	struct ums_worker *worker;
	int rank = 2;

	/* By the time that the signal is there it may be different again. */
	rcu_read_lock();
	worker = ums_worker_of(tsk);
	sched = ums_scheduler_of(tsk);
	if (worker && !READ_ONCE(worker->sched))
		rank = 0;
	else if (sched && READ_ONCE(sched->executing))
		rank = 1;
	rcu_read_unlock();
	return rank;
}

/* Nobody is left who could look anything up. */
void __ums_free_signal(struct signal_struct *sig)
{
	ums_process_put(sig->ums);
}

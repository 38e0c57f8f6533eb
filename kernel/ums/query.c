// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: ums_query() and ums_set().
 */
#include <linux/pid.h>
#include <linux/sched/task.h>
#include <linux/syscalls.h>
#include <linux/uaccess.h>

#include "ums.h"

static void ums_abi_info(struct ums_abi *abi)
{
	abi->version = UMS_ABI_VERSION;
	abi->disabled = !ums_would_allow();
	abi->features = UMS_FEATURES | (arch_ums_can_switch() ? UMS_FEATURE_USER_SWITCH : 0);
	abi->max_workers = UMS_MAX_WORKERS;
	abi->max_lists = UMS_MAX_LISTS;
}

static void ums_home_info(struct ums_task *ums, struct ums_info *info)
{
	if (!ums->home)
		return;
	info->handoffs = READ_ONCE(ums->home->handoffs);
	info->in_place = READ_ONCE(ums->home->in_place);
}

/*
 * Inside an RCU read section. -ESTALE when it has just ended; then @info has its
 * state and status, and nothing else.
 */
static int ums_worker_info(struct ums_worker *worker, struct ums_info *info)
{
	unsigned long flags;
	int err = 0;

	raw_spin_lock_irqsave(&worker->lock, flags);
	if (worker->state == UMS_STATE_EXITED || worker->state == UMS_STATE_NONE) {
		info->state = worker->state;
		info->exit_status = worker->exit_status;
		err = -ESTALE;
		goto unlock;
	}

	info->role = UMS_ROLE_WORKER;
	info->state = worker->state;
	info->tid = task_pid_vnr(worker->task);
	info->list_nr = UMS_ID_LIST(worker->id);
	info->worker = worker->id;
	info->scheduler = worker->sched ? task_pid_vnr(worker->sched->task) : 0;
	info->cause = worker->cause;
	info->user_data = READ_ONCE(worker->slot->user_data);
	info->executes = worker->executes;
	info->blocks_syscall = worker->blocks_syscall;
	info->blocks_fault = worker->blocks_fault;
	info->yields = worker->yields;
	info->preemptions = worker->preemptions;
	info->publishes = worker->publishes;
	info->running_ns = worker->time[UMS_STATE_RUNNING];
	info->blocked_ns = worker->time[UMS_STATE_BLOCKED];
	info->ready_ns = worker->time[UMS_STATE_READY];
	info->empty_ns = worker->time[UMS_STATE_EMPTY];
	ums_home_info(&worker->base, info);
unlock:
	raw_spin_unlock_irqrestore(&worker->lock, flags);
	return err;
}

/* Inside an RCU read section, which @sched and its task outlive. */
static void ums_scheduler_info(struct ums_scheduler *sched, struct ums_info *info)
{
	struct ums_worker *worker = READ_ONCE(sched->worker);

	info->role = UMS_ROLE_SCHEDULER;
	info->tid = task_pid_vnr(sched->task);
	info->worker = worker ? worker->id : 0;
	info->executes = READ_ONCE(sched->executes);
	info->blocks_syscall = READ_ONCE(sched->blocks_syscall);
	info->blocks_fault = READ_ONCE(sched->blocks_fault);
	info->yields = READ_ONCE(sched->yields);
	info->preemptions = READ_ONCE(sched->preemptions);
	info->upcalls = READ_ONCE(sched->upcalls);
	info->running_ns = READ_ONCE(sched->running_ns);
	info->idle_ns = READ_ONCE(sched->idle_ns);
	ums_home_info(&sched->base, info);
}

/* Whatever @tsk is: none of both, when its role has just ended. */
void ums_task_info(struct task_struct *tsk, struct ums_info *info)
{
	struct ums_task *ums;

	rcu_read_lock();
	ums = READ_ONCE(tsk->ums);
	if (ums && ums->role == UMS_ROLE_SCHEDULER)
		ums_scheduler_info(container_of(ums, struct ums_scheduler, base), info);
	else if (ums && ums_worker_info(container_of(ums, struct ums_worker, base), info))
		memset(info, 0, sizeof(*info));
	rcu_read_unlock();
}

static int ums_query_worker(u64 id, struct ums_info *info)
{
	struct ums_worker *worker;
	struct ums_entry *entry;
	struct ums_list *list;
	unsigned long flags;
	int err;

	rcu_read_lock();
	worker = ums_worker_find(id);
	if (IS_ERR(worker))
		err = PTR_ERR(worker);
	else if (!ums_may_act_on(worker->task))
		err = -EACCES;
	else
		err = ums_worker_info(worker, info);
	list = ums_list_find(id);
	if (err != -ESTALE || !list)
		goto unlock;

	/* It has ended, and is about to leave its slot; or that remembers how. */
	entry = &list->entries[ums_slot_nr(list, id)];
	raw_spin_lock_irqsave(&list->lock, flags);
	if (info->state != UMS_STATE_EXITED && entry->serial == UMS_ID_SERIAL(id) &&
	    entry->exited && !rcu_access_pointer(entry->worker)) {
		info->state = UMS_STATE_EXITED;
		info->exit_status = entry->exit_status;
	}
	raw_spin_unlock_irqrestore(&list->lock, flags);
	if (info->state == UMS_STATE_EXITED) {
		info->role = UMS_ROLE_WORKER;
		info->list_nr = list->nr;
		info->worker = id;
		err = 0;
	}
unlock:
	rcu_read_unlock();
	return err;
}

static int ums_query_thread(u64 id, struct ums_info *info)
{
	struct task_struct *tsk;
	int err = 0;

	if (id > INT_MAX)
		return -ESRCH;

	rcu_read_lock();
	tsk = id ? find_task_by_vpid(id) : current;
	if (!tsk || !same_thread_group(tsk, current)) {
		err = -ESRCH;
	} else if (!ums_may_act_on(tsk)) {
		err = -EACCES;
	} else {
		ums_task_info(tsk, info);
		info->tid = task_pid_vnr(tsk);
		/* It has ended, and been reaped, meanwhile. */
		if (!info->tid)
			err = -ESRCH;
	}
	rcu_read_unlock();
	return err;
}

/* The mirror image of copy_struct_from_user(). */
static int ums_copy_to_user(void __user *dst, size_t usize, const void *src, size_t size)
{
	if (copy_to_user(dst, src, min(usize, size)))
		return -EFAULT;
	if (usize > size && clear_user(dst + size, usize - size))
		return -EFAULT;
	return 0;
}

/**
 * sys_ums_query - tell about a worker, a thread, or the interface
 * @which: UMS_QUERY_*
 * @id: UMS_QUERY_WORKER: its id; UMS_QUERY_THREAD: its tid, or 0 for the
 *	caller; UMS_QUERY_ABI: 0
 * @info: struct ums_abi for UMS_QUERY_ABI, else struct ums_info
 * @size: its size in the program that calls; what this kernel does not know
 *	is set to 0
 *
 * Return:
 * * 0;
 * * %-EINVAL: @which is unknown, @size is smaller than in the first version,
 *   or @id is not 0 for UMS_QUERY_ABI;
 * * %-E2BIG: @size is larger than a page;
 * * %-EFAULT: @info cannot be written;
 * * %-ESRCH: the process has, or had, no such worker or thread;
 * * %-ESTALE: the worker has ended, and its slot was taken by another, or it
 *   was detached;
 * * %-EACCES: it has other credentials or seccomp filters, see ums_execute().
 */
SYSCALL_DEFINE4(ums_query, unsigned int, which, u64, id, void __user *, info, size_t, size)
{
	struct ums_info ki = {};
	struct ums_abi abi = {};
	int err;

	BUILD_BUG_ON(sizeof(abi) != UMS_ABI_SIZE_VER0);
	BUILD_BUG_ON(sizeof(ki) != UMS_INFO_SIZE_VER1);

	switch (which) {
	case UMS_QUERY_ABI:
		if (id || size < UMS_ABI_SIZE_VER0)
			return -EINVAL;
		if (size > PAGE_SIZE)
			return -E2BIG;
		ums_abi_info(&abi);
		return ums_copy_to_user(info, size, &abi, sizeof(abi));
	case UMS_QUERY_WORKER:
	case UMS_QUERY_THREAD:
		if (size < UMS_INFO_SIZE_VER0)
			return -EINVAL;
		if (size > PAGE_SIZE)
			return -E2BIG;
		if (which == UMS_QUERY_WORKER)
			err = ums_query_worker(id, &ki);
		else
			err = ums_query_thread(id, &ki);
		if (err)
			return err;
		return ums_copy_to_user(info, size, &ki, sizeof(ki));
	default:
		return -EINVAL;
	}
}

/**
 * sys_ums_set - change something about a worker
 * @which: UMS_SET_USER_DATA
 * @id: the worker
 * @value: the new value
 *
 * Return:
 * * 0;
 * * %-EINVAL: @which is unknown;
 * * %-ESRCH: there is no such worker, or its list is closed;
 * * %-ESTALE: it has ended;
 * * %-EACCES: it has other credentials or seccomp filters, see ums_execute().
 */
SYSCALL_DEFINE3(ums_set, unsigned int, which, u64, id, u64, value)
{
	struct ums_worker *worker;
	int err = 0;

	if (which != UMS_SET_USER_DATA)
		return -EINVAL;

	rcu_read_lock();
	worker = ums_worker_find(id);
	if (IS_ERR(worker)) {
		err = PTR_ERR(worker);
	} else if (!ums_may_act_on(worker->task)) {
		err = -EACCES;
	} else {
		raw_spin_lock_irq(&worker->lock);
		if (worker->state == UMS_STATE_EXITED || worker->state == UMS_STATE_NONE)
			err = -ESTALE;
		else
			WRITE_ONCE(worker->slot->user_data, value);
		raw_spin_unlock_irq(&worker->lock);
	}
	rcu_read_unlock();
	return err;
}

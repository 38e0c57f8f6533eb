// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: ums_wait().
 */
#include <linux/hrtimer.h>
#include <linux/restart_block.h>
#include <linux/syscalls.h>
#include <linux/time64.h>
#include <linux/time_namespace.h>

#include "ums.h"

/* Sleeps to the point in time @expires of CLOCK_MONOTONIC, NULL: for ever. */
static int ums_list_wait(struct ums_list *list, ktime_t *expires)
{
	bool expired = expires && !ktime_before(ktime_get(), *expires);
	struct ums_waiter waiter = { .task = current };
	int ret;

	/*
	 * Each worker that is published takes one waiter from the list and wakes
	 * it. A waiter that was chosen looks at the ring first of all, so that
	 * one which leaves for a signal or a time-out has not let a worker lie.
	 */
	for (;;) {
		raw_spin_lock_irq(&list->lock);
		if (list->closed)
			ret = -EBADF;
		else if (ums_list_ready(list))
			ret = 0;
		/* Nobody is left to execute anybody: see ums_process_leave(). */
		else if (READ_ONCE(list->proc->deserted))
			ret = -EOWNERDEAD;
		else if (expired)
			ret = -ETIMEDOUT;
		else if (signal_pending(current))
			ret = -ERESTARTSYS;
		else
			ret = 1;
		if (ret <= 0)
			break;

		list_add_tail(&waiter.node, &list->waiters);
		set_current_state(TASK_INTERRUPTIBLE | TASK_FREEZABLE);
		raw_spin_unlock_irq(&list->lock);
		ums_delay();

		if (!schedule_hrtimeout_range(expires, 0, HRTIMER_MODE_ABS))
			expired = true;

		raw_spin_lock_irq(&list->lock);
		list_del_init(&waiter.node);
		raw_spin_unlock_irq(&list->lock);
	}
	raw_spin_unlock_irq(&list->lock);
	return ret;
}

static int ums_wait(int fd, ktime_t *expires)
{
	struct ums_scheduler *sched = ums_scheduler_of(current);
	struct ums_list *list;
	u64 start;
	int ret;

	list = ums_list_from_fd(fd);
	if (IS_ERR(list))
		return PTR_ERR(list);

	/* The file is not held, so that it can be closed under the sleeper. */
	start = local_clock();
	ret = ums_list_wait(list, expires);
	if (sched)
		ums_count(&sched->idle_ns, local_clock() - start);

	ums_list_put(list);
	return ret;
}

/* A relative time-out keeps its end when a signal stops and continues it. */
static long ums_wait_restart(struct restart_block *restart)
{
	ktime_t expires = restart->futex.time;
	int ret;

	ret = ums_wait(restart->futex.val, &expires);
	if (ret == -ERESTARTSYS)
		ret = set_restart_fn(restart, ums_wait_restart);
	return ret;
}

/**
 * sys_ums_wait - wait until a completion list is not empty
 * @fd: the list
 * @timeout: how long to wait, or NULL for ever
 * @flags: UMS_WAIT_ABSTIME: @timeout is a point in time of CLOCK_MONOTONIC
 *
 * Any thread of the process may wait; each worker that is published wakes one.
 * By then another may have taken it: look, and wait again.
 *
 * Return:
 * * 0 when the list is not empty;
 * * %-EBADF: @fd is not open, or the list was closed while waiting;
 * * %-EINVAL: @fd is no completion list, @timeout is no valid time, or a flag
 *   is unknown;
 * * %-EXDEV: the list belongs to another process;
 * * %-EFAULT: @timeout cannot be read;
 * * %-EOWNERDEAD: the last scheduler of the process has died, and the list is
 *   empty; until a thread becomes a scheduler;
 * * %-ETIMEDOUT: the time has passed and the list is empty;
 * * %-EINTR: a signal handler ran.
 */
SYSCALL_DEFINE3(ums_wait, int, fd,
		const struct __kernel_timespec __user *, timeout,
		unsigned int, flags)
{
	struct restart_block *restart;
	struct timespec64 ts;
	ktime_t expires;
	int ret;

	if (flags & ~UMS_WAIT_ABSTIME)
		return -EINVAL;

	if (timeout) {
		if (get_timespec64(&ts, timeout))
			return -EFAULT;
		if (!timespec64_valid(&ts))
			return -EINVAL;
		expires = timespec64_to_ktime(ts);
		/* Timers count in the time namespace of the caller. */
		if (flags & UMS_WAIT_ABSTIME)
			expires = timens_ktime_to_host(CLOCK_MONOTONIC, expires);
		else
			expires = ktime_add_safe(ktime_get(), expires);
	}

	ret = ums_wait(fd, timeout ? &expires : NULL);
	if (ret != -ERESTARTSYS)
		return ret;

	if (!timeout || (flags & UMS_WAIT_ABSTIME))
		return -ERESTARTNOHAND;

	restart = &current->restart_block;
	restart->futex.val = fd;
	restart->futex.time = expires;
	return set_restart_fn(restart, ums_wait_restart);
}

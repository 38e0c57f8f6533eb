// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: /proc/PID/task/TID/ums.
 */
#include <linux/ptrace.h>
#include <linux/seq_file.h>

#include "ums.h"

static const char * const ums_state_names[] = {
	[UMS_STATE_NONE]	= "none",
	[UMS_STATE_RUNNING]	= "running",
	[UMS_STATE_BLOCKED]	= "blocked",
	[UMS_STATE_READY]	= "ready",
	[UMS_STATE_EMPTY]	= "empty",
	[UMS_STATE_EXITED]	= "exited",
};

static void ums_show_worker(struct seq_file *m, const struct ums_info *info)
{
	seq_printf(m, "id:\t%llu\n", info->worker);
	seq_printf(m, "state:\t%s\n", ums_state_names[info->state]);
	seq_printf(m, "list:\t%u\n", info->list_nr);
	seq_printf(m, "scheduler:\t%u\n", info->scheduler);
	if (info->cause == UMS_CAUSE_FAULT)
		seq_puts(m, "cause:\tfault\n");
	else
		seq_printf(m, "cause:\tsyscall %llu\n", info->cause);
}

static void ums_show_scheduler(struct seq_file *m, const struct ums_info *info)
{
	seq_printf(m, "worker:\t%llu\n", info->worker);
}

/* One "key: value" a line; the keys are the names of struct ums_info. */
int proc_pid_ums(struct seq_file *m, struct pid_namespace *ns, struct pid *pid,
		 struct task_struct *task)
{
	struct ums_info info = {};

	if (!ptrace_may_access(task, PTRACE_MODE_READ_FSCREDS))
		return -EACCES;

	ums_task_info(task, &info);

	switch (info.role) {
	case UMS_ROLE_WORKER:
		seq_puts(m, "role:\tworker\n");
		ums_show_worker(m, &info);
		break;
	case UMS_ROLE_SCHEDULER:
		seq_puts(m, "role:\tscheduler\n");
		ums_show_scheduler(m, &info);
		break;
	default:
		seq_puts(m, "role:\tnone\n");
		return 0;
	}

	seq_printf(m, "tid:\t%u\n", info.tid);
	seq_printf(m, "executes:\t%llu\n", info.executes);
	seq_printf(m, "blocks_syscall:\t%llu\n", info.blocks_syscall);
	seq_printf(m, "blocks_fault:\t%llu\n", info.blocks_fault);
	seq_printf(m, "yields:\t%llu\n", info.yields);
	seq_printf(m, "preemptions:\t%llu\n", info.preemptions);
	seq_printf(m, "running_ns:\t%llu\n", info.running_ns);
	if (info.role == UMS_ROLE_WORKER) {
		seq_printf(m, "publishes:\t%llu\n", info.publishes);
		seq_printf(m, "blocked_ns:\t%llu\n", info.blocked_ns);
		seq_printf(m, "ready_ns:\t%llu\n", info.ready_ns);
	} else {
		seq_printf(m, "upcalls:\t%llu\n", info.upcalls);
		seq_printf(m, "idle_ns:\t%llu\n", info.idle_ns);
	}
	return 0;
}

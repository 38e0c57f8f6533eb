/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ums

#if !defined(_TRACE_UMS_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_UMS_H

#include <linux/tracepoint.h>
#include <uapi/linux/ums.h>

/*
 * Workers are named by their id, the thread that acts (the scheduler that
 * executes, the worker that blocks) is the one that the tracer records.
 */

#define ums_show_reason(reason)						\
	__print_symbolic(reason,					\
		{ UMS_UPCALL_STARTUP,	"STARTUP" },			\
		{ UMS_UPCALL_BLOCKED,	"BLOCKED" },			\
		{ UMS_UPCALL_YIELDED,	"YIELDED" },			\
		{ UMS_UPCALL_PREEMPTED,	"PREEMPTED" },			\
		{ UMS_UPCALL_EXITED,	"EXITED" },			\
		{ UMS_UPCALL_DETACHED,	"DETACHED" })

#define ums_show_why(why)						\
	__print_symbolic(why,						\
		{ UMS_PREEMPT_ASKED,	"asked" },			\
		{ UMS_PREEMPT_SLICE,	"slice" },			\
		{ UMS_PREEMPT_SIGNAL,	"signal" })

TRACE_EVENT(ums_execute,

	TP_PROTO(u64 worker, pid_t tid, u64 slice),

	TP_ARGS(worker, tid, slice),

	TP_STRUCT__entry(
		__field(u64, worker)
		__field(pid_t, tid)
		__field(u64, slice)
	),

	TP_fast_assign(
		__entry->worker = worker;
		__entry->tid = tid;
		__entry->slice = slice;
	),

	TP_printk("worker=%#llx tid=%d slice=%llu", __entry->worker,
		  __entry->tid, __entry->slice)
);

TRACE_EVENT(ums_block,

	TP_PROTO(u64 worker, u64 cause, pid_t scheduler),

	TP_ARGS(worker, cause, scheduler),

	TP_STRUCT__entry(
		__field(u64, worker)
		__field(u64, cause)
		__field(pid_t, scheduler)
	),

	TP_fast_assign(
		__entry->worker = worker;
		__entry->cause = cause;
		__entry->scheduler = scheduler;
	),

	TP_printk("worker=%#llx cause=%llu(%s) scheduler=%d", __entry->worker,
		  __entry->cause & ~UMS_CAUSE_FAULT,
		  __entry->cause == UMS_CAUSE_FAULT ? "fault" : "syscall",
		  __entry->scheduler)
);

TRACE_EVENT(ums_upcall,

	TP_PROTO(u64 reason, u64 worker, u64 detail),

	TP_ARGS(reason, worker, detail),

	TP_STRUCT__entry(
		__field(u64, reason)
		__field(u64, worker)
		__field(u64, detail)
	),

	TP_fast_assign(
		__entry->reason = reason;
		__entry->worker = worker;
		__entry->detail = detail;
	),

	TP_printk("reason=%s worker=%#llx detail=%#llx",
		  ums_show_reason(__entry->reason), __entry->worker,
		  __entry->detail)
);

TRACE_EVENT(ums_publish,

	TP_PROTO(u64 worker, u64 position),

	TP_ARGS(worker, position),

	TP_STRUCT__entry(
		__field(u64, worker)
		__field(u64, position)
	),

	TP_fast_assign(
		__entry->worker = worker;
		__entry->position = position;
	),

	TP_printk("worker=%#llx list=%u position=%llu", __entry->worker,
		  UMS_ID_LIST(__entry->worker), __entry->position)
);

TRACE_EVENT(ums_yield,

	TP_PROTO(u64 worker, u64 arg, unsigned int flags),

	TP_ARGS(worker, arg, flags),

	TP_STRUCT__entry(
		__field(u64, worker)
		__field(u64, arg)
		__field(unsigned int, flags)
	),

	TP_fast_assign(
		__entry->worker = worker;
		__entry->arg = arg;
		__entry->flags = flags;
	),

	TP_printk("worker=%#llx arg=%#llx flags=%#x", __entry->worker,
		  __entry->arg, __entry->flags)
);

TRACE_EVENT(ums_preempt,

	TP_PROTO(u64 worker, u64 why),

	TP_ARGS(worker, why),

	TP_STRUCT__entry(
		__field(u64, worker)
		__field(u64, why)
	),

	TP_fast_assign(
		__entry->worker = worker;
		__entry->why = why;
	),

	TP_printk("worker=%#llx why=%s", __entry->worker,
		  ums_show_why(__entry->why))
);

TRACE_EVENT(ums_handoff,

	TP_PROTO(u64 worker, pid_t tid, bool call),

	TP_ARGS(worker, tid, call),

	TP_STRUCT__entry(
		__field(u64, worker)
		__field(pid_t, tid)
		__field(bool, call)
	),

	TP_fast_assign(
		__entry->worker = worker;
		__entry->tid = tid;
		__entry->call = call;
	),

	TP_printk("worker=%#llx tid=%d at=%s", __entry->worker, __entry->tid,
		  __entry->call ? "call" : "exit")
);

TRACE_EVENT(ums_exit,

	TP_PROTO(u64 worker, bool exited, int status),

	TP_ARGS(worker, exited, status),

	TP_STRUCT__entry(
		__field(u64, worker)
		__field(bool, exited)
		__field(int, status)
	),

	TP_fast_assign(
		__entry->worker = worker;
		__entry->exited = exited;
		__entry->status = status;
	),

	TP_printk("worker=%#llx %s status=%#x", __entry->worker,
		  __entry->exited ? "exited" : "detached", __entry->status)
);

#endif /* _TRACE_UMS_H */

/* This part must be outside protection */
#include <trace/define_trace.h>

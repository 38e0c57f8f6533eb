/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR MIT) */
/*
 * User-mode scheduling: the interface between the kernel and the scheduler
 * of an application. Documentation/userspace-api/ums.rst explains it.
 */
#ifndef _UAPI_LINUX_UMS_H
#define _UAPI_LINUX_UMS_H

#include <linux/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a program could tell the difference; features are bits. */
#define UMS_ABI_VERSION		1

/* struct ums_abi::features */
#define UMS_FEATURE_SLICE	(1ULL << 0)	/* ums_execute() takes a slice */
#define UMS_FEATURE_PREEMPT	(1ULL << 1)	/* ums_preempt() */
#define UMS_FEATURE_NO_UPCALL	(1ULL << 2)	/* struct ums_slot::no_upcall */
#define UMS_FEATURE_USER_SWITCH	(1ULL << 3)	/* UMS_WORKER_USER_SWITCH; not on all CPUs */

/*
 * A worker's id names it in its process. It is never 0, and positive as a
 * signed number: bits 0-19 are the slot in its completion list, bits 20-31 the
 * number of that list, and bits 32-62 a serial number, never 0, which counts
 * the workers of the process. So an id comes again only after 2^31 workers, and
 * one that outlived its worker is told from a live one.
 */
#define UMS_ID_SLOT_BITS	20
#define UMS_ID_LIST_BITS	12
#define UMS_ID_SERIAL_BITS	31
#define UMS_ID_SLOT(id)		((__u32)(id) & ((1U << UMS_ID_SLOT_BITS) - 1))
#define UMS_ID_LIST(id)		((__u32)(id) >> UMS_ID_SLOT_BITS)
#define UMS_ID_SERIAL(id)	((__u32)((id) >> 32))

#define UMS_MAX_WORKERS		(1U << UMS_ID_SLOT_BITS)	/* of one list */
#define UMS_MAX_LISTS		(1U << UMS_ID_LIST_BITS)	/* of one process */

/* The first argument of an upcall; see struct ums_scheduler_args::entry. */
enum ums_reason {
	UMS_UPCALL_STARTUP	= 0,	/* detail: ums_scheduler_args::startup */
	UMS_UPCALL_BLOCKED	= 1,	/* detail: the cause, see below */
	UMS_UPCALL_YIELDED	= 2,	/* detail: the argument of ums_yield() */
	UMS_UPCALL_PREEMPTED	= 3,	/* detail: enum ums_preempt_why */
	UMS_UPCALL_EXITED	= 4,	/* detail: status, as of waitpid(2) */
	UMS_UPCALL_DETACHED	= 5,	/* detail: 0; now an ordinary thread */
};

/*
 * Why a worker blocked: the number of the system call in which it sleeps, or
 * this when it sleeps for an exception (a page fault above all).
 */
#define UMS_CAUSE_FAULT		(1ULL << 32)

enum ums_preempt_why {
	UMS_PREEMPT_ASKED	= 1,	/* by ums_preempt() */
	UMS_PREEMPT_SLICE	= 2,	/* its time slice ended */
	UMS_PREEMPT_SIGNAL	= 3,	/* its scheduler's thread got a signal */
};

/* What the kernel says of a worker: only the kernel changes it. */
enum ums_state {
	UMS_STATE_NONE		= 0,	/* the slot is free, or not a worker */
	UMS_STATE_RUNNING	= 1,	/* a scheduler runs it */
	UMS_STATE_BLOCKED	= 2,	/* sleeps, or goes on, in the kernel */
	UMS_STATE_READY		= 3,	/* ums_execute() will run it */
	UMS_STATE_EMPTY		= 4,	/* its context is live elsewhere, or in user memory */
	UMS_STATE_EXITED	= 5,	/* has ended */
};

/*
 * The pages of a completion list, as mmap(2) of its file descriptor at offset
 * 0 gives them: this header, the ring and the slots. One writer per word: the
 * kernel writes all of the first cache line, consumers @head. The kernel never
 * trusts what it reads here; nonsense hurts only the process that wrote it.
 *
 * To take a worker: h = load-acquire of head; t = load-acquire of tail; if
 * h == t, the list is empty; id = ring[h & ring_mask]; compare-exchange head
 * from h to h + 1; if that fails, start again. To take n <= t - h at once, read
 * n and add n.
 */
struct ums_list_header {
	__u64 tail;		/* workers published so far */
	__u32 ring_mask;	/* places in the ring, less one */
	__u32 max_workers;
	__u32 list_nr;
	__u32 closed;		/* not 0: the list was closed */
	__u64 __reserved0[5];

	__u64 head;		/* workers taken so far */
	__u64 __reserved1[7];
};

/* struct ums_slot::attention: the kernel asks the worker to enter it soon */
#define UMS_ATTN_PREEMPT	(1U << 0)	/* preemption waits for no_upcall == 0 */
#define UMS_ATTN_SIGNAL		(1U << 1)	/* its thread, EMPTY, has got a signal */

/*
 * One worker, for all to see. The first cache line is the kernel's: a copy for
 * information, from which it reads nothing back. The second belongs to the
 * application. A worker keeps its slot until it has ended or detached.
 */
struct ums_slot {
	__u64 id;		/* 0: never used. Kept when the worker ends */
	__u32 state;		/* enum ums_state */
	__u32 tid;
	__u64 cause;		/* of the last block */
	__u32 scheduler;	/* tid of the scheduler that runs it, or 0 */
	__s32 exit_status;	/* once EXITED, as of waitpid(2) */
	__u32 attention;	/* UMS_ATTN_* */
	__u32 __reserved0;
	__u64 executes;		/* how often it was executed */
	__u64 blocks;		/* how often that ended with BLOCKED */
	__u64 __reserved1;

	__u64 user_data;	/* the kernel only sets it: on enter, by ums_set() */
	__u32 no_upcall;	/* not 0: blocking makes no upcall, preemption waits */
	__u32 __reserved2;
	__u64 context[6];	/* the application's: 0 for a new worker, and at its end */
};

/* ums_create(): make a completion list. */
struct ums_create_args {
	__u64 flags;		/* in: must be 0 */
	__u32 max_workers;	/* in: 1 to UMS_MAX_WORKERS */
	__u32 list_nr;		/* out: as in the ids of its workers */
	__u64 mmap_size;	/* out: how much to mmap */
	__u64 ring_offset;	/* out: __u64 ids[ring_mask + 1], in those pages */
	__u64 slots_offset;	/* out: struct ums_slot slots[max_workers] */
};

#define UMS_CREATE_ARGS_SIZE_VER0	40

/*
 * UMS_WORKER_USER_SWITCH, UMS_SCHEDULER_USER_SWITCH: the program may switch from and to
 * the context of this thread in user mode, registers and FS base (the thread pointer)
 * together. The FS base at the time of the call names the thread from then on. A context
 * that enters the kernel elsewhere, by a system call or a page fault say, continues on its
 * own thread. That must be EMPTY then, or the process gets SIGSEGV; so before it resumes a
 * context in user mode, the program has to see that state in its slot, or be on its thread.
 */
#define UMS_WORKER_USER_SWITCH		(1ULL << 0)
#define UMS_SCHEDULER_USER_SWITCH	(1ULL << 0)

/* ums_worker_enter(): the calling thread becomes a worker. */
struct ums_worker_args {
	__u64 flags;		/* UMS_WORKER_* */
	__u64 user_data;	/* put into its slot before it is published */
};

#define UMS_WORKER_ARGS_SIZE_VER0	16

/*
 * ums_scheduler_enter(): the calling thread becomes a scheduler. From then on
 * an upcall starts @entry, with the registers and the stack of a function that
 *
 *	void entry(__u64 reason, __u64 worker, __u64 detail,
 *		   __u64 unspecified, __u64 arg);
 *
 * describes, with the floating-point state of a new process, and with all
 * other general registers 0 but R11, which is unspecified. It must not return.
 * (@arg is fifth since SYSRET destroys R11 and RCX, the register of the fourth.)
 */
struct ums_scheduler_args {
	__u64 flags;		/* UMS_SCHEDULER_* */
	__u64 entry;		/* address of the entry point */
	__u64 stack;		/* lowest address of the stack for upcalls */
	__u64 stack_size;	/* its size, at least UMS_MIN_STACK */
	__u64 arg;		/* for every upcall */
	__u64 startup;		/* detail of the STARTUP upcall */
};

#define UMS_SCHEDULER_ARGS_SIZE_VER0	48
#define UMS_MIN_STACK			4096

/* ums_yield() flags */
#define UMS_YIELD_PUBLISH	(1U << 0)	/* put it on its list, too */

/* ums_wait() flags */
#define UMS_WAIT_ABSTIME	(1U << 0)	/* a point of CLOCK_MONOTONIC */

/* ums_query(): what @which selects decides what @id is and what is returned. */
#define UMS_QUERY_ABI		0	/* id 0;            struct ums_abi */
#define UMS_QUERY_WORKER	1	/* id of a worker;  struct ums_info */
#define UMS_QUERY_THREAD	2	/* tid, 0: caller;  struct ums_info */

struct ums_abi {
	__u32 version;		/* UMS_ABI_VERSION */
	__u32 disabled;		/* not 0: kernel.ums_disabled refuses the caller */
	__u64 features;		/* UMS_FEATURE_* */
	__u32 max_workers;
	__u32 max_lists;
};

#define UMS_ABI_SIZE_VER0		24

enum ums_role {
	UMS_ROLE_NONE		= 0,
	UMS_ROLE_WORKER		= 1,
	UMS_ROLE_SCHEDULER	= 2,
};

/* Times are nanoseconds, and whole states: the present one counts at its end. */
struct ums_info {
	__u32 role;		/* enum ums_role */
	__u32 state;		/* worker: enum ums_state */
	__u32 tid;
	__u32 list_nr;		/* worker: its list */
	__u64 worker;		/* worker: its id; scheduler: whom it runs, or 0 */
	__u32 scheduler;	/* worker: tid of the scheduler that runs it, or 0 */
	__s32 exit_status;	/* worker: once EXITED */
	__u64 cause;		/* worker: of the last block */
	__u64 user_data;	/* worker: from its slot */
	__u64 executes;		/* worker: was executed; scheduler: has executed */
	__u64 blocks_syscall;	/* BLOCKED in a system call, and ... */
	__u64 blocks_fault;	/* ... for an exception */
	__u64 yields;
	__u64 preemptions;
	__u64 publishes;	/* worker: was put on its list */
	__u64 upcalls;		/* scheduler: received */
	__u64 running_ns;	/* worker: RUNNING; scheduler: it ran workers */
	__u64 blocked_ns;	/* worker: BLOCKED */
	__u64 ready_ns;		/* worker: READY */
	__u64 idle_ns;		/* scheduler: slept in ums_wait() */
	__u64 empty_ns;		/* worker: EMPTY */
	__u64 handoffs;		/* its context came home from another thread, and ... */
	__u64 in_place;		/* ... went on with a system call at once */
};

#define UMS_INFO_SIZE_VER0		136
#define UMS_INFO_SIZE_VER1		160	/* empty_ns, handoffs, in_place */

/* ums_set() */
#define UMS_SET_USER_DATA	1	/* id of a worker; value: its user_data */

#ifdef __cplusplus
}
#endif

#endif /* _UAPI_LINUX_UMS_H */

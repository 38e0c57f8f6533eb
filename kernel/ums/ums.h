/* SPDX-License-Identifier: GPL-2.0 */
/*
 * User-mode scheduling: what its own files share.
 *
 * Objects and their owners
 *
 *   ums_process	The lists of a thread group. signal_struct, each list and each
 *		scheduler hold a reference.
 *   ums_list	A completion list. Its file and each of its workers hold a
 *		reference, and a waiter while it sleeps. Shut down when the
 *		process closes its last descriptor, at exec, or at the latest
 *		when the file goes.
 *   ums_worker	Owned by its thread (task_struct::ums). Others reach it
 *		through ums_list::entries or ums_scheduler::worker, inside an
 *		RCU read section, and may rely on nothing but what they find
 *		under ums_worker::lock.
 *   ums_scheduler	Owned by its thread. Others reach it through
 *		ums_worker::sched, under that worker's lock, and may go on to
 *		use it and its task to the end of the RCU read section.
 *
 * Locks
 *
 *   ums_worker::lock (raw, irqs off)	who runs the worker and its state.
 *		Nests inside that of a worker at a lower address, in a hand-off,
 *		and inside nothing else of ours; p->pi_lock nests inside it
 *		(wake-ups). Taken by the hook in schedule(), by the slice timer
 *		in hard interrupt context, and by system calls.
 *   ums_list::lock (raw, irqs off)	ring, slots, free slots and waiters. Nests
 *		inside a worker's lock in one place, ums_worker_woken(), and is
 *		otherwise not held together with one.
 *   ums_list::poll.lock		not held or taken under either.
 *   ums_process::lock (raw)	which schedulers there are. Nests with nothing.
 *
 *   Whoever wakes a worker may come to both locks (ums_worker_woken()), with
 *   locks of its own held and in any context. So neither lock is held when
 *   somebody is woken, except for a worker that has parked, which does not lead
 *   there; and ums_worker_woken() leaves pollers to an irq_work.
 *
 * The hand-over of a processor
 *
 *   A scheduler that executes a worker sleeps in ums_execute() until an event
 *   has been posted to it. Under the worker's lock, @sched links the two. Who
 *   sets @sched to NULL has detached the worker and is the only one who may,
 *   and must, post the event; so there is exactly one for each execution. The
 *   scheduler itself detaches the worker without an event when it dies.
 *
 *   Only the worker's own thread takes it out of RUNNING (its scheduler's
 *   death apart); only ums_execute() takes it out of READY, and only a carrier, by
 *   a hand-off, out of EMPTY. It is published by
 *   its own thread, or, while that is held (see hold.c), by who wakes it.
 */
#ifndef _KERNEL_UMS_H
#define _KERNEL_UMS_H

#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/irq_work.h>
#include <linux/nospec.h>
#include <linux/refcount.h>
#include <linux/rhashtable.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>
#include <linux/signal_types.h>
#include <linux/spinlock.h>
#include <linux/uprobes.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <linux/ums.h>
#include <uapi/linux/ums.h>

/* UMS_FEATURE_USER_SWITCH: where the hardware has it, see arch_ums_can_switch(). */
#define UMS_FEATURES	(UMS_FEATURE_SLICE | UMS_FEATURE_PREEMPT | \
			 UMS_FEATURE_NO_UPCALL)

struct ums_process {
	refcount_t		refs;
	atomic_t		serial;		/* of the newest worker */
	u32			next_nr;	/* for the next list */
	struct xarray		lists;		/* by number; shut down ones are out */
	struct rhashtable	homes;		/* by thread pointer */
	struct work_struct	free;

	raw_spinlock_t		lock;
	/* protected by @lock: */
	struct list_head	schedulers;	/* also walked under RCU */
	bool			deserted;	/* the last one died; also read without */
};

/* What the kernel itself remembers of a slot; user space cannot write it. */
struct ums_entry {
	struct ums_worker __rcu	*worker;
	u32			serial;		/* of the last worker; 0: never used */
	u32			next_free;
	int			exit_status;
	bool			exited;		/* the last worker ended as a thread */
};

struct ums_list {
	refcount_t		refs;
	u32			nr;
	u32			max_workers;
	u32			ring_mask;
	struct ums_process	*proc;
	fl_owner_t		files;		/* creator's descriptor table; compared only */

	/* The shared pages, and a size that covers them. */
	struct ums_list_header	*header;
	u64			*ring;
	struct ums_slot		*slots;
	size_t			size;

	wait_queue_head_t	poll;
	struct irq_work		poll_work;	/* wakes pollers from any context */

	raw_spinlock_t		lock;
	/* protected by @lock: */
	u64			tail;		/* also read without; see ums_list_ready() */
	struct list_head	waiters;	/* in ums_wait(), the longest first */
	bool			closed;		/* also read without; never reset */
	u32			fresh;		/* slots from here on were never used */
	u32			free_first;	/* free slots, oldest first, linked by */
	u32			free_last;	/* their next_free; UMS_NO_SLOT: none */
	struct ums_entry	*entries;

	struct rcu_head		rcu;
};

#define UMS_NO_SLOT	(~0U)

/* A signal for an exception, on its way to the thread whose context it is. */
struct ums_signal {
	bool			set;
	bool			fatal;
	struct kernel_siginfo	info;
};

/*
 * What a thread has whose context may leave it, a worker's or a scheduler's; see
 * handoff.c. Owned by it, with its role. Others find it by the thread pointer, inside
 * an RCU read section.
 */
struct ums_home {
	struct rhash_head	node;
	unsigned long		thread_pointer;
	struct ums_process	*proc;
	struct ums_task		*owner;
	struct task_struct	*task;

	/* By its own thread only: */
	bool			gone;		/* another thread makes the call */
	bool			taken;		/* its registers came in this call */
	bool			condemned;	/* had a thread pointer of nobody */
	bool			masked;		/* vacant, takes no signals; */
	sigset_t		blocked;	/* and what is blocked else */
	struct ums_signal	raised;		/* not its own, to be handed off */
	struct rseq __user	*rseq;		/* while it is vacant */
	u64			in_place;	/* calls; also read without */

	/*
	 * By a carrier, while the thread is vacant, under the lock of the worker that
	 * it belongs to, or that its scheduler runs: registers that have come home.
	 */
	bool			full;		/* release: they are complete */
	bool			at_call;	/* about to make a system call */
	struct ums_signal	signal;
	struct arch_ums_context	context;
	u64			handoffs;	/* also read without */

	struct rcu_head		rcu;
};

/* Have the registers of the current thread come home? It must be vacant. */
static inline bool ums_arrived(struct ums_home *home)
{
	/* Pairs with the release in ums_deposit(). */
	return smp_load_acquire(&home->full);
}

/* ums_worker::position when it is on no list, and while it is being put there */
#define UMS_POS_NONE		0
#define UMS_POS_PUBLISHING	(~0ULL)

struct ums_worker {
	struct ums_task		base;
	struct task_struct	*task;
	bool			in_sleep;	/* sleeps as a worker; only its own thread's */
	struct ums_list		*list;
	struct ums_slot		*slot;		/* shared: written, never read back */
	u64			id;

	raw_spinlock_t		lock;
	/* protected by @lock: */
	struct ums_scheduler	*sched;		/* who runs it; also read without */
	enum ums_state		state;		/* likewise */
	unsigned int		preempt;	/* why it is to stop, BIT(); likewise */
	u32			attention;	/* as in its slot */
	bool			parked;		/* READY, sleeps until it is executed */
	bool			held;		/* BLOCKED; parked as soon as it is woken */
	u64			since;		/* start of this state, local_clock() */
	u64			cause;
	u64			time[UMS_STATE_EXITED + 1];
	u64			executes;
	u64			blocks_syscall;
	u64			blocks_fault;
	u64			yields;
	u64			preemptions;
	u64			publishes;
	int			exit_status;	/* once EXITED */

	/*
	 * One more than its place in the ring when it was last published; or
	 * UMS_POS_*. Written by who publishes it before the ring's tail moves,
	 * read by ums_execute() of a program that has seen the tail.
	 */
	u64			position;

	struct rcu_head		rcu;
};

/* A thread in ums_wait(). Who takes it from the list has to wake it. */
struct ums_waiter {
	struct list_head	node;
	struct task_struct	*task;
};

/* A scheduler's own registers have come home: no upcall, and of the kernel only. */
#define UMS_RESUMED	((enum ums_reason)(UMS_UPCALL_DETACHED + 1))

struct ums_event {
	enum ums_reason		reason;
	u64			worker;
	u64			detail;
	u64			time;		/* local_clock() */
};

struct ums_scheduler {
	struct ums_task		base;
	struct list_head	node;		/* in its process */
	struct task_struct	*task;
	struct ums_process	*proc;
	unsigned long		entry;
	unsigned long		stack;		/* as an upcall starts on it */
	u64			arg;

	/* Set by itself, cleared by whoever detaches the worker; see above. */
	struct ums_worker	*worker;

	u64			executing;	/* its id, until the upcall; set by itself */
	u64			start;		/* of that, local_clock() */
	struct ums_event	event;
	bool			posted;		/* release: @event is complete */

	struct hrtimer		slice;
	bool			sliced;		/* @slice was started for this execution */

	/* written by its own thread only; ums_query() reads them at any time */
	u64			executes;
	u64			upcalls;
	u64			blocks_syscall;
	u64			blocks_fault;
	u64			yields;
	u64			preemptions;
	u64			running_ns;
	u64			idle_ns;

	struct rcu_head		rcu;
};

static inline struct ums_worker *ums_worker_of(struct task_struct *tsk)
{
	struct ums_task *ums = READ_ONCE(tsk->ums);

	if (!ums || ums->role != UMS_ROLE_WORKER)
		return NULL;
	return container_of(ums, struct ums_worker, base);
}

static inline struct ums_scheduler *ums_scheduler_of(struct task_struct *tsk)
{
	struct ums_task *ums = READ_ONCE(tsk->ums);

	if (!ums || ums->role != UMS_ROLE_SCHEDULER)
		return NULL;
	return container_of(ums, struct ums_scheduler, base);
}

/* Of counters that only one thread at a time writes, and others read. */
static inline void ums_count(u64 *counter, u64 n)
{
	WRITE_ONCE(*counter, *counter + n);
}

/* Is the current thread about to execute an instruction out of line? */
static inline bool ums_in_uprobe(void)
{
#ifdef CONFIG_UPROBES
	return current->utask && current->utask->active_uprobe;
#else
	return false;
#endif
}

/* delay.c: called where another CPU could come between */
void __ums_delay(void);

static inline void ums_delay(void)
{
	if (IS_ENABLED(CONFIG_UMS_DELAY))
		__ums_delay();
}

/* process.c */
struct ums_process *ums_process_get(void);
void ums_process_put(struct ums_process *proc);
void ums_process_enter(struct ums_scheduler *sched);
void ums_process_leave(struct ums_scheduler *sched, bool died);
void ums_kick_carriers(struct ums_process *proc);
struct ums_worker *ums_worker_find(u64 id);
struct ums_list *ums_list_find(u64 id);

/*
 * The slot that a worker's id names, of the list that ums_list_find() has found for
 * it; never one behind the last, not even in a branch that the CPU mispredicts.
 */
static inline u32 ums_slot_nr(struct ums_list *list, u64 id)
{
	return array_index_nospec(UMS_ID_SLOT(id), list->max_workers);
}

/* list.c */
struct ums_list *ums_list_from_fd(int fd);
void ums_list_put(struct ums_list *list);
void ums_list_shutdown(struct ums_list *list);
void ums_list_wake_all(struct ums_list *list);
bool ums_list_ready(struct ums_list *list);
int ums_list_add(struct ums_list *list, struct ums_worker *worker, u64 user_data);
void ums_list_remove(struct ums_list *list, u64 id, bool exited, int status);
struct task_struct *ums_list_publish(struct ums_worker *worker);
struct task_struct *ums_list_publish_atomic(struct ums_worker *worker);

/* worker.c */
void ums_worker_set_state(struct ums_worker *worker, enum ums_state state, u64 now);
struct ums_scheduler *ums_worker_leave(struct ums_worker *worker, unsigned int keep);
struct ums_scheduler *ums_worker_cut(struct ums_worker *worker);
struct ums_scheduler *ums_worker_block(struct ums_worker *worker, u64 cause, u64 now);
void ums_worker_ready(struct ums_worker *worker, u64 position, u64 now);
bool ums_worker_is_silent(struct ums_worker *worker);
void ums_worker_ask(struct ums_worker *worker, enum ums_preempt_why why);
bool ums_worker_orphan(struct ums_worker *worker);
void ums_worker_sleep(struct ums_worker *worker, struct task_struct *next)
	__releases(&worker->lock) __acquires(&worker->lock);
struct task_struct *ums_worker_arrive(struct ums_worker *worker, struct ums_scheduler *sched,
				      unsigned int preempt, u64 now);
void ums_worker_attention(struct ums_worker *worker, u32 attention);
void ums_worker_exit(struct ums_worker *worker, bool exited, int status);

/* hold.c */
bool ums_may_hold(struct task_struct *tsk);
bool ums_worker_hold(struct ums_worker *worker, struct task_struct *next)
	__releases(&worker->lock);

/* scheduler.c */
void ums_set_event(struct ums_scheduler *sched, enum ums_reason reason, u64 worker,
		   u64 detail, u64 now);
void ums_post(struct ums_scheduler *sched, enum ums_reason reason, u64 worker,
	      u64 detail, u64 now);
void ums_scheduler_end(struct ums_scheduler *sched, bool died);
bool ums_sleeps_elsewhere(struct ums_worker *worker);
bool ums_is_frozen(struct ums_worker *worker);
void ums_scheduler_yield_to(struct ums_scheduler *sched, struct ums_worker *worker, u64 now)
	__releases(&worker->lock);
bool ums_scheduler_wait(struct ums_scheduler *sched, bool in_place);

/* handoff.c */
int ums_homes_init(struct ums_process *proc);
void ums_homes_destroy(struct ums_process *proc);
int ums_home_open(struct ums_task *ums, struct ums_process *proc);
void ums_home_begin(struct ums_task *ums);
void ums_home_close(struct ums_task *ums);
void ums_vacate(struct ums_home *home);
void ums_occupy(struct ums_home *home);
bool ums_take(struct ums_home *home, bool in_place);

/* authority.c */
bool __ums_may_act_on(struct task_struct *tsk);

static inline bool ums_same_filters(struct task_struct *tsk)
{
#ifdef CONFIG_SECCOMP_FILTER
	return READ_ONCE(tsk->seccomp.mode) == current->seccomp.mode &&
	       READ_ONCE(tsk->seccomp.filter) == current->seccomp.filter;
#else
	return true;
#endif
}

/*
 * May the current thread act on @tsk, a thread of its process? Inside an RCU read
 * section, which keeps that, and with no lock of ours held.
 */
static inline bool ums_may_act_on(struct task_struct *tsk)
{
	return likely(rcu_access_pointer(tsk->real_cred) == current_cred() &&
		      ums_same_filters(tsk)) || __ums_may_act_on(tsk);
}

/* query.c */
void ums_task_info(struct task_struct *tsk, struct ums_info *info);

/* sysctl.c */
bool ums_allowed(void);
bool ums_would_allow(void);

#endif /* _KERNEL_UMS_H */

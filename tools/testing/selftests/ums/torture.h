/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of the torture program share; torture.c says what it does.
 *
 *   torture.c		options, generations, results
 *   torture_watch.c	the parent: watches a generation, reports what it finds
 *   torture_run.c	a generation: sets up, ends in one of several ways, checks
 *   torture_ledger.c	the books: what each worker must and must not be
 *   torture_sched.c	schedulers
 *   torture_worker.c	workers: how they live and what checks them
 *   torture_acts.c	what workers do
 *   torture_outside.c	threads that are neither
 */
#ifndef UMS_TORTURE_H
#define UMS_TORTURE_H

#define UMS_TEST_HELPERS
#include "ums_test.h"

#include "kselftest.h"

#define MAX_SEATS	4096
#define MAX_SCHEDS	64
#define MAX_LISTS	2
#define MAX_SYSCALL	576
#define HISTORY		48

/* Exit statuses of a generation that ended as it was meant to, or not. */
#define STATUS_EXIT	42
#define STATUS_EXEC	43
#define STATUS_VIOLATED	70

/* How a generation ends. */
enum what { ORDERLY, CLOSE, EXIT, EXEC, SEGV, KILL };
enum who { BY_WORKER, BY_SCHED, BY_OTHER, BY_ANY };

struct end {
	const char *name;
	enum what what;
	enum who who;
};

#define ENDS 13
extern const struct end ends[ENDS];

/* What can be left out, by option or by the seed. */
enum act {
	/* of workers */
	A_YIELD, A_PUBLISH, A_SWITCH, A_DIRECT, A_SPIN, A_NAP, A_PIPE, A_ECHO, A_SOCK, A_EVENT,
	A_POLL, A_FUTEX, A_HALL, A_MUTEX, A_PI, A_SIGWAIT, A_FAULT, A_FILE,
	A_REGION, A_AFFINITY, A_POLICY, A_SIGNAL, A_FORK, A_VFORK, A_WAIT,
	A_WRONG, A_NUDGE, A_DETACH, A_EXIT,
	/* of schedulers */
	A_S_LEAVE, A_S_AFFINITY, A_S_NUDGE, A_S_NAP, A_S_FORK, A_S_SIGNAL,
	A_S_WRONG, A_S_SLICE, A_S_MANY, A_S_POOL, A_S_POLL, A_S_TIMEOUT,
	A_S_QUERY,
	/* of all others */
	A_O_PREEMPT, A_O_QUERY, A_O_SET, A_O_SIGNAL, A_O_WRONG, A_O_TIMER,
	A_O_STOP, A_O_PROC,
	NACTS
};

#define WORKER_ACTS	A_S_LEAVE

extern const char * const act_names[NACTS];

struct options {
	__u64 seed;
	unsigned int seconds;
	unsigned int workers;
	unsigned int schedulers;
	unsigned int factor;		/* how much slower than usual all is */
	int only;			/* this generation, again and again; or -1 */
	int end;			/* this end, always; or -1 */
	__u64 acts;			/* bits by enum act */
	char more[512];			/* -e, -a and -A, as they were given */
	bool verbose;
};

extern struct options opt;

/* What the seed makes of a generation. */
struct generation {
	unsigned int nr;
	__u64 seed;
	const struct end *end;
	unsigned int ms;		/* until its end begins */
	bool early;			/* which may be in the middle of its beginning */
	unsigned int seats, scheds, lists;
	__u64 acts;
	bool dup_close;			/* the list is closed by dup2() */
	char text[160];
};

extern struct generation gen;

/* ---- the books: memory that parent and child share */

enum count {
	N_EXECUTES, N_RESUMES, N_PUBLISHES, N_YIELDS, N_SWITCHES, N_DIRECT, N_PREEMPTIONS,
	N_FAULTS, N_EXITS,
	N_DETACHES, N_SIGNALS, N_FORKS, N_QUERIES, N_CHECKS, N_STOPS, N_KILLED,
	N_LATE, NCOUNTS
};

/* What happened to a worker. */
enum happening {
	H_ENTER, H_POP, H_EXECUTE, H_EVENT, H_ACT, H_DONE, H_HANDLER, H_KEEP, H_GIVE,
	H_REGION, H_LEAVE, H_FAILED, H_DROP, H_RESUME, H_SWITCH
};

struct happened {
	__u64 time;
	__u32 what;		/* enum happening */
	__u32 sched;
	__u64 a, b;
};

/*
 * One worker, from ums_worker_enter() to its end. What is under @lock is
 * written by schedulers only: a worker never takes a lock that they take.
 */
struct ledger {
	int used;
	int lock;
	__u32 nr;		/* low half of its user_data */
	__u32 seat;
	__u32 list;
	__u64 id;		/* 0 until it is popped first */

	/* under @lock: */
	__u32 pops;
	__u32 executes;
	__u32 events;		/* upcalls that schedulers have looked at */
	__u32 publishing;	/* those that promise a publication */
	__u32 blocks_syscall, blocks_fault, yields, preemptions;
	__u32 resumes, switches;	/* those executions and yields the kernel knows not of */
	__u32 pops_at;		/* when it was executed last */
	int holder;		/* scheduler + 1 that may execute it; HOLDER_POOL */
	bool ended;
	bool saved;		/* in user memory: to be resumed there */

	/* Who runs it: scheduler + 1, and the number of the execution. */
	__u64 runner;

	/* Written by the worker: */
	__u64 yield_arg;	/* of the yield that it is in */
	__u32 yield_seq;
	void *sp;		/* of its context, while that is saved, */
	unsigned long tp;	/* and its thread pointer */
	int leaving;		/* UMS_UPCALL_EXITED or _DETACHED, which may come */

	__u32 nhistory;
	struct happened history[HISTORY];
};

#define HOLDER_POOL	(-1)

struct shared {
	/* of the whole program */
	__u64 counts[NCOUNTS];
	__u64 blocks[MAX_SYSCALL];	/* by system call */

	/* of this generation, from here on */
	int phase;
	int failed;			/* 1: being written, 2: complete */
	struct ledger *failed_ledger;
	char text[1024];
	int dump;			/* 1: asked for, 2: there */
	char dump_text[8192];
	int closing[MAX_LISTS];		/* set before the list is closed */
	struct {
		__u64 cur;		/* whom it runs: ledger's nr, execution */
		__u64 since;
		pid_t tid;
	} scheds[MAX_SCHEDS];
	__u32 nledgers;
	struct ledger ledgers[];
};

extern struct shared *sh;

static inline void count(enum count n)
{
	__atomic_fetch_add(&sh->counts[n], 1, __ATOMIC_RELAXED);
}

/* ---- chance */

static inline __u64 mix(__u64 a, __u64 b)
{
	__u64 x = a + (b + 1) * 0x9e3779b97f4a7c15ULL;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static inline __u64 rnd(__u64 *state)
{
	return mix((*state)++, 0);
}

static inline unsigned int rnd_below(__u64 *state, unsigned int n)
{
	return (rnd(state) >> 32) % n;
}

static inline bool one_in(__u64 *state, unsigned int n)
{
	return !rnd_below(state, n);
}

/* Each power of two from @low to @high is as likely as any other. */
static inline __u64 rnd_log(__u64 *state, __u64 low, __u64 high)
{
	unsigned int steps = 64 - __builtin_clzll(high / low);
	__u64 v = low << rnd_below(state, steps);

	return v + rnd(state) % v;
}

/* ---- the child */

/* The calling thread. */
struct self {
	__u64 rng;
	struct seat *seat;
	struct ledger *ledger;	/* as long as it is a worker */
	struct scheduler *sched;
	int in_region;
	bool between;		/* itself and another worker: it is as good as gone */
	unsigned int handled;	/* signals */
};

extern __thread struct self self;

/* Where a worker's thread lives; a new one takes the seat of one that ended. */
enum seat_state { SEAT_EMPTY, SEAT_LIVE, SEAT_ENDING };

struct seat {
	unsigned int nr;
	int state;
	unsigned int threads;	/* that have lived here */
	pthread_t thread;
	pid_t tid;
	struct ledger *ledger;	/* for others, who take from it an id at most */
	int pipe[2];
	int sock[2];
	int event;
	__u32 futex;
	unsigned int waits;	/* for which nudge, as far as it said */
	char *page;		/* watched by userfaultfd */
	char *spare;		/* SPARE bytes: stack of handlers or of a child */
	char *map;		/* of the three */
};

#define SPARE 16384

#define QUEUE 16

struct scheduler {
	unsigned int nr;
	pthread_t thread;
	__u64 rng;
	struct sched s;
	/*
	 * The execution. Workers that switch to each other write all this in its place: it
	 * does not run meanwhile.
	 */
	struct ledger *current;
	__u32 execution;
	bool resumed;		/* it has not called the kernel for this one, */
	bool switched;		/* which did not end by an upcall */
	struct {
		__u64 executes, blocks_syscall, blocks_fault, yields, preemptions;
	} sum;			/* since it entered */
	struct ledger *queue[QUEUE];
	unsigned int queued;
	int left;
};

/* The rest of what the threads of a generation share. */
struct world {
	struct list lists[MAX_LISTS];
	__u64 popped[MAX_LISTS];
	struct seat *seats;
	struct scheduler *scheds;
	struct ledger *pool[16];	/* yielded: for any scheduler */
	int active;			/* seats that are not empty */
	int end_now;			/* somebody is to end the process */
	int end_taken;
	int close_now, close_taken;
	int stop;			/* workers are to end */
	int no_more;			/* and no new one will come */
	int all_gone;			/* they have: schedulers are to end */
	int quit;			/* all others as well */
	int echo[2];
	int file, exe;
	int uffd;			/* or -1 */
	bool uffd_full;			/* also for faults in the kernel */
	bool can_switch;		/* in user mode, says the kernel */
	__u32 hall;			/* a futex for all */
	int in_region[MAX_LISTS];
};

extern struct world w;

static inline bool allowed(enum act act)
{
	return gen.acts >> act & 1;
}

/* Do threads switch in user mode, now and then? */
static inline bool switching(void)
{
	return w.can_switch && allowed(A_SWITCH);
}

static inline bool closing(unsigned int list)
{
	return LOAD(sh->closing[list]);
}

/* torture_ledger.c */
__noreturn __printf(2, 3) void violated(struct ledger *l, const char *fmt, ...);
__noreturn void violated_info(struct ledger *l, const char *what,
			      const struct ums_info *info);
void happened(struct ledger *l, enum happening what, __u32 sched, __u64 a, __u64 b);
void ledgers_open(void);
struct ledger *ledger_new(unsigned int seat, unsigned int list);
struct ledger *ledger_pop(struct scheduler *s, unsigned int list, __u64 id);
void ledger_hold(struct scheduler *s, struct ledger *l);
void ledger_give(struct scheduler *s, struct ledger *l);
__u32 ledger_execute(struct scheduler *s, struct ledger *l, __u64 slice);
void ledger_resume(struct scheduler *s, struct ledger *l);
bool ledger_event(struct scheduler *s, struct ledger *l, __u32 nr, __u64 slice);
void ledger_drop(struct scheduler *s, struct ledger *l);
void ledger_ask_kernel(struct ledger *l);
void ledger_check_running(struct ledger *l);
void ledgers_check_end(void);

/* torture_sched.c */
void *sched_thread(void *arg);
bool resumable(struct scheduler *s, struct ledger *l);

/* torture_worker.c */
void worker_world(void);
void *worker_thread(void *arg);
void worker_yield(bool publish);
void worker_switch(void);
void worker_switch_direct(void);
void handle_signals(void);

/* torture_acts.c: what a worker does; and what it is to do then */
enum next { GO_ON, DETACH, LEAVE };
enum next act(enum act act);
void acts_check_end(void);
void nudge(unsigned int seat, __u64 *rng);
void nudge_all(void);
void fork_and_wait(struct ledger *l);
void spin_ns(__u64 ns);

/* torture_outside.c */
void outside_start(void);
void outside_join(void);
pid_t random_tid(__u64 *rng);
int send_signal(pid_t tid, int sig);
extern const int signals[3];

/* torture_run.c */
__noreturn void run_generation(void);
void maybe_end(enum who who);

/* torture_watch.c: true when all was as it should be */
bool watch_generation(void);
void print_counts(const char *title);

#endif /* UMS_TORTURE_H */

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of the fuzzer share; fuzz.c says what it does.
 *
 *   fuzz.c		options, the supervisor of the processes, results
 *   fuzz_process.c	a process: its threads, their loops, signals and upcalls
 *   fuzz_calls.c	the calls of user-mode scheduling, with arguments good and bad
 *   fuzz_acts.c	everything else that a thread does
 */
#ifndef UMS_FUZZ_H
#define UMS_FUZZ_H

#define UMS_TEST_HELPERS
#include "ums_test.h"

#define MAX_PROCESSES	64
#define MAX_THREADS	64
#define MAX_LISTS	12
#define MAX_IDS		64
#define MAX_CHILDREN	4

/* Descriptors that each process has, also after exec, and never closes. */
#define FD_SHARED	100	/* struct shared */
#define FD_EXE		101	/* this program */
#define FD_SEND		102	/* lists for other processes */
#define FD_RECEIVE	103	/* lists from other processes */
#define FD_LIMIT	256

#define CALLS		11
#define MAX_ERRNO	134
#define REASONS		6

enum count {
	N_UPCALL,			/* by reason, REASONS of them */
	N_BLOCKED_FAULT = N_UPCALL + REASONS,
	N_ASKED, N_SLICE, N_SIGNAL,	/* PREEMPTED, by its detail */
	N_TAKEN,			/* published workers that were taken */
	N_PASSED,			/* publications told by POLLIN */
	N_BIG,				/* lists of UMS_MAX_WORKERS */
	N_MMAP, N_MMAP_REFUSED, N_FOREIGN, N_REGION, N_ASKED_IN_REGION,
	N_CLOSE, N_SCRIBBLE, N_HANDLER, N_HANDLER_CALL, N_SEGV, N_JUMP,
	N_THREAD, N_THREAD_END, N_FORK, N_VFORK, N_SHARED_VM, N_EXEC, N_TRACED,
	N_UFFD, N_STOPPED, N_ACTS,
	N_OWN_POINTER, N_FORGED, N_NOT_HEEDED, N_LENT, N_LENT_BACK, N_HANDED_OFF,
	/* of the supervisor: */
	N_PROCESS, N_ENDED, N_ENDED_SIGNAL, N_KILLED, N_ORPHAN,
	NCOUNTS
};

/* Memory of the whole program. */
struct shared {
	__u64 count[NCOUNTS];
	__u64 result[CALLS][MAX_ERRNO];	/* by errno, 0: success */
	__u64 slowest_end;		/* ns from SIGKILL to the end */
	int wrong;			/* 1: being written, 2: complete */
	char wrong_text[256];
};

extern struct shared *sh;

static inline void count(enum count n)
{
	__atomic_fetch_add(&sh->count[n], 1, __ATOMIC_RELAXED);
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

/* ---- a process */

/*
 * Threads are made with clone(), share the thread-local variables of the first
 * one, or have none, and call nothing that takes a lock of the C library: a
 * thread may stop at any instruction for good, or go on elsewhere.
 */
static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 asm("r10") = d;
	register long r8 asm("r8") = e;
	register long r9 asm("r9") = f;
	long ret;

	asm volatile("syscall"
		     : "=a"(ret)
		     : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return ret;
}

#define SYS_(nr, a, b, c, d, e, f, ...)					\
	sys6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define SYS(...)	SYS_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)

/* What a thread is to be most of the time. */
enum plan { PLAN_SPAWNER, PLAN_SCRIBBLER, PLAN_SCHEDULER, PLAN_WORKER, PLAN_OTHER };

/*
 * Everything of a thread is in an area of AREA bytes, at a multiple of that, so
 * that it is found from any of its three stacks.
 */
#define AREA		(256 * 1024UL)
#define SCRATCH_AT	0x4000UL	/* a page to be written, and one that is not there */
#define POINTER_AT	0x8000UL	/* to what the thread pointer points, and its rseq area */
#define RSEQ_AT		0x8100UL
#define STACK_AT	0x10000UL
#define STACK_SIZE	0x10000UL
#define UPCALL_AT	0x20000UL
#define UPCALL_SIZE	0x10000UL
#define ALT_AT		0x30000UL
#define ALT_SIZE	0x10000UL
#define MAGIC		0x7a7a5ead7a7a5eadULL
#define PAGE		4096UL

struct thread {
	__u64 magic;
	int tid;		/* cleared by the kernel when it ends; 0: free */
	unsigned int nr;
	enum plan plan;
	enum ums_role role;	/* as far as it knows */
	bool child;		/* of another process, with this memory */
	unsigned int depth;	/* of signal handlers */
	int budget;		/* steps until it ends */
	__u64 rng;
	__u64 id;		/* its own, as a worker */
	__u64 kept;		/* to be executed next */
	unsigned long pointer;	/* its own thread pointer; 0: has that of the first one */
	void *jump[5];
};

/* A completion list, or what is thought to be one. */
struct flist {
	int fd;			/* -1: none */
	bool foreign;		/* of another process */
	bool scribble;		/* random data goes to its pages */
	bool mapped;
	__u32 max_workers;
	__u32 ring_mask;
	__u32 slots_offset;
};

#define WINDOW	(256 * 1024UL)	/* address range for the pages of a list */

/* Pages with a fault in each; see fuzz_process.c. */
enum zoo { Z_RW, Z_NONE, Z_READ, Z_RW2, Z_NONE2, Z_UFFD, Z_FAULT = Z_UFFD + 4, ZOO = Z_FAULT + 4 };

struct process {
	unsigned int slot;
	unsigned int depth;	/* 0: started by the supervisor */
	bool root;
	__u64 seed;
	unsigned int asked;	/* threads, by option */
	unsigned int threads;	/* areas for them */
	char *areas;
	char *windows;
	char *zoo;
	bool can_switch;	/* in user mode, says the kernel */
	bool forges;		/* thread pointers, as often as not its end */
	unsigned long pointer;	/* of the first thread */
	bool big;		/* had a list of UMS_MAX_WORKERS */
	__u64 end_at;		/* when it is to end by itself, ns */
	int ending;		/* how; 0: not yet */
	unsigned int segvs;
	struct flist lists[MAX_LISTS];
	__u64 ids[MAX_IDS];
	pid_t children[MAX_CHILDREN];
	int pipe[2], sock[2], event, epoll, uffd;
	__u32 futex[8];
	__u32 pi;
};

extern struct process p;

static inline unsigned long get_pointer(void)
{
	unsigned long tp;

	asm volatile("rdfsbase %0" : "=r" (tp));
	return tp;
}

static inline void set_pointer(unsigned long tp)
{
	asm volatile("wrfsbase %0" : : "r" (tp) : "memory");
}

static inline struct thread *thread_of(unsigned int nr)
{
	return (struct thread *)(p.areas + nr * AREA);
}

/* What is known of an address in one of its stacks; NULL: not one of ours. */
static inline struct thread *thread_at(void *sp)
{
	struct thread *t = (struct thread *)((unsigned long)sp & ~(AREA - 1));

	if ((char *)t < p.areas || (char *)t >= p.areas + p.threads * AREA)
		return NULL;
	return t->magic == MAGIC ? t : NULL;
}

static inline char *scratch(struct thread *t)
{
	return (char *)t + SCRATCH_AT;
}

static inline char *window(struct flist *l)
{
	return p.windows + (l - p.lists) * WINDOW;
}

static inline struct ums_list_header *header(struct flist *l)
{
	return (struct ums_list_header *)window(l);
}

static inline __u64 *ring(struct flist *l)
{
	return (__u64 *)(window(l) + sizeof(struct ums_list_header));
}

/* A worker's place in the pages, as far as they are mapped. */
static inline struct ums_slot *slot_at(struct flist *l, __u32 nr)
{
	__u64 end = l->slots_offset + (nr + 1ULL) * sizeof(struct ums_slot);

	if (!l->mapped || nr >= l->max_workers || end > WINDOW)
		return NULL;
	return (struct ums_slot *)(window(l) + l->slots_offset) + nr;
}

/* fuzz_process.c */
void process_main(unsigned int slot, __u64 seed, unsigned int depth, unsigned int threads)
	__attribute__((noreturn));
void live(struct thread *t) __attribute__((noreturn));
void leave(struct thread *t) __attribute__((noreturn));
void thread_end(struct thread *t) __attribute__((noreturn));
void child_main(void *arg) __attribute__((noreturn));
void resync(struct thread *t);
struct thread *thread_new(struct thread *by, unsigned long flags, void (*fn)(void *arg));
void upcall(__u64 reason, __u64 worker, __u64 detail, __u64 unspecified,
	    struct thread *t) __attribute__((noreturn));
void wrong(const char *what, long a, long b, long c);

/* fuzz_calls.c */
extern const char * const call_names[CALLS];
struct flist *pick_list(struct thread *t);
int pick_tid(struct thread *t);
__u64 pick_id(struct thread *t);
void *pick_address(struct thread *t);
void note_id(struct thread *t, __u64 id);
__u64 take(struct thread *t, struct flist *l);
__u64 take_any(struct thread *t);
__u64 rescue(struct thread *t);
void list_forget(struct flist *l);
int list_keep(struct thread *t, int fd, __u32 max_workers, bool foreign);
bool list_map(struct flist *l);
void call_worker_enter(struct thread *t, bool valid);
void call_scheduler_enter(struct thread *t, bool valid);
void call_execute(struct thread *t, __u64 id, bool valid);
void call_yield(struct thread *t, bool valid);
void call_wait(struct thread *t, bool valid);
void call_create(struct thread *t, bool valid);
void call_create_big(struct thread *t);
void call_random(struct thread *t);
void act_close(struct thread *t);

/* fuzz_acts.c */
void act(struct thread *t);
void act_block(struct thread *t);
void act_spin(struct thread *t);
void act_fault(struct thread *t);
void act_signal(struct thread *t);
void act_scribble(struct thread *t);
void act_region(struct thread *t);
void act_fork(struct thread *t);
void end_process(struct thread *t) __attribute__((noreturn));
void resolve_faults(struct thread *t);
void nudge(struct thread *t);
void nap(__u64 ns);

#endif /* UMS_FUZZ_H */

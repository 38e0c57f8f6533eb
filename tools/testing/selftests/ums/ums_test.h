/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of user-mode scheduling share: the system calls, completion
 * lists, a scheduler whose upcalls become return values, and worker threads.
 */
#ifndef UMS_TEST_H
#define UMS_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/time_types.h>
#include <linux/ums.h>

#ifdef UMS_TEST_HELPERS
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#else
#include "kselftest_harness.h"
#endif

/*
 * Emulated guests with KASAN are twenty times slower than a machine, so a test
 * waits for a condition, for so long that only a lost wake-up takes longer.
 */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	240
#define LIMIT_S			90
#define NSEC			1000000000ULL
#define MSEC			1000000ULL

/* Fixed here, so that abi_test can compare them with asm/unistd.h. */
#define NR_UMS_CREATE		548
#define NR_UMS_WORKER_ENTER	549
#define NR_UMS_DETACH		550
#define NR_UMS_SCHEDULER_ENTER	551
#define NR_UMS_SCHEDULER_EXIT	552
#define NR_UMS_EXECUTE		553
#define NR_UMS_YIELD		554
#define NR_UMS_WAIT		555
#define NR_UMS_PREEMPT		556
#define NR_UMS_QUERY		557
#define NR_UMS_SET		558

/* Each returns the negative errno, which leaves errno to the test. */
static inline long ums_ret(long r)
{
	return r == -1 ? -errno : r;
}

static inline long ums_create(struct ums_create_args *args, size_t size)
{
	return ums_ret(syscall(NR_UMS_CREATE, args, size));
}

static inline long ums_worker_enter(int fd, const struct ums_worker_args *args,
				    size_t size)
{
	return ums_ret(syscall(NR_UMS_WORKER_ENTER, fd, args, size));
}

static inline long ums_detach(unsigned int flags)
{
	return ums_ret(syscall(NR_UMS_DETACH, flags));
}

/* Only for calls which fail: on success the upcall would come instead. */
static inline long ums_scheduler_enter(const struct ums_scheduler_args *args,
				       size_t size)
{
	return ums_ret(syscall(NR_UMS_SCHEDULER_ENTER, args, size));
}

static inline long ums_scheduler_exit(unsigned int flags)
{
	return ums_ret(syscall(NR_UMS_SCHEDULER_EXIT, flags));
}

/* As ums_scheduler_enter(): sched_run() is the one that may succeed. */
static inline long ums_execute(__u64 id, __u64 slice_ns, unsigned int flags)
{
	return ums_ret(syscall(NR_UMS_EXECUTE, id, slice_ns, flags));
}

static inline long ums_yield(__u64 arg, unsigned int flags)
{
	return ums_ret(syscall(NR_UMS_YIELD, arg, flags));
}

static inline long ums_wait(int fd, const struct __kernel_timespec *timeout,
			    unsigned int flags)
{
	return ums_ret(syscall(NR_UMS_WAIT, fd, timeout, flags));
}

static inline long ums_preempt(__u64 id, unsigned int flags)
{
	return ums_ret(syscall(NR_UMS_PREEMPT, id, flags));
}

static inline long ums_query(unsigned int which, __u64 id, void *info, size_t size)
{
	return ums_ret(syscall(NR_UMS_QUERY, which, id, info, size));
}

static inline long ums_set(unsigned int which, __u64 id, __u64 value)
{
	return ums_ret(syscall(NR_UMS_SET, which, id, value));
}

/* A completion list and its pages. */
struct list {
	int fd;
	struct ums_create_args args;
	struct ums_list_header *head;
	__u64 *ring;
	struct ums_slot *slots;
};

int list_open(struct list *l, unsigned int max_workers);
void list_close(struct list *l);
__u64 list_pop(struct list *l);
unsigned int list_pop_many(struct list *l, __u64 *ids, unsigned int n);
/* Sleeps in ums_wait() until there is one; 0 only after LIMIT_S. */
__u64 list_pop_wait(struct list *l);
/* Of all processes: memory of the kernel that may be mapped; -1: not to be seen. */
int count_lists(void);

static inline bool list_empty(struct list *l)
{
	return __atomic_load_n(&l->head->tail, __ATOMIC_ACQUIRE) ==
	       __atomic_load_n(&l->head->head, __ATOMIC_RELAXED);
}

static inline struct ums_slot *list_slot(struct list *l, __u64 id)
{
	return &l->slots[UMS_ID_SLOT(id)];
}

static inline __u32 slot_state(struct list *l, __u64 id)
{
	return __atomic_load_n(&list_slot(l, id)->state, __ATOMIC_ACQUIRE);
}

/*
 * A scheduler: sched_run() saves the callee-saved registers, executes, and the
 * upcall entry restores them, so that an upcall looks like a return value. The
 * offsets of the first five members are known to assembler code.
 */
struct sched {
	void *sp;
	__u64 reason;
	__u64 worker;
	__u64 detail;
	__u64 upcalls;
	void *stack;
	size_t stack_size;
	unsigned long tp;
};

int sched_enter(struct sched *s);
/* 0: an upcall has filled in reason, worker and detail; else -errno. */
int sched_run_flags(struct sched *s, __u64 id, __u64 slice_ns, unsigned int flags);
int sched_exit(struct sched *s);

static inline int sched_run(struct sched *s, __u64 id, __u64 slice_ns)
{
	return sched_run_flags(s, id, slice_ns, 0);
}

/* The same, with an entry point of the test's own instead of the usual one. */
int sched_enter_at(struct sched *s, void (*entry)(void), __u64 startup);
long sched_call(struct sched *s, long nr, unsigned long a, unsigned long b,
		unsigned long c);
void sched_entry(void);

/* A pthread that becomes a worker of @list and calls @fn. */
struct worker {
	struct list *list;
	void (*fn)(struct worker *w);
	void *arg;
	__u64 user_data;
	__u64 flags;		/* of ums_worker_enter() */
	pthread_t thread;
	pid_t tid;		/* once it has started */
	__u64 id;		/* once it runs as a worker */
	long ret;		/* what ums_worker_enter() returned */
	long result;		/* for @fn */
	int stage;		/* for @fn */
	int fd[2];		/* for @fn */
	void *sp;		/* while its context is saved in user memory */
	unsigned long tp;	/* thread pointer, once it has started */
};

int worker_start(struct worker *w, struct list *l, void (*fn)(struct worker *w),
		 void *arg);
/* The same, and takes its id from the list, on which nothing else may be. */
__u64 worker_start_pop(struct worker *w, struct list *l,
		       void (*fn)(struct worker *w), void *arg);
/* Executes until it has ended, whatever comes; the wait status, or -1. */
int worker_run_to_end(struct sched *s, struct list *l, __u64 id);

/*
 * Switches in user mode, between threads with UMS_WORKER_USER_SWITCH and
 * UMS_SCHEDULER_USER_SWITCH. All return when somebody switches back, or upcalls.
 */
int context_switch(void **sp, void *to_sp, unsigned long to_tp);
int sched_enter_switching(struct sched *s);
/* As sched_run(), of a worker that has switched out. */
int sched_resume(struct sched *s, struct worker *w);
/* To the scheduler, for which it looks like the upcall YIELDED. */
void worker_switch_out(struct worker *w, struct sched *s, __u64 arg);

static inline void worker_switch_to(struct worker *from, struct worker *to)
{
	context_switch(&from->sp, to->sp, to->tp);
}

/* A plain pthread with a small stack. */
int thread_start(pthread_t *t, void *(*fn)(void *arg), void *arg);

static inline __u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC + ts.tv_nsec;
}

static inline pid_t self_tid(void)
{
	return syscall(SYS_gettid);
}

static inline void sleep_ns(__u64 ns)
{
	struct timespec ts = { .tv_sec = ns / NSEC, .tv_nsec = ns % NSEC };

	nanosleep(&ts, NULL);
}

#define LOAD(x)		__atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define STORE(x, v)	__atomic_store_n(&(x), (v), __ATOMIC_RELEASE)
#define INC(x)		__atomic_fetch_add(&(x), 1, __ATOMIC_ACQ_REL)

/* For threads that are not workers: sleeps until @cond or LIMIT_S. */
#define WAIT_FOR(cond) ({						\
	__u64 __end = now_ns() + LIMIT_S * NSEC;			\
	bool __ok;							\
									\
	while (!(__ok = !!(cond)) && now_ns() < __end)			\
		sleep_ns(MSEC / 2);					\
	__ok;								\
})

/* For workers that must not sleep: spins until @cond or LIMIT_S. */
#define SPIN_FOR(cond) ({						\
	__u64 __end = now_ns() + LIMIT_S * NSEC;			\
	bool __ok;							\
									\
	while (!(__ok = !!(cond)) && now_ns() < __end)			\
		__builtin_ia32_pause();					\
	__ok;								\
})

/* Does thread @tid of this process sleep in system call @nr? */
bool thread_sleeps_in(pid_t tid, long nr);
/* State letter of /proc/PID/task/TID/stat, 0 when there is no such thread. */
char thread_state(pid_t pid, pid_t tid);

/*
 * A child that has stopped a worker's thread, as a debugger does, until it sees that its
 * state has become another one. It ends with 0 if that is RUNNING, 1 if it is another.
 */
pid_t stopper_start(pid_t tid);
int stopper_end(pid_t pid);
/* The content of a file, cut to @size - 1; or -1. */
int read_text(const char *path, char *buf, size_t size);
int write_text(const char *path, const char *text);
/* The value of "key:\tvalue" in a text like /proc/PID/task/TID/ums, or NULL. */
char *text_value(const char *text, const char *key, char *buf, size_t size);

/*
 * Program text comes from a network file system and memory is copied after
 * fork(), so a first touch may sleep. Where a test counts upcalls, nothing but
 * what it means to sleep must do so.
 */
int lock_memory(void);

/*
 * The first line of a test. ENOSYS for the probe means a kernel without UMS,
 * which is the one missing feature that excuses a test; but not where the
 * environment says that it must be there.
 */
#define UMS_REQUIRE() do {						\
	struct ums_abi __abi;						\
									\
	if (ums_query(UMS_QUERY_ABI, 0, &__abi, sizeof(__abi)) == -ENOSYS) { \
		ASSERT_EQ(NULL, getenv("UMS_REQUIRED"));		\
		SKIP(return, "no UMS in this kernel");			\
	}								\
} while (0)

/* What switches in user mode need: a thread pointer that a program may change. */
static inline bool cpu_can_switch(void)
{
	return getauxval(AT_HWCAP2) & 2;	/* HWCAP2_FSGSBASE */
}

/* The second line, of tests that switch in user mode; likewise. */
#define UMS_REQUIRE_SWITCH() do {					\
	struct ums_abi __abi;						\
									\
	ASSERT_EQ(0, ums_query(UMS_QUERY_ABI, 0, &__abi, sizeof(__abi))); \
	if (!(__abi.features & UMS_FEATURE_USER_SWITCH)) {		\
		ASSERT_FALSE(getenv("UMS_REQUIRED") && cpu_can_switch()); \
		SKIP(return, "no switches in user mode on this machine"); \
	}								\
} while (0)

#define EXPECT_EVENT(s, r, w, d) do {					\
	EXPECT_EQ((__u64)(r), (s)->reason);				\
	EXPECT_EQ((__u64)(w), (s)->worker);				\
	EXPECT_EQ((__u64)(d), (s)->detail);				\
} while (0)

#define ASSERT_EVENT(s, r, w, d) do {					\
	ASSERT_EQ((__u64)(r), (s)->reason) {				\
		TH_LOG("worker %llx, detail %llu",			\
		       (unsigned long long)(s)->worker,			\
		       (unsigned long long)(s)->detail);		\
	}								\
	ASSERT_EQ((__u64)(w), (s)->worker);				\
	ASSERT_EQ((__u64)(d), (s)->detail);				\
} while (0)

#endif /* UMS_TEST_H */

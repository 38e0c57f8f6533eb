// SPDX-License-Identifier: GPL-2.0
/* Schedulers and ums_execute: errors, slices, yields, many of each. */
#include "ums_test.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>

static void nothing(struct worker *w)
{
}

static void yields(struct worker *w)
{
	while (!LOAD(w->stage))
		ums_yield(++w->result, 0);
}

static void publishes(struct worker *w)
{
	w->result = ums_yield(1, UMS_YIELD_PUBLISH);
}

static void spins(struct worker *w)
{
	while (!LOAD(w->stage))
		INC(w->result);
}

static void reads_pipe(struct worker *w)
{
	char c;

	w->result = read(w->fd[0], &c, 1);
}

static long try_scheduler(__u64 flags, void *entry, void *stack, __u64 size)
{
	struct ums_scheduler_args a = {
		.flags = flags,
		.entry = (uintptr_t)entry,
		.stack = (uintptr_t)stack,
		.stack_size = size,
	};

	return ums_scheduler_enter(&a, sizeof(a));
}

TEST(scheduler_errors)
{
	struct ums_info info;
	struct sched s;
	char *stack;

	UMS_REQUIRE();
	stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, stack);
	EXPECT_EQ(-EINVAL, try_scheduler(2, sched_entry, stack, 65536));
	EXPECT_EQ(-EINVAL, try_scheduler(1ULL << 63, sched_entry, stack, 65536));
	EXPECT_EQ(-EINVAL, try_scheduler(0, sched_entry, stack, UMS_MIN_STACK - 1));
	EXPECT_EQ(-EINVAL, try_scheduler(0, sched_entry, stack, 0));
	EXPECT_EQ(-EFAULT, try_scheduler(0, (void *)-1L, stack, 65536));
	EXPECT_EQ(-EFAULT, try_scheduler(0, (void *)(1UL << 63), stack, 65536));
	/* Not canonical: would fault on the way back to user mode. */
	EXPECT_EQ(-EFAULT, try_scheduler(0, (void *)(1UL << 62), stack, 65536));
	EXPECT_EQ(-EFAULT, try_scheduler(0, sched_entry, (void *)-65536L, 65536));
	EXPECT_EQ(-EFAULT, try_scheduler(0, sched_entry, stack, -4096UL));
	EXPECT_EQ(-EFAULT, try_scheduler(0, sched_entry, stack, 1UL << 62));
	ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)));
	EXPECT_EQ(UMS_ROLE_NONE, info.role);

	EXPECT_EQ(-EPERM, ums_scheduler_exit(0));
	EXPECT_EQ(-EINVAL, ums_scheduler_exit(1));
	ASSERT_EQ(0, sched_enter(&s));
	EXPECT_EQ(-EBUSY, try_scheduler(0, sched_entry, stack, 65536));
	EXPECT_EQ(-EINVAL, ums_scheduler_exit(1));
	ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)));
	EXPECT_EQ(UMS_ROLE_SCHEDULER, info.role);
	EXPECT_EQ(0, sched_exit(&s));
	EXPECT_EQ(-EPERM, ums_scheduler_exit(0));
}

/* In and out, any number of times; in between, an ordinary thread. */
TEST(scheduler_again)
{
	struct worker w = {};
	struct ums_info info;
	struct sched s;
	struct list l;
	__u64 id;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, yields, NULL);
	for (i = 1; i <= 20; i++) {
		ASSERT_EQ(0, sched_enter_at(&s, sched_entry, 100 + i));
		EXPECT_EVENT(&s, UMS_UPCALL_STARTUP, 0, 100 + i);
		ASSERT_EQ(0, sched_run(&s, id, 0));
		EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, i);
		ASSERT_EQ(0, sched_exit(&s));
		ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)));
		EXPECT_EQ(UMS_ROLE_NONE, info.role);
		EXPECT_EQ(-EPERM, ums_execute(id, 0, 0));
	}
	ASSERT_EQ(0, sched_enter(&s));
	STORE(w.stage, 1);
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
}

/* A second scheduler, driven by the test's thread. */
struct other {
	struct list *l;
	__u64 id;
	__u64 slice;
	pthread_t t;
	pid_t tid;
	int go;			/* 1: execute, 2: end */
	int runs;
	long ret;
	struct sched s;
};

static void *other_main(void *arg)
{
	struct other *o = arg;

	o->ret = sched_enter(&o->s);
	STORE(o->tid, self_tid());
	while (!o->ret) {
		if (!SPIN_FOR((sched_yield(), LOAD(o->go))) || o->go == 2)
			break;
		o->ret = sched_run(&o->s, o->id, o->slice);
		STORE(o->go, 0);
		INC(o->runs);
	}
	return NULL;
}

static int other_start(struct other *o, struct list *l)
{
	o->l = l;
	return thread_start(&o->t, other_main, o) ?:
	       WAIT_FOR(LOAD(o->tid)) ? 0 : -1;
}

static bool other_run(struct other *o, __u64 id)
{
	int runs = LOAD(o->runs);

	o->id = id;
	STORE(o->go, 1);
	return WAIT_FOR(LOAD(o->runs) == runs + 1);
}

/*
 * Two schedulers try to execute a worker all the time, whether or not it was taken
 * from its list; it counts how often it was run, and they how often they took it.
 * Who gets its upcall takes it: it is on its list by then, and not before.
 */
struct race {
	struct worker w;
	struct list l;
	__u64 id;
	long refused;
	long taken;
	int errors;
	int ended;
};

static void publishes_often(struct worker *w)
{
	struct race *r = w->arg;
	int i;

	for (i = 0; i < 5000; i++) {
		if (ums_yield(0, UMS_YIELD_PUBLISH) || i + 1 > LOAD(r->taken))
			w->result++;
	}
}

static void *executes_always(void *arg)
{
	struct race *r = arg;
	struct sched s;
	int ret;

	if (sched_enter(&s)) {
		INC(r->errors);
		return NULL;
	}
	while (!LOAD(r->ended)) {
		ret = sched_run(&s, r->id, 0);
		if (!ret && s.reason == UMS_UPCALL_YIELDED) {
			INC(r->taken);
			if (list_pop(&r->l) != r->id)
				INC(r->errors);
		} else if (!ret && s.reason == UMS_UPCALL_EXITED) {
			STORE(r->ended, 1);
		} else if (ret == -EEXIST) {
			INC(r->refused);
		} else if (ret != -EBUSY && ret != -ESTALE) {
			INC(r->errors);
		}
	}
	return NULL;
}

TEST(executed_once_taken)
{
	static struct race r;
	pthread_t t[2];
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&r.l, 1));
	r.id = worker_start_pop(&r.w, &r.l, publishes_often, &r);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, thread_start(&t[i], executes_always, &r));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_join(t[i], NULL));
	EXPECT_EQ(0, r.errors);
	EXPECT_EQ(0, r.w.result);
	EXPECT_EQ(5000, r.taken);
	EXPECT_EQ(5001, list_slot(&r.l, r.id)->executes);
	TH_LOG("refused %ld times", r.refused);
}

TEST(execute_errors)
{
	struct worker w[4] = {};
	struct other o = {};
	__u64 ready, blocked, ended, busy, id;
	struct sched s;
	struct list l;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 4));
	EXPECT_EQ(-EINVAL, ums_execute(0, 0, 1));
	EXPECT_EQ(-EPERM, ums_execute(0, 0, 0));
	ASSERT_EQ(0, sched_enter(&s));
	EXPECT_EQ(-EINVAL, sched_run_flags(&s, 0, 0, 1));
	EXPECT_EQ(-EINVAL, sched_run_flags(&s, 0, 0, 1U << 31));

	/* No such worker, at all or on this list. */
	EXPECT_EQ(-ESRCH, sched_run(&s, 0, 0));
	EXPECT_EQ(-ESRCH, sched_run(&s, ~0ULL, 0));
	EXPECT_EQ(-ESRCH, sched_run(&s, 1ULL << 63, 0));
	EXPECT_EQ(-ESRCH, sched_run(&s, (__u64)l.args.list_nr << 20, 0));
	EXPECT_EQ(-ESRCH, sched_run(&s, ((__u64)l.args.list_nr << 20) | 3 |
				    (1ULL << 32), 0));
	EXPECT_EQ(-ESRCH, sched_run(&s, ((__u64)l.args.list_nr << 20) | 4 |
				    (1ULL << 32), 0));
	EXPECT_EQ(-ESRCH, sched_run(&s, ((__u64)(l.args.list_nr ^ 1) << 20) |
				    (1ULL << 32), 0));

	/* Ended. */
	ended = worker_start_pop(&w[0], &l, nothing, NULL);
	ASSERT_EQ(0, worker_run_to_end(&s, &l, ended));
	EXPECT_EQ(-ESTALE, sched_run(&s, ended, 0));

	/* On its list still. */
	ASSERT_EQ(0, worker_start(&w[1], &l, publishes, NULL));
	ASSERT_TRUE(WAIT_FOR(!list_empty(&l)));
	ready = l.ring[0 + l.head->head];
	EXPECT_EQ(-EEXIST, sched_run(&s, ready, 0));
	ASSERT_EQ(ready, list_pop(&l));
	ASSERT_EQ(0, sched_run(&s, ready, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, ready, 1);
	EXPECT_EQ(-EEXIST, sched_run(&s, ready, 0));
	ASSERT_EQ(ready, list_pop(&l));

	/* Blocked. */
	ASSERT_EQ(0, pipe(w[2].fd));
	blocked = worker_start_pop(&w[2], &l, reads_pipe, NULL);
	ASSERT_EQ(0, sched_run(&s, blocked, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, blocked, SYS_read);
	EXPECT_EQ(-EAGAIN, sched_run(&s, blocked, 0));

	/* Run by another. */
	busy = worker_start_pop(&w[3], &l, spins, NULL);
	ASSERT_EQ(0, other_start(&o, &l));
	o.id = busy;
	STORE(o.go, 1);
	ASSERT_TRUE(WAIT_FOR(LOAD(w[3].result) > 0));
	EXPECT_EQ(-EBUSY, sched_run(&s, busy, 0));
	STORE(w[3].stage, 1);
	ASSERT_TRUE(WAIT_FOR(LOAD(o.runs) == 1));

	/* None of it has changed anything: all go on from where they were. */
	EXPECT_EQ(0, o.ret);
	EXPECT_EQ(0, worker_run_to_end(&s, &l, ready));
	ASSERT_EQ(1, write(w[2].fd[1], "x", 1));
	id = list_pop_wait(&l);
	EXPECT_EQ(blocked, id);
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_EQ(1, w[2].result);
	STORE(o.go, 2);
	ASSERT_EQ(0, pthread_join(o.t, NULL));
	EXPECT_TRUE(list_empty(&l));
}

/* A worker belongs to no scheduler: any takes it up where another left it. */
TEST(other_scheduler)
{
	struct worker w = {};
	struct other o = {};
	struct sched s;
	struct list l;
	__u64 id;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, yields, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, other_start(&o, &l));
	for (i = 1; i < 40; i += 2) {
		ASSERT_EQ(0, sched_run(&s, id, 0));
		EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, i);
		ASSERT_TRUE(other_run(&o, id));
		ASSERT_EQ(0, o.ret);
		EXPECT_EVENT(&o.s, UMS_UPCALL_YIELDED, id, i + 1);
	}
	STORE(o.go, 2);
	ASSERT_EQ(0, pthread_join(o.t, NULL));
}

/* One that blocked under one scheduler goes on under another. */
TEST(other_scheduler_after_block)
{
	struct worker w = {};
	struct other o = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, reads_pipe, NULL);
	ASSERT_EQ(0, other_start(&o, &l));
	ASSERT_TRUE(other_run(&o, id));
	ASSERT_EQ(0, o.ret);
	ASSERT_EVENT(&o.s, UMS_UPCALL_BLOCKED, id, SYS_read);
	STORE(o.go, 2);
	ASSERT_EQ(0, pthread_join(o.t, NULL));
	ASSERT_EQ(1, write(w.fd[1], "x", 1));
	ASSERT_EQ(id, list_pop_wait(&l));
	ASSERT_EQ(0, sched_enter(&s));
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_EQ(1, w.result);
}

TEST(yield_publish)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, publishes, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 1);
	/* It was put there before the upcall. */
	EXPECT_EQ(2, l.head->tail);
	ASSERT_EQ(id, list_pop(&l));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(0, w.result);
}

TEST(slice)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 start;
	long before;
	__u64 id;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, spins, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 5; i++) {
		before = w.result;
		start = now_ns();
		ASSERT_EQ(0, sched_run(&s, id, 20 * MSEC));
		ASSERT_EVENT(&s, UMS_UPCALL_PREEMPTED, id, UMS_PREEMPT_SLICE);
		EXPECT_LE(start + 20 * MSEC, now_ns());
		EXPECT_LT(before, w.result);
		/* Preempted workers come by way of their list. */
		EXPECT_EQ(-EEXIST, sched_run(&s, id, 0));
		ASSERT_EQ(id, list_pop(&l));
	}
	STORE(w.stage, 1);
	/* Plenty of time: it ends before the slice does. */
	ASSERT_EQ(0, sched_run(&s, id, LIMIT_S * NSEC));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
}

/* The shortest and the longest: it gets on, and it is no overflow. */
TEST(slice_extremes)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, spins, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 50; i++) {
		ASSERT_EQ(0, sched_run(&s, id, 1));
		ASSERT_EVENT(&s, UMS_UPCALL_PREEMPTED, id, UMS_PREEMPT_SLICE);
		ASSERT_EQ(id, list_pop(&l));
	}
	STORE(w.stage, 1);
	ASSERT_EQ(0, sched_run(&s, id, ~0ULL));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
}

static void reads_spins_yields(struct worker *w)
{
	__u64 end;
	char c;

	w->result = read(w->fd[0], &c, 1);
	for (end = now_ns() + 100 * MSEC; now_ns() < end; )
		;
	ums_yield(1, 0);
	for (end = now_ns() + 100 * MSEC; now_ns() < end; )
		;
}

/* Who blocks or yields before the end of the slice is done with it. */
TEST(slice_ends_with_block)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, reads_spins_yields, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, NSEC));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
	/* Until that slice would have ended, and longer. */
	sleep_ns(NSEC + NSEC / 5);
	EXPECT_TRUE(list_empty(&l));
	EXPECT_EQ(1, s.upcalls - 1);
	ASSERT_EQ(1, write(w.fd[1], "x", 1));
	ASSERT_EQ(id, list_pop_wait(&l));
	ASSERT_EQ(0, sched_run(&s, id, LIMIT_S * NSEC));
	ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, 1);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
}

/* The slice of one worker does not hit the next. */
TEST(slice_of_another)
{
	struct worker w[2] = {};
	struct sched s;
	struct list l;
	__u64 id[2];

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(w[1].fd));
	ASSERT_EQ(0, list_open(&l, 2));
	id[0] = worker_start_pop(&w[0], &l, yields, NULL);
	id[1] = worker_start_pop(&w[1], &l, reads_spins_yields, NULL);
	ASSERT_EQ(1, write(w[1].fd[1], "x", 1));
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id[0], 50 * MSEC));
	if (s.reason == UMS_UPCALL_PREEMPTED)
		SKIP(return, "a yield took 50 ms");
	ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id[0], 1);
	ASSERT_EQ(0, sched_run(&s, id[1], 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id[1], 1);
}

/* Four schedulers share a list; every one of the workers gets to its end. */
struct loop {
	struct list *l;
	pthread_t t;
	long error;
	int ended;
};

static int loop_left;

/* Arguments of 100 and more: not published, the scheduler has it. */
static void mixed(struct worker *w)
{
	int i;

	for (i = 0; i < 10; i++) {
		ums_yield(i, UMS_YIELD_PUBLISH);
		sleep_ns(1000);
		ums_yield(100 + i, 0);
	}
	w->result = 1;
}

static void *loop_main(void *arg)
{
	struct __kernel_timespec ts = { .tv_nsec = 20 * MSEC };
	struct loop *p = arg;
	struct sched s;
	__u64 id = 0;
	bool mine;

	p->error = sched_enter(&s);
	while (!p->error && LOAD(loop_left)) {
		id = list_pop(p->l);
		if (!id) {
			ums_wait(p->l->fd, &ts, 0);
			continue;
		}
		do {
			p->error = sched_run(&s, id, 0);
			mine = !p->error && s.reason == UMS_UPCALL_YIELDED &&
			       s.detail >= 100;
		} while (mine);
		if (!p->error && s.reason == UMS_UPCALL_EXITED) {
			p->ended++;
			__atomic_fetch_sub(&loop_left, 1, __ATOMIC_ACQ_REL);
		}
	}
	return NULL;
}

TEST(many_schedulers)
{
	struct worker w[32] = {};
	struct loop p[4] = {};
	struct list l;
	int i, ended = 0;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 32));
	loop_left = 32;
	for (i = 0; i < 4; i++) {
		p[i].l = &l;
		ASSERT_EQ(0, thread_start(&p[i].t, loop_main, &p[i]));
	}
	for (i = 0; i < 32; i++) {
		ASSERT_EQ(0, worker_start(&w[i], &l, mixed, NULL));
	}
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, pthread_join(p[i].t, NULL));
		EXPECT_EQ(0, p[i].error);
		ended += p[i].ended;
	}
	EXPECT_EQ(32, ended);
	for (i = 0; i < 32; i++) {
		ASSERT_EQ(0, pthread_join(w[i].thread, NULL));
		EXPECT_EQ(1, w[i].result);
	}
	EXPECT_TRUE(list_empty(&l));
}

/*
 * Affinity, policy and nice stay each thread's own: execution changes none,
 * and the worker never runs on a CPU that its own mask excludes.
 */
struct placement {
	cpu_set_t set;
	int policy, prio, nice, cpu;
};

static void where(struct placement *p)
{
	struct sched_param sp;

	memset(p, 0, sizeof(*p));
	sched_getaffinity(0, sizeof(p->set), &p->set);
	p->policy = sched_getscheduler(0);
	sched_getparam(0, &sp);
	p->prio = sp.sched_priority;
	p->nice = getpriority(PRIO_PROCESS, self_tid());
	p->cpu = sched_getcpu();
}

static void tells_where(struct worker *w)
{
	struct placement *p = w->arg;
	int i;

	for (i = 0; i < 4; i++) {
		where(p);
		ums_yield(i, 0);
	}
}

TEST(affinity_and_priority)
{
	struct placement own, was, of_worker;
	struct sched_param sp = {};
	struct worker w = {};
	int first = -1, last = -1, i;
	cpu_set_t all, one;
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(all), &all));
	for (i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &all)) {
			if (first < 0)
				first = i;
			last = i;
		}
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, tells_where, &of_worker);
	/* On one CPU the two are the same, and the rest still differs. */
	CPU_ZERO(&one);
	CPU_SET(last, &one);
	ASSERT_EQ(0, sched_setaffinity(w.tid, sizeof(one), &one));
	ASSERT_EQ(0, setpriority(PRIO_PROCESS, w.tid, 5));
	CPU_ZERO(&one);
	CPU_SET(first, &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	ASSERT_EQ(0, setpriority(PRIO_PROCESS, self_tid(), -3));
	where(&was);

	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 4; i++) {
		if (i == 2) {
			/* A real-time scheduler does not lend its class. */
			sp.sched_priority = 10;
			ASSERT_EQ(0, sched_setscheduler(0, SCHED_FIFO, &sp));
			where(&was);
		}
		ASSERT_EQ(0, sched_run(&s, id, 0));
		ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, i);
		EXPECT_EQ(1, CPU_COUNT(&of_worker.set));
		EXPECT_TRUE(CPU_ISSET(last, &of_worker.set));
		EXPECT_EQ(last, of_worker.cpu);
		EXPECT_EQ(SCHED_OTHER, of_worker.policy);
		EXPECT_EQ(5, of_worker.nice);
		where(&own);
		EXPECT_EQ(0, memcmp(&own, &was, sizeof(own)));
		EXPECT_EQ(first, own.cpu);
	}
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
}

/*
 * A worker that slept where its scheduler runs could be given the CPU at once;
 * but not when its mask has been changed meanwhile.
 */
TEST(affinity_changed_while_parked)
{
	struct placement of_worker;
	struct worker w = {};
	int first = -1, last = -1, i;
	cpu_set_t all, one;
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(all), &all));
	for (i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &all)) {
			if (first < 0)
				first = i;
			last = i;
		}
	CPU_ZERO(&one);
	CPU_SET(first, &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, tells_where, &of_worker);
	ASSERT_EQ(0, sched_setaffinity(w.tid, sizeof(one), &one));

	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 4; i++) {
		if (i == 2) {
			CPU_ZERO(&one);
			CPU_SET(last, &one);
			ASSERT_EQ(0, sched_setaffinity(w.tid, sizeof(one), &one));
		}
		ASSERT_EQ(0, sched_run(&s, id, 0));
		ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, i);
		EXPECT_EQ(i < 2 ? first : last, of_worker.cpu);
		EXPECT_EQ(first, sched_getcpu());
	}
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/* ums_preempt: of a worker that does not enter the kernel, by anybody. */
#include "ums_test.h"

#include <sched.h>

static void nothing(struct worker *w)
{
}

static void spins(struct worker *w)
{
	while (!LOAD(w->stage))
		INC(w->result);
}

static void reads_pipe(struct worker *w)
{
	char c;

	STORE(w->stage, 1);
	w->result = read(w->fd[0], &c, 1);
}

/* Once @w gets on, somebody preempts it, @times times. */
struct preempter {
	struct worker *w;
	__u64 id;
	int times;
	bool as_scheduler;
	int seen;		/* times the main thread has seen it preempted */
	int done;
	long ret;
	pthread_t t;
};

static void *preempter_main(void *arg)
{
	struct preempter *p = arg;
	struct sched s;
	long before;
	int i;

	if (p->as_scheduler)
		p->ret = sched_enter(&s);
	for (i = 0; i < p->times && !p->ret; i++) {
		if (!WAIT_FOR(LOAD(p->seen) == i)) {
			p->ret = -1;
			break;
		}
		before = LOAD(p->w->result);
		if (!WAIT_FOR(LOAD(p->w->result) != before))
			p->ret = -2;
		else
			p->ret = ums_preempt(p->id, 0);
	}
	STORE(p->done, 1);
	return NULL;
}

static void preempt_many(struct __test_metadata *_metadata, bool as_scheduler)
{
	struct worker w = {};
	struct preempter p = { .w = &w, .times = 20, .as_scheduler = as_scheduler };
	struct sched s;
	struct list l;
	int i;

	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	p.id = worker_start_pop(&w, &l, spins, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, thread_start(&p.t, preempter_main, &p));
	for (i = 1; i <= p.times; i++) {
		ASSERT_EQ(0, sched_run(&s, p.id, 0));
		ASSERT_EVENT(&s, UMS_UPCALL_PREEMPTED, p.id, UMS_PREEMPT_ASKED);
		EXPECT_EQ(UMS_STATE_READY, slot_state(&l, p.id));
		ASSERT_EQ(p.id, list_pop(&l));
		EXPECT_TRUE(list_empty(&l));
		STORE(p.seen, i);
	}
	ASSERT_EQ(0, pthread_join(p.t, NULL));
	EXPECT_EQ(0, p.ret);
	STORE(w.stage, 1);
	ASSERT_EQ(0, sched_run(&s, p.id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, p.id, 0);
}

TEST(by_ordinary_thread)
{
	UMS_REQUIRE();
	preempt_many(_metadata, false);
}

TEST(by_other_scheduler)
{
	UMS_REQUIRE();
	preempt_many(_metadata, true);
}

static int pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

/* How often CPU 0 was told by another to look at its work; -1: not known. */
static long kicks(void)
{
	static char text[65536];
	char v[512];

	if (read_text("/proc/interrupts", text, sizeof(text)) < 0)
		return -1;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		while (*line == ' ')
			line++;
		if (text_value(line, "RES", v, sizeof(v)))
			return atol(v);
	}
	return -1;
}

static void spins_on_cpu_0(struct worker *w)
{
	w->stage = -pin_to(0);
	spins(w);
}

static void *preempts_from_cpu_1(void *arg)
{
	struct preempter *p = arg;

	p->ret = pin_to(1);
	return p->ret ? NULL : preempter_main(p);
}

/* At once, by an interrupt; not when the worker's CPU happens to have one. */
TEST(kicks_the_cpu)
{
	struct worker w = {};
	struct preempter p = { .w = &w, .times = 50 };
	struct sched s;
	struct list l;
	long before;

	UMS_REQUIRE();
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	if (kicks() < 0)
		SKIP(return, "no count of such interrupts");
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	p.id = worker_start_pop(&w, &l, spins_on_cpu_0, NULL);
	ASSERT_EQ(0, pin_to(0));
	ASSERT_EQ(0, sched_enter(&s));
	before = kicks();
	ASSERT_EQ(0, thread_start(&p.t, preempts_from_cpu_1, &p));
	while (!LOAD(p.done)) {
		ASSERT_EQ(0, sched_run(&s, p.id, NSEC));
		/* It may sleep to change its CPU. */
		ASSERT_TRUE(s.reason == UMS_UPCALL_PREEMPTED || s.reason == UMS_UPCALL_BLOCKED);
		ASSERT_EQ(p.id, list_pop_wait(&l));
		if (s.reason == UMS_UPCALL_PREEMPTED && s.detail == UMS_PREEMPT_ASKED)
			STORE(p.seen, p.seen + 1);
	}
	EXPECT_EQ(0, w.stage);
	STORE(w.stage, 1);
	ASSERT_EQ(0, pthread_join(p.t, NULL));
	EXPECT_EQ(0, p.ret);
	EXPECT_EQ(50, p.seen);
	/* A tick may have come at the same time, once or twice. */
	EXPECT_LE(before + 45, kicks());
}

static void preempts_itself(struct worker *w)
{
	w->result = ums_preempt(w->id, 0);
	STORE(w->stage, 1);
}

TEST(by_itself)
{
	struct worker w = { .result = 99 };
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, preempts_itself, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_PREEMPTED, id, UMS_PREEMPT_ASKED);
	/* On its way to user mode: it has not come there. */
	EXPECT_EQ(0, w.stage);
	ASSERT_EQ(id, list_pop(&l));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(0, w.result);
}

static void preempts_other(struct worker *w)
{
	__u64 id = *(__u64 *)w->arg;

	do {
		w->result = ums_preempt(id, 0);
	} while (w->result == -EAGAIN && !LOAD(w->stage) && !sched_yield());
}

struct second {
	__u64 id;
	struct list *l;
	long ret;
	struct sched s;
	pthread_t t;
};

static void *second_main(void *arg)
{
	struct second *z = arg;

	z->ret = sched_enter(&z->s) ?: sched_run(&z->s, z->id, 0);
	return NULL;
}

/* A worker of one scheduler preempts that of another. */
TEST(by_other_worker)
{
	struct worker w[2] = {};
	struct second z = {};
	struct sched s;
	struct list l;
	__u64 id[2];

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 2));
	id[0] = worker_start_pop(&w[0], &l, spins, NULL);
	id[1] = worker_start_pop(&w[1], &l, preempts_other, &id[0]);
	z.id = id[0];
	z.l = &l;
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, thread_start(&z.t, second_main, &z));
	ASSERT_EQ(0, sched_run(&s, id[1], 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id[1], 0);
	EXPECT_EQ(0, w[1].result);
	ASSERT_EQ(0, pthread_join(z.t, NULL));
	ASSERT_EQ(0, z.ret);
	EXPECT_EVENT(&z.s, UMS_UPCALL_PREEMPTED, id[0], UMS_PREEMPT_ASKED);
	ASSERT_EQ(id[0], list_pop(&l));
	STORE(w[0].stage, 1);
	ASSERT_EQ(0, sched_run(&s, id[0], 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id[0], 0);
}

TEST(errors)
{
	struct worker w[2] = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(w[0].fd));
	ASSERT_EQ(0, list_open(&l, 2));
	EXPECT_EQ(-EINVAL, ums_preempt(0, 1));
	EXPECT_EQ(-EINVAL, ums_preempt(0, 1U << 31));
	EXPECT_EQ(-ESRCH, ums_preempt(0, 0));
	EXPECT_EQ(-ESRCH, ums_preempt(~0ULL, 0));
	EXPECT_EQ(-ESRCH, ums_preempt(((__u64)l.args.list_nr << 20) | 1ULL << 32, 0));

	/* No scheduler runs it: ready, popped, blocked. */
	ASSERT_EQ(0, worker_start(&w[0], &l, reads_pipe, NULL));
	ASSERT_TRUE(WAIT_FOR(!list_empty(&l)));
	id = l.ring[0];
	EXPECT_EQ(-EAGAIN, ums_preempt(id, 0));
	ASSERT_EQ(id, list_pop(&l));
	EXPECT_EQ(-EAGAIN, ums_preempt(id, 0));
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
	EXPECT_EQ(-EAGAIN, ums_preempt(id, 0));
	ASSERT_EQ(1, write(w[0].fd[1], "x", 1));
	ASSERT_EQ(id, list_pop_wait(&l));
	EXPECT_EQ(-EAGAIN, ums_preempt(id, 0));
	/* None of those requests lingers. */
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(-ESTALE, ums_preempt(id, 0));

	ASSERT_EQ(0, pthread_join(w[0].thread, NULL));
	ASSERT_EQ(0, worker_run_to_end(&s, &l, worker_start_pop(&w[1], &l, nothing,
								NULL)));
}

/* Another process's workers are out of reach. */
TEST(other_process)
{
	struct worker w = {};
	struct list l;
	int status;
	pid_t pid;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, nothing, NULL);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct ums_info info;
		int bad = 0;

		bad |= ums_preempt(id, 0) != -ESRCH;
		bad |= (ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)) !=
			-ESRCH) << 1;
		bad |= (ums_set(UMS_SET_USER_DATA, id, 1) != -ESRCH) << 2;
		bad |= (ums_query(UMS_QUERY_THREAD, w.tid, &info, sizeof(info)) !=
			-ESRCH) << 3;
		_exit(bad);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/*
 * Asked for while it is about to block, exit or yield: one upcall tells of the
 * end of the execution, and it is either that or the preemption.
 */
struct pest {
	__u64 id;
	int stop;
	long hits;
	pthread_t t;
};

static void *pest_main(void *arg)
{
	struct pest *p = arg;

	while (!LOAD(p->stop)) {
		if (!ums_preempt(LOAD(p->id), 0))
			INC(p->hits);
		else
			sched_yield();
	}
	return NULL;
}

static void does_everything(struct worker *w)
{
	int i;
	char c;

	for (i = 0; i < 300; i++) {
		ums_yield(i, 0);
		if (write(w->fd[1], "x", 1) != 1 || read(w->fd[0], &c, 1) != 1)
			w->stage = 1;
		if (i % 10 == 0)
			sleep_ns(10000);
		INC(w->result);
	}
	/* For the books, which close before it ends. */
	ums_yield(999, 0);
}

TEST(races)
{
	__u64 preempted = 0, blocked = 0, yielded = 0, executed = 0;
	struct worker w = {};
	struct ums_info info;
	struct pest p = {};
	struct sched s;
	struct list l;
	bool end = false;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, does_everything, NULL);
	p.id = id;
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, thread_start(&p.t, pest_main, &p));
	while (!end) {
		ASSERT_EQ(0, sched_run(&s, id, 0));
		executed++;
		ASSERT_EQ(id, s.worker);
		switch (s.reason) {
		case UMS_UPCALL_YIELDED:
			yielded++;
			if (s.detail != 999)
				break;
			ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id, &info,
					       sizeof(info)));
			EXPECT_EQ(executed, info.executes);
			EXPECT_EQ(preempted, info.preemptions);
			EXPECT_EQ(yielded, info.yields);
			EXPECT_EQ(blocked, info.blocks_syscall + info.blocks_fault);
			EXPECT_EQ(1 + blocked + preempted, info.publishes);
			break;
		case UMS_UPCALL_BLOCKED:
			blocked++;
			ASSERT_EQ(id, list_pop_wait(&l));
			break;
		case UMS_UPCALL_PREEMPTED:
			preempted++;
			ASSERT_EQ(UMS_PREEMPT_ASKED, s.detail);
			/* Published before the upcall. */
			ASSERT_EQ(id, list_pop(&l));
			break;
		case UMS_UPCALL_EXITED:
			end = true;
			break;
		default:
			ASSERT_EQ(0, s.reason);
		}
		ASSERT_TRUE(list_empty(&l));
	}
	STORE(p.stop, 1);
	ASSERT_EQ(0, pthread_join(p.t, NULL));
	EXPECT_EQ(300, w.result);
	EXPECT_EQ(0, w.stage);
	EXPECT_EQ(301, yielded);
	EXPECT_LE(preempted, p.hits);
	EXPECT_EQ(executed, list_slot(&l, id)->executes);
	EXPECT_EQ(blocked, list_slot(&l, id)->blocks);
	EXPECT_EQ(1 + blocked + preempted, l.head->tail);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/* The region in which blocking makes no upcall and preemption waits. */
#include "ums_test.h"

static void set_region(struct worker *w, __u32 v)
{
	STORE(list_slot(w->list, w->id)->no_upcall, v);
}

static __u32 attention(struct worker *w)
{
	return LOAD(list_slot(w->list, w->id)->attention);
}

/* Feeds a worker that sleeps in read(), once it does. */
struct feeder {
	struct worker *w;
	int times;
	int fed;
	pthread_t t;
};

static void *feeder_main(void *arg)
{
	struct feeder *f = arg;
	int i;

	for (i = 0; i < f->times; i++) {
		if (!WAIT_FOR(LOAD(f->w->stage) == i + 1 &&
			      thread_sleeps_in(f->w->tid, SYS_read)))
			break;
		f->fed++;
		if (write(f->w->fd[1], "x", 1) != 1)
			break;
	}
	return NULL;
}

static void sleeps_in_region(struct worker *w)
{
	int i;
	char c;

	set_region(w, 1);
	for (i = 0; i < 3; i++) {
		STORE(w->stage, i + 1);
		w->result += read(w->fd[0], &c, 1);
	}
	set_region(w, 0);
	ums_yield(1, 0);
	read(w->fd[0], &c, 1);
}

TEST(no_upcall)
{
	struct worker w = {};
	struct feeder f = { .w = &w, .times = 3 };
	struct ums_info info;
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, sleeps_in_region, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, thread_start(&f.t, feeder_main, &f));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, 1);
	ASSERT_EQ(0, pthread_join(f.t, NULL));
	/* It did sleep, three times, and nobody was told. */
	EXPECT_EQ(3, f.fed);
	EXPECT_EQ(3, w.result);
	EXPECT_EQ(2, s.upcalls);
	EXPECT_EQ(1, l.head->tail);
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
	EXPECT_EQ(0, info.blocks_syscall);
	EXPECT_EQ(0, info.blocks_fault);
	EXPECT_EQ(1, info.publishes);
	/* Out of it, blocking is seen again. */
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
}

static void waits_for_attention(struct worker *w)
{
	set_region(w, 1);
	STORE(w->stage, 1);
	if (!SPIN_FOR(attention(w) & UMS_ATTN_PREEMPT))
		w->result = 1;
	/* Through the kernel and back, still inside: it keeps waiting. */
	syscall(SYS_getppid);
	if (!(attention(w) & UMS_ATTN_PREEMPT))
		w->result = 2;
	STORE(w->stage, 2);
	set_region(w, 0);
	if (attention(w) & UMS_ATTN_PREEMPT)
		ums_preempt(w->id, 0);
	STORE(w->stage, 3);
	if (attention(w) & UMS_ATTN_PREEMPT)
		w->result = 3;
}

struct asker {
	struct worker *w;
	__u64 id;
	long ret;
	pthread_t t;
};

static void *asker_main(void *arg)
{
	struct asker *a = arg;

	a->ret = WAIT_FOR(LOAD(a->w->stage) == 1) ? ums_preempt(a->id, 0) : -1;
	return NULL;
}

TEST(preemption_waits)
{
	struct worker w = {};
	struct asker a = { .w = &w };
	struct sched s;
	struct list l;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	a.id = worker_start_pop(&w, &l, waits_for_attention, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, thread_start(&a.t, asker_main, &a));
	ASSERT_EQ(0, sched_run(&s, a.id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_PREEMPTED, a.id, UMS_PREEMPT_ASKED);
	ASSERT_EQ(0, pthread_join(a.t, NULL));
	EXPECT_EQ(0, a.ret);
	/* Not before it had left the region. */
	EXPECT_LE(2, w.stage);
	EXPECT_EQ(0, list_slot(&l, a.id)->attention);
	ASSERT_EQ(a.id, list_pop(&l));
	ASSERT_EQ(0, sched_run(&s, a.id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, a.id, 0);
	EXPECT_EQ(0, w.result);
	EXPECT_EQ(3, w.stage);
}

static void yields_for_attention(struct worker *w)
{
	set_region(w, 1);
	STORE(w->stage, 1);
	if (!SPIN_FOR(attention(w) & UMS_ATTN_PREEMPT))
		w->result = 1;
	set_region(w, 0);
	ums_yield(3, 0);
	/* The yield has settled it, unless the interrupt of the request had. */
	if (attention(w) & UMS_ATTN_PREEMPT)
		w->result = 2;
	STORE(w->stage, 2);
	/* Through the kernel: what still waited would come true here. */
	syscall(SYS_getppid);
}

TEST(yield_settles_preemption)
{
	struct worker w = {};
	struct asker a = { .w = &w };
	int preempted = 0;
	struct sched s;
	struct list l;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	a.id = worker_start_pop(&w, &l, yields_for_attention, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, thread_start(&a.t, asker_main, &a));
	ASSERT_EQ(0, sched_run(&s, a.id, 0));
	while (s.reason == UMS_UPCALL_PREEMPTED) {
		preempted++;
		ASSERT_EQ(a.id, list_pop(&l));
		ASSERT_EQ(0, sched_run(&s, a.id, 0));
	}
	ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, a.id, 3);
	EXPECT_GE(1, preempted);
	ASSERT_EQ(0, pthread_join(a.t, NULL));
	EXPECT_EQ(0, a.ret);
	ASSERT_EQ(0, sched_run(&s, a.id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, a.id, 0);
	EXPECT_EQ(0, w.result);
	EXPECT_EQ(2, w.stage);
}

static void slice_in_region(struct worker *w)
{
	set_region(w, 1);
	sleep_ns(60 * MSEC);
	/* The slice is long over, and counted meanwhile. */
	if (!SPIN_FOR(attention(w) & UMS_ATTN_PREEMPT))
		w->result = 1;
	STORE(w->stage, 1);
	set_region(w, 0);
	if (attention(w) & UMS_ATTN_PREEMPT)
		ums_preempt(w->id, 0);
	STORE(w->stage, 2);
}

TEST(slice_waits)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, slice_in_region, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 20 * MSEC));
	/* A slow machine may end the slice before the region begins. */
	while (s.reason == UMS_UPCALL_PREEMPTED && !LOAD(w.stage)) {
		ASSERT_EQ(id, list_pop(&l));
		ASSERT_EQ(0, sched_run(&s, id, 20 * MSEC));
	}
	ASSERT_EQ(UMS_UPCALL_PREEMPTED, s.reason);
	/* The first reason counts. */
	EXPECT_EQ(UMS_PREEMPT_SLICE, s.detail);
	EXPECT_EQ(id, s.worker);
	EXPECT_EQ(0, w.result);
	ASSERT_EQ(id, list_pop(&l));
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_EQ(2, w.stage);
}

static void exits_in_region(struct worker *w)
{
	set_region(w, 1);
	syscall(SYS_exit, 3);
}

/* A worker that ends, or leaves, inside the region is told of all the same. */
TEST(exit_in_region)
{
	struct worker w[2] = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	id = worker_start_pop(&w[0], &l, exits_in_region, NULL);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 3 << 8);
	/* The next one in that slot does not inherit it. */
	id = worker_start_pop(&w[1], &l, exits_in_region, NULL);
	ASSERT_NE(0, id);
	EXPECT_EQ(0, l.slots[0].no_upcall);
}

static void yields_in_region(struct worker *w)
{
	set_region(w, 1);
	w->result = ums_yield(9, 0);
	set_region(w, 0);
}

/* To yield is not to block: it works in there. */
TEST(yield_in_region)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	id = worker_start_pop(&w, &l, yields_in_region, NULL);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 9);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(0, w.result);
}

static void reads_in_region(struct worker *w)
{
	char c;

	set_region(w, 1);
	STORE(w->stage, 1);
	w->result = read(w->fd[0], &c, 1);
	set_region(w, 0);
}

static int handled;
static long handled_ret;

static void count(int sig)
{
	INC(handled);
}

struct killer {
	struct worker *w;
	pthread_t scheduler;
	int handled_asleep;
};

/* Sends the signal while the worker sleeps, then lets it go on. */
static void *killer_main(void *arg)
{
	struct killer *k = arg;

	WAIT_FOR(LOAD(k->w->stage) && thread_sleeps_in(k->w->tid, SYS_read));
	pthread_kill(k->scheduler, SIGUSR1);
	k->handled_asleep = WAIT_FOR(LOAD(handled));
	if (write(k->w->fd[1], "x", 1) != 1)
		return arg;
	return NULL;
}

/*
 * A scheduler takes its signals while its worker sleeps in a region, since it
 * gets no upcall on which it could; and waits on.
 */
TEST(scheduler_takes_signals)
{
	struct killer k = { .scheduler = pthread_self() };
	struct sigaction sa = { .sa_handler = count };
	struct worker w = {};
	struct sched s;
	struct list l;
	pthread_t t;
	void *failed;
	__u64 id;

	UMS_REQUIRE();
	k.w = &w;
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, reads_in_region, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, thread_start(&t, killer_main, &k));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EQ(0, pthread_join(t, &failed));
	EXPECT_EQ(NULL, failed);
	EXPECT_TRUE(k.handled_asleep);
	EXPECT_EQ(1, LOAD(handled));
	/* Out of the region it was stopped for the signal, or had ended before. */
	if (s.reason == UMS_UPCALL_PREEMPTED) {
		EXPECT_EQ(id, list_pop(&l));
		ASSERT_EQ(0, sched_run(&s, id, 0));
	}
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(1, w.result);
}

static void leaves(int sig)
{
	handled_ret = ums_scheduler_exit(0);
}

static void dies(int sig)
{
	syscall(SYS_exit, 0);
}

/* Has been asked to stop, and goes on to where it sleeps. */
static void told_then_reads_in_region(struct worker *w)
{
	char c;

	set_region(w, 1);
	STORE(w->stage, 1);
	SPIN_FOR(attention(w));
	w->result = read(w->fd[0], &c, 1);
	set_region(w, 0);
}

static void *executes_until_told(void *arg)
{
	struct worker *w = arg;
	struct sched s;

	if (!sched_enter(&s))
		sched_run(&s, list_pop_wait(w->list), 0);
	return NULL;
}

/*
 * A scheduler is one no more while it runs a worker, which it can be told to only
 * where that sleeps without an upcall. The worker goes on to its list, not to user
 * mode.
 */
TEST(scheduler_gone_in_region)
{
	static void (*const ways[])(int sig) = { dies, leaves };
	struct sigaction sa = {};
	struct sched s;
	pthread_t t;
	__u64 id;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 2; i++) {
		struct worker w = { .result = 9 };
		struct list l;

		sa.sa_handler = ways[i];
		ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
		ASSERT_EQ(0, pipe(w.fd));
		ASSERT_EQ(0, list_open(&l, 1));
		ASSERT_EQ(0, worker_start(&w, &l, told_then_reads_in_region, NULL));
		ASSERT_EQ(0, thread_start(&t, executes_until_told, &w));
		ASSERT_TRUE(WAIT_FOR(LOAD(w.stage)));
		ASSERT_EQ(0, pthread_kill(t, SIGUSR1));
		ASSERT_EQ(0, pthread_join(t, NULL));
		EXPECT_EQ(0, handled_ret);
		EXPECT_TRUE(list_empty(&l));
		ASSERT_EQ(1, write(w.fd[1], "x", 1));
		id = list_pop_wait(&l);
		ASSERT_NE(0, id);
		EXPECT_EQ(UMS_STATE_READY, slot_state(&l, id));
		sleep_ns(10 * MSEC);
		EXPECT_EQ(9, LOAD(w.result));
		ASSERT_EQ(0, sched_run(&s, id, 0));
		EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
		EXPECT_EQ(1, LOAD(w.result));
		ASSERT_EQ(0, pthread_join(w.thread, NULL));
		list_close(&l);
	}
}

/*
 * A handler that interrupts an execution may go on waiting for it, without a slice;
 * that of the interrupted call ends with the worker, and preempts no other.
 */
static struct {
	struct sched s;
	struct worker w[2];
	__u64 id[2];
	__u64 first, second;
	__u64 start;
} again;

static void executes_again(int sig)
{
	if (sched_run(&again.s, again.id[0], 0))
		return;
	again.first = again.s.reason;
	if (sched_run(&again.s, again.id[1], 0))
		return;
	again.second = again.s.reason;
}

static void spins_past_the_slice(struct worker *w)
{
	__u64 end = again.start + 3 * NSEC / 2;

	while (now_ns() < end)
		;
	w->result = 1;
}

static void *lets_go_on(void *arg)
{
	struct worker *w = again.w;

	WAIT_FOR(LOAD(w->stage) && thread_sleeps_in(w->tid, SYS_read));
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	/* It waits again by then, most likely. */
	sleep_ns(20 * MSEC);
	return (void *)(long)(write(w->fd[1], "x", 1) != 1);
}

TEST(slice_of_an_interrupted_execution)
{
	struct sigaction sa = { .sa_handler = executes_again };
	pthread_t t, me = pthread_self();
	struct list l;
	void *failed;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	ASSERT_EQ(0, pipe(again.w[0].fd));
	ASSERT_EQ(0, list_open(&l, 2));
	again.id[0] = worker_start_pop(&again.w[0], &l, reads_in_region, NULL);
	again.id[1] = worker_start_pop(&again.w[1], &l, spins_past_the_slice, NULL);
	ASSERT_EQ(0, sched_enter(&again.s));
	ASSERT_EQ(0, thread_start(&t, lets_go_on, &me));
	/* The handler has it, and the call is made again when that returns. */
	again.start = now_ns();
	EXPECT_EQ(-ESTALE, sched_run(&again.s, again.id[0], NSEC));
	ASSERT_EQ(0, pthread_join(t, &failed));
	EXPECT_EQ(NULL, failed);
	EXPECT_EQ(UMS_UPCALL_EXITED, again.first);
	EXPECT_EQ(UMS_UPCALL_EXITED, again.second);
	EXPECT_EQ(1, again.w[1].result);
}

/* The process is stopped and continued meanwhile. */
TEST(stop_in_region)
{
	int fd[2], status;
	pid_t pid;

	UMS_REQUIRE();
	ASSERT_EQ(0, pipe(fd));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct worker w = { .fd = { fd[0], fd[1] } };
		struct sched s;
		struct list l;
		__u64 id;

		if (list_open(&l, 1))
			_exit(1);
		id = worker_start_pop(&w, &l, reads_in_region, NULL);
		if (sched_enter(&s))
			_exit(2);
		do {
			if (sched_run(&s, id, 0))
				_exit(3);
		} while (s.reason == UMS_UPCALL_PREEMPTED && list_pop(&l) == id);
		_exit(s.reason == UMS_UPCALL_EXITED && w.result == 1 ? 0 : 4);
	}
	/* Asleep, most likely; it has to work before that, too. */
	sleep_ns(100 * MSEC);
	ASSERT_EQ(0, kill(pid, SIGSTOP));
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	ASSERT_EQ(0, kill(pid, SIGCONT));
	ASSERT_EQ(1, write(fd[1], "x", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

static void yields_across(struct worker *w)
{
	set_region(w, w->stage);
	ums_yield(1, 0);
	set_region(w, 0);
	ums_yield(2, 0);
}

/* A debugger holds it when it is executed: that is to sleep, and in a region silent. */
TEST(stopped_when_executed)
{
	struct worker w[2] = { {}, { .stage = 1 } };
	struct sched s;
	struct list l;
	pid_t pid;
	__u64 id;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 2; i++) {
		id = worker_start_pop(&w[i], &l, yields_across, NULL);
		ASSERT_NE(0, id);
		ASSERT_EQ(0, sched_run(&s, id, 0));
		ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, 1);
		pid = stopper_start(w[i].tid);
		ASSERT_LT(0, pid);
		ASSERT_EQ(0, sched_run(&s, id, 0));
		if (!w[i].stage) {
			ASSERT_EQ(UMS_UPCALL_BLOCKED, s.reason);
			ASSERT_EQ(id, list_pop_wait(&l));
			ASSERT_EQ(0, sched_run(&s, id, 0));
		}
		ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, 2);
		EXPECT_EQ(!w[i].stage, stopper_end(pid));
		EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	}
}

/* A handler may not execute another worker: its thread still runs one. */
static __u64 other_id;
static long handler_ret;

static void executes_other(int sig)
{
	handler_ret = ums_execute(other_id, 0, 0);
	INC(handled);
}

TEST(execute_in_handler)
{
	struct killer k = { .scheduler = pthread_self() };
	struct sigaction sa = { .sa_handler = executes_other };
	struct worker w = {}, other = {};
	struct sched s;
	struct list l;
	pthread_t t;
	__u64 id;

	UMS_REQUIRE();
	k.w = &w;
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 2));
	id = worker_start_pop(&w, &l, reads_in_region, NULL);
	other_id = worker_start_pop(&other, &l, sleeps_in_region, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, thread_start(&t, killer_main, &k));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EQ(0, pthread_join(t, NULL));
	EXPECT_EQ(1, LOAD(handled));
	EXPECT_EQ(-EBUSY, handler_ret);
	EXPECT_EQ(id, s.worker);
	EXPECT_EQ(UMS_STATE_READY, slot_state(&l, other_id));
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * Signals to workers in each state, to schedulers and to the process: the
 * handler runs once, in the thread it was sent to, and only when that may run.
 */
#include "ums_test.h"

#include <setjmp.h>
#include <sys/mman.h>

static int handled;
static pid_t handled_by;
static pid_t handled_code;
static int in_handler;		/* what the handler is to do */
static __u64 yield_arg;

static void handler(int sig, siginfo_t *si, void *uc)
{
	int pipes[2];
	char c;

	STORE(handled_by, self_tid());
	handled_code = si->si_code;
	switch (in_handler) {
	case 1:
		ums_yield(yield_arg, 0);
		break;
	case 2:
		/* Blocks, long enough not to be over before it has begun. */
		sleep_ns(30 * MSEC);
		break;
	case 3:
		if (!pipe(pipes) && write(pipes[1], "x", 1) == 1)
			handled_code = read(pipes[0], &c, 1);
		break;
	}
	INC(handled);
}

static int handle(int sig, int flags)
{
	struct sigaction sa = {
		.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags,
	};

	return sigaction(sig, &sa, NULL);
}

/* To thread @tid, or to the process. */
static int send(pid_t tid, int sig)
{
	if (!tid)
		return kill(getpid(), sig);
	return syscall(SYS_tgkill, getpid(), tid, sig);
}

static void until_handled(struct worker *w)
{
	STORE(w->stage, 1);
	while (!LOAD(handled))
		;
	ums_yield(1, 0);
}

struct sender {
	struct worker *w;
	pid_t tid;
	int ret;
	pthread_t t;
};

static void *sender_main(void *arg)
{
	struct sender *s = arg;

	s->ret = WAIT_FOR(LOAD(s->w->stage) == 1) ? send(s->tid, SIGUSR1) : -1;
	return NULL;
}

/* It runs: the handler runs in it, and no scheduler hears of it. */
TEST(to_running_worker)
{
	struct worker w = {};
	struct sender z = { .w = &w };
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, handle(SIGUSR1, 0));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, until_handled, NULL);
	z.tid = w.tid;
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, thread_start(&z.t, sender_main, &z));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 1);
	EXPECT_EQ(1, handled);
	EXPECT_EQ(w.tid, handled_by);
	ASSERT_EQ(0, pthread_join(z.t, NULL));
	EXPECT_EQ(0, z.ret);
}

static void yields(struct worker *w)
{
	ums_yield(1, 0);
	w->stage = LOAD(handled);
	ums_yield(2, 0);
}

/* On its list, taken from it, or yielded: it waits for the execution. */
TEST(to_ready_worker)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, handle(SIGUSR1, 0));
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, worker_start(&w, &l, yields, NULL));
	ASSERT_TRUE(WAIT_FOR(!list_empty(&l)));
	ASSERT_EQ(0, send(w.tid, SIGUSR1));
	sleep_ns(20 * MSEC);
	EXPECT_EQ(0, LOAD(handled));
	/* Not published again for it. */
	EXPECT_EQ(1, LOAD(l.head->tail));
	id = list_pop_wait(&l);
	sleep_ns(20 * MSEC);
	EXPECT_EQ(0, LOAD(handled));
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 1);
	EXPECT_EQ(1, handled);
	EXPECT_EQ(w.tid, handled_by);

	ASSERT_EQ(0, send(w.tid, SIGUSR1));
	sleep_ns(20 * MSEC);
	EXPECT_EQ(1, LOAD(handled));
	EXPECT_EQ(1, LOAD(l.head->tail));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 2);
	EXPECT_EQ(2, handled);
	/* Before its yield returned, not some time after. */
	EXPECT_EQ(2, w.stage);
	EXPECT_TRUE(list_empty(&l));
	ASSERT_EQ(0, worker_run_to_end(&s, &l, id));
}

static void reads_pipe(struct worker *w)
{
	char c;

	errno = 0;
	w->result = read(w->fd[0], &c, 1);
	w->stage = errno;
}

/* Blocked: its call ends with EINTR, the handler runs when it is executed. */
TEST(to_blocked_worker)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, handle(SIGUSR1, 0));
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, reads_pipe, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
	ASSERT_EQ(0, send(w.tid, SIGUSR1));
	ASSERT_EQ(id, list_pop_wait(&l));
	sleep_ns(20 * MSEC);
	EXPECT_EQ(0, LOAD(handled));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(-1, w.result);
	EXPECT_EQ(EINTR, w.stage);
	EXPECT_EQ(1, handled);
	EXPECT_EQ(w.tid, handled_by);
}

/* The same with SA_RESTART: it blocks again, as in an ordinary thread. */
TEST(restart)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, handle(SIGUSR1, SA_RESTART));
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, reads_pipe, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, sched_run(&s, id, 0));
		ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
		EXPECT_EQ(i, handled);
		ASSERT_EQ(0, send(w.tid, SIGUSR1));
		ASSERT_EQ(id, list_pop_wait(&l));
	}
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
	EXPECT_EQ(5, handled);
	ASSERT_EQ(1, write(w.fd[1], "x", 1));
	ASSERT_EQ(id, list_pop_wait(&l));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(1, w.result);
}

static void sleeps_long(struct worker *w)
{
	struct timespec ts = { 1, 0 };
	__u64 start = now_ns();

	w->result = syscall(SYS_nanosleep, &ts, &ts);
	w->stage = now_ns() - start >= NSEC;
}

/* Stopped in a call with a restart block: it goes on to its first deadline. */
TEST(restart_block_of_stopped)
{
	int status, i;
	pid_t pid;

	UMS_REQUIRE();
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct worker w = {};
		struct sched s;
		struct list l;
		__u64 id;

		if (lock_memory() || list_open(&l, 1))
			_exit(2);
		id = worker_start_pop(&w, &l, sleeps_long, NULL);
		if (sched_enter(&s) || worker_run_to_end(&s, &l, id))
			_exit(3);
		_exit(w.result == 0 && w.stage == 1 ? 0 : 4);
	}
	for (i = 0; i < 20; i++) {
		kill(pid, SIGSTOP);
		ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
		if (!WIFSTOPPED(status))
			break;
		kill(pid, SIGCONT);
		sleep_ns(10 * MSEC);
	}
	if (WIFSTOPPED(status)) {
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
	}
	EXPECT_EQ(0, status);
}

/* Handlers in workers may yield, block and call what they like. */
TEST(handler_yields)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, handle(SIGUSR1, 0));
	in_handler = 1;
	yield_arg = 1234;
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, reads_pipe, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
	ASSERT_EQ(0, send(w.tid, SIGUSR1));
	ASSERT_EQ(id, list_pop_wait(&l));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, 1234);
	EXPECT_EQ(0, handled);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(1, handled);
	EXPECT_EQ(EINTR, w.stage);
}

static void raises(struct worker *w)
{
	w->result = raise(SIGUSR1);
}

TEST(handler_blocks)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, handle(SIGUSR1, 0));
	in_handler = 2;
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, raises, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_clock_nanosleep);
	EXPECT_EQ(0, handled);
	ASSERT_EQ(id, list_pop_wait(&l));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(1, handled);
}

static sigjmp_buf jump;
static void *fault_address;

static void jumps(int sig, siginfo_t *si, void *uc)
{
	fault_address = si->si_addr;
	STORE(handled_by, self_tid());
	INC(handled);
	siglongjmp(jump, 1);
}

static void faults(struct worker *w)
{
	volatile int *p = (int *)0x1234;
	int i;

	for (i = 0; i < 3; i++) {
		if (!sigsetjmp(jump, 1))
			*p = 1;
		w->result++;
		ums_yield(w->result, 0);
	}
}

/* A fault of a worker is the worker's; its handler may jump away. */
TEST(synchronous)
{
	struct sigaction sa = { .sa_sigaction = jumps, .sa_flags = SA_SIGINFO };
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, sigaction(SIGSEGV, &sa, NULL));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, faults, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 1; i <= 3; i++) {
		ASSERT_EQ(0, sched_run(&s, id, 0));
		ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, i);
		EXPECT_EQ(i, handled);
		EXPECT_EQ(w.tid, handled_by);
		EXPECT_EQ((void *)0x1234, fault_address);
	}
	ASSERT_EQ(0, worker_run_to_end(&s, &l, id));
}

static void blocks_signal(struct worker *w)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	ums_yield(1, 0);
	w->result = LOAD(handled);
	ums_yield(2, 0);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	w->stage = LOAD(handled);
}

/* Pending while it blocks it, whatever happens meanwhile. */
TEST(mask)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, handle(SIGUSR1, 0));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, blocks_signal, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 1);
	ASSERT_EQ(0, send(w.tid, SIGUSR1));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 2);
	EXPECT_EQ(0, w.result);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(1, w.stage);
	EXPECT_EQ(w.tid, handled_by);
}

static void on_stack(int sig, siginfo_t *si, void *uc)
{
	char here;

	fault_address = &here;
	INC(handled);
	ums_yield(3, 0);
}

static void has_altstack(struct worker *w)
{
	stack_t st = { .ss_sp = w->arg, .ss_size = 65536 };

	sigaltstack(&st, NULL);
	raise(SIGUSR1);
}

TEST(alternate_stack)
{
	struct sigaction sa = {
		.sa_sigaction = on_stack, .sa_flags = SA_SIGINFO | SA_ONSTACK,
	};
	char *stack = malloc(65536);
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, has_altstack, stack);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 3);
	EXPECT_LE(stack, (char *)fault_address);
	EXPECT_GT(stack + 65536, (char *)fault_address);
	ASSERT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_EQ(1, handled);
}

static void spins(struct worker *w)
{
	/* Who ends it may have been quicker. */
	__sync_bool_compare_and_swap(&w->stage, 0, 1);
	while (LOAD(w->stage) != 2)
		;
}

/* The scheduler gets one while a worker runs: it takes its thread back. */
TEST(to_executing_scheduler)
{
	struct worker w = {};
	struct sender z = { .w = &w, .tid = self_tid() };
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, handle(SIGUSR1, 0));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, spins, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, thread_start(&z.t, sender_main, &z));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_PREEMPTED, id, UMS_PREEMPT_SIGNAL);
	/* Before the first instruction of the upcall. */
	EXPECT_EQ(1, handled);
	EXPECT_EQ(self_tid(), handled_by);
	ASSERT_EQ(id, list_pop(&l));
	ASSERT_EQ(0, pthread_join(z.t, NULL));
	STORE(w.stage, 2);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(1, handled);
}

static int soon;	/* of those that were sent, whose handler ran within 50 ms */

static void *pesters(void *arg)
{
	struct sender *z = arg;
	__u64 start;
	int i;

	for (i = 0; i < 100 && !z->ret; i++) {
		start = now_ns();
		z->ret = send(z->tid, SIGUSR1);
		/* Each must have arrived before the next, or they merge. */
		if (!WAIT_FOR(LOAD(handled) == i + 1))
			z->ret = -1;
		if (now_ns() < start + 50 * MSEC)
			soon++;
	}
	STORE(z->w->stage, 2);
	return NULL;
}

/* Many, at any moment: each is handled, and the worker survives them. */
TEST(many_to_scheduler)
{
	struct worker w = {};
	struct sender z = { .w = &w, .tid = self_tid() };
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, handle(SIGUSR1, 0));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, spins, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, thread_start(&z.t, pesters, &z));
	for (;;) {
		ASSERT_EQ(0, sched_run(&s, id, 0));
		ASSERT_EQ(id, s.worker);
		if (s.reason == UMS_UPCALL_EXITED)
			break;
		ASSERT_EVENT(&s, UMS_UPCALL_PREEMPTED, id, UMS_PREEMPT_SIGNAL);
		ASSERT_EQ(id, list_pop(&l));
	}
	ASSERT_EQ(0, pthread_join(z.t, NULL));
	EXPECT_EQ(0, z.ret);
	EXPECT_EQ(100, handled);
	EXPECT_EQ(self_tid(), handled_by);
	/* Else it only finds out when it looks by itself, each tenth of a second. */
	EXPECT_LE(20, soon);
	TH_LOG("%d of 100 within 50 ms", soon);
}

static void *sends_to_sleeper(void *arg)
{
	struct sender *z = arg;

	z->ret = WAIT_FOR(thread_sleeps_in(z->tid, NR_UMS_WAIT)) ? send(z->tid, SIGUSR1) : -1;
	return NULL;
}

/* Between two executions the scheduler is a thread like any other. */
TEST(to_idle_scheduler)
{
	struct __kernel_timespec ts = { LIMIT_S, 0 };
	struct sender z = { .tid = self_tid() };
	struct sched s;
	struct list l;

	UMS_REQUIRE();
	ASSERT_EQ(0, handle(SIGUSR1, 0));
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	raise(SIGUSR1);
	EXPECT_EQ(1, handled);
	ASSERT_EQ(0, thread_start(&z.t, sends_to_sleeper, &z));
	EXPECT_EQ(-EINTR, ums_wait(l.fd, &ts, 0));
	EXPECT_EQ(2, handled);
	EXPECT_EQ(self_tid(), handled_by);
	EXPECT_EQ(1, s.upcalls);
	ASSERT_EQ(0, pthread_join(z.t, NULL));
	EXPECT_EQ(0, z.ret);
}

/* To the process: once, by some thread of it. */
TEST(to_process)
{
	struct worker w = {};
	struct sender z = { .w = &w };
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, handle(SIGUSR1, 0));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, spins, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, thread_start(&z.t, pesters, &z));
	/* The scheduler is the main thread, so it may be the one. */
	for (;;) {
		ASSERT_EQ(0, sched_run(&s, id, 0));
		if (s.reason == UMS_UPCALL_EXITED)
			break;
		ASSERT_EVENT(&s, UMS_UPCALL_PREEMPTED, id, UMS_PREEMPT_SIGNAL);
		ASSERT_EQ(id, list_pop(&l));
	}
	ASSERT_EQ(0, pthread_join(z.t, NULL));
	EXPECT_EQ(0, z.ret);
	EXPECT_EQ(100, handled);
}

static int open_signal(bool open)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	return pthread_sigmask(open ? SIG_UNBLOCK : SIG_BLOCK, &set, NULL);
}

static void *sends_ten(void *arg)
{
	struct sender *z = arg;
	int i;

	for (i = 1; i <= 10 && !z->ret; i++) {
		z->ret = WAIT_FOR(LOAD(z->w->stage) == 1) ? send(0, SIGUSR1) : -1;
		if (!WAIT_FOR(LOAD(handled) == i) || LOAD(handled_by) != z->w->tid)
			z->ret = -i;
	}
	STORE(z->w->stage, 2);
	return NULL;
}

/*
 * A scheduler, be it the main thread, is not made to stop its worker for a signal
 * that the worker can take.
 */
TEST(to_process_with_a_running_worker)
{
	struct worker w = {};
	struct sender z = { .w = &w };
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	/* Open while it is handled, too: the next one may come that soon. */
	ASSERT_EQ(0, handle(SIGUSR1, SA_NODEFER));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, spins, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, open_signal(false));
	ASSERT_EQ(0, thread_start(&z.t, sends_ten, &z));
	ASSERT_EQ(0, open_signal(true));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	ASSERT_EQ(0, pthread_join(z.t, NULL));
	EXPECT_EQ(0, z.ret);
	EXPECT_EQ(10, handled);
}

/*
 * A parked worker with the signal open and somebody else who can take it: that
 * one does.
 */
TEST(to_process_prefers_who_can_take_it)
{
	struct worker w = {};
	struct list l;
	__u64 id;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, handle(SIGUSR1, 0));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, spins, NULL);
	ASSERT_NE(0, id);
	for (i = 1; i <= 10; i++) {
		kill(getpid(), SIGUSR1);
		ASSERT_TRUE(WAIT_FOR(LOAD(handled) == i));
		EXPECT_EQ(self_tid(), handled_by);
	}
}

/*
 * The main thread, to whom signals of the process are offered first, is a worker
 * that waits. Who else is there, with the signal open:
 */
enum company {
	ORDINARY,	/* a thread without a role */
	RUNNING,	/* a worker that a scheduler runs */
	WAITING,	/* a scheduler in ums_wait() */
	EXECUTING,	/* a scheduler that runs a worker */
	NOBODY,
};

static struct {
	enum company kind;
	struct list l, other;
	struct worker w;
	pid_t tid;		/* who is to take it, once that is ready */
} company;

static void *waits_for_signals(void *arg)
{
	open_signal(true);
	STORE(company.tid, self_tid());
	for (;;)
		pause();
	return NULL;
}

static void spins_for_ever(struct worker *w)
{
	open_signal(company.kind == RUNNING);
	STORE(company.tid, company.kind == RUNNING ? self_tid() : (pid_t)(long)w->arg);
	for (;;)
		;
}

static void *schedules(void *arg)
{
	struct sched s;
	__u64 id;

	open_signal(company.kind != RUNNING);
	if (sched_enter(&s))
		_exit(10);
	if (company.kind == WAITING) {
		STORE(company.tid, self_tid());
		for (;;)
			ums_wait(company.other.fd, NULL, 0);
	}
	id = worker_start_pop(&company.w, &company.other, spins_for_ever,
			      (void *)(long)self_tid());
	for (;;) {
		if (!id || sched_run(&s, id, 0))
			_exit(11);
		id = list_pop_wait(&company.other);
	}
}

/* It is in no handler: a signal would not go to it then, but to a worker that waits. */
static bool takes_signals(pid_t tid)
{
	char path[64], text[2048], v[32] = "";

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
	if (read_text(path, text, sizeof(text)) < 0 ||
	    !text_value(text, "SigBlk", v, sizeof(v)))
		return false;
	return !(strtoull(v, NULL, 16) & (1ULL << (SIGUSR1 - 1)));
}

/* Ends the process with 0, or a number that tells what was wrong. */
static void *sends(void *arg)
{
	struct sched s;
	int i;

	if (!WAIT_FOR(!list_empty(&company.l) &&
		      (company.kind == NOBODY || LOAD(company.tid))))
		_exit(20);
	for (i = 1; company.kind != NOBODY && i <= 5; i++) {
		if (!WAIT_FOR(takes_signals(company.tid)))
			_exit(27);
		kill(getpid(), SIGUSR1);
		if (!WAIT_FOR(LOAD(handled) == i))
			_exit(21);
		if (LOAD(handled_by) != company.tid)
			_exit(22);
	}
	if (company.kind != NOBODY)
		_exit(0);

	kill(getpid(), SIGUSR1);
	sleep_ns(50 * MSEC);
	if (LOAD(handled))
		_exit(23);
	/* It is there when the worker is executed. */
	if (sched_enter(&s) || sched_run(&s, list_pop(&company.l), 0))
		_exit(24);
	while (s.reason == UMS_UPCALL_BLOCKED)
		if (sched_run(&s, list_pop_wait(&company.l), 0))
			_exit(25);
	_exit(handled == 1 && handled_by == getpid() ? 0 : 26);
}

static int main_is_worker(enum company kind)
{
	struct ums_worker_args args = {};
	pthread_t t;

	company.kind = kind;
	if (open_signal(false) || handle(SIGUSR1, 0) ||
	    list_open(&company.l, 1) || list_open(&company.other, 1) ||
	    thread_start(&t, sends, NULL))
		return 1;
	if (kind != NOBODY &&
	    thread_start(&t, kind == ORDINARY ? waits_for_signals : schedules, NULL))
		return 2;
	open_signal(true);
	if (ums_worker_enter(company.l.fd, &args, sizeof(args)) < 0 || ums_detach(0))
		return 3;
	for (;;)
		pause();
}

TEST(to_process_of_waiting_workers)
{
	int kind, status;
	pid_t pid;

	UMS_REQUIRE();
	for (kind = ORDINARY; kind <= NOBODY; kind++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(main_is_worker(kind));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status) {
			TH_LOG("company %d: status %x", kind, status);
		}
	}
}

static void *loops(void *arg)
{
	struct worker *w = arg;
	struct sched s;
	__u64 id;

	if (sched_enter(&s))
		return NULL;
	id = list_pop_wait(w->list);
	worker_run_to_end(&s, w->list, id);
	return NULL;
}

/* The fatal kind, from and to any of them. */
static int death(int how, int sig)
{
	struct worker w = {};
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		struct list l;
		pthread_t t;

		signal(sig, SIG_DFL);
		if (list_open(&l, 1) || worker_start(&w, &l, spins, NULL))
			_exit(2);
		w.list = &l;
		if (how != 2 && thread_start(&t, loops, &w))
			_exit(3);
		if (how != 2 && !WAIT_FOR(LOAD(w.stage) == 1))
			_exit(4);
		if (how == 2 && !WAIT_FOR(!list_empty(&l)))
			_exit(5);
		if (how == 3)
			kill(getpid(), sig);
		else
			send(w.tid, sig);
		for (;;)
			pause();
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

TEST(fatal)
{
	static const int sigs[] = { SIGTERM, SIGKILL, SIGUSR2 };
	int i;

	UMS_REQUIRE();
	for (i = 0; i < ARRAY_SIZE(sigs); i++) {
		/* To a worker that runs, one that is parked, the process. */
		EXPECT_EQ(sigs[i], death(1, sigs[i]));
		EXPECT_EQ(sigs[i], death(2, sigs[i]));
		EXPECT_EQ(sigs[i], death(3, sigs[i]));
	}
}

static void crashes(struct worker *w)
{
	*(volatile int *)w->arg = 1;
}

TEST_SIGNAL(crash_in_worker, SIGSEGV)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, crashes, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	worker_run_to_end(&s, &l, id);
	/* Not reached. */
	ASSERT_TRUE(false);
}

struct shared {
	long progress;
	int end;
};

static void progresses(struct worker *w)
{
	struct shared *sh = w->arg;
	int i = 0;

	while (!LOAD(sh->end)) {
		INC(sh->progress);
		if (!(++i % 16))
			sleep_ns(1000);
		ums_yield(0, UMS_YIELD_PUBLISH);
	}
}

/* The process stopped and continued, with workers in all states. */
TEST(stop_and_continue)
{
	struct shared *sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status, i;
	long was;
	pid_t pid;

	UMS_REQUIRE();
	ASSERT_NE(MAP_FAILED, sh);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct worker w[8] = {};
		int left = 8;
		struct sched s;
		struct list l;
		__u64 id;

		if (list_open(&l, 8) || sched_enter(&s))
			_exit(2);
		for (i = 0; i < 8; i++)
			if (worker_start(&w[i], &l, progresses, sh))
				_exit(3);
		while (left) {
			id = list_pop_wait(&l);
			if (!id || sched_run(&s, id, 0))
				_exit(4);
			if (s.reason == UMS_UPCALL_EXITED)
				left--;
		}
		_exit(0);
	}
	for (i = 0; i < 30; i++) {
		was = LOAD(sh->progress);
		ASSERT_TRUE(WAIT_FOR(LOAD(sh->progress) > was + 5));
		ASSERT_EQ(0, kill(pid, SIGSTOP));
		ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
		ASSERT_TRUE(WIFSTOPPED(status));
		was = LOAD(sh->progress);
		sleep_ns(10 * MSEC);
		/* Nobody runs. */
		EXPECT_EQ(was, LOAD(sh->progress));
		ASSERT_EQ(0, kill(pid, SIGCONT));
	}
	was = LOAD(sh->progress);
	ASSERT_TRUE(WAIT_FOR(LOAD(sh->progress) > was + 100));
	STORE(sh->end, 1);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_HARNESS_MAIN

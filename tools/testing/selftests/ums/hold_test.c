// SPDX-License-Identifier: GPL-2.0
/*
 * A worker that blocked in a place where it holds nothing is published by who
 * wakes it, and goes on in the kernel only when it is executed: readers of
 * pipes and unix sockets, futexes, timers. And what else may wake it.
 */
#include "ums_test.h"

#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* How often thread @tid gave up the CPU by itself; -1 on failure. */
static long switches(pid_t tid)
{
	static char buf[8192];
	char path[64], value[32];

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
	if (read_text(path, buf, sizeof(buf)) < 0 ||
	    !text_value(buf, "voluntary_ctxt_switches", value, sizeof(value)))
		return -1;
	return atol(value);
}

/* Reads a byte; @result: 1, or the negative errno. */
static void reads(struct worker *w)
{
	char c;

	w->result = ums_ret(read(w->fd[0], &c, 1));
	STORE(w->stage, 1);
}

FIXTURE(hold) {
	struct worker w;
	struct sched s;
	struct list l;
	__u64 id;
};

FIXTURE_SETUP(hold)
{
	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&self->l, 2));
	ASSERT_EQ(0, pipe(self->w.fd));
	self->id = worker_start_pop(&self->w, &self->l, reads, NULL);
	ASSERT_EQ(0, sched_enter(&self->s));
}

FIXTURE_TEARDOWN(hold)
{
}

/* Blocks in its read(), and is off the CPU. */
#define BLOCK() do {							\
	ASSERT_EQ(0, sched_run(&self->s, self->id, 0));			\
	ASSERT_EVENT(&self->s, UMS_UPCALL_BLOCKED, self->id, SYS_read);	\
	ASSERT_TRUE(WAIT_FOR(thread_sleeps_in(self->w.tid, SYS_read)));	\
} while (0)

/* Goes on, has read a byte and ends. */
#define FINISH() do {							\
	ASSERT_EQ(0, sched_run(&self->s, self->id, 0));			\
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, self->id, 0);		\
	EXPECT_EQ(1, self->w.result);					\
	EXPECT_TRUE(list_empty(&self->l));				\
} while (0)

/* When write() has returned the worker is there, and has not run for that. */
TEST_F(hold, published_by_the_waker)
{
	long before;

	BLOCK();
	EXPECT_EQ('S', thread_state(getpid(), self->w.tid));
	before = switches(self->w.tid);
	ASSERT_LE(0, before);
	EXPECT_TRUE(list_empty(&self->l));
	ASSERT_EQ(1, write(self->w.fd[1], "x", 1));
	EXPECT_EQ(self->id, list_pop(&self->l));
	EXPECT_EQ(UMS_STATE_READY, slot_state(&self->l, self->id));
	EXPECT_EQ('S', thread_state(getpid(), self->w.tid));
	EXPECT_EQ(before, switches(self->w.tid));
	FINISH();
}

/* More wake-ups do not publish it again. */
TEST_F(hold, published_once)
{
	struct ums_info info;
	int i;

	BLOCK();
	for (i = 0; i < 5; i++)
		ASSERT_EQ(1, write(self->w.fd[1], "x", 1));
	EXPECT_EQ(self->id, list_pop(&self->l));
	EXPECT_TRUE(list_empty(&self->l));
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, self->id, &info, sizeof(info)));
	EXPECT_EQ(2, info.publishes);
	FINISH();
}

/* Somebody else took the data meanwhile: it blocks again, which is told. */
TEST_F(hold, nothing_left)
{
	char c;

	BLOCK();
	ASSERT_EQ(1, write(self->w.fd[1], "x", 1));
	EXPECT_EQ(self->id, list_pop(&self->l));
	ASSERT_EQ(1, read(self->w.fd[0], &c, 1));
	BLOCK();
	EXPECT_EQ(UMS_STATE_BLOCKED, slot_state(&self->l, self->id));
	ASSERT_EQ(1, write(self->w.fd[1], "x", 1));
	EXPECT_EQ(self->id, list_pop(&self->l));
	FINISH();
}

static pid_t sleeper;	/* a thread that is about to sleep */

#define SLEEPS_IN(nr)	WAIT_FOR(LOAD(sleeper) && thread_sleeps_in(sleeper, nr))

static void *waits(void *arg)
{
	struct list *l = arg;

	STORE(sleeper, self_tid());
	return (void *)list_pop_wait(l);
}

/* The waker wakes who sleeps in ums_wait(). */
TEST_F(hold, wakes_a_waiter)
{
	pthread_t t;
	void *got;

	BLOCK();
	ASSERT_EQ(0, thread_start(&t, waits, &self->l));
	ASSERT_TRUE(SLEEPS_IN(NR_UMS_WAIT));
	ASSERT_EQ(1, write(self->w.fd[1], "x", 1));
	ASSERT_EQ(0, pthread_join(t, &got));
	EXPECT_EQ(self->id, (__u64)got);
	FINISH();
}

static void *polls(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };

	STORE(sleeper, self_tid());
	return (void *)(long)poll(&p, 1, LIMIT_S * 1000);
}

/* And who polls the list. */
TEST_F(hold, wakes_a_poller)
{
	pthread_t t;
	void *got;

	BLOCK();
	ASSERT_EQ(0, thread_start(&t, polls, &self->l.fd));
	ASSERT_TRUE(SLEEPS_IN(SYS_poll));
	ASSERT_EQ(1, write(self->w.fd[1], "x", 1));
	ASSERT_EQ(0, pthread_join(t, &got));
	EXPECT_EQ(1, (long)got);
	EXPECT_EQ(self->id, list_pop(&self->l));
	FINISH();
}

static void *reads_too(void *arg)
{
	char c;

	STORE(sleeper, self_tid());
	return (void *)(long)read(*(int *)arg, &c, 1);
}

/*
 * Readers of a pipe are woken one for each write. A worker that is published
 * and not executed does not keep the wake-up from the next one.
 */
TEST_F(hold, passes_an_exclusive_wakeup_on)
{
	pthread_t t;
	void *got;

	BLOCK();
	ASSERT_EQ(0, thread_start(&t, reads_too, &self->w.fd[0]));
	/* Behind the worker. */
	ASSERT_TRUE(SLEEPS_IN(SYS_read));
	ASSERT_EQ(1, write(self->w.fd[1], "x", 1));
	ASSERT_EQ(0, pthread_join(t, &got));
	EXPECT_EQ(1, (long)got);
	EXPECT_EQ(self->id, list_pop(&self->l));
	BLOCK();
	ASSERT_EQ(1, write(self->w.fd[1], "x", 1));
	EXPECT_EQ(self->id, list_pop(&self->l));
	FINISH();
}

/*
 * Who looks at its system call just when it goes to sleep waits until it has left its
 * CPU, and not until it is woken.
 */
static void *looks(void *arg)
{
	struct worker *w = arg;
	char path[64], buf[256];

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", w->tid);
	while (!LOAD(w->stage)) {
		read_text(path, buf, sizeof(buf));
		INC(w->user_data);
	}
	return NULL;
}

static void reads_many(struct worker *w)
{
	char c;

	while (read(w->fd[0], &c, 1) == 1 && c != 'z')
		;
	STORE(w->stage, 1);
}

TEST(looked_at_when_it_goes_to_sleep)
{
	struct worker w = {};
	pthread_t t[2];
	struct sched s;
	struct list l;
	__u64 id, seen;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, pipe(w.fd));
	id = worker_start_pop(&w, &l, reads_many, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, thread_start(&t[i], looks, &w));
	for (i = 0; i < 1000; i++) {
		ASSERT_EQ(0, sched_run(&s, id, 0));
		ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
		/* Both go on looking, though nobody wakes it. */
		seen = LOAD(w.user_data);
		ASSERT_TRUE(WAIT_FOR(LOAD(w.user_data) >= seen + 4));
		ASSERT_EQ(1, write(w.fd[1], i < 999 ? "x" : "z", 1));
		ASSERT_EQ(id, list_pop_wait(&l));
	}
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_join(t[i], NULL));
}

static int handled;

static void count(int sig)
{
	INC(handled);
}

/* A signal before the wake-up has it leave its call; it publishes itself. */
TEST_F(hold, signal_before)
{
	struct sigaction sa = { .sa_handler = count };

	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	BLOCK();
	ASSERT_EQ(0, pthread_kill(self->w.thread, SIGUSR1));
	ASSERT_EQ(self->id, list_pop_wait(&self->l));
	EXPECT_EQ(0, LOAD(handled));
	ASSERT_EQ(0, sched_run(&self->s, self->id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, self->id, 0);
	EXPECT_EQ(-EINTR, self->w.result);
	EXPECT_EQ(1, LOAD(handled));
	EXPECT_TRUE(list_empty(&self->l));
}

/* One after it: the data has come, the call returns it, the handler runs. */
TEST_F(hold, signal_after)
{
	struct sigaction sa = { .sa_handler = count, .sa_flags = SA_RESTART };

	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	BLOCK();
	ASSERT_EQ(1, write(self->w.fd[1], "x", 1));
	ASSERT_EQ(0, pthread_kill(self->w.thread, SIGUSR1));
	EXPECT_EQ(self->id, list_pop(&self->l));
	FINISH();
	EXPECT_EQ(1, LOAD(handled));
}

/* The list is closed while it sleeps: an ordinary thread reads the byte. */
TEST_F(hold, list_closed)
{
	BLOCK();
	ASSERT_EQ(0, close(self->l.fd));
	ASSERT_EQ(1, write(self->w.fd[1], "x", 1));
	ASSERT_EQ(0, pthread_join(self->w.thread, NULL));
	EXPECT_EQ(1, self->w.result);
}

/* The same after it was published, and taken. */
TEST_F(hold, list_closed_after)
{
	BLOCK();
	ASSERT_EQ(1, write(self->w.fd[1], "x", 1));
	EXPECT_EQ(self->id, list_pop(&self->l));
	ASSERT_EQ(0, close(self->l.fd));
	ASSERT_EQ(0, pthread_join(self->w.thread, NULL));
	EXPECT_EQ(1, self->w.result);
}

/* Killed in every state, the process ends. */
TEST(killed)
{
	int stage, status;
	pid_t pid;

	UMS_REQUIRE();
	for (stage = 0; stage < 3; stage++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			struct worker w = {};
			struct sched s;
			struct list l;
			__u64 id;

			if (pipe(w.fd) || list_open(&l, 1))
				_exit(1);
			id = worker_start_pop(&w, &l, reads, NULL);
			if (sched_enter(&s) || sched_run(&s, id, 0))
				_exit(2);
			if (stage >= 1 && write(w.fd[1], "x", 1) != 1)
				_exit(3);
			if (stage >= 2 && list_pop(&l) != id)
				_exit(4);
			kill(getpid(), SIGKILL);
			pause();
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_EQ(SIGKILL, WTERMSIG(status));
	}
}

/* Other marked places: a futex with a timeout, a timer, a unix socket. */
static int word;

static void futex_waits(struct worker *w)
{
	struct timespec ts = { .tv_sec = LIMIT_S };

	w->result = ums_ret(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &ts, NULL, 0));
}

static void futex_times_out(struct worker *w)
{
	struct timespec ts = { .tv_nsec = 5 * MSEC };

	w->result = ums_ret(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &ts, NULL, 0));
}

static void naps(struct worker *w)
{
	struct timespec ts = { .tv_nsec = 5 * MSEC };

	w->result = ums_ret(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &ts, NULL));
}

static void receives(struct worker *w)
{
	char c[4];

	w->result = recv(w->fd[0], c, sizeof(c), MSG_WAITALL);
}

FIXTURE(places) {
	struct worker w;
	struct sched s;
	struct list l;
};

FIXTURE_SETUP(places)
{
	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&self->l, 1));
	ASSERT_EQ(0, sched_enter(&self->s));
}

FIXTURE_TEARDOWN(places)
{
}

TEST_F(places, futex)
{
	__u64 id = worker_start_pop(&self->w, &self->l, futex_waits, NULL);

	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	ASSERT_EVENT(&self->s, UMS_UPCALL_BLOCKED, id, SYS_futex);
	ASSERT_TRUE(WAIT_FOR(thread_sleeps_in(self->w.tid, SYS_futex)));
	ASSERT_EQ(1, syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1));
	EXPECT_EQ(id, list_pop(&self->l));
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(0, self->w.result);
}

/* The timer's interrupt is the waker. */
TEST_F(places, futex_timeout)
{
	__u64 id = worker_start_pop(&self->w, &self->l, futex_times_out, NULL);

	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	ASSERT_EVENT(&self->s, UMS_UPCALL_BLOCKED, id, SYS_futex);
	EXPECT_EQ(id, list_pop_wait(&self->l));
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(-ETIMEDOUT, self->w.result);
}

TEST_F(places, nanosleep)
{
	__u64 id = worker_start_pop(&self->w, &self->l, naps, NULL);

	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	ASSERT_EVENT(&self->s, UMS_UPCALL_BLOCKED, id, SYS_clock_nanosleep);
	EXPECT_EQ(id, list_pop_wait(&self->l));
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(0, self->w.result);
}

/* Each wake-up publishes it, though its call needs four of them. */
TEST_F(places, unix_socket)
{
	__u64 id;
	int i;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, self->w.fd));
	id = worker_start_pop(&self->w, &self->l, receives, NULL);
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, sched_run(&self->s, id, 0));
		ASSERT_EVENT(&self->s, UMS_UPCALL_BLOCKED, id, SYS_recvfrom);
		ASSERT_TRUE(WAIT_FOR(thread_sleeps_in(self->w.tid, SYS_recvfrom)));
		ASSERT_EQ(1, write(self->w.fd[1], "x", 1));
		EXPECT_EQ(id, list_pop(&self->l));
	}
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(4, self->w.result);
	EXPECT_EQ(5, list_slot(&self->l, id)->executes);
}

/*
 * A worker in FUTEX_WAIT_REQUEUE_PI may be handed a lock in its sleep, with the
 * priority of those who wait for it: it does not lie there until it is executed.
 */
static int cond, lock;

static void waits_for_lock(struct worker *w)
{
	w->result = ums_ret(syscall(SYS_futex, &cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0,
				    NULL, &lock, 0));
	if (w->result == 0)
		w->stage = (LOAD(lock) & FUTEX_TID_MASK) == (unsigned int)self_tid() ?
			   ums_ret(syscall(SYS_futex, &lock, FUTEX_UNLOCK_PI_PRIVATE)) : 1;
}

/* With the lock free, and held by the one who requeues. */
static void requeue_pi(struct __test_metadata *_metadata, struct worker *w,
		       struct sched *s, struct list *l, bool held)
{
	long before;
	__u64 id;

	id = worker_start_pop(w, l, waits_for_lock, NULL);
	ASSERT_EQ(0, sched_run(s, id, 0));
	ASSERT_EVENT(s, UMS_UPCALL_BLOCKED, id, SYS_futex);
	ASSERT_TRUE(WAIT_FOR(thread_sleeps_in(w->tid, SYS_futex)));
	before = switches(w->tid);
	ASSERT_LE(0, before);
	if (held)
		ASSERT_EQ(0, syscall(SYS_futex, &lock, FUTEX_LOCK_PI_PRIVATE, 0, NULL));
	ASSERT_EQ(1, syscall(SYS_futex, &cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, 0L,
			     &lock, 0));
	if (held) {
		EXPECT_EQ(self_tid(), LOAD(lock) & FUTEX_TID_MASK);
		EXPECT_TRUE(list_empty(l));
		ASSERT_EQ(0, syscall(SYS_futex, &lock, FUTEX_UNLOCK_PI_PRIVATE));
	}
	EXPECT_EQ(id, list_pop_wait(l));
	EXPECT_EQ(w->tid, LOAD(lock) & FUTEX_TID_MASK);
	/* It has gone on in the kernel, and sleeps there once more. */
	EXPECT_TRUE(WAIT_FOR(switches(w->tid) > before));
	ASSERT_EQ(0, sched_run(s, id, 0));
	EXPECT_EVENT(s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(0, w->result);
	EXPECT_EQ(0, w->stage);
	EXPECT_EQ(0, LOAD(lock));
}

TEST_F(places, requeue_pi_free)
{
	requeue_pi(_metadata, &self->w, &self->s, &self->l, false);
}

TEST_F(places, requeue_pi_held)
{
	requeue_pi(_metadata, &self->w, &self->s, &self->l, true);
}

static void waits_for_child(struct worker *w)
{
	w->result = ums_ret(waitpid(*(pid_t *)w->arg, NULL, 0));
}

TEST_F(places, child)
{
	int go[2];
	pid_t pid;
	__u64 id;
	char c;

	ASSERT_EQ(0, pipe(go));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(read(go[0], &c, 1) != 1);
	id = worker_start_pop(&self->w, &self->l, waits_for_child, &pid);
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	ASSERT_EVENT(&self->s, UMS_UPCALL_BLOCKED, id, SYS_wait4);
	ASSERT_EQ(1, write(go[1], "x", 1));
	EXPECT_EQ(id, list_pop_wait(&self->l));
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(pid, self->w.result);
}

/* A worker that is itself in ums_wait(): woken under the lock of that list. */
static struct list inner;

static void waits_inside(struct worker *w)
{
	w->result = ums_wait(inner.fd, NULL, 0);
}

TEST_F(places, worker_in_ums_wait)
{
	__u64 id;

	ASSERT_EQ(0, list_open(&inner, 1));
	id = worker_start_pop(&self->w, &self->l, waits_inside, NULL);
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	ASSERT_EVENT(&self->s, UMS_UPCALL_BLOCKED, id, NR_UMS_WAIT);
	ASSERT_TRUE(WAIT_FOR(thread_sleeps_in(self->w.tid, NR_UMS_WAIT)));
	ASSERT_EQ(0, close(inner.fd));
	ASSERT_EQ(id, list_pop_wait(&self->l));
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(-EBADF, self->w.result);
}

/*
 * A debugger stops a worker that was published, and taken. To execute it is no
 * error, but it does not run: it is said to block, and comes again when it is
 * let go. Its scheduler is not kept for that long.
 */
static void debugger(pid_t tid, int ready, int go)
{
	int status;
	char c = 0;

	if (ptrace(PTRACE_SEIZE, tid, 0, 0) || ptrace(PTRACE_INTERRUPT, tid, 0, 0) ||
	    waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status))
		_exit(1);
	if (write(ready, &c, 1) != 1 || read(go, &c, 1) != 1)
		_exit(2);
	_exit(ptrace(PTRACE_DETACH, tid, 0, 0) ? 3 : 0);
}

TEST_F(hold, stopped_by_a_debugger)
{
	int ready[2], go[2], status;
	pid_t pid;
	char c;

	BLOCK();
	ASSERT_EQ(1, write(self->w.fd[1], "x", 1));
	EXPECT_EQ(self->id, list_pop(&self->l));
	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		debugger(self->w.tid, ready[1], go[0]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	EXPECT_EQ(UMS_STATE_READY, slot_state(&self->l, self->id));
	ASSERT_EQ(0, sched_run(&self->s, self->id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_BLOCKED, self->id, SYS_read);
	EXPECT_EQ(UMS_STATE_BLOCKED, slot_state(&self->l, self->id));
	EXPECT_EQ(0, LOAD(self->w.stage));
	EXPECT_TRUE(list_empty(&self->l));
	ASSERT_EQ(1, write(go[1], "x", 1));
	ASSERT_EQ(self->id, list_pop_wait(&self->l));
	FINISH();
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_HARNESS_MAIN

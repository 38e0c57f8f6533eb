// SPDX-License-Identifier: GPL-2.0
/* ums_wait: timeouts, wake-ups, signals, the end of the list. */
#include "ums_test.h"

#include <poll.h>

#define MAX_WAITERS 6

static void nothing(struct worker *w)
{
}

struct waiter {
	struct list *l;
	struct __kernel_timespec *ts;
	unsigned int flags;
	pthread_t t;
	pid_t tid;
	long ret;
	bool done;
};

static int waiters_done;

static void *waiter_main(void *arg)
{
	struct waiter *w = arg;

	STORE(w->tid, self_tid());
	w->ret = ums_wait(w->l->fd, w->ts, w->flags);
	STORE(w->done, true);
	INC(waiters_done);
	return NULL;
}

static int waiter_start(struct waiter *w, struct list *l)
{
	int ret;

	w->l = l;
	ret = thread_start(&w->t, waiter_main, w);
	return ret ?: WAIT_FOR(LOAD(w->tid) &&
			       thread_sleeps_in(w->tid, NR_UMS_WAIT)) ? 0 : -1;
}

static struct __kernel_timespec abs_ts(__u64 ns)
{
	return (struct __kernel_timespec) { ns / NSEC, ns % NSEC };
}

TEST(timeouts)
{
	struct __kernel_timespec ts = {};
	struct list l;
	__u64 start;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	EXPECT_EQ(-ETIMEDOUT, ums_wait(l.fd, &ts, 0));
	EXPECT_EQ(-ETIMEDOUT, ums_wait(l.fd, &ts, UMS_WAIT_ABSTIME));

	start = now_ns();
	ts = abs_ts(30 * MSEC);
	EXPECT_EQ(-ETIMEDOUT, ums_wait(l.fd, &ts, 0));
	EXPECT_LE(start + 30 * MSEC, now_ns());
	/* The argument is not written. */
	EXPECT_EQ(0, ts.tv_sec);
	EXPECT_EQ(30 * MSEC, ts.tv_nsec);

	start = now_ns();
	ts = abs_ts(start + 30 * MSEC);
	EXPECT_EQ(-ETIMEDOUT, ums_wait(l.fd, &ts, UMS_WAIT_ABSTIME));
	EXPECT_LE(start + 30 * MSEC, now_ns());

	/* A time long past. */
	ts = abs_ts(1);
	EXPECT_EQ(-ETIMEDOUT, ums_wait(l.fd, &ts, UMS_WAIT_ABSTIME));
}

TEST(not_empty)
{
	struct __kernel_timespec zero = {};
	struct worker w = {};
	struct list l;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, worker_start(&w, &l, nothing, NULL));
	/* Level-triggered: as long as something is there, at once. */
	EXPECT_EQ(0, ums_wait(l.fd, NULL, 0));
	EXPECT_EQ(0, ums_wait(l.fd, NULL, 0));
	EXPECT_EQ(0, ums_wait(l.fd, &zero, 0));
	EXPECT_EQ(0, ums_wait(l.fd, &zero, UMS_WAIT_ABSTIME));
	ASSERT_NE(0, list_pop(&l));
	EXPECT_EQ(-ETIMEDOUT, ums_wait(l.fd, &zero, 0));
}

TEST(errors)
{
	struct __kernel_timespec ts = {};
	struct list l;
	int pipes[2];

	UMS_REQUIRE();
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, list_open(&l, 1));
	EXPECT_EQ(-EBADF, ums_wait(-1, &ts, 0));
	EXPECT_EQ(-EBADF, ums_wait(1000, &ts, 0));
	EXPECT_EQ(-EINVAL, ums_wait(pipes[0], &ts, 0));
	EXPECT_EQ(-EINVAL, ums_wait(l.fd, &ts, 2));
	EXPECT_EQ(-EINVAL, ums_wait(l.fd, &ts, 1U << 31));
	EXPECT_EQ(-EFAULT, ums_wait(l.fd, (void *)8L, 0));
	EXPECT_EQ(-EFAULT, ums_wait(l.fd, (void *)-4096L, 0));
	ts = (struct __kernel_timespec) { 0, NSEC };
	EXPECT_EQ(-EINVAL, ums_wait(l.fd, &ts, 0));
	ts = (struct __kernel_timespec) { 0, -1 };
	EXPECT_EQ(-EINVAL, ums_wait(l.fd, &ts, 0));
	ts = (struct __kernel_timespec) { -1, 0 };
	EXPECT_EQ(-EINVAL, ums_wait(l.fd, &ts, 0));
	EXPECT_EQ(-EINVAL, ums_wait(l.fd, &ts, UMS_WAIT_ABSTIME));
}

/* Each published worker wakes one waiter, no matter that nobody pops. */
TEST(one_wakes_one)
{
	struct waiter z[MAX_WAITERS] = {};
	struct worker w[MAX_WAITERS] = {};
	struct list l;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, MAX_WAITERS));
	for (i = 0; i < MAX_WAITERS; i++) {
		ASSERT_EQ(0, waiter_start(&z[i], &l));
	}
	for (i = 0; i < MAX_WAITERS; i++) {
		int n, asleep = 0;

		ASSERT_EQ(0, worker_start(&w[i], &l, nothing, NULL));
		ASSERT_TRUE(WAIT_FOR(LOAD(waiters_done) == i + 1));
		/* The rest sleeps on, though the list is not empty. */
		for (n = 0; n < MAX_WAITERS; n++)
			if (!LOAD(z[n].done))
				asleep += WAIT_FOR(thread_sleeps_in(z[n].tid, NR_UMS_WAIT));
		EXPECT_EQ(MAX_WAITERS - i - 1, asleep);
		EXPECT_EQ(i + 1, LOAD(waiters_done));
	}
	for (i = 0; i < MAX_WAITERS; i++) {
		ASSERT_EQ(0, pthread_join(z[i].t, NULL));
		EXPECT_EQ(0, z[i].ret);
	}
}

/* A waiter that times out takes no wake-up with it. */
TEST(timeout_loses_no_wakeup)
{
	struct __kernel_timespec ts = { 0, MSEC };
	struct waiter z = {};
	struct worker w[20] = {};
	struct list l;
	long ret;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 20));
	for (i = 0; i < 20; i++) {
		z = (struct waiter) {};
		ASSERT_EQ(0, waiter_start(&z, &l));
		ASSERT_EQ(0, worker_start(&w[i], &l, nothing, NULL));
		/* Races with the publication for the wake-up. */
		ret = ums_wait(l.fd, &ts, 0);
		EXPECT_TRUE(ret == 0 || ret == -ETIMEDOUT);
		ASSERT_EQ(0, pthread_join(z.t, NULL));
		EXPECT_EQ(0, z.ret);
		ASSERT_NE(0, list_pop_wait(&l));
	}
}

TEST(close_wakes_all)
{
	struct __kernel_timespec ts = { LIMIT_S * 2, 0 };
	struct waiter z[4] = {};
	struct pollfd p;
	struct list l;
	int fd, i;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	fd = dup(l.fd);
	z[3].ts = &ts;
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, waiter_start(&z[i], &l));
	}
	/* A duplicate is not the last descriptor. */
	close(fd);
	p = (struct pollfd) { .fd = l.fd, .events = POLLIN };
	EXPECT_EQ(0, poll(&p, 1, 0));
	for (i = 0; i < 4; i++) {
		EXPECT_TRUE(thread_sleeps_in(z[i].tid, NR_UMS_WAIT));
	}
	close(l.fd);
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, pthread_join(z[i].t, NULL));
		EXPECT_EQ(-EBADF, z[i].ret);
	}
	EXPECT_NE(0, l.head->closed);
}

static int handled;

static void handler(int sig)
{
	INC(handled);
}

static int handle(int flags)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = flags };

	return sigaction(SIGUSR1, &sa, NULL);
}

static int kick(struct waiter *z, int times)
{
	if (syscall(SYS_tgkill, getpid(), z->tid, SIGUSR1))
		return -1;
	return WAIT_FOR(LOAD(handled) == times) ? 0 : -1;
}

/*
 * A handler without SA_RESTART interrupts. One with SA_RESTART does as well,
 * as with the other calls that have a timeout (signal(7)); or the wait goes on.
 */
TEST(signal_interrupts)
{
	struct __kernel_timespec ts = { LIMIT_S * 2, 0 };
	struct waiter z[2] = {};
	struct list l;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, handle(0));
	ASSERT_EQ(0, list_open(&l, 1));
	z[1].ts = &ts;
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, waiter_start(&z[i], &l));
		ASSERT_EQ(0, kick(&z[i], i + 1));
		ASSERT_EQ(0, pthread_join(z[i].t, NULL));
		EXPECT_EQ(-EINTR, z[i].ret);
	}
}

/* Stopped and continued, no handler: it goes on, to its first deadline. */
TEST(stop_restarts)
{
	struct __kernel_timespec ts = { 1, 0 };
	int status, i;
	struct list l;
	pid_t pid;

	UMS_REQUIRE();
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		__u64 start = now_ns();
		long ret;

		if (list_open(&l, 1))
			_exit(2);
		ret = ums_wait(l.fd, &ts, 0);
		_exit(ret == -ETIMEDOUT && now_ns() >= start + NSEC ? 0 : 1);
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

static void waits(struct worker *w)
{
	w->result = ums_wait(*(int *)w->arg, NULL, 0);
}

/* A worker that waits on a list blocks, as in any other call. */
TEST(by_a_worker)
{
	struct worker w = {}, other = {};
	struct list l, second;
	struct sched s;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, list_open(&second, 1));
	id = worker_start_pop(&w, &l, waits, &second.fd);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, NR_UMS_WAIT);
	ASSERT_EQ(0, worker_start(&other, &second, nothing, NULL));
	ASSERT_EQ(id, list_pop_wait(&l));
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_EQ(0, w.result);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * What Documentation/userspace-api/ums.rst promises beyond the first case of
 * each call: waits that are interrupted, stopped or overtaken, pollers of a list
 * that is closed, which sleeps are held, whom errors, times and /proc speak of.
 */
#include "ums_test.h"

#include <linux/capability.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME		0x00000080
#endif
#ifndef SYS_futex_waitv
#define SYS_futex_waitv		449
#endif

static void nothing(struct worker *w)
{
}

static void yields(struct worker *w)
{
	while (!LOAD(w->stage))
		ums_yield(++w->result, 0);
}

static void reads_pipe(struct worker *w)
{
	char c;

	w->result = ums_ret(read(w->fd[0], &c, 1));
	STORE(w->stage, 1);
}

static struct __kernel_timespec in_ns(__u64 ns)
{
	return (struct __kernel_timespec) { ns / NSEC, ns % NSEC };
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

/* A thread in ums_wait(). */
struct waiter {
	struct list *l;
	struct __kernel_timespec *ts;
	unsigned int flags;
	pthread_t t;
	pid_t tid;
	long ret;
};

static void *waiter_main(void *arg)
{
	struct waiter *z = arg;

	STORE(z->tid, self_tid());
	z->ret = ums_wait(z->l->fd, z->ts, z->flags);
	return NULL;
}

static bool waiter_start(struct waiter *z)
{
	return !thread_start(&z->t, waiter_main, z) &&
	       WAIT_FOR(LOAD(z->tid) && thread_sleeps_in(z->tid, NR_UMS_WAIT));
}

/*
 * After a handler ums_wait() fails with EINTR, SA_RESTART or not, whatever time
 * it was given. A time that no clock reaches is one for ever.
 */
TEST(wait_is_not_restarted)
{
	struct __kernel_timespec far = in_ns(now_ns() + 2 * LIMIT_S * NSEC);
	struct __kernel_timespec rel = { 2 * LIMIT_S, 0 };
	struct __kernel_timespec max = { INT64_MAX, NSEC - 1 };
	struct list l;
	struct waiter z[] = {
		{ .l = &l },
		{ .l = &l, .ts = &rel },
		{ .l = &l, .ts = &max },
		{ .l = &l, .ts = &far, .flags = UMS_WAIT_ABSTIME },
		{ .l = &l, .ts = &max, .flags = UMS_WAIT_ABSTIME },
	};
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, handle(SA_RESTART));
	ASSERT_EQ(0, list_open(&l, 1));
	for (i = 0; i < ARRAY_SIZE(z); i++) {
		ASSERT_TRUE(waiter_start(&z[i])) {
			TH_LOG("wait %d does not sleep: %ld", i, z[i].ret);
		}
		ASSERT_EQ(0, pthread_kill(z[i].t, SIGUSR1));
		ASSERT_TRUE(WAIT_FOR(LOAD(handled) == i + 1));
		/* Asleep again it would be until the end of the test. */
		ASSERT_TRUE(WAIT_FOR(!thread_state(getpid(), z[i].tid))) {
			TH_LOG("wait %d goes on", i);
		}
		ASSERT_EQ(0, pthread_join(z[i].t, NULL));
		EXPECT_EQ(-EINTR, z[i].ret);
	}
}

/*
 * A stop without a handler ends none of them, and moves the end of none, however
 * often it comes: the child is stopped all the time, until it has ended.
 */
static int stopped_wait(int kind)
{
	struct __kernel_timespec ts = in_ns(kind == 1 ? now_ns() + NSEC : NSEC);
	__u64 start = now_ns();
	struct list l;
	long ret;

	if (list_open(&l, 1))
		return 2;
	ret = ums_wait(l.fd, &ts, kind == 1 ? UMS_WAIT_ABSTIME : 0);
	if (ret != -ETIMEDOUT || now_ns() < start + NSEC)
		return 3;
	if (kind < 2)
		return 0;
	/* For ever, that is, until somebody comes. */
	if (fork() == 0) {
		sleep_ns(NSEC);
		kill(getppid(), SIGUSR1);
		_exit(0);
	}
	ret = ums_wait(l.fd, NULL, 0);
	return ret == -EINTR && LOAD(handled) == 1 ? 0 : 4;
}

TEST(wait_goes_on_after_stops)
{
	int kind, status;
	__u64 end;
	pid_t pid;

	UMS_REQUIRE();
	ASSERT_EQ(0, handle(0));
	for (kind = 0; kind < 3; kind++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(stopped_wait(kind));
		end = now_ns() + LIMIT_S * NSEC;
		for (;;) {
			kill(pid, SIGSTOP);
			ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
			if (!WIFSTOPPED(status))
				break;
			kill(pid, SIGCONT);
			if (now_ns() > end) {
				kill(pid, SIGKILL);
				ASSERT_EQ(pid, waitpid(pid, &status, 0));
				break;
			}
			/* Shorter than the time-out, longer than a restart. */
			sleep_ns(200 * MSEC);
		}
		EXPECT_EQ(0, status) {
			TH_LOG("kind %d", kind);
		}
	}
}

static int this_cpu_only(pid_t tid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(tid, sizeof(set), &set);
}

static int set_policy(int policy, int priority)
{
	struct sched_param sp = { .sched_priority = priority };

	return sched_setscheduler(0, policy, &sp);
}

/*
 * The waiter that was chosen for a worker is told of it, though a signal or the
 * end of its time had woken it before: nobody else was woken. For that, it is
 * kept from its CPU by a real-time thread, which then makes the second event.
 */
static void overtaken(struct __test_metadata *_metadata, bool by_time)
{
	struct __kernel_timespec ts = { 2 * LIMIT_S, 0 };
	struct worker w = {};
	struct list l;
	struct waiter z = { .l = &l, .ts = &ts, .flags = by_time ? UMS_WAIT_ABSTIME : 0 };
	int cpu = sched_getcpu();
	__u64 id, end = 0;
	struct sched s;

	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, handle(0));
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, reads_pipe, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
	ASSERT_TRUE(WAIT_FOR(thread_sleeps_in(w.tid, SYS_read)));

	ASSERT_EQ(0, this_cpu_only(0, cpu));
	if (by_time) {
		end = now_ns() + NSEC;
		ts = in_ns(end);
	}
	/* Inherits the mask. */
	ASSERT_TRUE(waiter_start(&z));
	if (by_time && now_ns() < end - 100 * MSEC)
		sleep_ns(end - 100 * MSEC - now_ns());
	/* Not for long: a part of the time is kept for others. */
	if (set_policy(SCHED_FIFO, 10))
		SKIP(return, "no real-time policy");
	if (by_time) {
		if (now_ns() > end - 10 * MSEC)
			SKIP(return, "too slow a machine");
		while (now_ns() < end + 20 * MSEC)
			;
	} else {
		pthread_kill(z.t, SIGUSR1);
	}
	/* This publishes the worker. */
	EXPECT_EQ(1, write(w.fd[1], "x", 1));
	ASSERT_EQ(0, set_policy(SCHED_OTHER, 0));
	EXPECT_FALSE(list_empty(&l));
	ASSERT_EQ(0, pthread_join(z.t, NULL));
	EXPECT_EQ(0, z.ret);
	EXPECT_EQ(!by_time, LOAD(handled));
	EXPECT_EQ(id, list_pop(&l));
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
}

TEST(signal_loses_no_wakeup)
{
	UMS_REQUIRE();
	overtaken(_metadata, false);
}

TEST(timeout_loses_no_wakeup)
{
	UMS_REQUIRE();
	overtaken(_metadata, true);
}

/* Points in time are those of the caller's time namespace. */
TEST(wait_in_time_namespace)
{
	int status;
	pid_t pid;

	UMS_REQUIRE();
	if (unshare(CLONE_NEWTIME))
		SKIP(return, "no time namespaces");
	ASSERT_EQ(0, write_text("/proc/self/timens_offsets", "monotonic 1000 0\n"));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		__u64 end = now_ns() + 50 * MSEC;
		struct __kernel_timespec ts = in_ns(end);
		struct list l;

		if (end < 1000 * NSEC)
			_exit(4);
		alarm(LIMIT_S);
		if (list_open(&l, 1))
			_exit(2);
		if (ums_wait(l.fd, &ts, UMS_WAIT_ABSTIME) != -ETIMEDOUT)
			_exit(3);
		_exit(now_ns() < end);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* A thread that polls a list in one of the three ways. */
struct poller {
	int fd, how, flags;
	pthread_t t;
	pid_t tid;
	int ret;
	unsigned int events;
};

static int pollers_done;

static void *poller_main(void *arg)
{
	struct poller *z = arg;
	struct pollfd p = { .fd = z->fd, .events = POLLIN };
	struct epoll_event ev = { .events = EPOLLIN | z->flags };
	fd_set r;
	int ep;

	STORE(z->tid, self_tid());
	switch (z->how) {
	case SYS_poll:
		z->ret = syscall(SYS_poll, &p, 1, -1);
		z->events = p.revents;
		break;
	case SYS_select:
		FD_ZERO(&r);
		FD_SET(z->fd, &r);
		z->ret = syscall(SYS_select, z->fd + 1, &r, NULL, NULL, NULL);
		z->events = FD_ISSET(z->fd, &r) ? POLLHUP | POLLERR : 0;
		break;
	case SYS_epoll_wait:
		ep = epoll_create1(0);
		if (epoll_ctl(ep, EPOLL_CTL_ADD, z->fd, &ev))
			return NULL;
		z->ret = syscall(SYS_epoll_wait, ep, &ev, 1, -1);
		z->events = ev.events;
		break;
	}
	INC(pollers_done);
	return NULL;
}

static bool poller_start(struct poller *z)
{
	return !thread_start(&z->t, poller_main, z) &&
	       WAIT_FOR(LOAD(z->tid) && thread_sleeps_in(z->tid, z->how));
}

/* Three pollers, of whom each is told of the end of the list; 0 if so. */
static int pollers_of_closed(int fd, int ready)
{
	static const int how[] = { SYS_poll, SYS_select, SYS_epoll_wait };
	struct poller z[ARRAY_SIZE(how)];
	int i;

	for (i = 0; i < ARRAY_SIZE(how); i++) {
		z[i] = (struct poller) { .fd = fd, .how = how[i] };
		if (!poller_start(&z[i]))
			return 1;
	}
	if (write(ready, "x", 1) != 1)
		return 2;
	if (!WAIT_FOR(LOAD(pollers_done) == ARRAY_SIZE(how)))
		return 3;
	for (i = 0; i < ARRAY_SIZE(how); i++)
		if (z[i].ret != 1 || z[i].events != (POLLHUP | POLLERR))
			return 10 + i;
	return 0;
}

/*
 * Those who sleep there when the list is closed wake up, and hear of it: in the
 * process, and in another one, which still has a descriptor then.
 */
TEST(close_wakes_pollers)
{
	struct poller z = { .how = SYS_poll };
	int p[2], status;
	struct list l;
	pid_t pid;
	char c;

	UMS_REQUIRE();
	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(0, list_open(&l, 1));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(pollers_of_closed(l.fd, p[1]));
	z.fd = l.fd;
	ASSERT_TRUE(poller_start(&z));
	ASSERT_EQ(1, read(p[0], &c, 1));
	EXPECT_EQ(0, LOAD(pollers_done));
	ASSERT_EQ(0, close(l.fd));
	EXPECT_NE(0, l.head->closed);
	ASSERT_TRUE(WAIT_FOR(LOAD(pollers_done) == 1));
	ASSERT_EQ(0, pthread_join(z.t, NULL));
	/* poll() looks the number up again, under which there is nothing now. */
	EXPECT_EQ(1, z.ret);
	EXPECT_EQ(POLLNVAL, z.events);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/*
 * Of those with EPOLLEXCLUSIVE each worker wakes one, be it published by itself
 * or by who wakes it; of the others it wakes all.
 */
TEST(exclusive_pollers)
{
	struct poller one[3], all[2];
	struct worker w[3] = {};
	struct sched s;
	struct list l;
	__u64 id;
	int i, n;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(w[0].fd));
	ASSERT_EQ(0, list_open(&l, 3));
	id = worker_start_pop(&w[0], &l, reads_pipe, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
	ASSERT_TRUE(WAIT_FOR(thread_sleeps_in(w[0].tid, SYS_read)));
	for (i = 0; i < 3; i++) {
		one[i] = (struct poller) {
			.fd = l.fd, .how = SYS_epoll_wait, .flags = EPOLLEXCLUSIVE,
		};
		ASSERT_TRUE(poller_start(&one[i]));
	}
	for (i = 0; i < 2; i++) {
		all[i] = (struct poller) {
			.fd = l.fd, .how = i ? SYS_poll : SYS_epoll_wait,
		};
		ASSERT_TRUE(poller_start(&all[i]));
	}
	for (i = 0; i < 3; i++) {
		int asleep = 0;

		/* The second is published by the writer. */
		if (i == 1) {
			ASSERT_EQ(1, write(w[0].fd[1], "x", 1));
		} else {
			ASSERT_EQ(0, worker_start(&w[i ? 2 : 1], &l, nothing, NULL));
		}
		ASSERT_TRUE(WAIT_FOR(LOAD(pollers_done) == 2 + i + 1)) {
			TH_LOG("%d done of %d", pollers_done, 2 + i + 1);
		}
		sleep_ns(30 * MSEC);
		for (n = 0; n < 3; n++)
			asleep += thread_sleeps_in(one[n].tid, SYS_epoll_wait);
		EXPECT_EQ(2 - i, asleep);
		EXPECT_EQ(2 + i + 1, LOAD(pollers_done));
	}
	for (i = 0; i < 5; i++) {
		struct poller *z = i < 3 ? &one[i] : &all[i - 3];

		ASSERT_EQ(0, pthread_join(z->t, NULL));
		EXPECT_EQ(1, z->ret);
		EXPECT_EQ(POLLIN, z->events);
	}
}

/*
 * A worker that runs while its list is closed goes on until it would be parked.
 * Of that its scheduler is told as ever, and the worker is a plain thread then.
 */
static void closes_first(struct worker *w)
{
	char c;

	close(w->list->fd);
	switch ((long)w->arg) {
	case UMS_UPCALL_YIELDED:
		w->result = ums_yield(5, 0);
		break;
	case UMS_UPCALL_BLOCKED:
		w->result = read(w->fd[0], &c, 1) - 1;
		break;
	case UMS_UPCALL_PREEMPTED:
		SPIN_FOR(LOAD(w->stage));
		break;
	}
	/* Of a worker this would be the second upcall. */
	if (!w->result)
		w->result = ums_yield(6, 0);
}

TEST(closed_while_running)
{
	static const struct {
		long reason;
		__u64 slice, detail;
	} kind[] = {
		{ UMS_UPCALL_YIELDED, 0, 5 },
		{ UMS_UPCALL_BLOCKED, 0, SYS_read },
		{ UMS_UPCALL_PREEMPTED, 20 * MSEC, UMS_PREEMPT_SLICE },
	};
	struct sched s;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < ARRAY_SIZE(kind); i++) {
		struct worker w = {};
		struct ums_info info;
		struct list l;
		__u64 id;

		ASSERT_EQ(0, pipe(w.fd));
		ASSERT_EQ(0, list_open(&l, 1));
		id = worker_start_pop(&w, &l, closes_first, (void *)kind[i].reason);
		ASSERT_EQ(0, sched_run(&s, id, kind[i].slice));
		EXPECT_EVENT(&s, kind[i].reason, id, kind[i].detail);
		EXPECT_NE(0, l.head->closed);
		EXPECT_EQ(-ESRCH, sched_run(&s, id, 0));
		/* Told of no more than that. */
		EXPECT_EQ(i + 2, s.upcalls);
		STORE(w.stage, 1);
		ASSERT_EQ(1, write(w.fd[1], "x", 1));
		ASSERT_EQ(0, pthread_join(w.thread, NULL));
		EXPECT_EQ(-EPERM, w.result);
		ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)));
		EXPECT_EQ(0, info.worker);
	}
}

/* Which slot a worker gets, and what is known of ids that name nobody. */
TEST(ids_and_slots)
{
	const __u64 serial = 1ULL << 32;
	struct ums_info info, want;
	struct worker w[6] = {};
	__u64 id[6], wrong[3];
	struct sched s;
	struct list l;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 5));
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 3; i++) {
		id[i] = worker_start_pop(&w[i], &l, yields, NULL);
		ASSERT_NE(0, id[i]);
	}
	/* The second ends before the first. Freed longest is taken first. */
	for (i = 1; i >= 0; i--) {
		STORE(w[i].stage, 1);
		ASSERT_EQ(0, worker_run_to_end(&s, &l, id[i]));
	}
	for (i = 3; i < 6; i++) {
		id[i] = worker_start_pop(&w[i], &l, yields, NULL);
		ASSERT_NE(0, id[i]);
	}
	EXPECT_EQ(UMS_ID_SLOT(id[1]), UMS_ID_SLOT(id[3]));
	EXPECT_EQ(UMS_ID_SLOT(id[0]), UMS_ID_SLOT(id[4]));
	/* Only then one that was never used. */
	for (i = 0; i < 5; i++) {
		EXPECT_NE(UMS_ID_SLOT(id[i]), UMS_ID_SLOT(id[5]));
	}

	/* Serial numbers that are not yet in use, and no id at all. */
	wrong[0] = id[5] + serial;
	wrong[1] = id[3] + 1000 * serial;
	wrong[2] = id[5] | 1ULL << 63;
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(-ESRCH, sched_run(&s, wrong[i], 0));
		EXPECT_EQ(-ESRCH, ums_preempt(wrong[i], 0));
		EXPECT_EQ(-ESRCH, ums_set(UMS_SET_USER_DATA, wrong[i], 1));
		EXPECT_EQ(-ESRCH, ums_query(UMS_QUERY_WORKER, wrong[i], &info,
					    sizeof(info))) {
			TH_LOG("%llx", (unsigned long long)wrong[i]);
		}
	}
	/* Earlier ones of a slot in use. */
	EXPECT_EQ(-ESTALE, ums_query(UMS_QUERY_WORKER, id[1], &info, sizeof(info)));
	EXPECT_EQ(-ESTALE, ums_query(UMS_QUERY_WORKER, id[5] - serial, &info, sizeof(info)));

	/* Before its first block. */
	EXPECT_EQ(NR_UMS_WORKER_ENTER, list_slot(&l, id[5])->cause);
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id[5], &info, sizeof(info)));
	EXPECT_EQ(NR_UMS_WORKER_ENTER, info.cause);

	/* Of one that has ended, this and nothing else. */
	STORE(w[5].stage, 1);
	ASSERT_EQ(0, worker_run_to_end(&s, &l, id[5]));
	memset(&info, 0xff, sizeof(info));
	memset(&want, 0, sizeof(want));
	want.role = UMS_ROLE_WORKER;
	want.state = UMS_STATE_EXITED;
	want.list_nr = l.args.list_nr;
	want.worker = id[5];
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id[5], &info, sizeof(info)));
	EXPECT_EQ(0, memcmp(&want, &info, sizeof(want)));
}

static void detaches(struct worker *w)
{
	w->result = ums_detach(0);
	STORE(w->stage, 1);
	WAIT_FOR(LOAD(w->stage) == 2);
}

/* One that became an ordinary thread is not one that has ended. */
TEST(detached_is_not_ended)
{
	struct ums_info info;
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	id = worker_start_pop(&w, &l, detaches, NULL);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_DETACHED, id, 0);
	EXPECT_EQ(-ESTALE, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
	EXPECT_EQ(UMS_STATE_NONE, slot_state(&l, id));
	EXPECT_EQ(id, list_slot(&l, id)->id);
	ASSERT_TRUE(WAIT_FOR(LOAD(w.stage) == 1));
	memset(&info, 0xff, sizeof(info));
	ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, w.tid, &info, sizeof(info)));
	EXPECT_EQ(UMS_ROLE_NONE, info.role);
	EXPECT_EQ(w.tid, info.tid);
	EXPECT_EQ(0, info.worker);
	STORE(w.stage, 2);
	ASSERT_EQ(0, pthread_join(w.thread, NULL));
}

static void works_then_yields(struct worker *w)
{
	__u64 end;
	char c;
	int i;

	for (i = 0; i < 3; i++) {
		for (end = now_ns() + 10 * MSEC; now_ns() < end; )
			;
		ums_yield(i, 0);
	}
	for (i = 0; i < 2; i++)
		w->result += read(w->fd[0], &c, 1);
	ums_preempt(w->id, 0);
	ums_yield(3, 0);
}

#define EXPECT_KEY(text, key, value) do {				\
	char __v[64];							\
									\
	ASSERT_NE(NULL, text_value(text, key, __v, sizeof(__v)));	\
	EXPECT_EQ((__u64)(value), strtoull(__v, NULL, 0)) {		\
		TH_LOG("%s", key);					\
	}								\
} while (0)

/*
 * Times are those that have passed, no more: what a scheduler did by itself is
 * neither running nor idle. And /proc has the same, key by key, of both roles.
 */
TEST(times_and_proc)
{
	struct __kernel_timespec ts = in_ns(30 * MSEC);
	struct ums_info me, it;
	struct worker w = {};
	char path[64], text[4096];
	__u64 begin, id, took;
	struct sched s;
	struct list l;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	begin = now_ns();
	ASSERT_EQ(0, sched_enter(&s));
	id = worker_start_pop(&w, &l, works_then_yields, NULL);
	do {
		ASSERT_EQ(0, sched_run(&s, id, 0));
		if (s.reason == UMS_UPCALL_BLOCKED) {
			sleep_ns(20 * MSEC);
			ASSERT_EQ(1, write(w.fd[1], "x", 1));
		}
		if (s.reason != UMS_UPCALL_YIELDED) {
			ASSERT_EQ(id, list_pop_wait(&l));
		}
	} while (s.reason != UMS_UPCALL_YIELDED || s.detail != 3);
	/* Its own affair. */
	sleep_ns(200 * MSEC);
	ASSERT_EQ(-ETIMEDOUT, ums_wait(l.fd, &ts, 0));

	ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, 0, &me, sizeof(me)));
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id, &it, sizeof(it)));
	/* The clocks may differ a little. */
	took = now_ns() - begin;
	took += took / 50;
	EXPECT_LE(29 * MSEC, me.running_ns);
	EXPECT_LE(29 * MSEC, it.running_ns);
	EXPECT_LE(29 * MSEC, me.idle_ns);
	EXPECT_LE(39 * MSEC, it.blocked_ns);
	EXPECT_GE(took, me.running_ns + me.idle_ns + (200 + 2 * 20) * MSEC);
	EXPECT_GE(took, it.running_ns + it.ready_ns + it.blocked_ns);
	/* To its scheduler a worker runs no shorter than it says itself. */
	EXPECT_GE(me.running_ns + MSEC, it.running_ns);
	EXPECT_EQ(4, me.yields);
	EXPECT_EQ(1, me.preemptions);
	EXPECT_EQ(2, me.blocks_syscall);

	snprintf(path, sizeof(path), "/proc/self/task/%d/ums", w.tid);
	ASSERT_LT(0, read_text(path, text, sizeof(text)));
	EXPECT_KEY(text, "running_ns", it.running_ns);
	EXPECT_KEY(text, "blocked_ns", it.blocked_ns);
	EXPECT_KEY(text, "ready_ns", it.ready_ns);
	EXPECT_KEY(text, "publishes", it.publishes);

	snprintf(path, sizeof(path), "/proc/self/task/%d/ums", self_tid());
	ASSERT_LT(0, read_text(path, text, sizeof(text)));
	EXPECT_KEY(text, "tid", self_tid());
	EXPECT_KEY(text, "worker", 0);
	EXPECT_KEY(text, "executes", me.executes);
	EXPECT_KEY(text, "blocks_syscall", me.blocks_syscall);
	EXPECT_KEY(text, "blocks_fault", me.blocks_fault);
	EXPECT_KEY(text, "yields", me.yields);
	EXPECT_KEY(text, "preemptions", me.preemptions);
	EXPECT_KEY(text, "running_ns", me.running_ns);
	EXPECT_KEY(text, "upcalls", me.upcalls);
	EXPECT_KEY(text, "idle_ns", me.idle_ns);
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2] = {};

	return syscall(SYS_capset, &head, data);
}

/* The owner of the file may open it, but only who may trace the thread reads it. */
TEST(proc_for_tracers)
{
	char path[64], buf[64];
	struct worker w = {};
	struct list l;
	int status;
	pid_t pid;

	UMS_REQUIRE();
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_NE(0, worker_start_pop(&w, &l, nothing, NULL));
	snprintf(path, sizeof(path), "/proc/%d/task/%d/ums", getpid(), w.tid);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int fd;

		if (drop_capabilities())
			_exit(1);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			_exit(2);
		if (read(fd, buf, sizeof(buf)) != -1)
			_exit(3);
		_exit(errno == EACCES ? 0 : 4);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/*
 * exec closes all lists, also those whose descriptors it leaves open. And what
 * /proc/PID/fdinfo tells before.
 */
TEST(exec_closes_kept_lists)
{
	int status;
	pid_t pid;

	UMS_REQUIRE();
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char path[64], text[1024], v[32];
		struct worker w = {};
		struct list l, other;

		if (list_open(&other, 1) || list_open(&l, 3) ||
		    !worker_start_pop(&w, &l, nothing, NULL))
			_exit(10);
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", l.fd);
		if (read_text(path, text, sizeof(text)) <= 0)
			_exit(11);
		if (!text_value(text, "ums-list", v, sizeof(v)) ||
		    strtoul(v, NULL, 10) != l.args.list_nr)
			_exit(12);
		if (!text_value(text, "ums-max-workers", v, sizeof(v)) || strcmp(v, "3"))
			_exit(13);
		if (!text_value(text, "ums-published", v, sizeof(v)) || strcmp(v, "1"))
			_exit(14);
		if (!text_value(text, "ums-closed", v, sizeof(v)) || strcmp(v, "0"))
			_exit(15);
		fcntl(l.fd, F_SETFD, 0);
		execlp("grep", "grep", "-q", "^ums-closed:.1$", path, NULL);
		_exit(16);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

FIXTURE(refused)
{
	char before[16];
};

#define SYSCTL "/proc/sys/kernel/ums_disabled"

FIXTURE_SETUP(refused)
{
	UMS_REQUIRE();
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_LT(0, read_text(SYSCTL, self->before, sizeof(self->before)));
}

FIXTURE_TEARDOWN_PARENT(refused)
{
	if (self->before[0])
		write_text(SYSCTL, self->before);
}

static long try_create(struct ums_create_args a, size_t size)
{
	return ums_create(&a, size);
}

/* CAP_SYS_ADMIN of a user namespace that anybody can make is not enough. */
TEST_F(refused, in_user_namespace)
{
	struct ums_create_args a = { .max_workers = 1 };
	struct ums_worker_args wa = {};
	struct ums_abi abi;
	struct sched s;

	ASSERT_EQ(0, write_text(SYSCTL, "1"));
	EXPECT_LE(0, try_create(a, sizeof(a)));
	if (unshare(CLONE_NEWUSER))
		SKIP(return, "no user namespaces");
	/* There it is root. */
	ASSERT_EQ(0, unshare(CLONE_NEWNS));
	EXPECT_EQ(-EPERM, try_create(a, sizeof(a)));
	EXPECT_EQ(-EPERM, sched_enter(&s));
	EXPECT_EQ(-EPERM, ums_worker_enter(-1, &wa, sizeof(wa)));
	ASSERT_EQ(0, ums_query(UMS_QUERY_ABI, 0, &abi, sizeof(abi)));
	EXPECT_NE(0, abi.disabled);
}

/* Which error comes first. */
TEST_F(refused, order_of_errors)
{
	struct {
		struct ums_create_args args;
		__u64 future;
	} c = { .args = { .max_workers = 1 }, .future = 1 };
	struct ums_create_args a = { .max_workers = 1 };
	struct ums_worker_args wa = {};
	struct sched s;
	struct list l;
	int p[2];

	ASSERT_EQ(0, write_text(SYSCTL, "0"));
	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	/* That of the thread before those of the list. */
	EXPECT_EQ(-EBUSY, ums_worker_enter(-1, &wa, sizeof(wa)));
	EXPECT_EQ(-EBUSY, ums_worker_enter(p[0], &wa, sizeof(wa)));
	EXPECT_EQ(-EBUSY, ums_worker_enter(l.fd, &wa, sizeof(wa)));

	ASSERT_EQ(0, write_text(SYSCTL, "2"));
	EXPECT_EQ(-EPERM, try_create(a, sizeof(a)));
	EXPECT_EQ(-EINVAL, try_create(a, UMS_CREATE_ARGS_SIZE_VER0 - 1));
	EXPECT_EQ(-EINVAL, ums_create(NULL, 0));
	EXPECT_EQ(-E2BIG, ums_create(NULL, 4097));
	EXPECT_EQ(-EFAULT, ums_create(NULL, sizeof(a)));
	EXPECT_EQ(-E2BIG, ums_create(&c.args, sizeof(c)));
	a.flags = 1;
	EXPECT_EQ(-EINVAL, try_create(a, sizeof(a)));
	a.flags = 0;
	a.max_workers = 0;
	EXPECT_EQ(-EINVAL, try_create(a, sizeof(a)));
	/* What there is goes on. */
	EXPECT_EQ(0, sched_exit(&s));
}

/*
 * A scheduler that was sent a signal has asked its worker to stop, which does not
 * while it is in a region. When it goes to sleep there, the signal is taken.
 */
static void told_then_reads_in_region(struct worker *w)
{
	struct ums_slot *slot = list_slot(w->list, w->id);
	char c;

	STORE(slot->no_upcall, 1);
	STORE(w->stage, 1);
	SPIN_FOR(LOAD(slot->attention));
	STORE(w->stage, 2);
	w->result = read(w->fd[0], &c, 1);
	STORE(slot->no_upcall, 0);
}

struct killer {
	struct worker *w;
	pthread_t scheduler;
	int asleep;
};

static void *killer_main(void *arg)
{
	struct killer *k = arg;
	struct worker *w = k->w;

	WAIT_FOR(LOAD(w->stage) == 1);
	pthread_kill(k->scheduler, SIGUSR1);
	WAIT_FOR(LOAD(w->stage) == 2 && thread_sleeps_in(w->tid, SYS_read));
	k->asleep = WAIT_FOR(LOAD(handled));
	return (void *)(long)write(w->fd[1], "x", 1);
}

TEST(signal_before_sleep_in_region)
{
	struct killer k = { .scheduler = pthread_self() };
	struct worker w = {};
	struct sched s;
	struct list l;
	pthread_t t;
	__u64 id;

	UMS_REQUIRE();
	k.w = &w;
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, handle(0));
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, told_then_reads_in_region, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, thread_start(&t, killer_main, &k));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EQ(0, pthread_join(t, NULL));
	EXPECT_EQ(1, k.asleep);
	EXPECT_EQ(1, LOAD(handled));
	if (s.reason == UMS_UPCALL_PREEMPTED) {
		EXPECT_EQ(id, list_pop(&l));
		ASSERT_EQ(0, sched_run(&s, id, 0));
	}
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(1, w.result);
}

/*
 * Where a worker sleeps with nothing held it is published without having run,
 * everywhere else it runs first. The number of times that it gave up its CPU
 * tells.
 */
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

static int word, pi_word;

static void sleeps_somehow(struct worker *w)
{
	struct timespec ts = { .tv_nsec = 500 * MSEC };
	struct futex_waitv v = { .uaddr = (uintptr_t)&word, .flags = FUTEX_32 };

	switch ((long)w->arg) {
	case SYS_nanosleep:
		w->result = ums_ret(syscall(SYS_nanosleep, &ts, NULL));
		break;
	case SYS_wait4:
		w->result = ums_ret(syscall(SYS_wait4, -1, NULL, 0, NULL)) < 0;
		break;
	case SYS_futex_waitv:
		w->result = ums_ret(syscall(SYS_futex_waitv, &v, 1, 0, NULL, 0));
		break;
	case SYS_futex:
		w->result = ums_ret(syscall(SYS_futex, &word, FUTEX_WAIT_REQUEUE_PI, 0,
					    NULL, &pi_word, 0));
		break;
	}
}

TEST(held_where_nothing_is)
{
	static const long nr[] = { SYS_nanosleep, SYS_wait4, SYS_futex_waitv, SYS_futex };
	struct sched s;
	struct list l;
	int go[2], i;
	pid_t pid;
	char c;

	UMS_REQUIRE();
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(read(go[0], &c, 1) != 1);
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < ARRAY_SIZE(nr); i++) {
		struct worker w = {};
		bool was_empty;
		long before;
		__u64 id;

		id = worker_start_pop(&w, &l, sleeps_somehow, (void *)nr[i]);
		ASSERT_EQ(0, sched_run(&s, id, 0));
		ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, nr[i]);
		ASSERT_TRUE(WAIT_FOR(thread_sleeps_in(w.tid, nr[i])));
		before = switches(w.tid);
		was_empty = list_empty(&l);
		switch (nr[i]) {
		case SYS_nanosleep:
			/* Of a machine that slow it tells nothing. */
			if (!was_empty)
				before = -1;
			break;
		case SYS_wait4:
			ASSERT_EQ(1, write(go[1], "x", 1));
			break;
		case SYS_futex_waitv:
			ASSERT_EQ(1, syscall(SYS_futex, &word, FUTEX_WAKE, 1));
			break;
		case SYS_futex:
			/* Gets the lock in its sleep. */
			ASSERT_EQ(1, syscall(SYS_futex, &word, FUTEX_CMP_REQUEUE_PI, 1, 0,
					     &pi_word, 0));
			break;
		}
		ASSERT_EQ(id, list_pop_wait(&l));
		if (nr[i] == SYS_futex) {
			ASSERT_TRUE(WAIT_FOR(switches(w.tid) > before));
			EXPECT_EQ(w.tid, pi_word & FUTEX_TID_MASK);
		} else if (before >= 0) {
			sleep_ns(10 * MSEC);
			EXPECT_EQ(before, switches(w.tid)) {
				TH_LOG("system call %ld", nr[i]);
			}
		}
		ASSERT_EQ(0, sched_run(&s, id, 0));
		EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
		EXPECT_EQ(0, w.result);
		ASSERT_EQ(0, pthread_join(w.thread, NULL));
	}
}

/*
 * Scheduler and worker pass the CPU to and fro. Time is charged to who used it,
 * and together they get no more than one thread would, beside another. (Rather
 * less: the kernel favours whom it need not wake. So with two threads and pipes.)
 */
static __u64 cpu_time(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * NSEC + ts.tv_nsec;
}

static int stop;

static void bursts(struct worker *w)
{
	__u64 end;

	while (!LOAD(stop)) {
		for (end = now_ns() + MSEC / 5; now_ns() < end; )
			;
		ums_yield(1, 0);
	}
	*(__u64 *)w->arg = cpu_time(CLOCK_THREAD_CPUTIME_ID);
	ums_yield(2, 0);
}

static void *hog(void *arg)
{
	__u64 *used = arg, end = now_ns() + 2 * NSEC;

	while (now_ns() < end)
		;
	*used = cpu_time(CLOCK_THREAD_CPUTIME_ID);
	STORE(stop, 1);
	return NULL;
}

static void *sleeps_only(void *arg)
{
	sleep_ns(NSEC);
	STORE(stop, 1);
	return NULL;
}

TEST(time_is_charged_fairly)
{
	__u64 of_worker, of_sched, of_hog, took;
	struct sched s;
	struct list l;
	pthread_t t;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, this_cpu_only(0, sched_getcpu()));
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 2; i++) {
		struct worker w = {};
		__u64 id;

		STORE(stop, 0);
		of_worker = 0;
		of_hog = 0;
		/* Before there is anybody to be charged. */
		took = now_ns();
		of_sched = cpu_time(CLOCK_THREAD_CPUTIME_ID);
		id = worker_start_pop(&w, &l, bursts, &of_worker);
		ASSERT_EQ(0, thread_start(&t, i ? hog : sleeps_only, &of_hog));
		do {
			ASSERT_EQ(0, sched_run(&s, id, 0));
			ASSERT_EQ(UMS_UPCALL_YIELDED, s.reason);
		} while (s.detail != 2);
		of_sched = cpu_time(CLOCK_THREAD_CPUTIME_ID) - of_sched;
		took = now_ns() - took;
		ASSERT_EQ(0, pthread_join(t, NULL));
		ASSERT_EQ(0, sched_run(&s, id, 0));
		TH_LOG("%llu ms: worker %llu, scheduler %llu, other %llu",
		       took / MSEC, of_worker / MSEC, of_sched / MSEC, of_hog / MSEC);
		if (i == 0) {
			EXPECT_LE(took / 2, of_worker);
			EXPECT_LE(of_worker + of_sched, took + took / 50);
			EXPECT_LE(of_sched, of_worker);
			continue;
		}
		/* Half for each; a third if scheduler and worker counted apart. */
		EXPECT_LE(took * 42 / 100, of_hog);
		EXPECT_LE(took / 10, of_worker);
		EXPECT_LE(of_worker + of_sched + of_hog, took + took / 50);
	}
}

/* The alignment check flag of who executes is not that of the upcall. */
long checked_call(struct sched *s, long nr, unsigned long a, unsigned long b,
		  unsigned long c);
void flags_entry(void);
extern __u64 flags_seen, flags_after;
__u64 flags_seen, flags_after;

asm(".pushsection .text\n"
	".globl checked_call\n"
	".type checked_call, @function\n"
	"checked_call:\n"
	"	sub	$8, %rsp\n"
	"	pushfq\n"
	"	orl	$0x40000, (%rsp)\n"
	"	popfq\n"
	"	call	sched_call\n"
	"	pushfq\n"
	"	pop	%rcx\n"
	"	mov	%rcx, flags_after(%rip)\n"
	"	and	$~0x40000, %ecx\n"
	"	push	%rcx\n"
	"	popfq\n"
	"	add	$8, %rsp\n"
	"	ret\n"
	".globl flags_entry\n"
	".type flags_entry, @function\n"
	"flags_entry:\n"
	"	pushfq\n"
	"	pop	%rax\n"
	"	mov	%rax, flags_seen(%rip)\n"
	"	jmp	sched_entry\n"
	".popsection\n");

TEST(alignment_check)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, yields, NULL);
	ASSERT_EQ(0, sched_enter_at(&s, flags_entry, 0));
	/* It survives a system call, */
	EXPECT_EQ(-ESRCH, checked_call(&s, NR_UMS_EXECUTE, 0, 0, 0));
	EXPECT_EQ(0x40000, flags_after & 0x40000);
	/* but is not there when an upcall begins. */
	flags_seen = ~0ULL;
	ASSERT_EQ(0, checked_call(&s, NR_UMS_EXECUTE, id, 0, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, 1);
	EXPECT_EQ(0, flags_seen & 0x40000);
	EXPECT_EQ(0x200, flags_seen & 0x200);
}

/* The last one to use a file that all others have closed. */
static void accepts(struct worker *w)
{
	w->result = ums_ret(accept(w->fd[0], NULL, NULL));
}

static int listen_at(const struct sockaddr_un *name)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && bind(fd, (const struct sockaddr *)name, sizeof(*name)) == 0 &&
	    listen(fd, 1) == 0)
		return fd;
	close(fd);
	return -1;
}

static bool is_free(const struct sockaddr_un *name)
{
	int fd = listen_at(name);

	return fd >= 0 && !close(fd);
}

/* What it has left to be done on its way to user mode does not wait for a scheduler. */
TEST(lets_go_of_files)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	struct worker w = {};
	struct sched s;
	struct list l;
	int client;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	/* An abstract name, nobody else's. */
	snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "ums %d", getpid());
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	w.fd[0] = listen_at(&name);
	ASSERT_LE(0, w.fd[0]);
	id = worker_start_pop(&w, &l, accepts, NULL);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_accept);
	ASSERT_EQ(0, close(w.fd[0]));
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_EQ(0, connect(client, (struct sockaddr *)&name, sizeof(name)));
	ASSERT_EQ(id, list_pop_wait(&l));
	EXPECT_TRUE(WAIT_FOR(is_free(&name)));
	EXPECT_EQ(UMS_STATE_READY, slot_state(&l, id));
	ASSERT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_LE(0, w.result);
}

TEST_HARNESS_MAIN

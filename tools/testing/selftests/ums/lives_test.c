// SPDX-License-Identifier: GPL-2.0
/*
 * fork, vfork, exec, exit and death, from workers, schedulers and outside; and
 * a process that scribbles over what it shares with the kernel.
 */
#include "ums_test.h"

#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

extern char **environ;

/* What fork() must leave behind: 0 if this is a thread without UMS. */
static int check_child(struct list *l, __u64 id)
{
	struct __kernel_timespec zero = {};
	struct ums_info info;

	if (ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)) ||
	    info.role != UMS_ROLE_NONE)
		return 10;
	if (ums_yield(0, 0) != -EPERM || ums_detach(0) != -EPERM)
		return 11;
	if (ums_execute(id, 0, 0) != -EPERM || ums_scheduler_exit(0) != -EPERM)
		return 12;
	if (ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)) != -ESRCH)
		return 13;
	if (ums_wait(l->fd, &zero, 0) != -EXDEV)
		return 14;
	return 0;
}

/* ... and that it can start over. */
static void nothing(struct worker *w)
{
}

static int check_anew(void)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	if (list_open(&l, 1))
		return 20;
	id = worker_start_pop(&w, &l, nothing, NULL);
	if (!id || sched_enter(&s))
		return 21;
	if (worker_run_to_end(&s, &l, id))
		return 22;
	if (pthread_join(w.thread, NULL) || sched_exit(&s))
		return 23;
	list_close(&l);
	return 0;
}

static void forks(struct worker *w)
{
	struct ums_info info;
	int status = -1;
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(check_child(w->list, w->id) ?: check_anew());
	if (ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)) ||
	    info.worker != w->id)
		w->stage = 1;
	waitpid(pid, &status, 0);
	w->result = status;
}

TEST(fork_from_worker)
{
	struct worker w = { .result = -1 };
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, forks, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_EQ(0, w.result);
	EXPECT_EQ(0, w.stage);
}

static void yields(struct worker *w)
{
	while (!LOAD(w->stage))
		ums_yield(++w->result, 0);
}

TEST(fork_from_scheduler)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	int status, i;
	pid_t pid;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, yields, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 5; i++) {
		do {
			ASSERT_EQ(0, sched_run(&s, id, 0));
			if (s.reason == UMS_UPCALL_BLOCKED) {
				ASSERT_EQ(id, list_pop_wait(&l));
			}
		} while (s.reason == UMS_UPCALL_BLOCKED);
		ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, i + 1);
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(check_child(&l, id) ?: check_anew());
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
	}
	STORE(w.stage, 1);
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
}

static void spawns(struct worker *w)
{
	char *argv[] = { "true", NULL };
	int status = -1, i;
	pid_t pid;

	for (i = 0; i < 5; i++) {
		/* CLONE_VM | CLONE_VFORK, with a stack of its own. */
		w->result = posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ);
		if (w->result)
			return;
		waitpid(pid, &status, 0);
		if (status)
			w->result = -1;
	}
}

TEST(posix_spawn_from_worker)
{
	struct worker w = { .result = -1 };
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, spawns, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_EQ(0, w.result);
}

TEST(posix_spawn_from_scheduler)
{
	struct worker w = { .result = -1 };
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	spawns(&w);
	EXPECT_EQ(0, w.result);
	w.result = -1;
	id = worker_start_pop(&w, &l, spawns, NULL);
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_EQ(0, w.result);
}

/* A thread made by a worker is nobody's worker. */
static void *asks_role(void *arg)
{
	struct ums_info info;

	if (ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)))
		return NULL;
	*(int *)arg = info.role;
	return NULL;
}

static void makes_thread(struct worker *w)
{
	pthread_t t;
	int role = -1;

	w->result = thread_start(&t, asks_role, &role);
	if (!w->result)
		w->result = pthread_join(t, NULL);
	w->stage = role;
}

TEST(clone_from_worker)
{
	struct worker w = { .result = -1 };
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, makes_thread, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_EQ(0, w.result);
	EXPECT_EQ(UMS_ROLE_NONE, w.stage);
}

/*
 * A menagerie: schedulers in their loops and workers in every state, for ever.
 * What ends the process is the test's.
 */
#define ZOO_WORKERS 16

static struct list zoo_list;
static struct worker zoo_workers[ZOO_WORKERS];
static pthread_t zoo_scheds[3];
static long zoo_turns;

static void zoo_animal(struct worker *w)
{
	int p[2], i = 0;
	char c;

	if (pipe(p))
		return;
	for (;;) {
		INC(zoo_turns);
		switch ((w - zoo_workers) % 5) {
		case 0:
			ums_yield(0, UMS_YIELD_PUBLISH);
			break;
		case 1:
			sleep_ns(1000);
			break;
		case 2:
			/* Blocked once and for all. */
			w->result = read(p[0], &c, 1);
			break;
		case 3:
			/* Spins to the end of its slice. */
			for (i = 0; i < 1000; i++)
				__builtin_ia32_pause();
			break;
		case 4:
			ums_preempt(w->id, 0);
			break;
		}
	}
}

static void *zoo_sched(void *arg)
{
	struct __kernel_timespec ts = { .tv_nsec = 20 * MSEC };
	struct sched s;
	__u64 id;

	if (sched_enter(&s))
		return NULL;
	for (;;) {
		id = list_pop(&zoo_list);
		if (!id) {
			ums_wait(zoo_list.fd, &ts, 0);
			sched_yield();
			continue;
		}
		/* Errors are for those tests in which the list is destroyed. */
		sched_run(&s, id, MSEC);
	}
	return NULL;
}

static int zoo_open(void)
{
	int i;

	if (list_open(&zoo_list, ZOO_WORKERS + 4))
		return 30;
	for (i = 0; i < ZOO_WORKERS; i++)
		if (worker_start(&zoo_workers[i], &zoo_list, zoo_animal, NULL))
			return 31;
	for (i = 0; i < 3; i++)
		if (thread_start(&zoo_scheds[i], zoo_sched, NULL))
			return 32;
	return WAIT_FOR(LOAD(zoo_turns) > 100) ? 0 : 33;
}

/* Runs @fn beside a zoo, in a process of its own; its wait status. */
static int beside_zoo(int (*fn)(void *arg), void *arg)
{
	int status = -1;
	pid_t pid;

	pid = fork();
	if (!pid) {
		int ret = zoo_open();

		_exit(ret ?: fn(arg));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

static int fork_outside(void *arg)
{
	int i, status;
	pid_t pid;

	for (i = 0; i < 10; i++) {
		pid = fork();
		if (!pid)
			_exit(check_child(&zoo_list, zoo_workers[0].id) ?: check_anew());
		if (waitpid(pid, &status, 0) != pid || status)
			return WEXITSTATUS(status) ?: 40;
	}
	return 0;
}

TEST(fork_from_outside)
{
	UMS_REQUIRE();
	EXPECT_EQ(0, beside_zoo(fork_outside, NULL));
}

static int exits(void *arg)
{
	return 17;
}

TEST(exit_group_from_outside)
{
	int i;

	UMS_REQUIRE();
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(17 << 8, beside_zoo(exits, NULL));
	}
}

static void exits_group(struct worker *w)
{
	_exit(18);
}

static int exits_from_worker(void *arg)
{
	static struct worker w;

	if (worker_start(&w, &zoo_list, exits_group, NULL))
		return 1;
	for (;;)
		pause();
}

TEST(exit_group_from_worker)
{
	int i;

	UMS_REQUIRE();
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(18 << 8, beside_zoo(exits_from_worker, NULL));
	}
}

static int exits_from_scheduler(void *arg)
{
	struct sched s;
	__u64 id;

	if (sched_enter(&s))
		return 1;
	id = list_pop_wait(&zoo_list);
	sched_run(&s, id, MSEC);
	_exit(19);
}

TEST(exit_group_from_scheduler)
{
	int i;

	UMS_REQUIRE();
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(19 << 8, beside_zoo(exits_from_scheduler, NULL));
	}
}

/* The leader goes, the others go on and end the process later. */
static void *ends_it_later(void *arg)
{
	long turns;

	if (!WAIT_FOR(thread_state(getpid(), getpid()) == 'Z'))
		_exit(1);
	turns = LOAD(zoo_turns);
	_exit(WAIT_FOR(LOAD(zoo_turns) > turns + 100) ? 20 : 2);
}

static int leader_exits(void *arg)
{
	pthread_t t;

	if (thread_start(&t, ends_it_later, NULL))
		return 3;
	pthread_exit(NULL);
}

TEST(leader_exits_first)
{
	UMS_REQUIRE();
	EXPECT_EQ(20 << 8, beside_zoo(leader_exits, NULL));
}

/* exec: /proc tells that nothing is left, the list's descriptor included. */
static void do_exec(void)
{
	execl("/bin/sh", "sh", "-c",
	      "grep -q '^role:.*none' /proc/$$/task/$$/ums || exit 3;"
	      "grep -q '^role:.*none' /proc/thread-self/ums || exit 3;"
	      "ls -l /proc/$$/fd | grep -q ums && exit 4; exit 21", NULL);
	_exit(5);
}

static void execs(struct worker *w)
{
	do_exec();
}

static int exec_from_worker(void *arg)
{
	static struct worker w;

	if (worker_start(&w, &zoo_list, execs, NULL))
		return 1;
	for (;;)
		pause();
}

static int exec_from_scheduler(void *arg)
{
	struct sched s;
	__u64 id;

	if (sched_enter(&s))
		return 1;
	id = list_pop_wait(&zoo_list);
	sched_run(&s, id, MSEC);
	do_exec();
	return 1;
}

static int exec_from_outside(void *arg)
{
	do_exec();
	return 1;
}

TEST(exec)
{
	UMS_REQUIRE();
	EXPECT_EQ(21 << 8, beside_zoo(exec_from_outside, NULL));
	EXPECT_EQ(21 << 8, beside_zoo(exec_from_worker, NULL));
	EXPECT_EQ(21 << 8, beside_zoo(exec_from_scheduler, NULL));
}

/* A failed exec leaves everything as it was. */
static void fails_exec(struct worker *w)
{
	w->result = execl("/nonexistent", "x", NULL);
	ums_yield(4, 0);
}

TEST(failed_exec)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, fails_exec, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	while (s.reason == UMS_UPCALL_BLOCKED) {
		ASSERT_EQ(id, list_pop_wait(&l));
		ASSERT_EQ(0, sched_run(&s, id, 0));
	}
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 4);
	EXPECT_EQ(-1, w.result);
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
}

/* Killed with everything in flight, at any moment. */
TEST(sigkill)
{
	int status, i, p[2];
	pid_t pid;
	char c;

	UMS_REQUIRE();
	for (i = 0; i < 15; i++) {
		ASSERT_EQ(0, pipe(p));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			close(p[0]);
			/* Kill every second while it is being set up. */
			if (i & 1)
				c = write(p[1], "x", 1);
			if (zoo_open())
				_exit(1);
			if (!(i & 1))
				c = write(p[1], "x", 1);
			for (;;)
				pause();
		}
		close(p[1]);
		ASSERT_EQ(1, read(p[0], &c, 1));
		sleep_ns(i * MSEC / 3);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(SIGKILL, status);
		close(p[0]);
	}
}

/* The list goes while everything is in flight: all become ordinary threads. */
static int closes_zoo(void *arg)
{
	long turns;

	close(zoo_list.fd);
	turns = LOAD(zoo_turns);
	/* They go on, at full speed, without any scheduler. */
	return WAIT_FOR(LOAD(zoo_turns) > turns + 1000) ? 22 : 1;
}

TEST(close_in_flight)
{
	int i;

	UMS_REQUIRE();
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(22 << 8, beside_zoo(closes_zoo, NULL));
	}
}

static const struct __kernel_timespec zero;

static int polled(struct list *l)
{
	struct pollfd p = { .fd = l->fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 ? p.revents : 0;
}

/* Its scheduler's thread ends in a signal handler, while the worker runs. */
static void dies(int sig)
{
	syscall(SYS_exit, 0);
}

static void spins(struct worker *w)
{
	STORE(w->stage, 1);
	while (LOAD(w->stage) != 2)
		INC(w->result);
}

struct doomed {
	__u64 id;
	pid_t tid;
	bool gone;
	pthread_t t;
};

static void *doomed_main(void *arg)
{
	struct doomed *d = arg;
	struct sched s;

	STORE(d->tid, self_tid());
	if (!sched_enter(&s))
		sched_run(&s, d->id, 0);
	/* Not reached. */
	d->gone = true;
	return NULL;
}

TEST(scheduler_dies)
{
	struct sigaction sa = { .sa_handler = dies };
	struct doomed d = {};
	struct worker w = {};
	struct ums_info info;
	struct sched s;
	struct list l;

	UMS_REQUIRE();
	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	ASSERT_EQ(0, list_open(&l, 1));
	d.id = worker_start_pop(&w, &l, spins, NULL);
	ASSERT_EQ(0, thread_start(&d.t, doomed_main, &d));
	ASSERT_TRUE(WAIT_FOR(LOAD(w.result) > 0));
	ASSERT_EQ(0, syscall(SYS_tgkill, getpid(), d.tid, SIGUSR1));
	/* It comes back, by way of its list, for another to run. */
	ASSERT_TRUE(WAIT_FOR(!list_empty(&l)));
	EXPECT_EQ(0, ums_wait(l.fd, NULL, 0));
	EXPECT_EQ(POLLIN, polled(&l) & POLLIN);
	ASSERT_EQ(d.id, list_pop(&l));
	ASSERT_TRUE(WAIT_FOR(thread_state(getpid(), d.tid) == 0));
	EXPECT_EQ(false, d.gone);
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, d.id, &info, sizeof(info)));
	EXPECT_EQ(UMS_STATE_READY, info.state);
	EXPECT_EQ(0, info.scheduler);
	STORE(w.stage, 2);
	ASSERT_EQ(0, sched_enter(&s));
	EXPECT_EQ(0, worker_run_to_end(&s, &l, d.id));
}

/* A scheduler ends between two executions; what it has blocked comes back. */
static void reads_pipe(struct worker *w)
{
	char c;

	w->result = read(w->fd[0], &c, 1);
}

TEST(scheduler_ends)
{
	struct doomed d = {};
	struct worker w = {};
	struct sched s;
	struct list l;

	UMS_REQUIRE();
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	d.id = worker_start_pop(&w, &l, reads_pipe, NULL);
	ASSERT_EQ(0, thread_start(&d.t, doomed_main, &d));
	ASSERT_EQ(0, pthread_join(d.t, NULL));
	EXPECT_EQ(true, d.gone);
	/* Nobody would execute it when it comes back. */
	EXPECT_EQ(-EOWNERDEAD, ums_wait(l.fd, NULL, 0));
	EXPECT_EQ(POLLERR, polled(&l));
	ASSERT_EQ(1, write(w.fd[1], "x", 1));
	ASSERT_TRUE(WAIT_FOR(!list_empty(&l)));
	EXPECT_EQ(0, ums_wait(l.fd, NULL, 0));
	EXPECT_EQ(POLLIN | POLLERR, polled(&l));
	ASSERT_EQ(d.id, list_pop(&l));
	ASSERT_EQ(0, sched_enter(&s));
	EXPECT_EQ(0, polled(&l));
	EXPECT_EQ(0, worker_run_to_end(&s, &l, d.id));
	EXPECT_EQ(1, w.result);
	/* It does not die. */
	ASSERT_EQ(0, sched_exit(&s));
	EXPECT_EQ(0, polled(&l));
	EXPECT_EQ(-ETIMEDOUT, ums_wait(l.fd, &zero, 0));
}

/* Threads that wait for a worker, in each way that there is. */
struct watcher {
	int fd;
	int how;
	pid_t tid;
	long ret;
	pthread_t t;
};

static void *watches(void *arg)
{
	struct watcher *z = arg;
	struct epoll_event ev = { .events = EPOLLIN | (z->how == 4 ? EPOLLEXCLUSIVE : 0) };
	/* Errors are told to those who ask for nothing, too. */
	struct pollfd p = { .fd = z->fd, .events = z->how == 5 ? 0 : POLLIN };
	int ep;

	STORE(z->tid, self_tid());
	switch (z->how) {
	case 0:
	case 1:
		z->ret = ums_wait(z->fd, NULL, 0);
		break;
	case 2:
	case 5:
		z->ret = poll(&p, 1, -1) == 1 ? p.revents : -1;
		break;
	default:
		ep = epoll_create1(0);
		epoll_ctl(ep, EPOLL_CTL_ADD, z->fd, &ev);
		z->ret = epoll_wait(ep, &ev, 1, -1) == 1 ? ev.events : -1;
		close(ep);
	}
	return NULL;
}

static void *waits_to_end(void *arg)
{
	struct watcher *z = arg;
	struct sched s;

	if (!sched_enter(&s)) {
		STORE(z->tid, self_tid());
		z->ret = ums_wait(z->fd, NULL, 0);
	}
	return NULL;
}

/*
 * Two schedulers: the death of the first is nobody's business, that of the last
 * is everybody's, on each list of the process; until there is one again.
 */
TEST(last_scheduler_dies)
{
	/* Of exclusive pollers, too, each hears of it. */
	static const long calls[] = { NR_UMS_WAIT, NR_UMS_WAIT, SYS_poll, SYS_epoll_wait,
				      SYS_epoll_wait, SYS_poll };
	struct sigaction sa = { .sa_handler = dies };
	struct watcher z[18] = {}, sched[2] = {};
	struct list l[2], theirs;
	struct sched s;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	ASSERT_EQ(0, list_open(&theirs, 1));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, list_open(&l[i], 1));
		sched[i].fd = theirs.fd;
		ASSERT_EQ(0, thread_start(&sched[i].t, waits_to_end, &sched[i]));
		ASSERT_TRUE(WAIT_FOR(LOAD(sched[i].tid) &&
				     thread_sleeps_in(sched[i].tid, NR_UMS_WAIT)));
	}
	for (i = 0; i < 18; i++) {
		z[i].fd = l[i / 6 % 2].fd;
		z[i].how = i % 6;
		ASSERT_EQ(0, thread_start(&z[i].t, watches, &z[i]));
	}
	for (i = 0; i < 18; i++) {
		ASSERT_TRUE(WAIT_FOR(LOAD(z[i].tid) &&
				     thread_sleeps_in(z[i].tid, calls[i % 6])));
	}
	ASSERT_EQ(0, syscall(SYS_tgkill, getpid(), sched[0].tid, SIGUSR1));
	ASSERT_EQ(0, pthread_join(sched[0].t, NULL));
	ASSERT_TRUE(WAIT_FOR(thread_state(getpid(), sched[0].tid) == 0));
	EXPECT_EQ(0, polled(&l[0]));
	for (i = 0; i < 18; i++) {
		EXPECT_TRUE(thread_sleeps_in(z[i].tid, calls[i % 6]));
	}
	ASSERT_EQ(0, syscall(SYS_tgkill, getpid(), sched[1].tid, SIGUSR1));
	ASSERT_EQ(0, pthread_join(sched[1].t, NULL));
	for (i = 0; i < 18; i++) {
		ASSERT_EQ(0, pthread_join(z[i].t, NULL));
		EXPECT_EQ(z[i].how < 2 ? -EOWNERDEAD : POLLERR, z[i].ret);
	}
	/* A new list is no better off. */
	list_close(&l[0]);
	ASSERT_EQ(0, list_open(&l[0], 1));
	EXPECT_EQ(-EOWNERDEAD, ums_wait(l[0].fd, &zero, 0));
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(-ETIMEDOUT, ums_wait(l[i].fd, &zero, 0));
		EXPECT_EQ(0, polled(&l[i]));
	}
}

/* By either table of system calls; that of int $0x80 has exit() at 1. */
static void exits_itself(struct worker *w)
{
	syscall(SYS_exit, 0);
}

static void exits_by_ia32(struct worker *w)
{
	asm volatile("int $0x80" : : "a"(1), "b"(0) : "memory");
}

/*
 * Stops thread @tid on its way into exit(), call number @nr. Its scheduler is not
 * told that it blocks, since from there it comes to user mode no more, and could
 * not be executed again.
 */
static void debugger(pid_t tid, unsigned long nr, int ready)
{
	char path[64], text[1024], value[32];
	struct user_regs_struct regs;
	pid_t pid = getppid();
	int status, err = 0;

	if (ptrace(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD) ||
	    ptrace(PTRACE_INTERRUPT, tid, 0, 0) || waitpid(tid, &status, __WALL) != tid)
		_exit(1);
	if (ptrace(PTRACE_SYSCALL, tid, 0, 0) || write(ready, "x", 1) != 1)
		_exit(2);
	do {
		if (waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status) ||
		    ptrace(PTRACE_GETREGS, tid, 0, &regs))
			_exit(3);
	} while (regs.orig_rax != nr && !ptrace(PTRACE_SYSCALL, tid, 0, 0));
	snprintf(path, sizeof(path), "/proc/%d/task/%d/ums", pid, tid);
	if (thread_state(pid, tid) != 't')
		err = 4;
	else if (read_text(path, text, sizeof(text)) < 0 ||
		 !text_value(text, "state", value, sizeof(value)))
		err = 5;
	else if (strcmp(value, "running"))
		err = 6;
	_exit(ptrace(PTRACE_DETACH, tid, 0, 0) ? 7 : err);
}

TEST(exit_under_a_debugger)
{
	static void (*const ways[])(struct worker *w) = { exits_itself, exits_by_ia32 };
	static const unsigned long numbers[] = { SYS_exit, 1 };
	struct worker w[2] = {};
	int ready[2], status, i;
	struct sched s;
	struct list l;
	pid_t pid;
	__u64 id;
	char c;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, pipe(ready));
	for (i = 0; i < 2; i++) {
		id = worker_start_pop(&w[i], &l, ways[i], NULL);
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			debugger(w[i].tid, numbers[i], ready[1]);
		ASSERT_EQ(1, read(ready[0], &c, 1));
		EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		ASSERT_EQ(0, pthread_join(w[i].thread, NULL));
		EXPECT_TRUE(list_empty(&l));
	}
}

/* pthread_cancel of one that is blocked, and of one that is ready: by whom? */
enum canceller { BY_SCHEDULER, BY_OUTSIDE, BY_WORKER, CANCELLERS };

static pthread_t to_cancel[2];

static void *cancels(void *arg)
{
	long err = 0;
	int i;

	for (i = 0; i < 2; i++)
		err |= pthread_cancel(to_cancel[i]);
	return (void *)err;
}

static void cancels_others(struct worker *w)
{
	w->result = (long)cancels(NULL);
}

static void cancel_two(struct __test_metadata *_metadata, enum canceller by)
{
	struct worker w[2] = {}, other = { .result = -1 };
	int left = 1, i;
	struct sched s;
	struct list l;
	__u64 id[2], next;
	pthread_t t;
	void *ret;

	ASSERT_EQ(0, list_open(&l, 3));
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, pipe(w[i].fd));
		id[i] = worker_start_pop(&w[i], &l, reads_pipe, NULL);
		to_cancel[i] = w[i].thread;
	}
	ASSERT_EQ(0, sched_run(&s, id[0], 0));
	while (s.detail == UMS_CAUSE_FAULT) {
		ASSERT_EQ(id[0], list_pop_wait(&l));
		ASSERT_EQ(0, sched_run(&s, id[0], 0));
	}
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id[0], SYS_read);
	switch (by) {
	case BY_SCHEDULER:
		ASSERT_EQ(NULL, cancels(NULL));
		break;
	case BY_OUTSIDE:
		ASSERT_EQ(0, thread_start(&t, cancels, NULL));
		ASSERT_EQ(0, pthread_join(t, &ret));
		ASSERT_EQ(NULL, ret);
		break;
	default:
		ASSERT_EQ(0, worker_start(&other, &l, cancels_others, NULL));
		left++;
	}
	while (left) {
		next = list_pop_wait(&l);
		ASSERT_NE(0, next);
		ASSERT_EQ(0, sched_run(&s, next, 0));
		left -= s.reason == UMS_UPCALL_EXITED;
	}
	EXPECT_EQ(by == BY_WORKER ? 0 : -1, other.result);
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id[1]));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, pthread_join(w[i].thread, &ret));
		EXPECT_EQ(PTHREAD_CANCELED, ret);
	}
	ASSERT_EQ(0, sched_exit(&s));
	list_close(&l);
}

TEST(cancel)
{
	UMS_REQUIRE();
	cancel_two(_metadata, BY_SCHEDULER);
}

TEST(cancel_from_outside)
{
	UMS_REQUIRE();
	cancel_two(_metadata, BY_OUTSIDE);
}

TEST(cancel_from_worker)
{
	UMS_REQUIRE();
	cancel_two(_metadata, BY_WORKER);
}

/* A scheduler that is cancelled, or calls pthread_exit(), leaves its worker to another one. */
struct leaver {
	struct list l;
	struct worker w;
	pid_t tid;
	bool exits;
};

static void *leaves(void *arg)
{
	static struct sched s;
	struct leaver *v = arg;
	__u64 id = list_pop_wait(&v->l);

	if (sched_enter(&s))
		return NULL;
	while (!sched_run(&s, id, 0) && s.detail == UMS_CAUSE_FAULT)
		id = list_pop_wait(&v->l);
	STORE(v->tid, self_tid());
	if (v->exits)
		pthread_exit(v);
	for (;;)
		pause();
}

TEST(scheduler_is_cancelled)
{
	struct leaver v;
	struct sched s;
	pthread_t t;
	void *ret;
	__u64 id;
	int i;

	UMS_REQUIRE();
	for (i = 0; i < 2; i++) {
		memset(&v, 0, sizeof(v));
		v.exits = i;
		ASSERT_EQ(0, list_open(&v.l, 1));
		ASSERT_EQ(0, pipe(v.w.fd));
		ASSERT_EQ(0, worker_start(&v.w, &v.l, reads_pipe, NULL));
		ASSERT_EQ(0, thread_start(&t, leaves, &v));
		ASSERT_TRUE(WAIT_FOR(LOAD(v.tid)));
		if (!v.exits) {
			ASSERT_TRUE(WAIT_FOR(thread_sleeps_in(v.tid, SYS_pause)));
			ASSERT_EQ(0, pthread_cancel(t));
		}
		ASSERT_EQ(0, pthread_join(t, &ret));
		EXPECT_EQ(v.exits ? (void *)&v : PTHREAD_CANCELED, ret);
		ASSERT_EQ(0, sched_enter(&s));
		ASSERT_EQ(1, write(v.w.fd[1], "x", 1));
		id = list_pop_wait(&v.l);
		ASSERT_NE(0, id);
		EXPECT_EQ(0, worker_run_to_end(&s, &v.l, id));
		ASSERT_EQ(0, pthread_join(v.w.thread, &ret));
		ASSERT_EQ(0, sched_exit(&s));
		list_close(&v.l);
	}
}

/*
 * Everything that is shared is overwritten, over and over: whatever becomes of
 * the process that does it, it can be killed, and nobody else is hurt.
 */
static void *scribbles(void *arg)
{
	__u64 *p = (void *)zoo_list.head, seed = *(__u64 *)arg | 1;
	size_t n = zoo_list.args.mmap_size / sizeof(*p), i;

	for (;;) {
		for (i = 0; i < 64; i++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			/* Now noise, now values that mean something. */
			p[seed % n] = i & 1 ? seed : seed % 8;
		}
		/* The consumers' position, the most tempting word. */
		__atomic_store_n(&zoo_list.head->head, seed >> (seed % 64),
				 __ATOMIC_RELAXED);
		sched_yield();
	}
	return NULL;
}

static void shakes(struct __test_metadata *_metadata, bool keep_fd)
{
	int status, i;
	__u64 seed;
	pid_t pid;

	for (i = 0; i < 6; i++) {
		seed = 0x9e3779b97f4a7c15ULL * (i + 1);
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			pthread_t t[2];
			int k;

			/* Hurt itself it may; no core files of that. */
			prctl(PR_SET_DUMPABLE, 0);
			if (zoo_open())
				_exit(1);
			for (k = 0; k < 2; k++) {
				seed += k;
				thread_start(&t[k], scribbles, &seed);
			}
			sleep_ns(NSEC / 2);
			if (!keep_fd)
				close(zoo_list.fd);
			sleep_ns(NSEC / 4);
			_exit(0);
		}
		/* A hang in the kernel shows by the time limit of the test. */
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		/* Others go about their business. */
		ASSERT_EQ(0, check_anew());
	}
}

TEST(scribble)
{
	UMS_REQUIRE();
	shakes(_metadata, true);
}

TEST(scribble_and_close)
{
	UMS_REQUIRE();
	shakes(_metadata, false);
}

TEST_HARNESS_MAIN

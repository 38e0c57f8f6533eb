// SPDX-License-Identifier: GPL-2.0
/* ums_query, ums_set and /proc/PID/task/TID/ums. */
#include "ums_test.h"

#include <sched.h>
#include <sys/wait.h>

static void nothing(struct worker *w)
{
}

/* Blocks once, yields twice, is preempted once, and ends. */
static void does_each(struct worker *w)
{
	char c;

	w->result = read(w->fd[0], &c, 1);
	if (w->arg) {
		struct ums_info info = {};

		ums_query(UMS_QUERY_WORKER, w->id, &info, sizeof(info));
		w->stage = info.scheduler;
		w->fd[0] = list_slot(w->list, w->id)->scheduler;
	}
	ums_yield(1, 0);
	ums_yield(2, UMS_YIELD_PUBLISH);
	ums_preempt(w->id, 0);
}

/* The ids of threads are those of the process's own namespace. */
static int in_namespace(void)
{
	struct worker w = {};
	struct ums_info info;
	struct sched s;
	struct list l;
	__u64 id;

	if (pipe(w.fd) || list_open(&l, 1))
		return 1;
	id = worker_start_pop(&w, &l, does_each, NULL);
	if (!id || w.tid > 9 || list_slot(&l, id)->tid != w.tid)
		return 2;
	if (ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)) || info.tid != w.tid)
		return 3;
	if (ums_query(UMS_QUERY_THREAD, w.tid, &info, sizeof(info)) ||
	    info.worker != id || info.tid != w.tid)
		return 4;
	if (ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)) || info.tid != self_tid())
		return 5;
	/* It looks, too. */
	w.arg = &s;
	if (sched_enter(&s) || ums_query(UMS_QUERY_THREAD, self_tid(), &info, sizeof(info)) ||
	    info.role != UMS_ROLE_SCHEDULER || info.tid != self_tid())
		return 6;
	if (sched_run(&s, id, 0) || s.reason != UMS_UPCALL_BLOCKED ||
	    write(w.fd[1], "x", 1) != 1 || list_pop_wait(&l) != id)
		return 7;
	if (sched_run(&s, id, 0) || s.reason != UMS_UPCALL_YIELDED)
		return 8;
	/* As the worker saw it while it ran. */
	if (w.stage != self_tid() || w.fd[0] != self_tid())
		return 9;
	if (sched_run(&s, id, 0) || s.reason != UMS_UPCALL_YIELDED || list_pop(&l) != id)
		return 10;
	return worker_run_to_end(&s, &l, id) ? 11 : 0;
}

static void exits_with_7(struct worker *w)
{
	syscall(SYS_exit, 7);
}

static void *sees_it_end(void *arg)
{
	struct worker *w = arg;
	__u64 id = w->user_data;
	struct ums_info info;

	SPIN_FOR((sched_yield(), slot_state(w->list, id) == UMS_STATE_EXITED));
	w->stage = ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)) ?:
		   info.role == UMS_ROLE_WORKER && info.state == UMS_STATE_EXITED &&
		   info.worker == id && info.exit_status == 7 << 8 ? 0 : 1;
	return NULL;
}

/* Once its slot says that it has ended, it is told how. */
TEST(ended_just_now)
{
	struct sched s;
	struct list l;
	pthread_t t;
	__u64 id;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 50; i++) {
		struct worker w = { .stage = 99 };

		id = worker_start_pop(&w, &l, exits_with_7, NULL);
		ASSERT_NE(0, id);
		w.user_data = id;
		ASSERT_EQ(0, thread_start(&t, sees_it_end, &w));
		EXPECT_EQ(7 << 8, worker_run_to_end(&s, &l, id));
		ASSERT_EQ(0, pthread_join(t, NULL));
		EXPECT_EQ(0, w.stage);
		ASSERT_EQ(0, pthread_join(w.thread, NULL));
	}
}

TEST(pid_namespace)
{
	int status;
	pid_t pid;

	UMS_REQUIRE();
	if (geteuid())
		SKIP(return, "needs root");
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (unshare(CLONE_NEWPID))
			_exit(100);
		pid = fork();
		if (!pid)
			_exit(in_namespace());
		waitpid(pid, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 101);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

/*
 * The same numbers in struct ums_info and in the file in /proc. Times of a
 * running state may grow between the two reads.
 */
static void check_proc(struct __test_metadata *_metadata, pid_t tid,
		       const struct ums_info *info)
{
	static const char * const roles[] = { "none", "worker", "scheduler" };
	static const char * const states[] = {
		"none", "running", "blocked", "ready", "empty", "exited",
	};
	char path[64], text[4096], v[64], want[64];
	struct {
		const char *key;
		__u64 value;
	} field[] = {
		{ "executes", info->executes },
		{ "blocks_syscall", info->blocks_syscall },
		{ "blocks_fault", info->blocks_fault },
		{ "yields", info->yields },
		{ "preemptions", info->preemptions },
		{ "publishes", info->publishes },
	};
	unsigned int i;

	snprintf(path, sizeof(path), "/proc/self/task/%d/ums", tid);
	ASSERT_LT(0, read_text(path, text, sizeof(text)));
	ASSERT_NE(NULL, text_value(text, "role", v, sizeof(v)));
	EXPECT_STREQ(roles[info->role], v);
	if (info->role == UMS_ROLE_NONE) {
		EXPECT_EQ(NULL, text_value(text, "id", v, sizeof(v)));
		EXPECT_EQ(NULL, text_value(text, "executes", v, sizeof(v)));
		return;
	}
	if (info->role == UMS_ROLE_SCHEDULER) {
		ASSERT_NE(NULL, text_value(text, "worker", v, sizeof(v)));
		EXPECT_EQ(info->worker, strtoull(v, NULL, 0));
		ASSERT_NE(NULL, text_value(text, "executes", v, sizeof(v)));
		EXPECT_EQ(info->executes, strtoull(v, NULL, 0));
		ASSERT_NE(NULL, text_value(text, "upcalls", v, sizeof(v)));
		EXPECT_EQ(info->upcalls, strtoull(v, NULL, 0));
		ASSERT_NE(NULL, text_value(text, "running_ns", v, sizeof(v)));
		ASSERT_NE(NULL, text_value(text, "idle_ns", v, sizeof(v)));
		return;
	}
	ASSERT_NE(NULL, text_value(text, "id", v, sizeof(v)));
	EXPECT_EQ(info->worker, strtoull(v, NULL, 0));
	ASSERT_NE(NULL, text_value(text, "list", v, sizeof(v)));
	EXPECT_EQ(info->list_nr, strtoull(v, NULL, 0));
	ASSERT_NE(NULL, text_value(text, "tid", v, sizeof(v)));
	EXPECT_EQ(tid, strtol(v, NULL, 0));
	ASSERT_NE(NULL, text_value(text, "scheduler", v, sizeof(v)));
	EXPECT_EQ(info->scheduler, strtoul(v, NULL, 0));
	ASSERT_NE(NULL, text_value(text, "state", v, sizeof(v)));
	EXPECT_STREQ(states[info->state], v);
	ASSERT_NE(NULL, text_value(text, "cause", v, sizeof(v)));
	snprintf(want, sizeof(want), "syscall %llu", info->cause);
	EXPECT_STREQ(info->cause == UMS_CAUSE_FAULT ? "fault" : want, v);
	for (i = 0; i < ARRAY_SIZE(field); i++) {
		ASSERT_NE(NULL, text_value(text, field[i].key, v, sizeof(v))) {
			TH_LOG("no %s", field[i].key);
		}
		EXPECT_EQ(field[i].value, strtoull(v, NULL, 0)) {
			TH_LOG("%s", field[i].key);
		}
	}
	ASSERT_NE(NULL, text_value(text, "running_ns", v, sizeof(v)));
	ASSERT_NE(NULL, text_value(text, "blocked_ns", v, sizeof(v)));
	ASSERT_NE(NULL, text_value(text, "ready_ns", v, sizeof(v)));
}

static struct ums_info ask(struct __test_metadata *_metadata, __u64 id)
{
	struct ums_info info;

	memset(&info, 0xff, sizeof(info));
	EXPECT_EQ(0, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
	EXPECT_EQ(UMS_ROLE_WORKER, info.role);
	EXPECT_EQ(id, info.worker);
	return info;
}

TEST(counters)
{
	struct worker w = { .user_data = 17 };
	struct ums_info i, was, me;
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	id = worker_start_pop(&w, &l, does_each, NULL);

	i = ask(_metadata, id);
	EXPECT_EQ(UMS_STATE_READY, i.state);
	EXPECT_EQ(w.tid, i.tid);
	EXPECT_EQ(l.args.list_nr, i.list_nr);
	EXPECT_EQ(17, i.user_data);
	EXPECT_EQ(0, i.scheduler);
	EXPECT_EQ(0, i.executes);
	EXPECT_EQ(1, i.publishes);
	EXPECT_EQ(0, i.blocks_syscall);
	EXPECT_EQ(0, i.blocks_fault);
	EXPECT_EQ(0, i.yields);
	EXPECT_EQ(0, i.preemptions);
	EXPECT_EQ(0, i.upcalls);
	EXPECT_EQ(0, i.running_ns);
	EXPECT_EQ(0, i.blocked_ns);
	check_proc(_metadata, w.tid, &i);

	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
	i = ask(_metadata, id);
	EXPECT_EQ(UMS_STATE_BLOCKED, i.state);
	EXPECT_EQ(SYS_read, i.cause);
	EXPECT_EQ(1, i.executes);
	EXPECT_EQ(1, i.blocks_syscall);
	EXPECT_EQ(1, i.publishes);
	EXPECT_LT(0, i.running_ns);
	EXPECT_LT(0, i.ready_ns);
	check_proc(_metadata, w.tid, &i);
	was = i;

	sleep_ns(20 * MSEC);
	ASSERT_EQ(1, write(w.fd[1], "x", 1));
	ASSERT_EQ(id, list_pop_wait(&l));
	i = ask(_metadata, id);
	EXPECT_EQ(UMS_STATE_READY, i.state);
	EXPECT_EQ(2, i.publishes);
	EXPECT_EQ(1, i.blocks_syscall);
	EXPECT_EQ(was.running_ns, i.running_ns);
	EXPECT_LE(20 * MSEC, i.blocked_ns);
	check_proc(_metadata, w.tid, &i);
	was = i;

	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, 1);
	i = ask(_metadata, id);
	EXPECT_EQ(UMS_STATE_READY, i.state);
	EXPECT_EQ(1, i.yields);
	EXPECT_EQ(2, i.publishes);
	EXPECT_EQ(2, i.executes);
	EXPECT_LT(was.running_ns, i.running_ns);
	EXPECT_LT(was.ready_ns, i.ready_ns);
	EXPECT_EQ(was.blocked_ns, i.blocked_ns);
	check_proc(_metadata, w.tid, &i);

	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, 2);
	ASSERT_EQ(id, list_pop(&l));
	i = ask(_metadata, id);
	EXPECT_EQ(2, i.yields);
	EXPECT_EQ(3, i.publishes);

	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_PREEMPTED, id, UMS_PREEMPT_ASKED);
	ASSERT_EQ(id, list_pop(&l));
	i = ask(_metadata, id);
	EXPECT_EQ(4, i.executes);
	EXPECT_EQ(2, i.yields);
	EXPECT_EQ(1, i.preemptions);
	EXPECT_EQ(4, i.publishes);
	EXPECT_EQ(1, i.blocks_syscall);
	EXPECT_EQ(0, i.blocks_fault);
	check_proc(_metadata, w.tid, &i);
	was = i;

	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	/* Of one that has ended, its status remains, and its slot. */
	i = ask(_metadata, id);
	EXPECT_EQ(UMS_STATE_EXITED, i.state);
	EXPECT_EQ(0, i.exit_status);
	EXPECT_EQ(5, list_slot(&l, id)->executes);
	EXPECT_EQ(1, list_slot(&l, id)->blocks);

	ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, 0, &me, sizeof(me)));
	EXPECT_EQ(UMS_ROLE_SCHEDULER, me.role);
	EXPECT_EQ(self_tid(), me.tid);
	EXPECT_EQ(0, me.worker);
	EXPECT_EQ(5, me.executes);
	EXPECT_EQ(s.upcalls, me.upcalls);
	EXPECT_LT(0, me.running_ns);
	/* What it has run is that worker. */
	EXPECT_LT(was.running_ns, me.running_ns);
	check_proc(_metadata, self_tid(), &me);
}

/* Every change of state has its time, and no time is counted twice. */
TEST(times)
{
	__u64 begin, sum, last = 0;
	struct worker w = {};
	struct ums_info i;
	struct sched s;
	struct list l;
	int n;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	begin = now_ns();
	id = worker_start_pop(&w, &l, does_each, NULL);
	ASSERT_EQ(1, write(w.fd[1], "x", 1));
	for (n = 0; n < 4; n++) {
		i = ask(_metadata, id);
		sum = i.running_ns + i.blocked_ns + i.ready_ns;
		EXPECT_LE(last, sum);
		EXPECT_GE(now_ns() - begin, sum);
		last = sum;
		sleep_ns(5 * MSEC);
		ASSERT_EQ(0, sched_run(&s, id, 0));
		if (s.reason == UMS_UPCALL_PREEMPTED || s.detail == 2) {
			ASSERT_EQ(id, list_pop(&l));
		}
	}
	ASSERT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	/* As of before the fourth execution: three times it was kept waiting. */
	EXPECT_LE(3 * 5 * MSEC, i.ready_ns);
}

static void waits_for_stage(struct worker *w)
{
	STORE(w->stage, 1);
	SPIN_FOR(LOAD(w->stage) == 2);
}

struct watcher {
	struct __test_metadata *t;
	struct worker *w;
	__u64 id;
	pid_t sched_tid;
	struct ums_info worker, thread, sched;
	char text[2048];
	int ok;
	pthread_t th;
};

static void *watcher_main(void *arg)
{
	struct watcher *z = arg;
	char path[64];

	if (WAIT_FOR(LOAD(z->w->stage) == 1)) {
		snprintf(path, sizeof(path), "/proc/self/task/%d/ums", z->sched_tid);
		z->ok = !ums_query(UMS_QUERY_WORKER, z->id, &z->worker,
				   sizeof(z->worker)) &&
			!ums_query(UMS_QUERY_THREAD, z->w->tid, &z->thread,
				   sizeof(z->thread)) &&
			!ums_query(UMS_QUERY_THREAD, z->sched_tid, &z->sched,
				   sizeof(z->sched)) &&
			read_text(path, z->text, sizeof(z->text)) > 0;
	}
	STORE(z->w->stage, 2);
	return NULL;
}

/* Looked at from outside while it runs. */
TEST(while_running)
{
	struct watcher z = { .sched_tid = self_tid() };
	struct worker w = {};
	struct sched s;
	struct list l;
	char v[64];

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	z.w = &w;
	z.id = worker_start_pop(&w, &l, waits_for_stage, NULL);
	ASSERT_EQ(0, thread_start(&z.th, watcher_main, &z));
	ASSERT_EQ(0, sched_run(&s, z.id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_EXITED, z.id, 0);
	ASSERT_EQ(0, pthread_join(z.th, NULL));
	ASSERT_EQ(1, z.ok);
	EXPECT_EQ(UMS_ROLE_WORKER, z.worker.role);
	EXPECT_EQ(UMS_STATE_RUNNING, z.worker.state);
	EXPECT_EQ(self_tid(), z.worker.scheduler);
	EXPECT_EQ(UMS_ROLE_WORKER, z.thread.role);
	EXPECT_EQ(z.id, z.thread.worker);
	EXPECT_EQ(UMS_STATE_RUNNING, z.thread.state);
	EXPECT_EQ(UMS_ROLE_SCHEDULER, z.sched.role);
	EXPECT_EQ(z.id, z.sched.worker);
	EXPECT_EQ(1, z.sched.executes);
	ASSERT_NE(NULL, text_value(z.text, "worker", v, sizeof(v)));
	EXPECT_EQ(z.id, strtoull(v, NULL, 0));
}

static void asks_itself(struct worker *w)
{
	struct ums_info *info = w->arg;

	w->result = ums_query(UMS_QUERY_THREAD, 0, info, sizeof(*info));
}

TEST(roles)
{
	struct ums_info info, own;
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	memset(&info, 0xff, sizeof(info));
	ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)));
	EXPECT_EQ(UMS_ROLE_NONE, info.role);
	EXPECT_EQ(UMS_STATE_NONE, info.state);
	EXPECT_EQ(self_tid(), info.tid);
	EXPECT_EQ(0, info.worker);
	check_proc(_metadata, self_tid(), &info);
	id = worker_start_pop(&w, &l, asks_itself, &own);
	ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, w.tid, &info, sizeof(info)));
	EXPECT_EQ(UMS_ROLE_WORKER, info.role);
	EXPECT_EQ(id, info.worker);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, self_tid(), &info, sizeof(info)));
	EXPECT_EQ(UMS_ROLE_SCHEDULER, info.role);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(0, w.result);
	EXPECT_EQ(UMS_ROLE_WORKER, own.role);
	EXPECT_EQ(UMS_STATE_RUNNING, own.state);
	EXPECT_EQ(id, own.worker);
	EXPECT_EQ(self_tid(), own.scheduler);
	ASSERT_EQ(0, sched_exit(&s));
	ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)));
	EXPECT_EQ(UMS_ROLE_NONE, info.role);
}

TEST(errors)
{
	struct worker w = {};
	struct ums_info info;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 2));
	id = worker_start_pop(&w, &l, nothing, NULL);
	EXPECT_EQ(-ESRCH, ums_query(UMS_QUERY_WORKER, 0, &info, sizeof(info)));
	EXPECT_EQ(-ESRCH, ums_query(UMS_QUERY_WORKER, ~0ULL, &info, sizeof(info)));
	EXPECT_EQ(-ESRCH, ums_query(UMS_QUERY_WORKER, id ^ 1, &info, sizeof(info)));
	/* Another process, no process, no thread, no pid at all. */
	EXPECT_EQ(-ESRCH, ums_query(UMS_QUERY_THREAD, 1, &info, sizeof(info)));
	EXPECT_EQ(-ESRCH, ums_query(UMS_QUERY_THREAD, getppid(), &info, sizeof(info)));
	EXPECT_EQ(-ESRCH, ums_query(UMS_QUERY_THREAD, 1 << 30, &info, sizeof(info)));
	EXPECT_EQ(-ESRCH, ums_query(UMS_QUERY_THREAD, -1, &info, sizeof(info)));
	EXPECT_EQ(-ESRCH, ums_query(UMS_QUERY_THREAD, (1ULL << 32) + self_tid(),
				    &info, sizeof(info)));
	EXPECT_EQ(-EFAULT, ums_query(UMS_QUERY_THREAD, 0, NULL, sizeof(info)));
	EXPECT_EQ(-EFAULT, ums_query(UMS_QUERY_WORKER, id, (void *)-4096L,
				     sizeof(info)));
	EXPECT_EQ(-EINVAL, ums_query(UMS_QUERY_WORKER, id, &info, UMS_INFO_SIZE_VER0 - 1));
	EXPECT_EQ(-E2BIG, ums_query(UMS_QUERY_WORKER, id, &info, 4097));
	EXPECT_EQ(-EINVAL, ums_query(99, id, &info, sizeof(info)));

	EXPECT_EQ(-EINVAL, ums_set(0, id, 1));
	EXPECT_EQ(-EINVAL, ums_set(2, id, 1));
	EXPECT_EQ(-ESRCH, ums_set(UMS_SET_USER_DATA, 0, 1));
	EXPECT_EQ(-ESRCH, ums_set(UMS_SET_USER_DATA, ~0ULL, 1));
	EXPECT_EQ(-ESRCH, ums_set(UMS_SET_USER_DATA, id ^ 1, 1));
	EXPECT_EQ(0, list_slot(&l, id)->user_data);
	EXPECT_EQ(0, ums_set(UMS_SET_USER_DATA, id, 1));
}

/* Idle time is what a scheduler sleeps in ums_wait. */
TEST(idle)
{
	struct __kernel_timespec ts = { .tv_nsec = 30 * MSEC };
	struct ums_info info;
	struct sched s;
	struct list l;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)));
	EXPECT_EQ(0, info.idle_ns);
	ASSERT_EQ(-ETIMEDOUT, ums_wait(l.fd, &ts, 0));
	ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)));
	EXPECT_LT(25 * MSEC, info.idle_ns);
	EXPECT_EQ(0, info.running_ns);
}

/* Of another process, /proc tells the same, to whom it tells such things. */
TEST(proc_of_other_process)
{
	struct worker w = {};
	char path[64], text[2048], v[64];
	struct list l;
	int p[2], status;
	pid_t pid;
	char c;

	UMS_REQUIRE();
	ASSERT_EQ(0, pipe(p));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (list_open(&l, 1) || !worker_start_pop(&w, &l, nothing, NULL))
			_exit(1);
		if (write(p[1], &w.tid, sizeof(w.tid)) != sizeof(w.tid))
			_exit(1);
		pause();
		_exit(1);
	}
	close(p[1]);
	ASSERT_EQ(sizeof(w.tid), read(p[0], &w.tid, sizeof(w.tid)));
	snprintf(path, sizeof(path), "/proc/%d/task/%d/ums", pid, w.tid);
	ASSERT_LT(0, read_text(path, text, sizeof(text)));
	ASSERT_NE(NULL, text_value(text, "role", v, sizeof(v)));
	EXPECT_STREQ("worker", v);
	/* Not an open book: only whoever may trace it reads it. */
	if (!fork()) {
		if (setresuid(65534, 65534, 65534))
			_exit(2);
		_exit(read_text(path, text, sizeof(text)) > 0);
	}
	ASSERT_LT(0, wait(&status));
	EXPECT_EQ(0, status) {
		TH_LOG("%s is readable for others", path);
	}
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, read(p[0], &c, 1));
}

TEST_HARNESS_MAIN

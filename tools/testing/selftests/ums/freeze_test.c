// SPDX-License-Identifier: GPL-2.0
/*
 * The freezer of control groups, version 2 and version 1: a process with workers
 * in every state is frozen within a moment, does nothing while it is, goes on
 * when it is thawed, and can be killed.
 */
#include "team.h"
#include "cgroup2.h"

#include <sys/wait.h>

/* The threads of the process that is frozen, by what they are when at rest. */
enum {
	SPINS,			/* RUNNING */
	SPINS_IN_REGION,	/* RUNNING, and must not be preempted */
	READS_IN_REGION,	/* RUNNING, asleep */
	READS,			/* BLOCKED, held */
	POLLS,			/* BLOCKED, not held */
	YIELDED,		/* READY, on no list */
	FRESH,			/* READY, on its list */
	WORKERS,
};

enum {
	RUNS_SPINS,		/* each in ums_execute() */
	RUNS_SPINS_IN_REGION,
	RUNS_READS_IN_REGION,
	IDLE,			/* in ums_wait() */
	SCHEDS,
};

struct shared {
	int ready;
	int end;
	long progress[WORKERS];
	pid_t worker[WORKERS];
	pid_t sched[SCHEDS];
	long executes[WORKERS];
};

static struct shared *sh;

static struct worker menagerie[WORKERS];
static struct list lists[WORKERS];
static struct list idle_list;

static int kind(struct worker *w)
{
	return w - menagerie;
}

static void spins(struct worker *w)
{
	if (kind(w) == SPINS_IN_REGION)
		STORE(list_slot(w->list, w->id)->no_upcall, 1);
	while (!LOAD(sh->end))
		INC(sh->progress[kind(w)]);
	STORE(list_slot(w->list, w->id)->no_upcall, 0);
	w->result = 1;
}

static void reads_in_region(struct worker *w)
{
	char c;

	STORE(list_slot(w->list, w->id)->no_upcall, 1);
	w->result = read(w->fd[0], &c, 1);
	STORE(list_slot(w->list, w->id)->no_upcall, 0);
}

static void reads(struct worker *w)
{
	char c;

	w->result = read(w->fd[0], &c, 1);
}

static void polls(struct worker *w)
{
	struct pollfd p = { .fd = w->fd[0], .events = POLLIN };
	int ret;

	do {
		ret = poll(&p, 1, -1);
	} while (ret == -1 && errno == EINTR);
	w->result = ret;
}

static void yields(struct worker *w)
{
	ums_yield(0, 0);
	w->result = 1;
}

static void ends(struct worker *w)
{
	w->result = 1;
}

static void (*const lives[WORKERS])(struct worker *w) = {
	spins, spins, reads_in_region, reads, polls, yields, ends,
};

/* One of the schedulers that run the one worker of a list. */
static void *runs_one(void *arg)
{
	int nr = (long)arg;
	struct sched s;
	__u64 id;

	STORE(sh->sched[nr], self_tid());
	if (sched_enter(&s))
		return (void *)1;
	id = list_pop_wait(&lists[nr]);
	return (void *)(long)worker_run_to_end(&s, &lists[nr], id);
}

/*
 * The one with nothing to do: it has workers that are blocked, one that it does
 * not execute, and another is on a list that it does not look at.
 */
static void *is_idle(void *arg)
{
	int left = 2;
	struct sched s;
	__u64 id;

	STORE(sh->sched[IDLE], self_tid());
	if (sched_enter(&s))
		return (void *)1;
	id = list_pop_wait(&lists[YIELDED]);
	do {
		if (sched_run(&s, id, 0))
			return (void *)2;
	} while (s.reason != UMS_UPCALL_YIELDED && list_pop_wait(&lists[YIELDED]) == id);
	if (s.reason != UMS_UPCALL_YIELDED)
		return (void *)3;
	STORE(sh->ready, 1);
	while (left) {
		__u64 again = list_pop(&idle_list);

		if (!again) {
			if (ums_wait(idle_list.fd, NULL, 0) == -EBADF)
				return (void *)4;
			continue;
		}
		if (sched_run(&s, again, 0))
			return (void *)5;
		if (s.reason == UMS_UPCALL_EXITED)
			left--;
	}
	if (worker_run_to_end(&s, &lists[YIELDED], id))
		return (void *)6;
	return (void *)(long)worker_run_to_end(&s, &lists[FRESH], list_pop(&lists[FRESH]));
}

/* The process that is frozen. */
static int zoo(void)
{
	pthread_t t[SCHEDS];
	void *ret;
	long i;

	if (list_open(&idle_list, 2))
		return 10;
	for (i = 0; i < WORKERS; i++) {
		struct list *l = &lists[i];

		if (pipe(menagerie[i].fd))
			return 11;
		if (i == READS || i == POLLS)
			l = &idle_list;
		else if (list_open(l, 1))
			return 12;
		if (worker_start(&menagerie[i], l, lives[i], NULL))
			return 13;
	}
	for (i = 0; i < WORKERS; i++) {
		if (!WAIT_FOR(LOAD(menagerie[i].tid)))
			return 14;
		STORE(sh->worker[i], menagerie[i].tid);
	}
	for (i = 0; i < IDLE; i++)
		if (thread_start(&t[i], runs_one, (void *)i))
			return 15;
	if (thread_start(&t[IDLE], is_idle, NULL))
		return 16;
	while (!LOAD(sh->end)) {
		/* Told to the observer, who cannot map the slots. */
		for (i = 0; i < WORKERS; i++)
			STORE(sh->executes[i],
			      LOAD(list_slot(menagerie[i].list, LOAD(menagerie[i].id))->executes));
		sleep_ns(MSEC);
	}
	for (i = 0; i < WORKERS; i++)
		if (write(menagerie[i].fd[1], "x", 1) != 1)
			return 17;
	for (i = 0; i < SCHEDS; i++)
		if (pthread_join(t[i], &ret) || ret)
			return 20 + i;
	for (i = 0; i < WORKERS; i++)
		if (pthread_join(menagerie[i].thread, NULL) || menagerie[i].result != 1)
			return 30 + i;
	return 0;
}

/* A value of /proc/PID/task/TID/ums. */
static bool ums_says(pid_t pid, pid_t tid, const char *key, const char *value)
{
	char path[64], buf[1024], got[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/ums", pid, tid);
	return read_text(path, buf, sizeof(buf)) > 0 &&
	       text_value(buf, key, got, sizeof(got)) && !strcmp(got, value);
}

static bool sleeps_in(pid_t pid, pid_t tid, long nr)
{
	char path[64], buf[256];
	long now;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	if (read_text(path, buf, sizeof(buf)) <= 0 || !strncmp(buf, "running", 7))
		return false;
	now = strtol(buf, NULL, 10);
	/* Where poll() goes on after it was frozen. */
	return now == nr || (nr == SYS_poll && now == SYS_restart_syscall);
}

static int restless;	/* who is not, for a message */

/* Everybody is in the state that makes up this zoo, and sleeps, or spins. */
static bool at_rest(pid_t pid)
{
	static const char * const state[WORKERS] = {
		"running", "running", "running", "blocked", "blocked", "ready", "ready",
	};
	static const long call[WORKERS] = {
		-1, -1, SYS_read, SYS_read, SYS_poll, NR_UMS_YIELD, NR_UMS_WORKER_ENTER,
	};
	int i;

	for (i = 0; i < WORKERS; i++) {
		restless = i;
		if (!ums_says(pid, sh->worker[i], "state", state[i]) ||
		    (call[i] >= 0 && !sleeps_in(pid, sh->worker[i], call[i])))
			return false;
	}
	for (i = 0; i < SCHEDS; i++) {
		restless = WORKERS + i;
		if (!sleeps_in(pid, sh->sched[i], i == IDLE ? NR_UMS_WAIT : NR_UMS_EXECUTE))
			return false;
	}
	return true;
}

/* Or the process has ended. */
#define REST() do {							\
	ASSERT_TRUE(WAIT_FOR(at_rest(self->pid) || !alive(_metadata, &self->pid))) { \
		TH_LOG("thread %d does not come to rest", restless);	\
	}								\
	ASSERT_LT(0, self->pid);					\
} while (0)

FIXTURE(freeze) {
	struct cgroup g;
	pid_t pid;
};

FIXTURE_VARIANT(freeze) {
	int version;
};

FIXTURE_VARIANT_ADD(freeze, v2) {
	.version = 2,
};

FIXTURE_VARIANT_ADD(freeze, v1) {
	.version = 1,
};

static int version;

/* The hierarchy of version 1: /tmp/ums-freezer, or where it is already. */
static int make_v1(struct cgroup *g)
{
	static const char * const dirs[] = {
		"/sys/fs/cgroup/freezer", "/tmp/ums-freezer",
	};
	char path[200];
	int i;

	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/cgroup.procs", dirs[i]);
		if (!access(path, F_OK))
			break;
	}
	if (i == 2) {
		i = 1;
		mkdir(dirs[i], 0755);
		if (mount("none", dirs[i], "cgroup", 0, "freezer"))
			return -errno;
	}
	snprintf(g->path, sizeof(g->path), "%s/ums-freeze", dirs[i]);
	rmdir(g->path);
	return mkdir(g->path, 0755) ? -errno : 0;
}

FIXTURE_SETUP(freeze)
{
	UMS_REQUIRE();
	version = variant->version;
	if (version == 1) {
		if (make_v1(&self->g))
			SKIP(return, "no freezer of cgroup v1");
	} else {
		if (!cgroup_root())
			SKIP(return, "no cgroup v2");
		snprintf(self->g.path, sizeof(self->g.path), "%s/ums-freeze", cgroup_root());
		rmdir(self->g.path);
		ASSERT_EQ(0, cgroup_make(&self->g, NULL, "ums-freeze"));
	}
	sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, sh);
}

static int freeze(const struct cgroup *g, bool on)
{
	if (version == 1)
		return cgroup_write(g, "freezer.state", on ? "FROZEN" : "THAWED");
	return cgroup_write(g, "cgroup.freeze", on ? "1" : "0");
}

static bool is_frozen(const struct cgroup *g)
{
	char buf[64];

	if (version == 1)
		return cgroup_read(g, "freezer.state", buf, sizeof(buf)) > 0 &&
		       !strcmp(buf, "FROZEN\n");
	return cgroup_key(g, "cgroup.events", "frozen") == 1;
}

FIXTURE_TEARDOWN_PARENT(freeze)
{
	if (self->pid > 0)
		kill(self->pid, SIGKILL);
	freeze(&self->g, false);
	if (self->pid > 0)
		waitpid(self->pid, NULL, 0);
	EXPECT_TRUE(cgroup_remove(&self->g));
}

/* Whether the process is still there; says how it ended. */
static bool alive(struct __test_metadata *_metadata, pid_t *pid)
{
	int status;

	if (waitpid(*pid, &status, WNOHANG) == *pid) {
		TH_LOG("the process ended with status %x", status);
		*pid = 0;
		return false;
	}
	return true;
}

#define START(fn) do {							\
	pid_t pid = fork();						\
									\
	ASSERT_LE(0, pid);						\
	if (!pid) {							\
		if (cgroup_write(&self->g, "cgroup.procs", "0"))	\
			_exit(2);					\
		_exit(fn());						\
	}								\
	/* Shared with who tears down, and with the child. */		\
	self->pid = pid;						\
	ASSERT_TRUE(WAIT_FOR(LOAD(sh->ready) || !alive(_metadata, &self->pid))); \
	ASSERT_LT(0, self->pid);					\
} while (0)

#define END() do {							\
	int status;							\
									\
	STORE(sh->end, 1);						\
	ASSERT_EQ(self->pid, waitpid(self->pid, &status, 0));		\
	self->pid = 0;							\
	EXPECT_EQ(0, status);						\
} while (0)

/* Each worker in a state of its own, and each scheduler. */
TEST_F(freeze, every_state)
{
	long was[WORKERS];
	int i, round;

	START(zoo);
	for (round = 0; round < 8; round++) {
		REST();
		ASSERT_EQ(0, freeze(&self->g, true));
		ASSERT_TRUE(WAIT_FOR(is_frozen(&self->g)));
		memcpy(was, sh->progress, sizeof(was));
		for (i = 0; i < WORKERS && version == 2; i++) {
			EXPECT_EQ('S', thread_state(self->pid, sh->worker[i]));
		}
		sleep_ns(20 * MSEC);
		EXPECT_EQ(0, memcmp(was, sh->progress, sizeof(was)));
		EXPECT_TRUE(is_frozen(&self->g));
		ASSERT_EQ(0, freeze(&self->g, false));
		ASSERT_TRUE(WAIT_FOR(LOAD(sh->progress[SPINS]) > was[SPINS]));
		ASSERT_TRUE(WAIT_FOR(LOAD(sh->progress[SPINS_IN_REGION]) >
				     was[SPINS_IN_REGION]));
		/* Who was not to be executed has not been. */
		EXPECT_LE(LOAD(sh->executes[FRESH]), 0);
		EXPECT_FALSE(is_frozen(&self->g));
	}
	END();
}

static int team_process(void)
{
	static struct team t = { .slice = MSEC };
	unsigned int i;
	long sum;

	if (team_start(&t, 4, 24, team_lives))
		return 3;
	STORE(sh->ready, 1);
	while (!LOAD(sh->end)) {
		for (i = 0, sum = 0; i < t.workers; i++)
			sum += LOAD(t.w[i].result);
		STORE(sh->progress[0], sum);
		/* And that of the one that is furthest behind. */
		for (i = 0, sum = 1L << 60; i < t.workers; i++)
			if (LOAD(t.w[i].result) < sum)
				sum = LOAD(t.w[i].result);
		STORE(sh->progress[1], sum);
		sleep_ns(MSEC / 4);
	}
	STORE(t.stop, 1);
	if (!team_join(&t))
		return 4;
	for (i = 0; i < t.scheds; i++)
		if (t.sched[i].error)
			return 5;
	return 0;
}

/* In the midst of everything, time and again. */
TEST_F(freeze, at_any_moment)
{
	int round;
	long was;

	START(team_process);
	for (round = 0; round < 40; round++) {
		sleep_ns(MSEC * (round % 8));
		ASSERT_EQ(0, freeze(&self->g, true));
		/* Every fourth time it is thawed at once. */
		if (round % 4 != 3) {
			ASSERT_TRUE(WAIT_FOR(is_frozen(&self->g)));
			was = LOAD(sh->progress[0]);
			sleep_ns(4 * MSEC);
			EXPECT_EQ(was, LOAD(sh->progress[0]));
		}
		was = LOAD(sh->progress[1]);
		ASSERT_EQ(0, freeze(&self->g, false));
		ASSERT_TRUE(WAIT_FOR(LOAD(sh->progress[1]) > was ||
				     !alive(_metadata, &self->pid)));
		ASSERT_LT(0, self->pid);
	}
	END();
}

/* One that is frozen dies when it is told to; with version 1, once it is thawed. */
TEST_F(freeze, killed)
{
	int status, round;

	for (round = 0; round < 4; round++) {
		memset(sh, 0, sizeof(*sh));
		if (round < 2) {
			START(zoo);
			REST();
		} else {
			START(team_process);
			ASSERT_TRUE(WAIT_FOR(LOAD(sh->progress[1]) > 0));
		}
		ASSERT_EQ(0, freeze(&self->g, true));
		ASSERT_TRUE(WAIT_FOR(is_frozen(&self->g)));
		if (version == 2 && round % 2) {
			ASSERT_EQ(0, cgroup_write(&self->g, "cgroup.kill", "1"));
		} else {
			ASSERT_EQ(0, kill(self->pid, SIGKILL));
		}
		if (version == 1) {
			ASSERT_EQ(0, freeze(&self->g, false));
		}
		ASSERT_EQ(self->pid, waitpid(self->pid, &status, 0));
		self->pid = 0;
		EXPECT_EQ(SIGKILL, status);
		if (version == 2) {
			EXPECT_TRUE(WAIT_FOR(!cgroup_key(&self->g, "cgroup.events",
							 "populated")));
			ASSERT_EQ(0, freeze(&self->g, false));
		}
	}
}

/*
 * Version 2 freezes some threads of a process alone, too. A scheduler is not kept
 * by a worker that is frozen, whether that runs or is to be executed: it is told
 * that it has blocked. And one that is frozen itself gives back its worker.
 */
struct executor {
	struct sched s;
	struct list l;
	struct worker w;
	pid_t tid;
	int asked, done;
	int ret;
	bool switching;		/* in user mode, to a worker that is EMPTY */
	__u64 id;
};

static void *executes_one(void *arg)
{
	struct executor *x = arg;
	int seen = 0;

	STORE(x->tid, self_tid());
	x->ret = x->switching ? sched_enter_switching(&x->s) : sched_enter(&x->s);
	while (!x->ret) {
		if (!WAIT_FOR(LOAD(x->asked) > seen))
			break;
		seen++;
		if (slot_state(&x->l, x->id) == UMS_STATE_EMPTY)
			x->ret = sched_resume(&x->s, &x->w);
		else
			x->ret = sched_run(&x->s, x->id, 0);
		STORE(x->done, seen);
	}
	return NULL;
}

/* At stage 1 it spins; what makes it stage 2 lets it go on. */
static void spins_and_yields(struct worker *w)
{
	while (w->result < 10) {
		STORE(w->stage, 1);
		while (LOAD(w->stage) == 1)
			;
		w->result++;
		ums_yield(w->result, 0);
	}
}

#define RUN() STORE(x.asked, x.asked + 1)

#define UPCALL(r) do {							\
	ASSERT_TRUE(WAIT_FOR(LOAD(x.done) == x.asked));			\
	ASSERT_EQ(0, x.ret);						\
	ASSERT_EQ(r, x.s.reason);					\
	ASSERT_EQ(x.id, x.s.worker);					\
} while (0)

/* It runs, and spins. For pages of memory it may block before. */
#define RUN_AND_SPIN() do {						\
	STORE(x.w.stage, 0);						\
	for (;;) {							\
		RUN();							\
		ASSERT_TRUE(WAIT_FOR(LOAD(x.w.stage) == 1 || LOAD(x.done) == x.asked)); \
		if (LOAD(x.done) != x.asked)				\
			break;						\
		ASSERT_EQ(UMS_UPCALL_BLOCKED, x.s.reason);		\
		ASSERT_EQ(x.id, list_pop_wait(&x.l));			\
	}								\
} while (0)

#define FREEZE(g) do {							\
	ASSERT_EQ(0, freeze(g, true));					\
	ASSERT_TRUE(WAIT_FOR(is_frozen(g)));				\
} while (0)

TEST(some_threads)
{
	struct cgroup root, g, frozen, other;
	static struct executor x;
	pthread_t t;

	UMS_REQUIRE();
	if (!cgroup_root())
		SKIP(return, "no cgroup v2");
	version = 2;
	snprintf(root.path, sizeof(root.path), "%s", cgroup_root());
	if (cgroup_make(&g, NULL, "ums-threads") == -EEXIST) {
		/* Of a run that failed. */
		cgroup_make(&frozen, &g, "frozen");
		cgroup_make(&other, &g, "other");
		ASSERT_TRUE(cgroup_remove(&frozen) && cgroup_remove(&other));
	}
	ASSERT_EQ(0, cgroup_make(&frozen, &g, "frozen"));
	ASSERT_EQ(0, cgroup_make(&other, &g, "other"));
	ASSERT_EQ(0, cgroup_write(&frozen, "cgroup.type", "threaded"));
	ASSERT_EQ(0, cgroup_write(&other, "cgroup.type", "threaded"));
	ASSERT_EQ(0, cgroup_write(&g, "cgroup.procs", "0"));

	ASSERT_EQ(0, list_open(&x.l, 1));
	x.id = worker_start_pop(&x.w, &x.l, spins_and_yields, NULL);
	ASSERT_NE(0, x.id);
	ASSERT_EQ(0, thread_start(&t, executes_one, &x));
	ASSERT_TRUE(WAIT_FOR(LOAD(x.tid)));
	ASSERT_EQ(0, cgroup_write_nr(&frozen, "cgroup.threads", x.w.tid));
	ASSERT_EQ(0, cgroup_write_nr(&other, "cgroup.threads", x.tid));

	/* While it runs. */
	RUN_AND_SPIN();
	FREEZE(&frozen);
	UPCALL(UMS_UPCALL_BLOCKED);
	EXPECT_TRUE(list_empty(&x.l));
	EXPECT_EQ(UMS_STATE_BLOCKED, slot_state(&x.l, x.id));
	ASSERT_EQ(0, freeze(&frozen, false));
	ASSERT_EQ(x.id, list_pop_wait(&x.l));
	STORE(x.w.stage, 2);
	RUN();
	UPCALL(UMS_UPCALL_YIELDED);

	/* While it waits to be executed. */
	FREEZE(&frozen);
	EXPECT_EQ(UMS_STATE_READY, slot_state(&x.l, x.id));
	RUN();
	UPCALL(UMS_UPCALL_BLOCKED);
	EXPECT_TRUE(is_frozen(&frozen));
	EXPECT_TRUE(list_empty(&x.l));
	EXPECT_EQ(1, x.w.result);
	ASSERT_EQ(0, freeze(&frozen, false));
	ASSERT_EQ(x.id, list_pop_wait(&x.l));

	/* Its scheduler, while it runs. */
	RUN_AND_SPIN();
	FREEZE(&other);
	ASSERT_EQ(x.id, list_pop_wait(&x.l));
	EXPECT_EQ(UMS_STATE_READY, slot_state(&x.l, x.id));
	EXPECT_NE(x.asked, LOAD(x.done));
	ASSERT_EQ(0, freeze(&other, false));
	UPCALL(UMS_UPCALL_PREEMPTED);
	EXPECT_EQ(UMS_PREEMPT_SIGNAL, x.s.detail);
	STORE(x.w.stage, 2);
	RUN();
	UPCALL(UMS_UPCALL_YIELDED);
	EXPECT_EQ(2, x.w.result);

	/* The whole process leaves, so that the groups can go. */
	ASSERT_EQ(0, cgroup_write(&root, "cgroup.procs", "0"));
	EXPECT_TRUE(cgroup_remove(&frozen));
	EXPECT_TRUE(cgroup_remove(&other));
	EXPECT_TRUE(cgroup_remove(&g));
}

/*
 * Version 1 finds a worker that waits to be executed asleep, and leaves it so. Its
 * scheduler is not kept by it, either; and it comes back when it is thawed.
 */
TEST(parked_worker_v1)
{
	static struct executor x;
	struct cgroup g;
	pthread_t t;

	UMS_REQUIRE();
	if (make_v1(&g))
		SKIP(return, "no freezer of cgroup v1");
	version = 1;
	ASSERT_EQ(0, list_open(&x.l, 1));
	x.id = worker_start_pop(&x.w, &x.l, spins_and_yields, NULL);
	ASSERT_NE(0, x.id);
	ASSERT_TRUE(WAIT_FOR(thread_state(getpid(), x.w.tid) == 'S'));
	ASSERT_EQ(0, thread_start(&t, executes_one, &x));
	ASSERT_TRUE(WAIT_FOR(LOAD(x.tid)));
	ASSERT_EQ(0, cgroup_write_nr(&g, "tasks", x.w.tid));
	FREEZE(&g);
	RUN();
	UPCALL(UMS_UPCALL_BLOCKED);
	EXPECT_TRUE(is_frozen(&g));
	EXPECT_TRUE(list_empty(&x.l));
	EXPECT_EQ(UMS_STATE_BLOCKED, slot_state(&x.l, x.id));
	ASSERT_EQ(0, freeze(&g, false));
	ASSERT_EQ(x.id, list_pop_wait(&x.l));
	RUN_AND_SPIN();
	STORE(x.w.stage, 2);
	UPCALL(UMS_UPCALL_YIELDED);
	EXPECT_EQ(1, x.w.result);

	snprintf(g.path + strlen(g.path) - strlen("/ums-freeze"), 2, "%s", "/");
	ASSERT_EQ(0, cgroup_write_nr(&g, "tasks", x.w.tid));
	strcat(g.path, "ums-freeze");
	EXPECT_TRUE(cgroup_remove(&g));
}

static void switches_and_calls(struct worker *w)
{
	struct executor *x = w->arg;

	worker_switch_out(w, &x->s, 0);
	getppid();
	w->result = 1;
}

/* Nor is it by one whose context comes home while that is frozen. */
TEST(empty_worker_v1)
{
	static struct executor x = {
		.w.flags = UMS_WORKER_USER_SWITCH, .switching = true,
	};
	struct cgroup g;
	pthread_t t;

	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	if (make_v1(&g))
		SKIP(return, "no freezer of cgroup v1");
	version = 1;
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&x.l, 1));
	x.id = worker_start_pop(&x.w, &x.l, switches_and_calls, &x);
	ASSERT_NE(0, x.id);
	ASSERT_EQ(0, thread_start(&t, executes_one, &x));
	ASSERT_TRUE(WAIT_FOR(LOAD(x.tid)));
	RUN();
	UPCALL(UMS_UPCALL_YIELDED);
	ASSERT_TRUE(WAIT_FOR(slot_state(&x.l, x.id) == UMS_STATE_EMPTY &&
			     thread_state(getpid(), x.w.tid) == 'S'));
	ASSERT_EQ(0, cgroup_write_nr(&g, "tasks", x.w.tid));
	FREEZE(&g);
	RUN();
	UPCALL(UMS_UPCALL_BLOCKED);
	EXPECT_TRUE(is_frozen(&g));
	EXPECT_TRUE(list_empty(&x.l));
	EXPECT_EQ(UMS_STATE_BLOCKED, slot_state(&x.l, x.id));
	EXPECT_EQ(0, x.w.result);
	ASSERT_EQ(0, freeze(&g, false));
	ASSERT_EQ(x.id, list_pop_wait(&x.l));
	RUN();
	UPCALL(UMS_UPCALL_EXITED);
	EXPECT_EQ(1, x.w.result);
	ASSERT_EQ(0, pthread_join(x.w.thread, NULL));
	EXPECT_TRUE(cgroup_remove(&g));
}

/* The child's only worker blocks in read(); nobody executes it any more. */
static int reader_never_executed(const int fd[2])
{
	struct worker w = { .fd = { fd[0], fd[1] } };
	struct sched s;
	struct list l;

	if (list_open(&l, 1) || sched_enter(&s) ||
	    sched_run(&s, worker_start_pop(&w, &l, reads, NULL), 0) ||
	    !WAIT_FOR(thread_sleeps_in(w.tid, SYS_read)))
		return 3;
	STORE(sh->ready, 1);
	pause();
	return 0;
}

static int rest;
static pid_t reader;

static void *reads_two(void *arg)
{
	const int *fd = arg;
	char c;

	STORE(reader, self_tid());
	while (LOAD(rest) < 2 && read(fd[0], &c, 1) == 1)
		INC(rest);
	return NULL;
}

/*
 * Two processes read from a pipe, and each wake-up is for one of them. A worker that
 * has had its own, and was frozen before anybody executed it, takes no other.
 */
TEST(published_reader_v1)
{
	int fd[2], status;
	struct cgroup g;
	pthread_t t;
	pid_t pid;

	UMS_REQUIRE();
	if (make_v1(&g))
		SKIP(return, "no freezer of cgroup v1");
	version = 1;
	sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, sh);
	ASSERT_EQ(0, pipe(fd));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(cgroup_write(&g, "cgroup.procs", "0") ? 2 : reader_never_executed(fd));
	ASSERT_TRUE(WAIT_FOR(LOAD(sh->ready)));
	ASSERT_EQ(0, thread_start(&t, reads_two, fd));
	/* It sleeps, behind the worker: before and after the first byte. */
	ASSERT_TRUE(WAIT_FOR(LOAD(reader) && thread_sleeps_in(reader, SYS_read)));
	ASSERT_EQ(1, write(fd[1], "x", 1));
	ASSERT_TRUE(WAIT_FOR(LOAD(rest) == 1));
	ASSERT_TRUE(WAIT_FOR(thread_sleeps_in(reader, SYS_read)));
	FREEZE(&g);
	ASSERT_EQ(1, write(fd[1], "x", 1));
	EXPECT_TRUE(WAIT_FOR(LOAD(rest) == 2));
	kill(pid, SIGKILL);
	freeze(&g, false);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGKILL, status);
	EXPECT_TRUE(cgroup_remove(&g));
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/* The tracepoints ums:*: a known scenario, and each event with its fields. */
#include "ums_test.h"

#include <sys/mount.h>
#include <sys/stat.h>

FIXTURE(trace)
{
	char dir[96];
};

static const char *tracefs(void)
{
	static const char * const dirs[] = {
		"/sys/kernel/tracing", "/sys/kernel/debug/tracing",
	};
	char path[96];
	int i;

	mount("tracefs", dirs[0], "tracefs", 0, NULL);
	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/instances", dirs[i]);
		if (!access(path, W_OK))
			return dirs[i];
	}
	return NULL;
}

static int set(const char *dir, const char *file, const char *value)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return write_text(path, value);
}

FIXTURE_SETUP(trace)
{
	const char *root;
	int ret;

	UMS_REQUIRE();
	root = tracefs();
	if (!root)
		SKIP(return, "no tracefs, or not root");
	/* An instance of its own, so that no other tracing is disturbed. */
	snprintf(self->dir, sizeof(self->dir), "%s/instances/ums-%d", root, getpid());
	ret = mkdir(self->dir, 0700);
	ASSERT_EQ(0, ret);
	/* One order over all CPUs. */
	ASSERT_EQ(0, set(self->dir, "trace_clock", "global"));
	ASSERT_EQ(0, set(self->dir, "events/ums/enable", "1"));
	ASSERT_EQ(0, set(self->dir, "tracing_on", "1"));
}

FIXTURE_TEARDOWN_PARENT(trace)
{
	if (self->dir[0])
		rmdir(self->dir);
}

static char trace[1 << 16];

/* How many lines of @event there are, by thread @tid, with @fields in them. */
static int count(const char *event, pid_t tid, const char *fields)
{
	char name[64], who[32], line[512], *p, *end;
	int n = 0;

	snprintf(name, sizeof(name), " %s: ", event);
	snprintf(who, sizeof(who), "-%d ", tid);
	for (p = trace; *p; p = *end ? end + 1 : end) {
		end = strchrnul(p, '\n');
		snprintf(line, sizeof(line), "%.*s\n", (int)(end - p), p);
		if (*p == '#' || !strstr(line, name))
			continue;
		if (tid && !strstr(line, who))
			continue;
		if (strstr(strstr(line, name), fields))
			n++;
	}
	return n;
}

static void scenario(struct worker *w)
{
	char c;

	ums_yield(5, 0);
	w->result = read(w->fd[0], &c, 1);
	ums_yield(6, UMS_YIELD_PUBLISH);
	ums_preempt(w->id, 0);
	syscall(SYS_exit, 9);
}

static void leaves(struct worker *w)
{
	ums_detach(0);
}

#define EXPECT_COUNT(want, event, tid, ...) do {			\
	char __f[200];							\
									\
	snprintf(__f, sizeof(__f), __VA_ARGS__);			\
	EXPECT_EQ(want, count(event, tid, __f)) {			\
		TH_LOG("%s by %d: %s", event, tid, __f);		\
	}								\
} while (0)

TEST_F(trace, each_event)
{
	struct worker w = {}, other = {};
	unsigned long long id, second;
	char path[160];
	struct sched s;
	struct list l;
	pid_t me;
	int nr;

	ASSERT_EQ(0, lock_memory());
	me = self_tid();
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 2));
	nr = l.args.list_nr;
	ASSERT_EQ(0, sched_enter_at(&s, sched_entry, 0x77));
	id = worker_start_pop(&w, &l, scenario, NULL);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EQ(UMS_UPCALL_YIELDED, s.reason);
	ASSERT_EQ(0, sched_run(&s, id, LIMIT_S * NSEC));
	ASSERT_EQ(UMS_UPCALL_BLOCKED, s.reason);
	ASSERT_EQ(1, write(w.fd[1], "x", 1));
	ASSERT_EQ(id, list_pop_wait(&l));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EQ(UMS_UPCALL_YIELDED, s.reason);
	ASSERT_EQ(id, list_pop_wait(&l));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EQ(UMS_UPCALL_PREEMPTED, s.reason);
	ASSERT_EQ(id, list_pop_wait(&l));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EQ(UMS_UPCALL_EXITED, s.reason);
	second = worker_start_pop(&other, &l, leaves, NULL);
	ASSERT_EQ(0, sched_run(&s, second, 0));
	ASSERT_EQ(UMS_UPCALL_DETACHED, s.reason);

	ASSERT_EQ(0, set(self->dir, "tracing_on", "0"));
	snprintf(path, sizeof(path), "%s/trace", self->dir);
	ASSERT_LT(0, read_text(path, trace, sizeof(trace)));

	EXPECT_COUNT(5, "ums_execute", me, "worker=%#llx tid=%d slice=", id, w.tid);
	EXPECT_COUNT(4, "ums_execute", me, "worker=%#llx tid=%d slice=0\n", id, w.tid);
	EXPECT_COUNT(1, "ums_execute", me, "worker=%#llx tid=%d slice=%llu\n", id, w.tid,
		     LIMIT_S * NSEC);
	EXPECT_COUNT(1, "ums_block", w.tid, "worker=%#llx cause=%d(syscall) scheduler=%d\n",
		     id, SYS_read, me);
	EXPECT_COUNT(1, "ums_block", 0, "worker=%#llx", id);
	EXPECT_COUNT(2, "ums_yield", w.tid, "worker=%#llx", id);
	EXPECT_COUNT(1, "ums_yield", w.tid, "worker=%#llx arg=0x5 flags=0x0\n", id);
	EXPECT_COUNT(1, "ums_yield", w.tid, "worker=%#llx arg=0x6 flags=0x1\n", id);
	EXPECT_COUNT(1, "ums_preempt", 0, "worker=%#llx why=asked\n", id);
	EXPECT_COUNT(1, "ums_exit", w.tid, "worker=%#llx exited status=0x900\n", id);
	EXPECT_COUNT(1, "ums_exit", 0, "worker=%#llx", id);
	EXPECT_COUNT(1, "ums_exit", other.tid, "worker=%#llx detached", second);
	/* Entered, unblocked by the write, yielded with UMS_YIELD_PUBLISH, preempted. */
	EXPECT_COUNT(4, "ums_publish", 0, "worker=%#llx list=%d position=", id, nr);
	EXPECT_COUNT(1, "ums_publish", w.tid, "worker=%#llx list=%d position=0\n", id, nr);
	EXPECT_COUNT(1, "ums_publish", me, "worker=%#llx list=%d position=1\n", id, nr);
	EXPECT_COUNT(1, "ums_publish", 0, "worker=%#llx list=%d position=2\n", id, nr);
	EXPECT_COUNT(1, "ums_publish", 0, "worker=%#llx list=%d position=3\n", id, nr);
	EXPECT_COUNT(1, "ums_publish", other.tid, "worker=%#llx list=%d position=4\n",
		     second, nr);
	EXPECT_COUNT(7, "ums_upcall", me, "reason=");
	EXPECT_COUNT(1, "ums_upcall", me, "reason=STARTUP worker=0x0 detail=0x77\n");
	EXPECT_COUNT(1, "ums_upcall", me, "reason=YIELDED worker=%#llx detail=0x5\n", id);
	EXPECT_COUNT(1, "ums_upcall", me, "reason=YIELDED worker=%#llx detail=0x6\n", id);
	EXPECT_COUNT(1, "ums_upcall", me, "reason=BLOCKED worker=%#llx detail=0x%x\n", id,
		     SYS_read);
	EXPECT_COUNT(1, "ums_upcall", me, "reason=PREEMPTED worker=%#llx detail=0x%x\n", id,
		     UMS_PREEMPT_ASKED);
	EXPECT_COUNT(1, "ums_upcall", me, "reason=EXITED worker=%#llx detail=0x900\n", id);
	EXPECT_COUNT(1, "ums_upcall", me, "reason=DETACHED worker=%#llx detail=0x0\n",
		     second);
	if (_metadata->exit_code)
		fprintf(stderr, "%s", trace);
}

static void spins(struct worker *w)
{
	while (!LOAD(w->stage))
		;
}

/* A slice that ends is a preemption, and says so. */
TEST_F(trace, slice)
{
	unsigned long long id;
	struct worker w = {};
	char path[160];
	struct sched s;
	struct list l;

	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	id = worker_start_pop(&w, &l, spins, NULL);
	ASSERT_EQ(0, sched_run(&s, id, 5 * MSEC));
	ASSERT_EVENT(&s, UMS_UPCALL_PREEMPTED, id, UMS_PREEMPT_SLICE);
	ASSERT_EQ(0, set(self->dir, "tracing_on", "0"));
	snprintf(path, sizeof(path), "%s/trace", self->dir);
	ASSERT_LT(0, read_text(path, trace, sizeof(trace)));
	EXPECT_COUNT(1, "ums_preempt", 0, "worker=%#llx why=slice\n", id);
	EXPECT_COUNT(1, "ums_upcall", self_tid(), "reason=PREEMPTED worker=%#llx", id);
}

#define ROUNDS	20

struct handoff {
	struct worker w[2];
	struct sched s;
};

/* Each call on the thread of the other one, but for the first. */
static void calls_away(struct worker *w)
{
	struct handoff *h = w->arg;
	int i;

	worker_switch_out(w, &h->s, 0);
	for (i = 0; i < ROUNDS; i++) {
		getppid();
		worker_switch_to(w, &h->w[w == &h->w[0]]);
	}
	worker_switch_out(w, &h->s, 0);
}

/* From worker to worker, and from and to the scheduler; at a call or, preempted, before. */
TEST_F(trace, handoff)
{
	static struct handoff h;
	unsigned long long id[2];
	struct ums_info info;
	char path[160];
	struct list l;
	pid_t me;
	int i;

	UMS_REQUIRE_SWITCH();
	ASSERT_EQ(0, lock_memory());
	me = self_tid();
	ASSERT_EQ(0, list_open(&l, 2));
	ASSERT_EQ(0, sched_enter_switching(&h.s));
	for (i = 0; i < 2; i++) {
		h.w[i].flags = UMS_WORKER_USER_SWITCH;
		id[i] = worker_start_pop(&h.w[i], &l, calls_away, &h);
		ASSERT_EQ(0, sched_run(&h.s, id[i], 0));
		ASSERT_EVENT(&h.s, UMS_UPCALL_YIELDED, id[i], 0);
	}
	/* The call takes it home, so that it is the carrier of what follows. */
	EXPECT_EQ(me, self_tid());
	ASSERT_EQ(0, sched_resume(&h.s, &h.w[0]));
	ASSERT_EVENT(&h.s, UMS_UPCALL_YIELDED, id[0], 0);
	ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)));
	EXPECT_EQ(3, info.handoffs);
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id[1], &info, sizeof(info)));
	EXPECT_EQ(ROUNDS, info.handoffs);
	EXPECT_LT(0, info.empty_ns);

	ASSERT_EQ(0, set(self->dir, "tracing_on", "0"));
	snprintf(path, sizeof(path), "%s/trace", self->dir);
	ASSERT_LT(0, read_text(path, trace, sizeof(trace)));
	EXPECT_COUNT(3, "ums_handoff", 0, "worker=0x0 tid=%d at=", me);
	EXPECT_COUNT(1, "ums_handoff", me, "worker=%#llx tid=%d at=", id[0], h.w[0].tid);
	EXPECT_COUNT(1, "ums_handoff", me, "worker=");
	EXPECT_COUNT(ROUNDS, "ums_handoff", h.w[0].tid, "worker=%#llx tid=%d at=", id[1],
		     h.w[1].tid);
	/* Once more where it was preempted behind the last switch. */
	EXPECT_LE(2 * ROUNDS + 3, count("ums_handoff", 0, "worker="));
	EXPECT_GE(2 * ROUNDS + 4, count("ums_handoff", 0, "worker="));
	EXPECT_LE(1, count("ums_handoff", 0, "at=call"));
	if (_metadata->exit_code)
		fprintf(stderr, "%s", trace);
}

TEST_HARNESS_MAIN

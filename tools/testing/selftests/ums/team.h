/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A team of schedulers that executes the workers of one list until all of them
 * have ended, and keeps books: every execution has one end, every worker that
 * is popped was published once.
 *
 * Nobody waits with a time limit, so a wake-up that is lost is not made up for.
 */
#ifndef UMS_TEST_TEAM_H
#define UMS_TEST_TEAM_H

#include "ums_test.h"

#include <poll.h>

#define TEAM_SCHEDS	8

struct team;

struct team_sched {
	struct team *team;
	unsigned int nr;
	pthread_t thread;
	pid_t tid;
	__u64 executes;
	__u64 pops;
	__u64 events[UMS_UPCALL_DETACHED + 1];
	struct ums_info info;	/* of the kernel, at its end */
	long error;
	__u64 error_id;
};

struct team {
	struct list l;
	struct worker *w;
	unsigned int workers;
	unsigned int scheds;
	__u64 slice;
	int left;		/* workers that have not ended */
	int gone;		/* schedulers that have */
	int stop;		/* for workers: end soon */
	void (*setup)(struct team_sched *ts);	/* before it is a scheduler */
	void (*before)(struct team_sched *ts, __u64 id);	/* each execution */
	void (*after)(struct team_sched *ts, const struct sched *s);
	struct team_sched sched[TEAM_SCHEDS];
};

/* A worker yields with this for its scheduler to execute it at once. */
#define TEAM_KEEP	1

static inline void *team_main(void *arg)
{
	struct team_sched *ts = arg;
	struct team *t = ts->team;
	__u64 id, kept = 0;
	struct sched s;
	long ret;

	STORE(ts->tid, self_tid());
	if (t->setup)
		t->setup(ts);
	ts->error = sched_enter(&s);
	while (!ts->error && LOAD(t->left) > 0) {
		id = kept ? kept : list_pop(&t->l);
		if (!id) {
			ret = ums_wait(t->l.fd, NULL, 0);
			/* Closed by the one that saw the last worker end. */
			if (ret == -EBADF || LOAD(t->left) <= 0)
				break;
			if (ret && ret != -EINTR)
				ts->error = ret;
			continue;
		}
		if (!kept)
			ts->pops++;
		kept = 0;
		if (t->before)
			t->before(ts, id);
		/* What has been popped can be executed: no error is one to retry. */
		ts->error = sched_run(&s, id, t->slice);
		if (!ts->error && (s.worker != id || s.reason > UMS_UPCALL_DETACHED))
			ts->error = 1;
		if (ts->error) {
			ts->error_id = id;
			break;
		}
		if (t->after)
			t->after(ts, &s);
		ts->executes++;
		ts->events[s.reason]++;
		if (s.reason == UMS_UPCALL_YIELDED && s.detail == TEAM_KEEP)
			kept = id;
		if (s.reason == UMS_UPCALL_EXITED &&
		    __atomic_sub_fetch(&t->left, 1, __ATOMIC_ACQ_REL) == 0)
			close(t->l.fd);
	}
	if (!ts->error)
		ts->error = ums_query(UMS_QUERY_THREAD, 0, &ts->info, sizeof(ts->info));
	INC(t->gone);
	return NULL;
}

/* Workers call @fn with the team as their arg; they are t->w[0] and so on. */
static inline int team_start(struct team *t, unsigned int scheds, unsigned int workers,
			     void (*fn)(struct worker *w))
{
	unsigned int i;
	int ret;

	t->workers = workers;
	t->scheds = scheds;
	t->left = workers;
	t->w = calloc(workers, sizeof(*t->w));
	if (!t->w)
		return -ENOMEM;
	ret = list_open(&t->l, workers);
	for (i = 0; i < workers && !ret; i++) {
		t->w[i].fd[0] = -1;
		t->w[i].fd[1] = -1;
	}
	/* Neighbours 4 and 5 of each 8 talk to each other; see team_lives(). */
	for (i = 0; i + 5 < workers && !ret; i += 8) {
		int a[2], b[2];

		if (pipe(a) || pipe(b))
			return -errno;
		t->w[i + 4].fd[0] = a[0];
		t->w[i + 4].fd[1] = b[1];
		t->w[i + 5].fd[0] = b[0];
		t->w[i + 5].fd[1] = a[1];
	}
	for (i = 0; i < scheds && !ret; i++) {
		t->sched[i].team = t;
		t->sched[i].nr = i;
		ret = thread_start(&t->sched[i].thread, team_main, &t->sched[i]);
	}
	for (i = 0; i < workers && !ret; i++)
		ret = worker_start(&t->w[i], &t->l, fn, t);
	return ret;
}

/* Has every worker done something since? Those that have ended have. */
static inline bool team_goes_on(struct team *t)
{
	long *was = calloc(t->workers, sizeof(*was));
	bool ok = true;
	unsigned int i;

	for (i = 0; i < t->workers; i++)
		was[i] = LOAD(t->w[i].result);
	for (i = 0; i < t->workers && ok; i++) {
		ok = WAIT_FOR(LOAD(t->w[i].result) > was[i]);
		if (!ok)
			fprintf(stderr, "# worker %u (tid %d) makes no progress\n", i,
				t->w[i].tid);
	}
	free(was);
	return ok;
}

/* Waits until everybody has ended. */
static inline bool team_join(struct team *t)
{
	unsigned int i;

	if (!WAIT_FOR(LOAD(t->gone) == (int)t->scheds))
		return false;
	for (i = 0; i < t->scheds; i++)
		if (pthread_join(t->sched[i].thread, NULL))
			return false;
	if (LOAD(t->left))
		return false;
	for (i = 0; i < t->workers; i++)
		if (pthread_join(t->w[i].thread, NULL))
			return false;
	return true;
}

#ifndef UMS_TEST_HELPERS
static inline void team_books(struct __test_metadata *_metadata, struct team *t)
{
	__u64 pops = 0, exited = 0;
	unsigned int i, k;

	for (i = 0; i < t->scheds; i++) {
		struct team_sched *ts = &t->sched[i];
		__u64 events = 0;

		ASSERT_EQ(0, ts->error) {
			TH_LOG("scheduler %u, worker %llx", i,
			       (unsigned long long)ts->error_id);
		}
		for (k = 0; k < ARRAY_SIZE(ts->events); k++)
			events += ts->events[k];
		EXPECT_EQ(ts->executes, events);
		EXPECT_EQ(ts->executes, ts->info.executes);
		EXPECT_EQ(ts->executes + 1, ts->info.upcalls);
		EXPECT_EQ(ts->events[UMS_UPCALL_YIELDED], ts->info.yields);
		EXPECT_EQ(ts->events[UMS_UPCALL_PREEMPTED], ts->info.preemptions);
		EXPECT_EQ(ts->events[UMS_UPCALL_BLOCKED],
			  ts->info.blocks_syscall + ts->info.blocks_fault);
		pops += ts->pops;
		exited += ts->events[UMS_UPCALL_EXITED];
	}
	EXPECT_EQ(t->workers, exited);
	EXPECT_EQ(t->l.head->tail, pops);
	EXPECT_EQ(t->l.head->head, pops);
}

/* All workers end, and everything adds up. */
#define TEAM_END(t) do {						\
	STORE((t)->stop, 1);						\
	ASSERT_TRUE(team_join(t)) {					\
		TH_LOG("%d workers left, %d of %u schedulers gone, errors %ld %ld", \
		       LOAD((t)->left), LOAD((t)->gone), (t)->scheds,	\
		       (t)->sched[0].error, (t)->sched[1].error);	\
	}								\
	team_books(_metadata, t);					\
} while (0)
#endif

/* Spins until it was taken from its scheduler, and executed again. */
static inline void team_spin(struct worker *w)
{
	struct team *t = w->arg;
	__u64 *executes = &list_slot(w->list, w->id)->executes;
	__u64 was = LOAD(*executes);

	while (LOAD(*executes) == was && !LOAD(t->stop))
		__builtin_ia32_pause();
}

/*
 * A bit of everything, by its number: yields, sleeps with and without being
 * held, talks to its neighbour, is preempted. @result counts its rounds. The
 * team needs a slice.
 */
static inline void team_turn(struct worker *w)
{
	struct team *t = w->arg;
	char c = 'x';

	switch ((w - t->w) % 8) {
	case 0:
		ums_yield(TEAM_KEEP, 0);
		ums_yield(0, UMS_YIELD_PUBLISH);
		break;
	case 1:
		ums_yield(0, UMS_YIELD_PUBLISH);
		break;
	case 2:
		sleep_ns(MSEC / 10);
		break;
	case 3:
		/* Not one of the places where a worker is held. */
		poll(NULL, 0, 1);
		break;
	case 4:
	case 5:
		if (w->fd[0] < 0) {
			sched_yield();
			ums_yield(0, UMS_YIELD_PUBLISH);
			break;
		}
		if (write(w->fd[1], &c, 1) != 1 || read(w->fd[0], &c, 1) != 1)
			w->stage = 1;
		break;
	case 6:
		team_spin(w);
		break;
	case 7:
		ums_preempt(w->id, 0);
		break;
	}
	INC(w->result);
}

static inline void team_lives(struct worker *w)
{
	struct team *t = w->arg;

	while (!LOAD(t->stop) && !w->stage)
		team_turn(w);
	/* The neighbour may wait for one byte more. */
	if (w->fd[1] >= 0)
		close(w->fd[1]);
}

#endif /* UMS_TEST_TEAM_H */

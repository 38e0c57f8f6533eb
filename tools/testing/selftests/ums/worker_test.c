// SPDX-License-Identifier: GPL-2.0
/* Workers: becoming one, being one, ending or leaving. */
#include "ums_test.h"

#include <sys/socket.h>

static void nothing(struct worker *w)
{
	STORE(w->stage, 1);
}

static void yields(struct worker *w)
{
	STORE(w->stage, 1);
	w->result = ums_yield(11, 0);
	STORE(w->stage, 2);
}

static void reads_pipe(struct worker *w)
{
	char c;

	w->result = read(w->fd[0], &c, 1);
}

TEST(enter)
{
	struct worker w = { .user_data = 0xfeed };
	struct ums_slot *slot;
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 8));
	id = worker_start_pop(&w, &l, yields, NULL);
	ASSERT_NE(0, id);
	EXPECT_LT(0, (__s64)id);
	EXPECT_EQ(l.args.list_nr, UMS_ID_LIST(id));
	EXPECT_GT(8, UMS_ID_SLOT(id));

	slot = list_slot(&l, id);
	EXPECT_EQ(id, slot->id);
	EXPECT_EQ(UMS_STATE_READY, slot->state);
	EXPECT_EQ(w.tid, slot->tid);
	EXPECT_EQ(0xfeed, slot->user_data);
	EXPECT_EQ(0, slot->scheduler);
	EXPECT_EQ(0, slot->no_upcall);
	EXPECT_EQ(0, slot->attention);
	EXPECT_EQ(0, slot->executes);
	EXPECT_EQ(0, slot->blocks);

	/* It has not run. It is parked: asleep, and remains so. */
	ASSERT_TRUE(WAIT_FOR(thread_sleeps_in(w.tid, NR_UMS_WORKER_ENTER)));
	EXPECT_EQ(0, LOAD(w.stage));
	EXPECT_EQ(0, LOAD(w.id));

	ASSERT_EQ(0, sched_enter(&s));
	EXPECT_EQ(0, LOAD(w.stage));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 11);
	EXPECT_EQ(id, w.id);
	EXPECT_EQ(1, w.stage);
	EXPECT_EQ(1, slot->executes);
	EXPECT_EQ(0, slot->blocks);
	EXPECT_EQ(UMS_STATE_READY, slot->state);
	EXPECT_EQ(0, slot->scheduler);
	/* Yielded without UMS_YIELD_PUBLISH: nobody finds it on the list. */
	EXPECT_TRUE(list_empty(&l));

	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(0, w.result);
	EXPECT_EQ(2, w.stage);
	EXPECT_EQ(UMS_STATE_EXITED, slot->state);
	EXPECT_EQ(id, slot->id);
	EXPECT_EQ(0, slot->exit_status);
	EXPECT_EQ(2, slot->executes);
	ASSERT_EQ(0, pthread_join(w.thread, NULL));
}

static long try_enter(int fd, __u64 flags)
{
	struct ums_worker_args a = { .flags = flags };

	return ums_worker_enter(fd, &a, sizeof(a));
}

TEST(enter_errors)
{
	struct ums_worker_args a = {};
	struct worker w = {};
	struct sched s;
	struct list l;
	int p[2];

	UMS_REQUIRE();
	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(0, list_open(&l, 1));
	EXPECT_EQ(-EBADF, try_enter(-1, 0));
	EXPECT_EQ(-EBADF, try_enter(1000, 0));
	EXPECT_EQ(-EINVAL, try_enter(p[0], 0));
	EXPECT_EQ(-EINVAL, try_enter(l.fd, 2));
	EXPECT_EQ(-EINVAL, try_enter(l.fd, 1ULL << 63));
	EXPECT_EQ(-EINVAL, ums_worker_enter(l.fd, &a, 0));
	EXPECT_EQ(-E2BIG, ums_worker_enter(l.fd, &a, 4097));
	EXPECT_EQ(-EFAULT, ums_worker_enter(l.fd, (void *)8L, sizeof(a)));
	EXPECT_EQ(0, l.head->tail);
	EXPECT_EQ(0, l.slots[0].id);

	ASSERT_NE(0, worker_start_pop(&w, &l, nothing, NULL));
	EXPECT_EQ(-ENOSPC, try_enter(l.fd, 0));

	ASSERT_EQ(0, sched_enter(&s));
	EXPECT_EQ(-EBUSY, try_enter(l.fd, 0));
	EXPECT_EQ(1, l.head->tail);
}

static void tries_to_enter(struct worker *w)
{
	struct ums_scheduler_args s = { .stack_size = 8192 };
	char stack[8192];

	s.entry = (uintptr_t)sched_entry;
	s.stack = (uintptr_t)stack;
	w->result = try_enter(w->list->fd, 0) == -EBUSY;
	if (ums_scheduler_enter(&s, sizeof(s)) == -EBUSY)
		w->result |= 2;
	if (ums_execute(w->id, 0, 0) == -EPERM)
		w->result |= 4;
	if (ums_scheduler_exit(0) == -EPERM)
		w->result |= 8;
	if (ums_yield(0, 2) == -EINVAL)
		w->result |= 16;
	if (ums_detach(1) == -EINVAL)
		w->result |= 32;
}

/* What a worker may not do; and that it still is one afterwards. */
TEST(errors_in_worker)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 2));
	id = worker_start_pop(&w, &l, tries_to_enter, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(63, w.result);
	EXPECT_EQ(1, l.head->tail);
}

/* What only workers may do. */
TEST(errors_outside)
{
	struct sched s;

	UMS_REQUIRE();
	EXPECT_EQ(-EPERM, ums_yield(0, 0));
	EXPECT_EQ(-EPERM, ums_yield(0, UMS_YIELD_PUBLISH));
	EXPECT_EQ(-EINVAL, ums_yield(0, 2));
	EXPECT_EQ(-EPERM, ums_detach(0));
	EXPECT_EQ(-EINVAL, ums_detach(1));
	ASSERT_EQ(0, sched_enter(&s));
	EXPECT_EQ(-EPERM, ums_yield(0, 0));
	EXPECT_EQ(-EPERM, ums_detach(0));
}

/* Every worker of every list, old or new, has an id of its own. */
TEST(ids_unique)
{
	struct worker w[8] = {};
	struct list l[2];
	__u64 ids[48];
	struct sched s;
	int i, k, n = 0;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l[0], 4));
	ASSERT_EQ(0, list_open(&l[1], 4));
	ASSERT_EQ(0, sched_enter(&s));
	for (k = 0; k < 6; k++) {
		for (i = 0; i < 8; i++) {
			ids[n] = worker_start_pop(&w[i], &l[i / 4], nothing, NULL);
			ASSERT_NE(0, ids[n]);
			n++;
		}
		for (i = 0; i < 8; i++) {
			ASSERT_EQ(0, worker_run_to_end(&s, &l[i / 4], ids[n - 8 + i]));
			ASSERT_EQ(0, pthread_join(w[i].thread, NULL));
		}
	}
	for (i = 0; i < n; i++)
		for (k = 0; k < i; k++) {
			EXPECT_NE(ids[i], ids[k]);
		}
}

/* A slot is free again once its worker has ended; the old id is then stale. */
TEST(slot_reuse)
{
	struct worker w[2] = {};
	struct ums_info info;
	struct sched s;
	struct list l;
	__u64 id[2];

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter(&s));
	id[0] = worker_start_pop(&w[0], &l, nothing, NULL);
	ASSERT_EQ(0, worker_run_to_end(&s, &l, id[0]));
	ASSERT_EQ(0, pthread_join(w[0].thread, NULL));
	EXPECT_EQ(-ESTALE, sched_run(&s, id[0], 0));
	EXPECT_EQ(-ESTALE, ums_preempt(id[0], 0));
	EXPECT_EQ(-ESTALE, ums_set(UMS_SET_USER_DATA, id[0], 1));
	EXPECT_EQ(0, ums_query(UMS_QUERY_WORKER, id[0], &info, sizeof(info)));
	EXPECT_EQ(UMS_STATE_EXITED, info.state);

	id[1] = worker_start_pop(&w[1], &l, nothing, NULL);
	ASSERT_NE(0, id[1]);
	EXPECT_NE(id[0], id[1]);
	EXPECT_EQ(UMS_ID_SLOT(id[0]), UMS_ID_SLOT(id[1]));
	EXPECT_EQ(0, l.slots[0].executes);
	EXPECT_EQ(-ESTALE, sched_run(&s, id[0], 0));
	EXPECT_EQ(-ESTALE, ums_preempt(id[0], 0));
	EXPECT_EQ(-ESTALE, ums_set(UMS_SET_USER_DATA, id[0], 1));
	EXPECT_EQ(-ESTALE, ums_query(UMS_QUERY_WORKER, id[0], &info, sizeof(info)));
	EXPECT_EQ(0, l.slots[0].user_data);
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id[1]));
}

static void exits_7(struct worker *w)
{
	STORE(w->stage, 1);
	/* The thread alone: exit(2), not exit_group(2). */
	syscall(SYS_exit, 7);
}

static void exits_pthread(struct worker *w)
{
	pthread_exit(NULL);
}

TEST(exit_status)
{
	struct worker w[2] = {};
	struct ums_info info;
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 2));
	ASSERT_EQ(0, sched_enter(&s));
	id = worker_start_pop(&w[0], &l, exits_7, NULL);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 7 << 8);
	EXPECT_EQ(7 << 8, l.slots[UMS_ID_SLOT(id)].exit_status);
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
	EXPECT_EQ(UMS_STATE_EXITED, info.state);
	EXPECT_EQ(7 << 8, info.exit_status);

	id = worker_start_pop(&w[1], &l, exits_pthread, NULL);
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
}

static void detaches(struct worker *w)
{
	struct ums_info info = {};

	w->result = ums_detach(0);
	ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info));
	if (info.role != UMS_ROLE_NONE)
		w->result = 1;
	if (ums_yield(0, 0) != -EPERM)
		w->result = 2;
	STORE(w->stage, 1);
	/* Runs beside its former scheduler, and may sleep unseen. */
	while (LOAD(w->stage) != 2)
		sleep_ns(MSEC);
	STORE(w->stage, 3);
}

TEST(detach)
{
	struct worker w = {}, next = {};
	struct ums_info info;
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, detaches, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_DETACHED, id, 0);
	ASSERT_TRUE(WAIT_FOR(LOAD(w.stage) == 1));
	EXPECT_EQ(0, w.result);
	EXPECT_EQ(-ESTALE, sched_run(&s, id, 0));
	EXPECT_EQ(-ESTALE, ums_preempt(id, 0));
	EXPECT_EQ(-ESTALE, ums_set(UMS_SET_USER_DATA, id, 1));
	/* Its slot, the only one, is free. */
	id = worker_start_pop(&next, &l, nothing, NULL);
	ASSERT_NE(0, id);
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	STORE(w.stage, 2);
	ASSERT_EQ(0, pthread_join(w.thread, NULL));
	EXPECT_EQ(3, w.stage);
	EXPECT_TRUE(list_empty(&l));
	/* pthread_join() returns a little before the thread is gone. */
	EXPECT_TRUE(WAIT_FOR(ums_query(UMS_QUERY_THREAD, w.tid, &info,
				       sizeof(info)) == -ESRCH));
}

static void goes_and_comes(struct worker *w)
{
	struct ums_worker_args a = { .user_data = 77 };
	__u64 first = w->id;

	w->result = ums_detach(0);
	if (!w->result)
		w->ret = ums_worker_enter(w->list->fd, &a, sizeof(a));
	STORE(w->id, w->ret);
	if (w->ret == first)
		w->result = 1;
	ums_yield(5, 0);
}

TEST(reenter)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id, again;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, goes_and_comes, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_DETACHED, id, 0);
	again = list_pop_wait(&l);
	ASSERT_NE(0, again);
	ASSERT_NE(id, again);
	EXPECT_EQ(-ESTALE, sched_run(&s, id, 0));
	EXPECT_EQ(77, list_slot(&l, again)->user_data);
	ASSERT_EQ(0, sched_run(&s, again, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, again, 5);
	EXPECT_EQ(0, w.result);
	EXPECT_EQ(again, w.id);
	EXPECT_EQ(0, worker_run_to_end(&s, &l, again));
}

static void detaches_then_schedules(struct worker *w)
{
	struct sched s;

	w->result = ums_detach(0);
	if (!w->result)
		w->result = sched_enter(&s);
	if (!w->result)
		w->result = sched_run(&s, *(__u64 *)w->arg, 0);
	if (!w->result && s.reason != UMS_UPCALL_YIELDED)
		w->result = 1;
	if (!w->result)
		w->result = sched_exit(&s);
	STORE(w->stage, 3);
}

/* A worker may leave and become a scheduler. */
TEST(worker_becomes_scheduler)
{
	struct worker w = {}, other = {};
	__u64 id, other_id;
	struct sched s;
	struct list l;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 2));
	other_id = worker_start_pop(&other, &l, yields, NULL);
	id = worker_start_pop(&w, &l, detaches_then_schedules, &other_id);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_DETACHED, id, 0);
	ASSERT_EQ(0, pthread_join(w.thread, NULL));
	EXPECT_EQ(0, w.result);
	EXPECT_EQ(0, worker_run_to_end(&s, &l, other_id));
}

static void blocks_and_looks(struct worker *w)
{
	struct ums_slot *slot = list_slot(w->list, w->id);

	w->result = 0;
	if (slot->state != UMS_STATE_RUNNING)
		w->result = 1;
	if (slot->scheduler != *(pid_t *)w->arg)
		w->result = 2;
	reads_pipe(w);
}

/* The slot tells what a worker is doing, at every stage. */
TEST(slot_contents)
{
	struct worker w = {};
	struct ums_slot *slot;
	struct sched s;
	struct list l;
	pid_t me;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	me = self_tid();
	id = worker_start_pop(&w, &l, blocks_and_looks, &me);
	slot = list_slot(&l, id);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
	EXPECT_EQ(0, w.result);
	EXPECT_EQ(UMS_STATE_BLOCKED, slot->state);
	EXPECT_EQ(SYS_read, slot->cause);
	EXPECT_EQ(0, slot->scheduler);
	EXPECT_EQ(1, slot->executes);
	EXPECT_EQ(1, slot->blocks);
	ASSERT_EQ(1, write(w.fd[1], "x", 1));
	ASSERT_EQ(id, list_pop_wait(&l));
	EXPECT_EQ(UMS_STATE_READY, slot->state);
	EXPECT_EQ(SYS_read, slot->cause);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(1, w.result);
	EXPECT_EQ(UMS_STATE_EXITED, slot->state);
	EXPECT_EQ(2, slot->executes);
	EXPECT_EQ(1, slot->blocks);
}

/* The slot's second line is the application's: the kernel leaves it alone. */
TEST(user_part_of_slot)
{
	struct worker w = { .user_data = 1 };
	struct ums_info info;
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, yields, NULL);
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
	EXPECT_EQ(1, info.user_data);
	list_slot(&l, id)->user_data = 2;
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
	EXPECT_EQ(2, info.user_data);
	ASSERT_EQ(0, ums_set(UMS_SET_USER_DATA, id, ~0ULL));
	EXPECT_EQ(~0ULL, list_slot(&l, id)->user_data);
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
	EXPECT_EQ(~0ULL, info.user_data);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_EQ(~0ULL, list_slot(&l, id)->user_data);
}

/*
 * What was saved in the context of a slot is not there for the next worker, nor for those
 * who might switch to this one: by whatever way it goes.
 */
static void set_context(struct list *l, __u64 id)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(l->slots->context); i++)
		list_slot(l, id)->context[i] = id + i;
}

static bool context_is_reset(struct list *l, __u64 id)
{
	struct ums_slot none = {};

	return !memcmp(list_slot(l, id)->context, none.context, sizeof(none.context));
}

static void leaves_context(struct worker *w)
{
	set_context(w->list, w->id);
	if (w->arg)
		ums_detach(0);
	if (w->result)
		ums_yield(0, 0);
}

TEST(context_of_slot)
{
	struct worker ends = {}, detaches = {}, parks = { .result = 1 };
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 2));
	ASSERT_EQ(0, sched_enter(&s));
	id = worker_start_pop(&ends, &l, leaves_context, NULL);
	EXPECT_TRUE(context_is_reset(&l, id));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_TRUE(context_is_reset(&l, id));

	id = worker_start_pop(&detaches, &l, leaves_context, &l);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_DETACHED, id, 0);
	EXPECT_TRUE(context_is_reset(&l, id));

	id = worker_start_pop(&parks, &l, leaves_context, NULL);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, 0);
	EXPECT_EQ(id, list_slot(&l, id)->context[0]);
	/* An ordinary thread then, once it has noticed. */
	ASSERT_EQ(0, close(l.fd));
	ASSERT_EQ(0, pthread_join(parks.thread, NULL));
	EXPECT_TRUE(context_is_reset(&l, id));
}

/* The main thread of a process can be a worker as well. */
static void *schedules(void *arg)
{
	struct worker *w = arg;
	struct sched s;
	__u64 id;

	id = list_pop_wait(w->list);
	w->result = sched_enter(&s) ?: sched_run(&s, id, 0);
	if (!w->result)
		w->result = s.reason;
	STORE(w->stage, 1);
	/* Yields once, then exits the process. */
	sched_run(&s, id, 0);
	return NULL;
}

TEST(main_thread)
{
	struct ums_worker_args a = {};
	struct worker w = {};
	struct list l;
	long ret;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	w.list = &l;
	ASSERT_EQ(0, thread_start(&w.thread, schedules, &w));
	ret = ums_worker_enter(l.fd, &a, sizeof(a));
	EXPECT_LT(0, ret);
	EXPECT_EQ(0, ums_yield(0, 0));
	EXPECT_EQ(1, w.stage);
	EXPECT_EQ(UMS_UPCALL_YIELDED, w.result);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * A thread of less authority cannot act on one of more, though both are of one
 * process: neither by other credentials nor past seccomp filters. See
 * kernel/ums/authority.c.
 */
#include "ums_test.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define USER	65534

/* The system calls themselves: glibc would change all threads of the process. */
static long become_user(void)
{
	return ums_ret(syscall(SYS_setresuid, USER, USER, USER));
}

static long become_again(void)
{
	return ums_ret(syscall(SYS_setresuid, 0, 0, 0));
}

/* The ids stay. */
static long drop_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = {};

	return ums_ret(syscall(SYS_capset, &head, none));
}

/* Reads, writes, and ends: it makes no other call then. */
static long be_strict(void)
{
	return ums_ret(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
}

/* A filter that refuses one call that nobody makes. */
static long confine(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_acct, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = ARRAY_SIZE(code), .filter = code };

	return ums_ret(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
}

static long change_nothing(void)
{
	return 0;
}

/* What a scheduler gets that has changed itself by @change. */
struct actor {
	long (*change)(void);
	__u64 id;
	pid_t tid;
	long changed, execute, preempt, worker, thread, set, self, executed;
};

static void *act(void *arg)
{
	struct actor *a = arg;
	struct ums_info info;
	struct sched s;

	a->changed = a->change();
	if (sched_enter(&s)) {
		a->changed = -1;
		return NULL;
	}
	a->worker = ums_query(UMS_QUERY_WORKER, a->id, &info, sizeof(info));
	a->thread = ums_query(UMS_QUERY_THREAD, a->tid, &info, sizeof(info));
	a->self = ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info));
	a->set = ums_set(UMS_SET_USER_DATA, a->id, 7);
	a->preempt = ums_preempt(a->id, 0);
	a->execute = sched_run(&s, a->id, 0);
	if (ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)) == 0)
		a->executed = info.executes;
	sched_exit(&s);
	return NULL;
}

struct scene {
	struct list l;
	struct worker w;
	__u64 id;
	long (*change)(void);	/* of the worker */
};

static void changes_and_yields(struct worker *w)
{
	struct scene *scene = w->arg;

	w->result = scene->change();
	ums_yield(0, 0);
	w->stage = 1;
}

/* A worker that has changed itself and yielded. */
static long scene_start(struct scene *scene, struct sched *s, long (*change)(void))
{
	long ret;

	memset(scene, 0, sizeof(*scene));
	scene->change = change;
	ret = list_open(&scene->l, 1);
	if (ret)
		return ret;
	scene->id = worker_start_pop(&scene->w, &scene->l, changes_and_yields, scene);
	ret = sched_run(s, scene->id, 0);
	if (ret)
		return ret;
	/* It may have blocked for a page first. */
	while (s->reason == UMS_UPCALL_BLOCKED) {
		ret = sched_run(s, list_pop_wait(&scene->l), 0);
		if (ret)
			return ret;
	}
	return s->reason == UMS_UPCALL_YIELDED ? scene->w.result : -EPROTO;
}

static int act_on(struct actor *a, struct scene *scene, long (*change)(void))
{
	pthread_t t;

	memset(a, 0, sizeof(*a));
	a->change = change;
	a->id = scene->id;
	a->tid = scene->w.tid;
	return thread_start(&t, act, a) ?: pthread_join(t, NULL);
}

#define EXPECT_REFUSED(a) do {						\
	EXPECT_EQ(0, (a)->changed);					\
	EXPECT_EQ(-EACCES, (a)->worker);				\
	EXPECT_EQ(-EACCES, (a)->thread);				\
	EXPECT_EQ(-EACCES, (a)->set);					\
	EXPECT_EQ(-EACCES, (a)->preempt);				\
	EXPECT_EQ(-EACCES, (a)->execute);				\
	EXPECT_EQ(0, (a)->self);					\
	EXPECT_EQ(0, (a)->executed);					\
} while (0)

#define EXPECT_ALLOWED(a) do {						\
	EXPECT_EQ(0, (a)->changed);					\
	EXPECT_EQ(0, (a)->worker);					\
	EXPECT_EQ(0, (a)->thread);					\
	EXPECT_EQ(0, (a)->set);						\
	EXPECT_EQ(-EAGAIN, (a)->preempt);				\
	EXPECT_EQ(0, (a)->execute);					\
	EXPECT_EQ(1, (a)->executed);					\
} while (0)

FIXTURE(authority)
{
	struct scene scene;
	struct sched s;
	struct actor a;
};

FIXTURE_SETUP(authority)
{
	UMS_REQUIRE();
	if (geteuid())
		SKIP(return, "needs root, to become somebody else");
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ASSERT_EQ(0, sched_enter(&self->s));
}

FIXTURE_TEARDOWN(authority)
{
}

/* Nothing happened to it: whoever may can still execute it. */
#define EXPECT_UNTOUCHED(self) do {					\
	EXPECT_EQ(0, (self)->scene.w.stage);				\
	EXPECT_EQ(0, list_slot(&(self)->scene.l, (self)->scene.id)->user_data); \
	EXPECT_EQ(0, worker_run_to_end(&(self)->s, &(self)->scene.l, (self)->scene.id)); \
	EXPECT_EQ(1, (self)->scene.w.stage);				\
} while (0)

TEST_F(authority, another_user)
{
	ASSERT_EQ(0, scene_start(&self->scene, &self->s, change_nothing));
	ASSERT_EQ(0, act_on(&self->a, &self->scene, become_user));
	EXPECT_REFUSED(&self->a);
	EXPECT_UNTOUCHED(self);
}

TEST_F(authority, fewer_capabilities)
{
	ASSERT_EQ(0, scene_start(&self->scene, &self->s, change_nothing));
	ASSERT_EQ(0, act_on(&self->a, &self->scene, drop_capabilities));
	EXPECT_REFUSED(&self->a);
	EXPECT_UNTOUCHED(self);
}

TEST_F(authority, under_a_filter)
{
	ASSERT_EQ(0, scene_start(&self->scene, &self->s, change_nothing));
	ASSERT_EQ(0, act_on(&self->a, &self->scene, confine));
	EXPECT_REFUSED(&self->a);
	EXPECT_UNTOUCHED(self);
}

/* Two filters, each on one of them. */
TEST_F(authority, under_another_filter)
{
	ASSERT_EQ(0, scene_start(&self->scene, &self->s, confine));
	ASSERT_EQ(0, act_on(&self->a, &self->scene, confine));
	EXPECT_REFUSED(&self->a);
	EXPECT_UNTOUCHED(self);
}

TEST_F(authority, worker_of_another_user)
{
	ASSERT_EQ(0, scene_start(&self->scene, &self->s, become_user));
	ASSERT_EQ(0, act_on(&self->a, &self->scene, change_nothing));
	EXPECT_ALLOWED(&self->a);
}

TEST_F(authority, worker_under_a_filter)
{
	ASSERT_EQ(0, scene_start(&self->scene, &self->s, confine));
	ASSERT_EQ(0, act_on(&self->a, &self->scene, change_nothing));
	EXPECT_ALLOWED(&self->a);
}

/* Both under the same filter, as in a container. */
TEST_F(authority, same_filter)
{
	ASSERT_EQ(0, confine());
	ASSERT_EQ(0, scene_start(&self->scene, &self->s, change_nothing));
	ASSERT_EQ(0, act_on(&self->a, &self->scene, change_nothing));
	EXPECT_ALLOWED(&self->a);
}

/* The worker has one filter more. */
TEST_F(authority, filter_on_top)
{
	ASSERT_EQ(0, confine());
	ASSERT_EQ(0, scene_start(&self->scene, &self->s, confine));
	ASSERT_EQ(0, act_on(&self->a, &self->scene, change_nothing));
	EXPECT_ALLOWED(&self->a);
}

/* As after setuid(3), which has each thread make its own of the same content. */
TEST_F(authority, same_user_twice)
{
	ASSERT_EQ(0, scene_start(&self->scene, &self->s, become_user));
	ASSERT_EQ(0, act_on(&self->a, &self->scene, become_user));
	EXPECT_ALLOWED(&self->a);
}

TEST_F(authority, same_credentials_twice)
{
	ASSERT_EQ(0, scene_start(&self->scene, &self->s, become_again));
	ASSERT_EQ(0, act_on(&self->a, &self->scene, become_again));
	EXPECT_ALLOWED(&self->a);
}

/* A worker that runs is not stopped by one that may not. */
static void spins(struct worker *w)
{
	STORE(w->stage, 1);
	w->result = SPIN_FOR(LOAD(w->stage) == 2);
}

static void *acts_on_running(void *arg)
{
	struct worker *w = arg;
	long ret = -1;

	if (WAIT_FOR(LOAD(w->stage) == 1))
		ret = become_user() ?: ums_preempt(w->id, 0);
	STORE(w->stage, 2);
	return (void *)ret;
}

TEST_F(authority, running_worker)
{
	struct list l;
	struct worker w = {};
	pthread_t t;
	void *ret;
	__u64 id;

	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, spins, NULL);
	ASSERT_EQ(0, thread_start(&t, acts_on_running, &w));
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	ASSERT_EQ(0, pthread_join(t, &ret));
	EXPECT_EQ(-EACCES, (long)ret);
	EXPECT_EQ(1, w.result);
}

/*
 * A switch in user mode is an act as well: of the worker on whose thread it is, on the one
 * whose context calls there. In a process of its own, which is killed for it.
 */
struct switches {
	struct sched s;
	struct list l;
	struct worker from, to;
	long (*change)(void);	/* of the first worker */
};

static void calls_when_switched_to(struct worker *w)
{
	struct switches *x = w->arg;

	worker_switch_out(w, &x->s, 0);
	getppid();
	w->stage = 1;
}

static void changes_and_switches(struct worker *w)
{
	struct switches *x = w->arg;

	if (x->change())
		_exit(3);
	worker_switch_to(w, &x->to);
}

/* Executes until something else than a block for a page. */
static long run_on(struct switches *x, __u64 id)
{
	long ret = sched_run(&x->s, id, 0);

	while (!ret && x->s.reason == UMS_UPCALL_BLOCKED)
		ret = sched_run(&x->s, list_pop_wait(&x->l), 0);
	return ret;
}

/* @before: of all. The wait status. */
static int switch_in_child(long (*change)(void), long (*before)(void))
{
	static struct switches x;
	__u64 from, to;
	int status;
	pid_t pid;

	pid = fork();
	if (pid)
		return waitpid(pid, &status, 0) == pid ? status : -1;
	memset(&x, 0, sizeof(x));
	x.change = change;
	x.from.flags = UMS_WORKER_USER_SWITCH;
	x.to.flags = UMS_WORKER_USER_SWITCH;
	if (before() || list_open(&x.l, 2) || sched_enter_switching(&x.s))
		_exit(2);
	to = worker_start_pop(&x.to, &x.l, calls_when_switched_to, &x);
	if (!to || run_on(&x, to) || x.s.reason != UMS_UPCALL_YIELDED)
		_exit(2);
	/* This call has taken the scheduler home, which leaves it EMPTY. */
	from = worker_start_pop(&x.from, &x.l, changes_and_switches, &x);
	if (!from || slot_state(&x.l, to) != UMS_STATE_EMPTY)
		_exit(2);
	if (run_on(&x, from) || x.s.reason != UMS_UPCALL_EXITED || x.s.worker != to)
		_exit(4);
	_exit(!x.to.stage);
}

TEST_F(authority, switch_in_user_mode)
{
	UMS_REQUIRE_SWITCH();
	EXPECT_EQ(0, switch_in_child(change_nothing, change_nothing));
	EXPECT_EQ(0, switch_in_child(change_nothing, confine));
	EXPECT_EQ(0, switch_in_child(change_nothing, become_user));
	EXPECT_EQ(0, switch_in_child(become_again, change_nothing));
	EXPECT_EQ(SIGSEGV, switch_in_child(become_user, change_nothing) & 0x7f);
	EXPECT_EQ(SIGSEGV, switch_in_child(drop_capabilities, change_nothing) & 0x7f);
	EXPECT_EQ(SIGSEGV, switch_in_child(confine, change_nothing) & 0x7f);
	EXPECT_EQ(SIGSEGV, switch_in_child(be_strict, change_nothing) & 0x7f);
}

TEST_HARNESS_MAIN

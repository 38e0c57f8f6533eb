// SPDX-License-Identifier: GPL-2.0
/*
 * 2,000 workers on 4 schedulers, which yield and block in every way, and the
 * books at the end: no worker lost, none popped twice, every execution ended by
 * one upcall, every block followed by one publication.
 *
 * UMS_STRESS_WORKERS, UMS_STRESS_SCHEDULERS and UMS_STRESS_SECONDS (until which
 * workers begin new rounds; each does one at least) change the sizes.
 */
#include "ums_test.h"

#include <sched.h>
#include <sys/resource.h>

#define MAX_SCHEDS 64

static unsigned int env(const char *name, unsigned int value)
{
	const char *s = getenv(name);

	return s && atoi(s) > 0 ? atoi(s) : value;
}

struct tally {
	__u64 executes, blocked_syscall, blocked_fault, yielded, preempted, exited;
	__u64 popped;
};

struct sched_thread {
	struct list *l;
	pthread_t t;
	struct tally sum;
	struct ums_info info;
	long error;
	__u64 error_id;
};

/*
 * What the schedulers have seen of each worker, of executions before and after
 * its last yield, and what the kernel said of it then. By the number in its
 * slot's user_data, since a slot may see several workers.
 */
struct account {
	struct tally seen[2];
	struct ums_info info;
	int ending;
};

static struct account *accounts;
static int left;
static __u64 deadline;

#define COUNT(member) (t->sum.member++, INC(tally->member))

static void *sched_main(void *arg)
{
	struct __kernel_timespec ts = { .tv_nsec = 50 * MSEC };
	struct sched_thread *t = arg;
	struct account *account;
	struct tally *tally;
	__u64 id, kept = 0;
	unsigned int k;
	struct sched s;

	t->error = sched_enter(&s);
	for (k = 0; !t->error && LOAD(left) > 0; k++) {
		id = kept ? kept : list_pop(t->l);
		if (!id) {
			ums_wait(t->l->fd, &ts, 0);
			continue;
		}
		/* To be chosen before it runs: others may count late. */
		account = &accounts[list_slot(t->l, id)->user_data];
		tally = &account->seen[LOAD(account->ending)];
		if (!kept)
			COUNT(popped);
		kept = 0;
		/* What has been popped can be executed: no error is one to retry. */
		t->error = sched_run(&s, id, k % 7 ? 0 : 2 * MSEC);
		if (t->error || s.worker != id) {
			t->error_id = id;
			if (!t->error)
				t->error = 1;
			break;
		}
		COUNT(executes);
		switch (s.reason) {
		case UMS_UPCALL_BLOCKED:
			if (s.detail == UMS_CAUSE_FAULT)
				COUNT(blocked_fault);
			else
				COUNT(blocked_syscall);
			break;
		case UMS_UPCALL_YIELDED:
			COUNT(yielded);
			if (s.detail)
				kept = id;
			if (s.detail == 2) {
				t->error = ums_query(UMS_QUERY_WORKER, id, &account->info,
						     sizeof(account->info));
				STORE(account->ending, 1);
			}
			break;
		case UMS_UPCALL_PREEMPTED:
			COUNT(preempted);
			break;
		case UMS_UPCALL_EXITED:
			COUNT(exited);
			__atomic_fetch_sub(&left, 1, __ATOMIC_ACQ_REL);
			break;
		default:
			t->error = 2;
		}
	}
	if (!t->error)
		t->error = ums_query(UMS_QUERY_THREAD, 0, &t->info, sizeof(t->info));
	return NULL;
}

/* Neighbours pass a byte to and fro, and do the rest in between. */
static void works(struct worker *w)
{
	char c = 'x';
	int i;

	do {
		for (i = 0; i < 2; i++) {
			if (write(w->fd[1], &c, 1) != 1 || read(w->fd[0], &c, 1) != 1) {
				w->result = -1;
				return;
			}
			ums_yield(1, 0);
		}
		ums_yield(0, UMS_YIELD_PUBLISH);
		sleep_ns(1000 * (w->id % 64));
		sched_yield();
		w->result++;
		/* Both neighbours do the same number of rounds. */
		c = now_ns() < deadline;
		if (w->stage & 1) {
			if (read(w->fd[0], &c, 1) != 1)
				w->result = -1;
		} else if (write(w->fd[1], &c, 1) != 1) {
			w->result = -1;
		}
	} while (c && w->result > 0);
	ums_yield(2, 0);
}

static void books(struct __test_metadata *_metadata, struct worker *w, unsigned int n,
		  struct sched_thread *t, unsigned int scheds, struct list *l)
{
	struct tally all = {}, kernel = {};
	__u64 publishes = 0;
	unsigned int i;

	for (i = 0; i < n; i++) {
		struct account *acc = &accounts[i];
		struct tally *s = &acc->seen[0], *end = &acc->seen[1];
		struct ums_slot *slot = list_slot(l, w[i].id);
		struct ums_info info = acc->info;

		ASSERT_LT(0, w[i].result) {
			TH_LOG("worker %u", i);
		}
		ASSERT_EQ(w[i].id, info.worker);
		ASSERT_EQ(UMS_STATE_READY, info.state);
		ASSERT_EQ(s->executes, info.executes);
		ASSERT_EQ(s->blocked_syscall, info.blocks_syscall);
		ASSERT_EQ(s->blocked_fault, info.blocks_fault);
		ASSERT_EQ(s->yielded, info.yields);
		ASSERT_EQ(s->preempted, info.preemptions);
		ASSERT_EQ(s->popped, info.publishes);
		/* Every execution has one end, and each but a yield a publication. */
		ASSERT_EQ(s->executes, s->blocked_syscall + s->blocked_fault +
			  s->yielded + s->preempted);
		ASSERT_EQ(0, s->exited);
		ASSERT_EQ(1, end->exited);
		ASSERT_EQ(0, end->yielded);
		ASSERT_EQ(end->executes, end->blocked_syscall + end->blocked_fault +
			  end->preempted + 1);
		ASSERT_EQ(end->popped, end->executes - 1);
		publishes += info.publishes + end->popped;
		if (slot->id != w[i].id)
			continue;
		ASSERT_EQ(UMS_STATE_EXITED, slot->state);
		ASSERT_EQ(slot->executes, s->executes + end->executes);
		ASSERT_EQ(slot->blocks, s->blocked_syscall + s->blocked_fault +
			  end->blocked_syscall + end->blocked_fault);
	}
	for (i = 0; i < scheds; i++) {
		ASSERT_EQ(UMS_ROLE_SCHEDULER, t[i].info.role);
		ASSERT_EQ(t[i].sum.executes, t[i].info.executes);
		ASSERT_EQ(t[i].sum.executes + 1, t[i].info.upcalls);
		ASSERT_EQ(t[i].sum.yielded, t[i].info.yields);
		ASSERT_EQ(t[i].sum.preempted, t[i].info.preemptions);
		ASSERT_EQ(t[i].sum.blocked_syscall, t[i].info.blocks_syscall);
		ASSERT_EQ(t[i].sum.blocked_fault, t[i].info.blocks_fault);
		all.popped += t[i].sum.popped;
		all.executes += t[i].sum.executes;
		all.exited += t[i].sum.exited;
		all.blocked_syscall += t[i].sum.blocked_syscall;
		kernel.executes += t[i].info.executes;
	}
	EXPECT_EQ(n, all.exited);
	EXPECT_EQ(publishes, all.popped);
	EXPECT_EQ(all.executes, kernel.executes);
	EXPECT_EQ(l->head->tail, all.popped);
	EXPECT_EQ(l->head->head, all.popped);
	EXPECT_LT(n, all.blocked_syscall);
	TH_LOG("%u workers, %u schedulers: %llu executions, %llu blocks", n, scheds,
	       (unsigned long long)all.executes,
	       (unsigned long long)all.blocked_syscall);
}

static void stress(struct __test_metadata *_metadata, unsigned int n,
		   unsigned int scheds, unsigned int seconds)
{
	struct rlimit rl = { 4 * n + 256, 4 * n + 256 };
	struct sched_thread *t = calloc(scheds, sizeof(*t));
	struct worker *w = calloc(n, sizeof(*w));
	struct list l;
	unsigned int i;
	int a[2], b[2];

	n &= ~1U;
	accounts = calloc(n, sizeof(*accounts));
	ASSERT_NE(NULL, accounts);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &rl));
	ASSERT_EQ(0, list_open(&l, n));
	left = n;
	deadline = now_ns() + seconds * NSEC;
	for (i = 0; i < scheds; i++) {
		t[i].l = &l;
		ASSERT_EQ(0, thread_start(&t[i].t, sched_main, &t[i]));
	}
	for (i = 0; i < n; i += 2) {
		ASSERT_EQ(0, pipe(a));
		ASSERT_EQ(0, pipe(b));
		w[i].fd[0] = a[0];
		w[i].fd[1] = b[1];
		w[i + 1].fd[0] = b[0];
		w[i + 1].fd[1] = a[1];
		w[i + 1].stage = 1;
		w[i].user_data = i;
		w[i + 1].user_data = i + 1;
		ASSERT_EQ(0, worker_start(&w[i], &l, works, NULL));
		ASSERT_EQ(0, worker_start(&w[i + 1], &l, works, NULL));
	}
	for (i = 0; i < scheds; i++) {
		ASSERT_EQ(0, pthread_join(t[i].t, NULL));
		ASSERT_EQ(0, t[i].error) {
			TH_LOG("scheduler %u, worker %llx", i,
			       (unsigned long long)t[i].error_id);
		}
	}
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, pthread_join(w[i].thread, NULL));
	}
	books(_metadata, w, n, t, scheds, &l);
}

TEST(two_thousand_on_four)
{
	unsigned int scheds = env("UMS_STRESS_SCHEDULERS", 4);

	UMS_REQUIRE();
	ASSERT_GE(MAX_SCHEDS, scheds);
	stress(_metadata, env("UMS_STRESS_WORKERS", 2000), scheds,
	       env("UMS_STRESS_SECONDS", 5));
}

/* Few workers, so that schedulers are idle and every wake-up counts. */
TEST(ten_on_four)
{
	UMS_REQUIRE();
	stress(_metadata, 10, 4, env("UMS_STRESS_SECONDS", 5));
}

/* More schedulers than CPUs. */
TEST(hundred_on_sixteen)
{
	UMS_REQUIRE();
	stress(_metadata, 100, 16, env("UMS_STRESS_SECONDS", 5));
}

TEST_HARNESS_MAIN

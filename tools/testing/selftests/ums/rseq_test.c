// SPDX-License-Identifier: GPL-2.0
/*
 * Restartable sequences and membarrier, as the C library has registered them: in
 * a worker the CPU number is right, a sequence is aborted when the worker is
 * stopped in it or comes to another CPU, and barriers reach those that run.
 */
#include "team.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/rseq.h>

#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE	27
#endif

#define MAX_INDEX	4096		/* CPUs, or concurrency ids */

/* In struct rseq, in which older headers of the C library have less. */
#define RSEQ_CPU_ID	4
#define RSEQ_CS		8
#define RSEQ_MM_CID	24

static void *rseq_area(void)
{
	return (char *)__builtin_thread_pointer() + __rseq_offset;
}

static __u32 rseq_word(int offset)
{
	return *(volatile __u32 *)(rseq_area() + offset);
}

static int getcpu_now(void)
{
	unsigned int cpu = ~0U;

	syscall(SYS_getcpu, &cpu, NULL, NULL);
	return cpu;
}

static cpu_set_t allowed;

/* One CPU of those allowed, by number modulo their count. */
static void pin_to(unsigned int nr)
{
	cpu_set_t one;
	int cpu;

	nr %= CPU_COUNT(&allowed);
	for (cpu = 0; ; cpu++)
		if (CPU_ISSET(cpu, &allowed) && !nr--)
			break;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/*
 * counters[@index]++, as a sequence: the old value is loaded, some time passes,
 * the new one is stored. @index is the address of the 32 bits that are the index,
 * read in the sequence. False: it was aborted. @row, if not NULL, is the address
 * of a number to be multiplied by MAX_INDEX and added to the index.
 */
static __attribute__((noinline)) bool rseq_count(void *area, volatile __u32 *index,
						 volatile __u64 *row, __u64 *counters,
						 unsigned int time)
{
	asm goto(
		".pushsection .data.rseq_cs, \"aw\"\n"
		".balign 32\n"
		"10:	.long 0, 0\n"
		"	.quad 1f, 2f - 1f, 4f\n"
		".popsection\n"
		"	leaq	10b(%%rip), %%rax\n"
		"	movq	%%rax, %c[cs](%[area])\n"
		"1:	movl	(%[index]), %%eax\n"
		"	movq	(%[row]), %%rdx\n"
		"	shlq	$12, %%rdx\n"
		"	addq	%%rdx, %%rax\n"
		"	movq	(%[counters], %%rax, 8), %%rdx\n"
		"	movl	%[time], %%ecx\n"
		"3:	decl	%%ecx\n"
		"	jnz	3b\n"
		"	incq	%%rdx\n"
		"	movq	%%rdx, (%[counters], %%rax, 8)\n"
		"2:\n"
		".pushsection .text.unlikely, \"ax\"\n"
		"	.byte	0x0f, 0xb9, 0x3d\n"
		"	.long	%c[sig]\n"
		"4:	jmp	%l[aborted]\n"
		".popsection\n"
		: /* goto has no outputs here */
		: [area] "r" (area), [index] "r" (index), [row] "r" (row),
		  [counters] "r" (counters), [time] "r" (time),
		  [cs] "i" (RSEQ_CS), [sig] "i" (RSEQ_SIG)
		: "rax", "rcx", "rdx", "memory", "cc"
		: aborted);
	return true;
aborted:
	return false;
}

static __u64 zero_row;
static __u64 counters[2 * MAX_INDEX];

/* --- the CPU number */

static long moves, looks, wrong_cpu, wrong_libc, not_registered;
static int turn;

/* Right, as far as can be said of a thread that may move. */
static void compare_cpu(void)
{
	int before, now, after, tries = 0;

	do {
		before = rseq_word(RSEQ_CPU_ID);
		now = getcpu_now();
		after = rseq_word(RSEQ_CPU_ID);
		if (before == now && after == now)
			break;
		/* It moved in between, perhaps. A number that is stale stays. */
	} while (++tries < 3);
	looks++;
	if (tries == 3)
		wrong_cpu++;
	for (tries = 0; tries < 3; tries++)
		if (sched_getcpu() == getcpu_now())
			break;
	if (tries == 3)
		wrong_libc++;
}

#define MOVES 200

/* Each time executed by another scheduler, on another CPU. */
static void is_moved(struct worker *w)
{
	int last = -1, i;

	if (!__rseq_size || (int)rseq_word(RSEQ_CPU_ID) < 0)
		not_registered++;
	for (i = 0; i < MOVES; i++) {
		compare_cpu();
		if ((int)rseq_word(RSEQ_CPU_ID) != last)
			moves++;
		last = rseq_word(RSEQ_CPU_ID);
		switch (i % 3) {
		case 0:
			ums_yield(0, UMS_YIELD_PUBLISH);
			break;
		case 1:
			sleep_ns(1000);
			break;
		case 2:
			ums_preempt(w->id, 0);
			break;
		}
	}
}

#define MOVERS 4

static struct list list;
static int mover_done;

static void *mover(void *arg)
{
	int nr = (long)arg;
	struct sched s;
	__u64 id;

	pin_to(nr);
	if (sched_enter(&s))
		return (void *)1;
	for (;;) {
		/* In turn, so that no two executions follow on one CPU. */
		if (!WAIT_FOR(LOAD(turn) == nr || LOAD(mover_done)))
			return (void *)2;
		if (LOAD(mover_done))
			return NULL;
		id = list_pop_wait(&list);
		if (!id || sched_run(&s, id, 0))
			return (void *)3;
		if (s.reason == UMS_UPCALL_EXITED)
			STORE(mover_done, 1);
		STORE(turn, (nr + 1) % MOVERS);
	}
}

TEST(cpu_number)
{
	struct worker w = {};
	pthread_t t[MOVERS];
	void *ret;
	long i;

	UMS_REQUIRE();
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(allowed), &allowed));
	ASSERT_EQ(0, list_open(&list, 1));
	ASSERT_EQ(0, worker_start(&w, &list, is_moved, NULL));
	for (i = 0; i < MOVERS; i++) {
		ASSERT_EQ(0, thread_start(&t[i], mover, (void *)i));
	}
	for (i = 0; i < MOVERS; i++) {
		ASSERT_EQ(0, pthread_join(t[i], &ret));
		ASSERT_EQ(NULL, ret);
	}
	EXPECT_EQ(0, not_registered);
	EXPECT_EQ(MOVES, looks);
	EXPECT_EQ(0, wrong_cpu);
	EXPECT_EQ(0, wrong_libc);
	if (CPU_COUNT(&allowed) > 1) {
		EXPECT_LT(MOVES / 4, moves);
	}
}

/* --- aborts */

#define ROUNDS 5000
#define ABORTS 40

static int index_offset;
static long aborts;

/* So many times, and on until it has been aborted often enough. */
static void counts(struct worker *w)
{
	struct team *t = w->arg;
	void *area = rseq_area();

	while ((w->result < ROUNDS || LOAD(aborts) < ABORTS) && !LOAD(t->stop)) {
		while (!rseq_count(area, area + index_offset, &zero_row, counters, 200))
			INC(aborts);
		w->result++;
		/* Some of them are stopped elsewhere, too. */
		if (w - t->w < 2 && w->result % 64 == 0)
			ums_yield(0, UMS_YIELD_PUBLISH);
		if (w - t->w == 2 && w->result % 256 == 0)
			sleep_ns(1000);
	}
}

static void pinned(struct team_sched *ts)
{
	pin_to(ts->nr);
}

static void count_all(struct __test_metadata *_metadata, int offset, bool pin)
{
	struct team t = { .slice = MSEC / 4, .setup = pin ? pinned : NULL };
	__u64 sum = 0, expected = 0, preempted = 0;
	int i;

	index_offset = offset;
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(allowed), &allowed));
	ASSERT_EQ(0, team_start(&t, 4, 8, counts));
	ASSERT_TRUE(team_join(&t));
	team_books(_metadata, &t);
	for (i = 0; i < MAX_INDEX; i++)
		sum += counters[i];
	for (i = 0; i < 8; i++)
		expected += t.w[i].result;
	for (i = 0; i < 4; i++)
		preempted += t.sched[i].events[UMS_UPCALL_PREEMPTED];
	EXPECT_EQ(expected, sum);
	EXPECT_LE(ABORTS, aborts);
	EXPECT_LT(0, preempted);
	TH_LOG("%llu increments, %llu preemptions, %ld aborts", (unsigned long long)sum,
	       (unsigned long long)preempted, aborts);
}

/*
 * Each CPU has a counter that is incremented without atomic instructions, by
 * whoever runs there. If a worker that was stopped in the middle went on there,
 * the increments of those that ran meanwhile would be lost.
 */
TEST(counter_of_each_cpu)
{
	UMS_REQUIRE();
	count_all(_metadata, RSEQ_CPU_ID, false);
}

TEST(counter_of_each_cpu_pinned)
{
	UMS_REQUIRE();
	count_all(_metadata, RSEQ_CPU_ID, true);
}

/* The same with concurrency ids: of the threads that run, no two have one. */
TEST(counter_of_each_concurrency_id)
{
	UMS_REQUIRE();
	/* Since 6.3; __rseq_size is that of an older structure here. */
	if (getauxval(AT_RSEQ_FEATURE_SIZE) < RSEQ_MM_CID + 4)
		SKIP(return, "no concurrency ids");
	count_all(_metadata, RSEQ_MM_CID, false);
}

/* --- membarrier */

static int membarrier(int cmd, unsigned int flags, int cpu)
{
	return syscall(SYS_membarrier, cmd, flags, cpu) ? -errno : 0;
}

/*
 * Workers store to their own word and load those of two others, with nothing
 * between but the compiler's order. The others store, have a barrier executed on
 * all CPUs, and load. What may not be: that either has missed the other.
 *
 *	worker			other
 *	x = i			y = j
 *	(barrier by IPI)	membarrier()
 *	seen[i] = y		sees x < i  =>  seen[i] >= j
 *
 * A worker writes down only at which of its stores it first saw another value,
 * so however far it runs while another waits for a CPU, the answer is kept: the
 * values change no faster than those who wait for it change them.
 */
#define WRITERS	4
#define OTHERS	2	/* a scheduler, and a thread outside */
#define CHANGES	256
#define CHECKS	200

struct line {
	__u32 value;
} __attribute__((aligned(128)));

static struct line x[WRITERS], y[OTHERS];

/* Of one worker: what it saw of one of the others. */
static struct sight {
	__u32 nr;	/* of the changes seen; each wrote the next entry */
	struct {
		__u32 x, y;
	} changes[CHANGES];
} sights[WRITERS][OTHERS];

/* What each of the others has yet to find confirmed, of each worker. */
static struct {
	bool valid;
	__u32 sees, y;
} open_checks[OTHERS][WRITERS];

static long checks[OTHERS], missed[OTHERS], late[OTHERS];
static int barrier_error;

#define ONCE(x) (*(volatile __typeof__(x) *)&(x))

static void saw(struct sight *s, __u32 i, __u32 value)
{
	__u32 nr = s->nr;

	s->changes[nr % CHANGES].x = i;
	s->changes[nr % CHANGES].y = value;
	STORE(s->nr, nr + 1);
}

static void stores(struct worker *w)
{
	__u32 i, now[OTHERS], last[OTHERS] = {};
	struct team *t = w->arg;
	int me = w - t->w, k;

	for (i = 1; !LOAD(t->stop); i++) {
		ONCE(x[me].value) = i;
		/* No instruction here. */
		now[0] = ONCE(y[0].value);
		now[1] = ONCE(y[1].value);
		for (k = 0; k < OTHERS; k++) {
			if (now[k] == last[k])
				continue;
			last[k] = now[k];
			saw(&sights[me][k], i, now[k]);
		}
		if (i % 4096 == 0)
			ums_yield(0, UMS_YIELD_PUBLISH);
	}
}

/*
 * What worker k had seen of y[me] when it had made its store number at; false
 * when that is written over.
 */
static bool seen_at(int me, int k, __u32 at, __u32 *value)
{
	struct sight *s = &sights[k][me];
	__u32 nr = LOAD(s->nr), i;

	for (i = nr; i > 0 && nr - i < CHANGES / 2; i--) {
		if ((__s32)(ONCE(s->changes[(i - 1) % CHANGES].x) - at) > 0)
			continue;
		*value = ONCE(s->changes[(i - 1) % CHANGES].y);
		return LOAD(s->nr) - i < CHANGES / 2;
	}
	*value = 0;
	return i == 0;
}

/* The first store that was not seen came later, so it must have seen the other. */
static void check(int me, int k)
{
	__u32 next = open_checks[me][k].sees + 1, got;

	/* Not before the worker has written down what it saw. */
	if (!open_checks[me][k].valid || (__s32)(LOAD(x[k].value) - next) < 1)
		return;
	open_checks[me][k].valid = false;
	if (!seen_at(me, k, next, &got)) {
		late[me]++;
		return;
	}
	checks[me]++;
	if ((__s32)(got - open_checks[me][k].y) < 0)
		missed[me]++;
}

static void step(int me)
{
	int k, ret;

	for (k = 0; k < WRITERS; k++)
		check(me, k);
	ONCE(y[me].value)++;
	ret = membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	if (ret)
		STORE(barrier_error, ret);
	for (k = 0; k < WRITERS; k++) {
		if (open_checks[me][k].valid)
			continue;
		open_checks[me][k].sees = ONCE(x[k].value);
		open_checks[me][k].y = y[me].value;
		open_checks[me][k].valid = true;
	}
}

static void scheduler_steps(struct team_sched *ts, __u64 id)
{
	int i;

	if (ts->nr == 0)
		for (i = 0; i < 20; i++)
			step(0);
}

TEST(membarrier_between_workers_and_others)
{
	static struct team t = { .slice = MSEC / 2, .before = scheduler_steps };
	__u64 end, limit;
	int i;

	UMS_REQUIRE();
	if (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0))
		SKIP(return, "no membarrier");
	ASSERT_EQ(0, team_start(&t, 3, WRITERS, stores));
	end = now_ns() + NSEC;
	limit = now_ns() + LIMIT_S * NSEC;
	while (now_ns() < end ||
	       ((LOAD(checks[0]) < CHECKS || checks[1] < CHECKS) && now_ns() < limit))
		step(1);
	STORE(t.stop, 1);
	ASSERT_TRUE(team_join(&t));
	team_books(_metadata, &t);
	EXPECT_EQ(0, barrier_error);
	for (i = 0; i < OTHERS; i++) {
		EXPECT_LE(CHECKS, checks[i]);
		EXPECT_EQ(0, missed[i]);
		/* Else it is chance which of its findings a worker still knows. */
		EXPECT_LE(late[i], checks[i]);
	}
	TH_LOG("%ld and %ld checks, %ld and %ld too late",
	       checks[0], checks[1], late[0], late[1]);
}

/*
 * A row of counters is in use; workers increment in sequences that begin with
 * the choice of the row. After another row has been chosen, and the barrier,
 * nobody is left in a sequence that began with the old one.
 */
static __u64 row;

static void counts_in_row(struct worker *w)
{
	struct team *t = w->arg;
	void *area = rseq_area();

	while (!LOAD(t->stop)) {
		if (!rseq_count(area, area + RSEQ_CPU_ID, &row, counters, 2000))
			INC(aborts);
		else
			w->result++;
		if (w - t->w == 0)
			ums_yield(0, UMS_YIELD_PUBLISH);
	}
}

static __u64 sum_of_row(int nr)
{
	__u64 sum = 0;
	int i;

	for (i = 0; i < MAX_INDEX; i++)
		sum += ONCE(counters[nr * MAX_INDEX + i]);
	return sum;
}

TEST(membarrier_aborts_sequences)
{
	static struct team t = { .slice = MSEC };
	__u64 was, sum, end;
	int rounds = 0;
	long result = 0;
	int i;

	UMS_REQUIRE();
	if (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0))
		SKIP(return, "no membarrier for rseq");
	ASSERT_EQ(0, team_start(&t, 3, 6, counts_in_row));
	ASSERT_TRUE(team_goes_on(&t));
	end = now_ns() + NSEC;
	do {
		STORE(row, !row);
		ASSERT_EQ(0, membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 0, 0));
		was = sum_of_row(!row);
		/* Those that were in a sequence would be through by now. */
		sum = sum_of_row(row);
		ASSERT_TRUE(WAIT_FOR(sum_of_row(row) > sum + 10));
		ASSERT_EQ(was, sum_of_row(!row));
		rounds++;
	} while (rounds < 10 || (rounds < 200 && now_ns() < end));
	STORE(t.stop, 1);
	ASSERT_TRUE(team_join(&t));
	team_books(_metadata, &t);
	for (i = 0; i < 6; i++)
		result += t.w[i].result;
	EXPECT_EQ(result, sum_of_row(0) + sum_of_row(1));
	EXPECT_LT(0, aborts);
}

/* Every command that needs no more than to be registered for, in a worker. */
static void registers_and_calls(struct worker *w)
{
	static const int cmds[][2] = {
		{ MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
		  MEMBARRIER_CMD_PRIVATE_EXPEDITED },
		{ MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE,
		  MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE },
		{ MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ,
		  MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ },
		{ MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED,
		  MEMBARRIER_CMD_GLOBAL_EXPEDITED },
		{ 0, MEMBARRIER_CMD_GLOBAL },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(cmds) && !w->result; i++) {
		if (cmds[i][0])
			w->result = membarrier(cmds[i][0], 0, 0);
		if (!w->result)
			w->result = membarrier(cmds[i][1], 0, 0);
		w->stage = i;
	}
}

TEST(membarrier_by_worker)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	if (membarrier(MEMBARRIER_CMD_QUERY, 0, 0) == -ENOSYS)
		SKIP(return, "no membarrier");
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, registers_and_calls, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_EQ(0, w.result) {
		TH_LOG("command %d", w.stage);
	}
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * Never more user contexts than schedulers: those that are in user mode are
 * counted, schedulers and workers alike, while the workers yield, block, fault,
 * are preempted and get signals.
 */
#include "team.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/rseq.h>

/*
 * The first way. A scheduler counts itself out before it executes a worker, and
 * in again at the upcall. A worker counts itself in and out in a no_upcall
 * region, in which it keeps its scheduler's place. So all together are never more
 * than there are schedulers, at any moment.
 */
static int inside, most, limit, over;
static long sections;

static void count_in(void)
{
	int n = INC(inside) + 1, m = LOAD(most);

	if (n > limit)
		INC(over);
	while (n > m && !__atomic_compare_exchange_n(&most, &m, n, false,
						     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		;
}

static void count_out(void)
{
	__atomic_fetch_sub(&inside, 1, __ATOMIC_ACQ_REL);
}

static void sched_in(struct team_sched *ts)
{
	count_in();
}

static void sched_out(struct team_sched *ts, __u64 id)
{
	count_out();
}

static void sched_in_again(struct team_sched *ts, const struct sched *s)
{
	count_in();
}

static void section(struct worker *w)
{
	struct ums_slot *slot = list_slot(w->list, w->id);
	volatile int i;

	STORE(slot->no_upcall, 1);
	count_in();
	for (i = 0; i < 200; i++)
		;
	count_out();
	INC(sections);
	STORE(slot->no_upcall, 0);
	if (LOAD(slot->attention))
		ums_preempt(w->id, 0);
}

/* Gives back a page, so that to touch it faults. */
static void fault(void *page)
{
	madvise(page, 4096, MADV_DONTNEED);
	*(volatile char *)page = 1;
}

static void counts(struct worker *w)
{
	struct team *t = w->arg;
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i;

	while (!LOAD(t->stop) && !w->stage) {
		for (i = 0; i < 4; i++)
			section(w);
		team_turn(w);
		section(w);
		fault(page);
	}
	if (w->fd[1] >= 0)
		close(w->fd[1]);
}

static void handler(int sig)
{
}

static void in_regions(struct __test_metadata *_metadata, unsigned int scheds,
		       unsigned int workers)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_RESTART };
	struct team t = {
		.slice = MSEC / 2, .setup = sched_in, .before = sched_out,
		.after = sched_in_again,
	};
	__u64 end, nr = 0;

	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	limit = scheds;
	ASSERT_EQ(0, team_start(&t, scheds, workers, counts));
	ASSERT_TRUE(team_goes_on(&t));
	end = now_ns() + NSEC;
	do {
		/* Signals make workers, and schedulers, enter the kernel. */
		syscall(SYS_tgkill, getpid(), t.w[nr++ % workers].tid, SIGUSR1);
		if (nr % 16 == 0)
			syscall(SYS_tgkill, getpid(), t.sched[nr / 16 % scheds].tid,
				SIGUSR1);
		sleep_ns(MSEC / 4);
	} while (now_ns() < end || LOAD(sections) < 500);
	ASSERT_TRUE(team_goes_on(&t));
	TEAM_END(&t);
	EXPECT_EQ(0, over);
	/* It does count: they have all been inside at once. */
	EXPECT_EQ((int)scheds, most);
	/* And schedulers have ended within. */
	EXPECT_EQ((int)scheds, inside);
	TH_LOG("%ld sections, at most %d inside", sections, most);
}

TEST(one_scheduler)
{
	UMS_REQUIRE();
	in_regions(_metadata, 1, 16);
}

TEST(three_schedulers)
{
	UMS_REQUIRE();
	in_regions(_metadata, 3, 24);
}

TEST(more_than_cpus)
{
	UMS_REQUIRE();
	in_regions(_metadata, 7, 24);
}

/*
 * The second way, without regions, so that workers are stopped anywhere. Each
 * scheduler has a counter, of which it tells the worker that it executes. Both
 * increment it without atomic instructions, the worker in a restartable sequence
 * that starts over when it was stopped in it. Increments are lost as soon as two
 * that belong to one scheduler are in user mode at the same time; so none are.
 */
struct line {
	__u64 value;
} __attribute__((aligned(128)));

static struct line counter[TEAM_SCHEDS];
static __u32 whose[64];		/* by slot: the scheduler that executes it */
static __u64 own[TEAM_SCHEDS];	/* increments by the schedulers themselves */
static long aborts;

/* counter[*@index]++, slowly; false when it was aborted. */
static __attribute__((noinline)) bool rseq_count(void *area, volatile __u32 *index)
{
	asm goto(
		".pushsection .data.rseq_cs, \"aw\"\n"
		".balign 32\n"
		"10:	.long 0, 0\n"
		"	.quad 1f, 2f - 1f, 4f\n"
		".popsection\n"
		"	leaq	10b(%%rip), %%rax\n"
		"	movq	%%rax, 8(%[area])\n"
		"1:	movl	(%[index]), %%eax\n"
		"	shlq	$7, %%rax\n"
		"	movq	(%[counter], %%rax), %%rdx\n"
		"	movl	$100, %%ecx\n"
		"3:	decl	%%ecx\n"
		"	jnz	3b\n"
		"	incq	%%rdx\n"
		"	movq	%%rdx, (%[counter], %%rax)\n"
		"2:\n"
		".pushsection .text.unlikely, \"ax\"\n"
		"	.byte	0x0f, 0xb9, 0x3d\n"
		"	.long	%c[sig]\n"
		"4:	jmp	%l[aborted]\n"
		".popsection\n"
		: /* goto has no outputs here */
		: [area] "r" (area), [index] "r" (index), [counter] "r" (counter),
		  [sig] "i" (RSEQ_SIG)
		: "rax", "rcx", "rdx", "memory", "cc"
		: aborted);
	return true;
aborted:
	return false;
}

/* Not a sequence: nobody else is to be there. */
static void sched_counts(unsigned int nr)
{
	volatile __u64 *value = &counter[nr].value;
	volatile int i;
	__u64 was;
	int k;

	for (k = 0; k < 3; k++) {
		was = *value;
		for (i = 0; i < 30; i++)
			;
		*value = was + 1;
		own[nr]++;
	}
}

static void lends(struct team_sched *ts, __u64 id)
{
	sched_counts(ts->nr);
	STORE(whose[UMS_ID_SLOT(id)], ts->nr);
}

static void takes_back(struct team_sched *ts, const struct sched *s)
{
	sched_counts(ts->nr);
}

static void counts_for_scheduler(struct worker *w)
{
	void *area = (char *)__builtin_thread_pointer() + __rseq_offset;
	volatile __u32 *index = &whose[UMS_ID_SLOT(w->id)];
	struct team *t = w->arg;
	long counted = 0;
	int i;

	while (!LOAD(t->stop) && !w->stage) {
		for (i = 0; i < 20; i++) {
			while (!rseq_count(area, index))
				INC(aborts);
			counted++;
		}
		team_turn(w);
	}
	if (w->fd[1] >= 0)
		close(w->fd[1]);
	w->user_data = counted;
}

TEST(stopped_anywhere)
{
	struct team t = {
		.slice = MSEC / 4, .before = lends, .after = takes_back,
	};
	__u64 sum = 0, expected = 0;
	__u64 end;
	int i;

	UMS_REQUIRE();
	if (!__rseq_size)
		SKIP(return, "the C library has not registered rseq");
	ASSERT_EQ(0, team_start(&t, 4, 24, counts_for_scheduler));
	end = now_ns() + NSEC;
	do {
		ASSERT_TRUE(team_goes_on(&t));
	} while (now_ns() < end || LOAD(aborts) < 20);
	TEAM_END(&t);
	for (i = 0; i < 4; i++) {
		sum += counter[i].value;
		expected += own[i];
	}
	for (i = 0; i < 24; i++)
		expected += t.w[i].user_data;
	EXPECT_EQ(expected, sum);
	TH_LOG("%llu increments, %ld aborts", (unsigned long long)sum, aborts);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * Switches in user mode: whatever a context does in the kernel, it does on the thread
 * that it belongs to, wherever it has run before. See kernel/ums/handoff.c.
 */
#include "ums_test.h"

#include <cpuid.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/wait.h>
#include <ucontext.h>

#define WORKERS	4

static struct sched *sched;	/* of the test that runs */

FIXTURE(handoff)
{
	struct list l;
	struct sched s;
	struct worker w[WORKERS];
	__u64 id[WORKERS];
	pid_t tid;
};

FIXTURE_SETUP(handoff)
{
	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&self->l, WORKERS));
	self->tid = self_tid();
	ASSERT_EQ(0, sched_enter_switching(&self->s));
	sched = &self->s;
}

FIXTURE_TEARDOWN(handoff)
{
}

/* A worker that may be switched in user mode, taken from the list. */
#define START(self, n, fn) do {						\
	(self)->w[n].flags = UMS_WORKER_USER_SWITCH;			\
	(self)->id[n] = worker_start_pop(&(self)->w[n], &(self)->l, fn,	\
					 (self)->w);			\
	ASSERT_NE(0, (self)->id[n]);					\
} while (0)

#define STATE(self, n)	slot_state(&(self)->l, (self)->id[n])

/* Runs a worker through the kernel until it has switched out. */
#define RUN_TO_SWITCH(self, n) do {					\
	ASSERT_EQ(0, sched_run(&(self)->s, (self)->id[n], 0));		\
	ASSERT_EVENT(&(self)->s, UMS_UPCALL_YIELDED, (self)->id[n], 0);	\
} while (0)

#define RESUME_TO_SWITCH(self, n) do {					\
	ASSERT_EQ(0, sched_resume(&(self)->s, &(self)->w[n]));		\
	ASSERT_EVENT(&(self)->s, UMS_UPCALL_YIELDED, (self)->id[n], 0);	\
} while (0)

#define RESUME_TO_END(self, n) do {					\
	ASSERT_EQ(0, sched_resume(&(self)->s, &(self)->w[n]));		\
	ASSERT_EVENT(&(self)->s, UMS_UPCALL_EXITED, (self)->id[n], 0);	\
} while (0)

static void switches_out(struct worker *w)
{
	worker_switch_out(w, sched, 0);
	w->result = self_tid();
	worker_switch_out(w, sched, 0);
	w->stage = 1;
}

/* With one worker after another: a preemption takes the scheduler home, too. */
TEST_F(handoff, call_of_the_scheduler)
{
	bool away = false;
	int i;

	for (i = 0; i < WORKERS && !away; i++) {
		START(self, i, switches_out);
		RUN_TO_SWITCH(self, i);
		/* On the worker's thread, until this call. */
		away = STATE(self, i) == UMS_STATE_RUNNING;
		EXPECT_EQ(self->tid, self_tid());
		EXPECT_EQ(UMS_STATE_EMPTY, STATE(self, i));
		EXPECT_EQ(self->tid, self_tid());

		/* On this thread, until its first call. */
		RESUME_TO_SWITCH(self, i);
		EXPECT_EQ(self->w[i].tid, self->w[i].result);
		EXPECT_EQ(self->tid, self_tid());
		RESUME_TO_END(self, i);
		EXPECT_EQ(1, self->w[i].stage);
	}
	EXPECT_TRUE(away);
}

TEST_F(handoff, call_on_another_worker)
{
	int i;

	for (i = 0; i < WORKERS; i++) {
		START(self, i, switches_out);
		RUN_TO_SWITCH(self, i);
	}
	for (i = 0; i < WORKERS; i++) {
		RESUME_TO_SWITCH(self, i);
		EXPECT_EQ(self->w[i].tid, self->w[i].result);
	}
	for (i = 0; i < WORKERS; i++)
		RESUME_TO_END(self, i);
	for (i = 0; i < WORKERS; i++)
		EXPECT_EQ(1, self->w[i].stage);
}

/* Two workers that switch to each other, and to nobody else. */
static void ping(struct worker *w)
{
	struct worker *all = w->arg;
	struct worker *other = &all[w == &all[0]];

	worker_switch_out(w, sched, 0);
	for (w->stage = 0; w->stage < 10000; w->stage++)
		worker_switch_to(w, other);
	worker_switch_out(w, sched, 0);
}

/* Without the kernel, and without it noticing. */
TEST_F(handoff, many_switches)
{
	struct ums_info before, after;
	int i;

	for (i = 0; i < 2; i++) {
		START(self, i, ping);
		RUN_TO_SWITCH(self, i);
	}
	EXPECT_EQ(self->tid, self_tid());
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, self->id[0], &before, sizeof(before)));
	ASSERT_EQ(0, sched_resume(&self->s, &self->w[0]));
	ASSERT_EVENT(&self->s, UMS_UPCALL_YIELDED, self->id[0], 0);
	EXPECT_EQ(10000, self->w[0].stage);
	EXPECT_LE(9999, self->w[1].stage);
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, self->id[0], &after, sizeof(after)));
	/* For a preemption now and then, at most. */
	EXPECT_GT(100, after.handoffs - before.handoffs);
	RESUME_TO_SWITCH(self, 1);
	RESUME_TO_END(self, 0);
	RESUME_TO_END(self, 1);
}

static void ping_calls(struct worker *w)
{
	struct worker *all = w->arg;
	struct worker *other = &all[w == &all[0]];

	worker_switch_out(w, sched, 0);
	for (w->stage = 0; w->stage < 1000; w->stage++) {
		if (self_tid() != w->tid)
			w->result++;
		worker_switch_to(w, other);
	}
	worker_switch_out(w, sched, 0);
}

/* Each call on the right thread, and most of them made in place. */
TEST_F(handoff, many_calls)
{
	struct ums_info info;
	int i;

	for (i = 0; i < 2; i++) {
		START(self, i, ping_calls);
		RUN_TO_SWITCH(self, i);
	}
	RESUME_TO_SWITCH(self, 0);
	RESUME_TO_SWITCH(self, 1);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, self->w[i].result);
		EXPECT_EQ(1000, self->w[i].stage);
		ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, self->id[i], &info, sizeof(info)));
		EXPECT_LE(998, info.handoffs);
		EXPECT_LE(900, info.in_place);
		EXPECT_GE(info.handoffs, info.in_place);
	}
	RESUME_TO_END(self, 0);
	RESUME_TO_END(self, 1);
}

/* By the entry of 32-bit programs, whose calls have other numbers. */
static long getpid_32(void)
{
	long ret;

	asm volatile("int $0x80" : "=a" (ret) : "a" (20) : "memory", "r8", "r9", "r10", "r11");
	return ret;
}

static bool has_32(void)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(getpid_32() != getpid());
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

static pid_t process;

static void ping_calls_32(struct worker *w)
{
	struct worker *all = w->arg;
	bool first = w == &all[0];

	worker_switch_out(w, sched, 0);
	for (w->stage = 0; w->stage < 1000; w->stage++) {
		if (first ? getpid_32() != process : self_tid() != w->tid)
			w->result++;
		worker_switch_to(w, &all[first]);
	}
	worker_switch_out(w, sched, 0);
}

/* Who waits in the one entry does not make a call of the other in place. */
TEST_F(handoff, calls_of_two_kinds)
{
	int i;

	if (!has_32())
		SKIP(return, "no 32-bit system calls");
	process = getpid();
	for (i = 0; i < 2; i++) {
		START(self, i, ping_calls_32);
		RUN_TO_SWITCH(self, i);
	}
	RESUME_TO_SWITCH(self, 0);
	RESUME_TO_SWITCH(self, 1);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, self->w[i].result);
		EXPECT_EQ(1000, self->w[i].stage);
		RESUME_TO_END(self, i);
	}
}

static void reads(struct worker *w)
{
	char c;

	worker_switch_out(w, sched, 0);
	w->result = read(w->fd[0], &c, 1);
	w->stage = 1;
	worker_switch_out(w, sched, 0);
}

/* It is the worker that blocks, not its carrier. */
TEST_F(handoff, blocks)
{
	START(self, 0, reads);
	START(self, 1, switches_out);
	ASSERT_EQ(0, pipe(self->w[0].fd));
	RUN_TO_SWITCH(self, 0);
	RUN_TO_SWITCH(self, 1);
	/* On the thread of the second one. */
	ASSERT_EQ(0, sched_resume(&self->s, &self->w[0]));
	ASSERT_EVENT(&self->s, UMS_UPCALL_BLOCKED, self->id[0], SYS_read);
	EXPECT_EQ(UMS_STATE_EMPTY, STATE(self, 1));
	EXPECT_EQ(self->tid, self_tid());
	ASSERT_EQ(1, write(self->w[0].fd[1], "x", 1));
	ASSERT_EQ(self->id[0], list_pop_wait(&self->l));
	RUN_TO_SWITCH(self, 0);
	EXPECT_EQ(1, self->w[0].result);
	RESUME_TO_END(self, 0);
	RESUME_TO_SWITCH(self, 1);
	RESUME_TO_END(self, 1);
}

static void touches(struct worker *w)
{
	struct rusage before, after;
	char *page;

	munlockall();
	page = mmap(NULL, 4096 * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	getrusage(RUSAGE_THREAD, &before);
	worker_switch_out(w, sched, 0);
	page[0] = 1;
	worker_switch_out(w, sched, 0);
	page[4096] = 1;
	getrusage(RUSAGE_THREAD, &after);
	w->result = after.ru_minflt - before.ru_minflt;
	worker_switch_out(w, sched, 0);
}

/* With one worker after another, likewise. */
TEST_F(handoff, page_faults)
{
	const int carrier = WORKERS - 1;
	bool away = false;
	int i;

	START(self, carrier, switches_out);
	for (i = 0; i < carrier && !away; i++) {
		START(self, i, touches);
		RUN_TO_SWITCH(self, i);
		if (i == 0)
			RUN_TO_SWITCH(self, carrier);
		RESUME_TO_SWITCH(self, i);
		/* It went home for it, and stayed there. */
		away = STATE(self, i) == UMS_STATE_RUNNING;
		EXPECT_EQ(UMS_STATE_EMPTY, STATE(self, carrier));
		EXPECT_EQ(self->tid, self_tid());
		RESUME_TO_SWITCH(self, i);
		EXPECT_LE(2, self->w[i].result);
		RESUME_TO_END(self, i);
	}
	EXPECT_TRUE(away);
	RESUME_TO_SWITCH(self, carrier);
	RESUME_TO_END(self, carrier);
}

/* A synchronous signal: the thread, the address, and the registers are the worker's. */
static struct {
	int sig;
	pid_t tid;
	void *addr;
	unsigned long ip;
	unsigned long trap;
} caught;

static void catches(int sig, siginfo_t *info, void *arg)
{
	ucontext_t *uc = arg;

	caught.sig = sig;
	caught.tid = self_tid();
	caught.addr = info->si_addr;
	caught.ip = uc->uc_mcontext.gregs[REG_RIP];
	caught.trap = uc->uc_mcontext.gregs[REG_TRAPNO];
	if (sig != SIGTRAP)
		uc->uc_mcontext.gregs[REG_RIP] = uc->uc_mcontext.gregs[REG_RCX];
}

static const int faults[] = { SIGSEGV, SIGILL, SIGFPE, SIGTRAP };
/* Page fault, invalid opcode, divide error, breakpoint. */
static const unsigned long traps[] = { 14, 6, 0, 3 };

static void faults_away(struct worker *w)
{
	worker_switch_out(w, sched, 0);
	switch (faults[w->stage]) {
	case SIGSEGV:
		asm volatile("lea 1f(%%rip), %%rcx; movb $0, 0x123; 1:" ::: "rcx", "memory");
		break;
	case SIGILL:
		asm volatile("lea 1f(%%rip), %%rcx; ud2; 1:" ::: "rcx", "memory");
		break;
	case SIGFPE:
		asm volatile("lea 1f(%%rip), %%rcx; xor %%eax, %%eax; xor %%edx, %%edx;"
			     "idiv %%eax; 1:" ::: "rax", "rcx", "rdx", "memory");
		break;
	case SIGTRAP:
		asm volatile("int3" ::: "memory");
		break;
	}
	w->result = 1;
	worker_switch_out(w, sched, 0);
}

TEST_F(handoff, exceptions)
{
	struct sigaction sa = { .sa_sigaction = catches, .sa_flags = SA_SIGINFO };
	struct ums_info before, after;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(faults); i++) {
		memset(&self->w[0], 0, sizeof(self->w[0]));
		memset(&self->w[1], 0, sizeof(self->w[1]));
		memset(&caught, 0xff, sizeof(caught));
		ASSERT_EQ(0, sigaction(faults[i], &sa, NULL));
		self->w[0].stage = i;
		START(self, 0, faults_away);
		START(self, 1, switches_out);
		RUN_TO_SWITCH(self, 0);
		RUN_TO_SWITCH(self, 1);
		ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, self->id[0], &before, sizeof(before)));
		/* On the thread of the scheduler first, then on that of the other worker. */
		if (i % 2)
			RESUME_TO_SWITCH(self, 1);
		RESUME_TO_SWITCH(self, 0);
		ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, self->id[0], &after, sizeof(after)));
		/* Home for the exception, not for a call in its handler. */
		EXPECT_EQ(before.handoffs + 1, after.handoffs);
		EXPECT_EQ(before.in_place, after.in_place);
		EXPECT_EQ(1, self->w[0].result);
		EXPECT_EQ(faults[i], caught.sig);
		EXPECT_EQ(self->w[0].tid, caught.tid);
		EXPECT_EQ(traps[i], caught.trap);
		if (faults[i] == SIGSEGV) {
			EXPECT_EQ((void *)0x123, caught.addr);
		} else if (faults[i] != SIGTRAP) {
			EXPECT_EQ(caught.ip, (unsigned long)caught.addr);
		}
		EXPECT_EQ(self->tid, self_tid());
		if (!(i % 2))
			RESUME_TO_SWITCH(self, 1);
		RESUME_TO_END(self, 0);
		RESUME_TO_END(self, 1);
		pthread_join(self->w[0].thread, NULL);
		pthread_join(self->w[1].thread, NULL);
	}
}

/* Vector registers, which a system call keeps, and what they hold. */
static inline void set_xmm(unsigned long v)
{
	asm volatile("movq %0, %%xmm8; punpcklqdq %%xmm8, %%xmm8; movdqa %%xmm8, %%xmm15"
		     :: "r" (v) : "xmm8", "xmm15");
}

static inline long call_with_xmm(long nr, unsigned long v, unsigned long *lost)
{
	unsigned long a, b;
	long ret = nr;

	asm volatile("movq %[v], %%xmm8; punpcklqdq %%xmm8, %%xmm8; movdqa %%xmm8, %%xmm15;"
		     "syscall;"
		     "movq %%xmm8, %[a]; psrldq $8, %%xmm15; movq %%xmm15, %[b]"
		     : "+a" (ret), [a] "=&r" (a), [b] "=&r" (b)
		     : [v] "r" (v)
		     : "rcx", "r11", "xmm8", "xmm15", "memory");
	*lost += (a != v) + (b != v);
	return ret;
}

static void keeps_vectors(struct worker *w)
{
	struct worker *all = w->arg;
	struct worker *other = &all[w == &all[0]];
	unsigned long lost = 0;

	worker_switch_out(w, sched, 0);
	for (w->stage = 0; w->stage < 1000; w->stage++) {
		if (call_with_xmm(SYS_gettid, w->id * 7919 + w->stage, &lost) != w->tid)
			lost++;
		set_xmm(0);
		worker_switch_to(w, other);
	}
	w->result = lost;
	worker_switch_out(w, sched, 0);
}

TEST_F(handoff, vector_registers)
{
	int i;

	for (i = 0; i < 2; i++) {
		START(self, i, keeps_vectors);
		RUN_TO_SWITCH(self, i);
	}
	RESUME_TO_SWITCH(self, 0);
	RESUME_TO_SWITCH(self, 1);
	EXPECT_EQ(0, self->w[0].result);
	EXPECT_EQ(0, self->w[1].result);
	RESUME_TO_END(self, 0);
	RESUME_TO_END(self, 1);
}

#define ALL_YMM(op)							\
	op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7)			\
	op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define LOAD_YMM(n)	"vmovdqu 32*" #n "(%[in]), %%ymm" #n ";"
#define STORE_YMM(n)	"vmovdqu %%ymm" #n ", 32*" #n "(%[out]);"

/* Takes a page fault with all of them in use. Another function, for the sake of the ABI. */
static __attribute__((noinline)) bool fault_with_ymm(volatile char *page, unsigned char pattern)
{
	unsigned char in[16 * 32], out[16 * 32] = {};
	unsigned int i;

	for (i = 0; i < sizeof(in); i++)
		in[i] = pattern + 3 * i;
	asm volatile(ALL_YMM(LOAD_YMM) "movb $1, (%[page]);" ALL_YMM(STORE_YMM) "vzeroall"
		     : : [in] "r" (in), [out] "r" (out), [page] "r" (page)
		     : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
		       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	return !memcmp(in, out, sizeof(in));
}

static void faults_with_ymm(struct worker *w)
{
	struct worker *all = w->arg;
	int first = w == &all[0];
	struct worker *other = &all[first];
	unsigned long lost = 0;
	char *page;

	munlockall();
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	worker_switch_out(w, sched, 0);
	for (w->stage = 0; w->stage < 500; w->stage++) {
		/* The call brings it home, the switch away again: then it faults there. */
		madvise(page, 4096, MADV_DONTNEED);
		worker_switch_to(w, other);
		if (!fault_with_ymm(page, 31 * w->stage + first))
			lost++;
	}
	w->result = lost;
	worker_switch_out(w, sched, 0);
}

TEST_F(handoff, vector_registers_across_faults)
{
	struct ums_info info[2];
	int i;

	if (!__builtin_cpu_supports("avx"))
		SKIP(return, "this CPU has no AVX");
	for (i = 0; i < 2; i++) {
		START(self, i, faults_with_ymm);
		RUN_TO_SWITCH(self, i);
	}
	/* Whatever the kernel has them wait for meanwhile. */
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, sched_resume(&self->s, &self->w[i]));
		while (self->s.reason == UMS_UPCALL_BLOCKED)
			ASSERT_EQ(0, sched_run(&self->s, list_pop_wait(&self->l), 0));
		ASSERT_EQ(UMS_UPCALL_YIELDED, self->s.reason);
	}
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, self->w[i].result);
		EXPECT_EQ(500, self->w[i].stage);
		ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, self->id[i], &info[i], sizeof(info[i])));
	}
	/* Those of the pages, besides those of the calls. */
	EXPECT_LT(900, info[0].handoffs + info[1].handoffs);
	RESUME_TO_END(self, 0);
	RESUME_TO_END(self, 1);
}

/* Rights to pages of a key that there are none of. */
static bool has_pkeys(void)
{
	unsigned int a, b, c = 0, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && c & bit_OSPKE;
}

static unsigned int rights(void)
{
	unsigned int a, d;

	asm volatile("rdpkru" : "=a" (a), "=d" (d) : "c" (0));
	return a >> 30;
}

static void set_rights(unsigned int v)
{
	unsigned int a, d;

	asm volatile("rdpkru" : "=a" (a), "=d" (d) : "c" (0));
	asm volatile("wrpkru" : : "a" ((a & ~(3U << 30)) | v << 30), "c" (0), "d" (0));
}

static void keeps_rights(struct worker *w)
{
	struct worker *all = w->arg;
	struct worker *other = &all[w == &all[0]];
	unsigned int mine = w == &all[0] ? 1 : 2;
	volatile char *page;

	munlockall();
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	worker_switch_out(w, sched, 0);
	for (w->stage = 0; w->stage < 400; w->stage++) {
		/* A switch leaves them as they are: those of the other one. */
		set_rights(mine);
		if (w->stage % 2) {
			page[0]++;
			w->result += rights() != mine;
		} else {
			w->result += self_tid() != w->tid || rights() != mine;
			madvise((void *)page, 4096, MADV_DONTNEED);
			w->result += rights() != mine;
		}
		worker_switch_to(w, other);
	}
	set_rights(1);
	worker_switch_out(w, sched, 0);
}

TEST_F(handoff, rights_of_protection_keys)
{
	struct ums_info info;
	int i;

	if (!has_pkeys())
		SKIP(return, "no protection keys");
	set_rights(1);
	for (i = 0; i < 2; i++) {
		START(self, i, keeps_rights);
		RUN_TO_SWITCH(self, i);
	}
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, sched_resume(&self->s, &self->w[i]));
		while (self->s.reason == UMS_UPCALL_BLOCKED)
			ASSERT_EQ(0, sched_run(&self->s, list_pop_wait(&self->l), 0));
		ASSERT_EQ(UMS_UPCALL_YIELDED, self->s.reason);
	}
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, self->w[i].result);
		EXPECT_EQ(400, self->w[i].stage);
		ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, self->id[i], &info, sizeof(info)));
		EXPECT_LE(300, info.handoffs);
		RESUME_TO_END(self, i);
	}
}

static int pin(pid_t tid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(tid, sizeof(set), &set);
}

#define MOVES	20

static void looks_where(struct worker *w)
{
	struct rseq *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
	unsigned int cpu, is;

	for (w->stage = 0; w->stage < MOVES; w->stage++) {
		worker_switch_out(w, sched, 0);
		getppid();
		cpu = LOAD(area->cpu_id);
		/* The C library would look into that area, too. */
		if (!syscall(SYS_getcpu, &is, NULL, NULL) && is == (w->stage + 1) % 2U &&
		    cpu == is)
			w->result++;
	}
	worker_switch_out(w, sched, 0);
}

/* Moved while it is EMPTY, it finds where it is in its rseq area after the first call. */
TEST_F(handoff, moved_while_saved)
{
	int i;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	START(self, 0, looks_where);
	ASSERT_EQ(0, pin(self->w[0].tid, 0));
	RUN_TO_SWITCH(self, 0);
	for (i = 0; i < MOVES; i++) {
		ASSERT_EQ(0, pin(self->w[0].tid, (i + 1) % 2));
		ASSERT_EQ(UMS_STATE_EMPTY, STATE(self, 0));
		RESUME_TO_SWITCH(self, 0);
	}
	EXPECT_EQ(MOVES, self->w[0].result);
	RESUME_TO_END(self, 0);
}

/* Until it is told to end, by stage 3. */
static void spins_away(struct worker *w)
{
	worker_switch_out(w, sched, 0);
	while (LOAD(w->stage) != 3) {
		STORE(w->stage, 1);
		/* The clock is read in the vDSO. */
		w->result = SPIN_FOR(LOAD(w->stage) == 2);
		worker_switch_out(w, sched, 0);
	}
}

/* Its thread is the carrier of what follows; likewise. */
static void lends_thread(struct worker *w)
{
	struct rusage usage;

	while (LOAD(w->stage) != 3) {
		getrusage(RUSAGE_THREAD, &usage);
		w->result = usage.ru_nivcsw;
		worker_switch_out(w, sched, 0);
	}
}

/* Of those by which a CPU is told to look what there is to do; -1: not to be seen. */
static long interrupts_of_cpu_0(void)
{
	static char text[65536];
	char *p;

	if (read_text("/proc/interrupts", text, sizeof(text)) < 0)
		return -1;
	p = strstr(text, "RES:");
	return p ? atol(p + 4) : -1;
}

static long interrupts;		/* before somebody acts on the one that is away */

/*
 * Was the carrier told to hand off? Sooner or later it does anyway, when it is preempted,
 * or has other work of the kernel: but then it is not interrupted, or does not go to sleep
 * by itself.
 */
static bool told(struct worker *carrier)
{
	char path[64], text[4096], value[64];

	if (interrupts_of_cpu_0() <= interrupts)
		return false;
	snprintf(path, sizeof(path), "/proc/self/task/%d/status", carrier->tid);
	return read_text(path, text, sizeof(text)) > 0 &&
	       text_value(text, "nonvoluntary_ctxt_switches", value, sizeof(value)) &&
	       atol(value) == carrier->result;
}

/*
 * Two workers, of which the one is about to be on the thread of the other. That has CPU 0
 * for itself, if there are several, which is what told() is about.
 */
#define APART(self) do {						\
	START(self, 0, spins_away);					\
	START(self, 1, lends_thread);					\
	several = sysconf(_SC_NPROCESSORS_ONLN) > 1 && interrupts_of_cpu_0() >= 0; \
	if (several) {							\
		ASSERT_EQ(0, pin(0, 1));				\
		ASSERT_EQ(0, pin((self)->w[0].tid, 1));			\
		ASSERT_EQ(0, pin((self)->w[1].tid, 0));			\
	}								\
	RUN_TO_SWITCH(self, 0);						\
	RUN_TO_SWITCH(self, 1);						\
} while (0)

/* It may be otherwise by chance, in one try or another. */
#define TRIES	100
#define TOLD	10

static void *preempts(void *arg)
{
	struct worker *w = arg;
	long ret = -1;

	if (WAIT_FOR(LOAD(w->stage) == 1)) {
		interrupts = interrupts_of_cpu_0();
		ret = ums_preempt(w->id, 0);
	}
	return (void *)ret;
}

static void *preempts_carrier(void *arg)
{
	struct worker *w = arg;
	long ret = -1;

	if (WAIT_FOR(LOAD(w[0].stage) == 1))
		ret = ums_preempt(w[1].id, 0);
	STORE(w[0].stage, 2);
	return (void *)ret;
}

/* By its own id, though the kernel sees another one run. */
TEST_F(handoff, preempted)
{
	int i, ntold = 0;
	bool several;
	pthread_t t;
	void *ret;

	APART(self);
	for (i = 0; i < TRIES && ntold < TOLD; i++) {
		self->w[0].stage = 0;
		/* Before: a call now would take the scheduler home. */
		ASSERT_EQ(0, thread_start(&t, preempts, &self->w[0]));
		RESUME_TO_SWITCH(self, 1);
		ASSERT_EQ(0, sched_resume(&self->s, &self->w[0]));
		ASSERT_EVENT(&self->s, UMS_UPCALL_PREEMPTED, self->id[0], UMS_PREEMPT_ASKED);
		ASSERT_EQ(0, pthread_join(t, &ret));
		ASSERT_EQ(NULL, ret);
		ASSERT_EQ(self->id[0], list_pop(&self->l));
		STORE(self->w[0].stage, 2);
		RUN_TO_SWITCH(self, 0);
		ASSERT_EQ(1, self->w[0].result);
		ntold += !several || told(&self->w[1]);
	}
	EXPECT_EQ(TOLD, ntold);
	for (i = 0; i < 2; i++) {
		STORE(self->w[i].stage, 3);
		RESUME_TO_END(self, i);
	}
}

/* The carrier itself is asked to stop: that waits for its context. */
TEST_F(handoff, preempted_while_carrier)
{
	pthread_t t;
	void *ret;

	START(self, 0, spins_away);
	START(self, 1, switches_out);
	RUN_TO_SWITCH(self, 0);
	RUN_TO_SWITCH(self, 1);
	self->w[1].stage = 0;
	ASSERT_EQ(0, thread_start(&t, preempts_carrier, self->w));
	RESUME_TO_SWITCH(self, 0);
	EXPECT_EQ(1, self->w[0].result);
	ASSERT_EQ(0, pthread_join(t, &ret));
	EXPECT_EQ(NULL, ret);
	/* It may have been nobody's carrier any more, for a preemption in between. */
	EXPECT_EQ(UMS_STATE_EMPTY, STATE(self, 1));
	EXPECT_EQ(UMS_ATTN_PREEMPT, list_slot(&self->l, self->id[1])->attention);
	/* With its next call. */
	ASSERT_EQ(0, sched_resume(&self->s, &self->w[1]));
	ASSERT_EVENT(&self->s, UMS_UPCALL_PREEMPTED, self->id[1], UMS_PREEMPT_ASKED);
	EXPECT_EQ(0, list_slot(&self->l, self->id[1])->attention);
	ASSERT_EQ(self->id[1], list_pop(&self->l));
	RUN_TO_SWITCH(self, 1);
	STORE(self->w[0].stage, 3);
	RESUME_TO_END(self, 0);
	RESUME_TO_END(self, 1);
}

/* To the one that is stopped, each time it has the thread. */
static void yields_to_other(struct worker *w)
{
	struct worker *all = w->arg;

	for (ums_yield(1, 0); LOAD(w->stage) != 3; ums_yield(1, 0))
		worker_switch_to(w, &all[0]);
}

/* A slice goes on with whoever is switched to. */
TEST_F(handoff, slice_goes_on)
{
	int i;

	START(self, 0, spins_away);
	START(self, 1, yields_to_other);
	RUN_TO_SWITCH(self, 0);
	ASSERT_EQ(0, sched_run(&self->s, self->id[1], 0));
	ASSERT_EVENT(&self->s, UMS_UPCALL_YIELDED, self->id[1], 1);
	for (i = 0; i < 5; i++) {
		self->w[0].stage = 0;
		ASSERT_EQ(0, sched_run(&self->s, self->id[1], 500 * MSEC));
		ASSERT_EVENT(&self->s, UMS_UPCALL_PREEMPTED, self->id[0], UMS_PREEMPT_SLICE);
		ASSERT_EQ(self->id[0], list_pop(&self->l));
		/* Both to where they were before. */
		STORE(self->w[0].stage, 2);
		RUN_TO_SWITCH(self, 0);
		ASSERT_EQ(0, sched_resume(&self->s, &self->w[1]));
		ASSERT_EVENT(&self->s, UMS_UPCALL_YIELDED, self->id[1], 1);
	}
	STORE(self->w[0].stage, 3);
	STORE(self->w[1].stage, 3);
	RESUME_TO_END(self, 0);
	EXPECT_EQ(0, worker_run_to_end(&self->s, &self->l, self->id[1]));
}

static int handled;
static pid_t handled_by;

static void handles(int sig)
{
	handled_by = self_tid();
	INC(handled);
}

static void *sends(void *arg)
{
	struct worker *w = arg;
	long ret = -1;

	if (WAIT_FOR(LOAD(w->stage) == 1)) {
		interrupts = interrupts_of_cpu_0();
		ret = syscall(SYS_tgkill, getpid(), w->tid, SIGUSR1);
	}
	if (!WAIT_FOR(LOAD(handled)))
		ret = -2;
	STORE(w->stage, 2);
	return (void *)ret;
}

/* It runs on the thread of another worker when the signal comes. */
TEST_F(handoff, signal_while_away)
{
	int i, ntold = 0;
	bool several;
	pthread_t t;
	void *ret;

	signal(SIGUSR1, handles);
	APART(self);
	for (i = 0; i < TRIES && ntold < TOLD; i++) {
		self->w[0].stage = 0;
		handled = 0;
		ASSERT_EQ(0, thread_start(&t, sends, &self->w[0]));
		RESUME_TO_SWITCH(self, 1);
		RESUME_TO_SWITCH(self, 0);
		ASSERT_EQ(1, self->w[0].result);
		EXPECT_EQ(1, handled);
		EXPECT_EQ(self->w[0].tid, handled_by);
		ASSERT_EQ(0, pthread_join(t, &ret));
		ASSERT_EQ(NULL, ret);
		ntold += !several || told(&self->w[1]);
	}
	EXPECT_EQ(TOLD, ntold);
	for (i = 0; i < 2; i++) {
		STORE(self->w[i].stage, 3);
		RESUME_TO_END(self, i);
	}
}

/* On the thread of the scheduler, of which the kernel knows no worker then; likewise. */
TEST_F(handoff, signal_on_the_scheduler)
{
	struct worker carrier = { .tid = self->tid };
	struct rusage usage;
	int i, ntold = 0;
	bool several;
	pthread_t t;
	void *ret;

	signal(SIGUSR1, handles);
	START(self, 0, spins_away);
	several = sysconf(_SC_NPROCESSORS_ONLN) > 1 && interrupts_of_cpu_0() >= 0;
	if (several)
		ASSERT_EQ(0, pin(self->w[0].tid, 1));
	RUN_TO_SWITCH(self, 0);
	for (i = 0; i < TRIES && ntold < TOLD; i++) {
		self->w[0].stage = 0;
		handled = 0;
		/* Who sends is to be elsewhere. */
		if (several)
			ASSERT_EQ(0, pin(0, 1));
		ASSERT_EQ(0, thread_start(&t, sends, &self->w[0]));
		if (several)
			ASSERT_EQ(0, pin(0, 0));
		ASSERT_EQ(0, getrusage(RUSAGE_THREAD, &usage));
		carrier.result = usage.ru_nivcsw;
		RESUME_TO_SWITCH(self, 0);
		ASSERT_EQ(1, self->w[0].result);
		EXPECT_EQ(1, handled);
		EXPECT_EQ(self->w[0].tid, handled_by);
		ASSERT_EQ(0, pthread_join(t, &ret));
		ASSERT_EQ(NULL, ret);
		ntold += !several || told(&carrier);
	}
	EXPECT_EQ(TOLD, ntold);
	STORE(self->w[0].stage, 3);
	RESUME_TO_END(self, 0);
}

/* Its context is saved when the signal comes: it waits, and its slot says so. */
TEST_F(handoff, signal_while_saved)
{
	signal(SIGUSR1, handles);
	START(self, 0, switches_out);
	RUN_TO_SWITCH(self, 0);
	EXPECT_EQ(0, list_slot(&self->l, self->id[0])->attention);
	ASSERT_EQ(0, syscall(SYS_tgkill, getpid(), self->w[0].tid, SIGUSR1));
	EXPECT_TRUE(WAIT_FOR(LOAD(list_slot(&self->l, self->id[0])->attention) &
			     UMS_ATTN_SIGNAL));
	EXPECT_EQ(0, handled);
	/* With its next call. */
	RESUME_TO_SWITCH(self, 0);
	EXPECT_EQ(1, handled);
	EXPECT_EQ(self->w[0].tid, handled_by);
	EXPECT_EQ(0, list_slot(&self->l, self->id[0])->attention);
	RESUME_TO_END(self, 0);
}

/*
 * A thread that waits in the entry of a call, which it has left to another, makes its own
 * there under the filter that has been put on it meanwhile.
 */
static long refuse_getpriority(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = ARRAY_SIZE(code), .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return ums_ret(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			       SECCOMP_FILTER_FLAG_TSYNC, &prog));
}

static void asks_priority(struct worker *w)
{
	worker_switch_out(w, sched, 0);
	w->result = ums_ret(syscall(SYS_getpriority, PRIO_PROCESS, 0));
	worker_switch_out(w, sched, 0);
}

enum filtered { REFUSED, ALLOWED, NOT_IN_PLACE, BROKEN };

static enum filtered filter_who_waits(void)
{
	struct worker w[2] = {};
	struct ums_info before, after;
	struct sched s;
	struct list l;
	__u64 id[2];
	int i;

	sched = &s;
	if (lock_memory() || pipe(w[0].fd) || list_open(&l, 2) || sched_enter_switching(&s))
		return BROKEN;
	for (i = 0; i < 2; i++) {
		w[i].flags = UMS_WORKER_USER_SWITCH;
		id[i] = worker_start_pop(&w[i], &l, i ? asks_priority : reads, w);
		if (!id[i])
			return BROKEN;
	}
	for (i = 0; i < 2; i++)
		if (sched_run(&s, id[i], 0) || s.reason != UMS_UPCALL_YIELDED)
			return BROKEN;
	/* On the thread of the second one, if nothing has taken the scheduler home. */
	if (sched_resume(&s, &w[0]) || s.reason != UMS_UPCALL_BLOCKED || s.worker != id[0])
		return BROKEN;
	if (ums_query(UMS_QUERY_WORKER, id[1], &before, sizeof(before)) || refuse_getpriority())
		return BROKEN;
	if (sched_resume(&s, &w[1]) || s.reason != UMS_UPCALL_YIELDED || s.worker != id[1])
		return BROKEN;
	if (ums_query(UMS_QUERY_WORKER, id[1], &after, sizeof(after)))
		return BROKEN;
	if (w[1].result != -EPERM)
		return ALLOWED;
	return after.in_place == before.in_place + 1 ? REFUSED : NOT_IN_PLACE;
}

TEST(filter_in_place)
{
	int i, status = -1;
	pid_t pid;

	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	/* A preemption in between, and it waits elsewhere, or calls by itself. */
	for (i = 0; i < 50; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		/* The filter stays. */
		if (!pid)
			_exit(filter_who_waits());
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		if (status != NOT_IN_PLACE << 8)
			break;
	}
	EXPECT_EQ(REFUSED << 8, status);
}

/*
 * Thread pointers that name nobody who could go on here: in a process of its own, which
 * is killed for it.
 */
static void *plain_thread(void *arg)
{
	STORE(*(unsigned long *)arg, (unsigned long)__builtin_thread_pointer());
	pause();
	return NULL;
}

static void yields(struct worker *w)
{
	ums_yield(0, 0);
}

/* Another scheduler, which waits for the worker that it runs: vacant, but not for us. */
static void sleeps_silently(struct worker *w)
{
	list_slot(w->list, w->id)->no_upcall = 1;
	STORE(*(unsigned long *)w->arg, ((struct sched *)w->result)->tp);
	pause();
}

static void *runs_another(void *arg)
{
	static struct worker w;
	static struct sched s;
	static struct list l;
	__u64 id;

	if (list_open(&l, 1) || sched_enter_switching(&s))
		_exit(2);
	w.result = (long)&s;
	id = worker_start_pop(&w, &l, sleeps_silently, arg);
	while (id && !sched_run(&s, id, 0) && s.reason == UMS_UPCALL_BLOCKED)
		id = list_pop_wait(&l);
	_exit(2);
}

/* A worker that such a scheduler runs, in user mode; and one that it has seen go to sleep. */
static void computes(struct worker *w)
{
	STORE(*(unsigned long *)w->arg, w->tp);
	for (;;)
		;
}

static void sleeps(struct worker *w)
{
	pause();
}

static void *runs_worker(void *arg)
{
	static struct worker w = { .flags = UMS_WORKER_USER_SWITCH };
	static struct sched s;
	static struct list l;
	__u64 id;

	if (list_open(&l, 1) || sched_enter_switching(&s))
		_exit(2);
	id = worker_start_pop(&w, &l, computes, arg);
	while (id && !sched_run(&s, id, 0) && s.reason == UMS_UPCALL_BLOCKED)
		id = list_pop_wait(&l);
	_exit(2);
}

/* Until it stays asleep. */
static unsigned long blocked_worker(struct sched *s)
{
	static struct worker w = { .flags = UMS_WORKER_USER_SWITCH };
	static struct list l;
	__u64 id;

	if (list_open(&l, 1))
		_exit(2);
	for (id = worker_start_pop(&w, &l, sleeps, NULL); id; id = list_pop_wait(&l))
		if (sched_run(s, id, 0) || s->reason != UMS_UPCALL_BLOCKED)
			_exit(2);
		else if (s->detail == SYS_pause)
			break;
	return w.tp;
}

/* An ordinary thread again, since its list is closed. */
static void waits_to_end(struct worker *w)
{
	for (;;)
		pause();
}

static unsigned long worker_of_closed_list(void)
{
	static struct worker w = { .flags = UMS_WORKER_USER_SWITCH };
	struct list l;

	if (list_open(&l, 1) || !worker_start_pop(&w, &l, waits_to_end, NULL))
		_exit(2);
	list_close(&l);
	if (!WAIT_FOR(thread_sleeps_in(w.tid, SYS_pause)))
		_exit(2);
	return w.tp;
}

static unsigned long plain_worker(void)
{
	static struct worker w;
	static struct list l;

	if (list_open(&l, 1) || !worker_start_pop(&w, &l, yields, NULL))
		_exit(2);
	return w.tp;
}

enum forgery {
	NOTHING, GARBAGE, ZERO_PAGE, KERNEL, OTHER_PROCESS, HELD_WORKER, BLOCKED_WORKER,
	RUNNING_WORKER, PLAIN_WORKER, PLAIN_THREAD, ENDED_WORKER, WORKER_OF_CLOSED_LIST, SCHEDULER,
	FORGERIES
};

/* In the parent: a worker that is EMPTY there, on a stack that no thread of a child gets. */
static struct worker of_parent = { .flags = UMS_WORKER_USER_SWITCH };

static void *is_empty(void *arg)
{
	struct ums_worker_args args = { .flags = UMS_WORKER_USER_SWITCH };
	struct worker *w = arg;

	w->tid = self_tid();
	w->tp = (unsigned long)__builtin_thread_pointer();
	w->id = ums_worker_enter(w->list->fd, &args, sizeof(args));
	switches_out(w);
	return NULL;
}

static int start_in_parent(struct list *l)
{
	const size_t size = 256 * 1024;
	pthread_attr_t attr;
	void *stack;

	of_parent.list = l;
	stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return pthread_attr_init(&attr) ?: pthread_attr_setstack(&attr, stack, size) ?:
	       pthread_create(&of_parent.thread, &attr, is_empty, &of_parent);
}

static unsigned long forge(enum forgery how, struct sched *s, struct worker *held,
			   struct worker *ended)
{
	static unsigned long tp;
	pthread_t t;

	switch (how) {
	case GARBAGE:
		return 0x123450000;
	case ZERO_PAGE:
		return (unsigned long)mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	case KERNEL:
		return 0xffff888000000000;
	case OTHER_PROCESS:
		return of_parent.tp;
	case HELD_WORKER:
		return held->tp;
	case BLOCKED_WORKER:
		return blocked_worker(s);
	case RUNNING_WORKER:
		if (thread_start(&t, runs_worker, &tp) || !WAIT_FOR(LOAD(tp)))
			_exit(2);
		return tp;
	case PLAIN_WORKER:
		return plain_worker();
	case WORKER_OF_CLOSED_LIST:
		return worker_of_closed_list();
	case PLAIN_THREAD:
		if (thread_start(&t, plain_thread, &tp) || !WAIT_FOR(LOAD(tp)))
			_exit(2);
		return tp;
	case ENDED_WORKER:
		return ended->tp;
	case SCHEDULER:
		if (thread_start(&t, runs_another, &tp) || !WAIT_FOR(LOAD(tp)))
			_exit(2);
		return tp;
	default:
		return 0;	/* its own */
	}
}

/* Only assembler from here to the end: there is no thread that C could count on. */
static void call_as(unsigned long tp)
{
	long ret = SYS_getppid;

	asm volatile("wrfsbase %1; syscall; wrfsbase %2"
		     : "+a" (ret)
		     : "r" (tp), "r" (__builtin_thread_pointer())
		     : "rcx", "r11", "memory");
}

/* On a page that is there to be had, and back. */
static void fault_as(unsigned long tp)
{
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	asm volatile("wrfsbase %0; movb $0, (%2); wrfsbase %1"
		     :: "r" (tp), "r" (__builtin_thread_pointer()), "r" (page) : "memory");
}

static void call_32_as(unsigned long tp)
{
	long ret = 20;	/* getpid */

	asm volatile("wrfsbase %1; int $0x80; wrfsbase %2"
		     : "+a" (ret)
		     : "r" (tp), "r" (__builtin_thread_pointer())
		     : "memory", "r8", "r9", "r10", "r11");
}

/* An exception that means a signal, whose handler goes on behind it. */
static void trap_as(unsigned long tp)
{
	asm volatile("wrfsbase %0; int3; wrfsbase %1"
		     :: "r" (tp), "r" (__builtin_thread_pointer()) : "memory");
}

static int told_to_stop;

/* Until somebody wants something of the thread. */
static void compute_as(unsigned long tp)
{
	asm volatile("wrfsbase %0; 1: pause; cmpl $0, %2; je 1b; wrfsbase %1"
		     :: "r" (tp), "r" (__builtin_thread_pointer()), "m" (told_to_stop)
		     : "memory", "cc");
}

static void stops(int sig)
{
	told_to_stop = 1;
}

static pid_t forger_tid;

static void *interrupts_forger(void *arg)
{
	while (!LOAD(forger_tid))
		sleep_ns(MSEC);
	while (!LOAD(told_to_stop)) {
		sleep_ns(2 * MSEC);
		syscall(SYS_tgkill, getpid(), forger_tid, SIGUSR1);
	}
	return NULL;
}

static unsigned long forged_tp;
static void (*forged_act)(unsigned long tp);

static void forges(struct worker *w)
{
	struct worker *other = w->arg;

	if (other) {
		worker_switch_out(w, sched, 0);
		/* Back from there, and on its thread. */
		worker_switch_to(w, other);
	}
	STORE(forger_tid, w->tid);
	forged_act(forged_tp ?: w->tp);
	w->stage = 1;
}

static void lends_and_comes_back(struct worker *w)
{
	worker_switch_out(w, sched, 0);
	getppid();
	worker_switch_to(w, w->arg);
	worker_switch_out(w, sched, 0);
}

/*
 * The kernel kills who forges, whatever its handler. That runs where it has taken the
 * registers of another thread for good, which are such that they fault.
 */
static void not_killed(int sig)
{
	_exit(3);
}

static bool handles_faults(void)
{
	struct sigaction sa = { .sa_handler = not_killed, .sa_flags = SA_ONSTACK };
	stack_t st = { .ss_sp = malloc(16384), .ss_size = 16384 };

	return !sigaction(SIGSEGV, &sa, NULL) && !sigaltstack(&st, NULL);
}

enum forger { BY_SCHEDULER, BY_WORKER, BY_WORKER_AWAY, FORGERS };

static int forge_in_child(enum forgery how, enum forger by, void (*act)(unsigned long tp))
{
	struct worker held = { .flags = UMS_WORKER_USER_SWITCH };
	struct worker ended = { .flags = UMS_WORKER_USER_SWITCH };
	struct worker forger = { .flags = UMS_WORKER_USER_SWITCH };
	struct worker lender = { .flags = UMS_WORKER_USER_SWITCH };
	struct list l;
	struct sched s;
	pthread_t t;
	int status;
	pid_t pid;
	__u64 id;

	pid = fork();
	if (pid > 0)
		return waitpid(pid, &status, 0) == pid ? status : -1;
	sched = &s;
	if (pid || list_open(&l, 4) || !handles_faults() || sched_enter_switching(&s))
		_exit(2);
	signal(SIGTRAP, stops);
	signal(SIGUSR1, stops);
	if (act == compute_as && thread_start(&t, interrupts_forger, NULL))
		_exit(2);
	if (!worker_start_pop(&held, &l, yields, NULL))
		_exit(2);
	id = worker_start_pop(&ended, &l, yields, NULL);
	if (!id || worker_run_to_end(&s, &l, id))
		_exit(2);
	forged_tp = forge(how, &s, &held, &ended);
	forged_act = act;
	if (by == BY_SCHEDULER) {
		STORE(forger_tid, self_tid());
		act(forged_tp ?: s.tp);
		_exit(0);
	}
	id = worker_start_pop(&forger, &l, forges, by == BY_WORKER_AWAY ? &lender : NULL);
	if (by == BY_WORKER_AWAY) {
		__u64 id2;

		while (id && (sched_run(&s, id, 0) || s.reason != UMS_UPCALL_YIELDED))
			id = list_pop_wait(&l);
		id2 = worker_start_pop(&lender, &l, lends_and_comes_back, &forger);
		while (id2 && (sched_run(&s, id2, 0) || s.reason != UMS_UPCALL_YIELDED))
			id2 = list_pop_wait(&l);
		if (!id || !id2 || sched_resume(&s, &forger))
			_exit(2);
		while (s.reason == UMS_UPCALL_BLOCKED || s.reason == UMS_UPCALL_PREEMPTED)
			if (sched_run(&s, list_pop_wait(&l), 0))
				_exit(2);
		_exit(!forger.stage);
	}
	_exit(!id || worker_run_to_end(&s, &l, id) || !forger.stage);
}

/* Of another process, which is to notice nothing; until it is told to end. */
static pid_t bystander(int *over, int *rounds)
{
	struct worker w[2] = {};
	struct sched s;
	struct list l;
	__u64 id;
	int i;
	pid_t pid = fork();

	if (pid)
		return pid;
	sched = &s;
	if (list_open(&l, 2) || sched_enter_switching(&s))
		_exit(2);
	while (!LOAD(*over)) {
		for (i = 0; i < 2; i++) {
			memset(&w[i], 0, sizeof(w[i]));
			w[i].flags = UMS_WORKER_USER_SWITCH;
			id = worker_start_pop(&w[i], &l, ping_calls, w);
			if (!id)
				_exit(3);
			while (sched_run(&s, id, 0) || s.reason != UMS_UPCALL_YIELDED)
				list_pop_wait(&l);
		}
		for (i = 0; i < 4; i++) {
			if (sched_resume(&s, &w[i % 2]))
				_exit(4);
			while (s.reason == UMS_UPCALL_BLOCKED || s.reason == UMS_UPCALL_PREEMPTED)
				if (sched_run(&s, list_pop_wait(&l), 0))
					_exit(5);
			if (s.reason != (i < 2 ? UMS_UPCALL_YIELDED : UMS_UPCALL_EXITED) ||
			    s.worker != w[i % 2].id)
				_exit(6);
		}
		for (i = 0; i < 2; i++)
			if (w[i].result || w[i].stage != 1000 || pthread_join(w[i].thread, NULL))
				_exit(7);
		INC(*rounds);
	}
	_exit(0);
}

TEST(forged)
{
	static void (*const acts[])(unsigned long tp) = {
		call_as, call_32_as, fault_as, trap_as, compute_as,
	};
	int how, by, status, *shared;
	unsigned int i, n = 0;
	struct sched s;
	struct list l;
	pid_t pid;
	__u64 id;

	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, shared);
	pid = bystander(&shared[0], &shared[1]);
	ASSERT_LT(0, pid);
	sched = &s;
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter_switching(&s));
	ASSERT_EQ(0, start_in_parent(&l));
	id = list_pop_wait(&l);
	while (!sched_run(&s, id, 0) && s.reason == UMS_UPCALL_BLOCKED)
		ASSERT_EQ(id, list_pop_wait(&l));
	ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, 0);

	for (i = 0; i < ARRAY_SIZE(acts); i++) {
		if (acts[i] == call_32_as && !has_32())
			continue;
		for (by = 0; by < FORGERS; by++) {
			/* What is done by those that are killed works without a forgery. */
			EXPECT_EQ(0, forge_in_child(NOTHING, by, acts[i]))
				TH_LOG("act %u by %d", i, by);
			for (how = GARBAGE; how < FORGERIES; how++) {
				/* Each by a call; those that differ in what is found otherwise. */
				if (acts[i] != call_as && how != GARBAGE && how != HELD_WORKER &&
				    how != RUNNING_WORKER && how != SCHEDULER)
					continue;
				n++;
				EXPECT_EQ(SIGSEGV, forge_in_child(how, by, acts[i]) & 0x7f)
					TH_LOG("%d, act %u by %d", how, i, by);
			}
		}
	}
	TH_LOG("%u forgeries, %d rounds beside them", n, LOAD(shared[1]));
	STORE(shared[0], 1);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_LT(0, shared[1]);
	ASSERT_EQ(0, sched_resume(&s, &of_parent));
	ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, 0);
	EXPECT_EQ(of_parent.tid, of_parent.result);
}

/* Two workers that run go for each other at the same time. */
struct duel {
	struct list l;
	struct worker w[2];
	__u64 id[2];
	int ready;
};

static void duels(struct worker *w)
{
	struct duel *d = w->arg;

	INC(d->ready);
	SPIN_FOR(LOAD(d->ready) == 2);
	call_as(d->w[w == &d->w[0]].tp);
}

static void *runs_second(void *arg)
{
	struct duel *d = arg;
	struct sched s;

	if (!sched_enter(&s))
		worker_run_to_end(&s, &d->l, d->id[1]);
	return NULL;
}

static void duel(void)
{
	static struct duel d;
	struct sched s;
	pthread_t t;
	int i;

	if (list_open(&d.l, 2) || sched_enter(&s))
		_exit(2);
	for (i = 0; i < 2; i++) {
		d.w[i].flags = UMS_WORKER_USER_SWITCH;
		d.id[i] = worker_start_pop(&d.w[i], &d.l, duels, &d);
	}
	if (thread_start(&t, runs_second, &d))
		_exit(2);
	worker_run_to_end(&s, &d.l, d.id[0]);
	_exit(3);
}

TEST(forged_at_once)
{
	int i, status;
	pid_t pid;

	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	for (i = 0; i < 50; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			duel();
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(SIGSEGV, status & 0x7f);
	}
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * What is a thread's own survives execute, block, preemption and upcall: its
 * general, x87, SSE, AVX and AVX-512 registers, control words, thread-local
 * storage, errno, tid and signal mask.
 */
#include "ums_test.h"

#include <cpuid.h>
#include <stddef.h>
#include <sys/mman.h>

/* Bits of XCR0, and with them of an XSAVE area. */
#define XF_FP		(1 << 0)
#define XF_SSE		(1 << 1)
#define XF_AVX		(1 << 2)
#define XF_OPMASK	(1 << 5)
#define XF_ZMM_HI256	(1 << 6)
#define XF_HI16_ZMM	(1 << 7)
#define XF_AVX512	(XF_OPMASK | XF_ZMM_HI256 | XF_HI16_ZMM)

#define AREA_SIZE	4096

/* In assembler code by offset. */
struct image {
	__u8 in[AREA_SIZE] __attribute__((aligned(64)));
	__u8 out[AREA_SIZE] __attribute__((aligned(64)));
	__u64 gpr_in[16];	/* rax rbx rcx rdx rsi rdi rbp r8 ... r15 flags */
	__u64 gpr_out[16];
	__u64 mask;
	__u64 rsp;
	__u64 __pad;
	__u64 red_zone;
};

_Static_assert(offsetof(struct image, gpr_in) == 8192, "known to asm");
_Static_assert(offsetof(struct image, gpr_out) == 8320, "known to asm");
_Static_assert(offsetof(struct image, mask) == 8448, "known to asm");

#define PUSH_CALLEE_SAVED						\
	"	push	%rbp\n"						\
	"	push	%rbx\n"						\
	"	push	%r12\n"						\
	"	push	%r13\n"						\
	"	push	%r14\n"						\
	"	push	%r15\n"

#define POP_CALLEE_SAVED						\
	"	pop	%r15\n"						\
	"	pop	%r14\n"						\
	"	pop	%r13\n"						\
	"	pop	%r12\n"						\
	"	pop	%rbx\n"						\
	"	pop	%rbp\n"						\
	"	ret\n"

#define RESTORE								\
	"	mov	8448(%rdi), %eax\n"				\
	"	xor	%edx, %edx\n"					\
	"	xrstor64 (%rdi)\n"

#define SAVE(reg)							\
	"	mov	8448(" reg "), %eax\n"				\
	"	xor	%edx, %edx\n"					\
	"	xsave64	4096(" reg ")\n"

/* As compiled code expects them: an empty x87 stack and ordinary rounding. */
#define CLEAN								\
	"	fninit\n"						\
	"	movl	$0x1f80, -8(%rsp)\n"				\
	"	ldmxcsr	-8(%rsp)\n"

/*
 * state_syscall(image, nr, a, b, c): all extended state from @in, the system
 * call, all extended state to @out; the callee-saved general registers hold
 * patterns across it and are compared by the caller of it.
 */
long state_syscall(struct image *i, long nr, long a, long b, long c);

/*
 * state_spin(image pointer in a global): all general registers but rsp and all
 * extended state hold patterns while it reads @spin_page, takes a breakpoint if @spin_trap
 * says so, and waits for @spin_go, touching no register.
 */
void state_spin(struct image *i);
extern struct image *spin_image;

asm(".pushsection .text\n"
	".globl state_syscall\n"
	"state_syscall:\n"
	PUSH_CALLEE_SAVED
	"	push	%rdi\n"
	"	mov	%rdx, %r12\n"
	"	mov	%rcx, %r13\n"
	"	mov	%r8, %r14\n"
	RESTORE
	"	mov	%rdi, %rbx\n"
	"	mov	%rsi, %rax\n"
	"	mov	%r12, %rdi\n"
	"	mov	%r13, %rsi\n"
	"	mov	%r14, %rdx\n"
	"	mov	$0x1111111111111111, %rbp\n"
	"	mov	$0x2222222222222222, %r12\n"
	"	mov	$0x3333333333333333, %r13\n"
	"	mov	$0x4444444444444444, %r14\n"
	"	mov	$0x5555555555555555, %r15\n"
	"	mov	$0x6666666666666666, %r8\n"
	"	mov	$0x7777777777777777, %r9\n"
	"	xor	%r10d, %r10d\n"
	"	mov	%rsp, 8456(%rbx)\n"
	"	syscall\n"
	"	mov	%rsp, 8328(%rbx)\n"
	"	mov	%rbp, 8336(%rbx)\n"
	"	mov	%r12, 8344(%rbx)\n"
	"	mov	%r13, 8352(%rbx)\n"
	"	mov	%r14, 8360(%rbx)\n"
	"	mov	%r15, 8368(%rbx)\n"
	"	mov	%r8, 8376(%rbx)\n"
	"	mov	%r9, 8384(%rbx)\n"
	"	mov	%r10, 8392(%rbx)\n"
	"	mov	%rdi, 8400(%rbx)\n"
	"	mov	%rsi, 8408(%rbx)\n"
	"	mov	%rdx, 8416(%rbx)\n"
	"	mov	%rax, 8320(%rbx)\n"
	"	cmp	(%rsp), %rbx\n"
	"	jne	2f\n"
	SAVE("%rbx")
	CLEAN
	"	mov	8320(%rbx), %rax\n"
	"	pop	%rdi\n"
	POP_CALLEE_SAVED
	"2:	ud2\n"
	".globl state_spin\n"
	"state_spin:\n"
	PUSH_CALLEE_SAVED
	"	mov	%rdi, spin_image(%rip)\n"
	RESTORE
	"	mov	%rsp, 8456(%rdi)\n"
	"	mov	8200(%rdi), %rbx\n"
	"	mov	8208(%rdi), %rcx\n"
	"	mov	8216(%rdi), %rdx\n"
	"	mov	8224(%rdi), %rsi\n"
	"	mov	8240(%rdi), %rbp\n"
	"	mov	8248(%rdi), %r8\n"
	"	mov	8256(%rdi), %r9\n"
	"	mov	8264(%rdi), %r10\n"
	"	mov	8272(%rdi), %r11\n"
	"	mov	8280(%rdi), %r12\n"
	"	mov	8288(%rdi), %r13\n"
	"	mov	8296(%rdi), %r14\n"
	"	mov	8304(%rdi), %r15\n"
	"	mov	8192(%rdi), %rax\n"
	"	mov	%rax, -8(%rsp)\n"
	"	mov	%rax, -128(%rsp)\n"
	"	mov	8232(%rdi), %rdi\n"
	"	std\n"
	"	cmpb	$0, spin_page(%rip)\n"
	"	cmpl	$0, spin_trap(%rip)\n"
	"	je	1f\n"
	"	int3\n"
	"1:	pause\n"
	"	lock incq spin_turns(%rip)\n"
	"	cmpl	$0, spin_go(%rip)\n"
	"	je	1b\n"
	"	pushfq\n"
	"	cld\n"
	"	push	%rdi\n"
	"	mov	spin_image(%rip), %rdi\n"
	"	mov	%rax, 8320(%rdi)\n"
	"	mov	%rbx, 8328(%rdi)\n"
	"	mov	%rcx, 8336(%rdi)\n"
	"	mov	%rdx, 8344(%rdi)\n"
	"	mov	%rsi, 8352(%rdi)\n"
	"	mov	%rbp, 8368(%rdi)\n"
	"	mov	%r8, 8376(%rdi)\n"
	"	mov	%r9, 8384(%rdi)\n"
	"	mov	%r10, 8392(%rdi)\n"
	"	mov	%r11, 8400(%rdi)\n"
	"	mov	%r12, 8408(%rdi)\n"
	"	mov	%r13, 8416(%rdi)\n"
	"	mov	%r14, 8424(%rdi)\n"
	"	mov	%r15, 8432(%rdi)\n"
	"	pop	%rax\n"
	"	mov	%rax, 8360(%rdi)\n"
	"	pop	%rax\n"
	"	mov	%rax, 8440(%rdi)\n"
	"	mov	-128(%rsp), %rax\n"
	"	mov	%rax, 8472(%rdi)\n"
	"	mov	%rdi, %rbx\n"
	SAVE("%rbx")
	CLEAN
	POP_CALLEE_SAVED
	".popsection\n");

_Static_assert(offsetof(struct image, rsp) == 8456, "known to asm");
_Static_assert(offsetof(struct image, red_zone) == 8472, "known to asm");

struct image *spin_image;
extern long spin_turns;
long spin_turns;
extern int spin_go, spin_trap;
int spin_go, spin_trap;
extern char spin_page[4096];
char spin_page[4096] __attribute__((aligned(4096)));

static unsigned int component[8];	/* offset of each in the XSAVE area */

/* The extended state of this machine, 0 without XSAVE. */
static __u64 features(void)
{
	unsigned int a, b, c, d, i;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return 0;
	for (i = 2; i < 8; i++)
		if (__get_cpuid_count(13, i, &a, &b, &c, &d) && a)
			component[i] = b;
	asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return a;
}

static __u64 rnd(__u64 *seed)
{
	/* xorshift64 */
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static const struct {
	int nr;
	unsigned int size;
} extended[] = { { 2, 256 }, { 5, 64 }, { 6, 512 }, { 7, 1024 } };

static void fill(struct image *im, __u64 mask, __u64 seed)
{
	unsigned int i, k;

	memset(im, 0, sizeof(*im));
	im->mask = mask;
	seed = seed * 0x9e3779b97f4a7c15ULL + 1;
	*(__u16 *)&im->in[0] = 0x27f | (seed & 0xc00);	/* FCW, all masked */
	im->in[4] = 0xff;				/* FTW: all in use */
	*(__u32 *)&im->in[24] = 0x1f80 | (seed & 0x6000);	/* MXCSR */
	for (i = 0; i < 8; i++) {
		/* Valid numbers: exponents of ordinary size. */
		*(__u64 *)&im->in[32 + 16 * i] = rnd(&seed) | 1ULL << 63;
		*(__u16 *)&im->in[40 + 16 * i] = 0x3fff + i;
	}
	for (i = 160; i < 416; i += 8)
		*(__u64 *)&im->in[i] = rnd(&seed);
	for (k = 0; k < ARRAY_SIZE(extended); k++) {
		if (!(mask & (1 << extended[k].nr)))
			continue;
		for (i = 0; i < extended[k].size; i += 8)
			*(__u64 *)&im->in[component[extended[k].nr] + i] = rnd(&seed);
	}
	*(__u64 *)&im->in[512] = mask;			/* XSTATE_BV */
	for (i = 0; i < 15; i++)
		im->gpr_in[i] = rnd(&seed);
}

/* 0, or which component was not kept. */
static int compare(struct image *im)
{
	unsigned int i, k;

	if (*(__u16 *)&im->in[0] != *(__u16 *)&im->out[0])
		return 1;
	if (*(__u16 *)&im->in[2] != *(__u16 *)&im->out[2])
		return 2;
	if (im->in[4] != im->out[4])
		return 3;
	if (*(__u32 *)&im->in[24] != *(__u32 *)&im->out[24])
		return 4;
	for (i = 0; i < 8; i++)
		if (memcmp(&im->in[32 + 16 * i], &im->out[32 + 16 * i], 10))
			return 10 + i;
	for (i = 0; i < 16; i++)
		if (memcmp(&im->in[160 + 16 * i], &im->out[160 + 16 * i], 16))
			return 20 + i;
	for (k = 0; k < ARRAY_SIZE(extended); k++) {
		unsigned int off = component[extended[k].nr];

		if ((im->mask & (1 << extended[k].nr)) &&
		    memcmp(&im->in[off], &im->out[off], extended[k].size))
			return 100 + extended[k].nr;
	}
	return 0;
}

/* After state_syscall(): what a system call keeps in general registers. */
static int compare_gpr(struct image *im, long a, long b, long c)
{
	static const __u64 want[] = {
		0x1111111111111111, 0x2222222222222222, 0x3333333333333333,
		0x4444444444444444, 0x5555555555555555, 0x6666666666666666,
		0x7777777777777777, 0,
	};
	unsigned int i;

	if (im->rsp != im->gpr_out[1])
		return 200;
	for (i = 0; i < ARRAY_SIZE(want); i++)
		if (im->gpr_out[2 + i] != want[i])
			return 201 + i;
	if (im->gpr_out[10] != a || im->gpr_out[11] != b || im->gpr_out[12] != c)
		return 210;
	return 0;
}

struct state_job {
	struct image *im;
	__u64 mask;
	int nr;			/* which of the workers */
	int wrong;
	int where;
};

static void checked(struct state_job *j, int where, long want, long nr, long a,
		    long b, long c)
{
	long ret;
	int bad;

	fill(j->im, j->mask, j->nr * 1000 + where + 1);
	ret = state_syscall(j->im, nr, a, b, c);
	bad = compare(j->im);
	if (!bad)
		bad = compare_gpr(j->im, a, b, c);
	if (!bad && ret != want)
		bad = 300;
	if (bad && !j->wrong) {
		j->wrong = bad;
		j->where = where;
	}
}

/* Each way out of user mode and back that a worker has. */
static void keeps_state(struct worker *w)
{
	struct state_job *j = w->arg;
	struct timespec ts = { 0, 1000 };
	char c;
	int i;

	for (i = 0; i < 8; i++) {
		checked(j, 1, 0, NR_UMS_YIELD, i, 0, 0);
		checked(j, 2, 0, NR_UMS_YIELD, 100 + i, UMS_YIELD_PUBLISH, 0);
		checked(j, 3, 1, SYS_read, w->fd[0], (long)&c, 1);
		checked(j, 4, 0, SYS_nanosleep, (long)&ts, 0, 0);
		checked(j, 5, 0, NR_UMS_PREEMPT, w->id, 0, 0);
		/* The kernel lends the scheduler's thread, and gets it back. */
		STORE(list_slot(w->list, w->id)->no_upcall, 1);
		checked(j, 6, 0, SYS_nanosleep, (long)&ts, 0, 0);
		STORE(list_slot(w->list, w->id)->no_upcall, 0);
		checked(j, 7, self_tid(), SYS_gettid, 0, 0, 0);
	}
}

/* Two workers that do so on each other's threads, so that each call brings one home. */
struct state_pair {
	struct state_job j[2];
	struct worker w[2];
	struct sched s;
};

static void keeps_state_away(struct worker *w)
{
	struct state_pair *p = w->arg;
	int nr = w == &p->w[1], i;

	worker_switch_out(w, &p->s, 0);
	for (i = 0; i < 200; i++) {
		checked(&p->j[nr], 1, w->tid, SYS_gettid, 0, 0, 0);
		worker_switch_to(w, &p->w[!nr]);
	}
	worker_switch_out(w, &p->s, 0);
}

static void run_state_away(struct __test_metadata *_metadata, __u64 mask)
{
	static struct state_pair p;
	struct ums_info info;
	struct list l;
	__u64 id[2];
	int i;

	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 2));
	ASSERT_EQ(0, sched_enter_switching(&p.s));
	for (i = 0; i < 2; i++) {
		p.j[i].im = aligned_alloc(64, (sizeof(struct image) + 63) & ~63UL);
		ASSERT_NE(NULL, p.j[i].im);
		p.j[i].mask = mask;
		p.j[i].nr = i;
		p.w[i].flags = UMS_WORKER_USER_SWITCH;
		id[i] = worker_start_pop(&p.w[i], &l, keeps_state_away, &p);
		ASSERT_EQ(0, sched_run(&p.s, id[i], 0));
		ASSERT_EVENT(&p.s, UMS_UPCALL_YIELDED, id[i], 0);
	}
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, sched_resume(&p.s, &p.w[i]));
		ASSERT_EVENT(&p.s, UMS_UPCALL_YIELDED, id[i], 0);
	}
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, p.j[i].wrong);
		ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id[i], &info, sizeof(info)));
		EXPECT_LE(198, info.handoffs);
	}
}

#define STATE_WORKERS 5

static void run_state(struct __test_metadata *_metadata, __u64 mask)
{
	struct state_job j[STATE_WORKERS + 1] = {};
	struct worker w[STATE_WORKERS] = {};
	int left = STATE_WORKERS, i;
	struct sched s;
	struct list l;
	__u64 id;

	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, STATE_WORKERS));
	for (i = 0; i <= STATE_WORKERS; i++) {
		j[i].im = aligned_alloc(64, (sizeof(struct image) + 63) & ~63UL);
		ASSERT_NE(NULL, j[i].im);
		j[i].mask = mask;
		j[i].nr = i;
	}
	for (i = 0; i < STATE_WORKERS; i++) {
		ASSERT_EQ(0, pipe(w[i].fd));
		ASSERT_EQ(0, worker_start(&w[i], &l, keeps_state, &j[i]));
	}
	ASSERT_EQ(0, sched_enter(&s));
	while (left) {
		id = list_pop_wait(&l);
		ASSERT_NE(0, id);
		do {
			/* The scheduler leaves its own traces in between. */
			checked(&j[STATE_WORKERS], 8, getpid(), SYS_getpid, 0, 0, 0);
			ASSERT_EQ(0, sched_run(&s, id, 0));
			for (i = 0; i < STATE_WORKERS; i++)
				if (w[i].id == s.worker)
					break;
			if (s.reason == UMS_UPCALL_BLOCKED && s.detail == SYS_read) {
				ASSERT_EQ(1, write(w[i].fd[1], "x", 1));
			}
		} while (s.reason == UMS_UPCALL_YIELDED && s.detail < 100);
		if (s.reason == UMS_UPCALL_EXITED)
			left--;
	}
	for (i = 0; i <= STATE_WORKERS; i++) {
		EXPECT_EQ(0, j[i].wrong) {
			TH_LOG("worker %d, after step %d", i, j[i].where);
		}
	}
}

TEST(x87_and_sse)
{
	__u64 f = features();

	UMS_REQUIRE();
	if (!f)
		SKIP(return, "this CPU has no XSAVE");
	run_state(_metadata, XF_FP | XF_SSE);
}

TEST(avx)
{
	__u64 f = features();

	UMS_REQUIRE();
	if (!(f & XF_AVX))
		SKIP(return, "this CPU has no AVX");
	run_state(_metadata, XF_FP | XF_SSE | XF_AVX);
}

TEST(avx512)
{
	__u64 f = features();

	UMS_REQUIRE();
	if ((f & XF_AVX512) != XF_AVX512)
		SKIP(return, "this CPU has no AVX-512");
	run_state(_metadata, XF_FP | XF_SSE | XF_AVX | XF_AVX512);
}

/* All that there is. */
TEST(away_from_home)
{
	__u64 f = features();

	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	if (!f)
		SKIP(return, "this CPU has no XSAVE");
	if ((f & XF_AVX512) != XF_AVX512)
		f &= ~XF_AVX512;
	run_state_away(_metadata, f & (XF_FP | XF_SSE | XF_AVX | XF_AVX512));
}

static void spins_with_state(struct worker *w)
{
	state_spin(w->arg);
	w->result = compare(w->arg);
}

static void fills_registers(struct worker *w)
{
	struct state_job *j = w->arg;

	for (;;)
		checked(j, 1, 0, NR_UMS_YIELD, 0, 0, 0);
}

/*
 * Preempted in the middle of nowhere, again and again, while others use the
 * registers: every register, the flags and the red zone are as they were.
 */
TEST(preempted_anywhere)
{
	__u64 f = features() & (XF_FP | XF_SSE | XF_AVX | XF_AVX512), id[2];
	struct state_job j = { .mask = f, .nr = 99 };
	struct worker w[2] = {};
	struct image *im;
	struct sched s;
	struct list l;
	int i;

	UMS_REQUIRE();
	if (!f)
		SKIP(return, "this CPU has no XSAVE");
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 2));
	im = aligned_alloc(64, (sizeof(*im) + 63) & ~63UL);
	j.im = aligned_alloc(64, (sizeof(*im) + 63) & ~63UL);
	fill(im, f, 4711);
	id[0] = worker_start_pop(&w[0], &l, spins_with_state, im);
	id[1] = worker_start_pop(&w[1], &l, fills_registers, &j);
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 50; i++) {
		ASSERT_EQ(0, sched_run(&s, id[0], MSEC));
		ASSERT_EVENT(&s, UMS_UPCALL_PREEMPTED, id[0], UMS_PREEMPT_SLICE);
		ASSERT_EQ(id[0], list_pop(&l));
		ASSERT_EQ(0, sched_run(&s, id[1], 0));
		ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id[1], 0);
	}
	ASSERT_EQ(0, sched_run(&s, id[0], 50 * MSEC));
	ASSERT_EQ(UMS_UPCALL_PREEMPTED, s.reason);
	ASSERT_EQ(id[0], list_pop(&l));
	EXPECT_LT(0, spin_turns);
	STORE(spin_go, 1);
	ASSERT_EQ(0, worker_run_to_end(&s, &l, id[0]));
	EXPECT_EQ(0, w[0].result);
	EXPECT_EQ(0, j.wrong);
	/* All but rsp, by the order of struct image. */
	for (i = 0; i < 15; i++) {
		EXPECT_EQ(im->gpr_in[i], im->gpr_out[i]) {
			TH_LOG("general register %d", i);
		}
	}
	EXPECT_EQ(im->gpr_in[0], im->red_zone);
	/* The direction flag was set, and is the worker's own. */
	EXPECT_EQ(0x400, im->gpr_out[15] & 0x400);
}

/* The ways in which a context that computes away from home is brought there. */
enum way { BY_FAULT, BY_TRAP, BY_PREEMPTION, BY_SIGNAL, WAYS };

struct ways {
	struct list l;
	struct sched s;
	struct worker w[2];
	__u64 id[2];
	struct image *im;
	long turns;
	enum way way;
	bool over;
};

static void spins_away(struct worker *w)
{
	struct ways *a = w->arg;

	for (;;) {
		worker_switch_out(w, &a->s, 0);
		if (a->over)
			return;
		state_spin(a->im);
	}
}

static void fills_away(struct worker *w)
{
	struct ways *a = w->arg;
	struct state_job j = { .mask = a->im->mask, .nr = 98 };

	j.im = aligned_alloc(64, (sizeof(*j.im) + 63) & ~63UL);
	do {
		worker_switch_out(w, &a->s, 0);
		checked(&j, 1, w->tid, SYS_gettid, 0, 0, 0);
		w->result |= j.wrong;
	} while (!a->over);
}

static void lets_go(int sig)
{
	STORE(spin_go, 1);
}

/* By another thread, while it computes. */
static void *brings_home(void *arg)
{
	struct ways *a = arg;
	long ret = -1;

	if (WAIT_FOR(LOAD(spin_turns) > a->turns))
		ret = a->way == BY_SIGNAL ? syscall(SYS_tgkill, getpid(), a->w[0].tid, SIGUSR1) :
					    ums_preempt(a->id[0], 0);
	return (void *)ret;
}

/* Runs it on @away's thread, or on the scheduler's, until it has come home and switched out. */
static void come_home(struct __test_metadata *_metadata, struct ways *a, enum way how, int seed)
{
	struct state_job j = { .mask = a->im->mask, .nr = 97 };
	struct ums_info before, after;
	bool other = seed % 2;
	pthread_t t;
	void *ret;
	int i;

	j.im = aligned_alloc(64, (sizeof(*j.im) + 63) & ~63UL);
	fill(a->im, a->im->mask, seed);
	a->way = how;
	a->turns = spin_turns;
	spin_trap = how == BY_TRAP;
	spin_go = how == BY_FAULT || how == BY_TRAP;
	if (how == BY_FAULT) {
		ASSERT_EQ(0, madvise(spin_page, sizeof(spin_page), MADV_DONTNEED));
	} else {
		LOAD(spin_page[0]);
	}
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, a->id[0], &before, sizeof(before)));
	if (!spin_go) {
		ASSERT_EQ(0, thread_start(&t, brings_home, a));
	}
	if (other) {
		ASSERT_EQ(0, sched_resume(&a->s, &a->w[1]));
		ASSERT_EVENT(&a->s, UMS_UPCALL_YIELDED, a->id[1], 0);
	}
	ASSERT_EQ(0, sched_resume(&a->s, &a->w[0]));
	if (how == BY_PREEMPTION) {
		ASSERT_EVENT(&a->s, UMS_UPCALL_PREEMPTED, a->id[0], UMS_PREEMPT_ASKED);
		/* Somebody else's registers, here and in the other worker. */
		checked(&j, 8, getpid(), SYS_getpid, 0, 0, 0);
		ASSERT_EQ(0, sched_resume(&a->s, &a->w[1]));
		ASSERT_EVENT(&a->s, UMS_UPCALL_YIELDED, a->id[1], 0);
		ASSERT_EQ(a->id[0], list_pop(&a->l));
		STORE(spin_go, 1);
		ASSERT_EQ(0, sched_run(&a->s, a->id[0], 0));
	}
	ASSERT_EVENT(&a->s, UMS_UPCALL_YIELDED, a->id[0], 0);
	/* The scheduler is on the worker's thread now, and is brought home by a call. */
	checked(&j, 9, getpid(), SYS_getpid, 0, 0, 0);
	EXPECT_EQ(0, j.wrong);
	if (!j.wrong && (how == BY_PREEMPTION || how == BY_SIGNAL)) {
		ASSERT_EQ(0, pthread_join(t, &ret));
		ASSERT_EQ(NULL, ret);
	}
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, a->id[0], &after, sizeof(after)));
	EXPECT_LT(before.handoffs, after.handoffs);
	EXPECT_EQ(before.in_place, after.in_place);
	EXPECT_EQ(0, compare(a->im))
		TH_LOG("how %d, seed %d", how, seed);
	for (i = 0; i < 15; i++) {
		EXPECT_EQ(a->im->gpr_in[i], a->im->gpr_out[i])
			TH_LOG("how %d, seed %d, general register %d", how, seed, i);
	}
	EXPECT_EQ(a->im->gpr_in[0], a->im->red_zone);
	EXPECT_EQ(0x400, a->im->gpr_out[15] & 0x400);
	free(j.im);
}

TEST(home_in_every_way)
{
	__u64 f = features() & (XF_FP | XF_SSE | XF_AVX | XF_AVX512);
	static struct ways a;
	int way, i;

	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	if (!f)
		SKIP(return, "this CPU has no XSAVE");
	if ((f & XF_AVX512) != XF_AVX512)
		f &= ~XF_AVX512;
	signal(SIGUSR1, lets_go);
	signal(SIGTRAP, lets_go);
	ASSERT_EQ(0, lock_memory());
	/* That one is to fault. */
	ASSERT_EQ(0, munlock(spin_page, sizeof(spin_page)));
	a.im = aligned_alloc(64, (sizeof(*a.im) + 63) & ~63UL);
	ASSERT_NE(NULL, a.im);
	a.im->mask = f;
	ASSERT_EQ(0, list_open(&a.l, 2));
	ASSERT_EQ(0, sched_enter_switching(&a.s));
	for (i = 0; i < 2; i++) {
		a.w[i].flags = UMS_WORKER_USER_SWITCH;
		a.id[i] = worker_start_pop(&a.w[i], &a.l, i ? fills_away : spins_away, &a);
		ASSERT_NE(0, a.id[i]);
		ASSERT_EQ(0, sched_run(&a.s, a.id[i], 0));
		ASSERT_EVENT(&a.s, UMS_UPCALL_YIELDED, a.id[i], 0);
	}
	for (i = 0; i < 20; i++)
		for (way = 0; way < WAYS; way++)
			come_home(_metadata, &a, way, 2 * i + (way + i) % 2);
	EXPECT_EQ(0, a.w[1].result);
	a.over = true;
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, sched_resume(&a.s, &a.w[i]));
		ASSERT_EVENT(&a.s, UMS_UPCALL_EXITED, a.id[i], 0);
	}
}

static __thread int tls_value;
static __thread char tls_big[1000];

struct identity {
	int n;
	int wrong;
};

static void check_identity(struct worker *w, struct identity *d, int where)
{
	sigset_t set;

	if (tls_value != d->n || tls_big[999] != (char)d->n)
		d->wrong = where * 10 + 1;
	else if (errno != d->n)
		d->wrong = where * 10 + 2;
	else if (self_tid() != w->tid)
		d->wrong = where * 10 + 3;
	else if (!pthread_equal(pthread_self(), w->thread))
		d->wrong = where * 10 + 4;
	else if (syscall(SYS_getpid) != getpid())
		d->wrong = where * 10 + 5;
	else if (pthread_sigmask(SIG_BLOCK, NULL, &set) ||
		 sigismember(&set, SIGRTMIN + d->n % 20) != 1 ||
		 sigismember(&set, SIGRTMIN + (d->n + 1) % 20) != 0)
		d->wrong = where * 10 + 6;
}

static void keeps_identity(struct worker *w)
{
	struct identity *d = w->arg;
	sigset_t set;
	char c;
	int i;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + d->n % 20);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	tls_value = d->n;
	tls_big[999] = d->n;
	for (i = 0; i < 5 && !d->wrong; i++) {
		errno = d->n;
		ums_yield(0, UMS_YIELD_PUBLISH);
		check_identity(w, d, 1);
		sleep_ns(1000);
		check_identity(w, d, 2);
		if (read(w->fd[0], &c, 1) != 1 || write(w->fd[1], &c, 1) != 1)
			d->wrong = 3;
		check_identity(w, d, 3);
		ums_preempt(w->id, 0);
		check_identity(w, d, 4);
	}
}

#define IDENTITIES 64

TEST(identity)
{
	static struct identity d[IDENTITIES];
	static struct worker w[IDENTITIES];
	int left = IDENTITIES, i, p[2];
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(0, list_open(&l, IDENTITIES));
	ASSERT_EQ(1, write(p[1], "x", 1));
	tls_value = -1;
	for (i = 0; i < IDENTITIES; i++) {
		d[i].n = i + 1;
		/* They pass one byte around. */
		w[i].fd[0] = p[0];
		w[i].fd[1] = p[1];
		ASSERT_EQ(0, worker_start(&w[i], &l, keeps_identity, &d[i]));
	}
	ASSERT_EQ(0, sched_enter(&s));
	while (left) {
		id = list_pop_wait(&l);
		ASSERT_NE(0, id);
		errno = 0;
		ASSERT_EQ(0, sched_run(&s, id, 0));
		ASSERT_EQ(0, errno);
		ASSERT_EQ(-1, tls_value);
		if (s.reason == UMS_UPCALL_EXITED)
			left--;
	}
	for (i = 0; i < IDENTITIES; i++) {
		EXPECT_EQ(0, d[i].wrong);
	}
	EXPECT_EQ(getpid(), self_tid());
}

TEST_HARNESS_MAIN

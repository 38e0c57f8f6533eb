// SPDX-License-Identifier: GPL-2.0
/* The registers and the stack with which an upcall begins. */
#include "ums_test.h"

#include <stddef.h>
#include <sys/mman.h>

/* As dump_entry stores them, from the place that arg (r8) points to. */
struct regs {
	struct sched s;
	__u64 rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp;
	__u64 r8, r9, r10, r11, r12, r13, r14, r15;
	__u64 flags, fs;
	__u8 fx[512] __attribute__((aligned(16)));
} __attribute__((aligned(64)));

void dump_entry(void);
extern struct regs dumped;
struct regs dumped;

asm(".pushsection .text\n"
	".globl dump_entry\n"
	"dump_entry:\n"
	"	mov	%rax, dumped+64(%rip)\n"
	"	mov	%rbx, dumped+72(%rip)\n"
	"	mov	%rcx, dumped+80(%rip)\n"
	"	mov	%rdx, dumped+88(%rip)\n"
	"	mov	%rsi, dumped+96(%rip)\n"
	"	mov	%rdi, dumped+104(%rip)\n"
	"	mov	%rbp, dumped+112(%rip)\n"
	"	mov	%rsp, dumped+120(%rip)\n"
	"	mov	%r8, dumped+128(%rip)\n"
	"	mov	%r9, dumped+136(%rip)\n"
	"	mov	%r10, dumped+144(%rip)\n"
	"	mov	%r11, dumped+152(%rip)\n"
	"	mov	%r12, dumped+160(%rip)\n"
	"	mov	%r13, dumped+168(%rip)\n"
	"	mov	%r14, dumped+176(%rip)\n"
	"	mov	%r15, dumped+184(%rip)\n"
	"	fxsave64 dumped+208(%rip)\n"
	"	pushfq\n"
	"	pop	%rax\n"
	"	mov	%rax, dumped+192(%rip)\n"
	"	mov	%fs:0, %rax\n"
	"	mov	%rax, dumped+200(%rip)\n"
	"	cld\n"
	"	jmp	sched_entry\n"
	".popsection\n");

_Static_assert(offsetof(struct regs, rax) == 64, "known to dump_entry");
_Static_assert(offsetof(struct regs, fs) == 200, "known to dump_entry");
_Static_assert(offsetof(struct regs, fx) == 208, "known to dump_entry");

static void check(struct __test_metadata *_metadata, __u64 fs)
{
	struct regs *r = &dumped;
	struct sched *s = &r->s;
	int i;

	EXPECT_EQ(s->reason, r->rdi);
	EXPECT_EQ(s->worker, r->rsi);
	EXPECT_EQ(s->detail, r->rdx);
	EXPECT_EQ((uintptr_t)s, r->r8);
	EXPECT_EQ(0, r->rax);
	EXPECT_EQ(0, r->rbx);
	EXPECT_EQ(0, r->rbp);
	EXPECT_EQ(0, r->r9);
	EXPECT_EQ(0, r->r10);
	EXPECT_EQ(0, r->r12);
	EXPECT_EQ(0, r->r13);
	EXPECT_EQ(0, r->r14);
	EXPECT_EQ(0, r->r15);
	/* These two are not specified, but tell nothing of the kernel. */
	EXPECT_EQ(0, r->rcx >> 47);
	EXPECT_EQ(0, r->r11 >> 47);

	/* The top of the stack, as a call would leave it. */
	EXPECT_EQ((((uintptr_t)s->stack + s->stack_size) & ~15ULL) - 8, r->rsp);
	EXPECT_EQ(8, r->rsp % 16);

	/* DF, TF, AC, NT clear, arithmetic flags of no one else. */
	EXPECT_EQ(0, r->flags & (0x400 | 0x100 | 0x40000 | 0x4000));
	EXPECT_EQ(0x200, r->flags & 0x200);

	EXPECT_EQ(fs, r->fs);

	/* A new process's: FCW 0x37f, FSW 0, all empty, MXCSR 0x1f80. */
	EXPECT_EQ(0x37f, *(__u16 *)&r->fx[0]);
	EXPECT_EQ(0, *(__u16 *)&r->fx[2]);
	EXPECT_EQ(0, r->fx[4]);
	EXPECT_EQ(0x1f80, *(__u32 *)&r->fx[24]);
	for (i = 160; i < 416; i++) {
		EXPECT_EQ(0, r->fx[i]) {
			TH_LOG("xmm%d", (i - 160) / 16);
			break;
		}
	}
}

static __u64 own_fs(void)
{
	__u64 fs;

	asm("mov %%fs:0, %0" : "=r"(fs));
	return fs;
}

/* Leaves its registers, flags and control words as dirty as it can. */
static void dirty(void)
{
	__u32 mxcsr = 0x7f80;
	__u16 fcw = 0x17f;

	asm volatile("ldmxcsr %0\n\t"
		     "fldcw %1\n\t"
		     "fldpi\n\t"
		     "pcmpeqd %%xmm0, %%xmm0\n\t"
		     "pcmpeqd %%xmm7, %%xmm7\n\t"
		     "pcmpeqd %%xmm15, %%xmm15\n\t"
		     : : "m"(mxcsr), "m"(fcw) : "xmm0", "xmm7", "xmm15");
}

/* A system call with every other register full and the direction flag set. */
static long dirty_syscall(long nr, long a, long b, long c)
{
	register long rax asm("rax") = nr;

	dirty();
	/* Below the red zone, which the compiler may use here. */
	asm volatile("sub $128, %%rsp\n\t"
		     "push %%rbx; push %%rbp; push %%r12; push %%r13\n\t"
		     "push %%r14; push %%r15\n\t"
		     "mov $-1, %%rbx; mov %%rbx, %%rbp; mov %%rbx, %%r8\n\t"
		     "mov %%rbx, %%r9; mov %%rbx, %%r10; mov %%rbx, %%r12\n\t"
		     "mov %%rbx, %%r13; mov %%rbx, %%r14; mov %%rbx, %%r15\n\t"
		     "std\n\t"
		     "syscall\n\t"
		     "cld\n\t"
		     "pop %%r15; pop %%r14; pop %%r13; pop %%r12\n\t"
		     "pop %%rbp; pop %%rbx\n\t"
		     "add $128, %%rsp\n\t"
		     : "+r"(rax) : "D"(a), "S"(b), "d"(c)
		     : "rcx", "r8", "r9", "r10", "r11", "memory");
	return rax;
}

static void worker_fn(struct worker *w)
{
	char *spill = w->arg;

	dirty_syscall(NR_UMS_YIELD, 77, 0, 0);
	dirty_syscall(SYS_read, w->fd[0], (long)spill, 1);
	dirty_syscall(NR_UMS_PREEMPT, w->id, 0, 0);
	dirty();
	while (!LOAD(w->stage))
		;
	dirty_syscall(NR_UMS_DETACH, 0, 0, 0);
}

TEST(registers)
{
	struct worker w = {};
	char spill[64];
	struct sched *s = &dumped.s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, worker_fn, spill);
	dirty();
	ASSERT_EQ(0, sched_enter_at(s, dump_entry, 9));
	EXPECT_EVENT(s, UMS_UPCALL_STARTUP, 0, 9);
	check(_metadata, own_fs());

	ASSERT_EQ(0, sched_run(s, id, 0));
	ASSERT_EVENT(s, UMS_UPCALL_YIELDED, id, 77);
	check(_metadata, own_fs());

	ASSERT_EQ(0, sched_run(s, id, 0));
	ASSERT_EVENT(s, UMS_UPCALL_BLOCKED, id, SYS_read);
	check(_metadata, own_fs());
	ASSERT_EQ(1, write(w.fd[1], "x", 1));
	ASSERT_EQ(id, list_pop_wait(&l));

	ASSERT_EQ(0, sched_run(s, id, 0));
	ASSERT_EVENT(s, UMS_UPCALL_PREEMPTED, id, UMS_PREEMPT_ASKED);
	check(_metadata, own_fs());
	ASSERT_EQ(id, list_pop(&l));

	ASSERT_EQ(0, sched_run(s, id, 20 * MSEC));
	ASSERT_EVENT(s, UMS_UPCALL_PREEMPTED, id, UMS_PREEMPT_SLICE);
	check(_metadata, own_fs());
	ASSERT_EQ(id, list_pop(&l));

	STORE(w.stage, 1);
	ASSERT_EQ(0, sched_run(s, id, 0));
	ASSERT_EVENT(s, UMS_UPCALL_DETACHED, id, 0);
	check(_metadata, own_fs());
	ASSERT_EQ(0, pthread_join(w.thread, NULL));
}

static void exits(struct worker *w)
{
	dirty_syscall(SYS_exit, 5, 0, 0);
}

TEST(registers_on_exit)
{
	struct worker w = {};
	struct sched *s = &dumped.s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, exits, NULL);
	ASSERT_EQ(0, sched_enter_at(s, dump_entry, 0));
	ASSERT_EQ(0, sched_run(s, id, 0));
	ASSERT_EVENT(s, UMS_UPCALL_EXITED, id, 5 << 8);
	check(_metadata, own_fs());
}

/* Sizes and addresses that are not multiples of anything. */
TEST(unaligned_stack)
{
	struct ums_scheduler_args a = {
		.entry = (uintptr_t)dump_entry,
		.arg = (uintptr_t)&dumped.s,
	};
	struct sched *s = &dumped.s;
	char *stack;

	UMS_REQUIRE();
	stack = mmap(NULL, 16384, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, stack);
	memset(stack, 0x5a, 16384);
	a.stack = (uintptr_t)stack + 3;
	a.stack_size = UMS_MIN_STACK + 6;
	s->stack = stack + 3;
	s->stack_size = a.stack_size;
	ASSERT_EQ(0, sched_call(s, NR_UMS_SCHEDULER_ENTER, (unsigned long)&a,
				sizeof(a), 0));
	check(_metadata, own_fs());
	/* The kernel writes nothing there: only the pushfq above is. */
	EXPECT_EQ(0x5a, stack[3 + a.stack_size - 1]);
	EXPECT_EQ(0x5a, stack[(dumped.rsp - (uintptr_t)stack)]);
	EXPECT_EQ(0x5a, stack[(dumped.rsp - (uintptr_t)stack) - 16]);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzzer: a process. How it is set up, what its threads are, what they do in
 * turn, and where signals and upcalls find them.
 */
#include "fuzz.h"

#include <grp.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

struct process p;
struct shared *sh;

/* What a clone needs with CLONE_VM: the new thread begins with fn(arg). */
long raw_clone(unsigned long flags, void *stack, int *ptid, int *ctid,
	       void (*fn)(void *arg), void *arg);
void run_on(void *stack, void (*fn)(void *arg), void *arg) __attribute__((noreturn));

asm(".pushsection .text\n"
	".type raw_clone, @function\n"
	"raw_clone:\n"
	"	sub	$16, %rsi\n"
	"	mov	%r8, 0(%rsi)\n"
	"	mov	%r9, 8(%rsi)\n"
	"	mov	%rcx, %r10\n"
	"	xor	%r8d, %r8d\n"
	"	mov	$56, %eax\n"
	"	syscall\n"
	"	test	%rax, %rax\n"
	"	jnz	1f\n"
	"	xor	%ebp, %ebp\n"
	"	pop	%rax\n"
	"	pop	%rdi\n"
	"	call	*%rax\n"
	"	ud2\n"
	"1:	ret\n"
	".size raw_clone, . - raw_clone\n"
	".type run_on, @function\n"
	"run_on:\n"
	"	mov	%rdi, %rsp\n"
	"	mov	%rdx, %rdi\n"
	"	xor	%ebp, %ebp\n"
	"	call	*%rsi\n"
	"	ud2\n"
	".size run_on, . - run_on\n"
	".popsection\n");

/* The first thing that ought not to be, for the supervisor to report. */
void wrong(const char *what, long a, long b, long c)
{
	long tid = SYS(SYS_gettid);
	unsigned long tp = 0;
	int none = 0;

	if (!__atomic_compare_exchange_n(&sh->wrong, &none, 1, false,
					 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return;
	/* The C library wants its thread-local variables; and makes no call for this. */
	if (p.can_switch) {
		tp = get_pointer();
		set_pointer(p.pointer);
	}
	snprintf(sh->wrong_text, sizeof(sh->wrong_text),
		 "%s: %#lx, %#lx, %#lx (process %u, its seed %llu, thread %ld)", what, a, b,
		 c, p.slot, p.seed, tid);
	if (p.can_switch)
		set_pointer(tp);
	STORE(sh->wrong, 2);
}

/* ---- one thread */

static void unblock_signals(void)
{
	__u64 none = 0;

	SYS(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none));
}

/* Asks the kernel what the thread is, which others may have changed. */
void resync(struct thread *t)
{
	struct ums_info *info = (struct ums_info *)scratch(t);

	if (SYS(NR_UMS_QUERY, UMS_QUERY_THREAD, 0, info, sizeof(*info)))
		return;
	t->role = info->role;
	if (t->role == UMS_ROLE_WORKER)
		t->id = info->worker;
	if (info->handoffs)
		count(N_HANDED_OFF);
}

/* What it needs to be switched in user mode: a thread pointer, and an rseq area. */
static void have_own_pointer(struct thread *t)
{
	unsigned long *tp = (unsigned long *)((char *)t + POINTER_AT);
	unsigned int i;

	for (i = 0; i < 4; i++)
		((__u64 *)((char *)t + RSEQ_AT))[i] = 0;
	if (SYS(SYS_rseq, (char *)t + RSEQ_AT, 32, 0, 0x53053053))
		return;
	*tp = (unsigned long)tp;
	set_pointer((unsigned long)tp);
	STORE(t->pointer, (unsigned long)tp);
	count(N_OWN_POINTER);
}

static void __attribute__((noinline)) thread_main(void *arg)
{
	struct thread *t = arg;
	stack_t alt = { .ss_sp = (char *)t + ALT_AT, .ss_size = ALT_SIZE };

	SYS(SYS_sigaltstack, &alt, NULL);
	if (p.can_switch && !one_in(&t->rng, 4))
		have_own_pointer(t);
	if (__builtin_setjmp(t->jump)) {
		/* The registers are gone, but for the stack. */
		t = thread_at(__builtin_frame_address(0));
		count(N_JUMP);
		t->depth = 0;
		unblock_signals();
		resync(t);
		/* Maybe one whose entry point is nonsense. */
		if (t->role == UMS_ROLE_SCHEDULER && one_in(&t->rng, 4) &&
		    !SYS(NR_UMS_SCHEDULER_EXIT, 0))
			t->role = UMS_ROLE_NONE;
	}
	live(t);
}

/* From wherever it is back to the beginning, as siglongjmp() does. */
void leave(struct thread *t)
{
	__builtin_longjmp(t->jump, 1);
}

void thread_end(struct thread *t)
{
	count(N_THREAD_END);
	for (;;)
		SYS(SYS_exit, rnd_below(&t->rng, 256));
}

static void thread_init(struct thread *t, __u64 seed, enum plan plan)
{
	t->plan = plan;
	t->role = UMS_ROLE_NONE;
	t->child = false;
	t->depth = 0;
	t->budget = rnd_log(&seed, 16, 8192);
	t->rng = seed;
	t->id = 0;
	t->kept = 0;
	t->pointer = 0;
	t->magic = MAGIC;
}

static enum plan pick_plan(__u64 *rng)
{
	unsigned int r = rnd_below(rng, 100);

	if (r < 60)
		return PLAN_WORKER;
	if (r < 82)
		return PLAN_SCHEDULER;
	return r < 90 ? PLAN_SCRIBBLER : PLAN_OTHER;
}

/* Threads that a process cannot do without are made again where one ended. */
static enum plan plan_of(unsigned int nr, __u64 *rng)
{
	if (nr == 1 || nr == 2)
		return PLAN_SCHEDULER;
	if (nr == 3)
		return PLAN_SCRIBBLER;
	return pick_plan(rng);
}

/* In a free area; NULL: there is none, or no thread to be had. */
struct thread *thread_new(struct thread *by, unsigned long flags, void (*fn)(void *arg))
{
	unsigned int i, start = rnd_below(&by->rng, p.threads);
	struct thread *t;
	int none;

	for (i = 0; i < p.threads; i++) {
		t = thread_of((start + i) % p.threads);
		none = 0;
		if (__atomic_compare_exchange_n(&t->tid, &none, -1, false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			break;
	}
	if (i == p.threads)
		return NULL;

	t->nr = (start + i) % p.threads;
	thread_init(t, rnd(&by->rng), plan_of(t->nr, &by->rng));
	if (!(flags & CLONE_THREAD))
		t->child = true;
	if (raw_clone(flags | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID,
		      (char *)t + STACK_AT + STACK_SIZE, &t->tid, &t->tid,
		      fn ? fn : thread_main, t) < 0) {
		STORE(t->tid, 0);
		return NULL;
	}
	count(N_THREAD);
	return t;
}

/* What a child process does that has the memory of this one, or a copy. */
void child_main(void *arg)
{
	struct thread *t = arg;

	/* It ends whatever becomes of it; not blocked, nor handled, by anyone. */
	SYS(SYS_alarm, 1 + rnd_below(&t->rng, 3));
	t->child = true;
	t->role = UMS_ROLE_NONE;
	t->plan = one_in(&t->rng, 4) ? pick_plan(&t->rng) : PLAN_OTHER;
	t->budget = rnd_log(&t->rng, 1, 256);
	thread_main(t);
	__builtin_unreachable();
}

/* ---- what a thread does next */

static void worker_step(struct thread *t)
{
	unsigned int r = rnd_below(&t->rng, 100);

	if (r < 28)
		act_block(t);
	else if (r < 52)
		call_yield(t, true);
	else if (r < 64)
		act_spin(t);
	else if (r < 68)
		act_fault(t);
	else if (r < 74)
		act_region(t);
	else if (r < 82)
		call_random(t);
	else
		act(t);
}

static void scheduler_step(struct thread *t)
{
	__u64 id = t->kept;

	t->kept = 0;
	if (one_in(&t->rng, 12))
		act(t);
	if (one_in(&t->rng, 48))
		call_random(t);
	if (one_in(&t->rng, 96))
		leave(t);
	if (!id)
		id = take_any(t);
	if (!id && one_in(&t->rng, 16))
		id = rescue(t);
	if (!id && one_in(&t->rng, 8))
		id = pick_id(t);
	if (id)
		call_execute(t, id, true);
	else
		call_wait(t, true);
}

static bool any_list(void)
{
	unsigned int i;

	for (i = 0; i < MAX_LISTS; i++)
		if (LOAD(p.lists[i].fd) >= 0 && !p.lists[i].foreign && p.lists[i].mapped)
			return true;
	return false;
}

static const unsigned long thread_flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
					  CLONE_THREAD | CLONE_SYSVSEM;

/* Keeps the process alive: new threads, new lists, ends of sleeps; its end. */
static void spawner_step(struct thread *t)
{
	unsigned int i;

	if (!any_list())
		call_create(t, true);
	if (one_in(&t->rng, 256))
		call_create_big(t);
	for (i = 0; i < 2; i++)
		thread_new(t, one_in(&t->rng, 32) ? thread_flags & ~CLONE_FILES : thread_flags,
			   NULL);
	nudge(t);
	if (one_in(&t->rng, 2))
		resolve_faults(t);
	if (one_in(&t->rng, 4))
		act_signal(t);
	if (one_in(&t->rng, 4))
		act_scribble(t);
	if (one_in(&t->rng, 32))
		act_fork(t);
	if (!p.ending && now_ns() > p.end_at)
		STORE(p.ending, 1 + rnd_below(&t->rng, 6));
	else if (p.ending && now_ns() > p.end_at + 200 * MSEC)
		end_process(t);
	nap(rnd_log(&t->rng, 100000, 2 * MSEC));
}

static void ordinary_step(struct thread *t)
{
	unsigned int i;

	switch (t->plan) {
	case PLAN_SPAWNER:
		spawner_step(t);
		return;
	case PLAN_WORKER:
		if (!one_in(&t->rng, 4)) {
			call_worker_enter(t, true);
			return;
		}
		break;
	case PLAN_SCHEDULER:
		if (!one_in(&t->rng, 4)) {
			call_scheduler_enter(t, true);
			return;
		}
		break;
	case PLAN_SCRIBBLER:
		for (i = 0; i < 16; i++)
			act_scribble(t);
		nap(rnd_log(&t->rng, 20000, MSEC / 2));
		if (!one_in(&t->rng, 32))
			return;
		break;
	default:
		if (one_in(&t->rng, 4))
			nap(rnd_log(&t->rng, 10000, MSEC));
	}
	act(t);
}

void live(struct thread *t)
{
	for (;;) {
		count(N_ACTS);
		if (!t->child && LOAD(p.ending) && one_in(&t->rng, 8))
			end_process(t);
		if (t->budget-- <= 0 && t->plan != PLAN_SPAWNER) {
			if (t->child)
				end_process(t);
			thread_end(t);
		}
		if (one_in(&t->rng, 64)) {
			unblock_signals();
			resync(t);
		}
		switch (t->role) {
		case UMS_ROLE_WORKER:
			worker_step(t);
			break;
		case UMS_ROLE_SCHEDULER:
			scheduler_step(t);
			break;
		default:
			ordinary_step(t);
		}
	}
}

/* ---- where the kernel starts threads: upcalls and signals */

/*
 * The scheduler goes on from here with whatever comes: there is nothing on the
 * stack to return to.
 */
void upcall(__u64 reason, __u64 worker, __u64 detail, __u64 unspecified, struct thread *t)
{
	if (reason >= REASONS || (reason && (!worker || worker >> 63)))
		wrong("upcall", reason, worker, detail);
	else
		count(N_UPCALL + reason);
	__atomic_fetch_add(&sh->result[(reason ? NR_UMS_EXECUTE : NR_UMS_SCHEDULER_ENTER) -
				       NR_UMS_CREATE][0], 1, __ATOMIC_RELAXED);

	t->role = UMS_ROLE_SCHEDULER;
	if (t->depth) {
		/* It executed in a signal handler, which has gone now. */
		t->depth = 0;
		unblock_signals();
	}
	switch (reason) {
	case UMS_UPCALL_BLOCKED:
		if (detail == UMS_CAUSE_FAULT)
			count(N_BLOCKED_FAULT);
		break;
	case UMS_UPCALL_YIELDED:
		/* On no list, most often: to be executed here, or by anybody. */
		note_id(t, worker);
		if (!one_in(&t->rng, 8))
			t->kept = worker;
		break;
	case UMS_UPCALL_PREEMPTED:
		if (detail < UMS_PREEMPT_ASKED || detail > UMS_PREEMPT_SIGNAL)
			wrong("upcall", reason, worker, detail);
		else
			count(N_ASKED + detail - UMS_PREEMPT_ASKED);
		break;
	default:
		break;
	}
	if (reason && one_in(&t->rng, 16))
		note_id(t, worker);
	if (one_in(&t->rng, 64))
		leave(t);
	live(t);
}

static void handler(int sig)
{
	struct thread *t = thread_at(__builtin_frame_address(0));
	unsigned int n;

	count(N_HANDLER);
	/* On a stack of the fuzzed kind, or as thread without an area. */
	if (!t || t->plan == PLAN_SPAWNER)
		return;
	t->depth++;
	if (t->depth < 4) {
		for (n = rnd_below(&t->rng, 3); n; n--) {
			count(N_HANDLER_CALL);
			if (t->role == UMS_ROLE_SCHEDULER && one_in(&t->rng, 2))
				call_execute(t, pick_id(t), true);
			else if (t->role == UMS_ROLE_WORKER && one_in(&t->rng, 2))
				call_yield(t, true);
			else
				act(t);
		}
	}
	if (one_in(&t->rng, 16))
		leave(t);
	if (t->depth)
		t->depth--;
}

/* A page that is not there, an entry point that is none. */
static void fault_handler(int sig)
{
	struct thread *t = thread_at(__builtin_frame_address(0));

	count(N_SEGV);
	if (!t || INC(p.segvs) > 20000 || (t->child && one_in(&t->rng, 16)))
		SYS(SYS_exit_group, 1);
	leave(t);
}

/* Of a real-time policy, it has run for too long at a stretch. */
static void rttime_handler(int sig)
{
	struct sched_param param = {};

	SYS(SYS_sched_setscheduler, 0, SCHED_OTHER, &param);
}

static void set_handlers(void)
{
	struct sigaction sa = { .sa_handler = handler };

	/* One on the alternate stack, one on that of an upcall or of the thread. */
	sa.sa_flags = SA_ONSTACK | SA_RESTART;
	sigaction(SIGUSR1, &sa, NULL);
	sa.sa_flags = 0;
	sigaction(SIGUSR2, &sa, NULL);
	sa.sa_flags = SA_NODEFER | SA_ONSTACK;
	sigaction(SIGRTMIN, &sa, NULL);

	sa.sa_handler = fault_handler;
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGILL, &sa, NULL);
	sigaction(SIGTRAP, &sa, NULL);
	sigaction(SIGFPE, &sa, NULL);

	sa.sa_handler = rttime_handler;
	sigaction(SIGXCPU, &sa, NULL);
	sa.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &sa, NULL);
	unblock_signals();
}

/* ---- set-up */

static void limit(int what, rlim_t soft, rlim_t hard)
{
	struct rlimit rl = { soft, hard };

	setrlimit(what, &rl);
}

/* What a process can use up stays small, and so does what it can leave behind. */
static void set_limits(void)
{
	limit(RLIMIT_NOFILE, FD_LIMIT, FD_LIMIT);
	limit(RLIMIT_CORE, 0, 0);
	limit(RLIMIT_FSIZE, 1 << 20, 1 << 20);
	limit(RLIMIT_AS, 2UL << 30, 2UL << 30);
	limit(RLIMIT_MEMLOCK, 1 << 20, 1 << 20);
	/* Microseconds. */
	limit(RLIMIT_RTTIME, 20000, 2000000);

	p.root = !geteuid();
	if (p.root && !(p.seed % 4)) {
		gid_t gid = 60000 + p.slot;

		/* For this user alone, whose processes are those of this slot. */
		limit(RLIMIT_NPROC, 4 * MAX_THREADS, 4 * MAX_THREADS);
		if (!setgroups(0, NULL) && !setresgid(gid, gid, gid) &&
		    !setresuid(gid, gid, gid))
			p.root = false;
	}
	prctl(PR_SET_DUMPABLE, 1);
	if (!p.depth)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void *map(size_t size, int prot)
{
	void *m = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (m == MAP_FAILED)
		_exit(1);
	return m;
}

static void map_memory(void)
{
	size_t size = p.threads * AREA;
	unsigned int i;

	p.areas = map(size + AREA, PROT_READ | PROT_WRITE);
	p.areas = (char *)(((unsigned long)p.areas + AREA - 1) & ~(AREA - 1));
	for (i = 0; i < p.threads; i++)
		mprotect(p.areas + i * AREA + SCRATCH_AT + PAGE, PAGE, PROT_NONE);
	p.windows = map(MAX_LISTS * WINDOW, PROT_NONE);
	p.zoo = map(ZOO * PAGE, PROT_READ | PROT_WRITE);
	mprotect(p.zoo + Z_NONE * PAGE, PAGE, PROT_NONE);
	mprotect(p.zoo + Z_NONE2 * PAGE, PAGE, PROT_NONE);
	mprotect(p.zoo + Z_READ * PAGE, PAGE, PROT_READ);
}

/* Missing pages that somebody else has to fill, also for the kernel if allowed. */
static void watch_pages(void)
{
	struct uffdio_register reg = {
		.range = { (unsigned long)p.zoo + Z_UFFD * PAGE, (Z_FAULT - Z_UFFD) * PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };

	p.uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK |
			 (p.root ? 0 : UFFD_USER_MODE_ONLY));
	if (p.uffd >= 0 && (ioctl(p.uffd, UFFDIO_API, &api) ||
			    ioctl(p.uffd, UFFDIO_REGISTER, &reg))) {
		close(p.uffd);
		p.uffd = -1;
	}
}

static void open_files(struct thread *t)
{
	unsigned int i;
	int fd;

	for (i = 0; i < MAX_LISTS; i++)
		p.lists[i].fd = -1;
	/* What a former program of this process has left: lists of nobody now. */
	for (fd = 3; fd < FD_LIMIT; fd++)
		if ((fd < FD_SHARED || fd > FD_RECEIVE) && fcntl(fd, F_GETFD) >= 0 &&
		    (one_in(&t->rng, 2) || list_keep(t, fd, 1, true) < 0))
			close(fd);
	if (pipe2(p.pipe, O_CLOEXEC) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p.sock))
		_exit(1);
	fcntl(p.pipe[1], F_SETFL, O_NONBLOCK);
	p.event = eventfd(0, EFD_CLOEXEC);
	p.epoll = epoll_create1(EPOLL_CLOEXEC);
	watch_pages();
}

void process_main(unsigned int slot, __u64 seed, unsigned int depth, unsigned int threads)
{
	unsigned int i, spare = 4;	/* for children with this memory */
	struct ums_abi abi = {};
	struct thread *t;
	__u64 rng = seed;

	ums_query(UMS_QUERY_ABI, 0, &abi, sizeof(abi));
	p.can_switch = abi.features & UMS_FEATURE_USER_SWITCH;
	if (p.can_switch)
		p.pointer = get_pointer();
	p.forges = seed / 4 % 4 == 0;
	p.slot = slot;
	p.seed = seed;
	p.depth = depth;
	p.asked = threads;
	p.threads = (depth ? 4 : threads) + spare;
	set_limits();
	map_memory();
	set_handlers();
	for (i = 0; i < p.threads; i++)
		thread_of(i)->nr = i;
	t = thread_of(0);
	thread_init(t, rnd(&rng), PLAN_SPAWNER);
	/* The kernel does not clear it, so nobody else comes to live here. */
	t->tid = -1;
	open_files(t);
	p.end_at = now_ns() + rnd_log(&rng, 50, 4000) * MSEC;

	call_create(t, true);
	call_create(t, true);
	/* The first thread is often something else, and may end before the others. */
	if (one_in(&rng, 4)) {
		t = thread_new(t, thread_flags, NULL);
		if (t) {
			t->plan = PLAN_SPAWNER;
			thread_of(0)->plan = pick_plan(&rng);
		}
		t = thread_of(0);
	}
	run_on((char *)t + STACK_AT + STACK_SIZE, thread_main, t);
}

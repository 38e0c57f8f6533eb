// SPDX-License-Identifier: GPL-2.0
/*
 * A worker crashes while others run, sleep and wait to be executed: the core file
 * has the registers of each thread, as it was in user mode last, the crashing one
 * first.
 */
#include "ums_test.h"

#include <elf.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/procfs.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>

#define PATTERN "/proc/sys/kernel/core_pattern"

/* How a thread is when the other one crashes. */
enum {
	CRASHES,
	SPINS,			/* RUNNING */
	READS_IN_REGION,	/* RUNNING, asleep */
	READS,			/* BLOCKED, held */
	POLLS,			/* BLOCKED, not held */
	FAULTS,			/* BLOCKED, in a page fault */
	YIELDED,		/* READY, on no list */
	PREEMPTED,		/* READY, on its list */
	FRESH,			/* READY, never executed */
	WORKERS,
	WAITS = WORKERS,	/* a scheduler in ums_wait() */
	RUNS_CRASHES,		/* one in ums_execute(), and so on */
	RUNS_SPINS,
	RUNS_READS_IN_REGION,
	MAIN,
	THREADS,
};

static const char * const names[THREADS] = {
	"crashes", "spins", "reads_in_region", "reads", "polls", "faults", "yielded",
	"preempted", "fresh", "waits", "runs_crashes", "runs_spins",
	"runs_reads_in_region", "main",
};

struct shared {
	pid_t tid[THREADS];
	int crash;
};

static struct shared *sh;
static struct worker workers[WORKERS];
static struct list lists[WORKERS];
static struct list idle_list;
static void *missing;		/* a page that never comes */

/* In %rbx of each, to be found there. */
#define MARK(who) (0x5ca1ab1e00000000UL + (who))

/* What the child and the parent agree on, since one is a fork of the other. */
extern char crash_here[], spin_here[], spin_end[], fault_here[], after_syscall[];

/*
 * A system call with the mark in %rbx, at a place that is known. The others do
 * the one thing that they are for, with theirs.
 */
asm(".pushsection .text\n"
	"marked_syscall:\n"			/* mark, nr, a, b, c */
	"	push	%rbx\n"
	"	mov	%rdi, %rbx\n"
	"	mov	%rsi, %rax\n"
	"	mov	%rdx, %rdi\n"
	"	mov	%rcx, %rsi\n"
	"	mov	%r8, %rdx\n"
	"	xor	%r10d, %r10d\n"
	"	syscall\n"
	".globl after_syscall\n"
	"after_syscall:\n"
	"	pop	%rbx\n"
	"	ret\n"
	"marked_spin:\n"
	"	push	%rbx\n"
	"	mov	%rdi, %rbx\n"
	".globl spin_here\n"
	"spin_here:\n"
	"	pause\n"
	"	jmp	spin_here\n"
	".globl spin_end\n"
	"spin_end:\n"
	"marked_load:\n"			/* mark, address */
	"	push	%rbx\n"
	"	mov	%rdi, %rbx\n"
	".globl fault_here\n"
	"fault_here:\n"
	"	mov	(%rsi), %eax\n"
	"	pop	%rbx\n"
	"	ret\n"
	"marked_store:\n"
	"	push	%rbx\n"
	"	mov	%rdi, %rbx\n"
	".globl crash_here\n"
	"crash_here:\n"
	"	movl	$1, (%rsi)\n"
	"	pop	%rbx\n"
	"	ret\n"
	".popsection\n");

long marked_syscall(unsigned long mark, long nr, long a, long b, long c);
void marked_spin(unsigned long mark);
void marked_load(unsigned long mark, void *p);
void marked_store(unsigned long mark, void *p);

#define CRASH_ADDRESS 0x12340

static void lives(struct worker *w)
{
	int who = w - workers;
	struct pollfd p = { .fd = w->fd[0], .events = POLLIN };
	char c;

	switch (who) {
	case CRASHES:
		while (!LOAD(sh->crash))
			ums_yield(1, 0);
		marked_store(MARK(who), (void *)CRASH_ADDRESS);
		break;
	case SPINS:
	case PREEMPTED:
		STORE(w->stage, 1);
		marked_spin(MARK(who));
		break;
	case READS_IN_REGION:
		STORE(list_slot(w->list, w->id)->no_upcall, 1);
		/* fall through */
	case READS:
		marked_syscall(MARK(who), SYS_read, w->fd[0], (long)&c, 1);
		break;
	case POLLS:
		marked_syscall(MARK(who), SYS_poll, (long)&p, 1, -1);
		break;
	case FAULTS:
		marked_load(MARK(who), missing);
		break;
	case YIELDED:
		marked_syscall(MARK(who), NR_UMS_YIELD, 0, 0, 0);
		break;
	}
}

/* Executes until the worker is as its name says; @who has a list of its own. */
static bool settle(struct sched *s, int who)
{
	__u64 id = list_pop_wait(&lists[who]);
	unsigned long nr = who == READS ? SYS_read : who == POLLS ? SYS_poll :
			   UMS_CAUSE_FAULT;

	for (;;) {
		if (!id || sched_run(s, id, who == PREEMPTED ? 20 * MSEC : 0))
			return false;
		switch (s->reason) {
		case UMS_UPCALL_YIELDED:
			return who == YIELDED;
		case UMS_UPCALL_PREEMPTED:
			if (LOAD(workers[who].stage))
				return who == PREEMPTED;
			break;
		case UMS_UPCALL_BLOCKED:
			/* Other faults, before, are over some time. */
			if (s->detail == nr && who != FAULTS)
				return true;
			if (who == FAULTS) {
				struct __kernel_timespec ts = { .tv_nsec = 200 * MSEC };

				if (ums_wait(lists[who].fd, &ts, 0) == -ETIMEDOUT)
					return s->detail == nr;
			}
			break;
		default:
			return false;
		}
		id = list_pop_wait(&lists[who]);
	}
}

static int settled;

static void *waits(void *arg)
{
	static const int mine[] = { READS, POLLS, FAULTS, YIELDED, PREEMPTED };
	struct sched s;
	int i;

	STORE(sh->tid[WAITS], self_tid());
	if (sched_enter(&s))
		_exit(20);
	for (i = 0; i < ARRAY_SIZE(mine); i++)
		if (!settle(&s, mine[i]))
			_exit(21 + i);
	STORE(settled, 1);
	ums_wait(idle_list.fd, NULL, 0);
	_exit(29);
}

static void *runs(void *arg)
{
	int who = (long)arg;
	struct sched s;

	STORE(sh->tid[RUNS_CRASHES + who], self_tid());
	if (sched_enter(&s))
		_exit(30);
	worker_run_to_end(&s, &lists[who], list_pop_wait(&lists[who]));
	_exit(31);
}

static bool at_rest(void)
{
	int i;

	for (i = 0; i < 3; i++)
		if (!LOAD(sh->tid[RUNS_CRASHES + i]))
			return false;
	return LOAD(settled) && LOAD(workers[SPINS].stage) &&
	       LOAD(workers[CRASHES].id) &&
	       thread_sleeps_in(sh->tid[READS_IN_REGION], SYS_read) &&
	       thread_sleeps_in(sh->tid[RUNS_SPINS], NR_UMS_EXECUTE) &&
	       thread_sleeps_in(sh->tid[RUNS_READS_IN_REGION], NR_UMS_EXECUTE) &&
	       thread_sleeps_in(sh->tid[WAITS], NR_UMS_WAIT);
}

/* A page whose first access waits for ever: nobody reads the descriptor. */
static void *never_comes(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	reg.range.start = (unsigned long)p;
	reg.range.len = 4096;
	if (fd < 0 || p == MAP_FAILED || ioctl(fd, UFFDIO_API, &api) ||
	    ioctl(fd, UFFDIO_REGISTER, &reg))
		return NULL;
	return p;
}

static int process(void)
{
	struct rlimit rl = { RLIM_INFINITY, RLIM_INFINITY };
	pthread_t t;
	long i;

	signal(SIGSEGV, SIG_DFL);
	if (setrlimit(RLIMIT_CORE, &rl) || write_text("/proc/self/coredump_filter", "0"))
		return 10;
	missing = never_comes();
	if (!missing || list_open(&idle_list, 1))
		return 11;
	sh->tid[MAIN] = self_tid();
	for (i = 0; i < WORKERS; i++) {
		if (pipe(workers[i].fd) || list_open(&lists[i], 1))
			return 12;
		if (worker_start(&workers[i], &lists[i], lives, NULL))
			return 13;
		if (!WAIT_FOR(!list_empty(&lists[i])))
			return 14;
		sh->tid[i] = workers[i].tid;
	}
	for (i = 0; i < 3; i++)
		if (thread_start(&t, runs, (void *)i))
			return 15;
	if (thread_start(&t, waits, NULL))
		return 16;
	if (!WAIT_FOR(at_rest()))
		return 17;
	STORE(sh->crash, 1);
	for (;;)
		marked_syscall(MARK(MAIN), SYS_pause, 0, 0, 0);
}

/*
 * One that crashes on the thread of another, whose context is saved; the scheduler's waits for
 * it. In tid[]: as that has it, with READS for the other one, and RUNS_CRASHES.
 */
static struct sched away_sched;

static void crashes_away(struct worker *w)
{
	worker_switch_out(w, &away_sched, 0);
	marked_store(MARK(CRASHES), (void *)CRASH_ADDRESS);
}

static void lends_thread(struct worker *w)
{
	for (;;)
		worker_switch_out(w, &away_sched, 0);
}

static int process_away(void)
{
	struct rlimit rl = { RLIM_INFINITY, RLIM_INFINITY };
	static const int who[] = { CRASHES, READS };
	struct worker w[2] = {};
	__u64 id;
	int i;

	signal(SIGSEGV, SIG_DFL);
	if (setrlimit(RLIMIT_CORE, &rl) || write_text("/proc/self/coredump_filter", "0") ||
	    lock_memory())
		return 10;
	sh->tid[RUNS_CRASHES] = self_tid();
	if (list_open(&lists[0], 2) || sched_enter_switching(&away_sched))
		return 11;
	for (i = 0; i < 2; i++) {
		w[i].flags = UMS_WORKER_USER_SWITCH;
		id = worker_start_pop(&w[i], &lists[0], i ? lends_thread : crashes_away, NULL);
		if (!id)
			return 12;
		sh->tid[who[i]] = w[i].tid;
		while (sched_run(&away_sched, id, 0) || away_sched.reason != UMS_UPCALL_YIELDED)
			list_pop_wait(&lists[0]);
	}
	/* On the thread of the second one, unless something has taken the scheduler home. */
	sched_resume(&away_sched, &w[0]);
	return 13;
}

FIXTURE(core) {
	char was[256];
	char dir[64];
	char path[128];		/* of the file that there may be */
};

FIXTURE_SETUP(core)
{
	char pattern[128];

	UMS_REQUIRE();
	if (read_text(PATTERN, self->was, sizeof(self->was)) < 0)
		SKIP(return, "no core files");
	strcpy(self->dir, "/tmp/ums-core-XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	snprintf(self->path, sizeof(self->path), "%s/core", self->dir);
	snprintf(pattern, sizeof(pattern), "%s/core", self->dir);
	if (write_text(PATTERN, pattern)) {
		rmdir(self->dir);
		SKIP(return, "core_pattern cannot be changed");
	}
	sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, sh);
}

FIXTURE_TEARDOWN_PARENT(core)
{
	write_text(PATTERN, self->was);
	unlink(self->path);
	rmdir(self->dir);
}

/* The notes of a core file in @core. @n: how many; @out: those found. */
static int find_notes(const char *core, size_t size, struct elf_prstatus *out, int max,
		      siginfo_t *si)
{
	const Elf64_Ehdr *e = (const void *)core;
	const Elf64_Phdr *ph;
	int i, n = 0;

	if (size < sizeof(*e) || memcmp(e->e_ident, ELFMAG, SELFMAG) ||
	    e->e_type != ET_CORE || e->e_machine != EM_X86_64)
		return -1;
	ph = (const void *)(core + e->e_phoff);
	for (i = 0; i < e->e_phnum; i++, ph++) {
		const char *p, *end;

		if (ph->p_type != PT_NOTE)
			continue;
		if (ph->p_offset + ph->p_filesz > size)
			return -2;
		p = core + ph->p_offset;
		end = p + ph->p_filesz;
		while (p + sizeof(Elf64_Nhdr) <= end) {
			const Elf64_Nhdr *note = (const void *)p;
			const char *data = p + sizeof(*note) + ((note->n_namesz + 3) & ~3);

			if (note->n_type == NT_PRSTATUS &&
			    note->n_descsz == sizeof(*out) && n < max)
				memcpy(&out[n++], data, sizeof(*out));
			if (note->n_type == NT_SIGINFO)
				memcpy(si, data, sizeof(*si) < note->n_descsz ?
				       sizeof(*si) : note->n_descsz);
			p = data + ((note->n_descsz + 3) & ~3);
		}
	}
	return n;
}

/* @thread: whose registers are to be found. What it is to have in them. */
static void check(struct __test_metadata *_metadata, int who, struct elf_prstatus *st)
{
	struct user_regs_struct *r = (void *)&st->pr_reg;
	unsigned long ip = r->rip;
	long nr = -1;

	switch (who) {
	case CRASHES:
		EXPECT_EQ((unsigned long)crash_here, ip);
		EXPECT_EQ(CRASH_ADDRESS, r->rsi);
		break;
	case SPINS:
	case PREEMPTED:
		EXPECT_LE((unsigned long)spin_here, ip);
		EXPECT_GT((unsigned long)spin_end, ip);
		break;
	case FAULTS:
		EXPECT_EQ((unsigned long)fault_here, ip);
		break;
	case READS_IN_REGION:
	case READS:
		nr = SYS_read;
		break;
	case POLLS:
		nr = SYS_poll;
		break;
	case YIELDED:
		nr = NR_UMS_YIELD;
		break;
	case FRESH:
		nr = NR_UMS_WORKER_ENTER;
		break;
	case WAITS:
		nr = NR_UMS_WAIT;
		break;
	case MAIN:
		nr = SYS_pause;
		break;
	default:
		nr = NR_UMS_EXECUTE;
		/* Its worker may have gone to sleep, or died, before it did. */
		if (ip == (unsigned long)sched_entry)
			nr = -1;
	}
	if (nr != -1) {
		/* Right behind the instruction: both have the same code. */
		EXPECT_EQ(nr, (long)r->orig_rax);
		EXPECT_EQ(0, memcmp((void *)ip - 2, "\x0f\x05", 2));
	}
	if (who < FRESH || who == MAIN) {
		EXPECT_EQ(MARK(who), r->rbx);
		if (nr != -1) {
			EXPECT_EQ((unsigned long)after_syscall, ip);
		}
	}
}

/* The core file of a child that is to crash: its threads, at most @max; the number of them. */
static int crash(struct __test_metadata *_metadata, FIXTURE_DATA(core) *self, int (*process)(void),
		 struct elf_prstatus *st, int max, siginfo_t *si)
{
	int status, fd;
	struct stat stat;
	char *core;
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(process());
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status)) {
		TH_LOG("status %x", status);
	}
	EXPECT_EQ(SIGSEGV, WTERMSIG(status));
	EXPECT_TRUE(WCOREDUMP(status));

	snprintf(self->path, sizeof(self->path), "%s/core", self->dir);
	fd = open(self->path, O_RDONLY);
	if (fd < 0) {
		/* kernel.core_uses_pid */
		snprintf(self->path, sizeof(self->path), "%s/core.%d", self->dir, pid);
		fd = open(self->path, O_RDONLY);
	}
	if (fd < 0 || fstat(fd, &stat))
		return -1;
	core = mmap(NULL, stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	unlink(self->path);
	return core == MAP_FAILED ? -1 : find_notes(core, stat.st_size, st, max, si);
}

TEST_F(core, of_every_state)
{
	struct elf_prstatus st[THREADS + 8];
	siginfo_t si = {};
	int n, i, who, found = 0;

	n = crash(_metadata, self, process, st, ARRAY_SIZE(st), &si);
	EXPECT_EQ(THREADS, n);
	for (i = 0; i < n; i++) {
		for (who = 0; who < THREADS; who++)
			if (sh->tid[who] == st[i].pr_pid)
				break;
		ASSERT_GT(THREADS, who) {
			TH_LOG("tid %d is none of the process's", st[i].pr_pid);
		}
		found |= 1 << who;
		if (!i) {
			EXPECT_EQ(CRASHES, who);
		}
		TH_LOG("%s: %d at %llx, call %lld", names[who], st[i].pr_pid,
		       (long long)((struct user_regs_struct *)&st[i].pr_reg)->rip,
		       (long long)((struct user_regs_struct *)&st[i].pr_reg)->orig_rax);
		check(_metadata, who, &st[i]);
	}
	EXPECT_EQ((1 << THREADS) - 1, found);
	EXPECT_EQ(SIGSEGV, si.si_signo);
	EXPECT_EQ((void *)CRASH_ADDRESS, si.si_addr);
	EXPECT_EQ(SIGSEGV, st[0].pr_cursig);
}

/*
 * The crash is the worker's own: its thread comes first, with its registers. The one on which
 * it happened has them, too, since it handed off there: if it was so, and not brought home by a
 * preemption before.
 */
TEST_F(core, away_from_home)
{
	struct elf_prstatus st[8];
	bool away = false;
	siginfo_t si;
	int n, i, k, found;

	UMS_REQUIRE_SWITCH();
	for (k = 0; k < 10 && !away; k++) {
		n = crash(_metadata, self, process_away, st, ARRAY_SIZE(st), &si);
		ASSERT_EQ(3, n);
		for (found = i = 0; i < n; i++)
			found |= st[i].pr_pid == sh->tid[CRASHES] ? 1 :
				 st[i].pr_pid == sh->tid[READS] ? 2 :
				 st[i].pr_pid == sh->tid[RUNS_CRASHES] ? 4 : 8;
		EXPECT_EQ(7, found);
		EXPECT_EQ(sh->tid[CRASHES], st[0].pr_pid);
		check(_metadata, CRASHES, &st[0]);
		EXPECT_EQ(SIGSEGV, st[0].pr_cursig);
		EXPECT_EQ(SIGSEGV, si.si_signo);
		EXPECT_EQ((void *)CRASH_ADDRESS, si.si_addr);
		for (i = 1; i < n; i++)
			away |= ((struct user_regs_struct *)&st[i].pr_reg)->rip ==
				(unsigned long)crash_here;
	}
	EXPECT_TRUE(away);
}

TEST_HARNESS_MAIN

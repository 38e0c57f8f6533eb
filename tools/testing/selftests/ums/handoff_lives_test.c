// SPDX-License-Identifier: GPL-2.0
/*
 * Threads whose contexts are elsewhere live and die as others do: stopped, killed, forked,
 * replaced by a program, debugged; and what a context calls away from home has the effect
 * that it would have had there.
 */
#include "ums_test.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/loop.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/swap.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define PAIR	2

static struct sched *sched;

/* A scheduler and two workers, of which each has switched out once. */
struct pair {
	struct list l;
	struct sched s;
	struct worker w[PAIR];
	__u64 id[PAIR];
};

static int pair_start(struct pair *p, void (*fn)(struct worker *w))
{
	int i, ret;

	memset(p, 0, sizeof(*p));
	sched = &p->s;
	ret = list_open(&p->l, PAIR);
	if (ret)
		return ret;
	ret = sched_enter_switching(&p->s);
	if (ret)
		return ret;
	for (i = 0; i < PAIR; i++) {
		p->w[i].flags = UMS_WORKER_USER_SWITCH;
		p->id[i] = worker_start_pop(&p->w[i], &p->l, fn, p);
		if (!p->id[i])
			return -EPROTO;
		ret = sched_run(&p->s, p->id[i], 0);
		while (!ret && p->s.reason == UMS_UPCALL_BLOCKED)
			ret = sched_run(&p->s, list_pop_wait(&p->l), 0);
		if (ret || p->s.reason != UMS_UPCALL_YIELDED)
			return ret ?: -EPROTO;
	}
	return 0;
}

/* Resumes @n, and goes on with it, whatever it does, until it switches out or ends. */
static int pair_resume(struct pair *p, int n)
{
	int ret = sched_resume(&p->s, &p->w[n]);

	while (!ret && (p->s.reason == UMS_UPCALL_BLOCKED ||
			p->s.reason == UMS_UPCALL_PREEMPTED))
		ret = sched_run(&p->s, list_pop_wait(&p->l), 0);
	return ret;
}

static struct worker *pair_other(struct worker *w)
{
	struct pair *p = w->arg;

	return &p->w[w == &p->w[0]];
}

static void runs_nothing(struct worker *w)
{
	worker_switch_out(w, sched, 0);
}

/* Switch to and fro, with a call or a fault now and then, for ever. */
static void plays(struct worker *w)
{
	volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned int i;

	worker_switch_out(w, sched, 0);
	for (i = 0;; i++) {
		if (i % 7 == 0 && self_tid() != w->tid)
			_exit(3);
		if (i % 31 == 0)
			madvise((void *)page, 4096, MADV_DONTNEED);
		page[0]++;
		INC(w->result);
		worker_switch_to(w, pair_other(w));
	}
}

/* A child whose two workers play; @shared counts their rounds. */
static pid_t child_plays(struct pair *p)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	if (pair_start(p, plays))
		_exit(2);
	pair_resume(p, 0);
	_exit(4);
}

static struct pair *shared_pair(void)
{
	void *p = mmap(NULL, sizeof(struct pair), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static bool goes_on(struct pair *p)
{
	long was = LOAD(p->w[0].result);

	return WAIT_FOR(LOAD(p->w[0].result) > was + 100);
}

TEST(stopped_and_continued)
{
	struct pair *p = shared_pair();
	int i, status;
	pid_t pid;
	long was;

	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	pid = child_plays(p);
	ASSERT_LT(0, pid);
	for (i = 0; i < 20; i++) {
		ASSERT_TRUE(goes_on(p));
		ASSERT_EQ(0, kill(pid, SIGSTOP));
		ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
		ASSERT_TRUE(WIFSTOPPED(status));
		was = LOAD(p->w[0].result);
		sleep_ns(MSEC);
		EXPECT_EQ(was, LOAD(p->w[0].result));
		ASSERT_EQ(0, kill(pid, SIGCONT));
	}
	ASSERT_TRUE(goes_on(p));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGKILL, status);
}

TEST(killed)
{
	struct pair *p = shared_pair();
	int i, status;
	pid_t pid;

	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	for (i = 0; i < 20; i++) {
		memset(p, 0, sizeof(*p));
		pid = child_plays(p);
		ASSERT_LT(0, pid);
		ASSERT_TRUE(WAIT_FOR(LOAD(p->w[0].result) > 10));
		sleep_ns(i * MSEC / 10);
		ASSERT_EQ(0, kill(pid, i % 2 ? SIGKILL : SIGTERM));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(i % 2 ? SIGKILL : SIGTERM, status & 0x7f);
	}
}

/*
 * Steps of an instruction, of one thread only. The one that is a switch ends when the context
 * of that thread is back; no other thread stops for it. To be called with all threads stopped,
 * and returns so.
 */
static bool step(pid_t *tid, int n, int steps)
{
	int k, status;

	for (k = 0; k < n; k++)
		if (ptrace(k == 1 ? PTRACE_SINGLESTEP : PTRACE_CONT, tid[k], 0, 0))
			return false;
	for (;;) {
		if (waitpid(-1, &status, __WALL) != tid[1] || !WIFSTOPPED(status) ||
		    WSTOPSIG(status) != SIGTRAP)
			return false;
		if (!--steps)
			break;
		if (ptrace(PTRACE_SINGLESTEP, tid[1], 0, 0))
			return false;
	}
	for (k = 0; k < n; k++)
		if (k != 1 && (ptrace(PTRACE_INTERRUPT, tid[k], 0, 0) ||
			       waitpid(tid[k], &status, __WALL) != tid[k] ||
			       !WIFSTOPPED(status) || status >> 16 != PTRACE_EVENT_STOP))
			return false;
	return true;
}

/* All threads, the vacant ones too, stop for a debugger, and go on when it leaves. */
TEST(traced)
{
	struct pair *p = shared_pair();
	int i, k, status;
	pid_t pid, tid[PAIR + 1];

	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	pid = child_plays(p);
	ASSERT_LT(0, pid);
	for (i = 0; i < 10; i++) {
		ASSERT_TRUE(goes_on(p));
		tid[0] = pid;
		for (k = 0; k < PAIR; k++)
			tid[k + 1] = LOAD(p->w[k].tid);
		for (k = 0; k <= PAIR; k++) {
			ASSERT_EQ(0, ptrace(PTRACE_SEIZE, tid[k], 0, 0));
			ASSERT_EQ(0, ptrace(PTRACE_INTERRUPT, tid[k], 0, 0));
		}
		for (k = 0; k <= PAIR; k++) {
			ASSERT_EQ(tid[k], waitpid(tid[k], &status, __WALL));
			ASSERT_TRUE(WIFSTOPPED(status));
		}
		if (i % 2) {
			ASSERT_TRUE(step(tid, PAIR + 1, 300));
		}
		for (k = 0; k <= PAIR; k++)
			ASSERT_EQ(0, ptrace(PTRACE_DETACH, tid[k], 0, 0));
	}
	ASSERT_TRUE(goes_on(p));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
}

static void calls_in_region(struct worker *w)
{
	struct ums_slot *slot = list_slot(w->list, w->id);

	STORE(slot->no_upcall, w->stage);
	worker_switch_out(w, sched, 0);
	/* From the scheduler's thread. */
	w->result = self_tid();
	STORE(slot->no_upcall, 0);
	ums_yield(2, 0);
}

/*
 * A debugger holds the home of a context that comes there: that is to sleep, and in a
 * region silent.
 */
TEST(stopped_home)
{
	struct worker w[2] = { {}, { .stage = 1 } };
	static struct sched s;
	struct list l;
	pid_t pid;
	__u64 id;
	int i;

	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, sched_enter_switching(&s));
	sched = &s;
	for (i = 0; i < 2; i++) {
		w[i].flags = UMS_WORKER_USER_SWITCH;
		id = worker_start_pop(&w[i], &l, calls_in_region, NULL);
		ASSERT_NE(0, id);
		ASSERT_EQ(0, sched_run(&s, id, 0));
		ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, 0);
		pid = stopper_start(w[i].tid);
		ASSERT_LT(0, pid);
		ASSERT_EQ(0, sched_resume(&s, &w[i]));
		if (!w[i].stage) {
			ASSERT_EQ(UMS_UPCALL_BLOCKED, s.reason);
			ASSERT_EQ(id, list_pop_wait(&l));
			ASSERT_EQ(0, sched_run(&s, id, 0));
		}
		ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, 2);
		EXPECT_EQ(!w[i].stage, stopper_end(pid));
		EXPECT_EQ(w[i].tid, w[i].result);
		EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	}
}

/* Each from a worker away from home: on the thread of the other one. */
static void exits_process(struct worker *w)
{
	worker_switch_out(w, sched, 0);
	_exit(42);
}

static void executes_program(struct worker *w)
{
	char *argv[] = { "/bin/sh", "-c", "exit 43", NULL };

	worker_switch_out(w, sched, 0);
	execve(argv[0], argv, NULL);
}

static void forks(struct worker *w)
{
	int status = 0;
	pid_t pid;

	worker_switch_out(w, sched, 0);
	pid = syscall(SYS_fork);
	if (!pid) {
		struct ums_info info = {};

		/* Ordinary, and the only thread. */
		ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info));
		_exit(self_tid() == getpid() && info.role == UMS_ROLE_NONE ? 44 : 1);
	}
	waitpid(pid, &status, 0);
	_exit(WEXITSTATUS(status));
}

static void ends(struct worker *w)
{
	worker_switch_out(w, sched, 0);
}

static void detaches(struct worker *w)
{
	worker_switch_out(w, sched, 0);
	if (ums_detach(0) || self_tid() != w->tid)
		_exit(1);
	_exit(45);
}

static int in_child(void (*fn)(struct worker *w), int (*then)(struct pair *p))
{
	struct pair *p = shared_pair();
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (pair_start(p, fn))
			_exit(2);
		_exit(then(p));
	}
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* The second worker is the carrier of the first. */
static int resumes(struct pair *p)
{
	int ret = pair_resume(p, 0);

	/* An ordinary thread by now, it ends the process. */
	if (!ret && p->s.reason == UMS_UPCALL_DETACHED)
		pause();
	return 5;
}

static int exits_away(struct pair *p)
{
	_exit(46);
}

static int leaves_away(struct pair *p)
{
	/* The call comes home, and then there is no scheduler. */
	return ums_scheduler_exit(0) ? 1 : 47;
}

static int both_end(struct pair *p)
{
	int i;

	for (i = 0; i < PAIR; i++)
		if (pair_resume(p, i) || p->s.reason != UMS_UPCALL_EXITED ||
		    p->s.worker != p->id[i])
			return 1;
	for (i = 0; i < PAIR; i++)
		if (pthread_join(p->w[i].thread, NULL))
			return 1;
	return 48;
}

/* Closed, they can only become ordinary threads when they have come home. */
static int closes_list(struct pair *p)
{
	struct ums_info info = {};
	int i;

	close(p->l.fd);
	for (i = 0; i < PAIR; i++) {
		if (slot_state(&p->l, p->id[i]) != UMS_STATE_EMPTY)
			return 1;
		if (sched_resume(&p->s, &p->w[i]) || p->s.worker != p->id[i])
			return 1;
		if (p->s.reason != UMS_UPCALL_EXITED && p->s.reason != UMS_UPCALL_DETACHED)
			return 1;
	}
	for (i = 0; i < PAIR; i++)
		if (pthread_join(p->w[i].thread, NULL))
			return 1;
	return ums_query(UMS_QUERY_WORKER, p->id[0], &info, sizeof(info)) == -ESRCH ? 49 : 1;
}

TEST(ends_of_lives)
{
	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	EXPECT_EQ(42, in_child(exits_process, resumes));
	EXPECT_EQ(43, in_child(executes_program, resumes));
	EXPECT_EQ(44, in_child(forks, resumes));
	EXPECT_EQ(45, in_child(detaches, resumes));
	EXPECT_EQ(46, in_child(runs_nothing, exits_away));
	EXPECT_EQ(47, in_child(runs_nothing, leaves_away));
	EXPECT_EQ(48, in_child(ends, both_end));
	EXPECT_EQ(49, in_child(ends, closes_list));
}

/*
 * What belongs to a thread, changed and asked for by a context away from home: on the thread of
 * the other one, which makes a call of its own, at home, before it switches back.
 */
static void go_away(struct worker *w)
{
	worker_switch_to(w, pair_other(w));
}

static void lends(struct worker *w)
{
	for (;;) {
		getppid();
		worker_switch_to(w, pair_other(w));
	}
}

/* It was not so, for a preemption in between, say: to be tried again. */
static bool stayed;

static struct ums_info self_info(void)
{
	struct ums_info info = {};

	ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info));
	return info;
}

/* The first call of @expr is made away, and so in place: its home waits in an entry. */
#define AWAY(w, expr) ({						\
	__u64 __was = self_info().in_place;				\
	long __ret;							\
									\
	go_away(w);							\
	__ret = (expr);							\
	stayed |= self_info().in_place != __was + 1;			\
	__ret;								\
})

/* It comes home otherwise: for a fault, or told to. */
#define AWAY_UNTIL_MADE_TO_COME(w, what) do {				\
	struct ums_info __was = self_info(), __is;			\
									\
	go_away(w);							\
	what;								\
	__is = self_info();						\
	stayed |= __is.handoffs != __was.handoffs + 1 ||		\
		  __is.in_place != __was.in_place;			\
} while (0)

static bool thread_value(struct worker *w, const char *key, char *value, size_t size)
{
	char text[4096], path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", w->tid);
	return read_text(path, text, sizeof(text)) > 0 && text_value(text, key, value, size);
}

static int name_away(struct worker *w)
{
	char name[32] = {}, path[64];

	if (AWAY(w, prctl(PR_SET_NAME, "away")))
		return 1;
	snprintf(path, sizeof(path), "/proc/self/task/%d/comm", w->tid);
	read_text(path, name, sizeof(name));
	return strcmp(name, "away\n") ? 2 : 0;
}

static int mask_away(struct worker *w)
{
	char value[64];
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	if (AWAY(w, pthread_sigmask(SIG_SETMASK, &set, NULL)) ||
	    !thread_value(w, "SigBlk", value, sizeof(value)))
		return 1;
	return strtoul(value, NULL, 16) == 1UL << (SIGUSR2 - 1) ? 0 : 2;
}

static int handled;
static pid_t handled_by;
static void *handled_at;

static void handles(int sig)
{
	handled_at = __builtin_frame_address(0);
	handled_by = self_tid();
	INC(handled);
}

static int stack_away(struct worker *w)
{
	struct sigaction sa = { .sa_handler = handles, .sa_flags = SA_ONSTACK };
	static char stack[64 * 1024];
	stack_t st = { .ss_sp = stack, .ss_size = sizeof(stack) }, now = {};
	pid_t pid = getpid();

	sigaction(SIGUSR1, &sa, NULL);
	if (AWAY(w, sigaltstack(&st, NULL)))
		return 1;
	if (AWAY(w, sigaltstack(NULL, &now)) || now.ss_sp != st.ss_sp)
		return 2;
	if (AWAY(w, syscall(SYS_tgkill, pid, w->tid, SIGUSR1)) || handled_by != w->tid)
		return 3;
	return handled_at > (void *)stack && handled_at < (void *)stack + sizeof(stack) ? 0 : 4;
}

static long pi_call(int op, __u32 *word)
{
	return syscall(SYS_futex, word, op, 0, NULL, NULL, 0);
}

static void *wants_pi(void *arg)
{
	struct sched_param param = { .sched_priority = 5 };

	if (sched_setscheduler(0, SCHED_FIFO, &param))
		return (void *)1;
	return (void *)(pi_call(FUTEX_LOCK_PI, arg) ?: pi_call(FUTEX_UNLOCK_PI, arg));
}

/* As the scheduler of the kernel sees it: 20 is that of nice 0, -6 of SCHED_FIFO 5. */
static long priority_of(pid_t tid)
{
	char path[64], text[1024], *p;
	long is = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	if (read_text(path, text, sizeof(text)) < 0)
		return 0;
	p = strrchr(text, ')');
	if (!p || sscanf(p + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %ld",
			 &is) != 1)
		return 0;
	return is;
}

/*
 * A lock with priority inheritance is of the thread that the kernel sees: who waits lends its
 * priority to that one.
 */
static int pi_away(struct worker *w)
{
	static __u32 word;
	pthread_t t;
	void *ret;

	if (AWAY(w, pi_call(FUTEX_LOCK_PI, &word)))
		return 1;
	if ((word & FUTEX_TID_MASK) != (__u32)w->tid)
		return 2;
	if (priority_of(w->tid) != 20 || thread_start(&t, wants_pi, &word))
		return 3;
	if (!WAIT_FOR(LOAD(word) & FUTEX_WAITERS && priority_of(w->tid) == -6))
		return 4;
	if (AWAY(w, pi_call(FUTEX_UNLOCK_PI, &word)))
		return 5;
	if (pthread_join(t, &ret) || ret)
		return 6;
	return priority_of(w->tid) == 20 && !word ? 0 : 7;
}

static int robust_away(struct worker *w)
{
	struct robust_list_head head = { .list = { &head.list } }, *is;
	size_t len;

	if (AWAY(w, syscall(SYS_set_robust_list, &head, sizeof(head))))
		return 1;
	if (AWAY(w, syscall(SYS_get_robust_list, w->tid, &is, &len)) || is != &head)
		return 2;
	head.list.next = &head.list;
	return syscall(SYS_set_robust_list, NULL, sizeof(head)) ? 3 : 0;
}

static int affinity_away(struct worker *w)
{
	cpu_set_t set, now;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	if (AWAY(w, sched_setaffinity(0, sizeof(set), &set)))
		return 1;
	if (sched_getaffinity(w->tid, sizeof(now), &now) || CPU_COUNT(&now) != 1)
		return 2;
	return AWAY(w, sched_getaffinity(0, sizeof(now), &now)) || CPU_COUNT(&now) != 1 ? 3 : 0;
}

static int nice_away(struct worker *w)
{
	if (AWAY(w, setpriority(PRIO_PROCESS, 0, 7)))
		return 1;
	if (getpriority(PRIO_PROCESS, w->tid) != 7)
		return 2;
	return AWAY(w, getpriority(PRIO_PROCESS, 0)) != 7 ? 3 : 0;
}

static int timer_of(struct worker *w, clockid_t clock, timer_t *t)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2 };
	struct itimerspec its = { .it_value.tv_nsec = 5 * MSEC };

	signal(SIGUSR2, handles);
	ev._sigev_un._tid = w->tid;
	return AWAY(w, timer_create(clock, &ev, t)) || AWAY(w, timer_settime(*t, 0, &its, NULL));
}

/* It expires while the thread for which it is has no context. */
static int timer_away(struct worker *w)
{
	bool ok = false;
	timer_t t;

	if (timer_of(w, CLOCK_MONOTONIC, &t))
		return 1;
	if (LOAD(handled))
		stayed = true;	/* too soon */
	AWAY_UNTIL_MADE_TO_COME(w, ok = SPIN_FOR(LOAD(handled)));
	return ok && handled_by == w->tid ? 0 : 2;
}

/* The time that passes is that of the thread, at home. */
static int cpu_timer_away(struct worker *w)
{
	__u64 end;
	timer_t t;

	if (timer_of(w, CLOCK_THREAD_CPUTIME_ID, &t))
		return 1;
	for (end = now_ns() + LIMIT_S * NSEC; !LOAD(handled) && now_ns() < end;)
		getppid();
	return handled && handled_by == w->tid ? 0 : 2;
}

static __u64 cpu_time(clockid_t clock)
{
	struct timespec ts = {};

	syscall(SYS_clock_gettime, clock, &ts);
	return ts.tv_sec * NSEC + ts.tv_nsec;
}

/* What it computes away from home is time of the carrier. */
static int cpu_clock_away(struct worker *w)
{
	__u64 mine, others, end;
	clockid_t other;

	if (pthread_getcpuclockid(pair_other(w)->thread, &other))
		return 1;
	others = cpu_time(other);
	mine = AWAY(w, cpu_time(CLOCK_THREAD_CPUTIME_ID));
	mine = AWAY(w, ({
		end = now_ns() + 3 * MSEC;
		while (now_ns() < end)
			;
		cpu_time(CLOCK_THREAD_CPUTIME_ID);
	})) - mine;
	others = cpu_time(other) - others;
	if (stayed)
		return 0;
	return mine < 2 * MSEC && others >= 2 * MSEC ? 0 : 2;
}

static int user_away(struct worker *w)
{
	char value[64];
	bool ok;

	/* The thread's alone. Back to what it was, or nobody could go on from here. */
	if (AWAY(w, syscall(SYS_setresuid, -1, 65534, -1)))
		return 1;
	ok = thread_value(w, "Uid", value, sizeof(value)) && strstr(value, "65534");
	if (syscall(SYS_setresuid, -1, 0, -1))
		return 2;
	return ok ? 0 : 3;
}

static int limit_away(struct worker *w)
{
	struct rlimit limit = { 100, 200 }, is;

	if (AWAY(w, setrlimit(RLIMIT_NOFILE, &limit)))
		return 1;
	if (AWAY(w, syscall(SYS_prlimit64, w->tid, RLIMIT_NOFILE, NULL, &is)))
		return 2;
	return is.rlim_cur == 100 && is.rlim_max == 200 ? 0 : 3;
}

static int errno_away(struct worker *w)
{
	errno = 0;
	AWAY(w, close(-1));
	return errno != EBADF;
}

static __thread long local;

static int local_away(struct worker *w)
{
	long is;

	local = w->tid;
	return AWAY(w, ({ is = local++; self_tid(); })) != is || local != is + 1;
}

static int vm_away(struct worker *w)
{
	long in = w->tid, out = 0;
	struct iovec from = { &in, sizeof(in) }, to = { &out, sizeof(out) };

	return AWAY(w, process_vm_writev(w->tid, &from, 1, &to, 1, 0)) != sizeof(in) || out != in;
}

static int cleared = 1;

static int tid_address_away(struct worker *w)
{
	return AWAY(w, syscall(SYS_set_tid_address, &cleared)) != w->tid;
}

/* A ring with one entry, to be submitted. */
struct ring {
	int fd;
	int *cq_tail;
	struct io_uring_cqe *cqes;
};

static int ring_open(struct ring *r, unsigned int flags, const struct io_uring_sqe *sqe)
{
	struct io_uring_params p = { .flags = flags };
	struct io_uring_sqe *sqes;
	int *sq, *cq;

	r->fd = syscall(SYS_io_uring_setup, 4, &p);
	if (r->fd < 0)
		return -errno;
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(int), PROT_READ | PROT_WRITE,
		  MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe),
		  PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	sqes = mmap(NULL, p.sq_entries * sizeof(*sqes), PROT_READ | PROT_WRITE, MAP_SHARED,
		    r->fd, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqes == MAP_FAILED)
		return -ENOMEM;
	*sqes = *sqe;
	sq[p.sq_off.array / sizeof(int)] = 0;
	STORE(sq[p.sq_off.tail / sizeof(int)], 1);
	r->cq_tail = &cq[p.cq_off.tail / sizeof(int)];
	r->cqes = (struct io_uring_cqe *)((char *)cq + p.cq_off.cqes);
	return 0;
}

static int ring_enter(struct ring *r, unsigned int wait)
{
	return syscall(SYS_io_uring_enter, r->fd, 1, wait, IORING_ENTER_GETEVENTS, NULL, 0);
}

/* A ring whose only submitter is the thread that has made it. */
static int uring_away(struct worker *w)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_NOP, .user_data = w->tid };
	struct ring r;

	if (AWAY(w, ring_open(&r, IORING_SETUP_SINGLE_ISSUER, &sqe)))
		return 1;
	if (AWAY(w, ring_enter(&r, 1)) != 1)
		return 2;
	if (LOAD(*r.cq_tail) != 1 || r.cqes->user_data != (__u64)w->tid)
		return 3;
	return close(r.fd) ? 4 : 0;
}

static void *serves_faults(void *arg)
{
	struct uffdio_zeropage zero = { .range.len = 4096 };
	int fd = (long)arg;
	struct uffd_msg m;

	if (read(fd, &m, sizeof(m)) != sizeof(m) || m.event != UFFD_EVENT_PAGEFAULT)
		return (void *)1;
	zero.range.start = m.arg.pagefault.address & ~4095ULL;
	if (ioctl(fd, UFFDIO_ZEROPAGE, &zero))
		return (void *)2;
	return (void *)(long)m.arg.pagefault.feat.ptid;
}

/* A fault that another thread serves, which is told whose it is. */
static int userfault_away(struct worker *w)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_THREAD_ID };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	volatile char *page;
	pthread_t t;
	void *ret;
	int fd;

	munlockall();
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	reg.range.start = (unsigned long)page;
	reg.range.len = 4096;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg) ||
	    thread_start(&t, serves_faults, (void *)(long)fd))
		return 1;
	AWAY_UNTIL_MADE_TO_COME(w, page[0]++);
	if (pthread_join(t, &ret))
		return 2;
	return (long)ret != w->tid;
}

/*
 * What is written to the disk stays in memory as well; read once more, it is clean, and goes.
 * But not as long as another processor, on which the thread was before, is about to put it on
 * a list: so it is another page each time.
 */
static bool page_out(volatile char **out)
{
	volatile char *page;
	unsigned char v = 1;
	int i;

	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	page[0] = 7;
	for (i = 0; i < 3; i++) {
		if (!madvise((void *)page, 4096, MADV_PAGEOUT) &&
		    !mincore((void *)page, 4096, &v) && !(v & 1)) {
			*out = page;
			return true;
		}
		sleep_ns(MSEC);
		(void)page[0];
	}
	munmap((void *)page, 4096);
	return false;
}

/* A fault that has to wait for a disk; see there. */
static int swapped_away(struct worker *w)
{
	struct rusage before, after;
	volatile char *page;
	char was = 0;

	munlockall();
	if (!WAIT_FOR(page_out(&page)))
		return 1;
	getrusage(RUSAGE_THREAD, &before);
	AWAY_UNTIL_MADE_TO_COME(w, was = page[0]);
	if (was != 7)
		return 2;
	getrusage(RUSAGE_THREAD, &after);
	return after.ru_majflt - before.ru_majflt == 1 ? 0 : 3;
}

/* Locked when it comes, which counts against the limit of the process. */
static int locked_away(struct worker *w)
{
	struct rusage before, after;
	char value[64];
	volatile char *page;
	unsigned char v;

	munlockall();
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mlock2((void *)page, 4096, MLOCK_ONFAULT) || mincore((void *)page, 4096, &v) || v & 1)
		return 1;
	getrusage(RUSAGE_THREAD, &before);
	AWAY_UNTIL_MADE_TO_COME(w, page[0]++);
	getrusage(RUSAGE_THREAD, &after);
	if (after.ru_minflt == before.ru_minflt || mincore((void *)page, 4096, &v) || !(v & 1))
		return 2;
	return thread_value(w, "VmLck", value, sizeof(value)) && atol(value) == 4 ? 0 : 3;
}

static int (*const acts[])(struct worker *w) = {
	name_away, mask_away, stack_away, pi_away, robust_away, affinity_away, nice_away,
	timer_away, cpu_timer_away, cpu_clock_away, user_away, limit_away, errno_away, local_away,
	vm_away, tid_address_away, uring_away, userfault_away, locked_away,
	/* Not without the swap space that another test makes. */
	swapped_away,
};

#define SWAPPED	(ARRAY_SIZE(acts) - 1)

static void acts_away(struct worker *w)
{
	struct pair *p = w->arg;

	worker_switch_out(w, sched, 0);
	if (w == &p->w[0]) {
		w->result = acts[w->stage](w);
		worker_switch_out(w, sched, 0);
		return;
	}
	lends(w);
}

#define STAYED	102
#define TRIES	50

/* The wait status. */
static int try_in_child(unsigned int i)
{
	struct pair *p = shared_pair();
	int status;
	pid_t pid;

	pid = fork();
	if (pid)
		return waitpid(pid, &status, 0) == pid ? status : -1;
	/* Or the text of a call that is made for the first time would bring it home before. */
	if (lock_memory() || pair_start(p, acts_away))
		_exit(100);
	p->w[0].stage = i;
	if (pair_resume(p, 0) || p->s.reason != UMS_UPCALL_YIELDED)
		_exit(101);
	_exit(p->w[0].result ?: stayed ? STAYED : 0);
}

static int act_in_child(unsigned int i)
{
	int status, n = 0;

	do
		status = try_in_child(i);
	while (status == STAYED << 8 && ++n < TRIES);
	return status;
}

TEST(calls)
{
	unsigned int i;

	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	for (i = 0; i < SWAPPED; i++) {
		EXPECT_EQ(0, act_in_child(i)) {
			TH_LOG("act %u", i);
		}
	}
}

/* On a loop device over memory. */
FIXTURE(swap)
{
	char device[32];
};

FIXTURE_SETUP(swap)
{
	/* struct swap_info of mkswap: version, last page, bad pages; and the magic. */
	const __u32 info[] = { 1, 1023, 0 };
	int ctl, nr, mem, loop;

	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	nr = ioctl(ctl, LOOP_CTL_GET_FREE);
	close(ctl);
	if (ctl < 0 || nr < 0)
		SKIP(return, "no loop device");
	snprintf(self->device, sizeof(self->device), "/dev/loop%d", nr);
	loop = open(self->device, O_RDWR | O_CLOEXEC);
	mem = memfd_create("swap", MFD_CLOEXEC);
	ASSERT_LE(0, loop);
	ASSERT_LE(0, mem);
	ASSERT_EQ(0, ftruncate(mem, 1024 * 4096));
	ASSERT_EQ(sizeof(info), pwrite(mem, info, sizeof(info), 1024));
	ASSERT_EQ(10, pwrite(mem, "SWAPSPACE2", 10, 4096 - 10));
	ASSERT_EQ(0, ioctl(loop, LOOP_SET_FD, mem));
	if (swapon(self->device, 0))
		SKIP(return, "no swap space: errno %d", errno);
}

/* Also when the test has died. */
FIXTURE_TEARDOWN_PARENT(swap)
{
	int loop = open(self->device, O_RDWR | O_CLOEXEC);

	swapoff(self->device);
	ioctl(loop, LOOP_CLR_FD, 0);
	close(loop);
}

TEST_F(swap, away)
{
	EXPECT_EQ(0, act_in_child(SWAPPED));
}

static struct ring rings[PAIR];

static void submits_read(struct worker *w)
{
	struct pair *p = w->arg;
	struct ring *r = &rings[w - p->w];
	struct io_uring_sqe sqe = { .opcode = IORING_OP_READ };
	static char c[PAIR];

	sqe.addr = (unsigned long)&c[w - p->w];
	sqe.len = 1;
	if (pipe(w->fd))
		_exit(3);
	sqe.fd = w->fd[0];
	if (ring_open(r, 0, &sqe) || ring_enter(r, 0) != 1 || LOAD(*r->cq_tail))
		_exit(4);
	worker_switch_out(w, sched, 0);
	w->result = r->cqes->res;
}

/* The thread does what the ring wants of it, without its context, and sleeps again. */
static int completes_while_saved(struct pair *p)
{
	struct rseq *area;
	int i;

	for (i = 0; i < PAIR; i++) {
		/* It leaves that alone, too: another thread might be using it. */
		area = (void *)(p->w[i].tp + __rseq_offset);
		STORE(area->cpu_id, 0x7777);
		if (write(p->w[i].fd[1], "x", 1) != 1 || !WAIT_FOR(LOAD(*rings[i].cq_tail)))
			return 5;
		if (!WAIT_FOR(thread_state(getpid(), p->w[i].tid) == 'S'))
			return 6;
		if (slot_state(&p->l, p->id[i]) != UMS_STATE_EMPTY)
			return 7;
		if (__rseq_size && LOAD(area->cpu_id) != 0x7777)
			return 9;
	}
	for (i = 0; i < PAIR; i++)
		if (pair_resume(p, i) || p->s.reason != UMS_UPCALL_EXITED || p->w[i].result != 1)
			return 8;
	return 50;
}

TEST(work_while_saved)
{
	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	EXPECT_EQ(50, in_child(submits_read, completes_while_saved));
}

/* Work of a thread that waits for a page, while the context of another one computes there. */
static int missing;	/* userfaultfd(2) */
static int stop_computing;

static void reads_to_missing_page(struct worker *w)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct pair *p = w->arg;
	struct io_uring_sqe sqe = { .opcode = IORING_OP_READ };
	struct ring *r = &rings[0];

	if (w == &p->w[1]) {
		worker_switch_out(w, sched, 0);
		while (!LOAD(stop_computing))
			INC(w->result);
		worker_switch_to(w, pair_other(w));
	}
	munlockall();
	sqe.addr = (unsigned long)mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sqe.len = 1;
	missing = syscall(SYS_userfaultfd, O_CLOEXEC);
	reg.range.start = sqe.addr;
	reg.range.len = 4096;
	if (missing < 0 || ioctl(missing, UFFDIO_API, &api) ||
	    ioctl(missing, UFFDIO_REGISTER, &reg) || pipe(w->fd))
		_exit(3);
	sqe.fd = w->fd[0];
	if (ring_open(r, 0, &sqe) || ring_enter(r, 0) != 1 || LOAD(*r->cq_tail))
		_exit(4);
	worker_switch_out(w, sched, 0);
	/* At home, where the other one goes on. */
	getppid();
	worker_switch_to(w, pair_other(w));
	if (!WAIT_FOR(LOAD(*r->cq_tail)))
		_exit(5);
	w->result = r->cqes->res;
	worker_switch_out(w, sched, 0);
}

static void *serves_work(void *arg)
{
	struct uffdio_zeropage zero = { .range.len = 4096 };
	struct pair *p = arg;
	struct uffd_msg m;
	bool went_on;
	long was;

	if (!WAIT_FOR(LOAD(p->w[1].result)) || write(p->w[0].fd[1], "x", 1) != 1 ||
	    read(missing, &m, sizeof(m)) != sizeof(m))
		_exit(6);
	was = LOAD(p->w[1].result);
	went_on = WAIT_FOR(LOAD(p->w[1].result) > was + 1000);
	zero.range.start = m.arg.pagefault.address & ~4095ULL;
	if (ioctl(missing, UFFDIO_ZEROPAGE, &zero))
		_exit(7);
	STORE(stop_computing, 1);
	return (void *)(long)went_on;
}

static int computes_meanwhile(struct pair *p)
{
	pthread_t t;
	void *ret;

	if (thread_start(&t, serves_work, p) || pair_resume(p, 0) ||
	    p->s.reason != UMS_UPCALL_YIELDED || p->s.worker != p->id[0])
		return 8;
	if (pthread_join(t, &ret) || !ret)
		return 9;
	return p->w[0].result == 1 ? 50 : 10;
}

TEST(work_that_sleeps)
{
	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	EXPECT_EQ(50, in_child(reads_to_missing_page, computes_meanwhile));
}

/* Ends of threads that have something to tell: to who waits for a lock, and for the end. */
static pthread_mutex_t robust;

static void dies_with_lock(struct worker *w)
{
	struct pair *p = w->arg;

	worker_switch_out(w, sched, 0);
	if (w == &p->w[1])
		lends(w);
	if (pthread_mutex_lock(&robust))
		_exit(3);
	go_away(w);
	syscall(SYS_exit, 0);
}

static int finds_lock(struct pair *p)
{
	if (pair_resume(p, 0) || p->s.reason != UMS_UPCALL_EXITED || p->s.worker != p->id[0])
		return 4;
	if (pthread_mutex_lock(&robust) != EOWNERDEAD || pthread_mutex_consistent(&robust))
		return 5;
	return pthread_mutex_unlock(&robust) ? 6 : 50;
}

static void dies_with_address(struct worker *w)
{
	struct pair *p = w->arg;

	worker_switch_out(w, sched, 0);
	if (w == &p->w[1])
		lends(w);
	go_away(w);
	if (tid_address_away(w))
		_exit(3);
	go_away(w);
	syscall(SYS_exit, 0);
}

static int waits_for_address(struct pair *p)
{
	struct timespec limit = { .tv_sec = LIMIT_S };

	if (pair_resume(p, 0) || p->s.reason != UMS_UPCALL_EXITED || p->s.worker != p->id[0])
		return 4;
	while (LOAD(cleared))
		if (syscall(SYS_futex, &cleared, FUTEX_WAIT, 1, &limit, NULL, 0) &&
		    errno == ETIMEDOUT)
			return 5;
	return 50;
}

TEST(last_words)
{
	pthread_mutexattr_t attr;
	int i;

	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	ASSERT_EQ(0, pthread_mutex_init(&robust, &attr));
	/* What keeps one from being away in one child does not in another. */
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(50, in_child(dies_with_lock, finds_lock));
		EXPECT_EQ(50, in_child(dies_with_address, waits_for_address));
	}
}

/* Who may have contexts, and who not. */
TEST(registration)
{
	struct ums_worker_args a = { .flags = UMS_WORKER_USER_SWITCH };
	struct worker w = { .flags = UMS_WORKER_USER_SWITCH };
	struct sched s;
	struct list l;
	unsigned long tp;
	long ret;

	UMS_REQUIRE();
	UMS_REQUIRE_SWITCH();
	ASSERT_EQ(0, list_open(&l, 2));
	ASSERT_NE(0, worker_start_pop(&w, &l, ends, NULL));
	/* With the thread pointer of that worker. */
	tp = w.tp;
	ret = NR_UMS_WORKER_ENTER;
	asm volatile("wrfsbase %1; syscall; wrfsbase %2"
		     : "+a" (ret)
		     : "r" (tp), "r" (__builtin_thread_pointer()),
		       "D" (l.fd), "S" (&a), "d" (sizeof(a))
		     : "rcx", "r11", "memory");
	EXPECT_EQ(-EEXIST, ret);
	EXPECT_EQ(1, l.head->tail);

	/* Nor without an area for restartable sequences. */
	if (__rseq_size) {
		void *area = (char *)__builtin_thread_pointer() + __rseq_offset;

		ASSERT_EQ(0, syscall(SYS_rseq, area, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG));
		EXPECT_EQ(-EOPNOTSUPP, ums_worker_enter(l.fd, &a, sizeof(a)));
		EXPECT_EQ(-EOPNOTSUPP, sched_enter_switching(&s));
		ASSERT_EQ(0, syscall(SYS_rseq, area, 32, 0, RSEQ_SIG));
	}
	EXPECT_EQ(1, l.head->tail);

	/* As often as one likes. */
	ASSERT_EQ(0, sched_enter_switching(&s));
	ASSERT_EQ(0, sched_exit(&s));
	ASSERT_EQ(0, sched_enter_switching(&s));
	ASSERT_EQ(0, sched_exit(&s));
	ASSERT_EQ(0, sched_enter(&s));
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * Torture: what workers do. All that may sleep for ever is ended by somebody
 * who nudges seats at random; what an act gets back is checked.
 */
#include "torture.h"

#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define RNG	(&self.rng)
#define L	(self.ledger)
#define SEAT	(self.seat)

static long futex(__u32 *word, int op, __u32 val, const struct timespec *ts)
{
	return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, val, ts, NULL, 0);
}

static struct timespec random_time(__u64 high)
{
	__u64 ns = rnd_log(RNG, 1000, high);

	return (struct timespec){ .tv_nsec = ns };
}

/* Uses the processor for so long, and looks around meanwhile. */
void spin_ns(__u64 ns)
{
	__u64 end = now_ns() + ns;
	int i;

	do {
		ledger_check_running(L);
		for (i = 0; i < 10; i++)
			__builtin_ia32_pause();
	} while (now_ns() < end);
}

/* ---- whatever wakes the worker in a seat; anybody may do it */

enum nudge { PIPE, SOCK, EVENT, FUTEX, HALL, ALARM, NUDGES };

static void nudge_by(unsigned int seat, enum nudge how)
{
	struct seat *s = &w.seats[seat];
	__u64 one = 1;
	ssize_t r = 0;

	switch (how) {
	case PIPE:
		r = write(s->pipe[1], "n", 1);
		break;
	case SOCK:
		r = send(s->sock[1], "n", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case EVENT:
		r = write(s->event, &one, sizeof(one));
		break;
	case FUTEX:
		INC(s->futex);
		futex(&s->futex, FUTEX_WAKE, 1, NULL);
		break;
	case HALL:
		INC(w.hall);
		futex(&w.hall, FUTEX_WAKE, 1 << 30, NULL);
		break;
	default:
		if (LOAD(s->tid))
			send_signal(LOAD(s->tid), SIGALRM);
	}
	/* Full is as good. */
	if (r < 0 && errno != EAGAIN && errno != EINTR)
		violated(NULL, "nudge %u of seat %u: %d", how, seat, errno);
}

/* Most often in the way that helps. */
void nudge(unsigned int seat, __u64 *rng)
{
	nudge_by(seat, one_in(rng, 3) ? rnd_below(rng, NUDGES) : LOAD(w.seats[seat].waits));
}

void nudge_all(void)
{
	unsigned int i, how;

	for (i = 0; i < gen.seats; i++)
		for (how = 0; how < ALARM && LOAD(w.seats[i].state) == SEAT_LIVE; how++)
			nudge_by(i, how);
}

/* Is about to wait. Often wakes the neighbour first, as one who answers does. */
static void waits(enum nudge how)
{
	unsigned int other = SEAT->nr ^ 1;

	STORE(SEAT->waits, how);
	if (other < gen.seats && one_in(RNG, 2))
		nudge(other, RNG);
}

/* ---- the acts */

static void check_io(const char *what, ssize_t r)
{
	if (r <= 0 && errno != EINTR)
		violated(L, "%s: %zd, errno %d", what, r, errno);
}

static void nap(void)
{
	struct timespec ts = random_time(2 * MSEC);
	__u64 end = now_ns() + ts.tv_nsec;
	int ret = 0;

	switch (rnd_below(RNG, 3)) {
	case 0:
		ret = nanosleep(&ts, NULL) ? errno : 0;
		break;
	case 1:
		ts.tv_sec = end / NSEC;
		ts.tv_nsec = end % NSEC;
		ret = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
		break;
	default:
		ret = clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
	}
	if (ret && ret != EINTR)
		violated(L, "nanosleep: %d", ret);
	if (!ret && now_ns() < end)
		violated(L, "a sleep was over too early");
}

static void read_pipe(void)
{
	char buf[64];

	waits(PIPE);
	check_io("read of a pipe", read(SEAT->pipe[0], buf, sizeof(buf)));
}

/* A thread outside answers. */
static void ask_echo(void)
{
	__u16 nr = SEAT->nr;
	char buf[64];

	waits(PIPE);
	check_io("write to a pipe", write(w.echo[1], &nr, sizeof(nr)));
	check_io("read of an echo", read(SEAT->pipe[0], buf, sizeof(buf)));
}

static void receive(void)
{
	char buf[64];

	waits(SOCK);
	check_io("recv", recv(SEAT->sock[0], buf, sizeof(buf), 0));
}

static void read_event(void)
{
	__u64 v;

	waits(EVENT);
	check_io("read of an eventfd", read(SEAT->event, &v, sizeof(v)));
}

static void poll_all(void)
{
	struct pollfd p[3] = {
		{ .fd = SEAT->pipe[0], .events = POLLIN },
		{ .fd = SEAT->sock[0], .events = POLLIN },
		{ .fd = SEAT->event, .events = POLLIN },
	};
	int n = 1 + rnd_below(RNG, 3), i, ret;
	char buf[64];

	waits(rnd_below(RNG, n));
	ret = poll(p, n, one_in(RNG, 2) ? -1 : (int)rnd_below(RNG, 5));
	if (ret < 0 && errno != EINTR)
		violated(L, "poll: %d", errno);
	/* Nobody else reads them. */
	for (i = 0; ret > 0 && i < n; i++)
		if (p[i].revents & POLLIN)
			check_io("read after poll", read(p[i].fd, buf, sizeof(buf)));
}

static void wait_futex(__u32 *word)
{
	struct timespec ts = random_time(2 * MSEC);
	__u32 v = LOAD(*word);

	waits(word == &w.hall ? HALL : FUTEX);
	if (futex(word, FUTEX_WAIT, v, one_in(RNG, 3) ? NULL : &ts) && errno != EINTR &&
	    errno != EAGAIN && errno != ETIMEDOUT)
		violated(L, "futex: %d", errno);
}

/* Held for a while, sometimes asleep. What they protect is added up wrongly otherwise. */
#define MUTEXES 4
static struct {
	pthread_mutex_t m;
	volatile unsigned long plain;
	unsigned long atomic;
} mutexes[2 * MUTEXES];

static void use_mutex(bool pi)
{
	unsigned int i = rnd_below(RNG, MUTEXES) + (pi ? MUTEXES : 0);
	int ret;

	ret = pthread_mutex_lock(&mutexes[i].m);
	if (ret)
		violated(L, "lock of mutex %u: %d", i, ret);
	mutexes[i].plain++;
	if (one_in(RNG, 16))
		sleep_ns(rnd_log(RNG, 1000, MSEC / 8));
	else
		ledger_check_running(L);
	if (one_in(RNG, 8))
		worker_yield(one_in(RNG, 2));
	ret = pthread_mutex_unlock(&mutexes[i].m);
	if (ret)
		violated(L, "unlock of mutex %u: %d", i, ret);
	INC(mutexes[i].atomic);
}

static void __attribute__((constructor)) init_mutexes(void)
{
	pthread_mutexattr_t attr;
	int i;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	for (i = 0; i < 2 * MUTEXES; i++)
		if (i < MUTEXES || pthread_mutex_init(&mutexes[i].m, &attr))
			pthread_mutex_init(&mutexes[i].m, NULL);
}

void acts_check_end(void)
{
	int i;

	for (i = 0; i < 2 * MUTEXES; i++)
		if (mutexes[i].plain != mutexes[i].atomic)
			violated(NULL, "mutex %d was locked %lu times, but protected %lu additions",
				 i, mutexes[i].atomic, mutexes[i].plain);
}

static void sigwait_alarm(void)
{
	struct timespec ts = random_time(2 * MSEC);
	sigset_t set;
	int ret;

	waits(ALARM);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	ret = sigtimedwait(&set, NULL, &ts);
	if (ret != SIGALRM && errno != EAGAIN && errno != EINTR)
		violated(L, "sigtimedwait: %d, errno %d", ret, errno);
}

/* The page is filled by a thread outside, with zeroes or with its number. */
static void fault(void)
{
	volatile char *p = SEAT->page;
	char c = SEAT->nr | 1;

	if (w.uffd < 0)
		return;
	if (madvise(SEAT->page, 4096, MADV_DONTNEED))
		violated(L, "madvise: %d", errno);
	switch (rnd_below(RNG, w.uffd_full ? 3 : 2)) {
	case 0:
		break;
	case 1:
		p[100] = 7;
		if (p[100] != 7)
			violated(L, "a byte written to a missing page is lost");
		break;
	default:
		/* In a system call. */
		if (pread(w.exe, SEAT->page, 64, 0) != 64 || memcmp(SEAT->page, "\177ELF", 4))
			violated(L, "pread to a missing page: errno %d", errno);
	}
	if (p[200] != 0 && p[200] != c)
		violated(L, "a missing page was filled with %d", p[200]);
}

static void use_file(void)
{
	off_t at = SEAT->nr * 4096;
	char out[512], in[512];

	if (one_in(RNG, 8)) {
		/* From the disk, where there is one. */
		at = rnd_below(RNG, 8) * 4096;
		posix_fadvise(w.exe, at, 4096, POSIX_FADV_DONTNEED);
		check_io("read of the program's file", pread(w.exe, in, sizeof(in), at));
		return;
	}
	memset(out, rnd_below(RNG, 256), sizeof(out));
	if (pwrite(w.file, out, sizeof(out), at) != sizeof(out))
		violated(L, "pwrite: errno %d", errno);
	if (one_in(RNG, 4) && fsync(w.file))
		violated(L, "fsync: errno %d", errno);
	if (pread(w.file, in, sizeof(in), at) != sizeof(in) ||
	    memcmp(in, out, sizeof(in)))
		violated(L, "read another thing than written, errno %d", errno);
}

static void in_region(struct ums_slot *slot)
{
	__u64 runner = LOAD(L->runner);
	unsigned int n = 0, i, k;

	INC(w.in_region[L->list]);
	for (i = 0; i < gen.lists; i++) {
		k = LOAD(w.in_region[i]);
		/* Closed, it has let its workers go. */
		if (!closing(i))
			n += k;
	}
	/* None is preempted here, so no more are in user mode than schedulers. */
	if (n > gen.scheds && !closing(L->list))
		violated(L, "%u workers in regions on %u schedulers", n, gen.scheds);
	switch (rnd_below(RNG, 4)) {
	case 0:
		sleep_ns(rnd_log(RNG, 1000, MSEC / 4));
		break;
	case 1:
		fault();
		break;
	default:
		spin_ns(rnd_log(RNG, 1000, MSEC / 4));
	}
	if (LOAD(L->runner) != runner && !closing(L->list))
		violated(L, "executed anew in a region: %llx, %llx", runner, L->runner);
	__atomic_fetch_sub(&w.in_region[L->list], 1, __ATOMIC_ACQ_REL);
}

static void use_region(void)
{
	struct ums_slot *slot = list_slot(&w.lists[L->list], L->id);
	long ret;

	happened(L, H_REGION, MAX_SCHEDS, 1, 0);
	STORE(self.in_region, 1);
	STORE(slot->no_upcall, 1);
	/* A yield in it is as outside, and so ends what a region promises. */
	if (one_in(RNG, 8))
		worker_yield(false);
	else
		in_region(slot);
	STORE(slot->no_upcall, 0);
	STORE(self.in_region, 0);
	happened(L, H_REGION, MAX_SCHEDS, 0, slot->attention);
	if (!(LOAD(slot->attention) & UMS_ATTN_PREEMPT))
		return;
	if (one_in(RNG, 4)) {
		worker_yield(true);
		return;
	}
	ret = ums_preempt(L->id, 0);
	if (ret && !closing(L->list))
		violated(L, "preemption of itself behind a region: %ld", ret);
}

static void affinity(void)
{
	static int cpus;
	cpu_set_t set;

	if (!cpus)
		cpus = sysconf(_SC_NPROCESSORS_ONLN);
	CPU_ZERO(&set);
	if (one_in(RNG, 3))
		memset(&set, 0xff, sizeof(set));
	else
		CPU_SET(rnd_below(RNG, cpus), &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		violated(L, "sched_setaffinity: %d", errno);
}

/* All of them may be refused. */
static void policy(void)
{
	static const int policies[] = { SCHED_BATCH, SCHED_IDLE, SCHED_FIFO, SCHED_RR };
	struct sched_param param = {};
	int p = policies[rnd_below(RNG, 4)];

	if (one_in(RNG, 2)) {
		setpriority(PRIO_PROCESS, self_tid(), (int)rnd_below(RNG, 12) - 6);
		return;
	}
	if (p == SCHED_FIFO || p == SCHED_RR)
		param.sched_priority = 1;
	sched_setscheduler(0, p, &param);
	if (one_in(RNG, 2))
		sleep_ns(rnd_log(RNG, 1000, MSEC));
	else
		spin_ns(rnd_log(RNG, 1000, MSEC / 8));
	param.sched_priority = 0;
	sched_setscheduler(0, SCHED_OTHER, &param);
}

static void send_some_signal(void)
{
	unsigned int before = self.handled, to = rnd_below(RNG, 4);
	int sig = signals[rnd_below(RNG, 3)];

	if (to < 3) {
		send_signal(to ? random_tid(RNG) : 0, sig);
		return;
	}
	/* To itself: it must not come back from there without having handled it. */
	if (send_signal(self_tid(), sig) || LOAD(self.handled) == before)
		violated(L, "a signal to itself was not handled");
}

static void check_status(struct ledger *l, pid_t pid)
{
	int status;
	pid_t ret;

	count(N_FORKS);
	if (pid < 0) {
		if (errno != EAGAIN && errno != ENOMEM && errno != EINTR)
			violated(l, "fork: %d", errno);
		return;
	}
	do {
		ret = waitpid(pid, &status, 0);
	} while (ret < 0 && errno == EINTR);
	if (ret != pid || status)
		violated(l, "waitpid for %d: %d, status %x, errno %d", pid, ret, status, errno);
}

/* The child is an ordinary thread of a process without UMS. */
static int child(void *arg)
{
	struct ums_info info;

	if (ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)) ||
	    info.role != UMS_ROLE_NONE)
		return 1;
	return ums_yield(0, 0) == -EPERM ? 0 : 2;
}

/* Without the C library, whose fork() would take locks for the scheduler. */
void fork_and_wait(struct ledger *l)
{
	pid_t pid = syscall(SYS_fork);

	if (!pid) {
		syscall(SYS_exit_group, child(NULL));
		__builtin_unreachable();
	}
	check_status(l, pid);
}

/* In the memory of its parent, which waits for it. */
static void vfork_and_wait(void)
{
	check_status(L, clone(child, SEAT->spare + SPARE,
			      CLONE_VM | CLONE_VFORK | SIGCHLD, NULL));
}

static void wait_list(void)
{
	unsigned int list = rnd_below(RNG, gen.lists);
	struct timespec t = random_time(3 * MSEC);
	struct __kernel_timespec ts = { .tv_nsec = t.tv_nsec };
	long ret;

	ret = ums_wait(w.lists[list].fd, &ts, 0);
	if (ret && ret != -ETIMEDOUT && ret != -EINTR && ret != -EOWNERDEAD &&
	    !(closing(list) && (ret == -EBADF || ret == -EINVAL)))
		violated(L, "ums_wait: %ld", ret);
}

static void wrong_calls(void)
{
	struct ums_worker_args args = {};
	unsigned int list = L->list;
	long ret;

	switch (rnd_below(RNG, 4)) {
	case 0:
		ret = ums_execute(L->id, 0, 0) == -EPERM;
		break;
	case 1:
		ret = ums_scheduler_exit(0) == -EPERM;
		break;
	case 2:
		ret = ums_worker_enter(w.lists[list].fd, &args, sizeof(args));
		/* An ordinary thread, if its list was closed. */
		ret = ret == -EBUSY || (closing(list) && ret == -EBADF) ||
		      (closing(list) && ret == -EINVAL);
		break;
	default:
		ret = ums_yield(0, 0x80) == -EINVAL && ums_detach(1) == -EINVAL;
	}
	if (!ret)
		violated(L, "a wrong call has another result");
}

enum next act(enum act act)
{
	unsigned int n;

	switch (act) {
	case A_YIELD:
		worker_yield(false);
		break;
	case A_PUBLISH:
		worker_yield(true);
		break;
	case A_SWITCH:
		worker_switch();
		break;
	case A_DIRECT:
		worker_switch_direct();
		break;
	case A_SPIN:
		spin_ns(rnd_log(RNG, 1000, MSEC));
		break;
	case A_NAP:
		nap();
		break;
	case A_PIPE:
		read_pipe();
		break;
	case A_ECHO:
		ask_echo();
		break;
	case A_SOCK:
		receive();
		break;
	case A_EVENT:
		read_event();
		break;
	case A_POLL:
		poll_all();
		break;
	case A_FUTEX:
		wait_futex(&SEAT->futex);
		break;
	case A_HALL:
		wait_futex(&w.hall);
		break;
	case A_MUTEX:
	case A_PI:
		use_mutex(act == A_PI);
		break;
	case A_SIGWAIT:
		sigwait_alarm();
		break;
	case A_FAULT:
		fault();
		break;
	case A_FILE:
		use_file();
		break;
	case A_REGION:
		use_region();
		break;
	case A_AFFINITY:
		affinity();
		break;
	case A_POLICY:
		policy();
		break;
	case A_SIGNAL:
		send_some_signal();
		break;
	case A_FORK:
		fork_and_wait(L);
		break;
	case A_VFORK:
		vfork_and_wait();
		break;
	case A_WAIT:
		wait_list();
		break;
	case A_WRONG:
		wrong_calls();
		break;
	case A_NUDGE:
		for (n = 1 + rnd_below(RNG, 4); n; n--)
			nudge(rnd_below(RNG, gen.seats), RNG);
		break;
	case A_DETACH:
		return DETACH;
	case A_EXIT:
		return LEAVE;
	default:
		break;
	}
	return GO_ON;
}

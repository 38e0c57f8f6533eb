// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzzer: what a thread does besides the calls of user-mode scheduling: it sleeps
 * in all kinds of ways, writes nonsense to lists, passes them on, changes its
 * priority, forks, is traced, stops, ends.
 */
#include "fuzz.h"

#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define RNG	(&t->rng)

/* struct sched_attr, which some C libraries define and others do not. */
struct attr {
	__u32 size, policy;
	__u64 flags;
	__s32 nice;
	__u32 priority;
	__u64 runtime, deadline, period;
	__u32 util_min, util_max;
};

void nap(__u64 ns)
{
	struct timespec ts = { .tv_sec = ns / NSEC, .tv_nsec = ns % NSEC };

	SYS(SYS_nanosleep, &ts, NULL);
}

/* ---- sleeps; those without an end are ended by nudge() and by signals */

static struct timespec *pick_timeout(struct thread *t, struct timespec *ts)
{
	__u64 ns = rnd_log(RNG, 1000, 2 * MSEC);

	if (one_in(RNG, 8))
		return NULL;
	ts->tv_sec = 0;
	ts->tv_nsec = ns;
	return ts;
}

static void act_futex(struct thread *t)
{
	__u32 *a = &p.futex[rnd_below(RNG, 8)], *b = &p.futex[rnd_below(RNG, 8)];
	int private = one_in(RNG, 2) ? FUTEX_PRIVATE_FLAG : 0;
	__u64 end = now_ns() + MSEC;
	struct timespec ts;

	switch (rnd_below(RNG, 10)) {
	case 0:
		SYS(SYS_futex, a, FUTEX_WAKE | private, 1 + rnd_below(RNG, 3));
		break;
	case 1:
		SYS(SYS_futex, a, FUTEX_REQUEUE | private, 1, 2, b);
		break;
	case 2:
		/* Absolute, so it is over at once; the lock may stay with the dead. */
		ts.tv_sec = 1;
		ts.tv_nsec = 0;
		if (!SYS(SYS_futex, &p.pi, FUTEX_LOCK_PI | private, 0, &ts)) {
			if (one_in(RNG, 2))
				nap(10000);
			SYS(SYS_futex, &p.pi, FUTEX_UNLOCK_PI | private);
		}
		break;
	case 3:
		SYS(SYS_futex, a, FUTEX_WAIT_BITSET | private, LOAD(*a), NULL, NULL, ~0U);
		break;
	case 4:
		ts.tv_sec = end / NSEC;
		ts.tv_nsec = end % NSEC;
		if (!SYS(SYS_futex, a, FUTEX_WAIT_REQUEUE_PI | private, LOAD(*a), &ts, &p.pi))
			SYS(SYS_futex, &p.pi, FUTEX_UNLOCK_PI | private);
		break;
	case 5:
		SYS(SYS_futex, a, FUTEX_CMP_REQUEUE_PI | private, 1, 1, &p.pi, LOAD(*a));
		break;
	default:
		SYS(SYS_futex, a, FUTEX_WAIT | private, LOAD(*a), pick_timeout(t, &ts));
	}
}

static void act_poll(struct thread *t)
{
	struct pollfd fds[3] = {
		{ .fd = pick_list(t)->fd, .events = POLLIN },
		{ .fd = p.lists[rnd_below(RNG, MAX_LISTS)].fd, .events = rnd(RNG) },
		{ .fd = p.event, .events = POLLIN },
	};

	if (SYS(SYS_poll, fds, 1 + rnd_below(RNG, 3), rnd_below(RNG, 4)) > 0 &&
	    fds[0].revents & POLLIN)
		count(N_PASSED);
}

static void act_epoll(struct thread *t)
{
	struct epoll_event ev[4] = { { .events = EPOLLIN } };
	int fd = p.lists[rnd_below(RNG, MAX_LISTS)].fd;

	if (one_in(RNG, 2))
		ev[0].events |= one_in(RNG, 2) ? EPOLLET : EPOLLEXCLUSIVE;
	switch (rnd_below(RNG, 4)) {
	case 0:
		SYS(SYS_epoll_ctl, p.epoll, EPOLL_CTL_ADD, fd, ev);
		break;
	case 1:
		SYS(SYS_epoll_ctl, p.epoll, one_in(RNG, 2) ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, fd,
		    ev);
		break;
	default:
		if (SYS(SYS_epoll_wait, p.epoll, ev, 4, rnd_below(RNG, 3)) > 0 &&
		    ev[0].events & EPOLLIN)
			count(N_PASSED);
	}
}

static void act_pipe(struct thread *t)
{
	char buf[4] = "fuzz";
	__u64 one = 1;

	switch (rnd_below(RNG, 8)) {
	case 0:
	case 1:
		SYS(SYS_read, p.pipe[0], buf, 1);
		break;
	case 2:
	case 3:
		SYS(SYS_write, p.pipe[1], buf, 1 + rnd_below(RNG, 2));
		break;
	case 4:
		SYS(SYS_recvfrom, p.sock[0], buf, 1, 0);
		break;
	case 5:
		SYS(SYS_sendto, p.sock[1], buf, 2, MSG_DONTWAIT);
		break;
	case 6:
		SYS(SYS_read, p.event, &one, sizeof(one));
		break;
	default:
		SYS(SYS_write, p.event, &one, sizeof(one));
	}
}

static void act_wait4(struct thread *t)
{
	SYS(SYS_wait4, -1, NULL, (one_in(RNG, 4) ? 0 : WNOHANG) |
	    (one_in(RNG, 4) ? WUNTRACED | WCONTINUED : 0) | (one_in(RNG, 4) ? __WALL : 0));
}

static void act_sigwait(struct thread *t)
{
	__u64 set = 1ULL << (SIGUSR2 - 1);
	struct timespec ts;

	SYS(SYS_rt_sigtimedwait, &set, NULL, pick_timeout(t, &ts), sizeof(set));
}

void act_block(struct thread *t)
{
	switch (rnd_below(RNG, 16)) {
	case 0:
	case 1:
	case 2:
		act_futex(t);
		break;
	case 3:
	case 4:
	case 5:
		act_pipe(t);
		break;
	case 6:
		act_poll(t);
		break;
	case 7:
		act_epoll(t);
		break;
	case 8:
		act_wait4(t);
		break;
	case 9:
		act_sigwait(t);
		break;
	case 10:
		call_wait(t, true);
		break;
	case 11:
		SYS(SYS_sched_yield);
		break;
	default:
		nap(rnd_log(RNG, 1000, 2 * MSEC));
	}
}

/* Ends sleeps that nobody else would end. */
void nudge(struct thread *t)
{
	unsigned int i;
	__u64 one = 1;

	for (i = 0; i < 8; i++)
		SYS(SYS_futex, &p.futex[i], FUTEX_WAKE | (i & 1 ? FUTEX_PRIVATE_FLAG : 0), 1);
	SYS(SYS_write, p.pipe[1], "n", 1);
	SYS(SYS_write, p.event, &one, sizeof(one));
	SYS(SYS_sendto, p.sock[1], "n", 1, MSG_DONTWAIT);
}

/* ---- faults and time */

void act_spin(struct thread *t)
{
	__u64 end = now_ns() + rnd_log(RNG, 2000, MSEC / 2);

	while (now_ns() < end)
		;
}

/* Fills the pages that others wait for, and now and then empties them. */
void resolve_faults(struct thread *t)
{
	struct uffdio_zeropage zero = {};
	struct uffd_msg msg;
	unsigned int i;

	if (p.uffd < 0)
		return;
	while (SYS(SYS_read, p.uffd, &msg, sizeof(msg)) == sizeof(msg))
		count(N_UFFD);
	for (i = Z_UFFD; i < Z_FAULT; i++) {
		zero.range.start = (unsigned long)p.zoo + i * PAGE;
		zero.range.len = PAGE;
		if (SYS(SYS_ioctl, p.uffd, UFFDIO_ZEROPAGE, &zero) == -EEXIST)
			SYS(SYS_ioctl, p.uffd, UFFDIO_WAKE, &zero.range);
	}
	if (one_in(RNG, 2))
		SYS(SYS_madvise, p.zoo + Z_UFFD * PAGE, (Z_FAULT - Z_UFFD) * PAGE, MADV_DONTNEED);
}

void act_fault(struct thread *t)
{
	char *page = p.zoo + (Z_UFFD + rnd_below(RNG, ZOO - Z_UFFD)) * PAGE;

	if (one_in(RNG, 4))
		SYS(SYS_madvise, page, PAGE, MADV_DONTNEED);
	*(volatile char *)page += 1;
	if (one_in(RNG, 8))
		resolve_faults(t);
}

/* ---- pages of lists */

static __u64 nonsense(struct thread *t, __u64 v)
{
	switch (rnd_below(RNG, 8)) {
	case 0:
		return rnd(RNG);
	case 1:
		return 0;
	case 2:
		return v ^ 1ULL << rnd_below(RNG, 64);
	case 3:
		return v + rnd_below(RNG, 5) - 2;
	case 4:
		return pick_id(t);
	case 5:
		return ~0ULL;
	default:
		return rnd_below(RNG, 256);
	}
}

void act_scribble(struct thread *t)
{
	struct flist *l = &p.lists[rnd_below(RNG, MAX_LISTS)];
	struct ums_slot *slot;
	__u64 *word;

	if (!LOAD(l->mapped) || !l->scribble || !l->max_workers)
		return;
	count(N_SCRIBBLE);
	slot = slot_at(l, rnd_below(RNG, l->max_workers));
	switch (rnd_below(RNG, 16)) {
	case 0:
		STORE(header(l)->head, nonsense(t, LOAD(header(l)->head)));
		return;
	case 1:
		STORE(header(l)->head, LOAD(header(l)->tail) + 1 - rnd_below(RNG, 3));
		return;
	case 2:
		/* The words that the kernel writes: it must not mind. */
		word = (__u64 *)header(l) + rnd_below(RNG, 16);
		break;
	case 3:
	case 4:
		word = &ring(l)[rnd_below(RNG, (l->ring_mask & 4095) + 1)];
		break;
	case 5:
		if (slot)
			STORE(slot->no_upcall, rnd(RNG));
		return;
	case 6:
	case 7:
	case 8:
	case 9:
	case 10:
	case 11:
		/* Else nobody would be told of anything any more. */
		if (slot)
			STORE(slot->no_upcall, 0);
		return;
	case 12:
		if (!slot)
			return;
		word = &slot->user_data;
		break;
	case 13:
		word = (__u64 *)window(l) + rnd_below(RNG, PAGE / 8);
		break;
	default:
		if (!slot)
			return;
		word = (__u64 *)slot + rnd_below(RNG, sizeof(*slot) / 8);
	}
	STORE(*word, nonsense(t, LOAD(*word)));
}

static struct ums_slot *own_slot(struct thread *t)
{
	struct ums_slot *slot;
	unsigned int i;

	for (i = 0; i < MAX_LISTS; i++) {
		slot = slot_at(&p.lists[i], UMS_ID_SLOT(t->id));
		if (slot && LOAD(slot->id) == t->id)
			return slot;
	}
	return NULL;
}

/* As a worker that takes a lock of its scheduler. */
void act_region(struct thread *t)
{
	struct ums_slot *slot = own_slot(t);
	unsigned int i;

	if (!slot || t->role != UMS_ROLE_WORKER)
		return;
	count(N_REGION);
	STORE(slot->no_upcall, 1);
	for (i = rnd_below(RNG, 3); i; i--) {
		if (one_in(RNG, 2))
			act_block(t);
		else if (one_in(RNG, 2))
			act_spin(t);
		else
			act(t);
	}
	STORE(slot->no_upcall, 0);
	if (LOAD(slot->attention) & UMS_ATTN_PREEMPT) {
		count(N_ASKED_IN_REGION);
		SYS(NR_UMS_PREEMPT, t->id, 0);
	}
}

/* ---- descriptors and mappings of lists */

static void act_dup(struct thread *t)
{
	struct flist *l = pick_list(t);
	int fd, i;

	if (l->fd < 0)
		return;
	/* One that stays open at exec, sometimes. */
	fd = SYS(SYS_fcntl, l->fd, one_in(RNG, 4) ? F_DUPFD : F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return;
	i = one_in(RNG, 2) ? list_keep(t, fd, l->max_workers, l->foreign) : -1;
	if (i < 0)
		SYS(SYS_close, fd);
	else
		list_map(&p.lists[i]);
}

/* Sends a list to whoever receives it, or receives one. */
static void act_pass(struct thread *t)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = {};
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = u.buf, .msg_controllen = sizeof(u.buf),
	};
	struct cmsghdr *c = (struct cmsghdr *)u.buf;
	int *fd = (int *)CMSG_DATA(c);

	if (one_in(RNG, 2)) {
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		*fd = pick_list(t)->fd;
		SYS(SYS_sendmsg, FD_SEND, &msg, MSG_DONTWAIT);
		return;
	}
	if (SYS(SYS_recvmsg, FD_RECEIVE, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0 ||
	    msg.msg_controllen < sizeof(*c) || c->cmsg_type != SCM_RIGHTS)
		return;
	if (one_in(RNG, 4) || list_keep(t, *fd, 64, true) < 0)
		SYS(SYS_close, *fd);
}

static void act_map(struct thread *t)
{
	struct flist *l = &p.lists[rnd_below(RNG, MAX_LISTS)];
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_EXEC,
				     PROT_READ | PROT_WRITE | PROT_EXEC };
	char *at = window(l) + rnd_below(RNG, WINDOW / PAGE) * PAGE;
	size_t size;
	long m;

	switch (rnd_below(RNG, 12)) {
	case 0:
		SYS(SYS_munmap, at, (1 + rnd_below(RNG, 4)) * PAGE);
		break;
	case 1:
		SYS(SYS_mprotect, one_in(RNG, 2) ? at : window(l), PAGE,
		    prots[rnd_below(RNG, 5)]);
		break;
	case 2:
		/* Any size and offset. */
		size = rnd_below(RNG, 64) * PAGE;
		m = SYS(SYS_mmap, NULL, size, prots[rnd_below(RNG, 5)],
			one_in(RNG, 4) ? MAP_PRIVATE : MAP_SHARED, l->fd,
			one_in(RNG, 2) ? 0 : rnd_below(RNG, 16) * PAGE);
		if (m < 0) {
			count(m == -EXDEV ? N_FOREIGN : N_MMAP_REFUSED);
		} else {
			SYS(SYS_madvise, m, size, MADV_POPULATE_READ);
			SYS(SYS_munmap, m, size);
		}
		break;
	case 3:
		SYS(SYS_madvise, window(l), WINDOW, rnd_below(RNG, 24));
		break;
	case 4:
		SYS(SYS_mremap, at, PAGE, 2 * PAGE, 0);
		break;
	case 5:
		SYS(SYS_mlock2, window(l), PAGE, rnd_below(RNG, 2));
		break;
	default:
		/* Most often it is there in the end. */
		if (LOAD(l->fd) >= 0)
			list_map(l);
	}
}

/* ---- threads and processes */

static void act_affinity(struct thread *t)
{
	unsigned long mask = 0xff;

	if (!one_in(RNG, 4))
		mask = 1 + rnd_below(RNG, 15);
	SYS(SYS_sched_setaffinity, pick_tid(t), sizeof(mask), &mask);
}

/*
 * Not SCHED_DEADLINE: in 6.12 a thread that leaves that policy while it is throttled,
 * and comes back to it before its bandwidth is free, may never run again, nor die.
 * That has nothing to do with UMS, and would look like a hang of it.
 *
 * And always by way of SCHED_OTHER with the nice value as it was: see change_policy() in
 * machine_test.c.
 */
static void act_policy(struct thread *t)
{
	struct attr attr = { .size = sizeof(attr) };
	struct sched_param param = {};
	int tid = pick_tid(t);

	SYS(SYS_sched_setscheduler, tid, SCHED_OTHER, &param);
	switch (rnd_below(RNG, 8)) {
	case 0:
		param.sched_priority = 1 + rnd_below(RNG, 8);
		SYS(SYS_sched_setscheduler, tid, (one_in(RNG, 2) ? SCHED_FIFO : SCHED_RR) |
		    SCHED_RESET_ON_FORK, &param);
		break;
	case 1:
		SYS(SYS_sched_setscheduler, tid, one_in(RNG, 2) ? SCHED_BATCH : SCHED_IDLE,
		    &param);
		break;
	case 2:
		/* A slice of its own. */
		attr.runtime = rnd_log(RNG, 100000, 100 * MSEC);
		SYS(SYS_sched_setattr, tid, &attr, 0);
		break;
	case 3:
		SYS(SYS_setpriority, PRIO_PROCESS, tid, (int)rnd_below(RNG, 40) - 20);
		break;
	default:
		SYS(SYS_setpriority, PRIO_PROCESS, tid, 0);
	}
}

void act_signal(struct thread *t)
{
	static const int signals[] = { SIGUSR1, SIGUSR1, SIGUSR2, SIGUSR2, SIGURG, SIGCONT };
	int sig = signals[rnd_below(RNG, 6)], pid = SYS(SYS_getpid);

	if (one_in(RNG, 6))
		sig = SIGRTMIN;
	if (one_in(RNG, 8))
		SYS(SYS_kill, pid, sig);
	else
		SYS(SYS_tgkill, pid, pick_tid(t), sig);
}

/* Whoever stops itself is continued by another thread, or by the supervisor. */
static void act_stop(struct thread *t)
{
	int pid = SYS(SYS_getpid);

	if (!one_in(RNG, 8) || t->child)
		return;
	SYS(SYS_kill, pid, one_in(RNG, 2) ? SIGSTOP : SIGTSTP);
	if (!one_in(RNG, 4))
		SYS(SYS_kill, pid, SIGCONT);
}

static void act_mask(struct thread *t)
{
	__u64 set = (__u64)rnd_below(RNG, 4) << (SIGUSR1 - 1) |
		    (__u64)rnd_below(RNG, 4) << (SIGUSR2 - 1);

	SYS(SYS_rt_sigprocmask, rnd_below(RNG, 3), &set, NULL, sizeof(set));
}

static void act_proc(struct thread *t)
{
	static const char * const files[] = { "ums", "stat", "syscall", "wchan", "status" };
	char path[64], buf[256];
	int fd, n;

	if (one_in(RNG, 4))
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pick_list(t)->fd);
	else
		snprintf(path, sizeof(path), "/proc/self/task/%d/%s", pick_tid(t),
			 files[rnd_below(RNG, 5)]);
	fd = SYS(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	for (n = 0; n < 8 && SYS(SYS_read, fd, buf, sizeof(buf)) > 0; n++)
		;
	SYS(SYS_close, fd);
}

/* Makes room for one more child, waiting for those that have ended. */
static pid_t *place_for_child(void)
{
	unsigned int i;
	pid_t pid;

	for (i = 0; i < MAX_CHILDREN; i++) {
		pid = LOAD(p.children[i]);
		/* One that somebody else has waited for is gone as well. */
		if (pid > 0 && (SYS(SYS_wait4, pid, NULL, WNOHANG | __WALL) == pid ||
				SYS(SYS_kill, pid, 0) == -ESRCH))
			__atomic_compare_exchange_n(&p.children[i], &pid, 0, false,
						    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	}
	for (i = 0; i < MAX_CHILDREN; i++) {
		pid = 0;
		if (__atomic_compare_exchange_n(&p.children[i], &pid, -1, false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			return &p.children[i];
	}
	return NULL;
}

/* Traces a thread of the parent for a while. It may well end meanwhile. */
static void trace(struct thread *t)
{
	static const int requests[] = { PTRACE_CONT, PTRACE_SYSCALL, PTRACE_SINGLESTEP,
					PTRACE_LISTEN, PTRACE_INTERRUPT };
	int tid = LOAD(thread_of(rnd_below(RNG, p.threads))->tid);
	char regs[256];
	unsigned int i;

	if (tid <= 1 || SYS(SYS_ptrace, PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD))
		return;
	count(N_TRACED);
	for (i = rnd_below(RNG, 24); i; i--) {
		SYS(SYS_ptrace, PTRACE_INTERRUPT, tid, 0, 0);
		nap(rnd_log(RNG, 1000, 2 * MSEC));
		SYS(SYS_wait4, tid, NULL, WNOHANG | __WALL);
		SYS(SYS_ptrace, PTRACE_GETREGS, tid, 0, regs);
		SYS(SYS_ptrace, requests[rnd_below(RNG, 5)], tid, 0,
		    one_in(RNG, 4) ? SIGUSR1 : 0);
	}
	/* Or by ending. */
	if (one_in(RNG, 2))
		SYS(SYS_ptrace, PTRACE_DETACH, tid, 0, 0);
}

/* The copy of the calling thread, alone in its process. */
static void forked(struct thread *t)
{
	unsigned int i;

	p.depth = 1;
	t->rng = rnd(RNG) ^ SYS(SYS_getpid);
	for (i = 0; i < MAX_LISTS; i++) {
		/* The descriptors are there, the pages are not. */
		p.lists[i].mapped = false;
		p.lists[i].foreign = true;
	}
	if (one_in(RNG, 4))
		trace(t);
	child_main(t);
}

void act_fork(struct thread *t)
{
	struct thread *child;
	pid_t *place;
	long pid;

	/* Children have no children: so there are not too many. */
	if (p.depth || t->child || (t->plan != PLAN_SPAWNER && !one_in(RNG, 4)))
		return;
	place = place_for_child();
	if (!place)
		return;
	/* One that the others cannot do without does not wait for a child. */
	switch (rnd_below(RNG, 4) ? : t->plan == PLAN_SPAWNER) {
	case 0:
		count(N_VFORK);
		child = thread_new(t, CLONE_VM | CLONE_VFORK | SIGCHLD, child_main);
		pid = child ? LOAD(child->tid) : 0;
		break;
	case 1:
		count(N_SHARED_VM);
		child = thread_new(t, CLONE_VM | (one_in(RNG, 2) ? CLONE_FILES : 0) | SIGCHLD,
				   child_main);
		pid = child ? LOAD(child->tid) : 0;
		break;
	default:
		count(N_FORK);
		pid = SYS(SYS_clone, SIGCHLD);
		if (!pid)
			forked(t);
	}
	STORE(*place, pid > 0 ? pid : 0);
}

static void act_thread(struct thread *t)
{
	unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			      CLONE_SYSVSEM;

	if (one_in(RNG, 4)) {
		/* A table of descriptors of its own, from now on. */
		if (one_in(RNG, 16))
			SYS(SYS_unshare, CLONE_FILES);
		return;
	}
	thread_new(t, flags, NULL);
}

static void act_end(struct thread *t)
{
	if (!t->child && t->plan != PLAN_SPAWNER && one_in(RNG, 8))
		thread_end(t);
}

static void exec_self(struct thread *t)
{
	char slot[16], seed[24], depth[16], threads[16];
	char *argv[] = { "fuzz", "--process", slot, seed, depth, threads, NULL };
	char *envp[] = { NULL };

	snprintf(slot, sizeof(slot), "%u", p.slot);
	snprintf(seed, sizeof(seed), "%llu", rnd(RNG));
	snprintf(depth, sizeof(depth), "%u", p.depth || t->child);
	snprintf(threads, sizeof(threads), "%u", p.asked);
	SYS(SYS_execveat, FD_EXE, "", argv, envp, AT_EMPTY_PATH);
}

void end_process(struct thread *t)
{
	int pid = SYS(SYS_getpid);

	switch (t->child ? 1 + rnd_below(RNG, 6) : LOAD(p.ending)) {
	case 1:
	case 2:
		/* The supervisor knows of it only that it goes on. */
		exec_self(t);
		break;
	case 3:
		SYS(SYS_kill, pid, SIGKILL);
		break;
	case 4:
		SYS(SYS_tgkill, pid, pick_tid(t), SIGQUIT);
		break;
	default:
		break;
	}
	for (;;)
		SYS(SYS_exit_group, 42);
}

/* ---- thread pointers */

/* The scheduler that runs it, if its slot has not been scribbled on; 0: none. */
static int scheduler_of(struct thread *t)
{
	struct ums_slot *slot;
	unsigned int i;

	for (i = 0; t->role == UMS_ROLE_WORKER && i < MAX_LISTS; i++) {
		slot = slot_at(&p.lists[i], UMS_ID_SLOT(t->id));
		if (slot && LOAD(slot->id) == t->id)
			return LOAD(slot->scheduler);
	}
	return 0;
}

/* That of another thread, most often of its scheduler. */
static unsigned long others_pointer(struct thread *t)
{
	unsigned int i, start = rnd_below(RNG, p.threads);
	int tid = one_in(RNG, 8) ? 0 : scheduler_of(t);
	unsigned long tp, some = 0;
	struct thread *o;

	for (i = 0; i < p.threads; i++) {
		o = thread_of((start + i) % p.threads);
		tp = LOAD(o->pointer);
		if (o == t || !tp || LOAD(o->tid) <= 0)
			continue;
		if (LOAD(o->tid) == tid)
			return tp;
		some = tp;
	}
	return tid || !p.forges ? 0 : some;
}

/*
 * Calls with the pointer of another thread: a worker that is its own scheduler for a moment
 * goes there, and home with the next call. With a wrong one, the process ends if the thread
 * may be switched in user mode, and it is of no consequence for any other.
 */
static void act_pointer(struct thread *t)
{
	bool forged = p.forges && one_in(RNG, 4);
	unsigned long tp, was;
	long ret = SYS_getppid;
	int i;

	/* Of an ordinary thread it is nobody's business. */
	if (!p.can_switch || (t->role == UMS_ROLE_NONE && !one_in(RNG, 8)))
		return;
	if (forged)
		tp = one_in(RNG, 2) ? rnd(RNG) >> 17 : (unsigned long)t;
	else
		tp = others_pointer(t);
	if (!tp)
		return;
	count(forged ? N_FORGED : N_LENT);
	for (i = rnd_below(RNG, 3); i >= 0; i--) {
		ret = SYS_getppid;
		asm volatile("rdfsbase %0; wrfsbase %2; syscall; wrfsbase %0"
			     : "=&r" (was), "+a" (ret)
			     : "r" (tp)
			     : "rcx", "r11", "memory");
		if (one_in(RNG, 2))
			SYS(SYS_getppid);
	}
	count(forged ? N_NOT_HEEDED : N_LENT_BACK);
	if (!t->depth)
		resync(t);
}

/* ---- one of all */

static const struct {
	void (*fn)(struct thread *t);
	unsigned int weight;
} acts[] = {
	{ act_block, 12 }, { call_random, 16 }, { act_spin, 4 }, { act_fault, 6 },
	{ act_scribble, 4 }, { act_dup, 3 }, { act_pass, 4 }, { act_map, 6 }, { act_close, 1 },
	{ act_affinity, 4 }, { act_policy, 4 }, { act_signal, 8 }, { act_stop, 2 },
	{ act_mask, 3 }, { act_proc, 3 }, { act_fork, 6 }, { act_thread, 2 }, { act_end, 4 },
	{ act_futex, 3 }, { act_poll, 3 }, { act_epoll, 4 }, { nudge, 4 },
	{ act_pointer, 4 },
};

void act(struct thread *t)
{
	unsigned int i, sum = 0, r;

	for (i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
		sum += acts[i].weight;
	r = rnd_below(RNG, sum);
	for (i = 0; r >= acts[i].weight; i++)
		r -= acts[i].weight;
	acts[i].fn(t);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Torture: workers. A seat's thread becomes a worker, does this and that, and
 * in the end detaches, to become a worker again, or ends, to be replaced.
 */
#include "torture.h"

#include <sys/mman.h>
#include <sys/prctl.h>

__thread struct self self;

/* Counts; naps; yields. All are sent to all. */
const int signals[3] = { SIGUSR1, SIGUSR2, SIGPROF };

static void handler(int sig, siginfo_t *si, void *uc)
{
	struct ledger *l = self.ledger;
	int err = errno;
	long ret;

	STORE(self.handled, self.handled + 1);
	count(N_SIGNALS);
	/* It may come just before ums_worker_enter(), or behind ums_detach(). */
	if (l && LOAD(l->runner)) {
		happened(l, H_HANDLER, MAX_SCHEDS, sig, 0);
		if (!self.between)
			ledger_check_running(l);
		if (sig == SIGUSR2)
			sleep_ns(rnd_log(&self.rng, 10000, MSEC));
		else if (sig == SIGPROF && !self.in_region)
			worker_yield(one_in(&self.rng, 4));
		if (!self.between)
			ledger_check_running(l);
	} else if (sig == SIGUSR2) {
		sleep_ns(rnd_log(&self.rng, 10000, MSEC));
	} else if (sig == SIGPROF && self.sched) {
		ret = ums_yield(0, 0);
		if (ret != -EPERM)
			violated(NULL, "scheduler %u: yield %ld", self.sched->nr, ret);
		/*
		 * Busy if its worker sleeps in a region; or there is no such
		 * worker, or it is no scheduler just now.
		 */
		ret = ums_execute(1, 0, 0);
		if (ret != -EBUSY && ret != -ESRCH && ret != -EPERM)
			violated(NULL, "scheduler %u, in a handler: execute %ld",
				 self.sched->nr, ret);
	}
	errno = err;
}

/* For the calling thread; the handlers themselves are the process's. */
void handle_signals(void)
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
	sigset_t set;
	int i;

	sigemptyset(&set);
	for (i = 0; i < 3; i++)
		sigaddset(&set, signals[i]);
	sa.sa_mask = set;
	for (i = 0; i < 3; i++) {
		/* One of them restarts, another has a stack of its own if there is one. */
		sa.sa_flags = SA_SIGINFO | (i == 0 ? SA_RESTART : 0) |
			      (i == 1 ? SA_ONSTACK : 0);
		sigaction(signals[i], &sa, NULL);
	}
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* The argument says whose it is, and lets the scheduler know the flag. */
void worker_yield(bool publish)
{
	struct ledger *l = self.ledger;
	__u64 arg, outer;
	long ret;

	outer = l->yield_arg;
	arg = (__u64)l->nr << 32 | (INC(l->yield_seq) << 1 & 0xffffffff) | publish;
	STORE(l->yield_arg, arg);
	/* A handler may do the same here, and restores it. */
	ret = ums_yield(arg, publish ? UMS_YIELD_PUBLISH : 0);
	if (ret && !(ret == -EPERM && closing(l->list)))
		violated(l, "yield %ld", ret);
	STORE(l->yield_arg, outer);
}

/*
 * A worker is about to leave its context in user mode. In a region, since it must not lose its
 * scheduler before it has: a library would use an rseq critical section.
 */
static bool begin_switch(struct ums_slot *slot)
{
	if (!switching() || self.in_region)
		return false;
	self.in_region++;
	__atomic_store_n(&slot->no_upcall, 1, __ATOMIC_SEQ_CST);
	return true;
}

/* NULL: it has none. */
static struct scheduler *its_scheduler(struct ledger *l, struct ums_slot *slot)
{
	/* Away from home nobody can let it go; at home, its list may have done so. */
	if (LOAD(slot->state) != UMS_STATE_EMPTY && !LOAD(slot->scheduler)) {
		if (!closing(l->list))
			violated(l, "runs in user mode without a scheduler");
		return NULL;
	}
	return &w.scheds[(LOAD(l->runner) >> 32) - 1];
}

/* It has come back, or has not left. */
static void end_switch(struct ledger *l, struct ums_slot *slot)
{
	long ret;

	__atomic_store_n(&slot->no_upcall, 0, __ATOMIC_SEQ_CST);
	self.in_region--;
	/* What the kernel wants of it is done on the way out of any call. */
	if (LOAD(slot->attention) & UMS_ATTN_PREEMPT) {
		ret = ums_preempt(l->id, 0);
		if (ret && !closing(l->list))
			violated(l, "preempt of itself %ld", ret);
	} else if (LOAD(slot->attention)) {
		syscall(SYS_getppid);
	}
}

/* What the scheduler is to make of it: a yield. */
static void tell_scheduler(struct scheduler *s, struct ledger *l)
{
	STORE(l->yield_arg, (__u64)l->nr << 32 | (INC(l->yield_seq) << 1 & 0xffffffff));
	s->switched = true;
	s->s.reason = UMS_UPCALL_YIELDED;
	s->s.worker = l->id;
	s->s.detail = l->yield_arg;
}

/* As worker_yield(), to the scheduler's context. */
void worker_switch(void)
{
	struct ledger *l = self.ledger;
	struct ums_slot *slot = list_slot(&w.lists[l->list], l->id);
	struct scheduler *s;

	if (!begin_switch(slot))
		return;
	s = its_scheduler(l, slot);
	if (s) {
		tell_scheduler(s, l);
		context_switch(&l->sp, s->s.sp, s->s.tp);
		ledger_check_running(l);
	}
	end_switch(l, slot);
}

/* One whose context is saved, of those that the scheduler keeps. */
static struct ledger *saved_one(struct scheduler *s)
{
	unsigned int i, k = s->queued ? rnd_below(&self.rng, s->queued) : 0;
	struct ledger *l;

	for (i = 0; i < s->queued; i++, k = (k + 1) % s->queued) {
		l = s->queue[k];
		if (!l->saved || !resumable(s, l))
			continue;
		s->queue[k] = s->queue[--s->queued];
		return l;
	}
	return NULL;
}

/* To another worker. What the scheduler would do between the two, this one does. */
void worker_switch_direct(void)
{
	struct ledger *l = self.ledger, *to = NULL;
	struct ums_slot *slot = list_slot(&w.lists[l->list], l->id);
	struct scheduler *s;

	if (!begin_switch(slot))
		return;
	s = its_scheduler(l, slot);
	if (s)
		to = saved_one(s);
	if (to) {
		self.between = true;
		tell_scheduler(s, l);
		__atomic_store_n(&sh->scheds[s->nr].cur, 0, __ATOMIC_SEQ_CST);
		if (!ledger_event(s, l, s->execution, 0))
			violated(l, "yielded, but is not with scheduler %u", s->nr);
		/* Where the other one came from. */
		s->queue[s->queued++] = l;
		s->current = to;
		s->execution = ledger_execute(s, to, 0);
		ledger_resume(s, to);
		s->resumed = true;
		s->switched = false;
		count(N_DIRECT);
		context_switch(&l->sp, to->sp, to->tp);
		self.between = false;
		ledger_check_running(l);
	}
	end_switch(l, slot);
}

/* An open list, or -1. */
static int choose_list(void)
{
	unsigned int first = rnd_below(&self.rng, gen.lists), i;

	for (i = 0; i < gen.lists; i++)
		if (!closing((first + i) % gen.lists))
			return (first + i) % gen.lists;
	return -1;
}

/*
 * How likely each act is. Under emulation a fork, or a page that is taken away,
 * costs more than a hundred of the others.
 */
static const unsigned char weights[WORKER_ACTS] = {
	[A_YIELD] = 160, [A_PUBLISH] = 120, [A_SWITCH] = 160,
	[A_DIRECT] = 160, [A_SPIN] = 24, [A_NAP] = 120,
	[A_PIPE] = 160, [A_ECHO] = 80, [A_SOCK] = 160, [A_EVENT] = 80,
	[A_POLL] = 80, [A_FUTEX] = 120, [A_HALL] = 40, [A_MUTEX] = 120,
	[A_PI] = 60, [A_SIGWAIT] = 40, [A_FAULT] = 6, [A_FILE] = 60,
	[A_REGION] = 24, [A_AFFINITY] = 20, [A_POLICY] = 8, [A_SIGNAL] = 40,
	[A_FORK] = 1, [A_VFORK] = 2, [A_WAIT] = 40, [A_WRONG] = 24,
	[A_NUDGE] = 160, [A_DETACH] = 16, [A_EXIT] = 6,
};

static enum act table[255 * WORKER_ACTS];
static unsigned int table_size;

void worker_world(void)
{
	unsigned int i, k;

	table_size = 0;
	for (i = 0; i < WORKER_ACTS; i++)
		for (k = 0; allowed(i) && k < weights[i]; k++)
			table[table_size++] = i;
	if (!table_size)
		table[table_size++] = A_YIELD;
}

/* As a worker of @list. False when the thread is to end. */
static bool live(struct seat *seat, unsigned int list)
{
	struct ledger *l = ledger_new(seat->nr, list);
	struct ums_worker_args args = { .user_data = l->nr };
	enum next next = GO_ON;
	struct ums_info info;
	enum act a;
	long ret;

	self.ledger = l;
	STORE(seat->ledger, l);
	if (switching())
		args.flags = UMS_WORKER_USER_SWITCH;
	l->tp = (unsigned long)__builtin_thread_pointer();
	ret = ums_worker_enter(w.lists[list].fd, &args, sizeof(args));
	if (ret <= 0) {
		self.ledger = NULL;
		STORE(seat->ledger, NULL);
		if (!closing(list) || (ret != -EBADF && ret != -EINVAL))
			violated(l, "enter %ld", ret);
		STORE(l->used, 0);
		return true;
	}
	if (!closing(list) && (__u64)ret != l->id)
		violated(l, "enter returned %lx, published was %llx", ret, l->id);

	while (next == GO_ON) {
		/* If its list is closed before, it is none that was executed. */
		if (LOAD(l->runner))
			ledger_check_running(l);
		else if (!closing(list))
			violated(l, "entered, but was not executed");
		maybe_end(BY_WORKER);
		if (LOAD(w.stop)) {
			next = LEAVE;
			break;
		}
		if (closing(list)) {
			next = DETACH;
			break;
		}
		a = table[rnd_below(&self.rng, table_size)];
		happened(l, H_ACT, MAX_SCHEDS, a, 0);
		next = act(a);
	}

	happened(l, H_LEAVE, MAX_SCHEDS, next, 0);
	/* So that the scheduler compares books with the kernel at this one. */
	STORE(l->yield_seq, l->yield_seq | 15);
	worker_yield(false);
	if (next == LEAVE) {
		STORE(l->leaving, UMS_UPCALL_EXITED);
		return false;
	}

	/* An ordinary thread from here on, whatever a handler does meanwhile. */
	self.ledger = NULL;
	STORE(seat->ledger, NULL);
	STORE(l->leaving, UMS_UPCALL_DETACHED);
	ret = ums_detach(0);
	if (ret && !(ret == -EPERM && closing(list)))
		violated(NULL, "seat %u: detach %ld", seat->nr, ret);
	ret = ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info));
	if (ret || info.role != UMS_ROLE_NONE || ums_yield(0, 0) != -EPERM)
		violated(NULL, "seat %u: detached, but has role %u", seat->nr, info.role);
	return true;
}

void *worker_thread(void *arg)
{
	struct seat *seat = arg;
	stack_t ss = { .ss_sp = seat->spare + SPARE, .ss_size = SPARE };
	char name[16];
	int list;

	snprintf(name, sizeof(name), "worker %u", seat->nr);
	prctl(PR_SET_NAME, name);
	self.seat = seat;
	self.rng = mix(gen.seed, seat->nr * 4096ULL + seat->threads);
	STORE(seat->tid, self_tid());
	/* One in two handles some signals on another stack. */
	if (seat->nr & 1)
		sigaltstack(&ss, NULL);
	handle_signals();
	do {
		list = LOAD(w.stop) ? -1 : choose_list();
		if (one_in(&self.rng, 2))
			sleep_ns(rnd_log(&self.rng, 1000, MSEC));
	} while (list >= 0 && live(seat, list));
	STORE(seat->state, SEAT_ENDING);
	return NULL;
}

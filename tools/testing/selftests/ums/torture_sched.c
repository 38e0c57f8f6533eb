// SPDX-License-Identifier: GPL-2.0
/*
 * Torture: schedulers. Each takes from every list, keeps some workers for later,
 * gives others away, and does odd things in between. It takes no lock that a
 * worker could hold: no malloc(), no stdio.
 */
#include "torture.h"

#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>

static void begin(struct scheduler *s)
{
	long ret;

	memset(&s->sum, 0, sizeof(s->sum));
	ret = switching() ? sched_enter_switching(&s->s) : sched_enter(&s->s);
	if (ret || s->s.reason != UMS_UPCALL_STARTUP || s->s.worker || s->s.detail)
		violated(NULL, "scheduler %u: enter %ld, upcall %llu", s->nr, ret,
			 s->s.reason);
}

static void finish(struct scheduler *s)
{
	struct ums_info info;
	char text[64];
	long ret;

	ret = ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info));
	snprintf(text, sizeof(text), "scheduler %u has %llu upcalls, query %ld", s->nr,
		 s->s.upcalls, ret);
	if (ret || info.role != UMS_ROLE_SCHEDULER || info.worker ||
	    info.executes != s->sum.executes ||
	    info.upcalls != s->s.upcalls ||
	    (!switching() && info.upcalls != s->sum.executes + 1) ||
	    info.blocks_syscall != s->sum.blocks_syscall ||
	    info.blocks_fault != s->sum.blocks_fault ||
	    info.yields != s->sum.yields ||
	    info.preemptions != s->sum.preemptions)
		violated_info(NULL, text, &info);
	ret = sched_exit(&s->s);
	if (ret)
		violated(NULL, "scheduler %u: exit %ld", s->nr, ret);
}

static void wrong_calls(struct scheduler *s)
{
	struct ums_worker_args args = {};
	unsigned int list = rnd_below(&s->rng, gen.lists);
	long ret;

	switch (rnd_below(&s->rng, 5)) {
	case 0:
		ret = ums_yield(0, 0) == -EPERM && ums_detach(0) == -EPERM;
		break;
	case 1:
		ret = ums_worker_enter(w.lists[list].fd, &args, sizeof(args));
		ret = ret == -EBUSY || (closing(list) && ret == -EBADF) ||
		      (closing(list) && ret == -EINVAL);
		break;
	case 2:
		/* Its serial number is higher than that of any worker. */
		ret = ums_execute(0x3fffff0000000000ULL | (rnd(&s->rng) & 0xffffffff), 0, 0);
		ret = ret == -ESRCH;
		break;
	case 3:
		ret = ums_execute(rnd(&s->rng) | 1ULL << 63, 0, 0) == -ESRCH &&
		      ums_execute(0, 0, 0) == -ESRCH;
		break;
	default:
		ret = ums_execute(0, 0, 0x10) == -EINVAL &&
		      ums_scheduler_exit(1) == -EINVAL;
	}
	if (!ret)
		violated(NULL, "scheduler %u: a wrong call has another result", s->nr);
}

static void random_affinity(__u64 *rng)
{
	static int cpus;
	cpu_set_t set;

	if (!cpus)
		cpus = sysconf(_SC_NPROCESSORS_ONLN);
	CPU_ZERO(&set);
	if (one_in(rng, 2))
		CPU_SET(rnd_below(rng, cpus), &set);
	else
		memset(&set, 0xff, sizeof(set));
	sched_setaffinity(0, sizeof(set), &set);
}

static void signal_self(struct scheduler *s)
{
	unsigned int before = self.handled;

	if (send_signal(self_tid(), signals[rnd_below(&s->rng, 3)]) ||
	    self.handled == before)
		violated(NULL, "scheduler %u: its signal to itself was not handled", s->nr);
}

/* Between upcall and execution; not often. */
static void oddities(struct scheduler *s)
{
	unsigned int r = rnd_below(&s->rng, 4096);

	if (r < 16 && allowed(A_S_LEAVE)) {
		finish(s);
		if (one_in(&s->rng, 2))
			sleep_ns(rnd_log(&s->rng, 1000, MSEC));
		begin(s);
	} else if (r < 32 && allowed(A_S_AFFINITY)) {
		random_affinity(&s->rng);
	} else if (r < 160 && allowed(A_S_NUDGE)) {
		nudge(rnd_below(&s->rng, gen.seats), &s->rng);
	} else if (r < 176 && allowed(A_S_NAP)) {
		sleep_ns(rnd_log(&s->rng, 1000, MSEC / 2));
	} else if (r < 177 && allowed(A_S_FORK)) {
		fork_and_wait(NULL);
	} else if (r < 210 && allowed(A_S_SIGNAL)) {
		signal_self(s);
	} else if (r < 226 && allowed(A_S_WRONG)) {
		wrong_calls(s);
	} else if (r < 260 && allowed(A_S_POOL)) {
		/* The kernel preempts it here, so that its next steps are late. */
		sched_yield();
	}
}

/* A yielded worker for whoever wants it. */
static bool give(struct scheduler *s, struct ledger *l)
{
	struct ledger *none;
	unsigned int i;

	ledger_give(s, l);
	for (i = 0; i < 16; i++) {
		none = NULL;
		if (__atomic_compare_exchange_n(&w.pool[i], &none, l, false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			return true;
	}
	ledger_hold(s, l);
	return false;
}

static struct ledger *from_pool(struct scheduler *s)
{
	struct ledger *l;
	unsigned int i;

	for (i = 0; i < 16; i++) {
		if (!LOAD(w.pool[i]))
			continue;
		l = __atomic_exchange_n(&w.pool[i], NULL, __ATOMIC_ACQ_REL);
		if (l) {
			ledger_hold(s, l);
			return l;
		}
	}
	return NULL;
}

static struct ledger *from_list(struct scheduler *s, unsigned int list)
{
	unsigned int n = 1, i;
	struct ledger *first;
	__u64 ids[4];

	if (allowed(A_S_MANY) && one_in(&s->rng, 4))
		n = 1 + rnd_below(&s->rng, 4);
	n = list_pop_many(&w.lists[list], ids, n);
	if (!n)
		return NULL;
	first = ledger_pop(s, list, ids[0]);
	for (i = 1; i < n; i++)
		s->queue[s->queued++] = ledger_pop(s, list, ids[i]);
	return first;
}

static struct ledger *from_queue(struct scheduler *s)
{
	struct ledger *l;
	unsigned int i;

	if (!s->queued)
		return NULL;
	i = rnd_below(&s->rng, s->queued);
	l = s->queue[i];
	s->queue[i] = s->queue[--s->queued];
	return l;
}

static struct ledger *next_worker(struct scheduler *s)
{
	unsigned int first = rnd_below(&s->rng, gen.lists), i;
	struct ledger *l = NULL;

	/* There has to be room for what comes from a list, and yields. */
	if (s->queued > QUEUE - 4 || one_in(&s->rng, 2))
		l = from_queue(s);
	if (!l)
		l = from_pool(s);
	for (i = 0; !l && i < gen.lists; i++)
		l = from_list(s, (first + i) % gen.lists);
	return l ? l : from_queue(s);
}

static void yielded(struct scheduler *s, struct ledger *l)
{
	/* Now and then, and at the last one before its end. */
	if (l->yield_seq % 16 == 0)
		ledger_ask_kernel(l);
	if (allowed(A_S_POOL) && one_in(&s->rng, 3) && give(s, l))
		return;
	if (s->queued == QUEUE)
		violated(l, "scheduler %u: its queue is full", s->nr);
	s->queue[s->queued++] = l;
}

/*
 * May a context that is saved go on here? Its thread must be nobody's carrier, or the one
 * of this scheduler, on which this runs.
 */
bool resumable(struct scheduler *s, struct ledger *l)
{
	struct ums_slot *slot = list_slot(&w.lists[l->list], l->id);

	return LOAD(slot->state) == UMS_STATE_EMPTY ||
	       LOAD(slot->scheduler) == (__u32)sh->scheds[s->nr].tid;
}

static void run(struct scheduler *s, struct ledger *l)
{
	unsigned int list = l->list;
	__u64 slice = 0;
	long ret;

	s->switched = false;
	s->resumed = l->saved;
	if (l->saved && !resumable(s, l)) {
		/* There is room where it came from. */
		s->queue[s->queued++] = l;
		sched_yield();
		return;
	}

	if (allowed(A_S_QUERY) && one_in(&s->rng, 32))
		ledger_ask_kernel(l);
	if (allowed(A_S_SLICE) && one_in(&s->rng, 2))
		slice = rnd_log(&s->rng, 1000, 8 * MSEC);

	/* In user mode there are no slices. */
	if (s->resumed)
		slice = 0;
	s->current = l;
	s->execution = ledger_execute(s, l, slice);
	if (s->resumed) {
		ledger_resume(s, l);
		ret = context_switch(&s->s.sp, l->sp, l->tp);
	} else {
		ret = sched_run(&s->s, l->id, slice);
	}
	__atomic_store_n(&sh->scheds[s->nr].cur, 0, __ATOMIC_SEQ_CST);
	if (ret) {
		/*
		 * What was taken can be executed; or its list has let it go. Until
		 * the list is gone for good, that looks as if it had detached.
		 */
		if ((ret != -ESRCH && ret != -ESTALE) || !closing(list))
			violated(l, "execute by scheduler %u: %ld", s->nr, ret);
		ledger_drop(s, l);
		return;
	}
	/* It may be another one by now. */
	l = s->current;
	if (ledger_event(s, l, s->execution, slice))
		yielded(s, l);
}

static void check_wait(struct scheduler *s, unsigned int list, long ret)
{
	if (!ret || ret == -EINTR || ret == -ETIMEDOUT)
		return;
	if (closing(list) && (ret == -EBADF || ret == -EINVAL))
		return;
	violated(NULL, "scheduler %u: wait %ld", s->nr, ret);
}

static void wait_list(struct scheduler *s, unsigned int list, bool timeout)
{
	__u64 ns = rnd_log(&s->rng, 1000, 8 * MSEC);
	unsigned int flags = 0;
	struct __kernel_timespec ts;

	if (!timeout) {
		check_wait(s, list, ums_wait(w.lists[list].fd, NULL, 0));
		return;
	}
	if (one_in(&s->rng, 8))
		ns = 0;
	if (one_in(&s->rng, 2)) {
		ns += now_ns();
		flags = UMS_WAIT_ABSTIME;
	}
	ts.tv_sec = ns / NSEC;
	ts.tv_nsec = ns % NSEC;
	check_wait(s, list, ums_wait(w.lists[list].fd, &ts, flags));
}

static void poll_lists(struct scheduler *s, const unsigned int *open, unsigned int n,
		       int timeout)
{
	struct pollfd p[MAX_LISTS];
	unsigned int i;

	for (i = 0; i < n; i++) {
		p[i].fd = w.lists[open[i]].fd;
		p[i].events = POLLIN;
	}
	if (poll(p, n, timeout) < 0) {
		if (errno != EINTR)
			violated(NULL, "scheduler %u: poll %d", s->nr, errno);
		return;
	}
	for (i = 0; i < n; i++)
		if ((p[i].revents & ~(POLLIN | POLLRDNORM)) && !closing(open[i]))
			violated(NULL, "scheduler %u: poll told %x", s->nr, p[i].revents);
}

static void idle(struct scheduler *s)
{
	unsigned int open[MAX_LISTS], n = 0, i;
	bool timeout;

	for (i = 0; i < gen.lists; i++)
		if (!closing(i))
			open[n++] = i;
	if (!n) {
		sleep_ns(MSEC);
		return;
	}
	/*
	 * Without a time-out only if it hears of every list; and always without
	 * one in the end, when nobody else disturbs, so that no wake-up is lost
	 * unseen.
	 */
	timeout = !LOAD(w.stop) && allowed(A_S_TIMEOUT) && one_in(&s->rng, 2);
	if ((allowed(A_S_POLL) && one_in(&s->rng, 4)) || (LOAD(w.stop) && n > 1))
		poll_lists(s, open, n, timeout ? rnd_below(&s->rng, 8) : -1);
	else
		wait_list(s, open[rnd_below(&s->rng, n)], timeout || n > 1);
}

void *sched_thread(void *arg)
{
	struct scheduler *s = arg;
	struct ledger *l;
	char name[16];

	snprintf(name, sizeof(name), "scheduler %u", s->nr);
	prctl(PR_SET_NAME, name);
	self.rng = mix(gen.seed, 1000000 + s->nr);
	self.sched = s;
	s->rng = mix(gen.seed, 2000000 + s->nr);
	handle_signals();
	STORE(sh->scheds[s->nr].tid, self_tid());
	begin(s);
	for (;;) {
		maybe_end(BY_SCHED);
		oddities(s);
		l = next_worker(s);
		if (l)
			run(s, l);
		else if (!LOAD(w.all_gone))
			idle(s);
		else
			break;
	}
	finish(s);
	STORE(s->left, 1);
	return NULL;
}

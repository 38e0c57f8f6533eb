// SPDX-License-Identifier: GPL-2.0
/*
 * Torture: the books. Each worker has a ledger, in which schedulers note what
 * they do with it and what they are told of it.
 *
 * A worker is either with a scheduler, which has taken it from its list or was
 * told that it yielded, and may execute it; or with the kernel, which owes one
 * sign of it: an upcall, and after an upcall that promises one a publication.
 * So what the kernel owes,
 *
 *	1 + upcalls that promise a publication + upcalls to come - pops
 *
 * is 1 while the kernel has it and 0 while a scheduler has it, at any time. It
 * does not matter that a scheduler may look at its upcall late, after another one
 * has taken the worker from the list: an upcall to come counts like the
 * publication that it will turn out to promise, and if it does not, then that is
 * the violation.
 */
#include "torture.h"

#include <sched.h>
#include <stdarg.h>
#include <sys/wait.h>

/* Of the last worker of each slot that has ended. */
struct last {
	__u64 id;
	__u64 executes, blocks;
	bool exited;
};

static struct last *last[MAX_LISTS];
static int last_lock;

/* Records what is wrong and ends the process. Only the first one counts. */
void violated(struct ledger *l, const char *fmt, ...)
{
	int none = 0, i;
	va_list ap;

	if (__atomic_compare_exchange_n(&sh->failed, &none, 1, false,
					__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		va_start(ap, fmt);
		vsnprintf(sh->text, sizeof(sh->text), fmt, ap);
		va_end(ap);
		sh->failed_ledger = l;
		if (l)
			happened(l, H_FAILED, self.sched ? self.sched->nr : MAX_SCHEDS,
				 self.sched ? 0 : self_tid(), 0);
		STORE(sh->failed, 2);
	}
	/* The first one may be a worker that needs a scheduler to go on. */
	for (i = 0; LOAD(sh->failed) != 2 && i < 1000; i++)
		sched_yield();
	syscall(SYS_exit_group, STATUS_VIOLATED);
	__builtin_unreachable();
}

/* The kernel says something else than it should. */
void violated_info(struct ledger *l, const char *what, const struct ums_info *info)
{
	char counts[256];
	size_t n;

	snprintf(counts, sizeof(counts),
		 "executes %llu, blocks %llu+%llu, yields %llu, preemptions %llu, ",
		 info->executes, info->blocks_syscall, info->blocks_fault, info->yields,
		 info->preemptions);
	n = strlen(counts);
	snprintf(counts + n, sizeof(counts) - n, "publishes %llu, upcalls %llu",
		 info->publishes, info->upcalls);
	violated(l, "%s: role %u, state %u, worker %llx, scheduler %u, %s",
		 what, info->role, info->state, info->worker, info->scheduler, counts);
}

static void lock(int *word)
{
	int n = 0;

	while (__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE))
		if (!(++n % 64))
			sched_yield();
}

static void unlock(int *word)
{
	__atomic_store_n(word, 0, __ATOMIC_RELEASE);
}

/* By its schedulers and by the worker itself, without a lock. */
void happened(struct ledger *l, enum happening what, __u32 sched, __u64 a, __u64 b)
{
	__u32 n = __atomic_fetch_add(&l->nhistory, 1, __ATOMIC_RELAXED);
	struct happened *h = &l->history[n % HISTORY];

	h->time = now_ns();
	h->what = what;
	h->sched = sched;
	h->a = a;
	h->b = b;
}

void ledgers_open(void)
{
	unsigned int i;

	for (i = 0; i < gen.lists; i++) {
		last[i] = calloc(gen.seats, sizeof(struct last));
		if (!last[i])
			violated(NULL, "set-up: no memory");
	}
}

/* For the calling thread, which is about to become a worker. */
struct ledger *ledger_new(unsigned int seat, unsigned int list)
{
	struct ledger *l;
	unsigned int i;
	int unused;

	for (i = rnd(&self.rng) % sh->nledgers;; i = (i + 1) % sh->nledgers) {
		l = &sh->ledgers[i];
		unused = 0;
		if (!LOAD(l->used) &&
		    __atomic_compare_exchange_n(&l->used, &unused, 1, false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			break;
		/* Schedulers that are late keep some for a while. */
		if (!i)
			sleep_ns(MSEC);
	}

	/* For o_set: a new number never goes with an old id. */
	STORE(l->id, 0);
	STORE(l->nr, (l->nr & ~0xffffU) + 0x10000 + i);
	l->seat = seat;
	l->list = list;
	l->pops = 0;
	l->executes = 0;
	l->events = 0;
	l->publishing = 0;
	l->blocks_syscall = 0;
	l->blocks_fault = 0;
	l->yields = 0;
	l->preemptions = 0;
	l->resumes = 0;
	l->switches = 0;
	l->saved = false;
	l->pops_at = 0;
	l->holder = 0;
	l->ended = false;
	l->yield_seq = 0;
	l->leaving = 0;
	l->nhistory = 0;
	STORE(l->runner, 0);
	happened(l, H_ENTER, MAX_SCHEDS, list, self_tid());
	return l;
}

static int owed(struct ledger *l)
{
	return 1 + l->publishing + (l->executes - l->events) - l->pops;
}

/* An id from a list: whose it is, now with @s. */
struct ledger *ledger_pop(struct scheduler *s, unsigned int list, __u64 id)
{
	struct ums_slot *slot;
	struct ledger *l;
	__u32 nr;

	__atomic_fetch_add(&w.popped[list], 1, __ATOMIC_RELAXED);
	if (!id || UMS_ID_LIST(id) != w.lists[list].args.list_nr ||
	    UMS_ID_SLOT(id) >= gen.seats)
		violated(NULL, "popped %llx, which is no id of list %u", id, list);
	slot = list_slot(&w.lists[list], id);
	nr = LOAD(slot->user_data);
	l = &sh->ledgers[(nr & 0xffff) % sh->nledgers];

	lock(&l->lock);
	happened(l, H_POP, s->nr, id, l->executes - l->events);
	if (LOAD(l->nr) != nr || !LOAD(l->used))
		violated(l, "popped %llx, of number %x; but its ledger is that of %x", id,
			 nr, l->nr);
	if (!l->id)
		STORE(l->id, id);
	if (l->id != id)
		violated(l, "popped %llx, but the worker of this number is %llx",
			 id, l->id);
	if (l->list != list)
		violated(l, "published on list %u, but belongs to list %u", list, l->list);
	if (l->ended)
		violated(l, "published after its end");
	if (l->holder)
		violated(l, "published twice: scheduler %d has it (-2: any)",
			 l->holder - 1);
	if (owed(l) != 1)
		violated(l, "published twice: %d publications owed", owed(l));
	/* In this order: it may be released by its list at any moment. */
	if ((LOAD(slot->id) != id || LOAD(slot->state) != UMS_STATE_READY) &&
	    !closing(list))
		violated(l, "popped, but its slot has id %llx, state %u", slot->id,
			 slot->state);
	if (l->executes != l->events)
		count(N_LATE);
	l->pops++;
	l->holder = s->nr + 1;
	unlock(&l->lock);
	count(N_PUBLISHES);
	return l;
}

/* From the pool to @s. */
void ledger_hold(struct scheduler *s, struct ledger *l)
{
	lock(&l->lock);
	if (l->holder != HOLDER_POOL)
		violated(l, "in the pool, but held by scheduler %d", l->holder - 1);
	l->holder = s->nr + 1;
	happened(l, H_KEEP, s->nr, 0, 0);
	unlock(&l->lock);
}

/* From @s to the pool. */
void ledger_give(struct scheduler *s, struct ledger *l)
{
	lock(&l->lock);
	if (l->holder != (int)s->nr + 1)
		violated(l, "to be given away, but held by scheduler %d", l->holder - 1);
	l->holder = HOLDER_POOL;
	happened(l, H_GIVE, s->nr, 0, 0);
	unlock(&l->lock);
}

static __u64 token(struct ledger *l, __u32 nr)
{
	return (__u64)l->nr << 32 | nr;
}

/* @s is about to execute it. The number of that execution. */
__u32 ledger_execute(struct scheduler *s, struct ledger *l, __u64 slice)
{
	__u32 nr;

	lock(&l->lock);
	if (l->holder != (int)s->nr + 1 || owed(l) != 0)
		violated(l, "to be executed by scheduler %u, but held by %d, %d owed",
			 s->nr, l->holder - 1, owed(l));
	l->holder = 0;
	l->pops_at = l->pops;
	nr = ++l->executes;
	happened(l, H_EXECUTE, s->nr, nr, slice);
	STORE(l->runner, (__u64)(s->nr + 1) << 32 | nr);
	__atomic_store_n(&sh->scheds[s->nr].since, now_ns(), __ATOMIC_RELAXED);
	__atomic_store_n(&sh->scheds[s->nr].cur, token(l, nr), __ATOMIC_SEQ_CST);
	unlock(&l->lock);
	return nr;
}

/* Behind ledger_execute(): in user mode. */
void ledger_resume(struct scheduler *s, struct ledger *l)
{
	lock(&l->lock);
	happened(l, H_RESUME, s->nr, l->executes, 0);
	if (!l->saved)
		violated(l, "to be resumed, but its context is not saved");
	l->saved = false;
	l->resumes++;
	unlock(&l->lock);
	count(N_RESUMES);
}

/* No upcall, for its list was closed. */
void ledger_drop(struct scheduler *s, struct ledger *l)
{
	lock(&l->lock);
	l->executes--;
	happened(l, H_DROP, s->nr, 0, 0);
	unlock(&l->lock);
}

/* Under its lock: ended, and no scheduler has an upcall of it to come. */
static void finish(struct ledger *l)
{
	struct last *z = &last[l->list][UMS_ID_SLOT(l->id)];

	/* Exact now, whoever came late: nothing is on its way any more. */
	if (owed(l) != 0 || l->holder ||
	    l->executes != l->blocks_syscall + l->blocks_fault + l->yields +
			   l->preemptions + 1)
		violated(l, "ended: %d publications owed, held by %d", owed(l),
			 l->holder - 1);

	lock(&last_lock);
	if (UMS_ID_SERIAL(l->id) > UMS_ID_SERIAL(z->id)) {
		z->id = l->id;
		z->executes = l->executes - l->resumes;
		z->blocks = l->blocks_syscall + l->blocks_fault;
		z->exited = l->leaving == UMS_UPCALL_EXITED;
	}
	unlock(&last_lock);
}

static void check_yield(struct ledger *l, __u64 arg)
{
	if (arg >> 32 != l->nr)
		violated(l, "yielded with %llx, the argument of another worker", arg);
	/* Published, it may have gone on by now; or released by its list. */
	if (!(arg & 1) && arg != LOAD(l->yield_arg) && !closing(l->list))
		violated(l, "yielded with %llx instead of %llx", arg, l->yield_arg);
}

static void check_leaving(struct ledger *l, __u64 reason, __u64 detail)
{
	/* Executed while its list was being closed, it may be released by that. */
	if (LOAD(l->leaving) != (int)reason &&
	    !(reason == UMS_UPCALL_DETACHED && closing(l->list)))
		violated(l, "upcall %s of a worker that does no such thing",
			 reason == UMS_UPCALL_EXITED ? "EXITED" : "DETACHED");
	if (detail)
		violated(l, "ended with status %llx", detail);
}

/*
 * The upcall of execution @nr. True when the worker is with the scheduler now;
 * otherwise its ledger may be another worker's from here on.
 */
bool ledger_event(struct scheduler *s, struct ledger *l, __u32 nr, __u64 slice)
{
	__u64 reason = s->s.reason, detail = s->s.detail;
	bool publishes = false, over = false;

	if (s->s.worker != l->id)
		violated(l, "scheduler %u executed it, but the upcall %llu names %llx",
			 s->nr, reason, s->s.worker);

	lock(&l->lock);
	happened(l, s->switched ? H_SWITCH : H_EVENT, s->nr, reason, detail);
	if (!s->resumed) {
		s->sum.executes++;
		count(N_EXECUTES);
	}
	switch (reason) {
	case UMS_UPCALL_BLOCKED:
		publishes = true;
		if (detail == UMS_CAUSE_FAULT) {
			l->blocks_fault++;
			s->sum.blocks_fault++;
			count(N_FAULTS);
		} else if (detail < MAX_SYSCALL) {
			l->blocks_syscall++;
			s->sum.blocks_syscall++;
			INC(sh->blocks[detail]);
		} else {
			violated(l, "blocked for cause %llx", detail);
		}
		break;
	case UMS_UPCALL_YIELDED:
		publishes = detail & 1;
		check_yield(l, detail);
		l->yields++;
		if (s->switched) {
			l->switches++;
			l->saved = true;
			count(N_SWITCHES);
		} else {
			s->sum.yields++;
			count(N_YIELDS);
		}
		break;
	case UMS_UPCALL_PREEMPTED:
		publishes = true;
		if (detail < UMS_PREEMPT_ASKED || detail > UMS_PREEMPT_SIGNAL ||
		    /* That of who was executed last goes on where others are resumed. */
		    (detail == UMS_PREEMPT_SLICE && !slice && !s->resumed))
			violated(l, "preempted for %llu, with a slice of %llu ns",
				 detail, slice);
		l->preemptions++;
		s->sum.preemptions++;
		count(N_PREEMPTIONS);
		break;
	case UMS_UPCALL_EXITED:
	case UMS_UPCALL_DETACHED:
		check_leaving(l, reason, detail);
		l->ended = true;
		count(reason == UMS_UPCALL_EXITED ? N_EXITS : N_DETACHES);
		break;
	default:
		violated(l, "upcall %llu", reason);
	}

	if (publishes) {
		l->publishing++;
	} else if (l->executes != nr || l->pops != l->pops_at || l->holder) {
		violated(l, "after upcall %llu of execution %u it was popped or executed",
			 reason, nr);
	} else if (!l->ended) {
		l->holder = s->nr + 1;
	}
	l->events++;
	if (l->events > l->executes || owed(l) < 0 || owed(l) > 1)
		violated(l, "%u upcalls of %u executions, %d publications owed",
			 l->events, l->executes, owed(l));

	if (l->ended && l->events == l->executes) {
		finish(l);
		over = true;
	}
	unlock(&l->lock);
	if (over)
		STORE(l->used, 0);
	return !publishes && !over && reason == UMS_UPCALL_YIELDED;
}

/* What the kernel says of a worker that is with the calling scheduler. */
void ledger_ask_kernel(struct ledger *l)
{
	struct ums_info info;
	struct ledger book;
	bool quiet, running;
	long ret;

	/* Upcalls that are late may come; executions and pops may not. */
	lock(&l->lock);
	book = *l;
	unlock(&l->lock);
	quiet = book.executes == book.events;

	ret = ums_query(UMS_QUERY_WORKER, l->id, &info, sizeof(info));
	count(N_QUERIES);
	if (ret) {
		if ((ret != -ESRCH && ret != -ESTALE) || !closing(l->list))
			violated(l, "query: %ld", ret);
		return;
	}
	/* One that its list has released may have gone on. */
	if (closing(l->list))
		return;
	/* If its context is saved, its thread may be the carrier of another one. */
	running = info.state == UMS_STATE_RUNNING;
	if (info.role != UMS_ROLE_WORKER || info.worker != l->id ||
	    (info.state != UMS_STATE_READY && !book.saved) ||
	    (info.state != UMS_STATE_EMPTY && !running && book.saved) ||
	    running != !!info.scheduler)
		violated_info(l, "it is with a scheduler, but", &info);
	if ((__u32)info.user_data != l->nr)
		violated(l, "its user_data is %llx", info.user_data);
	if (info.executes != book.executes - book.resumes || info.publishes != book.pops ||
	    info.executes + book.resumes != info.blocks_syscall + info.blocks_fault +
					    info.yields + info.preemptions + book.switches)
		violated_info(l, "the kernel has counted otherwise", &info);
	if (quiet && (info.blocks_syscall != book.blocks_syscall ||
		      info.blocks_fault != book.blocks_fault ||
		      info.yields != book.yields - book.switches ||
		      info.preemptions != book.preemptions))
		violated_info(l, "the kernel has counted its upcalls otherwise", &info);
}

/*
 * By the worker, in user mode: does the scheduler that has executed it last say
 * so, too? The scheduler writes @cur before it executes and resets it as soon as
 * it gets the upcall. If @runner is the same before and after, no other
 * scheduler has executed the worker meanwhile, and @cur must be its own; so no
 * two can be in user mode on one scheduler, nor one beside its scheduler.
 */
void ledger_check_running(struct ledger *l)
{
	__u64 runner = LOAD(l->runner), cur;

	count(N_CHECKS);
	if (!runner)
		violated(l, "in user mode, but was never executed");
	cur = __atomic_load_n(&sh->scheds[(runner >> 32) - 1].cur, __ATOMIC_SEQ_CST);
	if (cur == token(l, runner) || LOAD(l->runner) != runner || closing(l->list))
		return;
	violated(l, "in user mode, but scheduler %llu, which executed it last (%u), runs %x (%u)",
		 (runner >> 32) - 1, (__u32)runner, (__u32)(cur >> 32), (__u32)cur);
}

/* The slots, when everybody has left. */
static void check_slot(unsigned int list, unsigned int nr)
{
	struct ums_slot *slot = &w.lists[list].slots[nr];
	struct last *z = &last[list][nr];
	struct ums_info info;
	long ret;

	if (!slot->id && !z->id)
		return;
	if (slot->id != z->id || slot->executes != z->executes ||
	    slot->blocks != z->blocks || slot->scheduler ||
	    slot->state != (z->exited ? UMS_STATE_EXITED : UMS_STATE_NONE))
		violated(NULL, "slot %u/%u: %llx, state %u, runs %llu (%llu), blocks %llu (%llu)",
			 list, nr, slot->id, slot->state, slot->executes, z->executes,
			 slot->blocks, z->blocks);
	ret = ums_query(UMS_QUERY_WORKER, z->id, &info, sizeof(info));
	if (ret != (z->exited ? 0 : -ESTALE) ||
	    (!ret && (info.state != UMS_STATE_EXITED || info.exit_status)))
		violated(NULL, "slot %u of list %u: query %ld", nr, list, ret);
}

void ledgers_check_end(void)
{
	struct ums_list_header *h;
	struct ledger *l;
	unsigned int i, k;
	char path[64], text[512], v[32] = "";

	for (i = 0; i < sh->nledgers; i++) {
		l = &sh->ledgers[i];
		if (l->used && !closing(l->list))
			violated(l, "lost: all workers have ended but this one");
	}
	for (i = 0; i < gen.lists; i++) {
		if (closing(i))
			continue;
		h = w.lists[i].head;
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", w.lists[i].fd);
		if (read_text(path, text, sizeof(text)) < 0 ||
		    !text_value(text, "ums-published", v, sizeof(v)))
			violated(NULL, "list %u: no %s", i, path);
		if (h->tail != w.popped[i] || h->head != w.popped[i] ||
		    strtoull(v, NULL, 10) != w.popped[i])
			violated(NULL, "list %u: %llu published (%s), %llu taken, %llu popped",
				 i, h->tail, v, h->head, w.popped[i]);
		for (k = 0; k < gen.seats; k++)
			check_slot(i, k);
	}
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Torture: threads that are neither workers nor schedulers. They end sleeps,
 * resolve faults, replace workers that have ended, and disturb.
 */
#include "torture.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/time.h>

#define RNG	(&self.rng)

/* To a thread of this process, or with 0 to the process. ESRCH is no error. */
int send_signal(pid_t tid, int sig)
{
	if (!tid)
		return kill(getpid(), sig);
	return syscall(SYS_tgkill, getpid(), tid, sig);
}

/* Of a worker or a scheduler; maybe one that has ended. */
pid_t random_tid(__u64 *rng)
{
	if (one_in(rng, 4))
		return LOAD(sh->scheds[rnd_below(rng, gen.scheds)].tid);
	return LOAD(w.seats[rnd_below(rng, gen.seats)].tid);
}

static void nudger(void)
{
	unsigned int n;

	while (!LOAD(w.quit)) {
		if (LOAD(w.stop)) {
			nudge_all();
			sleep_ns(2 * MSEC);
		} else {
			for (n = 1 + rnd_below(RNG, 1 + gen.seats / 8); n; n--)
				nudge(rnd_below(RNG, gen.seats), RNG);
			sleep_ns(rnd_log(RNG, 10000, MSEC / 2));
		}
	}
}

/* Answers each request with a byte. */
static void echoer(void)
{
	__u16 nr[32];
	ssize_t n, i;

	while (!LOAD(w.quit)) {
		n = read(w.echo[0], nr, sizeof(nr)) / (ssize_t)sizeof(*nr);
		for (i = 0; i < n; i++) {
			if (nr[i] >= gen.seats)		/* the end */
				return;
			if (write(w.seats[nr[i]].pipe[1], "e", 1) < 0 && errno != EAGAIN)
				violated(NULL, "echo: %d", errno);
		}
	}
}

/* Fills one missing page, with zeroes or with the number of its seat. */
static void fill_page(__u64 address)
{
	static char page[4096] __attribute__((aligned(4096)));
	__u64 at = address & ~4095ULL;
	unsigned int nr = (at - (uintptr_t)w.seats[0].page) / 4096;
	struct uffdio_copy copy = { .dst = at, .src = (uintptr_t)page, .len = 4096 };
	struct uffdio_zeropage zero = { .range = { at, 4096 } };
	int ret;

	do {
		if (one_in(RNG, 2)) {
			zero.zeropage = 0;
			ret = ioctl(w.uffd, UFFDIO_ZEROPAGE, &zero);
		} else {
			memset(page, nr | 1, sizeof(page));
			copy.copy = 0;
			ret = ioctl(w.uffd, UFFDIO_COPY, &copy);
		}
	} while (ret < 0 && errno == EAGAIN);
	/* A signal makes it fault twice: then the page is there. */
	if (ret < 0 && errno == EEXIST)
		ret = ioctl(w.uffd, UFFDIO_WAKE, &zero.range);
	if (ret < 0)
		violated(NULL, "userfaultfd: %d for %llx", errno, address);
}

static void resolver(void)
{
	struct pollfd p = { .fd = w.uffd, .events = POLLIN };
	struct uffd_msg msg[8];
	ssize_t n, i;

	while (!LOAD(w.quit)) {
		if (poll(&p, 1, 20) <= 0)
			continue;
		n = read(w.uffd, msg, sizeof(msg)) / (ssize_t)sizeof(*msg);
		if (one_in(RNG, 2))
			sleep_ns(rnd_log(RNG, 1000, MSEC));
		for (i = 0; i < n; i++)
			if (msg[i].event == UFFD_EVENT_PAGEFAULT)
				fill_page(msg[i].arg.pagefault.address);
	}
}

static void start_worker(struct seat *seat)
{
	int ret;

	seat->threads++;
	STORE(seat->state, SEAT_LIVE);
	INC(w.active);
	ret = thread_start(&seat->thread, worker_thread, seat);
	if (!ret)
		return;
	/* As long as another thread is in execve(), there are no new ones. */
	if (ret != -EAGAIN || gen.end->what != EXEC || !LOAD(w.end_taken))
		violated(NULL, "no thread for seat %u: %d", seat->nr, ret);
	STORE(seat->state, SEAT_EMPTY);
	__atomic_fetch_sub(&w.active, 1, __ATOMIC_ACQ_REL);
}

static bool any_open(void)
{
	unsigned int i;

	for (i = 0; i < gen.lists; i++)
		if (!closing(i))
			return true;
	return false;
}

/* Puts a new thread where one has ended. */
static void spawner(void)
{
	struct seat *seat;
	unsigned int i;
	bool stop;

	while (!LOAD(w.quit)) {
		stop = LOAD(w.stop);
		for (i = 0; i < gen.seats; i++) {
			seat = &w.seats[i];
			if (LOAD(seat->state) == SEAT_ENDING &&
			    !pthread_tryjoin_np(seat->thread, NULL)) {
				STORE(seat->state, SEAT_EMPTY);
				__atomic_fetch_sub(&w.active, 1, __ATOMIC_ACQ_REL);
			}
			if (LOAD(seat->state) == SEAT_EMPTY && !stop && any_open())
				start_worker(seat);
		}
		STORE(w.no_more, stop);
		sleep_ns(MSEC / 2);
	}
}

/* ---- those who disturb */

/* The id of some worker, and its number; 0 if there is none just now. */
static __u64 random_id(__u32 *nr)
{
	struct seat *seat = &w.seats[rnd_below(RNG, gen.seats)];
	struct ledger *l = LOAD(seat->ledger);
	__u64 id;

	if (!l || one_in(RNG, 8))
		l = &sh->ledgers[rnd_below(RNG, sh->nledgers)];
	*nr = LOAD(l->nr);
	id = LOAD(l->id);
	return LOAD(l->nr) == *nr ? id : 0;
}

static bool expected(__u64 id, long ret, bool again)
{
	return !ret || ret == -ESTALE || (again && ret == -EAGAIN) ||
	       (ret == -ESRCH && closing(UMS_ID_LIST(id) != w.lists[0].args.list_nr));
}

static void query_worker(__u64 id)
{
	bool running, blocked;
	struct ums_info i;
	__u64 ends;
	long ret;

	ret = ums_query(UMS_QUERY_WORKER, id, &i, sizeof(i));
	count(N_QUERIES);
	if (!expected(id, ret, false))
		violated(NULL, "query of %llx: %ld", id, ret);
	if (ret || i.state == UMS_STATE_EXITED)
		return;

	running = i.state == UMS_STATE_RUNNING;
	blocked = i.state == UMS_STATE_BLOCKED;
	if (i.role != UMS_ROLE_WORKER || i.worker != id ||
	    (!running && !blocked && i.state != UMS_STATE_READY &&
	     (i.state != UMS_STATE_EMPTY || !switching())) ||
	    running != !!i.scheduler)
		violated_info(NULL, "a worker", &i);
	/* Taken together under one lock, so these hold at any time. */
	ends = i.blocks_syscall + i.blocks_fault + i.yields + i.preemptions;
	if ((i.executes != ends + running && !switching()) || i.publishes > 1 + ends ||
	    i.publishes + blocked < 1 + ends - i.yields)
		violated_info(NULL, "the counts do not go together", &i);
}

static void query_thread(void)
{
	pid_t tid = random_tid(RNG);
	struct ums_info info;
	long ret;

	ret = ums_query(UMS_QUERY_THREAD, tid, &info, sizeof(info));
	count(N_QUERIES);
	if (ret && ret != -ESRCH)
		violated(NULL, "query of thread %d: %ld", tid, ret);
	if (!ret && tid && ((pid_t)info.tid != tid || info.role > UMS_ROLE_SCHEDULER))
		violated(NULL, "thread %d: tid %u, role %u", tid, info.tid, info.role);
}

/* An id that was never given. */
static void wrong_id(void)
{
	__u64 id = 0x3fffff0000000000ULL | (rnd(RNG) & 0xffffffff), none;
	struct ums_info info;

	if (one_in(RNG, 2))
		id |= 1ULL << 63;
	if (ums_preempt(id, 0) != -ESRCH || ums_set(UMS_SET_USER_DATA, id, 1) != -ESRCH ||
	    ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)) != -ESRCH ||
	    ums_execute(id, 0, 0) != -EPERM || ums_yield(0, 0) != -EPERM ||
	    ums_set(99, id, 0) != -EINVAL || ums_query(99, id, &none, 8) != -EINVAL)
		violated(NULL, "a call with the wrong id %llx has another result", id);
}

static void disturb(void)
{
	__u32 nr;
	__u64 id = random_id(&nr);
	long ret = 0;

	switch (rnd_below(RNG, 8)) {
	case 0:
	case 1:
		if (id && allowed(A_O_PREEMPT))
			ret = ums_preempt(id, 0);
		break;
	case 2:
	case 3:
		if (id && allowed(A_O_QUERY))
			query_worker(id);
		break;
	case 4:
		if (allowed(A_O_QUERY))
			query_thread();
		break;
	case 5:
		/* Schedulers know a worker by the lower half. */
		if (id && allowed(A_O_SET))
			ret = ums_set(UMS_SET_USER_DATA, id, rnd(RNG) << 32 | nr);
		break;
	case 6:
		if (allowed(A_O_SIGNAL))
			send_signal(one_in(RNG, 8) ? 0 : random_tid(RNG),
				    signals[rnd_below(RNG, 3)]);
		break;
	default:
		if (allowed(A_O_WRONG))
			wrong_id();
	}
	if (!expected(id, ret, true))
		violated(NULL, "call with %llx: %ld", id, ret);
}

static void disturber(void)
{
	/* Signals from the timer interrupt, to whom it finds. */
	struct itimerval it = { { 0, 7000 }, { 0, 7000 } };

	if (allowed(A_O_TIMER))
		setitimer(ITIMER_PROF, &it, NULL);
	/* Not to the end, where it could wake somebody whom others forgot. */
	while (!LOAD(w.stop)) {
		disturb();
		if (one_in(RNG, 4))
			sleep_ns(rnd_log(RNG, 10000, MSEC));
	}
	memset(&it, 0, sizeof(it));
	setitimer(ITIMER_PROF, &it, NULL);
}

static struct outside {
	const char *name;
	void (*fn)(void);
	pthread_t thread;
} outsides[] = {
	{ .name = "nudger", .fn = nudger },
	{ .name = "echoer", .fn = echoer },
	{ .name = "spawner", .fn = spawner },
	{ .name = "disturber", .fn = disturber },
	{ .name = "resolver", .fn = resolver },		/* the last: may be left out */
};

static unsigned int n_outside(void)
{
	return ARRAY_SIZE(outsides) - (w.uffd < 0);
}

static void *outside_thread(void *arg)
{
	struct outside *o = arg;

	prctl(PR_SET_NAME, o->name);
	self.rng = mix(gen.seed, 3000000 + (o - outsides));
	o->fn();
	return NULL;
}

void outside_start(void)
{
	unsigned int i;

	for (i = 0; i < n_outside(); i++)
		if (thread_start(&outsides[i].thread, outside_thread, &outsides[i]))
			violated(NULL, "set-up: no thread for the %s", outsides[i].name);
}

void outside_join(void)
{
	__u16 end = 0xffff;
	unsigned int i;

	STORE(w.quit, 1);
	if (write(w.echo[1], &end, sizeof(end)) < 0)
		violated(NULL, "echo: %d", errno);
	for (i = 0; i < n_outside(); i++)
		if (pthread_join(outsides[i].thread, NULL))
			violated(NULL, "the %s cannot be joined", outsides[i].name);
}

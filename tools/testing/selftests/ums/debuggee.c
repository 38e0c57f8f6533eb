// SPDX-License-Identifier: GPL-2.0
/*
 * The program that gdb_test.sh and strace_test.sh look at: workers in all states,
 * each in a function of its own name.
 *
 *	debuggee probe		status 4: this kernel has no UMS
 *	debuggee rest DIR	until there is a file DIR/end. DIR/ready names the
 *				threads: one "FUNCTION TID" a line
 *	debuggee calls N	N workers make calls that tell by whom they are made
 *	debuggee switches N	the same, and switch in user mode between these
 *
 * Status 0: everything was as it must be.
 */
#define UMS_TEST_HELPERS
#include "ums_test.h"

#include <poll.h>
#include <sys/stat.h>

#define NOINLINE __attribute__((noipa))

enum {
	SPINS,
	TICKS_1,
	TICKS_2,
	READS,
	POLLS,
	READS_IN_REGION,
	YIELDED,
	FRESH,
	WORKERS,
};

static struct worker workers[WORKERS];
static struct list busy, quiet, region, fresh;
static int stop;
static pid_t busy_tid[2], quiet_tid, region_tid;
static int busy_left = 3, quiet_left = 3;

/* What debuggers look at, and set. */
volatile int watched;
volatile int set_by_debugger;
volatile long ticks_done;

static void fail(const char *what)
{
	fprintf(stderr, "debuggee: %s (errno %d)\n", what, errno);
	_exit(1);
}

int NOINLINE adds(int a, int b)
{
	return a + b;
}

/* Where breakpoints are set. */
void NOINLINE tick(long n)
{
	watched = adds(n, 1);
	__atomic_fetch_add(&ticks_done, 1, __ATOMIC_ACQ_REL);
}

static void NOINLINE worker_spins(struct worker *w)
{
	while (!LOAD(stop))
		w->result++;
}

static void NOINLINE worker_ticks(struct worker *w)
{
	while (!LOAD(stop)) {
		tick(++w->result);
		if (w->result % 3 == 0)
			sleep_ns(MSEC);
		ums_yield(0, UMS_YIELD_PUBLISH);
	}
}

static void NOINLINE worker_reads(struct worker *w)
{
	char c;

	w->result = read(w->fd[0], &c, 1);
}

static void NOINLINE worker_polls(struct worker *w)
{
	struct pollfd p = { .fd = w->fd[0], .events = POLLIN };

	do {
		w->result = poll(&p, 1, -1);
	} while (w->result < 0 && errno == EINTR);
}

static void NOINLINE worker_reads_in_region(struct worker *w)
{
	char c;

	STORE(list_slot(w->list, w->id)->no_upcall, 1);
	w->result = read(w->fd[0], &c, 1);
	STORE(list_slot(w->list, w->id)->no_upcall, 0);
}

static void NOINLINE worker_yielded(struct worker *w)
{
	ums_yield(7, 0);
	w->result = 1;
}

static void NOINLINE worker_fresh(struct worker *w)
{
	w->result = 1;
}

static const struct {
	const char *name;
	void (*fn)(struct worker *w);
	struct list *list;
} kinds[WORKERS] = {
	{ "worker_spins", worker_spins, &busy },
	{ "worker_ticks", worker_ticks, &busy },
	{ "worker_ticks", worker_ticks, &busy },
	{ "worker_reads", worker_reads, &quiet },
	{ "worker_polls", worker_polls, &quiet },
	{ "worker_reads_in_region", worker_reads_in_region, &region },
	{ "worker_yielded", worker_yielded, &quiet },
	/* It has not been executed, so it is not there yet. */
	{ "worker_main", worker_fresh, &fresh },
};

/* Two of these execute three workers, with slices. */
static void *NOINLINE scheduler_busy(void *arg)
{
	struct __kernel_timespec ts = { .tv_nsec = 10 * MSEC };
	struct sched s;
	__u64 id;

	STORE(*(pid_t *)arg, self_tid());
	if (sched_enter(&s))
		fail("ums_scheduler_enter");
	while (LOAD(busy_left)) {
		id = list_pop(&busy);
		if (!id) {
			ums_wait(busy.fd, &ts, 0);
			continue;
		}
		if (sched_run(&s, id, 2 * MSEC) || s.worker != id)
			fail("ums_execute");
		if (s.reason == UMS_UPCALL_EXITED)
			__atomic_fetch_sub(&busy_left, 1, __ATOMIC_ACQ_REL);
		/* Nobody else publishes it: all that is not on the list is lost. */
		if (s.reason == UMS_UPCALL_YIELDED && s.detail)
			fail("a worker yields what it must not");
	}
	return NULL;
}

static void *NOINLINE scheduler_region(void *arg)
{
	struct sched s;

	STORE(region_tid, self_tid());
	if (sched_enter(&s))
		fail("ums_scheduler_enter");
	if (worker_run_to_end(&s, &region, list_pop_wait(&region)))
		fail("the worker in a region");
	return NULL;
}

static void *NOINLINE scheduler_quiet(void *arg)
{
	__u64 kept = 0, id;
	struct sched s;

	STORE(quiet_tid, self_tid());
	if (sched_enter(&s))
		fail("ums_scheduler_enter");
	while (LOAD(quiet_left)) {
		id = list_pop(&quiet);
		if (!id && kept && LOAD(stop)) {
			id = kept;
			kept = 0;
		}
		if (!id) {
			ums_wait(quiet.fd, NULL, 0);
			continue;
		}
		if (sched_run(&s, id, 0) || s.worker != id)
			fail("ums_execute");
		if (s.reason == UMS_UPCALL_EXITED)
			__atomic_fetch_sub(&quiet_left, 1, __ATOMIC_ACQ_REL);
		if (s.reason == UMS_UPCALL_YIELDED && s.detail == 7)
			kept = id;
	}
	if (worker_run_to_end(&s, &fresh, list_pop_wait(&fresh)))
		fail("the worker that was not executed");
	return NULL;
}

static bool at_rest(void)
{
	return LOAD(workers[SPINS].id) && LOAD(ticks_done) > 10 &&
	       thread_sleeps_in(workers[READS].tid, SYS_read) &&
	       thread_sleeps_in(workers[POLLS].tid, SYS_poll) &&
	       thread_sleeps_in(workers[READS_IN_REGION].tid, SYS_read) &&
	       thread_sleeps_in(workers[YIELDED].tid, NR_UMS_YIELD) &&
	       thread_sleeps_in(workers[FRESH].tid, NR_UMS_WORKER_ENTER) &&
	       thread_sleeps_in(quiet_tid, NR_UMS_WAIT) &&
	       thread_sleeps_in(region_tid, NR_UMS_EXECUTE);
}

static int NOINLINE rest(const char *dir)
{
	char path[256], tmp[256];
	pthread_t sched[4];
	struct stat st;
	FILE *f;
	int i;

	if (list_open(&busy, 3) || list_open(&quiet, 4) || list_open(&region, 1) ||
	    list_open(&fresh, 1))
		fail("ums_create");
	for (i = 0; i < WORKERS; i++) {
		if (pipe(workers[i].fd) ||
		    worker_start(&workers[i], kinds[i].list, kinds[i].fn, NULL))
			fail("a worker");
	}
	if (thread_start(&sched[0], scheduler_busy, &busy_tid[0]) ||
	    thread_start(&sched[1], scheduler_busy, &busy_tid[1]) ||
	    thread_start(&sched[2], scheduler_quiet, NULL) ||
	    thread_start(&sched[3], scheduler_region, NULL))
		fail("a scheduler");
	if (!WAIT_FOR(at_rest()))
		fail("the threads do not come to rest");

	snprintf(tmp, sizeof(tmp), "%s/ready.tmp", dir);
	snprintf(path, sizeof(path), "%s/ready", dir);
	f = fopen(tmp, "w");
	if (!f)
		fail(tmp);
	for (i = 0; i < WORKERS; i++)
		fprintf(f, "%s %d\n", kinds[i].name, workers[i].tid);
	fprintf(f, "scheduler_busy %d\n", busy_tid[0]);
	fprintf(f, "scheduler_busy %d\n", busy_tid[1]);
	fprintf(f, "scheduler_quiet %d\n", quiet_tid);
	fprintf(f, "scheduler_region %d\n", region_tid);
	fprintf(f, "rest %d\n", getpid());
	if (fclose(f) || rename(tmp, path))
		fail(path);

	snprintf(path, sizeof(path), "%s/end", dir);
	while (stat(path, &st))
		sleep_ns(5 * MSEC);

	STORE(stop, 1);
	for (i = 0; i < WORKERS; i++)
		if (write(workers[i].fd[1], "x", 1) != 1)
			fail("write");
	for (i = 0; i < 4; i++)
		if (pthread_join(sched[i], NULL))
			fail("pthread_join of a scheduler");
	for (i = 0; i < WORKERS; i++) {
		if (pthread_join(workers[i].thread, NULL))
			fail("pthread_join of a worker");
		if (workers[i].result < 1)
			fail(kinds[i].name);
	}
	if (workers[TICKS_1].result + workers[TICKS_2].result != ticks_done)
		fail("ticks were lost, or made twice");
	printf("ticks %ld, set by the debugger: %d\n", ticks_done, set_by_debugger);
	return 0;
}

/* --- for strace */

#define ROUNDS 5

static int null_fd;
static int calls_left;

static void NOINLINE worker_calls(struct worker *w)
{
	struct timespec ts = { .tv_nsec = MSEC / 10 };
	char text[32];
	int n, i;

	n = snprintf(text, sizeof(text), "by %d.", self_tid());
	for (i = 0; i < ROUNDS; i++) {
		if (write(null_fd, text, n) == n)
			w->result++;
		/* Blocks, so that the next one is made after an upcall. */
		syscall(SYS_nanosleep, &ts, NULL);
		ums_yield(i, UMS_YIELD_PUBLISH);
		/* Through a pipe, so that it is read by the same one later. */
		if (write(w->fd[1], text, n) != n || read(w->fd[0], text, n) != n)
			w->result = -1;
	}
}

static void *NOINLINE scheduler_calls(void *arg)
{
	struct list *l = arg;
	struct __kernel_timespec ts = { .tv_nsec = 10 * MSEC };
	struct sched s;
	__u64 id;

	if (sched_enter(&s))
		fail("ums_scheduler_enter");
	while (LOAD(calls_left)) {
		id = list_pop(l);
		if (!id) {
			ums_wait(l->fd, &ts, 0);
			continue;
		}
		if (sched_run(&s, id, 0) || s.worker != id)
			fail("ums_execute");
		if (s.reason == UMS_UPCALL_EXITED)
			__atomic_fetch_sub(&calls_left, 1, __ATOMIC_ACQ_REL);
	}
	return NULL;
}

static int calls(int n)
{
	struct worker *w = calloc(n, sizeof(*w));
	pthread_t sched[2];
	struct list l;
	int i;

	null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	calls_left = n;
	if (!w || null_fd < 0 || list_open(&l, n))
		fail("ums_create");
	for (i = 0; i < n; i++)
		if (pipe(w[i].fd) || worker_start(&w[i], &l, worker_calls, NULL))
			fail("a worker");
	for (i = 0; i < 2; i++)
		if (thread_start(&sched[i], scheduler_calls, &l))
			fail("a scheduler");
	for (i = 0; i < 2; i++)
		if (pthread_join(sched[i], NULL))
			fail("pthread_join of a scheduler");
	for (i = 0; i < n; i++)
		if (pthread_join(w[i].thread, NULL) || w[i].result != ROUNDS)
			fail("a worker's calls");
	printf("%d workers have made %d marked calls each\n", n, ROUNDS);
	return 0;
}

static struct sched switch_sched;

/* Where breakpoints are set. */
static void NOINLINE worker_writes(struct worker *w, const char *text, int n)
{
	if (write(null_fd, text, n) == n)
		w->result++;
}

static void NOINLINE worker_switches(struct worker *w)
{
	char text[32];
	int n, i;

	n = snprintf(text, sizeof(text), "by %d.", self_tid());
	for (i = 0; i < ROUNDS; i++) {
		worker_switch_out(w, &switch_sched, i);
		/* On another thread, as far as the kernel knows before. */
		worker_writes(w, text, n);
	}
}

static int switches(int n)
{
	struct worker *w = calloc(n, sizeof(*w));
	struct list l;
	int i, left = n;

	null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (!w || null_fd < 0 || list_open(&l, n) || sched_enter_switching(&switch_sched))
		fail("ums_create");
	for (i = 0; i < n; i++) {
		w[i].flags = UMS_WORKER_USER_SWITCH;
		w[i].user_data = (uintptr_t)&w[i];
		if (worker_start(&w[i], &l, worker_switches, NULL))
			fail("a worker");
	}
	while (left) {
		bool saved = false;

		for (i = 0; i < n; i++) {
			if (!w[i].stage)
				continue;
			saved = true;
			w[i].stage = 0;
			if (sched_resume(&switch_sched, &w[i]))
				fail("a switch");
			if (switch_sched.reason == UMS_UPCALL_YIELDED)
				w[i].stage = 1;
			if (switch_sched.reason == UMS_UPCALL_EXITED)
				left--;
		}
		if (saved && list_empty(&l))
			continue;
		if (left) {
			__u64 id = list_pop_wait(&l);
			struct worker *next = (void *)list_slot(&l, id)->user_data;

			if (sched_run(&switch_sched, id, 0))
				fail("ums_execute");
			if (switch_sched.reason == UMS_UPCALL_YIELDED)
				next->stage = 1;
			if (switch_sched.reason == UMS_UPCALL_EXITED)
				left--;
		}
	}
	for (i = 0; i < n; i++)
		if (pthread_join(w[i].thread, NULL) || w[i].result != ROUNDS)
			fail("a worker's calls");
	printf("%d workers have made %d marked calls each\n", n, ROUNDS);
	return 0;
}

static int probe(void)
{
	struct ums_abi abi;

	return ums_query(UMS_QUERY_ABI, 0, &abi, sizeof(abi)) == -ENOSYS ? 4 : 0;
}

int main(int argc, char **argv)
{
	/* Whatever becomes of who started it. */
	alarm(1200);
	if (argc == 2 && !strcmp(argv[1], "probe"))
		return probe();
	if (argc == 3 && !strcmp(argv[1], "rest"))
		return rest(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "calls"))
		return calls(atoi(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "switches"))
		return switches(atoi(argv[2]));
	fprintf(stderr, "usage: debuggee probe | rest DIR | calls N | switches N\n");
	return 2;
}

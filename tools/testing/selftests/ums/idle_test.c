// SPDX-License-Identifier: GPL-2.0
/*
 * A worker that waits, and a scheduler that does, are idle threads: they sleep
 * interruptibly, count in no load average, are not taken for hung tasks, and
 * cost no time on a processor.
 */
#include "ums_test.h"

#include <poll.h>
#include <sys/wait.h>

#define EACH	60	/* of each kind, so that they would be seen in the load */

enum {
	FRESH,		/* on its list, never executed */
	YIELDED,	/* parked, on no list */
	READS,		/* blocked, held */
	POLLS,		/* blocked, not held */
	IN_REGION,	/* running, asleep in a no_upcall region */
	KINDS,
};

#define WORKERS (4 * EACH + 1)

static struct worker w[WORKERS];
static struct list list, fresh, region;
static pid_t waiter, executor;

static int kind(struct worker *w_)
{
	return (w_ - w) / EACH;
}

static void rests(struct worker *w_)
{
	struct pollfd p = { .fd = w_->fd[0], .events = POLLIN };
	char c;

	switch (kind(w_)) {
	case YIELDED:
		ums_yield(0, 0);
		break;
	case READS:
		w_->result = read(w_->fd[0], &c, 1);
		break;
	case POLLS:
		w_->result = poll(&p, 1, -1);
		break;
	case IN_REGION:
		STORE(list_slot(w_->list, w_->id)->no_upcall, 1);
		w_->result = read(w_->fd[0], &c, 1);
		STORE(list_slot(w_->list, w_->id)->no_upcall, 0);
		break;
	}
}

static void *waits(void *arg)
{
	struct sched s;
	__u64 id;

	STORE(waiter, self_tid());
	if (sched_enter(&s))
		return NULL;
	for (;;) {
		id = list_pop_wait(&list);
		if (!id || sched_run(&s, id, 0))
			return NULL;
	}
}

static void *executes(void *arg)
{
	struct sched s;
	__u64 id;

	STORE(executor, self_tid());
	if (sched_enter(&s))
		return NULL;
	id = list_pop_wait(&region);
	worker_run_to_end(&s, &region, id);
	return NULL;
}

/* Of the last minute. */
static double load_average(void)
{
	char buf[128];

	return read_text("/proc/loadavg", buf, sizeof(buf)) > 0 ? atof(buf) : -1;
}

/* Time that the process has used, in ms. */
static long used_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* A system control, set for the time of the test. */
struct setting {
	const char *path, *value;
	char was[64];
};

static struct setting settings[] = {
	{ "/proc/sys/kernel/hung_task_check_interval_secs", "1" },
	{ "/proc/sys/kernel/hung_task_warnings", "10" },
	/* Last: it wakes the thread that looks. */
	{ "/proc/sys/kernel/hung_task_timeout_secs", "4" },
};

FIXTURE(idle) {
	int kmsg;
};

FIXTURE_SETUP(idle)
{
	int i;

	UMS_REQUIRE();
	self->kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	if (self->kmsg < 0)
		SKIP(return, "no kernel log");
	lseek(self->kmsg, 0, SEEK_END);
	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		struct setting *s = &settings[i];

		if (read_text(s->path, s->was, sizeof(s->was)) < 0 ||
		    write_text(s->path, s->value))
			SKIP(return, "no detector of hung tasks");
	}
}

FIXTURE_TEARDOWN_PARENT(idle)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(settings); i++)
		write_text(settings[i].path, settings[i].was);
}

/* Does the kernel log, from where it was, tell of a hung task? */
static bool hung_tasks(int kmsg)
{
	char line[8192];
	bool hung = false;
	ssize_t n;

	for (;;) {
		n = read(kmsg, line, sizeof(line) - 1);
		if (n < 0 && errno == EPIPE)
			continue;
		if (n <= 0)
			return hung;
		line[n] = 0;
		if (strstr(line, "blocked for more than"))
			hung = true;
	}
}

static bool at_rest(void)
{
	static const long nr[KINDS] = {
		NR_UMS_WORKER_ENTER, NR_UMS_YIELD, SYS_read, SYS_poll, SYS_read,
	};
	int i;

	for (i = 0; i < WORKERS; i++)
		if (!thread_sleeps_in(LOAD(w[i].tid), nr[kind(&w[i])]))
			return false;
	return thread_sleeps_in(LOAD(waiter), NR_UMS_WAIT) &&
	       thread_sleeps_in(LOAD(executor), NR_UMS_EXECUTE);
}

TEST_F(idle, counts_for_nothing)
{
	double before, after;
	pthread_t t[2];
	long used;
	__u64 end;
	int i;

	ASSERT_EQ(0, list_open(&list, WORKERS));
	ASSERT_EQ(0, list_open(&fresh, WORKERS));
	ASSERT_EQ(0, list_open(&region, 1));
	for (i = 0; i < WORKERS; i++) {
		struct list *l = kind(&w[i]) == FRESH ? &fresh :
				 kind(&w[i]) == IN_REGION ? &region : &list;

		/* One pipe for all: nobody writes. */
		if (i) {
			memcpy(w[i].fd, w[0].fd, sizeof(w[i].fd));
		} else {
			ASSERT_EQ(0, pipe(w[i].fd));
		}
		ASSERT_EQ(0, worker_start(&w[i], l, rests, NULL));
	}
	ASSERT_EQ(0, thread_start(&t[0], waits, NULL));
	ASSERT_EQ(0, thread_start(&t[1], executes, NULL));
	ASSERT_TRUE(WAIT_FOR(at_rest()));

	for (i = 0; i < WORKERS; i++) {
		EXPECT_EQ('S', thread_state(getpid(), w[i].tid)) {
			TH_LOG("worker %d of kind %d", i % EACH, kind(&w[i]));
		}
	}
	EXPECT_EQ('S', thread_state(getpid(), waiter));
	EXPECT_EQ('S', thread_state(getpid(), executor));

	/* The load is looked at every five seconds. */
	before = load_average();
	used = used_ms();
	end = now_ns() + 7 * NSEC;
	while (now_ns() < end)
		sleep_ns(end - now_ns());
	used = used_ms() - used;
	after = load_average();

	/* 241 that counted would add 19 each time. */
	EXPECT_LE(0, before);
	EXPECT_LE((long)after, (long)before + 6) {
		TH_LOG("load average %.2f, then %.2f", before, after);
	}
	EXPECT_LE(used, 200);
	EXPECT_TRUE(at_rest());
	EXPECT_FALSE(hung_tasks(self->kmsg));
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * A worker and its scheduler that take turns on a CPU, and are not alike: what the
 * kernel's scheduler keeps account of is right afterwards. It says so itself for some
 * of it (utilization clamps, pressure), in the kernel log.
 */
#include "ums_test.h"
#include "cgroup2.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#define DEBUG	"/sys/kernel/debug/sched/debug"
#define TURNS	1000

/* How the thread differs from the other; those of sched_setattr(2). */
struct attr {
	__u32 size;
	__u32 policy;
	__u64 flags;
	__s32 nice;
	__u32 priority;
	__u64 runtime, deadline, period;
	__u32 util_min, util_max;
};

#define KEEP_ALL	0x18
#define UTIL_CLAMP	0x60

static int set_clamp(__u32 min, __u32 max)
{
	struct attr a = {
		.size = sizeof(a), .flags = KEEP_ALL | UTIL_CLAMP,
		.util_min = min, .util_max = max,
	};

	return syscall(SYS_sched_setattr, 0, &a, 0) ? -errno : 0;
}

static int pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

struct pair {
	bool clamp;
	int nice[2];		/* of the scheduler, of the worker */
	struct cgroup *group[2];	/* likewise, or NULL */
	int error;
	struct worker w;
};

static int become(struct pair *p, int who)
{
	if (pin(0) || setpriority(PRIO_PROCESS, 0, p->nice[who]))
		return -1;
	if (p->group[who] && cgroup_write(p->group[who], "cgroup.threads", "0"))
		return -1;
	return p->clamp ? set_clamp(who ? 700 : 100, who ? 1000 : 300) : 0;
}

static void takes_turns(struct worker *w)
{
	struct pair *p = w->arg;
	int i;

	p->error |= become(p, 1) ? 1 : 0;
	for (i = 0; i < TURNS; i++)
		ums_yield(0, 0);
}

static void *runs(void *arg)
{
	struct pair *p = arg;
	struct sched s;
	struct list l;
	__u64 id;

	if (become(p, 0) || list_open(&l, 1))
		p->error |= 2;
	id = worker_start_pop(&p->w, &l, takes_turns, p);
	if (sched_enter(&s) || worker_run_to_end(&s, &l, id) || s.upcalls < TURNS)
		p->error |= 4;
	pthread_join(p->w.thread, NULL);
	sched_exit(&s);
	list_close(&l);
	return NULL;
}

static int take_turns(struct pair *p)
{
	pthread_t t;

	if (thread_start(&t, runs, p) || pthread_join(t, NULL))
		return -1;
	return p->error;
}

/* The sum of what all runqueues of CPU 0 think that they have to do; -1: not told. */
static long load_of_cpu_0(void)
{
	static char text[1 << 20];
	bool ours = false;
	long load = -1;
	char *line;

	if (read_text(DEBUG, text, sizeof(text)) < 0)
		return -1;
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		long value;

		if (!strncmp(line, "cfs_rq[", 7))
			ours = !strncmp(line, "cfs_rq[0]", 9);
		else if (ours && sscanf(line, " .load : %ld", &value) == 1)
			load = (load < 0 ? 0 : load) + value;
	}
	return load;
}

/*
 * Seldom: to read an average, the kernel brings it up to date, and without the lock of the
 * runqueue. If that is busy it may be wrong for ever, and nobody be eligible in the end.
 */
static bool load_ends(void)
{
	__u64 end = now_ns() + LIMIT_S * NSEC;

	while (load_of_cpu_0()) {
		if (now_ns() > end)
			return false;
		sleep_ns(200 * MSEC);
	}
	return true;
}

/* Of different weights: each turn takes one off the runqueue and puts one on. */
TEST(load)
{
	struct pair p = { .nice = { 0, 10 } };

	UMS_REQUIRE();
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs a CPU to look from");
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	ASSERT_EQ(0, pin(1));
	if (load_of_cpu_0() < 0)
		SKIP(return, "the kernel does not show the load");
	ASSERT_TRUE(load_ends());
	EXPECT_EQ(0, take_turns(&p));
	EXPECT_TRUE(load_ends()) {
		TH_LOG("the load stays %ld", load_of_cpu_0());
	}
}

/* In two groups, of which each has a runqueue of its own. */
TEST(task_groups)
{
	struct cgroup root, g, first, second;
	struct pair p = { .group = { &first, &second } };

	UMS_REQUIRE();
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs a CPU to look from");
	if (!cgroup_controller("cpu"))
		SKIP(return, "no cpu controller in cgroup v2");
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	ASSERT_EQ(0, pin(1));
	if (load_of_cpu_0() < 0)
		SKIP(return, "the kernel does not show the load");
	snprintf(root.path, sizeof(root.path), "%s", cgroup_root());
	if (cgroup_make(&g, NULL, "ums-account") == -EEXIST) {
		/* Of a run that failed. */
		cgroup_make(&first, &g, "scheduler");
		cgroup_make(&second, &g, "worker");
		ASSERT_TRUE(cgroup_remove(&first) && cgroup_remove(&second));
	}
	ASSERT_EQ(0, cgroup_make(&first, &g, "scheduler"));
	ASSERT_EQ(0, cgroup_make(&second, &g, "worker"));
	ASSERT_EQ(0, cgroup_write(&first, "cgroup.type", "threaded"));
	ASSERT_EQ(0, cgroup_write(&second, "cgroup.type", "threaded"));
	ASSERT_EQ(0, cgroup_write(&g, "cgroup.procs", "0"));
	ASSERT_EQ(0, cgroup_write(&g, "cgroup.subtree_control", "+cpu"));

	ASSERT_TRUE(load_ends());
	EXPECT_EQ(0, take_turns(&p));
	EXPECT_TRUE(load_ends()) {
		TH_LOG("the load stays %ld", load_of_cpu_0());
	}

	/* The whole process leaves, so that the groups can go. */
	ASSERT_EQ(0, cgroup_write(&root, "cgroup.procs", "0"));
	EXPECT_TRUE(cgroup_remove(&first));
	EXPECT_TRUE(cgroup_remove(&second));
	EXPECT_TRUE(cgroup_remove(&g));
}

TEST(utilization_clamps)
{
	struct pair p = { .clamp = true };
	int err;

	UMS_REQUIRE();
	err = set_clamp(100, 300);
	if (err)
		SKIP(return, "no utilization clamps");
	EXPECT_EQ(0, take_turns(&p));
}

TEST_HARNESS_MAIN

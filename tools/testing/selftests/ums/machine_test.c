// SPDX-License-Identifier: GPL-2.0
/*
 * What the machine and its administrator do to threads: CPUs go and come, masks,
 * policies and priorities change, control groups and limits bind. A worker and a
 * scheduler are threads as any other to all of it: nobody is lost, and nobody
 * runs where or how it must not.
 */
#include "team.h"
#include "cgroup2.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

static int getcpu_now(void)
{
	unsigned int cpu = ~0U;

	/* The system call: the C library would believe rseq. */
	syscall(SYS_getcpu, &cpu, NULL, NULL);
	return cpu;
}

static int set_mask(pid_t tid, __u64 mask)
{
	cpu_set_t set;
	int i;

	CPU_ZERO(&set);
	for (i = 0; i < 64; i++)
		if (mask & (1ULL << i))
			CPU_SET(i, &set);
	return sched_setaffinity(tid, sizeof(set), &set) ? -errno : 0;
}

static __u64 get_mask(void)
{
	__u64 mask = 0;
	cpu_set_t set;
	int i;

	sched_getaffinity(0, sizeof(set), &set);
	for (i = 0; i < 64; i++)
		if (CPU_ISSET(i, &set))
			mask |= 1ULL << i;
	return mask;
}

static int last_bit(__u64 mask)
{
	return 63 - __builtin_clzll(mask);
}

static __u64 random_u64(void)
{
	static __u64 seed = 0x9e3779b97f4a7c15ULL;

	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* A mask of some CPUs out of @all, never empty. */
static __u64 random_mask(__u64 all)
{
	__u64 mask;

	do {
		mask = random_u64() & all;
	} while (!mask);
	return mask;
}

/* --- CPUs that go and come */

static int target;	/* the CPU that does */

static int cpu_online(int cpu, bool on)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
	return write_text(path, on ? "1" : "0");
}

/*
 * 6.12 warns in sched_cpu_dying() of a task that is left when the fair server of that CPU
 * has just been at work, which it counts as one; with UMS or without, and the more often
 * the fewer processors a guest really has. It is off meanwhile, to hear of real ones.
 *
 * To switch off one that is not active makes 6.12 warn, too (of an underflow in
 * task_non_contending()). It is active while a thread of that CPU is running, so the
 * one that writes is one.
 */
static char *runtime_path(int cpu, char *path)
{
	sprintf(path, "/sys/kernel/debug/sched/fair_server/cpu%d/runtime", cpu);
	return path;
}

FIXTURE(hotplug) {
	struct team t;
	__u64 cpus;
	char runtime[64][24];	/* of the fair servers */
};

FIXTURE_SETUP(hotplug)
{
	char path[64];
	int cpu;

	UMS_REQUIRE();
	self->cpus = get_mask();
	target = last_bit(self->cpus);
	if (!target || cpu_online(target, true))
		SKIP(return, "no CPU that can be taken offline");
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	for (cpu = 1; cpu <= target; cpu++)
		if (self->cpus & (1ULL << cpu) &&
		    read_text(runtime_path(cpu, path), self->runtime[cpu], 24) > 0) {
			ASSERT_EQ(0, set_mask(0, 1ULL << cpu));
			ASSERT_EQ(0, write_text(path, "0"));
		}
	ASSERT_EQ(0, set_mask(0, self->cpus));
}

FIXTURE_TEARDOWN_PARENT(hotplug)
{
	char path[64];
	int cpu;

	for (cpu = 1; cpu < 64; cpu++) {
		if (self->cpus & (1ULL << cpu))
			cpu_online(cpu, true);
		if (self->runtime[cpu][0])
			write_text(runtime_path(cpu, path), self->runtime[cpu]);
	}
}

/* One in three wants to be on that CPU, and says so again when it is back. */
static void clings(struct worker *w)
{
	struct team *t = w->arg;

	while (!LOAD(t->stop) && !w->stage) {
		if ((w - t->w) % 3 == 0 && LOAD(w->result) % 16 == 0)
			set_mask(0, 1ULL << target);
		team_turn(w);
	}
	if (w->fd[1] >= 0)
		close(w->fd[1]);
}

static void clings_too(struct team_sched *ts)
{
	if (ts->nr == 0)
		set_mask(0, 1ULL << target);
}

/*
 * Workers and schedulers run, block, wait to be executed and have slices on a
 * CPU that is taken away and given back. All go on, each time.
 */
TEST_F(hotplug, one_cpu)
{
	__u64 end = now_ns() + 5 * NSEC;
	int i;

	self->t.slice = MSEC;
	self->t.setup = clings_too;
	ASSERT_EQ(0, team_start(&self->t, 4, 24, clings));
	ASSERT_TRUE(team_goes_on(&self->t));
	for (i = 0; i < 3 || (i < 20 && now_ns() < end); i++) {
		ASSERT_EQ(0, cpu_online(target, false));
		ASSERT_TRUE(team_goes_on(&self->t));
		ASSERT_EQ(0, cpu_online(target, true));
		set_mask(self->t.sched[0].tid, 1ULL << target);
		ASSERT_TRUE(team_goes_on(&self->t));
	}
	TEAM_END(&self->t);
}

/* Down to the first one, and up again. */
TEST_F(hotplug, all_but_one)
{
	__u64 end = now_ns() + 5 * NSEC;
	int i, cpu;

	self->t.slice = MSEC;
	ASSERT_EQ(0, team_start(&self->t, 4, 24, clings));
	for (i = 0; i < 2 || (i < 10 && now_ns() < end); i++) {
		for (cpu = target; cpu > 0; cpu--)
			if (self->cpus & (1ULL << cpu)) {
				ASSERT_EQ(0, cpu_online(cpu, false));
			}
		ASSERT_TRUE(team_goes_on(&self->t));
		for (cpu = 1; cpu <= target; cpu++)
			if (self->cpus & (1ULL << cpu)) {
				ASSERT_EQ(0, cpu_online(cpu, true));
			}
	}
	ASSERT_TRUE(team_goes_on(&self->t));
	TEAM_END(&self->t);
}

/*
 * A worker that sleeps, and one that waits to be executed, on a CPU that goes
 * away: woken and executed elsewhere.
 */
static void reads_a_byte(struct worker *w)
{
	char c;

	set_mask(0, 1ULL << target);
	ums_yield(getcpu_now(), 0);
	w->result = read(w->fd[0], &c, 1);
}

static void yields_once(struct worker *w)
{
	set_mask(0, 1ULL << target);
	ums_yield(getcpu_now(), 0);
	w->result = 1;
}

/* Goes on to the upcall that is not for a page of memory. */
static int run_on(struct sched *s, struct list *l, __u64 id)
{
	int ret;

	do {
		ret = sched_run(s, id, 0);
		if (ret || s->reason != UMS_UPCALL_BLOCKED || s->detail == SYS_read)
			return ret;
		ret = list_pop_wait(l) == id ? 0 : -EIO;
	} while (!ret);
	return ret;
}

TEST_F(hotplug, asleep_meanwhile)
{
	struct worker sleeper = {}, ready = {};
	__u64 id, other;
	struct sched s;
	struct list l;
	int i;

	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, list_open(&l, 2));
		ASSERT_EQ(0, pipe(sleeper.fd));
		/* The scheduler itself is there, too. */
		ASSERT_EQ(0, set_mask(0, 1ULL << target));
		id = worker_start_pop(&sleeper, &l, reads_a_byte, NULL);
		ASSERT_EQ(0, run_on(&s, &l, id));
		ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, target);
		ASSERT_EQ(0, run_on(&s, &l, id));
		ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
		other = worker_start_pop(&ready, &l, yields_once, NULL);
		ASSERT_EQ(0, run_on(&s, &l, other));
		ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, other, target);

		ASSERT_EQ(0, cpu_online(target, false));
		EXPECT_NE(target, getcpu_now());
		EXPECT_EQ(0, worker_run_to_end(&s, &l, other));
		ASSERT_EQ(1, write(sleeper.fd[1], "x", 1));
		ASSERT_EQ(id, list_pop_wait(&l));
		EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
		EXPECT_EQ(1, sleeper.result);
		EXPECT_EQ(1, ready.result);
		ASSERT_EQ(0, cpu_online(target, true));
		list_close(&l);
		close(sleeper.fd[0]);
		close(sleeper.fd[1]);
	}
}

/* --- affinity masks */

static int misplaced;	/* times that somebody ran where it must not */

/* Half of the workers choose CPUs themselves; after the call they are there. */
static void moves(struct worker *w)
{
	struct team *t = w->arg;
	__u64 all = get_mask(), mask;
	unsigned int nr = w - t->w;
	__u64 seed = nr + 1;

	while (!LOAD(t->stop) && !w->stage) {
		if (nr % 2 == 0) {
			seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
			mask = (seed >> 32) & all;
			if (!mask)
				mask = all;
			if (set_mask(0, mask) || !(mask & (1ULL << getcpu_now())))
				INC(misplaced);
			team_turn(w);
			if (!(mask & (1ULL << getcpu_now())))
				INC(misplaced);
		} else {
			team_turn(w);
		}
	}
	if (w->fd[1] >= 0)
		close(w->fd[1]);
}

/* The masks of all others are changed from outside, in whatever they are. */
TEST(affinity)
{
	__u64 all = get_mask(), end;
	struct team t = { .slice = MSEC };
	int i, rounds = 0;

	UMS_REQUIRE();
	misplaced = 0;
	ASSERT_EQ(0, team_start(&t, 4, 24, moves));
	ASSERT_TRUE(team_goes_on(&t));
	end = now_ns() + 2 * NSEC;
	do {
		for (i = 0; i < 4; i++) {
			ASSERT_EQ(0, set_mask(t.sched[i].tid, random_mask(all)));
		}
		for (i = 1; i < 24; i += 2) {
			ASSERT_EQ(0, set_mask(t.w[i].tid, random_mask(all)));
		}
		if (++rounds % 16 == 0) {
			ASSERT_TRUE(team_goes_on(&t));
		}
	} while (now_ns() < end || rounds < 32);
	ASSERT_TRUE(team_goes_on(&t));
	TEAM_END(&t);
	EXPECT_EQ(0, LOAD(misplaced));
}

/* --- cpusets */

struct shared {
	int ready;
	int stop;
	__u64 seq;		/* odd: @mask is being changed */
	__u64 mask;
	long misplaced;
	long looks;
	int check;		/* team_goes_on() and tell in @checked */
	int checked;
	long touched;		/* MB */
	long yields;
	__u64 blocks_fault;
};

static struct shared *sh;

static bool shared_open(void)
{
	sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return sh != MAP_FAILED;
}

static void look(void)
{
	__u64 seq = LOAD(sh->seq), mask = LOAD(sh->mask);
	int cpu = getcpu_now();

	if ((seq & 1) || LOAD(sh->seq) != seq)
		return;
	INC(sh->looks);
	if (!(mask & (1ULL << cpu)))
		INC(sh->misplaced);
}

static void looks(struct worker *w)
{
	struct team *t = w->arg;

	while (!LOAD(t->stop) && !w->stage) {
		look();
		team_turn(w);
	}
	if (w->fd[1] >= 0)
		close(w->fd[1]);
}

static void sched_looks(struct team_sched *ts, const struct sched *s)
{
	look();
}

/* The process in the cpuset. */
static int confined(const struct cgroup *g)
{
	static struct team t = { .slice = MSEC, .after = sched_looks };
	unsigned int i;

	if (cgroup_write(g, "cgroup.procs", "0"))
		return 2;
	if (team_start(&t, 4, 24, looks))
		return 3;
	STORE(sh->ready, 1);
	while (!LOAD(sh->stop)) {
		if (LOAD(sh->check) != LOAD(sh->checked)) {
			if (!team_goes_on(&t))
				return 4;
			STORE(sh->checked, LOAD(sh->check));
		}
		sleep_ns(MSEC);
	}
	STORE(t.stop, 1);
	if (!team_join(&t))
		return 5;
	for (i = 0; i < t.scheds; i++)
		if (t.sched[i].error)
			return 6;
	return 0;
}

FIXTURE(group) {
	struct cgroup g;
};

FIXTURE_SETUP(group)
{
	UMS_REQUIRE();
	if (!cgroup_root())
		SKIP(return, "no cgroup v2");
	/* Of a run that was killed. */
	snprintf(self->g.path, sizeof(self->g.path), "%s/ums-machine", cgroup_root());
	rmdir(self->g.path);
	ASSERT_EQ(0, cgroup_make(&self->g, NULL, "ums-machine"));
	ASSERT_TRUE(shared_open());
}

FIXTURE_TEARDOWN_PARENT(group)
{
	EXPECT_TRUE(cgroup_remove(&self->g));
}

static void mask_text(__u64 mask, char *text, size_t size)
{
	size_t n = 0;
	int i;

	text[0] = 0;
	for (i = 0; i < 64; i++)
		if (mask & (1ULL << i))
			n += snprintf(text + n, size - n, "%s%d", n ? "," : "", i);
}

/*
 * When the write to cpuset.cpus has returned nobody runs elsewhere, neither
 * those that run nor those that come back from a sleep or are executed.
 */
TEST_F(group, cpuset)
{
	__u64 all = get_mask(), end;
	int status, rounds = 0;
	char text[256];
	pid_t pid;

	if (!cgroup_controller("cpuset"))
		SKIP(return, "no cpuset controller");
	sh->mask = all;
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(confined(&self->g));
	ASSERT_TRUE(WAIT_FOR(LOAD(sh->ready) || waitpid(pid, &status, WNOHANG)));
	ASSERT_EQ(1, LOAD(sh->ready));
	end = now_ns() + 2 * NSEC;
	do {
		__u64 mask = random_mask(all);

		mask_text(mask, text, sizeof(text));
		INC(sh->seq);
		ASSERT_EQ(0, cgroup_write(&self->g, "cpuset.cpus", text));
		STORE(sh->mask, mask);
		INC(sh->seq);
		STORE(sh->check, ++rounds);
		ASSERT_TRUE(WAIT_FOR(LOAD(sh->checked) == rounds ||
				     waitpid(pid, &status, WNOHANG)));
		ASSERT_EQ(rounds, LOAD(sh->checked));
	} while (now_ns() < end || rounds < 5);
	STORE(sh->stop, 1);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, sh->misplaced);
	EXPECT_LT(100, sh->looks);
}

/* --- memory limits */

/* The pages of a list are on the bill of who created it, and come off it. */
TEST_F(group, list_is_charged)
{
	unsigned int workers = 1 << 16;
	struct list l;
	long before;
	pid_t pid;
	int status;

	if (!cgroup_controller("memory"))
		SKIP(return, "no memory controller");
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (cgroup_write(&self->g, "cgroup.procs", "0"))
			_exit(2);
		before = cgroup_read_nr(&self->g, "memory.current");
		if (list_open(&l, workers))
			_exit(3);
		/* 128 bytes a slot, 8 in the ring, 24 that the kernel remembers. */
		if (cgroup_read_nr(&self->g, "memory.current") < before + workers * 158)
			_exit(4);
		list_close(&l);
		if (!WAIT_FOR(cgroup_read_nr(&self->g, "memory.current") <
			      before + workers * 32))
			_exit(5);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

#define MB (1UL << 20)

/* One worker in four eats memory, page by page and in the kernel. */
static void eats(struct worker *w)
{
	struct team *t = w->arg;
	size_t i;
	char *p;

	if ((w - t->w) % 4) {
		team_lives(w);
		return;
	}
	while (!LOAD(t->stop)) {
		p = mmap(NULL, MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
		if (p == MAP_FAILED)
			break;
		for (i = 0; i < MB && !LOAD(t->stop); i += 4096) {
			p[i] = 1;
			/* Faults within a system call are charged as well. */
			if (i % (64 * 4096) == 0 && pread(w->fd[0], p + i + 4096, 1, 0))
				break;
			ums_yield(0, UMS_YIELD_PUBLISH);
		}
		INC(w->result);
		INC(sh->touched);
	}
	if (w->fd[1] >= 0)
		close(w->fd[1]);
}

static int eater(const struct cgroup *g)
{
	static struct team t = { .slice = MSEC };
	int fd;

	if (cgroup_write(g, "cgroup.procs", "0"))
		return 2;
	fd = open("/dev/zero", O_RDONLY);
	if (fd < 0 || team_start(&t, 2, 12, eats))
		return 3;
	for (;;)
		pause();
}

/* Beyond memory.max the process is killed, whatever its workers are doing. */
TEST_F(group, out_of_memory)
{
	int status;
	pid_t pid;

	if (!cgroup_controller("memory"))
		SKIP(return, "no memory controller");
	ASSERT_EQ(0, cgroup_write(&self->g, "memory.max", "24M"));
	cgroup_write(&self->g, "memory.swap.max", "0");
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(eater(&self->g));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGKILL, status);
	EXPECT_LE(1, cgroup_key(&self->g, "memory.events", "oom_kill"));
}

/* Touches memory for as long as it may, and is held back for it. */
static void gorges(struct worker *w)
{
	struct team *t = w->arg;
	size_t size = 64 * MB, i;
	char *p;

	if (w != t->w) {
		while (!LOAD(t->stop)) {
			INC(sh->yields);
			ums_yield(0, UMS_YIELD_PUBLISH);
		}
		return;
	}
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return;
	for (i = 0; i < size && !LOAD(t->stop); i += 4096)
		p[i] = 1;
}

static void counts_faults(struct team_sched *ts, const struct sched *s)
{
	if (s->worker == LOAD(ts->team->w[0].id) && s->reason == UMS_UPCALL_BLOCKED &&
	    s->detail == UMS_CAUSE_FAULT)
		INC(sh->blocks_fault);
}

static int throttled(const struct cgroup *g)
{
	static struct team t = { .slice = MSEC, .after = counts_faults };

	if (cgroup_write(g, "cgroup.procs", "0"))
		return 2;
	if (team_start(&t, 1, 2, gorges))
		return 3;
	STORE(sh->ready, 1);
	while (!LOAD(sh->stop))
		sleep_ns(MSEC);
	STORE(t.stop, 1);
	if (!team_join(&t))
		return 4;
	return t.sched[0].error ? 5 : 0;
}

/*
 * Beyond memory.high a thread is made to sleep on its way to user mode: that is
 * a block like others, and its scheduler goes on with somebody else.
 */
TEST_F(group, held_back_for_memory)
{
	long yields;
	int status;
	pid_t pid;

	if (!cgroup_controller("memory"))
		SKIP(return, "no memory controller");
	ASSERT_EQ(0, cgroup_write(&self->g, "memory.high", "8M"));
	cgroup_write(&self->g, "memory.swap.max", "0");
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(throttled(&self->g));
	ASSERT_TRUE(WAIT_FOR(LOAD(sh->blocks_fault) > 0));
	ASSERT_TRUE(WAIT_FOR(cgroup_key(&self->g, "memory.events", "high") > 0));
	yields = LOAD(sh->yields);
	EXPECT_TRUE(WAIT_FOR(LOAD(sh->yields) > yields + 100));
	STORE(sh->stop, 1);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* --- limits on threads: creation fails, what there is goes on */

#define TOO_MANY	40
#define LIMIT_THREADS	24

static void counts(struct worker *w)
{
	struct team *t = w->arg;

	while (!LOAD(t->stop)) {
		INC(w->result);
		ums_yield(0, UMS_YIELD_PUBLISH);
	}
}

static void counts_to_3(struct worker *w)
{
	for (w->result = 0; w->result < 3; w->result++)
		ums_yield(0, UMS_YIELD_PUBLISH);
}

static int threads_now(void)
{
	char buf[4096], value[32];

	if (read_text("/proc/self/status", buf, sizeof(buf)) < 0 ||
	    !text_value(buf, "Threads", value, sizeof(value)))
		return -1;
	return atoi(value);
}

static int fills_up(void)
{
	static struct worker w[TOO_MANY];
	static struct team t;
	struct sched s;
	struct list l;
	int n, left, ret = 0, round;
	__u64 id;

	if (team_start(&t, 2, 2, counts))
		return 10;
	for (round = 0; round < 3; round++) {
		if (list_open(&l, TOO_MANY))
			return 11;
		for (n = 0; n < TOO_MANY; n++) {
			ret = worker_start(&w[n], &l, counts_to_3, NULL);
			if (ret)
				break;
		}
		/* The caller and the team are there, too. */
		if (ret != -EAGAIN || n != LIMIT_THREADS - 5)
			return 12;
		if (!team_goes_on(&t))
			return 13;
		if (sched_enter(&s))
			return 14;
		for (left = n; left; ) {
			id = list_pop_wait(&l);
			if (!id || sched_run(&s, id, 0))
				return 15;
			if (s.reason == UMS_UPCALL_EXITED)
				left--;
		}
		if (sched_exit(&s))
			return 16;
		while (n--)
			if (pthread_join(w[n].thread, NULL) || w[n].result != 3)
				return 17;
		list_close(&l);
		/* They are not quite gone when they have been joined. */
		if (!WAIT_FOR(threads_now() == 5))
			return 18;
	}
	STORE(t.stop, 1);
	return team_join(&t) ? 0 : 19;
}

TEST(rlimit_nproc)
{
	struct rlimit rl = { LIMIT_THREADS, LIMIT_THREADS };
	int status;
	pid_t pid;

	UMS_REQUIRE();
	if (geteuid())
		SKIP(return, "not root");
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* Root is not bound by it; this user is nobody else. */
		if (setrlimit(RLIMIT_NPROC, &rl) || setresgid(54321, 54321, 54321) ||
		    setresuid(54321, 54321, 54321))
			_exit(2);
		_exit(fills_up());
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F(group, pids)
{
	int status;
	pid_t pid;

	if (!cgroup_controller("pids"))
		SKIP(return, "no pids controller");
	ASSERT_EQ(0, cgroup_write_nr(&self->g, "pids.max", LIMIT_THREADS));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (cgroup_write(&self->g, "cgroup.procs", "0"))
			_exit(2);
		_exit(fills_up());
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* --- policies and priorities */

struct attr {		/* struct sched_attr, as it was first */
	__u32 size, policy;
	__u64 flags;
	__s32 nice;
	__u32 priority;
	__u64 runtime, deadline, period;
};

static const struct attr policies[] = {
	{ .policy = SCHED_OTHER },
	{ .policy = SCHED_OTHER, .nice = 19 },
	{ .policy = SCHED_OTHER, .nice = -20 },
	{ .policy = SCHED_BATCH, .nice = 5 },
	{ .policy = SCHED_FIFO, .priority = 1 },
	{ .policy = SCHED_RR, .priority = 1 },
	/* The first ones are for the test that chooses at random. */
	{ .policy = SCHED_IDLE },
	{ .policy = SCHED_FIFO, .priority = 50 },
	{ .policy = 6 /* SCHED_DEADLINE */, .runtime = 2 * MSEC, .deadline = 10 * MSEC,
	  .period = 10 * MSEC },
};

#define POLICIES	((int)ARRAY_SIZE(policies))
#define MIXED_POLICIES	6

static int set_policy(pid_t tid, int nr)
{
	struct attr attr = policies[nr];
	__u64 end = now_ns() + LIMIT_S * NSEC;
	int ret;

	attr.size = sizeof(attr);
	do {
		ret = syscall(SYS_sched_setattr, tid, &attr, 0) ? -errno : 0;
		/* The share of one that has ended is free a period later. */
	} while (ret == -EBUSY && now_ns() < end);
	return ret;
}

static bool has_policy(int nr)
{
	const struct attr *p = &policies[nr];
	struct attr attr = {};

	return !syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) &&
	       attr.policy == p->policy && attr.priority == p->priority &&
	       attr.nice == p->nice && (!p->runtime || attr.runtime == p->runtime);
}

struct game {
	struct worker w[2];
	int policy;
	int sched_policy;
	int error;
	__u64 seen[UMS_UPCALL_DETACHED + 1];
};

/* Yields, waits for its partner and for a timer, spins to the end of its slice. */
static void plays(struct worker *w)
{
	__u64 *executes = &list_slot(w->list, w->id)->executes, was;
	struct game *g = w->arg;
	char c = 'x';
	int i;

	w->result = set_policy(0, g->policy);
	for (i = 0; i < 3 && !w->result; i++) {
		ums_yield(TEAM_KEEP, 0);
		if (write(w->fd[1], &c, 1) != 1 || read(w->fd[0], &c, 1) != 1)
			w->result = -EPIPE;
		was = LOAD(*executes);
		while (LOAD(*executes) == was)
			;
		/* Long enough not to be over before it has begun. */
		sleep_ns(3 * MSEC);
		if (!has_policy(g->policy))
			w->result = -ESRCH;
		ums_yield(0, UMS_YIELD_PUBLISH);
		sched_yield();
	}
}

static int play(struct game *g)
{
	int a[2], b[2], i, left = 2;
	struct sched s;
	struct list l;
	__u64 id = 0;

	if (pipe(a) || pipe(b))
		return -errno;
	if (list_open(&l, 2) || sched_enter(&s))
		return 5;
	g->w[0].fd[0] = a[0];
	g->w[0].fd[1] = b[1];
	g->w[1].fd[0] = b[0];
	g->w[1].fd[1] = a[1];
	for (i = 0; i < 2; i++)
		if (worker_start(&g->w[i], &l, plays, g))
			return 1;
	/* Not before: the deadline policy does not let a thread make others. */
	if (set_policy(0, g->sched_policy))
		return 6;
	while (left) {
		if (!id)
			id = list_pop_wait(&l);
		if (!id)
			return 2;
		if (sched_run(&s, id, MSEC / 2) || s.worker != id)
			return 3;
		g->seen[s.reason]++;
		if (s.reason == UMS_UPCALL_EXITED)
			left--;
		if (s.reason != UMS_UPCALL_YIELDED || s.detail != TEAM_KEEP)
			id = 0;
	}
	for (i = 0; i < 2; i++) {
		if (pthread_join(g->w[i].thread, NULL))
			return 4;
		close(g->w[i].fd[0]);
		close(g->w[i].fd[1]);
		if (g->w[i].result)
			return g->w[i].result;
	}
	list_close(&l);
	return has_policy(g->sched_policy) && !sched_exit(&s) ? 0 : 7;
}

/*
 * No thread has the deadline policy twice: in 6.12 one that leaves it while it is
 * throttled, and comes back soon, may never run again, UMS or not.
 */
static void *play_main(void *arg)
{
	struct game *g = arg;

	g->error = play(g);
	return NULL;
}

/*
 * Every policy of a scheduler with every one of its workers; on a slow machine with
 * as many as there is time for.
 */
TEST(each_policy_with_each)
{
	__u64 end = now_ns() + 60 * NSEC;
	pthread_t t;
	int i, apart;

	UMS_REQUIRE();
	if (set_policy(0, POLICIES - 2) || set_policy(0, 0))
		SKIP(return, "not allowed to choose a policy");
	for (apart = 0; apart < POLICIES && (apart < 2 || now_ns() < end); apart++) {
		for (i = 0; i < POLICIES; i++) {
			struct game g = {
				.policy = (i + apart) % POLICIES, .sched_policy = i,
			};

			ASSERT_EQ(0, thread_start(&t, play_main, &g));
			ASSERT_EQ(0, pthread_join(t, NULL));
			ASSERT_EQ(0, g.error) {
				TH_LOG("scheduler's policy %d, workers' %d", i, g.policy);
			}
			EXPECT_EQ(12, g.seen[UMS_UPCALL_YIELDED]);
			EXPECT_LE(6, g.seen[UMS_UPCALL_PREEMPTED]);
			EXPECT_LE(6, g.seen[UMS_UPCALL_BLOCKED]);
		}
	}
}

/*
 * From another class to the fair one with the nice value that it had there, and only then
 * to another: in 6.12 the lag of a sleeping thread is not scaled when its weight changes
 * together with its class, but is when that changes within the fair class. Each round of
 * FIFO, nice -20, nice 19 makes the lag 5,917 times as large; after some the virtual times
 * overflow, and pick_task_fair() finds no thread (NULL pointer), UMS or not.
 */
static int change_policy(pid_t tid, int nr)
{
	struct attr attr = { .size = sizeof(attr), .policy = SCHED_OTHER };

	attr.nice = getpriority(PRIO_PROCESS, tid);
	if (syscall(SYS_sched_setattr, tid, &attr, 0))
		return -errno;
	return set_policy(tid, nr);
}

/* They change, in whatever state the thread is. */
TEST(policy_changes)
{
	struct team t = { .slice = MSEC };
	int i, rounds = 0;
	__u64 end;

	UMS_REQUIRE();
	if (set_policy(0, POLICIES - 2) || set_policy(0, 0))
		SKIP(return, "not allowed to choose a policy");
	/* Before all others, which might spin in real time. */
	ASSERT_EQ(0, team_start(&t, 4, 24, team_lives));
	ASSERT_EQ(0, set_policy(0, POLICIES - 2));
	end = now_ns() + 2 * NSEC;
	do {
		for (i = 0; i < 4; i++) {
			ASSERT_EQ(0, change_policy(t.sched[i].tid,
						   random_u64() % MIXED_POLICIES));
		}
		for (i = 0; i < 24; i++) {
			ASSERT_EQ(0, change_policy(t.w[i].tid,
						   random_u64() % MIXED_POLICIES));
		}
		if (++rounds % 16 == 0) {
			ASSERT_TRUE(team_goes_on(&t));
		}
		sleep_ns(MSEC);
	} while (now_ns() < end || rounds < 32);
	ASSERT_TRUE(team_goes_on(&t));
	TEAM_END(&t);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzzer: processes whose threads make the calls of user-mode scheduling with
 * random arguments, in random order, in every role and state, while other threads
 * write nonsense to the pages of their lists, and threads and processes come and
 * go in every way. Nothing that a process does to itself may hurt the kernel or
 * anybody else: each process can be killed at any time, leaves nothing behind,
 * and gets no answer that the document does not have.
 *
 *   fuzz [-s SEED] [-t SECONDS] [-p PROCESSES] [-T THREADS] [-x FACTOR]
 *
 * The seed decides what is tried; what comes of it depends on the timing as well.
 *
 * This is the supervisor. It starts the processes anew when they end, or kills
 * them after a while. What they leave behind comes to it as well, to be killed.
 */
#include "fuzz.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kselftest.h"

/* Within this many seconds a process that was killed has ended. */
#ifndef END_LIMIT
#define END_LIMIT	30
#endif

/* A process without a slot gets so long, in ms. */
#define ORPHAN_LIFE	3000
#define MAX_ORPHANS	512

struct child {
	pid_t pid;		/* 0: none */
	__u64 kill_at;
	__u64 killed_at;	/* 0: not yet */
	__u64 stopped_at;	/* 0: not stopped */
};

static struct options {
	__u64 seed;
	unsigned int seconds;
	unsigned int processes;
	unsigned int threads;
	unsigned int factor;
} opt = { .seconds = 15, .processes = 4, .threads = 10, .factor = 1 };

static struct child slots[MAX_PROCESSES], orphans[MAX_ORPHANS];
static unsigned int generation;
static __u64 rng;

static void __attribute__((noreturn)) usage(void)
{
	fprintf(stderr,
		"usage: fuzz [-s SEED] [-t SECONDS] [-p PROCESSES] [-T THREADS] [-x FACTOR]\n"
		"  -s  seed (a new one)  -t  seconds (15)\n"
		"  -p  processes (4)     -T  threads of each (10)\n"
		"  -x  how many times slower than usual everything is (1)\n");
	exit(2);
}

static __u64 number(const char *text, __u64 low, __u64 high)
{
	char *end;
	__u64 v;

	errno = 0;
	v = strtoull(text, &end, 0);
	if (errno || end == text || *end || v < low || v > high)
		usage();
	return v;
}

static void options(int argc, char **argv)
{
	int c;

	opt.seed = (now_ns() ^ (__u64)getpid() << 20) % 1000000000;
	while ((c = getopt(argc, argv, "s:t:p:T:x:")) != -1) {
		switch (c) {
		case 's':
			opt.seed = number(optarg, 0, ~0ULL);
			break;
		case 't':
			opt.seconds = number(optarg, 1, 1000000);
			break;
		case 'p':
			opt.processes = number(optarg, 1, MAX_PROCESSES);
			break;
		case 'T':
			opt.threads = number(optarg, 6, MAX_THREADS);
			break;
		case 'x':
			opt.factor = number(optarg, 1, 1000);
			break;
		default:
			usage();
		}
	}
	if (optind < argc)
		usage();
}

/* ---- set-up */

static void keep_as(int fd, int wanted)
{
	if (fd < 0 || dup2(fd, wanted) != wanted)
		ksft_exit_fail_msg("descriptor %d: %s\n", wanted, strerror(errno));
	close(fd);
}

static void map_shared(void)
{
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED, FD_SHARED, 0);
	if (sh == MAP_FAILED)
		exit(1);
}

static void open_shared(void)
{
	int fd = memfd_create("fuzz", 0), pair[2];

	if (fd < 0 || ftruncate(fd, sizeof(*sh)))
		ksft_exit_fail_msg("memfd: %s\n", strerror(errno));
	keep_as(fd, FD_SHARED);
	keep_as(open("/proc/self/exe", O_RDONLY), FD_EXE);
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair))
		ksft_exit_fail_msg("socketpair: %s\n", strerror(errno));
	keep_as(pair[0], FD_SEND);
	keep_as(pair[1], FD_RECEIVE);
	map_shared();
}

/* The supervisor goes on whatever its processes do. */
static void protect(void)
{
	struct sched_param param = { .sched_priority = 50 };

	/* Children of a process that has ended come to this one. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param);
	mlockall(MCL_CURRENT);
}

static void start(unsigned int slot)
{
	__u64 seed = mix(opt.seed, generation++);
	struct child *c = &slots[slot];
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		/* The first to go when memory is short. */
		write_text("/proc/self/oom_score_adj", "1000");
		process_main(slot, seed, 0, opt.threads);
	}
	/* Later, maybe. */
	if (pid < 0)
		return;
	count(N_PROCESS);
	memset(c, 0, sizeof(*c));
	c->pid = pid;
	/* Half of them come to their own end, most often. */
	c->kill_at = now_ns() + rnd_log(&rng, 100, 6000) * MSEC * (1 + 4 * rnd_below(&rng, 2));
}

/* ---- watching */

static void kill_child(struct child *c)
{
	if (c->killed_at)
		return;
	c->killed_at = now_ns();
	kill(c->pid, SIGKILL);
	count(N_KILLED);
}

static struct child *find(pid_t pid)
{
	struct child *none = NULL;
	unsigned int i;

	for (i = 0; i < opt.processes; i++)
		if (slots[i].pid == pid)
			return &slots[i];
	for (i = 0; i < MAX_ORPHANS; i++) {
		if (orphans[i].pid == pid)
			return &orphans[i];
		if (!orphans[i].pid)
			none = &orphans[i];
	}
	/* The rest is looked at when there is room. */
	if (!none)
		return NULL;
	count(N_ORPHAN);
	memset(none, 0, sizeof(*none));
	none->pid = pid;
	none->kill_at = now_ns() + ORPHAN_LIFE * MSEC;
	return none;
}

/* False when there is nobody to wait for. */
static bool reap(void)
{
	struct child *c;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED | __WALL)) > 0) {
		c = find(pid);
		if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
			if (c)
				c->stopped_at = WIFSTOPPED(status) ? now_ns() : 0;
			continue;
		}
		count(WIFSIGNALED(status) ? N_ENDED_SIGNAL : N_ENDED);
		if (!c)
			continue;
		if (c->killed_at && now_ns() - c->killed_at > sh->slowest_end)
			sh->slowest_end = now_ns() - c->killed_at;
		c->pid = 0;
	}
	return !pid || errno != ECHILD;
}

/* Those that nobody else has: see PR_SET_CHILD_SUBREAPER. */
static void find_orphans(void)
{
	char path[64], text[16384], *at = text, *end;
	pid_t pid;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	if (read_text(path, text, sizeof(text)) < 0)
		return;
	while ((pid = strtol(at, &end, 10)) > 0) {
		find(pid);
		at = end;
	}
}

static void dump(pid_t pid)
{
	static const char * const files[] = { "status", "ums", "syscall", "wchan", "stack" };
	char path[96], text[8192], *line, *next;
	unsigned int i, n = 0;
	pid_t tid;

	/* Threads have numbers near that of the first one. */
	for (tid = pid; tid < pid + 4096 && n < 24; tid++) {
		snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
		if (access(path, R_OK))
			continue;
		n++;
		ksft_print_msg("process %d, thread %d, state %c\n", pid, tid,
			       thread_state(pid, tid));
		for (i = 0; i < ARRAY_SIZE(files); i++) {
			snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, tid, files[i]);
			if (read_text(path, text, sizeof(text)) <= 0)
				continue;
			for (line = text; *line; line = next) {
				next = strchrnul(line, '\n');
				printf("#   %s: %.*s\n", files[i], (int)(next - line), line);
				next += *next == '\n';
			}
		}
	}
	fflush(stdout);
}

/* False when it ought to have ended long ago. */
static bool look_after(struct child *c)
{
	__u64 now = now_ns();

	if (!c->pid)
		return true;
	if (!c->killed_at && now > c->kill_at)
		kill_child(c);
	/* Nobody in it can continue it. */
	if (c->stopped_at && !c->killed_at && now > c->stopped_at + 5 * MSEC) {
		count(N_STOPPED);
		c->stopped_at = 0;
		kill(c->pid, SIGCONT);
	}
	if (c->killed_at && now > c->killed_at + END_LIMIT * NSEC * opt.factor) {
		ksft_print_msg("process %d was killed %llu s ago and has not ended\n", c->pid,
			       (now - c->killed_at) / NSEC);
		dump(c->pid);
		return false;
	}
	return true;
}

static bool look_after_all(void)
{
	unsigned int i;
	bool good = true;

	for (i = 0; i < opt.processes; i++)
		good &= look_after(&slots[i]);
	for (i = 0; i < MAX_ORPHANS; i++)
		good &= look_after(&orphans[i]);
	return good;
}

static void progress(__u64 started)
{
	static __u64 tens;

	if ((now_ns() - started) / (10 * NSEC) <= tens)
		return;
	tens++;
	ksft_print_msg("%llu s: %llu processes, %llu threads, %llu executions, %llu acts\n",
		       10 * tens, sh->count[N_PROCESS], sh->count[N_THREAD],
		       sh->result[NR_UMS_EXECUTE - NR_UMS_CREATE][0], sh->count[N_ACTS]);
	fflush(stdout);
}

/* ---- what came of it */

static const struct {
	const char *name;
	int n;			/* enum count */
	bool essential;		/* without it, the run has proved nothing */
} counted[] = {
	{ "STARTUP", N_UPCALL + UMS_UPCALL_STARTUP, true },
	{ "BLOCKED", N_UPCALL + UMS_UPCALL_BLOCKED, true },
	{ "for a fault", N_BLOCKED_FAULT, true },
	{ "YIELDED", N_UPCALL + UMS_UPCALL_YIELDED, true },
	{ "PREEMPTED", N_UPCALL + UMS_UPCALL_PREEMPTED, true },
	{ "by ums_preempt()", N_ASKED, true },
	{ "by slice", N_SLICE, true },
	{ "by signal", N_SIGNAL, true },
	{ "EXITED", N_UPCALL + UMS_UPCALL_EXITED, true },
	{ "DETACHED", N_UPCALL + UMS_UPCALL_DETACHED, true },
	{ "workers taken", N_TAKEN, true },
	{ "polled", N_PASSED, true },
	{ "lists mapped", N_MMAP, true },
	{ "not mapped", N_MMAP_REFUSED, false },
	{ "foreign ones", N_FOREIGN, true },
	{ "closed", N_CLOSE, true },
	{ "with 1048576 workers", N_BIG, false },
	{ "words of nonsense", N_SCRIBBLE, true },
	{ "regions", N_REGION, true },
	{ "asked in one", N_ASKED_IN_REGION, false },
	{ "signal handlers", N_HANDLER, true },
	{ "acts in them", N_HANDLER_CALL, true },
	{ "faults", N_SEGV, false },
	{ "jumps", N_JUMP, true },
	{ "uffd faults", N_UFFD, false },
	{ "threads", N_THREAD, true },
	{ "ended", N_THREAD_END, true },
	{ "forks", N_FORK, true },
	{ "vforks", N_VFORK, true },
	{ "clones with CLONE_VM", N_SHARED_VM, true },
	{ "execs", N_EXEC, true },
	{ "traced", N_TRACED, false },
	{ "threads with a pointer of their own", N_OWN_POINTER, false },
	{ "forged", N_FORGED, false },
	{ "not heeded", N_NOT_HEEDED, false },
	{ "used by others", N_LENT, false },
	{ "given back", N_LENT_BACK, false },
	{ "seen handed off", N_HANDED_OFF, false },
	{ "continued", N_STOPPED, false },
	{ "processes", N_PROCESS, true },
	{ "orphans", N_ORPHAN, false },
	{ "exited", N_ENDED, false },
	{ "ended by a signal", N_ENDED_SIGNAL, false },
	{ "killed", N_KILLED, false },
	{ "acts", N_ACTS, true },
};

/* Errors, each of which tells of a state in which it was found. */
static const struct {
	int call, error;
} met[] = {
	{ NR_UMS_WORKER_ENTER, EXDEV }, { NR_UMS_WORKER_ENTER, EBUSY },
	{ NR_UMS_WORKER_ENTER, ENOSPC }, { NR_UMS_WORKER_ENTER, EFAULT },
	{ NR_UMS_SCHEDULER_ENTER, EBUSY }, { NR_UMS_SCHEDULER_ENTER, E2BIG },
	{ NR_UMS_EXECUTE, ESTALE }, { NR_UMS_EXECUTE, EBUSY }, { NR_UMS_EXECUTE, EAGAIN },
	{ NR_UMS_EXECUTE, EEXIST }, { NR_UMS_EXECUTE, ESRCH },
	{ NR_UMS_WAIT, EXDEV }, { NR_UMS_WAIT, ETIMEDOUT }, { NR_UMS_WAIT, EINTR },
	{ NR_UMS_WAIT, EBADF }, { NR_UMS_PREEMPT, EAGAIN }, { NR_UMS_QUERY, ESRCH },
	{ NR_UMS_CREATE, EFAULT }, { NR_UMS_CREATE, EINVAL },
};

/* Has all that is essential happened? Says what has not, if asked. */
static bool is_deep(bool verbose)
{
	bool deep = true;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(counted); i++) {
		if (!counted[i].essential || sh->count[counted[i].n])
			continue;
		deep = false;
		if (verbose)
			ksft_print_msg("not reached: %s\n", counted[i].name);
	}
	/* Contexts away from home; processes that were ended by a wrong pointer. */
	if (cpu_can_switch() && (!sh->count[N_HANDED_OFF] ||
				 sh->count[N_FORGED] + sh->count[N_LENT] ==
				 sh->count[N_NOT_HEEDED] + sh->count[N_LENT_BACK])) {
		deep = false;
		if (verbose)
			ksft_print_msg("not reached: thread pointers\n");
	}
	for (i = 0; i < CALLS; i++) {
		if (sh->result[i][0])
			continue;
		deep = false;
		if (verbose)
			ksft_print_msg("never successful: %s\n", call_names[i]);
	}
	for (i = 0; i < ARRAY_SIZE(met); i++) {
		if (sh->result[met[i].call - NR_UMS_CREATE][met[i].error])
			continue;
		deep = false;
		if (verbose)
			ksft_print_msg("never met: %s of %s\n", strerrorname_np(met[i].error),
				       call_names[met[i].call - NR_UMS_CREATE]);
	}
	return deep;
}

static void print_results(void)
{
	unsigned int i, e;

	for (i = 0; i < CALLS; i++) {
		printf("# %-19s %llu ok", call_names[i], sh->result[i][0]);
		for (e = 1; e < MAX_ERRNO; e++)
			if (sh->result[i][e])
				printf(", %llu %s", sh->result[i][e], strerrorname_np(e));
		printf("\n");
	}
	for (i = 0; i < ARRAY_SIZE(counted); i++)
		printf("%s%llu %s", i % 8 ? ", " : i ? "\n# " : "# ", sh->count[counted[i].n],
		       counted[i].name);
	printf("\n# slowest end of a process that was killed: %llu ms\n",
	       sh->slowest_end / MSEC);
}

/* True when every process that was killed has ended. */
static bool fuzz(void)
{
	__u64 started = now_ns(), looked = 0, span = opt.seconds * NSEC, limit = 2 * span;
	unsigned int i;

	/* On a busy machine it takes longer to see everything. */
	if (limit < 90 * NSEC)
		limit = 90 * NSEC;
	while (!LOAD(sh->wrong) && now_ns() - started < (is_deep(false) ? span : limit)) {
		for (i = 0; i < opt.processes; i++)
			if (!slots[i].pid)
				start(i);
		sleep_ns(5 * MSEC);
		reap();
		if (now_ns() > looked + 100 * MSEC) {
			find_orphans();
			looked = now_ns();
		}
		if (!look_after_all())
			return false;
		progress(started);
	}
	return true;
}

/* True when, after everybody was killed, nobody is left. */
static bool finish(void)
{
	__u64 limit = now_ns() + END_LIMIT * NSEC * opt.factor;
	unsigned int i;

	for (;;) {
		find_orphans();
		for (i = 0; i < opt.processes; i++)
			if (slots[i].pid)
				kill_child(&slots[i]);
		for (i = 0; i < MAX_ORPHANS; i++)
			if (orphans[i].pid)
				kill_child(&orphans[i]);
		if (!reap())
			return true;
		if (now_ns() > limit)
			break;
		sleep_ns(2 * MSEC);
	}
	for (i = 0; i < opt.processes; i++)
		if (slots[i].pid)
			dump(slots[i].pid);
	for (i = 0; i < MAX_ORPHANS; i++)
		if (orphans[i].pid)
			dump(orphans[i].pid);
	return false;
}

/* ---- what is left */

/* How many there are before; -1: one more would not be noticed. */
static int count_lists_before(void)
{
	struct ums_create_args args = { .max_workers = 1 };
	int before = count_lists(), now;
	long fd;

	fd = ums_create(&args, sizeof(args));
	now = count_lists();
	if (fd >= 0)
		close(fd);
	return now == before + 1 ? before : -1;
}

/* After a moment, for memory is freed behind the end of processes. */
static void result_lists(int before)
{
	__u64 limit = now_ns() + 10 * NSEC * opt.factor;
	int now;

	/* Those in letters that nobody has received. */
	close(FD_SEND);
	close(FD_RECEIVE);
	if (before < 0) {
		ksft_test_result_skip("no list is left: /proc/vmallocinfo does not tell\n");
		return;
	}
	while ((now = count_lists()) > before && now_ns() < limit)
		sleep_ns(20 * MSEC);
	if (now > before)
		ksft_print_msg("%d lists are left\n", now - before);
	ksft_test_result(now <= before, "no list is left\n");
}

int main(int argc, char **argv)
{
	struct ums_abi abi;
	bool ended, gone;
	int before;

	/* What a process becomes by exec. */
	if (argc == 6 && !strcmp(argv[1], "--process")) {
		map_shared();
		count(N_EXEC);
		process_main(atoi(argv[2]), strtoull(argv[3], NULL, 10), atoi(argv[4]),
			     atoi(argv[5]));
	}

	options(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	if (ums_query(UMS_QUERY_ABI, 0, &abi, sizeof(abi))) {
		if (getenv("UMS_REQUIRED"))
			ksft_exit_fail_msg("no UMS in this kernel\n");
		ksft_exit_skip("no UMS in this kernel\n");
	}
	if (abi.disabled)
		ksft_exit_skip("kernel.ums_disabled\n");
	ksft_set_plan(5);
	ksft_print_msg("seed %llu; to repeat: fuzz -s %llu -t %u -p %u -T %u -x %u\n", opt.seed,
		       opt.seed, opt.seconds, opt.processes, opt.threads, opt.factor);
	fflush(stdout);
	rng = mix(opt.seed, 9000000);
	open_shared();
	protect();
	before = count_lists_before();

	ended = fuzz();
	gone = finish();
	print_results();
	ksft_test_result(ended, "every process that was killed has ended\n");
	ksft_test_result(gone, "no process is left\n");
	result_lists(before);
	if (LOAD(sh->wrong))
		ksft_print_msg("%s\n", sh->wrong_text);
	ksft_test_result(!LOAD(sh->wrong), "upcalls and errors are as documented\n");
	ksft_test_result(is_deep(true), "deep states were reached\n");
	ksft_finished();
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Torture: the parent. It watches a generation from outside, ends or disturbs it
 * as the seed says, looks at how it ended and what it left, and reports.
 */
#include "torture.h"

#include <ctype.h>
#include <dirent.h>
#include <sys/wait.h>

static const char * const reasons[] = {
	"STARTUP", "BLOCKED", "YIELDED", "PREEMPTED", "EXITED", "DETACHED",
};

static void print_happened(const struct happened *h, __u64 since)
{
	char who[16] = "";

	if (h->sched < MAX_SCHEDS)
		snprintf(who, sizeof(who), " scheduler %u", h->sched);
	printf("#     %10.3f ms%s ", ((__s64)(h->time - since)) / 1e6, who);
	switch (h->what) {
	case H_ENTER:
		printf("enters list %llu, thread %llu\n", h->a, h->b);
		break;
	case H_POP:
		printf("pops it, %llu upcalls to come\n", h->b);
		break;
	case H_EXECUTE:
		printf("executes it (%llu), slice %llu ns\n", h->a, h->b);
		break;
	case H_EVENT:
		printf("is told %s, detail %llx\n", h->a < 6 ? reasons[h->a] : "?", h->b);
		break;
	case H_ACT:
		printf("act %s\n", h->a < NACTS ? act_names[h->a] : "?");
		break;
	case H_HANDLER:
		printf("handler of signal %llu\n", h->a);
		break;
	case H_KEEP:
		printf("takes it from the pool\n");
		break;
	case H_GIVE:
		printf("gives it to the pool\n");
		break;
	case H_REGION:
		printf("%s a region, attention %llx\n", h->a ? "enters" : "leaves", h->b);
		break;
	case H_LEAVE:
		printf("is about to %s\n", h->a == LEAVE ? "end" : "detach");
		break;
	case H_DROP:
		printf("cannot execute it, its list is closed\n");
		break;
	case H_RESUME:
		printf("resumes it in user mode\n");
		break;
	case H_SWITCH:
		printf("it has switched out\n");
		break;
	case H_FAILED:
		printf("finds the violation (thread %llu)\n", h->a);
		break;
	default:
		printf("%u %llx %llx\n", h->what, h->a, h->b);
	}
}

static void print_ledger(struct ledger *l, bool history)
{
	__u32 n = l->nhistory, i;
	__u64 since;

	ksft_print_msg("worker %llx, number %x, seat %u, list %u, run by %d (%u)\n", l->id,
		       l->nr, l->seat, l->list, (int)(l->runner >> 32) - 1,
		       (__u32)l->runner);
	printf("#     popped %u, executed %u, upcalls %u, of which %u to be published\n",
	       l->pops, l->executes, l->events, l->publishing);
	printf("#     %u blocks in system calls, %u others, %u yields, %u preemptions\n",
	       l->blocks_syscall, l->blocks_fault, l->yields, l->preemptions);
	printf("#     of these, %u resumes and %u switches in user mode; saved %d\n",
	       l->resumes, l->switches, l->saved);
	printf("#     with scheduler %d (-1: the kernel, -2: the pool), ended %d\n",
	       l->holder - 1, l->ended);
	if (!history || !n)
		return;
	i = n > HISTORY ? n - HISTORY : 0;
	since = l->history[(n - 1) % HISTORY].time;
	ksft_print_msg("its last %u of %u events:\n", n - i, n);
	for (; i != n; i++)
		print_happened(&l->history[i % HISTORY], since);
}

/* In one line: newlines and tabs become blanks. */
static void print_text(const char *name, char *text)
{
	char *p;

	for (p = text; *p; p++)
		if (isspace(*p))
			*p = ' ';
	printf("#     %s: %s\n", name, text);
}

/* What the kernel says of each thread of @pid. */
static void dump_threads(pid_t pid)
{
	static const char * const files[] = { "ums", "syscall", "wchan", "stack" };
	char path[600], text[2048], comm[32];
	struct dirent *d;
	unsigned int i;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", pid, d->d_name);
		if (read_text(path, comm, sizeof(comm)) < 0)
			snprintf(comm, sizeof(comm), "?\n");
		printf("#   thread %s, state %c, %s", d->d_name,
		       thread_state(pid, atoi(d->d_name)), comm);
		for (i = 0; i < ARRAY_SIZE(files); i++) {
			snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", pid, d->d_name,
				 files[i]);
			if (read_text(path, text, sizeof(text)) > 0)
				print_text(files[i], text);
		}
	}
	if (dir)
		closedir(dir);
}

static void dump(pid_t pid)
{
	struct ledger *l;
	unsigned int i, n = 0;
	char *line, *next;

	STORE(sh->dump, 1);
	for (i = 0; i < 200 && LOAD(sh->dump) != 2; i++)
		sleep_ns(10 * MSEC);
	for (line = sh->dump_text; LOAD(sh->dump) == 2 && *line; line = next) {
		next = strchrnul(line, '\n');
		ksft_print_msg("%.*s\n", (int)(next - line), line);
		next += *next == '\n';
	}
	for (i = 0; i < gen.scheds; i++)
		ksft_print_msg("scheduler %u, thread %d, runs %x (%u), executed %llu ms ago\n",
			       i, sh->scheds[i].tid, (__u32)(sh->scheds[i].cur >> 32),
			       (__u32)sh->scheds[i].cur,
			       (now_ns() - sh->scheds[i].since) / MSEC);
	dump_threads(pid);
	for (i = 0; i < sh->nledgers; i++) {
		l = &sh->ledgers[i];
		if (l->used)
			print_ledger(l, n++ < 16);
	}
}

static void report(const char *text)
{
	ksft_print_msg("VIOLATED: %s\n", text);
	ksft_print_msg("%s; phase %d\n", gen.text, sh->phase);
	if (sh->failed_ledger)
		print_ledger(sh->failed_ledger, true);
	/* Once more, since of a long output the end is kept. */
	ksft_print_msg("VIOLATED: %s\n", text);
	ksft_print_msg("seed %llu; to repeat this generation for %u s:\n", opt.seed,
		       opt.seconds);
	ksft_print_msg("torture -s %llu -g %u -t %u -n %u -c %u -x %u%s\n", opt.seed, gen.nr,
		       opt.seconds, opt.workers, opt.schedulers, opt.factor, opt.more);
	fflush(stdout);
}

void print_counts(const char *title)
{
	static const int kinds[] = {
		SYS_read, SYS_recvfrom, SYS_poll, SYS_futex, SYS_nanosleep,
		SYS_clock_nanosleep, SYS_rt_sigtimedwait, SYS_pread64, SYS_write,
		SYS_wait4, SYS_clone, SYS_exit, NR_UMS_WAIT,
	};
	static const char * const names[] = {
		"read", "recv", "poll", "futex", "nanosleep", "clock_nanosleep",
		"sigtimedwait", "pread", "write", "wait4", "clone", "exit", "ums_wait",
	};
	__u64 *c = sh->counts, all = 0, rest;
	unsigned int i;

	for (i = 0; i < MAX_SYSCALL; i++)
		all += sh->blocks[i];
	rest = all;
	printf("# %s: executes %llu, publishes %llu, of these %llu seen before the upcall,",
	       title, c[N_EXECUTES], c[N_PUBLISHES], c[N_LATE]);
	printf(" resumes %llu, switches %llu, to each other %llu,", c[N_RESUMES], c[N_SWITCHES],
	       c[N_DIRECT]);
	printf(" yields %llu, preemptions %llu, signals %llu, forks %llu, exits %llu,",
	       c[N_YIELDS], c[N_PREEMPTIONS], c[N_SIGNALS], c[N_FORKS], c[N_EXITS]);
	printf(" detaches %llu, stops %llu, killed %llu, checks %llu, queries %llu;",
	       c[N_DETACHES], c[N_STOPS], c[N_KILLED], c[N_CHECKS], c[N_QUERIES]);
	printf(" blocks %llu: fault %llu", all + c[N_FAULTS], c[N_FAULTS]);
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (sh->blocks[kinds[i]])
			printf(", %s %llu", names[i], sh->blocks[kinds[i]]);
		rest -= sh->blocks[kinds[i]];
	}
	printf(", other %llu\n", rest);
	fflush(stdout);
}

/* Every ten seconds of the whole run. */
static void progress(void)
{
	static __u64 start, tens;
	char title[32];

	if (!start)
		start = now_ns();
	if ((now_ns() - start) / (10 * NSEC) <= tens)
		return;
	tens++;
	snprintf(title, sizeof(title), "%llu s, generation %u", 10 * tens, gen.nr);
	print_counts(title);
}

/* Of one thread, which may be ending. */
static void read_proc(pid_t pid, __u64 *rng)
{
	char path[64], text[1024];
	pid_t tid = LOAD(sh->scheds[rnd_below(rng, gen.scheds)].tid);

	/* Those of the process are numbered one by one, most often. */
	if (one_in(rng, 2))
		tid = pid + rnd_below(rng, gen.seats + gen.scheds + 8);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/ums", pid, tid);
	read_text(path, text, sizeof(text));
}

/* Now and then, from outside. */
static void meddle(pid_t pid, __u64 *rng)
{
	if (allowed(A_O_PROC) && one_in(rng, 4))
		read_proc(pid, rng);
	if (allowed(A_O_STOP) && one_in(rng, 32)) {
		kill(pid, SIGSTOP);
		sleep_ns(rnd_log(rng, 1000, 4 * MSEC));
		kill(pid, SIGCONT);
		count(N_STOPS);
	}
}

static int expected_status(void)
{
	switch (gen.end->what) {
	case EXIT:
		return STATUS_EXIT << 8;
	case EXEC:
		return STATUS_EXEC << 8;
	case SEGV:
		return SIGSEGV;
	case KILL:
		return SIGKILL;
	default:
		return 0;
	}
}

/* Children of the generation that outlived it come here to be reaped. */
static bool reap_rest(void)
{
	__u64 limit = now_ns() + 20 * NSEC * opt.factor;
	unsigned int n = 0;
	char text[80];
	pid_t pid;

	for (;;) {
		pid = waitpid(-1, NULL, WNOHANG);
		if (pid < 0)
			break;
		if (pid > 0)
			n++;
		else if (now_ns() < limit)
			sleep_ns(MSEC);
		else
			break;
	}
	if (!pid) {
		report("a process that the generation has forked does not end");
		return false;
	}
	if (n && (gen.end->what == ORDERLY || gen.end->what == CLOSE)) {
		snprintf(text, sizeof(text), "%u forked processes are left", n);
		report(text);
		return false;
	}
	return true;
}

static bool check_end(pid_t pid, int status)
{
	char text[80];

	if (LOAD(sh->failed)) {
		report(sh->text);
		return false;
	}
	/* Whether there is a core depends on the machine. */
	if (gen.end->what == SEGV)
		status &= 0x7f;
	if (status != expected_status()) {
		snprintf(text, sizeof(text), "wait status %x instead of %x", status,
			 expected_status());
		report(text);
		return false;
	}
	if (!kill(pid, 0) || errno != ESRCH) {
		report("the process was reaped, but is still there");
		return false;
	}
	return reap_rest();
}

bool watch_generation(void)
{
	__u64 rng = mix(gen.seed, 5000000), limit = 20 * NSEC * opt.factor;
	__u64 start = now_ns(), moved = start, last = 0, now;
	__u64 kill_at = start + gen.ms * MSEC;
	bool killed = false;
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		report("fork failed");
		return false;
	}
	if (!pid)
		run_generation();

	for (;;) {
		pid_t ret = waitpid(pid, &status, WNOHANG);

		if (ret == pid)
			break;
		now = now_ns();
		if (sh->counts[N_EXECUTES] != last) {
			last = sh->counts[N_EXECUTES];
			moved = now;
		}
		if (gen.end->what == KILL && now >= kill_at && !killed) {
			kill(pid, SIGKILL);
			count(N_KILLED);
			killed = true;
		}
		if (now > moved + limit) {
			if (!LOAD(sh->failed)) {
				report("nobody was executed any more, and the process did not end");
				dump(pid);
			} else {
				report(sh->text);
			}
			kill(pid, SIGKILL);
			return false;
		}
		progress();
		if (!killed && LOAD(sh->phase) < 2)
			meddle(pid, &rng);
		sleep_ns(rnd_log(&rng, MSEC / 2, 8 * MSEC));
	}
	return check_end(pid, status);
}

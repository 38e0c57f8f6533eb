// SPDX-License-Identifier: GPL-2.0
/*
 * Torture: workers, schedulers and threads that are neither do at random what
 * they can do, and books are kept of it (torture_ledger.c), which have to be right
 * all the time: each worker is in exactly one state, none is lost, none is run by
 * two schedulers or runs beside its scheduler, none is published twice, and each
 * block is followed by exactly one publication.
 *
 * This goes on in a child process, a generation, which has its own seed, sets up
 * everything, and ends in one of several ways after a moment; then comes the next
 * one. At the end there is one result for each way to end.
 *
 *   torture [-s SEED] [-t SECONDS] [-n WORKERS] [-c SCHEDULERS] [-x FACTOR]
 *	     [-v] [-g GENERATION] [-e END] [-a ACT,...] [-A ACT,...]
 *
 * The seed decides what is done; what comes of it depends on the timing as well.
 */
#include "torture.h"

#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>

const char * const act_names[NACTS] = {
	[A_YIELD] = "yield", [A_PUBLISH] = "publish",
	[A_SWITCH] = "switch", [A_DIRECT] = "direct", [A_SPIN] = "spin",
	[A_NAP] = "nap", [A_PIPE] = "pipe", [A_ECHO] = "echo",
	[A_SOCK] = "sock", [A_EVENT] = "event", [A_POLL] = "poll",
	[A_FUTEX] = "futex", [A_HALL] = "hall", [A_MUTEX] = "mutex",
	[A_PI] = "pi", [A_SIGWAIT] = "sigwait", [A_FAULT] = "fault",
	[A_FILE] = "file", [A_REGION] = "region", [A_AFFINITY] = "affinity",
	[A_POLICY] = "policy", [A_SIGNAL] = "signal", [A_FORK] = "fork",
	[A_VFORK] = "vfork", [A_WAIT] = "wait", [A_WRONG] = "wrong",
	[A_NUDGE] = "nudge", [A_DETACH] = "detach", [A_EXIT] = "exit",
	[A_S_LEAVE] = "s_leave", [A_S_AFFINITY] = "s_affinity",
	[A_S_NUDGE] = "s_nudge", [A_S_NAP] = "s_nap", [A_S_FORK] = "s_fork",
	[A_S_SIGNAL] = "s_signal", [A_S_WRONG] = "s_wrong",
	[A_S_SLICE] = "s_slice", [A_S_MANY] = "s_many", [A_S_POOL] = "s_pool",
	[A_S_POLL] = "s_poll", [A_S_TIMEOUT] = "s_timeout",
	[A_S_QUERY] = "s_query", [A_O_PREEMPT] = "o_preempt",
	[A_O_QUERY] = "o_query", [A_O_SET] = "o_set",
	[A_O_SIGNAL] = "o_signal", [A_O_WRONG] = "o_wrong",
	[A_O_TIMER] = "o_timer", [A_O_STOP] = "o_stop", [A_O_PROC] = "o_proc",
};

const struct end ends[ENDS] = {
	{ "orderly", ORDERLY, BY_ANY },
	{ "list closed by a worker", CLOSE, BY_WORKER },
	{ "list closed by a scheduler", CLOSE, BY_SCHED },
	{ "list closed from outside", CLOSE, BY_OTHER },
	{ "exit_group by a worker", EXIT, BY_WORKER },
	{ "exit_group by a scheduler", EXIT, BY_SCHED },
	{ "exit_group from outside", EXIT, BY_OTHER },
	{ "exec by a worker", EXEC, BY_WORKER },
	{ "exec by a scheduler", EXEC, BY_SCHED },
	{ "exec from outside", EXEC, BY_OTHER },
	{ "fatal signal in a worker", SEGV, BY_WORKER },
	{ "fatal signal in a scheduler", SEGV, BY_SCHED },
	{ "killed from outside", KILL, BY_ANY },
};

/* An orderly end tells most: it comes so many times more often. */
#define ORDERLIES	4
#define DECK		(ENDS + ORDERLIES)

struct options opt = {
	.seconds = 20, .workers = 64, .schedulers = 4,
	.only = -1, .end = -1, .acts = ~0ULL,
};

struct generation gen;
struct shared *sh;

static __noreturn void usage(void)
{
	unsigned int i;

	fprintf(stderr, "torture [-s SEED] [-t SECONDS] [-n WORKERS] [-c SCHEDULERS]\n"
		"        [-x FACTOR] [-v] [-g GENERATION] [-e END] [-a ACT,...] [-A ACT,...]\n"
		"  -s  seed (a new one)       -t  seconds (20)\n"
		"  -n  workers, at most (64)  -c  schedulers, at most (4)\n"
		"  -x  how many times slower than usual everything is (1; with lockdep 6)\n"
		"  -v  a line for each generation\n"
		"  -g  this generation again and again\n"
		"  -e  generations that end in this way only:\n");
	for (i = 0; i < ENDS; i++)
		fprintf(stderr, "        %u  %s\n", i, ends[i].name);
	fprintf(stderr, "  -a, -A  only these acts, or all but these:\n       ");
	for (i = 0; i < NACTS; i++)
		fprintf(stderr, " %s%s", act_names[i], i % 12 == 11 ? "\n       " : "");
	fprintf(stderr, "\n");
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

static __u64 acts(char *text)
{
	__u64 mask = 0;
	unsigned int i;
	char *name;

	for (name = strtok(text, ","); name; name = strtok(NULL, ",")) {
		for (i = 0; i < NACTS && strcmp(name, act_names[i]); i++)
			;
		if (i == NACTS)
			usage();
		mask |= 1ULL << i;
	}
	return mask;
}

static void options(int argc, char **argv)
{
	size_t n;
	int c;

	opt.seed = (now_ns() ^ (__u64)getpid() << 20) % 1000000000;
	while ((c = getopt(argc, argv, "s:t:n:c:x:g:e:a:A:v")) != -1) {
		n = strlen(opt.more);
		if (strchr("eaA", c))
			snprintf(opt.more + n, sizeof(opt.more) - n, " -%c %s", c, optarg);
		switch (c) {
		case 's':
			opt.seed = number(optarg, 0, ~0ULL);
			break;
		case 't':
			opt.seconds = number(optarg, 1, 1000000);
			break;
		case 'n':
			opt.workers = number(optarg, 1, MAX_SEATS);
			break;
		case 'c':
			opt.schedulers = number(optarg, 1, MAX_SCHEDS);
			break;
		case 'x':
			opt.factor = number(optarg, 1, 1000);
			break;
		case 'g':
			opt.only = number(optarg, 0, 1000000000);
			break;
		case 'e':
			opt.end = number(optarg, 0, ENDS - 1);
			break;
		case 'a':
			opt.acts = acts(optarg);
			break;
		case 'A':
			opt.acts &= ~acts(optarg);
			break;
		case 'v':
			opt.verbose = true;
			break;
		default:
			usage();
		}
	}
	if (optind < argc)
		usage();
	/* There, and with KASAN, which comes with it most often, all takes longer. */
	if (!opt.factor)
		opt.factor = access("/proc/lockdep", F_OK) ? 1 : 6;
}

/* Each way to end comes once in as many generations as the deck has cards. */
static const struct end *end_of(unsigned int nr)
{
	__u64 rng = mix(opt.seed, 7000000 + nr / DECK);
	unsigned char deck[DECK], card;
	unsigned int i, k;

	if (opt.end >= 0)
		return &ends[opt.end];
	for (i = 0; i < DECK; i++)
		deck[i] = i < ENDS ? i : 0;
	for (i = DECK - 1; i > 0; i--) {
		k = rnd_below(&rng, i + 1);
		card = deck[i];
		deck[i] = deck[k];
		deck[k] = card;
	}
	return &ends[deck[nr % DECK]];
}

static void make_generation(unsigned int nr)
{
	__u64 rng;
	unsigned int i;

	gen.nr = nr;
	gen.seed = mix(opt.seed, nr);
	rng = gen.seed;
	gen.end = end_of(nr);
	/* In longer runs, some are longer. Some end while they are set up. */
	gen.ms = rnd_log(&rng, 50, opt.seconds >= 60 ? 3000 : 1000) * opt.factor;
	gen.early = one_in(&rng, 8);
	if (gen.early)
		gen.ms = rnd_below(&rng, 60 * opt.factor);
	gen.seats = one_in(&rng, 2) ? opt.workers : 1 + rnd_below(&rng, opt.workers);
	gen.scheds = one_in(&rng, 2) ? opt.schedulers : 1 + rnd_below(&rng, opt.schedulers);
	gen.lists = 1 + rnd_below(&rng, MAX_LISTS);
	gen.dup_close = one_in(&rng, 2);
	gen.acts = opt.acts;
	/* Everything together hides what comes of few things. */
	for (i = 0; i < NACTS; i++)
		if (one_in(&rng, 4))
			gen.acts &= ~(1ULL << i);
	snprintf(gen.text, sizeof(gen.text),
		 "generation %u: %u workers, %u schedulers, %u lists, %s after %u ms",
		 gen.nr, gen.seats, gen.scheds, gen.lists, gen.end->name, gen.ms);
}

static void map_shared(void)
{
	unsigned int n = 4 * opt.workers + 64;
	size_t size = sizeof(*sh) + n * sizeof(struct ledger);

	sh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		ksft_exit_fail_msg("mmap of %zu bytes\n", size);
	sh->nledgers = n;
}

static void reset_shared(void)
{
	__u32 n = sh->nledgers;

	memset(&sh->phase, 0, sizeof(*sh) - offsetof(struct shared, phase) +
	       n * sizeof(struct ledger));
	sh->nledgers = n;
}

static void results(const unsigned int *done, int failed)
{
	unsigned int i;

	for (i = 0; i < ENDS; i++) {
		if ((int)i == failed)
			ksft_test_result_fail("%s\n", ends[i].name);
		else if (done[i])
			ksft_test_result_pass("%s: %u times\n", ends[i].name, done[i]);
		else
			ksft_test_result_skip("%s: not in this run\n", ends[i].name);
	}
}

int main(int argc, char **argv)
{
	unsigned int done[ENDS] = {}, nr;
	struct ums_abi abi;
	int failed = -1;
	__u64 end, start, before, could_switch = 0;

	/* What a generation becomes by exec. */
	if (argc == 2 && !strcmp(argv[1], "--end"))
		return STATUS_EXEC;

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
	ksft_set_plan(ENDS);
	ksft_print_msg("torture: seed %llu, -t %u -n %u -c %u -x %u%s\n", opt.seed,
		       opt.seconds, opt.workers, opt.schedulers, opt.factor, opt.more);
	map_shared();
	/* Children of a generation that has ended come to this process. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);

	end = now_ns() + opt.seconds * NSEC;
	for (nr = 0; now_ns() < end; nr++) {
		make_generation(opt.only >= 0 ? opt.only : nr);
		reset_shared();
		start = now_ns();
		before = sh->counts[N_EXECUTES];
		if (!watch_generation()) {
			failed = gen.end - ends;
			break;
		}
		done[gen.end - ends]++;
		if (abi.features & UMS_FEATURE_USER_SWITCH && allowed(A_SWITCH))
			could_switch += sh->counts[N_EXECUTES] - before;
		if (opt.verbose)
			ksft_print_msg("%s: %llu ms, %llu executes\n", gen.text,
				       (now_ns() - start) / MSEC,
				       sh->counts[N_EXECUTES] - before);
	}
	if (failed < 0 && !sh->counts[N_EXECUTES]) {
		ksft_print_msg("nothing was executed\n");
		failed = 0;
	}
	/* One act in ten, of many workers; to each other if somebody waits for that. */
	if (failed < 0 && could_switch > 5000 &&
	    (sh->counts[N_SWITCHES] < could_switch / 100 ||
	     (allowed(A_DIRECT) && sh->counts[N_DIRECT] < could_switch / 1000))) {
		ksft_print_msg("hardly anything was switched in user mode\n");
		failed = 0;
	}
	ksft_print_msg("%u generations\n", nr);
	print_counts("in all");
	results(done, failed);
	ksft_finished();
}

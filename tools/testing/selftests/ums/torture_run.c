// SPDX-License-Identifier: GPL-2.0
/*
 * Torture: a generation. A process that sets up lists, schedulers and workers,
 * lets them run for a while, and ends in the way that its seed says.
 */
#include "torture.h"

#include <linux/userfaultfd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

struct world w;

static void must(bool ok, const char *what)
{
	if (!ok)
		violated(NULL, "set-up: %s: errno %d", what, errno);
}

static void *map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	must(p != MAP_FAILED, "mmap");
	return p;
}

/* One page for each seat. Without userfaultfd there are no such faults. */
static void open_uffd(void)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };
	char *pages = map(gen.seats * 4096);
	unsigned int i;

	for (i = 0; i < gen.seats; i++)
		w.seats[i].page = pages + i * 4096;
	madvise(pages, gen.seats * 4096, MADV_NOHUGEPAGE);
	w.uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	w.uffd_full = w.uffd >= 0;
	if (w.uffd < 0)
		w.uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (w.uffd < 0)
		return;
	must(!ioctl(w.uffd, UFFDIO_API, &api), "userfaultfd");
	reg.range.start = (uintptr_t)pages;
	reg.range.len = gen.seats * 4096;
	must(!ioctl(w.uffd, UFFDIO_REGISTER, &reg), "userfaultfd");
}

static void open_seat(struct seat *s, unsigned int nr)
{
	s->nr = nr;
	/* Workers read and sleep; who nudges them does not. */
	must(!pipe2(s->pipe, O_CLOEXEC) && !fcntl(s->pipe[1], F_SETFL, O_NONBLOCK), "pipe");
	must(!socketpair(AF_UNIX, (nr & 1 ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0,
			 s->sock), "socketpair");
	s->event = eventfd(0, EFD_CLOEXEC);
	must(s->event >= 0, "eventfd");
	s->spare = map(2 * SPARE);
}

static int temporary_file(void)
{
	char path[256];
	const char *dir = getenv("TMPDIR");
	int fd;

	snprintf(path, sizeof(path), "%s/ums-torture-XXXXXX", dir ? dir : "/tmp");
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

static void set_up(void)
{
	struct ums_abi abi;
	struct rlimit core = { 0, 0 }, files, more;
	sigset_t set;
	unsigned int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &core);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		more.rlim_cur = 5 * gen.seats + 64;
		more.rlim_max = more.rlim_cur;
		files.rlim_cur = files.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, files.rlim_max < more.rlim_max ? &more : &files))
			setrlimit(RLIMIT_NOFILE, &files);
	}

	/* Inherited by all; workers and schedulers unblock what they handle. */
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	for (i = 0; i < 3; i++)
		sigaddset(&set, signals[i]);
	/* The handlers are there before anybody could send something. */
	handle_signals();
	pthread_sigmask(SIG_BLOCK, &set, NULL);

	w.seats = calloc(gen.seats, sizeof(*w.seats));
	w.scheds = calloc(gen.scheds, sizeof(*w.scheds));
	must(w.seats && w.scheds, "memory");
	for (i = 0; i < gen.seats; i++)
		open_seat(&w.seats[i], i);
	must(!pipe2(w.echo, O_CLOEXEC), "pipe");
	w.exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	w.file = temporary_file();
	must(w.exe >= 0 && w.file >= 0, "file");
	open_uffd();
	must(!ums_query(UMS_QUERY_ABI, 0, &abi, sizeof(abi)), "ums_query");
	w.can_switch = abi.features & UMS_FEATURE_USER_SWITCH;
	ledgers_open();
	worker_world();
	for (i = 0; i < gen.lists; i++) {
		int ret = list_open(&w.lists[i], gen.seats);

		if (ret)
			violated(NULL, "set-up: ums_create: %d", ret);
	}
}

static void start(void)
{
	unsigned int i;

	outside_start();
	for (i = 0; i < gen.scheds; i++) {
		w.scheds[i].nr = i;
		if (thread_start(&w.scheds[i].thread, sched_thread, &w.scheds[i]))
			violated(NULL, "set-up: no thread for scheduler %u", i);
	}
}

/* What the kernel shows to this process only, for the parent's report. */
static void dump_lists(void)
{
	unsigned int i, n = 0;
	size_t size = sizeof(sh->dump_text);
	char *p = sh->dump_text;
	__u64 at;

	for (i = 0; i < gen.lists && n < size; i++) {
		struct ums_list_header *h = w.lists[i].head;

		n += snprintf(p + n, size - n, "list %u: closed %u, taken %llu, published %llu:",
			      i, h->closed, h->head, h->tail);
		for (at = h->head; at != h->tail && n < size; at++)
			n += snprintf(p + n, size - n, " %llx",
				      w.lists[i].ring[at & h->ring_mask]);
		if (n < size)
			n += snprintf(p + n, size - n, "\n");
	}
	if (n < size)
		snprintf(p + n, size - n, "workers %d, stop %d, all gone %d\n",
			 w.active, w.stop, w.all_gone);
	STORE(sh->dump, 2);
}

/* Of the main thread, which does nothing else. */
static void rest(__u64 ns)
{
	if (LOAD(sh->dump) == 1)
		dump_lists();
	sleep_ns(ns);
}

static __noreturn void end_process(void)
{
	char *const argv[] = { "torture", "--end", NULL }, *const envp[] = { NULL };
	int *volatile nowhere = (int *)8;
	sigset_t all;

	switch (gen.end->what) {
	case EXIT:
		syscall(SYS_exit_group, STATUS_EXIT);
		break;
	case EXEC:
		/* Timers and signals that are pending go on, handlers do not. */
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, NULL);
		execve("/proc/self/exe", argv, envp);
		violated(self.ledger, "exec: errno %d", errno);
	case SEGV:
		*nowhere = 1;
		violated(self.ledger, "a write to address 8 had no consequence");
	default:
		break;
	}
	for (;;)
		rest(10 * MSEC);
}

static void close_list(void)
{
	unsigned int list = gen.seed % gen.lists;
	int fd = w.lists[list].fd, other = -1;

	if (gen.dup_close)
		other = open("/dev/null", O_RDONLY | O_CLOEXEC);
	STORE(sh->closing[list], 1);
	if (other >= 0)
		dup3(other, fd, O_CLOEXEC);
	else
		close(fd);
	if (!LOAD(w.lists[list].head->closed))
		violated(NULL, "list %u: its last descriptor was closed, but it says no such thing",
			 list);
}

/* Called by everybody now and then, in case it is up to them. */
void maybe_end(enum who who)
{
	int not_taken = 0;

	if (!LOAD(w.end_now) || gen.end->who != who ||
	    !__atomic_compare_exchange_n(&w.end_taken, &not_taken, 1, false,
					 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return;
	if (gen.end->what == CLOSE)
		close_list();
	else
		end_process();
}

/* Schedulers may wait for ever when the last worker has ended. */
static void stop_schedulers(void)
{
	unsigned int i;

	STORE(w.all_gone, 1);
	for (i = 0; i < gen.scheds; i++) {
		while (!LOAD(w.scheds[i].left)) {
			send_signal(LOAD(sh->scheds[i].tid), SIGUSR1);
			rest(2 * MSEC);
		}
		must(!pthread_join(w.scheds[i].thread, NULL), "join of a scheduler");
	}
}

/* A thread that was joined is still there for a moment. */
static void check_threads(void)
{
	char text[2048], v[16] = "";
	unsigned int i;

	for (i = 0; i < 2000 * opt.factor; i++) {
		must(read_text("/proc/self/status", text, sizeof(text)) > 0, "status");
		if (text_value(text, "Threads", v, sizeof(v)) && !strcmp(v, "1"))
			return;
		sleep_ns(MSEC);
	}
	violated(NULL, "%s threads are left", v);
}

/* Whatever workers and schedulers do, they come to an end. */
static __noreturn void end_orderly(void)
{
	STORE(w.stop, 1);
	STORE(sh->phase, 2);
	while (!LOAD(w.no_more) || LOAD(w.active))
		rest(MSEC);
	STORE(sh->phase, 3);
	stop_schedulers();
	STORE(sh->phase, 4);
	outside_join();
	ledgers_check_end();
	acts_check_end();
	check_threads();
	syscall(SYS_exit_group, 0);
	__builtin_unreachable();
}

void run_generation(void)
{
	__u64 start_at = now_ns(), executed = sh->counts[N_EXECUTES];

	self.rng = mix(gen.seed, 4000000);
	set_up();
	start();
	STORE(sh->phase, 1);
	/* It takes a while until all are there. */
	while (!gen.early && LOAD(sh->counts[N_EXECUTES]) < executed + gen.seats)
		rest(2 * MSEC);
	if (!gen.early)
		start_at = now_ns();
	while (now_ns() < start_at + gen.ms * MSEC)
		rest(2 * MSEC);

	switch (gen.end->what) {
	case CLOSE:
		STORE(w.end_now, 1);
		maybe_end(BY_OTHER);
		/* Afterwards the other list goes on, if there is one. */
		for (start_at = now_ns(); now_ns() < start_at + gen.ms / 2 * MSEC;)
			rest(2 * MSEC);
		while (!LOAD(w.end_taken))
			rest(MSEC);
		end_orderly();
	case ORDERLY:
		end_orderly();
	default:
		STORE(sh->phase, 5);
		STORE(w.end_now, 1);
		maybe_end(BY_OTHER);
		/* KILL comes from the parent. */
		for (;;)
			rest(10 * MSEC);
	}
}

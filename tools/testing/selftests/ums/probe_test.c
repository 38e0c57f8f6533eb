// SPDX-License-Identifier: GPL-2.0
/*
 * A worker with a probe (uprobe) on an instruction that sleeps: it does not park in
 * the middle of that, where it would take no signal and keep a slot that others
 * need.
 */
#include "ums_test.h"

#include <link.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>

/* More than there are slots for such instructions in a process: a page of them. */
#define WORKERS		40
#define EVENTS		"/sys/kernel/tracing/uprobe_events"
#define ENABLE		"/sys/kernel/tracing/events/ums_test/probed/enable"
/* A trace of its own, so that no other tracing is disturbed. */
#define INSTANCE	"/sys/kernel/tracing/instances/ums_probe"

/* Reads a word. The kernel executes a copy of its first instruction elsewhere. */
int probed(const int *word);
extern const char probed_end[];
asm(".text\n"
	".globl probed\n"
	".type probed, @function\n"
	"probed:\n"
	"	movl (%rdi), %eax\n"
	"probed_end:\n"
	"	ret\n"
	".size probed, . - probed\n");

static int find_offset(struct dl_phdr_info *info, size_t size, void *arg)
{
	unsigned long at = (unsigned long)probed - info->dlpi_addr;
	unsigned long *offset = arg;
	int i;

	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_LOAD && at - p->p_vaddr < p->p_filesz)
			*offset = at - p->p_vaddr + p->p_offset;
	}
	/* The program itself comes first. */
	return 1;
}

/* write_text() would truncate, and with that remove the probes of others. */
static int append(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static int add_probe(void)
{
	unsigned long offset = 0;
	char exe[256], text[400];
	ssize_t n;

	mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL);
	dl_iterate_phdr(find_offset, &offset);
	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (!offset || n < 0)
		return -EINVAL;
	exe[n] = 0;
	snprintf(text, sizeof(text), "p:ums_test/probed %s:0x%lx\n", exe, offset);
	return append(EVENTS, text) ?: write_text(ENABLE, "1");
}

FIXTURE(probe) {
	struct worker w[WORKERS];
	struct sched s;
	struct list l;
	long page;
	char *mem;
	int uffd;
};

FIXTURE_SETUP(probe)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	UMS_REQUIRE();
	if (access("/sys/kernel/tracing", F_OK) || geteuid())
		SKIP(return, "no tracefs, or not root");
	self->page = sysconf(_SC_PAGESIZE);
	self->uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (self->uffd < 0)
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, munlockall());
	self->mem = mmap(NULL, WORKERS * self->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	ASSERT_EQ(0, ioctl(self->uffd, UFFDIO_API, &api));
	reg.range.start = (unsigned long)self->mem;
	reg.range.len = WORKERS * self->page;
	ASSERT_EQ(0, ioctl(self->uffd, UFFDIO_REGISTER, &reg));
	ASSERT_EQ(0, add_probe()) {
		TH_LOG("the probe is refused");
	}
	ASSERT_EQ(0, list_open(&self->l, WORKERS));
	ASSERT_EQ(0, sched_enter(&self->s));
}

FIXTURE_TEARDOWN_PARENT(probe)
{
	write_text(INSTANCE "/events/ums_test/probed/enable", "0");
	rmdir(INSTANCE);
	write_text(ENABLE, "0");
	append(EVENTS, "-:ums_test/probed\n");
}

static void reads_word(struct worker *w)
{
	w->result = probed(w->arg);
	STORE(w->stage, 1);
}

/* A page for @w, so that its instruction can be executed. */
static int give_page(int uffd, struct worker *w, long page)
{
	struct uffdio_zeropage zero = {
		.range = { .start = (unsigned long)w->arg, .len = page },
	};

	return ioctl(uffd, UFFDIO_ZEROPAGE, &zero) ? -errno : 0;
}

/* Executes it until it sleeps for its word. For the program's pages it may before. */
static __u64 sleeps_for_word(struct sched *s, struct list *l, struct worker *w, int uffd)
{
	__u64 id = worker_start_pop(w, l, reads_word, w->arg);
	struct pollfd p = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;

	while (!sched_run(s, id, 0) && s->reason == UMS_UPCALL_BLOCKED) {
		if (s->detail == UMS_CAUSE_FAULT && poll(&p, 1, 100) == 1)
			return read(uffd, &msg, sizeof(msg)) == sizeof(msg) ? id : 0;
		if (list_pop_wait(l) != id)
			return 0;
	}
	return 0;
}

/* Where it stands when a debugger stops it. */
static void where(pid_t tid, int told)
{
	struct user_regs_struct regs;
	__u64 ip = 0;
	int status;

	if (!ptrace(PTRACE_SEIZE, tid, 0, 0) && !ptrace(PTRACE_INTERRUPT, tid, 0, 0) &&
	    waitpid(tid, &status, __WALL) == tid && !ptrace(PTRACE_GETREGS, tid, 0, &regs))
		ip = regs.rip;
	_exit(write(told, &ip, sizeof(ip)) != sizeof(ip) ||
	      ptrace(PTRACE_DETACH, tid, 0, 0));
}

/* It is published with the instruction done, and can be stopped there. */
TEST_F(probe, not_parked_in_between)
{
	struct worker *w = &self->w[0];
	struct pollfd p = { .events = POLLIN };
	int told[2], status;
	pid_t pid;
	__u64 id, ip;

	w->arg = self->mem;
	id = sleeps_for_word(&self->s, &self->l, w, self->uffd);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, give_page(self->uffd, w, self->page));
	ASSERT_EQ(id, list_pop_wait(&self->l));
	EXPECT_EQ(0, LOAD(w->stage));

	ASSERT_EQ(0, pipe(told));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		where(w->tid, told[1]);
	p.fd = told[0];
	EXPECT_EQ(1, poll(&p, 1, LIMIT_S * 1000)) {
		kill(pid, SIGKILL);
	}
	close(told[1]);
	EXPECT_EQ(sizeof(ip), read(told[0], &ip, sizeof(ip)));
	EXPECT_EQ((__u64)probed_end, ip);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, worker_run_to_end(&self->s, &self->l, id));
	EXPECT_EQ(0, w->result);
}

/* However many are there: another one gets its slot, without these being executed. */
TEST_F(probe, keeps_no_slot)
{
	int i, word = 42;
	__u64 id[WORKERS];

	for (i = 0; i < WORKERS; i++) {
		self->w[i].arg = self->mem + i * self->page;
		self->w[i].result = -1;
		id[i] = sleeps_for_word(&self->s, &self->l, &self->w[i], self->uffd);
		ASSERT_NE(0, id[i]);
		ASSERT_EQ(0, give_page(self->uffd, &self->w[i], self->page));
		ASSERT_EQ(id[i], list_pop_wait(&self->l));
	}
	EXPECT_EQ(42, probed(&word));
	for (i = 0; i < WORKERS; i++) {
		EXPECT_EQ(0, worker_run_to_end(&self->s, &self->l, id[i]));
		EXPECT_EQ(0, self->w[i].result);
	}
}

/*
 * A context on the thread of another worker: it is its own that hits the probe, once, and
 * executes the instruction.
 */
#define ROUNDS	20

static struct sched *sched;

static void reads_words(struct worker *w)
{
	int i;

	for (i = 0; i < ROUNDS; i++) {
		worker_switch_out(w, sched, 0);
		w->result += probed(w->arg);
	}
	worker_switch_out(w, sched, 0);
}

static void lends_thread(struct worker *w)
{
	for (;;)
		worker_switch_out(w, sched, 0);
}

/* With any block for a page of the program. */
static int resume(struct sched *s, struct list *l, struct worker *w)
{
	int ret = sched_resume(s, w);

	while (!ret && s->reason == UMS_UPCALL_BLOCKED)
		ret = sched_run(s, list_pop_wait(l), 0);
	return ret ?: s->reason != UMS_UPCALL_YIELDED;
}

static int start_switching(struct sched *s, struct list *l, struct worker *w,
			   void (*fn)(struct worker *w), void *arg)
{
	int ret;

	w->flags = UMS_WORKER_USER_SWITCH;
	ret = sched_run(s, worker_start_pop(w, l, fn, arg), 0);
	while (!ret && s->reason == UMS_UPCALL_BLOCKED)
		ret = sched_run(s, list_pop_wait(l), 0);
	return ret ?: s->reason != UMS_UPCALL_YIELDED;
}

/* How often @tid, or with 0 anybody, has hit it, in this test. */
static int hits(pid_t tid)
{
	static char text[1 << 18];
	char who[32], *line, *save;
	int n = 0;

	snprintf(who, sizeof(who), "-%d ", tid);
	if (read_text(INSTANCE "/trace", text, sizeof(text)) < 0)
		return -1;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		n += *line != '#' && strstr(line, " probed: ") && (!tid || strstr(line, who));
	return n;
}

#define BECOME_SWITCHING() do {						\
	UMS_REQUIRE_SWITCH();						\
	ASSERT_EQ(0, sched_exit(&self->s));				\
	ASSERT_EQ(0, sched_enter_switching(&self->s));			\
	sched = &self->s;						\
	ASSERT_EQ(0, mkdir(INSTANCE, 0700));				\
	ASSERT_EQ(0, write_text(INSTANCE "/events/ums_test/probed/enable", "1")); \
} while (0)

TEST_F(probe, away_from_home)
{
	struct worker *w = self->w;
	int word = 3, i;

	BECOME_SWITCHING();
	ASSERT_EQ(0, start_switching(&self->s, &self->l, &w[0], reads_words, &word));
	ASSERT_EQ(0, start_switching(&self->s, &self->l, &w[1], lends_thread, NULL));
	for (i = 0; i < ROUNDS; i++) {
		ASSERT_EQ(0, resume(&self->s, &self->l, &w[1]));
		ASSERT_EQ(0, resume(&self->s, &self->l, &w[0]));
		EXPECT_EQ(word * (i + 1), w[0].result);
	}
	EXPECT_EQ(ROUNDS, hits(w[0].tid));
	EXPECT_EQ(ROUNDS, hits(0));
}

/* And sleeps in it, for a page. */
TEST_F(probe, sleeps_away_from_home)
{
	struct pollfd p = { .fd = self->uffd, .events = POLLIN };
	struct worker *w = self->w;
	__u64 id;

	BECOME_SWITCHING();
	ASSERT_EQ(0, start_switching(&self->s, &self->l, &w[0], reads_words, self->mem));
	ASSERT_EQ(0, start_switching(&self->s, &self->l, &w[1], lends_thread, NULL));
	id = w[0].id;
	w[0].result = 1;
	ASSERT_EQ(0, resume(&self->s, &self->l, &w[1]));
	ASSERT_EQ(0, sched_resume(&self->s, &w[0]));
	ASSERT_EVENT(&self->s, UMS_UPCALL_BLOCKED, id, UMS_CAUSE_FAULT);
	while (poll(&p, 1, 100) != 1) {
		/* For a page of the program, before. */
		ASSERT_EQ(id, list_pop_wait(&self->l));
		ASSERT_EQ(0, sched_run(&self->s, id, 0));
		ASSERT_EVENT(&self->s, UMS_UPCALL_BLOCKED, id, UMS_CAUSE_FAULT);
	}
	EXPECT_EQ(1, LOAD(w[0].result));
	ASSERT_EQ(0, give_page(self->uffd, &w[0], self->page));
	ASSERT_EQ(id, list_pop_wait(&self->l));
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	ASSERT_EVENT(&self->s, UMS_UPCALL_YIELDED, id, 0);
	EXPECT_EQ(1, w[0].result);
	EXPECT_EQ(1, hits(w[0].tid));
	EXPECT_EQ(1, hits(0));
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/* See ums_test.h. Linked to each test; asserts nothing by itself. */
#define UMS_TEST_HELPERS
#include "ums_test.h"

#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

/* What a function must keep goes to the stack, the stack pointer to (%rdi). */
#define SAVE								\
	"	push	%rbp\n"						\
	"	push	%rbx\n"						\
	"	push	%r12\n"						\
	"	push	%r13\n"						\
	"	push	%r14\n"						\
	"	push	%r15\n"						\
	"	sub	$8, %rsp\n"						\
	"	stmxcsr	(%rsp)\n"						\
	"	fnstcw	4(%rsp)\n"						\
	"	mov	%rsp, (%rdi)\n"

/*
 * sched_call(s, nr, a, b, c): a system call that either fails, and returns, or
 * ends in an upcall, which returns 0 in its place.
 */
asm(".pushsection .text\n"
	".globl sched_call\n"
	".type sched_call, @function\n"
	"sched_call:\n"
	SAVE
	"	mov	%rsi, %rax\n"
	"	mov	%rdx, %rdi\n"
	"	mov	%rcx, %rsi\n"
	"	mov	%r8, %rdx\n"
	"	xor	%r10d, %r10d\n"
	"	xor	%r8d, %r8d\n"
	"	xor	%r9d, %r9d\n"
	"	syscall\n"
	"	jmp	1f\n"
	".size sched_call, . - sched_call\n"
	".globl sched_entry\n"
	".type sched_entry, @function\n"
	"sched_entry:\n"
	"	mov	%rdi, 8(%r8)\n"
	"	mov	%rsi, 16(%r8)\n"
	"	mov	%rdx, 24(%r8)\n"
	"	incq	32(%r8)\n"
	"	mov	0(%r8), %rsp\n"
	"	xor	%eax, %eax\n"
	"1:	ldmxcsr	(%rsp)\n"
	"	fldcw	4(%rsp)\n"
	"	add	$8, %rsp\n"
	"	pop	%r15\n"
	"	pop	%r14\n"
	"	pop	%r13\n"
	"	pop	%r12\n"
	"	pop	%rbx\n"
	"	pop	%rbp\n"
	"	ret\n"
	".size sched_entry, . - sched_entry\n"
	/*
	 * context_switch(&sp, to_sp, to_tp): saves registers as sched_call() does, and
	 * goes on with those of another thread, without the kernel.
	 */
	".globl context_switch\n"
	".type context_switch, @function\n"
	"context_switch:\n"
	SAVE
	"	mov	%rsi, %rsp\n"
	"	wrfsbase %rdx\n"
	"	xor	%eax, %eax\n"
	"	jmp	1b\n"
	".size context_switch, . - context_switch\n"
	".popsection\n");

static int sched_enter_as(struct sched *s, void (*entry)(void), __u64 startup, __u64 flags)
{
	struct ums_scheduler_args args = {
		.flags = flags,
		.entry = (uintptr_t)entry,
		.arg = (uintptr_t)s,
		.startup = startup,
	};

	memset(s, 0, sizeof(*s));
	s->tp = (uintptr_t)__builtin_thread_pointer();
	s->stack_size = 64 * 1024;
	s->stack = mmap(NULL, s->stack_size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (s->stack == MAP_FAILED)
		return -errno;
	args.stack = (uintptr_t)s->stack;
	args.stack_size = s->stack_size;
	return sched_call(s, NR_UMS_SCHEDULER_ENTER, (unsigned long)&args,
			  sizeof(args), 0);
}

int sched_enter_at(struct sched *s, void (*entry)(void), __u64 startup)
{
	return sched_enter_as(s, entry, startup, 0);
}

int sched_enter_switching(struct sched *s)
{
	return sched_enter_as(s, sched_entry, 0, UMS_SCHEDULER_USER_SWITCH);
}

int sched_resume(struct sched *s, struct worker *w)
{
	return context_switch(&s->sp, w->sp, w->tp);
}

void worker_switch_out(struct worker *w, struct sched *s, __u64 arg)
{
	s->reason = UMS_UPCALL_YIELDED;
	s->worker = w->id;
	s->detail = arg;
	context_switch(&w->sp, s->sp, s->tp);
}

int sched_enter(struct sched *s)
{
	return sched_enter_at(s, sched_entry, 0);
}

int sched_run_flags(struct sched *s, __u64 id, __u64 slice_ns, unsigned int flags)
{
	return sched_call(s, NR_UMS_EXECUTE, id, slice_ns, flags);
}

int sched_exit(struct sched *s)
{
	long ret = ums_scheduler_exit(0);

	if (!ret)
		munmap(s->stack, s->stack_size);
	return ret;
}

int list_open(struct list *l, unsigned int max_workers)
{
	long fd;
	void *p;

	memset(l, 0, sizeof(*l));
	l->fd = -1;
	l->args.max_workers = max_workers;
	fd = ums_create(&l->args, sizeof(l->args));
	if (fd < 0)
		return fd;
	p = mmap(NULL, l->args.mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		int err = errno;

		close(fd);
		return -err;
	}
	l->fd = fd;
	l->head = p;
	l->ring = p + l->args.ring_offset;
	l->slots = p + l->args.slots_offset;
	return 0;
}

void list_close(struct list *l)
{
	munmap(l->head, l->args.mmap_size);
	close(l->fd);
	l->fd = -1;
}

unsigned int list_pop_many(struct list *l, __u64 *ids, unsigned int n)
{
	__u64 h, t;
	unsigned int i;

	h = __atomic_load_n(&l->head->head, __ATOMIC_ACQUIRE);
	do {
		t = __atomic_load_n(&l->head->tail, __ATOMIC_ACQUIRE);
		if (n > t - h)
			n = t - h;
		if (!n)
			return 0;
		for (i = 0; i < n; i++)
			ids[i] = __atomic_load_n(&l->ring[(h + i) & l->head->ring_mask],
						 __ATOMIC_RELAXED);
	} while (!__atomic_compare_exchange_n(&l->head->head, &h, h + n, false,
					      __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
	return n;
}

__u64 list_pop(struct list *l)
{
	__u64 id;

	/* A failed attempt leaves an id behind that somebody else has taken. */
	return list_pop_many(l, &id, 1) ? id : 0;
}

__u64 list_pop_wait(struct list *l)
{
	__u64 end = now_ns() + LIMIT_S * NSEC, id;

	for (;;) {
		struct __kernel_timespec ts = {
			.tv_sec = end / NSEC, .tv_nsec = end % NSEC,
		};
		long ret;

		id = list_pop(l);
		if (id)
			return id;
		ret = ums_wait(l->fd, &ts, UMS_WAIT_ABSTIME);
		/* Its scheduler has died, and it is not back yet. */
		if (ret == -EOWNERDEAD && now_ns() < end)
			sleep_ns(MSEC / 2);
		/* Not what is there by now: its wake-up was lost. */
		else if (ret && ret != -EINTR)
			return 0;
	}
}

int count_lists(void)
{
	char *line = NULL;
	size_t size = 0;
	int n = 0;
	FILE *f;

	f = fopen("/proc/vmallocinfo", "r");
	if (!f)
		return -1;
	while (getline(&line, &size, f) > 0)
		n += !!strstr(line, " user");
	free(line);
	fclose(f);
	return n;
}

int thread_start(pthread_t *t, void *(*fn)(void *arg), void *arg)
{
	pthread_attr_t attr;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 * 1024);
	ret = pthread_create(t, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return -ret;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct ums_worker_args args = { .user_data = w->user_data, .flags = w->flags };

	w->tp = (uintptr_t)__builtin_thread_pointer();
	STORE(w->tid, self_tid());
	w->ret = ums_worker_enter(w->list->fd, &args, sizeof(args));
	if (w->ret > 0) {
		STORE(w->id, (__u64)w->ret);
		w->fn(w);
	}
	return NULL;
}

int worker_start(struct worker *w, struct list *l, void (*fn)(struct worker *w),
		 void *arg)
{
	w->list = l;
	w->fn = fn;
	w->arg = arg;
	w->tid = 0;
	w->id = 0;
	return thread_start(&w->thread, worker_main, w);
}

__u64 worker_start_pop(struct worker *w, struct list *l,
		       void (*fn)(struct worker *w), void *arg)
{
	if (worker_start(w, l, fn, arg))
		return 0;
	return list_pop_wait(l);
}

int worker_run_to_end(struct sched *s, struct list *l, __u64 id)
{
	for (;;) {
		if (sched_run(s, id, 0) || s->worker != id)
			return -1;
		switch (s->reason) {
		case UMS_UPCALL_EXITED:
			return s->detail;
		case UMS_UPCALL_YIELDED:
			break;
		case UMS_UPCALL_BLOCKED:
		case UMS_UPCALL_PREEMPTED:
			if (list_pop_wait(l) != id)
				return -1;
			break;
		default:
			return -1;
		}
	}
}

int read_text(const char *path, char *buf, size_t size)
{
	size_t n = 0;
	ssize_t r;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	do {
		r = read(fd, buf + n, size - 1 - n);
		if (r > 0)
			n += r;
	} while (r > 0 && n < size - 1);
	close(fd);
	buf[n] = 0;
	return r < 0 ? -1 : (int)n;
}

int write_text(const char *path, const char *text)
{
	int fd, ret;

	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

char *text_value(const char *text, const char *key, char *buf, size_t size)
{
	size_t len = strlen(key);
	const char *line = text;

	while (line && *line) {
		const char *end = strchrnul(line, '\n');

		if (!strncmp(line, key, len) && line[len] == ':') {
			line += len + 1;
			while (*line == '\t' || *line == ' ')
				line++;
			snprintf(buf, size, "%.*s", (int)(end - line), line);
			return buf;
		}
		line = *end ? end + 1 : end;
	}
	return NULL;
}

bool thread_sleeps_in(pid_t tid, long nr)
{
	char path[64], buf[256];

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
	if (read_text(path, buf, sizeof(buf)) <= 0 || !strncmp(buf, "running", 7))
		return false;
	return strtol(buf, NULL, 10) == nr;
}

char thread_state(pid_t pid, pid_t tid)
{
	char path[64], buf[512], *p;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	if (read_text(path, buf, sizeof(buf)) <= 0)
		return 0;
	p = strrchr(buf, ')');
	return p ? p[2] : 0;
}

int lock_memory(void)
{
	return mlockall(MCL_CURRENT | MCL_FUTURE) ? -errno : 0;
}

static void stopper(pid_t tid, int ready)
{
	char path[64], text[1024], was[32] = "", is[32] = "";
	pid_t pid = getppid();
	int i, status;

	if (ptrace(PTRACE_SEIZE, tid, 0, 0) || ptrace(PTRACE_INTERRUPT, tid, 0, 0) ||
	    waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status))
		_exit(2);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/ums", pid, tid);
	for (i = 0; i < 10000 && !strcmp(is, was); i++) {
		if (read_text(path, text, sizeof(text)) < 0 ||
		    !text_value(text, "state", is, sizeof(is)))
			_exit(3);
		if (!i) {
			strcpy(was, is);
			if (write(ready, "x", 1) != 1)
				_exit(4);
		}
		sleep_ns(MSEC);
	}
	/* It is to be seen at rest. */
	sleep_ns(20 * MSEC);
	if (ptrace(PTRACE_DETACH, tid, 0, 0))
		_exit(5);
	_exit(strcmp(is, "running") ? 1 : 0);
}

pid_t stopper_start(pid_t tid)
{
	int ready[2];
	pid_t pid;
	char c;

	if (pipe(ready))
		return -1;
	pid = fork();
	if (!pid)
		stopper(tid, ready[1]);
	close(ready[1]);
	if (pid > 0 && read(ready[0], &c, 1) != 1)
		pid = -1;
	close(ready[0]);
	return pid;
}

int stopper_end(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

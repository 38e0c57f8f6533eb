// SPDX-License-Identifier: GPL-2.0
/*
 * Page faults that sleep, by userfaultfd: BLOCKED with UMS_CAUSE_FAULT when the
 * worker touches the page itself, and with the number of the system call when
 * the kernel does so on its behalf.
 */
#include "ums_test.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#define PAGES 8

FIXTURE(fault)
{
	int uffd;
	char *area;
	long page;
	struct list l;
	struct sched s;
	struct worker w;
};

FIXTURE_SETUP(fault)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	UMS_REQUIRE();
	self->page = sysconf(_SC_PAGESIZE);
	/* O_NONBLOCK, as its own poll asks for. */
	self->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (self->uffd < 0 && errno == ENOSYS)
		SKIP(return, "no userfaultfd in this kernel");
	ASSERT_LE(0, self->uffd);
	ASSERT_EQ(0, ioctl(self->uffd, UFFDIO_API, &api));
	ASSERT_EQ(0, lock_memory());
	self->area = mmap(NULL, PAGES * self->page, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->area);
	/* lock_memory() has filled it; this test needs it missing. */
	ASSERT_EQ(0, munlock(self->area, PAGES * self->page));
	ASSERT_EQ(0, madvise(self->area, PAGES * self->page, MADV_DONTNEED));
	reg.range.start = (uintptr_t)self->area;
	reg.range.len = PAGES * self->page;
	ASSERT_EQ(0, ioctl(self->uffd, UFFDIO_REGISTER, &reg));
	ASSERT_EQ(0, list_open(&self->l, 4));
	ASSERT_EQ(0, pipe(self->w.fd));
}

FIXTURE_TEARDOWN(fault)
{
}

/* The fault that is pending, resolved with a page full of @fill. */
static int resolve(int uffd, char *area, long page, int fill)
{
	static char src[4096] __attribute__((aligned(4096)));
	struct uffdio_copy copy = { .len = page, .src = (uintptr_t)src };
	struct uffd_msg msg;

	if (!WAIT_FOR(read(uffd, &msg, sizeof(msg)) == sizeof(msg)))
		return -1;
	if (msg.event != UFFD_EVENT_PAGEFAULT)
		return -1;
	memset(src, fill, sizeof(src));
	copy.dst = msg.arg.pagefault.address & ~(page - 1);
	return ioctl(uffd, UFFDIO_COPY, &copy);
}

static void reads_memory(struct worker *w)
{
	w->result = *(volatile char *)w->arg;
	STORE(w->stage, 1);
}

static void check_block(struct __test_metadata *_metadata,
			FIXTURE_DATA(fault) *self, __u64 id, __u64 cause, int fill)
{
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	ASSERT_EVENT(&self->s, UMS_UPCALL_BLOCKED, id, cause);
	EXPECT_EQ(cause, list_slot(&self->l, id)->cause);
	EXPECT_TRUE(list_empty(&self->l));
	EXPECT_EQ(-EAGAIN, sched_run(&self->s, id, 0));
	ASSERT_EQ(0, resolve(self->uffd, self->area, self->page, fill));
	ASSERT_EQ(id, list_pop_wait(&self->l));
	EXPECT_EQ(0, LOAD(self->w.stage));
}

TEST_F(fault, read)
{
	struct ums_info info;
	__u64 id;

	id = worker_start_pop(&self->w, &self->l, reads_memory, self->area + 5);
	ASSERT_EQ(0, sched_enter(&self->s));
	check_block(_metadata, self, id, UMS_CAUSE_FAULT, 'r');
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
	EXPECT_EQ(1, info.blocks_fault);
	EXPECT_EQ(0, info.blocks_syscall);
	EXPECT_EQ(UMS_CAUSE_FAULT, info.cause);
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ('r', self->w.result);
}

static void writes_memory(struct worker *w)
{
	volatile char *p = w->arg;

	p[7] = 'w';
	w->result = p[6];
	STORE(w->stage, 1);
}

TEST_F(fault, write)
{
	__u64 id;

	id = worker_start_pop(&self->w, &self->l, writes_memory, self->area);
	ASSERT_EQ(0, sched_enter(&self->s));
	check_block(_metadata, self, id, UMS_CAUSE_FAULT, 'f');
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ('f', self->w.result);
	EXPECT_EQ('w', self->area[7]);
}

static void calls_memory(struct worker *w)
{
	int (*fn)(void) = w->arg;

	w->result = fn();
	STORE(w->stage, 1);
}

/* Missing code: the fault of an instruction fetch. */
TEST_F(fault, fetch)
{
	static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
	struct uffdio_copy copy = { .len = self->page };
	static char src[4096] __attribute__((aligned(4096)));
	struct uffd_msg msg;
	__u64 id;

	/* mov $42, %eax; ret */
	memcpy(src, code, sizeof(code));
	ASSERT_EQ(0, mprotect(self->area, self->page,
			      PROT_READ | PROT_WRITE | PROT_EXEC));
	id = worker_start_pop(&self->w, &self->l, calls_memory, self->area);
	ASSERT_EQ(0, sched_enter(&self->s));
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	ASSERT_EVENT(&self->s, UMS_UPCALL_BLOCKED, id, UMS_CAUSE_FAULT);
	ASSERT_TRUE(WAIT_FOR(read(self->uffd, &msg, sizeof(msg)) == sizeof(msg)));
	copy.dst = (uintptr_t)self->area;
	copy.src = (uintptr_t)src;
	ASSERT_EQ(0, ioctl(self->uffd, UFFDIO_COPY, &copy));
	ASSERT_EQ(id, list_pop_wait(&self->l));
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(42, self->w.result);
}

static void copies_from(struct worker *w)
{
	w->result = syscall(SYS_write, w->fd[1], w->arg, 3L);
	STORE(w->stage, 1);
}

/* In the copy of a system call: its number, not that of a fault. */
TEST_F(fault, copy_from_user)
{
	struct ums_info info;
	char buf[4] = "";
	__u64 id;

	id = worker_start_pop(&self->w, &self->l, copies_from, self->area);
	ASSERT_EQ(0, sched_enter(&self->s));
	check_block(_metadata, self, id, SYS_write, 'c');
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
	EXPECT_EQ(0, info.blocks_fault);
	EXPECT_EQ(1, info.blocks_syscall);
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(3, self->w.result);
	EXPECT_EQ(3, read(self->w.fd[0], buf, 4));
	EXPECT_STREQ("ccc", buf);
}

static void copies_to(struct worker *w)
{
	w->result = syscall(SYS_clock_gettime, CLOCK_MONOTONIC, w->arg);
	STORE(w->stage, 1);
}

TEST_F(fault, copy_to_user)
{
	struct timespec *ts = (void *)self->area;
	__u64 id;

	id = worker_start_pop(&self->w, &self->l, copies_to, self->area);
	ASSERT_EQ(0, sched_enter(&self->s));
	check_block(_metadata, self, id, SYS_clock_gettime, 0);
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(0, self->w.result);
	EXPECT_TRUE(ts->tv_sec || ts->tv_nsec);
}

/* A UMS call is a call like any other when its arguments are missing. */
static void queries_into(struct worker *w)
{
	w->result = ums_query(UMS_QUERY_THREAD, 0, w->arg, sizeof(struct ums_info));
	STORE(w->stage, 1);
}

TEST_F(fault, in_ums_call)
{
	__u64 id;

	id = worker_start_pop(&self->w, &self->l, queries_into, self->area);
	ASSERT_EQ(0, sched_enter(&self->s));
	check_block(_metadata, self, id, NR_UMS_QUERY, 0);
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(0, self->w.result);
}

/* One after another, each told of. */
static void reads_pages(struct worker *w)
{
	int i;

	for (i = 0; i < PAGES; i++)
		w->result += ((volatile char *)w->arg)[i * 4096];
}

TEST_F(fault, many)
{
	struct ums_info info;
	__u64 id;
	int i;

	id = worker_start_pop(&self->w, &self->l, reads_pages, self->area);
	ASSERT_EQ(0, sched_enter(&self->s));
	for (i = 0; i < PAGES; i++)
		check_block(_metadata, self, id, UMS_CAUSE_FAULT, i);
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
	EXPECT_EQ(PAGES, info.blocks_fault);
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(PAGES * (PAGES - 1) / 2, self->w.result);
}

/* In the region, a fault that sleeps is not told of. */
static void reads_in_region(struct worker *w)
{
	STORE(list_slot(w->list, w->id)->no_upcall, 1);
	w->result = *(volatile char *)w->arg;
	STORE(list_slot(w->list, w->id)->no_upcall, 0);
}

struct resolver {
	int uffd, ret;
	char *area;
	long page;
};

static void *resolver_main(void *arg)
{
	struct resolver *r = arg;

	r->ret = resolve(r->uffd, r->area, r->page, 'n');
	return NULL;
}

TEST_F(fault, in_region)
{
	struct resolver r = { self->uffd, -1, self->area, self->page };
	pthread_t t;
	__u64 id;

	id = worker_start_pop(&self->w, &self->l, reads_in_region, self->area);
	ASSERT_EQ(0, sched_enter(&self->s));
	ASSERT_EQ(0, thread_start(&t, resolver_main, &r));
	ASSERT_EQ(0, sched_run(&self->s, id, 0));
	EXPECT_EVENT(&self->s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ('n', self->w.result);
	ASSERT_EQ(0, pthread_join(t, NULL));
	EXPECT_EQ(0, r.ret);
}

/* The upcall stack itself may be missing: that sleep is the scheduler's own. */
TEST_F(fault, upcall_stack)
{
	struct ums_scheduler_args a = {
		.entry = (uintptr_t)sched_entry,
		.stack = (uintptr_t)self->area,
		.stack_size = PAGES * self->page,
		.arg = (uintptr_t)&self->s,
	};
	__u64 id;

	id = worker_start_pop(&self->w, &self->l, reads_memory, &a);
	/* sched_entry does not touch it, so this one gets through. */
	ASSERT_EQ(0, sched_call(&self->s, NR_UMS_SCHEDULER_ENTER, (unsigned long)&a,
				sizeof(a), 0));
	ASSERT_EQ(0, worker_run_to_end(&self->s, &self->l, id));
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/* Completion lists: creation, pages, readiness, ends. ums_wait: wait_test.c */
#include "ums_test.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>

static void nothing(struct worker *w)
{
}

static void yields(struct worker *w)
{
	while (!w->result)
		ums_yield(0, 0);
}

static short polled(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLRDNORM };

	return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

TEST(create)
{
	struct list l;
	__u64 end;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 100));
	EXPECT_EQ(FD_CLOEXEC, fcntl(l.fd, F_GETFD));
	EXPECT_EQ(100, l.head->max_workers);
	EXPECT_EQ(l.args.list_nr, l.head->list_nr);
	EXPECT_GT(UMS_MAX_LISTS, l.args.list_nr);
	EXPECT_EQ(0, l.head->tail);
	EXPECT_EQ(0, l.head->head);
	EXPECT_EQ(0, l.head->closed);
	/* A power of two, with a place for each worker. */
	EXPECT_EQ(0, l.head->ring_mask & (l.head->ring_mask + 1));
	EXPECT_LE(99, l.head->ring_mask);
	EXPECT_LE(sizeof(*l.head), l.args.ring_offset);
	EXPECT_EQ(0, l.args.ring_offset % 64);
	EXPECT_EQ(0, l.args.slots_offset % 64);
	end = l.args.ring_offset + (l.head->ring_mask + 1ULL) * sizeof(__u64);
	EXPECT_TRUE(end <= l.args.slots_offset ||
		    l.args.slots_offset + 100 * sizeof(struct ums_slot) <=
		    l.args.ring_offset);
	EXPECT_LE(end, l.args.mmap_size);
	EXPECT_LE(l.args.slots_offset + 100 * sizeof(struct ums_slot),
		  l.args.mmap_size);
	EXPECT_EQ(0, l.args.mmap_size % sysconf(_SC_PAGESIZE));
	list_close(&l);
}

static long try_create(__u64 flags, __u32 max_workers)
{
	struct ums_create_args a = { .flags = flags, .max_workers = max_workers };

	return ums_create(&a, sizeof(a));
}

TEST(create_errors)
{
	struct ums_create_args a = { .max_workers = 1 }, *ro;
	int fd, next;

	UMS_REQUIRE();
	next = dup(0);
	ASSERT_LE(0, next);
	close(next);
	EXPECT_EQ(-EINVAL, try_create(1, 1));
	EXPECT_EQ(-EINVAL, try_create(1ULL << 63, 1));
	EXPECT_EQ(-EINVAL, try_create(0, 0));
	EXPECT_EQ(-EINVAL, try_create(0, UMS_MAX_WORKERS + 1));
	EXPECT_EQ(-EINVAL, try_create(0, ~0U));
	EXPECT_EQ(-EINVAL, ums_create(&a, UMS_CREATE_ARGS_SIZE_VER0 - 1));
	EXPECT_EQ(-EINVAL, ums_create(&a, 0));
	EXPECT_EQ(-E2BIG, ums_create(&a, 4097));
	EXPECT_EQ(-EFAULT, ums_create((void *)-4096L, sizeof(a)));
	EXPECT_EQ(-EFAULT, ums_create((void *)8L, sizeof(a)));

	/* What cannot be written back is not made. */
	ro = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		  -1, 0);
	ASSERT_NE(MAP_FAILED, ro);
	ro->max_workers = 1;
	ASSERT_EQ(0, mprotect(ro, 4096, PROT_READ));
	EXPECT_EQ(-EFAULT, ums_create(ro, sizeof(*ro)));

	fd = dup(0);
	EXPECT_EQ(next, fd);
	close(fd);
}

TEST(create_emfile)
{
	struct rlimit rl = { .rlim_cur = 3, .rlim_max = 4096 };

	UMS_REQUIRE();
	while (dup(0) < 10)
		;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &rl));
	EXPECT_EQ(-EMFILE, try_create(0, 1));
}

TEST(largest)
{
	struct list l;
	int ret;

	UMS_REQUIRE();
	ret = list_open(&l, UMS_MAX_WORKERS);
	/* 136 MiB of memory, which a small guest need not have. */
	if (ret == -ENOMEM)
		SKIP(return, "not enough memory for 2^20 workers");
	ASSERT_EQ(0, ret);
	EXPECT_EQ(UMS_MAX_WORKERS - 1, l.head->ring_mask);
	EXPECT_EQ(0, l.slots[UMS_MAX_WORKERS - 1].id);
	list_close(&l);
}

/* As many as the ids have room for, each with a number of its own. */
TEST(max_lists)
{
	struct rlimit rl = { UMS_MAX_LISTS + 100, UMS_MAX_LISTS + 100 };
	static unsigned char seen[UMS_MAX_LISTS];
	static int fds[UMS_MAX_LISTS];
	struct ums_create_args a;
	unsigned int n;
	long fd;

	UMS_REQUIRE();
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &rl));
	for (n = 0; n < UMS_MAX_LISTS; n++) {
		a = (struct ums_create_args) { .max_workers = 1 };
		fd = ums_create(&a, sizeof(a));
		ASSERT_LE(0, fd) TH_LOG("list %u", n);
		fds[n] = fd;
		ASSERT_GT(UMS_MAX_LISTS, a.list_nr);
		ASSERT_EQ(0, seen[a.list_nr]);
		seen[a.list_nr] = 1;
	}
	EXPECT_EQ(-ENOSPC, try_create(0, 1));
	close(fds[1234]);
	fd = try_create(0, 1);
	EXPECT_LE(0, fd);
	EXPECT_EQ(-ENOSPC, try_create(0, 1));
}

TEST(mmap_rules)
{
	struct ums_create_args a = { .max_workers = 1000 };
	long page = sysconf(_SC_PAGESIZE);
	int fd;
	void *p;

	UMS_REQUIRE();
	fd = ums_create(&a, sizeof(a));
	ASSERT_LE(0, fd);
	ASSERT_LT(2 * page, a.mmap_size);

	EXPECT_EQ(MAP_FAILED, mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED,
				   fd, page));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, a.mmap_size + page, PROT_READ | PROT_WRITE,
				   MAP_SHARED, fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE,
				   fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED,
				   fd, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_SHARED, fd, 0));
	EXPECT_EQ(EPERM, errno);

	/* Reading only, or less of it. */
	p = mmap(NULL, a.mmap_size, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(1000, ((struct ums_list_header *)p)->max_workers);
	/* What was mapped does not become executable later, either. */
	EXPECT_EQ(-1, mprotect(p, page, PROT_READ | PROT_EXEC));
	EXPECT_EQ(0, munmap(p, a.mmap_size));
	p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(1000, ((struct ums_list_header *)p)->max_workers);
	/* Nor does it grow over the rest by mremap(). */
	EXPECT_EQ(MAP_FAILED, mremap(p, page, a.mmap_size + page, MREMAP_MAYMOVE));
	EXPECT_EQ(0, munmap(p, page));

	/* Any number of mappings show the same pages. */
	p = mmap(NULL, a.mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	((struct ums_slot *)(p + a.slots_offset))[999].user_data = 42;
	munmap(p, a.mmap_size);
	p = mmap(NULL, a.mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(42, ((struct ums_slot *)(p + a.slots_offset))[999].user_data);
	munmap(p, a.mmap_size);
}

/* Without its pages mapped, a list works as before for all but popping. */
TEST(unmapped)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 4));
	id = worker_start_pop(&w, &l, yields, NULL);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, munmap(l.head, l.args.mmap_size));
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	while (s.reason == UMS_UPCALL_BLOCKED) {
		ASSERT_EQ(0, ums_wait(l.fd, NULL, 0));
		ASSERT_EQ(-EEXIST, sched_run(&s, id, 0));
		l.head = mmap(NULL, l.args.mmap_size, PROT_READ | PROT_WRITE,
			      MAP_SHARED, l.fd, 0);
		ASSERT_NE(MAP_FAILED, l.head);
		l.ring = (void *)l.head + l.args.ring_offset;
		ASSERT_EQ(id, list_pop(&l));
		munmap(l.head, l.args.mmap_size);
		ASSERT_EQ(0, sched_run(&s, id, 0));
	}
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 0);
}

TEST(read_write)
{
	struct list l;
	__u64 x = 0;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	EXPECT_EQ(-1, read(l.fd, &x, sizeof(x)));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, write(l.fd, &x, sizeof(x)));
	EXPECT_EQ(EINVAL, errno);
	list_close(&l);
}

/* poll, select and epoll: readable while it is non-empty, not only once. */
TEST(readiness)
{
	struct timeval tv = {};
	struct epoll_event ev = { .events = EPOLLIN };
	struct worker w[2] = {};
	struct list l;
	int ep, i;
	fd_set r;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 2));
	ep = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_LE(0, ep);
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, l.fd, &ev));

	EXPECT_EQ(0, polled(l.fd));
	EXPECT_EQ(0, epoll_wait(ep, &ev, 1, 0));
	ASSERT_EQ(0, worker_start(&w[0], &l, nothing, NULL));
	EXPECT_EQ(1, epoll_wait(ep, &ev, 1, LIMIT_S * 1000));
	ASSERT_EQ(0, worker_start(&w[1], &l, nothing, NULL));
	ASSERT_TRUE(WAIT_FOR(LOAD(l.head->tail) == 2));

	for (i = 0; i < 2; i++) {
		EXPECT_EQ(POLLIN | POLLRDNORM, polled(l.fd));
		EXPECT_EQ(POLLIN | POLLRDNORM, polled(l.fd));
		EXPECT_EQ(1, epoll_wait(ep, &ev, 1, 0));
		EXPECT_EQ(1, epoll_wait(ep, &ev, 1, 0));
		EXPECT_EQ(EPOLLIN, ev.events);
		FD_ZERO(&r);
		FD_SET(l.fd, &r);
		EXPECT_EQ(1, select(l.fd + 1, &r, NULL, NULL, &tv));
		EXPECT_TRUE(FD_ISSET(l.fd, &r));
		ASSERT_NE(0, list_pop(&l));
	}
	EXPECT_EQ(0, polled(l.fd));
	EXPECT_EQ(0, epoll_wait(ep, &ev, 1, 0));
	FD_ZERO(&r);
	FD_SET(l.fd, &r);
	EXPECT_EQ(0, select(l.fd + 1, &r, NULL, NULL, &tv));
}

/* Each sleeper in poll, select and epoll wakes when something arrives. */
struct sleeper {
	struct list *l;
	pid_t tid;
	int how;
	int ret;
};

static void *sleep_until_ready(void *arg)
{
	struct sleeper *z = arg;
	struct pollfd p = { .fd = z->l->fd, .events = POLLIN };
	struct epoll_event ev = { .events = EPOLLIN };
	fd_set r;
	int ep;

	STORE(z->tid, self_tid());
	switch (z->how) {
	case 0:
		z->ret = syscall(SYS_poll, &p, 1, -1);
		break;
	case 1:
		FD_ZERO(&r);
		FD_SET(z->l->fd, &r);
		z->ret = syscall(SYS_select, z->l->fd + 1, &r, NULL, NULL, NULL);
		break;
	default:
		ep = epoll_create1(0);
		epoll_ctl(ep, EPOLL_CTL_ADD, z->l->fd, &ev);
		z->ret = syscall(SYS_epoll_wait, ep, &ev, 1, -1);
		close(ep);
	}
	return NULL;
}

TEST(readiness_wakes)
{
	static const int nr[] = { SYS_poll, SYS_select, SYS_epoll_wait };
	struct sleeper z[3];
	struct worker w = {};
	pthread_t t[3];
	struct list l;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	for (i = 0; i < 3; i++) {
		z[i] = (struct sleeper) { .l = &l, .how = i };
		ASSERT_EQ(0, thread_start(&t[i], sleep_until_ready, &z[i]));
	}
	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(WAIT_FOR(thread_sleeps_in(LOAD(z[i].tid), nr[i])));
	}
	ASSERT_EQ(0, worker_start(&w, &l, nothing, NULL));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, pthread_join(t[i], NULL));
		EXPECT_EQ(1, z[i].ret);
	}
}

/* First in, first out. */
TEST(order)
{
	struct worker w[16] = {};
	struct list l;
	__u64 id;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 16));
	for (i = 0; i < 16; i++) {
		ASSERT_EQ(0, worker_start(&w[i], &l, nothing, NULL));
		ASSERT_TRUE(WAIT_FOR(LOAD(l.head->tail) == i + 1));
	}
	for (i = 0; i < 16; i++) {
		id = list_pop(&l);
		EXPECT_EQ(w[i].tid, list_slot(&l, id)->tid);
	}
	EXPECT_EQ(0, list_pop(&l));
}

TEST(pop_many)
{
	struct worker w[10] = {};
	__u64 ids[16] = {};
	struct list l;
	int i, k;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 10));
	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, worker_start(&w[i], &l, nothing, NULL));
	}
	ASSERT_TRUE(WAIT_FOR(LOAD(l.head->tail) == 10));
	EXPECT_EQ(3, list_pop_many(&l, ids, 3));
	EXPECT_EQ(7, list_pop_many(&l, ids + 3, 13));
	EXPECT_EQ(0, list_pop_many(&l, ids, 16));
	EXPECT_EQ(0, polled(l.fd));
	for (i = 0; i < 10; i++) {
		EXPECT_NE(0, ids[i]);
		for (k = 0; k < i; k++) {
			EXPECT_NE(ids[k], ids[i]);
		}
	}
}

/*
 * Schedulers that take one, and schedulers that take many, from a ring that
 * goes round often. Each publication is popped exactly once: what is popped
 * twice cannot be executed the second time, and what is lost never ends.
 */
#define POP_WORKERS	24
#define POP_SCHEDS	4
#define POP_ROUNDS	60

struct popper {
	struct list *l;
	unsigned int many;
	__u64 popped;
	long error;
	pthread_t t;
};

static int pop_left;

static void publishes(struct worker *w)
{
	int i;

	for (i = 0; i < POP_ROUNDS; i++)
		ums_yield(i, UMS_YIELD_PUBLISH);
}

static void *popper_main(void *arg)
{
	struct popper *p = arg;
	struct __kernel_timespec ts = { .tv_nsec = 20 * MSEC };
	unsigned int i, n;
	struct sched s;
	__u64 ids[8];

	p->error = sched_enter(&s);
	while (!p->error && LOAD(pop_left)) {
		n = list_pop_many(p->l, ids, p->many);
		p->popped += n;
		if (!n)
			ums_wait(p->l->fd, &ts, 0);
		for (i = 0; i < n && !p->error; i++) {
			p->error = sched_run(&s, ids[i], 0);
			if (!p->error && s.reason == UMS_UPCALL_EXITED)
				__atomic_fetch_sub(&pop_left, 1, __ATOMIC_ACQ_REL);
		}
	}
	return NULL;
}

TEST(pop_by_many)
{
	struct popper p[POP_SCHEDS];
	struct worker w[POP_WORKERS] = {};
	__u64 popped = 0;
	struct list l;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, POP_WORKERS));
	pop_left = POP_WORKERS;
	for (i = 0; i < POP_SCHEDS; i++) {
		p[i] = (struct popper) { .l = &l, .many = i < 2 ? 1 : 8 };
		ASSERT_EQ(0, thread_start(&p[i].t, popper_main, &p[i]));
	}
	for (i = 0; i < POP_WORKERS; i++) {
		ASSERT_EQ(0, worker_start(&w[i], &l, publishes, NULL));
	}
	for (i = 0; i < POP_SCHEDS; i++) {
		ASSERT_EQ(0, pthread_join(p[i].t, NULL));
		EXPECT_EQ(0, p[i].error);
		popped += p[i].popped;
	}
	EXPECT_EQ(l.head->tail, popped);
	EXPECT_EQ(l.head->head, popped);
	EXPECT_LE(POP_WORKERS * (POP_ROUNDS + 1), popped);
	EXPECT_EQ(0, pop_left);
}

/* Several lists: a worker stays on its own, one scheduler serves them all. */
TEST(many_lists)
{
	struct list l[5];
	struct worker w[5] = {};
	struct sched s;
	__u64 id[5];
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, list_open(&l[i], 2));
		ASSERT_EQ(0, worker_start(&w[i], &l[i], yields, NULL));
	}
	for (i = 0; i < 5; i++) {
		id[i] = list_pop_wait(&l[i]);
		ASSERT_NE(0, id[i]);
		EXPECT_EQ(l[i].args.list_nr, UMS_ID_LIST(id[i]));
		EXPECT_EQ(w[i].tid, list_slot(&l[i], id[i])->tid);
	}
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, sched_run(&s, id[i], 0));
		EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id[i], 0);
	}
	for (i = 0; i < 5; i++) {
		w[i].result = 1;
		EXPECT_EQ(0, worker_run_to_end(&s, &l[i], id[i]));
	}
}

/* Ready workers become ordinary threads, and the ids go. */
TEST(close_releases_ready)
{
	struct worker w[3] = {};
	struct ums_info info;
	struct list l;
	__u64 id;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 3));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, worker_start(&w[i], &l, nothing, NULL));
	}
	ASSERT_TRUE(WAIT_FOR(LOAD(l.head->tail) == 3));
	id = list_pop(&l);
	ASSERT_NE(0, id);
	close(l.fd);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, pthread_join(w[i].thread, NULL));
	}
	EXPECT_NE(0, l.head->closed);
	EXPECT_EQ(-ESRCH, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
	EXPECT_EQ(-ESRCH, ums_preempt(id, 0));
	EXPECT_EQ(-ESRCH, ums_set(UMS_SET_USER_DATA, id, 1));
	munmap(l.head, l.args.mmap_size);
}

static void reads_pipe(struct worker *w)
{
	char c;

	w->result = read(w->fd[0], &c, 1);
	STORE(w->stage, 1);
}

/* A blocked one is released when its call returns. */
TEST(close_releases_blocked)
{
	struct worker w = {};
	struct ums_info info;
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, reads_pipe, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
	list_close(&l);
	EXPECT_EQ(-ESRCH, sched_run(&s, id, 0));
	EXPECT_EQ(0, LOAD(w.stage));
	ASSERT_EQ(1, write(w.fd[1], "x", 1));
	ASSERT_EQ(0, pthread_join(w.thread, NULL));
	EXPECT_EQ(1, w.result);
	ASSERT_EQ(-ESRCH, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
}

static void closes_list(struct worker *w)
{
	struct ums_info info;

	w->result = close(w->list->fd);
	STORE(w->stage, 1);
	/* What would have parked it sets it free. */
	sleep_ns(30 * MSEC);
	memset(&info, 0xff, sizeof(info));
	ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info));
	STORE(w->stage, info.role == UMS_ROLE_NONE ? 2 : 3);
}

/* The worker that runs closes its own list. */
TEST(close_by_worker)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, closes_list, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	/* Some upcall gives the scheduler its thread back, whichever fits. */
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EQ(0, pthread_join(w.thread, NULL));
	EXPECT_EQ(0, w.result);
	EXPECT_EQ(2, w.stage);
	EXPECT_NE(0, l.head->closed);
	EXPECT_EQ(-ESRCH, sched_run(&s, id, 0));
}

/* Only the last descriptor of the process closes the list. */
TEST(close_of_duplicate)
{
	struct worker w = {};
	struct list l;
	int fd;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 2));
	fd = dup(l.fd);
	ASSERT_LE(0, fd);
	close(l.fd);
	EXPECT_EQ(0, l.head->closed);
	l.fd = fd;
	EXPECT_NE(0, worker_start_pop(&w, &l, nothing, NULL));
	close(fd);
	EXPECT_NE(0, l.head->closed);
	ASSERT_EQ(0, pthread_join(w.thread, NULL));
}

/* A child has the descriptor, for which it has no use. */
TEST(fork_exdev)
{
	struct __kernel_timespec zero = {};
	struct ums_worker_args wa = {};
	struct worker w = {};
	struct list l;
	int status;
	pid_t pid;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 2));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct ums_create_args own = { .max_workers = 1 };
		int bad = 0;
		long fd;

		if (ums_wait(l.fd, &zero, 0) != -EXDEV)
			bad |= 1;
		if (ums_worker_enter(l.fd, &wa, sizeof(wa)) != -EXDEV)
			bad |= 2;
		if (mmap(NULL, l.args.mmap_size, PROT_READ, MAP_SHARED, l.fd, 0) !=
		    MAP_FAILED || errno != EXDEV)
			bad |= 4;
		/* Its pages were not copied. */
		if (!mprotect(l.head, 4096, PROT_READ) || errno != ENOMEM)
			bad |= 8;
		/* A list of its own starts afresh. */
		fd = ums_create(&own, sizeof(own));
		if (fd < 0)
			bad |= 16;
		close(l.fd);
		_exit(bad);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	/* That the child closed it means nothing here. */
	EXPECT_EQ(0, l.head->closed);
	EXPECT_NE(0, worker_start_pop(&w, &l, nothing, NULL));
}

/*
 * The child keeps its copy open: the list of the parent closes when the parent
 * closes its own last one.
 */
TEST(close_despite_child)
{
	struct worker w = {};
	int p[2], status;
	struct list l;
	pid_t pid;
	char c;

	UMS_REQUIRE();
	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(0, list_open(&l, 2));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(p[1]);
		_exit(read(p[0], &c, 1));
	}
	ASSERT_NE(0, worker_start_pop(&w, &l, nothing, NULL));
	close(l.fd);
	EXPECT_NE(0, l.head->closed);
	EXPECT_EQ(0, pthread_join(w.thread, NULL));
	close(p[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/*
 * Another process polls the list when its owner ends, by itself or killed, without
 * having closed anything. It hears of that.
 */
static void outlives(int fd, int ready, int told)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c = 0;

	if (write(ready, &c, 1) == 1 && poll(&p, 1, LIMIT_S * 1000) == 1)
		c = p.revents & (POLLHUP | POLLERR);
	_exit(write(told, &c, 1) != 1);
}

TEST(owner_ends)
{
	int ready[2], told[2], status, i;
	pid_t pid;
	char c;

	UMS_REQUIRE();
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, pipe(ready));
		ASSERT_EQ(0, pipe(told));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			struct list l;
			pid_t other;

			if (list_open(&l, 1))
				_exit(1);
			other = fork();
			if (!other)
				outlives(l.fd, ready[1], told[1]);
			if (other < 0 || read(ready[0], &c, 1) != 1 ||
			    !WAIT_FOR(thread_state(other, other) == 'S'))
				_exit(2);
			if (i)
				kill(getpid(), SIGKILL);
			_exit(0);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(i ? SIGKILL : 0, status);
		ASSERT_EQ(1, read(told[0], &c, 1));
		EXPECT_EQ(POLLHUP | POLLERR, c);
	}
}

static int send_fd(int sock, int fd)
{
	char buf[CMSG_SPACE(sizeof(int))] = {}, c = 0;
	struct iovec io = { .iov_base = &c, .iov_len = 1 };
	struct msghdr m = {
		.msg_iov = &io, .msg_iovlen = 1,
		.msg_control = buf, .msg_controllen = sizeof(buf),
	};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof(fd));
	return sendmsg(sock, &m, 0);
}

static int receive_fd(int sock)
{
	char buf[CMSG_SPACE(sizeof(int))] = {}, c;
	struct iovec io = { .iov_base = &c, .iov_len = 1 };
	struct msghdr m = {
		.msg_iov = &io, .msg_iovlen = 1,
		.msg_control = buf, .msg_controllen = sizeof(buf),
	};
	int fd;

	if (recvmsg(sock, &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

/* Sent over a socket, it reaches nobody's threads from there. */
TEST(sent_to_other_process)
{
	struct __kernel_timespec zero = {};
	struct ums_worker_args wa = {};
	struct worker w = {};
	int sk[2], status;
	struct list l;
	pid_t pid;

	UMS_REQUIRE();
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int fd = receive_fd(sk[1]), bad = 0;

		if (ums_wait(fd, &zero, 0) != -EXDEV)
			bad |= 1;
		if (ums_worker_enter(fd, &wa, sizeof(wa)) != -EXDEV)
			bad |= 2;
		if (mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED ||
		    errno != EXDEV)
			bad |= 4;
		close(fd);
		_exit(bad);
	}
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(1, send_fd(sk[0], l.fd));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, l.head->closed);
	EXPECT_NE(0, worker_start_pop(&w, &l, nothing, NULL));
}

/* Back from a socket after the process let go of it: the list is closed. */
TEST(closed_while_in_flight)
{
	struct __kernel_timespec zero = {};
	struct ums_worker_args wa = {};
	struct pollfd p = { .events = POLLIN };
	struct list l;
	int sk[2], fd;

	UMS_REQUIRE();
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(1, send_fd(sk[0], l.fd));
	close(l.fd);
	fd = receive_fd(sk[1]);
	ASSERT_LE(0, fd);
	EXPECT_NE(0, l.head->closed);
	EXPECT_EQ(-EBADF, ums_wait(fd, &zero, 0));
	EXPECT_EQ(-EBADF, ums_worker_enter(fd, &wa, sizeof(wa)));
	p.fd = fd;
	EXPECT_EQ(1, poll(&p, 1, 0));
	EXPECT_EQ(POLLHUP | POLLERR, p.revents & (POLLHUP | POLLERR));
	close(fd);
}

TEST_HARNESS_MAIN

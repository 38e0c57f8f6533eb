// SPDX-License-Identifier: GPL-2.0
/*
 * Each upcall with its worker and detail, and when there is none. Which calls
 * block: block_test.c; registers and stack: upcall_abi_test.c.
 */
#include "ums_test.h"

#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

static int memory_fd(void)
{
	return memfd_create("ums", MFD_CLOEXEC);
}

TEST(startup)
{
	struct sched s;

	UMS_REQUIRE();
	ASSERT_EQ(0, sched_enter_at(&s, sched_entry, 0x123456789abcdef0ULL));
	EXPECT_EVENT(&s, UMS_UPCALL_STARTUP, 0, 0x123456789abcdef0ULL);
	EXPECT_EQ(1, s.upcalls);
}

static void yields_all(struct worker *w)
{
	ums_yield(0, 0);
	ums_yield(~0ULL, 0);
	ums_yield(1ULL << 63, 0);
	ums_yield(42, UMS_YIELD_PUBLISH);
}

TEST(yielded)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, yields_all, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 0);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, ~0ULL);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 1ULL << 63);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 42);
	ASSERT_EQ(id, list_pop(&l));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
}

/*
 * What does not sleep makes no upcall. Each in a loop, so that a rare one
 * would be seen; then a yield, which has to be the next that is heard of.
 */
#define ROUNDS 200

static void calls_that_do_not_sleep(struct worker *w)
{
	char buf[256] = "", *map;
	struct pollfd pfd;
	int sk[2], p[2], fd, i;
	struct iovec io = { buf, sizeof(buf) };
	int word = 0;

	if (pipe(p) || socketpair(AF_UNIX, SOCK_STREAM, 0, sk)) {
		w->result = -1;
		return;
	}
	fd = memory_fd();
	pfd = (struct pollfd) { .fd = p[0], .events = POLLIN };
	for (i = 0; i < ROUNDS; i++) {
		syscall(SYS_getppid);
		syscall(SYS_gettid);
		sched_yield();
		/* A pipe and a socket with room, then with data. */
		w->result |= write(p[1], buf, 10) != 10;
		w->result |= (poll(&pfd, 1, -1) != 1) << 1;
		w->result |= (read(p[0], buf, sizeof(buf)) != 10) << 2;
		w->result |= (poll(&pfd, 1, 0) != 0) << 3;
		w->result |= (writev(sk[0], &io, 1) != sizeof(buf)) << 4;
		w->result |= (read(sk[1], buf, sizeof(buf)) != sizeof(buf)) << 5;
		w->result |= (recv(sk[1], buf, 1, MSG_DONTWAIT) != -1) << 6;
		/* Memory, and a file in memory. */
		w->result |= (pwrite(fd, buf, sizeof(buf), 0) != sizeof(buf)) << 7;
		w->result |= (pread(fd, buf, sizeof(buf), 0) != sizeof(buf)) << 8;
		/* Futexes whose value has changed, and to wake nobody. */
		w->result |= (syscall(SYS_futex, &word, 0, 1, NULL, NULL, 0) != -1)
			     << 9;
		w->result |= (syscall(SYS_futex, &word, 1, 1, NULL, NULL, 0) != 0)
			     << 10;
		/* Errors. */
		w->result |= (syscall(SYS_read, -1, buf, 1) != -1) << 11;
		w->result |= (syscall(999) != -1) << 12;
		/* Page faults for which memory is there. */
		map = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		w->result |= (map == MAP_FAILED) << 13;
		if (map != MAP_FAILED) {
			munlock(map, 4 * 4096);
			madvise(map, 4 * 4096, MADV_DONTNEED);
			map[0] = 1;
			map[4096] = 1;
			w->result |= map[2 * 4096] << 14;
			munmap(map, 4 * 4096);
		}
	}
	ums_yield(1, 0);
}

TEST(not_blocked)
{
	struct worker w = {};
	struct ums_info info;
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, calls_that_do_not_sleep, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_YIELDED, id, 1);
	EXPECT_EQ(0, w.result);
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
	EXPECT_EQ(0, info.blocks_syscall);
	EXPECT_EQ(0, info.blocks_fault);
	EXPECT_EQ(1, info.executes);
	EXPECT_EQ(1, info.publishes);
	EXPECT_EQ(0, list_slot(&l, id)->blocks);
	EXPECT_TRUE(list_empty(&l));
	EXPECT_EQ(2, s.upcalls);
}

static void spins_yielding_cpu(struct worker *w)
{
	while (!LOAD(w->stage)) {
		sched_yield();
		INC(w->result);
	}
	ums_yield(2, 0);
}

static void *competes(void *arg)
{
	struct worker *w = arg;
	__u64 end;

	/* Takes the CPU away again and again, for half a second. */
	for (end = now_ns() + NSEC / 2; now_ns() < end; )
		sched_yield();
	if (!WAIT_FOR(LOAD(w->result) > 10))
		STORE(w->result, 0);
	STORE(w->stage, 1);
	return NULL;
}

/* To lose the CPU to others is not to block. */
TEST(not_blocked_by_the_kernels_preemption)
{
	struct worker w = {};
	pthread_t t[3];
	struct sched s;
	struct list l;
	__u64 id;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, spins_yielding_cpu, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, thread_start(&t[i], competes, &w));
	}
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 2);
	EXPECT_LT(10, w.result);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, pthread_join(t[i], NULL));
	}
}

/*
 * A blocked worker is told of before it can be popped, is published exactly
 * once for each block, and what is popped can be executed at once.
 */
static void ping(struct worker *w)
{
	int i, *fd = w->arg;
	char c = 'x';

	for (i = 0; i < 200; i++) {
		if (read(fd[0], &c, 1) != 1 || write(fd[1], &c, 1) != 1)
			w->result = 1;
	}
}

TEST(order)
{
	struct worker w[2] = {};
	int a[2], b[2], fds[2][2];
	int in_kernel[2] = { 1, 1 }, left = 2, n = 2, i;
	__u64 blocks[2] = {}, id[2], x;
	struct sched s;
	struct list l;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(a));
	ASSERT_EQ(0, pipe(b));
	fds[0][0] = a[0];
	fds[0][1] = b[1];
	fds[1][0] = b[0];
	fds[1][1] = a[1];
	ASSERT_EQ(0, list_open(&l, 2));
	for (i = 0; i < 2; i++)
		id[i] = worker_start_pop(&w[i], &l, ping, fds[i]);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(1, write(a[1], "x", 1));
	while (left) {
		/* First the two new ones, then as they come. */
		x = n ? id[--n] : list_pop_wait(&l);
		i = x == id[1];
		ASSERT_EQ(id[i], x);
		/* Popped, so it was blocked, and was told of that. */
		ASSERT_EQ(1, in_kernel[i]);
		in_kernel[i] = 0;
		ASSERT_EQ(0, sched_run(&s, x, 0));
		ASSERT_EQ(x, s.worker);
		if (s.reason == UMS_UPCALL_EXITED) {
			left--;
		} else {
			ASSERT_EQ(UMS_UPCALL_BLOCKED, s.reason);
			in_kernel[i] = 1;
			blocks[i]++;
		}
	}
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(blocks[i], list_slot(&l, id[i])->blocks);
		EXPECT_EQ(blocks[i] + 1, list_slot(&l, id[i])->executes);
		EXPECT_EQ(0, w[i].result);
	}
	EXPECT_EQ(blocks[0] + blocks[1] + 2, l.head->tail);
	EXPECT_TRUE(list_empty(&l));
}

/*
 * Once it has blocked, a worker finishes its call on its own: it sleeps again
 * without upcalls, and is published when the call is done, not before. (Where
 * it is published by who wakes it, see hold_test.)
 */
static void reads_all(struct worker *w)
{
	char buf[8];

	w->result = recv(w->fd[0], buf, sizeof(buf), MSG_WAITALL);
}

/* A connection over the loopback interface: its readers sleep unmarked. */
static int tcp_pair(int fd[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd[1] = socket(AF_INET, SOCK_STREAM, 0);
	if (l < 0 || fd[1] < 0 || bind(l, (void *)&a, len) || listen(l, 1) ||
	    getsockname(l, (void *)&a, &len) || connect(fd[1], (void *)&a, len))
		return -1;
	fd[0] = accept(l, NULL, NULL);
	close(l);
	return fd[0] < 0 ? -1 : 0;
}

TEST(one_upcall_per_call)
{
	struct worker w = {};
	struct ums_info info;
	struct sched s;
	struct list l;
	__u64 id;
	int i;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, tcp_pair(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, reads_all, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_recvfrom);
	for (i = 0; i < 8; i++) {
		ASSERT_TRUE(WAIT_FOR(thread_sleeps_in(w.tid, SYS_recvfrom)));
		EXPECT_TRUE(list_empty(&l));
		EXPECT_EQ(UMS_STATE_BLOCKED, slot_state(&l, id));
		ASSERT_EQ(1, write(w.fd[1], "x", 1));
	}
	ASSERT_EQ(id, list_pop_wait(&l));
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
	EXPECT_EQ(1, info.blocks_syscall);
	EXPECT_EQ(2, info.publishes);
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(8, w.result);
	EXPECT_EQ(2, s.upcalls - 1);
}

/* Unblocked while its scheduler does something else: it waits, parked. */
static void reads_then_marks(struct worker *w)
{
	char c;

	w->result = read(w->fd[0], &c, 1);
	STORE(w->stage, 1);
}

TEST(unblocked_does_not_run)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, pipe(w.fd));
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, reads_then_marks, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, SYS_read);
	ASSERT_EQ(1, write(w.fd[1], "x", 1));
	ASSERT_TRUE(WAIT_FOR(!list_empty(&l)));
	ASSERT_TRUE(WAIT_FOR(thread_state(getpid(), w.tid) == 'S'));
	sleep_ns(50 * MSEC);
	EXPECT_EQ(0, LOAD(w.stage));
	ASSERT_EQ(id, list_pop(&l));
	sleep_ns(50 * MSEC);
	EXPECT_EQ(0, LOAD(w.stage));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_EXITED, id, 0);
	EXPECT_EQ(1, w.stage);
	EXPECT_EQ(1, w.result);
}

TEST_HARNESS_MAIN

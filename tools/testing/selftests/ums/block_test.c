// SPDX-License-Identifier: GPL-2.0
/*
 * System calls that sleep, each with its own BLOCKED upcall: who, and in which
 * call. While it sleeps the worker is on no list; woken it is published, once,
 * and gets its result when it is executed.
 */
#include "ums_test.h"

#include <limits.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv		449
#endif
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2	441
#endif

/* What a case needs; @fd and @word mean what its functions make of them. */
struct ctx {
	int fd[4];
	int word;
	pid_t pid;
	pid_t worker_tid;
	char path[64];
	char buf[65536];
};

/*
 * @setup and @wake run in the scheduler, @call in the worker, whose result is
 * compared with @want. No @wake: it wakes by itself.
 */
struct block_case {
	long nr;
	int (*setup)(struct ctx *c);
	long (*call)(struct ctx *c);
	int (*wake)(struct ctx *c);
	long want;
};

struct job {
	const struct block_case *bc;
	struct ctx *c;
	int err;
};

static void job_fn(struct worker *w)
{
	struct job *j = w->arg;

	STORE(j->c->worker_tid, self_tid());
	errno = 0;
	w->result = j->bc->call(j->c);
	j->err = errno;
	/* Marks that user mode was reached. */
	STORE(w->stage, 1);
}

static void run_case(struct __test_metadata *_metadata, const struct block_case *bc)
{
	struct ctx *c = calloc(1, sizeof(*c));
	struct job j = { bc, c };
	struct worker w = {};
	struct ums_info info;
	struct sched s;
	struct list l;
	__u64 id;
	int ret;

	ASSERT_NE(NULL, c);
	/* The process of the test ends with it, and so does all it set up. */
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	if (bc->setup) {
		ret = bc->setup(c);
		ASSERT_EQ(0, ret) TH_LOG("setup: %s", strerror(errno));
	}
	id = worker_start_pop(&w, &l, job_fn, &j);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	ASSERT_EVENT(&s, UMS_UPCALL_BLOCKED, id, bc->nr);
	EXPECT_EQ(bc->nr, list_slot(&l, id)->cause);
	if (bc->wake) {
		EXPECT_TRUE(list_empty(&l));
		EXPECT_EQ(UMS_STATE_BLOCKED, slot_state(&l, id));
		EXPECT_EQ(-EAGAIN, sched_run(&s, id, 0));
		ASSERT_TRUE(WAIT_FOR(thread_sleeps_in(w.tid, bc->nr)));
		EXPECT_TRUE(list_empty(&l));
		ret = bc->wake(c);
		ASSERT_EQ(0, ret) TH_LOG("wake: %s", strerror(errno));
	}
	ASSERT_EQ(id, list_pop_wait(&l));
	EXPECT_EQ(0, LOAD(w.stage));
	EXPECT_EQ(UMS_STATE_READY, slot_state(&l, id));
	ASSERT_EQ(0, ums_query(UMS_QUERY_WORKER, id, &info, sizeof(info)));
	EXPECT_EQ(1, info.blocks_syscall);
	EXPECT_EQ(0, info.blocks_fault);
	EXPECT_EQ(2, info.publishes);
	EXPECT_EQ(bc->nr, info.cause);
	ASSERT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_EQ(1, w.stage);
	EXPECT_EQ(bc->want, w.result) {
		TH_LOG("errno %d", j.err);
	}
}

#define BLOCK_TEST(name, ...)						\
	TEST(in_##name)							\
	{								\
		static const struct block_case bc = { __VA_ARGS__ };	\
									\
		UMS_REQUIRE();						\
		run_case(_metadata, &bc);				\
	}

/* ---- pipes */

static int setup_pipe(struct ctx *c)
{
	return pipe(c->fd);
}

static int setup_full_pipe(struct ctx *c)
{
	return pipe(c->fd) ?:
	       fcntl(c->fd[1], F_SETPIPE_SZ, 4096) < 0 ? -1 :
	       write(c->fd[1], c->buf, 4096) != 4096;
}

static int wake_write(struct ctx *c)
{
	return write(c->fd[1], "x", 1) != 1;
}

static int wake_drain(struct ctx *c)
{
	return read(c->fd[0], c->buf, 4096) != 4096;
}

static int wake_close(struct ctx *c)
{
	return close(c->fd[1]);
}

static long call_read(struct ctx *c)
{
	return syscall(SYS_read, c->fd[0], c->buf, 8);
}

static long call_write(struct ctx *c)
{
	return syscall(SYS_write, c->fd[1], c->buf, 100);
}

static long call_readv(struct ctx *c)
{
	struct iovec io = { c->buf, 8 };

	return syscall(SYS_readv, c->fd[0], &io, 1);
}

static long call_splice(struct ctx *c)
{
	return syscall(SYS_splice, c->fd[0], NULL, c->fd[3], NULL, 8L, 0);
}

static int setup_two_pipes(struct ctx *c)
{
	return pipe(c->fd) ?: pipe(c->fd + 2);
}

BLOCK_TEST(read_pipe, SYS_read, setup_pipe, call_read, wake_write, 1)
BLOCK_TEST(read_pipe_until_eof, SYS_read, setup_pipe, call_read, wake_close, 0)
BLOCK_TEST(readv_pipe, SYS_readv, setup_pipe, call_readv, wake_write, 1)
BLOCK_TEST(write_pipe, SYS_write, setup_full_pipe, call_write, wake_drain, 100)
BLOCK_TEST(splice, SYS_splice, setup_two_pipes, call_splice, wake_write, 1)

static int setup_fifo(struct ctx *c)
{
	snprintf(c->path, sizeof(c->path), "/dev/shm/ums-fifo-%d", getpid());
	return mkfifo(c->path, 0600);
}

static long call_open_fifo(struct ctx *c)
{
	return syscall(SYS_openat, AT_FDCWD, c->path, O_RDONLY) < 0;
}

static int wake_open_fifo(struct ctx *c)
{
	int fd = open(c->path, O_WRONLY | O_NONBLOCK);

	unlink(c->path);
	return fd < 0;
}

BLOCK_TEST(open_fifo, SYS_openat, setup_fifo, call_open_fifo, wake_open_fifo, 0)

/* ---- sleeping until a time */

static long call_nanosleep(struct ctx *c)
{
	struct timespec ts = { 0, 30 * MSEC };

	return syscall(SYS_nanosleep, &ts, NULL);
}

static long call_clock_nanosleep(struct ctx *c)
{
	struct timespec ts = { 0, 30 * MSEC };

	return syscall(SYS_clock_nanosleep, CLOCK_REALTIME, 0, &ts, NULL);
}

BLOCK_TEST(nanosleep, SYS_nanosleep, NULL, call_nanosleep, NULL, 0)
BLOCK_TEST(clock_nanosleep, SYS_clock_nanosleep, NULL, call_clock_nanosleep, NULL, 0)

static int setup_timerfd(struct ctx *c)
{
	c->fd[0] = timerfd_create(CLOCK_MONOTONIC, 0);
	return c->fd[0] < 0;
}

static int wake_timerfd(struct ctx *c)
{
	struct itimerspec it = { .it_value = { 0, 1 } };

	return timerfd_settime(c->fd[0], 0, &it, NULL);
}

BLOCK_TEST(timerfd, SYS_read, setup_timerfd, call_read, wake_timerfd, 8)

/* ---- futexes */

static long call_futex(struct ctx *c)
{
	return syscall(SYS_futex, &c->word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static long call_futex_private(struct ctx *c)
{
	return syscall(SYS_futex, &c->word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static long call_futex_bitset(struct ctx *c)
{
	return syscall(SYS_futex, &c->word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL,
		       FUTEX_BITSET_MATCH_ANY);
}

static int wake_futex(struct ctx *c)
{
	return syscall(SYS_futex, &c->word, FUTEX_WAKE, 1, NULL, NULL, 0) != 1;
}

static int wake_futex_private(struct ctx *c)
{
	return syscall(SYS_futex, &c->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) != 1;
}

static long call_futex_timeout(struct ctx *c)
{
	struct timespec ts = { 0, 30 * MSEC };

	syscall(SYS_futex, &c->word, FUTEX_WAIT_PRIVATE, 0, &ts, NULL, 0);
	return errno;
}

static long call_futex_waitv(struct ctx *c)
{
	struct futex_waitv v = {
		.uaddr = (uintptr_t)&c->word, .flags = FUTEX_32,
	};

	return syscall(SYS_futex_waitv, &v, 1, 0, NULL, 0);
}

BLOCK_TEST(futex, SYS_futex, NULL, call_futex, wake_futex, 0)
BLOCK_TEST(futex_private, SYS_futex, NULL, call_futex_private, wake_futex_private, 0)
BLOCK_TEST(futex_bitset, SYS_futex, NULL, call_futex_bitset, wake_futex_private, 0)
BLOCK_TEST(futex_timeout, SYS_futex, NULL, call_futex_timeout, NULL, ETIMEDOUT)
BLOCK_TEST(futex_waitv, SYS_futex_waitv, NULL, call_futex_waitv, wake_futex, 0)

/* The priority inheriting kind blocks on a lock with a scheduler hook of its own. */
static int setup_futex_pi(struct ctx *c)
{
	return syscall(SYS_futex, &c->word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0);
}

static long call_futex_pi(struct ctx *c)
{
	return syscall(SYS_futex, &c->word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0);
}

static int wake_futex_pi(struct ctx *c)
{
	return syscall(SYS_futex, &c->word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0);
}

BLOCK_TEST(futex_pi, SYS_futex, setup_futex_pi, call_futex_pi, wake_futex_pi, 0)

/* ---- readiness */

static long call_poll(struct ctx *c)
{
	struct pollfd p = { .fd = c->fd[0], .events = POLLIN };

	return syscall(SYS_poll, &p, 1, -1);
}

static long call_ppoll(struct ctx *c)
{
	struct pollfd p = { .fd = c->fd[0], .events = POLLIN };

	return syscall(SYS_ppoll, &p, 1, NULL, NULL, 8L);
}

static long call_select(struct ctx *c)
{
	fd_set r;

	FD_ZERO(&r);
	FD_SET(c->fd[0], &r);
	return syscall(SYS_select, c->fd[0] + 1, &r, NULL, NULL, NULL);
}

static long call_pselect(struct ctx *c)
{
	fd_set r;

	FD_ZERO(&r);
	FD_SET(c->fd[0], &r);
	return syscall(SYS_pselect6, c->fd[0] + 1, &r, NULL, NULL, NULL, NULL);
}

static int setup_epoll(struct ctx *c)
{
	struct epoll_event ev = { .events = EPOLLIN };

	if (pipe(c->fd))
		return -1;
	c->fd[2] = epoll_create1(0);
	return epoll_ctl(c->fd[2], EPOLL_CTL_ADD, c->fd[0], &ev);
}

static long call_epoll_wait(struct ctx *c)
{
	struct epoll_event ev;

	return syscall(SYS_epoll_wait, c->fd[2], &ev, 1, -1);
}

static long call_epoll_pwait(struct ctx *c)
{
	struct epoll_event ev;

	return syscall(SYS_epoll_pwait, c->fd[2], &ev, 1, -1, NULL, 8L);
}

static long call_epoll_pwait2(struct ctx *c)
{
	struct epoll_event ev;

	return syscall(SYS_epoll_pwait2, c->fd[2], &ev, 1, NULL, NULL, 8L);
}

BLOCK_TEST(poll, SYS_poll, setup_pipe, call_poll, wake_write, 1)
BLOCK_TEST(ppoll, SYS_ppoll, setup_pipe, call_ppoll, wake_write, 1)
BLOCK_TEST(select, SYS_select, setup_pipe, call_select, wake_write, 1)
BLOCK_TEST(pselect6, SYS_pselect6, setup_pipe, call_pselect, wake_write, 1)
BLOCK_TEST(epoll_wait, SYS_epoll_wait, setup_epoll, call_epoll_wait, wake_write, 1)
BLOCK_TEST(epoll_pwait, SYS_epoll_pwait, setup_epoll, call_epoll_pwait, wake_write, 1)
BLOCK_TEST(epoll_pwait2, SYS_epoll_pwait2, setup_epoll, call_epoll_pwait2, wake_write,
	   1)

/* ---- sockets */

static int setup_stream(struct ctx *c)
{
	return socketpair(AF_UNIX, SOCK_STREAM, 0, c->fd);
}

static int setup_full_stream(struct ctx *c)
{
	if (setup_stream(c))
		return -1;
	while (send(c->fd[1], c->buf, sizeof(c->buf), MSG_DONTWAIT) > 0)
		;
	return errno != EAGAIN;
}

static int wake_drain_stream(struct ctx *c)
{
	while (recv(c->fd[0], c->buf, sizeof(c->buf), MSG_DONTWAIT) > 0)
		;
	return errno != EAGAIN;
}

static long call_recvfrom(struct ctx *c)
{
	return syscall(SYS_recvfrom, c->fd[0], c->buf, 8L, 0, NULL, NULL);
}

static long call_recvmsg(struct ctx *c)
{
	struct iovec io = { c->buf, 8 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };

	return syscall(SYS_recvmsg, c->fd[0], &m, 0);
}

static long call_sendto(struct ctx *c)
{
	return syscall(SYS_sendto, c->fd[1], c->buf, 100L, 0, NULL, 0);
}

BLOCK_TEST(recvfrom, SYS_recvfrom, setup_stream, call_recvfrom, wake_write, 1)
BLOCK_TEST(recvmsg, SYS_recvmsg, setup_stream, call_recvmsg, wake_write, 1)
BLOCK_TEST(sendto, SYS_sendto, setup_full_stream, call_sendto, wake_drain_stream, 100)

static struct sockaddr_un unix_address(const char *what)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	/* Abstract: the first byte is 0. */
	snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "ums-%s-%d", what, getpid());
	return a;
}

static int setup_listen(struct ctx *c)
{
	struct sockaddr_un a = unix_address("listen");

	c->fd[0] = socket(AF_UNIX, SOCK_STREAM, 0);
	c->fd[1] = socket(AF_UNIX, SOCK_STREAM, 0);
	return bind(c->fd[0], (void *)&a, sizeof(a)) ?: listen(c->fd[0], 0);
}

static long call_accept(struct ctx *c)
{
	return syscall(SYS_accept, c->fd[0], NULL, NULL) < 0;
}

static long call_accept4(struct ctx *c)
{
	return syscall(SYS_accept4, c->fd[0], NULL, NULL, SOCK_CLOEXEC) < 0;
}

static int wake_connect(struct ctx *c)
{
	struct sockaddr_un a = unix_address("listen");

	return connect(c->fd[1], (void *)&a, sizeof(a));
}

/* With a backlog of 0, one connection waits, and the next sleeps. */
static int setup_backlog(struct ctx *c)
{
	struct sockaddr_un a = unix_address("listen");

	c->fd[2] = socket(AF_UNIX, SOCK_STREAM, 0);
	return setup_listen(c) ?: connect(c->fd[1], (void *)&a, sizeof(a));
}

static long call_connect(struct ctx *c)
{
	struct sockaddr_un a = unix_address("listen");

	return syscall(SYS_connect, c->fd[2], &a, sizeof(a));
}

static int wake_accept(struct ctx *c)
{
	return accept(c->fd[0], NULL, NULL) < 0;
}

BLOCK_TEST(accept, SYS_accept, setup_listen, call_accept, wake_connect, 0)
BLOCK_TEST(accept4, SYS_accept4, setup_listen, call_accept4, wake_connect, 0)
BLOCK_TEST(connect, SYS_connect, setup_backlog, call_connect, wake_accept, 0)

/* ---- children */

static int setup_child(struct ctx *c)
{
	char x;

	if (pipe(c->fd))
		return -1;
	c->pid = fork();
	if (!c->pid) {
		close(c->fd[1]);
		_exit(read(c->fd[0], &x, 1) ? 1 : 3);
	}
	return c->pid < 0;
}

static long call_wait4(struct ctx *c)
{
	int status = 0;

	if (syscall(SYS_wait4, c->pid, &status, 0, NULL) != c->pid)
		return -1;
	return status;
}

static long call_waitid(struct ctx *c)
{
	siginfo_t si = {};

	if (syscall(SYS_waitid, P_PID, c->pid, &si, WEXITED, NULL))
		return -1;
	return si.si_status;
}

BLOCK_TEST(wait4, SYS_wait4, setup_child, call_wait4, wake_close, 3 << 8)
BLOCK_TEST(waitid, SYS_waitid, setup_child, call_waitid, wake_close, 3)

/* ---- locks on files */

static int setup_locked_file(struct ctx *c)
{
	struct flock fl = { .l_type = F_WRLCK };

	snprintf(c->path, sizeof(c->path), "/dev/shm/ums-lock-%d", getpid());
	c->fd[0] = open(c->path, O_RDWR | O_CREAT | O_EXCL, 0600);
	c->fd[1] = open(c->path, O_RDWR);
	unlink(c->path);
	return flock(c->fd[0], LOCK_EX) ?: fcntl(c->fd[0], F_OFD_SETLK, &fl);
}

static long call_flock(struct ctx *c)
{
	return syscall(SYS_flock, c->fd[1], LOCK_EX);
}

static int wake_flock(struct ctx *c)
{
	return flock(c->fd[0], LOCK_UN);
}

static long call_setlkw(struct ctx *c)
{
	struct flock fl = { .l_type = F_WRLCK };

	return syscall(SYS_fcntl, c->fd[1], F_OFD_SETLKW, &fl);
}

static int wake_setlkw(struct ctx *c)
{
	struct flock fl = { .l_type = F_UNLCK };

	return fcntl(c->fd[0], F_OFD_SETLK, &fl);
}

BLOCK_TEST(flock, SYS_flock, setup_locked_file, call_flock, wake_flock, 0)
BLOCK_TEST(fcntl_setlkw, SYS_fcntl, setup_locked_file, call_setlkw, wake_setlkw, 0)

/* ---- System V and POSIX queues, semaphores */

struct message {
	long type;
	char text[8];
};

static int setup_msg(struct ctx *c)
{
	c->fd[0] = msgget(IPC_PRIVATE, 0600);
	return c->fd[0] < 0;
}

static int remove_msg(struct ctx *c)
{
	return msgctl(c->fd[0], IPC_RMID, NULL);
}

static long call_msgrcv(struct ctx *c)
{
	struct message m;

	syscall(SYS_msgrcv, c->fd[0], &m, sizeof(m.text), 0L, 0);
	/* Ends by the removal of the queue, so that none is left behind. */
	return errno;
}

static int setup_full_msg(struct ctx *c)
{
	struct message m = { .type = 1 };

	if (setup_msg(c))
		return -1;
	while (!msgsnd(c->fd[0], &m, sizeof(m.text), IPC_NOWAIT))
		;
	return errno != EAGAIN;
}

static long call_msgsnd(struct ctx *c)
{
	struct message m = { .type = 1 };

	syscall(SYS_msgsnd, c->fd[0], &m, sizeof(m.text), 0);
	return errno;
}

BLOCK_TEST(msgrcv, SYS_msgrcv, setup_msg, call_msgrcv, remove_msg, EIDRM)
BLOCK_TEST(msgsnd, SYS_msgsnd, setup_full_msg, call_msgsnd, remove_msg, EIDRM)

static int setup_sem(struct ctx *c)
{
	c->fd[0] = semget(IPC_PRIVATE, 1, 0600);
	return c->fd[0] < 0;
}

static long call_semop(struct ctx *c)
{
	struct sembuf op = { .sem_op = -1 };

	syscall(SYS_semop, c->fd[0], &op, 1L);
	return errno;
}

static long call_semtimedop(struct ctx *c)
{
	struct sembuf op = { .sem_op = -1 };
	struct timespec ts = { 2 * LIMIT_S, 0 };

	syscall(SYS_semtimedop, c->fd[0], &op, 1L, &ts);
	return errno;
}

static int remove_sem(struct ctx *c)
{
	return semctl(c->fd[0], 0, IPC_RMID);
}

BLOCK_TEST(semop, SYS_semop, setup_sem, call_semop, remove_sem, EIDRM)
BLOCK_TEST(semtimedop, SYS_semtimedop, setup_sem, call_semtimedop, remove_sem, EIDRM)

static int setup_mq(struct ctx *c)
{
	struct mq_attr attr = { .mq_maxmsg = 1, .mq_msgsize = 8 };

	/* Without the slash of mq_open(3), which takes it off. */
	snprintf(c->path, sizeof(c->path), "ums-mq-%d", getpid());
	c->fd[0] = syscall(SYS_mq_open, c->path, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
	syscall(SYS_mq_unlink, c->path);
	return c->fd[0] < 0;
}

static int setup_full_mq(struct ctx *c)
{
	return setup_mq(c) ?: syscall(SYS_mq_timedsend, c->fd[0], "1", 1L, 0, NULL);
}

static long call_mq_receive(struct ctx *c)
{
	return syscall(SYS_mq_timedreceive, c->fd[0], c->buf, 8L, NULL, NULL);
}

static int wake_mq_send(struct ctx *c)
{
	return syscall(SYS_mq_timedsend, c->fd[0], "12", 2L, 0, NULL);
}

static long call_mq_send(struct ctx *c)
{
	return syscall(SYS_mq_timedsend, c->fd[0], "12", 2L, 0, NULL);
}

static int wake_mq_receive(struct ctx *c)
{
	return syscall(SYS_mq_timedreceive, c->fd[0], c->buf, 8L, NULL, NULL) != 1;
}

BLOCK_TEST(mq_receive, SYS_mq_timedreceive, setup_mq, call_mq_receive, wake_mq_send, 2)
BLOCK_TEST(mq_send, SYS_mq_timedsend, setup_full_mq, call_mq_send, wake_mq_receive, 0)

/* ---- signals */

static int setup_blocked_signal(struct ctx *c)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	/* Inherited by the worker. */
	return sigprocmask(SIG_BLOCK, &set, NULL);
}

static int wake_signal(struct ctx *c)
{
	return syscall(SYS_tgkill, getpid(), c->worker_tid, SIGUSR1);
}

static long call_sigtimedwait(struct ctx *c)
{
	__u64 set = 1ULL << (SIGUSR1 - 1);

	return syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 8L);
}

static void empty_handler(int sig)
{
}

static int setup_handler(struct ctx *c)
{
	return signal(SIGUSR1, empty_handler) == SIG_ERR || setup_blocked_signal(c);
}

static long call_sigsuspend(struct ctx *c)
{
	__u64 set = 0;

	syscall(SYS_rt_sigsuspend, &set, 8L);
	return errno;
}

static int setup_open_handler(struct ctx *c)
{
	return signal(SIGUSR1, empty_handler) == SIG_ERR;
}

static long call_pause(struct ctx *c)
{
	syscall(SYS_pause);
	return errno;
}

static int setup_signalfd(struct ctx *c)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	c->fd[0] = signalfd(-1, &set, 0);
	return c->fd[0] < 0 || setup_blocked_signal(c);
}

static long call_read_signalfd(struct ctx *c)
{
	return syscall(SYS_read, c->fd[0], c->buf, sizeof(struct signalfd_siginfo)) ==
	       sizeof(struct signalfd_siginfo);
}

BLOCK_TEST(sigtimedwait, SYS_rt_sigtimedwait, setup_blocked_signal, call_sigtimedwait,
	   wake_signal, SIGUSR1)
BLOCK_TEST(sigsuspend, SYS_rt_sigsuspend, setup_handler, call_sigsuspend, wake_signal,
	   EINTR)
BLOCK_TEST(pause, SYS_pause, setup_open_handler, call_pause, wake_signal, EINTR)
BLOCK_TEST(signalfd, SYS_read, setup_signalfd, call_read_signalfd, wake_signal, 1)

/* ---- other files that make readers wait */

static int setup_eventfd(struct ctx *c)
{
	c->fd[0] = eventfd(0, 0);
	return c->fd[0] < 0;
}

static int wake_eventfd(struct ctx *c)
{
	return eventfd_write(c->fd[0], 1);
}

static int setup_full_eventfd(struct ctx *c)
{
	return setup_eventfd(c) ?: eventfd_write(c->fd[0], ULLONG_MAX - 1);
}

static long call_write_eventfd(struct ctx *c)
{
	__u64 one = 1;

	return syscall(SYS_write, c->fd[0], &one, 8L);
}

static int wake_read_eventfd(struct ctx *c)
{
	eventfd_t v;

	return eventfd_read(c->fd[0], &v);
}

BLOCK_TEST(eventfd_read, SYS_read, setup_eventfd, call_read, wake_eventfd, 8)
BLOCK_TEST(eventfd_write, SYS_write, setup_full_eventfd, call_write_eventfd,
	   wake_read_eventfd, 8)

static int setup_inotify(struct ctx *c)
{
	snprintf(c->path, sizeof(c->path), "/dev/shm/ums-inotify-%d", getpid());
	c->fd[1] = open(c->path, O_RDWR | O_CREAT | O_EXCL, 0600);
	c->fd[0] = inotify_init1(0);
	return inotify_add_watch(c->fd[0], c->path, IN_MODIFY) < 0;
}

static long call_inotify(struct ctx *c)
{
	return syscall(SYS_read, c->fd[0], c->buf, 1024L) > 0;
}

static int wake_inotify(struct ctx *c)
{
	unlink(c->path);
	return wake_write(c);
}

BLOCK_TEST(inotify, SYS_read, setup_inotify, call_inotify, wake_inotify, 1)

/* ---- vfork: the parent sleeps until the child has gone */

static long call_vfork(struct ctx *c)
{
	pid_t pid = vfork();
	int status = -1;

	if (!pid) {
		syscall(SYS_read, c->fd[0], c->buf, 1L);
		_exit(4);
	}
	/* May sleep once more, of which an upcall tells. */
	waitpid(pid, &status, 0);
	return status;
}

BLOCK_TEST(vfork_parent, SYS_vfork, setup_pipe, call_vfork, wake_write, 4 << 8)

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * The first process of the guest that scripts/guest boots.
 *
 * It puts the host's root (9p, read-only) under a tmpfs overlay, runs one command there and
 * carries the command's stdin, stdout and stderr over virtio-serial ports: byte for byte,
 * each in a channel of its own and apart from the kernel log. What to run is in /cmd of the
 * initramfs, so that arguments may hold any byte. On the port "ctl" it says:
 *
 *	S			the command starts
 *	X STATUS OUT ERR	it has ended; so many bytes of stdout and stderr were sent
 *
 * and hears:
 *
 *	E COUNT			stdin ends after COUNT bytes
 *	W ROWS COLUMNS		size of the terminal
 *	T			time is up: put the blocked tasks into the kernel log
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int kmsg = -1;

static void say(const char *fmt, ...)
{
	char buf[700];
	va_list ap;
	int n = snprintf(buf, sizeof(buf), "ums-guest: ");

	va_start(ap, fmt);
	n += vsnprintf(buf + n, sizeof(buf) - n, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(buf) - 2)
		n = sizeof(buf) - 2;
	buf[n++] = '\n';		/* otherwise the next message continues this one */
	if (kmsg >= 0)
		(void)!write(kmsg, buf, n);
}

/* The host shows lines that begin like this and gives up. */
#define fail(fmt, ...) do {							\
	say("FAILED: " fmt ": %s", ##__VA_ARGS__, strerror(errno));		\
	for (;;)								\
		pause();							\
} while (0)

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)!write(fd, text, strlen(text));
	close(fd);
}

static void nap(long us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&t, NULL);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Mount what may be missing from a kernel configuration without making a fuss. */
static void may_mount(const char *type, const char *dir, unsigned long flags, const char *opts)
{
	mkdir(dir, 0755);
	mount(type, dir, type, flags, opts);
}

static int open_port(const char *want)
{
	double end = now() + 10;

	for (;; nap(500)) {
		DIR *d = opendir("/sys/class/virtio-ports");
		struct dirent *e;

		while (d && (e = readdir(d))) {
			char path[300], name[64] = "";
			int fd;

			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", e->d_name);
			fd = open(path, O_RDONLY);
			if (fd < 0)
				continue;
			(void)!read(fd, name, sizeof(name) - 1);
			close(fd);
			name[strcspn(name, "\n")] = 0;
			if (strcmp(name, want))
				continue;
			snprintf(path, sizeof(path), "/dev/%s", e->d_name);
			fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
			if (fd >= 0) {
				closedir(d);
				return fd;
			}
		}
		if (d)
			closedir(d);
		if (now() > end)
			fail("no virtio port %s", want);
	}
}

/* ---- what to run */

static char *cmd, *cmd_end, *cmd_pos;

static char *next(void)
{
	char *s = cmd_pos;

	if (s >= cmd_end)
		fail("/cmd is cut short");
	cmd_pos += strlen(s) + 1;
	return s;
}

static char **next_list(void)
{
	int n = atoi(next());
	char **v = calloc(n + 1, sizeof(*v));

	for (int i = 0; i < n; i++)
		v[i] = next();
	return v;
}

static void read_cmd(void)
{
	int fd = open("/cmd", O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n, got = 0;

	if (fd < 0 || fstat(fd, &st))
		fail("/cmd");
	cmd = cmd_pos = calloc(1, st.st_size + 1);
	while ((n = read(fd, cmd + got, st.st_size - got)) > 0)
		got += n;
	cmd_end = cmd + got;
	close(fd);
}

/* ---- the system around it */

static void make_root(void)
{
	static const struct { const char *to, *link; } links[] = {
		{ "/proc/self/fd", "/dev/fd" },
		{ "/proc/self/fd/0", "/dev/stdin" },
		{ "/proc/self/fd/1", "/dev/stdout" },
		{ "/proc/self/fd/2", "/dev/stderr" },
	};

	mkdir("/host", 0755);
	mkdir("/ov", 0755);
	mkdir("/new", 0755);
	if (mount("root", "/host", "9p", MS_RDONLY,
		  "trans=virtio,version=9p2000.L,msize=512000,cache=loose"))
		fail("mounting the host's root over 9p");
	if (mount("tmpfs", "/ov", "tmpfs", 0, "size=80%,mode=755"))
		fail("mounting a tmpfs");
	mkdir("/ov/upper", 0755);
	mkdir("/ov/work", 0755);
	if (mount("overlay", "/new", "overlay", 0,
		  "lowerdir=/host,upperdir=/ov/upper,workdir=/ov/work,redirect_dir=nofollow,index=off,metacopy=off,xino=off"))
		fail("mounting the overlay");
	mkdir("/new/dev", 0755);
	mkdir("/new/proc", 0555);
	mkdir("/new/sys", 0555);
	if (mount("/dev", "/new/dev", NULL, MS_MOVE, NULL) ||
	    mount("/proc", "/new/proc", NULL, MS_MOVE, NULL) ||
	    mount("/sys", "/new/sys", NULL, MS_MOVE, NULL))
		fail("moving mounts");
	if (chdir("/new") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		fail("changing the root");
	may_mount("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755");
	may_mount("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");
	may_mount("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
	may_mount("mqueue", "/dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	may_mount("hugetlbfs", "/dev/hugepages", 0, NULL);
	may_mount("cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	may_mount("debugfs", "/sys/kernel/debug", 0, NULL);
	may_mount("tracefs", "/sys/kernel/tracing", 0, NULL);
	mkdir("/run/lock", 01777);
	chmod("/run/lock", 01777);
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
		(void)!symlink(links[i].to, links[i].link);
	chmod("/dev/ptmx", 0666);
}

static void tune(void)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	struct rlimit lim;
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s >= 0) {
		ioctl(s, SIOCGIFFLAGS, &ifr);
		ifr.ifr_flags |= IFF_UP | IFF_RUNNING;
		ioctl(s, SIOCSIFFLAGS, &ifr);
		close(s);
	}
	(void)!sethostname("ums-guest", 9);
	/* As Debian has it. */
	put("/proc/sys/kernel/yama/ptrace_scope", "0");
	lim = (struct rlimit){ 1024, 1048576 };
	setrlimit(RLIMIT_NOFILE, &lim);
	lim = (struct rlimit){ 0, RLIM_INFINITY };
	setrlimit(RLIMIT_CORE, &lim);
	/* Thousands of threads are what this machine is for. */
	put("/proc/sys/kernel/threads-max", "100000");
	put("/proc/sys/kernel/pid_max", "262144");
	put("/proc/sys/vm/max_map_count", "262144");
	lim = (struct rlimit){ 100000, 100000 };
	setrlimit(RLIMIT_NPROC, &lim);
}

/* ---- streams */

struct stream {
	int from, to;		/* from < 0: ended */
	char buf[65536];
	size_t pos, len;
	uint64_t sent;
	int64_t left;		/* read no more than this; -1: until the end */
};

static struct stream out = { -1, -1, .left = -1 }, err = { -1, -1, .left = -1 },
		     in = { -1, -1, .left = -1 };

static int pty_master = -1;

static void stream_end(struct stream *s)
{
	if (s->from >= 0 && s != &in && s->from != pty_master)
		close(s->from);
	s->from = -1;
}

static void stream_read(struct stream *s)
{
	size_t want = sizeof(s->buf);
	ssize_t n;

	if (s->from < 0 || s->len)
		return;
	if (s->left >= 0 && (uint64_t)s->left < want)
		want = s->left;
	n = want ? read(s->from, s->buf, want) : 0;
	if (n > 0) {
		s->pos = 0;
		s->len = n;
		if (s->left >= 0)
			s->left -= n;
	} else if (n < 0 && errno == EINTR) {
		return;
	} else if (n < 0 && errno == EAGAIN) {
		if (s->left >= 0)	/* the command has ended, and this was all */
			stream_end(s);
	} else if (s != &in) {
		stream_end(s);		/* a pty whose other side is closed says EIO */
	}
}

static void stream_write(struct stream *s)
{
	while (s->len) {
		ssize_t n = s->to < 0 ? (ssize_t)s->len : write(s->to, s->buf + s->pos, s->len);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0 && s == &in) {	/* nobody reads it any more */
			s->to = -1;
			continue;
		}
		if (n < 0) {
			nap(1000);
			return;
		}
		s->pos += n;
		s->len -= n;
		s->sent += n;
	}
}

static void ctl_write(int ctl, const char *fmt, ...)
{
	char buf[100];
	va_list ap;
	int n, pos = 0;

	va_start(ap, fmt);
	n = vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	while (pos < n) {
		ssize_t w = write(ctl, buf + pos, n - pos);

		if (w > 0)
			pos += w;
		else
			nap(500);
	}
}

static int64_t stdin_total = -1;	/* the host has said how much there is */

/* A program that sets its terminal throws away what came before: it is told again. */
static void tell_end_of_input(void)
{
	static time_t last;
	static int times;

	if (time(NULL) == last || times == 60)
		return;
	last = time(NULL);
	times++;
	(void)!write(pty_master, "\4", 1);
}

static void close_stdin(void)
{
	if (pty_master >= 0)
		tell_end_of_input();
	if (in.to < 0 && in.from < 0)
		return;
	if (pty_master < 0 && in.to >= 0) {
		close(in.to);
	}
	in.to = -1;
	in.from = -1;
}

static void ctl_line(char *line)
{
	struct winsize ws = { 0 };

	switch (line[0]) {
	case 'E':
		stdin_total = atoll(line + 1);
		break;
	case 'W':
		if (sscanf(line + 1, "%hu %hu", &ws.ws_row, &ws.ws_col) == 2 && pty_master >= 0)
			ioctl(pty_master, TIOCSWINSZ, &ws);
		break;
	case 'T':
		say("time is up; blocked tasks and what the processors do:");
		put("/proc/sysrq-trigger", "w");
		put("/proc/sysrq-trigger", "l");
		say("end of the blocked tasks");
		break;
	}
}

static void ctl_read(int ctl)
{
	static char buf[200];
	static size_t len;
	ssize_t n = read(ctl, buf + len, sizeof(buf) - 1 - len);
	char *nl;

	if (n <= 0)
		return;
	len += n;
	buf[len] = 0;
	while ((nl = memchr(buf, '\n', len))) {
		*nl = 0;
		ctl_line(buf);
		len -= nl + 1 - buf;
		memmove(buf, nl + 1, len);
	}
	if (len == sizeof(buf) - 1)
		len = 0;
}

/* ---- the command */

static pid_t start(int tty, int with_stdin, unsigned short rows, unsigned short cols,
		   const char *cwd, char **argv, char **env)
{
	int p_out[2], p_err[2], p_in[2] = { -1, -1 }, slave = -1;
	struct winsize ws = { .ws_row = rows, .ws_col = cols };
	pid_t pid;

	if (tty) {
		if (openpty(&pty_master, &slave, NULL, NULL, &ws))
			fail("openpty");
		fcntl(pty_master, F_SETFD, FD_CLOEXEC);
	} else {
		if (pipe2(p_out, O_CLOEXEC) || pipe2(p_err, O_CLOEXEC))
			fail("pipe");
		if (with_stdin) {
			if (pipe2(p_in, O_CLOEXEC))
				fail("pipe");
		} else {
			p_in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		}
	}
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (!pid) {
		sigset_t none;

		setsid();
		if (tty) {
			ioctl(slave, TIOCSCTTY, 0);
			dup2(slave, 0);
			dup2(slave, 1);
			dup2(slave, 2);
			if (slave > 2)
				close(slave);
		} else {
			dup2(p_in[0], 0);
			dup2(p_out[1], 1);
			dup2(p_err[1], 2);
		}
		signal(SIGPIPE, SIG_DFL);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		umask(022);
		environ = env;
		if (chdir(cwd)) {
			dprintf(2, "guest: %s: %s\n", cwd, strerror(errno));
			_exit(126);
		}
		execvp(argv[0], argv);
		dprintf(2, "guest: %s: %s\n", argv[0],
			errno == ENOENT ? "not found" : strerror(errno));
		_exit(errno == ENOENT ? 127 : 126);
	}
	if (tty) {
		close(slave);
		fcntl(pty_master, F_SETFL, O_NONBLOCK);
		out.from = pty_master;
		in.to = pty_master;
	} else {
		close(p_in[0]);
		close(p_out[1]);
		close(p_err[1]);
		fcntl(p_out[0], F_SETFL, O_NONBLOCK);
		fcntl(p_err[0], F_SETFL, O_NONBLOCK);
		out.from = p_out[0];
		err.from = p_err[0];
		if (with_stdin)
			fcntl(p_in[1], F_SETFL, O_NONBLOCK);
		in.to = p_in[1];
	}
	return pid;
}

static void poll_fd(struct pollfd *p, int *n, int fd, short events)
{
	if (fd < 0 || !events)
		return;
	p[*n].fd = fd;
	p[*n].events = events;
	p[(*n)++].revents = 0;
}

/* A small file of /proc into @text; -1 when it is gone. */
static int read_small(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY), n;

	if (fd < 0)
		return -1;
	n = read(fd, text, size - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	return n > 0 ? 0 : -1;
}

#define PF_KTHREAD	0x00200000

/* Says where a thread is that does not end. True unless it has, or is the kernel's own. */
static int tell_stuck(const char *pid, const char *tid)
{
	char path[600], text[4096], comm[64] = "?", *par, *line, *save;
	unsigned int flags;
	char state;

	snprintf(path, sizeof(path), "/proc/%s/task/%s/stat", pid, tid);
	if (read_small(path, text, sizeof(text)))
		return 0;
	par = strrchr(text, ')');
	if (!par || sscanf(par + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2 ||
	    flags & PF_KTHREAD || state == 'Z' || state == 'X')
		return 0;
	sscanf(text, "%*d (%63[^)]", comm);
	say("STUCK: process %s (%s), thread %s, state %c, does not end after SIGKILL",
	    pid, comm, tid, state);
	snprintf(path, sizeof(path), "/proc/%s/task/%s/stack", pid, tid);
	if (!read_small(path, text, sizeof(text)))
		for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
			say("  %s", line);
	return 1;
}

static void tell_all_stuck(void)
{
	DIR *procs = opendir("/proc"), *threads;
	struct dirent *p, *t;
	char path[300];
	int told = 0;

	while (procs && (p = readdir(procs))) {
		if (atoi(p->d_name) < 2)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/task", p->d_name);
		threads = opendir(path);
		while (threads && (t = readdir(threads)))
			if (t->d_name[0] != '.' && told < 100)
				told += tell_stuck(p->d_name, t->d_name);
		if (threads)
			closedir(threads);
	}
	if (procs)
		closedir(procs);
	if (!told)
		say("STUCK: a process does not end after SIGKILL");
	put("/proc/sysrq-trigger", "w");
}

/* What is left when the command has ended must be able to die: a process that hangs in
 * the kernel is a failure that would go unseen otherwise.
 */
static void end_the_rest(void)
{
	double end = now() + 30;

	kill(-1, SIGKILL);
	for (;;) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0 && errno == ECHILD)
			return;
		if (pid > 0)
			continue;
		if (now() > end) {
			tell_all_stuck();
			return;
		}
		nap(1000);
	}
}

/* Two scans some seconds apart: kmemleak names only what looks lost in both. */
static void look_for_leaks(void)
{
	FILE *f;
	char line[500];

	put("/sys/kernel/debug/kmemleak", "scan");
	nap(6000000);
	put("/sys/kernel/debug/kmemleak", "scan");
	f = fopen("/sys/kernel/debug/kmemleak", "r");
	if (!f) {
		say("FAILED: this kernel has no kmemleak");
		return;
	}
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		say("kmemleak: %s", line);
	}
	fclose(f);
}

int main(void)
{
	int ctl, chld, tty, with_stdin, leaks, rows, cols, status = 0, ended = 0;
	char **argv, **env, *cwd;
	sigset_t mask;
	pid_t pid;

	mkdir("/dev", 0755);
	mkdir("/proc", 0555);
	mkdir("/sys", 0555);
	mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=755");
	mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	for (int fd = 0; fd < 3; fd++) {
		close(fd);
		open("/dev/null", O_RDWR);
	}
	kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	read_cmd();
	tty = atoi(next());
	with_stdin = atoi(next());
	leaks = atoi(next());
	rows = atoi(next());
	cols = atoi(next());
	cwd = next();
	argv = next_list();
	env = next_list();

	ctl = open_port("ctl");
	if (!argv[0]) {		/* only: does this machine boot? */
		ctl_write(ctl, "S\n");
		for (;;)
			pause();
	}
	out.to = open_port("out");
	err.to = open_port("err");
	in.from = with_stdin ? open_port("in") : -1;

	make_root();
	tune();

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	chld = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);

	say("running %s", argv[0]);
	ctl_write(ctl, "S\n");
	pid = start(tty, with_stdin, rows, cols, cwd, argv, env);

	for (;;) {
		struct signalfd_siginfo si;
		struct pollfd p[8];
		int n = 0, st, left;
		pid_t w;

		if (ended && !out.len && !err.len && out.from < 0 && err.from < 0)
			break;
		if (stdin_total >= 0 && !in.len && in.sent >= (uint64_t)stdin_total)
			close_stdin();

		poll_fd(p, &n, chld, POLLIN);
		poll_fd(p, &n, ctl, POLLIN);
		if (out.len)
			poll_fd(p, &n, out.to, POLLOUT);
		else
			poll_fd(p, &n, out.from, POLLIN);
		if (err.len)
			poll_fd(p, &n, err.to, POLLOUT);
		else
			poll_fd(p, &n, err.from, POLLIN);
		if (in.len)
			poll_fd(p, &n, in.to, POLLOUT);
		else
			poll_fd(p, &n, in.from, POLLIN);
		/* After the end, or with stdin's reader gone, nothing may announce itself. */
		if (poll(p, n, ended || (in.len && in.to < 0) ? 1 : tty && stdin_total >= 0 ? 1000 : -1) < 0 &&
		    errno != EINTR)
			fail("poll");

		while (read(chld, &si, sizeof(si)) > 0)
			;
		while ((w = waitpid(-1, &st, WNOHANG)) > 0) {
			if (w != pid || ended)
				continue;
			status = WIFSIGNALED(st) ? 128 + WTERMSIG(st) : WEXITSTATUS(st);
			ended = 1;
			/* Its output to the last byte, but not what others go on writing. */
			if (out.from >= 0 && !tty)
				out.left = ioctl(out.from, FIONREAD, &left) ? 0 : left;
			if (err.from >= 0)
				err.left = ioctl(err.from, FIONREAD, &left) ? 0 : left;
			if (tty && out.from >= 0)
				out.left = 1 << 20;
		}
		ctl_read(ctl);
		stream_write(&out);
		stream_write(&err);
		stream_write(&in);
		stream_read(&out);
		stream_read(&err);
		stream_read(&in);
		stream_write(&out);
		stream_write(&err);
		stream_write(&in);
	}
	end_the_rest();
	if (leaks)
		look_for_leaks();
	say("the command has ended");
	ctl_write(ctl, "X %d %llu %llu\n", status, (unsigned long long)out.sent,
		  (unsigned long long)err.sent);
	for (;;)
		pause();
}

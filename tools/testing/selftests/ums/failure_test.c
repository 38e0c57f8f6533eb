// SPDX-License-Identifier: GPL-2.0
/*
 * Failures on purpose: what a call does that gets no memory, at each point where
 * it asks for some, no descriptor, or no more than its memory cgroup may have. It
 * says so, has changed nothing, and works when it is made again.
 *
 * /proc/thread-self/fail-nth makes the Nth attempt of the thread fail: N is
 * counted up until the call is through before. That goes for copies from and to
 * user memory as well, which fail with EFAULT.
 */
#include "ums_test.h"

#include <dirent.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define DEBUGFS "/sys/kernel/debug"
#define SLAB "/sys/kernel/slab"

/* More points than any call has. */
#define MAX_POINTS 5000

/* Failures of all sizes and kinds, without a message for each; and as it was. */
static const struct setting {
	const char *file, *value;
} settings[] = {
	{ "failslab/ignore-gfp-wait", "N" },
	{ "failslab/verbose", "0" },
	{ "fail_page_alloc/ignore-gfp-wait", "N" },
	{ "fail_page_alloc/ignore-gfp-highmem", "N" },
	{ "fail_page_alloc/min-order", "0" },
	{ "fail_page_alloc/verbose", "0" },
	{ "fail_usercopy/verbose", "0" },
	{ "fail_futex/verbose", "0" },
	{ "failslab/cache-filter", "Y" },	/* the last: see spared[] */
};

#define SETTINGS ARRAY_SIZE(settings)

/*
 * The kernel's own checkers ask for memory as well, and some say so in the log when
 * they get none. They go on without: nothing that is tested here.
 */
static const char * const spared[] = {
	"kmemleak_object", "kmemleak_scan_area", "debug_objects_cache",
};

/* What came of the failures of one call. */
struct points {
	unsigned int memory;	/* ENOMEM */
	unsigned int copy;	/* EFAULT */
	unsigned int through;	/* it succeeded all the same */
};

static char *setting_path(unsigned int i, char *path)
{
	snprintf(path, PATH_MAX, DEBUGFS "/%s", settings[i].file);
	return path;
}

/* Lets the allocations of a cache fail, or not, once failslab has an eye on that. */
static void set_caches(char value)
{
	char path[PATH_MAX], text[2] = { value };
	struct dirent *d;
	unsigned int i;
	DIR *dir;

	dir = opendir(SLAB);
	while (dir && (d = readdir(dir))) {
		for (i = 0; i < ARRAY_SIZE(spared) && strcmp(d->d_name, spared[i]); i++)
			;
		snprintf(path, sizeof(path), SLAB "/%s/failslab", d->d_name);
		if (i == ARRAY_SIZE(spared))
			write_text(path, text);
	}
	if (dir)
		closedir(dir);
}

/* ---- fail-nth of the calling thread */

static int nth_open(void)
{
	return open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
}

/* Copying the number is an attempt as well: it may be the one to fail. */
static void nth_arm(int fd, unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n), i;

	for (i = 0; i < 3 && pwrite(fd, text, len, 0) != len; i++)
		;
}

/* Has the failure happened? Disarms it. */
static bool nth_hit(int fd)
{
	char text[16] = "";
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	nth_arm(fd, 0);
	/* If to read the number fails, that was the one. */
	return n > 0 && !atoi(text);
}

/* ---- what a call must not leave behind */

static int next_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static __u32 own_role(void)
{
	struct ums_info info;

	return ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)) ? ~0U : info.role;
}

/* Is it an answer that a call may give? Counts it. */
static bool count_point(struct points *p, long ret, long success)
{
	if (ret == success || (success > 0 && ret >= 0))
		p->through++;
	else if (ret == -ENOMEM)
		p->memory++;
	else if (ret == -EFAULT)
		p->copy++;
	else
		return false;
	return true;
}

#define REPORT(call, p)								\
	TH_LOG("%s: %u failures with ENOMEM, %u with EFAULT, %u without an error", \
	       call, (p)->memory, (p)->copy, (p)->through)

/* ---- injected failures */

FIXTURE(injected)
{
	char before[SETTINGS][16];
	bool mounted;
	bool filtered;
	int nth;
};

FIXTURE_SETUP(injected)
{
	char path[PATH_MAX];
	unsigned int i;

	UMS_REQUIRE();
	if (geteuid())
		SKIP(return, "needs root");
	self->nth = nth_open();
	if (self->nth < 0)
		SKIP(return, "no fault injection in this kernel");
	if (access(setting_path(0, path), R_OK | W_OK) &&
	    !mount("debugfs", DEBUGFS, "debugfs", 0, NULL))
		self->mounted = true;
	if (access(setting_path(0, path), R_OK | W_OK) ||
	    access(setting_path(2, path), R_OK | W_OK))
		SKIP(return, "no failslab and fail_page_alloc in " DEBUGFS);
	self->filtered = !access(SLAB "/kmemleak_object", F_OK) ||
			 !access(SLAB "/debug_objects_cache", F_OK);
	if (self->filtered)
		set_caches('1');
	for (i = 0; i < SETTINGS - !self->filtered; i++) {
		if (read_text(setting_path(i, path), self->before[i],
			      sizeof(self->before[i])) <= 0) {
			self->before[i][0] = 0;
			continue;
		}
		ASSERT_EQ(0, write_text(path, settings[i].value));
	}
	ASSERT_EQ(0, lock_memory());
}

/* In the parent, so that all is restored whatever became of the test. */
FIXTURE_TEARDOWN_PARENT(injected)
{
	char path[PATH_MAX];
	unsigned int i;

	for (i = 0; i < SETTINGS; i++)
		if (self->before[i][0])
			write_text(setting_path(i, path), self->before[i]);
	if (self->filtered)
		set_caches('0');
	if (self->mounted)
		umount2(DEBUGFS, MNT_DETACH);
}

TEST_F(injected, create)
{
	struct ums_create_args args;
	struct points p = {};
	unsigned int n;
	int fd, lists;
	long ret;
	bool hit;

	lists = count_lists();
	fd = next_fd();
	for (n = 1; n < MAX_POINTS; n++) {
		memset(&args, 0, sizeof(args));
		args.max_workers = 100;
		nth_arm(self->nth, n);
		ret = ums_create(&args, sizeof(args));
		hit = nth_hit(self->nth);
		if (ret >= 0) {
			EXPECT_EQ(fd, ret);
			close(ret);
		}
		if (!hit)
			break;
		ASSERT_TRUE(count_point(&p, ret, 1)) {
			TH_LOG("failure %u: %ld", n, ret);
		}
		ASSERT_EQ(fd, next_fd());
		/* Again, undisturbed. */
		memset(&args, 0, sizeof(args));
		args.max_workers = 100;
		ret = ums_create(&args, sizeof(args));
		ASSERT_EQ(fd, ret);
		close(ret);
	}
	ASSERT_LT(n, MAX_POINTS);
	EXPECT_LE(0, ret);
	REPORT("ums_create", &p);
	EXPECT_LT(0, p.memory);
	EXPECT_TRUE(WAIT_FOR(count_lists() <= lists));
	/* One would be seen. */
	EXPECT_LE(0, ums_create(&args, sizeof(args)));
	EXPECT_EQ(lists + 1, count_lists());
}

/* A child reports to its parent. */
struct report {
	long ret, again;
	bool hit, same_fd;
};

/* The first list of a process, for a descriptor for which its table has to grow. */
static void create_first(struct report *r, unsigned int n)
{
	struct ums_create_args args = { .max_workers = 100 };
	int nth = nth_open(), fd;

	while (next_fd() < 64)
		dup(0);
	lock_memory();
	fd = next_fd();
	nth_arm(nth, n);
	r->ret = ums_create(&args, sizeof(args));
	r->hit = nth_hit(nth);
	if (r->ret >= 0)
		close(r->ret);
	r->same_fd = fd == next_fd();
	memset(&args, 0, sizeof(args));
	args.max_workers = 100;
	r->again = ums_create(&args, sizeof(args));
	r->same_fd &= fd == r->again;
}

TEST_F(injected, create_first)
{
	struct points p = {};
	struct report *r;
	unsigned int n;
	int status, lists;
	pid_t pid;

	r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, r);
	lists = count_lists();
	for (n = 1; n < MAX_POINTS; n++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			create_first(r, n);
			_exit(42);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(42 << 8, status);
		ASSERT_TRUE(r->same_fd);
		ASSERT_LE(64, r->again);
		if (!r->hit)
			break;
		ASSERT_TRUE(count_point(&p, r->ret, 1)) {
			TH_LOG("failure %u: %ld", n, r->ret);
		}
	}
	ASSERT_LT(n, MAX_POINTS);
	EXPECT_LE(64, r->ret);
	REPORT("the first ums_create", &p);
	EXPECT_LT(0, p.memory);
	EXPECT_TRUE(WAIT_FOR(count_lists() <= lists));
}

/*
 * No number of a list was lost: they are given in turn, so within one round each
 * comes once.
 */
TEST_F_TIMEOUT(injected, list_numbers, 1200)
{
	static unsigned char seen[UMS_MAX_LISTS];
	struct ums_create_args args;
	unsigned int n, failed = 0;
	long ret;

	for (n = 1; n <= 64; n++) {
		memset(&args, 0, sizeof(args));
		args.max_workers = 1;
		nth_arm(self->nth, n);
		ret = ums_create(&args, sizeof(args));
		nth_hit(self->nth);
		if (ret >= 0)
			close(ret);
		else
			failed++;
	}
	EXPECT_LT(0, failed);
	for (n = 0; n < UMS_MAX_LISTS; n++) {
		memset(&args, 0, sizeof(args));
		args.max_workers = 1;
		ret = ums_create(&args, sizeof(args));
		ASSERT_LE(0, ret) {
			TH_LOG("list %u: %ld", n, ret);
		}
		close(ret);
		ASSERT_GT(UMS_MAX_LISTS, args.list_nr);
		seen[args.list_nr]++;
	}
	for (n = 0; n < UMS_MAX_LISTS; n++) {
		ASSERT_EQ(1, seen[n]) {
			TH_LOG("number %u", n);
		}
	}
}

/* A thread that becomes a worker again and again, and an ordinary one again. */
struct enterer {
	struct list l;
	pthread_t t;
	struct points p;
	unsigned int n;
	__u64 flags;
	int entered;
	long ret;
	const char *wrong;
	int done;
};

static void *enterer_main(void *arg)
{
	struct enterer *e = arg;
	struct ums_worker_args args = { .user_data = 5, .flags = e->flags };
	int nth = nth_open();
	bool hit;

	for (e->n = 1; e->n < MAX_POINTS && !e->wrong; e->n++) {
		nth_arm(nth, e->n);
		e->ret = ums_worker_enter(e->l.fd, &args, sizeof(args));
		hit = nth_hit(nth);
		if (e->ret > 0) {
			e->entered++;
			if (own_role() != UMS_ROLE_WORKER || ums_detach(0))
				e->wrong = "no worker after success";
		} else if (own_role() != UMS_ROLE_NONE) {
			e->wrong = "a role after failure";
		}
		if (!hit)
			break;
		if (!count_point(&e->p, e->ret, 1))
			e->wrong = "another error";
	}
	close(nth);
	STORE(e->done, 1);
	return NULL;
}

static void enter_worker(struct __test_metadata *_metadata, __u64 flags)
{
	struct __kernel_timespec ts = { .tv_nsec = 5 * MSEC };
	struct enterer e = { .flags = flags };
	int detached = 0;
	struct sched s;
	__u64 id;

	ASSERT_EQ(0, list_open(&e.l, 4));
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, thread_start(&e.t, enterer_main, &e));
	while (!LOAD(e.done)) {
		id = list_pop(&e.l);
		if (!id) {
			ums_wait(e.l.fd, &ts, 0);
			continue;
		}
		ASSERT_EQ(0, sched_run(&s, id, 0));
		detached += s.reason == UMS_UPCALL_DETACHED;
	}
	ASSERT_EQ(0, pthread_join(e.t, NULL));
	ASSERT_EQ(NULL, e.wrong) {
		TH_LOG("failure %u: %s, %ld", e.n, e.wrong, e.ret);
	}
	ASSERT_LT(e.n, MAX_POINTS);
	EXPECT_LT(0, e.ret);
	REPORT("ums_worker_enter", &e.p);
	EXPECT_LT(0, e.p.memory);
	EXPECT_EQ(e.entered, detached);
	EXPECT_EQ(e.entered, e.p.through + 1);
	/* A free slot is taken first; so none was lost. */
	EXPECT_EQ(0, e.l.slots[1].id);
}

TEST_F(injected, worker_enter)
{
	enter_worker(_metadata, 0);
}

/* What is left of a thread pointer that could not be had would be in the way of the next try. */
TEST_F(injected, worker_enter_switching)
{
	UMS_REQUIRE_SWITCH();
	enter_worker(_metadata, UMS_WORKER_USER_SWITCH);
}

static void enter_scheduler(struct __test_metadata *_metadata, int nth, __u64 flags)
{
	struct ums_scheduler_args args = { .flags = flags };
	struct points p = {};
	struct sched s = {};
	unsigned int n;
	long ret;
	bool hit;

	/* As sched_enter(), whose mmap() would fail in its place. */
	s.stack_size = 65536;
	s.stack = mmap(NULL, s.stack_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, s.stack);
	args.entry = (uintptr_t)sched_entry;
	args.arg = (uintptr_t)&s;
	args.stack = (uintptr_t)s.stack;
	args.stack_size = s.stack_size;
	for (n = 1; n < MAX_POINTS; n++) {
		nth_arm(nth, n);
		ret = sched_call(&s, NR_UMS_SCHEDULER_ENTER, (unsigned long)&args,
				 sizeof(args), 0);
		hit = nth_hit(nth);
		ASSERT_EQ(ret ? UMS_ROLE_NONE : UMS_ROLE_SCHEDULER, own_role());
		if (!ret) {
			ASSERT_EQ(0, ums_scheduler_exit(0));
		}
		if (!hit)
			break;
		ASSERT_TRUE(count_point(&p, ret, 0)) {
			TH_LOG("failure %u: %ld", n, ret);
		}
	}
	ASSERT_LT(n, MAX_POINTS);
	EXPECT_EQ(0, ret);
	REPORT("ums_scheduler_enter", &p);
	EXPECT_LT(0, p.memory);
	EXPECT_EQ(p.through + 1, s.upcalls);
}

TEST_F(injected, scheduler_enter)
{
	enter_scheduler(_metadata, self->nth, 0);
}

TEST_F(injected, scheduler_enter_switching)
{
	UMS_REQUIRE_SWITCH();
	enter_scheduler(_metadata, self->nth, UMS_SCHEDULER_USER_SWITCH);
}

static int count_mappings(void)
{
	char *line = NULL;
	size_t size = 0;
	int n = 0;
	FILE *f;

	f = fopen("/proc/self/maps", "r");
	while (f && getline(&line, &size, f) > 0)
		n += !!strstr(line, "[ums]");
	free(line);
	if (f)
		fclose(f);
	return n;
}

TEST_F(injected, mmap)
{
	struct ums_create_args args = { .max_workers = 1000 };
	struct points p = {};
	unsigned int n;
	long fd, ret;
	void *m;
	bool hit;

	fd = ums_create(&args, sizeof(args));
	ASSERT_LE(0, fd);
	for (n = 1; n < MAX_POINTS; n++) {
		nth_arm(self->nth, n);
		m = mmap(NULL, args.mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		ret = m == MAP_FAILED ? -errno : 0;
		hit = nth_hit(self->nth);
		ASSERT_EQ(!ret, count_mappings());
		if (!ret) {
			ASSERT_EQ(1000, ((struct ums_list_header *)m)->max_workers);
			ASSERT_EQ(0, munmap(m, args.mmap_size));
		}
		if (!hit)
			break;
		ASSERT_TRUE(count_point(&p, ret, 0)) {
			TH_LOG("failure %u: %ld", n, ret);
		}
	}
	ASSERT_LT(n, MAX_POINTS);
	EXPECT_EQ(0, ret);
	REPORT("mmap", &p);
	EXPECT_LT(0, p.memory);
	EXPECT_EQ(0, p.copy);
}

/* Calls that need no memory: there is nothing to fail but to copy. */
TEST_F(injected, wait_query_set)
{
	struct __kernel_timespec ts = { .tv_nsec = 1000 };
	struct points p = {};
	struct ums_info info;
	unsigned int n, call;
	struct list l;
	long ret;
	bool hit;

	ASSERT_EQ(0, list_open(&l, 1));
	for (call = 0; call < 5; call++) {
		memset(&p, 0, sizeof(p));
		for (n = 1; n < MAX_POINTS; n++) {
			nth_arm(self->nth, n);
			switch (call) {
			case 0:
				ret = ums_wait(l.fd, &ts, 0);
				break;
			case 1:
				ret = ums_query(UMS_QUERY_ABI, 0, &info, UMS_ABI_SIZE_VER0);
				break;
			case 2:
				ret = ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info));
				break;
			case 3:
				ret = ums_set(UMS_SET_USER_DATA, 1ULL << 32, 0);
				break;
			default:
				ret = ums_preempt(1ULL << 32, 0);
			}
			hit = nth_hit(self->nth);
			if (!hit)
				break;
			ASSERT_NE(-ENOMEM, ret);
			ASSERT_TRUE(count_point(&p, ret, call == 0 ? -ETIMEDOUT :
						call < 3 ? 0 : -ESRCH)) {
				TH_LOG("call %u, failure %u: %ld", call, n, ret);
			}
		}
		ASSERT_LT(n, MAX_POINTS);
		REPORT(call == 0 ? "ums_wait" : call < 3 ? "ums_query" :
		       call == 3 ? "ums_set" : "ums_preempt", &p);
		if (call < 3) {
			EXPECT_LT(0, p.copy);
		}
	}
}

static void yields(struct worker *w)
{
	while (!LOAD(w->result))
		ums_yield(0, w->stage++ & 1);
}

/* Neither do a switch, a slice and an upcall, on the side of the scheduler. */
TEST_F(injected, execute)
{
	struct points p = {};
	struct worker w = {};
	unsigned int n;
	struct sched s;
	struct list l;
	bool hit;
	__u64 id;

	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, yields, NULL);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, sched_enter(&s));
	for (n = 1; n < MAX_POINTS; n++) {
		nth_arm(self->nth, n);
		ASSERT_EQ(0, sched_run(&s, id, 10 * NSEC));
		hit = nth_hit(self->nth);
		ASSERT_TRUE(s.reason == UMS_UPCALL_YIELDED || s.reason == UMS_UPCALL_BLOCKED);
		if (s.reason == UMS_UPCALL_BLOCKED) {
			ASSERT_EQ(id, list_pop_wait(&l));
		} else {
			list_pop(&l);
		}
		if (!hit)
			break;
		p.through++;
	}
	ASSERT_LT(n, MAX_POINTS);
	REPORT("ums_execute", &p);
	STORE(w.result, 1);
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
}

/* ---- no descriptor */

TEST(no_descriptor)
{
	struct ums_create_args args = { .max_workers = 1000 };
	int lists = count_lists(), fd, i;
	struct rlimit rl;

	UMS_REQUIRE();
	fd = next_fd();
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &rl));
	rl.rlim_cur = fd;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &rl));
	for (i = 0; i < 100; i++)
		ASSERT_EQ(-EMFILE, ums_create(&args, sizeof(args)));
	/* Nothing was written. */
	EXPECT_EQ(0, args.mmap_size);
	rl.rlim_cur = fd + 1;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &rl));
	/* To be seen with the one descriptor: nothing is left. */
	EXPECT_TRUE(WAIT_FOR(count_lists() <= lists));
	EXPECT_EQ(fd, ums_create(&args, sizeof(args)));
	EXPECT_EQ(-EMFILE, ums_create(&args, sizeof(args)));
}

/* ---- no more memory in the cgroup */

#define MB (1LL << 20)

FIXTURE(cgroup)
{
	char mount[64];		/* made by the test; empty: it was there */
	char dir[128];
};

static bool has_memory(const char *root)
{
	char path[PATH_MAX], text[256];

	snprintf(path, sizeof(path), "%s/cgroup.controllers", root);
	return read_text(path, text, sizeof(text)) > 0 && strstr(text, "memory");
}

FIXTURE_SETUP(cgroup)
{
	const char *root = "/sys/fs/cgroup";
	char path[PATH_MAX];

	UMS_REQUIRE();
	if (geteuid())
		SKIP(return, "needs root");
	if (!has_memory(root)) {
		strcpy(self->mount, "/tmp/ums-cgroup-XXXXXX");
		if (!mkdtemp(self->mount) ||
		    mount("none", self->mount, "cgroup2", 0, NULL)) {
			rmdir(self->mount);
			self->mount[0] = 0;
			SKIP(return, "cgroup2 cannot be mounted");
		}
		root = self->mount;
		if (!has_memory(root))
			SKIP(return, "no memory controller in cgroup2");
	}
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", root);
	if (write_text(path, "+memory"))
		SKIP(return, "the memory controller cannot be enabled");
	snprintf(self->dir, sizeof(self->dir), "%s/ums-failure-%d", root, getpid());
	ASSERT_EQ(0, mkdir(self->dir, 0755));
}

FIXTURE_TEARDOWN_PARENT(cgroup)
{
	if (self->dir[0])
		rmdir(self->dir);
	if (self->mount[0]) {
		umount2(self->mount, MNT_DETACH);
		rmdir(self->mount);
	}
}

static int cgroup_write(const char *dir, const char *file, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return write_text(path, text);
}

static long long memory_current(const char *dir)
{
	char path[PATH_MAX], text[32];

	snprintf(path, sizeof(path), "%s/memory.current", dir);
	return read_text(path, text, sizeof(text)) > 0 ? atoll(text) : -1;
}

struct charge {
	long ret;
	long long before, with, after;
};

/* In the cgroup: makes a list and closes it. */
static void charge(struct charge *c, const char *dir, unsigned int max_workers)
{
	struct ums_create_args args = { .max_workers = max_workers };

	if (cgroup_write(dir, "cgroup.procs", "0"))
		_exit(1);
	c->before = memory_current(dir);
	c->ret = ums_create(&args, sizeof(args));
	c->with = memory_current(dir);
	if (c->ret >= 0)
		close(c->ret);
	/* Some of it is freed a moment later. */
	WAIT_FOR(memory_current(dir) < c->before + MB);
	c->after = memory_current(dir);
	_exit(42);
}

static int charge_child(struct charge *c, const char *dir, unsigned int max_workers)
{
	int status = -1;
	pid_t pid;

	pid = fork();
	if (!pid)
		charge(c, dir, max_workers);
	waitpid(pid, &status, 0);
	return status;
}

TEST_F(cgroup, charged)
{
	struct charge *c;

	c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, c);
	ASSERT_EQ(42 << 8, charge_child(c, self->dir, 65536));
	ASSERT_LE(0, c->ret);
	TH_LOG("65536 workers: %lld kB, after close %lld kB", (c->with - c->before) >> 10,
	       (c->after - c->before) >> 10);
	/* 128 bytes for the slot, 8 in the ring, and what the kernel remembers. */
	EXPECT_LE(c->before + 65536 * 158, c->with);
	EXPECT_GE(c->before + 65536 * 192, c->with);
	EXPECT_GT(c->before + MB, c->after);
}

TEST_F(cgroup, limited)
{
	int lists = count_lists(), status;
	struct charge *c;

	c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, c);
	ASSERT_EQ(0, cgroup_write(self->dir, "memory.max", "33554432"));
	cgroup_write(self->dir, "memory.swap.max", "0");
	c->ret = -1;
	status = charge_child(c, self->dir, UMS_MAX_WORKERS);
	/* The kernel may rather kill the process than refuse its system call. */
	if (WIFSIGNALED(status)) {
		EXPECT_EQ(SIGKILL, WTERMSIG(status));
		TH_LOG("killed");
	} else {
		EXPECT_EQ(42 << 8, status);
		EXPECT_EQ(-ENOMEM, c->ret);
		TH_LOG("refused");
	}
	EXPECT_TRUE(WAIT_FOR(memory_current(self->dir) < MB));
	EXPECT_TRUE(WAIT_FOR(count_lists() <= lists));
	/* What fits is still to be had. */
	EXPECT_EQ(42 << 8, charge_child(c, self->dir, 1000));
	EXPECT_LE(0, c->ret);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/* kernel.ums_disabled: 0 everyone, 1 with CAP_SYS_ADMIN only, 2 nobody. */
#include "ums_test.h"

#include <linux/capability.h>

#define SYSCTL "/proc/sys/kernel/ums_disabled"

FIXTURE(sysctl)
{
	char before[16];
};

FIXTURE_SETUP(sysctl)
{
	UMS_REQUIRE();
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_LT(0, read_text(SYSCTL, self->before, sizeof(self->before)));
}

/* In the parent, so that the value is restored whatever became of the test. */
FIXTURE_TEARDOWN_PARENT(sysctl)
{
	if (self->before[0])
		write_text(SYSCTL, self->before);
}

static void drop_capabilities(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2] = {};

	syscall(SYS_capset, &head, data);
}

/* What the three calls that can be refused say; 0 is "not refused". */
struct answers {
	long create, worker, scheduler;
	__u32 disabled;
};

static struct answers ask(int list_fd)
{
	struct ums_create_args c = { .max_workers = 1 };
	struct ums_worker_args w = {};
	struct answers a;
	struct sched s;
	struct ums_abi abi;
	long fd;

	memset(&abi, 0xff, sizeof(abi));
	ums_query(UMS_QUERY_ABI, 0, &abi, sizeof(abi));
	a.disabled = abi.disabled;
	fd = ums_create(&c, sizeof(c));
	if (fd >= 0)
		close(fd);
	a.create = fd < 0 ? fd : 0;
	a.scheduler = sched_enter(&s);
	if (!a.scheduler)
		a.scheduler = sched_exit(&s);
	/* This one would not return on success, so -1 is what to call it with. */
	a.worker = ums_worker_enter(list_fd, &w, sizeof(w));
	return a;
}

TEST_F(sysctl, enabled)
{
	struct answers a;

	ASSERT_EQ(0, write_text(SYSCTL, "0"));
	a = ask(-1);
	EXPECT_EQ(0, a.create);
	EXPECT_EQ(-EBADF, a.worker);
	EXPECT_EQ(0, a.scheduler);
	EXPECT_EQ(0, a.disabled);
	drop_capabilities();
	a = ask(-1);
	EXPECT_EQ(0, a.create);
	EXPECT_EQ(-EBADF, a.worker);
	EXPECT_EQ(0, a.scheduler);
	EXPECT_EQ(0, a.disabled);
}

TEST_F(sysctl, privileged_only)
{
	struct answers a;

	ASSERT_EQ(0, write_text(SYSCTL, "1"));
	a = ask(-1);
	EXPECT_EQ(0, a.create);
	EXPECT_EQ(-EBADF, a.worker);
	EXPECT_EQ(0, a.scheduler);
	EXPECT_EQ(0, a.disabled);
	drop_capabilities();
	a = ask(-1);
	EXPECT_EQ(-EPERM, a.create);
	EXPECT_EQ(-EPERM, a.worker);
	EXPECT_EQ(-EPERM, a.scheduler);
	EXPECT_NE(0, a.disabled);
}

TEST_F(sysctl, nobody)
{
	struct answers a;
	struct list l;

	ASSERT_EQ(0, write_text(SYSCTL, "0"));
	ASSERT_EQ(0, list_open(&l, 1));
	ASSERT_EQ(0, write_text(SYSCTL, "2"));
	a = ask(l.fd);
	EXPECT_EQ(-EPERM, a.create);
	EXPECT_EQ(-EPERM, a.worker);
	EXPECT_EQ(-EPERM, a.scheduler);
	EXPECT_NE(0, a.disabled);
	EXPECT_EQ(0, l.slots[0].id);
	drop_capabilities();
	a = ask(l.fd);
	EXPECT_EQ(-EPERM, a.create);
	EXPECT_EQ(-EPERM, a.worker);
	EXPECT_EQ(-EPERM, a.scheduler);
	EXPECT_NE(0, a.disabled);
}

/* Those already at it go on: the switch is for new ones. */
static void yields(struct worker *w)
{
	w->result = ums_yield(7, 0);
}

TEST_F(sysctl, existing_go_on)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	ASSERT_EQ(0, write_text(SYSCTL, "0"));
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, yields, NULL);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, sched_enter(&s));
	ASSERT_EQ(0, write_text(SYSCTL, "2"));
	ASSERT_EQ(0, sched_run(&s, id, 0));
	EXPECT_EVENT(&s, UMS_UPCALL_YIELDED, id, 7);
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_EQ(0, w.result);
}

TEST_F(sysctl, values)
{
	char buf[16];

	ASSERT_EQ(0, write_text(SYSCTL, "1"));
	EXPECT_EQ(-EINVAL, write_text(SYSCTL, "3"));
	EXPECT_EQ(-EINVAL, write_text(SYSCTL, "-1"));
	EXPECT_EQ(-EINVAL, write_text(SYSCTL, "x"));
	ASSERT_LT(0, read_text(SYSCTL, buf, sizeof(buf)));
	EXPECT_STREQ("1\n", buf);
}

/* Only root changes it. */
TEST_F(sysctl, not_for_users)
{
	char buf[16];
	int status;
	pid_t pid;

	ASSERT_EQ(0, write_text(SYSCTL, "1"));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (setresuid(65534, 65534, 65534))
			_exit(1);
		_exit(write_text(SYSCTL, "0") == -EACCES ? 0 : 2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	ASSERT_LT(0, read_text(SYSCTL, buf, sizeof(buf)));
	EXPECT_STREQ("1\n", buf);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * With the system calls hidden, as in a kernel without UMS or in a sandbox, the
 * probe and each call say ENOSYS, and nothing else happens.
 */
#include "ums_test.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

static int hide(int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, NR_UMS_CREATE, 0, 2),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, NR_UMS_SET, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = ARRAY_SIZE(code), .filter = code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ?:
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

TEST(hidden)
{
	struct ums_create_args c = { .max_workers = 1 };
	struct ums_scheduler_args s = {};
	struct ums_worker_args w = {};
	struct ums_abi abi;

	ASSERT_EQ(0, hide(ENOSYS));
	EXPECT_EQ(-ENOSYS, ums_query(UMS_QUERY_ABI, 0, &abi, sizeof(abi)));
	EXPECT_EQ(-ENOSYS, ums_create(&c, sizeof(c)));
	EXPECT_EQ(-ENOSYS, ums_worker_enter(-1, &w, sizeof(w)));
	EXPECT_EQ(-ENOSYS, ums_detach(0));
	EXPECT_EQ(-ENOSYS, ums_scheduler_enter(&s, sizeof(s)));
	EXPECT_EQ(-ENOSYS, ums_scheduler_exit(0));
	EXPECT_EQ(-ENOSYS, ums_execute(0, 0, 0));
	EXPECT_EQ(-ENOSYS, ums_yield(0, 0));
	EXPECT_EQ(-ENOSYS, ums_wait(-1, NULL, 0));
	EXPECT_EQ(-ENOSYS, ums_preempt(0, 0));
	EXPECT_EQ(-ENOSYS, ums_set(0, 0, 0));
}

static void skipped(struct __test_metadata *_metadata)
{
	UMS_REQUIRE();
}

/* The tests themselves skip then, and say why. */
TEST(tests_skip)
{
	struct __test_results results = {};
	struct __test_metadata t = { .name = "hidden", .results = &results };

	ASSERT_EQ(0, unsetenv("UMS_REQUIRED"));
	ASSERT_EQ(0, hide(ENOSYS));
	skipped(&t);
	EXPECT_EQ(KSFT_SKIP, t.exit_code);
	EXPECT_STREQ("no UMS in this kernel", results.reason);
}

/* Refused rather than hidden: told apart by the errno. */
TEST(refused)
{
	struct ums_abi abi;

	ASSERT_EQ(0, hide(EPERM));
	EXPECT_EQ(-EPERM, ums_query(UMS_QUERY_ABI, 0, &abi, sizeof(abi)));
}

/*
 * Under a filter that hides one call only, the others work: a worker with a
 * filter of its own is still that worker.
 */
static void hides_and_yields(struct worker *w)
{
	w->result = hide(ENOSYS);
	if (!w->result)
		w->result = ums_yield(1, 0);
	/* Ends by an upcall that needs no call. */
}

TEST(worker_with_filter)
{
	struct worker w = {};
	struct sched s;
	struct list l;
	__u64 id;

	UMS_REQUIRE();
	ASSERT_EQ(0, lock_memory());
	ASSERT_EQ(0, list_open(&l, 1));
	id = worker_start_pop(&w, &l, hides_and_yields, NULL);
	ASSERT_EQ(0, sched_enter(&s));
	EXPECT_EQ(0, worker_run_to_end(&s, &l, id));
	EXPECT_EQ(-ENOSYS, w.result);
}

TEST_HARNESS_MAIN

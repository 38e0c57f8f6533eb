// SPDX-License-Identifier: GPL-2.0
/* Numbers, layouts, struct extension and the probe. */
#include "ums_test.h"

#include <asm/unistd.h>
#include <stddef.h>
#include <sys/mman.h>

TEST(syscall_numbers)
{
#ifdef __NR_ums_create
	EXPECT_EQ(__NR_ums_create, NR_UMS_CREATE);
	EXPECT_EQ(__NR_ums_worker_enter, NR_UMS_WORKER_ENTER);
	EXPECT_EQ(__NR_ums_detach, NR_UMS_DETACH);
	EXPECT_EQ(__NR_ums_scheduler_enter, NR_UMS_SCHEDULER_ENTER);
	EXPECT_EQ(__NR_ums_scheduler_exit, NR_UMS_SCHEDULER_EXIT);
	EXPECT_EQ(__NR_ums_execute, NR_UMS_EXECUTE);
	EXPECT_EQ(__NR_ums_yield, NR_UMS_YIELD);
	EXPECT_EQ(__NR_ums_wait, NR_UMS_WAIT);
	EXPECT_EQ(__NR_ums_preempt, NR_UMS_PREEMPT);
	EXPECT_EQ(__NR_ums_query, NR_UMS_QUERY);
	EXPECT_EQ(__NR_ums_set, NR_UMS_SET);
#endif
	/*
	 * Without the headers of this kernel, the numbers still show by what
	 * each refuses first: an unknown flag, selector or structure size.
	 */
	UMS_REQUIRE();
	EXPECT_EQ(-EINVAL, syscall(NR_UMS_CREATE, NULL, 0L) ? -errno : 0);
	EXPECT_EQ(-EINVAL, ums_worker_enter(-1, NULL, 0));
	EXPECT_EQ(-EINVAL, ums_detach(~0U));
	EXPECT_EQ(-EINVAL, ums_scheduler_enter(NULL, 0));
	EXPECT_EQ(-EINVAL, ums_scheduler_exit(~0U));
	EXPECT_EQ(-EINVAL, ums_execute(0, 0, ~0U));
	EXPECT_EQ(-EINVAL, ums_yield(0, ~0U));
	EXPECT_EQ(-EINVAL, ums_wait(-1, NULL, ~0U));
	EXPECT_EQ(-EINVAL, ums_preempt(0, ~0U));
	EXPECT_EQ(-EINVAL, ums_query(~0U, 0, NULL, 0));
	EXPECT_EQ(-EINVAL, ums_set(~0U, 0, 0));
}

TEST(layout)
{
	EXPECT_EQ(128, sizeof(struct ums_list_header));
	EXPECT_EQ(0, offsetof(struct ums_list_header, tail));
	EXPECT_EQ(8, offsetof(struct ums_list_header, ring_mask));
	EXPECT_EQ(12, offsetof(struct ums_list_header, max_workers));
	EXPECT_EQ(16, offsetof(struct ums_list_header, list_nr));
	EXPECT_EQ(20, offsetof(struct ums_list_header, closed));
	EXPECT_EQ(64, offsetof(struct ums_list_header, head));

	EXPECT_EQ(128, sizeof(struct ums_slot));
	EXPECT_EQ(0, offsetof(struct ums_slot, id));
	EXPECT_EQ(8, offsetof(struct ums_slot, state));
	EXPECT_EQ(12, offsetof(struct ums_slot, tid));
	EXPECT_EQ(16, offsetof(struct ums_slot, cause));
	EXPECT_EQ(24, offsetof(struct ums_slot, scheduler));
	EXPECT_EQ(28, offsetof(struct ums_slot, exit_status));
	EXPECT_EQ(32, offsetof(struct ums_slot, attention));
	EXPECT_EQ(40, offsetof(struct ums_slot, executes));
	EXPECT_EQ(48, offsetof(struct ums_slot, blocks));
	EXPECT_EQ(64, offsetof(struct ums_slot, user_data));
	EXPECT_EQ(72, offsetof(struct ums_slot, no_upcall));

	EXPECT_EQ(40, sizeof(struct ums_create_args));
	EXPECT_EQ(UMS_CREATE_ARGS_SIZE_VER0, sizeof(struct ums_create_args));
	EXPECT_EQ(8, offsetof(struct ums_create_args, max_workers));
	EXPECT_EQ(12, offsetof(struct ums_create_args, list_nr));
	EXPECT_EQ(16, offsetof(struct ums_create_args, mmap_size));
	EXPECT_EQ(24, offsetof(struct ums_create_args, ring_offset));
	EXPECT_EQ(32, offsetof(struct ums_create_args, slots_offset));

	EXPECT_EQ(UMS_WORKER_ARGS_SIZE_VER0, sizeof(struct ums_worker_args));
	EXPECT_EQ(8, offsetof(struct ums_worker_args, user_data));

	EXPECT_EQ(UMS_SCHEDULER_ARGS_SIZE_VER0, sizeof(struct ums_scheduler_args));
	EXPECT_EQ(8, offsetof(struct ums_scheduler_args, entry));
	EXPECT_EQ(16, offsetof(struct ums_scheduler_args, stack));
	EXPECT_EQ(24, offsetof(struct ums_scheduler_args, stack_size));
	EXPECT_EQ(32, offsetof(struct ums_scheduler_args, arg));
	EXPECT_EQ(40, offsetof(struct ums_scheduler_args, startup));

	EXPECT_EQ(UMS_ABI_SIZE_VER0, sizeof(struct ums_abi));
	EXPECT_EQ(UMS_INFO_SIZE_VER1, sizeof(struct ums_info));
	EXPECT_EQ(16, offsetof(struct ums_info, worker));
	EXPECT_EQ(32, offsetof(struct ums_info, cause));
	EXPECT_EQ(48, offsetof(struct ums_info, executes));
	EXPECT_EQ(104, offsetof(struct ums_info, running_ns));
	EXPECT_EQ(128, offsetof(struct ums_info, idle_ns));
	EXPECT_EQ(UMS_INFO_SIZE_VER0, offsetof(struct ums_info, empty_ns));
	EXPECT_EQ(144, offsetof(struct ums_info, handoffs));
	EXPECT_EQ(152, offsetof(struct ums_info, in_place));
}

TEST(probe)
{
	struct ums_abi abi;

	UMS_REQUIRE();
	memset(&abi, 0xaa, sizeof(abi));
	ASSERT_EQ(0, ums_query(UMS_QUERY_ABI, 0, &abi, sizeof(abi)));
	EXPECT_EQ(UMS_ABI_VERSION, abi.version);
	EXPECT_EQ(0, abi.disabled);
	EXPECT_EQ(UMS_FEATURE_SLICE, abi.features & UMS_FEATURE_SLICE);
	EXPECT_EQ(UMS_FEATURE_PREEMPT, abi.features & UMS_FEATURE_PREEMPT);
	EXPECT_EQ(UMS_FEATURE_NO_UPCALL, abi.features & UMS_FEATURE_NO_UPCALL);
	EXPECT_EQ(cpu_can_switch(), !!(abi.features & UMS_FEATURE_USER_SWITCH));
	EXPECT_EQ(UMS_MAX_WORKERS, abi.max_workers);
	EXPECT_EQ(UMS_MAX_LISTS, abi.max_lists);
}

/* Where threads cannot be switched in user mode, none becomes one that may be. */
TEST(without_user_switch)
{
	struct ums_worker_args worker = { .flags = UMS_WORKER_USER_SWITCH };
	struct ums_scheduler_args sched = { .flags = UMS_SCHEDULER_USER_SWITCH };
	static char stack[UMS_MIN_STACK];
	struct ums_info info;
	struct list l;

	UMS_REQUIRE();
	if (cpu_can_switch())
		SKIP(return, "this machine can");
	ASSERT_EQ(0, list_open(&l, 1));
	EXPECT_EQ(-EOPNOTSUPP, ums_worker_enter(l.fd, &worker, sizeof(worker)));
	sched.entry = (unsigned long)&ums_query;
	sched.stack = (unsigned long)stack;
	sched.stack_size = sizeof(stack);
	EXPECT_EQ(-EOPNOTSUPP, ums_scheduler_enter(&sched, sizeof(sched)));
	EXPECT_EQ(0, ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)));
	EXPECT_EQ(UMS_ROLE_NONE, info.role);
	list_close(&l);
}

TEST(probe_errors)
{
	struct ums_abi abi;
	char big[8192];

	UMS_REQUIRE();
	EXPECT_EQ(-EINVAL, ums_query(UMS_QUERY_ABI, 1, &abi, sizeof(abi)));
	EXPECT_EQ(-EINVAL, ums_query(UMS_QUERY_ABI, 0, &abi, UMS_ABI_SIZE_VER0 - 1));
	EXPECT_EQ(-EINVAL, ums_query(UMS_QUERY_ABI, 0, &abi, 0));
	EXPECT_EQ(-E2BIG, ums_query(UMS_QUERY_ABI, 0, big, sysconf(_SC_PAGESIZE) + 1));
	EXPECT_EQ(-EFAULT, ums_query(UMS_QUERY_ABI, 0, NULL, sizeof(abi)));
	EXPECT_EQ(-EFAULT, ums_query(UMS_QUERY_ABI, 0, (void *)-4096L, sizeof(abi)));
	EXPECT_EQ(-EINVAL, ums_query(3, 0, &abi, sizeof(abi)));
	EXPECT_EQ(-EINVAL, ums_query(-1, 0, &abi, sizeof(abi)));
	/* The upper half of a 32 bit argument is not looked at. */
	EXPECT_EQ(0, syscall(NR_UMS_QUERY, 0xffffffff00000000UL, 0UL, &abi,
			     sizeof(abi)));
}

/* Output of a newer program: what this kernel does not know reads as 0. */
TEST(newer_output)
{
	struct {
		struct ums_abi abi;
		__u64 future[4];
		__u64 beyond;
	} a;
	struct {
		struct ums_info info;
		__u64 future[4];
		__u64 beyond;
	} i;
	int n;

	UMS_REQUIRE();
	memset(&a, 0xaa, sizeof(a));
	ASSERT_EQ(0, ums_query(UMS_QUERY_ABI, 0, &a, offsetof(typeof(a), beyond)));
	EXPECT_EQ(UMS_ABI_VERSION, a.abi.version);
	for (n = 0; n < 4; n++) {
		EXPECT_EQ(0, a.future[n]);
	}
	EXPECT_EQ(0xaaaaaaaaaaaaaaaaULL, a.beyond);

	memset(&i, 0xaa, sizeof(i));
	ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, 0, &i, offsetof(typeof(i), beyond)));
	EXPECT_EQ(UMS_ROLE_NONE, i.info.role);
	EXPECT_EQ(self_tid(), i.info.tid);
	for (n = 0; n < 4; n++) {
		EXPECT_EQ(0, i.future[n]);
	}
	EXPECT_EQ(0xaaaaaaaaaaaaaaaaULL, i.beyond);
	EXPECT_EQ(-EINVAL, ums_query(UMS_QUERY_THREAD, 0, &i, UMS_INFO_SIZE_VER0 - 1));
	EXPECT_EQ(-EINVAL, ums_query(UMS_QUERY_WORKER, 1, &i, UMS_INFO_SIZE_VER0 - 1));
	EXPECT_EQ(-E2BIG, ums_query(UMS_QUERY_THREAD, 0, &i, 4097));
}

/* A structure that is almost all of a page is not too large. */
TEST(page_sized)
{
	long page = sysconf(_SC_PAGESIZE);
	char *p;
	long fd;

	UMS_REQUIRE();
	p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(0, ums_query(UMS_QUERY_ABI, 0, p, page));
	memset(p, 0, page);
	((struct ums_create_args *)p)->max_workers = 1;
	fd = ums_create((void *)p, page);
	EXPECT_LE(0, fd);
	close(fd);
	memset(p, 0, page);
	((struct ums_create_args *)p)->max_workers = 1;
	EXPECT_EQ(-E2BIG, ums_create((void *)p, page + 1));
}

/* Input of a newer program: accepted while it asks for nothing unknown. */
TEST(newer_input)
{
	struct {
		struct ums_create_args args;
		__u64 future[2];
		__u64 beyond;
	} c;
	long fd;

	UMS_REQUIRE();
	memset(&c, 0, sizeof(c));
	c.args.max_workers = 3;
	c.beyond = 0xaaaaaaaaaaaaaaaaULL;
	fd = ums_create(&c.args, offsetof(typeof(c), beyond));
	ASSERT_LE(0, fd);
	EXPECT_NE(0, c.args.mmap_size);
	EXPECT_NE(0, c.args.slots_offset);
	EXPECT_EQ(0xaaaaaaaaaaaaaaaaULL, c.beyond);
	close(fd);

	memset(&c, 0, sizeof(c));
	c.args.max_workers = 3;
	c.future[1] = 1;
	EXPECT_EQ(-E2BIG, ums_create(&c.args, offsetof(typeof(c), beyond)));
	EXPECT_EQ(0, c.args.mmap_size);
}

TEST(newer_input_of_worker)
{
	struct {
		struct ums_worker_args args;
		__u64 future;
	} w = { .future = 1 };
	struct list l;

	UMS_REQUIRE();
	ASSERT_EQ(0, list_open(&l, 1));
	EXPECT_EQ(-E2BIG, ums_worker_enter(l.fd, &w.args, sizeof(w)));
	EXPECT_EQ(-E2BIG, ums_worker_enter(l.fd, &w.args, 4097));
	EXPECT_EQ(-EINVAL, ums_worker_enter(l.fd, &w.args,
					    UMS_WORKER_ARGS_SIZE_VER0 - 1));
	EXPECT_EQ(-EFAULT, ums_worker_enter(l.fd, NULL, sizeof(w.args)));
	EXPECT_EQ(-EFAULT, ums_worker_enter(l.fd, (void *)-4096L, sizeof(w.args)));
	EXPECT_TRUE(list_empty(&l));
	EXPECT_EQ(0, l.slots[0].id);
	list_close(&l);
}

TEST(newer_input_of_scheduler)
{
	struct {
		struct ums_scheduler_args args;
		__u64 future;
	} a = { .future = 1 };
	char *stack = malloc(8192);
	struct ums_info info;

	UMS_REQUIRE();
	a.args.entry = (uintptr_t)sched_entry;
	a.args.stack = (uintptr_t)stack;
	a.args.stack_size = 8192;
	EXPECT_EQ(-E2BIG, ums_scheduler_enter(&a.args, sizeof(a)));
	EXPECT_EQ(-E2BIG, ums_scheduler_enter(&a.args, 4097));
	EXPECT_EQ(-EINVAL, ums_scheduler_enter(&a.args,
					       UMS_SCHEDULER_ARGS_SIZE_VER0 - 1));
	EXPECT_EQ(-EFAULT, ums_scheduler_enter(NULL, sizeof(a.args)));
	EXPECT_EQ(-EFAULT, ums_scheduler_enter((void *)-4096L, sizeof(a.args)));
	ASSERT_EQ(0, ums_query(UMS_QUERY_THREAD, 0, &info, sizeof(info)));
	EXPECT_EQ(UMS_ROLE_NONE, info.role);
}

/* The compatibility entry has none of these calls: int 0x80 is another table. */
TEST(not_for_ia32)
{
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		long ret;

		asm volatile("int $0x80" : "=a"(ret)
			     : "a"(NR_UMS_QUERY), "b"(0), "c"(0), "d"(0), "S"(0),
			       "D"(0)
			     : "memory", "r8", "r9", "r10", "r11");
		_exit(ret == -ENOSYS ? 0 : 1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	/* A kernel without CONFIG_IA32_EMULATION kills for the instruction. */
	EXPECT_TRUE(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV));
}

/* The x32 numbers are those of other calls, and UMS has none. */
TEST(not_for_x32)
{
	long ret = syscall(0x40000000 | NR_UMS_QUERY, 0, 0, 0, 0);

	EXPECT_EQ(-1, ret);
	EXPECT_EQ(ENOSYS, errno);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: MIT
//
// The inline functions of <ums/ums.h>; c_api.c of the library has the same as symbols.
#include <dlfcn.h>
#include <thread>

#include "helpers.hpp"

TEST(CApi, ErrorsAreReturnedAndErrnoIsLeftAlone)
{
	errno = 4321;
	EXPECT_EQ(ums_detach(0), -EPERM);
	EXPECT_EQ(ums_detach(1), -EINVAL);
	EXPECT_EQ(ums_yield(0, 0), -EPERM);
	EXPECT_EQ(ums_execute(1, 0, 0), -EPERM);
	EXPECT_EQ(ums_scheduler_exit(0), -EPERM);
	EXPECT_EQ(ums_wait(-1, nullptr, 0), -EBADF);
	EXPECT_EQ(ums_preempt(1, 0), -ESRCH);
	EXPECT_EQ(ums_set(UMS_SET_USER_DATA, 1, 1), -ESRCH);
	ums_info info;
	EXPECT_EQ(ums_query(99, 0, &info, sizeof info), -EINVAL);
	ums_create_args args{};
	EXPECT_EQ(ums_create(&args, sizeof args), -EINVAL);
	ums_worker_args worker{};
	EXPECT_EQ(ums_worker_enter(-1, &worker, sizeof worker), -EBADF);
	ums_scheduler_args scheduler{};
	EXPECT_EQ(ums_scheduler_enter(&scheduler, sizeof scheduler), -EINVAL);
	ums_list list;
	EXPECT_EQ(ums_list_open(&list, 0), -EINVAL);
	ums_abi abi;
	EXPECT_EQ(ums_probe(&abi), 0);
	EXPECT_EQ(errno, 4321);
}

TEST(CApi, List)
{
	ums_list list;
	ASSERT_EQ(ums_list_open(&list, 4), 0);
	EXPECT_EQ(list.header->max_workers, 4U);
	EXPECT_EQ(ums_list_pop(&list), 0U);
	__u64 ids[4];
	EXPECT_EQ(ums_list_pop_many(&list, ids, 4), 0U);

	std::vector<std::thread> threads;
	for (unsigned i = 0; i < 3; i++)
		threads.emplace_back([&, i] {
			const ums_worker_args args{.flags = 0, .user_data = i + 10};
			EXPECT_GT(ums_worker_enter(list.fd, &args, sizeof args), 0);
		});
	unsigned n = 0;
	while (n < 3) {
		ASSERT_EQ(ums_wait(list.fd, nullptr, 0), 0);
		n += ums_list_pop_many(&list, ids + n, 4 - n);
	}
	__u64 sum = 0;
	ums::scheduler me;
	for (unsigned i = 0; i < 3; i++) {
		EXPECT_EQ(ums_list_slot(&list, ids[i])->id, ids[i]);
		sum += ums_list_slot(&list, ids[i])->user_data;
		EXPECT_EQ(ums_set(UMS_SET_USER_DATA, ids[i], 50), 0);
		EXPECT_EQ(ums_list_slot(&list, ids[i])->user_data, 50U);
		auto e = me.run(ums::worker_id{ids[i]});
		while (test::blocked_for_memory(e)) {
			ums_wait(list.fd, nullptr, 0);
			e = me.run(ums::worker_id{ums_list_pop(&list)});
		}
		EXPECT_EQ(e.reason, ums::reason::exited);
	}
	EXPECT_EQ(sum, 33U);
	for (auto &t : threads)
		t.join();
	ums_list_close(&list);
	EXPECT_EQ(list.fd, -1);
}

TEST(CApi, ClosingReleasesWorkers)
{
	ums_list list;
	ASSERT_EQ(ums_list_open(&list, 1), 0);
	std::thread t([&] {
		const ums_worker_args args{};
		ums_worker_enter(list.fd, &args, sizeof args);
		EXPECT_EQ(ums_yield(0, 0), -EPERM); // a plain thread
	});
	ASSERT_EQ(ums_wait(list.fd, nullptr, 0), 0);
	ums_list_close(&list);
	t.join();
}

TEST(CApi, TheLibraryHasTheFunctionsAsSymbols)
{
	void *library = dlopen("libums.so.0", RTLD_NOW | RTLD_NOLOAD);
	ASSERT_NE(library, nullptr) << dlerror();
	for (const char *name :
	     {"ums_create", "ums_worker_enter", "ums_detach", "ums_scheduler_enter", "ums_scheduler_exit",
	      "ums_execute", "ums_yield", "ums_wait", "ums_preempt", "ums_query", "ums_set", "ums_probe",
	      "ums_list_open", "ums_list_close", "ums_list_pop", "ums_list_pop_many", "ums_list_slot",
	      "ums_no_upcall_enter", "ums_no_upcall_leave"})
		EXPECT_NE(dlvsym(library, name, "UMS_0.1"), nullptr) << name;
	const auto probe = reinterpret_cast<int (*)(ums_abi *)>(dlsym(library, "ums_probe"));
	ums_abi abi;
	EXPECT_EQ(probe(&abi), 0);
	dlclose(library);
}

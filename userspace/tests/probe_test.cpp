// SPDX-License-Identifier: MIT
#include <fstream>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "helpers.hpp"

namespace {

// Sets kernel.ums_disabled while it lives.
class disabled
{
public:
	explicit disabled(int value) { set(value); }
	~disabled() { set(0); }

private:
	static void set(int value)
	{
		std::ofstream file("/proc/sys/kernel/ums_disabled");
		file << value << std::endl;
		EXPECT_TRUE(file.good()) << "kernel.ums_disabled cannot be set";
	}
};

// Runs f in a child. Returns its result, 0 to 255.
template <class F>
int in_child(F f)
{
	const pid_t child = fork();
	if (child == 0)
		_exit(f());
	int status = -1;
	EXPECT_EQ(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// From now on the system calls of UMS do not exist for this process.
bool hide_ums()
{
	sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, __NR_ums_create, 0, 2),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, __NR_ums_set, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const sock_fprog program{.len = std::size(code), .filter = code};
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

} // namespace

TEST(Probe, Available)
{
	const auto p = ums::probe();
	ASSERT_EQ(p.status, ums::availability::available) << ums::to_string(p.status);
	EXPECT_TRUE(p);
	EXPECT_EQ(p.version, unsigned{UMS_ABI_VERSION});
	EXPECT_TRUE(p.has(UMS_FEATURE_SLICE | UMS_FEATURE_PREEMPT | UMS_FEATURE_NO_UPCALL));
	EXPECT_FALSE(p.has(1ULL << 63));
	EXPECT_EQ(p.max_workers, UMS_MAX_WORKERS);
	EXPECT_EQ(p.max_lists, UMS_MAX_LISTS);
}

TEST(Probe, DoesNotTouchErrno)
{
	errno = 1234;
	ums::probe();
	EXPECT_EQ(errno, 1234);
}

TEST(Probe, NotInKernel)
{
	EXPECT_EQ(in_child([] {
			  if (!hide_ums())
				  return 1;
			  const auto p = ums::probe();
			  if (p || p.status != ums::availability::not_in_kernel || p.version)
				  return 2;
			  if (test::error_of([] { ums::completion_list list(1); }) !=
			      std::errc::function_not_supported)
				  return 3;
			  if (test::error_of([] { ums::scheduler me; }) != std::errc::function_not_supported)
				  return 4;
			  if (test::error_of([] { ums::run_loop loop({.schedulers = 1}); }) !=
			      std::errc::function_not_supported)
				  return 5;
			  return 0;
		  }),
		  0);
}

TEST(Probe, Disabled)
{
	const disabled now(2);
	const auto p = ums::probe();
	EXPECT_FALSE(p);
	EXPECT_EQ(p.status, ums::availability::disabled);
	EXPECT_EQ(p.version, unsigned{UMS_ABI_VERSION});
	EXPECT_EQ(test::error_of([] { ums::completion_list list(1); }), std::errc::operation_not_permitted);
	EXPECT_EQ(test::error_of([] { ums::scheduler me; }), std::errc::operation_not_permitted);
}

TEST(Probe, EachStatusHasItsSentence)
{
	EXPECT_STRNE(ums::to_string(ums::availability::available),
		     ums::to_string(ums::availability::disabled));
	EXPECT_STRNE(ums::to_string(ums::availability::disabled),
		     ums::to_string(ums::availability::not_in_kernel));
}

// SPDX-License-Identifier: MIT
//
// The life of a worker that does nothing: created by its scheduler as a thread,
// published, executed until it has ended, joined.

#include "ums_raw.hpp"

using namespace bench;

static constexpr unsigned workers_per_window = 5;

static pthread_t current;
static unsigned left = workers_per_window, windows_left = warm_up + windows;
static std::uint64_t start;
static std::vector<double> measured;

static void *worker(void *)
{
	ums::become_worker();
	return nullptr;
}

static void create()
{
	if (pthread_create(&current, nullptr, worker, nullptr))
		std::abort();
}

[[noreturn]] static void upcall(__u64 reason, ums::id, __u64, __u64, __u64)
{
	if (reason == UMS_UPCALL_STARTUP) {
		mark_begin();
		start = now();
		create();
	} else if (reason == UMS_UPCALL_EXITED) {
		pthread_join(current, nullptr);
		if (--left == 0) {
			measured.push_back(now() - start);
			mark_end();
			if (--windows_left == 0)
				ums::stop_scheduling();
			left = workers_per_window;
			mark_begin();
			start = now();
		}
		create();
	}
	ums::execute(ums::list().wait());
}

int main()
{
	begin();
	measured.reserve(total(1));
	ums::list();
	ums::schedule(upcall);
	measured.erase(measured.begin(), measured.begin() + warm_up);
	double clock = static_cast<double>(empty_window(0));
	print("worker_thread_create_join", (median(measured) - clock) / workers_per_window, workers_per_window);
}

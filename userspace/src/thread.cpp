// SPDX-License-Identifier: MIT
#include "thread.hpp"

#include <algorithm>

#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

namespace ums::detail {

int create_thread(pthread_t &thread, const thread_options &options, void *(*main)(void *),
		  void *argument) noexcept
{
	pthread_attr_t attr;
	int error = pthread_attr_init(&attr);
	if (error)
		return error;

	if (options.stack_size) {
		// Whole pages, and at least what the C library insists on.
		const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
		const auto least = static_cast<std::size_t>(PTHREAD_STACK_MIN);
		error = pthread_attr_setstacksize(&attr, (std::max(options.stack_size, least) + page - 1) /
								 page * page);
	}
	if (!error && options.detached)
		error = pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (!error && options.affinity)
		error = pthread_attr_setaffinity_np(&attr, sizeof(cpu_set_t), &*options.affinity);
	if (!error && options.no_signals) {
		sigset_t all;
		sigfillset(&all);
		error = pthread_attr_setsigmask_np(&attr, &all);
	}
	if (!error)
		error = pthread_create(&thread, &attr, main, argument);

	pthread_attr_destroy(&attr);
	return error;
}

void outrank(pid_t thread, pid_t other) noexcept
{
	// Not by pthread_getschedparam(), which remembers what it was told before.
	const int policy = sched_getscheduler(other) & ~SCHED_RESET_ON_FORK;
	if (policy != SCHED_FIFO && policy != SCHED_RR)
		return;
	sched_param its, others;
	if (sched_getparam(thread, &its) != 0 || sched_getparam(other, &others) != 0)
		return;
	// Not in real time it has priority 0.
	if (its.sched_priority > others.sched_priority)
		return;
	others.sched_priority = std::min(others.sched_priority + 1, sched_get_priority_max(SCHED_FIFO));
	sched_setscheduler(thread, SCHED_FIFO, &others);
}

void name_this_thread(const std::string &name) noexcept
{
	// prctl() cuts a name that is too long; pthread_setname_np() would refuse it.
	if (!name.empty())
		prctl(PR_SET_NAME, name.c_str());
}

} // namespace ums::detail

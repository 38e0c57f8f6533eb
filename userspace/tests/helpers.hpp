// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ums/ums.hpp>

namespace test {

// Whether the worker sleeps in the management of memory, which any access and the end of any thread may do
// when others are busy with it; no test means such a block.
inline bool blocked_for_memory(const ums::event &e)
{
	if (e.reason != ums::reason::blocked)
		return false;
	switch (e.cause()) {
	case UMS_CAUSE_FAULT:
	case SYS_mmap:
	case SYS_munmap:
	case SYS_mprotect:
	case SYS_madvise:
	case SYS_brk:
		return true;
	}
	return false;
}

// Runs a worker or its id, the only one that may come to the list meanwhile, past such blocks.
template <class Worker>
ums::event run(ums::scheduler &me, ums::completion_list &list, const Worker &w, std::chrono::nanoseconds slice = {})
{
	for (;;) {
		const auto e = me.run(w, slice);
		if (!blocked_for_memory(e))
			return e;
		EXPECT_EQ(list.pop(), e.worker);
	}
}

// Runs workers of the list until n of them have ended. One that yields goes on at once. Returns all events.
inline std::vector<ums::event> run_all(ums::scheduler &me, ums::completion_list &list, unsigned n)
{
	std::vector<ums::event> events;
	while (n > 0) {
		auto id = list.pop();
		for (;;) {
			const auto e = me.run(id);
			events.push_back(e);
			if (e.is_last())
				n--;
			if (e.reason != ums::reason::yielded)
				break;
		}
	}
	return events;
}

// Runs workers in turn until n, all that there are, have ended. Allocates nothing meanwhile, as they may.
inline void take_turns(ums::scheduler &me, const ums::completion_list &list, unsigned n)
{
	std::vector<ums::worker_id> ready, next;
	ready.reserve(n);
	next.reserve(n);
	while (n > 0) {
		while (auto id = list.try_pop())
			ready.push_back(*id);
		if (ready.empty())
			ready.push_back(list.pop());
		next.clear();
		for (const auto id : ready) {
			const auto e = me.run(id);
			if (e.reason == ums::reason::yielded)
				next.push_back(id);
			else if (e.is_last())
				n--;
		}
		ready.swap(next);
	}
}

inline unsigned count(const std::vector<ums::event> &events, ums::reason r)
{
	unsigned n = 0;
	for (const auto &e : events)
		n += e.reason == r;
	return n;
}

// The error code of the std::system_error that f() throws; none if it throws nothing.
template <class F>
std::error_code error_of(F f)
{
	try {
		f();
	} catch (const std::system_error &e) {
		return e.code();
	}
	return {};
}

// Ends the program if the scope lasts longer: what is waited for would not come.
class time_limit
{
public:
	explicit time_limit(std::chrono::seconds time) { alarm(static_cast<unsigned>(time.count())); }
	time_limit(const time_limit &) = delete;
	time_limit &operator=(const time_limit &) = delete;
	~time_limit() { alarm(0); }
};

// Whether a thread of this process blocks all signals, but for those that cannot be blocked, or are the C library's.
inline bool blocks_all_signals(const std::string &tid)
{
	std::ifstream file("/proc/self/task/" + tid + "/status");
	std::string word;
	while (file >> word)
		if (word == "SigBlk:") {
			file >> word;
			const std::uint64_t blocked = std::stoull(word, nullptr, 16);
			constexpr std::uint64_t one = 1;
			constexpr auto others = one << (SIGKILL - 1) | one << (SIGSTOP - 1) | one << 31 | one << 32;
			return (blocked | others) == ~std::uint64_t{};
		}
	return false;
}

// The system call in which a thread of this process sleeps; -1: in none.
inline long sleeps_in(pid_t tid)
{
	std::ifstream file("/proc/self/task/" + std::to_string(tid) + "/syscall");
	long nr = -1;
	return file >> nr ? nr : -1;
}

// A pipe on which workers wait.
class pipe
{
public:
	pipe()
	{
		if (pipe2(ends_, O_CLOEXEC) < 0)
			throw std::system_error(errno, std::generic_category(), "pipe2");
	}
	pipe(const pipe &) = delete;
	pipe &operator=(const pipe &) = delete;
	~pipe()
	{
		close(ends_[0]);
		close(ends_[1]);
	}

	// Blocks until a byte is there.
	char take() const
	{
		char c = 0;
		EXPECT_EQ(read(ends_[0], &c, 1), 1);
		return c;
	}
	void give(char c = 'x') const { EXPECT_EQ(write(ends_[1], &c, 1), 1); }
	int in() const { return ends_[0]; }
	int out() const { return ends_[1]; }

private:
	int ends_[2];
};

} // namespace test

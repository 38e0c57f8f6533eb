// SPDX-License-Identifier: MIT
//
// A byte to and fro through two pipes: the same code for two ordinary threads
// and for two workers.
#pragma once

#include "bench.hpp"
#include "syscall.hpp"

#include <fcntl.h>
#include <unistd.h>

namespace bench {

struct pipes {
	int there[2], back[2];

	pipes()
	{
		check(!pipe2(there, O_CLOEXEC), "pipe2");
		check(!pipe2(back, O_CLOEXEC), "pipe2");
	}
	void ping() const
	{
		send(there[1]);
		receive(back[0]);
	}
	void pong() const
	{
		receive(there[0]);
		send(back[1]);
	}

private:
	static void send(int fd)
	{
		char c = 'x';
		if (syscall(SYS_write, fd, arg(&c), 1) != 1)
			std::abort();
	}
	static void receive(int fd)
	{
		char c;
		if (syscall(SYS_read, fd, arg(&c), 1) != 1)
			std::abort();
	}
};

} // namespace bench

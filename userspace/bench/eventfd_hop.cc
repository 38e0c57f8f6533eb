// SPDX-License-Identifier: MIT
//
// Two threads take turns by an eventfd each.

#include "pair.hpp"
#include "syscall.hpp"

#include <sys/eventfd.h>

int main()
{
	int to[2] = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
	bench::check(to[0] >= 0 && to[1] >= 0, "eventfd");
	auto send = [](int fd) {
		std::uint64_t one = 1;
		if (bench::syscall(SYS_write, fd, bench::arg(&one), sizeof one) != sizeof one)
			std::abort();
	};
	auto receive = [](int fd) {
		std::uint64_t n;
		if (bench::syscall(SYS_read, fd, bench::arg(&n), sizeof n) != sizeof n)
			std::abort();
	};
	bench::pair(
		"eventfd_hop_plain", 25,
		[=] {
			send(to[1]);
			receive(to[0]);
		},
		[=] {
			receive(to[1]);
			send(to[0]);
		});
}

// SPDX-License-Identifier: MIT
//
// Two workers share a processor. One of them enters a read that blocks: how long does the
// other, which could run, wait? The worst of all rounds. go/wait.go does the same with
// goroutines.

#include "ums_raw.hpp"

#include <unistd.h>

using namespace bench;

// Both compute for so long, 1 ns an instruction, before they yield; so often in a round.
constexpr unsigned turn_ns = 5'000'000, turns = 8, rounds = 20;

static void compute()
{
	unsigned n = turn_ns / 2;
	asm volatile("1: dec %0\n\tjnz 1b" : "+r"(n) : : "cc");
}

int main()
{
	begin();
	int fd[2];
	check(!pipe(fd), "pipe");
	std::uint64_t since = 0, worst = 0;
	unsigned done = 0;

	ums::run(
		[&] {
			for (unsigned i = 0; i < rounds; i++) {
				for (unsigned k = 0; k < turns; k++) {
					compute();
					ums::yield();
				}
				char c;
				since = now();
				check(read(fd[0], &c, 1) == 1, "read");
			}
			done = 1;
		},
		[&] {
			while (!done) {
				if (since) {
					worst = std::max(worst, now() - since);
					since = 0;
					check(write(fd[1], "x", 1) == 1, "write");
				} else {
					compute();
				}
				ums::yield();
			}
		});
	std::printf("{\"name\":\"ums_runnable_wait\",\"unit\":\"%s\",\"value\":%.2f}\n", unit(), double(worst));
}

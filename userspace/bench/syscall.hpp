// SPDX-License-Identifier: MIT
//
// System calls without the C library around them: returns the negative error.
#pragma once

#include <sys/syscall.h>

namespace bench {

inline long syscall(long nr, long a = 0, long b = 0, long c = 0, long d = 0)
{
	long ret;
	register long r10 asm("r10") = d;
	asm volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return ret;
}

// For pointers.
template <class T> long arg(T *p) { return reinterpret_cast<long>(p); }

} // namespace bench

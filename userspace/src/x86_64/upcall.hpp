// SPDX-License-Identifier: MIT
#pragma once

#include <ums/scheduler.hpp>

extern "C" {

// Saves the caller's registers in *context and its stack, and makes system call nr, which on success does not
// return. Returns 0 when the next upcall has come in at ums_upcall_entry() with *context as its argument, or
// what the failed system call returned.
long ums_upcall_await(ums::detail::upcall_context *context, long nr, const void *first, long second,
		      long third);

// The entry point of upcalls.
void ums_upcall_entry(void);

} // extern "C"

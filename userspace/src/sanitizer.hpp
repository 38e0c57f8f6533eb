// SPDX-License-Identifier: MIT
//
// For ThreadSanitizer, where no header can tell it: see there. Nothing happens in a program without it.
#pragma once

extern "C" {
[[gnu::weak]] void __tsan_acquire(void *object);
[[gnu::weak]] void __tsan_release(void *object);
}

namespace ums::detail {

// What was done before the last release of the object has happened before this.
inline void tsan_acquire_if(const volatile void *object) noexcept
{
	if (__tsan_acquire)
		__tsan_acquire(const_cast<void *>(object));
}

inline void tsan_release_if(const volatile void *object) noexcept
{
	if (__tsan_release)
		__tsan_release(const_cast<void *>(object));
}

} // namespace ums::detail

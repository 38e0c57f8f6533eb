// SPDX-License-Identifier: MIT
//
// For ThreadSanitizer, which follows each thread by its thread pointer and so sees switches as what they are, but not
// that what runs for one scheduler is one after the other, nor what this library does if it is not built with it.
// Nothing happens in a program without it.
#pragma once

extern "C" {
[[gnu::weak]] void __tsan_acquire(void *object);
[[gnu::weak]] void __tsan_release(void *object);
}

namespace ums::detail {

// What was done before the last release of the object has happened before this.
inline void tsan_acquire(const volatile void *object) noexcept
{
	if (__tsan_acquire)
		__tsan_acquire(const_cast<void *>(object));
}

inline void tsan_release(const volatile void *object) noexcept
{
	if (__tsan_release)
		__tsan_release(const_cast<void *>(object));
}

} // namespace ums::detail

// SPDX-License-Identifier: MIT
#pragma once

#include <ums/export.hpp>

// For ThreadSanitizer, which follows each thread by its thread pointer, as AddressSanitizer does, and so sees switches as
// what they are; but not that what runs for one scheduler is one after the other, nor what the library does, which is
// not built with it. What workers of one scheduler share without a lock, because they only yield, it takes for a race
// where one of them is stopped by the kernel. Nothing remains of this elsewhere.

// Whether this is compiled for it.
#if defined(__SANITIZE_THREAD__)
#define UMS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UMS_TSAN 1
#endif
#endif

#ifdef UMS_TSAN
extern "C" {
void __tsan_acquire(void *object);
void __tsan_release(void *object);
// The library's own: the scheduler that runs the calling worker in user mode.
UMS_EXPORT void *ums_tsan_scheduler(void);
}
#endif

namespace ums::detail {

// What was done before the last release of the object has happened before what comes behind an acquire.
inline void tsan_release([[maybe_unused]] const volatile void *object) noexcept
{
#ifdef UMS_TSAN
	__tsan_release(const_cast<void *>(object));
#endif
}

inline void tsan_acquire([[maybe_unused]] const volatile void *object) noexcept
{
#ifdef UMS_TSAN
	__tsan_acquire(const_cast<void *>(object));
#endif
}

// Around what orders threads by an object, in the library, which ThreadSanitizer does not see. The object may be gone
// at the end.
class tsan_order
{
public:
	explicit tsan_order(const volatile void *object) noexcept : object_(object) { tsan_release(object_); }
	tsan_order(const tsan_order &) = delete;
	tsan_order &operator=(const tsan_order &) = delete;
	~tsan_order() { tsan_acquire(object_); }

private:
	[[maybe_unused]] const volatile void *object_;
};

// The same around a switch: what runs for one scheduler is one after the other.
inline void *tsan_scheduler() noexcept
{
#ifdef UMS_TSAN
	return ums_tsan_scheduler();
#else
	return nullptr;
#endif
}

} // namespace ums::detail

// SPDX-License-Identifier: MIT
#pragma once

#include <ums/export.hpp>

// Whether this is compiled for ThreadSanitizer.
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

// Tells ThreadSanitizer that what runs for one scheduler is one after the other: around a switch.
class tsan_switch
{
public:
#ifdef UMS_TSAN
	explicit tsan_switch(void *scheduler = ums_tsan_scheduler()) noexcept : scheduler_(scheduler)
	{
		__tsan_release(scheduler_);
	}
	~tsan_switch() { __tsan_acquire(scheduler_); }

private:
	void *scheduler_;
#else
	explicit tsan_switch(void * = nullptr) noexcept {}
#endif
};

} // namespace ums::detail

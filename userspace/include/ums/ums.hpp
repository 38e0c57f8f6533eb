// SPDX-License-Identifier: MIT
//
// User-mode scheduling: an application schedules its own threads. All of the library.
#pragma once

#if __cplusplus < 202002L
#error "libums needs C++20 (-std=c++20)"
#endif

#include <ums/barrier.hpp>
#include <ums/channel.hpp>
#include <ums/completion_list.hpp>
#include <ums/condition_variable.hpp>
#include <ums/error.hpp>
#include <ums/future.hpp>
#include <ums/latch.hpp>
#include <ums/mutex.hpp>
#include <ums/preempt.hpp>
#include <ums/probe.hpp>
#include <ums/query.hpp>
#include <ums/run_loop.hpp>
#include <ums/scheduler.hpp>
#include <ums/semaphore.hpp>
#include <ums/shared_mutex.hpp>
#include <ums/statistics.hpp>
#include <ums/system_call_name.hpp>
#include <ums/this_worker.hpp>
#include <ums/worker.hpp>
#include <ums/worker_id.hpp>

// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>

#include <ums/completion_list.hpp>

namespace ums::detail {

// The calling thread becomes a worker of the list of these pages. Returns its id when it is executed for the
// first time, or a negative error number.
// With user_switch it may be switched in user mode, if this machine can.
long become_worker(int list_fd, const std::shared_ptr<list_pages> &pages, std::uint64_t user_data,
		   bool user_switch) noexcept;

// What is to be done once when the calling worker becomes an ordinary thread: ums::worker gives its place
// back.
void on_detach(void (*function)(void *), void *argument) noexcept;

} // namespace ums::detail

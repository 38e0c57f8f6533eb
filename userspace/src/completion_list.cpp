// SPDX-License-Identifier: MIT
#include <ums/completion_list.hpp>

#include <algorithm>
#include <array>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "context.hpp"
#include "throw_error.hpp"
#include "woken_workers.hpp"

namespace ums {

namespace {

// The descriptor whose copy takes the place of a closed list; one for the process, never closed. Made with
// the first list, so that closing needs nothing that could be missing. A socket without connection: poll(2), which looks
// a number up again whenever it is woken, then says of it what it says of a closed list.
int placeholder()
{
	static const int the_one = [] {
		const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			detail::throw_error(errno, "socket");
		return fd;
	}();
	return the_one;
}

// As ums_wait().
int sleep(int fd, detail::list_pages &pages, const detail::deadline &until) noexcept
{
	const int ret = pages.woken->wait(fd, until);
	// The placeholder is no completion list.
	return ret == -EINVAL && pages.is_closed() ? -EBADF : ret;
}

} // namespace

namespace detail {

list_pages::list_pages() : woken(std::make_unique<woken_workers>()) {}

list_pages::~list_pages()
{
	// In the child of fork() something else may be there by now.
	if (!map.header || forks != forks_so_far())
		return;
	remove_slots(number, map.slots);
	munmap(map.header, map.size);
}

} // namespace detail

completion_list::completion_list(std::uint32_t max_workers) : pages_(std::make_shared<detail::list_pages>())
{
	placeholder();
	const int ret = ums_list_open(&pages_->map, max_workers);
	if (ret < 0)
		detail::throw_error(-ret, "ums_create");
	fd_ = pages_->map.fd;
	pages_->forks = detail::forks_so_far();
	pages_->number = pages_->map.header->list_nr;
	detail::add_slots(pages_->number, pages_->map.slots, max_workers);
}

completion_list::completion_list(completion_list &&other) noexcept
    : fd_(std::exchange(other.fd_, -1)), pages_(std::move(other.pages_))
{
}

completion_list &completion_list::operator=(completion_list &&other) noexcept
{
	if (this != &other) {
		give_back();
		fd_ = std::exchange(other.fd_, -1);
		pages_ = std::move(other.pages_);
	}
	return *this;
}

completion_list::~completion_list()
{
	give_back();
}

void completion_list::give_back() noexcept
{
	if (fd_ < 0)
		return;
	// Before anybody hears that the list is closed: see ~scheduler().
	pages_->woken->close();
	::close(fd_);
}

std::optional<worker_id> completion_list::try_pop() const noexcept
{
	auto &woken = *pages_->woken;
	const bool kernel_first = woken.empty() || woken.kernel_first();
	worker_id id = kernel_first ? worker_id::none : woken.take();
	if (id == worker_id::none)
		id = worker_id{ums_list_pop(&pages_->map)};
	if (id == worker_id::none && !woken.empty())
		id = woken.take();
	return id == worker_id::none ? std::nullopt : std::optional(id);
}

std::size_t completion_list::try_pop_many(std::span<worker_id> ids) const noexcept
{
	std::array<__u64, 64> some;
	std::size_t total = 0;

	while (total < ids.size() && !pages_->woken->empty())
		if (const auto id = try_pop())
			ids[total++] = *id;
	while (total < ids.size()) {
		const auto max = std::min(some.size(), ids.size() - total);
		const auto n = ums_list_pop_many(&pages_->map, some.data(), static_cast<unsigned>(max));
		std::transform(some.begin(), some.begin() + n,
			       ids.begin() + static_cast<std::ptrdiff_t>(total),
			       [](__u64 id) { return worker_id{id}; });
		total += n;
		if (n < max)
			break;
	}
	return total;
}

bool completion_list::empty() const noexcept
{
	const auto *header = pages_->map.header;
	const auto head = __atomic_load_n(&header->head, __ATOMIC_RELAXED);
	return head == __atomic_load_n(&header->tail, __ATOMIC_ACQUIRE) && pages_->woken->empty();
}

worker_id completion_list::pop() const
{
	for (;;) {
		if (const auto id = try_pop())
			return *id;
		wait();
	}
}

void completion_list::wait(std::error_code &ec) const noexcept
{
	ec.assign(-sleep(fd_, *pages_, {}), std::system_category());
}

void completion_list::wait() const
{
	std::error_code ec;
	do
		wait(ec);
	while (ec == std::errc::interrupted);
	if (ec)
		throw std::system_error(ec, "ums_wait");
}

bool completion_list::wait_until(std::chrono::steady_clock::time_point deadline) const
{
	int ret;
	do
		ret = sleep(fd_, *pages_, deadline);
	while (ret == -EINTR);
	if (ret == -ETIMEDOUT)
		return false;
	if (ret < 0)
		detail::throw_error(-ret, "ums_wait");
	return true;
}

void completion_list::close() noexcept
{
	// Replaces the list by something else under the same number, at once.
	if (fd_ >= 0 && !pages_->closing.exchange(true)) {
		pages_->woken->close();
		dup3(placeholder(), fd_, O_CLOEXEC);
	}
}

bool completion_list::closed() const noexcept
{
	return pages_->is_closed();
}

worker_state completion_list::state(worker_id id) const noexcept
{
	const auto &s = slot(id);
	const auto state = __atomic_load_n(&s.state, __ATOMIC_ACQUIRE);
	if (__atomic_load_n(&s.id, __ATOMIC_ACQUIRE) != static_cast<std::uint64_t>(id))
		return worker_state::none;
	return static_cast<worker_state>(state);
}

} // namespace ums

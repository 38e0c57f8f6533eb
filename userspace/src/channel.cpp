// SPDX-License-Identifier: MIT
#include <ums/channel.hpp>

#include "parking.hpp"

namespace ums::base {

channel::~channel()
{
	while (received_ != sent_)
		items_.destroy(place(received_++));
}

bool channel::send(void *item, bool may_wait, const detail::deadline &until) noexcept
{
	detail::queue_lock queue(queue_);
	if (closed_)
		return false;
	if (!queue_.empty() && !senders_wait_) {
		auto *receiver = queue_.pop_front();
		items_.move(receiver->item, item);
		receiver->granted = true;
		queue.unlock();
		receiver->wake();
		return true;
	}
	if (sent_ - received_ < capacity_) {
		items_.move(place(sent_++), item);
		return true;
	}
	if (!may_wait)
		return false;
	senders_wait_ = true;
	detail::parking me(until);
	me.item = item;
	queue_.push_back(me);
	return queue.wait(me, until) && me.granted;
}

bool channel::receive(void *to, bool may_wait, const detail::deadline &until) noexcept
{
	detail::queue_lock queue(queue_);
	const bool has_items = sent_ != received_;
	if (has_items) {
		auto *from = place(received_++);
		items_.move(to, from);
		items_.destroy(from);
	}
	if (!queue_.empty() && senders_wait_) {
		auto *sender = queue_.pop_front();
		items_.move(has_items ? place(sent_++) : to, sender->item);
		sender->granted = true;
		queue.unlock();
		sender->wake();
		return true;
	}
	if (has_items)
		return true;
	if (closed_ || !may_wait)
		return false;
	senders_wait_ = false;
	detail::parking me(until);
	me.item = to;
	queue_.push_back(me);
	return queue.wait(me, until) && me.granted;
}

void channel::close() noexcept
{
	detail::queue_lock queue(queue_);
	closed_ = true;
	auto *all = queue_.take_all();
	queue.unlock();
	detail::wake_all(all);
}

bool channel::is_closed() const noexcept
{
	const detail::queue_lock queue(queue_);
	return closed_;
}

} // namespace ums::base

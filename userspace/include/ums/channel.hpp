// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include <ums/deadline.hpp>
#include <ums/export.hpp>
#include <ums/sanitizer.hpp>
#include <ums/wait_queue.hpp>

namespace ums {

namespace base {

// Of items of any type, which are moved by a function; the places of the buffer are the caller's.
class UMS_EXPORT channel
{
public:
	// What can be done with an item: to make one at @to of that at @from, which is to be destroyed still; and that.
	struct operations {
		void (*move)(void *to, void *from) noexcept;
		void (*destroy)(void *item) noexcept;
	};

	channel(const operations &items, std::byte *places, std::size_t capacity, std::size_t item_size) noexcept
	    : items_(items), places_(places), capacity_(capacity), item_size_(item_size)
	{
	}
	~channel();

	std::size_t capacity() const noexcept { return capacity_; }

	// False: it is closed; or it would have to wait, and has waited until then.
	bool send(void *item, bool may_wait, const detail::deadline &until) noexcept;
	bool receive(void *place, bool may_wait, const detail::deadline &until) noexcept;
	void close() noexcept;
	bool is_closed() const noexcept;

private:
	void *place(std::size_t n) noexcept { return places_ + n % capacity_ * item_size_; }

	const operations items_;
	std::byte *const places_;
	const std::size_t capacity_, item_size_;

	// All under the lock of the first queue.
	std::size_t sent_ = 0, received_ = 0; // into and from the buffer
	bool closed_ = false;
	mutable wait_queue queue_; // those who wait to receive, or those who wait to send: never both
	bool senders_wait_ = false;
};

} // namespace base

/// A queue between workers, or other threads, in the manner of Go. Without capacity, who sends waits until somebody
/// receives; otherwise only while it is full. Who waits, and how, as ums::mutex; first come, first served. Values
/// must be movable without an exception; that, and their destructor, may run while the channel is locked, and a worker
/// keeps its processor: they must not wait for a lock, nor use the channel. All members but the destructor may be called by any thread at any time.
template <class T>
class channel
{
	static_assert(std::is_nothrow_move_constructible_v<T>);

public:
	/// For so many values that nobody has received. Throws std::bad_alloc.
	explicit channel(std::size_t capacity = 0)
	    : places_(capacity ? std::make_unique<place[]>(capacity) : nullptr),
	      core_({move, destroy}, reinterpret_cast<std::byte *>(places_.get()), capacity, sizeof(place))
	{
	}
	channel(const channel &) = delete;
	channel &operator=(const channel &) = delete;

	/// Values that are left are destroyed. Precondition: nobody waits.
	~channel() = default;

	/// False if it is closed: nobody will receive the value.
	bool send(T value) noexcept { return give(value, true, {}); }

	/// False if it would have to wait, or it is closed; then the value is where it was.
	bool try_send(T &value) noexcept { return give(value, false, {}); }
	bool try_send(T &&value) noexcept { return give(value, false, {}); }

	/// False if nobody came in time, or it is closed; then the value is where it was.
	template <class Rep, class Period>
	bool send_for(T &&value, const std::chrono::duration<Rep, Period> &timeout) noexcept
	{
		return give(value, true, detail::deadline_in(timeout));
	}

	/// The next value; nothing if the channel is closed and empty.
	std::optional<T> receive() noexcept { return receive(true, {}); }

	/// Nothing also if it would have to wait.
	std::optional<T> try_receive() noexcept { return receive(false, {}); }

	/// Nothing also if none came in time.
	template <class Rep, class Period>
	std::optional<T> receive_for(const std::chrono::duration<Rep, Period> &timeout) noexcept
	{
		return receive(true, detail::deadline_in(timeout));
	}

	/// From now on nothing can be sent; those who wait to send are refused. What is in the buffer can still be
	/// received.
	void close() noexcept
	{
		const detail::tsan_order order(this);
		core_.close();
	}
	bool is_closed() const noexcept { return core_.is_closed(); }

	std::size_t capacity() const noexcept { return core_.capacity(); }

private:
	struct place {
		alignas(T) std::byte bytes[sizeof(T)];
	};

	// Called by whichever of two threads comes second.
	static void move(void *to, void *from) noexcept
	{
		detail::tsan_acquire(from);
		detail::tsan_acquire(to);
		::new (to) T(std::move(*static_cast<T *>(from)));
		detail::tsan_release(to);
		detail::tsan_release(from);
	}
	static void destroy(void *item) noexcept
	{
		static_cast<T *>(item)->~T();
		detail::tsan_release(item);
	}

	bool give(T &value, bool may_wait, const detail::deadline &until) noexcept
	{
		const detail::tsan_order order(this);
		const detail::tsan_order moved(&value);
		return core_.send(&value, may_wait, until);
	}

	std::optional<T> receive(bool may_wait, const detail::deadline &until) noexcept
	{
		const detail::tsan_order order(this);
		place value;
		detail::tsan_release(&value);
		if (!core_.receive(&value, may_wait, until))
			return std::nullopt;
		detail::tsan_acquire(&value);
		auto *item = std::launder(reinterpret_cast<T *>(&value));
		std::optional<T> result(std::move(*item));
		item->~T();
		return result;
	}

	std::unique_ptr<place[]> places_;
	base::channel core_;
};

} // namespace ums

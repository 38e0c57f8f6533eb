// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <exception>
#include <future>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include <ums/deadline.hpp>
#include <ums/latch.hpp>

namespace ums {

template <class T>
class promise;

namespace detail {

// What a promise and its future share. Whoever sets it first has @claimed.
template <class T>
struct future_state {
	using stored = std::conditional_t<std::is_void_v<T>, std::monostate,
					  std::conditional_t<std::is_reference_v<T>, std::remove_reference_t<T> *, T>>;

	base::occurrence ready;
	std::atomic<bool> claimed{false};
	std::variant<std::monostate, std::exception_ptr, std::optional<stored>> result;

	void claim()
	{
		if (claimed.exchange(true, std::memory_order_relaxed))
			throw std::future_error(std::future_errc::promise_already_satisfied);
	}

	void fail(std::exception_ptr exception) noexcept
	{
		result.template emplace<1>(std::move(exception));
		ready.happen();
	}
};

} // namespace detail

template <class T>
class future;
template <class T>
class shared_future;

namespace detail {

// What both kinds of futures can.
template <class T>
class future_base
{
public:
	bool valid() const noexcept { return state_ != nullptr; }

	void wait() const { state().ready.wait(); }

	template <class Rep, class Period>
	std::future_status wait_for(const std::chrono::duration<Rep, Period> &timeout) const
	{
		return status(state().ready.wait(deadline_in(timeout)));
	}

	template <class Clock, class Duration>
	std::future_status wait_until(const std::chrono::time_point<Clock, Duration> &time) const
	{
		auto &s = state();
		return status(detail::wait_until(time, [&](const deadline &until) { return s.ready.wait(until); }));
	}

protected:
	using shared = std::shared_ptr<future_state<T>>;

	future_base() noexcept = default;
	explicit future_base(shared s) noexcept : state_(std::move(s)) {}

	future_state<T> &state() const
	{
		if (!state_)
			throw std::future_error(std::future_errc::no_state);
		return *state_;
	}

	// Waits; throws what is there in place of a value.
	auto &value() const
	{
		auto &s = state();
		s.ready.wait();
		if (auto *exception = std::get_if<1>(&s.result))
			std::rethrow_exception(*exception);
		return *std::get<2>(s.result);
	}

	shared state_;

private:
	static std::future_status status(bool ready) noexcept
	{
		return ready ? std::future_status::ready : std::future_status::timeout;
	}
};

} // namespace detail

/// As std::future, of a ums::promise; who waits, and how, as ums::mutex.
template <class T>
class future : public detail::future_base<T>
{
public:
	future() noexcept = default;
	future(future &&) noexcept = default;
	future &operator=(future &&) noexcept = default;

	/// Waits, and returns the value or throws the exception. The future is not valid() afterwards. Throws
	/// std::future_error: no_state when it is not before; broken_promise.
	T get()
	{
		const future moved(std::move(*this));
		auto &value = moved.value();
		if constexpr (std::is_void_v<T>)
			static_cast<void>(value);
		else if constexpr (std::is_reference_v<T>)
			return static_cast<T>(*value);
		else
			return std::move(value);
	}

	/// For several to wait, and to look at the value. The future is not valid() afterwards.
	shared_future<T> share() noexcept { return shared_future<T>(std::move(*this)); }

private:
	friend promise<T>;
	friend shared_future<T>;
	explicit future(std::shared_ptr<detail::future_state<T>> s) noexcept : detail::future_base<T>(std::move(s)) {}
};

/// As std::shared_future: each of the threads that share one has a copy of its own.
template <class T>
class shared_future : public detail::future_base<T>
{
public:
	shared_future() noexcept = default;
	shared_future(future<T> &&other) noexcept : detail::future_base<T>(std::move(other.state_)) {}
	shared_future(const shared_future &) noexcept = default;
	shared_future(shared_future &&) noexcept = default;
	shared_future &operator=(const shared_future &) noexcept = default;
	shared_future &operator=(shared_future &&) noexcept = default;

	/// As future::get(), as often as one likes; a value is const and stays as long as a copy of this one.
	decltype(auto) get() const
	{
		auto &value = this->value();
		if constexpr (std::is_void_v<T>)
			static_cast<void>(value);
		else if constexpr (std::is_reference_v<T>)
			return static_cast<T>(*value);
		else
			return std::as_const(value);
	}
};

/// As std::promise, but for set_value_at_thread_exit() and its like: the thread of a worker may outlive that.
template <class T>
class promise
{
public:
	/// Throws std::bad_alloc.
	promise() : state_(std::make_shared<detail::future_state<T>>()) {}
	promise(promise &&) noexcept = default;
	promise &operator=(promise &&other) noexcept
	{
		promise(std::move(other)).swap(*this);
		return *this;
	}

	/// The future gets broken_promise, if nothing was set.
	~promise()
	{
		if (state_ && !state_->claimed.exchange(true, std::memory_order_relaxed))
			state_->fail(std::make_exception_ptr(std::future_error(std::future_errc::broken_promise)));
	}

	void swap(promise &other) noexcept
	{
		std::swap(state_, other.state_);
		std::swap(retrieved_, other.retrieved_);
	}
	friend void swap(promise &a, promise &b) noexcept { a.swap(b); }

	/// Once. Throws std::future_error: future_already_retrieved, no_state.
	future<T> get_future()
	{
		require();
		if (std::exchange(retrieved_, true))
			throw std::future_error(std::future_errc::future_already_retrieved);
		return future<T>(state_);
	}

	/// Throws std::future_error: promise_already_satisfied, no_state; what the constructor of T throws, and the
	/// promise is broken then.
	template <class Value = T>
		requires(!std::is_void_v<T>)
	void set_value(Value &&value)
	{
		satisfy(std::forward<Value>(value));
	}
	void set_value()
		requires(std::is_void_v<T>)
	{
		satisfy();
	}

	/// Throws as set_value().
	void set_exception(std::exception_ptr exception)
	{
		require();
		state_->claim();
		state_->fail(std::move(exception));
	}

private:
	template <class... Value>
	void satisfy(Value &&...value)
	{
		require();
		state_->claim();
		try {
			if constexpr (std::is_reference_v<T>)
				state_->result.template emplace<2>(std::in_place, &value...);
			else
				state_->result.template emplace<2>(std::in_place, std::forward<Value>(value)...);
		} catch (...) {
			state_->fail(std::make_exception_ptr(std::future_error(std::future_errc::broken_promise)));
			throw;
		}
		state_->ready.happen();
	}

	void require() const
	{
		if (!state_)
			throw std::future_error(std::future_errc::no_state);
	}

	std::shared_ptr<detail::future_state<T>> state_;
	bool retrieved_ = false;
};

} // namespace ums

// SPDX-License-Identifier: MIT
#include <array>
#include <atomic>
#include <chrono>
#include <cfenv>
#include <csignal>
#include <memory>
#include <thread>

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <xmmintrin.h>

#include "helpers.hpp"

using namespace std::chrono_literals;
using test::error_of;
using test::run;
using test::run_all;
using ums::reason;

extern "C" void call_with_registers(void (*f)(void *), void *arg, const std::uint64_t in[6],
				    std::uint64_t out[6]);

TEST(Scheduler, IsARoleOfTheThread)
{
	EXPECT_EQ(ums::scheduler::current(), nullptr);
	EXPECT_EQ(ums::query_thread().role, unsigned{UMS_ROLE_NONE});
	{
		ums::scheduler me;
		EXPECT_EQ(ums::scheduler::current(), &me);
		EXPECT_EQ(ums::scheduler::count(), 1U);
		EXPECT_EQ(ums::query_thread().role, unsigned{UMS_ROLE_SCHEDULER});
		EXPECT_EQ(error_of([] { ums::scheduler again; }), std::errc::device_or_resource_busy);
		std::jthread([] {
			EXPECT_EQ(ums::scheduler::current(), nullptr);
			ums::scheduler other;
			EXPECT_EQ(ums::scheduler::count(), 2U);
		}).join();
	}
	EXPECT_EQ(ums::scheduler::current(), nullptr);
	EXPECT_EQ(ums::scheduler::count(), 0U);
	EXPECT_EQ(ums::query_thread().role, unsigned{UMS_ROLE_NONE});
	ums::scheduler again;
}

TEST(Scheduler, EventsSayWhatHappened)
{
	ums::completion_list list(1);
	ums::scheduler me;
	test::pipe p;
	ums::worker w(list, [&] {
		p.take();
		ums::this_worker::yield(0x123456789abcdef);
		ums::this_worker::yield_to_list(7);
	});

	const auto id = list.pop();
	EXPECT_EQ(w.get_id(), id);
	auto e = run(me, list, id);
	EXPECT_EQ(e.reason, reason::blocked);
	EXPECT_EQ(e.worker, id);
	EXPECT_EQ(e.cause(), std::uint64_t{SYS_read});
	EXPECT_FALSE(e.is_fault());
	EXPECT_FALSE(e.is_last());
	EXPECT_EQ(list.state(id), ums::worker_state::blocked);
	EXPECT_EQ(list.slot(id).cause, std::uint64_t{SYS_read});

	p.give();
	EXPECT_EQ(list.pop(), id);
	e = run(me, list, w.get_id());
	EXPECT_EQ(e.reason, reason::yielded);
	EXPECT_EQ(e.worker, id);
	EXPECT_EQ(e.argument(), 0x123456789abcdefU);
	EXPECT_TRUE(list.empty());

	e = run(me, list, w);
	EXPECT_EQ(e.reason, reason::yielded);
	EXPECT_EQ(e.argument(), 7U);
	EXPECT_EQ(list.pop(), id);

	e = run(me, list, w.get_id());
	EXPECT_EQ(e.reason, reason::exited);
	EXPECT_EQ(e.worker, id);
	EXPECT_EQ(e.status(), 0);
	EXPECT_TRUE(e.is_last());
}

// In user mode, too, where the machine can.
TEST(Scheduler, ArgumentsOfYields)
{
	ums::completion_list list(1);
	ums::scheduler me({.user_switch = true});
	ums::worker w(list, {.user_switch = true}, [&] {
		for (std::uint64_t n = 1; n; n <<= 1)
			ums::this_worker::yield(n + 3);
	});
	const auto id = list.pop();
	for (std::uint64_t n = 1; n; n <<= 1) {
		const auto e = run(me, list, id);
		EXPECT_EQ(e.reason, reason::yielded);
		EXPECT_EQ(e.argument(), n + 3);
	}
	EXPECT_EQ(run(me, list, id).reason, reason::exited);
}

TEST(Scheduler, ExitStatus)
{
	ums::completion_list list(1);
	ums::scheduler me;
	// What exit(2), of the thread alone, was given.
	ums::worker w(list, [] { syscall(SYS_exit, 7); });
	const auto e = run(me, list, list.pop());
	EXPECT_EQ(e.reason, reason::exited);
	EXPECT_TRUE(WIFEXITED(e.status()));
	EXPECT_EQ(WEXITSTATUS(e.status()), 7);
	EXPECT_EQ(ums::query(e.worker).exit_status, e.status());
	EXPECT_EQ(ums::query(e.worker).state, unsigned{UMS_STATE_EXITED});
}

TEST(Scheduler, PageFault)
{
	const long page = sysconf(_SC_PAGESIZE);
	const auto size = static_cast<std::size_t>(page);
	auto *memory = static_cast<volatile char *>(
		mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	const int fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC));
	ASSERT_GE(fd, 0);
	uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
	ASSERT_EQ(ioctl(fd, UFFDIO_API, &api), 0);
	uffdio_register range{};
	range.range = {.start = reinterpret_cast<std::uintptr_t>(memory), .len = size};
	range.mode = UFFDIO_REGISTER_MODE_MISSING;
	ASSERT_EQ(ioctl(fd, UFFDIO_REGISTER, &range), 0);

	ums::completion_list list(1);
	ums::scheduler me;
	char seen = 0;
	ums::worker w(list, [&] { seen = *memory; });
	auto e = me.run(list.pop());
	while (list.wait_for(200ms)) // was another fault, which is over
		e = me.run(list.pop());
	EXPECT_EQ(e.reason, reason::blocked);
	EXPECT_TRUE(e.is_fault());
	EXPECT_EQ(e.cause(), UMS_CAUSE_FAULT);

	alignas(4096) static std::array<char, 4096> content;
	content[0] = 'f';
	uffdio_copy copy{};
	copy.dst = range.range.start;
	copy.src = reinterpret_cast<std::uintptr_t>(content.data());
	copy.len = size;
	ASSERT_EQ(ioctl(fd, UFFDIO_COPY, &copy), 0);
	run_all(me, list, 1);
	EXPECT_EQ(seen, 'f');
	close(fd);
	munmap(const_cast<char *>(memory), size);
}

TEST(Scheduler, Errors)
{
	ums::completion_list list(2);
	test::pipe p;
	{
		ums::scheduler me;
		const auto error_of_run = [&](ums::worker_id id) {
			std::error_code ec;
			const auto e = me.run(id, {}, ec);
			EXPECT_EQ(e.reason == reason::none, bool(ec));
			EXPECT_EQ(error_of([&] { me.run(id); }), ec);
			return ec;
		};
		EXPECT_EQ(error_of_run(ums::worker_id::none), ums::errc::no_such_worker);
		EXPECT_EQ(error_of_run(ums::worker_id{~0ULL}), ums::errc::no_such_worker);

		ums::worker w(list, [&] {
			p.take();
			ums::this_worker::yield();
		});
		list.wait();
		EXPECT_EQ(error_of_run(w.get_id()), ums::errc::on_list);
		const auto id = list.pop();
		EXPECT_EQ(run(me, list, id).reason, reason::blocked);
		EXPECT_EQ(error_of_run(id), ums::errc::blocked);
		p.give();
		EXPECT_EQ(list.pop(), id);
		std::error_code ec = ums::errc::blocked;
		auto e = me.run(id, {}, ec);
		EXPECT_FALSE(ec);
		if (test::blocked_for_memory(e))
			e = run(me, list, list.pop());
		EXPECT_EQ(e.reason, reason::yielded);
		EXPECT_EQ(run(me, list, id).reason, reason::exited);
		EXPECT_EQ(error_of_run(id), ums::errc::ended);

		ums::worker never; // has no id
		EXPECT_EQ(error_of([&] { me.run(never); }), ums::errc::no_such_worker);
	}
}

TEST(Scheduler, RunningElsewhere)
{
	ums::completion_list list(1);
	std::atomic<bool> started{false}, stop{false};
	ums::worker w(list, [&] {
		started = true;
		while (!stop)
			;
	});
	const auto id = list.pop();
	std::jthread other([&] {
		ums::scheduler me;
		EXPECT_EQ(run(me, list, id).reason, reason::exited);
	});
	while (!started)
		std::this_thread::yield();
	{
		ums::scheduler me;
		std::error_code ec;
		me.run(id, {}, ec);
		EXPECT_EQ(ec, ums::errc::running);
		EXPECT_EQ(list.state(id), ums::worker_state::running);
	}
	stop = true;
}

TEST(Scheduler, LocalsAndDestructorsLiveOn)
{
	ums::completion_list list(1);
	int destroyed = 0;
	struct counted {
		int &n;
		~counted() { n++; }
	};
	ums::worker w(list, [] {
		for (int i = 0; i < 100; i++)
			ums::this_worker::yield();
	});
	const auto id = list.pop();
	ums::scheduler me;
	for (int i = 0; i < 100; i++) {
		const counted here{destroyed};
		std::array<int, 64> locals;
		locals.fill(i);
		const auto text = std::make_unique<std::string>(std::to_string(i));
		EXPECT_EQ(run(me, list, id).reason, reason::yielded);
		for (const int l : locals)
			ASSERT_EQ(l, i);
		ASSERT_EQ(*text, std::to_string(i));
		ASSERT_EQ(destroyed, i);
	}
	EXPECT_EQ(destroyed, 100);
	EXPECT_EQ(run(me, list, id).reason, reason::exited);
}

TEST(Scheduler, ExceptionsPassThrough)
{
	ums::completion_list list(2);
	ums::worker w(list, [] { ums::this_worker::yield(); });
	const auto id = list.pop();
	ums::scheduler me;
	int caught = 0;
	try {
		struct cleanup {
			int &n;
			~cleanup() { n++; }
		} c{caught};
		run(me, list, id);
		throw std::runtime_error("from the scheduler's loop");
	} catch (const std::runtime_error &) {
		caught++;
	}
	EXPECT_EQ(caught, 2);
	EXPECT_EQ(run(me, list, id).reason, reason::exited);
	// One inside a catch clause, with the exception in flight.
	ums::worker again(list, [] {});
	try {
		throw 5;
	} catch (int five) {
		EXPECT_EQ(run(me, list, list.pop()).reason, reason::exited);
		EXPECT_EQ(five, 5);
		EXPECT_EQ(std::uncaught_exceptions(), 0);
	}
}

namespace {

void preserves_registers(bool user_switch)
{
	ums::completion_list list(1);
	test::pipe p;
	ums::worker w(list, {.user_switch = user_switch}, [&] {
		ums::this_worker::yield();
		p.take();
	});
	ums::scheduler me({.user_switch = user_switch});
	struct {
		ums::scheduler &me;
		ums::completion_list &list;
		test::pipe &p;
		ums::worker_id id;
		reason last;
	} data{me, list, p, list.pop(), reason::none};

	const auto run = [](void *arg) {
		auto &d = *static_cast<decltype(data) *>(arg);
		d.last = test::run(d.me, d.list, d.id).reason;
	};
	const std::uint64_t in[6] = {0x1111111111111111, 0x2222222222222222, 0x3333333333333333,
				     0x4444444444444444, 0x5555555555555555, 0x6666666666666666};
	for (const auto expected : {reason::yielded, reason::blocked, reason::exited}) {
		std::uint64_t out[6] = {};
		if (expected == reason::exited) {
			p.give();
			data.id = list.pop();
		}
		call_with_registers(run, &data, in, out);
		EXPECT_EQ(data.last, expected);
		for (int i = 0; i < 6; i++)
			EXPECT_EQ(in[i], out[i]) << "register " << i;
	}
	// A refused execution, too.
	std::uint64_t out[6] = {};
	call_with_registers(
		[](void *arg) {
			std::error_code ec;
			auto &d = *static_cast<decltype(data) *>(arg);
			d.last = d.me.run(d.id, {}, ec).reason;
		},
		&data, in, out);
	EXPECT_EQ(data.last, reason::none);
	for (int i = 0; i < 6; i++)
		EXPECT_EQ(in[i], out[i]) << "register " << i;
}

} // namespace

TEST(Scheduler, PreservedRegisters)
{
	for (const bool user_switch : {false, true})
		preserves_registers(user_switch);
}

namespace {

unsigned short x87_control_word()
{
	unsigned short word;
	asm volatile("fnstcw %0" : "=m"(word));
	return word;
}

void keeps_control_words(bool user_switch)
{
	// Others each time.
	constexpr std::array modes{FE_TOWARDZERO, FE_UPWARD, FE_DOWNWARD, FE_TONEAREST, FE_TOWARDZERO};
	ums::completion_list list(1);
	ums::scheduler me({.user_switch = user_switch});
	ums::worker w(list, {.user_switch = user_switch}, [&] {
		for (std::size_t i = 0; i < 3; i++) {
			std::fesetround(modes[i]);
			const auto mxcsr = _mm_getcsr();
			const auto x87 = x87_control_word();
			ums::this_worker::yield();
			EXPECT_EQ(_mm_getcsr(), mxcsr);
			EXPECT_EQ(x87_control_word(), x87);
			EXPECT_EQ(std::fegetround(), modes[i]);
		}
	});
	const auto id = list.pop();
	for (std::size_t i = 0; i < 4; i++) {
		std::fesetround(modes[i + 1]);
		const auto mxcsr = _mm_getcsr();
		const auto x87 = x87_control_word();
		run(me, list, id);
		EXPECT_EQ(_mm_getcsr(), mxcsr);
		EXPECT_EQ(x87_control_word(), x87);
		EXPECT_EQ(std::fegetround(), modes[i + 1]);
		// The x87 stack and the direction flag are as the ABI wants them.
		volatile long double third = 1.0L / 3;
		EXPECT_NEAR(static_cast<double>(third * 3), 1.0, 1e-9);
	}
	std::fesetround(FE_TONEAREST);
}

} // namespace

TEST(Scheduler, ControlWordsOfEachThread)
{
	for (const bool user_switch : {false, true})
		keeps_control_words(user_switch);
}

TEST(Scheduler, SliceEnds)
{
	ums::completion_list list(1);
	ums::scheduler me;
	std::atomic<bool> stop{false};
	ums::worker w(list, [&] {
		while (!stop)
			;
	});
	for (int i = 0; i < 3; i++) {
		const auto e = run(me, list, list.pop(), 2ms);
		EXPECT_EQ(e.reason, reason::preempted);
		EXPECT_EQ(e.why(), UMS_PREEMPT_SLICE);
	}
	stop = true;
	EXPECT_EQ(run(me, list, list.pop(), 60s).reason, reason::exited);
}

TEST(Scheduler, PreemptFromAnotherThread)
{
	ums::completion_list list(1);
	ums::scheduler me;
	std::atomic<bool> started{false}, stop{false};
	ums::worker w(list, [&] {
		started = true;
		while (!stop)
			;
	});
	const auto id = list.pop();
	std::error_code ec;
	ums::preempt(id, ec);
	EXPECT_EQ(ec, ums::errc::blocked); // nobody runs it
	std::jthread other([&] {
		while (!started)
			std::this_thread::yield();
		ums::preempt(id);
	});
	const auto e = run(me, list, id);
	EXPECT_EQ(e.reason, reason::preempted);
	EXPECT_EQ(e.why(), UMS_PREEMPT_ASKED);
	stop = true;
	EXPECT_EQ(list.pop(), id);
	EXPECT_EQ(run(me, list, id).reason, reason::exited);
	EXPECT_EQ(error_of([&] { ums::preempt(id); }), ums::errc::ended);
	EXPECT_EQ(error_of([&] { ums::preempt(ums::worker_id::none); }), ums::errc::no_such_worker);
}

TEST(Scheduler, ASignalPreemptsTheWorker)
{
	static std::atomic<int> handled;
	static pid_t handler_thread;
	handled = 0;
	struct sigaction action {
	};
	action.sa_handler = [](int) {
		handler_thread = gettid();
		handled++;
	};
	sigaction(SIGUSR1, &action, nullptr);

	ums::completion_list list(1);
	ums::scheduler me;
	const auto my_thread = pthread_self();
	std::atomic<bool> started{false}, stop{false};
	ums::worker w(list, [&] {
		started = true;
		while (!stop)
			;
	});
	std::jthread other([&] {
		while (!started)
			std::this_thread::yield();
		pthread_kill(my_thread, SIGUSR1);
	});
	const auto e = run(me, list, list.pop());
	EXPECT_EQ(e.reason, reason::preempted);
	EXPECT_EQ(e.why(), UMS_PREEMPT_SIGNAL);
	EXPECT_EQ(handled, 1);
	EXPECT_EQ(handler_thread, gettid());
	stop = true;
	EXPECT_EQ(run(me, list, list.pop()).reason, reason::exited);
}

TEST(Scheduler, WorkersOfSeveralLists)
{
	ums::completion_list a(1), b(1);
	ums::scheduler me;
	ums::worker in_a(a, [] { ums::this_worker::yield(); }), in_b(b, [] { ums::this_worker::yield(); });
	const auto ida = a.pop(), idb = b.pop();
	EXPECT_FALSE(a.owns(idb));
	EXPECT_EQ(run(me, a, ida).reason, reason::yielded);
	EXPECT_EQ(run(me, b, idb).reason, reason::yielded);
	EXPECT_EQ(run(me, a, ida).reason, reason::exited);
	EXPECT_EQ(run(me, b, idb).reason, reason::exited);
}

TEST(Scheduler, AWorkerMovesBetweenSchedulers)
{
	ums::completion_list list(1);
	pid_t tid = 0;
	ums::worker w(list, [&] {
		tid = gettid();
		for (int i = 0; i < 3; i++) {
			ums::this_worker::yield();
			EXPECT_EQ(gettid(), tid);
		}
	});
	const auto id = list.pop();
	for (int i = 0; i < 4; i++)
		std::jthread([&] {
			ums::scheduler me;
			EXPECT_EQ(run(me, list, id).reason, i < 3 ? reason::yielded : reason::exited);
		}).join();
}

TEST(Scheduler, SmallStack)
{
	ums::completion_list list(1);
	ums::scheduler me(1); // rounded up
	ums::worker w(list, [] { ums::this_worker::yield(); });
	const auto id = list.pop();
	EXPECT_EQ(run(me, list, id).reason, reason::yielded);
	EXPECT_EQ(run(me, list, id).reason, reason::exited);
}

// The raw form: every upcall starts the entry point anew.
namespace raw {

ums::completion_list *list;
std::vector<std::uint64_t> reasons;
std::uint64_t startup_detail, seen_arg;

void leave()
{
	// The rest of the thread runs as an ordinary one, on the upcall stack.
	EXPECT_EQ(ums_scheduler_exit(0), 0);
	pthread_exit(nullptr);
}

void entry(std::uint64_t reason, std::uint64_t worker, std::uint64_t detail, std::uint64_t, std::uint64_t arg)
{
	// As a function is called: the stack is 8 short of a multiple of 16, which SSE code relies on.
	alignas(16) volatile char probe[16];
	EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&probe) % 16, 0U);
	reasons.push_back(reason);
	seen_arg = arg;
	if (reason == UMS_UPCALL_STARTUP)
		startup_detail = detail;
	if (reason == UMS_UPCALL_EXITED)
		leave();
	const auto next = reason == UMS_UPCALL_YIELDED ? worker : static_cast<std::uint64_t>(list->pop());
	ADD_FAILURE() << ums_execute(next, 0, 0);
	_exit(1);
}

} // namespace raw

TEST(Scheduler, RawEntry)
{
	static std::array<std::byte, 1 << 17> stack;
	ums::completion_list list(1);
	raw::list = &list;
	raw::reasons.clear();
	ums::worker w(list, [] { ums::this_worker::yield(5); });
	std::thread t(
		[&] { ADD_FAILURE() << ums::raw_scheduler_enter(raw::entry, stack, 99, 77).message(); });
	t.join();
	EXPECT_EQ(raw::reasons,
		  (std::vector<std::uint64_t>{UMS_UPCALL_STARTUP, UMS_UPCALL_YIELDED, UMS_UPCALL_EXITED}));
	EXPECT_EQ(raw::startup_detail, 77U);
	EXPECT_EQ(raw::seen_arg, 99U);
}

TEST(Scheduler, RawEntryErrors)
{
	static std::array<std::byte, 1 << 16> stack;
	EXPECT_EQ(ums::raw_scheduler_enter(raw::entry, std::span(stack).first(UMS_MIN_STACK - 1), 0),
		  std::errc::invalid_argument);
	EXPECT_EQ(ums::raw_scheduler_enter(reinterpret_cast<ums::raw_entry *>(~0xfffULL), stack, 0),
		  std::errc::bad_address);
	ums::scheduler me;
	EXPECT_EQ(ums::raw_scheduler_enter(raw::entry, stack, 0), std::errc::device_or_resource_busy);
}

TEST(Query, ASchedulerAndItsCounters)
{
	ums::completion_list list(1);
	ums::scheduler me;
	const auto before = ums::query_thread(gettid());
	EXPECT_EQ(before.role, unsigned{UMS_ROLE_SCHEDULER});
	ums::worker w(list, [] { ums::this_worker::yield(); });
	const auto id = list.pop();
	run(me, list, id);
	EXPECT_EQ(ums::query(id).yields, 1U);
	EXPECT_EQ(ums::query(id).executes, 1U);
	run(me, list, id);
	const auto after = ums::query_thread();
	EXPECT_EQ(after.executes - before.executes, 2U);
	EXPECT_EQ(after.yields - before.yields, 1U);
	EXPECT_EQ(error_of([] { ums::query_thread(1); }), std::errc::no_such_process);
	EXPECT_EQ(error_of([] { ums::query(ums::worker_id{12345}); }), ums::errc::no_such_worker);
}

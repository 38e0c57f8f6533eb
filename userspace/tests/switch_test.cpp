// SPDX-License-Identifier: MIT
//
// Yields and runs that switch in user mode: whatever a thread has is still its own, on whatever thread the kernel
// believed it to be before. Where the machine cannot, the same is tested of the system calls.
#include <array>
#include <atomic>
#include <cerrno>
#include <cfenv>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <xmmintrin.h>

#include "helpers.hpp"

using test::error_of;
using test::run;
using test::run_all;
using test::take_turns;
using ums::reason;

namespace {

const ums::scheduler::options switching{.user_switch = true};
const ums::worker::options may_switch{.user_switch = true};

bool in_user_mode()
{
	return ums::probe().has(UMS_FEATURE_USER_SWITCH) && __rseq_size;
}

thread_local long mine;

} // namespace

// If they silently went through the kernel, all other tests would pass.
TEST(Switch, TheKernelDoesNotSeeThem)
{
	ums::completion_list list(2);
	ums::scheduler me(switching);
	std::array<ums::worker, 2> w;
	for (auto &worker : w)
		worker = ums::worker(list, may_switch, [] {
			for (int i = 0; i < 10'000; i++)
				ums::this_worker::yield();
		});
	const auto before = ums::query_thread();
	take_turns(me, list, 2);
	const auto after = ums::query_thread();
	EXPECT_EQ(after.yields - before.yields, in_user_mode() ? 0U : 20'000U);
	if (in_user_mode()) {
		// Some blocks and preemptions at most.
		EXPECT_LT(after.executes - before.executes, 200U);
	}
}

TEST(Switch, EachCallIsMadeByItsOwnThread)
{
	constexpr int n = 8, rounds = 200;
	ums::completion_list list(n);
	ums::scheduler me(switching);
	const auto tid = gettid();
	std::vector<ums::worker> workers;
	std::atomic<int> wrong{0}, handoffs{0};
	for (int k = 0; k < n; k++)
		workers.emplace_back(list, may_switch, [&, k] {
			const auto own = gettid();
			mine = k;
			for (int i = 0; i < rounds; i++) {
				errno = k;
				ums::this_worker::yield();
				wrong += errno != k || mine != k;
				// Not every time, so that it is resumed on others' threads, too.
				if ((i + k) % 3 == 0)
					wrong += gettid() != own;
			}
			handoffs += static_cast<int>(ums::query(ums::this_worker::get_id()).handoffs);
		});
	take_turns(me, list, n);
	EXPECT_EQ(gettid(), tid);
	EXPECT_EQ(wrong, 0);
	if (in_user_mode()) {
		EXPECT_GT(handoffs, n * rounds / 6);
	}
}

// Counters, each for who runs on one processor or has one mm_cid, incremented as librseq does: without an atomic
// operation, in a critical section. A wrong index, or a section that is not restarted, loses some.
namespace {

struct alignas(64) counter {
	std::uint64_t n;
};
std::array<counter, 1024> counters;
std::atomic<std::uint64_t> aborts;

// For so many turns of a loop that it is stopped inside now and then.
void increment(void *area, const void *index, unsigned turns)
{
	asm volatile(R"(
		.pushsection __rseq_cs, "aw"
		.balign 32
	1:	.long 0, 0
		.quad 3f, 4f - 3f, 5f
		.popsection
	2:	lea 1b(%%rip), %%rax
		mov %%rax, 8(%[area])
	3:	mov (%[index]), %%eax
		shl $6, %%rax
		add %[counters], %%rax
		mov (%%rax), %%rdx
		mov %[turns], %%ecx
	6:	dec %%ecx
		jnz 6b
		inc %%rdx
		mov %%rdx, (%%rax)
	4:
		.pushsection .text.increment_failure, "ax"
		.byte 0x0f, 0xb9, 0x3d
		.long 0x53053053
	5:	lock incq %[aborts]
		jmp 2b
		.popsection
	)"
		     : [aborts] "+m"(aborts)
		     : [area] "r"(area), [index] "r"(index), [counters] "r"(counters.data()), [turns] "r"(turns)
		     : "rax", "rcx", "rdx", "memory", "cc");
}

// An outside thread that moves others from one processor to another all the time, until it is destroyed.
class mover
{
public:
	explicit mover(std::size_t n) : tids_(n) {}
	~mover() { over_ = true; }

	// The i-th: the calling thread, or none any more.
	void set(std::size_t i, pid_t tid) { tids_[i] = tid; }
	unsigned moves() const { return moves_; }

private:
	void run()
	{
		const auto cpus = std::thread::hardware_concurrency();
		std::minstd_rand random(1);
		while (!over_) {
			usleep(100);
			const auto tid = tids_[random() % tids_.size()].load();
			cpu_set_t set;
			CPU_ZERO(&set);
			CPU_SET(random() % cpus, &set);
			if (tid && sched_setaffinity(tid, sizeof set, &set) == 0)
				moves_++;
		}
	}

	std::vector<std::atomic<pid_t>> tids_;
	std::atomic<unsigned> moves_{0};
	std::atomic<bool> over_{false};
	std::jthread thread_{&mover::run, this};
};

// @offset: of the index in the rseq area. At least so many increments by all of them; moved by others, or by itself.
void count_all(unsigned offset, std::uint64_t increments, bool by_others)
{
	// One scheduler more than processors, so that some are stopped by others.
	const auto cpus = std::thread::hardware_concurrency();
	const unsigned schedulers = cpus + 1;
	constexpr unsigned workers_each = 4, enough = 20;
	const auto rounds = increments / (schedulers * workers_each) + 1;
	counters = {};
	aborts = 0;
	std::atomic<int> wrong_cpu{0};
	std::atomic<std::uint64_t> expected{0};
	std::optional<mover> others;
	if (by_others)
		others.emplace(schedulers * (workers_each + 1));
	std::vector<std::jthread> threads;
	for (unsigned s = 0; s < schedulers; s++)
		threads.emplace_back([&, s] {
			const auto move = [&](unsigned k, pid_t tid) {
				if (others)
					others->set(s * (workers_each + 1) + k, tid);
			};
			move(workers_each, gettid());
			ums::completion_list list(workers_each);
			ums::scheduler me(switching);
			std::vector<ums::worker> workers;
			for (unsigned k = 0; k < workers_each; k++)
				workers.emplace_back(list, may_switch, [&, s, k] {
					move(k, gettid());
					auto *area = static_cast<char *>(__builtin_thread_pointer()) + __rseq_offset;
					std::uint64_t i = 0;
					for (; i < rounds || (aborts < enough && i < 20 * rounds); i++) {
						// Most of them quickly where there are many.
						increment(area, area + offset, !others || i % 64 < 4 ? 200 : 1);
						if (i % 4 == 3)
							ums::this_worker::yield();
						// Now and then to another processor.
						if (!others && i % 1000 == 999) {
							cpu_set_t set;
							CPU_ZERO(&set);
							const auto to = static_cast<unsigned>((i / 1000 + s + k) % cpus);
							CPU_SET(to, &set);
							sched_setaffinity(0, sizeof set, &set);
							wrong_cpu += sched_getcpu() != static_cast<int>(to);
						}
					}
					expected += i;
					move(k, 0);
				});
			take_turns(me, list, workers_each);
			move(workers_each, 0);
		});
	threads.clear();
	if (others) {
		EXPECT_GT(others->moves(), 10U);
	}
	std::uint64_t sum = 0;
	for (const auto &c : counters)
		sum += c.n;
	EXPECT_GE(sum, increments);
	EXPECT_EQ(sum, expected);
	EXPECT_EQ(wrong_cpu, 0);
	EXPECT_LE(enough, aborts);
}

constexpr unsigned of_processor = 4, of_concurrency = 24; // cpu_id, mm_cid

} // namespace

TEST(Switch, CountersOfProcessorsLoseNothing)
{
	if (!__rseq_size)
		GTEST_SKIP() << "no rseq";
	count_all(of_processor, 200'000, false);
}

TEST(Switch, CountersOfProcessorsLoseNothingInTenMillion)
{
	// Two million yields by system calls take a minute.
	if (!in_user_mode())
		GTEST_SKIP() << "no switch in user mode";
	count_all(of_processor, 10'000'000, true);
}

// An mm_cid is that of one running thread, too. The area of each is longer than __rseq_size says: see ask_for_switch().
TEST(Switch, CountersOfConcurrencyIdsLoseNothing)
{
	if (!in_user_mode())
		GTEST_SKIP() << "no switch in user mode";
	count_all(of_concurrency, 200'000, false);
	count_all(of_concurrency, 1'000'000, true);
}

namespace {

// What the kernel keeps in an area: cpu_id_start, cpu_id, node_id, mm_cid.
struct rseq_fields {
	std::uint32_t cpu_id_start, cpu_id, cs[2], flags, node_id, mm_cid;

	static rseq_fields *mine()
	{
		return reinterpret_cast<rseq_fields *>(static_cast<char *>(__builtin_thread_pointer()) + __rseq_offset);
	}
	void spoil() volatile
	{
		cpu_id_start = 0x7777;
		cpu_id = 0x7777;
		node_id = 0x7777;
		mm_cid = 0x7777;
	}
	bool is_spoiled() const volatile
	{
		return cpu_id_start == 0x7777 || cpu_id == 0x7777 || node_id == 0x7777 || mm_cid == 0x7777;
	}
};
static_assert(offsetof(rseq_fields, node_id) == 20);

} // namespace

// Before the kernel has looked at it: whoever is resumed has all of it from who ran before.
TEST(Switch, BringsTheWholeRseqAreaAlong)
{
	if (!in_user_mode())
		GTEST_SKIP() << "no switch in user mode";
	ums::completion_list list(2);
	ums::scheduler me(switching);
	volatile auto *schedulers = rseq_fields::mine();
	std::array<volatile rseq_fields *, 2> areas{};
	std::array<ums::worker_id, 2> ids{};
	std::array<ums::worker, 2> w;
	int spoiled = 0;
	constexpr int rounds = 50;
	for (std::size_t k = 0; k < 2; k++) {
		w[k] = ums::worker(list, may_switch, [&, k] {
			areas[k] = rseq_fields::mine();
			ums::this_worker::yield();
			for (int i = 0; i < rounds; i++) {
				// By the scheduler, and by the other one.
				spoiled += areas[k]->is_spoiled();
				areas[k ^ 1]->spoil();
				// It may be on the list.
				error_of([&] { ums::this_worker::switch_to(ids[k ^ 1]); });
				spoiled += areas[k]->is_spoiled();
				schedulers->spoil();
				ums::this_worker::yield();
			}
		});
		ids[k] = list.pop();
		EXPECT_EQ(run(me, list, ids[k]).reason, reason::yielded);
	}
	std::array<bool, 2> ended{};
	while (!ended[0] || !ended[1])
		for (std::size_t k = 0; k < 2; k++) {
			if (ended[k])
				continue;
			areas[k]->spoil();
			std::error_code ec;
			const auto e = me.run(ids[k], {}, ec);
			if (ec)
				continue;
			spoiled += schedulers->is_spoiled();
			if (e.reason == reason::exited) {
				ended[e.worker == ids[1]] = true;
			} else if (e.reason != reason::yielded) {
				EXPECT_EQ(list.pop(), e.worker);
			}
		}
	EXPECT_EQ(spoiled, 0);
}

// A thread that cannot, on a machine that can, goes through the kernel.
TEST(Switch, AThreadWithoutRseqIsAScheduler)
{
	if (!in_user_mode())
		GTEST_SKIP() << "no switch in user mode";
	std::thread([] {
		constexpr unsigned size = 32, unregister = 1, signature = 0x53053053;
		ASSERT_EQ(syscall(SYS_rseq, rseq_fields::mine(), size, unregister, signature), 0);
		ums::completion_list list(1);
		ums::scheduler me(switching);
		ums::worker w(list, may_switch, [] { ums::this_worker::yield(); });
		const auto id = list.pop();
		const auto before = ums::query_thread().yields;
		EXPECT_EQ(run(me, list, id).reason, reason::yielded);
		EXPECT_EQ(ums::query_thread().yields, before + 1);
		EXPECT_EQ(run(me, list, id).reason, reason::exited);
	}).join();
}

// It is asked for when it has been woken, and not before.
TEST(Switch, NotToOneOfALoopThatWaits)
{
	const test::time_limit limit(std::chrono::seconds(60));
	ums::run_loop loop({.schedulers = 1, .user_switch = true});
	ums::counting_semaphore<> gate(0);
	ums::worker_id id{};
	bool through = false;
	loop.spawn([&] {
		id = ums::this_worker::get_id();
		gate.acquire();
		through = true;
	});
	loop.spawn([&] {
		while (id == ums::worker_id::none)
			ums::this_worker::yield();
		ums::this_worker::yield();
		const auto error = error_of([&] { ums::this_worker::switch_to(id); });
		EXPECT_EQ(error, in_user_mode() ? ums::errc::running : ums::errc::blocked);
		EXPECT_FALSE(through);
		gate.release();
	});
	loop.run();
	EXPECT_TRUE(through);
}

// Three go round and come back: no scheduler between them, which gets the event of the last.
TEST(Switch, ToEachOther)
{
	constexpr int rounds = 10'000;
	ums::completion_list list(3);
	ums::scheduler me(switching);
	std::array<ums::worker_id, 3> ids{};
	std::array<ums::worker, 3> w;
	std::vector<int> order;
	order.reserve(3 * rounds);
	for (int k = 0; k < 3; k++) {
		w[static_cast<std::size_t>(k)] = ums::worker(list, may_switch, [&, k] {
			ums::this_worker::yield();
			const ums::this_worker::switch_target next(ids[static_cast<std::size_t>((k + 1) % 3)]);
			for (int i = 0; i < rounds; i++) {
				order.push_back(k);
				ums::this_worker::switch_to(next);
			}
		});
		ids[static_cast<std::size_t>(k)] = list.pop();
		EXPECT_EQ(run(me, list, ids[static_cast<std::size_t>(k)]).reason, reason::yielded);
	}
	const auto before = ums::query_thread();
	// The first to end is 0, then 1 goes on.
	for (const auto id : ids) {
		const auto e = run(me, list, id);
		EXPECT_EQ(e.reason, reason::exited);
		EXPECT_EQ(e.worker, id);
	}
	EXPECT_EQ(order.size(), 3U * rounds);
	for (std::size_t i = 0; i < order.size(); i++)
		if (order[i] != static_cast<int>(i % 3)) {
			ADD_FAILURE() << "at " << i;
			break;
		}
	if (in_user_mode()) {
		EXPECT_LT(ums::query_thread().executes - before.executes, 200U);
	}
}

// From worker to worker, too, the control words of x87 and SSE are each one's own: they have others each time.
TEST(Switch, ControlWordsOfEachWorker)
{
	constexpr int rounds = 100;
	std::atomic<int> wrong{0};
	const auto keeps_them = [&](int k, auto leave) {
		constexpr std::array modes{FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
		for (int i = 0; i < rounds; i++) {
			const auto mode = modes[static_cast<std::size_t>(i * (k + 1) + k) % 4];
			std::fesetround(mode);
			leave();
			wrong += std::fegetround() != mode || _MM_GET_ROUNDING_MODE() != static_cast<unsigned>(mode) << 3;
		}
		std::fesetround(FE_TONEAREST);
	};
	{
		ums::completion_list list(2);
		ums::scheduler me(switching);
		std::array<ums::worker_id, 2> ids{};
		std::array<ums::worker, 2> w;
		for (std::size_t k = 0; k < 2; k++) {
			w[k] = ums::worker(list, may_switch, [&, k] {
				ums::this_worker::yield();
				keeps_them(static_cast<int>(k), [&] { ums::this_worker::switch_to(ids[1 - k]); });
			});
			ids[k] = list.pop();
			EXPECT_EQ(run(me, list, ids[k]).reason, reason::yielded);
		}
		for (const auto id : ids)
			EXPECT_EQ(run(me, list, id).reason, reason::exited);
	}
	ums::run_loop loop({.schedulers = 1, .user_switch = true});
	for (int k = 0; k < 2; k++)
		loop.spawn([&, k] { keeps_them(k, [] { ums::this_worker::yield(); }); });
	loop.run();
	EXPECT_EQ(wrong, 0);
}

// The kernel holds the other one: the scheduler executes it. That works for workers that are not switched in user mode.
TEST(Switch, ToOneThatTheKernelHolds)
{
	for (const auto &options : {may_switch, ums::worker::options{}}) {
		ums::completion_list list(2);
		ums::scheduler me(switching);
		std::array<ums::worker_id, 2> ids{};
		int steps = 0;
		ums::worker a(list, options, [&] {
			EXPECT_EQ(steps++, 0);
			ums::this_worker::switch_to(ids[1]); // which has never run
			EXPECT_EQ(steps++, 2);
		});
		ids[0] = list.pop();
		ums::worker b(list, options, [&] {
			EXPECT_EQ(steps++, 1);
			ums::this_worker::switch_to(ids[0]);
			EXPECT_EQ(steps++, 3);
		});
		ids[1] = list.pop();
		auto e = run(me, list, ids[0]);
		EXPECT_EQ(e.reason, reason::exited);
		EXPECT_EQ(e.worker, ids[0]);
		e = run(me, list, ids[1]);
		EXPECT_EQ(e.reason, reason::exited);
		EXPECT_EQ(e.worker, ids[1]);
		EXPECT_EQ(steps, 4);
	}
}

TEST(Switch, ToOneThatCannotRun)
{
	ums::completion_list list(3), closed(1);
	ums::scheduler me(switching);
	std::array<ums::worker_id, 3> ids{};
	test::pipe pipe;
	std::array<std::error_code, 4> errors;
	ums::worker blocked(list, may_switch, [&] { pipe.take(); });
	ids[0] = list.pop();
	EXPECT_EQ(run(me, list, ids[0]).reason, reason::blocked);
	ums::worker ended(list, may_switch, [&] {});
	ids[1] = list.pop();
	EXPECT_EQ(run(me, list, ids[1]).reason, reason::exited);
	ums::worker w(list, may_switch, [&] {
		errors[0] = error_of([&] { ums::this_worker::switch_to(ids[0]); });
		errors[1] = error_of([&] { ums::this_worker::switch_to(ids[1]); });
		errors[2] = error_of([&] { ums::this_worker::switch_to(ums::worker_id::none); });
		ums::this_worker::switch_to(ums::this_worker::get_id());
	});
	ids[2] = list.pop();
	EXPECT_EQ(run(me, list, ids[2]).reason, reason::exited);
	EXPECT_EQ(errors[0], ums::errc::blocked);
	EXPECT_EQ(errors[1], ums::errc::ended);
	EXPECT_EQ(errors[2], ums::errc::no_such_worker);
	EXPECT_EQ(error_of([&] { ums::this_worker::switch_to(ids[2]); }), std::errc::operation_not_permitted);
	pipe.give();
	EXPECT_EQ(run(me, list, list.pop()).reason, reason::exited);
}

// In a loop it is who goes on next, out of turn.
TEST(Switch, InALoop)
{
	ums::run_loop loop({.schedulers = 1, .user_switch = true});
	std::array<ums::worker_id, 3> ids{};
	std::string order;
	int there = 0;
	for (int k = 0; k < 3; k++)
		loop.spawn([&, k] {
			ids[static_cast<std::size_t>(k)] = ums::this_worker::get_id();
			there++;
			while (there < 3)
				ums::this_worker::yield();
			for (int i = 0; i < 3; i++) {
				order += static_cast<char>('a' + k);
				if (k == 0 && i == 0)
					ums::this_worker::switch_to(ids[2]);
				else
					ums::this_worker::yield();
			}
		});
	loop.run();
	EXPECT_EQ(order.size(), 9U);
	EXPECT_EQ(order[order.find('a') + 1], 'c') << order;
}

// Of two schedulers of a loop, each keeps its own.
TEST(Switch, NotToAnotherSchedulerOfALoop)
{
	constexpr int n = 8;
	ums::run_loop loop({.schedulers = 2, .user_switch = true});
	std::array<std::atomic<ums::worker_id>, n> ids{};
	std::atomic<int> there{0}, refused{0}, wrong{0};
	for (std::size_t k = 0; k < n; k++)
		loop.spawn([&, k] {
			ids[k] = ums::this_worker::get_id();
			there++;
			while (there < n)
				ums::this_worker::yield();
			for (std::size_t i = 0; i < n; i++) {
				const auto id = ids[i].load();
				const bool mine = UMS_ID_LIST(static_cast<std::uint64_t>(id)) ==
						  UMS_ID_LIST(static_cast<std::uint64_t>(ids[k].load()));
				const auto error = error_of([&] { ums::this_worker::switch_to(id); });
				if (!mine) {
					refused++;
					wrong += error != ums::errc::running;
				}
				gettid();
				ums::this_worker::yield();
			}
			// Nobody ends before all have tried.
			there++;
			while (there < 2 * n)
				ums::this_worker::yield();
		});
	loop.run();
	EXPECT_EQ(wrong, 0);
	EXPECT_GT(refused, 0);
}

namespace {

const test::pipe *faults_pipe;
void *faults_page;
std::atomic<int> faults{0};

void blocks_in_handler(int)
{
	char c;
	faults++;
	mprotect(faults_page, 1, PROT_READ | PROT_WRITE);
	static_cast<void>(read(faults_pipe->in(), &c, 1) == 1);
}

} // namespace

// It is there, and comes to the kernel before it has noted that it runs, at the instruction that notes it: its scheduler
// does not resume what was saved before.
TEST(Switch, StoppedBeforeItIsNoted)
{
	if (!in_user_mode())
		GTEST_SKIP() << "no switch in user mode";
	constexpr unsigned n = 64;
	const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
	struct sigaction sa{};
	sa.sa_handler = blocks_in_handler;
	sa.sa_flags = SA_RESETHAND;
	ASSERT_EQ(sigaction(SIGSEGV, &sa, nullptr), 0);
	faults = 0;
	ums::completion_list list(n);
	ums::scheduler me(switching);
	test::pipe pipe;
	std::vector<ums::worker> workers;
	std::vector<ums::worker_id> ids;
	const auto page_of = [&](ums::worker_id id) { return reinterpret_cast<std::uintptr_t>(&list.slot(id)) & -page; };
	int steps = 0;
	for (unsigned k = 0; k < n; k++) {
		workers.emplace_back(list, may_switch, [&, k] {
			ums::this_worker::yield();
			if (k == 0) {
				const ums::this_worker::switch_target to(ids[n - 1]);
				EXPECT_EQ(mprotect(faults_page, 1, PROT_READ), 0);
				ums::this_worker::switch_to(to);
				EXPECT_EQ(steps++, 1);
			} else if (k == n - 1) {
				EXPECT_EQ(steps++, 0);
			}
		});
		ids.push_back(list.pop());
		EXPECT_EQ(run(me, list, ids.back()).reason, reason::yielded);
	}
	faults_pipe = &pipe;
	faults_page = reinterpret_cast<void *>(page_of(ids[n - 1]));
	ASSERT_NE(page_of(ids[0]), page_of(ids[n - 1]));
	auto e = me.run(ids[0]);
	while (test::blocked_for_memory(e))
		e = me.run(list.pop());
	EXPECT_EQ(e.worker, ids[n - 1]);
	EXPECT_EQ(e.reason, reason::blocked);
	EXPECT_EQ(e.cause(), std::uint64_t{SYS_read});
	EXPECT_EQ(faults, 1);
	pipe.give();
	e = run(me, list, list.pop());
	EXPECT_EQ(e.worker, ids[n - 1]);
	EXPECT_EQ(e.reason, reason::exited);
	ids.pop_back();
	for (const auto id : ids)
		EXPECT_EQ(run(me, list, id).reason, reason::exited);
	EXPECT_EQ(steps, 2);
}

// Its list is closed: an ordinary thread from then on.
TEST(Switch, AfterTheListWasClosed)
{
	auto list = std::make_unique<ums::completion_list>(1);
	std::atomic<bool> closed{false};
	std::error_code yielded, switched;
	const test::pipe pipe;
	ums::worker w(*list, may_switch, [&] {
		ums::this_worker::yield();
		while (!closed)
			;
		pipe.take(); // from where it comes back as an ordinary thread
		yielded = error_of([] { ums::this_worker::yield(); });
		switched = error_of([] { ums::this_worker::switch_to(ums::worker_id{5ULL << 32}); });
	});
	std::jthread closes;
	{
		ums::scheduler me(switching);
		const auto id = list->pop();
		EXPECT_EQ(run(me, *list, id).reason, reason::yielded);
		closes = std::jthread([&] {
			list->close();
			closed = true;
		});
		EXPECT_EQ(run(me, *list, id).reason, reason::blocked);
	}
	pipe.give();
	w.join();
	EXPECT_EQ(yielded, std::errc::operation_not_permitted);
	EXPECT_TRUE(switched);
}

namespace {

void yields_in_handler(int)
{
	ums::this_worker::yield();
}

} // namespace

// Stopped at any instruction of a switch, by a preemption or by a handler that switches itself, workers lose nothing and
// go on once each time.
TEST(Switch, StoppedAnywhere)
{
	constexpr int n = 5;
	constexpr auto time = std::chrono::milliseconds(400);
	struct sigaction sa{};
	sa.sa_handler = yields_in_handler;
	sa.sa_flags = SA_RESTART;
	ASSERT_EQ(sigaction(SIGUSR2, &sa, nullptr), 0);
	ums::run_loop loop({.schedulers = 2, .user_switch = true});
	ums::mutex m;
	ums::channel<int> c;
	std::atomic<bool> stop{false};
	std::atomic<int> left{n};
	std::array<long, n> rounds{};
	std::array<std::atomic<pthread_t>, n> threads{};
	long inside = 0, sent = 0;
	std::atomic<long> received{0};
	for (std::size_t k = 0; k < n; k++)
		loop.spawn([&, k] {
			threads[k] = pthread_self();
			const double mine = static_cast<double>(k) / 3;
			volatile double sum = 0;
			while (!stop) {
				rounds[k]++;
				sum = sum + mine;
				switch (rounds[k] % 4) {
				case 0: {
					const std::scoped_lock lock(m);
					EXPECT_EQ(inside++, 0);
					ums::this_worker::yield();
					inside--;
					break;
				}
				case 1:
					if (c.try_send(1)) {
						const std::scoped_lock lock(m);
						sent++;
					}
					break;
				case 2:
					if (c.try_receive())
						received++;
					break;
				default:
					ums::this_worker::yield();
				}
			}
			EXPECT_EQ(sum, [&] {
				volatile double expected = 0;
				for (long i = 0; i < rounds[k]; i++)
					expected = expected + mine;
				return static_cast<double>(expected);
			}());
			threads[k] = 0;
			if (--left == 0)
				c.close();
		});
	loop.spawn([&] {
		while (c.receive())
			received++;
	});
	std::jthread disturbs([&] {
		std::minstd_rand random(1);
		const auto end = std::chrono::steady_clock::now() + time;
		while (std::chrono::steady_clock::now() < end) {
			for (const auto &w : loop.workers()) {
				std::error_code ec;
				ums::preempt(w.id, ec);
			}
			if (const auto t = threads[random() % n].load())
				pthread_kill(t, SIGUSR2);
			usleep(random() % 200);
		}
		stop = true;
	});
	loop.run();
	EXPECT_EQ(sent, received);
	EXPECT_EQ(inside, 0);
}

// A worker that has yielded to one scheduler goes on under another one, once its thread carries nobody.
TEST(Switch, FromOneSchedulerToAnother)
{
	ums::completion_list list(2);
	std::atomic<int> turn{0};
	ums::worker a(list, may_switch, [] { ums::this_worker::yield(); }), b(list, may_switch, [] { ums::this_worker::yield(); });
	std::array<ums::worker_id, 2> ids{};
	std::jthread first([&] {
		ums::scheduler me(switching);
		for (auto &id : ids) {
			id = list.pop();
			EXPECT_EQ(run(me, list, id).reason, reason::yielded);
		}
		gettid(); // goes home for this call
		turn = 1;
		turn.notify_all();
		turn.wait(1);
	});
	std::jthread second([&] {
		turn.wait(0);
		ums::scheduler me(switching);
		for (const auto id : ids)
			EXPECT_EQ(run(me, list, id).reason, reason::exited);
		turn = 2;
		turn.notify_all();
	});
}

// But not while its thread carries the one to which it has yielded. That may be taken home meanwhile by the kernel, so
// it needs some attempts.
TEST(Switch, NotWhileItsThreadCarriesAnother)
{
	constexpr int most = 1000;
	ums::completion_list list(1);
	enum { of_first, of_second, over };
	std::atomic<int> turn{of_first}, refused{0};
	std::atomic<bool> stop{false};
	ums::worker w(list, may_switch, [&] {
		while (!stop) {
			gettid(); // goes home, to yield from there
			ums::this_worker::yield();
		}
	});
	const auto id = list.pop();
	std::jthread first([&] {
		ums::scheduler me(switching);
		do {
			EXPECT_EQ(run(me, list, id).reason, reason::yielded);
			turn = of_second;
			while (turn == of_second)
				; // makes no call
		} while (turn != over);
		gettid(); // leaves that
		stop = true;
		EXPECT_EQ(run(me, list, id).reason, reason::exited);
	});
	std::jthread second([&] {
		ums::scheduler me(switching);
		for (int i = 0; i < most && !refused; i++) {
			while (turn != of_second)
				std::this_thread::yield();
			std::error_code ec;
			const auto e = me.run(id, {}, ec);
			if (ec) {
				EXPECT_EQ(ec, ums::errc::running);
				refused++;
			} else if (test::blocked_for_memory(e)) {
				run(me, list, list.pop());
			}
			gettid();
			turn = i + 1 < most && !refused ? of_first : over;
		}
	});
	first.join();
	second.join();
	EXPECT_EQ(refused, in_user_mode() ? 1 : 0);
}

// Saved, it does not belong to whoever has the slot afterwards.
TEST(Switch, AnOldIdIsNotTheNewWorker)
{
	ums::completion_list list(1);
	ums::scheduler me(switching);
	ums::worker w(list, may_switch, [] {});
	const auto old = list.pop();
	EXPECT_EQ(run(me, list, old).reason, reason::exited);
	w.join();
	w = ums::worker(list, may_switch, [] { ums::this_worker::yield(); });
	const auto id = list.pop();
	EXPECT_EQ(run(me, list, id).reason, reason::yielded);
	std::error_code ec;
	EXPECT_EQ(me.run(old, {}, ec).reason, reason::none);
	EXPECT_EQ(ec, ums::errc::ended);
	EXPECT_EQ(run(me, list, id).reason, reason::exited);
}

namespace {

std::atomic<int> signals{0};
std::atomic<pid_t> signalled{0};

void count_signal(int)
{
	signals++;
	signalled = gettid();
}

} // namespace

// It has a signal while it waits, and takes it when it goes on.
TEST(Switch, ASignalForOneThatWaits)
{
	struct sigaction sa{};
	sa.sa_handler = count_signal;
	ASSERT_EQ(sigaction(SIGUSR1, &sa, nullptr), 0);
	ums::completion_list list(1);
	ums::scheduler me(switching);
	pid_t tid = 0;
	int during = -1;
	ums::worker w(list, may_switch, [&] {
		tid = gettid();
		ums::this_worker::yield();
		during = signals;
	});
	const auto id = list.pop();
	EXPECT_EQ(run(me, list, id).reason, reason::yielded);
	signals = 0;
	ASSERT_EQ(pthread_kill(w.native_handle(), SIGUSR1), 0);
	usleep(1000);
	if (in_user_mode()) {
		EXPECT_EQ(signals, 0);
	}
	EXPECT_EQ(run(me, list, id).reason, reason::exited);
	EXPECT_EQ(during, 1);
	EXPECT_EQ(signalled, tid);
}

// Exceptions find their way through frames that have been switched away from.
TEST(Switch, ExceptionsPass)
{
	ums::completion_list list(2);
	ums::scheduler me(switching);
	std::atomic<int> caught{0};
	std::array<ums::worker, 2> w;
	for (auto &worker : w)
		worker = ums::worker(list, may_switch, [&] {
			for (int i = 0; i < 10; i++) {
				try {
					ums::this_worker::yield();
					throw i;
				} catch (int n) {
					ums::this_worker::yield();
					caught += n == i;
				}
			}
		});
	take_turns(me, list, 2);
	EXPECT_EQ(caught, 20);
}

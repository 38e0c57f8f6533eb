// SPDX-License-Identifier: MIT
//
// Debuggers and profilers find their way out of each instruction of a switch in user mode: single-stepped, it is unwound
// there, by what switch.S says of its frames, and who called it has the registers that it had. Between contexts on one
// thread, so that no kernel is needed for it: as the critical sections would start again at each step, the thread has no
// rseq area.
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <ums/this_worker.hpp>

#include "context.hpp"
#include "loop_entry.hpp"
#include "this_worker_state.hpp"
#include "x86_64/switch.hpp"

using ums::detail::context_parked;
using ums::detail::context_saved;
using ums::detail::me;

// Calls function(a, b, 0) with a pattern in each register that it has to keep, single-stepped.
extern "C" {
void call_first(void *function, void *a, void *b);
void call_second(void *function, void *a, void *b);
}

asm(R"(
	.text
	.macro marked name, pattern
	.type \name, @function
\name:
	.cfi_startproc
	.irp reg, rbp, rbx, r12, r13, r14, r15
	push	%\reg
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %\reg, 0
	.endr
	sub	$8, %rsp
	.cfi_adjust_cfa_offset 8
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	xor	%edx, %edx
	mov	$\pattern + 3, %ebx
	mov	$\pattern + 6, %ebp
	mov	$\pattern + 12, %r12d
	mov	$\pattern + 13, %r13d
	mov	$\pattern + 14, %r14d
	mov	$\pattern + 15, %r15d
	pushf
	.cfi_adjust_cfa_offset 8
	orl	$0x100, (%rsp)
	popf
	.cfi_adjust_cfa_offset -8
	call	*%rax
	pushf
	.cfi_adjust_cfa_offset 8
	andl	$~0x100, (%rsp)
	popf
	.cfi_adjust_cfa_offset -8
	add	$8, %rsp
	.cfi_adjust_cfa_offset -8
	.irp reg, r15, r14, r13, r12, rbx, rbp
	pop	%\reg
	.cfi_adjust_cfa_offset -8
	.cfi_restore %\reg
	.endr
	ret
	.cfi_endproc
	.size	\name, . - \name
	.endm
	marked call_first, 0x1000
	marked call_second, 0x2000
)");

namespace {

// What came of the steps in the functions that are looked at.
struct found {
	std::vector<void *> functions;
	unsigned steps = 0, in_first = 0, in_second = 0;
	std::array<std::uintptr_t, 8> lost{};
	unsigned n_lost = 0;
} result;

struct walk {
	bool in_first = false, in_second = false, wrong = false;
};

_Unwind_Reason_Code look(_Unwind_Context *frame, void *argument)
{
	auto &w = *static_cast<walk *>(argument);
	const auto function = reinterpret_cast<void *>(_Unwind_GetRegionStart(frame));
	w.in_first = function == reinterpret_cast<void *>(call_first);
	w.in_second = function == reinterpret_cast<void *>(call_second);
	if (!w.in_first && !w.in_second)
		return _URC_NO_REASON;
	// By their numbers in DWARF: rbx, rbp, r12 to r15.
	for (const int reg : {3, 6, 12, 13, 14, 15})
		w.wrong |= _Unwind_GetGR(frame, reg) != (w.in_first ? 0x1000U : 0x2000U) + static_cast<unsigned>(reg);
	return _URC_NORMAL_STOP;
}

void step(int, siginfo_t *, void *context)
{
	const auto ip = static_cast<const ucontext_t *>(context)->uc_mcontext.gregs[REG_RIP];
	auto *function = _Unwind_FindEnclosingFunction(reinterpret_cast<void *>(ip + 1));
	bool looked_at = false;
	for (const auto *f : result.functions)
		looked_at |= f == function;
	if (!looked_at)
		return;
	walk w;
	_Unwind_Backtrace(look, &w);
	result.steps++;
	result.in_first += w.in_first;
	result.in_second += w.in_second;
	if ((!w.in_first && !w.in_second) || w.wrong) {
		result.lost[result.n_lost % result.lost.size()] =
			static_cast<std::uintptr_t>(ip) - reinterpret_cast<std::uintptr_t>(function);
		result.n_lost++;
	}
}

template <class F> void *address(F *function)
{
	return reinterpret_cast<void *>(function);
}

// A worker's, with the slot around it.
struct fake_worker {
	ums_slot slot{};
	ums::detail::loop_entry entry;

	ums::detail::worker_context &context() { return ums::detail::context_of(slot); }
};

class Unwind : public testing::Test
{
protected:
	void SetUp() override
	{
		constexpr unsigned long hwcap2_fsgsbase = 2;
		if (!(getauxval(AT_HWCAP2) & hwcap2_fsgsbase))
			GTEST_SKIP() << "the thread pointer cannot be changed";
		if (__rseq_size) {
			ASSERT_EQ(rseq(rseq_flag_unregister), 0);
			had_rseq_ = true;
		}
		struct sigaction action{};
		action.sa_sigaction = step;
		action.sa_flags = SA_SIGINFO;
		sigaction(SIGTRAP, &action, &before_);
		was_ = me;

		scheduler.thread_pointer = __builtin_thread_pointer();
		scheduler.rseq = area.data();
		for (auto *w : {&first, &second}) {
			w->slot.state = UMS_STATE_EMPTY; // of a home whose context is elsewhere
			w->context().thread_pointer = scheduler.thread_pointer;
			w->context().rseq = area.data();
			w->entry.context = &w->context();
		}
		first.entry.next = first.entry.prev = &second.entry;
		second.entry.next = second.entry.prev = &first.entry;
		result = {};
	}

	void TearDown() override
	{
		me = was_;
		sigaction(SIGTRAP, &before_, nullptr);
		if (had_rseq_) {
			EXPECT_EQ(rseq(0), 0);
		}
	}

	// What runs is that worker.
	void is(fake_worker &w)
	{
		me.slot = &w.slot;
		me.context = &w.context();
		me.entry = &w.entry;
		me.rseq = area.data();
	}

	// The second one, whose context is saved at the beginning of that function.
	void begin_second(void (*function)())
	{
		constexpr std::size_t size = 64 * 1024;
		stack_ = std::make_unique<std::uintptr_t[]>(size / sizeof(std::uintptr_t));
		// As behind a call, by nobody.
		auto *top = stack_.get() + size / sizeof(std::uintptr_t) - 2;
		top -= reinterpret_cast<std::uintptr_t>(top) / 8 % 2 == 0;
		top[-1] = reinterpret_cast<std::uintptr_t>(function);
		second.context().stack_pointer = top - 7;
		asm volatile("stmxcsr %0; fnstcw 4+%0" : "=m"(second.context().control_words));
		second.context().scheduler = live() | context_saved;
	}

	static std::uintptr_t live() { return reinterpret_cast<std::uintptr_t>(&scheduler); }

	// Twice there and back: the second time both have been called by the functions above.
	template <class There_and_back>
	void look_at(std::vector<void *> functions, There_and_back there_and_back)
	{
		constexpr unsigned at_least = 20; // instructions of a switch
		result = {};
		there_and_back();
		result.functions = std::move(functions);
		there_and_back();
		EXPECT_EQ(result.n_lost, 0U);
		for (unsigned i = 0; i < std::min<std::size_t>(result.n_lost, result.lost.size()); i++)
			ADD_FAILURE() << "nobody to be found at byte " << result.lost[i] << " of a function";
		EXPECT_EQ(result.in_first + result.in_second, result.steps);
		EXPECT_GE(result.in_first, at_least);
		EXPECT_GE(result.in_second, at_least);
	}

	static inline ums::detail::upcall_context scheduler;
	static inline fake_worker first, second;
	alignas(32) static inline std::array<std::byte, 32> area;

private:
	static constexpr int rseq_flag_unregister = 1;
	static long rseq(int flags)
	{
		constexpr unsigned signature = 0x53053053;
		// As the C library has registered it.
		return syscall(SYS_rseq, static_cast<char *>(__builtin_thread_pointer()) + __rseq_offset, 32, flags, signature);
	}

	bool had_rseq_ = false;
	struct sigaction before_{};
	ums::detail::this_worker_state was_{};
	std::unique_ptr<std::uintptr_t[]> stack_;
};

} // namespace

// There and back.
TEST_F(Unwind, FromWorkerToWorker)
{
	begin_second([] {
		for (;;) {
			me.context = &second.context();
			call_second(address(ums_switch_to), &first.context(), nullptr);
		}
	});
	look_at({address(ums_switch_to)}, [&] {
		is(first);
		first.context().scheduler = live();
		call_first(address(ums_switch_to), &second.context(), nullptr);
	});
	EXPECT_EQ(second.context().scheduler, live() | context_saved);
}

TEST_F(Unwind, FromWorkerToTheNext)
{
	begin_second([] {
		for (;;) {
			me.context = &second.context();
			me.entry = &second.entry;
			call_second(address(ums_switch_away), nullptr, nullptr);
		}
	});
	look_at({address(ums_switch_away)}, [&] {
		is(first);
		first.context().scheduler = live();
		call_first(address(ums_switch_away), nullptr, nullptr);
	});
	EXPECT_EQ(scheduler.yields, 4U);
}

TEST_F(Unwind, FromWorkerThatWaits)
{
	begin_second([] {
		for (;;) {
			me.context = &second.context();
			second.context().scheduler |= context_parked;
			first.context().scheduler &= ~context_parked;
			call_second(address(ums_park_to), &second.context(), &first.context());
		}
	});
	look_at({address(ums_park_to)}, [&] {
		is(first);
		first.context().scheduler = live() | context_parked;
		second.context().scheduler = live() | context_saved;
		call_first(address(ums_park_to), &first.context(), &second.context());
	});
	EXPECT_EQ(second.context().scheduler, live() | context_saved | context_parked);
}

// From the scheduler to a worker, and in each way back.
TEST_F(Unwind, FromTheSchedulerAndBack)
{
	static void *leaves;
	begin_second([] {
		for (;;) {
			me.context = &second.context();
			call_second(leaves, &second.context(), nullptr);
		}
	});
	for (auto *way : {address(ums_leave), address(ums_block), address(ums_ask_scheduler)}) {
		leaves = way;
		look_at({address(ums_switch_to_worker), way}, [&] {
			is(second);
			second.context().scheduler = live();
			call_first(address(ums_switch_to_worker), &scheduler, &second.context());
		});
		EXPECT_EQ(second.context().scheduler, live() | context_saved);
	}
	leaves = address(ums_park);
	look_at({address(ums_switch_to_worker), leaves}, [&] {
		is(second);
		second.context().scheduler = live() | context_parked;
		call_first(address(ums_switch_to_worker), &scheduler, &second.context());
	});
}

// By its number.
TEST_F(Unwind, FromTheSchedulerByRun)
{
	constexpr std::uint32_t list_nr = UMS_MAX_LISTS - 1;
	const auto id = std::uint64_t{1} << 32 | std::uint64_t{list_nr} << UMS_ID_SLOT_BITS;
	ums::detail::add_slots(list_nr, &second.slot, 1);
	second.slot.id = id;
	begin_second([] {
		for (;;) {
			me.context = &second.context();
			call_second(address(ums_leave), &second.context(), nullptr);
		}
	});
	look_at({address(ums_run), address(ums_leave)}, [&] {
		is(second);
		call_first(address(ums_run), &scheduler, reinterpret_cast<void *>(id));
	});
	EXPECT_EQ(second.context().scheduler, live() | context_saved);
	EXPECT_EQ(scheduler.worker, id);
	ums::detail::remove_slots(list_nr, &second.slot);
}

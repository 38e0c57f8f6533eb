// SPDX-License-Identifier: MIT
//
// The quickest coroutine switch in wide use: registers only, no thread pointer.

#include "bench.hpp"

#include <boost/context/detail/fcontext.hpp>

namespace context = boost::context::detail;

alignas(16) static char stack[64 * 1024];

static void coroutine(context::transfer_t from)
{
	for (;;)
		from = context::jump_fcontext(from.fctx, nullptr);
}

int main()
{
	bench::begin();
	context::fcontext_t away = context::make_fcontext(stack + sizeof stack, sizeof stack, coroutine);
	double cost = bench::measure(2500, 2, [&] { away = context::jump_fcontext(away, nullptr).fctx; });
	bench::print("boost_fcontext", cost, 5000);
}

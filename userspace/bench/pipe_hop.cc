// SPDX-License-Identifier: MIT
//
// Two ordinary threads exchange a byte through two pipes.

#include "pair.hpp"
#include "pipes.hpp"

int main()
{
	static const bench::pipes p;
	bench::pair("pipe_hop_plain", 25, [] { p.ping(); }, [] { p.pong(); });
}

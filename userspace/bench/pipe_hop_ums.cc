// SPDX-License-Identifier: MIT
//
// Two workers on one scheduler exchange a byte through two pipes.

#include "pipes.hpp"
#include "ums_raw.hpp"

int main()
{
	static const bench::pipes p;
	bench::ums::pair("pipe_hop_ums", 15, [] { p.ping(); }, [] { p.pong(); });
}

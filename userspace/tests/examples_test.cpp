// SPDX-License-Identifier: MIT
//
// The examples, as they are run by who reads them.
#include <cstdio>
#include <string>

#include <sys/wait.h>

#include "helpers.hpp"

namespace {

struct result {
	int status = -1;
	std::string output;
};

result run_program(const char *path)
{
	result r;
	auto *from = popen(path, "re");
	if (!from)
		return r;
	char part[256];
	while (const auto n = fread(part, 1, sizeof part, from))
		r.output.append(part, n);
	r.status = pclose(from);
	return r;
}

bool contains(const result &r, const char *text)
{
	return r.output.find(text) != std::string::npos;
}

} // namespace

TEST(Examples, Minimal)
{
	const auto r = run_program(MINIMAL);
	EXPECT_EQ(r.status, 0) << r.output;
	EXPECT_TRUE(contains(r, "three workers blocked ")) << r.output;
	for (const auto *line : {"worker 1, ", "worker 2, ", "worker 3, ", "round 2"})
		EXPECT_TRUE(contains(r, line)) << r.output;
}

TEST(Examples, Priorities)
{
	const auto r = run_program(PRIORITIES);
	EXPECT_EQ(r.status, 0) << r.output;
	EXPECT_TRUE(contains(r, "400 requests answered, ")) << r.output;
}

TEST(Examples, Raw)
{
	const auto r = run_program(RAW);
	EXPECT_EQ(r.status, 0) << r.output;
	EXPECT_FALSE(r.output.empty());
}

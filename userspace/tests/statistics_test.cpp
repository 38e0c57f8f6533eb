// SPDX-License-Identifier: MIT
#include <sstream>

#include <sys/syscall.h>

#include "helpers.hpp"

TEST(SystemCallName, IsThatOfTheKernelHeaders)
{
	EXPECT_EQ(ums::system_call_name(SYS_read), "read");
	EXPECT_EQ(ums::system_call_name(SYS_clock_nanosleep), "clock_nanosleep");
	EXPECT_EQ(ums::system_call_name(SYS_futex), "futex");
	EXPECT_EQ(ums::system_call_name(__NR_ums_wait), "ums_wait");
	EXPECT_EQ(ums::system_call_name(UMS_CAUSE_FAULT), "page fault");
	EXPECT_EQ(ums::system_call_name(500), "");
	EXPECT_EQ(ums::system_call_name(~0ULL), "");
}

TEST(Statistics, TableHasAllFiguresAndSums)
{
	std::vector<ums::scheduler_statistics> all(2);
	all[0].workers = 5;
	all[0].blocks = {{SYS_read, 7}, {SYS_futex, 30}};
	all[1].workers = 6;
	all[1].blocks = {{SYS_read, 2}};
	all[1].faults = 3;
	all[1].idle = std::chrono::milliseconds(1500);
	EXPECT_EQ(all[0].system_call_blocks(), 37U);

	std::ostringstream out;
	ums::print(out, all);
	std::istringstream lines(out.str());
	std::vector<std::string> rows;
	for (std::string line; std::getline(lines, line);) {
		// Columns, with single blanks.
		std::istringstream words(line);
		std::string row;
		for (std::string word; words >> word;)
			row += (row.empty() ? "" : " ") + word;
		rows.push_back(row);
	}
	const auto has = [&](const char *row) {
		return std::find(rows.begin(), rows.end(), row) != rows.end();
	};
	EXPECT_TRUE(has("workers 5 6 11")) << out.str();
	EXPECT_TRUE(has("blocks in system calls 37 2 39")) << out.str();
	EXPECT_TRUE(has("in read 7 2 9")) << out.str();
	EXPECT_TRUE(has("in futex 30 0 30")) << out.str();
	EXPECT_TRUE(has("blocks by page fault 0 3 3")) << out.str();
	EXPECT_TRUE(has("idle time (ms) 0 1500 1500")) << out.str();
	// The most frequent cause comes first.
	EXPECT_LT(out.str().find("in futex"), out.str().find("in read"));
}

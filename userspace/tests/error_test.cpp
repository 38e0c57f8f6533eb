// SPDX-License-Identifier: MIT
#include "helpers.hpp"

TEST(Error, CodesCompareWithTheirNames)
{
	const std::error_code code = ums::errc::blocked;
	EXPECT_EQ(code, ums::errc::blocked);
	EXPECT_NE(code, ums::errc::running);
	EXPECT_STREQ(code.category().name(), "ums");
}

TEST(Error, CodesCompareWithStdErrc)
{
	EXPECT_EQ(std::error_code(ums::errc::no_such_worker), std::errc::no_such_process);
	EXPECT_EQ(std::error_code(ums::errc::running), std::errc::device_or_resource_busy);
	EXPECT_EQ(std::error_code(ums::errc::blocked), std::errc::resource_unavailable_try_again);
	EXPECT_EQ(std::error_code(ums::errc::on_list), std::errc::file_exists);
	EXPECT_EQ(std::error_code(ums::errc::not_a_scheduler), std::errc::operation_not_permitted);
	EXPECT_EQ(std::error_code(ums::errc::not_permitted), std::errc::permission_denied);
}

TEST(Error, EachHasItsOwnMessage)
{
	std::vector<std::string> seen;
	for (const auto e : {ums::errc::no_such_worker, ums::errc::ended, ums::errc::running,
			     ums::errc::blocked, ums::errc::on_list, ums::errc::not_a_scheduler,
			     ums::errc::not_permitted}) {
		const auto message = std::error_code(e).message();
		EXPECT_FALSE(message.empty());
		EXPECT_EQ(std::find(seen.begin(), seen.end(), message), seen.end()) << message;
		seen.push_back(message);
	}
	EXPECT_EQ(std::error_code(ENOMEM, ums::category()).message(),
		  std::generic_category().message(ENOMEM));
}

// SPDX-License-Identifier: MIT
#include <ums/statistics.hpp>

#include <algorithm>
#include <cstdio>
#include <map>
#include <ostream>
#include <string>

#include <ums/system_call_name.hpp>

namespace ums {

std::uint64_t scheduler_statistics::system_call_blocks() const noexcept
{
	std::uint64_t sum = 0;
	for (const auto &b : blocks)
		sum += b.count;
	return sum;
}

namespace {

// Rows of a fixed first column and one right-aligned column for each scheduler and the sum.
class table
{
public:
	table(std::ostream &out, std::span<const scheduler_statistics> all) : out_(out), all_(all) {}

	void head()
	{
		label("per scheduler");
		for (std::size_t i = 0; i < all_.size(); i++)
			cell('#' + std::to_string(i));
		cell("all");
		out_ << '\n';
	}

	template <class Figure>
	void row(const std::string &name, Figure figure)
	{
		std::uint64_t sum = 0;
		label(name);
		for (const auto &s : all_) {
			const std::uint64_t value = figure(s);
			sum += value;
			cell(std::to_string(value));
		}
		cell(std::to_string(sum));
		out_ << '\n';
	}

private:
	void label(std::string text)
	{
		text.resize(std::max<std::size_t>(text.size(), 28), ' ');
		out_ << text;
	}

	void cell(const std::string &text)
	{
		out_ << std::string(text.size() < 11 ? 11 - text.size() : 1, ' ') << text;
	}

	std::ostream &out_;
	std::span<const scheduler_statistics> all_;
};

std::string call_name(std::uint64_t nr)
{
	const auto name = system_call_name(nr);
	return name.empty() ? "system call " + std::to_string(nr) : std::string(name);
}

} // namespace

void print(std::ostream &out, std::span<const scheduler_statistics> statistics)
{
	// Every system call in which any worker blocked, the most frequent first.
	std::map<std::uint64_t, std::uint64_t> totals;
	for (const auto &s : statistics)
		for (const auto &b : s.blocks)
			totals[b.system_call] += b.count;
	std::vector<std::pair<std::uint64_t, std::uint64_t>> calls(totals.begin(), totals.end());
	std::stable_sort(calls.begin(), calls.end(),
			 [](const auto &a, const auto &b) { return a.second > b.second; });

	table t(out, statistics);
	t.head();
	t.row("workers", [](const auto &s) { return s.workers; });
	t.row("blocks in system calls", [](const auto &s) { return s.system_call_blocks(); });
	for (const auto &call : calls)
		t.row("  in " + call_name(call.first), [nr = call.first](const auto &s) {
			const auto it = std::find_if(s.blocks.begin(), s.blocks.end(),
						     [nr](const auto &b) { return b.system_call == nr; });
			return it == s.blocks.end() ? 0 : it->count;
		});
	t.row("blocks by page fault", [](const auto &s) { return s.faults; });
	t.row("yields", [](const auto &s) { return s.yields; });
	t.row("preemptions", [](const auto &s) { return s.preemptions; });
	t.row("ends", [](const auto &s) { return s.ended; });
	t.row("upcalls", [](const auto &s) { return s.upcalls; });
	t.row("switches to a worker", [](const auto &s) { return s.switches; });
	t.row("idle time (ms)", [](const auto &s) {
		return static_cast<std::uint64_t>(
			std::chrono::duration_cast<std::chrono::milliseconds>(s.idle).count());
	});
	out.flush();
}

} // namespace ums

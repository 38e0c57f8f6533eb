// SPDX-License-Identifier: MIT
//
// ums-wc [-j SCHEDULERS] [-w WORKERS] [-q] DIR
//
// Counts lines, words and bytes of every regular file below DIR, one worker for each file, up to WORKERS
// (512) at once, with plain open, read and close. The totals are those of
//
//     find DIR -type f -print0 | LC_ALL=C wc --files0-from=-
//
// (GNU wc of Debian 12: a word begins with a printable ASCII character). Exit status 1 if something could not
// be read, 2 if it cannot run at all.
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <semaphore>
#include <string>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ums/ums.hpp>

namespace {

struct totals {
	std::atomic<std::uint64_t> files{0}, lines{0}, words{0}, bytes{0}, failures{0};
};

totals sum;

void complain(const std::string &path)
{
	const int error = errno;
	sum.failures++;
	std::fprintf(stderr, "ums-wc: %s: %s\n", path.c_str(), std::strerror(error));
}

enum class kind : unsigned char { nothing, space, printable };

constexpr auto kinds = [] {
	std::array<kind, 256> k{};
	for (unsigned c = '!'; c <= '~'; c++)
		k[c] = kind::printable;
	for (const unsigned char c : {' ', '\t', '\n', '\v', '\f', '\r'})
		k[c] = kind::space;
	return k;
}();

void count(const std::string &path)
{
	const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return complain(path);

	std::uint64_t lines = 0, words = 0, bytes = 0;
	bool in_word = false;
	std::array<unsigned char, 16384> buffer;
	ssize_t n;
	while ((n = read(fd, buffer.data(), buffer.size())) > 0) {
		bytes += static_cast<std::uint64_t>(n);
		for (ssize_t i = 0; i < n; i++) {
			const auto c = buffer[static_cast<std::size_t>(i)];
			lines += c == '\n';
			// What is neither printable nor space neither begins nor ends a word.
			if (kinds[c] == kind::space) {
				words += in_word;
				in_word = false;
			} else if (kinds[c] == kind::printable) {
				in_word = true;
			}
		}
	}
	if (n < 0)
		complain(path);
	close(fd);

	sum.files++;
	sum.lines += lines;
	sum.words += words + in_word;
	sum.bytes += bytes;
}

// Calls f(path) for each regular file below. Symbolic links are not followed.
template <class F>
void walk(const std::string &root, F f)
{
	std::vector<std::string> directories{root};
	while (!directories.empty()) {
		const std::string path = std::move(directories.back());
		directories.pop_back();

		const std::unique_ptr<DIR, int (*)(DIR *)> dir(opendir(path.c_str()), closedir);
		if (!dir) {
			complain(path);
			continue;
		}
		for (;;) {
			errno = 0;
			const dirent *entry = readdir(dir.get());
			if (!entry)
				break;
			const std::string_view name = entry->d_name;
			if (name == "." || name == "..")
				continue;
			std::string full = path + (path.ends_with('/') ? "" : "/") + entry->d_name;
			auto type = entry->d_type;
			if (type == DT_UNKNOWN) {
				struct stat st;
				if (lstat(full.c_str(), &st) < 0) {
					complain(full);
					continue;
				}
				type = S_ISDIR(st.st_mode)   ? DT_DIR
				       : S_ISREG(st.st_mode) ? DT_REG
							     : DT_UNKNOWN;
			}
			if (type == DT_DIR)
				directories.push_back(std::move(full));
			else if (type == DT_REG)
				f(std::move(full));
		}
		if (errno)
			complain(path);
	}
}

bool number(const char *text, unsigned &value)
{
	const auto end = text + std::strlen(text);
	return std::from_chars(text, end, value).ptr == end && end != text;
}

} // namespace

int main(int argc, char **argv)
try {
	unsigned schedulers = 0, at_once = 512;
	bool quiet = false, usage = false;
	for (int c; (c = getopt(argc, argv, "j:w:q")) != -1;) {
		if (c == 'j')
			usage |= !number(optarg, schedulers);
		else if (c == 'w')
			usage |= !number(optarg, at_once) || !at_once;
		else if (c == 'q')
			quiet = true;
		else
			usage = true;
	}
	if (usage || optind != argc - 1) {
		std::fputs("usage: ums-wc [-j SCHEDULERS] [-w WORKERS] [-q] DIR\n", stderr);
		return 2;
	}
	const std::string root = argv[optind];

	if (const auto p = ums::probe(); !p) {
		std::fprintf(stderr, "ums-wc: %s\n", ums::to_string(p.status));
		return 2;
	}

	// A worker that has returned still needs its place until its thread has ended: leave some room.
	ums::run_loop loop({.schedulers = schedulers, .max_workers = at_once + 64});
	std::counting_semaphore<> places(at_once);

	// The first worker walks through the tree and makes the others.
	loop.spawn({.name = "walk"}, [&] {
		walk(root, [&](std::string path) {
			places.acquire();
			loop.spawn({.name = "count", .stack_size = 64 * 1024},
				   [&places, path = std::move(path)] {
					   count(path);
					   places.release();
				   });
		});
	});
	loop.run();

	std::printf("%7ju %7ju %7ju total\n", static_cast<std::uintmax_t>(sum.lines),
		    static_cast<std::uintmax_t>(sum.words), static_cast<std::uintmax_t>(sum.bytes));
	std::fflush(stdout);
	if (!quiet) {
		std::cout << '\n'
			  << sum.files << " files, a worker for each and one that finds them, at most " << at_once
			  << " at once\n\n";
		ums::print(std::cout, loop.statistics());
	}
	return sum.failures ? 1 : 0;
} catch (const std::exception &e) {
	std::fprintf(stderr, "ums-wc: %s\n", e.what());
	return 2;
}

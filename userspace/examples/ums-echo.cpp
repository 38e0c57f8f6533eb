// SPDX-License-Identifier: MIT
//
// ums-echo [-p PORT] [-n CONNECTIONS] [-j SCHEDULERS]
// ums-echo --demo [-n CONNECTIONS] [-j SCHEDULERS]
//
// A TCP echo server on 127.0.0.1, one worker for each connection, nothing but blocking accept, read and
// write. Ends in an orderly way after CONNECTIONS connections, or on SIGINT or SIGTERM, and prints what the
// schedulers did. With --demo it also starts the client, ums-echo-client, which lies beside it, for 200
// connections, and ends with its status.
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <set>
#include <string>
#include <system_error>

#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ums/ums.hpp>

namespace {

[[noreturn]] void fail(const char *what)
{
	throw std::system_error(errno, std::generic_category(), what);
}

// The connections that are open, so that they can be ended.
class connections
{
public:
	void add(int fd)
	{
		const std::lock_guard lock(mutex_);
		open_.insert(fd);
	}

	void close(int fd)
	{
		const std::lock_guard lock(mutex_);
		open_.erase(fd);
		::close(fd);
	}

	void shut_down()
	{
		const std::lock_guard lock(mutex_);
		for (const int fd : open_)
			shutdown(fd, SHUT_RDWR);
	}

private:
	std::mutex mutex_; // of workers; no scheduler takes it
	std::set<int> open_;
};

connections all;
std::atomic<std::uint64_t> bytes_echoed{0};

void echo(int fd)
{
	std::array<char, 16384> buffer;
	ssize_t n;
	while ((n = read(fd, buffer.data(), buffer.size())) > 0) {
		for (ssize_t done = 0; done < n;) {
			const auto w = write(fd, buffer.data() + done, static_cast<std::size_t>(n - done));
			if (w < 0)
				break;
			done += w;
		}
		bytes_echoed += static_cast<std::uint64_t>(n);
	}
	all.close(fd);
}

// Listens on the port, 0: on any, and says on which.
int listen_on(unsigned short &port)
{
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		fail("socket");
	const int on = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	sockaddr_in address{};
	address.sin_family = AF_INET;
	address.sin_port = htons(port);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, reinterpret_cast<sockaddr *>(&address), sizeof address) < 0)
		fail("bind");
	if (listen(fd, 512) < 0)
		fail("listen");
	socklen_t length = sizeof address;
	if (getsockname(fd, reinterpret_cast<sockaddr *>(&address), &length) < 0)
		fail("getsockname");
	port = ntohs(address.sin_port);
	std::printf("listening on 127.0.0.1:%d\n", port);
	std::fflush(stdout);
	return fd;
}

// Runs the client to its end, in a process of its own. Returns its exit status.
int run_client(unsigned short port, std::uint64_t n)
{
	std::string program =
		std::filesystem::read_symlink("/proc/self/exe").parent_path() / "ums-echo-client";
	std::string p = std::to_string(port), c = std::to_string(n);
	char *argv[] = {program.data(), const_cast<char *>("-p"),
			p.data(),	const_cast<char *>("-c"),
			c.data(),	nullptr};
	pid_t child;
	if (const int error = posix_spawn(&child, program.c_str(), nullptr, nullptr, argv, environ)) {
		std::fprintf(stderr, "ums-echo: %s: %s\n", program.c_str(), std::strerror(error));
		return 127;
	}
	int status = 0;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

template <class T>
bool number(const char *text, T &value)
{
	const auto end = text + std::strlen(text);
	const auto result = std::from_chars(text, end, value);
	return result.ptr == end && result.ec == std::errc() && end != text;
}

} // namespace

int main(int argc, char **argv)
try {
	unsigned short port = 7007;
	unsigned schedulers = 0;
	std::uint64_t limit = 0;
	bool usage = false, demo = false;
	const option names[] = {{"demo", no_argument, nullptr, 'd'}, {}};
	for (int c; (c = getopt_long(argc, argv, "p:n:j:", names, nullptr)) != -1;) {
		if (c == 'd')
			demo = true;
		else if (c == 'p')
			usage |= !number(optarg, port);
		else if (c == 'n')
			usage |= !number(optarg, limit);
		else if (c == 'j')
			usage |= !number(optarg, schedulers);
		else
			usage = true;
	}
	if (usage || optind != argc) {
		std::fputs("usage: ums-echo [--demo] [-p PORT] [-n CONNECTIONS] [-j SCHEDULERS]\n", stderr);
		return 2;
	}
	if (demo) {
		port = 0;
		if (!limit)
			limit = 200;
	}
	if (const auto p = ums::probe(); !p) {
		std::fprintf(stderr, "ums-echo: %s\n", ums::to_string(p.status));
		return 2;
	}

	// For all threads: one worker waits for these.
	sigset_t ends;
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &ends, nullptr);
	std::signal(SIGPIPE, SIG_IGN);

	ums::run_loop loop({.schedulers = schedulers});
	const int listener = listen_on(port);
	std::atomic<bool> stopped_by_signal{false};
	std::atomic<std::uint64_t> accepted{0};
	int client_status = 0;

	loop.spawn({.name = "accept"}, [&] {
		while (!limit || accepted < limit) {
			const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
			if (fd < 0) {
				if (errno == EINTR || errno == ECONNABORTED)
					continue;
				break; // shut down by the worker below
			}
			accepted++;
			const int on = 1;
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
			all.add(fd);
			loop.spawn({.name = "echo", .stack_size = 64 * 1024}, echo, fd);
		}
		// Ends the worker that waits for signals.
		if (!stopped_by_signal)
			kill(getpid(), SIGTERM);
	});
	loop.spawn({.name = "signals"}, [&] {
		int which;
		sigwait(&ends, &which);
		if (limit && accepted >= limit)
			return; // the connections end by themselves
		stopped_by_signal = true;
		shutdown(listener, SHUT_RDWR);
		all.shut_down();
	});
	if (demo)
		loop.spawn({.name = "client"}, [&] {
			client_status = run_client(port, limit);
			if (client_status)
				kill(getpid(), SIGTERM); // not all connections may have come
		});
	loop.run();
	close(listener);

	std::cout << accepted << " connections, a worker for each and some for the rest, " << bytes_echoed << " bytes echoed\n\n";
	ums::print(std::cout, loop.statistics());
	return client_status;
} catch (const std::exception &e) {
	std::fprintf(stderr, "ums-echo: %s\n", e.what());
	return 2;
}

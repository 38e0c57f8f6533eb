// SPDX-License-Identifier: MIT
//
// ums-echo-client [-p PORT] [-c CONNECTIONS] [-m MESSAGES] [-s BYTES]
//
// Opens CONNECTIONS (200) connections to 127.0.0.1:PORT (7007) at the same time, an ordinary thread for each,
// sends MESSAGES (10) messages of up to BYTES (4000) bytes on each and checks every byte that comes back.
// Waits up to 20 seconds for the server to listen. Exit status 1 if a byte is wrong or missing.
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <latch>
#include <random>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

struct settings {
	unsigned short port = 7007;
	unsigned connections = 200, messages = 10, bytes = 4000;
};

int open_connection(unsigned short port)
{
	sockaddr_in address{};
	address.sin_family = AF_INET;
	address.sin_port = htons(port);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

	const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
	for (;;) {
		const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return -1;
		if (connect(fd, reinterpret_cast<sockaddr *>(&address), sizeof address) == 0) {
			const int on = 1;
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
			return fd;
		}
		const int error = errno;
		close(fd);
		errno = error;
		if (error != ECONNREFUSED || std::chrono::steady_clock::now() > end)
			return -1;
		std::this_thread::sleep_for(std::chrono::milliseconds(50));
	}
}

bool send_all(int fd, const std::vector<unsigned char> &data)
{
	for (std::size_t done = 0; done < data.size();) {
		const auto n = send(fd, data.data() + done, data.size() - done, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
		done += static_cast<std::size_t>(n);
	}
	return true;
}

bool receive_all(int fd, std::vector<unsigned char> &data)
{
	for (std::size_t done = 0; done < data.size();) {
		const auto n = read(fd, data.data() + done, data.size() - done);
		if (n <= 0)
			return false;
		done += static_cast<std::size_t>(n);
	}
	return true;
}

// One connection. Returns the number of bytes that came back right; less than zero: an error.
std::int64_t talk(const settings &s, unsigned seed, std::latch &all_connected)
{
	const int fd = open_connection(s.port);
	const int error = errno;
	all_connected.arrive_and_wait(); // all are open at the same time
	if (fd < 0) {
		// Once: the others will have the same to say.
		static std::atomic_flag said;
		if (!said.test_and_set())
			std::fprintf(stderr, "ums-echo-client: connection %u: %s\n", seed, std::strerror(error));
		return -1;
	}

	std::mt19937 random(seed);
	std::int64_t checked = 0;
	bool good = true;
	for (unsigned m = 0; good && m < s.messages; m++) {
		std::vector<unsigned char> sent(1 + random() % s.bytes);
		for (auto &byte : sent)
			byte = static_cast<unsigned char>(random());
		std::vector<unsigned char> received(sent.size());
		good = send_all(fd, sent) && receive_all(fd, received) && sent == received;
		checked += static_cast<std::int64_t>(sent.size());
	}
	// Nothing may be left over: the server closes when it has seen our end.
	char more;
	if (good)
		good = shutdown(fd, SHUT_WR) == 0 && read(fd, &more, 1) == 0;
	close(fd);
	if (!good) {
		std::fprintf(stderr, "ums-echo-client: connection %u: wrong or missing bytes\n", seed);
		return -1;
	}
	return checked;
}

template <class T>
bool number(const char *text, T &value)
{
	const auto end = text + std::strlen(text);
	const auto result = std::from_chars(text, end, value);
	return result.ptr == end && result.ec == std::errc() && value > 0;
}

} // namespace

int main(int argc, char **argv)
{
	settings s;
	bool usage = false;
	for (int c; (c = getopt(argc, argv, "p:c:m:s:")) != -1;) {
		if (c == 'p')
			usage |= !number(optarg, s.port);
		else if (c == 'c')
			usage |= !number(optarg, s.connections);
		else if (c == 'm')
			usage |= !number(optarg, s.messages);
		else if (c == 's')
			usage |= !number(optarg, s.bytes);
		else
			usage = true;
	}
	if (usage || optind != argc) {
		std::fputs("usage: ums-echo-client [-p PORT] [-c CONNECTIONS] [-m MESSAGES] [-s BYTES]\n",
			   stderr);
		return 2;
	}

	std::latch all_connected(s.connections);
	std::atomic<std::int64_t> checked{0};
	std::atomic<unsigned> failed{0};
	{
		std::vector<std::jthread> threads;
		for (unsigned i = 0; i < s.connections; i++)
			threads.emplace_back([&, i] {
				if (const auto n = talk(s, i, all_connected); n < 0)
					failed++;
				else
					checked += n;
			});
	}
	std::printf("%u connections, %u failed, %jd bytes sent and back%s\n", s.connections, failed.load(),
		    static_cast<std::intmax_t>(checked), failed ? "" : ", every one checked");
	return failed ? 1 : 0;
}

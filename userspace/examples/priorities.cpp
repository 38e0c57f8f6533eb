// SPDX-License-Identifier: MIT
//
// A scheduler of one's own: whoever is urgent goes first. Workers that compute send requests to others, which answer
// them; these wait for requests in user mode, since the scheduler is the only one of its list.
#include <array>
#include <cstdio>
#include <optional>
#include <vector>

#include <ums/ums.hpp>

namespace {

enum priority : std::uint64_t { urgent, batch };

constexpr unsigned computing = 4, answering = 2, all = computing + answering;

// First in, first out. A scheduler does not call malloc(), whose lock may be that of a worker.
class queue
{
public:
	void push(ums::worker_id id) { ids_[last_++ % all] = id; }
	std::optional<ums::worker_id> pop()
	{
		return first_ == last_ ? std::nullopt : std::optional(ids_[first_++ % all]);
	}
	bool empty() const { return first_ == last_; }

private:
	std::array<ums::worker_id, all> ids_{};
	unsigned first_ = 0, last_ = 0;
};

} // namespace

int main()
{
	if (auto p = ums::probe(); !p) {
		std::puts(ums::to_string(p.status));
		return 1;
	}
	ums::completion_list list(all);
	ums::channel<long> requests; // when they were made, in turns of the workers that compute
	long turns = 0, longest = 0;
	unsigned answered = 0, still_compute = computing;

	ums::scheduler me({.user_switch = true, .list = &list});
	std::vector<ums::worker> workers;
	for (unsigned i = 0; i < computing; i++)
		workers.emplace_back(list, ums::worker::options{.user_data = batch, .user_switch = true}, [&, i] {
			for (unsigned n = 0; n < 1000; n++) {
				if (n % 10 == i)
					requests.send(turns);
				ums::this_worker::yield();
			}
			if (--still_compute == 0)
				requests.close();
		});
	for (unsigned i = 0; i < answering; i++)
		workers.emplace_back(list, ums::worker::options{.user_data = urgent, .user_switch = true}, [&] {
			while (const auto made = requests.receive()) {
				if (turns - *made > longest)
					longest = turns - *made;
				answered++;
			}
		});

	unsigned waits = 0;
	std::array<queue, 2> ready; // by priority
	for (unsigned i = 0; i < all; i++) {
		const auto id = list.pop();
		ready[list.user_data(id)].push(id);
	}
	for (unsigned left = all; left > 0;) {
		// Those that have waited; the scheduler sleeps when there is nobody to run.
		while (auto id = ready[urgent].empty() && ready[batch].empty() ? list.pop() : list.try_pop())
			ready[list.user_data(*id)].push(*id);
		auto id = ready[urgent].pop();
		if (!id) {
			id = ready[batch].pop();
			turns++;
		}
		const auto event = me.run(*id);
		if (event.reason == ums::reason::yielded)
			ready[list.user_data(*id)].push(*id);
		else if (event.reason == ums::reason::blocked)
			waits++;
		else if (event.is_last())
			left--;
	}
	std::printf("%u requests answered, each at most %ld turns later; %u waits\n", answered, longest, waits);
	return answered == computing * 100 ? 0 : 1;
}

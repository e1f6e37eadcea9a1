#include "drrik/base/communicator.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "drrik/base/error.h"

namespace drrik {
namespace {

class LocalCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void sum(std::span<float>) override {}
  void sum(std::span<double>) override {}
  void sum(std::span<std::int64_t>) override {}
  void minimum(std::span<float>) override {}
  void maximum(std::span<std::int64_t>) override {}
  void all_gather(std::span<const float> mine, std::span<const std::int64_t>,
                  std::span<float> all) override {
    std::ranges::copy(mine, all.begin());
  }
  void all_gather(std::span<const double> mine, std::span<const std::int64_t>,
                  std::span<double> all) override {
    std::ranges::copy(mine, all.begin());
  }
  void all_gather(std::span<const std::int64_t> mine, std::span<const std::int64_t>,
                  std::span<std::int64_t> all) override {
    std::ranges::copy(mine, all.begin());
  }
  void broadcast(std::span<std::byte>, int) override {}
  void send(std::span<const std::byte>, int to) override { refuse(to); }
  void receive(std::span<std::byte>, int from) override { refuse(from); }
  void barrier() override {}

 private:
  [[noreturn]] static void refuse(int rank) { throw_usage("there is no rank ", rank, " of 1"); }
};

}  // namespace

Communicator& local_communicator() {
  static LocalCommunicator local;
  return local;
}

void together(Communicator& ranks, const std::function<void()>& work) {
  if (ranks.size() == 1) return work();
  std::optional<Error> mine;
  try {
    work();
  } catch (const Error& error) {
    mine = error;
  }
  std::int64_t failed = mine ? ranks.size() - ranks.rank() : 0;
  ranks.maximum(std::span(&failed, 1));
  if (failed == 0) return;
  const int lowest = ranks.size() - static_cast<int>(failed);
  std::string message = mine ? mine->what() : "";
  std::array<std::int64_t, 2> head = {mine ? static_cast<std::int64_t>(mine->kind()) : 0,
                                      static_cast<std::int64_t>(message.size())};
  ranks.broadcast(std::as_writable_bytes(std::span(head)), lowest);
  message.resize(static_cast<std::size_t>(head[1]));
  ranks.broadcast(std::as_writable_bytes(std::span(message)), lowest);
  Error error(static_cast<ErrorKind>(head[0]), std::move(message));
  if (lowest > 0 && error.kind() != ErrorKind::kInterrupted) {
    error.add_context(str("rank ", lowest));
  }
  throw error;
}

}  // namespace drrik

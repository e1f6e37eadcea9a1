#pragma once
// Several processes ("ranks") that work together: what they tell each other.
//
// Every call is collective: all ranks make the same calls in the same order, with spans of the same
// length; only send() and receive() are between two. Each rank gets the same bits back, so
// decisions taken on the results agree.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace drrik {

/// Not thread-safe. Throws Error(io) where the other ranks cannot be reached.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;  ///< From 0.
  virtual int size() const = 0;  ///< >= 1

  /// Element by element over the ranks, in place.
  virtual void sum(std::span<float> values) = 0;
  virtual void sum(std::span<double> values) = 0;
  virtual void sum(std::span<std::int64_t> values) = 0;
  virtual void minimum(std::span<float> values) = 0;
  virtual void maximum(std::span<std::int64_t> values) = 0;

  /// Rank r gives counts[r] values; `all` [Σ counts] receives them in the order of the ranks.
  virtual void all_gather(std::span<const float> mine, std::span<const std::int64_t> counts,
                          std::span<float> all) = 0;
  virtual void all_gather(std::span<const double> mine, std::span<const std::int64_t> counts,
                          std::span<double> all) = 0;
  virtual void all_gather(std::span<const std::int64_t> mine, std::span<const std::int64_t> counts,
                          std::span<std::int64_t> all) = 0;
  /// What rank `root` holds.
  virtual void broadcast(std::span<std::byte> bytes, int root) = 0;
  /// From one rank to another, which calls receive() for as many bytes. send() may wait for it.
  virtual void send(std::span<const std::byte> bytes, int to) = 0;
  virtual void receive(std::span<std::byte> bytes, int from) = 0;
  /// Returns when all ranks have come here.
  virtual void barrier() = 0;

  /// Bytes this rank has sent so far where every sum is a reduce-scatter and an all-gather on a
  /// ring: 2 (n − 1) / n of a sum's bytes (docs/scale.md).
  virtual double bytes_sent() const { return 0.0; }
};

/// One process on its own: nothing is sent. Lives as long as the program.
Communicator& local_communicator();

/// For work that may fail, or be interrupted, on some ranks: does it, and where it threw an Error
/// on any of them, throws that of the lowest on all, naming it ("rank 1: …"). Collective; the work
/// may be so itself as long as no rank throws while others wait for it. Other exceptions leave the
/// rank that threw: the program must end the others.
void together(Communicator& ranks, const std::function<void()>& work);

}  // namespace drrik

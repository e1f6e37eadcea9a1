#pragma once
// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011).
//
// A generator is a value {seed, stream, position}: the same triple gives the same numbers on every
// machine and library, and position() can be stored in a checkpoint and restored. Distributions
// are our own because those of the standard library differ between implementations.

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace drrik {

class Rng {
 public:
  explicit Rng(std::uint64_t seed, std::uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  std::uint32_t next_u32();
  std::uint64_t next_u64();
  /// Uniform in [0, 1) with 24 random bits.
  float uniform();
  /// Uniform in [0, 1) with 53 random bits.
  double uniform_double();
  /// Uniform in [0, n), without modulo bias. n must be > 0.
  std::uint64_t below(std::uint64_t n);
  /// Standard normal (Box-Muller).
  float normal();

  /// Fisher-Yates.
  template <typename T>
  void shuffle(std::span<T> values) {
    for (std::size_t i = values.size(); i > 1; --i) {
      std::swap(values[i - 1], values[static_cast<std::size_t>(below(i))]);
    }
  }
  /// 0..n-1 in random order.
  std::vector<std::int64_t> permutation(std::int64_t n);

  /// Number of 32-bit words drawn so far; seek() continues from there.
  std::uint64_t position() const { return position_; }
  void seek(std::uint64_t position) { position_ = position; }

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
  std::uint64_t position_ = 0;
  std::uint64_t cached_block_ = ~std::uint64_t{0};
  std::uint32_t block_[4] = {};
};

}  // namespace drrik

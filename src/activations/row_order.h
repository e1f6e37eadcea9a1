#pragma once
// A pseudo-random order of n rows that needs no table: a Feistel network over the smallest power
// of four >= n, walked until it lands inside [0, n) (Black & Rogaway, "Ciphers with arbitrary
// finite domains", 2002). Eight bytes an index would be 8 GB for 10^9 rows.

#include <cstdint>

namespace drrik {

class RowOrder {
 public:
  /// The order is a function of the arguments alone.
  RowOrder(std::int64_t n, std::uint64_t seed, std::uint64_t epoch)
      : n_(static_cast<std::uint64_t>(n)), key_(mix(seed) ^ mix(~epoch)) {
    while (half_bits_ < 31 && (std::uint64_t{1} << (2 * half_bits_)) < n_) ++half_bits_;
  }

  /// Position i in [0, n) of the order; a bijection.
  std::int64_t operator()(std::int64_t i) const {
    auto value = static_cast<std::uint64_t>(i);
    do {
      value = permute(value);
    } while (value >= n_);
    return static_cast<std::int64_t>(value);
  }

 private:
  static std::uint64_t mix(std::uint64_t x) {  // SplitMix64's finaliser
    x += 0x9E3779B97F4A7C15U;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
    return x ^ (x >> 31);
  }
  std::uint64_t permute(std::uint64_t value) const {
    const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
    std::uint64_t left = value >> half_bits_;
    std::uint64_t right = value & mask;
    for (std::uint64_t round = 0; round < 6; ++round) {
      const std::uint64_t next = left ^ (mix(right ^ mix(key_ + round)) & mask);
      left = right;
      right = next;
    }
    return (left << half_bits_) | right;
  }

  std::uint64_t n_;
  std::uint64_t key_;
  int half_bits_ = 1;
};

}  // namespace drrik

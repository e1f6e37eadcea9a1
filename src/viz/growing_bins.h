#pragma once
// Bins of equal width from 0 whose width, a power of two, doubles when a value lies beyond the
// last: pairs of bins are joined, which gives what the final width would have given from the start.

#include <cmath>
#include <cstdint>
#include <limits>

namespace drrik::detail {

/// Smallest e with value < bins * 2^e; value > 0 and finite.
inline int fitting_exponent(float value, std::int64_t bins) {
  int e = std::ilogb(value) - std::ilogb(static_cast<double>(bins));
  while (std::ldexp(static_cast<double>(bins), e) <= static_cast<double>(value)) ++e;
  while (std::ldexp(static_cast<double>(bins), e - 1) > static_cast<double>(value)) --e;
  return e;
}

inline void add_saturating(std::uint32_t& count, std::uint32_t more) {
  if (__builtin_add_overflow(count, more, &count))
    count = std::numeric_limits<std::uint32_t>::max();
}

/// counts[2i] + counts[2i + 1] -> counts[i]; the upper half is 0 afterwards.
inline void join_pairs(std::uint32_t* counts, std::int64_t bins) {
  for (std::int64_t i = 0; i < bins / 2; ++i) {
    std::uint32_t joined = counts[2 * i];
    add_saturating(joined, counts[2 * i + 1]);
    counts[i] = joined;
  }
  for (std::int64_t i = bins / 2; i < bins; ++i) counts[i] = 0;
}

}  // namespace drrik::detail

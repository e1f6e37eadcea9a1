#pragma once
// One unit of attention's work: consecutive query rows of one sequence and head.

#include <algorithm>
#include <cstdint>

namespace drrik::detail {

constexpr std::int64_t kQueryBlock = 64;
constexpr std::int64_t kKeyBlock = 96;

/// Head dimensions in scratch memory are multiples of the widest vector.
constexpr std::int64_t padded_dim(std::int64_t dim) { return (dim + 15) / 16 * 16; }

struct AttentionTask {
  std::int64_t rows = 0;      ///< Query rows.
  std::int64_t keys = 0;      ///< Keys of the sequence.
  std::int64_t position = 0;  ///< Key index at which the first query row stands.
  std::int64_t dim = 0;
  std::int64_t value_dim = 0;
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  float* out = nullptr;
  std::int64_t q_stride = 0;
  std::int64_t k_stride = 0;
  std::int64_t v_stride = 0;
  std::int64_t out_stride = 0;
  float scale = 1.0F;
  float soft_cap = 0.0F;
  float slope = 0.0F;
  const float* key_bias = nullptr;  ///< [keys], or null.
  bool causal = true;
  std::int64_t window = 0;

  bool adjusts() const { return soft_cap > 0.0F || slope != 0.0F || key_bias != nullptr; }
  /// The keys that a query at position p sees: [first_key, end_key).
  std::int64_t first_key(std::int64_t p) const {
    return window > 0 ? std::clamp<std::int64_t>(p - window + 1, 0, keys) : 0;
  }
  std::int64_t end_key(std::int64_t p) const {
    if (causal) return std::clamp<std::int64_t>(p + 1, 0, keys);
    return window > 0 ? std::clamp<std::int64_t>(p + window, 0, keys) : keys;
  }
};

}  // namespace drrik::detail

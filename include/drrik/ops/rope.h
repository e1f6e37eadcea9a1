#pragma once
// Rotary position embedding (Su et al., arXiv:2104.09864).

#include <cstdint>
#include <span>
#include <vector>

#include "drrik/ops/heads.h"

namespace drrik {

/// cos and sin of position · inv_freq[i], the angle formed in float32 as transformers forms it.
/// Const use is thread-safe; reserve() is not.
class RopeTable {
 public:
  RopeTable() = default;
  /// inv_freq [rotary_dim / 2]; cos and sin are multiplied by `scaling` (YaRN's attention factor).
  /// The table covers positions [first, positions).
  explicit RopeTable(std::span<const float> inv_freq, std::int64_t positions = 0,
                     float scaling = 1.0F, std::int64_t first = 0);
  /// Makes positions [first(), positions) available, growing geometrically.
  void reserve(std::int64_t positions);

  std::int64_t first() const { return first_; }
  std::int64_t positions() const { return positions_; }
  /// inv_freq.size(): pairs rotated in each head.
  std::int64_t pairs() const { return static_cast<std::int64_t>(inv_freq_.size()); }
  const float* cos(std::int64_t position) const {
    return cos_.data() + (position - first_) * pairs();
  }
  const float* sin(std::int64_t position) const {
    return sin_.data() + (position - first_) * pairs();
  }

 private:
  std::vector<float> inv_freq_;
  std::vector<float> cos_;
  std::vector<float> sin_;
  std::int64_t first_ = 0;
  std::int64_t positions_ = 0;
  float scaling_ = 1.0F;
};

enum class RopeStyle : std::uint8_t {
  kHalfSplit,   ///< Element i pairs with i + pairs (Llama, GPT-NeoX: rotate_half).
  kInterleaved  ///< Element 2i pairs with 2i + 1 (GPT-J, Cohere).
};

/// Rotates the first 2 · table.pairs() elements of every head of x in place; row r stands at
/// positions[r]. Throws Error(data) when a head is narrower than that, when positions.size() !=
/// x.rows, or when a position is not in the table. Thread-safe for disjoint x.
void apply_rope(Heads<float> x, const RopeTable& table, std::span<const std::int32_t> positions,
                RopeStyle style = RopeStyle::kHalfSplit);
/// q and k of one layer in one parallel pass.
void apply_rope(Heads<float> q, Heads<float> k, const RopeTable& table,
                std::span<const std::int32_t> positions, RopeStyle style = RopeStyle::kHalfSplit);

}  // namespace drrik
